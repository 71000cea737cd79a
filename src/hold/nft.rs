//! nf_tables in netlink's words (`linux/netfilter/nf_tables.h`): tables, sets, chains and rules as keepalived 2.2.7
//! makes them.

use std::io;
use std::net::IpAddr;

use config::ready;
use nix::libc;

use super::firewall::{OverBase, Silenced};
use crate::netlink::attributes::{Attributes, octets};
use crate::netlink::kernel::Kernel;
use crate::netlink::nft::{
    ACCEPT, CONCATENATED, DELSETELEM, DELTABLE, DROP, ELEMENT, Family, GOTO, HOOK_IN, HOOK_OUT, META_IIF,
    META_L4PROTO, META_OIF, META_OIFKIND, NETWORK, NEWCHAIN, NEWRULE, NEWSET, NEWSETELEM, NEWTABLE,
    REGISTER_1, REGISTER_2, Requests, SET_CONSTANT, SET_MAP, TRANSPORT, TYPE_IPV4, TYPE_IPV6, VALUE, VERDICT,
    addresses, equal, expression, lookup, mask, meta, payload, payload_to, translate,
};

const TYPE_ETHERNET: u32 = 9;
const TYPE_IFINDEX: u32 = 20;
const TYPE_ICMPV6: u32 = 29;

/// NFT_REG32_00 and 01, the first and the second four octets of NFT_REG_1.
const REGISTER_1_0: u32 = 8;
const REGISTER_1_1: u32 = 9;

/// NF_ARP_IN.
const HOOK_ARP_IN: u32 = 0;
/// Of the sender's MAC in an ARP packet for Ethernet (RFC 826).
const ARP_SENDER: u32 = 8;

const MLD2_REPORT: u8 = 143;
const ROUTER_SOLICITATION: u8 = 133;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// What a table has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Table {
    pub exists: bool,
    vips: bool,
    vmacs: bool,
}

/// Requests that take effect together.
#[derive(Debug)]
pub(super) struct Batch {
    options: ready::Firewall,
    requests: Requests,
    set_id: u32,
}

impl Batch {
    pub fn new(options: &ready::Firewall) -> Self {
        Self { options: options.clone(), requests: Requests::default(), set_id: 0 }
    }

    pub fn send(self, kernel: &mut Kernel) -> io::Result<()> {
        self.requests.send(kernel)
    }

    fn push(&mut self, kind: u16, flags: libc::c_int, family: Family, attributes: Attributes) {
        self.requests.push(kind, flags, family, attributes);
    }

    fn named(&self) -> Attributes {
        Attributes::default().text(1, &self.options.table)
    }

    pub fn make_table(&mut self, family: Family) {
        self.push(NEWTABLE, libc::NLM_F_CREATE, family, self.named());
    }

    pub fn remove_table(&mut self, family: Family) {
        self.push(DELTABLE, 0, family, self.named());
    }

    /// Makes what is missing. The rules for VMACs stand before those for addresses, whenever they are made.
    pub fn need(&mut self, family: Family, table: &mut Table, vips: bool, vmacs: bool) {
        if !table.exists {
            self.make_table(family);
            self.chain(family, "out", Some(HOOK_OUT));
            table.exists = true;
        }
        if vmacs && !table.vmacs {
            self.need_vmacs(family);
            table.vmacs = true;
        }
        if vips && !table.vips {
            self.need_vips(family);
            table.vips = true;
        }
    }

    fn need_vmacs(&mut self, family: Family) {
        self.set(family, "vmac_map", TYPE_IFINDEX, 4, SET_MAP);
        let (_, length, destination) = addresses(family);
        // Inserted at the front, so the last one first.
        if family == Family::Ip6 {
            self.set(family, "vmac_set", TYPE_IFINDEX, 4, 0);
            let mut solicitation = icmpv6_type(ROUTER_SOLICITATION);
            solicitation.extend(leaves_by_macvlan());
            solicitation.extend([meta(META_OIF, REGISTER_1), lookup("vmac_set", REGISTER_1)]);
            self.rule(family, "out", solicitation, DROP, true);
        }
        let mut report = if family == Family::Ip6 {
            icmpv6_type(MLD2_REPORT)
        } else {
            vec![payload(NETWORK, 9, 1), equal(REGISTER_1, &[libc::IPPROTO_IGMP as u8])]
        };
        report.extend(leaves_by_macvlan());
        report.extend([
            payload(NETWORK, destination, length),
            meta(META_OIF, REGISTER_2),
            translate("vmac_map", REGISTER_2),
            expression("dup", &Attributes::default().be32(1, REGISTER_1).be32(2, REGISTER_2)),
        ]);
        self.rule(family, "out", report, DROP, true);
    }

