//! nf_tables in netlink's words (`linux/netfilter/nf_tables.h`): requests that take effect together, and the
//! expressions of rules.

use std::io;

use nix::libc;

use super::attributes::{self, Attributes};
use super::kernel::Kernel;

pub(crate) const SUBSYSTEM: u16 = 10 << 8;
pub(crate) const NEWTABLE: u16 = 0;
pub(crate) const DELTABLE: u16 = 2;
pub(crate) const NEWCHAIN: u16 = 3;
pub(crate) const NEWRULE: u16 = 6;
pub(crate) const NEWSET: u16 = 9;
pub(crate) const NEWSETELEM: u16 = 12;
pub(crate) const DELSETELEM: u16 = 14;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;

/// NFTA_LIST_ELEM.
pub(crate) const ELEMENT: u16 = 1;
/// NFTA_DATA_VALUE, NFTA_DATA_VERDICT.
pub(crate) const VALUE: u16 = 1;
pub(crate) const VERDICT: u16 = 2;
pub(crate) const SET_CONSTANT: u32 = 2;
pub(crate) const SET_MAP: u32 = 8;

/// Numbers of `nft` for what a set holds: how the elements are shown.
pub(crate) const TYPE_IPV4: u32 = 7;
pub(crate) const TYPE_IPV6: u32 = 8;
/// Bits by which the first of two in one key is shifted.
pub(crate) const CONCATENATED: u32 = 6;

/// NFT_REG_1, NFT_REG_2: 16 octets each.
pub(crate) const REGISTER_1: u32 = 1;
pub(crate) const REGISTER_2: u32 = 2;

pub(crate) const DROP: u32 = 0;
pub(crate) const ACCEPT: u32 = 1;
/// NFT_GOTO.
pub(crate) const GOTO: u32 = (-4_i32).cast_unsigned();

pub(crate) const HOOK_IN: u32 = 1;
pub(crate) const HOOK_OUT: u32 = 3;

const GETGEN: u16 = 16;

/// How many changes there were of all tables of the network namespace, by whomever.
pub(crate) fn generation(kernel: &mut Kernel) -> io::Result<u32> {
    let answer = kernel.ask(SUBSYSTEM | GETGEN, 0, &[0, 0, 0, 0], &Attributes::default())?;
    let id = attributes::read(answer.get(4..).unwrap_or_default()).find(|(kind, _)| *kind == 1);
    let id = id.and_then(|(_, value)| value.try_into().ok()).map(u32::from_be_bytes);
    id.ok_or_else(|| io::Error::other("nf_tables does not tell its generation"))
}

/// Of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Family {
    /// IPv4 and IPv6.
    Inet,
    Ip,
    Arp,
    Ip6,
}

impl Family {
    pub fn number(self) -> u8 {
        match self {
            Self::Inet => 1,
            Self::Ip => 2,
            Self::Arp => 3,
            Self::Ip6 => 10,
        }
    }
}

/// Requests that take effect together, or not at all.
#[derive(Debug, Default)]
pub(crate) struct Requests(Vec<(u16, u16, Family, Attributes)>);

impl Requests {
    /// One more, behind the others.
    pub fn push(&mut self, kind: u16, flags: libc::c_int, family: Family, attributes: Attributes) {
        self.0.push((kind, u16::try_from(flags).expect("netlink has 16-bit flags"), family, attributes));
    }

    /// # Errors
    ///
    /// The first that the kernel has refused; none has taken effect.
    pub fn send(self, kernel: &mut Kernel) -> io::Result<()> {
        if self.0.is_empty() {
            return Ok(());
        }
        // `struct nfgenmsg`: family u8, version u8, resource id u16 in network order.
        let bound = [0, 0, 0, 10];
        let mut batch = Vec::new();
        kernel.message(&mut batch, BATCH_BEGIN, 0, &bound, &Attributes::default());
        for (kind, flags, family, attributes) in &self.0 {
            kernel.message(&mut batch, SUBSYSTEM | kind, *flags, &[family.number(), 0, 0, 0], attributes);
        }
        kernel.message(&mut batch, BATCH_END, 0, &bound, &Attributes::default());
        kernel.send_batch(&batch)
    }
}

