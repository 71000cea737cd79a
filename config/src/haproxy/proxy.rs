//! From sections to proxies: keywords in their places, defaults inherited, each line with its verdict.

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::written::{Statement, Word};

use super::global::{self, Global};
use super::keywords::{self, Found, Keyword, Status};
use super::reader::{Kind, Section, shown};
use super::settings::{CHECKS, Line, Mode, Proxy, Settings, is_many};
use super::value;

/// Lines that all proxies together inherit from their defaults.
const MOST_INHERITED: usize = 200_000;
/// With more findings than this the rest of the lines is not looked at.
const MOST_FINDINGS: usize = 5_000;
/// Proxies.
const MOST_PROXIES: usize = 5_000;

/// What all files say.
pub(super) struct Configuration {
    pub global: Global,
    pub proxies: Vec<Proxy>,
    /// Names of `resolvers` sections.
    pub resolvers: Vec<String>,
}

/// A section of defaults.
struct Defaults {
    name: Option<String>,
    settings: Settings,
    lines: Vec<Line>,
    /// All that was written in it, for what is to be said when it is known who inherits it.
    written: Written,
    parent: Option<usize>,
}

/// What is said about lines of a proxy.
struct Judged<'a> {
    keyword: &'static Keyword,
    statement: &'a Statement,
}

/// Sorts sections, and says what becomes of each line.
pub(super) fn gather(sections: Vec<Section>, diagnostics: &mut Diagnostics) -> Configuration {
    let mut configuration =
        Configuration { global: Global::default(), proxies: Vec::new(), resolvers: Vec::new() };
    let mut defaults: Vec<Defaults> = Vec::new();
    let mut written: Vec<(usize, Written)> = Vec::new();
    let mut inherited = 0;
    let mut uses = Vec::new();
    for section in sections {
        match section.kind {
            Kind::Global => global::read(&section, &mut configuration.global, diagnostics),
            Kind::Defaults => {
                let section = read_defaults(&section, &defaults, diagnostics);
                defaults.push(section);
                uses.push([false; 2]);
            }
            Kind::Frontend | Kind::Backend | Kind::Listen => {
                inherited +=
                    defaults.last().map_or(0, |defaults| defaults.lines.len() + defaults.settings.len());
                if inherited > MOST_INHERITED || configuration.proxies.len() >= MOST_PROXIES {
                    let finding = Diagnostic::error(
                        "too-large",
                        section.head.at(),
                        "too many proxies, or too many lines that they inherit",
                    );
                    diagnostics.push(finding.expected(format!(
                        "at most {MOST_PROXIES} proxies, which inherit {MOST_INHERITED} lines together"
                    )));
                    return Configuration { proxies: Vec::new(), ..configuration };
                }
                if let Some((proxy, lines)) = read_proxy(&section, &defaults, &mut uses, diagnostics) {
                    written.push((configuration.proxies.len(), lines));
                    configuration.proxies.push(proxy);
                }
            }
            Kind::Resolvers => global::resolvers(&section, &mut configuration.resolvers, diagnostics),
            Kind::Other => global::other(&section, diagnostics),
        }
    }
    unique_names(&configuration.proxies, diagnostics);
    for (index, lines) in &written {
        let proxy = &configuration.proxies[*index];
        let modes = [proxy.mode() == Mode::Tcp, proxy.mode() == Mode::Http];
        for (keyword, statement) in lines.iter().filter(|_| !proxy.is_disabled()) {
            judge(&Judged { keyword, statement }, modes, diagnostics);
        }
    }
    for (index, section) in defaults.iter().enumerate() {
        let heirs = || {
            configuration
                .proxies
                .iter()
                .filter(|p| inherits(p.defaults, index, &defaults) && !p.is_disabled())
        };
        let modes = [heirs().any(|p| p.mode() == Mode::Tcp), heirs().any(|p| p.mode() == Mode::Http)];
        if modes == [false, false] {
            continue;
        }
        for (keyword, statement) in &section.written {
            judge(&Judged { keyword, statement }, modes, diagnostics);
        }
    }
    configuration
}

fn inherits(mut from: Option<usize>, index: usize, defaults: &[Defaults]) -> bool {
    while let Some(current) = from {
        if current == index {
            return true;
        }
        from = defaults[current].parent;
    }
    false
}

