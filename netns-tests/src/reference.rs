//! A running keepalived that says what it makes of a configuration.
//!
//! It runs in namespaces of its own, with the interfaces and users that the file names and no way out; its
//! data dump is read by [`crate::dump`]. It may not raise its scheduling class: on a host with few
//! processors its own time limit would kill it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What keepalived did with a file.
#[derive(Debug)]
pub enum Verdict {
    /// It runs; its dumps one after the other.
    Loaded(String),
    /// There is nothing in it for VRRP.
    Nothing,
    /// It ended by itself; why.
    Refused(String),
    /// Its VRRP process crashes again and again.
    Crashed,
    /// It neither ran nor ended in time; its log.
    Hung(String),
}

/// How long keepalived may say and write nothing, and how long it may take altogether.
const SILENCE: Duration = Duration::from_secs(25);
const LONGEST: Duration = Duration::from_secs(600);
/// Until it is asked for its dump again.
const AGAIN: Duration = Duration::from_secs(5);

/// Runs `work` in a network and a mount namespace where these interfaces and users exist.
///
/// `/tmp` and `/run` are empty. Names that begin with `absent` are left out.
///
/// # Panics
///
/// When `work` panics or the namespaces cannot be made.
pub fn in_namespaces<T: Send>(names: &Names, work: impl FnOnce() -> T + Send) -> T {
    // Namespaces belong to a thread.
    thread::scope(|scope| {
        let worker = scope.spawn(|| {
            enter(names).expect("namespaces can be made");
            work()
        });
        match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// What a configuration needs of its host.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// Links.
    pub interfaces: BTreeSet<String>,
    /// Users, each with a group of the same name.
    pub users: BTreeSet<String>,
    /// Network namespaces.
    pub namespaces: BTreeSet<String>,
}

impl Names {
    /// Those in a loaded configuration, and the words of the text that look like them.
    pub fn of(text: &str, config: Option<&config::ready::Config>) -> Self {
        let mut names = Self::default();
        if let Some(config) = config {
            let value = serde_json::to_value(config).expect("a configuration is data");
            names.walk(&value);
            names.namespaces.extend(config.process.net_namespace.clone());
            for vmac in config.instances.iter().filter_map(|i| i.vmac.as_ref()?.name.as_ref()) {
                names.interfaces.remove(vmac);
            }
        }
        for line in text.lines() {
            let words: Vec<_> = line.split_ascii_whitespace().collect();
            for pair in words.windows(2) {
                let value = pair[1].trim_matches(['"', '{', '}']).to_owned();
                match pair[0] {
                    "interface" | "dev" | "default_interface" if config.is_none() => {
                        names.interfaces.insert(value);
                    }
                    "script_user" | "user" => {
                        names.users.insert(value);
                        names.users.extend(words.get(2).map(|group| (*group).to_owned()));
                    }
                    "net_namespace" => {
                        names.namespaces.insert(value);
                    }
                    _ => {}
                }
            }
        }
        names
            .interfaces
            .retain(|name| is_new(name) && name.len() <= 15 && !name.contains('/') && name != "lo");
        names.users.retain(|name| is_new(name) && !name.is_empty() && !name.contains([':', '$', '{']));
        names
    }

    fn walk(&mut self, value: &serde_json::Value) {
        match value {
            serde_json::Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        serde_json::Value::String(name) if key.ends_with("interface") => {
                            self.interfaces.insert(name.clone());
                        }
                        serde_json::Value::Array(all) if key == "interfaces" => {
                            self.interfaces.extend(all.iter().filter_map(|n| n.as_str()).map(str::to_owned));
                        }
                        value => self.walk(value),
                    }
                }
            }
            serde_json::Value::Array(all) => all.iter().for_each(|value| self.walk(value)),
            _ => {}
        }
    }
}

fn is_new(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("absent")
}

fn enter(names: &Names) -> std::io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
    let nothing: Option<&str> = None;
    mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
    for folder in ["/tmp", "/run"] {
        mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), nothing)?;
    }
    let _ = mount(Some("sys"), "/sys", Some("sysfs"), MsFlags::empty(), nothing);
    add_users(names)?;
    let links = links(&names.interfaces);
    batch(&["-force", "-batch", "-"], &links)?;
    for name in &names.namespaces {
        let _ = Command::new("ip").args(["netns", "add", name]).status();
        batch(&["-n", name, "-force", "-batch", "-"], &links)?;
    }
    Ok(())
}

