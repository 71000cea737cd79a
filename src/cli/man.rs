//! `vipd man`

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use clap_mangen::Man;

/// Write the manual pages
///
/// Without --out the page of vipd itself is printed, in roff. With it, vipd.1 and one page for each subcommand
/// are written to a directory.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd man | man -l -
  vipd man --out /usr/share/man/man1

Exit codes: 0 written, 1 cannot write")]
pub struct Arguments {
    /// Directory for vipd.1, vipd-run.1, …; made when it is missing
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    match &arguments.out {
        None => match page(super::definition()) {
            Ok(page) => super::output::print(&String::from_utf8_lossy(&page)),
            Err(error) => failed(Path::new("standard output"), &error),
        },
        Some(directory) => match write_all(directory) {
            Ok(()) => ExitCode::SUCCESS,
            Err((path, error)) => failed(&path, &error),
        },
    }
}

fn failed(path: &Path, error: &io::Error) -> ExitCode {
    eprintln!("vipd: cannot write {}: {error}", path.display());
    ExitCode::FAILURE
}

fn write_all(directory: &Path) -> Result<(), (PathBuf, io::Error)> {
    fs::create_dir_all(directory).map_err(|error| (directory.to_owned(), error))?;
    // Built, every subcommand knows its whole name: `vipd-run`.
    let mut all = super::definition();
    all.build();
    let subcommands = all.get_subcommands().filter(|command| !command.is_hide_set());
    for command in std::iter::once(&all).chain(subcommands) {
        let name = command.get_display_name().unwrap_or(command.get_name());
        let path = directory.join(format!("{name}.1"));
        page(command.clone()).and_then(|page| fs::write(&path, page)).map_err(|error| (path, error))?;
    }
    Ok(())
}

fn page(mut command: clap::Command) -> io::Result<Vec<u8>> {
    let examples = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    command = command.after_help(None::<&str>);
    let mut page = Vec::new();
    Man::new(command)
        .manual("vipd manual")
        .source(concat!("vipd ", env!("CARGO_PKG_VERSION")))
        .render(&mut page)?;
    page.extend(unfilled("NOTES", &examples).into_bytes());
    Ok(page)
}

/// A section whose lines stay as they are.
fn unfilled(title: &str, text: &str) -> String {
    let mut section = format!(".SH {title}\n.nf\n");
    for line in text.lines() {
        // `\&` keeps a dot or quote at the beginning from being a request.
        section.push_str(&format!("\\&{}\n", line.replace('\\', "\\e").replace('-', "\\-")));
    }
    section + ".fi\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_example_are_not_taken_for_requests() {
        assert_eq!(unfilled("NOTES", ".x -y\n  a\\b"), ".SH NOTES\n.nf\n\\&.x \\-y\n\\&  a\\eb\n.fi\n");
    }
}
