//! The active host dies or is stopped: how long the client waits, how late the backup is after its own
//! timer, how soon it announces itself.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use netns_tests::host::step_back;
use netns_tests::peer::{Kind, bare};
use netns_tests::story::{Actor, Bed, Row, Side, limit};
use netns_tests::{Failure, Outcome, Stamp, now, wait_for, wait_until};

use crate::figures::{Figures, Section, Table, Verdict, ms, ms_after, number, ratio};
use crate::order;

/// How the active one ends.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// SIGTERM.
    Stop,
    /// Its port is silent, its processes are killed.
    Death,
}

/// One takeover. Times in milliseconds.
#[derive(Clone, Debug)]
struct Trial {
    case: &'static str,
    kind: Kind,
    event: Event,
    /// Without an answer for the client.
    outage: f64,
    /// First advert of the new active after its timer's end.
    lateness: f64,
    /// From its first advert to its first announcement.
    first_announced: f64,
    /// From its first advert until each address was announced once.
    all_announced: f64,
    /// The machine itself was late by so much meanwhile.
    stalled: f64,
}

/// One lab to build.
#[derive(Clone)]
struct Plan {
    row: Row,
    kind: Kind,
    /// Again and again.
    events: Vec<Event>,
    /// Number of its first event, for the part of an interval at which it falls.
    first: usize,
}

const BETTER: u8 = 200;
const WORSE: u8 = 100;
const STALLED: f64 = 0.5;

fn rows() -> [Row; 4] {
    let v3 = Row::new("v3 1 s");
    [
        Row { version: 2, ..Row::new("v2 1 s") },
        v3.clone(),
        Row { name: "v3 0.1 s", interval: Duration::from_millis(100), ..v3.clone() },
        Row { name: "v3 10 ms", interval: Duration::from_millis(10), ..v3 },
    ]
}

/// Death and graceful stop of the active host.
pub fn failover(rounds: usize) -> Section {
    let mut section = Section {
        title: "Failover".to_owned(),
        how: "Priorities 200 and 100, the same daemon on both hosts, one VIP, keepalived's configuration language for both. \
              The client asks the VIP over UDP every millisecond; its outage is the time between the last question answered before \
              the hole and the first one answered after it. Lateness: first advert of the new active minus the end of \
              its protocol timer (death: last advert of the old one + Active_Down_Interval; stop: advert with priority 0 + Skew_Time). \
              Events fall into the advert interval at the same, spread places for both daemons. The 1 s cases run in four labs at once, \
              the others alone."
            .to_owned(),
        ..Section::default()
    };
    let [v2, v3, tenth, hundredth] = rows();
    let mut trials = Vec::new();
    let both = |times: usize| [Event::Stop, Event::Death].repeat(times);
    for round in 0..rounds {
        let plan = |row: &Row, kind, times: usize| Plan {
            row: row.clone(),
            kind,
            events: both(times),
            first: round * times * 2,
        };
        let [one, two] = order(round);
        let seconds = vec![plan(&v2, one, 1), plan(&v2, two, 1), plan(&v3, one, 1), plan(&v3, two, 1)];
        let turns = [seconds]
            .into_iter()
            .chain([one, two].map(|kind| vec![plan(&tenth, kind, 3)]))
            .chain([one, two].map(|kind| vec![plan(&hundredth, kind, 6)]));
        for plans in turns {
            trials.extend(together(plans, &mut section.remarks));
        }
    }
    let rows = rows();
    let death = |row: &Row, lower: u32| 3 * row.interval + skew(row, lower);
    section.tables.push(table(&trials, &rows, Event::Death, "Active_Down_Interval", death));
    section.tables.push(table(&trials, &rows, Event::Stop, "Skew_Time", skew));
    section
}

fn skew(row: &Row, priority: u32) -> Duration {
    let whole = if row.version == 2 { Duration::from_secs(1) } else { row.interval };
    whole * (256 - priority) / 256
}

