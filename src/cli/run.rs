//! `vipd run`

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use nix::sys::stat::fstat;

use super::output;
use crate::daemon::{self, Front, pid};
use crate::guard::{Life, ToGuard};
use crate::observe::log;

/// Run the daemon in the foreground
///
/// Takes part in the election, holds the addresses while it is active, and carries the connections of the listeners.
/// SIGTERM and SIGINT stop it: it gives the addresses up, so that a peer takes over at once. SIGHUP reads the
/// configuration again. A configuration with an error does not start; everything wrong with it is said at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd run -c /etc/vipd/vipd.toml
  vipd run -c /etc/keepalived/keepalived.conf
  vipd run -c vrrp.conf -c forwarder.toml --log-format json

It needs CAP_NET_ADMIN and CAP_NET_RAW, and CAP_NET_BIND_SERVICE for listeners on ports below 1024.
The environment variable VIPD_LOG goes before --log.

Exit codes: 0 stopped by a signal or a request, 1 cannot start (the reason is on standard error), 2 wrong options,
4 missing permission, 70 internal error")]
pub struct Arguments {
    /// Configuration file; may be given several times, merged in this order. NAME.toml is TOML, NAME.cfg haproxy.cfg, a
    /// file with a block `stream`, `http` or `events` nginx.conf, any other one keepalived.conf; a folder stands for its
    /// *.cfg
    #[arg(short, long = "config", required = true, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Control socket, instead of the configured one [default: /run/vipd/control.sock]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Write the process number to this file, removed at the end
    #[arg(long, value_name = "PATH")]
    pid_file: Option<PathBuf>,
    /// Keeps `@ID` lines of keepalived.conf [default: the host name up to its first dot]
    #[arg(long, value_name = "ID")]
    config_id: Option<String>,
    /// Run as one process, without a parent that takes the addresses off and starts anew when the daemon dies
    #[arg(long)]
    no_guard: bool,
    /// What to log: error, warn, info, debug, trace, or directives as `info,vipd::forward=debug` [default: info]
    #[arg(long = "log", value_name = "FILTER")]
    filter: Option<String>,
    /// Lines for people, or one JSON object a line
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    Text,
    /// For programs
    Json,
}

pub fn run(arguments: Arguments) -> ExitCode {
    daemon::run(daemon::Options {
        files: arguments.config,
        log: log::Options {
            format: match arguments.log_format {
                LogFormat::Text => log::Format::Text,
                LogFormat::Json => log::Format::Json,
            },
            filter: arguments.filter,
            colour: output::is_colourful_stderr(),
            // The journal has a clock of its own.
            without_time: is_journal(),
            keepalived: None,
        },
        control_socket: arguments.socket,
        pid_files: pid::Wanted { parent: arguments.pid_file, ..pid::Wanted::default() },
        umask: None,
        namespace: None,
        leave_everything: false,
        without_bfd: false,
        without_vrrp: false,
        without_checkers: false,
        dump: false,
        config_id: arguments.config_id,
        front: Front::Vipd,
        is_guarded: !arguments.no_guard,
        guard: ToGuard::none(),
        life: Life::default(),
    })
}

/// Standard error leads to the journal: the service manager says which file that is.
fn is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    fstat(std::io::stderr()).is_ok_and(|file| format!("{}:{}", file.st_dev, file.st_ino) == stream)
}
