//! Checks: how something is found healthy or not, ready to run.
//!
//! Each type names the words of HAProxy and keepalived that it stands for.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::{Command, Place, ProxyVersion, is_default};

mod http;
mod talk;

pub use http::{HttpExpect, HttpProbe, HttpRequest, HttpSubject, HttpVersion};
pub use talk::{AgentProbe, Bytes, Dialogue, DnsKind, DnsProbe, Expect, Matching, Step, Talk, UdpProbe};

/// Something that is healthy or not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Unique among checks.
    pub name: String,
    /// Where the check begins.
    pub place: Place,
    /// What to do.
    pub probe: Probe,
    /// From start to start (HAProxy: `inter`; keepalived: `delay_loop`). At least 1 ms.
    pub interval: Duration,
    /// After this a run counts as failed and is ended (HAProxy: `timeout check`, `timeout connect`; keepalived:
    /// `connect_timeout`, `misc_timeout`).
    pub timeout: Duration,
    /// Successes in a row that bring it up, at least 1 (HAProxy: `rise`).
    pub rise: u32,
    /// Failures in a row that bring it down, at least 1 (HAProxy: `fall`; keepalived: `retry` + 1).
    pub fall: u32,
    /// keepalived's rule for scripts: the first result decides alone, whatever rise and fall say.
    pub first_result_decides: bool,
    /// What is asked for less often: when it runs.
    #[serde(skip_serializing_if = "is_default")]
    pub pace: Pace,
    /// How its connections begin.
    #[serde(skip_serializing_if = "is_default")]
    pub dial: Dial,
    /// Virtual addresses by which clients reach what is checked: a certificate that is not for them is a finding.
    /// Found from the instances that track the check and the listeners that use it; never written.
    #[serde(skip)]
    pub vips: Vec<IpAddr>,
}

impl Check {
    /// The same check of another address: wherever its target is [`Target::placeholder`].
    pub fn aim(&mut self, address: SocketAddr) {
        if let Some(target) = self.probe.target_mut() {
            target.aim(address);
        }
        if let Probe::Ping { host } = &mut self.probe
            && *host == Target::placeholder().host
        {
            *host = address.ip().to_string();
        }
    }

    /// The same for an address that was found by a name: certificates are verified for the name, and requests carry
    /// it, where nothing else was written.
    pub fn aim_by_name(&mut self, name: &str, address: SocketAddr) {
        let is_open = self.probe.target().is_some_and(|target| target.host == Target::placeholder().host);
        if is_open {
            if let Some(tls) = self.probe.tls_mut()
                && !tls.any_name
            {
                tls.server_name.get_or_insert_with(|| name.to_owned());
            }
            if let Probe::Http(probe) = &mut self.probe {
                for request in &mut probe.requests {
                    request.host_header.get_or_insert_with(|| name.to_owned());
                }
            }
        }
        self.aim(address);
    }
}

/// When a check runs, beside its interval.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pace {
    /// From start to start while results go against the state, until they have changed it (HAProxy: `fastinter`;
    /// keepalived: `delay_before_retry`). Default: the interval.
    pub fast_interval: Option<Duration>,
    /// From start to start while it is down and nothing speaks for up (HAProxy: `downinter`). Default: the interval.
    pub down_interval: Option<Duration>,
    /// The first run is put off by a random part of this (keepalived: `warmup`). Default: a twentieth of the
    /// interval, 50 ms at most; nothing for what only looks at this host.
    pub first_delay: Option<Duration>,
    /// Every interval is exact. Otherwise each is up to 3 % shorter or longer, so that the checks of several hosts
    /// never stay in step (HAProxy: `spread-checks`). VRRP scripts of keepalived.conf are exact.
    pub exact: bool,
}

