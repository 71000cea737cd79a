//! How long the addresses of an instance answer after its last advert. Pure.
//!
//! No peer takes over before it has heard nothing for its Active_Down_Interval: so many adverts, and a Skew_Time that
//! may be next to nothing. Until then, counted from our last advert, the addresses may answer, and no longer.

use std::time::{Duration, Instant};

use config::ready::{self, Lease};

use crate::hold::lease::Term;

/// The kernel counts in ticks of up to 10 ms, and an advert takes its time.
const LEAST_MARGIN: Duration = Duration::from_millis(20);
const MOST_MARGIN: Duration = Duration::from_millis(500);
/// Of the whole.
const MARGIN_PART: u32 = 15;
/// With adverts faster than every 73 ms: a host that is busy for a moment stays heard, at the price of the promise.
const LEAST_TERM: Duration = Duration::from_millis(200);
/// An address is gone at most this long after the second that it was given ends. Measured: 0.02 to 0.31 s.
const REMOVAL: Duration = Duration::from_millis(400);
/// Lifetime of an address in seconds, at least, while it falls silent by other means before: nobody who holds the
/// kernel's RTNL lock for a while makes it vanish.
const LEAST_LIFETIME: u32 = 10;
/// Where the lifetime is all there is.
const LEAST_LIFETIME_ALONE: u32 = 2;
/// An address is renewed this often in its lifetime.
const RENEWALS: u32 = 4;

/// What the lease of an instance comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// After an advert the addresses answer so long.
    pub term: Term,
    /// From then on a peer may have taken over.
    pub limit: Duration,
}

impl Terms {
    /// `None`: the addresses answer for ever.
    pub fn of(config: &ready::Instance) -> Option<Self> {
        Self::with(config.lease, config.advert_interval, config.down_timer_adverts.into())
    }

    fn with(lease: Lease, interval: Duration, down_timer_adverts: u32) -> Option<Self> {
        let limit = match lease {
            Lease::Off => return None,
            Lease::Auto => interval * down_timer_adverts,
            Lease::For(time) => return Some(Self { term: Term::of(time), limit: time }),
        };
        let margin = (limit / MARGIN_PART).clamp(LEAST_MARGIN, MOST_MARGIN);
        // The next advert has to come in time, even where a peer does not wait for a second one.
        let term = limit.saturating_sub(margin).max(LEAST_TERM).max(interval * 3 / 2);
        Some(Self { term: Term::of(term), limit })
    }

    /// Whether the addresses are silent before a peer may have taken over.
    pub fn covers(&self) -> bool {
        self.term.length() <= self.limit
    }

    /// Lifetime of an address that is renewed now, in seconds. `alone`: nothing else silences it.
    pub fn lifetime(&self, advertised: Instant, now: Instant, alone: bool) -> u32 {
        let left = (advertised + self.limit).saturating_duration_since(now).saturating_sub(REMOVAL);
        let least = if alone { LEAST_LIFETIME_ALONE } else { LEAST_LIFETIME };
        u32::try_from(left.as_secs()).unwrap_or(u32::MAX - 1).max(least)
    }
}

/// Until an address is renewed that was given this lifetime.
pub fn renewed_after(lifetime: u32) -> Duration {
    Duration::from_secs(lifetime.into()) / RENEWALS
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn terms(interval_ms: u32, adverts: u32, lease: Lease) -> Option<(u128, bool)> {
        let terms = Terms::with(lease, interval_ms * MS, adverts)?;
        Some((terms.term.length().as_millis(), terms.covers()))
    }

    #[test]
    fn the_term_ends_a_little_before_a_peer_may_take_over() {
        assert_eq!(terms(1000, 3, Lease::Auto), Some((2800, true)));
        assert_eq!(terms(100, 3, Lease::Auto), Some((280, true)));
        assert_eq!(terms(100, 5, Lease::Auto), Some((466, true)));
        assert_eq!(terms(40_000, 3, Lease::Auto), Some((119_500, true)));
    }

    #[test]
    fn fast_adverts_get_a_term_that_a_busy_host_survives() {
        assert_eq!(terms(50, 3, Lease::Auto), Some((200, false)));
        assert_eq!(terms(10, 3, Lease::Auto), Some((200, false)));
    }

    #[test]
    fn who_takes_over_after_one_advert_does_so_before_the_term_ends() {
        assert_eq!(terms(1000, 1, Lease::Auto), Some((1500, false)));
    }

    #[test]
    fn an_operator_may_say_how_long_or_never() {
        assert_eq!(terms(100, 3, Lease::For(250 * MS)), Some((250, true)));
        assert_eq!(terms(100, 3, Lease::Off), None);
    }

    #[test]
    fn where_nothing_else_silences_it_an_address_is_gone_before_a_peer_takes_over() {
        let advertised = Instant::now();
        let one = Terms { term: Term::of(Duration::from_millis(2800)), limit: Duration::from_secs(3) };
        let after = |ms| advertised + Duration::from_millis(ms);
        assert_eq!(one.lifetime(advertised, after(0), true), 2);
        assert_eq!(one.lifetime(advertised, after(0), false), 10);
        let slow = Terms { limit: Duration::from_secs(30), ..one };
        assert_eq!(slow.lifetime(advertised, after(0), true), 29);
        assert_eq!(slow.lifetime(advertised, after(7500), true), 22);
        assert_eq!(slow.lifetime(advertised, after(7500), false), 22);
    }
}
