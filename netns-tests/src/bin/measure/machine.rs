//! The machine that measures: what it is, and what else it did meanwhile.

use std::fmt::{self, Display, Formatter};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use netns_tests::process::Process;

/// What its processors did since it started, in ticks of all of them.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    idle: u64,
    steal: u64,
    all: u64,
}

/// Between two times.
pub struct Share {
    idle: f64,
    steal: f64,
}

impl Times {
    /// Until now.
    pub fn now() -> Self {
        let text = std::fs::read_to_string("/proc/stat").expect("/proc/stat");
        let first = text.lines().next().expect("the line of all processors");
        let ticks: Vec<u64> = first.split_whitespace().skip(1).filter_map(|word| word.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guest time is part of user.
        Self { idle: ticks[3] + ticks[4], steal: ticks[7], all: ticks[..8].iter().sum() }
    }

    /// The time from this one to a later one.
    pub fn until(self, end: &Self) -> Share {
        let all = (end.all - self.all).max(1) as f64;
        Share {
            idle: 100.0 * (end.idle - self.idle) as f64 / all,
            steal: 100.0 * (end.steal - self.steal) as f64 / all,
        }
    }
}

impl Share {
    /// Percent of all processors.
    pub fn busy(&self) -> f64 {
        100.0 - self.idle
    }
}

impl Display for Share {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0} % busy, {:.2} % taken by the hypervisor (steal)", self.busy(), self.steal)
    }
}

/// Percent of all processors that are busy while we do nothing.
pub fn busy_now() -> f64 {
    let before = Times::now();
    std::thread::sleep(Duration::from_millis(500));
    before.until(&Times::now()).busy()
}

/// Of 1, 5 and 15 minutes.
pub fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').take(3).collect::<Vec<_>>().join(", ")
}

/// Heads the output.
pub fn describe(vipd: &Path) -> String {
    let one_line = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output();
        output.map_or_else(
            |error| format!("{program}: {error}"),
            |output| {
                let text = [output.stdout, output.stderr].concat();
                String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
            },
        )
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name\t: ")).unwrap_or("processor");
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let words: Vec<String> = std::env::args().skip(1).collect();
    format!(
        "# Measurements\n\n\
         `cargo run --release -p netns-tests --bin measure -- {}`, {}.\n\n\
         - Machine: {cores} processors ({model}), kernel {}, network namespaces on one bridge\n\
         - vipd: {} (release build); keepalived: {}\n\
         - Load average at the start: {}. {:.0} % of the processors were busy with other programs.\n\
         - Cells: median [min–max] of n; ratio = vipd's median / keepalived's. Times are those of the wire: a packet socket at the bridge.\n\
         - A trial counts as stalled when a thread that only wakes every millisecond on each processor woke more than 0.5 ms late around the takeover; stalled trials are in the figures.\n",
        words.join(" "),
        one_line("date", &["-u", "+%F %H:%M UTC"]),
        one_line("uname", &["-r"]),
        one_line(&vipd.to_string_lossy(), &["--version"]),
        one_line("keepalived", &["--version"]),
        load_average(),
        busy_now(),
    )
}

/// What a program and its descendants used so far, and hold.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Processor time.
    pub cpu: Duration,
    /// Resident, summed over processes, in MiB.
    pub rss: f64,
    /// The same with shared pages divided by their users.
    pub pss: f64,
    /// How many processes.
    pub processes: usize,
}

impl Usage {
    /// Of this program's processes that live now.
    pub fn of(process: &Process) -> Self {
        let mut usage = Self::default();
        for pid in process.family() {
            usage.processes += 1;
            for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
                let nanos = text.split(' ').next().and_then(|word| word.parse().ok());
                usage.cpu += Duration::from_nanos(nanos.unwrap_or_default());
            }
            usage.rss += kib(&format!("/proc/{pid}/status"), "VmRSS:") / 1024.0;
            usage.pss += kib(&format!("/proc/{pid}/smaps_rollup"), "Pss:") / 1024.0;
        }
        usage
    }
}

/// The number behind this word.
fn kib(file: &str, word: &str) -> f64 {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(word));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or_default()
}
