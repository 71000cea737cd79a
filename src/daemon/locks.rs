//! One vipd for each virtual router on a host: a second one is refused before it sends a word.
//!
//! The lock is an abstract Unix socket: it belongs to the network namespace, as the interface does, and
//! vanishes with the process, however that ends.

use std::collections::HashMap;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

use config::ready::{Config, Family, Instance};

/// Another process runs the same virtual router here.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// It is taken.
    #[error(
        "instance {instance} ({place}): VRID {vrid} on {interface} ({family}) is already run by another vipd on this \
         host; stop that one, or give this instance a VRID of its own"
    )]
    Taken {
        /// Ours.
        instance: String,
        /// Where it is configured.
        place: String,
        /// 1–255.
        vrid: u8,
        /// Its interface.
        interface: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
    /// The lock cannot be made.
    #[error("cannot lock instance {instance}: {source}")]
    Host {
        /// Ours.
        instance: String,
        /// From the kernel.
        source: io::Error,
    },
}

/// Locks held by this process, by name.
#[derive(Debug, Default)]
pub struct Locks(HashMap<String, UnixListener>);

impl Locks {
    /// Locks for all instances of `config`; those that `self` has already stay held, the others go when the
    /// result replaces `self`.
    ///
    /// # Errors
    /// When another process holds one. `self` is unchanged then.
    pub fn extended_to(&self, config: &Config) -> Result<Self, LockError> {
        let mut locks = HashMap::new();
        for instance in &config.instances {
            let name = name(instance);
            if locks.contains_key(&name) {
                // Unicast instances may share a VRID; the configuration says so itself.
                continue;
            }
            let host_error = |source| LockError::Host { instance: instance.name.clone(), source };
            let lock = match self.0.get(&name) {
                Some(held) => held.try_clone().map_err(host_error)?,
                None => {
                    let address = SocketAddr::from_abstract_name(&name).map_err(host_error)?;
                    UnixListener::bind_addr(&address).map_err(|source| match source.kind() {
                        io::ErrorKind::AddrInUse => taken(instance),
                        _ => host_error(source),
                    })?
                }
            };
            locks.insert(name, lock);
        }
        Ok(Self(locks))
    }
}

fn family(instance: &Instance) -> &'static str {
    match instance.family {
        Family::Ipv4 => "IPv4",
        Family::Ipv6 => "IPv6",
    }
}

fn name(instance: &Instance) -> String {
    format!("vipd/{}/{}/{}", instance.interface, family(instance), instance.vrid)
}

fn taken(instance: &Instance) -> LockError {
    LockError::Taken {
        instance: instance.name.clone(),
        place: instance.place.to_string(),
        vrid: instance.vrid,
        interface: instance.interface.clone(),
        family: family(instance),
    }
}
