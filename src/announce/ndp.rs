//! Unsolicited neighbour advertisements: the frame (RFC 4861 §4.4, §7.2.6), and whether a link forwards.

use std::collections::HashMap;
use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::packet::icmpv6::ndp::{
    MutableNdpOptionPacket, MutableNeighborAdvertPacket, NdpOptionTypes, NeighborAdvertFlags,
};
use pnet::packet::icmpv6::{self, Icmpv6Packet, Icmpv6Types};
use pnet::packet::ip::IpNextHeaderProtocols;
use pnet::packet::ipv6::MutableIpv6Packet;
use pnet::util::MacAddr;

/// Octets of a frame.
pub const LENGTH: usize = 86;

const ETHERNET: usize = 14;
const IPV6: usize = 40;
const ADVERTISEMENT: usize = 24;
const OPTION: usize = 8;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: MacAddr = MacAddr(0x33, 0x33, 0, 0, 0, 1);

/// An unsolicited neighbour advertisement for `address` at `mac`, with its Ethernet and IPv6 headers.
///
/// Override is set, so that hosts change the entry that they have; Solicited is clear; Router is set if
/// the link forwards, because hosts drop a default router whose advertisements stop saying so.
pub fn frame(mac: [u8; 6], address: Ipv6Addr, router: bool) -> [u8; LENGTH] {
    let mut frame = [0; LENGTH];
    let (header, rest) = frame.split_at_mut(ETHERNET);
    let (ip, message) = rest.split_at_mut(IPV6);

    let mut ethernet = MutableEthernetPacket::new(header).expect("14 octets");
    ethernet.set_destination(ALL_NODES_MAC);
    ethernet.set_source(mac.into());
    ethernet.set_ethertype(EtherTypes::Ipv6);

    let mut ip = MutableIpv6Packet::new(ip).expect("40 octets");
    ip.set_version(6);
    ip.set_payload_length((ADVERTISEMENT + OPTION) as u16);
    ip.set_next_header(IpNextHeaderProtocols::Icmpv6);
    ip.set_hop_limit(255);
    ip.set_source(address);
    ip.set_destination(ALL_NODES);

    let (fixed, option) = message.split_at_mut(ADVERTISEMENT);
    let mut advertisement = MutableNeighborAdvertPacket::new(fixed).expect("24 octets");
    advertisement.set_icmpv6_type(Icmpv6Types::NeighborAdvert);
    let router = if router { NeighborAdvertFlags::Router } else { 0 };
    advertisement.set_flags(NeighborAdvertFlags::Override | router);
    advertisement.set_target_addr(address);

    let mut link_layer = MutableNdpOptionPacket::new(option).expect("8 octets");
    link_layer.set_option_type(NdpOptionTypes::TargetLLAddr);
    link_layer.set_length(1);
    link_layer.set_data(&mac);

    let checksum = icmpv6::checksum(&Icmpv6Packet::new(message).expect("32 octets"), &address, &ALL_NODES);
    let mut advertisement = MutableNeighborAdvertPacket::new(message).expect("32 octets");
    advertisement.set_checksum(checksum);
    frame
}

/// Which links forward IPv6, looked up at most every five seconds, as keepalived does.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    known: HashMap<String, (Instant, bool)>,
}

impl Forwarding {
    const TRUSTED: Duration = Duration::from_secs(5);

    /// Whether `interface` forwards. Reads procfs, which never waits for a disk; `false` if it cannot.
    pub fn is_on(&mut self, now: Instant, interface: &str) -> bool {
        if let Some((read, on)) = self.known.get(interface)
            && now.saturating_duration_since(*read) < Self::TRUSTED
        {
            return *on;
        }
        let setting = std::fs::read(format!("/proc/sys/net/ipv6/conf/{interface}/forwarding"));
        let on = setting.is_ok_and(|text| text.trim_ascii() != b"0");
        self.known.insert(interface.to_owned(), (now, on));
        on
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::golden;

    const VIP: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x100);

    #[test]
    fn frame_is_keepalived_s_with_a_physical_mac() {
        let captured = golden(include_str!("golden/keepalived-2.2.7-na-physical-mac.hex"));
        assert_eq!(frame([2, 0, 0, 0, 0, 0x0a], VIP, false)[..], captured);
    }

    #[test]
    fn frame_is_keepalived_s_with_a_virtual_mac() {
        let captured = golden(include_str!("golden/keepalived-2.2.7-na-virtual-mac.hex"));
        assert_eq!(frame([0, 0, 0x5e, 0, 2, 0x3d], VIP, false)[..], captured);
    }

    #[test]
    fn frame_of_a_router_is_frr_s() {
        let captured = golden(include_str!("golden/frr-8.4.4-na.hex"));
        assert_eq!(frame([0, 0, 0x5e, 0, 2, 0x34], VIP, true)[..], captured);
    }

    #[test]
    fn nd_4_override_is_set_and_solicited_is_clear() {
        const FLAGS: usize = ETHERNET + IPV6 + 4;
        assert_eq!(frame([2, 0, 0, 0, 0, 1], VIP, false)[FLAGS], 0x20);
        assert_eq!(frame([2, 0, 0, 0, 0, 1], VIP, true)[FLAGS], 0xa0);
    }

    #[test]
    fn forwarding_of_an_interface_that_does_not_exist_is_off() {
        assert!(!Forwarding::default().is_on(Instant::now(), "no-such-link"));
    }
}
