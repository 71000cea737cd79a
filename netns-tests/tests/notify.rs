//! What programs and people are told: FIFO lines, scripts and mails of one story, by vipd and by keepalived.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::{Outcome, enabled, now, wait_until};
use nix::sys::signal::Signal;

/// For each step; it takes at most two Active_Down_Intervals, on a machine that others keep busy.
const SOON: Duration = Duration::from_secs(20);
/// In which nothing more may be told.
const QUIET: Duration = Duration::from_millis(400);

/// One step of the story, and what was told while it lasted.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: &'static str,
    /// In their order.
    fifo: Vec<String>,
    /// Scripts and mails overlap, so their order is open.
    scripts: Vec<String>,
    mails: Vec<String>,
}

/// What the story of keepalived 2.2.7 looks like in the FIFO.
const TOLD: [(&str, &[&str]); 12] = [
    (
        "start",
        &[
            "GROUP \"G1\" BACKUP 0",
            "INSTANCE \"V1\" BACKUP 200",
            "INSTANCE \"V2\" BACKUP 200",
            "INSTANCE \"V3\" BACKUP 150",
            "INSTANCE \"V4\" BACKUP 100",
            "INSTANCE \"V2\" MASTER 200",
            "INSTANCE \"V1\" MASTER 200",
            "GROUP \"G1\" MASTER 0",
            "INSTANCE \"V3\" MASTER 150",
            "INSTANCE \"V4\" MASTER 100",
        ],
    ),
    ("priority of a master", &["INSTANCE \"V3\" MASTER_PRIORITY 170"]),
    ("priority back", &["INSTANCE \"V3\" MASTER_PRIORITY 150"]),
    ("better peer", &["INSTANCE \"V3\" BACKUP 150"]),
    ("priority of a backup", &["INSTANCE \"V3\" BACKUP_PRIORITY 160"]),
    ("peer stops", &["INSTANCE \"V3\" MASTER 160"]),
    ("fault by a file", &["INSTANCE \"V3\" FAULT 150"]),
    ("fault ends", &["INSTANCE \"V3\" BACKUP 150", "INSTANCE \"V3\" MASTER 150"]),
    ("reload of the same", &[]),
    (
        "reload without two",
        &[
            "INSTANCE \"V3\" FAULT 150",
            "INSTANCE \"V4\" DELETED 100",
            "INSTANCE \"V5\" BACKUP 100",
            "INSTANCE \"V5\" MASTER 100",
        ],
    ),
    (
        "pulled cable",
        &[
            "INSTANCE \"V1\" FAULT 200",
            "INSTANCE \"V2\" FAULT 200",
            "GROUP \"G1\" FAULT 0",
            "INSTANCE \"V5\" FAULT 100",
        ],
    ),
    (
        "stop",
        &[
            "INSTANCE \"V1\" STOP 200",
            "INSTANCE \"V2\" STOP 200",
            "INSTANCE \"V5\" STOP 100",
            "GROUP \"G1\" STOP 0",
        ],
    ),
];

/// A host whose daemon tells, and who listens.
struct Stage<'a> {
    lab: &'a Lab,
    directory: PathBuf,
    fifo: Arc<Mutex<Vec<String>>>,
    mails: Arc<Mutex<Vec<String>>>,
    subject: Peer,
    peer: Option<Peer>,
    steps: Vec<Step>,
}

impl<'a> Stage<'a> {
    fn set(lab: &'a Lab, kind: Kind) -> Self {
        let directory = lab.lb1.directory.clone();
        let say = directory.join("say");
        let text = format!("#!/bin/sh\necho \"$*\" >> {}\n", directory.join("scripts").display());
        std::fs::write(&say, text).expect("the lab's directory is ours");
        std::fs::set_permissions(&say, std::fs::Permissions::from_mode(0o755)).expect("it is ours");
        std::fs::write(directory.join("value"), "0\n").expect("it is ours");
        let fifo = read_fifo(&directory.join("fifo"));
        let mails = read_mails(lab);
        let subject = Peer::start_configured(kind, &lab.lb1, &configuration(&directory, true), "subject");
        Self { lab, directory, fifo, mails, subject, peer: None, steps: Vec::new() }
    }

