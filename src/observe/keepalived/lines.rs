//! Events in keepalived's words, for those who search its log.
//!
//! Our own lines stand beside them: these say what, those say why.

use std::sync::{Arc, PoisonError, RwLock};

use config::ready::{Config, Family, Instance, Probe};
use tracing::{debug, info};

use crate::observe::event::{Event, Fault, Health, Kind, Reason, State};

/// Says events as keepalived says them.
#[derive(Debug)]
pub struct Narrator(RwLock<Arc<Config>>);

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    text: String,
    /// Only with `-D`.
    detail: bool,
}

impl Narrator {
    /// For what runs now.
    pub fn new(config: Arc<Config>) -> Self {
        Self(RwLock::new(config))
    }

    /// Another configuration runs.
    pub fn reload(&self, config: Arc<Config>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Logs an event.
    pub fn log(&self, event: &Event) {
        let config = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        for line in lines(&config, &event.kind) {
            if line.detail {
                debug!(target: "keepalived", "{}", line.text);
            } else {
                info!(target: "keepalived", "{}", line.text);
            }
        }
    }
}

fn lines(config: &Config, kind: &Kind) -> Vec<Line> {
    let mut lines = Lines::default();
    match kind {
        Kind::Transition { instance, from, to, reason, priority } => {
            let known = config.instances.iter().find(|one| one.name == *instance).map(|one| &**one);
            let told = Transition { name: instance, config: known, from: *from, reason, ours: *priority };
            match to {
                State::Active => told.to_master(&mut lines),
                State::Backup => told.to_backup(&mut lines),
                State::Fault => told.to_fault(&mut lines),
                State::Initialize => told.leave(&mut lines),
            }
        }
        Kind::Priority { instance, from, to, .. } => {
            lines.say(format!("({instance}) Changing effective priority from {from} to {to}"));
        }
        Kind::LowerPriorityAdvert { instance, peer, theirs, ours } => lines.say(format!(
            "({instance}) Received advert from {peer} with lower priority {theirs}, ours {ours}, forcing new election"
        )),
        Kind::Check { check, from, to, detail } => {
            let probe = config.checks.iter().find(|one| one.name == *check).map(|one| &one.probe);
            if let Some(Probe::Script(_)) = probe {
                script(&mut lines, check, (*from, *to), detail);
            }
        }
        _ => {}
    }
    lines.0
}

#[derive(Debug, Default)]
struct Lines(Vec<Line>);

impl Lines {
    fn say(&mut self, text: String) {
        self.0.push(Line { text, detail: false });
    }

    fn detail(&mut self, text: String) {
        self.0.push(Line { text, detail: true });
    }
}

struct Transition<'a> {
    name: &'a str,
    config: Option<&'a Instance>,
    from: State,
    reason: &'a Reason,
    ours: u8,
}

impl Transition<'_> {
    fn to_master(&self, lines: &mut Lines) {
        let name = self.name;
        match self.reason {
            Reason::ActiveReleased { .. } => {
                lines.detail(format!("({name}) Backup received priority 0 advertisement"));
                lines.detail(format!("({name}) Receive advertisement timeout"));
            }
            Reason::Owner => {}
            _ => lines.detail(format!("({name}) Receive advertisement timeout")),
        }
        lines.say(format!("({name}) Entering MASTER STATE"));
        self.moved(lines, "setting");
    }

    fn to_backup(&self, lines: &mut Lines) {
        let (name, ours) = (self.name, self.ours);
        match self.reason {
            Reason::HigherPriority { peer, theirs, .. } => lines.say(format!(
                "({name}) Master received advert from {peer} with higher priority {theirs}, ours {ours}"
            )),
            Reason::HigherAddress { peer, priority } => lines.say(format!(
                "({name}) Master received advert from {peer} with same priority {priority} but higher IP address \
                 than ours"
            )),
            _ => {}
        }
        let init = if self.from == State::Initialize { " (init)" } else { "" };
        lines.say(format!("({name}) Entering BACKUP STATE{init}"));
        if self.from == State::Active {
            self.moved(lines, "removing");
        }
    }

    fn to_fault(&self, lines: &mut Lines) {
        let name = self.name;
        let Reason::Fault { faults } = self.reason else { return };
        if faults.iter().all(|fault| matches!(fault, Fault::CheckUnknown { .. })) {
            return;
        }
        for fault in faults {
            match fault {
                Fault::InterfaceDown { interface } => {
                    lines.say(format!("({name}): entering FAULT state (interface {interface} down)"));
                }
                Fault::InterfaceMissing { interface } => {
                    lines.say(format!(
                        "({name}): entering FAULT state (interface {interface} does not exist)"
                    ));
                }
                Fault::NoSourceAddress { .. } => {
                    let family = match self.config.map(|config| config.family) {
                        Some(Family::Ipv6) => "IPv6",
                        _ => "IPv4",
                    };
                    lines.say(format!("({name}) entering FAULT state (no {family} address for interface)"));
                }
                Fault::Check { check, .. } => {
                    lines.say(format!("({name}): entering FAULT state due to script {check}"));
                }
                _ => {}
            }
        }
        lines.say(format!("({name}) Entering FAULT STATE"));
        if self.from == State::Active {
            lines.detail(format!("({name}) sent 0 priority"));
            self.moved(lines, "removing");
        }
    }

    fn leave(&self, lines: &mut Lines) {
        if self.from == State::Active {
            lines.detail(format!("({}) sent 0 priority", self.name));
            self.moved(lines, "removing");
        }
    }

    fn moved(&self, lines: &mut Lines, verb: &str) {
        lines.detail(format!("({}) {verb} VIPs.", self.name));
        if self.config.is_some_and(|config| !config.excluded.is_empty()) {
            lines.detail(format!("({}) {verb} E-VIPs.", self.name));
        }
    }
}

