//! Durations as people write them: `1s`, `100ms`.

use std::time::Duration;

/// The nearest multiple of a unit; halves go up.
pub(crate) fn round_to(time: Duration, unit: Duration) -> Duration {
    let (time, unit) = (time.as_nanos(), unit.as_nanos().max(1));
    let rounded = (time + unit / 2) / unit * unit;
    Duration::from_nanos(u64::try_from(rounded).unwrap_or(u64::MAX))
}

/// The shortest exact way to write a duration.
pub fn shown(time: Duration) -> String {
    let nanos = time.as_nanos();
    let units: [(u128, &str); 6] = [
        (3_600_000_000_000, "h"),
        (60_000_000_000, "min"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    if nanos == 0 {
        return "0s".to_owned();
    }
    let (unit, name) = units.into_iter().find(|(unit, _)| nanos.is_multiple_of(*unit)).unwrap_or((1, "ns"));
    format!("{}{name}", nanos / unit)
}
