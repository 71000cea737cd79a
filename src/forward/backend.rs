//! One backend: its health as its check tells it, its suspicion, its counters.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::ready::{Backend as Config, Listener};
use tokio::sync::watch;
use tokio::time::Instant;

use super::ForwardError;
use super::balance::Standing;
use crate::check::Verdict;
use crate::observe::event::Health;
use crate::observe::status::BackendStatus;

/// How long a backend that let a connect time out comes last. Then one session tries it again.
const SUSPECT_FOR: Duration = Duration::from_secs(5);

/// A backend while the forwarder runs.
#[derive(Debug)]
pub struct Backend {
    /// As configured.
    pub config: Config,
    opinion: Mutex<Opinion>,
    /// Counts how often it went down; every session on it watches.
    gone: watch::Sender<u64>,
    /// Sessions that are assigned: connecting or established.
    pub assigned: AtomicU64,
    /// Sessions that are established.
    pub sessions: AtomicU64,
    /// Established since the start.
    pub sessions_total: AtomicU64,
    /// Connects that failed.
    pub connect_errors: AtomicU64,
    /// From clients.
    pub bytes_in: AtomicU64,
    /// To clients.
    pub bytes_out: AtomicU64,
}

/// What is thought of a backend.
#[derive(Debug)]
struct Opinion {
    health: Health,
    detail: String,
    /// Set by a connect that timed out, taken back by one that succeeds.
    suspect_until: Option<Instant>,
}

impl Backend {
    /// Without a check it is up, with one it is unknown until the check speaks.
    pub fn new(config: Config) -> Self {
        let (health, detail) = match config.check {
            Some(_) => (Health::Unknown, "no result yet".to_owned()),
            None => (Health::Up, "no check".to_owned()),
        };
        Self {
            config,
            opinion: Mutex::new(Opinion { health, detail, suspect_until: None }),
            gone: watch::Sender::new(0),
            assigned: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            sessions_total: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    fn opinion(&self) -> std::sync::MutexGuard<'_, Opinion> {
        self.opinion.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// For the choice.
    pub fn standing(&self, now: Instant) -> Standing {
        let opinion = self.opinion();
        match opinion.health {
            Health::Down => Standing::Excluded,
            _ if opinion.suspect_until.is_some_and(|until| now < until) => Standing::Suspect,
            Health::Unknown => Standing::Unproven,
            Health::Up => Standing::Healthy,
        }
    }

    /// Tells when it goes down after this call. `None`: it is down already.
    pub fn watch(&self) -> Option<watch::Receiver<u64>> {
        let opinion = self.opinion();
        (opinion.health != Health::Down).then(|| self.gone.subscribe())
    }

    /// A session is about to connect: of a former suspect only this one, until it is known how it went.
    pub fn try_out(&self, now: Instant, connect_timeout: Duration) {
        let mut opinion = self.opinion();
        if opinion.suspect_until.is_some_and(|until| until <= now) {
            opinion.suspect_until = Some(now + connect_timeout);
        }
    }

    /// A connect succeeded.
    pub fn connected(&self) {
        self.opinion().suspect_until = None;
    }

    /// A connect got no answer.
    pub fn hung(&self, now: Instant) {
        self.opinion().suspect_until = Some(now + SUSPECT_FOR);
    }

    /// Takes a verdict. Gives the health before, if it is another now.
    pub fn apply(&self, verdict: &Verdict) -> Option<Health> {
        let mut opinion = self.opinion();
        opinion.detail.clone_from(&verdict.detail);
        let before = std::mem::replace(&mut opinion.health, verdict.health);
        if before == verdict.health {
            return None;
        }
        if verdict.health == Health::Up {
            opinion.suspect_until = None;
        }
        Some(before)
    }

    /// Sends its sessions away.
    pub fn send_away(&self) {
        self.gone.send_modify(|times| *times += 1);
    }

    /// What is.
    pub fn status(&self) -> BackendStatus {
        let opinion = self.opinion();
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BackendStatus {
            name: self.config.name.clone(),
            address: self.config.address,
            health: opinion.health,
            detail: opinion.detail.clone(),
            sessions: load(&self.sessions),
            sessions_total: load(&self.sessions_total),
            connect_errors: load(&self.connect_errors),
            bytes_in: load(&self.bytes_in),
            bytes_out: load(&self.bytes_out),
        }
    }
}

/// Adds one to a number as long as it lives.
#[derive(Debug)]
pub struct Counted<'a>(&'a AtomicU64);

impl<'a> Counted<'a> {
    /// Adds one.
    pub fn new(counter: &'a AtomicU64) -> Self {
        counter.fetch_add(1, Ordering::Relaxed);
        Self(counter)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
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
        let Some(check) = &backend.check else { return Ok(None) };
        verdicts(check).map(Some).ok_or_else(|| ForwardError::UnknownCheck {
            place: backend.place.clone(),
            listener: listener.name.clone(),
            backend: backend.name.clone(),
            check: check.clone(),
        })
    };
    listener.backends.iter().map(receiver).collect()
}
