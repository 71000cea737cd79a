//! `bind` lines.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::written::Statement;

use super::address::{self, Host, Port};
use super::keywords::{self, BIND, Status};
use super::reader::shown;
use super::settings::Proxy;
use super::value;

/// Addresses of a whole configuration: a range of ports is meant to be short.
const MOST_ADDRESSES: usize = 2048;

/// All `bind` lines of a frontend.
#[derive(Debug, Default)]
pub(super) struct Binds {
    pub addresses: Vec<Located<SocketAddr>>,
    pub accept_proxy: bool,
    pub maxconn: Option<u32>,
    pub user_timeout: Option<Duration>,
    /// A line was refused, and said so.
    pub refused: bool,
}

pub(super) fn read(proxy: &Proxy, taken: &mut usize, diagnostics: &mut Diagnostics) -> Binds {
    let mut binds = Binds::default();
    let mut whole_hosts: Vec<(u16, Location)> = Vec::new();
    let mut with_proxy = 0;
    let lines: Vec<_> = proxy.lines("bind").collect();
    for line in &lines {
        let options = options(&line.statement, &mut binds, diagnostics);
        with_proxy += usize::from(options.accept_proxy);
        addresses(&line.statement, &options, &mut binds, &mut whole_hosts, taken, diagnostics);
    }
    // In HAProxy `:::PORT` is a socket for both families, as long as no other one has the IPv4 port.
    for (port, at) in whole_hosts {
        let four = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let has_four = |bind: &Located<SocketAddr>| bind.value.port() == port && bind.value.is_ipv4();
        if !binds.addresses.iter().any(has_four) {
            binds.addresses.push(Located::new(four, at));
        }
    }
    binds.accept_proxy = with_proxy > 0;
    if with_proxy > 0 && with_proxy < lines.len() {
        let message =
            format!("{} expects a PROXY header on some addresses and none on others", proxy.shown());
        let finding = Diagnostic::error("refused", proxy.at(), message);
        diagnostics.push(finding.help("write two frontends with the same `default_backend`: `accept-proxy` counts for a listener as a whole"));
    }
    binds
}

#[derive(Default)]
struct Options {
    accept_proxy: bool,
    v6only: bool,
    v4v6: bool,
}

fn options(statement: &Statement, binds: &mut Binds, diagnostics: &mut Diagnostics) -> Options {
    let mut found = Options::default();
    let mut said = false;
    let mut words = statement.words.iter().skip(2);
    while let Some(word) = words.next() {
        let Some(keyword) = keywords::option_of(BIND, &word.text) else {
            let message = format!("unknown option `{}` of `bind`", shown(word));
            let finding = Diagnostic::error("unknown-keyword", &word.at, message);
            let meant = diagnostics.suggest(&word.text, BIND.iter().map(|keyword| keyword.name));
            let expected = meant
                .map_or("several addresses are written `A:PORT,B:PORT`".to_owned(), |meant| {
                    format!("`{meant}`?")
                });
            diagnostics.push(finding.expected(expected).help("HAProxy does not start with it either"));
            binds.refused = true;
            return found;
        };
        let argument = if keyword.arguments() > 0 { words.next() } else { None };
        if keyword.arguments() > 0 && argument.is_none() {
            let finding = Diagnostic::error(
                "missing-parameter",
                &word.at,
                format!("`{}` without its value", keyword.name),
            );
            diagnostics
                .push(finding.expected("a value behind it").help("HAProxy does not start with it either"));
            continue;
        }
        match (keyword.name, argument) {
            ("accept-proxy", _) => found.accept_proxy = true,
            ("v6only", _) => found.v6only = true,
            ("v4v6", _) => found.v4v6 = true,
            ("maxconn", Some(word)) => {
                let number =
                    value::number_within(word, 0, i64::from(i32::MAX), "number of sessions", diagnostics);
                binds.maxconn = number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0);
            }
            ("tcp-ut", Some(word)) => binds.user_timeout = value::time_of(word, diagnostics),
            _ => {}
        }
        match keyword.status {
            // TLS comes with a dozen words; the first says it for all of them.
            Status::Refused(instead) if !said => {
                let message = format!("`{}` of `bind` cannot be carried", keyword.name);
                diagnostics.push(Diagnostic::error("refused", &word.at, message).help(instead));
                said = true;
                binds.refused = true;
            }
            Status::Dropped(instead) => {
                let message = format!("`{}` of `bind` is not carried", keyword.name);
                diagnostics.push(Diagnostic::warning("not-carried", &word.at, message).help(instead));
            }
            Status::NotNeeded(why) => {
                let message = format!("`{}` of `bind` has no effect here", keyword.name);
                diagnostics.push(Diagnostic::notice("not-needed", &word.at, message).help(why));
            }
            _ => {}
        }
    }
    found
}

