//! The daemon as a process: how it starts, answers, refuses and ends. Each runs in a network namespace of its own
//! (`unshare -Urn`), so nothing of this host is touched.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");

/// Its interface is not there: the instance waits in FAULT, which is enough to be asked about.
const GOOD: &str = "\
vrrp_instance VI_1 {
    state BACKUP
    interface eth77
    virtual_router_id 51
    priority 100
    virtual_ipaddress {
        10.99.0.100
    }
}
";

/// `NETNS_TESTS=skip` is for hosts that have no namespaces; everywhere else they fail without.
fn skipped() -> bool {
    std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip")
}

struct Place(tempfile::TempDir);

impl Place {
    fn new(configuration: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        fs::write(place.path("vipd.conf"), configuration).unwrap();
        place
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    /// `vipd run` in a namespace of its own, with the log in a file.
    fn start(&self) -> Daemon {
        let log = fs::File::create(self.path("log")).unwrap();
        let (file, socket) = (self.path("vipd.conf"), self.path("sock"));
        let child = Command::new("unshare")
            .args(["-Urn", VIPD, "run", "-c", &file, "--socket", &socket, "--pid-file", &self.path("pid")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let daemon = Daemon(child);
        wait_until("an answer on the control socket", || self.ask(&["status", "--json"]).status.success());
        daemon
    }

    fn ask(&self, arguments: &[&str]) -> Output {
        Command::new(VIPD).args(arguments).args(["--socket", &self.path("sock")]).output().unwrap()
    }
}

/// Dies with the test.
struct Daemon(Child);

impl Daemon {
    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.0.id().try_into().unwrap()), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until(what: &str, seen: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !seen() {
        assert!(Instant::now() < deadline, "not seen: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn a_running_daemon_answers_and_stops_with_exit_code_0() {
    if skipped() {
        return;
    }
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let place = Place::new(GOOD);
        let mut daemon = place.start();
        let status: Value = serde_json::from_slice(&place.ask(&["status", "--json"]).stdout).unwrap();
        assert_eq!(status["instances"][0]["name"], "VI_1");
        assert_eq!(status["instances"][0]["state"], "fault");
        let table = text(&place.ask(&["status"]).stdout);
        assert!(table.contains("VI_1") && table.contains("eth77 does not exist"), "{table}");
        let events = text(&place.ask(&["events"]).stdout);
        assert!(events.contains("VI_1: ") && events.contains("-> fault"), "{events}");
        let pid = fs::read_to_string(place.path("pid")).unwrap();
        assert_eq!(pid, format!("{}\n", status["guard"]["pid"]));
        assert_ne!(status["guard"]["pid"], status["pid"]);
        assert_eq!(daemon.end(signal), Some(0), "{}", fs::read_to_string(place.path("log")).unwrap());
        for left in ["sock", "pid"] {
            assert!(!Path::new(&place.path(left)).exists(), "{left} is left");
        }
        assert_eq!(place.ask(&["status"]).status.code(), Some(1));
    }
}

#[test]
fn a_reload_is_all_or_nothing() {
    if skipped() {
        return;
    }
    let place = Place::new(GOOD);
    let _daemon = place.start();
    fs::write(place.path("vipd.conf"), GOOD.replace("51", "300")).unwrap();
    let refused = place.ask(&["reload"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("300"), "{}", text(&refused.stderr));
    let vrid = || {
        let status: Value = serde_json::from_slice(&place.ask(&["status", "--json"]).stdout).unwrap();
        status["instances"][0]["vrid"].clone()
    };
    assert_eq!(vrid(), 51);
    fs::write(place.path("vipd.conf"), GOOD.replace("51", "52")).unwrap();
    let done = place.ask(&["reload"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    wait_until("the new VRID", || vrid() == 52);
}

#[test]
fn a_second_daemon_on_the_socket_is_refused_with_the_pid_of_the_first() {
    if skipped() {
        return;
    }
    let place = Place::new(GOOD);
    let _daemon = place.start();
    let status: Value = serde_json::from_slice(&place.ask(&["status", "--json"]).stdout).unwrap();
    let pid = status["pid"].to_string();
    let second = Command::new("unshare")
        .args(["-Urn", VIPD, "run", "-c", &place.path("vipd.conf"), "--socket", &place.path("sock")])
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    assert!(text(&second.stderr).contains(&format!("pid {pid}")), "{}", text(&second.stderr));
    assert!(place.ask(&["status"]).status.success(), "the first one still answers");
}

#[test]
fn a_broken_configuration_does_not_start_and_every_problem_is_said() {
    let broken = GOOD.replace("51", "300").replace("    interface eth77\n", "");
    let place = Place::new(&broken);
    let output = Command::new(VIPD)
        .args(["run", "-c", &place.path("vipd.conf"), "--socket", &place.path("sock")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr);
    assert!(said.contains("virtual_router_id 300") && said.contains("no interface"), "{said}");
    assert!(said.contains("not started"), "{said}");
    assert!(!Path::new(&place.path("sock")).exists());
}

#[test]
fn a_missing_permission_is_named_with_the_way_to_grant_it() {
    if skipped() {
        return;
    }
    let place = Place::new(GOOD);
    // Root of a user namespace, from whom every capability is taken.
    let output = Command::new("unshare")
        .args(["-Ur", "setpriv", "--bounding-set=-all", "--inh-caps=-all"])
        .args([VIPD, "run", "-c", &place.path("vipd.conf"), "--socket", &place.path("sock")])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", text(&output.stderr));
    for part in ["CAP_NET_ADMIN", "CAP_NET_RAW", "AmbientCapabilities=", "setcap"] {
        assert!(text(&output.stderr).contains(part), "{part}: {}", text(&output.stderr));
    }
}

#[test]
fn under_the_name_keepalived_it_goes_into_the_background_with_its_pid_files() {
    if skipped() {
        return;
    }
    let place = Place::new(GOOD);
    // keepalived has no word for a control socket, and the usual one belongs to this host.
    let socket = format!("[control]\nsocket = {:?}\n", place.path("sock"));
    let instance =
        "[[instance]]\nname = \"VI_1\"\ninterface = \"eth77\"\nvrid = 51\naddresses = [\"10.99.0.100\"]\n";
    fs::write(place.path("vipd.toml"), socket + instance).unwrap();
    let program = PathBuf::from(place.path("keepalived"));
    symlink(VIPD, &program).unwrap();
    let files = [place.path("parent.pid"), place.path("vrrp.pid")];
    let started = Command::new("unshare")
        .arg("-Urn")
        .arg(&program)
        .args(["-f", &place.path("vipd.toml"), "-p", &files[0], "-r", &files[1], "-D", "-R"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(started.status.code(), Some(0), "{}", text(&started.stderr));
    assert!(text(&started.stderr).contains("-R has no effect here: "), "{}", text(&started.stderr));
    let read = |file: &String| fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
    wait_until("the pid files", || files.iter().all(|file| read(file).is_some()));
    // keepalived's parent and child are the guard and the daemon here.
    let pid = Pid::from_raw(read(&files[0]).unwrap());
    let parent = fs::read_to_string(format!("/proc/{}/status", read(&files[1]).unwrap())).unwrap();
    assert!(parent.contains(&format!("PPid:\t{pid}\n")), "{parent}");
    let ours = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    assert!(ours.starts_with(program.to_str().unwrap()), "{ours}");
    kill(pid, Signal::SIGTERM).unwrap();
    wait_until("the end", || kill(pid, None).is_err());
    assert!(files.iter().all(|file| !Path::new(file).exists()), "pid files are left");
}
