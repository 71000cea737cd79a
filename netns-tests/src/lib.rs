//! vipd between real hosts and against real peers.
//!
//! A [`lab::Lab`] is a set of network namespaces joined by one bridge. Nothing in it has a name outside
//! the test's process: the namespaces live as long as that process and the programs it started, so a
//! test that is killed leaves nothing behind. What happened is read from the kernel and from
//! strangers: a packet socket at the bridge ([`wire`]), `ip monitor` in the hosts, a client's probes ([`observer`]), and
//! `data/check_pcap.py`, a packet checker that shares no code with vipd or with this crate.
//!
//! The programs under test are [`peer::Peer`]s: vipd, keepalived and FRR's vrrpd are started from the
//! same description of a virtual router, so that any of them can stand on either side of a
//! [`story`]. The criteria of the interoperability matrix are in [`criteria`].
//!
//! Needs root, or `unshare -Urn`, and the Debian packages keepalived, frr, iproute2, nftables
//! and python3 (kubeadm's and etcd's tests also curl, openssl, nginx, etcd-server and etcd-client; the web page's
//! also chromium, curl and python3-prometheus-client; those of other servers also postgresql, redis-server and dnsmasq-base). A host that cannot run the tests fails them, unless `NETNS_TESTS=skip` is set.

pub mod answers;
pub mod browser;
pub mod certificates;
pub mod craft;
pub mod criteria;
pub mod dump;
pub mod host;
pub mod inject;
pub mod lab;
pub mod meaning;
pub mod observer;
pub mod peer;
pub mod process;
pub mod reference;
pub mod story;
mod tell;
pub mod turn;
pub mod wire;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock time since 1970: the one clock that captures, `ip -ts` and this process share.
pub type Stamp = Duration;

/// The time of now.
pub fn now() -> Stamp {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970")
}

/// What went wrong, and, when a time was missed, when: a machine that stalled is asked again.
#[derive(Debug)]
pub struct Failure {
    /// For people.
    pub text: String,
    /// Something was late by more than was allowed.
    pub late: Option<Late>,
}

/// When something was late, and how much would have been allowed.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// What was measured began here.
    pub from: Stamp,
    /// And ended here.
    pub to: Stamp,
    /// Allowed.
    pub margin: Duration,
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, late: None }
    }
}

/// What a step of a test gives.
pub type Outcome<T = ()> = Result<T, Failure>;

/// Fails unless the condition holds.
pub fn ensure(condition: bool, text: impl FnOnce() -> String) -> Outcome {
    if condition { Ok(()) } else { Err(text().into()) }
}

/// Waits until `condition` gives something, at most for `limit`.
pub fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> Outcome<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {limit:?} in vain: {what}").into());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Waits until `condition` holds, at most for `limit`.
pub fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Outcome {
    wait_for(what, limit, || condition().then_some(()))
}

/// Whether the tests are to run: fails on a host that cannot, unless it was told to skip them.
///
/// # Panics
///
/// When a program or a privilege is missing, with all that is missing.
pub fn enabled(programs: &[&str]) -> bool {
    if std::env::var_os("NETNS_TESTS").is_some_and(|value| value == "skip") {
        return false;
    }
    let mut missing: Vec<String> = Vec::new();
    for program in ["ip", "bridge", "nft", "python3"].iter().chain(programs) {
        if host::find_program(program).is_none() {
            missing.push(format!("the program {program}"));
        }
    }
    if let Err(error) = host::Namespaces::new() {
        missing
            .push(format!("the right to make network namespaces ({error}; be root, or use `unshare -Urn`)"));
    }
    assert!(
        missing.is_empty(),
        "this host cannot run the tests between namespaces: missing {}. NETNS_TESTS=skip leaves them out.",
        missing.join(", ")
    );
    true
}
