//! One line of haproxy.cfg cut into words: quotes, escapes, variables (configuration manual, 2.2 and 2.3).

use std::collections::HashMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Location};
use crate::ready::Place;
use crate::written::Word;

/// HAProxy takes no more words on a line.
const MOST_WORDS: usize = 64;
/// Characters that a line may grow to through variables.
const MOST_CHARACTERS: usize = 64 << 10;

/// The environment, as far as `setenv`, `presetenv`, `unsetenv` and `resetenv` have changed it.
#[derive(Default)]
pub(super) struct Variables {
    changed: HashMap<String, Option<String>>,
    /// After `resetenv` only what was changed, and what it kept, is there.
    reset: bool,
}

impl Variables {
    pub fn get(&self, name: &str) -> Option<String> {
        match self.changed.get(name) {
            Some(value) => value.clone(),
            None if self.reset => None,
            None => std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()),
        }
    }

    pub fn set(&mut self, name: &str, value: Option<String>) {
        self.changed.insert(name.to_owned(), value);
    }

    /// Forgets all but these.
    pub fn reset<'k>(&mut self, kept: impl Iterator<Item = &'k str>) {
        let kept: Vec<_> = kept.map(|name| (name.to_owned(), self.get(name))).collect();
        self.changed = kept.into_iter().collect();
        self.reset = true;
    }
}

/// Where a line stands.
#[derive(Clone)]
pub(super) struct Spot<'a> {
    pub file: &'a Arc<str>,
    pub number: u32,
    /// Of the section, for `$.SECTION`.
    pub section: &'a str,
}

impl Spot<'_> {
    /// Columns counted from 0.
    pub fn at(&self, from: usize, to: usize) -> Location {
        let column = u32::try_from(from).unwrap_or(u32::MAX - 1) + 1;
        let length = u32::try_from(to.saturating_sub(from)).unwrap_or(u32::MAX).max(1);
        Location { place: Place { file: self.file.clone(), line: self.number, column }, length }
    }
}

/// The words of a line without its comment.
///
/// # Errors
/// What HAProxy does not start with: an open quote, an invalid escape or variable, too many words.
pub(super) fn cut(line: &str, spot: &Spot<'_>, variables: &Variables) -> Result<Vec<Word>, Box<Diagnostic>> {
    // Most lines have nothing but words and blanks.
    let is_plain = line.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\'' | b'\\' | b'#'));
    let chars: Vec<char> = if is_plain { Vec::new() } else { line.chars().collect() };
    let mut cutter = Cutter {
        chars: &chars,
        next: 0,
        spot,
        variables,
        word: String::new(),
        begun: None,
        quoted: false,
        grown: 0,
        words: Vec::new(),
    };
    if is_plain {
        cutter.split(line)?
    } else {
        cutter.run()?
    }
    Ok(cutter.words)
}

struct Cutter<'a> {
    chars: &'a [char],
    next: usize,
    spot: &'a Spot<'a>,
    variables: &'a Variables,
    word: String,
    /// Where the word began, once it has.
    begun: Option<usize>,
    quoted: bool,
    grown: usize,
    words: Vec<Word>,
}

/// As HAProxy sees it.
fn is_blank(c: char) -> bool {
    c.is_ascii_whitespace() || c == '\u{b}'
}