/// How a probe's connections begin. Nothing of it concerns scripts, files, processes, interfaces and BFD sessions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Dial {
    /// Bound to this address of the host (HAProxy: `source`; keepalived: `bindto`).
    pub source: Option<IpAddr>,
    /// And to this port (keepalived: `bind_port`). A TCP connection that is closed keeps its port for a minute
    /// against the same target.
    pub source_port: Option<u16>,
    /// Leaves by this interface (HAProxy: `source … interface`; keepalived: `bind_if`).
    pub interface: Option<String>,
    /// SO_MARK, for routing rules (keepalived: `fwmark` of a checker). Needs CAP_NET_ADMIN.
    pub mark: Option<u32>,
    /// After this a connect counts as failed, before the timeout of the whole (HAProxy: `timeout connect`, and `inter`,
    /// beside `timeout check`). Default: the timeout of the whole.
    #[serde(skip_serializing_if = "is_default")]
    pub connect_timeout: Option<Duration>,
    /// A PROXY header goes first (HAProxy: `check-send-proxy`): version 1 with the addresses of the connection
    /// itself, version 2 as LOCAL.
    pub send_proxy: Option<ProxyVersion>,
}

/// One kind of probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Probe {
    /// Exit 0 is success (keepalived: `vrrp_script`, `MISC_CHECK`; HAProxy: `option external-check`).
    Script(Command),
    /// Exit 0 is success, 2–255 success and the weight is the status − 2 (keepalived: `MISC_CHECK` with
    /// `misc_dynamic`).
    WeighingScript(Command),
    /// HTTP or HTTPS (HAProxy: `option httpchk`; keepalived: `HTTP_GET`, `SSL_GET`).
    Http(HttpProbe),
    /// kube-apiserver: `/readyz`, `/livez` or `/healthz` over TLS.
    Apiserver(ApiserverProbe),
    /// etcd: `/health`.
    Etcd(EtcdProbe),
    /// A TCP connect (HAProxy: `check`; keepalived: `TCP_CHECK`).
    Tcp {
        /// Where to connect.
        target: Target,
    },
    /// A TLS handshake, and what is said over TCP or TLS (HAProxy: `option tcp-check`, `ssl-hello-chk`, `check-ssl`,
    /// `smtpchk`, `mysql-check`, `pgsql-check`, `redis-check`, `ldap-check`; keepalived: `SMTP_CHECK`).
    Dialogue(Dialogue),
    /// A query to a name server over UDP (keepalived: `DNS_CHECK`).
    Dns(DnsProbe),
    /// A datagram (keepalived: `UDP_CHECK`).
    Udp(UdpProbe),
    /// ICMP or ICMPv6 echo (keepalived: `PING_CHECK`).
    Ping {
        /// Name or address.
        host: String,
    },
    /// A server's own word (HAProxy: `agent-check`).
    Agent(AgentProbe),
    /// A `[[bfd]]` session is up (keepalived: `BFD_CHECK`).
    Bfd {
        /// Its name.
        session: String,
    },
    /// One of these listeners of ours has a healthy backend, and its quorum where it has one.
    Listeners {
        /// At least one.
        names: Vec<String>,
    },
    /// Processes that run.
    Process(ProcessProbe),
    /// The file exists, or holds this.
    File {
        /// Read at every interval.
        path: PathBuf,
        /// What the file must hold.
        expect: FileExpect,
        /// Written at start (`init_file`): the value, and whether a file that is there is overwritten.
        #[serde(skip_serializing_if = "is_default")]
        initial: Option<(i64, bool)>,
    },
    /// Administratively up and running.
    Interface {
        /// Its name.
        name: String,
    },
}

