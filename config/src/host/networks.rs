//! Virtual addresses beside the addresses that this host has.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use crate::complete::family_of;
use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::ready::{Config, Instance, Transport, VirtualAddress};

use super::at;

/// An address that an interface has, with its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Network {
    interface: String,
    address: IpAddr,
    prefix_length: u8,
}

impl Network {
    fn holds(&self, address: IpAddr) -> bool {
        contains(self.address, self.prefix_length, address)
    }

    fn is_link_local(&self) -> bool {
        matches!(self.address, IpAddr::V6(six) if six.is_unicast_link_local())
    }

    /// A host route, not a network.
    fn is_single(&self) -> bool {
        self.prefix_length == if self.address.is_ipv4() { 32 } else { 128 }
    }
}

fn contains(network: IpAddr, prefix_length: u8, address: IpAddr) -> bool {
    let differ = match (network, address) {
        (IpAddr::V4(a), IpAddr::V4(b)) => u128::from(a.to_bits() ^ b.to_bits()) << 96,
        (IpAddr::V6(a), IpAddr::V6(b)) => a.to_bits() ^ b.to_bits(),
        _ => return false,
    };
    differ.leading_zeros() >= u32::from(prefix_length)
}

/// None if the host does not say.
pub(super) fn of_this_host() -> Vec<Network> {
    let Ok(addresses) = getifaddrs() else { return Vec::new() };
    let network = |entry: nix::ifaddrs::InterfaceAddress| {
        let (address, mask) = (entry.address?, entry.netmask?);
        let (address, ones) =
            if let (Some(four), Some(mask)) = (address.as_sockaddr_in(), mask.as_sockaddr_in()) {
                (IpAddr::V4(four.ip()), mask.ip().to_bits().count_ones())
            } else {
                let (six, mask) = (address.as_sockaddr_in6()?, mask.as_sockaddr_in6()?);
                (IpAddr::V6(six.ip()), mask.ip().to_bits().count_ones())
            };
        Some(Network { interface: entry.interface_name, address, prefix_length: u8::try_from(ones).ok()? })
    };
    addresses.filter_map(network).collect()
}

pub(super) fn check(config: &Config, networks: &[Network], diagnostics: &mut Diagnostics) {
    let is_virtual = |address: IpAddr| {
        let mut all = config.instances.iter().flat_map(|i| i.held());
        all.any(|held| held.address == address)
    };
    // A virtual address that is here now, because we are active, is no network of the host.
    let (held, own): (Vec<_>, Vec<_>) =
        networks.iter().cloned().partition(|network| is_virtual(network.address));
    for instance in &config.instances {
        outside(config, instance, &own, diagnostics);
        only_address(instance, &own, &held, diagnostics);
        owner(instance, networks, diagnostics);
        own_peer(instance, &own, diagnostics);
    }
}

/// A list of peers that is the same on all routers.
fn own_peer(instance: &Instance, own: &[Network], diagnostics: &mut Diagnostics) {
    let Transport::Unicast { peers, .. } = &instance.transport else { return };
    for peer in peers.iter().map(|peer| peer.address).filter(|peer| instance.source != Some(*peer)) {
        if own.iter().any(|network| network.address == peer) {
            let message = format!("peer {peer} of {} is an address of this host", instance.name);
            let finding = Diagnostic::notice("peer-is-self", &at(&instance.place), message);
            diagnostics.push(
                finding
                    .expected("the addresses of the other routers alone")
                    .help("every advert is sent to this host too; delete the line"),
            );
        }
    }
}

