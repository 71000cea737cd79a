//! Routes and rules as keepalived prints them: near to iproute2, with numbers for names.

use std::net::IpAddr;

use config::ready::MAIN_TABLE;
use config::ready::{Encapsulation, Family, NextHop, Prefix, Route, RouteOrder, RouteType, Rule, RuleAction};

use super::words;

/// `RTAX_*` numbers with their names in keepalived's order; the unit of RTTs is shown as well.
const METRICS: [(u16, &str); 15] = [
    (4, "rtt"),
    (5, "rttvar"),
    (13, "rto_min"),
    (12, "features"),
    (2, "mtu"),
    (3, "window"),
    (6, "ssthresh"),
    (7, "cwnd"),
    (8, "advmss"),
    (9, "reordering"),
    (10, "hoplimit"),
    (11, "initcwnd"),
    (14, "initrwnd"),
    (15, "quickack"),
    (17, "fastopen_no_cookie"),
];
/// Metrics that may be locked and are numbers.
const LOCKABLE: [u16; 5] = [2, 6, 7, 8, 9];

fn prefix(prefix: &Prefix) -> String {
    words::prefix(prefix.address, prefix.length)
}

fn via(gateway: IpAddr) -> String {
    format!(" via {} {gateway}", if gateway.is_ipv4() { "inet" } else { "inet6" })
}

/// A route with its options.
pub(super) fn route(route: &Route) -> String {
    let mut text = String::from(match route.order {
        RouteOrder::Add => "add ",
        RouteOrder::Append => "append ",
        RouteOrder::Prepend => "prepend ",
    });
    if let Some(kind) = kind(route.kind) {
        text += &format!("{kind} ");
    }
    text += &route.destination.as_ref().map_or_else(|| "default".into(), prefix);
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {value}"));
        }
    };
    add("from", route.from.as_ref().map(prefix));
    add("src", route.source.map(|source| source.to_string()));
    add("tos", route.tos.map(|tos| tos.to_string()));
    let single = match route.next_hops.as_slice() {
        [hop] => Some(hop),
        _ => None,
    };
    if let Some(hop) = single {
        text += &hop.encapsulation.as_ref().map(encapsulation).unwrap_or_default();
        text += &hop.gateway.map(via).unwrap_or_default();
        text += &hop.interface.as_ref().map(|interface| format!(" dev {interface}")).unwrap_or_default();
    }
    if route.table != MAIN_TABLE {
        text += &format!(" table {}", route.table);
    }
    text += &format!(" proto {}", route.protocol);
    if let Some(scope) = route.scope {
        text += &format!(" scope {scope}");
    }
    if let Some(metric) = route.metric {
        text += &format!(" metric {metric}");
    }
    if route.family == Family::Ipv4 && single.is_some_and(|hop| hop.on_link) {
        text += " onlink";
    }
    text += &route.realms.map(realms).unwrap_or_default();
    if let Some(expires) = route.expires {
        text += &format!(" expires {expires}sec");
    }
    text += &metrics(route);
    if let Some(propagate) = route.ttl_propagate {
        text += &format!(" ttl-propagate {}abled", if propagate { "en" } else { "dis" });
    }
    if single.is_none() {
        route.next_hops.iter().for_each(|hop| text += &next_hop(hop));
    }
    text + &tracking(route.track, route.track_group.as_deref())
}

fn kind(kind: RouteType) -> Option<&'static str> {
    Some(match kind {
        RouteType::Unicast => return None,
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
    })
}

fn metrics(route: &Route) -> String {
    let mut text = String::new();
    let locked = |number: u16| route.locked & (1_u32 << number) != 0;
    if let Some(algorithm) = &route.congestion_control {
        text += &format!(" congctl {algorithm}{}", if locked(16) { "lock " } else { "" });
    }
    for (number, name) in METRICS {
        let Some((_, value)) = route.metrics.iter().find(|(metric, _)| *metric == number) else { continue };
        let lock = if locked(number) { " lock" } else { "" };
        match number {
            4 => text += &format!(" {name}{lock} {}", milliseconds(*value, 8)),
            5 => text += &format!(" {name}{lock} {}", milliseconds(*value, 4)),
            13 => text += &format!(" {name}{lock} {}", milliseconds(*value, 1)),
            12 if value & 1 != 0 => text += " features ecn",
            12 => {}
            _ if LOCKABLE.contains(&number) && locked(number) => text += &format!(" {name} lock {value}"),
            _ => text += &format!(" {name} {value}"),
        }
    }
    if let Some(preference) = route.preference {
        let word = match preference {
            0 => "medium",
            1 => "high",
            3 => "low",
            _ => "unknown",
        };
        text += &format!(" pref {word}");
    }
    text
}

/// A number of parts of a millisecond; a second and more in seconds.
fn milliseconds(value: u32, parts: u32) -> String {
    let milliseconds = f64::from(value) / f64::from(parts);
    if milliseconds >= 1000.0 { format!("{}s", milliseconds / 1000.0) } else { format!("{milliseconds}ms") }
}

