//! The file of SIGUSR1, section by section.

use config::ready::{Authentication, Family, Transport};

use super::{Page, Picture, delays, globals, instance, interfaces, tracked, words};

pub(super) fn data(picture: &Picture<'_>) -> String {
    let mut page = Page::default();
    globals::globals(&mut page, picture, globals::Of::Vrrp);
    delays::section(&mut page, picture);
    statics(&mut page, picture);
    for (index, (config, status)) in picture.instances().enumerate() {
        if index == 0 {
            page.section("VRRP Topology");
        }
        instance::instance(&mut page, picture, config, status);
    }
    sockets(&mut page, picture);
    tracked::sections(&mut page, picture);
    interfaces::section(&mut page, picture);
    page.0
}

fn statics(page: &mut Page, picture: &Picture<'_>) {
    let config = picture.config;
    if !config.static_addresses.is_empty() {
        page.section("Static Addresses");
    }
    for one in &config.static_addresses {
        // Routes and rules show their group, addresses do not.
        page.line(format!("     {}", words::address(&one.address, true)));
    }
    if !config.static_routes.is_empty() {
        page.section("Static Routes");
    }
    config.static_routes.iter().for_each(|route| page.line(format!("     {}", route.text)));
    if !config.static_rules.is_empty() {
        page.section("Static Rules");
    }
    config.static_rules.iter().for_each(|rule| page.line(format!("     {}", rule.text)));
    if !config.track_groups.is_empty() {
        page.section("Static Track groups");
    }
    for one in &config.track_groups {
        page.line(format!(" Static Track Group = {}", one.name));
        page.line("   VRRP member instances :");
        one.instances.iter().for_each(|name| page.line(format!("     {name}")));
    }
}

/// A socket of keepalived's: who shares one has the same interface, family, protocol and unicast source.
struct Pool<'a> {
    interface: &'a str,
    family: Family,
    protocol: &'static str,
    unicast: Option<String>,
    descriptor: i32,
    members: Vec<(&'a str, u8)>,
}

/// Here unicast and multicast instances of an interface share a socket, and are listed as keepalived would.
fn sockets(page: &mut Page, picture: &Picture<'_>) {
    let mut pools: Vec<Pool<'_>> = Vec::new();
    for (config, status) in picture.instances() {
        let source = || status.source.map_or_else(|| "(none)".into(), |source| source.to_string());
        let is_unicast = matches!(config.transport, Transport::Unicast { .. });
        let new = Pool {
            interface: &config.interface,
            family: config.family,
            protocol: if matches!(config.authentication, Authentication::Ah(_)) { "AH" } else { "VRRP" },
            unicast: is_unicast.then(source),
            descriptor: status.runtime.descriptor.unwrap_or(-1),
            members: vec![(config.name.as_str(), config.vrid)],
        };
        let same = |pool: &&mut Pool<'_>| {
            (pool.interface, pool.family, pool.protocol, &pool.unicast)
                == (new.interface, new.family, new.protocol, &new.unicast)
        };
        match pools.iter_mut().find(same) {
            Some(pool) => pool.members.extend(new.members),
            None => pools.push(new),
        }
    }
    for (index, pool) in pools.iter().enumerate() {
        if index == 0 {
            page.section("VRRP Sockpool");
        }
        page.line(format!(" fd_in {0} fd_out = {0}", pool.descriptor));
        page.line(format!("   Interface = {}", pool.interface));
        page.line(format!("   Family = {}", if pool.family == Family::Ipv4 { "IPv4" } else { "IPv6" }));
        page.line(format!("   Protocol = {}", pool.protocol));
        page.line(format!("   Type = {}", if pool.unicast.is_some() { "Unicast" } else { "Multicast" }));
        if let Some(address) = &pool.unicast {
            page.line(format!("   Address = {address}"));
        }
        page.line("   Rx buf size = 0");
        page.line("   VRRP instances");
        pool.members.iter().for_each(|(name, vrid)| page.line(format!("     {name} vrid {vrid}")));
    }
}
