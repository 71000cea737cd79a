//! Many instances on one host.

use std::collections::BTreeMap;
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Kind, Peer};
use netns_tests::turn::StallWatch;
use netns_tests::wire::Capture;
use netns_tests::{Outcome, Stamp, now, wait_until};

use crate::BOTH;
use crate::figures::{Figures, Section, Table, ms, number, ratio};
use crate::machine::Usage;

const INTERVAL: Duration = Duration::from_millis(100);
/// A stall of the machine delays an advert of every instance, and with it two intervals of each: one stall must stay
/// below one interval in a hundred.
const LASTING: Duration = Duration::from_secs(30);
/// Instances on one link: there are 255 VRIDs.
const MOST: usize = 255;
/// The links' bridges, by number.
const BRIDGES: [&str; 4] = ["br0", "br1", "br2", "br3"];

/// What one lab gave.
struct Run {
    /// Processor seconds in a minute.
    active: f64,
    backup: f64,
    usage: Usage,
    deviation: Figures,
    /// Intervals that are 2 ms too long or too short, in percent.
    far: f64,
    adverts: usize,
    /// Longest stall of the machine, in ms.
    stalled: f64,
}

/// 50, 255 and 1000 instances.
pub fn measure(_rounds: usize) -> Section {
    let mut section = Section {
        title: "Scale".to_owned(),
        how: format!(
            "Version 3, an advert every 100 ms for each instance, one VIP each (1000: on four links), observed for {} s. CPU: all processes of the daemon; \
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
        "max, ms",
        "over 2 ms, %",
        "longest stall of the machine, ms",
    ]);
    for count in [50, 255, 1000] {
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
                number(run.deviation.max()),
                number(run.far),
                number(run.stalled),
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
    for number in 0..count {
        let (link, vrid) = (number / on_a_link(count), number % on_a_link(count) + 1);
        text += &format!(
            "vrrp_instance VI_{number} {{\n  state BACKUP\n  interface eth{link}\n  version 3\n  virtual_router_id {vrid}\n  \
             priority {priority}\n  advert_int {}\n  virtual_ipaddress {{\n    10.78.{link}.{vrid}/32\n  }}\n}}\n",
            INTERVAL.as_secs_f64()
        );
    }
    text
}

fn links(count: usize) -> usize {
    count.div_ceil(MOST)
}

fn on_a_link(count: usize) -> usize {
    count.div_ceil(links(count))
}

/// Both load balancers get `eth1` and so on, each on a bridge of its own.
fn plug(lab: &Lab, link: usize) {
    let bridge = BRIDGES[link];
    let at_bridge = |words: &str| drop(lab.bridge.run(&words.split(' ').collect::<Vec<_>>()));
    at_bridge(&format!("ip link add {bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0"));
    at_bridge(&format!("ip link set {bridge} up"));
    for host in [&lab.lb1, &lab.lb2] {
        let port = format!("{}-{link}", host.name);
        let path = host.net_path();
        at_bridge(&format!("ip link add {port} type veth peer name eth{link} netns {path}"));
        at_bridge(&format!("ip link set {port} master {bridge} up"));
        host.run(&["ip", "link", "set", &format!("eth{link}"), "up"]);
        host.run(&["ip", "address", "add", &source(host, link), "dev", &format!("eth{link}")]);
    }
}

fn source(host: &Host, link: usize) -> String {
    match link {
        0 => host.ipv4(),
        _ => format!("10.79.{link}.{}/24", host.number),
    }
}

fn run(kind: Kind, count: usize) -> Outcome<Run> {
    let lab = Lab::new(&[]);
    (1..links(count)).for_each(|link| plug(&lab, link));
    let captures: Vec<_> = (0..links(count)).map(|link| Capture::at(&lab, BRIDGES[link])).collect();
    let stalls = StallWatch::start();
    lab.wait_for_calm();
    let start =
        |host: &Host, priority| Peer::start_configured(kind, host, &configuration(count, priority), "scale");
    let backup = start(&lab.lb1, 100);
    let active = start(&lab.lb2, 200);
    let held = |host: &Host| host.addresses().iter().filter(|one| one.starts_with("10.78.")).count();
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
    let (mut deviation, mut adverts) = (Figures::default(), 0);
    for (link, capture) in captures.iter().enumerate() {
        let mut last: BTreeMap<u8, Stamp> = BTreeMap::new();
        let source = source(&lab.lb2, link);
        let source = source.split('/').next().and_then(|word| word.parse().ok()).expect("an address");
        for advert in capture.adverts_of(source, from).into_iter().filter(|advert| advert.at <= to) {
            adverts += 1;
            if let Some(before) = last.insert(advert.vrid, advert.at) {
                deviation.0.push(ms((advert.at - before).abs_diff(INTERVAL)));
            }
        }
    }
    let far = deviation.0.iter().filter(|one| **one > 2.0).count() as f64;
    Ok(Run {
        active: a_minute(0),
        backup: a_minute(1),
        usage: after[0],
        far: 100.0 * far / deviation.0.len().max(1) as f64,
        deviation,
        adverts,
        stalled: ms(stalls.longest(from, to)),
    })
}
