//! The forwarder beside HAProxy and nginx: what one processor carries, and what it costs.

pub mod load;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use netns_tests::host::find_program;
use netns_tests::lab::Lab;
use netns_tests::peer::vipd;
use netns_tests::process::Process;
use netns_tests::{Outcome, ensure, wait_until};

use crate::figures::{Figures, Section, Table, Verdict, number};
use crate::machine::Usage;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use load::{Backends, Case, Done, ECHO, SOURCE};

/// Of one case, behind its warm-up.
const SLICE: Duration = Duration::from_secs(3);
/// Rounds for each of `--rounds`: they are short, and their ratios are what counts.
const ROUNDS: usize = 3;
/// Sessions for the memory of an idle one.
const IDLE: usize = 4000;

const PROXIES: [Proxy; 3] = [Proxy::Vipd, Proxy::Haproxy, Proxy::Nginx];

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proxy {
    Vipd,
    Haproxy,
    Nginx,
}

/// One proxy in one round.
struct Run {
    proxy: Proxy,
    /// GB/s, connections/s, requests/s.
    rate: [f64; 3],
    /// CPU seconds for a GB, microseconds for a connection and for a request.
    cost: [f64; 3],
    /// KiB (PSS) for an idle session.
    idle: f64,
}

/// Bulk, short connections, ping-pong, idle sessions.
pub fn measure(rounds: usize) -> Section {
    let mut section = Section {
        title: "Forwarder".to_owned(),
        how: format!(
            "A client, a proxy and a backend, each in a namespace of its own; the proxy is pinned to one processor with one \
             thread, the load to another. Bulk: 8 streams down. Short connections: 64 at a time, each 100 B there and back. \
             Ping-pong: 64 connections, 200 B there and back. {} s each after 0.5 s of warm-up. Idle: PSS of {IDLE} sessions. \
             cubic everywhere. Ratios are to HAProxy within the same round.",
            SLICE.as_secs()
        ),
        ..Section::default()
    };
    if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
        section.remarks.push("Not measured: it takes two processors.".to_owned());
        return section;
    }
    let missing: Vec<_> =
        ["haproxy", "nginx", "taskset"].into_iter().filter(|name| find_program(name).is_none()).collect();
    if !missing.is_empty() {
        section.remarks.push(format!("Not measured: {} is missing.", missing.join(", ")));
        return section;
    }
    if let Err(reason) = allow_descriptors() {
        section.remarks.push(format!("Not measured: {reason}."));
        return section;
    }
    if let Err(error) = allow_cubic() {
        section.remarks.push(format!("Not measured: tcp_allowed_congestion_control lacks cubic: {error}."));
        return section;
    }
    let mut runs: Vec<Vec<Run>> = Vec::new();
    for round in 0..rounds * ROUNDS {
        let mut proxies = PROXIES;
        proxies.rotate_left(round % PROXIES.len());
        match proxies.into_iter().map(run).collect() {
            Ok(round) => runs.push(round),
            Err(failure) => section.remarks.push(format!("A round was lost: {}", failure.text)),
        }
    }
    section.tables.push(tables(&runs));
    section
}

/// Both ends of the idle sessions are in this program; what it starts has the same limit.
fn allow_descriptors() -> Result<(), String> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| error.to_string())?;
    let needed = 2 * IDLE as u64 + 1000;
    if most < needed {
        return Err(format!("it takes {needed} descriptors, {most} are allowed (`ulimit -Hn`)"));
    }
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(|error| error.to_string())
}

/// What hosts run by default; a namespace may choose only what the machine allows to all.
pub fn allow_cubic() -> std::io::Result<()> {
    let file = "/proc/sys/net/ipv4/tcp_allowed_congestion_control";
    let allowed = std::fs::read_to_string(file)?;
    if allowed.split_whitespace().any(|name| name == "cubic") {
        return Ok(());
    }
    std::fs::write(file, format!("{} cubic", allowed.trim()))
}

