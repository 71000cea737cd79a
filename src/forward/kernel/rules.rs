//! The table that stands for the listeners: who goes where, whose source is changed, what is refused. Pure.
//!
//! Everything but [`ONLY_OURS`] sees the first packet of a session alone; octets are counted by connection tracking.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use config::ready::{Balance, Persistence, Protocol};

use super::pool::{Member, Share, places};
use crate::netlink::attributes::{Attributes, octets};
use crate::netlink::nft::{
    ACCEPT, CT_DST_IP, CT_DST_IP6, CT_PROTO_DST, CT_STATE, CT_STATUS, DROP, FIRST_WORD, Family, GOTO,
    HOOK_IN, HOOK_OUT, META_L4PROTO, META_MARK, META_NFPROTO, NETWORK, ORIGINAL, REGISTER_1, REGISTER_2,
    TRANSPORT, TYPE_IPV4, TYPE_IPV6, TYPE_MARK, TYPE_PORT, TYPE_PROTOCOL, addresses, conntrack, count,
    destination_nat, equal, expression, hash, immediate, is_local, lookup, mask, meta, not_equal, number,
    payload, payload_to, reject_port, reject_reset, remember, translate_to_verdict, verdict,
};
use crate::netlink::ruleset::{Chain, Holds, Hook, Part, Rule, Ruleset, Set, To};

const HOOK_PREROUTING: u32 = 0;
const HOOK_FORWARD: u32 = 2;
const HOOK_POSTROUTING: u32 = 4;
/// NF_IP_PRI_NAT_DST, NF_IP_PRI_NAT_SRC.
const DESTINATION: i32 = -100;
const SOURCE: i32 = 100;
/// Beside others at NF_IP_PRI_FILTER, a little before.
const BEFORE_FILTER: i32 = -5;
/// IP_CT_NEW as a bit of `ct state`; IPS_DST_NAT.
const STATE_NEW: u32 = 8;
const DESTINATION_CHANGED: u32 = 0x20;
/// Clients that persistence remembers for each backend.
const MOST_CLIENTS: u32 = 262_144;
/// Of `jhash`: any that stays.
const SEED: u32 = 0x7669_7064;
const LONGEST_NAME: usize = 60;

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Of one family. None: what has one of the marks, and goes to this host.
    pub bind: Vec<SocketAddr>,
    /// Firewall marks; over TCP and UDP.
    pub marks: Vec<u32>,
    /// Whether all of it is IPv6.
    pub is_ipv6: bool,
    /// TCP or UDP, of `bind`.
    pub protocol: Protocol,
    /// How the kernel draws.
    pub balance: Balance,
    /// Whether backends see this host's address instead of the client's.
    pub source_nat: bool,
    /// Whether clients that come again go where they were.
    pub persistence: Option<Persistence>,
    /// All backends, in the order of the configuration.
    pub members: Vec<Member>,
}

impl Service {
    /// What it carries.
    fn protocols(&self) -> &'static [Protocol] {
        match self.protocol {
            _ if !self.marks.is_empty() => &[Protocol::Tcp, Protocol::Udp],
            Protocol::Tcp => &[Protocol::Tcp],
            Protocol::Udp => &[Protocol::Udp],
        }
    }
}

/// What the table does beside carrying listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// Forwarding was switched on for us: nobody else's IPv4 packets are forwarded.
    pub only_ours_ipv4: bool,
    /// The same for IPv6.
    pub only_ours_ipv6: bool,
    /// Connection tracking counted nothing before.
    pub counting_was_off: bool,
}

/// Chains that tell a later life that forwarding was off before.
pub const ONLY_OURS: [&str; 2] = ["only-ours-ipv4", "only-ours-ipv6"];
/// The same of counting: an empty chain.
pub const COUNTING_WAS_OFF: &str = "counting-was-off";

/// The names that things of a backend have in the table.
pub struct Names {
    chain: String,
    clients: String,
    /// New sessions.
    pub sessions: String,
}

impl Names {
    /// Of a backend of a listener.
    pub fn of(listener: &str, backend: &str) -> Self {
        let name = format!("{}/{}", word(listener), word(backend));
        Self {
            chain: format!("backend-{name}"),
            clients: format!("clients-{name}"),
            sessions: format!("sessions-{name}"),
        }
    }

    /// The counter of a listener's refused sessions.
    pub fn refused(listener: &str) -> String {
        format!("refused-{}", word(listener))
    }
}