fn table(
    trials: &[Trial],
    rows: &[Row],
    event: Event,
    bound_name: &str,
    bound: impl Fn(&Row, u32) -> Duration,
) -> (Table, Vec<Verdict>) {
    let what = if event == Event::Death { "death" } else { "stop" };
    let mut table = Table::new(&[
        what,
        &format!("{bound_name}, ms"),
        "outage vipd, ms",
        "outage keepalived, ms",
        "ratio",
        "lateness vipd, ms",
        "lateness keepalived, ms",
        "ratio",
        "n",
        "stalled",
    ]);
    let (mut over, mut later, mut worst) = (Vec::new(), Vec::new(), Vec::new());
    for row in rows {
        let of = |kind: Kind| -> Vec<&Trial> {
            let mine = trials.iter().filter(|t| t.case == row.name && t.kind == kind && t.event == event);
            mine.collect()
        };
        let (vipd, keepalived) = (of(Kind::Vipd), of(Kind::Keepalived));
        let figures =
            |list: &[&Trial], what: fn(&Trial) -> f64| Figures(list.iter().map(|t| what(t)).collect());
        let [ours, theirs] = [&vipd, &keepalived].map(|list| figures(list, |t| t.outage));
        let [our_lateness, their_lateness] = [&vipd, &keepalived].map(|list| figures(list, |t| t.lateness));
        let stalled = |list: &[&Trial]| list.iter().filter(|t| t.stalled > STALLED).count();
        let bound = ms(bound(row, WORSE.into()));
        let margin = if event == Event::Death { f64::max(5.0, bound / 50.0) } else { 5.0 };
        // A lab that failed is a target that is missed.
        if ours.0.is_empty() || ours.max() > bound + margin {
            over.push(format!("{} {} > {}", row.name, number(ours.max()), number(bound + margin)));
        }
        if our_lateness.0.is_empty() || our_lateness.median() > their_lateness.median() {
            later.push(format!(
                "{} {} > {}",
                row.name,
                number(our_lateness.median()),
                number(their_lateness.median())
            ));
        }
        worst.push(format!("{} {:+.1} ms", row.name, ours.max() - bound));
        table.add([
            row.name.to_owned(),
            number(bound),
            ours.to_string(),
            theirs.to_string(),
            ratio(ours.median(), theirs.median()),
            our_lateness.to_string(),
            their_lateness.to_string(),
            ratio(our_lateness.median(), their_lateness.median()),
            format!("{} / {}", vipd.len(), keepalived.len()),
            format!("{} / {}", stalled(&vipd), stalled(&keepalived)),
        ]);
    }
    let allowed = if event == Event::Death { "max(5 ms, 2 %)" } else { "5 ms" };
    let mut verdicts = vec![Verdict {
        met: over.is_empty(),
        text: format!(
            "vipd's longest outage is never above {bound_name} + {allowed}; longest minus bound: {}{}.",
            worst.join(", "),
            missed(&over)
        ),
    }];
    verdicts.push(Verdict {
        met: later.is_empty(),
        text: format!("vipd's median lateness is at most keepalived's{}.", missed(&later)),
    });
    (table, verdicts)
}

fn missed(list: &[String]) -> String {
    if list.is_empty() { String::new() } else { format!("; not so: {}", list.join(", ")) }
}

