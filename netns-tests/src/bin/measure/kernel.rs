//! `mode = "kernel"` beside a plain nftables ruleset that translates the same addresses.

use std::sync::Mutex;
use std::time::Duration;

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::vipd;
use netns_tests::process::Process;
use netns_tests::{Outcome, ensure, wait_until};

use crate::figures::{Figures, Section, Table, Verdict};
use crate::machine::Usage;
use crate::proxy::allow_cubic;
use crate::proxy::load::{self, Backends, Case, Done, ECHO, SOURCE};

/// Of one case, behind its warm-up: short, since what else the machine does changes from second to second.
const SLICE: Duration = Duration::from_millis(400);
/// Pairs for each of `--rounds`.
const ROUNDS: usize = 8;
const CASES: [Case; 3] = [Case::Bulk, Case::Short, Case::PingPong];
const NAMES: [&str; 3] = ["bulk, GB, ms", "short connection, us", "request, us"];
/// Of the plain ruleset's cost.
const MOST: f64 = 1.03;

/// Who has told the kernel what to translate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Plain,
    Vipd,
}

/// One side in one round.
struct Run {
    /// GB, connections, requests in a second.
    rate: [f64; 3],
    /// Processor time of the load and of the kernel's work for it, in microseconds each (milliseconds for a GB).
    cost: [f64; 3],
    /// The same of vipd itself.
    own: [f64; 3],
}

/// Bulk, short connections, ping-pong.
pub fn measure(rounds: usize) -> Section {
    let mut section = Section {
        title: "Listeners in the kernel".to_owned(),
        how: format!(
            "A client, a balancer and a backend, each in a namespace of its own; the load, and with it the kernel's work for it, on one \
             processor. Plain: destination NAT and masquerade for the same ports, written by hand. vipd: the same with \
             `mode = \"kernel\"`, running. Forwarding is on for both. The sides take turns, and are begun anew each time. Cases \
             as in the section of the forwarder, {} ms each. Connection tracking forgets a closed session after 1 s, so that its \
             end is paid for too. Ratios contain vipd's own CPU time; [ ] has the middle half. What other programs do adds to \
             either side at random: the least of each says most.",
            SLICE.as_millis()
        ),
        ..Section::default()
    };
    if let Err(error) = allow_cubic() {
        section.remarks.push(format!("Not measured: tcp_allowed_congestion_control lacks cubic: {error}."));
        return section;
    }
    let lab = Lab::new(&["backend"]);
    for host in lab.hosts() {
        host.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
        host.sysctl("net/ipv4/tcp_tw_reuse", "1");
        host.sysctl("net/ipv4/tcp_congestion_control", "cubic");
    }
    let _backends = Backends::start(&lab.others[0]);
    let mut pairs: Vec<[Run; 2]> = Vec::new();
    for round in 0..rounds * ROUNDS {
        let first = if round.is_multiple_of(2) { Side::Plain } else { Side::Vipd };
        let pair = match first {
            Side::Plain => run(&lab, Side::Plain).and_then(|plain| Ok([plain, run(&lab, Side::Vipd)?])),
            Side::Vipd => run(&lab, Side::Vipd).and_then(|vipd| Ok([run(&lab, Side::Plain)?, vipd])),
        };
        match pair {
            Ok(pair) => pairs.push(pair),
            Err(failure) => section.remarks.push(format!("A pair was lost: {}", failure.text)),
        }
    }
    section.tables.push(table(&pairs));
    section
}

fn table(pairs: &[[Run; 2]]) -> (Table, Vec<Verdict>) {
    let mut table = Table::new(&[
        "CPU time for one",
        "plain nftables",
        "vipd",
        "vipd's own",
        "ratio of the least",
        "ratio within pairs",
        "rate, ratio within pairs",
        "n",
    ]);
    let mut verdicts = Vec::new();
    for (case, name) in NAMES.into_iter().enumerate() {
        let of = |value: &dyn Fn(&[Run; 2]) -> f64| Figures(pairs.iter().map(value).collect());
        let least = of(&|[_, vipd]| vipd.cost[case] + vipd.own[case]).min()
            / of(&|[plain, _]| plain.cost[case]).min();
        let ratio = of(&|[plain, vipd]| (vipd.cost[case] + vipd.own[case]) / plain.cost[case]);
        table.add([
            name.to_owned(),
            of(&|[plain, _]| plain.cost[case]).to_string(),
            of(&|[_, vipd]| vipd.cost[case]).to_string(),
            of(&|[_, vipd]| vipd.own[case]).to_string(),
            format!("{least:.3}"),
            with_quartiles(&ratio),
            with_quartiles(&of(&|[plain, vipd]| vipd.rate[case] / plain.rate[case])),
            pairs.len().to_string(),
        ]);
        verdicts.push(Verdict {
            met: least <= MOST,
            text: format!("{name}: {least:.3} of the least of plain nftables, at most {MOST}."),
        });
    }
    (table, verdicts)
}

