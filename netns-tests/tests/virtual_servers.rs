//! Virtual servers, real servers and checkers mean to vipd what they mean to keepalived.
//!
//! Each file of the corpus (`VIPD_CORPUS`) with virtual servers, and each of `virtual_servers/`, is given to the checker
//! process of a running keepalived 2.2.7; its data dump is compared with what vipd made of the same file. The kernel's
//! IPVS, which keepalived does not start without, is stood for by `virtual_servers/ipvs.c`.
//!
//! What is but said in another form is brought into one: a group is one thing in keepalived and may be a listener for
//! each of its ports here, a ping has a port in the dump, and a program that is not there is run by nobody. Where vipd
//! means to differ `virtual_servers/differs.tsv` says why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use config::LoadOptions;
use config::ready::{Check, Config, DnsProbe, HttpVersion, Listener, Matching, Probe, Protocol, Talk};
use netns_tests::enabled;
use netns_tests::reference::{self, Names};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What is said of one thing, in any order; by its name.
type Facts = BTreeMap<String, Vec<String>>;

/// The ports of each group.
type Ports = BTreeMap<String, BTreeSet<u16>>;

const DUMP: &str = "/tmp/keepalived_check.data";
const LOG: &str = "/run/checkers.log";
const LONGEST: Duration = Duration::from_secs(20);

/// The library that is loaded before keepalived's own.
fn stand_in(folder: &Path) -> PathBuf {
    let (source, library) = (folder.join("ipvs.c"), folder.join("ipvs.so"));
    std::fs::write(&source, include_str!("virtual_servers/ipvs.c")).unwrap();
    let made =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(made.success());
    library
}

/// keepalived's dump; `None` when its checker process does not run with the file.
fn dump_of(file: &Path, library: &Path) -> Option<String> {
    let log = std::fs::File::create(LOG).unwrap();
    let mut running = Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .args([
            "keepalived",
            "-n",
            "-l",
            "-D",
            "-C",
            "-p",
            "/run/parent.pid",
            "-c",
            "/run/checkers.pid",
            "-f",
        ])
        .arg(file)
        .env("LD_PRELOAD", library)
        .stdin(Stdio::null())
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    let found = wait_for_dump(&mut running);
    let _ = running.kill();
    let _ = running.wait();
    found
}

