//! The tables of the lease in the words of nf_tables, and the requests that make and change them. Pure but for the
//! sending.
//!
//! Each address that this host holds stands in the set of its term, and whether a term runs says a set of protocols,
//! whose elements end by themselves. What goes to an address whose term does not run is dropped before connection
//! tracking and address translation see it, and no ARP packet or neighbour advertisement tells of it. So a few elements
//! are renewed for all addresses that have the same term.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::libc;

use crate::netlink::attributes::{Attributes, octets};
use crate::netlink::kernel::Kernel;
use crate::netlink::nft::{
    ACCEPT, DELSETELEM, DELTABLE, DROP, ELEMENT, Family, META_L4PROTO, META_NFPROTO, NETWORK, NEWCHAIN,
    NEWRULE, NEWSET, NEWSETELEM, NEWTABLE, REGISTER_1, Requests, SUBSYSTEM, TRANSPORT, TYPE_IPV4, TYPE_IPV6,
    VALUE, equal, expression, is_local, lookup, lookup_none, meta, payload, verdict,
};
use crate::netlink::ruleset::{AT_A_TIME, comment};

use super::{Guard, Term};

const GETTABLE: u16 = 1;
const SET_TIMEOUT: u32 = 0x10;
/// Number of `nft` for a set of NFPROTO_IPV4 and the like.
const TYPE_PROTOCOL: u32 = 2;
/// Before everything else, defragmentation excepted.
const FIRST: i32 = -350;
const HOOK_PREROUTING: u32 = 0;
const HOOK_OUTPUT: u32 = 3;
const HOOK_ARP_OUTPUT: u32 = 1;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const NFPROTO_ARP: u8 = 3;
/// Sender's protocol address of an ARP packet for IPv4 over Ethernet.
const ARP_SENDER: u32 = 14;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const COMMENT: &str = "vipd: addresses that nobody renews fall silent";

const IN: &str = "in";
const OUT: &str = "out";
/// One table in the family `inet` and one in `arp`, of the same name.
#[derive(Clone, Debug)]
pub(super) struct Tables {
    pub name: String,
}

impl Tables {
    fn named(&self) -> Attributes {
        Attributes::default().text(1, &self.name)
    }

