//! Punctual adverts on a busy host.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netns_tests::host::Host;
use netns_tests::lab::Lab;
use netns_tests::peer::{Router, vipd};
use netns_tests::process::Process;
use netns_tests::turn::StallWatch;
use netns_tests::wire::Capture;
use netns_tests::{Failure, Outcome, Stamp, ensure, now, wait_for};
use serde_json::Value;

use crate::figures::{Figures, Section, Table, Verdict, ms, number};
use crate::machine::{Times, Usage};

const INTERVAL: Duration = Duration::from_millis(10);
const LASTING: Duration = Duration::from_secs(10);
const VIP: &str = "10.77.0.100";
const PORT: u16 = 7100;
const STREAMS: usize = 8;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Daemon {
    Vipd,
    Keepalived,
    /// With `vrrp_rt_priority 50`, vipd's own default.
    KeepalivedRealtime,
}

/// What the host has to do.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Load {
    Idle,
    /// Two threads for each processor that do nothing but run.
    Loops,
    /// Bulk TCP through vipd's own listener.
    Forwarder,
}

/// What one lab gave.
struct Run {
    deviation: Figures,
    adverts: usize,
    takeovers: usize,
    cpu: f64,
    machine_busy: f64,
    gigabits: f64,
    stalled: f64,
    status: Option<Value>,
}

/// All daemons under all loads that they can have.
pub fn measure(_rounds: usize) -> Section {
    let mut section = Section {
        title: "Adverts under load".to_owned(),
        how: format!(
            "Version 3, an advert every 10 ms for {} s; |interval − 10 ms| between consecutive adverts of the active host on the wire. \
             The daemons run with nice 0 and their own defaults (vipd asks for SCHED_RR itself; keepalived with and without \
             `vrrp_rt_priority 50`). Busy: two endless loops for each processor, and a check script that burns a processor for 0.8 s of every \
             second on both hosts. Forwarder: {STREAMS} TCP streams at full speed through vipd's listener on the VIP to a backend, \
             all of it on this machine, and the same check script.",
            LASTING.as_secs()
        ),
        ..Section::default()
    };
    let cases = [
        (Daemon::Vipd, Load::Idle),
        (Daemon::Keepalived, Load::Idle),
        (Daemon::Vipd, Load::Loops),
        (Daemon::Keepalived, Load::Loops),
        (Daemon::KeepalivedRealtime, Load::Loops),
        (Daemon::Vipd, Load::Forwarder),
    ];
    let mut table = Table::new(&[
        "daemon",
        "load",
        "p50, ms",
        "p99, ms",
        "max, ms",
        "adverts (due)",
        "takeovers by the backup",
        "daemon CPU, % of one",
        "processors busy, %",
        "through the forwarder, Gbit/s",
        "longest stall of the machine, ms",
    ]);
    let mut verdicts = Vec::new();
    let mut histogram = None;
    for (daemon, load) in cases {
        let name = match daemon {
            Daemon::Vipd => "vipd",
            Daemon::Keepalived => "keepalived",
            Daemon::KeepalivedRealtime => "keepalived, rt 50",
        };
        let what = match load {
            Load::Idle => "idle",
            Load::Loops => "busy",
            Load::Forwarder => "forwarder",
        };
        let run = match run(daemon, load) {
            Ok(run) => run,
            Err(failure) => {
                let first = failure.text.lines().next().unwrap_or_default();
                verdicts.push(Verdict { met: false, text: format!("{name}, {what}: not measured: {first}") });
                eprintln!("{}", failure.text);
                continue;
            }
        };
        let p99 = run.deviation.percentile(99.0);
        if daemon == Daemon::Vipd && load != Load::Idle {
            verdicts.push(Verdict {
                met: p99 < 1.0,
                text: format!("p99 of vipd's deviation, {what}, is below 1 ms: {} ms.", number(p99)),
            });
        }
        table.add([
            name.to_owned(),
            what.to_owned(),
            number(run.deviation.percentile(50.0)),
            number(p99),
            number(run.deviation.max()),
            format!("{} ({})", run.adverts, LASTING.as_millis() / INTERVAL.as_millis()),
            run.takeovers.to_string(),
            number(run.cpu),
            number(run.machine_busy),
            if load == Load::Forwarder { number(run.gigabits) } else { "–".to_owned() },
            // Under load whoever is not hurried waits, and so does the watch.
            if load == Load::Idle { number(run.stalled) } else { "–".to_owned() },
        ]);
        if load == Load::Forwarder {
            histogram = run.status;
        }
    }
    section.tables.push((table, verdicts));
    if let Some(status) = histogram {
        section.remarks.push(lateness(&status));
    }
    section
}

