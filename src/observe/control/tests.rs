//! Both ends over a real Unix socket.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::SystemTime;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::*;
use crate::observe::client::{self, ClientError};
use crate::observe::event::{Event, Kind};
use crate::observe::sample;

#[derive(Default)]
struct Daemon {
    reloads: AtomicU32,
    broken: bool,
}

impl ControlHandler for Daemon {
    fn status(&self) -> BoxFuture<'_, Result<Status, String>> {
        let status = if self.broken { Err("the engine is gone".to_owned()) } else { Ok(sample::status()) };
        Box::pin(async { status })
    }

    fn reload(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async {
            match self.reloads.fetch_add(1, Ordering::Relaxed) {
                0 => Ok("reloaded, 1 instance changed".to_owned()),
                _ => Err("/etc/vipd/vipd.toml:3:1: unknown key `intreface`".to_owned()),
            }
        })
    }

    fn plan(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async {
            Ok(format!("nothing changes, after {} reloads", self.reloads.load(Ordering::Relaxed)))
        })
    }

    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'_, Result<Vec<SessionStatus>, String>> {
        Box::pin(async move {
            Ok(vec![SessionStatus {
                listener: filter.listener.ok_or("which?")?,
                backend: filter.backend,
                client: None,
                local: None,
                age: Duration::from_secs(1),
                idle: Duration::ZERO,
                bytes_in: 1,
                bytes_out: 2,
            }])
        })
    }

    fn close_sessions(&self, filter: SessionFilter) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move { Ok(format!("{filter:?}")) })
    }

    fn order(&self, backend: String, order: Order) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async move {
            match backend.as_str() {
                "api/cp 1" => Ok(format!("{order:?}")),
                _ => Err(format!("there is no backend {backend}")),
            }
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<String, String>> {
        Box::pin(async { Ok("stopping".to_owned()) })
    }
}

struct Bench {
    directory: TempDir,
    socket: PathBuf,
    history: Arc<History>,
    control: Control,
}

impl Bench {
    fn new(daemon: Daemon) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("made/on/the/way/control.sock");
        let history = Arc::new(History::new(100));
        let any = Some("127.0.0.1:0".parse().unwrap());
        let addresses = Addresses { metrics: any, web: any };
        let control = Control::start(&socket, addresses, Arc::new(daemon), history.clone()).unwrap();
        Self { directory, socket, history, control }
    }

    fn record(&self, text: &str) {
        self.history.record(Event { at: SystemTime::now(), kind: Kind::Notice { text: text.into() } });
    }

    async fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nhost: vipd\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

fn texts(recorded: &[crate::observe::history::Recorded]) -> Vec<&str> {
    let text = |r: &'_ crate::observe::history::Recorded| match &r.event.kind {
        Kind::Notice { text } => text.as_str().to_owned().leak() as &str,
        other => panic!("{other:?}"),
    };
    recorded.iter().map(text).collect()
}

#[tokio::test]
async fn the_status_comes_through_whole() {
    let bench = Bench::new(Daemon::default());
    assert_eq!(client::get_status(&bench.socket).await.unwrap(), sample::status());
}

#[tokio::test]
async fn a_status_that_cannot_be_had_is_an_error_with_help() {
    let bench = Bench::new(Daemon { broken: true, ..Daemon::default() });
    let error = client::get_status(&bench.socket).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the engine is gone; ask again; if it stays so, look into the log of the daemon"
    );
    assert!(bench.raw("GET /v1/status").await.starts_with("HTTP/1.1 503 "));
}

#[tokio::test]
async fn events_are_given_after_a_number() {
    let bench = Bench::new(Daemon::default());
    for text in ["one", "two", "three"] {
        bench.record(text);
    }
    let events = client::get_events(&bench.socket, 1).await.unwrap();
    assert_eq!(texts(&events), ["two", "three"]);
    assert_eq!(events[0].number, 2);
}

#[tokio::test]
async fn a_follower_gets_old_and_new_events_and_the_end() {
    let bench = Bench::new(Daemon::default());
    bench.record("before");
    let mut events = client::follow_events(&bench.socket, 0).await.unwrap();
    assert_eq!(texts(&[events.next().await.unwrap().unwrap()]), ["before"]);
    bench.record("during");
    assert_eq!(texts(&[events.next().await.unwrap().unwrap()]), ["during"]);
    let Bench { control, directory: _directory, .. } = bench;
    let (_, end) = tokio::join!(control.stop(), events.next());
    assert_eq!(end.unwrap(), None);
}

