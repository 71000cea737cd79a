//! When to probe: ticks without drift, one run at a time, nothing longer than its timeout.

use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use config::ready::Check;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::Advice;
use super::entry::{Entry, Leaning, Phase};

/// A future that is known only at run time.
pub(super) type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// From SIGTERM to SIGKILL when the daemon stops.
const STOP_GRACE: Duration = Duration::from_secs(1);
/// Most that a first run is put off so that probes do not all start together.
const MAX_JITTER: Duration = Duration::from_millis(50);

/// Least time between two runs that somebody asked for, where no `fast_interval` says it.
const HURRY: Duration = Duration::from_millis(100);

/// What one run found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Healthy.
    pub(super) success: bool,
    /// Fit for the middle of a sentence.
    pub(super) detail: String,
    /// Number read from a file.
    pub(super) value: Option<i64>,
    /// What it says of a backend.
    pub(super) advice: Advice,
    /// What it noticed that is no failure, where it looked; `None`: as before.
    pub(super) findings: Option<Vec<String>>,
}

impl Outcome {
    /// A good result.
    pub(super) fn success(detail: impl Into<String>) -> Self {
        Self { success: true, detail: detail.into(), value: None, advice: Advice::default(), findings: None }
    }

    /// A bad result.
    pub(super) fn failure(detail: impl Into<String>) -> Self {
        Self { success: false, detail: detail.into(), value: None, advice: Advice::default(), findings: None }
    }
}

impl From<Result<String, String>> for Outcome {
    fn from(result: Result<String, String>) -> Self {
        match result {
            Ok(detail) => Self::success(detail),
            Err(detail) => Self::failure(detail),
        }
    }
}

/// One kind of probe.
pub(super) trait Probing: Send {
    /// Runs once and gives a result, at the latest when `timeout` is over. May be dropped at any time.
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome>;

    /// Ends when the next run would find something else; never where only looking helps. May be dropped and
    /// called again.
    fn changed(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Ends when nothing of the last run is left that must not meet the next one. May be dropped and
    /// called again.
    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    /// Ends what is still going on, by force after `grace`.
    fn stop(&mut self, _grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Probes at `check.interval` from start to start until `stop` is set or its sender is gone.
pub(super) async fn run(
    check: Check,
    mut probe: Box<dyn Probing>,
    entry: Arc<Entry>,
    mut stop: watch::Receiver<bool>,
) {
    let stopped = async { stop.wait_for(|stop| *stop).await.map(drop) };
    tokio::select! {
        biased;
        _ = stopped => {}
        () = probe_for_ever(&check, probe.as_mut(), &entry) => {}
    }
    probe.stop(STOP_GRACE).await;
}

async fn probe_for_ever(check: &Check, probe: &mut dyn Probing, entry: &Entry) {
    let mut ticks = Ticks {
        next: Instant::now() + first_delay(check),
        interval: check.interval.max(Duration::from_millis(1)),
        entry,
    };
    // Nobody may hurry more often than this.
    let pause = check.pace.fast_interval.unwrap_or(HURRY).min(check.interval);
    let mut rested = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = sleep_until(ticks.next) => ticks.next += ticks.interval,
            () = probe.changed(), if counts_changes(check) => {}
            () = async { sleep_until(rested).await; entry.hurried().await } => {
                ticks.next = Instant::now() + ticks.interval;
            }
        }
        let started = Instant::now();
        entry.enter(Phase::UnderWay);
        let outcome = ticks.skip_while(probe.probe(check.timeout)).await;
        entry.enter(Phase::Settling(Instant::now()));
        entry.record(outcome, started.elapsed());
        ticks.skip_while(probe.settle()).await;
        entry.enter(Phase::Over);
        rested = started + pause;
        ticks.pace(check, started);
    }
}

struct Ticks<'a> {
    next: Instant,
    interval: Duration,
    entry: &'a Entry,
}

impl Ticks<'_> {
    /// Leaves out every tick that comes before the future ends.
    async fn skip_while<T>(&mut self, mut future: BoxFuture<'_, T>) -> T {
        let mut said = false;
        loop {
            tokio::select! {
                biased;
                result = &mut future => {
                    self.skip_past();
                    return result;
                }
                () = sleep_until(self.next) => {
                    if !std::mem::replace(&mut said, true) {
                        warn!(check = self.entry.name(), "check is still running, run skipped");
                    }
                    self.skip(1);
                }
            }
        }
    }

    /// After a pause of the whole process many ticks may have passed at once.
    fn skip_past(&mut self) {
        let late = Instant::now().saturating_duration_since(self.next);
        if late > Duration::ZERO {
            let ticks = (late.as_nanos() - 1) / self.interval.as_nanos();
            self.skip(u32::try_from(ticks).unwrap_or(u32::MAX));
        }
    }

    /// After a run: another interval while the results go against the state or it is down, and a little more or
    /// less of it.
    fn pace(&mut self, check: &Check, started: Instant) {
        let interval = interval(check, self.entry.leaning());
        if interval == check.interval && (check.pace.exact || check.probe.only_looks()) {
            return;
        }
        let interval = if check.pace.exact { interval } else { spread(interval) };
        self.next = (started + interval).max(Instant::now());
    }

    fn skip(&mut self, ticks: u32) {
        self.entry.skipped(u64::from(ticks));
        self.next += self.interval.saturating_mul(ticks);
    }
}

/// A change decides at once. Where several results in a row are needed they come at the interval.
pub(super) fn counts_changes(check: &Check) -> bool {
    check.rise <= 1 && check.fall <= 1
}

/// HAProxy's `inter`, `fastinter` and `downinter`.
fn interval(check: &Check, leaning: Leaning) -> Duration {
    let other = match leaning {
        Leaning::Steady => None,
        Leaning::AgainstState => check.pace.fast_interval,
        Leaning::Down => check.pace.down_interval,
    };
    other.unwrap_or(check.interval).max(Duration::from_millis(1))
}

/// Up to 3 % more or less, so that checks that start together do not stay together.
fn spread(interval: Duration) -> Duration {
    let share = u32::try_from(draw() % 6001).unwrap_or(3000);
    interval * (97_000 + share) / 100_000
}

/// A random part of `first_delay`; without one the same for the same name at every start: below a twentieth of the
/// interval, at most 50 ms. Scripts that are exact start at once, as in keepalived, and what only looks at this host
/// does.
fn first_delay(check: &Check) -> Duration {
    if let Some(most) = check.pace.first_delay {
        return most.mul_f64((draw() % 1000) as f64 / 1000.0);
    }
    if check.probe.command().is_some() || check.probe.only_looks() {
        return Duration::ZERO;
    }
    // FNV-1a.
    let hash = check
        .name
        .bytes()
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    (check.interval / 20).min(MAX_JITTER) * (hash % 1000) / 1000
}

/// A number that nobody can foresee well; the standard library's hasher has a random key for each thread.
pub(super) fn draw() -> u64 {
    RandomState::new().build_hasher().finish()
}
