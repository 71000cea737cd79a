//! The kernel's membership reports for link-local groups (224.0.0.x), off while the engine runs
//! (keepalived's `disable_local_igmp`).

use std::io;
use std::path::Path;

const REPORTS: &str = "/proc/sys/net/ipv4/igmp_link_local_mcast_reports";

/// Off as long as it lives; then as it was before.
#[derive(Debug)]
pub struct LocalReportsOff {
    before: String,
}

impl LocalReportsOff {
    /// Turns them off in the network namespace of this thread.
    ///
    /// # Errors
    /// The kernel has no such setting (before 4.3), or does not let this process change it.
    pub fn new() -> io::Result<Self> {
        let before = std::fs::read_to_string(REPORTS)?;
        std::fs::write(Path::new(REPORTS), "0")?;
        Ok(Self { before })
    }
}

impl Drop for LocalReportsOff {
    fn drop(&mut self) {
        // It could be written before; if not any more, nobody is left to tell.
        let _ = std::fs::write(Path::new(REPORTS), self.before.trim());
    }
}
