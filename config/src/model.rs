//! What the operator means: typed values with their places, nothing filled in yet.
//!
//! Every door writes this; completing makes it ready to run.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

pub use crate::diagnostic::Located;
use crate::diagnostic::Location;
use crate::ready::{
    AnnouncementGroup, Announcements, BackendPolicy, Balance, Bfd, Dial, Discovery, Effect, Engine,
    ExtraAnnouncements, Fifo, Firewall, Forwarder, HealthPage, Hmac, Keepalive, Lease, LinkDelay, Notify,
    OldUnicastChecksum, Pace, Policy, Probe, Process, Route, Rule, UnicastPeer, Version, VirtualAddress,
    Vmac,
};

/// Everything that was written, in all files.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// For keepalived's data dump.
    pub shown: crate::ready::Shown,
    /// Name of this router.
    pub router_id: Option<Located<String>>,
    /// Path of the control socket.
    pub control_socket: Option<Located<PathBuf>>,
    /// Where metrics are served.
    pub metrics: Option<Located<SocketAddr>>,
    /// Where the web page is served.
    pub web: Option<Located<SocketAddr>>,
    /// SCHED_RR priority.
    pub realtime_priority: Option<Located<u8>>,
    /// Lock memory.
    pub lock_memory: Option<Located<bool>>,
    /// Log adverts of unknown VRIDs.
    pub log_unknown_vrids: Option<Located<bool>>,
    /// Wait before the start.
    pub startup_delay: Option<Located<Duration>>,
    /// Of instances that say nothing of it.
    pub lease: Option<Located<Lease>>,
    /// Checks that were refused and reported: naming one is no further mistake.
    pub refused_checks: Vec<String>,
    /// Probes and scripts.
    pub checks: Vec<Check>,
    /// VRRP instances.
    pub instances: Vec<Instance>,
    /// Listening services.
    pub listeners: Vec<Listener>,
    /// How the forwarder runs.
    pub forwarder: Forwarder,
    /// Pages that say whether the forwarder can forward.
    pub health_pages: Vec<HealthPage>,
    /// Pipes.
    pub fifos: Vec<Fifo>,
    /// Instances that need something static.
    pub track_groups: Vec<TrackGroup>,
    /// With their own interface each.
    pub static_addresses: Vec<StaticAddress>,
    /// There as long as the daemon runs.
    pub static_routes: Vec<Route>,
    /// There as long as the daemon runs.
    pub static_rules: Vec<Rule>,
    /// The nftables table.
    pub firewall: Option<Located<Firewall>>,
    /// What has a place of its own above is not looked at here.
    pub engine: Engine,
    /// Its `mail` is not looked at here.
    pub process: Process,
    /// Whom to mail, and how.
    pub mail: Mail,
    /// Instances that change state together.
    pub sync_groups: Vec<SyncGroup>,
    /// BFD sessions.
    pub bfd: Vec<Bfd>,
    /// Interfaces that share the gaps between announcements.
    pub announcement_groups: Vec<AnnouncementGroup>,
    /// When an interface counts as down or up.
    pub link_delays: Vec<LinkDelay>,
    /// TOML keys that one file alone may set, and where it did.
    pub set: HashMap<String, Location>,
}

/// Instances that need a static address, route or rule.
#[derive(Clone, Debug)]
pub struct TrackGroup {
    /// Unique.
    pub name: Located<String>,
    /// Names of instances.
    pub instances: Vec<Located<String>>,
}

/// An address that is there as long as the daemon runs.
#[derive(Clone, Debug)]
pub struct StaticAddress {
    /// With its own interface.
    pub address: Located<VirtualAddress>,
    /// Name of a [`TrackGroup`].
    pub track_group: Option<String>,
}

/// Mail, as far as it was written.
#[derive(Clone, Debug, Default)]
pub struct Mail {
    /// Nobody: no mail.
    pub to: Vec<String>,
    /// Default USER@HOST.
    pub from: Option<String>,
    /// None: no mail.
    pub server: Option<(String, u16)>,
    /// Default: the host's name.
    pub helo: Option<String>,
    /// Default 30 s.
    pub connect_timeout: Option<Duration>,
    /// No mail on FAULT.
    pub no_faults: bool,
    /// STARTTLS.
    pub start_tls: bool,
    /// User and the file with the password.
    pub login: Option<(String, PathBuf)>,
}

/// Instances that change state together.
#[derive(Clone, Debug)]
pub struct SyncGroup {
    /// Unique.
    pub name: Located<String>,
    /// Names of instances.
    pub members: Vec<Located<String>>,
    /// What acts on every member.
    pub trackers: Trackers,
    /// Weights count.
    pub tracking_weight: bool,
    /// Scripts of the group.
    pub notify: Notify,
    /// Mail when it changes state.
    pub smtp_alert: bool,
}

