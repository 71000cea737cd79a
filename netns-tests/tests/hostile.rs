//! A host of the segment that forges adverts: nothing may change but the counters.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use netns_tests::craft::{Craft, bad_version_3};
use netns_tests::inject::Injector;
use netns_tests::peer::Kind::{Keepalived, Vipd};
use netns_tests::process::read_lossy;
use netns_tests::story::{Actor, Bed, Row, Side, VRID, discards, limit, schedule_kept, tell};
use netns_tests::{Outcome, Stamp, enabled, ensure, now, wait_for};

/// Every kind of bad advert whose name has this in it, from the stranger, to the group or to one host alone.
fn forgeries(bed: &Bed, kind: &str, only_to: Option<Side>) -> Vec<Vec<u8>> {
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let stranger = &bed.lab.stranger;
    let mut good = Craft::advert(address(&stranger.ipv4()), VRID, &[address(&bed.address)]);
    good.priority = 250;
    if let Some(side) = only_to {
        good = good.only_to([2, 0, 0, 0, 0, bed.host(side).number]);
    }
    let mac = [2, 0, 0, 0, 0, stranger.number];
    let list = bad_version_3(&good, address(&bed.lab.lb1.ipv4()));
    list.into_iter().filter(|one| one.name.contains(kind)).map(|one| one.craft.frame(mac)).collect()
}

/// Starts both, and waits until the better one is active.
fn settle(bed: &Bed, row: &Row, kind: netns_tests::peer::Kind) -> Outcome<(Actor, Actor)> {
    let mut worse = Actor::new(bed, row, Side::Worse, kind, 100);
    let mut better = Actor::new(bed, row, Side::Better, kind, 200);
    worse.start(bed);
    let started = better.start(bed);
    better.first_advert(bed, started, limit(better.router.down(row.interval)))?;
    wait_for("the better one holds alone", Duration::from_secs(5), || {
        (better.holds(bed) && !worse.holds(bed)).then_some(())
    })?;
    Ok((worse, better))
}

/// Nothing moved since then, and the active one kept its schedule.
fn unimpressed(bed: &Bed, row: &Row, worse: &Actor, better: &Actor, from: Stamp) -> Outcome {
    for (monitor, host) in [(&bed.on_lb1, "lb1"), (&bed.on_lb2, "lb2")] {
        let moved = monitor
            .held(&bed.address)
            .into_iter()
            .any(|(came, went)| came > from || went.is_some_and(|at| at > from));
        ensure(!moved, || format!("the address moved on {host}"))?;
    }
    let wrong = worse.adverts(bed, from);
    ensure(wrong.is_empty(), || format!("the backup advertised: {wrong:?}"))?;
    schedule_kept(bed, better, from, row.interval)
}

#[test]
fn a_flood_of_50_000_forged_adverts_a_second_changes_nothing() {
    const RATE: u32 = 50_000;
    const LASTING: Duration = Duration::from_secs(5);
    fn flood(bed: &mut Bed, row: &Row, kind: netns_tests::peer::Kind, _: netns_tests::peer::Kind) -> Outcome {
        let (mut worse, mut better) = settle(bed, row, kind)?;
        // Each host gets the whole rate for itself: a machine of two processors cannot copy it to both.
        for side in [Side::Better, Side::Worse] {
            let log = if side == Side::Better {
                better.peer().process.log.clone()
            } else {
                worse.peer().process.log.clone()
            };
            let lines_before = read_lossy(&log).lines().count();
            let from = now();
            let injector = Injector::flood(&bed.lab.stranger, forgeries(bed, "", Some(side)), RATE);
            wait_for("adverts during the flood", limit(LASTING), || {
                better.adverts(bed, from + LASTING).into_iter().next()
            })?;
            let lasted = now() - from;
            let sent = injector.finish();
            let wanted = u64::from(RATE) * lasted.as_millis() as u64 / 1000 * 9 / 10;
            ensure(sent >= wanted, || {
                format!("this machine sent only {sent} of {wanted} frames to {side:?}")
            })?;
            unimpressed(bed, row, &worse, &better, from)?;

            let target = if side == Side::Better { &mut better } else { &mut worse };
            let status = target.peer().status(bed.host(side))?;
            let counted = discards(&status);
            ensure(counted > 1000, || format!("{side:?} counted {counted} of {sent} forged adverts"))?;
            let maps = [&status["instances"][0]["counters"]["discarded"], &status["discarded"]];
            let maps = maps.iter().filter_map(|map| map.as_object());
            let named: BTreeSet<&String> = maps.flatten().map(|(name, _)| name).collect();
            for reason in ["checksum", "type", "length", "count_zero", "zero_interval", "version"] {
                ensure(named.iter().any(|name| *name == reason), || {
                    format!("{side:?} did not count {reason}: {named:?}")
                })?;
            }
            // At most one line a second for each reason, and a few of its own.
            let new = read_lossy(&log).lines().count() - lines_before;
            let allowed = named.len() * (lasted.as_secs() as usize + 2) + 5;
            ensure(new <= allowed, || format!("{new} log lines in {lasted:?} for {} reasons", named.len()))?;
        }
        worse.finish(bed, row, false)?;
        better.finish(bed, row, false)
    }
    if enabled(&[]) {
        tell(&[Row::new("flood")], &[(Vipd, Vipd)], &[("both vipd", flood)], true);
    }
}

