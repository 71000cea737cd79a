//! Listeners that the kernel carries: destination NAT by nftables, in a table of our own.
//!
//! The control side is that of every listener ([`super::listener::Service`]): its checks, weights and drains say what
//! each backend gets, and a change of that becomes one batch of requests that takes effect at once. What is open goes
//! on with the backend it has, but for the sessions of a backend that its check calls down: connection tracking
//! forgets them, and their clients are told (`nudge`).
//!
//! - One table, `inet vipd-forward`. It is taken over when it was left by a former life, and goes at the end.
//! - Only what comes to an address that this host has is carried: where the VIP is elsewhere the rules do nothing.
//! - Forwarding is switched on while it is needed, and restored; what is not ours is then not forwarded.
//! - New sessions are counted by nftables, open ones and bytes (with the headers of IP) by connection tracking: no rule
//!   sees an established packet, but where forwarding was off.
//! - What others change of it is put back within a second.

mod conntrack;
mod counting;
mod forwarding;
mod nudge;
mod pool;
mod ruler;
mod rules;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::ready::{Backups, Listener, Mode, NoBackend};
use tokio::sync::Notify;
use tracing::{info, warn};

use self::pool::{Member, Share};
use self::ruler::{Ending, Ruler};
use super::listener::Service;
use crate::netlink::worker::Worker;
use crate::observe::event::{EventSender, Health, Kind};
use crate::observe::status::{Admin, BackendStatus};

/// How often weights and drains are looked at; verdicts are acted on at once.
const LOOK: Duration = Duration::from_millis(250);
/// Least time between two notices about trouble.
const NOTICE_GAP: Duration = Duration::from_secs(10);
/// A status does not wait longer for the counters.
const COUNTERS_LIMIT: Duration = Duration::from_millis(500);

/// The kernel's part of the forwarder.
#[derive(Debug)]
pub struct KernelPath {
    ruler: Worker<Ruler>,
    running: Mutex<Vec<Arc<Service>>>,
    /// One change at a time; what was told to the ruler.
    told: tokio::sync::Mutex<BTreeMap<String, rules::Service>>,
    changed: Notify,
    events: EventSender,
}

/// Whether the kernel carries it.
pub fn carries(listener: &Listener) -> bool {
    matches!(listener.policy.mode, Mode::Kernel { .. })
}

impl KernelPath {
    /// Starts the thread that talks to the kernel; it removes what a former life has left.
    ///
    /// # Errors
    ///
    /// No thread.
    pub fn start(events: EventSender) -> io::Result<Arc<Self>> {
        let path = Self {
            ruler: Worker::start("vipd-nat", Ruler::default)?,
            running: Mutex::default(),
            told: tokio::sync::Mutex::default(),
            changed: Notify::new(),
            events,
        };
        Ok(Arc::new(path))
    }

    /// Whether the kernel would carry this listener.
    ///
    /// # Errors
    ///
    /// Why not, and what to do.
    pub async fn try_out(&self, listener: &Listener) -> Result<(), String> {
        let members = listener.backends.iter().map(|backend| Member {
            name: backend.name.clone(),
            address: backend.address,
            share: Share::New(1),
        });
        let (name, service) = (listener.name.clone(), translated(listener, members.collect()));
        self.ask(move |ruler| ruler.try_out(&name, &service)).await
    }

    /// The kernel carries exactly these from now on.
    ///
    /// # Errors
    ///
    /// The kernel refuses: everything is as before.
    pub async fn replace(&self, services: Vec<Arc<Service>>) -> Result<(), String> {
        let mut told = self.told.lock().await;
        let wanted: BTreeMap<_, _> =
            services.iter().map(|service| (service.config.name.clone(), rules_of(service))).collect();
        if wanted.is_empty() && told.is_empty() {
            // Not only when there was a listener: a former life may have had one, of a process with the right to it.
            return if may_rule() { self.ask(Ruler::tidy).await } else { Ok(()) };
        }
        let asked = wanted.clone();
        let endings = self.ask(move |ruler| ruler.replace(asked)).await?;
        *told = wanted;
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = services;
        drop(told);
        self.end(endings).await;
        self.changed.notify_one();
        Ok(())
    }

