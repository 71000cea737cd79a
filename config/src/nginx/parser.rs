//! Words, statements and blocks of nginx.conf, with what is included.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::Place;
use crate::written::{Block, Statement, Word};

/// Blocks within blocks.
const MOST_DEPTH: usize = 32;
/// Statements of all files.
const MOST_STATEMENTS: usize = 100_000;
/// Files altogether.
const MOST_FILES: usize = 500;
/// Files within files.
const MOST_INCLUDES: usize = 8;
/// Characters of one word: nginx's own bound.
const MOST_WORD: usize = 4096;

/// The statements of a file; nothing where it is no nginx.conf.
pub(super) fn read(path: &Path, bytes: &[u8], diagnostics: &mut Diagnostics) -> Option<Vec<Statement>> {
    let folder = path.parent().unwrap_or(Path::new("")).to_owned();
    let mut reader = Reader { diagnostics, folder, statements: 0, files: 0, open: 0, elsewhere: 0 };
    reader.file(path, bytes)
}

struct Reader<'a> {
    diagnostics: &'a mut Diagnostics,
    /// Names of included files begin here.
    folder: PathBuf,
    statements: usize,
    files: usize,
    open: usize,
    /// Within `http` or `mail`: what is included there has no meaning here.
    elsewhere: usize,
}

/// What ends a run of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Semicolon,
    Open,
    Close,
    File,
}

struct Text<'a> {
    file: &'a Arc<str>,
    chars: std::iter::Peekable<std::str::Chars<'a>>,
    line: u32,
    column: u32,
}

impl Text<'_> {
    fn next(&mut self) -> Option<char> {
        let c = self.chars.next()?;
        if c == '\n' {
            self.line += 1;
            self.column = 1;
        } else {
            self.column += 1;
        }
        Some(c)
    }

    fn place(&self) -> Place {
        Place { file: self.file.clone(), line: self.line, column: self.column }
    }
}

