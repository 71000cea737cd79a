//! IP packets and captures, as a real LAN would carry them.

use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use crate::packet::ipv4_header_checksum;
use crate::{Datagram, DiscardReason, PROTOCOL};

/// Class selector 6, as keepalived and FRR mark their adverts.
const TRAFFIC_CLASS: u8 = 0xc0;

/// An IP packet that carries `message`. Both addresses are of one family; otherwise the IPv4 one is mapped.
pub(super) fn ip_packet(source: IpAddr, destination: IpAddr, ttl: u8, message: &[u8]) -> Vec<u8> {
    // A message has at most 8 + 255 * 16 octets.
    let len = message.len() as u16;
    let mut packet = Vec::new();
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            packet.extend_from_slice(&[0x45, TRAFFIC_CLASS]);
            packet.extend_from_slice(&(20 + len).to_be_bytes());
            packet.extend_from_slice(&[0, 0, 0, 0, ttl, PROTOCOL, 0, 0]);
            packet.extend_from_slice(&source.octets());
            packet.extend_from_slice(&destination.octets());
            let checksum = ipv4_header_checksum(&packet);
            packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        }
        _ => {
            let as_ipv6 = |address| match address {
                IpAddr::V4(address) => address.to_ipv6_mapped(),
                IpAddr::V6(address) => address,
            };
            packet.extend_from_slice(&[0x60 | TRAFFIC_CLASS >> 4, TRAFFIC_CLASS << 4, 0, 0]);
            packet.extend_from_slice(&len.to_be_bytes());
            packet.extend_from_slice(&[PROTOCOL, ttl]);
            packet.extend_from_slice(&as_ipv6(source).octets());
            packet.extend_from_slice(&as_ipv6(destination).octets());
        }
    }
    packet.extend_from_slice(message);
    packet
}

/// The datagram in an IP packet of either family.
pub(super) fn datagram(packet: &[u8]) -> Result<Datagram<'_>, DiscardReason> {
    match packet.first() {
        Some(first) if first >> 4 == 6 => Datagram::from_ipv6(packet),
        _ => Datagram::from_ipv4(packet),
    }
}

/// What was on the wire, and when.
#[derive(Clone, Debug)]
pub(super) struct Captured {
    pub(super) at: Duration,
    /// Number of the sender, which its MAC address is made of.
    pub(super) sender: u16,
    pub(super) packet: Vec<u8>,
}

/// A classic pcap file with Ethernet frames and nanosecond stamps.
pub(super) fn write_pcap(frames: &[Captured], mut to: impl Write) -> io::Result<()> {
    const NANOSECOND_MAGIC: u32 = 0xa1b2_3c4d;
    const SNAPLEN: u32 = 65_535;
    const ETHERNET: u32 = 1;
    to.write_all(&NANOSECOND_MAGIC.to_le_bytes())?;
    to.write_all(&[2, 0, 4, 0])?;
    to.write_all(&[0; 8])?;
    to.write_all(&SNAPLEN.to_le_bytes())?;
    to.write_all(&ETHERNET.to_le_bytes())?;
    for Captured { at, sender, packet } in frames {
        let frame = ethernet(*sender, packet);
        // Simulated time begins at 0 and stays far below 2^32 s; a frame is at most 4 kB.
        for word in [at.as_secs() as u32, at.subsec_nanos(), frame.len() as u32, frame.len() as u32] {
            to.write_all(&word.to_le_bytes())?;
        }
        to.write_all(&frame)?;
    }
    Ok(())
}

fn ethernet(sender: u16, packet: &[u8]) -> Vec<u8> {
    let [high, low] = sender.to_be_bytes();
    let is_ipv6 = packet[0] >> 4 == 6;
    let destination = match datagram(packet).map(|datagram| datagram.destination) {
        Ok(IpAddr::V4(group)) if group.is_multicast() => {
            let [_, a, b, c] = group.octets();
            [0x01, 0x00, 0x5e, a & 0x7f, b, c]
        }
        Ok(IpAddr::V6(group)) if group.is_multicast() => {
            let [.., a, b, c, d] = group.octets();
            [0x33, 0x33, a, b, c, d]
        }
        // Who a unicast destination is does not matter to a reader of the capture.
        _ => [0x02, 0, 0, 0, 0xff, 0xff],
    };
    let mut frame = destination.to_vec();
    frame.extend_from_slice(&[0x02, 0, 0, 0, high, low]);
    frame.extend_from_slice(if is_ipv6 { &[0x86, 0xdd] } else { &[0x08, 0x00] });
    frame.extend_from_slice(packet);
    frame
}
