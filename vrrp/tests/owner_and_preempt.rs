//! The address owner, preemption, priority changes and accept mode (RFC 9568 §6.1, keepalived's `preempt_delay`).

mod support;

use std::time::Duration;

use support::*;
use vrrp::Output::{AddAddresses, AnnounceAddresses, RemoveAddresses, Transition};
use vrrp::StateName::{Active, Backup, Initialize};
use vrrp::{Input, Priority, Reason, RouterConfig};

// ---- Owner ----

#[test]
fn v3_own_1_the_owner_always_preempts() {
    let bench = Bench::started(RouterConfig { preempt_mode: false, ..config(255) });
    assert!(bench.router.config().preempt_mode);
    let bench = Bench::started(RouterConfig { preempt_mode: false, ..config(254) });
    assert!(!bench.router.config().preempt_mode);
}

#[test]
fn v3_own_1_tracking_neither_changes_nor_makes_an_owner() {
    for (configured, tracked, effective) in
        [(255, 1, 255), (255, 0, 255), (100, 255, 254), (100, 0, 1), (100, 90, 90)]
    {
        for mut bench in [
            Bench::stopped(config(configured)),
            Bench::started(config(configured)),
            Bench::active(config(configured)),
        ] {
            bench.give(Input::PriorityChanged(Priority::new(tracked)));
            assert_eq!(bench.router.priority(), Priority::new(effective), "{configured} {tracked}");
        }
    }
}

#[test]
fn v3_own_2_of_two_owners_the_lower_address_gives_way() {
    let mut lower = Bench::active(config(255));
    let source = address(HIGHER);
    assert_eq!(
        lower.give(advert_from(HIGHER, 255)),
        [RemoveAddresses, Transition { from: Active, to: Backup, reason: Reason::HigherAddress { source } }]
    );
    let mut higher = Bench::active(config(255));
    assert!(is_advert(&higher.give(advert_from(LOWER, 255))[0]));
    assert_eq!(higher.state(), Active);
}

#[test]
fn v3_own_2_the_other_owner_takes_over_when_the_first_is_gone() {
    let mut bench = Bench::active(config(255));
    bench.give(advert_from(HIGHER, 255));
    assert_eq!(bench.left(), Duration::from_nanos(3_003_906_250));
    assert_eq!(bench.fire()[0], send(255));
}

#[test]
fn v3_own_3_an_owner_that_gave_way_stays_an_owner() {
    // keepalived 2.2.7 lowers itself to 254 for good.
    let mut bench = Bench::active(config(255));
    bench.give(advert_from(HIGHER, 255));
    assert_eq!(bench.router.priority(), Priority::OWNER);
    bench.give(Input::Fault);
    assert_eq!(bench.give(Input::Startup)[0], send(255));
}

#[test]
fn an_owner_that_is_told_to_listen_first_listens() {
    let mut bench = Bench::stopped(RouterConfig { start_active: false, ..config(255) });
    assert_eq!(
        bench.give(Input::Startup),
        [Transition { from: Initialize, to: Backup, reason: Reason::Startup }]
    );
}

// ---- Preempt ----

#[test]
fn v3_pre_1_without_preempt_a_better_backup_stays_for_as_long_as_it_hears_anybody() {
    let mut bench = Bench::started(RouterConfig { preempt_mode: false, ..config(200) });
    for _ in 0..100 {
        assert_eq!(bench.after(1000, advert(1)), []);
    }
    assert_eq!((bench.state(), bench.left()), (Backup, Duration::from_nanos(3_218_750_000)));
    // A release ends it after the skew.
    bench.give(advert(0));
    assert_eq!(bench.left(), Duration::from_nanos(218_750_000));
}

#[test]
fn v3_pre_1_with_preempt_it_takes_over_after_its_own_down_interval() {
    let mut bench = Bench::started(config(200));
    for _ in 0..3 {
        bench.after(1000, advert(1));
    }
    assert_eq!(bench.left(), Duration::from_nanos(218_750_000));
}

fn delayed(milliseconds: u64) -> RouterConfig {
    RouterConfig { preempt_delay: Duration::from_millis(milliseconds), ..config(200) }
}

/// Hears `priority` every second, `count` times; when it became Active, if it did.
fn hears(bench: &mut Bench, priority: u8, count: u32) -> Option<Duration> {
    let start = bench.now;
    for _ in 0..count {
        let next = bench.now + Duration::from_secs(1);
        while bench.router.poll_timeout().is_some_and(|timeout| timeout < next) {
            bench.fire();
            if bench.state() == Active {
                return Some(bench.now - start);
            }
        }
        bench.now = next;
        bench.give(advert(priority));
    }
    None
}

#[test]
fn v3_pre_2_the_delay_begins_with_the_first_lower_advert_and_then_the_down_interval_runs() {
    let mut bench = Bench::started(delayed(10_000));
    // First heard at 1 s, let be until 11 s: the last advert that counts as accepted comes at 10 s.
    assert_eq!(hears(&mut bench, 100, 30), Some(Duration::from_nanos(13_218_750_000)));
}

#[test]
fn v3_pre_2_a_better_advert_clears_the_delay() {
    let mut bench = Bench::started(delayed(10_000));
    assert_eq!(hears(&mut bench, 100, 9), None);
    assert_eq!(hears(&mut bench, 200, 1), None);
    assert_eq!(hears(&mut bench, 100, 30), Some(Duration::from_nanos(13_218_750_000)));
}

