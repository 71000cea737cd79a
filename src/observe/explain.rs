//! Why is this instance in its state? One plain sentence with the numbers that decided.

pub mod forward;

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use super::event::{Reason, State};
use super::status::{GroupStatus, InstanceStatus, Peer, Weight};

/// The sentence for [`InstanceStatus::why`], from all its other fields.
///
/// The detail of each weight is read behind its object, so it is best a verb phrase: `check apiserver` with
/// `failed 3 of 3: connect refused`.
pub fn why(instance: &InstanceStatus) -> String {
    why_at(instance, SystemTime::now())
}

/// The same at a given time, which matters only to an instance that waits.
pub fn why_at(instance: &InstanceStatus, now: SystemTime) -> String {
    match instance.state {
        State::Active => active(instance),
        State::Backup if !instance.waits_for.is_empty() => {
            let mut sentence = String::from("backup: nobody better is heard, but it waits for ");
            join(&mut sentence, instance.waits_for.iter());
            sentence + " of its sync group, which is not ready to take over"
        }
        State::Backup => match &instance.active {
            Some(peer) => backup_of(instance, peer),
            None => waiting(instance, now),
        },
        State::Fault => {
            let mut sentence = String::from("fault: ");
            join(&mut sentence, instance.faults.iter());
            if instance.faults.is_empty() {
                sentence += &reason_or(instance, "no reason is known");
            }
            sentence
        }
        State::Initialize => format!("initialize: {}", reason_or(instance, "not started yet")),
    }
}

/// The sentence for [`GroupStatus::why`], from all its other fields.
pub fn group(group: &GroupStatus) -> String {
    let mut sentence = format!("{}: ", group.state);
    let reason =
        |without: &str| group.last_reason.as_ref().map_or_else(|| without.to_owned(), ToString::to_string);
    match group.state {
        State::Fault if !group.held_by.is_empty() => {
            sentence += "held ";
            join(&mut sentence, group.held_by.iter().map(|(member, fault)| format!("by {member}: {fault}")));
        }
        State::Backup if !group.ready.is_empty() => {
            sentence += "ready to take over: ";
            sentence += &group.ready.join(", ");
            let others: Vec<_> = group.members.iter().filter(|one| !group.ready.contains(one)).collect();
            sentence += "; not ready: ";
            join(&mut sentence, others.into_iter());
        }
        State::Initialize => sentence += &reason("not started yet"),
        State::Active | State::Backup | State::Fault => sentence += &reason("no reason is known"),
    }
    sentence
}

fn active(instance: &InstanceStatus) -> String {
    let mut sentence = String::from("active: ");
    match &instance.last_reason {
        Some(reason @ (Reason::ActiveDown { .. } | Reason::ActiveReleased { .. })) => {
            let _ = write!(
                sentence,
                "{reason}; now nobody with a higher priority than {} is heard",
                ours(instance)
            );
        }
        Some(reason @ Reason::Owner) => {
            let _ = write!(sentence, "{reason}");
        }
        Some(reason) => {
            let _ = write!(sentence, "{reason}; our priority is {}", ours(instance));
        }
        None => {
            let _ = write!(sentence, "nobody with a higher priority than {} is heard", ours(instance));
        }
    }
    let missing: Vec<_> = instance.addresses.iter().filter(|a| !a.present).collect();
    if !missing.is_empty() {
        sentence += "; but ";
        join(&mut sentence, missing.iter().map(|a| format!("{} is not on {}", a.address, a.interface)));
    }
    sentence
}

fn backup_of(instance: &InstanceStatus, peer: &Peer) -> String {
    let (address, theirs, ours) = (peer.address, peer.priority, ours(instance));
    let mut sentence = if theirs > instance.priority {
        format!("backup: {address} advertises priority {theirs}, ours is {ours}")
    } else if theirs == instance.priority {
        format!("backup: {address} is active with the same priority, ours is {ours}")
    } else {
        format!(
            "backup: {address} is active with the lower priority {theirs} and is not preempted (yet), ours is {ours}"
        )
    };
    // Silence that is longer than it should be is what an operator wants to see coming.
    if peer.last_heard > peer.advert_interval * 3 / 2 {
        let _ = write!(
            sentence,
            "; last heard {} ago, this host takes over after {}",
            seconds(peer.last_heard),
            seconds(instance.active_down_interval)
        );
    }
    sentence
}

