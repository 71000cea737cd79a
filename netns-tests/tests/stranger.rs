//! Somebody else claims an address that is held here: it is told, and nothing moves.

use std::time::Duration;

use netns_tests::inject::Injector;
use netns_tests::lab::Lab;
use netns_tests::peer::Peer;
use netns_tests::{Outcome, enabled, ensure, wait_for, wait_until};
use serde_json::Value;

const LIMIT: Duration = Duration::from_secs(10);
const V4: &str = "10.77.0.100";
const V6: &str = "fd77::100";

const CONFIGURATION: &str = r#"
[[instance]]
name = "four"
interface = "eth0"
vrid = 52
advert_interval = "100ms"
addresses = ["10.77.0.100/24"]
[[instance]]
name = "six"
interface = "eth0"
vrid = 53
advert_interval = "100ms"
addresses = ["fe80::100/64", "fd77::100/64"]
"#;

fn claim(status: &Value, address: &str) -> Option<Value> {
    let instances = status["instances"].as_array()?.iter();
    let mut addresses = instances.filter_map(|instance| instance["addresses"].as_array()).flatten();
    let found =
        addresses.find(|one| one["address"].as_str().is_some_and(|text| text.starts_with(address)))?;
    Some(found["claimed_by"].clone()).filter(|claim| !claim.is_null())
}

fn octets(mac: &str) -> Vec<u8> {
    mac.split(':').map(|octet| u8::from_str_radix(octet, 16).expect("hexadecimal")).collect()
}

/// An unsolicited neighbour advertisement (RFC 4861 §4.4) to all nodes, with a checksum by hand.
fn advertisement(mac: &[u8], source: &str, target: &str) -> Vec<u8> {
    let source: std::net::Ipv6Addr = source.parse().expect("an address");
    let target: std::net::Ipv6Addr = target.parse().expect("an address");
    let all: std::net::Ipv6Addr = "ff02::1".parse().expect("an address");
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(target.octets());
    message.extend([2, 1]);
    message.extend(mac);
    let mut summed = [source.octets(), all.octets()].concat();
    summed.extend([0, 0, 0, 32, 0, 0, 0, 58]);
    summed.extend(&message);
    let total: u32 = summed.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (total & 0xffff) + (total >> 16);
    let sum = !u16::try_from((folded & 0xffff) + (folded >> 16)).expect("folded");
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![0x33, 0x33, 0, 0, 0, 1];
    frame.extend(mac);
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255]);
    frame.extend(source.octets());
    frame.extend(all.octets());
    frame.extend(message);
    frame
}

fn claimed(lab: &Lab) -> Outcome {
    let peer = Peer::start_toml(&lab.lb1, CONFIGURATION, "vipd");
    let status = || peer.status(&lab.lb1);
    let active = || {
        let states = status().ok()?["instances"]
            .as_array()?
            .iter()
            .map(|one| one["state"].clone())
            .collect::<Vec<_>>();
        states.iter().all(|state| state == "active").then_some(())
    };
    wait_for("both are active", LIMIT, active)?;
    // Longer than what a former active may still have under way, and nobody claims anything: our own packets are none.
    std::thread::sleep(Duration::from_secs(1));
    let quiet = status()?;
    ensure(claim(&quiet, V4).is_none() && claim(&quiet, V6).is_none(), || {
        format!("nobody was there: {quiet:#}")
    })?;

    // Its kernel asks for the others' MACs from our address.
    let mac = lab.client.mac();
    lab.client.run(&["ip", "address", "add", "10.77.0.100/32", "dev", "eth0"]);
    lab.client.run(&["ip", "route", "replace", "10.77.0.99/32", "dev", "eth0", "src", V4]);
    let frame = advertisement(&octets(&mac), &lab.client.link_local(), V6);
    let _six = Injector::every(&lab.client, vec![frame], Duration::from_millis(50));
    let heard = wait_for("both claims are told", LIMIT, || {
        lab.client.inside(|| {
            // Nobody has that address; what counts is who asks for it.
            let socket = std::net::UdpSocket::bind((V4, 0));
            let _ = socket.and_then(|socket| socket.send_to(b"?", "10.77.0.99:9"));
        });
        let status = status().ok()?;
        Some([claim(&status, V4)?, claim(&status, V6)?])
    })?;
    for claim in heard {
        ensure(claim["mac"] == mac.as_str(), || format!("the client is {mac}: {claim}"))?;
    }
    wait_until("it is in the log", LIMIT, || {
        let said = peer.process.output();
        said.matches("address is claimed by another host").count() == 2
    })?;
    wait_until("a hundred more are counted", LIMIT, || {
        status()
            .ok()
            .and_then(|status| claim(&status, V6))
            .is_some_and(|claim| claim["times"].as_u64() > Some(100))
    })?;
    // One for each address in ten seconds, and no state changed.
    let told = peer.process.output().matches("address is claimed by another host").count();
    ensure(told <= 4, || format!("told {told} times"))?;
    active().ok_or_else(|| "an address was given up because of what a stranger says".to_owned().into())
}

#[test]
fn a_stranger_that_claims_an_address_is_named_and_nothing_moves() {
    if enabled(&[]) {
        let _turn = netns_tests::turn::Turn::alone();
        let lab = Lab::new(&[]);
        claimed(&lab).unwrap_or_else(|failure| panic!("{}", failure.text));
    }
}
