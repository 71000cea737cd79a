//! `vipd status`

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use clap::Args;
use tokio::time::{MissedTickBehavior, interval};

use super::control::{Daemon, talk};
use super::output;
use crate::observe::client::{self, ClientError};
use crate::observe::render::{Style, render};

/// From picture to picture with --watch.
const EVERY: Duration = Duration::from_secs(1);
/// Cursor to the upper left corner, the rest of the screen cleared.
const CLEAR: &str = "\x1b[H\x1b[J";

/// Show who is active, and why
///
/// For each instance: its state and one sentence that says why, with numbers; its addresses, and whether they are
/// really there. Then the checks, and the backends of each listener.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd status
  vipd status --watch
  vipd status --json | jq -r '.instances[] | \"\\(.name) \\(.state)\"'

In the JSON, durations are objects of seconds (`secs`) and nanoseconds (`nanos`).

Exit codes: 0 the daemon answered, 1 it did not, 2 wrong options")]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Everything as one JSON object; with --watch, one on each line
    #[arg(long)]
    json: bool,
    /// Again every second, until interrupted or the daemon is gone
    #[arg(long)]
    watch: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    talk(show(arguments))
}

async fn show(arguments: &Arguments) -> Result<ExitCode, ClientError> {
    let socket = &arguments.daemon.socket();
    if !arguments.watch {
        return Ok(output::print(&picture(socket, arguments).await?));
    }
    let before = if output::is_terminal() && !arguments.json { CLEAR } else { "" };
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let picture = format!("{before}{}", picture(socket, arguments).await?);
        if !output::try_print(&picture) {
            return Ok(ExitCode::SUCCESS);
        }
    }
}

async fn picture(socket: &Path, arguments: &Arguments) -> Result<String, ClientError> {
    let status = client::get_status(socket).await?;
    if !arguments.json {
        let style = Style { colour: output::is_colourful(), width: output::width() };
        return Ok(render(&status, SystemTime::now(), style));
    }
    let json =
        if arguments.watch { serde_json::to_string(&status) } else { serde_json::to_string_pretty(&status) };
    let odd = |error: serde_json::Error| ClientError::Answer {
        socket: socket.to_owned(),
        detail: error.to_string(),
    };
    Ok(json.map_err(odd)? + "\n")
}
