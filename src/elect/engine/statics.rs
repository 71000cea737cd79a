//! What is there as long as the daemon runs: static addresses, routes and rules.

use config::ready::{StaticAddress, TrackGroup};

use super::*;
use crate::elect::entries::HeldEntry;
use crate::elect::instance::RestoreLimit;
use crate::hold::{Entry, Outcome, address_text};
use crate::observe::event::EntryNews;

/// Everything static, and how far it is in place.
#[derive(Debug, Default)]
pub(super) struct Statics {
    addresses: Vec<StaticAddress>,
    /// Addresses that are there, or were refused; the others are put there whether tracked or not.
    settled: HashSet<(String, IpAddr)>,
    refused: HashMap<(String, IpAddr), String>,
    entries: Vec<HeldEntry>,
    groups: Vec<TrackGroup>,
    leaving_addresses: Vec<VirtualAddress>,
    leaving_entries: Vec<Entry>,
    busy: bool,
    again: bool,
    restores: RestoreLimit,
    /// The first round is over: what is missing now, is missing.
    ready: bool,
}

/// A finished round.
#[derive(Debug)]
pub(super) struct Round {
    added: Vec<VirtualAddress>,
    failures: Vec<(VirtualAddress, HoldError)>,
    entries: Vec<(Entry, Outcome)>,
    removed: Vec<(Entry, Outcome)>,
}

impl Statics {
    pub(super) fn wants(&self, entry: &Entry) -> bool {
        self.entries.iter().any(|held| held.entry.is_same(entry))
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter().map(|held| &held.entry)
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.entries.is_empty()
    }

    /// Nothing is missing that is looked after.
    pub(super) fn is_complete(&self, links: &crate::hold::Links) -> bool {
        !self.entries.iter().any(HeldEntry::is_unsettled)
            && self.addresses.iter().all(|one| is_present(links, &one.address) || !one.address.track)
    }

    /// What an instance needs and the kernel does not have.
    pub(super) fn faults(&self, instance: &str, links: &crate::hold::Links) -> Vec<Fault> {
        let of_instance = |group: &&TrackGroup| group.instances.iter().any(|name| name == instance);
        let mut faults = Vec::new();
        if !self.ready && self.groups.iter().any(|group| of_instance(&group)) {
            return vec![Fault::Preparing { what: "static addresses, routes and rules".into() }];
        }
        for group in self.groups.iter().filter(of_instance) {
            let in_group = |name: Option<&str>| name == Some(group.name.as_str());
            let addresses = self
                .addresses
                .iter()
                .filter(|one| in_group(one.track_group.as_deref()))
                .filter(|one| !is_present(links, &one.address))
                .map(|one| address_text(&one.address));
            let entries = self
                .entries
                .iter()
                .filter(|held| in_group(held.entry.track_group()) && held.is_missing())
                .map(|held| held.entry.to_string());
            faults.extend(
                addresses
                    .chain(entries)
                    .map(|entry| Fault::StaticMissing { entry, group: group.name.clone() }),
            );
        }
        faults
    }
}

fn is_present(links: &crate::hold::Links, address: &VirtualAddress) -> bool {
    links.by_name(&address.interface).is_some_and(|link| link.address(address.address).is_some())
}

fn key(address: &VirtualAddress) -> (String, IpAddr) {
    (address.interface.clone(), address.address)
}

impl Loop {
    /// Takes another configuration: only differences are touched.
    pub(super) fn configure_statics(&mut self, config: &Config) {
        let statics = &mut self.statics;
        let entries = config.static_routes.iter().cloned().map(Entry::Route);
        let entries: Vec<HeldEntry> = entries
            .chain(config.static_rules.iter().cloned().map(Entry::Rule))
            .map(|entry| HeldEntry::new(entry).inherit(&statics.entries))
            .collect();
        let gone = |held: &&HeldEntry| !entries.iter().any(|one| one.entry.is_same(&held.entry));
        let leaving = statics.entries.iter().filter(gone).map(|held| held.entry.clone());
        statics.leaving_entries.extend(leaving);
        let stays = |address: &VirtualAddress| {
            config.static_addresses.iter().any(|one| is_same_address(&one.address, address))
        };
        let leaving =
            statics.addresses.iter().map(|one| &one.address).filter(|address| !stays(address)).cloned();
        statics.leaving_addresses.extend(leaving);
        for address in &statics.leaving_addresses {
            statics.settled.remove(&key(address));
        }
        statics.entries = entries;
        statics.addresses.clone_from(&config.static_addresses);
        statics.groups.clone_from(&config.track_groups);
        if statics.is_empty() && statics.leaving_addresses.is_empty() && statics.leaving_entries.is_empty() {
            statics.ready = true;
            return;
        }
        self.settle_statics();
    }

