//! The load: a backend that echoes and sends, and a client, each one thread with one epoll on one processor.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use netns_tests::Outcome;
use netns_tests::host::Host;
use nix::errno::Errno;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockType, SockaddrIn, connect, recv, send, setsockopt, socket, sockopt,
};
use nix::unistd::Pid;

/// What comes here is sent back.
pub const ECHO: u16 = 7001;
/// Who connects here is sent zeros without end.
pub const SOURCE: u16 = 7002;

/// Where the load runs; the proxy has processor 0.
pub const PROCESSOR: usize = 1;
/// Before the figures count.
const WARM_UP: Duration = Duration::from_millis(500);
const STREAMS: usize = 8;
const AT_A_TIME: usize = 64;
const CHUNK: usize = 256 * 1024;

/// What the client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// Reads streams; amounts are GB.
    Bulk,
    /// Connects, asks once, closes; amounts are connections.
    Short,
    /// Asks again and again; amounts are requests.
    PingPong,
}

/// What came of it.
pub struct Done {
    pub amount: f64,
    pub cpu: Duration,
    pub lasted: Duration,
}

fn pin() {
    let mut only = CpuSet::new();
    only.set(PROCESSOR).expect("there are two");
    sched_setaffinity(Pid::from_raw(0), &only).expect("this processor is ours");
}

