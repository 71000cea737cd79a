//! The receive ladder (RFC 9568 §7.1): is this advert for us, is it whole, is it to be believed?
//!
//! Pure, and in a fixed order, so that a packet with several faults is always counted under the same one.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use super::protection::{Proof, Protection};
use super::{ADDRESSES, VERSION_TYPE, VIRTUAL_RTR_ID, checksum};
use super::{Advertisement, Authentication, ChecksumCoverage, ChecksumForm, Datagram, DiscardReason};
use crate::{AdverInterval, Family, Priority, Version, VirtualAddresses, Vrid};

/// How adverts reach this router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Through a group; TTL or hop limit 255 is required.
    Multicast {
        /// 224.0.0.18, ff02::12, or another that all routers agree on.
        group: IpAddr,
    },
    /// From each peer to an address of ours.
    Unicast {
        /// Where adverts must be sent to. `None`: to any address of ours; never to a group.
        own: Option<IpAddr>,
        /// The other routers.
        peers: Vec<UnicastPeer>,
        /// Discard adverts from addresses that are no peer.
        check_source: bool,
    },
}

/// Another router that sends to us directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnicastPeer {
    /// Source of its adverts.
    pub address: IpAddr,
    /// Lowest TTL or hop limit accepted. `None`: 0.
    pub min_ttl: Option<u8>,
    /// Highest TTL or hop limit accepted. `None`: 255.
    pub max_ttl: Option<u8>,
}

/// What one virtual router expects of the adverts that it hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ladder {
    /// Ours.
    pub version: Version,
    /// Ours.
    pub vrid: Vrid,
    /// Ours. Version 2: another one is discarded. Version 3: another one is an oddity.
    pub adver_interval: AdverInterval,
    /// Ours; version 2 only.
    pub authentication: Authentication,
    /// Those that we advertise.
    pub addresses: VirtualAddresses,
    /// How adverts reach us.
    pub transport: Transport,
    /// The address list of this sender is not looked at: an earlier advert of it was (keepalived's
    /// `skip_check_adv_addr`).
    pub addresses_known_from: Option<IpAddr>,
    /// Accept version 3 unicast adverts over IPv4 whose checksum has 224.0.0.18 in its pseudo-header, as keepalived up
    /// to 1.3.6 sends them.
    pub accept_old_unicast_checksum: bool,
    /// We are the address owner: nobody should advertise to us.
    pub owner: bool,
    /// As the owner, discard all adverts (RFC 9568 as printed, keepalived's `owner_ignore_adverts`) instead of
    /// processing them (erratum 8298).
    pub owner_ignores_adverts: bool,
    /// Also discard what the RFCs permit to discard: other addresses (version 2), IPv6 without link-local addresses.
    pub strict: bool,
    /// Accept adverts that carry no address (keepalived: `no_virtual_ipaddress`).
    pub accept_no_addresses: bool,
    /// The kernel has dropped messages with a wrong checksum (IPV6_CHECKSUM on a raw IPv6 socket).
    pub kernel_verified_checksum: bool,
}

/// An advert that passed every check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Who sent it.
    pub source: IpAddr,
    /// Its priority; 0 when it gives up.
    pub priority: Priority,
    /// Its time between adverts; ours in version 2.
    pub max_advertise_interval: AdverInterval,
    /// Which of the accepted coverages its checksum had.
    pub checksum_form: ChecksumForm,
    /// What is strange about it, though not wrong.
    pub oddities: Oddities,
}

/// Something strange about an accepted advert, to be counted and logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Oddity {
    /// Version 3: another interval than ours. It is learned (RFC 9568 §7.1).
    Interval,
    /// Other addresses than ours.
    AddressList,
    /// IPv6: not sent from a link-local address.
    SourceNotLinkLocal,
    /// IPv6: the first address is not link-local.
    FirstAddressNotLinkLocal,
    /// We are the address owner and somebody advertises (erratum 8298).
    OwnerConflict,
    /// `auth_hmac`: the sender's clock and ours differ by more than half of the window.
    ClockSkew,
}

impl Oddity {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::Interval,
        Self::AddressList,
        Self::SourceNotLinkLocal,
        Self::FirstAddressNotLinkLocal,
        Self::OwnerConflict,
        Self::ClockSkew,
    ];

    /// Short word for counters.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Interval => "interval",
            Self::AddressList => "address_list",
            Self::SourceNotLinkLocal => "source_not_link_local",
            Self::FirstAddressNotLinkLocal => "first_address_not_link_local",
            Self::OwnerConflict => "owner_conflict",
            Self::ClockSkew => "clock_skew",
        }
    }
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Interval => "its advertisement interval differs from ours",
            Self::AddressList => "it advertises other addresses than ours",
            Self::SourceNotLinkLocal => "its source is not a link-local address",
            Self::FirstAddressNotLinkLocal => "its first address is not link-local",
            Self::OwnerConflict => "it advertises though we are the address owner",
            Self::ClockSkew => "its clock and ours differ by more than half of auth_hmac's time window",
        })
    }
}

