//! The control socket: HTTP over a Unix socket, answers in JSON.
//!
//! `GET /v1/status`, `GET /v1/events?since=N&follow=true`, `GET /metrics`, `GET /healthz`, `GET /v1/plan`, `POST /v1/reload`,
//! `GET /` (the web page, see [`super::web`]),
//! `POST /v1/stop`, `GET /v1/sessions?listener=&backend=&client=`, `POST /v1/sessions/close` with the same conditions, `POST /v1/backend?name=&order=&weight=`. Whoever may open the socket (mode 0660) may do all of that. An error is an object with
//! `error`, what happened, and `help`, what to do.

mod orders;
mod sessions;

use std::convert::Infallible;
use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use futures_util::future::BoxFuture;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{getsockopt, sockopt};
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::history::History;
use super::metrics;
use super::status::{SessionFilter, SessionStatus, Status};
use super::web::{self, Connections, Live};
use crate::forward::orders::Order;

/// A request waits this long for the rest of the daemon.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A reload checks files and builds rooms: it may take longer.
const RELOAD_WITHIN: Duration = Duration::from_secs(60);

/// At the end, answers that are under way get this long.
const STOP_WITHIN: Duration = Duration::from_secs(1);

/// What the daemon does when it is asked to.
pub trait ControlHandler: Send + Sync + 'static {
    /// What is now.
    fn status(&self) -> BoxFuture<'_, Result<Status, String>>;
    /// Reads the configuration again. Says what was done, or why nothing was.
    fn reload(&self) -> BoxFuture<'_, Result<String, String>>;
    /// What a reload would do, in words, or why it would be refused; does nothing.
    fn plan(&self) -> BoxFuture<'_, Result<String, String>>;
    /// The open sessions that meet the conditions.
    fn sessions(&self, filter: SessionFilter) -> BoxFuture<'_, Result<Vec<SessionStatus>, String>>;
    /// Resets them. Says what was done.
    fn close_sessions(&self, filter: SessionFilter) -> BoxFuture<'_, Result<String, String>>;
    /// Does what an operator wants of a backend. Says what that means.
    fn order(&self, backend: String, order: Order) -> BoxFuture<'_, Result<String, String>>;
    /// Something large that was made to be shown is not needed any more: its memory may go back to the kernel.
    fn is_forgotten(&self) {}
    /// Begins to stop; the answer is sent before the daemon is gone.
    fn stop(&self) -> BoxFuture<'_, Result<String, String>>;
}

/// Why the control socket or the metrics address could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// A daemon has the socket.
    #[error(
        "another vipd answers on {socket}, pid {pid}: stop it first, or give this one a socket of its own \
         ([control] socket)"
    )]
    Taken {
        /// The socket.
        socket: PathBuf,
        /// Who listens.
        pid: i32,
    },
    /// Something else is in the place of the socket.
    #[error("{0} exists and is no socket: remove it, or choose another path ([control] socket)")]
    NoSocket(PathBuf),
    /// The file system refuses.
    #[error("cannot {what} {path}: {source}; {help}")]
    Path {
        /// What was tried.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
        /// What to do.
        help: &'static str,
    },
    /// The address for the web page cannot be bound.
    #[error("cannot serve the web page on {address}: {source}; choose another address ([control] web)")]
    Web {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
    /// The address for metrics cannot be bound.
    #[error("cannot serve metrics on {address}: {source}; choose another address ([control] metrics)")]
    Metrics {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Where the socket is when the default place is not for this user: `$XDG_RUNTIME_DIR/vipd/control.sock`.
pub fn own_socket() -> Option<PathBuf> {
    let directory = PathBuf::from(std::env::var_os("XDG_RUNTIME_DIR")?);
    directory.is_absolute().then(|| directory.join("vipd/control.sock"))
}

impl ControlError {
    /// The file system does not let this user have the socket there.
    pub fn is_permission(&self) -> bool {
        let kinds = [io::ErrorKind::PermissionDenied, io::ErrorKind::ReadOnlyFilesystem];
        matches!(self, Self::Path { source, .. } if kinds.contains(&source.kind()))
    }
}

/// What the daemon says instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// What happened.
    pub error: String,
    /// What to do.
    pub help: String,
}

/// What a request that changes something answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// What was done.
    pub message: String,
}

