//! I-22: BFD sessions of vipd with keepalived and with FRR's bfdd, over IPv4 and IPv6.

use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::process::Process;
use netns_tests::{Failure, Outcome, Stamp, enabled, ensure, now, wait_for, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// 100 ms, multiplier 3.
const DETECTION: Duration = Duration::from_millis(300);
/// The longest that a neighbour may wait between two packets.
const INTERVAL: Duration = Duration::from_millis(100);
/// Allowed beyond, and what a busy machine takes to schedule a thread.
const MARGIN: Duration = Duration::from_millis(15 + 10);
const LIMIT: Duration = Duration::from_secs(20);

fn sessions(own: &Host, other: &Host) -> String {
    let session = |name: &str, own: &str, other: &str| {
        format!(
            "bfd_instance {name} {{\n  neighbor_ip {other}\n  source_ip {own}\n  min_rx 100\n  min_tx 100\n  \
             multiplier 3\n  hoplimit 255\n}}\n"
        )
    };
    session("B4", &own.ipv4(), &other.ipv4()) + &session("B6", &own.ipv6(), &other.ipv6())
}

/// One instance in FAULT while either session is down.
fn ours(lab: &Lab) -> Peer {
    let text = "global_defs {\n  router_id LAB\n}\n".to_owned()
        + &sessions(&lab.lb1, &lab.lb2)
        + "vrrp_instance VI_1 {\n  state BACKUP\n  interface eth0\n  version 3\n  virtual_router_id 52\n  \
           priority 100\n  advert_int 0.1\n  track_bfd {\n    B4\n    B6\n  }\n  \
           virtual_ipaddress {\n    10.77.0.100/24\n  }\n}\n";
    Peer::start_configured(Kind::Vipd, &lab.lb1, &text, "ours")
}

fn keepalived(lab: &Lab, tag: &str) -> Peer {
    let text = "global_defs {\n  router_id LAB\n}\n".to_owned() + &sessions(&lab.lb2, &lab.lb1);
    Peer::start_configured(Kind::Keepalived, &lab.lb2, &text, tag)
}

fn status(peer: &Peer, lab: &Lab) -> Outcome<Value> {
    peer.status(&lab.lb1)
}

fn session<'a>(status: &'a Value, name: &str) -> &'a Value {
    let found = status["bfd"].as_array().and_then(|all| all.iter().find(|one| one["name"] == name));
    found.unwrap_or(&Value::Null)
}

fn all_are(peer: &Peer, lab: &Lab, state: &str) -> bool {
    status(peer, lab)
        .is_ok_and(|status| ["B4", "B6"].iter().all(|name| session(&status, name)["state"] == state))
}

fn since(session: &Value) -> Outcome<Stamp> {
    let part = |name: &str| session["since"][name].as_u64();
    match (part("secs_since_epoch"), part("nanos_since_epoch")) {
        (Some(seconds), Some(nanos)) => Ok(Duration::new(seconds, u32::try_from(nanos).unwrap_or(0))),
        _ => Err(Failure::from(format!("no time in {session}"))),
    }
}

/// Both sessions go down within the detection time after what the neighbour can have sent last.
fn goes_down(peer: &Peer, lab: &Lab, what: &str, silent: Stamp) -> Outcome {
    wait_until(what, LIMIT, || all_are(peer, lab, "Down"))?;
    let status = status(peer, lab)?;
    for name in ["B4", "B6"] {
        let session = session(&status, name);
        let took = since(session)?.saturating_sub(silent);
        let least = DETECTION - INTERVAL;
        ensure((least..=DETECTION + MARGIN).contains(&took), || {
            format!("{what}: {name} took {took:?}: {session}")
        })?;
        ensure(session["detail"].as_str().unwrap_or("").contains("detection time expired"), || {
            format!("{what}: {session}")
        })?;
    }
    let instance = &status["instances"][0];
    ensure(instance["state"] == "fault", || format!("{what}: the instance is {}", instance["state"]))?;
    let why = instance["why"].as_str().unwrap_or("");
    ensure(why.contains("BFD session B4 is down: detection time expired"), || {
        format!("{what}: why is {why:?}")
    })
}

