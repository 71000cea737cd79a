//! One line of keepalived.conf: comments, quotes, words, and the second way to split a script's line.

use std::iter::Peekable;
use std::sync::Arc;

use crate::diagnostic::Location;
use crate::ready::Place;
use crate::written::Word;

/// A character with the place where the operator wrote it.
///
/// A character that came out of a definition has the place of its use, and the width of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Char {
    pub value: char,
    /// Counted from 1.
    pub column: u32,
    /// How many characters of the file it stands for.
    pub width: u32,
    pub meaning: Meaning,
}

/// What a character may mean in its line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// As written.
    Plain,
    /// Escaped: never begins a comment.
    Literal,
    /// From `${_HASH}` or `${_BANG}`: begins a comment although definitions were replaced after comments
    /// were cut.
    Comment,
}

/// A line without its comment, blanks at both ends cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub file: Arc<str>,
    /// Counted from 1.
    pub number: u32,
    pub chars: Vec<Char>,
}

impl Line {
    /// Other characters in the place of this line.
    pub fn with(&self, chars: Vec<Char>) -> Self {
        Self { file: self.file.clone(), number: self.number, chars }
    }

    pub fn location(&self, chars: &[Char]) -> Location {
        let column = chars.first().map_or(1, |c| c.column);
        let end = chars.iter().map(|c| c.column + c.width).max().unwrap_or(column);
        Location {
            place: Place { file: self.file.clone(), line: self.number, column },
            length: end.saturating_sub(column).max(1),
        }
    }

    pub fn whole(&self) -> Location {
        self.location(&self.chars)
    }
}

pub(crate) fn chars(text: &str) -> Vec<Char> {
    let plain = |(value, column)| Char { value, column, width: 1, meaning: Meaning::Plain };
    text.chars().zip(1..).map(plain).collect()
}

pub(crate) fn text(chars: &[Char]) -> String {
    let mut text = String::with_capacity(chars.len());
    text.extend(chars.iter().map(|c| c.value));
    text
}

pub(crate) fn trim(chars: &[Char]) -> &[Char] {
    let blank = |c: &Char| c.value.is_ascii_whitespace();
    let start = chars.iter().position(|c| !blank(c)).unwrap_or(chars.len());
    let end = chars.iter().rposition(|c| !blank(c)).map_or(start, |last| last + 1);
    &chars[start..end]
}

/// Cuts blanks at both ends, in place.
pub(crate) fn trim_in_place(chars: &mut Vec<Char>) {
    let kept = trim(chars).len();
    let start = chars.iter().take_while(|c| c.value.is_ascii_whitespace()).count();
    if start > 0 && kept > 0 {
        chars.drain(..start);
    }
    chars.truncate(kept);
}

/// Cuts the comment. `#` and `!` begin one anywhere outside double quotes, also within a word; `\#` and
/// `\!` stand for themselves. The flag says that a double quote was not closed on the line.
pub(crate) fn strip_comment(line: &[Char]) -> (Vec<Char>, bool) {
    let mut kept = Vec::with_capacity(line.len());
    let mut quoted = false;
    let mut rest = line.iter().copied().peekable();
    while let Some(c) = rest.next() {
        let next = rest.peek().map(|n| n.value);
        match c.value {
            '"' => {
                quoted = !quoted;
                kept.push(c);
            }
            '\\' if !quoted && matches!(next, Some('#' | '!')) => {
                let escaped = rest.next().expect("peeked");
                kept.push(Char { meaning: Meaning::Literal, ..escaped });
            }
            '\\' if next.is_some() => {
                // What is escaped neither opens nor closes.
                kept.push(c);
                kept.push(rest.next().expect("peeked"));
            }
            '#' | '!' if !quoted && c.meaning != Meaning::Literal => break,
            _ => kept.push(c),
        }
    }
    (trim(&kept).to_vec(), quoted)
}

