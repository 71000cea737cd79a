//! The checksum of a message, and what it covers: the main trap between implementations.
//!
//! Version 2: the message alone. Version 3 over IPv6: with the IPv6 pseudo-header. Version 3 over IPv4: RFC 9568
//! §5.2.8 says the message alone; RFC 5798 was read as asking for a pseudo-header, and keepalived and FRR send
//! and demand that. We accept both and send what we are told.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use super::{MULTICAST_GROUP_IPV4, PROTOCOL};
use crate::{Family, Version};

/// Where the checksum stands in the message.
pub(super) const CHECKSUM: std::ops::Range<usize> = 6..8;

/// What the checksum of a message covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumCoverage {
    /// The message alone: version 2, and version 3 over IPv4 by RFC 9568 (keepalived: `v3_checksum_as_v2`).
    Message,
    /// The message and a pseudo-header: version 3 over IPv6, and over IPv4 as keepalived and FRR do it. Both
    /// addresses are of one family; if they are not, the IPv4 one is taken as an IPv4-mapped IPv6 address.
    PseudoHeader {
        /// Source in the IP header.
        source: IpAddr,
        /// Destination in the IP header.
        destination: IpAddr,
    },
}

impl ChecksumCoverage {
    /// With 224.0.0.18 in place of the peer, as keepalived up to 1.3.6 sums version 3 unicast adverts over IPv4.
    pub const fn old_unicast(source: IpAddr) -> Self {
        Self::PseudoHeader { source, destination: IpAddr::V4(MULTICAST_GROUP_IPV4) }
    }

    /// What to send: `message_only` chooses RFC 9568's form for version 3 over IPv4 and means nothing elsewhere.
    pub fn for_sending(version: Version, source: IpAddr, destination: IpAddr, message_only: bool) -> Self {
        match (version, Family::of(destination)) {
            (Version::V2, _) => Self::Message,
            (Version::V3, Family::Ipv4) if message_only => Self::Message,
            (Version::V3, _) => Self::PseudoHeader { source, destination },
        }
    }

    /// The checksum that belongs into `message`, whatever stands in its checksum field now. `message` has at least
    /// 8 octets.
    pub fn checksum(&self, message: &[u8]) -> u16 {
        let sum = self.pseudo_header(message.len());
        let sum = ones_complement_sum(&message[..CHECKSUM.start], sum);
        !fold(ones_complement_sum(&message[CHECKSUM.end..], sum))
    }

    /// Whether the checksum in `message` is right.
    pub fn verifies(&self, message: &[u8]) -> bool {
        fold(ones_complement_sum(message, self.pseudo_header(message.len()))) == 0xffff
    }

    /// Sum of the pseudo-header for a message of `len` octets.
    fn pseudo_header(&self, len: usize) -> u64 {
        let (source, destination) = match *self {
            Self::Message => return 0,
            Self::PseudoHeader { source, destination } => (source, destination),
        };
        // The length and the protocol stand on 16-bit boundaries in both pseudo-headers.
        let sum = len as u64 + u64::from(PROTOCOL);
        match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let sum = ones_complement_sum(&source.octets(), sum);
                ones_complement_sum(&destination.octets(), sum)
            }
            _ => {
                let sum = ones_complement_sum(&as_ipv6(source).octets(), sum);
                ones_complement_sum(&as_ipv6(destination).octets(), sum)
            }
        }
    }
}

fn as_ipv6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Adds 16-bit big-endian words; a last odd octet is padded with zero. 64 bits hold more words than fit in memory.
fn ones_complement_sum(octets: &[u8], sum: u64) -> u64 {
    let (words, odd) = octets.as_chunks::<2>();
    let sum = words.iter().fold(sum, |sum, word| sum + u64::from(u16::from_be_bytes(*word)));
    odd.iter().fold(sum, |sum, octet| sum + (u64::from(*octet) << 8))
}

fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// Whether an IPv4 header's own checksum is right.
pub(super) fn ipv4_header_verifies(header: &[u8]) -> bool {
    fold(ones_complement_sum(header, 0)) == 0xffff
}

/// The checksum that belongs into an IPv4 header whose checksum field is zero.
#[cfg(any(test, feature = "sim"))]
pub(crate) fn ipv4_header_checksum(header: &[u8]) -> u16 {
    !fold(ones_complement_sum(header, 0))
}

/// Which of the accepted forms the checksum of a received message had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ChecksumForm {
    /// Over the message alone.
    Message,
    /// With a pseudo-header that has the packet's own addresses.
    PseudoHeader,
    /// Unicast, but with 224.0.0.18 in the pseudo-header: keepalived up to 1.3.6, or `old_unicast_checksum`.
    MulticastPseudoHeader,
    /// Not looked at: the kernel drops packets with a wrong one (IPV6_CHECKSUM on a raw IPv6 socket).
    VerifiedByKernel,
}

impl ChecksumForm {
    /// Short word for logs and status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Message => "message",
            Self::PseudoHeader => "pseudo_header",
            Self::MulticastPseudoHeader => "multicast_pseudo_header",
            Self::VerifiedByKernel => "verified_by_kernel",
        }
    }

    /// The form that `message` satisfies, if it is one that we accept.
    pub(super) fn of(
        message: &[u8],
        version: Version,
        source: IpAddr,
        destination: IpAddr,
        old_unicast: bool,
    ) -> Option<Self> {
        let with = |destination| ChecksumCoverage::PseudoHeader { source, destination }.verifies(message);
        let alone = || ChecksumCoverage::Message.verifies(message);
        match (version, Family::of(destination)) {
            (Version::V2, _) => alone().then_some(Self::Message),
            (Version::V3, Family::Ipv6) => with(destination).then_some(Self::PseudoHeader),
            (Version::V3, Family::Ipv4) if with(destination) => Some(Self::PseudoHeader),
            (Version::V3, Family::Ipv4) if alone() => Some(Self::Message),
            (Version::V3, Family::Ipv4) => {
                let group = IpAddr::V4(MULTICAST_GROUP_IPV4);
                (old_unicast && with(group)).then_some(Self::MulticastPseudoHeader)
            }
        }
    }
}

impl fmt::Display for ChecksumForm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    // Vectors T08 (keepalived 2.2.7) and T24 (RFC 9568), VRRP message only.
    const T08: [u8; 12] = [0x31, 0x34, 0x96, 0x01, 0x00, 0x64, 0xd3, 0x70, 0xc0, 0x00, 0x02, 0x64];
    const SOURCE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    const GROUP: IpAddr = IpAddr::V4(MULTICAST_GROUP_IPV4);

    #[test]
    fn keepalived_covers_the_pseudo_header_and_rfc_9568_does_not() {
        let pseudo = ChecksumCoverage::PseudoHeader { source: SOURCE, destination: GROUP };
        assert_eq!(pseudo.checksum(&T08), 0xd370);
        assert!(pseudo.verifies(&T08));
        assert_eq!(ChecksumCoverage::Message.checksum(&T08), 0x7601);
        assert!(!ChecksumCoverage::Message.verifies(&T08));
    }

    #[test]
    fn an_odd_last_octet_is_padded() {
        assert_eq!(fold(ones_complement_sum(&[0x12, 0x34, 0x56], 0)), 0x1234 + 0x5600);
    }
}