/// Over the host's own files: only this thread and what it starts sees it.
fn add_users(names: &Names) -> std::io::Result<()> {
    let nothing: Option<&str> = None;
    let known = fs::read_to_string("/etc/passwd")?;
    let groups = fs::read_to_string("/etc/group")?;
    let exists = |text: &str, name: &str| text.lines().any(|l| l.split(':').next() == Some(name));
    let (mut users, mut new_groups) = (known.clone(), groups.clone());
    for (id, name) in (20_000..).zip(&names.users) {
        if !exists(&known, name) {
            let _ = writeln!(users, "{name}:x:{id}:{id}::/:/bin/sh");
        }
        if !exists(&groups, name) {
            let _ = writeln!(new_groups, "{name}:x:{id}:");
        }
    }
    for (file, text) in [("passwd", users), ("group", new_groups)] {
        let copy = Path::new("/run").join(file);
        fs::write(&copy, text)?;
        mount(Some(&copy), &Path::new("/etc").join(file), nothing, MsFlags::MS_BIND, nothing)?;
    }
    Ok(())
}

/// Each link is a bridge without ports: it is up, and nothing answers.
fn links(interfaces: &BTreeSet<String>) -> String {
    let mut commands = "link set lo up\n".to_owned();
    for (number, name) in interfaces.iter().enumerate() {
        let (high, low) = (200 + number / 250, number % 250);
        let _ = writeln!(commands, "link add name {name} type bridge");
        let _ = writeln!(commands, "addr add 10.{high}.{low}.1/24 dev {name}");
        let _ = writeln!(commands, "link set {name} up");
    }
    commands
}

fn batch(arguments: &[&str], commands: &str) -> std::io::Result<()> {
    let mut ip = Command::new("ip")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    ip.stdin.take().expect("it is a pipe").write_all(commands.as_bytes())?;
    ip.wait()?;
    Ok(())
}

/// Runs keepalived on a file, inside [`in_namespaces`].
///
/// # Errors
///
/// It cannot be started.
pub fn ask(configuration: &Path) -> std::io::Result<Verdict> {
    let log = PathBuf::from("/run/keepalived.log");
    let mut running = start(configuration, &log)?;
    let verdict = dump_of(&mut running, &log);
    // `unshare --kill-child` takes everything in its process namespace along.
    let _ = running.kill();
    let _ = running.wait();
    Ok(verdict)
}

fn start(configuration: &Path, log: &Path) -> std::io::Result<Child> {
    let out = fs::File::create(log)?;
    Command::new("unshare")
        .args(["--pid", "--fork", "--kill-child"])
        .args(["setpriv", "--bounding-set=-sys_nice", "--inh-caps=-sys_nice"])
        // Without checkers: this kernel may have no load balancing.
        .args(["keepalived", "-n", "-l", "-D", "-P"])
        .args(["-p", "/run/parent.pid", "-r", "/run/vrrp.pid", "-b", "/run/bfd.pid", "-f"])
        .arg(configuration)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
}

