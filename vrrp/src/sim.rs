//! A simulated LAN of virtual routers, with every fault that a LAN can have: delay, jitter, loss in one or both
//! directions, partitions, routers that stand still, die and come back.
//!
//! Adverts are emitted, framed in IP and judged by the real code. Time is simulated, and everything random comes from
//! one seed: the same calls with the same seed give the same run. It never touches a real network.
//!
//! ```
//! use std::time::Duration;
//! use vrrp::sim::{Lan, Setup};
//! use vrrp::Priority;
//!
//! let mut lan = Lan::new(1);
//! let better = lan.add(Setup::ipv4(1, Priority::new(150)));
//! let worse = lan.add(Setup::ipv4(2, Priority::new(100)));
//! lan.start(better);
//! lan.start(worse);
//! lan.run_for(Duration::from_secs(5));
//! assert_eq!(lan.holders(), [better]);
//! lan.power_off(better);
//! lan.run_for(Duration::from_secs(4));
//! assert_eq!(lan.holders(), [worse]);
//! ```

mod random;
mod wire;

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use random::Random;
use wire::Captured;

use crate::{
    AdverInterval, Advertisement, Authentication, ChecksumCoverage, Datagram, DiscardReason, Input, Ladder,
    MULTICAST_GROUP_IPV4, Oddities, Output, Priority, Reason, RouterConfig, StateName, Transport, Version,
    VirtualAddresses, VirtualRouter, Vrid,
};

/// When simulated time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock; only differences matter"
)]
pub static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// TTL and hop limit of everything that is sent.
const TTL: u8 = 255;

/// One router of a [`Lan`], in the order they were added.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouterId(usize);

impl RouterId {
    /// 0 for the first one added.
    pub fn index(self) -> usize {
        self.0
    }
}

/// What a router of the LAN is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its machine.
    pub router: RouterConfig,
    /// What it advertises.
    pub addresses: VirtualAddresses,
    /// Version 2 only.
    pub authentication: Authentication,
    /// To the group, or to each peer.
    pub transport: Transport,
    /// Send RFC 9568's checksum over IPv4.
    pub message_only: bool,
}

impl Setup {
    /// VRID 51, version 3, 1 s, 192.0.2.`host` with the virtual address 192.0.2.100, multicast.
    ///
    /// # Panics
    ///
    /// Never: 51 is a VRID.
    pub fn ipv4(host: u8, priority: Priority) -> Self {
        let own_address = IpAddr::V4(Ipv4Addr::new(192, 0, 2, host));
        let vrid = Vrid::new(51).expect("51 is not 0");
        let router = RouterConfig::new(Version::V3, vrid, AdverInterval::SECOND, own_address);
        Self {
            router: RouterConfig { priority, ..router },
            addresses: VirtualAddresses::V4(vec![Ipv4Addr::new(192, 0, 2, 100)]),
            authentication: Authentication::None,
            transport: Transport::Multicast { group: IpAddr::V4(MULTICAST_GROUP_IPV4) },
            message_only: false,
        }
    }

    fn ladder(&self) -> Ladder {
        Ladder {
            version: self.router.version,
            vrid: self.router.vrid,
            adver_interval: self.router.adver_interval,
            authentication: self.authentication,
            addresses: self.addresses.clone(),
            transport: self.transport.clone(),
            owner: self.router.priority.is_owner(),
            owner_ignores_adverts: false,
            addresses_known_from: None,
            accept_old_unicast_checksum: true,
            strict: false,
            accept_no_addresses: false,
            kernel_verified_checksum: false,
        }
    }
}

/// One direction between two routers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// `false`: nothing comes through.
    pub up: bool,
    /// How long a packet takes at least.
    pub delay: Duration,
    /// How much longer it may take, evenly spread. Packets may overtake each other.
    pub jitter: Duration,
    /// Packets lost at random, in a thousand.
    pub loss_permille: u16,
}

impl Default for Link {
    /// 100 µs, nothing lost.
    fn default() -> Self {
        Self { up: true, delay: Duration::from_micros(100), jitter: Duration::ZERO, loss_permille: 0 }
    }
}

/// Something that happened on the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Since [`EPOCH`].
    pub at: Duration,
    /// To whom.
    pub router: RouterId,
    /// What.
    pub what: What,
}

/// What happened to a router of the LAN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// An output of its machine.
    Output(Output),
    /// It accepted an advert.
    Accepted {
        /// Who sent it.
        source: IpAddr,
        /// With which priority.
        priority: Priority,
        /// And what was strange about it.
        oddities: Oddities,
    },
    /// It discarded a packet.
    Discarded(DiscardReason),
    /// The whole host is gone, with its addresses.
    PoweredOff,
    /// It does not run from now on; its addresses stay.
    Paused,
    /// It runs again.
    Resumed,
}

