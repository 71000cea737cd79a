//! RFC 9568 §6.4, statement by statement. The ID in a test's name is the one in the table of the crate's documentation.

mod support;

use std::time::Duration;

use support::*;
use vrrp::Output::{AddAddresses, AnnounceAddresses, AnnounceAgain, RemoveAddresses, Transition};
use vrrp::StateName::{Active, Backup, Initialize};
use vrrp::sim::{Lan, Setup};
use vrrp::{Family, Input, Output, Priority, Reason, Vrid, virtual_mac};

// ---- Initialize ----

#[test]
fn v3_6_4_1_1_the_owner_is_active_at_once() {
    let mut bench = Bench::stopped(config(255));
    assert_eq!(
        bench.give(Input::Startup),
        [
            send(255),
            AddAddresses,
            AnnounceAddresses,
            Transition { from: Initialize, to: Active, reason: Reason::Owner }
        ]
    );
    assert_eq!(bench.left(), Duration::from_secs(1));
}

#[test]
fn v3_6_4_1_2_any_other_listens_and_sends_nothing() {
    let mut bench = Bench::stopped(config(254));
    assert_eq!(
        bench.give(Input::Startup),
        [Transition { from: Initialize, to: Backup, reason: Reason::Startup }]
    );
    assert_eq!(bench.router.active_adver_interval(), cs(100));
    // 3 s + 2/256 s.
    assert_eq!(bench.left(), Duration::from_nanos(3_007_812_500));
}

#[test]
fn v3_6_4_1_3_the_addresses_are_announced_once_for_each_takeover() {
    let mut bench = Bench::active(config(100));
    let mut announced = 1;
    for _ in 0..3 {
        bench.give(advert(200));
        announced += bench.fire().iter().filter(|output| **output == AnnounceAddresses).count();
        assert_eq!(bench.adverts_within(Duration::from_secs(10)), 10);
    }
    assert_eq!(announced, 4);
}

#[test]
fn v3_6_4_1_4_adverts_are_ignored_in_initialize() {
    let mut bench = Bench::stopped(config(100));
    for input in [advert(0), advert(50), advert(200), Input::Timeout, Input::Shutdown, Input::Fault] {
        assert_eq!(bench.give(input), []);
        assert_eq!((bench.state(), bench.router.poll_timeout()), (Initialize, None));
    }
}

#[test]
fn v3_6_4_1_5_nothing_is_announced_before_the_addresses_are_added() {
    for (mut bench, input) in
        [(Bench::stopped(config(255)), Input::Startup), (Bench::started(config(100)), Input::Timeout)]
    {
        bench.now += Duration::from_secs(4);
        let outputs = bench.give(input);
        let place = |wanted| outputs.iter().position(|output| *output == wanted).unwrap();
        assert_eq!(place(AnnounceAddresses), place(AddAddresses) + 1);
    }
}

// ---- Backup ----

/// Everything that a Backup may hear without leaving its state.
fn heard_in_backup() -> [Input; 6] {
    [
        advert(0),
        advert(50),
        advert(100),
        advert(200),
        advert_every(10, 255),
        Input::PriorityChanged(Priority::new(90)),
    ]
}

#[test]
fn v3_6_4_2_1_a_backup_has_no_ipv4_address_to_answer_arp_for() {
    let mut lan = Lan::new(1);
    let better = lan.add(Setup::ipv4(1, Priority::new(150)));
    let backup = lan.add(Setup::ipv4(2, Priority::new(100)));
    lan.start(better);
    lan.start(backup);
    lan.run_for(Duration::from_secs(60));
    assert_eq!(lan.holder_counts(&[backup]), [(Duration::ZERO, 0)]);
    assert_eq!(lan.machine(backup).state().name(), Backup);
}

#[test]
fn v3_6_4_2_2_a_backup_has_no_ipv6_address_to_answer_solicitations_for() {
    let mut lan = Lan::new(1);
    let better = lan.add(ipv6_setup(1, 150));
    let backup = lan.add(ipv6_setup(2, 100));
    lan.start(better);
    lan.start(backup);
    lan.run_for(Duration::from_secs(60));
    assert_eq!(lan.holder_counts(&[backup]), [(Duration::ZERO, 0)]);
    assert_eq!(lan.holders(), [better]);
}

#[test]
fn v3_6_4_2_3_a_backup_sends_nothing_whatever_it_hears() {
    let mut bench = Bench::started(config(100));
    for input in heard_in_backup() {
        assert_eq!(bench.after(100, input), []);
        assert_eq!(bench.state(), Backup);
    }
}

