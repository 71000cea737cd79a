//! Definitions put in place (`$NAME`, `${NAME}`), and loops written out (`~SEQ`, `~LST`).

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;

use crate::diagnostic::Diagnostic;

use super::lexer::{self, Char, Line, Meaning};
use super::reader::{Definition, MOST_DEPTH, Piece, Reader, is_name};

/// A line that grows longer ends the reading.
const MOST_CHARACTERS: usize = 64 << 10;
/// Definitions replaced within the parentheses of one loop.
const MOST_STEPS: usize = 1_000;
/// A loop that writes more lines is refused.
const MOST_ROUNDS: i128 = 100_000;

/// Names without a definition that are reported.
const MOST_UNKNOWN: usize = 1_000;

/// The variables of the loops around a line, innermost first.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Scope<'s> {
    variables: &'s [(String, String)],
    outer: Option<&'s Scope<'s>>,
}

impl Scope<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.outer.is_none()
    }

    fn get(&self, name: &str) -> Option<&str> {
        let own = self.variables.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        own.or_else(|| self.outer?.get(name))
    }
}

/// What a `$` leads to.
enum Reference {
    /// Characters in its place.
    Text(Vec<Char>),
    /// Lines to be read one after the other.
    Lines(String, Arc<Definition>),
    /// Nothing that is known.
    Unknown(String),
}

