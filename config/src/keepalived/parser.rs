//! From words and braces to statements and blocks, and every word that has no meaning here named once.

use std::path::PathBuf;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::written::{Block, Statement, Word};

use super::keywords::{self, Context, Status};
use super::lexer::{self, Line};
use super::reader::Piece;

/// Blocks within blocks; keepalived needs five.
const MOST_DEPTH: usize = 64;

/// A block that is open.
struct Frame {
    statements: Vec<Statement>,
    /// `None`: what is inside is skipped.
    context: Option<Context>,
    /// Its brace, or the keyword that needs one.
    opened: Location,
    /// Behind no keyword, so it belongs to nothing.
    stray: bool,
}

struct Parser<'a> {
    diagnostics: &'a mut Diagnostics,
    frames: Vec<Frame>,
    /// The last statement of the innermost frame may get a block.
    fresh: bool,
}

/// Builds the statements of a whole configuration.
pub(super) fn parse(pieces: Vec<Piece>, diagnostics: &mut Diagnostics) -> Vec<Statement> {
    let file: Arc<str> = "".into();
    let top = Frame {
        statements: Vec::new(),
        context: Some(Context::Top),
        opened: Location::file(&file),
        stray: false,
    };
    let mut parser = Parser { diagnostics, frames: vec![top], fresh: false };
    let mut pieces = pieces.into_iter().peekable();
    while let Some(piece) = pieces.next() {
        match piece {
            Piece::Text(line) => {
                let opens = matches!(pieces.peek(), Some(Piece::Open(_)));
                parser.text(&line, opens);
            }
            Piece::Open(at) => parser.open(at),
            Piece::Close(at) => parser.close(&at),
        }
    }
    parser.finish()
}

impl Parser<'_> {
    fn frame(&mut self) -> &mut Frame {
        self.frames.last_mut().expect("the top level is never closed")
    }

    fn text(&mut self, line: &Line, opens: bool) {
        let words = self.words(line);
        let Some(first) = words.first() else { return };
        if self.frames.len() > 1 && opens && begins_top_level(&first.text) {
            self.close_forgotten(first);
        } else if self.fresh && !begins_top_level(&first.text) {
            self.open_forgotten();
        }
        self.hide_secrets(&words);
        self.frame().statements.push(Statement { words, block: None });
        self.fresh = true;
    }

    fn words(&mut self, line: &Line) -> Vec<Word> {
        let words = lexer::words(line);
        let entries = matches!(self.frame().context, Some(Context::Entries));
        match words.first() {
            Some(first) if !entries && keywords::is_script(&first.text) => lexer::script_words(line),
            _ => words,
        }
    }

    fn hide_secrets(&mut self, words: &[Word]) {
        let context = self.frame().context;
        let known = |name| context.is_some_and(|context| keywords::find(context, name).is_some());
        let secret = match context {
            Some(Context::Authentication) => words[0].text != "auth_type",
            Some(Context::AuthHmac | Context::Ssl) => words[0].text == "key" || !known(&words[0].text),
            _ => false,
        };
        if secret || keywords::is_secret(&words[0].text) {
            for word in &words[1..] {
                self.diagnostics.hide(word.at.clone());
            }
        }
    }

    /// A block keyword without its `{`: keepalived says so and reads on as if it were there.
    fn open_forgotten(&mut self) {
        let context = self.frame().context;
        let Some(last) = self.frame().statements.last().filter(|last| last.block.is_none()) else { return };
        let Some(keyword) = context.and_then(|context| keywords::find(context, last.keyword())) else {
            return;
        };
        if keyword.block.is_none() {
            return;
        }
        let at = last.whole();
        let message = format!("`{}` without its `{{`", keyword.name);
        self.diagnostics.push(
            Diagnostic::warning("missing-brace", &at, message)
                .expected("`{` behind it")
                .help("what follows is read as if it were there"),
        );
        self.frames.push(Frame { statements: Vec::new(), context: keyword.block, opened: at, stray: false });
    }

    /// A top-level block begins although others are open.
    fn close_forgotten(&mut self, first: &Word) {
        while self.frames.len() > 1 {
            let opened = &self.frame().opened;
            let message =
                format!("`{}` begins inside the block that was opened at {}", first.text, opened.place);
            let finding = Diagnostic::warning("missing-brace", &first.at, message);
            self.diagnostics
                .push(finding.expected("`}` before it").help("the open block is taken to end here"));
            self.pop();
        }
    }

    fn open(&mut self, at: Location) {
        let depth = self.frames.len();
        let context = self.frame().context;
        let fresh = std::mem::take(&mut self.fresh);
        let last = self.frame().statements.last().filter(|last| fresh && last.block.is_none());
        let frame = match last {
            Some(last) => {
                let inside =
                    context.and_then(|context| keywords::find(context, last.keyword())).and_then(|k| k.block);
                Frame { statements: Vec::new(), context: inside, opened: at, stray: false }
            }
            None => {
                let finding = Diagnostic::warning("unexpected-brace", &at, "`{` behind no keyword");
                self.diagnostics.push(finding.expected("a keyword before it").help("the block is skipped"));
                Frame { statements: Vec::new(), context: None, opened: at, stray: true }
            }
        };
        if depth == MOST_DEPTH {
            let message = format!("more than {MOST_DEPTH} blocks within blocks");
            self.diagnostics.push(
                Diagnostic::error("too-deep", &frame.opened, message).help("everything inside is skipped"),
            );
        }
        self.frames.push(frame);
    }

    fn close(&mut self, at: &Location) {
        if self.fresh && self.frames.len() == 1 {
            self.open_forgotten();
        }
        self.fresh = false;
        if self.frames.len() == 1 {
            let finding = Diagnostic::warning("extra-brace", at, "`}` without a block that is open");
            self.diagnostics.push(finding.help("it is ignored; was a `{` forgotten above?"));
            return;
        }
        self.pop();
    }

    /// Gives the innermost block to its keyword.
    fn pop(&mut self) {
        self.fresh = false;
        let depth = self.frames.len();
        let Some(frame) = self.frames.pop() else { return };
        if frame.stray || depth > MOST_DEPTH {
            return;
        }
        if let Some(owner) = self.frame().statements.last_mut() {
            owner.block = Some(Block { statements: frame.statements });
        }
    }

    fn finish(mut self) -> Vec<Statement> {
        while self.frames.len() > 1 {
            let opened = self.frame().opened.clone();
            let finding =
                Diagnostic::warning("missing-brace", &opened, "block not closed at the end of the file");
            self.diagnostics.push(finding.expected("`}`").help("it is taken to end there"));
            self.pop();
        }
        self.frames.pop().map(|top| top.statements).unwrap_or_default()
    }
}

