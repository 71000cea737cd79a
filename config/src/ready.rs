//! Ready to run: every default filled in, every rule between values checked.
//!
//! The third stage. Behind the doors nobody can tell whether a file was TOML or keepalived.conf. What
//! can be reported late keeps its [`Place`].

use std::collections::HashSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

mod bfd;
mod forward;
mod group;
mod network;
mod probe;
mod process;
mod shown;
mod text;

pub use bfd::{Bfd, Hmac, HmacKey, HmacMode, TrackBfd};
pub use forward::{
    AccessLog, Backend, BackendPolicy, Backups, Balance, Beside, Discovery, Forwarder, HealthPage, Keepalive,
    Listener, Lookup, Mode, NoBackend, Observe, Persistence, Policy, Protocol, ProxyVersion, Quorum,
};
pub use group::SyncGroup;
pub use network::{
    AnnouncementGroup, Encapsulation, ExtraAnnouncements, Firewall, LinkDelay, MAIN_TABLE, NextHop, PROTOCOL,
    Prefix, Route, RouteOrder, RouteType, Rule, RuleAction, StaticAddress, TrackGroup, Vmac,
};
pub(crate) use probe::Hex;
pub use probe::{
    AgentProbe, ApiserverProbe, Bytes, Check, Credentials, Dial, Dialogue, DnsKind, DnsProbe, EtcdProbe,
    Expect, FileExpect, HttpExpect, HttpProbe, HttpRequest, HttpSubject, HttpVersion, Matching, Pace,
    ParameterMatch, Probe, ProcessProbe, Step, Talk, Target, Tls, UdpProbe,
};
pub use process::{Mail, Process};
pub use shown::Shown;
pub(crate) use text::{route_text, rule_text};

/// What nobody asked for is left out of printed configurations.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Where in the operator's files a value was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct Place {
    /// The file as it was opened.
    pub file: Arc<str>,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// Everything that the daemon needs to run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Config {
    /// Name of this router in mails and status. Default: the host name.
    pub router_id: String,
    /// How people and programs reach the daemon.
    pub control: Control,
    /// How the engine thread runs.
    pub engine: Engine,
    /// In the order they were written.
    pub checks: Vec<Check>,
    /// In the order they were written; shared by every room that keeps one.
    pub instances: Vec<Arc<Instance>>,
    /// What the embedded forwarder listens on.
    pub listeners: Vec<Listener>,
    /// How the forwarder runs.
    #[serde(skip_serializing_if = "is_default")]
    pub forwarder: Forwarder,
    /// Pages that say whether the forwarder can forward.
    #[serde(skip_serializing_if = "is_default")]
    pub health_pages: Vec<HealthPage>,
    /// Pipes that get a line for every change.
    pub fifos: Vec<Fifo>,
    /// Instances that change state together.
    #[serde(skip_serializing_if = "is_default")]
    pub sync_groups: Vec<SyncGroup>,
    /// BFD sessions.
    #[serde(skip_serializing_if = "is_default")]
    pub bfd: Vec<Bfd>,
    /// Instances that need something static.
    #[serde(skip_serializing_if = "is_default")]
    pub track_groups: Vec<TrackGroup>,
    /// There as long as the daemon runs.
    #[serde(skip_serializing_if = "is_default")]
    pub static_addresses: Vec<StaticAddress>,
    /// There as long as the daemon runs.
    #[serde(skip_serializing_if = "is_default")]
    pub static_routes: Vec<Route>,
    /// There as long as the daemon runs.
    #[serde(skip_serializing_if = "is_default")]
    pub static_rules: Vec<Rule>,
    /// Interfaces that share the gaps between announcements.
    #[serde(skip_serializing_if = "is_default")]
    pub announcement_groups: Vec<AnnouncementGroup>,
    /// When an interface counts as down or up.
    #[serde(skip_serializing_if = "is_default")]
    pub link_delays: Vec<LinkDelay>,
    /// For `no_accept` and VMACs.
    #[serde(skip_serializing_if = "is_default")]
    pub firewall: Firewall,
    /// The daemon as a process.
    #[serde(skip_serializing_if = "is_default")]
    pub process: Process,
    /// For keepalived's data dump.
    #[serde(skip)]
    pub shown: Shown,
}

