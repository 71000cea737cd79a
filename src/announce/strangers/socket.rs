//! Packet sockets that hear of our addresses alone: ARP senders, and targets of neighbour advertisements.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_indextoname;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{LinkAddr, recvfrom};
use pnet::packet::Packet as _;
use pnet::packet::arp::ArpPacket;
use pnet::packet::icmpv6::ndp::{NdpOptionTypes, NeighborAdvertPacket};
use pnet::packet::ipv6::Ipv6Packet;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

/// The thread looks this often whether it is still wanted, in milliseconds.
const LOOK: u16 = 500;
/// Of 4096 that the kernel allows; beyond, all packets of the kind pass, and are judged here.
const MOST_ADDRESSES: usize = 1000;
/// After a batch from somebody who floods us.
const FLOOD_PAUSE: Duration = Duration::from_millis(10);
/// Packets between two pauses.
const BATCH: usize = 64;
/// ARP for IPv4 over Ethernet, or the head of an IPv6 packet: nothing longer is looked at.
const LONGEST: usize = 256;

// linux/bpf_common.h, linux/filter.h.
const LD_W: u16 = 0x20;
const LD_H: u16 = 0x28;
const LD_B: u16 = 0x30;
const JEQ: u16 = 0x15;
const RET: u16 = 0x06;
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const PACKET_OUTGOING: u32 = 4;
const PASS: u32 = u32::MAX;

/// Where the sender's IPv4 address is in an ARP packet (RFC 826).
const ARP_SENDER: u32 = 14;
/// Where the last 32 bits of the target are in a neighbour advertisement (RFC 4861 §4.4).
const TARGET_END: u32 = 60;

/// An address, and the MAC it is said to be at.
type Claimed = (IpAddr, [u8; 6]);

/// Somebody said that it has an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub interface: String,
    pub mac: [u8; 6],
    pub address: IpAddr,
}

/// Both sockets, and the thread that reads them until this is dropped.
#[derive(Debug)]
pub(super) struct Ears {
    sockets: Arc<[Socket; 2]>,
}

impl Ears {
    /// `tell` says whether to go on.
    ///
    /// # Errors
    /// Without CAP_NET_RAW.
    pub fn open(addresses: &[IpAddr], tell: impl Fn(Heard) -> bool + Send + 'static) -> io::Result<Self> {
        let open = |protocol: libc::c_int| -> io::Result<Socket> {
            // The kernel wants it in network order.
            let protocol = i32::from((protocol as u16).to_be());
            let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(protocol)))?;
            socket.set_nonblocking(true)?;
            Ok(socket)
        };
        let this = Self { sockets: Arc::new([open(libc::ETH_P_ARP)?, open(libc::ETH_P_IPV6)?]) };
        this.listen_for(addresses)?;
        let sockets = Arc::downgrade(&this.sockets);
        std::thread::Builder::new().name("vipd-strangers".into()).spawn(move || {
            while let Some(sockets) = sockets.upgrade() {
                let mut watched = [0, 1].map(|i: usize| PollFd::new(sockets[i].as_fd(), PollFlags::POLLIN));
                let _ = poll(&mut watched, PollTimeout::from(LOOK));
                let heard = read(&sockets[0], arp).chain(read(&sockets[1], advertisement));
                let mut count = 0;
                for heard in heard {
                    count += 1;
                    if heard.is_some_and(|heard| !tell(heard)) {
                        return;
                    }
                }
                drop(sockets);
                if count >= BATCH {
                    std::thread::sleep(FLOOD_PAUSE);
                }
            }
        })?;
        Ok(this)
    }

    /// From now on these.
    ///
    /// # Errors
    /// From the kernel.
    pub fn listen_for(&self, addresses: &[IpAddr]) -> io::Result<()> {
        let ipv4: Vec<u32> = addresses.iter().filter_map(|address| Some(ipv4(address)?.to_bits())).collect();
        let ipv6: Vec<u32> = addresses.iter().filter_map(|address| Some(end_of(ipv6(address)?))).collect();
        // The kind of address, and an ARP probe (of nobody) is no claim.
        self.sockets[0].attach_filter(&filter(&[(LD_H, 2, 0x0800)], ARP_SENDER, &ipv4))?;
        self.sockets[1].attach_filter(&filter(&[(LD_B, 6, 58), (LD_B, 40, 136)], TARGET_END, &ipv6))
    }
}

fn ipv4(address: &IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    }
}

fn ipv6(address: &IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V6(address) => Some(*address),
        IpAddr::V4(_) => None,
    }
}

fn end_of(address: Ipv6Addr) -> u32 {
    (address.to_bits() & u128::from(u32::MAX)) as u32
}