fn wait_for_dump(running: &mut Child) -> Option<String> {
    let said = |words: &str| std::fs::read_to_string(LOG).unwrap_or_default().contains(words);
    let end = Instant::now() + LONGEST;
    let mut asked = false;
    while Instant::now() < end {
        if running.try_wait().unwrap().is_some()
            || said("died: Respawning")
            || said("no configuration to run")
        {
            return None;
        }
        // What it says last before it waits for events.
        if said("Activating BFD healthchecker") && !asked {
            let child = reference::children(running.id()).into_iter().next()?;
            kill(Pid::from_raw(i32::try_from(child).unwrap()), Signal::SIGUSR1).unwrap();
            asked = true;
        }
        // The dump ends with a list that is there in any case.
        let dump = std::fs::read_to_string(DUMP).unwrap_or_default();
        if asked && said("Printing checker data") && is_whole(&dump) {
            return Some(dump);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

/// Written and closed: it did not grow since the last look.
fn is_whole(dump: &str) -> bool {
    std::thread::sleep(Duration::from_millis(50));
    !dump.is_empty() && std::fs::read_to_string(DUMP).unwrap_or_default().len() == dump.len()
}

fn add(facts: &mut Facts, object: &str, fact: impl Into<String>) {
    facts.entry(object.to_owned()).or_default().push(fact.into());
}

/// `'/usr/bin/echo' 'up' '1', uid:gid 0:0`, without the folder of the program, which keepalived looks up.
fn script(text: &str) -> String {
    let command = text.split(", uid:gid").next().unwrap_or_default().trim();
    let words: Vec<&str> = command.trim_matches('\'').split("' '").collect();
    let program = words[0].rsplit('/').next().unwrap_or_default();
    [&[program], &words[1..]].concat().join(" ")
}

fn command(command: &config::ready::Command) -> String {
    let program = command.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    std::iter::once(program).chain(command.arguments.iter().cloned()).collect::<Vec<_>>().join(" ")
}

/// What keepalived's dump says, and the groups in it.
fn theirs(dump: &str) -> (Facts, Ports) {
    let mut facts = Facts::new();
    let (mut service, mut object, mut schedule) = (String::new(), String::new(), String::new());
    let mut numbers: BTreeMap<String, usize> = BTreeMap::new();
    let (mut checking, mut sorry) = (false, false);
    let mail = dump.contains("\n Email notification to:") && dump.contains("\n Smtp server = ");
    let (mut group, mut ports, mut early) = (String::new(), Ports::new(), Vec::new());
    for line in dump.lines() {
        if line.starts_with("------<") {
            checking = line.contains("Health checkers");
            continue;
        }
        if checking && line.starts_with(" [") {
            let (of, real) = line.trim().split_once(" -> ").unwrap();
            let key = format!("{} {}", name_of(of), address_of(real));
            let number = numbers.entry(key.clone()).or_default();
            *number += 1;
            object = format!("{key} #{number}");
            add(&mut facts, &object, "checker");
            continue;
        }
        let Some((field, value)) = line.split_once(" = ").or_else(|| line.split_once(" is ")) else {
            continue;
        };
        let (field, value) = (field.trim(), value.trim());
        if checking {
            of_checker(&mut facts, &object, field, value);
            continue;
        }
        match field {
            "Virtual Server Group" => value.split(',').next().unwrap().clone_into(&mut group),
            "VIP" | "VIP Range" => {
                let port = value.split(", VPORT = ").nth(1).unwrap().parse().unwrap();
                ports.entry(group.clone()).or_default().insert(port);
            }
            "VS VIP" => {
                let (address, port) = value.split_once(", VPORT = ").unwrap();
                service = socket(address, port);
                object.clone_from(&service);
            }
            "VS GROUP" => {
                service = name_of(value);
                object.clone_from(&service);
            }
            "VS FWMARK" => {
                service = format!("fwmark {value}");
                object.clone_from(&service);
            }
            // It says so of each, also where nobody gets mail.
            "Using smtp notification" if mail && value == "yes" => add(&mut facts, &object, "mail"),
            "lvs_sched" => value.clone_into(&mut schedule),
            "protocol" => {
                let udp = if value == "UDP" { "/udp" } else { "" };
                service.push_str(udp);
                object.clone_from(&service);
                sorry = false;
                add(&mut facts, &object, format!("protocol {value}"));
                early.drain(..).for_each(|fact: String| add(&mut facts, &object, fact));
            }
            // The protocol, which belongs to the name, comes behind it.
            "persistence timeout" => early.push(format!("{field} {value}")),
            "omega" => add(&mut facts, &object, format!("{field} {value}")),
            "quorum" => add(&mut facts, &object, format!("quorum {}", value.replace(", hysteresis =", ""))),
            "Quorum up notify script" | "Quorum down notify script" => {
                let word = field.split(' ').nth(1).unwrap();
                add(&mut facts, &object, format!("{word} {}", script(value)));
            }
            "RIP" => {
                let (address, rest) = value.split_once(", RPORT = ").unwrap();
                let (port, weight) = rest.split_once(", WEIGHT = ").unwrap();
                let weight: u64 = weight.split(' ').next().unwrap().parse().unwrap();
                let port = match ports.get(&service) {
                    Some(all) if port == "0" && all.len() == 1 => all.first().unwrap().to_string(),
                    _ => port.to_owned(),
                };
                object = format!("{service} {}", socket(address, &port));
                // These do not look at weights, unless they are 0.
                let by_weight = weight == 0 || !matches!(schedule.as_str(), "rr" | "lc" | "dh");
                let weight = if by_weight { weight.min(65535).to_string() } else { "any".to_owned() };
                add(&mut facts, &object, format!("weight {weight}"));
            }
            "connection limit range" => {
                let most = value.split(" -> ").nth(1).unwrap();
                if schedule != "ovf" {
                    add(&mut facts, &object, format!("most {most}"));
                }
            }
            "RS up notify script" | "RS down notify script" => {
                let word = field.split(' ').nth(1).unwrap();
                add(&mut facts, &object, format!("{word} {}", script(value)));
            }
            "Inhibit on failure" if object != service || sorry => {
                add(&mut facts, &object, format!("inhibit {value}"));
            }
            "sorry server" | "sorry server (duplicates rs)" => {
                sorry = true;
                add(&mut facts, &object, format!("sorry {}", address_of(value)));
            }
            _ => {}
        }
    }
    in_our_form(&mut facts);
    (facts, ports)
}

/// A ping has no port, and what follows a BFD session no time of its own.
fn in_our_form(facts: &mut Facts) {
    for said in facts.values_mut() {
        let is = |word: &str| said.iter().any(|fact| fact == word);
        let (ping, bfd) = (is("PING_CHECK"), is("BFD_CHECK"));
        for fact in said.iter_mut().filter(|fact| ping && fact.starts_with("Dest ")) {
            fact.truncate(fact.rfind(':').unwrap());
        }
        let of_time =
            |fact: &str| ["alpha ", "interval ", "retries ", "again "].iter().any(|w| fact.starts_with(w));
        said.retain(|fact| !(bfd && of_time(fact)));
    }
}

fn of_checker(facts: &mut Facts, object: &str, field: &str, value: &str) {
    let seconds = || value.trim_end_matches(" us").parse::<u64>().unwrap();
    match field {
        "Alpha" => add(facts, object, format!("alpha {value}")),
        "Delay loop" => add(facts, object, format!("interval {}", seconds())),
        "Retries" => add(facts, object, format!("retries {value}")),
        "Delay before retry" => add(facts, object, format!("again {}", seconds().max(1000))),
        "Dest" | "Bind to" => add(facts, object, format!("{field} {}", address_of(value))),
        "Bind i/f" | "Mark" | "helo" | "Payload len" | "Require reply" => {
            add(facts, object, format!("{field} {value}"));
        }
        "Timeout" => add(facts, object, format!("timeout {value}")),
        "Keepalive method" => add(facts, object, value.replace(", http protocol", "")),
        "Checked url" => add(facts, object, format!("url {value}")),
        "digest" => add(facts, object, format!("digest {value}")),
        "script" => add(facts, object, format!("script {}", script(value))),
        "dynamic" => add(facts, object, format!("dynamic {value}")),
        "Type" => add(facts, object, format!("type {value}")),
        "Name" => add(facts, object, format!("name {}", if value.is_empty() { "." } else { value })),
        _ => {}
    }
}

/// `[10.0.0.1]:tcp:80`, `[GROUP]:0`, `FWM 3`.
fn name_of(text: &str) -> String {
    if let Some(mark) = text.strip_prefix("FWM ") {
        return format!("fwmark {mark}");
    }
    let (inside, rest) = text.trim_start_matches('[').split_once("]:").unwrap();
    match rest.split_once(':') {
        Some((protocol, port)) => {
            let udp = if protocol == "udp" { "/udp" } else { "" };
            format!("{}{udp}", socket(inside, port))
        }
        None => inside.to_owned(),
    }
}

/// `[10.0.0.1]:tcp:80`, `[10.0.0.1]:80` or `[10.0.0.1]:0:80`.
fn address_of(text: &str) -> String {
    let (inside, rest) = text.trim_start_matches('[').split_once("]:").unwrap();
    socket(inside, rest.rsplit(':').next().unwrap())
}

fn socket(address: &str, port: &str) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

/// The same of what vipd made of the file. A listener for each port of a group is the group again.
fn ours(config: &Config, groups: &Ports) -> Facts {
    let mut facts = Facts::new();
    for listener in &config.listeners {
        let mut own = Facts::new();
        let one = whole_group(listener, groups);
        listener_facts(&mut own, one.as_ref().unwrap_or(listener), config);
        for (object, said) in own {
            let all = facts.entry(object).or_default();
            let new: Vec<_> = said.into_iter().filter(|fact| !all.contains(fact)).collect();
            all.extend(new);
        }
    }
    facts
}

/// For a listener that has one port of several.
fn whole_group(listener: &Listener, groups: &Ports) -> Option<Listener> {
    let end = if listener.name.ends_with("/udp") { "/udp" } else { "" };
    let (group, port) = listener.name.trim_end_matches(end).rsplit_once(':')?;
    let port: u16 = port.parse().ok()?;
    groups.get(group).filter(|ports| ports.contains(&port))?;
    let mut whole = Listener { name: format!("{group}{end}"), ..listener.clone() };
    let servers = whole.backends.iter_mut().map(|backend| &mut backend.address);
    servers.filter(|address| address.port() == port).for_each(|address| address.set_port(0));
    Some(whole)
}

fn listener_facts(facts: &mut Facts, listener: &Listener, config: &Config) {
    // keepalived leaves it out, vipd runs it once it is there.
    let is_there = |told: &&config::ready::Command| told.program.is_file();
    let name = &listener.name;
    let policy = &listener.policy;
    let protocol = match policy.protocol {
        _ if !policy.marks.is_empty() => "none",
        Protocol::Udp => "UDP",
        Protocol::Tcp => "TCP",
    };
    add(facts, name, format!("protocol {protocol}"));
    if policy.mail {
        add(facts, name, "mail");
    }
    if let Some(persistence) = policy.persistence {
        add(facts, name, format!("persistence timeout {}", persistence.timeout.as_secs()));
    }
    let quorum = policy.quorum.as_ref();
    add(facts, name, format!("omega {}", if quorum.is_some_and(|q| q.at_end) { "ON" } else { "OFF" }));
    let (least, hysteresis) = quorum.map_or((1, 0), |quorum| (quorum.least, quorum.hysteresis));
    add(facts, name, format!("quorum {least} {hysteresis}"));
    for (word, told) in
        [("up", quorum.and_then(|q| q.up.as_ref())), ("down", quorum.and_then(|q| q.down.as_ref()))]
    {
        if let Some(told) = told.map(|told| &**told).filter(is_there) {
            add(facts, name, format!("{word} {}", command(told)));
        }
    }
    let on = |on: bool| if on { "ON" } else { "OFF" };
    for backend in &listener.backends {
        let policy = &backend.policy;
        if policy.backup {
            add(facts, name, format!("sorry {}", backend.address));
            add(facts, name, format!("inhibit {}", on(policy.inhibit_on_failure)));
            continue;
        }
        let object = format!("{name} {}", backend.address);
        add(facts, &object, format!("weight {}", backend.weight));
        add(facts, &object, format!("most {}", policy.max_sessions.unwrap_or(0)));
        add(facts, &object, format!("inhibit {}", on(policy.inhibit_on_failure)));
        if policy.mail {
            add(facts, &object, "mail");
        }
        for (word, told) in [("up", &policy.notify_up), ("down", &policy.notify_down)] {
            if let Some(told) = told.as_deref().filter(is_there) {
                add(facts, &object, format!("{word} {}", command(told)));
            }
        }
        for (number, check) in (1..).zip(&backend.checks) {
            let check = config.checks.iter().find(|known| known.name == *check).unwrap();
            let object = format!("{object} #{number}");
            let alpha = if policy.down_at_start { "yes" } else { "no" };
            add(facts, &object, "checker");
            check_facts(facts, &object, check, alpha);
        }
    }
}

fn check_facts(facts: &mut Facts, object: &str, check: &Check, alpha: &str) {
    let follows = matches!(check.probe, Probe::File { .. } | Probe::Bfd { .. });
    if !follows {
        add(facts, object, format!("alpha {alpha}"));
        add(facts, object, format!("interval {}", check.interval.as_micros()));
        add(facts, object, format!("retries {}", check.fall - 1));
        if check.fall > 1 {
            let again = check.pace.fast_interval.unwrap_or(check.interval);
            add(facts, object, format!("again {}", again.as_micros()));
        }
    }
    if let Some(target) = check.probe.target() {
        add(facts, object, format!("Dest {target}"));
    }
    if let Probe::Ping { host } = &check.probe {
        add(facts, object, format!("Dest {host}"));
    }
    if check.probe.target().is_some() || matches!(check.probe, Probe::Ping { .. }) {
        add(facts, object, format!("timeout {:.6}", check.timeout.as_secs_f64()));
        if let Some(source) = check.dial.source {
            add(
                facts,
                object,
                format!(
                    "Bind to {}",
                    socket(&source.to_string(), &check.dial.source_port.unwrap_or(0).to_string())
                ),
            );
        }
        if let Some(interface) = &check.dial.interface {
            add(facts, object, format!("Bind i/f {interface}"));
        }
        if let Some(mark) = check.dial.mark {
            add(facts, object, format!("Mark {mark}"));
        }
    }
    match &check.probe {
        Probe::Tcp { .. } => add(facts, object, "TCP_CHECK"),
        Probe::Ping { .. } => add(facts, object, "PING_CHECK"),
        Probe::File { .. } => add(facts, object, "FILE_CHECK"),
        Probe::Bfd { .. } => add(facts, object, "BFD_CHECK"),
        Probe::Http(http) => {
            let kind = if http.tls.is_some() { "SSL_GET" } else { "HTTP_GET" };
            let first = &http.requests[0];
            let closes = first.headers.iter().any(|(name, _)| name == "Connection");
            let version = match (first.version, closes) {
                (HttpVersion::V11, _) => "1.1",
                (HttpVersion::V10, true) => "1.0C",
                (HttpVersion::V10, false) => "1.0",
            };
            add(facts, object, format!("{kind} {version}"));
            for request in &http.requests {
                add(facts, object, format!("url {}", request.path));
                for expect in request.expect.iter().filter_map(|expect| expect.is.as_ref()) {
                    if let Matching::Md5(digest) = expect.matching {
                        let digits: String = digest.iter().map(|octet| format!("{octet:02x}")).collect();
                        add(facts, object, format!("digest {digits}"));
                    }
                }
            }
        }
        Probe::Dialogue(dialogue) => {
            let Talk::Smtp { hello } = &dialogue.talk else { return };
            add(facts, object, "SMTP_CHECK");
            add(facts, object, format!("helo {}", hello.trim_start_matches("HELO ")));
        }
        Probe::Dns(DnsProbe { name, kind, .. }) => {
            add(facts, object, "DNS_CHECK");
            add(facts, object, format!("type {kind}"));
            add(facts, object, format!("name {name}"));
        }
        Probe::Udp(udp) => {
            add(facts, object, "UDP_CHECK");
            if !udp.payload.0.is_empty() {
                add(facts, object, format!("Payload len {}", udp.payload.0.len()));
            }
            add(facts, object, format!("Require reply {}", if udp.require_reply { "yes" } else { "no" }));
        }
        Probe::Script(told) | Probe::WeighingScript(told) => {
            add(facts, object, "MISC_CHECK");
            add(facts, object, format!("script {}", command(told)));
            let dynamic = if matches!(check.probe, Probe::WeighingScript(_)) { "YES" } else { "NO" };
            add(facts, object, format!("dynamic {dynamic}"));
        }
        _ => {}
    }
}

fn left_out_name(message: &str) -> Option<&str> {
    message.strip_prefix("virtual server ")?.strip_suffix(" is left out")
}

/// How many facts were compared; `None`: keepalived does not run with the file.
fn compare(file: &Path, library: &Path, wrong: &mut Vec<String>) -> Option<usize> {
    let text = String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned();
    let options = LoadOptions { judge_scripts: true, ..LoadOptions::default() };
    let mut names = Names::of(&text, config::load(&[file], &options).config.as_ref());
    names.namespaces.clear();
    let (dump, loaded) = reference::in_namespaces(&names, || {
        let _ = std::fs::remove_file(DUMP);
        (dump_of(file, library), config::load_in_part(&[file], &options))
    });
    let (theirs, groups) = theirs(&dump?);
    // The checker process runs with a file whose VRRP part cannot.
    let (config, diagnostics) = loaded;
    let ours = ours(&config, &groups);
    let left_out = |service: &str| {
        // A group may be a listener for each of its ports.
        let of = |name: &str| name == service || name.starts_with(&format!("{service}:"));
        diagnostics.iter().filter_map(|finding| left_out_name(&finding.message)).any(of)
    };
    let mut count = 0;
    for object in theirs.keys().chain(ours.keys().filter(|object| !theirs.contains_key(*object))) {
        let service =
            object.split(' ').take(1 + usize::from(object.starts_with("fwmark"))).collect::<Vec<_>>();
        let service = service.join(" ");
        if left_out(&service) || left_out(&format!("{service}/udp")) {
            continue;
        }
        let sorted = |facts: &Facts| {
            let mut found = facts.get(object).cloned().unwrap_or_default();
            found.sort();
            // Two virtual servers of one address are one service.
            if !object.contains('#') {
                found.dedup();
            }
            found
        };
        let (theirs, mut ours) = (sorted(&theirs), sorted(&ours));
        if theirs.iter().any(|fact| fact == "weight any") {
            ours.iter_mut()
                .filter(|fact| fact.starts_with("weight "))
                .for_each(|fact| *fact = "weight any".into());
            ours.sort();
        }
        count += theirs.len();
        if theirs != ours {
            let only = |these: &[String], those: &[String]| {
                these.iter().filter(|fact| !those.contains(fact)).cloned().collect::<Vec<_>>()
            };
            wrong.push(format!(
                "{}: {object}: keepalived {:?}, vipd {:?}",
                file.file_name().unwrap().display(),
                only(&theirs, &ours),
                only(&ours, &theirs)
            ));
        }
    }
    Some(count)
}

#[test]
fn virtual_servers_mean_the_same() {
    let corpus = match std::env::var("VIPD_CORPUS") {
        Ok(skip) if skip == "skip" => None,
        Ok(folder) => Some(PathBuf::from(folder)),
        Err(_) => panic!("VIPD_CORPUS must name the folder of the corpus (or be `skip` to leave it out)"),
    };
    if !enabled(&["keepalived", "cc", "unshare"]) {
        return;
    }
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/virtual_servers");
    let folders =
        corpus.iter().flat_map(|corpus| ["maintainer", "wild/keepalived"].map(|folder| corpus.join(folder)));
    let folders: Vec<_> = folders.chain([own]).collect();
    let mut files: Vec<PathBuf> = folders
        .iter()
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|path| path.is_file() && path.extension().is_none_or(|e| e != "tsv" && e != "c"))
        .filter(|path| {
            let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
            text.lines().any(|line| line.trim_start().starts_with("virtual_server"))
        })
        .collect();
    files.sort();
    let folder = tempfile::tempdir_in("/var/tmp").unwrap();
    let library = stand_in(folder.path());
    let (mut wrong, mut same, mut facts, mut not_run) = (Vec::new(), 0, 0, Vec::new());
    for file in &files {
        match compare(file, &library, &mut wrong) {
            Some(count) => (same, facts) = (same + 1, facts + count),
            None => not_run.push(file.file_name().unwrap().display().to_string()),
        }
    }
    println!("{same} files, {facts} facts; keepalived does not run with {not_run:?}");
    // Difference, tab, why.
    let meant: Vec<(&str, &str)> = include_str!("virtual_servers/differs.tsv")
        .lines()
        .map(|line| line.split_once('\t').expect("every difference has its reason"))
        .collect();
    let is_new = |line: &&String| !meant.iter().any(|(difference, _)| difference == line);
    let new: Vec<_> = wrong.iter().filter(is_new).cloned().collect();
    assert!(new.is_empty(), "{}", new.join("\n"));
    let was_compared = |line: &str| {
        let name = line.split(": ").next().unwrap_or_default();
        files.iter().any(|file| file.file_name().is_some_and(|own| own == name))
    };
    let gone: Vec<_> =
        meant.iter().filter(|(line, _)| was_compared(line) && !wrong.iter().any(|one| one == line)).collect();
    assert!(gone.is_empty(), "no difference any more: {gone:#?}");
    assert!(facts > 100, "{facts} facts");
}
