//! What the kernel has: links and their addresses, kept up to date by its own news.
//!
//! Pure: news in, facts out. Who asked for a change is known too, so that our own changes are no facts.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;

use super::news::News;

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Never 0. An interface that is made anew has another one.
    pub index: u32,
    /// At most 15 octets.
    pub name: String,
    /// Administratively up and running (it has a carrier).
    pub up: bool,
    /// Ethernet address; `None` for links that have none, or one of another size.
    pub mac: Option<[u8; 6]>,
    /// Largest packet, in octets.
    pub mtu: u32,
    /// It can carry multicast (IFF_MULTICAST).
    pub multicast: bool,
    /// It answers ARP (not IFF_NOARP); announcements make no sense without.
    pub arp: bool,
    /// A macvlan in private mode: the index of what is below it.
    pub private_over: Option<u32>,
    /// In the order they appeared.
    pub addresses: Vec<LinkAddress>,
}

impl Link {
    /// The first entry of this address, with any prefix length.
    pub fn address(&self, address: IpAddr) -> Option<&LinkAddress> {
        self.addresses.iter().find(|entry| entry.address == address)
    }
}

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkAddress {
    /// The near end.
    pub address: IpAddr,
    /// 0–32 or 0–128; of the far end, if there is one.
    pub prefix: u8,
    /// rtnetlink scope: 0 global, 200 site, 253 link, 254 host.
    pub scope: u8,
    /// `IFA_F_*`.
    pub flags: u32,
}

impl LinkAddress {
    /// The kernel lets it be a source: it is not under test for duplicates, and none was found.
    pub fn is_usable(&self) -> bool {
        const DAD_FAILED: u32 = 0x08;
        const TENTATIVE: u32 = 0x40;
        self.flags & (DAD_FAILED | TENTATIVE) == 0
    }
}

/// What changed, and nobody here asked for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fact {
    /// A link appeared, or something changed that matters here.
    LinkChanged {
        /// Its index.
        index: u32,
        /// Its name.
        name: String,
        /// [`Link::up`] before; `false` for one that appeared.
        up_before: bool,
        /// [`Link::up`] now.
        up_now: bool,
        /// There was no link of this name and index before.
        appeared: bool,
        /// Its Ethernet address is another one now: addresses have to be announced again.
        mac_changed: bool,
    },
    /// A link went away; so did all its addresses. A renamed link is removed, then appears.
    LinkRemoved {
        /// The index it had.
        index: u32,
        /// The name it had.
        name: String,
    },
    /// An address appeared, or can be used now, or no longer.
    AddressAdded {
        /// Of the link.
        index: u32,
        /// The near end.
        address: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// An address went away.
    AddressRemoved {
        /// Of the link.
        index: u32,
        /// The near end.
        address: IpAddr,
        /// Prefix length.
        prefix: u8,
    },
    /// News were lost, and everything was read again. The facts that were found so come next.
    Overrun,
    /// A route with one of the watched protocol numbers went away, whoever removed it.
    RouteRemoved {
        /// Its family.
        is_ipv6: bool,
        /// `None`: default.
        destination: Option<IpAddr>,
        /// Prefix length.
        prefix: u8,
        /// Its table.
        table: u32,
    },
    /// A rule went away, whoever removed it.
    RuleRemoved {
        /// Its family.
        is_ipv6: bool,
        /// Its preference.
        preference: u32,
    },
    /// News of routes or rules were lost.
    EntriesUnknown,
}

/// All links, by index and by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Links {
    links: BTreeMap<u32, Link>,
    names: HashMap<String, u32>,
}

impl Links {
    /// The link with this name.
    pub fn by_name(&self, name: &str) -> Option<&Link> {
        self.names.get(name).and_then(|index| self.links.get(index))
    }

    /// The link with this index.
    pub fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.get(&index)
    }

    /// All, in the order of their indices.
    pub fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }
}

/// An address as the kernel tells it apart: the same one may be there with two prefix lengths (IPv4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct AddressKey {
    pub index: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

/// What a request that is under way will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Add,
    Remove,
}

/// A request that is under way.
#[derive(Clone, Copy, Debug)]
struct Expected {
    ticket: u64,
    key: AddressKey,
    change: Change,
    /// Somebody did the opposite since; what the answer says is not the last word then.
    contradicted: bool,
}

/// The links, the facts nobody has taken yet, and the requests under way.
#[derive(Debug, Default)]
pub(super) struct Table {
    pub links: Links,
    pub facts: VecDeque<Fact>,
    expected: Vec<Expected>,
    ticket: u64,
    reading: Option<Reading>,
}

/// A full reading that is under way: what it has seen so far.
#[derive(Debug, Default)]
struct Reading {
    links: HashSet<u32>,
    addresses: HashSet<AddressKey>,
}

impl Table {
    /// A request will be sent: its news is no fact. The ticket settles it.
    pub fn expect(&mut self, key: AddressKey, change: Change) -> u64 {
        self.ticket += 1;
        self.expected.push(Expected { ticket: self.ticket, key, change, contradicted: false });
        self.ticket
    }

    /// The request was answered. `done`: the kernel has made the change, or it was so already.
    ///
    /// IPv6 addresses get their news from a kernel worker, a little after the answer; the table is
    /// right at once nevertheless.
    pub fn settle(&mut self, ticket: u64, done: Option<LinkAddress>) {
        let Some(position) = self.expected.iter().position(|e| e.ticket == ticket) else { return };
        let expected = self.expected.swap_remove(position);
        let Some(address) = done else { return };
        if expected.contradicted {
            return;
        }
        match expected.change {
            Change::Add => {
                if let Some(link) = self.links.links.get_mut(&expected.key.index)
                    && !link.addresses.iter().any(|entry| is(entry, &expected.key))
                {
                    link.addresses.push(address);
                    if let Some(reading) = &mut self.reading {
                        reading.addresses.insert(expected.key);
                    }
                }
            }
            Change::Remove => {
                self.take_address(&expected.key);
            }
        }
    }

