//! What the rest of the daemon asks: verdicts, status, another configuration.

use super::*;

impl Loop {
    pub(super) fn handle_command(&mut self, command: Command) {
        match command {
            Command::Verdict { check, verdict } => {
                let tracks = |id: &usize| {
                    let instance = self.instances[*id].as_ref();
                    instance.is_some_and(|one| one.tracked_checks().any(|track| track.check == check))
                };
                let concerned: Vec<usize> = self.ids().into_iter().filter(tracks).collect();
                self.verdicts.insert(check, verdict);
                self.refresh_all(&concerned);
            }
            Command::Bfd { session, verdict } => {
                let tracks = |id: &usize| {
                    let instance = self.instances[*id].as_ref();
                    instance.is_some_and(|one| one.tracked_bfd().any(|track| track.bfd == session))
                };
                let concerned: Vec<usize> = self.ids().into_iter().filter(tracks).collect();
                match verdict {
                    Some(verdict) => self.bfd.insert(session, verdict),
                    None => self.bfd.remove(&session),
                };
                self.refresh_all(&concerned);
            }
            Command::Ping(answer) => drop(answer.send(())),
            Command::Status(answer) => {
                let _ = answer.send(self.status());
            }
            Command::Apply(config, done) => {
                self.apply(&config);
                let _ = done.send(());
            }
            Command::Shutdown(done) => self.stop(Some(done)),
        }
    }

    pub(super) fn status(&self) -> EngineStatus {
        let now = Instant::now();
        let links = self.hold.links();
        let instances = self
            .order
            .iter()
            .filter_map(|id| {
                let instance = self.instances[*id].as_ref()?;
                let mut status = instance.status(now, &links);
                let socket =
                    instance.ifindex.and_then(|index| self.sockets.get(&(index, instance.carrier())));
                status.runtime.descriptor = socket.map(|socket| socket.as_fd().as_raw_fd());
                status.counters.announcements_sent = self.announcer.sent(*id);
                status.waits_for = self.waits_for(*id);
                Some(status)
            })
            .collect();
        EngineStatus {
            instances,
            groups: self.group_status(),
            lateness: self.lateness.clone(),
            discarded: self.discarded.clone(),
            lease: self.leases.status(),
            stalls: self.stalls.clone(),
        }
    }

    /// Runs another configuration: new instances start, gone ones stop, changed ones change in place.
    pub(super) fn apply(&mut self, config: &Config) {
        let now = Instant::now();
        self.configure_ground(config);
        let (config, vmacs) = self.resolve_vmacs(config);
        let config = &config;
        // One that was removed a moment ago is on its way out, and is no part of this.
        let runs: Vec<(usize, Arc<config::ready::Instance>)> = self
            .ids()
            .into_iter()
            .filter_map(|id| Some((id, self.instances[id].as_ref().filter(|one| !one.retired)?)))
            .map(|(id, instance)| (id, Arc::clone(&instance.config)))
            .collect();
        let running: Vec<&config::ready::Instance> = runs.iter().map(|(_, config)| &**config).collect();
        let wanted: Vec<&config::ready::Instance> =
            config.instances.iter().map(|instance| &**instance).collect();
        let before: Vec<Option<usize>> =
            predecessors(&running, &wanted).into_iter().map(|found| Some(runs[found?].0)).collect();
        let mut gone: Vec<usize> =
            runs.iter().map(|(id, _)| *id).filter(|id| !before.contains(&Some(*id))).collect();
        self.instances.reserve_exact(before.iter().filter(|found| found.is_none()).count());
        let mut kept = Vec::new();
        let mut new = Vec::new();
        let mut order = Vec::new();
        for (wanted, before) in config.instances.iter().zip(before) {
            let id = match before {
                Some(id) => {
                    kept.push((id, wanted));
                    id
                }
                None => {
                    self.instances.push(Some(Instance::new(Arc::clone(wanted), now)));
                    new.push(self.instances.len() - 1);
                    self.instances.len() - 1
                }
            };
            order.push(id);
        }
        self.note_shared(config, &order);
        let regrouped = self.form_groups(config, &order);
        gone.sort_by_key(|id| self.order.iter().position(|one| one == id));
        for id in gone {
            self.retire(id);
        }
        self.order = order;
        self.link_delays.configure(now, &config.link_delays);
        for delay in &config.link_delays {
            self.observe_link(&delay.interface);
        }
        self.announcer.configure(&config.announcement_groups);
        self.receive_buffer = config.engine.receive_buffer;
        self.log_unknown_vrids = config.engine.log_unknown_vrids;
        self.virtual_addresses = config
            .instances
            .iter()
            .flat_map(|instance| instance.held())
            .map(|address| address.address)
            .collect();
        self.configure_statics(config);
        for id in &new {
            // What is left from a former life is silent until it is off, or taken over.
            self.end_lease(*id);
            // Addresses from a former life go first, before any advert.
            self.clean_entries(*id, "left from a former life");
            self.reconcile(*id, "left from a former life");
        }
        for id in &new {
            self.survey(*id);
        }
        for id in &regrouped {
            if let Some(instance) = self.instances[*id].as_ref() {
                self.feed(*id, Input::Reconfigured(instance.router_config()));
            }
        }
        for (id, wanted) in kept {
            self.reconfigure(id, wanted);
        }
        self.configure_leases();
        self.watch_entries();
        self.refresh_all(&[new, regrouped].concat());
        // Nobody listens there any more.
        let sends = |key: &SocketKey| {
            self.instances.iter().flatten().any(|one| one.sends_below() && one.base_index == Some(key.0))
        };
        self.sockets.retain(|key, _| self.addressees.keys().any(|one| (one.0, one.1) == *key) || sends(key));
        self.drop_vmacs(&vmacs);
        let keys: BTreeSet<SocketKey> = self.sockets.keys().copied().collect();
        for key in keys {
            self.filter_socket(key);
        }
    }