/// Cuts only a comment that a definition began; what is left begins where the line does.
pub(crate) fn strip_late_comment(line: &[Char]) -> &[Char] {
    let mut quoted = false;
    for (i, c) in line.iter().enumerate() {
        match c.value {
            '"' => quoted = !quoted,
            _ if c.meaning == Meaning::Comment && !quoted => return &line[..i],
            _ => {}
        }
    }
    line
}

/// Where a brace stands that is a word of its own: outside double quotes, and not that of `${NAME}`.
pub(crate) fn find_brace(line: &[Char]) -> Option<usize> {
    let mut quoted = false;
    let mut i = 0;
    while let Some(c) = line.get(i) {
        match c.value {
            '"' => quoted = !quoted,
            '$' if !quoted && line.get(i + 1).is_some_and(|n| n.value == '{') => {
                if let Some(end) = reference_end(line, i) {
                    i = end;
                    continue;
                }
            }
            '{' | '}' if !quoted => return Some(i),
            _ => {}
        }
        i += 1;
    }
    None
}

/// For `${…}` at `start`: the index after its closing brace, if what is inside can be a name.
pub(crate) fn reference_end(line: &[Char], start: usize) -> Option<usize> {
    let inside = line.get(start + 2..)?;
    let length = inside
        .iter()
        .position(|c| !(c.value.is_ascii_alphanumeric() || matches!(c.value, '_' | ' ' | '-')))?;
    let closed = inside[length].value == '}' && length > 0;
    closed.then_some(start + 2 + length + 1)
}

/// Splits at white space. `"…"` is one word without its quotes; a quote also ends the word before it.
pub(crate) fn words(line: &Line) -> Vec<Word> {
    let mut words = Vec::new();
    let chars = &line.chars;
    let mut i = 0;
    while i < chars.len() {
        if chars[i].value.is_ascii_whitespace() {
            i += 1;
        } else if chars[i].value == '"' {
            let end = chars[i + 1..].iter().position(|c| c.value == '"').map_or(chars.len(), |n| i + 1 + n);
            let at = line.location(&chars[i..chars.len().min(end + 1)]);
            words.push(Word { text: text(&chars[i + 1..end]), at, quoted: true });
            i = end + 1;
        } else {
            let ends = |c: &Char| c.value.is_ascii_whitespace() || c.value == '"';
            let end = chars[i..].iter().position(ends).map_or(chars.len(), |n| i + n);
            words.push(Word { text: text(&chars[i..end]), at: line.location(&chars[i..end]), quoted: false });
            i = end;
        }
    }
    words
}

/// Splits the line of a script-like directive: both kinds of quotes hold words together, and escapes are
/// replaced; the command is split once more in the same way ([`command_words`]).
pub(crate) fn script_words(line: &Line) -> Vec<Word> {
    let mut words = Vec::new();
    let chars = &line.chars;
    let mut i = 0;
    while i < chars.len() {
        if chars[i].value.is_ascii_whitespace() {
            i += 1;
            continue;
        }
        let start = i;
        let mut word = String::new();
        let mut quoted = false;
        let mut open: Option<char> = None;
        while let Some(c) = chars.get(i) {
            match (open, c.value) {
                (_, '\\') => {
                    let mut rest = chars[i + 1..].iter().map(|c| c.value).peekable();
                    word.extend(escape(&mut rest));
                    i = chars.len() - 1 - rest.count();
                }
                (Some(quote), value) if quote == value => open = None,
                (None, quote @ ('"' | '\'')) => {
                    open = Some(quote);
                    quoted = true;
                }
                (None, value) if value.is_ascii_whitespace() => break,
                (_, value) => word.push(value),
            }
            i += 1;
        }
        words.push(Word { text: word, at: line.location(&chars[start..i.min(chars.len())]), quoted });
    }
    words
}

