//! A route or rule, and what is known about it in the kernel.

use config::ready;

use crate::hold::{Entry, Outcome};
use crate::observe::event::EntryNews;
use crate::observe::status::EntryStatus;

/// One that is configured.
#[derive(Clone, Debug)]
pub struct HeldEntry {
    pub entry: Entry,
    /// It was put there, and nobody has removed it since.
    pub present: bool,
    /// It was there once, in this state of its instance.
    known: bool,
    /// What the kernel said when it refused it.
    pub failed: Option<String>,
}

impl HeldEntry {
    pub fn new(entry: Entry) -> Self {
        Self { entry, present: false, known: false, failed: None }
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

    /// Takes the kernel's answer; gives what people should know.
    pub fn note(&mut self, added: bool, outcome: &Outcome) -> Option<EntryNews> {
        match outcome {
            Outcome::Failed(error) if added => {
                let text = error.to_string();
                self.present = false;
                (self.failed.as_ref() != Some(&text)).then(|| {
                    self.failed = Some(text.clone());
                    EntryNews::Failed { error: text }
                })
            }
            Outcome::Failed(_) => None,
            Outcome::Changed | Outcome::AsItWas => {
                let restored = added && self.known && matches!(outcome, Outcome::Changed);
                *self = Self { entry: self.entry.clone(), present: added, known: added, failed: None };
                restored.then_some(EntryNews::Restored)
            }
        }
    }

    pub fn status(&self) -> EntryStatus {
        EntryStatus { entry: self.entry.to_string(), present: self.present }
    }
}
