//! How a probe's connection begins: names, the address it leaves from, TCP, a PROXY header, TLS; and how it ends.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use config::ready::{Dial, ProxyVersion, Target};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::Instant;
use tokio_rustls::client::TlsStream;

use super::Spoken;
use super::tcp::{self, Resolver};

/// How long a connection that is not needed any more may take to end in order.
const CLOSE_LIMIT: Duration = Duration::from_secs(1);
/// More is not read of a server that goes on talking.
const CLOSE_OCTETS: usize = 64 * 1024;

/// The end of a run.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limit {
    at: Instant,
    time: Duration,
}

impl Limit {
    /// From now on.
    pub(super) fn new(time: Duration) -> Self {
        Self { at: Instant::now() + time, time }
    }

    /// The same, or less from now on.
    fn at_most(self, time: Option<Duration>) -> Self {
        let shorter = time.map(Self::new).filter(|shorter| shorter.at < self.at);
        shorter.unwrap_or(self)
    }

    /// As it is said.
    pub(super) fn spoken(self) -> Spoken<Duration> {
        Spoken(self.time)
    }

    /// The outcome of the future, or `late`.
    ///
    /// # Errors
    /// The time is over.
    pub(super) async fn hold<T>(
        self,
        future: impl Future<Output = T>,
        late: impl FnOnce(Spoken<Duration>) -> String,
    ) -> Result<T, String> {
        tokio::time::timeout_at(self.at, future).await.map_err(|_| late(self.spoken()))
    }
}

/// Connects to one target, again and again.
#[derive(Debug)]
pub(super) struct Dialer {
    target: Target,
    dial: Dial,
    resolver: Resolver,
}

