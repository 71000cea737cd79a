//! A neighbour that forges 50 000 adverts a second.

use std::net::IpAddr;
use std::time::Duration;

use netns_tests::craft::{Craft, bad_version_2};
use netns_tests::inject::Injector;
use netns_tests::peer::Kind;
use netns_tests::process::read_lossy;
use netns_tests::story::{Actor, Bed, Row, Side, VRID, discards, limit};
use netns_tests::{Outcome, now, wait_for, wait_until};

use crate::BOTH;
use crate::figures::{Section, Table, Verdict, ms, number};
use crate::machine::Usage;

const RATE: u32 = 50_000;
const LASTING: Duration = Duration::from_secs(10);
const PASSWORD: &str = "s3cr3t";

/// What one flood did.
struct Flooded {
    sent: u64,
    moves: usize,
    adverts: usize,
    due: usize,
    longest_gap: f64,
    outage: f64,
    cpu: f64,
    lines: usize,
    counted: Option<u64>,
    stalled: f64,
}

/// Each daemon under the same flood.
pub fn measure(_rounds: usize) -> Section {
    let mut section = Section {
        title: "Flood".to_owned(),
        how: format!(
            "A third host sends {RATE} forged adverts a second for {} s to the active host: wrong TTL, checksum, password, \
             interval, count, version, VRID, truncated, in turn; all claim priority 250. Version 2 with a password, 1 s. State changes: \
             the VIP came or went on either host.",
            LASTING.as_secs()
        ),
        ..Section::default()
    };
    let mut table = Table::new(&[
        "daemon",
        "frames sent/s",
        "state changes",
        "adverts sent (due)",
        "longest advert gap, ms",
        "client outage, ms",
        "CPU of the active, % of one",
        "log lines of the active",
        "counted as discarded",
        "longest stall of the machine, ms",
    ]);
    let mut verdicts = Vec::new();
    for kind in BOTH {
        let flooded = match flood(kind) {
            Ok(flooded) => flooded,
            Err(failure) => {
                let first = failure.text.lines().next().unwrap_or_default();
                verdicts.push(Verdict { met: false, text: format!("{kind:?}: not measured: {first}") });
                eprintln!("{}", failure.text);
                continue;
            }
        };
        let missed = flooded.due.saturating_sub(flooded.adverts);
        if kind == Kind::Vipd {
            let per_second = flooded.lines as f64 / LASTING.as_secs_f64();
            verdicts.push(Verdict {
                met: flooded.moves == 0 && missed == 0,
                text: format!(
                    "vipd changes no state and misses no advert: {} changes, {missed} missed, {} log lines a second for 9 kinds.",
                    flooded.moves,
                    number(per_second)
                ),
            });
        }
        table.add([
            format!("{kind:?}").to_lowercase(),
            number(flooded.sent as f64 / LASTING.as_secs_f64()),
            flooded.moves.to_string(),
            format!("{} ({})", flooded.adverts, flooded.due),
            number(flooded.longest_gap),
            number(flooded.outage),
            number(flooded.cpu),
            flooded.lines.to_string(),
            flooded.counted.map_or("–".to_owned(), |counted| counted.to_string()),
            number(flooded.stalled),
        ]);
    }
    section.tables.push((table, verdicts));
    section
}

fn forgeries(bed: &Bed) -> Vec<Vec<u8>> {
    let stranger = &bed.lab.stranger;
    let address = |text: &str| -> IpAddr { text.parse().expect("an address") };
    let mut good = Craft::advert(address(&stranger.ipv4()), VRID, &[address(&bed.address)])
        .version_2()
        .only_to([2, 0, 0, 0, 0, bed.lab.lb2.number]);
    good.priority = 250;
    good.interval = 0x0101;
    good.trailer = PASSWORD.bytes().chain([0; 8]).take(8).collect();
    let mut list: Vec<Craft> =
        bad_version_2(&good, Some(PASSWORD)).into_iter().map(|forgery| forgery.craft).collect();
    list.push(Craft { count: Some(9), ..good.clone() });
    list.push(Craft { vrid: VRID + 1, ..good });
    list.into_iter().map(|craft| craft.frame([2, 0, 0, 0, 0, stranger.number])).collect()
}

fn flood(kind: Kind) -> Outcome<Flooded> {
    let row = Row { version: 2, password: Some(PASSWORD), ..Row::new("flood") };
    let bed = Bed::new(row.watched(), Duration::from_millis(1));
    bed.lab.wait_for_calm();
    let mut worse = Actor::new(&bed, &row, Side::Worse, kind, 100);
    let mut better = Actor::new(&bed, &row, Side::Better, kind, 200);
    worse.start(&bed);
    let started = better.start(&bed);
    let first = better.first_advert(&bed, started, limit(better.router.down(row.interval)))?;
    wait_until("the client is answered", Duration::from_secs(3), || bed.prober.answered_since(first.at))?;
    // Just after an advert, so that as many are due as there are seconds.
    let begin =
        wait_for("an advert", limit(row.interval), || better.adverts(&bed, first.at).into_iter().next())?;

    let log = better.peer().process.log.clone();
    let lines = read_lossy(&log).lines().count();
    let before = Usage::of(&better.peer().process);
    let from = now();
    let injector = Injector::flood(&bed.lab.stranger, forgeries(&bed), RATE);
    std::thread::sleep(LASTING.saturating_sub(now() - from));
    let to = now();
    let sent = injector.finish();
    let used = Usage::of(&better.peer().process).cpu.saturating_sub(before.cpu);
    let lines = read_lossy(&log).lines().count() - lines;

    let sent_adverts: Vec<_> =
        better.adverts(&bed, begin.at).into_iter().map(|advert| advert.at).filter(|at| *at <= to).collect();
    let marks: Vec<_> = [begin.at].into_iter().chain(sent_adverts.iter().copied()).chain([to]).collect();
    let longest_gap = marks.windows(2).map(|pair| ms(pair[1] - pair[0])).fold(0.0, f64::max);
    let moves = [&bed.on_lb1, &bed.on_lb2]
        .into_iter()
        .flat_map(|monitor| monitor.held(&bed.address))
        .flat_map(|(came, went)| [Some(came), went])
        .flatten()
        .filter(|at| *at > from && *at <= to)
        .count();
    let counted = match kind {
        Kind::Vipd => Some(discards(&better.peer().status(&bed.lab.lb2)?)),
        _ => None,
    };
    Ok(Flooded {
        sent,
        moves,
        adverts: sent_adverts.len(),
        due: ((to - begin.at).as_micros() / row.interval.as_micros()) as usize,
        longest_gap,
        outage: ms(bed.prober.longest_outage(from, to)),
        cpu: 100.0 * used.as_secs_f64() / (to - from).as_secs_f64(),
        lines,
        counted,
        stalled: ms(bed.stalls.longest(from, to)),
    })
}