/// Passes what others send, has these values, and one of `words` at `place`.
fn filter(conditions: &[(u16, u32, u32)], place: u32, words: &[u32]) -> Vec<SockFilter> {
    let load = |code, k| SockFilter::new(code, 0, 0, k);
    let end = |k| SockFilter::new(RET, 0, 0, k);
    let mut program = vec![load(LD_W, PACKET_TYPE), SockFilter::new(JEQ, 0, 1, PACKET_OUTGOING), end(0)];
    for (code, at, value) in conditions {
        program.extend([load(*code, *at), SockFilter::new(JEQ, 1, 0, *value), end(0)]);
    }
    if words.len() > MOST_ADDRESSES {
        program.push(end(PASS));
        return program;
    }
    program.push(load(LD_W, place));
    for word in words {
        program.extend([SockFilter::new(JEQ, 0, 1, *word), end(PASS)]);
    }
    program.push(end(0));
    program
}

/// A batch of what waits; `None` for a packet that says nothing.
fn read(
    socket: &Socket,
    parse: fn(&[u8], [u8; 6]) -> Option<Claimed>,
) -> impl Iterator<Item = Option<Heard>> {
    (0..BATCH).map_while(move |_| {
        let mut buffer = [0; LONGEST];
        let (length, sender) = loop {
            match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
                Ok(received) => break received,
                Err(Errno::EINTR) => {}
                // Nothing more, or the interface went down: it is looked at again soon.
                Err(_) => return None,
            }
        };
        Some(sender.and_then(|sender| {
            let (address, mac) = parse(&buffer[..length.min(LONGEST)], sender.addr()?)?;
            let index = u32::try_from(sender.ifindex()).ok()?;
            let interface = if_indextoname(index).ok()?.to_str().ok()?.to_owned();
            Some(Heard { interface, mac, address })
        }))
    })
}

fn arp(packet: &[u8], _: [u8; 6]) -> Option<Claimed> {
    let arp = ArpPacket::new(packet)?;
    let fits = arp.get_hw_addr_len() == 6 && arp.get_proto_addr_len() == 4;
    fits.then(|| (arp.get_sender_proto_addr().into(), arp.get_sender_hw_addr().octets()))
}

fn advertisement(packet: &[u8], sender: [u8; 6]) -> Option<Claimed> {
    let ipv6 = Ipv6Packet::new(packet)?;
    // RFC 4861 §7.1.2: nobody beyond a router can send one.
    if ipv6.get_hop_limit() != 255 {
        return None;
    }
    let advert = NeighborAdvertPacket::new(ipv6.payload())?;
    let link =
        advert.get_options().into_iter().find(|option| option.option_type == NdpOptionTypes::TargetLLAddr);
    let mac = link.and_then(|option| option.data.get(..6)?.try_into().ok()).unwrap_or(sender);
    Some((advert.get_target_addr().into(), mac))
}

/// One of this host's interfaces has it.
pub(super) fn is_own(mac: [u8; 6]) -> bool {
    let all = nix::ifaddrs::getifaddrs().into_iter().flatten();
    let macs = all.filter_map(|interface| interface.address?.as_link_addr()?.addr());
    macs.into_iter().any(|own| own == mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 826 by hand: 192.0.2.1 is at 02:00:00:00:00:09, told to everybody.
    #[test]
    fn the_sender_of_an_arp_packet_claims_its_address() {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9, 192, 0, 2, 1];
        packet.extend([0, 0, 0, 0, 0, 0, 192, 0, 2, 1]);
        let claim = ("192.0.2.1".parse().unwrap(), [2, 0, 0, 0, 0, 9]);
        assert_eq!(arp(&packet, [0; 6]), Some(claim));
        packet[5] = 16;
        assert_eq!(arp(&packet, [0; 6]), None);
        assert_eq!(arp(&packet[..20], [0; 6]), None);
    }

    /// RFC 4861 §4.4 by hand, with and without the target's link-layer address.
    #[test]
    fn the_target_of_a_neighbour_advertisement_is_claimed() {
        let target: Ipv6Addr = "fd77::100".parse().unwrap();
        let mut packet = vec![0x60, 0, 0, 0, 0, 32, 58, 255];
        packet.extend("fe80::9".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend("ff02::1".parse::<Ipv6Addr>().unwrap().octets());
        packet.extend([136, 0, 0, 0, 0x20, 0, 0, 0]);
        packet.extend(target.octets());
        packet.extend([2, 1, 2, 0, 0, 0, 0, 9]);
        assert_eq!(advertisement(&packet, [7; 6]), Some((target.into(), [2, 0, 0, 0, 0, 9])));
        packet[5] = 24;
        assert_eq!(advertisement(&packet[..64], [7; 6]), Some((target.into(), [7; 6])));
        packet[7] = 254;
        assert_eq!(advertisement(&packet, [7; 6]), None, "it came through a router");
    }
}