/// From takeover to announcement.
pub fn announcements(rounds: usize) -> Section {
    let mut section = Section {
        title: "Takeover to announcement".to_owned(),
        how: "The active one is stopped; time from the first advert of the new active on the wire to its first gratuitous ARP, \
              and until each VIP was announced once. Version 3, 0.1 s."
            .to_owned(),
        ..Section::default()
    };
    let one = Row { interval: Duration::from_millis(100), ..Row::new("1 VIP") };
    let addresses = (100..120).map(|last| format!("10.77.0.{last}/24")).collect();
    let twenty = Row { name: "20 VIPs", addresses, ..one.clone() };
    let mut trials = Vec::new();
    for round in 0..rounds {
        for row in [&one, &twenty] {
            for kind in order(round) {
                let plan = Plan { row: row.clone(), kind, events: vec![Event::Stop; 4], first: round * 4 };
                trials.extend(together(vec![plan], &mut section.remarks));
            }
        }
    }
    let mut table = Table::new(&[
        "VIPs",
        "to the first vipd, ms",
        "to the first keepalived, ms",
        "ratio",
        "until each was announced vipd, ms",
        "keepalived, ms",
        "ratio",
        "n",
        "stalled",
    ]);
    let mut worst = Vec::new();
    for row in [&one, &twenty] {
        let of = |kind, what: fn(&Trial) -> f64| {
            let mine = trials.iter().filter(|t: &&Trial| t.case == row.name && t.kind == kind);
            Figures(mine.map(what).collect())
        };
        let [first, their_first] = [Kind::Vipd, Kind::Keepalived].map(|kind| of(kind, |t| t.first_announced));
        let [all, their_all] = [Kind::Vipd, Kind::Keepalived].map(|kind| of(kind, |t| t.all_announced));
        let [stalled, their_stalled] = [Kind::Vipd, Kind::Keepalived]
            .map(|kind| of(kind, |t| t.stalled).0.iter().filter(|stalled| **stalled > STALLED).count());
        worst.push((first.max(), all.max(), first.median(), all.median()));
        table.add([
            row.name.to_owned(),
            first.to_string(),
            their_first.to_string(),
            ratio(first.median(), their_first.median()),
            all.to_string(),
            their_all.to_string(),
            ratio(all.median(), their_all.median()),
            format!("{} / {}", first.0.len(), their_first.0.len()),
            format!("{stalled} / {their_stalled}"),
        ]);
    }
    let verdict = |met, text| Verdict { met, text };
    let verdicts = vec![
        verdict(
            worst[0].0 < 1.0,
            format!(
                "one VIP is announced less than 1 ms after the first advert; longest {} ms, median {} ms.",
                number(worst[0].0),
                number(worst[0].2)
            ),
        ),
        verdict(
            worst[1].1 <= 2.0,
            format!(
                "20 VIPs are announced within 2 ms after the first advert; longest {} ms, median {} ms.",
                number(worst[1].1),
                number(worst[1].3)
            ),
        ),
    ];
    section.tables.push((table, verdicts));
    section
}

/// Plays all plans at the same time. Labs are built before and taken down after: both keep the kernel's
/// network configuration busy.
fn together(plans: Vec<Plan>, remarks: &mut Vec<String>) -> Vec<Trial> {
    let step = Duration::from_millis(1);
    let beds: Vec<Mutex<Bed>> =
        plans.iter().map(|plan| Mutex::new(Bed::new(plan.row.watched(), step))).collect();
    beds[0].lock().expect("not poisoned").lab.wait_for_calm();
    let results: Vec<(Vec<Trial>, Outcome)> = thread::scope(|scope| {
        let players: Vec<_> = plans
            .iter()
            .zip(&beds)
            .map(|(plan, bed)| {
                scope.spawn(move || {
                    step_back();
                    let mut trials = Vec::new();
                    let outcome = play(plan, &mut bed.lock().expect("not poisoned"), &mut trials);
                    (trials, outcome)
                })
            })
            .collect();
        players.into_iter().map(|player| player.join().expect("a player does not panic")).collect()
    });
    let mut all = Vec::new();
    for ((trials, outcome), plan) in results.into_iter().zip(plans) {
        all.extend(trials);
        if let Err(failure) = outcome {
            remarks.push(format!(
                "A lab of {:?}, {}, ended early: {}",
                plan.kind,
                plan.row.name,
                failure.text.lines().next().unwrap_or_default()
            ));
            eprintln!("{}", failure.text);
        }
    }
    all
}

