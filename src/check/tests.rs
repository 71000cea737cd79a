//! Checks as the rest of the daemon uses them, and the schedule in simulated time.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use config::ready::{FileExpect, Pace, Process, Target};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::schedule::{BoxFuture, Outcome};
use super::*;
use crate::observe::event::{Event, Kind};
use crate::observe::status::Activity;

fn place(line: u32) -> Place {
    Place { file: "test".into(), line, column: 1 }
}

fn check(name: &str, probe: Probe) -> Check {
    Check {
        name: name.to_owned(),
        place: place(1),
        probe,
        interval: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        rise: 1,
        fall: 2,
        first_result_decides: true,
        pace: config::ready::Pace::default(),
        dial: config::ready::Dial::default(),
        vips: Vec::new(),
    }
}

fn script(text: &str) -> Probe {
    Probe::Script(config::ready::Command {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), text.to_owned()],
        user: None,
        place: place(2),
    })
}

/// Holds a lock of the kernel's as long as any process of the run is alive, and writes `run` at its start;
/// `two at once` when another run still holds it.
fn locked(directory: &Path, text: &str) -> Probe {
    let shown = directory.display();
    script(&format!(
        "exec 9> {shown}/lock; flock -n 9 || {{ echo two at once >> {shown}/log; exit 1; }}; \
         echo run >> {shown}/log; {text}"
    ))
}

fn lines(file: &Path) -> Vec<String> {
    std::fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Waits for what must become true; a minute is for a busy host.
async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_true() {
        assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Changes of health that were told, with what was said.
fn changes(events: &mut mpsc::Receiver<Event>) -> Vec<(String, Health, Health, String)> {
    let mut changes = Vec::new();
    while let Ok(event) = events.try_recv() {
        match event.kind {
            Kind::Check { check, from, to, detail } => changes.push((check, from, to, detail)),
            // A script's other status.
            Kind::Notice { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    changes
}

/// Takes a fixed time for each run, and another until it has settled.
struct Slow {
    takes: Duration,
    settles: Duration,
    starts: Arc<Mutex<Vec<Duration>>>,
    begin: Instant,
    at_a_time: Arc<AtomicU32>,
}

impl Probing for Slow {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(async move {
            assert_eq!(self.at_a_time.fetch_add(1, Ordering::SeqCst), 0);
            self.starts.lock().unwrap().push(self.begin.elapsed());
            tokio::time::sleep(self.takes.min(timeout)).await;
            Outcome::success("done")
        })
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            tokio::time::sleep(self.settles).await;
            self.at_a_time.fetch_sub(1, Ordering::SeqCst);
        })
    }
}

/// When runs started, in milliseconds, and how many were left out.
async fn simulate(check: Check, takes_ms: u64, settles_ms: u64, run_ms: u64) -> (Vec<u128>, u64) {
    let entry = Arc::new(Entry::new(&check, EventSender::channel(1).0, false));
    let starts = Arc::new(Mutex::new(Vec::new()));
    let probe = Slow {
        takes: Duration::from_millis(takes_ms),
        settles: Duration::from_millis(settles_ms),
        starts: Arc::clone(&starts),
        begin: Instant::now(),
        at_a_time: Arc::default(),
    };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(schedule::run(check, Box::new(probe), Arc::clone(&entry), stopped));
    tokio::time::sleep(Duration::from_millis(run_ms)).await;
    stop.send_replace(true);
    task.await.unwrap();
    let starts = starts.lock().unwrap().iter().map(Duration::as_millis).collect();
    (starts, entry.status().skipped)
}

fn every(interval_ms: u64, timeout_ms: u64) -> Check {
    let (interval, timeout) = (Duration::from_millis(interval_ms), Duration::from_millis(timeout_ms));
    let pace = Pace { exact: true, ..Pace::default() };
    Check { interval, timeout, pace, ..check("slow", script("")) }
}

/// Gives these results (`+`, `-`), the last one for ever, and notes when.
struct Scripted {
    results: Vec<bool>,
    starts: Arc<Mutex<Vec<Duration>>>,
    begin: Instant,
}

impl Probing for Scripted {
    fn probe(&mut self, _timeout: Duration) -> BoxFuture<'_, Outcome> {
        let mut starts = self.starts.lock().unwrap();
        let success = self.results[starts.len().min(self.results.len() - 1)];
        starts.push(self.begin.elapsed());
        Box::pin(async move { Outcome { success, ..Outcome::success("said") } })
    }
}

/// When runs with these results start, in milliseconds.
async fn starts_of(check: Check, results: &str, run_ms: u64) -> Vec<u128> {
    let entry = Arc::new(Entry::new(&check, EventSender::channel(64).0, false));
    let starts = Arc::new(Mutex::new(Vec::new()));
    let results = results.chars().map(|result| result == '+').collect();
    let probe = Scripted { results, starts: Arc::clone(&starts), begin: Instant::now() };
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(schedule::run(check, Box::new(probe), entry, stopped));
    tokio::time::sleep(Duration::from_millis(run_ms)).await;
    stop.send_replace(true);
    task.await.unwrap();
    let starts = starts.lock().unwrap();
    starts.iter().map(Duration::as_millis).collect()
}

/// HAProxy's manual: `fastinter` while "transitionally UP", "transitionally DOWN or unchecked", `downinter` while
/// "100% DOWN or unchecked".
#[tokio::test(start_paused = true)]
async fn the_interval_follows_the_state_as_in_haproxy() {
    let pace = Pace {
        fast_interval: Some(Duration::from_millis(500)),
        down_interval: Some(Duration::from_secs(5)),
        exact: true,
        ..Pace::default()
    };
    let check = Check { rise: 2, fall: 3, pace, ..every(2000, 1000) };
    // Up at once; the third failure brings it down, the second success up.
    let starts = starts_of(check, "++---+-+++", 30_000).await;
    assert_eq!(starts[..10], [0, 2000, 4000, 4500, 5000, 10_000, 10_500, 15_500, 16_000, 18_000]);
}

#[tokio::test(start_paused = true)]
async fn intervals_are_spread_by_3_percent_unless_they_are_exact() {
    let tcp = Probe::Tcp { target: Target { host: "127.0.0.1".to_owned(), port: 1 } };
    let check = Check { pace: Pace::default(), probe: tcp, ..every(1000, 1000) };
    let starts = starts_of(check, "+", 200_000).await;
    let gaps: Vec<u128> = starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (969..=1031).contains(gap)), "{gaps:?}");
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(most - least > 40, "{gaps:?}");
}

