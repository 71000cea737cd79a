//! Sessions that wait for a place at a backend: first come, first served.
//!
//! Whoever waits has its client and no socket for a backend. The listener's `max_sessions` counts it, so that no
//! flood makes this longer than that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::path::Waiter;
use crate::observe::status::{Histogram, QueueStatus};

/// Those at the front who are asked whether a place suits them: who has tried a backend does not want it again.
pub const ASKED: usize = 64;

/// One who waits.
#[derive(Debug)]
pub struct Waiting {
    /// To call it.
    pub waiter: Waiter,
    /// Since when.
    pub since: Instant,
    /// Backends that it has tried, as numbered in this generation of the listener.
    pub tried: Vec<u16>,
    /// Of the listener.
    pub generation: u64,
    /// Its entry of the persistence table, if it has one.
    pub tag: u32,
    /// Hash of its address.
    pub client: u64,
}

/// The queue of a listener.
#[derive(Debug, Default)]
pub struct Queue {
    /// By ticket: in the order in which they came.
    waiting: BTreeMap<u64, Waiting>,
    last_ticket: u64,
    max: u64,
    timed_out: u64,
    waited: Histogram,
}

impl Queue {
    /// Who waits.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody does.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The first ones.
    pub fn front(&self) -> impl Iterator<Item = (u64, &Waiting)> {
        self.waiting.iter().take(ASKED).map(|(ticket, waiting)| (*ticket, waiting))
    }

    /// Gets a ticket, never 0.
    pub fn join(&mut self, waiting: Waiting) -> u64 {
        self.last_ticket += 1;
        self.waiting.insert(self.last_ticket, waiting);
        self.max = self.max.max(self.waiting.len() as u64);
        self.last_ticket
    }

    /// It has a place.
    pub fn call(&mut self, ticket: u64, now: Instant) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.waited.record(now.saturating_duration_since(waiting.since));
        Some(waiting)
    }

    /// It has waited for so long, or its client is gone. `None`: it was called.
    pub fn leave(&mut self, ticket: u64, now: Instant, at_most: Duration) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        if now.saturating_duration_since(waiting.since) >= at_most {
            self.timed_out += 1;
        }
        Some(waiting)
    }

    /// What is.
    pub fn status(&self) -> QueueStatus {
        QueueStatus {
            waiting: self.waiting.len() as u64,
            max: self.max,
            total: self.last_ticket,
            timed_out: self.timed_out,
            waited: self.waited.clone(),
        }
    }
}