impl Dialer {
    pub(super) fn new(target: &Target, dial: &Dial) -> Self {
        Self { target: target.clone(), dial: dial.clone(), resolver: Resolver::new(target) }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// Addresses of the target, at least one, those of the source's family.
    ///
    /// # Errors
    /// Says why there is none, fit for the middle of a sentence.
    pub(super) async fn addresses(&mut self, limit: Limit) -> Result<Vec<SocketAddr>, String> {
        let target = self.target.clone();
        let found = limit.hold(self.resolver.lookup(), |_| tcp::unresolved(&target, limit.time)).await??;
        let fits = |address: &SocketAddr| {
            self.dial.source.is_none_or(|source| source.is_ipv4() == address.is_ipv4())
        };
        let fitting: Vec<_> = found.iter().copied().filter(fits).collect();
        match (fitting.is_empty(), self.dial.source) {
            (true, Some(source)) if !found.is_empty() => {
                Err(format!("{} has no address of the family of source {source}", self.target.host))
            }
            (true, _) => Err(format!("{} has no address", self.target.host)),
            (false, _) => Ok(fitting),
        }
    }

    /// Connects to the first address that answers, and sends the PROXY header.
    ///
    /// # Errors
    /// Says why there is no connection.
    pub(super) async fn connect(&mut self, limit: Limit) -> Result<TcpStream, String> {
        let addresses = self.addresses(limit).await?;
        self.connect_to(&addresses, limit).await
    }

    /// As [`connect`](Self::connect), to addresses that are known.
    ///
    /// # Errors
    /// Says why there is no connection.
    pub(super) async fn connect_to(
        &self,
        addresses: &[SocketAddr],
        limit: Limit,
    ) -> Result<TcpStream, String> {
        let mut last = String::new();
        let connecting = limit.at_most(self.dial.connect_timeout);
        for address in addresses {
            let connected = connecting
                .hold(self.open(*address), |time| format!("connect timed out after {time}"))
                .await?;
            match connected {
                Ok(mut stream) => {
                    let header = self.proxy_header(&stream);
                    limit
                        .hold(stream.write_all(&header), |time| format!("nothing accepted after {time}"))
                        .await?
                        .map_err(|error| broken(&error))?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// To another port of the same host.
    pub(super) fn to_port(&self, port: u16) -> Self {
        Self::new(&Target { host: self.target.host.clone(), port }, &self.dial)
    }

    async fn open(&self, address: SocketAddr) -> Result<TcpStream, String> {
        let cannot = |error: io::Error| format!("no socket: {}", Spoken(&error));
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
        let socket = socket.map_err(cannot)?;
        if self.dial.source_port.is_some() {
            // Without, the port could not be used again for a minute.
            socket.set_reuseaddr(true).map_err(cannot)?;
            socket.set_zero_linger().map_err(cannot)?;
        }
        self.mark(&socket)?;
        if let Some(local) = self.local(address) {
            socket.bind(local).map_err(|error| unbound(local, &error))?;
        }
        let stream = socket.connect(address).await.map_err(|error| tcp::connect_failure(&error))?;
        // What a probe says is short and waited for.
        stream.set_nodelay(true).map_err(cannot)?;
        Ok(stream)
    }

    /// A datagram socket that hears of this address alone.
    ///
    /// # Errors
    /// Says why there is none.
    pub(super) async fn datagrams(&self, address: SocketAddr) -> Result<UdpSocket, String> {
        let any: SocketAddr =
            if address.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
        let local = self.local(address).unwrap_or(any);
        let socket = UdpSocket::bind(local).await.map_err(|error| unbound(local, &error))?;
        self.mark(&socket)?;
        socket.connect(address).await.map_err(|error| tcp::connect_failure(&error))?;
        Ok(socket)
    }

    /// Interface and mark.
    pub(super) fn mark(&self, socket: &impl AsFd) -> Result<(), String> {
        let socket = socket2::SockRef::from(socket);
        if let Some(interface) = &self.dial.interface {
            socket
                .bind_device(Some(interface.as_bytes()))
                .map_err(|error| format!("it cannot leave by interface {interface}: {}", Spoken(&error)))?;
        }
        if let Some(mark) = self.dial.mark {
            socket
                .set_mark(mark)
                .map_err(|error| format!("mark {mark} cannot be set: {}", Spoken(&error)))?;
        }
        Ok(())
    }

    pub(super) fn local(&self, remote: SocketAddr) -> Option<SocketAddr> {
        if self.dial.source.is_none() && self.dial.source_port.is_none() {
            return None;
        }
        let any = if remote.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
        Some(SocketAddr::new(self.dial.source.unwrap_or(any), self.dial.source_port.unwrap_or(0)))
    }

    /// The PROXY protocol's §2.1 and §2.2: LOCAL says that nobody is behind us.
    fn proxy_header(&self, stream: &TcpStream) -> Vec<u8> {
        match self.dial.send_proxy {
            None => Vec::new(),
            Some(ProxyVersion::V2) => b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0".to_vec(),
            Some(ProxyVersion::V1) => match (stream.local_addr(), stream.peer_addr()) {
                (Ok(from), Ok(to)) => {
                    let family = if from.is_ipv4() { "TCP4" } else { "TCP6" };
                    let (source, destination) = (from.ip(), to.ip());
                    format!("PROXY {family} {source} {destination} {} {}\r\n", from.port(), to.port())
                        .into_bytes()
                }
                _ => b"PROXY UNKNOWN\r\n".to_vec(),
            },
        }
    }
}

fn unbound(local: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => format!("source {} is no address of this host", local.ip()),
        io::ErrorKind::AddrInUse => format!("source port {} is in use", local.port()),
        _ => format!("source {local} cannot be used: {}", Spoken(error)),
    }
}

/// Why a connection that stood is no more.
pub(super) fn broken(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
            "the server reset the connection".to_owned()
        }
        io::ErrorKind::UnexpectedEof => "the server closed the connection".to_owned(),
        _ => match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(error) => super::tls::failure(error),
            None => Spoken(error).to_string(),
        },
    }
}

/// A connection, in the clear or not.
#[derive(Debug)]
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    /// Ends it in order, without keeping anybody waiting: our close_notify and FIN first, then what the server still
    /// sends is read, because data that nobody reads would make the kernel reset the connection, and a server that
    /// is just finishing its handshake would take note of that in its log.
    pub(super) fn close(mut self) {
        tokio::spawn(async move {
            let _ = tokio::time::timeout(CLOSE_LIMIT, self.end()).await;
        });
    }

    async fn end(&mut self) -> io::Result<()> {
        self.shutdown().await?;
        let mut buffer = [0; 4096];
        let mut total = 0;
        while total < CLOSE_OCTETS {
            match self.read(&mut buffer).await? {
                0 => return Ok(()),
                length => total += length,
            }
        }
        Ok(())
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(context, octets),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_write(context, octets),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(context),
        }
    }
}
