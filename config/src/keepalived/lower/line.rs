//! The words of one line of `virtual_routes`, `virtual_rules` and their static sisters, one after the other.

use std::net::IpAddr;

use crate::diagnostic::Diagnostic;
use crate::iproute::Names;
use crate::ready::{Family, Prefix};
use crate::written::{Statement, Word};

use super::super::keywords::Keyword;
use super::Lower;
use super::values::Rest;

/// The line is dropped; why was said.
#[derive(Debug)]
pub(super) struct Dropped;

/// A prefix, or all there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    All,
    Prefix(Prefix),
}

impl Destination {
    pub fn prefix(self) -> Option<Prefix> {
        match self {
            Self::All => None,
            Self::Prefix(prefix) => Some(prefix),
        }
    }

    /// All there is as a prefix of no bits.
    pub fn prefix_of(self, family: Family) -> Prefix {
        let address = match family {
            Family::Ipv4 => IpAddr::from([0; 4]),
            Family::Ipv6 => IpAddr::from([0; 16]),
        };
        self.prefix().unwrap_or(Prefix { address, length: 0 })
    }
}

/// What is being read: for messages.
pub(super) struct Line<'s> {
    words: std::iter::Peekable<std::slice::Iter<'s, Word>>,
    /// `route` or `rule`.
    pub what: &'static str,
    pub family: Option<Family>,
}

impl<'s> Line<'s> {
    pub fn new(entry: &'s Statement, what: &'static str) -> Self {
        Self { words: entry.words.iter().peekable(), what, family: None }
    }

    pub fn next(&mut self) -> Option<&'s Word> {
        self.words.next()
    }

    pub fn peek(&mut self) -> Option<&'s Word> {
        self.words.peek().copied()
    }

    /// The next word if it is this one.
    pub fn next_if(&mut self, text: &str) -> Option<&'s Word> {
        self.words.next_if(|word| word.text == text)
    }

    fn dropped(&self) -> String {
        format!("the {} is dropped, as in keepalived", self.what)
    }
}

