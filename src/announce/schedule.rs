//! When to announce what: pure, time is an argument.
//!
//! Every address is announced once before anything is repeated (ACD-6), over all instances of an
//! interface. What may not go out yet waits in the interface's queues.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

use config::ready::{AnnouncementGroup, Announcements};

use super::Target;

/// Announcements of an interface in any second (ACD-7).
pub(super) const RATE: usize = 1000;
/// Share of them that repeats may take, so that a takeover never waits for another one's repeats.
pub(super) const REPEAT_RATE: usize = RATE / 2;
/// Announcements that may wait for an interface (ACD-7).
pub(super) const QUEUE: usize = 10_000;
/// More transitions than this in [`FLAP_WINDOW`], and an instance announces each address only once (ACD-7).
const FLAP_LIMIT: usize = 5;
const FLAP_WINDOW: Duration = Duration::from_secs(60);
/// Least time between two bursts after adverts of lower priority: a peer that floods us with them must
/// not make us flood the network.
const LOWER_PRIORITY_GAP: Duration = Duration::from_secs(1);
/// A packet that the kernel had no room for is tried again after this time …
const RETRY_AFTER: Duration = Duration::from_millis(1);
/// … so many times.
const RETRIES: u16 = 1000;
/// An interface that nothing was sent through for so long is forgotten.
const IDLE: Duration = Duration::from_secs(60);
/// Announcements that an interface's queue keeps room for.
const SPARE: usize = 16;
const SECOND: Duration = Duration::from_secs(1);

/// Gratuitous ARP or neighbour advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Arp,
    Na,
}

const KINDS: [Kind; 2] = [Kind::Arp, Kind::Na];

/// A first announcement goes before every repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    First,
    Repeat,
}

/// One announcement that may go out now.
#[derive(Clone, Debug)]
pub(super) struct Packet {
    pub instance: usize,
    pub target: Rc<Target>,
    pub kind: Kind,
    pub class: Class,
    gap: Duration,
    queued: Instant,
    refused: u16,
}

/// All instances, their timers, and the queues of the interfaces.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    instances: HashMap<usize, Box<Active>>,
    /// When each instance became active, in the last [`FLAP_WINDOW`].
    begun: HashMap<usize, VecDeque<Instant>>,
    /// The number keeps the order of timers that are due together.
    timers: BTreeMap<(Instant, u64), (usize, Timer)>,
    timer_number: u64,
    interfaces: BTreeMap<u32, Interface>,
    gaps: Gaps,
    dropped: u64,
}

/// Gaps that several interfaces share.
#[derive(Debug, Default)]
struct Gaps {
    groups: Vec<Gap>,
    /// By the interface's name.
    of: HashMap<String, usize>,
}

#[derive(Debug)]
struct Gap {
    /// By [`Kind`].
    gap: [Duration; 2],
    /// By [`Kind`].
    last: [Option<Instant>; 2],
}

#[derive(Debug)]
struct Active {
    targets: Vec<Rc<Target>>,
    arp: Announcements,
    na: Announcements,
    flapping: bool,
    last_lower_priority: Option<Instant>,
    /// Announced after each of these times, whatever else is.
    extra: Option<(Duration, Vec<Rc<Target>>)>,
}

/// In a list without room for more: it stays as long as its instance is active.
fn shared(targets: Vec<Target>) -> Vec<Rc<Target>> {
    let mut shared: Vec<_> = targets.into_iter().map(Rc::new).collect();
    shared.shrink_to_fit();
    shared
}

