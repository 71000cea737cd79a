//! One session: two legs, a lane each way, and how it ends.
//!
//! What one peer does the other one sees: an end of stream in one direction leaves the other direction open,
//! a reset arrives as a reset and never as an end of stream, so that a truncated stream cannot look complete.
//! A reset does not overtake the bytes that were sent before it.

use std::cell::Cell;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use nix::errno::Errno;
use socket2::SockRef;

use super::lane::{Broken, Carried, Io, Lane, Leg};
use super::proxy::{Ends, Reader};
use super::service::{End, Service, Side};
use super::socket;

/// Milliseconds that bytes sent before a reset may take to reach the other peer's host.
const SETTLE: u64 = 1000;

/// Longest pause between two looks whether they have.
const LONGEST_PAUSE: u32 = 50;

/// A session, while the client is connected.
#[derive(Debug)]
pub struct Session {
    /// What it was accepted for.
    pub service: Arc<Service>,
    /// Towards the client.
    pub client: Leg,
    /// Towards the backend, or the newest attempt at one.
    pub backend: Option<Leg>,
    /// Index of that backend.
    pub index: u16,
    /// Milliseconds until another one is tried besides.
    pub patience: u16,
    /// Number of that attempt.
    pub attempt: u8,
    /// Waits for its turn in the loop.
    pub queued: bool,
    /// Both peers had everything when that was last looked at.
    pub quiet: bool,
    /// How far it is.
    pub phase: Phase,
    /// What the control side knows it by.
    pub tag: u32,
    /// What only some sessions need.
    pub extra: Option<Box<Extra>>,
    up: Lane,
    down: Lane,
    /// When it was accepted, in the loop's milliseconds.
    pub born: u64,
    /// When a byte last moved, in ticks of [`tick`].
    moved: u32,
    /// When the newest attempt began, in the loop's microseconds.
    pub begun: u32,
}

/// What is remembered of sessions with a PROXY header, and of those that are logged.
#[derive(Debug, Default)]
pub struct Extra {
    /// What its PROXY header says of it.
    pub told: Option<Ends>,
    /// How it got to its backend.
    pub course: Course,
}

/// How a session got to its backend, in milliseconds since it was accepted.
#[derive(Debug, Default)]
pub struct Course {
    /// Who connected: of a connection that was reset the kernel does not know it any more.
    pub peer: Option<SocketAddr>,
    /// The first attempt began.
    pub begun: Option<u32>,
    /// A backend answered.
    pub connected: Option<u32>,
    /// The first backend that was tried.
    pub first: u16,
    /// The last attempt that failed took too long.
    pub timed_out: Cell<bool>,
}

/// How far a session is.
#[derive(Debug)]
pub enum Phase {
    /// Its PROXY header is not whole yet.
    Greeting(Box<Reader>),
    /// Looking for a backend; with what there is to remember from the second attempt on, or when the first one
    /// did not begin at once.
    Connecting(Option<Box<Tries>>),
    /// Waits for a place at a backend, with no socket for one.
    Waiting(Box<Waiting>),
    /// Carries bytes.
    Open,
    /// One peer is gone, the other one still gets what it sent.
    Settling(Box<Settling>),
}

/// The attempts of a session that needs more than one.
#[derive(Debug, Default)]
pub struct Tries {
    /// Backends that were tried.
    pub tried: Vec<u16>,
    /// Under way besides the newest.
    pub others: Vec<Attempt>,
    /// When the newest one began.
    pub since: u64,
    /// The newest one has not answered for so long that another may be tried.
    pub slow: bool,
    /// It has paused since.
    pub rested: bool,
}

impl Tries {
    /// Nothing was tried; that begins now.
    pub fn since(now: u64) -> Self {
        Self { since: now, ..Self::default() }
    }
}

/// A session that waits for a place, or for its next attempt.
#[derive(Debug)]
pub struct Waiting {
    /// By which it is called. 0: it asks by itself when the time is over.
    pub ticket: u64,
    /// Until then.
    pub until: u64,
    /// What it did before.
    pub tries: Box<Tries>,
}