/// What `nft` takes for a name. One that had to be changed for it stays unique by a number.
fn word(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    let mut made: String = name.chars().map(|c| if fits(c) { c } else { '_' }).take(LONGEST_NAME).collect();
    if made != name {
        let fnv = |hash: u32, octet: u8| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193);
        made += &format!("-{:08x}", name.bytes().fold(0x811c_9dc5, fnv));
    }
    made
}

/// The whole table.
pub fn ruleset(services: &BTreeMap<String, Service>, router: Router) -> Ruleset {
    let mut ruleset = Ruleset::default();
    for is_ipv6 in [false, true] {
        let mut of_family = services.values().filter(|service| service.is_ipv6 == is_ipv6).peekable();
        if of_family.peek().is_none() {
            continue;
        }
        // IPVS looks at the mark first too.
        if of_family.any(|service| !service.marks.is_empty()) {
            skeleton(&mut ruleset, is_ipv6, &BY_MARK);
        }
        skeleton(&mut ruleset, is_ipv6, &BY_ADDRESS);
    }
    if ruleset.chains.is_empty() {
        return ruleset;
    }
    for (only_ours, name, is_ipv6) in
        [(router.only_ours_ipv4, ONLY_OURS[0], false), (router.only_ours_ipv6, ONLY_OURS[1], true)]
    {
        if only_ours {
            ruleset.chains.insert(name.to_owned(), nobody_elses(is_ipv6));
        }
    }
    if router.counting_was_off {
        ruleset.chains.insert(COUNTING_WAS_OFF.to_owned(), Chain::default());
    }
    for (name, service) in services {
        listener(&mut ruleset, name, service);
    }
    ruleset
}

fn family(is_ipv6: bool) -> Family {
    if is_ipv6 { Family::Ip6 } else { Family::Ip }
}

/// `meta nfproto ipv4`
fn of_family(is_ipv6: bool) -> [Attributes; 2] {
    [meta(META_NFPROTO, REGISTER_1), equal(REGISTER_1, &[family(is_ipv6).number()])]
}

/// Words that an address fills.
fn words(is_ipv6: bool) -> u32 {
    if is_ipv6 { 4 } else { 1 }
}

/// `ct status dnat`
fn destination_changed() -> [Attributes; 3] {
    [
        conntrack(CT_STATUS, None, REGISTER_1),
        mask(REGISTER_1, &DESTINATION_CHANGED.to_ne_bytes()),
        not_equal(REGISTER_1, &0_u32.to_ne_bytes()),
    ]
}

fn numbered(name: &str, is_ipv6: bool) -> String {
    format!("{name}{}", if is_ipv6 { 6 } else { 4 })
}

/// Where a packet goes to: address . protocol . port, from register 1 on.
fn destination(is_ipv6: bool) -> [Attributes; 3] {
    let (_, length, offset) = addresses(family(is_ipv6));
    let next = FIRST_WORD + words(is_ipv6);
    [
        payload_to(FIRST_WORD, NETWORK, offset, length),
        meta(META_L4PROTO, next),
        payload_to(next + 1, TRANSPORT, 2, 2),
    ]
}

/// Where the client wanted to: address . protocol . port, from register 1 on.
fn wanted(is_ipv6: bool) -> [Attributes; 3] {
    let next = FIRST_WORD + words(is_ipv6);
    [
        conntrack(if is_ipv6 { CT_DST_IP6 } else { CT_DST_IP }, Some(ORIGINAL), FIRST_WORD),
        meta(META_L4PROTO, next),
        conntrack(CT_PROTO_DST, Some(ORIGINAL), next + 1),
    ]
}

fn number_of(protocol: Protocol) -> u8 {
    let number = match protocol {
        Protocol::Tcp => nix::libc::IPPROTO_TCP,
        Protocol::Udp => nix::libc::IPPROTO_UDP,
    };
    number.to_le_bytes()[0]
}

fn key(protocol: Protocol, address: SocketAddr) -> Vec<u8> {
    let mut key = octets(address.ip());
    key.extend([number_of(protocol), 0, 0, 0]);
    key.extend(port(address));
    key
}

/// In four octets.
fn port(address: SocketAddr) -> [u8; 4] {
    let [high, low] = address.port().to_be_bytes();
    [high, low, 0, 0]
}

fn base(kind: &'static str, number: u32, priority: i32) -> Chain {
    Chain { hook: Some(Hook { kind, number, priority }), rules: Vec::new() }
}

/// The maps in which a packet's listener is looked up, what to do without a backend, and whose source is changed.
struct Maps {
    services: &'static str,
    no_backend: &'static str,
    source_nat: &'static str,
    is_by_mark: bool,
}

