//! One direction of a session: bytes from one leg to the other, and their end.
//!
//! Small exchanges are copied through the one buffer of the loop, bulk goes through a pipe of the loop by
//! splice(2) and is never seen by this process. Only what the receiver does not take at once is held, and
//! while anything is held nothing more is read: TCP itself slows the sender down.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, recv, send};
use socket2::SockRef;

use super::pipe::{self, Pipe, Pipes};

/// Most that is copied at a time.
pub const BUFFER: usize = 64 * 1024;

/// Most that a lane holds: what a pipe takes of a socket's pages in its 64 places.
#[cfg(test)]
pub const MOST_HELD: usize = pipe::CAPACITY;

/// Bytes of one lane before other sessions get their turn.
const BUDGET: usize = 1024 * 1024;

/// A read of so many bytes may be a part of bulk …
const LARGE: usize = 16 * 1024;
/// … so many of them in a row are …
const BULK: u8 = 3;
/// … until one is as small as this.
const SMALL: usize = 4 * 1024;

/// Shared by all lanes of a loop.
#[derive(Debug)]
pub struct Io {
    buffer: Box<[u8]>,
    /// For bulk.
    pub pipes: Pipes,
    /// Bytes that were moved since somebody set it to zero.
    pub moved: u64,
}

impl Io {
    /// With so many pipes at most.
    pub fn new(pipes: usize) -> Self {
        Self { buffer: vec![0; BUFFER].into_boxed_slice(), pipes: Pipes::new(pipes), moved: 0 }
    }
}

/// One of the two connections of a session, and what is known of it.
#[derive(Debug)]
pub struct Leg {
    /// Closed when the leg is dropped.
    pub socket: OwnedFd,
    flags: u16,
}

impl Leg {
    /// There may be something to read.
    pub const READABLE: u16 = 1;
    /// A write may be taken.
    pub const WRITABLE: u16 = 1 << 1;
    /// The peer has ended its stream or worse, so what is read has an end.
    pub const ENDING: u16 = 1 << 2;
    /// The kernel has given the connection up.
    pub const FAILED: u16 = 1 << 3;
    /// A call has reported that: what looks like an end of stream from now on is none.
    pub const REPORTED: u16 = 1 << 4;
    /// Something was written.
    pub const WRITTEN: u16 = 1 << 5;
    /// TCP_NODELAY is set.
    pub const NO_DELAY: u16 = 1 << 6;
    /// All other options are set.
    pub const DRESSED: u16 = 1 << 7;
    /// TCP_USER_TIMEOUT is lifted, because its peer takes nothing and says so.
    pub const LIFTED: u16 = 1 << 8;

    /// A leg of which nothing else is known.
    pub fn new(socket: OwnedFd, flags: u16) -> Self {
        Self { socket, flags }
    }

    /// Whether a flag is set.
    pub fn is(&self, flag: u16) -> bool {
        self.flags & flag != 0
    }

    /// Sets a flag.
    pub fn set(&mut self, flag: u16) {
        self.flags |= flag;
    }

    /// Takes it back.
    pub fn clear(&mut self, flag: u16) {
        self.flags &= !flag;
    }

    /// Notes what epoll says.
    pub fn note(&mut self, events: EpollFlags) {
        if events.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP) {
            self.set(Self::READABLE);
        }
        if events.contains(EpollFlags::EPOLLOUT) {
            self.set(Self::WRITABLE);
        }
        if events.intersects(EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLHUP) {
            self.set(Self::ENDING);
        }
        if events.contains(EpollFlags::EPOLLERR) {
            self.set(Self::READABLE | Self::ENDING | Self::FAILED);
        }
    }

    /// Before a write. The first one is never delayed, so short sessions do without the option.
    fn about_to_write(&mut self) {
        if self.is(Self::WRITTEN) && !self.is(Self::NO_DELAY) {
            // Refused only on a connection that is gone, which the write will say.
            let _ = SockRef::from(&self.socket).set_tcp_nodelay(true);
            self.set(Self::NO_DELAY);
        }
        self.set(Self::WRITTEN);
    }

    /// A call says that the connection is gone.
    ///
    /// EPIPE is how the kernel names a reset that came after an end of stream; that end is still to be read.
    pub fn failed(&mut self, error: Errno) -> Errno {
        self.set(Self::FAILED | if error == Errno::EPIPE { 0 } else { Self::REPORTED });
        error
    }
}

impl AsFd for Leg {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What the receiver has not taken yet.
#[derive(Debug)]
enum Held {
    Nothing,
    Bytes(Box<Kept>),
    Piped(Pipe, u32),
}

#[derive(Debug)]
struct Kept {
    bytes: Box<[u8]>,
    taken: usize,
}

/// How far a lane got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// Nothing to read now, or all was read.
    Waiting,
    /// The receiver takes nothing now.
    Blocked,
    /// There may be more, but others wait.
    More,
}

/// Which of the two legs failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The one that is read.
    From(Errno),
    /// The one that is written.
    To(Errno),
}

/// One direction.
#[derive(Debug)]
pub struct Lane {
    held: Held,
    /// That the receiver took.
    pub bytes: u64,
    /// Large reads in a row.
    streak: u8,
    /// The sender has ended its stream, truly.
    pub ended: bool,
    /// The receiver was told.
    pub shut: bool,
    /// There was more than the receiver took at once, now or once.
    pub heavy: bool,
}

impl Lane {
    /// Nothing was carried.
    pub fn new() -> Self {
        Self { held: Held::Nothing, bytes: 0, streak: 0, ended: false, shut: false, heavy: false }
    }

    /// Everything the sender said is with the kernel, and it says no more.
    pub fn is_done(&self) -> bool {
        self.ended && !self.holds()
    }

