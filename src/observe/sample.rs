//! A status as it may be, for the tests of this room.

use std::time::{Duration, SystemTime};

use super::event::{Health, Reason, State};
use super::status::*;

/// The time at which the samples are looked at: 2026-01-01 00:00 UTC.
pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600)
}

/// Active for two hours.
pub fn instance(name: &str) -> InstanceStatus {
    InstanceStatus {
        name: name.into(),
        interface: "eth0".into(),
        vrid: 51,
        version: 3,
        family: "IPv4".into(),
        state: State::Active,
        since: now() - Duration::from_secs(2 * 3600 + 14 * 60),
        why:
            "active: no advert from 10.0.0.2 for 3.609 s; now nobody with a higher priority than 100 is heard"
                .into(),
        priority: 100,
        base_priority: 100,
        weights: vec![],
        faults: vec![],
        last_reason: Some(Reason::ActiveDown {
            peer: Some("10.0.0.2".parse().unwrap()),
            silence: Duration::from_micros(3_609_375),
        }),
        waits_for: vec![],
        active: None,
        source: Some("10.0.0.1".parse().unwrap()),
        advert_interval: Duration::from_secs(1),
        active_down_interval: Duration::from_micros(3_609_375),
        lease: Some(Duration::from_millis(2800)),
        addresses: vec![AddressStatus {
            address: "10.0.0.100/32".into(),
            interface: "eth0".into(),
            present: true,
            claimed_by: None,
        }],
        entries: Vec::new(),
        counters: Counters {
            adverts_sent: 8040,
            adverts_received: 17,
            discarded: [("ttl", 3), ("checksum", 1)].into(),
            transitions: [("active_down", 2), ("higher_priority", 1)].into(),
            became_active: 2,
            announcements_sent: 20,
            ..Counters::default()
        },
        runtime: Runtime::default(),
    }
}

/// A second one that is backup.
pub fn backup() -> InstanceStatus {
    InstanceStatus {
        state: State::Backup,
        vrid: 52,
        since: now() - Duration::from_secs(42),
        priority: 99,
        base_priority: 101,
        weights: vec![Weight {
            object: "check apiserver".into(),
            delta: -2,
            detail: "failed 3 of 3: connect refused".into(),
        }],
        why: "backup: 10.0.0.2 advertises priority 101, ours is 99 = 101 - 2 (check apiserver failed 3 of 3: connect refused)"
            .into(),
        active: Some(Peer {
            address: "10.0.0.2".parse().unwrap(),
            priority: 101,
            advert_interval: Duration::from_secs(1),
            last_heard: Duration::from_millis(300),
        }),
        addresses: vec![
            AddressStatus { address: "10.0.0.101/32".into(), interface: "eth0".into(), present: false, claimed_by: None },
            AddressStatus { address: "10.0.0.102/32".into(), interface: "eth0".into(), present: false, claimed_by: None },
        ],
        ..instance("VI_2")
    }
}

/// A whole host: two instances, two checks, one listener.
pub fn status() -> Status {
    let mut durations = Histogram::default();
    for millis in [1, 2, 2, 30] {
        durations.record(Duration::from_millis(millis));
    }
    let mut lateness = Histogram::default();
    lateness.record(Duration::from_micros(80));
    lateness.record(Duration::from_micros(300));
    Status {
        version: "vipd 0.1.0".into(),
        pid: 4711,
        guard: Some(GuardStatus { pid: 4710, restarts: 0, last: None }),
        router_id: "lb1".into(),
        started: now() - Duration::from_secs(3 * 86_400 + 4 * 3600),
        configuration: vec!["/etc/vipd/vipd.toml".into()],
        instances: vec![instance("VI_1"), backup()],
        groups: vec![],
        checks: vec![
            CheckStatus {
                name: "apiserver".into(),
                kind: "apiserver".into(),
                health: Health::Down,
                since: now() - Duration::from_secs(42),
                detail: "connect refused".into(),
                streak: 1,
                needed: 2,
                succeeded: 120,
                failed: 16,
                skipped: 0,
                last_duration: Some(Duration::from_micros(1200)),
                durations: durations.clone(),
                value: None,
                activity: Activity::Running,
                new_by_reload: false,
                findings: vec![],
            },
            CheckStatus {
                name: "uplink".into(),
                kind: "interface".into(),
                health: Health::Up,
                since: now() - Duration::from_secs(3 * 86_400),
                detail: "up".into(),
                streak: 0,
                needed: 1,
                succeeded: 9000,
                failed: 0,
                skipped: 2,
                last_duration: None,
                durations: Histogram::default(),
                value: Some(-5),
                activity: Activity::Idle,
                new_by_reload: false,
                findings: vec![],
            },
        ],
        bfd: vec![],
        listeners: vec![ListenerStatus {
            name: "api".into(),
            bind: vec!["10.0.0.100:6443".parse().unwrap()],
            backends: vec![backend("cp1", 11, Health::Up), backend("cp2", 12, Health::Down)],
            sessions: 4,
            sessions_total: 1234,
            sessions_max: 40,
            sessions_limit: 10_000,
            refused: 7,
            retries: 3,
            ended: [("backend_down", 4), ("complete", 1200), ("no_backend", 7)].into(),
            why: "api serves with 1 of 2 backends: cp2 down since 42 s: connect refused".into(),
            ..ListenerStatus::default()
        }],
        pages: vec![],
        dropped: Dropped::default(),
        lateness,
        discarded: [("unknown_vrid", 9)].into(),
        lease: Some(LeaseStatus { tables: true, ..LeaseStatus::default() }),
        stalls: Stalls::default(),
    }
}

fn backend(name: &str, last: u8, health: Health) -> BackendStatus {
    let mut connect_time = Histogram::default();
    for micros in [180, 200, 220, 4000] {
        connect_time.record(Duration::from_micros(micros));
    }
    BackendStatus {
        health,
        since: Some(now() - Duration::from_secs(if health == Health::Up { 9000 } else { 42 })),
        detail: if health == Health::Up { "200 ok".into() } else { "connect refused".into() },
        checks: if health == Health::Up { vec![] } else { vec!["apiserver".into()] },
        weight: 1,
        effective_weight: 1,
        sessions_max: 30,
        connect_time,
        sessions: if health == Health::Up { 4 } else { 0 },
        sessions_total: 617,
        connect_errors: 2,
        bytes_in: 1_500_000,
        bytes_out: 3_221_225_472,
        ..BackendStatus::new(name.into(), ([10, 0, 0, last], 6443).into())
    }
}