impl Active {
    fn settings(&self, kind: Kind) -> &Announcements {
        match kind {
            Kind::Arp => &self.arp,
            Kind::Na => &self.na,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    /// The next round of a burst, and how many are left with it.
    Round {
        kind: Kind,
        left: u32,
        gap: Duration,
    },
    /// The burst once more.
    Again {
        kind: Kind,
    },
    Refresh {
        kind: Kind,
    },
    Extra,
    /// An advert of lower priority came too soon after another.
    LowerPriority,
    LowerPriorityAgain {
        kind: Kind,
    },
}

impl Schedule {
    /// The instance became active. Its first round may go out at once.
    pub fn begin(
        &mut self,
        now: Instant,
        instance: usize,
        targets: Vec<Target>,
        arp: &Announcements,
        na: &Announcements,
    ) {
        self.stop(instance);
        let flapping = self.is_flapping(now, instance);
        let targets = shared(targets);
        let kinds = KINDS.into_iter().filter(|kind| targets.iter().any(|t| t.kind() == *kind));
        let kinds: Vec<_> = kinds.collect();
        let active = Active {
            targets,
            arp: arp.clone(),
            na: na.clone(),
            flapping,
            last_lower_priority: None,
            extra: None,
        };
        self.instances.insert(instance, Box::new(active));
        for kind in kinds {
            self.burst(now, instance, kind);
            let settings = self.instances[&instance].settings(kind);
            let (again, refresh) = (settings.again_after, settings.refresh);
            if let (Some(after), false) = (again, flapping) {
                self.set_timer(now + after, instance, Timer::Again { kind });
            }
            if let Some(every) = refresh {
                self.set_timer(now + every, instance, Timer::Refresh { kind });
            }
        }
    }

    /// An active instance heard an advert of lower priority: hosts may have learned the other router.
    pub fn lower_priority_heard(&mut self, now: Instant, instance: usize) {
        let Some(active) = self.instances.get_mut(&instance) else { return };
        match active.last_lower_priority.map(|last| last + LOWER_PRIORITY_GAP) {
            Some(next) if now < next => {
                if !self.timers.values().any(|timer| *timer == (instance, Timer::LowerPriority)) {
                    self.set_timer(next, instance, Timer::LowerPriority);
                }
            }
            _ => self.lower_priority_burst(now, instance),
        }
    }

    /// One announcement of one address that was put back.
    pub fn once(&mut self, now: Instant, instance: usize, target: Target) {
        let kind = target.kind();
        let gap = self.instances.get(&instance).map_or(Duration::ZERO, |a| a.settings(kind).packet_gap);
        self.queue(Packet {
            instance,
            target: Rc::new(target),
            kind,
            class: Class::First,
            gap,
            queued: now,
            refused: 0,
        });
    }

    /// Other addresses or settings from now on; what is queued still goes out, and a refresh that was not changed keeps
    /// its time.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        instance: usize,
        targets: Vec<Target>,
        arp: &Announcements,
        na: &Announcements,
    ) {
        let Some(active) = self.instances.get_mut(&instance) else { return };
        active.targets = shared(targets);
        let refreshes = |active: &Active| KINDS.map(|kind| active.settings(kind).refresh);
        let before = refreshes(active);
        (active.arp, active.na) = (arp.clone(), na.clone());
        let after = refreshes(active);
        for (kind, (before, after)) in KINDS.into_iter().zip(before.into_iter().zip(after)) {
            if before == after {
                continue;
            }
            self.timers.retain(|_, timer| *timer != (instance, Timer::Refresh { kind }));
            if let Some(every) = after {
                self.set_timer(now + every, instance, Timer::Refresh { kind });
            }
        }
    }

    /// Announced once after each `every`, beside everything else.
    pub fn extra(&mut self, now: Instant, instance: usize, every: Option<Duration>, targets: Vec<Target>) {
        let Some(active) = self.instances.get_mut(&instance) else { return };
        let every = every.filter(|every| !every.is_zero() && !targets.is_empty());
        let before = active.extra.as_ref().map(|(every, _)| *every);
        active.extra = every.map(|every| (every, shared(targets)));
        if before == every {
            return;
        }
        if before.is_some() {
            self.timers.retain(|_, timer| *timer != (instance, Timer::Extra));
        }
        if let Some(every) = every {
            self.set_timer(now + every, instance, Timer::Extra);
        }
    }

    /// Interfaces that share their gaps from now on; when each group sent last is forgotten.
    pub fn share_gaps(&mut self, groups: &[AnnouncementGroup]) {
        let of = groups.iter().enumerate();
        let of = of.flat_map(|(number, group)| group.interfaces.iter().map(move |one| (one.clone(), number)));
        let of: HashMap<_, _> = of.collect();
        let gaps = |group: &AnnouncementGroup| [group.arp_gap, group.na_gap];
        if of == self.gaps.of && groups.iter().map(gaps).eq(self.gaps.groups.iter().map(|group| group.gap)) {
            return;
        }
        let groups = groups.iter().map(|group| Gap { gap: gaps(group), last: [None; 2] }).collect();
        self.gaps = Gaps { groups, of };
        for interface in self.interfaces.values_mut() {
            let name = interface.heads().next().map(|packet| packet.target.interface.clone());
            interface.group = name.and_then(|name| self.gaps.of.get(&name).copied());
        }
    }

    /// The instance is not active any more.
    pub fn stop(&mut self, instance: usize) {
        self.timers.retain(|_, (owner, _)| *owner != instance);
        for interface in self.interfaces.values_mut() {
            for lane in interface.firsts.iter_mut().chain(&mut interface.repeats) {
                lane.retain(|packet| packet.instance != instance);
            }
        }
        self.instances.remove(&instance);
    }

    /// When [`Schedule::handle_timeout`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let timer = self.timers.keys().next().map(|(at, _)| *at);
        let queues = self.interfaces.values().filter_map(|interface| interface.next_at(&self.gaps));
        queues.chain(timer).min()
    }

