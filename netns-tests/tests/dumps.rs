//! The files of USR1, USR2 and the JSON signal: the same configuration under keepalived 2.2.7 and under vipd, each
//! alone in a lab of its own with the same addresses, line by line.

use std::collections::BTreeMap;
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::{Outcome, enabled, ensure, wait_for, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const CONFIGURATION: &str = r#"
global_defs {
    router_id LAB
    script_user root
    enable_script_security
    vrrp_garp_master_repeat 3
    vrrp_garp_interval 0.001
}
garp_group {
    garp_interval 0.25
    gna_interval 1
    interfaces {
        lo
    }
}
vrrp_script good {
    script "/bin/true"
    interval 1
    weight 5
    fall 2
    rise 2
}
vrrp_script bad {
    script "/bin/false x 'y z'"
    interval 2
    timeout 3
    weight -10
}
vrrp_script unused {
    script "/bin/true"
}
track_file tf {
    file /tmp/tracked
    weight 1
}
vrrp_instance V2 {
    state BACKUP
    interface eth0
    virtual_router_id 51
    priority 100
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass secret
    }
    virtual_ipaddress {
        10.20.0.100
        10.20.0.101/24 dev eth0 label eth0:1
    }
    virtual_ipaddress_excluded {
        10.20.0.150 brd 10.20.0.255
    }
    track_script {
        good
        bad
    }
    track_interface {
        lo weight 7
    }
    notify_master "/bin/true m 'x y'"
    notify /bin/true
    preempt_delay 3
}
vrrp_instance V6 {
    version 3
    state MASTER
    interface eth0
    virtual_router_id 52
    priority 120
    advert_int 0.5
    virtual_ipaddress {
        fe80::100
        fd99::100/64
    }
    garp_master_delay 2
}
vrrp_instance VU {
    version 3
    interface eth0
    virtual_router_id 53
    priority 90
    unicast_peer {
        10.20.0.2
        10.20.0.3
    }
    virtual_ipaddress {
        10.20.0.110/24
    }
    track_file {
        tf weight 2
    }
    nopreempt
}
"#;

/// Signal numbers of `keepalived --signum`.
const JSON: i32 = 36;
const STATS_CLEAR: i32 = 63;

/// A daemon that is alone, and has become active everywhere.
struct Alone {
    lab: Lab,
    peer: Peer,
}

impl Alone {
    fn start(kind: Kind) -> Outcome<Self> {
        let lab = Lab::new(&[]);
        // keepalived writes to /tmp, whatever TMPDIR says.
        lab.lb1.run(&["mount", "-t", "tmpfs", "tmp", "/tmp"]);
        lab.lb1.run(&["sh", "-c", "echo 3 > /tmp/tracked"]);
        let mine = lab.lb1.ipv4();
        let network = mine.rsplit_once('.').map(|(network, _)| network.to_owned()).unwrap_or_default();
        let peer =
            Peer::start_configured(kind, &lab.lb1, &CONFIGURATION.replace("10.20.0", &network), "dumps");
        let this = Self { lab, peer };
        wait_until("it is active everywhere", Duration::from_secs(15), || {
            let addresses = this.host().addresses();
            let has = |end: &&str| addresses.iter().any(|address| address.ends_with(*end));
            [".0.100", ".0.150", ".0.110", "fd99::100"].iter().all(has)
        })?;
        Ok(this)
    }

    fn host(&self) -> &Host {
        &self.lab.lb1
    }

    fn ask(&self, signal: i32) {
        let pid = Pid::from_raw(self.peer.process.pid().cast_signed());
        // Real-time signals have no name in `Signal`.
        let sent = match Signal::try_from(signal) {
            Ok(signal) => kill(pid, signal).is_ok(),
            Err(_) => self.host().try_run(&["kill", &format!("-{signal}"), &pid.to_string()]).is_ok(),
        };
        assert!(sent, "signal {signal}");
    }

    /// The file that a signal makes, newly written.
    fn dump(&self, signal: i32, name: &str) -> Outcome<String> {
        let path = format!("/tmp/{name}");
        self.host().run(&["rm", "-f", &path]);
        self.ask(signal);
        wait_for(&format!("{name} is written"), Duration::from_secs(5), || {
            let text = self.host().try_run(&["cat", &path]).ok()?;
            // keepalived writes while it is being read.
            (!text.is_empty() && text.ends_with('\n')).then_some(text)
        })
    }

