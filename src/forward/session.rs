//! One session: from the accepted connection to the last byte, or the reset.
//!
//! Both legs are born with a linger time of zero, so whatever becomes of a session, its peers see a reset;
//! only one in which both have said all ends with an end of stream.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::libc;
use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::time::{self, Instant};
use tracing::{debug, trace};

use super::backend::Counted;
use super::copy::{self, End, Meter};
use super::listener::{Chosen, Service, set_options};
use super::stall;

/// Why a session did not run to its end.
#[derive(Debug, thiserror::Error)]
enum Cut {
    #[error("no backend is healthy")]
    NoBackend,
    #[error("no backend could be reached")]
    Unreachable,
    #[error("this host cannot open a connection")]
    Shortage,
    #[error("the connection of the {0:?} broke: {1}")]
    Broken(copy::Peer, io::Error),
    #[error("its backend went down")]
    BackendDown,
    #[error("its address left this host")]
    AddressLeft,
    #[error("nothing moved for the idle timeout")]
    Idle,
    #[error("the forwarder stops")]
    Stopped,
}

/// Connects the client to a backend and carries what they say to each other.
pub async fn run(service: &Service, client: TcpStream, stopped: watch::Receiver<bool>) {
    let started = Instant::now();
    let left = client.local_addr().ok().and_then(|local| service.vips.watch(local.ip()));
    let ended = tokio::select! {
        biased;
        cut = leave(left, stopped) => Err(cut),
        ended = serve(service, &client) => ended,
    };
    if let Err(cut) = ended {
        if matches!(cut, Cut::NoBackend | Cut::Unreachable | Cut::Shortage) {
            service.refused.fetch_add(1, Ordering::Relaxed);
        }
        debug!(
            listener = service.config.name, client.addr = ?client.peer_addr().ok(),
            elapsed_ms = started.elapsed().as_millis(), reason = %cut, "session cut"
        );
        return;
    }
    end_cleanly(&client);
}

/// Resolves when the session may not stay, whatever it is doing.
async fn leave(left: Option<watch::Receiver<u64>>, mut stopped: watch::Receiver<bool>) -> Cut {
    let address_left = async {
        let Some(mut left) = left else { return std::future::pending().await };
        if left.changed().await.is_err() {
            std::future::pending().await
        }
    };
    tokio::select! {
        () = address_left => Cut::AddressLeft,
        _ = stopped.wait_for(|stopped| *stopped) => Cut::Stopped,
    }
}

async fn serve(service: &Service, client: &TcpStream) -> Result<(), Cut> {
    let (chosen, backend) = tokio::select! {
        connected = connect(service) => connected?,
        error = copy::broken(client) => return Err(Cut::Broken(copy::Peer::Client, error)),
    };
    carry(service, client, &backend, chosen).await?;
    end_cleanly(&backend);
    Ok(())
}

async fn carry(
    service: &Service,
    client: &TcpStream,
    stream: &TcpStream,
    chosen: Chosen<'_>,
) -> Result<(), Cut> {
    let Chosen { backend, mut gone, .. } = chosen;
    let _counted = Counted::new(&backend.sessions);
    backend.sessions_total.fetch_add(1, Ordering::Relaxed);
    let meter = Meter {
        bytes_in: &backend.bytes_in,
        bytes_out: &backend.bytes_out,
        since: Instant::now(),
        moved: AtomicU64::new(0),
    };
    let down = async {
        if !service.config.close_sessions_on_backend_down || gone.changed().await.is_err() {
            std::future::pending().await
        }
    };
    tokio::select! {
        biased;
        () = down => Err(Cut::BackendDown),
        end = copy::both_ways(client, stream, &meter) => match end {
            End::Complete => Ok(()),
            End::Broken { peer, error } => Err(Cut::Broken(peer, error)),
        },
        (peer, error) = stall::watch(client, stream, service.config.user_timeout) => {
            Err(Cut::Broken(peer, error))
        }
        () = idle(&meter, service.config.idle_timeout) => Err(Cut::Idle),
    }
}

async fn idle(meter: &Meter<'_>, timeout: Option<Duration>) {
    let Some(timeout) = timeout else { return std::future::pending().await };
    loop {
        let until = meter.last_moved() + timeout;
        if until <= Instant::now() {
            return;
        }
        time::sleep_until(until).await;
    }
}

/// Each backend at most once, the best first, until one answers.
async fn connect(service: &Service) -> Result<(Chosen<'_>, TcpStream), Cut> {
    let mut tried = Vec::new();
    while let Some(mut chosen) = service.choose(&tried) {
        tried.push(chosen.index);
        let backend = chosen.backend;
        let error = tokio::select! {
            biased;
            // Its check was faster than the connect: on to the next one.
            _ = chosen.gone.changed() => continue,
            connected = open(service, backend.config.address) => match connected {
                Ok(stream) => {
                    backend.connected();
                    return Ok((chosen, stream));
                }
                Err(error) => error,
            },
        };
        match error.raw_os_error() {
            Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                service.accept_errors.fetch_add(1, Ordering::Relaxed);
                service.notice_shortage("connect to a backend", &error);
                return Err(Cut::Shortage);
            }
            Some(libc::EADDRNOTAVAIL) => {
                service.accept_errors.fetch_add(1, Ordering::Relaxed);
                service.notice_shortage("connect to a backend", &error);
            }
            _ => {
                backend.connect_errors.fetch_add(1, Ordering::Relaxed);
                if error.kind() == io::ErrorKind::TimedOut {
                    backend.hung(Instant::now());
                }
            }
        }
        trace!(backend = backend.config.name, %error, "connect failed");
    }
    Err(if tried.is_empty() { Cut::NoBackend } else { Cut::Unreachable })
}

async fn open(service: &Service, address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv6() { TcpSocket::new_v6() } else { TcpSocket::new_v4() }?;
    set_options(SockRef::from(&socket), &service.config)?;
    time::timeout(service.config.connect_timeout, socket.connect(address))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

/// All has been said on both sides: from here on closing is no reset any more.
fn end_cleanly(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(None) {
        debug!(%error, "SO_LINGER refused, the session ends with a reset");
    }
}