fn dump_of(running: &mut Child, log: &Path) -> Verdict {
    let read = || fs::read(log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let mut patience = Patience::new();
    let mut asked: Option<Instant> = None;
    loop {
        let said = read();
        if said.contains("Startup complete") {
            break;
        }
        if running.try_wait().is_ok_and(|ended| ended.is_some()) {
            // What it said last may have come since.
            let said = read();
            if said.contains("Warning - keepalived has no configuration to run") {
                return Verdict::Nothing;
            }
            return Verdict::Refused(reason(&said));
        }
        if said.contains("died: Respawning") {
            return Verdict::Crashed;
        }
        // A child that has just been made would die of the signal that its parent passes on.
        if !has_children(&said) {
            ask_again(running, &mut asked);
            // It has read everything and takes signals, but has started nobody who does VRRP.
            if has_parents_dump() && !has_children(&read()) {
                return Verdict::Nothing;
            }
        }
        if patience.is_over(said.len()) {
            return Verdict::Hung(said);
        }
        thread::sleep(Duration::from_millis(20));
    }
    asked = None;
    loop {
        ask_again(running, &mut asked);
        let said = read();
        if said.contains("died: Respawning") {
            return Verdict::Crashed;
        }
        if !said.contains(VRRP) && has_parents_dump() {
            return Verdict::Nothing;
        }
        let is_written = !is_writing(running.id());
        let found = dumps();
        let has_vrrp = found.vrrp.contains("---< Interfaces >---");
        let has_bfd = found.bfd.is_some() || !said.contains(BFD);
        if is_written && has_vrrp && has_bfd {
            return Verdict::Loaded(found.vrrp + &found.bfd.unwrap_or_default());
        }
        if patience.is_over(said.len() + found.vrrp.len()) {
            return Verdict::Hung(said);
        }
        thread::sleep(Duration::from_millis(60));
    }
}

/// What the parent says when there is something for VRRP, and for BFD.
const VRRP: &str = "Starting VRRP child process";
const BFD: &str = "Starting BFD child process";

/// They are there, or come when the startup script has ended.
fn has_children(said: &str) -> bool {
    [VRRP, BFD, "Running startup script"].iter().any(|sign| said.contains(sign))
}

/// Ends when keepalived says and writes nothing more: a busy machine, or two thousand instances, take their time.
struct Patience {
    progress: usize,
    since: Instant,
    began: Instant,
}

impl Patience {
    fn new() -> Self {
        Self { progress: 0, since: Instant::now(), began: Instant::now() }
    }

    fn is_over(&mut self, progress: usize) -> bool {
        if progress != self.progress {
            (self.progress, self.since) = (progress, Instant::now());
        }
        self.since.elapsed() > SILENCE || self.began.elapsed() > LONGEST
    }
}

/// Asks for a dump, and once more if there is none after a while. Each time it is written anew, so asking often would
/// keep a large one from ever being complete.
fn ask_again(running: &Child, asked: &mut Option<Instant>) {
    if asked.is_some_and(|asked| asked.elapsed() < AGAIN) {
        return;
    }
    if let Some(parent) = only_child(running.id()).filter(|parent| catches(*parent, Signal::SIGUSR1)) {
        let _ = kill(parent, Signal::SIGUSR1);
        *asked = Some(Instant::now());
    }
}

fn has_parents_dump() -> bool {
    Path::new("/tmp/keepalived_parent.data").exists()
}

/// A dump is open in this process or in one that it started.
fn is_writing(process: u32) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let opened = files.filter_map(|file| fs::read_link(file.path()).ok());
    let mut dumps = opened.filter(|path| path.extension().is_some_and(|extension| extension == "data"));
    dumps.next().is_some() || children(process).into_iter().any(is_writing)
}

/// The line of its log that says most, without the date.
fn reason(log: &str) -> String {
    const SAY_NOTHING: [&str; 8] = [
        "Stop",
        "CPU usage",
        "exited",
        "sockpool",
        "Success creating",
        "Printing",
        "Script user",
        "Starting",
    ];
    let says = |line: &&str| !SAY_NOTHING.iter().any(|word| line.contains(word));
    let line = log.lines().rev().find(says).unwrap_or_default();
    line.get(26..).unwrap_or(line).to_owned()
}

/// keepalived takes its signals from a file descriptor; before they are blocked, one would end it.
fn catches(process: Pid, signal: Signal) -> bool {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:"));
    let mask = blocked.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal as u32 - 1)) != 0
}

fn only_child(of: u32) -> Option<Pid> {
    children(of).first().and_then(|child| i32::try_from(*child).ok()).map(Pid::from_raw)
}

/// Processes that a process started and that are there.
pub fn children(of: u32) -> Vec<u32> {
    let all = fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap_or_default();
    all.split_ascii_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// What was written so far.
struct Dumps {
    vrrp: String,
    /// Without the global settings, which both have.
    bfd: Option<String>,
}

fn dumps() -> Dumps {
    let mut found = Dumps { vrrp: String::new(), bfd: None };
    for entry in fs::read_dir("/tmp").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        // Not a FIFO, which would be waited for.
        if !name.ends_with(".data") {
            continue;
        }
        let Ok(bytes) = fs::read(entry.path()) else { continue };
        let read = String::from_utf8_lossy(&bytes).into_owned();
        if name.starts_with("keepalived_bfd") {
            let topology = read.find("------< BFD Topology").map(|at| read[at..].to_owned());
            found.bfd = Some(topology.unwrap_or_default());
        } else if name.starts_with("keepalived") && !name.contains("parent") {
            found.vrrp = read;
        }
    }
    found
}
