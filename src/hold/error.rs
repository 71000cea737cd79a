//! What the kernel refused, and what to do about it.

use std::io;
use std::net::IpAddr;

use nix::libc;

/// An address could not be moved, or the kernel could not be reached at all.
#[derive(Debug, thiserror::Error)]
pub enum HoldError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {cause}")]
    Open {
        /// Of the system call.
        cause: io::Error,
    },
    /// The kernel refused to add an address.
    #[error("cannot add {address}/{prefix} to {interface}: {}", explained(cause, *address))]
    Add {
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// Where it should be.
        interface: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The kernel refused to remove an address.
    #[error("cannot remove {address}/{prefix} from {interface}: {}", explained(cause, *address))]
    Remove {
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
        /// Where it is.
        interface: String,
        /// What the kernel said.
        cause: io::Error,
    },
}

impl HoldError {
    /// The number behind the cause, if the kernel gave one.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Open { cause } | Self::Add { cause, .. } | Self::Remove { cause, .. } => {
                cause.raw_os_error()
            }
        }
    }
}

/// The kernel's word, and what it means for addresses.
fn explained(cause: &io::Error, address: IpAddr) -> String {
    let text = cause.to_string();
    let word = text.split(" (os error").next().unwrap_or_default();
    let meaning = match cause.raw_os_error() {
        Some(libc::EPERM) => {
            "it needs CAP_NET_ADMIN: run as root, or grant it (AmbientCapabilities=CAP_NET_ADMIN)"
        }
        Some(libc::ENODEV) => "there is no such interface",
        Some(libc::EACCES) if address.is_ipv6() => "IPv6 is disabled there: see net.ipv6.conf.*.disable_ipv6",
        Some(libc::EINVAL) if address.is_ipv4() => {
            "the interface has an address of the same subnet with another scope, or label, prefix or peer are not valid"
        }
        Some(libc::ENOBUFS) if address.is_ipv6() => {
            "the interface has no IPv6: its MTU is below 1280, perhaps"
        }
        _ => return word.to_owned(),
    };
    format!("{word}; {meaning}")
}
