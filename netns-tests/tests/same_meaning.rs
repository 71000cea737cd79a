//! A configuration means to vipd what it means to keepalived.
//!
//! Each configuration of the corpus (`VIPD_CORPUS`) and of `same_meaning/` is given to a running keepalived
//! 2.2.7; its data dump is compared with what vipd made of the same file, fact by fact. What differs on
//! purpose is listed with its reason in `same_meaning/deliberate.rs`; an entry that matches nothing fails
//! too.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use config::LoadOptions;
use netns_tests::dump::{self, Facts};
use netns_tests::reference::{self, Names, Verdict};
use netns_tests::{enabled, meaning};

#[path = "same_meaning/deliberate.rs"]
mod deliberate;

/// Files at a time.
const WORKERS: usize = 3;

/// The loop of seq2.conf.
const MANY: &str = "~SEQ(ID,1,250)";

/// What became of a file.
enum Outcome {
    Same(usize),
    /// keepalived does not run it; whether we do.
    NotRun {
        how: String,
        loads: bool,
    },
    Different(Vec<Difference>),
}

/// One fact that differs.
struct Difference {
    object: String,
    field: String,
    keepalived: String,
    vipd: String,
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && !path.extension().is_some_and(|e| e == "tsv" || e == "rs"))
        .collect();
    files.sort();
    files
}

fn options() -> LoadOptions {
    LoadOptions { judge_scripts: true, ..LoadOptions::default() }
}

/// Compares the two on one file.
fn compare(file: &Path) -> Outcome {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    if text.contains("lvs_sync_daemon") && !text.contains("include") {
        // keepalived needs the kernel's load balancing for it, which is not looked at here.
        let lines: Vec<_> = text
            .lines()
            .map(|l| if l.trim_start().starts_with("lvs_sync_daemon") { "" } else { l })
            .collect();
        return compare_copy(file, &lines.join("\n"));
    }
    // 2000 instances with a VMAC each take keepalived minutes; 200 say the same. All of them when it is asked for.
    if text.contains(MANY) && std::env::var_os("VIPD_SAME").is_none() {
        return compare_copy(file, &text.replace(MANY, "~SEQ(ID,1,25)"));
    }
    compare_as_it_is(file, &text)
}

fn compare_copy(file: &Path, text: &str) -> Outcome {
    let folder = tempfile::Builder::new().tempdir_in("/var/tmp").unwrap();
    let copy = folder.path().join(file.file_name().unwrap());
    std::fs::write(&copy, text).unwrap();
    compare_as_it_is(&copy, text)
}

fn compare_as_it_is(file: &Path, text: &str) -> Outcome {
    let names = Names::of(text, config::load(&[file], &options()).config.as_ref());
    let (verdict, ours, findings) = reference::in_namespaces(&names, || {
        let loaded = config::load(&[file], &options());
        let findings: Vec<_> = loaded
            .diagnostics
            .iter()
            .filter(|d| d.severity == config::diagnostic::Severity::Error)
            .map(|d| format!("{}: {}", d.code, d.message))
            .collect();
        let ours = loaded.config.map(|mut config| {
            // keepalived is asked with `-P`.
            config.leave_out_listeners();
            meaning::facts(&config)
        });
        (reference::ask(file).expect("keepalived can be started"), ours, findings)
    });
    let theirs = match verdict {
        Verdict::Loaded(dump) => dump::parse(&dump),
        Verdict::Nothing
            if ours.as_ref().is_some_and(|o| !o.contains_key(&("order".into(), "instance".into()))) =>
        {
            return Outcome::Same(0);
        }
        Verdict::Nothing => Facts::new(),
        Verdict::Refused(why) => {
            return Outcome::NotRun { how: format!("ends: {why}"), loads: ours.is_some() };
        }
        Verdict::Crashed => return Outcome::NotRun { how: "crashes".into(), loads: ours.is_some() },
        Verdict::Hung(log) => {
            println!("{}: keepalived hangs after saying\n{log}", file.display());
            return Outcome::NotRun { how: "hangs".into(), loads: ours.is_some() };
        }
    };
    match ours {
        Some(ours) => {
            let found = differences(&theirs, &ours);
            if found.is_empty() { Outcome::Same(theirs.len()) } else { Outcome::Different(found) }
        }
        None => Outcome::Different(vec![Difference {
            object: "file".into(),
            field: "verdict".into(),
            keepalived: "runs".into(),
            vipd: findings.join("; "),
        }]),
    }
}

