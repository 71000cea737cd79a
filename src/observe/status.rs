//! What is: the data behind `vipd status`, the control socket and the metrics.

pub mod forward;
pub mod shared;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::event::{Fault, Health, Reason, State};
use super::tally::Tally;
pub use forward::{
    Admin, BackendStatus, Carrier, HealthPageStatus, ListenerStatus, NameStatus, QueueStatus, SessionFilter,
    SessionStatus,
};
pub use shared::SharedHistogram;

/// Everything at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// `vipd 0.1.0`.
    pub version: String,
    /// Process.
    pub pid: u32,
    /// Its parent, which cleans up and starts anew when it dies.
    #[serde(default)]
    pub guard: Option<GuardStatus>,
    /// Name of this router.
    pub router_id: String,
    /// When the daemon started.
    pub started: SystemTime,
    /// Configuration files.
    pub configuration: Vec<String>,
    /// Instances, in the order of the configuration.
    pub instances: Vec<InstanceStatus>,
    /// Sync groups, in the order of the configuration.
    #[serde(default)]
    pub groups: Vec<GroupStatus>,
    /// Checks.
    pub checks: Vec<CheckStatus>,
    /// BFD sessions.
    #[serde(default)]
    pub bfd: Vec<BfdStatus>,
    /// Listeners of the forwarder.
    pub listeners: Vec<ListenerStatus>,
    /// Health pages.
    #[serde(default)]
    pub pages: Vec<HealthPageStatus>,
    /// Events and log lines that did not fit their queues.
    pub dropped: Dropped,
    /// How late the engine's timers fired.
    pub lateness: Histogram,
    /// Adverts for no instance of ours, by reason.
    pub discarded: Tally,
    /// What makes addresses fall silent on a host that hangs; `None`: nothing is asked to.
    #[serde(default)]
    pub lease: Option<LeaseStatus>,
    /// When this host did not run.
    #[serde(default)]
    pub stalls: Stalls,
}

/// How addresses fall silent on a host that hangs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// By the tables of nf_tables; else by the lifetime of the addresses alone.
    pub tables: bool,
    /// Why not by the tables.
    pub trouble: Option<String>,
    /// Times that somebody had removed the tables, and they were made again.
    pub remade: u64,
    /// Times that addresses were silent for a moment, because this host was late.
    pub lapsed: u64,
}

/// Times that this host, or the daemon on it, did not run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stalls {
    /// Times that an instance woke up so late that another may have taken over: it listened first.
    pub resurrected: u64,
    /// The latest of them.
    pub longest: Duration,
    /// How long the machine was suspended since the daemon started.
    pub slept: Duration,
    /// How long the machine that this virtual one runs on gave its processors to others, since it was started.
    pub steal: Duration,
}

/// The parent process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// The service's process.
    pub pid: u32,
    /// Daemons that died before this one.
    pub restarts: u32,
    /// How the last of them ended, and what was undone for it.
    pub last: Option<String>,
}

/// What bounded queues refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropped {
    /// Events.
    pub events: u64,
    /// Log lines.
    pub log_lines: u64,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Name.
    pub name: String,
    /// Interface.
    pub interface: String,
    /// 1–255.
    pub vrid: u8,
    /// 2 or 3.
    pub version: u8,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// State.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// One plain sentence with numbers.
    pub why: String,
    /// Effective.
    pub priority: u8,
    /// Configured.
    pub base_priority: u8,
    /// What moves the priority now.
    pub weights: Vec<Weight>,
    /// What keeps it from taking part.
    pub faults: Vec<Fault>,
    /// The last change.
    pub last_reason: Option<Reason>,
    /// Members of its sync group that it waits for to become active together.
    #[serde(default)]
    pub waits_for: Vec<String>,
    /// Who is active, as far as this host heard.
    pub active: Option<Peer>,
    /// Source of our adverts.
    pub source: Option<IpAddr>,
    /// Between our adverts.
    pub advert_interval: Duration,
    /// Silence after which this host takes over.
    pub active_down_interval: Duration,
    /// Its addresses fall silent so long after its last advert; `None`: never.
    #[serde(default)]
    pub lease: Option<Duration>,
    /// Addresses and whether they are here.
    pub addresses: Vec<AddressStatus>,
    /// Routes, then rules, and whether they are here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<EntryStatus>,
    /// Counters.
    pub counters: Counters,
    /// What only keepalived's data dump shows.
    #[serde(default)]
    pub runtime: Runtime,
}

