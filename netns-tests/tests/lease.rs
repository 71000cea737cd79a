//! At no moment do two hosts answer for a virtual address: the active host is frozen, thawed, and killed with all that
//! belongs to it, while a client asks both hosts every 5 ms.

use std::time::Duration;

use netns_tests::answers::{Asker, Way};
use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::turn::{StallWatch, Turn};
use netns_tests::{Failure, Late, Outcome, Stamp, enabled, ensure, now, wait_for, wait_until};
use nix::sys::signal::Signal;

const SOON: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(100);
const VIPS: [&str; 2] = ["10.77.0.100", "fd77::100"];

/// Each family an instance; nobody takes back what was lost.
fn configuration(priority: u8, lease: &str) -> String {
    format!(
        "[engine]\nlease = \"{lease}\"\n\
         [[instance]]\nname = \"v4\"\ninterface = \"eth0\"\nvrid = 51\npriority = {priority}\npreempt = false\n\
         advert_interval = \"100ms\"\naddresses = [\"10.77.0.100/24\"]\n\
         [[instance]]\nname = \"v6\"\ninterface = \"eth0\"\nvrid = 52\npriority = {priority}\npreempt = false\n\
         advert_interval = \"100ms\"\naddresses = [\"fe80::100\", \"fd77::100/64\"]\n"
    )
}

struct Bed {
    lab: Lab,
    askers: Vec<Asker>,
    stalls: StallWatch,
    _turn: Turn,
}

impl Bed {
    fn new() -> Self {
        let turn = Turn::alone();
        let lab = Lab::new(&[]);
        lab.wait_for_calm();
        let hosts = [&lab.lb1, &lab.lb2];
        let ask =
            |address: &str| Asker::start(&lab.client, &hosts, address.parse().expect("an address"), STEP);
        let askers = VIPS.map(ask).into();
        Self { askers, stalls: StallWatch::start(), _turn: turn, lab }
    }

    /// Whether the host answers in both families and in both ways, since then.
    fn answers(&self, host: &Host, since: Stamp) -> bool {
        self.askers.iter().all(|asker| {
            let answers = asker.of(host, since, now());
            [Way::Link, Way::Echo].iter().all(|way| answers.iter().any(|one| one.way == *way))
        })
    }

    /// After `event` the old host falls silent before the new one answers, and that does not take too long.
    fn changed_hands(&self, event: Stamp, from: &Host, to: &Host, priority: u32) -> Outcome {
        // Active_Down_Interval of the new host, RFC 9568 §6.1.
        let down = 3 * INTERVAL + (256 - priority) * INTERVAL / 256;
        let until = now();
        for (asker, vip) in self.askers.iter().zip(VIPS) {
            for way in [Way::Link, Way::Echo] {
                let of = |host: &Host, since: Stamp| -> Vec<Stamp> {
                    let answers = asker.of(host, since, until).into_iter();
                    answers.filter(|one| one.way == way).map(|one| one.at).collect()
                };
                let first = *of(to, event).first().ok_or_else(|| format!("{vip}: nobody took over"))?;
                let last = of(from, event - SOON).last().copied();
                let last = last.ok_or_else(|| format!("{vip}: {} never answered", from.name))?;
                ensure(last < first, || {
                    format!(
                        "{vip}: {} and {} both answer ({way:?}) for {:?}",
                        from.name,
                        to.name,
                        last - first
                    )
                })?;
                let stall = self.stalls.longest(event, first);
                // An answer before the event, one step to the next question, and the takeover itself.
                let most = down + down / 50 + 2 * STEP + Duration::from_millis(5) + 2 * stall;
                if first.saturating_sub(event) > most {
                    let text = format!(
                        "{vip}: nobody answered for {:?} ({way:?}), at most {most:?}",
                        first.saturating_sub(event)
                    );
                    return Err(Failure { text, late: Some(Late { from: event, to: first, margin: most }) });
                }
            }
        }
        Ok(())
    }
}

