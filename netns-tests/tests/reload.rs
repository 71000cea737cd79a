//! What an operator does to a running vipd: reloads, broken files, interfaces that come and go, checks
//! that fail, stops and kills. Whatever is done to one instance, the others notice nothing.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use netns_tests::craft::Craft;
use netns_tests::host::Host;
use netns_tests::inject::Injector;
use netns_tests::lab::Lab;
use netns_tests::observer::Monitor;
use netns_tests::peer::{Peer, vipd};
use netns_tests::turn::{StallWatch, Turn};
use netns_tests::wire::{Advert, Capture};
use netns_tests::{Outcome, Stamp, enabled, ensure, now, wait_for, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

/// Between adverts.
const INTERVAL: Duration = Duration::from_millis(100);
/// For what takes at most two Active_Down_Intervals, on a machine that others keep busy.
const SOON: Duration = Duration::from_secs(20);

/// Runs a test in a lab of its own, and says what went wrong with the logs.
fn in_lab(test: impl FnOnce(&Lab) -> Outcome) {
    if !enabled(&[]) {
        return;
    }
    // A turn is for one test at a time, and its file lock is for other processes.
    static ONE: Mutex<()> = Mutex::new(());
    let _one = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let _turn = Turn::alone();
    let lab = Lab::new(&[]);
    if let Err(failure) = test(&lab) {
        panic!("{}", failure.text);
    }
}

/// One instance, as it is written.
#[derive(Clone)]
struct Written {
    name: String,
    interface: String,
    vrid: u8,
    priority: u8,
    interval: Duration,
    addresses: Vec<String>,
    /// More lines.
    more: String,
}

impl Written {
    /// Instance `v1` with VRID 51 and 10.77.0.101, and so on.
    fn numbered(number: u8, priority: u8) -> Self {
        Self {
            name: format!("v{number}"),
            interface: "eth0".into(),
            vrid: 50 + number,
            priority,
            interval: INTERVAL,
            addresses: vec![format!("\"{}/24\"", vip(number))],
            more: String::new(),
        }
    }

    fn toml(&self) -> String {
        let Self { name, interface, vrid, priority, interval, addresses, more } = self;
        format!(
            "[[instance]]\nname = \"{name}\"\ninterface = \"{interface}\"\nvrid = {vrid}\npriority = {priority}\n\
             advert_interval = \"{}ms\"\naddresses = [{}]\n{more}\n",
            interval.as_millis(),
            addresses.join(", ")
        )
    }
}

fn toml(instances: &[Written]) -> String {
    instances.iter().map(Written::toml).collect()
}

fn vip(number: u8) -> String {
    format!("10.77.0.{}", 100 + number)
}

/// A host with a running vipd, and its configuration.
struct Node<'a> {
    host: &'a Host,
    peer: Peer,
    file: PathBuf,
}

impl<'a> Node<'a> {
    fn start(host: &'a Host, configuration: &str) -> Self {
        Self {
            host,
            peer: Peer::start_toml(host, configuration, "vipd"),
            file: host.directory.join("vipd.toml"),
        }
    }

    fn write(&self, configuration: &str) {
        std::fs::write(&self.file, configuration).expect("the lab's directory is ours");
    }

    /// `vipd reload`: what it said, or what it said when it failed.
    fn reload(&self) -> Result<String, String> {
        self.host.try_run(&[&vipd().to_string_lossy(), "reload"])
    }

    /// SIGHUP, and waits until the log tells the outcome.
    fn hang_up(&mut self, outcome: &str) -> Outcome {
        let count = |log: &str| log.matches(outcome).count();
        let before = count(&self.peer.process.output());
        self.peer.process.signal(Signal::SIGHUP);
        wait_until(&format!("{outcome:?} in the log after SIGHUP"), SOON, || {
            count(&self.peer.process.output()) > before
        })
    }

    /// Writes a configuration and has it taken on, this time by `vipd reload`, the next time by SIGHUP.
    fn take_on(&mut self, configuration: &str, number: usize) -> Outcome {
        self.write(configuration);
        if number.is_multiple_of(2) {
            self.reload().map(drop).map_err(|error| format!("vipd reload: {error}").into())
        } else {
            self.hang_up("configuration reloaded")
        }
    }

    /// The instance with this name in `vipd status --json`.
    fn instance(&self, name: &str) -> Option<Value> {
        let status = self.peer.status(self.host).ok()?;
        status["instances"].as_array()?.iter().find(|instance| instance["name"] == name).cloned()
    }

    fn state(&self, name: &str) -> String {
        let instance = self.instance(name).unwrap_or_default();
        instance["state"].as_str().unwrap_or("unknown").to_owned()
    }

    fn why(&self, name: &str) -> String {
        let instance = self.instance(name).unwrap_or_default();
        instance["why"].as_str().unwrap_or("unknown").to_owned()
    }

    fn becomes(&self, name: &str, state: &str) -> Outcome {
        wait_until("", SOON, || self.state(name) == state).map_err(|_| {
            format!(
                "{name} on {} is {} and not {state}: {}",
                self.host.name,
                self.state(name),
                self.why(name)
            )
            .into()
        })
    }

