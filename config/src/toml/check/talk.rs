//! What is said over TCP, TLS and UDP.

use toml::Spanned;
use toml::de::DeValue;

use crate::diagnostic::Diagnostic;
use crate::hmac::from_hexadecimal;
use crate::ready::{
    AgentProbe, Bytes, Credentials, Dialogue, DnsKind, DnsProbe, Expect, Matching, Probe, Step, Talk, Target,
    Tls, UdpProbe,
};
use crate::toml::Door;
use crate::toml::table::Table;

/// Ways to compare, as they are written.
const WAYS: [&str; 9] =
    ["contains", "equals", "starts", "ends", "hex", "equals_hex", "regex", "md5", "sha256"];

impl Door<'_> {
    /// `tcp`, `tls` and the protocols above: `"HOST:PORT"`, or a table.
    pub(super) fn dialogue(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        kind: &str,
        backend: Option<&Target>,
    ) -> Option<Probe> {
        let mut table = match value.get_ref() {
            DeValue::String(_) => {
                let target = self.as_target(value)?.value;
                return self.plain_dialogue(value, kind, target);
            }
            _ => self.as_table(value)?,
        };
        let target = self.target(&mut table, backend, None);
        let over_tls = kind == "tls" || (kind != "tcp" && self.on(&mut table, "tls"));
        let (mut tls, mut credentials) = (None, Credentials::default());
        if over_tls {
            tls = Some(self.tls(&mut table));
            credentials = self.credentials(&mut table);
        }
        let talk = match kind {
            "smtp" => Talk::Smtp { hello: self.hello(&mut table) },
            "redis" => Talk::Redis,
            "ldap" => Talk::Ldap,
            "mysql" => Talk::Mysql { user: self.text(&mut table, "user").map(|user| user.value) },
            "postgres" => Talk::Postgres { user: self.postgres_user(&mut table) },
            _ => {
                let steps = self.list(&mut table, "steps");
                Talk::Steps(steps.into_iter().filter_map(|step| self.step(step)).collect())
            }
        };
        self.finish(table);
        Some(made(Dialogue { target: target?, tls, credentials, talk }))
    }

    fn plain_dialogue(&mut self, value: &Spanned<DeValue<'_>>, kind: &str, target: Target) -> Option<Probe> {
        let talk = match kind {
            "smtp" => Talk::Smtp { hello: HELLO.to_owned() },
            "redis" => Talk::Redis,
            "ldap" => Talk::Ldap,
            "mysql" => Talk::Mysql { user: None },
            "postgres" => {
                let at = self.at(value);
                let finding = Diagnostic::error("missing-key", &at, "`user` is missing");
                self.diagnostics.push(finding.expected("{ address = \"HOST:PORT\", user = \"NAME\" }"));
                return None;
            }
            _ => Talk::Steps(Vec::new()),
        };
        let tls = (kind == "tls").then(Tls::default);
        Some(made(Dialogue { target, tls, credentials: Credentials::default(), talk }))
    }

    fn hello(&mut self, table: &mut Table<'_>) -> String {
        let Some(hello) = self.text(table, "hello") else { return HELLO.to_owned() };
        let fits = hello.value.split_once(' ').is_some_and(|(verb, name)| {
            ["HELO", "EHLO"].contains(&verb) && !name.is_empty() && !name.contains(char::is_whitespace)
        });
        if !fits {
            self.refuse(&hello.at, "no greeting", "\"HELO NAME\" or \"EHLO NAME\"");
        }
        hello.value
    }

    fn postgres_user(&mut self, table: &mut Table<'_>) -> String {
        let user = self.text(table, "user");
        if user.is_none() {
            self.missing(table, "user", "the name that the server is asked to let in; it need not exist");
        }
        user.map(|user| user.value).unwrap_or_default()
    }

    /// `{ send }`, `{ send_hex }`, `{ connect }`, or what is expected.
    fn step(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Step> {
        let mut table = self.as_table(value)?;
        let step = if table.has("send") || table.has("send_hex") {
            self.bytes(&mut table, "send", "send_hex").map(Step::Send)
        } else if table.has("connect") {
            let port = self.integer(&mut table, "connect", 1..=65535);
            let tls = self.on(&mut table, "tls").then(|| self.tls(&mut table));
            port.map(|port| Step::Connect { port: port.value, tls })
        } else {
            let least = self.integer(&mut table, "least", 1..=16384).map(|least| least.value);
            let is = self.expect(&mut table, false);
            if is.is_none() {
                let message = "this step does nothing";
                self.refuse(&table.at, message, "`send`, `send_hex`, `connect`, or what is expected: `contains`, `equals`, `starts`, `ends`, `hex`, `regex`");
            }
            is.map(|is| Step::Expect { is, least })
        };
        self.finish(table);
        step
    }

    /// At most one way to compare, and `negate`.
    pub(super) fn expect(&mut self, table: &mut Table<'_>, digests: bool) -> Option<Expect> {
        let ways = if digests { &WAYS[..] } else { &WAYS[..7] };
        let said: Vec<_> = ways.iter().filter(|way| table.has(way)).collect();
        let negate = self.on(table, "negate");
        let way = match said.as_slice() {
            [way] => **way,
            [] => return None,
            several => {
                let names: Vec<_> = several.iter().map(|way| format!("`{way}`")).collect();
                self.refuse(&table.at, format!("{} together", names.join(", ")), "one of them");
                return None;
            }
        };
        let text = self.text(table, way)?;
        if text.value.is_empty() && way != "equals" {
            self.refuse(&text.at, "an empty text is in everything", "at least one character");
            return None;
        }
        let bytes = Bytes::from(text.value.as_str());
        let octets = from_hexadecimal(text.value.as_bytes());
        let matching = match way {
            "contains" => Some(Matching::Contains(bytes)),
            "equals" => Some(Matching::Equals(bytes)),
            "starts" => Some(Matching::Starts(bytes)),
            "ends" => Some(Matching::Ends(bytes)),
            "hex" => octets.map(|octets| Matching::Contains(Bytes(octets))),
            "equals_hex" => octets.map(|octets| Matching::Equals(Bytes(octets))),
            "md5" => octets.and_then(|octets| octets.try_into().ok()).map(Matching::Md5),
            "sha256" => octets.and_then(|octets| octets.try_into().ok()).map(Matching::Sha256),
            _ => match Matching::regex(&text.value) {
                Ok(_) => Some(Matching::Regex(text.value.clone())),
                Err(error) => {
                    self.refuse(
                        &text.at,
                        format!("no regular expression: {error}"),
                        "such as \"^OK [0-9]+\"",
                    );
                    return None;
                }
            },
        };
        if matching.is_none() {
            let digits = match way {
                "md5" => "32 hexadecimal digits",
                "sha256" => "64 hexadecimal digits",
                _ => "hexadecimal digits, two for each octet",
            };
            self.refuse(&text.at, format!("`{way}` does not fit"), digits);
        }
        matching.map(|matching| Expect { matching, negate })
    }

    /// Octets as text, or in hexadecimal.
    pub(super) fn bytes(
        &mut self,
        table: &mut Table<'_>,
        text: &'static str,
        hexadecimal: &'static str,
    ) -> Option<Bytes> {
        let (said, digits) = (self.text(table, text), self.text(table, hexadecimal));
        match (said, digits) {
            (Some(_), Some(digits)) => {
                self.refuse(&digits.at, format!("`{text}` beside `{hexadecimal}`"), "one of them");
                None
            }
            (Some(said), None) => Some(Bytes(said.value.into_bytes())),
            (None, Some(digits)) => {
                let octets = from_hexadecimal(digits.value.as_bytes());
                if octets.is_none() {
                    self.refuse(&digits.at, "not hexadecimal", "two digits for each octet");
                }
                octets.map(Bytes)
            }
            (None, None) => None,
        }
    }

    pub(super) fn dns(&mut self, value: &Spanned<DeValue<'_>>, backend: Option<&Target>) -> Option<Probe> {
        if let DeValue::String(_) = value.get_ref() {
            let target = self.as_target(value)?.value;
            return Some(Probe::Dns(DnsProbe { target, name: ".".to_owned(), kind: DnsKind::SOA }));
        }
        let mut table = self.as_table(value)?;
        let target = self.target(&mut table, backend, None);
        let name = match self.text(&mut table, "name") {
            Some(name) if is_domain(&name.value) => name.value,
            Some(name) => {
                self.refuse(
                    &name.at,
                    "no domain name",
                    "labels of at most 63 characters with dots between them",
                );
                ".".to_owned()
            }
            None => ".".to_owned(),
        };
        let kind = match self.text(&mut table, "type") {
            Some(text) => {
                let kind = DnsKind::parse(&text.value);
                if kind.is_none() {
                    self.refuse(
                        &text.at,
                        "no type of a record",
                        "\"A\", \"AAAA\", \"SOA\", \"TYPE257\" or the like",
                    );
                }
                kind.unwrap_or(DnsKind::SOA)
            }
            None => DnsKind::SOA,
        };
        self.finish(table);
        Some(Probe::Dns(DnsProbe { target: target?, name, kind }))
    }

    pub(super) fn udp(&mut self, value: &Spanned<DeValue<'_>>, backend: Option<&Target>) -> Option<Probe> {
        let mut table = self.as_table(value)?;
        let target = self.target(&mut table, backend, None);
        let payload = self.bytes(&mut table, "payload", "payload_hex").unwrap_or_default();
        let min_reply = self.integer(&mut table, "min_reply", 0..=65535).map(|n| n.value);
        let max_reply = self.integer(&mut table, "max_reply", 0..=65535).map(|n| n.value);
        let require_reply = self.on(&mut table, "require_reply");
        let expect = self.expect(&mut table, false);
        self.finish(table);
        Some(Probe::Udp(UdpProbe { target: target?, payload, require_reply, min_reply, max_reply, expect }))
    }

    /// `"HOST"`, or a table.
    pub(super) fn ping(&mut self, value: &Spanned<DeValue<'_>>, backend: Option<&Target>) -> Option<Probe> {
        let host = if let DeValue::String(_) = value.get_ref() {
            self.as_text(value, "a host")
        } else {
            let mut table = self.as_table(value)?;
            let host = self.text(&mut table, "host");
            if let (None, Some(backend)) = (&host, backend) {
                self.finish(table);
                return Some(Probe::Ping { host: backend.host.clone() });
            }
            if host.is_none() {
                self.missing(&table, "host", "name or address");
            }
            self.finish(table);
            host
        }?;
        if host.value.is_empty() || host.value.contains(|c: char| c.is_whitespace() || c == '/') {
            self.refuse(&host.at, format!("\"{}\" is not a host", host.value), "a name or an address");
        }
        Some(Probe::Ping { host: host.value })
    }

    pub(super) fn agent(&mut self, value: &Spanned<DeValue<'_>>, backend: Option<&Target>) -> Option<Probe> {
        if let DeValue::String(_) = value.get_ref() {
            let target = self.as_target(value)?.value;
            return Some(Probe::Agent(AgentProbe { target, send: Bytes::default() }));
        }
        let mut table = self.as_table(value)?;
        let target = self.target(&mut table, backend, None);
        let send = self.bytes(&mut table, "send", "send_hex").unwrap_or_default();
        self.finish(table);
        Some(Probe::Agent(AgentProbe { target: target?, send }))
    }
}

const HELLO: &str = "HELO localhost";

/// A bare connect has a name of its own.
fn made(dialogue: Dialogue) -> Probe {
    match dialogue {
        Dialogue { target, tls: None, talk: Talk::Steps(steps), .. } if steps.is_empty() => {
            Probe::Tcp { target }
        }
        dialogue => Probe::Dialogue(dialogue),
    }
}

fn is_domain(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && !label.contains(char::is_whitespace);
    name.is_empty() || (name.len() <= 253 && name.split('.').all(label))
}
