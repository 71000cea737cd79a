//! Which sessions belong to which virtual address, and the news that an address has left this host.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::observe::event::{Event, Kind, State};

/// The virtual addresses of all instances.
#[derive(Debug, Default)]
pub struct Vips(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    of_instance: HashMap<String, Vec<IpAddr>>,
    /// Counts how often an address has left; each session on it watches.
    left: HashMap<IpAddr, watch::Sender<u64>>,
}

impl Vips {
    /// Addresses by the name of their instance, from now on. Sessions on those that stay are watched as
    /// before.
    pub fn replace(&self, of_instance: HashMap<String, Vec<IpAddr>>) {
        let mut known = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut known.left);
        let left = |address: &IpAddr| (*address, before.remove(address).unwrap_or_default());
        known.left = of_instance.values().flatten().map(left).collect();
        known.of_instance = of_instance;
    }

    fn known(&self) -> RwLockReadGuard<'_, Known> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells when this address leaves. `None`: no instance has it, so it never does.
    pub fn watch(&self, address: IpAddr) -> Option<watch::Receiver<u64>> {
        self.known().left.get(&address).map(watch::Sender::subscribe)
    }

    /// Acts on transitions until their sender is gone.
    pub async fn follow(self: Arc<Self>, mut events: broadcast::Receiver<Event>) {
        loop {
            match events.recv().await {
                Ok(event) => self.handle(&event),
                Err(RecvError::Lagged(missed)) => {
                    warn!(missed, "transitions were missed, looking for the addresses themselves");
                    self.look();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn handle(&self, event: &Event) {
        let Kind::Transition { instance, from: State::Active, to, .. } = &event.kind else { return };
        if *to == State::Active {
            return;
        }
        let known = self.known();
        for address in known.of_instance.get(instance).into_iter().flatten() {
            known.leave(*address);
        }
    }

    /// What was missed can be found out: an address that cannot be bound is not here.
    fn look(&self) {
        let known = self.known();
        for address in known.left.keys() {
            if UdpSocket::bind(SocketAddr::new(*address, 0)).is_err() {
                known.leave(*address);
            }
        }
    }
}

impl Known {
    fn leave(&self, address: IpAddr) {
        let Some(left) = self.left.get(&address) else { return };
        let sessions = left.receiver_count();
        if sessions > 0 {
            info!(%address, sessions, "virtual address left, its sessions are closed");
        }
        left.send_modify(|times| *times += 1);
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

    fn vips() -> Vips {
        let vips = Vips::default();
        vips.replace(HashMap::from([
            ("one".to_owned(), vec!["127.0.0.1".parse().unwrap(), "2001:db8::1".parse().unwrap()]),
            ("two".to_owned(), vec!["192.0.2.2".parse().unwrap()]),
        ]));
        vips
    }

    #[test]
    fn only_the_addresses_of_the_instance_that_leaves_active_are_told() {
        let vips = vips();
        let told = |address: &str| vips.watch(address.parse().unwrap()).unwrap();
        let (one, one6, two) = (told("127.0.0.1"), told("2001:db8::1"), told("192.0.2.2"));
        vips.handle(&transition("one", State::Backup, State::Active));
        vips.handle(&transition("one", State::Initialize, State::Backup));
        assert!(!one.has_changed().unwrap());
        vips.handle(&transition("one", State::Active, State::Fault));
        assert!(one.has_changed().unwrap() && one6.has_changed().unwrap());
        assert!(!two.has_changed().unwrap());
    }

    #[test]
    fn sessions_on_an_address_that_stays_are_watched_through_a_replacement() {
        let vips = vips();
        let watched = vips.watch("192.0.2.2".parse().unwrap()).unwrap();
        vips.replace(HashMap::from([("renamed".to_owned(), vec!["192.0.2.2".parse().unwrap()])]));
        vips.handle(&transition("two", State::Active, State::Backup));
        assert!(!watched.has_changed().unwrap());
        vips.handle(&transition("renamed", State::Active, State::Backup));
        assert!(watched.has_changed().unwrap());
        assert!(vips.watch("127.0.0.1".parse().unwrap()).is_none());
    }

    #[test]
    fn an_address_of_no_instance_never_leaves() {
        assert!(vips().watch("192.0.2.9".parse().unwrap()).is_none());
    }

    #[tokio::test]
    async fn missed_transitions_are_made_up_for_by_looking() {
        let vips = Arc::new(vips());
        let (here, away) = (
            vips.watch("127.0.0.1".parse().unwrap()).unwrap(),
            vips.watch("192.0.2.2".parse().unwrap()).unwrap(),
        );
        let (sender, receiver) = broadcast::channel(1);
        for _ in 0..3 {
            sender.send(transition("none", State::Backup, State::Active)).unwrap();
        }
        drop(sender);
        vips.follow(receiver).await;
        assert!(away.has_changed().unwrap_or(true), "192.0.2.2 is not on this host");
        assert!(!here.has_changed().unwrap_or(false), "127.0.0.1 is");
    }
}