    /// Fires the timers that are due.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(entry) = self.timers.first_entry()
            && entry.key().0 <= now
        {
            let ((at, _), (instance, timer)) = entry.remove_entry();
            self.fire(now.min(at), now, instance, timer);
        }
        self.interfaces.retain(|_, interface| !interface.is_idle(now));
    }

    /// The next announcement that may go out now.
    pub fn poll_packet(&mut self, now: Instant) -> Option<Packet> {
        let gaps = &mut self.gaps;
        if !gaps.groups.is_empty() {
            // Where gaps are shared, the first announcements of one interface go before the repeats of another.
            let firsts = |interface: &Interface| interface.next(now, gaps) == Some(Class::First);
            let first = self.interfaces.values().position(firsts);
            if let Some(interface) = first.and_then(|position| self.interfaces.values_mut().nth(position)) {
                return interface.pop(now, gaps);
            }
        }
        self.interfaces.values_mut().find_map(|interface| interface.pop(now, gaps))
    }

    /// The kernel had no room for this packet: it waits, and its interface with it. `false`: given up.
    pub fn refused(&mut self, now: Instant, mut packet: Packet) -> bool {
        let interface = self.interfaces.entry(packet.target.ifindex).or_default();
        interface.sent.pop_back();
        packet.refused += 1;
        if packet.refused > RETRIES {
            self.dropped += 1;
            return false;
        }
        interface.blocked_until = Some(now + RETRY_AFTER);
        interface.lane(packet.kind, packet.class).push_front(packet);
        true
    }

    /// Announcements that were dropped because too many were waiting or the kernel never had room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// `due`: when the timer should have fired; from there the next one is counted, so that lateness does
    /// not add up.
    fn fire(&mut self, due: Instant, now: Instant, instance: usize, timer: Timer) {
        let Some(active) = self.instances.get(&instance) else { return };
        match timer {
            Timer::Round { kind, left, gap } => self.rounds(now, instance, kind, left, gap, Class::Repeat),
            Timer::Again { kind } => {
                let settings = active.settings(kind);
                let (rounds, gap) = (settings.rounds, settings.round_gap);
                self.rounds(now, instance, kind, rounds, gap, Class::Repeat);
            }
            Timer::Refresh { kind } => {
                let settings = active.settings(kind);
                let (rounds, gap, every) = (settings.refresh_rounds, settings.round_gap, settings.refresh);
                self.rounds(now, instance, kind, rounds, gap, Class::Repeat);
                if let Some(every) = every {
                    // After a long sleep the missed ones are not made up for.
                    self.set_timer((due + every).max(now), instance, Timer::Refresh { kind });
                }
            }
            Timer::Extra => {
                let Some((every, targets)) = active.extra.clone() else { return };
                for target in targets {
                    let kind = target.kind();
                    let gap = self.instances[&instance].settings(kind).packet_gap;
                    let class = Class::Repeat;
                    self.queue(Packet { instance, target, kind, class, gap, queued: now, refused: 0 });
                }
                self.set_timer((due + every).max(now), instance, Timer::Extra);
            }
            Timer::LowerPriority => self.lower_priority_burst(now, instance),
            Timer::LowerPriorityAgain { kind } => {
                let settings = active.settings(kind);
                let (rounds, gap) = (settings.lower_priority_rounds, settings.round_gap);
                self.rounds(now, instance, kind, rounds, gap, Class::Repeat);
            }
        }
    }

    fn burst(&mut self, now: Instant, instance: usize, kind: Kind) {
        let active = &self.instances[&instance];
        let settings = active.settings(kind);
        let rounds = if active.flapping { 1 } else { settings.rounds.max(1) };
        let gap = settings.round_gap;
        self.rounds(now, instance, kind, rounds, gap, Class::First);
    }

    fn lower_priority_burst(&mut self, now: Instant, instance: usize) {
        let Some(active) = self.instances.get_mut(&instance) else { return };
        active.last_lower_priority = Some(now);
        let flapping = active.flapping;
        self.timers.retain(|_, timer| *timer != (instance, Timer::LowerPriority));
        for kind in KINDS {
            let settings = self.instances[&instance].settings(kind);
            let (rounds, gap) = (settings.lower_priority_rounds, settings.round_gap);
            let again = settings.lower_priority_again_after;
            if rounds == 0 || !self.instances[&instance].targets.iter().any(|t| t.kind() == kind) {
                continue;
            }
            self.rounds(now, instance, kind, if flapping { 1 } else { rounds }, gap, Class::First);
            self.timers.retain(|_, timer| *timer != (instance, Timer::LowerPriorityAgain { kind }));
            if let (Some(after), false) = (again, flapping) {
                self.set_timer(now + after, instance, Timer::LowerPriorityAgain { kind });
            }
        }
    }

    /// Queues a round, and sets the timer for the next one. Without a gap it fires at once, but after
    /// the first rounds of everybody who becomes active together with this instance.
    fn rounds(&mut self, now: Instant, instance: usize, kind: Kind, left: u32, gap: Duration, class: Class) {
        let Some(left) = left.checked_sub(1) else { return };
        let active = &self.instances[&instance];
        let packet_gap = active.settings(kind).packet_gap;
        let round: Vec<_> = active.targets.iter().filter(|t| t.kind() == kind).cloned().collect();
        for target in round {
            self.queue(Packet { instance, target, kind, class, gap: packet_gap, queued: now, refused: 0 });
        }
        if left > 0 {
            self.set_timer(now + gap, instance, Timer::Round { kind, left, gap });
        }
    }

    fn queue(&mut self, packet: Packet) {
        let interface = self.interfaces.entry(packet.target.ifindex).or_default();
        interface.group = self.gaps.of.get(&packet.target.interface).copied();
        if interface.waiting() >= QUEUE {
            self.dropped += 1;
            let repeats = interface.repeats.iter_mut().max_by_key(|lane| lane.len());
            if packet.class == Class::Repeat || repeats.and_then(VecDeque::pop_back).is_none() {
                return;
            }
        }
        interface.lane(packet.kind, packet.class).push_back(packet);
    }

    fn set_timer(&mut self, at: Instant, instance: usize, timer: Timer) {
        self.timer_number += 1;
        self.timers.insert((at, self.timer_number), (instance, timer));
    }

    /// Between two beginnings there was an end: n beginnings are 2 n - 1 transitions.
    fn is_flapping(&mut self, now: Instant, instance: usize) -> bool {
        let begun = self.begun.entry(instance).or_default();
        begun.push_back(now);
        while begun.front().is_some_and(|time| now.saturating_duration_since(*time) > FLAP_WINDOW) {
            begun.pop_front();
        }
        2 * begun.len() - 1 > FLAP_LIMIT
    }
}

