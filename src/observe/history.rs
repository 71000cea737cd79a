//! The last events, for those who come later; and every new one, for those who wait.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{self, error::RecvError};

use super::event::Event;

/// How many events are kept unless told otherwise.
pub const KEPT: usize = 1000;

/// New events that a follower may fall behind before it reads from the kept ones again.
const BEHIND: usize = 256;

/// An event with its number.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Recorded {
    /// Counted from 1 since the start of the daemon, without gaps.
    pub number: u64,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// A bounded memory of events.
#[derive(Debug)]
pub struct History {
    kept: Mutex<Kept>,
    news: broadcast::Sender<Recorded>,
}

#[derive(Debug)]
struct Kept {
    most: usize,
    last: u64,
    events: VecDeque<Recorded>,
}

impl Default for History {
    fn default() -> Self {
        Self::new(KEPT)
    }
}

impl History {
    /// Keeps at most so many events.
    pub fn new(most: usize) -> Self {
        let kept = Kept { most, last: 0, events: VecDeque::with_capacity(most) };
        Self { kept: Mutex::new(kept), news: broadcast::Sender::new(BEHIND) }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps an event and tells the followers. Gives its number.
    pub fn record(&self, event: Event) -> u64 {
        let mut kept = self.kept();
        kept.last += 1;
        let recorded = Recorded { number: kept.last, event };
        if kept.events.len() == kept.most {
            kept.events.pop_front();
        }
        if kept.most > 0 {
            kept.events.push_back(recorded.clone());
        }
        // Under the lock, so that a follower sees each event once: kept or new.
        let _ = self.news.send(recorded);
        kept.last
    }

    /// Those kept events that have a higher number, the oldest first.
    pub fn since(&self, number: u64) -> Vec<Recorded> {
        self.kept().after(number)
    }

    /// The newest so many, the oldest of them first.
    pub fn last(&self, most: usize) -> Vec<Recorded> {
        let kept = self.kept();
        kept.events.iter().skip(kept.events.len().saturating_sub(most)).cloned().collect()
    }

    /// Every new one.
    pub fn news(&self) -> broadcast::Receiver<Recorded> {
        self.news.subscribe()
    }

    /// The same as [`since`](Self::since), and from then on every new one.
    pub fn follow(&self, number: u64) -> Follower<'_> {
        let kept = self.kept();
        let ready = kept.after(number).into();
        Follower { history: self, news: self.news.subscribe(), ready, seen: number }
    }
}

impl Kept {
    fn after(&self, number: u64) -> Vec<Recorded> {
        self.events.iter().filter(|recorded| recorded.number > number).cloned().collect()
    }
}

/// Gives events in their order, each once.
#[derive(Debug)]
pub struct Follower<'a> {
    history: &'a History,
    news: broadcast::Receiver<Recorded>,
    ready: VecDeque<Recorded>,
    seen: u64,
}

impl Follower<'_> {
    /// The next event; waits for it. Who is so slow that an event is kept no longer sees a gap in the numbers.
    pub async fn next(&mut self) -> Option<Recorded> {
        loop {
            let recorded = match self.ready.pop_front() {
                Some(recorded) => recorded,
                None => match self.news.recv().await {
                    Ok(recorded) => recorded,
                    Err(RecvError::Lagged(_)) => {
                        self.ready = self.history.since(self.seen).into();
                        continue;
                    }
                    Err(RecvError::Closed) => return None,
                },
            };
            if recorded.number > self.seen {
                self.seen = recorded.number;
                return Some(recorded);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::observe::event::Kind;

    fn notice(text: &str) -> Event {
        Event { at: SystemTime::UNIX_EPOCH, kind: Kind::Notice { text: text.into() } }
    }

    fn numbers(recorded: &[Recorded]) -> Vec<u64> {
        recorded.iter().map(|r| r.number).collect()
    }

    #[test]
    fn the_oldest_events_make_room() {
        let history = History::new(3);
        for _ in 0..5 {
            history.record(notice("x"));
        }
        assert_eq!(numbers(&history.since(0)), [3, 4, 5]);
        assert_eq!(numbers(&history.since(4)), [5]);
        assert_eq!(numbers(&history.since(5)), [0; 0]);
    }

    #[tokio::test]
    async fn a_follower_gets_the_kept_and_the_new_events_once_each() {
        let history = History::new(10);
        for _ in 0..3 {
            history.record(notice("before"));
        }
        let mut follower = history.follow(1);
        history.record(notice("after"));
        for wanted in [2, 3, 4] {
            assert_eq!(follower.next().await.unwrap().number, wanted);
        }
    }

    #[tokio::test]
    async fn a_follower_that_fell_behind_reads_on_from_the_kept_events() {
        let history = History::new(1000);
        let mut follower = history.follow(0);
        let last = 2 * BEHIND as u64;
        for _ in 0..last {
            history.record(notice("x"));
        }
        for wanted in 1..=last {
            assert_eq!(follower.next().await.unwrap().number, wanted);
        }
        history.record(notice("new"));
        assert_eq!(follower.next().await.unwrap().number, last + 1);
    }

    #[test]
    fn a_recorded_event_is_one_flat_object() {
        let recorded = Recorded { number: 7, event: notice("hello") };
        let json = serde_json::to_value(&recorded).unwrap();
        assert_eq!((json["number"].as_u64(), json["event"].as_str()), (Some(7), Some("notice")));
        assert_eq!(serde_json::from_value::<Recorded>(json).unwrap(), recorded);
    }
}
