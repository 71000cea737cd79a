//! What happened, and why: the one type that flows out of the rooms.
//!
//! Nothing here knows how the election is held. "Active" and "not active, because …" is all that hold,
//! forward, notify and observe may see.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// State of an instance, as people see it (RFC 9568 §6.4, and keepalived's FAULT).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Not taking part: not started yet, or stopped.
    Initialize,
    /// Listening; another host is active.
    Backup,
    /// Holds the addresses.
    Active,
    /// Cannot take part, for a reason that is named.
    Fault,
}

impl State {
    /// Lower-case word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initialize => "initialize",
            Self::Backup => "backup",
            Self::Active => "active",
            Self::Fault => "fault",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Why an instance cannot take part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "fault")]
pub enum Fault {
    /// There is no such interface (yet).
    InterfaceMissing {
        /// Its name.
        interface: String,
    },
    /// Administratively down, or no carrier.
    InterfaceDown {
        /// Its name.
        interface: String,
    },
    /// Nothing to send adverts from.
    NoSourceAddress {
        /// Where it was looked for.
        interface: String,
        /// `IPv4` or `IPv6 link-local`, or the configured address.
        wanted: String,
    },
    /// Unicast without a peer (keepalived: `unicast_fault_no_peer`).
    NoPeer,
    /// A check that must be up is down (or, reversed, up).
    Check {
        /// Its name.
        check: String,
        /// `failed 3 of 3: connect refused`.
        detail: String,
    },
    /// A check that must be up has not given its first result.
    CheckUnknown {
        /// Its name.
        check: String,
    },
    /// Something that it needs is on its way.
    Preparing {
        /// In words.
        what: String,
    },
    /// Its VMAC could not be made.
    Vmac {
        /// What failed.
        error: String,
    },
    /// A static address, route or rule of its track group is missing.
    StaticMissing {
        /// `route 10.0.0.0/8 via 192.0.2.1`, as it was written.
        entry: String,
        /// The group.
        group: String,
    },
    /// A BFD session that must be up is down (or, reversed, up).
    Bfd {
        /// Its name.
        session: String,
        /// `is down: detection time expired`.
        detail: String,
    },
    /// The sockets could not be opened.
    Socket {
        /// What failed.
        error: String,
    },
    /// Another member of its sync group cannot take part.
    Member {
        /// The group.
        group: String,
        /// Who.
        member: String,
        /// Why.
        because: Box<Fault>,
    },
}

impl Fault {
    /// Nothing is wrong: a check has not given its first result.
    pub fn only_waits(&self) -> bool {
        match self {
            Self::CheckUnknown { .. } | Self::Preparing { .. } => true,
            Self::Member { because, .. } => because.only_waits(),
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InterfaceMissing { interface } => {
                write!(f, "interface {interface} does not exist")
            }
            Self::InterfaceDown { interface } => write!(f, "interface {interface} is down"),
            Self::NoSourceAddress { interface, wanted } => {
                write!(f, "{interface} has no {wanted} address")
            }
            Self::NoPeer => f.write_str("it has no unicast peer"),
            Self::Check { check, detail } => write!(f, "check {check} {detail}"),
            Self::CheckUnknown { check } => write!(f, "check {check} has given no result yet"),
            Self::Preparing { what } => write!(f, "{what} are not in place yet"),
            Self::StaticMissing { entry, group } => {
                write!(f, "static {entry} of track group {group} is missing")
            }
            Self::Bfd { session, detail } => write!(f, "BFD session {session} {detail}"),
            Self::Socket { error } | Self::Vmac { error } => write!(f, "{error}"),
            Self::Member { group, member, because } => {
                write!(f, "held in FAULT by member {member} of group {group}: {because}")
            }
        }
    }
}

