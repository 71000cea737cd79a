//! Who may measure at the same time.
//!
//! One test at a time: it may run many labs beside each other, but nobody else's labs may come and go
//! meanwhile. `cargo test` runs threads and `cargo nextest` processes, so the turn is a file lock beside
//! the build's output.

use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

use crate::Stamp;

/// Held while a test measures.
#[derive(Debug)]
pub struct Turn {
    _lock: Flock<File>,
}

impl Turn {
    /// Waits for it.
    ///
    /// # Panics
    ///
    /// When there is no place for the lock.
    pub fn alone() -> Self {
        let program = std::env::current_exe().expect("a test knows its program");
        let path = program.with_file_name("netns-tests.lock");
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let lock = Flock::lock(file, FlockArg::LockExclusive)
            .unwrap_or_else(|(_, error)| panic!("{}: {error}", path.display()));
        Self { _lock: lock }
    }
}

/// How late the machine itself was: on each processor a thread that does nothing but wake up every
/// millisecond.
#[derive(Debug)]
pub struct StallWatch {
    stop: Arc<AtomicBool>,
    late: Arc<Mutex<Vec<(Stamp, Duration)>>>,
}

impl StallWatch {
    /// Starts watching.
    pub fn start() -> Self {
        let watch = Self { stop: Arc::default(), late: Arc::default() };
        for processor in 0..nix::sched::CpuSet::count() {
            let mut only = nix::sched::CpuSet::new();
            only.set(processor).expect("below the count");
            let (stop, late) = (watch.stop.clone(), watch.late.clone());
            if thread::available_parallelism().is_ok_and(|count| processor < count.get()) {
                thread::spawn(move || wake_up_again_and_again(only, &stop, &late));
            }
        }
        watch
    }

    /// The longest stall that touched this window.
    pub fn longest(&self, from: Stamp, to: Stamp) -> Duration {
        let late = self.late.lock().expect("not poisoned");
        late.iter()
            .filter(|(end, lateness)| *end >= from && end.saturating_sub(*lateness) <= to)
            .map(|(_, lateness)| *lateness)
            .max()
            .unwrap_or_default()
    }
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Records every time it was late.
fn wake_up_again_and_again(
    processor: nix::sched::CpuSet,
    stop: &AtomicBool,
    late: &Mutex<Vec<(Stamp, Duration)>>,
) {
    crate::host::step_forward();
    // Where it may not choose its processor it still watches one.
    let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &processor);
    let step = Duration::from_millis(1);
    while !stop.load(Ordering::Relaxed) {
        let due = Instant::now() + step;
        thread::sleep(step);
        let lateness = due.elapsed();
        if lateness > Duration::from_micros(500) {
            late.lock().expect("not poisoned").push((crate::now(), lateness));
        }
    }
}
