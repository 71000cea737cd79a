//! What is known of one check: its verdict for subscribers, its counters for people.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use config::ready::{Check, HttpProbe, Probe, Talk};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::{debug, warn};

use super::health::HealthCounter;
use super::program::KILL_AFTER;
use super::schedule::Outcome;
use super::{Advice, Pulse, Verdict};
use crate::observe::event::{EventSender, Health, Kind};
use crate::observe::status::{Activity, CheckStatus, Histogram};

/// Shared by the task that probes and everybody who asks.
#[derive(Debug)]
pub(super) struct Entry {
    name: String,
    by_reload: bool,
    events: EventSender,
    verdict: watch::Sender<Verdict>,
    pulse: watch::Sender<Pulse>,
    hurry: Notify,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    kind: &'static str,
    counter: HealthCounter,
    succeeded: u64,
    failed: u64,
    skipped: u64,
    last_duration: Option<Duration>,
    durations: Histogram,
    phase: Phase,
    findings: Vec<String>,
}

/// What the last results point at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaning {
    /// Up, and nothing speaks against it; or unknown, where the interval is all there is.
    Steady,
    /// Results go against the state, or it is not known yet.
    AgainstState,
    /// Down, and nothing speaks against it.
    Down,
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Over, with all that it left.
    Over,
    /// Under way.
    UnderWay,
    /// Its result is known; what is left of it was asked to end at this time.
    Settling(Instant),
}

