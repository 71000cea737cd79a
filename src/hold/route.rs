//! Requests to add and remove a route, with the attributes that keepalived gives them.
//!
//! All attributes are written here, by the numbers of `linux/rtnetlink.h` and `linux/lwtunnel.h`: the library has
//! no words for some of them.

use std::io;
use std::net::IpAddr;

use config::ready::{Encapsulation, Family, NextHop, Prefix, Route, RouteOrder, RouteType};
use nix::libc;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NetlinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::entry::network;
use super::links::Links;
use super::request::finish;
use crate::netlink::attributes::{Attributes, name, octets, raw};

/// RT_SCOPE_NOWHERE: a route of any scope is removed.
const ANY_SCOPE: u8 = 255;
/// IP6_RT_PRIO_USER, where none was given.
const IPV6_METRIC: u32 = 1024;
const RTA_EXPIRES: u16 = 23;
const RTA_TTL_PROPAGATE: u16 = 26;
const RTAX_LOCK: u16 = 1;
const RTAX_CC_ALGO: u16 = 16;
/// RTNH_F_ONLINK.
const ON_LINK: u8 = 4;

/// Adds the route; EEXIST if it is there.
///
/// # Errors
///
/// ENODEV when the interface of a next hop does not exist.
pub(super) fn add(route: &Route, links: &Links) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
    let flags = match route.order {
        RouteOrder::Prepend => NLM_F_CREATE,
        RouteOrder::Add => NLM_F_CREATE | NLM_F_EXCL,
        RouteOrder::Append => NLM_F_CREATE | NLM_F_APPEND,
    };
    let message = base(route, route.scope.unwrap_or(default_scope(route)), links)?;
    Ok(finish(RouteNetlinkMessage::NewRoute(message), flags))
}

/// Removes the route; ESRCH if it is not there.
///
/// # Errors
///
/// As for [`add`].
pub(super) fn remove(route: &Route, links: &Links) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
    let message = base(route, route.scope.unwrap_or(ANY_SCOPE), links)?;
    Ok(finish(RouteNetlinkMessage::DelRoute(message), 0))
}

/// Asks for all routes of its family.
pub(super) fn list(route: &Route) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.family);
    finish(RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP)
}

/// The kernel has this route, as far as what tells routes apart goes, and with its source.
pub(super) fn is_shown_as(route: &Route, found: &RouteMessage) -> bool {
    let address = |wanted: fn(&RouteAttribute) -> Option<&RouteAddress>| {
        found.attributes.iter().find_map(wanted).and_then(|address| match address {
            RouteAddress::Inet(address) => Some(IpAddr::from(*address)),
            RouteAddress::Inet6(address) => Some(IpAddr::from(*address)),
            _ => None,
        })
    };
    let number = |wanted: fn(&RouteAttribute) -> Option<u32>| found.attributes.iter().find_map(wanted);
    let destination = address(|one| if let RouteAttribute::Destination(to) = one { Some(to) } else { None });
    let source = address(|one| if let RouteAttribute::PrefSource(from) = one { Some(from) } else { None });
    let table = number(|one| if let RouteAttribute::Table(table) = one { Some(*table) } else { None });
    let metric = number(|one| if let RouteAttribute::Priority(metric) = one { Some(*metric) } else { None });
    let usual_metric = (route.family == Family::Ipv6).then_some(IPV6_METRIC);
    let header = &found.header;
    let wanted = route.destination.filter(|prefix| prefix.length > 0);
    header.address_family == family(route.family)
        && header.kind == kind(route.kind).into()
        && header.protocol == route.protocol.into()
        && header.tos == route.tos.unwrap_or(0)
        && header.destination_prefix_length == route.destination.map_or(0, |prefix| prefix.length)
        && destination == wanted.map(network)
        && source == route.source
        && table.unwrap_or(u32::from(header.table)) == route.table
        && metric == route.metric.or(usual_metric)
}

