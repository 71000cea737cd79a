//! `bfd_instance`, and the entries of `track_bfd`.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use crate::complete::{BFD_INTERVAL, BFD_MULTIPLIER, bfd_ttl};
use crate::diagnostic::{Diagnostic, Located};
use crate::model::Trackers;
use crate::ready::{Bfd, Effect};
use crate::written::Statement;

use super::values::{Rest, effect};
use super::{Kind, Lower, Tracked, inside, located};

const IGNORED: &str = "the default is used";
/// keepalived's bound, in milliseconds: what fits in 32 bits of microseconds.
const MOST_TIME: f64 = 4_294_967.0;
/// Longest name in keepalived's configuration.
const MOST_NAME: usize = 31;

impl Lower<'_> {
    pub(super) fn bfd_instance(&mut self, block: &Statement) {
        let Some(name) = self.new_object(block, Kind::Bfd) else { return };
        if name.value.chars().count() > MOST_NAME {
            self.invalid(
                &block.words[1],
                "a name of at most 31 characters",
                "it is skipped, as in keepalived",
            );
            return;
        }
        let words = inside(block);
        let multihop = words.iter().rfind(|s| s.keyword() == "multihop");
        let multihop = multihop.and_then(|statement| self.boolean(statement)).is_some_and(|on| on.value);
        let told = |keyword| words.iter().any(|s| s.keyword() == keyword);
        let (vrrp, checker) = (told("vrrp"), told("checker"));
        let mut neighbor: Option<Located<IpAddr>> = None;
        let mut source: Option<Located<IpAddr>> = None;
        let mut weight = (0, false);
        let mut made = Bfd {
            name: name.value.clone(),
            neighbor: IpAddr::from([0, 0, 0, 0]),
            source: None,
            min_rx: BFD_INTERVAL,
            min_tx: BFD_INTERVAL,
            idle_tx: crate::complete::BFD_IDLE,
            multiplier: BFD_MULTIPLIER,
            passive: false,
            ttl: bfd_ttl(multihop),
            max_hops: Some(0),
            multihop,
            effect: effect((0, false)),
            for_vrrp: vrrp || !checker,
            for_checkers: checker || !vrrp,
            place: name.at.place.clone(),
        };
        for statement in words {
            match statement.keyword() {
                "neighbor_ip" | "neighbour_ip" => {
                    let word = self.required(statement, "an address");
                    neighbor = word.and_then(|word| self.address(word, "the line is ignored"));
                }
                "source_ip" => {
                    let word = self.required(statement, "an address");
                    source = word.and_then(|word| self.address(word, "the kernel chooses the source"));
                }
                "min_rx" => made.min_rx = self.bfd_time(statement, 1.0).unwrap_or(made.min_rx),
                "min_tx" => made.min_tx = self.bfd_time(statement, 1.0).unwrap_or(made.min_tx),
                "idle_tx" => made.idle_tx = self.bfd_time(statement, 1000.0).unwrap_or(made.idle_tx),
                "multiplier" => {
                    let count = self.bfd_number(statement, 1..=255);
                    made.multiplier = count.and_then(|n| u8::try_from(n).ok()).unwrap_or(made.multiplier);
                }
                "passive" => made.passive = true,
                "ttl" | "hoplimit" => {
                    let ttl = self.bfd_number(statement, 1..=255);
                    made.ttl = ttl.and_then(|n| u8::try_from(n).ok()).unwrap_or(made.ttl);
                }
                "max_hops" => {
                    if let Some(hops) = self.bfd_number(statement, -1..=255) {
                        made.max_hops = u8::try_from(hops).ok().filter(|hops| *hops < 255);
                    }
                }
                "weight" => {
                    let otherwise = "the number is ignored, as in keepalived";
                    if let Some((number, reverse)) = self.weight(statement, 253, otherwise) {
                        weight = (number.unwrap_or(weight.0), weight.1 | reverse);
                    }
                }
                "multihop" | "vrrp" | "checker" => {}
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let left_out = name.clone();
        let Some(neighbor) = neighbor else {
            self.bfd_left_out.extend(made.for_checkers.then_some(left_out.value));
            let message = format!("no `neighbor_ip` in `bfd_instance` {}", name.value);
            let finding = Diagnostic::warning("missing-neighbor", &name.at, message);
            self.diagnostics.push(
                finding
                    .expected("`neighbor_ip ADDRESS`")
                    .help("it is removed, as in keepalived, and not tracked"),
            );
            return;
        };
        made.neighbor = neighbor.value;
        if let Some(source) = source {
            if source.value.is_ipv4() == neighbor.value.is_ipv4() {
                made.source = Some(source.value);
            } else {
                self.bfd_left_out.extend(made.for_checkers.then_some(left_out.value));
                let message = "the source is of another family than the neighbour";
                let finding = Diagnostic::warning("address-family", &source.at, message);
                self.diagnostics
                    .push(finding.help("the session is removed, as in keepalived, and not tracked"));
                return;
            }
        }
        if made.max_hops.is_some_and(|hops| hops > made.ttl) {
            let message = format!("`bfd_instance` {}: more hops than the TTL allows", name.value);
            let finding = Diagnostic::warning("max-hops", &name.at, message);
            self.diagnostics.push(finding.help(format!("{} is used, as in keepalived", made.ttl)));
            made.max_hops = Some(made.ttl);
        }
        made.effect = effect(weight);
        let same = |one: &Bfd| {
            let sources = (one.source, made.source);
            one.neighbor == made.neighbor
                && (sources.0 == sources.1 || sources.0.is_none() || sources.1.is_none())
        };
        if self.model.bfd.iter().any(same) {
            self.bfd_left_out.extend(made.for_checkers.then_some(left_out.value));
            let message = format!("there is a session with {} already", made.neighbor);
            let finding = Diagnostic::warning("duplicate", &neighbor.at, message);
            self.diagnostics.push(finding.help("it is skipped, as in keepalived, and not tracked"));
            return;
        }
        if made.for_vrrp {
            let tracked = Tracked { check: name.value.clone(), effect: made.effect, place: name.at };
            self.tracked.insert((Kind::Bfd, name.value), tracked);
        }
        self.model.bfd.push(made);
    }

    /// Milliseconds with three decimals.
    fn bfd_time(&mut self, statement: &Statement, least: f64) -> Option<Duration> {
        let word = self.required(statement, "milliseconds")?;
        self.decimal(word, "milliseconds", least..=MOST_TIME, 3, IGNORED).map(|time| time / 1000)
    }

    fn bfd_number(&mut self, statement: &Statement, range: std::ops::RangeInclusive<i64>) -> Option<i64> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let word = self.required(statement, &expected)?;
        self.number(word, range, Rest::Refused, IGNORED)
    }

    pub(super) fn track_bfd(&mut self, block: &Statement, into: &mut Trackers) {
        let mut known: HashSet<_> = into.bfd.iter().map(|(name, _)| name.value.clone()).collect();
        for entry in inside(block) {
            let name = located(&entry.words[0]);
            let Some((_, weight)) = self.tracker(block, entry, Kind::Bfd) else { continue };
            let effect: Effect = effect(weight);
            if !known.insert(name.value.clone()) {
                let message = format!("{} is tracked twice", name.value);
                self.diagnostics
                    .push(Diagnostic::warning("duplicate", &name.at, message).help("the first counts"));
                continue;
            }
            into.bfd.push((name, Some(effect)));
        }
    }
}
