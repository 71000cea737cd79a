//! `server`, `server-template`, `default-server` and `dispatch` lines.

use std::collections::HashMap;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::written::{Statement, Word};

use super::address::{self, Address, Host};
use super::keywords::{self, SERVER, Status};
use super::reader::shown;
use super::settings::{Mode, Proxy};
use super::value;

/// One server, or a template for many.
#[derive(Clone, Debug)]
pub(super) struct Server {
    pub name: Located<String>,
    pub address: Located<Address>,
    /// The whole name where all of it is asked for: a template for all addresses, or a service.
    pub template: bool,
    pub options: Options,
}

impl Server {
    /// `_http._tcp.example.org`
    pub fn service(&self) -> Option<&str> {
        match &self.address.value.host {
            Host::Name(name) if name.starts_with('_') && name.matches("._").count() > 0 => Some(name),
            _ => None,
        }
    }
}

/// Options of a server, those of `default-server` below its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Options(HashMap<&'static str, Given>);

#[derive(Clone, Debug)]
pub(super) struct Given {
    pub at: Location,
    pub argument: Option<Word>,
    /// Words behind `source ADDRESS`.
    pub more: Vec<Word>,
}

impl Options {
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str) -> Option<&Given> {
        self.0.get(name)
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        Some(self.0.get(name)?.argument.as_ref()?.text.as_str())
    }

    pub fn number(&self, name: &str) -> Option<i64> {
        self.text(name).map(value::number)
    }

    /// Judged where it was read.
    pub fn time(&self, name: &str) -> Option<Duration> {
        value::time(self.text(name)?).ok()
    }
}

/// Options with a time, and options with a number within bounds.
const TIMES: [&str; 7] =
    ["inter", "fastinter", "downinter", "agent-inter", "slowstart", "tcp-ut", "pool-purge-delay"];
const NUMBERS: [(&str, i64, i64); 11] = [
    ("rise", 1, i32::MAX as i64),
    ("fall", 1, i32::MAX as i64),
    ("weight", 0, 256),
    ("maxconn", i64::MIN, i64::MAX),
    ("minconn", i64::MIN, i64::MAX),
    ("maxqueue", i64::MIN, i64::MAX),
    ("port", 0, 65535),
    ("agent-port", 0, 65535),
    ("error-limit", 1, i32::MAX as i64),
    ("max-reuse", i64::MIN, i64::MAX),
    ("id", 1, i32::MAX as i64),
];

/// Options without `no-`, and what they take away.
fn takes_away(name: &str) -> &[&'static str] {
    match name {
        "no-agent-check" => &["agent-check"],
        "no-backup" => &["backup"],
        "no-check" => &["check"],
        "no-check-send-proxy" => &["check-send-proxy"],
        "no-check-ssl" => &["check-ssl"],
        "no-send-proxy" => &["send-proxy"],
        "no-send-proxy-v2" => &["send-proxy-v2"],
        "no-send-proxy-v2-ssl" => &["send-proxy-v2-ssl"],
        "no-send-proxy-v2-ssl-cn" => &["send-proxy-v2-ssl-cn"],
        "no-ssl" => &["ssl"],
        "no-verifyhost" => &["verifyhost"],
        "enabled" => &["disabled"],
        "stick" => &["non-stick"],
        _ => &[],
    }
}

/// The servers of a proxy.
pub(super) fn read(proxy: &Proxy, diagnostics: &mut Diagnostics) -> Vec<Server> {
    let mut base = Options::default();
    let mut servers = Vec::new();
    let mut names: HashMap<String, Location> = HashMap::new();
    for line in &proxy.lines {
        let statement = &line.statement;
        match line.keyword.name {
            "default-server" => {
                // A line of `defaults` is judged with the first proxy that inherits it: findings are said once.
                options(proxy, &statement.words[1..], &mut base, diagnostics);
            }
            "server" => servers.extend(server(statement, false, &base, &mut names, proxy, diagnostics)),
            "server-template" => {
                servers.extend(server(statement, true, &base, &mut names, proxy, diagnostics))
            }
            "dispatch" => servers.extend(dispatch(statement, diagnostics)),
            _ => {}
        }
    }
    servers
}

fn dispatch(statement: &Statement, diagnostics: &mut Diagnostics) -> Option<Server> {
    let word = value::parameter(statement, 1, "ADDRESS:PORT", diagnostics)?;
    let address = address_of(word, diagnostics)?;
    Some(Server {
        name: Located::new("dispatch".to_owned(), word.at.clone()),
        address: Located::new(address, word.at.clone()),
        template: false,
        options: Options::default(),
    })
}

