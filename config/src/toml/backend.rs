//! The backends of a `[[listener]]`, by address or by name.

use toml::Spanned;
use toml::de::DeValue;

use crate::complete;
use crate::diagnostic::Located;
use crate::model::{Backend, Check};
use crate::ready::{self, BackendPolicy, Discovery, Lookup, ProxyVersion, Target};

use super::Door;
use super::table::Table;

/// What a listener says for all of its backends.
#[derive(Clone, Copy)]
pub(super) struct OfListener<'d> {
    pub name: &'d str,
    pub check: Option<&'d Spanned<DeValue<'d>>>,
}

/// One entry of `backends`.
pub(super) enum Entry {
    Fixed(Backend),
    Named(Box<Discovery>),
}

impl Door<'_> {
    pub(super) fn backend(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        listener: OfListener<'_>,
    ) -> Option<Entry> {
        let mut table = self.as_table(value)?;
        let weight = self.integer(&mut table, "weight", 0..=65535).map(|w| w.value);
        let name = self.text(&mut table, "name");
        let checks = self.value(&mut table, "check").or(listener.check);
        let policy = self.backend_policy(&mut table);
        let service = self.text(&mut table, "srv");
        let target = self.value(&mut table, "address").and_then(|value| self.as_backend(value));
        let found = match (service, target) {
            (Some(service), None) if !table.has("address") => {
                Some((Lookup::Service(service.value), service.at))
            }
            (Some(service), _) => {
                self.refuse(&service.at, "`srv` beside `address`", "one of them");
                None
            }
            (None, Some(target)) => Some((Lookup::Host(target.value), target.at)),
            (None, None) => {
                if !table.has("address") {
                    self.missing(&table, "address", "ADDRESS:PORT or NAME:PORT to connect to");
                }
                None
            }
        };
        self.finish(table);
        let (from, at) = found?;
        let shown = match &from {
            Lookup::Host(target) => target.to_string(),
            Lookup::Service(service) => service.clone(),
        };
        let name = name.unwrap_or_else(|| Located::new(shown.clone(), at.clone()));
        let weight = weight.unwrap_or(1);
        if let Lookup::Host(target) = &from
            && let Ok(ip) = target.host.parse()
        {
            let address = Located::new(std::net::SocketAddr::new(ip, target.port), at);
            let checks = self.backend_checks(checks, listener.name, &name, target);
            return Some(Entry::Fixed(Backend { name, address, weight, checks, policy }));
        }
        let (named, check) = self.checks_of_name(checks, &name);
        let template = ready::Backend {
            name: name.value,
            address: ([0, 0, 0, 0], 1).into(),
            weight,
            checks: named,
            place: name.at.place,
            policy,
        };
        Some(Entry::Named(Box::new(Discovery { template, from, check })))
    }

    fn backend_policy(&mut self, table: &mut Table<'_>) -> BackendPolicy {
        let send_proxy = self.text(table, "send_proxy").and_then(|version| match version.value.as_str() {
            "v1" => Some(ProxyVersion::V1),
            "v2" => Some(ProxyVersion::V2),
            _ => {
                self.refuse(&version.at, "no version of the PROXY protocol", "\"v1\" or \"v2\"");
                None
            }
        });
        BackendPolicy {
            backup: self.on(table, "backup"),
            max_sessions: self.integer(table, "max_sessions", 1..=10_000_000).map(|n| n.value),
            send_proxy,
            inhibit_on_failure: self.on(table, "inhibit_on_failure"),
            down_at_start: self.on(table, "down_at_start"),
            maint: self.on(table, "maint"),
            notify_up: self.command(table, "notify_up"),
            notify_down: self.command(table, "notify_down"),
            mail: self.on(table, "mail"),
        }
    }

    /// The name of a check, `false`, a template from which one is made for this backend, or a list of those.
    fn backend_checks(
        &mut self,
        written: Option<&Spanned<DeValue<'_>>>,
        listener: &str,
        backend: &Located<String>,
        target: &Target,
    ) -> Vec<Located<String>> {
        let mut names: Vec<Located<String>> = Vec::new();
        for value in each(written) {
            if let DeValue::Table(_) = value.get_ref() {
                let Some(check) = self.as_table(value).and_then(|t| self.check_body(t, Some(target))) else {
                    continue;
                };
                let number = names.len() + 1;
                let end = if number == 1 { String::new() } else { format!("#{number}") };
                let name = Located::new(format!("{listener}/{}{end}", backend.value), backend.at.clone());
                self.model.checks.push(Check { name: name.clone(), ..check });
                names.push(name);
            } else {
                names.extend(self.named_check(value));
            }
        }
        names
    }

    /// As [`backend_checks`](Self::backend_checks), where the addresses are not known yet: named checks, and at
    /// most one template.
    fn checks_of_name(
        &mut self,
        written: Option<&Spanned<DeValue<'_>>>,
        backend: &Located<String>,
    ) -> (Vec<String>, Option<ready::Check>) {
        let target = Target::placeholder();
        let (mut names, mut template) = (Vec::new(), None);
        for value in each(written) {
            if let DeValue::Table(_) = value.get_ref() {
                let check = self.as_table(value).and_then(|table| self.check_body(table, Some(&target)));
                if template.is_some() {
                    let at = self.at(value);
                    self.refuse(&at, "a second check for a backend by name", "one table");
                }
                template = check.map(|check| complete::check(Check { name: backend.clone(), ..check }));
            } else {
                names.extend(self.named_check(value).map(|name| name.value));
            }
        }
        (names, template)
    }

    fn named_check(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Located<String>> {
        match value.get_ref() {
            DeValue::Boolean(false) => None,
            _ => self.as_text(value, "the name of a check, `false`, or a table that describes one"),
        }
    }
}

fn each<'d>(written: Option<&'d Spanned<DeValue<'d>>>) -> Vec<&'d Spanned<DeValue<'d>>> {
    match written.map(|value| (value, value.get_ref())) {
        None => Vec::new(),
        Some((_, DeValue::Array(values))) => values.iter().collect(),
        Some((value, _)) => vec![value],
    }
}
