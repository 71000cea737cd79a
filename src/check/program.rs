//! Starts a program as keepalived starts scripts: check scripts, notify scripts, FIFO readers.
//!
//! Own process group, the user's groups, no shell, no input, SIGTERM when the daemon dies. It never waits
//! for a program's output: what a check prints is drained as it comes and only its end is kept.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use config::ready::{Command, User};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid};
use tokio::net::unix::pipe;
use tokio::process::Child;

/// From SIGTERM to SIGKILL when a run has timed out, as keepalived waits.
pub(crate) const KILL_AFTER: Duration = Duration::from_secs(2);
/// From one SIGKILL to the next.
const KILL_AGAIN: Duration = Duration::from_secs(10);
/// How often to look whether a group is empty.
const GROUP_POLL: Duration = Duration::from_millis(10);
/// Octets of a program's output that are kept.
const TAIL: usize = 1024;
/// Characters of its last line that are shown.
const LINE: usize = 200;

/// A command that is ready to be started again and again.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    command: Command,
    identity: Option<Identity>,
}

/// Whom the program runs as, when that is somebody else.
#[derive(Clone, Debug)]
struct Identity {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

/// What becomes of standard output and error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    /// `/dev/null`, as in keepalived.
    Discard,
    /// Drained; the last line can be asked for. The group is killed when the [`Running`] is dropped.
    KeepLastLine,
}

impl Program {
    /// With `supplementary_groups` it gets all groups of its user (`set_supplementary_groups`), otherwise its
    /// user's own one alone, as in keepalived. Looking them up may ask a directory service, so it does not
    /// happen on a worker.
    pub(crate) async fn prepare(command: Command, supplementary_groups: bool) -> Self {
        let identity = match command.user.clone() {
            Some(user) if supplementary_groups => {
                tokio::task::spawn_blocking(move || Identity::with_groups(&user)).await.unwrap_or(None)
            }
            Some(user) => Identity::of(&user),
            None => None,
        };
        Self { command, identity }
    }

    /// What messages call it.
    pub(crate) fn name(&self) -> String {
        self.command.program.display().to_string()
    }

    /// Starts it, `more` after its own arguments.
    ///
    /// Must be called on a thread that lives as long as the daemon (a worker, not the blocking pool):
    /// the kernel sends the program SIGTERM when the thread that started it ends.
    ///
    /// # Errors
    /// There is no such program, it may not be executed, or its user cannot be taken on.
    pub(crate) fn start(&self, more: &[&str], output: Output) -> io::Result<Running> {
        let mut command = std::process::Command::new(&self.command.program);
        command.args(&self.command.arguments).args(more).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let bytes = name.as_encoded_bytes();
            if bytes == b"IFS" || bytes.starts_with(b"LD_") {
                command.env_remove(&name);
            }
        }
        let tail = match output {
            Output::Discard => {
                command.stdout(Stdio::null()).stderr(Stdio::null());
                None
            }
            Output::KeepLastLine => {
                let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
                command.stdout(writer.try_clone()?).stderr(writer);
                Some(Tail::drain(reader)?)
            }
        };
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        become_and_follow(&mut command, self.identity.clone());
        let child = tokio::process::Command::from(command).spawn()?;
        let group = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
        let group = group.ok_or_else(|| io::Error::other("the program has no process id"))?;
        Ok(Running { child, group, tail, ended: false, kill_on_drop: output == Output::KeepLastLine })
    }
}

impl Identity {
    /// `None` when the daemon is that user already and could not become anybody anyway.
    fn of(user: &User) -> Option<Self> {
        let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
        if !Uid::effective().is_root() && uid == Uid::effective() && gid == Gid::effective() {
            return None;
        }
        Some(Self { uid, gid, groups: vec![gid] })
    }

    fn with_groups(user: &User) -> Option<Self> {
        let alone = Self::of(user)?;
        let groups = std::ffi::CString::new(user.name.as_str())
            .ok()
            .and_then(|name| nix::unistd::getgrouplist(&name, alone.gid).ok());
        Some(Self { groups: groups.unwrap_or_else(|| alone.groups.clone()), ..alone })
    }
}