fn server(
    statement: &Statement,
    template: bool,
    base: &Options,
    names: &mut HashMap<String, Location>,
    proxy: &Proxy,
    diagnostics: &mut Diagnostics,
) -> Option<Server> {
    let keyword = if template { "server-template" } else { "server" };
    let expected =
        if template { "`server-template NAME COUNT NAME:PORT`" } else { "`server NAME ADDRESS:PORT`" };
    let at = 1 + usize::from(template);
    if statement.words.len() < at + 2 {
        let finding = Diagnostic::error(
            "missing-parameter",
            &statement.whole(),
            format!("`{keyword}` without its address"),
        );
        diagnostics.push(finding.expected(expected).help("HAProxy does not start with it either"));
        return None;
    }
    let name = &statement.words[1];
    let invalid =
        name.text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')));
    if let Some(invalid) = invalid {
        let message = format!("character `{invalid}` is not permitted in server name `{}`", shown(name));
        let finding = Diagnostic::error("invalid-value", &name.at, message);
        let help = value::placeholder_help(&name.text)
            .unwrap_or_else(|| "HAProxy does not start with it either".to_owned());
        diagnostics.push(finding.expected("letters, digits, `-`, `_`, `.` and `:`").help(help));
    } else if let Some(first) = names.insert(name.text.clone(), name.at.clone()) {
        let message = format!(
            "{}: another server named `{}` was already defined at line {}",
            proxy.shown(),
            shown(name),
            first.place.line
        );
        let finding = Diagnostic::error("duplicate", &name.at, message);
        diagnostics.push(finding.expected("distinct names").help("HAProxy does not start with it either"));
    }
    if template && !count(&statement.words[2], diagnostics) {
        return None;
    }
    let word = &statement.words[at + 1];
    let address = address_of(word, diagnostics);
    let mut own = base.clone();
    options(proxy, &statement.words[at + 2..], &mut own, diagnostics);
    let address = address?;
    if address.ip().is_some_and(|ip| ip.is_unspecified()) {
        let message = format!("server {} has no address", shown(name));
        let finding = Diagnostic::error("refused", &word.at, message);
        diagnostics.push(
            finding
                .expected("the address of the server")
                .help("HAProxy connects to the address that the client asked for, which on a load balancer is the load balancer itself"),
        );
        return None;
    }
    Some(Server {
        name: Located::new(name.text.clone(), name.at.clone()),
        address: Located::new(address, word.at.clone()),
        template,
        options: own,
    })
}

/// `5`, or `1-5`.
fn count(word: &Word, diagnostics: &mut Diagnostics) -> bool {
    const MOST: i64 = 100_000;
    let (first, last) = word.text.split_once('-').unwrap_or(("1", &word.text));
    let (first, last) = (value::number(first), value::number(last));
    if first < 1 || last < first || last > MOST {
        let message = format!("`{}` is no number of servers", shown(word));
        let finding = Diagnostic::error("invalid-value", &word.at, message);
        diagnostics.push(finding.expected(format!("a number from 1 to {MOST}, or a range")));
        return false;
    }
    true
}

fn address_of(word: &Word, diagnostics: &mut Diagnostics) -> Option<Address> {
    match address::parse(&word.text) {
        Ok(address) if !matches!(address.port, address::Port::Range(..)) => Some(address),
        wrong => {
            let (code, message, help) = match wrong {
                Ok(_) => ("invalid-value", format!("`{}` is a range of ports", shown(word)), None),
                Err(wrong) => (wrong.code, wrong.message, wrong.help),
            };
            let help = value::placeholder_help(&word.text)
                .unwrap_or_else(|| help.unwrap_or("HAProxy does not start with it either").to_owned());
            let finding = Diagnostic::error(code, &word.at, message);
            diagnostics.push(finding.expected("ADDRESS:PORT or NAME:PORT").help(help));
            None
        }
    }
}

