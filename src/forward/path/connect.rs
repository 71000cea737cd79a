//! From an accepted client to a backend that answers.
//!
//! A backend that refuses is followed by the next one at once. One that does not answer within the patience
//! goes on being waited for, but the next one is tried besides; the first to answer gets the session.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::epoll::EpollFlags;
use socket2::SockRef;

use super::event_loop::{EventLoop, watch};
use super::greeting::{introduce, peer};
use super::lane::Leg;
use super::mailbox::Mailbox;
use super::service::{Answer, Ask, Backend, Choice, Connect, End, Service, Side};
use super::session::{Attempt, Course, Extra, Phase, Session, Tries, Waiting};
use super::slab::Key;
use super::socket;

/// Attempts of one session that are under way at the same time.
const AT_A_TIME: usize = 3;

impl EventLoop {
    /// Has a socket for the next backend at hand.
    pub(super) fn ready_spare(&mut self, service: &Service) -> Result<(), Errno> {
        let ipv6 = service.backends.first().is_some_and(|backend| backend.address.is_ipv6());
        if self.spare.as_ref().is_none_or(|(is_ipv6, _)| *is_ipv6 != ipv6) {
            self.spare = Some((ipv6, open(ipv6)?));
        }
        Ok(())
    }

    /// A client was accepted.
    pub(super) fn open(&mut self, service: Arc<Service>, client: OwnedFd) {
        service.tally.accepted();
        let key = self.sessions.insert(Session::new(service, client, self.now));
        self.tell_open();
        let Some(session) = self.sessions.get_mut(key) else { return };
        if session.service.settings.logged {
            let course = Course { peer: peer(session), ..Course::default() };
            session.extra = Some(Box::new(Extra { course, ..Extra::default() }));
        }
        match watch(&self.epoll, &session.client.socket, key, 0) {
            Ok(()) if self.expects_header(key) => {}
            Ok(()) => self.try_next(key),
            Err(error) => self.lack(key, error),
        }
    }

    fn lack(&mut self, key: Key, error: Errno) {
        if let Some(session) = self.sessions.get_mut(key) {
            session.service.tally.accept_errors.fetch_add(1, Ordering::Relaxed);
            session.service.steer.shortage("connect to a backend", error);
        }
        self.io.pipes.clear();
        self.end(key, End::Shortage);
    }

    /// Begins to connect to the next backend, if there is one.
    pub(super) fn try_next(&mut self, key: Key) {
        while let Some(session) = self.sessions.get_mut(key) {
            match choose(session, &self.mailbox, key) {
                Answer::Go(choice) => {
                    if self.begin(key, choice) {
                        return;
                    }
                }
                Answer::Wait { ticket, at_most, tag } => {
                    session.tag = tag;
                    return self.wait(key, ticket, at_most);
                }
                Answer::Pause(time) => return self.wait(key, 0, time),
                Answer::Nobody if session.in_flight() => return,
                Answer::Nobody => {
                    let end = if session.attempt == 0 { End::NoBackend } else { End::Unreachable };
                    return self.end(key, end);
                }
            }
        }
    }

    /// Begins to connect to this backend. Whether that is under way, or the session is over.
    fn begin(&mut self, key: Key, choice: Choice) -> bool {
        let Some(session) = self.sessions.get_mut(key) else { return true };
        let index = u16::try_from(choice.backend).unwrap_or(u16::MAX);
        begin_attempt(session, index, self.now);
        session.begun = self.micros;
        session.patience = u16::try_from(choice.patience.as_millis()).unwrap_or(u16::MAX);
        session.tag = choice.tag;
        let age = session.age(self.now);
        if let Some(Extra { course, .. }) = session.extra.as_deref_mut()
            && course.begun.is_none()
        {
            (course.begun, course.first) = (Some(age), index);
        }
        let service = &session.service;
        let address = service.backends[usize::from(index)].address;
        let from = if service.settings.transparent { client_of(session, address) } else { None };
        let socket = match from {
            Some(client) => socket::open_as(client).map_err(|error| {
                service.steer.shortage("connect to a backend from the client's address", error);
                // Whatever it is, another backend is no remedy.
                Errno::ENOBUFS
            }),
            None => match self.spare.take_if(|(ipv6, _)| *ipv6 == address.is_ipv6()) {
                Some((_, socket)) => Ok(socket),
                None => open(address.is_ipv6()),
            },
        };
        let began = socket.and_then(|socket| {
            // The last packet of the handshake waits for the client's first bytes and goes with them.
            let _ = SockRef::from(&socket).set_tcp_quickack(false);
            socket::begin(&socket, address)?;
            watch(&self.epoll, &socket, key, session.attempt)?;
            Ok(socket)
        });
        match began {
            Ok(socket) => {
                session.backend = Some(Leg::new(socket, 0));
                let wait = millis(service.settings.connect_timeout).min(session.patience.into());
                self.wake_at(self.now + wait, key);
                true
            }
            Err(error) if socket::is_shortage(error) => {
                gone(session, index, Connect::Abandoned);
                self.lack(key, error);
                true
            }
            Err(error @ Errno::EADDRNOTAVAIL) => {
                service.tally.accept_errors.fetch_add(1, Ordering::Relaxed);
                service.steer.shortage("connect to a backend", error);
                gone(session, index, Connect::Abandoned);
                false
            }
            Err(error) => {
                gone(session, index, Connect::Failed(error));
                false
            }
        }
    }