/// Frontends have names of their own, and backends; `listen` is both.
fn unique_names(proxies: &[Proxy], diagnostics: &mut Diagnostics) {
    let mut seen: [HashMap<&str, &Proxy>; 2] = [HashMap::new(), HashMap::new()];
    for proxy in proxies {
        let mut first = None;
        for (names, counts) in seen.iter_mut().zip([proxy.is_frontend(), proxy.is_backend()]) {
            if counts {
                first = names.insert(&proxy.name.text, proxy).or(first);
            }
        }
        if let Some(first) = first {
            let message = format!("{} has the same name as {}", proxy.shown(), first.shown());
            let finding = Diagnostic::error("duplicate", proxy.at(), message);
            diagnostics.push(finding.expected("a name of its own").help(format!(
                "the first is at {}; HAProxy does not start with it either",
                first.at().place
            )));
        }
    }
}

/// The defaults that a section inherits: those that it names, else the last ones before it.
fn origin(head: &Statement, defaults: &[Defaults], diagnostics: &mut Diagnostics) -> Option<usize> {
    let from = head.words.iter().position(|word| word.text == "from");
    let Some(from) = from else {
        return if head.keyword() == "defaults" { None } else { defaults.len().checked_sub(1) };
    };
    let named = head.words.get(from + 1)?;
    let found = defaults.iter().rposition(|section| section.name.as_deref() == Some(&named.text));
    if found.is_none() {
        let message = format!("there are no defaults `{}`", shown(named));
        let finding = Diagnostic::error("unknown-name", &named.at, message);
        let names = defaults.iter().filter_map(|section| section.name.as_deref());
        let meant = diagnostics.suggest(&named.text, names);
        diagnostics.push(match meant {
            Some(meant) => finding.expected(format!("`{meant}`?")),
            None => finding.expected("the name of a section `defaults` before this one"),
        });
    }
    found
}

fn read_defaults(section: &Section, before: &[Defaults], diagnostics: &mut Diagnostics) -> Defaults {
    let name = section.head.parameter().filter(|word| word.text != "from").map(|word| word.text.clone());
    let parent = origin(&section.head, before, diagnostics);
    let (settings, lines) = parent
        .map_or_else(Default::default, |index| (before[index].settings.clone(), before[index].lines.clone()));
    let mut made = Defaults { name, settings, lines, written: Vec::new(), parent };
    let place = Place { letter: 'D', kind: "defaults", name: made.name.clone().unwrap_or_default() };
    for statement in &section.lines {
        let Some(entry) = entry(statement, &place, diagnostics) else { continue };
        made.written.extend(store(entry, true, &mut made.settings, &mut made.lines, &mut Vec::new()));
    }
    made
}

type Written = Vec<(&'static Keyword, Arc<Statement>)>;

/// `uses`: whether each of the defaults is used without its name, and by it.
fn read_proxy(
    section: &Section,
    defaults: &[Defaults],
    uses: &mut [[bool; 2]],
    diagnostics: &mut Diagnostics,
) -> Option<(Proxy, Written)> {
    let head = &section.head;
    let letter = match section.kind {
        Kind::Frontend => 'F',
        Kind::Backend => 'B',
        _ => 'L',
    };
    let Some(name) = head.parameter().filter(|word| !word.text.is_empty()) else {
        let message = format!("`{}` without a name", section.word());
        diagnostics.push(Diagnostic::error("missing-name", head.at(), message).expected("a name behind it"));
        return None;
    };
    valid_name(name, section.word(), diagnostics);
    if let Some(word) = head.words.get(2).filter(|word| word.text != "from") {
        let message = format!("`{}` behind the name of a {}", shown(word), section.word());
        let finding = Diagnostic::error("words-behind", &word.at, message);
        diagnostics.push(
            finding.expected(format!("a line `bind {}` below", shown(word))).help(
                "HAProxy does not start with it: please use the `bind` keyword for listening addresses",
            ),
        );
    }
    let origin = origin(head, defaults, diagnostics);
    let explicit = head.words.iter().any(|word| word.text == "from");
    if let Some(used) =
        origin.and_then(|index| uses.get_mut(index).filter(|_| defaults[index].name.is_some()))
    {
        used[usize::from(explicit)] = true;
        if *used == [true, true] {
            let message = format!("`{}` uses defaults by their name here, and without it there", shown(name));
            let finding = Diagnostic::error("conflict", &name.at, message);
            diagnostics.push(
                finding
                    .expected("`from NAME` at every section that uses named defaults, or at none")
                    .help("HAProxy does not start with it either"),
            );
        }
    }
    let (mut settings, mut lines) = origin.map_or_else(Default::default, |index| {
        (defaults[index].settings.clone(), defaults[index].lines.clone())
    });
    let mut written = Vec::new();
    let mut replaced = Vec::new();
    let place = Place { letter, kind: section.word(), name: name.text.clone() };
    // The rest is judged as if it had been written below.
    if let (Some(word), Found::Keyword(keyword)) =
        (head.words.get(2).filter(|word| word.text != "from"), keywords::find(&[bind_word(head)]))
    {
        let statement = Statement { words: vec![bind_word(head), word.clone()], block: None };
        lines.push(Line { keyword, statement: Arc::new(statement), inherited: false });
    }
    for statement in &section.lines {
        let Some(entry) = entry(statement, &place, diagnostics) else { continue };
        if let Some(entry) = store(entry, false, &mut settings, &mut lines, &mut replaced) {
            written.push(entry);
        }
    }
    say_replaced(&replaced, section, diagnostics);
    let proxy = Proxy { kind: section.kind, name: name.clone(), settings, lines, defaults: origin };
    Some((proxy, written))
}

/// `bind`, where a section begins.
fn bind_word(head: &Statement) -> Word {
    Word { text: "bind".to_owned(), at: head.at().clone(), quoted: false }
}

fn valid_name(name: &Word, kind: &str, diagnostics: &mut Diagnostics) {
    let invalid =
        name.text.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':')));
    if let Some(invalid) = invalid {
        let message = format!("character `{invalid}` is not permitted in the name of a {kind}");
        let finding = Diagnostic::error("invalid-value", &name.at, message);
        let help = value::placeholder_help(&name.text)
            .unwrap_or_else(|| "HAProxy does not start with it either".to_owned());
        diagnostics.push(finding.expected("letters, digits, `-`, `_`, `.` and `:`").help(help));
    }
}

