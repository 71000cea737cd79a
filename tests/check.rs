//! `vipd check`: everything wrong at once, each problem at its place, no file that hurts.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The release build needs far less; a debug build on a busy machine gets this.
const LONGEST_CHECK: Duration = Duration::from_millis(if cfg!(debug_assertions) { 2000 } else { 100 });

const GOOD: &str = "\
vrrp_instance VI_1 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 100
    virtual_ipaddress {
        10.99.0.100
    }
}
";

/// Four problems, in lines 2, 4, 5 and 7.
const BAD: &str = "\
vrrp_instance VI_1 {
    stat BACKUP
    interface eth0
    virtual_router_id 300
    priority 1000
    virtual_ipaddress {
        10.99.0.1111
    }
}
";

fn check(arguments: &[&str], file: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vipd")).arg("check").args(arguments).arg(file).output().unwrap()
}

fn findings(file: &Path) -> (Option<i32>, Value) {
    let output = check(&["--format", "json"], file);
    let json = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| {
        panic!("{}: {error}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    });
    (output.status.code(), json)
}

fn written(name: &str, text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(name);
    fs::write(&path, text).unwrap();
    (directory, path)
}

#[test]
fn a_good_file_is_no_problem() {
    let (_directory, path) = written("keepalived.conf", GOOD);
    let output = check(&["--elsewhere"], &path);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: no problems\n", path.display()));
}

#[test]
fn every_problem_of_a_bad_file_is_listed_at_its_place() {
    let (_directory, path) = written("keepalived.conf", BAD);
    let (code, json) = findings(&path);
    assert_eq!(code, Some(1), "{json:#}");
    let found = json["findings"].as_array().unwrap();
    assert!(json["errors"].as_u64().unwrap() >= 1, "{json:#}");
    for line in [2, 4, 5, 7] {
        let here = found.iter().filter(|f| f["line"] == line).count();
        assert!(here >= 1, "nothing in line {line}: {json:#}");
    }
    for finding in found {
        assert_eq!(finding["file"], path.display().to_string());
        assert!(finding["column"].as_u64().unwrap() >= 1, "{finding:#}");
        assert!(!finding["message"].as_str().unwrap().is_empty(), "{finding:#}");
    }
}

#[test]
fn people_see_the_source_line_and_the_place() {
    let (_directory, path) = written("keepalived.conf", BAD);
    let output = check(&[], &path);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("virtual_router_id 300"), "{text}");
    assert!(text.contains(&format!("{}:4:", path.display())), "{text}");
    assert!(!text.contains('\x1b'), "no colours into a pipe: {text}");
}

#[test]
fn a_missing_file_is_an_error_that_names_it() {
    let (code, json) = findings(Path::new("/nonexistent/vipd.conf"));
    assert_eq!(code, Some(1));
    assert_eq!(json["findings"][0]["file"], "/nonexistent/vipd.conf");
}

#[test]
fn a_missing_interface_is_a_warning_here_and_nothing_elsewhere() {
    let (_directory, path) =
        written("keepalived.conf", &GOOD.replace("interface eth0", "interface nosuchif0"));
    let (code, json) = findings(&path);
    assert_eq!(code, Some(0), "{json:#}");
    assert!(json.to_string().contains("nosuchif0"), "{json:#}");
    let output = check(&["--elsewhere"], &path);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{}: no problems\n", path.display()));
}

/// A master of priority 150 whose check takes off 20, and a backup of 100.
#[test]
fn a_weight_that_moves_nothing_is_told_when_the_peer_is_known() {
    let instance = |priority| {
        let tracked = GOOD.replace(
            "priority 100",
            &format!("priority {priority}\n    track_script {{\n        up\n    }}"),
        );
        format!("vrrp_script up {{\n    script /bin/true\n    weight -20\n}}\n{tracked}")
    };
    let (_here, path) = written("lb1.conf", &instance(150));
    let (_there, peer) = written("lb2.conf", &instance(100));
    let alone = check(&["--elsewhere", "--format", "json"], &path);
    assert!(!String::from_utf8_lossy(&alone.stdout).contains("weight-moves-nothing"));
    let peer = format!("lb2={}", peer.display());
    let output = check(&["--elsewhere", "--json", "--peer", &peer], &path);
    assert_eq!(output.status.code(), Some(0), "a warning is no failure");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = json["findings"].as_array().unwrap();
    let finding =
        found.iter().find(|f| f["code"] == "weight-moves-nothing").unwrap_or_else(|| panic!("{json:#}"));
    assert_eq!((&finding["line"], &finding["file"]), (&11.into(), &path.display().to_string().into()));
    assert_eq!(finding["expected"], "weights that take off more than 50");
    assert!(finding["help"].as_str().is_some_and(|help| !help.is_empty()), "{finding:#}");
}

#[test]
fn a_peer_that_cannot_run_is_an_error_at_its_place() {
    let (_here, path) = written("lb1.conf", GOOD);
    let (_there, peer) = written("lb2.conf", BAD);
    let output = check(&["--elsewhere", "--format", "json", "--peer", peer.to_str().unwrap()], &path);
    assert_eq!(output.status.code(), Some(1));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    for finding in json["findings"].as_array().unwrap() {
        assert_eq!(
            (&finding["severity"], &finding["file"]),
            (&"error".into(), &peer.display().to_string().into())
        );
    }
}

#[test]
fn scripts_are_judged_as_the_daemon_judges_them() {
    let missing = GOOD.replace(
        "priority 100",
        "priority 100\n    notify_stop /nonexistent/told\n    track_script {\n        up\n    }",
    );
    let text = format!("vrrp_script up {{\n    script /nonexistent/asked\n}}\n{missing}");
    let (_directory, path) = written("keepalived.conf", &text);
    let (code, json) = findings(&path);
    assert_eq!(code, Some(0), "{json:#}");
    let told: Vec<_> = json["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|finding| finding["code"] == "script-missing")
        .map(|finding| (finding["line"].as_u64().unwrap(), finding["help"].as_str().unwrap()))
        .collect();
    assert_eq!(told, [(2, "it is left out, as in keepalived"), (9, "it cannot be run until it is there")]);
}

fn timed(file: &Path) -> (Duration, (Option<i32>, Value)) {
    let started = Instant::now();
    let found = findings(file);
    (started.elapsed(), found)
}

/// Every keepalived configuration below `VIPD_CORPUS` (a directory with `maintainer` and `wild/keepalived`), if
/// there is one; our own examples always. With the limit of the release build:
/// `VIPD_CORPUS=DIR cargo test --release --test check`.
#[test]
fn no_file_of_the_corpus_makes_it_panic_hang_or_complain_without_a_place() {
    let mut files = vec![written("keepalived.conf", GOOD), written("keepalived.conf", BAD)]
        .into_iter()
        .map(|(directory, path)| (Some(directory), path))
        .collect::<Vec<_>>();
    let corpus = std::env::var_os("VIPD_CORPUS").filter(|value| value != "skip").map(PathBuf::from);
    if let Some(corpus) = corpus {
        let before = files.len();
        for directory in ["maintainer", "wild/keepalived"] {
            let entries = fs::read_dir(corpus.join(directory)).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
            files.extend(
                paths.filter(|path| path.extension().is_none_or(|e| e != "tsv")).map(|path| (None, path)),
            );
        }
        assert!(files.len() > before + 100, "VIPD_CORPUS holds only {} files", files.len() - before);
    }
    let mut slowest = (Duration::ZERO, PathBuf::new());
    for (_directory, path) in &files {
        let (mut took, mut found) = timed(path);
        // Other work on the machine is not what is measured: two more chances.
        for _ in 0..2 {
            if took >= LONGEST_CHECK {
                (took, found) = timed(path);
            }
        }
        let (code, json) = found;
        let name = path.display();
        assert!(took < LONGEST_CHECK, "{name}: took {took:?}");
        let errors = json["errors"].as_u64().unwrap();
        assert_eq!(code, Some(i32::from(errors > 0)), "{name}: {errors} errors");
        for finding in json["findings"].as_array().unwrap() {
            let placed = finding["line"].as_u64() >= Some(1) && finding["column"].as_u64() >= Some(1);
            assert!(
                placed && !finding["file"].as_str().unwrap_or_default().is_empty(),
                "{name}: {finding:#}"
            );
        }
        if took > slowest.0 {
            slowest = (took, path.clone());
        }
    }
    println!("{} files, the slowest in {:?}: {}", files.len(), slowest.0, slowest.1.display());
}
