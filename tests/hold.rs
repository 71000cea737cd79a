//! Addresses as the kernel has them, read back with `ip -j`.

mod namespace;

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::ready::{Place, VirtualAddress};
use namespace::{add_link, in_namespace, ip};
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
        manage_temporary: false,
        own_vmac: None,
        repeated: false,
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

#[test]
fn every_attribute_reaches_the_kernel() {
    in_namespace("every_attribute_reaches_the_kernel", async || {
        add_link("d0");
        let (hold, _monitor) = hold::open().await.unwrap();
        let labelled = VirtualAddress {
            prefix_length: 24,
            label: Some("d0:1".to_owned()),
            scope: 253,
            broadcast: Some([10, 99, 0, 255].into()),
            no_prefix_route: true,
            ..vip("10.99.0.100", "d0")
        };
        add(&hold, &labelled).await;
        let expected = json!({
            "family": "inet", "local": "10.99.0.100", "prefixlen": 24, "scope": "link", "label": "d0:1",
            "broadcast": "10.99.0.255", "noprefixroute": true,
            "valid_life_time": 4_294_967_295u32, "preferred_life_time": 4_294_967_295u32,
        });
        assert_eq!(shown("10.99.0.100", "d0"), Some(expected));

        let home = VirtualAddress {
            home: true,
            no_dad: false,
            preferred_lifetime: None,
            ..vip("2001:db8::6", "d0")
        };
        add(&hold, &home).await;
        let shown = shown("2001:db8::6", "d0").unwrap();
        assert_eq!(
            (&shown["home"], &shown["nodad"], &shown["deprecated"]),
            (&json!(true), &Value::Null, &Value::Null)
        );
    });
}

#[test]
fn peer_has_the_prefix_and_goes_with_the_address() {
    in_namespace("peer_has_the_prefix_and_goes_with_the_address", async || {
        add_link("d0");
        let (hold, _monitor) = hold::open().await.unwrap();
        let far: IpAddr = "10.99.1.1".parse().unwrap();
        let address = VirtualAddress { peer: Some((far, 24)), ..vip("10.99.0.100", "d0") };
        add(&hold, &address).await;
        let there = shown("10.99.0.100", "d0").unwrap();
        assert_eq!((&there["address"], &there["prefixlen"]), (&json!("10.99.1.1"), &json!(24)));
        assert!(hold.remove(&[address]).await.is_empty());
        assert_eq!(shown("10.99.0.100", "d0"), None);
    });
}

#[test]
fn what_is_already_so_is_no_failure() {
    in_namespace("what_is_already_so_is_no_failure", async || {
        add_link("d0");
        let (hold, _monitor) = hold::open().await.unwrap();
        let both = [vip("10.99.0.100", "d0"), vip("2001:db8::5", "d0")];
        let index = hold.links().by_name("d0").unwrap().index;
        for _ in 0..2 {
            assert!(hold.add(&both).await.is_empty());
            assert!(both.iter().all(|vip| hold.has_address(index, vip.address)));
        }
        for _ in 0..2 {
            assert!(hold.remove(&both).await.is_empty());
            assert!(!both.iter().any(|vip| hold.has_address(index, vip.address)));
        }
        assert_eq!(shown("10.99.0.100", "d0"), None);
        assert_eq!(shown("2001:db8::5", "d0"), None);
        assert!(hold.remove(&[vip("10.99.0.100", "nope")]).await.is_empty());
    });
}

#[test]
fn failures_name_their_address_and_the_others_are_added() {
    in_namespace("failures_name_their_address_and_the_others_are_added", async || {
        add_link("d0");
        std::fs::write("/proc/sys/net/ipv6/conf/d0/disable_ipv6", "1").unwrap();
        let (hold, _monitor) = hold::open().await.unwrap();
        let list = [
            vip("10.99.0.1", "nope"),
            vip("10.99.0.2", "d0"),
            vip("2001:db8::5", "d0"),
            vip("10.99.0.3", "d0"),
        ];
        let failures: Vec<_> =
            hold.add(&list).await.into_iter().map(|(i, error)| (i, error.to_string())).collect();
        let expected = [
            (0, "cannot add 10.99.0.1/32 to nope: No such device; there is no such interface".to_owned()),
            (
                2,
                "cannot add 2001:db8::5/128 to d0: Permission denied; IPv6 is disabled there: see \
                 net.ipv6.conf.*.disable_ipv6"
                    .to_owned(),
            ),
        ];
        assert_eq!(failures, expected);
        assert!(shown("10.99.0.2", "d0").is_some() && shown("10.99.0.3", "d0").is_some());
    });
}

