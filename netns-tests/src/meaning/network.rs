//! Routes and rules in the words of keepalived's dump.

use config::ready::{
    Encapsulation, MAIN_TABLE, NextHop, Prefix, Route, RouteOrder, RouteType, Rule, RuleAction,
};

use super::prefix;

fn of(made: Prefix) -> String {
    prefix(made.address, made.length)
}

/// A route.
pub(super) fn route(route: &Route) -> String {
    let mut text = match route.order {
        RouteOrder::Prepend => "prepend",
        RouteOrder::Add => "add",
        RouteOrder::Append => "append",
    }
    .to_owned();
    let mut say = |part: String| {
        text.push(' ');
        text += &part;
    };
    if route.kind != RouteType::Unicast {
        say(kind(route.kind).into());
    }
    say(route.destination.map_or_else(|| "default".into(), of));
    if let Some(from) = route.from {
        say(format!("from {}", of(from)));
    }
    if let Some(source) = route.source {
        say(format!("src {source}"));
    }
    if let Some(tos) = route.tos {
        say(format!("tos {tos}"));
    }
    let single = match route.next_hops.as_slice() {
        [hop] if hop.weight <= 1 => Some(hop),
        _ => None,
    };
    if let Some(hop) = single {
        if let Some(encapsulation) = &hop.encapsulation {
            say(encapsulated(encapsulation));
        }
        if let Some(gateway) = hop.gateway {
            say(format!("via {} {gateway}", if gateway.is_ipv4() { "inet" } else { "inet6" }));
        }
        if let Some(interface) = &hop.interface {
            say(format!("dev {interface}"));
        }
    }
    if route.table != MAIN_TABLE {
        say(format!("table {}", route.table));
    }
    say(format!("proto {}", route.protocol));
    if let Some(scope) = route.scope {
        say(format!("scope {scope}"));
    }
    if let Some(metric) = route.metric {
        say(format!("metric {metric}"));
    }
    if single.is_some_and(|hop| hop.on_link) {
        say("onlink".into());
    }
    if let Some(realms) = route.realms {
        say(self::realms(realms));
    }
    if let Some(expires) = route.expires {
        say(format!("expires {expires}sec"));
    }
    if let Some(control) = &route.congestion_control {
        say(format!("congctl {control}"));
    }
    metrics(route).into_iter().for_each(&mut say);
    if let Some(preference) = route.preference {
        let name = match preference {
            0 => "medium",
            1 => "high",
            _ => "low",
        };
        say(format!("pref {name}"));
    }
    if let Some(on) = route.ttl_propagate {
        say(format!("ttl-propagate {}abled", if on { "en" } else { "dis" }));
    }
    if single.is_none() {
        route.next_hops.iter().for_each(|hop| say(next_hop(hop)));
    }
    if !route.track {
        say("no_track".into());
    }
    if let Some(group) = &route.track_group {
        say(format!("track_group {group}"));
    }
    text
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

fn realms(realms: u32) -> String {
    match realms >> 16 {
        0 => format!("realm {}", realms & 0xffff),
        from => format!("realms {from}/{}", realms & 0xffff),
    }
}

/// In the order in which keepalived prints them.
fn metrics(route: &Route) -> Vec<String> {
    const NAMES: [(u16, &str); 13] = [
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
    ];
    let mut said = Vec::new();
    let value = |number: u16| route.metrics.iter().find(|(n, _)| *n == number).map(|(_, value)| *value);
    for (number, name) in NAMES {
        let Some(value) = value(number) else { continue };
        let lock = if route.locked & (1 << number) != 0 { "lock " } else { "" };
        said.push(match number {
            4 => time(name, lock, value, 8),
            5 => time(name, lock, value, 4),
            13 => time(name, lock, value, 1),
            12 => "features ecn".to_owned(),
            _ => format!("{name} {lock}{value}"),
        });
    }
    for (number, name) in [(15, "quickack"), (17, "fastopen_no_cookie")] {
        if let Some(value) = value(number) {
            said.push(format!("{name} {value}"));
        }
    }
    said
}

fn time(name: &str, lock: &str, value: u32, part: u32) -> String {
    let milliseconds = f64::from(value) / f64::from(part);
    let shown = if milliseconds >= 1000.0 {
        format!("{}s", milliseconds / 1000.0)
    } else {
        format!("{milliseconds}ms")
    };
    format!("{name} {lock}{shown}")
}

fn next_hop(hop: &NextHop) -> String {
    let mut text = "nexthop".to_owned();
    if let Some(gateway) = hop.gateway {
        text += &format!(" via inet{} {gateway}", if gateway.is_ipv4() { "" } else { "6" });
    }
    if let Some(interface) = &hop.interface {
        text += &format!(" dev {interface}");
    }
    if hop.weight > 1 {
        text += &format!(" weight {}", hop.weight);
    }
    if hop.on_link {
        text += " onlink";
    }
    if let Some(realms) = hop.realms {
        text += &format!(" {}", self::realms(realms));
    }
    if let Some(encapsulation) = &hop.encapsulation {
        text += &format!(" {}", encapsulated(encapsulation));
    }
    text
}

fn encapsulated(made: &Encapsulation) -> String {
    match made {
        Encapsulation::Mpls { labels, .. } => {
            let labels: Vec<_> = labels.iter().map(u32::to_string).collect();
            format!("encap mpls {}", labels.join("/"))
        }
        Encapsulation::Ila { locator } => format!("encap ila {locator}"),
        Encapsulation::Ip { id, destination, source, tos, ttl, flags, .. } => {
            let mut text = "encap ip".to_owned();
            if let Some(id) = id {
                text += &format!(" id {id}");
            }
            for (name, address) in [("dst", destination), ("src", source)] {
                if let Some(address) = address {
                    text += &format!(" {name} {address}");
                }
            }
            for (name, value) in [("tos", tos), ("ttl", ttl)] {
                if let Some(value) = value {
                    text += &format!(" {name} {value}");
                }
            }
            if let Some(flags) = flags {
                text += &format!(" flags {flags:#x}");
            }
            text
        }
    }
}

/// A rule.
pub(super) fn rule(rule: &Rule) -> String {
    let mut text = String::new();
    if rule.from.is_none() && rule.to.is_none() && rule.family == config::ready::Family::Ipv6 {
        text += "inet6 ";
    }
    if rule.invert {
        text += "not ";
    }
    text += &format!("from {}", rule.from.map_or_else(|| "all".into(), of));
    let mut say = |part: String| {
        text.push(' ');
        text += &part;
    };
    if let Some(to) = rule.to {
        say(format!("to {}", of(to)));
    }
    say(format!("priority {}", rule.preference));
    say(format!("tos {:#x}", rule.tos.unwrap_or(0)));
    if let Some((mark, mask)) = rule.mark {
        let mask = mask.filter(|mask| *mask != u32::MAX).map_or(String::new(), |mask| format!("/{mask:#x}"));
        say(format!("fwmark {mark:#x}{mask}"));
    }
    for (name, interface) in [("iif", &rule.input_interface), ("oif", &rule.output_interface)] {
        if let Some(interface) = interface {
            say(format!("{name} {interface}"));
        }
    }
    if let Some(length) = rule.suppress_prefix_length {
        say(format!("suppress_prefixlen {length}"));
    }
    if let Some(group) = rule.suppress_interface_group {
        say(format!("suppress_ifgroup {group}"));
    }
    if let Some(id) = rule.tunnel_id {
        say(format!("tunnel-id {id}"));
    }
    if let Some((first, last)) = rule.users {
        say(format!("uidrange {first}-{last}"));
    }
    if rule.action == RuleAction::L3mdev {
        say("l3mdev".into());
    }
    say(format!("protocol {}", rule.protocol));
    if let Some(protocol) = rule.ip_protocol {
        say(format!("ipproto {protocol}"));
    }
    for (name, ports) in [("sport", rule.source_ports), ("dport", rule.destination_ports)] {
        if let Some((first, last)) = ports {
            say(format!("{name} {first}-{last}"));
        }
    }
    if let Some(realms) = rule.realms {
        say(format!("realms {}/{}", realms >> 16, realms & 0xffff));
    }
    say(match rule.action {
        RuleAction::Table(table) => format!("lookup {table}"),
        RuleAction::Goto(preference) => format!("goto {preference}"),
        RuleAction::Nop => "nop".into(),
        RuleAction::Blackhole => "type blackhole".into(),
        RuleAction::Unreachable => "type unreachable".into(),
        RuleAction::Prohibit => "type prohibit".into(),
        RuleAction::L3mdev => "lookup 0".into(),
    });
    if !rule.track {
        say("no_track".into());
    }
    if let Some(group) = &rule.track_group {
        say(format!("track_group {group}"));
    }
    text
}
