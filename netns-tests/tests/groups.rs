//! Sync groups against a keepalived that has the same group: whatever happens to one member, both VIPs move, and the
//! FIFO tells it in keepalived's order.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::peer::Peer;
use netns_tests::turn::Turn;
use netns_tests::{Outcome, enabled, ensure, wait_for, wait_until};
use nix::sys::signal::Signal;

const VIPS: [&str; 2] = ["10.77.0.100", "10.78.0.100"];
/// For what takes at most two Active_Down_Intervals, on a machine that others keep busy.
const SOON: Duration = Duration::from_secs(20);

/// Two hosts with two segments, each with a group of two instances.
struct Pair {
    lab: Lab,
}

/// One host of a pair, with its daemon.
struct Node<'a> {
    host: &'a Host,
    kind: Kind,
    conf: String,
    fifo: File,
    told: String,
    peer: Option<Peer>,
    starts: u32,
}

impl Pair {
    fn new() -> Self {
        let lab = Lab::new(&[]);
        lab.bridge.run(&["ip", "link", "add", "br1", "type", "bridge", "mcast_snooping", "0"]);
        lab.bridge.run(&["ip", "link", "set", "br1", "up"]);
        for host in [&lab.lb1, &lab.lb2] {
            let port = format!("{}-1", host.name);
            let netns = host.net_path();
            lab.bridge
                .run(&["ip", "link", "add", &port, "type", "veth", "peer", "name", "eth1", "netns", &netns]);
            lab.bridge.run(&["ip", "link", "set", &port, "master", "br1", "up"]);
            host.run(&["ip", "link", "set", "eth1", "up"]);
            let address = format!("10.78.0.{}/24", host.number);
            host.run(&["ip", "address", "add", &address, "dev", "eth1"]);
        }
        Self { lab }
    }

    fn cable(&self, host: &Host, state: &str) {
        self.lab.bridge.run(&["ip", "link", "set", &format!("{}-1", host.name), state]);
    }
}

impl<'a> Node<'a> {
    fn new(host: &'a Host, kind: Kind, priority: u8) -> Self {
        let fifo = host.directory.join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).expect("the lab's directory is ours");
        let bad = host.directory.join("bad");
        let mut conf = format!(
            "global_defs {{\n  router_id LAB\n  script_user root\n  vrrp_notify_fifo {}\n}}\n\
             vrrp_script good {{\n  script \"/usr/bin/test ! -e {}\"\n  interval 1\n  fall 1\n  rise 1\n}}\n\
             vrrp_sync_group G1 {{\n  group {{\n    V1\n    V2\n  }}\n  track_script {{\n    good\n  }}\n}}\n",
            fifo.display(),
            bad.display()
        );
        for (number, vip) in VIPS.iter().enumerate() {
            conf += &format!(
                "vrrp_instance V{} {{\n  state BACKUP\n  interface eth{number}\n  version 3\n  advert_int 0.2\n  \
                 virtual_router_id {}\n  priority {priority}\n  virtual_ipaddress {{\n    {vip}/24\n  }}\n}}\n",
                number + 1,
                51 + number,
            );
        }
        // Read and write: neither side waits for the other, and no end of file is seen.
        let fifo = File::options().read(true).write(true).custom_flags(nix::libc::O_NONBLOCK).open(fifo);
        let fifo = fifo.expect("just made");
        Self { host, kind, conf, fifo, told: String::new(), peer: None, starts: 0 }
    }

    fn start(&mut self) {
        self.starts += 1;
        let tag = format!("daemon-{}", self.starts);
        self.peer = Some(Peer::start_configured(self.kind, self.host, &self.conf, &tag));
    }

    fn bad(&self) -> PathBuf {
        self.host.directory.join("bad")
    }

    fn peer(&mut self) -> &mut Peer {
        self.peer.as_mut().expect("started before")
    }

    /// How many of the VIPs its kernel has.
    fn held(&self) -> usize {
        let addresses = self.host.addresses();
        VIPS.iter().filter(|vip| addresses.iter().any(|one| one == *vip)).count()
    }

    fn told(&mut self) -> &str {
        let mut buffer = [0; 4096];
        while let Ok(length @ 1..) = self.fifo.read(&mut buffer) {
            self.told += &String::from_utf8_lossy(&buffer[..length]);
        }
        &self.told
    }
}

fn moved(what: &str, to: &Node<'_>, from: &Node<'_>) -> Outcome {
    wait_until(&format!("{what}: both VIPs at {:?} on {}", to.kind, to.host.name), SOON, || {
        to.held() == 2 && from.held() == 0
    })
}

/// Gives what the better one told.
fn story(better: Kind, worse: Kind) -> Outcome<String> {
    let pair = Pair::new();
    let mut better = Node::new(&pair.lab.lb2, better, 150);
    let mut worse = Node::new(&pair.lab.lb1, worse, 100);
    worse.start();
    moved("alone", &worse, &better)?;
    better.start();
    moved("a better one comes", &better, &worse)?;

    pair.cable(better.host, "down");
    moved("a cable is pulled", &worse, &better)?;
    if better.kind == Vipd {
        let status = better.peer().status(&pair.lab.lb2)?;
        let why = status["instances"][0]["why"].as_str().unwrap_or_default().to_owned();
        ensure(why == "fault: held in FAULT by member V2 of group G1: interface eth1 is down", || why)?;
        ensure(status["groups"][0]["state"] == "fault", || status["groups"].to_string())?;
    }
    pair.cable(better.host, "up");
    moved("the cable is back", &better, &worse)?;

    std::fs::write(better.bad(), "").expect("the lab's directory is ours");
    moved("the group's check fails", &worse, &better)?;
    std::fs::remove_file(better.bad()).expect("written before");
    moved("it succeeds again", &better, &worse)?;

    better.peer().stop()?;
    moved("the better one stops", &worse, &better)?;
    let group_of_stop = "GROUP \"G1\" STOP 0\n";
    wait_for("STOP of the group", SOON, || better.told().contains(group_of_stop).then_some(()))?;
    let told = better.told().to_owned();

    better.start();
    moved("it is back", &better, &worse)?;
    // With the guard and all: nobody is left to take the addresses off.
    better.peer().process.signal_family(Signal::SIGSTOP);
    wait_until("the better one is killed", SOON, || worse.held() == 2)?;
    better.peer().process.kill_family();
    worse.peer().stop()?;
    ensure(worse.held() == 0, || "a VIP is left".to_owned())?;
    Ok(told)
}

/// The lines of the better one. Which of two timers ends first is chance: up to the group's line they are sorted where
/// timers and adverts decide; what a fault decides is left as it is.
fn in_order(told: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut change: Vec<String> = Vec::new();
    for line in told.lines() {
        change.push(line.to_owned());
        if line.starts_with("GROUP") {
            if !line.contains("FAULT") {
                let last = change.len() - 1;
                change[..last].sort();
            }
            lines.append(&mut change);
        }
    }
    lines.append(&mut change);
    lines
}

fn told(better: Kind, worse: Kind) -> Vec<String> {
    let _turn = Turn::alone();
    match story(better, worse) {
        Ok(told) => in_order(&told),
        Err(failure) => panic!("{better:?} better than {worse:?}: {}", failure.text),
    }
}

#[test]
fn both_vips_move_together_and_the_fifo_is_keepalived_s() {
    if !enabled(&["keepalived"]) {
        return;
    }
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let theirs = told(Keepalived, Vipd);
    let ours = told(Vipd, Keepalived);
    assert_eq!(ours, theirs);
    assert!(theirs.contains(&"GROUP \"G1\" MASTER 0".to_owned()), "{theirs:?}");
}
