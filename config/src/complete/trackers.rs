//! What instances track, when the priority may move, and when it may not.

use std::collections::{HashMap, HashSet};

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::model::{self, Model};
use crate::ready::{Effect, Probe, TrackBfd, TrackCheck, TrackInterface};

/// What the trackers of an instance depend on beside itself.
pub(super) struct Rules {
    /// Members of groups, and whether weights count there (`sync_group_tracking_weight`).
    members: HashMap<String, bool>,
    /// Checks that count processes: keepalived 2.2.7 leaves their weights alone in groups.
    processes: HashSet<String>,
    /// What a BFD session does when the tracker does not say.
    sessions: HashMap<String, Effect>,
}

/// Trackers that act.
#[derive(Default)]
pub(super) struct Tracked {
    pub checks: Vec<TrackCheck>,
    pub interfaces: Vec<TrackInterface>,
    pub bfd: Vec<TrackBfd>,
}

impl Rules {
    pub fn new(model: &Model) -> Self {
        let mut members = HashMap::new();
        for group in &model.sync_groups {
            for member in &group.members {
                members.entry(member.value.clone()).or_insert(group.tracking_weight);
            }
        }
        let processes = model.checks.iter().filter(|check| matches!(check.probe, Probe::Process(_)));
        Self {
            members,
            processes: processes.map(|check| check.name.value.clone()).collect(),
            sessions: model.bfd.iter().map(|bfd| (bfd.name.clone(), bfd.effect)).collect(),
        }
    }

    /// What an instance tracks: the owner's priority never moves, nor does that of a member of a group in
    /// which weights do not count.
    pub fn of_instance(
        &self,
        meant: &model::Instance,
        owner: bool,
        own: Option<&str>,
        diagnostics: &mut Diagnostics,
    ) -> Tracked {
        let fixed = self.members.get(&meant.name.value) == Some(&false);
        let trackers = &meant.trackers;
        let mut tracked = Tracked::default();
        for tracker in &trackers.checks {
            let name = &tracker.check;
            let fixed = fixed && !self.processes.contains(&name.value);
            if counts(tracker.effect, owner, name, diagnostics)
                && let Some(effect) = in_group(tracker.effect, fixed, name, diagnostics)
            {
                tracked.checks.push(TrackCheck { check: name.value.clone(), effect });
            }
        }
        self.interfaces(meant, owner, own, fixed, &mut tracked, diagnostics);
        for (name, _) in &trackers.bfd {
            let effect = self.session_effect(trackers, name);
            if counts(effect, owner, name, diagnostics)
                && let Some(effect) = in_group(effect, fixed, name, diagnostics)
            {
                tracked.bfd.push(TrackBfd { bfd: name.value.clone(), effect });
            }
        }
        tracked
    }

    /// What a group tracks. With an owner among its members no priority moves.
    pub fn of_group(&self, group: &model::SyncGroup, owner: bool, diagnostics: &mut Diagnostics) -> Tracked {
        let trackers = &group.trackers;
        let mut cleared = |effect: Effect, name: &Located<String>| {
            let fault = without_weight(effect);
            if owner && fault != effect {
                let message =
                    format!("{} has a weight, but an owner is in group {}", name.value, group.name.value);
                let finding = Diagnostic::warning("weight-for-owner", &name.at, message);
                diagnostics.push(finding.help("down means FAULT, as in keepalived"));
                return fault;
            }
            effect
        };
        let check = |t: &model::TrackCheck| TrackCheck {
            check: t.check.value.clone(),
            effect: cleared(t.effect, &t.check),
        };
        let checks = trackers.checks.iter().map(check).collect();
        let interfaces = trackers.interfaces.iter().map(|(interface, effect)| TrackInterface {
            interface: interface.value.clone(),
            effect: cleared(*effect, interface),
        });
        let interfaces = interfaces.collect();
        let bfd = trackers.bfd.iter().map(|(name, _)| TrackBfd {
            bfd: name.value.clone(),
            effect: cleared(self.session_effect(trackers, name), name),
        });
        Tracked { checks, interfaces, bfd: bfd.collect() }
    }

