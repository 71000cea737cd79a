//! Typed access to a table: what is asked for is known, everything else in it is a mistake.

use std::net::{IpAddr, SocketAddr};
use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::ready::{Command, Place, Target, User};
use crate::time;

use super::Door;

/// No bound on a time other than that of its type.
pub(super) const ANY_TIME: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_secs(1 << 32);
/// At least a millisecond.
pub(super) const SOME_TIME: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(1 << 32);

/// The text of a file, to find lines and columns in.
pub(super) struct TextFile<'t> {
    name: Arc<str>,
    text: &'t str,
    line_starts: Vec<usize>,
}

impl<'t> TextFile<'t> {
    pub fn new(name: Arc<str>, text: &'t str) -> Self {
        let newlines = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self { name, text, line_starts: std::iter::once(0).chain(newlines).collect() }
    }

    /// The place of a range of bytes; its length ends with the line.
    pub fn location(&self, span: &Range<usize>) -> Location {
        let start = span.start.min(self.text.len());
        let line = self.line_starts.partition_point(|s| *s <= start).max(1);
        let line_start = self.line_starts[line - 1];
        let characters = |range: Range<usize>| self.text.get(range).map_or(0, |t| t.chars().count());
        let end = self
            .text
            .get(start..span.end.min(self.text.len()))
            .and_then(|t| t.find('\n'))
            .map_or(span.end, |n| start + n);
        let place = Place {
            file: self.name.clone(),
            line: u32::try_from(line).unwrap_or(u32::MAX),
            column: u32::try_from(characters(line_start..start) + 1).unwrap_or(u32::MAX),
        };
        Location {
            place,
            length: u32::try_from(characters(start..end.min(self.text.len()))).unwrap_or(u32::MAX).max(1),
        }
    }

    /// Masks what stands behind `password` and `secret` on a line, also where the syntax is broken.
    pub fn hide_secrets(&self, diagnostics: &mut Diagnostics) {
        for (start, _) in self.text.match_indices("password").chain(self.text.match_indices("secret")) {
            let end = self.text[start..].find('\n').map_or(self.text.len(), |n| start + n);
            let value = self.text[start..end].find('=').map(|equals| start + equals + 1);
            if let Some(value) = value {
                diagnostics.hide(self.location(&(value..end)));
            }
        }
    }
}

/// A table with the keys that were asked for.
pub(super) struct Table<'d> {
    entries: &'d DeTable<'d>,
    pub at: Location,
    asked: Vec<&'static str>,
}

impl<'d> Table<'d> {
    pub fn new(entries: &'d DeTable<'d>, at: Location) -> Self {
        Self { entries, at, asked: Vec::new() }
    }

    pub(super) fn get(&mut self, key: &'static str) -> Option<&'d Spanned<DeValue<'d>>> {
        self.asked.push(key);
        self.entries.iter().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value)
    }

    pub fn has(&mut self, key: &'static str) -> bool {
        self.get(key).is_some()
    }
}

