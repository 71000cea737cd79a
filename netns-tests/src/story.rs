//! The scenarios S1 to S7 of the interoperability matrix, for any two daemons.
//!
//! In each, one host's daemon is better than the other's. The better one is on lb2, which also has the
//! higher address.

use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::craft::{Craft, bad_version_2, bad_version_3};
use crate::criteria;
use crate::host::{Host, real_time_is_permitted};
use crate::inject::Injector;
use crate::lab::Lab;
use crate::observer::{Echo, Monitor, Prober};
use crate::peer::{Kind, Peer, Router, bare};
use crate::turn::StallWatch;
use crate::wire::{Advert, Capture};
use crate::{Failure, Late, Outcome, Stamp, ensure, now, wait_for, wait_until};

pub use crate::tell::{Story, tell};

/// A lab with all its observers running.
#[derive(Debug)]
pub struct Bed {
    /// Bridge-side capture.
    pub capture: Capture,
    /// Address tables.
    pub on_lb1: Monitor,
    /// Address tables.
    pub on_lb2: Monitor,
    /// Neighbour table.
    pub on_client: Monitor,
    /// The client's questions to `address`.
    pub prober: Prober,
    /// The machine itself.
    pub stalls: StallWatch,
    /// The virtual address that is watched.
    pub address: String,
    /// Times at which the hosts could not hear each other.
    pub splits: Vec<(Stamp, Option<Stamp>)>,
    _echoes: [Echo; 2],
    /// Last, so that it ends after its observers.
    pub lab: Lab,
}

impl Bed {
    /// Builds a lab and starts to watch this address.
    pub fn new(address: &str, step: Duration) -> Self {
        Self::with(address, step, &[])
    }

    /// With more hosts.
    pub fn with(address: &str, step: Duration, others: &[&'static str]) -> Self {
        let lab = Lab::new(others);
        let ip: IpAddr = address.parse().expect("an address");
        Self {
            capture: Capture::start(&lab),
            on_lb1: Monitor::start(&lab.lb1),
            on_lb2: Monitor::start(&lab.lb2),
            on_client: Monitor::start(&lab.client),
            _echoes: [Echo::start(&lab.lb1, ip), Echo::start(&lab.lb2, ip)],
            prober: Prober::start(&lab.client, ip, step),
            stalls: StallWatch::start(),
            address: address.to_owned(),
            splits: Vec::new(),
            lab,
        }
    }

    /// Cuts a host off.
    pub fn cut(&mut self, host: Side) {
        self.splits.push((now(), None));
        self.lab.silence(self.host(host));
    }

    /// Ends the cut; gives the time at which the host was heard again.
    pub fn join(&mut self, host: Side) -> Stamp {
        let at = now();
        self.lab.unsilence(self.host(host));
        self.splits.last_mut().expect("a cut before").1 = Some(now());
        at
    }

    /// The host of a side.
    pub fn host(&self, side: Side) -> &Host {
        match side {
            Side::Worse => &self.lab.lb1,
            Side::Better => &self.lab.lb2,
        }
    }

    /// What was observed between two times, in order, for the reader of a failed test.
    pub fn timeline(&self, from: Stamp, to: Stamp) -> String {
        let mut lines: Vec<(Stamp, String)> = Vec::new();
        for advert in self.capture.adverts() {
            lines.push((advert.at, format!("advert {} priority {}", advert.source, advert.priority)));
        }
        for announcement in self.capture.announcements() {
            lines.push((
                announcement.at,
                format!("announcement {} at {}", announcement.address, announcement.mac),
            ));
        }
        for (name, monitor) in [("lb1", &self.on_lb1), ("lb2", &self.on_lb2), ("client", &self.on_client)] {
            lines.extend(monitor.news().into_iter().map(|news| (news.at, format!("{name} {}", news.text))));
        }
        lines.extend(self.prober.changes().into_iter().map(|(at, answered)| {
            (at, format!("client asks, {}", if answered { "is answered" } else { "is not answered" }))
        }));
        lines.retain(|(at, _)| *at >= from && *at <= to);
        lines.sort();
        let skipped = lines.len().saturating_sub(60);
        lines
            .into_iter()
            .skip(skipped)
            .map(|(at, text)| format!("    {:.6} {text}\n", at.as_secs_f64()))
            .collect()
    }

    /// The address table of a side.
    pub fn table(&self, side: Side) -> &Monitor {
        match side {
            Side::Worse => &self.on_lb1,
            Side::Better => &self.on_lb2,
        }
    }
}

/// One of the two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// lb1, lower priority, lower address.
    Worse,
    /// lb2.
    Better,
}

