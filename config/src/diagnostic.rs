//! What is wrong, where, what was expected, and what to do.
//!
//! Every finding of one run is kept and shown together. Values that are secret are masked in every
//! source line that is shown, and no message may quote one.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::ready::Place;

mod render;

/// A place and how many characters belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
pub struct Location {
    /// Where it begins.
    pub place: Place,
    /// In characters; 0 for a whole file.
    pub length: u32,
}

impl Location {
    /// The first character of a file, for what concerns the whole of it.
    pub fn file(file: &Arc<str>) -> Self {
        Self { place: Place { file: file.clone(), line: 1, column: 1 }, length: 0 }
    }

    /// From the beginning of `self` to the end of `last`; `self` alone when they are on different lines.
    pub fn to(&self, last: &Self) -> Self {
        let same_line = self.place.file == last.place.file && self.place.line == last.place.line;
        let end = last.place.column + last.length;
        let length = if same_line { end.saturating_sub(self.place.column) } else { self.length };
        Self { place: self.place.clone(), length: length.max(self.length) }
    }
}

/// A value with the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub at: Location,
}

impl<T> Located<T> {
    /// Binds a value to its place.
    pub fn new(value: T, at: Location) -> Self {
        Self { value, at }
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The configuration cannot run.
    Error,
    /// It runs, but not as it is written.
    Warning,
    /// Worth knowing.
    Notice,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        })
    }
}

/// One finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Stable, in kebab-case: for programs and for searching.
    pub code: &'static str,
    /// What was found.
    pub message: String,
    /// Where.
    pub location: Location,
    /// What was expected in its place.
    pub expected: Option<String>,
    /// What to do, or what is done instead.
    pub help: Option<String>,
}

impl Diagnostic {
    /// The configuration cannot run because of this.
    pub fn error(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, at, message.into())
    }

    /// It runs, but not as it is written.
    pub fn warning(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, at, message.into())
    }

    /// Worth knowing.
    pub fn notice(code: &'static str, at: &Location, message: impl Into<String>) -> Self {
        Self::new(Severity::Notice, code, at, message.into())
    }

    fn new(severity: Severity, code: &'static str, at: &Location, message: String) -> Self {
        Self { severity, code, message, location: at.clone(), expected: None, help: None }
    }

    /// Says what was expected.
    #[must_use]
    pub fn expected(mut self, expected: impl Into<String>) -> Self {
        self.expected = Some(expected.into());
        self
    }

    /// Says what to do, or what is done instead.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

impl fmt::Display for Diagnostic {
    /// One line: `FILE:LINE:COLUMN: error[code]: message`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}[{}]: {}", self.location.place, self.severity, self.code, self.message)?;
        if let Some(expected) = &self.expected {
            write!(f, "; expected {expected}")?;
        }
        Ok(())
    }
}

/// The findings of one run, with the text of the files to show them in.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    list: Vec<Diagnostic>,
    sources: Vec<Source>,
    /// Parts of source lines that are never shown.
    secrets: Vec<Location>,
    /// Findings over the bound, and whether one of them is an error.
    left_out: usize,
    left_out_error: bool,
}

/// More findings of one run are counted, not kept: nobody reads them, and a file of nonsense has many.
const MOST_FINDINGS: usize = 10_000;
/// More findings of one kind at one place are folded into one.
const MOST_OF_A_KIND: usize = 3;
/// With more findings than this, or more words to choose from, nothing is suggested.
const MOST_SUGGESTIONS: usize = 1_000;

#[derive(Clone, Debug)]
struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Offset of each line's first byte.
    line_starts: Arc<[usize]>,
}

impl Source {
    fn line(&self, number: u32) -> Option<&str> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        let start = *self.line_starts.get(index)?;
        let end = self.line_starts.get(index + 1).copied().unwrap_or(self.text.len());
        Some(self.text[start..end].trim_end_matches(['\n', '\r']))
    }
}

