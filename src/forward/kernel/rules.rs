//! The table that stands for the listeners: who goes where, whose source is changed, what is refused, what is counted.
//! Pure.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use config::ready::{Balance, Persistence, Protocol};

use super::pool::{Member, Share, places};
use crate::netlink::attributes::{Attributes, octets};
use crate::netlink::nft::{
    ACCEPT, CT_DIRECTION, CT_DST_IP, CT_DST_IP6, CT_PROTO_DST, CT_PROTO_SRC, CT_SRC_IP, CT_SRC_IP6, CT_STATE,
    CT_STATUS, DROP, FIRST_WORD, Family, GOTO, HOOK_IN, HOOK_OUT, META_IIF, META_L4PROTO, META_NFPROTO,
    NETWORK, ORIGINAL, REGISTER_1, REGISTER_2, REPLY, TRANSPORT, TYPE_IPV4, TYPE_IPV6, TYPE_PORT,
    TYPE_PROTOCOL, addresses, conntrack, count, count_by, destination_nat, equal, expression, hash,
    immediate, is_local, lookup, mask, meta, not_equal, number, payload, payload_to, reject_port,
    reject_reset, remember, translate_to_verdict, verdict,
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
/// `lo` is the first interface of every network namespace.
const LOOPBACK: u32 = 1;
const LONGEST_NAME: usize = 60;

/// One listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Of one family.
    pub bind: Vec<SocketAddr>,
    /// TCP or UDP.
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

/// What the table does beside carrying listeners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Router {
    /// Forwarding was switched on for us: nobody else's IPv4 packets are forwarded.
    pub only_ours_ipv4: bool,
    /// The same for IPv6.
    pub only_ours_ipv6: bool,
}

/// Chains that tell a later life that forwarding was off before.
pub const ONLY_OURS: [&str; 2] = ["only-ours-ipv4", "only-ours-ipv6"];

/// The names that things of a backend have in the table.
pub struct Names {
    chain: String,
    clients: String,
    /// New sessions.
    pub sessions: String,
    /// Packets and octets from clients.
    pub incoming: String,
    /// To clients.
    pub outgoing: String,
}

