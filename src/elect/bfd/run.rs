//! The thread's loop: timers, packets, orders.

use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant, SystemTime};

use config::ready;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use tokio::sync::oneshot;
use vrrp::bfd::{BfdDiscard, ControlPacket, Input, Output, Reason, Session, SessionConfig, State};

use super::Order;
use super::socket::{Door, Received, Receiver, Sender};
use crate::check::{SessionNews, SessionTeller};
use crate::elect::discards::DiscardLog;
use crate::elect::timer::Timer;
use crate::elect::{BfdVerdict, EngineHandle};
use crate::observe::event::{EventSender, Kind};
use crate::observe::status::BfdStatus;

/// Packets read from one socket before timers get their turn.
const BATCH: usize = 64;
/// What could not be had or handed over is tried again after this time.
const RETRY: Duration = Duration::from_millis(20);
/// Sockets that the kernel refused are tried again after this time.
const REOPEN: Duration = Duration::from_secs(1);
/// Longest time that neighbours are told of a stop.
const STOP_LIMIT: Duration = Duration::from_secs(1);
/// The largest control packet there is, with authentication, is shorter.
const LARGEST: usize = 256;

const BELL: u64 = u64::MAX;
const TIMER: u64 = u64::MAX - 1;

/// One session and what this host knows around it.
struct Running {
    config: ready::Bfd,
    session: Session,
    sender: Option<Sender>,
    /// What instances are told; stays as it was when the neighbour's operator stops his end.
    up: bool,
    since: SystemTime,
    reason: Reason,
    /// The engine's queue was full.
    untold: bool,
    /// No longer configured; forgotten when the neighbour was told.
    retired: bool,
    sent: u64,
    received: u64,
    send_errors: u64,
    discarded: BTreeMap<String, u64>,
    came_up: u64,
    went_down: u64,
}

pub struct Runner {
    engine: EngineHandle,
    checks: SessionTeller,
    events: EventSender,
    orders: mpsc::Receiver<Order>,
    bell: Arc<EventFd>,
    poll: Epoll,
    timer: Timer,
    doors: BTreeMap<Door, Receiver>,
    sessions: Vec<Running>,
    random: RandomState,
    drawn: u64,
    discard_log: DiscardLog,
    retry_at: Option<Instant>,
    reopen_at: Option<Instant>,
    /// Told once, until it works again.
    complaints: HashMap<String, String>,
    stopping: Option<(oneshot::Sender<()>, Instant)>,
}