/// A row of the matrix: what both daemons have in common.
#[derive(Clone, Debug)]
pub struct Row {
    /// `I-4 100 ms`.
    pub name: &'static str,
    /// 2 or 3.
    pub version: u8,
    /// Between adverts.
    pub interval: Duration,
    /// With prefix lengths. The first one that is not link-local is watched.
    pub addresses: Vec<String>,
    /// PASS.
    pub password: Option<&'static str>,
    /// To the peer instead of the group.
    pub unicast: bool,
    /// A third router's host beside lb1 and lb2.
    pub third: bool,
    /// More lines of the instance for each daemon, in keepalived's language.
    pub extra: fn(Kind) -> &'static str,
}

impl Row {
    /// Version 3, 1 s, multicast, one IPv4 address.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            version: 3,
            interval: Duration::from_secs(1),
            addresses: vec!["10.77.0.100/24".to_owned()],
            password: None,
            unicast: false,
            third: false,
            extra: |_| "",
        }
    }

    fn is_ipv6(&self) -> bool {
        self.addresses[0].contains(':')
    }

    /// The address whose holder is watched.
    pub fn watched(&self) -> &str {
        let watched = self.addresses.iter().find(|address| !address.starts_with("fe80"));
        bare(watched.expect("an address that clients can use"))
    }

    /// Where a host's adverts come from.
    pub fn source(&self, host: &Host, kind: Kind) -> IpAddr {
        let text = match (self.is_ipv6(), self.unicast, kind) {
            (false, ..) => host.ipv4(),
            (true, true, _) => host.ipv6(),
            (true, false, Kind::Frr) => format!("fe80::200:5eff:fe00:{:x}", 0x200 + u16::from(VRID)),
            (true, false, _) => host.link_local(),
        };
        text.parse().expect("an address")
    }

    /// What a host is configured for.
    pub fn router(&self, host: &Host, other: &Host, priority: u8) -> Router {
        Router {
            version: self.version,
            vrid: VRID,
            priority,
            interval: self.interval,
            addresses: self.addresses.clone(),
            password: self.password.map(str::to_owned),
            unicast: self.unicast.then(|| {
                if self.is_ipv6() { (host.ipv6(), other.ipv6()) } else { (host.ipv4(), other.ipv4()) }
            }),
            start_active: false,
            nopreempt: false,
            strict: false,
            extra: String::new(),
        }
    }

    /// How often the client asks: often enough to see what an interval is, and not to load the machine.
    pub(crate) fn step(&self) -> Duration {
        (self.interval / 200).clamp(Duration::from_millis(1), Duration::from_millis(5))
    }
}

/// The virtual router of all rows.
pub const VRID: u8 = 52;
const BETTER: u8 = 200;
const WORSE: u8 = 100;

/// One host with what runs on it.
#[derive(Debug)]
pub struct Actor {
    /// Where.
    pub side: Side,
    /// What.
    pub kind: Kind,
    /// Configured for this.
    pub router: Router,
    /// Its adverts come from here.
    pub source: IpAddr,
    starts: u32,
    peer: Option<Peer>,
}

impl Actor {
    /// A host that is configured and not started.
    pub fn new(bed: &Bed, row: &Row, side: Side, kind: Kind, priority: u8) -> Self {
        let (host, other) = match side {
            Side::Worse => (&bed.lab.lb1, &bed.lab.lb2),
            Side::Better => (&bed.lab.lb2, &bed.lab.lb1),
        };
        let router = Router { extra: (row.extra)(kind).to_owned(), ..row.router(host, other, priority) };
        Self { side, kind, router, source: row.source(host, kind), starts: 0, peer: None }
    }

