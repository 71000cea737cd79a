//! The guard itself: one thread that waits for its child, for signals and for what the child tells.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd as _, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrLike, recvmsg, send,
    sendmsg,
};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use sd_notify::NotifyState;

use super::link::{ToGuard, pair};
use super::message::{Envelope, LARGEST, Message, Order};
use crate::observe::status::GuardStatus;

/// A daemon that ran this long is started again at once.
const HEALTHY: Duration = Duration::from_secs(10);
/// Before the second restart in a row, the first is at once; doubled each time …
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// … up to this.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// SCHED_RR priority, one more than the engine's: who cleans up must not wait for who hangs.
const PRIORITY: libc::c_int = 51;
/// Of sysexits.h, for a daemon that was killed before it ran.
const INTERNAL: u8 = 70;
/// SIGRTMIN+2 and SIGRTMAX-1 of glibc: the dump as JSON, and statistics that are cleared.
const REAL_TIME: [libc::c_int; 2] = [36, 63];

/// Which daemon of this guard it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// The service's pid; `None` without a guard.
    pub guard: Option<Pid>,
    /// Daemons that ended before it.
    pub restarts: u32,
    /// How the last one ended and what was undone for it, in words.
    pub last: Option<String>,
}

impl Life {
    /// To be shown.
    pub fn status(&self) -> Option<GuardStatus> {
        let pid = self.guard?.as_raw().unsigned_abs();
        Some(GuardStatus { pid, restarts: self.restarts, last: self.last.clone() })
    }
}

/// Runs `daemon` in a child process, and again whenever it dies; gives its exit code once it has ended by itself or was
/// asked to.
///
/// Must be called before any thread is started. Where there can be no child, the daemon runs in this process, unguarded.
pub fn watch(daemon: impl Fn(ToGuard, Life) -> u8) -> u8 {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        signals.add(signal);
    }
    for signal in [Signal::SIGCHLD, Signal::SIGABRT] {
        signals.add(signal);
    }
    let signals = with_real_time(signals);
    let mut before = SigSet::empty();
    let prepared = sigprocmask(SigmaskHow::SIG_BLOCK, Some(&signals), Some(&mut before))
        .and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK));
    let signals = match prepared {
        Ok(signals) => signals,
        Err(error) => return unguarded(&daemon, error.into()),
    };
    // What a dead daemon leaves running is collected here, as whoever is pid 1 of a container must.
    let _ = nix::sys::prctl::set_child_subreaper(true);
    // Refused to ordinary users; the guard is quick enough on a machine that is not busy.
    round_robin();
    let mut life = Life { guard: Some(Pid::this()), ..Life::default() };
    let mut wait = Duration::ZERO;
    let mut was_ready = false;
    loop {
        let (ours, daemons) = match pair() {
            Ok(pair) => pair,
            Err(error) => return unguarded(&daemon, error),
        };
        // SAFETY: this process has one thread, so every lock is free in the child.
        let child = match unsafe { fork() } {
            Ok(ForkResult::Child) => {
                drop((ours, signals));
                let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&before), None);
                std::process::exit(daemon(ToGuard::over(daemons), life).into());
            }
            Ok(ForkResult::Parent { child }) => child,
            Err(error) => {
                eprintln!("vipd: cannot start the daemon: {error}");
                return INTERNAL;
            }
        };
        drop(daemons);
        let mut guard = Guard::new(child, ours, &signals, was_ready);
        let began = Instant::now();
        let end = guard.until_the_end();
        was_ready = guard.is_ready;
        if end != End::Exited(0) {
            guard.undo_everything();
        }
        let (stop, undone) = (guard.stop, guard.undone);
        drop(guard);
        match end {
            End::Exited(code) if code == 0 || stop.is_some() || !was_ready => return code,
            End::Killed(signal) if stop == Some(signal) => return 0,
            End::Killed(_) if stop.is_some() || !was_ready => {
                eprintln!("vipd: the daemon {end}; {undone}");
                return INTERNAL;
            }
            End::Exited(_) | End::Killed(_) => {}
        }
        let pause = if began.elapsed() >= HEALTHY { Duration::ZERO } else { wait };
        wait = next_wait(pause);
        let last = format!("process {child} {end}; {undone}");
        eprintln!("vipd: the daemon, {last}; started again{}", after(pause));
        let _ = sd_notify::notify(&[NotifyState::Status(&format!("started again: the daemon, {last}"))]);
        life = Life { restarts: life.restarts.saturating_add(1), last: Some(last), ..life };
        if stopped_within(&signals, pause) {
            return 0;
        }
    }
}

fn unguarded(daemon: &impl Fn(ToGuard, Life) -> u8, error: io::Error) -> u8 {
    eprintln!("vipd: runs without a guard: {error}");
    daemon(ToGuard::none(), Life::default())
}

