//! What a listener does when its checks or sessions say something of a backend: it tells of it, closes sessions, runs
//! programs, and judges whether its clients are served.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use config::ready::Quorum;

use super::backend::Backend;
use super::life::Change;
use super::listener::Service;
use super::path::{End, Path, Which};
use super::quorum;
use crate::check::Subject;
use crate::observe::event::{Health, Kind};
use crate::observe::status::Admin;

/// From one look at a backend that is in doubt to the next.
const DOUBT: Duration = Duration::from_millis(250);

impl Service {
    /// Takes what a check says now of a backend.
    pub fn hear(&self, path: &Path, index: usize, check: usize, subject: &Subject) {
        let (verdict, pulse) = (subject.verdict.borrow().clone(), *subject.pulse.borrow());
        let life = &self.backends[index].life;
        let advice = life.advice();
        let changes = [life.apply(check, &verdict), life.pulse(check, pulse)];
        if life.advice() != advice {
            self.judge();
            self.serve_queue();
        }
        for change in changes.into_iter().flatten() {
            self.changed(path, index, change);
        }
    }

    /// Follows one check of a backend until it is gone.
    pub async fn follow(self: Arc<Self>, path: Arc<Path>, index: usize, check: usize, mut subject: Subject) {
        loop {
            subject.verdict.mark_unchanged();
            subject.pulse.mark_unchanged();
            self.hear(&path, index, check, &subject);
            let gone = tokio::select! {
                changed = subject.verdict.changed() => changed.is_err(),
                changed = subject.pulse.changed() => changed.is_err(),
            };
            if gone {
                return;
            }
        }
    }

    /// Looks after backends that are in doubt.
    pub async fn tend(self: Arc<Self>, path: Arc<Path>, subjects: Vec<Vec<Subject>>) {
        loop {
            self.alarm.notified().await;
            loop {
                for (index, (backend, subjects)) in self.backends.iter().zip(&subjects).enumerate() {
                    if backend.life.is_silent() {
                        subjects.iter().for_each(Subject::hurry);
                    }
                    if let Some(change) = backend.life.look(&self.config, Instant::now()) {
                        self.changed(&path, index, change);
                    }
                }
                if !self.backends.iter().any(|backend| backend.life.in_doubt()) {
                    break;
                }
                tokio::time::sleep(DOUBT).await;
            }
        }
    }

    /// Acts on a change of a backend's health, and tells of it.
    fn changed(&self, path: &Path, index: usize, change: Change) {
        let backend = &self.backends[index];
        let policy = &backend.config.policy;
        let Change { from, to, detail } = change;
        let mut sessions_closed = 0;
        if to == Health::Down {
            if self.config.close_sessions_on_backend_down && !policy.inhibit_on_failure {
                sessions_closed = self.close_sessions(path, backend, End::BackendDown);
            }
            path.redispatch(backend.counts());
        }
        self.events.send(Kind::Backend {
            listener: self.config.name.clone(),
            backend: backend.config.name.clone(),
            from,
            to,
            detail,
            sessions_closed,
        });
        let command = match (from, to) {
            (_, Health::Down) => policy.notify_down.as_ref(),
            (Health::Down, Health::Up) => policy.notify_up.as_ref(),
            (Health::Unknown, Health::Up) if policy.down_at_start => policy.notify_up.as_ref(),
            _ => None,
        };
        if let Some(command) = command {
            self.programs.run(command);
        }
        if to == Health::Up && backend.is_usable() {
            self.came_back(path, backend, from == Health::Down);
        }
        self.judge();
        self.serve_queue();
    }

    pub(super) fn close_sessions(&self, path: &Path, backend: &Backend, end: End) -> u64 {
        let open = backend.counts().sessions.load(Ordering::Relaxed);
        // Nobody waits for it.
        drop(path.end(Which::Backend(backend.counts().clone()), end));
        open
    }

    pub(super) fn came_back(&self, path: &Path, backend: &Backend, was_down: bool) {
        if backend.config.policy.backup || !self.is_current() {
            return;
        }
        if self.config.policy.close_backup_sessions {
            for backup in self.backends.iter().filter(|backend| backend.config.policy.backup) {
                self.close_sessions(path, backup, End::Closed);
            }
        }
        if was_down {
            self.back.notify_one();
        }
    }

    /// No other configuration has taken over.
    fn is_current(&self) -> bool {
        std::ptr::eq(self.kept.places().current.as_ptr(), self)
    }

    /// Quorum, and whether clients are served.
    pub(super) fn judge(&self) {
        if !self.is_current() {
            return;
        }
        let regular = || self.backends.iter().filter(|backend| !backend.config.policy.backup);
        let mut is_lost = false;
        if let Some(quorum) = &self.config.policy.quorum {
            let weight: u64 = regular().filter(|b| b.is_usable()).map(|b| u64::from(b.weight())).sum();
            let mut reached = self.kept.quorum.lock().unwrap_or_else(PoisonError::into_inner);
            let now = quorum::is_reached(quorum, *reached, weight);
            if reached.replace(now) != Some(now) {
                self.tell_quorum(quorum, now, weight);
            }
            is_lost = !now;
        }
        let health = |backend: &Backend| match backend.life.health() {
            _ if backend.admin() != Admin::Ready || backend.weight() == 0 => Health::Down,
            health => health,
        };
        let now = quorum::ability(regular().map(health), is_lost);
        self.kept.ability.send_if_modified(|before| {
            let differs = *before != now;
            *before = now;
            differs
        });
    }

    fn tell_quorum(&self, quorum: &Quorum, reached: bool, weight: u64) {
        self.events.send(Kind::Quorum {
            listener: self.config.name.clone(),
            reached,
            weight,
            least: quorum.least,
        });
        if let Some(command) = if reached { &quorum.up } else { &quorum.down } {
            self.programs.run(command);
        }
    }

    /// What is run at the end of the daemon.
    pub fn at_end(&self) {
        let Some(quorum) = self.config.policy.quorum.as_ref().filter(|quorum| quorum.at_end) else { return };
        let up = self.backends.iter().filter(|backend| !backend.is_down());
        up.filter_map(|backend| backend.config.policy.notify_down.as_ref())
            .for_each(|c| self.programs.run(c));
        let reached = *self.kept.quorum.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(command), Some(true)) = (&quorum.down, reached) {
            self.programs.run(command);
        }
    }
}
