//! Adverts that are sealed (`auth_type AH`), signed (`auth_hmac`) or summed as of old.

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::inject::Injector;
use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::process::Process;
use netns_tests::story::{
    Actor, Bed, Row, Side, Story, bad_neighbour, elections, limit, none_missing, schedule_kept, split, tell,
};
use netns_tests::{Outcome, Stamp, criteria, enabled, ensure, now, wait_for, wait_until};
use nix::sys::signal::Signal;

const BOTH_WAYS: [(Kind, Kind); 2] = [(Vipd, Keepalived), (Keepalived, Vipd)];
const AH: &str = "  authentication {\n    auth_type AH\n    auth_pass s3cr3t\n  }\n";
const KEY: &str = "hex:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const OTHER_KEY: &str = "hex:f0f1f2f3f4f5f6f7f8f9fafbfcfdfefff0f1f2f3f4f5f6f7f8f9fafbfcfdfeff";

#[test]
fn i_3_version_2_with_authentication_header() {
    if enabled(&["keepalived"]) {
        let row = Row { version: 2, extra: |_| AH, ..Row::new("I-3") };
        tell(&[row], &BOTH_WAYS, &[("S1-S4", elections)], false);
    }
}

/// Between unicast peers the check value leaves the TTL out.
#[test]
fn i_3_version_2_with_authentication_header_and_unicast() {
    if enabled(&["keepalived"]) {
        let row = Row { version: 2, unicast: true, extra: |_| AH, ..Row::new("I-3 unicast") };
        tell(&[row], &BOTH_WAYS, &[("S1-S4", elections)], false);
    }
}

/// The peer sums as keepalived up to 1.3.6 did, and refuses the present sum ("Invalid VRRPv3 checksum", 2.2.7), so it hears ours
/// only after it was heard itself.
#[test]
fn i_9_old_unicast_checksum() {
    fn each_hears_the_other(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
        let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
        let mut better = Actor::new(bed, row, Side::Better, better, 200);
        let (worse_down, better_down) = (worse.router.down(row.interval), better.router.down(row.interval));
        let started = worse.start(bed);
        worse.first_advert(bed, started, limit(worse_down))?;
        let started = better.start(bed);
        let first = better.first_advert(bed, started, limit(better_down))?;
        wait_until("S2 the worse one yields", Duration::from_secs(3), || {
            !worse.holds(bed) && better.holds(bed)
        })?;
        wait_for("S2 it goes on", limit(3 * row.interval), || {
            (better.adverts(bed, first.at).len() >= 3).then_some(())
        })?;
        ensure(!worse.holds(bed), || "both hold the address".to_owned())?;
        better.finish(bed, row, better.kind == Vipd)?;
        worse.first_advert(bed, first.at, limit(worse_down))?;
        worse.finish(bed, row, worse.kind == Vipd)
    }
    if enabled(&["keepalived"]) {
        let old = |kind| if kind == Keepalived { "  old_unicast_checksum\n" } else { "" };
        let row = Row { unicast: true, extra: old, ..Row::new("I-9") };
        tell(&[row], &BOTH_WAYS, &[("S2-S3", each_hears_the_other)], false);
    }
}

// ---- I-20: auth_hmac between two of ours ----

fn signed(_: Kind) -> &'static str {
    "  auth_hmac {\n    key 1 hex:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n    active_key 1\n  }\n"
}

fn block(keys: &[(u8, &str)], active: u8, mode: &str) -> String {
    let keys: String = keys.iter().map(|(id, key)| format!("    key {id} {key}\n")).collect();
    format!("  auth_hmac {{\n{keys}    active_key {active}\n    mode {mode}\n  }}\n")
}

#[test]
fn i_20_signed_adverts_elect_like_others() {
    if enabled(&[]) {
        let ipv6 = vec!["fe80::100/64".to_owned(), "fd77::100/64".to_owned()];
        let rows = [
            Row { extra: signed, ..Row::new("I-20 IPv4") },
            Row { extra: signed, addresses: ipv6, ..Row::new("I-20 IPv6") },
            Row { extra: signed, unicast: true, ..Row::new("I-20 unicast") },
        ];
        let stories: [(&str, Story); 3] = [("S1-S4", elections), ("S5", split), ("S7", bad_neighbour)];
        tell(&rows, &[(Vipd, Vipd)], &stories, false);
    }
}

