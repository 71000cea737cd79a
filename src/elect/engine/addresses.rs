//! The work on addresses, and the comparison of what the kernel has with what should be.

use futures_util::future::join;

use super::*;

impl Loop {
    pub(super) fn queue(&mut self, id: usize, work: AddressWork) {
        if let Some(instance) = self.instances[id].as_mut() {
            instance.work.push_back(work);
        }
    }

    /// Starts the next piece of work of an instance unless one is going on.
    pub(super) fn start_work(&mut self, id: usize) {
        loop {
            let Some(instance) = self.instances[id].as_mut() else { return };
            if instance.busy {
                return;
            }
            let Some(work) = instance.work.pop_front() else { return };
            let mut addresses: Vec<VirtualAddress> = match &work {
                AddressWork::Announce => {
                    self.announce(id);
                    continue;
                }
                AddressWork::Add => {
                    instance.refused.clear();
                    instance.holds().cloned().collect()
                }
                AddressWork::Remove => {
                    let links = self.hold.links();
                    instance.holds().filter(|address| !instance.owns(&links, address)).cloned().collect()
                }
                AddressWork::Restore(addresses) | AddressWork::Clean(addresses, _) => addresses.clone(),
                AddressWork::Recheck | AddressWork::CleanEntries(..) => Vec::new(),
            };
            if matches!(work, AddressWork::Remove | AddressWork::Clean(..)) {
                addresses.retain(|address| !self.is_held_by_another(id, address));
            }
            let work = match work {
                AddressWork::Clean(_, because) => AddressWork::Clean(addresses.clone(), because),
                work => work,
            };
            let entries = self.entries_of(id, &work);
            let lifetime = match &work {
                AddressWork::Add | AddressWork::Restore(_) => self.new_lifetime(id),
                _ => None,
            };
            let silenced = self.silenced(id, &addresses);
            // A reload may have let them answer.
            let was_silent = self.instances[id].as_ref().is_some_and(|instance| instance.silent);
            let audible =
                if was_silent && silenced.is_empty() { self.on_links(&addresses) } else { BTreeSet::new() };
            let Some(instance) = self.instances[id].as_mut() else { return };
            instance.busy = true;
            instance.silent |= !silenced.is_empty();
            instance.silent &= audible.is_empty();
            let hold = self.hold.clone();
            let finished = self.finished.clone();
            let mut work = Box::pin(async move {
                let adds = !matches!(
                    work,
                    AddressWork::Remove | AddressWork::Clean(..) | AddressWork::CleanEntries(..)
                );
                // Silent before they are there.
                let mut refused = None;
                if adds && !silenced.is_empty() {
                    refused = hold.silence(silenced.clone()).await.err();
                }
                // Routes may need the addresses: they come after them and go before them.
                let (failures, outcomes) = if adds {
                    join(hold.add_for(&addresses, lifetime), hold.put(&entries)).await
                } else {
                    let (outcomes, failures) = join(hold.take(&entries), hold.remove(&addresses)).await;
                    (failures, outcomes)
                };
                let lifted = if adds || silenced.is_empty() { audible } else { silenced };
                if !lifted.is_empty() {
                    refused = refused.or(hold.unsilence(lifted).await.err());
                }
                let failures =
                    failures.into_iter().map(|(index, error)| (addresses[index].clone(), error)).collect();
                let entries = entries.into_iter().zip(outcomes).collect();
                // The receiver lives as long as the loop; after it nobody asks.
                let _ = finished.send(Done { instance: id, work, failures, entries, refused });
            });
            // The requests leave with the first poll, the answers are waited for beside the loop.
            if work.as_mut().now_or_never().is_none() {
                tokio::task::spawn_local(work);
            }
            return;
        }
    }