fn tables(runs: &[Vec<Run>]) -> (Table, Vec<Verdict>) {
    let mut table = Table::new(&[
        "proxy",
        "bulk, GB/s",
        "CPU s per GB",
        "connections/s",
        "CPU us each",
        "ratio of CPU",
        "requests/s",
        "CPU us each",
        "ratio of CPU",
        "idle session, KiB",
        "n",
    ]);
    for proxy in PROXIES {
        let of = |value: fn(&Run) -> f64| figures(runs, proxy, |run, _| value(run));
        let ratio = |value: fn(&Run) -> f64| figures(runs, proxy, |run, haproxy| value(run) / value(haproxy));
        table.add([
            format!("{proxy:?}").to_lowercase(),
            of(|run| run.rate[0]).to_string(),
            of(|run| run.cost[0]).to_string(),
            of(|run| run.rate[1]).to_string(),
            of(|run| run.cost[1]).to_string(),
            ratio(|run| run.cost[1]).to_string(),
            of(|run| run.rate[2]).to_string(),
            of(|run| run.cost[2]).to_string(),
            ratio(|run| run.cost[2]).to_string(),
            of(|run| run.idle).to_string(),
            runs.len().to_string(),
        ]);
    }
    let vipd = |value: fn(&Run, &Run) -> f64| figures(runs, Proxy::Vipd, value).median();
    let at_most = |what: &str, value: f64, limit: f64| Verdict {
        met: value <= limit,
        text: format!("{what}: {}, at most {}.", number(value), number(limit)),
    };
    let at_least = |what: &str, value: f64, limit: f64| Verdict {
        met: value >= limit,
        text: format!("{what}: {}, at least {}.", number(value), number(limit)),
    };
    let verdicts = vec![
        at_least("bulk, rate beside HAProxy", vipd(|run, peer| run.rate[0] / peer.rate[0]), 2.4),
        at_most("bulk, CPU seconds per GB", vipd(|run, _| run.cost[0]), 0.22),
        at_least(
            "short connections, rate beside HAProxy",
            vipd(|run, peer| run.rate[1] / peer.rate[1]),
            1.08,
        ),
        at_most("short connections, CPU beside HAProxy", vipd(|run, peer| run.cost[1] / peer.cost[1]), 0.88),
        at_least("ping-pong, rate beside HAProxy", vipd(|run, peer| run.rate[2] / peer.rate[2]), 1.08),
        at_most("ping-pong, CPU beside HAProxy", vipd(|run, peer| run.cost[2] / peer.cost[2]), 0.9),
        at_most("an idle session, KiB", vipd(|run, _| run.idle), 0.3),
    ];
    (table, verdicts)
}

/// A value of each round, from the run of the proxy and that of HAProxy.
fn figures(runs: &[Vec<Run>], proxy: Proxy, value: impl Fn(&Run, &Run) -> f64) -> Figures {
    let of = |round: &Vec<Run>, wanted| round.iter().position(|run| run.proxy == wanted);
    let one = |round: &Vec<Run>| {
        let (run, haproxy) = (of(round, proxy)?, of(round, Proxy::Haproxy)?);
        Some(value(&round[run], &round[haproxy]))
    };
    Figures(runs.iter().filter_map(one).collect())
}

