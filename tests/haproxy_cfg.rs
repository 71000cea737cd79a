//! `vipd run -c haproxy.cfg` beside HAProxy on the same file: kubeadm's guide carries real sessions and finds a dead
//! apiserver; backups are used when, and as many as, HAProxy uses.
//!
//! Each in a network namespace of its own; needs haproxy, openssl and curl, or `NETNS_TESTS=skip`.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

#[allow(dead_code, reason = "links are for other tests")]
mod namespace;

const VIPD: &str = env!("CARGO_BIN_EXE_vipd");
/// Where clients ask HAProxy, and where they ask vipd.
const PORTS: [u16; 2] = [8443, 8444];

/// Ended with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(directory: &Path, words: &[&str]) -> Running {
    let child = Command::new(words[0])
        .args(&words[1..])
        .current_dir(directory)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Running(child.unwrap_or_else(|error| panic!("this test needs {}: {error}", words[0])))
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The name that a server answers with.
fn ask(port: u16) -> Option<String> {
    let address = format!("https://127.0.0.1:{port}/name");
    let output =
        Command::new("curl").args(["-sk", "--http1.0", "--max-time", "5", &address]).output().unwrap();
    let name = String::from_utf8(output.stdout).unwrap();
    Some(name.trim().to_owned()).filter(|name| output.status.success() && !name.is_empty())
}

/// An apiserver, as far as the check and a client see it.
fn apiserver(directory: &Path, number: u16) -> Running {
    let own = directory.join(format!("master{number}"));
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("healthz"), "ok").unwrap();
    fs::write(own.join("name"), format!("master{number}\n")).unwrap();
    let port = (6440 + number).to_string();
    start(
        &own,
        &[
            "openssl",
            "s_server",
            "-quiet",
            "-WWW",
            "-accept",
            &port,
            "-key",
            "../key.pem",
            "-cert",
            "../cert.pem",
        ],
    )
}

/// The guide's file for three servers on this host.
fn guide(port: u16) -> String {
    let text = include_str!("../config/tests/doors/seed-kubeadm-filled/haproxy.cfg");
    let text = text.replace("*:8443", &format!("127.0.0.1:{port}"));
    (1..=3).fold(text, |text, number| {
        text.replace(&format!("192.0.2.1{number}:6443"), &format!("127.0.0.1:{}", 6440 + number))
    })
}

/// What HAProxy says of each server: `master1`, and `UP` or `DOWN`.
fn states_of_haproxy(socket: &Path) -> Vec<(String, String)> {
    use std::io::{Read as _, Write as _};
    let Ok(mut stream) = std::os::unix::net::UnixStream::connect(socket) else { return Vec::new() };
    let mut text = String::new();
    if stream.write_all(b"show stat\n").is_err() || stream.read_to_string(&mut text).is_err() {
        return Vec::new();
    }
    let rows = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let rows = rows.filter(|fields| {
        fields.len() > 17 && fields[0] == "apiserverbackend" && fields[1].starts_with("master")
    });
    rows.map(|fields| (fields[1].to_owned(), fields[17].to_owned())).collect()
}

/// The same of vipd, in HAProxy's words.
fn states_of_vipd(socket: &str) -> Vec<(String, String)> {
    let output = Command::new(VIPD).args(["status", "--json", "--socket", socket]).output().unwrap();
    let Ok(status) = serde_json::from_slice::<Value>(&output.stdout) else { return Vec::new() };
    let backends = status["listeners"][0]["backends"].as_array().cloned().unwrap_or_default();
    let word =
        |backend: &Value| if backend["health"] == "up" || backend["state"] == "up" { "UP" } else { "DOWN" };
    backends
        .iter()
        .map(|backend| (backend["name"].as_str().unwrap_or("").to_owned(), word(backend).to_owned()))
        .collect()
}

fn states(of: [&str; 3]) -> Vec<(String, String)> {
    (1..).zip(of).map(|(number, state)| (format!("master{number}"), state.to_owned())).collect()
}

#[test]
fn kubeadms_guide_runs_beside_haproxy_on_the_same_file() {
    if std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip") {
        return;
    }
    namespace::in_namespace("kubeadms_guide_runs_beside_haproxy_on_the_same_file", async || compare());
}

fn compare() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path();
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=localhost", "-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .output()
        .expect("this test needs openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let mut servers: Vec<Running> = (1..=3).map(|number| apiserver(directory, number)).collect();
    for number in 1..=3 {
        wait_until("a server answers", || ask(6440 + number).is_some());
    }
    let statistics = directory.join("haproxy.sock");
    let socket = directory.join("vipd.sock").display().to_string();
    let with_socket =
        guide(PORTS[0]).replace("    daemon\n", &format!("    stats socket {}\n", statistics.display()));
    fs::write(directory.join("haproxy.cfg"), with_socket).unwrap();
    fs::write(directory.join("vipd.cfg"), guide(PORTS[1])).unwrap();
    let _haproxy = start(directory, &["haproxy", "-db", "-f", "haproxy.cfg"]);
    let _vipd = start(directory, &[VIPD, "run", "-c", "vipd.cfg", "--socket", &socket]);

    // In turn, over all three.
    for port in PORTS {
        wait_until("the proxy answers", || ask(port).is_some());
        let mut names: Vec<_> = (0..6).filter_map(|_| ask(port)).collect();
        assert_eq!(names.len(), 6, "port {port}");
        names.sort();
        names.dedup();
        assert_eq!(names, ["master1", "master2", "master3"], "port {port}");
    }
    wait_until("both call all three up", || {
        states_of_haproxy(&statistics) == states(["UP"; 3]) && states_of_vipd(&socket) == states(["UP"; 3])
    });

    // One dies: no session fails, and both call it down after three checks.
    drop(servers.remove(1));
    let down = states(["UP", "DOWN", "UP"]);
    wait_until("both call the dead one down", || {
        assert!(ask(PORTS[1]).is_some_and(|name| name != "master2"), "a session failed");
        states_of_haproxy(&statistics) == down && states_of_vipd(&socket) == down
    });
    for port in PORTS {
        let names: Vec<_> = (0..4).filter_map(|_| ask(port)).collect();
        assert_eq!(names.len(), 4, "port {port}");
        assert!(!names.contains(&"master2".to_owned()), "port {port}");
    }

    // It comes back, after two good checks.
    servers.push(apiserver(directory, 2));
    wait_until("both call it up again", || {
        states_of_haproxy(&statistics) == states(["UP"; 3]) && states_of_vipd(&socket) == states(["UP"; 3])
    });
}

