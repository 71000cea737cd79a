//! Rules of a frontend: where sessions go, and who is kept out.

use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::ready::Prefix;
use crate::written::{Statement, Word};

use super::settings::{Line, Mode, Proxy};

/// Where a frontend sends its sessions.
pub(super) enum Way<'p> {
    To(&'p Proxy),
    /// No server: clients are refused.
    Nowhere,
    /// It was refused, and said so.
    Refused,
}

/// The backend of a frontend: `use_backend` without a condition, `default_backend`, its own servers.
pub(super) fn way<'p>(frontend: &'p Proxy, proxies: &'p [Proxy], diagnostics: &mut Diagnostics) -> Way<'p> {
    let default = frontend.settings.get("default_backend").and_then(Statement::parameter);
    let mut conditional = Vec::new();
    let mut named = default;
    for line in frontend.lines("use_backend") {
        let words = &line.statement.words;
        if words.get(1).is_some_and(|name| name.text.contains("%[")) {
            by_expression(frontend, line, diagnostics);
            return Way::Refused;
        }
        match words.get(2).map(|word| word.text.as_str()) {
            None => {
                named = words.get(1);
                break;
            }
            Some("if" | "unless") if always(&words[2..]) => {
                named = words.get(1);
                break;
            }
            Some("if" | "unless") => conditional.push(line),
            Some(_) => {
                let finding = Diagnostic::error(
                    "words-behind",
                    &words[2].at,
                    "only `if` and `unless` are allowed behind `use_backend NAME`",
                );
                diagnostics.push(finding.help("HAProxy does not start with it either"));
                return Way::Refused;
            }
        }
    }
    let mut refused = false;
    for line in &conditional {
        refused |= !same_target(line, named) && conditional_route(frontend, line, diagnostics);
    }
    let Some(name) = named else {
        return match (refused, frontend.is_backend()) {
            (true, _) => Way::Refused,
            (false, true) => Way::To(frontend),
            (false, false) => Way::Nowhere,
        };
    };
    let found = proxies.iter().find(|proxy| proxy.is_backend() && proxy.name.text == name.text);
    let Some(found) = found else {
        let message =
            format!("{}: unable to find the backend `{}`", frontend.shown(), super::reader::shown(name));
        let finding = Diagnostic::error("unknown-name", &name.at, message);
        let backends =
            proxies.iter().filter(|proxy| proxy.is_backend()).map(|proxy| proxy.name.text.as_str());
        let meant = diagnostics.suggest(&name.text, backends);
        diagnostics.push(match meant {
            Some(meant) => {
                finding.expected(format!("`{meant}`?")).help("HAProxy does not start with it either")
            }
            None => finding
                .expected("the name of a `backend` or `listen`")
                .help("HAProxy does not start with it either"),
        });
        return Way::Refused;
    };
    if refused { Way::Refused } else { Way::To(found) }
}

/// `if TRUE`, `unless FALSE`.
fn always(condition: &[Word]) -> bool {
    let texts: Vec<_> = condition.iter().map(|word| word.text.as_str()).collect();
    matches!(
        texts.as_slice(),
        ["if", "TRUE"]
            | ["unless", "FALSE"]
            | ["if", "{", "always_true", "}"]
            | ["unless", "{", "always_false", "}"]
    )
}

fn same_target(line: &Line, named: Option<&Word>) -> bool {
    line.statement.words.get(1).map(|word| &word.text) == named.map(|word| &word.text)
}

/// The name of the backend is found out for each session.
fn by_expression(frontend: &Proxy, line: &Line, diagnostics: &mut Diagnostics) {
    let text = &line.statement.words[1].text;
    let finding = Diagnostic::error(
        "refused",
        &line.statement.whole(),
        "`use_backend` with an expression cannot be carried",
    );
    diagnostics.push(finding.help(instead_of_condition(frontend, text)));
}

fn conditional_route(frontend: &Proxy, line: &Line, diagnostics: &mut Diagnostics) -> bool {
    let text = condition_text(frontend, &line.statement.words[2..]);
    let at = line.statement.whole();
    let finding = Diagnostic::error("refused", &at, "`use_backend` with a condition cannot be carried");
    diagnostics.push(finding.help(instead_of_condition(frontend, &text)));
    true
}

/// What the condition looks at says what to write instead.
fn instead_of_condition(frontend: &Proxy, text: &str) -> &'static str {
    if text.contains("nbsrv") || text.contains("srv_is_up") {
        "write the servers of that backend into the other one, with `backup`"
    } else if text.contains("ssl_sni") || text.contains("ssl_hello") {
        "vipd does not look into TLS: give each name an address or a port of its own (a frontend with one `default_backend`), or keep HAProxy or nginx for this frontend alone"
    } else if text.contains("src") && !text.contains("hdr(") {
        "give these clients an address or a port of their own: a frontend with one `default_backend`"
    } else if text.contains("dst") {
        "write one frontend for each address and port, with its `default_backend`"
    } else if frontend.mode() == Mode::Http {
        "requests are not looked into: keep an HTTP proxy for this frontend"
    } else {
        "write one frontend for each way, with its `default_backend`"
    }
}

