//! The listening side of one service: bind, choose for the data path, tell what it tells.

use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use config::ready::{Listener, Quorum};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{Notify, watch};
use tracing::warn;

use super::backend::{Backend, Change, Life};
use super::balance::{Balancer, Candidate, Standing};
use super::beside::{self, Refusal};
use super::orders::{self, Order};
use super::path::{End, Keepalive, Path, Settings, Sockets, Tally, Which};
use super::persistence::{ENTRIES, Table};
use super::programs::Programs;
use super::queue::Queue;
use super::quorum::{self, Ability};
use super::{ForwardError, headers, holder, kernel, path};
use crate::check::Subject;
use crate::observe::event::{EventSender, Health, Kind};
use crate::observe::status::{Admin, Carrier, ListenerStatus};

/// From one look at a backend that is in doubt to the next.
const DOUBT: Duration = Duration::from_millis(250);

/// Least time between two notices of the same listener about the same kind of trouble.
const NOTICE_GAP: Duration = Duration::from_secs(10);

/// Descriptors beside two for each session: listening sockets, VRRP sockets, pipes, probes, logs.
const OTHER_DESCRIPTORS: u64 = 128;

/// One listener while the forwarder runs: the control side of a [`path::Service`].
#[derive(Debug)]
pub struct Service {
    /// As configured.
    pub config: Listener,
    /// Addresses with the ports that the kernel gave.
    bound: Vec<SocketAddr>,
    carrier: Carrier,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
    /// What outlives this configuration.
    pub(super) kept: Arc<Kept>,
    /// Numbers the configurations that had `kept`.
    pub(super) generation: u64,
    pub(super) chooser: Mutex<Chooser>,
    /// What the data path has of this.
    pub(super) served: OnceLock<Weak<path::Service>>,
    programs: Programs,
    pub(super) events: EventSender,
    noticed: Mutex<Option<Instant>>,
    pub(super) bad_headers: headers::BadHeaders,
    /// Somebody should look at what sessions met.
    pub(super) alarm: Notify,
    /// A backend came back.
    back: Notify,
}

/// What a listener keeps from one configuration to the next, as long as its name stays.
#[derive(Debug)]
pub(super) struct Kept {
    pub(super) tally: Arc<Tally>,
    /// Sessions in the queue, for those who only want to know that.
    pub(super) waiting: AtomicUsize,
    pub(super) places: Mutex<Places>,
    /// `None`: there is none, or nobody has looked.
    pub(super) quorum: Mutex<Option<bool>>,
    pub(super) ability: watch::Sender<Ability>,
}

/// Who waits for a place, and who had which one.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) queue: Queue,
    pub(super) clients: Table<Arc<Life>>,
    /// Who gives out places.
    pub(super) current: Weak<Service>,
}

/// What choosing needs; the list is here so that it is allocated once.
#[derive(Debug)]
pub(super) struct Chooser {
    pub(super) balancer: Balancer,
    pub(super) candidates: Vec<Candidate>,
}

impl Kept {
    fn new() -> Self {
        let nothing = Ability { health: Health::Unknown, detail: "nothing is known yet".to_owned() };
        let places = Places { queue: Queue::default(), clients: Table::new(ENTRIES), current: Weak::new() };
        Self {
            tally: Arc::default(),
            waiting: AtomicUsize::new(0),
            places: Mutex::new(places),
            quorum: Mutex::default(),
            ability: watch::Sender::new(nothing),
        }
    }

    pub(super) fn places(&self) -> MutexGuard<'_, Places> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So that whoever gives a place back sees that somebody waits, or whoever waits sees the place.
    pub(super) fn count(&self, queue: &Queue) {
        self.waiting.store(queue.len(), Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }
}

impl Service {
    /// Nothing runs yet. `before`: the listener of this name in the configuration before.
    pub fn new(
        config: Listener,
        sockets: &[Sockets],
        before: Option<&Self>,
        programs: Programs,
        events: EventSender,
    ) -> Self {
        let known = |name: &str| before?.backends.iter().find(|backend| backend.config.name == name);
        let backends: Vec<_> = config
            .backends
            .iter()
            .map(|backend| Backend::new(backend.clone(), &config, known(&backend.name)))
            .collect();
        let names = config.backends.iter().map(|backend| backend.name.as_str());
        let seed = std::collections::hash_map::RandomState::new().hash_one(&config.name);
        let balancer = Balancer::new(config.balance, names, seed);
        Self {
            chooser: Mutex::new(Chooser { balancer, candidates: Vec::new() }),
            bound: match kernel::carries(&config) {
                true => config.bind.clone(),
                false => sockets.iter().map(Sockets::address).collect(),
            },
            kept: before.map_or_else(|| Arc::new(Kept::new()), |before| before.kept.clone()),
            generation: before.map_or(0, |before| before.generation + 1),
            carrier: match sockets.iter().find_map(Sockets::way) {
                _ if kernel::carries(&config) => Carrier::Kernel,
                Some(way) => way.carrier(),
                None => Carrier::Proxy,
            },
            config,
            backends,
            served: OnceLock::new(),
            programs,
            events,
            noticed: Mutex::default(),
            bad_headers: headers::BadHeaders::default(),
            alarm: Notify::new(),
            back: Notify::new(),
        }
    }

