//! What is known of a backend: its health as its checks tell it and its sessions meet it, its suspicion, its counters.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::ready::{Backend as Config, Listener};

use super::{headers, path};
use crate::check::{Advice, Pulse, Verdict};
use crate::observe::event::Health;

/// How long a backend that let a connect wait comes last. Then one session tries it again.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// A connect that takes longer than this, and three times as long as they did lately, is given company.
const PATIENCE: Duration = Duration::from_millis(200);

/// After so long a time without an answer to a connect or a good result of a check it is down.
const SILENCE: Duration = Duration::from_secs(4);

/// What is known of a backend, whatever the configuration says.
#[derive(Debug)]
pub struct Life {
    /// What the data path knows of it.
    pub counts: Arc<path::Backend>,
    opinion: Mutex<Opinion>,
    /// [`Health`] of the opinion, for those who choose.
    health: AtomicU8,
    /// A check has advised something.
    is_advised: AtomicBool,
    since: Instant,
    /// Milliseconds since `since` until which it comes last; 0: not suspect.
    suspect_until: AtomicU64,
    /// Milliseconds since `since` when a connect hung, with no answer to any since; 0: none.
    silent_since: AtomicU64,
    /// Connects that hung since then.
    hung: AtomicU32,
    /// Milliseconds since `since` when it came up again; 0: it was never down.
    back_since: AtomicU64,
    /// Milliseconds that connects took lately.
    connect_ms: AtomicU32,
    failed_connects: AtomicU32,
    early_resets: AtomicU32,
}

/// What its checks and its sessions say.
#[derive(Debug)]
pub(super) struct Opinion {
    said: Vec<Said>,
    pub(super) observed: Option<Observed>,
    pub(super) health: Health,
    pub(super) since: SystemTime,
    pub(super) detail: String,
}

/// One of its checks.
#[derive(Debug)]
struct Said {
    check: String,
    health: Health,
    detail: String,
    advice: Advice,
    pulse: Pulse,
}

/// Its sessions have called it down.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) why: String,
    at: Instant,
    /// Of each check, the runs that it had done.
    runs: Vec<u64>,
}

/// A change of its health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Before.
    pub from: Health,
    /// Now.
    pub to: Health,
    /// Why.
    pub detail: String,
}

impl Life {
    /// Of a backend of which nothing is known yet.
    pub fn new(config: &Config) -> Self {
        let life = Self {
            counts: Arc::new(path::Backend {
                send_proxy: config.policy.send_proxy.map(headers::version),
                ..path::Backend::new(config.address)
            }),
            opinion: Mutex::new(Opinion {
                said: Vec::new(),
                observed: None,
                health: Health::Unknown,
                since: SystemTime::now(),
                detail: String::new(),
            }),
            health: AtomicU8::new(0),
            is_advised: AtomicBool::new(false),
            // So that no moment from now on is 0.
            since: Instant::now().checked_sub(Duration::from_millis(1)).unwrap_or_else(Instant::now),
            suspect_until: AtomicU64::new(0),
            silent_since: AtomicU64::new(0),
            hung: AtomicU32::new(0),
            back_since: AtomicU64::new(0),
            connect_ms: AtomicU32::new(0),
            failed_connects: AtomicU32::new(0),
            early_resets: AtomicU32::new(0),
        };
        life.is_checked_by(config);
        life
    }

    /// Its checks from now on. Those that it had keep what they said.
    pub fn is_checked_by(&self, config: &Config) {
        let mut opinion = self.opinion();
        let mut before = std::mem::take(&mut opinion.said);
        for check in &config.checks {
            let known = before.iter().position(|said| said.check == *check);
            opinion.said.push(match known.map(|index| before.swap_remove(index)) {
                Some(said) => said,
                None => Said {
                    check: check.clone(),
                    health: Health::Unknown,
                    detail: "no result yet".to_owned(),
                    advice: Advice::default(),
                    pulse: Pulse::default(),
                },
            });
        }
        if let Some(observed) = &mut opinion.observed {
            observed.runs = vec![0; config.checks.len()];
        }
        self.judge(&mut opinion, SystemTime::now());
    }