#[test]
fn two_hundred_addresses_move_together() {
    in_namespace("two_hundred_addresses_move_together", async || {
        add_link("d0");
        let (hold, _monitor) = hold::open().await.unwrap();
        let list: Vec<_> = (0..200).map(|n| vip(&format!("10.99.1.{n}"), "d0")).collect();
        let count = || ip("-o -4 addr show dev d0").lines().count();
        assert!(hold.add(&list).await.is_empty());
        assert_eq!(count(), 200);
        assert_eq!(hold.links().by_name("d0").unwrap().addresses.len(), 200);
        assert!(hold.remove(&list).await.is_empty());
        assert_eq!(count(), 0);
        assert_eq!(hold.links().by_name("d0").unwrap().addresses, []);
    });
}

#[test]
fn own_changes_are_no_facts() {
    in_namespace("own_changes_are_no_facts", async || {
        add_link("d0");
        let (hold, mut monitor) = hold::open().await.unwrap();
        let both = [vip("10.99.0.100", "d0"), vip("2001:db8::5", "d0")];
        assert!(hold.add(&both).await.is_empty());
        // Its news come from a worker of the kernel, after the answer.
        let deadline = Instant::now() + Duration::from_secs(5);
        while shown("2001:db8::5", "d0").is_none_or(|info| info["tentative"] == true) {
            assert!(Instant::now() < deadline);
        }
        assert!(hold.remove(&both).await.is_empty());
        ip("addr add 10.99.0.77/24 dev d0");
        let index = hold.links().by_name("d0").unwrap().index;
        let foreign = Fact::AddressAdded { index, address: "10.99.0.77".parse().unwrap(), prefix: 24 };
        assert_eq!(next(&mut monitor).await, foreign);
    });
}

#[test]
fn link_that_goes_down_comes_up_goes_away_and_comes_back_is_told() {
    in_namespace("link_that_goes_down_comes_up_goes_away_and_comes_back_is_told", async || {
        add_link("d0");
        let (hold, mut monitor) = hold::open().await.unwrap();
        let old = hold.links().by_name("d0").unwrap().index;
        let peer = hold.links().by_name("d0-peer").unwrap().index;
        // Facts about the other end are left out.
        let mut until = async |wanted: &dyn Fn(&Fact) -> bool| {
            loop {
                let fact = next(&mut monitor).await;
                if wanted(&fact) {
                    return fact;
                }
                let of_peer = matches!(&fact, Fact::LinkChanged { index, .. } if *index == peer)
                    || matches!(&fact, Fact::LinkRemoved { index, .. } if *index == peer);
                assert!(of_peer, "{fact:?}");
            }
        };
        // The carrier goes with the other end.
        ip("link set d0-peer down");
        until(&|f| matches!(f, Fact::LinkChanged { index, up_before: true, up_now: false, appeared: false, .. } if *index == old)).await;
        assert!(!hold.links().by_name("d0").unwrap().up);
        ip("link set d0-peer up");
        until(&|f| matches!(f, Fact::LinkChanged { index, up_before: false, up_now: true, .. } if *index == old)).await;
        ip("link set d0 down");
        until(&|f| matches!(f, Fact::LinkChanged { index, up_before: true, up_now: false, .. } if *index == old)).await;
        ip("link set d0 address 02:00:00:00:00:99");
        until(&|f| matches!(f, Fact::LinkChanged { index, mac_changed: true, .. } if *index == old)).await;
        assert_eq!(hold.links().by_name("d0").unwrap().mac, Some([2, 0, 0, 0, 0, 0x99]));
        ip("link del d0");
        until(&|f| matches!(f, Fact::LinkRemoved { index, name } if *index == old && name == "d0")).await;
        assert!(hold.links().by_name("d0").is_none());
        add_link("d0");
        let new = loop {
            if let Fact::LinkChanged { index, name, appeared: true, .. } = next(&mut monitor).await
                && name == "d0"
            {
                break index;
            }
        };
        assert_ne!(new, old);
        assert_eq!(hold.links().by_name("d0").unwrap().index, new);
    });
}