impl Reader<'_> {
    /// Splits a line at its braces, writes its loops out and replaces its definitions.
    pub(super) fn expand_line(&mut self, line: Line, scope: &Scope<'_>, depth: usize) {
        if depth > MOST_DEPTH {
            let finding = Diagnostic::error(
                "definition-loop",
                &line.whole(),
                format!("more than {MOST_DEPTH} definitions within definitions"),
            );
            self.diagnostics.push(finding.help("does a definition use itself?"));
            return;
        }
        if let Some(at) = loop_keyword(&line.chars) {
            return self.write_out_loop(&line, at, scope, depth);
        }
        if lexer::find_brace(&line.chars).is_none() {
            return self.replace(line, scope, depth);
        }
        let part = |chars: &[Char]| line.with(lexer::trim(chars).to_vec());
        let mut rest = line.chars.as_slice();
        while let Some(brace) = lexer::find_brace(rest) {
            self.replace(part(&rest[..brace]), scope, depth);
            self.push_brace(&line, &rest[brace]);
            // What follows a brace is taken as the next line.
            rest = lexer::trim(&rest[brace + 1..]);
            if rest.first().is_some_and(|c| matches!(c.value, '@' | '$' | '~')) {
                return self.feed_line(part(rest), scope, depth + 1);
            }
        }
        self.replace(part(rest), scope, depth);
    }

    fn push_brace(&mut self, line: &Line, brace: &Char) {
        let at = line.location(std::slice::from_ref(brace));
        self.push_piece(if brace.value == '{' { Piece::Open(at) } else { Piece::Close(at) });
    }

    /// Replaces the definitions of a line that has no brace of its own.
    fn replace(&mut self, line: Line, scope: &Scope<'_>, depth: usize) {
        if line.chars.iter().all(|c| c.value != '$' && c.meaning != Meaning::Comment) {
            return self.push_text(line);
        }
        // A name and its braces are mostly longer than the value.
        let mut done: Vec<Char> = Vec::with_capacity(line.chars.len() + 8);
        let mut replaced = false;
        let keyword = keyword(&line);
        let mut i = 0;
        while i < line.chars.len() {
            if done.len() > MOST_CHARACTERS {
                self.exhaust(&line.whole());
            }
            if self.is_exhausted() {
                return;
            }
            let c = line.chars[i];
            let Some((name, end)) = reference(&line.chars, i) else {
                done.push(c);
                i += 1;
                continue;
            };
            let width = line.chars[end - 1].column + line.chars[end - 1].width - c.column;
            let place = Char { width, ..c };
            match self.look_up(&name, &line, &keyword, place, scope) {
                Reference::Text(text) => {
                    replaced = true;
                    done.extend(text);
                }
                Reference::Lines(name, definition) if lexer::trim(&line.chars[end..]).is_empty() => {
                    return self.feed_lines(&name, &definition, &line, done, place, scope, depth);
                }
                Reference::Lines(name, _) => {
                    let at = line.location(&line.chars[i..end]);
                    let message =
                        format!("`${name}` has several lines and stands before the end of the line");
                    self.diagnostics.push(
                        Diagnostic::warning("multi-line-definition", &at, message)
                            .help("a definition of several lines can only be used at the end of a line; it is left as written"),
                    );
                    done.extend(&line.chars[i..end]);
                }
                Reference::Unknown(name) => {
                    self.unknown_definition(&name, &line, &keyword, i, end);
                    done.extend(&line.chars[i..end]);
                }
            }
            i = end;
        }
        let kept = lexer::strip_late_comment(&done).len();
        done.truncate(kept);
        let line = Line { chars: done, ..line };
        if replaced {
            self.spend(&line, scope.is_empty());
        }
        if replaced && (loop_keyword(&line.chars).is_some() || has_reference(self, &line.chars, scope)) {
            return self.expand_line(line, scope, depth + 1);
        }
        self.push_text(line);
    }

    /// The braces of a definition's value count as if they were written here.
    fn push_text(&mut self, mut line: Line) {
        if lexer::find_brace(&line.chars).is_none() {
            lexer::trim_in_place(&mut line.chars);
            if !line.chars.is_empty() {
                self.push_piece(Piece::Text(line));
            }
            return;
        }
        let mut rest = lexer::trim(&line.chars);
        while let Some(brace) = lexer::find_brace(rest) {
            self.push_words(&line, &rest[..brace]);
            self.push_brace(&line, &rest[brace]);
            rest = lexer::trim(&rest[brace + 1..]);
        }
        self.push_words(&line, rest);
    }

    fn push_words(&mut self, line: &Line, chars: &[Char]) {
        let chars = lexer::trim(chars);
        if !chars.is_empty() {
            self.push_piece(Piece::Text(line.with(chars.to_vec())));
        }
    }

    /// Reads the lines of a definition; the first continues the line it is used on.
    #[expect(clippy::too_many_arguments, reason = "the state of one replacement, used once")]
    fn feed_lines(
        &mut self,
        name: &str,
        definition: &Arc<Definition>,
        line: &Line,
        before: Vec<Char>,
        place: Char,
        scope: &Scope<'_>,
        depth: usize,
    ) {
        let at = || line.location(&[place]);
        if self.feeding.iter().any(|outer| Arc::ptr_eq(outer, definition)) {
            let finding =
                Diagnostic::error("definition-loop", &at(), format!("`${name}` is used within itself"));
            self.diagnostics.push(finding.help("it is left out here; delete it, or its `\\` too many"));
            return;
        }
        if depth > MOST_DEPTH {
            let message =
                format!("more than {MOST_DEPTH} definitions within definitions, the last is `${name}`");
            self.diagnostics
                .push(Diagnostic::error("definition-loop", &at(), message).help("does it use itself?"));
            return;
        }
        self.feeding.push(definition.clone());
        let mut before = before;
        for value in &definition.lines {
            if self.is_exhausted() {
                break;
            }
            let moved = value.iter().map(|c| Char { value: c.value, meaning: c.meaning, ..place });
            let chars: Vec<Char> = std::mem::take(&mut before).into_iter().chain(moved).collect();
            self.feed_line(line.with(chars), scope, depth + 1);
        }
        if !self.is_exhausted() && !lexer::trim(&before).is_empty() {
            self.feed_line(line.with(before), scope, depth + 1);
        }
        self.feeding.pop();
    }

    /// What a name stands for in a line that begins with this keyword.
    fn look_up(
        &mut self,
        name: &str,
        line: &Line,
        keyword: &str,
        place: Char,
        scope: &Scope<'_>,
    ) -> Reference {
        let text = |value: &str| {
            let mut chars = Vec::with_capacity(value.len());
            chars.extend(value.chars().map(|value| Char { value, meaning: Meaning::Literal, ..place }));
            Reference::Text(chars)
        };
        if let Some(value) = scope.get(name) {
            return text(value);
        }
        if let Some(definition) = self.definitions.get(name) {
            if super::keywords::is_secret(keyword) {
                definition.place.iter().for_each(|value| self.diagnostics.hide(value.clone()));
            }
            return match definition.lines.as_slice() {
                [] => Reference::Text(Vec::new()),
                [value] => Reference::Text(
                    value.iter().map(|c| Char { value: c.value, meaning: c.meaning, ..place }).collect(),
                ),
                _ => Reference::Lines(name.to_owned(), definition.clone()),
            };
        }
        let mut words = name.split_ascii_whitespace();
        let comment = |value| Reference::Text(vec![Char { value, meaning: Meaning::Comment, ..place }]);
        match (words.next().unwrap_or(""), words.next(), words.next()) {
            ("_PWD", None, _) => text(&folder(&line.file)),
            ("_INSTANCE", None, _) => text(&self.config_id),
            ("_HASH", None, _) => comment('#'),
            ("_BANG", None, _) => comment('!'),
            ("_RANDOM", least, most) => {
                let least = least.and_then(|n| n.parse().ok()).unwrap_or(0);
                let most = most.and_then(|n| n.parse().ok()).unwrap_or(32767);
                text(&self.random.between(least, most).to_string())
            }
            ("_ENV", Some(variable), None) => match std::env::var(variable) {
                Ok(value) => text(&value),
                Err(_) => {
                    let at = line.location(&[place]);
                    let message = format!("the environment has no variable `{variable}`");
                    self.diagnostics.push(
                        Diagnostic::warning("unknown-definition", &at, message).help("it is taken as empty"),
                    );
                    text("")
                }
            },
            _ => Reference::Unknown(name.to_owned()),
        }
    }

    fn unknown_definition(&mut self, name: &str, line: &Line, keyword: &str, start: usize, end: usize) {
        if self.unknown.contains(name) || self.unknown.len() >= MOST_UNKNOWN {
            return;
        }
        let braced = line.chars[start + 1].value == '{';
        // In a command `$` may be meant for somebody else, and a password may begin with one.
        if !braced && (super::keywords::is_script(keyword) || super::keywords::is_secret(keyword)) {
            return;
        }
        self.unknown.insert(name.to_owned());
        let at = line.location(&line.chars[start..end]);
        let quoted = line.chars[..start].iter().filter(|c| c.value == '"').count() % 2 == 1;
        let (code, takes) = match braced && !quoted {
            true => {
                ("unfilled-placeholder", "it stays as written, and keepalived takes its braces for a block")
            }
            false => ("unknown-definition", "it stays as written"),
        };
        let finding = Diagnostic::warning(code, &at, format!("`${name}` is not defined"));
        self.diagnostics.push(finding.help(format!("{takes}; define it before with `${name}=VALUE` at the start of a line, or fill the placeholder in")));
    }

    fn write_out_loop(&mut self, line: &Line, arguments: usize, scope: &Scope<'_>, depth: usize) {
        let keyword = lexer::text(&line.chars[..arguments]);
        let Some(close) = closing_parenthesis(&line.chars, arguments) else {
            let finding = Diagnostic::warning(
                "loop",
                &line.whole(),
                format!("`{keyword}` without its closing parenthesis"),
            );
            self.diagnostics.push(finding.help("the line is ignored"));
            return;
        };
        let inside = self.replace_arguments(line, &line.chars[arguments + 1..close], scope);
        let at = line.location(&line.chars[..=close]);
        let rounds = match keyword.as_str() {
            "~LST" => list_rounds(&inside),
            _ => sequence_rounds(&inside, keyword == "~SEQx"),
        };
        let rounds = match rounds {
            Ok(rounds) => rounds,
            Err(expected) => {
                let finding =
                    Diagnostic::warning("loop", &at, format!("`{keyword}({inside})` is not a loop"));
                self.diagnostics.push(finding.expected(expected).help("the line is ignored"));
                return;
            }
        };
        let rest = line.with(lexer::trim(&line.chars[close + 1..]).to_vec());
        for variables in rounds {
            if self.is_exhausted() {
                return;
            }
            let inner = Scope { variables: &variables, outer: Some(scope) };
            self.feed_line(rest.clone(), &inner, depth + 1);
        }
    }

    fn replace_arguments(&mut self, line: &Line, chars: &[Char], scope: &Scope<'_>) -> String {
        let keyword = keyword(line);
        let mut text = String::new();
        let mut pending: Vec<(Vec<Char>, usize)> = vec![(chars.to_vec(), 0)];
        for _ in 0..MOST_STEPS {
            let Some((chars, depth)) = pending.pop() else { break };
            let mut i = 0;
            while i < chars.len() {
                let Some((name, end)) = reference(&chars, i).filter(|_| depth <= MOST_DEPTH) else {
                    text.push(chars[i].value);
                    i += 1;
                    continue;
                };
                match self.look_up(&name, line, &keyword, chars[i], scope) {
                    Reference::Text(value) => {
                        pending.push((chars[end..].to_vec(), depth));
                        pending.push((value, depth + 1));
                        break;
                    }
                    _ => text.push_str(&lexer::text(&chars[i..end])),
                }
                i = end;
            }
        }
        text
    }
}