    /// How often each instance changed its state, by its name.
    fn transitions(&self) -> BTreeMap<String, String> {
        let status = self.peer.status(self.host).unwrap_or_default();
        let instances = status["instances"].as_array().cloned().unwrap_or_default();
        let count = |instance: &Value| instance["counters"]["transitions"].to_string();
        instances.iter().map(|i| (i["name"].as_str().unwrap_or_default().to_owned(), count(i))).collect()
    }

    fn holds(&self, address: &str) -> bool {
        self.host.addresses().iter().any(|one| one == address)
    }

    fn gets(&self, address: &str) -> Outcome {
        wait_until(&format!("{address} on {}", self.host.name), SOON, || self.holds(address))
    }

    fn loses(&self, address: &str) -> Outcome {
        wait_until(&format!("{address} not on {}", self.host.name), SOON, || !self.holds(address))
    }

    fn logs(&self, text: &str) -> Outcome {
        wait_until(&format!("{text:?} in the log"), SOON, || self.peer.process.output().contains(text))
    }
}

fn source(host: &Host) -> IpAddr {
    host.ipv4().parse().expect("an address")
}

/// Adverts of a virtual router sent by this host after this time.
fn adverts(capture: &Capture, host: &Host, vrid: u8, after: Stamp) -> Vec<Advert> {
    let mut adverts = capture.adverts_of(source(host), after);
    adverts.retain(|advert| advert.vrid == vrid);
    adverts
}

/// The first advert after this time that is as wanted.
fn advert(
    capture: &Capture,
    host: &Host,
    vrid: u8,
    after: Stamp,
    what: &str,
    wanted: impl Fn(&Advert) -> bool,
) -> Outcome<Advert> {
    wait_for(&format!("an advert with {what}"), SOON, || {
        adverts(capture, host, vrid, after).into_iter().find(&wanted)
    })
}

/// No advert of these virtual routers was missed since `from`: a missing one leaves 200 ms.
fn without_gaps(capture: &Capture, stalls: &StallWatch, host: &Host, vrids: &[u8], from: Stamp) -> Outcome {
    for vrid in vrids {
        let times: Vec<Stamp> = adverts(capture, host, *vrid, from).iter().map(|advert| advert.at).collect();
        ensure(times.len() > 3, || format!("VRID {vrid}: only {} adverts", times.len()))?;
        for pair in times.windows(2) {
            let gap = pair[1] - pair[0];
            // A machine that stood still is not the daemon's fault.
            let allowed = INTERVAL * 19 / 10 + stalls.longest(pair[0], pair[1]);
            ensure(gap < allowed, || format!("VRID {vrid}: no advert for {gap:?}"))?;
        }
    }
    Ok(())
}

fn executable(path: &Path, text: &str) -> String {
    std::fs::write(path, text).expect("the lab's directory is ours");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("our own file");
    path.display().to_string()
}

/// Two hosts with five instances; all of lb1 are active.
fn five(lab: &Lab) -> Outcome<(Node<'_>, Node<'_>, Vec<Written>)> {
    let on_lb1: Vec<Written> = (1..=5).map(|number| Written::numbered(number, 150)).collect();
    let on_lb2: Vec<Written> = (1..=5).map(|number| Written::numbered(number, 100)).collect();
    let lb1 = Node::start(&lab.lb1, &toml(&on_lb1));
    let lb2 = Node::start(&lab.lb2, &toml(&on_lb2));
    for number in 1..=5 {
        lb1.becomes(&format!("v{number}"), "active")?;
        lb2.becomes(&format!("v{number}"), "backup")?;
        lb1.gets(&vip(number))?;
    }
    Ok((lb1, lb2, on_lb1))
}

