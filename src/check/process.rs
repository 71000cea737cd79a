//! Are enough processes of a name alive? The kernel tells what starts and ends; see [`monitor`].

mod connector;
mod matching;
pub(super) mod monitor;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use config::ready::ProcessProbe;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use self::monitor::Monitor;
use super::Spoken;
use super::blocking::Blocking;
use super::schedule::{BoxFuture, Outcome, Probing};

/// Counts the processes of one name.
#[derive(Debug)]
pub(super) struct ProcessCheck {
    wanted: ProcessProbe,
    monitor: Arc<Monitor>,
    begin: Blocking<io::Result<watch::Receiver<u32>>>,
    count: Option<watch::Receiver<u32>>,
    quorum: Quorum,
}

impl ProcessCheck {
    pub(super) fn new(wanted: ProcessProbe, monitor: Arc<Monitor>) -> Self {
        let quorum = Quorum { gain: wanted.fork_delay, lose: wanted.terminate_delay, ..Quorum::default() };
        Self { wanted, monitor, begin: Blocking::default(), count: None, quorum }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let count = match &mut self.count {
            Some(count) => count,
            none => {
                let (monitor, wanted) = (Arc::clone(&self.monitor), self.wanted.clone());
                let begin = self.begin.ask(move || monitor.watch(wanted));
                match tokio::time::timeout(timeout, begin).await {
                    Ok(Ok(Ok(count))) => none.insert(count),
                    Ok(Ok(Err(error)) | Err(error)) => {
                        return Outcome::failure(format!("/proc not read: {}", Spoken(&error)));
                    }
                    Err(_) => return Outcome::failure(format!("/proc not read after {}", Spoken(timeout))),
                }
            }
        };
        let found = *count.borrow_and_update();
        let outcome = judge(&self.wanted, found);
        match self.quorum.settle(outcome.success, Instant::now()) {
            settled if settled == outcome.success => outcome,
            true => Outcome::success(format!("{}, not for long enough yet", outcome.detail)),
            false => Outcome::failure(format!("{}, not for long enough yet", outcome.detail)),
        }
    }
}

impl Probing for ProcessCheck {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }

    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let Some(count) = &mut self.count else { return std::future::pending().await };
            let due = self.quorum.due();
            let counted = async {
                if count.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = counted => {}
                () = async { sleep_until(due.expect("asked for only then")).await }, if due.is_some() => {}
            }
        })
    }
}

/// Gained and lost with delay: a change that is undone within its delay has no effect.
#[derive(Debug, Default)]
struct Quorum {
    /// `fork_delay`.
    gain: Duration,
    /// `terminate_delay`.
    lose: Duration,
    settled: Option<bool>,
    /// When what is there now counts.
    changes_at: Option<Instant>,
}

impl Quorum {
    /// Takes what is there now, and gives what counts. The first one counts at once.
    fn settle(&mut self, now_there: bool, now: Instant) -> bool {
        let settled = *self.settled.get_or_insert(now_there);
        if settled == now_there {
            self.changes_at = None;
            return settled;
        }
        let delay = if now_there { self.gain } else { self.lose };
        if now < *self.changes_at.get_or_insert(now + delay) {
            return settled;
        }
        self.changes_at = None;
        self.settled = Some(now_there);
        now_there
    }

    fn due(&self) -> Option<Instant> {
        self.changes_at
    }
}

fn judge(wanted: &ProcessProbe, found: u32) -> Outcome {
    let ProcessProbe { name, quorum, quorum_max, .. } = wanted;
    let processes = if found == 1 { "process" } else { "processes" };
    let said = format!("{found} {processes} {name}");
    match quorum_max {
        Some(most) if found > *most => Outcome::failure(format!("{said}, at most {most} expected")),
        // keepalived: with `quorum_max 0` none is what is wanted.
        Some(0) => Outcome::success(said),
        _ if found < *quorum => Outcome::failure(format!("{said}, at least {quorum} expected")),
        _ => Outcome::success(said),
    }
}

#[cfg(test)]
#[path = "process/tests.rs"]
mod tests;
