//! The data path: from accepted connections to backends and back, on threads of its own.
//!
//! Each loop is one thread with one epoll: it accepts from its own socket of each address (SO_REUSEPORT),
//! connects, and carries bytes by edge-triggered readiness. There is no task, no buffer and no pipe that
//! belongs to a session: one that is idle is its two sockets and some 130 bytes.
//!
//! The control side hands it a [`Service`] for each listener, which names the backends and a [`Steer`] that
//! chooses among them; another service for the same sockets takes the place of the one before without a
//! connection noticing it. It knows nothing of checks, names, configuration or events.

mod connect;
mod event_loop;
mod greeting;
mod lane;
mod mailbox;
mod orders;
mod pipe;
pub mod proxy;
mod service;
mod session;
mod slab;
mod socket;
mod stall;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::{self, JoinHandle};

use nix::sys::resource::{Resource, getrlimit};
use socket2::SockRef;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

pub use mailbox::{Session, SessionId, Which};
pub use service::{
    Answer, Ask, Backend, Choice, Connect, End, Ended, Keepalive, Service, Settings, Side, Steer, Tally,
    Waiter,
};
pub use session::Course;

#[cfg(test)]
pub use lane::MOST_HELD;

use super::beside::Way;
use event_loop::EventLoop;
use mailbox::{Command, Mailbox};

/// The running loops. Dropped, they reset their sessions and end.
#[derive(Debug)]
pub struct Path {
    loops: Vec<Running>,
}

#[derive(Debug)]
struct Running {
    mailbox: Arc<Mailbox>,
    thread: Option<JoinHandle<()>>,
}

/// The listening sockets of one address, one for each loop.
#[derive(Clone, Debug)]
pub struct Sockets {
    address: SocketAddr,
    sockets: Vec<Arc<OwnedFd>>,
    /// What brings the connections here, if they listen elsewhere.
    way: Option<Arc<Way>>,
}

impl Sockets {
    /// With the port that the kernel gave.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Clients connect to this address, and come here by that way.
    pub fn reached_by(self, address: SocketAddr, way: Arc<Way>) -> Self {
        Self { address, way: Some(way), ..self }
    }

    /// How clients come here, if it is not the plain way.
    pub fn way(&self) -> Option<&Way> {
        self.way.as_deref()
    }

    /// One of them; the others share its port.
    pub fn first(&self) -> Option<BorrowedFd<'_>> {
        self.sockets.first().map(|socket| socket.as_fd())
    }

    /// Whether they are the same sockets.
    pub fn is(&self, other: &Self) -> bool {
        self.sockets.first().zip(other.sockets.first()).is_some_and(|(one, other)| Arc::ptr_eq(one, other))
    }
}

impl Path {
    /// As many loops as that; one for each processor that this process may use is a good number.
    ///
    /// # Errors
    ///
    /// No descriptors or no threads: nothing is left running.
    pub fn start(loops: usize) -> io::Result<Self> {
        let loops = loops.max(1);
        let (limit, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        // Each pipe is two descriptors; an eighth of all is for pipes.
        let pipes = usize::try_from(limit / 16).unwrap_or(usize::MAX) / loops;
        let mut path = Self { loops: Vec::new() };
        let open: Arc<[AtomicU64]> = (0..loops).map(|_| AtomicU64::new(0)).collect();
        for number in 0..loops {
            let mailbox = Arc::new(Mailbox::new()?);
            let event_loop = EventLoop::new(number, open.clone(), mailbox.clone(), pipes)?;
            let thread = thread::Builder::new().name(format!("forward-{number}")).spawn(move || {
                if catch_unwind(AssertUnwindSafe(|| event_loop.run())).is_err() {
                    // Listening sockets that nobody accepts from are worse than a new start.
                    std::process::abort();
                }
            })?;
            path.loops.push(Running { mailbox, thread: Some(thread) });
        }
        Ok(path)
    }

    /// Listens on an address, also one that this host does not have. Nobody is accepted yet.
    ///
    /// # Errors
    ///
    /// What the kernel says, as when another process listens there.
    pub fn bind(&self, address: SocketAddr, settings: &Settings) -> io::Result<Sockets> {
        let sockets = socket::bind(address, settings, self.loops.len())?;
        let bound = sockets.first().map(|socket| SockRef::from(socket).local_addr()).transpose()?;
        let address = bound.and_then(|bound| bound.as_socket()).unwrap_or(address);
        Ok(Sockets { address, sockets: sockets.into_iter().map(Arc::new).collect(), way: None })
    }

    /// Accepts for this service, in place of the one before. Sessions stay with the service that they were
    /// accepted for. When this is done, nobody is accepted for the one before any more.
    ///
    /// # Errors
    ///
    /// The kernel refuses an option for the sockets; the service is served all the same.
    pub async fn serve(&self, sockets: &Sockets, service: &Arc<Service>) -> io::Result<()> {
        let mut dressed = Ok(());
        let (sender, mut done) = mpsc::unbounded_channel();
        for (running, socket) in self.loops.iter().zip(&sockets.sockets) {
            dressed = dressed.and(socket::dress_listening(&**socket, &service.settings));
            running.mailbox.post(Command::Serve(socket.clone(), service.clone(), sender.clone()));
        }
        drop(sender);
        while done.recv().await.is_some() {}
        dressed
    }

    /// Lets go of an address. Its sessions stay. The port is free when this is done.
    pub async fn close(&self, sockets: Sockets) {
        let (sender, mut done) = mpsc::unbounded_channel();
        for (running, socket) in self.loops.iter().zip(sockets.sockets) {
            running.mailbox.post(Command::Close(socket, sender.clone()));
        }
        drop(sender);
        while done.recv().await.is_some() {}
    }

    /// Resets sessions, whether or not the answer, how many they were, is waited for.
    pub fn end(&self, which: Which, end: End) -> impl Future<Output = usize> + use<> {
        let mut counts = self.tell(|sender| Command::End(which.clone(), end, sender));
        async move {
            let mut all = 0;
            while let Some(count) = counts.recv().await {
                all += count;
            }
            all
        }
    }

    /// Sessions that are still connecting to this backend go to another.
    pub fn redispatch(&self, backend: &Arc<Backend>) {
        for running in &self.loops {
            running.mailbox.post(Command::Redispatch(backend.clone()));
        }
    }

    /// What sessions there are.
    pub async fn sessions(&self) -> Vec<Session> {
        let mut receiver = self.tell(Command::List);
        let mut sessions = Vec::new();
        while let Some(session) = receiver.recv().await {
            sessions.push(session);
        }
        sessions
    }

    fn tell<T>(&self, command: impl Fn(UnboundedSender<T>) -> Command) -> UnboundedReceiver<T> {
        let (sender, receiver) = mpsc::unbounded_channel();
        for running in &self.loops {
            running.mailbox.post(command(sender.clone()));
        }
        receiver
    }
}

impl Drop for Path {
    /// Resets every session.
    fn drop(&mut self) {
        for running in &self.loops {
            running.mailbox.post(Command::Stop);
        }
        for running in &mut self.loops {
            if let Some(thread) = running.thread.take() {
                // A loop that panicked has ended the process.
                let _ = thread.join();
            }
        }
    }
}
