//! What a virtual router wants done, and why.

use std::fmt;
use std::net::IpAddr;

use super::StateName;
use crate::Priority;

/// Something to do, in the order given. What fails comes back as [`super::Input::Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Send an advert with this priority (0 when giving up) and our configured interval.
    SendAdvertisement(Priority),
    /// Put the virtual addresses on. Once for each time it becomes Active.
    AddAddresses,
    /// Take the virtual addresses off. Once for each `AddAddresses`.
    RemoveAddresses,
    /// Tell the network who holds the virtual addresses; they are in place (V3-6.4.1-5).
    AnnounceAddresses,
    /// Tell it again: a router of lower priority was active too, and hosts may have learned it (ACD-5). At most ten
    /// times in an advertisement interval.
    AnnounceAgain,
    /// The state changed; everything that belongs to the change was said before.
    Transition {
        /// Before.
        from: StateName,
        /// Now.
        to: StateName,
        /// Why.
        reason: Reason,
    },
    /// While Active, an advert was heard that loses against ours. Not limited: for counting, and for a rate-limited
    /// log.
    LowerPriorityHeard {
        /// Who sent it.
        source: IpAddr,
        /// Lower than ours, or equal with a lower address.
        priority: Priority,
    },
    /// An equal advert with our own source address was heard while Active: the address is used twice, or something
    /// reflects our packets.
    DuplicateAddress {
        /// Ours.
        source: IpAddr,
    },
}

/// Why the state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// It takes part, and listens first.
    Startup,
    /// The address owner takes part, and is active at once.
    Owner,
    /// No advert for the whole Active_Down_Interval.
    ActiveDown,
    /// The active router gave up and nobody better came.
    ActiveReleased {
        /// Who gave up.
        source: IpAddr,
    },
    /// Somebody better is active.
    HigherPriority {
        /// Who.
        source: IpAddr,
        /// Its priority.
        priority: Priority,
    },
    /// Somebody equal with the higher address is active.
    HigherAddress {
        /// Who.
        source: IpAddr,
    },
    /// It cannot take part.
    Fault,
    /// It was told to stop.
    Shutdown,
    /// It woke up too late to trust what it knew.
    Resurrected,
    /// Another member of its sync group did the same.
    Group,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Startup => f.write_str("started, listening for an active router"),
            Self::Owner => f.write_str("address owner, active from the start"),
            Self::ActiveDown => f.write_str("no advert for the whole Active_Down_Interval"),
            Self::ActiveReleased { source } => write!(f, "{source} gave up (priority 0)"),
            Self::HigherPriority { source, priority } => write!(f, "{source} advertises priority {priority}"),
            Self::HigherAddress { source } => {
                write!(f, "{source} advertises the same priority and has the higher address")
            }
            Self::Fault => f.write_str("cannot take part"),
            Self::Shutdown => f.write_str("told to stop"),
            Self::Resurrected => f.write_str("woke up too late"),
            Self::Group => f.write_str("another member of its sync group did"),
        }
    }
}