impl Config {
    /// One that does nothing.
    #[must_use]
    pub fn empty(router_id: String, control: Control) -> Self {
        Self {
            router_id,
            control,
            engine: Engine::default(),
            checks: Vec::new(),
            instances: Vec::new(),
            listeners: Vec::new(),
            forwarder: Forwarder::default(),
            health_pages: Vec::new(),
            fifos: Vec::new(),
            sync_groups: Vec::new(),
            bfd: Vec::new(),
            track_groups: Vec::new(),
            static_addresses: Vec::new(),
            static_routes: Vec::new(),
            static_rules: Vec::new(),
            announcement_groups: Vec::new(),
            link_delays: Vec::new(),
            firewall: Firewall::default(),
            process: Process::default(),
            shown: Shown::default(),
        }
    }

    /// Without instances and without what is static (`keepalived -C`).
    pub fn leave_out_vrrp(&mut self) {
        self.instances.clear();
        self.sync_groups.clear();
        self.track_groups.clear();
        self.static_addresses.clear();
        self.static_routes.clear();
        self.static_rules.clear();
        self.announcement_groups.clear();
        self.listeners.iter_mut().for_each(|listener| listener.instances.clear());
        self.keep_used_checks();
    }

    /// Without the forwarder (`keepalived -P`).
    pub fn leave_out_listeners(&mut self) {
        self.listeners.clear();
        self.health_pages.clear();
        self.keep_used_checks();
    }

    fn keep_used_checks(&mut self) {
        let used = self.used_checks();
        self.checks.retain(|check| used.contains(&check.name));
    }

    /// Names of the checks that an instance, a group or a backend looks at.
    pub fn used_checks(&self) -> HashSet<String> {
        let of_groups = self.sync_groups.iter().flat_map(|group| &group.track_checks);
        let of_instances = self.instances.iter().flat_map(|instance| &instance.track_checks);
        let tracked = of_instances.chain(of_groups).map(|tracked| &tracked.check);
        let backends = self.listeners.iter().flat_map(|l| &l.backends).flat_map(|b| &b.checks);
        let named = self.listeners.iter().flat_map(|l| &l.discovered).flat_map(|d| &d.template.checks);
        tracked.chain(backends).chain(named).cloned().collect()
    }
}

/// Control socket and metrics.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    /// HTTP over this Unix socket. Default `/run/vipd/control.sock`.
    pub socket: PathBuf,
    /// Prometheus metrics are served here. Default: only on the control socket, at `/metrics`.
    pub metrics: Option<SocketAddr>,
    /// A web page for people is served here, for reading only. Default: only on the control socket.
    #[serde(skip_serializing_if = "is_default")]
    pub web: Option<SocketAddr>,
}

/// Scheduling of the engine thread.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// SCHED_RR priority, 1–99. `None`: 50 if the host permits it (keepalived: `vrrp_rt_priority`).
    pub realtime_priority: Option<u8>,
    /// Lock memory so that a page fault never delays an advert (keepalived: `vrrp_no_swap`).
    pub lock_memory: bool,
    /// Log a line for adverts with a VRID that no instance has (keepalived: `log_unknown_vrids`).
    pub log_unknown_vrids: bool,
    /// Wait this long after the start before any instance takes part.
    pub startup_delay: Duration,
    /// Nor before the host is up this long (keepalived: `vrrp_delay_after_boot`).
    #[serde(skip_serializing_if = "is_default")]
    pub delay_after_boot: Duration,
    /// Interfaces may be missing, or come back as others (keepalived: `dynamic_interfaces`).
    #[serde(skip_serializing_if = "is_default")]
    pub dynamic_interfaces: DynamicInterfaces,
    /// Niceness without real-time priority, -20–19 (keepalived: `vrrp_priority`).
    #[serde(skip_serializing_if = "is_default")]
    pub nice: Option<i8>,
    /// Processors the engine may run on; empty: all (keepalived: `vrrp_cpu_affinity`).
    #[serde(skip_serializing_if = "is_default")]
    pub cpus: Vec<usize>,
    /// RLIMIT_RTTIME (keepalived: `vrrp_rlimit_rttime`).
    #[serde(skip_serializing_if = "is_default")]
    pub rlimit_rttime: Option<Duration>,
    /// Kernel's own IGMP for our groups is off (keepalived: `disable_local_igmp`).
    #[serde(skip_serializing_if = "is_default")]
    pub disable_local_igmp: bool,
    /// Receive buffer of the advert sockets in bytes; `None`: the kernel's default, or more when it is too small.
    #[serde(skip_serializing_if = "is_default")]
    pub receive_buffer: Option<u32>,
}

/// What may happen to an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum DynamicInterfaces {
    /// One that is missing at start is an error under the name keepalived.
    #[default]
    No,
    /// Waited for.
    Yes,
    /// And it may come back with another type or index.
    AllowChanges,
}

