//! The kernel is the truth: what happens to addresses, interfaces and privileges under vipd's feet.

use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::observer::Monitor;
use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::peer::{Peer, vipd};
use netns_tests::process::Process;
use netns_tests::story::{Actor, Bed, Row, Side, elections, limit, tell};
use netns_tests::turn::Turn;
use netns_tests::{Failure, Late, Outcome, enabled, ensure, now, wait_for, wait_until};

const VIP: &str = "10.77.0.100";

fn at_100_ms(name: &'static str) -> Row {
    Row { interval: Duration::from_millis(100), ..Row::new(name) }
}

#[test]
fn an_address_that_somebody_deletes_is_back_within_milliseconds() {
    fn restored(bed: &mut Bed, row: &Row, kind: Kind, _: Kind) -> Outcome {
        let mut active = Actor::new(bed, row, Side::Better, kind, 200);
        let started = active.start(bed);
        let first = active.first_advert(bed, started, limit(active.router.down(row.interval)))?;
        wait_until("the address is there", Duration::from_secs(2), || active.holds(bed))?;
        bed.lab.lb2.run(&["ip", "address", "del", &row.addresses[0], "dev", "eth0"]);
        let (gone, back) = wait_for("the address is back", Duration::from_secs(5), || {
            let held = bed.on_lb2.held(&bed.address);
            let [(_, Some(gone)), (back, _)] = held.as_slice() else { return None };
            Some((*gone, *back))
        })?;
        let margin = Duration::from_millis(20);
        if back - gone > margin {
            let text = format!("the address was away for {:?}", back - gone);
            return Err(Failure { text, late: Some(Late { from: gone, to: back, margin }) });
        }
        // It stayed active: its adverts went on, and none gave up.
        wait_for("it goes on", limit(4 * row.interval), || {
            (active.adverts(bed, back).len() >= 4).then_some(())
        })?;
        let released = active.adverts(bed, first.at).iter().any(|advert| advert.priority == 0);
        ensure(!released, || "it gave up".to_owned())?;
        let status = active.peer().status(&bed.lab.lb2)?;
        ensure(status["instances"][0]["counters"]["became_active"] == 1, || {
            format!("it left Active: {status:#}")
        })?;
        active.finish(bed, row, true)
    }
    if enabled(&[]) {
        tell(&[at_100_ms("address deleted")], &[(Vipd, Vipd)], &[("restored", restored)], true);
    }
}

/// keepalived 2.2.7 discards an advert that does not name as many addresses as its own configuration, even where one of
/// them is written twice: both would be active.
#[test]
fn an_address_that_is_written_twice_is_advertised_twice_and_held_once() {
    if enabled(&["keepalived"]) {
        let vip = format!("{VIP}/24");
        let row =
            Row { addresses: vec![vip.clone(), "10.77.0.101/24".into(), vip], ..Row::new("written twice") };
        let old = Row { version: 2, name: "written twice, v2", ..row.clone() };
        tell(&[row, old], &[(Vipd, Keepalived), (Keepalived, Vipd)], &[("S1-S4", elections)], false);
    }
}

#[test]
fn an_address_that_appears_on_a_backup_is_removed() {
    fn removed(bed: &mut Bed, row: &Row, ours: Kind, theirs: Kind) -> Outcome {
        let mut active = Actor::new(bed, row, Side::Better, theirs, 200);
        let mut backup = Actor::new(bed, row, Side::Worse, ours, 100);
        let started = active.start(bed);
        active.first_advert(bed, started, limit(active.router.down(row.interval)))?;
        backup.start(bed);
        wait_until("the backup has heard the active one", Duration::from_secs(5), || {
            backup.peer().status(&bed.lab.lb1).is_ok_and(|status| status["instances"][0]["state"] == "backup")
        })?;
        bed.lab.lb1.run(&["ip", "address", "add", &row.addresses[0], "dev", "eth0"]);
        wait_until("it is removed", Duration::from_secs(2), || {
            !bed.on_lb1.held(&bed.address).is_empty() && !backup.holds(bed)
        })?;
        ensure(active.holds(bed), || "the active one lost it".to_owned())?;
        ensure(!bed.lab.lb1.addresses().iter().any(|address| address == VIP), || {
            "ip still shows it".to_owned()
        })
    }
    if enabled(&["keepalived"]) {
        tell(&[at_100_ms("address added")], &[(Vipd, Keepalived)], &[("removed", removed)], true);
    }
}

