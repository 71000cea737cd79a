//! Pipes for spliced bytes, shared by the sessions of one loop and held only while bytes are in them.

use std::os::fd::OwnedFd;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::pipe2;

/// Pipes that are kept for the next burst.
const KEPT: usize = 32;

/// Bytes that a pipe may hold; the kernel grants less to a user with many pipes.
pub const CAPACITY: usize = 64 * 1024;

/// An empty pipe.
#[derive(Debug)]
pub struct Pipe {
    /// Out of which.
    pub read: OwnedFd,
    /// Into which.
    pub write: OwnedFd,
}

/// The pipes of one loop.
#[derive(Debug)]
pub struct Pipes {
    free: Vec<Pipe>,
    /// Those that exist, free or not.
    made: usize,
    most: usize,
}

impl Pipes {
    /// At most so many at a time: each is two descriptors that sessions lack.
    pub fn new(most: usize) -> Self {
        Self { free: Vec::new(), made: 0, most }
    }

    /// An empty one. `None`: there are none to be had, so copy.
    pub fn take(&mut self) -> Option<Pipe> {
        if let Some(pipe) = self.free.pop() {
            return Some(pipe);
        }
        if self.made >= self.most {
            return None;
        }
        let (read, write) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).ok()?;
        // Refused beyond /proc/sys/fs/pipe-user-pages-soft: a small pipe works too.
        let _ = fcntl(&write, FcntlArg::F_SETPIPE_SZ(CAPACITY as i32));
        self.made += 1;
        Some(Pipe { read, write })
    }

    /// Gives back one that is empty.
    pub fn give(&mut self, pipe: Pipe) {
        if self.free.len() < KEPT {
            self.free.push(pipe);
        } else {
            self.lose(pipe);
        }
    }

    /// Gives back one that is not: the bytes in it are lost with it.
    pub fn lose(&mut self, pipe: Pipe) {
        drop(pipe);
        self.made -= 1;
    }

    /// Descriptors for sessions instead.
    pub fn clear(&mut self) {
        self.made -= self.free.len();
        self.free = Vec::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pipes_are_used_again_and_never_more_than_allowed() {
        let mut pipes = Pipes::new(2);
        let (first, second) = (pipes.take().unwrap(), pipes.take().unwrap());
        assert!(pipes.take().is_none());
        pipes.give(first);
        assert_eq!((pipes.free.len(), pipes.made), (1, 2));
        let first = pipes.take().unwrap();
        pipes.lose(second);
        assert_eq!((pipes.free.len(), pipes.made), (0, 1));
        pipes.give(first);
        pipes.clear();
        assert_eq!((pipes.free.len(), pipes.made), (0, 0));
    }
}
