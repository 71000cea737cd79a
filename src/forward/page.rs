//! Health pages: whether listeners have healthy backends, over plain HTTP/1.1, for load balancers and kubelets.
//!
//! A request costs a line of text. Connections are bounded in number and time; when there are too many the oldest
//! one is closed, so that who holds connections open keeps nobody else from an answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request, Response, StatusCode, header};
use config::ready::{HealthPage, Place};
use futures_util::future::BoxFuture;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::observe::event::Health;
use crate::observe::status::{Admin, BackendStatus, HealthPageStatus, ListenerStatus};

/// Connections at a time, of one page.
const MOST_CONNECTIONS: usize = 256;

/// For the head of a request.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// Longest head of a request, in bytes.
const LONGEST_HEAD: usize = 8 * 1024;

/// Longest life of a connection, however many requests it carries.
const LIFE: Duration = Duration::from_secs(60);

/// The daemon says within this time how its listeners are.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Pause after an accept that failed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Tells how the listeners are.
pub type Ask = Arc<dyn Fn() -> BoxFuture<'static, Vec<ListenerStatus>> + Send + Sync>;

/// A page that cannot be served.
#[derive(Debug, thiserror::Error)]
#[error(
    "{place}: health_page cannot listen on {address}: {source}; choose another address, or stop what listens there"
)]
pub struct PageError {
    place: Place,
    address: SocketAddr,
    source: io::Error,
}

/// The pages that are served.
#[derive(Debug, Default)]
pub struct Pages(Vec<Page>);

/// One of them. Dropped, it is served no longer.
#[derive(Debug)]
struct Page {
    config: HealthPage,
    counts: Arc<Counts>,
    /// What connections from now on are told.
    served: Arc<Mutex<Arc<Served>>>,
    task: JoinHandle<()>,
}

impl Drop for Page {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Counts {
    healthy: AtomicU64,
    unhealthy: AtomicU64,
}

/// Sockets of pages that are to be served.
#[derive(Debug)]
pub struct Bound(Vec<(HealthPage, Option<TcpListener>)>);

impl Pages {
    /// Binds what is not bound yet, or nothing.
    ///
    /// # Errors
    ///
    /// An address cannot be bound; everything stays as it is.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn bind(&self, pages: &[HealthPage]) -> Result<Bound, PageError> {
        let bind = |page: &HealthPage| {
            let is_there = self.0.iter().any(|one| one.config.bind == page.bind);
            let socket = if is_there { None } else { Some(listen(page.bind)) };
            let socket = socket.transpose().map_err(|source| PageError {
                place: page.place.clone(),
                address: page.bind,
                source,
            })?;
            Ok((page.clone(), socket))
        };
        pages.iter().map(bind).collect::<Result<_, _>>().map(Bound)
    }

    /// Serves these pages from now on, and no others.
    pub fn serve(&mut self, Bound(pages): Bound, ask: &Ask) {
        let mut before = std::mem::take(&mut self.0);
        for (config, socket) in pages {
            let known = before.iter().position(|one| one.config.bind == config.bind);
            match (known.map(|at| before.swap_remove(at)), socket) {
                (Some(same), _) if same.config == config => self.0.push(same),
                (Some(other), _) => self.0.push(other.with(config, ask.clone())),
                (None, Some(socket)) => self.0.push(Page::start(config, socket, ask.clone())),
                (None, None) => {}
            }
        }
    }