pub(crate) const NETWORK: u32 = 1;
pub(crate) const TRANSPORT: u32 = 2;
pub(crate) const META_IIF: u32 = 4;
pub(crate) const META_OIF: u32 = 5;
pub(crate) const META_MARK: u32 = 3;
pub(crate) const META_L4PROTO: u32 = 16;
pub(crate) const META_OIFKIND: u32 = 27;

pub(crate) fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::default().text(1, name).nest(2, data)
}

/// Octets of a header into register 1.
pub(crate) fn payload(base: u32, offset: u32, length: u32) -> Attributes {
    payload_to(REGISTER_1, base, offset, length)
}

pub(crate) fn payload_to(register: u32, base: u32, offset: u32, length: u32) -> Attributes {
    let data = Attributes::default().be32(1, register).be32(2, base).be32(3, offset).be32(4, length);
    expression("payload", &data)
}

/// Offset and length of the source address in an IP header, offset of the destination.
pub(crate) fn addresses(family: Family) -> (u32, u32, u32) {
    if family == Family::Ip6 { (8, 16, 24) } else { (12, 4, 16) }
}

pub(crate) fn meta(key: u32, register: u32) -> Attributes {
    expression("meta", &Attributes::default().be32(1, register).be32(2, key))
}

pub(crate) fn equal(register: u32, value: &[u8]) -> Attributes {
    let value = Attributes::default().with(VALUE, value);
    expression("cmp", &Attributes::default().be32(1, register).be32(2, 0).nest(3, &value))
}

pub(crate) fn mask(register: u32, mask: &[u8]) -> Attributes {
    let length = u32::try_from(mask.len()).expect("a register has 16 octets");
    let data = Attributes::default()
        .be32(1, register)
        .be32(2, register)
        .be32(3, length)
        .nest(4, &Attributes::default().with(VALUE, mask))
        .nest(5, &Attributes::default().with(VALUE, &vec![0; mask.len()]));
    expression("bitwise", &data)
}

pub(crate) fn lookup(set: &str, register: u32) -> Attributes {
    expression("lookup", &Attributes::default().text(1, set).be32(2, register))
}

/// Goes on unless the set has what is in a register.
pub(crate) fn lookup_none(set: &str, register: u32) -> Attributes {
    const INVERTED: u32 = 1;
    expression("lookup", &Attributes::default().text(1, set).be32(2, register).be32(5, INVERTED))
}

/// The value that a map has for a register, in its place.
pub(crate) fn translate(map: &str, register: u32) -> Attributes {
    expression("lookup", &Attributes::default().text(1, map).be32(2, register).be32(3, register))
}

/// Numbers of `nft` for what a set holds.
pub(crate) const TYPE_INTEGER: u32 = 4;
pub(crate) const TYPE_PROTOCOL: u32 = 12;
pub(crate) const TYPE_PORT: u32 = 13;
pub(crate) const TYPE_MARK: u32 = 19;

/// NFT_REG32_00, the first of sixteen registers of four octets.
pub(crate) const FIRST_WORD: u32 = 8;

pub(crate) const META_NFPROTO: u32 = 15;
pub(crate) const CT_STATE: u32 = 0;
pub(crate) const CT_STATUS: u32 = 2;
pub(crate) const CT_PROTO_DST: u32 = 12;
pub(crate) const CT_DST_IP: u32 = 20;
pub(crate) const CT_DST_IP6: u32 = 22;
/// IP_CT_DIR_ORIGINAL.
pub(crate) const ORIGINAL: u8 = 0;

pub(crate) fn not_equal(register: u32, value: &[u8]) -> Attributes {
    let value = Attributes::default().with(VALUE, value);
    expression("cmp", &Attributes::default().be32(1, register).be32(2, 1).nest(3, &value))
}

