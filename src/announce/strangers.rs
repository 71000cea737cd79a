//! Who else claims an address that is ours? Watches ARP and neighbour advertisements while an instance is active.
//!
//! A report, never a decision (vrrp-protocol ACD-1 to 3): who gives an address up because of an ARP packet can be made to by
//! anybody. Runs on a thread of its own at ordinary priority, only while something is active; the kernel passes it nothing
//! but packets about these addresses.

mod socket;

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use config::ready::{Config, Family, Instance};
use tokio::sync::broadcast::{self, error::RecvError};

use self::socket::{Ears, Heard};
use crate::observe::event::{Event, EventSender, Kind, State};
use crate::observe::status::{Claim, InstanceStatus};

/// The same claim is told of at most this often (DEFEND_INTERVAL of RFC 5227).
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// After a takeover, what the former active said may still be under way: for so many advert intervals.
const GRACE: u32 = 4;

/// Watches until it is dropped. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Strangers(Arc<Mutex<Watch>>);

#[derive(Debug)]
struct Watch {
    config: Arc<Config>,
    /// Since when.
    active: HashMap<String, Instant>,
    claims: HashMap<(String, IpAddr), Known>,
    events: EventSender,
    ears: Option<Ears>,
}

#[derive(Clone, Debug)]
struct Known {
    claim: Claim,
    told: Instant,
}

impl Strangers {
    /// Follows the state of the instances.
    pub fn start(config: Arc<Config>, mut bus: broadcast::Receiver<Arc<Event>>, events: EventSender) -> Self {
        let (active, claims) = (HashMap::new(), HashMap::new());
        let this = Self(Arc::new(Mutex::new(Watch { config, active, claims, events, ears: None })));
        let watch = Arc::downgrade(&this.0);
        tokio::spawn(async move {
            loop {
                match bus.recv().await {
                    Ok(event) => {
                        let Some(watch) = watch.upgrade() else { return };
                        if let Kind::Transition { instance, to, .. } = &event.kind {
                            Self(watch).follow(instance, *to);
                        }
                    }
                    Err(RecvError::Lagged(_)) => {}
                    Err(RecvError::Closed) => return,
                }
            }
        });
        this
    }

    /// Another configuration runs from now on.
    pub fn reload(&self, config: Arc<Config>) {
        let mut watch = self.watch();
        watch.config = config;
        self.listen(&mut watch);
    }

    /// Puts what was heard beside the addresses.
    pub fn add_to(&self, instances: &mut [InstanceStatus]) {
        let watch = self.watch();
        for instance in instances {
            for address in &mut instance.addresses {
                let bare = address.address.split('/').next().and_then(|bare| bare.parse().ok());
                let known = bare.and_then(|bare| watch.claims.get(&(instance.name.clone(), bare)));
                address.claimed_by = known.map(|known| known.claim.clone());
            }
        }
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn follow(&self, instance: &str, to: State) {
        let mut watch = self.watch();
        if to == State::Active {
            watch.active.insert(instance.to_owned(), Instant::now());
        } else if watch.active.remove(instance).is_none() {
            return;
        }
        watch.claims.retain(|(name, _), _| name != instance);
        self.listen(&mut watch);
    }

    /// Has the kernel pass what concerns the addresses that are held now.
    fn listen(&self, watch: &mut Watch) {
        let addresses: Vec<IpAddr> = watch.holders().flat_map(addresses).collect();
        if addresses.is_empty() {
            watch.ears = None;
            return;
        }
        let listening = match &mut watch.ears {
            Some(ears) => ears.listen_for(&addresses),
            None => {
                let this = Arc::downgrade(&self.0);
                Ears::open(&addresses, move |heard| {
                    this.upgrade().is_some_and(|watch| {
                        Self(watch).watch().judge(Instant::now(), &heard);
                        true
                    })
                })
                .map(|ears| watch.ears = Some(ears))
            }
        };
        if let Err(error) = listening {
            let text = format!("addresses are not watched for others that claim them: {error}");
            watch.events.send(Kind::Notice { text });
        }
    }
}

impl Watch {
    fn holders(&self) -> impl Iterator<Item = &Instance> {
        let active = |instance: &&Arc<Instance>| self.active.contains_key(&instance.name);
        self.config.instances.iter().filter(active).map(|instance| &**instance)
    }

