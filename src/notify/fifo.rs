//! A named pipe that gets a line for every change. Never blocks: what does not fit is lost and counted.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use config::ready::User;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid};

/// An open pipe.
#[derive(Debug)]
pub(super) struct Pipe {
    path: PathBuf,
    file: File,
    made_here: bool,
}

impl Pipe {
    /// Makes the pipe if it is missing (mode 0600 less umask, owned by `user`) and opens it for reading
    /// and writing, so that lines wait in it while nobody reads.
    ///
    /// # Errors
    /// It cannot be made or opened, or something else is in its place.
    pub(super) fn open(path: &Path, user: Option<&User>) -> io::Result<Self> {
        let made_here = match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
            Ok(()) => true,
            Err(Errno::EEXIST) => false,
            Err(error) => return Err(error.into()),
        };
        if !std::fs::symlink_metadata(path)?.file_type().is_fifo() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it is there, but it is no named pipe"));
        }
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
        let file = File::options().read(true).write(true).custom_flags(flags).open(path)?;
        if let (true, Some(user)) = (made_here, user) {
            let (uid, gid) = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
            nix::unistd::fchown(file.as_fd(), Some(uid), Some(gid))?;
        }
        Ok(Self { path: path.to_owned(), file, made_here })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the whole line or nothing: shorter than PIPE_BUF, it is never torn.
    ///
    /// # Errors
    /// `WouldBlock` when the pipe is full.
    pub(super) fn write(&mut self, line: &str) -> io::Result<()> {
        self.file.write_all(line.as_bytes())
    }

    /// Somebody has read everything.
    pub(super) fn is_empty(&self) -> bool {
        let mut wanted = [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut wanted, PollTimeout::ZERO), Ok(0))
    }

    /// Removes it if it was made here.
    pub(super) fn remove(self) -> io::Result<()> {
        if self.made_here { std::fs::remove_file(&self.path) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_missing_pipe_is_made_for_its_owner_alone_and_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let pipe = Pipe::open(&path, None).unwrap();
        let metadata = std::fs::metadata(&path).unwrap();
        assert!(metadata.file_type().is_fifo());
        assert_eq!(metadata.permissions().mode() & 0o177, 0);
        pipe.remove().unwrap();
        assert!(!path.exists());
    }

    #[test]
    fn a_pipe_of_somebody_else_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        Pipe::open(&path, None).unwrap().remove().unwrap();
        assert!(path.exists());
    }

    #[test]
    fn another_file_in_its_place_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        std::fs::write(&path, "mine").unwrap();
        assert!(Pipe::open(&path, None).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn lines_wait_for_a_reader_and_a_full_pipe_refuses_whole_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let mut pipe = Pipe::open(&path, None).unwrap();
        assert!(pipe.is_empty());
        let line = "INSTANCE \"V1\" MASTER 100\n";
        let mut written = 0;
        let error = loop {
            match pipe.write(line) {
                Ok(()) => written += line.len(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(!pipe.is_empty());
        let mut text = vec![0; written];
        File::open(&path).unwrap().read_exact(&mut text).unwrap();
        assert_eq!(text, line.repeat(written / line.len()).as_bytes());
        assert!(pipe.is_empty());
    }
}
