//! `vipd backend`

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::control::{Daemon, talk};
use super::output;
use crate::forward::orders::Order;
use crate::observe::client;
use crate::observe::status::{Admin, BackendStatus, ListenerStatus};

/// Show the backends, drain one, take it into maintenance, change its weight
///
/// Without a name: every backend with its state, its weight, and how many sessions it has.
///
/// What is changed stays until it is changed again, over reloads too, as long as the name of the backend is in the
/// configuration. A restart forgets it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd backend                       all of them
  vipd backend api/cp1 drain         no new sessions; those that are open go on
  vipd backend cp1 maint             no sessions: the open ones are reset, whatever its check says
  vipd backend cp1 ready             as its health allows, again
  vipd backend cp1 weight 10

NAME is that of the backend, or LISTENER/BACKEND where several listeners have one of that name.

Exit codes: 0 done, 1 refused or no daemon answers, 2 wrong options")]
pub struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    /// Which one
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// What it is to be; without, it is shown
    #[arg(value_name = "ORDER", requires = "name")]
    order: Option<Word>,
    /// After `weight`: 0 to 65535; 0: only sessions that persistence brings
    #[arg(value_name = "N", requires = "order")]
    weight: Option<u16>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Word {
    /// Sessions as its health allows
    Ready,
    /// No new sessions, those of returning clients included; open ones go on
    Drain,
    /// No sessions: the open ones are reset
    Maint,
    /// Its share of new sessions: N
    Weight,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let socket = &arguments.daemon.socket();
    let order = match (arguments.order, arguments.weight) {
        (None, _) => None,
        (Some(Word::Ready), None) => Some(Order::Ready),
        (Some(Word::Drain), None) => Some(Order::Drain),
        (Some(Word::Maint), None) => Some(Order::Maint),
        (Some(Word::Weight), Some(weight)) => Some(Order::Weight(weight)),
        (Some(Word::Weight), None) => {
            eprintln!("vipd: `weight` needs a number from 0 to 65535");
            return ExitCode::from(2);
        }
        (Some(_), Some(weight)) => {
            eprintln!("vipd: what is {weight}? Only `weight` takes a number");
            return ExitCode::from(2);
        }
    };
    talk(async {
        let text = match (&arguments.name, order) {
            (Some(name), Some(order)) => client::order(socket, name, order).await? + "\n",
            (name, _) => table(&client::get_status(socket).await?.listeners, name.as_deref()),
        };
        Ok(output::print(&text))
    })
}

/// All, or those of this name.
fn table(listeners: &[ListenerStatus], name: Option<&str>) -> String {
    let mut rows =
        vec![["BACKEND", "ADDRESS", "STATE", "HEALTH", "WEIGHT", "SESSIONS", "WHY"].map(str::to_owned)];
    for listener in listeners {
        for backend in &listener.backends {
            let row = row(&listener.name, backend);
            if name.is_none_or(|name| name == backend.name || name == row[0]) {
                rows.push(row);
            }
        }
    }
    if rows.len() == 1 {
        return name.map_or_else(
            || "there is no backend\n".to_owned(),
            |name| format!("there is no backend {name}\n"),
        );
    }
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

fn row(listener: &str, backend: &BackendStatus) -> [String; 7] {
    let state = match backend.admin {
        Admin::Ready => "ready",
        Admin::Drain => "drain",
        Admin::Maint => "maint",
    };
    let weight = match backend.effective_weight == backend.weight {
        true => backend.weight.to_string(),
        false => format!("{} of {}", backend.effective_weight, backend.weight),
    };
    let limit = match backend.sessions_limit {
        0 => String::new(),
        limit => format!(" of {limit}"),
    };
    [
        format!("{listener}/{}", backend.name),
        backend.address.to_string(),
        state.to_owned(),
        backend.health.to_string(),
        weight,
        format!("{}{limit}", backend.sessions),
        backend.detail.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backends_are_one_line_each() {
        let mut backend = BackendStatus::new("cp1".into(), "192.0.2.1:6443".parse().unwrap());
        backend.detail = "HTTP 200".into();
        backend.sessions = 17;
        let mut other = BackendStatus::new("cp2".into(), "192.0.2.2:6443".parse().unwrap());
        (other.admin, other.weight, other.effective_weight, other.sessions_limit) =
            (Admin::Drain, 10, 0, 100);
        let listener = ListenerStatus {
            name: "api".into(),
            backends: vec![backend, other],
            ..ListenerStatus::default()
        };
        let expected = "\
BACKEND  ADDRESS         STATE  HEALTH  WEIGHT   SESSIONS  WHY
api/cp1  192.0.2.1:6443  ready  up      1        17        HTTP 200
api/cp2  192.0.2.2:6443  drain  up      0 of 10  0 of 100
";
        let all = [listener];
        assert_eq!(table(&all, None), expected);
        assert_eq!(table(&all, Some("cp2")), table(&all, Some("api/cp2")));
        assert_eq!(table(&all, Some("cp2")).lines().count(), 2);
        assert_eq!(table(&[], None), "there is no backend\n");
        assert_eq!(table(&all, Some("cp9")), "there is no backend cp9\n");
    }
}