/// Inner matters of an instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runtime {
    /// Until its next timer; `None` while none runs.
    pub next_timer: Option<Duration>,
    /// Index of its interface, while that exists.
    pub interface_index: Option<u32>,
    /// Socket of its adverts.
    pub descriptor: Option<i32>,
}

/// One sync group.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Name.
    pub name: String,
    /// State of all its members.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// One plain sentence.
    pub why: String,
    /// Names, in the order of the configuration.
    pub members: Vec<String>,
    /// Backups whose timer has ended, and that wait for the others.
    pub ready: Vec<String>,
    /// Who keeps the group from taking part, and why.
    pub held_by: Vec<(String, Fault)>,
    /// The last change, of the member that went first.
    pub last_reason: Option<Reason>,
}

/// One tracked object that moves the priority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Weight {
    /// `check apiserver`, `interface eth1`.
    pub object: String,
    /// What it adds now; negative takes off.
    pub delta: i32,
    /// What it last said.
    pub detail: String,
}

/// A router that was heard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Peer {
    /// Source of its adverts.
    pub address: IpAddr,
    /// In its last advert.
    pub priority: u8,
    /// In its last advert.
    pub advert_interval: Duration,
    /// How long ago the last advert came.
    pub last_heard: Duration,
}

/// One virtual address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressStatus {
    /// With prefix length.
    pub address: String,
    /// Where it belongs.
    pub interface: String,
    /// The kernel has it.
    pub present: bool,
    /// Another host says that it has it too, since this one is active.
    #[serde(default)]
    pub claimed_by: Option<Claim>,
}

/// Somebody else claims an address of ours, by ARP or neighbour advertisements.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose MAC, with colons; the latest.
    pub mac: String,
    /// First heard of that one.
    pub since: SystemTime,
    /// Last heard.
    pub last: SystemTime,
    /// Packets.
    pub times: u64,
}

/// One virtual route or rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryStatus {
    /// `route …` or `rule …`, as it was written.
    pub entry: String,
    /// It was put there, and nobody has removed it since.
    pub present: bool,
}

/// Counters of an instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Adverts.
    pub adverts_sent: u64,
    /// Accepted.
    pub adverts_received: u64,
    /// With priority 0.
    pub priority_zero_sent: u64,
    /// With priority 0.
    pub priority_zero_received: u64,
    /// Sends that the kernel refused.
    pub send_errors: u64,
    /// Discarded, by reason.
    pub discarded: Tally,
    /// Accepted, but odd (another interval, another address list), by reason.
    pub oddities: Tally,
    /// State changes, by `FROM->TO`-less reason word (`active_down`, `higher_priority`, …).
    pub transitions: Tally,
    /// Times that the instance became active.
    pub became_active: u64,
    /// Times that it gave that up, but for the end of the daemon.
    #[serde(default)]
    pub released_active: u64,
    /// Gratuitous ARP and neighbour advertisements sent.
    pub announcements_sent: u64,
}

/// A histogram of durations. `buckets[i]` counts observations of at most `Histogram::BOUNDS[i]`; the last,
/// one longer than the bounds, counts the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Histogram {
    /// Not cumulative.
    pub buckets: Vec<u64>,
    /// Of all observations.
    pub sum: Duration,
    /// Longest.
    pub max: Duration,
}

