//! Octets, by whom they were answered. Connection tracking counts those of each flow, which costs an established packet
//! next to nothing (no rule sees it); what a flow had is told when it is forgotten.

use std::collections::HashMap;
use std::fs;
use std::io;

use super::conntrack::{Ends, Flow, Way};

/// Of the network namespace: flows that begin while it is 1 are counted.
const SWITCH: &str = "/proc/sys/net/netfilter/nf_conntrack_acct";

/// What has ended.
#[derive(Debug, Default)]
pub struct Counting {
    ends: Option<Ends>,
    ended: HashMap<Way, [u64; 2]>,
}

/// Has flows counted from now on. Whether they were not before.
///
/// # Errors
///
/// They cannot be, with what to do about it.
pub fn switch_on() -> Result<bool, String> {
    let explained = |error: io::Error| {
        format!(
            "octets are not counted ({SWITCH}: {error}): set net.netfilter.nf_conntrack_acct=1 (in a container, from outside)"
        )
    };
    if fs::read_to_string(SWITCH).map_err(explained)?.trim() != "0" {
        return Ok(false);
    }
    fs::write(SWITCH, "1").map_err(explained)?;
    Ok(true)
}

/// As it was before [`switch_on`].
pub fn switch_off() {
    let _ = fs::write(SWITCH, "0");
}

impl Counting {
    /// Begins to hear of flows that end, if it does not already.
    pub fn listen(&mut self) -> Result<(), String> {
        if self.ends.is_none() {
            let ends = Ends::listen()
                .map_err(|error| format!("octets of ended sessions are not counted: {error}"))?;
            self.ends = Some(ends);
        }
        Ok(())
    }

    /// Takes in what has ended, as far as it is ours.
    ///
    /// # Errors
    ///
    /// Some ends are missing, why, and what to do about it.
    pub fn read(&mut self, is_ours: impl Fn(&Flow) -> bool) -> Result<(), String> {
        let Some(ends) = &mut self.ends else { return Ok(()) };
        let ended = &mut self.ended;
        let is_whole = ends.read(|flow| {
            if is_ours(flow) {
                let sum = ended.entry(flow.way()).or_default();
                (sum[0], sum[1]) = (sum[0] + flow.octets[0], sum[1] + flow.octets[1]);
            }
        });
        match is_whole {
            Ok(true) => Ok(()),
            Ok(false) => Err("the octets of some ended sessions are not counted: more ended at once than there was room for".to_owned()),
            Err(error) => Err(format!("the octets of ended sessions are not counted: {error}")),
        }
    }

    /// Octets from clients and to them, of flows that have ended.
    pub fn ended(&self, way: &Way) -> [u64; 2] {
        self.ended.get(way).copied().unwrap_or_default()
    }

    /// Forgets what nobody will ask for.
    pub fn retain(&mut self, is_asked_for: impl Fn(&Way) -> bool) {
        self.ended.retain(|way, _| is_asked_for(way));
    }

    /// Hears of nothing any more.
    pub fn stop(&mut self) {
        *self = Self::default();
    }
}
