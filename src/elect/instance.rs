//! One instance: a `VirtualRouter` and what this host knows around it.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::ready::{
    self, Effect, Family, HmacMode, OldUnicastChecksum, TrackBfd, TrackCheck, TrackInterface, Transport,
    VirtualAddress,
};
use vrrp::{
    Accepted, AdverInterval, Advertisement, AuthenticationHeader, ChecksumCoverage, ChecksumForm, Ladder,
    Priority, Protection, RouterConfig, Trailer, TrailerConfig, TrailerKey, TrailerMode, UnicastPeer,
    VirtualAddresses, VirtualRouter, Vrid,
};

use super::BfdVerdict;
use super::entries::HeldEntry;
use super::lease::Terms;
use super::link_delay::LinkDelays;
use super::priority::{self, Object, Standing, Tracked};
use super::socket::Carrier;
use super::sync::Membership;
use crate::check::Verdict;
use crate::hold::{Entry, Link, Links};
use crate::observe::event::{AdvertNews, Fault, Health, Reason, State};
use crate::observe::status::{AddressStatus, Counters, InstanceStatus, Peer, Runtime};

/// Priority of the address owner.
const OWNER: u8 = 255;
/// Of a Backup that is no owner.
const LARGEST_BACKUP: u8 = 254;

/// Work on the addresses of one instance; done one after the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressWork {
    /// Put all of them on.
    Add,
    /// Tell the network.
    Announce,
    /// Take all of them off.
    Remove,
    /// Put back what somebody deleted.
    Restore(Vec<VirtualAddress>),
    /// Take off what does not belong here, and say why.
    Clean(Vec<VirtualAddress>, &'static str),
    /// The same with routes and rules.
    CleanEntries(Vec<Entry>, &'static str),
    /// Put back routes and rules that are missing.
    Recheck,
}

/// Somebody's last accepted advert.
#[derive(Clone, Copy, Debug)]
pub struct Heard {
    pub address: IpAddr,
    pub priority: u8,
    pub interval: Duration,
    pub at: Instant,
}

#[derive(Debug)]
pub struct Instance {
    pub config: Arc<ready::Instance>,
    pub router: VirtualRouter,
    pub ladder: Ladder,
    /// Index of the interface that it hears adverts on, while that exists: its VMAC, if it has one.
    pub ifindex: Option<u32>,
    /// Index of its own interface, below the VMAC.
    pub base_index: Option<u32>,
    /// Source of its adverts, once known.
    pub source: Option<IpAddr>,
    pub socket_error: Option<String>,
    /// Seals or signs its adverts and judges those of others.
    pub protection: Protection,
    /// Why its adverts cannot be protected as configured; then it says nothing at all.
    protection_error: Option<String>,
    /// Unicast peers that were heard with the checksum of keepalived up to 1.3.6: they get theirs so.
    old_unicast_peers: BTreeSet<IpAddr>,
    pub standing: Standing,
    /// What keeps it from taking part by itself, `standing.faults` included.
    pub own_faults: Vec<Fault>,
    /// Everything that does: its own, and those of others in its sync group.
    pub faults: Vec<Fault>,
    /// Its sync group.
    pub membership: Option<Membership>,
    /// An owner, but not all of its sync group are.
    pub listens_first: bool,
    pub state: State,
    pub since: SystemTime,
    pub last_reason: Option<Reason>,
    /// When the state that it is in now began, for "no advert for …".
    pub entered: Instant,
    pub heard: Option<Heard>,
    /// Time of the machine's last input.
    pub fed: Instant,
    /// How late its last timer fired.
    pub lateness: Duration,
    pub counters: Counters,
    pub work: VecDeque<AddressWork>,
    pub busy: bool,
    /// Addresses that the kernel refused; not tried again until something changes.
    pub refused: HashSet<IpAddr>,
    pub restores: RestoreLimit,
    /// The firewall keeps its addresses from answering, or did when they were put on.
    pub silent: bool,
    /// Routes, then rules.
    pub entries: Vec<HeldEntry>,
    /// What it needs of what is not its own, and the kernel does not have (yet).
    pub missing: Vec<Fault>,
    /// When the last advert of lower priority was told of.
    pub lower_priority_told: Option<Instant>,
    /// When news of each kind were last told.
    pub advert_news_told: [Option<Instant>; AdvertNews::COUNT],
    /// How long its addresses answer; `None`: for ever.
    pub terms: Option<Terms>,
    /// When its last advert went out.
    pub advertised: Option<Instant>,
    /// Seconds that its addresses were given last; `None`: for ever.
    pub lifetime: Option<u32>,
    /// They are given more then.
    pub renew_at: Instant,
    /// No longer configured; forgotten when the last address is off.
    pub retired: bool,
    /// What the guard has, while this is active.
    pub left_behind: Option<LeftBehind>,
    identification: u16,
    message: Vec<u8>,
}

/// What the farewell that the guard has was made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftBehind {
    config: *const ready::Instance,
    source: IpAddr,
    ifindex: u32,
    old_unicast_peers: usize,
    /// Where it goes.
    pub destinations: Vec<IpAddr>,
}

