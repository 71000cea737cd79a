//! A route or rule, and what is known about it in the kernel.

use config::ready;

use crate::hold::{Entry, Fact, Outcome};
use crate::observe::event::EntryNews;
use crate::observe::status::EntryStatus;

/// Whether the kernel has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It was never put there, or the kernel refuses it.
    Absent,
    /// Something happened that may have removed it; the kernel is about to be asked.
    Doubtful,
    /// It was put there, and nothing has happened to it since.
    Present,
}

/// One that is configured.
#[derive(Clone, Debug)]
pub struct HeldEntry {
    pub entry: Entry,
    presence: Presence,
    /// It was there once, in this state of its instance.
    known: bool,
    /// What the kernel said when it refused it.
    pub failed: Option<String>,
}

impl HeldEntry {
    pub fn new(entry: Entry) -> Self {
        Self { entry, presence: Presence::Absent, known: false, failed: None }
    }

    /// Routes, then rules.
    pub fn all(config: &ready::Instance) -> Vec<Self> {
        let routes = config.routes.iter().cloned().map(Entry::Route);
        let rules = config.rules.iter().cloned().map(Entry::Rule);
        routes.chain(rules).map(Self::new).collect()
    }

    /// What is known stays known where the kernel would show the same.
    pub fn inherit(self, before: &[Self]) -> Self {
        match before.iter().find(|held| held.entry.is_same(&self.entry)) {
            Some(held) => Self { entry: self.entry, ..held.clone() },
            None => self,
        }
    }

    /// One that was never put there is put there in any case.
    pub fn is_looked_after(&self) -> bool {
        self.entry.track() || !self.known
    }

    /// The kernel would have to be asked: something happened since, or it was never put there.
    pub fn is_unsettled(&self) -> bool {
        self.presence != Presence::Present && self.is_looked_after()
    }

    /// The kernel does not have it, as far as it was asked. One that may be removed at will is never missed.
    pub fn is_missing(&self) -> bool {
        self.presence == Presence::Absent && self.is_looked_after()
    }

    /// Takes what happened; gives whether it may be about this.
    pub fn doubt(&mut self, fact: &Fact) -> bool {
        let lost = self.entry.concerns(fact);
        let leans = match fact {
            Fact::LinkChanged { name, .. } | Fact::LinkRemoved { name, .. } => self.entry.leans_on_link(name),
            Fact::AddressAdded { address, .. } | Fact::AddressRemoved { address, .. } => {
                self.entry.leans_on_address(*address) || self.failed.is_some()
            }
            _ => false,
        };
        if self.presence == Presence::Present && (lost || leans) {
            self.presence = if self.is_looked_after() { Presence::Doubtful } else { Presence::Absent };
        }
        lost || leans
    }

    /// Takes the kernel's answer; gives what people should know.
    pub fn note(&mut self, added: bool, outcome: &Outcome) -> Option<EntryNews> {
        match outcome {
            Outcome::Failed(error) if added => {
                let text = error.to_string();
                self.presence = Presence::Absent;
                (self.failed.as_ref() != Some(&text)).then(|| {
                    self.failed = Some(text.clone());
                    EntryNews::Failed { error: text }
                })
            }
            Outcome::Failed(_) => None,
            Outcome::Changed | Outcome::AsItWas => {
                let restored = added && self.known && matches!(outcome, Outcome::Changed);
                let presence = if added { Presence::Present } else { Presence::Absent };
                *self = Self { entry: self.entry.clone(), presence, known: added, failed: None };
                restored.then_some(EntryNews::Restored)
            }
        }
    }

    pub fn status(&self) -> EntryStatus {
        EntryStatus { entry: self.entry.to_string(), present: self.presence != Presence::Absent }
    }
}
