//! PROXY headers on the control side: who sends and gets them, and what is said of those that are none.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use config::ready::{Prefix, ProxyVersion};

use super::path::proxy::{Fault, Network, Version};

/// Least time between two notices of the same listener.
const NOTICE_GAP: Duration = Duration::from_secs(10);

/// Bad headers of one listener.
#[derive(Debug, Default)]
pub struct BadHeaders(Mutex<Said>);

#[derive(Debug, Default)]
struct Said {
    last: Option<Instant>,
    unsaid: u64,
}

impl BadHeaders {
    /// What to say of one more, if something was not said just now.
    pub fn notice(&self, listener: &str, peer: Option<SocketAddr>, fault: Fault) -> Option<String> {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if said.last.is_some_and(|at| at.elapsed() < NOTICE_GAP) {
            said.unsaid += 1;
            return None;
        }
        said.last = Some(Instant::now());
        let more = match std::mem::take(&mut said.unsaid) {
            0 => String::new(),
            more => format!(" ({more} more since the last notice)"),
        };
        let peer = peer.map_or_else(|| "a client that is gone".to_owned(), |peer| peer.ip().to_string());
        Some(format!(
            "listener {listener} has reset {peer}, which is in accept_proxy: {fault}{more}; have it send PROXY \
             headers (HAProxy: send-proxy or send-proxy-v2), or take it out of accept_proxy"
        ))
    }
}

/// As the data path takes it.
pub fn version(version: ProxyVersion) -> Version {
    match version {
        ProxyVersion::V1 => Version::V1,
        ProxyVersion::V2 => Version::V2,
    }
}

/// As the data path takes it.
pub fn network(prefix: &Prefix) -> Network {
    Network { address: prefix.address, length: prefix.length }
}
