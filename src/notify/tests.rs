//! Real scripts, real FIFOs.

mod bus;

use std::path::Path;
use std::time::SystemTime;

use config::ready::{Command, Control, Fifo, Place};
use tokio::time::Instant;

use super::keepalived::Who;
use super::script::Scripts;
use super::teller::Known;
use super::*;
use crate::observe::event::{Fault, Kind, Reason, State};

fn place() -> Place {
    Place { file: "test".into(), line: 1, column: 1 }
}

/// Appends a line to `log`: the word, and the arguments that it gets.
fn logger(log: &Path, word: &str) -> Box<Command> {
    let text = format!("echo \"{word} $*\" >> {}", log.display());
    Box::new(Command {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), text, "sh".to_owned()],
        user: None,
        place: place(),
    })
}

fn fifo(path: &Path, script: Option<Box<Command>>) -> Config {
    let control = Control { socket: "/nonexistent".into(), metrics: None, web: None };
    Config {
        fifos: vec![Fifo { path: path.to_owned(), script, user: None, place: place() }],
        ..Config::empty("test".to_owned(), control)
    }
}

async fn teller(notify: config::ready::Notify, config: &Config) -> Teller {
    let mut teller = Teller::new(Arc::default());
    teller.take_on(config).await;
    let known = Known {
        priority_changes: notify.priority_changes,
        scripts: Scripts::prepare(&notify, false).await,
        mail: false,
        gone: false,
        last: None,
        priority: 0,
    };
    teller.known.insert(v1(), known);
    teller
}

fn v1() -> (Who, String) {
    (Who::Instance, "V1".to_owned())
}

fn transition(from: State, to: State, reason: Reason) -> Kind {
    Kind::Transition { instance: "V1".to_owned(), from, to, reason, priority: 100 }
}

fn became_active() -> Kind {
    let reason = Reason::ActiveDown { peer: None, silence: Duration::from_secs(3) };
    transition(State::Backup, State::Active, reason)
}

