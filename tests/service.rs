//! As a service manager sees it: notifications (sd_notify(3)), the watchdog, and the unit file.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, UnixCredentials, recvmsg, setsockopt, sockopt};
use nix::unistd::Pid;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
const CONFIGURATION: &str =
    "[[instance]]\nname = \"VI_1\"\ninterface = \"eth77\"\nvrid = 51\naddresses = [\"10.99.0.100\"]\n";
const SOON: Duration = Duration::from_secs(20);
/// Three signs of life in this time.
const PATIENCE: Duration = Duration::from_millis(600);

/// `NETNS_TESTS=skip` is for hosts that have no namespaces; everywhere else they fail without.
fn skipped() -> bool {
    std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip")
}

struct Daemon(Child);

impl Daemon {
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a service manager hears, and from which process.
struct Manager(UnixDatagram);

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        setsockopt(&socket, sockopt::PassCred, &true).unwrap();
        Self(socket)
    }

    fn next(&self, limit: Duration) -> Option<(String, i32)> {
        self.0.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 4096];
        let mut control = nix::cmsg_space!(UnixCredentials);
        let mut slices = [std::io::IoSliceMut::new(&mut buffer)];
        let message =
            recvmsg::<()>(self.0.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty()).ok()?;
        let sender = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::ScmCredentials(sender) => Some(sender.pid()),
            _ => None,
        });
        let length = message.bytes;
        Some((String::from_utf8(buffer[..length].to_vec()).unwrap(), sender.unwrap()))
    }

    /// Waits for this word; gives who said it.
    fn hears(&self, word: &str) -> i32 {
        let deadline = Instant::now() + SOON;
        while Instant::now() < deadline {
            if let Some((said, sender)) = self.next(SOON)
                && said.lines().any(|line| line == word)
            {
                return sender;
            }
        }
        panic!("the service manager never heard {word}");
    }
}

/// The daemon's process.
fn number(socket: &Path) -> Option<Pid> {
    let status = Command::new(VIPD).args(["status", "--json", "--socket"]).arg(socket).output().unwrap();
    let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
    Some(Pid::from_raw(status["pid"].as_i64()?.try_into().ok()?))
}

#[test]
fn the_guard_speaks_for_the_daemon_and_the_watchdog_is_fed_while_the_engine_answers() {
    if skipped() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    fs::write(path("vipd.toml"), CONFIGURATION).unwrap();
    let manager = Manager::new(&path("notify"));
    // -r maps root; the process that unshare becomes is the service.
    let child = Command::new("unshare")
        .args(["-Urn", VIPD, "run", "-c"])
        .arg(path("vipd.toml"))
        .arg("--socket")
        .arg(path("sock"))
        .env("NOTIFY_SOCKET", path("notify"))
        .env("WATCHDOG_USEC", PATIENCE.as_micros().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut daemon = Daemon(child);
    // NotifyAccess=main: nobody else is listened to.
    let service: i32 = daemon.0.id().try_into().unwrap();
    assert_eq!(manager.hears("READY=1"), service);
    for _ in 0..3 {
        assert_eq!(manager.hears("WATCHDOG=1"), service);
    }
    daemon.signal(Signal::SIGHUP);
    assert_eq!(manager.hears("RELOADING=1"), service);
    assert_eq!(manager.hears("READY=1"), service);

    // The engine thread hangs with all others of the daemon: no sign of life, though the guard lives.
    let inner = number(&path("sock")).expect("it runs");
    kill(inner, Signal::SIGSTOP).unwrap();
    let stopped = Instant::now();
    let mut last = stopped;
    while let Some((said, _)) = manager.next(PATIENCE * 2) {
        assert_eq!(said, "WATCHDOG=1");
        last = Instant::now();
        assert!(stopped.elapsed() < SOON, "a hung daemon gives signs of life");
    }
    assert!(last - stopped < PATIENCE, "signs of life for {:?} after the stop", last - stopped);

    // Somebody kills it: another one is started, and says so.
    kill(inner, Signal::SIGKILL).unwrap();
    assert_eq!(manager.hears("READY=1"), service);
    assert_eq!(manager.hears("WATCHDOG=1"), service);
    daemon.signal(Signal::SIGTERM);
    assert_eq!(manager.hears("STOPPING=1"), service);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(0));
}

/// What systemd does when the watchdog was not fed: the guard ends the hung daemon, and itself, to be started anew.
#[test]
fn the_watchdogs_signal_ends_a_daemon_that_hangs() {
    if skipped() {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let (file, socket) = (place.path().join("vipd.toml"), place.path().join("sock"));
    fs::write(&file, CONFIGURATION).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-Urn", VIPD, "run", "-c"]).arg(&file).arg("--socket").arg(&socket);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut daemon = Daemon(command.spawn().unwrap());
    let deadline = Instant::now() + SOON;
    let inner = loop {
        assert!(Instant::now() < deadline, "it never answered");
        if let Some(inner) = number(&socket) {
            break inner;
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    kill(inner, Signal::SIGSTOP).unwrap();
    daemon.signal(Signal::SIGABRT);
    assert_eq!(daemon.0.wait().unwrap().code(), Some(70));
    assert!(kill(inner, None).is_err(), "the daemon is left");
}

/// As `systemd-analyze verify` and `security` judge it: no unknown key, and an exposure of at most 5.0 ("OK").
#[test]
fn the_unit_is_understood_by_systemd_and_leaves_little_exposed() {
    let place = tempfile::tempdir().unwrap();
    let unit = place.path().join("vipd.service");
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/vipd.service")).unwrap();
    fs::write(&unit, text.replace("/usr/bin/vipd", VIPD)).unwrap();
    let analyze = |words: &[&str]| {
        let output = Command::new("systemd-analyze").args(words).arg(&unit).output();
        let output = output.expect("needs systemd-analyze, of Debian's package systemd");
        let said =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), said)
    };
    let (is_right, said) = analyze(&["verify", "--man=no", "--recursive-errors=no"]);
    assert!(is_right && !said.contains("vipd.service:"), "{said}");
    let (is_safe, said) = analyze(&["security", "--offline=yes", "--threshold=50"]);
    assert!(is_safe, "{said}");
}