    /// Gives up what it holds and forgets it when that is done.
    pub(super) fn retire(&mut self, id: usize) {
        self.shut_down(id);
        for ids in self.addressees.values_mut() {
            ids.retain(|one| *one != id);
        }
        self.addressees.retain(|_, ids| !ids.is_empty());
        if let Some(instance) = self.instances[id].as_mut() {
            instance.retired = true;
        }
        self.forget_if_done(id);
    }

    pub(super) fn forget_if_done(&mut self, id: usize) {
        let done = |instance: &Instance| instance.retired && !instance.busy && instance.work.is_empty();
        if self.instances[id].as_ref().is_some_and(done) {
            self.instances[id] = None;
            self.deadlines.set(id, None);
        }
    }

    pub(super) fn reconfigure(&mut self, id: usize, wanted: &Arc<config::ready::Instance>) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        if Arc::ptr_eq(&instance.config, wanted) || instance.config == *wanted {
            return;
        }
        let wants = |address: &VirtualAddress| wanted.held().any(|one| is_same_address(one, address));
        let gone: Vec<_> = instance.holds().filter(|address| !wants(address)).cloned().collect();
        let has_more =
            wanted.held().any(|address| !instance.holds().any(|one| is_same_address(one, address)));
        let before = instance.entries.clone();
        let accept_changed = instance.config.accept != wanted.accept;
        // What is under way may put on, or is to take off, what is no longer written.
        let moving = instance.busy || !instance.work.is_empty();
        let active = instance.is_active();
        let leased: Vec<IpAddr> = instance.holds().map(|address| address.address).collect();
        instance.reconfigure(Arc::clone(wanted));
        let (gone_entries, has_more_entries) = instance.entry_differences(&before);
        if (active || moving) && !gone.is_empty() {
            self.queue(id, AddressWork::Clean(gone, GONE));
        }
        if (active || moving) && !gone_entries.is_empty() {
            self.queue(id, AddressWork::CleanEntries(gone_entries, GONE));
        }
        if active && has_more_entries {
            self.queue(id, AddressWork::Recheck);
        }
        if active {
            self.change_lease(id, &leased);
        }
        let has_more = has_more || accept_changed;
        if active && has_more {
            self.queue(id, AddressWork::Add);
            self.queue(id, AddressWork::Announce);
        } else if active && let Some(instance) = self.instances[id].as_ref() {
            let targets = instance.holds().filter_map(|address| self.target(address)).collect();
            let (arp, na) = (&instance.config.gratuitous_arp, &instance.config.neighbor_advertisements);
            self.announcer.reconfigure(Instant::now(), id, targets, arp, na);
            self.announce_extra(id);
        }
        self.start_work(id);
        self.refresh(id);
        if let Some(instance) = self.instances[id].as_ref() {
            let config = instance.router_config();
            self.feed(id, Input::Reconfigured(config));
        }
    }
}
