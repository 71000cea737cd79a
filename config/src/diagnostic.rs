//! What is wrong, where, what was expected, and what to do.
//!
//! Every finding of one run is kept and shown together. Values that are secret are masked in every
//! source line that is shown, and no message may quote one.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
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

    fn kind(&self) -> Kind {
        (self.location.clone(), self.code)
    }

    /// The same for the same finding.
    fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (&self.location, self.code, &self.message, &self.expected, &self.help).hash(&mut hasher);
        hasher.finish()
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
    /// Fingerprints of all that was pushed, and how many there are of each kind.
    seen: HashSet<u64>,
    /// How many were pushed, those that were not kept among them.
    pushed: usize,
    kinds: HashMap<Kind, usize>,
    sources: Vec<Source>,
    /// Parts of source lines that are never shown, by file and line.
    secrets: HashMap<(Arc<str>, u32), Columns>,
    /// Findings over the bound, and whether one of them is an error.
    left_out: usize,
    left_out_error: bool,
}

/// Where, and which code.
type Kind = (Location, &'static str);
/// Columns and lengths.
type Columns = BTreeSet<(u32, u32)>;

/// More findings of one run are counted, not kept: nobody reads them, and a file of nonsense has many.
const MOST_FINDINGS: usize = 10_000;
/// More findings of one kind at one place are folded into one.
const MOST_OF_A_KIND: usize = 3;
/// With more findings than this, or more words to choose from, nothing is suggested.
const MOST_SUGGESTIONS: usize = 500;

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
    /// Adds a finding. One that was there already is dropped, and of those of one kind at one place only a few are
    /// kept: a line that a loop repeats ten thousand times costs no more than one.
    pub fn push(&mut self, diagnostic: Diagnostic) {
        self.pushed += 1;
        if self.list.len() >= MOST_FINDINGS {
            self.left_out += 1;
            self.left_out_error |= diagnostic.severity == Severity::Error;
            return;
        }
        if !self.seen.insert(diagnostic.fingerprint()) {
            return;
        }
        let count = self.kinds.entry(diagnostic.kind()).or_insert(0);
        *count += 1;
        if *count <= MOST_OF_A_KIND || diagnostic.severity == Severity::Error {
            self.list.push(diagnostic);
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
        let few = self.pushed < MOST_SUGGESTIONS;
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
        let order: HashMap<&str, usize> = sources.iter().map(|s| &*s.name).zip(0..).collect();
        let index = |file: &Arc<str>| order.get(&**file).copied().unwrap_or(usize::MAX);
        list.sort_by_cached_key(|d| {
            let place = &d.location.place;
            (index(&place.file), place.line, place.column, d.severity)
        });
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
        let mut kinds = std::mem::take(&mut self.kinds);
        kinds.retain(|_, count| *count > MOST_OF_A_KIND);
        if kinds.is_empty() {
            return;
        }
        self.list.retain_mut(|finding| match kinds.get_mut(&finding.kind()) {
            None => true,
            Some(0) => false,
            Some(count) => {
                finding.message += &format!(" (and {} more like this from this line)", *count - 1);
                *count = 0;
                true
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
        let Location { place, length } = secret;
        self.secrets.entry((place.file, place.line)).or_default().insert((place.column, length));
    }

    /// The line as it may be shown: secrets are masked, character by character.
    fn shown_line(&self, place: &Place) -> Option<String> {
        let source = self.sources.iter().find(|s| s.name == place.file)?;
        let line = source.line(place.line)?;
        let Some(hidden) = self.secrets.get(&(place.file.clone(), place.line)) else {
            return Some(line.to_owned());
        };
        let mut masked: Vec<char> = line.chars().collect();
        for (column, length) in hidden {
            let start = (*column as usize).saturating_sub(1).min(masked.len());
            let end = (start + *length as usize).min(masked.len());
            masked[start..end].fill('*');
        }
        Some(masked.into_iter().collect())
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

/// Longer words are not compared.
const MOST_COMPARED: usize = 64;

/// The known word that was probably meant: at most a third of its letters differ. Of several the first in the
/// alphabet, so that every run says the same.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let letters = Letters::of(word).filter(|letters| letters.all().len() >= 3)?;
    let allowed = (letters.all().len() / 3).clamp(1, 3);
    known
        .into_iter()
        .filter_map(|candidate| {
            let distance = edit_distance(letters.all(), Letters::of(candidate)?.all(), allowed)?;
            Some((distance, candidate))
        })
        .min()
        .map(|(_, candidate)| candidate)
}

/// The characters of a short word, without the heap: a file of nonsense has many words to compare.
struct Letters([char; MOST_COMPARED], usize);

impl Letters {
    fn of(word: &str) -> Option<Self> {
        let mut letters = Self(['\0'; MOST_COMPARED], 0);
        if word.len() > MOST_COMPARED {
            return None;
        }
        for letter in word.chars() {
            letters.0[letters.1] = letter;
            letters.1 += 1;
        }
        Some(letters)
    }

    fn all(&self) -> &[char] {
        &self.0[..self.1]
    }
}

/// Insertions, deletions, substitutions and swaps of neighbours that lead from `a` to `b`, if they are at most
/// so many. Words of at most 64 characters.
fn edit_distance(a: &[char], b: &[char], most: usize) -> Option<usize> {
    if a.len().abs_diff(b.len()) > most {
        return None;
    }
    let mut before_last = [usize::MAX; MOST_COMPARED + 1];
    let mut last: [usize; MOST_COMPARED + 1] = std::array::from_fn(|i| i);
    let mut row = [0; MOST_COMPARED + 1];
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
        let rows = row[..=b.len()].iter().chain(&last[..=b.len()]);
        if rows.min().is_some_and(|distance| *distance > most) {
            return None;
        }
        (before_last, last) = (last, row);
    }
    Some(last[b.len()]).filter(|distance| *distance <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapped_letters_are_one_mistake() {
        let distance = |a: &str, b: &str| {
            let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
            edit_distance(&a, &b, 3)
        };
        assert_eq!(distance("vvrp_script", "vrrp_script"), Some(1));
        assert_eq!(distance("prioirty", "priority"), Some(1));
        assert_eq!(distance("prioritées", "priorities"), Some(1));
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