    /// Removes what has to go, and puts there what is missing.
    pub(super) fn settle_statics(&mut self) {
        let statics = &mut self.statics;
        if std::mem::replace(&mut statics.busy, true) {
            statics.again = true;
            return;
        }
        statics.again = false;
        let links = self.hold.links();
        let missing: Vec<VirtualAddress> = statics
            .addresses
            .iter()
            .map(|one| &one.address)
            .filter(|address| address.track || !statics.settled.contains(&key(address)))
            .filter(|address| !is_present(&links, address))
            .cloned()
            .collect();
        drop(links);
        let entries: Vec<Entry> = statics
            .entries
            .iter()
            .filter(|held| held.is_looked_after())
            .map(|held| held.entry.clone())
            .collect();
        let leaving_addresses = std::mem::take(&mut statics.leaving_addresses);
        let leaving_entries = std::mem::take(&mut statics.leaving_entries);
        let hold = self.hold.clone();
        self.start_chore(async move {
            let (removed, _) =
                futures_util::future::join(hold.take(&leaving_entries), hold.remove(&leaving_addresses))
                    .await;
            let (failures, outcomes) =
                futures_util::future::join(hold.add(&missing), hold.put(&entries)).await;
            let failures = failures.into_iter().map(|(i, error)| (missing[i].clone(), error)).collect();
            Chore::Statics(Round {
                added: missing,
                failures,
                entries: entries.into_iter().zip(outcomes).collect(),
                removed: leaving_entries.into_iter().zip(removed).collect(),
            })
        });
    }

    pub(super) fn statics_done(&mut self, round: Round) {
        self.statics.busy = false;
        let mut refused = false;
        let mut told = Vec::new();
        for address in round.added {
            let failure = round.failures.iter().find(|(one, _)| *one == address);
            match failure {
                Some((_, error)) => {
                    refused = true;
                    let error = error.to_string();
                    if self.statics.refused.insert(key(&address), error.clone()).as_ref() != Some(&error) {
                        told.push((address_text(&address), EntryNews::Failed { error }));
                    }
                }
                None => {
                    self.statics.refused.remove(&key(&address));
                    if !self.statics.settled.insert(key(&address)) {
                        told.push((address_text(&address), EntryNews::Restored));
                    }
                }
            }
        }
        for (entry, outcome) in round.entries {
            refused |= matches!(outcome, Outcome::Failed(_));
            let held = self.statics.entries.iter_mut().find(|held| held.entry == entry);
            let news = held.and_then(|held| held.note(true, &outcome));
            told.extend(news.map(|news| (entry.to_string(), news)));
        }
        for (entry, outcome) in round.removed {
            if let Outcome::Failed(error) = outcome {
                told.push((entry.to_string(), EntryNews::Failed { error: error.to_string() }));
            }
        }
        for (entry, news) in told {
            self.events.send(Kind::Entry { instance: String::new(), entry, news });
        }
        self.statics.ready = true;
        if refused {
            self.mend_within(MEND_REFUSED);
        }
        if self.statics.again {
            self.settle_statics();
        }
        self.refresh_track_groups();
    }

    /// Something was removed or changed that may be static.
    pub(super) fn statics_news(&mut self, fact: &Fact) {
        if self.statics.is_empty() || self.stop_by.is_some() {
            return;
        }
        let mut concerned = false;
        for held in &mut self.statics.entries {
            concerned |= held.doubt(fact);
        }
        concerned |= match fact {
            Fact::AddressRemoved { address, .. } => {
                self.statics.addresses.iter().any(|one| one.address.address == *address)
            }
            Fact::LinkChanged { name, .. } | Fact::LinkRemoved { name, .. } => {
                self.statics.addresses.iter().any(|one| one.address.interface == *name)
            }
            Fact::Overrun => true,
            _ => false,
        };
        if concerned {
            self.refresh_track_groups();
            if self.statics.restores.permits(Instant::now()) {
                self.settle_statics();
            } else {
                self.mend_within(MEND_SOON);
            }
        }
    }