#[tokio::test]
async fn a_plan_is_asked_for_without_a_reload() {
    let bench = Bench::new(Daemon::default());
    assert_eq!(client::plan(&bench.socket).await.unwrap(), "nothing changes, after 0 reloads");
    assert_eq!(client::plan(&bench.socket).await.unwrap(), "nothing changes, after 0 reloads");
}

#[tokio::test]
async fn reload_and_stop_reach_the_daemon_and_its_refusal_comes_back() {
    let bench = Bench::new(Daemon::default());
    assert_eq!(client::reload(&bench.socket).await.unwrap(), "reloaded, 1 instance changed");
    let ClientError::Refused(problem) = client::reload(&bench.socket).await.unwrap_err() else { panic!() };
    assert_eq!(problem.error, "/etc/vipd/vipd.toml:3:1: unknown key `intreface`");
    assert!(problem.help.contains("vipd check"), "{problem:?}");
    assert_eq!(client::stop(&bench.socket).await.unwrap(), "stopping");
}

#[tokio::test]
async fn sessions_are_asked_for_and_closed_by_conditions_of_any_spelling() {
    let bench = Bench::new(Daemon::default());
    let filter = SessionFilter {
        listener: Some("api & söhne=1?".into()),
        backend: None,
        client: Some("[2001:db8::7]:40000".into()),
    };
    let sessions = client::get_sessions(&bench.socket, &filter).await.unwrap();
    assert_eq!((sessions[0].listener.as_str(), &sessions[0].backend), ("api & söhne=1?", &None));
    assert_eq!(client::close_sessions(&bench.socket, &filter).await.unwrap(), format!("{filter:?}"));
    let refused = client::get_sessions(&bench.socket, &SessionFilter::default()).await.unwrap_err();
    assert!(refused.to_string().starts_with("which?; listener= and"), "{refused}");
    let odd = bench.raw("GET /v1/sessions?lisener=api").await;
    assert!(odd.starts_with("HTTP/1.1 400 ") && odd.contains("lisener"), "{odd}");
}

#[tokio::test]
async fn a_strange_page_in_a_browser_changes_nothing() {
    let bench = Bench::new(Daemon::default());
    for (headers, code) in [
        ("origin: http://evil.example\r\nhost: localhost:9280", "403"),
        // Its name was made to point here.
        ("origin: http://evil.example:9280\r\nhost: evil.example:9280", "403"),
        ("origin: null\r\nhost: localhost:9280", "403"),
        ("origin: http://localhost:9280\r\nhost: localhost:9280", "200"),
        ("host: vipd", "200"),
    ] {
        let mut stream = UnixStream::connect(&bench.socket).await.unwrap();
        let request = format!("POST /v1/stop HTTP/1.1\r\n{headers}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{headers}: {answer}");
    }
}

