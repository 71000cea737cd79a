//! Matching on a made-up /proc; real processes with the kernel's events where it gives them.

use std::path::Path;
use std::process::{Child, Command};

use config::ready::ParameterMatch;

use super::*;
use crate::observe::event::EventSender;

fn named(name: &str) -> ProcessProbe {
    ProcessProbe { name: name.to_owned(), quorum: 1, ..ProcessProbe::default() }
}

fn count(proc: &Path, name: &str) -> u32 {
    monitor::count(proc, &named(name))
}

/// Writes what /proc shows of a process.
fn show(proc: &Path, pid: u32, comm: &str, state: char, command_line: &str) {
    let directory = proc.join(pid.to_string());
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(directory.join("stat"), format!("{pid} ({comm}) {state} 1 {pid} {pid} 0 -1\n")).unwrap();
    let mut command_line = command_line.replace(' ', "\0");
    if !command_line.is_empty() {
        command_line.push('\0');
    }
    std::fs::write(directory.join("cmdline"), command_line).unwrap();
}

fn host() -> tempfile::TempDir {
    let proc = tempfile::tempdir().unwrap();
    show(proc.path(), 1, "systemd", 'S', "/sbin/init");
    show(proc.path(), 10, "kube-apiserver", 'S', "/usr/bin/kube-apiserver --v=2");
    show(proc.path(), 11, "kube-controller", 'S', "kube-controller-manager --v=2");
    show(proc.path(), 12, "haproxy", 'S', "/usr/sbin/haproxy -W");
    show(proc.path(), 13, "haproxy", 'R', "/usr/sbin/haproxy -W -sf 12");
    show(proc.path(), 14, "haproxy", 'Z', "");
    show(proc.path(), 15, "odd) S (x", 'S', "odd");
    std::fs::create_dir(proc.path().join("sys")).unwrap();
    proc
}

#[test]
fn counts_by_the_first_15_characters_of_the_name() {
    let proc = host();
    let counts = ["haproxy", "kube-controller-manager", "kube-apiserver", "kube", "odd) S (x"]
        .map(|name| count(proc.path(), name));
    assert_eq!(counts, [2, 1, 1, 0, 1]);
}

#[test]
fn counts_by_the_path_of_argv_0() {
    let proc = host();
    assert_eq!(count(proc.path(), "/usr/sbin/haproxy"), 2);
    assert_eq!(count(proc.path(), "/usr/local/sbin/haproxy"), 0);
    let full = |name: &str| monitor::count(proc.path(), &ProcessProbe { full_command: true, ..named(name) });
    assert_eq!(full("haproxy"), 0);
    assert_eq!(full("kube-controller-manager"), 1);
}

/// keepalived.conf(5): "partial match (i.e. the first n parameters match exactly), or an initial match,
/// i.e. the last parameter may be longer"; without parameters `param_match` means that there are none.
#[test]
fn parameters_are_compared_as_asked() {
    let proc = host();
    let count = |how, parameters: &[&str]| {
        let parameters = parameters.iter().map(|one| (*one).to_owned()).collect();
        let wanted = ProcessProbe { parameters: Some((how, parameters)), ..named("haproxy") };
        monitor::count(proc.path(), &wanted)
    };
    use ParameterMatch::{Exact, Initial, Partial};
    assert_eq!(count(Exact, &["-W"]), 1);
    assert_eq!(count(Exact, &["-W", "-sf", "12"]), 1);
    assert_eq!(count(Exact, &[]), 0);
    assert_eq!(count(Partial, &["-W"]), 2);
    assert_eq!(count(Partial, &["-W", "-s"]), 0);
    assert_eq!(count(Initial, &["-W", "-s"]), 1);
    assert_eq!(count(Initial, &["-"]), 2);
    assert_eq!(count(Initial, &["-x"]), 0);
}

#[test]
fn quorum_bounds_the_count_from_both_sides() {
    let judge =
        |found, quorum, quorum_max| judge(&ProcessProbe { quorum, quorum_max, ..named("haproxy") }, found);
    assert_eq!(judge(1, 1, None), Outcome::success("1 process haproxy"));
    assert_eq!(judge(0, 1, None), Outcome::failure("0 processes haproxy, at least 1 expected"));
    assert_eq!(judge(3, 1, Some(2)), Outcome::failure("3 processes haproxy, at most 2 expected"));
    assert_eq!(judge(0, 1, Some(0)), Outcome::success("0 processes haproxy"));
    assert_eq!(judge(1, 1, Some(0)), Outcome::failure("1 process haproxy, at most 0 expected"));
}

#[test]
fn a_change_that_is_undone_within_its_delay_has_no_effect() {
    let seconds = Duration::from_secs;
    let start = Instant::now();
    let mut quorum = Quorum { gain: seconds(1), lose: seconds(3), ..Quorum::default() };
    let steps =
        [(0, true), (10, false), (12, true), (20, false), (22, false), (23, false), (30, true), (31, true)];
    let settled = steps.map(|(at, there)| quorum.settle(there, start + seconds(at)));
    assert_eq!(settled, [true, true, true, true, true, false, false, true]);
    assert_eq!(quorum.due(), None);
}

/// Killed and buried when it is dropped.
struct Sleeper(Child);

impl Sleeper {
    fn start(directory: &Path, name: &str, seconds: &str) -> Self {
        let program = directory.join(name);
        if !program.exists() {
            // By a program of its own: a child of another thread would hold the file open for writing otherwise, and what
            // is written cannot be run.
            assert!(Command::new("cp").arg("/bin/sleep").arg(&program).status().unwrap().success());
        }
        Self(Command::new(program).arg(seconds).spawn().unwrap())
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

async fn until(count: &mut watch::Receiver<u32>, wanted: u32) {
    let waiting = count.wait_for(|count| *count == wanted);
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect("in time").unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_are_found_at_the_start_and_followed() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("vipd-t{}", std::process::id());
    let before = Sleeper::start(directory.path(), &name, "600");
    let monitor = Monitor::new(EventSender::channel(16).0);
    let wanted = named(&name);
    let watching = Arc::clone(&monitor);
    let mut count = tokio::task::spawn_blocking(move || watching.watch(wanted)).await.unwrap().unwrap();
    until(&mut count, 1).await;
    let second = Sleeper::start(directory.path(), &name, "600");
    until(&mut count, 2).await;
    drop(before);
    until(&mut count, 1).await;
    drop(second);
    until(&mut count, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_changes_its_name_or_program_counts_as_what_it_is_now() {
    let directory = tempfile::tempdir().unwrap();
    let name = format!("vipd-c{}", std::process::id());
    let monitor = Monitor::new(EventSender::channel(16).0);
    let wanted = named(&name);
    let mut count = tokio::task::spawn_blocking(move || monitor.watch(wanted)).await.unwrap().unwrap();
    until(&mut count, 0).await;
    // It takes the name, waits for a file, and becomes another program.
    let go = directory.path().join("go");
    let text = format!(
        "echo -n {name} > /proc/$$/comm; while [ ! -e {} ]; do sleep 0.05; done; exec sleep 600",
        go.display()
    );
    let child = Sleeper(Command::new("/bin/sh").arg("-c").arg(text).spawn().unwrap());
    count.wait_for(|count| *count >= 1).await.unwrap();
    std::fs::write(&go, "").unwrap();
    until(&mut count, 0).await;
    drop(child);
}