fn base(route: &Route, scope: u8, links: &Links) -> io::Result<RouteMessage> {
    let mut message = RouteMessage::default();
    let header = &mut message.header;
    header.address_family = family(route.family);
    header.destination_prefix_length = route.destination.map_or(0, |prefix| prefix.length);
    header.source_prefix_length = route.from.map_or(0, |prefix| prefix.length);
    header.tos = route.tos.unwrap_or(0);
    // Larger ones are in the attribute alone.
    header.table = u8::try_from(route.table).unwrap_or(0);
    header.protocol = route.protocol.into();
    header.scope = scope.into();
    header.kind = kind(route.kind).into();

    let mut attributes = Vec::new();
    let mut put = |kind: u16, value: Vec<u8>| attributes.push(RouteAttribute::Other(raw(kind, value)));
    if let Some(Prefix { address, .. }) = route.destination {
        put(libc::RTA_DST, octets(address));
    }
    if let Some(Prefix { address, .. }) = route.from {
        put(libc::RTA_SRC, octets(address));
    }
    put(libc::RTA_TABLE, number(route.table));
    if let Some(metric) = route.metric {
        put(libc::RTA_PRIORITY, number(metric));
    }
    if let Some(source) = route.source {
        put(libc::RTA_PREFSRC, octets(source));
    }
    if let Some(realms) = route.realms {
        put(libc::RTA_FLOW, number(realms));
    }
    if let Some(seconds) = route.expires {
        put(RTA_EXPIRES, number(seconds));
    }
    if let Some(preference) = route.preference {
        put(libc::RTA_PREF, vec![preference]);
    }
    if let Some(propagate) = route.ttl_propagate {
        put(RTA_TTL_PROPAGATE, vec![u8::from(propagate)]);
    }
    let metrics = metrics(route);
    if !metrics.as_octets().is_empty() {
        put(libc::RTA_METRICS, metrics.as_octets().to_vec());
    }
    match route.next_hops.as_slice() {
        [] => {}
        [hop] => {
            if let Some(index) = index(hop, links)? {
                put(libc::RTA_OIF, number(index));
            }
            for (kind, value) in hop_attributes(hop, route.family) {
                put(kind, value);
            }
            if hop.on_link {
                header.flags = RouteFlags::Onlink;
            }
        }
        hops => put(libc::RTA_MULTIPATH, multipath(hops, route.family, links)?),
    }
    message.attributes = attributes;
    Ok(message)
}

/// RT_SCOPE_UNIVERSE also without a gateway, as keepalived has it; but where the kernel refuses that, what it wants
/// (seen with keepalived 2.2.7: `Invalid argument` for `local 10.64.0.1 dev eth0`).
fn default_scope(route: &Route) -> u8 {
    const LINK: u8 = 253;
    const HOST: u8 = 254;
    match (route.family, route.kind) {
        (Family::Ipv4, RouteType::Local | RouteType::Nat) => HOST,
        (Family::Ipv4, RouteType::Broadcast | RouteType::Anycast) => LINK,
        _ => 0,
    }
}

fn family(family: Family) -> AddressFamily {
    match family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    }
}

fn kind(kind: RouteType) -> u8 {
    match kind {
        RouteType::Unicast => 1,
        RouteType::Local => 2,
        RouteType::Broadcast => 3,
        RouteType::Anycast => 4,
        RouteType::Multicast => 5,
        RouteType::Blackhole => 6,
        RouteType::Unreachable => 7,
        RouteType::Prohibit => 8,
        RouteType::Throw => 9,
        RouteType::Nat => 10,
        RouteType::ExternalResolve => 11,
    }
}

fn number(value: u32) -> Vec<u8> {
    value.to_ne_bytes().to_vec()
}

/// RTA_METRICS.
fn metrics(route: &Route) -> Attributes {
    let mut metrics = Attributes::default();
    if route.locked != 0 {
        metrics.put(RTAX_LOCK, &route.locked.to_ne_bytes());
    }
    for (kind, value) in &route.metrics {
        metrics.put(*kind, &value.to_ne_bytes());
    }
    if let Some(algorithm) = &route.congestion_control {
        metrics.put(RTAX_CC_ALGO, &name(algorithm));
    }
    metrics
}

fn index(hop: &NextHop, links: &Links) -> io::Result<Option<u32>> {
    let Some(interface) = &hop.interface else { return Ok(None) };
    match links.by_name(interface) {
        Some(link) => Ok(Some(link.index)),
        None => Err(io::Error::from_raw_os_error(libc::ENODEV)),
    }
}