#[test]
fn changes_of_one_instance_are_not_noticed_by_the_others() {
    in_lab(|lab| {
        let (capture, stalls) = (Capture::start(lab), StallWatch::start());
        let (mut lb1, lb2, mut written) = five(lab)?;
        let (before, begin) = ((lb1.transitions(), lb2.transitions()), now());
        let script = executable(&lab.lb1.directory.join("ok.sh"), "#!/bin/sh\nexit 0\n");
        let mut number = 0;
        let mut change = |written: &[Written], more: &str| {
            number += 1;
            let at = now();
            lb1.take_on(&(toml(written) + more), number).map(|()| at)
        };

        written[2].addresses.push("\"10.77.0.203/24\"".into());
        let at = change(&written, "")?;
        wait_until("10.77.0.203 on lb1", SOON, || lab.lb1.addresses().contains(&"10.77.0.203".to_owned()))?;
        advert(&capture, &lab.lb1, 53, at, "the added address", |advert| advert.addresses.len() == 2)?;
        wait_until("an announcement of 10.77.0.203", SOON, || {
            let added: IpAddr = "10.77.0.203".parse().expect("an address");
            capture.announcements().iter().any(|one| one.address == added)
        })?;

        // Another length is another address for the kernel.
        written[2].addresses[1] = "\"10.77.0.203/32\"".into();
        change(&written, "")?;
        wait_until("10.77.0.203/32 alone", SOON, || {
            let shown = lab.lb1.run(&["ip", "-o", "address", "show", "to", "10.77.0.203"]);
            shown.contains("10.77.0.203/32") && !shown.contains("10.77.0.203/24")
        })?;

        written[2].addresses[1] =
            "{ address = \"10.77.0.203/32\", interface = \"eth0\", label = \"eth0:web\" }".into();
        change(&written, "")?;
        wait_until("the label of 10.77.0.203", SOON, || {
            lab.lb1.run(&["ip", "-o", "address", "show", "to", "10.77.0.203"]).contains("eth0:web")
        })?;

        written[2].addresses.pop();
        let at = change(&written, "")?;
        wait_until("10.77.0.203 gone", SOON, || !lab.lb1.addresses().contains(&"10.77.0.203".to_owned()))?;
        advert(&capture, &lab.lb1, 53, at, "one address", |advert| advert.addresses.len() == 1)?;

        written[2].priority = 160;
        let at = change(&written, "")?;
        advert(&capture, &lab.lb1, 53, at, "priority 160", |advert| advert.priority == 160)?;

        written[2].interval = 2 * INTERVAL;
        let at = change(&written, "")?;
        advert(&capture, &lab.lb1, 53, at, "200 ms", |advert| advert.interval == 2 * INTERVAL)?;
        written[2].interval = INTERVAL;
        let at = change(&written, "")?;
        advert(&capture, &lab.lb1, 53, at, "100 ms", |advert| advert.interval == INTERVAL)?;

        // A script that moves the priority, then one without a weight: it has no result yet, and what
        // takes part goes on.
        written[2].more = "track = [{ check = \"ok\", weight = 7 }]\n".into();
        let check = format!("[[check]]\nname = \"ok\"\nscript = [\"{script}\"]\ninterval = \"50ms\"\n");
        let at = change(&written, &check)?;
        advert(&capture, &lab.lb1, 53, at, "priority 167", |advert| advert.priority == 167)?;
        let slow = executable(&lab.lb1.directory.join("slow.sh"), "#!/bin/sh\nsleep 0.5\n");
        written[2].more = "track = [\"slow\"]\n".into();
        let check = format!("[[check]]\nname = \"slow\"\nscript = [\"{slow}\"]\ninterval = \"2s\"\n");
        let at = change(&written, &check)?;
        advert(&capture, &lab.lb1, 53, at, "priority 160", |advert| advert.priority == 160)?;
        wait_until("the result of the new check", SOON, || {
            let status =
                lab.lb1.try_run(&[&vipd().to_string_lossy(), "status", "--json"]).unwrap_or_default();
            let status: Value = serde_json::from_str(&status).unwrap_or_default();
            status["checks"][0]["health"] == "up"
        })?;
        written[2].more.clear();
        change(&written, "")?;

        // The order of the file and its comments mean nothing.
        let mut turned = written.clone();
        turned.reverse();
        change(&turned, "# nothing else\n")?;

        let end = now();
        wait_until("some more adverts", SOON, || adverts(&capture, &lab.lb1, 51, end).len() > 3)?;
        without_gaps(&capture, &stalls, &lab.lb1, &[51, 52, 54, 55], begin)?;
        ensure((lb1.transitions(), lb2.transitions()) == before, || {
            format!("states changed: {:?}, {:?} before {before:?}", lb1.transitions(), lb2.transitions())
        })?;
        for number in 1..=5 {
            ensure(lb1.holds(&vip(number)), || format!("{} is gone", vip(number)))?;
        }
        ensure(adverts(&capture, &lab.lb2, 53, begin).is_empty(), || "lb2 sent adverts".into())
    });
}

#[test]
fn peers_of_a_unicast_instance_change_in_place() {
    in_lab(|lab| {
        let capture = Capture::start(lab);
        let mut written = Written::numbered(1, 150);
        let unicast = |peers: &str| format!("unicast = {{ peers = [{peers}] }}\n");
        written.more = unicast("\"10.77.0.2\"");
        let mut on_lb2 = Written::numbered(1, 100);
        on_lb2.more = unicast("\"10.77.0.1\"");
        let mut lb1 = Node::start(&lab.lb1, &written.toml());
        let lb2 = Node::start(&lab.lb2, &on_lb2.toml());
        lb1.becomes("v1", "active")?;
        lb2.becomes("v1", "backup")?;
        let before = (lb1.transitions(), lb2.transitions());

        written.more = unicast("\"10.77.0.2\", \"10.77.0.3\"");
        let at = now();
        lb1.take_on(&written.toml(), 0)?;
        let client = source(&lab.client);
        advert(&capture, &lab.lb1, 51, at, "the new peer", |advert| advert.destination == client)?;
        written.more = unicast("\"10.77.0.2\"");
        lb1.take_on(&written.toml(), 1)?;
        let at = now();
        wait_until("more adverts", SOON, || adverts(&capture, &lab.lb1, 51, at).len() > 3)?;
        ensure(adverts(&capture, &lab.lb1, 51, at).iter().all(|one| one.destination != client), || {
            "adverts go to a peer that was removed".into()
        })?;
        ensure((lb1.transitions(), lb2.transitions()) == before, || "states changed".into())
    });
}

