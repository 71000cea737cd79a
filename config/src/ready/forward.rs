//! What the forwarder is to do, ready to run.

use std::net::SocketAddr;
use std::time::Duration;

use serde::Serialize;

use super::{Check, Command, Place, Prefix, Target, is_default};

/// One listening service of the forwarder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Listener {
    /// Unique.
    pub name: String,
    /// Where it begins.
    pub place: Place,
    /// Bound with IP_FREEBIND, so also while the address is elsewhere.
    pub bind: Vec<SocketAddr>,
    /// How a backend is chosen.
    pub balance: Balance,
    /// At least one, or one of `discovered`.
    pub backends: Vec<Backend>,
    /// Backends that are known by name; what the names stand for is found at run time.
    #[serde(skip_serializing_if = "is_default")]
    pub discovered: Vec<Discovery>,
    /// For one backend; then the next is tried. Default 2 s.
    pub connect_timeout: Duration,
    /// Cut a session after this time without a byte. Default never.
    pub idle_timeout: Option<Duration>,
    /// Probes on both legs.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT on both legs. Default 20 s.
    pub user_timeout: Option<Duration>,
    /// Sessions at a time; more wait in the accept queue. Default 10 000.
    pub max_sessions: u32,
    /// Close the sessions of a backend that its check calls down. Default yes.
    pub close_sessions_on_backend_down: bool,
    /// Instances whose addresses are bound here: their sessions are closed when the VIP leaves.
    pub instances: Vec<String>,
    /// What is asked for less often.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: Policy,
}

impl Listener {
    /// Of its addresses, or of its backends where marks choose what it carries.
    pub fn is_ipv6(&self) -> bool {
        let backend = || self.backends.first().map(|backend| &backend.address);
        self.bind.first().or_else(backend).is_some_and(SocketAddr::is_ipv6)
    }
}

/// What is asked for less often than the rest of a [`Listener`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    /// UDP in kernel mode only.
    pub protocol: Protocol,
    /// Firewall marks: TCP and UDP that has one of them, and goes to this host, is carried instead of what comes to
    /// `bind`. In kernel mode only.
    #[serde(skip_serializing_if = "is_default")]
    pub marks: Vec<u32>,
    /// Who carries the bytes.
    pub mode: Mode,
    /// Clients that come again go to the backend they had.
    pub persistence: Option<Persistence>,
    /// Connects beyond the first of a session before the client is reset, each to another backend as long as there
    /// is one. `None` (default): every backend once.
    pub retries: Option<u32>,
    /// From up to full weight: the share grows evenly. Default 0: at once.
    pub slow_start: Duration,
    /// How long a session waits for a place at a backend that has its `max_sessions`. Default: the connect timeout.
    pub queue_timeout: Option<Duration>,
    /// Take what sessions meet for what a check would say.
    pub observe: Option<Observe>,
    /// When a backend has come back, close the idlest sessions of those that have more than their share, so many a
    /// second. Default: none is closed.
    pub rebalance: Option<u32>,
    /// What happens while no backend is healthy.
    pub no_backend: NoBackend,
    /// Which of several backups are used. Default all.
    pub backups: Backups,
    /// When a backend that is no backup comes up, close the sessions of the backups.
    pub close_backup_sessions: bool,
    /// Clients whose connections begin with a PROXY header; one without it is reset. Others send none.
    pub accept_proxy: Vec<Prefix>,
    /// Connect to backends from the client's address (IP_TRANSPARENT).
    pub transparent: bool,
    /// One line, or event, for each session that ended.
    pub access_log: Option<AccessLog>,
    /// Below so much weight the service counts as down.
    pub quorum: Option<Quorum>,
    /// When another socket of this host listens on the same port of every address.
    pub beside: Beside,
    /// Mail when the quorum is reached or lost (`smtp_alert`).
    pub mail: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            protocol: Protocol::Tcp,
            marks: Vec::new(),
            mode: Mode::Proxy,
            persistence: None,
            retries: None,
            slow_start: Duration::ZERO,
            queue_timeout: None,
            observe: None,
            rebalance: None,
            no_backend: NoBackend::Refuse,
            backups: Backups::All,
            close_backup_sessions: false,
            accept_proxy: Vec::new(),
            transparent: false,
            access_log: None,
            quorum: None,
            beside: Beside::Auto,
            mail: false,
        }
    }
}

/// What is carried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Protocol {
    /// Streams.
    Tcp,
    /// Datagrams.
    Udp,
}

/// Who carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Mode {
    /// The forwarder, from socket to socket.
    Proxy,
    /// The kernel: destination NAT by nftables.
    Kernel {
        /// Source NAT too: backends see this host, and need no route back through it.
        source_nat: bool,
    },
}

/// Clients that come again go to the backend they had, while it is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Persistence {
    /// After a client's last session.
    pub timeout: Duration,
    /// Bits of an IPv4 client's address that make it the same. Default 32.
    pub ipv4_prefix: u8,
    /// Bits of an IPv6 client's address that make it the same. Default 128.
    pub ipv6_prefix: u8,
}