/// Why an instance changed its state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "reason")]
pub enum Reason {
    /// The daemon, the instance or its interface came up; it listens first.
    Started,
    /// The address owner is active at once.
    Owner,
    /// No advert for the whole Active_Down_Interval.
    ActiveDown {
        /// Who was active before, if anybody was heard.
        peer: Option<IpAddr>,
        /// For how long nothing was heard.
        silence: Duration,
    },
    /// The active router has a lower priority, and was heard until the end.
    Preempted {
        /// Who was active.
        peer: IpAddr,
        /// Its priority.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
    /// The active router gave up (priority 0).
    ActiveReleased {
        /// Who gave up.
        peer: IpAddr,
    },
    /// Somebody better is there.
    HigherPriority {
        /// Who.
        peer: IpAddr,
        /// Its priority.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
    /// Somebody equal with the higher address is there.
    HigherAddress {
        /// Who.
        peer: IpAddr,
        /// The priority of both.
        priority: u8,
    },
    /// It cannot take part.
    Fault {
        /// Every reason.
        faults: Vec<Fault>,
    },
    /// Nothing keeps it from taking part any more.
    FaultCleared,
    /// The daemon stops, or the instance was removed from the configuration.
    Stopped,
    /// The daemon woke up too late to still trust what it knew.
    Resurrected {
        /// How late.
        lateness: Duration,
    },
    /// Another member of its sync group did the same.
    Group {
        /// The group.
        group: String,
        /// Who.
        member: String,
        /// Why.
        because: Box<Reason>,
    },
}

impl Reason {
    /// Short word for counters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Owner => "owner",
            Self::ActiveDown { .. } => "active_down",
            Self::Preempted { .. } => "preempted",
            Self::ActiveReleased { .. } => "active_released",
            Self::HigherPriority { .. } => "higher_priority",
            Self::HigherAddress { .. } => "higher_address",
            Self::Fault { .. } => "fault",
            Self::FaultCleared => "fault_cleared",
            Self::Stopped => "stopped",
            Self::Resurrected { .. } => "resurrected",
            Self::Group { .. } => "group",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started => f.write_str("started, listening for an active router"),
            Self::Owner => f.write_str("address owner (priority 255) starts active"),
            Self::ActiveDown { peer: Some(peer), silence } => {
                write!(f, "no advert from {peer} for {:.3} s", silence.as_secs_f64())
            }
            Self::ActiveDown { peer: None, silence } => {
                write!(f, "no advert from anybody for {:.3} s", silence.as_secs_f64())
            }
            Self::Preempted { peer, theirs, ours } => {
                write!(f, "ours is the higher priority: {ours}, {peer} advertises {theirs}")
            }
            Self::ActiveReleased { peer } => write!(f, "{peer} gave up (priority 0)"),
            Self::HigherPriority { peer, theirs, ours } => {
                write!(f, "{peer} advertises priority {theirs}, ours is {ours}")
            }
            Self::HigherAddress { peer, priority } => {
                write!(f, "{peer} advertises the same priority {priority} and has the higher address")
            }
            Self::Fault { faults } => {
                for (i, fault) in faults.iter().enumerate() {
                    write!(f, "{}{fault}", if i == 0 { "" } else { "; " })?;
                }
                Ok(())
            }
            Self::FaultCleared => f.write_str("nothing prevents it any more, listening for an active router"),
            Self::Stopped => f.write_str("stopped"),
            Self::Resurrected { lateness } => {
                write!(f, "woke up {:.3} s late, listening first", lateness.as_secs_f64())
            }
            Self::Group { group, member, because } => {
                write!(f, "with member {member} of group {group}: {because}")
            }
        }
    }
}

/// Health of a check, a backend or an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No result yet.
    Unknown,
    /// Healthy.
    Up,
    /// Not healthy.
    Down,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// Something happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// Wall-clock time.
    pub at: SystemTime,
    /// What.
    #[serde(flatten)]
    pub kind: Kind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
pub enum Kind {
    /// An instance changed its state.
    Transition {
        /// Its name.
        instance: String,
        /// State before.
        from: State,
        /// State now.
        to: State,
        /// Why.
        reason: Reason,
        /// Effective priority now.
        priority: u8,
    },
    /// A sync group changed its state, and all its members with it. Told after the changes of its members; when the
    /// group starts, before them.
    Group {
        /// Its name.
        group: String,
        /// State before.
        from: State,
        /// State now.
        to: State,
        /// Why the member changed that went first.
        reason: Reason,
    },
    /// The effective priority changed.
    Priority {
        /// Instance.
        instance: String,
        /// State it is in.
        state: State,
        /// Before.
        from: u8,
        /// Now.
        to: u8,
        /// Sum in words: `99 = 101 - 2 (check apiserver failed: …)`.
        because: String,
    },
    /// An active instance heard an advert of lower priority.
    LowerPriorityAdvert {
        /// Instance.
        instance: String,
        /// Who sent it.
        peer: IpAddr,
        /// Its priority.
        theirs: u8,
        /// Ours.
        ours: u8,
    },
    /// An advert that changes no state, but what is known of the active router. At most two a second for each instance
    /// and kind.
    AdvertNews {
        /// Instance.
        instance: String,
        /// Who sent it.
        peer: IpAddr,
        /// What.
        #[serde(flatten)]
        news: AdvertNews,
    },
    /// A check changed.
    Check {
        /// Its name.
        check: String,
        /// Before.
        from: Health,
        /// Now.
        to: Health,
        /// What the last run said.
        detail: String,
    },
    /// A BFD session came up or went down.
    Bfd {
        /// Its name.
        session: String,
        /// The other end.
        neighbor: IpAddr,
        /// `Up`, `Down`, `Init`, `AdminDown`.
        from: String,
        /// Now.
        to: String,
        /// `detection time expired: nothing was heard for 300 ms`.
        reason: String,
    },
    /// An operator wants something of a backend.
    Ordered {
        /// Listener.
        listener: String,
        /// Backend.
        backend: String,
        /// What became of it: `drains: no new sessions; 3 sessions are left`.
        order: String,
    },
    /// The healthy backends of a listener are enough, or no longer.
    Quorum {
        /// Listener.
        listener: String,
        /// They are.
        reached: bool,
        /// Sum of their weights.
        weight: u64,
        /// What is needed, hysteresis not counted.
        least: u32,
    },
    /// A backend changed.
    Backend {
        /// Listener.
        listener: String,
        /// Backend.
        backend: String,
        /// Before.
        from: Health,
        /// Now.
        to: Health,
        /// Why.
        detail: String,
        /// Sessions that were closed with it.
        sessions_closed: u64,
    },
    /// Another host says that it has an address of an active instance.
    AddressClaimed {
        /// Instance.
        instance: String,
        /// Address.
        address: IpAddr,
        /// Where it was heard.
        interface: String,
        /// Whose, with colons.
        mac: String,
    },
    /// Somebody deleted an address of an active instance; it was put back.
    AddressRestored {
        /// Instance.
        instance: String,
        /// Address.
        address: IpAddr,
        /// Interface.
        interface: String,
    },
    /// An address of an instance that is not active was found and removed.
    AddressRemoved {
        /// Instance.
        instance: String,
        /// Address.
        address: IpAddr,
        /// Interface.
        interface: String,
        /// `left from a former life`, `appeared while backup`.
        because: String,
    },
    /// An address could not be added or removed.
    AddressFailed {
        /// Instance.
        instance: String,
        /// Address.
        address: IpAddr,
        /// Interface.
        interface: String,
        /// With causes.
        error: String,
    },
    /// Something happened to a route, a rule or a static address.
    Entry {
        /// Instance; empty for what is static.
        instance: String,
        /// `route 10.0.0.0/8 via 192.0.2.1`, as it was written.
        entry: String,
        /// What.
        #[serde(flatten)]
        news: EntryNews,
    },
    /// Packets were discarded (at most one event a second for each reason).
    Discarded {
        /// Instance, or the interface when no instance is known.
        instance: String,
        /// Last sender.
        peer: IpAddr,
        /// Short name, as in the metrics.
        reason: String,
        /// With what was got and wanted.
        detail: String,
        /// Since the last event of this reason.
        count: u64,
    },
    /// Another configuration is in force, and everything that it stopped has been told before.
    Reloaded {
        /// `1 changed; 254 instances notice nothing`.
        summary: String,
    },
    /// Anything the operator should know that fits nowhere else.
    Notice {
        /// Whole sentence.
        text: String,
    },
}