    /// Starts the daemon, for the first time or again.
    pub fn start(&mut self, bed: &Bed) -> Stamp {
        self.starts += 1;
        self.peer = None;
        // Ours gets no such help.
        if self.kind == Kind::Keepalived && self.has_vmac() {
            bed.host(self.side).forbid_strange_arp();
        }
        let tag = format!("{}-{}", format!("{:?}", self.kind).to_lowercase(), self.starts);
        let peer = Peer::start(self.kind, bed.host(self.side), &self.router, &tag);
        let started = peer.started;
        self.peer = Some(peer);
        started
    }

    /// The daemon, which was started before.
    pub fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("started before")
    }

    /// What it sent after this time.
    pub fn adverts(&self, bed: &Bed, after: Stamp) -> Vec<Advert> {
        bed.capture.adverts_of(self.source, after)
    }

    /// Waits for the first advert of this host after a time.
    pub fn first_advert(&mut self, bed: &Bed, after: Stamp, limit: Duration) -> Outcome<Advert> {
        let (source, kind) = (self.source, self.kind);
        wait_for(&format!("first advert of {kind:?} at {source}"), limit, || {
            if let Some(status) = self.peer().process.ended() {
                let output = self.peer().process.output();
                return Some(Err(Failure::from(format!("{kind:?} ended: {status}\n{output}"))));
            }
            self.adverts(bed, after).into_iter().next().map(Ok)
        })?
    }

    /// Whether its kernel has the watched address.
    pub fn holds(&self, bed: &Bed) -> bool {
        bed.table(self.side).holds(&bed.address)
    }

    /// MAC address that the client must use while this host is active.
    pub fn mac(&self, bed: &Bed) -> String {
        match self.kind {
            Kind::Vipd | Kind::Keepalived if !self.has_vmac() => bed.host(self.side).mac(),
            _ => format!("00:00:5e:00:0{}:{VRID:02x}", if bed.address.contains(':') { 2 } else { 1 }),
        }
    }

    fn has_vmac(&self) -> bool {
        self.router.extra.contains("use_vmac")
    }

    /// Checks the time from `from` to this host's takeover, as far as its daemon can be precise.
    fn on_time(&self, what: &str, from: Stamp, to: Stamp, formula: Duration) -> Outcome {
        if self.kind != Kind::Frr {
            return criteria::on_time(what, from, to, formula);
        }
        // FRR cuts its skew to whole centiseconds and sends its first advert when its link is up; its
        // first IPv6 advert may follow one interval later.
        let late = if self.source.is_ipv6() { self.router.interval } else { Duration::ZERO };
        let cut = formula.saturating_sub(Duration::from_millis(10));
        criteria::within(what, from, to, cut, late + Duration::from_millis(60))
    }

    /// How long after its start a daemon may take until its timers run.
    fn startup(&self) -> Duration {
        Duration::from_millis(if self.kind == Kind::Frr { 2500 } else { 500 })
    }

    /// What the daemon says about the whole story, then its end.
    pub fn finish(&mut self, bed: &Bed, row: &Row, expect_quiet: bool) -> Outcome {
        let Some(peer) = self.peer.as_mut() else { return Ok(()) };
        if expect_quiet {
            criteria::nothing_discarded(peer, bed.host(self.side))?;
        }
        peer.stop()?;
        if expect_quiet {
            criteria::no_complaint(peer)?;
        }
        criteria::nothing_left(bed.host(self.side), self.kind, &row.addresses)
    }
}

/// Long enough for anything that the formulas predict, on a machine that is busy.
pub fn limit(formula: Duration) -> Duration {
    2 * formula + Duration::from_secs(5)
}

