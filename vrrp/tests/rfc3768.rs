//! RFC 3768: where version 2 differs from version 3.

mod support;

use std::time::Duration;

use support::*;
use vrrp::Output::{AddAddresses, AnnounceAddresses, AnnounceAgain, LowerPriorityHeard, Transition};
use vrrp::StateName::{Active, Backup};
use vrrp::sim::{Lan, Setup, What};
use vrrp::{
    AdverInterval, Advertisement, Authentication, ChecksumCoverage, Datagram, DiscardReason, Family, Input,
    IntervalError, Ladder, MULTICAST_GROUP_IPV4, Oddity, Priority, Reason, RouterConfig, Transport, Version,
    VirtualAddresses, Vrid,
};

fn ladder() -> Ladder {
    Ladder {
        version: Version::V2,
        vrid: Vrid::new(51).unwrap(),
        adver_interval: seconds(1),
        authentication: Authentication::None,
        addresses: VirtualAddresses::V4(vec![[192, 0, 2, 100].into()]),
        transport: Transport::Multicast { group: MULTICAST_GROUP_IPV4.into() },
        owner: false,
        owner_ignores_adverts: false,
        addresses_known_from: None,
        accept_old_unicast_checksum: true,
        strict: false,
        accept_no_addresses: false,
        kernel_verified_checksum: false,
    }
}

fn advertisement(priority: u8) -> Advertisement {
    Advertisement {
        version: Version::V2,
        vrid: Vrid::new(51).unwrap(),
        priority: Priority::new(priority),
        adver_interval: 1,
        authentication: Authentication::None,
        addresses: VirtualAddresses::V4(vec![[192, 0, 2, 100].into()]),
    }
}

fn judge(ladder: &Ladder, advertisement: &Advertisement) -> Result<vrrp::Accepted, DiscardReason> {
    let mut message = Vec::new();
    advertisement.emit(ChecksumCoverage::Message, &mut message);
    let destination = MULTICAST_GROUP_IPV4.into();
    ladder.judge(&Datagram::new(address(HIGHER), destination, 255, &message))
}

#[test]
fn v2_1_the_election_is_that_of_version_3_with_the_skew_of_one_second() {
    for (interval, down) in [(1, 3_609_375), (10, 30_609_375), (255, 765_609_375)] {
        let adver_interval = seconds(interval);
        let mut bench = Bench::started(RouterConfig { adver_interval, ..config_v2(100) });
        assert_eq!(bench.left(), micros(down));
        assert_eq!(
            bench.fire(),
            [
                send(100),
                AddAddresses,
                AnnounceAddresses,
                Transition { from: Backup, to: Active, reason: Reason::ActiveDown }
            ]
        );
        assert_eq!(bench.left(), adver_interval.as_duration());
    }
}

#[test]
fn v2_1_the_active_interval_is_always_our_own() {
    let mut bench = Bench::started(config_v2(100));
    bench.give(advert_every(50, 150));
    assert_eq!(bench.router.active_adver_interval(), seconds(1));
    assert_eq!(bench.left(), micros(3_609_375));
    // The skew after a release too: 156/256 s.
    bench.give(advert(0));
    assert_eq!(bench.left(), micros(609_375));
}

#[test]
fn v2_2_another_interval_is_discarded() {
    let two_seconds = Advertisement { adver_interval: 2, ..advertisement(150) };
    assert_eq!(judge(&ladder(), &two_seconds), Err(DiscardReason::Interval { got: 2, wanted: seconds(1) }));
    let none = Advertisement { adver_interval: 0, ..advertisement(150) };
    assert_eq!(judge(&ladder(), &none), Err(DiscardReason::Interval { got: 0, wanted: seconds(1) }));
}

fn v2_setup(host: u8, priority: u8, interval: u16) -> Setup {
    let mut setup = Setup::ipv4(host, Priority::new(priority));
    setup.router.version = Version::V2;
    setup.router.adver_interval = seconds(interval);
    setup
}

#[test]
fn v2_2_routers_of_different_intervals_both_become_active() {
    let mut lan = Lan::new(1);
    let one = lan.add(v2_setup(1, 150, 1));
    let two = lan.add(v2_setup(2, 100, 2));
    lan.start(one);
    lan.start(two);
    lan.run_for(Duration::from_secs(20));
    assert_eq!(lan.holders(), [one, two]);
    let reasons = lan.records().iter().filter_map(|record| match record.what {
        What::Discarded(reason) => Some(reason.name()),
        _ => None,
    });
    assert!(reasons.clone().count() > 0 && reasons.into_iter().all(|name| name == "interval"));
}

