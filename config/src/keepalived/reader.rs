//! From files to the lines that count: includes, conditions, definitions and loops.
//!
//! Everything is bounded: the size of a file, of a line and of what definitions grow to, the depth of
//! includes and of definitions. What goes over a bound is a finding, never a hang.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::LoadOptions;
use crate::diagnostic::{Diagnostic, Diagnostics, Location};

use super::expand::Scope;
use super::lexer::{self, Char, Line};

mod include;

pub(crate) use include::read_file;

/// A longer file is refused.
const FILE_BYTES: u64 = 16 << 20;
/// A longer line is ignored. keepalived 2.4.3 ignores those over 1023 bytes.
const LINE_BYTES: usize = 16 << 10;
/// What keepalived still reads.
const KEEPALIVED_LINE_BYTES: usize = 1023;
/// Lines that a configuration may grow to through definitions and loops.
const MOST_LINES: usize = 400_000;
/// Characters that a configuration may grow to through definitions and loops: 2800 large instances.
const MOST_CHARACTERS: usize = 4_500_000;
/// Characters that definitions may grow to without a loop, where the files are small, and for each byte of larger
/// ones. Loops are written to make much of little; definitions that do are most often a mistake.
const LEAST_GROWTH: usize = 1 << 20;
const MOST_GROWTH: usize = 16;
/// Of a configuration that grew too large, so many pieces are still looked at for other mistakes: an endless loop is
/// refused within 0.1 s.
const KEPT: usize = 5_000;
/// What a line costs beside its characters, so that many short ones take no longer than few long ones.
const LINE: usize = 24;
/// Definitions within definitions.
pub(super) const MOST_DEPTH: usize = 24;
/// Files within files.
const MOST_INCLUDES: usize = 16;
/// Files altogether.
const MOST_FILES: usize = 2_000;
/// Characters of a line that grew, beyond which each counts five times.
const LONG_LINE: usize = 1024;

/// A value with a name: one line, or several that are read one after the other.
#[derive(Clone, Debug)]
pub(super) struct Definition {
    pub lines: Vec<Vec<Char>>,
    /// Its value is on this line, in these columns.
    pub place: Vec<Location>,
}

/// A part of a line: what stands between braces, or a brace.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    /// Words.
    Text(Line),
    /// `{`
    Open(Location),
    /// `}`
    Close(Location),
}

/// What a file reader gathers.
pub(crate) struct Reader<'a> {
    pub(super) config_id: String,
    pub(super) diagnostics: &'a mut Diagnostics,
    pub(super) definitions: HashMap<String, Arc<Definition>>,
    pub(super) random: super::expand::Random,
    /// Unknown names that were reported.
    pub(super) unknown: HashSet<String>,
    pieces: Vec<Piece>,
    characters: usize,
    /// Of these, out of definitions without a loop.
    grown: usize,
    /// Bytes of all files.
    read: usize,
    /// Definitions of several lines that are being read, outermost first.
    pub(super) feeding: Vec<Arc<Definition>>,
    exhausted: bool,
    /// The files that are being read, outermost first.
    open: Vec<PathBuf>,
    included: usize,
    /// Files include one another without end: from now on none is included.
    tangled: bool,
    checks: include::Checks,
}

/// A definition of several lines that is not complete yet.
struct Unfinished {
    name: String,
    definition: Definition,
    /// Its condition does not hold.
    dropped: bool,
}

impl<'a> Reader<'a> {
    pub fn new(options: &LoadOptions, diagnostics: &'a mut Diagnostics) -> Self {
        Self {
            config_id: options.config_id(),
            diagnostics,
            definitions: HashMap::new(),
            random: super::expand::Random::new(),
            unknown: HashSet::new(),
            pieces: Vec::new(),
            characters: 0,
            grown: 0,
            read: 0,
            feeding: Vec::new(),
            exhausted: false,
            open: Vec::new(),
            included: 0,
            tangled: false,
            checks: include::Checks::default(),
        }
    }

    pub fn into_pieces(self) -> Vec<Piece> {
        self.pieces
    }

    /// Reads a file that was opened by the caller.
    pub fn read_text(&mut self, path: &Path, bytes: &[u8]) {
        let file: Arc<str> = path.display().to_string().into();
        let text: Arc<str> = String::from_utf8_lossy(bytes).into();
        self.diagnostics.add_source(&file, text.clone());
        self.read += bytes.len();
        let zeros = bytes.iter().filter(|b| **b == 0).count();
        if zeros > 3 {
            let message = format!("not a text file: {zeros} of its {} bytes are zero", bytes.len());
            let finding = Diagnostic::error("not-a-text-file", &Location::file(&file), message);
            self.diagnostics.push(finding.expected("a keepalived.conf"));
            return;
        }
        self.open.push(canonical(path));
        let saved = self.checks;
        self.read_lines(&file, path, &text);
        self.checks = saved;
        self.open.pop();
    }

