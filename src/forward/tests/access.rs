//! The access log, line by line beside that of HAProxy 2.6 for the same conversations.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use config::ready::{AccessLog, Listener, Prefix};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

use super::bench::*;
use crate::observe::event::Health;
use crate::observe::log::ACCESS;

/// What was logged, message first. The threads of the data path have no subscriber but the process's own.
static LINES: LazyLock<Mutex<Vec<(String, String)>>> = LazyLock::new(Mutex::default);

struct Recorder;

#[derive(Default)]
struct Said {
    message: String,
    fields: String,
}

impl Visit for Said {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        match field.name() {
            "message" => self.message = format!("{value:?}"),
            name => self.fields.push_str(&format!("{name}={value:?} ")),
        }
    }
}

impl<S: tracing::Subscriber> Layer<S> for Recorder {
    fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
        if event.metadata().target() == ACCESS {
            let mut said = Said::default();
            event.record(&mut said);
            LINES.lock().unwrap_or_else(PoisonError::into_inner).push((said.message, said.fields));
        }
    }
}

fn record() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Recorder);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
}

/// The line that has this in it.
async fn line_with(words: &str) -> String {
    let find = || {
        let mut lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
        let at =
            lines.iter().position(|(message, fields)| message.contains(words) || fields.contains(words))?;
        let (message, fields) = lines.remove(at);
        Some(format!("{message} {fields}").trim().to_owned())
    };
    soon(words, async {
        loop {
            match find() {
                Some(line) => return line,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        }
    })
    .await
}

/// Port, date and what was measured are different every time.
fn alike(line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    let alike = |(at, word): (usize, &&str)| match at {
        0 => word.rsplit_once(':').map_or((*word).to_owned(), |(address, _)| format!("{address}:PORT")),
        1 => {
            let shape: String = word.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            let month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
            month.iter().fold(shape, |shape, month| shape.replace(month, "Mon"))
        }
        4 if word.contains('/') => {
            let times = word.split('/').map(|time| if time == "-1" { "-1" } else { "N" });
            times.collect::<Vec<_>>().join("/")
        }
        _ => (*word).to_owned(),
    };
    words.iter().enumerate().map(alike).collect::<Vec<_>>().join(" ")
}

struct Haproxy {
    child: Child,
    log: UdpSocket,
    _directory: tempfile::TempDir,
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Haproxy {
    async fn start(sections: &str) -> Option<Self> {
        let log = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("haproxy.cfg");
        let head = format!(
            "global\n log {} local0\ndefaults\n mode tcp\n log global\n option tcplog\n retries 0\n \
             timeout connect 300ms\n timeout client 1s\n timeout server 1s\n",
            log.local_addr().unwrap()
        );
        std::fs::write(&file, head + sections).unwrap();
        let mut command = Command::new("haproxy");
        command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin");
        command.arg("-db").arg("-f").arg(&file).stdout(Stdio::null()).stderr(Stdio::null());
        match command.spawn() {
            Ok(child) => Some(Self { child, log, _directory: directory }),
            Err(_) if std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip") => None,
            Err(error) => panic!("haproxy cannot be run ({error}); NETNS_TESTS=skip does without"),
        }
    }

    /// What it says next of a session.
    async fn line(&self, words: &str) -> String {
        let mut bytes = [0; 2000];
        loop {
            let length = soon("a line of haproxy", self.log.recv(&mut bytes)).await.unwrap();
            let text = String::from_utf8(bytes[..length].to_vec()).unwrap();
            let line = text.split_once("]: ").map_or("", |(_, line)| line).trim().to_owned();
            if line.contains(words) {
                return line;
            }
        }
    }
}

fn free() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

async fn reachable(at: SocketAddr) -> TcpStream {
    soon("haproxy listens", async {
        loop {
            match TcpStream::connect(at).await {
                Ok(stream) => return stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    })
    .await
}

#[derive(Clone, Copy, Debug)]
enum Talk {
    ClientEnds,
    BackendEnds,
    ClientResets,
    BackendResets,
    Idle,
    Besides,
}

async fn talk(talk: Talk, at: SocketAddr, socket: &TcpListener) -> Vec<TcpStream> {
    let mut client = reachable(at).await;
    let mut backend = accept(socket).await;
    client.write_all(b"hi").await.unwrap();
    soon("hi", backend.read_exact(&mut [0; 2])).await.unwrap();
    backend.write_all(b"hello").await.unwrap();
    soon("hello", client.read_exact(&mut [0; 5])).await.unwrap();
    match talk {
        Talk::ClientEnds => {
            client.shutdown().await.unwrap();
            read_out(&mut backend).await;
        }
        Talk::BackendEnds => {
            backend.shutdown().await.unwrap();
            read_out(&mut client).await;
        }
        Talk::ClientResets => {
            reset(client);
            return vec![backend];
        }
        Talk::BackendResets => {
            reset(backend);
            return vec![client];
        }
        Talk::Idle => return vec![client, backend],
        Talk::Besides => {
            // Another one is open when this one ends.
            let other = reachable(at).await;
            let kept = accept(socket).await;
            drop((client, backend));
            return vec![other, kept];
        }
    }
    Vec::new()
}

fn logged(name: &str, backends: Vec<config::ready::Backend>) -> Listener {
    let mut config = listener(backends);
    config.name = name.into();
    config.idle_timeout = Some(Duration::from_secs(1));
    config.connect_timeout = Duration::from_millis(300);
    config.policy.access_log = Some(AccessLog::Tcplog);
    config
}

#[tokio::test]
async fn lines_are_those_of_haproxy() {
    record();
    let (socket, address) = serve().await;
    let (dead, at) = (refusing().await, [(); 5].map(|()| free()));
    let full = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket2::SockRef::from(&full).listen(0).unwrap();
    let hanging = full.local_addr().unwrap();
    let mut held = Vec::new();
    for _ in 0..3 {
        let filler = tokio::net::TcpSocket::new_v4().unwrap();
        held.push(tokio::time::timeout(Duration::from_millis(50), filler.connect(hanging)).await);
    }
    let sections = format!(
        "listen ok\n bind {}\n server s1 {address}\n\
         listen dead\n bind {}\n server s1 {dead}\n\
         listen hangs\n bind {}\n server s1 {hanging}\n\
         listen none\n bind {}\n server s1 {dead} check inter 20ms fall 1\n\
         listen px\n bind {} accept-proxy\n server s1 {address}\n",
        at[0], at[1], at[2], at[3], at[4]
    );
    let Some(haproxy) = Haproxy::start(&sections).await else { return };
    drop(reachable(at[4]).await);
    haproxy.line("px/1").await;

    let compare = async |what: &str, name: &str, theirs: String| {
        let ours = line_with(&format!(" {name}")).await;
        println!("{what}\n  haproxy {theirs}\n  vipd    {ours}");
        assert_eq!(alike(&ours), alike(&theirs), "{what}");
    };

    let bench = Bench::start(logged("ok", vec![backend("s1", address)])).await;
    for kind in [
        Talk::ClientEnds,
        Talk::BackendEnds,
        Talk::ClientResets,
        Talk::BackendResets,
        Talk::Idle,
        Talk::Besides,
    ] {
        let kept = talk(kind, at[0], &socket).await;
        let theirs = haproxy.line(" ok ok/s1 ").await;
        drop(kept);
        if matches!(kind, Talk::Besides) {
            haproxy.line(" ok ok/s1 ").await;
        }
        let kept = talk(kind, bench.address(), &socket).await;
        compare(&format!("{kind:?}"), "ok ok/s1 ", theirs).await;
        drop(kept);
        if matches!(kind, Talk::Besides) {
            line_with(" ok ok/s1 ").await;
        }
    }

    for (name, to, at) in [("dead", dead, at[1]), ("hangs", hanging, at[2])] {
        let bench = Bench::start(logged(name, vec![backend("s1", to)])).await;
        let _client = reachable(at).await;
        let theirs = haproxy.line(&format!(" {name} {name}/s1 ")).await;
        // The reset may be there before the connect has returned.
        let _ours = TcpStream::connect(bench.address()).await;
        compare(name, &format!("{name} {name}/s1 "), theirs).await;
    }

    let bench = Bench::start(logged("none", vec![checked("s1", dead)])).await;
    bench.call("s1", Health::Down).await;
    let _client = reachable(at[3]).await;
    let theirs = haproxy.line(" none none/").await;
    let _ = TcpStream::connect(bench.address()).await;
    compare("none", "none none/", theirs).await;

    let mut config = logged("px", vec![backend("s1", address)]);
    config.policy.accept_proxy = vec![Prefix { address: "127.0.0.1".parse().unwrap(), length: 32 }];
    let bench = Bench::start(config).await;
    for bytes in [&b"garbage in here\r\n"[..], b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n", b""] {
        let mut client = reachable(at[4]).await;
        client.write_all(bytes).await.unwrap();
        client.shutdown().await.unwrap();
        let theirs = haproxy.line(" px/1: ").await;
        let mut client = bench.connect().await;
        client.write_all(bytes).await.unwrap();
        let _ = client.shutdown().await;
        compare("bad header", "px/1: ", theirs).await;
    }
    for at in [at[4], bench.address()] {
        let mut client = reachable(at).await;
        client.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\n").await.unwrap();
        let mut backend = accept(&socket).await;
        client.shutdown().await.unwrap();
        read_out(&mut backend).await;
    }
    compare("header", "px px/s1 ", haproxy.line(" px px/s1 ").await).await;
}

#[tokio::test]
async fn an_event_has_what_there_is_to_know_as_fields() {
    record();
    let (socket, address) = serve().await;
    let mut config = logged("fields", vec![backend("s1", address)]);
    config.policy.access_log = Some(AccessLog::Event);
    let bench = Bench::start(config).await;
    talk(Talk::ClientEnds, bench.address(), &socket).await;
    let line = line_with("listener=\"fields\"").await;
    for words in
        ["session ended", "backend=\"s1\"", "end=\"complete\"", "bytes_in=2", "bytes_out=5", "retries=0"]
    {
        assert!(line.contains(words), "{line}");
    }
    assert!(line.contains("client.addr=\"127.0.0.1:"), "{line}");
}
