//! Routers on a simulated LAN: takeover times, partitions, one-way loss, standstill; and the LAN itself.

mod support;

use std::time::Duration;

use support::pcap::{datagrams, frames};
use support::*;
use vrrp::StateName::{Active, Backup};
use vrrp::sim::{Lan, Link, RouterId, Setup, What};
use vrrp::{
    Authentication, Input, Output, Priority, Reason, RouterConfig, StateName, Transport, UnicastPeer, Version,
};

const DELAY: Duration = Duration::from_micros(100);

/// 150 and 100, started, 150 is active.
fn pair(change: impl Fn(RouterConfig) -> RouterConfig) -> (Lan, RouterId, RouterId) {
    let mut lan = Lan::new(1);
    let [better, worse] = [(1, 150), (2, 100)].map(|(host, priority)| {
        let setup = Setup::ipv4(host, Priority::new(priority));
        let id = lan.add(Setup { router: change(setup.router.clone()), ..setup });
        lan.start(id);
        id
    });
    let down = lan.machine(worse).active_down_interval();
    lan.run_for(down * 3);
    assert_eq!(lan.holders(), [better]);
    (lan, better, worse)
}

fn last_advert(lan: &Lan, router: RouterId) -> Duration {
    let sent = |what: &What| matches!(what, What::Output(Output::SendAdvertisement(_)));
    lan.records().iter().rev().find(|record| record.router == router && sent(&record.what)).unwrap().at
}

/// When a router came to a state, at last.
fn came_to(lan: &Lan, router: RouterId, state: StateName) -> (Duration, Reason) {
    let transitions = lan.transitions().filter(|(_, who, to, _)| *who == router && *to == state);
    transitions.last().map(|(at, _, _, reason)| (at, reason)).unwrap()
}

#[test]
fn a_dead_active_is_replaced_exactly_one_down_interval_after_its_last_advert() {
    for (version, interval, down) in [
        (Version::V2, seconds(1), 3_609_375_000),
        (Version::V3, cs(100), 3_609_375_000),
        (Version::V3, cs(10), 360_937_500),
        (Version::V3, cs(1), 36_093_750),
    ] {
        let (mut lan, better, worse) =
            pair(|config| RouterConfig { version, adver_interval: interval, ..config });
        let last = last_advert(&lan, better);
        lan.power_off(better);
        lan.run_for(Duration::from_secs(10));
        let heard_last = last + DELAY;
        assert_eq!(
            came_to(&lan, worse, Active),
            (heard_last + Duration::from_nanos(down), Reason::ActiveDown)
        );
    }
}

#[test]
fn a_stopped_active_is_replaced_after_the_skew_time() {
    let (mut lan, better, worse) = pair(|config| config);
    let stop = lan.now();
    lan.give(better, Input::Shutdown);
    lan.run_for(Duration::from_secs(2));
    let source = address("192.0.2.1");
    assert_eq!(
        came_to(&lan, worse, Active),
        (stop + DELAY + micros(609_375), Reason::ActiveReleased { source })
    );
}

#[test]
fn a_better_router_that_returns_takes_over_after_its_own_down_interval() {
    let (mut lan, better, worse) = pair(|config| config);
    lan.power_off(better);
    lan.run_for(Duration::from_secs(5));
    let start = lan.now();
    lan.start(better);
    lan.run_for(Duration::from_secs(5));
    let took_over = came_to(&lan, better, Active).0;
    assert_eq!(took_over, start + Duration::from_nanos(3_414_062_500));
    let (source, priority) = (address("192.0.2.1"), Priority::new(150));
    assert_eq!(
        came_to(&lan, worse, Backup),
        (took_over + DELAY, Reason::HigherPriority { source, priority })
    );
    // Both held the addresses for as long as the advert was on its way.
    let both = lan.time_with_holders(&[better, worse], start..lan.now(), |holders| holders > 1);
    assert_eq!(both, DELAY);
}

