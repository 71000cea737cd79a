//! One timer for the whole engine, precise to microseconds: tokio's own rounds up to milliseconds.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
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

    /// Becomes readable at `deadline` or before, at once if that is past. `None`: it need not.
    ///
    /// A deadline that has moved away (with every advert that a Backup hears) costs nothing: the timer expires where
    /// it was, and is armed for the new one then.
    ///
    /// # Errors
    /// From the kernel.
    pub fn arm(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else { return Ok(()) };
        if self.armed.is_some_and(|armed| armed <= deadline) {
            return Ok(());
        }
        self.armed = Some(deadline);
        // Relative, since an `Instant` does not tell its absolute value; zero would disarm.
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_nanos(1));
        self.fd.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())?;
        Ok(())
    }

    /// Takes the expiration; to be called when it is readable.
    pub fn acknowledge(&mut self) {
        self.armed = None;
        // EAGAIN: rearmed meanwhile. Both ways nothing is left to read.
        let _ = self.fd.wait();
    }
}

impl AsFd for Timer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_fd().as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn expires_within(timer: &Timer, limit: u16) -> bool {
        let mut waiting = [PollFd::new(timer.fd.as_fd(), PollFlags::POLLIN)];
        poll(&mut waiting, PollTimeout::from(limit)).unwrap() == 1
    }

    #[test]
    fn it_expires_at_the_earliest_deadline_it_was_given_and_then_at_the_last() {
        let start = Instant::now();
        let mut timer = Timer::new().unwrap();
        timer.arm(Some(start + Duration::from_secs(3600))).unwrap();
        timer.arm(Some(start + Duration::from_millis(20))).unwrap();
        timer.arm(Some(start + Duration::from_millis(40))).unwrap();
        assert!(expires_within(&timer, 5000));
        assert!(start.elapsed() >= Duration::from_millis(20));
        timer.acknowledge();
        assert!(!expires_within(&timer, 0));
        timer.arm(Some(start + Duration::from_millis(40))).unwrap();
        assert!(expires_within(&timer, 5000));
        assert!(start.elapsed() >= Duration::from_millis(40));
    }
}
