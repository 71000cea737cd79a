//! The page over real sockets, and what strangers can do to it.

use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use super::*;
use crate::observe::control::ControlHandler;
use crate::observe::event::{Event, Health, Kind, State};
use crate::observe::history::History;
use crate::observe::sample;
use crate::observe::status::{SessionFilter, SessionStatus};

/// Long enough for a busy machine.
const SOON: Duration = Duration::from_secs(10);

struct Daemon {
    status: Mutex<Result<Status, String>>,
    asked: AtomicUsize,
}

impl ControlHandler for Daemon {
    fn status(&self) -> BoxFuture<'_, Result<Status, String>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let status = self.status.lock().unwrap().clone();
        Box::pin(async { status })
    }
    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { panic!("a page changes nothing") })
    }
    fn plan(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { panic!("a page changes nothing") })
    }
    fn sessions(&self, _: SessionFilter) -> BoxFuture<'_, Result<Vec<SessionStatus>, String>> {
        Box::pin(async { panic!("the page does not ask for them") })
    }
    fn order(
        &self,
        _backend: String,
        _order: crate::forward::orders::Order,
    ) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { Err("the page asks for nothing".to_owned()) })
    }

    fn close_sessions(&self, _: SessionFilter) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { panic!("a page changes nothing") })
    }
    fn stop(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { panic!("a page changes nothing") })
    }
}

struct Bench {
    daemon: Arc<Daemon>,
    live: Arc<Live>,
    history: Arc<History>,
    address: SocketAddr,
    stop: watch::Sender<bool>,
}

impl Bench {
    fn with(limits: Connections) -> Self {
        let daemon =
            Arc::new(Daemon { status: Mutex::new(Ok(sample::status())), asked: AtomicUsize::new(0) });
        let history = Arc::new(History::default());
        let live = Live::new(daemon.clone(), history.clone());
        let (stop, stopping) = watch::channel(false);
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, on_tcp(live.clone(), stopping.clone()), limits, stopping));
        Self { daemon, live, history, address, stop }
    }

    fn new() -> Self {
        Self::with(Connections::default())
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        change(self.daemon.status.lock().unwrap().as_mut().unwrap());
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Head and body of the answer.
    async fn ask(&self, request: &str, headers: &str) -> (String, String) {
        let mut stream = self.connect().await;
        let host = if headers.to_lowercase().contains("host:") { "" } else { "host: 127.0.0.1\r\n" };
        let request = format!("{request} HTTP/1.1\r\n{host}connection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(SOON, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_owned(), body.to_owned())
    }

    async fn page(&self) -> String {
        let (head, body) = self.ask("GET /", "").await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        body
    }

    async fn follow(&self) -> Events {
        let mut stream = BufReader::new(self.connect().await);
        stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut events = Events(stream);
        let head = events.line().await;
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        events
    }
}

/// Server-Sent Events out of a chunked body: its chunk sizes are lines that are no field.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(SOON, self.0.read_line(&mut line)).await.expect("an event comes").unwrap();
        line
    }

    /// The data of the next event of this name.
    async fn next(&mut self, name: &str) -> String {
        loop {
            if self.line().await.trim_end() == format!("event: {name}") {
                loop {
                    if let Some(data) = self.line().await.strip_prefix("data: ") {
                        return data.trim_end().to_owned();
                    }
                }
            }
        }
    }
}

#[tokio::test]
async fn the_page_says_who_holds_the_addresses_and_what_is_wrong_and_why() {
    let page = Bench::new().page().await;
    for wanted in [
        "<title>to look at, active 1 of 2 – lb1 – vipd</title>",
        "<h1>Works, but look at this</h1>",
        "api serves with 1 of 2 backends: cp2 down since 42 s: connect refused",
        "<dt>10.0.0.100/32</dt><dd><span class=\"badge good\">this host (lb1)</span>",
        "<dt>10.0.0.101/32 10.0.0.102/32</dt><dd><span class=\"badge plain\">10.0.0.2, priority 101</span>",
        "backup: 10.0.0.2 advertises priority 101, ours is 99 = 101 - 2 (check apiserver failed 3 of 3: connect refused)",
        "cp2 <code>10.0.0.12:6443</code>",
        "connect refused (1.2 ms, succeeded 1 of 2)",
        "p50 0.25 ms, p99 4.0 ms; 2 failed",
    ] {
        assert!(page.contains(wanted), "{wanted} is missing in {page}");
    }
}

#[tokio::test]
async fn trouble_comes_first_and_worst_first() {
    let bench = Bench::new();
    bench.change(|status| {
        status.instances[0].addresses[0].present = false;
        status.listeners[0].refuses = true;
        status.listeners[0].why = "api refuses: cp1 down since 3 s: connect refused".into();
    });
    let page = bench.page().await;
    let at = |text: &str| page.find(text).unwrap_or_else(|| panic!("{text} is missing in {page}"));
    assert!(page.contains("<title>TROUBLE, active 1 of 2"));
    assert!(at("VI_1: 10.0.0.100/32 is not on eth0") < at("api refuses: cp1 down"), "as they are configured");
    assert!(
        at("api refuses: cp1 down") < at("check apiserver takes 2 off its priority"),
        "bad before doubtful"
    );
}