/// The word that a line begins with, as far as any keyword is long: lines may be one word of 64 KiB.
fn keyword(line: &Line) -> String {
    const LONGEST: usize = 48;
    let letters = line.chars.iter().map(|c| c.value).skip_while(|c| *c == '"');
    let mut keyword = String::with_capacity(LONGEST);
    keyword.extend(letters.take(LONGEST).take_while(|c| !c.is_whitespace() && *c != '"'));
    keyword
}

/// A name that is used in a line, for another round of replacing.
fn has_reference(reader: &Reader<'_>, chars: &[Char], scope: &Scope<'_>) -> bool {
    (0..chars.len()).filter(|i| chars[*i].value == '$').any(|i| {
        reference(chars, i).is_some_and(|(name, _)| {
            name.starts_with('_') || scope.get(&name).is_some() || reader.definitions.contains_key(&name)
        })
    })
}

/// `${NAME}`, or `$NAME` before white space, `,`, `)` or the end: the name, and where the rest begins.
fn reference(chars: &[Char], start: usize) -> Option<(String, usize)> {
    if chars[start].value != '$' {
        return None;
    }
    if chars.get(start + 1)?.value == '{' {
        let end = lexer::reference_end(chars, start)?;
        let name = lexer::text(&chars[start + 2..end - 1]);
        let simple = name.split_ascii_whitespace().next().is_some_and(is_name);
        return (simple && (is_name(&name) || name.starts_with('_'))).then_some((name, end));
    }
    let rest = &chars[start + 1..];
    let length =
        rest.iter().position(|c| !(c.value.is_ascii_alphanumeric() || c.value == '_')).unwrap_or(rest.len());
    let ends = rest.get(length).is_none_or(|c| c.value.is_ascii_whitespace() || matches!(c.value, ',' | ')'));
    let name = lexer::text(&rest[..length]);
    (ends && is_name(&name)).then_some((name, start + 1 + length))
}

