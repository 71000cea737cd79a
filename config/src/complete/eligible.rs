//! `eligible_when`: the VIP follows the ability to forward.

use std::net::IpAddr;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::model::{Check, Instance, Listener, Model, TrackCheck};
use crate::ready::{Dial, Effect, Pace, Probe};

/// Takes every priority down to the lowest, and never to FAULT: where all hosts are as bad, none takes the address
/// from the one that has it.
const LOWEST: i16 = -253;
/// A change is heard at once; this is how often it is looked at besides.
const INTERVAL: Duration = Duration::from_secs(1);

/// Turns it into a check of the listeners on the addresses of the instance, which the instance tracks.
pub(super) fn expand(model: &mut Model, diagnostics: &mut Diagnostics) {
    let Model { instances, listeners, checks, .. } = model;
    for instance in instances {
        let Some(at) = instance.eligible_when.take() else { continue };
        if instance.priority.as_ref().is_some_and(|priority| priority.value == 255) {
            let finding = Diagnostic::error("conflict", &at, "`eligible_when` with priority 255");
            diagnostics.push(finding.expected("a priority below 255").help(
                "the owner of an address advertises 255 and nothing else (RFC 9568 section 5.2.4), so it cannot step back",
            ));
            continue;
        }
        let names: Vec<String> = listeners
            .iter()
            .filter(|listener| is_of(listener, instance))
            .map(|listener| listener.name.value.clone())
            .collect();
        if names.is_empty() {
            let finding =
                Diagnostic::error("missing-key", &at, "no listener is on an address of this instance");
            diagnostics.push(finding.expected("a `[[listener]]` that binds one of `addresses`"));
            continue;
        }
        let name = Located::new(format!("{}/forwarder", instance.name.value), at);
        let effect = Effect::Weight { weight: LOWEST, reverse: false };
        instance.trackers.checks.push(TrackCheck { check: name.clone(), effect });
        checks.push(Check {
            name,
            probe: Probe::Listeners { names },
            interval: INTERVAL,
            timeout: None,
            rise: 1,
            fall: 1,
            first_result_decides: true,
            pace: Pace::default(),
            dial: Dial::default(),
            only_if_used: false,
        });
    }
}

/// As [`instances_of`](super::instances_of), before anything is complete.
fn is_of(listener: &Listener, instance: &Instance) -> bool {
    if let Some(named) = &listener.instances {
        return named.iter().any(|name| name.value == instance.name.value);
    }
    let mut held = instance.addresses.iter().chain(&instance.excluded);
    let binds = |address: IpAddr| listener.bind.iter().any(|bind| bind.value.ip() == address);
    held.any(|held| binds(held.value.address.address))
}
