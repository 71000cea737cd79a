//! `vipd backend` against a running daemon: what an operator types, and what becomes of sessions.

mod place;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use place::{Daemon, Place, free, wait_until};

/// Says its letter to whom it accepts, then answers each octet with it.
fn serve(letter: u8) -> SocketAddr {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in socket.incoming().flatten() {
            std::thread::spawn(move || {
                let mut asked = [0];
                while stream.write_all(&[letter]).is_ok() && stream.read_exact(&mut asked).is_ok() {}
            });
        }
    });
    address
}

/// A session, and who serves it.
fn open(at: SocketAddr) -> (TcpStream, char) {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut letter = [0];
    stream.read_exact(&mut letter).unwrap();
    (stream, char::from(letter[0]))
}

/// Who serves so many new sessions.
fn served_by(at: SocketAddr, sessions: usize) -> String {
    let mut letters: Vec<char> = (0..sessions).map(|_| open(at).1).collect();
    letters.sort_unstable();
    letters.into_iter().collect()
}

fn is_alive(session: &mut TcpStream) -> bool {
    session.write_all(b"?").is_ok() && session.read_exact(&mut [0]).is_ok()
}

struct Bench {
    place: Place,
    daemon: Daemon,
    at: SocketAddr,
    other: SocketAddr,
}

impl Bench {
    /// Two listeners, both with a backend `a`; the first one has a `b` too.
    fn start() -> Self {
        let (a, b, at, other) = (serve(b'a'), serve(b'b'), free(), free());
        let place = Place::new(&format!(
            "[[listener]]\nname = \"api\"\nbind = [\"{at}\"]\nbalance = \"roundrobin\"\nmax_sessions = 100\n\
             backends = [{{ name = \"a\", address = \"{a}\" }}, {{ name = \"b\", address = \"{b}\" }}]\n\
             [[listener]]\nname = \"other\"\nbind = [\"{other}\"]\nmax_sessions = 100\nbackends = [{{ name = \"a\", address = \"{a}\" }}]\n"
        ));
        let daemon = place.start();
        Self { place, daemon, at, other }
    }

    /// Exit code, standard output, standard error.
    fn type_in(&self, words: &str) -> (Option<i32>, String, String) {
        let words: Vec<&str> = ["backend"].into_iter().chain(words.split_whitespace()).collect();
        let output = self.place.vipd(&words).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    fn does(&self, words: &str) -> String {
        let (code, said, complaint) = self.type_in(words);
        assert_eq!((code, complaint.as_str()), (Some(0), ""), "{words}: {said}");
        said
    }

    /// The columns STATE and WEIGHT of the table.
    fn shown(&self, name: &str) -> (String, String) {
        let table = self.does(name);
        let row = table.lines().nth(1).unwrap_or_else(|| panic!("{table}"));
        let cells = |line: &str| -> Vec<String> {
            line.split("  ").map(|cell| cell.trim().to_owned()).filter(|cell| !cell.is_empty()).collect()
        };
        let (head, row) = (cells(table.lines().next().unwrap_or_default()), cells(row));
        assert_eq!(head[2..5], ["STATE", "HEALTH", "WEIGHT"], "{table}");
        (row[2].clone(), row[4].clone())
    }

    fn reload(&self) {
        let file = self.place.path("vipd.toml");
        let before = fs::read_to_string(&file).unwrap();
        fs::write(
            &file,
            format!(
                "{before}[[listener]]\nname = \"new\"\nbind = [\"{}\"]\nmax_sessions = 10\nbackends = [{{ address = \"127.0.0.1:1\" }}]\n",
                free()
            ),
        )
        .unwrap();
        kill(Pid::from_raw(self.daemon.0.id().cast_signed()), Signal::SIGHUP).unwrap();
        wait_until("the new listener is there", || {
            self.place
                .status()
                .is_some_and(|status| status["listeners"].as_array().is_some_and(|all| all.len() == 3))
        });
    }
}

#[test]
fn drained_backends_keep_their_sessions_and_get_no_new_ones_also_after_a_reload() {
    let bench = Bench::start();
    let (mut first, mut second) = (open(bench.at), open(bench.at));
    if first.1 != 'a' {
        std::mem::swap(&mut first, &mut second);
    }
    assert_eq!((first.1, second.1), ('a', 'b'));
    let said = bench.does("api/a drain");
    assert!(
        said.contains("api/a") && said.contains('1'),
        "it names the backend and its open session: {said}"
    );
    assert_eq!(served_by(bench.at, 4), "bbbb");
    assert_eq!(open(bench.other).1, 'a', "the other listener's has the same name");
    assert!(is_alive(&mut first.0));
    assert_eq!(bench.shown("api/a"), ("drain".into(), "0 of 1".into()));

    bench.reload();
    assert_eq!(bench.shown("api/a"), ("drain".into(), "0 of 1".into()));
    assert_eq!(served_by(bench.at, 4), "bbbb");
    assert!(is_alive(&mut first.0) && is_alive(&mut second.0));

    bench.does("api/a ready");
    assert_eq!(bench.shown("api/a").0, "ready");
    assert_eq!(served_by(bench.at, 4), "aabb");
}

#[test]
fn maintenance_resets_the_open_sessions() {
    let bench = Bench::start();
    let mut open: Vec<_> = (0..2).map(|_| open(bench.at)).collect();
    bench.does("b maint");
    for (session, letter) in &mut open {
        match letter {
            'a' => assert!(is_alive(session)),
            // A write would take the error away from the read.
            _ => assert_eq!(session.read_exact(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionReset),
        }
    }
    assert_eq!(served_by(bench.at, 4), "aaaa");
    assert_eq!(bench.shown("b").0, "maint");
    bench.does("b ready");
    assert_eq!(served_by(bench.at, 4), "aabb");
}

#[test]
fn a_weight_is_a_share_of_new_sessions() {
    let bench = Bench::start();
    bench.does("b weight 3");
    assert_eq!(bench.shown("b"), ("ready".into(), "3".into()));
    assert_eq!(served_by(bench.at, 8), "aabbbbbb");
    bench.does("b weight 0");
    assert_eq!(served_by(bench.at, 4), "aaaa");
}

#[test]
fn what_cannot_be_done_is_said_and_does_nothing() {
    let bench = Bench::start();
    for (words, code, why) in [
        ("a drain", 1, "other/a"),
        ("c drain", 1, "c"),
        ("api/a weight", 2, "0 to 65535"),
        ("api/a drain 7", 2, "Only `weight` takes a number"),
        ("api/a weight 70000", 2, "70000"),
        ("api/a stop", 2, "stop"),
    ] {
        let (got, said, complaint) = bench.type_in(words);
        assert_eq!((got, said.as_str()), (Some(code), ""), "{words}: {complaint}");
        assert!(complaint.contains(why), "{words}: {complaint}");
    }
    let table = bench.does("");
    assert_eq!(table.lines().count(), 4, "{table}");
    assert_eq!(served_by(bench.at, 4), "aabb");

    let Bench { place, daemon, .. } = bench;
    drop(daemon);
    let output = place.vipd(&["backend", "b", "drain"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "nobody is there");
}
