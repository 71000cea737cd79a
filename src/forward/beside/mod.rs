//! A listener beside a socket that has the same port on every address, as kube-apiserver on `*:6443`.
//!
//! Two sockets cannot listen so: whoever comes second gets EADDRINUSE, and were we the first, the apiserver could not
//! start. So our sockets listen elsewhere, and only what goes to the address and port of the listener is brought to
//! them. Who asked for another address of the host, or comes after this process has ended in whatever way, reaches the
//! other socket.

mod bpf;
mod redirect;

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram};
use std::sync::Arc;

use config::ready::{Beside, Listener};
use nix::libc;

use super::holder;
use super::path::{Path, Settings, Sockets};
use crate::observe::status::Carrier;

/// What brings connections to sockets that listen elsewhere; it ends with its last owner, or with the process.
#[derive(Debug)]
pub struct Way {
    means: Means,
    /// Nobody else brings this address elsewhere.
    _claim: UnixDatagram,
}

#[derive(Debug)]
enum Means {
    /// Held for its end.
    SkLookup { _link: bpf::Link },
    /// Held for its end.
    Redirect { _table: redirect::Owned },
}

impl Way {
    /// How status calls it.
    pub fn carrier(&self) -> Carrier {
        match self.means {
            Means::SkLookup { .. } => Carrier::SkLookup,
            Means::Redirect { .. } => Carrier::Redirect,
        }
    }
}

/// A listening socket could not be had.
#[derive(Debug)]
pub enum Refusal {
    /// By the plain way.
    Bind(io::Error),
    /// By any way around another socket: the reasons, and what to do.
    Beside(String),
}

/// Listens on an address, beside another socket if there may be one. Gives a warning to tell, if need be.
///
/// # Errors
///
/// No way.
pub fn bind(
    path: &Path,
    listener: &Listener,
    address: SocketAddr,
    settings: &Settings,
) -> Result<(Sockets, Option<String>), Refusal> {
    let plain = || path.bind(address, settings).map_err(Refusal::Bind);
    let refused = |why: String| {
        let who = holder::of(address).unwrap_or_else(|| "another socket".to_owned());
        Refusal::Beside(format!("{who} may have the port on every address; {why}"))
    };
    match listener.policy.beside {
        Beside::Refuse => Ok((plain()?, None)),
        Beside::SkLookup => Ok((by_sk_lookup(path, address, settings).map_err(refused)?, None)),
        Beside::Nftables => Ok((by_redirect(path, address, settings).map_err(refused)?, None)),
        Beside::Auto if !is_shared(listener, address) => Ok((plain()?, None)),
        Beside::Auto => {
            let first = match by_sk_lookup(path, address, settings) {
                Ok(sockets) => return Ok((sockets, None)),
                Err(why) => why,
            };
            let second = match by_redirect(path, address, settings) {
                Ok(sockets) => return Ok((sockets, None)),
                Err(why) => why,
            };
            let why = format!("{first}; {second}");
            // Nobody is there yet, and who comes may listen on one address alone.
            match plain() {
                Ok(sockets) => Ok((
                    sockets,
                    Some(format!(
                        "listener {} has {address} itself: a server of this host that wants port {} on every \
                         address cannot start beside it ({why})",
                        listener.name,
                        address.port()
                    )),
                )),
                Err(_) => Err(refused(why)),
            }
        }
    }
}

/// Whether sockets that are there are what [`bind`] would make.
pub fn is_as_wanted(sockets: &Sockets, listener: &Listener, address: SocketAddr) -> bool {
    let carrier = sockets.way().map(|way| way.carrier());
    match listener.policy.beside {
        Beside::Refuse => carrier.is_none(),
        Beside::SkLookup => carrier == Some(Carrier::SkLookup),
        Beside::Nftables => carrier == Some(Carrier::Redirect),
        Beside::Auto => carrier.is_some() || !has_local_backend(listener, address),
    }
}

/// Whether somebody has the port on every address, or will: a backend on this host is started again one day.
fn is_shared(listener: &Listener, address: SocketAddr) -> bool {
    !address.ip().is_unspecified()
        && address.port() != 0
        && (holder::is_on_every_address(address) || has_local_backend(listener, address))
}

/// A backend on the same port of another address of this host.
fn has_local_backend(listener: &Listener, address: SocketAddr) -> bool {
    let mut backends = listener.backends.iter().map(|backend| backend.address);
    let candidate = |backend: &SocketAddr| backend.port() == address.port() && backend.ip() != address.ip();
    let Some(first) = backends.find(candidate) else { return false };
    let local: Vec<IpAddr> =
        nix::ifaddrs::getifaddrs().into_iter().flatten().filter_map(|one| ip(&one)).collect();
    std::iter::once(first).chain(backends.filter(candidate)).any(|backend| local.contains(&backend.ip()))
}

fn ip(interface: &nix::ifaddrs::InterfaceAddress) -> Option<IpAddr> {
    let address = interface.address?;
    let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
    ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
}

fn by_sk_lookup(path: &Path, address: SocketAddr, settings: &Settings) -> Result<Sockets, String> {
    let claim = claim("sk_lookup", address)?;
    // Where a program brings connections to does not matter; here nobody else comes by.
    let here: IpAddr =
        if address.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    let sockets =
        path.bind(SocketAddr::new(here, 0), settings).map_err(|error| format!("sk_lookup: {error}"))?;
    let socket = sockets.first().ok_or("sk_lookup: no socket")?;
    let link = bpf::attach(address, socket).map_err(|error| format!("sk_lookup: {}", bpf_hint(&error)))?;
    let way = Way { means: Means::SkLookup { _link: link }, _claim: claim };
    Ok(sockets.reached_by(address, Arc::new(way)))
}

fn by_redirect(path: &Path, address: SocketAddr, settings: &Settings) -> Result<Sockets, String> {
    let claim = claim("nftables", address)?;
    let here = SocketAddr::new(address.ip(), 0);
    let sockets = path.bind(here, settings).map_err(|error| format!("nftables: {error}"))?;
    let table = redirect::to(address, sockets.address().port())
        .map_err(|error| format!("nftables: {}", redirect_hint(&error)))?;
    let way = Way { means: Means::Redirect { _table: table }, _claim: claim };
    Ok(sockets.reached_by(address, Arc::new(way)))
}

/// Abstract sockets belong to a network namespace, and go with their process.
fn claim(means: &str, address: SocketAddr) -> Result<UnixDatagram, String> {
    let claimed = UnixAddr::from_abstract_name(format!("vipd-beside/{means}/{address}"))
        .and_then(|name| UnixDatagram::bind_addr(&name));
    claimed.map_err(|error| match error.kind() {
        io::ErrorKind::AddrInUse => format!("{means}: another vipd serves {address} so"),
        _ => format!("{means}: {error}"),
    })
}

fn bpf_hint(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; it needs CAP_BPF and CAP_NET_ADMIN on the host itself",
        Some(libc::EINVAL | libc::ENOSYS) => "; it needs Linux 5.9 with CONFIG_BPF_SYSCALL and CONFIG_INET",
        Some(libc::E2BIG) => "; a network namespace has at most 64 such programs",
        _ => "",
    };
    format!("{error}{hint}")
}

fn redirect_hint(error: &io::Error) -> String {
    let hint = match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; it needs CAP_NET_ADMIN",
        Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::ENOENT | libc::EINVAL) => {
            "; it needs Linux 5.12 with nf_tables, nft_nat and nft_fib_inet"
        }
        _ => "",
    };
    format!("{error}{hint}")
}