/// An attempt to connect that goes on although the next one has begun.
#[derive(Debug)]
pub struct Attempt {
    /// Of its events.
    pub number: u8,
    /// Its backend.
    pub index: u16,
    /// Connecting.
    pub socket: OwnedFd,
    /// When it began.
    pub since: u64,
}

/// The last moments of a broken session.
#[derive(Debug)]
pub struct Settling {
    broken: Side,
    until: u64,
    pause: u32,
}

/// What a session needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// An event.
    Waiting,
    /// Another turn.
    More,
    /// Another turn after so many milliseconds, or an event.
    Later(u64),
    /// To be closed.
    Over(End),
}

/// Coarse time in few bytes: eighths of a second would do, these are 8 ms and wrap after a year.
pub fn tick(now: u64) -> u32 {
    (now >> 3) as u32
}

impl Session {
    /// A client that was just accepted.
    pub fn new(service: Arc<Service>, client: OwnedFd, now: u64) -> Self {
        Self {
            service,
            // Accepted connections have the options of the listening socket.
            client: Leg::new(client, Leg::NO_DELAY | Leg::DRESSED),
            backend: None,
            index: 0,
            patience: 0,
            attempt: 0,
            queued: false,
            quiet: true,
            phase: Phase::Connecting(None),
            tag: 0,
            extra: None,
            up: Lane::new(),
            down: Lane::new(),
            born: now,
            moved: tick(now),
            begun: 0,
        }
    }

    /// Bytes from the client, and to it.
    pub fn bytes(&self) -> (u64, u64) {
        (self.up.bytes, self.down.bytes)
    }

    /// What its PROXY header says of it.
    pub fn told(&self) -> Option<&Ends> {
        self.extra.as_ref()?.told.as_ref()
    }

    /// Milliseconds since it was accepted.
    pub fn age(&self, now: u64) -> u32 {
        u32::try_from(now.saturating_sub(self.born)).unwrap_or(u32::MAX)
    }

    /// A backend has answered.
    pub fn has_backend(&self) -> bool {
        matches!(self.phase, Phase::Open | Phase::Settling(_))
    }

    /// Milliseconds since a byte moved.
    pub fn idle(&self, now: u64) -> u64 {
        u64::from(tick(now).wrapping_sub(self.moved)) << 3
    }

    /// The leg of that side, if there is one.
    pub fn leg(&mut self, side: Side) -> Option<&mut Leg> {
        match side {
            Side::Client => Some(&mut self.client),
            Side::Backend => self.backend.as_mut(),
        }
    }

    /// Carries what there is both ways.
    pub fn pump(&mut self, io: &mut Io, now: u64) -> Flow {
        match self.phase {
            Phase::Greeting(_) | Phase::Connecting(_) | Phase::Waiting(_) => return Flow::Waiting,
            Phase::Settling(_) => return self.settle(io, now),
            Phase::Open => {}
        }
        let Some(backend) = &mut self.backend else { return Flow::Waiting };
        let counts = &self.service.backends[usize::from(self.index)];
        io.moved = 0;
        let up = self.up.carry(&mut self.client, backend, io, &counts.bytes_in);
        let down = self.down.carry(backend, &mut self.client, io, &counts.bytes_out);
        if io.moved > 0 {
            self.moved = tick(now);
            self.quiet = false;
        }
        let broken = match (up, down) {
            (Err(Broken::From(_)), _) | (Ok(_), Err(Broken::To(_))) => Some(Side::Client),
            (Err(Broken::To(_)), _) | (Ok(_), Err(Broken::From(_))) => Some(Side::Backend),
            (Ok(_), Ok(_)) if self.up.is_done() && self.down.is_done() => return Flow::Over(End::Complete),
            // Its lane is blocked or has ended, so that no read could say it.
            (Ok(_), Ok(_)) if self.client.is(Leg::FAILED) => Some(Side::Client),
            (Ok(_), Ok(_)) if backend.is(Leg::FAILED) => Some(Side::Backend),
            (Ok(_), Ok(_)) => pass_on(&mut self.up, backend, Side::Backend)
                .or_else(|| pass_on(&mut self.down, &mut self.client, Side::Client)),
        };
        match broken {
            Some(side) => self.break_off(side, io, now),
            None if up == Ok(Carried::More) || down == Ok(Carried::More) => Flow::More,
            None => Flow::Waiting,
        }
    }

