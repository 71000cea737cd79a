//! The data path: bytes, ends and resets of one session, both ways.
//!
//! What one peer does the other one sees: an end of stream in one direction leaves the other direction open,
//! a reset arrives as a reset and never as an end of stream, so that a truncated stream cannot look complete.
//! A reset does not overtake the bytes that were sent before it.
//!
//! An idle session holds no buffer: each worker thread has one to read into, and only what the receiver does
//! not take at once is kept, at most [`CHUNK`] bytes in each direction. While it is kept nothing more is read,
//! so that the sender is slowed down by TCP itself.

use std::cell::RefCell;
use std::io;
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::time::{self, Instant};

/// Most that is read at a time, and most that is kept for a slow receiver.
pub const CHUNK: usize = 64 * 1024;

/// Chunks of one direction before other sessions get their turn.
const BURST: usize = 16;

/// How long bytes that were sent before a reset may take to reach the other peer's host.
const SETTLE: Duration = Duration::from_secs(1);

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK].into_boxed_slice());
}

/// One of the two peers of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Who connected to us.
    Client,
    /// Whom we chose.
    Backend,
}

/// How a session ended by itself.
#[derive(Debug)]
pub enum End {
    /// Both peers have sent their end of stream, and all bytes are with the kernel.
    Complete,
    /// A connection broke: a reset, or no answer for too long. Both are to be reset.
    Broken {
        /// Whose.
        peer: Peer,
        /// What the kernel says.
        error: io::Error,
    },
}

/// Counters that a session adds to, and its own time of last movement.
#[derive(Debug)]
pub struct Meter<'a> {
    /// Bytes from the client that the backend's socket took.
    pub bytes_in: &'a AtomicU64,
    /// Bytes from the backend that the client's socket took.
    pub bytes_out: &'a AtomicU64,
    /// Start of the session.
    pub since: Instant,
    /// When a byte last moved, in nanoseconds since then.
    pub moved: AtomicU64,
}

impl Meter<'_> {
    /// When a byte last moved; at first the start of the session.
    pub fn last_moved(&self) -> Instant {
        self.since + Duration::from_nanos(self.moved.load(Ordering::Relaxed))
    }
}

/// Carries both directions to their ends. To be dropped when the session must end sooner.
pub async fn both_ways(client: &TcpStream, backend: &TcpStream, meter: &Meter<'_>) -> End {
    let mut up = Direction::new(client, backend, meter.bytes_in, meter);
    let mut down = Direction::new(backend, client, meter.bytes_out, meter);
    // The directions come first: an end of stream that came before the reset is passed on before it.
    let (peer, error, seen) = tokio::select! {
        biased;
        ends = async { tokio::try_join!(
            async { up.carry().await.map_err(|broken| broken.of(Peer::Client, Peer::Backend)) },
            async { down.carry().await.map_err(|broken| broken.of(Peer::Backend, Peer::Client)) },
        ) } => match ends {
            Ok(_) => return End::Complete,
            Err((peer, error)) => (peer, error, true),
        },
        // A reset is seen also while nothing is read, because the other peer takes nothing.
        error = broken(client) => (Peer::Client, error, false),
        error = broken(backend) => (Peer::Backend, error, false),
    };
    let rest = match peer {
        Peer::Client => &mut up,
        Peer::Backend => &mut down,
    };
    // What does not get there in time is lost, as it is when a host resets a connection by itself.
    let _ = time::timeout(SETTLE, rest.settle(seen)).await;
    End::Broken { peer, error }
}

/// Resolves when the kernel has given the connection up.
pub(super) async fn broken(stream: &TcpStream) -> io::Error {
    match stream.ready(Interest::ERROR).await {
        // The error itself stays with the socket: reading it here would turn it into an end of stream for
        // whoever reads the bytes before it.
        Ok(_) => io::ErrorKind::ConnectionReset.into(),
        Err(error) => error,
    }
}

/// Which of the two sockets failed.
enum Broken {
    From(io::Error),
    To(io::Error),
}

impl Broken {
    fn of(self, from: Peer, to: Peer) -> (Peer, io::Error) {
        match self {
            Self::From(error) => (from, error),
            Self::To(error) => (to, error),
        }
    }
}

/// What came of one attempt to move bytes.
enum Step {
    /// All that was read was taken.
    Moved,
    /// The receiver took a part, the rest is kept.
    Blocked,
    /// Nothing to read now.
    Nothing,
    /// End of stream.
    Ended,
}

/// One direction.
struct Direction<'a> {
    from: &'a TcpStream,
    to: &'a TcpStream,
    count: &'a AtomicU64,
    meter: &'a Meter<'a>,
    /// What `to` has not taken yet, from `taken` on.
    kept: Vec<u8>,
    taken: usize,
    ended: bool,
    shut: bool,
}

impl<'a> Direction<'a> {
    fn new(from: &'a TcpStream, to: &'a TcpStream, count: &'a AtomicU64, meter: &'a Meter<'a>) -> Self {
        Self { from, to, count, meter, kept: Vec::new(), taken: 0, ended: false, shut: false }
    }

    /// Until the end of stream is passed on.
    async fn carry(&mut self) -> Result<(), Broken> {
        while !self.shut {
            self.flush().await?;
            if self.ended {
                SockRef::from(self.to).shutdown(Shutdown::Write).map_err(Broken::To)?;
                self.shut = true;
                break;
            }
            self.from.readable().await.map_err(Broken::From)?;
            self.burst().await?;
        }
        Ok(())
    }