fn next_wait(wait: Duration) -> Duration {
    (2 * wait).clamp(FIRST_WAIT, LONGEST_WAIT)
}

fn after(pause: Duration) -> String {
    if pause.is_zero() { String::new() } else { format!(" in {:.1} s", pause.as_secs_f64()) }
}

/// Whether somebody asked for the end while nothing runs.
fn stopped_within(signals: &SignalFd, pause: Duration) -> bool {
    let until = Instant::now() + pause;
    loop {
        while let Ok(Some(signal)) = signals.read_signal() {
            if asks_for_the_end(signal.ssi_signo) {
                return true;
            }
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return false;
        }
        wait_for(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], Some(left));
    }
}

fn asks_for_the_end(signal: u32) -> bool {
    [Signal::SIGTERM as u32, Signal::SIGINT as u32].contains(&signal)
}

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Exited(u8),
    Killed(Signal),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "ended with exit code {code}"),
            Self::Killed(signal) => write!(f, "was ended by {signal}"),
        }
    }
}

/// What was done in place of a dead daemon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Undone {
    farewells: usize,
    removals: usize,
    failures: usize,
}

impl fmt::Display for Undone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { farewells, removals, failures } = self;
        match (farewells, removals) {
            (0, 0) => write!(f, "it held nothing")?,
            _ => write!(
                f,
                "adverts of priority 0 sent: {farewells}, addresses, routes and rules taken off: {removals}"
            )?,
        }
        if *failures > 0 { write!(f, ", refused: {failures}") } else { Ok(()) }
    }
}

struct Undo {
    order: Order,
    slot: u32,
    envelope: Option<Envelope>,
    payload: Box<[u8]>,
}

struct Guard<'a> {
    child: Pid,
    link: OwnedFd,
    signals: &'a SignalFd,
    /// Sockets of the daemon, by its number for them.
    slots: BTreeMap<u32, OwnedFd>,
    undo: BTreeMap<u64, Undo>,
    undone: Undone,
    /// The daemon's engine thread.
    heart: Option<OwnedFd>,
    is_ready: bool,
    /// Somebody asked for the end, by this signal.
    stop: Option<Signal>,
}

impl<'a> Guard<'a> {
    fn new(child: Pid, link: OwnedFd, signals: &'a SignalFd, is_ready: bool) -> Self {
        let (slots, undo) = (BTreeMap::new(), BTreeMap::new());
        let undone = Undone::default();
        Self { child, link, signals, slots, undo, undone, heart: None, is_ready, stop: None }
    }

    fn until_the_end(&mut self) -> End {
        let mut talks = true;
        loop {
            let watch = |descriptor| PollFd::new(descriptor, PollFlags::POLLIN);
            // A daemon that closed its end is on its way out.
            let mut watched = [(); 3].map(|()| watch(self.signals.as_fd()));
            if talks {
                watched[1] = watch(self.link.as_fd());
            }
            if let Some(heart) = &self.heart {
                watched[2] = watch(heart.as_fd());
            }
            wait_for(&mut watched, None);
            let is_dead = self.heart.is_some() && watched[2].any() == Some(true);
            talks = talks && self.listen();
            if is_dead {
                self.heart = None;
                self.undo_everything();
            }
            if let Some(end) = self.handle_signals() {
                // What it said last.
                self.listen();
                return end;
            }
        }
    }