    /// The connection of `broken` is gone. What it sent before still goes to the other side.
    fn break_off(&mut self, broken: Side, io: &mut Io, now: u64) -> Flow {
        match broken {
            Side::Client => self.down.discard(io),
            Side::Backend => self.up.discard(io),
        }
        self.phase = Phase::Settling(Box::new(Settling { broken, until: now + SETTLE, pause: 1 }));
        self.settle(io, now)
    }

    /// Passes on the rest, and waits until the other peer's host has it: a reset would overtake it.
    ///
    /// What does not get there in time is lost, as it is when a host resets a connection by itself.
    fn settle(&mut self, io: &mut Io, now: u64) -> Flow {
        let Phase::Settling(settling) = &mut self.phase else { return Flow::Waiting };
        let Some(backend) = &mut self.backend else { return Flow::Waiting };
        let counts = &self.service.backends[usize::from(self.index)];
        let over = Flow::Over(End::Broken(settling.broken));
        let (lane, from, to, count, side) = match settling.broken {
            Side::Client => (&mut self.up, &mut self.client, backend, &counts.bytes_in, Side::Backend),
            Side::Backend => (&mut self.down, backend, &mut self.client, &counts.bytes_out, Side::Client),
        };
        if now >= settling.until || to.is(Leg::FAILED) {
            return over;
        }
        match lane.carry(from, to, io, count) {
            Err(Broken::To(_)) => return over,
            Ok(Carried::More) => return Flow::More,
            Ok(Carried::Blocked) => return Flow::Later(settling.until - now),
            // An error of the sender says only that everything before it was read.
            Ok(Carried::Waiting) | Err(Broken::From(_)) => {}
        }
        if pass_on(lane, to, side).is_some() {
            return over;
        }
        match socket::unacknowledged(&to.socket) {
            Ok(bytes) if bytes > 0 => {
                let pause = settling.pause;
                settling.pause = (2 * pause).min(LONGEST_PAUSE);
                Flow::Later(u64::from(pause).min(settling.until - now))
            }
            _ => over,
        }
    }

    /// Closes the sockets as the peers are to see it.
    pub fn close(self, end: End, io: &mut Io) {
        let Self { client, backend, mut up, mut down, .. } = self;
        if end == End::Complete {
            for (leg, lane) in [(Some(client), &down), (backend, &up)] {
                let Some(leg) = leg else { continue };
                if leg.is(Leg::DRESSED) {
                    socket::end_cleanly(&leg.socket);
                }
                if lane.heavy && socket::unacknowledged(&leg.socket).is_ok_and(|bytes| bytes > 0) {
                    // The kernel goes on sending; a peer that pauses is not to lose the rest.
                    let _ = SockRef::from(&leg.socket).set_tcp_user_timeout(None);
                }
            }
            return;
        }
        up.discard(io);
        down.discard(io);
        for leg in [Some(client), backend].into_iter().flatten() {
            if leg.is(Leg::DRESSED) { drop(leg.socket) } else { socket::reset(leg.socket) }
        }
    }
}

/// Passes an end of stream on, once. Which side broke at that.
fn pass_on(lane: &mut Lane, to: &mut Leg, side: Side) -> Option<Side> {
    if !lane.is_done() || lane.shut {
        return None;
    }
    lane.shut = true;
    match SockRef::from(&to.socket).shutdown(Shutdown::Write) {
        Ok(()) => None,
        Err(error) => {
            to.failed(Errno::from_raw(error.raw_os_error().unwrap_or(0)));
            Some(side)
        }
    }
}