/// What a script returns is told when it is another number than before; before the first run it is 0.
fn script(lines: &mut Lines, name: &str, (from, to): (Health, Health), detail: &str) {
    let status = detail.rsplit_once("exited with status ").map(|(_, status)| status);
    match to {
        Health::Unknown => {}
        Health::Up => {
            if from == Health::Down {
                lines.say(format!("Script `{name}` now returning 0"));
            }
            lines.say(format!("VRRP_Script({name}) succeeded"));
        }
        Health::Down if detail.contains("timed out") => lines.say(format!("VRRP_Script({name}) timed_out")),
        Health::Down => {
            if let Some(status) = status {
                lines.say(format!("Script `{name}` now returning {status}"));
                lines.say(format!("VRRP_Script({name}) failed (exited with status {status})"));
            } else {
                lines.say(format!("VRRP_Script({name}) failed ({detail})"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn said(from: State, to: State, reason: Reason, detail: bool) -> Vec<String> {
        let control = config::ready::Control { socket: "/s".into(), metrics: None };
        let config = Config::empty("r".into(), control);
        let kind = Kind::Transition { instance: "V1".into(), from, to, reason, priority: 100 };
        let lines = lines(&config, &kind).into_iter();
        lines.filter(|line| detail || !line.detail).map(|line| line.text).collect()
    }

    /// The log of 2.2.7, started with `-D` and without.
    #[test]
    fn a_takeover_reads_as_in_keepaliveds_log() {
        let reason = Reason::ActiveDown { peer: None, silence: Duration::from_secs(3) };
        let detailed =
            ["(V1) Receive advertisement timeout", "(V1) Entering MASTER STATE", "(V1) setting VIPs."];
        assert_eq!(said(State::Backup, State::Active, reason.clone(), true), detailed);
        assert_eq!(said(State::Backup, State::Active, reason, false), ["(V1) Entering MASTER STATE"]);
    }

    #[test]
    fn the_start_and_a_lost_election_read_as_in_keepaliveds_log() {
        let start = said(State::Initialize, State::Backup, Reason::Started, false);
        assert_eq!(start, ["(V1) Entering BACKUP STATE (init)"]);
        let peer = "10.0.0.2".parse().unwrap();
        let reason = Reason::HigherPriority { peer, theirs: 150, ours: 100 };
        let lost = [
            "(V1) Master received advert from 10.0.0.2 with higher priority 150, ours 100",
            "(V1) Entering BACKUP STATE",
        ];
        assert_eq!(said(State::Active, State::Backup, reason, false), lost);
    }

    #[test]
    fn a_fault_names_what_keepalived_names() {
        let faults = vec![Fault::InterfaceDown { interface: "eth0".into() }];
        let lines = said(State::Backup, State::Fault, Reason::Fault { faults }, false);
        assert_eq!(lines, ["(V1): entering FAULT state (interface eth0 down)", "(V1) Entering FAULT STATE"]);
        let waiting = vec![Fault::CheckUnknown { check: "s1".into() }];
        let lines = said(State::Initialize, State::Fault, Reason::Fault { faults: waiting }, true);
        assert_eq!(lines, [] as [&str; 0], "keepalived is silent until the first result");
    }

    #[test]
    fn a_script_says_what_it_returned() {
        let mut lines = Lines::default();
        script(&mut lines, "s", (Health::Unknown, Health::Down), "exited with status 3");
        script(&mut lines, "s", (Health::Down, Health::Up), "succeeded");
        script(&mut lines, "t", (Health::Unknown, Health::Up), "succeeded");
        let texts: Vec<_> = lines.0.into_iter().map(|line| line.text).collect();
        assert_eq!(
            texts,
            [
                "Script `s` now returning 3",
                "VRRP_Script(s) failed (exited with status 3)",
                "Script `s` now returning 0",
                "VRRP_Script(s) succeeded",
                "VRRP_Script(t) succeeded"
            ]
        );
    }
}
