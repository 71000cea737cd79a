//! The kernel's news about links and addresses, read from one socket in the kernel's order.
//!
//! Full readings go over the same socket: what is read and what is news cannot overtake each other. Only
//! the few attributes that matter here are looked at. A link's message has dozens of others, and one that
//! a library does not know yet must not lose the news.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use rtnetlink::packet_core::{NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::links::{Link, LinkAddress, Table};

/// Receive buffer: thousands of news while the engine is busy elsewhere.
const RECEIVE_BUFFER: usize = 1 << 20;
/// The kernel's datagrams are at most 32 KiB.
const DATAGRAM: usize = 64 << 10;
/// Datagrams that are taken in one go, so that a flood does not hold up the rest of the engine.
const BATCH: usize = 256;

const HEADER: usize = 16;
const LINK_HEADER: usize = 16;
const ADDRESS_HEADER: usize = 8;

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A link is there (without its addresses).
    Link(Link),
    LinkGone {
        index: u32,
    },
    Address {
        index: u32,
        address: LinkAddress,
    },
    AddressGone {
        index: u32,
        address: LinkAddress,
    },
}

/// The socket, and how far a full reading has come.
pub(super) struct NewsSocket {
    socket: Rc<AsyncFd<Socket>>,
    buffer: Vec<u8>,
    step: Step,
    sequence: u32,
    /// Something was lost or changed during the reading: it has to be done once more.
    again: bool,
    /// The first answer has come. What is read until then is older than the question, and may be older
    /// than what was lost.
    answered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Links,
    Addresses,
    Done,
}

/// What [`NewsSocket::read`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Everything was read.
    Nothing,
    /// Perhaps there is more.
    More,
}

