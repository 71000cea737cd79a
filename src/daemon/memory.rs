//! What was needed for a moment goes back to the kernel.
//!
//! Reading a configuration of 1000 instances takes 6 MB for a moment; what stays of it lies between the pieces that are
//! free again.

use std::sync::Arc;
use std::time::Duration;

use config::ready::Config;

use crate::elect;

/// To be called before anything large is allocated.
///
/// glibc otherwise takes the largest piece that was ever freed as the measure of what to keep.
pub fn keep_small() {
    #[cfg(target_env = "gnu")]
    {
        const PIECE: nix::libc::c_int = 128 * 1024;
        // SAFETY: sets two numbers of the allocator; an error changes nothing.
        unsafe {
            nix::libc::mallopt(nix::libc::M_MMAP_THRESHOLD, PIECE);
            nix::libc::mallopt(nix::libc::M_TRIM_THRESHOLD, PIECE);
        }
    }
}

/// Gives free pages between the used ones back too. Not beside a running engine: see [`give_back_beside`].
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: takes the allocator's own locks; 0 keeps nothing in reserve.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

/// By then a first election is over, which takes more than what follows.
const SETTLED: Duration = Duration::from_secs(10);

/// Gives back what the start took, once it is over. On a runtime.
pub fn give_back_later(config: Arc<Config>) {
    tokio::spawn(async move {
        tokio::time::sleep(SETTLED).await;
        give_back_beside(&config);
    });
}

/// The same while the engine runs. One part of the heap after the other is locked meanwhile (0.4 ms for 11 MiB in all);
/// on a thread as urgent as the engine, so that the engine never waits for one that does not get a processor.
pub fn give_back_beside(config: &Config) {
    match &config.engine {
        // What is locked stays.
        engine if engine.lock_memory => {}
        // No advert can be late.
        _ if config.instances.is_empty() => give_back(),
        engine => elect::as_urgent_as_engine(engine.clone(), "vipd-memory", give_back),
    }
}