#[test]
fn of_three_only_the_best_of_the_rest_takes_over() {
    let mut lan = Lan::new(1);
    let routers = [200, 150, 100].map(|priority| {
        let id = lan.add(Setup::ipv4(priority, Priority::new(priority)));
        lan.start(id);
        id
    });
    lan.run_for(Duration::from_secs(10));
    lan.power_off(routers[0]);
    lan.run_for(Duration::from_secs(10));
    assert_eq!(lan.holders(), [routers[1]]);
    assert_eq!(lan.holder_counts(&[routers[2]]), [(Duration::ZERO, 0)]);
}

#[test]
fn both_parts_of_a_partition_have_an_active_and_the_better_one_stays() {
    let (mut lan, better, worse) = pair(|config| config);
    lan.partition(&[&[better], &[worse]]);
    lan.run_for(Duration::from_secs(10));
    assert_eq!(lan.holders(), [better, worse]);
    let healed = lan.now();
    lan.heal();
    lan.run_for(Duration::from_secs(1) + DELAY);
    assert_eq!(lan.holders(), [better]);
    lan.run_for(Duration::from_secs(60));
    let none = lan.time_with_holders(&[better, worse], healed..lan.now(), |holders| holders == 0);
    assert_eq!((none, lan.holders()), (Duration::ZERO, vec![better]));
}

#[test]
fn with_loss_in_one_direction_both_are_active_and_the_better_one_knows() {
    // No election through adverts alone can see this: the worse one hears nobody.
    let (mut lan, better, worse) = pair(|config| config);
    lan.cut(better, worse);
    lan.run_for(Duration::from_secs(10));
    assert_eq!(lan.holders(), [better, worse]);
    let (source, priority) = (address("192.0.2.2"), Priority::new(100));
    let heard = What::Output(Output::LowerPriorityHeard { source, priority });
    assert!(lan.records().iter().any(|record| record.router == better && record.what == heard));
    lan.heal();
    lan.run_for(Duration::from_secs(2));
    assert_eq!(lan.holders(), [better]);
}

#[test]
fn an_active_that_stood_still_for_long_lets_go_before_anything_else() {
    let (mut lan, better, worse) = pair(|config| config);
    lan.pause(better);
    lan.run_for(Duration::from_secs(30));
    assert_eq!(
        lan.holders(),
        [better, worse],
        "what a standing process holds is for the kernel lease to end"
    );
    let resumed = lan.now();
    lan.resume(better);
    assert_eq!(lan.holders(), [worse]);
    assert_eq!(came_to(&lan, better, Backup), (resumed, Reason::Resurrected));
    lan.run_for(Duration::from_secs(10));
    assert_eq!(came_to(&lan, better, Active).0, resumed + Duration::from_nanos(3_414_062_500));
    assert_eq!(lan.holders(), [better]);
}

#[test]
fn lost_adverts_do_not_matter_until_three_in_a_row_are_lost() {
    let (mut lan, better, worse) = pair(|config| config);
    for lost in 1..=2 {
        lan.cut(better, worse);
        lan.run_for(Duration::from_secs(lost));
        lan.heal();
        lan.run_for(Duration::from_secs(3));
    }
    assert_eq!(lan.holder_counts(&[worse]), [(Duration::ZERO, 0)]);
}

#[test]
fn unicast_routers_of_version_2_with_a_password_elect_like_any() {
    let mut lan = Lan::new(1);
    let routers = [1, 2, 3].map(|host: u8| {
        let mut setup = Setup::ipv4(host, Priority::new(100 + host));
        setup.router.version = Version::V2;
        setup.router.adver_interval = seconds(1);
        setup.authentication = Authentication::pass(b"s3cr3t");
        let peers = (1..=3).filter(|peer| *peer != host).map(|peer| UnicastPeer {
            address: address(&format!("192.0.2.{peer}")),
            min_ttl: Some(255),
            max_ttl: None,
        });
        let own = Some(setup.router.primary_address);
        setup.transport = Transport::Unicast { own, peers: peers.collect(), check_source: true };
        let id = lan.add(setup);
        lan.start(id);
        id
    });
    lan.run_for(Duration::from_secs(10));
    assert_eq!(lan.holders(), [routers[2]]);
    assert!(!lan.records().iter().any(|record| matches!(record.what, What::Discarded(_))));
}