    /// A verdict came.
    pub fn changed(&self) {
        self.changed.notify_one();
    }

    fn services(&self) -> Vec<Arc<Service>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Has the rules follow what the listeners say, for ever.
    pub async fn follow(self: Arc<Self>) {
        let mut noticed: Option<Instant> = None;
        let mut said: Option<Instant> = None;
        let mut again: Vec<Ending> = Vec::new();
        loop {
            if self.services().is_empty() {
                self.changed.notified().await;
            } else {
                // Also when nothing is told: weights grow with time, and an operator changes them.
                let _ = tokio::time::timeout(LOOK, self.changed.notified()).await;
            }
            let tended = self.ask(Ruler::tend).await;
            if let Ok(found) = &tended
                && !found.is_empty()
                && said.is_none_or(|at| at.elapsed() > NOTICE_GAP)
            {
                said = Some(Instant::now());
                self.events.send(Kind::Notice { text: found.join("; ") });
            }
            // A session may have been made by the rules before while those of its backend were ended.
            self.end(std::mem::take(&mut again)).await;
            let updated = self.update(&mut again).await;
            self.end(again.clone()).await;
            if let Err(error) = tended.map(drop).and(updated)
                && noticed.is_none_or(|at| at.elapsed() > NOTICE_GAP)
            {
                noticed = Some(Instant::now());
                let text = format!("the kernel path is not up to date, and is tried again: {error}");
                self.events.send(Kind::Notice { text });
            }
        }
    }

    async fn update(&self, endings: &mut Vec<Ending>) -> Result<(), String> {
        let mut told = self.told.lock().await;
        for service in self.services() {
            let (name, rules) = (service.config.name.clone(), rules_of(&service));
            if told.get(&name) == Some(&rules) {
                continue;
            }
            let asked = (name.clone(), rules.clone());
            endings.extend(self.ask(move |ruler| ruler.set(&asked.0, asked.1)).await?);
            told.insert(name, rules);
        }
        Ok(())
    }

    async fn end(&self, endings: Vec<Ending>) {
        if endings.is_empty() {
            return;
        }
        match self.ask(move |ruler| ruler.end(&endings)).await {
            Ok(0) => {}
            Ok(sessions) => info!(sessions, "sessions of backends that are down are ended in the kernel"),
            Err(error) => warn!(error, "sessions of backends that are down could not be ended in the kernel"),
        }
    }

    /// An address has left this host: its sessions end.
    pub async fn left(&self, address: IpAddr) {
        if self.services().is_empty() {
            return;
        }
        match self.ask(move |ruler| ruler.left(address)).await {
            Ok(0) => {}
            Ok(sessions) => {
                info!(%address, sessions, "virtual address left, its sessions in the kernel are ended")
            }
            Err(error) => {
                warn!(%address, error, "sessions of an address that left could not be ended in the kernel")
            }
        }
    }

    /// Brings the counters of every listener up to date.
    pub async fn count(&self) {
        let services = self.services();
        if services.is_empty() {
            return;
        }
        let looked = match tokio::time::timeout(COUNTERS_LIMIT, self.ask(Ruler::look)).await {
            Ok(Ok(looked)) => looked,
            Ok(Err(error)) => return warn!(error, "no counters of the kernel path"),
            Err(_) => return,
        };
        for service in services {
            let Some((refused, backends)) = looked.get(&service.config.name) else { continue };
            let (mut open, mut sessions) = (0, 0);
            for backend in &service.backends {
                let Some(carried) = backends.get(&backend.config.name) else { continue };
                let counts = backend.counts();
                counts.sessions.store(carried.open, Ordering::Relaxed);
                counts.sessions_max.fetch_max(carried.open, Ordering::Relaxed);
                counts.sessions_total.store(carried.sessions, Ordering::Relaxed);
                // A flow that ends while it is looked for is seen neither as open nor as ended.
                counts.bytes_in.fetch_max(carried.bytes_in, Ordering::Relaxed);
                counts.bytes_out.fetch_max(carried.bytes_out, Ordering::Relaxed);
                open += carried.open;
                sessions += carried.sessions;
            }
            service.tally().sessions.store(open, Ordering::Relaxed);
            service.tally().sessions_max.fetch_max(open, Ordering::Relaxed);
            service.tally().sessions_total.store(sessions + refused, Ordering::Relaxed);
            service.tally().refused.store(*refused, Ordering::Relaxed);
        }
    }