#[test]
fn a_broken_file_changes_nothing_and_says_why() {
    in_lab(|lab| {
        let (capture, stalls) = (Capture::start(lab), StallWatch::start());
        let (mut lb1, lb2, written) = five(lab)?;
        let (before, begin) = ((lb1.transitions(), lb2.transitions()), now());

        // One instance is right and new, another one is wrong.
        let broken = toml(&written[..4]) + &Written { vrid: 0, ..Written::numbered(5, 150) }.toml();
        lb1.write(&broken);
        let line = broken.lines().position(|line| line == "vrid = 0").expect("it is there") + 1;
        let refused = lb1.reload().err().unwrap_or_else(|| "accepted".into());
        ensure(refused.contains("exit status: 1"), || format!("not refused with 1: {refused}"))?;
        ensure(refused.contains(&format!("vipd.toml:{line}:")) && refused.contains("vrid"), || {
            format!("it does not say vipd.toml:{line} and vrid: {refused}")
        })?;
        lb1.hang_up("reload refused")?;
        std::fs::remove_file(&lb1.file).expect("our own file");
        let refused = lb1.reload().err().unwrap_or_else(|| "accepted".into());
        ensure(refused.contains("vipd.toml"), || format!("a missing file: {refused}"))?;

        // Two good sections, and a listener whose port is taken, not only on every address: beside that it could be.
        let place = format!("{}:7001", lab.lb1.ipv4());
        let taken = lab.lb1.inside(|| TcpListener::bind(&place)).expect("a free port");
        lb1.write(&(toml(&written[..4]) + &listener(&place)));
        let refused = lb1.reload().err().unwrap_or_else(|| "accepted".into());
        ensure(refused.contains("7001"), || format!("a taken port: {refused}"))?;
        drop(taken);

        let end = now();
        wait_until("more adverts", SOON, || adverts(&capture, &lab.lb1, 55, end).len() > 3)?;
        without_gaps(&capture, &stalls, &lab.lb1, &[51, 52, 53, 54, 55], begin)?;
        ensure((lb1.transitions(), lb2.transitions()) == before, || "states changed".into())?;
        ensure((1..=5).all(|number| lb1.holds(&vip(number))), || "an address is gone".into())?;
        lb1.take_on(&toml(&written), 0)
    });
}

#[test]
fn instances_come_and_go() {
    in_lab(|lab| {
        let (capture, stalls) = (Capture::start(lab), StallWatch::start());
        let (mut lb1, mut lb2, written) = five(lab)?;
        let begin = now();
        lb1.take_on(&toml(&written[..4]), 0)?;
        advert(&capture, &lab.lb1, 55, begin, "priority 0", |advert| advert.priority == 0)?;
        lb1.loses(&vip(5))?;
        ensure(lb1.instance("v5").is_none(), || "it is still shown".into())?;
        lb2.becomes("v5", "active")?;
        lb2.gets(&vip(5))?;

        lb1.take_on(&toml(&written), 1)?;
        lb1.becomes("v5", "active")?;
        lb1.gets(&vip(5))?;
        lb2.becomes("v5", "backup")?;
        lb2.loses(&vip(5))?;

        // Under another name it is the same virtual router.
        let before = lb1.transitions()["v4"].clone();
        let mut renamed = written.clone();
        renamed[3].name = "renamed".into();
        let at = now();
        lb1.take_on(&toml(&renamed), 0)?;
        ensure(lb1.state("renamed") == "active" && lb1.transitions()["renamed"] == before, || {
            format!("a new name made it {}: {}", lb1.state("renamed"), lb1.why("renamed"))
        })?;
        advert(&capture, &lab.lb1, 54, at, "priority 150", |advert| advert.priority == 150)?;
        ensure(adverts(&capture, &lab.lb1, 54, at).iter().all(|advert| advert.priority == 150), || {
            "a renamed instance gave up".into()
        })?;

        // The address of one instance is another one's from now on, which comes first in the file.
        let mut moved = renamed.clone();
        let address = moved[3].addresses[0].clone();
        moved[0].addresses.push(address);
        moved[3].addresses[0] = "\"10.77.0.204/24\"".into();
        lb1.take_on(&toml(&moved), 1)?;
        lb1.gets("10.77.0.204")?;
        let settled = now();
        wait_until("some adverts", SOON, || adverts(&capture, &lab.lb1, 51, settled).len() > 3)?;
        lb1.gets(&vip(4))?;
        let mut without = moved.clone();
        without.remove(3);
        without[0].addresses.push("\"10.77.0.204/24\"".into());
        lb1.take_on(&toml(&without), 0)?;
        let settled = now();
        wait_until("some adverts", SOON, || adverts(&capture, &lab.lb1, 51, settled).len() > 3)?;
        lb1.gets("10.77.0.204")?;

        without_gaps(&capture, &stalls, &lab.lb1, &[51, 52, 53], begin)?;
        let end = now();
        lb1.peer.stop()?;
        for vrid in [51, 52, 53, 55] {
            advert(&capture, &lab.lb1, vrid, end, "priority 0", |advert| advert.priority == 0)?;
        }
        let left: Vec<String> =
            lab.lb1.addresses().into_iter().filter(|a| a.starts_with("10.77.0.1") && a.len() > 9).collect();
        ensure(left.is_empty(), || format!("left behind: {left:?}"))?;
        lb2.becomes("v1", "active")?;
        lb2.peer.stop()
    });
}

fn listener(bind: &str) -> String {
    format!(
        "[[listener]]\nname = \"hello\"\nbind = [\"{bind}\"]\nbackends = [{{ name = \"a\", address = \"127.0.0.1:9000\" }}]\n"
    )
}

