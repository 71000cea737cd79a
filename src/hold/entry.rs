//! Routes and rules: put there, taken off, looked after.

use std::io;
use std::net::IpAddr;

use config::ready::{Family, Place, Prefix, Route, Rule, VirtualAddress};
use futures_util::{Stream, StreamExt};
use nix::libc;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;

use super::links::{Fact, Links};
use super::{Hold, connection_closed, route, rule};

/// A route or a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// ip-route(8).
    Route(Route),
    /// ip-rule(8).
    Rule(Rule),
}

/// What the kernel said to one request.
#[derive(Debug)]
pub enum Outcome {
    /// It is as it should be, and was not before.
    Changed,
    /// It was so already.
    AsItWas,
    /// The kernel refused.
    Failed(EntryError),
}

/// A route or rule could not be added or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {verb} {entry}: {}{hint} ({place})", word(cause))]
pub struct EntryError {
    verb: &'static str,
    entry: String,
    place: Place,
    cause: io::Error,
    hint: &'static str,
}

impl EntryError {
    /// The kernel says so of what cannot be added again too.
    fn may_be_there(&self) -> bool {
        matches!(self.cause.raw_os_error(), Some(libc::EINVAL | libc::ENETUNREACH | libc::EHOSTUNREACH))
    }
}

impl Entry {
    /// As the operator wrote it.
    pub fn text(&self) -> &str {
        match self {
            Self::Route(route) => &route.text,
            Self::Rule(rule) => &rule.text,
        }
    }

    /// Where it was written.
    pub fn place(&self) -> &Place {
        match self {
            Self::Route(route) => &route.place,
            Self::Rule(rule) => &rule.place,
        }
    }

    /// Whether it is put back when somebody removes it.
    pub fn track(&self) -> bool {
        match self {
            Self::Route(route) => route.track,
            Self::Rule(rule) => rule.track,
        }
    }

    /// Its instances are in FAULT while it is missing.
    pub fn track_group(&self) -> Option<&str> {
        match self {
            Self::Route(route) => route.track_group.as_deref(),
            Self::Rule(rule) => rule.track_group.as_deref(),
        }
    }

    /// The kernel would show the same.
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Route(a), Self::Route(b)) => {
                let here = Route {
                    order: b.order,
                    track: b.track,
                    track_group: b.track_group.clone(),
                    text: b.text.clone(),
                    place: b.place.clone(),
                    ..a.clone()
                };
                here == *b
            }
            (Self::Rule(a), Self::Rule(b)) => {
                let here = Rule {
                    track: b.track,
                    track_group: b.track_group.clone(),
                    text: b.text.clone(),
                    place: b.place.clone(),
                    ..a.clone()
                };
                here == *b
            }
            _ => false,
        }
    }

    /// It may have gone with this link, or may be possible now.
    pub fn leans_on_link(&self, name: &str) -> bool {
        match self {
            Self::Route(route) => {
                let named = |hop: &config::ready::NextHop| {
                    hop.interface.as_deref().is_none_or(|interface| interface == name)
                };
                route.next_hops.iter().any(named)
            }
            Self::Rule(_) => false,
        }
    }

    /// The kernel removes it with this address, and tells nobody.
    pub fn leans_on_address(&self, address: IpAddr) -> bool {
        matches!(self, Self::Route(route) if route.source == Some(address))
    }

    /// The fact may be about it.
    pub fn concerns(&self, fact: &Fact) -> bool {
        let is_ipv6 = |family| family == Family::Ipv6;
        match (self, fact) {
            (Self::Route(route), Fact::RouteRemoved { is_ipv6: six, destination, prefix, table }) => {
                let own = route.destination.map_or(0, |own| own.length);
                let address = route.destination.filter(|own| own.length > 0).map(network);
                is_ipv6(route.family) == *six
                    && route.table == *table
                    && own == *prefix
                    && address == destination.filter(|_| *prefix > 0)
            }
            (Self::Rule(rule), Fact::RuleRemoved { is_ipv6: six, preference }) => {
                is_ipv6(rule.family) == *six && rule.preference == *preference
            }
            (_, Fact::EntriesUnknown | Fact::Overrun) => true,
            _ => false,
        }
    }

    /// `RTPROT_*`.
    pub fn protocol(&self) -> u8 {
        match self {
            Self::Route(route) => route.protocol,
            Self::Rule(rule) => rule.protocol,
        }
    }

    /// The interfaces that it names.
    pub fn interfaces(&self) -> Vec<&str> {
        match self {
            Self::Route(route) => route.next_hops.iter().filter_map(|hop| hop.interface.as_deref()).collect(),
            Self::Rule(rule) => {
                rule.input_interface.iter().chain(&rule.output_interface).map(String::as_str).collect()
            }
        }
    }
}

/// The address without its host bits.
pub(super) fn network(prefix: Prefix) -> IpAddr {
    match prefix.address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix.length)).unwrap_or(0);
            std::net::Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix.length)).unwrap_or(0);
            std::net::Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A static address in the words of its place in the file.
pub fn address_text(address: &VirtualAddress) -> String {
    format!("address {}/{} on {}", address.address, address.prefix_length, address.interface)
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Route(route) => write!(f, "route {}", route.text),
            Self::Rule(rule) => write!(f, "rule {}", rule.text),
        }
    }
}