/// The backend's thread.
pub struct Backends {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Backends {
    /// Listens on both ports of this host.
    pub fn start(host: &Host) -> Self {
        let listeners = host.inside(|| {
            [ECHO, SOURCE].map(|port| {
                let listener = TcpListener::bind((host.ipv4(), port)).expect("our own host");
                // std's backlog of 128 would refuse what 64 at a time and a proxy's retries bring.
                nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(4096).expect("in range"))
                    .expect("our own socket");
                listener.set_nonblocking(true).expect("our own socket");
                listener
            })
        });
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let thread = std::thread::spawn(move || {
            pin();
            serve(&listeners, &told);
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Backends {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn watch(epoll: &Epoll, socket: &impl std::os::fd::AsFd, events: EpollFlags, token: usize) {
    epoll.add(socket, EpollEvent::new(events, token as u64)).expect("a new socket");
}

fn serve(listeners: &[TcpListener; 2], stop: &AtomicBool) {
    let epoll = Epoll::new(EpollCreateFlags::empty()).expect("a descriptor");
    watch(&epoll, &listeners[0], EpollFlags::EPOLLIN, 0);
    watch(&epoll, &listeners[1], EpollFlags::EPOLLIN, 1);
    let mut open: Vec<Option<(TcpStream, bool)>> = vec![None, None];
    let mut free = Vec::new();
    let mut events = vec![EpollEvent::empty(); 256];
    let mut buffer = vec![0; CHUNK];
    let zeros = vec![0; CHUNK];
    while !stop.load(Ordering::Relaxed) {
        let count = epoll.wait(&mut events, EpollTimeout::from(50u16)).unwrap_or(0);
        for event in &events[..count] {
            let token = event.data() as usize;
            if token < 2 {
                while let Ok((stream, _)) = listeners[token].accept() {
                    let place = free.pop().unwrap_or_else(|| {
                        open.push(None);
                        open.len() - 1
                    });
                    stream.set_nonblocking(true).expect("a new socket");
                    stream.set_nodelay(true).expect("a new socket");
                    let is_source = token == 1;
                    let events = if is_source { EpollFlags::EPOLLOUT } else { EpollFlags::EPOLLIN };
                    watch(&epoll, &stream, events, place);
                    open[place] = Some((stream, is_source));
                }
                continue;
            }
            let Some((stream, is_source)) = &mut open[token] else { continue };
            let over = if *is_source {
                stream.write(&zeros).is_err_and(|error| error.kind() != std::io::ErrorKind::WouldBlock)
            } else {
                match stream.read(&mut buffer) {
                    Ok(0) => true,
                    // So little always fits.
                    Ok(read) => stream.write_all(&buffer[..read]).is_err(),
                    Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
                }
            };
            if over {
                open[token] = None;
                free.push(token);
            }
        }
    }
}

/// One connection of the client.
struct Slot {
    socket: OwnedFd,
    missing: usize,
}

fn open(target: Ipv4Addr, port: u16) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let made = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
    setsockopt(&made, sockopt::TcpNoDelay, &true)?;
    match connect(made.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(target, port))) {
        Ok(()) | Err(Errno::EINPROGRESS) => Ok(made),
        Err(error) => Err(error),
    }
}

/// Runs one case through the proxy; `cpu` is asked at both ends of what counts.
pub fn drive(
    client: &Host,
    target: &str,
    case: Case,
    lasting: Duration,
    cpu: impl Fn() -> Duration + Sync,
) -> Done {
    let target: Ipv4Addr = target.parse().expect("an address");
    std::thread::scope(|scope| {
        let driver = scope.spawn(|| client.inside(|| Client::new(target, case).run(lasting, &cpu)));
        driver.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

struct Client {
    target: Ipv4Addr,
    case: Case,
    epoll: Epoll,
    slots: Vec<Slot>,
    buffer: Vec<u8>,
    amount: f64,
}

impl Client {
    fn new(target: Ipv4Addr, case: Case) -> Self {
        pin();
        let epoll = Epoll::new(EpollCreateFlags::empty()).expect("a descriptor");
        let mut this = Self { target, case, epoll, slots: Vec::new(), buffer: vec![0; 1 << 20], amount: 0.0 };
        for place in 0..if case == Case::Bulk { STREAMS } else { AT_A_TIME } {
            let slot = this.connect(place);
            this.slots.push(slot);
        }
        this
    }

    fn size(&self) -> usize {
        if self.case == Case::Short { 100 } else { 200 }
    }

    fn connect(&self, place: usize) -> Slot {
        let port = if self.case == Case::Bulk { SOURCE } else { ECHO };
        let socket = open(self.target, port).expect("the proxy listens, and there are ports");
        let first = if self.case == Case::Bulk { EpollFlags::EPOLLIN } else { EpollFlags::EPOLLOUT };
        watch(&self.epoll, &socket, first, place);
        Slot { socket, missing: 0 }
    }

    fn run(mut self, lasting: Duration, cpu: &impl Fn() -> Duration) -> Done {
        self.until(Instant::now() + WARM_UP);
        let (began, before) = (Instant::now(), cpu());
        self.amount = 0.0;
        self.until(began + lasting);
        Done { cpu: cpu().saturating_sub(before), lasted: began.elapsed(), amount: self.amount }
    }

    fn until(&mut self, end: Instant) {
        let mut events = vec![EpollEvent::empty(); 256];
        while Instant::now() < end {
            let count = self.epoll.wait(&mut events, EpollTimeout::from(20u16)).unwrap_or(0);
            for event in &events[..count] {
                self.handle(event.data() as usize, event.events());
            }
        }
    }

    fn handle(&mut self, place: usize, events: EpollFlags) {
        let size = self.size();
        let socket = self.slots[place].socket.as_raw_fd();
        if self.case == Case::Bulk {
            // A remote host's reading would cost this machine nothing: nothing is copied.
            let read = recv(socket, &mut self.buffer, MsgFlags::MSG_TRUNC).unwrap_or(0);
            self.amount += read as f64 / 1e9;
            return;
        }
        if events.contains(EpollFlags::EPOLLOUT) {
            self.ask(place, size);
            let mut event = EpollEvent::new(EpollFlags::EPOLLIN, place as u64);
            self.epoll.modify(&self.slots[place].socket, &mut event).expect("it is watched");
            return;
        }
        let read = recv(socket, &mut self.buffer, MsgFlags::empty()).unwrap_or(0);
        let slot = &mut self.slots[place];
        assert!(
            read > 0 && read <= slot.missing,
            "the proxy cut a session: {read} of {} bytes",
            slot.missing
        );
        slot.missing -= read;
        if slot.missing > 0 {
            return;
        }
        self.amount += 1.0;
        if self.case == Case::PingPong {
            self.ask(place, size);
        } else {
            self.slots[place] = self.connect(place);
        }
    }

    fn ask(&mut self, place: usize, size: usize) {
        let slot = &mut self.slots[place];
        let sent = send(slot.socket.as_raw_fd(), &self.buffer[..size], MsgFlags::MSG_NOSIGNAL);
        assert_eq!(sent, Ok(size), "the proxy cut a session");
        slot.missing = size;
    }
}

/// So many sessions that have asked once and are silent.
pub fn hold(client: &Host, target: &str, count: usize) -> Outcome<Vec<TcpStream>> {
    let mut held = Vec::new();
    client
        .inside(|| {
            for _ in 0..count {
                let mut stream = TcpStream::connect((target, ECHO))?;
                stream.set_read_timeout(Some(Duration::from_secs(5)))?;
                stream.write_all(b"?")?;
                stream.read_exact(&mut [0])?;
                held.push(stream);
            }
            Ok::<_, std::io::Error>(())
        })
        .map_err(|error| format!("{} of {count} sessions: {error}", held.len()))?;
    Ok(held)
}