impl Probe {
    /// Where it connects, if it does.
    pub fn target(&self) -> Option<&Target> {
        match self {
            Self::Http(probe) => Some(&probe.target),
            Self::Apiserver(probe) => Some(&probe.target),
            Self::Etcd(probe) => Some(&probe.target),
            Self::Tcp { target } => Some(target),
            Self::Dialogue(probe) => Some(&probe.target),
            Self::Dns(probe) => Some(&probe.target),
            Self::Udp(probe) => Some(&probe.target),
            Self::Agent(probe) => Some(&probe.target),
            Self::Script(_)
            | Self::WeighingScript(_)
            | Self::Ping { .. }
            | Self::Bfd { .. }
            | Self::Listeners { .. }
            | Self::Process(_)
            | Self::File { .. }
            | Self::Interface { .. } => None,
        }
    }

    pub(crate) fn target_mut(&mut self) -> Option<&mut Target> {
        match self {
            Self::Http(probe) => Some(&mut probe.target),
            Self::Apiserver(probe) => Some(&mut probe.target),
            Self::Etcd(probe) => Some(&mut probe.target),
            Self::Tcp { target } => Some(target),
            Self::Dialogue(probe) => Some(&mut probe.target),
            Self::Dns(probe) => Some(&mut probe.target),
            Self::Udp(probe) => Some(&mut probe.target),
            Self::Agent(probe) => Some(&mut probe.target),
            Self::Script(_)
            | Self::WeighingScript(_)
            | Self::Ping { .. }
            | Self::Bfd { .. }
            | Self::Listeners { .. }
            | Self::Process(_)
            | Self::File { .. }
            | Self::Interface { .. } => None,
        }
    }

    fn tls_mut(&mut self) -> Option<&mut Tls> {
        match self {
            Self::Http(probe) => probe.tls.as_mut(),
            Self::Apiserver(probe) => Some(&mut probe.tls),
            Self::Etcd(probe) => probe.tls.as_mut(),
            Self::Dialogue(probe) => probe.tls.as_mut(),
            _ => None,
        }
    }

    /// The program that it runs, if it does.
    pub fn command(&self) -> Option<&Command> {
        match self {
            Self::Script(command) | Self::WeighingScript(command) => Some(command),
            _ => None,
        }
    }

    /// The same, to be changed.
    pub fn command_mut(&mut self) -> Option<&mut Command> {
        match self {
            Self::Script(command) | Self::WeighingScript(command) => Some(command),
            _ => None,
        }
    }

    /// Nothing leaves this host, and no program is run.
    pub fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Process(_)
                | Self::File { .. }
                | Self::Interface { .. }
                | Self::Bfd { .. }
                | Self::Listeners { .. }
        )
    }
}

/// Processes with this name (first 15 characters, or the path of argv\[0\]).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProcessProbe {
    /// As in `/proc/PID/comm`.
    pub name: String,
    /// Words behind the name on the command line, and how they are compared; `None`: not looked at.
    #[serde(skip_serializing_if = "is_default")]
    pub parameters: Option<(ParameterMatch, Vec<String>)>,
    /// Compare argv\[0\] in full, not the short name.
    #[serde(skip_serializing_if = "is_default")]
    pub full_command: bool,
    /// Enough processes count as enough only after this time.
    #[serde(skip_serializing_if = "is_default")]
    pub fork_delay: Duration,
    /// Too few, or too many, count as such only after this time.
    #[serde(skip_serializing_if = "is_default")]
    pub terminate_delay: Duration,
    /// Least number of processes.
    pub quorum: u32,
    /// More than this fails.
    pub quorum_max: Option<u32>,
}

/// How the parameters of a process are compared (`param_match`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum ParameterMatch {
    /// All of them, no more.
    Exact,
    /// These first; more may follow.
    Partial,
    /// The same, and the last may be longer than written.
    Initial,
}

/// Host and port, resolved at every probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Name or address.
    pub host: String,
    /// 1–65535.
    pub port: u16,
}

impl Target {
    /// Stands for an address that is not known yet: host 0.0.0.0, port 1. A check may have another port, which
    /// then stays.
    #[must_use]
    pub fn placeholder() -> Self {
        Self { host: Ipv4Addr::UNSPECIFIED.to_string(), port: 1 }
    }

