//! The three states of RFC 9568 §6.4, each with its own timers, so that a stale timer cannot exist.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::AdverInterval;

/// State of a virtual router.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Not taking part.
    Initialize,
    /// Listening.
    Backup {
        /// Interval of the active router; ours until one was heard, and always in version 2.
        active_adver_interval: AdverInterval,
        /// When to take over.
        active_down_timer: Instant,
        /// With a preempt delay: until when worse routers are let be. `None` until the first of them was heard.
        preempt_from: Option<Instant>,
        /// Who gave up, if nobody was accepted since.
        released_by: Option<IpAddr>,
    },
    /// Holding the addresses.
    Active {
        /// When the next advert is due.
        adver_timer: Instant,
        /// Immediate adverts given so far.
        answers: Answers,
    },
}

impl State {
    /// Without the timers.
    pub const fn name(&self) -> StateName {
        match self {
            Self::Initialize => StateName::Initialize,
            Self::Backup { .. } => StateName::Backup,
            Self::Active { .. } => StateName::Active,
        }
    }
}

/// Name of a state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum StateName {
    /// Not taking part.
    Initialize,
    /// Listening.
    Backup,
    /// Holding the addresses.
    Active,
}

impl fmt::Display for StateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Initialize => "Initialize",
            Self::Backup => "Backup",
            Self::Active => "Active",
        })
    }
}

/// How many immediate adverts were sent in the current advertisement interval (H-5): a flood of adverts must not
/// be answered by a flood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Answers {
    since: Option<Instant>,
    given: u8,
}

impl Answers {
    /// Immediate adverts in one advertisement interval.
    pub const MOST: u8 = 10;

    /// As if given `by` earlier; forgotten when the interval is over at `now`.
    #[cfg(any(test, feature = "sim"))]
    pub(super) fn earlier(self, now: Instant, by: Duration, adver_interval: Duration) -> Self {
        match self.since.map(|since| since - by) {
            Some(since) if now.saturating_duration_since(since) < adver_interval => {
                Self { since: Some(since), ..self }
            }
            _ => Self::default(),
        }
    }

    /// Whether one more may be sent now; if so, it is counted.
    pub(super) fn permit(&mut self, now: Instant, adver_interval: Duration) -> bool {
        let window_is_over =
            self.since.is_none_or(|since| now.saturating_duration_since(since) >= adver_interval);
        if window_is_over {
            *self = Self { since: Some(now), given: 0 };
        }
        let permitted = self.given < Self::MOST;
        self.given += u8::from(permitted);
        permitted
    }
}