/// Where a line stands.
struct Place<'a> {
    letter: char,
    kind: &'a str,
    name: String,
}

/// A line with its keyword.
struct Entry {
    keyword: &'static Keyword,
    /// Without `no` or `default`.
    statement: Statement,
    /// `no` or `default` stood before it.
    negated: bool,
}

fn entry(statement: &Statement, place: &Place<'_>, diagnostics: &mut Diagnostics) -> Option<Entry> {
    if diagnostics.len() > MOST_FINDINGS {
        return None;
    }
    let mut statement = statement.clone();
    let negated = matches!(statement.keyword(), "no" | "default") && statement.words.len() > 1;
    if negated {
        statement.words.remove(0);
    }
    let keyword = match keywords::find(&statement.words) {
        Found::Keyword(keyword) => keyword,
        Found::UnknownSecond => {
            unknown_second(&statement, diagnostics);
            return None;
        }
        Found::Unknown => {
            unknown(&statement, place, diagnostics);
            return None;
        }
    };
    if let Status::Gone(why) = keyword.status {
        let message = format!("HAProxy 2.6 has no `{}` any more", keyword.name);
        diagnostics.push(Diagnostic::error("refused-by-haproxy", &statement.whole(), message).help(why));
        return None;
    }
    if !keyword.places.contains(place.letter) {
        misplaced(&statement, keyword, place, diagnostics);
        return None;
    }
    Some(Entry { keyword, statement, negated }).filter(|entry| well_formed(entry, diagnostics))
}

fn unknown(statement: &Statement, place: &Place<'_>, diagnostics: &mut Diagnostics) {
    let word = &statement.words[0];
    let firsts = keywords::PROXY.iter().map(|keyword| keyword.name);
    let meant = diagnostics.suggest(&word.text, firsts);
    let of_server = keywords::option_of(keywords::SERVER, &word.text).is_some();
    let message = format!("unknown keyword `{}` in `{}` section", shown(word), place.kind);
    let finding = Diagnostic::error("unknown-keyword", &word.at, message);
    diagnostics.push(if of_server {
        finding
            .expected(format!("`default-server {}`", shown(word)))
            .help("it is an option of servers; HAProxy does not start with it here either")
    } else {
        match meant {
            Some(meant) => {
                finding.expected(format!("`{meant}`?")).help("HAProxy does not start with it either")
            }
            None => finding.help("HAProxy does not start with it either; delete the line"),
        }
    });
}

fn unknown_second(statement: &Statement, diagnostics: &mut Diagnostics) {
    let first = statement.keyword().to_owned();
    let (message, at) = match statement.words.get(1) {
        Some(word) => (format!("unknown `{first} {}`", shown(word)), &word.at),
        None => (format!("`{first}` without its second word"), statement.at()),
    };
    let second = statement.words.get(1).map_or("", |word| word.text.as_str());
    let meant = diagnostics.suggest(second, keywords::seconds(&first));
    let finding = Diagnostic::error("unknown-keyword", at, message);
    diagnostics.push(
        match meant {
            Some(meant) => finding.expected(format!("`{first} {meant}`?")),
            None => finding.expected(format!("`{first}` and a word of HAProxy 2.6")),
        }
        .help("HAProxy does not start with it either"),
    );
}