/// One VRRP instance: one virtual router on one interface.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Instance {
    /// Unique.
    pub name: String,
    /// Where the instance begins.
    pub place: Place,
    /// Adverts are sent and heard here. Empty: unicast with a source, by the routing table, whatever interface; then
    /// none is tracked.
    pub interface: String,
    /// 1–255.
    pub vrid: u8,
    /// Of the adverts.
    pub version: Version,
    /// Of the adverts and the first virtual address.
    pub family: Family,
    /// 1–255; 255 is the address owner.
    pub priority: u8,
    /// Version 2: whole seconds, 1–255. Version 3: 10 ms–40.95 s in steps of 10 ms.
    pub advert_interval: Duration,
    /// `true` only for the owner with `state MASTER`: Active at once (RFC 9568 §6.4.1).
    pub start_active: bool,
    /// RFC 9568 Preempt_Mode.
    pub preempt: bool,
    /// keepalived's `preempt_delay`.
    pub preempt_delay: Duration,
    /// Adverts missed before a Backup takes over, 1–100. Default 3.
    pub down_timer_adverts: u8,
    /// Source of the adverts. `None`: the interface's first address (IPv6: link-local).
    pub source: Option<IpAddr>,
    /// How adverts reach the peers.
    pub transport: Transport,
    /// Version 2 only.
    pub authentication: Authentication,
    /// Send the checksum of RFC 9568 (message only) instead of the one with a pseudo-header.
    pub checksum_message_only: bool,
    /// Reject what RFC and keepalived's strict mode reject.
    pub strict: bool,
    /// Advertised, in this order.
    pub addresses: Vec<VirtualAddress>,
    /// Held, but not advertised.
    pub excluded: Vec<VirtualAddress>,
    /// Checks that move the priority or put the instance in FAULT.
    pub track_checks: Vec<TrackCheck>,
    /// Interfaces that do the same; the instance's own is there unless `dont_track_primary`.
    pub track_interfaces: Vec<TrackInterface>,
    /// Gratuitous ARP.
    pub gratuitous_arp: Announcements,
    /// Unsolicited neighbour advertisements.
    pub neighbor_advertisements: Announcements,
    /// Answer an advert of lower priority at once (RFC 9568 §6.4.3). keepalived: not `lower_prio_no_advert`.
    pub answer_lower_priority: bool,
    /// keepalived's `higher_prio_send_advert`.
    pub answer_higher_priority: bool,
    /// What to run on changes.
    pub notify: Notify,
    /// `state MASTER` was written, though another than the owner waits all the same; sync groups start sooner.
    #[serde(skip_serializing_if = "is_default")]
    pub wants_active: bool,
    /// The VIPs answer on this host (RFC 9568 Accept_Mode). `false`: dropped by [`Firewall`], except for the owner.
    pub accept: bool,
    /// A macvlan with the virtual MAC.
    #[serde(skip_serializing_if = "is_default")]
    pub vmac: Option<Vmac>,
    /// Added behind the addresses, removed before them.
    #[serde(skip_serializing_if = "is_default")]
    pub routes: Vec<Route>,
    /// Added behind the routes, removed before them.
    #[serde(skip_serializing_if = "is_default")]
    pub rules: Vec<Rule>,
    /// Sysctl `promote_secondaries` of the interface while the instance runs.
    #[serde(skip_serializing_if = "is_default")]
    pub promote_secondaries: bool,
    /// BFD sessions that move the priority or put the instance in FAULT.
    #[serde(skip_serializing_if = "is_default")]
    pub track_bfd: Vec<TrackBfd>,
    /// FAULT while the source address is missing (`track_src_ip`).
    #[serde(skip_serializing_if = "is_default")]
    pub track_source: bool,
    /// An Active that wakes up late lets go if a Backup of this priority would have taken over.
    #[serde(skip_serializing_if = "is_default")]
    pub timer_expired_backup: Option<u8>,
    /// The address list of a sender is compared once (`skip_check_adv_addr`).
    #[serde(skip_serializing_if = "is_default")]
    pub skip_address_check: bool,
    /// An owner does not hear adverts (`owner_ignore_adverts`).
    #[serde(skip_serializing_if = "is_default")]
    pub owner_ignores_adverts: bool,
    /// Version 3 unicast: sum made with the multicast address (`old_unicast_checksum`).
    #[serde(skip_serializing_if = "is_default")]
    pub old_unicast_checksum: OldUnicastChecksum,
    /// Adverts are signed.
    #[serde(skip_serializing_if = "is_default")]
    pub hmac: Option<Hmac>,
    /// Mail when the state changes.
    #[serde(skip_serializing_if = "is_default")]
    pub smtp_alert: bool,
    /// Announcements on other interfaces of the same base.
    #[serde(skip_serializing_if = "is_default")]
    pub extra_announcements: Option<ExtraAnnouncements>,
    /// SO_RCVBUF of its socket.
    #[serde(skip_serializing_if = "is_default")]
    pub receive_buffer: Option<u32>,
    /// How long its addresses answer when nobody renews that.
    #[serde(skip_serializing_if = "is_default")]
    pub lease: Lease,
}

