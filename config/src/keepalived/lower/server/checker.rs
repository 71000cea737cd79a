//! The checkers of a `real_server`, and the words that most of them know.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located, Location};
use crate::ready::{Command, DnsKind, FileExpect, Probe};
use crate::written::{Statement, Word};

use super::super::values::Rest;
use super::super::{Kind, Lower, inside, located};
use super::url::Web;
use super::{IGNORED, MOST_WEIGHT, Real, Timing};

/// A checker as it was written.
#[derive(Clone, Debug)]
pub(super) struct Checker {
    /// Its keyword.
    pub at: Location,
    pub alpha: Option<bool>,
    pub timing: Timing,
    pub connection: Connection,
    pub probe: Checking,
}

/// Where it connects, and how; what is not written is that of the real server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Connection {
    pub ip: Option<IpAddr>,
    pub port: Option<u16>,
    pub source: Option<IpAddr>,
    pub source_port: Option<u16>,
    pub interface: Option<String>,
    pub mark: Option<u32>,
}

impl Connection {
    /// Nothing was said.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// What a checker does.
#[derive(Clone, Debug)]
pub(super) enum Checking {
    Tcp,
    Http(Web),
    Smtp { helo: Option<String> },
    Dns { kind: DnsKind, name: Option<String> },
    Misc { command: Command, timeout: Option<Duration>, dynamic: bool },
    Udp(Datagram),
    Ping,
    File { path: PathBuf, initial: Option<(i64, bool)>, weight: i32 },
    Bfd { session: String },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Datagram {
    pub payload: Vec<u8>,
    pub require_reply: bool,
    /// Octets, and which of their bits may be anything.
    pub reply: Vec<(u8, u8)>,
    pub min_reply: Option<u16>,
    pub max_reply: Option<u16>,
}

/// What the words of one checker come to.
struct Reading {
    alpha: Option<bool>,
    timing: Timing,
    connection: Connection,
    /// Of each `host` in SMTP_CHECK, which is checked by itself; each with its `connect_timeout`.
    hosts: Vec<(Connection, Option<Duration>)>,
}

impl Lower<'_> {
    pub(super) fn checker(&mut self, block: &Statement, real: &mut Real) {
        let mut reading = Reading {
            alpha: None,
            timing: Timing::default(),
            connection: Connection::default(),
            hosts: Vec::new(),
        };
        let probe = match block.keyword() {
            "TCP_CHECK" => self.plain_checker(block, &mut reading, Checking::Tcp),
            "PING_CHECK" => self.plain_checker(block, &mut reading, Checking::Ping),
            "HTTP_GET" | "SSL_GET" => {
                let ssl = block.keyword() == "SSL_GET";
                let own = |lower: &mut Self, statement: &Statement| {
                    lower.checker_word(statement, &mut reading);
                };
                self.web_checker(block, ssl, own).map(Checking::Http)
            }
            "SMTP_CHECK" => self.smtp_checker(block, &mut reading),
            "DNS_CHECK" => self.dns_checker(block, &mut reading),
            "MISC_CHECK" => self.misc_checker(block, &mut reading),
            "UDP_CHECK" => self.udp_checker(block, &mut reading),
            "FILE_CHECK" => self.file_checker(block, &mut reading),
            "BFD_CHECK" => self.bfd_checker(block, &mut reading, real),
            other => {
                debug_assert!(false, "no meaning for {other}");
                None
            }
        };
        let Some(probe) = probe else { return };
        let Reading { alpha, timing, connection, mut hosts } = reading;
        // Beside hosts, what connects to the server itself is checked when something was said of it (2.2.7).
        if hosts.is_empty() || !connection.is_default() || timing.connect_timeout.is_some() {
            hosts.insert(0, (connection, timing.connect_timeout));
        }
        for (connection, connect_timeout) in hosts {
            if self.needs_interface(block, &probe, &connection, real) {
                continue;
            }
            real.checkers.push(Checker {
                at: block.at().clone(),
                alpha,
                timing: Timing { connect_timeout, ..timing },
                connection,
                probe: probe.clone(),
            });
        }
    }

    fn needs_interface(
        &mut self,
        block: &Statement,
        probe: &Checking,
        connection: &Connection,
        real: &Real,
    ) -> bool {
        let target = connection.ip.unwrap_or(real.address.ip());
        let connects = !matches!(probe, Checking::Misc { .. } | Checking::File { .. } | Checking::Bfd { .. });
        let needs = connects
            && connection.interface.is_none()
            && matches!(target, IpAddr::V6(six) if six.is_unicast_link_local());
        if needs {
            let message = format!("the link-local address {target} needs an interface");
            let finding = Diagnostic::warning("link-local-checker", block.at(), message);
            self.diagnostics.push(
                finding.expected("`bind_if INTERFACE`").help("the checker is left out, as in keepalived"),
            );
        }
        needs
    }