    async fn burst(&mut self) -> Result<(), Broken> {
        for _ in 0..BURST {
            match self.step()? {
                Step::Moved => {}
                Step::Blocked | Step::Nothing => return Ok(()),
                Step::Ended => {
                    self.ended = true;
                    return Ok(());
                }
            }
        }
        tokio::task::yield_now().await;
        Ok(())
    }

    fn step(&mut self) -> Result<Step, Broken> {
        SCRATCH.with_borrow_mut(|scratch| {
            let read = match self.from.try_read(scratch) {
                Ok(0) => return Ok(Step::Ended),
                Ok(read) => read,
                Err(error) if is_not_now(&error) => return Ok(Step::Nothing),
                Err(error) => return Err(Broken::From(error)),
            };
            let mut rest = &scratch[..read];
            while !rest.is_empty() {
                match self.to.try_write(rest) {
                    Ok(written) => {
                        self.note(written);
                        rest = &rest[written..];
                    }
                    Err(error) if is_not_now(&error) => {
                        self.kept.extend_from_slice(rest);
                        return Ok(Step::Blocked);
                    }
                    Err(error) => return Err(Broken::To(error)),
                }
            }
            Ok(Step::Moved)
        })
    }

    /// Until `to` has taken what is kept.
    async fn flush(&mut self) -> Result<(), Broken> {
        while self.taken < self.kept.len() {
            self.to.writable().await.map_err(Broken::To)?;
            match self.to.try_write(&self.kept[self.taken..]) {
                Ok(written) => {
                    self.note(written);
                    self.taken += written;
                }
                Err(error) if is_not_now(&error) => {}
                Err(error) => return Err(Broken::To(error)),
            }
        }
        self.kept = Vec::new();
        self.taken = 0;
        Ok(())
    }

    fn note(&self, bytes: usize) {
        self.count.fetch_add(bytes as u64, Ordering::Relaxed);
        let moved = u64::try_from(self.meter.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.meter.moved.store(moved, Ordering::Relaxed);
    }

    /// After `from` broke: what it sent before still goes to `to`, and is waited for until `to`'s host has it.
    ///
    /// Once a call has reported the error (`seen`) the kernel says "end of stream" in its place, which must
    /// not be passed on. Before, an end of stream is a true one that came ahead of the reset.
    async fn settle(&mut self, seen: bool) {
        let delivered = async {
            self.flush().await?;
            while !self.ended && !self.shut {
                match self.step()? {
                    Step::Moved => tokio::task::yield_now().await,
                    Step::Blocked => self.flush().await?,
                    Step::Nothing => break,
                    Step::Ended => self.ended = true,
                }
            }
            if self.ended && !self.shut && !seen {
                SockRef::from(self.to).shutdown(Shutdown::Write).map_err(Broken::To)?;
                self.shut = true;
            }
            Ok::<(), Broken>(())
        }
        .await;
        // An error of `from` says only that everything before it was read.
        if let Err(Broken::To(_)) = delivered {
            return;
        }
        let mut pause = Duration::from_millis(1);
        while unacknowledged(self.to).is_ok_and(|bytes| bytes > 0) {
            time::sleep(pause).await;
            pause = (2 * pause).min(Duration::from_millis(50));
        }
    }
}

fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

mod ioctl {
    // SIOCOUTQ is the terminals' TIOCOUTQ under another name.
    nix::ioctl_read_bad!(outq, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

/// Bytes in the send queue that the peer's host has not acknowledged.
pub(super) fn unacknowledged(stream: &TcpStream) -> nix::Result<i32> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open as long as the stream is borrowed, and TIOCOUTQ writes one int.
    unsafe { ioctl::outq(stream.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let connect = TcpStream::connect(listener.local_addr().unwrap());
        let (connected, accepted) = tokio::join!(connect, listener.accept());
        (connected.unwrap(), accepted.unwrap().0)
    }

    #[tokio::test]
    async fn one_chunk_at_most_is_kept_for_a_receiver_that_takes_nothing_and_none_when_idle() {
        let ((mut sender, from), (to, receiver)) = (pair().await, pair().await);
        let (bytes_in, bytes_out) = (AtomicU64::new(0), AtomicU64::new(0));
        let (since, moved) = (Instant::now(), AtomicU64::new(0));
        let meter = Meter { bytes_in: &bytes_in, bytes_out: &bytes_out, since, moved };
        let mut direction = Direction::new(&from, &to, &bytes_in, &meter);
        let mut sent = 0;
        let chunk = vec![0; CHUNK];
        let blocked = async {
            while let Ok(n) = time::timeout(Duration::from_millis(300), sender.write(&chunk)).await {
                sent += n.unwrap();
            }
        };
        tokio::select! {
            _ = direction.carry() => panic!("nobody has ended"),
            () = blocked => {}
        }
        let kept = direction.kept.len() - direction.taken;
        assert!(0 < kept && kept <= CHUNK && direction.kept.capacity() <= CHUNK, "{kept} kept");

        let mut got = 0;
        let mut buffer = vec![0; CHUNK];
        let drained = async {
            while got < sent {
                receiver.readable().await.unwrap();
                got += receiver.try_read(&mut buffer).unwrap_or(0);
            }
        };
        tokio::select! {
            _ = direction.carry() => panic!("nobody has ended"),
            () = drained => {}
        }
        assert_eq!((got, direction.kept.capacity()), (sent, 0), "an idle session holds no buffer");
        assert_eq!(bytes_in.load(Ordering::Relaxed), sent as u64);
    }
}
