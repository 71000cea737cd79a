//! The lease: what is renewed, and when. Renewal follows adverts, so that a host which sends none falls silent.

use std::collections::BTreeMap;

use super::*;
use crate::elect::lease::{Terms, renewed_after};
use crate::hold::lease::{Guard, Health, Keeper, Term};
use crate::observe::status::LeaseStatus;

/// Terms are renewed at most so often in the shortest of them.
const RENEWALS: u32 = 6;
/// But never more often than this, nor less often than that without need.
const LEAST_GAP: Duration = Duration::from_millis(10);
const MOST_GAP: Duration = Duration::from_millis(500);
/// Addresses in one request to the kernel, so that a takeover does not wait behind a thousand.
const AT_A_TIME: usize = 32;
/// From one such request to the next.
const PAUSE: Duration = Duration::from_millis(5);
/// What the kernel knows of an address outlives the address by this.
const AFTER: Duration = Duration::from_secs(5);

/// State of the renewals.
#[derive(Debug, Default)]
pub(super) struct Leases {
    /// `None`: no thread was to be had for it.
    keeper: Option<Keeper>,
    /// Some instance has a lease: tables are there, or should be. `None`: not known yet.
    in_use: Option<bool>,
    /// Adverts went out that no renewal followed yet.
    advertised: bool,
    /// The next renewal follows then at the soonest.
    not_before: Option<Instant>,
    /// Until when terms run, as far as was ordered.
    running: HashMap<Term, Instant>,
    /// Addresses are being renewed.
    busy: bool,
    /// More of them are due then.
    addresses_at: Option<Instant>,
}

impl Leases {
    /// Starts the thread; `prepare` runs on it first.
    pub fn start(config: &Config, prepare: impl FnOnce() + Send + 'static, events: &EventSender) -> Self {
        let tell = {
            let events = events.clone();
            move |text| events.send(Kind::Notice { text })
        };
        let keeper = Keeper::start(table_name(config), prepare, tell);
        let keeper = match keeper {
            Ok(keeper) => Some(keeper),
            Err(error) => {
                let text = format!("no thread for the lease of addresses ({error}): they have a lifetime");
                events.send(Kind::Notice { text });
                None
            }
        };
        Self { keeper, ..Self::default() }
    }

    /// When [`Loop::renew_leases`] has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.not_before.filter(|_| self.advertised), self.addresses_at].into_iter().flatten().min()
    }

    /// An advert has been sent.
    pub fn advertised(&mut self) {
        self.advertised = true;
    }

    /// How far it works; `None`: nobody needs it.
    pub fn status(&self) -> Option<LeaseStatus> {
        let Health { works, trouble, remade, lapsed } =
            self.keeper.as_ref().map(Keeper::health).unwrap_or_default();
        (self.in_use == Some(true)).then_some(LeaseStatus { tables: works, trouble, remade, lapsed })
    }

    /// Nothing but the lifetime silences an address.
    fn lifetime_alone(&self) -> bool {
        !self.keeper.as_ref().is_some_and(Keeper::works)
    }

    /// Removes the tables.
    pub fn clear(&mut self) -> impl Future<Output = Option<String>> + use<> {
        let cleared = self.keeper.as_ref().map(Keeper::clear);
        async move { cleared?.await }
    }
}

/// Two daemons on one host have different control sockets.
fn table_name(config: &Config) -> String {
    const NAME: &str = "vipd-lease";
    let socket = &config.control.socket;
    if socket == std::path::Path::new("/run/vipd/control.sock") {
        return NAME.to_owned();
    }
    // FNV-1a: the same after every start.
    let octets = std::os::unix::ffi::OsStrExt::as_bytes(socket.as_os_str());
    let hash = octets
        .iter()
        .fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(*octet)).wrapping_mul(0x0100_0193));
    format!("{NAME}-{hash:08x}")
}

impl Loop {
    /// What instance `id` has of its addresses; those that are the host's own are not its.
    fn leased(&self, id: usize) -> Vec<IpAddr> {
        let Some(instance) = self.instances[id].as_ref() else { return Vec::new() };
        let links = self.hold.links();
        instance.holds().filter(|one| !instance.owns(&links, one)).map(|one| one.address).collect()
    }