/// Nobody asks for an address that is in no network of the interface. One with a network of its own brings
/// that along, routes may lead to it, and a host whose addresses have no networks says nothing.
fn outside(config: &Config, instance: &Instance, own: &[Network], diagnostics: &mut Diagnostics) {
    if !(instance.routes.is_empty() && config.static_routes.is_empty()) {
        return;
    }
    let all = || instance.held();
    for address in all().filter(|address| is_single(address) && address.interface != "lo") {
        let there = |network: &&Network| {
            network.interface == address.interface
                && family_of(network.address) == family_of(address.address)
                && !network.is_link_local()
        };
        let near: Vec<_> = own.iter().filter(there).collect();
        let brought = all().any(|other| {
            other.interface == address.interface
                && !is_single(other)
                && contains(other.address, other.prefix_length, address.address)
        });
        let is_link_local = matches!(address.address, IpAddr::V6(six) if six.is_unicast_link_local());
        let unknown = near.is_empty() || near.iter().any(|network| network.is_single());
        if unknown || brought || is_link_local || near.iter().any(|network| network.holds(address.address)) {
            continue;
        }
        let first = near[0];
        let message = format!("{} is in no network of {}", address.address, address.interface);
        let finding = Diagnostic::warning("virtual-address-outside", &at(&address.place), message);
        diagnostics.push(
            finding.expected(format!("an address of {}/{}, or a network of its own", first.address, first.prefix_length)).help(
                "hosts of these networks do not ask for it; write its prefix length (ADDRESS/24), or the interface that its network is on (`dev`)",
            ),
        );
    }
}

fn is_single(address: &VirtualAddress) -> bool {
    address.prefix_length == if address.address.is_ipv4() { 32 } else { 128 }
}

/// A backup needs an address besides those that it lets go.
fn only_address(instance: &Instance, own: &[Network], held: &[Network], diagnostics: &mut Diagnostics) {
    if instance.priority == 255 || instance.source.is_some() {
        return;
    }
    let on_interface = |network: &&Network| {
        network.interface == instance.interface
            && family_of(network.address) == instance.family
            && !network.is_link_local()
    };
    if own.iter().any(|network| on_interface(&network)) || instance.family == crate::ready::Family::Ipv6 {
        return;
    }
    let Some(only) = held.iter().find(on_interface) else { return };
    let Some(address) = instance.addresses.iter().find(|address| address.address == only.address) else {
        return;
    };
    let message = format!("{} is the only address of {}", only.address, instance.interface);
    let finding = Diagnostic::warning("virtual-address-is-only-address", &at(&address.place), message);
    diagnostics.push(finding.expected("another address on the interface, or priority 255").help(
        "keepalived deletes it at start and waits in FAULT; a backup has no address then to send adverts from",
    ));
}