/// What an instance or a group tracks.
#[derive(Clone, Debug, Default)]
pub struct Trackers {
    /// Checks.
    pub checks: Vec<TrackCheck>,
    /// Interfaces.
    pub interfaces: Vec<(Located<String>, Effect)>,
    /// BFD sessions; without an effect that of the session.
    pub bfd: Vec<(Located<String>, Option<Effect>)>,
}

/// A check.
#[derive(Clone, Debug)]
pub struct Check {
    /// Unique.
    pub name: Located<String>,
    /// What to do.
    pub probe: Probe,
    /// From start to start.
    pub interval: Duration,
    /// Default: the interval.
    pub timeout: Option<Duration>,
    /// Successes in a row.
    pub rise: u32,
    /// Failures in a row.
    pub fall: u32,
    /// keepalived's rule.
    pub first_result_decides: bool,
    /// When it runs, beside its interval.
    pub pace: Pace,
    /// How its connections begin.
    pub dial: Dial,
    /// It is not run when nothing uses it, as in keepalived.
    pub only_if_used: bool,
}

/// The state that an instance wants to begin in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FirstState {
    /// Active at once, which only an owner may.
    Active,
    /// Listen first.
    Backup,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Unique.
    pub name: Located<String>,
    /// Where adverts are sent and heard.
    pub interface: Option<Located<String>>,
    /// 1–255.
    pub vrid: Option<Located<u8>>,
    /// Version of the protocol.
    pub version: Option<Located<Version>>,
    /// What an IPv4 instance without a version speaks.
    pub default_version: Version,
    /// 1–255.
    pub priority: Option<Located<u8>>,
    /// Default: active for priority 255.
    pub first_state: Option<Located<FirstState>>,
    /// Default 1 s.
    pub advert_interval: Option<Located<Duration>>,
    /// Default yes.
    pub preempt: Option<Located<bool>>,
    /// Default none.
    pub preempt_delay: Option<Located<Duration>>,
    /// Default 3.
    pub down_timer_adverts: Option<Located<u8>>,
    /// Source of the adverts.
    pub source: Option<Located<IpAddr>>,
    /// Group of the adverts; written for this instance.
    pub group: Option<Located<IpAddr>>,
    /// Groups for instances without their own: IPv4, IPv6.
    pub default_groups: (IpAddr, IpAddr),
    /// Peers; an empty list means that only other unicast words were written.
    pub unicast: Option<Unicast>,
    /// Version 2 password.
    pub password: Option<Located<Password>>,
    /// Checksum of RFC 9568.
    pub checksum_message_only: bool,
    /// Reject what the RFC rejects.
    pub strict: Option<Located<bool>>,
    /// `accept` or `no_accept`.
    pub accept: Option<Located<bool>>,
    /// Advertised.
    pub addresses: Vec<Located<Address>>,
    /// Not advertised.
    pub excluded: Vec<Located<Address>>,
    /// Only while a listener on its addresses has a healthy backend it wants to be active.
    pub eligible_when: Option<Location>,
    /// An instance without addresses is wanted.
    pub no_addresses: bool,
    /// What moves the priority or means FAULT.
    pub trackers: Trackers,
    /// Track the instance's own interface.
    pub track_primary: bool,
    /// Gratuitous ARP.
    pub gratuitous_arp: Announcements,
    /// Unsolicited neighbour advertisements.
    pub neighbor_advertisements: Announcements,
    /// The lower-priority rounds were written, so strict mode keeps them.
    pub lower_priority_rounds_written: bool,
    /// Answer adverts of lower priority. Default yes; strict: no.
    pub answer_lower_priority: Option<bool>,
    /// Send an advert on one of higher priority. Default no.
    pub answer_higher_priority: Option<bool>,
    /// Scripts.
    pub notify: Notify,
    /// A macvlan with the virtual MAC.
    pub vmac: Option<Vmac>,
    /// Addresses that are not on that macvlan get one of their own, with a name of this prefix.
    pub vmac_for_others: Option<String>,
    /// Added behind the addresses.
    pub routes: Vec<Route>,
    /// Added behind the routes.
    pub rules: Vec<Rule>,
    /// Sysctl of the interface.
    pub promote_secondaries: bool,
    /// Announcements on other interfaces of the same base.
    pub extra_announcements: Option<ExtraAnnouncements>,
    /// The password is that of an IPsec authentication header.
    pub authentication_header: bool,
    /// Adverts are signed. A time window of zero stands for the default, which depends on the advert interval.
    pub hmac: Option<Hmac>,
    /// FAULT while the source address is missing.
    pub track_source: bool,
    /// Priority of the Backup that would have taken over.
    pub timer_expired_backup: Option<Located<u8>>,
    /// Compare the address list of a sender once. Default no.
    pub skip_address_check: bool,
    /// Default no; strict: yes for the owner.
    pub owner_ignores_adverts: Option<bool>,
    /// How version 3 unicast adverts are summed.
    pub old_unicast_checksum: OldUnicastChecksum,
    /// Mail when the state changes.
    pub smtp_alert: bool,
    /// SO_RCVBUF.
    pub receive_buffer: Option<u32>,
    /// How long its addresses answer without being renewed.
    pub lease: Option<Located<Lease>>,
}

