//! One input to a machine, and everything that it says, in its order.

use vrrp::VirtualRouter;

use super::*;
use crate::observe::event::AdvertNews;

impl Loop {
    /// Gives one input to a machine and does all that it says, in its order.
    pub(super) fn feed(&mut self, id: usize, input: Input) {
        self.feed_at(Instant::now(), id, input);
    }

    /// As [`Loop::feed`], for what happened a moment ago.
    pub(super) fn feed_at(&mut self, now: Instant, id: usize, input: Input) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        // A machine's time never goes backwards.
        let now = now.max(instance.fed);
        instance.fed = now;
        let input = self.admit(now, id, input);
        let Some(instance) = self.instances[id].as_mut() else { return };
        let advert = Heeding::of(&instance.router, &input);
        instance.router.handle_input(now, input);
        let news = advert.map_or([None; 2], |advert| advert.news(&instance.router));
        let peer = advert.map(|advert| advert.source);
        let mut outputs: Vec<Output> = std::iter::from_fn(|| instance.router.poll_output()).collect();
        // The request for the addresses travels to the kernel by another thread; the advert goes out meanwhile.
        // On the wire the order stays: the announcements wait for both.
        if let Some(position) = outputs.iter().position(|output| *output == Output::AddAddresses) {
            outputs[..=position].rotate_right(1);
        }
        for output in &outputs {
            self.handle_output(now, id, *output);
        }
        for (peer, news) in
            peer.into_iter().flat_map(|peer| news.into_iter().flatten().map(move |n| (peer, n)))
        {
            self.tell_advert_news(now, id, peer, news);
        }
        let deadline = self.instances[id].as_ref().and_then(|instance| instance.router.poll_timeout());
        self.deadlines.set(id, deadline);
        self.start_work(id);
        self.follow(now, id, &outputs);
    }

    fn tell_advert_news(&mut self, now: Instant, id: usize, peer: IpAddr, news: AdvertNews) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        let told = &mut instance.advert_news_told[news.number()];
        if told.is_none_or(|told| now >= told + LOWER_PRIORITY_GAP) {
            *told = Some(now);
            let instance = instance.config.name.clone();
            self.events.send(Kind::AdvertNews { instance, peer, news });
        }
    }

    pub(super) fn handle_output(&mut self, now: Instant, id: usize, output: Output) {
        match output {
            Output::SendAdvertisement(priority) => {
                if let Some(instance) = self.instances[id].as_mut().filter(|_| priority != Priority::RELEASE)
                {
                    instance.advertised = Some(now);
                    self.leases.advertised();
                }
                self.send_advert(id, priority);
                if priority == Priority::RELEASE {
                    self.forget_farewell(id);
                } else {
                    self.leave_farewell(id);
                }
            }
            Output::AddAddresses => {
                if let Some(instance) = self.instances[id].as_mut() {
                    // In a moment; what it advertised in a former time does not count.
                    instance.advertised = Some(now);
                }
                self.queue(id, AddressWork::Add);
                // On its way before anything else is told: every microsecond here is one without the VIP.
                self.start_work(id);
                self.begin_lease(id, now);
            }
            Output::AnnounceAddresses => self.queue(id, AddressWork::Announce),
            Output::RemoveAddresses => {
                self.announcer.stop(id);
                self.end_lease(id);
                self.queue(id, AddressWork::Remove);
                self.start_work(id);
            }
            Output::AnnounceAgain => {
                self.announcer.lower_priority_heard(now, id);
                self.advertise_with(id);
            }
            Output::LowerPriorityHeard { source, priority } => {
                let Some(instance) = self.instances[id].as_mut() else { return };
                let due = instance.lower_priority_told.is_none_or(|told| now >= told + LOWER_PRIORITY_GAP);
                if !due {
                    return;
                }
                instance.lower_priority_told = Some(now);
                self.events.send(Kind::LowerPriorityAdvert {
                    instance: instance.config.name.clone(),
                    peer: source,
                    theirs: priority.get(),
                    ours: instance.standing.priority,
                });
            }
            Output::DuplicateAddress { source } => {
                let Some(instance) = self.instances[id].as_mut() else { return };
                instance.counters.oddities.count("duplicate_source");
                let name = &instance.config.name;
                let text =
                    || format!("{source} is our own source address: used twice, or adverts are reflected");
                let event = self.discard_log.record(now, name, source, "duplicate_source", text);
                event.into_iter().for_each(|kind| self.events.send(kind));
            }
            Output::Transition { to, reason, .. } => self.handle_transition(now, id, to, &reason),
        }
    }

    pub(super) fn handle_transition(
        &mut self,
        now: Instant,
        id: usize,
        to: StateName,
        reason: &vrrp::Reason,
    ) {
        use vrrp::Reason as Machine;
        let Some(instance) = self.instances[id].as_mut() else { return };
        let ours = instance.standing.priority;
        let reason = match *reason {
            Machine::Startup if instance.state == State::Fault => Reason::FaultCleared,
            Machine::Startup => Reason::Started,
            Machine::Owner => Reason::Owner,
            Machine::ActiveDown => why_nobody_is_active(now, instance),
            Machine::ActiveReleased { source } => Reason::ActiveReleased { peer: source },
            Machine::HigherPriority { source, priority } => {
                Reason::HigherPriority { peer: source, theirs: priority.get(), ours }
            }
            Machine::HigherAddress { source } => Reason::HigherAddress { peer: source, priority: ours },
            Machine::Fault => Reason::Fault { faults: instance.faults.clone() },
            Machine::Shutdown => Reason::Stopped,
            Machine::Resurrected => Reason::Resurrected { lateness: instance.lateness },
            Machine::Group => self.reason_of_group(id),
        };
        let to = match to {
            StateName::Initialize if matches!(reason, Reason::Fault { .. }) => State::Fault,
            StateName::Initialize => State::Initialize,
            StateName::Backup => State::Backup,
            StateName::Active => State::Active,
        };
        let cleared = reason == Reason::FaultCleared;
        self.enter(now, id, to, reason);
        if cleared {
            self.announce_source(now, id);
        }
    }

    pub(super) fn enter(&mut self, now: Instant, id: usize, to: State, reason: Reason) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        let from = std::mem::replace(&mut instance.state, to);
        if from != State::Active && to != State::Fault {
            // What was heard before belongs to another life; a Backup that was Active knows who beat it.
            instance.heard = None;
        }
        instance.since = SystemTime::now();
        instance.entered = now;
        instance.last_reason = Some(reason.clone());
        instance.counters.transitions.count(reason.name());
        if to == State::Active {
            instance.counters.became_active += 1;
        } else if from == State::Active && reason != Reason::Stopped {
            instance.counters.released_active += 1;
        }
        self.events.send(Kind::Transition {
            instance: instance.config.name.clone(),
            from,
            to,
            reason,
            priority: instance.standing.priority,
        });
    }

    pub(super) fn send_advert(&mut self, id: usize, priority: Priority) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        let ifindex = if instance.sends_below() { instance.base_index } else { instance.ifindex };
        let (Some(source), Some(ifindex)) = (instance.source, ifindex) else { return };
        let Some(socket) = self.sockets.get(&(ifindex, instance.carrier())) else { return };
        let identification = instance.next_identification();
        let sequence = instance.next_sequence(wall_clock());
        let mut failed = false;
        for (destination, ttl) in instance.destinations() {
            instance.compose(priority, destination, sequence);
            let seal = instance.seal(sequence);
            let envelope = Envelope { source, destination, ttl, identification, seal };
            failed |= socket.send(&envelope, instance.message(), &mut self.scratch).is_err();
        }
        let counters = &mut instance.counters;
        if failed {
            counters.send_errors += 1;
        } else {
            counters.adverts_sent += 1;
            if priority == Priority::RELEASE {
                counters.priority_zero_sent += 1;
            }
        }
    }
}

