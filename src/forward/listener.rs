//! The control side of one service: its backends, what it keeps over a reload, what an operator asks of it and sees.

use std::hash::BuildHasher as _;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use config::ready::Listener;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::{Notify, watch};

use super::backend::Backend;
use super::balance::{Balancer, Candidate, Standing};
use super::bind;
use super::life::Life;
use super::orders::{self, Order};
use super::path::{End, Path, Sockets, Tally};
use super::persistence::{ENTRIES, Table};
use super::programs::Programs;
use super::queue::Queue;
use super::quorum::Ability;
use super::{headers, kernel, path};
use crate::observe::event::{EventSender, Health, Kind};
use crate::observe::status::{Admin, Carrier, ListenerStatus};

/// Least time between two notices of the same listener about the same kind of trouble.
const NOTICE_GAP: Duration = Duration::from_secs(10);

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
    pub(super) programs: Programs,
    pub(super) events: EventSender,
    noticed: Mutex<Option<Instant>>,
    pub(super) bad_headers: headers::BadHeaders,
    /// Somebody should look at what sessions met.
    pub(super) alarm: Notify,
    /// A backend came back.
    pub(super) back: Notify,
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
            settings: bind::settings(&self.config),
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
