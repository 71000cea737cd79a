//! From files to sections: conditions, lines, words.
//!
//! Everything is bounded; what goes over a bound is refused.

use std::path::Path;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::written::{Statement, Word};

use super::condition;
use super::words::{self, Spot, Variables};

/// A longer line is refused.
const LINE_BYTES: usize = 64 << 10;
/// Lines of all files.
const MOST_LINES: usize = 50_000;
/// Characters of all words.
const MOST_CHARACTERS: usize = 4 << 20;
/// `.if` within `.if`; HAProxy allows so many.
const MOST_DEPTH: usize = 64;
/// Lines that cannot be cut into words, after which the file is no configuration.
const MOST_WRONG: usize = 200;

/// Words that begin a section.
const SECTIONS: [(&str, Kind); 16] = [
    ("global", Kind::Global),
    ("defaults", Kind::Defaults),
    ("frontend", Kind::Frontend),
    ("backend", Kind::Backend),
    ("listen", Kind::Listen),
    ("resolvers", Kind::Resolvers),
    ("peers", Kind::Other),
    ("mailers", Kind::Other),
    ("userlist", Kind::Other),
    ("cache", Kind::Other),
    ("program", Kind::Other),
    ("http-errors", Kind::Other),
    ("ring", Kind::Other),
    ("log-forward", Kind::Other),
    ("fcgi-app", Kind::Other),
    ("namespace_list", Kind::Other),
];

/// What a section is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Global,
    Defaults,
    Frontend,
    Backend,
    Listen,
    Resolvers,
    /// Its first word says what.
    Other,
}

/// A section.
#[derive(Debug)]
pub(super) struct Section {
    pub kind: Kind,
    /// `frontend web from http`
    pub head: Statement,
    pub lines: Vec<Statement>,
}

impl Section {
    /// The word that begins it.
    pub fn word(&self) -> &str {
        self.head.keyword()
    }
}

/// State of an `.if`.
struct Condition {
    at: Location,
    /// The lines that follow count.
    holds: bool,
    /// One of its branches has counted.
    done: bool,
    /// The lines around it count.
    outer: bool,
    has_else: bool,
}

pub(super) struct Reader<'a> {
    diagnostics: &'a mut Diagnostics,
    variables: Variables,
    sections: Vec<Section>,
    lines: usize,
    characters: usize,
    wrong: usize,
    exhausted: bool,
}

impl<'a> Reader<'a> {
    pub fn new(diagnostics: &'a mut Diagnostics) -> Self {
        let mut variables = Variables::default();
        variables.set("HAPROXY_LOCALPEER", Some(host_name()));
        variables.set("HAPROXY_STARTUP_VERSION", Some("2.6.12".to_owned()));
        Self {
            diagnostics,
            variables,
            sections: Vec::new(),
            lines: 0,
            characters: 0,
            wrong: 0,
            exhausted: false,
        }
    }

    /// Nothing when the files are no configuration at all.
    pub fn into_sections(self) -> Option<Vec<Section>> {
        (!self.exhausted).then_some(self.sections)
    }

    pub fn read_text(&mut self, path: &Path, bytes: &[u8]) {
        let file: Arc<str> = path.display().to_string().into();
        let Some(bytes) = self.whole(&file, bytes) else { return };
        let text: Arc<str> = String::from_utf8_lossy(bytes).into();
        self.diagnostics.add_source(&file, text.clone());
        if let Some(zero) = bytes.iter().position(|b| *b == 0) {
            let line = bytes[..zero].iter().filter(|b| **b == b'\n').count();
            let spot = Spot { file: &file, number: u32::try_from(line + 1).unwrap_or(u32::MAX), section: "" };
            let finding = Diagnostic::error("zero-byte", &spot.at(0, 0), "a byte 0 in the file");
            self.diagnostics.push(finding.expected("a text file; HAProxy does not start with it either"));
            self.exhausted = true;
            return;
        }
        let mut conditions: Vec<Condition> = Vec::new();
        let mut last = 1;
        for (line, number) in text.split('\n').zip(1..) {
            if self.exhausted {
                return;
            }
            if !line.is_empty() {
                last = number;
            }
            self.line(&file, number, line.trim_end_matches('\r'), &mut conditions);
        }
        if let Some(open) = conditions.last() {
            let finding = Diagnostic::error("missing-brace", &open.at, "non-terminated `.if` block");
            self.diagnostics.push(finding.expected("`.endif` before the end of the file"));
        }
        if !text.is_empty() && !text.ends_with('\n') {
            self.no_line_feed(&file, last, &text);
        }
    }