const BY_ADDRESS: Maps =
    Maps { services: "services", no_backend: "no-backend", source_nat: "source-nat", is_by_mark: false };
const BY_MARK: Maps = Maps {
    services: "marked-services",
    no_backend: "marked-no-backend",
    source_nat: "marked-source-nat",
    is_by_mark: true,
};

/// Chains at the hooks, and the maps that they look into.
fn skeleton(ruleset: &mut Ruleset, is_ipv6: bool, maps: &Maps) {
    let name = |name: &str| numbered(name, is_ipv6);
    let address = if is_ipv6 { TYPE_IPV6 } else { TYPE_IPV4 };
    let (key, length) = match maps.is_by_mark {
        true => (TYPE_MARK, 4),
        false => ((address << 6 | TYPE_PROTOCOL) << 6 | TYPE_PORT, 4 * words(is_ipv6) + 8),
    };
    for (set, holds) in
        [(maps.services, Holds::Verdicts), (maps.no_backend, Holds::Verdicts), (maps.source_nat, Holds::Keys)]
    {
        ruleset.sets.insert(name(set), Set { key, length, holds });
    }
    let mark = || vec![meta(META_MARK, FIRST_WORD)];
    let destination = || if maps.is_by_mark { mark() } else { destination(is_ipv6).to_vec() };
    let wanted = || if maps.is_by_mark { mark() } else { wanted(is_ipv6).to_vec() };
    let mut rule = |chain: &str, hook: Chain, rule: Rule| {
        ruleset.chains.entry(chain.to_owned()).or_insert(hook).rules.push(rule);
    };
    for (chain, number) in [("prerouting", HOOK_PREROUTING), ("output", HOOK_OUT)] {
        let parts = is_local().into_iter().chain(of_family(is_ipv6)).chain(destination());
        let parts = parts.chain([translate_to_verdict(&name(maps.services), FIRST_WORD)]);
        rule(chain, base("nat", number, DESTINATION), Rule::new(parts));
    }
    let parts = destination_changed().into_iter().chain(of_family(is_ipv6)).chain(wanted());
    let parts =
        parts.chain([lookup(&name(maps.source_nat), FIRST_WORD), expression("masq", &Attributes::default())]);
    rule("postrouting", base("nat", HOOK_POSTROUTING, SOURCE), Rule::new(parts));

    let is_new = [
        conntrack(CT_STATE, None, REGISTER_1),
        mask(REGISTER_1, &STATE_NEW.to_ne_bytes()),
        not_equal(REGISTER_1, &0_u32.to_ne_bytes()),
    ];
    let parts = is_new.into_iter().chain(of_family(is_ipv6)).chain(destination());
    let parts = parts.chain([translate_to_verdict(&name(maps.no_backend), FIRST_WORD)]);
    rule("input", base("filter", HOOK_IN, BEFORE_FILTER), Rule::new(parts));
}

/// Forwarding was off, so what is not ours goes nowhere as before.
fn nobody_elses(is_ipv6: bool) -> Chain {
    let ours = destination_changed().into_iter().chain([verdict(ACCEPT, None)]);
    let others = of_family(is_ipv6).into_iter().chain([verdict(DROP, None)]);
    Chain {
        rules: vec![
            Rule::new(ours),
            Rule::new(others).saying("forwarding was off before: set it yourself to forward anything else"),
        ],
        ..base("filter", HOOK_FORWARD, BEFORE_FILTER)
    }
}

