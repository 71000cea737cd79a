//! The lines of `virtual_routes` and `static_routes`: the grammar of ip-route(8) as keepalived reads it.

use std::net::IpAddr;

use crate::diagnostic::Diagnostic;
use crate::iproute::Names;
use crate::ready::{
    Encapsulation, Family, MAIN_TABLE, NextHop, PROTOCOL, Route, RouteOrder, RouteType, route_text,
};
use crate::written::{Statement, Word};

use super::super::keywords::line as keywords;
use super::line::{Destination, Dropped, Line};
use super::{Lower, inside};

/// `RTAX_*`: name, number, most.
const METRICS: [(&str, u16, u32); 11] = [
    ("mtu", 2, u32::MAX),
    ("window", 3, u32::MAX),
    ("ssthresh", 6, u32::MAX),
    ("cwnd", 7, u32::MAX),
    ("advmss", 8, u32::MAX),
    ("reordering", 9, u32::MAX),
    ("hoplimit", 10, 255),
    ("initcwnd", 11, u32::MAX),
    ("initrwnd", 14, u32::MAX),
    ("quickack", 15, 1),
    ("fastopen_no_cookie", 17, 1),
];
/// Which of them take `lock`.
const LOCKABLE: [u16; 5] = [2, 6, 7, 8, 9];
/// RTT in ms that the kernel takes (TCP_RTO_MIN, TCP_RTO_MAX).
const RTT: (u64, u64) = (200, 120_000);

/// A route while its line is read.
struct Draft {
    route: Route,
    destination: Option<Destination>,
    /// What stands outside of `nexthop`.
    own: NextHop,
    no_track: bool,
}

