//! Sockets of both legs: opened, dressed, asked.

use std::io;
use std::mem;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{MsgFlags, SockFlag, SockaddrStorage, accept4, bind as bind_to, connect, recv};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::service::Settings;

/// Connections that the kernel completes before we accept them; it cuts this to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// One listening socket for each loop, on the same address. What is set on them accepted connections inherit.
///
/// # Errors
///
/// What the kernel says, as when somebody else listens there.
pub fn bind(address: SocketAddr, settings: &Settings, loops: usize) -> io::Result<Vec<OwnedFd>> {
    let mut address = address;
    let mut sockets = Vec::new();
    for index in 0..loops.max(1) {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        // The VIP may be on another host now.
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_freebind_v4(true)?;
        }
        dress_listening(&socket, settings)?;
        // The first one shares with nobody while it binds, so another daemon on the address is noticed.
        socket.set_reuse_port(index > 0)?;
        socket.bind(&address.into())?;
        socket.set_reuse_port(loops > 1)?;
        if let Some(bound) = socket.local_addr()?.as_socket() {
            address = bound;
        }
        sockets.push(socket);
    }
    // A connection that came before the last one listens would have nobody to go to when the loops change.
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok(sockets.into_iter().map(OwnedFd::from).collect())
}

/// Options that accepted connections inherit.
///
/// # Errors
///
/// The kernel refuses one.
pub fn dress_listening(socket: impl AsFd, settings: &Settings) -> io::Result<()> {
    let socket = socket.as_fd();
    SockRef::from(&socket).set_tcp_nodelay(true)?;
    dress(socket, settings)
}

/// Everything but TCP_NODELAY.
///
/// # Errors
///
/// The kernel refuses one.
pub fn dress(socket: impl AsFd, settings: &Settings) -> io::Result<()> {
    let socket = socket.as_fd();
    let socket = SockRef::from(&socket);
    // A reset when it is closed, until the session has come to its proper end: also when this process dies.
    socket.set_linger(Some(Duration::ZERO))?;
    if let Some(keepalive) = settings.keepalive {
        let keepalive = TcpKeepalive::new()
            .with_time(keepalive.idle)
            .with_interval(keepalive.interval)
            .with_retries(keepalive.count);
        socket.set_tcp_keepalive(&keepalive)?;
    }
    socket.set_tcp_user_timeout(settings.user_timeout)
}

/// The next connection.
pub fn accept(socket: &impl AsRawFd) -> Result<OwnedFd, Errno> {
    let accepted = accept4(socket.as_raw_fd(), SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 has just given this descriptor to us, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(accepted) })
}

/// A socket towards backends.
pub fn open(ipv6: bool) -> io::Result<OwnedFd> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    Ok(Socket::new(domain, Type::STREAM.nonblocking(), Some(Protocol::TCP))?.into())
}

/// A socket towards backends that has a foreign address: the answers come back here if they are routed so.
///
/// The port is chosen when it connects, so that as many connections as there are ports go to each backend.
///
/// # Errors
///
/// CAP_NET_ADMIN or CAP_NET_RAW is lacking (EPERM), or the address is none of a host.
pub fn open_as(client: IpAddr) -> Result<OwnedFd, Errno> {
    let socket = open(client.is_ipv6())
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::ENOMEM)))?;
    let (level, transparent) = match client {
        IpAddr::V4(_) => (libc::IPPROTO_IP, libc::IP_TRANSPARENT),
        IpAddr::V6(_) => (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT),
    };
    turn_on(&socket, level, transparent)?;
    turn_on(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT)?;
    bind_to(socket.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(client, 0)))?;
    Ok(socket)
}

fn turn_on(socket: &OwnedFd, level: libc::c_int, option: libc::c_int) -> Result<(), Errno> {
    let on: libc::c_int = 1;
    let length = libc::socklen_t::try_from(mem::size_of::<libc::c_int>()).unwrap_or(0);
    // SAFETY: the descriptor is open while it is borrowed, and the kernel reads one int.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    Errno::result(result).map(drop)
}

/// Begins to connect. Whether it is done already.
pub fn begin(socket: &OwnedFd, address: SocketAddr) -> Result<bool, Errno> {
    match connect(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
        Ok(()) => Ok(true),
        Err(Errno::EINPROGRESS) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Why the kernel gave a connection up; asking takes the answer away.
pub fn error(socket: &OwnedFd) -> Errno {
    match SockRef::from(socket).take_error() {
        Ok(Some(error)) | Err(error) => Errno::from_raw(error.raw_os_error().unwrap_or(libc::ECONNRESET)),
        Ok(None) => Errno::ECONNRESET,
    }
}

/// Closes with a reset.
pub fn reset(socket: OwnedFd) {
    // Refused only for a connection that is gone.
    let _ = SockRef::from(&socket).set_linger(Some(Duration::ZERO));
}

/// All has been said on both sides: from here on closing is no reset any more.
pub fn end_cleanly(socket: &OwnedFd) {
    let _ = SockRef::from(socket).set_linger(None);
}

/// This process or this host lacks descriptors or memory, which only time gives back.
pub fn is_shortage(error: Errno) -> bool {
    matches!(error, Errno::EMFILE | Errno::ENFILE | Errno::ENOBUFS | Errno::ENOMEM)
}

/// accept(2): Linux passes errors of the new connection on; the next one may be accepted at once.
pub fn is_of_the_connection(error: Errno) -> bool {
    matches!(
        error,
        Errno::ECONNABORTED
            | Errno::EPROTO
            | Errno::ENOPROTOOPT
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
            | Errno::ENONET
            | Errno::EOPNOTSUPP
            | Errno::EPERM
    )
}

mod ioctl {
    // SIOCOUTQ is the terminals' TIOCOUTQ under another name.
    nix::ioctl_read_bad!(outq, nix::libc::TIOCOUTQ, nix::libc::c_int);
}

/// Bytes in the send queue that the peer's host has not acknowledged.
pub fn unacknowledged(socket: &OwnedFd) -> nix::Result<i32> {
    let mut bytes = 0;
    // SAFETY: the descriptor is open as long as it is borrowed, and TIOCOUTQ writes one int.
    unsafe { ioctl::outq(socket.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

/// The peer has ended its stream, and all that it sent before has been read.
pub fn has_only_ended(socket: &OwnedFd) -> bool {
    recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT) == Ok(0)
}

/// What the kernel knows of a connection.
pub fn tcp_info(socket: &OwnedFd) -> io::Result<libc::tcp_info> {
    // SAFETY: tcp_info is plain numbers, for which zeros are a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = libc::socklen_t::try_from(mem::size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the descriptor is open while it is borrowed, and the kernel writes at most `length` bytes to
    // `info`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}