fn read(path: &Path) -> String {
    use std::io::Read;
    use std::os::unix::fs::OpenOptionsExt;
    let mut pipe =
        std::fs::File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path).unwrap();
    let mut buffer = [0; 4096];
    let length = pipe.read(&mut buffer).unwrap_or(0);
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn state_script_gets_its_own_arguments_and_notify_gets_four_more() {
    let directory = tempfile::tempdir().unwrap();
    let (log, pipe) = (directory.path().join("log"), directory.path().join("fifo"));
    let notify = config::ready::Notify {
        any: Some(logger(&log, "any")),
        master: Some(logger(&log, "master")),
        ..Default::default()
    };
    let mut teller = teller(notify, &fifo(&pipe, None)).await;
    teller.tell(&became_active());
    assert_eq!(read(&pipe), "INSTANCE \"V1\" MASTER 100\n");
    teller.started.wait(Duration::from_secs(60)).await;
    let log = std::fs::read_to_string(&log).unwrap();
    let mut lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    // They overlap, so their order is open.
    lines.sort_unstable();
    assert_eq!(lines, ["any INSTANCE V1 MASTER 100", "master"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_is_told_once_in_words_of_keepalived() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("fifo");
    let mut teller = teller(Default::default(), &fifo(&pipe, None)).await;
    let unknown = Reason::Fault { faults: vec![Fault::CheckUnknown { check: "c1".to_owned() }] };
    let down = Reason::Fault { faults: vec![Fault::InterfaceDown { interface: "eth0".to_owned() }] };
    teller.tell(&transition(State::Initialize, State::Fault, unknown));
    assert_eq!(read(&pipe), "", "waiting for the first result is silent");
    teller.tell(&transition(State::Fault, State::Backup, Reason::FaultCleared));
    teller.tell(&became_active());
    teller.tell(&transition(State::Active, State::Fault, down.clone()));
    teller.tell(&transition(State::Fault, State::Fault, down));
    teller.tell(&transition(State::Fault, State::Initialize, Reason::Stopped));
    assert_eq!(
        read(&pipe),
        "INSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" MASTER 100\nINSTANCE \"V1\" FAULT 100\n\
         INSTANCE \"V1\" STOP 100\n"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn priority_changes_are_told_only_where_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("fifo");
    let mut teller = teller(Default::default(), &fifo(&pipe, None)).await;
    let change = Kind::Priority {
        instance: "V1".to_owned(),
        state: State::Active,
        from: 100,
        to: 120,
        because: String::new(),
    };
    teller.tell(&change);
    assert_eq!(read(&pipe), "");
    teller.known.get_mut(&v1()).unwrap().priority_changes = true;
    teller.tell(&change);
    assert_eq!(read(&pipe), "INSTANCE \"V1\" MASTER_PRIORITY 120\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_advert_of_lower_priority_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let (log, pipe) = (directory.path().join("log"), directory.path().join("fifo"));
    let notify =
        config::ready::Notify { master_rx_lower_priority: Some(logger(&log, "lower")), ..Default::default() };
    let mut teller = teller(notify, &fifo(&pipe, None)).await;
    let peer = "10.0.0.2".parse().unwrap();
    teller.tell(&Kind::LowerPriorityAdvert { instance: "V1".to_owned(), peer, theirs: 90, ours: 100 });
    assert_eq!(read(&pipe), "INSTANCE \"V1\" MASTER_RX_LOWER_PRI 100\n");
    teller.started.wait(Duration::from_secs(60)).await;
    assert_eq!(std::fs::read_to_string(&log).unwrap().trim_end(), "lower");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_removed_by_reload_is_deleted_where_that_is_notified_and_fault_elsewhere() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("fifo");
    let config = fifo(&pipe, None);
    let log = directory.path().join("log");
    let script = || Some(logger(&log, "deleted"));
    for (deleted, tells_deleted, word) in
        [(None, false, "FAULT"), (None, true, "DELETED"), (script(), true, "DELETED")]
    {
        let notify = config::ready::Notify { deleted, tells_deleted, ..Default::default() };
        let mut teller = teller(notify, &config).await;
        teller.take_on(&config).await;
        teller.tell(&transition(State::Backup, State::Initialize, Reason::Stopped));
        assert_eq!(read(&pipe), format!("INSTANCE \"V1\" {word} 100\n"));
        teller.stop().await;
    }
    assert_eq!(std::fs::read_to_string(&log).unwrap().trim_end(), "deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn fifo_script_reads_what_was_told_until_the_stop_and_the_pipe_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let (log, pipe) = (directory.path().join("log"), directory.path().join("fifo"));
    let mut script = logger(&log, "");
    script.arguments[1] = format!("trap '' TERM; read -r line < \"$1\"; echo \"$line\" >> {}", log.display());
    let config = fifo(&pipe, Some(script));
    let (sender, events) = broadcast::channel(16);
    let notifier = Notifier::start(&config, events);
    // The instance is not in the configuration: nothing is told, and nothing breaks.
    sender.send(Arc::new(Event { at: SystemTime::now(), kind: became_active() })).unwrap();
    notifier.stop().await;
    assert!(!pipe.exists());

    let mut teller = teller(Default::default(), &config).await;
    teller.tell(&became_active());
    teller.stop().await;
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "INSTANCE \"V1\" MASTER 100\n");
    assert!(!pipe.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_lines_are_counted_and_nothing_waits() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("fifo");
    let mut teller = teller(Default::default(), &fifo(&pipe, None)).await;
    let line = "x".repeat(4000);
    while teller.lost.load(Ordering::Relaxed) < 3 {
        teller.write(&line);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_that_hangs_holds_the_stop_for_one_second_at_most() {
    let directory = tempfile::tempdir().unwrap();
    let mut sleeper = logger(&directory.path().join("log"), "");
    sleeper.program = "/bin/sleep".into();
    sleeper.arguments = vec!["20".to_owned()];
    let notify = config::ready::Notify { stop: Some(sleeper), ..Default::default() };
    let mut teller = teller(notify, &fifo(&directory.path().join("fifo"), None)).await;
    teller.tell(&transition(State::Backup, State::Initialize, Reason::Stopped));
    let start = Instant::now();
    teller.stop().await;
    assert!(start.elapsed() >= STOP_TIME);
    assert!(start.elapsed() < Duration::from_secs(20));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_told_without_priority_and_after_what_came_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (log, pipe) = (directory.path().join("log"), directory.path().join("fifo"));
    let notify = config::ready::Notify {
        any: Some(logger(&log, "any")),
        fault: Some(logger(&log, "fault")),
        ..Default::default()
    };
    let group = config::ready::SyncGroup {
        name: "G1".to_owned(),
        members: vec!["V1".to_owned()],
        track_checks: Vec::new(),
        track_interfaces: Vec::new(),
        track_bfd: Vec::new(),
        tracking_weight: false,
        notify,
        smtp_alert: false,
        place: place(),
    };
    let config = Config { sync_groups: vec![group], ..fifo(&pipe, None) };
    let mut teller = teller(Default::default(), &config).await;
    let down = Reason::Fault { faults: vec![Fault::InterfaceDown { interface: "eth0".to_owned() }] };
    let group = |to, reason| Kind::Group { group: "G1".to_owned(), from: State::Initialize, to, reason };
    teller.tell(&group(State::Backup, Reason::Started));
    teller.tell(&transition(State::Initialize, State::Backup, Reason::Started));
    teller.tell(&transition(State::Backup, State::Fault, down.clone()));
    teller.tell(&group(State::Fault, down));
    teller.tell(&group(State::Initialize, Reason::Stopped));
    assert_eq!(
        read(&pipe),
        "GROUP \"G1\" BACKUP 0\nINSTANCE \"V1\" BACKUP 100\nINSTANCE \"V1\" FAULT 100\n\
         GROUP \"G1\" FAULT 0\nGROUP \"G1\" STOP 0\n"
    );
    teller.started.wait(Duration::from_secs(60)).await;
    let log = std::fs::read_to_string(&log).unwrap();
    let mut lines: Vec<&str> = log.lines().map(str::trim_end).collect();
    lines.sort_unstable();
    assert_eq!(lines, ["any GROUP G1 BACKUP 0", "any GROUP G1 FAULT 0", "any GROUP G1 STOP 0", "fault"]);
}

/// keepalived 2.2.7 says groups first, then instances in the order they were written, and nothing unless
/// `fifo_write_vrrp_states_on_reload` is set.
#[tokio::test(flavor = "multi_thread")]
async fn states_are_said_again_after_a_reload_where_that_is_wanted() {
    let directory = tempfile::tempdir().unwrap();
    let pipe = directory.path().join("fifo");
    let mut teller = teller(Default::default(), &fifo(&pipe, None)).await;
    teller.tell(&became_active());
    teller.tell(&Kind::Reloaded { summary: String::new() });
    assert_eq!(read(&pipe), "INSTANCE \"V1\" MASTER 100\n");
    teller.say_states_on_reload(&[v1()]);
    teller.tell(&Kind::Priority {
        instance: "V1".to_owned(),
        state: State::Active,
        from: 100,
        to: 120,
        because: String::new(),
    });
    teller.tell(&Kind::Reloaded { summary: String::new() });
    assert_eq!(read(&pipe), "INSTANCE \"V1\" MASTER 120\n");
}