impl LeftBehind {
    /// Of what is now.
    pub fn of(instance: &Instance, source: IpAddr, ifindex: u32) -> Self {
        Self {
            config: Arc::as_ptr(&instance.config),
            source,
            ifindex,
            old_unicast_peers: instance.old_unicast_peers.len(),
            destinations: instance.destinations().into_iter().map(|(destination, _)| destination).collect(),
        }
    }
}

/// What an instance looks at when it reckons its standing.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'a> {
    pub links: &'a Links,
    pub verdicts: &'a HashMap<String, Verdict>,
    pub delays: &'a LinkDelays,
    pub bfd: &'a HashMap<String, BfdVerdict>,
    /// Virtual addresses of all instances: none of them is a source.
    pub virtual_addresses: &'a HashSet<IpAddr>,
}

impl Surroundings<'_> {
    fn is_up(&self, link: &Link) -> bool {
        self.delays.counts_as_up(&link.name, link.up)
    }
}

impl Instance {
    pub fn new(config: Arc<ready::Instance>, now: Instant) -> Self {
        let unknown = match config.family {
            Family::Ipv4 => IpAddr::from([0, 0, 0, 0]),
            Family::Ipv6 => IpAddr::from([0_u16; 8]),
        };
        let source = config.source;
        let priority = config.priority;
        let (protection, protection_error) = protection(&config);
        Self {
            router: VirtualRouter::new(router_config(&config, priority, source.unwrap_or(unknown))),
            ladder: ladder(&config, source),
            ifindex: None,
            base_index: None,
            source,
            socket_error: None,
            protection,
            protection_error,
            old_unicast_peers: BTreeSet::new(),
            standing: Standing { priority, ..Standing::default() },
            own_faults: Vec::new(),
            faults: Vec::new(),
            membership: None,
            listens_first: false,
            state: State::Initialize,
            since: SystemTime::now(),
            last_reason: None,
            entered: now,
            heard: None,
            fed: now,
            lateness: Duration::ZERO,
            counters: Counters::default(),
            work: VecDeque::new(),
            busy: false,
            refused: HashSet::new(),
            restores: RestoreLimit::default(),
            silent: false,
            entries: HeldEntry::all(&config),
            missing: Vec::new(),
            lower_priority_told: None,
            advert_news_told: [None; AdvertNews::COUNT],
            terms: Terms::of(&config),
            advertised: None,
            lifetime: None,
            renew_at: now,
            retired: false,
            left_behind: None,
            identification: 0,
            message: Vec::new(),
            config,
        }
    }

    /// Runs with another configuration from now on; the state stays.
    pub fn reconfigure(&mut self, config: Arc<ready::Instance>) {
        self.config = config;
        self.terms = Terms::of(&self.config);
        self.ladder = ladder(&self.config, self.source);
        let (protection, error) = protection(&self.config);
        self.protection.change(protection);
        self.protection_error = error;
        self.old_unicast_peers.clear();
        self.refused.clear();
        let entries = HeldEntry::all(&self.config).into_iter();
        self.entries = entries.map(|held| held.inherit(&self.entries)).collect();
    }