impl Runner {
    pub fn new(
        engine: EngineHandle,
        checks: SessionTeller,
        events: EventSender,
        orders: mpsc::Receiver<Order>,
        bell: Arc<EventFd>,
    ) -> io::Result<Self> {
        let poll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer = Timer::new()?;
        poll.add(bell.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, BELL))?;
        poll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        Ok(Self {
            engine,
            checks,
            events,
            orders,
            bell,
            poll,
            timer,
            doors: BTreeMap::new(),
            sessions: Vec::new(),
            random: RandomState::new(),
            drawn: 0,
            discard_log: DiscardLog::default(),
            retry_at: None,
            reopen_at: None,
            complaints: HashMap::new(),
            stopping: None,
        })
    }

    pub fn run(mut self) {
        let mut ready = [EpollEvent::empty(); 8];
        loop {
            if let Some((_, by)) = &self.stopping
                && (self.sessions.is_empty() || *by <= Instant::now())
            {
                let _ = self.stopping.take().map(|(done, _)| done.send(()));
                return;
            }
            if let Err(error) = self.timer.arm(self.next_deadline()) {
                self.complain("timer", format!("the timer of the BFD sessions cannot be set: {error}"));
            }
            // EINTR is tried again; nothing else can fail here.
            let count = self.poll.wait(&mut ready, EpollTimeout::NONE).unwrap_or(0);
            for event in &ready[..count] {
                match event.data() {
                    BELL => {
                        let _ = self.bell.read();
                    }
                    TIMER => self.timer.acknowledge(),
                    _ => {}
                }
            }
            // What is waiting counts before an expired timer: it may say that the neighbour lives.
            self.read_doors();
            self.handle_timers();
            loop {
                match self.orders.try_recv() {
                    Ok(order) => self.handle_order(order),
                    Err(mpsc::TryRecvError::Empty) => break,
                    // The daemon is ending without having said so.
                    Err(mpsc::TryRecvError::Disconnected) => return,
                }
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let sessions = self.sessions.iter().filter_map(|one| one.session.poll_timeout());
        let stop_by = self.stopping.as_ref().map(|(_, by)| *by);
        sessions.chain([self.retry_at, self.reopen_at, stop_by].into_iter().flatten()).min()
    }

    fn handle_timers(&mut self) {
        let now = Instant::now();
        for index in 0..self.sessions.len() {
            if self.sessions[index].session.poll_timeout().is_some_and(|at| at <= now) {
                self.give(now, index, Input::Timeout);
            }
        }
        self.sessions.retain(|one| !(one.retired && one.session.poll_timeout().is_none()));
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            for index in 0..self.sessions.len() {
                if self.sessions[index].untold {
                    self.tell(index);
                }
            }
        }
        if self.reopen_at.is_some_and(|at| at <= now) {
            self.reopen_at = None;
            self.open_sockets();
        }
    }

    // ---- packets ----

    fn read_doors(&mut self) {
        let mut buffer = [0; LARGEST];
        let doors: Vec<Door> = self.doors.keys().copied().collect();
        for door in doors {
            for _ in 0..BATCH {
                let Some(receiver) = self.doors.get(&door) else { break };
                match receiver.receive(&mut buffer) {
                    Ok(Some(received)) => self.handle_packet(door, &received),
                    Ok(None) => break,
                    // An error of an earlier packet that we sent; it says nothing about those to come.
                    Err(_) => {}
                }
            }
        }
    }

    fn handle_packet(&mut self, door: Door, received: &Received<'_>) {
        let parsed = ControlPacket::parse(received.payload);
        let found = parsed.and_then(|packet| {
            let index = self.find(door, received, &packet).ok_or(BfdDiscard::Session)?;
            Ok((packet, index))
        });
        let (index, refused) = match found {
            Ok((packet, index)) => {
                let running = &mut self.sessions[index];
                match running.session.handle_input(received.arrival, Input::Packet(&packet, received.ttl)) {
                    Ok(()) => {
                        running.received += 1;
                        return self.drain(index);
                    }
                    Err(refused) => (Some(index), refused),
                }
            }
            Err(refused) => (None, refused),
        };
        let mut name = "BFD";
        if let Some(running) = index.map(|index| &mut self.sessions[index]) {
            *running.discarded.entry(refused.name().to_owned()).or_default() += 1;
            name = &running.config.name;
        }
        let text = || refused.to_string();
        let event = self.discard_log.record(Instant::now(), name, received.source, refused.name(), text);
        event.into_iter().for_each(|kind| self.events.send(kind));
    }

    /// By our discriminator if it is said, else by the addresses (RFC 5880 §6.3, 5881 §3, 5883 §4); always from the neighbour.
    fn find(&self, door: Door, received: &Received<'_>, packet: &ControlPacket) -> Option<usize> {
        self.sessions.iter().position(|running| {
            let config = &running.config;
            let to_us = config.source.is_none_or(|source| source == received.destination);
            let said = packet.your_discriminator;
            !running.retired
                && door_of(config) == door
                && config.neighbor == received.source
                && to_us
                && (said == 0 || said == running.session.discriminator())
        })
    }

    // ---- sessions ----

    fn give(&mut self, now: Instant, index: usize, input: Input<'_>) {
        // Only packets are refused.
        let _ = self.sessions[index].session.handle_input(now, input);
        self.drain(index);
    }

    fn drain(&mut self, index: usize) {
        while let Some(output) = self.sessions[index].session.poll_output() {
            let running = &mut self.sessions[index];
            match output {
                Output::Send(packet) => match running.sender.as_ref().map(|to| to.send(&packet.octets())) {
                    Some(Ok(())) => running.sent += 1,
                    Some(Err(_)) | None => running.send_errors += 1,
                },
                Output::Transition { from, to, reason } => self.handle_transition(index, from, to, reason),
                Output::DiscriminatorChanged { .. } => {
                    let next = self.draw_discriminator();
                    self.sessions[index].session.set_next_discriminator(next);
                }
                Output::Stopped => running.retired = true,
            }
        }
    }

    fn handle_transition(&mut self, index: usize, from: State, to: State, reason: Reason) {
        let running = &mut self.sessions[index];
        running.since = SystemTime::now();
        running.reason = reason;
        running.came_up += u64::from(to == State::Up);
        running.went_down += u64::from(from == State::Up);
        // From Down to Init and back is no news for anybody.
        if from == State::Up || to == State::Up {
            self.events.send(Kind::Bfd {
                session: running.config.name.clone(),
                neighbor: running.config.neighbor,
                from: from.to_string(),
                to: to.to_string(),
                reason: reason.to_string(),
            });
        }
        let up = match reason {
            // Somebody meant to do that: no fault of the path (RFC 5882 §4.2).
            Reason::NeighborAdminDown | Reason::Stopped => running.up,
            _ => to == State::Up,
        };
        // The detail is part of what is told.
        let news = up != running.up;
        running.up = up;
        if news {
            self.tell(index);
        }
    }

    /// Tells the engine and the checks; never waits for them.
    fn tell(&mut self, index: usize) {
        let running = &mut self.sessions[index];
        if running.retired {
            return;
        }
        let ready::Bfd { name, for_vrrp, for_checkers, .. } = &running.config;
        let detail = if running.up { "is up".into() } else { format!("is down: {}", running.reason) };
        let up = running.up;
        let news = SessionNews { session: name.clone(), up, detail: detail.clone() };
        let told_checks = !*for_checkers || self.checks.try_tell(news);
        let verdict = BfdVerdict { up, detail };
        let told_engine = !*for_vrrp || self.engine.try_bfd(name, Some(verdict));
        running.untold = !(told_checks && told_engine);
        if running.untold {
            self.retry_at = Some(Instant::now() + RETRY);
        }
    }

    fn draw(&mut self) -> u64 {
        self.drawn += 1;
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(self.drawn);
        hasher.finish()
    }

    /// Not 0, and no session's now or next.
    fn draw_discriminator(&mut self) -> u32 {
        loop {
            // The upper half.
            let drawn = (self.draw() >> 32) as u32;
            if drawn != 0 && !self.sessions.iter().any(|one| one.session.uses(drawn)) {
                return drawn;
            }
        }
    }

    // ---- orders ----

    fn handle_order(&mut self, order: Order) {
        match order {
            Order::Apply(config) => self.apply(&config.bfd),
            Order::Status(answer) => {
                let running = self.sessions.iter().filter(|one| !one.retired);
                let _ = answer.send(running.map(Running::status).collect());
            }
            Order::Stop(done) => {
                self.stopping = Some((done, Instant::now() + STOP_LIMIT));
                for index in 0..self.sessions.len() {
                    self.retire(index);
                }
                self.sessions.retain(|one| !(one.retired && one.session.poll_timeout().is_none()));
            }
        }
    }

    fn apply(&mut self, wanted: &[ready::Bfd]) {
        let now = Instant::now();
        for index in 0..self.sessions.len() {
            let before = &self.sessions[index].config;
            if !wanted.iter().any(|one| is_same_session(one, before)) {
                let name = before.name.clone();
                self.retire(index);
                if !wanted.iter().any(|one| one.name == name) {
                    // Nobody tracks it any more; should somebody later, a new session says what is.
                    let _ = self.engine.try_bfd(&name, None);
                }
            }
        }
        let mut order = Vec::with_capacity(wanted.len());
        for one in wanted {
            let found = self
                .sessions
                .iter()
                .position(|running| !running.retired && is_same_session(&running.config, one));
            let mut running = match found {
                Some(index) => self.sessions.swap_remove(index),
                None => self.make(one),
            };
            let is_new = found.is_none();
            running.config = one.clone();
            order.push((running, is_new));
        }
        let leaving = std::mem::take(&mut self.sessions);
        let new: Vec<bool> = order.iter().map(|(_, is_new)| *is_new).collect();
        self.sessions = order.into_iter().map(|(running, _)| running).chain(leaving).collect();
        self.open_sockets();
        for (index, is_new) in new.into_iter().enumerate() {
            if is_new {
                self.give(now, index, Input::Start);
                self.tell(index);
            } else {
                let config = session_config(&self.sessions[index].config);
                self.give(now, index, Input::Reconfigured(config));
            }
        }
    }

    fn make(&mut self, config: &ready::Bfd) -> Running {
        let (ours, next) = (self.draw_discriminator(), self.draw_discriminator());
        let session = Session::new(session_config(config), ours, next, self.draw());
        Running {
            config: config.clone(),
            session,
            sender: None,
            up: false,
            since: SystemTime::now(),
            reason: Reason::Started,
            untold: false,
            retired: false,
            sent: 0,
            received: 0,
            send_errors: 0,
            discarded: BTreeMap::new(),
            came_up: 0,
            went_down: 0,
        }
    }

    fn retire(&mut self, index: usize) {
        self.give(Instant::now(), index, Input::Stop);
        self.sessions[index].retired = true;
    }

    /// What the sessions need, and nothing else.
    fn open_sockets(&mut self) {
        let wanted: Vec<Door> = self.sessions.iter().map(|one| door_of(&one.config)).collect();
        self.doors.retain(|door, _| wanted.contains(door));
        for door in wanted {
            if self.doors.contains_key(&door) {
                continue;
            }
            let opened = Receiver::open(door).and_then(|receiver| {
                self.poll.add(&receiver, EpollEvent::new(EpollFlags::EPOLLIN, 0))?;
                Ok(receiver)
            });
            match opened {
                Ok(receiver) => {
                    self.complaints.remove("receive");
                    self.doors.insert(door, receiver);
                }
                Err(error) => {
                    let text =
                        format!("BFD packets cannot be received: {error}; does another BFD daemon run here?");
                    self.complain("receive", text);
                    self.reopen_at = Some(Instant::now() + REOPEN);
                }
            }
        }
        for index in 0..self.sessions.len() {
            if self.sessions[index].sender.is_some() {
                continue;
            }
            // 16 bits of it.
            let first_port = (self.draw() >> 48) as u16;
            let running = &mut self.sessions[index];
            let config = &running.config;
            match Sender::open(config.neighbor, config.source, config.ttl, door_of(config), first_port) {
                Ok(sender) => running.sender = Some(sender),
                Err(error) => {
                    let name = config.name.clone();
                    self.complain(&name, format!("BFD session {name} cannot send: {error}"));
                    self.reopen_at = Some(Instant::now() + REOPEN);
                }
            }
        }
    }

    fn complain(&mut self, about: &str, text: String) {
        if self.complaints.get(about) != Some(&text) {
            self.complaints.insert(about.to_owned(), text.clone());
            self.events.send(Kind::Notice { text });
        }
    }
}

