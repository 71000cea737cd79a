//! The IP authentication header around a version 2 advert (RFC 2402 by way of RFC 2338 §5.3.6.3, removed by RFC 3768), as
//! keepalived has it.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! | Next hdr, 112 |  Length, 4    |           Reserved            |
//! +---------------+---------------+-------------------------------+
//! |        Security parameters index: the source address          |
//! +---------------------------------------------------------------+
//! |                       Sequence number                         |
//! +---------------------------------------------------------------+
//! |      Check value: the first 12 octets of an HMAC-MD5          |
//! |                                                               |
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! The check value covers the IP header with what routers may change as zero, this header with the check value as zero, and
//! the message. The sequence belongs to the virtual router, not to the sender: whoever takes over goes on from the last
//! number that it took, and nobody takes a number that is not above it.

use std::fmt;
use std::net::Ipv4Addr;

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;

use super::{DiscardReason, PROTOCOL as VRRP};

/// IP protocol of the authentication header.
pub(super) const PROTOCOL: u8 = 51;

const NEXT_HEADER: usize = 0;
const LENGTH: usize = 1;
const SPI: std::ops::Range<usize> = 4..8;
const SEQUENCE: std::ops::Range<usize> = 8..12;
const CHECK_VALUE: std::ops::Range<usize> = 12..24;
/// Length in 32-bit words, less two.
const WORDS: u8 = 4;

// Of the IP header.
const TOS: usize = 1;
const FRAGMENT: std::ops::Range<usize> = 6..8;
const TTL: usize = 8;
const HEADER_CHECKSUM: std::ops::Range<usize> = 10..12;
const SOURCE: std::ops::Range<usize> = 12..16;
/// First octet of the destination: 224–239 is a group.
const DESTINATION: usize = 16;

/// Puts adverts in an authentication header, and remembers the last sequence number of the virtual router.
#[derive(Clone, PartialEq, Eq)]
pub struct AuthenticationHeader {
    key: [u8; 8],
    last: u32,
}

impl AuthenticationHeader {
    /// Octets between the IP header and the message.
    pub const LEN: usize = 24;

    /// With the password, eight octets padded with zeros. The first number sent is 1.
    pub const fn new(key: [u8; 8]) -> Self {
        Self { key, last: 0 }
    }

    /// Last sequence number sent or taken.
    pub const fn last_sequence(&self) -> u32 {
        self.last
    }

    /// The number of the next advert; one for all of its unicast copies. At the end of the numbers (after 136 years at an
    /// advert a second) it stays: peers discard what comes then, since a number must not be used twice.
    pub fn next_sequence(&mut self) -> u32 {
        self.last = self.last.saturating_add(1);
        self.last
    }

    /// The header that belongs between `ip_header`, complete except for its checksum, and `message`.
    pub fn seal(&self, ip_header: &[u8], sequence: u32, message: &[u8]) -> [u8; Self::LEN] {
        let mut header = [0; Self::LEN];
        header[NEXT_HEADER] = VRRP;
        header[LENGTH] = WORDS;
        header[SPI].copy_from_slice(&ip_header[SOURCE]);
        header[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        let digest = self.digest(ip_header, &header, message).finalize().into_bytes();
        header[CHECK_VALUE].copy_from_slice(&digest[..CHECK_VALUE.len()]);
        header
    }

    /// Whether `sealed`, an IP header and an authentication header of the right form, belongs to `message`; gives its
    /// sequence number, to be taken when everything else is right too.
    ///
    /// # Errors
    ///
    /// In keepalived's order: wrong check value, not the sender's, used before.
    pub(super) fn check(&self, sealed: &[u8], message: &[u8]) -> Result<u32, DiscardReason> {
        let (ip_header, header) = sealed.split_at(sealed.len() - Self::LEN);
        self.digest(ip_header, header, message)
            .verify_truncated_left(&header[CHECK_VALUE])
            .map_err(|_| DiscardReason::HeaderIntegrity)?;
        if header[SPI] != ip_header[SOURCE] {
            let [a, b, c, d] = word(header, SPI);
            return Err(DiscardReason::HeaderOwner { got: Ipv4Addr::new(a, b, c, d) });
        }
        let got = u32::from_be_bytes(word(header, SEQUENCE));
        if got <= self.last {
            return Err(DiscardReason::HeaderReplay { got, last: self.last });
        }
        Ok(got)
    }

    /// Goes on from this number.
    pub(super) fn take(&mut self, sequence: u32) {
        self.last = self.last.max(sequence);
    }

    /// Another password; the numbers go on.
    pub(super) fn rekeyed(&self, key: [u8; 8]) -> Self {
        Self { key, last: self.last }
    }

    pub(super) const fn key(&self) -> [u8; 8] {
        self.key
    }

    fn digest(&self, ip_header: &[u8], header: &[u8], message: &[u8]) -> Hmac<Md5> {
        let mut ip_header = ip_header.to_vec();
        ip_header[TOS] = 0;
        ip_header[FRAGMENT].fill(0);
        ip_header[HEADER_CHECKSUM].fill(0);
        // keepalived keeps the TTL of 255 that multicast must have, and leaves it out between unicast peers.
        if !(224..240).contains(&ip_header[DESTINATION]) {
            ip_header[TTL] = 0;
        }
        let mut digest = Hmac::<Md5>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        digest.update(&ip_header);
        digest.update(&header[..CHECK_VALUE.start]);
        digest.update(&[0; CHECK_VALUE.end - CHECK_VALUE.start]);
        digest.update(message);
        digest
    }
}

/// That it is a whole authentication header with VRRP inside.
pub(super) fn check_form(header: &[u8]) -> Result<(), DiscardReason> {
    if header.len() < AuthenticationHeader::LEN || header[LENGTH] != WORDS {
        return Err(DiscardReason::HeaderLength { got: header.len() });
    }
    match header[NEXT_HEADER] {
        VRRP => Ok(()),
        got => Err(DiscardReason::Protocol { got }),
    }
}

fn word(octets: &[u8], range: std::ops::Range<usize>) -> [u8; 4] {
    let mut word = [0; 4];
    word.copy_from_slice(&octets[range]);
    word
}

impl fmt::Debug for AuthenticationHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AuthenticationHeader(<hidden>, last {})", self.last)
    }
}
