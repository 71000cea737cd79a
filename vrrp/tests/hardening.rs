//! What no packet, and no delay, may do to a router (H-1 to H-8). keepalived 2.2.7 fails H-2, H-3 and H-4.

mod support;

use std::time::Duration;

use serde_json::Value;
use support::pcap::{golden, hex};
use support::*;
use vrrp::Output::{AnnounceAgain, RemoveAddresses, Transition};
use vrrp::StateName::{Active, Backup, Initialize};
use vrrp::sim::{Lan, RouterId, Setup, What};
use vrrp::{
    Answers, Authentication, Family, Input, MULTICAST_GROUP_IPV6, Output, Priority, Reason, RouterConfig,
    Transport, Version, VirtualAddresses, Vrid,
};

/// The vectors that must be discarded: ID, IP packet, and the receiver that it was made for.
fn discarded() -> Vec<(String, Vec<u8>, Setup)> {
    let file = std::fs::read_to_string(golden("vectors.json")).unwrap();
    let vectors: Value = serde_json::from_str(&file).unwrap();
    let vectors = vectors["frames"].as_array().unwrap().iter();
    vectors
        .filter(|vector| vector["ours"].as_str().is_some_and(|verdict| verdict.starts_with("drop")))
        .map(|vector| {
            let id = vector["id"].as_str().unwrap().to_owned();
            let config = vector["local_config"].as_str().unwrap();
            let vips = vector["local_vips"].as_array().unwrap().iter();
            let vips: Vec<_> = vips.map(|vip| address(vip.as_str().unwrap())).collect();
            let family = Family::of(vips[0]);
            let mut setup = Setup::ipv4(1, Priority::new(100));
            setup.router.vrid = Vrid::new(id[1..].parse().unwrap()).unwrap();
            setup.addresses = VirtualAddresses::of_family(family, vips);
            if family == Family::Ipv6 {
                setup.router.primary_address = address("fe80::ff:fe00:a");
                setup.transport = Transport::Multicast { group: MULTICAST_GROUP_IPV6.into() };
            }
            setup.router.adver_interval = cs(20);
            if config.contains("version 2") {
                setup.router.version = Version::V2;
                setup.router.adver_interval = seconds(1);
            }
            if config.contains("auth_pass s3cr3t") {
                setup.authentication = Authentication::pass(b"s3cr3t");
            }
            (id, hex(vector["frame"].as_str().unwrap())[14..].to_vec(), setup)
        })
        .collect()
}

/// The valid active that the receiver hears.
fn better(setup: &Setup) -> Setup {
    let mut better = setup.clone();
    better.router.priority = Priority::new(200);
    better.router.primary_address = match setup.addresses.family() {
        Family::Ipv4 => address("192.0.2.3"),
        Family::Ipv6 => address("fe80::ff:fe00:c"),
    };
    better
}

/// Lets 10 packets a second for 5 s come in; what became of the receiver at each step.
fn injected(packet: Option<&[u8]>, lan: &mut Lan, watched: RouterId) -> Vec<vrrp::VirtualRouter> {
    (0..50)
        .map(|_| {
            if let Some(packet) = packet {
                lan.inject(packet);
            }
            lan.run_for(Duration::from_millis(100));
            lan.machine(watched).clone()
        })
        .collect()
}

#[test]
fn h_1_a_discarded_packet_changes_nothing() {
    let vectors = discarded();
    assert_eq!(vectors.len(), 26);
    for (id, packet, setup) in vectors {
        let run = |packet: Option<&[u8]>| {
            let mut lan = Lan::new(1);
            let active = lan.add(better(&setup));
            let backup = lan.add(setup.clone());
            lan.start(active);
            lan.start(backup);
            lan.run_for(Duration::from_secs(6));
            assert_eq!(lan.machine(backup).state().name(), Backup);
            (injected(packet, &mut lan, backup), lan)
        };
        let ((with, lan), (without, _)) = (run(Some(&packet)), run(None));
        assert_eq!(with, without, "{id}");
        let discards = lan.records().iter().filter(|record| matches!(record.what, What::Discarded(_)));
        assert_eq!(discards.count(), 2 * 50, "{id}");
    }
}

#[test]
fn h_2_an_active_keeps_its_schedule_whatever_is_discarded() {
    for (id, packet, mut setup) in discarded() {
        if setup.router.version == Version::V3 {
            setup.router.adver_interval = cs(20);
        }
        let interval = setup.router.adver_interval.as_duration();
        let mut lan = Lan::new(1);
        let active = lan.add(setup);
        lan.start(active);
        lan.run_for(Duration::from_secs(5));
        assert_eq!(lan.machine(active).state().name(), Active);
        let before = lan.records().len();
        for _ in 0..80 {
            lan.inject(&packet);
            lan.run_for(Duration::from_millis(100));
        }
        let adverts: Vec<_> = lan.records()[before..]
            .iter()
            .filter(|record| matches!(record.what, What::Output(Output::SendAdvertisement(_))))
            .map(|record| record.at)
            .collect();
        assert_eq!(adverts.len() as u128, 8000 / interval.as_millis(), "{id}");
        assert!(adverts.windows(2).all(|pair| pair[1] - pair[0] == interval), "{id}");
    }
}

#[test]
fn h_2_an_active_keeps_its_schedule_whatever_lower_adverts_come() {
    let mut bench = Bench::active(RouterConfig { adver_interval: cs(20), ..config(100) });
    let (start, mut dues) = (bench.now, Vec::new());
    for step in 1..=800 {
        let end = start + Duration::from_millis(10) * step;
        while bench.router.poll_timeout().unwrap() <= end {
            assert_eq!(bench.fire(), [send(100)]);
            dues.push(bench.now - start);
        }
        bench.now = end;
        bench.give(advert(50));
        bench.give(advert_from(LOWER, 100));
    }
    assert_eq!(dues, (1..=40).map(|n| Duration::from_millis(200) * n).collect::<Vec<_>>());
}

