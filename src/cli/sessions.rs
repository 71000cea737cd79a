//! `vipd sessions`

use std::process::ExitCode;

use clap::Args;

use super::control::{Daemon, talk};
use super::output;
use crate::observe::client::{self, ClientError};
use crate::observe::status::{SessionFilter, SessionStatus};
use crate::observe::words::{long, size};

/// Show, or close, the open sessions of the forwarder
///
/// One line for each: client, listener, backend, how old it is, for how long no byte has moved, and what it carried.
/// The longest idle ones come first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd sessions
  vipd sessions --listener api --backend cp1
  vipd sessions --client 192.0.2.7 --close      they are reset; the client may come back at once
  vipd sessions --json | jq '[.[].bytes_out] | add'

Exit codes: 0 done, 1 refused or no daemon answers, 2 wrong options")]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Only those of this listener
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Only those with this backend
    #[arg(long, value_name = "NAME")]
    backend: Option<String>,
    /// Only those from this address, or address and port
    #[arg(long, value_name = "ADDRESS[:PORT]")]
    client: Option<String>,
    /// Reset them instead of showing them
    #[arg(long, conflicts_with = "json")]
    close: bool,
    /// With --close and no condition: really all of them
    #[arg(long, requires = "close")]
    all: bool,
    /// One JSON array of objects
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let filter = SessionFilter {
        listener: arguments.listener.clone(),
        backend: arguments.backend.clone(),
        client: arguments.client.clone(),
    };
    if arguments.close && filter.is_all() && !arguments.all {
        eprintln!(
            "vipd: --close needs --listener, --backend or --client; to close every session of this host, say --all"
        );
        return ExitCode::from(2);
    }
    talk(async {
        let socket = &arguments.daemon.socket();
        if arguments.close {
            let said = client::close_sessions(socket, &filter).await?;
            return Ok(output::print(&(said + "\n")));
        }
        let sessions = client::get_sessions(socket, &filter).await?;
        if arguments.json {
            let odd = |error: serde_json::Error| ClientError::Answer {
                socket: socket.clone(),
                detail: error.to_string(),
            };
            return Ok(output::print(&(serde_json::to_string_pretty(&sessions).map_err(odd)? + "\n")));
        }
        Ok(output::print(&table(&sessions)))
    })
}

fn table(sessions: &[SessionStatus]) -> String {
    if sessions.is_empty() {
        return "no session is open\n".to_owned();
    }
    let mut rows = vec![["CLIENT", "LISTENER", "BACKEND", "AGE", "IDLE", "IN", "OUT"].map(str::to_owned)];
    rows.extend(sessions.iter().map(|session| {
        [
            session.client.map_or_else(|| "-".to_owned(), |client| client.to_string()),
            session.listener.clone(),
            session.backend.clone().unwrap_or_else(|| "(connecting)".to_owned()),
            long(session.age),
            long(session.idle),
            size(session.bytes_in),
            size(session.bytes_out),
        ]
    }));
    let widths: [usize; 7] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0));
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join("  ").trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn sessions_are_one_line_each() {
        let open = SessionStatus {
            listener: "api".into(),
            backend: Some("cp1".into()),
            client: Some("192.0.2.7:40000".parse().unwrap()),
            local: None,
            age: Duration::from_secs(7300),
            idle: Duration::from_millis(300),
            bytes_in: 2048,
            bytes_out: 5,
        };
        let connecting = SessionStatus { backend: None, client: None, ..open.clone() };
        let wanted = "\
CLIENT           LISTENER  BACKEND       AGE        IDLE  IN       OUT
192.0.2.7:40000  api       cp1           2 h 1 min  0 s   2.0 KiB  5 B
-                api       (connecting)  2 h 1 min  0 s   2.0 KiB  5 B
";
        assert_eq!(table(&[open, connecting]), wanted);
        assert_eq!(table(&[]), "no session is open\n");
    }
}
