//! Requests to add and remove an address, with the attributes that keepalived gives them.

use std::net::IpAddr;

use config::ready::VirtualAddress;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};

/// RTPROT_KEEPALIVED; keepalived marks addresses with it since 2.3.2, the kernel takes it since 5.18.
const PROTOCOL: AddressProtocol = AddressProtocol::Other(18);
/// INFINITY_LIFE_TIME.
const FOREVER: u32 = u32::MAX;

/// Adds the address; EEXIST if it is there.
pub(super) fn add(
    index: u32,
    wanted: &VirtualAddress,
    lifetime: Option<u32>,
) -> NetlinkMessage<RouteNetlinkMessage> {
    let message = described(index, wanted, lifetime, false);
    finish(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
}

/// Gives an address that is there another lifetime, and changes nothing else of it.
pub(super) fn renew(
    index: u32,
    wanted: &VirtualAddress,
    lifetime: Option<u32>,
) -> NetlinkMessage<RouteNetlinkMessage> {
    finish(RouteNetlinkMessage::NewAddress(described(index, wanted, lifetime, true)), NLM_F_REPLACE)
}

/// `lifetime`: seconds, at least 1; `None`: for ever.
fn described(index: u32, wanted: &VirtualAddress, lifetime: Option<u32>, is_renewal: bool) -> AddressMessage {
    let mut message = base(index, wanted);
    message.header.scope = wanted.scope.into();
    if let (IpAddr::V4(_), Some(broadcast)) = (wanted.address, wanted.broadcast) {
        message.attributes.push(AddressAttribute::Broadcast(broadcast));
    }
    if let (IpAddr::V4(_), Some(label)) = (wanted.address, &wanted.label) {
        message.attributes.push(AddressAttribute::Label(label.clone()));
    }
    let mut flags = AddressFlags::empty();
    // IPv4 has no duplicate address detection in the kernel.
    flags.set(AddressFlags::Nodad, wanted.no_dad && wanted.address.is_ipv6());
    flags.set(AddressFlags::Homeaddress, wanted.home && wanted.address.is_ipv6());
    flags.set(AddressFlags::Noprefixroute, wanted.no_prefix_route);
    flags.set(AddressFlags::Mcautojoin, wanted.autojoin);
    flags.set(AddressFlags::Managetempaddr, wanted.manage_temporary && wanted.address.is_ipv6());
    if !flags.is_empty() {
        message.attributes.push(AddressAttribute::Flags(flags));
    }
    // Without the attribute a renewal would leave the lifetime of IPv4 as it is.
    let valid = lifetime.unwrap_or(FOREVER);
    if wanted.preferred_lifetime.is_some() || lifetime.is_some() || is_renewal {
        let mut lifetimes = CacheInfo::default();
        lifetimes.ifa_preferred = wanted.preferred_lifetime.unwrap_or(FOREVER).min(valid);
        lifetimes.ifa_valid = valid;
        message.attributes.push(AddressAttribute::CacheInfo(lifetimes));
    }
    message.attributes.push(AddressAttribute::Protocol(PROTOCOL));
    message
}

/// Removes the address; EADDRNOTAVAIL if it is not there.
pub(super) fn remove(index: u32, wanted: &VirtualAddress) -> NetlinkMessage<RouteNetlinkMessage> {
    finish(RouteNetlinkMessage::DelAddress(base(index, wanted)), 0)
}

/// The prefix length the kernel knows the address by.
pub(super) fn prefix(wanted: &VirtualAddress) -> u8 {
    wanted.peer.map_or(wanted.prefix_length, |(_, prefix)| prefix)
}

fn base(index: u32, wanted: &VirtualAddress) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = match wanted.address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    };
    message.header.index = index;
    message.header.prefix_len = prefix(wanted);
    let far = wanted.peer.map_or(wanted.address, |(peer, _)| peer);
    message.attributes = vec![AddressAttribute::Local(wanted.address), AddressAttribute::Address(far)];
    message
}

pub(super) fn finish(message: RouteNetlinkMessage, flags: u16) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
    request
}
