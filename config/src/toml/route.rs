//! Routes: `routes` of an instance, and `static_routes`.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::Located;
use crate::iproute::Names;
use crate::ready::{
    Encapsulation, Family, MAIN_TABLE, NextHop, PROTOCOL, Prefix, Route, RouteOrder, RouteType, route_text,
};

use super::Door;
use super::table::Table;

/// Kinds of routes by their names.
pub(crate) const KINDS: [(&str, RouteType); 11] = [
    ("unicast", RouteType::Unicast),
    ("local", RouteType::Local),
    ("broadcast", RouteType::Broadcast),
    ("anycast", RouteType::Anycast),
    ("multicast", RouteType::Multicast),
    ("blackhole", RouteType::Blackhole),
    ("unreachable", RouteType::Unreachable),
    ("prohibit", RouteType::Prohibit),
    ("throw", RouteType::Throw),
    ("nat", RouteType::Nat),
    ("external_resolve", RouteType::ExternalResolve),
];

/// Metrics by their keys: `RTAX_*` and the most; a time has so many units in a millisecond.
pub(crate) const METRICS: [(&str, u16, Unit); 15] = [
    ("mtu", 2, Unit::Number(u32::MAX)),
    ("window", 3, Unit::Number(u32::MAX)),
    ("rtt", 4, Unit::Time(8)),
    ("rttvar", 5, Unit::Time(4)),
    ("ssthresh", 6, Unit::Number(u32::MAX)),
    ("cwnd", 7, Unit::Number(u32::MAX)),
    ("advmss", 8, Unit::Number(u32::MAX)),
    ("reordering", 9, Unit::Number(u32::MAX)),
    ("hop_limit", 10, Unit::Number(255)),
    ("initcwnd", 11, Unit::Number(u32::MAX)),
    ("features", 12, Unit::Number(u32::MAX)),
    ("rto_min", 13, Unit::Time(1)),
    ("initrwnd", 14, Unit::Number(u32::MAX)),
    ("quickack", 15, Unit::Number(1)),
    ("fastopen_no_cookie", 17, Unit::Number(1)),
];

/// How a metric is written.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Unit {
    Number(u32),
    Time(u32),
}

/// RTTs that the kernel takes (TCP_RTO_MIN, TCP_RTO_MAX).
const RTT: std::ops::RangeInclusive<Duration> = Duration::from_millis(200)..=Duration::from_secs(120);
const PREFIX: &str = "\"default\", or a prefix such as \"10.0.0.0/8\"";