    /// How they are, given how the listeners are.
    pub fn status(&self, listeners: &[ListenerStatus]) -> Vec<HealthPageStatus> {
        let status = |page: &Page| {
            let judged = judge(&page.config, listeners);
            HealthPageStatus {
                bind: page.config.bind,
                path: page.config.path.clone(),
                healthy: judged.is_ok(),
                why: judged.unwrap_or_else(|why| why),
                served_healthy: page.counts.healthy.load(Ordering::Relaxed),
                served_unhealthy: page.counts.unhealthy.load(Ordering::Relaxed),
            }
        };
        self.0.iter().map(status).collect()
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    } else {
        socket.set_freebind_v4(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(128)?;
    TcpListener::from_std(socket.into())
}

impl Page {
    fn start(config: HealthPage, socket: TcpListener, ask: Ask) -> Self {
        let counts = Arc::<Counts>::default();
        let served = Arc::new(Served { config: config.clone(), counts: counts.clone(), ask });
        let served = Arc::new(Mutex::new(served));
        let task = tokio::spawn(accept(socket, served.clone()));
        Self { config, counts, served, task }
    }

    /// The same socket, another meaning.
    fn with(mut self, config: HealthPage, ask: Ask) -> Self {
        let served = Arc::new(Served { config: config.clone(), counts: self.counts.clone(), ask });
        *self.served.lock().unwrap_or_else(PoisonError::into_inner) = served;
        self.config = config;
        self
    }
}

/// What a request needs.
struct Served {
    config: HealthPage,
    counts: Arc<Counts>,
    ask: Ask,
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served").field("config", &self.config).finish_non_exhaustive()
    }
}

/// Ends with the task that runs it.
struct Connection(JoinHandle<()>);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn accept(socket: TcpListener, served: Arc<Mutex<Arc<Served>>>) {
    let mut connections = VecDeque::new();
    loop {
        let Ok((stream, _)) = socket.accept().await else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        if connections.len() >= MOST_CONNECTIONS {
            connections.retain(|Connection(task)| !task.is_finished());
        }
        if connections.len() >= MOST_CONNECTIONS {
            connections.pop_front();
        }
        let served = served.lock().unwrap_or_else(PoisonError::into_inner).clone();
        connections.push_back(Connection(tokio::spawn(talk(stream, served))));
    }
}

async fn talk(stream: TcpStream, served: Arc<Served>) {
    let service = service_fn(move |request| answer(request, served.clone()));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_WITHIN)
        .max_buf_size(LONGEST_HEAD)
        .serve_connection(TokioIo::new(stream), service);
    // What goes wrong with a client is nobody else's matter.
    let _ = tokio::time::timeout(LIFE, connection).await;
}

async fn answer(request: Request<Incoming>, served: Arc<Served>) -> Result<Response<Body>, Infallible> {
    if request.uri().path() != served.config.path {
        return Ok(text(StatusCode::NOT_FOUND, format!("there is {} alone", served.config.path)));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refusal = text(StatusCode::METHOD_NOT_ALLOWED, "GET or HEAD".to_owned());
        refusal.headers_mut().insert(header::ALLOW, header::HeaderValue::from_static("GET, HEAD"));
        return Ok(refusal);
    }
    let judged = match served.config.listeners.is_empty() {
        true => judge(&served.config, &[]),
        false => match tokio::time::timeout(ANSWER_WITHIN, (served.ask)()).await {
            Ok(listeners) => judge(&served.config, &listeners),
            Err(_) => Err(format!("no answer from the forwarder within {} s", ANSWER_WITHIN.as_secs())),
        },
    };
    Ok(match judged {
        Ok(why) => {
            served.counts.healthy.fetch_add(1, Ordering::Relaxed);
            text(StatusCode::OK, why)
        }
        Err(why) => {
            served.counts.unhealthy.fetch_add(1, Ordering::Relaxed);
            text(StatusCode::SERVICE_UNAVAILABLE, why)
        }
    })
}

fn text(status: StatusCode, line: String) -> Response<Body> {
    let mut response = Response::new(Body::from(line + "\n"));
    *response.status_mut() = status;
    let plain = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response.headers_mut().insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
    response
}

/// Whether the page says yes; and why, or why not.
fn judge(page: &HealthPage, listeners: &[ListenerStatus]) -> Result<String, String> {
    if page.listeners.is_empty() {
        return Ok("ok: vipd runs".to_owned());
    }
    let mut said = Vec::new();
    let mut lacking = Vec::new();
    for name in &page.listeners {
        let Some(listener) = listeners.iter().find(|one| one.name == *name) else {
            lacking.push(format!("listener {name} does not run"));
            continue;
        };
        let is_usable =
            |backend: &&BackendStatus| backend.health == Health::Up && backend.admin == Admin::Ready;
        let healthy = listener.backends.iter().filter(is_usable).count();
        let words = format!("{name} has {healthy} of {} backends healthy", listener.backends.len());
        if u32::try_from(healthy).unwrap_or(u32::MAX) < page.least {
            lacking.push(format!("{words}, needs {}", page.least));
        } else {
            said.push(words);
        }
    }
    if lacking.is_empty() { Ok(format!("ok: {}", said.join("; "))) } else { Err(lacking.join("; ")) }
}

#[cfg(test)]
mod tests;
