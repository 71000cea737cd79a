//! Is a file there, or not there, does it hold a text, which number does it hold?

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ready::FileExpect;

use super::Spoken;
use super::blocking::Blocking;
use super::schedule::{BoxFuture, Outcome, Probing};

/// keepalived reads at most this many octets of a file with a number.
const NUMBER_LENGTH: u64 = 127;
/// A text is looked for in this many octets at most.
const TEXT_LENGTH: u64 = 1024 * 1024;

/// Looks at one file.
#[derive(Debug)]
pub(super) struct FileCheck {
    path: PathBuf,
    expect: FileExpect,
    look: Blocking<Outcome>,
}

impl FileCheck {
    pub(super) fn new(path: PathBuf, expect: FileExpect) -> Self {
        Self { path, expect, look: Blocking::default() }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let (path, expect) = (self.path.clone(), self.expect.clone());
        let look = self.look.ask(move || look(&path, &expect));
        match tokio::time::timeout(timeout, look).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::failure(Spoken(&error).to_string()),
            Err(_) => Outcome::failure(format!("{} not read after {}", self.path.display(), Spoken(timeout))),
        }
    }
}

impl Probing for FileCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }
}

fn look(path: &Path, expect: &FileExpect) -> Outcome {
    let shown = path.display();
    let unreadable = |error: &io::Error| Outcome::failure(format!("{shown}: {}", Spoken(error)));
    match expect {
        FileExpect::Exists | FileExpect::Missing => {
            let wanted = *expect == FileExpect::Exists;
            match std::fs::metadata(path) {
                Ok(_) => Outcome { success: wanted, ..Outcome::success(format!("{shown} exists")) },
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    Outcome { success: !wanted, ..Outcome::success(format!("{shown} does not exist")) }
                }
                Err(error) => unreadable(&error),
            }
        }
        FileExpect::Contains(text) => match read(path, TEXT_LENGTH) {
            Ok(content) if contains(&content, text.as_bytes()) => {
                Outcome::success(format!("{shown} contains {text:?}"))
            }
            Ok(_) => Outcome::failure(format!("{shown} does not contain {text:?}")),
            Err(error) => unreadable(&error),
        },
        // keepalived: a file that cannot be read holds 0.
        FileExpect::Value => {
            let (value, detail) = match read(path, NUMBER_LENGTH) {
                Ok(content) => {
                    let value = first_number(&content);
                    (value, format!("{shown} holds {value}"))
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    (0, format!("{shown} does not exist, which counts as 0"))
                }
                Err(error) => (0, format!("{shown}: {}, which counts as 0", Spoken(&error))),
            };
            Outcome { success: true, detail, value: Some(value) }
        }
    }
}

fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    use std::os::unix::fs::OpenOptionsExt;
    // A named pipe without a writer must not hold us.
    let file = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    let mut content = Vec::new();
    file.take(limit).read_to_end(&mut content)?;
    Ok(content)
}

pub(super) fn contains(content: &[u8], text: &[u8]) -> bool {
    text.is_empty() || content.windows(text.len()).any(|window| window == text)
}

/// The number at the start, as keepalived's `track_file` reads it: blanks, a sign, then decimal, `0x`
/// hexadecimal or `0` octal digits; 32 bits. No number is 0.
fn first_number(content: &[u8]) -> i64 {
    let content = content.trim_ascii_start();
    let (negative, content) = match content {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, content),
    };
    let (radix, digits) = match content {
        [b'0', b'x' | b'X', rest @ ..] => (16, rest),
        [b'0', rest @ ..] => (8, rest),
        _ => (10, content),
    };
    let value = digits
        .iter()
        .map_while(|octet| char::from(*octet).to_digit(radix))
        .fold(0_i64, |value, digit| value.saturating_mul(i64::from(radix)).saturating_add(i64::from(digit)));
    let value = if negative { -value } else { value };
    value.clamp(i64::from(i32::MIN), i64::from(i32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Observed with keepalived 2.2.7: `abc` counts as 0, `0x10` as 16.
    #[test]
    fn numbers_are_read_as_keepalived_reads_them() {
        let numbers: Vec<i64> =
            ["20\n", "abc", "0x10", "010", "-300", "  7 8", "+5", "", "0", "12abc", "08", "99999999999"]
                .map(|text| first_number(text.as_bytes()))
                .to_vec();
        assert_eq!(numbers, [20, 0, 16, 8, -300, 7, 5, 0, 0, 12, 0, 2_147_483_647]);
    }

    #[test]
    fn a_missing_file_counts_as_0() {
        let outcome = look(Path::new("/nonexistent/file"), &FileExpect::Value);
        assert!(outcome.success);
        assert_eq!(outcome.value, Some(0));
        assert_eq!(outcome.detail, "/nonexistent/file does not exist, which counts as 0");
    }

    #[test]
    fn value_is_published_with_what_the_file_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weight");
        std::fs::write(&path, "-20\n").unwrap();
        assert_eq!(look(&path, &FileExpect::Value).value, Some(-20));
    }

    #[test]
    fn exists_missing_and_contains_look_at_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("maintenance");
        assert!(!look(&path, &FileExpect::Exists).success);
        assert!(look(&path, &FileExpect::Missing).success);
        assert!(!look(&path, &FileExpect::Contains("yes".into())).success);
        std::fs::write(&path, "maintenance: yes\n").unwrap();
        assert!(look(&path, &FileExpect::Exists).success);
        assert!(!look(&path, &FileExpect::Missing).success);
        assert!(look(&path, &FileExpect::Contains("yes".into())).success);
        assert_eq!(
            look(&path, &FileExpect::Contains("no".into())),
            Outcome::failure(format!("{} does not contain \"no\"", path.display()))
        );
    }

    #[test]
    fn a_named_pipe_does_not_hold_the_check() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).unwrap();
        assert_eq!(look(&path, &FileExpect::Value).value, Some(0));
    }
}