/// Gateway, realms and tunnel of a hop.
fn hop_attributes(hop: &NextHop, family: Family) -> Vec<(u16, Vec<u8>)> {
    let mut attributes = Vec::new();
    if let Some(gateway) = hop.gateway {
        attributes.push(match (gateway, family) {
            (IpAddr::V4(_), Family::Ipv4) | (IpAddr::V6(_), Family::Ipv6) => {
                (libc::RTA_GATEWAY, octets(gateway))
            }
            // `struct rtvia`: the family, then the address.
            (IpAddr::V4(_), Family::Ipv6) => (libc::RTA_VIA, via(libc::AF_INET, gateway)),
            (IpAddr::V6(_), Family::Ipv4) => (libc::RTA_VIA, via(libc::AF_INET6, gateway)),
        });
    }
    if let Some(realms) = hop.realms {
        attributes.push((libc::RTA_FLOW, number(realms)));
    }
    if let Some(encapsulation) = &hop.encapsulation {
        let (kind, value) = tunnel(encapsulation);
        attributes.push((libc::RTA_ENCAP_TYPE, kind.to_ne_bytes().to_vec()));
        attributes.push((libc::RTA_ENCAP, value.as_octets().to_vec()));
    }
    attributes
}

fn via(family: libc::c_int, gateway: IpAddr) -> Vec<u8> {
    let family = u16::try_from(family).expect("address families are small");
    family.to_ne_bytes().into_iter().chain(octets(gateway)).collect()
}

/// `struct rtnexthop`: length u16, flags u8, weight less one u8, index i32; then the hop's own attributes.
fn multipath(hops: &[NextHop], family: Family, links: &Links) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    for hop in hops {
        let mut attributes = Attributes::default();
        for (kind, value) in hop_attributes(hop, family) {
            attributes.put(kind, &value);
        }
        let length = u16::try_from(8 + attributes.as_octets().len()).expect("a hop has few attributes");
        let weight = u8::try_from(hop.weight.saturating_sub(1)).unwrap_or(u8::MAX);
        all.extend(length.to_ne_bytes());
        all.extend([if hop.on_link { ON_LINK } else { 0 }, weight]);
        all.extend(index(hop, links)?.unwrap_or(0).to_ne_bytes());
        all.extend(attributes.as_octets());
    }
    Ok(all)
}

/// LWTUNNEL_ENCAP_* and what stands in RTA_ENCAP.
fn tunnel(encapsulation: &Encapsulation) -> (u16, Attributes) {
    const MPLS: u16 = 1;
    const IP: u16 = 2;
    const ILA: u16 = 3;
    const IP6: u16 = 4;
    let mut inner = Attributes::default();
    match encapsulation {
        Encapsulation::Ip { id, destination, source, tos, ttl, flags, family } => {
            if let Some(id) = id {
                inner.put(1, &id.to_be_bytes());
            }
            if let Some(destination) = destination {
                inner.put(2, &octets(*destination));
            }
            if let Some(source) = source {
                inner.put(3, &octets(*source));
            }
            if let Some(ttl) = ttl {
                inner.put(4, &[*ttl]);
            }
            if let Some(tos) = tos {
                inner.put(5, &[*tos]);
            }
            if let Some(flags) = flags {
                inner.put(6, &flags.to_be_bytes());
            }
            (if *family == Family::Ipv4 { IP } else { IP6 }, inner)
        }
        Encapsulation::Mpls { labels, ttl } => {
            // RFC 3032: label 20 bits, class 3, bottom of stack 1, TTL 8.
            let bottom = labels.len().saturating_sub(1);
            let stack = labels.iter().enumerate();
            let stack: Vec<u8> = stack
                .flat_map(|(i, label)| (label << 12 | u32::from(i == bottom) << 8).to_be_bytes())
                .collect();
            inner.put(1, &stack);
            if let Some(ttl) = ttl {
                inner.put(2, &[*ttl]);
            }
            (MPLS, inner)
        }
        Encapsulation::Ila { locator } => (ILA, inner.with(1, &locator.to_be_bytes())),
    }
}