impl Entry {
    /// Nothing is known yet. `by_reload`: others ran before it.
    pub(super) fn new(check: &Check, events: EventSender, by_reload: bool) -> Self {
        let verdict = Verdict {
            health: Health::Unknown,
            value: None,
            advice: Advice::default(),
            detail: "no result yet".to_owned(),
            streak: (0, check.fall.max(1)),
            since: SystemTime::now(),
        };
        let state = State {
            kind: kind(&check.probe),
            counter: counter(check),
            succeeded: 0,
            failed: 0,
            skipped: 0,
            last_duration: None,
            durations: Histogram::default(),
            phase: Phase::Over,
            findings: Vec::new(),
        };
        Self {
            name: check.name.clone(),
            by_reload,
            events,
            verdict: watch::Sender::new(verdict),
            pulse: watch::Sender::new(Pulse { rise: check.rise.max(1), ..Pulse::default() }),
            hurry: Notify::new(),
            state: Mutex::new(state),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Verdict> {
        self.verdict.subscribe()
    }

    pub(super) fn pulse(&self) -> watch::Receiver<Pulse> {
        self.pulse.subscribe()
    }

    /// The next run is wanted now.
    pub(super) fn hurry(&self) {
        self.hurry.notify_one();
    }

    /// Ends when somebody wants the next run now.
    pub(super) async fn hurried(&self) {
        self.hurry.notified().await;
    }

    /// The check was written anew: it counts from the start, and what is published stays until the new
    /// probe has decided.
    pub(super) fn reconfigure(&self, check: &Check) {
        let mut state = self.lock();
        state.kind = kind(&check.probe);
        state.counter = counter(check);
        self.pulse.send_modify(|pulse| pulse.rise = check.rise.max(1));
    }

    /// What the last results point at.
    pub(super) fn leaning(&self) -> Leaning {
        let state = self.lock();
        let (against, _) = state.counter.towards_change();
        match state.counter.health() {
            Health::Unknown => Leaning::AgainstState,
            Health::Up | Health::Down if against > 0 => Leaning::AgainstState,
            Health::Up => Leaning::Steady,
            Health::Down => Leaning::Down,
        }
    }

    /// For people alone.
    pub(super) fn enter(&self, phase: Phase) {
        self.lock().phase = phase;
    }

    pub(super) fn skipped(&self, runs: u64) {
        self.lock().skipped += runs;
    }

    /// Counts a result and publishes what changed.
    pub(super) fn record(&self, outcome: Outcome, duration: Duration) {
        let success = outcome.success;
        self.judge(outcome, duration);
        self.pulse.send_modify(|pulse| {
            pulse.runs += 1;
            pulse.good = if success { pulse.good.saturating_add(1) } else { 0 };
        });
    }

    fn judge(&self, outcome: Outcome, duration: Duration) {
        let (health, streak) = {
            let mut state = self.lock();
            state.last_duration = Some(duration);
            if let Some(findings) = &outcome.findings
                && state.findings != *findings
            {
                for finding in findings.iter().filter(|finding| !state.findings.contains(finding)) {
                    warn!(check = self.name, finding, "check found something that is no failure");
                }
                state.findings.clone_from(findings);
            }
            state.durations.record(duration);
            if outcome.success {
                state.succeeded += 1;
            } else {
                state.failed += 1;
            }
            (state.counter.count(outcome.success), state.counter.failures())
        };
        let before = self.verdict.borrow().clone();
        // A check that was written anew keeps what it had until it knows better.
        let health = if health == Health::Unknown { before.health } else { health };
        let since = if health == before.health { before.since } else { SystemTime::now() };
        let mut advice = before.advice;
        advice.hear(outcome.advice);
        let Outcome { value, detail, .. } = outcome;
        let after = Verdict { health, value, advice, detail, streak, since };
        if after == before {
            return;
        }
        self.verdict.send_replace(after.clone());
        if health == before.health {
            debug!(check = self.name, detail = after.detail, "check gave another result");
        } else {
            self.tell(before.health, after);
        }
    }

    fn tell(&self, from: Health, verdict: Verdict) {
        let to = verdict.health;
        let detail = verdict.detail;
        let detail = match (to, verdict.streak) {
            (Health::Down, (failed, of)) if of > 1 => format!("failed {failed} of {of}: {detail}"),
            _ => detail,
        };
        self.events.send(Kind::Check { check: self.name.clone(), from, to, detail });
    }

    pub(super) fn status(&self) -> CheckStatus {
        let verdict = self.verdict.borrow().clone();
        let state = self.lock();
        let (streak, needed) = state.counter.towards_change();
        CheckStatus {
            name: self.name.clone(),
            kind: state.kind.to_owned(),
            health: verdict.health,
            since: verdict.since,
            detail: verdict.detail,
            streak,
            needed,
            succeeded: state.succeeded,
            failed: state.failed,
            skipped: state.skipped,
            last_duration: state.last_duration,
            durations: state.durations.clone(),
            value: verdict.value,
            activity: match state.phase {
                Phase::Over => Activity::Idle,
                Phase::UnderWay => Activity::Running,
                Phase::Settling(since) if since.elapsed() < KILL_AFTER => Activity::Ending,
                Phase::Settling(_) => Activity::Killed,
            },
            new_by_reload: self.by_reload && state.succeeded + state.failed == 0,
            findings: state.findings.clone(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent's word counts at once, as in HAProxy.
fn counter(check: &Check) -> HealthCounter {
    if let Probe::Agent(_) = check.probe {
        return HealthCounter::new(1, 1, true);
    }
    HealthCounter::new(check.rise, check.fall, check.first_result_decides)
}

/// The word that people see.
fn kind(probe: &Probe) -> &'static str {
    match probe {
        Probe::Script(_) | Probe::WeighingScript(_) => "script",
        Probe::Http(HttpProbe { tls: None, .. }) => "http",
        Probe::Http(_) => "https",
        Probe::Apiserver(_) => "apiserver",
        Probe::Etcd(_) => "etcd",
        Probe::Tcp { .. } => "tcp",
        Probe::Dialogue(dialogue) => match &dialogue.talk {
            Talk::Steps(_) if dialogue.tls.is_some() => "tls",
            Talk::Steps(_) => "tcp",
            Talk::Smtp { .. } => "smtp",
            Talk::Redis => "redis",
            Talk::Ldap => "ldap",
            Talk::Mysql { .. } => "mysql",
            Talk::Postgres { .. } => "postgres",
        },
        Probe::Dns(_) => "dns",
        Probe::Udp(_) => "udp",
        Probe::Ping { .. } => "ping",
        Probe::Agent(_) => "agent",
        Probe::Bfd { .. } => "bfd",
        Probe::Listeners { .. } => "listeners",
        Probe::Process(_) => "process",
        Probe::File { .. } => "file",
        Probe::Interface { .. } => "interface",
    }
}