#[test]
fn h_3_a_stream_of_priority_0_does_not_hold_a_backup_down() {
    let mut bench = Bench::started(config(100));
    bench.give(advert(0));
    let deadline = bench.router.poll_timeout().unwrap();
    assert_eq!(bench.left(), micros(609_375));
    while bench.now < deadline - Duration::from_millis(10) {
        bench.after(10, advert(0));
        assert_eq!(bench.router.poll_timeout(), Some(deadline));
    }
    bench.fire();
    assert_eq!(bench.state(), Active);
}

#[test]
fn h_3_priority_0_does_not_lengthen_a_timer_that_is_about_to_fire() {
    let mut bench = Bench::started(config(100));
    bench.after(3600, advert(0));
    assert_eq!(bench.left(), micros(9_375));
}

#[test]
fn h_4_interval_0_is_never_learned() {
    let (_, packet, setup) = discarded().into_iter().find(|(id, ..)| id == "M14").unwrap();
    let mut lan = Lan::new(1);
    let backup = lan.add(setup);
    lan.start(backup);
    injected(Some(&packet), &mut lan, backup);
    // It takes over once, and that is all: keepalived 2.2.7 changed its state 82 times in 8 s.
    let states: Vec<_> = lan.transitions().map(|(_, _, to, _)| to).collect();
    assert_eq!(states, [Backup, Active]);
    let names = lan.records().iter().filter_map(|record| match record.what {
        What::Discarded(reason) => Some(reason.name()),
        _ => None,
    });
    assert!(names.into_iter().all(|name| name == "zero_interval"));
}

#[test]
fn h_5_lower_adverts_are_answered_at_most_ten_times_in_an_interval() {
    let mut bench = Bench::active(config(100));
    let due = adver_timer(&bench);
    let (mut answers, mut announcements) = (0, 0);
    for _ in 0..999 {
        let outputs = bench.after(1, advert(50));
        answers += outputs.iter().filter(|output| is_advert(output)).count();
        announcements += outputs.iter().filter(|output| **output == AnnounceAgain).count();
        assert!(matches!(outputs.last(), Some(Output::LowerPriorityHeard { .. })));
    }
    assert_eq!((answers, announcements), (usize::from(Answers::MOST), usize::from(Answers::MOST)));
    assert_eq!(adver_timer(&bench), due);
    // The next interval has ten of its own.
    bench.fire();
    assert_eq!(bench.after(10, advert(50))[0], send(100));
}

#[test]
fn h_5_a_stream_of_priority_0_neither_floods_nor_silences_an_active() {
    let mut bench = Bench::active(config(100));
    let mut longest = Duration::ZERO;
    let (mut adverts, mut last) = (0, bench.now);
    for _ in 0..10_000 {
        bench.now += Duration::from_millis(1);
        let mut outputs = Vec::new();
        if bench.router.poll_timeout().unwrap() <= bench.now {
            outputs.extend(bench.give(Input::Timeout));
        }
        outputs.extend(bench.give(advert(0)));
        if outputs.iter().any(is_advert) {
            adverts += outputs.iter().filter(|output| is_advert(output)).count();
            longest = longest.max(bench.now - last);
            last = bench.now;
        }
    }
    assert!((100..=111).contains(&adverts), "{adverts} in 10 s");
    assert!(longest <= Duration::from_secs(1), "silent for {longest:?}");
}

#[test]
fn h_6_an_advert_that_waited_counts_before_the_expired_timer() {
    let mut bench = Bench::started(config(100));
    // The process slept over the deadline; the socket is read first, then the timer is told.
    bench.now += Duration::from_secs(4);
    assert_eq!(bench.give(advert(150)), []);
    assert_eq!(bench.give(Input::Timeout), []);
    assert_eq!((bench.state(), bench.left()), (Backup, micros(3_609_375)));
}

#[test]
fn h_6_a_backup_that_stood_still_does_not_take_over_from_a_living_active() {
    for pause in [1_000, 3_500, 5_000, 7_000, 8_000, 60_000] {
        let mut lan = Lan::new(1);
        let active = lan.add(Setup::ipv4(1, Priority::new(150)));
        let backup = lan.add(Setup::ipv4(2, Priority::new(100)));
        lan.start(active);
        lan.start(backup);
        lan.run_for(Duration::from_millis(10_050));
        lan.pause(backup);
        lan.run_for(Duration::from_millis(pause));
        lan.resume(backup);
        lan.run_for(Duration::from_secs(10));
        assert_eq!(lan.holder_counts(&[backup]), [(Duration::ZERO, 0)], "{pause} ms");
    }
}

#[test]
fn h_7_on_stop_the_advert_goes_out_before_the_addresses_go() {
    let mut bench = Bench::active(config(100));
    let outputs = bench.give(Input::Shutdown);
    assert_eq!(outputs[..2], [send(0), RemoveAddresses]);
}

#[test]
fn h_8_a_fault_of_an_active_sends_priority_0_once() {
    let mut bench = Bench::active(config(100));
    assert_eq!(
        bench.give(Input::Fault),
        [send(0), RemoveAddresses, Transition { from: Active, to: Initialize, reason: Reason::Fault }]
    );
    assert_eq!(bench.give(Input::Fault), []);
}

#[test]
fn h_8_a_fault_of_a_backup_sends_nothing() {
    let mut bench = Bench::started(config(100));
    assert_eq!(
        bench.give(Input::Fault),
        [Transition { from: Backup, to: Initialize, reason: Reason::Fault }]
    );
    assert_eq!(bench.router.poll_timeout(), None);
}
