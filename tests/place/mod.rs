//! A daemon without any privilege, in a directory of its own, and the program that talks to it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// `nobody` of every distribution.
const NOBODY: u32 = 65534;

/// A directory that belongs to the user, with the program in it: he may not enter ours.
pub struct Place {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Place {
    pub fn new(configuration: &str) -> Self {
        let directory = tempfile::Builder::new().prefix("vipd-").tempdir_in("/tmp").unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = directory.path().join("vipd");
        // By a program of its own: a child that another thread starts meanwhile would hold the file open for writing, and it
        // could not be run ("text file busy").
        let copied = Command::new("cp").arg(env!("CARGO_BIN_EXE_vipd")).arg(&program).status().unwrap();
        assert!(copied.success());
        fs::write(directory.path().join("vipd.toml"), configuration).unwrap();
        let runtime = directory.path().join("runtime");
        fs::create_dir(&runtime).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&runtime, Some(NOBODY), Some(NOBODY)).unwrap();
        }
        Self { directory, program }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Whoever runs the test is root or has no privilege already.
    pub fn vipd(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(self.directory.path());
        command.env("XDG_RUNTIME_DIR", self.path("runtime"));
        if nix::unistd::geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        command
    }

    pub fn start(&self) -> Daemon {
        let log = fs::File::create(self.path("log")).unwrap();
        let mut command = self.vipd(&["run", "-c", "vipd.toml"]);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let daemon = Daemon(child);
        wait_until("an answer on the control socket", || self.status().is_some());
        daemon
    }

    /// As `vipd status` finds it without being told where.
    pub fn status(&self) -> Option<Value> {
        let output = self.vipd(&["status", "--json"]).output().unwrap();
        output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
    }
}

pub struct Daemon(pub Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn wait_until(what: &str, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < deadline, "not seen: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