fn realms(realms: u32) -> String {
    let (from, to) = (realms >> 16, realms & 0xffff);
    if from == 0 { format!(" realm {to}") } else { format!(" realms {from}/{to}") }
}

fn next_hop(hop: &NextHop) -> String {
    let mut text = String::from(" nexthop");
    text += &hop.gateway.map(via).unwrap_or_default();
    text += &hop.interface.as_ref().map(|interface| format!(" dev {interface}")).unwrap_or_default();
    if hop.weight > 1 {
        text += &format!(" weight {}", hop.weight);
    }
    if hop.on_link {
        text += " onlink";
    }
    text += &hop.realms.map(realms).unwrap_or_default();
    text + &hop.encapsulation.as_ref().map(encapsulation).unwrap_or_default()
}

fn encapsulation(encapsulation: &Encapsulation) -> String {
    match encapsulation {
        Encapsulation::Ip { id, destination, source, tos, ttl, flags, family } => {
            let is_v6 = *family == Family::Ipv6;
            let mut text = String::from(if is_v6 { " encap ip6" } else { " encap ip" });
            let values = [
                ("id", id.map(|id| id.to_string())),
                ("dst", destination.map(|address| address.to_string())),
                ("src", source.map(|address| address.to_string())),
                (if is_v6 { "tc" } else { "tos" }, tos.map(|tos| tos.to_string())),
                (if is_v6 { "hoplimit" } else { "ttl" }, ttl.map(|ttl| ttl.to_string())),
                ("flags", flags.map(|flags| format!("0x{flags:x}"))),
            ];
            for (word, value) in values {
                text += &value.map(|value| format!(" {word} {value}")).unwrap_or_default();
            }
            text
        }
        Encapsulation::Mpls { labels, .. } => {
            let labels: Vec<String> = labels.iter().map(|label| format!("{label:x}")).collect();
            format!(" encap mpls {}", labels.join("/"))
        }
        Encapsulation::Ila { locator } => format!(" encap ila {locator}"),
    }
}

fn tracking(track: bool, group: Option<&str>) -> String {
    let group = group.map(|group| format!(" track_group {group}")).unwrap_or_default();
    format!("{}{group}", if track { "" } else { " no_track" })
}

/// A rule with its options.
pub(super) fn rule(rule: &Rule) -> String {
    let mut text = String::new();
    if rule.to.is_none() && rule.from.is_none() && rule.family == Family::Ipv6 {
        text += "inet6 ";
    }
    if rule.invert {
        text += "not ";
    }
    text += &format!("from {}", rule.from.as_ref().map_or_else(|| "all".into(), prefix));
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {value}"));
        }
    };
    let range = |(first, last): (u16, u16)| format!("{first}-{last}");
    add("to", rule.to.as_ref().map(prefix));
    add("priority", Some(rule.preference.to_string()));
    add("tos", Some(format!("0x{:x}", rule.tos.unwrap_or(0))));
    add(
        "fwmark",
        rule.mark.map(|(mark, mask)| match mask {
            Some(mask) if mask != u32::MAX => format!("0x{mark:x}/0x{mask:x}"),
            _ => format!("0x{mark:x}"),
        }),
    );
    add("iif", rule.input_interface.clone());
    add("oif", rule.output_interface.clone());
    add("suppress_prefixlen", rule.suppress_prefix_length.map(|length| length.to_string()));
    add("suppress_ifgroup", rule.suppress_interface_group.map(|group| group.to_string()));
    add("tunnel-id", rule.tunnel_id.map(|id| id.to_string()));
    add("uidrange", rule.users.map(|(first, last)| format!("{first}-{last}")));
    if rule.action == RuleAction::L3mdev {
        text += " l3mdev";
    }
    let mut add = |word: &str, value: Option<String>| {
        if let Some(value) = value {
            text.push_str(&format!(" {word} {value}"));
        }
    };
    add("protocol", Some(rule.protocol.to_string()));
    add("ipproto", rule.ip_protocol.map(|protocol| protocol.to_string()));
    add("sport", rule.source_ports.map(range));
    add("dport", rule.destination_ports.map(range));
    add("realms", rule.realms.map(|realms| format!("{}/{}", realms >> 16, realms & 0xffff)));
    text += &match rule.action {
        RuleAction::Table(table) => format!(" lookup {table}"),
        RuleAction::Goto(preference) => format!(" goto {preference}"),
        RuleAction::Nop => " nop".into(),
        RuleAction::Blackhole => " type blackhole".into(),
        RuleAction::Unreachable => " type unreachable".into(),
        RuleAction::Prohibit => " type prohibit".into(),
        RuleAction::L3mdev => String::new(),
    };
    text + &tracking(rule.track, rule.track_group.as_deref())
}