#[test]
fn addresses_left_from_a_former_life_are_removed_before_the_election() {
    fn cleaned(bed: &mut Bed, row: &Row, ours: Kind, theirs: Kind) -> Outcome {
        let mut active = Actor::new(bed, row, Side::Better, theirs, 200);
        let mut backup = Actor::new(bed, row, Side::Worse, ours, 100);
        let started = active.start(bed);
        active.first_advert(bed, started, limit(active.router.down(row.interval)))?;
        bed.lab.lb1.run(&["ip", "address", "add", &row.addresses[0], "dev", "eth0"]);
        wait_until("it is there", Duration::from_secs(2), || backup.holds(bed))?;
        backup.start(bed);
        wait_until("it is removed", Duration::from_secs(3), || !backup.holds(bed))?;
        ensure(backup.adverts(bed, started).is_empty(), || "it advertised".to_owned())
    }
    if enabled(&["keepalived"]) {
        tell(&[at_100_ms("leftovers")], &[(Vipd, Keepalived)], &[("cleaned", cleaned)], true);
    }
}

/// Killed with everything it started: the next life finds the address and cleans up before it listens.
#[test]
fn a_daemon_that_was_killed_cleans_up_in_its_next_life() {
    fn next_life(bed: &mut Bed, row: &Row, ours: Kind, theirs: Kind) -> Outcome {
        let mut first = Actor::new(bed, row, Side::Better, ours, 200);
        let mut other = Actor::new(bed, row, Side::Worse, theirs, 100);
        let started = first.start(bed);
        first.first_advert(bed, started, limit(first.router.down(row.interval)))?;
        other.start(bed);
        first.peer().process.kill_family();
        let killed = now();
        other.first_advert(bed, killed, limit(other.router.down(row.interval)))?;
        let again = first.start(bed);
        first.first_advert(bed, again, limit(first.router.down(row.interval)))?;
        wait_until("it holds alone", Duration::from_secs(2), || first.holds(bed) && !other.holds(bed))?;
        first.finish(bed, row, true)
    }
    if enabled(&["keepalived"]) {
        tell(&[at_100_ms("next life")], &[(Vipd, Keepalived)], &[("next life", next_life)], true);
    }
}

fn configuration(interface: &str, vrid: u8) -> String {
    format!(
        "vrrp_instance VI_1 {{\n  state BACKUP\n  interface {interface}\n  version 3\n  virtual_router_id {vrid}\n  \
         priority 100\n  advert_int 0.1\n  virtual_ipaddress {{\n    {VIP}/24\n  }}\n}}\n"
    )
}

#[test]
fn an_instance_waits_for_an_interface_that_is_made_later() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let monitor = Monitor::start(&lab.lb1);
    let peer = Peer::start_configured(Vipd, &lab.lb1, &configuration("late0", 52), "late");
    let outcome = (|| -> Outcome {
        wait_until("status names the missing interface", Duration::from_secs(5), || {
            peer.status(&lab.lb1).is_ok_and(|status| {
                let instance = &status["instances"][0];
                instance["state"] == "fault"
                    && instance["why"].as_str().is_some_and(|why| why.contains("late0"))
            })
        })?;
        lab.lb1.run(&["ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1"]);
        lab.lb1.run(&["ip", "link", "set", "late1", "up"]);
        lab.lb1.run(&["ip", "address", "add", "10.77.0.9/24", "dev", "late0"]);
        ensure(!monitor.holds(VIP), || "active on an interface that is down".to_owned())?;
        lab.lb1.run(&["ip", "link", "set", "late0", "up"]);
        wait_until("it becomes active", Duration::from_secs(5), || monitor.holds(VIP))
    })();
    outcome.unwrap_or_else(|failure| panic!("{}", failure.text));
}

