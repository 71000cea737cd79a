//! One thread, one epoll: accepts, connects, carries, looks after what stands still.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::lane::{Io, Leg};
use super::mailbox::Mailbox;
use super::service::{End, Ended, Service, Settings, Side};
use super::session::{Flow, Phase, Session};
use super::slab::{Key, Slab};
use super::socket;
use super::stall::{self, Found};

/// Events of one epoll_wait(2).
const EVENTS: usize = 256;

/// Connections of one listening socket before sessions get their turn.
const ACCEPTS: usize = 16;

/// Pause after an accept that failed for want of something that only time gives back.
const ACCEPT_PAUSE: u64 = 100;

/// Longest time between two rounds over all sessions, while there is something to look after.
const ROUND: Duration = Duration::from_secs(1);

/// Shortest.
const SHORTEST_ROUND: Duration = Duration::from_millis(20);

/// Sessions that a round looks at before events get their turn.
const ROUND_SLICE: u32 = 2048;

/// The token of the mailbox; those of listening sockets follow.
const MAILBOX: u64 = u64::MAX << 32;

/// Everything that one thread has.
#[derive(Debug)]
pub struct EventLoop {
    pub(super) number: usize,
    /// Sessions of every loop, this one's at its number.
    pub(super) open: Arc<[AtomicU64]>,
    pub(super) epoll: Epoll,
    pub(super) mailbox: Arc<Mailbox>,
    pub(super) sessions: Slab<Session>,
    pub(super) listening: Vec<Option<Listening>>,
    /// When to look at which session again; the session knows why.
    timers: BinaryHeap<Reverse<(u64, Key)>>,
    ready: VecDeque<Key>,
    pub(super) io: Io,
    /// A socket for the next backend, opened before a client is accepted, so that none is accepted in vain.
    pub(super) spare: Option<(bool, OwnedFd)>,
    started: Instant,
    /// Milliseconds since the start.
    pub(super) now: u64,
    /// The same moment in microseconds; wraps after 71 minutes.
    pub(super) micros: u32,
    round: Round,
}

/// A listening socket.
#[derive(Debug)]
pub struct Listening {
    pub(super) socket: Arc<OwnedFd>,
    pub(super) service: Arc<Service>,
    paused: Option<Paused>,
}

/// Why nobody is accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Paused {
    /// All places are taken.
    Full,
    /// Until this time.
    Short(u64),
}

/// What is done for all sessions from time to time.
#[derive(Debug)]
struct Round {
    every: u64,
    due: u64,
    /// The next place, while one is under way.
    at: Option<u32>,
    /// There is something to look after.
    needed: bool,
    found_work: bool,
    idle_timeouts: bool,
}

