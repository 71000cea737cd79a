//! Checks as the rest of the daemon uses them, and the schedule in simulated time.

use std::sync::atomic::{AtomicU32, Ordering};

use config::ready::{FileExpect, Target};
use tokio::time::Instant;

use super::schedule::{BoxFuture, Outcome};
use super::*;
use crate::observe::event::Kind;

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

/// Takes a fixed time for each run and always succeeds.
struct Slow {
    takes: Duration,
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
            self.at_a_time.fetch_sub(1, Ordering::SeqCst);
            Outcome::success("done")
        })
    }
}

async fn starts(takes_ms: u64, timeout_ms: u64, run_ms: u64) -> (Vec<u128>, u64) {
    let mut check = check("slow", script(""));
    check.timeout = Duration::from_millis(timeout_ms);
    let entry = Arc::new(Entry::new(&check, EventSender::channel(1).0));
    let starts = Arc::new(Mutex::new(Vec::new()));
    let probe = Slow {
        takes: Duration::from_millis(takes_ms),
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

#[tokio::test(start_paused = true)]
async fn runs_start_at_every_interval_whatever_they_take() {
    assert_eq!(starts(900, 1000, 3500).await, (vec![0, 1000, 2000, 3000], 0));
}

#[tokio::test(start_paused = true)]
async fn a_tick_during_a_run_is_left_out_and_counted() {
    assert_eq!(starts(1500, 5000, 4500).await, (vec![0, 2000, 4000], 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn verdicts_and_events_follow_the_target() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let target = Target { host: "127.0.0.1".to_owned(), port };
    let mut tcp = check("api", Probe::Tcp { target });
    tcp.interval = Duration::from_millis(20);
    let (events, mut received) = EventSender::channel(16);
    let checks = Checks::start(std::slice::from_ref(&tcp), events);
    let mut verdicts = checks.subscribe("api").unwrap();
    assert!(checks.subscribe("other").is_none());
    verdicts.wait_for(|verdict| verdict.health == Health::Up).await.unwrap();
    drop(listener);
    let down = verdicts.wait_for(|verdict| verdict.health == Health::Down).await.unwrap().clone();
    assert_eq!((down.detail.as_str(), down.streak), ("connect refused", (2, 2)));
    checks.stop().await;
    let mut changes = Vec::new();
    while let Ok(event) = received.try_recv() {
        if let Kind::Check { from, to, .. } = event.kind {
            changes.push((from, to));
        }
    }
    assert_eq!(changes, [(Health::Unknown, Health::Up), (Health::Up, Health::Down)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn reload_keeps_what_is_unchanged_and_the_verdict_of_what_is_changed() {
    let (events, _received) = EventSender::channel(16);
    let file = check("file", Probe::File { path: "/proc/self/stat".into(), expect: FileExpect::Exists });
    let slow = check("script", script("exit 0"));
    let checks = Checks::start(&[file.clone(), slow.clone()], events);
    for name in ["file", "script"] {
        let mut verdict = checks.subscribe(name).unwrap();
        verdict.wait_for(|verdict| verdict.health == Health::Up).await.unwrap();
    }
    let moved = Check { place: place(9), ..file.clone() };
    let mut verdict = checks.subscribe("script").unwrap();
    checks.reload(&[Check { probe: script("exit 3"), ..slow }, moved]);
    // Unchanged apart from its place: its counters go on. The order is that of the configuration.
    let status = checks.status();
    assert_eq!((status[0].name.as_str(), status[1].name.as_str()), ("script", "file"));
    assert!(status[1].succeeded >= 1);
    assert_ne!(verdict.borrow().health, Health::Unknown);
    verdict.wait_for(|verdict| verdict.detail == "exited with status 3").await.unwrap();
    checks.reload(&[]);
    assert!(checks.subscribe("file").is_none());
    checks.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stop_ends_what_is_running() {
    let directory = tempfile::tempdir().unwrap();
    let pid_file = directory.path().join("pid");
    let mut hanging = check("hanging", script(&format!("echo $$ > {}; exec sleep 600", pid_file.display())));
    hanging.timeout = Duration::from_secs(600);
    let checks = Checks::start(&[hanging], EventSender::channel(1).0);
    let pid = loop {
        if let Ok(pid) = std::fs::read_to_string(&pid_file).unwrap_or_default().trim().parse::<u32>() {
            break pid;
        }
        tokio::task::yield_now().await;
    };
    checks.stop().await;
    assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists());
}