    /// Routes and rules that were held and are no longer configured; and whether there are others now.
    pub fn entry_differences(&self, before: &[HeldEntry]) -> (Vec<Entry>, bool) {
        let has = |all: &[HeldEntry], one: &HeldEntry| all.iter().any(|held| held.entry.is_same(&one.entry));
        let gone = before.iter().filter(|held| !has(&self.entries, held)).map(|held| held.entry.clone());
        (gone.collect(), self.entries.iter().any(|held| !has(before, held)))
    }

    /// What the machine is to be told after [`Instance::reconfigure`] or another standing.
    pub fn router_config(&self) -> RouterConfig {
        let source = self.source.unwrap_or(self.router.config().primary_address);
        let config = router_config(&self.config, self.standing.priority, source);
        RouterConfig { start_active: config.start_active && !self.listens_first, ..config }
    }

    /// Unicast that leaves and comes by whatever interface.
    pub fn has_no_interface(&self) -> bool {
        self.config.interface.is_empty()
    }

    /// Its own, and those of its sync group.
    pub fn tracked_checks(&self) -> impl Iterator<Item = &TrackCheck> {
        let group = self.membership.iter().flat_map(|place| &place.config.track_checks);
        self.config.track_checks.iter().chain(group)
    }

    /// Its own, and those of its sync group.
    pub fn tracked_interfaces(&self) -> impl Iterator<Item = &TrackInterface> {
        let group = self.membership.iter().flat_map(|place| &place.config.track_interfaces);
        self.config.track_interfaces.iter().chain(group)
    }

    /// Its own, and those of its sync group.
    pub fn tracked_bfd(&self) -> impl Iterator<Item = &TrackBfd> {
        let group = self.membership.iter().flat_map(|place| &place.config.track_bfd);
        self.config.track_bfd.iter().chain(group)
    }

    pub fn holds(&self) -> impl Iterator<Item = &VirtualAddress> {
        self.config.held()
    }

    /// The VMAC of its own.
    pub fn vmac_name(&self) -> Option<&str> {
        self.config.vmac.as_ref()?.name.as_deref()
    }