/// Runs vipd until it ends by itself and gives what it said.
fn refused(host: &Host, words: &[&str], what: &str) -> String {
    let mut command = host.command(words[0]);
    command.args(&words[1..]);
    let log = host.directory.join(format!("{what}.log"));
    let mut process = Process::start(command, &log).expect("it starts");
    let status = wait_for(&format!("{what}: it refuses to run"), Duration::from_secs(10), || process.ended());
    let status = status.unwrap_or_else(|failure| panic!("{}\n{}", failure.text, process.output()));
    assert!(!status.success(), "{what}: it ended with success:\n{}", process.output());
    process.output()
}

#[test]
fn a_second_daemon_on_the_same_control_socket_is_refused_with_the_reason() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let peer = Peer::start_configured(Vipd, &lab.lb1, &configuration("eth0", 52), "first");
    wait_until("the first one runs", Duration::from_secs(5), || peer.status(&lab.lb1).is_ok())
        .unwrap_or_else(|failure| panic!("{}", failure.text));
    let daemon = peer.status(&lab.lb1).unwrap_or_else(|failure| panic!("{}", failure.text))["pid"].clone();
    let file = lab.lb1.directory.join("second.conf");
    std::fs::write(&file, configuration("eth0", 53)).expect("the lab's directory is ours");
    let said =
        refused(&lab.lb1, &[&vipd().to_string_lossy(), "run", "-c", &file.to_string_lossy()], "second");
    assert!(said.contains("control.sock") && said.contains(&format!("pid {daemon}")), "{said}");
    assert!(peer.status(&lab.lb1).is_ok(), "the first one must not suffer");
}

#[test]
fn a_second_daemon_for_the_same_virtual_router_is_refused_with_the_reason() {
    if !enabled(&[]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let peer = Peer::start_configured(Vipd, &lab.lb1, &configuration("eth0", 52), "first");
    wait_until("the first one runs", Duration::from_secs(5), || peer.status(&lab.lb1).is_ok())
        .unwrap_or_else(|failure| panic!("{}", failure.text));
    let file = lab.lb1.directory.join("second.toml");
    let text = format!(
        "[control]\nsocket = \"{}\"\n\n[[instance]]\nname = \"again\"\ninterface = \"eth0\"\nvrid = 52\n\
         addresses = [\"{VIP}/24\"]\n",
        lab.lb1.directory.join("second.sock").display()
    );
    std::fs::write(&file, text).expect("the lab's directory is ours");
    let said =
        refused(&lab.lb1, &[&vipd().to_string_lossy(), "run", "-c", &file.to_string_lossy()], "second");
    assert!(said.contains("VRID 52 on eth0") && said.contains("another vipd"), "{said}");
}

#[test]
fn without_privileges_the_message_names_the_capability() {
    if !enabled(&["setpriv"]) {
        return;
    }
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    let file = lab.lb1.directory.join("unprivileged.conf");
    std::fs::write(&file, configuration("eth0", 52)).expect("the lab's directory is ours");
    for (drop, capability) in [("-net_raw", "CAP_NET_RAW"), ("-net_admin", "CAP_NET_ADMIN")] {
        let vipd = vipd();
        let words = [
            "setpriv",
            "--bounding-set",
            drop,
            &vipd.to_string_lossy(),
            "run",
            "-c",
            &file.to_string_lossy(),
        ]
        .map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let said = refused(&lab.lb1, &words, capability);
        assert!(said.contains(capability), "{capability} is not named:\n{said}");
    }
}
