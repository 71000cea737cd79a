//! Is a file there, or not there, does it hold a text, which number does it hold?
//!
//! The directory is watched, so a change counts at once: at close after write, moved into place, removed. What
//! cannot be watched (NFS, FUSE, proc and the like, which keepalived refuses; a symbolic link) is read at every
//! interval.

mod directory;

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::ready::FileExpect;
use tracing::warn;

use self::directory::{Directory, Id, News, Watched};
use super::blocking::Blocking;
use super::schedule::{BoxFuture, Outcome, Probing};
use super::{Advice, Spoken, Weight};

/// keepalived reads at most this many octets of a file with a number.
const NUMBER_LENGTH: u64 = 127;
/// A text is looked for in this many octets at most.
const TEXT_LENGTH: u64 = 1024 * 1024;
/// Somebody who writes a file begins with an empty one; where nobody tells when it is closed, that is waited for.
const WRITING: Duration = Duration::from_millis(10);

/// Looks at one file.
#[derive(Debug)]
pub(super) struct FileCheck {
    path: PathBuf,
    expect: FileExpect,
    /// `init_file`, until it is done: the value, and whether a file that is there is overwritten.
    initial: Option<(i64, bool)>,
    /// Changes are asked for ([`Probing::changed`]), so the directory is worth watching.
    watches: bool,
    watched: Option<Watched>,
    /// Changes that the directory has told of, and how many of them the last look has seen.
    told: u64,
    seen: u64,
    last: Option<Outcome>,
    look: Blocking<Looked>,
}

/// What a look found.
#[derive(Debug)]
struct Looked {
    /// Changes that had been told of before it.
    told: u64,
    /// `None`: as before.
    outcome: Option<Outcome>,
    /// `None`: what was watched before is watched still.
    directory: Option<Option<Directory>>,
}

/// What a look needs to know.
#[derive(Debug)]
struct Question {
    path: PathBuf,
    expect: FileExpect,
    initial: Option<(i64, bool)>,
    watches: bool,
    watched: Option<Id>,
    told: u64,
    is_changed: bool,
}

impl FileCheck {
    /// `initial` is written before the first look; with `watches` changes count when they happen.
    pub(super) fn new(
        path: PathBuf,
        expect: FileExpect,
        initial: Option<(i64, bool)>,
        watches: bool,
    ) -> Self {
        Self {
            path,
            expect,
            initial,
            watches,
            watched: None,
            told: 0,
            seen: 0,
            last: None,
            look: Blocking::default(),
        }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        match tokio::time::timeout(timeout, self.look()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(error)) => Outcome::failure(Spoken(&error).to_string()),
            Err(_) => Outcome::failure(format!("{} not read after {}", self.path.display(), Spoken(timeout))),
        }
    }

    async fn look(&mut self) -> io::Result<Outcome> {
        loop {
            let question = Question {
                path: self.path.clone(),
                expect: self.expect.clone(),
                initial: self.initial.take(),
                watches: self.watches,
                watched: self.watched.as_ref().map(Watched::id),
                told: self.told,
                is_changed: self.last.is_none() || self.seen < self.told,
            };
            // May be the answer to a question that was asked earlier; then it may not know of the change.
            let looked = self.look.ask(move || question.answer()).await?;
            if let Some(directory) = looked.directory {
                self.watched = directory.and_then(|directory| Watched::new(directory).ok());
            }
            if let Some(outcome) = looked.outcome {
                self.last = Some(outcome);
                self.seen = looked.told;
            }
            if let Some(last) = self.last.as_ref().filter(|_| self.seen >= self.told) {
                return Ok(last.clone());
            }
        }
    }
}

impl Probing for FileCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let (Some(watched), Some(name)) = (&mut self.watched, self.path.file_name()) else {
                return std::future::pending().await;
            };
            let news = watched.news_of(name).await;
            self.told += 1;
            if news == News::Gone {
                self.watched = None;
            }
        })
    }
}

impl Question {
    fn answer(self) -> Looked {
        if let Some((value, overwrite)) = self.initial
            && let Err(error) = write_initial(&self.path, value, overwrite)
        {
            warn!(file = %self.path.display(), error = %Spoken(&error), "initial value of a file not written");
        }
        let parent = match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // What a link points to changes elsewhere.
        let is_link = std::fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.is_symlink());
        let id = Id::of(parent).ok().filter(|_| self.watches && !is_link);
        let directory = match id {
            id if id == self.watched => None,
            Some(_) => Some(Directory::watch(parent).unwrap_or(None)),
            None => Some(None),
        };
        let is_watched = match &directory {
            Some(directory) => directory.is_some(),
            None => self.watched.is_some(),
        };
        let reads = self.is_changed || !is_watched || directory.is_some();
        let outcome = reads.then(|| {
            if !is_watched && self.expect == FileExpect::Value && is_empty(&self.path) {
                std::thread::sleep(WRITING);
            }
            look(&self.path, &self.expect)
        });
        Looked { told: self.told, outcome, directory }
    }
}