impl Door<'_> {
    pub(super) fn at(&self, value: &Spanned<DeValue<'_>>) -> Location {
        self.file.location(&value.span())
    }

    pub(super) fn refuse(&mut self, at: &Location, message: impl Into<String>, expected: impl Into<String>) {
        self.diagnostics.push(Diagnostic::error("invalid-value", at, message).expected(expected));
    }

    fn wrong_type(&mut self, value: &Spanned<DeValue<'_>>, expected: &str) {
        let at = self.at(value);
        let found = value.get_ref().type_str();
        let article = if found.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        self.refuse(&at, format!("{article} {found} does not fit here"), expected);
    }

    pub(super) fn missing(&mut self, table: &Table<'_>, key: &str, what: &str) {
        let finding = Diagnostic::error("missing-key", &table.at, format!("`{key}` is missing"));
        self.diagnostics.push(finding.expected(format!("`{key}`: {what}")));
    }

    /// Every key that nobody asked for is unknown.
    pub(super) fn finish(&mut self, table: Table<'_>) {
        for (name, _) in table.entries {
            let key = name.get_ref().as_ref();
            if table.asked.contains(&key) {
                continue;
            }
            let at = self.file.location(&name.span());
            let finding = Diagnostic::error(
                "unknown-key",
                &at,
                format!("unknown key `{}`", key.chars().take(60).collect::<String>()),
            );
            self.diagnostics.push(match self.diagnostics.suggest(key, table.asked.iter().copied()) {
                Some(meant) => finding.expected(format!("`{meant}`?")),
                None => {
                    let mut known = table.asked.clone();
                    known.sort_unstable();
                    known.dedup();
                    finding.help(format!("known here: {}", known.join(", ")))
                }
            });
        }
    }

    pub(super) fn table<'d>(&mut self, table: &mut Table<'d>, key: &'static str) -> Option<Table<'d>> {
        let value = table.get(key)?;
        self.as_table(value)
    }

    pub(super) fn as_table<'d>(&mut self, value: &'d Spanned<DeValue<'d>>) -> Option<Table<'d>> {
        match value.get_ref() {
            DeValue::Table(entries) => Some(Table::new(entries, self.at(value))),
            _ => {
                self.wrong_type(value, "a table");
                None
            }
        }
    }

    /// `[[key]]`.
    pub(super) fn tables<'d>(&mut self, table: &mut Table<'d>, key: &'static str) -> Vec<Table<'d>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(values) => values.iter().filter_map(|value| self.as_table(value)).collect(),
            _ => {
                self.wrong_type(value, &format!("`[[{key}]]`, one table for each"));
                Vec::new()
            }
        }
    }

    /// A list; a single value stands for a list of one.
    pub(super) fn list<'d>(
        &mut self,
        table: &mut Table<'d>,
        key: &'static str,
    ) -> Vec<&'d Spanned<DeValue<'d>>> {
        let Some(value) = table.get(key) else { return Vec::new() };
        match value.get_ref() {
            DeValue::Array(values) => values.iter().collect(),
            _ => vec![value],
        }
    }

    /// A value of any type.
    pub(super) fn value<'d>(
        &mut self,
        table: &mut Table<'d>,
        key: &'static str,
    ) -> Option<&'d Spanned<DeValue<'d>>> {
        table.get(key)
    }

    pub(super) fn text(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Located<String>> {
        let value = table.get(key)?;
        self.as_text(value, "a string")
    }

    pub(super) fn as_text(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        expected: &str,
    ) -> Option<Located<String>> {
        match value.get_ref() {
            DeValue::String(text) => Some(Located::new(text.to_string(), self.at(value))),
            _ => {
                self.wrong_type(value, expected);
                None
            }
        }
    }

    pub(super) fn path(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Located<PathBuf>> {
        let value = table.get(key)?;
        let text = self.as_text(value, "a path")?;
        if text.value.is_empty() || text.value.contains('\0') {
            self.refuse(&text.at, "an empty path", "an absolute path");
            return None;
        }
        Some(Located::new(text.value.into(), text.at))
    }

    pub(super) fn boolean(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Located<bool>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::Boolean(on) => Some(Located::new(*on, self.at(value))),
            _ => {
                self.wrong_type(value, "`true` or `false`");
                None
            }
        }
    }

    pub(super) fn integer<T: TryFrom<i64>>(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<Located<T>> {
        let value = table.get(key)?;
        self.as_integer(value, range)
    }

    pub(super) fn as_integer<T: TryFrom<i64>>(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        range: RangeInclusive<i64>,
    ) -> Option<Located<T>> {
        let expected = format!("a number from {} to {}", range.start(), range.end());
        let DeValue::Integer(integer) = value.get_ref() else {
            self.wrong_type(value, &expected);
            return None;
        };
        let at = self.at(value);
        let number = i64::from_str_radix(integer.as_str(), integer.radix()).ok();
        let fits = number.filter(|n| range.contains(n)).and_then(|n| T::try_from(n).ok());
        if fits.is_none() {
            self.refuse(&at, format!("{integer} is out of range"), expected);
        }
        fits.map(|number| Located::new(number, at))
    }

    pub(super) fn duration(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
        range: RangeInclusive<Duration>,
    ) -> Option<Located<Duration>> {
        let value = table.get(key)?;
        self.as_duration(value, range)
    }

    pub(super) fn as_duration(
        &mut self,
        value: &Spanned<DeValue<'_>>,
        range: RangeInclusive<Duration>,
    ) -> Option<Located<Duration>> {
        let expected = format!(
            "a time from {} to {}, such as \"1s\" or \"100ms\"",
            time::shown(*range.start()),
            time::shown(*range.end())
        );
        let text = self.as_text(value, &expected)?;
        match time::parse(&text.value) {
            Some(time) if range.contains(&time) => Some(Located::new(time, text.at)),
            Some(_) => {
                self.refuse(&text.at, format!("\"{}\" is out of range", text.value), expected);
                None
            }
            None => {
                self.refuse(&text.at, format!("\"{}\" is not a time", text.value), expected);
                None
            }
        }
    }

    /// A time, or `"never"`: the outer `None` says that the key is not there or wrong.
    pub(super) fn duration_or_never(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
    ) -> Option<Option<Duration>> {
        let value = table.get(key)?;
        if value.get_ref().as_str() == Some("never") {
            return Some(None);
        }
        self.as_duration(value, SOME_TIME).map(|time| Some(time.value))
    }

    pub(super) fn address(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Located<IpAddr>> {
        let value = table.get(key)?;
        self.as_address(value)
    }

    pub(super) fn as_address(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Located<IpAddr>> {
        let text = self.as_text(value, "an address such as \"10.0.0.1\"")?;
        match text.value.parse() {
            Ok(address) => Some(Located::new(address, text.at)),
            Err(_) => {
                self.refuse(
                    &text.at,
                    format!("\"{}\" is not an address", text.value),
                    "an address such as \"10.0.0.1\" or \"fe80::1\"",
                );
                None
            }
        }
    }

    pub(super) fn socket_address(
        &mut self,
        table: &mut Table<'_>,
        key: &'static str,
    ) -> Option<Located<SocketAddr>> {
        let value = table.get(key)?;
        self.as_socket_address(value)
    }

    pub(super) fn as_socket_address(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Located<SocketAddr>> {
        let expected = "ADDRESS:PORT such as \"10.0.0.1:6443\" or \"[2001:db8::1]:6443\"";
        let text = self.as_text(value, expected)?;
        match text.value.parse() {
            Ok(address) => Some(Located::new(address, text.at)),
            Err(_) => {
                self.refuse(&text.at, format!("\"{}\" is not an address with a port", text.value), expected);
                None
            }
        }
    }

    /// `HOST:PORT`, where the host may be a name.
    pub(super) fn as_target(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Located<Target>> {
        self.host_and_port(value, 1)
    }

    /// The same; port 0 of an address is that which the client asked for.
    pub(super) fn as_backend(&mut self, value: &Spanned<DeValue<'_>>) -> Option<Located<Target>> {
        let is_address = value.get_ref().as_str().is_some_and(|text| text.parse::<SocketAddr>().is_ok());
        self.host_and_port(value, if is_address { 0 } else { 1 })
    }

    fn host_and_port(&mut self, value: &Spanned<DeValue<'_>>, least: u16) -> Option<Located<Target>> {
        let expected = "HOST:PORT such as \"127.0.0.1:6443\"";
        let text = self.as_text(value, expected)?;
        let parts = text.value.rsplit_once(':').and_then(|(host, port)| {
            let host = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).map_or(host, |h| h);
            let bare = text.value.starts_with('[') || !host.contains(':');
            let port = port.parse::<u16>().ok().filter(|port| *port >= least)?;
            let plain = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
            (bare && plain).then(|| Target { host: host.to_owned(), port })
        });
        match parts {
            Some(target) => Some(Located::new(target, text.at)),
            None => {
                self.refuse(&text.at, format!("\"{}\" is not a host with a port", text.value), expected);
                None
            }
        }
    }

    /// `["PROGRAM", "ARGUMENT", …]`, `"PROGRAM"`, or a table with `command`, `user` and `group`.
    pub(super) fn command(&mut self, table: &mut Table<'_>, key: &'static str) -> Option<Box<Command>> {
        let value = table.get(key)?;
        if let DeValue::Table(_) = value.get_ref() {
            let mut inner = self.as_table(value)?;
            let user = self.user(&mut inner);
            let command = self.value(&mut inner, "command").and_then(|value| self.as_command(value, user));
            if !inner.has("command") {
                self.missing(&inner, "command", "the program and its arguments");
            }
            self.finish(inner);
            return command.map(Box::new);
        }
        self.as_command(value, None).map(Box::new)
    }

    pub(super) fn as_command(&mut self, value: &Spanned<DeValue<'_>>, user: Option<User>) -> Option<Command> {
        let expected = "[\"/path/to/program\", \"argument\", …]";
        let at = self.at(value);
        let words: Vec<String> = match value.get_ref() {
            DeValue::Array(values) => {
                let words: Vec<_> =
                    values.iter().map(|word| self.as_text(word, "a string").map(|w| w.value)).collect();
                words.into_iter().collect::<Option<_>>()?
            }
            DeValue::String(text) if text.contains(char::is_whitespace) => {
                self.refuse(&at, "a command with blanks in one string; there is no shell", expected);
                return None;
            }
            DeValue::String(text) => vec![text.to_string()],
            _ => {
                self.wrong_type(value, expected);
                return None;
            }
        };
        let mut words = words.into_iter();
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            self.refuse(&at, "an empty command", expected);
            return None;
        };
        Some(Command { program: program.into(), arguments: words.collect(), user, place: at.place })
    }

    /// `user` and `group`, names or numbers.
    pub(super) fn user(&mut self, table: &mut Table<'_>) -> Option<User> {
        let (user, group) = (table.get("user"), table.get("group"));
        let name = |door: &mut Self, value: &Spanned<DeValue<'_>>| match value.get_ref() {
            DeValue::Integer(number) => Some(Located::new(number.to_string(), door.at(value))),
            _ => door.as_text(value, "a name or a number"),
        };
        let group = group.and_then(|value| name(self, value));
        let Some(user) = user else {
            if let Some(group) = group {
                self.refuse(&group.at, "`group` without `user`", "`user` beside it");
            }
            return None;
        };
        let user = name(self, user)?;
        match self.options.users.find(&user.value, group.as_ref().map(|g| g.value.as_str())) {
            Ok(user) => Some(user),
            Err(reason) => {
                self.diagnostics.push(
                    Diagnostic::error("unknown-user", &user.at, reason)
                        .expected("a user and group of this host"),
                );
                None
            }
        }
    }
}