/// A set of [`Oddity`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Oddities(u8);

impl Oddities {
    /// Nothing strange.
    pub const NONE: Self = Self(0);

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this one is among them.
    pub const fn contains(self, oddity: Oddity) -> bool {
        self.0 & (1 << oddity as u8) != 0
    }

    /// With this one among them.
    #[must_use]
    pub const fn with(self, oddity: Oddity) -> Self {
        Self(self.0 | 1 << oddity as u8)
    }

    /// Those that are there.
    pub fn iter(self) -> impl Iterator<Item = Oddity> {
        Oddity::ALL.into_iter().filter(move |oddity| self.contains(*oddity))
    }
}

impl fmt::Debug for Oddities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

impl Ladder {
    /// Judges one datagram that came in on the instance's interface.
    ///
    /// # Errors
    ///
    /// With the first check that failed. Then nothing may change: no timer, no state, nothing learned (H-1).
    pub fn judge(&self, datagram: &Datagram<'_>) -> Result<Accepted, DiscardReason> {
        self.judge_protected(datagram, &mut Protection::None, Duration::ZERO)
    }

    /// The same where adverts are protected; `clock` is the wall clock as time since 1970. An accepted advert's number is
    /// remembered.
    ///
    /// # Errors
    ///
    /// As [`Ladder::judge`].
    pub fn judge_protected(
        &self,
        datagram: &Datagram<'_>,
        protection: &mut Protection,
        clock: Duration,
    ) -> Result<Accepted, DiscardReason> {
        self.check_destination(datagram)?;
        self.check_ttl(datagram)?;
        self.check_header(datagram.message)?;
        let parts = protection.split(self, datagram);
        let advertisement = Advertisement::parse(parts.0, Family::of(datagram.destination))?;
        if advertisement.addresses.is_empty() && !self.accept_no_addresses {
            return Err(DiscardReason::CountZero);
        }
        let proof = protection.check(self, datagram, parts, clock)?;
        let checksum_form = self.check_checksum(datagram, parts.0)?;
        self.check_authentication(&advertisement.authentication)?;
        self.check_source(datagram)?;
        let max_advertise_interval = self.check_interval(&advertisement)?;
        if self.owner && self.owner_ignores_adverts {
            return Err(DiscardReason::Owner);
        }
        let accepted = Accepted {
            source: datagram.source,
            priority: advertisement.priority,
            max_advertise_interval,
            checksum_form,
            oddities: self.oddities(datagram, &advertisement, max_advertise_interval, proof)?,
        };
        protection.take(proof);
        Ok(accepted)
    }

    fn check_destination(&self, datagram: &Datagram<'_>) -> Result<(), DiscardReason> {
        let got = datagram.destination;
        let (ours, wanted) = match &self.transport {
            Transport::Multicast { group } => (got == *group, Some(*group)),
            Transport::Unicast { own: Some(own), .. } => (got == *own, Some(*own)),
            Transport::Unicast { own: None, .. } => (!got.is_multicast(), None),
        };
        if ours { Ok(()) } else { Err(DiscardReason::Destination { got, wanted }) }
    }

    fn check_ttl(&self, datagram: &Datagram<'_>) -> Result<(), DiscardReason> {
        let (lowest, highest) = match &self.transport {
            Transport::Multicast { .. } => (u8::MAX, u8::MAX),
            Transport::Unicast { peers, .. } => peers
                .iter()
                .find(|peer| peer.address == datagram.source)
                .map_or((0, u8::MAX), |peer| (peer.min_ttl.unwrap_or(0), peer.max_ttl.unwrap_or(u8::MAX))),
        };
        if (lowest..=highest).contains(&datagram.ttl) {
            Ok(())
        } else {
            Err(DiscardReason::Ttl { got: datagram.ttl, lowest, highest })
        }
    }

    /// That the message is of our version and for our virtual router, which [`Advertisement::parse`] cannot know.
    fn check_header(&self, message: &[u8]) -> Result<(), DiscardReason> {
        if message.len() < ADDRESSES {
            return Err(DiscardReason::HeaderLength { got: message.len() });
        }
        let version = message[VERSION_TYPE] >> 4;
        if version != self.version.number() {
            return Err(DiscardReason::Version { got: version, wanted: Some(self.version) });
        }
        let vrid = message[VIRTUAL_RTR_ID];
        if vrid != self.vrid.get() {
            return Err(DiscardReason::Vrid { got: vrid, wanted: Some(self.vrid) });
        }
        Ok(())
    }