fn write_initial(path: &Path, value: i64, overwrite: bool) -> io::Result<()> {
    if !overwrite && std::fs::symlink_metadata(path).is_ok() {
        return Ok(());
    }
    std::fs::write(path, format!("{value}\n"))
}

fn is_empty(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.len() == 0)
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
        FileExpect::Value | FileExpect::Weight(_) => {
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
            let FileExpect::Weight(factor) = expect else {
                return Outcome { value: Some(value), ..Outcome::success(detail) };
            };
            if *factor == 0 && value != 0 {
                return Outcome::failure(detail);
            }
            let offset = value.saturating_mul(i64::from(*factor));
            let advice = Advice { weight: Some(Weight::Offset(offset)), ..Advice::default() };
            Outcome { advice, ..Outcome::success(detail) }
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

    const LONG: Duration = Duration::from_secs(20);

    fn value_of(path: &Path) -> FileCheck {
        FileCheck::new(path.to_owned(), FileExpect::Value, None, true)
    }

    /// The next value that is told of without any interval.
    async fn next(check: &mut FileCheck) -> i64 {
        let next = async {
            check.changed().await;
            check.probe(LONG).await.value.unwrap()
        };
        tokio::time::timeout(Duration::from_secs(60), next).await.expect("a change is told of")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_change_is_told_of_at_close_at_a_move_and_at_a_removal() {
        use std::io::Write;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        std::fs::write(&path, "1").unwrap();
        let mut check = value_of(&path);
        assert_eq!(check.probe(LONG).await.value, Some(1));
        let mut file = File::options().write(true).truncate(true).open(&path).unwrap();
        file.write_all(b"2").unwrap();
        // Not closed: a look at the interval sees what it saw.
        assert_eq!(check.probe(LONG).await.value, Some(1));
        std::fs::write(directory.path().join("another"), "7").unwrap();
        drop(file);
        assert_eq!(next(&mut check).await, 2);
        std::fs::write(directory.path().join("new"), "3").unwrap();
        std::fs::rename(directory.path().join("new"), &path).unwrap();
        assert_eq!(next(&mut check).await, 3);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(next(&mut check).await, 0);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_directory_that_comes_later_or_comes_back_is_watched_again() {
        let directory = tempfile::tempdir().unwrap();
        let (inner, moved) = (directory.path().join("inner"), directory.path().join("moved"));
        let path = inner.join("value");
        let mut check = value_of(&path);
        assert_eq!(check.probe(LONG).await.value, Some(0));
        std::fs::create_dir(&inner).unwrap();
        std::fs::write(&path, "4").unwrap();
        assert_eq!(check.probe(LONG).await.value, Some(4));
        std::fs::rename(&inner, &moved).unwrap();
        std::fs::create_dir(&inner).unwrap();
        assert_eq!(check.probe(LONG).await.value, Some(0));
        std::fs::write(&path, "5").unwrap();
        assert_eq!(next(&mut check).await, 5);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_link_is_read_at_every_interval() {
        let directory = tempfile::tempdir().unwrap();
        let (path, target) = (directory.path().join("value"), tempfile::NamedTempFile::new().unwrap());
        std::fs::write(target.path(), "6").unwrap();
        std::os::unix::fs::symlink(target.path(), &path).unwrap();
        let mut check = value_of(&path);
        assert_eq!(check.probe(LONG).await.value, Some(6));
        std::fs::write(target.path(), "8").unwrap();
        assert_eq!(check.probe(LONG).await.value, Some(8));
    }

    /// A file of the kernel changes without a word.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_file_system_without_news_is_read_at_every_interval() {
        let mut check = value_of(Path::new("/proc/self/loginuid"));
        check.probe(LONG).await;
        assert!(check.watched.is_none());
    }

    /// keepalived 2.2.7 with `init_file 7 overwrite` writes "7\n".
    #[tokio::test(flavor = "multi_thread")]
    async fn the_initial_value_is_written_before_the_first_look() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("value");
        for (initial, content) in [((7, false), "7\n"), ((8, false), "7\n"), ((9, true), "9\n")] {
            let mut check = FileCheck::new(path.clone(), FileExpect::Value, Some(initial), true);
            let value = check.probe(LONG).await.value;
            assert_eq!(std::fs::read_to_string(&path).unwrap(), content);
            assert_eq!(value, content.trim_end().parse().ok());
        }
    }
}
