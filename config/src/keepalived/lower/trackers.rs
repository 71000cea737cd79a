//! The entries of `track_script`, `track_file`, `track_process` and `track_interface`, in instances and
//! groups.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Located};
use crate::model::{TrackCheck, Trackers};
use crate::ready::Effect;
use crate::written::{Statement, Word};

use super::objects::file_effect;
use super::values::{Rest, effect};
use super::{Kind, Lower, Tracked, inside};

impl Lower<'_> {
    pub(super) fn track_checks(&mut self, block: &Statement, kind: Kind, into: &mut Trackers) {
        let mut known: HashSet<_> = into.checks.iter().map(|tracked| tracked.check.value.clone()).collect();
        for entry in inside(block) {
            let name = &entry.words[0];
            let Some((tracked, weight)) = self.tracker(block, entry, kind) else { continue };
            let effect = if kind == Kind::File { file_effect(weight) } else { effect(weight) };
            if !known.insert(tracked.check.clone()) {
                let message = format!("{} is tracked twice", name.text);
                self.diagnostics
                    .push(Diagnostic::warning("duplicate", &name.at, message).help("the first counts"));
                continue;
            }
            let check = Located::new(tracked.check, name.at.clone());
            into.checks.push(TrackCheck { check, effect });
        }
    }

    /// What an entry names, and the weight that it has here.
    pub(super) fn tracker(
        &mut self,
        block: &Statement,
        entry: &Statement,
        kind: Kind,
    ) -> Option<(Tracked, (i16, bool))> {
        let name = &entry.words[0];
        let Some(tracked) = self.tracked.get(&(kind, name.text.clone())).cloned() else {
            let message = format!("`{}` names {} that is not defined", block.keyword(), name.text);
            let finding = Diagnostic::warning("unknown-tracker", &name.at, message);
            let known = self.tracked.keys().filter(|(k, _)| *k == kind).map(|(_, n)| n.as_str());
            let finding = match self.diagnostics.suggest(&name.text, known) {
                Some(meant) => finding.expected(format!("`{meant}`?")),
                None => finding.expected(match kind {
                    Kind::Script => "the name of a `vrrp_script`",
                    Kind::File => "the name of a `track_file`",
                    Kind::Process => "the name of a `vrrp_track_process`",
                    Kind::Bfd => "the name of a `bfd_instance`",
                }),
            };
            self.diagnostics.push(finding.help("it is not tracked, as in keepalived"));
            return None;
        };
        self.defined_later(name, &tracked.place);
        let weight = self.entry_weight(entry, kind.into(), weight_of(tracked.effect))?;
        Some((tracked, weight))
    }

    /// keepalived needs the definition before its use; here the order does not matter.
    fn defined_later(&mut self, name: &Word, defined: &crate::diagnostic::Location) {
        let (used, defined) = (&name.at.place, &defined.place);
        if used.file == defined.file && used.line < defined.line {
            let message = format!("{} is defined behind its use", name.text);
            let finding = Diagnostic::notice("defined-later", &name.at, message);
            self.diagnostics.push(finding.help(format!(
                "it is tracked here, but keepalived does not track it; move its definition ({defined}) up"
            )));
        }
    }

    pub(super) fn track_interfaces(&mut self, block: &Statement, into: &mut Trackers) {
        let mut known: HashSet<_> = into.interfaces.iter().map(|(name, _)| name.value.clone()).collect();
        for entry in inside(block) {
            let name = &entry.words[0];
            let Some(weight) = self.entry_weight(entry, Entry::INTERFACE, (0, false)) else { continue };
            let effect = effect(weight);
            if !known.insert(name.text.clone()) {
                let message = format!("{} is tracked twice", name.text);
                self.diagnostics
                    .push(Diagnostic::warning("duplicate", &name.at, message).help("the first counts"));
                continue;
            }
            into.interfaces.push((Located::new(name.text.clone(), name.at.clone()), effect));
        }
    }

    /// `NAME [weight N [reverse | noreverse]]`: what is not written is as in the definition. `None`: it is not
    /// tracked, since keepalived does not track it either.
    fn entry_weight(&mut self, entry: &Statement, rules: Entry, defined: (i16, bool)) -> Option<(i16, bool)> {
        const NOT_TRACKED: &str = "it is not tracked, as in keepalived";
        let mut words = entry.words[1..].iter();
        let Some(first) = words.next() else { return Some(defined) };
        if first.text != "weight" {
            self.invalid(first, rules.expected(), NOT_TRACKED);
            return None;
        }
        let Some(number) = words.next() else {
            let finding = Diagnostic::warning("missing-parameter", &first.at, "`weight` without a value");
            let expected = format!("a number from -{0} to {0}", rules.limit);
            self.diagnostics.push(finding.expected(expected).help(NOT_TRACKED));
            return None;
        };
        let limit = i64::from(rules.limit);
        let otherwise = "the weight of its definition is used, 0 for an interface";
        let weight = self.number(number, -limit..=limit, Rest::Warned, otherwise);
        let weight = weight.and_then(|weight| i16::try_from(weight).ok()).unwrap_or(defined.0);
        let Some(word) = words.next() else { return Some((weight, defined.1)) };
        match word.text.as_str() {
            "reverse" => Some((weight, true)),
            "noreverse" if rules.noreverse => Some((weight, false)),
            _ if rules.strict => {
                self.invalid(word, rules.expected(), NOT_TRACKED);
                None
            }
            _ => {
                self.invalid(word, rules.expected(), "the word is ignored");
                Some((weight, defined.1))
            }
        }
    }
}

/// What keepalived 2.2.7 takes behind the name of what is tracked.
#[derive(Clone, Copy)]
struct Entry {
    /// Of the weight, to both sides of 0.
    limit: i16,
    noreverse: bool,
    /// A word that it does not know behind the weight drops the entry.
    strict: bool,
}

impl Entry {
    const INTERFACE: Self = Self { limit: 254, noreverse: false, strict: false };

    fn expected(self) -> &'static str {
        if self.noreverse {
            "`weight N [reverse|noreverse]` or nothing"
        } else {
            "`weight N [reverse]` or nothing"
        }
    }
}

impl From<Kind> for Entry {
    fn from(kind: Kind) -> Self {
        let limit = if kind == Kind::Bfd { 253 } else { 254 };
        Self { limit, noreverse: true, strict: matches!(kind, Kind::File | Kind::Bfd) }
    }
}

pub(super) fn weight_of(effect: Effect) -> (i16, bool) {
    match effect {
        Effect::Fault { reverse } => (0, reverse),
        Effect::Weight { weight, reverse } | Effect::Value { weight, reverse } => (weight, reverse),
    }
}
