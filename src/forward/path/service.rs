//! What the control side hands to the data path, and what it hears from it.
//!
//! A [`Service`] does not change while it is served: another one takes its place ([`super::Path::serve`]).
//! Only counters move, and whatever a [`Steer`] keeps to itself.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use socket2::SockRef;

use super::mailbox::{Bell, Command, Mailbox};
use super::proxy::{self, Ends, Fault};
use super::session::Course;
use super::slab::Key;
use crate::observe::status::SharedHistogram;
use crate::observe::status::shared::raise;

/// What a listener serves, for as long as nobody changes its configuration.
#[derive(Debug)]
pub struct Service {
    /// How its sessions are treated.
    pub settings: Settings,
    /// To whom they may go; [`Steer`] speaks of them by their index here.
    pub backends: Box<[Arc<Backend>]>,
    /// What it has carried. May be the one of the service before.
    pub tally: Arc<Tally>,
    /// Who decides.
    pub steer: Arc<dyn Steer>,
}

/// How sessions are treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long one backend may take to answer a connect.
    pub connect_timeout: Duration,
    /// Cut a session after this time without a byte.
    pub idle_timeout: Option<Duration>,
    /// Probes on both legs.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT on both legs.
    pub user_timeout: Option<Duration>,
    /// Sessions at a time, those that wait for a backend included; more wait in the accept queue.
    pub max_sessions: u64,
    /// Clients that say in a PROXY header whom they stand for.
    pub trusted: Box<[proxy::Network]>,
    /// Connect to backends from the client's address.
    pub transparent: bool,
    /// How they get to their backends is remembered for [`Steer::ended`].
    pub logged: bool,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// TCP_KEEPIDLE.
    pub idle: Duration,
    /// TCP_KEEPINTVL.
    pub interval: Duration,
    /// TCP_KEEPCNT.
    pub count: u32,
}

/// One backend as the data path knows it. Two services may share it, and so its counters.
#[derive(Debug)]
pub struct Backend {
    /// Where to connect.
    pub address: SocketAddr,
    /// What it is told of the client before anything else.
    pub send_proxy: Option<proxy::Version>,
    /// Sessions that are assigned: connecting or established. [`Steer::choose`] counts them in, so that it can keep a
    /// limit; the data path counts them out.
    pub assigned: AtomicU64,
    /// Sessions that are established.
    pub sessions: AtomicU64,
    /// Most of them at a time.
    pub sessions_max: AtomicU64,
    /// Established since the start.
    pub sessions_total: AtomicU64,
    /// Connects that failed.
    pub connect_errors: AtomicU64,
    /// How long those took that succeeded.
    pub connect_time: SharedHistogram,
    /// Bytes from clients that the backend's socket took.
    pub bytes_in: AtomicU64,
    /// Bytes to clients that their sockets took.
    pub bytes_out: AtomicU64,
}

impl Backend {
    /// Nothing was carried.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            send_proxy: None,
            assigned: AtomicU64::new(0),
            sessions: AtomicU64::new(0),
            sessions_max: AtomicU64::new(0),
            sessions_total: AtomicU64::new(0),
            connect_errors: AtomicU64::new(0),
            connect_time: SharedHistogram::default(),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
        }
    }

    /// A session is established, after so long a connect.
    pub(super) fn enter(&self, took: Duration) {
        let sessions = self.sessions.fetch_add(1, Ordering::Relaxed) + 1;
        raise(&self.sessions_max, sessions);
        self.sessions_total.fetch_add(1, Ordering::Relaxed);
        self.connect_time.record(took);
    }
}

/// What a listener has carried.
#[derive(Debug, Default)]
pub struct Tally {
    /// Open now.
    pub sessions: AtomicU64,
    /// Most of them at a time; places that other loops hold while they accept are counted in.
    pub sessions_max: AtomicU64,
    /// Accepted since the start.
    pub sessions_total: AtomicU64,
    /// Reset because no backend was to be had, or because of what the client sent.
    pub refused: AtomicU64,
    /// Connects beyond the first of a session.
    pub retries: AtomicU64,
    /// Accepts (or sockets towards backends) that this host refused.
    pub accept_errors: AtomicU64,
    /// Sessions that ended, each in the place of its [`End`].
    pub ended: [AtomicU64; End::WORDS.len()],
    /// Loops that wait for a place.
    bell: Bell,
}

