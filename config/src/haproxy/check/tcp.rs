//! `tcp-check` rules.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ready::{Bytes, Dialogue, Expect, Matching, Probe, Step, Talk, Tls};
use crate::written::{Statement, Word};

use super::super::reader::shown;
use super::super::settings::Line;
use super::super::value;
use super::{Connect, connect, not_carried, octets, pattern};

/// One rule.
#[derive(Clone, Debug)]
pub(super) enum Rule {
    Connect(Connect),
    Send(Bytes),
    Expect(Expect, Option<u32>),
}

/// Reads them; what has no meaning here was said with its keyword.
pub(super) fn rules(lines: &[&Line], diagnostics: &mut Diagnostics) -> Vec<Rule> {
    lines.iter().filter_map(|line| rule(&line.statement, line.keyword.name, diagnostics)).collect()
}

fn rule(statement: &Statement, name: &str, diagnostics: &mut Diagnostics) -> Option<Rule> {
    match name {
        "tcp-check connect" => Some(Rule::Connect(connect(statement, diagnostics))),
        "tcp-check send" => {
            let word = value::parameter(statement, 2, "what is sent", diagnostics)?;
            Some(Rule::Send(Bytes::from(word.text.as_str())))
        }
        "tcp-check send-binary" => {
            let word = value::parameter(statement, 2, "hexadecimal digits", diagnostics)?;
            octets(word, diagnostics).map(Rule::Send)
        }
        "tcp-check expect" => expect(statement, diagnostics),
        _ => None,
    }
}

/// `expect [min-recv N] [comment TEXT] [!] string|rstring|binary|rbinary PATTERN`
fn expect(statement: &Statement, diagnostics: &mut Diagnostics) -> Option<Rule> {
    let mut least = None;
    let mut negate = false;
    let mut words = statement.words.iter().skip(2);
    while let Some(word) = words.next() {
        let kind = word.text.trim_start_matches('!');
        negate |= word.text.starts_with('!');
        match kind {
            "" => {}
            "min-recv" => {
                let number = words.next().and_then(|word| {
                    value::number_within(word, -1, i64::from(i32::MAX), "number", diagnostics)
                });
                least = number.and_then(|number| u32::try_from(number).ok());
            }
            "comment" | "ok-status" | "error-status" | "tout-status" | "on-success" | "on-error"
            | "status-code" => {
                words.next();
            }
            "string" | "rstring" | "binary" | "rbinary" => {
                let Some(wanted) = words.next() else { break };
                let matching = matching(kind, wanted, diagnostics)?;
                return Some(Rule::Expect(Expect { matching, negate }, least));
            }
            "string-lf" | "binary-lf" => {
                not_carried(word, "checks have no variables; write `string`", diagnostics);
                return None;
            }
            _ => {
                let message = format!("unknown `{}` behind `tcp-check expect`", shown(word));
                let finding = Diagnostic::error("unknown-keyword", &word.at, message);
                diagnostics.push(
                    finding
                        .expected("`string`, `rstring`, `binary` or `rbinary`, maybe with `!`, or `min-recv`")
                        .help("HAProxy does not start with it either"),
                );
                return None;
            }
        }
    }
    let finding =
        Diagnostic::error("missing-parameter", &statement.whole(), "`tcp-check expect` without a pattern");
    diagnostics.push(
        finding.expected("`tcp-check expect string TEXT`").help("HAProxy does not start with it either"),
    );
    None
}

/// What `string`, `rstring`, `binary` and `rbinary` look for.
pub(super) fn matching(kind: &str, wanted: &Word, diagnostics: &mut Diagnostics) -> Option<Matching> {
    match kind {
        "string" => Some(Matching::Contains(Bytes::from(wanted.text.as_str()))),
        "binary" => octets(wanted, diagnostics).map(Matching::Contains),
        "rstring" => pattern(wanted, diagnostics).map(Matching::Regex),
        _ => {
            // HAProxy compares with the octets written as hexadecimal digits.
            let finding = Diagnostic::error("refused", &wanted.at, "`rbinary` cannot be carried");
            diagnostics
                .push(finding.help("write `rstring` with `\\xNN` for each octet, within single quotes"));
            None
        }
    }
}

/// The rules, run for one server.
pub(super) fn probe(rules: &[Rule], mut dialogue: Dialogue, tls: impl Fn(&Connect) -> Option<Tls>) -> Probe {
    let mut steps = Vec::new();
    let mut begun = false;
    for rule in rules {
        match rule {
            Rule::Connect(connect) if !begun && steps.is_empty() => {
                begun = true;
                dialogue.target.port = connect.port.unwrap_or(dialogue.target.port);
                if let Some(host) = &connect.host {
                    dialogue.target.host.clone_from(host);
                }
                if connect.tls {
                    dialogue.tls = tls(connect);
                }
            }
            Rule::Connect(connect) => {
                let port = connect.port.unwrap_or(dialogue.target.port);
                steps.push(Step::Connect { port, tls: tls(connect) });
            }
            Rule::Send(bytes) => steps.push(Step::Send(bytes.clone())),
            Rule::Expect(is, least) => steps.push(Step::Expect { is: is.clone(), least: *least }),
        }
    }
    if steps.is_empty() && dialogue.tls.is_none() {
        return Probe::Tcp { target: dialogue.target };
    }
    dialogue.talk = Talk::Steps(steps);
    Probe::Dialogue(dialogue)
}