    /// Does something, waits for as many lines as the story has, and for none more.
    fn step(&mut self, action: impl FnOnce(&mut Self) -> Outcome) -> Outcome {
        let (name, lines) = TOLD[self.steps.len()];
        action(self)?;
        let told = |this: &Self| this.fifo.lock().expect("not poisoned").len() >= lines.len();
        let outcome = wait_until(&format!("{name}: {} lines in the FIFO", lines.len()), SOON, || told(self));
        std::thread::sleep(QUIET);
        let fifo = std::mem::take(&mut *self.fifo.lock().expect("not poisoned"));
        if let Err(mut failure) = outcome {
            failure.text += &format!("; there were {fifo:#?}\nafter {:#?}", self.steps);
            return Err(failure);
        }
        let log = self.directory.join("scripts");
        let text = std::fs::read_to_string(&log).unwrap_or_default();
        let _ = std::fs::remove_file(&log);
        let mut scripts: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut mails = std::mem::take(&mut *self.mails.lock().expect("not poisoned"));
        scripts.sort_unstable();
        mails.sort_unstable();
        self.steps.push(Step { name, fifo, scripts, mails });
        Ok(())
    }

    fn write_value(&self, value: i32) {
        std::fs::write(self.directory.join("value"), format!("{value}\n")).expect("it is ours");
    }
}

fn configuration(directory: &Path, all: bool) -> String {
    let directory = directory.display();
    let mut text = format!(
        "global_defs {{\n  router_id LAB\n  enable_script_security\n  script_user root\n  \
         notification_email {{\n    root@lab.example\n  }}\n  notification_email_from vrrp@lab.example\n  \
         smtp_server 127.0.0.1\n  smtp_connect_timeout 10\n  smtp_alert true\n  \
         vrrp_notify_priority_changes true\n  vrrp_notify_fifo {directory}/fifo\n  \
         startup_script \"{directory}/say startup\"\n  shutdown_script \"{directory}/say shutdown\"\n}}\n\
         track_file value {{\n  file {directory}/value\n  weight 1\n}}\n\
         vrrp_sync_group G1 {{\n  group {{\n    V1\n    V2\n  }}\n  notify \"{directory}/say group\"\n  \
         notify_master \"{directory}/say group master\"\n  notify_backup \"{directory}/say group backup\"\n  \
         notify_fault \"{directory}/say group fault\"\n  notify_stop \"{directory}/say group stop\"\n}}\n"
    );
    let tracks = "  track_file {\n    value\n  }\n".to_owned();
    let deleted = format!("  notify_deleted \"{directory}/say V4 deleted\"\n");
    let instances = [("V1", 51, 200, String::new()), ("V2", 52, 200, String::new())].into_iter();
    let more = if all {
        vec![("V3", 53, 150, tracks), ("V4", 54, 100, deleted)]
    } else {
        vec![("V5", 55, 100, String::new())]
    };
    for (name, vrid, priority, more) in instances.chain(more) {
        text += &format!(
            "vrrp_instance {name} {{\n  state BACKUP\n  interface eth0\n  version 3\n  \
             virtual_router_id {vrid}\n  priority {priority}\n  advert_int 0.3\n  \
             virtual_ipaddress {{\n    10.77.0.{vrid}/24\n  }}\n  \
             notify \"{directory}/say any a 'b c'\"\n  notify_master \"{directory}/say {name} master\"\n  \
             notify_backup \"{directory}/say {name} backup\"\n  notify_fault \"{directory}/say {name} fault\"\n  \
             notify_stop \"{directory}/say {name} stop\"\n{more}}}\n"
        );
    }
    text
}

const BETTER: &str = "vrrp_instance P3 {\n  interface eth0\n  version 3\n  virtual_router_id 53\n  priority 250\n  \
                      advert_int 0.3\n  virtual_ipaddress {\n    10.77.0.53/24\n  }\n}\n";

/// Reads lines for as long as the test's process lives; nobody minds that it is there before the daemon.
fn read_fifo(path: &Path) -> Arc<Mutex<Vec<String>>> {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("the lab's directory is ours");
    let pipe = std::fs::File::options().read(true).write(true).open(path).expect("it was made");
    let lines = Arc::<Mutex<Vec<String>>>::default();
    let writes = Arc::clone(&lines);
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            writes.lock().expect("not poisoned").push(line);
        }
    });
    lines
}