/// What an advert says to one that it does not move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "news")]
pub enum AdvertNews {
    /// The active router has another interval than before (version 3).
    IntervalLearned {
        /// Before.
        from: Duration,
        /// Now.
        to: Duration,
    },
    /// A worse router is let be for so long (`preempt_delay`).
    PreemptDelayStarted {
        /// As it is configured.
        delay: Duration,
    },
    /// A better router was heard before that was over.
    PreemptDelayStopped,
    /// A Backup will take over from a worse router: its advert does not count.
    LowerPriorityIgnored {
        /// Its priority.
        theirs: u8,
    },
    /// Somebody gave up (priority 0).
    ReleaseHeard {
        /// This one is active itself.
        active: bool,
    },
}

impl AdvertNews {
    /// Kinds.
    pub const COUNT: usize = 5;

    /// Below [`AdvertNews::COUNT`].
    pub fn number(&self) -> usize {
        match self {
            Self::IntervalLearned { .. } => 0,
            Self::PreemptDelayStarted { .. } => 1,
            Self::PreemptDelayStopped => 2,
            Self::LowerPriorityIgnored { .. } => 3,
            Self::ReleaseHeard { .. } => 4,
        }
    }
}

impl fmt::Display for AdvertNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IntervalLearned { from, to } => write!(f, "advertises every {to:?}, before {from:?}"),
            Self::PreemptDelayStarted { delay } => write!(f, "is worse, and is let be for {delay:?}"),
            Self::PreemptDelayStopped => f.write_str("is not worse any more"),
            Self::LowerPriorityIgnored { theirs } => {
                write!(f, "advertises the lower priority {theirs}: that does not count")
            }
            Self::ReleaseHeard { active: true } => {
                f.write_str("gave up (priority 0) while this one is active")
            }
            Self::ReleaseHeard { active: false } => f.write_str("gave up (priority 0)"),
        }
    }
}

/// What happened to a route, a rule or a static address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "news")]
pub enum EntryNews {
    /// Somebody deleted it; it was put back.
    Restored,
    /// It was found where it does not belong.
    Removed {
        /// `left from a former life`.
        because: String,
    },
    /// It could not be added or removed.
    Failed {
        /// With causes and place.
        error: String,
    },
}

impl fmt::Display for EntryNews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Restored => f.write_str("was deleted by somebody, and put back"),
            Self::Removed { because } => write!(f, "removed: {because}"),
            Self::Failed { error } => f.write_str(error),
        }
    }
}

/// Sends events without ever waiting: what does not fit is counted and dropped.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: mpsc::Sender<Event>,
    dropped: Arc<AtomicU64>,
}

impl EventSender {
    /// A sender, and the end that the dispatcher reads.
    pub fn channel(capacity: usize) -> (Self, mpsc::Receiver<Event>) {
        let (queue, receiver) = mpsc::channel(capacity);
        (Self { queue, dropped: Arc::default() }, receiver)
    }

    /// Sends with the time of now.
    pub fn send(&self, kind: Kind) {
        let event = Event { at: SystemTime::now(), kind };
        if self.queue.try_send(event).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Events that did not fit.
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}