impl NewsSocket {
    /// Subscribes to links, IPv4 and IPv6 addresses.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        if setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
            // Without CAP_NET_ADMIN in the first user namespace: as much as net.core.rmem_max permits.
            setsockopt(&socket, sockopt::RcvBuf, &RECEIVE_BUFFER)?;
        }
        let groups = [libc::RTNLGRP_LINK, libc::RTNLGRP_IPV4_IFADDR, libc::RTNLGRP_IPV6_IFADDR];
        let mask = groups.iter().fold(0, |mask, group| mask | 1 << (group - 1));
        socket.bind(&SocketAddr::new(0, mask))?;
        // SAFETY: the socket owns its descriptor, and nothing closes or replaces it while it is registered.
        let socket = Rc::new(unsafe { AsyncFd::register(socket) }?);
        let buffer = Vec::with_capacity(DATAGRAM);
        Ok(Self { socket, buffer, step: Step::Done, sequence: 0, again: false, answered: false })
    }

    /// Asks for everything; the answers come with the news.
    pub fn begin_reading(&mut self) -> io::Result<()> {
        if self.step != Step::Done {
            self.again = true;
            return Ok(());
        }
        self.again = false;
        self.answered = false;
        self.ask(Step::Links)
    }

    /// A full reading is under way.
    pub fn is_reading(&self) -> bool {
        self.step != Step::Done
    }

    fn ask(&mut self, step: Step) -> io::Result<()> {
        let (kind, header) = match step {
            Step::Links => (libc::RTM_GETLINK, LINK_HEADER),
            Step::Addresses | Step::Done => (libc::RTM_GETADDR, ADDRESS_HEADER),
        };
        self.step = step;
        self.sequence += 1;
        let mut request = [0; HEADER + LINK_HEADER];
        let request = &mut request[..HEADER + header];
        let length = u32::try_from(request.len()).expect("32 octets at most");
        let mut buffer = NetlinkBuffer::new(request);
        buffer.set_length(length);
        buffer.set_message_type(kind);
        buffer.set_flags((libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16);
        buffer.set_sequence_number(self.sequence);
        // The rest stays 0: family AF_UNSPEC, every index.
        self.socket.get_ref().send_to(buffer.into_inner(), &SocketAddr::new(0, 0), 0)?;
        Ok(())
    }

    /// To wait on, without holding the rest.
    pub fn socket(&self) -> Rc<AsyncFd<Socket>> {
        self.socket.clone()
    }

    /// Takes what is there into the table, without waiting.
    pub fn read(&mut self, table: &mut Table) -> io::Result<Left> {
        for _ in 0..BATCH {
            self.buffer.clear();
            match self.socket.get_ref().recv_from(&mut self.buffer, 0) {
                // Only the kernel has port 0.
                Ok((_, source)) if source.port_number() == 0 => {
                    let datagram = std::mem::take(&mut self.buffer);
                    let result = self.take(&datagram, table);
                    self.buffer = datagram;
                    result?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(Left::Nothing),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    tracing::warn!("news of the kernel were lost, reading all links and addresses again");
                    table.facts.push_back(super::Fact::Overrun);
                    self.begin_reading()?;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Left::More)
    }

    fn take(&mut self, datagram: &[u8], table: &mut Table) -> io::Result<()> {
        let mut rest = datagram;
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            let length = message.length() as usize;
            let answer = self.step != Step::Done && message.sequence_number() == self.sequence;
            if answer && !self.answered {
                self.answered = true;
                table.begin_reading();
            }
            if answer && message.flags() & NLM_F_DUMP_INTR != 0 {
                self.again = true;
            }
            match message.message_type() {
                NLMSG_DONE if answer => self.step_done(table)?,
                NLMSG_ERROR if answer => {
                    self.again = true;
                    self.step_done(table)?;
                }
                kind => match parse(kind, message.payload()) {
                    Some(news) => table.apply(news),
                    None => tracing::trace!(kind, "not of interest"),
                },
            }
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(())
    }

    fn step_done(&mut self, table: &mut Table) -> io::Result<()> {
        match self.step {
            Step::Links if !self.again => {
                table.finish_links();
                self.ask(Step::Addresses)
            }
            Step::Addresses if !self.again => {
                self.step = Step::Done;
                table.finish_addresses();
                Ok(())
            }
            Step::Links | Step::Addresses | Step::Done => {
                self.step = Step::Done;
                self.begin_reading()
            }
        }
    }
}

fn parse(kind: u16, payload: &[u8]) -> Option<News> {
    match kind {
        libc::RTM_NEWLINK | libc::RTM_DELLINK => parse_link(kind, payload),
        libc::RTM_NEWADDR | libc::RTM_DELADDR => parse_address(kind, payload),
        _ => None,
    }
}

/// `struct ifinfomsg`: family u8, pad u8, type u16, index i32, flags u32, change u32.
fn parse_link(kind: u16, payload: &[u8]) -> Option<News> {
    let (header, attributes) = payload.split_at_checked(LINK_HEADER)?;
    // A bridge tells about its ports in the same words; a port that leaves it is not gone.
    if header[0] != libc::AF_UNSPEC as u8 {
        return None;
    }
    let index = u32_at(header, 4)?;
    if kind == libc::RTM_DELLINK {
        return Some(News::LinkGone { index });
    }
    let flags = u32_at(header, 8)?;
    let has = |flag: libc::c_int| flags & flag as u32 != 0;
    let mut link = Link {
        index,
        name: String::new(),
        up: has(libc::IFF_UP) && has(libc::IFF_RUNNING),
        mac: None,
        mtu: 0,
        multicast: has(libc::IFF_MULTICAST),
        arp: !has(libc::IFF_NOARP),
        private_over: None,
        addresses: Vec::new(),
    };
    let (mut below, mut is_private_macvlan) = (None, false);
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        let value = attribute.value();
        match attribute.kind() {
            libc::IFLA_LINK => below = u32_at(value, 0),
            libc::IFLA_LINKINFO => is_private_macvlan = super::device::is_private_macvlan(value),
            libc::IFLA_IFNAME => link.name = text(value),
            libc::IFLA_ADDRESS => link.mac = value.try_into().ok(),
            libc::IFLA_MTU => link.mtu = u32_at(value, 0)?,
            _ => {}
        }
    }
    link.private_over = below.filter(|_| is_private_macvlan);
    (!link.name.is_empty()).then_some(News::Link(link))
}

/// `struct ifaddrmsg`: family u8, prefix length u8, flags u8, scope u8, index u32.
fn parse_address(kind: u16, payload: &[u8]) -> Option<News> {
    let (header, attributes) = payload.split_at_checked(ADDRESS_HEADER)?;
    let index = u32_at(header, 4)?;
    let (mut near, mut far, mut flags) = (None, None, u32::from(header[2]));
    for attribute in NlasIterator::new(attributes) {
        let attribute = attribute.ok()?;
        match attribute.kind() {
            libc::IFA_LOCAL => near = ip(attribute.value()),
            libc::IFA_ADDRESS => far = ip(attribute.value()),
            libc::IFA_FLAGS => flags = u32_at(attribute.value(), 0)?,
            _ => {}
        }
    }
    let address = LinkAddress { address: near.or(far)?, prefix: header[1], scope: header[3], flags };
    Some(match kind {
        libc::RTM_DELADDR => News::AddressGone { index, address },
        _ => News::Address { index, address },
    })
}

fn u32_at(octets: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(octets.get(offset..offset + 4)?.try_into().ok()?))
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|o| Ipv4Addr::from(o).into()),
        16 => <[u8; 16]>::try_from(octets).ok().map(|o| Ipv6Addr::from(o).into()),
        _ => None,
    }
}

fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets.split(|o| *o == 0).next().unwrap_or_default()).into_owned()
}