fn listener(ruleset: &mut Ruleset, name: &str, service: &Service) {
    let is_ipv6 = service.is_ipv6;
    let (chain, refused) = (format!("listener-{}", word(name)), format!("refuse-{}", word(name)));
    let row = places(service.balance, &service.members);
    let mut rules = Vec::new();
    for member in &service.members {
        let names = Names::of(name, &member.name);
        backend(ruleset, service, &names, member);
        if let Some(persistence) = service.persistence
            && matches!(member.share, Share::New(_) | Share::Kept)
        {
            let parts = client(persistence, is_ipv6).into_iter();
            let parts = parts.chain([lookup(&names.clients, REGISTER_1), verdict(GOTO, Some(&names.chain))]);
            rules.push(Rule::new(parts));
        }
    }
    let chain_of = |place: &usize| Names::of(name, &service.members[*place].name).chain;
    let said = shares(service, &row);
    match row.as_slice() {
        [] => {}
        [only] => rules.push(Rule::new([verdict(GOTO, Some(&chain_of(only)))]).saying(said)),
        row => {
            let places = u32::try_from(row.len()).expect("a row has at most some thousand places");
            let (source, length, _) = addresses(family(is_ipv6));
            let draw = match service.balance {
                Balance::Source => {
                    let source = payload_to(REGISTER_2, NETWORK, source, length);
                    let hash = hash(length, places, SEED);
                    Rule::new(of_family(is_ipv6).into_iter().chain([source, hash]))
                }
                Balance::Random => Rule::new([number(places, true)]),
                Balance::RoundRobin | Balance::LeastConn | Balance::First => {
                    Rule::new([number(places, false)])
                }
            };
            rules.push(draw.and(Part::Pick(row.iter().map(chain_of).collect())).saying(said));
        }
    }
    ruleset.chains.insert(chain.clone(), Chain { hook: None, rules });

    let counter = Names::refused(name);
    let refuse = |protocol: &Protocol| {
        let is_it = [meta(META_L4PROTO, REGISTER_1), equal(REGISTER_1, &[number_of(*protocol)])];
        let no = if *protocol == Protocol::Tcp { reject_reset() } else { reject_port() };
        Rule::new(is_it.into_iter().chain([count(&counter), no])).saying("no backend is healthy")
    };
    let rules = service.protocols().iter().map(refuse).collect();
    ruleset.chains.insert(refused.clone(), Chain { hook: None, rules });
    ruleset.counters.insert(counter);
    let by_address = service.bind.iter().map(|bind| (key(service.protocol, *bind), BY_ADDRESS));
    let by_mark = service.marks.iter().map(|mark| (mark.to_ne_bytes().to_vec(), BY_MARK));
    for (key, maps) in by_address.chain(by_mark) {
        let mut put = |set: &str, to: To| ruleset.put(numbered(set, is_ipv6), key.clone(), to);
        put(maps.services, To::Chain(chain.clone()));
        if row.is_empty() {
            put(maps.no_backend, To::Chain(refused.clone()));
        }
        if service.source_nat {
            put(maps.source_nat, To::Nothing);
        }
    }
}

/// How many places each backend has, for who reads the table.
fn shares(service: &Service, row: &[usize]) -> String {
    let share = |(index, member): (usize, &Member)| {
        let places = row.iter().filter(|place| **place == index).count();
        format!("{} {places}", member.name)
    };
    service.members.iter().enumerate().map(share).collect::<Vec<_>>().join(", ")
}

/// The client's address, as far as it counts, in register 1.
fn client(persistence: Persistence, is_ipv6: bool) -> Vec<Attributes> {
    let (source, length, _) = addresses(family(is_ipv6));
    let bits = if is_ipv6 { persistence.ipv6_prefix } else { persistence.ipv4_prefix };
    let octet =
        |index: u32| (!0_u8).checked_shl(8_u32.saturating_sub(u32::from(bits).saturating_sub(8 * index)));
    let kept: Vec<u8> = (0..length).map(|index| octet(index).unwrap_or(0)).collect();
    let mut parts = of_family(is_ipv6).to_vec();
    parts.push(payload(NETWORK, source, length));
    if kept.iter().any(|octet| *octet != 0xff) {
        parts.push(mask(REGISTER_1, &kept));
    }
    parts
}

fn backend(ruleset: &mut Ruleset, service: &Service, names: &Names, member: &Member) {
    let is_ipv6 = member.address.is_ipv6();
    let mut rules = Vec::new();
    if let Some(persistence) = service.persistence {
        let key = if is_ipv6 { TYPE_IPV6 } else { TYPE_IPV4 };
        let holds = Holds::Remembered(persistence.timeout, MOST_CLIENTS);
        ruleset.sets.insert(names.clients.clone(), Set { key, length: 4 * words(is_ipv6), holds });
        // A rule of its own: it ends where the set is full.
        rules.push(Rule::new(client(persistence, is_ipv6).into_iter().chain([remember(&names.clients)])));
    }
    let address = member.address.ip();
    let port = member.address.port();
    for protocol in service.protocols() {
        let mut parts = vec![
            meta(META_L4PROTO, REGISTER_1),
            equal(REGISTER_1, &[number_of(*protocol)]),
            count(&names.sessions),
            immediate(REGISTER_1, &octets(address)),
        ];
        if port != 0 {
            parts.push(immediate(REGISTER_2, &port.to_be_bytes()));
        }
        parts.push(destination_nat(family(is_ipv6), port != 0));
        rules.push(Rule::new(parts).saying(&*member.name));
    }
    ruleset.chains.insert(names.chain.clone(), Chain { hook: None, rules });
    ruleset.counters.insert(names.sessions.clone());
}