/// A server on port 25 of the host. Keeps every mail without its date and without HELO or EHLO.
fn read_mails(lab: &Lab) -> Arc<Mutex<Vec<String>>> {
    let listener = lab.lb1.inside(|| TcpListener::bind("127.0.0.1:25")).expect("the port is free");
    let mails = Arc::<Mutex<Vec<String>>>::default();
    let writes = Arc::clone(&mails);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let writes = Arc::clone(&writes);
            std::thread::spawn(move || {
                let mut heard = String::new();
                let mut answers = stream.try_clone().expect("it can be cloned");
                let mut is_data = false;
                let _ = answers.write_all(b"220 lab\r\n");
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let answer = match line.as_str() {
                        "." => "250 queued",
                        _ if is_data => "",
                        "DATA" => "354 go on",
                        _ => "250 fine",
                    };
                    is_data = answer.starts_with("354") || answer.is_empty();
                    if !["HELO", "EHLO", "Date:"].iter().any(|begin| line.starts_with(begin)) {
                        heard += &line;
                        heard += "\n";
                    }
                    if !answer.is_empty() {
                        let _ = answers.write_all(format!("{answer}\r\n").as_bytes());
                    }
                    if line == "QUIT" {
                        writes.lock().expect("not poisoned").push(std::mem::take(&mut heard));
                        // keepalived says it again and again until the connection is closed.
                        break;
                    }
                }
            });
        }
    });
    mails
}

fn story(lab: &Lab, kind: Kind) -> Outcome<Vec<Step>> {
    let mut stage = Stage::set(lab, kind);
    stage.step(|_| Ok(()))?;
    stage.step(|stage| {
        stage.write_value(20);
        Ok(())
    })?;
    stage.step(|stage| {
        stage.write_value(0);
        Ok(())
    })?;
    stage.step(|stage| {
        stage.peer = Some(Peer::start_configured(Kind::Keepalived, &stage.lab.lb2, BETTER, "peer"));
        Ok(())
    })?;
    stage.step(|stage| {
        stage.write_value(10);
        Ok(())
    })?;
    stage.step(|stage| stage.peer.take().expect("started above").stop())?;
    stage.step(|stage| {
        // The line of the way there is no part of the story.
        stage.write_value(0);
        wait_until("the value is told", SOON, || !stage.fifo.lock().expect("not poisoned").is_empty())?;
        stage.fifo.lock().expect("not poisoned").clear();
        stage.write_value(-300);
        Ok(())
    })?;
    stage.step(|stage| {
        stage.write_value(0);
        Ok(())
    })?;
    stage.step(|stage| {
        stage.subject.process.signal(Signal::SIGHUP);
        Ok(())
    })?;
    stage.step(|stage| {
        let file = stage.directory.join("subject.conf");
        std::fs::write(file, configuration(&stage.directory, false)).expect("it is ours");
        stage.subject.process.signal(Signal::SIGHUP);
        Ok(())
    })?;
    stage.step(|stage| {
        stage.lab.pull(&stage.lab.lb1);
        Ok(())
    })?;
    stage.step(|stage| stage.subject.stop())?;
    Ok(stage.steps)
}

/// FIFO lines and their order, scripts with their arguments, mails: step by step the same. And it is the story
/// that is written here, so that keepalived's version cannot change it unseen.
#[test]
fn vipd_tells_what_keepalived_tells() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let start = now();
    let [ours, theirs] = std::thread::scope(|scope| {
        [Kind::Vipd, Kind::Keepalived]
            .map(|kind| {
                scope.spawn(move || {
                    let lab = Lab::new(&[]);
                    story(&lab, kind).unwrap_or_else(|failure| panic!("{kind:?}: {}", failure.text))
                })
            })
            .map(|told| told.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    println!("{} steps in {:?}", ours.len(), now() - start);
    for ((ours, theirs), (name, lines)) in ours.iter().zip(&theirs).zip(TOLD) {
        assert_eq!(theirs.fifo, lines, "keepalived: {name}");
        assert_eq!(ours, theirs, "{name}");
    }
}
