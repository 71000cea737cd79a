//! A table of nftables that sends what goes to one address and port to another port of that address. It belongs to its
//! socket (`flags owner`), so that it goes with this process.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;

use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::netlink::attributes::octets;
use crate::netlink::kernel::Kernel;
use crate::netlink::nft::{
    Family, HOOK_OUT, META_L4PROTO, META_NFPROTO, NETWORK, REGISTER_1, REGISTER_2, Requests, TRANSPORT,
    addresses, destination_nat, equal, immediate, is_local, meta, payload,
};
use crate::netlink::ruleset::{Chain, Hook, Rule, Ruleset, Table};

const HOOK_PREROUTING: u32 = 0;
/// NF_IP_PRI_NAT_DST.
const DESTINATION: i32 = -100;

/// The table goes with this.
#[derive(Debug)]
pub struct Owned {
    _kernel: Kernel,
}

/// # Errors
///
/// What the kernel says.
pub fn to(address: SocketAddr, port: u16) -> io::Result<Owned> {
    let mut kernel = Kernel::open(NETLINK_NETFILTER)?;
    let table = Table { name: name(address), comment: "vipd: a listener beside another socket", owned: true };
    let mut requests = Requests::default();
    table.make(&mut requests);
    table.change(&mut requests, &Ruleset::default(), &ruleset(address, port));
    requests.send(&mut kernel)?;
    Ok(Owned { _kernel: kernel })
}

fn name(address: SocketAddr) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    let ip: String = address.ip().to_string().chars().map(plain).collect();
    format!("vipd-beside-{ip}-{}-{}", address.port(), std::process::id())
}

fn ruleset(address: SocketAddr, port: u16) -> Ruleset {
    let family = if address.is_ipv6() { Family::Ip6 } else { Family::Ip };
    let (_, length, offset) = addresses(family);
    let parts = is_local().into_iter().chain([
        meta(META_NFPROTO, REGISTER_1),
        equal(REGISTER_1, &[family.number()]),
        payload(NETWORK, offset, length),
        equal(REGISTER_1, &octets(address.ip())),
        meta(META_L4PROTO, REGISTER_1),
        equal(REGISTER_1, &[nix::libc::IPPROTO_TCP as u8]),
        payload(TRANSPORT, 2, 2),
        equal(REGISTER_1, &address.port().to_be_bytes()),
        immediate(REGISTER_1, &octets(address.ip())),
        immediate(REGISTER_2, &port.to_be_bytes()),
        destination_nat(family, true),
    ]);
    let rule = Rule::new(parts).saying("another socket has the port on every address");
    let chain = |number| Chain {
        hook: Some(Hook { kind: "nat", number, priority: DESTINATION }),
        rules: vec![rule.clone()],
    };
    let chains = [("prerouting", chain(HOOK_PREROUTING)), ("output", chain(HOOK_OUT))];
    Ruleset {
        chains: chains.map(|(name, chain)| (name.to_owned(), chain)).into_iter().collect::<BTreeMap<_, _>>(),
        ..Ruleset::default()
    }
}
