//! Tracked objects to effective priority, or to what keeps an instance from taking part. Pure.

use config::ready::Effect;

use crate::observe::event::{Fault, Health};
use crate::observe::status::Weight;

/// What a tracked object says now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tracked<'a> {
    /// A check, an interface or a BFD session.
    pub object: Object<'a>,
    /// What it does to the instance.
    pub effect: Effect,
    /// Up, down, no result yet.
    pub health: Health,
    /// Number read from a file.
    pub value: Option<i64>,
    /// What it last said, to stand behind its name: `failed 3 of 3: connect refused`.
    pub detail: String,
}

/// What is tracked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object<'a> {
    /// By name.
    Check(&'a str),
    /// By name.
    Interface(&'a str),
    /// BFD session, by name.
    Bfd(&'a str),
}

impl Object<'_> {
    fn words(self) -> String {
        match self {
            Self::Check(name) => format!("check {name}"),
            Self::Interface(name) => format!("interface {name}"),
            Self::Bfd(name) => format!("BFD session {name}"),
        }
    }
}

/// The outcome for one instance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// 1–254, or 255 for the owner, whom nothing changes.
    pub priority: u8,
    /// What moves the priority now; objects that add nothing are left out.
    pub weights: Vec<Weight>,
    /// What keeps the instance from taking part.
    pub faults: Vec<Fault>,
}

/// Limits of keepalived: a sum of weights beyond them changes nothing more.
const LOWEST: i64 = 1;
const HIGHEST: i64 = 254;
const OWNER: u8 = 255;

/// Adds up what the tracked objects say (keepalived-compatible: the sum is limited only at the end).
pub fn standing<'a>(base: u8, tracked: impl IntoIterator<Item = Tracked<'a>>) -> Standing {
    let mut total = i64::from(base);
    let mut standing = Standing::default();
    for one in tracked {
        match verdict(&one) {
            Verdict::Nothing => {}
            Verdict::Fault(fault) => standing.faults.push(fault),
            Verdict::Adds(0) => {}
            Verdict::Adds(delta) => {
                total += i64::from(delta);
                standing.weights.push(Weight {
                    object: one.object.words(),
                    delta,
                    detail: one.detail.clone(),
                });
            }
        }
    }
    standing.priority = match base {
        OWNER => OWNER,
        _ => u8::try_from(total.clamp(LOWEST, HIGHEST)).expect("clamped to 1–254"),
    };
    if base == OWNER {
        standing.weights.clear();
    }
    standing
}

enum Verdict {
    Nothing,
    Adds(i32),
    Fault(Fault),
}

fn verdict(one: &Tracked<'_>) -> Verdict {
    match one.effect {
        Effect::Fault { reverse } => match (one.as_up_or_down(), reverse) {
            (Health::Unknown, _) => match one.object {
                Object::Check(check) => Verdict::Fault(Fault::CheckUnknown { check: check.to_owned() }),
                Object::Interface(_) | Object::Bfd(_) => Verdict::Nothing,
            },
            (Health::Down, false) | (Health::Up, true) => Verdict::Fault(one.fault()),
            (Health::Up, false) | (Health::Down, true) => Verdict::Nothing,
        },
        // Before its first result a weighted object counts as neither up nor down.
        Effect::Weight { .. } if one.health == Health::Unknown => Verdict::Nothing,
        Effect::Weight { weight, reverse } => {
            let up = one.health == Health::Up;
            let counts = if weight > 0 { up } else { !up };
            // `5 reverse` takes 5 off while up; `-5 reverse` adds 5 while down.
            let delta = if reverse { -i32::from(weight) } else { i32::from(weight) };
            Verdict::Adds(if counts { delta } else { 0 })
        }
        // keepalived has read its files before anything starts.
        Effect::Value { .. } if one.health == Health::Unknown => match one.object {
            Object::Check(check) => Verdict::Fault(Fault::CheckUnknown { check: check.to_owned() }),
            Object::Interface(_) | Object::Bfd(_) => Verdict::Nothing,
        },
        Effect::Value { weight, reverse } => {
            let weight = if reverse { -i64::from(weight) } else { i64::from(weight) };
            let effect = one.value.unwrap_or(0).saturating_mul(weight);
            if effect <= -254 {
                Verdict::Fault(one.fault())
            } else {
                Verdict::Adds(i32::try_from(effect.min(253)).expect("between -253 and 253"))
            }
        }
    }
}