    fn judge(&mut self, now: Instant, heard: &Heard) {
        let concerns = |instance: &&Instance| {
            let here =
                |interface: &str| interface == heard.interface || instance.interface == heard.interface;
            instance.held().any(|address| address.address == heard.address && here(&address.interface))
        };
        let Some(instance) = self.holders().find(concerns) else { return };
        let since = self.active.get(&instance.name).copied().unwrap_or(now);
        if is_virtual_mac(instance, heard.mac)
            || now < since + GRACE * instance.advert_interval
            || socket::is_own(heard.mac)
        {
            return;
        }
        let name = instance.name.clone();
        let mac = mac_text(heard.mac);
        let clock = SystemTime::now();
        let known =
            self.claims.get_mut(&(name.clone(), heard.address)).filter(|known| known.claim.mac == mac);
        let is_news = match known {
            Some(known) => {
                known.claim.last = clock;
                known.claim.times += 1;
                let is_due = now >= known.told + TOLD_EVERY;
                if is_due {
                    known.told = now;
                }
                is_due
            }
            None => {
                let claim = Claim { mac: mac.clone(), since: clock, last: clock, times: 1 };
                self.claims.insert((name.clone(), heard.address), Known { claim, told: now });
                true
            }
        };
        if is_news {
            let interface = heard.interface.clone();
            self.events.send(Kind::AddressClaimed { instance: name, address: heard.address, interface, mac });
        }
    }
}

fn addresses(instance: &Instance) -> Vec<IpAddr> {
    instance.held().map(|address| address.address).collect()
}

/// RFC 9568 §7.3: who has it is a router of ours.
fn is_virtual_mac(instance: &Instance, mac: [u8; 6]) -> bool {
    let family = match instance.family {
        Family::Ipv4 => 1,
        Family::Ipv6 => 2,
    };
    mac == [0, 0, 0x5e, 0, family, instance.vrid]
}

fn mac_text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRANGER: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn watch() -> (Watch, tokio::sync::mpsc::Receiver<Event>, Instant) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("vipd.toml");
        let text = "[[instance]]\nname = \"v\"\ninterface = \"eth0\"\nvrid = 51\nadvert_interval = \"1s\"\n\
                    addresses = [\"192.0.2.1/24\"]\n";
        std::fs::write(&file, text).unwrap();
        let config = config::load(&[&file], &config::LoadOptions::default()).config.unwrap();
        let (events, queue) = EventSender::channel(8);
        let since = Instant::now();
        let active = HashMap::from([("v".to_owned(), since)]);
        let claims = HashMap::new();
        (Watch { config: Arc::new(config), active, claims, events, ears: None }, queue, since)
    }

    fn heard(mac: [u8; 6]) -> Heard {
        Heard { interface: "eth0".into(), mac, address: "192.0.2.1".parse().unwrap() }
    }

    #[test]
    fn a_stranger_is_told_of_once_in_ten_seconds_and_counted() {
        let (mut watch, mut queue, since) = watch();
        for second in 5..=15 {
            watch.judge(since + Duration::from_secs(second), &heard(STRANGER));
        }
        let told: Vec<Kind> = std::iter::from_fn(|| queue.try_recv().ok()).map(|event| event.kind).collect();
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(matches!(&told[0], Kind::AddressClaimed { mac, .. } if mac == "02:00:00:00:00:09"));
        let claim = &watch.claims.values().next().unwrap().claim;
        assert_eq!(claim.times, 11);
        // Another one is other news.
        watch.judge(since + Duration::from_secs(16), &heard([2, 0, 0, 0, 0, 8]));
        assert!(queue.try_recv().is_ok());
    }

    /// ACD-2.
    #[test]
    fn the_virtual_mac_and_what_the_former_active_said_last_are_no_strangers() {
        let (mut watch, _queue, since) = watch();
        watch.judge(since + Duration::from_millis(3999), &heard(STRANGER));
        watch.judge(since + Duration::from_secs(5), &heard([0, 0, 0x5e, 0, 1, 51]));
        assert!(watch.claims.is_empty());
        // That of another virtual router is one.
        watch.judge(since + Duration::from_secs(5), &heard([0, 0, 0x5e, 0, 1, 52]));
        assert_eq!(watch.claims.len(), 1);
    }

    #[test]
    fn other_addresses_and_other_interfaces_do_not_concern_us() {
        let (mut watch, _queue, since) = watch();
        let later = since + Duration::from_secs(5);
        watch.judge(later, &Heard { interface: "eth1".into(), ..heard(STRANGER) });
        watch.judge(later, &Heard { address: "192.0.2.2".parse().unwrap(), ..heard(STRANGER) });
        watch.active.clear();
        watch.judge(later, &heard(STRANGER));
        assert!(watch.claims.is_empty());
    }
}