/// What connection tracking knows, of one direction where that makes a difference.
pub(crate) fn conntrack(key: u32, direction: Option<u8>, register: u32) -> Attributes {
    let data = Attributes::default().be32(1, register).be32(2, key);
    expression(
        "ct",
        &match direction {
            Some(direction) => data.with(3, &[direction]),
            None => data,
        },
    )
}

/// `fib daddr type local`
pub(crate) fn is_local() -> [Attributes; 2] {
    const ADDRESS_TYPE: u32 = 3;
    const OF_DESTINATION: u32 = 2;
    const RTN_LOCAL: u32 = 2;
    let data = Attributes::default().be32(1, REGISTER_1).be32(2, ADDRESS_TYPE).be32(3, OF_DESTINATION);
    [expression("fib", &data), equal(REGISTER_1, &RTN_LOCAL.to_ne_bytes())]
}

/// A number below `modulus` into register 1: the next one, or any.
pub(crate) fn number(modulus: u32, random: bool) -> Attributes {
    let data = Attributes::default().be32(1, REGISTER_1).be32(2, modulus).be32(3, random.into()).be32(4, 0);
    expression("numgen", &data)
}

/// A hash below `modulus` of so many octets of register 2 into register 1.
pub(crate) fn hash(length: u32, modulus: u32, seed: u32) -> Attributes {
    let data = Attributes::default()
        .be32(1, REGISTER_2)
        .be32(2, REGISTER_1)
        .be32(3, length)
        .be32(4, modulus)
        .be32(5, seed)
        .be32(6, 0)
        .be32(7, 0);
    expression("hash", &data)
}

/// A value into a register.
pub(crate) fn immediate(register: u32, value: &[u8]) -> Attributes {
    let data = Attributes::default().with(VALUE, value);
    expression("immediate", &Attributes::default().be32(1, register).nest(2, &data))
}

/// A verdict that ends the rule.
pub(crate) fn verdict(code: u32, chain: Option<&str>) -> Attributes {
    let mut verdict = Attributes::default().be32(1, code);
    if let Some(chain) = chain {
        verdict = verdict.text(2, chain);
    }
    let data = Attributes::default().nest(VERDICT, &verdict);
    expression("immediate", &Attributes::default().be32(1, 0).nest(2, &data))
}

/// To the address in register 1 and, with another port, that in register 2.
pub(crate) fn destination_nat(family: Family, has_port: bool) -> Attributes {
    const DNAT: u32 = 1;
    const PROTO_SPECIFIED: u32 = 2;
    let data = Attributes::default().be32(1, DNAT).be32(2, family.number().into()).be32(3, REGISTER_1);
    let data = if has_port { data.be32(5, REGISTER_2).be32(7, PROTO_SPECIFIED) } else { data };
    expression("nat", &data)
}

/// `reject with tcp reset`
pub(crate) fn reject_reset() -> Attributes {
    expression("reject", &Attributes::default().be32(1, 1).with(2, &[0]))
}

/// `reject with icmpx port-unreachable`
pub(crate) fn reject_port() -> Attributes {
    expression("reject", &Attributes::default().be32(1, 2).with(2, &[1]))
}

/// A counter of the table by its name.
pub(crate) fn count(counter: &str) -> Attributes {
    expression("objref", &Attributes::default().be32(1, 1).text(2, counter))
}

/// Puts the key in register 1 into a set, or gives it its time again.
pub(crate) fn remember(set: &str) -> Attributes {
    const UPDATE: u32 = 1;
    expression("dynset", &Attributes::default().text(1, set).be32(3, UPDATE).be32(4, REGISTER_1))
}

/// Goes where a map says for the key in a register.
pub(crate) fn translate_to_verdict(map: &str, register: u32) -> Attributes {
    expression("lookup", &Attributes::default().text(1, map).be32(2, register).be32(3, 0))
}