    fn mode(&self, name: &str) -> String {
        self.host().run(&["stat", "-c", "%a", &format!("/tmp/{name}")]).trim().to_owned()
    }
}

/// Without what is another number in every run.
fn plain(text: &str) -> Vec<String> {
    let line = |line: &str| {
        let varies = [
            "Last transition",
            "Read timeout",
            "fd_in",
            "index",
            "next time",
            "Last checked",
            "MAC =",
            "libnftnl",
        ];
        match varies.iter().find(|word| line.contains(*word)) {
            Some(word) => format!("{}{word}", &line[..line.find(|c: char| c != ' ').unwrap_or(0)]),
            None => line.to_owned(),
        }
    };
    text.lines().map(line).collect()
}

/// Lines that only one of them has: the longest common sequence is left out.
fn differences(theirs: &[String], ours: &[String]) -> Vec<String> {
    let (rows, columns) = (theirs.len(), ours.len());
    let mut common = vec![vec![0_usize; columns + 1]; rows + 1];
    for row in (0..rows).rev() {
        for column in (0..columns).rev() {
            common[row][column] = if theirs[row] == ours[column] {
                common[row + 1][column + 1] + 1
            } else {
                common[row + 1][column].max(common[row][column + 1])
            };
        }
    }
    let (mut row, mut column) = (0, 0);
    let mut found = Vec::new();
    while row < rows || column < columns {
        if row < rows && column < columns && theirs[row] == ours[column] {
            row += 1;
            column += 1;
        } else if column == columns || (row < rows && common[row + 1][column] >= common[row][column + 1]) {
            found.push(format!("{}: only keepalived: {:?}", row + 1, theirs[row]));
            row += 1;
        } else {
            found.push(format!("{}: only vipd: {:?}", column + 1, ours[column]));
            column += 1;
        }
    }
    found
}

fn both() -> Outcome<(Alone, Alone)> {
    let ours = std::thread::spawn(|| Alone::start(Kind::Vipd));
    let theirs = Alone::start(Kind::Keepalived)?;
    Ok((theirs, ours.join().expect("it does not panic")?))
}

#[test]
fn dumps_are_keepaliveds_line_by_line() {
    if !enabled(&["keepalived"]) {
        return;
    }
    let told = (|| -> Outcome {
        let (theirs, ours) = both()?;
        let mut wrong = Vec::new();
        for name in ["keepalived.data", "keepalived_parent.data"] {
            let (left, right) =
                (theirs.dump(Signal::SIGUSR1 as i32, name)?, ours.dump(Signal::SIGUSR1 as i32, name)?);
            let found = differences(&plain(&left), &plain(&right));
            wrong.extend(found.into_iter().map(|line| format!("{name}, {line}")));
            if theirs.mode(name) != ours.mode(name) {
                wrong.push(format!("mode of {name}: {}", ours.mode(name)));
            }
        }
        let (left, right) = (theirs.dump(JSON, "keepalived.json")?, ours.dump(JSON, "keepalived.json")?);
        wrong.extend(same_json(&left, &right).err().map(|failure| format!("{failure:?}")));
        let stats = |one: &Alone| one.dump(Signal::SIGUSR2 as i32, "keepalived.stats");
        let (left, right) = (labels(&stats(&theirs)?), labels(&stats(&ours)?));
        wrong.extend(differences(&left, &right).into_iter().map(|line| format!("keepalived.stats, {line}")));
        ensure(wrong.is_empty(), || wrong.join("\n"))
    })();
    if let Err(failure) = told {
        panic!("{failure:?}");
    }
}

fn labels(stats: &str) -> Vec<String> {
    stats
        .lines()
        .map(|line| match line.split_once(": ") {
            Some((label, _)) if !label.starts_with("VRRP") => label.to_owned(),
            _ => line.to_owned(),
        })
        .collect()
}

