//! Many instances on one host.

use std::collections::BTreeMap;
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::wire::Capture;
use netns_tests::{Outcome, Stamp, now, wait_until};

use crate::BOTH;
use crate::figures::{Figures, Section, Table, ms, number, ratio};
use crate::machine::Usage;

const INTERVAL: Duration = Duration::from_millis(100);
const LASTING: Duration = Duration::from_secs(6);

/// What one lab gave.
struct Run {
    /// Processor seconds in a minute.
    active: f64,
    backup: f64,
    usage: Usage,
    deviation: Figures,
    adverts: usize,
}

/// 50 and 255 instances.
pub fn measure(_rounds: usize) -> Section {
    let mut section = Section {
        title: "Scale".to_owned(),
        how: format!(
            "Version 3, an advert every 100 ms for each instance, one VIP each, observed for {} s. CPU: all processes of the daemon; \
             memory: summed over its processes (PSS: shared pages divided by their users).",
            LASTING.as_secs()
        ),
        ..Section::default()
    };
    let mut table = Table::new(&[
        "instances",
        "daemon",
        "active, CPU s per 60 s",
        "backup, CPU s per 60 s",
        "RSS active, MiB",
        "PSS active, MiB",
        "processes",
        "adverts (due)",
        "deviation p50, ms",
        "p99, ms",
    ]);
    for count in [50, 255] {
        let mut cpu = Vec::new();
        for kind in BOTH {
            let run = match run(kind, count) {
                Ok(run) => run,
                Err(failure) => {
                    let first = failure.text.lines().next().unwrap_or_default().to_owned();
                    section.remarks.push(format!("{kind:?}, {count} instances: not measured: {first}"));
                    continue;
                }
            };
            cpu.push(run.active);
            table.add([
                count.to_string(),
                format!("{kind:?}").to_lowercase(),
                number(run.active),
                number(run.backup),
                number(run.usage.rss),
                number(run.usage.pss),
                run.usage.processes.to_string(),
                format!("{} ({})", run.adverts, count as u128 * (LASTING.as_millis() / INTERVAL.as_millis())),
                number(run.deviation.percentile(50.0)),
                number(run.deviation.percentile(99.0)),
            ]);
        }
        if let [vipd, keepalived] = cpu[..] {
            section.remarks.push(format!(
                "{count} instances: CPU of the active, vipd / keepalived: {}.",
                ratio(vipd, keepalived)
            ));
        }
    }
    section.tables.push((table, Vec::new()));
    section
}

fn configuration(count: usize, priority: u8) -> String {
    let mut text = String::from("global_defs {\n  router_id LAB\n}\n");
    for number in 1..=count {
        text += &format!(
            "vrrp_instance VI_{number} {{\n  state BACKUP\n  interface eth0\n  version 3\n  virtual_router_id {number}\n  \
             priority {priority}\n  advert_int {}\n  virtual_ipaddress {{\n    10.77.1.{number}/32\n  }}\n}}\n",
            INTERVAL.as_secs_f64()
        );
    }
    text
}

fn run(kind: Kind, count: usize) -> Outcome<Run> {
    let lab = Lab::new(&[]);
    let capture = Capture::start(&lab);
    lab.wait_for_calm();
    let start =
        |host: &Host, priority| Peer::start_configured(kind, host, &configuration(count, priority), "scale");
    let backup = start(&lab.lb1, 100);
    let active = start(&lab.lb2, 200);
    let held = |host: &Host| host.addresses().iter().filter(|one| one.starts_with("10.77.1.")).count();
    wait_until("all addresses are on the active host", Duration::from_secs(20), || {
        held(&lab.lb2) == count && held(&lab.lb1) == 0
    })?;
    // The repeats of the announcements are not the steady state.
    std::thread::sleep(Duration::from_secs(6));

    let (from, before) = (now(), [&active, &backup].map(|peer| Usage::of(&peer.process)));
    std::thread::sleep(LASTING);
    let (to, after) = (now(), [&active, &backup].map(|peer| Usage::of(&peer.process)));
    let a_minute = |side: usize| {
        60.0 * (after[side].cpu.saturating_sub(before[side].cpu)).as_secs_f64() / (to - from).as_secs_f64()
    };
    let mut last: BTreeMap<u8, Stamp> = BTreeMap::new();
    let (mut deviation, mut adverts) = (Figures::default(), 0);
    let source = lab.lb2.ipv4().parse().expect("an address");
    for advert in capture.adverts_of(source, from).into_iter().filter(|advert| advert.at <= to) {
        adverts += 1;
        if let Some(before) = last.insert(advert.vrid, advert.at) {
            deviation.0.push(ms((advert.at - before).abs_diff(INTERVAL)));
        }
    }
    Ok(Run { active: a_minute(0), backup: a_minute(1), usage: after[0], deviation, adverts })
}