fn start(host: &Host, priority: u8, lease: &str, tag: &str) -> Peer {
    Peer::start_toml(host, &configuration(priority, lease), tag)
}

fn has(host: &Host, vip: &str) -> bool {
    host.addresses().iter().any(|address| address == vip)
}

fn tables(host: &Host) -> String {
    host.run(&["nft", "list", "tables"])
}

fn status(host: &Host, peer: &Peer) -> serde_json::Value {
    peer.status(host).unwrap_or_default()
}

fn proven(outcome: Outcome) {
    if let Err(failure) = outcome {
        panic!("{}", failure.text);
    }
}

#[test]
fn never_do_two_hosts_answer() {
    if !enabled(&[]) {
        return;
    }
    match frozen_and_killed(&Bed::new()) {
        // The kernel gives addresses late while others hold its lock for links; two answers are never excused.
        Err(Failure { text, late: Some(_) }) => {
            println!("once more: {text}");
            proven(frozen_and_killed(&Bed::new()));
        }
        outcome => proven(outcome),
    }
}

fn frozen_and_killed(bed: &Bed) -> Outcome {
    let (one, other) = (&bed.lab.lb1, &bed.lab.lb2);
    let mut first = start(one, 200, "auto", "a");
    wait_until("the first one is active", SOON, || bed.answers(one, now() - 20 * STEP))?;
    let mut second = start(other, 100, "auto", "b");
    wait_until("the other one listens", SOON, || {
        status(other, &second)["instances"][0]["active"].is_object()
    })?;

    // Frozen: the kernel goes on without the daemon.
    let event = now();
    first.process.signal_family(Signal::SIGSTOP);
    wait_until("the other one takes over", SOON, || bed.answers(other, event))?;
    wait_until("the freeze lasts", SOON, || now() > event + Duration::from_millis(1500))?;
    let thawed = now();
    first.process.signal_family(Signal::SIGCONT);
    wait_until("it lets go", SOON, || !has(one, VIPS[0]) && !has(one, VIPS[1]))?;
    wait_until("it listens", SOON, || {
        status(one, &first)["instances"]
            .as_array()
            .is_some_and(|all| all.iter().all(|i| i["state"] == "backup"))
    })?;
    wait_until("time for mistakes", SOON, || now() > thawed + 5 * INTERVAL)?;
    bed.changed_hands(event, one, other, 100)?;
    let seen = status(one, &first);
    ensure(seen["stalls"]["resurrected"] == 2, || format!("its status says nothing of it: {seen:#}"))?;

    // Killed with all that belongs to it: nobody is left to take the addresses off. Stopped before, so that the guard
    // does not see the daemon die.
    let event = now();
    second.process.signal_family(Signal::SIGSTOP);
    second.process.kill_family();
    wait_until("the first one takes over", SOON, || bed.answers(one, event))?;
    ensure(VIPS.iter().all(|vip| has(other, vip)), || "somebody took the addresses off".to_owned())?;
    let held_up = now();
    wait_until("somebody flushes the ruleset", SOON, || now() > held_up + 3 * INTERVAL)?;
    let (before, flushed) = (tables(one), now());
    one.run(&["nft", "flush", "ruleset"]);
    wait_until("the tables are back", SOON, || tables(one) == before)?;
    ensure(before.matches("vipd-lease").count() == 2, || before.clone())?;
    one.run(&["nft", "flush", "ruleset"]);
    wait_until("the tables are back again", SOON, || tables(one) == before)?;
    ensure(first.process.output().matches("somebody removed the nftables tables").count() == 1, || {
        first.process.output()
    })?;
    ensure(bed.answers(one, flushed), || "it does not answer any more".to_owned())?;
    bed.changed_hands(event, other, one, 200)?;

    // The kernel takes them off by itself: 10 s after they were renewed last, and what `ip` needs to look.
    wait_until("the addresses vanish", Duration::from_secs(13), || VIPS.iter().all(|vip| !has(other, vip)))?;
    bed.changed_hands(event, other, one, 200)?;
    first.process.terminate(SOON)?;
    ensure(!tables(one).contains("vipd"), || tables(one))?;
    ensure(!has(one, VIPS[0]), || "it left an address".to_owned())
}