#[test]
fn v3_pre_2_silence_is_not_delayed() {
    let mut bench = Bench::started(delayed(10_000));
    assert_eq!(bench.left(), Duration::from_nanos(3_218_750_000));
    hears(&mut bench, 100, 2);
    assert_eq!(bench.left(), Duration::from_nanos(3_218_750_000));
}

#[test]
fn v3_pre_2_the_delay_begins_anew_after_each_return_to_backup() {
    let mut bench = Bench::started(delayed(10_000));
    hears(&mut bench, 100, 30);
    bench.give(advert(201));
    assert_eq!(hears(&mut bench, 100, 30), Some(Duration::from_nanos(13_218_750_000)));
}

// ---- Priority changes ----

#[test]
fn v3_pre_3_a_priority_change_moves_the_end_by_the_change_of_the_down_interval() {
    let mut bench = Bench::started(config(100));
    bench.after(1000, Input::PriorityChanged(Priority::new(200)));
    // 100/256 s earlier.
    assert_eq!(bench.left(), Duration::from_nanos(2_609_375_000 - 390_625_000));
    bench.after(1000, Input::PriorityChanged(Priority::new(50)));
    // 150/256 s later.
    assert_eq!(bench.left(), Duration::from_nanos(1_218_750_000 + 585_937_500));
}

#[test]
fn v3_pre_3_an_end_that_moves_into_the_past_is_due_at_once() {
    let mut bench = Bench::started(config(1));
    bench.after(3500, Input::PriorityChanged(Priority::new(254)));
    assert!(bench.router.poll_timeout().unwrap() < bench.now);
    assert_eq!(bench.give(Input::Timeout)[0], send(254));
}

#[test]
fn v3_pre_4_an_active_says_its_new_priority_with_the_next_advert() {
    let mut bench = Bench::active(config(100));
    let due = adver_timer(&bench);
    assert_eq!(bench.after(300, Input::PriorityChanged(Priority::new(90))), []);
    assert_eq!(adver_timer(&bench), due);
    assert_eq!(bench.fire(), [send(90)]);
}

#[test]
fn v3_pre_4_it_loses_with_its_new_priority_at_once() {
    let mut bench = Bench::active(config(100));
    bench.give(Input::PriorityChanged(Priority::new(90)));
    bench.give(advert(95));
    assert_eq!(bench.state(), Backup);
}

// ---- Accept mode ----

#[test]
fn v3_acc_1_the_addresses_are_held_whatever_is_accepted() {
    let mut bench = Bench::started(config(100));
    assert_eq!(bench.fire()[1..3], [AddAddresses, AnnounceAddresses]);
}

// ---- Changes while it runs ----

#[test]
fn a_shorter_interval_is_kept_from_the_next_advert_on() {
    let mut bench = Bench::active(config(100));
    bench.after(100, Input::Reconfigured(RouterConfig { adver_interval: cs(10), ..config(100) }));
    assert_eq!((bench.state(), bench.left()), (Active, Duration::from_millis(100)));
    assert_eq!(bench.adverts_within(Duration::from_secs(1)), 10);
}

#[test]
fn a_longer_interval_does_not_put_the_due_advert_off() {
    let mut bench = Bench::active(config(100));
    bench.after(100, Input::Reconfigured(RouterConfig { adver_interval: cs(1000), ..config(100) }));
    assert_eq!(bench.left(), Duration::from_millis(900));
    bench.fire();
    assert_eq!(bench.left(), Duration::from_secs(10));
}

#[test]
fn a_backup_keeps_the_interval_it_learned_when_its_own_changes() {
    let mut bench = Bench::started(config(100));
    bench.give(advert_every(200, 150));
    let deadline = bench.router.poll_timeout();
    // Its own adverts would be every 10 ms; the active router still sends every 2 s.
    bench.give(Input::Reconfigured(RouterConfig { adver_interval: cs(1), ..config(100) }));
    assert_eq!((bench.router.active_adver_interval(), bench.router.poll_timeout()), (cs(200), deadline));
}

#[test]
fn other_parameters_do_not_change_the_state() {
    for (mut bench, state) in [(Bench::started(config(100)), Backup), (Bench::active(config(100)), Active)] {
        let other = RouterConfig { preempt_mode: false, down_timer_adverts: 5, ..config(120) };
        assert_eq!(bench.give(Input::Reconfigured(other)), []);
        assert_eq!((bench.state(), bench.router.priority()), (state, Priority::new(120)));
    }
}

#[test]
fn more_adverts_may_be_lost_when_so_configured() {
    let bench = Bench::started(RouterConfig { down_timer_adverts: 10, ..config(100) });
    assert_eq!(bench.left(), micros(10_609_375));
}

// ---- Waking up too late ----

#[test]
fn an_active_that_wakes_up_too_late_lets_go_without_priority_0_and_listens() {
    let mut bench = Bench::active(config(100));
    assert_eq!(
        bench.after(20_000, Input::Resurrected),
        [RemoveAddresses, Transition { from: Active, to: Backup, reason: Reason::Resurrected }]
    );
    assert_eq!(bench.left(), micros(3_609_375));
}

#[test]
fn a_backup_that_wakes_up_too_late_listens_for_its_full_down_interval() {
    let mut bench = Bench::started(config(100));
    bench.give(advert_every(50, 150));
    assert_eq!(bench.after(20_000, Input::Resurrected), []);
    assert_eq!((bench.state(), bench.left()), (Backup, Duration::from_nanos(1_804_687_500)));
}
