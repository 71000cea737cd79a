//! `option httpchk` and `http-check` rules.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ready::{
    Bytes, Expect, HttpExpect, HttpProbe, HttpRequest, HttpSubject, HttpVersion, Matching, Tls,
};
use crate::written::{Statement, Word};

use super::super::reader::shown;
use super::super::settings::Line;
use super::super::value;
use super::{Connect, connect, not_carried, pattern, tcp};

/// What is asked, and what is expected.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub connect: Option<Connect>,
    requests: Vec<HttpRequest>,
}

impl Rules {
    pub fn path(&self) -> Option<&str> {
        self.requests.first().map(|request| request.path.as_str())
    }
}

/// Requests and expectations in the order they were written.
pub(super) fn rules(option: &Statement, lines: &[&Line], diagnostics: &mut Diagnostics) -> Rules {
    let mut made = Rules { connect: None, requests: vec![of_option(option, diagnostics)] };
    // The request of the option is there until a rule asks.
    let mut implicit = true;
    let mut expected = false;
    for line in lines {
        let statement = &line.statement;
        match line.keyword.name {
            "http-check connect" => {
                if made.connect.is_some() || expected {
                    not_carried(
                        &statement.words[1],
                        "one connection a check; write a check of its own in TOML",
                        diagnostics,
                    );
                    continue;
                }
                made.connect = Some(connect(statement, diagnostics));
            }
            "http-check send" => {
                let base = if implicit { made.requests.pop() } else { None };
                implicit = false;
                expected = false;
                made.requests.push(send(statement, base.unwrap_or_else(options), diagnostics));
            }
            "http-check expect" => {
                let Some(request) = made.requests.last_mut() else { continue };
                if !expected {
                    // Without a rule 200 to 399 is success; with one the rule alone decides.
                    request.status = Vec::new();
                }
                expected = true;
                expect(statement, request, diagnostics);
            }
            _ => {}
        }
    }
    made
}

/// HAProxy's own request: `OPTIONS / HTTP/1.0`.
fn options() -> HttpRequest {
    HttpRequest {
        method: "OPTIONS".to_owned(),
        path: "/".to_owned(),
        version: HttpVersion::V10,
        status: vec![(200, 399)],
        ..HttpRequest::get("/")
    }
}

/// `option httpchk [METHOD] [URI] [VERSION]`; a lone word is the URI.
fn of_option(option: &Statement, diagnostics: &mut Diagnostics) -> HttpRequest {
    let mut request = options();
    let words = &option.words[2..];
    match words {
        [] => {}
        [uri] => uri.text.clone_into(&mut request.path),
        [method, uri, ..] => {
            method.text.clone_into(&mut request.method);
            uri.text.clone_into(&mut request.path);
        }
    }
    if let Some(word) = words.get(2) {
        let text = words[2..].iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
        let mut lines = text.split("\r\n").flat_map(|part| part.split('\n'));
        request.version = version(lines.next().unwrap_or(""));
        for header in lines.filter(|line| !line.trim().is_empty()) {
            match header.split_once(':') {
                Some((name, value)) => set_header(&mut request, name.trim(), value.trim()),
                None => not_carried(word, "write `http-check send hdr NAME VALUE`", diagnostics),
            }
        }
    }
    well_formed(&mut request, words.first(), diagnostics);
    request
}

fn version(text: &str) -> HttpVersion {
    if text.eq_ignore_ascii_case("HTTP/1.1") { HttpVersion::V11 } else { HttpVersion::V10 }
}

fn set_header(request: &mut HttpRequest, name: &str, value: &str) {
    if name.eq_ignore_ascii_case("host") {
        request.host_header = Some(value.to_owned());
    } else {
        request.headers.push((name.to_owned(), value.to_owned()));
    }
}