/// What waits for one interface, and what went out through it.
#[derive(Debug, Default)]
struct Interface {
    /// By [`Kind`].
    firsts: [VecDeque<Packet>; 2],
    /// By [`Kind`].
    repeats: [VecDeque<Packet>; 2],
    /// Times of the last [`RATE`] announcements.
    sent: VecDeque<Instant>,
    /// By [`Kind`].
    last: [Option<Instant>; 2],
    blocked_until: Option<Instant>,
    /// It shares its gaps.
    group: Option<usize>,
}

impl Interface {
    fn lane(&mut self, kind: Kind, class: Class) -> &mut VecDeque<Packet> {
        match class {
            Class::First => &mut self.firsts[kind as usize],
            Class::Repeat => &mut self.repeats[kind as usize],
        }
    }

    fn waiting(&self) -> usize {
        self.firsts.iter().chain(&self.repeats).map(VecDeque::len).sum()
    }

    /// The heads of the queues, the most urgent first.
    fn heads(&self) -> impl Iterator<Item = &Packet> {
        self.firsts.iter().chain(&self.repeats).filter_map(VecDeque::front)
    }

    fn ready_at(&self, packet: &Packet, gaps: &Gaps) -> Instant {
        let limit = match packet.class {
            Class::First => RATE,
            Class::Repeat => REPEAT_RATE,
        };
        let rate = self.sent.len().checked_sub(limit).map(|oldest| self.sent[oldest] + SECOND);
        let kind = packet.kind as usize;
        let group =
            self.group.and_then(|group| gaps.groups.get(group)).filter(|one| !one.gap[kind].is_zero());
        let gap = match group {
            Some(group) => group.last[kind].map(|last| last + group.gap[kind]),
            None => self.last[kind].map(|last| last + packet.gap),
        };
        [rate, gap, self.blocked_until].into_iter().flatten().fold(packet.queued, Instant::max)
    }

