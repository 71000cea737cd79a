//! UDP sockets for control packets: one to receive for each family and port, one to send for each session.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use vrrp::bfd::{MULTIHOP_PORT, PORT, SOURCE_PORTS};

use crate::elect::socket::arrival;

/// CS6, network control.
const TRAFFIC_CLASS: u8 = 0xc0;
/// TC_PRIO_CONTROL.
const QUEUE_PRIORITY: u32 = 7;
/// Room for what comes while the thread is held up.
const RECEIVE_BUFFER: usize = 1 << 18;

/// Which socket a packet comes in by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Door {
    pub ipv6: bool,
    pub multihop: bool,
}

impl Door {
    fn port(self) -> u16 {
        if self.multihop { MULTIHOP_PORT } else { PORT }
    }
}

fn any(ipv6: bool) -> IpAddr {
    if ipv6 { Ipv6Addr::UNSPECIFIED.into() } else { Ipv4Addr::UNSPECIFIED.into() }
}

fn open(ipv6: bool) -> io::Result<Socket> {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if ipv6 {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Hears what is sent to one port of one family.
#[derive(Debug)]
pub struct Receiver(Socket);

/// A control packet as it came.
#[derive(Debug)]
pub struct Received<'a> {
    pub source: IpAddr,
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// When the kernel got it.
    pub arrival: Instant,
    pub payload: &'a [u8],
}

impl Receiver {
    /// # Errors
    /// The port is taken by another BFD daemon.
    pub fn open(door: Door) -> io::Result<Self> {
        let socket = open(door.ipv6)?;
        socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
        if door.ipv6 {
            setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        }
        socket.bind(&SocketAddr::new(any(door.ipv6), door.port()).into())?;
        Ok(Self(socket))
    }

    /// One packet; `None`: nothing is there now.
    pub fn receive<'a>(&self, buffer: &'a mut [u8]) -> io::Result<Option<Received<'a>>> {
        let mut ancillary = nix::cmsg_space!(
            nix::libc::in6_pktinfo,
            nix::libc::in_pktinfo,
            nix::libc::c_int,
            nix::libc::timespec
        );
        let mut slices = [IoSliceMut::new(buffer)];
        let message = match recvmsg::<SockaddrStorage>(
            self.0.as_raw_fd(),
            &mut slices,
            Some(&mut ancillary),
            MsgFlags::MSG_DONTWAIT,
        ) {
            Ok(message) => message,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let (mut destination, mut ttl, mut stamp) = (None, 0, None);
        for control in message.cmsgs().map_err(io::Error::from)? {
            match control {
                ControlMessageOwned::Ipv4PacketInfo(info) => {
                    destination = Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()));
                }
                ControlMessageOwned::Ipv6PacketInfo(info) => {
                    destination = Some(IpAddr::from(info.ipi6_addr.s6_addr));
                }
                // The kernel gives 0–255.
                ControlMessageOwned::Ipv4Ttl(got) | ControlMessageOwned::Ipv6HopLimit(got) => {
                    ttl = u8::try_from(got).unwrap_or(0);
                }
                ControlMessageOwned::ScmTimestampns(time) => stamp = Some(Duration::from(time)),
                _ => {}
            }
        }
        let sender = message.address.as_ref();
        let source = sender.and_then(|sender| {
            let v4 = sender.as_sockaddr_in().map(|sender| IpAddr::from(sender.ip()));
            v4.or_else(|| sender.as_sockaddr_in6().map(|sender| IpAddr::from(sender.ip())))
        });
        let length = message.bytes;
        let (Some(source), Some(destination)) = (source, destination) else { return Ok(None) };
        let payload = &buffer[..length];
        Ok(Some(Received { source, destination, ttl, arrival: arrival(stamp), payload }))
    }
}

impl AsFd for Receiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends the packets of one session, always from the same port (RFC 5881 §4).
#[derive(Debug)]
pub struct Sender {
    socket: Socket,
    to: SocketAddr,
}

impl Sender {
    /// `first_port` is where the search for a free one begins. The source need not be there yet.
    ///
    /// # Errors
    /// From the kernel.
    pub fn open(
        neighbor: IpAddr,
        source: Option<IpAddr>,
        ttl: u8,
        door: Door,
        first_port: u16,
    ) -> io::Result<Self> {
        let socket = open(door.ipv6)?;
        socket.set_priority(QUEUE_PRIORITY)?;
        if door.ipv6 {
            socket.set_unicast_hops_v6(ttl.into())?;
            socket.set_tclass_v6(TRAFFIC_CLASS.into())?;
            socket.set_freebind_v6(true)?;
        } else {
            socket.set_ttl_v4(ttl.into())?;
            socket.set_tos_v4(TRAFFIC_CLASS.into())?;
            socket.set_freebind_v4(true)?;
        }
        let ports = u32::from(SOURCE_PORTS.end() - SOURCE_PORTS.start()) + 1;
        let source = source.unwrap_or(any(door.ipv6));
        for step in 0..ports {
            let offset = (u32::from(first_port) + step) % ports;
            // Below the number of ports.
            let port = SOURCE_PORTS.start() + offset as u16;
            match socket.bind(&SocketAddr::new(source, port).into()) {
                Ok(()) => return Ok(Self { socket, to: SocketAddr::new(neighbor, door.port()) }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// # Errors
    /// From the kernel: no route, the source address is not here.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        self.socket.send_to(packet, &self.to.into()).map(drop)
    }
}
