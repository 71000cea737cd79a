//! What happens, what the protocol promises for it, and what the client saw of it.

use std::time::Duration;

use vrrp::{AdverInterval, Priority, Version, active_down_interval, skew_time};

use super::client::{EVERY, View};

/// What the measurement may add to the formula: the client looks every 10 ms, an answer through TLS takes
/// some ms, and one computer plays all six machines.
pub const TOLERANCE: Duration = Duration::from_millis(50);

/// Priority of the host that shall be active.
pub const FIRST_PRIORITY: u8 = 200;
/// Priority of the host that stands by.
pub const SECOND_PRIORITY: u8 = 100;

/// Adverts that may be missed (RFC 9568 §6.1 knows no other number).
const DOWN_TIMER_ADVERTS: u8 = 3;

/// The numbers that follow from the advert interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formula {
    /// From advert to advert.
    pub interval: Duration,
    /// Silence after which the first host takes the address.
    pub first_down: Duration,
    /// Silence after which the second host takes the address.
    pub second_down: Duration,
    /// What the second host waits when the first says goodbye.
    pub second_skew: Duration,
}

impl Formula {
    /// RFC 9568 §6.1, version 3.
    pub fn new(interval: AdverInterval) -> Self {
        let down = |priority| {
            active_down_interval(Version::V3, Priority::new(priority), interval, DOWN_TIMER_ADVERTS)
        };
        Self {
            interval: interval.as_duration(),
            first_down: down(FIRST_PRIORITY),
            second_down: down(SECOND_PRIORITY),
            second_skew: skew_time(Version::V3, Priority::new(SECOND_PRIORITY), interval),
        }
    }
}

/// What is measured in an act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// From when the first host listens to the first answer.
    FirstAnswer,
    /// The longest time between two successive requests that were answered.
    LongestGap,
}

/// One act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Act {
    /// Few words, for the table.
    pub title: &'static str,
    /// What happens, for people who have never heard of VRRP.
    pub story: String,
    /// What counts.
    pub measure: Measure,
    /// At most this long, says the protocol.
    pub bound: Duration,
    /// Where the bound comes from.
    pub formula: String,
}

/// All acts, in the order they are played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Acts {
    /// Both hosts start.
    pub election: Act,
    /// The active host dies.
    pub power_off: Act,
    /// It comes back.
    pub comeback: Act,
    /// It is stopped properly.
    pub hand_over: Act,
    /// And comes back.
    pub comeback_again: Act,
    /// A server behind the address stops.
    pub broken_backend: Act,
}

impl Acts {
    /// With the numbers of `formula`.
    pub fn new(formula: &Formula) -> Self {
        let interval = ms(formula.interval);
        let comeback = |title, story: &str| Act {
            title,
            story: story.to_owned(),
            measure: Measure::LongestGap,
            bound: Duration::ZERO,
            formula: "the one gives up when it hears the other: no gap".to_owned(),
        };
        Self {
            election: Act {
                title: "both hosts start",
                story: "lb1 and lb2 start and listen. Nobody holds the address yet. lb1 has the higher priority, so it \
                        waits a little shorter than lb2 and is first."
                    .to_owned(),
                measure: Measure::FirstAnswer,
                bound: formula.first_down,
                formula: format!("3 x {interval} + {} (skew of lb1)", ms(formula.first_down - 3 * formula.interval)),
            },
            power_off: Act {
                title: "power failure of lb1",
                story: "lb1 loses power: its switch port is dead and its processes are killed. It cannot say goodbye. \
                        lb2 hears nothing any more and takes the address when the silence is long enough."
                    .to_owned(),
                measure: Measure::LongestGap,
                bound: formula.second_down,
                formula: format!("3 x {interval} + {} (skew of lb2)", ms(formula.second_skew)),
            },
            comeback: comeback(
                "lb1 comes back",
                "lb1 boots, listens, and takes the address back, because its priority is higher. lb2 hears that and \
                 lets go.",
            ),
            hand_over: Act {
                title: "lb1 is stopped properly",
                story: "lb1 is stopped as for maintenance. It says goodbye (an advert with priority 0), so lb2 need not \
                        wait for silence."
                    .to_owned(),
                measure: Measure::LongestGap,
                bound: formula.second_skew,
                formula: format!("{} (skew of lb2)", ms(formula.second_skew)),
            },
            comeback_again: comeback("lb1 comes back again", "lb1 is started again and takes the address back."),
            broken_backend: Act {
                title: "backend b1 breaks",
                story: "The server on b1 stops: its port refuses connections. The address stays where it is; lb1 sends \
                        the client's connections to b2 and b3."
                    .to_owned(),
                measure: Measure::LongestGap,
                bound: Duration::ZERO,
                formula: "the next backend is tried at once: no gap".to_owned(),
            },
        }
    }
}

/// How an act ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Which.
    pub act: Act,
    /// What the client saw.
    pub view: View,
    /// What did not happen although it should have, apart from the time.
    pub missing: Option<String>,
}

impl Outcome {
    /// What was measured; `None` when no answer ever came.
    pub fn outage(&self) -> Option<Duration> {
        match self.act.measure {
            Measure::FirstAnswer => self.view.first_answer(),
            // A client that asks every 10 ms sees 10 ms when nothing is lost.
            Measure::LongestGap => {
                self.view.longest_gap().map(|gap| if gap < 2 * EVERY { Duration::ZERO } else { gap })
            }
        }
    }

    /// What the outage may be: the bound, the tolerance, and what the computer took away from the client.
    pub fn allowed(&self) -> Duration {
        self.act.bound + TOLERANCE + self.held_up().unwrap_or_default()
    }

    /// For how long the client was held up, where that matters.
    pub fn held_up(&self) -> Option<Duration> {
        Some(self.view.longest_pause()).filter(|pause| *pause >= 2 * EVERY)
    }

    /// The promise was kept.
    pub fn kept(&self) -> bool {
        self.missing.is_none() && self.outage().is_some_and(|outage| outage <= self.allowed())
    }
}

/// Milliseconds, without a fraction.
pub fn ms(duration: Duration) -> String {
    // Rounded to the nearest; a duration of an act fits.
    format!("{} ms", (duration + Duration::from_micros(500)).as_millis())
}
