//! Into the background, as daemons did before service managers: two forks and a session of its own.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};

/// Which process this is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The one in the background.
    Daemon,
    /// The one that was started, and is done.
    Starter,
}

/// Forks twice. Must be called before any thread is started.
///
/// The daemon has no terminal: its log is syslog's.
///
/// # Errors
/// When there can be no more processes, or `/dev/null` is not there.
pub fn enter() -> io::Result<Side> {
    let null = File::options().read(true).write(true).open("/dev/null")?;
    // SAFETY: this process has one thread, so every lock is free in the child.
    if let ForkResult::Parent { child } = unsafe { fork() }? {
        // It ends at once; nobody else would collect it.
        waitpid(child, None)?;
        return Ok(Side::Starter);
    }
    setsid()?;
    // A process that leads no session gets no terminal by opening one.
    // SAFETY: as above.
    if let ForkResult::Parent { .. } = unsafe { fork() }? {
        return Ok(Side::Starter);
    }
    std::env::set_current_dir("/")?;
    dup2_stdin(null.as_fd())?;
    dup2_stdout(null.as_fd())?;
    dup2_stderr(null.as_fd())?;
    Ok(Side::Daemon)
}
