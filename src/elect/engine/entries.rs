//! Routes and rules of the instances: who holds them, and what is done when somebody removes one.

use super::*;
use crate::hold::{Entry, Outcome};
use crate::observe::event::EntryNews;

impl Loop {
    /// What a piece of work does to routes and rules, in the order of the requests.
    pub(super) fn entries_of(&self, id: usize, work: &AddressWork) -> Vec<Entry> {
        let Some(instance) = self.instances[id].as_ref() else { return Vec::new() };
        let held = instance.entries.iter().map(|held| &held.entry);
        match work {
            AddressWork::Add => held.cloned().collect(),
            AddressWork::Recheck => instance
                .entries
                .iter()
                .filter(|held| held.is_looked_after())
                .map(|held| held.entry.clone())
                .collect(),
            // Rules go before the routes, routes before the addresses.
            AddressWork::Remove => {
                held.rev().filter(|entry| !self.has_entry_elsewhere(id, entry)).cloned().collect()
            }
            AddressWork::CleanEntries(entries, _) => {
                entries.iter().rev().filter(|entry| !self.has_entry_elsewhere(id, entry)).cloned().collect()
            }
            AddressWork::Announce | AddressWork::Restore(_) | AddressWork::Clean(..) => Vec::new(),
        }
    }

    /// It is static, or another instance is active with it: not this one's to take off.
    fn has_entry_elsewhere(&self, id: usize, entry: &Entry) -> bool {
        self.statics.wants(entry)
            || self.instances.iter().enumerate().any(|(other, instance)| {
                let holds = |instance: &Instance| {
                    instance.is_active() && instance.entries.iter().any(|held| held.entry.is_same(entry))
                };
                other != id && instance.as_ref().is_some_and(holds)
            })
    }

    /// Notes what the kernel said, and tells what people should know.
    pub(super) fn entries_done(&mut self, id: usize, work: &AddressWork, outcomes: Vec<(Entry, Outcome)>) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        let name = instance.config.name.clone();
        let adds = matches!(work, AddressWork::Add | AddressWork::Recheck);
        let mut refused = false;
        for (entry, outcome) in outcomes {
            let news = match instance.entries.iter_mut().find(|held| held.entry == entry) {
                Some(held) => held.note(adds, &outcome),
                None => None,
            };
            let news = match (work, outcome) {
                (AddressWork::CleanEntries(_, because), Outcome::Changed) => {
                    Some(EntryNews::Removed { because: (*because).into() })
                }
                (_, Outcome::Failed(error)) => {
                    refused |= adds;
                    news.or_else(|| (!adds).then(|| EntryNews::Failed { error: error.to_string() }))
                }
                _ => news,
            };
            if let Some(news) = news {
                let (instance, entry) = (name.clone(), entry.to_string());
                self.events.send(Kind::Entry { instance, entry, news });
            }
        }
        if refused {
            self.mend_within(MEND_REFUSED);
        }
    }

    /// A route or rule went away, or a link or address that one leans on changed.
    pub(super) fn entry_news(&mut self, fact: &Fact) {
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            let mut concerned = false;
            for held in &mut instance.entries {
                concerned |= held.doubt(fact) && held.is_looked_after();
            }
            if concerned && instance.is_active() {
                self.recheck(id);
            }
        }
        self.statics_news(fact);
    }

    /// Asks the kernel once more for everything that is looked after; what is there stays as it is.
    pub(super) fn recheck(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        if !instance.is_active() || instance.work.contains(&AddressWork::Recheck) {
            return;
        }
        if instance.restores.permits(Instant::now()) {
            self.queue(id, AddressWork::Recheck);
            self.start_work(id);
        } else {
            self.mend_within(MEND_SOON);
        }
    }

    /// What is configured was removed while this daemon did not run, or before it was asked.
    pub(super) fn clean_entries(&mut self, id: usize, because: &'static str) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let entries: Vec<Entry> = instance.entries.iter().map(|held| held.entry.clone()).collect();
        if !entries.is_empty() {
            self.queue(id, AddressWork::CleanEntries(entries, because));
            self.start_work(id);
        }
    }

    /// The kernel tells of the removal of entries like those that are configured.
    pub(super) fn watch_entries(&mut self) {
        let held = self.instances.iter().flatten().flat_map(|instance| &instance.entries);
        let entries = held.map(|held| &held.entry).chain(self.statics.entries());
        if let Err(error) = self.hold.watch_for(entries) {
            let text = format!(
                "the kernel does not tell of removed routes and rules ({error}); they are not put back"
            );
            self.events.send(Kind::Notice { text });
        }
    }
}
