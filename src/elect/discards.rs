//! Counts what was discarded, and says so at most once a second for each reason.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::observe::event::Kind;

/// Least time between two events of one reason.
const GAP: Duration = Duration::from_secs(1);

/// Remembers, for each reason, when it was last reported and how many came since.
#[derive(Debug, Default)]
pub struct DiscardLog {
    reasons: HashMap<&'static str, Entry>,
}

#[derive(Debug)]
struct Entry {
    reported: Instant,
    since: u64,
}

impl DiscardLog {
    /// One more; gives the event to send if this reason was silent for a second.
    pub fn record(
        &mut self,
        now: Instant,
        instance: &str,
        peer: IpAddr,
        reason: &'static str,
        detail: impl FnOnce() -> String,
    ) -> Option<Kind> {
        let count = match self.reasons.get_mut(reason) {
            Some(entry) if now.saturating_duration_since(entry.reported) < GAP => {
                entry.since += 1;
                return None;
            }
            Some(entry) => {
                entry.reported = now;
                std::mem::take(&mut entry.since) + 1
            }
            None => {
                self.reasons.insert(reason, Entry { reported: now, since: 0 });
                1
            }
        };
        Some(Kind::Discarded {
            instance: instance.into(),
            peer,
            reason: reason.into(),
            detail: detail(),
            count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_event_a_second_for_each_reason_and_none_is_forgotten() {
        let start = Instant::now();
        let mut log = DiscardLog::default();
        let peer = "192.0.2.9".parse().unwrap();
        let mut events = Vec::new();
        for packet in 0..50_000_u32 {
            let now = start + Duration::from_micros(u64::from(packet) * 40); // 2 s
            let reason = if packet % 2 == 0 { "ttl" } else { "checksum" };
            events.extend(log.record(now, "V1", peer, reason, String::new));
        }
        assert_eq!(events.len(), 4);
        let after = start + Duration::from_secs(10);
        events.extend(log.record(after, "V1", peer, "ttl", String::new));
        let total: u64 = events
            .iter()
            .map(|event| match event {
                Kind::Discarded { reason, count, .. } if reason == "ttl" => *count,
                _ => 0,
            })
            .sum();
        assert_eq!(total, 25_001);
    }
}