fn differences(theirs: &Facts, ours: &Facts) -> Vec<Difference> {
    let keys: BTreeSet<_> = theirs.keys().chain(ours.keys()).collect();
    let show = |facts: &Facts, key| facts.get(key).map_or_else(|| "–".to_owned(), |v| v.join(" | "));
    let mut found = Vec::new();
    for key in keys {
        if theirs.get(key) != ours.get(key) {
            found.push(Difference {
                object: key.0.clone(),
                field: key.1.clone(),
                keepalived: show(theirs, key),
                vipd: show(ours, key),
            });
        }
    }
    found
}

/// Goes through all files, and fails on what differs without a reason.
fn all_the_same(files: &[PathBuf]) {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                while let Some(file) = files.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let started = Instant::now();
                    let outcome = compare(file);
                    let took = started.elapsed();
                    if took > Duration::from_secs(10) {
                        println!("{}: took {took:?}", file.display());
                    }
                    done.lock()
                        .unwrap()
                        .insert(file.file_name().unwrap().to_string_lossy().into_owned(), outcome);
                }
            });
        }
    });
    let done = done.into_inner().unwrap();
    let mut used = BTreeSet::new();
    let (mut same, mut facts, mut wrong, mut accepted) = (0, 0, 0, 0);
    for (file, outcome) in &done {
        match outcome {
            Outcome::Same(count) => {
                same += 1;
                facts += count;
            }
            Outcome::NotRun { how, loads } => {
                println!("{file}. keepalived {how}; vipd {}", if *loads { "runs" } else { "refuses it" });
            }
            Outcome::Different(found) => {
                for difference in found {
                    let Difference { object, field, keepalived, vipd } = difference;
                    if let Some(entry) = deliberate::find(file, object, field, keepalived, vipd) {
                        used.insert(entry);
                        accepted += 1;
                        continue;
                    }
                    wrong += 1;
                    println!(
                        "{file}: {object}: {field}\n    keepalived: {keepalived}\n    vipd:       {vipd}"
                    );
                }
            }
        }
    }
    println!(
        "{} files, {same} the same ({facts} facts), {accepted} deliberate differences, {wrong} others",
        done.len()
    );
    assert_eq!(wrong, 0, "differences without a reason");
    for (number, entry) in deliberate::DELIBERATE.iter().enumerate() {
        let here = entry.file.is_some_and(|file| done.contains_key(file));
        assert!(!here || used.contains(&number), "{:?} no longer differs: {}", entry.file, entry.reason);
    }
}

/// `VIPD_SAME` chooses files by a part of their name.
fn chosen(files: Vec<PathBuf>) -> Vec<PathBuf> {
    let Ok(part) = std::env::var("VIPD_SAME") else { return files };
    files.into_iter().filter(|f| f.to_string_lossy().contains(&part)).collect()
}

#[test]
fn corpus_means_the_same() {
    let corpus = match std::env::var("VIPD_CORPUS") {
        Ok(skip) if skip == "skip" => return,
        Ok(folder) => PathBuf::from(folder),
        Err(_) => panic!("VIPD_CORPUS must name the folder of the corpus (or be `skip` to leave it out)"),
    };
    if enabled(&["keepalived", "setpriv", "unshare"]) {
        let all = ["maintainer", "wild/keepalived"].iter().flat_map(|f| files(&corpus.join(f))).collect();
        all_the_same(&chosen(all));
    }
}

#[test]
fn hard_cases_mean_the_same() {
    if enabled(&["keepalived", "setpriv", "unshare"]) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/same_meaning");
        all_the_same(&chosen(files(&folder)));
    }
}