/// RFC 9568: the owner has the address as its own.
fn owner(instance: &Instance, networks: &[Network], diagnostics: &mut Diagnostics) {
    let all = || instance.held();
    let known = networks.iter().any(|network| network.interface == instance.interface);
    let Some(first) = all().next().filter(|_| instance.priority == 255 && known) else { return };
    if all().any(|address| networks.iter().any(|network| network.address == address.address)) {
        return;
    }
    let message = format!("{} has priority 255, but none of its addresses is on this host", instance.name);
    let finding = Diagnostic::notice("owner-without-address", &at(&first.place), message);
    diagnostics.push(finding.expected("a priority of at most 254").help(
        "255 says that the address is the host's own; weights do not move it, and no other router may have it",
    ));
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{LoadOptions, load};

    fn network(interface: &str, address: &str) -> Network {
        let (address, prefix_length) = address.split_once('/').unwrap();
        Network {
            interface: interface.into(),
            address: address.parse().unwrap(),
            prefix_length: prefix_length.parse().unwrap(),
        }
    }

    /// Codes of what is said about an instance of this priority with this address on a host with these networks.
    fn said(priority: u8, address: &str, networks: &[&str]) -> Vec<&'static str> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keepalived.conf");
        let text = format!(
            "vrrp_instance V1 {{\n interface eth0\n virtual_router_id 51\n priority {priority}\n virtual_ipaddress {{\n {address}\n }}\n}}\n"
        );
        fs::write(&path, text).unwrap();
        let config = load(&[&path], &LoadOptions::default()).config.unwrap();
        let networks: Vec<_> = networks.iter().map(|address| network("eth0", address)).collect();
        let mut diagnostics = Diagnostics::default();
        check(&config, &networks, &mut diagnostics);
        diagnostics.iter().map(|finding| finding.code).collect()
    }

    /// What `ip` shows, in the namespace we are in.
    #[test]
    fn networks_are_those_of_this_host() {
        let output = std::process::Command::new("ip").args(["-j", "address"]).output().unwrap();
        let links: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let mut shown = Vec::new();
        for link in links.as_array().unwrap() {
            for address in link["addr_info"].as_array().unwrap() {
                let part = |key: &str| address[key].as_str().unwrap().to_owned();
                let written = format!("{}/{}", part("local"), address["prefixlen"]);
                shown.push(network(link["ifname"].as_str().unwrap(), &written));
            }
        }
        let key = |network: &Network| (network.interface.clone(), network.address);
        let mut found = of_this_host();
        shown.sort_by_key(key);
        found.sort_by_key(key);
        assert_eq!(found, shown);
    }

    #[test]
    fn an_own_address_among_the_peers_is_named() {
        let vip = "10.99.0.100\n }\n unicast_peer {\n 10.99.0.1\n 10.99.0.2";
        assert_eq!(said(100, vip, &["10.99.0.1/24"]), ["peer-is-self"]);
        assert_eq!(said(100, vip, &["10.99.0.3/24"]), [""; 0]);
    }

    #[test]
    fn an_address_in_no_network_of_its_interface_is_named() {
        let outside = ["virtual-address-outside"];
        assert_eq!(said(100, "10.98.0.100", &["10.99.0.1/24"]), outside);
        assert_eq!(said(100, "10.99.1.0/32", &["10.99.0.1/24"]), outside);
        assert_eq!(said(100, "2001:db8:1::1", &["2001:db8::2/64", "fe80::1/64"]), outside);
    }

    #[test]
    fn an_address_that_may_well_work_is_not_named() {
        assert_eq!(said(100, "10.99.0.100", &["10.99.0.1/24"]), [""; 0]);
        assert_eq!(said(100, "10.98.0.100/24", &["10.99.0.1/24"]), [""; 0], "brings its network");
        assert_eq!(said(100, "10.98.0.1/24\n 10.98.0.2", &["10.99.0.1/24"]), [""; 0], "the first brings it");
        assert_eq!(said(100, "10.98.0.100 dev lo", &["10.99.0.1/24"]), [""; 0], "loopback");
        assert_eq!(said(100, "10.98.0.100", &["10.99.0.1/32"]), [""; 0], "a host without networks");
        assert_eq!(said(100, "10.98.0.100", &[]), [""; 0], "nothing known");
        assert_eq!(said(100, "10.98.0.100", &["2001:db8::2/64"]), [""; 0], "no IPv4 there");
        assert_eq!(said(100, "2001:db8:1::1", &["fe80::1/64"]), [""; 0], "link-local alone");
        assert_eq!(said(100, "10.99.0.100", &["10.99.0.1/24", "10.99.0.100/32"]), [""; 0], "we are active");
    }

    #[test]
    fn a_backup_needs_an_address_besides_the_virtual_one() {
        assert_eq!(said(100, "10.99.0.1/24", &["10.99.0.1/24"]), ["virtual-address-is-only-address"]);
        assert_eq!(said(255, "10.99.0.1/24", &["10.99.0.1/24"]), [""; 0]);
    }

    #[test]
    fn an_owner_has_an_address_of_its_instance() {
        assert_eq!(said(255, "10.99.0.100/24", &["10.99.0.1/24"]), ["owner-without-address"]);
        assert_eq!(said(255, "10.99.0.100/24", &[]), [""; 0], "nothing known");
    }
}