#[tokio::test(start_paused = true)]
async fn a_first_delay_is_a_random_part_of_it() {
    let mut firsts = Vec::new();
    for _ in 0..40 {
        let pace = Pace { first_delay: Some(Duration::from_secs(10)), exact: true, ..Pace::default() };
        firsts.push(starts_of(Check { pace, ..every(60_000, 1000) }, "+", 11_000).await[0]);
    }
    assert!(firsts.iter().all(|first| *first <= 10_000), "{firsts:?}");
    assert!(firsts.iter().max().unwrap() - firsts.iter().min().unwrap() > 4000, "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn who_hurries_a_check_gets_at_most_one_run_each_fast_interval() {
    let pace = Pace { fast_interval: Some(Duration::from_millis(500)), exact: true, ..Pace::default() };
    let check = Check { pace, ..every(60_000, 1000) };
    let entry = Arc::new(Entry::new(&check, EventSender::channel(64).0, false));
    let starts = Arc::new(Mutex::new(Vec::new()));
    let probe = Scripted { results: vec![true], starts: Arc::clone(&starts), begin: Instant::now() };
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(schedule::run(check, Box::new(probe), Arc::clone(&entry), stopped));
    for _ in 0..200 {
        entry.hurry();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let starts: Vec<u128> = starts.lock().unwrap().iter().map(Duration::as_millis).collect();
    assert_eq!(starts, [0, 500, 1000, 1500]);
}

#[tokio::test(start_paused = true)]
async fn runs_start_at_every_interval_whatever_they_take() {
    assert_eq!(simulate(every(1000, 1000), 900, 0, 3500).await, (vec![0, 1000, 2000, 3000], 0));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_the_whole_interval_leaves_nothing_out() {
    assert_eq!(simulate(every(1000, 1000), 5000, 0, 3500).await, (vec![0, 1000, 2000, 3000], 0));
}

#[tokio::test(start_paused = true)]
async fn a_tick_during_a_run_is_left_out_and_counted() {
    assert_eq!(simulate(every(1000, 5000), 1500, 0, 4500).await, (vec![0, 2000, 4000], 2));
}

/// keepalived 2.2.7, interval 2, timeout 1, a script that ignores SIGTERM: gone 3 s after its start, the
/// run between was left out.
#[tokio::test(start_paused = true)]
async fn a_tick_while_a_run_is_being_ended_is_left_out_and_counted() {
    assert_eq!(simulate(every(2000, 1000), 9000, 2000, 9500).await, (vec![0, 4000, 8000], 2));
}

/// keepalived 2.2.7 calls them idle, running, requested termination and forcing termination; SIGKILL follows 2 s after
/// SIGTERM.
#[tokio::test(start_paused = true)]
async fn what_a_check_does_is_known_at_every_moment() {
    let check = every(10_000, 5000);
    let entry = Arc::new(Entry::new(&check, EventSender::channel(1).0, true));
    let probe = Slow {
        takes: Duration::from_millis(1500),
        settles: Duration::from_millis(3000),
        starts: Arc::default(),
        begin: Instant::now(),
        at_a_time: Arc::default(),
    };
    let (_stop, stopped) = watch::channel(false);
    tokio::spawn(schedule::run(check, Box::new(probe), Arc::clone(&entry), stopped));
    let mut seen = vec![(0, entry.status().activity, entry.status().new_by_reload)];
    for at_ms in [1400, 1600, 3400, 3600, 4600, 10_100] {
        tokio::time::sleep_until(Instant::now() + Duration::from_millis(at_ms - seen[seen.len() - 1].0))
            .await;
        let status = entry.status();
        seen.push((at_ms, status.activity, status.new_by_reload));
    }
    let wanted = [
        (0, Activity::Idle, true),
        (1400, Activity::Running, true),
        (1600, Activity::Ending, false),
        (3400, Activity::Ending, false),
        (3600, Activity::Killed, false),
        (4600, Activity::Idle, false),
        (10_100, Activity::Running, false),
    ];
    assert_eq!(seen, wanted);
}

#[tokio::test(start_paused = true)]
async fn first_runs_are_spread_over_a_twentieth_of_the_interval_and_50_ms_at_most() {
    for (interval_ms, most) in [(200, 10), (10_000, 50)] {
        let mut firsts = Vec::new();
        for number in 0..40 {
            let tcp = Probe::Tcp { target: Target { host: "127.0.0.1".to_owned(), port: 1 } };
            let check = Check { name: format!("backend{number}"), probe: tcp, ..every(interval_ms, 100) };
            let (starts, _) = simulate(check.clone(), 0, 0, 2 * interval_ms - 100).await;
            let first = starts[0];
            assert_eq!(starts, [first, first + u128::from(interval_ms)]);
            assert!(first <= most, "{first} ms of {interval_ms} ms");
            let (again, _) = simulate(check, 0, 0, 100).await;
            assert_eq!(again, [first], "the same at every start");
            firsts.push(first);
        }
        let (least, latest) = (firsts.iter().min().unwrap(), firsts.iter().max().unwrap());
        assert!(latest - least > most / 2, "{firsts:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_longer_than_its_interval_never_runs_twice_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut long = check("long", locked(directory.path(), "sleep 0.1"));
    long.interval = Duration::from_millis(20);
    long.timeout = Duration::from_secs(60);
    let checks = Checks::start(&[long], &Process::default(), EventSender::channel(16).0);
    eventually("three runs", || checks.status()[0].succeeded >= 3).await;
    let status = checks.status().remove(0);
    checks.stop().await;
    // Ticks at 20, 40, 60 and 80 ms fall into each run of at least 100 ms.
    assert!(status.skipped >= 4 * status.succeeded, "{} of {}", status.skipped, status.succeeded);
    assert_eq!(status.failed, 0);
    let log = lines(&directory.path().join("log"));
    assert!(log.len() >= 3 && log.iter().all(|line| line == "run"), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_run_waits_until_the_whole_group_of_one_that_timed_out_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    // The child holds the lock too, and takes its time to go.
    let child = "trap 'sleep 0.1; exit' TERM; while :; do sleep 0.01; done";
    let mut hanging = check("hanging", locked(directory.path(), &format!("({child}) & exec sleep 600")));
    hanging.interval = Duration::from_millis(20);
    hanging.timeout = Duration::from_millis(100);
    let checks = Checks::start(&[hanging], &Process::default(), EventSender::channel(16).0);
    let log = directory.path().join("log");
    eventually("three runs", || lines(&log).len() >= 3).await;
    let status = checks.status().remove(0);
    checks.stop().await;
    assert_eq!((status.health, status.detail.as_str()), (Health::Down, "timed out after 100 ms"));
    assert!(lines(&log).iter().all(|line| line == "run"), "{:?}", lines(&log));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_changes_or_comes_back_waits_for_what_its_former_self_runs() {
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let slow_to_go = "trap 'sleep 0.2; exit' TERM; while :; do sleep 0.01; done";
    let mut script = check("script", locked(directory.path(), slow_to_go));
    script.timeout = Duration::from_secs(600);
    let changed = Check { timeout: Duration::from_secs(700), ..script.clone() };
    let checks =
        Checks::start(std::slice::from_ref(&script), &Process::default(), EventSender::channel(16).0);
    eventually("the first run", || lines(&log).len() == 1).await;
    checks.reload(std::slice::from_ref(&changed), &Process::default());
    eventually("a run of the changed check", || lines(&log).len() == 2).await;
    checks.reload(&[], &Process::default());
    checks.reload(&[script], &Process::default());
    eventually("a run of the check that came back", || lines(&log).len() == 3).await;
    // Ended with the rest although it is not in the configuration any more.
    checks.reload(&[], &Process::default());
    checks.stop().await;
    let lock = std::fs::File::open(directory.path().join("lock")).unwrap();
    nix::fcntl::Flock::lock(lock, nix::fcntl::FlockArg::LockExclusiveNonblock).expect("nobody holds it");
    assert_eq!(lines(&log), ["run", "run", "run"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_and_events_follow_the_target() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target { host: "127.0.0.1".to_owned(), port };
    let mut tcp = check("api", Probe::Tcp { target });
    tcp.interval = Duration::from_millis(20);
    let (events, mut received) = EventSender::channel(16);
    let checks = Checks::start(std::slice::from_ref(&tcp), &Process::default(), events);
    let mut verdicts = checks.subscribe("api").unwrap();
    assert!(checks.subscribe("other").is_none());
    let up = verdicts.wait_for(|verdict| verdict.health == Health::Up).await.unwrap().clone();
    drop(listener);
    let down = verdicts.wait_for(|verdict| verdict.health == Health::Down).await.unwrap().clone();
    assert_eq!((down.detail.as_str(), down.streak), ("connect refused", (2, 2)));
    assert!(down.since > up.since);
    checks.stop().await;
    assert_eq!(
        changes(&mut received),
        [
            ("api".to_owned(), Health::Unknown, Health::Up, "connected".to_owned()),
            ("api".to_owned(), Health::Up, Health::Down, "failed 2 of 2: connect refused".to_owned()),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_sent_when_the_health_changes_and_not_when_the_detail_does() {
    let directory = tempfile::tempdir().unwrap();
    let status = directory.path().join("status");
    let write = |number: u8| {
        let other = directory.path().join("other");
        std::fs::write(&other, number.to_string()).unwrap();
        std::fs::rename(&other, &status).unwrap();
    };
    write(3);
    let mut script = check("script", script(&format!("exit $(cat {})", status.display())));
    script.interval = Duration::from_millis(20);
    script.timeout = Duration::from_secs(60);
    let (events, mut received) = EventSender::channel(16);
    let checks = Checks::start(&[script], &Process::default(), events);
    let mut verdicts = checks.subscribe("script").unwrap();
    for (number, health) in [(3, Health::Down), (4, Health::Down), (0, Health::Up), (5, Health::Down)] {
        write(number);
        let detail = format!("exited with status {number}");
        let said = |verdict: &Verdict| verdict.detail == detail && verdict.health == health;
        verdicts.wait_for(said).await.unwrap();
    }
    checks.stop().await;
    let told: Vec<_> =
        changes(&mut received).into_iter().map(|(_, from, to, detail)| (from, to, detail)).collect();
    let said = |number: u8| format!("exited with status {number}");
    assert_eq!(
        told,
        [
            (Health::Unknown, Health::Down, said(3)),
            (Health::Down, Health::Up, said(0)),
            (Health::Up, Health::Down, format!("failed 2 of 2: {}", said(5))),
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_keeps_what_is_unchanged_and_the_verdict_of_what_is_changed() {
    let (events, mut received) = EventSender::channel(16);
    let file = check(
        "file",
        Probe::File { path: "/proc/self/stat".into(), expect: FileExpect::Exists, initial: None },
    );
    let slow = check("script", script("exit 0"));
    let checks = Checks::start(&[file.clone(), slow.clone()], &Process::default(), events);
    for name in ["file", "script"] {
        let mut verdict = checks.subscribe(name).unwrap();
        verdict.wait_for(|verdict| verdict.health == Health::Up).await.unwrap();
    }
    let succeeded = checks.status()[0].succeeded;
    let moved = Check { place: place(9), ..file.clone() };
    let mut verdict = checks.subscribe("script").unwrap();
    let since = verdict.borrow().since;
    // One failure does not decide yet, so the verdict of the check as it was stays.
    let changed = Check { probe: script("exit 3"), first_result_decides: false, fall: 1000, ..slow };
    checks.reload(&[changed, moved], &Process::default());
    // Unchanged apart from its place: its counters go on. The order is that of the configuration.
    let status = checks.status();
    assert_eq!((status[0].name.as_str(), status[1].name.as_str()), ("script", "file"));
    assert!(succeeded >= 1 && status[1].succeeded >= succeeded);
    let failed = verdict.wait_for(|verdict| verdict.detail == "exited with status 3").await.unwrap().clone();
    assert_eq!((failed.health, failed.since, failed.streak.1), (Health::Up, since, 1000));
    checks.reload(&[], &Process::default());
    assert!(checks.subscribe("file").is_none());
    assert!(checks.status().is_empty());
    verdict.borrow_and_update();
    assert!(verdict.changed().await.is_err(), "a subscriber sees that the check is gone");
    checks.stop().await;
    assert_eq!(changes(&mut received).len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_what_is_running() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let mut hanging = check("hanging", script(&format!("echo $$ > {}; exec sleep 600", pid_file.display())));
    hanging.timeout = Duration::from_secs(600);
    let checks = Checks::start(&[hanging], &Process::default(), EventSender::channel(1).0);
    let read = || std::fs::read_to_string(&pid_file).unwrap_or_default().trim().parse::<u32>().ok();
    eventually("the script has started", || read().is_some()).await;
    let process = format!("/proc/{}", read().unwrap());
    assert!(Path::new(&process).exists());
    checks.stop().await;
    assert!(!Path::new(&process).exists());
}

#[tokio::test]
async fn a_check_that_is_hurried_runs_at_once_and_counts_what_it_finds() {
    let open = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { host: "127.0.0.1".into(), port: open.local_addr().unwrap().port() };
    let mut once = check("once an hour", Probe::Tcp { target });
    once.interval = Duration::from_secs(3600);
    let (events, _receiver) = EventSender::channel(10);
    let checks = Checks::start(&[once], &Process::default(), events);
    let mut subject = checks.follow("once an hour").unwrap();
    subject.pulse.wait_for(|pulse| pulse.runs == 1).await.unwrap();
    subject.hurry();
    subject.pulse.wait_for(|pulse| *pulse == Pulse { runs: 2, good: 2, rise: 1 }).await.unwrap();
    drop(open);
    subject.hurry();
    subject.pulse.wait_for(|pulse| *pulse == Pulse { runs: 3, good: 0, rise: 1 }).await.unwrap();
    subject.hurry();
    subject.verdict.wait_for(|verdict| verdict.health == Health::Down).await.unwrap();
    checks.stop().await;
}