/// What tcpdump reads of our packets on the neighbour's side.
fn eavesdrop(host: &Host) -> Outcome<Process> {
    let mut command = host.command("tcpdump");
    command.args(["-i", "eth0", "-n", "-l", "-v", "--immediate-mode", "udp", "port", "3784"]);
    let mut process = Process::start(command, &host.directory.join("tcpdump.log")).expect("tcpdump starts");
    process.wait_for_output("listening on", LIMIT)?;
    Ok(process)
}

#[test]
fn i_22_with_keepalived_up_kill_and_stop() {
    if !enabled(&["keepalived", "tcpdump"]) {
        return;
    }
    let lab = Lab::new(&[]);
    let story = || -> Outcome {
        let mut vipd = ours(&lab);
        let mut theirs = keepalived(&lab, "theirs");
        wait_until("up", LIMIT, || all_are(&vipd, &lab, "Up"))?;
        wait_until("the instance takes part", LIMIT, || {
            status(&vipd, &lab).is_ok_and(|status| status["instances"][0]["state"] == "active")
        })?;
        ensure(session(&status(&vipd, &lab)?, "B4")["detection_time"]["nanos"] == 300_000_000, || {
            "the detection time is not 300 ms".to_owned()
        })?;

        theirs.process.kill_family();
        goes_down(&vipd, &lab, "killed", now())?;

        let mut theirs = keepalived(&lab, "again");
        wait_until("up again", LIMIT, || all_are(&vipd, &lab, "Up"))?;
        // keepalived just stops.
        theirs.stop()?;
        wait_until("down after a stop", LIMIT, || all_are(&vipd, &lab, "Down"))?;

        let mut theirs = keepalived(&lab, "third");
        wait_until("up a third time", LIMIT, || all_are(&vipd, &lab, "Up"))?;
        let mut wire = eavesdrop(&lab.lb2)?;
        vipd.stop()?;
        wire.wait_for_output("State AdminDown", LIMIT)?;
        wait_for("keepalived notices", LIMIT, || {
            theirs
                .process
                .output()
                .contains("AdminDown")
                .then_some(())
                .or_else(|| theirs.process.output().to_lowercase().contains("down").then_some(()))
        })?;
        theirs.stop()
    };
    if let Err(error) = story() {
        panic!("{}", error.text);
    }
}

#[test]
fn i_22_with_frr_up_kill_and_stop() {
    if !enabled(&["/usr/lib/frr/bfdd", "tcpdump"]) {
        return;
    }
    let lab = Lab::new(&[]);
    let mut text = "hostname lab\nbfd\n".to_owned();
    for (peer, own) in [(lab.lb1.ipv4(), lab.lb2.ipv4()), (lab.lb1.ipv6(), lab.lb2.ipv6())] {
        text += &format!(
            " peer {peer} local-address {own} interface eth0\n  detect-multiplier 3\n  receive-interval 100\n  \
             transmit-interval 100\n exit\n"
        );
    }
    text += "exit\n";
    let story = || -> Outcome {
        let mut vipd = ours(&lab);
        let mut theirs = Peer::start_bfdd(&lab.lb2, &text, "bfdd");
        wait_until("up", LIMIT, || all_are(&vipd, &lab, "Up"))?;

        theirs.process.signal(Signal::SIGKILL);
        goes_down(&vipd, &lab, "killed", now())?;
        drop(theirs);

        let theirs = Peer::start_bfdd(&lab.lb2, &text, "bfdd-again");
        wait_until("up again", LIMIT, || all_are(&vipd, &lab, "Up"))?;
        let mut wire = eavesdrop(&lab.lb2)?;
        vipd.stop()?;
        wire.wait_for_output("State AdminDown", LIMIT)?;
        drop(theirs);
        Ok(())
    };
    if let Err(error) = story() {
        panic!("{}", error.text);
    }
}