impl Names {
    /// Of a backend of a listener.
    pub fn of(listener: &str, backend: &str) -> Self {
        let name = format!("{}/{}", word(listener), word(backend));
        Self {
            chain: format!("backend-{name}"),
            clients: format!("clients-{name}"),
            sessions: format!("sessions-{name}"),
            incoming: format!("in-{name}"),
            outgoing: format!("out-{name}"),
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
        let of_family =
            services.values().flat_map(|service| &service.bind).any(|bind| bind.is_ipv6() == is_ipv6);
        if of_family {
            skeleton(&mut ruleset, is_ipv6);
        }
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

/// Who answers: address . port, behind [`wanted`].
fn answering(is_ipv6: bool) -> [Attributes; 2] {
    let next = FIRST_WORD + words(is_ipv6) + 2;
    [
        conntrack(if is_ipv6 { CT_SRC_IP6 } else { CT_SRC_IP }, Some(REPLY), next),
        conntrack(CT_PROTO_SRC, Some(REPLY), next + words(is_ipv6)),
    ]
}

fn key(protocol: Protocol, address: SocketAddr) -> Vec<u8> {
    let number = match protocol {
        Protocol::Tcp => nix::libc::IPPROTO_TCP,
        Protocol::Udp => nix::libc::IPPROTO_UDP,
    };
    let mut key = octets(address.ip());
    key.extend([number.to_le_bytes()[0], 0, 0, 0]);
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

/// Chains at the hooks, and the maps that they look into.
fn skeleton(ruleset: &mut Ruleset, is_ipv6: bool) {
    let name = |name: &str| numbered(name, is_ipv6);
    let address = if is_ipv6 { TYPE_IPV6 } else { TYPE_IPV4 };
    let length = 4 * words(is_ipv6);
    let service = (address << 6 | TYPE_PROTOCOL) << 6 | TYPE_PORT;
    let flow = (service << 6 | address) << 6 | TYPE_PORT;
    for (set, holds) in
        [("services", Holds::Verdicts), ("no-backend", Holds::Verdicts), ("source-nat", Holds::Keys)]
    {
        ruleset.sets.insert(name(set), Set { key: service, length: length + 8, holds });
    }
    for set in ["count-in", "count-out"] {
        let set = (name(set), Set { key: flow, length: 2 * length + 12, holds: Holds::Counters });
        ruleset.sets.insert(set.0, set.1);
    }
    let mut rule = |chain: &str, hook: Chain, rule: Rule| {
        ruleset.chains.entry(chain.to_owned()).or_insert(hook).rules.push(rule);
    };
    for (chain, number) in [("prerouting", HOOK_PREROUTING), ("output", HOOK_OUT)] {
        let parts = is_local().into_iter().chain(of_family(is_ipv6)).chain(destination(is_ipv6));
        let parts = parts.chain([translate_to_verdict(&name("services"), FIRST_WORD)]);
        rule(chain, base("nat", number, DESTINATION), Rule::new(parts));
    }
    let parts = destination_changed().into_iter().chain(of_family(is_ipv6)).chain(wanted(is_ipv6));
    let parts =
        parts.chain([lookup(&name("source-nat"), FIRST_WORD), expression("masq", &Attributes::default())]);
    rule("postrouting", base("nat", HOOK_POSTROUTING, SOURCE), Rule::new(parts));

    let is_new = [
        conntrack(CT_STATE, None, REGISTER_1),
        mask(REGISTER_1, &STATE_NEW.to_ne_bytes()),
        not_equal(REGISTER_1, &0_u32.to_ne_bytes()),
    ];
    let parts = is_new.into_iter().chain(of_family(is_ipv6)).chain(destination(is_ipv6));
    let parts = parts.chain([translate_to_verdict(&name("no-backend"), FIRST_WORD)]);
    rule("input", base("filter", HOOK_IN, BEFORE_FILTER), Rule::new(parts));

    let counted = name("count");
    let goes_through = |skip: Option<[Attributes; 2]>| {
        let parts = skip.into_iter().flatten().chain(destination_changed()).chain(of_family(is_ipv6));
        Rule::new(parts.chain([verdict(GOTO, Some(&counted))]))
    };
    rule("count-leaving", base("filter", HOOK_POSTROUTING, BEFORE_FILTER), goes_through(None));
    // What comes by the loopback interface was counted when it left.
    let comes_in = [meta(META_IIF, REGISTER_1), not_equal(REGISTER_1, &LOOPBACK.to_ne_bytes())];
    rule("count-arriving", base("filter", HOOK_IN, BEFORE_FILTER), goes_through(Some(comes_in)));
    for (direction, set) in [(ORIGINAL, "count-in"), (REPLY, "count-out")] {
        let parts = [conntrack(CT_DIRECTION, None, REGISTER_1), equal(REGISTER_1, &[direction])];
        let parts = parts.into_iter().chain(wanted(is_ipv6)).chain(answering(is_ipv6));
        rule(&counted, Chain::default(), Rule::new(parts.chain([count_by(&name(set), FIRST_WORD)])));
    }
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
    let is_ipv6 = service.bind.first().is_some_and(SocketAddr::is_ipv6);
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
    let refuse = match service.protocol {
        Protocol::Tcp => {
            let is_tcp = [meta(META_L4PROTO, REGISTER_1), equal(REGISTER_1, &[nix::libc::IPPROTO_TCP as u8])];
            Rule::new(is_tcp.into_iter().chain([count(&counter), reject_reset()]))
        }
        Protocol::Udp => Rule::new([count(&counter), reject_port()]),
    };
    let refuse = refuse.saying("no backend is healthy");
    ruleset.chains.insert(refused.clone(), Chain { hook: None, rules: vec![refuse] });
    ruleset.counters.insert(counter);
    for bind in &service.bind {
        let mut put = |set: &str, to: To| {
            ruleset.put(numbered(set, is_ipv6), key(service.protocol, *bind), to);
        };
        put("services", To::Chain(chain.clone()));
        if row.is_empty() {
            put("no-backend", To::Chain(refused.clone()));
        }
        if service.source_nat {
            put("source-nat", To::Nothing);
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
    let number = key(service.protocol, member.address)[4 * words(is_ipv6) as usize];
    let address = member.address.ip();
    let parts = [
        meta(META_L4PROTO, REGISTER_1),
        equal(REGISTER_1, &[number]),
        count(&names.sessions),
        immediate(REGISTER_1, &octets(address)),
        immediate(REGISTER_2, &member.address.port().to_be_bytes()),
        destination_nat(family(is_ipv6)),
    ];
    rules.push(Rule::new(parts).saying(&*member.name));
    ruleset.chains.insert(names.chain.clone(), Chain { hook: None, rules });
    for counter in [&names.sessions, &names.incoming, &names.outgoing] {
        ruleset.counters.insert(counter.clone());
    }
    for bind in &service.bind {
        let mut flow = key(service.protocol, *bind);
        flow.extend(octets(address));
        flow.extend(port(member.address));
        for (set, counter) in [("count-in", &names.incoming), ("count-out", &names.outgoing)] {
            ruleset.put(numbered(set, is_ipv6), flow.clone(), To::Counter(counter.clone()));
        }
    }
}
