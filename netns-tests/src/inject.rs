//! The bad neighbour: sends forged frames from the stranger, slowly or as a flood.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::libc;

use crate::host::{Host, step_forward};

/// A thread that sends the same frames again and again.
#[derive(Debug)]
pub struct Injector {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Injector {
    /// Sends every frame once in every `period`, all together.
    pub fn every(host: &Host, frames: Vec<Vec<u8>>, period: Duration) -> Self {
        let batch = frames.len();
        Self::start(host, frames, batch, period)
    }

    /// Sends so many frames a second, in turn, in bursts of at most `BURST`.
    pub fn flood(host: &Host, frames: Vec<Vec<u8>>, per_second: u32) -> Self {
        const BURST: usize = 64;
        Self::start(host, frames, BURST, Duration::from_secs(1) * BURST as u32 / per_second)
    }

    fn start(host: &Host, frames: Vec<Vec<u8>>, batch: usize, period: Duration) -> Self {
        let socket = host.inside(packet_socket);
        let (stop, sent): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let (flag, counter) = (stop.clone(), sent.clone());
        let thread = thread::spawn(move || {
            step_forward();
            let mut due = Instant::now();
            let mut next = 0;
            while !flag.load(Ordering::Relaxed) {
                let burst: Vec<&[u8]> =
                    (0..batch).map(|i| frames[(next + i) % frames.len()].as_slice()).collect();
                next = (next + batch) % frames.len();
                counter.fetch_add(send_many(&socket, &burst) as u64, Ordering::Relaxed);
                due += period;
                // When we fall behind we send at once until we caught up.
                while !flag.load(Ordering::Relaxed) {
                    let left = due.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    thread::sleep(left.min(Duration::from_millis(50)));
                }
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// Frames that the kernel took so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops and gives the number of frames that the kernel took.
    pub fn finish(mut self) -> u64 {
        self.halt();
        self.sent()
    }

    fn halt(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Injector {
    fn drop(&mut self) {
        self.halt();
    }
}

/// A socket that sends whole frames on `eth0` of the calling thread's namespace and receives none.
fn packet_socket() -> OwnedFd {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    let socket =
        socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).expect("a packet socket");
    let index = nix::net::if_::if_nametoindex("eth0").expect("eth0 is there");
    // SAFETY: sockaddr_ll is plain data; it lives through the call and has the length that is said.
    let result = unsafe {
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = index as i32;
        libc::bind(
            socket.as_raw_fd(),
            (&raw const address).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0, "bind to eth0: {}", std::io::Error::last_os_error());
    socket
}

/// One system call for all frames; how many the kernel took.
fn send_many(socket: &OwnedFd, frames: &[&[u8]]) -> usize {
    let mut parts: Vec<libc::iovec> = frames
        .iter()
        .map(|frame| libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() })
        .collect();
    let mut messages: Vec<libc::mmsghdr> = parts
        .iter_mut()
        .map(|part| {
            // SAFETY: msghdr is plain data; zero means absent for every field.
            let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
            header.msg_iov = part;
            header.msg_iovlen = 1;
            libc::mmsghdr { msg_hdr: header, msg_len: 0 }
        })
        .collect();
    // SAFETY: every header points to a part, every part to a frame; all live through the call, which
    // only reads the frames.
    let count =
        unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, 0) };
    usize::try_from(count).unwrap_or(0)
}