impl Running {
    fn status(&self) -> BfdStatus {
        let remote = self.session.remote();
        BfdStatus {
            name: self.config.name.clone(),
            neighbor: self.config.neighbor,
            source: self.config.source,
            multihop: self.config.multihop,
            state: self.session.state().to_string(),
            up: self.up,
            since: self.since,
            detail: self.reason.to_string(),
            neighbor_state: remote.map(|remote| remote.state.to_string()),
            discriminator: self.session.discriminator(),
            neighbor_discriminator: remote.map(|remote| remote.discriminator),
            transmit_interval: self.session.transmit_interval(),
            detection_time: self.session.detection_time(),
            packets_sent: self.sent,
            packets_received: self.received,
            send_errors: self.send_errors,
            discarded: self.discarded.clone(),
            came_up: self.came_up,
            went_down: self.went_down,
        }
    }
}

fn door_of(config: &ready::Bfd) -> Door {
    Door { ipv6: matches!(config.neighbor, IpAddr::V6(_)), multihop: config.multihop }
}

/// It can go on with other intervals; with other ends it is another session.
fn is_same_session(a: &ready::Bfd, b: &ready::Bfd) -> bool {
    a.name == b.name
        && a.neighbor == b.neighbor
        && a.source == b.source
        && a.multihop == b.multihop
        && a.ttl == b.ttl
        && a.passive == b.passive
}

fn session_config(config: &ready::Bfd) -> SessionConfig {
    SessionConfig {
        min_tx: config.min_tx,
        min_rx: config.min_rx,
        idle_tx: config.idle_tx,
        multiplier: config.multiplier,
        passive: config.passive,
        lowest_ttl: config.max_hops.map(|hops| config.ttl.saturating_sub(hops)),
    }
}
