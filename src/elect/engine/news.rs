//! What the kernel says about links and addresses.

use super::*;

impl Loop {
    pub(super) fn handle_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::LinkChanged { index, name, mac_changed, .. } => {
                self.observe_link(name);
                self.link_of_vmac(name);
                self.link_news(Some(*index), name);
                if *mac_changed {
                    self.announce_again_from(name);
                }
            }
            Fact::LinkRemoved { index, name } => {
                self.sockets.retain(|(ifindex, _), _| ifindex != index);
                self.link_delays.forget(name);
                self.link_of_vmac(name);
                self.link_news(Some(*index), name);
            }
            Fact::AddressAdded { index, address, .. } | Fact::AddressRemoved { index, address, .. } => {
                self.address_news(*index, *address);
            }
            Fact::Overrun => {
                let names: Vec<String> = self.hold.links().iter().map(|link| link.name.clone()).collect();
                for name in names {
                    self.observe_link(&name);
                }
                self.refresh_all(&self.ids());
                for id in self.ids() {
                    self.reconcile(id, APPEARED);
                }
            }
            Fact::RouteRemoved { .. } | Fact::RuleRemoved { .. } | Fact::EntriesUnknown => {}
        }
        self.entry_news(fact);
    }

    /// What the kernel says of a link now, for those that must stay so before it counts.
    pub(super) fn observe_link(&mut self, name: &str) {
        let up = self.hold.links().by_name(name).map(|link| link.up);
        match up {
            Some(up) => self.link_delays.observe(Instant::now(), name, up),
            None => self.link_delays.forget(name),
        }
    }

    /// A link is not what it was.
    pub(super) fn link_news(&mut self, index: Option<u32>, name: &str) {
        let mut concerned = self.ids();
        concerned.retain(|id| {
            self.instances[*id].as_mut().is_some_and(|instance| {
                let concerned = (index.is_some() && instance.ifindex == index)
                    || instance.config.interface == name
                    || instance.tracked_interfaces().any(|track| track.interface == name)
                    || instance.holds().any(|address| address.interface == name);
                if concerned {
                    instance.refused.clear();
                }
                concerned
            })
        });
        self.refresh_all(&concerned);
        for id in concerned {
            self.reconcile(id, APPEARED);
        }
    }

    /// The interface has another MAC address: hosts have to learn it.
    pub(super) fn announce_again_from(&mut self, name: &str) {
        for id in self.ids() {
            let concerned = self.instances[id].as_ref().is_some_and(|instance| {
                instance.is_active() && instance.holds().any(|address| address.interface == name)
            });
            if concerned {
                self.queue(id, AddressWork::Announce);
                self.start_work(id);
            }
        }
    }

    pub(super) fn address_news(&mut self, index: u32, address: IpAddr) {
        let is_virtual = self.virtual_addresses.contains(&address);
        let mut concerned = Vec::new();
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            if is_virtual && instance.holds().any(|one| one.address == address) {
                instance.refused.remove(&address);
                self.reconcile(id, APPEARED);
            } else if !is_virtual
                && ([instance.ifindex, instance.base_index].contains(&Some(index))
                    || instance.config.source == Some(address))
            {
                concerned.push(id);
            }
        }
        self.refresh_all(&concerned);
    }

    /// Looks at everything around an instance again and tells its machine what changed.
    pub(super) fn refresh(&mut self, id: usize) {
        self.refresh_all(&[id]);
    }

    /// As [`Loop::refresh`]; each sync group changes once for all its members.
    pub(super) fn refresh_all(&mut self, ids: &[usize]) {
        let mut done = BTreeSet::new();
        for id in ids {
            if let Some(group) = self.group_of(*id) {
                // All of it at the place of its first member, as keepalived tells it.
                if done.insert(group) {
                    let members: Vec<usize> =
                        ids.iter().copied().filter(|id| self.group_of(*id) == Some(group)).collect();
                    self.refresh_group(group, &members);
                }
            } else if let Some(faults) = self.instances[*id].as_ref().map(|one| one.faults.clone()) {
                self.survey(*id);
                self.take_part(*id, &faults);
            }
        }
    }

    /// Do instances take part, if nothing prevents them?
    pub(super) fn takes_part(&self) -> bool {
        self.not_before.is_none() && self.stop_by.is_none()
    }

    /// Looks at everything around an instance; what keeps it from taking part is only noted.
    pub(super) fn survey(&mut self, id: usize) {
        self.open_socket(id);
        let links = self.hold.links();
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.retired) else { return };
        let around = Surroundings {
            links: &links,
            verdicts: &self.verdicts,
            delays: &self.link_delays,
            bfd: &self.bfd,
            virtual_addresses: &self.virtual_addresses,
        };
        instance.missing = self.statics.faults(&instance.config.name, &links);
        instance.missing.extend(self.vmacs.faults(instance, &links));
        let (source, before) = (instance.source, instance.standing.clone());
        instance.look_around(around);
        drop(links);
        let new_source = instance.source.filter(|_| instance.source != source);
        let priority = instance.standing.priority;

        self.copy_link_local(id);
        if let Some(source) = new_source {
            self.feed(id, Input::PrimaryAddressChanged(source));
        }
        if priority != before.priority {
            self.priority_changed(id, before.priority);
        }
    }

    /// Tells the machine when something keeps it from taking part, or nothing any more.
    pub(super) fn take_part(&mut self, id: usize, faults_before: &[Fault]) {
        let started = self.takes_part();
        let Some(instance) = self.instances[id].as_ref().filter(|instance| !instance.retired) else { return };
        let (state, faulty) = (instance.state, !instance.faults.is_empty());
        let participates = matches!(state, State::Backup | State::Active);
        // A check that a reload has brought prevents nobody from going on, only from beginning.
        let waits = self.instances[id].as_ref().is_some_and(|instance| waits_only(&instance.faults));
        if participates && faulty && !waits {
            self.feed(id, Input::Fault);
        } else if participates {
            // It goes on.
        } else if !faulty && started {
            self.feed(id, Input::Startup);
        } else if faulty && state == State::Initialize && started {
            let faults =
                self.instances[id].as_ref().map(|instance| instance.faults.clone()).unwrap_or_default();
            self.enter(Instant::now(), id, State::Fault, Reason::Fault { faults });
        } else if faulty && let Some(instance) = self.instances[id].as_mut() {
            let faults = instance.faults.clone();
            // Still in FAULT, perhaps for another reason: show the present one.
            instance.last_reason = Some(Reason::Fault { faults });
            if started && waits_only(faults_before) && !waits {
                // It only waited for first results until now; this is the failure that people are told of.
                let faults = instance.faults.clone();
                self.enter(Instant::now(), id, State::Fault, Reason::Fault { faults });
            }
        }
    }

    pub(super) fn priority_changed(&mut self, id: usize, from: u8) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let to = instance.standing.priority;
        self.events.send(Kind::Priority {
            instance: instance.config.name.clone(),
            state: instance.state,
            from,
            to,
            because: explain::sum(to, instance.config.priority, &instance.standing.weights),
        });
        self.feed(id, Input::PriorityChanged(Priority::new(to)));
    }
}
