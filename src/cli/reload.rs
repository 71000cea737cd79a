//! `vipd reload`

use std::process::ExitCode;

use clap::Args;

use super::control::{Daemon, talk};
use super::output;
use crate::observe::client;

/// Make the daemon read its configuration again
///
/// Says what changes: which instances start, stop or change in place, and how many notice nothing.
///
/// All or nothing: a configuration with an error changes nothing, and its problems are shown. Addresses and sessions
/// that both configurations have are not touched.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd reload --dry-run          what would change, in words; nothing does
  vipd check /etc/vipd/vipd.toml && vipd reload
  systemctl reload vipd          the same, through SIGHUP

Exit codes: 0 reloaded, 1 refused or no daemon answers, 2 wrong options")]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Only say what would change, or why it would be refused
    #[arg(long)]
    dry_run: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let socket = &arguments.daemon.socket();
    talk(async {
        let said =
            if arguments.dry_run { client::plan(socket).await? } else { client::reload(socket).await? };
        Ok(output::print(&(said + "\n")))
    })
}