    fn aim(&mut self, address: SocketAddr) {
        let placeholder = Self::placeholder();
        if self.host == placeholder.host {
            self.host = address.ip().to_string();
            if self.port == placeholder.port {
                self.port = address.port();
            }
        }
    }
}

impl From<SocketAddr> for Target {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string(), port: address.port() }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// A kube-apiserver probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ApiserverProbe {
    /// Default `127.0.0.1:6443`.
    pub target: Target,
    /// `/readyz` (default), `/livez` or `/healthz`.
    pub path: String,
    /// How the certificate is verified.
    pub tls: Tls,
    /// For clusters that refuse anonymous probes.
    pub credentials: Credentials,
}

/// An etcd probe: `/health` answers `{"health":"true"}` with status 200 when the member serves its clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EtcdProbe {
    /// A client or metrics URL of the member. Default `127.0.0.1:2379`.
    pub target: Target,
    /// With query; default `/health`. `/health?serializable=true` does not ask for a leader.
    pub path: String,
    /// `None`: plain HTTP.
    pub tls: Option<Tls>,
    /// A member with `client-cert-auth` demands a certificate.
    pub credentials: Credentials,
}

/// Verification of a server. TLS 1.2 at least.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// PEM file with the authorities (HAProxy: `ca-file`). `None`: the host's own.
    pub ca_file: Option<PathBuf>,
    /// Name in SNI and in the certificate (HAProxy: `check-sni`, `verifyhost`; keepalived: `enable_sni` with
    /// `virtualhost`). Default: the target's host.
    pub server_name: Option<String>,
    /// Do not verify the certificate. Only by explicit word (HAProxy: `verify none`; keepalived always).
    pub insecure: bool,
    /// Verify that the certificate is from an authority, whomever it is for (HAProxy: `verify required` without
    /// `verifyhost`).
    #[serde(skip_serializing_if = "is_default")]
    pub any_name: bool,
    /// Protocols that are offered (HAProxy: `check-alpn`). Empty: `http/1.1` for HTTP, none otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub alpn: Vec<String>,
    /// A certificate that ends sooner is a finding. Default 14 days.
    pub warn_before: Duration,
    /// Names and addresses that the certificate is to be for as well; one that is missing is a finding. Of an
    /// apiserver and of etcd the virtual addresses by which it is reached are looked for in any case.
    #[serde(skip_serializing_if = "is_default")]
    pub also_for: Vec<String>,
}

impl Default for Tls {
    fn default() -> Self {
        Self {
            ca_file: None,
            server_name: None,
            insecure: false,
            any_name: false,
            alpn: Vec::new(),
            warn_before: Duration::from_secs(14 * 24 * 3600),
            also_for: Vec::new(),
        }
    }
}

/// Who we say we are. Files are read again when they change; they are never printed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Credentials {
    /// A file that holds a bearer token.
    pub bearer_token_file: Option<PathBuf>,
    /// PEM certificate chain of the client.
    pub client_certificate_file: Option<PathBuf>,
    /// PEM key of the client.
    pub client_key_file: Option<PathBuf>,
}

/// What a file must hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum FileExpect {
    /// It must be there.
    Exists,
    /// It must be absent.
    Missing,
    /// Its text must contain this.
    Contains(String),
    /// Its first number is used as a value (keepalived's `track_file`); 0 when there is none.
    Value,
    /// Its first number, times this, is added to the weight of the backend (keepalived: `FILE_CHECK`). With 0 any
    /// number but 0 is a failure.
    Weight(i32),
}

/// What only serialises as text.
fn as_text<S: Serializer>(serializer: S, bytes: &[u8]) -> Result<S::Ok, S::Error> {
    match std::str::from_utf8(bytes) {
        Ok(text) => serializer.serialize_str(text),
        Err(_) => serializer.collect_str(&Hex(bytes)),
    }
}

/// Octets as hexadecimal digits.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}
