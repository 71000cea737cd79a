//! Does a TCP connect succeed? Connects and closes.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use config::ready::{Dial, Target};

use super::Spoken;
use super::blocking::Blocking;
use super::dial::{Dialer, Limit};
use super::schedule::{BoxFuture, Outcome, Probing};

/// Connects to one target.
#[derive(Debug)]
pub(super) struct TcpCheck {
    dialer: Dialer,
}

impl TcpCheck {
    pub(super) fn new(target: &Target, dial: &Dial) -> Self {
        Self { dialer: Dialer::new(target, dial) }
    }

    async fn connect(&mut self, timeout: Duration) -> Outcome {
        match self.dialer.connect(Limit::new(timeout)).await {
            Ok(_connected) => Outcome::success("connected"),
            Err(error) => Outcome::failure(error),
        }
    }
}

impl Probing for TcpCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.connect(timeout))
    }
}

/// The name of the target did not become an address in time.
pub(super) fn unresolved(target: &Target, timeout: Duration) -> String {
    format!("{} not resolved after {}", target.host, Spoken(timeout))
}

/// Why a connect failed: `connect refused`, `no route to host`.
pub(super) fn connect_failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect refused".to_owned(),
        io::ErrorKind::HostUnreachable => "no route to host".to_owned(),
        io::ErrorKind::NetworkUnreachable => "network unreachable".to_owned(),
        // The kernel gave up by itself.
        io::ErrorKind::TimedOut => "connect timed out".to_owned(),
        _ => format!("connect failed: {}", Spoken(error)),
    }
}

/// Addresses of a target, asked for anew every time unless it is an address itself.
#[derive(Debug)]
pub(super) struct Resolver {
    target: Target,
    literal: Option<IpAddr>,
    lookup: Blocking<io::Result<Vec<SocketAddr>>>,
}

impl Resolver {
    pub(super) fn new(target: &Target) -> Self {
        let literal = target.host.trim_start_matches('[').trim_end_matches(']').parse().ok();
        Self { target: target.clone(), literal, lookup: Blocking::default() }
    }

    /// # Errors
    /// Says why there is no address.
    pub(super) async fn lookup(&mut self) -> Result<Vec<SocketAddr>, String> {
        if let Some(address) = self.literal {
            return Ok(vec![SocketAddr::new(address, self.target.port)]);
        }
        let (host, port) = (self.target.host.clone(), self.target.port);
        let found = self.lookup.ask(move || (host.as_str(), port).to_socket_addrs().map(Iterator::collect));
        found.await.and_then(std::convert::identity).map_err(|error: io::Error| {
            let said = Spoken(&error).to_string();
            let said = said.strip_prefix("failed to lookup address information: ").unwrap_or(&said);
            format!("{} not resolved: {said}", self.target.host)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    fn target(host: &str, port: u16) -> Target {
        Target { host: host.to_owned(), port }
    }

    /// Listens without ever accepting; the queue takes one connection.
    fn listener() -> (socket2::Socket, u16) {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let port = socket.local_addr().unwrap().as_socket().unwrap().port();
        (socket, port)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn an_open_port_is_success_and_a_closed_one_refuses() {
        let (socket, port) = listener();
        let mut check = TcpCheck::new(&target("127.0.0.1", port), &Dial::default());
        assert_eq!(check.probe(LONG).await, Outcome::success("connected"));
        drop(socket);
        assert_eq!(check.probe(LONG).await, Outcome::failure("connect refused"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_that_does_not_answer_the_connect_times_out() {
        let (_socket, port) = listener();
        // Connections that nobody accepts stay in the queue, and a full queue answers no more.
        let mut kept = Vec::new();
        while let Ok(connected) = std::net::TcpStream::connect_timeout(
            &SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
            Duration::from_millis(300),
        ) {
            kept.push(connected);
            assert!(kept.len() < 100, "the queue never fills");
        }
        let timeout = Duration::from_millis(250);
        let start = std::time::Instant::now();
        let outcome = TcpCheck::new(&target("127.0.0.1", port), &Dial::default()).probe(timeout).await;
        assert_eq!(outcome, Outcome::failure("connect timed out after 250 ms"));
        assert!(start.elapsed() >= timeout);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn every_address_of_a_name_is_tried() {
        // `localhost` may be ::1 first, where nobody listens.
        let (_socket, port) = listener();
        let outcome = TcpCheck::new(&target("localhost", port), &Dial::default()).probe(LONG).await;
        assert_eq!(outcome, Outcome::success("connected"));
    }

    #[tokio::test]
    async fn an_address_is_not_asked_for() {
        for (host, address) in [("10.0.0.1", "10.0.0.1:80"), ("::1", "[::1]:80"), ("[::1]", "[::1]:80")] {
            let found = Resolver::new(&target(host, 80)).lookup().await;
            assert_eq!(found, Ok(vec![address.parse().unwrap()]));
        }
    }
}
