//! `[[listener]]`.

use std::time::Duration;

use toml::de::DeValue;

use crate::complete::{CONNECT_TIMEOUT, KEEPALIVE, MAX_SESSIONS, USER_TIMEOUT};
use crate::diagnostic::Located;
use crate::model::Listener;
use crate::ready::{Balance, Keepalive, Mode};

use super::Door;
use super::backend::{Entry, OfListener};
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
        if !table.has("bind") && !table.has("marks") {
            self.missing(&table, "bind", "ADDRESS:PORT, normally that of a virtual address");
        }
        let (balances, policy) = (table.has("balance"), self.policy(&mut table));
        let balance = match (self.balance(&mut table), policy.mode) {
            // The kernel counts no sessions.
            (_, Mode::Kernel { .. }) if !balances => Balance::RoundRobin,
            (balance, _) => balance,
        };
        let of_listener = OfListener { name: &name.value, check: self.value(&mut table, "check") };
        let (mut backends, mut discovered) = (Vec::new(), Vec::new());
        for value in self.list(&mut table, "backends") {
            match self.backend(value, of_listener) {
                Some(Entry::Fixed(backend)) => backends.push(backend),
                Some(Entry::Named(discovery)) => discovered.push(*discovery),
                None => {}
            }
        }
        if backends.is_empty() && discovered.is_empty() {
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
            discovered,
            policy,
            optional: false,
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
}
