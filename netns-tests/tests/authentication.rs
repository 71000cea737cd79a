//! Adverts that are sealed (`auth_type AH`), signed (`auth_hmac`) or summed as of old.

use std::time::Duration;

use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::story::{Actor, Bed, Row, Side, Story, bad_neighbour, elections, limit, split, tell};
use netns_tests::{Outcome, enabled, ensure, wait_for, wait_until};

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
