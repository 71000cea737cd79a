//! A backend: a small TLS server that says `ok` and its name.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use super::namespace::Namespace;

/// Header of an answer that names the backend.
pub const SERVED_BY: &str = "served-by: ";
/// A request is a few lines; more than this is not from us.
const LONGEST_REQUEST: usize = 4096;

/// One server in a machine of its own.
#[derive(Debug)]
pub struct Backend {
    /// Its name.
    pub name: String,
    server: JoinHandle<()>,
    _machine: Namespace,
}

impl Backend {
    /// Listens inside `machine`, and answers on `runtime`.
    ///
    /// # Errors
    /// When the port cannot be had.
    pub fn start(
        name: &str,
        machine: Namespace,
        port: u16,
        tls: rustls::ServerConfig,
        runtime: &Handle,
    ) -> io::Result<Self> {
        let _inside = runtime.enter();
        let listener =
            machine.run(|| std::net::TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))))?;
        listener.set_nonblocking(true)?;
        let server = runtime.spawn(serve(
            TcpListener::from_std(listener)?,
            TlsAcceptor::from(Arc::new(tls)),
            name.into(),
        ));
        Ok(Self { name: name.to_owned(), server, _machine: machine })
    }

    /// Stops the server: its port refuses connections, and the open ones are closed.
    pub async fn stop(&mut self) {
        self.server.abort();
        // It was cancelled or had ended: both are what we want.
        let _ = (&mut self.server).await;
    }
}

async fn serve(listener: TcpListener, tls: TlsAcceptor, name: Arc<str>) {
    // Dropped with this task, and with it every connection.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(answer(stream, tls.clone(), name.clone()));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Answers request after request on one connection.
async fn answer(stream: TcpStream, tls: TlsAcceptor, name: Arc<str>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut stream = tls.accept(stream).await?;
    let mut pending = Vec::new();
    loop {
        while let Some(end) = end_of_request(&pending) {
            let response = response(&pending[..end], &name);
            pending.drain(..end);
            stream.write_all(response.as_bytes()).await?;
            stream.flush().await?;
        }
        if pending.len() > LONGEST_REQUEST || stream.read_buf(&mut pending).await? == 0 {
            return stream.shutdown().await;
        }
    }
}

fn end_of_request(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|at| at + 4)
}

/// 200 for the three health paths of a kube-apiserver, 404 for everything else.
fn response(request: &[u8], name: &str) -> String {
    let healthy =
        [&b"GET /readyz"[..], b"GET /livez", b"GET /healthz"].iter().any(|path| request.starts_with(path));
    let (status, body) = if healthy { ("200 OK", "ok") } else { ("404 Not Found", "not found") };
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n{SERVED_BY}{name}\r\n\r\n{body}",
        body.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_paths_are_answered_with_ok_and_the_name() {
        let answer = response(b"GET /readyz?verbose HTTP/1.1\r\nhost: x\r\n\r\n", "b2");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nserved-by: b2\r\n"), "{answer}");
        assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    }

    #[test]
    fn other_paths_are_not_found() {
        assert!(response(b"GET / HTTP/1.1\r\n\r\n", "b2").starts_with("HTTP/1.1 404 "));
    }

    #[test]
    fn a_request_ends_at_the_empty_line() {
        assert_eq!(end_of_request(b"GET / HTTP/1.1\r\n\r\nGET"), Some(18));
        assert_eq!(end_of_request(b"GET / HTTP/1.1\r\n"), None);
    }
}
