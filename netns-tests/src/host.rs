//! One host: a network namespace and a mount namespace that only this process knows.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::libc;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use serde_json::Value;

/// A network namespace, and a mount namespace with an empty `/run` and its own `/sys`.
#[derive(Debug)]
pub struct Namespaces {
    net: OwnedFd,
    mounts: OwnedFd,
}

impl Namespaces {
    /// Makes both. They end when nobody holds them any more.
    ///
    /// # Errors
    ///
    /// The right to do so is missing.
    pub fn new() -> io::Result<Self> {
        // Namespaces belong to a thread; this one ends and leaves them to the file descriptors.
        thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS)?;
            let nothing: Option<&str> = None;
            mount(nothing, "/", nothing, MsFlags::MS_REC | MsFlags::MS_PRIVATE, nothing)?;
            mount(Some("run"), "/run", Some("tmpfs"), MsFlags::empty(), nothing)?;
            // Without its own /sys a program would see the links of another namespace. Under some
            // container runtimes it is refused; the programs here read netlink first.
            let _ = mount(Some("sys"), "/sys", Some("sysfs"), MsFlags::empty(), nothing);
            Ok(Self {
                net: File::open("/proc/thread-self/ns/net")?.into(),
                mounts: File::open("/proc/thread-self/ns/mnt")?.into(),
            })
        })
        .join()
        .expect("the thread does not panic")
    }
}

/// A host of a lab.
#[derive(Debug)]
pub struct Host {
    /// `lb1`, `lb2`, `client`, `stranger`.
    pub name: &'static str,
    /// Number in the lab, which its addresses end with.
    pub number: u8,
    /// Logs and configurations of its programs.
    pub directory: PathBuf,
    lab: String,
    namespaces: Namespaces,
}

impl Host {
    /// A host without links.
    pub(crate) fn new(name: &'static str, number: u8, lab: &str, directory: &Path) -> io::Result<Self> {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory)?;
        let host = Self { name, number, directory, lab: lab.to_owned(), namespaces: Namespaces::new()? };
        host.run(&["ip", "link", "set", "lo", "up"]);
        Ok(host)
    }

    /// Its MAC address.
    pub fn mac(&self) -> String {
        format!("02:00:00:00:00:{:02x}", self.number)
    }

    /// Its IPv4 address.
    pub fn ipv4(&self) -> String {
        format!("10.77.0.{}", self.number)
    }

    /// Its link-local address.
    pub fn link_local(&self) -> String {
        format!("fe80::{:x}", self.number)
    }

    /// Its global IPv6 address.
    pub fn ipv6(&self) -> String {
        format!("fd77::{:x}", self.number)
    }

