//! Times and sizes as people read them.

use std::time::{Duration, SystemTime};

/// How long ago: `42 s`, `2 h 14 min`.
pub fn ago(now: SystemTime, then: SystemTime) -> String {
    long(now.duration_since(then).unwrap_or_default())
}

/// A time of seconds to days.
pub fn long(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min {} s", seconds % 60),
        3600..86_400 => format!("{hours} h {minutes} min"),
        _ => format!("{days} d {hours} h"),
    }
}

/// A time of microseconds to seconds.
pub fn short(duration: Duration) -> String {
    if duration < Duration::from_millis(1) {
        format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
    } else if duration < Duration::from_secs(1) {
        format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

/// `1.4 MiB`.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    // Tenths of a unit, so that no float is needed.
    let mut tenths = bytes.saturating_mul(10) / 1024;
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1024;
        unit += 1;
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_read_well() {
        let ago = |seconds| long(Duration::from_secs(seconds));
        assert_eq!([ago(0), ago(59), ago(61), ago(3599)], ["0 s", "59 s", "1 min 1 s", "59 min 59 s"]);
        assert_eq!([ago(3600), ago(86_399), ago(90_000)], ["1 h 0 min", "23 h 59 min", "1 d 1 h"]);
        assert_eq!([size(0), size(1023), size(1024)], ["0 B", "1023 B", "1.0 KiB"]);
        assert_eq!([size(1_500_000), size(3_221_225_472)], ["1.4 MiB", "3.0 GiB"]);
        let short = |micros| short(Duration::from_micros(micros));
        assert_eq!([short(50), short(1234), short(2_500_000)], ["0.05 ms", "1.2 ms", "2.5 s"]);
    }
}