#[tokio::test]
async fn what_a_check_answers_is_shown_and_not_run() {
    let bench = Bench::new();
    let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>\n</main>";
    bench.change(|status| {
        status.router_id = evil.into();
        status.listeners[0].name = evil.into();
        status.listeners[0].backends[0].name = evil.into();
        status.listeners[0].backends[0].detail = evil.into();
        status.checks[0].detail = evil.into();
        status.instances[0].why = evil.into();
    });
    bench.history.record(Event { at: sample::now(), kind: Kind::Notice { text: evil.into() } });
    let page = bench.page().await;
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#39;&gt;&lt;img src=x"), "{page}");
    assert_eq!(page.matches("<script").count(), 1, "only the page's own: {page}");
    assert!(!page.contains("<img"), "{page}");
    assert_eq!(page.matches("</main>").count(), 1);
}

#[tokio::test]
async fn every_answer_forbids_what_the_page_does_not_need() {
    let bench = Bench::new();
    for (path, code, cache) in [
        ("/", "200", "no-store"),
        ("/page.css", "200", "no-cache"),
        ("/page.js", "200", "no-cache"),
        ("/icon.svg", "200", "no-cache"),
        ("/v1/status", "404", "no-store"),
        ("/metrics", "404", "no-store"),
    ] {
        let (head, _) = bench.ask(&format!("GET {path}"), "").await;
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {head}");
        for wanted in [
            "content-security-policy: default-src 'none'; style-src 'self'; script-src 'self'",
            "x-content-type-options: nosniff",
            "x-frame-options: DENY",
            "referrer-policy: no-referrer",
            &format!("cache-control: {cache}"),
        ] {
            assert!(head.contains(wanted), "{path}: {wanted} is missing in {head}");
        }
        assert!(!head.contains("set-cookie") && !head.contains("access-control"), "{path}: {head}");
    }
}

#[tokio::test]
async fn it_is_for_reading_under_a_name_of_this_host() {
    let bench = Bench::new();
    for request in ["POST /", "PUT /", "DELETE /", "POST /live", "OPTIONS /"] {
        let (head, _) = bench.ask(request, "content-length: 0\r\n").await;
        assert!(head.starts_with("HTTP/1.1 405 "), "{request}: {head}");
    }
    let (head, _) = bench.ask("POST /v1/stop", "content-length: 0\r\n").await;
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    let (head, body) = bench.ask("HEAD /", "").await;
    assert!(head.starts_with("HTTP/1.1 200 ") && body.is_empty(), "{head}\n{body}");
    for (host, code) in [
        ("127.0.0.1:8080", "200"),
        ("[::1]:8080", "200"),
        ("localhost", "200"),
        ("LocalHost:80", "200"),
        ("evil.example", "421"),
        ("127.0.0.1.evil.example:80", "421"),
        ("localhost.evil.example", "421"),
        ("", "421"),
    ] {
        let (head, _) = bench.ask("GET /", &format!("host: {host}\r\n")).await;
        assert!(head.starts_with(&format!("HTTP/1.1 {code} ")), "{host}: {head}");
    }
}