    /// The shortest term of the active instances that share an address.
    fn shared_term(&self, address: IpAddr) -> Option<Term> {
        if !self.shared_addresses.contains(&address) {
            return None;
        }
        let of = |instance: &Instance| instance.terms.filter(|_| instance.is_active()).map(|t| t.term);
        let holders = self.instances.iter().flatten();
        holders.filter(|one| one.holds().any(|held| held.address == address)).filter_map(of).min()
    }

    /// Lifetime of addresses that an instance puts on now; remembers when to renew them.
    pub(super) fn new_lifetime(&mut self, id: usize) -> Option<u32> {
        let alone = self.leases.lifetime_alone();
        let now = Instant::now();
        let instance = self.instances[id].as_mut()?;
        let advertised = instance.advertised.unwrap_or(now);
        let had_some = instance.lifetime.is_some();
        instance.lifetime = instance.terms.map(|terms| terms.lifetime(advertised, now, alone));
        let renew_at = now + renewed_after(instance.lifetime?);
        // One that is put back does not hold up the others.
        instance.renew_at = if had_some { renew_at.min(instance.renew_at) } else { renew_at };
        instance.lifetime
    }

    /// The addresses of an instance answer from now on, as long as its adverts go out.
    pub(super) fn begin_lease(&mut self, id: usize, now: Instant) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let Some(Terms { term, .. }) = instance.terms else { return };
        let until = instance.advertised.unwrap_or(now) + term.length();
        self.guard(id, term);
        // One that runs for others has the time that they need; with the next renewal this one counts too.
        let running = self.leases.running.entry(term).or_insert(now);
        if *running <= now {
            *running = until;
            if let Some(keeper) = &self.leases.keeper {
                keeper.order([], [(term, until)]);
            }
        }
    }

    /// The addresses of an instance that is no longer active fall silent at once, before they are gone.
    pub(super) fn end_lease(&mut self, id: usize) {
        self.guard(id, Term::ENDED);
        if let Some(instance) = self.instances[id].as_mut() {
            instance.lifetime = None;
        }
    }

    fn guard(&self, id: usize, term: Term) {
        let Some(keeper) = &self.leases.keeper else { return };
        let Some(instance) = self.instances[id].as_ref().filter(|one| one.terms.is_some()) else { return };
        let kept = kept(instance.lifetime);
        let guard = |address| {
            // Another instance may be active with it.
            let others = self.shared_term(address);
            let term =
                if term == Term::ENDED { others.unwrap_or(term) } else { others.unwrap_or(term).min(term) };
            (address, Some(Guard { term, kept }))
        };
        keeper.order(self.leased(id).into_iter().map(guard).collect::<Vec<_>>(), []);
    }

    /// The addresses of an instance are off: nothing is left to guard.
    pub(super) fn forget_lease(&self, id: usize, addresses: &[IpAddr]) {
        let Some(keeper) = self.leases.keeper.as_ref().filter(|_| self.leases.in_use == Some(true)) else {
            return;
        };
        let instance = self.instances[id].as_ref().filter(|one| one.is_active());
        let is_free = |address: &IpAddr| {
            !instance.is_some_and(|one| one.holds().any(|held| held.address == *address))
                && self.shared_term(*address).is_none()
        };
        let free = addresses.iter().copied().filter(is_free).map(|address| (address, None));
        keeper.order(free.collect::<Vec<_>>(), []);
    }

    /// Another configuration runs: instances may have got a lease, or lost it.
    pub(super) fn configure_leases(&mut self) {
        let in_use = self.instances.iter().flatten().any(|one| one.terms.is_some() && !one.retired);
        if self.leases.in_use != Some(in_use) && !in_use {
            // What a former life has left too.
            drop(self.leases.clear());
        }
        self.leases.in_use = Some(in_use);
    }

    /// Addresses that an instance had before a reload; an active one goes on with what is written now.
    pub(super) fn change_lease(&mut self, id: usize, before: &[IpAddr]) {
        let now = Instant::now();
        let Some(instance) = self.instances[id].as_mut() else { return };
        // With the next advert.
        instance.renew_at = now;
        let (has_lease, kept) = (instance.terms.is_some(), kept(instance.lifetime));
        let after = self.leased(id);
        self.begin_lease(id, now);
        let Some(keeper) = &self.leases.keeper else { return };
        let left = before.iter().copied().filter(|one| !has_lease || !after.contains(one));
        let left = left.map(|address| {
            // Those that are still to be taken off are silent until then.
            let term = self.shared_term(address).or(has_lease.then_some(Term::ENDED));
            (address, term.map(|term| Guard { term, kept }))
        });
        let left: Vec<_> = left.collect();
        if !left.is_empty() {
            keeper.order(left, []);
        }
    }

    /// Renews what is due. To be called when adverts may have gone out.
    pub(super) fn renew_leases(&mut self) {
        let now = Instant::now();
        if self.leases.addresses_at.is_some_and(|at| at <= now) {
            self.renew_addresses(now);
        }
        if !self.leases.advertised {
            return;
        }
        if self.leases.not_before.is_some_and(|at| now < at) {
            return;
        }
        let mut terms: BTreeMap<Term, Instant> = BTreeMap::new();
        for instance in self.instances.iter().flatten().filter(|instance| instance.is_active()) {
            let (Some(Terms { term, .. }), Some(advertised)) = (instance.terms, instance.advertised) else {
                continue;
            };
            let until = advertised + term.length();
            terms.entry(term).and_modify(|one| *one = until.min(*one)).or_insert(until);
        }
        self.leases.advertised = false;
        let shortest = terms.keys().next().map_or(MOST_GAP, |term| term.length());
        self.leases.not_before = Some(now + (shortest / RENEWALS).clamp(LEAST_GAP, MOST_GAP));
        if let Some(keeper) = self.leases.keeper.as_ref().filter(|_| !terms.is_empty()) {
            keeper.order([], terms.iter().map(|(term, until)| (*term, *until)));
        }
        self.leases.running = terms.into_iter().collect();
        self.renew_addresses(now);
    }

    /// Addresses live on.
    fn renew_addresses(&mut self, now: Instant) {
        self.leases.addresses_at = None;
        if self.leases.busy {
            return;
        }
        let alone = self.leases.lifetime_alone();
        let mut renewed: Vec<(VirtualAddress, Option<u32>)> = Vec::new();
        let mut kept_on: Vec<usize> = Vec::new();
        for id in self.ids() {
            let links = self.hold.links();
            let Some(instance) = self.instances[id].as_mut() else { continue };
            let has_any = instance.terms.is_some() || instance.lifetime.is_some();
            if !instance.is_active() || instance.busy || !has_any || now < instance.renew_at {
                continue;
            }
            if renewed.len() >= AT_A_TIME {
                self.leases.addresses_at = Some(now + PAUSE);
                break;
            }
            let advertised = instance.advertised.unwrap_or(now);
            instance.lifetime = instance.terms.map(|terms| terms.lifetime(advertised, now, alone));
            let after = instance.lifetime.map(renewed_after);
            instance.renew_at = now + after.unwrap_or_default().max(LEAST_GAP);
            let lifetime = instance.lifetime;
            let is_there = |one: &&VirtualAddress| {
                links.by_name(&one.interface).is_some_and(|link| link.address(one.address).is_some())
            };
            let addresses =
                instance.holds().filter(|one| !instance.owns(&links, one)).filter(is_there).cloned();
            renewed.extend(addresses.map(|address| (address, lifetime)));
            kept_on.push(id);
        }
        for id in kept_on {
            if let Some(terms) = self.instances[id].as_ref().and_then(|instance| instance.terms) {
                self.guard(id, terms.term);
            }
        }
        if renewed.is_empty() {
            return;
        }
        self.leases.busy = true;
        let hold = self.hold.clone();
        self.start_chore(async move {
            hold.renew(&renewed).await;
            Chore::AddressesRenewed
        });
    }

    pub(super) fn addresses_renewed(&mut self) {
        self.leases.busy = false;
    }
}

fn kept(lifetime: Option<u32>) -> Duration {
    Duration::from_secs(lifetime.unwrap_or(10).into()) + AFTER
}
