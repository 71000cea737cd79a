//! `[[listener]]`.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::complete::{CONNECT_TIMEOUT, KEEPALIVE, MAX_SESSIONS, USER_TIMEOUT};
use crate::diagnostic::Located;
use crate::model::{Backend, Check, Listener};
use crate::ready::{Balance, Keepalive, Target};

use super::Door;
use super::table::{SOME_TIME, Table};

impl Door<'_> {
    pub(super) fn listener(&mut self, mut table: Table<'_>) {
        let name = self.text(&mut table, "name");
        if name.is_none() {
            self.missing(&table, "name", "what status and metrics call it");
        }
        let name = name.unwrap_or_else(|| Located::new("(no name)".to_owned(), table.at.clone()));
        let bind: Vec<_> = self
            .list(&mut table, "bind")
            .into_iter()
            .filter_map(|value| self.as_socket_address(value))
            .collect();
        if !table.has("bind") {
            self.missing(&table, "bind", "ADDRESS:PORT, normally that of a virtual address");
        }
        let balance = match self.text(&mut table, "balance") {
            Some(balance) => match balance.value.as_str() {
                "roundrobin" => Balance::RoundRobin,
                "leastconn" => Balance::LeastConn,
                _ => {
                    self.refuse(
                        &balance.at,
                        format!("\"{}\" is no way to balance", balance.value),
                        "\"roundrobin\" or \"leastconn\"",
                    );
                    Balance::LeastConn
                }
            },
            None => Balance::LeastConn,
        };
        let template = self.value(&mut table, "check");
        let mut backends = Vec::new();
        for value in self.list(&mut table, "backends") {
            backends.extend(self.backend(value, &name.value, template));
        }
        if backends.is_empty() {
            self.missing(&table, "backends", "at least one { name, address }");
        }
        let listener = Listener {
            name,
            bind,
            balance,
            backends,
            connect_timeout: self
                .duration(&mut table, "connect_timeout", SOME_TIME)
                .map_or(CONNECT_TIMEOUT, |t| t.value),
            idle_timeout: self.duration_or_never(&mut table, "idle_timeout").unwrap_or(None),
            keepalive: self.keepalive(&mut table),
            user_timeout: self.duration_or_never(&mut table, "user_timeout").unwrap_or(Some(USER_TIMEOUT)),
            max_sessions: self
                .integer(&mut table, "max_sessions", 1..=10_000_000)
                .map_or(MAX_SESSIONS, |n| n.value),
            close_sessions_on_backend_down: self
                .boolean(&mut table, "close_sessions_on_backend_down")
                .is_none_or(|on| on.value),
            instances: self.instances(&mut table),
        };
        self.finish(table);
        self.model.listeners.push(listener);
    }

    fn instances(&mut self, table: &mut Table<'_>) -> Option<Vec<Located<String>>> {
        if !table.has("instances") {
            return None;
        }
        let values = self.list(table, "instances");
        Some(values.into_iter().filter_map(|value| self.as_text(value, "the name of an instance")).collect())
    }

    /// `false`, or a table.
    fn keepalive(&mut self, table: &mut Table<'_>) -> Option<Keepalive> {
        let Some(value) = self.value(table, "keepalive") else { return Some(KEEPALIVE) };
        if let DeValue::Boolean(on) = value.get_ref() {
            return on.then_some(KEEPALIVE);
        }
        let mut inner = self.as_table(value)?;
        let most = Duration::from_secs(32_767);
        let least = Duration::from_secs(1);
        let made = Keepalive {
            idle: self.duration(&mut inner, "idle", least..=most).map_or(KEEPALIVE.idle, |t| t.value),
            interval: self
                .duration(&mut inner, "interval", least..=most)
                .map_or(KEEPALIVE.interval, |t| t.value),
            count: self.integer(&mut inner, "count", 1..=127).map_or(KEEPALIVE.count, |n| n.value),
        };
        self.finish(inner);
        Some(made)
    }

    fn backend(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        listener: &str,
        template: Option<&Spanned<DeValue<'_>>>,
    ) -> Option<Backend> {
        let mut table = self.as_table(value)?;
        let address = self.socket_address(&mut table, "address");
        if !table.has("address") {
            self.missing(&table, "address", "ADDRESS:PORT to connect to");
        }
        let weight = self.integer(&mut table, "weight", 1..=256).map_or(1, |w| w.value);
        let name = self.text(&mut table, "name");
        let own = self.value(&mut table, "check");
        let name = match (name, &address) {
            (Some(name), _) => name,
            (None, Some(address)) => Located::new(address.value.to_string(), address.at.clone()),
            (None, None) => Located::new(String::new(), table.at.clone()),
        };
        let target =
            address.as_ref().map(|a| Target { host: a.value.ip().to_string(), port: a.value.port() });
        let check = self.backend_check(own.or(template), listener, &name, target.as_ref());
        self.finish(table);
        Some(Backend { name, address: address?, weight, check })
    }

    /// The name of a check, `false`, or a template from which one is made for this backend.
    fn backend_check(
        &mut self,
        written: Option<&Spanned<DeValue<'_>>>,
        listener: &str,
        backend: &Located<String>,
        target: Option<&Target>,
    ) -> Option<Located<String>> {
        let value = written?;
        match value.get_ref() {
            DeValue::Boolean(false) => None,
            DeValue::Table(_) => {
                let table = self.as_table(value)?;
                let check = self.check_body(table, target)?;
                let name = Located::new(format!("{listener}/{}", backend.value), backend.at.clone());
                self.model.checks.push(Check { name: name.clone(), ..check });
                Some(name)
            }
            _ => self.as_text(value, "the name of a check, `false`, or a table that describes one"),
        }
    }
}