    /// What the data path is to serve.
    pub fn for_the_path(self: &Arc<Self>) -> Arc<path::Service> {
        let served = Arc::new(path::Service {
            settings: settings(&self.config),
            backends: self.backends.iter().map(|backend| backend.counts().clone()).collect(),
            tally: self.kept.tally.clone(),
            steer: self.clone(),
        });
        // Called once.
        let _ = self.served.set(Arc::downgrade(&served));
        served
    }

    /// From now on this one gives out places, also to those who wait since before.
    pub fn takes_over(self: &Arc<Self>) {
        self.kept.places().current = Arc::downgrade(self);
        self.judge();
        self.serve_queue();
    }

    /// What it has carried.
    pub fn tally(&self) -> &Tally {
        &self.kept.tally
    }

    /// Its backends have the checks of this configuration from now on.
    pub fn is_checked(&self) {
        self.backends.iter().for_each(|backend| backend.life.is_checked_by(&backend.config));
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> u64 {
        self.kept.tally.sessions.load(Ordering::Relaxed)
    }

    /// Whether clients are served, now and whenever that changes. Outlives reloads that keep the listener's name.
    pub fn ability(&self) -> watch::Receiver<Ability> {
        self.kept.ability.subscribe()
    }

    /// Weights by which sessions are shared now; 0: it takes none, or is a backup.
    pub fn weights(&self) -> Vec<u64> {
        let weight = |backend: &Backend| match backend.is_usable() && !backend.config.policy.backup {
            true => backend.weight().into(),
            false => 0,
        };
        self.backends.iter().map(weight).collect()
    }

    /// Returns when a backend has come back.
    pub async fn wait_for_return(&self) {
        self.back.notified().await;
    }

    // Health.

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

    fn close_sessions(&self, path: &Path, backend: &Backend, end: End) -> u64 {
        let open = backend.counts().sessions.load(Ordering::Relaxed);
        // Nobody waits for it.
        drop(path.end(Which::Backend(backend.counts().clone()), end));
        open
    }

    fn came_back(&self, path: &Path, backend: &Backend, was_down: bool) {
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
    fn judge(&self) {
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

    /// Does what an operator wants of a backend. Gives what that means, in words.
    pub fn order(&self, path: &Path, index: usize, order: Order) -> String {
        let backend = &self.backends[index];
        let before = backend.admin();
        backend.orders.give(order, backend.config.weight);
        let admin = backend.admin();
        let mut sessions_closed = 0;
        if admin == Admin::Maint && before != admin {
            // What the kernel carries goes on.
            if self.config.close_sessions_on_backend_down && !kernel::carries(&self.config) {
                sessions_closed = self.close_sessions(path, backend, End::Closed);
            }
            path.redispatch(backend.counts());
        }
        if admin == Admin::Ready && before != admin {
            backend.life.is_back(Instant::now());
            if backend.is_usable() {
                self.came_back(path, backend, true);
            }
        }
        self.judge();
        self.serve_queue();
        let open = backend.counts().sessions.load(Ordering::Relaxed);
        let said = orders::answer(order, open, sessions_closed, backend);
        self.events.send(Kind::Ordered {
            listener: self.config.name.clone(),
            backend: backend.config.name.clone(),
            order: said.clone(),
        });
        format!("backend {}/{} {said}", self.config.name, backend.config.name)
    }

    pub(super) fn error_limit(&self) -> u32 {
        self.config.policy.observe.map_or(u32::MAX, |observe| observe.error_limit)
    }

    /// Says that this host lacks something, but not at every connection.
    pub(super) fn notice_shortage(&self, what: &str, error: &io::Error) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.is_some_and(|at| at.elapsed() < NOTICE_GAP) {
            return;
        }
        *noticed = Some(Instant::now());
        let (listener, sessions) = (&self.config.name, self.sessions());
        let help = match error.raw_os_error() {
            Some(libc::EMFILE) => {
                let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
                format!("the process may hold {limit} descriptors: raise LimitNOFILE= or lower max_sessions")
            }
            Some(libc::ENFILE) => "the host is out of descriptors: raise fs.file-max".to_owned(),
            Some(libc::EADDRNOTAVAIL) => {
                "no local port is free: widen net.ipv4.ip_local_port_range".to_owned()
            }
            Some(libc::EPERM) => "a foreign address needs CAP_NET_ADMIN".to_owned(),
            _ => "the kernel is short of memory for sockets".to_owned(),
        };
        let text = format!(
            "listener {listener} cannot {what}: {error}; {sessions} sessions are open and go on; {help}"
        );
        self.events.send(Kind::Notice { text });
    }

    /// What is.
    pub fn status(&self) -> ListenerStatus {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let is_ruled = kernel::carries(&self.config);
        let tally = &self.kept.tally;
        let now = Instant::now();
        let takes_sessions = |backend: &Backend| {
            let candidate = backend.candidate(now);
            candidate.standing != Standing::Excluded && candidate.weight > 0
        };
        ListenerStatus {
            name: self.config.name.clone(),
            bind: self.bound.clone(),
            sessions_max: load(&tally.sessions_max),
            sessions_limit: if is_ruled { 0 } else { self.config.max_sessions.into() },
            retries: load(&tally.retries),
            ended: End::WORDS.iter().zip(&tally.ended).map(|(word, count)| (*word, load(count))).collect(),
            refuses: !self.backends.iter().any(takes_sessions),
            queue: self.kept.places().queue.status(),
            backends: self.backends.iter().map(Backend::status).collect(),
            sessions: load(&tally.sessions),
            sessions_total: load(&tally.sessions_total),
            refused: load(&tally.refused),
            accept_errors: load(&tally.accept_errors),
            carrier: self.carrier.clone(),
            ..ListenerStatus::default()
        }
    }
}

fn settings(config: &Listener) -> Settings {
    Settings {
        connect_timeout: config.connect_timeout,
        idle_timeout: config.idle_timeout,
        keepalive: config.keepalive.map(|keepalive| Keepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        user_timeout: config.user_timeout,
        max_sessions: config.max_sessions.max(1).into(),
        trusted: config.policy.accept_proxy.iter().map(headers::network).collect(),
        transparent: config.policy.transparent,
        logged: config.policy.access_log.is_some(),
    }
}

/// Every address of a listener, or none. Those that are bound `already` are taken as they are.
///
/// # Errors
///
/// The address that cannot be bound, and what to do about it.
pub fn bind_all(
    listener: &Listener,
    path: &Path,
    already: impl Fn(SocketAddr) -> Option<Sockets>,
    events: &EventSender,
) -> Result<Vec<Sockets>, ForwardError> {
    let settings = settings(listener);
    let sockets = |address: &SocketAddr| {
        let as_wanted = |sockets: &Sockets| beside::is_as_wanted(sockets, listener, *address);
        if let Some(sockets) = already(*address).filter(as_wanted) {
            return Ok(sockets);
        }
        let (place, name) = (listener.place.clone(), listener.name.clone());
        match beside::bind(path, listener, *address, &settings) {
            Ok((sockets, warning)) => {
                if let Some(text) = warning {
                    warn!(listener = name, "{text}");
                    events.send(Kind::Notice { text });
                }
                Ok(sockets)
            }
            Err(Refusal::Bind(source)) => Err(ForwardError::Listen {
                place,
                listener: name,
                address: *address,
                help: help(&source, *address),
                source,
            }),
            Err(Refusal::Beside(why)) => {
                Err(ForwardError::Beside { place, listener: name, address: *address, why })
            }
        }
    };
    listener.bind.iter().map(sockets).collect()
}

fn help(error: &io::Error, address: SocketAddr) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => match holder::of(address) {
            Some(holder) => format!("{holder} listens there: stop it, or choose another port"),
            None => format!(
                "something listens there (as root, `ss -ltnp 'sport = :{}'` says what): stop it, or choose another port",
                address.port()
            ),
        },
        Some(libc::EACCES) => format!(
            "ports below {} need CAP_NET_BIND_SERVICE: run as root, or give the capability to the service",
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .map_or_else(|_| "1024".to_owned(), |text| text.trim().to_owned())
        ),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) if address.is_ipv6() => {
            "is IPv6 disabled on this host (net.ipv6.conf.all.disable_ipv6)?".to_owned()
        }
        _ => "check the address, and whether the host has the resources".to_owned(),
    }
}

/// Says early, and once for the same number, what would otherwise be seen only at the busiest moment. How many are
/// needed.
pub fn warn_of_few_descriptors(listeners: &[Listener], said: u64, events: &EventSender) -> u64 {
    let proxied = listeners.iter().filter(|listener| !kernel::carries(listener));
    let needed = OTHER_DESCRIPTORS + proxied.map(|l| 2 * u64::from(l.max_sessions)).sum::<u64>();
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return needed };
    if !listeners.is_empty() && limit < needed && needed != said {
        warn!(limit, needed, "few descriptors");
        let text = format!(
            "the listeners' max_sessions need {needed} descriptors, the process may hold {limit}: \
             raise LimitNOFILE=, or lower max_sessions; until then connections wait when they run out"
        );
        events.send(Kind::Notice { text });
    }
    needed
}
