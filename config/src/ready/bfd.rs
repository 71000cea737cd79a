//! Bidirectional forwarding detection (RFC 5880).

use std::net::IpAddr;
use std::time::Duration;

use serde::Serialize;

use super::{Effect, Place, is_default};

/// A session with one neighbour (`bfd_instance`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bfd {
    /// Unique, at most 31 characters.
    pub name: String,
    /// The other end.
    pub neighbor: IpAddr,
    /// Our end; `None`: the kernel chooses.
    pub source: Option<IpAddr>,
    /// Required_Min_RX. Default 10 ms; at least 1 ms, at most 4294.967 s.
    pub min_rx: Duration,
    /// Desired_Min_TX while Up. Default 10 ms; at least 1 ms, at most 4294.967 s.
    pub min_tx: Duration,
    /// Desired_Min_TX while not Up (RFC 5880 §6.8.3: at least 1 s). Default 1 s.
    pub idle_tx: Duration,
    /// Detect_Mult, 1–255. Default 5.
    pub multiplier: u8,
    /// Send nothing before something is heard.
    pub passive: bool,
    /// TTL or hop limit that we send. Default 255; multihop 64.
    pub ttl: u8,
    /// Hops that a packet may have passed; `None`: not looked at (-1).
    pub max_hops: Option<u8>,
    /// UDP 4784 in place of 3784 (RFC 5883).
    pub multihop: bool,
    /// What it does to an instance that tracks it without a weight of its own.
    pub effect: Effect,
    /// Instances may track it (`vrrp`; both when neither word is written).
    pub for_vrrp: bool,
    /// Checkers may use it (`checker`).
    pub for_checkers: bool,
    /// Where it begins.
    pub place: Place,
}

/// A BFD session that an instance tracks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TrackBfd {
    /// Name of a [`Bfd`] that exists.
    pub bfd: String,
    /// What it does.
    pub effect: Effect,
}

/// Trailer that signs adverts (`auth_hmac`, draft-cassen-vrrp-auth-hmac).
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct Hmac {
    /// Each once.
    pub keys: Vec<HmacKey>,
    /// Id of the key that we sign with, 0 for none; unless it is among `keys` the instance stays in FAULT.
    pub active_key: u8,
    /// How old a sequence number may be: 1–300 s. Default 3 whole advert intervals, 5–300 s.
    pub time_window: Duration,
    /// Sequence numbers must only grow (`anti_replay monotonic`), whatever the clock says.
    pub monotonic: bool,
    /// What becomes of adverts without a trailer.
    pub mode: HmacMode,
}

impl std::fmt::Debug for Hmac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hmac")
            .field("keys", &self.keys)
            .field("active_key", &self.active_key)
            .field("time_window", &self.time_window)
            .field("monotonic", &self.monotonic)
            .field("mode", &self.mode)
            .finish()
    }
}

/// A key; the secret is never printed.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct HmacKey {
    /// 1–255.
    pub id: u8,
    /// 32–64 octets.
    #[serde(skip)]
    pub secret: Vec<u8>,
    /// The file it was read from, so that it is written as that again.
    #[serde(skip_serializing_if = "is_default")]
    pub file: Option<std::path::PathBuf>,
}

impl std::fmt::Debug for HmacKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "HmacKey({}, <hidden>)", self.id)
    }
}

/// What is sent and what is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub enum HmacMode {
    /// Sign; drop what is not signed.
    #[default]
    Enforce,
    /// Sign; take what is not signed.
    Permissive,
    /// Do not sign; take what is not signed.
    ReceiveOnly,
}