#[test]
fn v3_6_4_2_4_whoever_leaves_active_gives_up_the_virtual_mac_with_the_addresses() {
    for input in [advert(200), Input::Resurrected, Input::Fault, Input::Shutdown] {
        let mut bench = Bench::active(config(100));
        let outputs = bench.give(input);
        let removed = outputs.iter().position(|output| *output == RemoveAddresses).unwrap();
        let left =
            outputs.iter().position(|output| matches!(output, Transition { from: Active, .. })).unwrap();
        assert!(removed < left);
    }
}

#[test]
fn v3_6_4_2_5_a_backup_is_never_told_to_hold_the_addresses() {
    let mut bench = Bench::active(config(100));
    assert_eq!(bench.give(advert(200)).iter().filter(|output| **output == RemoveAddresses).count(), 1);
    for input in heard_in_backup() {
        assert!(!bench.after(100, input).contains(&AddAddresses));
    }
}

#[test]
fn v3_6_4_2_6_shutdown_of_a_backup_sends_nothing() {
    let mut bench = Bench::started(config(100));
    assert_eq!(
        bench.after(500, Input::Shutdown),
        [Transition { from: Backup, to: Initialize, reason: Reason::Shutdown }]
    );
    assert_eq!(bench.router.poll_timeout(), None);
}

#[test]
fn v3_6_4_2_7_silence_makes_a_backup_active_advert_first() {
    let mut bench = Bench::started(config(100));
    assert_eq!(bench.left(), micros(3_609_375));
    assert_eq!(
        bench.fire(),
        [
            send(100),
            AddAddresses,
            AnnounceAddresses,
            Transition { from: Backup, to: Active, reason: Reason::ActiveDown }
        ]
    );
    assert_eq!(bench.left(), Duration::from_secs(1));
}

#[test]
fn v3_6_4_2_7_the_timer_does_not_fire_a_nanosecond_early() {
    let mut bench = Bench::started(config(100));
    bench.now = bench.router.poll_timeout().unwrap() - Duration::from_nanos(1);
    assert_eq!(bench.give(Input::Timeout), []);
    assert_eq!(bench.state(), Backup);
}

#[test]
fn v3_6_4_2_8_priority_0_leaves_the_skew_time() {
    let mut bench = Bench::started(config(150));
    bench.after(1000, advert(200));
    assert_eq!(bench.after(300, advert(0)), []);
    // 106/256 s.
    assert_eq!(bench.left(), Duration::from_nanos(414_062_500));
    let source = address(HIGHER);
    assert_eq!(
        bench.fire().last(),
        Some(&Transition { from: Backup, to: Active, reason: Reason::ActiveReleased { source } })
    );
}

#[test]
fn v3_6_4_2_8_an_advert_after_the_release_makes_it_a_lost_active_again() {
    let mut bench = Bench::started(config(150));
    bench.give(advert(0));
    bench.after(100, advert(200));
    assert_eq!(
        bench.fire().last(),
        Some(&Transition { from: Backup, to: Active, reason: Reason::ActiveDown })
    );
}

#[test]
fn v3_6_4_2_9_lower_priority_leaves_the_down_timer() {
    let mut bench = Bench::started(config(100));
    let deadline = bench.router.poll_timeout();
    for _ in 0..36 {
        assert_eq!(bench.after(100, advert_every(50, 99)), []);
        assert_eq!(bench.router.poll_timeout(), deadline);
        assert_eq!(bench.router.active_adver_interval(), cs(100));
    }
    bench.fire();
    assert_eq!(bench.state(), Active);
}

#[test]
fn v3_6_4_2_10_an_accepted_advert_restarts_the_down_timer() {
    for (preempt_mode, priority) in [(true, 100), (true, 101), (true, 255), (false, 1), (false, 200)] {
        let mut bench = Bench::started(vrrp::RouterConfig { preempt_mode, ..config(100) });
        assert_eq!(bench.after(3000, advert(priority)), []);
        assert_eq!(bench.left(), micros(3_609_375), "{preempt_mode} {priority}");
    }
}

#[test]
fn v3_6_4_2_11_equal_priority_is_accepted_from_any_address() {
    for source in [LOWER, OWN, HIGHER] {
        let mut bench = Bench::started(config(100));
        bench.after(3000, advert_from(source, 100));
        assert_eq!(bench.left(), micros(3_609_375), "{source}");
    }
}

#[test]
fn v3_6_4_2_12_only_accepted_adverts_teach_the_interval() {
    let mut bench = Bench::started(config(100));
    for discarded in [advert_every(50, 0), advert_every(50, 99)] {
        bench.give(discarded);
        assert_eq!(bench.router.active_adver_interval(), cs(100));
    }
    bench.give(advert_every(50, 150));
    assert_eq!(bench.router.active_adver_interval(), cs(50));
}