    fn read_lines(&mut self, file: &Arc<str>, path: &Path, text: &str) {
        let mut unfinished: Option<Unfinished> = None;
        let mut lossy = false;
        for (raw, number) in text.split('\n').zip(1..) {
            if self.exhausted {
                return;
            }
            let raw = raw.trim_end_matches('\r');
            let Some(raw) = self.readable(file, number, raw, &mut lossy) else { continue };
            let all = lexer::chars(raw);
            let (mut chars, unterminated) = lexer::strip_comment(&all);
            // A definition goes on behind a `\` at the end of a comment too.
            let last = lexer::trim(&all).last().filter(|last| last.value == '\\');
            if chars.last() != last && (unfinished.is_some() || definition_start(&chars).is_some()) {
                chars.extend(last);
            }
            let line = Line { file: file.clone(), number, chars };
            if unterminated {
                let quote = line.chars.iter().rposition(|c| c.value == '"').unwrap_or(0);
                let finding = Diagnostic::warning(
                    "unterminated-quote",
                    &line.location(&line.chars[quote..]),
                    "quote not closed on its line",
                );
                self.diagnostics
                    .push(finding.help("the rest of the line is taken as one word; close the quote"));
            }
            if let Some(mut definition) = unfinished.take() {
                if definition.add(&line) {
                    unfinished = Some(definition);
                } else {
                    self.define(definition);
                }
                continue;
            }
            if line.chars.is_empty() {
                continue;
            }
            if self.include_line(&line, path) {
                continue;
            }
            unfinished = self.feed(line, &Scope::default(), 0);
        }
        if let Some(definition) = unfinished {
            self.define(definition);
        }
    }