impl Tally {
    /// Takes one of so many places.
    pub(super) fn enter(&self, most: u64) -> bool {
        let before = self.sessions.fetch_add(1, Ordering::AcqRel);
        if before < most {
            return true;
        }
        self.sessions.fetch_sub(1, Ordering::AcqRel);
        false
    }

    /// A client was accepted into its place.
    pub(super) fn accepted(&self) {
        self.sessions_total.fetch_add(1, Ordering::Relaxed);
        raise(&self.sessions_max, self.sessions.load(Ordering::Relaxed));
    }

    /// Gives a place back.
    pub(super) fn leave(&self) {
        self.sessions.fetch_sub(1, Ordering::AcqRel);
        self.bell.ring();
    }

    /// Has a loop woken when a place is given back.
    pub(super) fn bell(&self) -> &Bell {
        &self.bell
    }
}

/// Decides where sessions go, and hears how it went. Asked on the threads of the data path: it must neither
/// wait nor work long.
pub trait Steer: std::fmt::Debug + Send + Sync {
    /// What a session does next. A backend that is chosen has been counted into [`Backend::assigned`].
    fn choose(&self, ask: &Ask<'_>) -> Answer;

    /// A place at this backend was given back.
    fn vacated(&self, backend: usize);

    /// A session that waits with this ticket has ended, or has waited long enough. It may have been called at the
    /// same moment: then the place is given back too.
    fn left(&self, ticket: u64);

    /// How an attempt to connect went.
    fn connected(&self, backend: usize, how: Connect);

    /// This host lacks something, at `doing`. Said at every attempt.
    fn shortage(&self, doing: &'static str, error: Errno);

    /// What people call it.
    fn name(&self) -> &str;

    /// What people call a backend of [`Service::backends`].
    fn backend_name(&self, backend: usize) -> &str;

    /// A session has ended.
    fn ended(&self, ended: &Ended<'_>);
}

/// What a session that needs a backend does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It connects.
    Go(Choice),
    /// It waits, with its client and without a socket for a backend, until it is called by its [`Waiter`].
    Wait {
        /// Of whoever waits. Not 0.
        ticket: u64,
        /// Then the client is reset.
        at_most: Duration,
        /// As in [`Choice::tag`].
        tag: u32,
    },
    /// It asks again after this time.
    Pause(Duration),
    /// There is no backend (any more): the client is reset, unless an attempt is still under way.
    Nobody,
}

/// Where a session goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Index in [`Service::backends`].
    pub backend: usize,
    /// After this time without an answer the next backend is tried besides; at most a minute. From the connect
    /// timeout on: never besides, only afterwards.
    pub patience: Duration,
    /// What the session is to be known by at its next question and at its end.
    pub tag: u32,
}

/// A session that needs a backend.
#[derive(Debug)]
pub struct Ask<'a> {
    /// Backends that it has tried.
    pub tried: &'a [u16],
    /// Nothing is under way: it can be told to wait.
    pub may_wait: bool,
    /// It comes from a pause.
    pub rested: bool,
    /// Of the last answer; 0 before the first.
    pub tag: u32,
    pub(super) client: BorrowedFd<'a>,
    pub(super) told: Option<&'a Ends>,
    pub(super) mailbox: &'a Arc<Mailbox>,
    pub(super) key: Key,
}

impl Ask<'_> {
    /// Who asks, by its PROXY header if it has sent one. A system call: for those who choose by it.
    pub fn client(&self) -> Option<SocketAddr> {
        if let Some(ends) = self.told {
            return Some(ends.source);
        }
        SockRef::from(&self.client).peer_addr().ok()?.as_socket()
    }

    /// Where the client connected to.
    pub fn local(&self) -> Option<SocketAddr> {
        SockRef::from(&self.client).local_addr().ok()?.as_socket()
    }

    /// To call it with, if it is told to wait.
    pub fn waiter(&self) -> Waiter {
        Waiter { mailbox: self.mailbox.clone(), key: self.key }
    }
}

/// A session that waits.
#[derive(Debug)]
pub struct Waiter {
    mailbox: Arc<Mailbox>,
    key: Key,
}

impl Waiter {
    /// Sends it to a backend of this service, which is from now on its own. Whoever has left in the meantime gives
    /// the place back.
    pub fn call(self, ticket: u64, service: Arc<Service>, choice: Choice) {
        self.mailbox.post(Command::Call { key: self.key, ticket, service, choice });
    }
}