/// What vipd says of itself: how late its engine's timers fired.
fn lateness(status: &Value) -> String {
    const BOUNDS: [&str; 12] = [
        "0.05 ms", "0.1 ms", "0.25 ms", "0.5 ms", "1 ms", "2.5 ms", "5 ms", "10 ms", "25 ms", "100 ms",
        "1 s", "10 s",
    ];
    let own = &status["lateness"];
    let counts = own["buckets"].as_array().into_iter().flatten().filter_map(Value::as_u64);
    let bounds = BOUNDS.iter().map(|bound| format!("≤ {bound}")).chain(["more".to_owned()]);
    let buckets: Vec<String> = bounds
        .zip(counts)
        .filter(|(_, count)| *count > 0)
        .map(|(bound, count)| format!("{bound}: {count}"))
        .collect();
    let nanos = |time: &Value| {
        time["secs"].as_f64().unwrap_or_default() * 1e3 + time["nanos"].as_f64().unwrap_or_default() / 1e6
    };
    format!(
        "`vipd status --json` of the active host at the end of the forwarder case, lateness of its timers since its start: {}; longest {} ms.",
        buckets.join(", "),
        number(nanos(&own["max"]))
    )
}

fn run(daemon: Daemon, load: Load) -> Outcome<Run> {
    let lab = Lab::new(&["backend"]);
    let capture = Capture::start(&lab);
    let stalls = StallWatch::start();
    lab.wait_for_calm();
    let backup = start(daemon, load, &lab.lb1, 100);
    let active = start(daemon, load, &lab.lb2, 200);
    let source: IpAddr = lab.lb2.ipv4().parse().expect("an address");
    let other: IpAddr = lab.lb1.ipv4().parse().expect("an address");
    wait_for("the first adverts of the active", Duration::from_secs(10), || {
        (capture.adverts_of(source, Stamp::ZERO).len() > 50).then_some(())
    })
    .map_err(|failure| Failure::from(format!("{}\n{}", failure.text, active.output())))?;
    let work = match load {
        Load::Idle => None,
        Load::Loops => Some(Work::loops()),
        Load::Forwarder => Some(Work::streams(&lab)?),
    };
    thread::sleep(Duration::from_secs(1));

    let (from, usage, times) = (now(), Usage::of(&active), Times::now());
    let carried = work.as_ref().map_or(0, Work::done);
    thread::sleep(LASTING);
    let to = now();
    let carried = work.as_ref().map_or(0, Work::done) - carried;
    let (used, share) = (Usage::of(&active).cpu.saturating_sub(usage.cpu), times.until(&Times::now()));
    let status = if daemon == Daemon::Vipd { status(&lab.lb2).ok() } else { None };
    drop(work);

    let within = |source| -> Vec<Stamp> {
        let adverts = capture.adverts_of(source, from);
        adverts.into_iter().map(|advert| advert.at).filter(|at| *at <= to).collect()
    };
    let times = within(source);
    ensure(times.len() > 10, || format!("{} adverts in {LASTING:?}\n{}", times.len(), active.output()))?;
    let deviation = times.windows(2).map(|pair| ms((pair[1] - pair[0]).abs_diff(INTERVAL))).collect();
    // Its adverts in one go count as one takeover.
    let mut strangers = within(other);
    strangers.dedup_by(|later, earlier| later.saturating_sub(*earlier) < 2 * INTERVAL);
    drop(backup);
    let seconds = (to - from).as_secs_f64();
    Ok(Run {
        deviation: Figures(deviation),
        adverts: times.len(),
        takeovers: strangers.len(),
        cpu: 100.0 * used.as_secs_f64() / seconds,
        machine_busy: share.busy(),
        gigabits: carried as f64 * 8.0 / 1e9 / seconds,
        stalled: ms(stalls.longest(from, to)),
        status,
    })
}

fn status(host: &Host) -> Outcome<Value> {
    let text = host.try_run(&[&vipd().to_string_lossy(), "status", "--json"])?;
    serde_json::from_str(&text).map_err(|error| format!("vipd status --json: {error}").into())
}

/// Starts one with nice 0.
fn start(daemon: Daemon, load: Load, host: &Host, priority: u8) -> Process {
    let script = (load != Load::Idle).then(|| burning_script(&host.directory));
    let (program, file, text) = if daemon == Daemon::Vipd {
        (vipd(), "busy.toml", toml(load, priority, script.as_deref()))
    } else {
        let keepalived = netns_tests::host::find_program("keepalived").expect("looked for before");
        let realtime = daemon == Daemon::KeepalivedRealtime;
        (keepalived, "busy.conf", keepalived_conf(realtime, priority, script.as_deref()))
    };
    let file = host.directory.join(file);
    std::fs::write(&file, text).expect("the lab's directory is ours");
    let mut command = host.command(program);
    if daemon == Daemon::Vipd {
        command.args(["run", "-c"]).arg(&file);
    } else {
        command.args(["-n", "-l", "-D", "-G", "-f"]).arg(&file);
    }
    Process::start(command, &host.directory.join("busy.log")).expect("the daemon starts")
}