/// A word that begins a block at the top level and nowhere else.
fn begins_top_level(word: &str) -> bool {
    keywords::find(Context::Top, word).is_some_and(|k| k.block.is_some())
        && !matches!(word, "track_file" | "SSL" | "linkbeat_interfaces" | "interface_up_down_delays")
}

/// Names every word that is unknown or has no meaning yet, and keeps the statements that have one.
pub(super) fn keep_meaning(
    statements: Vec<Statement>,
    context: Context,
    diagnostics: &mut Diagnostics,
) -> Vec<Statement> {
    let mut kept = Vec::new();
    for mut statement in statements {
        let Some(keyword) = keywords::find(context, statement.keyword()) else {
            unknown(&statement, context, diagnostics);
            continue;
        };
        let at = statement.whole();
        let name = keyword.name;
        match keyword.status {
            Status::Meaning | Status::Differs(_) => {}
            Status::Instead(instead) => diagnostics.push(
                Diagnostic::notice("not-needed", &at, format!("`{name}` has no effect here")).help(instead),
            ),
            Status::Refused(why) => diagnostics
                .push(Diagnostic::error("refused", &at, format!("`{name}` cannot be done here")).help(why)),
            Status::NotNeeded => diagnostics.push(
                Diagnostic::notice("not-needed", &at, format!("`{name}` has no effect here"))
                    .help("it sets keepalived's own processes, files or buffers; vipd does without it"),
            ),
            Status::Later(instead) => diagnostics.push(
                Diagnostic::warning("not-supported-yet", &at, format!("`{name}` is not supported yet"))
                    .help(instead),
            ),
        }
        match (keyword.block, statement.block.take()) {
            (Some(Context::Entries), block) => statement.block = block,
            (Some(inside), Some(block)) => {
                let statements = keep_meaning(block.statements, inside, diagnostics);
                statement.block = Some(Block { statements });
            }
            (None, Some(_)) => diagnostics.push(
                Diagnostic::warning("unexpected-brace", &at, format!("`{name}` takes no block"))
                    .help("the block is skipped"),
            ),
            (Some(_), None) => diagnostics.push(
                Diagnostic::warning("missing-brace", &at, format!("`{name}` without its block"))
                    .expected("`{` … `}` behind it"),
            ),
            (None, None) => {}
        }
        if keyword.status.has_meaning() {
            words_behind(&statement, diagnostics);
            kept.push(statement);
        }
    }
    kept
}

