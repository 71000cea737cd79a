//! Groups of instances, once these are complete.

use std::collections::HashMap;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::model;
use crate::ready::{Effect, Instance, SyncGroup};

use super::trackers::Rules;

/// The groups; members lose what their group tracks too.
pub(super) fn complete(
    groups: Vec<model::SyncGroup>,
    instances: &mut [Instance],
    rules: &Rules,
    diagnostics: &mut Diagnostics,
) -> Vec<SyncGroup> {
    let mut made = Vec::new();
    let known: HashMap<_, _> =
        instances.iter().map(|instance| instance.name.clone()).zip(0..instances.len()).collect();
    for group in groups {
        let members: Vec<_> =
            group.members.iter().filter_map(|member| known.get(&member.value)).copied().collect();
        let owner = members.iter().any(|member| instances[*member].priority == 255);
        let tracked = rules.of_group(&group, owner, diagnostics);
        if group.members.len() == 1 {
            let message = format!("group {} has one member", group.name.value);
            let finding = Diagnostic::warning("group-of-one", &group.name.at, message);
            diagnostics.push(finding.expected("at least two instances").help("it works, but groups nothing"));
        }
        let group = SyncGroup {
            name: group.name.value,
            members: group.members.into_iter().map(|member| member.value).collect(),
            track_checks: tracked.checks,
            track_interfaces: tracked.interfaces,
            track_bfd: tracked.bfd,
            tracking_weight: group.tracking_weight,
            notify: group.notify,
            smtp_alert: group.smtp_alert,
            place: group.name.at.place,
        };
        for member in members {
            tracked_twice(&mut instances[member], &group);
        }
        made.push(group);
    }
    made
}

/// keepalived uses the weight of the group for what a member tracks with a weight too.
fn tracked_twice(instance: &mut Instance, group: &SyncGroup) {
    let weighted = |effect: Effect| !matches!(effect, Effect::Fault { .. });
    instance.track_checks.retain(|own| {
        !(weighted(own.effect) && group.track_checks.iter().any(|theirs| theirs.check == own.check))
    });
    instance.track_interfaces.retain(|own| {
        !(weighted(own.effect) && group.track_interfaces.iter().any(|t| t.interface == own.interface))
    });
    instance
        .track_bfd
        .retain(|own| !(weighted(own.effect) && group.track_bfd.iter().any(|t| t.bfd == own.bfd)));
}
