//! keepalived's quorum, and what a listener can do for its clients. Pure.

use config::ready::Quorum;

use crate::observe::event::Health;

/// Whether the quorum is reached, after it `was`; `None`: not looked at yet.
///
/// As in keepalived 2.2.7 it is gained at `least` + `hysteresis`, and lost below `least` − `hysteresis` and at 0.
pub fn is_reached(quorum: &Quorum, was: Option<bool>, weight: u64) -> bool {
    let (least, hysteresis) = (u64::from(quorum.least), u64::from(quorum.hysteresis));
    match was {
        Some(true) => weight > 0 && weight >= least.saturating_sub(hysteresis),
        Some(false) | None => weight >= least + hysteresis,
    }
}

/// Whether clients are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ability {
    /// Unknown until a check has spoken.
    pub health: Health,
    /// `1 of 3 backends is healthy`.
    pub detail: String,
}

/// From the health of those that are no backups, and whether the quorum is lost.
pub fn ability(healths: impl Iterator<Item = Health>, quorum_is_lost: bool) -> Ability {
    let healths: Vec<_> = healths.collect();
    let count = |health| healths.iter().filter(|one| **one == health).count();
    let up = count(Health::Up);
    let is = if up == 1 { "is" } else { "are" };
    let mut detail = format!("{up} of {} backends {is} healthy", healths.len());
    let health = match (up, count(Health::Unknown)) {
        _ if quorum_is_lost => {
            detail += ", less than the quorum";
            Health::Down
        }
        (0, 0) => Health::Down,
        (0, _) => Health::Unknown,
        _ => Health::Up,
    };
    Ability { health, detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quorum(least: u32, hysteresis: u32) -> Quorum {
        Quorum { least, hysteresis, up: None, down: None, at_end: false }
    }

    /// keepalived.conf(5): gained at quorum + hysteresis, lost below quorum - hysteresis.
    #[test]
    fn the_quorum_is_gained_and_lost_with_hysteresis() {
        let three = quorum(3, 1);
        let mut is = None;
        let mut follow = |weight| {
            let now = is_reached(&three, is, weight);
            is = Some(now);
            now
        };
        let seen = [3, 4, 3, 2, 1, 2, 3, 4].map(&mut follow);
        assert_eq!(seen, [false, true, true, true, false, false, false, true]);
        assert!(!is_reached(&quorum(2, 2), Some(true), 0), "nobody is no quorum");
    }

    #[test]
    fn no_healthy_backend_is_no_ability_but_nothing_known_is_none_either() {
        use Health::{Down, Unknown, Up};
        let of = |healths: &[Health]| ability(healths.iter().copied(), false);
        assert_eq!(of(&[Down, Up]), Ability { health: Up, detail: "1 of 2 backends is healthy".into() });
        assert_eq!(of(&[Down, Unknown]).health, Unknown);
        assert_eq!(of(&[Down, Down]), Ability { health: Down, detail: "0 of 2 backends are healthy".into() });
        assert_eq!(ability([Up, Down].into_iter(), true).health, Down);
    }
}
