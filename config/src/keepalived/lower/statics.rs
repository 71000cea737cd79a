//! What is there as long as the daemon runs: `static_ipaddress`, and the `track_group`s that need it.

use crate::diagnostic::{Diagnostic, Located};
use crate::model::{StaticAddress, TrackGroup};
use crate::written::Statement;

use super::{Lower, inside, located};

/// Of static addresses without `dev`, when `default_interface` is not written.
const DEFAULT_INTERFACE: &str = "eth0";

impl Lower<'_> {
    pub(super) fn static_addresses(&mut self, block: &Statement) {
        for entry in inside(block) {
            let Some((address, track_group)) = self.address_line(entry, true) else { continue };
            let Located { value, at } = address;
            let default = self.globals.default_interface.as_ref().map(|i| i.value.clone());
            let interface = value.interface.map(|i| i.value).or(default);
            let mut made = value.address;
            made.interface = interface.unwrap_or_else(|| DEFAULT_INTERFACE.to_owned());
            if track_group.is_some() && !made.track {
                let finding =
                    Diagnostic::warning("not-tracked", &at, "`track_group` and `no_track` on one address");
                self.diagnostics.push(finding.help("no instance waits for it, as in keepalived"));
            }
            let address = Located::new(made, at);
            self.model.static_addresses.push(StaticAddress { address, track_group });
        }
    }

    pub(super) fn static_track_group(&mut self, statement: &Statement) {
        let [name] = statement.parameters() else {
            let finding =
                Diagnostic::warning("missing-name", statement.at(), "`track_group` must have one name");
            self.diagnostics
                .push(finding.expected("one word behind it").help("it is skipped, as in keepalived"));
            return;
        };
        let name = located(name);
        if self.track_groups.contains(&name.value) {
            let message = format!("`track_group` {} is defined twice", name.value);
            self.diagnostics
                .push(Diagnostic::warning("duplicate", &name.at, message).help("the first counts"));
            return;
        }
        let mut groups = inside(statement).iter().filter(|s| s.keyword() == "group");
        let members = groups.next().map(inside).unwrap_or_default();
        let instances: Vec<_> = members.iter().flat_map(|entry| &entry.words).map(located).collect();
        for again in groups {
            let finding = Diagnostic::warning("repeated", again.at(), "`group` is written twice");
            self.diagnostics.push(finding.help("the first counts, as in keepalived"));
        }
        if instances.is_empty() {
            let message = format!("track group {} has no members", name.value);
            let finding = Diagnostic::warning("no-members", &name.at, message);
            self.diagnostics
                .push(finding.expected("`group { INSTANCE … }`").help("it is removed, as in keepalived"));
            return;
        }
        self.track_groups.insert(name.value.clone());
        self.model.track_groups.push(TrackGroup { name, instances });
    }

    /// Members that do not exist are left out, when all instances are known.
    pub(super) fn finish_track_groups(&mut self) {
        for group in &mut self.model.track_groups {
            let mut kept: Vec<Located<String>> = Vec::new();
            for member in std::mem::take(&mut group.instances) {
                if !self.instances.contains_key(&member.value) {
                    let message = format!("there is no instance {}", member.value);
                    let finding = Diagnostic::warning("unknown-instance", &member.at, message);
                    let known = self.instances.keys().map(String::as_str);
                    let finding = match self.diagnostics.suggest(&member.value, known) {
                        Some(meant) => finding.expected(format!("`{meant}`?")),
                        None => finding.expected("the name of a `vrrp_instance`"),
                    };
                    self.diagnostics.push(finding.help("it is left out of the group, as in keepalived"));
                } else if !kept.iter().any(|k| k.value == member.value) {
                    kept.push(member);
                }
            }
            group.instances = kept;
        }
    }
}
