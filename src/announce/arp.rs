//! Gratuitous ARP: the frame (vrrp-protocol: keepalived and FRR send the same 42 octets).

use std::net::Ipv4Addr;

use pnet::packet::arp::{ArpHardwareTypes, ArpOperations, MutableArpPacket};
use pnet::packet::ethernet::{EtherTypes, MutableEthernetPacket};
use pnet::util::MacAddr;

/// Octets of a frame.
pub const LENGTH: usize = 42;

/// A gratuitous ARP request for `address` at `mac`, with its Ethernet header.
///
/// A request, because Linux takes a gratuitous reply only if its target MAC is the sender's. The target
/// MAC is the broadcast address as in keepalived and FRR; RFC 5227 has zeros there.
pub fn frame(mac: [u8; 6], address: Ipv4Addr) -> [u8; LENGTH] {
    let mac = MacAddr::from(mac);
    let mut frame = [0; LENGTH];
    let (header, payload) = frame.split_at_mut(MutableEthernetPacket::minimum_packet_size());

    let mut ethernet = MutableEthernetPacket::new(header).expect("14 octets");
    ethernet.set_destination(MacAddr::broadcast());
    ethernet.set_source(mac);
    ethernet.set_ethertype(EtherTypes::Arp);

    let mut arp = MutableArpPacket::new(payload).expect("28 octets");
    arp.set_hardware_type(ArpHardwareTypes::Ethernet);
    arp.set_protocol_type(EtherTypes::Ipv4);
    arp.set_hw_addr_len(6);
    arp.set_proto_addr_len(4);
    arp.set_operation(ArpOperations::Request);
    arp.set_sender_hw_addr(mac);
    arp.set_sender_proto_addr(address);
    arp.set_target_hw_addr(MacAddr::broadcast());
    arp.set_target_proto_addr(address);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announce::golden;

    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);

    #[test]
    fn frame_is_keepalived_s_with_a_physical_mac() {
        let captured = golden(include_str!("golden/keepalived-2.2.7-garp-physical-mac.hex"));
        assert_eq!(frame([2, 0, 0, 0, 0, 0x0a], VIP)[..], captured);
    }

    #[test]
    fn frame_is_keepalived_s_with_a_virtual_mac() {
        let captured = golden(include_str!("golden/keepalived-2.2.7-garp-virtual-mac.hex"));
        assert_eq!(frame([0, 0, 0x5e, 0, 1, 0x3c], VIP)[..], captured);
    }

    #[test]
    fn frame_is_frr_s() {
        let captured = golden(include_str!("golden/frr-8.4.4-garp.hex"));
        assert_eq!(frame([0, 0, 0x5e, 0, 1, 0x34], VIP)[..], captured);
    }
}
