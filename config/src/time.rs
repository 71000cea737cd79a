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

/// A number, maybe with decimals, and its unit: `ns`, `us`, `ms`, `s`, `min` (or `m`), `h`, `d`.
pub(crate) fn parse(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| !(c.is_ascii_digit() || c == '.'))?;
    let (number, unit) = text.split_at(unit_at);
    let unit: u128 = match unit.trim_start() {
        "ns" => 1,
        "us" | "µs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || whole.len() > 12 || fraction.len() > 9 {
        return None;
    }
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    let nanos = whole.parse::<u128>().ok()? * unit + fraction.parse::<u128>().ok()? * unit / scale;
    Some(Duration::from_nanos(u64::try_from(nanos).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_read_back() {
        for nanos in [0, 1, 999, 1_500, 10_000_000, 40_950_000_000, 60_000_000_000, 5_400_000_000_000] {
            let time = Duration::from_nanos(nanos);
            assert_eq!(parse(&shown(time)), Some(time), "{}", shown(time));
        }
        assert_eq!(shown(Duration::from_millis(40_950)), "40950ms");
    }

    #[test]
    fn decimals_are_exact() {
        assert_eq!(parse("1.5s"), Some(Duration::from_millis(1500)));
        assert_eq!(parse("0.1 ms"), Some(Duration::from_micros(100)));
        assert_eq!(parse("2m"), Some(Duration::from_secs(120)));
    }

    #[test]
    fn a_number_needs_its_unit() {
        for wrong in ["", "1", "s", ".5s", "1.s", "-1s", "1 second", "99999999999999999999s", "1.5.5s"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