/// How an attempt to connect went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connect {
    /// It stands, after this time.
    Done(Duration),
    /// No answer within the patience; it goes on besides the next attempt.
    Slow,
    /// No answer within the connect timeout, or before another backend answered.
    TimedOut,
    /// Refused, unreachable, ….
    Failed(Errno),
    /// Given up for other reasons, the client's or ours: says nothing of the backend.
    Abandoned,
}

/// One end of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Who connected to us.
    Client,
    /// Whom we chose.
    Backend,
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    /// Both peers have sent their end of stream, and all bytes are with the kernel.
    #[error("both sides have ended")]
    Complete,
    /// Nobody to go to.
    #[error("no backend is healthy")]
    NoBackend,
    /// All that were tried failed.
    #[error("no backend could be reached")]
    Unreachable,
    /// It has waited as long as it may.
    #[error("no backend had a place in time")]
    QueueTimeout,
    /// No descriptor, no port, no memory.
    #[error("this host cannot open a connection")]
    Shortage,
    /// Its PROXY header is none.
    #[error("{0}")]
    Header(proxy::Fault),
    /// A connection broke: a reset, or no answer for too long.
    #[error("the connection of the {0:?} broke")]
    Broken(Side),
    /// The control side said so.
    #[error("its backend went down")]
    BackendDown,
    /// The control side said so.
    #[error("its address left this host")]
    AddressLeft,
    /// Nothing moved for the idle timeout.
    #[error("nothing moved for the idle timeout")]
    Idle,
    /// An operator, or a policy, said so.
    #[error("it was closed on request")]
    Closed,
    /// The end of the forwarder.
    #[error("the forwarder stops")]
    Stopped,
}

impl End {
    /// One word for each, for counters.
    pub const WORDS: [&'static str; 14] = [
        "complete",
        "no_backend",
        "unreachable",
        "shortage",
        "client_broken",
        "backend_broken",
        "backend_down",
        "address_left",
        "idle",
        "closed",
        "stopped",
        "queue_timeout",
        "no_header",
        "bad_header",
    ];

    /// The client was turned away before it had a backend.
    pub fn is_refusal(self) -> bool {
        match self {
            Self::NoBackend | Self::Unreachable | Self::QueueTimeout | Self::Shortage => true,
            Self::Header(fault) => fault != Fault::Nothing,
            _ => false,
        }
    }

    /// The place of its word.
    pub fn place(self) -> usize {
        match self {
            Self::Complete => 0,
            Self::NoBackend => 1,
            Self::Unreachable => 2,
            Self::Shortage => 3,
            Self::Broken(Side::Client) => 4,
            Self::Broken(Side::Backend) => 5,
            Self::BackendDown => 6,
            Self::AddressLeft => 7,
            Self::Idle => 8,
            Self::Closed => 9,
            Self::Stopped => 10,
            Self::QueueTimeout => 11,
            Self::Header(Fault::Nothing) => 12,
            Self::Header(_) => 13,
        }
    }
}

/// A session that has ended, while its sockets are still open.
#[derive(Debug)]
pub struct Ended<'a> {
    /// Why.
    pub end: End,
    /// Its backend, if one answered.
    pub backend: Option<usize>,
    /// From the accepted connection to the end.
    pub lasted: Duration,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
    /// Of the last answer of [`Steer::choose`].
    pub tag: u32,
    /// Where it was logged.
    pub course: Option<&'a Course>,
    /// Attempts to connect that were begun.
    pub attempts: u8,
    /// The backend of the last one.
    pub last: Option<usize>,
    /// It has ended while it waited for a place.
    pub waited: bool,
    pub(super) open: &'a [AtomicU64],
    pub(super) client: BorrowedFd<'a>,
    pub(super) told: Option<&'a Ends>,
}

impl Ended<'_> {
    /// Sessions of all services that are open, without this one.
    pub fn open_sessions(&self) -> u64 {
        self.open.iter().map(|of_loop| of_loop.load(Ordering::Relaxed)).sum()
    }

    /// Whose it was, by its PROXY header if it has sent one, and otherwise as long as the kernel knows. A system
    /// call.
    pub fn client(&self) -> Option<SocketAddr> {
        if let Some(ends) = self.told {
            return Some(ends.source);
        }
        self.peer()
    }

    /// Who connected, as long as the kernel knows. A system call.
    pub fn peer(&self) -> Option<SocketAddr> {
        if let Some(peer) = self.course.and_then(|course| course.peer) {
            return Some(peer);
        }
        SockRef::from(&self.client.as_fd()).peer_addr().ok()?.as_socket()
    }
}
