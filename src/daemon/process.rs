//! The process before it has threads: network namespace, umask, name.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use config::ready::Process;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, umask};

/// keepalived's umask: no x for the user, nothing for group and others.
const KEEPALIVED_UMASK: u32 = 0o177;

/// A network namespace could not be entered.
#[derive(Debug, thiserror::Error)]
#[error("cannot enter network namespace {name} ({}): {source}", path.display())]
pub struct NamespaceError {
    name: String,
    path: PathBuf,
    source: io::Error,
}

/// Enters a namespace of `ip netns`, for this thread and all that it starts.
///
/// # Errors
/// There is none of that name, or it may not be entered.
pub fn enter_namespace(name: &str) -> Result<(), NamespaceError> {
    let path = Path::new("/run/netns").join(name);
    let entered = File::open(&path).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
    entered.map_err(|source| NamespaceError { name: name.into(), path, source })
}

/// The mask that files are made with: the one of the command line before the one of the configuration.
///
/// Returns it.
pub fn set_umask(given: Option<u32>, process: &Process, as_keepalived: bool) -> u32 {
    let wanted = given.or(process.umask).or(as_keepalived.then_some(KEEPALIVED_UMASK));
    match wanted {
        Some(mask) => {
            umask(Mode::from_bits_truncate(mask));
            mask
        }
        None => {
            // It can only be read by being set.
            let mask = umask(Mode::empty());
            umask(mask);
            mask.bits()
        }
    }
}

/// What `ps` shows (`process_name`): the first 15 octets.
pub fn set_name(process: &Process) {
    if let Some(name) = &process.name
        && let Ok(name) = std::ffi::CString::new(name.as_bytes())
    {
        // A name is for people; without it everything else is the same.
        let _ = nix::sys::prctl::set_name(&name);
    }
}
