//! `vipd demo`, as a stranger runs it. Needs network namespaces: root, or user namespaces.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The demo promises 30 seconds; starting a debug build on a busy machine takes its part.
const LONGEST: Duration = Duration::from_secs(40);

/// `NETNS_TESTS=skip` is for hosts that have no namespaces; everywhere else they fail without.
fn skipped() -> bool {
    std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip")
}

/// A demo whose directory is inside `tmp`.
fn demo(tmp: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vipd"));
    command.arg("demo").env("TMPDIR", tmp).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    command
}

fn finished(mut child: Child, limit: Duration) -> Output {
    let deadline = Instant::now() + limit;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            panic!("still running after {limit:?}: {}", String::from_utf8_lossy(&output.stdout));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

/// Processes whose arguments name `tmp`: the daemons of a demo, which have their files there.
fn daemons(tmp: &Path) -> usize {
    let needle = tmp.to_str().unwrap().as_bytes();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    lines.filter(|line| line.windows(needle.len()).any(|window| window == needle)).count()
}

fn wait_until(what: &str, limit: Duration, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !seen() {
        assert!(Instant::now() < deadline, "not seen in {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn every_act_is_played_and_reported_and_nothing_is_left() {
    if skipped() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut output = finished(demo(tmp.path()).spawn().unwrap(), LONGEST);
    // On a computer that says itself that it was too busy, it may be played again.
    for _ in 0..2 {
        if output.status.code() == Some(1)
            && String::from_utf8_lossy(&output.stdout).contains("Busy computer")
        {
            output = finished(demo(tmp.path()).spawn().unwrap(), LONGEST);
        }
    }
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{text}{errors}");
    let (story, report) = text.split_once("What the client saw").expect("a report");
    for act in 1..=6 {
        assert!(story.contains(&format!("act {act}: ")), "act {act}: {story}");
        assert!(report.lines().any(|line| line.starts_with(&format!(" {act} "))), "act {act}: {report}");
    }
    for line in
        ["lb1     backup -> active: no advert from anybody for 0.32", "lb2     active -> backup: 10.77.0.11"]
    {
        assert!(story.contains(line), "{line}: {story}");
    }
    assert!(story.contains("lb2     backup -> active: 10.77.0.11 gave up (priority 0)"), "{story}");
    assert!(report.contains("Every promise was kept."), "{report}");
    assert!(!text.contains('\x1b'), "escape sequences in a pipe");
    assert_eq!(daemons(tmp.path()), 0);
    assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "files are left");
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    if skipped() {
        return;
    }
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let tmp = tempfile::tempdir().unwrap();
        let child = demo(tmp.path()).spawn().unwrap();
        wait_until("two daemons", Duration::from_secs(20), || daemons(tmp.path()) >= 2);
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        let output = finished(child, Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
        wait_until("the end of the daemons", Duration::from_secs(5), || daemons(tmp.path()) == 0);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0, "files are left");
    }
}

#[test]
fn the_daemons_die_with_a_demo_that_is_killed() {
    if skipped() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut child = demo(tmp.path()).spawn().unwrap();
    wait_until("two daemons", Duration::from_secs(20), || daemons(tmp.path()) >= 2);
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until("the end of the daemons", Duration::from_secs(5), || daemons(tmp.path()) == 0);
}

#[test]
fn a_reader_that_has_seen_enough_does_not_stop_the_play() {
    if skipped() {
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let mut child = demo(tmp.path()).spawn().unwrap();
    drop(child.stdout.take());
    wait_until("two daemons", Duration::from_secs(20), || daemons(tmp.path()) >= 2);
    kill(Pid::from_raw(child.id().try_into().unwrap()), Signal::SIGINT).unwrap();
    let output = finished(child, Duration::from_secs(10));
    assert_eq!(output.status.code(), Some(130), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The limit belongs to the user namespace that is made for the test, not to the host.
#[test]
fn where_user_namespaces_are_forbidden_it_says_which_setting_and_how_to_change_it() {
    if skipped() {
        return;
    }
    let forbid = "echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all --inh-caps=-all \"$0\" demo";
    let output = Command::new("unshare")
        .args(["-Ur", "sh", "-c", forbid, env!("CARGO_BIN_EXE_vipd")])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in ["cannot create a user namespace", "sudo vipd demo", "sudo sysctl user.max_user_namespaces="]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
}