#[test]
fn v2_3_a_lower_advert_is_not_answered_unless_asked_for() {
    for answer_lower_priority in [false, true] {
        let mut bench = Bench::active(RouterConfig { answer_lower_priority, ..config_v2(100) });
        let due = adver_timer(&bench);
        let outputs = bench.after(300, advert(50));
        let heard = LowerPriorityHeard { source: address(HIGHER), priority: Priority::new(50) };
        match answer_lower_priority {
            false => assert_eq!(outputs, [AnnounceAgain, heard]),
            true => assert_eq!(outputs, [send(100), AnnounceAgain, heard]),
        }
        assert_eq!((bench.state(), adver_timer(&bench)), (Active, due));
    }
    assert!(!config_v2(100).answer_lower_priority);
    assert!(config(100).answer_lower_priority);
}

#[test]
fn v2_4_what_is_accepted_is_not_the_machines_business() {
    let (mut v2, mut v3) = (Bench::started(config_v2(100)), Bench::started(config(100)));
    assert_eq!(v2.fire(), v3.fire());
}

#[test]
fn v2_5_other_addresses_are_an_oddity_and_in_strict_mode_discarded_unless_from_the_owner() {
    let other = |priority| Advertisement {
        addresses: VirtualAddresses::V4(vec![[192, 0, 2, 222].into()]),
        ..advertisement(priority)
    };
    let strict = Ladder { strict: true, ..ladder() };
    for (ladder, priority, accepted) in
        [(ladder(), 150, true), (ladder(), 255, true), (strict.clone(), 150, false), (strict, 255, true)]
    {
        match judge(&ladder, &other(priority)) {
            Ok(got) => assert!(accepted && got.oddities.contains(Oddity::AddressList)),
            Err(reason) => assert!(!accepted && reason == DiscardReason::AddressList),
        }
    }
}

#[test]
fn v2_6_unknown_other_or_failed_authentication_is_discarded() {
    let ours = Ladder { authentication: Authentication::pass(b"s3cr3t"), ..ladder() };
    let with = |authentication| Advertisement { authentication, ..advertisement(150) };
    assert!(judge(&ours, &with(Authentication::pass(b"s3cr3t"))).is_ok());
    assert_eq!(judge(&ours, &with(Authentication::pass(b"wrong"))), Err(DiscardReason::AuthFailure));
    assert_eq!(
        judge(&ours, &with(Authentication::None)),
        Err(DiscardReason::AuthTypeMismatch { got: 0, wanted: 1 })
    );
    assert_eq!(
        judge(&ladder(), &with(Authentication::pass(b"s3cr3t"))),
        Err(DiscardReason::AuthTypeMismatch { got: 1, wanted: 0 })
    );
    for auth_type in [3, 255] {
        let other = Authentication::Other { auth_type, data: [0; 8] };
        assert_eq!(judge(&ours, &with(other)), Err(DiscardReason::AuthType { got: auth_type }));
    }
}

#[test]
fn v2_7_there_is_no_version_2_over_ipv6() {
    let mut message = Vec::new();
    advertisement(100).emit(ChecksumCoverage::Message, &mut message);
    assert_eq!(
        Advertisement::parse(&message, Family::Ipv6),
        Err(DiscardReason::Version { got: 2, wanted: Some(Version::V3) })
    );
    // And none is sent with an IPv6 address in it.
    let ipv6 = Advertisement {
        addresses: VirtualAddresses::V6(vec!["fe80::100".parse().unwrap()]),
        ..advertisement(100)
    };
    let mut message = Vec::new();
    ipv6.emit(ChecksumCoverage::Message, &mut message);
    assert_eq!((message.len(), message[3]), (16, 0));
}

#[test]
fn v2_8_the_interval_is_whole_seconds() {
    let v2 = |duration| AdverInterval::from_duration(Version::V2, duration);
    let got = Duration::from_millis(1500);
    assert_eq!(v2(got), Err(IntervalError::Fraction { version: Version::V2, got }));
    for got in [Duration::ZERO, Duration::from_secs(256), Duration::from_secs(65_536 + 1)] {
        assert_eq!(v2(got), Err(IntervalError::OutOfRange { version: Version::V2, got }));
    }
    assert_eq!(v2(Duration::from_secs(255)), Ok(seconds(255)));
}

#[test]
fn v2_8_keepalived_rounds_to_the_nearest_second() {
    for (milliseconds, rounded) in
        [(10, 1), (1_000, 1), (1_499, 1), (1_500, 2), (254_600, 255), (900_000, 255)]
    {
        let duration = Duration::from_millis(milliseconds);
        assert_eq!(AdverInterval::nearest(Version::V2, duration), seconds(rounded), "{milliseconds}");
    }
    assert_eq!(AdverInterval::nearest(Version::V3, Duration::from_millis(14)), cs(1));
    assert_eq!(AdverInterval::nearest(Version::V3, Duration::from_millis(15)), cs(2));
    assert_eq!(AdverInterval::nearest(Version::V3, Duration::from_secs(100)), cs(4095));
}

#[test]
fn an_input_is_made_of_what_the_ladder_accepted() {
    let accepted = judge(&ladder(), &advertisement(150)).unwrap();
    assert_eq!(
        Input::from(accepted),
        Input::Advertisement {
            source: address(HIGHER),
            priority: Priority::new(150),
            max_advertise_interval: seconds(1)
        }
    );
}
