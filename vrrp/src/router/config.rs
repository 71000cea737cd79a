//! What a virtual router is told before it starts.

use std::net::IpAddr;
use std::time::Duration;

use crate::{AdverInterval, Priority, Version, Vrid};

/// Parameters of one virtual router on this host (RFC 9568 §6.1).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RouterConfig {
    /// Of the adverts.
    pub version: Version,
    /// Which virtual router.
    pub vrid: Vrid,
    /// 1–255. Default 100. 255 is the address owner.
    pub priority: Priority,
    /// Between our adverts. Default 1 s.
    pub adver_interval: AdverInterval,
    /// Whether a better router takes over from a worse one. Default on; always on for the address owner.
    pub preempt_mode: bool,
    /// How long a better router lets a worse one be, from the first of its adverts on (keepalived). Default 0.
    pub preempt_delay: Duration,
    /// Adverts missed before a backup router takes over, 1–100. Default 3; the same on all routers.
    pub down_timer_adverts: u8,
    /// Source of our adverts, which breaks ties (not a virtual address).
    pub primary_address: IpAddr,
    /// The address owner is active from the start (RFC 9568 §6.4.1). `false`: it listens first, as keepalived's owner
    /// with `state BACKUP`. Without meaning for any other priority.
    pub start_active: bool,
    /// Answer an advert of lower priority with one of ours. Default: in version 3 on (RFC 9568 §6.4.3), in version 2
    /// off (RFC 3768 §6.4.3; keepalived answers in both).
    pub answer_lower_priority: bool,
    /// Answer an advert of higher priority with one of ours before giving way (keepalived's
    /// `higher_prio_send_advert`). Default off.
    pub answer_higher_priority: bool,
}

impl RouterConfig {
    /// The RFC's defaults.
    pub fn new(version: Version, vrid: Vrid, adver_interval: AdverInterval, primary_address: IpAddr) -> Self {
        Self {
            version,
            vrid,
            priority: Priority::DEFAULT,
            adver_interval,
            preempt_mode: true,
            preempt_delay: Duration::ZERO,
            down_timer_adverts: 3,
            primary_address,
            start_active: true,
            answer_lower_priority: version == Version::V3,
            answer_higher_priority: false,
        }
    }

    /// With what cannot be otherwise set right: a priority of 0 is the lowest, the owner preempts (V3-OWN-1), and at
    /// least one advert must be missed.
    pub(super) fn normalized(mut self) -> Self {
        self.priority = self.priority.max(Priority::LOWEST);
        self.preempt_mode |= self.priority.is_owner();
        self.down_timer_adverts = self.down_timer_adverts.max(1);
        self
    }
}