/// H-2 of the protocol notes. keepalived 2.2.7 sends 1 of the 40.
fn keeps_sending(
    bed: &mut Bed,
    row: &Row,
    better: netns_tests::peer::Kind,
    worse: netns_tests::peer::Kind,
) -> Outcome {
    let (mut backup, mut active) = settle(bed, row, better)?;
    let _ = worse;
    let from = now();
    let _injector = Injector::every(&bed.lab.stranger, forgeries(bed, "", None), row.interval / 2);
    let lasting = 40 * row.interval.min(Duration::from_millis(200)) + Duration::from_millis(100);
    wait_for("adverts under fire", limit(lasting), || {
        active.adverts(bed, from + lasting).into_iter().next()
    })?;
    let sent = active.adverts(bed, from).iter().filter(|advert| advert.at <= from + lasting).count() as i64;
    let wanted = (lasting.as_millis() / row.interval.as_millis()) as i64;
    ensure((sent - wanted).abs() <= 1, || format!("{sent} adverts, expected {wanted} (H-2)"))?;
    unimpressed(bed, row, &backup, &active, from)?;
    backup.finish(bed, row, false)?;
    active.finish(bed, row, false)
}

#[test]
fn h_2_an_active_keeps_its_schedule_while_bad_adverts_come_every_100_ms() {
    if enabled(&[]) {
        let row = Row { interval: Duration::from_millis(200), ..Row::new("H-2 200 ms") };
        tell(&[row], &[(Vipd, Vipd)], &[("bad adverts every 100 ms", keeps_sending)], true);
    }
}

#[test]
fn h_2_an_active_keeps_its_schedule_while_two_bad_adverts_of_each_kind_come_a_second() {
    if enabled(&[]) {
        tell(&[Row::new("H-2 1 s")], &[(Vipd, Vipd)], &[("bad adverts twice a second", keeps_sending)], true);
    }
}

/// The injector is able to hurt: one kind of these packets silences an active keepalived 2.2.7.
#[test]
fn keepalived_2_2_7_falls_silent_under_such_adverts() {
    fn falls_silent(
        bed: &mut Bed,
        row: &Row,
        better: netns_tests::peer::Kind,
        _: netns_tests::peer::Kind,
    ) -> Outcome {
        let (_backup, active) = settle(bed, row, better)?;
        let from = now();
        let _injector =
            Injector::every(&bed.lab.stranger, forgeries(bed, "checksum off", None), row.interval / 2);
        let lasting = Duration::from_secs(4);
        wait_for("the time to pass", 2 * lasting, || (now() > from + lasting).then_some(()))?;
        let sent = active.adverts(bed, from).len();
        ensure(sent < 10, || format!("{sent} adverts in 4 s: keepalived was expected to suffer"))
    }
    if enabled(&["keepalived"]) {
        let row = Row { interval: Duration::from_millis(200), ..Row::new("control of H-2") };
        tell(&[row], &[(Keepalived, Keepalived)], &[("bad adverts every 100 ms", falls_silent)], true);
    }
}