/// The running server.
#[derive(Debug)]
pub struct Control {
    socket: PathBuf,
    metrics: Option<SocketAddr>,
    web: Option<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

#[derive(Clone)]
struct Shared {
    handler: Arc<dyn ControlHandler>,
    history: Arc<History>,
    stopping: watch::Receiver<bool>,
}

/// TCP addresses beside the control socket.
#[derive(Clone, Copy, Debug, Default)]
pub struct Addresses {
    /// For metrics alone.
    pub metrics: Option<SocketAddr>,
    /// For the web page.
    pub web: Option<SocketAddr>,
}

impl Control {
    /// Opens the socket (its directory is made, a stale one is removed) and, if asked for, addresses for metrics
    /// and for the web page.
    ///
    /// # Errors
    ///
    /// Another daemon answers there, or the path or address cannot be had.
    pub fn start(
        socket: &Path,
        addresses: Addresses,
        handler: Arc<dyn ControlHandler>,
        history: Arc<History>,
    ) -> Result<Self, ControlError> {
        let listener = open(socket)?;
        // From here on the socket is ours, and is removed when this is dropped.
        let (stop, stopping) = watch::channel(false);
        let live = Live::new(handler.clone(), history.clone());
        let shared = Shared { handler, history, stopping };
        let page = web::routes(live.clone(), shared.stopping.clone());
        let serving = axum::serve(listener, routes(shared.clone(), page));
        let mut control =
            Self { socket: socket.to_owned(), metrics: None, web: None, stop, tasks: Vec::new() };
        control.serve(serving.with_graceful_shutdown(stopped(shared.stopping.clone())).into_future());
        if let Some(address) = addresses.web {
            let listener = web::bind(address).map_err(|source| ControlError::Web { address, source })?;
            control.web = listener.local_addr().ok();
            let routes = web::on_tcp(live, shared.stopping.clone());
            control.serve(web::serve(listener, routes, Connections::default(), shared.stopping.clone()));
        }
        if let Some(address) = addresses.metrics {
            let listener = web::bind(address).map_err(|source| ControlError::Metrics { address, source })?;
            control.metrics = listener.local_addr().ok();
            let routes = axum::Router::new()
                .route("/metrics", get(serve_metrics))
                .fallback(nothing_here)
                .method_not_allowed_fallback(wrong_method)
                .with_state(shared.clone());
            control.serve(web::serve(listener, routes, Connections::default(), shared.stopping));
        }
        Ok(control)
    }

    fn serve(&mut self, serving: impl Future<Output = io::Result<()>> + Send + 'static) {
        self.tasks.push(tokio::spawn(async {
            if let Err(error) = serving.await {
                warn!(%error, "control server ended");
            }
        }));
    }

    /// Where metrics are served beside the socket.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// Where the web page is served beside the socket.
    pub fn web_address(&self) -> Option<SocketAddr> {
        self.web
    }

    /// Removes the socket and ends what is under way.
    pub async fn stop(mut self) {
        self.close();
        for mut task in self.tasks.drain(..) {
            if tokio::time::timeout(STOP_WITHIN, &mut task).await.is_err() {
                task.abort();
            }
        }
    }

    fn close(&self) {
        if self.stop.send_replace(true) {
            return;
        }
        if let Err(error) = fs::remove_file(&self.socket) {
            debug!(%error, socket = %self.socket.display(), "control socket could not be removed");
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.close();
        for task in &self.tasks {
            task.abort();
        }
    }
}

async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stopping| *stopping).await;
}

