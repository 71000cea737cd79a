//! Routes and rules on one line, as the data dump and the JSON of keepalived 2.2.7 show them.

use std::fmt::Write as _;
use std::net::IpAddr;

use super::{
    Encapsulation, Family, MAIN_TABLE, NextHop, Prefix, Route, RouteOrder, RouteType, Rule, RuleAction,
};

/// Metrics in keepalived's order: number, name, and how many units make a millisecond.
const METRICS: [(u16, &str, Option<f64>); 14] = [
    (4, "rtt", Some(8.0)),
    (5, "rttvar", Some(4.0)),
    (13, "rto_min", Some(1.0)),
    (12, "features", None),
    (2, "mtu", None),
    (3, "window", None),
    (6, "ssthresh", None),
    (7, "cwnd", None),
    (8, "advmss", None),
    (9, "reordering", None),
    (10, "hoplimit", None),
    (11, "initcwnd", None),
    (14, "initrwnd", None),
    (15, "quickack", None),
];

/// A route; keepalived does not show the protocol of one that `no_track` was written for.
pub(crate) fn route_text(route: &Route, protocol: bool) -> String {
    let mut text = match route.order {
        RouteOrder::Prepend => "prepend ".to_owned(),
        RouteOrder::Add => "add ".to_owned(),
        RouteOrder::Append => "append ".to_owned(),
    };
    if route.kind != RouteType::Unicast {
        let _ = write!(text, "{} ", kind(route.kind));
    }
    match (&route.destination, route.family) {
        (Some(to), _) => text.push_str(&prefix(to)),
        (None, Family::Ipv4) => text.push_str("0.0.0.0/0"),
        (None, Family::Ipv6) => text.push_str("::/0"),
    }
    if let Some(from) = &route.from {
        let _ = write!(text, " from {}", prefix(from));
    }
    option(&mut text, "src", route.source);
    option(&mut text, "tos", route.tos);
    let plain = match route.next_hops.as_slice() {
        [hop] => Some(hop),
        _ => None,
    };
    if let Some(hop) = plain {
        encapsulation(&mut text, hop);
        via(&mut text, hop);
        option(&mut text, "dev", hop.interface.as_deref());
    }
    if route.table != MAIN_TABLE {
        option(&mut text, "table", Some(route.table));
    }
    if protocol || route.protocol != super::PROTOCOL {
        option(&mut text, "proto", Some(route.protocol));
    }
    option(&mut text, "scope", route.scope);
    option(&mut text, "metric", route.metric);
    if plain.is_some_and(|hop| hop.on_link) && route.family == Family::Ipv4 {
        text.push_str(" onlink");
    }
    realms(&mut text, route.realms, route.realms);
    if let Some(seconds) = route.expires {
        let _ = write!(text, " expires {seconds}sec");
    }
    metrics(&mut text, route);
    if plain.is_none() {
        for hop in &route.next_hops {
            next_hop(&mut text, hop, route.realms);
        }
    }
    if !route.track {
        text.push_str(" no_track");
    }
    option(&mut text, "track_group", route.track_group.as_deref());
    text
}

fn next_hop(text: &mut String, hop: &NextHop, of_route: Option<u32>) {
    text.push_str(" nexthop");
    via(text, hop);
    option(text, "dev", hop.interface.as_deref());
    if hop.weight != 1 {
        option(text, "weight", Some(hop.weight));
    }
    if hop.on_link {
        text.push_str(" onlink");
    }
    // keepalived decides by the route's own realms whether it shows both of a hop (2.2.7, 2.4.3).
    realms(text, hop.realms, of_route);
    encapsulation(text, hop);
}

fn metrics(text: &mut String, route: &Route) {
    let locked = |number: u16| route.locked & (1 << number) != 0;
    if let Some(algorithm) = &route.congestion_control {
        // Without a blank before `lock`, and with one behind it, as in keepalived.
        let _ = write!(text, " congctl {algorithm}{}", if locked(16) { "lock " } else { "" });
    }
    for (number, name, unit) in METRICS {
        let Some((_, value)) = route.metrics.iter().find(|(n, _)| *n == number) else { continue };
        if number == 12 {
            if value & 1 != 0 {
                text.push_str(" features ecn");
            }
            continue;
        }
        let _ = write!(text, " {name} {}", if locked(number) { "lock " } else { "" });
        let _ = match unit {
            None => write!(text, "{value}"),
            Some(unit) if f64::from(*value) >= 1000.0 * unit => {
                write!(text, "{}s", six_digits(f64::from(*value) / (1000.0 * unit)))
            }
            Some(unit) => write!(text, "{}ms", six_digits(f64::from(*value) / unit)),
        };
    }
    option(text, "pref", route.preference.map(|p| ["medium", "high", "unknown", "low"][usize::from(p & 3)]));
    if let Some((_, value)) = route.metrics.iter().find(|(n, _)| *n == 17) {
        let _ = write!(text, " fastopen_no_cookie {value}");
    }
    if let Some(on) = route.ttl_propagate {
        let _ = write!(text, " ttl-propagate {}abled", if on { "en" } else { "dis" });
    }
}

/// C's `%g`: six significant digits, no zeros at the end. The values are between 0.125 and 120 000.
fn six_digits(value: f64) -> String {
    let whole = (value.max(1.0).log10().floor() + 1.0) as usize;
    let text = format!("{value:.*}", 6usize.saturating_sub(whole));
    match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text,
    }
}