#[test]
fn v3_6_4_2_13_the_down_interval_follows_the_learned_interval() {
    let mut bench = Bench::started(config(100));
    bench.give(advert_every(50, 150));
    assert_eq!(bench.left(), Duration::from_nanos(1_804_687_500));
    // And the skew after a release does too: 156/256 * 0.5 s.
    bench.give(advert_every(100, 0));
    assert_eq!(bench.left(), Duration::from_nanos(304_687_500));
}

#[test]
fn v3_6_4_2_14_an_active_sends_at_its_own_interval_again() {
    let mut bench = Bench::started(config(100));
    bench.give(advert_every(50, 150));
    bench.fire();
    assert_eq!(bench.left(), Duration::from_secs(1));
    assert_eq!(bench.router.active_adver_interval(), cs(100));
    // Also when it starts over as a Backup.
    bench.give(Input::Fault);
    bench.give(Input::Startup);
    assert_eq!(bench.left(), micros(3_609_375));
}

// ---- Active ----

#[test]
fn v3_6_4_3_1_an_active_holds_the_ipv4_addresses_under_the_virtual_mac() {
    let bench = Bench::active(config(100));
    assert_eq!(bench.state(), Active);
    let vrid = Vrid::new(51).unwrap();
    assert_eq!(virtual_mac(Family::Ipv4, vrid), [0x00, 0x00, 0x5e, 0x00, 0x01, 0x33]);
}

#[test]
fn v3_6_4_3_2_an_active_holds_the_ipv6_addresses_under_the_virtual_mac() {
    let mut lan = Lan::new(1);
    let active = lan.add(ipv6_setup(1, 100));
    lan.start(active);
    lan.run_for(Duration::from_secs(4));
    assert_eq!(lan.holders(), [active]);
    let vrid = Vrid::new(51).unwrap();
    assert_eq!(virtual_mac(Family::Ipv6, vrid), [0x00, 0x00, 0x5e, 0x00, 0x02, 0x33]);
}

#[test]
fn v3_6_4_3_3_an_active_by_itself_sends_adverts_and_nothing_else() {
    let mut bench = Bench::active(config(100));
    for _ in 0..100 {
        assert_eq!(bench.fire(), [send(100)]);
    }
}

#[test]
fn v3_6_4_3_4_the_addresses_stay_for_as_long_as_it_is_active() {
    let mut bench = Bench::active(config(100));
    for input in [advert(0), advert(99), advert_from(LOWER, 100), Input::Timeout, Input::Startup] {
        assert!(!bench.after(100, input).contains(&RemoveAddresses));
        assert_eq!(bench.state(), Active);
    }
}

#[test]
fn v3_6_4_3_5_the_owner_holds_the_addresses_like_any_other() {
    let holding = |priority| {
        let mut bench = Bench::started(config(priority));
        if bench.state() == Backup {
            return bench.fire();
        }
        bench = Bench::stopped(config(priority));
        bench.give(Input::Startup)
    };
    assert_eq!(holding(255)[1..3], holding(100)[1..3]);
    assert_eq!(holding(255)[1..3], [AddAddresses, AnnounceAddresses]);
}

#[test]
fn v3_6_4_3_6_accept_mode_changes_nothing_in_the_election() {
    // Neither the machine nor its configuration knows it: what is accepted is for the room that holds the addresses.
    let outputs = Bench::started(config(100)).fire();
    assert_eq!(outputs.iter().filter(|output| **output == AddAddresses).count(), 1);
}

#[test]
fn v3_6_4_3_7_adverts_go_out_at_every_interval() {
    let mut bench = Bench::active(vrrp::RouterConfig { adver_interval: cs(25), ..config(100) });
    let taken_over = bench.now;
    for n in 1..=400 {
        assert_eq!(bench.fire(), [send(100)]);
        assert_eq!(bench.now - taken_over, Duration::from_millis(250) * n);
    }
}

#[test]
fn v3_6_4_3_7_lateness_does_not_add_up() {
    let mut bench = Bench::active(config(100));
    let due = adver_timer(&bench);
    bench.now = due + Duration::from_millis(7);
    assert_eq!(bench.give(Input::Timeout), [send(100)]);
    assert_eq!(adver_timer(&bench), due + Duration::from_secs(1));
}

#[test]
fn v3_6_4_3_7_missed_adverts_are_not_made_up_for() {
    let mut bench = Bench::active(config(100));
    let due = adver_timer(&bench);
    bench.now = due + Duration::from_millis(2300);
    assert_eq!(bench.give(Input::Timeout), [send(100)]);
    assert_eq!(adver_timer(&bench), due + Duration::from_secs(3));
    // Exactly one interval late: that one too is over.
    bench.now = due + Duration::from_secs(4);
    assert_eq!(bench.give(Input::Timeout), [send(100)]);
    assert_eq!(adver_timer(&bench), due + Duration::from_secs(5));
}