/// Binds the socket, under a lock on its directory: two daemons that start together do not take each other's
/// new socket for a stale one.
fn open(socket: &Path) -> Result<UnixListener, ControlError> {
    let problem = |what, path: &Path, help| {
        let path = path.to_owned();
        move |source| ControlError::Path { what, path, source, help }
    };
    let directory = match socket.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    let missing = !directory.exists();
    let create = problem(
        "create the directory",
        directory,
        "run as root, or choose another path (--socket, or [control] socket)",
    );
    fs::create_dir_all(directory)
        .and_then(|()| match missing {
            // keepalived's umask would take its x away.
            true => fs::set_permissions(directory, fs::Permissions::from_mode(0o755)),
            false => Ok(()),
        })
        .map_err(create)?;
    let help = "run as root, or choose another path (--socket, or [control] socket)";
    let opened = File::open(directory).map_err(problem("open the directory", directory, help))?;
    let _lock = Flock::lock(opened, FlockArg::LockExclusive)
        .map_err(|(_, errno)| problem("lock the directory", directory, help)(errno.into()))?;
    match fs::symlink_metadata(socket) {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::NoSocket(socket.to_owned()));
        }
        Ok(_) => {
            if let Ok(stream) = StdUnixStream::connect(socket) {
                let pid = getsockopt(&stream, sockopt::PeerCredentials).map_or(0, |peer| peer.pid());
                return Err(ControlError::Taken { socket: socket.to_owned(), pid });
            }
            fs::remove_file(socket).map_err(problem("remove the stale socket", socket, help))?;
        }
        Err(_) => {}
    }
    let listener = UnixListener::bind(socket).map_err(problem("listen on", socket, help))?;
    fs::set_permissions(socket, fs::Permissions::from_mode(0o660)).map_err(problem(
        "set the mode of",
        socket,
        help,
    ))?;
    Ok(listener)
}

fn routes(shared: Shared, page: axum::Router<Shared>) -> axum::Router {
    axum::Router::new()
        .route("/v1/status", get(serve_status))
        .route("/v1/events", get(serve_events))
        .route("/v1/sessions", get(sessions::list))
        .route("/v1/sessions/close", post(sessions::close))
        .route("/v1/backend", post(orders::order))
        .route("/v1/reload", post(serve_reload))
        .route("/v1/plan", get(serve_plan))
        .route("/v1/stop", post(serve_stop))
        .route("/metrics", get(serve_metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .merge(page)
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(no_strange_page))
        .with_state(shared)
}

/// A browser may be led here through a forwarded port (`ssh -L`), and then any page that it shows could have it
/// send a POST. Browsers say which page that is; programs say nothing.
async fn no_strange_page(request: Request, next: Next) -> Response {
    match strange_page(&request) {
        Some(origin) => problem(
            StatusCode::FORBIDDEN,
            format!("a page of {origin} may not change anything here"),
            "use the command line, or this daemon's own page",
        ),
        None => next.run(request).await,
    }
}

/// Who asks for a change, if it is a page that is not ours.
fn strange_page(request: &Request) -> Option<String> {
    let header = |name| request.headers().get(name).map(|value: &HeaderValue| value.to_str().unwrap_or("?"));
    let origin = header(header::ORIGIN)?;
    let host = header(header::HOST).unwrap_or_default();
    let ours = origin.strip_prefix("http://") == Some(host) && web::is_this_host(host);
    let changes = ![Method::GET, Method::HEAD].contains(request.method());
    (changes && !ours).then(|| origin.to_owned())
}

fn problem(code: StatusCode, error: impl Into<String>, help: &str) -> Response {
    (code, Json(Problem { error: error.into(), help: help.to_owned() })).into_response()
}

async fn nothing_here(uri: axum::http::Uri) -> Response {
    problem(
        StatusCode::NOT_FOUND,
        format!("there is no {}", uri.path()),
        "there are / (the web page), /v1/status, /v1/sessions, /v1/sessions/close, /v1/backend, /v1/events, /v1/plan, /v1/reload, /v1/stop, /metrics and /healthz",
    )
}

async fn wrong_method(method: axum::http::Method, uri: axum::http::Uri) -> Response {
    problem(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("{} does not take {method}", uri.path()),
        "GET reads; /v1/reload, /v1/stop, /v1/backend and /v1/sessions/close take POST",
    )
}

async fn ask_status(shared: &Shared) -> Result<Status, Response> {
    let busy = |error: String| {
        let help = "ask again; if it stays so, look into the log of the daemon";
        problem(StatusCode::SERVICE_UNAVAILABLE, error, help)
    };
    match tokio::time::timeout(ANSWER_WITHIN, shared.handler.status()).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(error)) => Err(busy(error)),
        Err(_) => Err(busy(format!("the daemon gave no status within {} s", ANSWER_WITHIN.as_secs()))),
    }
}

