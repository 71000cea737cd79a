//! Pages as curl and as hostile clients see them.

use std::process::Command;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::forward::tests::bench::{self, soon};

struct Bench {
    pages: Pages,
    listeners: Arc<Mutex<Vec<ListenerStatus>>>,
    ask: Ask,
}

fn page(listeners: &[&str], least: u32) -> HealthPage {
    let listeners = listeners.iter().map(|name| (*name).to_owned()).collect();
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    HealthPage { bind: free, path: "/healthz".into(), listeners, least, place: bench::place(5) }
}

fn api(health: &[Health]) -> ListenerStatus {
    let backend = |(number, health): (usize, &Health)| BackendStatus {
        health: *health,
        ..BackendStatus::new(number.to_string(), ([127, 0, 0, 1], 1).into())
    };
    ListenerStatus {
        name: "api".into(),
        backends: health.iter().enumerate().map(backend).collect(),
        ..ListenerStatus::default()
    }
}

impl Bench {
    fn start(page: HealthPage) -> Self {
        let listeners = Arc::<Mutex<Vec<ListenerStatus>>>::default();
        let told = listeners.clone();
        let ask: Ask = Arc::new(move || {
            let listeners = told.lock().unwrap().clone();
            async { listeners }.boxed()
        });
        let mut pages = Pages::default();
        let bound = pages.bind(&[page]).unwrap();
        pages.serve(bound, &ask);
        Self { pages, listeners, ask }
    }

    fn at(&self) -> SocketAddr {
        self.pages.0[0].config.bind
    }

    /// What curl prints, and the status.
    async fn curl(&self, path: &str, options: &[&str]) -> (String, u16) {
        let url = format!("http://{}{path}", self.at());
        let mut command = Command::new("curl");
        command.args(["-s", "-m", "10", "-w", "\n%{http_code}"]).args(options).arg(url);
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (body.to_owned(), status.parse().unwrap())
    }
}

#[tokio::test]
async fn a_page_says_whether_listeners_have_enough_healthy_backends() {
    let bench = Bench::start(page(&["api"], 2));
    let says = async |health: &[Health]| {
        *bench.listeners.lock().unwrap() = vec![api(health)];
        bench.curl("/healthz", &[]).await
    };
    let (up, down, unknown) = (Health::Up, Health::Down, Health::Unknown);
    assert_eq!(says(&[up, up, down]).await, ("ok: api has 2 of 3 backends healthy\n".into(), 200));
    assert_eq!(says(&[up, down, unknown]).await, ("api has 1 of 3 backends healthy, needs 2\n".into(), 503));
    assert_eq!(says(&[]).await, ("api has 0 of 0 backends healthy, needs 2\n".into(), 503));
    bench.listeners.lock().unwrap().clear();
    assert_eq!(bench.curl("/healthz", &[]).await, ("listener api does not run\n".into(), 503));
    let status = bench.pages.status(&[api(&[up, up])]).remove(0);
    assert!(status.healthy);
    assert_eq!((status.served_healthy, status.served_unhealthy), (1, 3));
}

#[tokio::test]
async fn a_page_without_listeners_says_that_the_daemon_runs() {
    let bench = Bench::start(page(&[], 1));
    assert_eq!(bench.curl("/healthz", &[]).await, ("ok: vipd runs\n".into(), 200));
    assert_eq!(bench.curl("/healthz?verbose", &[]).await.1, 200);
    assert_eq!(bench.curl("/", &[]).await, ("there is /healthz alone\n".into(), 404));
    assert_eq!(bench.curl("/healthz", &["-d", "x"]).await.1, 405);
    let (head, status) = bench.curl("/healthz", &["-I"]).await;
    assert_eq!(status, 200);
    assert!(head.contains("content-length: 14") && !head.contains("ok:"), "{head}");
    // Two requests, one connection.
    let url = format!("http://{}/healthz", bench.at());
    let (both, _) = bench.curl("/healthz", &["-w", "%{num_connects}\n200", &url]).await;
    assert!(both.contains("ok: vipd runs\n1\n200ok: vipd runs\n0"), "{both}");
}

#[tokio::test]
async fn who_holds_connections_open_keeps_nobody_from_an_answer() {
    let bench = Bench::start(page(&[], 1));
    let mut held = Vec::new();
    for number in 0..2 * MOST_CONNECTIONS {
        let mut stream = TcpStream::connect(bench.at()).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
        }
        held.push(stream);
    }
    assert_eq!(bench.curl("/healthz", &[]).await.1, 200);
    // The first ones had to go for it.
    let mut first = held.swap_remove(0);
    let ended = soon("the oldest is closed", first.read_to_end(&mut Vec::new())).await;
    assert!(ended.is_err() || ended.is_ok_and(|read| read == 0));
}

#[tokio::test]
async fn slow_and_oversized_requests_are_closed() {
    let bench = Bench::start(page(&[], 1));
    let mut slow = TcpStream::connect(bench.at()).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").await.unwrap();
    let mut large = TcpStream::connect(bench.at()).await.unwrap();
    let head = [&b"GET /healthz HTTP/1.1\r\nx: "[..], &vec![b'x'; 100_000]].concat();
    let _ = large.write_all(&head).await;
    let mut answer = Vec::new();
    let _ = soon("the large one is closed", large.read_to_end(&mut answer)).await;
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", answer.escape_ascii());
    let _ = soon("the slow one is closed", slow.read_to_end(&mut Vec::new())).await;
}

#[tokio::test]
async fn another_configuration_keeps_what_is_the_same_and_changes_the_rest() {
    let mut bench = Bench::start(page(&[], 1));
    let same = bench.pages.0[0].config.clone();
    bench.curl("/healthz", &[]).await;
    let bound = bench.pages.bind(std::slice::from_ref(&same)).unwrap();
    bench.pages.serve(bound, &bench.ask);
    assert_eq!(bench.pages.status(&[])[0].served_healthy, 1, "it is the same");
    let other = HealthPage { path: "/live".into(), ..same.clone() };
    let bound = bench.pages.bind(&[other]).unwrap();
    bench.pages.serve(bound, &bench.ask);
    assert_eq!(bench.curl("/live", &[]).await.1, 200);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let refused = HealthPage { bind: taken.local_addr().unwrap(), ..same };
    let error = bench.pages.bind(&[refused]).unwrap_err().to_string();
    assert!(error.starts_with("vipd.toml:5:1: health_page cannot listen on 127.0.0.1:"), "{error}");
    assert_eq!(bench.curl("/live", &[]).await.1, 200);
}