#[test]
fn listeners_come_and_go() {
    in_lab(|lab| {
        let written = Written::numbered(1, 150);
        let mut lb1 = Node::start(&lab.lb1, &written.toml());
        lb1.becomes("v1", "active")?;
        lb1.gets(&vip(1))?;
        let backend = lab.lb1.inside(|| TcpListener::bind("127.0.0.1:9000")).expect("a free port");
        std::thread::spawn(move || {
            for session in backend.incoming().flatten() {
                let _ = std::io::Write::write_all(&mut &session, b"hello");
            }
        });
        let target: SocketAddr = format!("{}:7000", vip(1)).parse().expect("an address");
        let hello = || {
            lab.client.inside(|| {
                let mut text = String::new();
                let mut session = TcpStream::connect_timeout(&target, Duration::from_secs(1))?;
                session.set_read_timeout(Some(Duration::from_secs(1)))?;
                session.read_to_string(&mut text).map(|_| text)
            })
        };
        ensure(hello().is_err(), || "somebody listens already".into())?;
        lb1.take_on(&(written.toml() + &listener(&target.to_string())), 0)?;
        wait_until("an answer through the listener", SOON, || hello().is_ok_and(|text| text == "hello"))?;
        lb1.take_on(&written.toml(), 1)?;
        wait_until("nobody listens", SOON, || hello().is_err())?;
        ensure(lb1.state("v1") == "active" && lb1.holds(&vip(1)), || "the address moved".into())
    });
}

/// A daemon that only forwards has an engine that rests; a reload with an instance wakes it.
#[test]
fn the_first_instance_comes_with_a_reload() {
    in_lab(|lab| {
        let (capture, written) = (Capture::start(lab), Written::numbered(1, 150));
        let own = format!("{}:7000", lab.lb1.ipv4());
        let backend = lab.lb1.inside(|| TcpListener::bind("127.0.0.1:9000")).expect("a free port");
        std::thread::spawn(move || {
            for mut session in backend.incoming().flatten() {
                std::thread::spawn(move || {
                    let mut byte = [0];
                    while session.read_exact(&mut byte).is_ok() && session.write_all(&byte).is_ok() {}
                });
            }
        });
        let answers =
            |session: &mut TcpStream| session.write_all(b"?").is_ok() && session.read_exact(&mut [0]).is_ok();
        let mut lb1 = Node::start(&lab.lb1, &listener(&own));
        let target: SocketAddr = own.parse().expect("an address");
        let connect = || lab.client.inside(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)));
        let mut session = wait_for("the listener is there", SOON, || connect().ok())?;
        session.set_read_timeout(Some(SOON)).map_err(|error| error.to_string())?;
        ensure(answers(&mut session), || "no answer before the reload".into())?;
        ensure(adverts(&capture, &lab.lb1, 51, Stamp::ZERO).is_empty(), || "it advertises already".into())?;

        for round in 0..2 {
            let changed = now();
            lb1.take_on(&(written.toml() + &listener(&own)), round)?;
            lb1.becomes("v1", "active")?;
            lb1.gets(&vip(1))?;
            wait_until("it advertises", SOON, || !adverts(&capture, &lab.lb1, 51, changed).is_empty())?;
            ensure(answers(&mut session), || "the session of before is gone".into())?;
            lb1.take_on(&listener(&own), round + 1)?;
            wait_until("the address goes", SOON, || !lb1.holds(&vip(1)))?;
            ensure(answers(&mut session), || "the session of before is gone".into())?;
        }
        Ok(())
    });
}

#[test]
fn the_start_delay_is_kept() {
    in_lab(|lab| {
        const DELAY: Duration = Duration::from_millis(700);
        // Active_Down_Interval for priority 100 at 100 ms.
        const DOWN: Duration = Duration::from_micros(360_937);
        let capture = Capture::start(lab);
        let text = format!("[engine]\nstartup_delay = \"{}ms\"\n", DELAY.as_millis());
        let lb1 = Node::start(&lab.lb1, &(text + &Written::numbered(1, 100).toml()));
        wait_until("it answers", SOON, || lb1.state("v1") == "initialize")?;
        let first = advert(&capture, &lab.lb1, 51, Stamp::ZERO, "any priority", |_| true)?;
        let took = first.at - lb1.peer.started;
        ensure(took >= DELAY + DOWN, || format!("the first advert came after {took:?}"))?;
        ensure(took < DELAY + DOWN + Duration::from_secs(2), || format!("only after {took:?}"))
    });
}

/// A link to nowhere, in the words of `ip -batch`.
fn link(name: &str) -> String {
    format!("link add {name} type veth peer name {name}-end\nlink set {name} up\nlink set {name}-end up\n")
}

fn batch(host: &Host, lines: &str) {
    let file = host.directory.join("links.batch");
    std::fs::write(&file, lines).expect("the lab's directory is ours");
    host.run(&["ip", "-batch", &file.to_string_lossy()]);
}

