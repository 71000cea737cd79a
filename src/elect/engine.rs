//! The engine thread: one loop over timers, kernel news, finished address work, adverts and commands.
//!
//! Order matters: timers first, since lateness costs the most; adverts are read before a Backup acts on an
//! expired Active_Down_Timer (H-6). Nothing here waits for anything but the next of these.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use config::ready::{Config, Family, Transport, VirtualAddress};
use futures_util::FutureExt as _;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::task::LocalSet;
use vrrp::{Datagram, DiscardReason, Input, Output, Priority, StateName, peek_vrid};

use super::deadlines::Deadlines;
use super::discards::DiscardLog;
use super::instance::{AddressWork, Heard, Instance, Surroundings};
use super::realtime;
use super::socket::{AdvertSocket, Envelope, LARGEST_PACKET};
use super::suspend::SuspendWatch;
use super::timer::Timer;
use super::{Command, EngineHandle, EngineStatus};
use crate::announce::{Announcer, Target};
use crate::check::Verdict;
use crate::hold::{Fact, Hold, HoldError, Monitor};
use crate::observe::event::{EventSender, Fault, Kind, Reason, State};
use crate::observe::explain;
use crate::observe::status::Histogram;

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
    ///
    /// # Errors
    /// When the thread, its timer or netlink cannot be had.
    pub fn start(config: Arc<Config>, events: EventSender) -> Result<Self, StartError> {
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
            let granted = realtime::apply(&config.engine);
            for refused in granted.refused {
                events.send(Kind::Notice { text: refused });
            }
            LocalSet::new().block_on(&runtime, async {
                match Loop::new(&config, events).await {
                    Ok(engine) => engine.run(receiver, ready).await,
                    Err(error) => {
                        let _ = ready.send(Err(error));
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
}

type SocketKey = (u32, Family);

struct Loop {
    instances: Vec<Option<Instance>>,
    sockets: HashMap<SocketKey, AdvertSocket>,
    /// Which instances an advert is for: interface, family, VRID.
    addressees: HashMap<(u32, Family, u8), Vec<usize>>,
    poll: Arc<Epoll>,
    hold: Hold,
    monitor: Monitor,
    announcer: Announcer,
    deadlines: Deadlines,
    verdicts: HashMap<String, Verdict>,
    virtual_addresses: HashSet<IpAddr>,
    /// Addresses of more than one instance, now or since a reload moved them.
    shared_addresses: HashSet<IpAddr>,
    events: EventSender,
    discard_log: DiscardLog,
    discarded: BTreeMap<String, u64>,
    lateness: Histogram,
    log_unknown_vrids: bool,
    /// Before this no instance takes part.
    not_before: Option<Instant>,
    reading_paused: Option<Instant>,
    /// Then everything that is not as it should be is tried again.
    mend_at: Option<Instant>,
    suspend: SuspendWatch,
    finished: mpsc::UnboundedSender<Done>,
    finished_work: Option<mpsc::UnboundedReceiver<Done>>,
    packet: Vec<u8>,
    scratch: Vec<u8>,
    order: Vec<usize>,
    stopping: Option<oneshot::Sender<()>>,
    stop_by: Option<Instant>,
}

impl Loop {
    async fn new(config: &Config, events: EventSender) -> Result<Self, StartError> {
        let options = config.engine.clone();
        // What it is refused the engine thread is refused too, and has said so.
        let (hold, monitor) = crate::hold::open_with(move || drop(realtime::apply(&options))).await?;
        let (finished, finished_work) = mpsc::unbounded_channel();
        let mut this = Self {
            instances: Vec::new(),
            sockets: HashMap::new(),
            addressees: HashMap::new(),
            poll: Arc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(io::Error::from)?),
            hold,
            monitor,
            announcer: Announcer::new(),
            deadlines: Deadlines::default(),
            verdicts: HashMap::new(),
            virtual_addresses: HashSet::new(),
            shared_addresses: HashSet::new(),
            events,
            discard_log: DiscardLog::default(),
            discarded: BTreeMap::new(),
            lateness: Histogram::default(),
            log_unknown_vrids: config.engine.log_unknown_vrids,
            not_before: Some(config.engine.startup_delay)
                .filter(|delay| !delay.is_zero())
                .map(|delay| Instant::now() + delay),
            reading_paused: None,
            mend_at: None,
            suspend: SuspendWatch::start(),
            finished,
            finished_work: Some(finished_work),
            packet: vec![0; LARGEST_PACKET],
            scratch: Vec::with_capacity(LARGEST_PACKET),
            order: Vec::new(),
            stopping: None,
            stop_by: None,
        };
        this.apply(config);
        Ok(this)
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
                fact = self.monitor.next() => self.handle_fact(&fact),
                Some(done) = finished_work.recv() => self.handle_done(done),
                guard = poll.readable(), if reading => {
                    if let Ok(mut guard) = guard {
                        let _ = guard.try_io(|_| match self.read_ready() {
                            0 => Err(io::ErrorKind::WouldBlock.into()),
                            _ => Ok(()),
                        });
                    }
                    // Whoever floods us with adverts does not keep others from being heard.
                    for _ in 0..COMMAND_BATCH {
                        let Ok(command) = commands.try_recv() else { break };
                        self.handle_command(command);
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.handle_command(command),
                    // Every handle is gone: the daemon is ending without having said so.
                    None => self.stop(None),
                },
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
            for id in self.ids() {
                self.refresh(id);
            }
        }
        if self.mend_at.is_some_and(|at| at <= now) {
            self.mend_at = None;
            self.mend();
        }
        self.handle_sleep();
        while let Some((deadline, id)) = self.deadlines.due(now) {
            self.handle_instance_timer(id, deadline);
        }
        if self.announcer.poll_timeout().is_some_and(|at| at <= now) {
            self.announcer.handle_timeout(now);
        }
        self.report_announce_errors();
    }

    /// After a sleep of the machine no timer is late, and nothing that was known is still true.
    fn handle_sleep(&mut self) {
        let slept = self.suspend.slept_since();
        if slept < SHORTEST_DOWN {
            return;
        }
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            if slept > instance.router.active_down_interval() {
                instance.lateness = slept;
                self.feed(id, Input::Resurrected);
            }
        }
    }

    fn handle_instance_timer(&mut self, id: usize, deadline: Instant) {
        let Some(instance) = self.instances[id].as_ref() else {
            self.deadlines.set(id, None);
            return;
        };
        let lateness = Instant::now().saturating_duration_since(deadline);
        if !instance.is_active() {
            // H-6: what is waiting in the socket may say that somebody is active after all.
            if let Some(key) = instance.ifindex.map(|index| (index, instance.config.family)) {
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
        let asleep = lateness > instance.router.active_down_interval();
        self.feed(id, if asleep { Input::Resurrected } else { Input::Timeout });
    }

    // ---- adverts ----

    /// Reads every socket that has something; gives how many sockets had.
    fn read_ready(&mut self) -> usize {
        let mut ready = [EpollEvent::empty(); 32];
        let count = self.poll.wait(&mut ready, EpollTimeout::ZERO).unwrap_or(0);
        for event in &ready[..count] {
            self.read_socket(key_of(event.data()));
        }
        count
    }

    /// Reads one batch; gives how many packets there were. `None`: there is no such socket.
    fn read_socket(&mut self, key: SocketKey) -> Option<usize> {
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

    fn handle_datagram(&mut self, now: Instant, key: SocketKey, datagram: &Datagram<'_>) -> bool {
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
            match instance.ladder.judge(datagram) {
                Ok(accepted) => {
                    instance.counters.adverts_received += 1;
                    if accepted.priority == Priority::RELEASE {
                        instance.counters.priority_zero_received += 1;
                    }
                    for oddity in accepted.oddities.iter() {
                        *instance.counters.oddities.entry(oddity.name().into()).or_default() += 1;
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

    fn discard(
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
                count(&mut instance.counters.discarded, reason.name());
                instance.config.name.as_str()
            }
            None => {
                count(&mut self.discarded, reason.name());
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

    // ---- the machine ----

    /// Gives one input to a machine and does all that it says, in its order.
    fn feed(&mut self, id: usize, input: Input) {
        self.feed_at(Instant::now(), id, input);
    }

    /// As [`Loop::feed`], for what happened a moment ago.
    fn feed_at(&mut self, now: Instant, id: usize, input: Input) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        // A machine's time never goes backwards.
        let now = now.max(instance.fed);
        instance.fed = now;
        instance.router.handle_input(now, input);
        let mut outputs: Vec<Output> = std::iter::from_fn(|| instance.router.poll_output()).collect();
        // The request for the addresses travels to the kernel by another thread; the advert goes out meanwhile.
        // On the wire the order stays: the announcements wait for both.
        if let Some(position) = outputs.iter().position(|output| *output == Output::AddAddresses) {
            outputs[..=position].rotate_right(1);
        }
        for output in outputs {
            self.handle_output(now, id, output);
        }
        let deadline = self.instances[id].as_ref().and_then(|instance| instance.router.poll_timeout());
        self.deadlines.set(id, deadline);
        self.start_work(id);
    }

    fn handle_output(&mut self, now: Instant, id: usize, output: Output) {
        match output {
            Output::SendAdvertisement(priority) => self.send_advert(id, priority),
            Output::AddAddresses => {
                self.queue(id, AddressWork::Add);
                // On its way before anything else is told: every microsecond here is one without the VIP.
                self.start_work(id);
            }
            Output::AnnounceAddresses => self.queue(id, AddressWork::Announce),
            Output::RemoveAddresses => {
                self.announcer.stop(id);
                self.queue(id, AddressWork::Remove);
                self.start_work(id);
            }
            Output::AnnounceAgain => self.announcer.lower_priority_heard(now, id),
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
                count(&mut instance.counters.oddities, "duplicate_source");
                let name = &instance.config.name;
                let text =
                    || format!("{source} is our own source address: used twice, or adverts are reflected");
                let event = self.discard_log.record(now, name, source, "duplicate_source", text);
                event.into_iter().for_each(|kind| self.events.send(kind));
            }
            Output::Transition { to, reason, .. } => self.handle_transition(now, id, to, &reason),
        }
    }

    fn handle_transition(&mut self, now: Instant, id: usize, to: StateName, reason: &vrrp::Reason) {
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
        };
        let to = match to {
            StateName::Initialize if matches!(reason, Reason::Fault { .. }) => State::Fault,
            StateName::Initialize => State::Initialize,
            StateName::Backup => State::Backup,
            StateName::Active => State::Active,
        };
        self.enter(now, id, to, reason);
    }

    fn enter(&mut self, now: Instant, id: usize, to: State, reason: Reason) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        let from = std::mem::replace(&mut instance.state, to);
        if from != State::Active && to != State::Fault {
            // What was heard before belongs to another life; a Backup that was Active knows who beat it.
            instance.heard = None;
        }
        instance.since = SystemTime::now();
        instance.entered = now;
        instance.last_reason = Some(reason.clone());
        count(&mut instance.counters.transitions, reason.name());
        if to == State::Active {
            instance.counters.became_active += 1;
        }
        self.events.send(Kind::Transition {
            instance: instance.config.name.clone(),
            from,
            to,
            reason,
            priority: instance.standing.priority,
        });
    }

    fn send_advert(&mut self, id: usize, priority: Priority) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        let (Some(source), Some(ifindex)) = (instance.source, instance.ifindex) else { return };
        let Some(socket) = self.sockets.get(&(ifindex, instance.config.family)) else { return };
        let identification = instance.next_identification();
        let mut failed = false;
        for (destination, ttl) in instance.destinations() {
            let message = instance.advert(priority, destination);
            let envelope = Envelope { source, destination, ttl, identification };
            failed |= socket.send(&envelope, message, &mut self.scratch).is_err();
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

    // ---- addresses ----

    fn queue(&mut self, id: usize, work: AddressWork) {
        if let Some(instance) = self.instances[id].as_mut() {
            instance.work.push_back(work);
        }
    }

    /// Starts the next piece of work of an instance unless one is going on.
    fn start_work(&mut self, id: usize) {
        loop {
            let Some(instance) = self.instances[id].as_mut() else { return };
            if instance.busy {
                return;
            }
            let Some(work) = instance.work.pop_front() else { return };
            let mut addresses: Vec<VirtualAddress> = match &work {
                AddressWork::Announce => {
                    self.announce(id);
                    continue;
                }
                AddressWork::Add => {
                    instance.refused.clear();
                    instance.holds().cloned().collect()
                }
                AddressWork::Remove => {
                    let links = self.hold.links();
                    instance.holds().filter(|address| !instance.owns(&links, address)).cloned().collect()
                }
                AddressWork::Restore(addresses) | AddressWork::Clean(addresses, _) => addresses.clone(),
            };
            if matches!(work, AddressWork::Remove | AddressWork::Clean(..)) {
                addresses.retain(|address| !self.is_held_by_another(id, address));
            }
            let work = match work {
                AddressWork::Clean(_, because) => AddressWork::Clean(addresses.clone(), because),
                work => work,
            };
            let Some(instance) = self.instances[id].as_mut() else { return };
            instance.busy = true;
            let hold = self.hold.clone();
            let finished = self.finished.clone();
            let mut work = Box::pin(async move {
                let failures = match work {
                    AddressWork::Remove | AddressWork::Clean(..) => hold.remove(&addresses).await,
                    AddressWork::Add | AddressWork::Restore(_) | AddressWork::Announce => {
                        hold.add(&addresses).await
                    }
                };
                let failures =
                    failures.into_iter().map(|(index, error)| (addresses[index].clone(), error)).collect();
                // The receiver lives as long as the loop; after it nobody asks.
                let _ = finished.send(Done { instance: id, work, failures });
            });
            // The requests leave with the first poll, the answers are waited for beside the loop.
            if work.as_mut().now_or_never().is_none() {
                tokio::task::spawn_local(work);
            }
            return;
        }
    }

    fn handle_done(&mut self, done: Done) {
        let now = Instant::now();
        if !done.failures.is_empty() {
            self.mend_within(MEND_REFUSED);
        }
        let Some(instance) = self.instances[done.instance].as_mut() else { return };
        instance.busy = false;
        let name = instance.config.name.clone();
        for (address, error) in &done.failures {
            instance.refused.insert(address.address);
            self.events.send(Kind::AddressFailed {
                instance: name.clone(),
                address: address.address,
                interface: address.interface.clone(),
                error: error.to_string(),
            });
        }
        let failed = |address: &VirtualAddress| done.failures.iter().any(|(other, _)| other == address);
        match &done.work {
            AddressWork::Restore(addresses) => {
                for address in addresses.iter().filter(|address| !failed(address)) {
                    if let Some(target) = self.target(address) {
                        self.announcer.once(now, done.instance, target);
                    }
                    self.events.send(Kind::AddressRestored {
                        instance: name.clone(),
                        address: address.address,
                        interface: address.interface.clone(),
                    });
                }
            }
            AddressWork::Clean(addresses, because) => {
                for address in addresses.iter().filter(|address| !failed(address)) {
                    self.events.send(Kind::AddressRemoved {
                        instance: name.clone(),
                        address: address.address,
                        interface: address.interface.clone(),
                        because: (*because).into(),
                    });
                }
            }
            AddressWork::Add | AddressWork::Remove | AddressWork::Announce => {}
        }
        let took_off = matches!(done.work, AddressWork::Remove | AddressWork::Clean(..));
        self.start_work(done.instance);
        self.reconcile(done.instance, APPEARED);
        self.forget_if_done(done.instance);
        if took_off && !self.shared_addresses.is_empty() {
            // A reload may have given the address to another instance: what we take off is no news.
            for id in self.ids().into_iter().filter(|id| *id != done.instance) {
                if self.instances[id].as_ref().is_some_and(Instance::is_active) {
                    self.reconcile(id, APPEARED);
                }
            }
        }
        if let AddressWork::Clean(_, GONE) = done.work {
            // It counted as an ordinary address of its host for a moment.
            for id in self.ids() {
                self.refresh(id);
            }
        }
    }

    /// Notes which addresses belong to more than one instance, those of the present configuration and of the one that
    /// comes taken together.
    fn note_shared(&mut self, config: &Config, order: &[usize]) {
        let present = self.instances.iter().enumerate();
        let present = present.filter_map(|(id, instance)| Some((id, &instance.as_ref()?.config)));
        let coming = order.iter().copied().zip(&config.instances);
        let mut owners = HashMap::new();
        let mut shared = HashSet::new();
        for (id, instance) in present.chain(coming) {
            for address in instance.addresses.iter().chain(&instance.excluded) {
                if *owners.entry(address.address).or_insert(id) != id {
                    shared.insert(address.address);
                }
            }
        }
        self.shared_addresses.extend(shared);
    }

    /// Another instance is active with this address: it is not this one's to take off.
    fn is_held_by_another(&self, id: usize, address: &VirtualAddress) -> bool {
        self.shared_addresses.contains(&address.address)
            && self.instances.iter().enumerate().any(|(other, instance)| {
                let held = |instance: &Instance| {
                    instance.is_active()
                        && instance.holds().any(|one| {
                            (one.address, &one.interface, one.prefix_length)
                                == (address.address, &address.interface, address.prefix_length)
                        })
                };
                other != id && instance.as_ref().is_some_and(held)
            })
    }

    /// Tries again what the kernel refused, and what was undone too often.
    fn mend(&mut self) {
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            instance.refused.clear();
            if instance.socket_error.is_some() {
                self.refresh(id);
            }
            self.reconcile(id, APPEARED);
        }
    }

    fn mend_within(&mut self, time: Duration) {
        let at = Instant::now() + time;
        self.mend_at = Some(self.mend_at.map_or(at, |before| before.min(at)));
    }

    fn announce(&mut self, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        if !instance.is_active() {
            return;
        }
        let targets = instance.holds().filter_map(|address| self.target(address)).collect();
        let (arp, na) = (&instance.config.gratuitous_arp, &instance.config.neighbor_advertisements);
        self.announcer.begin(Instant::now(), id, targets, arp, na);
        self.report_announce_errors();
    }

    /// Where and from which MAC an address is announced; nowhere on interfaces without ARP.
    fn target(&self, address: &VirtualAddress) -> Option<Target> {
        let links = self.hold.links();
        let link = links.by_name(&address.interface).filter(|link| link.arp)?;
        Some(Target {
            ifindex: link.index,
            interface: link.name.clone(),
            mac: link.mac?,
            address: address.address,
        })
    }

    fn report_announce_errors(&mut self) {
        for error in self.announcer.take_errors() {
            self.events.send(Kind::Notice { text: error.to_string() });
        }
    }

    /// Compares what the kernel has with what should be, and mends the difference.
    fn reconcile(&mut self, id: usize, because: &'static str) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        // Work that is under way changes the table; this is called again when it is done.
        if instance.busy || !instance.work.is_empty() || instance.retired {
            return;
        }
        let mut postponed = false;
        let links = self.hold.links();
        let present = |address: &VirtualAddress| {
            links.by_name(&address.interface).map(|link| link.address(address.address).is_some())
        };
        let work = if instance.is_active() {
            let missing: Vec<_> = instance
                .holds()
                .filter(|address| address.track && !instance.refused.contains(&address.address))
                .filter(|address| present(address) == Some(false))
                .cloned()
                .collect();
            let permitted = missing.is_empty() || instance.restores.permits(Instant::now());
            postponed = !permitted;
            (!missing.is_empty() && permitted).then_some(AddressWork::Restore(missing))
        } else {
            let foreign: Vec<_> = instance
                .holds()
                .filter(|address| {
                    !instance.refused.contains(&address.address) && !instance.owns(&links, address)
                })
                .filter_map(|address| {
                    let found = links.by_name(&address.interface)?.address(address.address)?;
                    // Somebody may have put it on with another prefix length; the kernel wants to hear that one.
                    let prefix_length =
                        if address.peer.is_some() { address.prefix_length } else { found.prefix };
                    Some(VirtualAddress { prefix_length, ..address.clone() })
                })
                .collect();
            (!foreign.is_empty()).then_some(AddressWork::Clean(foreign, because))
        };
        drop(links);
        if postponed {
            self.mend_within(MEND_SOON);
        }
        let work = match work {
            Some(AddressWork::Clean(mut foreign, because)) => {
                foreign.retain(|address| !self.is_held_by_another(id, address));
                (!foreign.is_empty()).then_some(AddressWork::Clean(foreign, because))
            }
            work => work,
        };
        if let Some(work) = work {
            self.queue(id, work);
            self.start_work(id);
        }
    }

    // ---- kernel news ----

    fn handle_fact(&mut self, fact: &Fact) {
        match fact {
            Fact::LinkChanged { index, name, mac_changed, .. } => {
                self.link_news(*index, name);
                if *mac_changed {
                    self.announce_again_from(name);
                }
            }
            Fact::LinkRemoved { index, name } => {
                self.sockets.retain(|(ifindex, _), _| ifindex != index);
                self.link_news(*index, name);
            }
            Fact::AddressAdded { index, address, .. } | Fact::AddressRemoved { index, address, .. } => {
                self.address_news(*index, *address);
            }
            Fact::Overrun => {
                for id in self.ids() {
                    self.refresh(id);
                    self.reconcile(id, APPEARED);
                }
            }
        }
    }

    fn link_news(&mut self, index: u32, name: &str) {
        for id in self.ids() {
            let concerned = self.instances[id].as_ref().is_some_and(|instance| {
                instance.ifindex == Some(index)
                    || instance.config.interface == name
                    || instance.config.track_interfaces.iter().any(|track| track.interface == name)
                    || instance.holds().any(|address| address.interface == name)
            });
            if concerned {
                if let Some(instance) = self.instances[id].as_mut() {
                    instance.refused.clear();
                }
                self.refresh(id);
                self.reconcile(id, APPEARED);
            }
        }
    }

    /// The interface has another MAC address: hosts have to learn it.
    fn announce_again_from(&mut self, name: &str) {
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

    fn address_news(&mut self, index: u32, address: IpAddr) {
        let is_virtual = self.virtual_addresses.contains(&address);
        for id in self.ids() {
            let Some(instance) = self.instances[id].as_mut() else { continue };
            if is_virtual && instance.holds().any(|one| one.address == address) {
                instance.refused.remove(&address);
                self.reconcile(id, APPEARED);
            } else if !is_virtual && instance.ifindex == Some(index) {
                self.refresh(id);
            }
        }
    }

    /// Looks at everything around an instance again and tells its machine what changed.
    fn refresh(&mut self, id: usize) {
        let started = self.not_before.is_none() && self.stop_by.is_none();
        self.open_socket(id);
        let links = self.hold.links();
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.retired) else { return };
        let around = Surroundings {
            links: &links,
            verdicts: &self.verdicts,
            virtual_addresses: &self.virtual_addresses,
        };
        let (source, before) = (instance.source, instance.standing.clone());
        let faults_before = instance.faults.clone();
        instance.look_around(around);
        drop(links);
        let (state, faulty) = (instance.state, !instance.faults.is_empty());
        let participates = matches!(state, State::Backup | State::Active);
        let new_source = instance.source.filter(|_| instance.source != source);
        let priority = instance.standing.priority;

        if let Some(source) = new_source {
            self.feed(id, Input::PrimaryAddressChanged(source));
        }
        if priority != before.priority {
            self.priority_changed(id, before.priority);
        }
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
            if started && waits_only(&faults_before) && !waits {
                // It only waited for first results until now; this is the failure that people are told of.
                let faults = instance.faults.clone();
                self.enter(Instant::now(), id, State::Fault, Reason::Fault { faults });
            }
        }
    }

    fn priority_changed(&mut self, id: usize, from: u8) {
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

    // ---- sockets ----

    /// Makes sure that the socket an instance needs is open, has joined its group and lets its VRID pass.
    fn open_socket(&mut self, id: usize) {
        let links = self.hold.links();
        let Some(instance) = self.instances[id].as_mut().filter(|instance| !instance.retired) else { return };
        let ifindex = links.by_name(&instance.config.interface).map(|link| link.index);
        let family = instance.config.family;
        instance.socket_error = None;
        let Some(ifindex) = ifindex else {
            return;
        };
        let key = (ifindex, family);
        let is_new = !self.sockets.contains_key(&key);
        let opened = match self.sockets.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => Ok(entry.into_mut()),
            std::collections::hash_map::Entry::Vacant(entry) => {
                AdvertSocket::open(family, ifindex, &instance.config.interface).map(|socket| {
                    let watched = EpollEvent::new(EpollFlags::EPOLLIN, data_of(key));
                    // Fails only without memory; adverts would then be read before each deadline (H-6).
                    let _ = self.poll.add(socket.as_fd(), watched);
                    entry.insert(socket)
                })
            }
        };
        let joined = opened.and_then(|socket| match instance.config.transport {
            Transport::Multicast { group } => socket.join(group),
            Transport::Unicast { .. } => Ok(()),
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
    }

    /// From now on adverts of this VRID on this socket are for this instance.
    fn address_adverts(&mut self, key: SocketKey, id: usize) {
        let Some(instance) = self.instances[id].as_ref() else { return };
        let vrid = instance.config.vrid;
        if self.addressees.get(&(key.0, key.1, vrid)).is_some_and(|ids| ids.contains(&id)) {
            return;
        }
        for ((_, family, other), ids) in &mut self.addressees {
            // The interface was made anew, with another index.
            if *family == key.1 && *other == vrid {
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

    fn filter_socket(&self, key: SocketKey) {
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

    // ---- commands ----

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Verdict { check, verdict } => {
                let concerned: Vec<usize> = self
                    .ids()
                    .into_iter()
                    .filter(|id| {
                        self.instances[*id].as_ref().is_some_and(|instance| {
                            instance.config.track_checks.iter().any(|track| track.check == check)
                        })
                    })
                    .collect();
                self.verdicts.insert(check, verdict);
                for id in concerned {
                    self.refresh(id);
                }
            }
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

    fn status(&self) -> EngineStatus {
        let now = Instant::now();
        let links = self.hold.links();
        let instances = self
            .order
            .iter()
            .filter_map(|id| {
                let mut status = self.instances[*id].as_ref()?.status(now, &links);
                status.counters.announcements_sent = self.announcer.sent(*id);
                Some(status)
            })
            .collect();
        EngineStatus { instances, lateness: self.lateness.clone(), discarded: self.discarded.clone() }
    }

    /// Runs another configuration: new instances start, gone ones stop, changed ones change in place.
    fn apply(&mut self, config: &Config) {
        let now = Instant::now();
        // One that was removed a moment ago is on its way out, and is no part of this.
        let mut left: HashMap<String, usize> = self
            .ids()
            .into_iter()
            .filter_map(|id| Some((self.instances[id].as_ref().filter(|one| !one.retired)?, id)))
            .map(|(instance, id)| (instance.config.name.clone(), id))
            .collect();
        let mut kept = Vec::new();
        let mut new = Vec::new();
        let mut order = Vec::new();
        let is_before = |this: &Self, id: usize, wanted| {
            this.instances[id].as_ref().is_some_and(|instance| is_same_router(&instance.config, wanted))
        };
        // By name first; what is left may have another name now.
        let mut before: Vec<Option<usize>> = config
            .instances
            .iter()
            .map(|wanted| left.get(&wanted.name).copied().filter(|id| is_before(self, *id, wanted)))
            .collect();
        left.retain(|_, id| !before.contains(&Some(*id)));
        for (wanted, found) in config.instances.iter().zip(&mut before) {
            if found.is_none()
                && let Some(name) =
                    left.iter().find(|(_, id)| is_before(self, **id, wanted)).map(|(n, _)| n.clone())
            {
                *found = left.remove(&name);
            }
        }
        for (wanted, before) in config.instances.iter().zip(before) {
            let id = match before {
                Some(id) => {
                    kept.push((id, wanted));
                    id
                }
                None => {
                    self.instances.push(Some(Instance::new(wanted.clone(), now)));
                    new.push(self.instances.len() - 1);
                    self.instances.len() - 1
                }
            };
            order.push(id);
        }
        self.note_shared(config, &order);
        for id in left.into_values() {
            self.retire(id);
        }
        self.order = order;
        self.log_unknown_vrids = config.engine.log_unknown_vrids;
        self.virtual_addresses = config
            .instances
            .iter()
            .flat_map(|instance| instance.addresses.iter().chain(&instance.excluded))
            .map(|address| address.address)
            .collect();
        for (id, wanted) in kept {
            self.reconfigure(id, wanted);
        }
        for id in &new {
            // Addresses from a former life go first, before any advert.
            self.reconcile(*id, "left from a former life");
            self.refresh(*id);
        }
        // Nobody listens there any more.
        self.sockets.retain(|key, _| self.addressees.keys().any(|one| (one.0, one.1) == *key));
        let keys: BTreeSet<(u32, bool)> =
            self.sockets.keys().map(|(index, family)| (*index, *family == Family::Ipv6)).collect();
        for (index, is_v6) in keys {
            self.filter_socket((index, if is_v6 { Family::Ipv6 } else { Family::Ipv4 }));
        }
    }

    /// Gives up what it holds and forgets it when that is done.
    fn retire(&mut self, id: usize) {
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

    fn forget_if_done(&mut self, id: usize) {
        let done = |instance: &Instance| instance.retired && !instance.busy && instance.work.is_empty();
        if self.instances[id].as_ref().is_some_and(done) {
            self.instances[id] = None;
            self.deadlines.set(id, None);
        }
    }

    fn reconfigure(&mut self, id: usize, wanted: &config::ready::Instance) {
        let Some(instance) = self.instances[id].as_mut() else { return };
        if instance.config == *wanted {
            return;
        }
        let wants = |address: &VirtualAddress| {
            wanted.addresses.iter().chain(&wanted.excluded).any(|one| is_same_address(one, address))
        };
        let gone: Vec<_> = instance.holds().filter(|address| !wants(address)).cloned().collect();
        let has_more = wanted
            .addresses
            .iter()
            .chain(&wanted.excluded)
            .any(|address| !instance.holds().any(|one| is_same_address(one, address)));
        // What is under way may put on, or is to take off, what is no longer written.
        let moving = instance.busy || !instance.work.is_empty();
        let active = instance.is_active();
        instance.reconfigure(wanted.clone());
        if (active || moving) && !gone.is_empty() {
            self.queue(id, AddressWork::Clean(gone, GONE));
        }
        if active && has_more {
            self.queue(id, AddressWork::Add);
            self.queue(id, AddressWork::Announce);
        } else if active && let Some(instance) = self.instances[id].as_ref() {
            let targets = instance.holds().filter_map(|address| self.target(address)).collect();
            let (arp, na) = (&instance.config.gratuitous_arp, &instance.config.neighbor_advertisements);
            self.announcer.reconfigure(Instant::now(), id, targets, arp, na);
        }
        self.start_work(id);
        self.refresh(id);
        if let Some(instance) = self.instances[id].as_ref() {
            let config = instance.router_config();
            self.feed(id, Input::Reconfigured(config));
        }
    }

    // ---- the end ----

    fn stop(&mut self, done: Option<oneshot::Sender<()>>) {
        if self.stop_by.is_none() {
            self.stop_by = Some(Instant::now() + SHUTDOWN_LIMIT);
            for id in self.ids() {
                self.shut_down(id);
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
        let stopped = idle || by <= Instant::now();
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

fn data_of((ifindex, family): SocketKey) -> u64 {
    u64::from(ifindex) << 1 | u64::from(family == Family::Ipv6)
}

fn key_of(data: u64) -> SocketKey {
    let family = if data & 1 == 1 { Family::Ipv6 } else { Family::Ipv4 };
    (u32::try_from(data >> 1).expect("made by data_of from 32 bits"), family)
}

/// Same virtual router: it can change in place. Another one has to stop and start.
fn is_same_router(a: &config::ready::Instance, b: &config::ready::Instance) -> bool {
    a.interface == b.interface
        && a.vrid == b.vrid
        && a.family == b.family
        && a.version == b.version
        && std::mem::discriminant(&a.transport) == std::mem::discriminant(&b.transport)
}

/// The kernel would show the same. With anything else it has to be put on anew.
fn is_same_address(a: &VirtualAddress, b: &VirtualAddress) -> bool {
    VirtualAddress { track: b.track, place: b.place.clone(), ..a.clone() } == *b
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
    faults.iter().all(|fault| matches!(fault, Fault::CheckUnknown { .. }))
}

fn count(counters: &mut BTreeMap<String, u64>, name: &str) {
    match counters.get_mut(name) {
        Some(count) => *count += 1,
        None => {
            counters.insert(name.to_owned(), 1);
        }
    }
}