/// What the probe can send.
fn well_formed(request: &mut HttpRequest, word: Option<&Word>, diagnostics: &mut Diagnostics) {
    const METHODS: [&str; 5] = ["GET", "HEAD", "OPTIONS", "POST", "PUT"];
    let Some(word) = word else { return };
    if !METHODS.contains(&request.method.as_str()) {
        let finding = Diagnostic::error(
            "invalid-value",
            &word.at,
            format!("a check cannot send the method `{}`", shown(word)),
        );
        diagnostics.push(finding.expected(METHODS.join(", ")));
        "GET".clone_into(&mut request.method);
    }
    if !(request.path.starts_with('/') || request.path == "*") || request.path.contains(char::is_whitespace) {
        let finding = Diagnostic::error(
            "invalid-value",
            &word.at,
            format!("a check cannot ask for `{}`", request.path.chars().take(60).collect::<String>()),
        );
        diagnostics.push(finding.expected("a path that begins with `/`"));
        "/".clone_into(&mut request.path);
    }
}

/// `send [meth M] [uri U] [ver V] [hdr NAME VALUE]… [body TEXT] [comment TEXT]`
fn send(statement: &Statement, mut request: HttpRequest, diagnostics: &mut Diagnostics) -> HttpRequest {
    let mut words = statement.words.iter().skip(2);
    let mut at = None;
    while let Some(word) = words.next() {
        at = at.or(Some(word));
        let mut value = || words.next().map(|word| word.text.clone());
        match word.text.as_str() {
            "meth" => request.method = value().unwrap_or_default(),
            "uri" => request.path = value().unwrap_or_default(),
            "ver" => request.version = version(&value().unwrap_or_default()),
            "hdr" => {
                let (name, text) = (value().unwrap_or_default(), value().unwrap_or_default());
                set_header(&mut request, &name, &text);
            }
            "body" => request.body = value().map(|body| Bytes::from(body.as_str())),
            "comment" => drop(value()),
            "uri-lf" | "body-lf" => {
                value();
                not_carried(word, "checks have no variables; write `uri` or `body`", diagnostics);
            }
            _ => {
                let message = format!("unknown `{}` behind `http-check send`", shown(word));
                let finding = Diagnostic::error("unknown-keyword", &word.at, message);
                diagnostics.push(
                    finding
                        .expected("`meth`, `uri`, `ver`, `hdr`, `body` or `comment`")
                        .help("HAProxy does not start with it either"),
                );
                break;
            }
        }
    }
    well_formed(&mut request, at, diagnostics);
    request
}

/// `expect [min-recv N] [comment TEXT] [!] status|rstatus|string|rstring|hdr|fhdr …`
fn expect(statement: &Statement, request: &mut HttpRequest, diagnostics: &mut Diagnostics) {
    let mut negate = false;
    let mut words = statement.words.iter().skip(2);
    while let Some(word) = words.next() {
        negate |= word.text.starts_with('!');
        let kind = word.text.trim_start_matches('!');
        match kind {
            "" => {}
            "min-recv" | "comment" | "ok-status" | "error-status" | "tout-status" | "on-success"
            | "on-error" | "status-code" => {
                words.next();
            }
            "status" | "rstatus" => {
                if let Some(wanted) = words.next().filter(|word| !word.text.is_empty()) {
                    request.status = statuses(kind, wanted, negate, diagnostics);
                    return;
                }
                break;
            }
            "string" | "rstring" => {
                let Some(wanted) = words.next() else { break };
                if let Some(matching) = tcp::matching(kind, wanted, diagnostics) {
                    let is = Some(Expect { matching, negate });
                    request.expect.push(HttpExpect { of: HttpSubject::Body, is, absent: false });
                }
                return;
            }
            "hdr" | "fhdr" => {
                let rest: Vec<_> = words.collect();
                header(word, &rest, negate, request, diagnostics);
                return;
            }
            "string-lf" => {
                not_carried(word, "checks have no variables; write `string`", diagnostics);
                return;
            }
            _ => {
                let message = format!("unknown `{}` behind `http-check expect`", shown(word));
                let finding = Diagnostic::error("unknown-keyword", &word.at, message);
                diagnostics.push(
                    finding
                        .expected("`status`, `rstatus`, `string`, `rstring` or `hdr`, maybe with `!`")
                        .help("HAProxy does not start with it either"),
                );
                return;
            }
        }
    }
    let finding =
        Diagnostic::error("missing-parameter", &statement.whole(), "`http-check expect` without a pattern");
    diagnostics.push(
        finding.expected("`http-check expect status 200`").help("HAProxy does not start with it either"),
    );
}