impl Hold {
    /// Adds all, in their order; every request is sent before the first answer is waited for.
    ///
    /// The kernel judges a request before it looks whether there is such a route already: one whose gateway is in no
    /// network of this host any more stays, and is refused when it is added again. Where a track group depends on it,
    /// the routes are looked through before it is called missing.
    pub async fn put(&self, entries: &[Entry]) -> Vec<Outcome> {
        let mut outcomes = self.ask(entries, true).await;
        for (entry, outcome) in entries.iter().zip(&mut outcomes) {
            if let (Entry::Route(route), Outcome::Failed(error)) = (entry, &*outcome)
                && route.track_group.is_some()
                && error.may_be_there()
                && self.has_route(route).await
            {
                *outcome = Outcome::AsItWas;
            }
        }
        outcomes
    }

    async fn has_route(&self, route: &Route) -> bool {
        let Ok(answers) = self.handle.clone().request(route::list(route)) else { return false };
        let mut answers = std::pin::pin!(answers);
        let mut is_there = false;
        while let Some(answer) = answers.next().await {
            is_there |= matches!(
                &answer.payload,
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(found)) if route::is_shown_as(route, found)
            );
        }
        is_there
    }

    /// Removes all, in their order, and goes on after failures. An interface that is not there takes its routes along.
    pub async fn take(&self, entries: &[Entry]) -> Vec<Outcome> {
        self.ask(entries, false).await
    }

    async fn ask(&self, entries: &[Entry], add: bool) -> Vec<Outcome> {
        let mut under_way = Vec::with_capacity(entries.len());
        for entry in entries {
            let request = request(entry, add, &self.links());
            let removal = add.then(|| self::request(entry, false, &self.links()).ok()).flatten();
            let is_new = removal.is_some_and(|removal| self.shared.way_back.leave_entry(entry, removal));
            let request = request
                .and_then(|request| self.handle.clone().request(request).map_err(|_| connection_closed()));
            under_way.push((request, is_new));
        }
        let mut outcomes = Vec::with_capacity(entries.len());
        for (entry, (answers, is_new)) in entries.iter().zip(under_way) {
            let answer = match answers {
                Ok(answers) => answer(answers).await,
                Err(cause) => Err(cause),
            };
            let outcome = outcome(entry, add, answer);
            // What was there before us stays; what was refused is not there.
            if !add || is_new && !matches!(outcome, Outcome::Changed) {
                self.shared.way_back.forget_entry(entry);
            }
            outcomes.push(outcome);
        }
        outcomes
    }
}

fn request(entry: &Entry, add: bool, links: &Links) -> io::Result<NetlinkMessage<RouteNetlinkMessage>> {
    match (entry, add) {
        (Entry::Route(route), true) => route::add(route, links),
        (Entry::Route(route), false) => route::remove(route, links),
        (Entry::Rule(rule), true) => Ok(rule::add(rule)),
        (Entry::Rule(rule), false) => Ok(rule::remove(rule)),
    }
}

async fn answer(answers: impl Stream<Item = NetlinkMessage<RouteNetlinkMessage>>) -> io::Result<()> {
    let mut answers = std::pin::pin!(answers);
    while let Some(answer) = answers.next().await {
        let NetlinkPayload::Error(answer) = answer.payload else { continue };
        return match -answer.raw_code() {
            0 => Ok(()),
            errno => Err(io::Error::from_raw_os_error(errno)),
        };
    }
    Err(connection_closed())
}

fn outcome(entry: &Entry, add: bool, answer: io::Result<()>) -> Outcome {
    let cause = match answer {
        Ok(()) => return Outcome::Changed,
        Err(cause) => cause,
    };
    match (add, cause.raw_os_error()) {
        (true, Some(libc::EEXIST)) => Outcome::AsItWas,
        (false, Some(libc::ESRCH | libc::ENOENT | libc::ENODEV | libc::EAFNOSUPPORT)) => Outcome::AsItWas,
        _ => {
            let hint = hint(entry, &cause);
            let (verb, place) = (if add { "add" } else { "remove" }, entry.place().clone());
            Outcome::Failed(EntryError { verb, entry: entry.to_string(), place, cause, hint })
        }
    }
}

/// As if the kernel had refused to add it.
#[cfg(test)]
pub(crate) fn refused(entry: &Entry) -> Outcome {
    outcome(entry, true, Err(io::Error::from_raw_os_error(libc::ENETUNREACH)))
}

/// What the kernel's word means for routes and rules.
fn hint(entry: &Entry, cause: &io::Error) -> &'static str {
    match (entry, cause.raw_os_error()) {
        (_, Some(libc::EPERM)) => "; it needs CAP_NET_ADMIN",
        (_, Some(libc::ENODEV)) => "; there is no such interface",
        (Entry::Route(_), Some(libc::ENETUNREACH)) => {
            "; its gateway is in no network of an interface that is up (or write `onlink`)"
        }
        (Entry::Route(_), Some(libc::EHOSTUNREACH)) => "; its gateway cannot be reached over that interface",
        (Entry::Route(_), Some(libc::ENETDOWN)) => "; its interface is down",
        (Entry::Route(Route { source: Some(_), .. }), Some(libc::EINVAL)) => {
            "; `src` must be an address of this host, or a value does not fit this kind of route"
        }
        (Entry::Route(_), Some(libc::EOPNOTSUPP)) => "; the kernel lacks what it asks for",
        (Entry::Route(Route { family: Family::Ipv6, .. }), Some(libc::EACCES)) => {
            "; IPv6 is disabled there: see net.ipv6.conf.*.disable_ipv6"
        }
        _ => "",
    }
}

fn word(cause: &io::Error) -> String {
    cause.to_string().split(" (os error").next().unwrap_or_default().to_owned()
}
