//! The control packet (RFC 5880 §4.1), without authentication.
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
//! |Vers |  Diag   |Sta|P|F|C|A|D|M|  Detect Mult  |    Length     |
//! +-----+---------+---+-+-+-+-+-+-+---------------+---------------+
//! |                       My Discriminator                        |
//! |                      Your Discriminator                       |
//! |                    Desired Min TX Interval                    |
//! |                   Required Min RX Interval                    |
//! |                 Required Min Echo RX Interval                 |
//! +---------------------------------------------------------------+
//! ```

use std::fmt;
use std::time::Duration;

use super::State;

/// Single hop (RFC 5881 §4).
pub const PORT: u16 = 3784;
/// Multihop (RFC 5883 §5).
pub const MULTIHOP_PORT: u16 = 4784;
/// Source ports of single-hop sessions, and ours of all (RFC 5881 §4).
pub const SOURCE_PORTS: std::ops::RangeInclusive<u16> = 49152..=65535;

const VERSION: u8 = 1;
const POLL: u8 = 0x20;
const FINAL: u8 = 0x10;
const AUTHENTICATION: u8 = 0x04;
const DEMAND: u8 = 0x02;
const MULTIPOINT: u8 = 0x01;

/// A control packet that passed the checks which need no session (RFC 5880 §6.8.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlPacket {
    /// Why the sender's session last went down; 9–31 are reserved.
    pub diagnostic: Diagnostic,
    /// Of the sender.
    pub state: State,
    /// An answer with `finish` is asked for.
    pub poll: bool,
    /// The answer.
    pub finish: bool,
    /// The sender wants no periodic packets.
    pub demand: bool,
    /// Packets that may be lost in a row, 1–255.
    pub multiplier: u8,
    /// Of the sender's session, not 0.
    pub my_discriminator: u32,
    /// Of the receiver's session; 0: not known yet.
    pub your_discriminator: u32,
    /// Between the sender's packets.
    pub desired_min_tx: Duration,
    /// Between packets that the sender can take; zero: it wants no periodic ones.
    pub required_min_rx: Duration,
}

/// Diagnostic code (RFC 5880 §4.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Diagnostic(pub u8);

impl Diagnostic {
    /// 0.
    pub const NONE: Self = Self(0);
    /// 1.
    pub const DETECTION_TIME_EXPIRED: Self = Self(1);
    /// 3.
    pub const NEIGHBOR_SIGNALED_DOWN: Self = Self(3);
    /// 7.
    pub const ADMINISTRATIVELY_DOWN: Self = Self(7);
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            0 => "no diagnostic",
            1 => "detection time expired",
            2 => "echo function failed",
            3 => "neighbour signalled session down",
            4 => "forwarding plane reset",
            5 => "path down",
            6 => "concatenated path down",
            7 => "administratively down",
            8 => "reverse concatenated path down",
            _ => "reserved diagnostic",
        })
    }
}

/// Why a control packet was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum BfdDiscard {
    /// Shorter than 24 octets, or than it says.
    #[error("{got} octets, {said} by its own length field, at least 24 expected")]
    Length {
        /// Octets of the UDP payload.
        got: usize,
        /// In the packet.
        said: u8,
    },
    /// Not version 1.
    #[error("version {0} instead of 1")]
    Version(u8),
    /// No detection time could follow from it.
    #[error("detection multiplier 0")]
    Multiplier,
    /// Reserved for point-to-multipoint.
    #[error("the multipoint bit is set")]
    Multipoint,
    /// No authentication is in use.
    #[error("the packet is authenticated, the session is not")]
    Authentication,
    /// Poll and Final together (RFC 5880 §6.5).
    #[error("poll and final bit together")]
    PollAndFinal,
    /// The sender does not say who it is.
    #[error("my discriminator is 0")]
    MyDiscriminator,
    /// Neither a session, nor a state in which none need be known.
    #[error("your discriminator is 0 in state {0}")]
    YourDiscriminator(State),
    /// No session of ours.
    #[error("there is no such session")]
    Session,
    /// It has passed more routers than it may.
    #[error("TTL or hop limit {got}, at least {lowest} expected")]
    Ttl {
        /// In the IP header.
        got: u8,
        /// 255 for a single hop.
        lowest: u8,
    },
    /// The session is stopped.
    #[error("the session is administratively down")]
    Stopped,
}