impl Tracked<'_> {
    /// A number is good as long as it is 0.
    fn as_up_or_down(&self) -> Health {
        match (self.health, self.value) {
            (Health::Unknown, _) | (_, None) => self.health,
            (_, Some(0)) => Health::Up,
            (_, Some(_)) => Health::Down,
        }
    }

    fn fault(&self) -> Fault {
        match self.object {
            Object::Check(check) => Fault::Check { check: check.to_owned(), detail: self.detail.clone() },
            Object::Interface(interface) => Fault::InterfaceDown { interface: interface.to_owned() },
            Object::Bfd(session) => Fault::Bfd { session: session.to_owned(), detail: self.detail.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(effect: Effect, health: Health) -> Tracked<'static> {
        Tracked { object: Object::Check("c"), effect, health, value: None, detail: "said".into() }
    }

    fn weight(weight: i16, reverse: bool) -> Effect {
        Effect::Weight { weight, reverse }
    }

    fn priority(base: u8, effect: Effect, health: Health) -> u8 {
        standing(base, [check(effect, health)]).priority
    }

    /// keepalived-behaviour §6.3.
    #[test]
    fn positive_weights_are_added_while_up_and_negative_ones_taken_off_while_down() {
        assert_eq!(priority(100, weight(20, false), Health::Up), 120);
        assert_eq!(priority(100, weight(20, false), Health::Down), 100);
        assert_eq!(priority(101, weight(-2, false), Health::Up), 101);
        assert_eq!(priority(101, weight(-2, false), Health::Down), 99);
    }

    #[test]
    fn reverse_flips_the_sign_of_the_effect() {
        assert_eq!(priority(100, weight(5, true), Health::Up), 95);
        assert_eq!(priority(100, weight(5, true), Health::Down), 100);
        assert_eq!(priority(100, weight(-5, true), Health::Down), 105);
    }

    #[test]
    fn before_its_first_result_a_weighted_check_counts_as_neither() {
        assert_eq!(priority(100, weight(20, false), Health::Unknown), 100);
        assert_eq!(priority(100, weight(-20, false), Health::Unknown), 100);
    }

    #[test]
    fn weight_zero_is_a_fault_while_down_and_before_the_first_result() {
        let fault = Effect::Fault { reverse: false };
        assert_eq!(standing(100, [check(fault, Health::Up)]).faults, []);
        assert_eq!(
            standing(100, [check(fault, Health::Down)]).faults,
            [Fault::Check { check: "c".into(), detail: "said".into() }]
        );
        assert_eq!(
            standing(100, [check(fault, Health::Unknown)]).faults,
            [Fault::CheckUnknown { check: "c".into() }]
        );
        let reversed = Effect::Fault { reverse: true };
        assert_eq!(standing(100, [check(reversed, Health::Down)]).faults, []);
        assert_eq!(standing(100, [check(reversed, Health::Up)]).faults.len(), 1);
    }

    /// keepalived-behaviour §7.2: value 20 is +20, 400 is +253 (353, effective 254), -300 is FAULT.
    #[test]
    fn file_values_are_limited_as_keepalived_limits_them() {
        let value = |value| {
            let effect = Effect::Value { weight: 1, reverse: false };
            standing(100, [Tracked { value: Some(value), ..check(effect, Health::Up) }])
        };
        assert_eq!(value(20).priority, 120);
        assert_eq!(value(400).priority, 254);
        assert_eq!(value(400).weights[0].delta, 253);
        assert_eq!(value(-300).faults.len(), 1);
        assert_eq!(value(-253).priority, 1);
    }

    /// keepalived-behaviour §7.2, observed: with weight 0 any value but 0 is FAULT; `reverse` inverts.
    #[test]
    fn a_file_of_weight_0_is_fault_unless_it_holds_0() {
        let faults = |value, reverse| {
            let effect = Effect::Fault { reverse };
            standing(100, [Tracked { value: Some(value), ..check(effect, Health::Up) }]).faults.len()
        };
        assert_eq!([0, 1, -1, 400].map(|value| faults(value, false)), [0, 1, 1, 1]);
        assert_eq!([0, 1, -1, 400].map(|value| faults(value, true)), [1, 0, 0, 0]);
    }

    /// Value × weight decides, and the sign of it: -254 and below is FAULT, above that at most ±253.
    #[test]
    fn the_product_of_value_and_weight_is_what_is_limited() {
        let effective = |value, weight, reverse| {
            let effect = Effect::Value { weight, reverse };
            let one = standing(100, [Tracked { value: Some(value), ..check(effect, Health::Up) }]);
            (one.priority, one.weights.first().map_or(0, |weight| weight.delta), one.faults.len())
        };
        assert_eq!(effective(10, 2, false), (120, 20, 0));
        assert_eq!(effective(10, -2, false), (80, -20, 0));
        assert_eq!(effective(10, 2, true), (80, -20, 0));
        assert_eq!(effective(127, 2, false), (254, 253, 0));
        assert_eq!(effective(-127, 2, false), (100, 0, 1));
        assert_eq!(effective(127, -2, false), (100, 0, 1));
        assert_eq!(effective(-253, 1, false), (1, -253, 0));
        assert_eq!(effective(-254, 1, false), (100, 0, 1));
        assert_eq!(effective(-254, 1, true), (254, 253, 0));
        assert_eq!(effective(2_147_483_647, 254, false), (254, 253, 0));
    }

    /// keepalived 2.2.7 starts with the value of the file: `BACKUP 107` is its first word.
    #[test]
    fn a_file_that_was_not_read_yet_is_waited_for() {
        let effect = Effect::Value { weight: 1, reverse: false };
        let result = standing(100, [check(effect, Health::Unknown)]);
        assert_eq!(result.faults, [Fault::CheckUnknown { check: "c".into() }]);
    }

    #[test]
    fn the_sum_is_limited_only_at_the_end() {
        let both = [check(weight(200, false), Health::Up), check(weight(-150, false), Health::Down)];
        assert_eq!(standing(100, both).priority, 150);
    }

    #[test]
    fn nothing_changes_the_owner() {
        let result = standing(255, [check(weight(-20, false), Health::Down)]);
        assert_eq!((result.priority, result.weights.len()), (255, 0));
    }
}
