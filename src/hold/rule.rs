//! Requests to add and remove a policy rule, by the numbers of `linux/fib_rules.h`.

use config::ready::{Family, Rule, RuleAction};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL, NetlinkMessage};
use rtnetlink::packet_route::rule::{RuleAttribute, RuleFlags, RuleMessage};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

use super::request::finish;
use crate::netlink::attributes::{name, octets, raw};

const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_IIFNAME: u16 = 3;
const FRA_GOTO: u16 = 4;
const FRA_PRIORITY: u16 = 6;
const FRA_FWMARK: u16 = 10;
const FRA_FLOW: u16 = 11;
const FRA_TUN_ID: u16 = 12;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_FWMASK: u16 = 16;
const FRA_OIFNAME: u16 = 17;
const FRA_L3MDEV: u16 = 19;
const FRA_UID_RANGE: u16 = 20;
const FRA_PROTOCOL: u16 = 21;
const FRA_IP_PROTO: u16 = 22;
const FRA_SPORT_RANGE: u16 = 23;
const FRA_DPORT_RANGE: u16 = 24;
/// FIB_RULE_INVERT.
const INVERT: u32 = 2;

/// Adds the rule; EEXIST if it is there.
pub(super) fn add(rule: &Rule) -> NetlinkMessage<RouteNetlinkMessage> {
    finish(RouteNetlinkMessage::NewRule(base(rule)), NLM_F_CREATE | NLM_F_EXCL)
}

/// Removes the rule; ENOENT if it is not there.
pub(super) fn remove(rule: &Rule) -> NetlinkMessage<RouteNetlinkMessage> {
    finish(RouteNetlinkMessage::DelRule(base(rule)), 0)
}

fn base(rule: &Rule) -> RuleMessage {
    let (action, table, goto) = action(rule.action);
    let mut message = RuleMessage::default();
    let header = &mut message.header;
    header.family = match rule.family {
        Family::Ipv4 => AddressFamily::Inet,
        Family::Ipv6 => AddressFamily::Inet6,
    };
    header.src_len = rule.from.map_or(0, |prefix| prefix.length);
    header.dst_len = rule.to.map_or(0, |prefix| prefix.length);
    header.tos = rule.tos.unwrap_or(0);
    header.table = u8::try_from(table).unwrap_or(0);
    header.action = action.into();
    header.flags = RuleFlags::from_bits_retain(if rule.invert { INVERT } else { 0 });

    let number = |value: u32| value.to_ne_bytes().to_vec();
    let pair = |(a, b): (u16, u16)| [a.to_ne_bytes(), b.to_ne_bytes()].concat();
    let mark = rule.mark.map(|(mark, _)| mark);
    let mask = rule.mark.and_then(|(_, mask)| mask);
    let wanted = [
        (FRA_DST, rule.to.map(|prefix| octets(prefix.address))),
        (FRA_SRC, rule.from.map(|prefix| octets(prefix.address))),
        (FRA_PRIORITY, Some(number(rule.preference))),
        (FRA_PROTOCOL, Some(vec![rule.protocol])),
        (FRA_TABLE, (table != 0).then(|| number(table))),
        (FRA_GOTO, goto.map(number)),
        (FRA_L3MDEV, (rule.action == RuleAction::L3mdev).then(|| vec![1])),
        (FRA_FWMARK, mark.map(number)),
        (FRA_FWMASK, mask.map(number)),
        (FRA_FLOW, rule.realms.map(number)),
        (FRA_SUPPRESS_PREFIXLEN, rule.suppress_prefix_length.map(number)),
        (FRA_SUPPRESS_IFGROUP, rule.suppress_interface_group.map(number)),
        (FRA_IIFNAME, rule.input_interface.as_deref().map(name)),
        (FRA_OIFNAME, rule.output_interface.as_deref().map(name)),
        (FRA_TUN_ID, rule.tunnel_id.map(|id| id.to_be_bytes().to_vec())),
        (FRA_UID_RANGE, rule.users.map(|(first, last)| [number(first), number(last)].concat())),
        (FRA_IP_PROTO, rule.ip_protocol.map(|protocol| vec![protocol])),
        (FRA_SPORT_RANGE, rule.source_ports.map(pair)),
        (FRA_DPORT_RANGE, rule.destination_ports.map(pair)),
    ];
    let present = wanted.into_iter().filter_map(|(kind, value)| Some((kind, value?)));
    message.attributes = present.map(|(kind, value)| RuleAttribute::Other(raw(kind, value))).collect();
    message
}

/// `FR_ACT_*`, the table and the target.
fn action(action: RuleAction) -> (u8, u32, Option<u32>) {
    match action {
        RuleAction::Table(table) => (1, table, None),
        RuleAction::Goto(target) => (2, 0, Some(target)),
        RuleAction::Nop => (3, 0, None),
        RuleAction::Blackhole => (6, 0, None),
        RuleAction::Unreachable => (7, 0, None),
        RuleAction::Prohibit => (8, 0, None),
        RuleAction::L3mdev => (1, 0, None),
    }
}