#[tokio::test]
async fn the_page_is_on_the_socket_and_alone_on_its_address() {
    let bench = Bench::new(Daemon::default());
    let on_socket = bench.raw("GET /").await;
    assert!(on_socket.starts_with("HTTP/1.1 200 ") && on_socket.contains("<h1>"), "{on_socket}");
    let address = bench.control.web_address().unwrap();
    for (path, code) in [("/", "200"), ("/v1/status", "404"), ("/v1/sessions", "404"), ("/metrics", "404")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_is_not_there_is_refused_with_help() {
    let bench = Bench::new(Daemon::default());
    for (request, code, error) in [
        ("GET /v2/status", "404", "there is no /v2/status"),
        ("GET /v1/reload", "405", "/v1/reload does not take GET"),
        ("POST /v1/status", "405", "/v1/status does not take POST"),
        ("GET /v1/events?since=yesterday", "400", "since"),
        ("GET /v1/events?sice=1", "400", "sice"),
    ] {
        let answer = bench.raw(request).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{request}: {answer}");
        let body = answer.split_once("\r\n\r\n").unwrap().1;
        let problem: Problem = serde_json::from_str(body).unwrap_or_else(|_| panic!("{request}: {body}"));
        assert!(problem.error.contains(error) && !problem.help.is_empty(), "{request}: {problem:?}");
    }
    assert!(bench.raw("GET /healthz").await.ends_with("\r\n\r\nok\n"));
}

#[tokio::test]
async fn metrics_are_on_the_socket_and_alone_on_their_address() {
    let bench = Bench::new(Daemon::default());
    let text = client::get_metrics(&bench.socket).await.unwrap();
    assert_eq!(text, metrics::encode(&sample::status()));
    let address = bench.control.metrics_address().unwrap();
    for (path, code) in [("/metrics", "200"), ("/v1/status", "404"), ("/v1/stop", "404")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{path}: {answer}");
        if code == "200" {
            let (head, body) = answer.split_once("\r\n\r\n").unwrap();
            assert!(head.contains("content-type: application/openmetrics-text"), "{head}");
            assert_eq!(body, text);
        }
    }
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_goes_with_the_daemon() {
    let bench = Bench::new(Daemon::default());
    assert_eq!(fs::symlink_metadata(&bench.socket).unwrap().mode() & 0o7777, 0o660);
    bench.control.stop().await;
    assert!(!bench.socket.exists());
    let error = client::get_status(&bench.socket).await.unwrap_err();
    assert!(matches!(error, ClientError::NoSocket(_)));
    assert!(error.to_string().contains("is vipd running?"), "{error}");
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_keeps_its_socket() {
    let bench = Bench::new(Daemon::default());
    let second = Control::start(
        &bench.socket,
        Addresses::default(),
        Arc::new(Daemon::default()),
        Arc::new(History::default()),
    );
    let wanted = format!("another vipd answers on {}, pid {}: ", bench.socket.display(), std::process::id());
    let error = second.unwrap_err().to_string();
    assert!(error.starts_with(&wanted), "{error}");
    assert!(client::get_status(&bench.socket).await.is_ok());
}

#[tokio::test]
async fn a_socket_that_was_left_behind_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = client::get_status(&socket).await.unwrap_err();
    assert!(matches!(error, ClientError::NobodyAnswers(_)), "{error}");
    let daemon = Arc::new(Daemon::default());
    let control =
        Control::start(&socket, Addresses::default(), daemon, Arc::new(History::default())).unwrap();
    assert!(client::get_status(&socket).await.is_ok());
    drop(control);
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_file_in_the_place_of_the_socket_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    fs::write(&socket, "precious").unwrap();
    let daemon = Arc::new(Daemon::default());
    let error =
        Control::start(&socket, Addresses::default(), daemon, Arc::new(History::default())).unwrap_err();
    assert!(matches!(error, ControlError::NoSocket(_)), "{error}");
    assert_eq!(fs::read_to_string(&socket).unwrap(), "precious");
}

#[tokio::test]
async fn a_metrics_address_in_use_is_refused_and_the_socket_is_not_left() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    let address = taken.local_addr().unwrap();
    let daemon = Arc::new(Daemon::default());
    let error = Control::start(
        &socket,
        Addresses { metrics: Some(address), web: None },
        daemon,
        Arc::new(History::default()),
    )
    .unwrap_err();
    let wanted = format!("cannot serve metrics on {address}: Address already in use");
    assert!(error.to_string().starts_with(&wanted), "{error}");
    assert!(!socket.exists());
}

#[tokio::test]
async fn an_order_reaches_the_backend_and_an_odd_one_is_refused() {
    let bench = Bench::new(Daemon::default());
    for order in [Order::Ready, Order::Drain, Order::Maint, Order::Weight(0), Order::Weight(65535)] {
        let said = client::order(&bench.socket, "api/cp 1", order).await.unwrap();
        assert_eq!(said, format!("{order:?}"));
    }
    let refused = client::order(&bench.socket, "cp9", Order::Drain).await.unwrap_err().to_string();
    assert!(refused.contains("there is no backend cp9"), "{refused}");
    for odd in
        ["name=a", "name=a&order=stop", "name=a&weight=65536", "name=a&order=drain&weight=1", "order=drain"]
    {
        let answer = bench.raw(&format!("POST /v1/backend?{odd}")).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{odd}: {answer}");
    }
}
