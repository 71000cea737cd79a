//! Instances that change state together.

use serde::Serialize;

use super::{Notify, Place, TrackBfd, TrackCheck, TrackInterface, is_default};

/// Instances that are Active together or not at all (`vrrp_sync_group`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SyncGroup {
    /// Unique among groups.
    pub name: String,
    /// Names of instances that exist, each in one group only.
    pub members: Vec<String>,
    /// Act on every member.
    #[serde(skip_serializing_if = "is_default")]
    pub track_checks: Vec<TrackCheck>,
    /// Act on every member.
    #[serde(skip_serializing_if = "is_default")]
    pub track_interfaces: Vec<TrackInterface>,
    /// Act on every member.
    #[serde(skip_serializing_if = "is_default")]
    pub track_bfd: Vec<TrackBfd>,
    /// Weights of the members count (`sync_group_tracking_weight`); members may then differ in priority.
    pub tracking_weight: bool,
    /// Scripts of the group; `any` gets `GROUP NAME STATE 0`. There is no `deleted`.
    pub notify: Notify,
    /// Mail when the group changes state.
    pub smtp_alert: bool,
    /// Where it begins.
    pub place: Place,
}

impl SyncGroup {
    /// Equal, apart from where it was written.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        Self { place: other.place.clone(), ..self.clone() } == *other
    }
}
