//! A message with what its IP header said.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::checksum::ipv4_header_verifies;
use super::header::{self, AuthenticationHeader};
use super::{DiscardReason, PROTOCOL};

const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;

/// A received message and what is needed of its IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub source: IpAddr,
    /// The group, or one of our addresses.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// What follows the IP header, and the authentication header if there is one, without padding.
    pub message: &'a [u8],
    /// IP header and authentication header, when the packet has one (IP protocol 51).
    pub(super) sealed: Option<&'a [u8]>,
}

impl<'a> Datagram<'a> {
    /// Of parts, as a raw IPv6 socket gives them.
    pub const fn new(source: IpAddr, destination: IpAddr, ttl: u8, message: &'a [u8]) -> Self {
        Self { source, destination, ttl, message, sealed: None }
    }

    /// From a whole IPv4 packet, as a raw socket gives it: any header options, padding behind the total length cut
    /// off. Any TOS, identification and DF are accepted.
    ///
    /// # Errors
    ///
    /// When it is not a complete, unfragmented packet of protocol 112, or of protocol 51 with VRRP inside, with a right
    /// header checksum. Whether the authentication header is right is for [`crate::Ladder`].
    pub fn from_ipv4(packet: &'a [u8]) -> Result<Self, DiscardReason> {
        let got = packet.len();
        if got < IPV4_HEADER_LEN {
            return Err(DiscardReason::IpHeaderLength { got });
        }
        if packet[0] >> 4 != 4 {
            return Err(DiscardReason::IpVersion { got: packet[0] >> 4, wanted: 4 });
        }
        let header_len = usize::from(packet[0] & 0x0f) * 4;
        if header_len < IPV4_HEADER_LEN || header_len > got {
            return Err(DiscardReason::IpHeaderLength { got });
        }
        let total_len = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
        if total_len < header_len || total_len > got {
            return Err(DiscardReason::IpLength { got, wanted: total_len });
        }
        // A receiving kernel may write into options (record route) and leaves the checksum as it came.
        if header_len == IPV4_HEADER_LEN && !ipv4_header_verifies(&packet[..header_len]) {
            return Err(DiscardReason::HeaderChecksum);
        }
        // More Fragments, or an offset.
        if u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff != 0 {
            return Err(DiscardReason::Fragment);
        }
        let message_at = match packet[9] {
            PROTOCOL => header_len,
            header::PROTOCOL => header_len + AuthenticationHeader::LEN,
            got => return Err(DiscardReason::Protocol { got }),
        };
        let sealed = (message_at != header_len).then_some(&packet[..message_at.min(total_len)]);
        if let Some(sealed) = sealed {
            header::check_form(&sealed[header_len..])?;
        }
        Ok(Self {
            source: IpAddr::V4(Ipv4Addr::new(packet[12], packet[13], packet[14], packet[15])),
            destination: IpAddr::V4(Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19])),
            ttl: packet[8],
            message: &packet[message_at..total_len],
            sealed,
        })
    }

    /// From a whole IPv6 packet without extension headers, as a capture has it. (A raw IPv6 socket gives the message
    /// alone, and hop limit and destination as ancillary data.)
    ///
    /// # Errors
    ///
    /// When it is not a complete packet whose next header is 112.
    pub fn from_ipv6(packet: &'a [u8]) -> Result<Self, DiscardReason> {
        let got = packet.len();
        let Some((header, payload)) = packet.split_first_chunk::<IPV6_HEADER_LEN>() else {
            return Err(DiscardReason::IpHeaderLength { got });
        };
        if header[0] >> 4 != 6 {
            return Err(DiscardReason::IpVersion { got: header[0] >> 4, wanted: 6 });
        }
        let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
        if payload_len > payload.len() {
            return Err(DiscardReason::IpLength { got, wanted: IPV6_HEADER_LEN + payload_len });
        }
        if header[6] != PROTOCOL {
            return Err(DiscardReason::Protocol { got: header[6] });
        }
        let address = |start: usize| {
            let mut octets = [0; 16];
            octets.copy_from_slice(&header[start..start + 16]);
            IpAddr::V6(Ipv6Addr::from(octets))
        };
        Ok(Self {
            source: address(8),
            destination: address(24),
            ttl: header[7],
            message: &payload[..payload_len],
            sealed: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Vector T08: keepalived 2.2.7, version 3, one address.
    const T08: [u8; 32] = [
        0x45, 0xc0, 0x00, 0x20, 0x00, 0x01, 0x00, 0x00, 0xff, 0x70, 0x18, 0x99, 0xc0, 0x00, 0x02, 0x01, 0xe0,
        0x00, 0x00, 0x12, 0x31, 0x34, 0x96, 0x01, 0x00, 0x64, 0xd3, 0x70, 0xc0, 0x00, 0x02, 0x64,
    ];

    fn changed(at: usize, to: u8) -> [u8; 32] {
        let mut packet = T08;
        packet[at] = to;
        packet[10..12].fill(0);
        let checksum = crate::packet::ipv4_header_checksum(&packet[..20]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        packet
    }

    #[test]
    fn padding_behind_the_total_length_is_cut_off() {
        let mut padded = T08.to_vec();
        padded.resize(46, 0xaa);
        assert_eq!(Datagram::from_ipv4(&padded).unwrap().message, &T08[20..]);
    }

    #[test]
    fn a_packet_shorter_than_its_total_length_is_discarded() {
        assert_eq!(Datagram::from_ipv4(&T08[..31]), Err(DiscardReason::IpLength { got: 31, wanted: 32 }));
        assert_eq!(Datagram::from_ipv4(&T08[..19]), Err(DiscardReason::IpHeaderLength { got: 19 }));
    }

    #[test]
    fn header_lengths_below_five_and_beyond_the_packet_are_discarded() {
        assert_eq!(Datagram::from_ipv4(&changed(0, 0x44)), Err(DiscardReason::IpHeaderLength { got: 32 }));
        assert_eq!(Datagram::from_ipv4(&changed(0, 0x4f)), Err(DiscardReason::IpHeaderLength { got: 32 }));
    }

    #[test]
    fn fragments_and_other_protocols_are_discarded_and_df_is_not() {
        assert_eq!(Datagram::from_ipv4(&changed(6, 0x20)), Err(DiscardReason::Fragment));
        assert_eq!(Datagram::from_ipv4(&changed(7, 0x01)), Err(DiscardReason::Fragment));
        assert_eq!(Datagram::from_ipv4(&changed(9, 17)), Err(DiscardReason::Protocol { got: 17 }));
        assert!(Datagram::from_ipv4(&changed(6, 0x40)).is_ok());
    }
}