    /// Every link and address will be read: what is not seen until [`Table::finish_addresses`] is gone.
    pub fn begin_reading(&mut self) {
        self.reading = Some(Reading::default());
    }

    /// All links were read.
    pub fn finish_links(&mut self) {
        let Some(reading) = &self.reading else { return };
        let gone: Vec<u32> =
            self.links.links.keys().filter(|i| !reading.links.contains(i)).copied().collect();
        for index in gone {
            self.remove_link(index);
        }
    }

    /// All addresses were read.
    pub fn finish_addresses(&mut self) {
        let Some(reading) = self.reading.take() else { return };
        let gone: Vec<AddressKey> = self
            .links
            .links
            .values()
            .flat_map(|link| link.addresses.iter().map(|entry| key(link.index, entry)))
            .filter(|key| !reading.addresses.contains(key))
            .collect();
        for key in gone {
            self.remove_address(key);
        }
    }

    /// Takes one piece of news, in the kernel's order.
    pub fn apply(&mut self, news: News) {
        match news {
            News::Link(link) => self.put_link(link),
            News::LinkGone { index } => self.remove_link(index),
            News::Address { index, address } => self.put_address(index, address),
            News::AddressGone { index, address } => self.remove_address(key(index, &address)),
        }
    }

    fn put_link(&mut self, mut new: Link) {
        if let Some(reading) = &mut self.reading {
            reading.links.insert(new.index);
        }
        let index = new.index;
        let before = self.links.links.remove(&index);
        let mut appeared = true;
        let mut up_before = false;
        let mut mac_changed = false;
        let mut other_changed = false;
        if let Some(before) = before {
            new.addresses = before.addresses;
            if new.mtu == 0 {
                // An event of a wireless driver: it has the name and the flags, and nothing else.
                (new.mac, new.mtu, new.private_over) = (before.mac, before.mtu, before.private_over);
            }
            if before.name == new.name {
                appeared = false;
                up_before = before.up;
                mac_changed = before.mac != new.mac;
                other_changed =
                    (before.mtu, before.multicast, before.arp) != (new.mtu, new.multicast, new.arp);
            } else {
                if self.links.names.get(&before.name) == Some(&index) {
                    self.links.names.remove(&before.name);
                }
                self.facts.push_back(Fact::LinkRemoved { index, name: before.name });
            }
        }
        if appeared || up_before != new.up || mac_changed || other_changed {
            let name = new.name.clone();
            self.facts.push_back(Fact::LinkChanged {
                index,
                name,
                up_before,
                up_now: new.up,
                appeared,
                mac_changed,
            });
        }
        self.links.names.insert(new.name.clone(), index);
        self.links.links.insert(index, new);
    }

    fn remove_link(&mut self, index: u32) {
        if let Some(reading) = &mut self.reading {
            reading.links.remove(&index);
            reading.addresses.retain(|key| key.index != index);
        }
        let Some(gone) = self.links.links.remove(&index) else { return };
        if self.links.names.get(&gone.name) == Some(&index) {
            self.links.names.remove(&gone.name);
        }
        for expected in self.expected.iter_mut().filter(|e| e.key.index == index) {
            expected.contradicted = true;
        }
        self.facts.push_back(Fact::LinkRemoved { index, name: gone.name });
    }

    fn put_address(&mut self, index: u32, address: LinkAddress) {
        let key = key(index, &address);
        if let Some(reading) = &mut self.reading {
            reading.addresses.insert(key);
        }
        let Some(link) = self.links.links.get_mut(&index) else { return };
        if let Some(entry) = link.addresses.iter_mut().find(|entry| is(entry, &key)) {
            let changed = entry.is_usable() != address.is_usable();
            *entry = address;
            if changed {
                self.facts.push_back(Fact::AddressAdded { index, address: key.address, prefix: key.prefix });
            }
            return;
        }
        link.addresses.push(address);
        if !self.is_expected(&key, Change::Add) {
            self.facts.push_back(Fact::AddressAdded { index, address: key.address, prefix: key.prefix });
        }
    }

    fn remove_address(&mut self, key: AddressKey) {
        if let Some(reading) = &mut self.reading {
            reading.addresses.remove(&key);
        }
        let was_there = self.take_address(&key);
        let ours = self.is_expected(&key, Change::Remove);
        // Without an entry it still counts if it contradicts an addition that is under way.
        if !ours && (was_there || self.expected.iter().any(|e| e.key == key)) {
            let AddressKey { index, address, prefix } = key;
            self.facts.push_back(Fact::AddressRemoved { index, address, prefix });
        }
    }

    fn take_address(&mut self, key: &AddressKey) -> bool {
        let Some(link) = self.links.links.get_mut(&key.index) else { return false };
        let before = link.addresses.len();
        link.addresses.retain(|entry| !is(entry, key));
        link.addresses.len() < before
    }

    /// Whether a request under way explains this change; one that wants the opposite is contradicted.
    fn is_expected(&mut self, key: &AddressKey, change: Change) -> bool {
        let mut expected = false;
        for request in self.expected.iter_mut().filter(|e| e.key == *key) {
            request.contradicted = request.change != change;
            expected |= request.change == change;
        }
        expected
    }
}

fn key(index: u32, entry: &LinkAddress) -> AddressKey {
    AddressKey { index, address: entry.address, prefix: entry.prefix }
}

fn is(entry: &LinkAddress, key: &AddressKey) -> bool {
    (entry.address, entry.prefix) == (key.address, key.prefix)
}