async fn serve_status(State(shared): State<Shared>) -> Result<Json<Status>, Response> {
    ask_status(&shared).await.map(Json)
}

async fn serve_metrics(State(shared): State<Shared>) -> Result<Response, Response> {
    let status = ask_status(&shared).await?;
    Ok(([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::encode(&status)).into_response())
}

async fn serve_reload(State(shared): State<Shared>) -> Response {
    answer_about_files(shared.handler.reload()).await
}

async fn serve_plan(State(shared): State<Shared>) -> Response {
    answer_about_files(shared.handler.plan()).await
}

async fn answer_about_files(asked: BoxFuture<'_, Result<String, String>>) -> Response {
    match tokio::time::timeout(RELOAD_WITHIN, asked).await {
        Ok(Ok(message)) => Json(Done { message }).into_response(),
        Ok(Err(error)) => problem(
            StatusCode::CONFLICT,
            error,
            "the running configuration stays; `vipd check FILE` shows the problems one by one",
        ),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the configuration was not read within {} s", RELOAD_WITHIN.as_secs()),
            "look into the log of the daemon",
        ),
    }
}

async fn serve_stop(State(shared): State<Shared>) -> Response {
    match tokio::time::timeout(ANSWER_WITHIN, shared.handler.stop()).await {
        Ok(Ok(message)) => Json(Done { message }).into_response(),
        Ok(Err(error)) => problem(StatusCode::CONFLICT, error, "send the process TERM"),
        Err(_) => problem(
            StatusCode::SERVICE_UNAVAILABLE,
            format!("the daemon did not answer within {} s", ANSWER_WITHIN.as_secs()),
            "send the process TERM",
        ),
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct EventsQuery {
    #[serde(default)]
    since: u64,
    #[serde(default)]
    follow: bool,
}

async fn serve_events(
    State(shared): State<Shared>,
    query: Result<Query<EventsQuery>, axum::extract::rejection::QueryRejection>,
) -> Response {
    let EventsQuery { since, follow } = match query {
        Ok(Query(query)) => query,
        Err(error) => {
            let help = "since= takes the number of an event, follow= takes true or false";
            return problem(StatusCode::BAD_REQUEST, error.body_text(), help);
        }
    };
    if !follow {
        return Json(shared.history.since(since)).into_response();
    }
    let (lines, body) = tokio::sync::mpsc::channel::<Result<String, Infallible>>(1);
    tokio::spawn(async move {
        let mut follower = shared.history.follow(since);
        let send = async {
            // A follower that reads slowly holds up this task alone; the history is bounded.
            while let Some(recorded) = follower.next().await {
                let Ok(mut line) = serde_json::to_string(&recorded) else { return };
                line.push('\n');
                if lines.send(Ok(line)).await.is_err() {
                    return;
                }
            }
        };
        tokio::select! {
            () = send => {}
            () = stopped(shared.stopping) => {}
            () = lines.closed() => {}
        }
    });
    let body = futures_util::stream::unfold(body, |mut body| async {
        let line = body.recv().await?;
        Some((line, body))
    });
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}

#[cfg(test)]
mod tests;