/// The condition with the ACLs that it names.
fn condition_text(frontend: &Proxy, condition: &[Word]) -> String {
    let mut text = String::new();
    for word in condition {
        text.push_str(&word.text);
        text.push(' ');
        let name = word.text.trim_start_matches('!');
        for acl in frontend
            .lines("acl")
            .filter(|acl| acl.statement.words.get(1).is_some_and(|word| word.text == name))
        {
            text.extend(acl.statement.words.iter().skip(2).take(1).map(|word| format!("{} ", word.text)));
        }
        if text.len() > 4096 {
            break;
        }
    }
    text
}

/// What `tcp-request` and `tcp-response` rules come to.
#[derive(Debug, Default)]
pub(super) struct Admission {
    /// `expect-proxy layer4`: these clients send a PROXY header.
    pub expect_proxy: Vec<Prefix>,
}

/// Rules of a frontend and its backend. A rule that keeps clients out is refused: without it the door would be open.
pub(super) fn admission(frontend: &Proxy, backend: &Proxy, diagnostics: &mut Diagnostics) -> Admission {
    let mut made = Admission::default();
    let both = [Some(frontend), Some(backend).filter(|backend| backend.at() != frontend.at())];
    for line in both.into_iter().flatten().flat_map(|proxy| &proxy.lines) {
        let name = line.keyword.name;
        let is_rule = (name.starts_with("tcp-request ") || name.starts_with("tcp-response "))
            && !name.ends_with("inspect-delay");
        if is_rule {
            rule(&line.statement, &mut made, diagnostics);
        }
    }
    made
}

fn rule(statement: &Statement, made: &mut Admission, diagnostics: &mut Diagnostics) {
    let at = statement.whole();
    let action = statement.words.get(2).map_or("", |word| word.text.as_str());
    let base = action.split('(').next().unwrap_or("");
    let shown: String = action.chars().take(60).collect();
    let mut refuse = |what: &str, help: &str| {
        diagnostics
            .push(Diagnostic::error("refused", &at, format!("`{shown}` {what}")).help(help.to_owned()));
    };
    match base {
        "accept" | "capture" => {
            let finding = Diagnostic::notice("not-needed", &at, format!("`{shown}` has no effect here"));
            diagnostics
                .push(finding.help("every client is accepted, and nothing of the stream is waited for"));
        }
        "expect-proxy" => match prefixes(&statement.words[3..]) {
            Some(prefixes) => made.expect_proxy.extend(prefixes),
            None => refuse(
                "with this condition cannot be carried",
                "write `tcp-request connection expect-proxy layer4 if { src NETWORK … }`",
            ),
        },
        "reject" | "silent-drop" | "close" => refuse(
            "keeps clients out, and vipd would let them in",
            "write it as a rule for nftables, such as `ip saddr 203.0.113.0/24 tcp dport PORT drop` (`!=` behind `saddr` for those who may come), and delete the line",
        ),
        "set-dst" | "set-dst-port" | "do-resolve" | "use-service" | "send-spoe-group" | "switch-mode" => {
            refuse("changes where sessions go, and cannot be carried", "name the servers in the backend");
        }
        "set-src"
        | "set-src-port"
        | "set-mark"
        | "set-tos"
        | "set-nice"
        | "set-bandwidth-limit"
        | "set-fc-mark" => {
            let finding = Diagnostic::warning("not-carried", &at, format!("`{shown}` is not carried"));
            diagnostics.push(finding.help("write a rule for nftables if packets are to be marked"));
        }
        "" => {
            let finding = Diagnostic::error("missing-parameter", &at, "a rule without its action");
            diagnostics.push(
                finding
                    .expected("`accept`, `reject` and so on")
                    .help("HAProxy does not start with it either"),
            );
        }
        _ => {
            let finding = Diagnostic::notice("not-needed", &at, format!("`{shown}` has no effect here"));
            diagnostics.push(finding.help("it counts or remembers something that no rule here asks for"));
        }
    }
}

/// `layer4`, `layer4 if { src 10.0.0.0/8 192.0.2.1 }`.
fn prefixes(words: &[Word]) -> Option<Vec<Prefix>> {
    let texts: Vec<_> = words.iter().map(|word| word.text.as_str()).collect();
    match texts.as_slice() {
        ["layer4"] => Some(everybody()),
        ["layer4", "if", "{", "src", networks @ .., "}"] if !networks.is_empty() => {
            networks.iter().map(|network| prefix(network)).collect()
        }
        _ => None,
    }
}

/// Both families.
pub(super) fn everybody() -> Vec<Prefix> {
    ["0.0.0.0/0", "::/0"].into_iter().filter_map(prefix).collect()
}

fn prefix(text: &str) -> Option<Prefix> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address.parse::<IpAddr>().ok()?, Some(length.parse::<u8>().ok()?)),
        None => (text.parse().ok()?, None),
    };
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(most);
    (length <= most).then_some(Prefix { address, length })
}

/// A `frontend` that only answers: its name for messages.
pub(super) fn located_name(proxy: &Proxy) -> Located<String> {
    Located::new(proxy.name.text.clone(), proxy.name.at.clone())
}