impl Cutter<'_> {
    /// A line of octets that all stand for themselves.
    fn split(&mut self, line: &str) -> Result<(), Box<Diagnostic>> {
        let mut from = 0;
        for part in line.split(is_blank) {
            self.next = from + part.len();
            if !part.is_empty() {
                self.begun = Some(from);
                self.word.push_str(part);
                self.end()?;
            }
            from = self.next + 1;
        }
        Ok(())
    }

    fn run(&mut self) -> Result<(), Box<Diagnostic>> {
        let mut quote: Option<(char, usize)> = None;
        while let Some(&c) = self.chars.get(self.next) {
            let within = quote.map(|(kind, _)| kind);
            match (c, within) {
                ('#', None) => break,
                ('"' | '\'', None) => {
                    self.begin();
                    self.quoted = true;
                    quote = Some((c, self.next));
                    self.next += 1;
                }
                ('"', Some('"')) | ('\'', Some('\'')) => {
                    quote = None;
                    self.next += 1;
                }
                ('\\', None | Some('"')) => self.escape()?,
                ('$', Some('"')) => self.variable()?,
                (c, None) if is_blank(c) => {
                    self.end()?;
                    self.next += 1;
                }
                (c, _) => {
                    self.push(c);
                    self.next += 1;
                }
            }
        }
        if let Some((kind, from)) = quote {
            return Err(Box::new(
                self.wrong(from, self.chars.len(), "unterminated-quote", "unmatched quote").expected(
                    format!(
                        "another {kind} on the same line, or `\\{kind}` where the character itself is meant"
                    ),
                ),
            ));
        }
        self.end()
    }

    fn wrong(&self, from: usize, to: usize, code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic::error(code, &self.spot.at(from, to), message)
    }

    fn begin(&mut self) {
        self.begun.get_or_insert(self.next);
    }

    fn push(&mut self, c: char) {
        self.begin();
        self.word.push(c);
    }

    fn end(&mut self) -> Result<(), Box<Diagnostic>> {
        let Some(begun) = self.begun.take() else { return Ok(()) };
        let at = self.spot.at(begun, self.next);
        if self.words.len() >= MOST_WORDS {
            return Err(Box::new(
                Diagnostic::error("words-behind", &at, format!("more than {MOST_WORDS} words on a line"))
                    .help("HAProxy does not start with it; write several lines"),
            ));
        }
        let quoted = std::mem::take(&mut self.quoted);
        self.words.push(Word { text: std::mem::take(&mut self.word), at, quoted });
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Box<Diagnostic>> {
        let from = self.next;
        let next = self.chars.get(from + 1).copied();
        let meant = match next {
            Some(c @ (' ' | '\t' | '\\' | '#' | '\'' | '"' | '$')) => Some(c),
            Some('n') => Some('\n'),
            Some('r') => Some('\r'),
            Some('t') => Some('\t'),
            Some('x') => {
                let digits: String = self.chars.iter().skip(from + 2).take(2).collect();
                let value = u8::from_str_radix(&digits, 16).ok().filter(|_| digits.len() == 2);
                let Some(value) = value.filter(|_| !digits.starts_with('+')) else {
                    let wrong =
                        self.wrong(from, from + 4, "invalid-value", "invalid or truncated `\\x` sequence");
                    return Err(Box::new(wrong.expected("two hexadecimal digits")));
                };
                self.next += 2;
                Some(char::from(value))
            }
            _ => None,
        };
        self.begin();
        match meant {
            Some(c) => {
                self.word.push(c);
                self.next += 2;
            }
            // Other combinations stay as they are: regular expressions have many.
            None => {
                self.word.push('\\');
                self.next += 1;
            }
        }
        Ok(())
    }

    /// `$NAME`, `${NAME}`, `${NAME-default}`, `${NAME[*]}`, within double quotes.
    fn variable(&mut self) -> Result<(), Box<Diagnostic>> {
        let from = self.next;
        let at = |index: usize| self.chars.get(index).copied();
        let mut index = from + 1;
        let brace = at(index) == Some('{');
        if brace {
            index += 1;
        }
        let start = index;
        if !at(index).is_some_and(|c| c.is_ascii_alphabetic() || c == '_' || c == '.') {
            let wrong = self.wrong(from, index, "unknown-definition", "no name of a variable behind `$`");
            return Err(Box::new(
                wrong.expected("a letter or `_`; `\\$` where the character itself is meant"),
            ));
        }
        while at(index).is_some_and(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') {
            index += 1;
        }
        let name: String = self.chars[start..index].iter().collect();
        let mut several = false;
        let mut default = None;
        if brace {
            if self.chars[index..].starts_with(&['[', '*', ']']) {
                several = true;
                index += 3;
            }
            if at(index) == Some('-') {
                let end =
                    (index..self.chars.len()).find(|i| self.chars[*i] == '}').unwrap_or(self.chars.len());
                default = Some(self.chars[index + 1..end].iter().collect::<String>());
                index = end;
            }
            if at(index) != Some('}') {
                let wrong =
                    self.wrong(from, index, "missing-brace", "missing `}` behind the name of a variable");
                return Err(Box::new(wrong.help(format!("write `${{{name}}}`"))));
            }
            index += 1;
        }
        let value = self.value(&name).or(default).unwrap_or_default();
        self.grown += value.chars().count();
        if self.grown > MOST_CHARACTERS {
            return Err(Box::new(self.wrong(from, index, "too-large", "variables make this line too long")));
        }
        self.begin();
        if several {
            for (number, part) in value.split_whitespace().enumerate() {
                if number > 0 {
                    self.end()?;
                    self.begin();
                }
                self.word.push_str(part);
            }
        } else {
            self.word.push_str(&value);
        }
        self.next = index;
        Ok(())
    }

    fn value(&self, name: &str) -> Option<String> {
        match name {
            ".FILE" => Some(self.spot.file.to_string()),
            ".LINE" => Some(self.spot.number.to_string()),
            ".SECTION" => Some(self.spot.section.to_owned()),
            _ => self.variables.get(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str) -> Vec<String> {
        let mut variables = Variables::default();
        variables.set("PORT", Some("6443".to_owned()));
        variables.set("LIST", Some("a b  c".to_owned()));
        variables.set("GONE", None);
        let file: Arc<str> = "h.cfg".into();
        let spot = Spot { file: &file, number: 7, section: "web" };
        match cut(line, &spot, &variables) {
            Ok(words) => words.into_iter().map(|word| word.text).collect(),
            Err(wrong) => vec![wrong.to_string()],
        }
    }

    /// The equivalent lines of the configuration manual, 2.2.
    #[test]
    fn quoting_is_that_of_the_manual() {
        let one = ["log-format", "%{+Q}o %t %s %{-Q}r"];
        for line in [
            r"log-format %{+Q}o\ %t\ %s\ %{-Q}r",
            r#"log-format "%{+Q}o %t %s %{-Q}r""#,
            r"log-format '%{+Q}o %t %s %{-Q}r'",
            r#"log-format "%{+Q}o %t"' %s %{-Q}r'"#,
            r#"log-format "%{+Q}o %t"' %s'\ %{-Q}r"#,
        ] {
            assert_eq!(texts(line), one, "{line}");
        }
        assert_eq!(texts(r"a \# b # c"), ["a", "#", "b"]);
        assert_eq!(texts(r"a \x41\n \1 '\x41'"), ["a", "A\n", r"\1", r"\x41"]);
        assert_eq!(texts(r#"a "" b"#), ["a", "", "b"]);
    }

    #[test]
    fn variables_count_within_double_quotes_alone() {
        assert_eq!(
            texts(r#"bind "*:${PORT}" *:${PORT} '$PORT' "$PORT""#),
            ["bind", "*:6443", "*:${PORT}", "$PORT", "6443"]
        );
        assert_eq!(
            texts(r#""${GONE-x:1}" "${GONE}" "${LIST[*]}" "${.LINE}""#),
            ["x:1", "", "a", "b", "c", "7"]
        );
        assert_eq!(
            texts(r#"a "${PORT""#)[0],
            "h.cfg:7:4: error[missing-brace]: missing `}` behind the name of a variable"
        );
        assert!(texts(r#"a "$)""#)[0].contains("no name of a variable"));
    }

    #[test]
    fn an_open_quote_is_refused_at_its_place() {
        assert!(texts("server \"x 1").concat().starts_with("h.cfg:7:8: error[unterminated-quote]"));
        assert!(texts(&"x ".repeat(65)).concat().contains("more than 64 words"));
    }
}
