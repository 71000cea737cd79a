//! Network namespaces that live as long as we do.
//!
//! A namespace here is an open file: nothing is mounted, nothing has a name in `/run/netns`, and when this
//! process ends, however that happens, the kernel takes the namespaces and every link in them away.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getegid, geteuid};

/// What building namespaces needs, as bits of `CapEff` in `/proc/self/status`.
const NEEDED: u64 = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_SYS_ADMIN;
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;

/// Becomes root of a user namespace of its own, unless this process may build namespaces already.
///
/// Must be called before any thread is started: the kernel refuses it to a process with threads.
///
/// # Errors
/// With the settings of this host that forbid it, and how to change them.
pub fn become_root_of_our_own() -> Result<(), Forbidden> {
    if effective_capabilities() & NEEDED == NEEDED {
        return Ok(());
    }
    let (uid, gid) = (geteuid(), getegid());
    unshare(CloneFlags::CLONE_NEWUSER)
        .map_err(|error| Forbidden::new("create a user namespace", error.into()))?;
    let write = |file: &str, text: String| {
        fs::write(format!("/proc/self/{file}"), text)
            .map_err(|error| Forbidden::new("map this user to root in a user namespace", error))
    };
    write("setgroups", "deny".to_owned())?;
    write("uid_map", format!("0 {uid} 1"))?;
    write("gid_map", format!("0 {gid} 1"))
}

fn effective_capabilities() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

/// This host does not let us build namespaces.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation}: {source}\n{advice}")]
pub struct Forbidden {
    operation: &'static str,
    source: io::Error,
    advice: String,
}

impl Forbidden {
    /// Reads the host's settings to say which of them is in the way.
    pub fn new(operation: &'static str, source: io::Error) -> Self {
        Self {
            operation,
            source,
            advice: advice(|name| fs::read_to_string(format!("/proc/sys/{name}")).ok()),
        }
    }
}

/// Settings that forbid user namespaces: file below `/proc/sys`, the value that forbids, what to set.
const SETTINGS: [(&str, &str, &str); 3] = [
    (
        "kernel/apparmor_restrict_unprivileged_userns",
        "1",
        "sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0",
    ),
    ("kernel/unprivileged_userns_clone", "0", "sudo sysctl kernel.unprivileged_userns_clone=1"),
    ("user/max_user_namespaces", "0", "sudo sysctl user.max_user_namespaces=1000"),
];

fn advice(read: impl Fn(&str) -> Option<String>) -> String {
    let mut text = String::from(
        "The demo builds its own small network inside the kernel and touches nothing of this host.\n\
         For that it needs network namespaces: run it as root (`sudo vipd demo`), or allow user namespaces.\n",
    );
    let culprits: Vec<_> = SETTINGS
        .iter()
        .filter(|(name, forbids, _)| read(name).is_some_and(|v| v.trim() == *forbids))
        .collect();
    if culprits.is_empty() {
        text.push_str(
            "In a container they are often forbidden by its profile: start it with `--privileged`.",
        );
    }
    for (name, value, command) in culprits {
        text.push_str(&format!(
            "Here {} = {value} forbids them; to allow them: {command}",
            name.replace('/', ".")
        ));
    }
    text
}

/// A network namespace: one machine of the demo, or its switch.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    inode: u64,
}

impl Namespace {
    /// A new, empty one. This process stays where it is.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn create() -> io::Result<Self> {
        let file = on_its_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    /// Runs `work` on a thread inside this namespace. Sockets made there stay there.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        on_its_own_thread(|| {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            work()
        })
    }

    /// A second handle on the same one.
    #[cfg(test)]
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { file: self.file.try_clone()?, inode: self.inode })
    }

    /// Moves the calling thread inside for good.
    ///
    /// # Errors
    /// When the kernel refuses it.
    pub fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.file, CloneFlags::CLONE_NEWNET)?)
    }

    /// Makes `command` start inside, and die with this thread.
    pub fn prepare(&self, command: &mut Command) -> io::Result<()> {
        let file = self.file.try_clone()?;
        // SAFETY: between fork and exec only system calls are made, nothing is allocated.
        unsafe {
            command.pre_exec(move || {
                prctl::set_pdeathsig(Signal::SIGKILL)?;
                setns(&file, CloneFlags::CLONE_NEWNET)?;
                Ok(())
            });
        }
        Ok(())
    }

    /// Kills every process inside, as a power failure does: none of them is asked.
    pub fn kill_everything(&self) {
        // A process may start another while we look; that one dies in the next round.
        loop {
            let pids = self.processes();
            if pids.iter().filter(|pid| kill(**pid, Signal::SIGKILL).is_ok()).count() == 0 {
                return;
            }
            thread::yield_now();
        }
    }

    /// Processes inside that are not dead yet.
    fn processes(&self) -> Vec<Pid> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        pids.filter(|pid| self.holds(*pid)).map(Pid::from_raw).collect()
    }

    fn holds(&self, pid: i32) -> bool {
        // A zombie has no namespace any more.
        fs::metadata(format!("/proc/{pid}/ns/net")).is_ok_and(|ns| ns.ino() == self.inode)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn on_its_own_thread<T: Send>(work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name("namespace".to_owned()).spawn_scoped(scope, work)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_names_the_setting_that_forbids_user_namespaces() {
        let read = |name: &str| (name == "user/max_user_namespaces").then(|| "0\n".to_owned());
        let text = advice(read);
        assert!(text.contains("user.max_user_namespaces = 0 forbids them"), "{text}");
        assert!(text.contains("sudo sysctl user.max_user_namespaces=1000"), "{text}");
        assert!(!text.contains("apparmor"), "{text}");
    }

    #[test]
    fn advice_without_a_culprit_speaks_of_containers() {
        assert!(advice(|_| Some("1000\n".to_owned())).contains("--privileged"));
    }
}
