//! Routes, rules, VMACs, the firewall, and what is static.

use std::net::IpAddr;
use std::time::Duration;

use crate::ready::{
    Config, Encapsulation, Family, Firewall, Instance, MAIN_TABLE, NextHop, PROTOCOL, Prefix, Route,
    RouteOrder, Rule, RuleAction, Vmac, route_text, rule_text,
};
use crate::time::shown;
use crate::toml::{ACTIONS, KINDS, METRICS, Unit, VMAC_PREFIX};

use super::{address, flag, inline, line, list, number, quoted, section};

/// Keys of the top level, before any table.
pub(super) fn fixed(text: &mut String, config: &Config) {
    let addresses = config.static_addresses.iter().map(|fixed| {
        let body = address(&fixed.address, "");
        match &fixed.track_group {
            None => body,
            Some(group) => format!("{}, track_group = {} }}", body.trim_end_matches(" }"), quoted(group)),
        }
    });
    several(text, "static_addresses", addresses);
    several(text, "static_routes", config.static_routes.iter().map(route));
    several(text, "static_rules", config.static_rules.iter().map(rule));
}

/// Tables of the top level.
pub(super) fn tables(text: &mut String, config: &Config) {
    section(text, "[firewall]", &firewall(&config.firewall));
    for group in &config.track_groups {
        let mut body = String::new();
        line(&mut body, "name", &quoted(&group.name));
        line(&mut body, "instances", &list(group.instances.iter().map(|name| quoted(name))));
        section(text, "[[track_group]]", &body);
    }
}

fn firewall(firewall: &Firewall) -> String {
    let default = Firewall::default();
    let mut body = String::new();
    if firewall.table != default.table {
        line(&mut body, "table", &quoted(&firewall.table));
    }
    number(&mut body, "priority", &firewall.priority, &default.priority);
    flag(&mut body, "counters", firewall.counters, false);
    flag(&mut body, "by_index", firewall.by_index, false);
    body
}

/// What moves with an instance besides its addresses.
pub(super) fn instance(text: &mut String, instance: &Instance) {
    if let Some(made) = &instance.vmac {
        line(text, "vmac", &vmac(made));
    }
    several(text, "routes", instance.routes.iter().map(route));
    several(text, "rules", instance.rules.iter().map(rule));
    flag(text, "promote_secondaries", instance.promote_secondaries, false);
    if let Some(extra) = instance.extra_announcements {
        let mut body = String::new();
        line(&mut body, "interval", &quoted(&shown(extra.interval)));
        flag(&mut body, "all", extra.all, false);
        line(text, "extra_announcements", &inline(&body));
    }
}

/// One a line, if there is any.
fn several(text: &mut String, key: &str, entries: impl Iterator<Item = String>) {
    let entries: Vec<_> = entries.map(|entry| format!("    {entry},\n")).collect();
    if !entries.is_empty() {
        line(text, key, &format!("[\n{}]", entries.concat()));
    }
}

fn vmac(vmac: &Vmac) -> String {
    let mut body = String::new();
    if let Some(name) = &vmac.name {
        line(&mut body, "name", &quoted(name));
    }
    if vmac.prefix != VMAC_PREFIX {
        line(&mut body, "prefix", &quoted(&vmac.prefix));
    }
    if let Some(mac) = vmac.mac {
        let octets: Vec<_> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
        line(&mut body, "mac", &quoted(&octets.join(":")));
    }
    flag(&mut body, "transmit_on_base", vmac.transmit_on_base, false);
    flag(&mut body, "for_other_interfaces", vmac.for_other_interfaces, false);
    option(&mut body, "group", vmac.group);
    if body.is_empty() { "true".to_owned() } else { inline(&body) }
}

/// `true` for the usual prefix.
pub(super) fn own_vmac(body: &mut String, prefix: Option<&str>) {
    match prefix {
        None => {}
        Some(VMAC_PREFIX) => line(body, "own_vmac", "true"),
        Some(prefix) => line(body, "own_vmac", &quoted(prefix)),
    }
}

