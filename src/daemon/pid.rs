//! Pid files: keepalived's three and more, each held with a lock as long as this process lives.

use std::fs::{self, File, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use config::ready::{Config, Process};
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::signal::kill;
use nix::unistd::Pid;

/// keepalived's directory for pid files with `use_pid_dir`, an `instance` or a namespace.
const DIRECTORY: &str = "/run/keepalived";

/// Which files there are to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// `-p`, and `vipd run --pid-file`.
    pub parent: Option<PathBuf>,
    /// `-r`
    pub vrrp: Option<PathBuf>,
    /// `-c`
    pub checkers: Option<PathBuf>,
    /// `-b`
    pub bfd: Option<PathBuf>,
    /// keepalived's own places for what is not given.
    pub as_keepalived: bool,
}

impl Wanted {
    /// With the pid that goes into each: the service's own, which is the guard's if there is one, into the parent's file,
    /// which is there always; the daemon's into the others, when there is such work.
    ///
    /// keepalived mounts `/run/keepalived/NAMESPACE` over its directory; here the file is there at once.
    pub fn paths(&self, config: &Config, checkers: bool, guard: Option<Pid>) -> Vec<(PathBuf, Pid)> {
        let place = |given: &Option<PathBuf>, name: &str, wanted: bool| {
            given.clone().or_else(|| (self.as_keepalived && wanted).then(|| place(&config.process, name)))
        };
        let vrrp = !config.instances.is_empty()
            || !config.static_addresses.is_empty()
            || !config.static_routes.is_empty()
            || !config.static_rules.is_empty();
        let files = [
            place(&self.parent, "keepalived", true),
            place(&self.vrrp, "vrrp", vrrp),
            place(&self.checkers, "checkers", checkers),
            place(&self.bfd, "bfd", !config.bfd.is_empty()),
        ];
        let daemon = Pid::this();
        let pids = [guard.unwrap_or(daemon), daemon, daemon, daemon];
        let mut paths: Vec<_> =
            files.into_iter().zip(pids).filter_map(|(file, pid)| Some((file?, pid))).collect();
        paths.dedup_by(|(one, _), (other, _)| one == other);
        paths
    }
}

fn place(process: &Process, name: &str) -> PathBuf {
    let mut directory = PathBuf::from(DIRECTORY);
    directory.extend(&process.net_namespace);
    match &process.instance {
        Some(instance) => directory.join(format!("{name}_{instance}.pid")),
        None if process.net_namespace.is_some() || process.use_pid_dir => {
            directory.join(format!("{name}.pid"))
        }
        None => format!("/run/{name}.pid").into(),
    }
}

/// Why the files cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum PidError {
    /// One of them names, or is locked by, a living process.
    #[error("daemon is already running")]
    Running {
        /// Which says so.
        path: PathBuf,
    },
    /// The file system.
    #[error("cannot write the pid file {}: {source}", path.display())]
    Write {
        /// As given.
        path: PathBuf,
        /// From the kernel.
        source: io::Error,
    },
}

/// Files with our pid; they go when this does.
#[derive(Debug, Default)]
pub struct PidFiles(Vec<(PathBuf, Flock<File>)>);

impl PidFiles {
    /// Writes them; what is there of a process that ended is overwritten.
    ///
    /// # Errors
    /// Another process lives that one of them names, or they cannot be written. None is left behind.
    pub fn write(paths: &[(PathBuf, Pid)]) -> Result<Self, PidError> {
        let ours = |pid| pid == Pid::this() || paths.iter().any(|(_, ours)| *ours == pid);
        if let Some((path, _)) = paths.iter().find(|(path, _)| names_another_process(path, ours)) {
            return Err(PidError::Running { path: path.clone() });
        }
        let mut written = Self::default();
        for (path, pid) in paths {
            written.0.push((path.clone(), write(path, *pid)?));
        }
        Ok(written)
    }
}

impl Drop for PidFiles {
    fn drop(&mut self) {
        for (path, _) in &self.0 {
            // Somebody else may have removed it; nothing is lost.
            let _ = fs::remove_file(path);
        }
        // Goes when it is empty, as keepalived's does.
        for (path, _) in &self.0 {
            for directory in path.ancestors().skip(1).filter(|one| one.starts_with(DIRECTORY)) {
                let _ = fs::remove_dir(directory);
            }
        }
    }
}

fn write(path: &Path, pid: Pid) -> Result<Flock<File>, PidError> {
    let problem = |source| PidError::Write { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|one| one.starts_with(DIRECTORY) && !one.exists()) {
        fs::create_dir_all(directory).map_err(problem)?;
        for made in directory.ancestors().take_while(|one| one.starts_with(DIRECTORY)) {
            fs::set_permissions(made, Permissions::from_mode(0o755)).map_err(problem)?;
        }
    }
    let file = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .custom_flags(libc::O_NOFOLLOW | libc::O_CLOEXEC)
        .open(path)
        .map_err(problem)?;
    let file = Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| PidError::Running { path: path.to_owned() })?;
    // Whatever the umask: everybody may know whom to signal.
    let filled = file
        .set_len(0)
        .and_then(|()| writeln!(&*file, "{pid}"))
        .and_then(|()| file.set_permissions(Permissions::from_mode(0o644)));
    filled.map_err(problem)?;
    Ok(file)
}

/// A pid file of a living process that is none of ours (in a container everybody was pid 1 once; a daemon that died left
/// the guard's).
fn names_another_process(path: &Path, is_ours: impl Fn(Pid) -> bool) -> bool {
    let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    pid.is_some_and(|pid: i32| {
        pid > 0
            && !is_ours(Pid::from_raw(pid))
            && kill(Pid::from_raw(pid), None) != Err(nix::errno::Errno::ESRCH)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_of_ourselves_or_of_nobody_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        let ours = |pid| pid == Pid::this();
        assert!(!names_another_process(&path, ours));
        for (content, another) in [("1\n", true), ("0\n", false), ("garbage", false), ("999999999\n", false)]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(names_another_process(&path, ours), another, "{content}");
        }
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert!(!names_another_process(&path, ours));
    }

    #[test]
    fn the_files_are_ours_until_we_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        fs::write(&path, "999999999\n and more of a process that ended").unwrap();
        let paths = [(path.clone(), Pid::this())];
        let held = PidFiles::write(&paths).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        assert!(matches!(PidFiles::write(&paths), Err(PidError::Running { .. })), "it is locked");
        drop(held);
        assert!(!path.exists());
    }

    #[test]
    fn a_link_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (target, path) = (directory.path().join("t"), directory.path().join("pid"));
        fs::write(&target, "precious").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        assert!(matches!(PidFiles::write(&[(path, Pid::this())]), Err(PidError::Write { .. })));
        assert_eq!(fs::read_to_string(&target).unwrap(), "precious");
    }

    /// Places of 2.2.7.
    #[test]
    fn instance_and_namespace_have_directories_and_names_of_their_own() {
        let mut process = Process::default();
        let place = |process: &Process| super::place(process, "vrrp").display().to_string();
        assert_eq!(place(&process), "/run/vrrp.pid");
        process.use_pid_dir = true;
        assert_eq!(place(&process), "/run/keepalived/vrrp.pid");
        process.instance = Some("II".into());
        assert_eq!(place(&process), "/run/keepalived/vrrp_II.pid");
        process.net_namespace = Some("zz".into());
        assert_eq!(place(&process), "/run/keepalived/zz/vrrp_II.pid");
        process.instance = None;
        assert_eq!(place(&process), "/run/keepalived/zz/vrrp.pid");
    }
}
