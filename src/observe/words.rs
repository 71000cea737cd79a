//! Times and sizes as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

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

/// A moment as `2026-11-21T07:26:08.123Z`.
pub fn utc(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date(days);
    let (hour, minute) = (second / 3600, second / 60 % 60);
    let millisecond = since.subsec_millis();
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{:02}.{millisecond:03}Z", second % 60)
}

/// Year, month and day of the day that is this many days after 1970-01-01.
fn date(mut days: u64) -> (u64, u64, u64) {
    let leap = |year: u64| year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let mut year = 1970;
    loop {
        let length = if leap(year) { 366 } else { 365 };
        if days < length {
            break;
        }
        days -= length;
        year += 1;
    }
    let february = if leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    (year, month, days + 1)
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

    /// Expected values from `date -u -d @SECONDS`.
    #[test]
    fn moments_are_written_in_utc() {
        let utc = |ms| utc(UNIX_EPOCH + Duration::from_millis(ms));
        assert_eq!(utc(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(utc(951_782_400_000), "2000-02-29T00:00:00.000Z");
        assert_eq!(utc(1_795_246_768_123), "2026-11-21T07:39:28.123Z");
        assert_eq!(utc(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(utc(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
        assert_eq!(utc(1_735_689_599_000), "2024-12-31T23:59:59.000Z");
    }
}