#[test]
fn interfaces_come_and_go() {
    in_lab(|lab| {
        let (capture, stalls) = (Capture::start(lab), StallWatch::start());
        let mut on_late = Written::numbered(1, 100);
        on_late.interface = "late0".into();
        let mut elsewhere = Written::numbered(2, 100);
        elsewhere.addresses.push("{ address = \"10.77.0.202/32\", interface = \"late0\" }".into());
        let mut watching = Written::numbered(3, 100);
        watching.more = "track = [{ interface = \"watched0\" }]\n".into();
        batch(&lab.lb1, &link("watched0"));
        let late = link("late0") + "address add 10.88.0.1/24 dev late0\n";
        let lb1 = Node::start(&lab.lb1, &toml(&[on_late, elsewhere, watching]));

        lb1.becomes("v1", "fault")?;
        ensure(lb1.why("v1") == "fault: interface late0 does not exist", || lb1.why("v1"))?;
        lb1.becomes("v2", "active")?;
        lb1.becomes("v3", "active")?;
        let begin = now();
        batch(&lab.lb1, &late);
        lb1.becomes("v1", "active")?;
        lb1.gets(&vip(1))?;
        lb1.gets("10.77.0.202")?;

        // Made again, with another index: slowly, so that it is missed, then at once.
        lab.lb1.run(&["ip", "link", "del", "late0"]);
        lb1.becomes("v1", "fault")?;
        batch(&lab.lb1, &late);
        lb1.becomes("v1", "active")?;
        lb1.gets(&vip(1))?;
        lb1.gets("10.77.0.202")?;
        for _ in 0..5 {
            batch(&lab.lb1, &format!("link del late0\n{late}"));
            lb1.gets(&vip(1))?;
            lb1.gets("10.77.0.202")?;
        }
        lb1.becomes("v1", "active")?;
        // The kernel's lock on its links is held for long by those who make and remove them.
        without_gaps(&capture, &stalls, &lab.lb1, &[52], begin)?;

        lab.lb1.run(&["ip", "link", "set", "watched0", "down"]);
        lb1.becomes("v3", "fault")?;
        ensure(lb1.why("v3") == "fault: interface watched0 is down", || lb1.why("v3"))?;
        lb1.loses(&vip(3))?;
        lab.lb1.run(&["ip", "link", "set", "watched0", "up"]);
        lb1.becomes("v3", "active")?;
        lb1.gets(&vip(3))?;
        ensure(lb1.transitions()["v2"].matches(':').count() == 2, || format!("{:?}", lb1.transitions()))
    });
}

#[test]
fn a_check_moves_the_address_to_the_peer_and_back() {
    in_lab(|lab| {
        let flag = lab.lb1.directory.join("healthy");
        std::fs::write(&flag, "").expect("the lab's directory is ours");
        let mut on_lb1 = Written::numbered(1, 101);
        on_lb1.more = "track = [{ check = \"flag\", weight = -10 }]\n".into();
        let check = format!(
            "[[check]]\nname = \"flag\"\nfile = \"{}\"\ninterval = \"20ms\"\nrise = 2\nfall = 3\n",
            flag.display()
        );
        let lb1 = Node::start(&lab.lb1, &(on_lb1.toml() + &check));
        let lb2 = Node::start(&lab.lb2, &Written::numbered(1, 100).toml());
        lb1.becomes("v1", "active")?;
        wait_until("the peer hears it", SOON, || {
            lb2.why("v1") == "backup: 10.77.0.1 advertises priority 101, ours is 100"
        })
        .map_err(|_| lb2.why("v1"))?;

        std::fs::remove_file(&flag).expect("our own file");
        lb2.becomes("v1", "active")?;
        lb2.gets(&vip(1))?;
        lb1.becomes("v1", "backup")?;
        lb1.loses(&vip(1))?;
        let (ours, theirs) = (lb1.why("v1"), lb2.why("v1"));
        ensure(
            ours.starts_with(
                "backup: 10.77.0.2 advertises priority 100, ours is 91 = 101 - 10 (check flag failed 3 of 3: ",
            ),
            || ours.clone(),
        )?;
        ensure(
            theirs
                == "active: ours is the higher priority: 100, 10.77.0.1 advertises 91; our priority is 100",
            || theirs.clone(),
        )?;

        std::fs::write(&flag, "").expect("the lab's directory is ours");
        lb1.becomes("v1", "active")?;
        lb1.gets(&vip(1))?;
        lb2.becomes("v1", "backup")?;
        lb2.loses(&vip(1))?;
        let why = lb1.why("v1");
        ensure(
            why == "active: ours is the higher priority: 101, 10.77.0.2 advertises 100; our priority is 101",
            || why.clone(),
        )
    });
}

#[test]
fn a_check_without_a_weight_is_a_fault_until_its_first_result_and_while_it_fails() {
    in_lab(|lab| {
        let flag = lab.lb1.directory.join("go");
        let script =
            format!("#!/bin/sh\nwhile [ ! -e {} ]; do sleep 0.05; done\nexit $(cat {0})\n", flag.display());
        let script = executable(&lab.lb1.directory.join("slow.sh"), &script);
        let mut written = Written::numbered(1, 100);
        written.more = "track = [\"slow\"]\n".into();
        let check = format!(
            "[[check]]\nname = \"slow\"\nscript = [\"{script}\"]\ninterval = \"100ms\"\ntimeout = \"10s\"\nfall = 2\n"
        );
        let capture = Capture::start(lab);
        let lb1 = Node::start(&lab.lb1, &(written.toml() + &check));
        lb1.becomes("v1", "fault")?;
        ensure(lb1.why("v1") == "fault: check slow has given no result yet", || lb1.why("v1"))?;
        std::fs::write(&flag, "0").expect("the lab's directory is ours");
        lb1.becomes("v1", "active")?;
        lb1.gets(&vip(1))?;
        let at = now();
        std::fs::write(&flag, "3").expect("the lab's directory is ours");
        lb1.becomes("v1", "fault")?;
        let why = lb1.why("v1");
        ensure(why == "fault: check slow failed 2 of 2: exited with status 3", || why.clone())?;
        advert(&capture, &lab.lb1, 51, at, "priority 0", |advert| advert.priority == 0)?;
        lb1.loses(&vip(1))?;
        std::fs::write(&flag, "0").expect("the lab's directory is ours");
        lb1.becomes("v1", "active")
    });
}