impl Instance {
    /// An instance of which only the name was written.
    pub(crate) fn new(name: Located<String>, default_version: Version) -> Self {
        Self {
            name,
            interface: None,
            vrid: None,
            version: None,
            default_version,
            priority: None,
            first_state: None,
            advert_interval: None,
            preempt: None,
            preempt_delay: None,
            down_timer_adverts: None,
            source: None,
            group: None,
            default_groups: (IpAddr::from([224, 0, 0, 18]), IpAddr::from([0xff02, 0, 0, 0, 0, 0, 0, 0x12])),
            unicast: None,
            password: None,
            checksum_message_only: false,
            strict: None,
            accept: None,
            addresses: Vec::new(),
            excluded: Vec::new(),
            eligible_when: None,
            no_addresses: false,
            trackers: Trackers::default(),
            track_primary: true,
            gratuitous_arp: crate::complete::arp_announcements(),
            neighbor_advertisements: crate::complete::neighbor_announcements(),
            lower_priority_rounds_written: false,
            answer_lower_priority: None,
            answer_higher_priority: None,
            notify: Notify::default(),
            vmac: None,
            vmac_for_others: None,
            routes: Vec::new(),
            rules: Vec::new(),
            promote_secondaries: false,
            extra_announcements: None,
            authentication_header: false,
            hmac: None,
            track_source: false,
            timer_expired_backup: None,
            skip_address_check: false,
            owner_ignores_adverts: None,
            old_unicast_checksum: OldUnicastChecksum::Detect,
            smtp_alert: false,
            receive_buffer: None,
            lease: None,
        }
    }
}

/// A password that is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Vec<u8>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(<hidden>)")
    }
}

/// Unicast words of an instance.
#[derive(Clone, Debug)]
pub struct Unicast {
    /// The first of them.
    pub at: Location,
    /// In the order they were written.
    pub peers: Vec<Located<UnicastPeer>>,
    /// TTL that we send.
    pub ttl: Option<u8>,
    /// Drop adverts of others.
    pub check_source: bool,
    /// Without peers: stay in FAULT, not multicast.
    pub fault_without_peer: bool,
}

/// A virtual address, its interface maybe not said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// Default: that of the instance.
    pub interface: Option<Located<String>>,
    /// The rest; its own `interface` is empty.
    pub address: VirtualAddress,
}

/// A tracked check by name.
#[derive(Clone, Debug)]
pub struct TrackCheck {
    /// Name of the check.
    pub check: Located<String>,
    /// What it does.
    pub effect: Effect,
}

/// A listener.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Unique.
    pub name: Located<String>,
    /// Where to listen.
    pub bind: Vec<Located<SocketAddr>>,
    /// How to choose.
    pub balance: Balance,
    /// Where to connect.
    pub backends: Vec<Backend>,
    /// For one backend.
    pub connect_timeout: Duration,
    /// Without a byte.
    pub idle_timeout: Option<Duration>,
    /// Probes on both legs.
    pub keepalive: Option<Keepalive>,
    /// TCP_USER_TIMEOUT.
    pub user_timeout: Option<Duration>,
    /// At a time.
    pub max_sessions: u32,
    /// When its check calls a backend down.
    pub close_sessions_on_backend_down: bool,
    /// Instances it belongs to; `None`: those that hold an address it binds.
    pub instances: Option<Vec<Located<String>>>,
    /// Backends by name.
    pub discovered: Vec<Discovery>,
    /// What is asked for less often.
    pub policy: Policy,
    /// Left out, with a warning, where it cannot be done: a virtual server of keepalived.conf, which must not keep an
    /// address from being held.
    pub optional: bool,
}

/// A backend.
#[derive(Clone, Debug)]
pub struct Backend {
    /// Unique in its listener.
    pub name: Located<String>,
    /// Where to connect.
    pub address: Located<SocketAddr>,
    /// 0–65535.
    pub weight: u16,
    /// Names of its checks.
    pub checks: Vec<Located<String>>,
    /// What is asked for less often.
    pub policy: BackendPolicy,
}