fn route(route: &Route) -> String {
    let mut body = String::new();
    line(&mut body, "to", &route.destination.map_or_else(|| "\"default\"".to_owned(), prefix));
    if let Some((name, _)) = KINDS.iter().find(|(_, kind)| *kind == route.kind && *kind != Default::default())
    {
        line(&mut body, "type", &quoted(name));
    }
    family(&mut body, route.family, route.said_family());
    if let Some(from) = route.from {
        line(&mut body, "from", &prefix(from));
    }
    text_of(&mut body, "source", route.source);
    match route.next_hops.as_slice() {
        [own] if own.weight == 1 && own.realms.is_none() && *own != bare() => next_hop(&mut body, own),
        [] => {}
        several => {
            let hop = |hop: &NextHop| {
                let mut body = String::new();
                next_hop(&mut body, hop);
                number(&mut body, "weight", &hop.weight, &1);
                realms(&mut body, hop.realms);
                inline(&body)
            };
            line(&mut body, "next_hops", &list(several.iter().map(hop)));
        }
    }
    number(&mut body, "table", &route.table, &MAIN_TABLE);
    option(&mut body, "scope", route.scope);
    option(&mut body, "metric", route.metric);
    option(&mut body, "tos", route.tos);
    realms(&mut body, route.realms);
    option(&mut body, "expires", route.expires);
    if let Some(preference) = route.preference {
        let name = match preference {
            1 => "high",
            3 => "low",
            _ => "medium",
        };
        line(&mut body, "preference", &quoted(name));
    }
    option(&mut body, "ttl_propagate", route.ttl_propagate);
    metrics(&mut body, route);
    match route.order {
        RouteOrder::Prepend => {}
        RouteOrder::Add => line(&mut body, "order", "\"add\""),
        RouteOrder::Append => line(&mut body, "order", "\"append\""),
    }
    route_tracking(&mut body, route);
    inline(&body)
}

/// The protocol counts for the text of a route that is not watched: see `route_text`.
fn route_tracking(body: &mut String, route: &Route) {
    let shown = route.text == route_text(route, true);
    let by_itself = !route.track && !route.has_interface() && shown;
    if route.protocol != PROTOCOL || (!route.track && !by_itself && shown) {
        line(body, "protocol", &route.protocol.to_string());
    }
    if !route.track && !by_itself {
        line(body, "track", "false");
    }
    text_of(body, "track_group", route.track_group.as_ref());
}

fn bare() -> NextHop {
    NextHop { weight: 1, ..NextHop::default() }
}

fn next_hop(body: &mut String, hop: &NextHop) {
    text_of(body, "via", hop.gateway);
    text_of(body, "interface", hop.interface.as_ref());
    flag(body, "on_link", hop.on_link, false);
    if let Some(encapsulation) = &hop.encapsulation {
        line(body, "encapsulation", &tunnel(encapsulation));
    }
}

fn tunnel(encapsulation: &Encapsulation) -> String {
    let mut body = String::new();
    let key = match encapsulation {
        Encapsulation::Ip { id, destination, source, tos, ttl, flags, family } => {
            wide(&mut body, "id", *id);
            text_of(&mut body, "destination", *destination);
            text_of(&mut body, "source", *source);
            option(&mut body, "tos", *tos);
            option(&mut body, "ttl", *ttl);
            option(&mut body, "flags", *flags);
            if *family == Family::Ipv4 { "ip" } else { "ip6" }
        }
        Encapsulation::Mpls { labels, ttl } => {
            line(&mut body, "labels", &list(labels.iter().map(ToString::to_string)));
            option(&mut body, "ttl", *ttl);
            "mpls"
        }
        Encapsulation::Ila { locator } => {
            let groups: Vec<_> =
                (0..4).rev().map(|n| format!("{:x}", locator >> (16 * n) & 0xffff)).collect();
            return format!("{{ ila = {} }}", quoted(&groups.join(":")));
        }
    };
    format!("{{ {key} = {} }}", if body.is_empty() { "{}".to_owned() } else { inline(&body) })
}

fn metrics(text: &mut String, route: &Route) {
    let mut body = String::new();
    for (number, value) in &route.metrics {
        let Some((key, _, unit)) = METRICS.iter().find(|(_, n, _)| n == number) else { continue };
        match unit {
            Unit::Number(_) => line(&mut body, key, &value.to_string()),
            Unit::Time(units) => {
                let time = Duration::from_micros(u64::from(*value) * 1000 / u64::from(*units));
                line(&mut body, key, &quoted(&shown(time)));
            }
        }
    }
    if !body.is_empty() {
        line(text, "metrics", &inline(&body));
    }
    let names = METRICS.iter().map(|(key, n, _)| (*key, *n)).chain([("congestion_control", 16)]);
    let locked: Vec<_> =
        names.filter(|(_, n)| route.locked & (1 << n) != 0).map(|(key, _)| quoted(key)).collect();
    if !locked.is_empty() {
        line(text, "locked", &list(locked));
    }
    text_of(text, "congestion_control", route.congestion_control.as_ref());
}