/// How long virtual addresses answer after the engine has said so last: a host that hangs falls silent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum Lease {
    /// A little less than the shortest Active_Down_Interval that a peer may have.
    #[default]
    Auto,
    /// For ever.
    Off,
    /// So long; longer than the advert interval.
    For(Duration),
}

/// keepalived up to 1.3.6 summed version 3 unicast adverts with the multicast address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum OldUnicastChecksum {
    /// Noticed when a peer does it, and then done too.
    #[default]
    Detect,
    /// From the start.
    Always,
    /// Refused.
    Never,
}

/// Version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Version {
    /// RFC 3768.
    V2,
    /// RFC 9568.
    V3,
}

/// Address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub enum Family {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Multicast, or one copy for each peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Transport {
    /// To this group; TTL 255 is required on receipt.
    Multicast {
        /// Default 224.0.0.18 or ff02::12.
        group: IpAddr,
    },
    /// To each peer.
    Unicast {
        /// None: the instance stays in FAULT.
        peers: Vec<UnicastPeer>,
        /// TTL or hop limit of what we send. Default 255.
        ttl: u8,
        /// Drop adverts from addresses that are no peer.
        check_source: bool,
    },
}

/// A unicast peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct UnicastPeer {
    /// Same family as the instance.
    pub address: IpAddr,
    /// Lowest TTL accepted.
    pub min_ttl: Option<u8>,
    /// Highest TTL accepted.
    pub max_ttl: Option<u8>,
}

/// VRRPv2 authentication (RFC 2338).
#[derive(Clone, PartialEq, Eq)]
pub enum Authentication {
    /// Type 0.
    None,
    /// Type 1: eight octets, padded with zeros.
    Pass([u8; 8]),
    /// Type 2: IPsec authentication header, HMAC-MD5-96 with this key.
    Ah([u8; 8]),
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Pass(_) => "Pass(<hidden>)",
            Self::Ah(_) => "Ah(<hidden>)",
        })
    }
}

impl Serialize for Authentication {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(match self {
            Self::None => "none",
            Self::Pass(_) => "PASS <hidden>",
            Self::Ah(_) => "AH <hidden>",
        })
    }
}

impl Instance {
    /// All that it holds while it is active, advertised or not, each once.
    pub fn held(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.addresses.iter().chain(&self.excluded).filter(|address| !address.repeated)
    }
}

/// An address that moves with an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VirtualAddress {
    /// The address.
    pub address: IpAddr,
    /// Default 32 or 128.
    pub prefix_length: u8,
    /// Default: the instance's interface.
    pub interface: String,
    /// IPv4 only, at most 15 characters.
    pub label: Option<String>,
    /// rtnetlink scope: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
    /// IPv4 only; none unless asked for.
    pub broadcast: Option<Ipv4Addr>,
    /// Far end of a point-to-point address.
    pub peer: Option<(IpAddr, u8)>,
    /// `Some(0)`: deprecated, as keepalived does for an IPv6 /128. `None`: for ever.
    pub preferred_lifetime: Option<u32>,
    /// IFA_F_NODAD; IPv6 default on.
    pub no_dad: bool,
    /// IFA_F_HOMEADDRESS.
    pub home: bool,
    /// IFA_F_NOPREFIXROUTE.
    pub no_prefix_route: bool,
    /// IFA_F_MCAUTOJOIN.
    pub autojoin: bool,
    /// IFA_F_MANAGETEMPADDR, IPv6 only (`mngtmpaddr`).
    #[serde(skip_serializing_if = "is_default")]
    pub manage_temporary: bool,
    /// On a VMAC of its own over `interface` (`use_vmac`, `use_vmac_addr`); the prefix of its name. An address
    /// of the instance's family on the instance's interface is on the instance's VMAC without this.
    #[serde(skip_serializing_if = "is_default")]
    pub own_vmac: Option<String>,
    /// Put it back when somebody deletes it. keepalived: not `no_track`.
    pub track: bool,
    /// The same address stands further up. It is held once, but advertised as often as it is written, since
    /// keepalived 2.2.7 discards adverts with another number of addresses than its own.
    #[serde(skip_serializing_if = "is_default")]
    pub repeated: bool,
    /// Where it was written.
    pub place: Place,
}

