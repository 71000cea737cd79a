//! The lines of `virtual_ipaddress`.

use std::net::{IpAddr, Ipv4Addr};

use crate::diagnostic::{Diagnostic, Located};
use crate::model::Address;
use crate::ready::VirtualAddress;
use crate::written::{Statement, Word};

use super::Lower;

/// How an option's missing value is told.
const DROPPED: &str = "the address is dropped, as in keepalived";

impl Lower<'_> {
    /// `ADDRESS[/LENGTH] [OPTION…]`; `None` when the address is dropped.
    pub(super) fn virtual_address(&mut self, entry: &Statement) -> Option<Located<Address>> {
        let first = &entry.words[0];
        let (text, length) = match first.text.split_once('/') {
            Some((text, length)) => (text, Some(length)),
            None => (first.text.as_str(), None),
        };
        let Ok(ip) = text.parse::<IpAddr>() else {
            self.invalid(
                first,
                "an address such as 10.0.0.1 or 10.0.0.1/24",
                "the address is skipped, as in keepalived",
            );
            return None;
        };
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let prefix_length = length.map_or(whole, |length| self.prefix_length(first, length, whole));
        let mut address = Address {
            interface: None,
            address: VirtualAddress {
                place: first.at.place.clone(),
                ..crate::complete::plain_address(ip, prefix_length)
            },
        };
        let mut preferred = None;
        let mut words = entry.words[1..].iter();
        while let Some(word) = words.next() {
            let option = word.text.as_str();
            if !matches!(
                option,
                "dev" | "scope" | "brd" | "broadcast" | "label" | "peer" | "preferred_lft" | "track_group"
            ) {
                self.flag(word, &mut address.address);
                continue;
            }
            let Some(value) = words.next() else {
                let finding =
                    Diagnostic::warning("missing-parameter", &word.at, format!("`{option}` without a value"));
                self.diagnostics.push(finding.help(DROPPED));
                return None;
            };
            let made = &mut address.address;
            match option {
                "dev" => address.interface = Some(super::located(value)),
                "scope" => made.scope = self.scope(value).unwrap_or(made.scope),
                "brd" | "broadcast" => made.broadcast = self.broadcast(value, made),
                "label" => made.label = self.label(value, made),
                "peer" => made.peer = self.peer(value, made),
                "preferred_lft" => preferred = self.lifetime(value),
                _ => self.invalid(
                    word,
                    "an option of a virtual address",
                    "`track_group` belongs to static addresses; it is ignored",
                ),
            }
        }
        let made = &mut address.address;
        made.preferred_lifetime = preferred.unwrap_or(made.preferred_lifetime);
        let last = &entry.words[entry.words.len() - 1];
        Some(Located::new(address, first.at.to(&last.at)))
    }

    fn prefix_length(&mut self, word: &Word, length: &str, whole: u8) -> u8 {
        match length.parse::<u8>() {
            Ok(length) if length <= whole => length,
            _ => {
                self.invalid(
                    word,
                    &format!("a prefix length of at most {whole}"),
                    &format!("/{whole} is used, as in keepalived"),
                );
                whole
            }
        }
    }

    fn flag(&mut self, word: &Word, address: &mut VirtualAddress) {
        match word.text.as_str() {
            "home" => address.home = true,
            "-nodad" => address.no_dad = false,
            "noprefixroute" => address.no_prefix_route = true,
            "autojoin" => address.autojoin = true,
            "no_track" => address.track = false,
            option @ ("use_vmac" | "mngtmpaddr") => {
                let finding = Diagnostic::warning(
                    "not-supported-yet",
                    &word.at,
                    format!("`{option}` is not supported yet"),
                );
                self.diagnostics.push(finding.help("the address is added without it"));
            }
            _ => {
                let expected = "`dev`, `scope`, `brd`, `label`, `peer`, `preferred_lft`, `home`, `-nodad`, `noprefixroute`, `autojoin` or `no_track`";
                self.invalid(word, expected, "the word is ignored; write each address on a line of its own");
            }
        }
    }

    fn scope(&mut self, word: &Word) -> Option<u8> {
        let scope = match word.text.as_str() {
            "global" | "universe" => Some(0),
            "site" => Some(200),
            "link" => Some(253),
            "host" => Some(254),
            "nowhere" => Some(255),
            number => number.parse().ok(),
        };
        if scope.is_none() {
            self.invalid(word, "`global`, `site`, `link`, `host` or 0 to 255", "the default scope is used");
        }
        scope
    }

    fn broadcast(&mut self, word: &Word, address: &VirtualAddress) -> Option<Ipv4Addr> {
        let IpAddr::V4(own) = address.address else {
            self.invalid(word, "an IPv4 address to broadcast for", "IPv6 has no broadcast; it is ignored");
            return None;
        };
        let host_bits = u32::MAX.checked_shr(u32::from(address.prefix_length)).unwrap_or(0);
        match word.text.as_str() {
            "+" => Some((own.to_bits() | host_bits).into()),
            "-" => Some((own.to_bits() & !host_bits).into()),
            text => {
                let broadcast = text.parse().ok();
                if broadcast.is_none() {
                    self.invalid(word, "an IPv4 address, `+` or `-`", "no broadcast address is set");
                }
                broadcast
            }
        }
    }

    fn label(&mut self, word: &Word, address: &VirtualAddress) -> Option<String> {
        if address.address.is_ipv6() {
            self.invalid(word, "no label for IPv6", "it is ignored");
            return None;
        }
        if word.text.len() > 15 || word.text.is_empty() {
            self.invalid(word, "a label of at most 15 characters", "it is ignored");
            return None;
        }
        Some(word.text.clone())
    }

    fn peer(&mut self, word: &Word, address: &VirtualAddress) -> Option<(IpAddr, u8)> {
        let (text, length) =
            word.text.split_once('/').map_or((word.text.as_str(), None), |(t, l)| (t, Some(l)));
        let whole = if address.address.is_ipv4() { 32 } else { 128 };
        match text.parse::<IpAddr>() {
            Ok(peer) if peer.is_ipv4() == address.address.is_ipv4() => {
                Some((peer, length.map_or(whole, |length| self.prefix_length(word, length, whole))))
            }
            _ => {
                self.invalid(word, "an address of the same family", "no peer is set");
                None
            }
        }
    }

    fn lifetime(&mut self, word: &Word) -> Option<Option<u32>> {
        if word.text == "forever" {
            return Some(None);
        }
        let seconds = word.text.parse().ok();
        if seconds.is_none() {
            self.invalid(word, "seconds or `forever`", "the default is used");
        }
        seconds.map(Some)
    }
}