#[test]
fn a_killed_daemon_cleans_up_before_its_first_advert() {
    in_lab(|lab| {
        let capture = Capture::start(lab);
        let monitor = Monitor::start(&lab.lb1);
        let mut written = Written::numbered(1, 100);
        written.addresses.push("\"10.77.0.201/32\"".into());
        written.more = "excluded = [\"fd77::201/128\"]\n".into();
        let addresses = ["10.77.0.101", "10.77.0.201", "fd77::201"];
        let mut lb1 = Node::start(&lab.lb1, &written.toml());
        for address in addresses {
            lb1.gets(address)?;
        }
        lb1.peer.process.kill_family();
        ensure(addresses.iter().all(|address| lb1.holds(address)), || "the kernel took them off".into())?;
        let lb1 = Node::start(&lab.lb1, &written.toml());
        let first = advert(&capture, &lab.lb1, 51, lb1.peer.started, "any priority", |_| true)?;
        lb1.logs("left from a former life")?;
        for address in addresses {
            lb1.gets(address)?;
            let held = monitor.held(address);
            let gone = held.first().and_then(|(_, end)| *end);
            ensure(gone.is_some_and(|gone| gone < first.at), || {
                format!("{address} was there {held:?}, the first advert came at {:?}", first.at)
            })?;
        }
        Ok(())
    });
}

/// More often than it is put back at once: it comes back nevertheless when that has ended.
#[test]
fn an_address_that_is_deleted_again_and_again_comes_back() {
    in_lab(|lab| {
        let lb1 = Node::start(&lab.lb1, &Written::numbered(1, 100).toml());
        lb1.gets(&vip(1))?;
        let batch = lab.lb1.directory.join("delete.batch");
        let line = format!("address del {}/24 dev eth0\n", vip(1));
        std::fs::write(&batch, line.repeat(5000)).expect("the lab's directory is ours");
        let said = "address was deleted by somebody, put back";
        let until = Instant::now() + SOON;
        while lb1.peer.process.output().matches(said).count() < 50 && Instant::now() < until {
            // Most of them find nothing to delete.
            let _ = lab.lb1.try_run(&["ip", "-force", "-batch", &batch.to_string_lossy()]);
        }
        let restored = lb1.peer.process.output().matches(said).count();
        ensure(restored >= 50, || format!("put back only {restored} times"))?;
        lb1.gets(&vip(1))?;
        ensure(lb1.state("v1") == "active", || lb1.why("v1"))
    });
}

/// While a backup is frozen it misses adverts that nobody keeps for it: it listens before it acts.
#[test]
fn a_backup_that_was_frozen_listens_before_it_takes_over() {
    in_lab(|lab| {
        let capture = Capture::start(lab);
        let lb1 = Node::start(&lab.lb1, &Written::numbered(1, 150).toml());
        let mut lb2 = Node::start(&lab.lb2, &Written::numbered(1, 100).toml());
        lb1.becomes("v1", "active")?;
        lb2.becomes("v1", "backup")?;
        for _ in 0..2 {
            lab.silence(&lab.lb2);
            lb2.peer.process.signal_family(Signal::SIGSTOP);
            // Longer than two Active_Down_Intervals.
            let frozen = now();
            wait_until("ten adverts", SOON, || adverts(&capture, &lab.lb1, 51, frozen).len() > 10)?;
            lab.unsilence(&lab.lb2);
            let thawed = now();
            lb2.peer.process.signal_family(Signal::SIGCONT);
            wait_until("adverts", SOON, || adverts(&capture, &lab.lb1, 51, thawed).len() > 3)?;
            ensure(adverts(&capture, &lab.lb2, 51, frozen).is_empty(), || {
                "it took over without listening".into()
            })?;
        }
        ensure(lb2.state("v1") == "backup", || lb2.why("v1"))
    });
}

