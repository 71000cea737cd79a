//! Whether the machine slept: CLOCK_MONOTONIC, which every timer here counts by, stands still meanwhile.

use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};

/// Compares the clock that counts sleep with the one that does not.
#[derive(Debug, Default)]
pub struct SuspendWatch {
    /// How much the machine had slept since its start, as far as was seen.
    slept: Duration,
}

impl SuspendWatch {
    /// From now on.
    pub fn start() -> Self {
        let mut watch = Self::default();
        watch.slept_since();
        watch
    }

    /// How long the machine slept since this was last asked. Zero when the clocks cannot be read.
    pub fn slept_since(&mut self) -> Duration {
        let read = || -> nix::Result<_> {
            let with_sleep = clock_gettime(ClockId::CLOCK_BOOTTIME)?;
            Ok((with_sleep, clock_gettime(ClockId::CLOCK_MONOTONIC)?))
        };
        read().map_or(Duration::ZERO, |(with, without)| self.note(duration(with), duration(without)))
    }

    /// `without_sleep` is read last: a pause between the two makes the sleep look shorter, never longer.
    fn note(&mut self, with_sleep: Duration, without_sleep: Duration) -> Duration {
        let slept = with_sleep.saturating_sub(without_sleep);
        let more = slept.saturating_sub(self.slept);
        self.slept += more;
        more
    }
}

fn duration(time: TimeSpec) -> Duration {
    time.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_sleep_is_told_once() {
        let mut watch = SuspendWatch::default();
        watch.note(100 * SECOND, 90 * SECOND);
        assert_eq!(watch.note(101 * SECOND, 91 * SECOND), Duration::ZERO);
        assert_eq!(watch.note(111 * SECOND, 92 * SECOND), 9 * SECOND);
        assert_eq!(watch.note(112 * SECOND, 93 * SECOND), Duration::ZERO);
    }

    #[test]
    fn a_pause_between_the_two_clocks_is_no_sleep() {
        let mut watch = SuspendWatch::default();
        watch.note(100 * SECOND, 90 * SECOND);
        assert_eq!(watch.note(101 * SECOND, 95 * SECOND), Duration::ZERO);
        assert_eq!(watch.note(106 * SECOND, 96 * SECOND), Duration::ZERO);
    }

    #[test]
    fn this_machine_does_not_sleep_while_it_runs_a_test() {
        let mut watch = SuspendWatch::start();
        assert!(watch.slept_since() < SECOND);
    }
}