fn counted(actor: &mut Actor, bed: &Bed, reason: &str) -> Outcome<u64> {
    let host = bed.host(actor.side);
    let status = actor.peer().status(host)?;
    Ok(status["instances"][0]["counters"]["discarded"][reason].as_u64().unwrap_or(0))
}

/// The rollout: unsigned and signed adverts side by side, and who refuses which.
#[test]
fn i_20_each_mode_hears_what_it_should() {
    fn modes(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
        // Of the better one, of the worse one, whether the worse one yields, and what it counts.
        let key: &[(u8, &str)] = &[(1, KEY)];
        let cases = [
            (block(key, 1, "receive-only"), block(key, 1, "permissive"), None),
            (block(key, 1, "permissive"), block(key, 1, "receive-only"), None),
            (block(key, 1, "permissive"), block(key, 1, "enforce"), None),
            (block(key, 1, "receive-only"), block(key, 1, "enforce"), Some("auth_ext_missing")),
            (String::new(), block(key, 1, "enforce"), Some("auth_ext_missing")),
            (block(&[(1, OTHER_KEY)], 1, "enforce"), block(key, 1, "enforce"), Some("auth_ext_invalid_hmac")),
            (block(&[(2, KEY)], 2, "enforce"), block(key, 1, "permissive"), Some("auth_ext_unknown_key")),
        ];
        for (of_better, of_worse, refusal) in cases {
            let mut lower = Actor::new(bed, row, Side::Worse, worse, 100);
            let mut higher = Actor::new(bed, row, Side::Better, better, 200);
            lower.router.extra = of_worse;
            higher.router.extra = of_better;
            let started = lower.start(bed);
            lower.first_advert(bed, started, limit(lower.router.down(row.interval)))?;
            let started = higher.start(bed);
            let first = higher.first_advert(bed, started, limit(higher.router.down(row.interval)))?;
            wait_for("three adverts", limit(3 * row.interval), || {
                (higher.adverts(bed, first.at).len() >= 3).then_some(())
            })?;
            match refusal {
                None => wait_until("the worse one yields", Duration::from_secs(3), || !lower.holds(bed))?,
                Some(reason) => {
                    ensure(lower.holds(bed), || format!("the worse one yields in spite of {reason}"))?;
                    let count = counted(&mut lower, bed, reason)?;
                    ensure(count >= 2, || format!("{reason} was counted {count} times"))?;
                }
            }
            lower.peer().stop()?;
            higher.peer().stop()?;
        }
        Ok(())
    }
    if enabled(&[]) {
        let row = Row { interval: Duration::from_millis(200), ..Row::new("I-20 modes") };
        tell(&[row], &[(Vipd, Vipd)], &[("modes", modes)], false);
    }
}

/// Another configuration for a daemon that goes on with it.
fn reload(actor: &mut Actor, bed: &Bed, extra: String) -> Outcome {
    actor.router.extra = extra;
    let file = bed.host(actor.side).directory.join("vipd-1.conf");
    std::fs::write(&file, actor.router.keepalived_conf()).expect("the lab's directory is ours");
    let process = &mut actor.peer().process;
    let done = |process: &Process| process.output().matches("configuration reloaded").count();
    let before = done(process);
    process.signal(Signal::SIGHUP);
    wait_until("it is reloaded", Duration::from_secs(5), || done(process) > before)
}

/// Key number of the trailer, 28 octets at the end of an advert.
fn key_of(frame: &[u8]) -> Option<u8> {
    frame.get(frame.len().checked_sub(27)?).copied()
}

/// IPv4 adverts from this address.
fn frames_of(bed: &Bed, source: IpAddr) -> Vec<Vec<u8>> {
    let IpAddr::V4(source) = source else { return Vec::new() };
    let is_its = |frame: &Vec<u8>| {
        frame.get(12..14) == Some(&[8, 0])
            && frame.get(23) == Some(&112)
            && frame.get(26..30) == Some(&source.octets())
    };
    bed.capture.frames().into_iter().filter(is_its).collect()
}

