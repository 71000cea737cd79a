//! The engine thread: one loop over timers, kernel news, finished address work, adverts and commands.
//!
//! Order matters: timers first, since lateness costs the most; adverts are read before a Backup acts on an
//! expired Active_Down_Timer (H-6). Nothing here waits for anything but the next of these.

mod addresses;
mod adverts;
mod chores;
mod commands;
mod entries;
mod farewell;
mod groups;
mod leases;
mod machine;
mod news;
mod rest;
mod statics;
mod vmacs;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::ready::{Config, Transport, VirtualAddress};
use futures_util::FutureExt as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use vrrp::{Datagram, DiscardReason, Input, Output, Priority, StateName, peek_vrid};

use self::chores::{Chore, Farewell};
use self::leases::Leases;
use self::statics::Statics;
use self::vmacs::Vmacs;
use super::deadlines::Deadlines;
use super::discards::DiscardLog;
use super::igmp::LocalReportsOff;
use super::instance::{AddressWork, Heard, Instance, Surroundings};
use super::link_delay::LinkDelays;
use super::matching::predecessors;
use super::realtime;
use super::socket::{AdvertSocket, Carrier, Envelope, LARGEST_PACKET};
use super::suspend::SuspendWatch;
use super::sync::Group;
use super::timer::Timer;
use super::{BfdVerdict, Command, EngineHandle, EngineStatus};
use crate::announce::{Announcer, Target};
use crate::check::Verdict;
use crate::guard::ToGuard;
use crate::hold::{Entry, Fact, Hold, HoldError, Monitor, Outcome};
use crate::observe::event::{EventSender, Fault, Kind, Reason, State};
use crate::observe::explain;
use crate::observe::status::{Histogram, Stalls};
use crate::observe::tally::Tally;

/// Adverts read from one socket before timers get their turn.
const BATCH: usize = 64;
/// After a batch with this many discarded packets, or a full one, reading pauses: a flood arrives in batches, and
/// timers and address work get their turn between them.
const FLOOD: usize = 16;
/// How long. Adverts wait at most this much longer, and only during a flood.
const FLOOD_PAUSE: Duration = Duration::from_micros(500);
/// Batches read before a Backup acts on an expired timer: more than a receive buffer holds, so that everything that
/// was waiting is read, and a flood cannot hold the takeover up.
const BACKLOG: usize = 64;
/// Commands done between two readings of adverts, however many adverts there are.
const COMMAND_BATCH: usize = 16;
/// An advert may leave this part of its interval early, to leave together with another's …
const EARLY_PART: u32 = 100;
/// … but never by more than this. A thousand instances then cost ten wake-ups for each millisecond less.
const EARLY_MOST: Duration = Duration::from_millis(1);
/// Adverts of lower priority are told of at most this often: a peer that floods us with them must not crowd out the
/// events that matter.
const LOWER_PRIORITY_GAP: Duration = Duration::from_millis(500);
/// What somebody keeps undoing is mended again after this time.
const MEND_SOON: Duration = Duration::from_millis(200);
/// What the kernel refused is tried again after this time.
const MEND_REFUSED: Duration = Duration::from_secs(5);
/// Commands that may wait for the engine.
const COMMANDS: usize = 1024;
/// Why an address is taken off that a reload has removed from its instance.
const GONE: &str = "no longer configured";
/// Why an address is taken off a host that is not active.
const APPEARED: &str = "appeared while not active";
/// No Active_Down_Interval is shorter: one missed advert at 10 ms.
const SHORTEST_DOWN: Duration = Duration::from_millis(10);
/// Longest wait for the last address at the end.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(3);

