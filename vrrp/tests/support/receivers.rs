//! Receivers that golden packets are judged by.

use vrrp::{
    AdverInterval, Authentication, Family, Ladder, MULTICAST_GROUP_IPV4, MULTICAST_GROUP_IPV6, Transport,
    UnicastPeer, Version, VirtualAddresses, Vrid,
};

use super::address;

pub const ONE: &[&str] = &["192.0.2.100"];
pub const TWO: &[&str] = &["192.0.2.100", "192.0.2.101"];
pub const SIX: &[&str] = &["fe80::100", "2001:db8:1::100"];
pub const TWENTY: &[&str] = &[
    "192.0.2.101",
    "192.0.2.102",
    "192.0.2.103",
    "192.0.2.104",
    "192.0.2.105",
    "192.0.2.106",
    "192.0.2.107",
    "192.0.2.108",
    "192.0.2.109",
    "192.0.2.110",
    "192.0.2.111",
    "192.0.2.112",
    "192.0.2.113",
    "192.0.2.114",
    "192.0.2.115",
    "192.0.2.116",
    "192.0.2.117",
    "192.0.2.118",
    "192.0.2.119",
    "192.0.2.120",
];

pub fn addresses(list: &[&str]) -> VirtualAddresses {
    VirtualAddresses::of_family(Family::of(address(list[0])), list.iter().map(|one| address(one)))
}

pub fn multicast(family: Family) -> Transport {
    let group = match family {
        Family::Ipv4 => MULTICAST_GROUP_IPV4.into(),
        Family::Ipv6 => MULTICAST_GROUP_IPV6.into(),
    };
    Transport::Multicast { group }
}

pub fn unicast(own: &str, peer: &str) -> Transport {
    let peer = UnicastPeer { address: address(peer), min_ttl: None, max_ttl: None };
    Transport::Unicast { own: Some(address(own)), peers: vec![peer], check_source: true }
}

/// A receiver with multicast and no authentication.
pub fn ladder(version: Version, vrid: u8, interval: AdverInterval, list: &[&str]) -> Ladder {
    let addresses = addresses(list);
    Ladder {
        version,
        vrid: Vrid::new(vrid).unwrap(),
        adver_interval: interval,
        authentication: Authentication::None,
        transport: multicast(addresses.family()),
        addresses,
        owner: false,
        owner_ignores_adverts: false,
        addresses_known_from: None,
        accept_old_unicast_checksum: true,
        strict: false,
        accept_no_addresses: false,
        kernel_verified_checksum: false,
    }
}