    /// Every VMAC that it needs: its own, and those of its addresses elsewhere.
    pub fn vmac_names(&self) -> Vec<&str> {
        let elsewhere = self.config.vmac.as_ref().is_some_and(|vmac| vmac.for_other_interfaces);
        let of_addresses = self.holds().filter(|address| address.own_vmac.is_some() || elsewhere);
        let mut names: Vec<&str> = of_addresses.map(|address| address.interface.as_str()).collect();
        names.extend(self.vmac_name());
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Multicast to a virtual router's group comes to the VMAC: what a peer sends from the same MAC address comes
    /// there alone, and the rest there too. Unicast comes to the address of the base.
    pub fn hears_on(&self) -> &str {
        match (self.vmac_name(), &self.config.transport) {
            (Some(name), Transport::Multicast { .. }) => name,
            _ => &self.config.interface,
        }
    }

    /// Adverts leave by the interface below the VMAC, and are heard on the VMAC (`vmac_xmit_base`).
    pub fn sends_below(&self) -> bool {
        self.hears_on() != self.config.interface
            && self.config.vmac.as_ref().is_some_and(|vmac| vmac.transmit_on_base)
    }

    pub fn is_active(&self) -> bool {
        self.state == State::Active
    }

    /// Looks at interface, source, checks and tracked interfaces again.
    pub fn look_around(&mut self, around: Surroundings<'_>) {
        let link = around.links.by_name(&self.config.interface);
        self.base_index = link.map(|link| link.index);
        self.ifindex = if self.has_no_interface() {
            Some(0)
        } else {
            around.links.by_name(self.hears_on()).map(|link| link.index)
        };
        let source = self.config.source.or_else(|| self.first_address(link?, around.virtual_addresses));
        if source != self.source {
            self.source = source.or(self.source);
            self.ladder = ladder(&self.config, self.source);
        }
        let checks = self.tracked_checks().map(|track| {
            let verdict = around.verdicts.get(&track.check);
            Tracked {
                object: Object::Check(&track.check),
                effect: track.effect,
                health: verdict.map_or(Health::Unknown, |verdict| verdict.health),
                value: verdict.and_then(|verdict| verdict.value),
                detail: verdict.map_or_else(String::new, said),
            }
        });
        let interfaces = self.tracked_interfaces().map(|track| {
            let up = around.links.by_name(&track.interface).is_some_and(|link| around.is_up(link));
            Tracked {
                object: Object::Interface(&track.interface),
                effect: track.effect,
                health: if up { Health::Up } else { Health::Down },
                value: None,
                detail: if up { "is up".into() } else { "is down".into() },
            }
        });
        let sessions = self.tracked_bfd().map(|track| {
            let verdict = around.bfd.get(&track.bfd);
            let up = verdict.is_some_and(|verdict| verdict.up);
            Tracked {
                object: Object::Bfd(&track.bfd),
                effect: track.effect,
                // keepalived-behaviour §7.4: one that has not come up yet is down.
                health: if up { Health::Up } else { Health::Down },
                value: None,
                detail: verdict
                    .map_or_else(|| "has not come up yet".into(), |verdict| verdict.detail.clone()),
            }
        });
        let tracked = interfaces.chain(checks).chain(sessions);
        self.standing = priority::standing(self.config.priority, tracked);

        let interface = || self.config.interface.clone();
        let mut faults = Vec::new();
        match link {
            None if self.has_no_interface() => {}
            None => faults.push(Fault::InterfaceMissing { interface: interface() }),
            Some(link) if !around.is_up(link) && self.tracks_own_interface() => {
                faults.push(Fault::InterfaceDown { interface: interface() });
            }
            Some(_) => {}
        }
        if link.is_some() && source.is_none() {
            let wanted = match self.config.family {
                Family::Ipv4 => "IPv4",
                Family::Ipv6 => "IPv6 link-local",
            };
            faults.push(Fault::NoSourceAddress { interface: interface(), wanted: wanted.into() });
        }
        if matches!(&self.config.transport, Transport::Unicast { peers, .. } if peers.is_empty()) {
            faults.push(Fault::NoPeer);
        }
        if let Some(missing) = self.config.source.filter(|source| {
            self.config.track_source && !around.links.iter().any(|link| link.address(*source).is_some())
        }) {
            let interface = if self.has_no_interface() { "this host".into() } else { interface() };
            faults.push(Fault::NoSourceAddress { interface, wanted: missing.to_string() });
        }
        for error in self.socket_error.iter().chain(&self.protection_error) {
            faults.push(Fault::Socket { error: error.clone() });
        }
        faults.extend(self.missing.iter().cloned());
        let own_down = Fault::InterfaceDown { interface: interface() };
        faults.extend(self.standing.faults.iter().filter(|fault| **fault != own_down).cloned());
        if self.membership.is_none() {
            self.faults.clone_from(&faults);
        }
        self.own_faults = faults;
    }

    /// keepalived's choice: the first address of the interface, for IPv6 the first link-local one. A virtual
    /// address is none, except for the owner, whose own address it is.
    fn first_address(&self, link: &Link, virtual_addresses: &HashSet<IpAddr>) -> Option<IpAddr> {
        let fits = |address: &IpAddr| match address {
            IpAddr::V4(_) => self.config.family == Family::Ipv4,
            IpAddr::V6(address) => self.config.family == Family::Ipv6 && address.is_unicast_link_local(),
        };
        let usable = link.addresses.iter().filter(|one| one.is_usable());
        let candidates = || usable.clone().map(|one| one.address).filter(fits);
        let own = candidates().find(|address| !virtual_addresses.contains(address));
        own.or_else(|| candidates().next().filter(|_| self.config.priority == OWNER))
    }

    /// The owner's own address (RFC 9568 §1.7): the only one of its family on the instance's interface. Taking
    /// it off would cut the host off, as keepalived 2.2.7 does.
    pub fn owns(&self, links: &Links, address: &VirtualAddress) -> bool {
        self.config.priority == OWNER
            && address.interface == self.config.interface
            && links.by_name(&address.interface).is_some_and(|link| {
                let same_family = |other: &IpAddr| other.is_ipv4() == address.address.is_ipv4();
                link.address(address.address).is_some()
                    && link.addresses.iter().filter(|one| same_family(&one.address)).count() == 1
            })
    }

    fn tracks_own_interface(&self) -> bool {
        self.config.track_interfaces.iter().any(|track| {
            track.interface == self.config.interface && track.effect == Effect::Fault { reverse: false }
        })
    }

    /// What its adverts travel in.
    pub fn carrier(&self) -> Carrier {
        match (self.config.family, &self.config.authentication) {
            (Family::Ipv4, ready::Authentication::Ah(_)) => Carrier::Sealed,
            (Family::Ipv4, _) => Carrier::Ipv4,
            (Family::Ipv6, _) => Carrier::Ipv6,
        }
    }

    /// A timer that fires later than this means that others may have taken over meanwhile. With `timer_expired_backup` an
    /// Active asks whether a Backup of that priority would have, counted from its last advert; with a lease, whether any
    /// would have: its addresses have fallen silent by then, and must not answer beside another's.
    pub fn longest_lateness(&self) -> Duration {
        let own = self.router.active_down_interval();
        let leased = self.terms.filter(Terms::covers).map(|_| LARGEST_BACKUP);
        match leased.or(self.config.timer_expired_backup) {
            Some(priority) if self.is_active() => {
                let (version, interval) = (self.ladder.version, self.ladder.adver_interval);
                let adverts = self.config.down_timer_adverts;
                let down = vrrp::active_down_interval(version, Priority::new(priority), interval, adverts);
                own.min(down.saturating_sub(interval.as_duration()))
            }
            _ => own,
        }
    }

    /// What an accepted advert says about its sender, for those to come; a sentence when people should know.
    pub fn note_sender(&mut self, accepted: &Accepted) -> Option<String> {
        let source = accepted.source;
        if self.config.skip_address_check {
            self.ladder.addresses_known_from = Some(source);
        }
        let name = &self.config.name;
        if accepted.checksum_form == ChecksumForm::MulticastPseudoHeader {
            let is_new = self.old_unicast_peers.insert(source);
            return is_new.then(|| {
                format!(
                    "{name}: {source} sums unicast adverts as keepalived up to 1.3.6 does; it gets ours so too \
                     (old_unicast_checksum never turns that off)"
                )
            });
        }
        self.old_unicast_peers.remove(&source);
        None
    }

    /// Number that the next advert is sealed or signed with, one for all of its copies; 0 for neither.
    pub fn next_sequence(&mut self, clock: Duration) -> u64 {
        match &mut self.protection {
            Protection::None => 0,
            Protection::Header(header) => header.next_sequence().into(),
            Protection::Trailer(trailer) => trailer.next_sequence(clock),
        }
    }

    /// What [`Instance::next_sequence`] would give.
    pub fn upcoming_sequence(&self, clock: Duration) -> u64 {
        match &self.protection {
            Protection::None => 0,
            Protection::Header(header) => header.clone().next_sequence().into(),
            Protection::Trailer(trailer) => trailer.clone().next_sequence(clock),
        }
    }

    /// Who seals the next advert.
    pub fn seal(&self, sequence: u64) -> Option<(&AuthenticationHeader, u32)> {
        match &self.protection {
            // Made by `next_sequence` from 32 bits.
            Protection::Header(header) => Some((header, u32::try_from(sequence).ok()?)),
            Protection::None | Protection::Trailer(_) => None,
        }
    }

    /// What [`Instance::compose`] made.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// Makes the message of the next advert.
    pub fn compose(&mut self, priority: Priority, destination: IpAddr, sequence: u64) {
        let source = self.source.unwrap_or(destination);
        let version = self.ladder.version;
        let advertisement = Advertisement {
            version,
            vrid: self.ladder.vrid,
            priority,
            adver_interval: self
                .ladder
                .adver_interval
                .as_wire(version)
                .expect("validated: the interval fits"),
            addresses: self.ladder.addresses.clone(),
            authentication: self.ladder.authentication,
        };
        let message_only = self.config.checksum_message_only;
        let coverage = if self.sums_as_of_old(version, destination) {
            ChecksumCoverage::old_unicast(source)
        } else {
            ChecksumCoverage::for_sending(version, source, destination, message_only)
        };
        self.message.clear();
        advertisement.emit(coverage, &mut self.message);
        if let Protection::Trailer(trailer) = &self.protection
            && trailer.signs()
        {
            trailer.sign(sequence, source, &mut self.message);
        }
    }

    fn sums_as_of_old(&self, version: vrrp::Version, destination: IpAddr) -> bool {
        let applies = version == vrrp::Version::V3 && destination.is_ipv4() && !destination.is_multicast();
        applies
            && match self.config.old_unicast_checksum {
                OldUnicastChecksum::Always => true,
                OldUnicastChecksum::Detect => self.old_unicast_peers.contains(&destination),
                OldUnicastChecksum::Never => false,
            }
    }

    /// keepalived's own counter: 1, 2, 3, …; 0 would let the kernel choose.
    pub fn next_identification(&mut self) -> u16 {
        self.identification = self.identification.checked_add(1).unwrap_or(1);
        self.identification
    }

    /// Where adverts go.
    pub fn destinations(&self) -> Vec<(IpAddr, u8)> {
        match &self.config.transport {
            Transport::Multicast { group } => vec![(*group, 255)],
            Transport::Unicast { peers, ttl, .. } => peers.iter().map(|peer| (peer.address, *ttl)).collect(),
        }
    }

    pub fn status(&self, now: Instant, links: &Links) -> InstanceStatus {
        let present = |address: &VirtualAddress| {
            links.by_name(&address.interface).is_some_and(|link| link.address(address.address).is_some())
        };
        let active_down_interval = self.router.active_down_interval();
        InstanceStatus {
            name: self.config.name.clone(),
            interface: self.config.interface.clone(),
            vrid: self.config.vrid,
            version: match self.config.version {
                ready::Version::V2 => 2,
                ready::Version::V3 => 3,
            },
            family: match self.config.family {
                Family::Ipv4 => "IPv4".into(),
                Family::Ipv6 => "IPv6".into(),
            },
            state: self.state,
            since: self.since,
            why: String::new(),
            priority: self.standing.priority,
            base_priority: self.config.priority,
            weights: self.standing.weights.clone(),
            faults: self.faults.clone(),
            last_reason: self.last_reason.clone(),
            waits_for: Vec::new(),
            active: self.heard.filter(|_| self.state == State::Backup).map(|heard| Peer {
                address: heard.address,
                priority: heard.priority,
                advert_interval: heard.interval,
                last_heard: now.saturating_duration_since(heard.at),
            }),
            source: self.source,
            advert_interval: self.config.advert_interval,
            active_down_interval,
            lease: self.terms.map(|terms| terms.term.length()),
            addresses: self
                .holds()
                .map(|address| AddressStatus {
                    address: format!("{}/{}", address.address, address.prefix_length),
                    interface: address.interface.clone(),
                    present: present(address),
                    claimed_by: None,
                })
                .collect(),
            entries: self.entries.iter().map(HeldEntry::status).collect(),
            counters: self.counters.clone(),
            runtime: Runtime {
                next_timer: self.router.poll_timeout().map(|at| at.saturating_duration_since(now)),
                interface_index: self.ifindex,
                descriptor: None,
            },
        }
    }
}

/// What a check says, to stand behind its name: `failed 3 of 3: connect refused`.
fn said(verdict: &Verdict) -> String {
    let (streak, needed) = verdict.streak;
    match verdict.health {
        // It succeeds again, but not often enough yet.
        Health::Down if streak == 0 => format!("is still down: {}", verdict.detail),
        Health::Down => format!("failed {streak} of {needed}: {}", verdict.detail),
        Health::Up => "is up".into(),
        Health::Unknown => "has given no result yet".into(),
    }
}

fn version(config: &ready::Instance) -> vrrp::Version {
    match config.version {
        ready::Version::V2 => vrrp::Version::V2,
        ready::Version::V3 => vrrp::Version::V3,
    }
}

fn adver_interval(config: &ready::Instance) -> AdverInterval {
    AdverInterval::from_duration(version(config), config.advert_interval)
        .expect("the configuration is validated: the interval fits the version")
}

fn router_config(config: &ready::Instance, priority: u8, source: IpAddr) -> RouterConfig {
    RouterConfig {
        version: version(config),
        vrid: Vrid::new(config.vrid).expect("the configuration is validated: 1–255"),
        priority: Priority::new(priority),
        adver_interval: adver_interval(config),
        preempt_mode: config.preempt,
        preempt_delay: config.preempt_delay,
        down_timer_adverts: config.down_timer_adverts,
        primary_address: source,
        start_active: config.start_active,
        answer_lower_priority: config.answer_lower_priority,
        answer_higher_priority: config.answer_higher_priority,
    }
}

fn ladder(config: &ready::Instance, source: Option<IpAddr>) -> Ladder {
    let advertised = config.addresses.iter().map(|address| address.address);
    let family = match config.family {
        Family::Ipv4 => vrrp::Family::Ipv4,
        Family::Ipv6 => vrrp::Family::Ipv6,
    };
    Ladder {
        version: version(config),
        vrid: Vrid::new(config.vrid).expect("the configuration is validated: 1–255"),
        adver_interval: adver_interval(config),
        authentication: match config.authentication {
            ready::Authentication::None => vrrp::Authentication::None,
            ready::Authentication::Pass(password) => vrrp::Authentication::Pass(password),
            ready::Authentication::Ah(_) => vrrp::Authentication::Header,
        },
        addresses: VirtualAddresses::of_family(family, advertised),
        transport: match &config.transport {
            Transport::Multicast { group } => vrrp::Transport::Multicast { group: *group },
            Transport::Unicast { peers, check_source, .. } => vrrp::Transport::Unicast {
                own: source,
                peers: peers
                    .iter()
                    .map(|peer| UnicastPeer {
                        address: peer.address,
                        min_ttl: peer.min_ttl,
                        max_ttl: peer.max_ttl,
                    })
                    .collect(),
                check_source: *check_source,
            },
        },
        owner: config.priority == OWNER,
        owner_ignores_adverts: config.owner_ignores_adverts,
        addresses_known_from: None,
        accept_old_unicast_checksum: config.old_unicast_checksum != OldUnicastChecksum::Never,
        strict: config.strict,
        accept_no_addresses: false,
        kernel_verified_checksum: config.family == Family::Ipv6,
    }
}

/// How adverts are protected. An error means that they cannot be, and nothing may go out unprotected.
fn protection(config: &ready::Instance) -> (Protection, Option<String>) {
    if let ready::Authentication::Ah(key) = config.authentication {
        return (Protection::Header(AuthenticationHeader::new(key)), None);
    }
    let Some(hmac) = &config.hmac else { return (Protection::None, None) };
    let keys = hmac.keys.iter().map(|key| TrailerKey { id: key.id, secret: key.secret.clone() });
    let config = TrailerConfig {
        keys: keys.collect(),
        active_key: hmac.active_key,
        time_window: hmac.time_window,
        monotonic: hmac.monotonic,
        mode: match hmac.mode {
            HmacMode::Enforce => TrailerMode::Enforce,
            HmacMode::Permissive => TrailerMode::Permissive,
            HmacMode::ReceiveOnly => TrailerMode::ReceiveOnly,
        },
    };
    match Trailer::new(config) {
        Ok(trailer) => (Protection::Trailer(trailer), None),
        Err(error) => (Protection::None, Some(format!("auth_hmac: {error}"))),
    }
}

/// Somebody who deletes a VIP again and again gets it back at most this often.
#[derive(Debug, Default)]
pub struct RestoreLimit {
    window: Option<Instant>,
    count: u32,
}

impl RestoreLimit {
    const WINDOW: Duration = Duration::from_secs(1);
    const LIMIT: u32 = 50;

    /// May one more be put back now?
    pub fn permits(&mut self, now: Instant) -> bool {
        match self.window {
            Some(start) if now.saturating_duration_since(start) < Self::WINDOW => self.count += 1,
            _ => {
                self.window = Some(now);
                self.count = 1;
            }
        }
        self.count <= Self::LIMIT
    }
}