fn addresses(
    statement: &Statement,
    options: &Options,
    binds: &mut Binds,
    whole_hosts: &mut Vec<(u16, Location)>,
    taken: &mut usize,
    diagnostics: &mut Diagnostics,
) {
    let Some(word) = statement.words.get(1) else { return };
    let mut refuse = |code, message: String, expected: &str, help: Option<String>| {
        let finding = Diagnostic::error(code, &word.at, message).expected(expected.to_owned());
        diagnostics
            .push(finding.help(help.unwrap_or_else(|| "HAProxy does not start with it either".to_owned())));
    };
    const EXPECTED: &str = "ADDRESS:PORT, `*:PORT` or `:::PORT`";
    for part in word.text.split(',') {
        let address = match address::parse(part) {
            Ok(address) => address,
            Err(wrong) => {
                let help = value::placeholder_help(part).or(wrong.help.map(str::to_owned));
                refuse(wrong.code, wrong.message, EXPECTED, help);
                binds.refused = true;
                continue;
            }
        };
        let ip = match address.host {
            Host::Ip(ip) => ip,
            Host::Name(name) if name == "localhost" => Ipv4Addr::LOCALHOST.into(),
            Host::Name(name) => {
                let help = "HAProxy resolves it once, at its start; write the address";
                refuse(
                    "invalid-value",
                    format!("`{name}` is a name: a listener is bound to an address"),
                    EXPECTED,
                    Some(help.to_owned()),
                );
                binds.refused = true;
                continue;
            }
        };
        let (first, last) = match address.port {
            Port::Fixed(port) if port > 0 => (port, port),
            Port::Range(first, last) => (first, last),
            Port::None => {
                refuse(
                    "invalid-value",
                    format!("missing port specification in `{}`", part.chars().take(60).collect::<String>()),
                    EXPECTED,
                    value::placeholder_help(part),
                );
                binds.refused = true;
                continue;
            }
            Port::Fixed(_) | Port::Offset(_) => {
                refuse(
                    "invalid-value",
                    format!("invalid port in `{}`", part.chars().take(60).collect::<String>()),
                    "a port from 1 to 65535",
                    None,
                );
                binds.refused = true;
                continue;
            }
        };
        *taken += usize::from(last - first) + 1;
        if *taken > MOST_ADDRESSES {
            let help = "write `mode = \"kernel\"` rules for so many ports, or fewer ports";
            refuse(
                "invalid-value",
                format!("more than {MOST_ADDRESSES} addresses to listen on"),
                "fewer ports",
                Some(help.to_owned()),
            );
            binds.refused = true;
            return;
        }
        for port in first..=last {
            binds.addresses.push(Located::new(SocketAddr::new(ip, port), word.at.clone()));
            let any_six = matches!(ip, IpAddr::V6(six) if six.is_unspecified());
            if any_six && (options.v4v6 || !options.v6only) {
                whole_hosts.push((port, word.at.clone()));
            }
        }
    }
}
