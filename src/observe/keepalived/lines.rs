//! Events in keepalived's words, for those who search its log.
//!
//! Our own lines stand beside them: these say what, those say why.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use config::ready::{Config, Family, Instance, Probe};
use tracing::{debug, info};

use super::words;
use crate::observe::event::{AdvertNews, Event, Fault, Health, Kind, Reason, State};

/// Says events as keepalived says them.
#[derive(Debug)]
pub struct Narrator {
    config: RwLock<Arc<Config>>,
    memory: Mutex<Memory>,
}

/// What was said before, and is taken up again.
#[derive(Debug, Default)]
struct Memory {
    /// Interval of the active router, by instance.
    learned: HashMap<String, Duration>,
    /// Files that put it into FAULT, by instance.
    files: HashMap<String, Vec<String>>,
}

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
        Self { config: RwLock::new(config), memory: Mutex::default() }
    }

    /// Another configuration runs.
    pub fn reload(&self, config: Arc<Config>) {
        *self.config.write().unwrap_or_else(PoisonError::into_inner) = config;
    }

    /// Logs an event.
    pub fn log(&self, event: &Event) {
        let config = self.config.read().unwrap_or_else(PoisonError::into_inner).clone();
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        for line in lines(&config, &mut memory, &event.kind) {
            if line.detail {
                debug!(target: "keepalived", "{}", line.text);
            } else {
                info!(target: "keepalived", "{}", line.text);
            }
        }
    }
}

fn lines(config: &Config, memory: &mut Memory, kind: &Kind) -> Vec<Line> {
    let mut lines = Lines::default();
    match kind {
        Kind::Transition { instance, from, to, reason, priority } => {
            let known = config.instances.iter().find(|one| one.name == *instance).map(|one| &**one);
            let told = Transition { name: instance, config: known, from: *from, reason, ours: *priority };
            let learned = memory.learned.remove(instance);
            let files = memory.files.remove(instance).unwrap_or_default();
            match to {
                State::Active => told.to_master(&mut lines, learned),
                State::Backup => told.to_backup(&mut lines, &files),
                State::Fault => {
                    let is_file = |name: &&str| matches!(probe(config, name), Some(Probe::File { .. }));
                    let files: Vec<String> = told.checks().filter(is_file).map(str::to_owned).collect();
                    told.to_fault(&mut lines, config);
                    memory.files.insert(instance.clone(), files);
                }
                State::Initialize => told.leave(&mut lines),
            }
        }
        Kind::Priority { instance, from, to, .. } => {
            lines.say(format!("({instance}) Changing effective priority from {from} to {to}"));
        }
        Kind::LowerPriorityAdvert { instance, peer, theirs, ours } => {
            let known = config.instances.iter().find(|one| one.name == *instance);
            let answered = known.is_none_or(|instance| instance.answer_lower_priority);
            lines.say(format!(
                "({instance}) Received advert from {peer} with lower priority {theirs}, ours {ours}{}",
                if answered { ", forcing new election" } else { "" }
            ));
        }
        Kind::AdvertNews { instance, peer, news } => {
            if let AdvertNews::IntervalLearned { to, .. } = news {
                memory.learned.insert(instance.clone(), *to);
            }
            advert_news(&mut lines, instance, *peer, *news);
        }
        // At its start a group says nothing.
        Kind::Group { group, from, to, .. } if *from != State::Initialize && *to != State::Initialize => {
            let to = words::state(*to);
            lines.say(format!("VRRP_Group({group}) Syncing instances to {to} state"));
        }
        Kind::Check { check, from, to, detail } => match probe(config, check) {
            Some(Probe::Script(_)) => script(&mut lines, check, *to, detail),
            Some(Probe::Process(_)) if *from != Health::Unknown => {
                let word = if *to == Health::Up { "gained" } else { "lost" };
                lines.say(format!("Quorum {word} for tracked process {check}"));
            }
            _ => {}
        },
        _ => {}
    }
    lines.0
}