impl Diagnostics {
    /// Adds a finding.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        if self.list.len() < MOST_FINDINGS {
            self.list.push(diagnostic);
        } else {
            self.left_out += 1;
            self.left_out_error |= diagnostic.severity == Severity::Error;
        }
    }

    /// Adds the errors of another run, and what is needed to show them.
    pub(crate) fn take_errors(&mut self, other: Self) {
        for source in other.sources {
            if !self.sources.iter().any(|known| known.name == source.name) {
                self.sources.push(source);
            }
        }
        self.secrets.extend(other.secrets);
        self.left_out_error |= other.left_out_error;
        other.list.into_iter().filter(|d| d.severity == Severity::Error).for_each(|error| self.push(error));
    }

    /// The known word that was probably meant, unless there are too many mistakes to look for it.
    pub(crate) fn suggest<'k>(
        &self,
        word: &str,
        known: impl IntoIterator<Item = &'k str>,
    ) -> Option<&'k str> {
        let few = self.list.len() < MOST_SUGGESTIONS;
        few.then(|| did_you_mean(word, known.into_iter().take(MOST_SUGGESTIONS))).flatten()
    }

    /// All findings, in the order they were found.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many findings there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// How many findings of one severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|d| d.severity == severity).count()
    }

    /// At least one finding keeps the configuration from running.
    pub fn has_errors(&self) -> bool {
        self.left_out_error || self.list.iter().any(|d| d.severity == Severity::Error)
    }

    /// Sorts by file (in the order they were read), line and column.
    pub(crate) fn sort(&mut self) {
        let Self { list, sources, .. } = self;
        let index = |file: &Arc<str>| sources.iter().position(|s| s.name == *file).unwrap_or(usize::MAX);
        list.sort_by_cached_key(|d| {
            let place = &d.location.place;
            (index(&place.file), place.line, place.column, d.severity)
        });
        list.dedup();
        self.fold();
        if let (Some(last), 1..) = (self.list.last(), self.left_out) {
            let message = format!("{} more findings are left out", self.left_out);
            let finding = if self.left_out_error {
                Diagnostic::error("too-many-findings", &last.location, message)
            } else {
                Diagnostic::warning("too-many-findings", &last.location, message)
            };
            self.list.push(finding.help("is this a configuration at all?"));
        }
    }

    /// A line that a loop repeats two thousand times is wrong once: of more than a few findings of one kind at one
    /// place the first stays, and says how many there are.
    fn fold(&mut self) {
        let mut kinds: HashMap<(Location, &str), (usize, usize)> = HashMap::new();
        for (index, finding) in self.list.iter().enumerate() {
            kinds.entry((finding.location.clone(), finding.code)).or_insert((index, 0)).1 += 1;
        }
        kinds.retain(|_, (_, count)| *count > MOST_OF_A_KIND);
        if kinds.is_empty() {
            return;
        }
        let mut index = 0;
        self.list.retain_mut(|finding| {
            let kind = kinds.get(&(finding.location.clone(), finding.code));
            let this = index;
            index += 1;
            match kind {
                Some((first, count)) if *first == this => {
                    finding.message += &format!(" (and {} more like this from this line)", count - 1);
                    true
                }
                Some(_) => false,
                None => true,
            }
        });
    }

    /// Keeps the text of a file to show findings in.
    pub(crate) fn add_source(&mut self, name: &Arc<str>, text: Arc<str>) {
        if self.sources.iter().any(|s| s.name == *name) {
            return;
        }
        let starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1));
        let line_starts = starts.collect::<Vec<_>>().into();
        self.sources.push(Source { name: name.clone(), text, line_starts });
    }

    /// Masks a part of a source line wherever it is shown.
    pub(crate) fn hide(&mut self, secret: Location) {
        self.secrets.push(secret);
    }

    /// The line as it may be shown: secrets are masked, character by character.
    fn shown_line(&self, place: &Place) -> Option<String> {
        let source = self.sources.iter().find(|s| s.name == place.file)?;
        let line = source.line(place.line)?;
        let hidden: Vec<_> = self
            .secrets
            .iter()
            .filter(|s| s.place.file == place.file && s.place.line == place.line)
            .map(|s| s.place.column..s.place.column + s.length)
            .collect();
        if hidden.is_empty() {
            return Some(line.to_owned());
        }
        let masked = line.chars().zip(1u32..).map(|(c, column)| {
            let secret = hidden.iter().any(|range| range.contains(&column));
            if secret { '*' } else { c }
        });
        Some(masked.collect())
    }

    /// For programs: an object with the list of findings and the number of each severity.
    pub fn to_json(&self) -> serde_json::Value {
        let findings: Vec<_> = self
            .list
            .iter()
            .map(|d| {
                serde_json::json!({
                    "severity": d.severity,
                    "code": d.code,
                    "message": d.message,
                    "file": &*d.location.place.file,
                    "line": d.location.place.line,
                    "column": d.location.place.column,
                    "length": d.location.length,
                    "expected": d.expected,
                    "help": d.help,
                })
            })
            .collect();
        serde_json::json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "notices": self.count(Severity::Notice),
            "findings": findings,
        })
    }
}

impl<'a> IntoIterator for &'a Diagnostics {
    type Item = &'a Diagnostic;
    type IntoIter = std::slice::Iter<'a, Diagnostic>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The known word that was probably meant: at most a third of its letters differ. Of several the first in the
/// alphabet, so that every run says the same.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if word.chars().count() < 3 || word.len() > 64 {
        return None;
    }
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter_map(|candidate| edit_distance(word, candidate, allowed).map(|distance| (distance, candidate)))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, substitutions and swaps of neighbours that lead from `a` to `b`, if they are at most
/// so many.
fn edit_distance(a: &str, b: &str, most: usize) -> Option<usize> {
    if a.chars().count().abs_diff(b.chars().count()) > most {
        return None;
    }
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before_last: Vec<usize> = vec![usize::MAX; b.len() + 1];
    let mut last: Vec<usize> = (0..=b.len()).collect();
    let mut row = vec![0; b.len() + 1];
    for i in 1..=a.len() {
        row[0] = i;
        for j in 1..=b.len() {
            let substitution = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = substitution.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before_last[j - 2] + 1);
            }
            row[j] = best;
        }
        // Later rows come from these two and never get better.
        if row.iter().chain(&last).all(|distance| *distance > most) {
            return None;
        }
        std::mem::swap(&mut before_last, &mut last);
        std::mem::swap(&mut last, &mut row);
    }
    Some(last[b.len()]).filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_letters_are_one_mistake() {
        assert_eq!(edit_distance("vvrp_script", "vrrp_script", 3), Some(1));
        assert_eq!(edit_distance("prioirty", "priority", 3), Some(1));
        assert_eq!(
            did_you_mean("lvs_sync_daemon_inteface", ["lvs_sync_daemon_interface"]),
            Some("lvs_sync_daemon_interface")
        );
    }

    #[test]
    fn unrelated_words_are_not_suggested() {
        assert_eq!(did_you_mean("foo", ["state", "priority"]), None);
    }
}