fn rule(rule: &Rule) -> String {
    let mut body = String::new();
    family(&mut body, rule.family, rule.said_family());
    flag(&mut body, "invert", rule.invert, false);
    for (key, written) in [("from", rule.from), ("to", rule.to)] {
        if let Some(written) = written {
            line(&mut body, key, &prefix(written));
        }
    }
    line(&mut body, "preference", &rule.preference.to_string());
    option(&mut body, "tos", rule.tos);
    match rule.mark {
        None => {}
        Some((mark, None)) => line(&mut body, "mark", &mark.to_string()),
        Some((mark, Some(mask))) => line(&mut body, "mark", &format!("\"0x{mark:x}/0x{mask:x}\"")),
    }
    realms(&mut body, rule.realms);
    option(&mut body, "suppress_prefix_length", rule.suppress_prefix_length);
    option(&mut body, "suppress_interface_group", rule.suppress_interface_group);
    text_of(&mut body, "input_interface", rule.input_interface.as_ref());
    text_of(&mut body, "output_interface", rule.output_interface.as_ref());
    wide(&mut body, "tunnel_id", rule.tunnel_id);
    range(&mut body, "users", rule.users);
    option(&mut body, "ip_protocol", rule.ip_protocol);
    range(&mut body, "source_ports", rule.source_ports);
    range(&mut body, "destination_ports", rule.destination_ports);
    match rule.action {
        RuleAction::Table(table) => line(&mut body, "table", &table.to_string()),
        RuleAction::Goto(target) => line(&mut body, "goto", &target.to_string()),
        other => {
            if let Some((name, _)) = ACTIONS.iter().find(|(_, action)| *action == other) {
                line(&mut body, "action", &quoted(name));
            }
        }
    }
    let shown = !rule.track && rule.text == rule_text(rule, true);
    if rule.protocol != PROTOCOL || shown {
        line(&mut body, "protocol", &rule.protocol.to_string());
    }
    flag(&mut body, "track", rule.track, true);
    text_of(&mut body, "track_group", rule.track_group.as_ref());
    inline(&body)
}

fn option<T: std::fmt::Display>(body: &mut String, key: &str, value: Option<T>) {
    if let Some(value) = value {
        line(body, key, &value.to_string());
    }
}

fn text_of<T: std::fmt::Display>(body: &mut String, key: &str, value: Option<T>) {
    if let Some(value) = value {
        line(body, key, &quoted(&value.to_string()));
    }
}

/// TOML's numbers end at 63 bits.
fn wide(body: &mut String, key: &str, value: Option<u64>) {
    match value.map(i64::try_from) {
        None => {}
        Some(Ok(number)) => line(body, key, &number.to_string()),
        Some(Err(_)) => text_of(body, key, value),
    }
}

fn range<T: std::fmt::Display>(body: &mut String, key: &str, range: Option<(T, T)>) {
    text_of(body, key, range.map(|(first, last)| format!("{first}-{last}")));
}

fn realms(body: &mut String, realms: Option<u32>) {
    match realms {
        None => {}
        Some(realm @ 0..=0xff) => line(body, "realms", &realm.to_string()),
        Some(both) => line(body, "realms", &format!("\"{}/{}\"", both >> 16, both & 0xffff)),
    }
}

/// Only where the addresses do not say it.
fn family(body: &mut String, family: Family, said: Option<Family>) {
    match (said, family) {
        (None, Family::Ipv6) => line(body, "family", "\"ipv6\""),
        (Some(said), _) if said != family => {
            line(body, "family", if family == Family::Ipv4 { "\"ipv4\"" } else { "\"ipv6\"" });
        }
        _ => {}
    }
}

pub(super) fn prefix(prefix: Prefix) -> String {
    match (prefix.address, prefix.length) {
        (IpAddr::V4(_), 32) | (IpAddr::V6(_), 128) => quoted(&prefix.address.to_string()),
        (address, length) => quoted(&format!("{address}/{length}")),
    }
}