/// Passive checking: failed connects, and resets before the backend has sent a byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Observe {
    /// Errors in a row after which the backend is down. Default 10.
    pub error_limit: u32,
    /// How long it is down for that, when it has no check; with one its check brings it up. Default 10 s.
    pub down_for: Duration,
}

/// What happens while no backend is healthy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum NoBackend {
    /// Clients are reset at once.
    Refuse,
    /// As if all were healthy: what is said of them may be wrong.
    TryAll,
}

/// Which backups get sessions, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Backups {
    /// All together, as if they were the listener's backends; also for a session that has met failures at all others.
    All,
    /// The first that is not down, and only while all others are: HAProxy's way without `option allbackups`.
    First,
}

/// How ended sessions are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum AccessLog {
    /// An event with fields.
    Event,
    /// HAProxy's `option tcplog`.
    Tcplog,
}

/// keepalived's `quorum`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Quorum {
    /// Sum of the weights of healthy backends, backups not counted.
    pub least: u32,
    /// Up at `least` + this, down below `least` − this.
    pub hysteresis: u32,
    /// Run when it is reached.
    pub up: Option<Box<Command>>,
    /// Run when it is lost.
    pub down: Option<Box<Command>>,
    /// Run `down`, and what tells of backends, at the end of the daemon too (`omega`).
    pub at_end: bool,
}

/// The port is taken by a socket that listens on every address, such as kube-apiserver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Beside {
    /// `SkLookup`, where that cannot be `Nftables`.
    Auto,
    /// A BPF program hands the connections to our socket.
    SkLookup,
    /// Redirected to a port of our own.
    Nftables,
    /// An error.
    Refuse,
}

/// TCP keepalive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Keepalive {
    /// TCP_KEEPIDLE. Default 30 s.
    pub idle: Duration,
    /// TCP_KEEPINTVL. Default 10 s.
    pub interval: Duration,
    /// TCP_KEEPCNT. Default 3.
    pub count: u32,
}

/// Balancing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Balance {
    /// In turn, by weight.
    RoundRobin,
    /// Fewest sessions for its weight.
    LeastConn,
    /// By a hash of the client's address; few clients move when a backend comes or goes.
    Source,
    /// The one with fewer sessions of two drawn by weight.
    Random,
    /// The first that has a place.
    First,
}

/// One server of a listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Backend {
    /// Unique in its listener.
    pub name: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// 0–65535. 0: no new sessions but those that persistence brings. Default 1.
    pub weight: u16,
    /// Names of [`Check`]s that exist; down while one is. None: always up.
    pub checks: Vec<String>,
    /// Where it was written.
    pub place: Place,
    /// What is asked for less often.
    #[serde(skip_serializing_if = "is_default")]
    pub policy: BackendPolicy,
}

/// What is asked for less often than the rest of a [`Backend`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BackendPolicy {
    /// Used while no other is healthy (`backup`, `sorry_server`).
    pub backup: bool,
    /// Sessions at a time; more wait.
    pub max_sessions: Option<u32>,
    /// A PROXY header goes first.
    pub send_proxy: Option<ProxyVersion>,
    /// Down means weight 0: what is open, and what persistence brings, goes on (`inhibit_on_failure`).
    pub inhibit_on_failure: bool,
    /// Down until its check has spoken (`alpha`). Otherwise used, after those that are up.
    pub down_at_start: bool,
    /// In the state that `vipd backend NAME maint` makes.
    pub maint: bool,
    /// Run when it comes up.
    pub notify_up: Option<Box<Command>>,
    /// Run when it goes down.
    pub notify_down: Option<Box<Command>>,
    /// Mail when it comes up or goes down (`smtp_alert`).
    pub mail: bool,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Backends by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Discovery {
    /// Each address becomes such a backend, named after the address. Address and checks have no meaning in it.
    pub template: Backend,
    /// What is looked up.
    pub from: Lookup,
    /// Each gets such a check; a target of `0.0.0.0:1` is replaced by the address.
    pub check: Option<Check>,
}

/// What is looked up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Lookup {
    /// All addresses of a name (A, AAAA).
    Host(Target),
    /// Names, ports and weights of a service (SRV).
    Service(String),
}

/// A page over plain HTTP that says whether listeners have a healthy backend: 200 or 503.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HealthPage {
    /// Where it is served.
    pub bind: SocketAddr,
    /// With a leading `/`. Default `/healthz`.
    pub path: String,
    /// Listeners that need so many healthy backends each; none: 200 as long as the daemon runs.
    pub listeners: Vec<String>,
    /// Default 1.
    pub least: u32,
    /// Where it was written.
    pub place: Place,
}

/// How the forwarder runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Forwarder {
    /// Threads of the data path. `None`: one for each processor that the process may use.
    pub loops: Option<u16>,
}