    fn plain_checker(
        &mut self,
        block: &Statement,
        reading: &mut Reading,
        made: Checking,
    ) -> Option<Checking> {
        for statement in inside(block) {
            self.checker_word(statement, reading);
        }
        Some(made)
    }

    /// A word that most checkers know.
    fn checker_word(&mut self, statement: &Statement, reading: &mut Reading) {
        if self.timing(statement, &mut reading.timing, 0) {
            return;
        }
        let connection = &mut reading.connection;
        match statement.keyword() {
            "alpha" => reading.alpha = self.boolean(statement).map(|on| on.value).or(reading.alpha),
            "connect_ip" => {
                let word = self.required(statement, "an address");
                let address = word.and_then(|word| self.address(word, IGNORED));
                let source = connection.source;
                connection.ip = address.and_then(|a| self.same_family(a, source)).or(connection.ip);
            }
            "bindto" => {
                let word = self.required(statement, "an address of this host");
                let address = word.and_then(|word| self.address(word, IGNORED));
                let ip = connection.ip;
                connection.source = address.and_then(|a| self.same_family(a, ip)).or(connection.source);
            }
            "connect_port" => connection.port = self.port(statement).or(connection.port),
            "bind_port" => connection.source_port = self.port(statement).or(connection.source_port),
            "bind_if" => {
                let Some(word) = self.required(statement, "an interface") else { return };
                if super::super::is_interface_name(&word.text) {
                    connection.interface = Some(word.text.clone());
                } else {
                    self.invalid(word, "an interface: 1 to 15 bytes without `/`", IGNORED);
                }
            }
            "fwmark" => {
                let word = self.required(statement, "a mark");
                let most = i64::from(u32::MAX);
                let mark = word.and_then(|word| self.number(word, 0..=most, Rest::Warned, IGNORED));
                connection.mark = mark.and_then(|mark| u32::try_from(mark).ok()).filter(|mark| *mark > 0);
            }
            // Of SMTP_CHECK, where it holds words of the connection.
            other => debug_assert!(false, "no meaning for {other}"),
        }
    }

    fn port(&mut self, statement: &Statement) -> Option<u16> {
        let word = self.required(statement, "a port")?;
        let port = self.number(word, 1..=65535, Rest::Warned, IGNORED)?;
        u16::try_from(port).ok()
    }

    fn same_family(&mut self, address: Located<IpAddr>, other: Option<IpAddr>) -> Option<IpAddr> {
        if other.is_some_and(|other| other.is_ipv4() != address.value.is_ipv4()) {
            let message = "`connect_ip` and `bindto` are of different families";
            self.diagnostics.push(Diagnostic::warning("checker-family", &address.at, message).help(IGNORED));
            return None;
        }
        Some(address.value)
    }

    fn smtp_checker(&mut self, block: &Statement, reading: &mut Reading) -> Option<Checking> {
        let mut helo = None;
        for statement in inside(block) {
            match statement.keyword() {
                "helo_name" => helo = self.web_host(statement),
                "host" => {
                    let own = std::mem::take(&mut reading.connection);
                    let timeout = reading.timing.connect_timeout.take();
                    for statement in inside(statement) {
                        self.checker_word(statement, reading);
                    }
                    let host = std::mem::replace(&mut reading.connection, own);
                    let of_host = std::mem::replace(&mut reading.timing.connect_timeout, timeout);
                    reading.hosts.push((host, of_host));
                }
                _ => self.checker_word(statement, reading),
            }
        }
        Some(Checking::Smtp { helo })
    }

    fn dns_checker(&mut self, block: &Statement, reading: &mut Reading) -> Option<Checking> {
        const KNOWN: &str = "`A`, `NS`, `CNAME`, `SOA`, `MX`, `TXT`, `AAAA`, `RRSIG` or `DNSKEY`";
        let (mut kind, mut name): (_, Option<String>) = (DnsKind::SOA, None);
        for statement in inside(block) {
            match statement.keyword() {
                "type" => {
                    let Some(word) = self.required(statement, KNOWN) else { continue };
                    let known = KNOWN.contains(&format!("`{}`", word.text));
                    match DnsKind::parse(&word.text).filter(|_| known) {
                        Some(parsed) => kind = parsed,
                        None => self.invalid(word, KNOWN, "SOA is asked for, as in keepalived"),
                    }
                }
                "name" => {
                    let Some(word) = self.required(statement, "a name") else { continue };
                    let text = &word.text;
                    if name.is_some() {
                        self.invalid(word, "one name", "the first counts, as in keepalived");
                    } else if text.contains("..") || (text.starts_with('.') && text != ".") {
                        self.invalid(word, "a name without empty labels", IGNORED);
                    } else {
                        name = Some(text.clone());
                    }
                }
                _ => self.checker_word(statement, reading),
            }
        }
        Some(Checking::Dns { kind, name })
    }

