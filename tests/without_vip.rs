//! A forwarder alone, as a user without any privilege: the localhost balancer of Kubespray.

mod place;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use place::{Place, free, wait_until};
use serde_json::Value;

/// Answers every connection with its name until it is dropped.
fn named(name: &'static str) -> (SocketAddr, std::sync::Arc<TcpListener>) {
    let socket = std::sync::Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let (address, served) = (socket.local_addr().unwrap(), std::sync::Arc::downgrade(&socket));
    socket.set_nonblocking(true).unwrap();
    std::thread::spawn(move || {
        while let Some(socket) = served.upgrade() {
            if let Ok((mut stream, _)) = socket.accept() {
                let _ = stream.write_all(name.as_bytes());
            }
            drop(socket);
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    (address, socket)
}

fn who(at: SocketAddr) -> String {
    let mut answer = String::new();
    let _ = TcpStream::connect(at).and_then(|mut stream| stream.read_to_string(&mut answer));
    answer
}

fn page(at: SocketAddr) -> String {
    let mut answer = String::new();
    let Ok(mut stream) = TcpStream::connect(at) else { return answer };
    let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let _ = stream.read_to_string(&mut answer);
    answer
}

/// Inodes of sockets of this kind in our network namespace.
fn inodes(table: &str, column: usize) -> Vec<String> {
    let text = fs::read_to_string(Path::new("/proc/net").join(table)).unwrap_or_default();
    text.lines().skip(1).filter_map(|line| line.split_whitespace().nth(column).map(str::to_owned)).collect()
}

#[test]
fn the_localhost_balancer_needs_no_privilege_and_takes_none() {
    let [(a, _a), (b, kept), (c, _c)] = [named("a"), named("b"), named("c")];
    let (listener, health) = (free(), free());
    let place = Place::new(&format!(
        "[[listener]]\nname = \"apiserver\"\nbind = [\"{listener}\"]\nmax_sessions = 100\n\
         check = {{ tcp = {{}}, interval = \"100ms\", fall = 1, rise = 1 }}\n\
         backends = [{{ address = \"{a}\" }}, {{ address = \"{b}\" }}, {{ address = \"{c}\" }}]\n\n\
         [[health_page]]\nbind = \"{health}\"\nlisteners = [\"apiserver\"]\nleast = 3\n"
    ));
    let daemon = place.start();
    wait_until("all backends are up", || page(health).contains("ok: apiserver has 3 of 3 backends healthy"));
    let mut answers = [who(listener), who(listener), who(listener)];
    answers.sort();
    assert_eq!(answers, ["a", "b", "c"]);

    let process = PathBuf::from(format!("/proc/{}", daemon.0.id()));
    let status = fs::read_to_string(process.join("status")).unwrap();
    assert!(status.contains("CapEff:\t0000000000000000"), "{status}");
    let special: Vec<String> = [("netlink", 9), ("raw", 9), ("raw6", 9), ("packet", 8)]
        .map(|(table, at)| inodes(table, at))
        .concat();
    for descriptor in fs::read_dir(process.join("fd")).unwrap() {
        let target = fs::read_link(descriptor.unwrap().path()).unwrap_or_default();
        let target = target.to_string_lossy();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            assert!(!special.iter().any(|one| one == inode), "{target} is a netlink, raw or packet socket");
        }
    }
    for thread in fs::read_dir(process.join("task")).unwrap() {
        let stat = fs::read_to_string(thread.unwrap().path().join("stat")).unwrap();
        // proc_pid_stat(5): the policy is field 41; the name in parentheses is field 2.
        let policy = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(38);
        assert_eq!(policy, Some("0"), "{stat}");
    }
    let log = fs::read_to_string(place.path("log")).unwrap();
    assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
    assert!(log.contains("runtime/vipd/control.sock"), "{log}");

    drop(kept);
    wait_until("the page says no", || {
        let answer = page(health);
        answer.starts_with("HTTP/1.1 503 ")
            && answer.contains("apiserver has 2 of 3 backends healthy, needs 3")
    });
    assert_ne!(who(listener), "");
}

#[test]
fn backends_by_name_join_and_a_name_that_is_not_found_is_said() {
    let (address, _kept) = named("a");
    let listener = free();
    let place = Place::new(&format!(
        "[[listener]]\nname = \"api\"\nbind = [\"{listener}\"]\nmax_sessions = 100\nbackends = [\n\
         {{ address = \"localhost:{}\" }},\n{{ address = \"no-such-name.invalid:1\" }},\n]\n",
        address.port()
    ));
    let _daemon = place.start();
    wait_until("the backend by name answers", || who(listener) == "a");
    let names = || place.status().unwrap()["listeners"][0]["names"].clone();
    let (found, missing) = (names()[0].clone(), || names()[1].clone());
    assert_eq!(found["name"], format!("localhost:{}", address.port()));
    assert!(found["addresses"].as_array().unwrap().contains(&Value::from(address.to_string())), "{found}");
    wait_until("the other one says why", || missing()["error"].is_string());
    assert_eq!(missing()["addresses"], Value::from(Vec::<Value>::new()));
}