    pub(super) fn handle_done(&mut self, done: Done) {
        let now = Instant::now();
        if !done.failures.is_empty() {
            self.mend_within(MEND_REFUSED);
        }
        let Some(instance) = self.instances[done.instance].as_mut() else { return };
        instance.busy = false;
        let name = instance.config.name.clone();
        for (address, error) in &done.failures {
            instance.refused.insert(address.address);
            self.events.send(Kind::AddressFailed {
                instance: name.clone(),
                address: address.address,
                interface: address.interface.clone(),
                error: error.to_string(),
            });
        }
        let held = || instance.holds().map(|address| (address, address.address));
        let taken: Vec<(&VirtualAddress, IpAddr)> = match &done.work {
            AddressWork::Clean(addresses, _) => addresses.iter().map(|one| (one, one.address)).collect(),
            AddressWork::Remove => held().collect(),
            _ => Vec::new(),
        };
        let failed = |address: &VirtualAddress| done.failures.iter().any(|(other, _)| other == address);
        let off: Vec<IpAddr> = taken.iter().filter(|one| !failed(one.0)).map(|one| one.1).collect();
        match &done.work {
            AddressWork::Restore(addresses) => {
                for address in addresses.iter().filter(|address| !failed(address)) {
                    if let Some(target) = self.target(address) {
                        self.announcer.once(now, done.instance, target);
                    }
                    self.events.send(Kind::AddressRestored {
                        instance: name.clone(),
                        address: address.address,
                        interface: address.interface.clone(),
                    });
                }
            }
            AddressWork::Clean(addresses, because) => {
                for address in addresses.iter().filter(|address| !failed(address)) {
                    self.events.send(Kind::AddressRemoved {
                        instance: name.clone(),
                        address: address.address,
                        interface: address.interface.clone(),
                        because: (*because).into(),
                    });
                }
            }
            AddressWork::Add
            | AddressWork::Remove
            | AddressWork::Announce
            | AddressWork::Recheck
            | AddressWork::CleanEntries(..) => {}
        }
        if let Some(error) = done.refused {
            let text = format!("{name}: its addresses answer though they should not: {error}");
            self.events.send(Kind::Notice { text });
        }
        self.entries_done(done.instance, &done.work, done.entries);
        let took_off = matches!(done.work, AddressWork::Remove | AddressWork::Clean(..));
        if took_off {
            self.forget_lease(done.instance, &off);
        }
        self.start_work(done.instance);
        self.reconcile(done.instance, APPEARED);
        if let Some(instance) = self.instances[done.instance].as_mut() {
            // Room for the next change is not kept until then.
            instance.work.shrink_to_fit();
        }
        self.forget_if_done(done.instance);
        if took_off && !self.shared_addresses.is_empty() {
            // A reload may have given the address to another instance: what we take off is no news.
            for id in self.ids().into_iter().filter(|id| *id != done.instance) {
                if self.instances[id].as_ref().is_some_and(Instance::is_active) {
                    self.reconcile(id, APPEARED);
                }
            }
        }
        if let AddressWork::Clean(_, GONE) = done.work {
            // It counted as an ordinary address of its host for a moment.
            self.refresh_all(&self.ids());
        }
    }

    /// Notes which addresses belong to more than one instance, those of the present configuration and of the one that
    /// comes taken together.
    pub(super) fn note_shared(&mut self, config: &Config, order: &[usize]) {
        let present = self.instances.iter().enumerate();
        let present = present.filter_map(|(id, instance)| Some((id, &instance.as_ref()?.config)));
        let coming = order.iter().copied().zip(&config.instances);
        let mut owners = HashMap::new();
        let mut shared = HashSet::new();
        for (id, instance) in present.chain(coming) {
            for address in instance.held() {
                if *owners.entry(address.address).or_insert(id) != id {
                    shared.insert(address.address);
                }
            }
        }
        self.shared_addresses.extend(shared);
    }

    /// Another instance is active with this address: it is not this one's to take off.
    pub(super) fn is_held_by_another(&self, id: usize, address: &VirtualAddress) -> bool {
        self.shared_addresses.contains(&address.address)
            && self.instances.iter().enumerate().any(|(other, instance)| {
                let held = |instance: &Instance| {
                    instance.is_active()
                        && instance.holds().any(|one| {
                            (one.address, &one.interface, one.prefix_length)
                                == (address.address, &address.interface, address.prefix_length)
                        })
                };
                other != id && instance.as_ref().is_some_and(held)
            })
    }