#[test]
fn v3_6_4_3_8_shutdown_of_an_active_sends_priority_0_and_takes_the_addresses_off() {
    let mut bench = Bench::active(config(100));
    assert_eq!(
        bench.give(Input::Shutdown),
        [send(0), RemoveAddresses, Transition { from: Active, to: Initialize, reason: Reason::Shutdown }]
    );
    assert_eq!(bench.router.poll_timeout(), None);
}

#[test]
fn v3_6_4_3_9_priority_0_is_answered_and_restarts_the_adver_timer() {
    let mut bench = Bench::active(config(100));
    assert_eq!(bench.after(300, advert(0)), [send(100)]);
    assert_eq!((bench.state(), bench.left()), (Active, Duration::from_secs(1)));
}

#[test]
fn v3_6_4_3_10_a_higher_priority_makes_an_active_a_backup() {
    for preempt_mode in [true, false] {
        let mut bench = Bench::active(vrrp::RouterConfig { preempt_mode, ..config(100) });
        let (source, priority) = (address(LOWER), Priority::new(101));
        let input = Input::Advertisement { source, priority, max_advertise_interval: cs(50) };
        assert_eq!(
            bench.give(input),
            [
                RemoveAddresses,
                Transition { from: Active, to: Backup, reason: Reason::HigherPriority { source, priority } }
            ]
        );
        assert_eq!(bench.router.active_adver_interval(), cs(50));
        assert_eq!(bench.left(), Duration::from_nanos(1_804_687_500));
    }
}

#[test]
fn v3_6_4_3_11_equal_priority_and_a_higher_address_makes_an_active_a_backup() {
    let mut bench = Bench::active(config(100));
    let source = address(HIGHER);
    assert_eq!(
        bench.give(advert(100)),
        [RemoveAddresses, Transition { from: Active, to: Backup, reason: Reason::HigherAddress { source } }]
    );
    assert_eq!(bench.left(), micros(3_609_375));
}

#[test]
fn v3_6_4_3_12_addresses_compare_as_numbers() {
    for (own, theirs) in [("192.0.2.9", "192.0.2.10"), ("fe80::f", "fe80::10"), ("10.200.0.1", "192.0.2.1")] {
        for (own, theirs, yields) in [(own, theirs, true), (theirs, own, false)] {
            let primary_address = address(own);
            let mut bench = Bench::active(vrrp::RouterConfig { primary_address, ..config(100) });
            bench.give(advert_from(theirs, 100));
            assert_eq!(bench.state() == Backup, yields, "{own} hears {theirs}");
        }
    }
}

#[test]
fn v3_6_4_3_13_a_lower_advert_is_answered_at_once() {
    for (source, priority) in [(HIGHER, 99), (LOWER, 1), (LOWER, 100)] {
        let mut bench = Bench::active(config(100));
        let due = adver_timer(&bench);
        let outputs = bench.after(300, advert_from(source, priority));
        let (source, priority) = (address(source), Priority::new(priority));
        assert_eq!(outputs, [send(100), AnnounceAgain, Output::LowerPriorityHeard { source, priority }]);
        assert_eq!(adver_timer(&bench), due);
    }
}

#[test]
fn v3_6_4_3_14_our_own_address_is_neither_a_loss_nor_answered() {
    let mut bench = Bench::active(config(100));
    let due = adver_timer(&bench);
    assert_eq!(bench.after(300, advert_from(OWN, 100)), [Output::DuplicateAddress { source: address(OWN) }]);
    assert_eq!((bench.state(), adver_timer(&bench)), (Active, due));
}

#[test]
fn v3_6_4_3_15_whoever_loses_does_not_send_priority_0() {
    for answer_higher_priority in [true, false] {
        for priority in [100, 200] {
            let mut bench = Bench::active(vrrp::RouterConfig { answer_higher_priority, ..config(100) });
            let outputs = bench.give(advert(priority));
            assert_eq!(bench.state(), Backup);
            assert!(!outputs.contains(&send(0)), "{outputs:?}");
            // keepalived's higher_prio_send_advert: one with our own priority, before anything else.
            assert_eq!(outputs.contains(&send(100)), answer_higher_priority);
        }
    }
}

#[test]
fn v3_6_4_3_16_the_source_in_use_is_what_is_compared() {
    let mut bench = Bench::active(config(100));
    bench.give(Input::PrimaryAddressChanged(address("192.0.2.200")));
    bench.give(advert_from(HIGHER, 100));
    assert_eq!(bench.state(), Active);
    bench.give(Input::PrimaryAddressChanged(address(LOWER)));
    bench.give(advert_from(HIGHER, 100));
    assert_eq!(bench.state(), Backup);
}