    /// Over IPv4 the checksum leaves a trailer out, over IPv6 it covers it.
    fn check_checksum(&self, datagram: &Datagram<'_>, message: &[u8]) -> Result<ChecksumForm, DiscardReason> {
        if self.kernel_verified_checksum {
            return Ok(ChecksumForm::VerifiedByKernel);
        }
        let &Datagram { source, destination, .. } = datagram;
        let message = if destination.is_ipv6() { datagram.message } else { message };
        let old = matches!(self.transport, Transport::Unicast { .. }) && self.accept_old_unicast_checksum;
        ChecksumForm::of(message, self.version, source, destination, old).ok_or_else(|| {
            let coverage = ChecksumCoverage::for_sending(self.version, source, destination, false);
            DiscardReason::Checksum {
                got: u16::from_be_bytes([
                    message[checksum::CHECKSUM.start],
                    message[checksum::CHECKSUM.start + 1],
                ]),
                wanted: coverage.checksum(message),
            }
        })
    }

    fn check_authentication(&self, theirs: &Authentication) -> Result<(), DiscardReason> {
        match (theirs, &self.authentication) {
            (Authentication::Other { auth_type, .. }, _) => Err(DiscardReason::AuthType { got: *auth_type }),
            // Version 3 has none, whatever is configured.
            _ if self.version == Version::V3 => Ok(()),
            (Authentication::None, Authentication::None)
            | (Authentication::Header, Authentication::Header) => Ok(()),
            (Authentication::Pass(_), ours @ Authentication::Pass(_)) => {
                if theirs.same_data(ours) {
                    Ok(())
                } else {
                    Err(DiscardReason::AuthFailure)
                }
            }
            (theirs, ours) => {
                Err(DiscardReason::AuthTypeMismatch { got: theirs.auth_type(), wanted: ours.auth_type() })
            }
        }
    }

    fn check_source(&self, datagram: &Datagram<'_>) -> Result<(), DiscardReason> {
        match &self.transport {
            Transport::Unicast { peers, check_source: true, .. }
                if !peers.iter().any(|peer| peer.address == datagram.source) =>
            {
                Err(DiscardReason::Source { got: datagram.source })
            }
            _ => Ok(()),
        }
    }

    fn check_interval(&self, advertisement: &Advertisement) -> Result<AdverInterval, DiscardReason> {
        let theirs = advertisement.interval();
        match self.version {
            Version::V2 if theirs == Some(self.adver_interval) => Ok(self.adver_interval),
            Version::V2 => Err(DiscardReason::Interval {
                got: advertisement.adver_interval,
                wanted: self.adver_interval,
            }),
            Version::V3 => theirs.ok_or(DiscardReason::ZeroInterval),
        }
    }

    fn oddities(
        &self,
        datagram: &Datagram<'_>,
        advertisement: &Advertisement,
        interval: AdverInterval,
        proof: Proof,
    ) -> Result<Oddities, DiscardReason> {
        let mut oddities = Oddities::NONE;
        if proof.is_skewed() {
            oddities = oddities.with(Oddity::ClockSkew);
        }
        if interval != self.adver_interval {
            oddities = oddities.with(Oddity::Interval);
        }
        if self.owner {
            oddities = oddities.with(Oddity::OwnerConflict);
        }
        let known = self.addresses_known_from == Some(datagram.source);
        if !known && !advertisement.addresses.same_set(&self.addresses) {
            if self.strict && self.version == Version::V2 && !advertisement.priority.is_owner() {
                return Err(DiscardReason::AddressList);
            }
            oddities = oddities.with(Oddity::AddressList);
        }
        if let Some(IpAddr::V6(first)) = advertisement.addresses.iter().next() {
            let source_is_link_local =
                matches!(datagram.source, IpAddr::V6(source) if source.is_unicast_link_local());
            // Between unicast peers a global source is as meant.
            if !source_is_link_local && matches!(self.transport, Transport::Multicast { .. }) {
                oddities = self.odd_or_discarded(oddities, Oddity::SourceNotLinkLocal, datagram.source)?;
            }
            if !first.is_unicast_link_local() {
                oddities =
                    self.odd_or_discarded(oddities, Oddity::FirstAddressNotLinkLocal, IpAddr::V6(first))?;
            }
        }
        Ok(oddities)
    }

    fn odd_or_discarded(
        &self,
        oddities: Oddities,
        oddity: Oddity,
        got: IpAddr,
    ) -> Result<Oddities, DiscardReason> {
        if self.strict { Err(DiscardReason::NotLinkLocal { got }) } else { Ok(oddities.with(oddity)) }
    }
}
