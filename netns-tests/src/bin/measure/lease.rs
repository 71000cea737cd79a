//! The active host is frozen, or killed with all that belongs to it: for how long two hosts answer for its addresses,
//! and for how long nobody does.

use std::net::IpAddr;
use std::time::Duration;

use nix::sys::signal::Signal;

use netns_tests::answers::{Asker, Way};
use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::turn::StallWatch;
use netns_tests::{Outcome, Stamp, now, wait_until};

use crate::figures::{Figures, Section, Table, Verdict, ms, number};
use crate::order;

const STEP: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(100);
const VIPS: [&str; 2] = ["10.77.0.100", "fd77::100"];
const SOON: Duration = Duration::from_secs(8);
/// Observed after the freeze or the death.
const AFTER: Duration = Duration::from_secs(1);
const WORSE: u32 = 100;

/// What happens to the active one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    /// SIGSTOP to all its processes; SIGCONT after this time.
    Freeze(Duration),
    /// SIGKILL to all its processes.
    Kill,
}

impl Event {
    fn name(self) -> String {
        match self {
            Self::Freeze(time) => format!("frozen for {} s", time.as_secs_f64()),
            Self::Kill => "killed with all its processes".to_owned(),
        }
    }
}

const EVENTS: [Event; 3] =
    [Event::Freeze(Duration::from_secs(1)), Event::Freeze(Duration::from_secs(4)), Event::Kill];

/// One address, one way to ask. Milliseconds.
#[derive(Clone, Copy, Debug)]
struct Trial {
    kind: Kind,
    event: Event,
    overlap: f64,
    outage: f64,
    stalled: f64,
}

pub fn measure(rounds: usize) -> Section {
    let mut section = Section {
        title: "Frozen and killed".to_owned(),
        how: "Version 3, an advert every 100 ms, priorities 200 and 100, `nopreempt`, an IPv4 and an IPv6 instance, \
              keepalived's configuration language for both. A client asks every 5 ms who has the VIP (ARP, neighbour discovery), and asks \
              each of the two hosts for itself (ICMP echo to its MAC address). Two hosts answer: from the first answer of the new host to \
              the last one of the old; observed until 1 s after the freeze, or for 2 s after the death. Nobody answers: from the last \
              answer of the old host to the first of the new."
            .to_owned(),
        ..Section::default()
    };
    let mut trials = Vec::new();
    for round in 0..rounds {
        for event in EVENTS {
            for kind in order(round) {
                match trial(kind, event) {
                    Ok(some) => trials.extend(some),
                    Err(failure) => {
                        section.remarks.push(format!("{kind:?} {}: {}", event.name(), failure.text))
                    }
                }
            }
        }
    }
    let mut table = Table::new(&[
        "the active host",
        "two hosts answer, vipd, ms",
        "keepalived, ms",
        "nobody answers, vipd, ms",
        "keepalived, ms",
        "n",
        "stalled",
    ]);
    let down = ms(3 * INTERVAL + (256 - WORSE) * INTERVAL / 256);
    let (mut overlap, mut outage) = (0.0_f64, 0.0_f64);
    for event in EVENTS {
        let of = |kind: Kind, what: fn(&Trial) -> f64| {
            Figures(trials.iter().filter(|t| t.kind == kind && t.event == event).map(what).collect())
        };
        let [ours, theirs] = [Kind::Vipd, Kind::Keepalived].map(|kind| of(kind, |t| t.overlap));
        let [our_outage, their_outage] = [Kind::Vipd, Kind::Keepalived].map(|kind| of(kind, |t| t.outage));
        overlap = overlap.max(ours.max());
        outage = outage.max(our_outage.max());
        let stalled = |kind| number(of(kind, |t| t.stalled).max());
        table.add([
            event.name(),
            ours.to_string(),
            theirs.to_string(),
            our_outage.to_string(),
            their_outage.to_string(),
            format!("{} / {}", ours.0.len(), theirs.0.len()),
            format!("{} / {}", stalled(Kind::Vipd), stalled(Kind::Keepalived)),
        ]);
    }
    let complete = trials.iter().filter(|t| t.kind == Kind::Vipd).count() == rounds * EVENTS.len() * 4;
    let verdicts = vec![
        Verdict {
            met: complete && overlap == 0.0,
            text: format!("with vipd two hosts never answer; longest {} ms.", number(overlap)),
        },
        Verdict {
            met: complete && outage <= down * 1.02 + ms(2 * STEP),
            text: format!(
                "with vipd nobody answers for at most Active_Down_Interval ({} ms) + 2 %, and two questions; longest {} ms.",
                number(down),
                number(outage)
            ),
        },
    ];
    section.tables.push((table, verdicts));
    section
        .remarks
        .push("`stalled`: the longest that the machine itself stood still meanwhile, in ms.".to_owned());
    section
}