/// Where the parenthesis of a loop stands at the start of a line.
fn loop_keyword(chars: &[Char]) -> Option<usize> {
    if chars.first()?.value != '~' {
        return None;
    }
    let parenthesis = chars.iter().take(8).position(|c| c.value == '(')?;
    matches!(lexer::text(&chars[..parenthesis]).as_str(), "~SEQ" | "~SEQx" | "~LST").then_some(parenthesis)
}

fn closing_parenthesis(chars: &[Char], open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (i, c) in chars.iter().enumerate().skip(open) {
        match c.value {
            '(' => depth += 1,
            ')' if depth == 1 => return Some(i),
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// The variables of each round. Made when its turn comes: a loop in a loop may be endless.
type Rounds = Box<dyn Iterator<Item = Vec<(String, String)>>>;

/// `var, start, step, end`; `var, start, end`; `var, end`.
fn sequence_rounds(arguments: &str, hexadecimal: bool) -> Result<Rounds, &'static str> {
    let expected = "`~SEQ(variable, start, step, end)`, `(variable, start, end)` or `(variable, end)`";
    let parts: Vec<_> = arguments.split(',').map(str::trim).collect();
    let (name, numbers) = parts.split_first().ok_or(expected)?;
    let numbers: Option<Vec<i128>> = numbers.iter().map(|n| any_base(n)).collect();
    let (start, step, end) = match numbers.as_deref().ok_or(expected)? {
        [end] => (end.signum(), end.signum(), *end),
        [start, end] => (*start, if end < start { -1 } else { 1 }, *end),
        [start, step, end] => (*start, *step, *end),
        _ => return Err(expected),
    };
    if !is_name(name) {
        return Err(expected);
    }
    if start == end {
        return Ok(Box::new(std::iter::once(vec![((*name).to_owned(), shown(start, hexadecimal))])));
    }
    if step == 0 || (end - start).signum() != step.signum() {
        return Err("a step that leads from start to end");
    }
    if (end - start) / step >= MOST_ROUNDS {
        return Err("at most 100 000 rounds");
    }
    let values = (0..=(end - start) / step).map(move |round| start + round * step);
    let name = (*name).to_owned();
    Ok(Box::new(values.map(move |value| vec![(name.clone(), shown(value, hexadecimal))])))
}

fn shown(value: i128, hexadecimal: bool) -> String {
    match (hexadecimal, value < 0) {
        (true, false) => format!("{value:x}"),
        (true, true) => format!("-{:x}", -value),
        (false, _) => value.to_string(),
    }
}

/// Decimal, `0x` hexadecimal or `0` octal, as C reads it.
fn any_base(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let magnitude = if let Some(hexadecimal) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"))
    {
        u64::from_str_radix(hexadecimal, 16)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8)
    } else {
        digits.parse()
    };
    Some(sign * i128::from(magnitude.ok()?))
}

/// `var, a, b, c`; `{v1,v2},{a,b},{c,d}`.
fn list_rounds(arguments: &str) -> Result<Rounds, &'static str> {
    let expected = "`~LST(variable, a, b)` or `~LST({v1,v2},{a,b},{c,d})`";
    let groups = groups(arguments).ok_or(expected)?;
    let (names, values) = groups.split_first().ok_or(expected)?;
    if names.is_empty() || !names.iter().all(|name| is_name(name)) {
        return Err(expected);
    }
    let round = |group: &Vec<String>| {
        let value = |i: usize| group.get(i).cloned().unwrap_or_default();
        names.iter().cloned().zip((0..names.len()).map(value)).collect()
    };
    let rounds: Vec<Vec<_>> = values.iter().map(round).collect();
    Ok(Box::new(rounds.into_iter()))
}

