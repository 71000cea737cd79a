//! The lab itself: what it promises to the tests in it.

use std::net::IpAddr;
use std::process::Command;
use std::time::Duration;

use netns_tests::lab::Lab;
use netns_tests::observer::{Echo, Prober};
use netns_tests::peer::Kind::Keepalived;
use netns_tests::peer::Peer;
use netns_tests::process::marked_with_prefix;
use netns_tests::turn::Turn;
use netns_tests::{enabled, wait_for, wait_until};

const CONFIGURATION: &str =
    "vrrp_instance V {\n interface eth0\n virtual_router_id 9\n virtual_ipaddress {\n 10.77.0.9/24\n }\n}\n";

/// Whether the client reaches this host within a second.
fn reached(lab: &Lab, address: &str) -> bool {
    let address: IpAddr = address.parse().expect("an address");
    let host = lab.hosts().find(|host| [host.ipv4(), host.ipv6()].contains(&address.to_string()));
    let _echo = Echo::start(host.expect("a host of the lab"), address);
    let prober = Prober::start(&lab.client, address, Duration::from_millis(5));
    wait_until("an answer", Duration::from_secs(1), || prober.answered_since(Duration::ZERO)).is_ok()
}

#[test]
fn ports_are_silenced_muted_and_pulled_one_by_one() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&["more"]);
    assert!(reached(&lab, "10.77.0.1") && reached(&lab, "10.77.0.2") && reached(&lab, "10.77.0.11"));
    assert!(reached(&lab, "fd77::2") && reached(&lab, "fd77::4"));
    lab.silence(&lab.lb1);
    assert!(!reached(&lab, "10.77.0.1") && reached(&lab, "10.77.0.2"));
    assert_eq!(lab.lb1.ip_json(&["link", "show", "eth0"])[0]["operstate"], "UP", "its own link stays up");
    lab.unsilence(&lab.lb1);
    assert!(reached(&lab, "10.77.0.1"));
    lab.mute(&lab.lb2);
    assert!(!reached(&lab, "10.77.0.2") && reached(&lab, "10.77.0.1"));
    lab.unmute();
    assert!(reached(&lab, "10.77.0.2"));
    lab.pull(&lab.lb1);
    assert_ne!(lab.lb1.ip_json(&["link", "show", "eth0"])[0]["operstate"], "UP", "its carrier is gone");
    lab.push(&lab.lb1);
    wait_until("the cable is back", Duration::from_secs(5), || reached(&lab, "10.77.0.1")).expect("it is");
}

#[test]
fn a_lab_takes_its_programs_with_it() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let peer = Peer::start_configured(Keepalived, &lab.lb1, CONFIGURATION, "keepalived");
    wait_until("keepalived has a child", Duration::from_secs(5), || peer.process.family().len() == 2)
        .expect("it has");
    let lab_mark = format!("NETNS_LAB={}", lab.name());
    drop(lab);
    wait_until("all ended", Duration::from_secs(5), || marked_with_prefix(&lab_mark).is_empty())
        .expect("they did");
}

/// A test's process that is killed has no chance to clean up: the kernel must do it.
#[test]
fn a_test_that_is_killed_leaves_nothing() {
    if !enabled(&["keepalived"]) {
        return;
    }
    if std::env::var_os("LAB_TEST_TO_BE_KILLED").is_some() {
        let lab = Lab::new(&[]);
        let _peer = Peer::start_configured(Keepalived, &lab.lb1, CONFIGURATION, "keepalived");
        println!("directory {}", lab.lb1.directory.display());
        loop {
            std::thread::park();
        }
    }
    let mut child = Command::new(std::env::current_exe().expect("a test knows its program"))
        .args(["--exact", "a_test_that_is_killed_leaves_nothing", "--nocapture"])
        .env("LAB_TEST_TO_BE_KILLED", "yes")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("it starts");
    let mark = format!("NETNS_LAB={}.", child.id());
    wait_for("its keepalived runs", Duration::from_secs(20), || {
        (marked_with_prefix(&mark).len() >= 2).then_some(())
    })
    .expect("it runs");
    child.kill().expect("our own child");
    let output = child.wait_with_output().expect("our own child");
    wait_until("the kernel ended them all", Duration::from_secs(5), || marked_with_prefix(&mark).is_empty())
        .expect("it did");
    // Files are all that a killed test can leave; this one is told where they are.
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let directory = text.lines().find_map(|line| line.split("directory ").nth(1)).expect("it said where");
    let lab = std::path::Path::new(directory).parent().expect("a lab's directory");
    std::fs::remove_dir_all(lab).expect("our own directory");
}
