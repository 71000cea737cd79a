//! Captures of keepalived 2.2.7 and FRR 8.4.4: every advert is accepted, and our machine does what theirs did.
//! See `golden/README.md`.

mod support;

use std::time::Duration;

use support::pcap::{datagrams, frames, golden};
use support::receivers::{ONE, SIX, TWENTY, TWO, ladder, unicast};
use support::*;
use vrrp::{
    Advertisement, Authentication, AuthenticationHeader, ChecksumCoverage, ChecksumForm, DiscardReason,
    Family, Ladder, MULTICAST_GROUP_IPV4, Protection, RouterConfig, StateName, Transport, UnicastPeer,
    Version,
};

/// File, adverts in it as counted by a script of its own, and the receivers that accept them.
fn captures() -> Vec<(&'static str, usize, Vec<Ladder>)> {
    let v2 = |vrid, list| ladder(Version::V2, vrid, seconds(1), list);
    let v3 = |vrid, centiseconds, list| ladder(Version::V3, vrid, cs(centiseconds), list);
    let pass = |password: &[u8]| Ladder { authentication: Authentication::pass(password), ..v2(51, TWO) };
    let direct = |ladder| Ladder { transport: unicast("192.0.2.2", "192.0.2.1"), ..ladder };
    let direct6 = |ladder| Ladder { transport: unicast("2001:db8:1::2", "2001:db8:1::1"), ..ladder };
    let injected: Vec<_> =
        (71..=79).map(|vrid| (vrid, format!("192.0.2.{}", 100 + u16::from(vrid)))).collect();
    vec![
        ("01-ka227-v2-noauth-1vip", 4, vec![v2(51, ONE)]),
        ("02-ka227-v2-pass-2vips", 3, vec![pass(b"s3cr3t")]),
        ("03-ka227-v2-ah-1vip", 3, vec![Ladder { authentication: Authentication::Header, ..v2(51, ONE) }]),
        ("04-ka227-v3-ipv4-1vip", 3, vec![v3(52, 100, ONE)]),
        ("05-ka227-v3-ipv4-20vips", 4, vec![v3(53, 50, TWENTY)]),
        ("06-ka227-v3-ipv6-ll-global", 3, vec![v3(54, 100, SIX)]),
        ("07-ka227-v3-owner-4095cs", 2, vec![v3(55, 4095, ONE)]),
        ("08-ka227-v3-10ms", 39, vec![v3(56, 1, ONE)]),
        ("09-ka227-v3-ipv4-unicast", 4, vec![direct(v3(57, 50, ONE))]),
        ("10-ka227-v3-ipv4-unicast-oldcsum", 4, vec![direct(v3(57, 50, ONE))]),
        ("11-ka227-v2-unicast-ttl64", 4, vec![direct(v2(58, ONE))]),
        ("12-ka227-v3-ipv6-unicast", 4, vec![direct6(v3(59, 50, &["2001:db8:1::100"]))]),
        ("13-ka227-v3-vmac-ipv4", 6, vec![v3(60, 50, ONE)]),
        ("14-ka227-v3-vmac-ipv6", 10, vec![v3(61, 50, SIX)]),
        ("15-ka227-v3-vmac-xmitbase-ipv4", 6, vec![v3(60, 50, ONE)]),
        ("16-ka227-v3-vmac-xmitbase-ipv6", 8, vec![v3(61, 50, SIX)]),
        ("17-frr844-v3-ipv4-ipv6", 13, vec![v3(52, 100, ONE), v3(52, 100, SIX)]),
        ("18-frr844-v2-ipv4", 6, vec![v2(51, ONE)]),
        ("19-interop-ka227-frr844-v3", 44, vec![v3(52, 100, ONE), v3(52, 100, SIX)]),
        ("22-ka227-election-learned-interval", 13, vec![v3(62, 100, &["192.0.2.100"])]),
        (
            "23-ka227-master-receives",
            51,
            injected.iter().map(|(vrid, vip)| ladder(Version::V3, *vrid, cs(100), &[vip])).collect(),
        ),
        ("26-ka227-auth-mismatch-starvation", 25, vec![pass(b"s3cr3t"), pass(b"other")]),
    ]
}

fn read(name: &str) -> Vec<(Duration, Vec<u8>)> {
    frames(&std::fs::read(golden(&format!("{name}.pcap"))).unwrap())
}