/// What the promise is worth without it; and no trace of it is left on the host.
#[test]
fn without_a_lease_a_frozen_host_answers_beside_the_other() {
    fn story(bed: &Bed) -> Outcome {
        let (one, other) = (&bed.lab.lb1, &bed.lab.lb2);
        let mut first = start(one, 200, "off", "a");
        wait_until("the first one is active", SOON, || bed.answers(one, now() - 20 * STEP))?;
        let second = start(other, 100, "off", "b");
        wait_until("the other one listens", SOON, || {
            status(other, &second)["instances"][0]["active"].is_object()
        })?;
        ensure(!tables(one).contains("vipd"), || tables(one))?;
        let shown = one.run(&["ip", "address", "show", "to", VIPS[0]]);
        ensure(shown.contains("valid_lft forever") && !shown.contains("dynamic"), || shown.clone())?;
        let event = now();
        first.process.signal_family(Signal::SIGSTOP);
        wait_until("both answer", SOON, || bed.answers(other, event) && bed.answers(one, now() - 20 * STEP))?;
        let both = bed.changed_hands(event, one, other, 100);
        first.process.signal_family(Signal::SIGCONT);
        ensure(both.is_err_and(|failure| failure.text.contains("both answer")), || "nobody saw it".to_owned())
    }
    if enabled(&[]) {
        proven(story(&Bed::new()));
    }
}

/// An active host goes on with what a reload says, and the addresses stay where they are.
#[test]
fn a_reload_switches_the_lease_off_and_on() {
    fn story(bed: &Bed) -> Outcome {
        let host = &bed.lab.lb1;
        let mut daemon = start(host, 200, "auto", "a");
        let file = host.directory.join("a.toml");
        let shown = || host.run(&["ip", "address", "show", "to", VIPS[0]]);
        wait_until("it is active", SOON, || bed.answers(host, now() - 20 * STEP))?;
        wait_for("a lifetime, and tables", SOON, || {
            (shown().contains("dynamic") && tables(host).contains("vipd-lease")).then_some(())
        })?;
        let began = now();
        let text = std::fs::read_to_string(&file).expect("written by start");
        std::fs::write(&file, text.replace("lease = \"auto\"", "lease = \"off\"")).expect("ours");
        daemon.process.signal(Signal::SIGHUP);
        wait_until("no lifetime, no tables", SOON, || {
            shown().contains("valid_lft forever") && !tables(host).contains("vipd-lease")
        })?;
        std::fs::write(&file, text.replace("lease = \"auto\"", "lease = \"250ms\"")).expect("ours");
        daemon.process.signal(Signal::SIGHUP);
        wait_until("both again", SOON, || {
            shown().contains("dynamic") && tables(host).contains("vipd-lease")
        })?;
        wait_until("status tells", SOON, || {
            status(host, &daemon)["instances"][0]["lease"]["nanos"] == 250_000_000
        })?;
        let counters = &status(host, &daemon)["instances"][0]["counters"];
        ensure(counters["became_active"] == 1, || counters.to_string())?;
        // Never silent for longer than a machine that stands still explains.
        let most = 4 * STEP + 2 * bed.stalls.longest(began, now());
        for asker in &bed.askers {
            let times: Vec<Stamp> = asker.of(host, began, now()).into_iter().map(|one| one.at).collect();
            let silence = times.windows(2).map(|two| two[1] - two[0]).max().unwrap_or(SOON);
            ensure(silence <= most, || format!("it was silent for {silence:?}, at most {most:?}"))?;
        }
        daemon.process.terminate(SOON).map(drop)
    }
    if enabled(&[]) {
        proven(story(&Bed::new()));
    }
}