#[test]
fn routers_whose_passwords_differ_do_not_silence_each_other() {
    // As in the capture 26, where one of two keepaliveds never transmits again.
    let mut lan = Lan::new(1);
    let routers = [(1, b"s3cr3t".as_slice()), (2, b"other")].map(|(host, password)| {
        let mut setup = Setup::ipv4(host, Priority::new(99 + host));
        setup.router.version = Version::V2;
        setup.router.adver_interval = seconds(1);
        setup.authentication = Authentication::pass(password);
        let id = lan.add(setup);
        lan.start(id);
        id
    });
    lan.run_for(Duration::from_secs(24));
    for router in routers {
        let sent = lan.records().iter().filter(|record| {
            record.router == router && matches!(record.what, What::Output(Output::SendAdvertisement(_)))
        });
        assert_eq!(sent.count(), 21);
    }
}

#[test]
fn a_reloaded_router_uses_its_new_setup() {
    let (mut lan, better, worse) = pair(|config| config);
    lan.reconfigure(worse, Setup::ipv4(2, Priority::new(200)));
    lan.run_for(Duration::from_secs(5));
    assert_eq!(lan.holders(), [worse]);
    assert_eq!(lan.machine(better).state().name(), Backup);
}

// ---- The LAN itself ----

fn lossy(seed: u64) -> Lan {
    let mut lan = Lan::new(seed);
    lan.set_links(Link { jitter: Duration::from_millis(20), loss_permille: 300, ..Link::default() });
    for priority in [200, 150, 100] {
        let id = lan.add(Setup::ipv4(priority, Priority::new(priority)));
        lan.start(id);
    }
    lan.run_for(Duration::from_secs(300));
    lan
}

#[test]
fn a_seed_gives_the_same_run_again() {
    assert_eq!(lossy(7).records(), lossy(7).records());
    assert_ne!(lossy(7).records(), lossy(8).records());
}

#[test]
fn a_capture_of_the_lan_has_every_advert_at_its_time() {
    let mut lan = Lan::new(1);
    lan.start_capture();
    let v4 = lan.add(Setup::ipv4(1, Priority::new(100)));
    let v6 = lan.add(ipv6_setup(1, 100));
    lan.start(v4);
    lan.start(v6);
    lan.run_for(Duration::from_secs(10));
    let mut pcap = Vec::new();
    lan.write_pcap(&mut pcap).unwrap();
    let frames = frames(&pcap);
    let captured: Vec<_> = datagrams(&frames).map(|(at, datagram)| (at, datagram.source)).collect();
    let sources = [address("192.0.2.1"), address("fe80::1")];
    let sent = (0..7).flat_map(|n| sources.map(|source| (Duration::from_secs(n), source)));
    assert_eq!(captured, sent.collect::<Vec<_>>());
    assert_eq!(frames[0].1[..12], [0x01, 0, 0x5e, 0, 0, 0x12, 2, 0, 0, 0, 0, 1]);
    assert_eq!(frames[1].1[..12], [0x33, 0x33, 0, 0, 0, 0x12, 2, 0, 0, 0, 0, 2]);
}

#[test]
fn a_router_that_is_off_hears_nothing() {
    let (mut lan, better, worse) = pair(|config| config);
    lan.power_off(worse);
    lan.run_for(Duration::from_secs(10));
    let off = lan.records().iter().rposition(|record| record.what == What::PoweredOff).unwrap();
    assert!(lan.records()[off..].iter().skip(1).all(|record| record.router == better));
}
