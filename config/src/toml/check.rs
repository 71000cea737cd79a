//! `[[check]]`, and the template of a listener.

use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::{Diagnostic, Located};
use crate::model::Check;
use crate::ready::{
    ApiserverProbe, Credentials, Dial, EtcdProbe, FileExpect, Pace, ParameterMatch, Probe, ProcessProbe,
    ProxyVersion, Target, Tls,
};

use super::Door;
use super::table::{ANY_TIME, SOME_TIME, Table};

mod http;
mod talk;

/// Words that say what a check does.
const KINDS: [&str; 21] = [
    "script",
    "http",
    "https",
    "apiserver",
    "etcd",
    "tcp",
    "tls",
    "smtp",
    "redis",
    "ldap",
    "mysql",
    "postgres",
    "dns",
    "udp",
    "ping",
    "agent",
    "bfd",
    "listeners",
    "process",
    "file",
    "interface",
];

impl Door<'_> {
    pub(super) fn check(&mut self, mut table: Table<'_>) {
        let name = self.text(&mut table, "name");
        if name.is_none() {
            self.missing(&table, "name", "what instances and backends call it");
        }
        let check = self.check_body(table, None);
        match (name, check) {
            (Some(name), Some(check)) => self.model.checks.push(Check { name, ..check }),
            (Some(name), None) => self.model.refused_checks.push(name.value),
            (None, _) => {}
        }
    }

    /// Everything but the name. A listener's template targets the address of each backend.
    pub(super) fn check_body(&mut self, mut table: Table<'_>, backend: Option<&Target>) -> Option<Check> {
        let interval =
            self.duration(&mut table, "interval", SOME_TIME).map_or(Duration::from_secs(1), |i| i.value);
        let timeout = self.duration(&mut table, "timeout", SOME_TIME);
        let rise = self
            .integer(&mut table, "rise", 1..=i64::from(u32::MAX))
            .map_or(crate::complete::RISE, |n| n.value);
        let fall = self
            .integer(&mut table, "fall", 1..=i64::from(u32::MAX))
            .map_or(crate::complete::FALL, |n| n.value);
        let first_result_decides = self.boolean(&mut table, "first_result_decides").is_none_or(|on| on.value);
        let pace = Pace {
            fast_interval: self.duration(&mut table, "fast_interval", SOME_TIME).map(|t| t.value),
            down_interval: self.duration(&mut table, "down_interval", SOME_TIME).map(|t| t.value),
            first_delay: self.duration(&mut table, "first_delay", ANY_TIME).map(|t| t.value),
            exact: self.boolean(&mut table, "jitter").is_some_and(|on| !on.value),
        };
        let dial = self.dial(&mut table);
        let kinds: Vec<&'static str> = KINDS.into_iter().filter(|kind| table.has(kind)).collect();
        let probe = match kinds.as_slice() {
            [kind] => self.probe(&mut table, kind, backend),
            [] => {
                let finding =
                    Diagnostic::error("missing-key", &table.at, "the check does not say what to do");
                self.diagnostics.push(finding.expected(format!("one of `{}`", KINDS.join("`, `"))));
                None
            }
            several => {
                let finding = Diagnostic::error(
                    "conflict",
                    &table.at,
                    format!("`{}` in one check", several.join("`, `")),
                );
                self.diagnostics.push(finding.expected("one of them").help("write a check for each"));
                None
            }
        };
        let at = table.at.clone();
        self.finish(table);
        let name = Located::new(String::new(), at);
        let timeout = timeout.map(|t| t.value);
        probe.map(|probe| Check {
            name,
            probe,
            interval,
            timeout,
            rise,
            fall,
            first_result_decides,
            pace,
            dial,
            only_if_used: false,
        })
    }

    /// The name of a listener, or a list of those.
    fn listeners(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Probe> {
        let expected = "the name of a `[[listener]]`, or a list of those";
        let values: Vec<_> = match value.get_ref() {
            DeValue::Array(values) if !values.is_empty() => values.iter().collect(),
            _ => vec![value],
        };
        let names = values.into_iter().map(|value| self.as_text(value, expected).map(|name| name.value));
        Some(Probe::Listeners { names: names.collect::<Option<_>>()? })
    }

    fn dial(&mut self, table: &mut Table<'_>) -> Dial {
        let source = self.address(table, "source").map(|address| address.value);
        let source_port = self.integer(table, "source_port", 1..=65535).map(|port| port.value);
        let interface = self.text(table, "source_interface").map(|name| name.value);
        let mark = self.integer(table, "mark", 1..=i64::from(u32::MAX)).map(|mark| mark.value);
        let connect_timeout = self.duration(table, "connect_timeout", SOME_TIME).map(|time| time.value);
        let versions = [("v1", ProxyVersion::V1), ("v2", ProxyVersion::V2)];
        let send_proxy = self.one_of(table, "send_proxy", &versions);
        Dial { source, source_port, interface, mark, connect_timeout, send_proxy }
    }

    fn probe(
        &mut self,
        table: &mut Table<'_>,
        kind: &'static str,
        backend: Option<&Target>,
    ) -> Option<Probe> {
        let value = self.value(table, kind)?;
        match kind {
            "script" => {
                let user = self.user(table);
                let weighs = self.on(table, "exit_weight");
                let command = self.as_command(value, user)?;
                Some(if weighs { Probe::WeighingScript(command) } else { Probe::Script(command) })
            }
            "http" | "https" => self.http(value, kind == "https", backend),
            "apiserver" => self.apiserver(value, backend),
            "etcd" => self.etcd(value, backend),
            "tcp" | "tls" | "smtp" | "redis" | "ldap" | "mysql" | "postgres" => {
                self.dialogue(value, kind, backend)
            }
            "dns" => self.dns(value, backend),
            "udp" => self.udp(value, backend),
            "ping" => self.ping(value, backend),
            "agent" => self.agent(value, backend),
            "bfd" => self
                .as_text(value, "the name of a `[[bfd]]` session")
                .map(|session| Probe::Bfd { session: session.value }),
            "listeners" => self.listeners(value),
            "process" => self.process(value),
            "file" => self.file(value),
            _ => self
                .as_text(value, "the name of an interface")
                .map(|name| Probe::Interface { name: name.value }),
        }
    }

    /// `address`, or that of the backend, maybe with another `port`, or a default.
    fn target(
        &mut self,
        table: &mut Table<'_>,
        backend: Option<&Target>,
        default: Option<&Target>,
    ) -> Option<Target> {
        let port = self.integer(table, "port", 1..=65535);
        if let Some(value) = self.value(table, "address") {
            if let Some(port) = port {
                self.refuse(&port.at, "`port` beside `address`", "one of them: `address` has a port");
            }
            return self.as_target(value).map(|t| t.value);
        }
        let target = backend.or(default).cloned();
        let target = target.map(|t| Target { port: port.map_or(t.port, |port| port.value), ..t });
        if target.is_none() {
            self.missing(table, "address", "HOST:PORT to connect to");
        }
        target
    }

    fn tls(&mut self, table: &mut Table<'_>) -> Tls {
        let ca_file = self.path(table, "ca_file");
        let insecure = self.boolean(table, "insecure").filter(|on| on.value);
        if let (Some(ca_file), Some(insecure)) = (&ca_file, &insecure) {
            let finding = Diagnostic::error("conflict", &insecure.at, "`insecure` beside `ca_file`");
            self.diagnostics.push(
                finding.expected("one of them").help(format!(
                    "`ca_file` is at {}; nothing is verified with `insecure`",
                    ca_file.at.place
                )),
            );
        }
        Tls {
            ca_file: ca_file.map(|f| f.value),
            server_name: self.text(table, "server_name").map(|n| n.value),
            insecure: insecure.is_some(),
            any_name: self.on(table, "any_name"),
            alpn: self.texts(table, "alpn", "a protocol such as \"h2\""),
            warn_before: self
                .duration(table, "expiry_warning", ANY_TIME)
                .map_or(Tls::default().warn_before, |time| time.value),
            also_for: self.texts(table, "also_for", "a name or an address"),
        }
    }

    fn texts(&mut self, table: &mut Table<'_>, key: &'static str, expected: &str) -> Vec<String> {
        let values = self.list(table, key);
        values.into_iter().filter_map(|value| self.as_text(value, expected)).map(|text| text.value).collect()
    }

    fn credentials(&mut self, table: &mut Table<'_>) -> Credentials {
        let bearer_token_file = self.path(table, "bearer_token_file").map(|f| f.value);
        let certificate = self.path(table, "client_certificate_file");
        let key = self.path(table, "client_key_file");
        match (&certificate, &key) {
            (Some(one), None) => {
                self.refuse(&one.at, "a client certificate without its key", "`client_key_file` beside it")
            }
            (None, Some(one)) => self.refuse(
                &one.at,
                "a client key without its certificate",
                "`client_certificate_file` beside it",
            ),
            _ => {}
        }
        Credentials {
            bearer_token_file,
            client_certificate_file: certificate.map(|f| f.value),
            client_key_file: key.map(|f| f.value),
        }
    }

    pub(super) fn request_path(&mut self, table: &mut Table<'_>, default: &str) -> String {
        match self.text(table, "path") {
            Some(path) if path.value.starts_with('/') && !path.value.contains(char::is_whitespace) => {
                path.value
            }
            // Of `OPTIONS *`: the server as a whole (RFC 9110 §7.1).
            Some(path) if path.value == "*" && default == "/" => path.value,
            Some(path) => {
                self.refuse(
                    &path.at,
                    format!("\"{}\" is not a path", path.value),
                    "a path that begins with `/`, without blanks",
                );
                default.to_owned()
            }
            None => default.to_owned(),
        }
    }

    fn apiserver(&mut self, value: &Spanned<DeValue<'_>>, backend: Option<&Target>) -> Option<Probe> {
        let mut table = self.as_table(value)?;
        let default = Target { host: "127.0.0.1".to_owned(), port: 6443 };
        let target = self.target(&mut table, backend, Some(&default));
        let path = self.request_path(&mut table, "/readyz");
        let tls = self.tls(&mut table);
        let credentials = self.credentials(&mut table);
        self.needs_ca_file(
            &table,
            &tls,
            "a cluster has its own authority, on a kubeadm node /etc/kubernetes/pki/ca.crt",
        );
        self.finish(table);
        Some(Probe::Apiserver(ApiserverProbe { target: target?, path, tls, credentials }))
    }

    fn etcd(&mut self, value: &Spanned<DeValue<'_>>, backend: Option<&Target>) -> Option<Probe> {
        let mut table = self.as_table(value)?;
        let default = Target { host: "127.0.0.1".to_owned(), port: 2379 };
        let target = self.target(&mut table, backend, Some(&default));
        let path = self.request_path(&mut table, "/health");
        let plain = self.boolean(&mut table, "tls").is_some_and(|on| !on.value);
        let tls = self.tls(&mut table);
        let credentials = self.credentials(&mut table);
        if plain && (tls != Tls::default() || credentials != Credentials::default()) {
            self.refuse(&table.at, "certificates beside `tls = false`", "one of them");
        }
        if !plain {
            self.needs_ca_file(
                &table,
                &tls,
                "etcd has its own authority, on a kubeadm node /etc/kubernetes/pki/etcd/ca.crt",
            );
        }
        self.finish(table);
        let tls = (!plain).then_some(tls);
        Some(Probe::Etcd(EtcdProbe { target: target?, path, tls, credentials }))
    }

    fn needs_ca_file(&mut self, table: &Table<'_>, tls: &Tls, help: &str) {
        if tls.ca_file.is_none() && !tls.insecure {
            let message = "the certificate is verified with the authorities of the host";
            let finding = Diagnostic::warning("no-ca-file", &table.at, message);
            self.diagnostics.push(finding.expected("`ca_file`, or `insecure = true`").help(help));
        }
    }

    fn process(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Probe> {
        if let DeValue::String(name) = value.get_ref() {
            return Some(Probe::Process(ProcessProbe {
                name: name.to_string(),
                quorum: 1,
                ..ProcessProbe::default()
            }));
        }
        let mut table = self.as_table(value)?;
        let name = self.text(&mut table, "name");
        if name.is_none() {
            self.missing(&table, "name", "the name of the process");
        }
        let quorum = self.integer(&mut table, "quorum", 0..=65535).map_or(1, |n| n.value);
        let quorum_max = self.integer(&mut table, "quorum_max", 0..=65535).map(|n| n.value);
        let parameters = self.process_parameters(&mut table);
        let full_command = self.on(&mut table, "full_command");
        let hour = Duration::ZERO..=Duration::from_secs(3600);
        let delay = |door: &mut Self, table: &mut Table<'_>, key| {
            door.duration(table, key, hour.clone()).map_or(Duration::ZERO, |delay| delay.value)
        };
        let fork_delay = delay(self, &mut table, "start_delay");
        let terminate_delay = delay(self, &mut table, "end_delay");
        self.finish(table);
        Some(Probe::Process(ProcessProbe {
            name: name?.value,
            parameters,
            full_command,
            fork_delay,
            terminate_delay,
            quorum,
            quorum_max,
        }))
    }

    /// `parameters`, compared as `match` says.
    fn process_parameters(&mut self, table: &mut Table<'_>) -> Option<(ParameterMatch, Vec<String>)> {
        let matching = match self.text(table, "match") {
            None => ParameterMatch::Exact,
            Some(matching) => match matching.value.as_str() {
                "exact" => ParameterMatch::Exact,
                "partial" => ParameterMatch::Partial,
                "initial" => ParameterMatch::Initial,
                _ => {
                    let expected = "\"exact\", \"partial\" or \"initial\"";
                    self.refuse(&matching.at, "an unknown way to compare", expected);
                    ParameterMatch::Exact
                }
            },
        };
        if !table.has("parameters") {
            return None;
        }
        let words = self.list(table, "parameters");
        let words =
            words.into_iter().filter_map(|word| self.as_text(word, "a string")).map(|word| word.value);
        Some((matching, words.collect()))
    }

    fn file(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Probe> {
        if let DeValue::String(path) = value.get_ref() {
            return Some(Probe::File {
                path: path.to_string().into(),
                expect: FileExpect::Exists,
                initial: None,
            });
        }
        let mut table = self.as_table(value)?;
        let path = self.path(&mut table, "path");
        if path.is_none() {
            self.missing(&table, "path", "the path of the file");
        }
        let expect = match self.value(&mut table, "expect") {
            None => Some(FileExpect::Exists),
            Some(value) => match value.get_ref() {
                DeValue::Table(_) => {
                    let mut inner = self.as_table(value)?;
                    let text = self.text(&mut inner, "contains");
                    let factor =
                        self.integer(&mut inner, "weight", i64::from(i32::MIN)..=i64::from(i32::MAX));
                    let expect = match (text, factor) {
                        (Some(text), None) => Some(FileExpect::Contains(text.value)),
                        (None, Some(factor)) => Some(FileExpect::Weight(factor.value)),
                        _ => {
                            self.missing(&inner, "contains", "the text that the file must hold, or `weight`: what its number is multiplied with");
                            None
                        }
                    };
                    self.finish(inner);
                    expect
                }
                other => match other.as_str() {
                    Some("exists") => Some(FileExpect::Exists),
                    Some("missing") => Some(FileExpect::Missing),
                    Some("value") => Some(FileExpect::Value),
                    _ => {
                        let at = self.at(value);
                        self.refuse(
                            &at,
                            "an unknown expectation",
                            "\"exists\", \"missing\", \"value\", { contains = \"TEXT\" } or { weight = NUMBER }",
                        );
                        None
                    }
                },
            },
        };
        let initial = self.integer(&mut table, "initial", i64::from(i32::MIN)..=i64::from(i32::MAX));
        let overwrite = self.boolean(&mut table, "overwrite");
        if let (None, Some(overwrite)) = (&initial, &overwrite) {
            self.refuse(&overwrite.at, "`overwrite` without `initial`", "`initial` beside it");
        }
        let initial = initial.map(|value| (value.value, overwrite.is_some_and(|on| on.value)));
        self.finish(table);
        Some(Probe::File { path: path?.value, expect: expect?, initial })
    }
}
