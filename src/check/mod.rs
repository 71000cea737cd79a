//! Is it healthy? Runs every check at its interval and publishes what it found.
//!
//! One kind of check serves the election and the forwarder: both subscribe to the same verdict.

use std::time::SystemTime;

use crate::observe::event::Health;

/// What a check says now. Published through a `tokio::sync::watch` channel whenever health, value or
/// detail change.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Up, down, or no result yet.
    pub health: Health,
    /// Number read from a file, for value checks.
    pub value: Option<i64>,
    /// What the last run said, fit for the middle of a sentence: `connect refused`, `exited with status 1`.
    pub detail: String,
    /// Failures in a row and how many of them bring it down: `failed 3 of 3`.
    pub streak: (u32, u32),
    /// When the health last changed.
    pub since: SystemTime,
}