/// HAProxy ignores most keywords that stand in a section of the wrong kind.
fn misplaced(statement: &Statement, keyword: &Keyword, place: &Place<'_>, diagnostics: &mut Diagnostics) {
    let message = format!(
        "`{}` has no effect in `{} {}`",
        keyword.name,
        place.kind,
        place.name.chars().take(60).collect::<String>()
    );
    let kinds: Vec<_> = keyword
        .places
        .chars()
        .map(|letter| match letter {
            'D' => "defaults",
            'F' => "frontend",
            'L' => "listen",
            _ => "backend",
        })
        .collect();
    let expected = format!("it in {}", kinds.join(", "));
    let fatal = place.letter == 'D'
        || matches!(keyword.name, "server" | "server-template" | "dispatch" | "use-server");
    diagnostics.push(if fatal {
        let finding = Diagnostic::error("misplaced", &statement.whole(), message);
        finding.expected(expected).help("HAProxy does not start with it either")
    } else {
        let finding = Diagnostic::warning("misplaced", &statement.whole(), message);
        finding.expected(expected).help("HAProxy ignores it too")
    });
}

/// The values of what has one, which no later reader has to judge again.
fn well_formed(entry: &Entry, diagnostics: &mut Diagnostics) -> bool {
    let statement = &entry.statement;
    if entry.negated {
        return true;
    }
    let name = entry.keyword.name;
    if name.starts_with("timeout ")
        || matches!(name, "clitcpka-idle" | "clitcpka-intvl" | "srvtcpka-idle" | "srvtcpka-intvl")
    {
        let index = if name.starts_with("timeout ") { 2 } else { 1 };
        let word = value::parameter(statement, index, "a time such as `10s`", diagnostics);
        let Some(word) = word else { return false };
        return value::time_of(word, diagnostics).is_some();
    }
    let mut text = |expected| value::parameter(statement, 1, expected, &mut *diagnostics).is_some();
    match name {
        "mode" => mode(statement, diagnostics),
        "maxconn" | "retries" => {
            let word = value::parameter(statement, 1, "a number", diagnostics);
            word.is_some_and(|word| {
                value::number_within(word, i64::MIN, i64::MAX, "number", diagnostics).is_some()
            })
        }
        "balance" => balance(statement, diagnostics),
        "bind" => text("ADDRESS:PORT"),
        "default_backend" | "use_backend" => text("the name of a backend") && one_word(entry, 2, diagnostics),
        _ if name.starts_with("option ") => one_word(entry, 2, diagnostics),
        _ => true,
    }
}

fn balance(statement: &Statement, diagnostics: &mut Diagnostics) -> bool {
    const EXPECTED: &str = "`roundrobin`, `leastconn`, `source`, `random` or `first`";
    const KNOWN: [&str; 11] = [
        "roundrobin",
        "static-rr",
        "leastconn",
        "source",
        "random",
        "first",
        "uri",
        "url_param",
        "hdr",
        "rdp-cookie",
        "hash",
    ];
    let Some(word) = value::parameter(statement, 1, EXPECTED, diagnostics) else { return false };
    let name = word.text.split('(').next().unwrap_or("");
    if !KNOWN.contains(&name) {
        let finding =
            Diagnostic::error("invalid-value", &word.at, format!("unknown `balance {}`", shown(word)));
        let meant = diagnostics.suggest(name, KNOWN);
        let expected = meant.map_or(EXPECTED.to_owned(), |meant| format!("`{meant}`?"));
        diagnostics.push(finding.expected(expected).help("HAProxy does not start with it either"));
    } else if matches!(name, "rdp-cookie" | "hash") {
        let finding = Diagnostic::warning(
            "not-carried",
            &statement.whole(),
            format!("`balance {name}` is not carried"),
        );
        diagnostics.push(finding.help("nothing of the stream is looked at; `balance source` is used"));
    }
    KNOWN.contains(&name)
}

fn mode(statement: &Statement, diagnostics: &mut Diagnostics) -> bool {
    let word = value::parameter(statement, 1, "`tcp` or `http`", diagnostics);
    let Some(word) = word else { return false };
    let (message, help) = match word.text.as_str() {
        "tcp" | "http" => return true,
        "health" => (
            "`mode health` does not exist any more",
            "HAProxy does not start with it; write `mode http` and `monitor-uri /`, which becomes a health page",
        ),
        _ => ("unknown mode", "HAProxy does not start with it either"),
    };
    let finding = Diagnostic::error("refused-by-haproxy", &word.at, message);
    diagnostics.push(finding.expected("`tcp` or `http`").help(help));
    false
}