    fn next_at(&self, gaps: &Gaps) -> Option<Instant> {
        self.heads().map(|packet| self.ready_at(packet, gaps)).min()
    }

    /// Of what may go out now.
    fn next(&self, now: Instant, gaps: &Gaps) -> Option<Class> {
        self.heads().find(|packet| self.ready_at(packet, gaps) <= now).map(|packet| packet.class)
    }

    fn pop(&mut self, now: Instant, gaps: &mut Gaps) -> Option<Packet> {
        let ready = self.heads().find(|packet| self.ready_at(packet, gaps) <= now)?;
        let (kind, class) = (ready.kind, ready.class);
        let lane = self.lane(kind, class);
        let packet = lane.pop_front()?;
        if lane.is_empty() {
            // A takeover of a thousand addresses is over; the next one may be a year away.
            lane.shrink_to(SPARE);
        }
        self.last[kind as usize] = Some(now);
        if let Some(group) = self.group.and_then(|group| gaps.groups.get_mut(group)) {
            group.last[kind as usize] = Some(now);
        }
        self.sent.push_back(now);
        if self.sent.len() > RATE {
            self.sent.pop_front();
        }
        Some(packet)
    }

    /// Nothing waits, and nothing that was sent matters any more.
    fn is_idle(&self, now: Instant) -> bool {
        self.waiting() == 0 && self.sent.back().is_none_or(|last| *last + IDLE <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARP: Announcements = Announcements {
        rounds: 5,
        round_gap: Duration::ZERO,
        again_after: Some(Duration::from_secs(5)),
        refresh: None,
        refresh_rounds: 1,
        lower_priority_rounds: 5,
        lower_priority_again_after: Some(Duration::from_secs(5)),
        packet_gap: Duration::ZERO,
    };
    const NA: Announcements = Announcements { rounds: 3, round_gap: SECOND, again_after: None, ..ARP };

    fn target(address: impl Into<std::net::IpAddr>) -> Target {
        Target { ifindex: 2, interface: "eth0".to_owned(), mac: [2, 0, 0, 0, 0, 1], address: address.into() }
    }

    fn on(ifindex: u32, interface: &str, address: [u8; 4]) -> Target {
        Target { ifindex, interface: interface.to_owned(), ..target(address) }
    }

    fn group(interfaces: &[&str], arp_gap: Duration) -> AnnouncementGroup {
        AnnouncementGroup {
            interfaces: interfaces.iter().map(|one| (*one).to_owned()).collect(),
            arp_gap,
            na_gap: Duration::ZERO,
            place: config::ready::Place { file: "k.conf".into(), line: 1, column: 1 },
        }
    }

    /// keepalived-behaviour §14: the gap is for the group together. First announcements go before all repeats.
    #[test]
    fn interfaces_of_a_group_share_the_gap() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        let gap = Duration::from_millis(100);
        schedule.share_gaps(&[group(&["eth0", "eth1"], gap)]);
        let settings = Announcements { rounds: 2, again_after: None, ..ARP };
        let targets =
            vec![on(2, "eth0", [10, 0, 0, 1]), on(3, "eth1", [10, 0, 0, 2]), on(4, "eth2", [10, 0, 0, 3])];
        schedule.begin(now, 0, targets, &settings, &NA);
        schedule.handle_timeout(now);
        // eth2 is in no group and has no gap.
        assert_eq!(sent(&mut schedule, now), ["10.0.0.1", "10.0.0.3", "10.0.0.3"]);
        let mut later = Vec::new();
        for step in 1..=4 {
            assert_eq!(schedule.poll_timeout(), (step < 4).then(|| now + step * gap));
            later.extend(sent(&mut schedule, now + step * gap));
        }
        assert_eq!(later, ["10.0.0.2", "10.0.0.1", "10.0.0.2"]);
    }

    #[test]
    fn extra_announcements_come_again_and_again_until_the_instance_stops() {
        let mut schedule = Schedule::default();
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let every = Some(Duration::from_secs(100));
        let settings = Announcements { rounds: 1, again_after: None, ..ARP };
        let elsewhere = || vec![on(3, "eth1", [10, 0, 0, 2])];
        schedule.begin(now, 0, ipv4(0..1), &settings, &NA);
        schedule.extra(now, 0, every, elsewhere());
        assert_eq!(sent(&mut schedule, now), ["10.0.0.0"]);
        // The same again changes nothing.
        schedule.extra(at(50), 0, every, elsewhere());
        assert_eq!(schedule.poll_timeout(), Some(at(100)));
        for seconds in [100, 200] {
            schedule.handle_timeout(at(seconds));
            assert_eq!(sent(&mut schedule, at(seconds)), ["10.0.0.2"]);
        }
        schedule.extra(at(250), 0, None, elsewhere());
        schedule.handle_timeout(at(300));
        assert_eq!(sent(&mut schedule, at(300)), [""; 0]);
        schedule.extra(at(300), 0, every, elsewhere());
        schedule.stop(0);
        assert_eq!(schedule.poll_timeout(), None);
    }

    fn ipv4(range: std::ops::Range<u16>) -> Vec<Target> {
        range.map(|n| target([10, 0, (n >> 8) as u8, n as u8])).collect()
    }

    fn addresses(targets: &[Target]) -> Vec<String> {
        targets.iter().map(|t| t.address.to_string()).collect()
    }

    /// Addresses of everything that may go out at `now`.
    fn sent(schedule: &mut Schedule, now: Instant) -> Vec<String> {
        let packets = std::iter::from_fn(|| schedule.poll_packet(now));
        packets.map(|packet| packet.target.address.to_string()).collect()
    }

    /// Everything that goes out until `end`, with its time in milliseconds after `start`.
    fn run(schedule: &mut Schedule, start: Instant, end: Duration) -> Vec<(u128, String)> {
        let mut log = Vec::new();
        let mut now = start;
        loop {
            log.extend(sent(schedule, now).into_iter().map(|a| ((now - start).as_millis(), a)));
            match schedule.poll_timeout() {
                Some(next) if next <= start + end => now = now.max(next),
                _ => return log,
            }
            schedule.handle_timeout(now);
        }
    }

    fn times(log: &[(u128, String)]) -> Vec<u128> {
        log.iter().map(|(at, _)| *at).collect()
    }

    #[test]
    fn acd_6_every_address_goes_once_before_any_is_repeated() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let vips = addresses(&ipv4(0..20));
        schedule.begin(start, 0, ipv4(0..20), &ARP, &NA);
        assert_eq!(sent(&mut schedule, start), vips, "the first round needs no timer");
        assert_eq!(schedule.poll_timeout(), Some(start), "the repeats are due at once");
        schedule.handle_timeout(start);
        assert_eq!(sent(&mut schedule, start), [vips.as_slice(); 4].concat());
    }

