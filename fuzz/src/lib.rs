//! Inputs for the configuration that nobody wrote, and what must hold for each of them.
//!
//! No nightly compiler and no instrumentation: inputs are real configurations, mutated, and files from a
//! grammar. A run is repeated with `--seed`; an input that breaks a promise is kept in `fuzz/findings`.

use std::alloc::{GlobalAlloc, Layout, System};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use config::ready::User;
use config::users::Users;
use config::{LoadOptions, Loaded, load};
use nix::time::{ClockId, clock_gettime};

mod grammar;
mod mutate;
mod promise;
mod random;

pub use grammar::configuration;
pub use mutate::{Seeds, mutate};
pub use promise::{places, same_again};
pub use random::Random;

/// Longest input that the promises are made for.
pub const MOST_BYTES: usize = 64 * 1024;
/// Processor time for one of these.
const MOST_TIME: Duration = Duration::from_millis(100);
/// And for one with loops, unless they are refused for being endless: two lines of it make thousands of instances.
const MOST_TIME_OF_LOOPS: Duration = Duration::from_secs(1);
/// The quickest of so many counts: a busy machine, or one that is a guest on a busy machine, takes longer.
const ATTEMPTS: usize = 5;
/// Memory while one of these is read, above what there was before.
const MOST_MEMORY: usize = 256 << 20;

/// How long and how.
#[derive(Clone, Debug, clap::Parser)]
pub struct Options {
    /// Seconds to run.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// Where to begin; the same seed makes the same inputs.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Runs in a build without optimisation: time is not judged.
    #[arg(long)]
    pub slow: bool,
    /// Try these files instead.
    pub files: Vec<PathBuf>,
}

/// Runs a target on input after input until the time is over; `true` if every promise held.
pub fn run(
    name: &str,
    options: &Options,
    mut input: impl FnMut(&mut Random) -> (Vec<u8>, &'static str),
    check: impl Fn(&Attempt) -> Result<(), String>,
) -> bool {
    let folder = tempfile::tempdir().expect("a folder for the inputs");
    let end = Instant::now() + Duration::from_secs(options.seconds);
    let mut files = options.files.iter();
    let (mut runs, mut findings, mut loaded) = (0u64, 0u64, 0u64);
    let (mut slowest, mut largest) = (Duration::ZERO, 0);
    std::panic::set_hook(Box::new(|_| {}));
    while Instant::now() < end && findings < 20 {
        let mut random = Random::new(options.seed.wrapping_add(runs));
        let (bytes, extension) = match (files.next(), options.files.is_empty()) {
            (Some(file), _) => (std::fs::read(file).unwrap_or_default(), extension(file)),
            (None, false) => break,
            (None, true) => input(&mut random),
        };
        let path = folder.path().join(format!("input.{extension}"));
        std::fs::write(&path, &bytes).expect("the folder takes the input");
        let attempt = Attempt { path, bytes, slow: options.slow };
        let result = catch_unwind(AssertUnwindSafe(|| {
            let loaded = attempt.load()?;
            let runs = loaded.loaded.config.is_some();
            check(&attempt).map(|()| (runs, loaded.time, loaded.memory))
        }));
        match result {
            Ok(Ok((runs, time, memory))) => {
                loaded += u64::from(runs);
                slowest = slowest.max(time);
                largest = largest.max(memory);
            }
            Ok(Err(why)) => report(name, options, runs, &attempt, &why, &mut findings),
            Err(panic) => {
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or(panic.downcast_ref::<&str>().copied()).unwrap_or("no text");
                report(name, options, runs, &attempt, &format!("panic: {text}"), &mut findings);
            }
        }
        runs += 1;
    }
    println!(
        "{name}: {runs} inputs, {loaded} of them run, {findings} findings; slowest {slowest:?}, most memory {} KiB",
        largest / 1024
    );
    findings == 0
}

fn extension(file: &Path) -> &'static str {
    match file.extension().and_then(|end| end.to_str()) {
        Some("toml") => "toml",
        Some("cfg") => "cfg",
        _ => "conf",
    }
}