/// How a tracked object acts on an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Effect {
    /// Down means FAULT; with `reverse`, up does.
    Fault {
        /// Swap up and down.
        reverse: bool,
    },
    /// Positive: added while up. Negative: added (so taken off) while down. `reverse` flips the sign
    /// of the effect: `5 reverse` takes 5 off while up, `-5 reverse` adds 5 while down.
    Weight {
        /// -253–253, not 0.
        weight: i16,
        /// keepalived's `reverse`.
        reverse: bool,
    },
    /// A number read from a file times the weight; at most ±253, -254 and below is FAULT.
    Value {
        /// -254–254, not 0.
        weight: i16,
        /// keepalived's `reverse`.
        reverse: bool,
    },
}

/// A tracked check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackCheck {
    /// Name of a [`Check`] that exists.
    pub check: String,
    /// What it does.
    pub effect: Effect,
}

/// A tracked interface.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackInterface {
    /// Up means administratively up and running.
    pub interface: String,
    /// What it does.
    pub effect: Effect,
}

/// When to announce the addresses. A round is one packet for each address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Announcements {
    /// Rounds of a burst when the instance becomes Active (`garp_master_repeat`), at least 1.
    pub rounds: u32,
    /// From round to round. Zero for ARP, as keepalived does; one second for NA (RFC 4861 §7.2.6).
    pub round_gap: Duration,
    /// The burst once more after this time (`garp_master_delay`).
    pub again_after: Option<Duration>,
    /// Again and again while Active (`garp_master_refresh`).
    pub refresh: Option<Duration>,
    /// Rounds of each refresh.
    pub refresh_rounds: u32,
    /// Rounds after an advert of lower priority; 0 for none.
    pub lower_priority_rounds: u32,
    /// And once more after this time.
    pub lower_priority_again_after: Option<Duration>,
    /// Least time between two packets on an interface (`garp_interval`, `gna_interval`).
    pub packet_gap: Duration,
}

/// Scripts of an instance. Each gets its own arguments; `any` gets four more, as keepalived gives them. Most instances
/// have none, so they are boxes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Notify {
    /// `notify`: `INSTANCE NAME STATE PRIORITY` is appended.
    pub any: Option<Box<Command>>,
    /// `notify_master`.
    pub master: Option<Box<Command>>,
    /// `notify_backup`.
    pub backup: Option<Box<Command>>,
    /// `notify_fault`.
    pub fault: Option<Box<Command>>,
    /// `notify_stop`.
    pub stop: Option<Box<Command>>,
    /// The program of `notify_deleted`.
    pub deleted: Option<Box<Command>>,
    /// What a reload removes is told as DELETED, not as FAULT: `notify_deleted`, with a program or without.
    #[serde(skip_serializing_if = "is_default")]
    pub tells_deleted: bool,
    /// `notify_master_rx_lower_pri`.
    pub master_rx_lower_priority: Option<Box<Command>>,
    /// FIFO lines for priority changes.
    pub priority_changes: bool,
}

impl Notify {
    /// Every script of it.
    pub fn commands(&self) -> impl Iterator<Item = &Command> {
        [
            &self.any,
            &self.master,
            &self.backup,
            &self.fault,
            &self.stop,
            &self.deleted,
            &self.master_rx_lower_priority,
        ]
        .into_iter()
        .filter_map(Option::as_deref)
    }
}

/// A program with its arguments; never a shell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Command {
    /// Absolute, or looked up in PATH.
    pub program: PathBuf,
    /// After the program's name.
    pub arguments: Vec<String>,
    /// `None`: as the daemon.
    pub user: Option<User>,
    /// Where it was written.
    pub place: Place,
}

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct User {
    /// For messages.
    pub name: String,
    /// Numeric user.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
}

/// A named pipe that gets a line for every change (`notify_fifo`, `vrrp_notify_fifo`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fifo {
    /// Made at start if missing.
    pub path: PathBuf,
    /// Started once, the path as its last argument.
    pub script: Option<Box<Command>>,
    /// Owner of the pipe.
    pub user: Option<User>,
    /// Where it was written.
    pub place: Place,
}