impl EventLoop {
    /// Nothing is accepted yet.
    ///
    /// # Errors
    ///
    /// The host has no descriptors.
    pub fn new(
        number: usize,
        open: Arc<[AtomicU64]>,
        mailbox: Arc<Mailbox>,
        pipes: usize,
    ) -> nix::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(mailbox.wake().as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, MAILBOX))?;
        let every = u64::try_from(ROUND.as_millis()).unwrap_or(1000);
        Ok(Self {
            number,
            open,
            epoll,
            mailbox,
            sessions: Slab::new(),
            listening: Vec::new(),
            timers: BinaryHeap::new(),
            ready: VecDeque::new(),
            io: Io::new(pipes),
            spare: None,
            started: Instant::now(),
            now: 0,
            micros: 0,
            round: Round { every, due: 0, at: None, needed: false, found_work: false, idle_timeouts: false },
        })
    }

    /// Until it is told to stop.
    pub fn run(mut self) {
        let mut events = vec![EpollEvent::empty(); EVENTS];
        loop {
            let timeout = self.timeout();
            // An interrupted or otherwise failed wait is one without events.
            let count = self.epoll.wait(&mut events, timeout).unwrap_or(0);
            let elapsed = self.started.elapsed();
            self.now = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            self.micros = elapsed.as_micros() as u32;
            let mut told = false;
            for event in &events[..count] {
                match event.data() {
                    MAILBOX => told = true,
                    token if token > MAILBOX => self.accept((token - MAILBOX - 1) as usize),
                    token => self.handle(token, event.events()),
                }
            }
            if told && !self.obey() {
                return;
            }
            self.go_on();
            self.fire();
            self.look_after();
        }
    }

    fn timeout(&self) -> EpollTimeout {
        if !self.ready.is_empty() || self.round.at.is_some() {
            return EpollTimeout::ZERO;
        }
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let round = (self.round.needed && self.sessions.len() > 0).then_some(self.round.due);
        let short = self.listening.iter().flatten().filter_map(|listening| match listening.paused {
            Some(Paused::Short(until)) => Some(until),
            _ => None,
        });
        let Some(next) = timer.into_iter().chain(round).chain(short).min() else {
            return EpollTimeout::NONE;
        };
        // One more, because this clock is cut to milliseconds.
        let wait = Duration::from_millis((next.saturating_sub(self.now) + 1).min(60_000));
        EpollTimeout::try_from(wait).unwrap_or(EpollTimeout::ZERO)
    }

    /// An event of a session.
    fn handle(&mut self, token: u64, events: EpollFlags) {
        let (key, number) = split(token);
        let Some(session) = self.sessions.get_mut(key) else { return };
        if matches!(session.phase, Phase::Connecting(_) | Phase::Greeting(_)) {
            if number > 0 {
                return self.attempted(key, number, events);
            }
            session.client.note(events);
            if session.client.is(Leg::FAILED) {
                self.end(key, End::Broken(Side::Client));
            } else {
                self.read_header(key);
            }
            return;
        }
        if matches!(session.phase, Phase::Waiting(_)) {
            // What comes from attempts that are given up has no meaning any more.
            if number == 0 {
                session.client.note(events);
                self.leave_if_gone(key);
            }
            return;
        }
        if number == 0 {
            session.client.note(events);
        } else if number == session.attempt
            && let Some(backend) = &mut session.backend
        {
            backend.note(events);
        }
        self.pump(key);
    }

    /// Carries what there is.
    pub(super) fn pump(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        match session.pump(&mut self.io, self.now) {
            Flow::Waiting => {}
            Flow::More if session.queued => {}
            Flow::More => {
                session.queued = true;
                self.ready.push_back(key);
            }
            Flow::Later(pause) => self.wake_at(self.now + pause, key),
            Flow::Over(end) => self.end(key, end),
        }
        self.want_round();
    }

    /// Sessions that had more to carry than their turn took.
    fn go_on(&mut self) {
        for _ in 0..self.ready.len() {
            let Some(key) = self.ready.pop_front() else { return };
            if let Some(session) = self.sessions.get_mut(key) {
                session.queued = false;
                self.pump(key);
            }
        }
    }

    /// Has a session looked at.
    pub(super) fn wake_at(&mut self, at: u64, key: Key) {
        // Timers of sessions that ended stay until their time, unless there are many.
        if self.timers.len() > 2 * self.sessions.len() + 64 {
            let Self { timers, sessions, .. } = self;
            timers.retain(|Reverse((_, key))| sessions.get_mut(*key).is_some());
        }
        self.timers.push(Reverse((at, key)));
    }

    fn fire(&mut self) {
        while let Some(Reverse((at, key))) = self.timers.peek().copied()
            && at <= self.now
        {
            self.timers.pop();
            match self.sessions.get_mut(key).map(|session| &session.phase) {
                Some(Phase::Greeting(_)) => self.header_is_late(key),
                Some(Phase::Connecting(_)) => self.patience_ends(key),
                Some(Phase::Waiting(_)) => self.wait_ends(key),
                Some(Phase::Settling(_)) => self.pump(key),
                Some(Phase::Open) | None => {}
            }
        }
        for index in 0..self.listening.len() {
            if let Some(Listening { paused: Some(Paused::Short(until)), .. }) = self.listening[index]
                && until <= self.now
            {
                self.resume(index);
            }
        }
    }

    /// Ends a session: counts it out, tells, closes.
    pub(super) fn end(&mut self, key: Key, end: End) {
        let Some(mut session) = self.sessions.remove(key) else { return };
        self.tell_open();
        let tally = &session.service.tally;
        tally.ended[end.place()].fetch_add(1, Ordering::Relaxed);
        if end.is_refusal() {
            tally.refused.fetch_add(1, Ordering::Relaxed);
        }
        let backend = match &session.phase {
            Phase::Greeting(_) => None,
            Phase::Connecting(_) => {
                super::connect::give_up(&mut session);
                None
            }
            Phase::Waiting(waiting) => {
                if waiting.ticket != 0 {
                    session.service.steer.left(waiting.ticket);
                }
                None
            }
            Phase::Open | Phase::Settling(_) => Some(usize::from(session.index)),
        };
        if let Some(index) = backend {
            let counts = &session.service.backends[index];
            counts.assigned.fetch_sub(1, Ordering::Relaxed);
            counts.sessions.fetch_sub(1, Ordering::Relaxed);
        }
        let (bytes_in, bytes_out) = session.bytes();
        session.service.steer.ended(&Ended {
            end,
            backend,
            lasted: Duration::from_millis(self.now.saturating_sub(session.born)),
            bytes_in,
            bytes_out,
            tag: session.tag,
            client: session.client.as_fd(),
            told: session.told(),
            course: session.extra.as_deref().map(|extra| &extra.course),
            attempts: session.attempt,
            last: (session.attempt > 0).then(|| usize::from(session.index)),
            waited: matches!(session.phase, Phase::Waiting(_)),
            open: &self.open,
        });
        if let Some(index) = backend {
            session.service.steer.vacated(index);
        }
        let service = session.service.clone();
        session.close(end, &mut self.io);
        service.tally.leave();
    }

    /// For whoever asks how many sessions there are.
    pub(super) fn tell_open(&self) {
        self.open[self.number].store(self.sessions.len() as u64, Ordering::Relaxed);
    }

    // Accepting.

    /// Accepts on the socket for this service from now on.
    pub(super) fn listen(&mut self, socket: Arc<OwnedFd>, service: Arc<Service>) {
        self.round_for(&service.settings);
        let known = self
            .listening
            .iter()
            .position(|one| one.as_ref().is_some_and(|listening| Arc::ptr_eq(&listening.socket, &socket)));
        if let Some(index) = known {
            if let Some(listening) = &mut self.listening[index] {
                listening.service = service;
            }
            return self.resume(index);
        }
        let index = self.listening.iter().position(Option::is_none).unwrap_or_else(|| {
            self.listening.push(None);
            self.listening.len() - 1
        });
        self.listening[index] = Some(Listening { socket, service, paused: Some(Paused::Full) });
        self.resume(index);
    }

    /// Accepts on it no longer.
    pub(super) fn close(&mut self, socket: &Arc<OwnedFd>) {
        for listening in &mut self.listening {
            if listening.as_ref().is_some_and(|listening| Arc::ptr_eq(&listening.socket, socket)) {
                *listening = None;
                let _ = self.epoll.delete(&**socket);
            }
        }
    }

    fn pause(&mut self, index: usize, why: Paused) {
        let Some(listening) = &mut self.listening[index] else { return };
        if listening.paused.replace(why).is_none() {
            let _ = self.epoll.delete(&*listening.socket);
        }
    }

    fn resume(&mut self, index: usize) {
        let Some(listening) = &mut self.listening[index] else { return };
        if listening.paused.is_none() {
            return;
        }
        let token = MAILBOX + 1 + index as u64;
        listening.paused =
            match self.epoll.add(&*listening.socket, EpollEvent::new(EpollFlags::EPOLLIN, token)) {
                Ok(()) => None,
                Err(_) => Some(Paused::Short(self.now + ACCEPT_PAUSE)),
            };
    }

    /// There may be places again.
    pub(super) fn resume_full(&mut self) {
        for index in 0..self.listening.len() {
            if self.listening[index].as_ref().is_some_and(|one| one.paused == Some(Paused::Full)) {
                self.resume(index);
            }
        }
    }

    fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some(Some(Listening { socket, service, paused: None })) = self.listening.get(index) else {
                return;
            };
            let (socket, service) = (socket.clone(), service.clone());
            let tally = &service.tally;
            if !tally.enter(service.settings.max_sessions) {
                tally.bell().wait(&self.mailbox);
                // One may have ended before the bell was set.
                if !tally.enter(service.settings.max_sessions) {
                    return self.pause(index, Paused::Full);
                }
            }
            let accepted = self.ready_spare(&service).and_then(|()| socket::accept(&*socket));
            match accepted {
                Ok(client) => self.open(service, client),
                Err(error) => {
                    tally.leave();
                    match error {
                        Errno::EAGAIN => return,
                        Errno::EINTR => {}
                        error => {
                            tally.accept_errors.fetch_add(1, Ordering::Relaxed);
                            if socket::is_of_the_connection(error) {
                                continue;
                            }
                            service.steer.shortage("accept connections", error);
                            self.io.pipes.clear();
                            return self.pause(index, Paused::Short(self.now + ACCEPT_PAUSE));
                        }
                    }
                }
            }
        }
    }

    // Rounds.

    fn round_for(&mut self, settings: &Settings) {
        let parts = [settings.idle_timeout.map(|t| t / 8), settings.user_timeout.map(|t| t / 4)];
        let every = parts.into_iter().flatten().fold(ROUND, Duration::min).max(SHORTEST_ROUND);
        self.round.every = self.round.every.min(u64::try_from(every.as_millis()).unwrap_or(1000));
        self.round.idle_timeouts |= settings.idle_timeout.is_some();
    }

    pub(super) fn want_round(&mut self) {
        if !self.round.needed {
            self.round.needed = true;
            self.round.due = self.now + self.round.every;
        }
    }

    /// Goes on with a round over all sessions, or begins one when it is time.
    fn look_after(&mut self) {
        let from = match self.round.at {
            Some(at) => at,
            None if self.round.needed && self.round.due <= self.now => {
                self.round.found_work = false;
                0
            }
            None => return,
        };
        let until = (from + ROUND_SLICE).min(self.sessions.places());
        for place in from..until {
            let Some((key, session)) = self.sessions.at(place) else { continue };
            match look(session, self.now) {
                Look::Nothing => {}
                Look::Again => self.round.found_work = true,
                Look::End(end) => self.end(key, end),
            }
        }
        if until < self.sessions.places() {
            self.round.at = Some(until);
            return;
        }
        self.round.at = None;
        self.round.due = self.now + self.round.every;
        self.round.needed = (self.round.found_work || self.round.idle_timeouts) && self.sessions.len() > 0;
    }
}