/// Splits at commas outside braces; what stands in braces is split again.
fn groups(arguments: &str) -> Option<Vec<Vec<String>>> {
    let list = |text: &str| text.split(',').map(|part| part.trim().to_owned()).collect::<Vec<_>>();
    let mut groups = Vec::new();
    let mut rest = arguments.trim();
    loop {
        if let Some(inside) = rest.strip_prefix('{') {
            let (group, after) = inside.split_once('}')?;
            groups.push(list(group));
            rest = after.trim_start();
            if !rest.is_empty() {
                rest = rest.strip_prefix(',')?.trim_start();
                continue;
            }
            return Some(groups);
        }
        match rest.split_once(',') {
            Some((value, after)) => {
                groups.push(vec![value.trim().to_owned()]);
                rest = after.trim_start();
            }
            None => {
                groups.push(vec![rest.trim().to_owned()]);
                return Some(groups);
            }
        }
    }
}

/// The folder of a file, absolute.
fn folder(file: &str) -> String {
    let path = std::path::absolute(file).unwrap_or_else(|_| file.into());
    path.parent().map(|folder| folder.display().to_string()).unwrap_or_default()
}

/// Numbers for `${_RANDOM}`; different in every run unless `random_seed` says otherwise.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(std::hash::RandomState::new().build_hasher().finish() | 1)
    }

    pub fn from_seed(seed: u32) -> Self {
        // Spread over all bits (the golden ratio), and never 0.
        Self((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// xorshift64*.
    fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16;
        least + number % (most.saturating_sub(least).saturating_add(1))
    }
}
