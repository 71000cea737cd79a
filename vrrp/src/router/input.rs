//! What can happen to a virtual router.

use std::net::IpAddr;

use super::RouterConfig;
use crate::{Accepted, AdverInterval, Priority};

/// Something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Take part from now on.
    Startup,
    /// An advert that [`crate::Ladder::judge`] accepted. Rejected ones never come here.
    Advertisement {
        /// Who sent it.
        source: IpAddr,
        /// 0 when it gives up.
        priority: Priority,
        /// Its time between adverts.
        max_advertise_interval: AdverInterval,
    },
    /// The moment of [`super::VirtualRouter::poll_timeout`] has come. Too early, it does nothing: give the adverts
    /// that wait in the socket first (H-6).
    Timeout,
    /// The effective priority changed: configured, plus what is tracked. The owner stays 255; the others stay within
    /// 1–254 (V3-OWN-1).
    PriorityChanged(Priority),
    /// Our adverts have another source from now on.
    PrimaryAddressChanged(IpAddr),
    /// Other parameters, without leaving the state. The effective priority is the configured one again: give
    /// `PriorityChanged` after it if something is tracked. Another version or VRID is another virtual router: shut this
    /// one down and start a new one.
    Reconfigured(RouterConfig),
    /// It cannot take part: interface down, check failed, address could not be added. `Startup` when it can again.
    Fault,
    /// Stop taking part.
    Shutdown,
    /// Instead of `Timeout` in Backup: the Active_Down_Timer ran out, but other members of the sync group are not ready.
    /// It runs once more; [`crate::SyncGroup::admit`] says when.
    WaitForGroup,
    /// Another member of the sync group has become Active: so does a Backup, at once.
    GroupActive,
    /// Another member of the sync group has given way to a better router: an Active gives up with priority 0, so that
    /// peers do not have to miss its adverts, and listens.
    GroupBackup,
    /// The process woke up later than it may (stopped, frozen, suspended): what it knew is old. An active router lets
    /// go; both states then listen for a full Active_Down_Interval.
    Resurrected,
}

impl From<Accepted> for Input {
    fn from(accepted: Accepted) -> Self {
        Self::Advertisement {
            source: accepted.source,
            priority: accepted.priority,
            max_advertise_interval: accepted.max_advertise_interval,
        }
    }
}