    /// The file, unless it has too many lines: then the rest is not even looked at.
    fn whole<'b>(&mut self, file: &Arc<str>, bytes: &'b [u8]) -> Option<&'b [u8]> {
        let room = MOST_LINES.saturating_sub(self.lines);
        let mut ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at);
        let Some(end) = ends.nth(room) else { return Some(bytes) };
        self.diagnostics.add_source(file, String::from_utf8_lossy(&bytes[..end]).into());
        let number = u32::try_from(room + 1).unwrap_or(u32::MAX);
        self.too_large(&Spot { file, number, section: "" });
        None
    }

    fn too_large(&mut self, spot: &Spot<'_>) {
        let finding = Diagnostic::error("too-large", &spot.at(0, 0), "too many lines or characters");
        self.refuse(
            finding.expected(format!(
                "at most {MOST_LINES} lines and {MOST_CHARACTERS} characters in all files"
            )),
        );
        self.exhausted = true;
    }

    /// HAProxy takes it for a file that was cut off.
    fn no_line_feed(&mut self, file: &Arc<str>, number: u32, text: &str) {
        let width = text.rsplit('\n').next().unwrap_or("").chars().count();
        let spot = Spot { file, number, section: "" };
        let finding =
            Diagnostic::error("missing-line-feed", &spot.at(width, width), "the last line does not end");
        self.diagnostics.push(finding.expected("a line feed at its end").help(format!(
            "HAProxy does not start with it, since the file may be cut off; if it is whole: echo >> {file}"
        )));
    }

    fn line(&mut self, file: &Arc<str>, number: u32, line: &str, conditions: &mut Vec<Condition>) {
        self.lines += 1;
        let section = match self.sections.last() {
            Some(section) if line.contains(".SECTION") => {
                section.head.parameter().unwrap_or(&section.head.words[0]).text.clone()
            }
            _ => String::new(),
        };
        let spot = Spot { file, number, section: &section };
        if line.len() > LINE_BYTES {
            let finding =
                Diagnostic::error("line-too-long", &spot.at(0, 0), format!("a line of {} bytes", line.len()));
            self.refuse(finding.expected(format!("at most {LINE_BYTES}")));
            return;
        }
        if self.lines > MOST_LINES || self.characters > MOST_CHARACTERS {
            return self.too_large(&spot);
        }
        let words = match words::cut(line, &spot, &self.variables) {
            Ok(words) if words.is_empty() => return,
            Ok(words) => words,
            Err(wrong) => return self.refuse(*wrong),
        };
        self.characters += words.iter().map(|word| word.text.len()).sum::<usize>();
        let statement = Statement { words, block: None };
        if statement.keyword().starts_with('.') {
            return self.directive(&statement, conditions);
        }
        if let Some(secret) = secret(&statement) {
            self.diagnostics.hide(secret);
        }
        if conditions.last().is_none_or(|condition| condition.holds) {
            self.statement(statement);
        }
    }

    fn refuse(&mut self, finding: Diagnostic) {
        self.diagnostics.push(finding);
        self.wrong += 1;
        self.exhausted |= self.wrong > MOST_WRONG;
    }

    fn statement(&mut self, statement: Statement) {
        if let Some((_, kind)) = SECTIONS.iter().find(|(word, _)| *word == statement.keyword()) {
            self.sections.push(Section { kind: *kind, head: statement, lines: Vec::new() });
            return;
        }
        let Some(section) = self.sections.last_mut() else {
            let message = format!("unknown keyword `{}` out of section", shown(&statement.words[0]));
            let names = SECTIONS.iter().map(|(word, _)| *word);
            let meant = self.diagnostics.suggest(statement.keyword(), names);
            let expected = meant.map_or(
                "`global`, `defaults`, `frontend`, `backend` or `listen` before it".to_owned(),
                |word| format!("`{word}`?"),
            );
            let finding = Diagnostic::error("unknown-keyword", statement.at(), message);
            return self.refuse(finding.expected(expected).help("HAProxy does not start with it either"));
        };
        if section.kind == Kind::Global {
            environment(&statement, &mut self.variables);
        }
        section.lines.push(statement);
    }

    fn directive(&mut self, statement: &Statement, conditions: &mut Vec<Condition>) {
        let at = statement.at();
        let outer = conditions.last().is_none_or(|condition| condition.holds);
        match statement.keyword() {
            ".if" => {
                if conditions.len() >= MOST_DEPTH {
                    self.refuse(Diagnostic::error(
                        "too-deep",
                        at,
                        format!("more than {MOST_DEPTH} nested `.if`"),
                    ));
                    self.exhausted = true;
                    return;
                }
                let holds = outer && self.judge(statement);
                conditions.push(Condition { at: at.clone(), holds, done: holds, outer, has_else: false });
            }
            ".elif" | ".else" => {
                let is_else = statement.keyword() == ".else";
                let Some(mut open) = conditions.pop().filter(|open| !open.has_else) else {
                    let message = format!("`{}` without `.if`", statement.keyword());
                    return self.refuse(Diagnostic::error("condition-without-id", at, message));
                };
                open.holds = open.outer && !open.done && (is_else || self.judge(statement));
                open.done |= open.holds;
                open.has_else = is_else;
                conditions.push(open);
            }
            ".endif" => {
                if conditions.pop().is_none() {
                    self.refuse(Diagnostic::error("condition-without-id", at, "`.endif` without `.if`"));
                }
            }
            ".diag" => {}
            ".notice" | ".warning" | ".alert" if outer => {
                let said: Vec<_> = statement.parameters().iter().map(|word| word.text.as_str()).collect();
                let said = format!("the file says: {}", said.join(" "));
                self.diagnostics.push(match statement.keyword() {
                    ".alert" => Diagnostic::error("said-by-file", at, said)
                        .help("HAProxy does not start with it either"),
                    ".warning" => Diagnostic::warning("said-by-file", at, said),
                    _ => Diagnostic::notice("said-by-file", at, said),
                });
            }
            ".notice" | ".warning" | ".alert" => {}
            other => {
                let message = format!("unknown directive `{}`", shown(&statement.words[0]));
                let known = [".if", ".elif", ".else", ".endif", ".diag", ".notice", ".warning", ".alert"];
                let meant = self.diagnostics.suggest(other, known);
                let finding = Diagnostic::error("unknown-keyword", at, message);
                self.refuse(match meant {
                    Some(meant) => finding.expected(format!("`{meant}`?")),
                    None => finding.expected(known.join(", ")),
                });
            }
        }
    }

    fn judge(&mut self, statement: &Statement) -> bool {
        let text: Vec<_> = statement.parameters().iter().map(|word| word.text.as_str()).collect();
        match condition::holds(&text.join(" "), &self.variables) {
            Ok(holds) => holds,
            Err(why) => {
                let finding = Diagnostic::error("invalid-value", &statement.whole(), why);
                self.refuse(finding.expected(
                    "a condition such as `defined(NAME)`, `streq(\"$NAME\",x)` or `feature(OPENSSL)`",
                ));
                false
            }
        }
    }
}

