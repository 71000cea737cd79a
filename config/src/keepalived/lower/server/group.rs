//! `virtual_server_group`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::diagnostic::{Diagnostic, Located};
use crate::ready::Family;
use crate::written::{Statement, Word};

use super::super::values::Rest;
use super::super::{Lower, inside, located};
use super::family_of;

const SKIPPED: &str = "the entry is skipped, as in keepalived";

/// A `virtual_server_group`.
#[derive(Clone, Debug)]
pub(in super::super) struct Group {
    pub name: Located<String>,
    pub ranges: Vec<Range>,
    pub marks: Vec<(u32, Option<Family>)>,
}

/// Addresses from the first to the last, with one port; 0: all ports.
#[derive(Clone, Debug)]
pub(in super::super) struct Range {
    pub first: IpAddr,
    pub last: IpAddr,
    pub port: u16,
}

impl Range {
    /// The addresses; `None` when there are more than `most`.
    pub fn addresses(&self, most: usize) -> Option<Vec<SocketAddr>> {
        let (first, last) = (number(self.first), number(self.last));
        if last.saturating_sub(first) >= most as u128 {
            return None;
        }
        let address = |n: u128| match self.first {
            IpAddr::V4(_) => IpAddr::from(Ipv4Addr::from(n as u32)),
            IpAddr::V6(_) => IpAddr::from(Ipv6Addr::from(n)),
        };
        Some((first..=last).map(|n| SocketAddr::new(address(n), self.port)).collect())
    }
}

impl Group {
    pub fn has(&self, family: Family) -> bool {
        self.ranges.iter().any(|range| family_of(range.first) == family)
            || self.marks.iter().any(|(_, of)| *of == Some(family))
    }
}

impl Lower<'_> {
    pub(in super::super) fn virtual_server_group(&mut self, block: &Statement) {
        let Some(name) = self.required(block, "a name").map(located) else { return };
        let mut group = Group { name, ranges: Vec::new(), marks: Vec::new() };
        for entry in inside(block) {
            if entry.keyword() == "fwmark" {
                group.marks.extend(self.group_mark(entry));
            } else {
                group.ranges.extend(self.group_range(entry));
            }
        }
        let name = &group.name.value;
        let no_family = group.marks.iter().any(|(_, family)| family.is_none());
        let problem = if group.ranges.is_empty() && group.marks.is_empty() {
            format!("`virtual_server_group` {name} has no entries")
        } else if group.has(Family::Ipv4) && group.has(Family::Ipv6) && no_family {
            format!("`virtual_server_group` {name} has IPv4, IPv6 and a mark without a family")
        } else {
            self.server_groups.push(group);
            return;
        };
        let finding = Diagnostic::warning("server-group", &group.name.at, problem);
        self.diagnostics.push(finding.help("it is removed, as in keepalived"));
    }

    fn group_mark(&mut self, entry: &Statement) -> Option<(u32, Option<Family>)> {
        let word = self.required(entry, "a firewall mark")?;
        let mark = self.number(word, 0..=i64::from(u32::MAX), Rest::Warned, SKIPPED)?;
        let family = match entry.parameters().get(1) {
            None => None,
            Some(word) => match word.text.as_str() {
                "inet" => Some(Family::Ipv4),
                "inet6" => Some(Family::Ipv6),
                _ => {
                    self.invalid(word, "`inet` or `inet6`", SKIPPED);
                    return None;
                }
            },
        };
        Some((u32::try_from(mark).ok()?, family))
    }

    /// `ADDRESS`, `ADDRESS-LAST`, `ADDRESS-ADDRESS` or `ADDRESS/LENGTH`, and a port.
    fn group_range(&mut self, entry: &Statement) -> Option<Range> {
        let word = &entry.words[0];
        let port = entry.parameter().filter(|port| !port.text.trim_start_matches('0').is_empty());
        let port = match port {
            Some(port) => self.number(port, 1..=65535, Rest::Warned, SKIPPED)?,
            None => 0,
        };
        let port = u16::try_from(port).ok()?;
        let end = word.text.find(['-', '/']).unwrap_or(word.text.len());
        let (text, rest) = word.text.split_at(end);
        let Ok(first) = text.parse::<IpAddr>() else {
            self.invalid(word, "an address, a range, `ADDRESS/LENGTH`, or `fwmark NUMBER`", SKIPPED);
            return None;
        };
        let last = match (rest.strip_prefix('/'), rest.strip_prefix('-')) {
            (Some(length), _) => self.end_of_prefix(word, first, length)?,
            (_, Some(end)) => self.end_of_range(word, first, end)?,
            (None, None) => first,
        };
        Some(Range { first, last, port })
    }

    fn end_of_prefix(&mut self, word: &Word, first: IpAddr, length: &str) -> Option<IpAddr> {
        let bits: u32 = if first.is_ipv4() { 32 } else { 128 };
        let Some(length) = length.parse::<u32>().ok().filter(|length| (1..=bits).contains(length)) else {
            self.invalid(word, &format!("a prefix length from 1 to {bits}"), SKIPPED);
            return None;
        };
        let host = match bits - length {
            128.. => u128::MAX,
            host => (1_u128 << host) - 1,
        };
        if number(first) & host != 0 {
            self.invalid(word, "the first address of the prefix", SKIPPED);
            return None;
        }
        Some(with_number(first, number(first) | host))
    }

    /// The end is a whole address, or the last part of one: decimal for IPv4, hexadecimal for IPv6.
    fn end_of_range(&mut self, word: &Word, first: IpAddr, end: &str) -> Option<IpAddr> {
        if end.contains(['.', ':']) {
            let last = end.parse::<IpAddr>().ok();
            let last =
                last.filter(|last| last.is_ipv4() == first.is_ipv4() && number(*last) >= number(first));
            if last.is_none() {
                self.invalid(word, "a last address of the same family, behind the first", SKIPPED);
            }
            return last;
        }
        let (radix, mask) = if first.is_ipv4() { (10, 0xff) } else { (16, 0xffff) };
        let last = u128::from_str_radix(end, radix).ok();
        let last = last.filter(|last| *last <= mask && *last > number(first) & mask);
        match last {
            Some(last) => Some(with_number(first, number(first) & !mask | last)),
            None => {
                self.invalid(word, "a range that ends behind its first address", SKIPPED);
                None
            }
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(four) => u32::from(four).into(),
        IpAddr::V6(six) => six.into(),
    }
}

/// Of the family of `like`.
fn with_number(like: IpAddr, number: u128) -> IpAddr {
    match like {
        IpAddr::V4(_) => Ipv4Addr::from(number as u32).into(),
        IpAddr::V6(_) => Ipv6Addr::from(number).into(),
    }
}
