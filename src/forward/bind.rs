//! The sockets of a listener, and what the data path is told of it.

use std::io;
use std::net::SocketAddr;

use config::ready::Listener;
use nix::libc;
use nix::sys::resource::{Resource, getrlimit};
use tracing::warn;

use super::beside::{self, Refusal};
use super::path::{Keepalive, Path, Settings, Sockets};
use super::{ForwardError, headers, holder, kernel};
use crate::observe::event::{EventSender, Kind};

/// Descriptors beside two for each session: listening sockets, VRRP sockets, pipes, probes, logs.
const OTHER_DESCRIPTORS: u64 = 128;

/// What the data path is to know of a listener.
pub fn settings(config: &Listener) -> Settings {
    Settings {
        connect_timeout: config.connect_timeout,
        idle_timeout: config.idle_timeout,
        keepalive: config.keepalive.map(|keepalive| Keepalive {
            idle: keepalive.idle,
            interval: keepalive.interval,
            count: keepalive.count,
        }),
        user_timeout: config.user_timeout,
        max_sessions: config.max_sessions.max(1).into(),
        trusted: config.policy.accept_proxy.iter().map(headers::network).collect(),
        transparent: config.policy.transparent,
        logged: config.policy.access_log.is_some(),
    }
}

/// Every address of a listener, or none. Those that are bound `already` are taken as they are.
///
/// # Errors
///
/// The address that cannot be bound, and what to do about it.
pub fn bind_all(
    listener: &Listener,
    path: &Path,
    already: impl Fn(SocketAddr) -> Option<Sockets>,
    events: &EventSender,
) -> Result<Vec<Sockets>, ForwardError> {
    let settings = settings(listener);
    let sockets = |address: &SocketAddr| {
        let as_wanted = |sockets: &Sockets| beside::is_as_wanted(sockets, listener, *address);
        if let Some(sockets) = already(*address).filter(as_wanted) {
            return Ok(sockets);
        }
        let (place, name) = (listener.place.clone(), listener.name.clone());
        match beside::bind(path, listener, *address, &settings) {
            Ok((sockets, warning)) => {
                if let Some(text) = warning {
                    warn!(listener = name, "{text}");
                    events.send(Kind::Notice { text });
                }
                Ok(sockets)
            }
            Err(Refusal::Bind(source)) => Err(ForwardError::Listen {
                place,
                listener: name,
                address: *address,
                help: help(&source, *address),
                source,
            }),
            Err(Refusal::Beside(why)) => {
                Err(ForwardError::Beside { place, listener: name, address: *address, why })
            }
        }
    };
    listener.bind.iter().map(sockets).collect()
}

fn help(error: &io::Error, address: SocketAddr) -> String {
    match error.raw_os_error() {
        Some(libc::EADDRINUSE) => match holder::of(address) {
            Some(holder) => format!("{holder} listens there: stop it, or choose another port"),
            None => format!(
                "something listens there (as root, `ss -ltnp 'sport = :{}'` says what): stop it, or choose another port",
                address.port()
            ),
        },
        Some(libc::EACCES) => format!(
            "ports below {} need CAP_NET_BIND_SERVICE: run as root, or give the capability to the service",
            std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
                .map_or_else(|_| "1024".to_owned(), |text| text.trim().to_owned())
        ),
        Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL) if address.is_ipv6() => {
            "is IPv6 disabled on this host (net.ipv6.conf.all.disable_ipv6)?".to_owned()
        }
        _ => "check the address, and whether the host has the resources".to_owned(),
    }
}

/// Says early, and once for the same number, what would otherwise be seen only at the busiest moment. How many are
/// needed.
pub fn warn_of_few_descriptors(listeners: &[Listener], said: u64, events: &EventSender) -> u64 {
    let proxied = listeners.iter().filter(|listener| !kernel::carries(listener));
    let needed = OTHER_DESCRIPTORS + proxied.map(|l| 2 * u64::from(l.max_sessions)).sum::<u64>();
    let Ok((limit, _)) = getrlimit(Resource::RLIMIT_NOFILE) else { return needed };
    if !listeners.is_empty() && limit < needed && needed != said {
        warn!(limit, needed, "few descriptors");
        let text = format!(
            "the listeners' max_sessions need {needed} descriptors, the process may hold {limit}: \
             raise LimitNOFILE=, or lower max_sessions; until then connections wait when they run out"
        );
        events.send(Kind::Notice { text });
    }
    needed
}