    /// Whether both are there.
    pub fn exist(&self, kernel: &mut Kernel) -> io::Result<bool> {
        for family in [Family::Inet, Family::Arp] {
            match kernel.ask(SUBSYSTEM | GETTABLE, 0, &[family.number(), 0, 0, 0], &self.named()) {
                Ok(_) => {}
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Both go; it is no error if they are not there.
    pub fn remove(&self, requests: &mut Requests) {
        for family in [Family::Inet, Family::Arp] {
            requests.push(NEWTABLE, libc::NLM_F_CREATE, family, self.named());
            requests.push(DELTABLE, 0, family, self.named());
        }
    }

    /// Both are made anew with room for these terms, and hold this. What was there before holds until the new ones do.
    pub fn make(
        &self,
        requests: &mut Requests,
        terms: &BTreeSet<Term>,
        addresses: &[(IpAddr, Guard)],
        running: &[(Term, Duration)],
    ) {
        self.remove(requests);
        let mut id = 0;
        for (family, chains) in [
            (Family::Inet, &[(IN, HOOK_PREROUTING), (OUT, HOOK_OUTPUT)][..]),
            (Family::Arp, &[(OUT, HOOK_ARP_OUTPUT)]),
        ] {
            let attributes = self.named().with(6, &comment(COMMENT));
            requests.push(NEWTABLE, libc::NLM_F_CREATE, family, attributes);
            for (chain, hook) in chains {
                self.chain(requests, family, chain, *hook);
            }
            for term in terms.iter().copied().chain([Term::ENDED]) {
                let mut set = |name: String, kind, length| {
                    id += 1;
                    self.set(requests, family, id, &name, (kind, length));
                };
                if term != Term::ENDED {
                    set(running_set(term), TYPE_PROTOCOL, 1);
                }
                set(address_set(term, false), TYPE_IPV4, 4);
                if family == Family::Inet {
                    set(address_set(term, true), TYPE_IPV6, 16);
                    self.inet(requests, term);
                } else {
                    let sender = vec![payload(NETWORK, ARP_SENDER, 4)];
                    self.drop(requests, family, OUT, sender, (term, false), false);
                }
            }
        }
        self.addresses(requests, NEWSETELEM, addresses);
        self.terms(requests, NEWSETELEM, running);
    }

    fn inet(&self, requests: &mut Requests, term: Term) {
        let family = Family::Inet;
        for (protocol, offset, length) in [(NFPROTO_IPV4, 16, 4), (NFPROTO_IPV6, 24, 16)] {
            let destination = vec![
                meta(META_NFPROTO, REGISTER_1),
                equal(REGISTER_1, &[protocol]),
                payload(NETWORK, offset, length),
            ];
            // On a router, not what only passes on its way to who has the address now.
            self.drop(requests, family, IN, destination, (term, protocol == NFPROTO_IPV6), true);
        }
        for (kind, base) in [(NEIGHBOR_ADVERTISEMENT, TRANSPORT), (NEIGHBOR_SOLICITATION, NETWORK)] {
            let neighbour = vec![
                meta(META_L4PROTO, REGISTER_1),
                equal(REGISTER_1, &[libc::IPPROTO_ICMPV6 as u8]),
                payload(TRANSPORT, 0, 1),
                equal(REGISTER_1, &[kind]),
                // What it tells of, or who asks: an asker is learned too.
                payload(base, 8, 16),
            ];
            self.drop(requests, family, OUT, neighbour, (term, true), false);
        }
    }

    /// Puts addresses in, or takes them out. One that is there already has to be taken out first.
    pub fn addresses(&self, requests: &mut Requests, kind: u16, addresses: &[(IpAddr, Guard)]) {
        let mut sets: BTreeMap<(Term, bool), Vec<Attributes>> = BTreeMap::new();
        for (address, guard) in addresses {
            let key = Attributes::default().nest(1, &value(&octets(*address)));
            let element = if kind == DELSETELEM { key } else { key.be64(4, millis(guard.kept)) };
            sets.entry((guard.term, address.is_ipv6())).or_default().push(element);
        }
        for ((term, is_ipv6), elements) in sets {
            let set = address_set(term, is_ipv6);
            self.elements(requests, kind, Family::Inet, &set, &elements);
            if !is_ipv6 {
                self.elements(requests, kind, Family::Arp, &set, &elements);
            }
        }
    }

    /// Lets terms run for so long from when the kernel takes it, or ends them.
    pub fn terms(&self, requests: &mut Requests, kind: u16, terms: &[(Term, Duration)]) {
        for (term, left) in terms {
            for (family, protocols) in
                [(Family::Inet, &[NFPROTO_IPV4, NFPROTO_IPV6][..]), (Family::Arp, &[NFPROTO_ARP])]
            {
                let element = |protocol: &u8| {
                    let key = Attributes::default().nest(1, &value(&[*protocol]));
                    if kind == DELSETELEM { key } else { key.be64(4, millis(*left)) }
                };
                let elements: Vec<Attributes> = protocols.iter().map(element).collect();
                self.elements(requests, kind, family, &running_set(*term), &elements);
            }
        }
    }

    fn elements(
        &self,
        requests: &mut Requests,
        kind: u16,
        family: Family,
        set: &str,
        elements: &[Attributes],
    ) {
        let flags = if kind == NEWSETELEM { libc::NLM_F_CREATE } else { 0 };
        for some in elements.chunks(AT_A_TIME) {
            let mut list = Attributes::default();
            for element in some {
                list = list.nest(ELEMENT, element);
            }
            requests.push(kind, flags, family, self.named().text(2, set).nest(3, &list));
        }
    }

    /// Its elements end by themselves; `key`: type and octets.
    fn set(&self, requests: &mut Requests, family: Family, id: u32, name: &str, key: (u32, u32)) {
        let attributes = self.named().text(2, name).be32(3, SET_TIMEOUT).be32(4, key.0).be32(5, key.1);
        requests.push(NEWSET, libc::NLM_F_CREATE, family, attributes.be32(10, id));
    }

    fn chain(&self, requests: &mut Requests, family: Family, name: &str, hook: u32) {
        let hook = Attributes::default().be32(1, hook).be32(2, FIRST.cast_unsigned());
        let attributes = self.named().text(3, name).nest(4, &hook).be32(5, ACCEPT).text(7, "filter");
        requests.push(NEWCHAIN, libc::NLM_F_CREATE, family, attributes);
    }

    /// Drops what has loaded an address into register 1 that is in the set of this term and family, unless the term
    /// runs; `here`: and the address is this host's.
    fn drop(
        &self,
        requests: &mut Requests,
        family: Family,
        chain: &str,
        mut rule: Vec<Attributes>,
        (term, is_ipv6): (Term, bool),
        here: bool,
    ) {
        rule.push(lookup(&address_set(term, is_ipv6), REGISTER_1));
        if term != Term::ENDED {
            rule.extend([meta(META_NFPROTO, REGISTER_1), lookup_none(&running_set(term), REGISTER_1)]);
        }
        if here {
            rule.extend(is_local());
        }
        rule.extend([expression("counter", &Attributes::default()), verdict(DROP, None)]);
        let mut list = Attributes::default();
        for expression in &rule {
            list = list.nest(ELEMENT, expression);
        }
        let attributes = self.named().text(2, chain).nest(4, &list);
        requests.push(NEWRULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, family, attributes);
    }
}

fn running_set(term: Term) -> String {
    format!("running-{}ms", term.length().as_millis())
}

fn address_set(term: Term, is_ipv6: bool) -> String {
    let version = if is_ipv6 { 6 } else { 4 };
    if term == Term::ENDED {
        return format!("silent{version}");
    }
    format!("vips{version}-{}ms", term.length().as_millis())
}

fn value(octets: &[u8]) -> Attributes {
    Attributes::default().with(VALUE, octets)
}

/// At least 1: 0 would be for ever.
fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1)
}