    fn refresh_track_groups(&mut self) {
        let names: HashSet<String> =
            self.statics.groups.iter().flat_map(|group| group.instances.iter().cloned()).collect();
        for id in self.ids() {
            if self.instances[id].as_ref().is_some_and(|instance| names.contains(&instance.config.name)) {
                self.refresh(id);
            }
        }
    }

    /// Everything static goes, at the end.
    pub(super) fn statics_farewell(&mut self) -> (Vec<Entry>, Vec<VirtualAddress>) {
        let statics = std::mem::take(&mut self.statics);
        let entries = statics.entries.into_iter().rev().map(|held| held.entry);
        let addresses = statics.addresses.into_iter().map(|one| one.address);
        (
            entries.chain(statics.leaving_entries).collect(),
            addresses.chain(statics.leaving_addresses).collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hold::refused;

    const CONFIGURATION: &str = "
        track_group T {
          group {
            A
          }
        }
        static_routes {
          10.60.0.0/16 via 192.0.2.9 dev lo0 track_group T
          10.61.0.0/16 dev lo0 no_track
        }
        static_rules {
          from 10.62.0.0/16 iif lo0 table 61 priority 1062 track_group T
        }
        vrrp_instance A {
          interface lo0
          virtual_router_id 1
          virtual_ipaddress {
            192.0.2.1/24
          }
        }";

    /// All of it is there.
    fn settled() -> Statics {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), CONFIGURATION).unwrap();
        let loaded = config::load(&[file.path()], &config::LoadOptions::default());
        let config = loaded.config.unwrap_or_else(|| panic!("{}", loaded.diagnostics.render_human(false)));
        let entries = config.static_routes.into_iter().map(Entry::Route);
        let entries = entries.chain(config.static_rules.into_iter().map(Entry::Rule)).map(HeldEntry::new);
        let mut statics = Statics {
            entries: entries.collect(),
            groups: config.track_groups,
            ready: true,
            ..Statics::default()
        };
        assert_eq!(missing(&statics).len(), 2, "nothing was put there yet");
        statics.entries.iter_mut().for_each(|held| drop(held.note(true, &Outcome::Changed)));
        statics
    }

    fn missing(statics: &Statics) -> Vec<String> {
        let faults = statics.faults("A", &crate::hold::Links::default()).into_iter();
        faults.map(|fault| fault.to_string()).collect()
    }

    fn doubt(statics: &mut Statics, fact: &Fact) -> Vec<bool> {
        statics.entries.iter_mut().map(|held| held.doubt(fact)).collect()
    }

    /// News were lost, a link changed, or a route to the same network was removed: the kernel is asked, and what it has
    /// is not missing meanwhile.
    #[test]
    fn what_is_doubtful_is_no_fault_until_the_kernel_refuses_it() {
        let removed = Fact::RouteRemoved {
            is_ipv6: false,
            destination: Some("10.60.0.0".parse().unwrap()),
            prefix: 16,
            table: 254,
        };
        let links = crate::hold::Links::default();
        for (fact, concerned) in [
            (Fact::EntriesUnknown, [true; 3]),
            (Fact::Overrun, [true; 3]),
            (Fact::LinkRemoved { index: 7, name: "lo0".into() }, [true, true, false]),
            (removed, [true, false, false]),
        ] {
            let mut statics = settled();
            assert!(missing(&statics).is_empty() && statics.is_complete(&links));
            assert_eq!(doubt(&mut statics, &fact), concerned, "{fact:?}");
            assert_eq!(missing(&statics), [] as [&str; 0], "{fact:?}");
            assert!(!statics.is_complete(&links), "the kernel is to be asked: {fact:?}");
            statics.entries.iter_mut().for_each(|held| drop(held.note(true, &Outcome::AsItWas)));
            assert!(missing(&statics).is_empty() && statics.is_complete(&links), "{fact:?}");
            doubt(&mut statics, &fact);
            let answer = refused(&statics.entries[0].entry);
            statics.entries[0].note(true, &answer);
            let missing = missing(&statics);
            assert!(missing.len() == 1 && missing[0].contains("10.60.0.0/16"), "{fact:?}: {missing:?}");
        }
    }
}
