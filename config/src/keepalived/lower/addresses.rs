//! The lines of `virtual_ipaddress`.

use std::net::{IpAddr, Ipv4Addr};

use crate::diagnostic::{Diagnostic, Located};
use crate::iproute::Names;
use crate::model::Address;
use crate::ready::VirtualAddress;
use crate::written::{Statement, Word};

use super::super::keywords::line::ADDRESS;
use super::Lower;

/// How an option's missing value is told.
const DROPPED: &str = "the address is dropped, as in keepalived";

/// An address while its line is read.
struct Draft {
    address: Address,
    track_group: Option<String>,
    preferred: Option<Option<u32>>,
    /// The word behind `brd`.
    broadcast: Option<Word>,
}

impl Lower<'_> {
    /// A line of `virtual_ipaddress`; `None` when the address is dropped.
    pub(super) fn virtual_address(&mut self, entry: &Statement) -> Option<Located<Address>> {
        self.address_line(entry, false).map(|(address, _)| address)
    }

    /// `ADDRESS[/LENGTH] [OPTION…]`, and the track group of a static one.
    pub(super) fn address_line(
        &mut self,
        entry: &Statement,
        fixed: bool,
    ) -> Option<(Located<Address>, Option<String>)> {
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
        let address = Address {
            interface: None,
            address: VirtualAddress {
                place: first.at.place.clone(),
                ..crate::complete::plain_address(ip, prefix_length)
            },
        };
        let mut draft = Draft { address, track_group: None, preferred: None, broadcast: None };
        let mut words = entry.words[1..].iter();
        while let Some(word) = words.next() {
            match word.text.as_str() {
                "dev" | "scope" | "brd" | "broadcast" | "label" | "peer" | "preferred_lft" => {}
                "track_group" if fixed => {}
                "use_vmac" if !fixed => {
                    // The prefix of its name is known when all of the instance is read.
                    draft.address.address.own_vmac = Some(String::new());
                    continue;
                }
                _ => {
                    self.flag(word, &mut draft.address.address, fixed);
                    continue;
                }
            }
            let Some(value) = words.next() else {
                let message = format!("`{}` without a value", word.text);
                let finding = Diagnostic::warning("missing-parameter", &word.at, message);
                self.diagnostics.push(finding.help(DROPPED));
                return None;
            };
            self.address_option(word, value, &mut draft)?;
        }
        let made = &mut draft.address.address;
        if let Some(word) = draft.broadcast {
            made.broadcast = self.broadcast(&word, made);
        }
        made.preferred_lifetime = draft.preferred.unwrap_or(made.preferred_lifetime);
        let last = &entry.words[entry.words.len() - 1];
        Some((Located::new(draft.address, first.at.to(&last.at)), draft.track_group))
    }

    /// An option with a value; `None` drops the address.
    fn address_option(&mut self, word: &Word, value: &Word, draft: &mut Draft) -> Option<()> {
        let made = &mut draft.address.address;
        let six = made.address.is_ipv6();
        match word.text.as_str() {
            "dev" if draft.address.interface.is_some() => {
                self.invalid(word, "one `dev`", DROPPED);
                return None;
            }
            "dev" => draft.address.interface = Some(super::located(value)),
            "scope" if six => self.invalid(word, "no scope for IPv6", "it is ignored, as in keepalived"),
            "scope" => made.scope = self.scope(value).unwrap_or(made.scope),
            "brd" | "broadcast" if six => {
                self.invalid(word, "no broadcast for IPv6", DROPPED);
                return None;
            }
            "brd" | "broadcast" => {
                if !matches!(value.text.as_str(), "+" | "-") && value.text.parse::<Ipv4Addr>().is_err() {
                    self.invalid(value, "an IPv4 address, `+` or `-`", DROPPED);
                    return None;
                }
                draft.broadcast = Some(value.clone());
            }
            "label" if value.text.len() > 15 => {
                self.invalid(value, "a label of at most 15 characters", DROPPED);
                return None;
            }
            "label" => made.label = self.label(value, made),
            "peer" => self.peer(value, made),
            "preferred_lft" => draft.preferred = self.lifetime(value, six),
            _ => self.track_group(&mut draft.track_group, value),
        }
        Some(())
    }

    pub(super) fn prefix_length(&mut self, word: &Word, length: &str, whole: u8) -> u8 {
        let digits = length.find(|c: char| !c.is_ascii_digit()).map_or(length, |end| &length[..end]);
        match digits.parse::<u8>() {
            Ok(number) if number <= whole => {
                if digits.len() != length.len() {
                    self.cut_number(word, digits);
                }
                number
            }
            _ => {
                self.invalid(
                    word,
                    &format!("a prefix length of at most {whole}"),
                    &format!("/{whole} is used"),
                );
                whole
            }
        }
    }

    fn flag(&mut self, word: &Word, address: &mut VirtualAddress, fixed: bool) {
        match word.text.as_str() {
            "home" => address.home = true,
            "-nodad" => address.no_dad = false,
            "mngtmpaddr" => address.manage_temporary = true,
            "noprefixroute" => address.no_prefix_route = true,
            "autojoin" => address.autojoin = true,
            "no_track" => address.track = false,
            _ => {
                let own = if fixed { "track_group" } else { "use_vmac" };
                let expected = format!(
                    "`dev`, `scope`, `brd`, `label`, `peer`, `preferred_lft`, `home`, `-nodad`, `mngtmpaddr`, `noprefixroute`, `autojoin`, `no_track` or `{own}`"
                );
                let known = ADDRESS.iter().map(|keyword| keyword.name);
                let expected = match self.diagnostics.suggest(&word.text, known) {
                    Some(meant) if meant != word.text => format!("`{meant}`?"),
                    _ => expected,
                };
                self.invalid(word, &expected, "the word is ignored; write each address on a line of its own");
            }
        }
    }

    fn scope(&mut self, word: &Word) -> Option<u8> {
        let scope = match word.text.as_str() {
            "universe" => Some(0),
            text => self.globals.iproute.find_byte(Names::Scope, text),
        };
        if scope.is_none() {
            self.invalid(word, "`global`, `site`, `link`, `host` or 0 to 255", "the default scope is used");
        }
        scope
    }

    /// `+` sets the host bits, `-` clears them.
    fn broadcast(&mut self, word: &Word, address: &VirtualAddress) -> Option<Ipv4Addr> {
        let IpAddr::V4(own) = address.address else { return None };
        if address.peer.is_some() {
            self.invalid(word, "no broadcast address beside `peer`", "it is ignored, as in keepalived");
            return None;
        }
        let host_bits = u32::MAX.checked_shr(u32::from(address.prefix_length)).unwrap_or(0);
        match word.text.as_str() {
            "+" | "-" if address.prefix_length > 30 => {
                let otherwise = "no broadcast address is set, as in keepalived";
                self.invalid(word, "a prefix length of at most 30", otherwise);
                None
            }
            "+" => Some((own.to_bits() | host_bits).into()),
            "-" => Some((own.to_bits() & !host_bits).into()),
            text => text.parse().ok(),
        }
    }

    fn label(&mut self, word: &Word, address: &VirtualAddress) -> Option<String> {
        if address.address.is_ipv6() {
            self.invalid(word, "no label for IPv6", "it is ignored");
            return None;
        }
        (!word.text.is_empty()).then(|| word.text.clone())
    }

    /// The far end; the address has no length then.
    fn peer(&mut self, word: &Word, address: &mut VirtualAddress) {
        let whole = if address.address.is_ipv4() { 32 } else { 128 };
        match word.text.parse::<IpAddr>() {
            _ if address.peer.is_some() => self.invalid(word, "one `peer`", "the first counts"),
            Ok(peer) if peer.is_ipv4() == address.address.is_ipv4() => {
                if address.prefix_length != whole {
                    let expected = "an address without a length beside `peer`";
                    self.invalid(word, expected, &format!("/{whole} is used, as in keepalived"));
                }
                address.prefix_length = whole;
                address.peer = Some((peer, whole));
            }
            _ => self.invalid(word, "an address of the same family, without a length", "no peer is set"),
        }
    }

    fn lifetime(&mut self, word: &Word, six: bool) -> Option<Option<u32>> {
        let lifetime = match word.text.as_str() {
            "forever" => Some(None),
            // All bits set is what the kernel calls for ever.
            text => text.parse().ok().map(|seconds: u32| (seconds != u32::MAX).then_some(seconds)),
        };
        if lifetime.is_none() {
            self.invalid(word, "seconds or `forever`", "the default is used");
        }
        lifetime.filter(|_| six)
    }
}
