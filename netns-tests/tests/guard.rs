//! The daemon dies, or its guard does: the address does not stay behind, and the peer does not wait three intervals.

use std::time::Duration;

use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::story::{Actor, Bed, Row, Side, limit, tell};
use netns_tests::wire::Advert;
use netns_tests::{Outcome, Stamp, criteria, enabled, ensure, now, wait_for, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SOON: Duration = Duration::from_secs(5);

/// Both run, and the better one is active.
fn settled(bed: &Bed, worse: &mut Actor, better: &mut Actor) -> Outcome {
    let started = worse.start(bed);
    worse.first_advert(bed, started, limit(worse.router.down(worse.router.interval)))?;
    let started = better.start(bed);
    better.first_advert(bed, started, limit(better.router.down(worse.router.interval)))?;
    wait_until("the better one holds alone", SOON, || better.holds(bed) && !worse.holds(bed))
}

/// When the better host last let go of the address.
fn let_go(bed: &Bed, after: Stamp) -> Outcome<Stamp> {
    let ends = bed.on_lb2.held(&bed.address).into_iter().filter_map(|(_, end)| end);
    ends.into_iter().find(|end| *end >= after).ok_or_else(|| "the address stayed".to_owned().into())
}

fn number(status: &serde_json::Value) -> Outcome<Pid> {
    let number = status.as_i64().and_then(|pid| i32::try_from(pid).ok());
    Ok(Pid::from_raw(number.ok_or_else(|| format!("no process: {status}"))?))
}

fn goodbye(bed: &Bed, better: &Actor, after: Stamp) -> Outcome<Advert> {
    wait_for("an advert of priority 0", SOON, || {
        better.adverts(bed, after).into_iter().find(|advert| advert.priority == 0)
    })
}

/// RFC 9568 §6.4.2: after an advert of priority 0 the backup waits Skew_Time.
fn daemon_killed(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
    let mut better = Actor::new(bed, row, Side::Better, better, 200);
    settled(bed, &mut worse, &mut better)?;
    for restarts in 1..=2 {
        let status = better.peer().status(&bed.lab.lb2)?;
        let daemon = number(&status["pid"])?;
        let guard = number(&status["guard"]["pid"])?;
        ensure(guard.as_raw().unsigned_abs() == better.peer().process.pid() && guard != daemon, || {
            format!("the guard is not the service: {status}")
        })?;
        let killed = now();
        kill(daemon, Signal::SIGKILL).map_err(|error| error.to_string())?;
        let took = worse.first_advert(bed, killed, limit(worse.router.down(row.interval)))?;
        let bye = goodbye(bed, &better, killed)?;
        let margin = Duration::from_millis(5);
        criteria::within("takeover after a crash", killed, took.at, worse.router.skew(row.interval), margin)?;
        criteria::within("goodbye after a crash", killed, bye.at, Duration::ZERO, margin)?;
        let gone = let_go(bed, killed)?;
        criteria::within("the address goes", killed, gone, Duration::ZERO, margin)?;
        ensure(gone < took.at, || format!("two hosts had the address: until {gone:?}, from {:?}", took.at))?;
        // The guard starts another, which wins again.
        wait_until("it comes back", SOON, || better.holds(bed) && !worse.holds(bed))?;
        let status = better.peer().status(&bed.lab.lb2)?;
        ensure(status["guard"]["restarts"] == restarts, || format!("{}", status["guard"]))?;
        ensure(number(&status["pid"])? != daemon, || "the same process".to_owned())?;
        let said = format!(
            "was ended by SIGKILL; adverts of priority 0 sent: 1, addresses, routes and rules taken off: {}",
            row.addresses.len()
        );
        ensure(status["guard"]["last"].as_str().is_some_and(|last| last.contains(&said)), || {
            format!("{}", status["guard"])
        })?;
    }
    // Nothing of the dead ones is left waiting for its parent.
    let left = better.peer().process.family();
    ensure(left.len() == 2, || format!("processes: {left:?}"))?;
    worse.finish(bed, row, true)?;
    better.finish(bed, row, true)
}

/// What the service manager takes for the service dies: the daemon leaves as if it had been asked to.
fn guard_killed(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
    let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
    let mut better = Actor::new(bed, row, Side::Better, better, 200);
    settled(bed, &mut worse, &mut better)?;
    let killed = now();
    better.peer().process.signal(Signal::SIGKILL);
    let bye = goodbye(bed, &better, killed)?;
    let took = worse.first_advert(bed, killed, limit(worse.router.down(row.interval)))?;
    criteria::on_time("takeover after the goodbye", bye.at, took.at, worse.router.skew(row.interval))?;
    let_go(bed, killed)?;
    wait_until("the daemon ends", SOON, || better.peer().process.family().is_empty())?;
    let said = better.peer().process.output();
    ensure(said.contains("the guard, our parent process, has gone"), || said.clone())?;
    worse.finish(bed, row, true)
}

#[test]
fn a_crash_costs_skew_time_and_leaves_nothing_behind() {
    if enabled(&["keepalived"]) {
        let fast = |name| Row { interval: Duration::from_millis(200), ..Row::new(name) };
        let rows = [
            fast("guard, IPv4"),
            Row {
                addresses: vec!["fe80::100/64".to_owned(), "fd77::100/64".to_owned()],
                ..fast("guard, IPv6")
            },
            Row { unicast: true, ..fast("guard, unicast") },
            Row {
                version: 2,
                extra: |_| "  authentication {\n    auth_type AH\n    auth_pass secret\n  }\n",
                ..Row::new("guard, AH")
            },
        ];
        tell(
            &rows[..1],
            &[(Vipd, Keepalived)],
            &[("daemon killed", daemon_killed), ("guard killed", guard_killed)],
            false,
        );
        tell(&rows[1..], &[(Vipd, Keepalived)], &[("daemon killed", daemon_killed)], false);
    }
}