impl Reader<'_> {
    fn file(&mut self, path: &Path, bytes: &[u8]) -> Option<Vec<Statement>> {
        let file: Arc<str> = path.display().to_string().into();
        let text: Arc<str> = String::from_utf8_lossy(bytes).into();
        self.diagnostics.add_source(&file, text.clone());
        if bytes.contains(&0) {
            let finding = Diagnostic::error("zero-byte", &Location::file(&file), "a byte 0 in the file");
            self.diagnostics.push(finding.expected("a text file"));
            return None;
        }
        let mut text = Text { file: &file, chars: text.chars().peekable(), line: 1, column: 1 };
        self.files += 1;
        self.open += 1;
        let read = self.block(&mut text, 0);
        self.open -= 1;
        read
    }

    /// Statements up to the end of a block, or of the file.
    fn block(&mut self, text: &mut Text<'_>, depth: usize) -> Option<Vec<Statement>> {
        let mut statements = Vec::new();
        loop {
            let (words, end, at) = self.words(text)?;
            self.statements += 1;
            if self.statements > MOST_STATEMENTS {
                return self.stop(
                    "too-large",
                    &at,
                    format!("more than {MOST_STATEMENTS} directives"),
                    "fewer",
                );
            }
            match (end, words.is_empty()) {
                (End::File, true) if depth == 0 => return Some(statements),
                (End::Close, true) if depth > 0 => return Some(statements),
                (End::File, true) => {
                    return self.stop("missing-brace", &at, "unexpected end of file".to_owned(), "`}`");
                }
                (End::Close, true) => {
                    return self.stop("extra-brace", &at, "unexpected `}`".to_owned(), "a directive");
                }
                (End::File | End::Close, false) => {
                    let message = format!("directive `{}` is not terminated by `;`", shown(&words[0].text));
                    return self.stop("missing-semicolon", &words[0].at, message, "`;` behind its last word");
                }
                (End::Semicolon | End::Open, true) => {
                    return self.stop(
                        "unexpected-brace",
                        &at,
                        "unexpected `;` or `{`".to_owned(),
                        "a directive before it",
                    );
                }
                (End::Semicolon, false) if words[0].text == "include" => {
                    self.include(&words, &mut statements)
                }
                (End::Semicolon, false) => statements.push(Statement { words, block: None }),
                (End::Open, false) => {
                    if depth >= MOST_DEPTH {
                        return self.stop(
                            "too-deep",
                            &words[0].at,
                            format!("more than {MOST_DEPTH} nested blocks"),
                            "fewer",
                        );
                    }
                    let elsewhere = usize::from(matches!(words[0].text.as_str(), "http" | "mail"));
                    self.elsewhere += elsewhere;
                    let inner = self.block(text, depth + 1)?;
                    self.elsewhere -= elsewhere;
                    statements.push(Statement { words, block: Some(Block { statements: inner }) });
                }
            }
        }
    }

    fn stop<T>(&mut self, code: &'static str, at: &Location, message: String, expected: &str) -> Option<T> {
        let finding = match code {
            "too-large" => Diagnostic::error("too-large", at, message),
            "missing-brace" => Diagnostic::error("missing-brace", at, message),
            "extra-brace" => Diagnostic::error("extra-brace", at, message),
            "missing-semicolon" => Diagnostic::error("missing-semicolon", at, message),
            "too-deep" => Diagnostic::error("too-deep", at, message),
            "unfilled-placeholder" => Diagnostic::error("unfilled-placeholder", at, message),
            "unterminated-quote" => Diagnostic::error("unterminated-quote", at, message),
            "line-too-long" => Diagnostic::error("line-too-long", at, message),
            _ => Diagnostic::error("unexpected-brace", at, message),
        };
        self.diagnostics
            .push(finding.expected(expected.to_owned()).help("nginx does not start with it either"));
        None
    }

    /// Words up to `;`, `{` or `}`.
    fn words(&mut self, text: &mut Text<'_>) -> Option<(Vec<Word>, End, Location)> {
        let mut words: Vec<Word> = Vec::new();
        loop {
            let place = text.place();
            let at = Location { place: place.clone(), length: 1 };
            let Some(&c) = text.chars.peek() else { return Some((words, End::File, at)) };
            match c {
                '#' => {
                    while text.chars.peek().is_some_and(|c| *c != '\n') {
                        text.next();
                    }
                }
                c if c.is_ascii_whitespace() => drop(text.next()),
                ';' | '{' | '}' => {
                    text.next();
                    let template =
                        c == '{' && text.chars.peek().is_some_and(|c| matches!(c, '{' | '%' | '#'));
                    if template {
                        let message = "this is a template, not yet an nginx.conf".to_owned();
                        return self.stop(
                            "unfilled-placeholder",
                            &at,
                            message,
                            "the file that it is rendered to",
                        );
                    }
                    let end = match c {
                        ';' => End::Semicolon,
                        '{' => End::Open,
                        _ => End::Close,
                    };
                    return Some((words, end, at));
                }
                _ => {
                    let word = self.word(text, place)?;
                    words.push(word);
                }
            }
        }
    }

    fn word(&mut self, text: &mut Text<'_>, place: Place) -> Option<Word> {
        let mut value = String::new();
        let quote = text.chars.peek().copied().filter(|c| matches!(c, '"' | '\''));
        if quote.is_some() {
            text.next();
        }
        let mut closed = quote.is_none();
        let mut length = u32::from(quote.is_some());
        while let Some(&c) = text.chars.peek() {
            let ends = match quote {
                Some(quote) => c == quote,
                None => {
                    c.is_ascii_whitespace() || matches!(c, ';' | '}') || (c == '{' && !value.ends_with('$'))
                }
            };
            if ends {
                if quote.is_some() {
                    text.next();
                    length += 1;
                    closed = true;
                }
                break;
            }
            text.next();
            length += 1;
            if c == '\\' {
                match text.chars.peek().copied() {
                    Some(next @ ('"' | '\'' | '\\')) => {
                        text.next();
                        length += 1;
                        value.push(next);
                        continue;
                    }
                    Some(next @ (' ' | ';' | '{' | '}')) if quote.is_none() => {
                        text.next();
                        length += 1;
                        value.push('\\');
                        value.push(next);
                        continue;
                    }
                    _ => {}
                }
            }
            // `${name}` is one word.
            if c == '{' && value.ends_with('$') {
                value.push(c);
                while text.chars.peek().is_some_and(|c| *c != '}' && !c.is_ascii_whitespace())
                    && value.len() <= MOST_WORD
                {
                    value.extend(text.next());
                    length += 1;
                }
                value.extend(text.next());
                length += 1;
                continue;
            }
            value.push(c);
            if value.len() > MOST_WORD {
                let at = Location { place, length: 1 };
                return self.stop(
                    "line-too-long",
                    &at,
                    format!("a word of more than {MOST_WORD} bytes"),
                    "a shorter one",
                );
            }
        }
        let same_line = text.line == place.line;
        let at = Location { place, length: if same_line { length.max(1) } else { 1 } };
        if !closed {
            return self.stop(
                "unterminated-quote",
                &at,
                "a quote that is not closed".to_owned(),
                "another one",
            );
        }
        Some(Word { text: value, at, quoted: quote.is_some() })
    }

    fn include(&mut self, words: &[Word], statements: &mut Vec<Statement>) {
        let Some(pattern) = words.get(1) else {
            let finding = Diagnostic::error("missing-parameter", &words[0].at, "`include` without a file");
            self.diagnostics.push(finding.expected("`include FILE`"));
            return;
        };
        if self.elsewhere > 0 {
            let finding = Diagnostic::notice("not-needed", &pattern.at, "what is included here is not read");
            self.diagnostics.push(finding.help("it is of `http` or `mail`, which nginx keeps"));
            return;
        }
        let path = self.folder.join(&pattern.text);
        let is_pattern = pattern.text.contains(['*', '?', '[']);
        let mut paths: Vec<PathBuf> = if is_pattern {
            let found = path.to_str().and_then(|path| glob::glob(path).ok());
            found
                .into_iter()
                .flatten()
                .filter_map(Result::ok)
                .filter(|path| path.is_file())
                .take(MOST_FILES + 1)
                .collect()
        } else {
            vec![path]
        };
        paths.sort();
        for path in paths {
            if self.open >= MOST_INCLUDES || self.files >= MOST_FILES {
                let finding = Diagnostic::error("include-depth", &pattern.at, "too many files are included");
                self.diagnostics.push(
                    finding.expected(format!("at most {MOST_FILES}, {MOST_INCLUDES} within one another")),
                );
                return;
            }
            match crate::keepalived::read_file(&path) {
                Ok(bytes) => statements.extend(self.file(&path, &bytes).into_iter().flatten()),
                // Files of an installation that is not here concern its `http` part.
                Err(reason) => {
                    let message = format!("cannot read `{}`: {reason}", path.display());
                    let finding = Diagnostic::warning("include-unreadable", &pattern.at, message);
                    self.diagnostics
                        .push(finding.help("what it holds is not carried; nginx does not start without it"));
                }
            }
        }
    }
}

/// Not too long for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(60).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