/// All cases with one proxy, in a lab of its own: nothing that one leaves in the kernel meets another.
fn run(proxy: Proxy) -> Outcome<Run> {
    let lab = Lab::new(&["backend"]);
    for host in lab.hosts() {
        host.sysctl("net/ipv4/ip_local_port_range", "1024 65535");
        host.sysctl("net/ipv4/tcp_tw_reuse", "1");
        host.sysctl("net/ipv4/tcp_congestion_control", "cubic");
    }
    let _backends = Backends::start(&lab.others[0]);
    let mut process = start(proxy, &lab)?;
    let target = lab.lb1.ipv4();
    let listens = || {
        let connects = |port| std::net::TcpStream::connect((target.as_str(), port)).is_ok();
        lab.client.inside(|| [ECHO, SOURCE].into_iter().all(connects))
    };
    wait_until("the proxy listens", Duration::from_secs(5), listens)
        .map_err(|failure| format!("{}\n{}", failure.text, process.output()))?;
    let mut run = Run { proxy, rate: [0.0; 3], cost: [0.0; 3], idle: 0.0 };
    for (index, case) in [Case::Bulk, Case::Short, Case::PingPong].into_iter().enumerate() {
        let Done { amount, cpu, lasted } =
            load::drive(&lab.client, &target, case, SLICE, || Usage::of(&process).cpu);
        ensure(amount > 0.0, || format!("{proxy:?} carried nothing of {case:?}\n{}", process.output()))?;
        run.rate[index] = amount / lasted.as_secs_f64();
        let unit = if case == Case::Bulk { 1.0 } else { 1e6 };
        run.cost[index] = unit * cpu.as_secs_f64() / amount;
    }
    let before = Usage::of(&process).pss;
    let held = load::hold(&lab.client, &target, IDLE)?;
    run.idle = (Usage::of(&process).pss - before) * 1024.0 / IDLE as f64;
    drop(held);
    ensure(process.ended().is_none(), || format!("{proxy:?} ended\n{}", process.output()))?;
    Ok(run)
}

fn start(proxy: Proxy, lab: &Lab) -> Outcome<Process> {
    let host = &lab.lb1;
    let (listen, backend) = (host.ipv4(), lab.others[0].ipv4());
    let write = |name: &str, text: String| -> PathBuf {
        let file = host.directory.join(name);
        std::fs::write(&file, text).expect("the lab's directory is ours");
        file
    };
    let mut words: Vec<std::ffi::OsString> = ["-c", "0"].map(Into::into).into();
    match proxy {
        Proxy::Vipd => {
            let mut text = format!(
                "[control]\nsocket = \"{}\"\n[forwarder]\nloops = 1\n",
                host.directory.join("control.sock").display()
            );
            for (name, port) in [("echo", ECHO), ("source", SOURCE)] {
                let _ = write!(
                    text,
                    "[[listener]]\nname = \"{name}\"\nbind = \"{listen}:{port}\"\nmax_sessions = 9000\n\
                     backends = [{{ address = \"{backend}:{port}\" }}]\n"
                );
            }
            words.extend([vipd().into(), "run".into(), "-c".into(), write("proxy.toml", text).into()]);
        }
        Proxy::Haproxy => {
            let mut text = "global\n  maxconn 9000\n  nbthread 1\ndefaults\n  mode tcp\n  maxconn 9000\n  \
                            timeout connect 2s\n  timeout client 1m\n  timeout server 1m\n"
                .to_owned();
            for (name, port) in [("echo", ECHO), ("source", SOURCE)] {
                let _ = write!(
                    text,
                    "listen {name}\n  bind {listen}:{port}\n  balance leastconn\n  server b {backend}:{port}\n"
                );
            }
            words.extend(["haproxy".into(), "-db".into(), "-f".into(), write("haproxy.cfg", text).into()]);
        }
        Proxy::Nginx => {
            // With a master, the worker's title would overwrite the environment by which it is found and ended.
            let module = "/usr/lib/nginx/modules/ngx_stream_module.so";
            let mut text = format!(
                "load_module {module};\ndaemon off;\nmaster_process off;\npid {0}/nginx.pid;\nerror_log stderr;\n\
                 worker_rlimit_nofile 40000;\nevents {{ worker_connections 20000; }}\nstream {{\n",
                host.directory.display()
            );
            for port in [ECHO, SOURCE] {
                let _ = writeln!(text, "server {{ listen {listen}:{port}; proxy_pass {backend}:{port}; }}");
            }
            text += "}\n";
            words.extend(["nginx".into(), "-e".into(), "stderr".into(), "-c".into()]);
            words.push(write("nginx.conf", text).into());
        }
    }
    let mut command = host.command("taskset");
    command.args(words);
    Process::start(command, &host.directory.join("proxy.log"))
        .map_err(|error| format!("{proxy:?}: {error}").into())
}
