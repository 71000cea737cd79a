//! One packet socket for all interfaces; it sends and never receives, and it never waits.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, SockaddrLike, sendto, setsockopt, socket, sockopt,
};

/// TC_PRIO_CONTROL: before ordinary traffic in the interface's queue.
const CONTROL_PRIORITY: i32 = 7;

/// What became of a packet.
#[derive(Debug)]
pub(super) enum SendError {
    /// No room now; try again.
    Busy,
    /// No packet socket.
    Open(io::Error),
    /// Refused.
    Refused(io::Error),
}

/// The socket, opened with the first packet.
#[derive(Debug, Default)]
pub(super) struct Sender {
    socket: Option<OwnedFd>,
}

impl Sender {
    /// Sends a whole Ethernet frame through the interface.
    pub fn send(&mut self, ifindex: u32, frame: &[u8]) -> Result<(), SendError> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(open().map_err(SendError::Open)?),
        };
        match sendto(socket.as_raw_fd(), frame, &link_address(ifindex, frame), MsgFlags::MSG_DONTWAIT) {
            Ok(_) => Ok(()),
            Err(Errno::ENOBUFS | Errno::EAGAIN | Errno::EINTR) => Err(SendError::Busy),
            Err(errno) => Err(SendError::Refused(errno.into())),
        }
    }
}

fn open() -> io::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    // Protocol 0: the kernel gives it no packet.
    let socket = socket(AddressFamily::Packet, SockType::Raw, flags, None)?;
    setsockopt(&socket, sockopt::Priority, &CONTROL_PRIORITY)?;
    Ok(socket)
}

/// Where the frame goes; protocol and destination are the ones it has in its Ethernet header.
fn link_address(ifindex: u32, frame: &[u8]) -> LinkAddr {
    let mut address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: u16::from_ne_bytes([frame[12], frame[13]]),
        sll_ifindex: ifindex.cast_signed(),
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0; 8],
    };
    address.sll_addr[..6].copy_from_slice(&frame[..6]);
    let length = mem::size_of_val(&address) as libc::socklen_t;
    // SAFETY: points to a sockaddr_ll of this length, which is copied before it goes out of scope.
    unsafe { LinkAddr::from_raw((&raw const address).cast(), Some(length)) }.expect("the family is AF_PACKET")
}
