//! One backend as it is configured, with what is known of it and what an operator wants of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use config::ready::{Backend as Config, Listener, NoBackend};

use super::balance::{Candidate, Standing, WHOLE};
use super::life::Life;
use super::orders::Orders;
use super::{ForwardError, path};
use crate::check::{Mode, Subject};
use crate::observe::event::Health;
use crate::observe::status::{Admin, BackendStatus};

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
            _ if life.suspected(now).is_some() => Standing::Suspect,
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
        if self.slow_start.is_zero() {
            return None;
        }
        self.slow_start.checked_sub(self.life.back_for(now)?).filter(|rest| !rest.is_zero())
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
            suspected: self.life.suspected(now),
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