    /// Has a session wait: for a call with this ticket, or for the end of a pause.
    fn wait(&mut self, key: Key, ticket: u64, at_most: Duration) {
        let until = self.now + millis(at_most);
        let Some(session) = self.sessions.get_mut(key) else { return };
        let tries = match std::mem::replace(&mut session.phase, Phase::Connecting(None)) {
            Phase::Connecting(Some(tries)) => tries,
            _ if session.attempt > 0 => Box::new(Tries { tried: vec![session.index], ..Tries::default() }),
            _ => Box::default(),
        };
        session.phase = Phase::Waiting(Box::new(Waiting { ticket, until, tries }));
        self.wake_at(until, key);
        self.leave_if_gone(key);
    }

    /// A client that has reset its connection, or ended it without having sent a byte, waits no longer.
    pub(super) fn leave_if_gone(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let client = &session.client;
        if client.is(Leg::FAILED) || client.is(Leg::ENDING) && socket::has_only_ended(&client.socket) {
            self.end(key, End::Broken(Side::Client));
        }
    }

    /// A session may have waited long enough.
    pub(super) fn wait_ends(&mut self, key: Key) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        let Phase::Waiting(waiting) = &session.phase else { return };
        if self.now < waiting.until {
            return;
        }
        if waiting.ticket != 0 {
            return self.end(key, End::QueueTimeout);
        }
        session.go_on();
        if let Some(tries) = session.tries() {
            tries.rested = true;
        }
        self.try_next(key);
    }

    /// There is a place for a session that waits.
    pub(super) fn called(&mut self, key: Key, ticket: u64, service: Arc<Service>, choice: Choice) {
        let waits =
            |session: &&mut Session| matches!(&session.phase, Phase::Waiting(w) if w.ticket == ticket);
        let Some(session) = self.sessions.get_mut(key).filter(waits) else {
            service.backends[choice.backend].assigned.fetch_sub(1, Ordering::Relaxed);
            return service.steer.vacated(choice.backend);
        };
        session.go_on();
        if !Arc::ptr_eq(&session.service, &service) {
            // Another configuration, whose backends have other numbers.
            if let Some(tries) = session.tries() {
                tries.tried.clear();
            }
            session.service = service;
        }
        if !self.begin(key, choice) {
            self.try_next(key);
        }
    }

    /// An event of an attempt.
    pub(super) fn attempted(&mut self, key: Key, number: u8, events: EpollFlags) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        if events.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP) {
            let Some((index, socket, _)) = session.take_attempt(number) else { return };
            let how = match socket::error(&socket) {
                Errno::ETIMEDOUT => Connect::TimedOut,
                error => Connect::Failed(error),
            };
            gone(session, index, how);
            self.try_next(key);
        } else if events.contains(EpollFlags::EPOLLOUT)
            && let Some((index, socket, since)) = session.take_attempt(number)
        {
            let mut leg = Leg::new(socket, 0);
            leg.note(events);
            match introduce(session, index, &mut leg) {
                Ok(()) => self.establish(key, number, index, leg, since),
                Err(error) => {
                    gone(session, index, Connect::Failed(error));
                    self.try_next(key);
                }
            }
        }
    }

    fn establish(&mut self, key: Key, number: u8, index: u16, leg: Leg, since: u64) {
        let Some(session) = self.sessions.get_mut(key) else { return };
        // The others have lost; of those that were slow something is learnt by that.
        let slow = session.tries().is_some_and(|tries| tries.slow);
        if let Some(leg) = session.backend.take() {
            let how = if slow { Connect::TimedOut } else { Connect::Abandoned };
            abandon(session, session.index, leg.socket, how);
        }
        while let Some(other) = session.tries().and_then(|tries| tries.others.pop()) {
            abandon(session, other.index, other.socket, Connect::TimedOut);
        }
        if !session.client.is(Leg::READABLE) {
            // There are none: the backend may be the one who speaks first.
            let _ = SockRef::from(&leg.socket).set_tcp_quickack(true);
        }
        session.backend = Some(leg);
        // One that another attempt was made besides took so long that milliseconds will do.
        let took = match session.attempt == number {
            true => Duration::from_micros(self.micros.wrapping_sub(session.begun).into()),
            false => Duration::from_millis(self.now.saturating_sub(since)),
        };
        let age = session.age(self.now);
        if let Some(extra) = &mut session.extra {
            extra.course.connected = Some(age);
        }
        (session.index, session.attempt, session.phase) = (index, number, Phase::Open);
        let counts = &session.service.backends[usize::from(index)];
        counts.enter(took);
        session.service.steer.connected(usize::from(index), Connect::Done(took));
        self.pump(key);
    }

    /// Some attempt of a session may have taken too long.
    pub(super) fn patience_ends(&mut self, key: Key) {
        let now = self.now;
        let Some(session) = self.sessions.get_mut(key) else { return };
        let timeout = millis(session.service.settings.connect_timeout);
        let late = |other: &Attempt| now - other.since >= timeout;
        while let Some(at) = session.tries().and_then(|tries| tries.others.iter().position(late)) {
            let Some(other) = session.tries().map(|tries| tries.others.swap_remove(at)) else { break };
            abandon(session, other.index, other.socket, Connect::TimedOut);
        }
        let waited = now - session.since();
        let slow = session.tries().is_some_and(|tries| tries.slow);
        let mut another = false;
        if waited >= timeout
            && let Some(leg) = session.backend.take()
        {
            abandon(session, session.index, leg.socket, Connect::TimedOut);
        } else if session.backend.is_some() && waited >= u64::from(session.patience) && !slow {
            session.remember().slow = true;
            session.service.steer.connected(usize::from(session.index), Connect::Slow);
            another = session.tries().is_some_and(|tries| tries.others.len() + 1 < AT_A_TIME);
        }
        if another || !session.in_flight() {
            self.try_next(key);
        }
        if let Some(session) = self.sessions.get_mut(key)
            && let Some(at) = session.next_look(timeout)
        {
            self.wake_at(at.max(now + 1), key);
        }
    }

    /// Sessions that connect to this backend go to another.
    pub(super) fn redispatch(&mut self, backend: &Arc<Backend>) {
        for place in 0..self.sessions.places() {
            let Some((key, session)) = self.sessions.at(place) else { continue };
            if !matches!(session.phase, Phase::Connecting(_)) {
                continue;
            }
            let service = session.service.clone();
            let is_it = |index: u16| Arc::ptr_eq(&service.backends[usize::from(index)], backend);
            if is_it(session.index)
                && let Some(leg) = session.backend.take()
            {
                abandon(session, session.index, leg.socket, Connect::Abandoned);
            }
            while let Some(at) =
                session.tries().and_then(|tries| tries.others.iter().position(|other| is_it(other.index)))
            {
                let Some(other) = session.tries().map(|tries| tries.others.swap_remove(at)) else { break };
                abandon(session, other.index, other.socket, Connect::Abandoned);
            }
            if !session.in_flight() {
                self.try_next(key);
            }
        }
    }
}

