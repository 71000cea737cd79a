//! What an instance does besides its addresses, and what `global_defs` says about interfaces and the firewall.

use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located};
use crate::model::Instance;
use crate::ready::{ExtraAnnouncements, Firewall};
use crate::written::Statement;

use super::values::Rest;
use super::{Lower, located};

const IGNORED: &str = "the line is ignored, as in keepalived";

impl Lower<'_> {
    /// `false` for a word of `global_defs` that belongs elsewhere.
    pub(super) fn network_global(&mut self, statement: &Statement) -> bool {
        match statement.keyword() {
            "nftables" => {
                let table = statement.parameter().map_or("keepalived", |word| word.text.as_str());
                if table.len() > 255 || table.is_empty() {
                    self.invalid(&statement.words[1], "a name of 1 to 255 bytes", IGNORED);
                } else {
                    table.clone_into(&mut self.firewall(statement).table);
                }
            }
            "nftables_priority" => {
                let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
                let word = self.required(statement, "a number");
                let number = word.and_then(|word| self.number(word, range, Rest::Warned, IGNORED));
                if let Some(priority) = number.and_then(|number| i32::try_from(number).ok()) {
                    self.firewall(statement).priority = priority;
                }
            }
            "nftables_counters" => self.firewall(statement).counters = true,
            "nftables_ifindex" => self.firewall(statement).by_index = true,
            "vmac_prefix" | "vmac_addr_prefix" => self.vmac_prefix(statement),
            "vrrp_garp_extra_if" | "vrrp_vmac_garp_intvl" => {
                if let Some(extra) = self.extra_announcements(statement, 1) {
                    self.globals.extra_announcements = extra;
                }
            }
            "iproute_etc_dir" | "iproute_usr_dir" => {
                let Some(word) = self.required(statement, "a folder") else { return true };
                let folder = PathBuf::from(&word.text);
                if statement.keyword() == "iproute_etc_dir" {
                    self.globals.iproute.etc = folder;
                } else {
                    self.globals.iproute.usr = vec![folder];
                }
            }
            _ => return false,
        }
        true
    }

    fn firewall(&mut self, statement: &Statement) -> &mut Firewall {
        let at = statement.whole();
        &mut self.model.firewall.get_or_insert_with(|| Located::new(Firewall::default(), at)).value
    }

    /// `false` for a word of `vrrp_instance` that belongs elsewhere.
    pub(super) fn network_directive(&mut self, statement: &Statement, instance: &mut Instance) -> bool {
        match statement.keyword() {
            "virtual_routes" => {
                let routes = self.routes(statement, false);
                instance.routes.extend(routes);
            }
            "virtual_rules" => {
                let rules = self.rules(statement, false);
                instance.rules.extend(rules);
            }
            "promote_secondaries" => instance.promote_secondaries = true,
            "garp_extra_if" | "vmac_garp_intvl" => {
                if let Some(extra) = self.extra_announcements(statement, 0) {
                    instance.extra_announcements = extra;
                }
            }
            _ => return false,
        }
        true
    }

    /// `[all] SECONDS`; 0 is never.
    fn extra_announcements(
        &mut self,
        statement: &Statement,
        least: i64,
    ) -> Option<Option<ExtraAnnouncements>> {
        if statement.keyword().ends_with("intvl") {
            let keyword = statement.keyword().replace("vmac_garp_intvl", "garp_extra_if");
            self.deprecated(&statement.words[0], &keyword);
        }
        let (mut all, mut seconds) = (false, None);
        for word in statement.parameters() {
            if word.text == "all" {
                all = true;
            } else {
                let number = self.number(word, least..=86_400, Rest::Warned, IGNORED)?;
                seconds = u64::try_from(number).ok();
            }
        }
        let Some(seconds) = seconds else {
            let message = format!("`{}` without a time", statement.keyword());
            let finding = Diagnostic::warning("missing-parameter", &statement.whole(), message);
            self.diagnostics.push(finding.expected("`[all] SECONDS`").help(IGNORED));
            return None;
        };
        let interval = Duration::from_secs(seconds);
        Some((seconds > 0).then_some(ExtraAnnouncements { all, interval }))
    }

    fn vmac_prefix(&mut self, statement: &Statement) {
        let Some(word) = self.required(statement, "the beginning of an interface's name") else { return };
        if !super::vmac::is_interface_name(&word.text) {
            return self.invalid(word, "the beginning of an interface's name", IGNORED);
        }
        let prefixes = &mut self.globals.vmac_prefixes;
        let slot = if statement.keyword() == "vmac_prefix" { &mut prefixes.0 } else { &mut prefixes.1 };
        match slot.as_ref().map(|first| first.at.place.clone()) {
            None => *slot = Some(located(word)),
            Some(first) => {
                let message = format!("`{}` is written twice", statement.keyword());
                let finding = Diagnostic::warning("ignored-repetition", &statement.whole(), message);
                self.diagnostics.push(finding.help(format!("the first counts, at {first}")));
            }
        }
    }
}