/// Options that take no words.
fn one_word(entry: &Entry, most: usize, diagnostics: &mut Diagnostics) -> bool {
    const WITH_WORDS: [&str; 12] = [
        "use_backend",
        "option forwardfor",
        "option httpchk",
        "option httplog",
        "option mysql-check",
        "option originalto",
        "option pgsql-check",
        "option redispatch",
        "option smtpchk",
        "option tcpka",
        "option http-restrict-req-hdr-names",
        "option ldap-check",
    ];
    let Some(word) = entry.statement.words.get(most).filter(|_| !WITH_WORDS.contains(&entry.keyword.name))
    else {
        return true;
    };
    let message = format!("`{}` cannot handle unexpected argument `{}`", entry.keyword.name, shown(word));
    let finding = Diagnostic::error("words-behind", &word.at, message);
    diagnostics.push(finding.expected("the end of the line").help("HAProxy does not start with it either"));
    false
}

/// A check option that another one of the same section replaces.
struct Replaced {
    old: (&'static str, Arc<Statement>),
    new: (&'static str, Arc<Statement>),
}

/// What was stored, unless it was taken back.
fn store(
    entry: Entry,
    inherited: bool,
    settings: &mut Settings,
    lines: &mut Vec<Line>,
    replaced: &mut Vec<Replaced>,
) -> Option<(&'static Keyword, Arc<Statement>)> {
    let Entry { keyword, statement, negated } = entry;
    let statement = Arc::new(statement);
    if negated {
        settings.unset(keyword.name);
        if keyword.name == "log" {
            lines.retain(|line| line.keyword.name != "log");
        }
        return None;
    }
    if is_many(keyword.name) {
        lines.push(Line { keyword, statement: statement.clone(), inherited });
    } else if let Some(old) = settings.set(keyword, statement.clone()) {
        replaced.push(Replaced { old, new: (keyword.name, statement.clone()) });
    }
    Some((keyword, statement))
}

fn say_replaced(replaced: &[Replaced], section: &Section, diagnostics: &mut Diagnostics) {
    let here = |statement: &Statement| section.lines.iter().any(|line| line.at() == statement.at());
    for Replaced { old: (old, at), new: (new, by) } in replaced {
        if !CHECKS.contains(old) || !here(at) {
            continue;
        }
        let message = format!("`{old}` never had an effect: `{new}` replaces it");
        let finding = Diagnostic::warning("replaced-check", &at.whole(), message);
        diagnostics.push(finding.expected("one of them").help(format!(
            "servers are checked by the line at {} alone, in HAProxy too, so what this one would find is not found",
            by.at().place
        )));
    }
}

/// What becomes of a line, as far as its keyword says it. `modes`: it counts in `mode tcp`, in `mode http`.
fn judge(judged: &Judged<'_>, [tcp, http]: [bool; 2], diagnostics: &mut Diagnostics) {
    let Judged { keyword, statement } = judged;
    let (name, at) = (keyword.name, statement.whole());
    match keyword.status {
        Status::Carried | Status::Differs(_) | Status::Gone(_) => {}
        Status::NotNeeded(why) => {
            diagnostics.push(
                Diagnostic::notice("not-needed", &at, format!("`{name}` has no effect here")).help(why),
            );
        }
        Status::HttpOnly if http => {
            let finding = Diagnostic::notice("not-needed", &at, format!("`{name}` has no effect here"));
            diagnostics.push(finding.help("it concerns requests, and vipd carries TCP"));
        }
        Status::Http | Status::HttpOnly if tcp => {
            let finding = Diagnostic::notice("http-only", &at, format!("`{name}` never had an effect"));
            let help = match name {
                "option httplog" => {
                    "HAProxy ignores it in `mode tcp` and logs as `option tcplog` does; so does vipd"
                }
                _ => "HAProxy ignores it in `mode tcp` too; delete the line",
            };
            diagnostics.push(finding.help(help));
        }
        // Whoever lowers the frontend says what needs HTTP there.
        Status::Http | Status::HttpOnly => {}
        Status::Dropped(instead) => {
            let finding = Diagnostic::warning("not-carried", &at, format!("`{name}` is not carried"));
            diagnostics.push(finding.help(instead));
        }
        Status::Refused(instead) => {
            let finding = Diagnostic::error("refused", &at, format!("`{name}` cannot be carried"));
            diagnostics.push(finding.help(instead));
        }
    }
}