    fn need_vips(&mut self, family: Family) {
        let (source, length, destination) = addresses(family);
        self.chain(family, "in", Some(HOOK_IN));
        match family {
            Family::Ip | Family::Arp | Family::Inet => self.set(family, "vips", TYPE_IPV4, 4, 0),
            Family::Ip6 => {
                self.set(family, "vips", TYPE_IPV6, 16, 0);
                self.set(family, "neighbor-discovery", TYPE_ICMPV6, 1, SET_CONSTANT);
                for kind in [NEIGHBOR_SOLICITATION, NEIGHBOR_ADVERTISEMENT] {
                    self.element(family, "neighbor-discovery", &[kind], None, true);
                }
                self.set(family, "vips_link_local", TYPE_IPV6 << CONCATENATED | TYPE_IFINDEX, 20, 0);
                for (chain, offset, key, link_local) in [
                    ("in", destination, META_IIF, "in_link_local"),
                    ("out", source, META_OIF, "out_link_local"),
                ] {
                    self.chain(family, link_local, None);
                    let discovery = vec![
                        meta(META_L4PROTO, REGISTER_1),
                        equal(REGISTER_1, &[libc::IPPROTO_ICMPV6 as u8]),
                        payload(TRANSPORT, 0, 1),
                        lookup("neighbor-discovery", REGISTER_1),
                    ];
                    self.rule(family, chain, discovery, ACCEPT, false);
                    // fe80::/10
                    let is_link_local = vec![
                        payload(NETWORK, offset, length),
                        mask(REGISTER_1, &prefix_mask()),
                        equal(REGISTER_1, &prefix()),
                    ];
                    self.jump(family, chain, is_link_local, link_local);
                    let here = vec![
                        payload(NETWORK, offset, length),
                        meta(key, REGISTER_2),
                        lookup("vips_link_local", REGISTER_1),
                    ];
                    self.rule(family, link_local, here, DROP, false);
                }
            }
        }
        for (chain, offset) in [("in", destination), ("out", source)] {
            let matches = vec![payload(NETWORK, offset, length), lookup("vips", REGISTER_1)];
            self.rule(family, chain, matches, DROP, false);
        }
    }

    /// A VMAC does not hear ARP that another holder of its MAC sent.
    ///
    /// The new holder announces with the same MAC before the old one has let go; were the old one to answer, the switch
    /// would send it the traffic again.
    pub fn deaf_vmac(&mut self, table: &mut Table, one: OverBase, add: bool) {
        let family = Family::Arp;
        if !table.exists {
            self.make_table(family);
            self.chain(family, "in", Some(HOOK_ARP_IN));
            self.set(family, "vmacs", TYPE_IFINDEX << CONCATENATED | TYPE_ETHERNET, 12, 0);
            let from_another = vec![
                meta(META_IIF, REGISTER_1_0),
                payload_to(REGISTER_1_1, NETWORK, ARP_SENDER, 6),
                lookup("vmacs", REGISTER_1),
            ];
            self.rule(family, "in", from_another, DROP, false);
            table.exists = true;
        }
        let mut key = one.vmac.to_ne_bytes().to_vec();
        key.extend(one.mac);
        key.extend([0; 2]);
        self.element(family, "vmacs", &key, None, add);
    }

    pub fn silenced(&mut self, family: Family, one: Silenced, add: bool) {
        let mut key = octets(one.address);
        let is_link_local = matches!(one.address, IpAddr::V6(address) if address.is_unicast_link_local());
        if is_link_local {
            key.extend(one.interface.to_ne_bytes());
        }
        self.element(family, if is_link_local { "vips_link_local" } else { "vips" }, &key, None, add);
    }

    pub fn vmac(&mut self, family: Family, one: OverBase, add: bool) {
        let (vmac, base) = (one.vmac.to_ne_bytes(), one.base.to_ne_bytes());
        self.element(family, "vmac_map", &vmac, Some(&base), add);
        if family == Family::Ip6 {
            self.element(family, "vmac_set", &vmac, None, add);
        }
    }

