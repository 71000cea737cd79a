//! `vipd reload`

use std::process::ExitCode;

use clap::Args;

use super::control::{Daemon, talk};
use super::output;
use crate::observe::client;

/// Make the daemon read its configuration again
///
/// All or nothing: a configuration with an error changes nothing, and its problems are shown. Addresses and sessions
/// that both configurations have are not touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd check /etc/vipd/vipd.toml && vipd reload
  systemctl reload vipd          the same, through SIGHUP

Exit codes: 0 reloaded, 1 refused or no daemon answers, 2 wrong options")]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    talk(async { Ok(output::print(&(client::reload(&arguments.daemon.socket).await? + "\n"))) })
}