/// A link-local address that the kernel still tests (duplicate address detection) is no source yet.
#[test]
fn an_address_under_test_is_no_source() {
    in_lab(|lab| {
        let capture = Capture::start(lab);
        let mut written = Written::numbered(1, 100);
        written.addresses = vec!["\"fe80::51\"".into(), "\"fd77::51/64\"".into()];
        lab.lb1.run(&["ip", "address", "del", "fe80::1/64", "dev", "eth0"]);
        let lb1 = Node::start(&lab.lb1, &written.toml());
        lb1.becomes("v1", "fault")?;
        ensure(lb1.why("v1") == "fault: eth0 has no IPv6 link-local address", || lb1.why("v1"))?;
        for (name, value) in [("accept_dad", "1"), ("dad_transmits", "2")] {
            lab.lb1.sysctl(&format!("net/ipv6/conf/eth0/{name}"), value);
        }
        lab.lb1.run(&["ip", "address", "add", "fe80::1/64", "dev", "eth0"]);
        lb1.becomes("v1", "active")?;
        let status = lb1.instance("v1").unwrap_or_default();
        ensure(status["counters"]["send_errors"] == 0, || format!("adverts were lost: {status}"))?;
        let source: IpAddr = "fe80::1".parse().expect("an address");
        ensure(!capture.adverts_of(source, Stamp::ZERO).is_empty(), || "no advert was seen".into())
    });
}

/// Right adverts of lower priority, as fast as they come: nothing is wrong with any of them.
#[test]
fn a_flood_of_right_adverts_keeps_nobody_waiting() {
    in_lab(|lab| {
        let (capture, stalls) = (Capture::start(lab), StallWatch::start());
        let written = Written::numbered(1, 150);
        let mut lb1 = Node::start(&lab.lb1, &written.toml());
        lb1.becomes("v1", "active")?;
        let address: IpAddr = vip(1).parse().expect("an address");
        let worse =
            Craft { priority: 90, interval: 10, ..Craft::advert(source(&lab.stranger), 51, &[address]) };
        let frame = worse.frame([2, 0, 0, 0, 0, lab.stranger.number]);
        let (begin, began) = (now(), Instant::now());
        let flood = Injector::flood(&lab.stranger, vec![frame], 50_000);
        wait_until("they are heard", SOON, || {
            let heard = lb1.instance("v1").unwrap_or_default();
            heard["counters"]["adverts_received"].as_u64() > Some(50_000)
        })?;
        lb1.take_on(&Written { priority: 160, ..written.clone() }.toml(), 0)?;
        advert(&capture, &lab.lb1, 51, begin, "priority 160", |advert| advert.priority == 160)?;
        flood.finish();
        // Answers are sent between the adverts, never instead of them.
        without_gaps(&capture, &stalls, &lab.lb1, &[51], begin)?;
        ensure(lb1.state("v1") == "active" && lb1.holds(&vip(1)), || lb1.why("v1"))?;
        let told = lb1.peer.process.output().matches("advert of lower priority heard").count();
        let most = 2 * began.elapsed().as_secs() as usize + 4;
        ensure((1..=most).contains(&told), || format!("told of {told} times in {:?}", began.elapsed()))
    });
}

/// Every advert of 255 virtual routers is on the wire through two reloads that change one of them.
#[test]
fn one_of_255_instances_changes_and_the_others_notice_nothing() {
    in_lab(|lab| {
        let all = |priority: u8| -> Vec<Written> {
            let one = |vrid: u8| Written {
                vrid,
                addresses: vec![format!("\"10.78.0.{vrid}/32\"")],
                ..Written::numbered(0, priority)
            };
            (1..=255).map(|vrid| Written { name: format!("v{vrid}"), ..one(vrid) }).collect()
        };
        let mut on_lb1 = all(150);
        let mut lb1 = Node::start(&lab.lb1, &toml(&on_lb1));
        let lb2 = Node::start(&lab.lb2, &toml(&all(100)));
        let active = |node: &Node| {
            let status = node.peer.status(node.host).unwrap_or_default();
            let instances = status["instances"].as_array().cloned().unwrap_or_default();
            instances.iter().filter(|instance| instance["state"] == "active").count()
        };
        wait_until("lb1 is active in all 255", SOON, || active(&lb1) == 255 && active(&lb2) == 0)?;
        let before = (lb1.transitions(), lb2.transitions());

        let capture = Capture::start(lab);
        let stalls = StallWatch::start();
        let from = now();
        let changed = &mut on_lb1[127];
        changed.priority = 160;
        changed.addresses.push("\"10.78.1.128/32\"".into());
        lb1.write(&toml(&on_lb1));
        let said = lb1.reload().map_err(|error| format!("vipd reload: {error}"))?;
        ensure(said.contains("1 changed; 254 instances notice nothing"), || format!("it said {said:?}"))?;
        let first = advert(&capture, &lab.lb1, 128, from, "priority 160", |advert| advert.priority == 160)?;
        lb1.gets("10.78.1.128")?;
        on_lb1[127].addresses.pop();
        lb1.write(&toml(&on_lb1));
        lb1.hang_up("1 changed; 254 instances notice nothing")?;
        lb1.loses("10.78.1.128")?;
        let last = now();
        wait_until("five more adverts of each end of the list", SOON, || {
            [1, 255].iter().all(|vrid| adverts(&capture, &lab.lb1, *vrid, last).len() >= 5)
        })?;

        let vrids: Vec<u8> = (1..=255).collect();
        without_gaps(&capture, &stalls, &lab.lb1, &vrids, from)?;
        ensure(first.at < last, || "the change came late".into())?;
        ensure((lb1.transitions(), lb2.transitions()) == before, || "an instance changed its state".into())?;
        let foreign = capture.adverts_of(source(&lab.lb2), from);
        ensure(foreign.is_empty(), || format!("lb2 sent {} adverts", foreign.len()))
    });
}