/// A session that ends while it connects.
pub(super) fn give_up(session: &mut Session) {
    if let Some(leg) = session.backend.take() {
        abandon(session, session.index, leg.socket, Connect::Abandoned);
    }
    while let Some(other) = session.tries().and_then(|tries| tries.others.pop()) {
        abandon(session, other.index, other.socket, Connect::Abandoned);
    }
}

fn choose(session: &mut Session, mailbox: &Arc<Mailbox>, key: Key) -> Answer {
    let may_wait = !session.in_flight();
    let rested = session.tries().is_some_and(|tries| tries.rested);
    let first = [session.index];
    let tried = match &session.phase {
        Phase::Connecting(Some(tries)) => &tries.tried[..],
        _ if session.attempt > 0 => &first,
        _ => &[],
    };
    let (client, told) = (session.client.as_fd(), session.told());
    let tag = session.tag;
    let answer =
        session.service.steer.choose(&Ask { tried, may_wait, rested, tag, client, told, mailbox, key });
    match answer {
        // What does not exist cannot be tried.
        Answer::Go(choice) if choice.backend >= session.service.backends.len().min(usize::from(u16::MAX)) => {
            Answer::Nobody
        }
        answer => answer,
    }
}

/// Numbers the next attempt. The one before it goes on, if it is still under way.
fn begin_attempt(session: &mut Session, index: u16, now: u64) {
    if session.attempt > 0 {
        session.service.tally.retries.fetch_add(1, Ordering::Relaxed);
        let (number, before, leg) = (session.attempt, session.index, session.backend.take());
        let tries = session.remember();
        if let Some(leg) = leg {
            let socket = leg.socket;
            tries.others.push(Attempt { number, index: before, socket, since: tries.since });
        }
        tries.tried.push(index);
        (tries.since, tries.slow, tries.rested) = (now, false, false);
    } else if let Some(tries) = session.tries() {
        // It has waited.
        tries.tried.push(index);
        tries.since = now;
    }
    session.index = index;
    session.attempt = session.attempt.wrapping_add(1).max(1);
}

