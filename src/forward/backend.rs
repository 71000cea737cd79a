//! One backend: its health as its checks tell it and its sessions meet it, its suspicion, its counters, and what an
//! operator wants of it.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::ready::{Backend as Config, Listener, NoBackend};

use super::balance::{Candidate, Standing, WHOLE};
use super::orders::Orders;
use super::{ForwardError, headers, path};
use crate::check::{Advice, Mode, Pulse, Subject, Verdict};
use crate::observe::event::Health;
use crate::observe::status::{Admin, BackendStatus};

/// How long a backend that let a connect wait comes last. Then one session tries it again.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// A connect that takes longer than this, and three times as long as they did lately, is given company.
const PATIENCE: Duration = Duration::from_millis(200);

/// After so long a time without an answer to a connect or a good result of a check it is down.
const SILENCE: Duration = Duration::from_secs(4);

/// A backend while the forwarder runs.
#[derive(Debug)]
pub struct Backend {
    /// As configured.
    pub config: Config,
    /// What outlives a configuration, as long as name and address stay.
    pub life: Arc<Life>,
    /// What an operator wants; stays as long as the name does.
    pub orders: Arc<Orders>,
    slow_start: Duration,
    /// What becomes of it while it is down.
    down: Standing,
}

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
struct Opinion {
    said: Vec<Said>,
    observed: Option<Observed>,
    health: Health,
    since: SystemTime,
    detail: String,
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
struct Observed {
    why: String,
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
    fn new(config: &Config) -> Self {
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

    fn opinion(&self) -> MutexGuard<'_, Opinion> {
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

impl Backend {
    /// Without a check it is up, with one it is unknown until the check speaks. `before`: the backend of this name in
    /// the configuration before.
    pub fn new(config: Config, listener: &Listener, before: Option<&Self>) -> Self {
        let same = before.filter(|before| {
            let (old, new) = (&before.config, &config);
            old.address == new.address && old.policy.send_proxy == new.policy.send_proxy
        });
        let life = match same {
            Some(before) => before.life.clone(),
            None => Arc::new(Life::new(&config)),
        };
        Self {
            orders: before.map(|before| before.orders.clone()).unwrap_or_default(),
            life,
            config,
            slow_start: listener.policy.slow_start,
            down: match listener.policy.no_backend {
                NoBackend::Refuse => Standing::Excluded,
                NoBackend::TryAll => Standing::Distrusted,
            },
        }
    }

    /// What the data path knows of it.
    pub fn counts(&self) -> &Arc<path::Backend> {
        &self.life.counts
    }

    /// In force.
    pub fn admin(&self) -> Admin {
        let advised = || match self.life.advice()?.mode? {
            Mode::Ready => Some(Admin::Ready),
            Mode::Drain => Some(Admin::Drain),
            Mode::Maint => Some(Admin::Maint),
        };
        let configured = || self.config.policy.maint.then_some(Admin::Maint);
        self.orders.admin().or_else(configured).or_else(advised).unwrap_or_default()
    }

    /// Asked for.
    pub fn weight(&self) -> u16 {
        let advised = || Some(self.life.advice()?.weight?.of(self.config.weight));
        self.orders.weight().or_else(advised).unwrap_or(self.config.weight)
    }

    /// Down for those who choose: also before the first result, where that is configured.
    pub fn is_down(&self) -> bool {
        match self.life.health() {
            Health::Down => true,
            Health::Unknown => self.config.policy.down_at_start,
            Health::Up => false,
        }
    }

    /// It may get sessions, and nothing that was said of it stands against that.
    pub fn is_usable(&self) -> bool {
        !self.is_down() && self.admin() == Admin::Ready && self.weight() > 0
    }

    /// For the choice.
    pub fn candidate(&self, now: Instant) -> Candidate {
        let assigned = self.counts().assigned.load(Ordering::Relaxed);
        Candidate {
            standing: self.standing(now),
            backup: self.config.policy.backup,
            full: self.max_sessions().is_some_and(|most| assigned >= most.into()),
            weight: self.effective_weight(now),
            sessions: assigned,
        }
    }

    fn max_sessions(&self) -> Option<u32> {
        let advised = self.life.advice().and_then(|advice| advice.max_sessions);
        advised.or(self.config.policy.max_sessions)
    }

    fn standing(&self, now: Instant) -> Standing {
        let life = &self.life;
        match life.health() {
            _ if self.admin() != Admin::Ready => Standing::Excluded,
            // Of weight 0: for those that persistence brings.
            _ if self.is_down() && self.config.policy.inhibit_on_failure => Standing::Healthy,
            _ if self.is_down() => self.down,
            _ if life.clock(now) < life.suspect_until.load(Ordering::Relaxed) => Standing::Suspect,
            Health::Unknown => Standing::Unproven,
            Health::Up | Health::Down => Standing::Healthy,
        }
    }

    /// In parts of [`WHOLE`].
    fn effective_weight(&self, now: Instant) -> u32 {
        let full = u32::from(self.weight()) * WHOLE;
        if full == 0 || self.is_down() && self.config.policy.inhibit_on_failure {
            return 0;
        }
        match self.starting(now) {
            None => full,
            Some(rest) => {
                let part = 1.0 - rest.as_secs_f64() / self.slow_start.as_secs_f64();
                // At most `full`, and no fraction of a part.
                ((f64::from(full) * part) as u32).clamp(1, full)
            }
        }
    }

    /// Until it has its full weight.
    fn starting(&self, now: Instant) -> Option<Duration> {
        let back = self.life.back_since.load(Ordering::Relaxed);
        if back == 0 || self.slow_start.is_zero() {
            return None;
        }
        let since = Duration::from_millis(self.life.clock(now).saturating_sub(back));
        self.slow_start.checked_sub(since).filter(|rest| !rest.is_zero())
    }

    /// For how long it comes last, if it does.
    fn suspected(&self, now: Instant) -> Option<Duration> {
        let life = &self.life;
        let rest = life.suspect_until.load(Ordering::Relaxed).checked_sub(life.clock(now))?;
        (rest > 0).then(|| Duration::from_millis(rest))
    }

    /// A session is about to connect: of a former suspect only this one, until it is known how it went.
    pub fn try_out(&self, now: Instant, connect_timeout: Duration) {
        let life = &self.life;
        let until = life.suspect_until.load(Ordering::Relaxed);
        if until != 0 && until <= life.clock(now) {
            life.suspect_until.store(life.clock(now + connect_timeout).max(1), Ordering::Relaxed);
        }
    }

    /// How long a connect may take before another backend is tried besides.
    pub fn patience(&self) -> Duration {
        PATIENCE.max(3 * Duration::from_millis(self.life.connect_ms.load(Ordering::Relaxed).into()))
    }

    /// What is.
    pub fn status(&self) -> BackendStatus {
        let now = Instant::now();
        let (admin, admin_since) = (self.admin(), self.orders.since());
        let (weight, max_sessions) = (self.weight(), self.max_sessions());
        let takes_none = admin != Admin::Ready || self.is_down();
        let effective_weight = if takes_none { 0 } else { self.effective_weight(now).div_ceil(WHOLE) };
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counts = self.counts();
        let opinion = self.life.opinion();
        BackendStatus {
            health: opinion.health,
            since: Some(opinion.since),
            detail: opinion.detail.clone(),
            checks: self.config.checks.clone(),
            admin,
            admin_since,
            backup: self.config.policy.backup,
            weight: weight.into(),
            effective_weight,
            slow_start: self.starting(now).filter(|_| !takes_none),
            suspected: self.suspected(now),
            observed: opinion.observed.as_ref().map(|observed| observed.why.clone()),
            sessions_max: load(&counts.sessions_max),
            sessions_limit: max_sessions.unwrap_or(0).into(),
            connect_time: counts.connect_time.snapshot(),
            sessions: load(&counts.sessions),
            sessions_total: load(&counts.sessions_total),
            connect_errors: load(&counts.connect_errors),
            bytes_in: load(&counts.bytes_in),
            bytes_out: load(&counts.bytes_out),
            ..BackendStatus::new(self.config.name.clone(), self.config.address)
        }
    }
}

/// The checks of each backend of a listener.
///
/// # Errors
///
/// A check that does not exist.
pub fn subjects(
    listener: &Listener,
    checks: &impl Fn(&str) -> Option<Subject>,
) -> Result<Vec<Vec<Subject>>, ForwardError> {
    let subject = |backend: &Config, check: &String| {
        checks(check).ok_or_else(|| ForwardError::UnknownCheck {
            place: backend.place.clone(),
            listener: listener.name.clone(),
            backend: backend.name.clone(),
            check: check.clone(),
        })
    };
    let subjects = |backend: &Config| backend.checks.iter().map(|check| subject(backend, check)).collect();
    listener.backends.iter().map(subjects).collect()
}
