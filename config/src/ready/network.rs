//! What moves with an instance besides its addresses, and what is simply there: routes, rules, VMACs.

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::{Family, Place, VirtualAddress, is_default};

/// The routing protocol of everything that is set here (`RTPROT_KEEPALIVED`, rt_protos 18).
pub const PROTOCOL: u8 = 18;
/// `RT_TABLE_MAIN`.
pub const MAIN_TABLE: u32 = 254;

/// An address that is there as long as the daemon runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StaticAddress {
    /// With its own interface.
    pub address: VirtualAddress,
    /// Name of a [`TrackGroup`]: its instances are in FAULT while the address is missing.
    #[serde(skip_serializing_if = "is_default")]
    pub track_group: Option<String>,
}

/// Instances that need a static address, route or rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackGroup {
    /// Unique.
    pub name: String,
    /// Names of instances that exist.
    pub instances: Vec<String>,
    /// Where it begins.
    pub place: Place,
}

/// A prefix: `10.0.0.0/8`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Prefix {
    /// Host bits as they were written.
    pub address: IpAddr,
    /// 0–32 or 0–128.
    pub length: u8,
}

/// What a route does with a packet (`RTN_*`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum RouteType {
    /// To the next hop.
    #[default]
    Unicast,
    /// To this host.
    Local,
    /// As a broadcast.
    Broadcast,
    /// As a broadcast, received as unicast.
    Anycast,
    /// As multicast.
    Multicast,
    /// Dropped.
    Blackhole,
    /// Answered with ICMP host unreachable.
    Unreachable,
    /// Answered with ICMP administratively prohibited.
    Prohibit,
    /// Looked up in the next table.
    Throw,
    /// Translated.
    Nat,
    /// Given to user space.
    ExternalResolve,
}

/// How a route is added beside others with the same destination.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum RouteOrder {
    /// Before them; keepalived's default.
    #[default]
    Prepend,
    /// An error if it exists (`add`).
    Add,
    /// Behind them.
    Append,
}

/// A route (`virtual_routes`, `static_routes`; ip-route(8)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Of the destination.
    pub family: Family,
    /// What it does.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: RouteType,
    /// `None`: default.
    pub destination: Option<Prefix>,
    /// IPv6 only: source prefix (`from`).
    #[serde(skip_serializing_if = "is_default")]
    pub from: Option<Prefix>,
    /// Preferred source address (`src`).
    #[serde(skip_serializing_if = "is_default")]
    pub source: Option<IpAddr>,
    /// Default 254 (main).
    pub table: u32,
    /// `None`: the kernel's default, or link for a route without gateway.
    #[serde(skip_serializing_if = "is_default")]
    pub scope: Option<u8>,
    /// Default 18.
    pub protocol: u8,
    /// `metric`, `priority`, `preference`.
    #[serde(skip_serializing_if = "is_default")]
    pub metric: Option<u32>,
    /// Type of service.
    #[serde(skip_serializing_if = "is_default")]
    pub tos: Option<u8>,
    /// `realms FROM/TO`: from in the upper 16 bits.
    #[serde(skip_serializing_if = "is_default")]
    pub realms: Option<u32>,
    /// One for a plain route, several for `nexthop`, none when neither a gateway nor an interface is said.
    pub next_hops: Vec<NextHop>,
    /// `expires`: seconds, IPv6 only.
    #[serde(skip_serializing_if = "is_default")]
    pub expires: Option<u32>,
    /// Router preference, IPv6 only: 0 medium, 1 high, 3 low (RFC 4191).
    #[serde(skip_serializing_if = "is_default")]
    pub preference: Option<u8>,
    /// `ttl-propagate`.
    #[serde(skip_serializing_if = "is_default")]
    pub ttl_propagate: Option<bool>,
    /// Metrics by `RTAX_*` number, ascending, each once: MTU 2, window 3, RTT 4 (in 1/8 ms), and so on.
    #[serde(skip_serializing_if = "is_default")]
    pub metrics: Vec<(u16, u32)>,
    /// `RTAX_LOCK`: bit n locks metric n.
    #[serde(skip_serializing_if = "is_default")]
    pub locked: u32,
    /// `RTAX_CC_ALGO`.
    #[serde(skip_serializing_if = "is_default")]
    pub congestion_control: Option<String>,
    /// How it is added.
    #[serde(skip_serializing_if = "is_default")]
    pub order: RouteOrder,
    /// The instance lets go while somebody else has removed it. keepalived: not `no_track`, and an
    /// interface (2.2.7).
    pub track: bool,
    /// Static routes only.
    #[serde(skip_serializing_if = "is_default")]
    pub track_group: Option<String>,
    /// One line, as keepalived's dump and JSON show it.
    pub text: String,
    /// Where it was written.
    pub place: Place,
}

