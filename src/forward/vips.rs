//! Which sessions belong to which virtual address, and the news that an address has left this host.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{info, warn};

use super::kernel::KernelPath;
use super::path::{End, Path, Which};
use crate::observe::event::{Event, Kind, State};

/// The virtual addresses of all instances, by the name of the instance.
#[derive(Debug, Default)]
pub struct Vips(RwLock<HashMap<String, Vec<IpAddr>>>);

impl Vips {
    /// From now on these.
    pub fn replace(&self, of_instance: HashMap<String, Vec<IpAddr>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = of_instance;
    }

    fn known(&self) -> RwLockReadGuard<'_, HashMap<String, Vec<IpAddr>>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Acts on transitions until their sender is gone.
    pub async fn follow(
        self: Arc<Self>,
        path: Arc<Path>,
        kernel: Arc<KernelPath>,
        mut events: broadcast::Receiver<Arc<Event>>,
    ) {
        loop {
            let left = match events.recv().await {
                Ok(event) => self.left(&event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "transitions were missed, looking for the addresses themselves");
                    self.look()
                }
                Err(RecvError::Closed) => return,
            };
            for address in left {
                let sessions = path.end(Which::Address(address), End::AddressLeft).await;
                if sessions > 0 {
                    info!(%address, sessions, "virtual address left, its sessions are closed");
                }
                kernel.left(address).await;
            }
        }
    }

    /// The addresses that leave with a transition.
    fn left(&self, event: &Event) -> Vec<IpAddr> {
        match &event.kind {
            Kind::Transition { instance, from: State::Active, to, .. } if *to != State::Active => {
                self.known().get(instance).cloned().unwrap_or_default()
            }
            _ => Vec::new(),
        }
    }

    /// What was missed can be found out: an address that cannot be bound is not here.
    fn look(&self) -> Vec<IpAddr> {
        let is_here = |address: &IpAddr| UdpSocket::bind(SocketAddr::new(*address, 0)).is_ok();
        self.known().values().flatten().copied().filter(|address| !is_here(address)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::observe::event::Reason;

    fn transition(instance: &str, from: State, to: State) -> Event {
        let kind =
            Kind::Transition { instance: instance.into(), from, to, reason: Reason::Stopped, priority: 100 };
        Event { at: SystemTime::UNIX_EPOCH, kind }
    }

    fn addresses<const N: usize>(addresses: [&str; N]) -> Vec<IpAddr> {
        addresses.iter().map(|address| address.parse().unwrap()).collect()
    }

    fn vips() -> Vips {
        let vips = Vips::default();
        vips.replace(HashMap::from([
            ("one".to_owned(), addresses(["127.0.0.1", "2001:db8::1"])),
            ("two".to_owned(), addresses(["192.0.2.2"])),
        ]));
        vips
    }

    #[test]
    fn only_the_addresses_of_the_instance_that_leaves_active_are_told() {
        let vips = vips();
        assert!(vips.left(&transition("one", State::Backup, State::Active)).is_empty());
        assert!(vips.left(&transition("one", State::Initialize, State::Backup)).is_empty());
        let left = vips.left(&transition("one", State::Active, State::Fault));
        assert_eq!(left, addresses(["127.0.0.1", "2001:db8::1"]));
    }

    #[test]
    fn an_address_leaves_with_the_instance_that_has_it_now() {
        let vips = vips();
        vips.replace(HashMap::from([("renamed".to_owned(), addresses(["192.0.2.2"]))]));
        assert!(vips.left(&transition("two", State::Active, State::Backup)).is_empty());
        let left = vips.left(&transition("renamed", State::Active, State::Backup));
        assert_eq!(left, addresses(["192.0.2.2"]));
    }

    #[test]
    fn missed_transitions_are_made_up_for_by_looking() {
        let vips = vips();
        vips.replace(HashMap::from([("one".to_owned(), addresses(["127.0.0.1", "198.51.100.77"]))]));
        assert_eq!(vips.look(), addresses(["198.51.100.77"]), "127.0.0.1 is on this host");
    }
}