/// S1 to S4: start alone, a better one appears, stops, comes back, and its host dies.
pub fn elections(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut worse = Actor::new(bed, row, Side::Worse, worse, WORSE);
    let mut better = Actor::new(bed, row, Side::Better, better, BETTER);
    let (worse_down, better_down) = (worse.router.down(row.interval), better.router.down(row.interval));

    // S1: alone.
    let started = worse.start(bed);
    let first = worse.first_advert(bed, started, limit(worse_down))?;
    let startup = worse.startup();
    criteria::within(
        "S1 start alone",
        started,
        first.at,
        worse_down.saturating_sub(Duration::from_millis(10)),
        startup,
    )?;
    wait_until("S1 the address is there", Duration::from_secs(2), || worse.holds(bed))?;

    // S2: a better one appears.
    appears(bed, row, &mut better, &mut worse, better_down)?;

    // S3: it stops.
    let asked = now();
    better.peer().process.signal(Signal::SIGTERM);
    let release = wait_for("S3 advert with priority 0", Duration::from_secs(5), || {
        better.adverts(bed, asked).into_iter().find(|advert| advert.priority == 0)
    })?;
    let skew = worse.router.skew(row.interval);
    let takeover = worse.first_advert(bed, release.at, limit(skew))?;
    worse.on_time("S3 takeover after a stop", release.at, takeover.at, skew)?;
    settle(bed, &worse, takeover.at, row)?;
    criteria::little_lost(bed, "S3", asked, now(), usable(bed, &worse, takeover.at)? - release.at)?;
    criteria::neighbour_follows(bed, "S3", takeover.at, &worse)?;
    better.peer().stop()?;
    criteria::nothing_left(bed.host(Side::Better), better.kind, &row.addresses)?;

    // It comes back, which is S2 again.
    appears(bed, row, &mut better, &mut worse, better_down)?;

    // S4: its host dies.
    bed.cut(Side::Better);
    let silent = now();
    better.peer().process.kill_family();
    let takeover = worse.first_advert(bed, silent, limit(worse_down))?;
    let last = better.adverts(bed, Stamp::ZERO).into_iter().rfind(|advert| advert.at < takeover.at);
    let last = last.ok_or_else(|| Failure::from("S4 the better one never advertised".to_owned()))?;
    worse.on_time("S4 takeover after a death", last.at, takeover.at, worse_down)?;
    settle(bed, &worse, takeover.at, row)?;
    criteria::little_lost(bed, "S4", silent, now(), usable(bed, &worse, takeover.at)? - last.at)?;
    criteria::neighbour_follows(bed, "S4", takeover.at, &worse)?;
    // The dead host comes back empty, as after a reboot.
    for link in bed
        .host(Side::Better)
        .links()
        .iter()
        .filter(|link| better.has_vmac() && *link != "lo" && *link != "eth0")
    {
        bed.host(Side::Better).run(&["ip", "link", "del", link]);
    }
    for address in &row.addresses {
        if better.kind != Kind::Frr
            && bed.host(Side::Better).addresses().iter().any(|here| here == bare(address))
        {
            bed.host(Side::Better).run(&["ip", "address", "del", address, "dev", "eth0"]);
        }
    }
    better.peer = None;
    bed.join(Side::Better);

    worse.finish(bed, row, true)?;
    closing(bed, row)
}

/// S2: the better one starts while the worse one is active.
fn appears(bed: &Bed, row: &Row, better: &mut Actor, worse: &mut Actor, down: Duration) -> Outcome {
    let started = better.start(bed);
    let first = better.first_advert(bed, started, limit(down) + better.startup())?;
    let startup = better.startup();
    criteria::within(
        "S2 a better one starts",
        started,
        first.at,
        down.saturating_sub(Duration::from_millis(10)),
        startup,
    )?;
    wait_until("S2 the worse one lets go", Duration::from_secs(5), || {
        better.holds(bed) && !worse.holds(bed)
    })?;
    // One more of the better's adverts, so that what the worse one still sends is on the wire.
    wait_for("S2 second advert", limit(row.interval), || better.adverts(bed, first.at).into_iter().next())?;
    let grace = Duration::from_millis(5);
    let after: Vec<Advert> = worse.adverts(bed, first.at + grace);
    if let [unwanted, ..] = after.as_slice() {
        return Err(Failure {
            text: format!(
                "S2 {:?} advertised {:?} after the better one's first advert: {after:?}",
                worse.kind,
                unwanted.at - first.at
            ),
            late: Some(Late { from: first.at, to: unwanted.at, margin: grace }),
        });
    }
    let released = worse.adverts(bed, started).iter().any(|advert| advert.priority == 0);
    ensure(!released, || "S2 the loser of an election sent priority 0".to_owned())?;
    criteria::neighbour_follows(bed, "S2", first.at, better)?;
    let change = Duration::from_millis(10) + criteria::for_many_addresses(better);
    criteria::little_lost(bed, "S2", first.at - Duration::from_millis(100), now(), change)
}

