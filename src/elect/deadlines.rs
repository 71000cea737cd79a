//! The next deadline of every instance, and the first of them all.

use std::collections::BTreeSet;
use std::time::Instant;

/// An ordered set with at most one deadline for each instance.
#[derive(Debug, Default)]
pub struct Deadlines {
    ordered: BTreeSet<(Instant, usize)>,
    current: Vec<Option<Instant>>,
}

impl Deadlines {
    /// Sets, moves or clears the deadline of an instance.
    pub fn set(&mut self, instance: usize, deadline: Option<Instant>) {
        if self.current.len() <= instance {
            self.current.resize(instance + 1, None);
        }
        let before = std::mem::replace(&mut self.current[instance], deadline);
        if before == deadline {
            return;
        }
        if let Some(before) = before {
            self.ordered.remove(&(before, instance));
        }
        if let Some(deadline) = deadline {
            self.ordered.insert((deadline, instance));
        }
    }

    /// The first deadline of all.
    pub fn first(&self) -> Option<Instant> {
        self.ordered.first().map(|(deadline, _)| *deadline)
    }

    /// An instance whose deadline has come; it stays set until [`Deadlines::set`].
    pub fn due(&self, now: Instant) -> Option<(Instant, usize)> {
        self.ordered.first().copied().filter(|(deadline, _)| *deadline <= now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_instance_has_one_deadline_and_the_earliest_comes_first() {
        let now = Instant::now();
        let at = |ms| now + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        deadlines.set(0, Some(at(10)));
        deadlines.set(1, Some(at(5)));
        deadlines.set(0, Some(at(3)));
        assert_eq!(deadlines.first(), Some(at(3)));
        assert_eq!(deadlines.due(at(2)), None);
        assert_eq!(deadlines.due(at(4)), Some((at(3), 0)));
        deadlines.set(0, None);
        assert_eq!(deadlines.due(at(9)), Some((at(5), 1)));
        deadlines.set(1, None);
        assert_eq!(deadlines.first(), None);
    }
}
