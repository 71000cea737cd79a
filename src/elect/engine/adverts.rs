//! Adverts in and out of the sockets: read in batches, judged, counted.

use super::*;

impl Loop {
    /// Reads every socket that has something; may there be more?
    pub(super) fn read_ready(&mut self) -> bool {
        let mut ready = [EpollEvent::empty(); 32];
        let count = self.poll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        let mut more = count == ready.len();
        for event in &ready[..count] {
            more |= self.read_socket(key_of(event.data())) == Some(BATCH);
        }
        more
    }

    /// Reads one batch; gives how many packets there were. `None`: there is no such socket.
    pub(super) fn read_socket(&mut self, key: SocketKey) -> Option<usize> {
        let mut buffer = std::mem::take(&mut self.packet);
        let mut packets = 0;
        let mut discarded = 0;
        let result = loop {
            if packets == BATCH {
                break Some(packets);
            }
            let Some(socket) = self.sockets.get(&key) else { break None };
            match socket.receive(&mut buffer) {
                Ok(None) => break Some(packets),
                // ENETDOWN and the like: the monitor tells the rest.
                Err(_) => {
                    packets += 1;
                }
                Ok(Some(received)) => {
                    packets += 1;
                    let now = received.arrival;
                    let accepted = match received.datagram {
                        Ok(datagram) => self.handle_datagram(now, key, &datagram),
                        Err(reason) => {
                            self.discard(now, key, None, received.source, &reason);
                            false
                        }
                    };
                    discarded += usize::from(!accepted);
                }
            }
        };
        self.packet = buffer;
        if discarded >= FLOOD || packets == BATCH {
            self.reading_paused = Some(Instant::now() + FLOOD_PAUSE);
        }
        result
    }

    pub(super) fn handle_datagram(&mut self, now: Instant, key: SocketKey, datagram: &Datagram<'_>) -> bool {
        if key.0 == ANY_INTERFACE && datagram.destination.is_multicast() {
            // For those who listen on an interface.
            return true;
        }
        let vrid = peek_vrid(datagram.message).map_or(0, |(_, vrid)| vrid);
        let Some(ids) = self.addressees.get(&(key.0, key.1, vrid)) else {
            if self.log_unknown_vrids {
                let reason = DiscardReason::Vrid { got: vrid, wanted: None };
                self.discard(now, key, None, datagram.source, &reason);
            }
            return true;
        };
        // Nearly always one; two instances may share a VRID when their unicast peers differ.
        let candidates = ids.clone();
        let mut refusal = None;
        for id in candidates {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            if !matches!(instance.state, State::Backup | State::Active) {
                continue;
            }
            match instance.ladder.judge_protected(datagram, &mut instance.protection, wall_clock()) {
                Ok(accepted) => {
                    let news = instance.note_sender(&accepted);
                    if let Some(text) = news {
                        self.events.send(Kind::Notice { text });
                    }
                    instance.counters.adverts_received += 1;
                    if accepted.priority == Priority::RELEASE {
                        instance.counters.priority_zero_received += 1;
                    }
                    for oddity in accepted.oddities.iter() {
                        instance.counters.oddities.count(oddity.name());
                    }
                    if accepted.priority != Priority::RELEASE {
                        instance.heard = Some(Heard {
                            address: accepted.source,
                            priority: accepted.priority.get(),
                            interval: accepted.max_advertise_interval.as_duration(),
                            at: now,
                        });
                    }
                    self.feed_at(now, id, accepted.into());
                    return true;
                }
                Err(reason) => refusal = Some((id, reason)),
            }
        }
        match refusal {
            Some((id, reason)) => {
                self.discard(now, key, Some(id), datagram.source, &reason);
                false
            }
            None => true,
        }
    }

    pub(super) fn discard(
        &mut self,
        now: Instant,
        key: SocketKey,
        id: Option<usize>,
        source: IpAddr,
        reason: &DiscardReason,
    ) {
        let instance = id.and_then(|id| self.instances[id].as_mut());
        let name = match instance {
            Some(instance) => {
                instance.counters.discarded.count(reason.name());
                instance.config.name.as_str()
            }
            None => {
                self.discarded.count(reason.name());
                ""
            }
        };
        let links = self.hold.links();
        let name =
            if name.is_empty() { links.by_index(key.0).map_or("", |link| link.name.as_str()) } else { name };
        if let Some(kind) = self.discard_log.record(now, name, source, reason.name(), || reason.to_string()) {
            self.events.send(kind);
        }
    }