    /// A path that `ip` takes for this network namespace.
    pub fn net_path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.namespaces.net.as_raw_fd())
    }

    /// A command that will run on this host, and dies with the thread that starts it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env("NETNS_LAB", &self.lab).env("TZ", "UTC").stdin(Stdio::null());
        let (net, mounts) = (self.namespaces.net.as_raw_fd(), self.namespaces.mounts.as_raw_fd());
        // SAFETY: only system calls between fork and exec. The descriptors outlive the command: both
        // belong to this host, which the lab keeps until all its processes ended.
        unsafe {
            command.pre_exec(move || {
                setns(BorrowedFd::borrow_raw(net), CloneFlags::CLONE_NEWNET)?;
                setns(BorrowedFd::borrow_raw(mounts), CloneFlags::CLONE_NEWNS)?;
                nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)?;
                Ok(())
            });
        }
        command
    }

    /// A command for a daemon. Every host stands for a machine of its own, so that the daemon runs
    /// before what else this machine is busy with, where that is permitted.
    pub fn daemon(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.command(program);
        // SAFETY: only a system call between fork and exec.
        unsafe {
            command.pre_exec(|| {
                libc::setpriority(libc::PRIO_PROCESS, 0, -10);
                Ok(())
            });
        }
        command
    }

    /// Runs a command to its end and gives what it printed.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub fn run(&self, words: &[&str]) -> String {
        self.try_run(words).unwrap_or_else(|error| panic!("on {}: {error}", self.name))
    }

    /// Runs a command to its end and gives what it printed, or why it failed.
    pub fn try_run(&self, words: &[&str]) -> Result<String, String> {
        let output = self
            .command(words[0])
            .args(&words[1..])
            .output()
            .map_err(|error| format!("{words:?}: {error}"))?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(format!(
                "{words:?}: {}\n{}{}",
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            ))
        }
    }

    /// What `ip -j` prints.
    pub fn ip_json(&self, words: &[&str]) -> Value {
        let text = self.run(&[&["ip", "-j"], words].concat());
        if text.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&text).expect("ip -j prints JSON")
    }

    /// Every address of the kernel's, without prefix lengths.
    pub fn addresses(&self) -> Vec<String> {
        let links = self.ip_json(&["address"]);
        let infos = links.as_array().into_iter().flatten().filter_map(|link| link["addr_info"].as_array());
        infos.flatten().filter_map(|info| info["local"].as_str().map(str::to_owned)).collect()
    }

    /// Every link's name.
    pub fn links(&self) -> Vec<String> {
        let links = self.ip_json(&["link"]);
        links
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|link| link["ifname"].as_str().map(str::to_owned))
            .collect()
    }

    /// Runs `work` in a thread inside the network namespace. Sockets made there stay there.
    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                self.enter();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Moves the calling thread into the network namespace.
    fn enter(&self) {
        setns(&self.namespaces.net, CloneFlags::CLONE_NEWNET).expect("may enter a namespace that we made");
    }

    /// Writes a sysctl of the network namespace, such as `net/ipv4/conf/all/rp_filter`.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.inside(|| std::fs::write(format!("/proc/sys/{name}"), value))
            .unwrap_or_else(|error| panic!("sysctl {name}={value} on {}: {error}", self.name));
    }

    /// What an operator of keepalived 2.2.7 has to set beside `use_vmac`: else both of its VMACs answer ARP for the IPv4
    /// address, and the base asks in that address's name.
    pub fn forbid_strange_arp(&self) {
        self.sysctl("net/ipv4/conf/all/arp_ignore", "1");
        self.sysctl("net/ipv4/conf/all/arp_announce", "2");
    }

    /// Reads a sysctl of the network namespace.
    pub fn read_sysctl(&self, name: &str) -> String {
        self.inside(|| std::fs::read_to_string(format!("/proc/sys/{name}")))
            .map(|text| text.trim().to_owned())
            .unwrap_or_else(|error| format!("unreadable: {error}"))
    }

    /// Puts `source` over `target` for this host's programs alone.
    pub fn bind(&self, source: &Path, target: &Path) {
        self.run(&["mount", "--bind", &source.to_string_lossy(), &target.to_string_lossy()]);
    }
}

/// Where a program is: in PATH, or where Debian keeps system programs.
pub fn find_program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.exists());
    }
    let path = std::env::var("PATH").unwrap_or_default();
    path.split(':')
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin", "/usr/lib/frr"])
        .map(|directory| Path::new(directory).join(name))
        .find(|candidate| candidate.is_file())
}

/// Gives the calling thread real-time priority if the host permits it, so that a measuring thread sees
/// the network and not the scheduler.
pub(crate) fn run_first() {
    // SAFETY: plain system call on the calling thread; the parameter lives through it.
    unsafe {
        let parameter = libc::sched_param { sched_priority: 1 };
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter);
        libc::prctl(libc::PR_SET_TIMERSLACK, 1000, 0, 0, 0);
    }
}

/// The calling thread runs after others: the harness must not take the processor from what it measures.
pub fn step_back() {
    // SAFETY: plain system call about the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, 10) };
}

/// The calling thread runs as any other does, though a thread that stepped back started it.
pub(crate) fn step_forward() {
    // SAFETY: plain system call about the calling thread.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, libc::gettid() as libc::id_t, 0) };
}

/// Whether a daemon that is started here may give itself real-time priority.
pub fn real_time_is_permitted() -> bool {
    std::thread::spawn(|| {
        // SAFETY: plain system call on the calling thread; the parameter lives through it.
        unsafe {
            let parameter = libc::sched_param { sched_priority: 1 };
            libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) == 0
        }
    })
    .join()
    .expect("the thread does not panic")
}
