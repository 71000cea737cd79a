//! `vipd convert FILE…`

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::output;

/// Convert keepalived.conf, haproxy.cfg or nginx.conf to TOML
///
/// Writes the same configuration in the native format. What has no meaning for vipd is left out; comments at the top
/// say what that was. Loaded again, the result is the same configuration.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd convert /etc/keepalived/keepalived.conf
  vipd convert /etc/keepalived/keepalived.conf /etc/haproxy/haproxy.cfg
  vipd convert /etc/keepalived/keepalived.conf -o /etc/vipd/vipd.toml && vipd check /etc/vipd/vipd.toml

The result holds the passwords of the configuration: a file that is made with -o can be read by its owner only.

Exit codes: 0 converted, 1 the configuration has errors or the result cannot be written, 2 wrong options")]
pub struct Arguments {
    /// Configurations to convert, merged in this order into one
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write to this file, which must not exist yet [default: standard output]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Keeps `@ID` lines of keepalived.conf [default: the host name up to its first dot]
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let options =
        config::LoadOptions { config_id: arguments.config_id.clone(), ..config::LoadOptions::default() };
    let files: Vec<_> = arguments.files.iter().map(PathBuf::as_path).collect();
    let loaded = config::load(&files, &options);
    let Some(config) = loaded.config else {
        eprint!("{}", loaded.diagnostics.render_human(output::is_colourful_stderr()));
        let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
        eprintln!("vipd: not converted: {} has errors", names.join(", "));
        return ExitCode::FAILURE;
    };
    let text = config::to_toml(&config, &loaded.diagnostics);
    let Some(path) = &arguments.output else { return output::print(&text) };
    match write_new(path, &text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vipd: cannot write {}: {error}", path.display());
            ExitCode::FAILURE
        }
    }
}

/// A configuration that is there is never overwritten.
fn write_new(path: &Path, text: &str) -> io::Result<()> {
    File::options().write(true).create_new(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
