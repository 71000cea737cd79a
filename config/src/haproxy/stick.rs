//! `stick-table` and `stick …`: clients that come again.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ready::Persistence;
use crate::written::Word;

use super::reader::shown;
use super::settings::{Line, Proxy};
use super::value;

/// HAProxy keeps an entry without `expire` until the table is full.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// The persistence of a backend; `proxies`, since a table may be another's.
pub(super) fn read(backend: &Proxy, proxies: &[Proxy], diagnostics: &mut Diagnostics) -> Option<Persistence> {
    let rules: Vec<&Line> =
        backend.lines.iter().filter(|line| line.keyword.name.starts_with("stick ")).collect();
    let mut found = None;
    for line in &rules {
        if line.keyword.name == "stick store-response" {
            continue;
        }
        let words = &line.statement.words[2..];
        match by_source(words) {
            Some((four, six)) => {
                let (expire, said) = table_of(words, backend, proxies, line, diagnostics);
                if !said {
                    found = Some(Persistence { timeout: expire, ipv4_prefix: four, ipv6_prefix: six });
                }
            }
            None => {
                let finding = Diagnostic::warning(
                    "not-carried",
                    &line.statement.whole(),
                    format!("`{}` is not carried", line.keyword.name),
                );
                diagnostics.push(finding.help(
                    "nothing of the stream is looked at, and TLS 1.3 hides its sessions in any case; write `stick-table type ip size 200k expire 30m` and `stick on src`",
                ));
            }
        }
        if words.iter().any(|word| matches!(word.text.as_str(), "if" | "unless")) && found.is_some() {
            let finding = Diagnostic::warning(
                "not-carried",
                &line.statement.whole(),
                "the condition of this line is not carried",
            );
            diagnostics.push(finding.help("persistence counts for every client"));
        }
    }
    if rules.is_empty()
        && let Some(line) = backend.lines("stick-table").next()
    {
        let (message, help) = if is_asked(backend, proxies) {
            ("this table chooses no server", "what becomes of the rules that ask it is said at their lines")
        } else {
            (
                "this table never chose a server",
                "`stick on src` would; a table that counts clients is of no use without a rule that asks it",
            )
        };
        diagnostics.push(Diagnostic::notice("not-needed", &line.statement.whole(), message).help(help));
    }
    found
}

/// Some rule names the table of this backend: `track-sc0 src table NAME`.
fn is_asked(backend: &Proxy, proxies: &[Proxy]) -> bool {
    let lines = proxies.iter().flat_map(|proxy| &proxy.lines);
    lines
        .flat_map(|line| line.statement.words.windows(2))
        .any(|pair| matches!(pair, [table, name] if table.text == "table" && name.text == backend.name.text))
}

/// `src`, maybe `src,ipmask(24,64)`: how many bits count.
fn by_source(words: &[Word]) -> Option<(u8, u8)> {
    let pattern = words.first()?.text.as_str();
    if pattern == "src" {
        return Some((32, 128));
    }
    let masks = pattern.strip_prefix("src,ipmask(")?.strip_suffix(')')?;
    let (four, six) = masks.split_once(',').unwrap_or((masks, "128"));
    let bits = |text: &str, most: u8| {
        let text = text.trim();
        text.parse::<u8>()
            .ok()
            .or_else(|| {
                let mask = u32::from(text.parse::<std::net::Ipv4Addr>().ok()?);
                (mask.leading_ones() + mask.trailing_zeros() == 32)
                    .then(|| u8::try_from(mask.leading_ones()).unwrap_or(32))
            })
            .filter(|bits| *bits <= most)
    };
    Some((bits(four, 32)?, bits(six, 128)?))
}

/// How long an entry lives, and whether the table is wrong, which was said.
fn table_of(
    words: &[Word],
    backend: &Proxy,
    proxies: &[Proxy],
    line: &Line,
    diagnostics: &mut Diagnostics,
) -> (Duration, bool) {
    let named = words.iter().position(|word| word.text == "table").and_then(|index| words.get(index + 1));
    let owner = match named {
        None => Some(backend),
        Some(name) => proxies.iter().find(|proxy| proxy.name.text == name.text),
    };
    let table = owner.and_then(|owner| owner.lines("stick-table").next());
    let Some(table) = table else {
        let at = named.map_or(line.statement.whole(), |name| name.at.clone());
        let message =
            format!("unable to find stick-table `{}`", named.map_or_else(|| shown(&backend.name), shown));
        let finding = Diagnostic::error("unknown-name", &at, message);
        diagnostics.push(
            finding
                .expected("`stick-table type ip size 200k expire 30m`")
                .help("HAProxy does not start with it either"),
        );
        return (Duration::ZERO, true);
    };
    let words = &table.statement.words;
    let behind =
        |name: &str| words.iter().position(|word| word.text == name).and_then(|index| words.get(index + 1));
    let kind = behind("type").map_or("", |word| word.text.as_str());
    if !matches!(kind, "ip" | "ipv6") {
        let finding = Diagnostic::warning(
            "not-carried",
            &table.statement.whole(),
            format!("a table of type `{}` is not carried", kind.chars().take(40).collect::<String>()),
        );
        diagnostics.push(finding.help("clients are known by their address: write `type ip`"));
        return (Duration::ZERO, true);
    }
    if behind("size").is_none() {
        let finding =
            Diagnostic::error("missing-parameter", &table.statement.whole(), "stick-table: missing size");
        diagnostics.push(finding.expected("`size 200k`").help("HAProxy does not start with it either"));
        return (Duration::ZERO, true);
    }
    if let Some(peers) = behind("peers") {
        let finding = Diagnostic::warning("not-carried", &peers.at, "`peers` are not asked");
        diagnostics.push(finding.help("clients are remembered on each host by itself: after a move of the virtual address they may get another server; `balance source` gives all hosts the same choice"));
    }
    match behind("expire") {
        Some(word) => (value::time_of(word, diagnostics).unwrap_or(FOR_EVER), false),
        None => {
            let finding = Diagnostic::notice(
                "not-needed",
                &table.statement.whole(),
                "clients of this table are never forgotten in HAProxy",
            );
            diagnostics
                .push(finding.help("they are forgotten after a day without a session here; write `expire`"));
            (FOR_EVER, false)
        }
    }
}
