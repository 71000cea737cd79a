//! How far the priority of an instance can move.

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Config, Effect, Instance};

use super::{Host, Router};

/// The priorities that an instance can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub lowest: i32,
    pub highest: i32,
}

impl Range {
    /// Kept within 1–254, as it is sent. Every tracker is taken to be able to be up or down on its own.
    pub fn of(config: &Config, instance: &Instance) -> Self {
        let base = i32::from(instance.priority);
        if instance.priority == 255 {
            return Self { lowest: base, highest: base };
        }
        let (mut lowest, mut highest) = (base, base);
        for effect in effects(config, instance) {
            match effect {
                Effect::Fault { .. } => {}
                Effect::Weight { weight, reverse } => {
                    let signed = i32::from(if reverse { -weight } else { weight });
                    lowest += signed.min(0);
                    highest += signed.max(0);
                }
                Effect::Value { .. } => return Self { lowest: 1, highest: 254 },
            }
        }
        Self { lowest: lowest.max(1), highest: highest.min(254) }
    }
}

/// Of the instance's own trackers and those of its group.
fn effects<'c>(config: &'c Config, instance: &'c Instance) -> impl Iterator<Item = Effect> + 'c {
    let own = (instance.track_checks.iter().map(|t| t.effect))
        .chain(instance.track_interfaces.iter().map(|t| t.effect))
        .chain(instance.track_bfd.iter().map(|t| t.effect));
    let groups = config.sync_groups.iter().filter(|group| group.members.contains(&instance.name));
    let of_group = groups.flat_map(|group| {
        (group.track_checks.iter().map(|t| t.effect))
            .chain(group.track_interfaces.iter().map(|t| t.effect))
            .chain(group.track_bfd.iter().map(|t| t.effect))
    });
    own.chain(of_group)
}

fn is_weight(effect: Effect) -> bool {
    matches!(effect, Effect::Weight { .. })
}

/// Where the first weight of an instance is tracked; `None` if it has none of its own.
pub(super) fn first_weight<'h>(router: Router<'h>) -> Option<&'h Location> {
    let (ready, trackers) = (router.ready, &router.meant.trackers);
    let check = trackers
        .checks
        .iter()
        .map(|t| &t.check)
        .find(|name| ready.track_checks.iter().any(|t| t.check == name.value && is_weight(t.effect)));
    let interface = || {
        trackers.interfaces.iter().map(|(name, _)| name).find(|name| {
            ready.track_interfaces.iter().any(|t| t.interface == name.value && is_weight(t.effect))
        })
    };
    let bfd = || {
        trackers
            .bfd
            .iter()
            .map(|(name, _)| name)
            .find(|name| ready.track_bfd.iter().any(|t| t.bfd == name.value && is_weight(t.effect)))
    };
    check.or_else(interface).or_else(bfd).map(|name| &name.at)
}

pub(super) fn judge(host: &Host, diagnostics: &mut Diagnostics) {
    for router in host.routers().filter(|router| router.ready.priority != 255) {
        let Some(at) = first_weight(router) else { continue };
        over_the_top(host, router, at, diagnostics);
        if !router.ready.preempt {
            let message = format!("{} has weights and does not preempt", router.ready.name);
            let finding = Diagnostic::notice("weight-with-nopreempt", at, message);
            diagnostics.push(finding.expected("a check without a weight, or preemption").help(
                "if its peers do not preempt either, none takes over when the weights lower the priority of the \
                 active router; without a weight a failure means FAULT, and it lets go",
            ));
        }
    }
}

/// What is over 254 is cut off, and routers of different priority become equal.
fn over_the_top(host: &Host, router: Router<'_>, at: &Location, diagnostics: &mut Diagnostics) {
    let base = i32::from(router.ready.priority);
    let added: i32 = effects(&host.config, router.ready)
        .filter_map(|effect| match effect {
            Effect::Weight { weight, reverse } => Some(i32::from(if reverse { -weight } else { weight })),
            _ => None,
        })
        .map(|weight| weight.max(0))
        .sum();
    if base + added > 254 {
        let message = format!("priority {base} and weights of +{added} are {}, over 254", base + added);
        let finding = Diagnostic::notice("weight-over-range", at, message);
        diagnostics.push(finding.expected(format!("a priority of at most {}, or smaller weights", (254 - added).max(1))).help(
            "254 is used, as in keepalived: a failure takes off less than its weight, and routers may become equal",
        ));
    }
}