impl Lower<'_> {
    pub(super) fn routes(&mut self, block: &Statement, fixed: bool) -> Vec<Route> {
        inside(block).iter().filter_map(|entry| self.route(entry, fixed).ok()).collect()
    }

    fn route(&mut self, entry: &Statement, fixed: bool) -> Result<Route, Dropped> {
        let mut line = Line::new(entry, "route");
        let route = Route {
            family: Family::Ipv4,
            kind: RouteType::Unicast,
            destination: None,
            from: None,
            source: None,
            table: MAIN_TABLE,
            scope: None,
            protocol: PROTOCOL,
            metric: None,
            tos: None,
            realms: None,
            next_hops: Vec::new(),
            expires: None,
            preference: None,
            ttl_propagate: None,
            metrics: Vec::new(),
            locked: 0,
            congestion_control: None,
            order: RouteOrder::Prepend,
            track: true,
            track_group: None,
            text: String::new(),
            place: entry.at().place.clone(),
        };
        let own = NextHop { weight: 1, ..NextHop::default() };
        let mut draft = Draft { route, destination: None, own, no_track: false };
        let mut protocol = None;
        while let Some(word) = line.next() {
            if fixed && word.text == "track_group" {
                let name = self.value_of(&mut line, word, "the name of a track group")?;
                self.track_group(&mut draft.route.track_group, name);
            } else if word.text == "protocol" {
                let value = self.value_of(&mut line, word, "a routing protocol")?;
                let expected = "a name of rt_protos, or 0 to 255";
                protocol = Some((value, self.named_byte(&line, value, Names::Protocol, expected)?));
            } else if word.text == "nexthop" {
                self.next_hops(&mut line, word, &mut draft)?;
            } else {
                self.route_word(&mut line, word, &mut draft)?;
            }
        }
        self.finish_route(entry, line, draft, protocol)
    }

    fn route_word(&mut self, line: &mut Line<'_>, word: &Word, draft: &mut Draft) -> Result<(), Dropped> {
        let route = &mut draft.route;
        match word.text.as_str() {
            "inet" | "inet6" => self.family_word(line, word)?,
            "src" => {
                let value = self.value_of(line, word, "an address of this host")?;
                route.source = Some(self.host(line, value, true)?);
            }
            "via" | "gw" => {
                if word.text == "gw" {
                    self.deprecated(word, "via");
                }
                draft.own.gateway = Some(self.gateway(line, word)?);
            }
            "dev" | "oif" => {
                draft.own.interface = Some(self.value_of(line, word, "an interface")?.text.clone());
            }
            "from" => {
                let value = self.value_of(line, word, "an IPv6 prefix")?;
                let from = self.prefix_word(line, value, "an IPv6 prefix")?;
                route.from = Some(from.prefix_of(Family::Ipv6));
                if from == Destination::All || line.family == Some(Family::Ipv4) {
                    return Err(self.drop_line(line, value, "an IPv6 prefix"));
                }
            }
            "tos" | "dsfield" => {
                let value = self.value_of(line, word, "a type of service")?;
                let expected = "a name of rt_dsfield, or 0 to 255";
                route.tos = Some(self.named_byte(line, value, Names::TypeOfService, expected)?);
            }
            "table" => {
                let value = self.value_of(line, word, "a routing table")?;
                route.table = self.named(line, value, Names::Table, "a name of rt_tables, or a number")?;
            }
            "scope" => {
                let value = self.value_of(line, word, "a scope")?;
                let expected = "`global`, `site`, `link`, `host`, a name of rt_scopes, or 0 to 255";
                route.scope = Some(self.named_byte(line, value, Names::Scope, expected)?);
            }
            "metric" | "priority" | "preference" => {
                route.metric = Some(self.number_of(line, word, u32::MAX)?);
            }
            "onlink" => draft.own.on_link = true,
            "encap" => draft.own.encapsulation = self.encapsulation(line, word)?,
            "realms" => {
                let value = self.value_of(line, word, "realms")?;
                route.realms = Some(self.route_realms(line, value)?);
            }
            "features" => {
                let value = self.value_of(line, word, "`ecn`")?;
                if value.text == "ecn" {
                    metric(route, 12, 1);
                } else {
                    self.invalid(value, "`ecn`", "the feature is ignored, as in keepalived");
                }
            }
            "congctl" => {
                let lock = self.locked(line, route, 16);
                let value = self.value_of(line, lock.unwrap_or(word), "a congestion control algorithm")?;
                route.congestion_control = Some(value.text.clone());
            }
            "expires" => {
                self.six_only(line, word)?;
                route.expires = Some(self.number_of(line, word, u32::MAX)?);
            }
            "pref" => {
                self.six_only(line, word)?;
                let value = self.value_of(line, word, "`low`, `medium` or `high`")?;
                // RFC 4191: 1 is high, 3 is low.
                route.preference = Some(match value.text.as_str() {
                    "medium" | "0" => 0,
                    "high" | "1" => 1,
                    "low" | "3" => 3,
                    _ => return Err(self.drop_line(line, value, "`low`, `medium` or `high`")),
                });
            }
            "ttl-propagate" => {
                let value = self.value_of(line, word, "`enabled` or `disabled`")?;
                match value.text.as_str() {
                    "enabled" => route.ttl_propagate = Some(true),
                    "disabled" => route.ttl_propagate = Some(false),
                    _ => self.invalid(value, "`enabled` or `disabled`", "the word is ignored"),
                }
            }
            "add" => route.order = RouteOrder::Add,
            "prepend" => route.order = RouteOrder::Prepend,
            "append" => route.order = RouteOrder::Append,
            "no_track" => draft.no_track = true,
            "as" => {
                line.next_if("to");
                line.next();
                self.invalid(word, "nothing: `as to` is for MPLS routes", "it is ignored, as in keepalived");
            }
            "or" => self.or(line, word, draft)?,
            "vrf" => return Err(self.route_vrf(line, word)),
            "rtt" => self.rtt(line, word, route, 4, 8)?,
            "rttvar" => self.rtt(line, word, route, 5, 4)?,
            "rto_min" => self.rtt(line, word, route, 13, 1)?,
            name => match METRICS.iter().find(|(known, ..)| *known == name) {
                Some((_, number, most)) => {
                    if LOCKABLE.contains(number) {
                        self.locked(line, route, *number);
                    }
                    let value = self.number_of(line, word, *most)?;
                    metric(route, *number, value);
                }
                None => self.route_destination(line, word, draft)?,
            },
        }
        Ok(())
    }

    /// `[to] DESTINATION` or `TYPE DESTINATION`.
    fn route_destination(
        &mut self,
        line: &mut Line<'_>,
        word: &Word,
        draft: &mut Draft,
    ) -> Result<(), Dropped> {
        let expected = "a keyword of a route, its type or its destination";
        let mut destination = word;
        if word.text == "to" {
            destination = self.value_of(line, word, "a destination")?;
        } else if let Some(kind) = kind(&word.text) {
            draft.route.kind = kind;
            // keepalived marks a route with a type as `add` (2.2.7).
            draft.route.order = RouteOrder::Add;
            destination = self.value_of(line, word, "a destination")?;
        }
        let begins = |c: char| c.is_ascii_hexdigit() || c == ':';
        let prefix = destination.text.starts_with(begins) && destination.text.contains(['.', ':', '/']);
        let known = matches!(destination.text.as_str(), "default" | "default6" | "any" | "all");
        if !prefix && !known && std::ptr::eq(destination, word) && word.text != "track_group" {
            return Err(self.unknown_word(line, word, keywords::ROUTE, expected));
        }
        draft.destination = Some(self.prefix_word(line, destination, expected)?);
        Ok(())
    }

    /// `via [inet|inet6] ADDRESS`.
    fn gateway(&mut self, line: &mut Line<'_>, word: &Word) -> Result<IpAddr, Dropped> {
        let mut value = self.value_of(line, word, "an address")?;
        if matches!(value.text.as_str(), "inet" | "inet6") {
            let family = if value.text == "inet6" { Family::Ipv6 } else { Family::Ipv4 };
            self.one_family(line, value, family)?;
            value = self.value_of(line, value, "an address")?;
        }
        self.host(line, value, true)
    }

    fn six_only(&mut self, line: &mut Line<'_>, word: &Word) -> Result<(), Dropped> {
        if line.family == Some(Family::Ipv4) {
            return Err(self.drop_line(line, word, "a keyword of an IPv4 route"));
        }
        line.family = Some(Family::Ipv6);
        Ok(())
    }

    fn route_realms(&mut self, line: &mut Line<'_>, value: &Word) -> Result<u32, Dropped> {
        let Some(realms) = self.globals.iproute.realms(&value.text) else {
            return Err(self.drop_line(line, value, "REALM or FROM/TO: names of rt_realms, or 0 to 255"));
        };
        self.one_family(line, value, Family::Ipv4)?;
        Ok(realms)
    }

    /// `lock` in front of a metric's value.
    fn locked<'s>(&mut self, line: &mut Line<'s>, route: &mut Route, number: u16) -> Option<&'s Word> {
        let word = line.next_if("lock")?;
        route.locked |= 1 << number;
        Some(word)
    }

    /// A time: `200ms`, `1.5s`, or a bare number of the kernel's own units.
    fn rtt(
        &mut self,
        line: &mut Line<'_>,
        keyword: &Word,
        route: &mut Route,
        number: u16,
        unit: u64,
    ) -> Result<(), Dropped> {
        let lock = self.locked(line, route, number);
        let word = self.value_of(line, lock.unwrap_or(keyword), "a time such as 200ms or 1.5s")?;
        let Some(value) = round_trip_time(&word.text, unit) else {
            return Err(self.drop_line(line, word, "a time such as 200ms or 1.5s"));
        };
        let (least, most) = (RTT.0 * unit, RTT.1 * unit);
        if !(least..=most).contains(&value) {
            let used = if value < least { "200ms" } else { "120s" };
            self.invalid(word, "200ms to 120s", &format!("{used} is used, as in keepalived"));
        }
        metric(route, number, u32::try_from(value.clamp(least, most)).unwrap_or(u32::MAX));
        Ok(())
    }

    /// The old way to write two next hops.
    fn or(&mut self, line: &mut Line<'_>, word: &Word, draft: &mut Draft) -> Result<(), Dropped> {
        self.deprecated(word, "nexthop");
        let value = self.value_of(line, word, "an address")?;
        if !draft.route.next_hops.is_empty() {
            self.invalid(word, "one `or`", "the first counts, as in keepalived");
            return Ok(());
        }
        let other = self.host(line, value, true)?;
        for gateway in draft.own.gateway.take().into_iter().chain([other]) {
            let hop = NextHop { gateway: Some(gateway), weight: 1, ..NextHop::default() };
            draft.route.next_hops.push(hop);
        }
        Ok(())
    }

    fn route_vrf(&mut self, line: &mut Line<'_>, word: &Word) -> Dropped {
        let finding = Diagnostic::error("refused", &word.at, "`vrf` of a route cannot be looked up here");
        self.diagnostics.push(
            finding.expected("`table N`").help(
                "the number of its table depends on the host: write `table N` with that of `ip vrf show`",
            ),
        );
        line.next();
        Dropped
    }

    /// All `nexthop` parts to the end of the line.
    fn next_hops(&mut self, line: &mut Line<'_>, word: &Word, draft: &mut Draft) -> Result<(), Dropped> {
        if !draft.route.next_hops.is_empty() {
            self.invalid(word, "no `nexthop` behind `or`", "it is ignored, as in keepalived");
            while line.next().is_some() {}
            return Ok(());
        }
        loop {
            let hop = self.next_hop(line)?;
            draft.route.next_hops.push(hop);
            if line.next_if("nexthop").is_none() {
                break;
            }
        }
        if let Some(rest) = line.next() {
            self.invalid(
                rest,
                "a keyword of a next hop",
                "the rest of the line is ignored, as in keepalived",
            );
            while line.next().is_some() {}
        }
        Ok(())
    }

    fn next_hop(&mut self, line: &mut Line<'_>) -> Result<NextHop, Dropped> {
        let mut hop = NextHop { weight: 1, ..NextHop::default() };
        while let Some(word) = line.peek() {
            match word.text.as_str() {
                "via" | "dev" | "weight" | "onlink" | "encap" | "realms" => line.next(),
                "as" => return Err(self.drop_line(line, word, "a keyword of a next hop")),
                _ => break,
            };
            match word.text.as_str() {
                "via" => hop.gateway = Some(self.gateway(line, word)?),
                "dev" => hop.interface = Some(self.value_of(line, word, "an interface")?.text.clone()),
                "weight" => {
                    let value = self.value_of(line, word, "1 to 256")?;
                    hop.weight = match value.text.parse() {
                        Ok(weight @ 1..=256) => weight,
                        _ => return Err(self.drop_line(line, value, "a weight from 1 to 256")),
                    };
                }
                "onlink" => hop.on_link = true,
                "encap" => hop.encapsulation = self.encapsulation(line, word)?,
                _ => {
                    let value = self.value_of(line, word, "realms")?;
                    hop.realms = Some(self.route_realms(line, value)?);
                }
            }
        }
        Ok(hop)
    }

    /// `encap TYPE …`; `None` when keepalived goes on without it.
    fn encapsulation(&mut self, line: &mut Line<'_>, word: &Word) -> Result<Option<Encapsulation>, Dropped> {
        let kind = self.value_of(line, word, "`ip`, `ip6`, `mpls` or `ila`")?;
        match kind.text.as_str() {
            "ip" => self.tunnel(line, kind, Family::Ipv4).map(Some),
            "ip6" => self.tunnel(line, kind, Family::Ipv6).map(Some),
            "mpls" => {
                let value = self.value_of(line, kind, "labels such as 100/200")?;
                let labels: Option<Vec<u32>> = value
                    .text
                    .split('/')
                    .map(|label| label.parse().ok().filter(|label| *label < 1 << 20))
                    .collect();
                match labels {
                    Some(labels) if labels.len() <= 16 => Ok(Some(Encapsulation::Mpls { labels, ttl: None })),
                    _ => Err(self.drop_line(line, value, "up to 16 labels below 1048576, such as 100/200")),
                }
            }
            "ila" => {
                let value = self.value_of(line, kind, "a locator such as 2001:db8:0:1")?;
                match locator(&value.text) {
                    Some(locator) => Ok(Some(Encapsulation::Ila { locator })),
                    None => Err(self.drop_line(line, value, "a locator such as 2001:db8:0:1")),
                }
            }
            _ => {
                line.next();
                let expected = "`ip`, `ip6`, `mpls` or `ila`";
                self.invalid(kind, expected, "the route is added without it, as in keepalived");
                Ok(None)
            }
        }
    }

    fn tunnel(&mut self, line: &mut Line<'_>, kind: &Word, family: Family) -> Result<Encapsulation, Dropped> {
        let six = family == Family::Ipv6;
        let (tos_word, ttl_word) = if six { ("tc", "hoplimit") } else { ("tos", "ttl") };
        let (mut id, mut destination, mut source) = (None, None, None);
        let (mut tos, mut ttl, mut flags) = (None, None, None);
        while let Some(word) = line.peek() {
            let name = word.text.as_str();
            if !matches!(name, "id" | "dst" | "src" | "flags") && name != tos_word && name != ttl_word {
                break;
            }
            line.next();
            let value = self.value_of(line, word, "a value")?;
            match name {
                "dst" | "src" => {
                    let address = self.host(line, value, false)?;
                    if address.is_ipv6() != six {
                        return Err(self.drop_line(line, value, "an address of the tunnel's family"));
                    }
                    *(if name == "dst" { &mut destination } else { &mut source }) = Some(address);
                }
                "id" => id = Some(self.parsed(line, value, "a number")?),
                "flags" => flags = Some(self.parsed(line, value, "a number up to 65535")?),
                name if name == ttl_word => ttl = Some(self.parsed(line, value, "a number up to 255")?),
                _ => {
                    let expected = "a name of rt_dsfield, or 0 to 255";
                    tos = Some(self.named_byte(line, value, Names::TypeOfService, expected)?);
                }
            }
        }
        if destination.is_none() && id.is_none() {
            self.invalid(
                kind,
                "`id` or `dst` behind it",
                "the tunnel is used without them, as in keepalived",
            );
        }
        Ok(Encapsulation::Ip { id, destination, source, tos, ttl, flags, family })
    }

    fn parsed<T: std::str::FromStr>(
        &mut self,
        line: &Line<'_>,
        word: &Word,
        expected: &str,
    ) -> Result<T, Dropped> {
        word.text.parse().map_err(|_| self.drop_line(line, word, expected))
    }

    /// What can only be said of the whole line.
    fn finish_route(
        &mut self,
        entry: &Statement,
        line: Line<'_>,
        draft: Draft,
        protocol: Option<(&Word, u8)>,
    ) -> Result<Route, Dropped> {
        let Draft { mut route, destination, own, no_track } = draft;
        let Some(destination) = destination else {
            let finding =
                Diagnostic::warning("no-destination", &entry.whole(), "a route without a destination");
            self.diagnostics.push(
                finding.expected("`default` or a prefix").help("the route is dropped, as in keepalived"),
            );
            return Err(Dropped);
        };
        route.family = line.family.unwrap_or(Family::Ipv4);
        route.destination = destination.prefix();
        let said = own != NextHop { weight: 1, ..NextHop::default() };
        let interface = own.interface.is_some();
        if route.next_hops.is_empty() && said {
            route.next_hops.push(own);
        } else if said && (own.gateway.is_some() || own.interface.is_some()) {
            let finding = Diagnostic::warning("several-ways", &entry.whole(), "a way besides the next hops");
            self.diagnostics
                .push(finding.help("only the next hops count; keepalived gives the kernel both, which it refuses unless they agree"));
        }
        route.metrics.sort_unstable();
        let interface = interface && route.has_interface();
        self.route_tracking(entry, &mut route, interface, no_track, protocol);
        let shown = !no_track || protocol.is_some();
        route.text = route_text(&route, shown);
        Ok(route)
    }

    fn route_tracking(
        &mut self,
        entry: &Statement,
        route: &mut Route,
        interface: bool,
        no_track: bool,
        protocol: Option<(&Word, u8)>,
    ) {
        if let Some((word, number)) = protocol {
            route.protocol = number;
            if !no_track && number != PROTOCOL {
                self.invalid(
                    word,
                    "`no_track` beside it",
                    "18 is used, as in keepalived, to tell its own routes",
                );
                route.protocol = PROTOCOL;
            }
        }
        route.track = !no_track && interface;
        if !interface && !no_track {
            let finding = Diagnostic::notice(
                "not-tracked",
                &entry.whole(),
                "a route without an interface is not watched",
            );
            self.diagnostics.push(
                finding.expected("`dev INTERFACE`, or `no_track`").help("nor does keepalived 2.2.7 watch it"),
            );
        }
        if route.track_group.is_some() && !interface {
            let finding = Diagnostic::warning(
                "track-group-without-interface",
                &entry.whole(),
                "a track group needs the route's interface",
            );
            self.diagnostics
                .push(finding.expected("`dev INTERFACE`").help("no instance waits for it, as in keepalived"));
            route.track_group = None;
        }
    }
}