/// The new active has the address, and the client has an answer.
fn settle(bed: &Bed, active: &Actor, since: Stamp, row: &Row) -> Outcome {
    wait_until("the new active has the address", Duration::from_secs(2), || active.holds(bed))?;
    wait_until("the client is answered", Duration::from_secs(2) + row.interval, || {
        bed.prober.answered_since(since)
    })
}

/// When a client could reach the new active: at its first advert, or, for IPv6, when the kernel had made the
/// address ready. That it does in a work queue of its own, which waits its turn for a lock that all
/// namespaces share: up to 60 ms were seen while another lab was busy, with keepalived too.
fn usable(bed: &Bed, active: &Actor, first_advert: Stamp) -> Outcome<Stamp> {
    if !active.source.is_ipv6() {
        return Ok(first_advert + criteria::for_many_addresses(active));
    }
    let ready = bed.table(active.side).held(&bed.address).last().map_or(first_advert, |(from, _)| *from);
    criteria::within(
        "IPv6 address ready",
        first_advert,
        ready.max(first_advert),
        Duration::ZERO,
        Duration::from_millis(150),
    )?;
    Ok(ready.max(first_advert))
}

/// S5: equal priorities, both active after a split; the higher address wins when they join.
pub fn split(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut lower = Actor::new(bed, row, Side::Worse, worse, 150);
    let mut higher = Actor::new(bed, row, Side::Better, better, 150);
    if lower.source > higher.source {
        // FRR advertises IPv6 from an address of its own link.
        std::mem::swap(&mut lower, &mut higher);
    }
    let down = lower.router.down(row.interval);
    let started = lower.start(bed);
    lower.first_advert(bed, started, limit(down))?;
    let second_started = higher.start(bed);
    // An equal one stays backup for as long as it hears the active one.
    let quiet_until = second_started + down + higher.startup() + 2 * row.interval;
    wait_for("S5 the active goes on", limit(quiet_until - second_started), || {
        lower.adverts(bed, quiet_until).into_iter().next()
    })?;
    ensure(higher.adverts(bed, Stamp::ZERO).is_empty() && !higher.holds(bed), || {
        "S5 an equal backup took over".to_owned()
    })?;

    bed.cut(higher.side);
    // Each sends at least one advert into the split: FRR's first IPv6 advert is an interval late, and it
    // compares addresses with none of its own until then.
    wait_until("S5 both are active", limit(down + 2 * row.interval), || {
        let held = bed.table(higher.side).held(&bed.address);
        held.last().is_some_and(|(since, end)| end.is_none() && now() > *since + row.interval * 3 / 2)
    })?;
    ensure(lower.holds(bed), || "S5 the active one let go in the split".to_owned())?;
    let joined = bed.join(higher.side);
    wait_until("S5 the lower address yields", limit(row.interval), || !lower.holds(bed))?;
    // Then a few intervals of the winner alone.
    wait_for("S5 the winner goes on", limit(4 * row.interval), || {
        (higher.adverts(bed, joined).len() >= 3).then_some(())
    })?;
    // The bridge has the winner's first advert before the loser has it.
    let heard = higher.adverts(bed, joined)[0].at;
    let after_join: Vec<Advert> = lower.adverts(bed, heard);
    ensure(after_join.len() <= 1, || {
        format!("S5 the lower address sent more than one advert: {after_join:?}")
    })?;
    ensure(higher.holds(bed), || "S5 the higher address let go".to_owned())?;
    // A client that knew the loser may keep asking it until its entry is stale: nobody became active
    // after the join who would have to announce it. FRR leaves it at that.
    let alone = now();
    if higher.kind != Kind::Frr {
        wait_until("S5 the client is answered", Duration::from_secs(15), || {
            bed.prober.answered_since(alone)
        })?;
    }
    lower.finish(bed, row, true)?;
    higher.finish(bed, row, true)?;
    closing(bed, row)
}

