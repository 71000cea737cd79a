//! VRRPv2 (RFC 3768, IPv4) and VRRPv3 (RFC 9568, IPv4 and IPv6) without sockets and without a clock.
//!
//! What the crate promises: given these inputs at these times, what does the protocol say? It parses and
//! emits [`Advertisement`]s, judges received ones ([`Ladder`]) and runs the state machine of one virtual
//! router ([`VirtualRouter`]). It does no input or output, starts no thread and reads no clock: `clippy.toml`
//! bans them. There are no floats: durations are whole nanoseconds. Beside it, in the same manner, [`bfd`] runs one session
//! of Bidirectional Forwarding Detection.
//!
//! # The drain rule
//!
//! Give the machine one input, then take every output before the next input:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use vrrp::{AdverInterval, Input, Output, Priority, RouterConfig, Version, VirtualRouter, Vrid};
//!
//! # fn now() -> Instant { *vrrp::sim::EPOCH }
//! let vrid = Vrid::new(51).unwrap();
//! let second = AdverInterval::from_duration(Version::V3, Duration::from_secs(1)).unwrap();
//! let own_address = "192.0.2.1".parse().unwrap();
//! let mut router = VirtualRouter::new(RouterConfig::new(Version::V3, vrid, second, own_address));
//!
//! let start = now();
//! router.handle_input(start, Input::Startup);
//! while let Some(output) = router.poll_output() {
//!     // send, add, remove, announce, tell
//! #   let _: Output = output;
//! }
//! // Then wait for a packet, or until this moment, and say Input::Timeout.
//! assert_eq!(router.poll_timeout(), Some(start + Duration::from_micros(3_609_375)));
//! ```
//!
//! # Statements and tests
//!
//! Each statement that the machine must fulfil has a test in `tests/` that carries its ID in its name, and `tests/table.rs`
//! checks this table. Where a statement is about frames or the kernel, the test proves what the machine decides, and the
//! last column names the room that does the rest.
//!
//! V3-6.4.n: RFC 9568 §6.4.n (1 Initialize, 2 Backup, 3 Active). V3-OWN: the address owner, erratum 8298. V3-PRE: preemption
//! and priority changes. V3-ACC: accept mode. V2: where RFC 3768 differs. H: hardening, beyond the RFCs:
//!
//! - H-1: a discarded advert changes nothing.
//! - H-2: an Active keeps its sending schedule whatever arrives.
//! - H-3: priority 0 may only shorten the Active_Down_Timer.
//! - H-4: interval 0 is discarded.
//! - H-5: immediate adverts are limited to ten in an interval; those to a lower priority leave the Adver_Timer.
//! - H-6: adverts that wait in the socket count before an expired timer.
//! - H-7: on stop, priority 0 first, then the addresses go.
//! - H-8: a fault of an Active sends priority 0 as well, once.
//!
//! | statement | tests | rest |
//! | --- | --- | --- |
//! | V3-6.4.1-1 | `v3_6_4_1_1_the_owner_is_active_at_once` | here |
//! | V3-6.4.1-2 | `v3_6_4_1_2_any_other_listens_and_sends_nothing` | here |
//! | V3-6.4.1-3 | `v3_6_4_1_3_the_addresses_are_announced_once_for_each_takeover` | announce: the frame |
//! | V3-6.4.1-4 | `v3_6_4_1_4_adverts_are_ignored_in_initialize` | here |
//! | V3-6.4.1-5 | `v3_6_4_1_5_nothing_is_announced_before_the_addresses_are_added` | elect: the order |
//! | V3-6.4.2-1 | `v3_6_4_2_1_a_backup_has_no_ipv4_address_to_answer_arp_for` | hold: no address, no answer |
//! | V3-6.4.2-2 | `v3_6_4_2_2_a_backup_has_no_ipv6_address_to_answer_solicitations_for` | hold: no address, no answer |
//! | V3-6.4.2-3 | `v3_6_4_2_3_a_backup_sends_nothing_whatever_it_hears` | nobody: router advertisements are another daemon's |
//! | V3-6.4.2-4 | `v3_6_4_2_4_whoever_leaves_active_gives_up_the_virtual_mac_with_the_addresses` | hold: the macvlan device |
//! | V3-6.4.2-5 | `v3_6_4_2_5_a_backup_is_never_told_to_hold_the_addresses` | hold: no address |
//! | V3-6.4.2-6 | `v3_6_4_2_6_shutdown_of_a_backup_sends_nothing` | here |
//! | V3-6.4.2-7 | `v3_6_4_2_7_silence_makes_a_backup_active_advert_first`, `v3_6_4_2_7_the_timer_does_not_fire_a_nanosecond_early` | announce: the frames |
//! | V3-6.4.2-8 | `v3_6_4_2_8_an_advert_after_the_release_makes_it_a_lost_active_again`, `v3_6_4_2_8_priority_0_leaves_the_skew_time` | here |
//! | V3-6.4.2-9 | `v3_6_4_2_9_lower_priority_leaves_the_down_timer` | here |
//! | V3-6.4.2-10 | `v3_6_4_2_10_an_accepted_advert_restarts_the_down_timer` | here |
//! | V3-6.4.2-11 | `v3_6_4_2_11_equal_priority_is_accepted_from_any_address` | here |
//! | V3-6.4.2-12 | `v3_6_4_2_12_only_accepted_adverts_teach_the_interval` | here |
//! | V3-6.4.2-13 | `v3_6_4_2_13_the_down_interval_follows_the_learned_interval` | here |
//! | V3-6.4.2-14 | `v3_6_4_2_14_an_active_sends_at_its_own_interval_again` | here |
//! | V3-6.4.3-1 | `v3_6_4_3_1_an_active_holds_the_ipv4_addresses_under_the_virtual_mac` | hold: macvlan, arp_ignore |
//! | V3-6.4.3-2 | `v3_6_4_3_2_an_active_holds_the_ipv6_addresses_under_the_virtual_mac` | hold: the kernel joins the group |
//! | V3-6.4.3-3 | `v3_6_4_3_3_an_active_by_itself_sends_adverts_and_nothing_else` | nobody: router advertisements are another daemon's |
//! | V3-6.4.3-4 | `v3_6_4_3_4_the_addresses_stay_for_as_long_as_it_is_active` | the kernel, by its forwarding |
//! | V3-6.4.3-5 | `v3_6_4_3_5_the_owner_holds_the_addresses_like_any_other` | hold: accept mode |
//! | V3-6.4.3-6 | `v3_6_4_3_6_accept_mode_changes_nothing_in_the_election` | hold: accept mode |
//! | V3-6.4.3-7 | `v3_6_4_3_7_adverts_go_out_at_every_interval`, `v3_6_4_3_7_lateness_does_not_add_up`, `v3_6_4_3_7_missed_adverts_are_not_made_up_for` | here |
//! | V3-6.4.3-8 | `v3_6_4_3_8_shutdown_of_an_active_sends_priority_0_and_takes_the_addresses_off` | here |
//! | V3-6.4.3-9 | `v3_6_4_3_9_priority_0_is_answered_and_restarts_the_adver_timer` | here |
//! | V3-6.4.3-10 | `v3_6_4_3_10_a_higher_priority_makes_an_active_a_backup` | here |
//! | V3-6.4.3-11 | `v3_6_4_3_11_equal_priority_and_a_higher_address_makes_an_active_a_backup` | here |
//! | V3-6.4.3-12 | `v3_6_4_3_12_addresses_compare_as_numbers` | here |
//! | V3-6.4.3-13 | `v3_6_4_3_13_a_lower_advert_is_answered_at_once` | here |
//! | V3-6.4.3-14 | `v3_6_4_3_14_our_own_address_is_neither_a_loss_nor_answered` | elect: the log line |
//! | V3-6.4.3-15 | `v3_6_4_3_15_whoever_loses_does_not_send_priority_0` | here |
//! | V3-6.4.3-16 | `v3_6_4_3_16_the_source_in_use_is_what_is_compared` | elect: names the source |
//! | V3-OWN-1 | `v3_own_1_the_owner_always_preempts`, `v3_own_1_tracking_neither_changes_nor_makes_an_owner` | elect: sums the weights |
//! | V3-OWN-2 | `v3_own_2_of_two_owners_the_lower_address_gives_way`, `v3_own_2_the_other_owner_takes_over_when_the_first_is_gone` | here |
//! | V3-OWN-3 | `v3_own_3_an_owner_that_gave_way_stays_an_owner` | here |
//! | V3-PRE-1 | `v3_pre_1_with_preempt_it_takes_over_after_its_own_down_interval`, `v3_pre_1_without_preempt_a_better_backup_stays_for_as_long_as_it_hears_anybody` | here |
//! | V3-PRE-2 | `v3_pre_2_a_better_advert_clears_the_delay`, `v3_pre_2_silence_is_not_delayed`, `v3_pre_2_the_delay_begins_anew_after_each_return_to_backup`, `v3_pre_2_the_delay_begins_with_the_first_lower_advert_and_then_the_down_interval_runs` | here |
//! | V3-PRE-3 | `v3_pre_3_a_priority_change_moves_the_end_by_the_change_of_the_down_interval`, `v3_pre_3_an_end_that_moves_into_the_past_is_due_at_once` | here |
//! | V3-PRE-4 | `v3_pre_4_an_active_says_its_new_priority_with_the_next_advert`, `v3_pre_4_it_loses_with_its_new_priority_at_once` | here |
//! | V3-ACC-1 | `v3_acc_1_the_addresses_are_held_whatever_is_accepted` | hold: accept mode |
//! | V2-1 | `v2_1_the_active_interval_is_always_our_own`, `v2_1_the_election_is_that_of_version_3_with_the_skew_of_one_second` | here |
//! | V2-2 | `v2_2_another_interval_is_discarded`, `v2_2_routers_of_different_intervals_both_become_active` | here |
//! | V2-3 | `v2_3_a_lower_advert_is_not_answered_unless_asked_for` | here |
//! | V2-4 | `v2_4_what_is_accepted_is_not_the_machines_business` | hold: accept mode |
//! | V2-5 | `v2_5_other_addresses_are_an_oddity_and_in_strict_mode_discarded_unless_from_the_owner` | here |
//! | V2-6 | `v2_6_unknown_other_or_failed_authentication_is_discarded` | here |
//! | V2-7 | `v2_7_there_is_no_version_2_over_ipv6` | here |
//! | V2-8 | `v2_8_keepalived_rounds_to_the_nearest_second`, `v2_8_the_interval_is_whole_seconds` | config: rounds |
//! | H-1 | `h_1_a_discarded_packet_changes_nothing` | here |
//! | H-2 | `h_2_an_active_keeps_its_schedule_whatever_is_discarded`, `h_2_an_active_keeps_its_schedule_whatever_lower_adverts_come` | here |
//! | H-3 | `h_3_a_stream_of_priority_0_does_not_hold_a_backup_down`, `h_3_priority_0_does_not_lengthen_a_timer_that_is_about_to_fire` | here |
//! | H-4 | `h_4_interval_0_is_never_learned` | here |
//! | H-5 | `h_5_a_stream_of_priority_0_neither_floods_nor_silences_an_active`, `h_5_lower_adverts_are_answered_at_most_ten_times_in_an_interval` | here |
//! | H-6 | `h_6_a_backup_that_stood_still_does_not_take_over_from_a_living_active`, `h_6_an_advert_that_waited_counts_before_the_expired_timer` | elect: reads the socket first |
//! | H-7 | `h_7_on_stop_the_advert_goes_out_before_the_addresses_go` | elect: before the process exits |
//! | H-8 | `h_8_a_fault_of_a_backup_sends_nothing`, `h_8_a_fault_of_an_active_sends_priority_0_once` | here |
//!
//! # Every interleaving
//!
//! `tests/model.rs` explores every order of adverts, timers, losses, deaths and restarts (with two routers also stops in good
//! order), any number of them, and proves in every state: a router adds and removes the addresses in turn; once the LAN
//! has been whole for one Active_Down_Interval and a step, exactly one router holds the addresses, with preemption the best.
//! A step is a quarter of the advertisement interval; with three routers half of it, and one advert may be missed instead of
//! three. The test compares these numbers with what it visited.
//!
//! | priorities | states |
//! | --- | --- |
//! | 192 and 128 | 1605 |
//! | 128 and 128 | 1585 |
//! | 192 and 128, no preemption | 1538 |
//! | 255 and 128 | 11863 |
//! | 192, 128 and 64 | 25595 |

mod addresses;
pub mod bfd;
mod group;
mod interval;
mod mac;
mod packet;
mod priority;
mod router;
#[cfg(any(test, feature = "sim"))]
pub mod sim;
mod version;
mod vrid;

pub use addresses::VirtualAddresses;
pub use group::SyncGroup;
pub use interval::{AdverInterval, IntervalError, active_down_interval, skew_time};
pub use mac::virtual_mac;
pub use packet::{
    Accepted, Advertisement, Authentication, AuthenticationHeader, ChecksumCoverage, ChecksumForm, Datagram,
    DiscardReason, Ladder, Oddities, Oddity, Protection, Trailer, TrailerConfig, TrailerError, TrailerKey,
    TrailerMode, Transport, UnicastPeer, peek_vrid,
};
pub use packet::{MULTICAST_GROUP_IPV4, MULTICAST_GROUP_IPV6, PROTOCOL};
pub use priority::Priority;
pub use router::{Answers, Input, Output, Reason, RouterConfig, State, StateName, VirtualRouter};
pub use version::{Family, Version};
pub use vrid::Vrid;