    fn misc_checker(&mut self, block: &Statement, reading: &mut Reading) -> Option<Checking> {
        let (mut path, mut timeout, mut dynamic) = (None, None, false);
        let mut user = None;
        for statement in inside(block) {
            match statement.keyword() {
                "misc_path" => {
                    if self.required(statement, "a command").is_some() {
                        path = Some(statement);
                    }
                }
                "misc_timeout" => {
                    let word = self.required(statement, "seconds");
                    let most = i64::from(u32::MAX / 1_000_000);
                    let number = word.and_then(|word| self.number(word, 0..=most, Rest::Warned, IGNORED));
                    let number = number.and_then(|number| u64::try_from(number).ok());
                    timeout = number.filter(|number| *number > 0).map(Duration::from_secs).or(timeout);
                }
                "misc_dynamic" => dynamic = true,
                "user" => {
                    if statement.parameter().is_none() {
                        self.optional_text(statement);
                        continue;
                    }
                    let removed = "the checker is left out, as in keepalived";
                    user = Some(self.user(statement.parameters(), removed)?);
                }
                _ => self.checker_word(statement, reading),
            }
        }
        let Some(path) = path else {
            let finding = Diagnostic::warning("missing-script", block.at(), "no `misc_path` in `MISC_CHECK`");
            let finding = finding.expected("`misc_path \"/path/to/program\"`");
            self.diagnostics.push(finding.help("the checker is left out, as in keepalived"));
            return None;
        };
        let user = match user {
            Some(user) => Some(user),
            None => self.script_user(path.at()).ok()?,
        };
        let command = self.command(path, user, false)?;
        Some(Checking::Misc { command, timeout, dynamic })
    }

    fn udp_checker(&mut self, block: &Statement, reading: &mut Reading) -> Option<Checking> {
        let mut made = Datagram::default();
        for statement in inside(block) {
            match statement.keyword() {
                "payload" => {
                    if statement.parameter().is_none() {
                        self.optional_text(statement);
                        continue;
                    }
                    let octets = self.hexadecimal(statement.parameters(), false);
                    made.payload = octets.into_iter().map(|(octet, _)| octet).collect();
                }
                "require_reply" => {
                    made.require_reply = true;
                    if statement.parameter().is_some() {
                        made.reply = self.hexadecimal(statement.parameters(), true);
                    }
                }
                "min_reply_length" => made.min_reply = self.reply_length(statement).or(made.min_reply),
                "max_reply_length" => made.max_reply = self.reply_length(statement).or(made.max_reply),
                _ => self.checker_word(statement, reading),
            }
        }
        let most = made.max_reply.unwrap_or(u8::MAX.into());
        if made.min_reply.unwrap_or(0) > most {
            let message =
                format!("no reply is {} octets at least and {most} at most", made.min_reply.unwrap_or(0));
            let finding = Diagnostic::warning("reply-length", block.at(), message);
            self.diagnostics.push(finding.help("the checker always fails, as in keepalived"));
        }
        Some(Checking::Udp(made))
    }

    fn reply_length(&mut self, statement: &Statement) -> Option<u16> {
        let word = self.required(statement, "a number of octets")?;
        let number = self.number(word, 0..=i64::from(u16::MAX), Rest::Refused, IGNORED)?;
        u16::try_from(number).ok()
    }

    /// Hexadecimal digits, one or two an octet; with `wildcards` an `x` stands for any digit.
    fn hexadecimal(&mut self, words: &[Word], wildcards: bool) -> Vec<(u8, u8)> {
        let digit = |c: char| match c {
            'x' | 'X' if wildcards => Some((0, 0xf)),
            c => c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).map(|digit| (digit, 0)),
        };
        let mut octets = Vec::new();
        for word in words {
            let digits: Option<Vec<_>> = word.text.chars().map(digit).collect();
            let Some(digits) = digits else {
                self.invalid(word, "hexadecimal digits", IGNORED);
                return Vec::new();
            };
            octets.extend(digits.chunks(2).map(|pair| match pair {
                [(high, any_high), (low, any_low)] => (high << 4 | low, any_high << 4 | any_low),
                [(low, any), ..] => (*low, *any),
                [] => (0, 0),
            }));
        }
        octets
    }