impl Route {
    /// The family that its addresses say, gateways last.
    pub(crate) fn said_family(&self) -> Option<Family> {
        let own = self.destination.or(self.from).map(|prefix| prefix.address).or(self.source);
        own.or_else(|| self.next_hops.iter().find_map(|hop| hop.gateway)).map(crate::complete::family_of)
    }

    /// A plain route names its interface.
    pub(crate) fn has_interface(&self) -> bool {
        matches!(self.next_hops.as_slice(), [hop] if hop.interface.is_some())
    }
}

/// Where a route leads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NextHop {
    /// `via`; its family may differ from the route's.
    pub gateway: Option<IpAddr>,
    /// `dev`.
    pub interface: Option<String>,
    /// 1–256; 1 when not written.
    pub weight: u16,
    /// `onlink`.
    #[serde(skip_serializing_if = "is_default")]
    pub on_link: bool,
    /// Realms of this hop.
    #[serde(skip_serializing_if = "is_default")]
    pub realms: Option<u32>,
    /// `encap`.
    #[serde(skip_serializing_if = "is_default")]
    pub encapsulation: Option<Encapsulation>,
}

/// Light-weight tunnel of a next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Encapsulation {
    /// `encap ip` and `encap ip6`.
    Ip {
        /// Tunnel id.
        id: Option<u64>,
        /// Far end.
        destination: Option<IpAddr>,
        /// Near end.
        source: Option<IpAddr>,
        /// TOS or traffic class.
        tos: Option<u8>,
        /// TTL or hop limit.
        ttl: Option<u8>,
        /// `LWTUNNEL_IP_FLAGS`.
        flags: Option<u16>,
        /// The tunnel's own family.
        family: Family,
    },
    /// `encap mpls LABEL/LABEL…`, top first.
    Mpls {
        /// 0–1048575.
        labels: Vec<u32>,
        /// Initial TTL.
        ttl: Option<u8>,
    },
    /// `encap ila LOCATOR`.
    Ila {
        /// Upper 64 bits of the address.
        locator: u64,
    },
}

/// What a rule does with a packet it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum RuleAction {
    /// Look it up in a table.
    Table(u32),
    /// Go on with the rule of this preference.
    Goto(u32),
    /// Nothing.
    Nop,
    /// `FR_ACT_BLACKHOLE`.
    Blackhole,
    /// `FR_ACT_UNREACHABLE`.
    Unreachable,
    /// `FR_ACT_PROHIBIT`.
    Prohibit,
    /// The table of the packet's VRF (`l3mdev`).
    L3mdev,
}