impl BfdDiscard {
    /// Short word for counters.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Length { .. } => "length",
            Self::Version(_) => "version",
            Self::Multiplier => "multiplier",
            Self::Multipoint => "multipoint",
            Self::Authentication => "authentication",
            Self::PollAndFinal => "poll_and_final",
            Self::MyDiscriminator | Self::YourDiscriminator(_) => "discriminator",
            Self::Session => "session",
            Self::Ttl { .. } => "ttl",
            Self::Stopped => "stopped",
        }
    }
}

impl ControlPacket {
    /// Octets without authentication.
    pub const LEN: usize = 24;

    /// Reads a UDP payload.
    ///
    /// # Errors
    ///
    /// With the first check of RFC 5880 §6.8.6 that failed.
    pub fn parse(payload: &[u8]) -> Result<Self, BfdDiscard> {
        let Some((packet, _)) = payload.split_first_chunk::<{ Self::LEN }>() else {
            return Err(BfdDiscard::Length {
                got: payload.len(),
                said: payload.get(3).copied().unwrap_or(0),
            });
        };
        if packet[0] >> 5 != VERSION {
            return Err(BfdDiscard::Version(packet[0] >> 5));
        }
        let (flags, said) = (packet[1], packet[3]);
        if usize::from(said) < Self::LEN || usize::from(said) > payload.len() {
            return Err(BfdDiscard::Length { got: payload.len(), said });
        }
        if packet[2] == 0 {
            return Err(BfdDiscard::Multiplier);
        }
        if flags & MULTIPOINT != 0 {
            return Err(BfdDiscard::Multipoint);
        }
        if flags & AUTHENTICATION != 0 {
            return Err(BfdDiscard::Authentication);
        }
        if flags & POLL != 0 && flags & FINAL != 0 {
            return Err(BfdDiscard::PollAndFinal);
        }
        let word =
            |at: usize| u32::from_be_bytes([packet[at], packet[at + 1], packet[at + 2], packet[at + 3]]);
        let state = State::from_wire(flags >> 6);
        if word(4) == 0 {
            return Err(BfdDiscard::MyDiscriminator);
        }
        if word(8) == 0 && !matches!(state, State::Down | State::AdminDown) {
            return Err(BfdDiscard::YourDiscriminator(state));
        }
        Ok(Self {
            diagnostic: Diagnostic(packet[0] & 0x1f),
            state,
            poll: flags & POLL != 0,
            finish: flags & FINAL != 0,
            demand: flags & DEMAND != 0,
            multiplier: packet[2],
            my_discriminator: word(4),
            your_discriminator: word(8),
            desired_min_tx: Duration::from_micros(word(12).into()),
            required_min_rx: Duration::from_micros(word(16).into()),
        })
    }

    /// As it goes into a UDP packet. We take no echo packets: the last word is 0.
    pub fn octets(&self) -> [u8; Self::LEN] {
        let micros = |time: Duration| u32::try_from(time.as_micros()).unwrap_or(u32::MAX);
        let flag = |set: bool, bit: u8| if set { bit } else { 0 };
        let mut packet = [0; Self::LEN];
        packet[0] = VERSION << 5 | self.diagnostic.0 & 0x1f;
        packet[1] = (self.state as u8) << 6
            | flag(self.poll, POLL)
            | flag(self.finish, FINAL)
            | flag(self.demand, DEMAND);
        packet[2] = self.multiplier;
        packet[3] = Self::LEN as u8;
        let words = [
            self.my_discriminator,
            self.your_discriminator,
            micros(self.desired_min_tx),
            micros(self.required_min_rx),
        ];
        for (field, word) in packet[4..20].chunks_exact_mut(4).zip(words) {
            field.copy_from_slice(&word.to_be_bytes());
        }
        packet
    }
}