/// S6: a better one that must not preempt stays backup, and takes over when it is needed.
pub fn no_preemption(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut worse = Actor::new(bed, row, Side::Worse, worse, WORSE);
    let mut better = Actor::new(bed, row, Side::Better, better, BETTER);
    better.router.nopreempt = true;
    let started = worse.start(bed);
    worse.first_advert(bed, started, limit(worse.router.down(row.interval)))?;
    let second_started = better.start(bed);
    let quiet_until = second_started + better.router.down(row.interval) + better.startup() + 2 * row.interval;
    wait_for("S6 the active goes on", limit(quiet_until - second_started), || {
        worse.adverts(bed, quiet_until).into_iter().next()
    })?;
    ensure(better.adverts(bed, Stamp::ZERO).is_empty() && !better.holds(bed), || {
        "S6 preempted in spite of nopreempt".to_owned()
    })?;

    let asked = now();
    worse.peer().process.signal(Signal::SIGTERM);
    let release = wait_for("S6 advert with priority 0", Duration::from_secs(5), || {
        worse.adverts(bed, asked).into_iter().find(|advert| advert.priority == 0)
    })?;
    let skew = better.router.skew(row.interval);
    let takeover = better.first_advert(bed, release.at, limit(skew))?;
    better.on_time("S6 takeover after a stop", release.at, takeover.at, skew)?;
    settle(bed, &better, takeover.at, row)?;
    worse.finish(bed, row, false)?;
    better.finish(bed, row, true)?;
    closing(bed, row)
}

/// S7: a bad neighbour sends every kind of wrong advert while ours is active, and while ours is backup.
/// The other daemon hears none of them: it may be worse at this than it should.
pub fn bad_neighbour(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut worse = Actor::new(bed, row, Side::Worse, worse, WORSE);
    let mut better = Actor::new(bed, row, Side::Better, better, BETTER);
    let ours = if better.kind == Kind::Vipd { Side::Better } else { Side::Worse };
    let started = worse.start(bed);
    worse.first_advert(bed, started, limit(worse.router.down(row.interval)))?;
    let period = (row.interval / 5).clamp(Duration::from_millis(2), Duration::from_millis(100));
    let injector = Injector::every(&bed.lab.stranger, forgeries(bed, row, ours), period);

    // S2 under fire.
    let better_down = better.router.down(row.interval);
    appears(bed, row, &mut better, &mut worse, better_down)?;
    // The active one keeps its schedule: so many intervals, none longer than it should be.
    let from = now();
    let lasting = (5 * row.interval).max(Duration::from_secs(1));
    wait_for("S7 the schedule goes on", limit(lasting), || {
        better.adverts(bed, from + lasting).into_iter().next()
    })?;
    schedule_kept(bed, &better, from, row.interval)?;
    ensure(!worse.holds(bed), || "S7 a bad packet moved the address".to_owned())?;

    // S4 under fire: the backup's timer was not moved either.
    bed.cut(Side::Better);
    let silent = now();
    better.peer().process.kill_family();
    let down = worse.router.down(row.interval);
    let takeover = worse.first_advert(bed, silent, limit(down))?;
    let last = better.adverts(bed, Stamp::ZERO).into_iter().rfind(|advert| advert.at < takeover.at);
    let last = last.ok_or_else(|| Failure::from("S7 the better one never advertised".to_owned()))?;
    worse.on_time("S7 takeover after a death", last.at, takeover.at, down)?;
    let sent = injector.finish();
    if ours == Side::Worse {
        let status = worse.peer().status(&bed.lab.lb1)?;
        ensure(discards(&status) > 0, || format!("S7 {sent} bad adverts sent, none counted: {status:#}"))?;
    }
    worse.finish(bed, row, false)?;
    Ok(())
}

/// All adverts that a daemon counted as discarded.
pub fn discards(status: &serde_json::Value) -> u64 {
    let sum = |reasons: &serde_json::Value| -> u64 {
        reasons.as_object().into_iter().flatten().filter_map(|(_, count)| count.as_u64()).sum()
    };
    let instances = status["instances"].as_array().into_iter().flatten();
    sum(&status["discarded"]) + instances.map(|instance| sum(&instance["counters"]["discarded"])).sum::<u64>()
}