impl Histogram {
    /// Upper bounds of the buckets.
    pub const BOUNDS: [Duration; 12] = [
        Duration::from_micros(50),
        Duration::from_micros(100),
        Duration::from_micros(250),
        Duration::from_micros(500),
        Duration::from_millis(1),
        Duration::from_micros(2500),
        Duration::from_millis(5),
        Duration::from_millis(10),
        Duration::from_millis(25),
        Duration::from_millis(100),
        Duration::from_secs(1),
        Duration::from_secs(10),
    ];

    /// Counts one.
    pub fn record(&mut self, duration: Duration) {
        self.buckets.resize(Self::BOUNDS.len() + 1, 0);
        let bucket = Self::BOUNDS.partition_point(|bound| *bound < duration);
        self.buckets[bucket] += 1;
        self.sum += duration;
        self.max = self.max.max(duration);
    }

    /// Observations.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// What so many percent of the observations do not exceed, as far as the buckets tell: the bound of a bucket, or
    /// the longest observation. `None` without any.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let wanted = (u128::from(self.count()) * u128::from(percent)).div_ceil(100).max(1);
        let mut seen = 0;
        let bucket = self.buckets.iter().position(|count| {
            seen += u128::from(*count);
            seen >= wanted
        })?;
        Some(Self::BOUNDS.get(bucket).map_or(self.max, |bound| self.max.min(*bound)))
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckStatus {
    /// Name.
    pub name: String,
    /// The key of the check in the configuration: `script`, `https`, `tcp`, `ping` and so on.
    pub kind: String,
    /// Health.
    pub health: Health,
    /// Since when.
    pub since: SystemTime,
    /// What the last run said: `connect refused`, `exited with status 1`, `readyz: [-]etcd failed`.
    pub detail: String,
    /// Results in a row that differ from the health (or agree with it).
    pub streak: u32,
    /// Results in a row that would change the health.
    pub needed: u32,
    /// Runs.
    pub succeeded: u64,
    /// Runs.
    pub failed: u64,
    /// Runs that were left out because the one before was still going on.
    pub skipped: u64,
    /// How long the last run took.
    pub last_duration: Option<Duration>,
    /// Durations of all runs.
    pub durations: Histogram,
    /// Number read from a file, for value checks.
    pub value: Option<i64>,
    /// What it does at this moment.
    #[serde(default)]
    pub activity: Activity,
    /// A reload brought it, and it has no result yet.
    #[serde(default)]
    pub new_by_reload: bool,
    /// What it noticed that is no failure: `certificate expires in 9 days`.
    #[serde(default)]
    pub findings: Vec<String>,
}

/// What a check does at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// It waits for its next run.
    #[default]
    Idle,
    /// A run goes on.
    Running,
    /// The run has timed out, and was asked to end (SIGTERM).
    Ending,
    /// It did not end when it was asked, and is killed (SIGKILL).
    Killed,
}

/// One BFD session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BfdStatus {
    /// Name.
    pub name: String,
    /// The other end.
    pub neighbor: IpAddr,
    /// Our end, if it was written.
    pub source: Option<IpAddr>,
    /// More than one hop.
    pub multihop: bool,
    /// `Up`, `Init`, `Down`, `AdminDown`.
    pub state: String,
    /// What instances are told: as before when the neighbour's operator stops his end.
    pub up: bool,
    /// Since when it is in its state.
    pub since: SystemTime,
    /// Why.
    pub detail: String,
    /// As it said last; `None`: it is silent.
    pub neighbor_state: Option<String>,
    /// Ours.
    pub discriminator: u32,
    /// Its own.
    pub neighbor_discriminator: Option<u32>,
    /// Between our packets, before jitter.
    pub transmit_interval: Duration,
    /// Silence after which it is down.
    pub detection_time: Option<Duration>,
    /// Control packets.
    pub packets_sent: u64,
    /// Accepted.
    pub packets_received: u64,
    /// Sends that the kernel refused.
    pub send_errors: u64,
    /// Discarded, by reason.
    pub discarded: BTreeMap<String, u64>,
    /// Times that it came up.
    pub came_up: u64,
    /// Times that it went down after that.
    pub went_down: u64,
}
