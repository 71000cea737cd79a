//! Messages: parse, emit, and the judgement of received ones.

mod authentication;
mod checksum;
mod datagram;
mod discard;
mod header;
mod ladder;
mod protection;
mod trailer;
mod v2;
mod v3;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use authentication::Authentication;
#[cfg(any(test, feature = "sim"))]
pub(crate) use checksum::ipv4_header_checksum;
pub use checksum::{ChecksumCoverage, ChecksumForm};
pub use datagram::Datagram;
pub use discard::DiscardReason;
pub use header::AuthenticationHeader;
pub use ladder::{Accepted, Ladder, Oddities, Oddity, Transport, UnicastPeer};
pub use protection::Protection;
pub use trailer::{Trailer, TrailerConfig, TrailerError, TrailerKey, TrailerMode};

use crate::{AdverInterval, Family, Priority, Version, VirtualAddresses, Vrid};

/// IP protocol number, and IPv6 next header, of VRRP.
pub const PROTOCOL: u8 = 112;
/// Group that version 2 and version 3 over IPv4 send to.
pub const MULTICAST_GROUP_IPV4: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 18);
/// Group that version 3 over IPv6 sends to.
pub const MULTICAST_GROUP_IPV6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x12);

/// The only type there is.
const ADVERTISEMENT: u8 = 1;

// The first word, and where the addresses begin, are the same in both versions.
const VERSION_TYPE: usize = 0;
const VIRTUAL_RTR_ID: usize = 1;
const PRIORITY: usize = 2;
const COUNT: usize = 3;
const ADDRESSES: usize = 8;
const AUTHENTICATION_DATA_LEN: usize = 8;

/// An advert: the only message of VRRP.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Advertisement {
    /// Of the message.
    pub version: Version,
    /// Which virtual router it speaks for.
    pub vrid: Vrid,
    /// 0 when the sender gives up.
    pub priority: Priority,
    /// Time between adverts as it stands on the wire: seconds in version 2 (8 bits), centiseconds in version 3
    /// (12 bits). 0 can be received and is never accepted in version 3.
    pub adver_interval: u16,
    /// Version 2 only; `None` in version 3.
    pub authentication: Authentication,
    /// In the order of the message. At most 255 fit; version 2 has IPv4 only.
    pub addresses: VirtualAddresses,
}

impl Advertisement {
    /// Reads a message: its form, not whether it should be believed. The checksum, authentication, interval and
    /// the rest are for [`Ladder::judge`].
    ///
    /// # Errors
    ///
    /// When it is no version 2 or 3 advert of exactly the length that its count of addresses asks for.
    pub fn parse(message: &[u8], family: Family) -> Result<Self, DiscardReason> {
        let got = message.len();
        if got < ADDRESSES {
            return Err(DiscardReason::HeaderLength { got });
        }
        let version = match (message[VERSION_TYPE] >> 4, family) {
            (2, Family::Ipv4) => Version::V2,
            (3, _) => Version::V3,
            // Version 2 does not exist over IPv6.
            (2, Family::Ipv6) => return Err(DiscardReason::Version { got: 2, wanted: Some(Version::V3) }),
            (got, _) => return Err(DiscardReason::Version { got, wanted: None }),
        };
        let vrid = Vrid::new(message[VIRTUAL_RTR_ID]).ok_or(DiscardReason::Vrid { got: 0, wanted: None })?;
        let message_type = message[VERSION_TYPE] & 0x0f;
        if message_type != ADVERTISEMENT {
            return Err(DiscardReason::Type { got: message_type });
        }
        let wanted = message_len(version, family, usize::from(message[COUNT]));
        if got != wanted {
            return Err(DiscardReason::Length { got, wanted });
        }
        let (adver_interval, authentication) = match version {
            Version::V2 => (v2::adver_interval(message), v2::authentication(message)),
            Version::V3 => (v3::adver_interval(message), Authentication::None),
        };
        Ok(Self {
            version,
            vrid,
            priority: Priority::new(message[PRIORITY]),
            adver_interval,
            authentication,
            addresses: parse_addresses(&message[ADDRESSES..], family, usize::from(message[COUNT])),
        })
    }

    /// Appends the message to `buf`, with the checksum over `coverage`; version 2 always covers the message alone.
    /// Addresses beyond the 255th, and IPv6 addresses in version 2, cannot be said and are left out.
    pub fn emit(&self, coverage: ChecksumCoverage, buf: &mut Vec<u8>) {
        let start = buf.len();
        let mut header = [0; ADDRESSES];
        header[VERSION_TYPE] = self.version.number() << 4 | ADVERTISEMENT;
        header[VIRTUAL_RTR_ID] = self.vrid.get();
        header[PRIORITY] = self.priority.get();
        // At most 255, by `count`.
        header[COUNT] = self.count() as u8;
        match self.version {
            Version::V2 => v2::emit_second_word(self, &mut header),
            Version::V3 => v3::emit_second_word(self, &mut header),
        }
        buf.extend_from_slice(&header);
        match &self.addresses {
            VirtualAddresses::V4(addresses) => {
                buf.extend(addresses.iter().take(self.count()).flat_map(Ipv4Addr::octets));
            }
            VirtualAddresses::V6(addresses) => {
                buf.extend(addresses.iter().take(self.count()).flat_map(Ipv6Addr::octets));
            }
        }
        let coverage = match self.version {
            Version::V2 => {
                buf.extend_from_slice(&self.authentication.data());
                ChecksumCoverage::Message
            }
            Version::V3 => coverage,
        };
        let checksum = coverage.checksum(&buf[start..]);
        buf[start..][checksum::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
    }

    /// Octets that [`Advertisement::emit`] appends.
    pub fn emitted_len(&self) -> usize {
        message_len(self.version, self.addresses.family(), self.count())
    }

    /// Time between adverts; `None` if the message says 0.
    pub fn interval(&self) -> Option<AdverInterval> {
        AdverInterval::from_wire(self.version, self.adver_interval)
    }

    /// Addresses that fit.
    fn count(&self) -> usize {
        match (self.version, self.addresses.family()) {
            (Version::V2, Family::Ipv6) => 0,
            _ => self.addresses.len().min(usize::from(u8::MAX)),
        }
    }
}

/// First octet (version and type) and VRID of a message: what is needed to find the instance that judges it.
/// `None` if it is too short to say.
pub fn peek_vrid(message: &[u8]) -> Option<(u8, u8)> {
    match message {
        [version_type, vrid, ..] => Some((*version_type, *vrid)),
        _ => None,
    }
}

/// Octets of a message with `count` addresses.
fn message_len(version: Version, family: Family, count: usize) -> usize {
    let trailer = match version {
        Version::V2 => v2::TRAILER,
        Version::V3 => 0,
    };
    ADDRESSES + count * family.address_len() + trailer
}

fn parse_addresses(octets: &[u8], family: Family, count: usize) -> VirtualAddresses {
    match family {
        Family::Ipv4 => {
            let (addresses, _) = octets.as_chunks::<4>();
            VirtualAddresses::V4(addresses.iter().take(count).copied().map(Ipv4Addr::from).collect())
        }
        Family::Ipv6 => {
            let (addresses, _) = octets.as_chunks::<16>();
            VirtualAddresses::V6(addresses.iter().take(count).copied().map(Ipv6Addr::from).collect())
        }
    }
}
