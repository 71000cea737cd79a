//! HTTP over TCP for strangers: bounded in number, in time and in memory.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tracing::{debug, warn};

/// Limits of one address.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// At the same time; more are closed at once.
    pub most: usize,
    /// For the head of a request, from the first moment on and after each answer.
    pub head_within: Duration,
    /// For all of a connection. A browser that follows comes again by itself.
    pub lifetime: Duration,
}

impl Default for Connections {
    fn default() -> Self {
        Self { most: 64, head_within: Duration::from_secs(10), lifetime: Duration::from_secs(600) }
    }
}

/// Bytes of a head; more is refused with 431.
const HEAD: usize = 16 * 1024;

/// Nobody answers for so long: the connection is given up.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// After an accept that failed: a busy loop would not give descriptors back.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens.
///
/// # Errors
/// What the kernel says.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// Serves until it is to stop. What is under way then is cut off by its owner.
pub async fn serve(
    listener: TcpListener,
    routes: Router,
    limits: Connections,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let places = Arc::new(Semaphore::new(limits.most));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopping.wait_for(|stopping| *stopping) => return Ok(()),
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                warn!(%error, "connection for the web page or the metrics not accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            debug!(most = limits.most, "too many connections for the web page or the metrics");
            continue;
        };
        let (routes, mut stopping) = (routes.clone(), stopping.clone());
        tokio::spawn(async move {
            let _place = place;
            tokio::select! {
                () = attend(stream, routes, limits) => {}
                _ = stopping.wait_for(|stopping| *stopping) => {}
            }
        });
    }
}

async fn attend(stream: TcpStream, routes: Router, limits: Connections) {
    let socket = SockRef::from(&stream);
    // Refused options cost a slot for a while, no more.
    let _ = socket.set_tcp_user_timeout(Some(USER_TIMEOUT));
    let _ = socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(USER_TIMEOUT / 2));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_within)
        .max_buf_size(HEAD)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(routes));
    match tokio::time::timeout(limits.lifetime, connection).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "connection for the web page or the metrics ended"),
        Err(_) => debug!("connection for the web page or the metrics ended: it is old"),
    }
}