    /// Passes signals on, and collects children.
    fn handle_signals(&mut self) -> Option<End> {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            let number = libc::c_int::try_from(signal.ssi_signo).unwrap_or(0);
            match Signal::try_from(number) {
                Ok(Signal::SIGCHLD) => {}
                // The service manager's watchdog: the daemon hangs, and hears nothing.
                Ok(signal @ Signal::SIGABRT) => {
                    self.stop = Some(signal);
                    let _ = kill(self.child, Signal::SIGKILL);
                }
                Ok(signal) => {
                    if asks_for_the_end(signal as u32) {
                        self.stop = self.stop.or(Some(signal));
                    }
                    let _ = kill(self.child, signal);
                }
                // SAFETY: plain numbers; the child is ours and not collected yet, so the number is its own.
                Err(_) => drop(Errno::result(unsafe { libc::kill(self.child.as_raw(), number) })),
            }
        }
        let mut end = None;
        loop {
            match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) if pid == self.child => {
                    end = Some(End::Exited(u8::try_from(code).unwrap_or(INTERNAL)));
                }
                Ok(WaitStatus::Signaled(pid, signal, _)) if pid == self.child => {
                    end = Some(End::Killed(signal));
                }
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return end,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return end,
            }
        }
    }

    /// Takes in what the daemon has said. Whether it may say more.
    fn listen(&mut self) -> bool {
        let mut buffer = [0; LARGEST];
        loop {
            let mut control = nix::cmsg_space!([RawFd; 1]);
            let (length, socket) = {
                let mut slices = [IoSliceMut::new(&mut buffer)];
                let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
                match recvmsg::<()>(self.link.as_raw_fd(), &mut slices, Some(&mut control), flags) {
                    Ok(message) => {
                        let mut socket = None;
                        for control in message.cmsgs().into_iter().flatten() {
                            if let ControlMessageOwned::ScmRights(sockets) = control {
                                // SAFETY: the kernel has just made these for us, and nobody else knows them.
                                let mut owned =
                                    sockets.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
                                socket = owned.next();
                                owned.for_each(drop);
                            }
                        }
                        (message.bytes, socket)
                    }
                    Err(Errno::EAGAIN) => return true,
                    Err(Errno::EINTR) => continue,
                    Err(_) => return false,
                }
            };
            if length == 0 && socket.is_none() {
                return false;
            }
            if let Some(message) = Message::read(&buffer[..length]) {
                self.take_in(&message, socket);
            }
        }
    }

    fn take_in(&mut self, message: &Message<'_>, socket: Option<OwnedFd>) {
        match *message {
            Message::Slot(slot) => {
                if let Some(socket) = socket {
                    self.slots.insert(slot, socket);
                }
            }
            Message::Close(slot) => drop(self.slots.remove(&slot)),
            Message::Undo { key, order, slot, envelope, payload } => {
                self.undo.insert(key, Undo { order, slot, envelope, payload: payload.into() });
            }
            Message::Forget(key) => drop(self.undo.remove(&key)),
            Message::ForgetAll => self.undo.clear(),
            Message::Heart => self.heart = socket,
            Message::Tell(words) => {
                self.is_ready |= words.lines().any(|line| line == "READY=1");
                let _ = sd_notify::notify(&[NotifyState::Custom(words)]);
            }
        }
    }

    /// The peers hear first, so that they take over while the addresses go.
    fn undo_everything(&mut self) {
        let mut all: Vec<Undo> = std::mem::take(&mut self.undo).into_values().collect();
        all.sort_by_key(|undo| undo.order);
        let undone = &mut self.undone;
        for undo in &all {
            let sent = self.slots.get(&undo.slot).is_some_and(|socket| undo.send(socket).is_ok());
            match (sent, undo.order) {
                (false, _) => undone.failures += 1,
                (true, Order::Farewell) => undone.farewells += 1,
                (true, Order::Entry | Order::Address) => undone.removals += 1,
            }
        }
    }
}

impl Undo {
    fn send(&self, socket: &OwnedFd) -> Result<(), Errno> {
        match self.envelope {
            None => send(socket.as_raw_fd(), &self.payload, MsgFlags::MSG_NOSIGNAL).map(drop),
            Some(Envelope { to: std::net::SocketAddr::V4(to), .. }) => {
                self.send_to(socket, &[], &SockaddrIn::from(to))
            }
            Some(Envelope { to: std::net::SocketAddr::V6(to), from }) => {
                let Some((source, interface, hops)) = from else { return Err(Errno::EINVAL) };
                let info = libc::in6_pktinfo {
                    ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
                    ipi6_ifindex: interface,
                };
                let hops = libc::c_int::from(hops);
                let control = [ControlMessage::Ipv6PacketInfo(&info), ControlMessage::Ipv6HopLimit(&hops)];
                self.send_to(socket, &control, &SockaddrIn6::from(to))
            }
        }
    }

    fn send_to(
        &self,
        socket: &OwnedFd,
        control: &[ControlMessage<'_>],
        to: &impl SockaddrLike,
    ) -> Result<(), Errno> {
        let payload = [IoSlice::new(&self.payload)];
        sendmsg(socket.as_raw_fd(), &payload, control, MsgFlags::MSG_NOSIGNAL, Some(to)).map(drop)
    }
}

/// Interruptions are no news.
fn wait_for(watched: &mut [PollFd<'_>], limit: Option<Duration>) {
    let limit = limit.map_or(PollTimeout::NONE, |limit| {
        // Rounded up, so that nothing turns in circles at the end.
        PollTimeout::try_from(limit + Duration::from_micros(999)).unwrap_or(PollTimeout::MAX)
    });
    let _ = poll(watched, limit);
}

/// nix knows no real-time signals.
fn with_real_time(signals: SigSet) -> SigSet {
    let mut raw: libc::sigset_t = *signals.as_ref();
    for number in REAL_TIME {
        // SAFETY: a set that was made by nix, and numbers that the kernel has.
        unsafe { libc::sigaddset(&raw mut raw, number) };
    }
    // SAFETY: it was one before, and has two more members now.
    unsafe { SigSet::from_sigset_t_unchecked(raw) }
}

/// The child is scheduled as everybody is.
fn round_robin() {
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: `parameter` lives until the call returns; 0 is this process.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
}