#[test]
fn every_captured_advert_is_accepted_by_exactly_one_receiver() {
    let mut files = 0;
    for (name, wanted, ladders) in captures() {
        let frames = read(name);
        let mut adverts = 0;
        for (time, datagram) in datagrams(&frames) {
            let judge = |ladder: &Ladder| match ladder.authentication {
                Authentication::Header => {
                    let mut key = Protection::Header(AuthenticationHeader::new(*b"ahkey123"));
                    ladder.judge_protected(&datagram, &mut key, Duration::ZERO)
                }
                _ => ladder.judge(&datagram),
            };
            let judged: Vec<_> = ladders.iter().map(judge).collect();
            let accepted: Vec<_> = judged.iter().flatten().collect();
            assert_eq!(accepted.len(), 1, "{name} at {time:?}: {judged:?}");
            let form = match name {
                "10-ka227-v3-ipv4-unicast-oldcsum" => ChecksumForm::MulticastPseudoHeader,
                _ if datagram.message[0] >> 4 == 2 => ChecksumForm::Message,
                _ => ChecksumForm::PseudoHeader,
            };
            assert_eq!(accepted[0].checksum_form, form, "{name} at {time:?}");
            // And our own emitter makes the same octets of it.
            let family = Family::of(datagram.destination);
            let parsed = Advertisement::parse(datagram.message, family).unwrap();
            let destination = match form {
                ChecksumForm::MulticastPseudoHeader => MULTICAST_GROUP_IPV4.into(),
                _ => datagram.destination,
            };
            let mut message = Vec::new();
            parsed.emit(
                ChecksumCoverage::for_sending(parsed.version, datagram.source, destination, false),
                &mut message,
            );
            assert_eq!(message, datagram.message, "{name} at {time:?}");
            adverts += 1;
        }
        assert_eq!(adverts, wanted, "{name}");
        files += 1;
    }
    let stored = std::fs::read_dir(golden("")).unwrap().flatten();
    let stored = stored.filter(|file| file.path().extension().is_some_and(|extension| extension == "pcap"));
    assert_eq!(files, stored.count());
}

#[test]
fn a_peer_that_must_be_near_is_discarded_when_it_is_not() {
    let frames = read("11-ka227-v2-unicast-ttl64");
    let near = UnicastPeer { address: address("192.0.2.1"), min_ttl: Some(255), max_ttl: None };
    let far = UnicastPeer { min_ttl: Some(60), max_ttl: Some(63), ..near };
    for (peer, lowest, highest) in [(near, 255, 255), (far, 60, 63)] {
        let transport = Transport::Unicast { own: None, peers: vec![peer], check_source: true };
        let ladder = Ladder { transport, ..ladder(Version::V2, 58, seconds(1), ONE) };
        for (_, datagram) in datagrams(&frames) {
            assert_eq!(ladder.judge(&datagram), Err(DiscardReason::Ttl { got: 64, lowest, highest }));
        }
    }
}

#[test]
fn a_stranger_is_discarded_only_when_the_source_is_checked() {
    let frames = read("09-ka227-v3-ipv4-unicast");
    let peer = UnicastPeer { address: address("192.0.2.3"), min_ttl: None, max_ttl: None };
    for check_source in [true, false] {
        let transport = Transport::Unicast { own: None, peers: vec![peer], check_source };
        let ladder = Ladder { transport, ..ladder(Version::V3, 57, cs(50), ONE) };
        for (_, datagram) in datagrams(&frames) {
            let judged = ladder.judge(&datagram);
            let got = address("192.0.2.1");
            assert_eq!(judged.err(), check_source.then_some(DiscardReason::Source { got }));
        }
    }
}

#[test]
fn multicast_does_not_reach_a_unicast_instance() {
    let frames = read("04-ka227-v3-ipv4-1vip");
    for own in [None, Some(address("192.0.2.2"))] {
        let transport = Transport::Unicast { own, peers: Vec::new(), check_source: false };
        let ladder = Ladder { transport, ..ladder(Version::V3, 52, cs(100), ONE) };
        for (_, datagram) in datagrams(&frames) {
            let got = MULTICAST_GROUP_IPV4.into();
            assert_eq!(ladder.judge(&datagram), Err(DiscardReason::Destination { got, wanted: own }));
        }
    }
}

// ---- The machine beside keepalived's ----

/// When our machine sends which priority, if it hears what `peers` sent in a capture; it starts at `start` before the
/// first frame.
fn replay(
    name: &str,
    vrid: u8,
    config: RouterConfig,
    start: Duration,
    until: Duration,
) -> Vec<(Duration, u8)> {
    let frames = read(name);
    let own = config.primary_address;
    let ladders = captures().into_iter().find(|(file, ..)| *file == name).unwrap().2;
    let mut bench = Bench::started(config);
    let mut sent = Vec::new();
    let mut take = |bench: &Bench, outputs: Vec<vrrp::Output>| {
        for output in outputs {
            if let vrrp::Output::SendAdvertisement(priority) = output {
                sent.push(((bench.now - *vrrp::sim::EPOCH).saturating_sub(start), priority.get()));
            }
        }
    };
    let heard = datagrams(&frames)
        .filter(|(_, datagram)| datagram.source != own && datagram.message[1] == vrid)
        .map(|(time, datagram)| (time, ladders.iter().find_map(|ladder| ladder.judge(&datagram).ok())))
        .filter(|(time, _)| *time < until)
        .chain([(until, None)]);
    for (time, accepted) in heard {
        let time = *vrrp::sim::EPOCH + start + time;
        while bench.router.poll_timeout().is_some_and(|timeout| timeout <= time) {
            let outputs = bench.fire();
            take(&bench, outputs);
        }
        bench.now = time;
        if let Some(accepted) = accepted {
            let outputs = bench.give(accepted.into());
            take(&bench, outputs);
        }
    }
    sent
}

