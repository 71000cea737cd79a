//! Signed adverts: the trailer of `auth_hmac` (draft-cassen-vrrp-auth-hmac-00, keepalived since 2.4.2).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +---------------+---------------+-------------------------------+
//! |    Type, 1    |    Key id     |          Reserved, 0          |
//! +---------------+---------------+-------------------------------+
//! |                 Seconds since 1970, low 32 bits               |
//! +-------------------------------+-------------------------------+
//! |   Fraction, 1/65536 s         |           Counter             |
//! +-------------------------------+-------------------------------+
//! |      The first 16 octets of an HMAC-SHA256                    |
//! |                                                               |
//! |                                                               |
//! |                                                               |
//! +---------------------------------------------------------------+
//! ```
//!
//! It stands behind the message, in both versions and families; nothing in the message announces it. Seconds, fraction and
//! counter are one number of 64 bits that grows with every advert of a sender. The digest covers a pseudo-header (family,
//! version, VRID, source), the message with its checksum as zero, and the trailer. Destination and TTL are not covered: one
//! signature serves all unicast copies.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::checksum::CHECKSUM;
use super::{DiscardReason, Transport, VERSION_TYPE, VIRTUAL_RTR_ID};

const KIND: u8 = 1;
const RESERVED: std::ops::Range<usize> = 2..4;
const SEQUENCE: std::ops::Range<usize> = 4..12;
const DIGEST: std::ops::Range<usize> = 12..28;

/// Senders that a multicast instance remembers.
const MULTICAST_MARKS: usize = 4;
/// Key lengths in octets; the block of SHA-256 is 64.
const SECRET: std::ops::RangeInclusive<usize> = 32..=64;

/// A secret that adverts are signed with.
#[derive(Clone, PartialEq, Eq)]
pub struct TrailerKey {
    /// 1–255, the same on all routers.
    pub id: u8,
    /// 32–64 octets.
    pub secret: Vec<u8>,
}

impl fmt::Debug for TrailerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TrailerKey({}, <hidden>)", self.id)
    }
}

/// What is sent, and what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrailerMode {
    /// Sign; discard what is not signed.
    #[default]
    Enforce,
    /// Sign; take what is not signed.
    Permissive,
    /// Do not sign; take what is not signed.
    ReceiveOnly,
}

/// How adverts are signed and verified. In every mode a trailer that is there must be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrailerConfig {
    /// Each id once.
    pub keys: Vec<TrailerKey>,
    /// The one that we sign with.
    pub active_key: u8,
    /// How far a sender's clock may be from ours, whole seconds.
    pub time_window: Duration,
    /// Numbers must only grow, whatever the clock says.
    pub monotonic: bool,
    /// See there.
    pub mode: TrailerMode,
}

/// Keys that nothing can be signed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrailerError {
    /// Nothing to sign with: adverts would go out unsigned.
    #[error("the active key {0} is not among the keys")]
    NoActiveKey(u8),
    /// Two secrets under one id.
    #[error("key {0} is there twice")]
    SameId(u8),
    /// Too short or too long.
    #[error("key {id} has {got} octets, 32 to 64 expected")]
    SecretLength {
        /// Of the key.
        id: u8,
        /// Octets.
        got: usize,
    },
}

/// A checked signature: what to remember when the rest of the advert is right too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    source: IpAddr,
    sequence: u64,
    room: usize,
    /// The sender's clock is off by more than half of the window.
    pub(super) skewed: bool,
}

/// Signs adverts and verifies them; remembers what was sent and heard.
#[derive(Clone, PartialEq, Eq)]
pub struct Trailer {
    config: TrailerConfig,
    last_sent: Option<u64>,
    /// Highest number of each sender, least recently heard first.
    marks: Vec<(IpAddr, u64)>,
}

impl Trailer {
    /// Octets behind the message.
    pub const LEN: usize = 28;

    /// Nothing was sent or heard yet; nothing of it is ever stored.
    ///
    /// # Errors
    ///
    /// When nothing could be signed. Never goes on unsigned, as keepalived does.
    pub fn new(config: TrailerConfig) -> Result<Self, TrailerError> {
        for (index, key) in config.keys.iter().enumerate() {
            if !SECRET.contains(&key.secret.len()) {
                return Err(TrailerError::SecretLength { id: key.id, got: key.secret.len() });
            }
            if config.keys[..index].iter().any(|other| other.id == key.id) {
                return Err(TrailerError::SameId(key.id));
            }
        }
        if !config.keys.iter().any(|key| key.id == config.active_key) {
            return Err(TrailerError::NoActiveKey(config.active_key));
        }
        Ok(Self { config, last_sent: None, marks: Vec::new() })
    }

    /// As configured.
    pub const fn config(&self) -> &TrailerConfig {
        &self.config
    }

    /// Whether our adverts are signed.
    pub fn signs(&self) -> bool {
        self.config.mode != TrailerMode::ReceiveOnly
    }

    /// Other keys or another mode; what was sent and heard is not forgotten.
    pub(super) fn remembering(self, before: &Self) -> Self {
        Self { last_sent: before.last_sent, marks: before.marks.clone(), ..self }
    }

    /// The number of the next advert, one for all of its copies, by the wall clock as time since 1970. It grows even if the
    /// clock stands still or goes back; in time mode it follows a clock that went back by more than the window.
    pub fn next_sequence(&mut self, clock: Duration) -> u64 {
        let now = sequence_at(clock);
        let sequence = match self.last_sent {
            Some(last) if !is_after(now, last) => {
                let far_ahead = i64::from(seconds_between(last, now)) > i64::from(self.window());
                if far_ahead && !self.config.monotonic { now } else { last.wrapping_add(1) }
            }
            _ => now,
        };
        self.last_sent = Some(sequence);
        sequence
    }