    pub(super) fn opinion(&self) -> MutexGuard<'_, Opinion> {
        self.opinion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX)
    }

    /// Down while one check says so or the sessions have, unknown while one has said nothing.
    fn judge(&self, opinion: &mut Opinion, at: SystemTime) -> Option<Change> {
        let worst = |health| opinion.said.iter().find(|said| said.health == health);
        let (to, detail) = match (&opinion.observed, worst(Health::Down), worst(Health::Unknown)) {
            (_, Some(down), _) => (Health::Down, down.detail.clone()),
            (Some(observed), None, _) => (Health::Down, observed.why.clone()),
            (None, None, Some(unknown)) => (Health::Unknown, unknown.detail.clone()),
            (None, None, None) => {
                let said = opinion.said.first();
                (Health::Up, said.map_or_else(|| "no check".to_owned(), |said| said.detail.clone()))
            }
        };
        let is_advised = opinion.said.iter().any(|said| said.advice != Advice::default());
        self.is_advised.store(is_advised, Ordering::Relaxed);
        opinion.detail = detail.clone();
        let from = std::mem::replace(&mut opinion.health, to);
        self.health.store(as_number(to), Ordering::Relaxed);
        if from == to {
            return None;
        }
        opinion.since = at;
        if to == Health::Up {
            self.suspect_until.store(0, Ordering::Relaxed);
            self.hears_again();
        }
        if (from, to) == (Health::Down, Health::Up) {
            self.is_back(Instant::now());
        }
        Some(Change { from, to, detail })
    }

    /// What its checks advise together: the first that speaks of something counts.
    pub fn advice(&self) -> Option<Advice> {
        if !self.is_advised.load(Ordering::Relaxed) {
            return None;
        }
        let opinion = self.opinion();
        let first = |all: Advice, said: &Said| Advice {
            weight: all.weight.or(said.advice.weight),
            mode: all.mode.or(said.advice.mode),
            max_sessions: all.max_sessions.or(said.advice.max_sessions),
        };
        Some(opinion.said.iter().fold(Advice::default(), first))
    }

    /// Its share grows from now on.
    pub fn is_back(&self, now: Instant) {
        self.back_since.store(self.clock(now).max(1), Ordering::Relaxed);
    }

    /// Since it came up again; `None`: it was never down.
    pub fn back_for(&self, now: Instant) -> Option<Duration> {
        match self.back_since.load(Ordering::Relaxed) {
            0 => None,
            back => Some(Duration::from_millis(self.clock(now).saturating_sub(back))),
        }
    }

    /// For how long it comes last, if it does.
    pub fn suspected(&self, now: Instant) -> Option<Duration> {
        let rest = self.suspect_until.load(Ordering::Relaxed).checked_sub(self.clock(now))?;
        (rest > 0).then(|| Duration::from_millis(rest))
    }

    /// A session is about to connect: of a former suspect only this one, until it is known how it went.
    pub fn try_out(&self, now: Instant, connect_timeout: Duration) {
        let until = self.suspect_until.load(Ordering::Relaxed);
        if until != 0 && until <= self.clock(now) {
            self.suspect_until.store(self.clock(now + connect_timeout).max(1), Ordering::Relaxed);
        }
    }

    /// How long a connect may take before another backend is tried besides.
    pub fn patience(&self) -> Duration {
        PATIENCE.max(3 * Duration::from_millis(self.connect_ms.load(Ordering::Relaxed).into()))
    }

    fn hears_again(&self) {
        self.silent_since.store(0, Ordering::Relaxed);
        self.hung.store(0, Ordering::Relaxed);
        self.failed_connects.store(0, Ordering::Relaxed);
        self.early_resets.store(0, Ordering::Relaxed);
    }

    /// What its checks and sessions say together.
    pub fn health(&self) -> Health {
        match self.health.load(Ordering::Relaxed) {
            0 => Health::Unknown,
            1 => Health::Up,
            _ => Health::Down,
        }
    }

    /// Takes a verdict of one of its checks.
    pub fn apply(&self, check: usize, verdict: &Verdict) -> Option<Change> {
        let mut opinion = self.opinion();
        let said = opinion.said.get_mut(check)?;
        said.health = verdict.health;
        said.detail.clone_from(&verdict.detail);
        said.advice = verdict.advice;
        self.judge(&mut opinion, verdict.since)
    }

    /// Takes a result of one of its checks. Good ones bring back what the sessions have called down.
    pub fn pulse(&self, check: usize, pulse: Pulse) -> Option<Change> {
        let mut opinion = self.opinion();
        opinion.said.get_mut(check)?.pulse = pulse;
        if pulse.good > 0 {
            self.silent_since.store(0, Ordering::Relaxed);
            self.hung.store(0, Ordering::Relaxed);
        }
        let Opinion { said, observed: Some(observed), .. } = &mut *opinion else { return None };
        let is_good = |(said, before): (&Said, &u64)| {
            let pulse = said.pulse;
            pulse.good >= pulse.rise.max(1) && pulse.runs.saturating_sub(*before) >= pulse.rise.max(1).into()
        };
        if !said.iter().zip(&observed.runs).all(is_good) {
            return None;
        }
        opinion.observed = None;
        self.judge(&mut opinion, SystemTime::now())
    }

    /// Its sessions call it down.
    fn call_down(&self, opinion: &mut Opinion, why: String, now: Instant) -> Option<Change> {
        let runs = opinion.said.iter().map(|said| said.pulse.runs).collect();
        opinion.observed = Some(Observed { why, at: now, runs });
        self.judge(opinion, SystemTime::now())
    }

    /// Looks at what sessions met; to be called a few times a second while it [is in doubt](Self::in_doubt).
    pub fn look(&self, policy: &Listener, now: Instant) -> Option<Change> {
        let mut opinion = self.opinion();
        let observe = policy.policy.observe;
        if let Some(observed) = &opinion.observed {
            let down_for = observe.map_or(Duration::ZERO, |observe| observe.down_for);
            if opinion.said.is_empty() && now.saturating_duration_since(observed.at) >= down_for {
                opinion.observed = None;
                return self.judge(&mut opinion, SystemTime::now());
            }
            return None;
        }
        if let Some(observe) = observe {
            let limit = observe.error_limit.max(1);
            let failed = self.failed_connects.load(Ordering::Relaxed);
            let resets = self.early_resets.load(Ordering::Relaxed);
            if failed >= limit {
                return self.call_down(&mut opinion, format!("{failed} connects in a row failed"), now);
            }
            if resets >= limit {
                let why = format!("{resets} sessions in a row were reset before its first byte");
                return self.call_down(&mut opinion, why, now);
            }
        }
        let silent = self.silent_for(now)?;
        let hung = self.hung.load(Ordering::Relaxed);
        if silent >= SILENCE && hung > 1 && !opinion.said.is_empty() && opinion.health != Health::Down {
            let seconds = silent.as_secs_f64();
            let why =
                format!("no answer to a connect for {seconds:.1} s, and its check has not passed since");
            return self.call_down(&mut opinion, why, now);
        }
        None
    }

    fn silent_for(&self, now: Instant) -> Option<Duration> {
        match self.silent_since.load(Ordering::Relaxed) {
            0 => None,
            since => Some(Duration::from_millis(self.clock(now).saturating_sub(since))),
        }
    }

    /// It has not answered a connect for a while: its checks are to say something now.
    pub fn is_silent(&self) -> bool {
        self.silent_since.load(Ordering::Relaxed) != 0 && self.health() != Health::Down
    }

    /// There is something that [`look`](Self::look) waits for.
    pub fn in_doubt(&self) -> bool {
        self.is_silent() || self.opinion().observed.as_ref().is_some_and(|observed| observed.runs.is_empty())
    }

    /// How an attempt to connect went. Whether somebody should [look](Self::look).
    pub fn connected(&self, how: path::Connect, error_limit: u32) -> bool {
        match how {
            path::Connect::Done(took) => {
                if self.suspect_until.load(Ordering::Relaxed) != 0 {
                    self.suspect_until.store(0, Ordering::Relaxed);
                }
                if self.silent_since.load(Ordering::Relaxed) != 0 {
                    self.silent_since.store(0, Ordering::Relaxed);
                    self.hung.store(0, Ordering::Relaxed);
                }
                if self.failed_connects.load(Ordering::Relaxed) != 0 {
                    self.failed_connects.store(0, Ordering::Relaxed);
                }
                // Up at once, down slowly.
                let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
                let before = self.connect_ms.load(Ordering::Relaxed);
                if took != before {
                    self.connect_ms.store(took.max(before - before.div_ceil(8)), Ordering::Relaxed);
                }
                false
            }
            path::Connect::Slow | path::Connect::TimedOut => {
                let now = Instant::now();
                let until = self.clock(now + SUSPECT_FOR);
                self.suspect_until.store(until.max(1), Ordering::Relaxed);
                let begins = self.silent_since.load(Ordering::Relaxed) == 0;
                if begins {
                    self.silent_since.store(self.clock(now).max(1), Ordering::Relaxed);
                }
                self.hung.fetch_add(1, Ordering::Relaxed);
                how == path::Connect::TimedOut && self.fails(&self.failed_connects, error_limit) || begins
            }
            path::Connect::Failed(_) => self.fails(&self.failed_connects, error_limit),
            path::Connect::Abandoned => false,
        }
    }

    fn fails(&self, counter: &AtomicU32, limit: u32) -> bool {
        counter.fetch_add(1, Ordering::Relaxed).saturating_add(1) >= limit
    }

    /// A session ended. Whether somebody should [look](Self::look).
    pub fn ended(&self, reset_by_backend: bool, bytes_out: u64, error_limit: u32) -> bool {
        if reset_by_backend && bytes_out == 0 {
            return self.fails(&self.early_resets, error_limit);
        }
        if bytes_out > 0 && self.early_resets.load(Ordering::Relaxed) != 0 {
            self.early_resets.store(0, Ordering::Relaxed);
        }
        false
    }
}

fn as_number(health: Health) -> u8 {
    match health {
        Health::Unknown => 0,
        Health::Up => 1,
        Health::Down => 2,
    }
}