/// The engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No thread, no runtime, no timer.
    #[error("cannot start the engine thread: {0}")]
    Thread(#[from] io::Error),
    /// No netlink.
    #[error(transparent)]
    Hold(#[from] HoldError),
}

/// The engine.
#[derive(Debug)]
pub struct Engine {
    handle: EngineHandle,
    thread: std::thread::JoinHandle<()>,
}

impl Engine {
    /// Starts the thread; returns when every instance is there and listens (or says why it does not).
    /// `verdicts`: what checks said before the start; `guard`: who undoes what this leaves behind if it dies.
    ///
    /// # Errors
    /// When the thread, its timer or netlink cannot be had.
    pub fn start(
        config: Arc<Config>,
        verdicts: HashMap<String, Verdict>,
        events: EventSender,
        guard: ToGuard,
    ) -> Result<Self, StartError> {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (ready, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("vipd-engine".into()).spawn(move || {
            let runtime =
                match tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build() {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = ready.send(Err(error.into()));
                        return;
                    }
                };
            LocalSet::new().block_on(&runtime, async {
                let (mut receiver, mut rest) = (receiver, rest::Rest { config, verdicts, applied: None });
                loop {
                    if rest::needs_nobody(&rest.config) {
                        let _ = ready.send(Ok(()));
                        match rest.until_needed(&mut receiver).await {
                            Some(woken) => rest = woken,
                            None => return,
                        }
                    }
                    let granted = realtime::apply(&rest.config.engine);
                    guard.watch_this_thread();
                    for refused in granted.refused {
                        events.send(Kind::Notice { text: refused });
                    }
                    match (
                        Loop::new(&rest.config, rest.verdicts.clone(), events.clone(), guard.clone()).await,
                        rest.applied,
                    ) {
                        (Ok(engine), applied) => {
                            if let Some(applied) = applied {
                                let _ = applied.send(());
                            }
                            return engine.run(receiver, ready).await;
                        }
                        (Err(error), None) => {
                            let _ = ready.send(Err(error));
                            return;
                        }
                        // It runs already, with listeners: whoever wanted more is told by the answer that is dropped.
                        (Err(error), Some(_)) => {
                            let text = format!("no instance takes part: {error}");
                            events.send(Kind::Notice { text });
                            rest = rest::Rest::after_refusal(&rest.config, rest.verdicts);
                        }
                    }
                }
            });
        })?;
        match started.recv() {
            Ok(Ok(())) => Ok(Self { handle: EngineHandle { commands }, thread }),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other("the thread ended at once").into()),
        }
    }

    /// The way to it.
    pub fn handle(&self) -> EngineHandle {
        self.handle.clone()
    }

    /// Has the thread ended (other than by [`EngineHandle::shutdown`], only by a panic)?
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Finished address work.
#[derive(Debug)]
struct Done {
    instance: usize,
    work: AddressWork,
    failures: Vec<(VirtualAddress, HoldError)>,
    entries: Vec<(Entry, Outcome)>,
    /// The firewall's refusal.
    refused: Option<String>,
}

/// In place of an interface's index: the socket hears them all, and the routing table says where adverts leave.
const ANY_INTERFACE: u32 = 0;

type SocketKey = (u32, Carrier);

struct Loop {
    instances: Vec<Option<Instance>>,
    /// In the order of the configuration.
    groups: Vec<Group>,
    sockets: HashMap<SocketKey, AdvertSocket>,
    /// Which instances an advert is for: interface, carrier, VRID.
    addressees: HashMap<(u32, Carrier, u8), Vec<usize>>,
    poll: Arc<Epoll>,
    hold: Hold,
    monitor: Monitor,
    announcer: Announcer,
    deadlines: Deadlines,
    verdicts: HashMap<String, Verdict>,
    link_delays: LinkDelays,
    /// Of the advert sockets, in octets.
    receive_buffer: Option<u32>,
    igmp: Option<LocalReportsOff>,
    bfd: HashMap<String, BfdVerdict>,
    virtual_addresses: HashSet<IpAddr>,
    /// Addresses of more than one instance, now or since a reload moved them.
    shared_addresses: HashSet<IpAddr>,
    events: EventSender,
    guard: ToGuard,
    discard_log: DiscardLog,
    discarded: Tally,
    lateness: Histogram,
    log_unknown_vrids: bool,
    /// Before this no instance takes part.
    not_before: Option<Instant>,
    reading_paused: Option<Instant>,
    /// Then everything that is not as it should be is tried again.
    mend_at: Option<Instant>,
    suspend: SuspendWatch,
    stalls: Stalls,
    finished: mpsc::UnboundedSender<Done>,
    finished_work: Option<mpsc::UnboundedReceiver<Done>>,
    statics: Statics,
    vmacs: Vmacs,
    leases: Leases,
    chores: mpsc::UnboundedSender<Chore>,
    finished_chores: Option<mpsc::UnboundedReceiver<Chore>>,
    farewell: Farewell,
    packet: Vec<u8>,
    scratch: Vec<u8>,
    order: Vec<usize>,
    stopping: Option<oneshot::Sender<()>>,
    stop_by: Option<Instant>,
}

impl Loop {
    async fn new(
        config: &Config,
        verdicts: HashMap<String, Verdict>,
        events: EventSender,
        guard: ToGuard,
    ) -> Result<Self, StartError> {
        let options = config.engine.clone();
        // What it is refused the engine thread is refused too, and has said so.
        let prepare = move || drop(realtime::apply(&options));
        let (hold, monitor) = crate::hold::open_with(prepare.clone(), guard.clone()).await?;
        let leases = Leases::start(config, prepare, &events);
        let (finished, finished_work) = mpsc::unbounded_channel();
        let (chores, finished_chores) = mpsc::unbounded_channel();
        let mut this = Self {
            instances: Vec::new(),
            groups: Vec::new(),
            sockets: HashMap::new(),
            addressees: HashMap::new(),
            poll: Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?),
            hold,
            monitor,
            announcer: Announcer::new(),
            deadlines: Deadlines::default(),
            verdicts,
            link_delays: LinkDelays::default(),
            receive_buffer: config.engine.receive_buffer,
            igmp: None,
            bfd: HashMap::new(),
            virtual_addresses: HashSet::new(),
            shared_addresses: HashSet::new(),
            events,
            guard,
            discard_log: DiscardLog::default(),
            discarded: Tally::default(),
            lateness: Histogram::default(),
            log_unknown_vrids: config.engine.log_unknown_vrids,
            not_before: None,
            reading_paused: None,
            mend_at: None,
            suspend: SuspendWatch::start(),
            stalls: Stalls::default(),
            finished,
            finished_work: Some(finished_work),
            statics: Statics::default(),
            vmacs: Vmacs::default(),
            leases,
            chores,
            finished_chores: Some(finished_chores),
            farewell: Farewell::default(),
            packet: vec![0; LARGEST_PACKET],
            scratch: Vec::with_capacity(LARGEST_PACKET),
            order: Vec::new(),
            stopping: None,
            stop_by: None,
        };
        this.prepare(config);
        this.apply(config);
        Ok(this)
    }

    /// What is done once, before anything else.
    fn prepare(&mut self, config: &Config) {
        let delay = start_delay(&config.engine, up_for());
        if !delay.is_zero() {
            self.not_before = Some(Instant::now() + delay);
            let text = format!("instances take part in {:.3} s, as configured", delay.as_secs_f64());
            self.events.send(Kind::Notice { text });
        }
        if config.engine.disable_local_igmp {
            match LocalReportsOff::new() {
                Ok(off) => self.igmp = Some(off),
                Err(error) => {
                    let text = format!("IGMP reports for local groups cannot be turned off: {error}");
                    self.events.send(Kind::Notice { text });
                }
            }
        }
    }

    async fn run(
        mut self,
        mut commands: mpsc::Receiver<Command>,
        ready: std::sync::mpsc::Sender<Result<(), StartError>>,
    ) {
        let watched =
            Timer::new().and_then(watch).and_then(|timer| Ok((timer, watch(Shared(self.poll.clone()))?)));
        let (mut timer, poll) = match watched {
            Ok(both) => both,
            Err(error) => {
                let _ = ready.send(Err(error.into()));
                return;
            }
        };
        let mut finished_work = self.finished_work.take().expect("taken once, here");
        let mut finished_chores = self.finished_chores.take().expect("taken once, here");
        let _ = ready.send(Ok(()));
        loop {
            if self.is_stopped() {
                return;
            }
            if let Err(error) = timer.get_mut().arm(self.next_deadline()) {
                self.events.send(Kind::Notice { text: format!("the engine's timer cannot be set: {error}") });
            }
            let reading = self.reading_paused.is_none();
            tokio::select! {
                biased;
                guard = timer.readable_mut() => {
                    if let Ok(mut guard) = guard {
                        guard.get_inner_mut().acknowledge();
                        guard.clear_ready();
                    }
                    self.handle_timers();
                }
                fact = self.monitor.next() => {
                    self.catch_up();
                    self.handle_fact(&fact);
                }
                Some(done) = finished_work.recv() => {
                    self.catch_up();
                    self.handle_done(done);
                }
                Some(chore) = finished_chores.recv() => self.handle_chore(chore),
                guard = poll.readable(), if reading => {
                    self.catch_up();
                    if let Ok(mut guard) = guard {
                        let _ = guard.try_io(|_| match self.read_ready() {
                            true => Ok(()),
                            false => Err(io::ErrorKind::WouldBlock.into()),
                        });
                    }
                    // Whoever floods us with adverts does not keep others from being heard.
                    for _ in 0..COMMAND_BATCH {
                        let Ok(command) = commands.try_recv() else { break };
                        self.handle_command(command);
                    }
                }
                command = commands.recv() => {
                    self.catch_up();
                    match command {
                        Some(command) => self.handle_command(command),
                        // Every handle is gone: the daemon is ending without having said so.
                        None => self.stop(None),
                    }
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        [
            self.deadlines.first(),
            self.announcer.poll_timeout(),
            self.reading_paused,
            self.not_before,
            self.mend_at,
            self.stop_by,
            self.link_delays.poll_timeout(),
            self.leases.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    // ---- timers ----

    fn handle_timers(&mut self) {
        let now = Instant::now();
        if self.reading_paused.is_some_and(|until| until <= now) {
            self.reading_paused = None;
        }
        if self.not_before.is_some_and(|until| until <= now) {
            self.not_before = None;
            self.refresh_all(&self.ids());
        }
        if self.mend_at.is_some_and(|at| at <= now) {
            self.mend_at = None;
            self.mend();
        }
        for name in self.link_delays.handle_timeout(now) {
            self.link_news(None, &name);
        }
        self.handle_sleep();
        let first = self.deadlines.due(now);
        while let Some((deadline, id)) = self.deadlines.due(now) {
            self.handle_instance_timer(id, deadline);
        }
        if let Some((first, _)) = first {
            self.send_together(first);
        }
        self.renew_leases();
        if self.announcer.poll_timeout().is_some_and(|at| at <= now) {
            self.announcer.handle_timeout(now);
        }
        self.report_announce_errors();
    }

    /// Sends the adverts that are due a moment after the first of this wake-up.
    ///
    /// Measured from that one's deadline, not from now: who leaves with whom stays the same from interval to interval,
    /// so the gap between two adverts of an instance stays its interval.
    fn send_together(&mut self, first: Instant) {
        while let Some((deadline, id)) = self.deadlines.due(first + EARLY_MOST) {
            let interval = self.instances[id]
                .as_ref()
                .filter(|instance| instance.is_active())
                .map(|instance| instance.config.advert_interval);
            if interval.is_none_or(|interval| !leaves_with(first, deadline, interval)) {
                return;
            }
            self.handle_instance_timer(id, deadline);
        }
    }

    /// After a sleep of the machine no timer is late, and nothing that was known is still true.
    fn handle_sleep(&mut self) {
        let slept = self.suspend.slept_since();
        self.stalls.slept += slept;
        if slept < SHORTEST_DOWN {
            return;
        }
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            if slept > instance.longest_lateness() {
                instance.lateness = slept;
                self.note_stall(slept);
                self.feed(id, Input::Resurrected);
            }
        }
    }

    fn note_stall(&mut self, lateness: Duration) {
        self.stalls.resurrected += 1;
        self.stalls.longest = self.stalls.longest.max(lateness);
    }

    /// Woken up for something else, and late all the same: who was stopped acts on its timers before it does anything
    /// that it had in hand.
    fn catch_up(&mut self) {
        let late = |deadline: Instant| Instant::now() > deadline + SHORTEST_DOWN;
        if self.deadlines.first().is_some_and(late) {
            self.handle_timers();
        }
    }

    fn handle_instance_timer(&mut self, id: usize, deadline: Instant) {
        let Some(instance) = self.instances[id].as_ref() else {
            self.deadlines.set(id, None);
            return;
        };
        let now = Instant::now();
        let lateness = now.saturating_duration_since(deadline);
        if !instance.is_active() {
            // H-6: what is waiting in the socket may say that somebody is active after all.
            if let Some(key) = instance.ifindex.map(|index| (index, instance.carrier())) {
                for _ in 0..BACKLOG {
                    if self.read_socket(key) != Some(BATCH) {
                        break;
                    }
                }
            }
            let still = self.instances[id].as_ref().and_then(|instance| instance.router.poll_timeout());
            if still != Some(deadline) {
                self.deadlines.set(id, still);
                return;
            }
        }
        self.lateness.record(lateness);
        let Some(instance) = self.instances[id].as_mut() else { return };
        instance.lateness = lateness;
        // An Active may have been replaced meanwhile; a Backup may have missed adverts that nobody kept for it.
        let asleep = lateness > instance.longest_lateness();
        if asleep {
            self.note_stall(lateness);
        }
        self.feed_at(now.max(deadline), id, if asleep { Input::Resurrected } else { Input::Timeout });
    }

    // ---- the end ----

    fn stop(&mut self, done: Option<oneshot::Sender<()>>) {
        if self.stop_by.is_none() {
            self.stop_by = Some(Instant::now() + SHUTDOWN_LIMIT);
            for group in 0..self.groups.len() {
                self.settle(group, self.groups[group].ids.first().copied());
            }
            // People are told in the order of the configuration.
            let rest = self.ids().into_iter().filter(|id| !self.order.contains(id));
            for id in self.order.iter().copied().chain(rest).collect::<Vec<_>>() {
                self.shut_down(id);
            }
            for group in 0..self.groups.len() {
                self.settled(group);
            }
        }
        self.stopping = self.stopping.take().or(done);
    }

    fn shut_down(&mut self, id: usize) {
        if self.instances[id].as_ref().is_some_and(|instance| instance.state == State::Fault) {
            // The machine has nothing to give up; people are told nevertheless.
            self.enter(Instant::now(), id, State::Initialize, Reason::Stopped);
        } else {
            self.feed(id, Input::Shutdown);
        }
    }

    /// Everything is off, or the limit is over.
    fn is_stopped(&mut self) -> bool {
        let Some(by) = self.stop_by else { return false };
        let idle = self.instances.iter().flatten().all(|instance| !instance.busy && instance.work.is_empty());
        let stopped = (idle && self.say_farewell()) || by <= Instant::now();
        if stopped && let Some(done) = self.stopping.take() {
            let _ = done.send(());
        }
        stopped
    }

    fn ids(&self) -> Vec<usize> {
        (0..self.instances.len()).filter(|id| self.instances[*id].is_some()).collect()
    }
}

/// Wakes the loop when `inner` is readable.
fn watch<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: both types that come here own their descriptor, give always the same one, and keep it open until
    // they are dropped together with the `AsyncFd`.
    unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }.map_err(io::Error::from)
}

/// Lets tokio watch the epoll set while the loop adds sockets to it.
struct Shared(Arc<Epoll>);

impl AsRawFd for Shared {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

/// Time since 1970, for signatures.
fn wall_clock() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

fn data_of((ifindex, carrier): SocketKey) -> u64 {
    u64::from(ifindex) << 2 | carrier as u64
}

fn key_of(data: u64) -> SocketKey {
    let carrier = Carrier::ALL[(data & 3) as usize];
    (u32::try_from(data >> 2).expect("made by data_of from 32 bits"), carrier)
}

/// The kernel would show the same. With anything else it has to be put on anew.
fn is_same_address(a: &VirtualAddress, b: &VirtualAddress) -> bool {
    VirtualAddress { track: b.track, place: b.place.clone(), ..a.clone() } == *b
}

/// May an advert leave as early as the first of a wake-up?
fn leaves_with(first: Instant, deadline: Instant, interval: Duration) -> bool {
    deadline.saturating_duration_since(first) <= (interval / EARLY_PART).min(EARLY_MOST)
}

/// How long the instances stay out of it after the start: the longer of both delays, the one that counts from the
/// start of the host less the time that it is up.
fn start_delay(options: &config::ready::Engine, up: Duration) -> Duration {
    options.startup_delay.max(options.delay_after_boot.saturating_sub(up))
}

/// Since the host was started, times of sleep included.
fn up_for() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The Active_Down_Timer ran out: because nothing came, or because what came lost against us.
fn why_nobody_is_active(now: Instant, instance: &Instance) -> Reason {
    let ours = instance.standing.priority;
    match instance.heard {
        Some(heard) if heard.priority < ours && now < heard.at + 2 * heard.interval => {
            Reason::Preempted { peer: heard.address, theirs: heard.priority, ours }
        }
        Some(heard) => {
            Reason::ActiveDown { peer: Some(heard.address), silence: now.saturating_duration_since(heard.at) }
        }
        None => Reason::ActiveDown { peer: None, silence: now.saturating_duration_since(instance.entered) },
    }
}

/// In FAULT only until checks have given their first result.
fn waits_only(faults: &[Fault]) -> bool {
    faults.iter().all(Fault::only_waits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advert_leaves_at_most_a_hundredth_of_its_interval_and_a_millisecond_early() {
        let first = Instant::now();
        let together = |after_us, interval_ms| {
            leaves_with(first, first + Duration::from_micros(after_us), Duration::from_millis(interval_ms))
        };
        assert!(together(100, 10) && !together(101, 10));
        assert!(together(1000, 100) && !together(1001, 100));
        assert!(together(1000, 40_950) && !together(1001, 40_950));
    }

    /// keepalived-behaviour §4.2: the longer of the two counts, the second less the uptime.
    #[test]
    fn the_longer_delay_counts() {
        let seconds = Duration::from_secs;
        let options = |startup, boot| config::ready::Engine {
            startup_delay: seconds(startup),
            delay_after_boot: seconds(boot),
            ..config::ready::Engine::default()
        };
        assert_eq!(start_delay(&options(5, 0), seconds(1000)), seconds(5));
        assert_eq!(start_delay(&options(5, 30), seconds(10)), seconds(20));
        assert_eq!(start_delay(&options(5, 30), seconds(28)), seconds(5));
        assert_eq!(start_delay(&options(0, 30), seconds(31)), seconds(0));
    }
}