fn waiting(instance: &InstanceStatus, now: SystemTime) -> String {
    let waited = now.duration_since(instance.since).unwrap_or_default();
    let ours = ours(instance);
    match instance.active_down_interval.checked_sub(waited) {
        Some(rest) if !rest.is_zero() => format!(
            "backup: {}; takes over in {} if none is heard, with priority {ours}",
            reason_or(instance, "no advert was heard yet"),
            seconds(rest)
        ),
        _ => format!("backup: no active router is heard, about to take over with priority {ours}"),
    }
}

/// `99 = 101 - 2 (check apiserver failed 3 of 3: connect refused)`, or the bare number.
pub fn ours(instance: &InstanceStatus) -> String {
    sum(instance.priority, instance.base_priority, &instance.weights)
}

/// The same from its parts: effective priority, configured priority, what moves it.
pub fn sum(priority: u8, base: u8, weights: &[Weight]) -> String {
    let mut sum = priority.to_string();
    if weights.is_empty() {
        return sum;
    }
    let _ = write!(sum, " = {base}");
    for weight in weights {
        let sign = if weight.delta < 0 { '-' } else { '+' };
        let _ = write!(sum, " {sign} {} ({} {})", weight.delta.unsigned_abs(), weight.object, weight.detail);
    }
    let total = i32::from(base) + weights.iter().map(|weight| weight.delta).sum::<i32>();
    if total != i32::from(priority) {
        let _ = write!(sum, ", kept within 1 to 254");
    }
    sum
}

fn reason_or(instance: &InstanceStatus, without: &str) -> String {
    instance.last_reason.as_ref().map_or_else(|| without.to_owned(), ToString::to_string)
}

fn seconds(duration: Duration) -> String {
    format!("{:.3} s", duration.as_secs_f64())
}