    /// Appends the trailer to the message from its first octet on; over IPv6 the checksum is computed after that.
    pub fn sign(&self, sequence: u64, source: IpAddr, message: &mut Vec<u8>) {
        let Some(key) = self.config.keys.iter().find(|key| key.id == self.config.active_key) else { return };
        let mut trailer = [0; Self::LEN];
        trailer[0] = KIND;
        trailer[1] = key.id;
        trailer[SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
        let digest = digest(key, source, message, &trailer).finalize().into_bytes();
        trailer[DIGEST].copy_from_slice(&digest[..DIGEST.len()]);
        message.extend_from_slice(&trailer);
    }

    /// Whether `trailer` belongs to `message`; `None`: there was none, and none is needed.
    ///
    /// # Errors
    ///
    /// With the first check that failed, in the draft's order.
    pub(super) fn check(
        &self,
        transport: &Transport,
        source: IpAddr,
        message: &[u8],
        trailer: Option<&[u8; Self::LEN]>,
        clock: Duration,
    ) -> Result<Option<Mark>, DiscardReason> {
        let Some(trailer) = trailer else {
            return match self.config.mode {
                TrailerMode::Enforce => Err(DiscardReason::TrailerMissing),
                TrailerMode::Permissive | TrailerMode::ReceiveOnly => Ok(None),
            };
        };
        let room = match transport {
            Transport::Unicast { peers, .. } if !peers.iter().any(|peer| peer.address == source) => {
                return Err(DiscardReason::Source { got: source });
            }
            Transport::Unicast { peers, .. } => peers.len(),
            Transport::Multicast { .. } => MULTICAST_MARKS,
        };
        let (kind, reserved) =
            (trailer[0], u16::from_be_bytes([trailer[RESERVED.start], trailer[RESERVED.start + 1]]));
        if kind != KIND || reserved != 0 {
            return Err(DiscardReason::TrailerMalformed { kind, reserved });
        }
        let mut sequence = [0; 8];
        sequence.copy_from_slice(&trailer[SEQUENCE]);
        let sequence = u64::from_be_bytes(sequence);
        let now = sequence_at(clock);
        let skew = seconds_between(now, sequence);
        if !self.config.monotonic && skew.unsigned_abs() > self.window() {
            return Err(DiscardReason::TrailerStale { skew, window: self.window() });
        }
        let Some(key) = self.config.keys.iter().find(|key| key.id == trailer[1]) else {
            return Err(DiscardReason::TrailerKey { got: trailer[1] });
        };
        digest(key, source, message, trailer)
            .verify_truncated_left(&trailer[DIGEST])
            .map_err(|_| DiscardReason::TrailerHmac)?;
        let used = self.marks.iter().find(|(address, _)| *address == source).map(|(_, mark)| *mark);
        let used = used.filter(|mark| {
            self.config.monotonic || seconds_between(now, *mark).unsigned_abs() <= self.window()
        });
        if used.is_some_and(|mark| !is_after(sequence, mark)) {
            return Err(DiscardReason::TrailerReplay);
        }
        let skewed = !self.config.monotonic && skew.unsigned_abs() * 2 > self.window();
        Ok(Some(Mark { source, sequence, room, skewed }))
    }

    /// This number was used now.
    pub(super) fn take(&mut self, mark: Mark) {
        self.marks.retain(|(address, _)| *address != mark.source);
        if self.marks.len() >= mark.room {
            self.marks.drain(..=self.marks.len() - mark.room);
        }
        self.marks.push((mark.source, mark.sequence));
    }

    fn window(&self) -> u32 {
        u32::try_from(self.config.time_window.as_secs()).unwrap_or(u32::MAX)
    }
}

impl fmt::Debug for Trailer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trailer").field("config", &self.config).finish_non_exhaustive()
    }
}

fn digest(key: &TrailerKey, source: IpAddr, message: &[u8], trailer: &[u8; Trailer::LEN]) -> Hmac<Sha256> {
    let mut pseudo_header = [0; 20];
    match source {
        IpAddr::V4(source) => {
            pseudo_header[0] = 4;
            pseudo_header[4..8].copy_from_slice(&source.octets());
        }
        IpAddr::V6(source) => {
            pseudo_header[0] = 6;
            pseudo_header[4..].copy_from_slice(&source.octets());
        }
    }
    pseudo_header[1] = message[VERSION_TYPE] >> 4;
    pseudo_header[2] = message[VIRTUAL_RTR_ID];
    let mut digest = Hmac::<Sha256>::new_from_slice(&key.secret).expect("HMAC takes keys of any length");
    digest.update(&pseudo_header);
    digest.update(&message[..CHECKSUM.start]);
    digest.update(&[0; 2]);
    digest.update(&message[CHECKSUM.end..]);
    digest.update(&trailer[..DIGEST.start]);
    digest.update(&[0; DIGEST.end - DIGEST.start]);
    digest
}

/// Seconds and fraction of the clock, counter 0.
fn sequence_at(clock: Duration) -> u64 {
    let fraction = (u64::from(clock.subsec_nanos()) << 16) / 1_000_000_000;
    (clock.as_secs() & 0xffff_ffff) << 32 | fraction << 16
}

/// Serial number arithmetic: right also where the seconds begin anew, in 2106.
fn is_after(a: u64, b: u64) -> bool {
    a.wrapping_sub(b).cast_signed() > 0
}

/// Whole seconds from `b` to `a`.
fn seconds_between(a: u64, b: u64) -> i32 {
    ((a >> 32) as u32).wrapping_sub((b >> 32) as u32).cast_signed()
}
