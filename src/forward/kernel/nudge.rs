//! Tells clients of sessions that were ended in the kernel.
//!
//! The kernel forgets such a session without a word, and a client that only waits would wait on. A segment that cannot
//! be right makes it say what it expects (RFC 9293 §3.10.7.4: an unacceptable segment is answered by an
//! acknowledgement); that answer belongs to nothing here, so this host's own reset, which the client accepts, ends it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;

use config::ready::Protocol;
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv4::{self, MutableIpv4Packet};
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::packet::tcp::{self, MutableTcpPacket, TcpFlags};
use socket2::{Domain, SockAddr, Socket, Type};

use super::conntrack::Flow;

const TCP_HEADER: usize = 20;
const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
/// More is not said at once; the others hear of it when they send something.
const MOST: usize = 100_000;
/// Of a segment that nobody expects.
const STRANGE: u32 = 1;

/// One segment for each client of TCP.
pub fn clients(flows: &[Flow]) -> io::Result<()> {
    let (mut ipv4, mut ipv6) = (None, None);
    let mut first = Ok(());
    for flow in flows.iter().filter(|flow| flow.protocol == Protocol::Tcp).take(MOST) {
        let socket = if flow.client.is_ipv6() { &mut ipv6 } else { &mut ipv4 };
        let socket = match socket {
            Some(socket) => &*socket,
            none => none.insert(raw(flow.client.is_ipv6())?),
        };
        let sent = socket.send_to(&packet(flow), &SockAddr::from(SocketAddr::new(flow.client.ip(), 0)));
        first = first.and(sent.map(drop));
    }
    first
}

/// We write the header of IP: the source is the virtual address.
fn raw(is_ipv6: bool) -> io::Result<Socket> {
    let domain = if is_ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::RAW.nonblocking(), Some(nix::libc::IPPROTO_RAW.into()))?;
    // It is never read.
    let _ = socket2::SockRef::from(&socket.as_fd()).set_recv_buffer_size(0);
    Ok(socket)
}

fn packet(flow: &Flow) -> Vec<u8> {
    let mut segment = [0; TCP_HEADER];
    if let Some(mut tcp) = MutableTcpPacket::new(&mut segment) {
        tcp.set_source(flow.wanted.port());
        tcp.set_destination(flow.client.port());
        tcp.set_sequence(STRANGE);
        tcp.set_acknowledgement(STRANGE);
        tcp.set_data_offset(5);
        tcp.set_flags(TcpFlags::ACK);
        let checksum = match (flow.wanted.ip(), flow.client.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => tcp::ipv4_checksum(&tcp.to_immutable(), &from, &to),
            (IpAddr::V6(from), IpAddr::V6(to)) => tcp::ipv6_checksum(&tcp.to_immutable(), &from, &to),
            _ => 0,
        };
        tcp.set_checksum(checksum);
    }
    match (flow.wanted.ip(), flow.client.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let mut packet = vec![0; IPV4_HEADER + TCP_HEADER];
            if let Some(mut ip) = MutableIpv4Packet::new(&mut packet) {
                ip.set_version(4);
                ip.set_header_length(5);
                ip.set_total_length((IPV4_HEADER + TCP_HEADER) as u16);
                ip.set_ttl(64);
                ip.set_next_level_protocol(IpNextHeaderProtocols::Tcp);
                ip.set_source(from);
                ip.set_destination(to);
                ip.set_payload(&segment);
                let checksum = ipv4::checksum(&ip.to_immutable());
                ip.set_checksum(checksum);
            }
            packet
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let mut packet = vec![0; IPV6_HEADER + TCP_HEADER];
            if let Some(mut ip) = MutableIpv6Packet::new(&mut packet) {
                ip.set_version(6);
                ip.set_payload_length(TCP_HEADER as u16);
                ip.set_next_header(IpNextHeaderProtocols::Tcp);
                ip.set_hop_limit(64);
                ip.set_source(from);
                ip.set_destination(to);
                ip.set_payload(&segment);
            }
            packet
        }
        _ => Vec::new(),
    }
}