    fn chain(&mut self, family: Family, name: &str, hook: Option<u32>) {
        let mut attributes = self.named().text(3, name);
        if let Some(number) = hook {
            let priority = self.options.priority.cast_unsigned();
            let hook = Attributes::default().be32(1, number).be32(2, priority);
            attributes = attributes.nest(4, &hook).be32(5, ACCEPT).text(7, "filter");
        }
        self.push(NEWCHAIN, libc::NLM_F_CREATE, family, attributes);
    }

    fn set(&mut self, family: Family, name: &str, kind: u32, length: u32, flags: u32) {
        self.set_id += 1;
        let mut attributes =
            self.named().text(2, name).be32(3, flags).be32(4, kind).be32(5, length).be32(10, self.set_id);
        if flags & SET_MAP != 0 {
            attributes = attributes.be32(6, TYPE_IFINDEX).be32(7, 4);
        }
        if kind == TYPE_IFINDEX {
            // For `nft`, which shows the numbers: key and data are in the host's order.
            attributes = attributes.with(13, &in_host_order(flags & SET_MAP != 0));
        }
        self.push(NEWSET, libc::NLM_F_CREATE, family, attributes);
    }

    fn element(&mut self, family: Family, set: &str, key: &[u8], data: Option<&[u8]>, add: bool) {
        let mut element = Attributes::default().nest(1, &Attributes::default().with(VALUE, key));
        if let Some(data) = data {
            element = element.nest(2, &Attributes::default().with(VALUE, data));
        }
        let elements = Attributes::default().nest(ELEMENT, &element);
        let attributes = self.named().text(2, set).nest(3, &elements);
        let (kind, flags) = if add { (NEWSETELEM, libc::NLM_F_CREATE) } else { (DELSETELEM, 0) };
        self.push(kind, flags, family, attributes);
    }

    fn rule(&mut self, family: Family, chain: &str, matches: Vec<Attributes>, verdict: u32, first: bool) {
        let verdict = Attributes::default().be32(1, verdict);
        self.rule_with(family, chain, matches, &verdict, first);
    }

    fn jump(&mut self, family: Family, chain: &str, matches: Vec<Attributes>, to: &str) {
        let verdict = Attributes::default().be32(1, GOTO).text(2, to);
        self.rule_with(family, chain, matches, &verdict, false);
    }

    fn rule_with(
        &mut self,
        family: Family,
        chain: &str,
        mut expressions: Vec<Attributes>,
        verdict: &Attributes,
        first: bool,
    ) {
        if self.options.counters {
            expressions.push(expression("counter", &Attributes::default()));
        }
        let verdict = Attributes::default().nest(VERDICT, verdict);
        expressions.push(expression("immediate", &Attributes::default().be32(1, 0).nest(2, &verdict)));
        let mut list = Attributes::default();
        for expression in &expressions {
            list = list.nest(ELEMENT, expression);
        }
        let attributes = self.named().text(2, chain).nest(4, &list);
        let flags = libc::NLM_F_CREATE | if first { 0 } else { libc::NLM_F_APPEND };
        self.push(NEWRULE, flags, family, attributes);
    }
}

/// NFTNL_UDATA_SET_KEYBYTEORDER (0), NFTNL_UDATA_SET_DATABYTEORDER (1): kind u8, length u8, then 1 as u32.
fn in_host_order(has_data: bool) -> Vec<u8> {
    let one = |kind: u8| [[kind, 4].to_vec(), 1_u32.to_ne_bytes().to_vec()].concat();
    let mut all = one(0);
    if has_data {
        all.extend(one(1));
    }
    all
}

fn icmpv6_type(kind: u8) -> Vec<Attributes> {
    vec![
        meta(META_L4PROTO, REGISTER_1),
        equal(REGISTER_1, &[libc::IPPROTO_ICMPV6 as u8]),
        payload(TRANSPORT, 0, 1),
        equal(REGISTER_1, &[kind]),
    ]
}

/// `meta oifkind "macvlan"`; names are compared in 16 octets.
fn leaves_by_macvlan() -> Vec<Attributes> {
    let mut kind = [0; 16];
    kind[..7].copy_from_slice(b"macvlan");
    vec![meta(META_OIFKIND, REGISTER_1), equal(REGISTER_1, &kind)]
}

/// fe80::/10
fn prefix() -> [u8; 16] {
    let mut prefix = [0; 16];
    (prefix[0], prefix[1]) = (0xfe, 0x80);
    prefix
}

fn prefix_mask() -> [u8; 16] {
    let mut mask = [0; 16];
    (mask[0], mask[1]) = (0xff, 0xc0);
    mask
}