/// `setenv` and its kin count for the lines that follow.
fn environment(statement: &Statement, variables: &mut Variables) {
    let texts: Vec<&str> = statement.parameters().iter().map(|word| word.text.as_str()).collect();
    match (statement.keyword(), texts.as_slice()) {
        ("setenv", [name, value, ..]) => variables.set(name, Some((*value).to_owned())),
        ("presetenv", [name, value, ..]) if variables.get(name).is_none() => {
            variables.set(name, Some((*value).to_owned()));
        }
        ("unsetenv", names) => names.iter().for_each(|name| variables.set(name, None)),
        ("resetenv", names) => variables.reset(names.iter().copied()),
        _ => {}
    }
}

/// A password on this line.
fn secret(statement: &Statement) -> Option<Location> {
    let texts: Vec<&str> = statement.words.iter().map(|word| word.text.as_str()).collect();
    let index = match texts.as_slice() {
        ["stats", "auth", ..] => 2,
        ["user", _, "password" | "insecure-password", ..] => 3,
        words => words.iter().position(|word| word.eq_ignore_ascii_case("authorization"))? + 1,
    };
    statement.words.get(index).map(|word| word.at.clone())
}

/// A word, not too long for a message.
pub(super) fn shown(word: &Word) -> String {
    word.text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}
