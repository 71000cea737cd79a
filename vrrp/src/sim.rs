//! A simulated LAN.

use std::sync::LazyLock;
use std::time::Instant;

/// When simulated time begins.
#[expect(
    clippy::disallowed_methods,
    reason = "an Instant can only be had from the clock; only differences matter"
)]
pub static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