#[test]
fn address_goes_on_the_link_that_has_the_name_now() {
    in_namespace("address_goes_on_the_link_that_has_the_name_now", async || {
        add_link("d0");
        let (hold, mut monitor) = hold::open().await.unwrap();
        let vip = vip("10.99.0.100", "d0");
        add(&hold, &vip).await;
        ip("link set d0 down");
        ip("link set d0 name old0");
        add_link("d1");
        ip("link set d1 down");
        ip("link set d1 name d0");
        let new = |hold: &Hold| hold.links().by_name("d0").map(|link| link.index) > Some(2);
        while !new(&hold) || hold.links().by_name("old0").is_none() {
            next(&mut monitor).await;
        }
        add(&hold, &vip).await;
        assert!(shown("10.99.0.100", "d0").is_some(), "{}", ip("addr show"));
    });
}

#[test]
fn renamed_link_is_removed_and_appears_and_its_addresses_still_go() {
    in_namespace("renamed_link_is_removed_and_appears_and_its_addresses_still_go", async || {
        add_link("d0");
        let (hold, mut monitor) = hold::open().await.unwrap();
        let address = vip("10.99.0.100", "d0");
        add(&hold, &address).await;
        let index = hold.links().by_name("d0").unwrap().index;
        // Older kernels rename only links that are down.
        ip("link set d0 down");
        ip("link set d0 name e0");
        while next(&mut monitor).await != (Fact::LinkRemoved { index, name: "d0".to_owned() }) {}
        let appeared = next(&mut monitor).await;
        assert!(
            matches!(appeared, Fact::LinkChanged { ref name, appeared: true, .. } if name == "e0"),
            "{appeared:?}"
        );
        assert!(hold.remove(&[address]).await.is_empty());
        assert_eq!(shown("10.99.0.100", "e0"), None);
    });
}

#[test]
fn port_that_leaves_a_bridge_is_not_gone() {
    in_namespace("port_that_leaves_a_bridge_is_not_gone", async || {
        add_link("d0");
        ip("link add br0 type bridge");
        let (hold, mut monitor) = hold::open().await.unwrap();
        let index = hold.links().by_name("d0").unwrap().index;
        ip("link set d0 master br0");
        ip("link set d0 nomaster");
        ip("addr add 10.99.0.77/24 dev d0");
        loop {
            match next(&mut monitor).await {
                Fact::LinkRemoved { name, .. } => panic!("{name} is still there"),
                Fact::AddressAdded { index: at, .. } if at == index => break,
                _ => {}
            }
        }
        assert!(hold.links().by_name("d0").is_some());
    });
}

#[test]
fn lost_news_are_made_up_for() {
    in_namespace("lost_news_are_made_up_for", async || {
        add_link("d0");
        let (hold, mut monitor) = hold::open().await.unwrap();
        let held = vip("10.99.0.100", "d0");
        add(&hold, &held).await;
        // Far more than the socket has room for. The first is told, and its removal is lost; so is ours.
        let adds = (0..4000).map(|n| format!("addr add 10.1.{}.{}/32 dev d0\n", n / 250, n % 250));
        let dels =
            ["addr del 10.1.0.0/32 dev d0\n".to_owned(), "addr del 10.99.0.100/32 dev d0\n".to_owned()];
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), adds.chain(dels).collect::<String>()).unwrap();
        ip(&format!("-batch {}", file.path().display()));

        let index = hold.links().by_name("d0").unwrap().index;
        let removed = Fact::AddressRemoved { index, address: held.address, prefix: 32 };
        let (mut overrun, mut told) = (false, 0);
        loop {
            match next(&mut monitor).await {
                Fact::Overrun => overrun = true,
                Fact::AddressAdded { .. } => told += 1,
                fact if fact == removed => break,
                fact => assert!(matches!(fact, Fact::AddressRemoved { .. }), "{fact:?}"),
            }
        }
        assert!(overrun, "the test must lose news to prove anything");
        assert!(told >= 3999, "{told}");
        let links = hold.links();
        let known: HashSet<_> =
            links.by_name("d0").unwrap().addresses.iter().map(|a| a.address.to_string()).collect();
        let expected: HashSet<_> = (1..4000).map(|n| format!("10.1.{}.{}", n / 250, n % 250)).collect();
        assert_eq!(known, expected);
    });
}