/// The same keys in the same order, of the same types; the same values but for times and counts of adverts.
fn same_json(theirs: &str, ours: &str) -> Outcome {
    let keys = |text: &str| -> Vec<String> {
        text.split('"').enumerate().filter(|(i, _)| i % 2 == 1).map(|(_, word)| word.to_owned()).collect()
    };
    ensure(keys(theirs) == keys(ours), || format!("keys and texts:\n{theirs}\n{ours}"))?;
    let parse =
        |text: &str| serde_json::from_str::<Vec<Value>>(text).map_err(|error| format!("{error}: {text}"));
    let (theirs, ours) = (parse(theirs)?, parse(ours)?);
    for (left, right) in theirs.iter().zip(&ours) {
        for part in ["data", "stats"] {
            let (left, right) = (left[part].as_object(), right[part].as_object());
            for (key, value) in left.into_iter().flatten() {
                let other = right.and_then(|right| right.get(key));
                let same = match key.as_str() {
                    "last_transition" | "advert_sent" => other.is_some_and(Value::is_number),
                    _ => other == Some(value),
                };
                ensure(same, || format!("{part}.{key}: keepalived {value}, vipd {other:?}"))?;
            }
        }
    }
    Ok(())
}

/// As exporters do it: numbers by instance and label.
fn read_stats(text: &str) -> BTreeMap<(String, String), u64> {
    let mut numbers = BTreeMap::new();
    let (mut instance, mut section) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("VRRP Instance: ") {
            instance = name.to_owned();
        } else if let Some((label, number)) = line.trim().split_once(": ") {
            let key = if line.starts_with("    ") { format!("{section} {label}") } else { label.to_owned() };
            numbers.insert((instance.clone(), key), number.parse().unwrap());
        } else {
            section = line.trim().trim_end_matches(':').to_owned();
        }
    }
    numbers
}

#[test]
fn an_exporter_reads_states_and_counters() {
    if !enabled(&[]) {
        return;
    }
    let told = (|| -> Outcome {
        let ours = Alone::start(Kind::Vipd)?;
        let json: Vec<Value> = serde_json::from_str(&ours.dump(JSON, "keepalived.json")?).unwrap();
        let states: Vec<_> = json
            .iter()
            .map(|one| {
                (one["data"]["iname"].as_str(), one["data"]["state"].as_u64(), one["data"]["vrid"].as_u64())
            })
            .collect();
        let wanted = [
            (Some("V2"), Some(2), Some(51)),
            (Some("V6"), Some(2), Some(52)),
            (Some("VU"), Some(2), Some(53)),
        ];
        ensure(states == wanted, || format!("{states:?}"))?;
        let stats = read_stats(&ours.dump(STATS_CLEAR, "keepalived.stats")?);
        let number = |stats: &BTreeMap<_, u64>, label: &str| stats[&("V2".to_owned(), label.to_owned())];
        ensure(number(&stats, "Became master") == 1, || format!("{stats:?}"))?;
        ensure(number(&stats, "Advertisements Sent") >= 1, || format!("{stats:?}"))?;
        let cleared = read_stats(&ours.dump(Signal::SIGUSR2 as i32, "keepalived.stats")?);
        ensure(number(&cleared, "Became master") == 0, || format!("not cleared: {cleared:?}"))?;
        let data = ours.dump(Signal::SIGUSR1 as i32, "keepalived.data")?;
        let states: Vec<&str> =
            data.lines().filter(|line| line.starts_with("   State = M")).map(str::trim).collect();
        ensure(states == ["State = MASTER"; 3], || format!("{states:?}"))
    })();
    if let Err(failure) = told {
        panic!("{failure:?}");
    }
}

/// Somebody's link in /tmp is replaced, not followed.
#[test]
fn a_dump_does_not_follow_a_link() {
    if !enabled(&[]) {
        return;
    }
    let told = (|| -> Outcome {
        let ours = Alone::start(Kind::Vipd)?;
        let host = ours.host();
        host.run(&["sh", "-c", "echo precious > /tmp/shadow; ln -s shadow /tmp/keepalived.data"]);
        ours.ask(Signal::SIGUSR1 as i32);
        wait_until("the dump is there", Duration::from_secs(5), || {
            host.run(&["stat", "-c", "%F", "/tmp/keepalived.data"]).trim() == "regular file"
        })?;
        let kept = host.run(&["cat", "/tmp/shadow"]);
        ensure(kept == "precious\n", || format!("written to: {kept}"))
    })();
    if let Err(failure) = told {
        panic!("{failure:?}");
    }
}
