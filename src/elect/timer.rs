//! One timer for the whole engine, precise to microseconds: tokio's own rounds up to milliseconds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

/// A timerfd on CLOCK_MONOTONIC, armed for one deadline at a time.
#[derive(Debug)]
pub struct Timer {
    fd: TimerFd,
    armed: Option<Instant>,
}

impl Timer {
    /// An unarmed timer.
    ///
    /// # Errors
    /// Out of file descriptors.
    pub fn new() -> io::Result<Self> {
        let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
        Ok(Self { fd: TimerFd::new(ClockId::CLOCK_MONOTONIC, flags)?, armed: None })
    }

    /// Becomes readable at `deadline`, at once if that is past. `None` disarms.
    ///
    /// # Errors
    /// From the kernel.
    pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        if self.armed == deadline {
            return Ok(());
        }
        self.armed = deadline;
        match deadline {
            None => self.fd.unset()?,
            Some(deadline) => {
                // Relative, since an `Instant` does not tell its absolute value; zero would disarm.
                let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
                self.fd
                    .set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())?;
            }
        }
        Ok(())
    }

    /// Takes the expiration; to be called when it is readable.
    pub fn acknowledge(&mut self) {
        self.armed = None;
        // EAGAIN: rearmed meanwhile. Both ways nothing is left to read.
        let _ = self.fd.wait();
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}
