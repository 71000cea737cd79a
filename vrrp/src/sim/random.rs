//! A small seeded generator (SplitMix64), so that a run can be repeated from its seed alone.

use std::time::Duration;

#[derive(Clone, Debug)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly below `end`; 0 if that is 0.
    fn below(&mut self, end: u64) -> u64 {
        // The upper half of the product is below `end`.
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// From zero to `most`, whole nanoseconds.
    pub(super) fn up_to(&mut self, most: Duration) -> Duration {
        let nanos = u64::try_from(most.as_nanos()).unwrap_or(u64::MAX);
        Duration::from_nanos(self.below(nanos.saturating_add(1)))
    }

    /// True `permille` times in a thousand.
    pub(super) fn happens(&mut self, permille: u16) -> bool {
        self.below(1000) < u64::from(permille)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_a_chance_is_met() {
        let (mut a, mut b) = (Random::new(7), Random::new(7));
        assert!((0..100).all(|_| a.next() == b.next()));
        let lost = (0..10_000).filter(|_| a.happens(300)).count();
        assert!((2_800..3_200).contains(&lost), "{lost}");
        assert!((0..1000).all(|_| a.up_to(Duration::from_nanos(3)) <= Duration::from_nanos(3)));
        assert!((0..1000).all(|_| !a.happens(0) && a.happens(1000)));
    }
}