#[tokio::test]
async fn what_stays_the_same_is_not_sent_again() {
    let bench = Bench::new();
    let (head, body) = bench.ask("GET /page.css", "").await;
    assert!(body.contains("prefers-color-scheme"));
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let (head, body) = bench.ask("GET /page.css", &format!("if-none-match: \"other\", {tag}\r\n")).await;
    assert!(head.starts_with("HTTP/1.1 304 ") && body.is_empty(), "{head}");
    let (head, _) = bench.ask("GET /page.css", "if-none-match: \"other\"\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
}

#[tokio::test]
async fn a_follower_gets_the_page_and_then_only_what_changes() {
    let bench = Bench::new();
    let mut events = bench.follow().await;
    let whole = events.next("whole").await;
    assert!(whole.contains("<h2>Instances</h2>") && whole.contains("cp1"), "{whole}");
    bench.change(|status| {
        status.listeners[0].backends[0].health = Health::Down;
        status.listeners[0].backends[0].detail = "no route\nto host".into();
        status.listeners[0].refuses = true;
        status.listeners[0].why = "api refuses: all down".into();
    });
    bench.history.record(Event { at: sample::now(), kind: Kind::Notice { text: "look again".into() } });
    assert!(events.next("title").await.starts_with("TROUBLE"));
    let parts = events.next("parts").await;
    assert!(parts.contains("no route&#10;to host") && parts.contains("<h1>Trouble</h1>"), "{parts}");
    assert!(parts.contains("look again"), "{parts}");
    assert!(!parts.contains("<h3>VI_1</h3>"), "the instances are as they were: {parts}");
    bench.change(|status| {
        status.instances.pop();
    });
    let whole = events.next("whole").await;
    assert!(!whole.contains("VI_2"), "another shape is another page: {whole}");
    *bench.daemon.status.lock().unwrap() = Err("the engine is\ngone".into());
    assert_eq!(events.next("trouble").await, "the engine is gone");
    bench.stop.send_replace(true);
    let mut rest = Vec::new();
    timeout(SOON, events.0.read_to_end(&mut rest)).await.expect("the end comes").unwrap();
}

#[tokio::test]
async fn the_daemon_is_asked_seldom_for_all_and_never_for_nobody() {
    let bench = Bench::new();
    for _ in 0..20 {
        bench.page().await;
    }
    let started = Instant::now();
    let mut followers = Vec::new();
    for _ in 0..10 {
        followers.push(bench.follow().await);
    }
    for follower in &mut followers {
        follower.next("whole").await;
    }
    let limit = 20 + started.elapsed().as_millis() as usize / 250 + 2;
    let asked = bench.daemon.asked.load(Ordering::Relaxed);
    assert!(asked < limit.min(20), "{asked} times for 30 looks");
    drop(followers);
    // Whoever still looks at the daemon by itself does so within a second.
    let deadline = Instant::now() + SOON;
    loop {
        let before = bench.daemon.asked.load(Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(2500)).await;
        if bench.daemon.asked.load(Ordering::Relaxed) == before {
            break;
        }
        assert!(Instant::now() < deadline, "nobody looks, and the daemon is still asked");
    }
    assert!(bench.live.is_forgotten().await, "a picture that nobody looks at takes memory");
}

#[tokio::test]
async fn followers_are_bounded_and_others_can_still_read() {
    let bench = Bench::new();
    let mut followers = Vec::new();
    for _ in 0..live::FOLLOWERS {
        followers.push(bench.follow().await);
    }
    let (head, _) = bench.ask("GET /live", "").await;
    assert!(head.starts_with("HTTP/1.1 503 ") && head.contains("retry-after: 30"), "{head}");
    bench.page().await;
    followers.pop();
    let deadline = Instant::now() + SOON;
    loop {
        let mut stream = bench.connect().await;
        stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut head = [0; 12];
        timeout(SOON, stream.read_exact(&mut head)).await.unwrap().unwrap();
        if &head == b"HTTP/1.1 200" {
            break;
        }
        assert!(Instant::now() < deadline, "a place is never given back");
    }
}

#[tokio::test]
async fn who_is_slow_or_silent_or_one_too_many_is_let_go() {
    let limits = Connections {
        most: 3,
        head_within: Duration::from_millis(300),
        lifetime: Duration::from_millis(1500),
    };
    let bench = Bench::with(limits);
    let mut silent = bench.connect().await;
    let mut slow = bench.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: loc").await.unwrap();
    let mut old = bench.follow().await;
    let mut fourth = bench.connect().await;
    for (who, stream) in [("one too many", &mut fourth), ("silent", &mut silent), ("slow", &mut slow)] {
        let mut rest = Vec::new();
        let end = timeout(SOON, stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{who} is kept");
    }
    let mut rest = Vec::new();
    let end = timeout(SOON, old.0.read_to_end(&mut rest)).await;
    assert!(end.is_ok(), "one that follows for too long is to come again");
    bench.page().await;
    let long = format!("x: {}\r\n", "y".repeat(20_000));
    let (head, _) = bench.ask("GET /", &long).await;
    assert!(head.starts_with("HTTP/1.1 431 "), "{head}");
}

#[tokio::test]
async fn a_daemon_that_gives_no_status_says_so() {
    let bench = Bench::new();
    *bench.daemon.status.lock().unwrap() = Err("the engine is gone".into());
    let (head, body) = bench.ask("GET /", "").await;
    assert!(
        head.starts_with("HTTP/1.1 503 ")
            && body.starts_with("the engine is gone; ask again")
            && head.contains("refresh: 2"),
        "{head}{body}"
    );
}

#[test]
fn many_instances_are_counted_and_a_fault_is_named() {
    let mut status = sample::status();
    for number in 3..=1000 {
        let name = format!("VI_{number}");
        status.instances.push(sample::instance(&name));
    }
    status.instances[500].state = State::Fault;
    status.instances[500].why = "fault: interface eth7 is down".into();
    let picture = Picture::new(&status, &[], sample::now());
    let whole = picture.whole();
    assert!(whole.contains("998 active") && whole.contains("1 backup") && whole.contains("1 fault"));
    let first = whole.find("interface eth7 is down").unwrap();
    assert!(first < whole.find("<h2>Instances</h2>").unwrap());
    assert!(whole.len() < 1_000_000, "{} bytes for 1000 instances", whole.len());
}
