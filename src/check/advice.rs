//! What a check says of a backend beyond up and down: an agent, a script with `exit_weight`, a file with `weight`.

/// What was said so far. What a run does not speak of stays as it was, as in HAProxy and keepalived.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Advice {
    /// What the weight is to be. `None`: nobody has spoken of it.
    pub weight: Option<Weight>,
    /// What is to become of new and old sessions. `None`: nobody has spoken of it.
    pub mode: Option<Mode>,
    /// Sessions at a time (HAProxy's agent: `maxconn:N`).
    pub max_sessions: Option<u32>,
}

/// A weight that is advised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weight {
    /// In place of the configured one (keepalived: `misc_dynamic`).
    Absolute(u16),
    /// Of the configured one (HAProxy's agent: `75%`).
    Percent(u16),
    /// Added to the configured one (keepalived: `FILE_CHECK`).
    Offset(i64),
}

/// What an agent asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Back to normal.
    Ready,
    /// No new sessions but those that persistence brings.
    Drain,
    /// No new sessions.
    Maint,
}

impl Weight {
    /// The weight to be used where this one is configured. 0 only if that is meant: a percentage above 0 never
    /// makes it 0, which it does in HAProxy for small weights.
    #[must_use]
    pub fn of(self, configured: u16) -> u16 {
        let whole = |number: i64| u16::try_from(number.clamp(0, i64::from(u16::MAX))).unwrap_or(u16::MAX);
        match self {
            Self::Absolute(weight) => weight,
            Self::Percent(0) => 0,
            Self::Percent(_) if configured == 0 => 0,
            Self::Percent(percent) => whole(i64::from(configured) * i64::from(percent) / 100).max(1),
            Self::Offset(offset) => whole(i64::from(configured).saturating_add(offset)),
        }
    }
}

impl Advice {
    /// Takes on what a run has said.
    pub(super) fn hear(&mut self, news: Self) {
        self.weight = news.weight.or(self.weight);
        self.mode = news.mode.or(self.mode);
        self.max_sessions = news.max_sessions.or(self.max_sessions);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_a_number_a_share_or_a_difference() {
        assert_eq!(Weight::Absolute(7).of(100), 7);
        assert_eq!([1, 50, 100, 0].map(|percent| Weight::Percent(percent).of(4)), [1, 2, 4, 0]);
        assert_eq!(Weight::Percent(200).of(60000), u16::MAX);
        assert_eq!([-5, 3, i64::MIN, i64::MAX].map(|by| Weight::Offset(by).of(4)), [0, 7, 0, u16::MAX]);
    }

    #[test]
    fn what_is_not_spoken_of_stays() {
        let mut advice = Advice { mode: Some(Mode::Drain), ..Advice::default() };
        advice.hear(Advice { weight: Some(Weight::Percent(50)), ..Advice::default() });
        advice.hear(Advice { weight: Some(Weight::Absolute(3)), ..Advice::default() });
        let wanted =
            Advice { weight: Some(Weight::Absolute(3)), mode: Some(Mode::Drain), max_sessions: None };
        assert_eq!(advice, wanted);
    }
}
