//! Why a received packet was discarded: one variant for each check, with what was got and what was wanted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::{AdverInterval, Version, Vrid};

/// Why a received packet was discarded. A discarded packet changes no timer, no state and no learned value (H-1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum DiscardReason {
    /// Too short for its IP header.
    #[error("the IP header is incomplete: {got} octets")]
    IpHeaderLength {
        /// Octets received.
        got: usize,
    },
    /// Not the IP version that was asked for.
    #[error("IP version {got} instead of {wanted}")]
    IpVersion {
        /// In the first four bits.
        got: u8,
        /// 4 or 6.
        wanted: u8,
    },
    /// The IP header promises more than was received, or less than itself.
    #[error("the IP header says {wanted} octets, {got} are there")]
    IpLength {
        /// Octets received.
        got: usize,
        /// By the header.
        wanted: usize,
    },
    /// The IPv4 header's own checksum is wrong. The kernel drops these before anybody sees them.
    #[error("the checksum of the IPv4 header is wrong")]
    HeaderChecksum,
    /// A fragment. Adverts are never fragmented.
    #[error("a fragment")]
    Fragment,
    /// Another protocol than VRRP.
    #[error("IP protocol {got} instead of 112")]
    Protocol {
        /// In the IP header, or in the authentication header.
        got: u8,
    },
    /// Multicast to a unicast instance, unicast to a multicast instance, or another group.
    #[error("sent to {got}, {wanted}", wanted = Wanted("expected", "expected one of our own addresses", *.wanted))]
    Destination {
        /// In the IP header.
        got: IpAddr,
        /// The group, or our own address if it is known.
        wanted: Option<IpAddr>,
    },
    /// Time to live or hop limit: the packet has passed a router, or the peer is not as far as was said.
    #[error("TTL or hop limit {got}, expected {lowest} to {highest}")]
    Ttl {
        /// In the IP header.
        got: u8,
        /// 255 for multicast.
        lowest: u8,
        /// 255 for multicast.
        highest: u8,
    },
    /// Too short for the eight octets that every message has.
    #[error("the message has {got} octets, fewer than 8")]
    HeaderLength {
        /// Octets of the message.
        got: usize,
    },
    /// Another version of VRRP.
    #[error("version {got}, {wanted}", wanted = Wanted("expected", "which does not exist here", .wanted.map(Version::number)))]
    Version {
        /// In the first four bits.
        got: u8,
        /// The instance's, if there is one version to expect.
        wanted: Option<Version>,
    },
    /// Another virtual router.
    #[error("VRID {got}, {wanted}", wanted = Wanted("expected", "which is never valid", *.wanted))]
    Vrid {
        /// In the message.
        got: u8,
        /// The instance's.
        wanted: Option<Vrid>,
    },
    /// Not an ADVERTISEMENT.
    #[error("packet type {got} instead of 1 (ADVERTISEMENT)")]
    Type {
        /// In the message.
        got: u8,
    },
    /// Not exactly as long as its count of addresses says.
    #[error("the message has {got} octets, {wanted} expected for its count of addresses")]
    Length {
        /// Octets of the message.
        got: usize,
        /// For the count of addresses.
        wanted: usize,
    },
    /// No address in it (erratum 8299).
    #[error("the advert carries no address")]
    CountZero,
    /// Right under none of the accepted coverages.
    #[error("checksum {got:#06x}, expected {wanted:#06x}")]
    Checksum {
        /// In the message.
        got: u16,
        /// In the form that we expect first.
        wanted: u16,
    },
    /// A type of authentication that does not exist or is not supported.
    #[error("authentication type {got} is not supported")]
    AuthType {
        /// In the message.
        got: u8,
    },
    /// A type of authentication that is not ours.
    #[error("authentication type {got}, ours is {wanted}")]
    AuthTypeMismatch {
        /// In the message.
        got: u8,
        /// As configured.
        wanted: u8,
    },
    /// Another password than ours.
    #[error("the password differs from ours")]
    AuthFailure,
    /// Authentication header: its check value is not that of the packet with our password.
    #[error(
        "the check value of the authentication header is wrong: another password, or the packet was changed"
    )]
    HeaderIntegrity,
    /// Authentication header: the security parameters index is not the source address, as keepalived has it.
    #[error("the authentication header belongs to {got}, not to the sender")]
    HeaderOwner {
        /// The index, as an address.
        got: Ipv4Addr,
    },
    /// Authentication header: the sequence number is not above the last that was sent or taken.
    #[error("sequence number {got} of the authentication header is not above {last}")]
    HeaderReplay {
        /// In the header.
        got: u32,
        /// The last that anybody used.
        last: u32,
    },
    /// `auth_hmac` in mode enforce: the advert is not signed.
    #[error("the advert is not signed (auth_hmac)")]
    TrailerMissing,
    /// The trailer is of another type, or has something in its reserved field.
    #[error("the trailer of auth_hmac is malformed: type {kind}, reserved {reserved}")]
    TrailerMalformed {
        /// 1 is HMAC-SHA256-128.
        kind: u8,
        /// 0 is right.
        reserved: u16,
    },
    /// Signed with a key that we do not have.
    #[error("the advert is signed with key {got}, which we do not have")]
    TrailerKey {
        /// Its id.
        got: u8,
    },
    /// The signature is wrong.
    #[error(
        "the signature of the advert is wrong: another secret under this key id, or the packet was changed"
    )]
    TrailerHmac,
    /// The clock of the sender is too far from ours, or the advert was kept.
    #[error("the advert was signed {skew} s from now by our clock, {window} s are allowed")]
    TrailerStale {
        /// Ours minus theirs.
        skew: i32,
        /// As configured.
        window: u32,
    },
    /// The sequence number was used before.
    #[error("the advert was heard before: its sequence number is not above the last of this sender")]
    TrailerReplay,
    /// We are the address owner and are told not to hear adverts (RFC 9568 §6.4.3 as printed, keepalived's `owner_ignore_adverts`).
    #[error("we are the address owner, who does not hear adverts")]
    Owner,
    /// Sent by an address that is not a configured peer.
    #[error("{got} is not a configured peer")]
    Source {
        /// In the IP header.
        got: IpAddr,
    },
    /// Version 2: another interval than ours (RFC 3768 §7.1).
    #[error("advertisement interval of {got} s, ours is {wanted}")]
    Interval {
        /// Seconds, as in the message.
        got: u16,
        /// Ours.
        wanted: AdverInterval,
    },
    /// Version 3: interval 0, from which no timer can follow (erratum 8301).
    #[error("maximum advertisement interval 0")]
    ZeroInterval,
    /// Strict, version 2: other addresses than ours, and not from the address owner (RFC 3768 §7.1).
    #[error("the advert carries other addresses than ours")]
    AddressList,
    /// Strict, IPv6: the source or the first address is not link-local (erratum 8300).
    #[error("{got} is not link-local")]
    NotLinkLocal {
        /// The source, or the first address.
        got: IpAddr,
    },
}

