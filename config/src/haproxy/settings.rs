//! What a proxy says, and what it inherits from its `defaults`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::Location;
use crate::written::{Statement, Word};

use super::keywords::Keyword;
use super::reader::Kind;
use super::value;

/// Of these the last one counts.
pub(super) const CHECKS: [&str; 10] = [
    "option httpchk",
    "option tcp-check",
    "option ssl-hello-chk",
    "option smtpchk",
    "option mysql-check",
    "option pgsql-check",
    "option redis-check",
    "option ldap-check",
    "option external-check",
    "option spop-check",
];
/// Of these too.
const LOGS: [&str; 3] = ["option tcplog", "option httplog", "option httpslog"];
const STATES: [&str; 2] = ["disabled", "enabled"];
/// Words that may stand more than once, each with a meaning of its own.
const MANY: [&str; 13] = [
    "acl",
    "bind",
    "server",
    "server-template",
    "use_backend",
    "use-server",
    "default-server",
    "stick-table",
    "log",
    "filter",
    "dispatch",
    "redirect",
    "cookie",
];
const MANY_FAMILIES: [&str; 12] = [
    "http-check ",
    "tcp-check ",
    "tcp-request ",
    "tcp-response ",
    "http-request",
    "http-response",
    "http-after-response",
    "stick ",
    "capture ",
    "email-alert ",
    "declare ",
    "monitor fail",
];

/// Settings with one value each.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings(BTreeMap<&'static str, (&'static Keyword, Arc<Statement>)>);

impl Settings {
    pub fn get(&self, name: &str) -> Option<&Statement> {
        self.0.get(name).map(|(_, statement)| &**statement)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static Keyword, &Statement)> {
        self.0.values().map(|(keyword, statement)| (*keyword, &**statement))
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The one that is replaced by it, if any.
    pub fn set(
        &mut self,
        keyword: &'static Keyword,
        statement: Arc<Statement>,
    ) -> Option<(&'static str, Arc<Statement>)> {
        let rivals: &[&'static str] = [&CHECKS[..], &LOGS[..], &STATES[..]]
            .into_iter()
            .find(|group| group.contains(&keyword.name))
            .unwrap_or_default();
        let mut replaced = None;
        for rival in rivals.iter().filter(|rival| **rival != keyword.name) {
            replaced = self.0.remove(rival).map(|(_, old)| (*rival, old)).or(replaced);
        }
        self.0.insert(keyword.name, (keyword, statement));
        replaced
    }

    pub fn unset(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Of a `timeout …`; none when it is not written or 0, which is for ever.
    pub fn timeout(&self, name: &str) -> Option<Duration> {
        let word = self.get(name)?.words.get(2)?;
        value::time(&word.text).ok().filter(|time| !time.is_zero())
    }

    /// The `option …` that says how servers are checked.
    pub fn check(&self) -> Option<(&'static str, &Statement)> {
        CHECKS.iter().find_map(|name| Some((*name, self.get(name)?)))
    }

    pub fn keyword_of_log(&self) -> Option<(&'static str, &Statement)> {
        LOGS.iter().find_map(|name| Some((*name, self.get(name)?)))
    }
}

/// It may be written more than once.
pub(super) fn is_many(name: &str) -> bool {
    MANY.contains(&name)
        || MANY_FAMILIES.iter().any(|family| name.starts_with(family)) && name != "tcp-request inspect-delay"
}

/// A line that has a meaning beside others with the same keyword.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub keyword: &'static Keyword,
    pub statement: Arc<Statement>,
    /// It stands in `defaults`.
    pub inherited: bool,
}

/// `mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Tcp,
    Http,
}

/// A `frontend`, `backend` or `listen`.
#[derive(Clone, Debug)]
pub(super) struct Proxy {
    pub kind: Kind,
    pub name: Word,
    pub settings: Settings,
    /// Inherited ones first.
    pub lines: Vec<Line>,
    /// Index of its section of defaults.
    pub defaults: Option<usize>,
}

impl Proxy {
    pub fn mode(&self) -> Mode {
        let mode = self.settings.get("mode").and_then(Statement::parameter);
        if mode.is_some_and(|mode| mode.text == "http") { Mode::Http } else { Mode::Tcp }
    }

    pub fn is_frontend(&self) -> bool {
        self.kind != Kind::Backend
    }

    pub fn is_backend(&self) -> bool {
        self.kind != Kind::Frontend
    }

    pub fn is_disabled(&self) -> bool {
        self.settings.has("disabled")
    }

    /// As in messages.
    pub fn shown(&self) -> String {
        let kind = match self.kind {
            Kind::Frontend => "frontend",
            Kind::Backend => "backend",
            _ => "proxy",
        };
        format!("{kind} {}", super::reader::shown(&self.name))
    }

    pub fn at(&self) -> &Location {
        &self.name.at
    }

    pub fn lines<'p>(&'p self, name: &'p str) -> impl Iterator<Item = &'p Line> {
        self.lines.iter().filter(move |line| line.keyword.name == name)
    }

    pub fn has_servers(&self) -> bool {
        self.lines.iter().any(|line| matches!(line.keyword.name, "server" | "server-template" | "dispatch"))
    }
}