    fn session_effect(&self, trackers: &model::Trackers, name: &Located<String>) -> Effect {
        let written = trackers.bfd.iter().find(|(bfd, _)| bfd == name).and_then(|(_, effect)| *effect);
        let session = || self.sessions.get(&name.value).copied();
        written.or_else(session).unwrap_or(Effect::Fault { reverse: false })
    }

    fn interfaces(
        &self,
        meant: &model::Instance,
        owner: bool,
        own: Option<&str>,
        fixed: bool,
        tracked: &mut Tracked,
        diagnostics: &mut Diagnostics,
    ) {
        let own = own.filter(|_| meant.track_primary);
        if let Some(own) = own {
            let effect = Effect::Fault { reverse: false };
            tracked.interfaces.push(TrackInterface { interface: own.to_owned(), effect });
        }
        for (interface, effect) in &meant.trackers.interfaces {
            if Some(interface.value.as_str()) == own {
                let message =
                    format!("{} is the instance's own interface and tracked in any case", interface.value);
                let at = &interface.at;
                diagnostics.push(match *effect == (Effect::Fault { reverse: false }) {
                    true => Diagnostic::notice("own-interface", at, message).help("the word can go"),
                    false => Diagnostic::warning("own-interface", at, message).help(
                        "its weight is ignored, as in keepalived; a weight needs `track_primary = false` in TOML",
                    ),
                });
            } else if counts(*effect, owner, interface, diagnostics) {
                let mut effect = *effect;
                if fixed && without_weight(effect) != effect {
                    let message = format!("{} has a weight, and the instance is in a group", interface.value);
                    let finding = Diagnostic::warning("weight-in-group", &interface.at, message);
                    diagnostics.push(finding.help(WEIGHTS_COUNT.replace("IT", "down means FAULT")));
                    effect = without_weight(effect);
                }
                tracked.interfaces.push(TrackInterface { interface: interface.value.clone(), effect });
            }
        }
    }
}

const WEIGHTS_COUNT: &str =
    "IT, as in keepalived; weights count with `sync_group_tracking_weight` in the group";

fn without_weight(effect: Effect) -> Effect {
    match effect {
        Effect::Fault { reverse } | Effect::Weight { reverse, .. } | Effect::Value { reverse, .. } => {
            Effect::Fault { reverse }
        }
    }
}

/// The owner's priority never moves: only what puts it in FAULT counts.
fn counts(effect: Effect, owner: bool, name: &Located<String>, diagnostics: &mut Diagnostics) -> bool {
    if !owner || matches!(effect, Effect::Fault { .. }) {
        return true;
    }
    let message = format!("{} has a weight, but the priority 255 of the owner never moves", name.value);
    let finding = Diagnostic::warning("weight-for-owner", &name.at, message);
    diagnostics.push(
        finding.help("it is not tracked, as in keepalived; use a priority of at most 254, or no weight"),
    );
    false
}

/// Members of a group in which weights do not count keep what puts them in FAULT. A file of weight 1, the
/// default, becomes such.
fn in_group(
    effect: Effect,
    fixed: bool,
    name: &Located<String>,
    diagnostics: &mut Diagnostics,
) -> Option<Effect> {
    let (left, what) = match effect {
        _ if !fixed => return Some(effect),
        Effect::Fault { .. } => return Some(effect),
        Effect::Value { weight: 1, .. } => (Some(without_weight(effect)), "any value but 0 means FAULT"),
        Effect::Value { .. } | Effect::Weight { .. } => (None, "it is not tracked"),
    };
    let message = format!("{} has a weight, and the instance is in a group", name.value);
    let finding = Diagnostic::warning("weight-in-group", &name.at, message);
    diagnostics.push(finding.help(WEIGHTS_COUNT.replace("IT", what)));
    left
}