enum Look {
    Nothing,
    Again,
    End(End),
}

/// What a session needs after a while.
fn look(session: &mut Session, now: u64) -> Look {
    let Phase::Open = session.phase else { return Look::Nothing };
    let idle = session.idle(now);
    let settings = &session.service.settings;
    if settings.idle_timeout.is_some_and(|timeout| u128::from(idle) >= timeout.as_millis()) {
        return Look::End(End::Idle);
    }
    let mut again = false;
    if let Some(backend) = &mut session.backend
        && !backend.is(Leg::DRESSED)
    {
        // Refused on a connection that is gone, which an event says.
        let _ = socket::dress(&backend.socket, settings);
        backend.set(Leg::DRESSED);
    }
    let Some(timeout) = settings.user_timeout.filter(|_| !session.quiet) else { return Look::Nothing };
    for side in [Side::Client, Side::Backend] {
        let Some(leg) = session.leg(side) else { continue };
        match stall::look(leg, timeout) {
            Ok(Found::Gone) => return Look::End(End::Broken(side)),
            Ok(Found::Busy) => again = true,
            Ok(Found::Quiet) | Err(_) => {}
        }
    }
    session.quiet = !again;
    if again { Look::Again } else { Look::Nothing }
}

/// Adds a socket of a session to what is waited for.
pub(super) fn watch(epoll: &Epoll, socket: &OwnedFd, key: Key, number: u8) -> nix::Result<()> {
    let events = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
    epoll.add(socket, EpollEvent::new(events, token(key, number)))
}

/// Age, place and number of the socket: 0 for the client, then the attempts.
fn token(key: Key, number: u8) -> u64 {
    u64::from(key.age) << 32 | u64::from(key.place & 0x00ff_ffff) << 8 | u64::from(number)
}

fn split(token: u64) -> (Key, u8) {
    let key = Key { age: (token >> 32) as u32, place: (token >> 8) as u32 & 0x00ff_ffff };
    (key, token as u8)
}
