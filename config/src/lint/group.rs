//! Members of a group that want different things.

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::ready::{Instance, SyncGroup};

use super::{Host, Router};

pub(super) fn judge(host: &Host, diagnostics: &mut Diagnostics) {
    for group in &host.config.sync_groups {
        let Some(written) = host.written.groups.get(&group.name) else { continue };
        let members: Vec<_> = group.members.iter().filter_map(|name| host.named(name)).collect();
        mixed(group, &written.name, &members, diagnostics);
    }
}

/// What the members of a group differ in, one finding for each.
fn mixed(group: &SyncGroup, name: &Located<String>, members: &[Router<'_>], diagnostics: &mut Diagnostics) {
    let starts_active = |instance: &Instance| instance.wants_active || instance.start_active;
    if let Some((one, other)) = differ(members, starts_active) {
        let (active, backup) = if starts_active(one.ready) { (one, other) } else { (other, one) };
        let message = format!(
            "group {}: {} begins as MASTER and {} as BACKUP",
            group.name, active.ready.name, backup.ready.name
        );
        let finding = Diagnostic::notice("group-states", backup.first_state(), message);
        diagnostics.push(finding.expected("the same state in all members").help(
            "the group is active on one host as a whole; the priorities say on which, the states do not",
        ));
    }
    if let Some((one, other)) = differ(members, |instance| instance.preempt) {
        let (yes, no) = if one.ready.preempt { (one, other) } else { (other, one) };
        let message =
            format!("group {}: {} preempts and {} does not", group.name, yes.ready.name, no.ready.name);
        let finding = Diagnostic::warning("group-preemption", no.preempt(), message);
        diagnostics.push(
            finding
                .expected("preemption in all members or in none")
                .help("a group becomes active when all members want to, so the one that does not preempt holds the others back"),
        );
    }
    if let (false, Some((one, other))) =
        (group.tracking_weight, differ(members, |instance| instance.priority))
    {
        let message = format!(
            "group {}: {} has priority {} and {} has {}",
            group.name, one.ready.name, one.ready.priority, other.ready.name, other.ready.priority
        );
        let finding = Diagnostic::notice("group-priorities", &name.at, message);
        diagnostics.push(finding.expected("one priority for all members").help(
            "where the members disagree on which host is better, each host waits for the other; give every host one priority",
        ));
    }
}

/// Two members that differ in something.
fn differ<'m, T: PartialEq>(
    members: &'m [Router<'_>],
    of: impl Fn(&Instance) -> T,
) -> Option<(Router<'m>, Router<'m>)> {
    let first = *members.first()?;
    let other = members.iter().find(|member| of(member.ready) != of(first.ready))?;
    Some((first, *other))
}