/// Sets a metric; the last of a name counts.
fn metric(route: &mut Route, number: u16, value: u32) {
    route.metrics.retain(|(n, _)| *n != number);
    route.metrics.push((number, value));
}

/// `RTN_*` by name or number.
fn kind(text: &str) -> Option<RouteType> {
    Some(match text {
        "unicast" | "1" => RouteType::Unicast,
        "local" | "2" => RouteType::Local,
        "broadcast" | "brd" | "3" => RouteType::Broadcast,
        "anycast" | "4" => RouteType::Anycast,
        "multicast" | "5" => RouteType::Multicast,
        "blackhole" | "6" => RouteType::Blackhole,
        "unreachable" | "7" => RouteType::Unreachable,
        "prohibit" | "8" => RouteType::Prohibit,
        "throw" | "9" => RouteType::Throw,
        "nat" | "10" => RouteType::Nat,
        "xresolve" | "11" => RouteType::ExternalResolve,
        _ => return None,
    })
}

/// In units of `1/unit` ms; a bare number is in them already.
fn round_trip_time(text: &str, unit: u64) -> Option<u64> {
    let suffix = text.find(['s', 'S']).map(|at| text.split_at(at));
    let Some((number, seconds)) = suffix else { return text.parse().ok() };
    if !["s", "sec", "secs"].iter().any(|known| seconds.eq_ignore_ascii_case(known)) {
        return None;
    }
    if let Some(number) = number.strip_suffix(['m', 'M']) {
        return number.parse::<u32>().ok().map(|ms| u64::from(ms) * unit);
    }
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    if decimals.is_empty() || decimals.len() > 3 {
        return None;
    }
    let whole: u32 = whole.parse().ok()?;
    let thousandths = decimals.parse::<u32>().ok()? * 10u32.pow(3 - u32::try_from(decimals.len()).ok()?);
    Some((u64::from(whole) * 1000 + u64::from(thousandths)) * unit)
}

/// Four groups of hexadecimal digits.
pub(crate) fn locator(text: &str) -> Option<u64> {
    let mut groups = text.split(':');
    let mut locator = 0;
    for _ in 0..4 {
        let group = groups.next().filter(|g| !g.is_empty() && g.len() <= 4 && !g.starts_with('+'))?;
        locator = locator << 16 | u64::from_str_radix(group, 16).ok()?;
    }
    groups.next().is_none().then_some(locator)
}
