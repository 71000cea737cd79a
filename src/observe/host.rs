//! What the host says about itself.

use std::time::Duration;

/// `/proc` counts in hundredths of a second (USER_HZ).
const TICK: Duration = Duration::from_millis(10);

/// How long the machine below a virtual one ran others instead of it, since it was started. Zero where that is not
/// told.
pub fn steal() -> Duration {
    std::fs::read_to_string("/proc/stat").map_or(Duration::ZERO, |text| steal_in(&text))
}

/// proc(5): user, nice, system, idle, iowait, irq, softirq, steal, …
fn steal_in(text: &str) -> Duration {
    let line = text.lines().find_map(|line| line.strip_prefix("cpu "));
    let ticks = line.and_then(|line| line.split_whitespace().nth(7)?.parse::<u32>().ok());
    ticks.map_or(Duration::ZERO, |ticks| ticks * TICK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_eighth_number_of_all_processors_is_steal() {
        let text = "cpu  74608 2520 24433 1117073 6176 4054 0 123 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n";
        assert_eq!(steal_in(text), Duration::from_millis(1230));
        assert_eq!(steal_in("cpu  1 2 3\n"), Duration::ZERO);
    }
}