/// Reads options over those that are there.
fn options(proxy: &Proxy, words: &[Word], into: &mut Options, diagnostics: &mut Diagnostics) {
    let mut index = 0;
    while let Some(word) = words.get(index) {
        index += 1;
        let Some(keyword) = keywords::option_of(SERVER, &word.text) else {
            let message = format!("unknown option `{}` of a server", shown(word));
            let finding = Diagnostic::error("unknown-keyword", &word.at, message);
            let meant = diagnostics.suggest(&word.text, SERVER.iter().map(|keyword| keyword.name));
            diagnostics.push(match meant {
                Some(meant) => {
                    finding.expected(format!("`{meant}`?")).help("HAProxy does not start with it either")
                }
                None => finding.help("HAProxy does not start with it either"),
            });
            return;
        };
        let mut given = Given { at: word.at.clone(), argument: None, more: Vec::new() };
        if keyword.arguments() > 0 {
            let Some(argument) = words.get(index) else {
                let finding = Diagnostic::error(
                    "missing-parameter",
                    &word.at,
                    format!("`{}` without its value", keyword.name),
                );
                diagnostics.push(
                    finding.expected("a value behind it").help("HAProxy does not start with it either"),
                );
                return;
            };
            index += 1;
            given.argument = Some(argument.clone());
            if !valid(keyword.name, argument, diagnostics) {
                continue;
            }
        }
        while keyword.name == "source"
            && words.get(index).is_some_and(|word| matches!(word.text.as_str(), "usesrc" | "interface"))
        {
            given.more.extend(words.iter().skip(index).take(2).cloned());
            index += 2;
        }
        say(proxy, keyword, &given.at, diagnostics);
        for name in takes_away(keyword.name) {
            into.0.remove(name);
        }
        // Of the headers the last one counts.
        if keyword.name.starts_with("send-proxy") {
            into.0.retain(|name, _| !name.starts_with("send-proxy"));
        }
        into.0.insert(keyword.name, given);
    }
}

fn valid(name: &str, argument: &Word, diagnostics: &mut Diagnostics) -> bool {
    if TIMES.contains(&name) {
        let time = value::time_of(argument, diagnostics);
        let must = matches!(name, "inter" | "fastinter" | "downinter" | "agent-inter");
        if must && time.is_some_and(|time| time.is_zero()) {
            let finding =
                Diagnostic::error("invalid-value", &argument.at, format!("invalid value 0 for `{name}`"));
            diagnostics
                .push(finding.expected("a time above 0").help("HAProxy does not start with it either"));
            return false;
        }
        return time.is_some();
    }
    if let Some((_, least, most)) = NUMBERS.iter().find(|(number, ..)| *number == name) {
        return value::number_within(argument, *least, *most, &format!("`{name}`"), diagnostics).is_some();
    }
    let words: &[&str] = match name {
        "observe" => &["none", "layer4", "layer7"],
        "on-marked-down" => &["shutdown-sessions"],
        "on-marked-up" => &["shutdown-backup-sessions"],
        "on-error" => &["fastinter", "fail-check", "sudden-death", "mark-down"],
        "verify" => &["none", "required"],
        "resolve-prefer" => &["ipv4", "ipv6"],
        _ => return true,
    };
    if !words.contains(&argument.text.as_str()) {
        let finding = Diagnostic::error(
            "invalid-value",
            &argument.at,
            format!("`{}` is no value of `{name}`", shown(argument)),
        );
        diagnostics.push(finding.expected(words.join(", ")).help("HAProxy does not start with it either"));
        return false;
    }
    true
}

fn say(proxy: &Proxy, keyword: &keywords::Keyword, at: &Location, diagnostics: &mut Diagnostics) {
    let name = keyword.name;
    let http = proxy.mode() == Mode::Http;
    match keyword.status {
        Status::Http if http => {
            let finding = Diagnostic::error("needs-http", at, format!("`{name}` of a server needs HTTP"));
            diagnostics.push(finding.help("vipd carries TCP: keep an HTTP proxy for this one"));
        }
        Status::Http => {
            let finding =
                Diagnostic::error("refused-by-haproxy", at, format!("`{name}` of a server in `mode tcp`"));
            diagnostics.push(finding.help("HAProxy does not start with it either; delete it"));
        }
        Status::HttpOnly if http => {
            let finding =
                Diagnostic::notice("not-needed", at, format!("`{name}` of a server has no effect here"));
            diagnostics.push(finding.help("it concerns requests, and vipd carries TCP"));
        }
        Status::Refused(instead) => {
            let finding = Diagnostic::error("refused", at, format!("`{name}` of a server cannot be carried"));
            diagnostics.push(finding.help(instead));
        }
        Status::Dropped(instead) => {
            let finding =
                Diagnostic::warning("not-carried", at, format!("`{name}` of a server is not carried"));
            diagnostics.push(finding.help(instead));
        }
        Status::NotNeeded(why) => {
            let finding =
                Diagnostic::notice("not-needed", at, format!("`{name}` of a server has no effect here"));
            diagnostics.push(finding.help(why));
        }
        Status::HttpOnly => {
            let finding =
                Diagnostic::notice("http-only", at, format!("`{name}` of a server never had an effect"));
            diagnostics.push(finding.help("HAProxy ignores it in `mode tcp` too"));
        }
        Status::Carried | Status::Differs(_) | Status::Gone(_) => {}
    }
}