    /// Whether something was read and not yet taken.
    pub fn holds(&self) -> bool {
        !matches!(self.held, Held::Nothing)
    }

    /// Gives up what is held.
    pub fn discard(&mut self, io: &mut Io) {
        match std::mem::replace(&mut self.held, Held::Nothing) {
            Held::Piped(pipe, _) => io.pipes.lose(pipe),
            Held::Bytes(_) | Held::Nothing => {}
        }
    }

    /// As much as there is and is taken.
    pub fn carry(
        &mut self,
        from: &mut Leg,
        to: &mut Leg,
        io: &mut Io,
        count: &AtomicU64,
    ) -> Result<Carried, Broken> {
        let mut read = 0;
        loop {
            if !self.flush(to, io, count).map_err(|error| Broken::To(to.failed(error)))? {
                self.heavy = true;
                return Ok(Carried::Blocked);
            }
            if self.ended || !from.is(Leg::READABLE) {
                return Ok(Carried::Waiting);
            }
            if read >= BUDGET {
                return Ok(Carried::More);
            }
            let pipe = if self.streak < BULK { None } else { io.pipes.take() };
            read += match pipe {
                Some(pipe) => self.fill(pipe, from, io)?,
                None => self.copy(from, to, io, count)?,
            };
        }
    }

    /// Writes what is held. Whether nothing is left.
    fn flush(&mut self, to: &mut Leg, io: &mut Io, count: &AtomicU64) -> Result<bool, Errno> {
        while self.holds() {
            if !to.is(Leg::WRITABLE) {
                return Ok(false);
            }
            to.about_to_write();
            let written = match &self.held {
                Held::Nothing => return Ok(true),
                Held::Bytes(kept) => {
                    send(to.socket.as_raw_fd(), &kept.bytes[kept.taken..], MsgFlags::MSG_NOSIGNAL)
                }
                Held::Piped(pipe, length) => splice(
                    &pipe.read,
                    None,
                    &to.socket,
                    None,
                    *length as usize,
                    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK,
                ),
            };
            match written {
                Ok(written) => {
                    self.note(written, io, count);
                    self.take(written, io);
                }
                Err(Errno::EAGAIN) => to.clear(Leg::WRITABLE),
                Err(Errno::EINTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// So many of the bytes that are held are with the receiver.
    fn take(&mut self, written: usize, io: &mut Io) {
        let empty = match &mut self.held {
            Held::Nothing => true,
            Held::Bytes(kept) => {
                kept.taken += written;
                kept.taken >= kept.bytes.len()
            }
            Held::Piped(_, length) => {
                *length = length.saturating_sub(u32::try_from(written).unwrap_or(u32::MAX));
                *length == 0
            }
        };
        if empty && let Held::Piped(pipe, _) = std::mem::replace(&mut self.held, Held::Nothing) {
            io.pipes.give(pipe);
        }
    }

    /// From the sender into a pipe, from where it is flushed.
    fn fill(&mut self, pipe: Pipe, from: &mut Leg, io: &mut Io) -> Result<usize, Broken> {
        let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
        match splice(&from.socket, None, &pipe.write, None, pipe::CAPACITY, flags) {
            Ok(0) => {
                io.pipes.give(pipe);
                self.end(from)
            }
            Ok(read) => {
                self.judge(read);
                self.heavy = true;
                self.held = Held::Piped(pipe, u32::try_from(read).unwrap_or(u32::MAX));
                Ok(read)
            }
            Err(error) => {
                io.pipes.give(pipe);
                nothing_read(error, from)
            }
        }
    }

    /// Through the buffer; what is not taken is kept.
    fn copy(
        &mut self,
        from: &mut Leg,
        to: &mut Leg,
        io: &mut Io,
        count: &AtomicU64,
    ) -> Result<usize, Broken> {
        let read = match recv(from.socket.as_raw_fd(), &mut io.buffer, MsgFlags::empty()) {
            Ok(0) => return self.end(from),
            Ok(read) => read,
            Err(error) => return nothing_read(error, from),
        };
        self.judge(read);
        if read < io.buffer.len() && !from.is(Leg::ENDING) {
            // That was all; what comes from now on is an event of its own.
            from.clear(Leg::READABLE);
        }
        to.about_to_write();
        let written = match send(to.socket.as_raw_fd(), &io.buffer[..read], MsgFlags::MSG_NOSIGNAL) {
            Ok(written) => written,
            Err(Errno::EAGAIN | Errno::EINTR) => 0,
            Err(error) => return Err(Broken::To(to.failed(error))),
        };
        if written < read {
            let bytes = io.buffer[written..read].into();
            self.held = Held::Bytes(Box::new(Kept { bytes, taken: 0 }));
        }
        self.note(written, io, count);
        Ok(read)
    }

    fn note(&mut self, written: usize, io: &mut Io, count: &AtomicU64) {
        let written = written as u64;
        self.bytes += written;
        io.moved += written;
        count.fetch_add(written, Ordering::Relaxed);
    }

    /// Whether this is bulk.
    fn judge(&mut self, read: usize) {
        if read >= LARGE {
            self.streak = self.streak.saturating_add(1);
        } else if read < SMALL {
            self.streak = 0;
        }
    }

    fn end(&mut self, from: &mut Leg) -> Result<usize, Broken> {
        if from.is(Leg::REPORTED) {
            return Err(Broken::From(Errno::ECONNRESET));
        }
        self.ended = true;
        from.clear(Leg::READABLE);
        Ok(0)
    }
}

fn nothing_read(error: Errno, from: &mut Leg) -> Result<usize, Broken> {
    match error {
        Errno::EAGAIN => {
            from.clear(Leg::READABLE);
            Ok(0)
        }
        Errno::EINTR => Ok(0),
        error => Err(Broken::From(from.failed(error))),
    }
}