impl DiscardReason {
    /// Every word that [`DiscardReason::name`] can give.
    pub const NAMES: [&'static str; 27] = [
        "length",
        "ip_version",
        "header_checksum",
        "fragment",
        "protocol",
        "destination",
        "ttl",
        "version",
        "vrid",
        "type",
        "count_zero",
        "checksum",
        "auth_type",
        "auth_type_mismatch",
        "auth_failure",
        "auth_replay",
        "auth_ext_missing",
        "auth_ext_malformed",
        "auth_ext_unknown_key",
        "auth_ext_invalid_hmac",
        "auth_ext_stale",
        "auth_ext_replay",
        "owner",
        "source",
        "interval",
        "zero_interval",
        "address_list",
    ];

    /// Short word for counters: the same for causes that an operator would look for in one place.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::IpHeaderLength { .. }
            | Self::IpLength { .. }
            | Self::HeaderLength { .. }
            | Self::Length { .. } => "length",
            Self::IpVersion { .. } => "ip_version",
            Self::HeaderChecksum => "header_checksum",
            Self::Fragment => "fragment",
            Self::Protocol { .. } => "protocol",
            Self::Destination { .. } => "destination",
            Self::Ttl { .. } => "ttl",
            Self::Version { .. } => "version",
            Self::Vrid { .. } => "vrid",
            Self::Type { .. } => "type",
            Self::CountZero => "count_zero",
            Self::Checksum { .. } => "checksum",
            Self::AuthType { .. } => "auth_type",
            Self::AuthTypeMismatch { .. } => "auth_type_mismatch",
            Self::AuthFailure | Self::HeaderIntegrity | Self::HeaderOwner { .. } => "auth_failure",
            Self::HeaderReplay { .. } => "auth_replay",
            Self::TrailerMissing => "auth_ext_missing",
            Self::TrailerMalformed { .. } => "auth_ext_malformed",
            Self::TrailerKey { .. } => "auth_ext_unknown_key",
            Self::TrailerHmac => "auth_ext_invalid_hmac",
            Self::TrailerStale { .. } => "auth_ext_stale",
            Self::TrailerReplay => "auth_ext_replay",
            Self::Owner => "owner",
            Self::Source { .. } => "source",
            Self::Interval { .. } => "interval",
            Self::ZeroInterval => "zero_interval",
            Self::AddressList | Self::NotLinkLocal { .. } => "address_list",
        }
    }
}

/// "expected X", or other words when there is no X.
struct Wanted<T>(&'static str, &'static str, Option<T>);

impl<T: fmt::Display> fmt::Display for Wanted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.2 {
            Some(wanted) => write!(f, "{} {wanted}", self.0),
            None => f.write_str(self.1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_as_a_sentence() {
        let got = "192.0.2.2".parse().unwrap();
        for (reason, text) in [
            (
                DiscardReason::Destination { got, wanted: "224.0.0.18".parse().ok() },
                "sent to 192.0.2.2, expected 224.0.0.18",
            ),
            (
                DiscardReason::Destination { got, wanted: None },
                "sent to 192.0.2.2, expected one of our own addresses",
            ),
            (DiscardReason::Version { got: 2, wanted: Some(Version::V3) }, "version 2, expected 3"),
            (DiscardReason::Version { got: 4, wanted: None }, "version 4, which does not exist here"),
            (DiscardReason::Vrid { got: 0, wanted: None }, "VRID 0, which is never valid"),
            (DiscardReason::Checksum { got: 0xd, wanted: 0xd3ed }, "checksum 0x000d, expected 0xd3ed"),
            (
                DiscardReason::Interval { got: 2, wanted: AdverInterval::SECOND },
                "advertisement interval of 2 s, ours is 1s",
            ),
        ] {
            assert_eq!(reason.to_string(), text);
        }
    }
}
