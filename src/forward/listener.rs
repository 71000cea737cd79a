//! The listening side of one service: bind, accept, hand over to [`session`].

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use config::ready::{Backend as BackendConfig, Listener};
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::time::{self, Instant};
use tracing::{debug, warn};

use super::backend::{Backend, Counted};
use super::balance::{Balancer, Candidate, Standing};
use super::vips::Vips;
use super::{ForwardError, holder, session};
use crate::check::Verdict;
use crate::observe::event::{EventSender, Health, Kind};
use crate::observe::status::ListenerStatus;

/// Connections that the kernel completes before we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Pause after an accept that failed for want of something that only time gives back.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Least time between two notices of the same listener about the same kind of trouble.
const NOTICE_GAP: Duration = Duration::from_secs(10);

/// Descriptors beside two for each session: listening sockets, VRRP sockets, pipes, probes, logs.
const OTHER_DESCRIPTORS: u64 = 128;

/// One listener while the forwarder runs.
#[derive(Debug)]
pub struct Service {
    /// As configured.
    pub config: Listener,
    /// Addresses with the ports that the kernel gave.
    bound: Vec<SocketAddr>,
    /// In the order of the configuration.
    pub backends: Vec<Backend>,
    /// Addresses whose sessions end when they leave.
    pub vips: Arc<Vips>,
    balancer: Mutex<Balancer>,
    events: EventSender,
    noticed: Mutex<Option<Instant>>,
    places: Arc<Semaphore>,
    /// Open now.
    pub sessions: AtomicU64,
    /// Accepted since the start.
    pub sessions_total: AtomicU64,
    /// Reset because no backend was to be had.
    pub refused: AtomicU64,
    /// Accepts (or sockets towards backends) that this host refused.
    pub accept_errors: AtomicU64,
}

/// A backend chosen for a session; counted as its load until dropped.
#[derive(Debug)]
pub struct Chosen<'a> {
    /// In [`Service::backends`].
    pub index: usize,
    /// The backend.
    pub backend: &'a Backend,
    /// Changes when the backend goes down.
    pub gone: watch::Receiver<u64>,
    _assigned: Counted<'a>,
}

impl Service {
    /// Nothing runs yet.
    pub fn new(config: Listener, sockets: &[Arc<TcpListener>], vips: Arc<Vips>, events: EventSender) -> Self {
        let backends: Vec<_> = config.backends.iter().map(BackendConfig::clone).map(Backend::new).collect();
        let places = usize::try_from(config.max_sessions).unwrap_or(usize::MAX);
        Self {
            balancer: Mutex::new(Balancer::new(config.balance, backends.len())),
            places: Arc::new(Semaphore::new(places.clamp(1, Semaphore::MAX_PERMITS))),
            bound: sockets.iter().filter_map(|socket| socket.local_addr().ok()).collect(),
            config,
            backends,
            vips,
            events,
            noticed: Mutex::default(),
            sessions: AtomicU64::new(0),
            sessions_total: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            accept_errors: AtomicU64::new(0),
        }
    }