fn join(sentence: &mut String, parts: impl Iterator<Item = impl std::fmt::Display>) {
    for (index, part) in parts.enumerate() {
        let _ = write!(sentence, "{}{part}", if index == 0 { "" } else { "; " });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::event::Fault;
    use crate::observe::sample;
    use crate::observe::status::AddressStatus;

    fn instance(state: State) -> InstanceStatus {
        InstanceStatus { state, active: None, last_reason: None, ..sample::instance("VI_1") }
    }

    fn peer(priority: u8, last_heard: Duration) -> Peer {
        Peer {
            address: "10.0.0.2".parse().unwrap(),
            priority,
            advert_interval: Duration::from_secs(1),
            last_heard,
        }
    }

    fn failed() -> Weight {
        Weight {
            object: "check apiserver".into(),
            delta: -2,
            detail: "failed 3 of 3: connect refused".into(),
        }
    }

    fn said(instance: &InstanceStatus) -> String {
        why_at(instance, instance.since + Duration::from_millis(1500))
    }

    #[test]
    fn a_backup_names_the_better_router_and_does_the_sum() {
        let mut backup = instance(State::Backup);
        backup.base_priority = 101;
        backup.priority = 99;
        backup.weights = vec![failed()];
        backup.active = Some(peer(101, Duration::from_millis(400)));
        assert_eq!(
            said(&backup),
            "backup: 10.0.0.2 advertises priority 101, ours is 99 = 101 - 2 (check apiserver failed 3 of 3: connect refused)"
        );
    }

    #[test]
    fn a_backup_of_an_equal_or_lower_router_says_so() {
        let mut backup = instance(State::Backup);
        backup.active = Some(peer(100, Duration::ZERO));
        assert_eq!(said(&backup), "backup: 10.0.0.2 is active with the same priority, ours is 100");
        backup.active = Some(peer(90, Duration::ZERO));
        assert_eq!(
            said(&backup),
            "backup: 10.0.0.2 is active with the lower priority 90 and is not preempted (yet), ours is 100"
        );
    }

    #[test]
    fn a_silent_active_router_is_seen_coming() {
        let mut backup = instance(State::Backup);
        backup.active = Some(peer(101, Duration::from_millis(2100)));
        assert_eq!(
            said(&backup),
            "backup: 10.0.0.2 advertises priority 101, ours is 100; last heard 2.100 s ago, this host takes over after 3.609 s"
        );
    }

    #[test]
    fn a_backup_that_heard_nobody_says_how_long_it_waits() {
        let mut backup = instance(State::Backup);
        backup.last_reason = Some(Reason::Started);
        assert_eq!(
            said(&backup),
            "backup: started, listening for an active router; takes over in 2.109 s if none is heard, with priority 100"
        );
        assert_eq!(
            why_at(&backup, backup.since + Duration::from_secs(4)),
            "backup: no active router is heard, about to take over with priority 100"
        );
    }

    #[test]
    fn an_active_one_says_who_fell_silent() {
        let mut active = instance(State::Active);
        active.last_reason = Some(Reason::ActiveDown {
            peer: Some("10.0.0.2".parse().unwrap()),
            silence: Duration::from_micros(3_609_375),
        });
        assert_eq!(
            said(&active),
            "active: no advert from 10.0.0.2 for 3.609 s; now nobody with a higher priority than 100 is heard"
        );
        active.last_reason = Some(Reason::ActiveReleased { peer: "10.0.0.2".parse().unwrap() });
        assert_eq!(
            said(&active),
            "active: 10.0.0.2 gave up (priority 0); now nobody with a higher priority than 100 is heard"
        );
    }

    #[test]
    fn an_active_one_without_its_address_says_so() {
        let mut active = instance(State::Active);
        active.last_reason = Some(Reason::Owner);
        active.addresses = vec![AddressStatus {
            address: "10.0.0.100/32".into(),
            interface: "eth0".into(),
            present: false,
            claimed_by: None,
        }];
        assert_eq!(
            said(&active),
            "active: address owner (priority 255) starts active; but 10.0.0.100/32 is not on eth0"
        );
    }

    #[test]
    fn a_fault_names_every_reason() {
        let mut fault = instance(State::Fault);
        fault.faults = vec![
            Fault::InterfaceDown { interface: "eth0".into() },
            Fault::Check { check: "chk".into(), detail: "failed 1 of 1: exited with status 1".into() },
        ];
        assert_eq!(
            said(&fault),
            "fault: interface eth0 is down; check chk failed 1 of 1: exited with status 1"
        );
    }

    #[test]
    fn a_member_that_waits_names_whom() {
        let mut waiting = instance(State::Backup);
        waiting.waits_for = vec!["V2".into()];
        assert_eq!(
            said(&waiting),
            "backup: nobody better is heard, but it waits for V2 of its sync group, which is not ready to take over"
        );
    }

    #[test]
    fn a_group_in_fault_names_the_member_and_its_fault() {
        let mut status = GroupStatus {
            name: "G1".into(),
            state: State::Fault,
            since: sample::now(),
            why: String::new(),
            members: vec!["V1".into(), "V2".into()],
            ready: vec![],
            held_by: vec![("V2".into(), Fault::InterfaceDown { interface: "eth1".into() })],
            last_reason: None,
        };
        assert_eq!(group(&status), "fault: held by V2: interface eth1 is down");
        status.state = State::Backup;
        status.ready = vec!["V1".into()];
        assert_eq!(group(&status), "backup: ready to take over: V1; not ready: V2");
        let because = Box::new(Fault::Member {
            group: "G1".into(),
            member: "V2".into(),
            because: Box::new(status.held_by[0].1.clone()),
        });
        assert_eq!(because.to_string(), "held in FAULT by member V2 of group G1: interface eth1 is down");
    }

    #[test]
    fn what_has_not_begun_and_what_has_ended_are_told_apart() {
        let mut initialize = instance(State::Initialize);
        assert_eq!(said(&initialize), "initialize: not started yet");
        initialize.last_reason = Some(Reason::Stopped);
        assert_eq!(said(&initialize), "initialize: stopped");
    }

    #[test]
    fn a_sum_beyond_the_limits_says_where_it_was_cut() {
        let mut one = instance(State::Active);
        one.base_priority = 253;
        one.priority = 254;
        one.weights =
            vec![Weight { object: "interface eth1".into(), delta: 10, detail: "is up".into() }, failed()];
        assert_eq!(
            ours(&one),
            "254 = 253 + 10 (interface eth1 is up) - 2 (check apiserver failed 3 of 3: connect refused), kept within 1 to 254"
        );
    }
}
