//! The entries of `track_script`, `track_file`, `track_process` and `track_interface`, in instances and
//! groups.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Located};
use crate::model::{TrackCheck, Trackers};
use crate::ready::Effect;
use crate::written::{Statement, Word};

use super::objects::file_effect;
use super::values::effect;
use super::{Kind, Lower, Tracked, inside};

impl Lower<'_> {
    pub(super) fn track_checks(&mut self, block: &Statement, kind: Kind, into: &mut Trackers) {
        let mut known: HashSet<_> = into.checks.iter().map(|tracked| tracked.check.value.clone()).collect();
        for entry in inside(block) {
            let name = &entry.words[0];
            let Some((tracked, written)) = self.tracker(block, entry, kind) else { continue };
            let effect = match (written, kind) {
                (None, _) => tracked.effect,
                (Some(weight), Kind::File) => file_effect(weight),
                (Some(weight), _) => effect(weight),
            };
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

    /// What an entry names, and the weight behind it.
    pub(super) fn tracker(
        &mut self,
        block: &Statement,
        entry: &Statement,
        kind: Kind,
    ) -> Option<(Tracked, Option<(i16, bool)>)> {
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
        Some((tracked, self.entry_weight(&entry.words)?))
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
            let Some(written) = self.entry_weight(&entry.words) else { continue };
            let effect = written.map_or(Effect::Fault { reverse: false }, effect);
            if !known.insert(name.text.clone()) {
                let message = format!("{} is tracked twice", name.text);
                self.diagnostics
                    .push(Diagnostic::warning("duplicate", &name.at, message).help("the first counts"));
                continue;
            }
            into.interfaces.push((Located::new(name.text.clone(), name.at.clone()), effect));
        }
    }

    /// `NAME [weight N [reverse]]`: `None` drops the entry, `Some(None)` has no weight.
    fn entry_weight(&mut self, words: &[Word]) -> Option<Option<(i16, bool)>> {
        match words.get(1) {
            None => Some(None),
            Some(word) if word.text == "weight" && words.len() > 2 => self
                .weight(&words[2..], 254, "the weight of its definition is used")
                .map_or(Some(None), |w| Some(Some(w))),
            Some(word) if word.text == "weight" => {
                let finding = Diagnostic::error("missing-parameter", &word.at, "`weight` without a value");
                self.diagnostics.push(finding.expected("a number from -254 to 254"));
                None
            }
            Some(word) => {
                self.invalid(word, "`weight N [reverse]` or nothing", "the word is ignored");
                Some(None)
            }
        }
    }
}