/// An advert, and the machine before it.
#[derive(Clone, Copy, Debug)]
struct Heeding {
    source: IpAddr,
    priority: Priority,
    state: vrrp::State,
    interval: Duration,
}

impl Heeding {
    fn of(router: &VirtualRouter, input: &Input) -> Option<Self> {
        let Input::Advertisement { source, priority, .. } = *input else { return None };
        let interval = router.active_adver_interval().as_duration();
        Some(Self { source, priority, state: *router.state(), interval })
    }

    /// What changed that no output tells.
    fn news(self, after: &VirtualRouter) -> [Option<AdvertNews>; 2] {
        use vrrp::State;
        let (before, now) = (self.state, *after.state());
        if self.priority == Priority::RELEASE {
            let active = matches!(before, State::Active { .. });
            return [Some(AdvertNews::ReleaseHeard { active }), None];
        }
        let State::Backup { preempt_from, .. } = now else { return [None; 2] };
        let interval = after.active_adver_interval().as_duration();
        let learned = (interval != self.interval)
            .then_some(AdvertNews::IntervalLearned { from: self.interval, to: interval });
        let State::Backup { preempt_from: delayed, .. } = before else { return [learned, None] };
        let other = match (delayed, preempt_from) {
            (None, Some(_)) => Some(AdvertNews::PreemptDelayStarted { delay: after.config().preempt_delay }),
            (Some(_), None) => Some(AdvertNews::PreemptDelayStopped),
            _ if before == now && self.priority < after.priority() => {
                Some(AdvertNews::LowerPriorityIgnored { theirs: self.priority.get() })
            }
            _ => None,
        };
        [learned, other]
    }
}