/// Words behind those that a directive takes: keepalived drops them in silence.
fn words_behind(statement: &Statement, diagnostics: &mut Diagnostics) {
    let Some(most) = keywords::parameters(statement.keyword()) else { return };
    let Some(first) = statement.words.get(1 + most) else { return };
    let at = first.at.to(&statement.words[statement.words.len() - 1].at);
    let message = format!("words behind `{}` that it does not take", statement.keyword());
    let finding = Diagnostic::warning("words-behind", &at, message);
    diagnostics.push(
        finding.help("they are dropped, as keepalived does; write each directive on a line of its own"),
    );
}

/// Programs that virtual servers run, those of servers that are left out among them.
pub(super) fn checker_scripts(statements: &[Statement]) -> Vec<PathBuf> {
    const SCRIPTS: [&str; 5] = ["misc_path", "notify_up", "notify_down", "quorum_up", "quorum_down"];
    let mut programs = Vec::new();
    let servers = statements.iter().filter(|statement| statement.keyword() == "virtual_server");
    let mut open: Vec<_> = servers.filter_map(|server| server.block.as_ref()).collect();
    while let Some(block) = open.pop() {
        for statement in &block.statements {
            let command = statement.parameter().filter(|_| SCRIPTS.contains(&statement.keyword()));
            let program = command.and_then(|word| lexer::command_words(&word.text).into_iter().next());
            programs.extend(program.map(PathBuf::from));
            open.extend(&statement.block);
        }
    }
    programs
}

fn unknown(statement: &Statement, context: Context, diagnostics: &mut Diagnostics) {
    let word = statement.keyword();
    let shown: String = word.chars().take(60).collect();
    let what =
        if statement.block.is_some() { "the block behind it is skipped" } else { "the line is ignored" };
    let known = keywords::table(context).iter().map(|k| k.name);
    let finding =
        Diagnostic::warning("unknown-keyword", statement.at(), format!("unknown keyword `{shown}`"));
    let finding = if let Some(place) = keywords::elsewhere(word) {
        finding.help(format!("{what}; it belongs in {place}"))
    } else if let Some(meant) = diagnostics.suggest(word, known) {
        finding.expected(format!("`{meant}`?")).help(what)
    } else {
        finding.help(what)
    };
    diagnostics.push(finding);
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::fs;

    use super::keywords::{self, Context};
    use crate::{LoadOptions, load};

    /// The blocks that lead to each context, from the outermost.
    fn ways() -> HashMap<Context, Vec<&'static str>> {
        let mut ways = HashMap::from([(Context::Top, Vec::new())]);
        let mut open = vec![Context::Top];
        while let Some(context) = open.pop() {
            for keyword in keywords::table(context) {
                let Some(inside) = keyword.block.filter(|inside| !ways.contains_key(inside)) else {
                    continue;
                };
                let mut way = ways[&context].clone();
                way.push(keyword.name);
                ways.insert(inside, way);
                open.push(inside);
            }
        }
        ways
    }

    /// The last two letters swapped; `None` when that is a word too, or none is meant by so few letters.
    fn misspelled(word: &str) -> Option<String> {
        let mut letters: Vec<char> = word.chars().collect();
        let last = letters.len().checked_sub(2).filter(|last| *last > 0)?;
        letters.swap(last, last + 1);
        let wrong: String = letters.into_iter().collect();
        (wrong != word && keywords::elsewhere(&wrong).is_none()).then_some(wrong)
    }

    #[test]
    fn a_misspelled_keyword_of_every_context_is_recognised() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keepalived.conf");
        let mut tried = 0;
        for (context, way) in ways() {
            let words: Vec<_> = keywords::table(context).iter().map(|keyword| keyword.name).collect();
            for word in &words {
                let Some(wrong) = misspelled(word).filter(|wrong| !words.contains(&wrong.as_str())) else {
                    continue;
                };
                let open: String = way.iter().map(|block| format!("{block} x {{\n")).collect();
                fs::write(&path, format!("{open}{wrong} 1\n{}", "}\n".repeat(way.len()))).unwrap();
                let diagnostics = load(&[&path], &LoadOptions::default()).diagnostics;
                let finding = diagnostics.iter().find(|finding| finding.code == "unknown-keyword");
                let meant = finding.and_then(|finding| finding.expected.as_deref());
                // `interface` is as near to `interfacse` as `interfaces` is.
                let meant = meant.map(|meant| meant.trim_matches(['`', '?']));
                assert!(
                    meant.is_some_and(|meant| words.contains(&meant) && word.starts_with(meant)),
                    "{wrong} in {context:?}: {meant:?}"
                );
                tried += 1;
            }
        }
        assert!(tried > 400, "{tried} words");
    }
}
