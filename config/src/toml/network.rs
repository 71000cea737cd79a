//! VMACs, the firewall, and what is there as long as the daemon runs.

use std::time::Duration;

use toml::de::DeValue;

use crate::diagnostic::{Diagnostic, Located};
use crate::keepalived::{is_interface_name, mac};
use crate::model::{Instance, StaticAddress, TrackGroup};
use crate::ready::{ExtraAnnouncements, Firewall, Vmac};

use super::Door;
use super::table::Table;

/// Of the names of VMACs.
pub(crate) const VMAC_PREFIX: &str = "vrrp";
const PREFIX: &str = "the beginning of an interface's name";

impl Door<'_> {
    /// What moves with an instance besides its addresses.
    pub(super) fn network(&mut self, table: &mut Table<'_>, instance: &mut Instance) {
        instance.vmac = self.vmac(table);
        let for_others = instance.vmac.as_ref().filter(|vmac| vmac.for_other_interfaces);
        instance.vmac_for_others = for_others.map(|vmac| vmac.prefix.clone());
        instance.routes = self.routes(table, "routes", false);
        instance.rules = self.rules(table, "rules", false);
        instance.promote_secondaries = self.boolean(table, "promote_secondaries").is_some_and(|on| on.value);
        if let Some(mut extra) = self.table(table, "extra_announcements") {
            let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
            let all = self.boolean(&mut extra, "all").is_some_and(|on| on.value);
            match self.duration(&mut extra, "interval", range) {
                Some(interval) => {
                    instance.extra_announcements = Some(ExtraAnnouncements { all, interval: interval.value });
                }
                None if !extra.has("interval") => self.missing(&extra, "interval", "such as \"10s\""),
                None => {}
            }
            self.finish(extra);
        }
    }

    /// `vmac = true`, or a table.
    fn vmac(&mut self, table: &mut Table<'_>) -> Option<Vmac> {
        let plain = Vmac {
            name: None,
            prefix: VMAC_PREFIX.to_owned(),
            mac: None,
            transmit_on_base: false,
            for_other_interfaces: false,
            group: None,
        };
        let value = self.value(table, "vmac")?;
        if let DeValue::Boolean(on) = value.get_ref() {
            return on.then_some(plain);
        }
        let mut table = self.as_table(value)?;
        let mut made = plain;
        made.name = self.interface_name(&mut table, "name", "the name of an interface, at most 15 bytes");
        made.prefix = self.interface_name(&mut table, "prefix", PREFIX).unwrap_or(made.prefix);
        if let Some(text) = self.text(&mut table, "mac") {
            let octets = mac(&text.value).and_then(|octets| <[u8; 6]>::try_from(octets).ok());
            match octets.filter(|octets| octets[0] & 1 == 0) {
                Some(octets) => made.mac = Some(octets),
                None => self.refuse(
                    &text.at,
                    format!("\"{}\" is not a MAC address of one interface", text.value),
                    "six octets such as \"02:00:5e:00:00:01\"",
                ),
            }
        }
        made.transmit_on_base = self.boolean(&mut table, "transmit_on_base").is_some_and(|on| on.value);
        made.for_other_interfaces =
            self.boolean(&mut table, "for_other_interfaces").is_some_and(|on| on.value);
        made.group = self.integer(&mut table, "group", 0..=i64::from(i32::MAX)).map(|group| group.value);
        self.finish(table);
        Some(made)
    }

    /// `true`, or the prefix of its name.
    pub(super) fn vmac_of_address(&mut self, table: &mut Table<'_>) -> Option<String> {
        let value = self.value(table, "own_vmac")?;
        match value.get_ref() {
            DeValue::Boolean(on) => on.then(|| VMAC_PREFIX.to_owned()),
            _ => self.interface_name(table, "own_vmac", PREFIX),
        }
    }

    fn interface_name(&mut self, table: &mut Table<'_>, key: &'static str, expected: &str) -> Option<String> {
        let text = self.text(table, key)?;
        if !is_interface_name(&text.value) {
            self.refuse(&text.at, format!("\"{}\" names no interface", text.value), expected);
            return None;
        }
        Some(text.value)
    }

    /// Keys of the top level.
    pub(super) fn fixed(&mut self, root: &mut Table<'_>) {
        for value in self.list(root, "static_addresses") {
            let mut group = None;
            let Some(Located { value: address, at }) = self.virtual_address(value, Some(&mut group)) else {
                continue;
            };
            let mut made = address.address;
            match address.interface {
                Some(interface) => made.interface = interface.value,
                None => self.refuse(&at, "a static address without an interface", "`interface` beside it"),
            }
            let track_group = self.track_group(group);
            self.model.static_addresses.push(StaticAddress { address: Located::new(made, at), track_group });
        }
        let routes = self.routes(root, "static_routes", true);
        self.model.static_routes.extend(routes);
        let rules = self.rules(root, "static_rules", true);
        self.model.static_rules.extend(rules);
        for mut table in self.tables(root, "track_group") {
            let name = self.text(&mut table, "name");
            let values = self.list(&mut table, "instances");
            let instances =
                values.into_iter().filter_map(|v| self.as_text(v, "the name of an instance")).collect();
            match name {
                None => self.missing(&table, "name", "what static addresses, routes and rules call it"),
                Some(name) => self.model.track_groups.push(TrackGroup { name, instances }),
            }
            self.finish(table);
        }
        self.firewall(root);
    }

    fn firewall(&mut self, root: &mut Table<'_>) {
        let Some(mut table) = self.table(root, "firewall") else { return };
        let mut made = Firewall::default();
        if let Some(name) = self.text(&mut table, "table") {
            if name.value.is_empty() || name.value.len() > 255 {
                self.refuse(&name.at, "no name for a table", "1 to 255 bytes");
            }
            made.table = name.value;
        }
        let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
        made.priority = self.integer(&mut table, "priority", range).map_or(made.priority, |p| p.value);
        made.counters = self.boolean(&mut table, "counters").is_some_and(|on| on.value);
        made.by_index = self.boolean(&mut table, "by_index").is_some_and(|on| on.value);
        let made = Located::new(made, table.at.clone());
        self.finish(table);
        super::once(&mut self.model.firewall, Some(made), "firewall", self.diagnostics);
    }

    /// Notes its use; whether it exists is seen at the end.
    pub(super) fn track_group(&mut self, name: Option<Located<String>>) -> Option<String> {
        let name = name?;
        self.track_groups.push(name.clone());
        Some(name.value)
    }

    pub(super) fn known_track_groups(&mut self) {
        for used in std::mem::take(&mut self.track_groups) {
            if self.model.track_groups.iter().any(|group| group.name.value == used.value) {
                continue;
            }
            let message = format!("there is no track group {}", used.value);
            let finding = Diagnostic::error("unknown-name", &used.at, message);
            self.diagnostics.push(finding.help("define it with `[[track_group]]`"));
        }
    }
}
