//! One backend: its health as its check tells it, its suspicion, its counters.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::ready::{Backend as Config, Listener};
use tokio::sync::watch;

use super::balance::Standing;
use super::path;
use super::{ForwardError, headers};
use crate::check::Verdict;
use crate::observe::event::Health;
use crate::observe::status::BackendStatus;

/// How long a backend that let a connect wait comes last. Then one session tries it again.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// A connect that takes longer than this, and three times as long as they did lately, is given company.
const PATIENCE: Duration = Duration::from_millis(200);

/// A backend while the forwarder runs.
#[derive(Debug)]
pub struct Backend {
    /// As configured.
    pub config: Config,
    /// What the data path knows of it.
    pub counts: Arc<path::Backend>,
    opinion: Mutex<Opinion>,
    /// Milliseconds since `since` until which it comes last; 0: not suspect.
    suspect_until: AtomicU64,
    since: Instant,
    /// Milliseconds that connects took lately.
    connect_ms: AtomicU32,
}

/// What its check says.
#[derive(Debug)]
struct Opinion {
    health: Health,
    since: SystemTime,
    detail: String,
}

impl Backend {
    /// Without a check it is up, with one it is unknown until the check speaks.
    pub fn new(config: Config) -> Self {
        let (health, detail) = match config.checks.first() {
            Some(_) => (Health::Unknown, "no result yet".to_owned()),
            None => (Health::Up, "no check".to_owned()),
        };
        Self {
            counts: Arc::new(path::Backend {
                send_proxy: config.policy.send_proxy.map(headers::version),
                ..path::Backend::new(config.address)
            }),
            config,
            opinion: Mutex::new(Opinion { health, since: SystemTime::now(), detail }),
            suspect_until: AtomicU64::new(0),
            since: Instant::now(),
            connect_ms: AtomicU32::new(0),
        }
    }

    fn opinion(&self) -> std::sync::MutexGuard<'_, Opinion> {
        self.opinion.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clock(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.since).as_millis()).unwrap_or(u64::MAX)
    }

    /// For the choice.
    pub fn standing(&self, now: Instant) -> Standing {
        match self.opinion().health {
            Health::Down => Standing::Excluded,
            _ if self.clock(now) < self.suspect_until.load(Ordering::Relaxed) => Standing::Suspect,
            Health::Unknown => Standing::Unproven,
            Health::Up => Standing::Healthy,
        }
    }

    /// For how long it comes last, if it does.
    fn suspected(&self, now: Instant) -> Option<Duration> {
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

    /// How an attempt to connect went.
    pub fn connected(&self, how: path::Connect) {
        match how {
            path::Connect::Done(took) => {
                if self.suspect_until.load(Ordering::Relaxed) != 0 {
                    self.suspect_until.store(0, Ordering::Relaxed);
                }
                // Up at once, down slowly.
                let took = u32::try_from(took.as_millis()).unwrap_or(u32::MAX);
                let before = self.connect_ms.load(Ordering::Relaxed);
                if took != before {
                    self.connect_ms.store(took.max(before - before.div_ceil(8)), Ordering::Relaxed);
                }
            }
            path::Connect::Slow | path::Connect::TimedOut => {
                let until = self.clock(Instant::now() + SUSPECT_FOR);
                self.suspect_until.store(until.max(1), Ordering::Relaxed);
            }
            path::Connect::Failed(_) | path::Connect::Abandoned => {}
        }
    }

    /// How long a connect may take before another backend is tried besides.
    pub fn patience(&self) -> Duration {
        PATIENCE.max(3 * Duration::from_millis(self.connect_ms.load(Ordering::Relaxed).into()))
    }

    /// Takes a verdict. Gives the health before, if it is another now.
    pub fn apply(&self, verdict: &Verdict) -> Option<Health> {
        let mut opinion = self.opinion();
        opinion.detail.clone_from(&verdict.detail);
        let before = std::mem::replace(&mut opinion.health, verdict.health);
        if before == verdict.health {
            return None;
        }
        opinion.since = verdict.since;
        if verdict.health == Health::Up {
            self.suspect_until.store(0, Ordering::Relaxed);
        }
        Some(before)
    }

    /// What is.
    pub fn status(&self) -> BackendStatus {
        let opinion = self.opinion();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BackendStatus {
            health: opinion.health,
            since: Some(opinion.since),
            detail: opinion.detail.clone(),
            checks: self.config.checks.clone(),
            weight: self.config.weight.into(),
            effective_weight: self.config.weight.into(),
            suspected: self.suspected(Instant::now()),
            sessions_max: load(&self.counts.sessions_max),
            connect_time: self.counts.connect_time.snapshot(),
            sessions: load(&self.counts.sessions),
            sessions_total: load(&self.counts.sessions_total),
            connect_errors: load(&self.counts.connect_errors),
            bytes_in: load(&self.counts.bytes_in),
            bytes_out: load(&self.counts.bytes_out),
            ..BackendStatus::new(self.config.name.clone(), self.config.address)
        }
    }
}

/// The verdicts on each backend of a listener; `None` where it has no check.
///
/// # Errors
///
/// A check that does not exist.
pub fn receivers(
    listener: &Listener,
    verdicts: &impl Fn(&str) -> Option<watch::Receiver<Verdict>>,
) -> Result<Vec<Option<watch::Receiver<Verdict>>>, ForwardError> {
    let receiver = |backend: &Config| {
        let Some(check) = backend.checks.first() else { return Ok(None) };
        verdicts(check).map(Some).ok_or_else(|| ForwardError::UnknownCheck {
            place: backend.place.clone(),
            listener: listener.name.clone(),
            backend: backend.name.clone(),
            check: check.clone(),
        })
    };
    listener.backends.iter().map(receiver).collect()
}