impl Lower<'_> {
    /// The word behind a keyword. keepalived does not start without it.
    pub(super) fn value_of<'s>(
        &mut self,
        line: &mut Line<'s>,
        keyword: &Word,
        expected: &str,
    ) -> Result<&'s Word, Dropped> {
        line.next().ok_or_else(|| {
            let message = format!("`{}` without a value", keyword.text);
            let finding = Diagnostic::error("missing-parameter", &keyword.at, message);
            self.diagnostics.push(
                finding.expected(expected).help(
                    "keepalived does not start with this line either; give the value or delete the line",
                ),
            );
            Dropped
        })
    }

    pub(super) fn drop_line(&mut self, line: &Line<'_>, word: &Word, expected: &str) -> Dropped {
        self.invalid(word, expected, &line.dropped());
        Dropped
    }

    /// A word that begins nothing on this line.
    pub(super) fn unknown_word(
        &mut self,
        line: &Line<'_>,
        word: &Word,
        known: &'static [Keyword],
        expected: &str,
    ) -> Dropped {
        match self.diagnostics.suggest(&word.text, known.iter().map(|keyword| keyword.name)) {
            Some(meant) if meant != word.text => self.drop_line(line, word, &format!("`{meant}`?")),
            _ => self.drop_line(line, word, expected),
        }
    }

    /// A line that is fine here and that keepalived (2.2.7, 2.4.3) drops.
    pub(super) fn dropped_by_keepalived(&mut self, line: &Line<'_>, word: &Word, help: &str) {
        let message = format!("keepalived drops this {} because of the place of `{}`", line.what, word.text);
        self.diagnostics.push(
            Diagnostic::warning("dropped-by-keepalived", &word.at, message)
                .help(format!("it is used here; {help}")),
        );
    }

    /// Everything on a line is of one family.
    pub(super) fn one_family(
        &mut self,
        line: &mut Line<'_>,
        word: &Word,
        family: Family,
    ) -> Result<(), Dropped> {
        match line.family {
            Some(known) if known != family => {
                let other = if known == Family::Ipv4 { "an IPv4 value" } else { "an IPv6 value" };
                Err(self.drop_line(line, word, &format!("{other}, as before it on this line")))
            }
            _ => {
                line.family = Some(family);
                Ok(())
            }
        }
    }

    /// keepalived skips the word behind `inet` and `inet6` (2.2.7, 2.4.3); what the manual says is done here.
    pub(super) fn family_word(&mut self, line: &mut Line<'_>, word: &Word) -> Result<(), Dropped> {
        let family = if word.text == "inet6" { Family::Ipv6 } else { Family::Ipv4 };
        self.one_family(line, word, family)?;
        let message = format!("keepalived skips the word behind `{}`", word.text);
        let finding = Diagnostic::notice("skipped-by-keepalived", &word.at, message);
        self.diagnostics.push(
            finding.help(
                "it is read here, as its manual says; for keepalived leave the family to the addresses",
            ),
        );
        Ok(())
    }

    /// An address without a length.
    pub(super) fn host(
        &mut self,
        line: &mut Line<'_>,
        word: &Word,
        of_line: bool,
    ) -> Result<IpAddr, Dropped> {
        let address: IpAddr =
            word.text.parse().map_err(|_| self.drop_line(line, word, "an IPv4 or IPv6 address"))?;
        if of_line {
            self.one_family(line, word, crate::complete::family_of(address))?;
        }
        Ok(address)
    }

    /// `ADDRESS[/LENGTH]`, `default`, `any`, `all`; `default6` is an old word.
    pub(super) fn prefix_word(
        &mut self,
        line: &mut Line<'_>,
        word: &Word,
        expected: &str,
    ) -> Result<Destination, Dropped> {
        match word.text.as_str() {
            "default" | "any" | "all" => {
                if line.family.is_some() {
                    self.dropped_by_keepalived(line, word, "put it first on the line");
                }
                return Ok(Destination::All);
            }
            "default6" => {
                self.deprecated(word, "inet6 default");
                self.one_family(line, word, Family::Ipv6)?;
                return Ok(Destination::All);
            }
            _ => {}
        }
        let (text, length) = word
            .text
            .split_once('/')
            .map_or((word.text.as_str(), None), |(text, length)| (text, Some(length)));
        let address: IpAddr = text.parse().map_err(|_| self.drop_line(line, word, expected))?;
        let family = crate::complete::family_of(address);
        self.one_family(line, word, family)?;
        let whole = if family == Family::Ipv4 { 32 } else { 128 };
        let length = length.map_or(whole, |length| self.prefix_length(word, length, whole));
        Ok(Destination::Prefix(Prefix { address, length }))
    }

    pub(super) fn deprecated(&mut self, word: &Word, instead: &str) {
        let message = format!("`{}` is an old word", word.text);
        self.diagnostics
            .push(Diagnostic::notice("deprecated", &word.at, message).help(format!("write `{instead}`")));
    }

    /// A number or a name of iproute2.
    pub(super) fn named(
        &mut self,
        line: &Line<'_>,
        word: &Word,
        names: Names,
        expected: &str,
    ) -> Result<u32, Dropped> {
        self.globals.iproute.find(names, &word.text).ok_or_else(|| self.drop_line(line, word, expected))
    }

    pub(super) fn named_byte(
        &mut self,
        line: &Line<'_>,
        word: &Word,
        names: Names,
        expected: &str,
    ) -> Result<u8, Dropped> {
        self.globals.iproute.find_byte(names, &word.text).ok_or_else(|| self.drop_line(line, word, expected))
    }

    /// A decimal number behind a keyword.
    pub(super) fn number_of(
        &mut self,
        line: &mut Line<'_>,
        keyword: &Word,
        most: u32,
    ) -> Result<u32, Dropped> {
        let word = self.value_of(line, keyword, &format!("a number up to {most}"))?;
        let otherwise = line.dropped();
        let number = self.number(word, 0..=i64::from(most), Rest::Refused, &otherwise);
        number.and_then(|number| u32::try_from(number).ok()).ok_or(Dropped)
    }

    /// The name of a track group that exists.
    pub(super) fn track_group(&mut self, slot: &mut Option<String>, word: &Word) {
        if slot.is_some() {
            return self.invalid(word, "one `track_group`", "the first counts");
        }
        if self.track_groups.contains(&word.text) {
            *slot = Some(word.text.clone());
        } else {
            let message = format!("there is no track group {}", word.text);
            let finding = Diagnostic::warning("unknown-track-group", &word.at, message);
            self.diagnostics.push(
                finding
                    .expected("the name of a `track_group` that has members")
                    .help("no instance waits for it, as in keepalived"),
            );
        }
    }
}
