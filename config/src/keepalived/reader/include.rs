//! `include` and its stricter forms.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Location, Severity};
use crate::keepalived::lexer::{self, Line};

use super::{FILE_BYTES, MOST_FILES, MOST_INCLUDES, Reader, canonical};

/// What makes a missing file an error (`include_check`).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Checks {
    /// It cannot be read.
    read: bool,
    /// Nothing matches.
    matches: bool,
    /// A pattern with a wildcard matches nothing.
    wildcard: bool,
    /// A part of a brace pattern matches nothing.
    brace: bool,
}

impl Checks {
    const ALL: Self = Self { read: true, matches: true, wildcard: true, brace: true };

    fn of(keyword: &str, global: Self) -> Option<Self> {
        match keyword {
            "include" => Some(global),
            "includer" => Some(Self { read: true, ..global }),
            "includem" => Some(Self { matches: true, ..global }),
            "includew" => Some(Self { wildcard: true, ..global }),
            "includeb" => Some(Self { brace: true, ..global }),
            "includea" => Some(Self::ALL),
            _ => None,
        }
    }
}

impl Reader<'_> {
    /// Reads the files of an `include` line; `false` if it is none.
    pub(super) fn include_line(&mut self, line: &Line, from: &Path) -> bool {
        let words = lexer::words(line);
        let Some(keyword) = words.first() else { return false };
        if keyword.text == "include_check" {
            self.include_check(&words[1..]);
            return false;
        }
        let Some(checks) = Checks::of(&keyword.text, self.checks) else { return false };
        if self.tangled {
            return true;
        }
        let Some(pattern) = words.get(1) else {
            let finding = Diagnostic::error("missing-parameter", &keyword.at, "`include` without a file");
            self.diagnostics.push(finding.expected("a path or a pattern"));
            return true;
        };
        let folder =
            from.parent().map(|folder| glob::Pattern::escape(&folder.to_string_lossy())).unwrap_or_default();
        let parts = braces(&pattern.text);
        let mut found = Vec::new();
        for part in &parts {
            let matches = self.matching(&Path::new(&folder).join(part), &pattern.at);
            if matches.is_empty() && parts.len() > 1 && checks.brace {
                self.missing(Severity::Error, part, &pattern.at);
            }
            found.extend(matches);
        }
        if found.is_empty() {
            let wildcard = pattern.text.contains(['*', '?', '[']);
            let fatal = checks.matches || (wildcard && checks.wildcard) || (checks.read && !wildcard);
            let severity = if fatal { Severity::Error } else { Severity::Warning };
            self.missing(severity, &pattern.text, &pattern.at);
        }
        for path in found {
            self.include_file(&path, checks, &pattern.at);
        }
        true
    }

    /// `include_check [[+|-]WORD…]`; without a word all of them.
    fn include_check(&mut self, words: &[crate::written::Word]) {
        if words.is_empty() {
            self.checks = Checks::ALL;
        } else if !words[0].text.starts_with(['+', '-']) {
            self.checks = Checks::default();
        }
        for word in words {
            let (name, on) = match word.text.strip_prefix('-') {
                Some(name) => (name, false),
                None => (word.text.trim_start_matches('+'), true),
            };
            match name {
                "read" => self.checks.read = on,
                "match" => self.checks.matches = on,
                "wildcard_match" => self.checks.wildcard = on,
                "brace_match" => self.checks.brace = on,
                _ => self.diagnostics.push(
                    Diagnostic::warning(
                        "invalid-value",
                        &word.at,
                        format!("unknown include check `{}`", word.text),
                    )
                    .expected("`read`, `match`, `wildcard_match` or `brace_match`"),
                ),
            }
        }
    }

    fn missing(&mut self, severity: Severity, pattern: &str, at: &Location) {
        let message = format!("no file matches `{pattern}`");
        let finding = match severity {
            Severity::Error => Diagnostic::error("include-missing", at, message),
            _ => Diagnostic::warning("include-missing", at, message)
                .help("nothing is included; write `includem` to make this an error"),
        };
        self.diagnostics.push(finding);
    }

    /// Sorted; without directories and files that can be executed.
    fn matching(&mut self, pattern: &Path, at: &Location) -> Vec<PathBuf> {
        let options = glob::MatchOptions {
            case_sensitive: true,
            require_literal_separator: true,
            require_literal_leading_dot: true,
        };
        let paths = match glob::glob_with(&pattern.to_string_lossy(), options) {
            Ok(paths) => paths,
            Err(error) => {
                self.diagnostics.push(Diagnostic::error(
                    "include-pattern",
                    at,
                    format!("not a pattern: {error}"),
                ));
                return Vec::new();
            }
        };
        let mut paths: Vec<_> = paths.filter_map(Result::ok).take(10_000).collect();
        paths.retain(|path| !path.is_dir() && !is_executable(path));
        paths.sort();
        paths
    }

    fn include_file(&mut self, path: &Path, checks: Checks, at: &Location) {
        let real = canonical(path);
        if self.open.contains(&real) {
            self.tangled = true;
            let message = format!("`{}` includes itself", path.display());
            self.diagnostics.push(
                Diagnostic::error("include-loop", at, message).help("no file is included from here on"),
            );
            return;
        }
        if self.open.len() > MOST_INCLUDES {
            self.tangled = true;
            let message = format!("more than {MOST_INCLUDES} files within files");
            self.diagnostics.push(Diagnostic::error("include-depth", at, message));
            return;
        }
        self.included += 1;
        if self.included > MOST_FILES {
            self.tangled = true;
            if self.included == MOST_FILES + 1 {
                let message = format!("more than {MOST_FILES} files are included");
                self.diagnostics.push(Diagnostic::error("too-large", at, message));
            }
            return;
        }
        match read_file(path) {
            Ok(bytes) => self.read_text(path, &bytes),
            Err(reason) => {
                let message = format!("cannot read `{}`: {reason}", path.display());
                let finding = if checks.read {
                    Diagnostic::error("include-unreadable", at, message)
                } else {
                    Diagnostic::warning("include-unreadable", at, message)
                        .help("it is left out; write `includer` to make this an error")
                };
                self.diagnostics.push(finding);
            }
        }
    }
}

/// Reads a regular file of a size that a configuration can have.
pub(crate) fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let metadata = std::fs::metadata(path).map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("not a regular file".to_owned());
    }
    if metadata.len() > FILE_BYTES {
        return Err(format!("{} bytes, more than {FILE_BYTES}", metadata.len()));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o111 != 0)
}

/// `a{b,c}d` becomes `abd` and `acd`, as a shell does it.
fn braces(pattern: &str) -> Vec<String> {
    let mut done = Vec::new();
    let mut open = vec![pattern.to_owned()];
    while let Some(next) = open.pop() {
        match split_brace(&next) {
            Some(parts) if done.len() + open.len() + parts.len() <= 1000 => {
                open.extend(parts.into_iter().rev())
            }
            _ => done.push(next),
        }
    }
    done
}

/// The alternatives of the first brace pair that has no other inside.
fn split_brace(pattern: &str) -> Option<Vec<String>> {
    let close = pattern.find('}')?;
    let open = pattern[..close].rfind('{')?;
    let (head, tail) = (&pattern[..open], &pattern[close + 1..]);
    Some(pattern[open + 1..close].split(',').map(|part| format!("{head}{part}{tail}")).collect())
}