/// All events of one lab.
fn play(plan: &Plan, bed: &mut Bed, trials: &mut Vec<Trial>) -> Outcome {
    let mut worse = Actor::new(bed, &plan.row, Side::Worse, plan.kind, WORSE);
    let mut better = Actor::new(bed, &plan.row, Side::Better, plan.kind, BETTER);
    worse.start(bed);
    for (number, event) in plan.events.iter().enumerate() {
        let started = better.start(bed);
        let down = better.router.down(plan.row.interval);
        let first = better.first_advert(bed, started, limit(down))?;
        // Until it is alone, known to the client, and has announced itself.
        wait_for("the better one is alone", limit(plan.row.interval), || {
            let since =
                worse.adverts(bed, Stamp::ZERO).last().map_or(first.at, |advert| advert.at.max(first.at));
            (better.adverts(bed, since).len() >= 2 && bed.prober.answered_since(since)).then_some(())
        })?;
        trials.push(end(plan, bed, &mut worse, &mut better, *event, phase(plan.first + number))?);
        if *event == Event::Death {
            // It comes back empty, as after a reboot.
            let host = bed.host(Side::Better);
            let here = host.addresses();
            for address in &plan.row.addresses {
                if here.iter().any(|other| other == bare(address)) {
                    // A lease may end it before us.
                    let _ = host.try_run(&["ip", "address", "del", address, "dev", "eth0"]);
                }
            }
            bed.join(Side::Better);
        }
    }
    Ok(())
}

/// Where in an interval an event falls: spread evenly, and never near an advert.
fn phase(number: usize) -> f64 {
    0.05 + 0.9 * (0.31 + 0.618_034 * number as f64).fract()
}

/// Ends the active one and watches the other take over.
fn end(
    plan: &Plan,
    bed: &mut Bed,
    worse: &mut Actor,
    better: &mut Actor,
    event: Event,
    phase: f64,
) -> Outcome<Trial> {
    let interval = plan.row.interval;
    let advert = wait_for("an advert", limit(interval), || {
        better.adverts(bed, now() - interval / 4).into_iter().next()
    })?;
    thread::sleep((advert.at + interval.mul_f64(phase)).saturating_sub(now()));
    let from = now();
    let formula = match event {
        Event::Stop => {
            better.peer().process.signal(Signal::SIGTERM);
            worse.router.skew(interval)
        }
        Event::Death => {
            bed.cut(Side::Better);
            better.peer().process.kill_family();
            worse.router.down(interval)
        }
    };
    let takeover = worse.first_advert(bed, from, limit(formula))?;
    let last = better.adverts(bed, Stamp::ZERO).into_iter().rfind(|advert| {
        advert.at < takeover.at && (event == Event::Death || (advert.at >= from && advert.priority == 0))
    });
    let last = last.ok_or_else(|| Failure::from(format!("{event:?}: no last advert of the old active")))?;
    let due = last.at + formula;

    let mac = bed.host(Side::Worse).mac();
    let wanted: BTreeSet<IpAddr> =
        plan.row.addresses.iter().filter_map(|address| bare(address).parse().ok()).collect();
    let (first, all) = wait_for("all announcements", Duration::from_secs(2), || {
        let mut missing = wanted.clone();
        let mut first = None;
        for one in bed.capture.announcements().iter().filter(|one| one.mac == mac && one.at >= from) {
            first = first.or(Some(one.at));
            missing.remove(&one.address);
            if missing.is_empty() {
                return first.map(|first| (first, one.at));
            }
        }
        None
    })?;
    wait_until("the client is answered", Duration::from_secs(2) + interval, || {
        bed.prober.answered_since(takeover.at + Duration::from_millis(5))
    })?;
    let outage = bed.prober.longest_outage(from - Duration::from_millis(20), now());
    if event == Event::Stop {
        better.peer().stop()?;
    }
    let around = Duration::from_millis(2);
    Ok(Trial {
        case: plan.row.name,
        kind: plan.kind,
        event,
        outage: ms(outage),
        lateness: ms_after(takeover.at, due),
        first_announced: ms_after(first, takeover.at),
        all_announced: ms_after(all, takeover.at),
        stalled: ms(bed.stalls.longest(due - around, all + around)),
    })
}