    /// Reports and drops a line that cannot be read.
    fn readable<'t>(
        &mut self,
        file: &Arc<str>,
        number: u32,
        raw: &'t str,
        lossy: &mut bool,
    ) -> Option<&'t str> {
        let at = |column| {
            let mut at = Location::file(file);
            (at.place.line, at.place.column, at.length) = (number, column, 1);
            at
        };
        let column = |found: char| raw.chars().position(|c| c == found).map(|i| i as u32 + 1);
        if let Some(zero) = column('\0') {
            self.diagnostics.push(
                Diagnostic::warning("zero-byte", &at(zero), "the line holds a byte 0")
                    .help("the line is ignored, as keepalived 2.4 does"),
            );
            return None;
        }
        if raw.len() > LINE_BYTES {
            let message = format!("line of {} bytes, more than {LINE_BYTES}", raw.len());
            self.diagnostics
                .push(Diagnostic::error("line-too-long", &at(1), message).help("write it in several lines"));
            return None;
        }
        if raw.len() > KEEPALIVED_LINE_BYTES {
            let message = format!("line of {} bytes", raw.len());
            let help = format!(
                "it is read here, but keepalived 2.4.3 ignores a line over {KEEPALIVED_LINE_BYTES} bytes"
            );
            self.diagnostics
                .push(Diagnostic::warning("line-too-long-for-keepalived", &at(1), message).help(help));
        }
        if let Some(replaced) = column('\u{fffd}').filter(|_| !*lossy) {
            *lossy = true;
            let finding = Diagnostic::warning("not-utf-8", &at(replaced), "bytes that are not UTF-8");
            self.diagnostics.push(finding.help("they are read as \u{fffd}; save the file as UTF-8"));
        }
        Some(raw)
    }

    /// `random_seed N`: the numbers of `${_RANDOM}` behind it are the same in every run.
    fn random_seed(&mut self, line: &Line) {
        if line.chars[0].value != 'r' {
            return;
        }
        let text: String = line.chars.iter().map(|c| c.value).take(40).collect();
        if let Some(seed) = text.strip_prefix("random_seed").and_then(|rest| rest.trim().parse().ok()) {
            self.random = super::expand::Random::from_seed(seed);
        }
    }

    /// Takes one line: keeps it if its condition holds, notes a definition, or splits it into pieces with
    /// definitions replaced. Gives back a definition that goes on in the next line.
    pub(super) fn feed_line(&mut self, line: Line, scope: &Scope<'_>, depth: usize) {
        if let Some(definition) = self.feed(line, scope, depth) {
            self.define(definition);
        }
    }

    fn feed(&mut self, line: Line, scope: &Scope<'_>, depth: usize) -> Option<Unfinished> {
        let mut line = line;
        lexer::trim_in_place(&mut line.chars);
        if depth > 0 {
            self.spend(&line, scope.is_empty());
        }
        if self.exhausted || line.chars.is_empty() {
            return None;
        }
        let (line, holds) = self.condition(line);
        if let Some((name, value)) = definition_start(&line.chars) {
            if !scope.is_empty() {
                // A name for each round of a loop: more work than a line.
                self.spend(&line, false);
            }
            let value = lexer::trim(&line.chars[value..]).to_vec();
            let mut started = Unfinished {
                name,
                definition: Definition { lines: Vec::new(), place: Vec::new() },
                dropped: !holds,
            };
            if started.add(&Line { chars: value, ..line }) {
                return Some(started);
            }
            self.define(started);
            return None;
        }
        if holds {
            self.random_seed(&line);
            self.expand_line(line, scope, depth);
        }
        None
    }

    /// `@ID rest` and `@^ID rest`.
    fn condition(&mut self, line: Line) -> (Line, bool) {
        if line.chars[0].value != '@' {
            return (line, true);
        }
        let end = line.chars.iter().position(|c| c.value.is_ascii_whitespace()).unwrap_or(line.chars.len());
        let word = lexer::text(&line.chars[1..end]);
        let (id, wanted) = match word.strip_prefix('^') {
            Some(id) => (id, false),
            None => (word.as_str(), true),
        };
        if id.is_empty() {
            let finding = Diagnostic::warning(
                "condition-without-id",
                &line.location(&line.chars[..end]),
                "a condition without an id",
            );
            self.diagnostics
                .push(finding.expected("@ID or @^ID, without a blank").help("the line is ignored"));
        }
        let holds = !id.is_empty() && (self.config_id == id) == wanted;
        let rest = lexer::trim(&line.chars[end..]).to_vec();
        let (file, number) = (line.file, line.number);
        let empty = rest.is_empty();
        (Line { file, number, chars: rest }, holds && !empty)
    }

    fn define(&mut self, definition: Unfinished) {
        if !definition.dropped {
            self.definitions.insert(definition.name, Arc::new(definition.definition));
        }
    }

    pub(super) fn push_piece(&mut self, piece: Piece) {
        if self.pieces.len() >= MOST_LINES {
            if let Piece::Open(at) | Piece::Close(at) = &piece {
                let at = at.clone();
                self.exhaust(&at);
            } else if let Piece::Text(line) = &piece {
                let at = line.whole();
                self.exhaust(&at);
            }
            return;
        }
        self.pieces.push(piece);
    }

    /// Counts what definitions and loops grow to. `grown`: out of definitions, without a loop.
    pub(super) fn spend(&mut self, line: &Line, grown: bool) {
        // keepalived reads 1023 bytes of a line; whoever grows longer ones has many words in them to look at.
        let characters = line.chars.len() + LINE + 4 * line.chars.len().saturating_sub(LONG_LINE);
        self.characters += characters;
        self.grown += if grown { characters } else { 0 };
        let most_grown = LEAST_GROWTH.max(self.read.saturating_mul(MOST_GROWTH));
        if self.characters > MOST_CHARACTERS || self.grown > most_grown {
            self.exhaust(&line.whole());
        }
    }

    pub(super) fn exhaust(&mut self, at: &Location) {
        if !self.exhausted {
            self.exhausted = true;
            self.pieces.truncate(KEPT);
            let message = format!(
                "definitions grow to more than {} characters, or with loops to {MOST_LINES} lines or {MOST_CHARACTERS}",
                LEAST_GROWTH.max(self.read.saturating_mul(MOST_GROWTH)).min(MOST_CHARACTERS)
            );
            self.diagnostics
                .push(Diagnostic::error("too-large", at, message).help("nothing behind this is read"));
        }
    }

    pub(super) fn is_exhausted(&self) -> bool {
        self.exhausted
    }
}

impl Unfinished {
    /// Adds a line; `true` when it ends in `\`, so that the next one belongs to the definition too.
    fn add(&mut self, line: &Line) -> bool {
        let continues = line.chars.last().is_some_and(|c| c.value == '\\');
        let value = if continues { &line.chars[..line.chars.len() - 1] } else { &line.chars[..] };
        let value = lexer::trim(value);
        if !value.is_empty() {
            self.definition.lines.push(value.to_vec());
            self.definition.place.push(line.location(value));
        }
        continues
    }
}

/// `$NAME=`: the name, and where the value begins.
fn definition_start(chars: &[Char]) -> Option<(String, usize)> {
    if chars.first()?.value != '$' {
        return None;
    }
    let equals = chars.iter().position(|c| c.value == '=')?;
    let name = lexer::text(&chars[1..equals]);
    is_name(&name).then_some((name, equals + 1))
}

/// A letter or `_`, then letters, digits, `_`.
pub(super) fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

fn canonical(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}
