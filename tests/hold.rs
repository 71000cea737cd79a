//! Addresses as the kernel has them, read back with `ip -j`.

mod namespace;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::ready::{Place, VirtualAddress};
use namespace::{in_namespace, ip};
use serde_json::{Value, json};
use vipd::hold::{self, Fact, Hold, Monitor};

/// An address as the configuration gives it when nothing else is said.
fn vip(address: &str, interface: &str) -> VirtualAddress {
    let address: IpAddr = address.parse().unwrap();
    VirtualAddress {
        address,
        prefix_length: if address.is_ipv4() { 32 } else { 128 },
        interface: interface.to_owned(),
        label: None,
        scope: 0,
        broadcast: None,
        peer: None,
        preferred_lifetime: address.is_ipv6().then_some(0),
        no_dad: address.is_ipv6(),
        home: false,
        no_prefix_route: false,
        autojoin: false,
        track: true,
        place: Place { file: "test".into(), line: 1, column: 1 },
    }
}

/// What the kernel says about an address, without what is different from run to run.
fn shown(address: &str, interface: &str) -> Option<Value> {
    let all: Value = serde_json::from_str(&ip(&format!("-j addr show dev {interface}"))).unwrap();
    let infos = all[0]["addr_info"].as_array().unwrap();
    let mut info = infos.iter().find(|info| info["local"] == address).cloned()?;
    // Only newer versions of `ip` show it.
    info.as_object_mut().unwrap().remove("protocol");
    Some(info)
}

/// A veth pair, `NAME` and `NAME-peer`, that runs and has no address of its own.
fn add_link(name: &str) {
    ip(&format!("link add {name} type veth peer name {name}-peer"));
    for end in [name, &format!("{name}-peer")] {
        ip(&format!("link set {end} addrgenmode none"));
        ip(&format!("link set {end} up"));
    }
    let deadline = Instant::now() + Duration::from_secs(5);
    while !ip(&format!("link show dev {name}")).contains("state UP") {
        assert!(Instant::now() < deadline, "{name} does not come up");
    }
}

async fn add(hold: &Hold, address: &VirtualAddress) {
    let failures = hold.add(std::slice::from_ref(address)).await;
    assert!(failures.is_empty(), "{failures:?}");
}

async fn next(monitor: &mut Monitor) -> Fact {
    tokio::time::timeout(Duration::from_secs(5), monitor.next()).await.expect("a fact within 5 s")
}

#[test]
fn ipv4_address_is_added_as_keepalived_does() {
    in_namespace("ipv4_address_is_added_as_keepalived_does", async || {
        add_link("d0");
        let (hold, _monitor) = hold::open().await.unwrap();
        add(&hold, &vip("10.99.0.100", "d0")).await;
        let expected = json!({
            "family": "inet", "local": "10.99.0.100", "prefixlen": 32, "scope": "global",
            "label": "d0", "valid_life_time": 4_294_967_295u32, "preferred_life_time": 4_294_967_295u32,
        });
        assert_eq!(shown("10.99.0.100", "d0"), Some(expected));
    });
}

#[test]
fn ipv6_address_is_added_as_keepalived_does() {
    in_namespace("ipv6_address_is_added_as_keepalived_does", async || {
        add_link("d0");
        let (hold, _monitor) = hold::open().await.unwrap();
        add(&hold, &vip("2001:db8::5", "d0")).await;
        let expected = json!({
            "family": "inet6", "local": "2001:db8::5", "prefixlen": 128, "scope": "global", "nodad": true,
            "deprecated": true, "valid_life_time": 4_294_967_295u32, "preferred_life_time": 0,
        });
        assert_eq!(shown("2001:db8::5", "d0"), Some(expected));
    });
}

#[test]
fn deletion_by_somebody_else_is_a_fact() {
    in_namespace("deletion_by_somebody_else_is_a_fact", async || {
        add_link("d0");
        let (hold, mut monitor) = hold::open().await.unwrap();
        for (text, prefix) in [("10.99.0.100", 32), ("2001:db8::5", 128)] {
            let address: IpAddr = text.parse().unwrap();
            add(&hold, &vip(text, "d0")).await;
            let index = hold.links().by_name("d0").unwrap().index;
            assert!(hold.has_address(index, address));
            ip(&format!("addr del {text}/{prefix} dev d0"));
            assert_eq!(next(&mut monitor).await, Fact::AddressRemoved { index, address, prefix });
            assert!(!hold.has_address(index, address));
        }
    });
}
