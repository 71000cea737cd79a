//! `[engine]`, `[process]` and `[mail]`.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::complete::SMTP_PORT;
use crate::diagnostic::{Diagnostic, Located, Location};
use crate::ready::{DynamicInterfaces, Lease};

use super::table::{ANY_TIME, SOME_TIME, Table};
use super::{Door, once};

/// A shorter one ends whenever the host is busy for a moment.
const LEASE: RangeInclusive<Duration> = Duration::from_millis(50)..=Duration::from_secs(86_400);
const MOST_BUFFER: i64 = i32::MAX as i64;
/// RLIMIT_RTTIME counts microseconds.
const REALTIME_LIMIT: RangeInclusive<Duration> = Duration::from_micros(1)..=Duration::from_secs(1 << 32);

impl Door<'_> {
    pub(super) fn engine(&mut self, mut engine: Table<'_>) {
        let priority = self.integer(&mut engine, "realtime_priority", 1..=99);
        once(&mut self.model.realtime_priority, priority, "engine.realtime_priority", self.diagnostics);
        let lock = self.boolean(&mut engine, "lock_memory");
        once(&mut self.model.lock_memory, lock, "engine.lock_memory", self.diagnostics);
        let log = self.boolean(&mut engine, "log_unknown_vrids");
        once(&mut self.model.log_unknown_vrids, log, "engine.log_unknown_vrids", self.diagnostics);
        let delay = self.duration(&mut engine, "startup_delay", ANY_TIME);
        once(&mut self.model.startup_delay, delay, "engine.startup_delay", self.diagnostics);
        let lease = self.lease(&mut engine);
        once(&mut self.model.lease, lease, "engine.lease", self.diagnostics);
        let delay = self.duration(&mut engine, "delay_after_boot", ANY_TIME);
        if let Some(delay) = self.fresh("engine.delay_after_boot", delay) {
            self.model.engine.delay_after_boot = delay;
        }
        let dynamic = self.dynamic_interfaces(&mut engine);
        if let Some(dynamic) = self.fresh("engine.dynamic_interfaces", dynamic) {
            self.model.engine.dynamic_interfaces = dynamic;
        }
        let nice = self.integer(&mut engine, "nice", -20..=19);
        if let Some(nice) = self.fresh("engine.nice", nice) {
            self.model.engine.nice = Some(nice);
        }
        let limit = self.duration(&mut engine, "realtime_limit", REALTIME_LIMIT);
        if let Some(limit) = self.fresh("engine.realtime_limit", limit) {
            self.model.engine.rlimit_rttime = Some(limit);
        }
        let igmp = self.boolean(&mut engine, "local_igmp");
        if let Some(igmp) = self.fresh("engine.local_igmp", igmp) {
            self.model.engine.disable_local_igmp = !igmp;
        }
        let buffer = self.integer(&mut engine, "receive_buffer", 1..=MOST_BUFFER);
        if let Some(buffer) = self.fresh("engine.receive_buffer", buffer) {
            self.model.engine.receive_buffer = Some(buffer);
        }
        let cpus = self.list(&mut engine, "cpus");
        let cpus: Vec<Located<usize>> =
            cpus.into_iter().filter_map(|cpu| self.as_integer(cpu, 0..=1023)).collect();
        let at = cpus.first().map(|cpu| cpu.at.clone());
        let cpus = at.map(|at| Located::new(cpus.into_iter().map(|cpu| cpu.value).collect(), at));
        if let Some(cpus) = self.fresh("engine.cpus", cpus) {
            self.model.engine.cpus = cpus;
        }
        self.finish(engine);
    }

    /// `"auto"`, `"off"` or a time.
    pub(super) fn lease(&mut self, table: &mut Table<'_>) -> Option<Located<Lease>> {
        let value = table.get("lease")?;
        match value.get_ref().as_str() {
            Some("auto") => self.as_text(value, "\"auto\"").map(|word| Located::new(Lease::Auto, word.at)),
            Some("off") => self.as_text(value, "\"off\"").map(|word| Located::new(Lease::Off, word.at)),
            _ => {
                let time = self.as_duration(value, LEASE)?;
                Some(Located::new(Lease::For(time.value), time.at))
            }
        }
    }

    /// A value, unless another file has set it.
    fn fresh<T>(&mut self, key: &str, value: Option<Located<T>>) -> Option<T> {
        let value = value?;
        self.first_to_set(key, &value.at).then_some(value.value)
    }

    fn first_to_set(&mut self, key: &str, at: &Location) -> bool {
        if let Some(first) = self.model.set.get(key) {
            let finding = Diagnostic::error("conflict", at, format!("`{key}` is set in another file too"));
            self.diagnostics.push(finding.help(format!("the other is at {}; keep one", first.place)));
            return false;
        }
        self.model.set.insert(key.to_owned(), at.clone());
        true
    }

    fn dynamic_interfaces(&mut self, table: &mut Table<'_>) -> Option<Located<DynamicInterfaces>> {
        let value = self.value(table, "dynamic_interfaces")?;
        let at = self.at(value);
        let made = match value.get_ref() {
            DeValue::Boolean(true) => DynamicInterfaces::Yes,
            DeValue::Boolean(false) => DynamicInterfaces::No,
            other if other.as_str() == Some("allow_changes") => DynamicInterfaces::AllowChanges,
            _ => {
                self.refuse(&at, "an unknown choice", "`true`, `false` or \"allow_changes\"");
                return None;
            }
        };
        Some(Located::new(made, at))
    }

    pub(super) fn process_table(&mut self, mut table: Table<'_>) {
        let mut made = std::mem::take(&mut self.model.process);
        made.net_namespace = self.text(&mut table, "network_namespace").map(|name| name.value);
        made.instance = self.text(&mut table, "instance").map(|name| name.value);
        made.use_pid_dir = self.on(&mut table, "pid_folder");
        made.umask = self.umask(&mut table);
        if let Some(name) = self.text(&mut table, "name") {
            if name.value.is_empty() || name.value.len() > 15 {
                self.refuse(&name.at, "a name that ps cannot show", "1 to 15 bytes");
            }
            made.name = Some(name.value);
        }
        made.startup = self.command(&mut table, "startup");
        made.startup_timeout = self.script_timeout(&mut table, "startup_timeout");
        made.shutdown = self.command(&mut table, "shutdown");
        made.shutdown_timeout = self.script_timeout(&mut table, "shutdown_timeout");
        made.supplementary_groups = self.on(&mut table, "supplementary_groups");
        made.script_security = self.on(&mut table, "script_security");
        made.symlink_paths = self.on(&mut table, "symlink_paths");
        made.json_version = self.integer(&mut table, "json_version", 1..=2).map_or(0, |n| n.value);
        made.data_use_instance = self.on(&mut table, "dumps_by_instance");
        made.state_dump_file = self.path(&mut table, "state_dump_file").map(|path| path.value);
        made.reload_check = self.path(&mut table, "reload_check").map(|path| path.value);
        made.reload_time_file = self.path(&mut table, "reload_time_file").map(|path| path.value);
        made.reload_repeat = self.on(&mut table, "reload_repeat");
        made.reload_file = self.path(&mut table, "reload_file").map(|path| path.value);
        let buffer = self.integer(&mut table, "process_events_buffer", 1..=MOST_BUFFER);
        made.process_monitor_buffer = buffer.map(|bytes| bytes.value);
        made.fifo_states_on_reload = self.on(&mut table, "fifo_states_on_reload");
        self.first_to_set("process", &table.at);
        self.model.process = made;
        self.finish(table);
    }

    /// `false` unless it is written.
    pub(super) fn on(&mut self, table: &mut Table<'_>, key: &'static str) -> bool {
        self.boolean(table, key).is_some_and(|on| on.value)
    }

    fn script_timeout(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Duration> {
        let range = Duration::from_secs(1)..=Duration::from_secs(1000);
        self.duration(table, key, range).map(|time| time.value)
    }

    /// As the shell shows it: `"027"`.
    fn umask(&mut self, table: &mut Table<'_>) -> Option<u32> {
        let text = self.text(table, "umask")?;
        let bits = u32::from_str_radix(&text.value, 8).ok().filter(|bits| *bits <= 0o777);
        if bits.is_none() {
            self.refuse(&text.at, format!("\"{}\" is no umask", text.value), "octal digits such as \"027\"");
        }
        bits
    }

    pub(super) fn mail(&mut self, mut table: Table<'_>) {
        let mut made = crate::model::Mail::default();
        for value in self.list(&mut table, "to") {
            made.to.extend(self.as_text(value, "an address of mail").map(|to| to.value));
        }
        if made.to.is_empty() {
            self.missing(&table, "to", "whom to mail");
        }
        made.from = self.text(&mut table, "from").map(|from| from.value);
        made.server = self.value(&mut table, "server").and_then(|value| self.smtp_server(value));
        if !table.has("server") {
            self.missing(&table, "server", "the SMTP server, such as \"mail.example.org\"");
        }
        made.helo = self.text(&mut table, "helo").map(|name| name.value);
        made.connect_timeout = self.duration(&mut table, "connect_timeout", SOME_TIME).map(|time| time.value);
        made.no_faults = self.boolean(&mut table, "faults").is_some_and(|on| !on.value);
        made.start_tls = self.on(&mut table, "start_tls");
        let user = self.text(&mut table, "user");
        let file = self.path(&mut table, "password_file");
        made.login = match (user, file) {
            (Some(user), Some(file)) => Some((user.value, file.value)),
            (Some(user), None) => {
                self.refuse(&user.at, "`user` without `password_file`", "both or none");
                None
            }
            (None, Some(file)) => {
                self.refuse(&file.at, "`password_file` without `user`", "both or none");
                None
            }
            (None, None) => None,
        };
        self.first_to_set("mail", &table.at);
        self.model.mail = made;
        self.finish(table);
    }

    /// `HOST` or `HOST:PORT`.
    fn smtp_server(&mut self, value: &Spanned<DeValue<'_>>) -> Option<(String, u16)> {
        let text = self.as_text(value, "a host name or address")?;
        if crate::validate::is_host(&text.value) {
            return Some((text.value, SMTP_PORT));
        }
        self.as_target(value).map(|target| (target.value.host, target.value.port))
    }
}