    #[test]
    fn acd_6_holds_over_the_instances_of_an_interface() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.begin(start, 0, ipv4(0..2), &ARP, &NA);
        schedule.handle_timeout(start);
        schedule.begin(start, 1, ipv4(2..4), &ARP, &NA);
        assert_eq!(sent(&mut schedule, start)[..4], addresses(&ipv4(0..4)));
    }

    #[test]
    fn burst_is_sent_again_five_seconds_later_and_no_more() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.begin(start, 0, ipv4(0..20), &ARP, &NA);
        let log = run(&mut schedule, start, Duration::from_secs(3600));
        assert_eq!(times(&log), [vec![0; 100], vec![5000; 100]].concat());
        assert_eq!(schedule.poll_timeout(), None);
    }

    #[test]
    fn nd_5_three_advertisements_go_a_second_apart_the_first_at_once() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.begin(start, 0, vec![target([0xfe80, 0, 0, 0, 0, 0, 0, 1])], &ARP, &NA);
        assert_eq!(times(&run(&mut schedule, start, Duration::from_secs(60))), [0, 1000, 2000]);
    }

    #[test]
    fn packet_gap_spaces_the_packets_of_an_interface() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let spaced =
            Announcements { rounds: 2, again_after: None, packet_gap: Duration::from_millis(10), ..ARP };
        schedule.begin(start, 0, ipv4(0..2), &spaced, &NA);
        schedule.begin(start, 1, ipv4(2..3), &spaced, &NA);
        let log = run(&mut schedule, start, Duration::from_secs(1));
        assert_eq!(times(&log), [0, 10, 20, 30, 40, 50]);
        assert_eq!(log[2].1, "10.0.0.2", "the other instance's first goes before our repeats");
    }

    #[test]
    fn refresh_goes_on_while_active_and_ends_with_it() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let refresh = Announcements { rounds: 1, again_after: None, refresh: Some(10 * SECOND), ..ARP };
        schedule.begin(start, 0, ipv4(0..1), &refresh, &NA);
        assert_eq!(times(&run(&mut schedule, start, 30 * SECOND)), [0, 10_000, 20_000, 30_000]);
        schedule.stop(0);
        assert_eq!(schedule.poll_timeout(), None);
    }

    #[test]
    fn refresh_that_a_reload_brings_or_takes_away_counts_at_once() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        let once = Announcements { rounds: 1, again_after: None, ..ARP };
        let refreshed = Announcements { refresh: Some(2 * SECOND), ..once.clone() };
        schedule.begin(start, 1, ipv4(1..2), &once, &NA);
        assert_eq!(times(&run(&mut schedule, start, 9 * SECOND)), [0]);
        let reload = start + 10 * SECOND;
        schedule.reconfigure(reload, 1, ipv4(1..3), &refreshed, &NA);
        let log = run(&mut schedule, reload, 5 * SECOND);
        assert_eq!(times(&log), [2000, 2000, 4000, 4000]);
        schedule.reconfigure(reload + 5 * SECOND, 1, ipv4(1..3), &refreshed, &NA);
        assert_eq!(times(&run(&mut schedule, reload + 5 * SECOND, SECOND)), [1000, 1000]);
        schedule.reconfigure(reload + 7 * SECOND, 1, ipv4(1..3), &once, &NA);
        assert!(run(&mut schedule, reload + 7 * SECOND, 60 * SECOND).is_empty());
    }

    #[test]
    fn refresh_after_a_long_sleep_is_sent_once_not_for_every_one_missed() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let refresh = Announcements { rounds: 1, again_after: None, refresh: Some(SECOND), ..ARP };
        schedule.begin(start, 0, ipv4(0..1), &refresh, &NA);
        sent(&mut schedule, start);
        let late = start + Duration::from_secs(3600);
        schedule.handle_timeout(late);
        assert!(sent(&mut schedule, late).len() <= 2);
        assert!(schedule.poll_timeout().unwrap() > late);
    }

    #[test]
    fn stop_drops_what_is_queued_for_the_instance_alone() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.begin(start, 0, ipv4(0..1), &ARP, &NA);
        schedule.begin(start, 1, ipv4(1..2), &ARP, &NA);
        schedule.handle_timeout(start);
        schedule.stop(0);
        let log = run(&mut schedule, start, 60 * SECOND);
        assert_eq!(log.len(), 10);
        assert!(log.iter().all(|(_, address)| address == "10.0.0.1"), "{log:?}");
    }

    #[test]
    fn acd_5_lower_priority_advert_announces_again_now_and_later() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let quiet = Announcements { rounds: 1, again_after: None, ..ARP };
        schedule.begin(start, 0, ipv4(0..1), &quiet, &NA);
        assert_eq!(sent(&mut schedule, start).len(), 1);
        schedule.lower_priority_heard(start, 0);
        let log = run(&mut schedule, start, 60 * SECOND);
        assert_eq!(times(&log), [vec![0; 5], vec![5000; 5]].concat());
    }

    #[test]
    fn flood_of_lower_priority_adverts_makes_one_burst_a_second() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let quiet = Announcements { rounds: 1, again_after: None, lower_priority_again_after: None, ..ARP };
        schedule.begin(start, 0, ipv4(0..1), &quiet, &NA);
        let mut count = sent(&mut schedule, start).len();
        for tick in 0..2000 {
            let now = start + tick * Duration::from_millis(1);
            schedule.lower_priority_heard(now, 0);
            schedule.handle_timeout(now);
            count += sent(&mut schedule, now).len();
        }
        assert_eq!(count, 1 + 2 * 5);
        let rest = run(&mut schedule, start + 2 * SECOND, 60 * SECOND);
        assert_eq!(rest.len(), 5, "the last advert is answered too");
    }

    #[test]
    fn lower_priority_rounds_of_zero_mean_none() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let none = Announcements { rounds: 1, again_after: None, lower_priority_rounds: 0, ..ARP };
        schedule.begin(start, 0, ipv4(0..1), &none, &NA);
        sent(&mut schedule, start);
        schedule.lower_priority_heard(start, 0);
        assert_eq!(schedule.poll_timeout(), None);
    }

    #[test]
    fn acd_7_an_interface_sends_at_most_a_thousand_in_any_second() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let twice = Announcements { rounds: 2, again_after: None, ..ARP };
        schedule.begin(start, 0, ipv4(0..1500), &twice, &NA);
        let log = run(&mut schedule, start, 60 * SECOND);
        let firsts: Vec<_> = log[..1500].iter().map(|(_, address)| address.clone()).collect();
        assert_eq!(firsts, addresses(&ipv4(0..1500)), "all firsts before all repeats");
        assert_eq!(log.len(), 3000);
        for (i, (at, _)) in log.iter().enumerate().skip(RATE) {
            assert!(at - log[i - RATE].0 >= 1000, "packet {i}");
        }
    }

    #[test]
    fn acd_7_repeats_leave_room_for_another_takeover() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.begin(start, 0, ipv4(0..200), &ARP, &NA);
        schedule.handle_timeout(start);
        assert_eq!(sent(&mut schedule, start).len(), REPEAT_RATE);
        schedule.begin(start, 1, ipv4(200..600), &ARP, &NA);
        assert_eq!(sent(&mut schedule, start), addresses(&ipv4(200..600)));
    }

    #[test]
    fn acd_7_repeats_are_dropped_before_firsts() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.begin(start, 0, ipv4(0..3000), &ARP, &NA);
        schedule.handle_timeout(start);
        assert_eq!(schedule.interfaces[&2].waiting(), QUEUE);
        assert_eq!(schedule.dropped(), 5000);
        let late = Announcements { rounds: 1, again_after: None, ..ARP };
        schedule.begin(start, 1, ipv4(3000..3100), &late, &NA);
        let interface = &schedule.interfaces[&2];
        assert_eq!((interface.firsts[0].len(), interface.waiting()), (3100, QUEUE));
        assert_eq!(schedule.dropped(), 5100);
    }

    #[test]
    fn acd_7_flapping_instance_announces_each_address_once() {
        let (mut schedule, mut now) = (Schedule::default(), Instant::now());
        let mut counts = Vec::new();
        for _ in 0..5 {
            schedule.begin(now, 0, ipv4(0..2), &ARP, &NA);
            counts.push(run(&mut schedule, now, 6 * SECOND).len());
            schedule.stop(0);
            now += 6 * SECOND;
        }
        assert_eq!(counts, [20, 20, 20, 2, 2], "the fourth beginning is the seventh transition");
        now += 2 * FLAP_WINDOW;
        schedule.begin(now, 0, ipv4(0..2), &ARP, &NA);
        assert_eq!(run(&mut schedule, now, 6 * SECOND).len(), 20);
    }

    #[test]
    fn refused_packet_goes_first_a_little_later() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        let once = Announcements { rounds: 1, again_after: None, ..ARP };
        schedule.begin(start, 0, ipv4(0..3), &once, &NA);
        let packet = schedule.poll_packet(start).unwrap();
        assert!(schedule.refused(start, packet));
        assert_eq!(sent(&mut schedule, start), [""; 0]);
        let later = schedule.poll_timeout().unwrap();
        assert_eq!(later, start + RETRY_AFTER);
        assert_eq!(sent(&mut schedule, later), addresses(&ipv4(0..3)));
    }

    #[test]
    fn packet_that_is_always_refused_is_given_up() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.once(start, 0, target([10, 0, 0, 1]));
        let mut tries = 0;
        let mut now = start;
        while let Some(at) = schedule.poll_timeout() {
            now = at;
            let packet = schedule.poll_packet(now).unwrap();
            tries += 1;
            schedule.refused(now, packet);
        }
        assert_eq!((tries, schedule.dropped()), (u64::from(RETRIES) + 1, 1));
        assert_eq!(now - start, RETRY_AFTER * u32::from(RETRIES));
    }

    #[test]
    fn address_that_was_put_back_is_announced_once() {
        let (mut schedule, start) = (Schedule::default(), Instant::now());
        schedule.once(start, 0, target([10, 0, 0, 1]));
        assert_eq!(run(&mut schedule, start, 60 * SECOND), [(0, "10.0.0.1".to_owned())]);
    }
}
