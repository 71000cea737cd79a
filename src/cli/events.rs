//! `vipd events`

use std::process::ExitCode;

use clap::Args;

use super::control::{Daemon, talk};
use super::output;
use crate::observe::client::{self, ClientError};
use crate::observe::history::Recorded;
use crate::observe::sentence::sentence;
use crate::observe::words::utc;

/// Show what happened
///
/// The last events that the daemon has kept (1000 at most), one on a line: state changes with their reasons,
/// priority changes, checks, backends, addresses that were put back or removed. Times are UTC.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd events
  vipd events --follow
  vipd events --follow --json | jq -c 'select(.event == \"transition\")'

Exit codes: 0 shown, 1 the daemon does not answer, 2 wrong options")]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Then wait for new ones, until interrupted or the daemon stops
    #[arg(long, short)]
    follow: bool,
    /// Only those after event number N
    #[arg(long, value_name = "N", default_value_t = 0)]
    since: u64,
    /// One JSON object on each line
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    talk(show(arguments))
}

async fn show(arguments: &Arguments) -> Result<ExitCode, ClientError> {
    let socket = &arguments.daemon.socket();
    if !arguments.follow {
        let events = client::get_events(socket, arguments.since).await?;
        let lines: String = events.iter().map(|event| line(event, arguments.json)).collect();
        return Ok(output::print(&lines));
    }
    let mut events = client::follow_events(socket, arguments.since).await?;
    while let Some(event) = events.next().await? {
        if !output::try_print(&line(&event, arguments.json)) {
            break;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn line(recorded: &Recorded, json: bool) -> String {
    if json {
        // An event came as JSON: it is JSON again.
        return serde_json::to_string(recorded).unwrap_or_default() + "\n";
    }
    let at = utc(recorded.event.at);
    format!("{at} {:>4} {}\n", recorded.number, sentence(&recorded.event.kind))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::observe::event::{Event, Kind, Reason, State};

    #[test]
    fn an_event_is_one_line_with_time_and_number() {
        let peer = Some(Ipv4Addr::new(10, 0, 0, 2).into());
        let kind = Kind::Transition {
            instance: "VI_1".to_owned(),
            from: State::Backup,
            to: State::Active,
            reason: Reason::ActiveDown { peer, silence: Duration::from_millis(3609) },
            priority: 100,
        };
        let recorded = Recorded { number: 7, event: Event { at: SystemTime::UNIX_EPOCH, kind } };
        assert_eq!(
            line(&recorded, false),
            "1970-01-01T00:00:00.000Z    7 VI_1: backup -> active (priority 100): no advert from 10.0.0.2 for 3.609 s\n"
        );
        assert!(line(&recorded, true).starts_with("{\"number\":7,"));
    }
}