/// A policy routing rule (`virtual_rules`, `static_rules`; ip-rule(8)).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Of what it matches.
    pub family: Family,
    /// `not`.
    #[serde(skip_serializing_if = "is_default")]
    pub invert: bool,
    /// Source.
    #[serde(skip_serializing_if = "is_default")]
    pub from: Option<Prefix>,
    /// Destination.
    #[serde(skip_serializing_if = "is_default")]
    pub to: Option<Prefix>,
    /// Given from 16384 downwards when it is not written, as in keepalived.
    pub preference: u32,
    /// Type of service.
    #[serde(skip_serializing_if = "is_default")]
    pub tos: Option<u8>,
    /// Mark and mask.
    #[serde(skip_serializing_if = "is_default")]
    pub mark: Option<(u32, Option<u32>)>,
    /// `realms FROM/TO`.
    #[serde(skip_serializing_if = "is_default")]
    pub realms: Option<u32>,
    /// `suppress_prefixlength`.
    #[serde(skip_serializing_if = "is_default")]
    pub suppress_prefix_length: Option<u32>,
    /// `suppress_ifgroup`.
    #[serde(skip_serializing_if = "is_default")]
    pub suppress_interface_group: Option<u32>,
    /// `iif`, `dev`.
    #[serde(skip_serializing_if = "is_default")]
    pub input_interface: Option<String>,
    /// `oif`.
    #[serde(skip_serializing_if = "is_default")]
    pub output_interface: Option<String>,
    /// `tunnel-id`.
    #[serde(skip_serializing_if = "is_default")]
    pub tunnel_id: Option<u64>,
    /// `uidrange`.
    #[serde(skip_serializing_if = "is_default")]
    pub users: Option<(u32, u32)>,
    /// `ipproto`.
    #[serde(skip_serializing_if = "is_default")]
    pub ip_protocol: Option<u8>,
    /// `sport`.
    #[serde(skip_serializing_if = "is_default")]
    pub source_ports: Option<(u16, u16)>,
    /// `dport`.
    #[serde(skip_serializing_if = "is_default")]
    pub destination_ports: Option<(u16, u16)>,
    /// Default 18.
    pub protocol: u8,
    /// What it does.
    pub action: RuleAction,
    /// As with [`Route::track`].
    pub track: bool,
    /// Static rules only.
    #[serde(skip_serializing_if = "is_default")]
    pub track_group: Option<String>,
    /// One line, as keepalived's dump and JSON show it.
    pub text: String,
    /// Where it was written.
    pub place: Place,
}

impl Rule {
    /// The family that its addresses say.
    pub(crate) fn said_family(&self) -> Option<Family> {
        self.from.or(self.to).map(|prefix| crate::complete::family_of(prefix.address))
    }
}

/// A macvlan interface with the virtual router's own MAC address (`use_vmac`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Vmac {
    /// Name as written, or `PREFIX.VRID`; when that is taken, the next free `PREFIXn.VRID` (IPv6: `PREFIX6.VRID`).
    pub name: Option<String>,
    /// `vmac_prefix`, default `vrrp`.
    pub prefix: String,
    /// `None`: 00:00:5e:00:01:VRID, IPv6 00:00:5e:00:02:VRID (RFC 9568 §7.3).
    pub mac: Option<[u8; 6]>,
    /// Adverts leave by the base interface with its own MAC (`vmac_xmit_base`).
    pub transmit_on_base: bool,
    /// Addresses with `dev` of other interfaces get a VMAC of their own (`use_vmac_addr`).
    pub for_other_interfaces: bool,
    /// `IFLA_GROUP`.
    #[serde(skip_serializing_if = "is_default")]
    pub group: Option<u32>,
}

/// Gaps between announcements that several interfaces share (`garp_group`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AnnouncementGroup {
    /// Interfaces of the group; each is in one group at most.
    pub interfaces: Vec<String>,
    /// Between two gratuitous ARPs.
    pub arp_gap: Duration,
    /// Between two unsolicited neighbour advertisements.
    pub na_gap: Duration,
    /// Where it begins.
    pub place: Place,
}

/// How long an interface must stay down or up before it counts (`interface_up_down_delays`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LinkDelay {
    /// Its name.
    pub interface: String,
    /// 0–255 s.
    pub down: Duration,
    /// 0–255 s.
    pub up: Duration,
    /// Where it was written.
    pub place: Place,
}

/// Announcements on other interfaces of the same base (`garp_extra_if`): `all`, or VMACs only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ExtraAnnouncements {
    /// Not only VMAC interfaces.
    pub all: bool,
    /// From one to the next.
    pub interval: Duration,
}

/// The nftables table for `no_accept` and for VMACs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Firewall {
    /// Default `keepalived`, in the families `ip` and `ip6`.
    pub table: String,
    /// Offset from `filter` (0). Default -1.
    pub priority: i32,
    /// Each rule counts.
    pub counters: bool,
    /// For the data dump (`nftables_ifindex`): interfaces are matched by index in any case.
    pub by_index: bool,
}

impl Default for Firewall {
    fn default() -> Self {
        Self { table: "keepalived".into(), priority: -1, counters: false, by_index: false }
    }
}
