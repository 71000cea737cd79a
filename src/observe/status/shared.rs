//! Durations that several threads count at the same time, without a lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Histogram;

/// A [`Histogram`] that is counted into from everywhere.
#[derive(Debug, Default)]
pub struct SharedHistogram {
    buckets: [AtomicU64; Histogram::BOUNDS.len() + 1],
    /// Microseconds.
    sum: AtomicU64,
    /// Microseconds.
    max: AtomicU64,
}

impl SharedHistogram {
    /// Counts one, to the microsecond.
    pub fn record(&self, duration: Duration) {
        let bucket = Histogram::BOUNDS.partition_point(|bound| *bound < duration);
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum.fetch_add(micros, Ordering::Relaxed);
        raise(&self.max, micros);
    }

    /// What was counted so far.
    pub fn snapshot(&self) -> Histogram {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let buckets: Vec<_> = self.buckets.iter().map(load).collect();
        if buckets.iter().all(|count| *count == 0) {
            return Histogram::default();
        }
        let (sum, max) = (load(&self.sum), load(&self.max));
        Histogram { buckets, sum: Duration::from_micros(sum), max: Duration::from_micros(max) }
    }
}

/// Lifts a highest value. Mostly a read: it is seldom higher.
pub fn raise(highest: &AtomicU64, value: u64) {
    if highest.load(Ordering::Relaxed) < value {
        highest.fetch_max(value, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_counts_as_the_one_that_is_not_shared() {
        let (shared, mut alone) = (SharedHistogram::default(), Histogram::default());
        assert_eq!(shared.snapshot(), alone);
        for micros in [0, 50, 51, 100, 250_000, 20_000_000] {
            shared.record(Duration::from_micros(micros));
            alone.record(Duration::from_micros(micros));
        }
        assert_eq!(shared.snapshot(), alone);
    }

    #[test]
    fn percentiles_are_bounds_of_buckets_or_the_longest() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.percentile(50), None);
        for _ in 0..98 {
            histogram.record(Duration::from_micros(80));
        }
        histogram.record(Duration::from_millis(3));
        histogram.record(Duration::from_secs(20));
        assert_eq!(histogram.percentile(50), Some(Duration::from_micros(100)));
        assert_eq!(histogram.percentile(98), Some(Duration::from_micros(100)));
        assert_eq!(histogram.percentile(99), Some(Duration::from_millis(5)));
        assert_eq!(histogram.percentile(100), Some(Duration::from_secs(20)));
        let mut one = Histogram::default();
        one.record(Duration::from_micros(70));
        assert_eq!(one.percentile(50), Some(Duration::from_micros(70)), "not more than the longest");
    }
}