impl Door<'_> {
    pub(super) fn routes(&mut self, table: &mut Table<'_>, key: &'static str, fixed: bool) -> Vec<Route> {
        let values = self.list(table, key);
        values.into_iter().filter_map(|value| self.route(value, fixed)).collect()
    }

    fn route(&mut self, value: &Spanned<DeValue<'_>>, fixed: bool) -> Option<Route> {
        let mut table = self.as_table(value)?;
        let to = self.value(&mut table, "to");
        if to.is_none() {
            self.missing(&table, "to", PREFIX);
        }
        let destination = match to.map(|to| (to, to.get_ref().as_str())) {
            Some((_, Some("default"))) | None => None,
            Some((to, _)) => self.as_prefix(to),
        };
        let protocol = self.named(&mut table, "protocol", Names::Protocol);
        let mut route = Route {
            family: Family::Ipv4,
            kind: self.one_of(&mut table, "type", &KINDS).unwrap_or_default(),
            destination,
            from: self.prefix(&mut table, "from"),
            source: self.address(&mut table, "source").map(|source| source.value),
            table: self.named(&mut table, "table", Names::Table).map_or(MAIN_TABLE, |table| table.value),
            scope: self.named(&mut table, "scope", Names::Scope).and_then(byte),
            protocol: protocol.as_ref().and_then(|p| u8::try_from(p.value).ok()).unwrap_or(PROTOCOL),
            metric: self.integer(&mut table, "metric", 0..=i64::from(u32::MAX)).map(|m| m.value),
            tos: self.named(&mut table, "tos", Names::TypeOfService).and_then(byte),
            realms: self.realms(&mut table),
            next_hops: Vec::new(),
            expires: self.integer(&mut table, "expires", 0..=i64::from(u32::MAX)).map(|e| e.value),
            preference: self.one_of(&mut table, "preference", &[("medium", 0), ("high", 1), ("low", 3)]),
            ttl_propagate: self.boolean(&mut table, "ttl_propagate").map(|on| on.value),
            metrics: Vec::new(),
            locked: 0,
            congestion_control: self.text(&mut table, "congestion_control").map(|name| name.value),
            order: self.one_of(&mut table, "order", &ORDERS).unwrap_or_default(),
            track: true,
            track_group: None,
            text: String::new(),
            place: table.at.place.clone(),
        };
        self.ways(&mut table, &mut route);
        self.metrics(&mut table, &mut route);
        route.family = self.family(&mut table, route.said_family())?;
        self.check_family(&table, &route);
        let track = self.boolean(&mut table, "track");
        route.track = track.as_ref().map_or_else(|| route.has_interface(), |on| on.value);
        if route.track && !route.has_interface() {
            self.refuse(&table.at, "a route without an interface cannot be watched", "`interface`");
        }
        if route.track && route.protocol != PROTOCOL {
            self.refuse(&table.at, "a route of another protocol cannot be watched", "`track = false`");
        }
        if fixed {
            let group = self.text(&mut table, "track_group");
            if let Some(group) = group.as_ref().filter(|_| !route.has_interface()) {
                self.refuse(&group.at, "a track group needs the route's interface", "`interface`");
            }
            route.track_group = self.track_group(group);
        }
        route.text = route_text(&route, track.is_none_or(|on| on.value) || protocol.is_some());
        self.finish(table);
        Some(route)
    }

    /// `via`, `interface` and so on, or `next_hops`.
    fn ways(&mut self, table: &mut Table<'_>, route: &mut Route) {
        let own = self.next_hop(table, false);
        let said = own != NextHop { weight: 1, ..NextHop::default() };
        for value in self.list(table, "next_hops") {
            let Some(mut hop) = self.as_table(value) else { continue };
            if said {
                self.refuse(
                    &hop.at,
                    "a way besides the next hops",
                    "`via` and the like in `next_hops` alone",
                );
            }
            let made = self.next_hop(&mut hop, true);
            self.finish(hop);
            route.next_hops.push(made);
        }
        if said {
            route.next_hops.push(own);
        }
    }

    fn next_hop(&mut self, table: &mut Table<'_>, several: bool) -> NextHop {
        let weight = if several { self.integer(table, "weight", 1..=256) } else { None };
        NextHop {
            gateway: self.address(table, "via").map(|gateway| gateway.value),
            interface: self.text(table, "interface").map(|interface| interface.value),
            weight: weight.map_or(1, |weight| weight.value),
            on_link: self.boolean(table, "on_link").is_some_and(|on| on.value),
            realms: if several { self.realms(table) } else { None },
            encapsulation: self.encapsulation(table),
        }
    }

    fn encapsulation(&mut self, table: &mut Table<'_>) -> Option<Encapsulation> {
        let mut inner = self.table(table, "encapsulation")?;
        let made = self.encapsulation_of(&mut inner);
        if made.is_none() {
            let expected = "one of `ip`, `ip6`, `mpls` (a table each) and `ila` (a locator)";
            self.refuse(&inner.at, "no tunnel that is known", expected);
        }
        self.finish(inner);
        made
    }

    fn encapsulation_of(&mut self, table: &mut Table<'_>) -> Option<Encapsulation> {
        for (key, family) in [("ip", Family::Ipv4), ("ip6", Family::Ipv6)] {
            let Some(mut ip) = self.table(table, key) else { continue };
            let made = Encapsulation::Ip {
                id: self.wide(&mut ip, "id"),
                destination: self.address(&mut ip, "destination").map(|address| address.value),
                source: self.address(&mut ip, "source").map(|address| address.value),
                tos: self.integer(&mut ip, "tos", 0..=255).map(|tos| tos.value),
                ttl: self.integer(&mut ip, "ttl", 0..=255).map(|ttl| ttl.value),
                flags: self.integer(&mut ip, "flags", 0..=65_535).map(|flags| flags.value),
                family,
            };
            self.finish(ip);
            return Some(made);
        }
        if let Some(mut mpls) = self.table(table, "mpls") {
            let values = self.list(&mut mpls, "labels");
            let label = |value| self.as_integer::<u32>(value, 0..=(1 << 20) - 1).map(|label| label.value);
            let labels = values.into_iter().filter_map(label).collect();
            let ttl = self.integer(&mut mpls, "ttl", 0..=255).map(|ttl| ttl.value);
            self.finish(mpls);
            return Some(Encapsulation::Mpls { labels, ttl });
        }
        let text = self.text(table, "ila")?;
        let locator = crate::keepalived::locator(&text.value)?;
        Some(Encapsulation::Ila { locator })
    }

    /// Keys of `metrics`, and `locked`.
    fn metrics(&mut self, table: &mut Table<'_>, route: &mut Route) {
        for value in self.list(table, "locked") {
            let Some(name) = self.as_text(value, "the name of a metric") else { continue };
            let known = METRICS.iter().find(|(key, ..)| *key == name.value).map(|(_, number, _)| *number);
            let known = known.or((name.value == "congestion_control").then_some(16));
            match known {
                Some(number) => route.locked |= 1 << number,
                None => self.refuse(&name.at, format!("no metric \"{}\"", name.value), "a key of `metrics`"),
            }
        }
        let Some(mut metrics) = self.table(table, "metrics") else { return };
        for (key, number, unit) in METRICS {
            let value = match unit {
                Unit::Number(most) => {
                    self.integer(&mut metrics, key, 0..=i64::from(most)).map(|value| value.value)
                }
                Unit::Time(units) => self
                    .duration(&mut metrics, key, RTT)
                    .and_then(|time| u32::try_from(time.value.as_micros() * u128::from(units) / 1000).ok()),
            };
            route.metrics.extend(value.map(|value| (number, value)));
        }
        self.finish(metrics);
    }

    fn check_family(&mut self, table: &Table<'_>, route: &Route) {
        let prefixes = [route.destination, route.from].into_iter().flatten().map(|prefix| prefix.address);
        let mut addresses = prefixes.chain(route.source);
        if addresses.any(|address| crate::complete::family_of(address) != route.family) {
            self.refuse(&table.at, "addresses of two families", "IPv4 or IPv6 alone");
        }
        let six = route.from.is_some() || route.expires.is_some() || route.preference.is_some();
        if six && route.family == Family::Ipv4 {
            self.refuse(&table.at, "`from`, `expires` and `preference` are for IPv6", "an IPv6 route");
        }
        let mut realms = route.next_hops.iter().map(|hop| hop.realms).chain([route.realms]);
        if realms.any(|realms| realms.is_some()) && route.family == Family::Ipv6 {
            self.refuse(&table.at, "`realms` are for IPv4", "an IPv4 route");
        }
    }

    /// `family` where the addresses do not say it; `None` if they say another.
    pub(super) fn family(&mut self, table: &mut Table<'_>, said: Option<Family>) -> Option<Family> {
        let value = self.value(table, "family");
        let written = self.one_of(table, "family", &[("ipv4", Family::Ipv4), ("ipv6", Family::Ipv6)]);
        match (written, said, value) {
            (Some(written), Some(said), Some(value)) if written != said => {
                let at = self.at(value);
                self.refuse(&at, "the addresses are of the other family", "one family");
                None
            }
            _ => Some(written.or(said).unwrap_or(Family::Ipv4)),
        }
    }

    /// A word that stands for something.
    pub(super) fn one_of<T: Clone>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        known: &[(&str, T)],
    ) -> Option<T> {
        let text = self.text(table, key)?;
        let found = known.iter().find(|(name, _)| *name == text.value).map(|(_, value)| value.clone());
        if found.is_none() {
            let names: Vec<_> = known.iter().map(|(name, _)| format!("\"{name}\"")).collect();
            self.refuse(&text.at, format!("\"{}\" is not known here", text.value), names.join(", "));
        }
        found
    }

    /// A number, or a name of iproute2's files.
    pub(super) fn named(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        names: Names,
    ) -> Option<Located<u32>> {
        let value = self.value(table, key)?;
        let most = if names == Names::Table { u32::MAX } else { 255 };
        let DeValue::String(name) = value.get_ref() else {
            return self.as_integer(value, 0..=i64::from(most));
        };
        let at = self.at(value);
        match self.iproute.find(names, name) {
            Some(number) => Some(Located::new(number, at)),
            None => {
                self.refuse(
                    &at,
                    format!("no {key} \"{name}\" on this host"),
                    format!("a name, or 0 to {most}"),
                );
                None
            }
        }
    }

    /// `"FROM/TO"`, `"REALM"` or a number.
    pub(super) fn realms(&mut self, table: &mut Table<'_>) -> Option<u32> {
        let value = self.value(table, "realms")?;
        let DeValue::String(text) = value.get_ref() else {
            return self.as_integer(value, 0..=255).map(|realm| realm.value);
        };
        let realms = self.iproute.realms(text);
        if realms.is_none() {
            let at = self.at(value);
            self.refuse(&at, format!("\"{text}\" are no realms"), "\"REALM\" or \"FROM/TO\", 0 to 255 each");
        }
        realms
    }

    /// A number of 64 bits; TOML's own end at 63, so larger ones are strings.
    pub(super) fn wide(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<u64> {
        let value = self.value(table, key)?;
        let DeValue::String(text) = value.get_ref() else {
            return self.as_integer(value, 0..=i64::MAX).map(|number| number.value);
        };
        let number = text.parse().ok();
        if number.is_none() {
            let at = self.at(value);
            self.refuse(&at, format!("\"{text}\" is not a number"), "a number of at most 64 bits");
        }
        number
    }

    pub(super) fn prefix(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Prefix> {
        let value = self.value(table, key)?;
        self.as_prefix(value)
    }

    pub(super) fn as_prefix(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Prefix> {
        self.with_length(value).map(|(_, address, length)| Prefix { address, length })
    }
}

const ORDERS: [(&str, RouteOrder); 3] =
    [("prepend", RouteOrder::Prepend), ("add", RouteOrder::Add), ("append", RouteOrder::Append)];

fn byte(number: Located<u32>) -> Option<u8> {
    u8::try_from(number.value).ok()
}