    /// The backend for a session that has already tried those in `tried`.
    pub fn choose(&self, tried: &[usize]) -> Option<Chosen<'_>> {
        let now = Instant::now();
        let mut balancer = self.balancer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut candidates: Vec<_> = self.backends.iter().map(|backend| candidate(backend, now)).collect();
        for index in tried {
            candidates[*index].standing = Standing::Excluded;
        }
        loop {
            let index = balancer.choose(&candidates)?;
            let backend = &self.backends[index];
            // It may have gone down since it was looked at.
            let Some(gone) = backend.watch() else {
                candidates[index].standing = Standing::Excluded;
                continue;
            };
            backend.try_out(now, self.config.connect_timeout);
            return Some(Chosen { index, backend, gone, _assigned: Counted::new(&backend.assigned) });
        }
    }

    /// Follows the verdicts on one backend until the check is gone.
    pub async fn follow(self: Arc<Self>, index: usize, mut verdict: watch::Receiver<Verdict>) {
        loop {
            let now = verdict.borrow_and_update().clone();
            self.apply(index, &now);
            if verdict.changed().await.is_err() {
                return;
            }
        }
    }

    /// Takes a verdict on one backend, and tells of a change.
    pub fn apply(&self, index: usize, verdict: &Verdict) {
        let backend = &self.backends[index];
        let Some(from) = backend.apply(verdict) else { return };
        let mut sessions_closed = 0;
        if verdict.health == Health::Down {
            if self.config.close_sessions_on_backend_down {
                sessions_closed = backend.sessions.load(Ordering::Relaxed);
            }
            backend.send_away();
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

    /// Accepts until it is aborted. Each session holds a clone of `alive`.
    pub async fn accept(
        self: Arc<Self>,
        sockets: Vec<Arc<TcpListener>>,
        stopped: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) {
        let mut first = 0;
        loop {
            // With all places taken, connections wait in the kernel's queue.
            let Ok(place) = self.places.clone().acquire_owned().await else { return };
            first = (first + 1) % sockets.len();
            match accept_any(&sockets, first).await {
                Ok(client) => self.open(client, place, stopped.clone(), alive.clone()),
                Err(error) => {
                    self.accept_errors.fetch_add(1, Ordering::Relaxed);
                    if is_of_the_connection(&error) {
                        debug!(listener = self.config.name, %error, "a connection ended before it was accepted");
                    } else {
                        drop(place);
                        self.notice_shortage("accept connections", &error);
                        time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        }
    }

    fn open(
        self: &Arc<Self>,
        client: TcpStream,
        place: OwnedSemaphorePermit,
        stopped: watch::Receiver<bool>,
        alive: mpsc::Sender<()>,
    ) {
        let service = self.clone();
        self.sessions_total.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let counted = Counted::new(&service.sessions);
            session::run(&service, client, stopped).await;
            drop((counted, place, alive));
        });
    }

    /// Says that this host lacks something, but not at every connection.
    pub fn notice_shortage(&self, what: &str, error: &io::Error) {
        let mut noticed = self.noticed.lock().unwrap_or_else(PoisonError::into_inner);
        if noticed.is_some_and(|at| at.elapsed() < NOTICE_GAP) {
            return;
        }
        *noticed = Some(Instant::now());
        let (listener, sessions) = (&self.config.name, self.sessions.load(Ordering::Relaxed));
        let help = match error.raw_os_error() {
            Some(libc::EMFILE) => {
                let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE).unwrap_or_default();
                format!("the process may hold {limit} descriptors: raise LimitNOFILE= or lower max_sessions")
            }
            Some(libc::ENFILE) => "the host is out of descriptors: raise fs.file-max".to_owned(),
            Some(libc::EADDRNOTAVAIL) => {
                "no local port is free: widen net.ipv4.ip_local_port_range".to_owned()
            }
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
        ListenerStatus {
            name: self.config.name.clone(),
            bind: self.bound.clone(),
            backends: self.backends.iter().map(Backend::status).collect(),
            sessions: load(&self.sessions),
            sessions_total: load(&self.sessions_total),
            refused: load(&self.refused),
            accept_errors: load(&self.accept_errors),
        }
    }
}

fn candidate(backend: &Backend, now: Instant) -> Candidate {
    Candidate {
        standing: backend.standing(now),
        weight: backend.config.weight,
        sessions: backend.assigned.load(Ordering::Relaxed),
    }
}

/// The next connection of any socket, asking `first` first.
async fn accept_any(sockets: &[Arc<TcpListener>], first: usize) -> io::Result<TcpStream> {
    poll_fn(|cx| {
        for offset in 0..sockets.len() {
            let socket = &sockets[(first + offset) % sockets.len()];
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(client, _)| client));
            }
        }
        Poll::Pending
    })
    .await
}

/// accept(2): Linux passes errors of the new connection on; the next one may be accepted at once.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNABORTED
                | libc::EINTR
                | libc::EPROTO
                | libc::ENOPROTOOPT
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::EOPNOTSUPP
                | libc::EPERM
        )
    )
}

/// Every address of a listener, or none. Those that are bound `already` are taken as they are.
///
/// # Errors
///
/// The address that cannot be bound, and what to do about it.
pub fn bind_all(
    listener: &Listener,
    already: impl Fn(SocketAddr) -> Option<Arc<TcpListener>>,
) -> Result<Vec<Arc<TcpListener>>, ForwardError> {
    let socket = |address: &SocketAddr| {
        if let Some(socket) = already(*address) {
            return Ok(socket);
        }
        bind(*address, listener).map(Arc::new).map_err(|source| ForwardError::Listen {
            place: listener.place.clone(),
            listener: listener.name.clone(),
            address: *address,
            help: help(&source, *address),
            source,
        })
    };
    listener.bind.iter().map(socket).collect()
}

fn bind(address: SocketAddr, listener: &Listener) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    // The VIP may be on another host now.
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    // What is set here every accepted connection inherits.
    set_options(SockRef::from(&socket), listener)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// What both legs of a session have in common.
///
/// # Errors
///
/// The kernel refuses an option.
pub fn set_options(socket: SockRef<'_>, listener: &Listener) -> io::Result<()> {
    socket.set_tcp_nodelay(true)?;
    // A reset when it is closed, until the session has come to its proper end.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(keepalive) = listener.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    socket.set_tcp_user_timeout(listener.user_timeout)
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

/// Says early what would otherwise be seen only at the busiest moment.
pub fn warn_of_few_descriptors(listeners: &[Listener], events: &EventSender) {
    let needed = OTHER_DESCRIPTORS + listeners.iter().map(|l| 2 * u64::from(l.max_sessions)).sum::<u64>();
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if !listeners.is_empty() && limit < needed {
        warn!(limit, needed, "few descriptors");
        let text = format!(
            "the listeners' max_sessions need {needed} descriptors, the process may hold {limit}: \
             raise LimitNOFILE=, or lower max_sessions; until then connections wait when they run out"
        );
        events.send(Kind::Notice { text });
    }
}
