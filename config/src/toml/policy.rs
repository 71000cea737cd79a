//! What `[[listener]]` is asked for less often, and what belongs to the forwarder as a whole.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::complete::{ERROR_LIMIT, OBSERVED_DOWN_FOR, PERSISTENCE_TIMEOUT};
use crate::ready::{
    AccessLog, Backups, Balance, Beside, HealthPage, Mode, NoBackend, Observe, Persistence, Policy, Protocol,
    Quorum,
};

use super::Door;
use super::table::{ANY_TIME, SOME_TIME, Table};

impl Door<'_> {
    pub(super) fn policy(&mut self, table: &mut Table<'_>) -> Policy {
        let protocol = self
            .word(table, "protocol", &[("tcp", Protocol::Tcp), ("udp", Protocol::Udp)])
            .unwrap_or(Protocol::Tcp);
        let mail = self.on(table, "mail");
        let quorum = self.quorum(table);
        let one = || Quorum { least: 1, hysteresis: 0, up: None, down: None, at_end: false };
        Policy {
            protocol,
            marks: self.marks(table),
            mode: self.mode(table),
            persistence: self.persistence(table),
            retries: self.integer(table, "retries", 0..=100).map(|n| n.value),
            slow_start: self.duration(table, "slow_start", ANY_TIME).map_or(Duration::ZERO, |t| t.value),
            queue_timeout: self.duration(table, "queue_timeout", SOME_TIME).map(|t| t.value),
            observe: self.observe(table),
            rebalance: self.integer(table, "rebalance", 1..=1_000_000).map(|n| n.value),
            no_backend: self
                .word(table, "no_backend", &[("refuse", NoBackend::Refuse), ("try_all", NoBackend::TryAll)])
                .unwrap_or(NoBackend::Refuse),
            backups: self
                .word(table, "backups", &[("all", Backups::All), ("first", Backups::First)])
                .unwrap_or(Backups::All),
            close_backup_sessions: self.on(table, "close_backup_sessions"),
            accept_proxy: self.prefixes(table, "accept_proxy"),
            transparent: self.on(table, "transparent"),
            access_log: self.word(
                table,
                "access_log",
                &[("event", AccessLog::Event), ("tcplog", AccessLog::Tcplog)],
            ),
            // Something to tell of.
            quorum: quorum.or_else(|| mail.then(one)),
            beside: self
                .word(
                    table,
                    "beside",
                    &[
                        ("auto", Beside::Auto),
                        ("sk_lookup", Beside::SkLookup),
                        ("nftables", Beside::Nftables),
                        ("refuse", Beside::Refuse),
                    ],
                )
                .unwrap_or(Beside::Auto),
            mail,
        }
    }

    fn marks(&mut self, table: &mut Table<'_>) -> Vec<u32> {
        let values = self.list(table, "marks");
        let mark = |value| self.as_integer(value, 1..=u32::MAX.into()).map(|mark| mark.value);
        values.into_iter().filter_map(mark).collect()
    }

    pub(super) fn balance(&mut self, table: &mut Table<'_>) -> Balance {
        let words = [
            ("leastconn", Balance::LeastConn),
            ("roundrobin", Balance::RoundRobin),
            ("source", Balance::Source),
            ("random", Balance::Random),
            ("first", Balance::First),
        ];
        self.word(table, "balance", &words).unwrap_or(Balance::LeastConn)
    }

    fn mode(&mut self, table: &mut Table<'_>) -> Mode {
        let kernel = self.word(table, "mode", &[("proxy", false), ("kernel", true)]).unwrap_or(false);
        let source_nat = self.boolean(table, "source_nat");
        match (kernel, source_nat) {
            (true, source_nat) => Mode::Kernel { source_nat: source_nat.is_none_or(|on| on.value) },
            (false, Some(source_nat)) => {
                self.refuse(
                    &source_nat.at,
                    "`source_nat` without the kernel",
                    "`mode = \"kernel\"` beside it",
                );
                Mode::Proxy
            }
            (false, None) => Mode::Proxy,
        }
    }

    /// `true`, a time, or a table.
    fn persistence(&mut self, table: &mut Table<'_>) -> Option<Persistence> {
        let value = self.value(table, "persistence")?;
        let whole = Persistence { timeout: PERSISTENCE_TIMEOUT, ipv4_prefix: 32, ipv6_prefix: 128 };
        match value.get_ref() {
            DeValue::Boolean(on) => on.then_some(whole),
            DeValue::Table(_) => {
                let mut inner = self.as_table(value)?;
                let made = Persistence {
                    timeout: self
                        .duration(&mut inner, "timeout", SOME_TIME)
                        .map_or(whole.timeout, |t| t.value),
                    ipv4_prefix: self.integer(&mut inner, "ipv4_prefix", 0..=32).map_or(32, |n| n.value),
                    ipv6_prefix: self.integer(&mut inner, "ipv6_prefix", 0..=128).map_or(128, |n| n.value),
                };
                self.finish(inner);
                Some(made)
            }
            _ => self.as_duration(value, SOME_TIME).map(|t| Persistence { timeout: t.value, ..whole }),
        }
    }

    /// `true`, or a table.
    fn observe(&mut self, table: &mut Table<'_>) -> Option<Observe> {
        let value = self.value(table, "observe")?;
        let whole = Observe { error_limit: ERROR_LIMIT, down_for: OBSERVED_DOWN_FOR };
        if let DeValue::Boolean(on) = value.get_ref() {
            return on.then_some(whole);
        }
        let mut inner = self.as_table(value)?;
        let made = Observe {
            error_limit: self
                .integer(&mut inner, "error_limit", 1..=1_000_000)
                .map_or(ERROR_LIMIT, |n| n.value),
            down_for: self.duration(&mut inner, "down_for", SOME_TIME).map_or(whole.down_for, |t| t.value),
        };
        self.finish(inner);
        Some(made)
    }

    fn quorum(&mut self, table: &mut Table<'_>) -> Option<Quorum> {
        let value = self.value(table, "quorum")?;
        if let DeValue::Integer(_) = value.get_ref() {
            let least = self.as_integer(value, 1..=i64::from(u32::MAX))?.value;
            return Some(Quorum { least, hysteresis: 0, up: None, down: None, at_end: false });
        }
        let mut inner = self.as_table(value)?;
        let most = i64::from(u32::MAX);
        let made = Quorum {
            least: self.integer(&mut inner, "least", 1..=most).map_or(1, |n| n.value),
            hysteresis: self.integer(&mut inner, "hysteresis", 0..=most).map_or(0, |n| n.value),
            up: self.command(&mut inner, "up"),
            down: self.command(&mut inner, "down"),
            at_end: self.on(&mut inner, "at_end"),
        };
        self.finish(inner);
        Some(made)
    }

    /// `[[health_page]]`.
    pub(super) fn health_page(&mut self, mut table: Table<'_>) {
        let bind = self.socket_address(&mut table, "bind");
        if !table.has("bind") {
            self.missing(&table, "bind", "ADDRESS:PORT where it is served");
        }
        let path = self.request_path(&mut table, "/healthz");
        let listeners = self.list(&mut table, "listeners");
        let listeners: Vec<_> =
            listeners.into_iter().filter_map(|value| self.as_text(value, "the name of a listener")).collect();
        let least = self.integer(&mut table, "least", 1..=65535).map_or(1, |n| n.value);
        let place = table.at.place.clone();
        self.finish(table);
        for listener in &listeners {
            if !self.model.listeners.iter().any(|known| known.name.value == listener.value) {
                let message = format!("there is no listener \"{}\"", listener.value);
                self.refuse(&listener.at, message, "the name of a `[[listener]]`");
            }
        }
        let listeners = listeners.into_iter().map(|listener| listener.value).collect();
        if let Some(bind) = bind {
            self.model.health_pages.push(HealthPage { bind: bind.value, path, listeners, least, place });
        }
    }

    /// `[forwarder]`.
    pub(super) fn forwarder(&mut self, mut table: Table<'_>) {
        if let Some(loops) = self.integer(&mut table, "loops", 1..=1024) {
            self.model.forwarder.loops = Some(loops.value);
        }
        self.finish(table);
    }

    /// One of these words.
    fn word<T: Copy>(&mut self, table: &mut Table<'_>, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        let text = self.text(table, key)?;
        let found = words.iter().find(|(word, _)| *word == text.value).map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<_> = words.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            let message = format!("\"{}\" is no value of `{key}`", text.value);
            self.refuse(&text.at, message, format!("one of {}", words.join(", ")));
        }
        found
    }

    fn prefixes(&mut self, table: &mut Table<'_>, key: &'static str) -> Vec<crate::ready::Prefix> {
        let values: Vec<&Spanned<DeValue<'_>>> = self.list(table, key);
        values.into_iter().filter_map(|value| self.as_prefix(value)).collect()
    }
}
