//! How the other threads speak to a loop.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::mpsc::UnboundedSender;

use super::service::{Backend, Choice, End, Service};
use super::slab::Key;

/// What a loop is told.
#[derive(Debug)]
pub enum Command {
    /// Accepts on the socket for this service from now on. The sender is dropped when the loop does.
    Serve(Arc<OwnedFd>, Arc<Service>, UnboundedSender<usize>),
    /// Accepts on it no longer. The sender is dropped when the loop has let go.
    Close(Arc<OwnedFd>, UnboundedSender<usize>),
    /// Ends sessions, and tells how many.
    End(Which, End, UnboundedSender<usize>),
    /// Sessions that connect to this backend go to another.
    Redispatch(Arc<Backend>),
    /// A session that waits goes to this backend.
    Call {
        /// Which.
        key: Key,
        /// Its ticket.
        ticket: u64,
        /// Its service from now on.
        service: Arc<Service>,
        /// A backend of that.
        choice: Choice,
    },
    /// What sessions there are.
    List(UnboundedSender<Session>),
    /// Ends all sessions, and the loop.
    Stop,
}

/// Some sessions.
#[derive(Clone, Debug)]
pub enum Which {
    /// Of this service.
    Service(Arc<Service>),
    /// Established with this backend.
    Backend(Arc<Backend>),
    /// Whose clients connected to this address of ours.
    Address(IpAddr),
    /// This one.
    One(SessionId),
}

/// Names a session for as long as it lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId {
    pub(super) of_loop: usize,
    pub(super) key: Key,
}

/// A session as it is seen from outside.
#[derive(Clone, Debug)]
pub struct Session {
    /// To end it.
    pub id: SessionId,
    /// Who it is.
    pub client: Option<SocketAddr>,
    /// Where the client connected to.
    pub local: Option<SocketAddr>,
    /// What it was accepted for.
    pub service: Arc<Service>,
    /// Its backend, if one has answered.
    pub backend: Option<usize>,
    /// Since it was accepted.
    pub age: Duration,
    /// Since a byte moved.
    pub idle: Duration,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// Where a loop finds its commands.
#[derive(Debug)]
pub struct Mailbox {
    commands: Mutex<Vec<Command>>,
    wake: EventFd,
}

impl Mailbox {
    /// Empty.
    ///
    /// # Errors
    ///
    /// No descriptor to wake the loop with.
    pub fn new() -> nix::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self { commands: Mutex::default(), wake })
    }

    /// To wait for.
    pub fn wake(&self) -> &EventFd {
        &self.wake
    }

    /// Adds a command.
    pub fn post(&self, command: Command) {
        self.commands.lock().unwrap_or_else(PoisonError::into_inner).push(command);
        self.ring();
    }

    /// Wakes the loop.
    pub fn ring(&self) {
        // Refused only when it is as full as can be, and then the loop wakes anyway.
        let _ = self.wake.write(1);
    }

    /// Takes what there is.
    pub fn take(&self) -> Vec<Command> {
        let _ = self.wake.read();
        std::mem::take(&mut self.commands.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Wakes the loops that wait for a place in a listener.
#[derive(Debug, Default)]
pub struct Bell {
    anybody: AtomicBool,
    waiting: Mutex<Vec<Arc<Mailbox>>>,
}

impl Bell {
    /// From now on the loop of this mailbox waits. It must look once more before it does.
    pub fn wait(&self, mailbox: &Arc<Mailbox>) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if !waiting.iter().any(|one| Arc::ptr_eq(one, mailbox)) {
            waiting.push(mailbox.clone());
        }
        drop(waiting);
        self.anybody.store(true, Ordering::SeqCst);
    }

    /// Wakes all.
    pub fn ring(&self) {
        if self.anybody.load(Ordering::SeqCst) && self.anybody.swap(false, Ordering::SeqCst) {
            for mailbox in self.waiting.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
                mailbox.ring();
            }
        }
    }
}