/// Between fork and exec: groups, group, user, and only then the wish to die with the daemon, because
/// changing the user takes that wish away.
fn become_and_follow(command: &mut std::process::Command, identity: Option<Identity>) {
    use std::os::unix::process::CommandExt;
    let daemon = Pid::this();
    // SAFETY: the closure runs in the child of a fork. It makes system calls only; nothing is allocated,
    // locked or freed, and its errors are plain numbers.
    unsafe {
        command.pre_exec(move || {
            if let Some(identity) = &identity {
                nix::unistd::setgroups(&identity.groups)?;
                nix::unistd::setgid(identity.gid)?;
                nix::unistd::setuid(identity.uid)?;
            }
            nix::sys::prctl::set_pdeathsig(Signal::SIGTERM)?;
            // The daemon may have died before the line above.
            if nix::unistd::getppid() != daemon {
                return Err(io::Error::from(Errno::ESRCH));
            }
            Ok(())
        });
    }
}

/// A program that was started.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    group: Pid,
    tail: Option<Tail>,
    ended: bool,
    kill_on_drop: bool,
}

impl Running {
    /// Waits until the program itself ends. What it left in the background does not count. May be dropped
    /// and called again.
    ///
    /// # Errors
    /// The kernel does not know the child any more.
    pub(crate) async fn wait(&mut self) -> io::Result<ExitStatus> {
        let status = self.child.wait().await;
        self.ended = true;
        status
    }

    /// The last line of output that says something.
    pub(crate) fn last_line(&self) -> Option<String> {
        self.tail.as_ref().and_then(Tail::last_line)
    }

    /// Ends the whole group: SIGTERM, after `grace` SIGKILL, and again every 10 s until the program is
    /// gone. May be dropped and called again.
    pub(crate) async fn end(&mut self, grace: Duration) {
        self.signal(Signal::SIGTERM);
        if tokio::time::timeout(grace, self.group_gone()).await.is_ok() {
            return;
        }
        loop {
            // Members that are only waiting for init to bury them would keep the group for ever: after a
            // SIGKILL the program alone is waited for.
            self.signal(Signal::SIGKILL);
            if tokio::time::timeout(KILL_AGAIN, self.wait()).await.is_ok() {
                return;
            }
        }
    }

    async fn group_gone(&mut self) {
        // Whether the status could be had or not, the child is no more.
        let _ = self.wait().await;
        while killpg(self.group, None) != Err(Errno::ESRCH) {
            tokio::time::sleep(GROUP_POLL).await;
        }
    }

    fn signal(&self, signal: Signal) {
        // ESRCH: all gone. EPERM: somebody else's by now. Nothing is left to do in both cases.
        let _ = killpg(self.group, signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not after the end: the number may belong to somebody else by then.
        if self.kill_on_drop && !self.ended {
            self.signal(Signal::SIGKILL);
        }
    }
}

/// How a program ended, fit for the middle of a sentence: `exited with status 1`, `was killed by SIGKILL`.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exited with status {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {number}"),
        },
        (None, None) => "ended in an unknown way".to_owned(),
    }
}

/// The end of what a program printed.
#[derive(Debug)]
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: Arc<pipe::Receiver>,
}

impl Tail {
    /// Reads until everybody who holds the other end is gone, the background children of the program too,
    /// so that nobody is ever blocked or killed by a pipe that nobody reads.
    fn drain(reader: OwnedFd) -> io::Result<Self> {
        let reader = Arc::new(pipe::Receiver::from_owned_fd(reader)?);
        let kept = Arc::default();
        let (task_reader, task_kept) = (Arc::clone(&reader), Arc::clone(&kept));
        tokio::spawn(async move {
            while task_reader.readable().await.is_ok() {
                let mut buffer = [0; 4096];
                match task_reader.try_read(&mut buffer) {
                    Ok(0) => break,
                    Ok(length) => keep(&task_kept, &buffer[..length]),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(_) => break,
                }
            }
        });
        Ok(Self { kept, reader })
    }

    fn last_line(&self) -> Option<String> {
        // What the program wrote just before its end may still be in the pipe. 16 pages are all that it
        // holds; more is somebody else's.
        let mut buffer = [0; 4096];
        for _ in 0..16 {
            match nix::unistd::read(self.reader.as_fd(), &mut buffer) {
                Ok(length) if length > 0 => keep(&self.kept, &buffer[..length]),
                _ => break,
            }
        }
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let text = String::from_utf8_lossy(&kept);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        Some(line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE).collect())
    }
}

fn keep(kept: &Mutex<Vec<u8>>, more: &[u8]) {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    kept.extend_from_slice(more);
    let surplus = kept.len().saturating_sub(TAIL);
    kept.drain(..surplus);
}
