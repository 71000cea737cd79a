//! The daemon's end.

use std::collections::VecDeque;
use std::hash::Hash;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::dup;

use super::message::{Envelope, Message, Order, key_of};

/// Messages that wait while the guard is not scheduled. Beyond that a crash may leave something behind.
const MOST_WAITING: usize = 65_536;

/// What a thing that is undone is known by: anything, as long as it stays the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Name(u64);

impl Name {
    /// Of everything that tells it from others.
    pub fn of(what: impl Hash) -> Self {
        Self(key_of(&what))
    }
}

/// The way to the guard. Cheap to clone; without a guard everything is a no-op.
///
/// Never waits: what does not fit is sent with the next message.
#[derive(Clone, Debug, Default)]
pub struct ToGuard(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    socket: OwnedFd,
    waiting: Mutex<VecDeque<Waiting>>,
}

#[derive(Debug)]
struct Waiting {
    datagram: Vec<u8>,
    socket: Option<OwnedFd>,
}

impl ToGuard {
    /// There is no guard.
    pub fn none() -> Self {
        Self(None)
    }

    /// Over this end of the pair.
    pub(super) fn over(socket: OwnedFd) -> Self {
        Self(Some(Arc::new(Inner { socket, waiting: Mutex::default() })))
    }

    /// Whether there is a guard.
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// The guard may send by this socket from now on, known by the number of its descriptor here.
    pub fn lend(&self, socket: BorrowedFd<'_>) {
        self.send(&Message::Slot(slot(socket.as_raw_fd())), Some(socket));
    }

    /// The guard closes it.
    pub fn take_back(&self, socket: BorrowedFd<'_>) {
        self.send(&Message::Close(slot(socket.as_raw_fd())), None);
    }

    /// If the daemon dies, `payload` is to be sent by `socket`; replaces what has the same name.
    pub fn undo(
        &self,
        name: Name,
        order: Order,
        socket: BorrowedFd<'_>,
        envelope: Option<Envelope>,
        payload: &[u8],
    ) {
        let slot = slot(socket.as_raw_fd());
        self.send(&Message::Undo { key: name.0, order, slot, envelope, payload }, None);
    }

    /// That is done, or no longer to be done.
    pub fn forget(&self, name: Name) {
        self.send(&Message::Forget(name.0), None);
    }

    /// Nothing is to be sent, however the daemon ends.
    pub fn forget_all(&self) {
        self.send(&Message::ForgetAll, None);
    }

    /// The guard acts as soon as the calling thread ends: on a busy machine the others of a killed process may take
    /// milliseconds more. Since Linux 6.9 (pidfd_open(2), PIDFD_THREAD); before, it waits for the process.
    pub fn watch_this_thread(&self) {
        if self.is_there()
            && let Some(thread) = this_thread()
        {
            self.send(&Message::Heart, Some(thread.as_fd()));
        }
    }

    /// For the service manager, sd_notify(3): `READY=1`, `STATUS=…`. It listens to the service's own process alone.
    pub fn tell(&self, words: &str) {
        if self.is_there() {
            self.send(&Message::Tell(words), None);
        } else {
            // Without a service manager there is nobody to tell.
            let _ = sd_notify::notify(&[sd_notify::NotifyState::Custom(words)]);
        }
    }

    /// Sends what had to wait.
    pub fn flush(&self) {
        if let Some(inner) = &self.0 {
            inner.flush(&mut inner.waiting.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// Returns when the guard has gone; never without one.
    pub async fn gone(&self) {
        let Some(inner) = &self.0 else { return std::future::pending().await };
        let socket = inner.socket.try_clone().map(UnixStream::from);
        let Ok(socket) = socket.and_then(tokio::net::UnixStream::from_std) else {
            return std::future::pending().await;
        };
        while socket.readable().await.is_ok() {
            match socket.try_read(&mut [0]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
            }
        }
    }

    fn send(&self, message: &Message<'_>, socket: Option<BorrowedFd<'_>>) {
        let Some(inner) = &self.0 else { return };
        let mut datagram = Vec::with_capacity(64);
        message.write(&mut datagram);
        let mut waiting = inner.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        inner.flush(&mut waiting);
        let waits = !waiting.is_empty() || inner.send(&datagram, socket) == Err(Errno::EAGAIN);
        if waits && waiting.len() < MOST_WAITING {
            // A copy: the original may be closed by the time it is sent.
            let socket = socket.and_then(|socket| dup(socket).ok());
            waiting.push_back(Waiting { datagram, socket });
        }
    }
}

impl Inner {
    fn flush(&self, waiting: &mut VecDeque<Waiting>) {
        while let Some(first) = waiting.front() {
            match self.send(&first.datagram, first.socket.as_ref().map(AsFd::as_fd)) {
                Err(Errno::EAGAIN) => return,
                // Otherwise the guard is gone, and the daemon on its way out.
                Ok(()) | Err(_) => drop(waiting.pop_front()),
            }
        }
    }

    fn send(&self, datagram: &[u8], socket: Option<BorrowedFd<'_>>) -> Result<(), Errno> {
        let sockets = socket.map(|socket| [socket.as_raw_fd()]);
        let rights = sockets.as_ref().map(|sockets| ControlMessage::ScmRights(sockets));
        let control = rights.as_slice();
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        loop {
            match sendmsg::<()>(self.socket.as_raw_fd(), &[IoSlice::new(datagram)], control, flags, None) {
                Err(Errno::EINTR) => {}
                sent => return sent.map(drop),
            }
        }
    }
}

fn this_thread() -> Option<OwnedFd> {
    /// The same number as O_EXCL.
    const PIDFD_THREAD: libc::c_int = libc::O_EXCL;
    // SAFETY: plain numbers; what comes back is a descriptor of ours, or negative.
    let number = unsafe { libc::syscall(libc::SYS_pidfd_open, libc::gettid(), PIDFD_THREAD) };
    let number = RawFd::try_from(number).ok().filter(|number| *number >= 0)?;
    // SAFETY: the kernel has just made it for us, and nobody else knows it.
    Some(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Numbers of descriptors are not negative.
fn slot(socket: RawFd) -> u32 {
    socket.unsigned_abs()
}

/// Makes both ends; what is sent is kept in order and in pieces.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socketpair, sockopt};
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let (ours, daemons) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
    // Room for what a thousand instances say at once. Without permission the rest waits here.
    let room = 8 << 20;
    if setsockopt(&daemons, sockopt::SndBufForce, &room).is_err() {
        let _ = setsockopt(&daemons, sockopt::SndBuf, &room);
    }
    Ok((ours, daemons))
}
