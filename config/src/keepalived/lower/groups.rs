//! `vrrp_sync_group`.

use crate::diagnostic::Diagnostic;
use crate::model::{SyncGroup, Trackers};
use crate::ready::Notify;
use crate::written::Statement;

use super::{Kind, Lower, inside, located};

impl Lower<'_> {
    pub(super) fn vrrp_sync_group(&mut self, block: &Statement) {
        let [name] = block.parameters() else {
            let finding =
                Diagnostic::warning("missing-name", block.at(), "`vrrp_sync_group` must have one name");
            self.diagnostics
                .push(finding.expected("one word behind it").help("it is skipped, as in keepalived"));
            return;
        };
        let name = located(name);
        if let Some(first) = self.groups.get(&name.value) {
            let message = format!("`vrrp_sync_group` {} is defined twice", name.value);
            let help = format!("the first counts, at {}", first.place);
            self.diagnostics.push(Diagnostic::warning("duplicate", &name.at, message).help(help));
            return;
        }
        self.groups.insert(name.value.clone(), name.at.clone());
        let mut group = SyncGroup {
            name,
            members: Vec::new(),
            trackers: Trackers::default(),
            tracking_weight: false,
            notify: Notify::default(),
            smtp_alert: self.globals.smtp_alert(),
        };
        for statement in inside(block) {
            self.group_directive(statement, &mut group);
        }
        self.model.sync_groups.push(group);
    }

    /// Groups may stand before their instances: members are looked up when all are known.
    pub(super) fn finish_groups(&mut self) {
        let mut grouped = std::collections::HashMap::new();
        for mut group in std::mem::take(&mut self.model.sync_groups) {
            group.members.retain(|member| {
                let name = &group.name.value;
                let (message, known) = if !self.instances.contains_key(&member.value) {
                    let known = self.instances.keys().map(String::as_str);
                    let meant = self.diagnostics.suggest(&member.value, known);
                    (format!("there is no instance {}", member.value), meant)
                } else if let Some(first) = grouped.insert(member.value.clone(), name.clone()) {
                    grouped.insert(member.value.clone(), first.clone());
                    (format!("instance {} is in group {first} already", member.value), None)
                } else {
                    return true;
                };
                let finding = Diagnostic::warning("group-member", &member.at, message);
                let finding = match known {
                    Some(meant) => finding.expected(format!("`{meant}`?")),
                    None => finding,
                };
                let help = format!("it is no member of {name}, as in keepalived");
                self.diagnostics.push(finding.help(help));
                false
            });
            if group.members.is_empty() {
                let message = format!("group {} has no members", group.name.value);
                let finding = Diagnostic::warning("empty-group", &group.name.at, message);
                self.diagnostics.push(finding.help("it is removed, as in keepalived"));
                continue;
            }
            self.pass_on_priority_changes(&group);
            self.model.sync_groups.push(group);
        }
    }

    /// What a group says of `notify_priority_changes` goes for its members that say nothing.
    fn pass_on_priority_changes(&mut self, group: &SyncGroup) {
        let Some(on) = self.priority_changes.get(&(true, group.name.value.clone())) else { return };
        for instance in &mut self.model.instances {
            let name = &instance.name.value;
            if group.members.iter().any(|member| member.value == *name)
                && !self.priority_changes.contains_key(&(false, name.clone()))
            {
                instance.notify.priority_changes = *on;
            }
        }
    }

    fn group_directive(&mut self, statement: &Statement, group: &mut SyncGroup) {
        match statement.keyword() {
            "group" => {
                let words = inside(statement).iter().flat_map(|entry| &entry.words);
                group.members.extend(words.map(located));
            }
            "track_interface" => self.track_interfaces(statement, &mut group.trackers),
            "track_script" => self.track_checks(statement, Kind::Script, &mut group.trackers),
            "track_file" => self.track_checks(statement, Kind::File, &mut group.trackers),
            "track_process" => self.track_checks(statement, Kind::Process, &mut group.trackers),
            "track_bfd" => self.track_bfd(statement, &mut group.trackers),
            "smtp_alert" => {
                if let Some(on) = self.boolean(statement) {
                    group.smtp_alert = on.value;
                }
            }
            "notify_priority_changes" => {
                if let Some(on) = self.boolean(statement) {
                    group.notify.priority_changes = on.value;
                    self.priority_changes.insert((true, group.name.value.clone()), on.value);
                }
            }
            "sync_group_tracking_weight" => group.tracking_weight = true,
            "global_tracking" => {
                let finding =
                    Diagnostic::warning("deprecated", &statement.whole(), "`global_tracking` is deprecated");
                self.diagnostics.push(finding.expected("`track_script` and the like in the group").help(
                    "trackers of a group act on all members; the word counts as `sync_group_tracking_weight`, as in keepalived",
                ));
                group.tracking_weight = true;
            }
            keyword if keyword.starts_with("notify") => self.notify(statement, &mut group.notify),
            other => debug_assert!(false, "no meaning for {other}"),
        }
    }
}