    /// The table goes, and forwarding is as it was.
    pub async fn stop(&self) {
        if let Err(error) = self.ask(Ruler::clear).await {
            warn!(error, "the table of the kernel path stays");
        }
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Ruler) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        self.ruler.run(job).await.map_err(|error| error.to_string())?
    }
}

fn rules_of(service: &Service) -> rules::Service {
    let backends: Vec<BackendStatus> = service.status().backends;
    translated(&service.config, members(&service.config, &backends, service.quorum_is_lost()))
}

fn translated(listener: &Listener, members: Vec<Member>) -> rules::Service {
    rules::Service {
        bind: listener.bind.clone(),
        marks: listener.policy.marks.clone(),
        is_ipv6: listener.is_ipv6(),
        protocol: listener.policy.protocol,
        balance: listener.balance,
        source_nat: matches!(listener.policy.mode, Mode::Kernel { source_nat: true }),
        persistence: listener.policy.persistence,
        members,
    }
}

/// What each backend gets: only the best that there are get new sessions, backups come last. While the quorum is lost
/// backups alone are used, if there are any that can be.
fn members(listener: &Listener, backends: &[BackendStatus], quorum_is_lost: bool) -> Vec<Member> {
    let ranks: Vec<Option<u8>> =
        listener.backends.iter().zip(backends).map(|(config, now)| rank(listener, config, now)).collect();
    let of_backups = listener.backends.iter().zip(&ranks).filter(|(config, _)| config.policy.backup);
    let best_backup = of_backups.filter_map(|(_, rank)| *rank).min().filter(|_| quorum_is_lost);
    let best = best_backup.or(ranks.iter().flatten().min().copied());
    let closes_backups = listener.policy.close_backup_sessions && best.is_some_and(|best| best < BACKUP);
    let is_first = |index: usize| {
        let alone = listener.policy.backups == Backups::First && listener.backends[index].policy.backup;
        !alone || ranks.iter().position(|rank| *rank == best) == Some(index)
    };
    let tries_all = best.is_none() && listener.policy.no_backend == NoBackend::TryAll;
    let share = |index: usize, now: &BackendStatus, config: &config::ready::Backend| {
        let rank = ranks[index];
        if config.policy.backup && closes_backups {
            return Share::Ended;
        }
        if now.admin == Admin::Maint {
            return Share::None;
        }
        if rank.is_some() {
            return if rank == best && is_first(index) {
                Share::New(now.effective_weight)
            } else {
                Share::None
            };
        }
        match now.health {
            Health::Down if tries_all => Share::New(now.effective_weight.max(1)),
            Health::Down if config.policy.inhibit_on_failure => Share::Kept,
            Health::Down if listener.close_sessions_on_backend_down => Share::Ended,
            Health::Down => Share::None,
            Health::Up | Health::Unknown => Share::Kept,
        }
    };
    let member = |(index, (config, now)): (usize, (&config::ready::Backend, &BackendStatus))| Member {
        name: config.name.clone(),
        address: config.address,
        share: share(index, now, config),
    };
    listener.backends.iter().zip(backends).enumerate().map(member).collect()
}

/// Least rank of a backup.
const BACKUP: u8 = 2;

/// Smaller is better; `None`: no new sessions.
fn rank(listener: &Listener, config: &config::ready::Backend, now: &BackendStatus) -> Option<u8> {
    if now.admin != Admin::Ready || now.effective_weight == 0 {
        return None;
    }
    let rank = match now.health {
        Health::Up => 0,
        Health::Unknown if config.policy.down_at_start => return None,
        Health::Unknown => 1,
        Health::Down => return None,
    };
    Some(match (config.policy.backup, listener.policy.backups) {
        (false, _) => rank,
        (true, Backups::All) => rank + BACKUP,
        (true, Backups::First) => BACKUP,
    })
}

/// Whether this process has CAP_NET_ADMIN (`linux/capability.h`: 12).
fn may_rule() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_none_or(|bits| bits >> 12 & 1 == 1)
}

#[cfg(test)]
mod tests;
