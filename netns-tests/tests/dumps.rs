//! The files of USR1, USR2 and the JSON signal: the same configuration under keepalived 2.2.7 and under vipd, each
//! alone in a lab of its own with the same addresses, line by line.
//!
//! Not in it: an IPv6 route without a metric or with `pref`, which 2.2.7 does not know again when the kernel tells of
//! it (`[installed ifindex 0]`); `weight 1` of a next hop, which 2.2.7 shows if it was written.

use std::collections::BTreeMap;
use std::process::{Child, Command};
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::{Failure, Outcome, enabled, ensure, wait_for, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

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
    interval 600
    weight 5
    fall 2
    rise 2
}
vrrp_script bad {
    script "/bin/false x 'y z'"
    interval 602
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
vrrp_script slow {
    script "/bin/sleep 3600"
    interval 603
    weight 2
}
track_file plain {
    file /tmp/tracked
}
vrrp_track_process there {
    process sleep 86399
    weight 4
    quorum 1
    delay 0.2
}
vrrp_track_process not_there {
    process "no such process"
    weight -3
    quorum 2
    quorum_max 5
    full_command
    fork_delay 1.5
    terminate_delay 2
}
static_ipaddress {
    10.20.0.50/24 dev eth0 label eth0:s track_group T
    fd99::50/64 dev eth0
}
static_routes {
    10.60.0.0/16 via 10.20.0.9 dev eth0
    blackhole 10.61.0.0/16 table 61 track_group T
}
static_rules {
    from 10.62.0.0/16 table 61 priority 1062 track_group T
}
track_group T {
    group {
        V2
        V6
    }
}
vrrp_sync_group PLAIN {
    group {
        A4
        A6
    }
    track_interface {
        lo
    }
    track_script {
        good weight 0
    }
    notify_master "/bin/true group master"
    notify /bin/true
}
vrrp_sync_group WEIGHTED {
    group {
        B4
        B6
    }
    sync_group_tracking_weight
    track_interface {
        lo weight 3
    }
    track_script {
        good
        bad weight -4
        slow
    }
    track_file {
        tf weight 3
        plain weight 2 reverse
    }
    track_process {
        there
        not_there weight 6 reverse
    }
    notify_backup "/bin/true group backup"
    notify_fault "/bin/true group fault"
    notify_stop "/bin/true group stop"
    notify_priority_changes true
    smtp_alert
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
    virtual_routes {
        10.50.0.0/16 via 10.20.0.9 dev eth0
        10.51.0.0/16 dev eth0 scope link
        src 10.20.0.100 10.52.0.0/16 via 10.20.0.9 dev eth0 metric 7 table 50
        default via 10.20.0.9 dev eth0 metric 900
        blackhole 10.53.0.0/16
        unreachable 10.54.0.0/16 metric 5
        10.55.0.0/16 nexthop via 10.20.0.8 dev eth0 weight 2 nexthop via 10.20.0.9 dev eth0
        10.56.0.0/16 via 10.20.0.9 dev eth0 mtu lock 1400 advmss 1300 window 100 no_track
        2001:db8:1::/48 via fd77::9 dev eth0 metric 10
        2001:db8:2::/48 dev eth0 metric 11
    }
    virtual_rules {
        from 10.70.0.0/16 table 50 priority 1070
        from 10.71.0.0/16 to 10.72.0.0/16 iif eth0 lookup main priority 1071
        not fwmark 0x5/0xff table 50 priority 1072
        to 10.73.0.0/16 blackhole priority 1073 no_track
        from all ipproto tcp dport 80-90 goto 1073 priority 1069
        from 2001:db8:3::/48 table 50 priority 1074
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
    track_process {
        there
        not_there
    }
    nopreempt
}
vrrp_instance A4 {
    interface eth0
    virtual_router_id 54
    priority 80
    advert_int 1
    virtual_ipaddress {
        10.20.0.120
    }
    virtual_routes {
        10.57.0.0/16 via 10.20.0.9
    }
}
vrrp_instance A6 {
    interface eth0
    virtual_router_id 55
    priority 80
    advert_int 1
    virtual_ipaddress {
        fe80::120
        fd99::120
    }
}
vrrp_instance B4 {
    version 3
    interface eth0
    virtual_router_id 56
    priority 80
    advert_int 0.5
    virtual_ipaddress {
        10.20.0.130
    }
}
vrrp_instance B6 {
    version 3
    interface eth0
    virtual_router_id 57
    priority 80
    advert_int 0.5
    virtual_ipaddress {
        fe80::130
        fd99::130
    }
    track_interface {
        eth0 weight 2
    }
    notify_priority_changes false
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
        Self::start_with(kind, "", "")
    }

    /// With something else in the configuration.
    fn start_with(kind: Kind, text: &str, other: &str) -> Outcome<Self> {
        let lab = Lab::new(&[]);
        // keepalived writes to /tmp, whatever TMPDIR says.
        lab.lb1.run(&["mount", "-t", "tmpfs", "tmp", "/tmp"]);
        lab.lb1.run(&["sh", "-c", "echo 3 > /tmp/tracked"]);
        let mine = lab.lb1.ipv4();
        let network = mine.rsplit_once('.').map(|(network, _)| network.to_owned()).unwrap_or_default();
        let configuration = CONFIGURATION.replace("10.20.0", &network).replacen(text, other, 1);
        let peer = Peer::start_configured(kind, &lab.lb1, &configuration, "dumps");
        let this = Self { lab, peer };
        wait_until("it is active everywhere", Duration::from_secs(15), || {
            let addresses = this.host().addresses();
            let has = |end: &&str| addresses.iter().any(|address| address.ends_with(*end));
            // One of each instance.
            [".0.100", ".0.150", ".0.110", "fd99::100", ".0.120", "fd99::120", ".0.130", "fd99::130"]
                .iter()
                .all(has)
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
    // What the line belongs to.
    let of = |before: &[String]| {
        let head = before.iter().rfind(|line| line.starts_with(' ') && !line.starts_with("  "));
        head.map(|head| format!(" of {}", head.trim())).unwrap_or_default()
    };
    let (mut row, mut column) = (0, 0);
    let mut found = Vec::new();
    while row < rows || column < columns {
        if row < rows && column < columns && theirs[row] == ours[column] {
            row += 1;
            column += 1;
        } else if column == columns || (row < rows && common[row + 1][column] >= common[row][column + 1]) {
            found.push(format!("{}: only keepalived: {:?}{}", row + 1, theirs[row], of(&theirs[..row])));
            row += 1;
        } else {
            found.push(format!("{}: only vipd: {:?}{}", column + 1, ours[column], of(&ours[..column])));
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
        let second = std::thread::spawn(|| {
            Alone::start_with(Kind::Vipd, "router_id LAB", "router_id LAB\n    json_version 2")
        });
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
        wrong.extend(same_json(&left, &right).err().map(|failure| failure.text));
        let second = second.join().expect("it does not panic")?.dump(JSON, "keepalived.json")?;
        wrong.extend(second_version(&left, &second).err().map(|failure| failure.text));
        let stats = |one: &Alone| one.dump(Signal::SIGUSR2 as i32, "keepalived.stats");
        let (left, right) = (labels(&stats(&theirs)?), labels(&stats(&ours)?));
        wrong.extend(differences(&left, &right).into_iter().map(|line| format!("keepalived.stats, {line}")));
        ensure(wrong.is_empty(), || wrong.join("\n"))
    })();
    if let Err(failure) = told {
        panic!("{failure:?}");
    }
}

/// A process that is tracked. Not beside keepalived, which in a namespace like these hears of no processes at all.
struct Sleeper(Child);

impl Sleeper {
    fn start(seconds: &str) -> Self {
        Self(Command::new("sleep").arg(seconds).spawn().expect("sleep starts"))
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `json_version 2`, which 2.2.7 does not have: the instances as in its JSON, the processes that they track by name, and
/// these once more with the keys of 2.4.3.
fn second_version(theirs: &str, ours: &str) -> Outcome {
    let parse = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|error| Failure::from(format!("{error}: {text}")))
    };
    let (theirs, mut ours) = (parse(theirs)?, parse(ours)?);
    let processes = ours["track_process"].take();
    let wanted = json!([
        {
            "process": "there", "parameters": "86399", "param_match": "exact", "min_processes": 1,
            "current_processes": 0, "have_quorum": false, "weight": 4, "terminate_delay": 0.2, "fork_delay": 0.2,
            "fork_delay_timer_running": false, "terminate_delay_timer_running": false, "full_command": true
        },
        {
            "process": "not_there", "param_match": "none", "min_processes": 2, "max_processes": 5,
            "current_processes": 0, "have_quorum": false, "weight": -3, "terminate_delay": 2, "fork_delay": 1.5,
            "fork_delay_timer_running": false, "terminate_delay_timer_running": false, "full_command": true
        }
    ]);
    ensure(processes == wanted, || format!("track_process of version 2: {processes:#}"))?;
    let mut instances = ours["vrrp"].take();
    let mut tracked = Vec::new();
    for instance in instances.as_array_mut().into_iter().flatten() {
        let data = instance["data"].as_object_mut();
        let names = data.and_then(|data| data.remove("track_process"));
        tracked.extend(names.map(|names| (instance["data"]["iname"].clone(), names)));
    }
    let wanted = [(json!("VU"), json!(["there", "not_there"]))];
    ensure(tracked == wanted, || format!("track_process of instances: {tracked:?}"))?;
    same_json(&theirs.to_string(), &instances.to_string())
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
    let found = differences(&keys(theirs), &keys(ours));
    ensure(found.is_empty(), || format!("keys and texts of the JSON:\n{}", found.join("\n")))?;
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
    let _process = Sleeper::start("86398");
    let told = (|| -> Outcome {
        let ours = Alone::start_with(Kind::Vipd, "sleep 86399", "sleep 86398")?;
        let json: Vec<Value> = serde_json::from_str(&ours.dump(JSON, "keepalived.json")?).unwrap();
        let states: Vec<_> = json
            .iter()
            .map(|one| {
                (one["data"]["iname"].as_str(), one["data"]["state"].as_u64(), one["data"]["vrid"].as_u64())
            })
            .collect();
        let names = ["V2", "V6", "VU", "A4", "A6", "B4", "B6"];
        let wanted: Vec<_> =
            names.into_iter().zip(51..).map(|(n, vrid)| (Some(n), Some(2), Some(vrid))).collect();
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
        ensure(states == ["State = MASTER"; 7], || format!("{states:?}"))?;
        let tracked = ["   Current processes = 1", "   Have quorum = true"];
        ensure(tracked.iter().all(|line| data.lines().any(|one| one == *line)), || data)
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