/// The extremes say only what else the machine did.
fn with_quartiles(figures: &Figures) -> String {
    format!("{:.3} [{:.2}–{:.2}]", figures.median(), figures.percentile(25.0), figures.percentile(75.0))
}

/// Of this program, and of the kernel's thread that takes over what comes too fast.
fn load_cpu() -> Duration {
    let own = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)
        .map_or(Duration::ZERO, Duration::from);
    own + softirq_thread().unwrap_or_default()
}

fn softirq_thread() -> Option<Duration> {
    static PID: std::sync::OnceLock<Option<u32>> = std::sync::OnceLock::new();
    let name = format!("ksoftirqd/{}\n", load::PROCESSOR);
    let find = || {
        let mut all = std::fs::read_dir("/proc").ok()?.flatten();
        let is_it =
            |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm == name);
        all.find_map(|entry| entry.file_name().to_str()?.parse().ok().filter(is_it))
    };
    let pid = (*PID.get_or_init(find))?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    Some(Duration::from_nanos(text.split(' ').next()?.parse().ok()?))
}

fn run(lab: &Lab, side: Side) -> Outcome<Run> {
    let host = &lab.lb1;
    host.run(&["nft", "flush", "ruleset"]);
    host.run(&["conntrack", "-F"]);
    host.sysctl("net/ipv4/ip_forward", "1");
    let process = match side {
        Side::Plain => {
            plain(host, &lab.others[0].ipv4());
            None
        }
        Side::Vipd => Some(start(host, &lab.others[0].ipv4())?),
    };
    for state in ["time_wait", "close"] {
        host.sysctl(&format!("net/netfilter/nf_conntrack_tcp_timeout_{state}"), "1");
    }
    let target = host.ipv4();
    let mut run = Run { rate: [0.0; 3], cost: [0.0; 3], own: [0.0; 3] };
    for (index, case) in CASES.into_iter().enumerate() {
        let own: Mutex<Vec<Duration>> = Mutex::default();
        let cpu = || {
            let used = process.as_ref().map(|process| Usage::of(process).cpu).unwrap_or_default();
            own.lock().expect("no panic").push(used);
            load_cpu()
        };
        let Done { amount, cpu, lasted } = load::drive(&lab.client, &target, case, SLICE, cpu);
        ensure(amount > 0.0, || format!("{side:?} carried nothing of {case:?}"))?;
        run.rate[index] = amount / lasted.as_secs_f64();
        let unit = if case == Case::Bulk { 1e3 } else { 1e6 };
        run.cost[index] = unit * cpu.as_secs_f64() / amount;
        let own = own.into_inner().expect("no panic");
        run.own[index] = unit * own[1].saturating_sub(own[0]).as_secs_f64() / amount;
    }
    Ok(run)
}

fn plain(host: &Host, backend: &str) {
    let address = host.ipv4();
    let rules = format!(
        "table ip plain {{\n chain in {{ type nat hook prerouting priority dstnat;\n  ip daddr {address} tcp dport {ECHO} dnat to {backend}:{ECHO}\n  \
         ip daddr {address} tcp dport {SOURCE} dnat to {backend}:{SOURCE}\n }}\n \
         chain out {{ type nat hook postrouting priority srcnat;\n  ct status dnat masquerade\n }}\n}}\n"
    );
    let file = host.directory.join("plain.nft");
    std::fs::write(&file, rules).expect("the lab's directory is ours");
    host.run(&["nft", "-f", &file.to_string_lossy()]);
}

fn start(host: &Host, backend: &str) -> Outcome<Process> {
    let address = host.ipv4();
    let mut text = format!("[control]\nsocket = \"{}\"\n", host.directory.join("control.sock").display());
    for (name, port) in [("echo", ECHO), ("source", SOURCE)] {
        text += &format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"{address}:{port}\"\nmode = \"kernel\"\nbackends = [{{ address = \"{backend}:{port}\" }}]\n"
        );
    }
    let file = host.directory.join("vipd.toml");
    std::fs::write(&file, text).expect("the lab's directory is ours");
    let mut command = host.command("taskset");
    command.args(["-c", "0"]).arg(vipd()).args(["run", "-c"]).arg(file);
    let process = Process::start(command, &host.directory.join("vipd.log"))
        .map_err(|error| format!("vipd: {error}"))?;
    wait_until("vipd has its table", Duration::from_secs(5), || {
        host.try_run(&["nft", "list", "ruleset"]).is_ok_and(|rules| rules.contains("vipd-forward"))
    })?;
    Ok(process)
}