fn configuration(priority: u8) -> String {
    let instance = |name: &str, vrid: u8, addresses: &str| {
        format!(
            "vrrp_instance {name} {{\n  state BACKUP\n  interface eth0\n  virtual_router_id {vrid}\n  priority {priority}\n  \
             version 3\n  advert_int 0.1\n  nopreempt\n  virtual_ipaddress {{\n    {addresses}\n  }}\n}}\n"
        )
    };
    instance("V4", 51, "10.77.0.100/24 dev eth0") + &instance("V6", 52, "fe80::100\n    fd77::100/64")
}

fn trial(kind: Kind, event: Event) -> Outcome<Vec<Trial>> {
    let lab = Lab::new(&[]);
    lab.wait_for_calm();
    let (old, new) = (&lab.lb1, &lab.lb2);
    let hosts = [old, new];
    let ask = |vip: &str| {
        let address: IpAddr = vip.parse().expect("an address");
        Asker::start(&lab.client, &hosts, address, STEP)
    };
    let askers = VIPS.map(ask);
    let stalls = StallWatch::start();
    let answers = |host: &Host, since: Stamp| {
        askers.iter().all(|asker| {
            let all = asker.of(host, since, now());
            [Way::Link, Way::Echo].iter().all(|way| all.iter().any(|one| one.way == *way))
        })
    };
    let mut active = Peer::start_configured(kind, old, &configuration(200), "active");
    wait_until("it is active", SOON, || answers(old, now().saturating_sub(20 * STEP)))?;
    let mut backup = Peer::start_configured(kind, new, &configuration(100), "backup");
    // What it says at its start, adverts it has heard, and the last round of announcements of the other.
    let settled = now();
    wait_until("all is calm", 2 * SOON, || now() > settled + 6 * AFTER)?;

    let began = now();
    let until = match event {
        Event::Freeze(time) => {
            active.process.signal_family(Signal::SIGSTOP);
            wait_until("the freeze is over", SOON, || now() > began + time)?;
            active.process.signal_family(Signal::SIGCONT);
            began + time + AFTER
        }
        Event::Kill => {
            // One dies before the other, who must not see it.
            active.process.signal_family(Signal::SIGSTOP);
            active.process.kill_family();
            began + 2 * AFTER
        }
    };
    wait_until("it was observed", SOON, || now() > until)?;
    let mut trials = Vec::new();
    for (asker, vip) in askers.iter().zip(VIPS) {
        for way in [Way::Link, Way::Echo] {
            let times = |host: &Host| -> Vec<Stamp> {
                let all = asker.of(host, settled, until).into_iter();
                all.filter(|one| one.way == way).map(|one| one.at).collect()
            };
            let (theirs, ours) = (times(old), times(new));
            let first = *ours.first().ok_or_else(|| format!("{vip}: nobody took over"))?;
            let last = *theirs.last().ok_or_else(|| format!("{vip}: it was never active"))?;
            let before = theirs.iter().copied().filter(|at| *at <= first).max().unwrap_or(began);
            let (overlap, outage) = (last.saturating_sub(first), first.saturating_sub(before));
            let stalled = ms(stalls.longest(began, until));
            trials.push(Trial { kind, event, overlap: ms(overlap), outage: ms(outage), stalled });
        }
    }
    backup.process.kill_family();
    active.process.kill_family();
    Ok(trials)
}
