//! One netlink request after the other, each answered before the next: for threads that may wait.

use std::io;
use std::os::fd::AsFd;

use nix::libc;
use rtnetlink::packet_core::{NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer};
use rtnetlink::sys::{Socket, SocketAddr};

use super::attributes::Attributes;

const HEADER: usize = 16;
/// Answers of the kernel are at most 32 KiB.
const DATAGRAM: usize = 64 << 10;

/// A socket that waits for its answers.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
    sequence: u32,
}

impl Kernel {
    pub fn open(protocol: isize) -> io::Result<Self> {
        let socket = Socket::new(protocol)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request, and gives what the kernel answers besides its acknowledgement.
    pub fn ask(
        &mut self,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: &Attributes,
    ) -> io::Result<Vec<u8>> {
        let mut request = Vec::new();
        self.message(&mut request, kind, flags | libc::NLM_F_ACK as u16, header, attributes);
        self.socket.send(&request, 0)?;
        let mut answer = Vec::new();
        loop {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            self.socket.recv(&mut datagram, 0)?;
            for (kind, sequence, payload) in messages(&datagram) {
                match kind {
                    _ if sequence != self.sequence => {}
                    NLMSG_ERROR => return result(payload).map(|()| answer),
                    NLMSG_DONE => return Ok(answer),
                    _ => answer = payload.to_vec(),
                }
            }
        }
    }

    /// Asks for all there is of something; `each` gets the payload of one after the other.
    pub fn dump(
        &mut self,
        kind: u16,
        header: &[u8],
        attributes: &Attributes,
        mut each: impl FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut request = Vec::new();
        self.message(&mut request, kind, libc::NLM_F_DUMP as u16, header, attributes);
        self.socket.send(&request, 0)?;
        loop {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            self.socket.recv(&mut datagram, 0)?;
            for (kind, sequence, payload) in messages(&datagram) {
                match kind {
                    _ if sequence != self.sequence => {}
                    NLMSG_ERROR => return result(payload),
                    NLMSG_DONE => return Ok(()),
                    _ => each(payload),
                }
            }
        }
    }

    /// Room for a batch of this size; without the right to more it stays as it is.
    pub fn make_room(&mut self, octets: usize) {
        let borrowed = self.socket.as_fd();
        let _ = nix::sys::socket::setsockopt(&borrowed, nix::sys::socket::sockopt::SndBufForce, &octets);
    }

    /// Room for so many octets of news that nobody has read yet; without the right to more it stays as it is.
    pub fn make_room_for_news(&mut self, octets: usize) {
        let borrowed = self.socket.as_fd();
        let _ = nix::sys::socket::setsockopt(&borrowed, nix::sys::socket::sockopt::RcvBufForce, &octets);
    }

    /// Hears of what is told to this multicast group.
    pub fn join(&mut self, group: u32) -> io::Result<()> {
        self.socket.add_membership(group)
    }

    /// Gives what has been told since, by its kind. Whether nothing was lost.
    pub fn news(&mut self, mut each: impl FnMut(u16, &[u8])) -> io::Result<bool> {
        let mut is_whole = true;
        let mut datagram = Vec::with_capacity(DATAGRAM);
        loop {
            datagram.clear();
            match self.socket.recv(&mut datagram, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(is_whole),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    is_whole = false;
                    continue;
                }
                Err(error) => return Err(error),
            }
            for (kind, _, payload) in messages(&datagram) {
                each(kind, payload);
            }
        }
    }

    /// Sends messages that take effect together, or not at all; the first error is the answer.
    pub fn send_batch(&mut self, batch: &[u8]) -> io::Result<()> {
        self.socket.send(batch, 0)?;
        let mut first = Ok(());
        loop {
            let mut datagram = Vec::with_capacity(DATAGRAM);
            // The kernel has done everything before `send` returned: what it says is there.
            match self.socket.recv(&mut datagram, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return first,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return first.and(Err(error)),
            }
            for (kind, _, payload) in messages(&datagram) {
                if kind == NLMSG_ERROR && first.is_ok() {
                    first = result(payload);
                }
            }
        }
    }

    /// Appends one message with a sequence number of its own.
    pub fn message(
        &mut self,
        to: &mut Vec<u8>,
        kind: u16,
        flags: u16,
        header: &[u8],
        attributes: &Attributes,
    ) {
        self.sequence += 1;
        let length = HEADER + header.len() + attributes.as_octets().len();
        to.extend(u32::try_from(length).expect("requests are small").to_ne_bytes());
        to.extend(kind.to_ne_bytes());
        to.extend((flags | libc::NLM_F_REQUEST as u16).to_ne_bytes());
        to.extend(self.sequence.to_ne_bytes());
        to.extend([0; 4]);
        to.extend(header);
        to.extend(attributes.as_octets());
        to.resize(to.len().next_multiple_of(4), 0);
    }
}

fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(rest).ok()?;
        let length = message.length() as usize;
        let payload = rest.get(HEADER..length)?;
        let found = (message.message_type(), message.sequence_number(), payload);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(found)
    })
}

fn result(payload: &[u8]) -> io::Result<()> {
    let code = payload.get(..4).and_then(|octets| octets.try_into().ok()).map_or(0, i32::from_ne_bytes);
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-code)) }
}