/// Every kind of bad advert for this row, sent to one host alone.
fn forgeries(bed: &Bed, row: &Row, target: Side) -> Vec<Vec<u8>> {
    let host = bed.host(target);
    let mut mac = [2, 0, 0, 0, 0, 0];
    mac[5] = host.number;
    let stranger = &bed.lab.stranger;
    let source = if row.is_ipv6() { stranger.link_local() } else { stranger.ipv4() };
    let addresses: Vec<IpAddr> = row.addresses.iter().map(|a| bare(a).parse().expect("an address")).collect();
    let mut good = Craft::advert(source.parse().expect("an address"), VRID, &addresses).only_to(mac);
    good.priority = 250;
    good.interval = (row.interval.as_millis() / 10) as u16;
    let list = if row.version == 2 {
        let mut good = good.version_2();
        if let Some(password) = row.password {
            good.interval = 0x0101;
            good.trailer = password.bytes().chain([0; 8]).take(8).collect();
        }
        bad_version_2(&good, row.password)
    } else {
        bad_version_3(&good, host.ipv4().parse().expect("an address"))
    };
    let own = [2, 0, 0, 0, 0, stranger.number];
    list.into_iter().map(|forgery| forgery.craft.frame(own)).collect()
}

/// Adverts came at their interval, none missing, none extra.
pub fn schedule_kept(bed: &Bed, active: &Actor, from: Stamp, interval: Duration) -> Outcome {
    gaps_between(bed, active, from, interval, interval)
}

/// No advert is missing; there may be more, for adverts of lower priority are answered at once.
pub fn none_missing(bed: &Bed, active: &Actor, from: Stamp, interval: Duration) -> Outcome {
    gaps_between(bed, active, from, Duration::ZERO, interval)
}

fn gaps_between(bed: &Bed, active: &Actor, from: Stamp, least: Duration, most: Duration) -> Outcome {
    let margin = Duration::from_millis(2).max(most / 20);
    let times: Vec<Stamp> = active.adverts(bed, from).iter().map(|advert| advert.at).collect();
    for pair in times.windows(2) {
        let gap = pair[1] - pair[0];
        if gap > most + margin || gap + margin < least {
            return Err(Failure {
                text: format!("an advert came {gap:?} after the one before, the interval is {most:?}"),
                late: Some(Late { from: pair[0], to: pair[1], margin }),
            });
        }
    }
    Ok(())
}

/// The 99th percentile of the adverts' lateness against their interval is below a millisecond (in a daemon
/// built without optimization two) where real-time priority is permitted; and none was so late that a
/// backup would move.
pub fn none_late(bed: &Bed, source: IpAddr, from: Stamp, interval: Duration) -> Outcome {
    let times: Vec<Stamp> = bed.capture.adverts_of(source, from).iter().map(|advert| advert.at).collect();
    let mut late: Vec<Duration> =
        times.windows(2).map(|pair| (pair[1] - pair[0]).saturating_sub(interval)).collect();
    late.sort();
    ensure(late.len() >= 100, || format!("only {} adverts", times.len()))?;
    let (median, p99, most) = (late[late.len() / 2], late[late.len() * 99 / 100], late[late.len() - 1]);
    let report =
        format!("{} adverts late by {median:?} (median), {p99:?} (p99), {most:?} (most)", times.len());
    println!("measured: {report}");
    let allowed = match (real_time_is_permitted(), cfg!(debug_assertions)) {
        (true, false) => Duration::from_millis(1),
        (true, true) => Duration::from_millis(2),
        // It has to wait its turn on busy processors.
        (false, _) => interval,
    };
    ensure(p99 < allowed && most < 2 * interval, || report)
}

/// What must be true of every story's end.
fn closing(bed: &Bed, row: &Row) -> Outcome {
    criteria::one_holder(bed, row.interval)?;
    bed.capture.check(false)?;
    let long = bed.capture.adverts().into_iter().find(|advert| advert.length > 1514);
    ensure(long.is_none(), || format!("an advert does not fit one frame: {long:?}"))
}