fn report(name: &str, options: &Options, run: u64, attempt: &Attempt, why: &str, findings: &mut u64) {
    *findings += 1;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("findings");
    let seed = options.seed.wrapping_add(run);
    let kept = folder.join(format!("{name}-{seed}.{}", extension(&attempt.path)));
    let saved = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&kept, &attempt.bytes));
    println!("seed {seed}: {why}");
    match saved {
        Ok(()) => println!("    kept as {}", kept.display()),
        Err(error) => println!("    not kept: {error}"),
    }
}

/// One input.
pub struct Attempt {
    /// Where it stands.
    pub path: PathBuf,
    /// What it is.
    pub bytes: Vec<u8>,
    slow: bool,
}

/// What came of it.
pub struct Outcome {
    /// The configuration and the findings.
    pub loaded: Loaded,
    /// Processor time.
    pub time: Duration,
    /// Bytes at most above what there was.
    pub memory: usize,
}

impl Attempt {
    /// Loads it; time and memory are within their bounds.
    ///
    /// # Errors
    /// Which bound was broken, and by how much.
    pub fn load(&self) -> Result<Outcome, String> {
        let Outcome { loaded, mut time, memory } = self.load_once();
        let loops = [b"~SEQ", b"~LST"].iter().any(|loops| self.bytes.windows(4).any(|part| part == *loops));
        let refused = loaded.diagnostics.iter().any(|finding| finding.code == "too-large");
        let most = if loops && !refused { MOST_TIME_OF_LOOPS } else { MOST_TIME };
        for _ in 1..ATTEMPTS {
            if time > most {
                time = time.min(self.load_once().time);
            }
        }
        if !self.slow && self.bytes.len() <= MOST_BYTES && time > most {
            return Err(format!("{time:?} of the processor for {} bytes", self.bytes.len()));
        }
        if memory > MOST_MEMORY {
            return Err(format!("{} KiB of memory for {} bytes", memory / 1024, self.bytes.len()));
        }
        Ok(Outcome { loaded, time, memory })
    }
}

impl Attempt {
    fn load_once(&self) -> Outcome {
        let before = COUNTING.start();
        let start = processor_time();
        let loaded = load(&[&self.path], &options());
        let time = processor_time().saturating_sub(start);
        let memory = COUNTING.most.load(Ordering::Relaxed).saturating_sub(before);
        Outcome { loaded, time, memory }
    }
}

/// Fixed, so that the host does not matter.
pub fn options() -> LoadOptions {
    LoadOptions {
        config_id: Some("lb1".into()),
        host_name: Some("lb1.example.org".into()),
        users: Users::Fixed(vec![User { name: "root".into(), uid: 0, gid: 0 }]),
        ..LoadOptions::default()
    }
}

fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

/// Counts what is allocated. There is one thread, so nothing is lost between reading a counter and writing it.
pub struct Counting {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// All of this process.
#[global_allocator]
pub static COUNTING: Counting = Counting { now: AtomicUsize::new(0), most: AtomicUsize::new(0) };

impl Counting {
    /// Forgets the most there was; gives what there is.
    fn start(&self) -> usize {
        let now = self.now.load(Ordering::Relaxed);
        self.most.store(now, Ordering::Relaxed);
        now
    }

    fn more(&self, size: usize) {
        let now = self.now.load(Ordering::Relaxed).wrapping_add(size);
        self.now.store(now, Ordering::Relaxed);
        if now > self.most.load(Ordering::Relaxed) {
            self.most.store(now, Ordering::Relaxed);
        }
    }

    fn less(&self, size: usize) {
        self.now.store(self.now.load(Ordering::Relaxed).wrapping_sub(size), Ordering::Relaxed);
    }
}

// SAFETY: every call is handed to the system's allocator as it is; the counters allocate nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.more(layout.size());
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        self.more(size);
        self.less(layout.size());
        // SAFETY: the pointer came from `alloc` above with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        self.less(layout.size());
        // SAFETY: the pointer came from `alloc` above with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }
}