    /// Tries again what the kernel refused, and what was undone too often.
    pub(super) fn mend(&mut self) {
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            instance.refused.clear();
            if instance.socket_error.is_some() {
                self.refresh(id);
            }
            self.reconcile(id, APPEARED);
            let lacks = |instance: &Instance| {
                instance.entries.iter().any(crate::elect::entries::HeldEntry::is_unsettled)
            };
            if self.instances[id].as_ref().is_some_and(lacks) {
                self.recheck(id);
            }
        }
        self.mend_vmacs();
        if !self.statics.is_complete(&self.hold.links()) {
            self.settle_statics();
        }
    }

    pub(super) fn mend_within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.mend_at = Some(self.mend_at.map_or(at, |before| before.min(at)));
    }

    pub(super) fn announce(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        if !instance.is_active() {
            return;
        }
        let targets = instance.holds().filter_map(|address| self.target(address)).collect();
        let (arp, na) = (&instance.config.gratuitous_arp, &instance.config.neighbor_advertisements);
        self.announcer.begin(Instant::now(), id, targets, arp, na);
        self.announce_extra(id);
        self.report_announce_errors();
    }

    /// Addresses on other interfaces than the instance's own are announced again and again if that was asked for, so
    /// that switches there do not forget where they are: adverts do not tell them.
    pub(super) fn announce_extra(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let every = instance.config.extra_announcements;
        let elsewhere = instance.holds().filter(|address| address.interface != instance.config.interface);
        let targets = match every {
            Some(every) => elsewhere
                .filter_map(|address| self.target(address))
                .filter(|target| every.all || is_virtual_mac(target.mac))
                .collect(),
            None => Vec::new(),
        };
        self.announcer.extra(Instant::now(), id, every.map(|every| every.interval), targets);
    }

    /// A unicast instance that was in FAULT may have come back with another MAC address; its peers learn it.
    pub(super) fn announce_source(&mut self, now: Instant, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let Some(address) = instance.source else { return };
        if !matches!(instance.config.transport, Transport::Unicast { .. }) {
            return;
        }
        let target = {
            let links = self.hold.links();
            let link = links.by_name(&instance.config.interface).filter(|link| link.arp);
            link.and_then(|link| {
                let (ifindex, interface) = (link.index, link.name.clone());
                Some(Target { ifindex, interface, mac: link.mac?, address })
            })
        };
        if let Some(target) = target {
            self.announcer.once(now, id, target);
        }
    }

    /// Where and from which MAC an address is announced; nowhere on interfaces without ARP.
    pub(super) fn target(&self, address: &VirtualAddress) -> Option<Target> {
        let links = self.hold.links();
        let link = links.by_name(&address.interface).filter(|link| link.arp)?;
        Some(Target {
            ifindex: link.index,
            interface: link.name.clone(),
            mac: link.mac?,
            address: address.address,
        })
    }

    pub(super) fn report_announce_errors(&mut self) {
        for error in self.announcer.take_errors() {
            self.events.send(Kind::Notice { text: error.to_string() });
        }
    }

    /// Compares what the kernel has with what should be, and mends the difference.
    pub(super) fn reconcile(&mut self, id: usize, because: &'static str) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        // Work that is under way changes the table; this is called again when it is done.
        if instance.busy || !instance.work.is_empty() || instance.retired {
            return;
        }
        let mut postponed = false;
        let links = self.hold.links();
        let present = |address: &VirtualAddress| {
            links.by_name(&address.interface).map(|link| link.address(address.address).is_some())
        };
        let work = if instance.is_active() {
            let missing: Vec<_> = instance
                .holds()
                .filter(|address| address.track && !instance.refused.contains(&address.address))
                .filter(|address| present(address) == Some(false))
                .cloned()
                .collect();
            let permitted = missing.is_empty() || instance.restores.permits(Instant::now());
            postponed = !permitted;
            (!missing.is_empty() && permitted).then_some(AddressWork::Restore(missing))
        } else {
            let foreign: Vec<_> = instance
                .holds()
                .filter(|address| {
                    !instance.refused.contains(&address.address) && !instance.owns(&links, address)
                })
                .filter_map(|address| {
                    let found = links.by_name(&address.interface)?.address(address.address)?;
                    // Somebody may have put it on with another prefix length; the kernel wants to hear that one.
                    let prefix_length =
                        if address.peer.is_some() { address.prefix_length } else { found.prefix };
                    Some(VirtualAddress { prefix_length, ..address.clone() })
                })
                .collect();
            (!foreign.is_empty()).then_some(AddressWork::Clean(foreign, because))
        };
        drop(links);
        if postponed {
            self.mend_within(MEND_SOON);
        }
        let work = match work {
            Some(AddressWork::Clean(mut foreign, because)) => {
                foreign.retain(|address| !self.is_held_by_another(id, address));
                (!foreign.is_empty()).then_some(AddressWork::Clean(foreign, because))
            }
            work => work,
        };
        if let Some(work) = work {
            self.queue(id, work);
            self.start_work(id);
        }
    }
}

/// RFC 9568 §7.3: 00-00-5E-00-01-VRID, and 02 for IPv6.
fn is_virtual_mac(mac: [u8; 6]) -> bool {
    matches!(mac, [0x00, 0x00, 0x5e, 0x00, 0x01 | 0x02, _])
}