/// `200,204-299`, or an expression; with `!` all others.
fn statuses(kind: &str, wanted: &Word, negate: bool, diagnostics: &mut Diagnostics) -> Vec<(u16, u16)> {
    let regex = if kind == "rstatus" {
        pattern(wanted, diagnostics).and_then(|pattern| Matching::regex(&pattern).ok())
    } else {
        None
    };
    let listed: Vec<(u16, u16)> = wanted
        .text
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let code = |text: &str| {
                u16::try_from(value::number(text)).ok().filter(|code| (100..=999).contains(code))
            };
            Some((code(first)?, code(last)?))
        })
        .collect();
    if kind == "status" && listed.is_empty() {
        let finding =
            Diagnostic::error("invalid-value", &wanted.at, format!("`{}` is no status", shown(wanted)));
        diagnostics.push(
            finding.expected("such as `200` or `200-299,401`").help("HAProxy does not start with it either"),
        );
        return vec![(200, 399)];
    }
    let holds = |code: u16| match &regex {
        Some(regex) => regex.is_match(code.to_string().as_bytes()),
        None => listed.iter().any(|(first, last)| (*first..=*last).contains(&code)),
    };
    ranges((100..=999).filter(|code| holds(*code) != negate))
}

fn ranges(codes: impl Iterator<Item = u16>) -> Vec<(u16, u16)> {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for code in codes {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == code => *last = code,
            _ => ranges.push((code, code)),
        }
    }
    ranges
}

/// `hdr [name] NAME [-m METHOD] [value] PATTERN`, in HAProxy `hdr { name [-m M] NAME } { value [-m M] PATTERN }` written flat.
fn header(
    word: &Word,
    rest: &[&Word],
    negate: bool,
    request: &mut HttpRequest,
    diagnostics: &mut Diagnostics,
) {
    let mut name = None;
    let mut wanted = None;
    let mut method = "str";
    let mut words = rest.iter().copied();
    while let Some(next) = words.next() {
        match next.text.as_str() {
            "name" => name = words.next(),
            "value" => {
                let mut first = words.next();
                if first.is_some_and(|word| word.text == "-m") {
                    method = words.next().map_or("str", |word| word.text.as_str());
                    first = words.next();
                }
                wanted = first;
            }
            "comment" => drop(words.next()),
            _ => {}
        }
    }
    let Some(name) = name.filter(|name| name.text != "-m" && !name.text.ends_with("-lf")) else {
        not_carried(word, "write `hdr name NAME value TEXT`", diagnostics);
        return;
    };
    let matching = match (wanted, method) {
        (None, _) => None,
        (Some(text), "str") => Some(Matching::Equals(Bytes::from(text.text.as_str()))),
        (Some(text), "beg") => Some(Matching::Starts(Bytes::from(text.text.as_str()))),
        (Some(text), "end") => Some(Matching::Ends(Bytes::from(text.text.as_str()))),
        (Some(text), "sub") => Some(Matching::Contains(Bytes::from(text.text.as_str()))),
        (Some(text), "reg") => pattern(text, diagnostics).map(Matching::Regex),
        (Some(text), _) => {
            not_carried(text, "write `-m str`, `beg`, `end`, `sub` or `reg`", diagnostics);
            return;
        }
    };
    let absent = matching.is_none() && negate;
    let is = matching.map(|matching| Expect { matching, negate });
    request.expect.push(HttpExpect { of: HttpSubject::Header(name.text.clone()), is, absent });
}

/// The rules, run for one server.
pub(super) fn probe(rules: &Rules, mut probe: HttpProbe, tls: impl Fn(&Connect) -> Option<Tls>) -> HttpProbe {
    if let Some(connect) = &rules.connect {
        probe.target.port = connect.port.unwrap_or(probe.target.port);
        if let Some(host) = &connect.host {
            probe.target.host.clone_from(host);
        }
        probe.tls = tls(connect).or(probe.tls);
    }
    probe.requests.clone_from(&rules.requests);
    probe
}
