//! Groups of instances, once these are complete.

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
    for group in groups {
        let is_member = |instance: &&mut Instance| group.members.iter().any(|m| m.value == instance.name);
        let owner = instances.iter_mut().filter(is_member).any(|instance| instance.priority == 255);
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
        for instance in instances.iter_mut().filter(|instance| group.members.contains(&instance.name)) {
            tracked_twice(instance, &group);
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