/// Says one word to everybody who connects, until it is dropped.
struct Speaker {
    port: u16,
    stop: std::sync::Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Speaker {
    fn new(port: u16, word: &'static str) -> Self {
        let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
        let stop = std::sync::Arc::<std::sync::atomic::AtomicBool>::default();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            use std::io::Write as _;
            while let Ok((mut client, _)) = listener.accept() {
                if stopped.load(std::sync::atomic::Ordering::SeqCst) {
                    return;
                }
                // Checks do not wait for it.
                let _ = client.write_all(word.as_bytes());
            }
        });
        Self { port, stop, thread: Some(thread) }
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.stop.store(true, std::sync::atomic::Ordering::SeqCst);
        let woken = std::net::TcpStream::connect(("127.0.0.1", self.port));
        drop(woken);
        self.thread.take().unwrap().join().unwrap();
    }
}

/// The word behind a proxy.
fn word_at(port: u16) -> Option<String> {
    use std::io::Read as _;
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    let mut word = String::new();
    // A reset comes behind nothing.
    let _ = stream.read_to_string(&mut word);
    Some(word).filter(|word| !word.is_empty())
}

/// One server and two backups, each checked at a port of its own.
fn with_backups(port: u16, option: &str) -> String {
    let server = |(name, number, backup): (&str, u16, &str)| {
        format!(
            "    server {name} 127.0.0.1:{} check port {} inter 200ms fall 2 rise 1{backup}\n",
            7000 + number,
            7100 + number
        )
    };
    let servers: String = [("a", 1, ""), ("b", 2, " backup"), ("c", 3, " backup")].map(server).concat();
    format!(
        "defaults\n    mode tcp\n    retries 1\n    option redispatch\n{option}    timeout connect 2s\n    timeout client 9s\n    timeout server 9s\nlisten service\n    bind 127.0.0.1:{port}\n{servers}"
    )
}

#[test]
fn backups_are_used_as_haproxy_uses_them() {
    if std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip") {
        return;
    }
    namespace::in_namespace("backups_are_used_as_haproxy_uses_them", async || {
        the_first_backup_alone();
        all_backups();
    });
}

fn both(directory: &Path, option: &str) -> [Running; 2] {
    fs::write(directory.join("haproxy.cfg"), with_backups(PORTS[0], option)).unwrap();
    fs::write(directory.join("vipd.cfg"), with_backups(PORTS[1], option)).unwrap();
    let socket = directory.join("vipd.sock").display().to_string();
    [
        start(directory, &["haproxy", "-db", "-f", "haproxy.cfg"]),
        start(directory, &[VIPD, "run", "-c", "vipd.cfg", "--socket", &socket]),
    ]
}

/// Both give these words, however often they are asked.
fn expect_words(what: &str, expected: &[Option<&str>]) {
    let ask = |port: u16, times: usize| {
        let mut words: Vec<_> = (0..times).map(|_| word_at(port)).collect();
        words.sort();
        words.dedup();
        words
    };
    let expected: Vec<_> = expected.iter().map(|word| word.map(str::to_owned)).collect();
    for port in PORTS {
        wait_until(what, || ask(port, expected.len()) == expected);
        assert_eq!(ask(port, 2 * expected.len()), expected, "{what}, port {port}");
    }
}

fn the_first_backup_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mut servers: Vec<_> =
        [(7001, "a"), (7002, "b"), (7003, "c")].map(|(port, word)| Some(Speaker::new(port, word))).into();
    let mut checked: Vec<_> = [7101, 7102, 7103].map(|port| Some(Speaker::new(port, "ok"))).into();
    let _both = both(folder.path(), "");
    expect_words("the server that is no backup", &[Some("a")]);
    servers[0] = None;
    expect_words("no backup while a check calls the other one up", &[None]);
    checked[0] = None;
    expect_words("the first backup alone", &[Some("b")]);
    servers[1] = None;
    expect_words("no second backup while a check calls the first one up", &[None]);
    checked[1] = None;
    expect_words("the second backup", &[Some("c")]);
    checked[1] = Some(Speaker::new(7102, "ok"));
    servers[1] = Some(Speaker::new(7002, "b"));
    expect_words("the first backup again", &[Some("b")]);
}

fn all_backups() {
    let folder = tempfile::tempdir().unwrap();
    let _servers =
        [(7002, "b"), (7003, "c"), (7102, "ok"), (7103, "ok")].map(|(port, word)| Speaker::new(port, word));
    let _both = both(folder.path(), "    option allbackups\n");
    expect_words("all backups", &[Some("b"), Some("c")]);
}