/// Whether a router runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Off,
    On,
    /// Packets wait in its socket.
    Paused,
}

#[derive(Debug)]
struct Host {
    setup: Setup,
    ladder: Ladder,
    machine: VirtualRouter,
    running: Running,
    holds: bool,
    socket: VecDeque<Arc<[u8]>>,
}

/// To whom, and the IP packet.
type InFlight = (RouterId, Arc<[u8]>);

/// Packets that a socket keeps for a router that does not run.
const SOCKET_CAPACITY: usize = 512;

/// A simulated LAN.
#[derive(Debug)]
pub struct Lan {
    now: Duration,
    random: Random,
    hosts: Vec<Host>,
    /// By sender, then receiver.
    links: BTreeMap<(RouterId, RouterId), Link>,
    default_link: Link,
    /// By arrival, then in the order of sending.
    in_flight: BTreeMap<(Duration, u64), InFlight>,
    sent: u64,
    records: Vec<Record>,
    capture: Option<Vec<Captured>>,
}

impl Lan {
    /// Nobody is on it yet.
    pub fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            random: Random::new(seed),
            hosts: Vec::new(),
            links: BTreeMap::new(),
            default_link: Link::default(),
            in_flight: BTreeMap::new(),
            sent: 0,
            records: Vec::new(),
            capture: None,
        }
    }

    // ---- Who is on it ----

    /// A router that is off; [`Lan::start`] it.
    pub fn add(&mut self, setup: Setup) -> RouterId {
        let id = RouterId(self.hosts.len());
        self.hosts.push(Host {
            ladder: setup.ladder(),
            machine: VirtualRouter::new(setup.router.clone()),
            setup,
            running: Running::Off,
            holds: false,
            socket: VecDeque::new(),
        });
        id
    }

    /// In the order they were added.
    pub fn routers(&self) -> impl Iterator<Item = RouterId> + use<> {
        (0..self.hosts.len()).map(RouterId)
    }

    /// The machine of a router, to look at.
    pub fn machine(&self, id: RouterId) -> &VirtualRouter {
        &self.hosts[id.0].machine
    }

    // ---- What happens to a router ----

    /// Starts a router that is off, or that was shut down or in fault.
    pub fn start(&mut self, id: RouterId) {
        let host = &mut self.hosts[id.0];
        if host.running == Running::Off {
            host.machine = VirtualRouter::new(host.setup.router.clone());
            host.socket.clear();
            host.running = Running::On;
        }
        self.give(id, Input::Startup);
    }

    /// Gives any input, unless the router does not run.
    pub fn give(&mut self, id: RouterId, input: Input) {
        if self.hosts[id.0].running == Running::On {
            let now = *EPOCH + self.now;
            self.hosts[id.0].machine.handle_input(now, input);
            self.carry_out(id);
        }
    }

    /// Other parameters for a router that runs, as after a reload of its configuration.
    pub fn reconfigure(&mut self, id: RouterId, setup: Setup) {
        let host = &mut self.hosts[id.0];
        host.ladder = setup.ladder();
        host.setup = setup;
        let config = host.setup.router.clone();
        self.give(id, Input::Reconfigured(config));
    }

    /// The host is gone at once, with its addresses: no power, or cut off and dead.
    pub fn power_off(&mut self, id: RouterId) {
        let host = &mut self.hosts[id.0];
        host.running = Running::Off;
        host.holds = false;
        host.socket.clear();
        self.record(id, What::PoweredOff);
    }

    /// The router stands still: stopped, frozen, starved. Its addresses stay, its timers do not fire, packets wait.
    pub fn pause(&mut self, id: RouterId) {
        if self.hosts[id.0].running == Running::On {
            self.hosts[id.0].running = Running::Paused;
            self.record(id, What::Paused);
        }
    }

    /// It runs again. As the rule for a late wake-up demands, it first lets go if its timer is later than its
    /// Active_Down_Interval; and it reads its socket before it acts on an expired timer (H-6).
    pub fn resume(&mut self, id: RouterId) {
        if self.hosts[id.0].running != Running::Paused {
            return;
        }
        self.hosts[id.0].running = Running::On;
        self.record(id, What::Resumed);
        let machine = &self.hosts[id.0].machine;
        let lateness = machine
            .poll_timeout()
            .map_or(Duration::ZERO, |timeout| (*EPOCH + self.now).saturating_duration_since(timeout));
        if lateness > machine.active_down_interval() {
            // What waits is as old as what the machine knew.
            self.hosts[id.0].socket.clear();
            self.give(id, Input::Resurrected);
        }
        while let Some(packet) = self.hosts[id.0].socket.pop_front() {
            self.receive(id, &packet);
        }
    }

    // ---- What happens to the LAN ----

    /// Every direction between any two routers.
    pub fn set_links(&mut self, link: Link) {
        self.default_link = link;
        self.links.clear();
    }

    /// One direction.
    pub fn set_link(&mut self, from: RouterId, to: RouterId, link: Link) {
        self.links.insert((from, to), link);
    }

    /// How packets go from one to the other now.
    pub fn link(&self, from: RouterId, to: RouterId) -> Link {
        self.links.get(&(from, to)).copied().unwrap_or(self.default_link)
    }

    /// One direction is dead; delay and the rest stay for [`Lan::heal`].
    pub fn cut(&mut self, from: RouterId, to: RouterId) {
        let link = Link { up: false, ..self.link(from, to) };
        self.set_link(from, to, link);
    }

    /// Routers hear those of their own part only; who is in none hears nobody.
    pub fn partition(&mut self, parts: &[&[RouterId]]) {
        let together = |a, b| parts.iter().any(|part| part.contains(&a) && part.contains(&b));
        for from in self.routers() {
            for to in self.routers() {
                let link = Link { up: together(from, to), ..self.link(from, to) };
                self.set_link(from, to, link);
            }
        }
    }

    /// Every direction is up and loses nothing; delays stay.
    pub fn heal(&mut self) {
        self.default_link = Link { up: true, loss_permille: 0, ..self.default_link };
        for link in self.links.values_mut() {
            *link = Link { up: true, loss_permille: 0, ..*link };
        }
    }

    /// A stranger sends this IP packet; it is at every router at once.
    pub fn inject(&mut self, packet: &[u8]) {
        self.captured(u16::MAX, packet);
        for to in self.routers() {
            self.arrive(to, packet.into());
        }
    }

    /// Keeps what is on the wire from now on, for [`Lan::write_pcap`].
    pub fn start_capture(&mut self) {
        self.capture.get_or_insert_default();
    }

    /// Writes what was captured as a classic pcap file: Ethernet, nanosecond stamps since [`EPOCH`].
    ///
    /// # Errors
    ///
    /// When `to` cannot be written.
    pub fn write_pcap(&self, to: impl Write) -> io::Result<()> {
        wire::write_pcap(self.capture.as_deref().unwrap_or_default(), to)
    }

    // ---- Time ----

    /// Since [`EPOCH`].
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Lets so much time pass.
    pub fn run_for(&mut self, duration: Duration) {
        self.run_until(self.now + duration);
    }

    /// Lets time pass until `end`, and does everything that is due by then.
    pub fn run_until(&mut self, end: Duration) {
        while let Some(at) = self.next_due().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = self.now.max(end);
    }

    /// When something happens next by itself.
    fn next_due(&self) -> Option<Duration> {
        let arrival = self.in_flight.first_key_value().map(|((at, _), _)| *at);
        let timeout = self.first_timeout().map(|(at, _)| at);
        arrival.into_iter().chain(timeout).min()
    }

    fn first_timeout(&self) -> Option<(Duration, RouterId)> {
        self.hosts
            .iter()
            .enumerate()
            .filter(|(_, host)| host.running == Running::On)
            .filter_map(|(id, host)| {
                // A timer that was moved into the past is due at once.
                let at = host.machine.poll_timeout()?.saturating_duration_since(*EPOCH);
                Some((at.max(self.now), RouterId(id)))
            })
            .min()
    }

    /// One thing that is due now: packets before timers (H-6).
    fn step(&mut self) {
        if let Some(first) = self.in_flight.first_entry().filter(|first| first.key().0 <= self.now) {
            let (to, packet) = first.remove();
            self.arrive(to, packet);
        } else if let Some((_, id)) = self.first_timeout().filter(|(at, _)| *at <= self.now) {
            self.give(id, Input::Timeout);
        }
    }

    // ---- What was seen ----

    /// Who holds the addresses now, in the order they were added.
    pub fn holders(&self) -> Vec<RouterId> {
        self.routers().filter(|id| self.hosts[id.0].holds).collect()
    }

    /// Everything that happened, in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Who changed to which state when, and why.
    pub fn transitions(&self) -> impl Iterator<Item = (Duration, RouterId, StateName, Reason)> + '_ {
        self.records.iter().filter_map(|record| match record.what {
            What::Output(Output::Transition { to, reason, .. }) => {
                Some((record.at, record.router, to, reason))
            }
            _ => None,
        })
    }

    /// How many of these routers held the addresses from which moment on: one entry for each change, the first at 0.
    pub fn holder_counts(&self, routers: &[RouterId]) -> Vec<(Duration, usize)> {
        let mut holding = vec![false; self.hosts.len()];
        let mut counts = vec![(Duration::ZERO, 0)];
        for record in self.records.iter().filter(|record| routers.contains(&record.router)) {
            holding[record.router.0] = match record.what {
                What::Output(Output::AddAddresses) => true,
                What::Output(Output::RemoveAddresses) | What::PoweredOff => false,
                _ => continue,
            };
            let count = holding.iter().filter(|holds| **holds).count();
            match counts.last_mut() {
                Some((at, last)) if *at == record.at => *last = count,
                _ => counts.push((record.at, count)),
            }
        }
        counts
    }

    /// How long in all, between two moments, the number of holders among these routers was one for which `matches`.
    pub fn time_with_holders(
        &self,
        routers: &[RouterId],
        between: std::ops::Range<Duration>,
        matches: impl Fn(usize) -> bool,
    ) -> Duration {
        let counts = self.holder_counts(routers);
        let ends = counts.iter().skip(1).map(|(at, _)| *at).chain([between.end]);
        counts
            .iter()
            .zip(ends)
            .filter(|((_, count), _)| matches(*count))
            .map(|((start, _), end)| end.min(between.end).saturating_sub((*start).max(between.start)))
            .sum()
    }

    // ---- Inside ----

    fn record(&mut self, router: RouterId, what: What) {
        self.records.push(Record { at: self.now, router, what });
    }

    fn carry_out(&mut self, id: RouterId) {
        while let Some(output) = self.hosts[id.0].machine.poll_output() {
            self.record(id, What::Output(output));
            match output {
                Output::SendAdvertisement(priority) => self.send(id, priority),
                Output::AddAddresses => self.hosts[id.0].holds = true,
                Output::RemoveAddresses => self.hosts[id.0].holds = false,
                Output::AnnounceAddresses
                | Output::AnnounceAgain
                | Output::Transition { .. }
                | Output::LowerPriorityHeard { .. }
                | Output::DuplicateAddress { .. } => {}
            }
        }
    }

    fn send(&mut self, from: RouterId, priority: Priority) {
        let Host { setup, machine, .. } = &self.hosts[from.0];
        let config = machine.config();
        let version = config.version;
        let source = config.primary_address;
        let advertisement = Advertisement {
            version,
            vrid: config.vrid,
            priority,
            adver_interval: config.adver_interval.as_wire(version).unwrap_or(u16::MAX),
            authentication: setup.authentication,
            addresses: setup.addresses.clone(),
        };
        let destinations = match &setup.transport {
            Transport::Multicast { group } => vec![*group],
            Transport::Unicast { peers, .. } => peers.iter().map(|peer| peer.address).collect(),
        };
        let message_only = setup.message_only;
        for destination in destinations {
            let coverage = ChecksumCoverage::for_sending(version, source, destination, message_only);
            let mut message = Vec::new();
            advertisement.emit(coverage, &mut message);
            self.put_on_the_wire(from, destination, &wire::ip_packet(source, destination, TTL, &message));
        }
    }

    fn put_on_the_wire(&mut self, from: RouterId, destination: IpAddr, packet: &[u8]) {
        self.captured(u16::try_from(from.0 + 1).unwrap_or(u16::MAX), packet);
        for to in self.routers().filter(|to| *to != from) {
            let has_address = self.hosts[to.0].machine.config().primary_address == destination;
            let link = self.link(from, to);
            if !(destination.is_multicast() || has_address)
                || !link.up
                || self.random.happens(link.loss_permille)
            {
                continue;
            }
            let at = self.now + link.delay + self.random.up_to(link.jitter);
            self.in_flight.insert((at, self.sent), (to, packet.into()));
            self.sent += 1;
        }
    }

    fn captured(&mut self, sender: u16, packet: &[u8]) {
        let at = self.now;
        if let Some(capture) = &mut self.capture {
            capture.push(Captured { at, sender, packet: packet.to_vec() });
        }
    }

    fn arrive(&mut self, to: RouterId, packet: Arc<[u8]>) {
        let host = &mut self.hosts[to.0];
        match host.running {
            Running::Off => {}
            Running::On => self.receive(to, &packet),
            Running::Paused if host.socket.len() < SOCKET_CAPACITY => host.socket.push_back(packet),
            Running::Paused => {}
        }
    }

    fn receive(&mut self, to: RouterId, packet: &[u8]) {
        let ladder = &self.hosts[to.0].ladder;
        let judged = wire::datagram(packet).and_then(|datagram: Datagram<'_>| ladder.judge(&datagram));
        match judged {
            Ok(accepted) => {
                let (source, priority, oddities) = (accepted.source, accepted.priority, accepted.oddities);
                self.record(to, What::Accepted { source, priority, oddities });
                self.give(to, accepted.into());
            }
            Err(reason) => self.record(to, What::Discarded(reason)),
        }
    }
}