fn toml(load: Load, priority: u8, script: Option<&Path>) -> String {
    let mut text = format!(
        "[[instance]]\nname = \"vip\"\ninterface = \"eth0\"\nvrid = 52\npriority = {priority}\n\
         advert_interval = \"10ms\"\naddresses = [\"{VIP}/24\"]\n"
    );
    if let Some(script) = script {
        text += &format!(
            "track = [{{ check = \"burn\", weight = 1 }}]\n\n[[check]]\nname = \"burn\"\nscript = [\"{}\"]\n\
             user = \"root\"\ninterval = \"1s\"\ntimeout = \"5s\"\n",
            script.display()
        );
    }
    if load == Load::Forwarder {
        text += &format!(
            "\n[[listener]]\nname = \"bulk\"\nbind = \"{VIP}:{PORT}\"\nbackends = [{{ address = \"10.77.0.11:{PORT}\" }}]\n"
        );
    }
    text
}

fn keepalived_conf(realtime: bool, priority: u8, script: Option<&Path>) -> String {
    let router = Router {
        version: 3,
        vrid: 52,
        priority,
        interval: INTERVAL,
        addresses: vec![format!("{VIP}/24")],
        password: None,
        unicast: None,
        extra: String::new(),
        start_active: false,
        nopreempt: false,
        strict: false,
    };
    let mut text = router.keepalived_conf();
    if realtime {
        text = text.replacen("global_defs {\n", "global_defs {\n  vrrp_rt_priority 50\n", 1);
    }
    if let Some(script) = script {
        text = text.replacen(
            "vrrp_instance ",
            &format!(
                "vrrp_script burn {{\n  script \"{}\"\n  interval 1\n  timeout 5\n  user root\n  weight 1\n}}\nvrrp_instance ",
                script.display()
            ),
            1,
        );
        text = text.replacen(
            "  virtual_ipaddress {",
            "  track_script {\n    burn\n  }\n  virtual_ipaddress {",
            1,
        );
    }
    text
}

fn burning_script(directory: &Path) -> PathBuf {
    let script = directory.join("burn.sh");
    std::fs::write(&script, "#!/bin/sh\ntimeout 0.8 sh -c 'while :; do :; done'\nexit 0\n")
        .and_then(|()| std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)))
        .expect("the lab's directory is ours");
    script
}

/// Threads that keep the processors busy until this value is dropped.
struct Work {
    stop: Arc<AtomicBool>,
    carried: Arc<AtomicU64>,
    sockets: Vec<TcpStream>,
    threads: Vec<JoinHandle<()>>,
}

impl Work {
    fn new() -> Self {
        Self { stop: Arc::default(), carried: Arc::default(), sockets: Vec::new(), threads: Vec::new() }
    }

    /// Two endless loops for each processor.
    fn loops() -> Self {
        let mut work = Self::new();
        for _ in 0..2 * thread::available_parallelism().map_or(1, usize::from) {
            let stop = work.stop.clone();
            work.threads.push(thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            }));
        }
        work
    }

    /// A sink on the backend, and the client's streams to the VIP, as fast as they go.
    fn streams(lab: &Lab) -> Outcome<Self> {
        let mut work = Self::new();
        let backend = &lab.others[0];
        let listener = backend.inside(|| TcpListener::bind((backend.ipv4(), PORT))).expect("our own backend");
        let target = SocketAddr::new(VIP.parse().expect("an address"), PORT);
        let mut sinks = Vec::new();
        for _ in 0..STREAMS {
            let stream = lab.client.inside(|| TcpStream::connect_timeout(&target, Duration::from_secs(3)));
            let stream = stream.map_err(|error| format!("connect to the listener: {error}"))?;
            listener.set_nonblocking(true).expect("our own socket");
            let sink =
                wait_for("the forwarder's connection", Duration::from_secs(3), || listener.accept().ok())?;
            sink.0.set_nonblocking(false).expect("our own socket");
            sinks.push(sink.0);
            work.sockets.push(stream);
        }
        for mut sink in sinks {
            let carried = work.carried.clone();
            work.threads.push(thread::spawn(move || {
                let mut bytes = vec![0; 256 << 10];
                while let Ok(count @ 1..) = sink.read(&mut bytes) {
                    carried.fetch_add(count as u64, Ordering::Relaxed);
                }
            }));
        }
        for socket in &work.sockets {
            let mut socket = socket.try_clone().expect("our own socket");
            work.threads.push(thread::spawn(move || {
                let bytes = vec![0; 256 << 10];
                while socket.write_all(&bytes).is_ok() {}
            }));
        }
        Ok(work)
    }

    /// Bytes that arrived.
    fn done(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for socket in &self.sockets {
            let _ = socket.shutdown(Shutdown::Both);
        }
        let deadline = Instant::now() + Duration::from_secs(3);
        for thread in self.threads.drain(..) {
            // A sink whose forwarder keeps the connection ends with the program.
            while !thread.is_finished() && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(1));
            }
            if thread.is_finished() {
                let _ = thread.join();
            }
        }
    }
}