    fn file_checker(&mut self, block: &Statement, reading: &mut Reading) -> Option<Checking> {
        let mut file = None;
        let mut weight: Option<(i64, bool)> = None;
        for statement in inside(block) {
            match statement.keyword() {
                "track_file" => {
                    let Some(word) = self.required(statement, "the name of a `track_file`") else { continue };
                    file = self.tracked.get(&(Kind::File, word.text.clone())).cloned();
                    if file.is_none() {
                        self.invalid(word, "the name of a `track_file` of this configuration", IGNORED);
                    }
                }
                "weight" => {
                    if statement.parameter().is_none() {
                        self.optional_text(statement);
                        continue;
                    }
                    weight = self.file_weight(statement).or(weight);
                }
                _ => self.checker_word(statement, reading),
            }
        }
        let Some(file) = file else {
            let finding = Diagnostic::warning("missing-file", block.at(), "no `track_file` in `FILE_CHECK`");
            let finding = finding.expected("`track_file NAME`");
            self.diagnostics.push(finding.help("the checker is left out, as in keepalived"));
            return None;
        };
        let checks = &self.model.checks;
        let probe = checks.iter().find(|check| check.name.value == file.check).map(|check| &check.probe);
        let Some(Probe::File { path, initial, expect: FileExpect::Value }) = probe else { return None };
        let (path, initial) = (path.clone(), *initial);
        self.checker_files.insert(file.check.clone());
        let (weight, reverse) = weight.unwrap_or_else(|| {
            let (weight, reverse) = super::super::trackers::weight_of(file.effect);
            (weight.into(), reverse)
        });
        if weight == 0 && reverse {
            let message = "`weight 0 reverse` is not taken over: any number but 0 counts as failure";
            let finding = Diagnostic::warning("file-check-reverse", block.at(), message);
            self.diagnostics.push(finding.help("write the opposite number into the file"));
        }
        let weight = if reverse { -weight } else { weight };
        Some(Checking::File { path, initial, weight: i32::try_from(weight).unwrap_or(i32::MAX) })
    }

    fn file_weight(&mut self, statement: &Statement) -> Option<(i64, bool)> {
        let word = statement.parameter()?;
        let number = self.number(word, -MOST_WEIGHT..=MOST_WEIGHT, Rest::Warned, IGNORED)?;
        match statement.parameters().get(1) {
            None => Some((number, false)),
            Some(word) if word.text == "reverse" => Some((number, true)),
            Some(word) if word.text == "noreverse" => Some((number, false)),
            Some(word) => {
                self.invalid(word, "`reverse` or `noreverse`", IGNORED);
                None
            }
        }
    }

    fn bfd_checker(&mut self, block: &Statement, reading: &mut Reading, real: &mut Real) -> Option<Checking> {
        const LEFT_OUT: &str = "the checker is left out, as in keepalived";
        let (mut session, mut left_out) = (None, None);
        for statement in inside(block) {
            if statement.keyword() != "name" {
                self.checker_word(statement, reading);
                continue;
            }
            let expected = "the name of one `bfd_instance`";
            let [word] = statement.parameters() else {
                let finding = Diagnostic::warning("missing-value", statement.at(), "`name` without one name");
                self.diagnostics.push(finding.expected(expected).help(LEFT_OUT));
                return None;
            };
            if self.bfd_left_out.contains(&word.text) {
                left_out = Some(located(word));
                continue;
            }
            let known = self.model.bfd.iter().any(|bfd| bfd.name == word.text && bfd.for_checkers);
            let again = |checker: &Checker| matches!(&checker.probe, Checking::Bfd { session } if *session == word.text);
            if !known || session.is_some() || real.checkers.iter().any(again) {
                self.invalid(word, expected, LEFT_OUT);
                return None;
            }
            session = Some(word.text.clone());
        }
        if let Some(name) = left_out {
            real.waits_for = Some((name, reading.alpha));
            return None;
        }
        if session.is_none() {
            let finding = Diagnostic::warning("missing-value", block.at(), "no `name` in `BFD_CHECK`");
            self.diagnostics.push(finding.expected("`name NAME`").help(LEFT_OUT));
        }
        session.map(|session| Checking::Bfd { session })
    }
}