/// When keepalived, at 192.0.2.1, sent which priority before `until`.
fn keepalived(name: &str, vrid: u8, until: Duration) -> Vec<(Duration, u8)> {
    let frames = read(name);
    datagrams(&frames)
        .filter(|(time, datagram)| {
            *time < until && datagram.source == address("192.0.2.1") && datagram.message[1] == vrid
        })
        .map(|(time, datagram)| (time, datagram.message[2]))
        .collect()
}

fn assert_alike(ours: &[(Duration, u8)], theirs: &[(Duration, u8)], within: Duration) {
    assert_eq!(ours.len(), theirs.len(), "ours {ours:?}, theirs {theirs:?}");
    for ((our_time, our_priority), (their_time, their_priority)) in ours.iter().zip(theirs) {
        assert_eq!(our_priority, their_priority);
        assert!(our_time.abs_diff(*their_time) < within, "ours {ours:?}, theirs {theirs:?}");
    }
}

#[test]
fn our_machine_sends_when_keepalived_did_through_an_election() {
    // 100 at 1 s becomes active, is preempted by 150 at 0.5 s, which is killed: back after 1.805 s.
    let name = "22-ka227-election-learned-interval";
    let config = RouterConfig { primary_address: address("192.0.2.1"), ..config(100) };
    let last = keepalived(name, 62, Duration::MAX).last().copied().unwrap();
    assert_eq!(last.1, 0, "the capture ends with keepalived's stop");
    let ours = replay(name, 62, config, micros(3_609_375), last.0);
    // keepalived's first interval is 8 ms long too long, and it stays behind.
    assert_alike(&ours, &keepalived(name, 62, last.0), Duration::from_millis(12));
}

#[test]
fn our_machine_reacts_as_keepalived_did_while_active() {
    let name = "23-ka227-master-receives";
    // Until the instances were stopped.
    let until = Duration::from_secs(7);
    for (vrid, answer_lower_priority, answer_higher_priority) in [
        (71, true, false),
        (72, true, false),
        (75, true, false),
        (76, false, false),
        (77, true, false),
        (78, true, true),
    ] {
        let theirs = keepalived(name, vrid, until);
        let config = RouterConfig {
            primary_address: address("192.0.2.1"),
            answer_lower_priority,
            answer_higher_priority,
            ..config(100)
        };
        // It began to listen about when the capture begins: its first advert comes after 3.609 s.
        let ours = replay(name, vrid, config, Duration::ZERO, until);
        if vrid == 72 {
            // keepalived's schedule starts anew with the answer to a lower advert; ours goes on (H-2).
            assert_alike(&ours[..3], &theirs[..3], Duration::from_millis(30));
            assert_eq!(ours[3].0 - ours[1].0, Duration::from_secs(1));
            continue;
        }
        assert_alike(&ours, &theirs, Duration::from_millis(30));
    }
}

#[test]
fn two_owners_resolve_by_address_where_keepalived_gives_way_for_good() {
    // VRID 73 hears the other owner from a higher address, 74 from a lower one; keepalived 2.2.7 stops in both.
    let name = "23-ka227-master-receives";
    let until = Duration::from_secs(7);
    for (vrid, stays) in [(73, false), (74, true)] {
        let config = RouterConfig { primary_address: address("192.0.2.1"), ..config(255) };
        let ours = replay(name, vrid, config, Duration::ZERO, until);
        assert_eq!(ours.len() > 6, stays, "{ours:?}");
        assert_eq!(keepalived(name, vrid, until).len(), 6);
    }
}

#[test]
fn the_captured_elections_end_with_one_active() {
    // FRR 200 takes over from keepalived 150, stops, and keepalived returns: our 100 hears them all and stays Backup.
    let name = "19-interop-ka227-frr844-v3";
    let frames = read(name);
    let (_, _, ladders) = captures().into_iter().find(|(file, ..)| *file == name).unwrap();
    let mut bench = Bench::started(config(100));
    for (time, datagram) in datagrams(&frames).filter(|(_, datagram)| datagram.source.is_ipv4()) {
        bench.now = *vrrp::sim::EPOCH + time;
        assert!(bench.router.poll_timeout().unwrap() > bench.now, "at {time:?}");
        bench.give(ladders[0].judge(&datagram).unwrap().into());
        assert_eq!(bench.state(), StateName::Backup);
    }
}
