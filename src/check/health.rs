//! Verdicts in, up or down out: a pure counter.
//!
//! keepalived counts from 0 to `rise + fall - 1` and calls a script up from `rise` on. A success while up
//! sets the counter to its maximum, a failure while down sets it to 0, so what counts is results in a row.

use crate::observe::event::Health;

/// Counts results and decides when they change the health.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCounter {
    rise: u32,
    fall: u32,
    health: Health,
    /// keepalived's counter, 0 to `rise + fall - 1`; without meaning while the health is unknown.
    result: u32,
    /// Until the health is decided: the last result, and how many equal ones in a row.
    undecided: Option<(bool, u32)>,
    /// Failures that brought it down: `fall`, or 1 when the first result did.
    brought_down_by: u32,
    /// One result decides while nothing is known.
    first_result_decides: bool,
}

impl HealthCounter {
    /// A counter that knows nothing. `rise` and `fall` are at least 1 (0 is taken as 1).
    pub fn new(rise: u32, fall: u32, first_result_decides: bool) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            health: Health::Unknown,
            result: 0,
            undecided: None,
            brought_down_by: fall.max(1),
            first_result_decides,
        }
    }

    /// What the results so far say.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Counts one result and gives the health after it.
    pub fn count(&mut self, success: bool) -> Health {
        match self.health {
            Health::Unknown => self.count_unknown(success),
            Health::Up | Health::Down if success => {
                if self.result >= self.rise.saturating_sub(1) {
                    self.go(Health::Up);
                } else {
                    self.result += 1;
                }
            }
            Health::Up | Health::Down => {
                if self.result > self.rise {
                    self.result -= 1;
                } else {
                    if self.health == Health::Up {
                        self.brought_down_by = self.fall;
                    }
                    self.go(Health::Down);
                }
            }
        }
        self.health
    }

    fn count_unknown(&mut self, success: bool) {
        let row = match self.undecided {
            Some((last, row)) if last == success => row.saturating_add(1),
            _ => 1,
        };
        self.undecided = Some((success, row));
        let needed = if self.first_result_decides { 1 } else { self.needed_for(success) };
        if row >= needed {
            self.brought_down_by = needed;
            self.go(if success { Health::Up } else { Health::Down });
        }
    }

    fn go(&mut self, health: Health) {
        self.health = health;
        self.result = if health == Health::Up { self.maximum() } else { 0 };
    }

    /// `rise + fall - 1`.
    fn maximum(&self) -> u32 {
        self.rise.saturating_add(self.fall - 1)
    }

    fn needed_for(&self, success: bool) -> u32 {
        if success { self.rise } else { self.fall }
    }

    /// Failures in a row, as far as they are counted, and how many bring it down: `(2, 3)`. Once it is down
    /// as many as did that: `(fall, fall)`, or `(1, 1)` when the first result did. `(0, fall)` while the last
    /// result was a success.
    pub fn failures(&self) -> (u32, u32) {
        match self.health {
            Health::Up => (self.maximum() - self.result, self.fall),
            // The last failure set it to 0; successes since then are not failures.
            Health::Down if self.result == 0 => (self.brought_down_by, self.brought_down_by),
            Health::Down => (0, self.fall),
            Health::Unknown => match self.undecided {
                Some((false, row)) => (row.min(self.fall), self.fall),
                _ => (0, self.fall),
            },
        }
    }

    /// Results in a row that differ from the health, and how many of them change it. While nothing is
    /// known: equal results in a row.
    pub fn towards_change(&self) -> (u32, u32) {
        match self.health {
            Health::Up => (self.maximum() - self.result, self.fall),
            Health::Down => (self.result, self.rise),
            Health::Unknown if self.first_result_decides => (0, 1),
            Health::Unknown => match self.undecided {
                Some((success, row)) => (row, self.needed_for(success)),
                None => (0, self.rise),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Health::{Down, Unknown, Up};

    fn run(counter: &mut HealthCounter, results: &str) -> Vec<Health> {
        results.chars().map(|result| counter.count(result == '+')).collect()
    }

    #[test]
    fn fall_failures_in_a_row_bring_it_down_and_rise_successes_bring_it_up() {
        let mut counter = HealthCounter::new(2, 3, true);
        assert_eq!(run(&mut counter, "+--+---++"), [Up, Up, Up, Up, Up, Up, Down, Down, Up]);
    }

    /// keepalived 2.2.7, interval 1, fall 2, rise 2: failures at 27 s and 28 s, down at 28 s; up again two
    /// good results later.
    #[test]
    fn counter_follows_keepalived_with_fall_2_rise_2() {
        let mut counter = HealthCounter::new(2, 2, true);
        assert_eq!(run(&mut counter, "++--++"), [Up, Up, Up, Down, Down, Up]);
    }

    /// Every value of the counter for rise 3, fall 2: 0 to 4, up from 3 on.
    #[test]
    fn counter_takes_keepalived_values() {
        let mut counter = HealthCounter::new(3, 2, true);
        let values: Vec<u32> = "+-+--++-+++-"
            .chars()
            .map(|result| {
                counter.count(result == '+');
                counter.result
            })
            .collect();
        assert_eq!(values, [4, 3, 4, 3, 0, 1, 2, 0, 1, 2, 4, 3]);
    }

    #[test]
    fn first_result_decides_alone_whatever_rise_and_fall_say() {
        assert_eq!(run(&mut HealthCounter::new(3, 3, true), "+"), [Up]);
        assert_eq!(run(&mut HealthCounter::new(3, 3, true), "-"), [Down]);
    }

    #[test]
    fn unknown_until_rise_or_fall_when_the_first_result_does_not_decide() {
        let mut counter = HealthCounter::new(2, 3, false);
        assert_eq!(run(&mut counter, "-+--+"), [Unknown; 5]);
        assert_eq!(run(&mut counter, "+"), [Up]);
        assert_eq!(run(&mut HealthCounter::new(2, 3, false), "---"), [Unknown, Unknown, Down]);
    }

    #[test]
    fn failures_are_counted_up_to_fall() {
        let mut counter = HealthCounter::new(2, 3, true);
        let rows: Vec<(u32, u32)> = "+--+-----+"
            .chars()
            .map(|result| {
                counter.count(result == '+');
                counter.failures()
            })
            .collect();
        assert_eq!(rows, [(0, 3), (1, 3), (2, 3), (0, 3), (1, 3), (2, 3), (3, 3), (3, 3), (3, 3), (0, 3)]);
    }

    #[test]
    fn a_first_failure_that_decides_is_one_of_one() {
        let mut counter = HealthCounter::new(1, 3, true);
        run(&mut counter, "--");
        assert_eq!(counter.failures(), (1, 1));
        run(&mut counter, "+--");
        assert_eq!(counter.failures(), (2, 3));
        run(&mut counter, "-");
        assert_eq!(counter.failures(), (3, 3));
    }

    #[test]
    fn what_is_needed_for_a_change_is_known() {
        let mut counter = HealthCounter::new(2, 3, false);
        assert_eq!(counter.towards_change(), (0, 2));
        counter.count(false);
        assert_eq!(counter.towards_change(), (1, 3));
        run(&mut counter, "++");
        assert_eq!(counter.towards_change(), (0, 3));
        run(&mut counter, "-");
        assert_eq!(counter.towards_change(), (1, 3));
        run(&mut counter, "--+");
        assert_eq!(counter.towards_change(), (1, 2));
    }
}
