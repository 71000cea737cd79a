//! Connection tracking in netlink's words (`linux/netfilter/nfnetlink_conntrack.h`): what flows there are, which have
//! ended, and an end to some of them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use config::ready::Protocol;
use nix::libc;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::netlink::attributes::{self, Attributes};
use crate::netlink::kernel::Kernel;

const SUBSYSTEM: u16 = 1 << 8;
const GET: u16 = 1;
const DELETE: u16 = 2;
/// NFNLGRP_CONNTRACK_DESTROY.
const GROUP_OF_ENDS: u32 = 3;
/// Some ten thousand ends, of which some hundred milliseconds may bring that many.
const ROOM_FOR_ENDS: usize = 32 << 20;

const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const STATUS: u16 = 3;
const PROTOINFO: u16 = 4;
const COUNTERS_ORIGINAL: u16 = 9;
const COUNTERS_REPLY: u16 = 10;
const ID: u16 = 12;
const ZONE: u16 = 18;
const STATUS_MASK: u16 = 26;
/// CTA_COUNTERS_BYTES.
const OCTETS: u16 = 2;
/// IPS_DST_NAT.
const DESTINATION_CHANGED: u32 = 0x20;
/// TCP_CONNTRACK_TIME_WAIT, TCP_CONNTRACK_CLOSE.
const ENDED: [u8; 2] = [7, 8];

/// One flow of TCP or UDP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    pub protocol: Protocol,
    pub client: SocketAddr,
    /// Where the client wanted to.
    pub wanted: SocketAddr,
    /// Who answers.
    pub answering: SocketAddr,
    /// Octets from the client and to it, with the headers of IP; 0 where the kernel does not count.
    pub octets: [u64; 2],
    /// Both sides have ended it.
    pub is_over: bool,
    /// What the kernel knows it by: its original tuple, its number, its zone.
    name: Attributes,
}

/// Every flow whose destination was changed; `all`: every flow.
pub fn flows(kernel: &mut Kernel, all: bool, mut each: impl FnMut(Flow)) -> io::Result<()> {
    let mut filter = Attributes::default();
    if !all {
        // Older kernels give them all.
        filter = filter.be32(STATUS, DESTINATION_CHANGED).be32(STATUS_MASK, DESTINATION_CHANGED);
    }
    kernel.dump(SUBSYSTEM | GET, &[libc::AF_UNSPEC as u8, 0, 0, 0], &filter, |payload| {
        if let Some(flow) = payload.get(4..).and_then(flow) {
            each(flow);
        }
    })
}

/// Ends one. Whether it was still there.
pub fn end(kernel: &mut Kernel, flow: &Flow) -> io::Result<bool> {
    let family = if flow.wanted.is_ipv6() { libc::AF_INET6 } else { libc::AF_INET };
    match kernel.ask(SUBSYSTEM | DELETE, 0, &[family as u8, 0, 0, 0], &flow.name) {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The news of flows that connection tracking forgets.
#[derive(Debug)]
pub struct Ends(Kernel);

impl Ends {
    /// From now on; the kernel keeps them until they are read.
    pub fn listen() -> io::Result<Self> {
        let mut kernel = Kernel::open(NETLINK_NETFILTER)?;
        kernel.make_room_for_news(ROOM_FOR_ENDS);
        kernel.join(GROUP_OF_ENDS)?;
        Ok(Self(kernel))
    }

    /// Those that have ended since the last time. Whether none is missing.
    pub fn read(&mut self, mut each: impl FnMut(&Flow)) -> io::Result<bool> {
        self.0.news(|kind, payload| {
            let octets = payload.get(4..).unwrap_or_default();
            if kind == SUBSYSTEM | DELETE
                && is_changed(octets)
                && let Some(flow) = unnamed(octets)
            {
                each(&flow);
            }
        })
    }
}

/// Everybody's flows are told of.
fn is_changed(octets: &[u8]) -> bool {
    let status = attributes::read(octets).find(|(kind, _)| *kind == STATUS);
    let status = status.and_then(|(_, value)| value.try_into().ok()).map(u32::from_be_bytes);
    status.is_some_and(|status| status & DESTINATION_CHANGED != 0)
}

fn flow(octets: &[u8]) -> Option<Flow> {
    let mut flow = unnamed(octets)?;
    for (kind, value) in attributes::read(octets) {
        match kind {
            TUPLE_ORIGINAL => flow.name.put(TUPLE_ORIGINAL | attributes::NESTED, value),
            ID | ZONE => flow.name.put(kind, value),
            _ => {}
        }
    }
    Some(flow)
}

fn unnamed(octets: &[u8]) -> Option<Flow> {
    let (mut original, mut reply, mut is_over, mut counted) = (None, None, false, [0; 2]);
    for (kind, value) in attributes::read(octets) {
        match kind {
            TUPLE_ORIGINAL => original = Some(tuple(value)?),
            TUPLE_REPLY => reply = tuple(value),
            COUNTERS_ORIGINAL => counted[0] = counter(value),
            COUNTERS_REPLY => counted[1] = counter(value),
            PROTOINFO => {
                // CTA_PROTOINFO_TCP, CTA_PROTOINFO_TCP_STATE.
                let tcp = attributes::read(value).find(|(kind, _)| *kind == 1);
                let state = tcp.and_then(|(_, tcp)| attributes::read(tcp).find(|(kind, _)| *kind == 1));
                is_over =
                    state.is_some_and(|(_, state)| state.first().is_some_and(|state| ENDED.contains(state)));
            }
            _ => {}
        }
    }
    let ((protocol, client, wanted), (_, answering, _)) = (original?, reply?);
    Some(Flow { protocol, client, wanted, answering, octets: counted, is_over, name: Attributes::default() })
}

fn counter(octets: &[u8]) -> u64 {
    attributes::read(octets)
        .find(|(kind, _)| *kind == OCTETS)
        .map_or(0, |(_, value)| attributes::as_be64(value))
}

/// Protocol, source, destination; `None` for what has no ports.
fn tuple(octets: &[u8]) -> Option<(Protocol, SocketAddr, SocketAddr)> {
    let (mut source, mut destination) = (None, None);
    let (mut protocol, mut from, mut to) = (None, None, None);
    let port = |value: &[u8]| value.try_into().ok().map(u16::from_be_bytes);
    for (kind, value) in attributes::read(octets) {
        for (inner, value) in attributes::read(value) {
            match (kind, inner) {
                (1, 1 | 3) => source = address(value),
                (1, 2 | 4) => destination = address(value),
                (2, 1) => {
                    protocol = match value.first().copied().map(i32::from) {
                        Some(libc::IPPROTO_TCP) => Some(Protocol::Tcp),
                        Some(libc::IPPROTO_UDP) => Some(Protocol::Udp),
                        _ => None,
                    }
                }
                (2, 2) => from = port(value),
                (2, 3) => to = port(value),
                _ => {}
            }
        }
    }
    Some((protocol?, SocketAddr::new(source?, from?), SocketAddr::new(destination?, to?)))
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}
