//! RFC 9568 §6.4, statement by statement. The ID in a test's name is the one in the table of the crate's documentation.

mod support;

use std::time::Duration;

use support::*;
use vrrp::Output::{AddAddresses, AnnounceAddresses, AnnounceAgain, RemoveAddresses, Transition};
use vrrp::StateName::{Active, Backup, Initialize};
use vrrp::{Input, Output, Priority, Reason};

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
    assert_eq!(bench.left(), micros(3_007_812) + Duration::from_nanos(500));
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
fn v3_6_4_3_8_shutdown_of_an_active_sends_priority_0_and_takes_the_addresses_off() {
    let mut bench = Bench::active(config(100));
    assert_eq!(
        bench.give(Input::Shutdown),
        [send(0), RemoveAddresses, Transition { from: Active, to: Initialize, reason: Reason::Shutdown }]
    );
    assert_eq!(bench.router.poll_timeout(), None);
}

#[test]
fn v3_6_4_3_13_a_lower_advert_is_answered_at_once() {
    let mut bench = Bench::active(config(100));
    let due = adver_timer(&bench);
    let (source, priority) = (address(HIGHER), Priority::new(99));
    assert_eq!(
        bench.after(300, advert(99)),
        [send(100), AnnounceAgain, Output::LowerPriorityHeard { source, priority }]
    );
    assert_eq!(adver_timer(&bench), due);
}