/// Splits a command into program and arguments: both quotes, and the escapes `\a \b \E \f \n \r \t \v`,
/// `\NNN` (octal), `\xHH`, `\cC` (control), `\C` (C itself).
pub(crate) fn command_words(command: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = command.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_ascii_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        let mut open: Option<char> = None;
        while let Some(&c) = rest.peek() {
            if open.is_none() && c.is_ascii_whitespace() {
                break;
            }
            rest.next();
            match (open, c) {
                (_, '\\') => word.extend(escape(&mut rest)),
                (Some(quote), c) if quote == c => open = None,
                (None, '"' | '\'') => open = Some(c),
                (_, c) => word.push(c),
            }
        }
        if open.is_some() {
            // keepalived takes none of it.
            return Vec::new();
        }
        words.push(word);
    }
}

/// The character behind a backslash; `None` at the end of the command.
fn escape<I: Iterator<Item = char>>(rest: &mut Peekable<I>) -> Option<char> {
    Some(match rest.next()? {
        'a' => '\x07',
        'b' => '\x08',
        'E' => '\x1b',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        'x' if rest.peek().is_some_and(char::is_ascii_hexdigit) => number(rest, 0, 16, usize::MAX),
        'c' => char::from(rest.next()? as u8 & 0x1f),
        octal @ '0'..='7' => number(rest, u32::from(octal) - u32::from('0'), 8, 2),
        other => other,
    })
}

/// Goes on with at most `most` digits.
fn number<I: Iterator<Item = char>>(rest: &mut Peekable<I>, first: u32, radix: u32, most: usize) -> char {
    let mut value = first;
    for _ in 0..most {
        let Some(digit) = rest.peek().and_then(|c| c.to_digit(radix)) else { break };
        value = value.wrapping_mul(radix).wrapping_add(digit);
        rest.next();
    }
    char::from((value & 0xff) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(text: &str) -> Line {
        let (chars, _) = strip_comment(&chars(text));
        Line { file: "test.conf".into(), number: 1, chars }
    }

    fn texts(words: &[Word]) -> Vec<&str> {
        words.iter().map(|w| w.text.as_str()).collect()
    }

    #[test]
    fn comment_begins_inside_a_word_but_not_inside_quotes() {
        assert_eq!(texts(&words(&line("auth_pass abcd#efg!hi"))), ["auth_pass", "abcd"]);
        assert_eq!(texts(&words(&line("auth_pass \"a b#c!d\""))), ["auth_pass", "a b#c!d"]);
        assert_eq!(texts(&words(&line(r"auth_pass a\#b\!c"))), ["auth_pass", "a#b!c"]);
    }

    #[test]
    fn quote_ends_the_word_before_it() {
        assert_eq!(texts(&words(&line("a\"b c\"d"))), ["a", "b c", "d"]);
    }

    #[test]
    fn word_knows_its_column_in_characters() {
        let words = words(&line("\té  interface eth0"));
        assert_eq!((words[2].at.place.column, words[2].at.length), (15, 4));
    }

    #[test]
    fn braces_are_words_of_their_own_except_in_quotes_and_references() {
        let at = |text: &str| find_brace(&chars(text));
        assert_eq!(at("vrrp_instance V1{"), Some(16));
        assert_eq!(at("script \"{\""), None);
        assert_eq!(at("interface ${IF} {"), Some(16));
        assert_eq!(at("state {{STATE}}"), Some(6));
    }

    #[test]
    fn script_keeps_single_quotes_inside_double_ones() {
        let words = script_words(&line("script \"/usr/bin/test -f '/tmp/a b'\" root"));
        assert_eq!(texts(&words), ["script", "/usr/bin/test -f '/tmp/a b'", "root"]);
        assert_eq!(command_words(&words[1].text), ["/usr/bin/test", "-f", "/tmp/a b"]);
    }

    #[test]
    fn command_knows_every_escape() {
        assert_eq!(command_words(r"a\x41\101\cA\t\q\ b"), ["aAA\x01\tq b"]);
        assert_eq!(command_words(r"end\"), ["end"]);
    }
}
