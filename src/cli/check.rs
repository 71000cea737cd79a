//! `vipd check FILE…`

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use config::diagnostic::{Diagnostics, Severity};

use super::output;

/// Check configuration files
///
/// Reads the files as `vipd run` would, merged in this order, and lists every problem in them at once, with its
/// file, line and column, what was expected, and what to do. A file that ends in .toml is TOML; any other is read as
/// keepalived.conf. Nothing is started or changed.
///
/// With the files of the other routers as peers it also says what keeps them from working together: what makes two
/// of them active at once, and weights that move no address.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd check /etc/vipd/vipd.toml
  vipd check /etc/keepalived/keepalived.conf
  vipd check --json vipd.toml | jq .errors
  vipd check --elsewhere lb2.conf     written for another host
  vipd check /etc/keepalived/keepalived.conf --peer lb2.conf --peer lb3.conf
  vipd check both.conf --config-id lb1 --peer lb2=both.conf

docs/check.md lists every finding.

Exit codes: 0 no errors (there may be warnings and notices), 1 errors, 2 wrong options")]
pub struct Arguments {
    /// Configuration files, merged in this order
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// For people, or one JSON object for programs
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
    /// The same as `--format json`
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// The files are for another host: do not look for their interfaces and scripts on this one
    #[arg(long)]
    elsewhere: bool,
    /// The configuration of another router of the same addresses, compared with FILE; may be repeated. With an ID
    /// its `@ID` lines are those of that router. Of its own problems only errors are shown
    #[arg(long = "peer", value_name = "[ID=]FILE")]
    peers: Vec<String>,
    /// Keeps `@ID` lines of keepalived.conf [default: the host name up to its first dot]
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// With the source lines
    Human,
    /// Counts and a list of findings
    Json,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let files: Vec<_> = arguments.files.iter().map(PathBuf::as_path).collect();
    let options = config::LoadOptions {
        config_id: arguments.config_id.clone(),
        check_host: !arguments.elsewhere,
        judge_scripts: !arguments.elsewhere,
        ..config::LoadOptions::default()
    };
    let peers: Vec<_> = arguments.peers.iter().map(|written| peer(written)).collect();
    let diagnostics = config::check(&files, &peers, &options);
    let format = if arguments.json { Format::Json } else { arguments.format };
    let text = match format {
        Format::Human => {
            diagnostics.render_human(output::is_colourful()) + &summary(&files, &diagnostics) + "\n"
        }
        Format::Json => format!("{:#}\n", diagnostics.to_json()),
    };
    let printed = output::print(&text);
    if diagnostics.has_errors() { ExitCode::FAILURE } else { printed }
}

/// `FILE` or `ID=FILE`; a file that is there is a file, whatever its name.
fn peer(written: &str) -> config::Peer<'_> {
    match written.split_once('=') {
        Some((id, file)) if !id.contains('/') && !Path::new(written).exists() => {
            config::Peer { path: Path::new(file), config_id: Some(id) }
        }
        _ => config::Peer { path: Path::new(written), config_id: None },
    }
}

/// `vipd.toml: 1 error, 2 warnings`
fn summary(files: &[&Path], diagnostics: &Diagnostics) -> String {
    let names: Vec<_> = files.iter().map(|file| file.display().to_string()).collect();
    let counts: Vec<_> =
        [(Severity::Error, "error"), (Severity::Warning, "warning"), (Severity::Notice, "notice")]
            .into_iter()
            .filter_map(|(severity, word)| match diagnostics.count(severity) {
                0 => None,
                1 => Some(format!("1 {word}")),
                count => Some(format!("{count} {word}s")),
            })
            .collect();
    let verdict = if counts.is_empty() { "no problems".to_owned() } else { counts.join(", ") };
    format!("{}: {verdict}", names.join(", "))
}
