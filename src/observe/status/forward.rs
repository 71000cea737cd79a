//! What is, of the forwarder.

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::{Health, Histogram, Tally};

/// One listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ListenerStatus {
    /// Name.
    pub name: String,
    /// Bound addresses.
    pub bind: Vec<SocketAddr>,
    /// Who carries it.
    pub carrier: Carrier,
    /// One plain sentence: whether clients are served and what stands against it, with numbers.
    pub why: String,
    /// Clients are refused now.
    pub refuses: bool,
    /// Backends.
    pub backends: Vec<BackendStatus>,
    /// Names whose addresses are backends.
    pub names: Vec<NameStatus>,
    /// Now.
    pub sessions: u64,
    /// Most at a time since the start.
    pub sessions_max: u64,
    /// At a time; more wait in the accept queue. 0: not limited.
    pub sessions_limit: u64,
    /// Since the start.
    pub sessions_total: u64,
    /// Refused because no backend was healthy or could be reached, or because of what the client sent.
    pub refused: u64,
    /// Accepting failed (out of file descriptors, …).
    pub accept_errors: u64,
    /// Connects beyond the first of a session.
    pub retries: u64,
    /// Sessions that wait for a place at a backend.
    pub queue: QueueStatus,
    /// Sessions that ended, by reason word (`complete`, `no_backend`, `backend_down`, …).
    pub ended: Tally,
}

/// Who carries the bytes of a listener.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// The forwarder, from its own listening socket.
    #[default]
    Proxy,
    /// The forwarder; a BPF program hands it the connections, since another socket has the port.
    SkLookup,
    /// The forwarder, on a port of its own; nftables redirects to it, since another socket has the port.
    Redirect,
    /// The kernel, by nftables.
    Kernel,
}

/// Sessions that wait for a place at a backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct QueueStatus {
    /// Now.
    pub waiting: u64,
    /// Most at a time since the start.
    pub max: u64,
    /// That had to wait since the start.
    pub total: u64,
    /// Of those, given up after `queue_timeout`.
    pub timed_out: u64,
    /// How long those waited that got a place.
    pub waited: Histogram,
}

/// One backend.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BackendStatus {
    /// Name.
    pub name: String,
    /// Address.
    pub address: SocketAddr,
    /// Health.
    pub health: Health,
    /// Since when it has this health.
    #[serde(default)]
    pub since: Option<SystemTime>,
    /// What its check last said.
    pub detail: String,
    /// Names of its checks.
    #[serde(default)]
    pub checks: Vec<String>,
    /// What an operator has asked for.
    #[serde(default)]
    pub admin: Admin,
    /// When he did; `None`: it is so by configuration.
    #[serde(default)]
    pub admin_since: Option<SystemTime>,
    /// Used while no other is healthy.
    #[serde(default)]
    pub backup: bool,
    /// Asked for: configured, or set at run time.
    #[serde(default)]
    pub weight: u32,
    /// In force: less during the slow start, 0 while it drains.
    #[serde(default)]
    pub effective_weight: u32,
    /// Until it has its full weight.
    #[serde(default)]
    pub slow_start: Option<Duration>,
    /// A connect hung: it comes last for so long.
    #[serde(default)]
    pub suspected: Option<Duration>,
    /// What its sessions met has called it down: why.
    #[serde(default)]
    pub observed: Option<String>,
    /// Now.
    pub sessions: u64,
    /// Most at a time since the start.
    #[serde(default)]
    pub sessions_max: u64,
    /// At a time; more wait. 0: not limited.
    #[serde(default)]
    pub sessions_limit: u64,
    /// Since the start.
    pub sessions_total: u64,
    /// Sessions that wait for a place at it.
    #[serde(default)]
    pub queued: u64,
    /// Connects that failed.
    pub connect_errors: u64,
    /// How long successful connects took.
    #[serde(default)]
    pub connect_time: Histogram,
    /// From clients to this backend.
    pub bytes_in: u64,
    /// From this backend to clients.
    pub bytes_out: u64,
}

impl BackendStatus {
    /// Up, ready, and without a session.
    pub fn new(name: String, address: SocketAddr) -> Self {
        Self {
            name,
            address,
            health: Health::Up,
            since: None,
            detail: String::new(),
            checks: Vec::new(),
            admin: Admin::Ready,
            admin_since: None,
            backup: false,
            weight: 1,
            effective_weight: 1,
            slow_start: None,
            suspected: None,
            observed: None,
            sessions: 0,
            sessions_max: 0,
            sessions_limit: 0,
            sessions_total: 0,
            queued: 0,
            connect_errors: 0,
            connect_time: Histogram::default(),
            bytes_in: 0,
            bytes_out: 0,
        }
    }
}

/// What an operator has asked of a backend.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Admin {
    /// Sessions as its health allows.
    #[default]
    Ready,
    /// No new sessions; those that are open go on.
    Drain,
    /// Not used, whatever its check says.
    Maint,
}

/// One name whose addresses are backends.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NameStatus {
    /// As it was written: `etcd.example.org:2379`, `_etcd-client._tcp.example.org`.
    pub name: String,
    /// In the last answer that had some.
    pub addresses: Vec<SocketAddr>,
    /// When that came.
    pub answered: Option<SystemTime>,
    /// Why the last look-up failed, if it did.
    pub error: Option<String>,
    /// Until the next look-up.
    pub next: Option<Duration>,
}

/// One health page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthPageStatus {
    /// Where it is served.
    pub bind: SocketAddr,
    /// Path.
    pub path: String,
    /// It answers 200.
    pub healthy: bool,
    /// One plain sentence: what it stands for, with numbers.
    pub why: String,
    /// Requests that were answered with 200.
    pub served_healthy: u64,
    /// Requests that were answered with 503.
    pub served_unhealthy: u64,
}

/// One open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionStatus {
    /// Its listener.
    pub listener: String,
    /// Its backend, if one has answered.
    pub backend: Option<String>,
    /// Who it is.
    pub client: Option<SocketAddr>,
    /// Where the client connected to.
    pub local: Option<SocketAddr>,
    /// Since it was accepted.
    pub age: Duration,
    /// Since a byte moved.
    pub idle: Duration,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// Some sessions: those that meet every condition that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SessionFilter {
    /// Of the listener with this name.
    pub listener: Option<String>,
    /// With the backend of this name.
    pub backend: Option<String>,
    /// From this address, or address and port: `192.0.2.7`, `[2001:db8::7]:40000`.
    pub client: Option<String>,
}

impl SessionFilter {
    /// Every session meets it.
    pub fn is_all(&self) -> bool {
        *self == Self::default()
    }
}