fn via(text: &mut String, hop: &NextHop) {
    if let Some(gateway) = hop.gateway {
        let family = if gateway.is_ipv6() { "inet6" } else { "inet" };
        let _ = write!(text, " via {family} {gateway}");
    }
}

fn encapsulation(text: &mut String, hop: &NextHop) {
    let _ = match &hop.encapsulation {
        None => return,
        Some(Encapsulation::Mpls { labels, .. }) => {
            text.push_str(" encap mpls");
            for (index, label) in labels.iter().enumerate() {
                // As on the wire: the label above 12 bits, bit 8 for the bottom of the stack.
                let bottom = if index + 1 == labels.len() { 0x100 } else { 0 };
                let between = if index == 0 { ' ' } else { '/' };
                let _ = write!(text, "{between}{:x}", label << 12 | bottom);
            }
            return;
        }
        Some(Encapsulation::Ila { locator }) => write!(text, " encap ila {}", locator.swap_bytes()),
        Some(Encapsulation::Ip { id, destination, source, tos, ttl, flags, family }) => {
            let six = *family == Family::Ipv6;
            text.push_str(if six { " encap ip6" } else { " encap ip" });
            option(text, "id", *id);
            option(text, "dst", *destination);
            option(text, "src", *source);
            option(text, if six { "tc" } else { "tos" }, *tos);
            option(text, if six { "hoplimit" } else { "ttl" }, *ttl);
            flags.map_or(Ok(()), |flags| write!(text, " flags 0x{flags:x}"))
        }
    };
}

/// A rule.
pub(crate) fn rule_text(rule: &Rule, protocol: bool) -> String {
    let mut text = String::new();
    if rule.from.is_none() && rule.to.is_none() && rule.family == Family::Ipv6 {
        text.push_str("inet6 ");
    }
    if rule.invert {
        text.push_str("not ");
    }
    let _ = write!(text, "from {}", rule.from.as_ref().map_or_else(|| "all".to_owned(), prefix));
    option(&mut text, "to", rule.to.as_ref().map(prefix));
    let _ = write!(text, " priority {} tos 0x{:x}", rule.preference, rule.tos.unwrap_or(0));
    if let Some((mark, mask)) = rule.mark {
        let _ = write!(text, " fwmark 0x{mark:x}");
        if let Some(mask) = mask.filter(|mask| *mask != u32::MAX) {
            let _ = write!(text, "/0x{mask:x}");
        }
    }
    option(&mut text, "iif", rule.input_interface.as_deref());
    option(&mut text, "oif", rule.output_interface.as_deref());
    option(&mut text, "suppress_prefixlen", rule.suppress_prefix_length);
    option(&mut text, "suppress_ifgroup", rule.suppress_interface_group);
    option(&mut text, "tunnel-id", rule.tunnel_id);
    range(&mut text, "uidrange", rule.users);
    if rule.action == RuleAction::L3mdev {
        text.push_str(" l3mdev");
    }
    if protocol || rule.protocol != super::PROTOCOL {
        option(&mut text, "protocol", Some(rule.protocol));
    }
    option(&mut text, "ipproto", rule.ip_protocol);
    range(&mut text, "sport", rule.source_ports);
    range(&mut text, "dport", rule.destination_ports);
    if let Some(realms) = rule.realms {
        let _ = write!(text, " realms {}/{}", realms >> 16, realms & 0xffff);
    }
    let _ = match rule.action {
        RuleAction::Table(table) => write!(text, " lookup {table}"),
        RuleAction::Goto(preference) => write!(text, " goto {preference}"),
        RuleAction::Nop => write!(text, " nop"),
        RuleAction::Blackhole => write!(text, " type blackhole"),
        RuleAction::Unreachable => write!(text, " type unreachable"),
        RuleAction::Prohibit => write!(text, " type prohibit"),
        RuleAction::L3mdev => write!(text, " lookup 0"),
    };
    if !rule.track {
        text.push_str(" no_track");
    }
    option(&mut text, "track_group", rule.track_group.as_deref());
    text
}

fn option<T: std::fmt::Display>(text: &mut String, name: &str, value: Option<T>) {
    if let Some(value) = value {
        let _ = write!(text, " {name} {value}");
    }
}

fn range<T: std::fmt::Display>(text: &mut String, name: &str, range: Option<(T, T)>) {
    if let Some((first, last)) = range {
        let _ = write!(text, " {name} {first}-{last}");
    }
}

fn realms(text: &mut String, realms: Option<u32>, both: Option<u32>) {
    let Some(realms) = realms.filter(|realms| *realms != 0) else { return };
    let _ = if both.is_some_and(|both| both >> 16 != 0) {
        write!(text, " realms {}/{}", realms >> 16, realms & 0xffff)
    } else {
        write!(text, " realm {}", realms & 0xffff)
    };
}

fn prefix(prefix: &Prefix) -> String {
    match (prefix.address, prefix.length) {
        (IpAddr::V4(address), 32) => address.to_string(),
        (IpAddr::V6(address), 128) => address.to_string(),
        (address, length) => format!("{address}/{length}"),
    }
}

fn kind(kind: RouteType) -> &'static str {
    match kind {
        RouteType::Unicast => "unicast",
        RouteType::Local => "local",
        RouteType::Broadcast => "broadcast",
        RouteType::Anycast => "anycast",
        RouteType::Multicast => "multicast",
        RouteType::Blackhole => "blackhole",
        RouteType::Unreachable => "unreachable",
        RouteType::Prohibit => "prohibit",
        RouteType::Throw => "throw",
        RouteType::Nat => "nat",
        RouteType::ExternalResolve => "xresolve",
    }
}
