//! Long-running programs: started, stopped, killed with all they started, and gone with the test.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::{Failure, Outcome, wait_for};

/// The kernel kills a program when the *thread* that started it ends, so one thread starts them all
/// and lives as long as the test's process.
fn start_in_lasting_thread(command: Command) -> std::io::Result<Child> {
    type Order = (Command, mpsc::Sender<std::io::Result<Child>>);
    static STARTER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (sender, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in orders {
                let _ = reply.send(command.spawn());
            }
        });
        Mutex::new(sender)
    });
    let (reply, answer) = mpsc::channel();
    starter.lock().expect("not poisoned").send((command, reply)).expect("the starter lives as long as we do");
    answer.recv().expect("the starter answers")
}

/// Its environment is gone before its sockets are, and its first thread before the others: only when all are zombies has it
/// none left.
fn is_dying(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    threads.into_iter().any(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
    })
}

/// A program and everything that it started.
#[derive(Debug)]
pub struct Process {
    child: Child,
    status: Option<ExitStatus>,
    /// Found in the environment of the program and all its descendants.
    mark: String,
    /// Standard output and error.
    pub log: PathBuf,
    /// Sent SIGKILL; a process that dies has lost its environment before it closes its sockets.
    killed: Vec<u32>,
}

impl Process {
    /// Starts the program, its output going to `log` (appended).
    pub fn start(mut command: Command, log: &Path) -> std::io::Result<Self> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mark = format!("{}.{}.", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let output = File::options().create(true).append(true).open(log)?;
        command.env("NETNS_PROCESS", &mark).stdout(output.try_clone()?).stderr(output);
        let child = start_in_lasting_thread(command)?;
        Ok(Self { child, status: None, mark, log: log.to_owned(), killed: Vec::new() })
    }

    /// Its process identifier.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        if self.status.is_none() {
            self.status = self.child.try_wait().expect("our own child");
        }
        self.status
    }

    /// Sends a signal to the program itself.
    pub fn signal(&mut self, signal: Signal) {
        if self.ended().is_none() {
            let _ = kill(Pid::from_raw(self.pid().cast_signed()), signal);
        }
    }

    /// The program and all its descendants, also those that left its process group.
    pub fn family(&self) -> Vec<u32> {
        marked(&format!("NETNS_PROCESS={}", self.mark))
    }

    /// Sends a signal to the program and all its descendants.
    pub fn signal_family(&mut self, signal: Signal) {
        let family = self.family();
        for pid in &family {
            let _ = kill(Pid::from_raw(pid.cast_signed()), signal);
        }
        if signal == Signal::SIGKILL {
            self.killed.extend(family);
        }
        let _ = self.ended();
    }

    /// SIGKILL for all, until none is left.
    pub fn kill_family(&mut self) {
        while !self.family().is_empty()
            || self.ended().is_none()
            || self.killed.iter().any(|pid| is_dying(*pid))
        {
            self.signal_family(Signal::SIGKILL);
            // A program may have overwritten the mark in its environment.
            self.signal(Signal::SIGKILL);
            // The kernel needs a moment to bury them.
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// SIGTERM, and waits until it and all its descendants ended.
    pub fn terminate(&mut self, limit: Duration) -> Outcome<ExitStatus> {
        self.signal(Signal::SIGTERM);
        let log = self.log.clone();
        let status = wait_for(&format!("{} ends after SIGTERM", log.display()), limit, || self.ended())?;
        wait_for(&format!("descendants of {} end with it", log.display()), limit, || {
            self.family().is_empty().then_some(())
        })?;
        Ok(status)
    }

    /// What it printed so far.
    pub fn output(&self) -> String {
        read_lossy(&self.log)
    }

    /// Waits until it printed this.
    pub fn wait_for_output(&mut self, text: &str, limit: Duration) -> Outcome {
        wait_for(&format!("{} prints {text:?}", self.log.display()), limit, || {
            if self.output().contains(text) {
                return Some(Ok(()));
            }
            self.ended().map(|status| {
                Err(Failure::from(format!("{} ended: {status}\n{}", self.log.display(), self.output())))
            })
        })?
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill_family();
    }
}

/// A text file as far as it is written; empty when there is none.
pub fn read_lossy(path: &Path) -> String {
    let mut bytes = Vec::new();
    if let Ok(mut file) = File::open(path) {
        let _ = file.read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Living processes that have this `NAME=VALUE` in the environment they were started with.
pub fn marked(variable: &str) -> Vec<u32> {
    with_variable(|word| word == variable.as_bytes())
}

/// The same for all values that begin so.
pub fn marked_with_prefix(variable: &str) -> Vec<u32> {
    with_variable(|word| word.starts_with(variable.as_bytes()))
}

fn with_variable(wanted: impl Fn(&[u8]) -> bool) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // A process that ends while we look, or a zombie, has no environment.
        let Ok(environment) = std::fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(&wanted) {
            found.push(pid);
        }
    }
    found
}