/// Gives an attempt up. It may stand without our knowing: its backend is not to take it for an empty session.
fn abandon(session: &Session, index: u16, socket: OwnedFd, how: Connect) {
    socket::reset(socket);
    gone(session, index, how);
}

/// Counts an attempt out.
fn gone(session: &Session, index: u16, how: Connect) {
    let backend = &session.service.backends[usize::from(index)];
    backend.assigned.fetch_sub(1, Ordering::Relaxed);
    if matches!(how, Connect::Failed(_) | Connect::TimedOut) {
        backend.connect_errors.fetch_add(1, Ordering::Relaxed);
    }
    if let Some(extra) = &session.extra {
        extra.course.timed_out.set(how == Connect::TimedOut);
    }
    session.service.steer.connected(usize::from(index), how);
    session.service.steer.vacated(usize::from(index));
}

/// The client's address for a socket towards this backend; of the other family there is none.
fn client_of(session: &Session, backend: SocketAddr) -> Option<IpAddr> {
    let client = session.told().map(|ends| ends.source).or_else(|| peer(session))?;
    (client.is_ipv6() == backend.is_ipv6()).then(|| client.ip())
}

impl Session {
    /// It waits no longer, and looks for a backend again.
    fn go_on(&mut self) {
        if let Phase::Waiting(waiting) = std::mem::replace(&mut self.phase, Phase::Connecting(None)) {
            self.phase = Phase::Connecting(Some(waiting.tries));
        }
    }

    fn tries(&mut self) -> Option<&mut Tries> {
        match &mut self.phase {
            Phase::Connecting(Some(tries)) => Some(tries),
            _ => None,
        }
    }

    /// What there is to remember of the attempts, from the second on.
    fn remember(&mut self) -> &mut Tries {
        if self.tries().is_none() {
            let (tried, since) = (vec![self.index], self.born);
            self.phase = Phase::Connecting(Some(Box::new(Tries { tried, since, ..Tries::default() })));
        }
        match &mut self.phase {
            Phase::Connecting(Some(tries)) => tries,
            _ => unreachable!("it was just put there"),
        }
    }

    fn in_flight(&mut self) -> bool {
        self.backend.is_some() || self.tries().is_some_and(|tries| !tries.others.is_empty())
    }

    /// When the newest attempt began.
    fn since(&mut self) -> u64 {
        let born = self.born;
        self.tries().map_or(born, |tries| tries.since)
    }

    /// Takes out an attempt that is over: its backend, its socket, when it began.
    fn take_attempt(&mut self, number: u8) -> Option<(u16, OwnedFd, u64)> {
        if number == self.attempt
            && let Some(leg) = self.backend.take()
        {
            return Some((self.index, leg.socket, self.since()));
        }
        let tries = self.tries()?;
        let at = tries.others.iter().position(|other| other.number == number)?;
        let other = tries.others.swap_remove(at);
        Some((other.index, other.socket, other.since))
    }

    /// When the next one of its attempts takes too long.
    fn next_look(&mut self, timeout: u64) -> Option<u64> {
        let newest = self.backend.is_some().then(|| self.since());
        let patience = u64::from(self.patience);
        let Phase::Connecting(tries) = &self.phase else { return None };
        let slow = tries.as_ref().is_some_and(|tries| tries.slow);
        let newest = newest.map(|since| since + if slow { timeout } else { patience.min(timeout) });
        let others = tries.iter().flat_map(|tries| &tries.others).map(|other| other.since + timeout);
        others.chain(newest).min()
    }
}

fn open(ipv6: bool) -> Result<OwnedFd, Errno> {
    socket::open(ipv6).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOMEM)))
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX / 2)
}
