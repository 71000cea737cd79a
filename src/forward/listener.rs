//! The listening side of one service: bind, choose for the data path, tell what it tells.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::ready::{Backend as BackendConfig, Listener};
use nix::errno::Errno;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use tokio::sync::watch;
use tracing::{debug, warn};

use super::backend::Backend;
use super::balance::{Balancer, Candidate, Standing};
use super::beside::{self, Refusal};
use super::path::{
    Answer, Ask, Choice, Connect, End, Ended, Keepalive, Path, Settings, Sockets, Steer, Tally, Which,
};
use super::{ForwardError, access, headers, holder, kernel, path};
use crate::check::Verdict;
use crate::observe::event::{EventSender, Health, Kind};
use crate::observe::status::{Carrier, ListenerStatus};

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
    pub(super) tally: Arc<Tally>,
    turns: Mutex<Turns>,
    events: EventSender,
    noticed: Mutex<Option<Instant>>,
    bad_headers: headers::BadHeaders,
}

/// What choosing needs; the list is here so that it is allocated once.
#[derive(Debug)]
struct Turns {
    balancer: Balancer,
    candidates: Vec<Candidate>,
}

impl Service {
    /// Nothing runs yet.
    pub fn new(config: Listener, sockets: &[Sockets], events: EventSender) -> Self {
        let backends: Vec<_> = config.backends.iter().map(BackendConfig::clone).map(Backend::new).collect();
        let balancer = Balancer::new(config.balance, backends.len());
        Self {
            turns: Mutex::new(Turns { balancer, candidates: Vec::new() }),
            carrier: match sockets.iter().find_map(Sockets::way) {
                _ if kernel::carries(&config) => Carrier::Kernel,
                Some(way) => way.carrier(),
                None => Carrier::Proxy,
            },
            bound: match kernel::carries(&config) {
                true => config.bind.clone(),
                false => sockets.iter().map(Sockets::address).collect(),
            },
            config,
            backends,
            tally: Arc::default(),
            events,
            noticed: Mutex::default(),
            bad_headers: headers::BadHeaders::default(),
        }
    }

    /// What the data path is to serve.
    pub fn for_the_path(self: &Arc<Self>) -> Arc<path::Service> {
        Arc::new(path::Service {
            settings: settings(&self.config),
            backends: self.backends.iter().map(|backend| backend.counts.clone()).collect(),
            tally: self.tally.clone(),
            steer: self.clone(),
        })
    }

    /// Sessions that are open.
    pub fn sessions(&self) -> u64 {
        self.tally.sessions.load(Ordering::Relaxed)
    }

    /// Follows the verdicts on one backend until the check is gone.
    pub async fn follow(
        self: Arc<Self>,
        path: Arc<Path>,
        index: usize,
        mut verdict: watch::Receiver<Verdict>,
    ) {
        loop {
            let now = verdict.borrow_and_update().clone();
            self.apply(&path, index, &now);
            if verdict.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes a verdict on one backend, and tells of a change.
    pub fn apply(&self, path: &Path, index: usize, verdict: &Verdict) {
        let backend = &self.backends[index];
        let Some(from) = backend.apply(verdict) else { return };
        let mut sessions_closed = 0;
        if verdict.health == Health::Down {
            if self.config.close_sessions_on_backend_down {
                sessions_closed = backend.counts.sessions.load(Ordering::Relaxed);
                drop(path.end(Which::Backend(backend.counts.clone()), End::BackendDown));
            }
            path.redispatch(&backend.counts);
        }
        self.events.send(Kind::Backend {
            listener: self.config.name.clone(),
            backend: backend.config.name.clone(),
            from,
            to: verdict.health,
            detail: verdict.detail.clone(),
            sessions_closed,
        });
    }

    /// Says that this host lacks something, but not at every connection.
    fn notice_shortage(&self, what: &str, error: &io::Error) {
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
        let backends: Vec<_> = self.backends.iter().map(Backend::status).collect();
        let is_ruled = kernel::carries(&self.config);
        ListenerStatus {
            refuses: backends.iter().all(|backend| backend.health == Health::Down),
            name: self.config.name.clone(),
            bind: self.bound.clone(),
            sessions_max: load(&self.tally.sessions_max),
            sessions_limit: if is_ruled { 0 } else { self.config.max_sessions.into() },
            retries: load(&self.tally.retries),
            ended: End::WORDS
                .iter()
                .zip(&self.tally.ended)
                .map(|(word, count)| (*word, load(count)))
                .collect(),
            backends,
            sessions: load(&self.tally.sessions),
            sessions_total: load(&self.tally.sessions_total),
            refused: load(&self.tally.refused),
            accept_errors: load(&self.tally.accept_errors),
            carrier: self.carrier.clone(),
            ..ListenerStatus::default()
        }
    }
}

impl Steer for Service {
    fn choose(&self, ask: &Ask<'_>) -> Answer {
        let now = Instant::now();
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let Turns { balancer, candidates } = &mut *turns;
        candidates.clear();
        candidates.extend(self.backends.iter().map(|backend| candidate(backend, now)));
        for index in ask.tried {
            candidates[usize::from(*index)].standing = Standing::Excluded;
        }
        let Some(index) = balancer.choose(candidates) else { return Answer::Nobody };
        let backend = &self.backends[index];
        backend.try_out(now, self.config.connect_timeout);
        backend.counts.assigned.fetch_add(1, Ordering::Relaxed);
        Answer::Go(Choice { backend: index, patience: backend.patience(), tag: 0 })
    }

    fn vacated(&self, _backend: usize) {}

    fn left(&self, _ticket: u64) {}

    fn connected(&self, backend: usize, how: Connect) {
        self.backends[backend].connected(how);
    }

    fn shortage(&self, doing: &'static str, error: Errno) {
        self.notice_shortage(doing, &error.into());
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn backend_name(&self, backend: usize) -> &str {
        self.backends.get(backend).map_or("", |backend| &backend.config.name)
    }

    fn ended(&self, ended: &Ended<'_>) {
        if let End::Header(fault) = ended.end
            && ended.end.is_refusal()
            && let Some(text) = self.bad_headers.notice(&self.config.name, ended.peer(), fault)
        {
            self.events.send(Kind::Notice { text });
        }
        if let Some(kind) = self.config.policy.access_log {
            access::log(kind, self, ended);
        }
        if ended.end != End::Complete {
            debug!(
                listener = self.config.name, client.addr = ?ended.client(),
                elapsed_ms = ended.lasted.as_millis(), reason = %ended.end, "session cut"
            );
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

fn candidate(backend: &Backend, now: Instant) -> Candidate {
    Candidate {
        standing: backend.standing(now),
        weight: backend.config.weight,
        sessions: backend.counts.assigned.load(Ordering::Relaxed),
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
