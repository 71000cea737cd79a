//! The kernel's news of removed routes and rules, on a socket of their own.
//!
//! A host may have a million routes that others look after: a filter in the kernel lets only removals with one of
//! our protocol numbers through.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsRawFd;
use std::rc::Rc;

use nix::libc;
use rtnetlink::packet_core::{NetlinkBuffer, NlasIterator};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;

use super::entry::Entry;
use super::links::Fact;

const DATAGRAM: usize = 16 << 10;
/// Of `struct rtmsg` and `struct fib_rule_hdr`.
const HEADER: usize = 12;
const FRA_PRIORITY: u16 = 6;

/// The socket, and what passes its filter.
pub(super) struct Watch {
    socket: Rc<AsyncFd<Socket>>,
    protocols: Vec<u8>,
}

impl Watch {
    pub fn open(protocols: Vec<u8>) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        // Before anything can arrive.
        filter(&socket, &protocols)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in [
            libc::RTNLGRP_IPV4_ROUTE,
            libc::RTNLGRP_IPV6_ROUTE,
            libc::RTNLGRP_IPV4_RULE,
            libc::RTNLGRP_IPV6_RULE,
        ] {
            socket.add_membership(group)?;
        }
        // SAFETY: the socket owns its descriptor, and nothing closes or replaces it while it is registered.
        let socket = Rc::new(unsafe { AsyncFd::register(socket) }?);
        Ok(Self { socket, protocols })
    }

    pub fn covers(&self, protocols: &[u8]) -> bool {
        self.protocols == protocols
    }

    /// To wait on, without holding the rest.
    pub fn socket(&self) -> Rc<AsyncFd<Socket>> {
        self.socket.clone()
    }
}

/// Takes what is there, without waiting. News that were lost are one fact too.
pub(super) fn read(socket: &Socket) -> Vec<Fact> {
    let mut facts = Vec::new();
    let mut buffer = Vec::with_capacity(DATAGRAM);
    loop {
        buffer.clear();
        match socket.recv_from(&mut buffer, 0) {
            // Only the kernel has port 0.
            Ok((_, source)) if source.port_number() == 0 => facts.extend(parse(&buffer)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => facts.push(Fact::EntriesUnknown),
            Err(_) => return facts,
        }
    }
}

fn parse(datagram: &[u8]) -> Option<Fact> {
    let message = NetlinkBuffer::new_checked(datagram).ok()?;
    let (header, attributes) = message.payload().split_at_checked(HEADER)?;
    let value_of = |wanted: u16| {
        NlasIterator::new(attributes)
            .filter_map(Result::ok)
            .find(|attribute| attribute.kind() == wanted)
            .map(|attribute| attribute.value().to_vec())
    };
    let number = |wanted| Some(u32::from_ne_bytes(value_of(wanted)?.try_into().ok()?));
    match message.message_type() {
        libc::RTM_DELROUTE => Some(Fact::RouteRemoved {
            is_ipv6: header[0] == libc::AF_INET6 as u8,
            destination: value_of(libc::RTA_DST).and_then(|octets| ip(&octets)),
            prefix: header[1],
            table: number(libc::RTA_TABLE).unwrap_or(u32::from(header[4])),
        }),
        libc::RTM_DELRULE => Some(Fact::RuleRemoved {
            is_ipv6: header[0] == libc::AF_INET6 as u8,
            preference: number(FRA_PRIORITY).unwrap_or(0),
        }),
        _ => None,
    }
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(|octets| Ipv4Addr::from(octets).into()),
        16 => <[u8; 16]>::try_from(octets).ok().map(|octets| Ipv6Addr::from(octets).into()),
        _ => None,
    }
}

/// Lets RTM_DELRULE pass, and RTM_DELROUTE of these protocols.
fn filter(socket: &Socket, protocols: &[u8]) -> io::Result<()> {
    let code = |code: u32| u16::try_from(code).expect("classic BPF has 16-bit codes");
    let load_half = code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS);
    let load_byte = code(libc::BPF_LD | libc::BPF_B | libc::BPF_ABS);
    let equal = code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K);
    let answer = code(libc::BPF_RET | libc::BPF_K);
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    // Filters read in network order; netlink writes in the host's.
    let kind = |kind: u16| u32::from(kind.to_be());
    let count = u8::try_from(protocols.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut program = vec![
        step(load_half, 0, 0, 4),
        step(equal, count + 3, 0, kind(libc::RTM_DELRULE)),
        step(equal, 0, count + 1, kind(libc::RTM_DELROUTE)),
        // Octet 5 of `struct rtmsg`, behind the netlink header of 16.
        step(load_byte, 0, 0, 21),
    ];
    for (i, protocol) in (0..count).zip(protocols) {
        program.push(step(equal, count - i, 0, u32::from(*protocol)));
    }
    program.push(step(answer, 0, 0, 0));
    program.push(step(answer, 0, 0, u32::MAX));
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    let size = libc::socklen_t::try_from(size_of::<libc::sock_fprog>()).expect("a few octets");
    // SAFETY: pointer and length describe `program`, which lives until the call returns, as do its steps.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size,
        )
    };
    nix::errno::Errno::result(result).map(drop).map_err(io::Error::from)
}

/// The protocol numbers that routes and rules have, without repetition.
pub(super) fn protocols<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<u8> {
    entries.map(Entry::protocol).collect::<std::collections::BTreeSet<u8>>().into_iter().collect()
}
