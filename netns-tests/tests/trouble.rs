//! Trouble beyond the matrix: other intervals, pulled cables, one-way loss, a daemon that hangs.

use std::time::Duration;

use netns_tests::peer::Kind::{self, Keepalived, Vipd};
use netns_tests::story::{Actor, Bed, Row, Side, limit, tell};
use netns_tests::{Failure, Outcome, Stamp, criteria, enabled, ensure, now, wait_for, wait_until};
use nix::sys::signal::Signal;

const BOTH_WAYS: [(Kind, Kind); 2] = [(Vipd, Keepalived), (Keepalived, Vipd)];

fn at_200_ms(name: &'static str) -> Row {
    Row { interval: Duration::from_millis(200), ..Row::new(name) }
}

/// Both run, and the better one is active.
fn settled(bed: &Bed, worse: &mut Actor, better: &mut Actor) -> Outcome {
    let started = worse.start(bed);
    worse.first_advert(bed, started, limit(worse.router.down(worse.router.interval)))?;
    let started = better.start(bed);
    better.first_advert(bed, started, limit(better.router.down(worse.router.interval)))?;
    wait_until("the better one holds alone", Duration::from_secs(5), || {
        better.holds(bed) && !worse.holds(bed)
    })
}

/// Version 3: a backup counts in the intervals of the active router, and sends in its own.
#[test]
fn a_takeover_comes_after_the_learned_interval() {
    fn learned(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
        let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
        let mut better = Actor::new(bed, row, Side::Better, better, 200);
        better.router.interval = row.interval / 2;
        settled(bed, &mut worse, &mut better)?;
        wait_for("adverts to learn from", limit(row.interval), || {
            (better.adverts(bed, now() - row.interval * 2).len() >= 3).then_some(())
        })?;
        bed.cut(Side::Better);
        let silent = now();
        better.peer().process.kill_family();
        let down = worse.router.down(better.router.interval);
        let takeover = worse.first_advert(bed, silent, limit(down))?;
        let last = better.adverts(bed, Stamp::ZERO).into_iter().rfind(|advert| advert.at < takeover.at);
        let last = last.ok_or_else(|| "the better one never advertised".to_owned())?;
        criteria::on_time("takeover after the learned interval", last.at, takeover.at, down)?;
        let next = worse.first_advert(bed, takeover.at, limit(row.interval))?;
        criteria::on_time("then its own interval", takeover.at, next.at, row.interval)
    }
    if enabled(&["keepalived"]) {
        tell(&[Row::new("learned interval")], &BOTH_WAYS, &[("S4", learned)], false);
    }
}

#[test]
fn a_host_whose_cable_is_pulled_lets_go_and_comes_back() {
    fn pulled(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
        let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
        let mut better = Actor::new(bed, row, Side::Better, better, 200);
        settled(bed, &mut worse, &mut better)?;
        let at = now();
        bed.lab.pull(&bed.lab.lb2);
        wait_until("the host without a link lets go", Duration::from_secs(2), || !better.holds(bed))?;
        if better.kind == Vipd {
            let status = better.peer().status(&bed.lab.lb2)?;
            let instance = &status["instances"][0];
            ensure(instance["state"] == "fault", || format!("not in fault: {instance:#}"))?;
            ensure(instance["why"].as_str().is_some_and(|why| why.contains("eth0")), || {
                format!("does not say why: {}", instance["why"])
            })?;
        }
        worse.first_advert(bed, at, limit(worse.router.down(row.interval)))?;
        wait_until("the other one takes over", Duration::from_secs(2), || worse.holds(bed))?;
        let back = now();
        bed.lab.push(&bed.lab.lb2);
        better.first_advert(bed, back, limit(better.router.down(row.interval)))?;
        wait_until("it comes back", Duration::from_secs(5), || better.holds(bed) && !worse.holds(bed))?;
        criteria::one_holder(bed, row.interval)?;
        worse.finish(bed, row, true)?;
        better.finish(bed, row, false)
    }
    if enabled(&["keepalived"]) {
        tell(&[at_200_ms("cable")], &BOTH_WAYS, &[("pulled", pulled)], false);
    }
}

/// What the better one sends is lost: the other one cannot know, and takes over. Once it is heard again
/// the other one yields to its first advert.
#[test]
fn one_way_loss_ends_with_the_first_advert_that_arrives() {
    fn one_way(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
        let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
        let mut better = Actor::new(bed, row, Side::Better, better, 200);
        settled(bed, &mut worse, &mut better)?;
        bed.splits.push((now(), None));
        bed.lab.mute(&bed.lab.lb2);
        wait_until("the other one takes over", limit(worse.router.down(row.interval)), || worse.holds(bed))?;
        ensure(better.holds(bed), || "the better one yielded to a worse one".to_owned())?;
        let heard = now();
        bed.lab.unmute();
        bed.splits.last_mut().expect("pushed above").1 = Some(now());
        let first = better.first_advert(bed, heard, limit(row.interval))?;
        wait_until("the worse one yields", Duration::from_secs(2), || !worse.holds(bed))?;
        let late = worse.adverts(bed, first.at + Duration::from_millis(10));
        ensure(late.is_empty(), || format!("it went on after the better one's advert: {late:?}"))?;
        criteria::one_holder(bed, row.interval)?;
        worse.finish(bed, row, true)?;
        better.finish(bed, row, true)
    }
    if enabled(&["keepalived"]) {
        tell(&[at_200_ms("one-way loss")], &BOTH_WAYS, &[("muted", one_way)], false);
    }
}

/// Every process of the active host stops for two seconds. When it goes on it does not trust what it knew:
/// it lets go first, listens, and wins again by the rules.
#[test]
fn a_daemon_that_hung_lets_go_before_it_takes_part_again() {
    fn hung(bed: &mut Bed, row: &Row, better: Kind, worse: Kind) -> Outcome {
        let mut worse = Actor::new(bed, row, Side::Worse, worse, 100);
        let mut better = Actor::new(bed, row, Side::Better, better, 200);
        settled(bed, &mut worse, &mut better)?;
        let stopped = now();
        better.peer().process.signal_family(Signal::SIGSTOP);
        worse.first_advert(bed, stopped, limit(worse.router.down(row.interval)))?;
        wait_until("the other one takes over", Duration::from_secs(2), || worse.holds(bed))?;
        wait_until("the hang lasts", Duration::from_secs(5), || now() > stopped + Duration::from_secs(2))?;
        let went_on = now();
        better.peer().process.signal_family(Signal::SIGCONT);
        wait_until("it lets go", Duration::from_secs(2), || {
            better.adverts(bed, went_on).is_empty() && !better.holds(bed)
                || now() > went_on + better.router.down(row.interval)
        })?;
        let gone =
            bed.on_lb2.held(&bed.address).into_iter().filter_map(|(_, end)| end).rfind(|end| *end >= went_on);
        let gone = gone.ok_or_else(|| Failure::from("it never let go of the address".to_owned()))?;
        criteria::within("lets go after the hang", went_on, gone, Duration::ZERO, Duration::from_millis(50))?;
        let again = better.first_advert(bed, went_on, limit(better.router.down(row.interval)))?;
        ensure(again.at - went_on > 2 * row.interval, || {
            format!("it advertised {:?} after the hang", again.at - went_on)
        })?;
        wait_until("it wins again", Duration::from_secs(5), || better.holds(bed) && !worse.holds(bed))
    }
    if enabled(&["keepalived"]) {
        tell(&[at_200_ms("hang")], &[(Vipd, Keepalived)], &[("stopped", hung)], false);
    }
}
