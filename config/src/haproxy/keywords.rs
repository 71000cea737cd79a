//! Every keyword of HAProxy 2.6 that can stand in a configuration in `mode tcp`, and what becomes of it here.
//!
//! `docs/haproxy.md` is made from these tables. A word that is in none of them is unknown to HAProxy too.

mod global;
mod options;
mod proxy;

pub(super) use global::GLOBAL;
pub(super) use options::{BIND, SERVER};
pub(super) use proxy::{OPTIONS, PROXY};

use crate::written::Word;

/// What becomes of a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It has a meaning here.
    Carried,
    /// It has a meaning here that differs: how.
    Differs(&'static str),
    /// Nothing is lost without it: why.
    NotNeeded(&'static str),
    /// Of `mode http` alone; HAProxy ignores it in `mode tcp`. A frontend that works by it cannot be carried.
    Http,
    /// Of `mode http` alone, and without it a request is still carried to the same servers.
    HttpOnly,
    /// It would do something, and does not here: what to do instead. The rest runs.
    Dropped(&'static str),
    /// The configuration is refused: why, and what to write.
    Refused(&'static str),
    /// HAProxy 2.6 does not start with it: what it says.
    Gone(&'static str),
}

/// A keyword.
#[derive(Clone, Copy, Debug)]
pub(super) struct Keyword {
    /// One word, or two with a blank between.
    pub name: &'static str,
    /// Where it may stand: `D`efaults, `F`rontend, `L`isten, `B`ackend. For options of servers and binds: how many
    /// words it takes.
    pub places: &'static str,
    pub status: Status,
}

impl Keyword {
    /// How many words an option of a server or a bind takes.
    pub fn arguments(&self) -> usize {
        self.places.parse().unwrap_or(0)
    }
}

pub(super) const fn word(name: &'static str, places: &'static str, status: Status) -> Keyword {
    Keyword { name, places, status }
}

/// First words that need a second one.
const FAMILIES: [&str; 14] = [
    "option",
    "timeout",
    "stats",
    "http-check",
    "tcp-check",
    "tcp-request",
    "tcp-response",
    "stick",
    "monitor",
    "capture",
    "email-alert",
    "declare",
    "rate-limit",
    "external-check",
];

/// What a line of a proxy says.
pub(super) enum Found {
    Keyword(&'static Keyword),
    /// The first word is known, the second is not.
    UnknownSecond,
    Unknown,
}

/// The keyword of a line of a proxy, without `no` and `default`.
pub(super) fn find(words: &[Word]) -> Found {
    let Some(first) = words.first().map(|word| word.text.as_str()) else { return Found::Unknown };
    if FAMILIES.contains(&first) {
        let second = words.get(1).map_or("", |word| word.text.as_str());
        // `set-var(name)` and `set-var-fmt(name)`.
        let second = second.split('(').next().unwrap_or("");
        let both = format!("{first} {second}");
        let table = if first == "option" { OPTIONS } else { PROXY };
        return match table.iter().find(|keyword| keyword.name == both) {
            Some(keyword) => Found::Keyword(keyword),
            None => Found::UnknownSecond,
        };
    }
    // Two words that are no family: `persist rdp-cookie`.
    let found =
        PROXY.iter().find(|keyword| keyword.name == first || keyword.name.split(' ').next() == Some(first));
    found.map_or(Found::Unknown, Found::Keyword)
}

/// What may stand behind a first word.
pub(super) fn seconds(first: &str) -> impl Iterator<Item = &'static str> {
    let table = if first == "option" { OPTIONS } else { PROXY };
    table.iter().filter_map(move |keyword| keyword.name.strip_prefix(first)?.strip_prefix(' '))
}

/// An option of a server or a bind.
pub(super) fn option_of(table: &'static [Keyword], name: &str) -> Option<&'static Keyword> {
    table.iter().find(|keyword| keyword.name == name)
}