    /// Makes sure that the socket an instance needs is open, has joined its group and lets its VRID pass.
    pub(super) fn open_socket(&mut self, id: usize) {
        let links = self.hold.links();
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.retired) else { return };
        let interface = instance.hears_on().to_owned();
        let is_ready = interface == instance.config.interface || self.vmacs.is_ready(&interface);
        let ifindex = if instance.has_no_interface() {
            Some(ANY_INTERFACE)
        } else {
            links.by_name(&interface).filter(|_| is_ready).map(|link| link.index)
        };
        let below = links.by_name(&instance.config.interface).filter(|_| instance.sends_below());
        let below = below.map(|link| link.index);
        let carrier = instance.carrier();
        instance.socket_error = None;
        let Some(ifindex) = ifindex else {
            return;
        };
        let key = (ifindex, carrier);
        let is_new = !self.sockets.contains_key(&key);
        let opened = match self.sockets.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                AdvertSocket::open(carrier, ifindex, &interface, &self.guard).map(|socket| {
                    let watched = EpollEvent::new(EpollFlags::EPOLLIN, data_of(key));
                    // Fails only without memory; adverts would then be read before each deadline (H-6).
                    let _ = self.poll.add(socket.as_fd(), watched);
                    entry.insert(socket)
                })
            }
        };
        let joined = opened.and_then(|socket| {
            if let Some(size) = instance.config.receive_buffer.or(self.receive_buffer) {
                socket.want_receive_buffer(size)?;
            }
            match instance.config.transport {
                Transport::Multicast { group } => socket.join(group),
                Transport::Unicast { .. } => Ok(()),
            }
        });
        let joined = joined.and_then(|()| match below {
            Some(below) if !self.sockets.contains_key(&(below, carrier)) => {
                let socket = AdvertSocket::open(carrier, below, &instance.config.interface, &self.guard)?;
                let watched = EpollEvent::new(EpollFlags::EPOLLIN, data_of((below, carrier)));
                let _ = self.poll.add(socket.as_fd(), watched);
                self.sockets.insert((below, carrier), socket);
                Ok(())
            }
            _ => Ok(()),
        });
        drop(links);
        if let Err(error) = joined {
            instance.socket_error = Some(error.to_string());
            self.mend_within(MEND_REFUSED);
            return;
        }
        self.address_adverts(key, id);
        if is_new {
            self.filter_socket(key);
        }
        if let Some(below) = below {
            self.filter_socket((below, carrier));
        }
    }

    /// From now on adverts of this VRID on this socket are for this instance.
    pub(super) fn address_adverts(&mut self, key: SocketKey, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let vrid = instance.config.vrid;
        if self.addressees.get(&(key.0, key.1, vrid)).is_some_and(|ids| ids.contains(&id)) {
            return;
        }
        for ((_, carrier, other), ids) in &mut self.addressees {
            // The interface was made anew, with another index, or adverts are sealed from now on, or no longer.
            if carrier.family() == key.1.family() && *other == vrid {
                ids.retain(|one| *one != id);
            }
        }
        self.addressees.retain(|_, ids| !ids.is_empty());
        let before = self.addressees.contains_key(&(key.0, key.1, vrid));
        self.addressees.entry((key.0, key.1, vrid)).or_default().push(id);
        if !before {
            self.filter_socket(key);
        }
    }

    pub(super) fn filter_socket(&self, key: SocketKey) {
        // Without a filter once there was one: all pass.
        let known =
            |vrid: &u8| self.log_unknown_vrids || self.addressees.contains_key(&(key.0, key.1, *vrid));
        let vrids = (0..=u8::MAX).filter(known);
        if let Some(socket) = self.sockets.get(&key)
            && let Err(error) = socket.accept_only(vrids)
        {
            let text =
                format!("the kernel refused the filter for known VRIDs ({error}); adverts are filtered here");
            self.events.send(Kind::Notice { text });
        }
    }
}