/// A new key everywhere, then signing with it, then the old one goes: nobody misses an advert.
fn rotation(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut lower = Actor::new(bed, row, Side::Worse, worse, 100);
    let mut higher = Actor::new(bed, row, Side::Better, better, 200);
    lower.router.extra = block(&[(1, KEY)], 1, "enforce");
    higher.router.extra = lower.router.extra.clone();
    let started = higher.start(bed);
    higher.first_advert(bed, started, limit(higher.router.down(row.interval)))?;
    lower.start(bed);
    for one in [&mut lower, &mut higher] {
        one.peer().process.wait_for_output("Startup complete", Duration::from_secs(5))?;
    }
    let from = now();
    let both = [(1, KEY), (2, OTHER_KEY)];
    let steps = [
        (block(&both, 1, "enforce"), 1),
        (block(&both, 2, "enforce"), 2),
        (block(&[(2, OTHER_KEY)], 2, "enforce"), 2),
    ];
    for (keys, used) in steps {
        reload(&mut lower, bed, keys.clone())?;
        reload(&mut higher, bed, keys)?;
        let since = now();
        wait_for("five adverts", limit(5 * row.interval), || {
            (higher.adverts(bed, since).len() >= 5).then_some(())
        })?;
        let key = frames_of(bed, higher.source).last().and_then(|frame| key_of(frame));
        ensure(key == Some(used), || format!("signed with {key:?} instead of {used}"))?;
    }
    none_missing(bed, &higher, from, row.interval)?;
    ensure(lower.adverts(bed, from).is_empty() && !lower.holds(bed), || "the other took over".to_owned())?;
    criteria::nothing_discarded(lower.peer(), bed.host(Side::Worse))?;
    lower.peer().stop()?;
    higher.finish(bed, row, true)
}

/// A stranger repeats what it heard, a second later: nobody believes it, whether the sender lives or not.
fn replay(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut lower = Actor::new(bed, row, Side::Worse, worse, 100);
    let mut higher = Actor::new(bed, row, Side::Better, better, 200);
    let started = higher.start(bed);
    let first = higher.first_advert(bed, started, limit(higher.router.down(row.interval)))?;
    lower.start(bed);
    wait_for("ten adverts", limit(10 * row.interval), || {
        (higher.adverts(bed, first.at).len() >= 10).then_some(())
    })?;
    let mut frames = frames_of(bed, higher.source);
    for frame in &mut frames {
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, bed.lab.stranger.number]);
    }
    let injector = Injector::every(&bed.lab.stranger, frames, row.interval / 2);
    let from = now();
    wait_for("the repetitions are counted", Duration::from_secs(5), || {
        counted(&mut lower, bed, "auth_ext_replay").ok().filter(|count| *count >= 10)
    })?;
    schedule_kept(bed, &higher, from, row.interval)?;
    ensure(!lower.holds(bed), || "a repetition moved the address".to_owned())?;

    bed.cut(Side::Better);
    let died = now();
    higher.peer().process.kill_family();
    let down = lower.router.down(row.interval);
    let takeover = lower.first_advert(bed, died, limit(down))?;
    let last = higher.adverts(bed, Stamp::ZERO).into_iter().rfind(|one| one.at < died);
    let last = last.expect("ten were seen").at;
    criteria::on_time("takeover under repetitions", last, takeover.at, down)?;
    let after = now();
    wait_for("the new active goes on", limit(10 * row.interval), || {
        (lower.adverts(bed, after).len() >= 10).then_some(())
    })?;
    ensure(lower.holds(bed), || "it yielded to a repetition of a better router's adverts".to_owned())?;
    schedule_kept(bed, &lower, after, row.interval)?;

    // The real one comes back, and is believed although the stranger goes on.
    bed.host(Side::Better).run(&["ip", "address", "flush", "dev", "eth0", "to", "10.77.0.100"]);
    bed.join(Side::Better);
    let started = higher.start(bed);
    higher.first_advert(bed, started, limit(higher.router.down(row.interval)))?;
    wait_until("the worse one yields", Duration::from_secs(2), || !lower.holds(bed) && higher.holds(bed))?;
    injector.finish();
    higher.peer().stop()?;
    lower.peer().stop()
}

/// keepalived 2.2.7 has no auth_hmac: ours with ours. Steps of the clock are in `vrrp/tests/auth_hmac.rs`: hosts that share a
/// kernel share its clock.
#[test]
fn i_20_keys_are_changed_and_repetitions_are_not_believed() {
    if enabled(&[]) {
        let row = Row { interval: Duration::from_millis(100), extra: signed, ..Row::new("I-20") };
        tell(&[row], &[(Vipd, Vipd)], &[("rotation", rotation), ("replay", replay)], false);
    }
}
