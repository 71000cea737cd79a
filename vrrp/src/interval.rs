//! Advertisement intervals and the timers that follow from them.
//!
//! Everything is whole nanoseconds and multiplied before it is divided: at 10 ms and priority 254 the skew is
//! 78.125 µs. Rounded to centiseconds it would be 0, and backups of different priority would take over together.

use std::fmt;
use std::time::Duration;

use crate::{Priority, Version};

/// Time between two adverts of an active router, in the exact units of the wire.
///
/// Version 2: whole seconds, 1–255. Version 3: centiseconds, 1–4095 (10 ms to 40.95 s).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AdverInterval {
    centiseconds: u16,
}

/// A duration that the version cannot carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IntervalError {
    /// Below one unit or above what the field holds.
    #[error("an advertisement interval of {got:?} is out of range: {version} takes {range}", range = Range(*.version))]
    OutOfRange {
        /// For which it was meant.
        version: Version,
        /// What was asked for.
        got: Duration,
    },
    /// Not a whole number of units.
    #[error(
        "an advertisement interval of {got:?} cannot be sent: {version} counts in steps of {unit:?}",
        unit = unit(*.version)
    )]
    Fraction {
        /// For which it was meant.
        version: Version,
        /// What was asked for.
        got: Duration,
    },
}

struct Range(Version);

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Version::V2 => "1 s to 255 s",
            Version::V3 => "10 ms to 40.95 s",
        })
    }
}

/// One step of the interval field.
const fn unit(version: Version) -> Duration {
    match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => Duration::from_millis(10),
    }
}

const fn centiseconds_per_unit(version: Version) -> u16 {
    match version {
        Version::V2 => 100,
        Version::V3 => 1,
    }
}

/// Largest value of the interval field.
const fn most_units(version: Version) -> u16 {
    match version {
        Version::V2 => 255,
        Version::V3 => 4095,
    }
}

impl AdverInterval {
    /// One second, the default of both versions.
    pub const SECOND: Self = Self { centiseconds: 100 };

    /// The interval that lasts exactly as long as `duration`.
    ///
    /// # Errors
    ///
    /// When the version's field cannot carry it: out of range, or a fraction of its unit.
    pub fn from_duration(version: Version, duration: Duration) -> Result<Self, IntervalError> {
        let unit_nanos = unit(version).as_nanos();
        if !duration.as_nanos().is_multiple_of(unit_nanos) {
            return Err(IntervalError::Fraction { version, got: duration });
        }
        u16::try_from(duration.as_nanos() / unit_nanos)
            .ok()
            .and_then(|units| Self::from_wire(version, units))
            .ok_or(IntervalError::OutOfRange { version, got: duration })
    }

    /// The interval nearest to `duration` that the version can carry, halves upwards: what keepalived makes of
    /// `advert_int` (V2-8: whole seconds, at least 1, at most 255).
    pub fn nearest(version: Version, duration: Duration) -> Self {
        let unit_nanos = unit(version).as_nanos();
        let units = (duration.as_nanos() + unit_nanos / 2) / unit_nanos;
        let most = most_units(version);
        let units = u16::try_from(units).unwrap_or(most).clamp(1, most);
        Self { centiseconds: units * centiseconds_per_unit(version) }
    }

    /// From the field of an advert: seconds in version 2, centiseconds in version 3. `None` for 0 (erratum 8301)
    /// and for what the field cannot hold.
    pub fn from_wire(version: Version, units: u16) -> Option<Self> {
        (1..=most_units(version))
            .contains(&units)
            .then(|| Self { centiseconds: units * centiseconds_per_unit(version) })
    }

    /// For the field of an advert: seconds in version 2, centiseconds in version 3. `None` if the interval was
    /// made for the other version and does not fit this one.
    pub fn as_wire(self, version: Version) -> Option<u16> {
        let per_unit = centiseconds_per_unit(version);
        (self.centiseconds.is_multiple_of(per_unit) && self.centiseconds / per_unit <= most_units(version))
            .then_some(self.centiseconds / per_unit)
    }

    /// How long it lasts; exact.
    pub const fn as_duration(self) -> Duration {
        Duration::from_millis(self.centiseconds as u64 * 10)
    }
}

impl fmt::Display for AdverInterval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.as_duration(), f)
    }
}

/// Skew_Time: what a router of lower priority waits longer.
///
/// Version 2: (256 − priority) / 256 s, whatever the interval (RFC 3768 §6.1). Version 3: that part of the active
/// router's interval (RFC 9568 §6.1). Rounded down to nanoseconds; 78.125 µs for priority 254 at 10 ms.
pub fn skew_time(version: Version, priority: Priority, active_adver_interval: AdverInterval) -> Duration {
    let of = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => active_adver_interval.as_duration(),
    };
    of * (256 - u32::from(priority.get())) / 256
}

/// Active_Down_Interval: silence after which a backup router takes over (RFC 9568 §6.1).
///
/// `down_timer_adverts` adverts may be lost; it is 3 in the RFC and 1–100 with keepalived's setting of that name,
/// the same on all routers of a VRID. 3.609375 s for priority 100 at the default interval of 1 s.
pub fn active_down_interval(
    version: Version,
    priority: Priority,
    active_adver_interval: AdverInterval,
    down_timer_adverts: u8,
) -> Duration {
    active_adver_interval.as_duration() * u32::from(down_timer_adverts)
        + skew_time(version, priority, active_adver_interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn skew_time_keeps_the_fraction_of_a_centisecond() {
        let interval = AdverInterval::from_duration(Version::V3, Duration::from_millis(10)).unwrap();
        assert_eq!(skew_time(Version::V3, Priority::new(254), interval), Duration::from_nanos(78_125));
    }

    #[test]
    fn an_interval_says_what_the_field_can_carry() {
        let error = AdverInterval::from_duration(Version::V2, Duration::from_millis(1500)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an advertisement interval of 1.5s cannot be sent: VRRPv2 counts in steps of 1s"
        );
        let error = AdverInterval::from_duration(Version::V3, Duration::from_secs(41)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "an advertisement interval of 41s is out of range: VRRPv3 takes 10 ms to 40.95 s"
        );
        assert!(AdverInterval::from_duration(Version::V3, Duration::ZERO).is_err());
    }

    #[test]
    fn an_interval_of_the_other_version_may_not_fit() {
        let half = AdverInterval::from_duration(Version::V3, Duration::from_millis(500)).unwrap();
        assert_eq!((half.as_wire(Version::V3), half.as_wire(Version::V2)), (Some(50), None));
        let long = AdverInterval::from_duration(Version::V2, Duration::from_secs(255)).unwrap();
        assert_eq!((long.as_wire(Version::V3), long.as_wire(Version::V2)), (None, Some(255)));
    }
}
