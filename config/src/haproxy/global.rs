//! `global`, `resolvers`, and the sections that concern no frontend.

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::written::Statement;

use super::keywords::{GLOBAL, Status};
use super::reader::{Section, shown};
use super::value;

/// What `global` sets for the rest.
#[derive(Debug, Default)]
pub(super) struct Global {
    pub maxconn: Option<Located<u32>>,
    pub nbthread: Option<Located<u16>>,
    pub ca_base: Option<String>,
    pub crt_base: Option<String>,
    /// `external-check`
    pub external_check: bool,
    /// `ssl-server-verify none`
    pub verify_none: bool,
}

pub(super) fn read(section: &Section, global: &mut Global, diagnostics: &mut Diagnostics) {
    for statement in &section.lines {
        let word = match statement.keyword() {
            "no" | "default" => statement.words.get(1).unwrap_or(&statement.words[0]),
            _ => &statement.words[0],
        };
        let found = GLOBAL.iter().find(|keyword| {
            keyword.name == word.text || keyword.name.ends_with('.') && word.text.starts_with(keyword.name)
        });
        let Some(keyword) = found else {
            let message = format!("unknown keyword `{}` in `global` section", shown(word));
            let finding = Diagnostic::error("unknown-keyword", &word.at, message);
            let meant = diagnostics.suggest(&word.text, GLOBAL.iter().map(|keyword| keyword.name));
            diagnostics.push(match meant {
                Some(meant) => finding.expected(format!("`{meant}`?")),
                None => finding.help("HAProxy does not start with it either; delete the line"),
            });
            continue;
        };
        set(statement, global, diagnostics);
        let at = statement.whole();
        match keyword.status {
            Status::NotNeeded(why) => {
                let message = format!("`{}` has no effect here", shown(word));
                diagnostics.push(Diagnostic::notice("not-needed", &at, message).help(why));
            }
            Status::Dropped(instead) => {
                let message = format!("`{}` is not carried", shown(word));
                diagnostics.push(Diagnostic::warning("not-carried", &at, message).help(instead));
            }
            Status::Gone(why) => {
                let message = format!("HAProxy 2.6 has no `{}` any more", shown(word));
                diagnostics.push(Diagnostic::error("refused-by-haproxy", &at, message).help(why));
            }
            _ => {}
        }
    }
}

fn set(statement: &Statement, global: &mut Global, diagnostics: &mut Diagnostics) {
    match statement.keyword() {
        "maxconn" => {
            let word = value::parameter(statement, 1, "a number", diagnostics);
            let number = word.and_then(|word| {
                value::number_within(word, 0, i64::from(i32::MAX), "number of sessions", diagnostics)
            });
            global.maxconn = number
                .and_then(|number| u32::try_from(number).ok())
                .filter(|number| *number > 0)
                .map(|number| Located::new(number, statement.whole()));
        }
        "nbthread" => {
            let word = value::parameter(statement, 1, "a number from 1 to 64", diagnostics);
            let number =
                word.and_then(|word| value::number_within(word, 1, 64, "number of threads", diagnostics));
            global.nbthread = number
                .and_then(|number| u16::try_from(number).ok())
                .map(|number| Located::new(number, statement.whole()));
        }
        "external-check" => global.external_check = true,
        "ca-base" => global.ca_base = statement.parameter().map(|word| word.text.clone()),
        "crt-base" => global.crt_base = statement.parameter().map(|word| word.text.clone()),
        "ssl-server-verify" => {
            global.verify_none = statement.parameter().is_some_and(|word| word.text == "none");
        }
        _ => {}
    }
}

/// vipd asks the host's resolver.
pub(super) fn resolvers(section: &Section, names: &mut Vec<String>, diagnostics: &mut Diagnostics) {
    names.extend(section.head.parameter().map(|word| word.text.clone()));
    const KNOWN: [&str; 7] = [
        "nameserver",
        "parse-resolv-conf",
        "hold",
        "resolve_retries",
        "timeout",
        "accepted_payload_size",
        "resolution_pool_size",
    ];
    for statement in &section.lines {
        let word = &statement.words[0];
        let at = statement.whole();
        match statement.keyword() {
            "nameserver" => {
                if let Some(address) = statement.words.get(2) {
                    let parsed = super::address::parse(&address.text);
                    if !parsed.is_ok_and(|address| matches!(address.port, super::address::Port::Fixed(_))) {
                        let message = format!("`{}` is no address with a port", shown(address));
                        let finding = Diagnostic::error("invalid-value", &address.at, message);
                        diagnostics.push(
                            finding
                                .expected("such as `10.0.0.53:53`")
                                .help("HAProxy does not start with it either"),
                        );
                        continue;
                    }
                }
                let finding = Diagnostic::warning("not-carried", &at, "`nameserver` is not asked");
                diagnostics.push(finding.help("names are resolved by the host's resolver: /etc/resolv.conf and /etc/hosts; write it there if it is another one"));
            }
            known if KNOWN.contains(&known) => {
                let finding = Diagnostic::notice("not-needed", &at, format!("`{known}` has no effect here"));
                diagnostics.push(
                    finding
                        .help("names are resolved by the host's resolver, and again when their TTL is over"),
                );
            }
            _ => {
                let message = format!("unknown keyword `{}` in `resolvers` section", shown(word));
                let finding = Diagnostic::error("unknown-keyword", &word.at, message);
                diagnostics
                    .push(finding.expected(KNOWN.join(", ")).help("HAProxy does not start with it either"));
            }
        }
    }
}

/// What becomes of a section that is no proxy.
pub(super) fn other(section: &Section, diagnostics: &mut Diagnostics) {
    let at = section.head.whole();
    let name = section.word();
    let lost =
        |why: &str| Diagnostic::warning("not-carried", &at, format!("`{name}` is not carried")).help(why);
    let unused =
        |why: &str| Diagnostic::notice("not-needed", &at, format!("`{name}` has no effect here")).help(why);
    diagnostics.push(match name {
        "peers" => lost("clients are remembered on each host by itself: after a move of the virtual address they may get another server"),
        "mailers" => lost("write `[mail]`, and `mail = true` at the backends, in TOML"),
        "program" => lost("let the service manager run the program"),
        "userlist" => unused("passwords are asked for in `mode http` alone"),
        "cache" | "http-errors" | "fcgi-app" => unused("it is of `mode http` alone"),
        "ring" => unused("vipd logs to its standard output or the journal"),
        "log-forward" => Diagnostic::error("refused", &at, "`log-forward` cannot be carried")
            .help("vipd carries no syslog; let rsyslog or a HAProxy of its own do it, and delete the section here"),
        _ => unused("it concerns nothing that vipd does"),
    });
}