fn probe<'a>(config: &'a Config, check: &str) -> Option<&'a Probe> {
    config.checks.iter().find(|one| one.name == check).map(|one| &one.probe)
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
    fn to_master(&self, lines: &mut Lines, learned: Option<Duration>) {
        let name = self.name;
        if *self.reason != Reason::Owner {
            lines.detail(format!("({name}) Receive advertisement timeout"));
        }
        lines.say(format!("({name}) Entering MASTER STATE"));
        let own = self.config.map(|config| config.advert_interval);
        if let (Some(learned), Some(own)) = (learned, own)
            && learned != own
        {
            let (learned, own) = (learned.as_millis(), own.as_millis());
            lines.detail(format!(
                "({name}) changing advert interval from {learned}ms to locally configured {own}ms"
            ));
        }
        self.moved(lines, "setting");
    }

    fn to_backup(&self, lines: &mut Lines, files: &[String]) {
        let (name, ours) = (self.name, self.ours);
        for file in files {
            lines.say(format!("({name}): tracked file {file} leaving FAULT state"));
        }
        if self.from == State::Initialize {
            self.moved(lines, "removing");
        }
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

    /// Checks that put it into FAULT.
    fn checks(&self) -> impl Iterator<Item = &str> {
        let faults = if let Reason::Fault { faults } = self.reason { faults.as_slice() } else { &[] };
        faults.iter().filter_map(|fault| match fault {
            Fault::Check { check, .. } => Some(check.as_str()),
            _ => None,
        })
    }

    fn to_fault(&self, lines: &mut Lines, config: &Config) {
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
                Fault::NoSourceAddress { wanted, .. } if wanted.parse::<IpAddr>().is_ok() => {
                    lines.say(format!("({name}): entering FAULT state (src address not configured)"));
                }
                Fault::NoSourceAddress { .. } => {
                    let family = match self.config.map(|config| config.family) {
                        Some(Family::Ipv6) => "IPv6",
                        _ => "IPv4",
                    };
                    lines.say(format!("({name}) entering FAULT state (no {family} address for interface)"));
                }
                _ => {}
            }
        }
        for check in self.checks() {
            // While it runs, a script has said it itself, and a process has lost its quorum.
            match (probe(config, check), self.from == State::Initialize) {
                (Some(Probe::File { .. }), _) => {
                    lines.say(format!("({name}): tracked file {check} now FAULT state"));
                }
                (Some(Probe::Process(_)), true) => lines.say(format!(
                    "({name}) entering FAULT state (tracked process {check} quorum not achieved)"
                )),
                (Some(Probe::Process(_) | Probe::Script(_)), false) => {}
                _ => lines.say(format!("({name}): entering FAULT state due to script {check}")),
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

fn advert_news(lines: &mut Lines, name: &str, peer: IpAddr, news: AdvertNews) {
    match news {
        AdvertNews::IntervalLearned { from, to } => lines.detail(format!(
            "({name}) advertisement interval updated from {}ms to {}ms by master",
            from.as_millis(),
            to.as_millis()
        )),
        AdvertNews::PreemptDelayStarted { delay } => lines.detail(format!(
            "({name}) start preempt delay ({}.{:06})",
            delay.as_secs(),
            delay.subsec_micros()
        )),
        AdvertNews::PreemptDelayStopped => lines.detail(format!("({name}) stop preempt delay")),
        AdvertNews::LowerPriorityIgnored { theirs } => {
            lines.say(format!("({name}) received lower priority ({theirs}) advert from {peer} - discarding"));
        }
        AdvertNews::ReleaseHeard { active: true } => {
            lines.detail(format!("({name}) Master received priority 0 message"));
        }
        AdvertNews::ReleaseHeard { active: false } => {
            lines.detail(format!("({name}) Backup received priority 0 advertisement"));
        }
    }
}

/// What it returned is a notice of its own, at every change.
fn script(lines: &mut Lines, name: &str, to: Health, detail: &str) {
    match to {
        Health::Unknown => {}
        Health::Up => lines.say(format!("VRRP_Script({name}) succeeded")),
        Health::Down if detail.contains("timed out") => lines.say(format!("VRRP_Script({name}) timed_out")),
        Health::Down => match detail.rsplit_once("exited with status ") {
            Some((_, status)) => {
                // What it printed stands behind its status.
                let status = status.split(':').next().unwrap_or_default();
                lines.say(format!("VRRP_Script({name}) failed (exited with status {status})"));
            }
            None => lines.say(format!("VRRP_Script({name}) failed ({detail})")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(from: State, to: State, reason: Reason, detail: bool) -> Vec<String> {
        let control = config::ready::Control { socket: "/s".into(), metrics: None, web: None };
        let config = Config::empty("r".into(), control);
        let kind = Kind::Transition { instance: "V1".into(), from, to, reason, priority: 100 };
        let lines = lines(&config, &mut Memory::default(), &kind).into_iter();
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
        script(&mut lines, "s", Health::Down, "failed 2 of 2: exited with status 3: no: such file");
        script(&mut lines, "s", Health::Up, "exited with status 0");
        script(&mut lines, "t", Health::Down, "timed out after 1 s");
        let texts: Vec<_> = lines.0.into_iter().map(|line| line.text).collect();
        assert_eq!(
            texts,
            [
                "VRRP_Script(s) failed (exited with status 3)",
                "VRRP_Script(s) succeeded",
                "VRRP_Script(t) timed_out"
            ]
        );
    }
}
