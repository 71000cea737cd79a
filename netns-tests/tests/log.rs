//! The log under the name keepalived, beside that of keepalived 2.2.7 in the same story: what people grep and alert on.

use std::collections::BTreeMap;
use std::time::Duration;

use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::{Outcome, enabled, wait_for};

/// For each step, on a machine that others keep busy.
const SOON: Duration = Duration::from_secs(20);

/// `P` and `Q` let a worse router be for a while, `A` and `B` are a group, whose other trackers are a script that fails
/// at first and a file that is changed.
const SUBJECT: &str = r#"
global_defs {
    script_user root
    enable_script_security
}
track_file value {
    file /tmp/value
    weight 1
}
vrrp_script flips {
    script "/tmp/flips"
    interval 1
    timeout 1
    weight 5
}
vrrp_sync_group G {
    group {
        A
        B
    }
}
vrrp_instance A {
    version 3
    interface eth0
    virtual_router_id 61
    priority 100
    advert_int 0.3
    track_file {
        value weight 0
    }
    virtual_ipaddress {
        10.77.0.161
    }
    virtual_ipaddress_excluded {
        10.77.0.171
    }
}
vrrp_instance B {
    version 3
    interface eth0
    virtual_router_id 62
    priority 100
    advert_int 0.3
    virtual_ipaddress {
        10.77.0.162
    }
}
vrrp_instance P {
    version 3
    interface eth0
    virtual_router_id 63
    priority 150
    advert_int 0.5
    preempt_delay 2
    track_script {
        flips
    }
    virtual_ipaddress {
        10.77.0.163
    }
}
vrrp_instance Q {
    version 3
    interface eth0
    virtual_router_id 64
    priority 150
    advert_int 0.5
    preempt_delay 900.5
    virtual_ipaddress {
        10.77.0.164
    }
}
"#;

/// Instances of a peer: name, VRID, priority.
fn peer(instances: &[(&str, u8, u8)]) -> String {
    instances
        .iter()
        .map(|(name, vrid, priority)| {
            format!(
                "vrrp_instance {name} {{\n  version 3\n  interface eth0\n  virtual_router_id {vrid}\n  \
                 priority {priority}\n  advert_int 0.3\n  virtual_ipaddress {{\n    10.77.0.1{vrid}\n  }}\n}}\n"
            )
        })
        .collect()
}

/// Lines that ours does not have: announcements are counted, and not told one by one; and that of a member of a group
/// in FAULT, of which keepalived sends priority 0 for the one at fault alone.
const NOT_OURS: [&str; 2] = ["Sending/queueing gratuitous ARPs", "(B) sent 0 priority"];

/// Lines about each instance, group and script in their order; one that is repeated counts once.
type Said = BTreeMap<String, Vec<String>>;

fn said(log: &str) -> Said {
    let mut said = Said::new();
    for line in log.lines() {
        // `Sat Nov 21 07:26:08 2026: `
        let Some((_, text)) = line.split_at_checked("Sat Nov 21 07:26:08 2026: ".len()) else { continue };
        let subject = ["(", "VRRP_Group(", "VRRP_Script(", "Script `"]
            .iter()
            .find_map(|start| text.strip_prefix(start)?.split([')', '`']).next());
        let Some(subject) = subject else { continue };
        if NOT_OURS.iter().any(|words| text.contains(words)) {
            continue;
        }
        let lines = said.entry(subject.to_owned()).or_default();
        if lines.last().is_none_or(|last| last != text) {
            lines.push(text.to_owned());
        }
    }
    said
}

/// What the daemon under this name says of the whole story.
fn story(kind: Kind) -> Outcome<Said> {
    let lab = Lab::new(&["lb3"]);
    let (host, lb3) = (&lab.lb1, &lab.others[0]);
    host.run(&["mount", "-t", "tmpfs", "tmp", "/tmp"]);
    let script = "#!/bin/sh\nexit $(cat /tmp/status)\n";
    host.run(&[
        "sh",
        "-c",
        &format!("echo 0 > /tmp/value; echo 3 > /tmp/status; printf '{script}' > /tmp/flips"),
    ]);
    host.run(&["chmod", "755", "/tmp/flips"]);

    let worse = peer(&[("P", 63, 100), ("Q", 64, 100)]);
    let mut worse = Peer::start_configured(Kind::Keepalived, &lab.lb2, &worse, "worse");
    worse.process.wait_for_output("(Q) Entering MASTER STATE", SOON)?;
    let mut subject = Peer::start_configured(kind, host, SUBJECT, "subject");
    subject.process.wait_for_output("(P) Entering MASTER STATE", SOON)?;
    subject.process.wait_for_output("VRRP_Group(G) Syncing instances to MASTER state", SOON)?;

    // The script succeeds, then has another status again.
    host.run(&["sh", "-c", "echo 0 > /tmp/status"]);
    subject.process.wait_for_output("(P) Changing effective priority from 150 to 155", SOON)?;
    host.run(&["sh", "-c", "echo 4 > /tmp/status"]);
    subject.process.wait_for_output("(P) Changing effective priority from 155 to 150", SOON)?;

    // Somebody better for the group and for Q, for a while.
    let better = peer(&[("A", 61, 200), ("Q", 64, 200)]);
    let mut better = Peer::start_configured(Kind::Keepalived, lb3, &better, "better");
    subject.process.wait_for_output("VRRP_Group(G) Syncing instances to BACKUP state", SOON)?;
    subject.process.wait_for_output("(Q) stop preempt delay", SOON)?;
    better.stop()?;
    let times = |subject: &Peer, text: &str| subject.process.output().matches(text).count();
    let master = "VRRP_Group(G) Syncing instances to MASTER state";
    wait_for("the group is active again", SOON, || (times(&subject, master) == 2).then_some(()))?;
    // Nothing was delayed when the better one gave up: the next one in priority takes over.
    subject.process.wait_for_output("(Q) Entering MASTER STATE", SOON)?;

    // A member is in FAULT, and comes back.
    host.run(&["sh", "-c", "echo 100 > /tmp/value"]);
    subject.process.wait_for_output("VRRP_Group(G) Syncing instances to FAULT state", SOON)?;
    host.run(&["sh", "-c", "echo 0 > /tmp/value"]);
    wait_for("the group is active once more", SOON, || (times(&subject, master) == 3).then_some(()))?;

    worse.stop()?;
    subject.stop()?;
    Ok(said(&subject.process.output()))
}

#[test]
fn the_log_is_keepaliveds_word_for_word() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let ours = std::thread::spawn(|| story(Kind::Vipd));
    let theirs = story(Kind::Keepalived).unwrap_or_else(|failure| panic!("keepalived: {}", failure.text));
    let ours = ours.join().expect("it does not panic").unwrap_or_else(|failure| panic!("{}", failure.text));
    let all = |said: Said| -> String { said.into_values().flatten().map(|line| line + "\n").collect() };
    let (ours, theirs) = (all(ours), all(theirs));
    assert!(ours == theirs, "keepalived:\n{theirs}\nvipd:\n{ours}");
}
