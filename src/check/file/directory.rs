//! News of one directory (inotify(7)).

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Which directory it is, whatever it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Id {
    device: u64,
    inode: u64,
}

impl Id {
    /// Follows links.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self { device: metadata.dev(), inode: metadata.ino() })
    }
}

/// A directory that tells what happens in it from now on.
#[derive(Debug)]
pub(super) struct Directory {
    inotify: Inotify,
    id: Id,
}

impl Directory {
    /// `None` where others can change files without a word to us.
    ///
    /// # Errors
    /// There is no such directory, or the system's limit of watches is reached.
    pub(super) fn watch(path: &Path) -> io::Result<Option<Self>> {
        if is_silent(path)? {
            return Ok(None);
        }
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        inotify.add_watch(path, changes)?;
        Ok(Some(Self { inotify, id: Id::of(path)? }))
    }
}

/// What was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The file is another one, or holds something else; or news were lost.
    Changed,
    /// The directory will tell nothing more.
    Gone,
}

/// tokio waits for numbers.
#[derive(Debug)]
struct Descriptor(Inotify);

impl AsRawFd for Descriptor {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// A directory whose news are waited for.
#[derive(Debug)]
pub(super) struct Watched {
    inotify: AsyncFd<Descriptor>,
    id: Id,
}

impl Watched {
    /// # Errors
    /// The runtime cannot wait for it.
    pub(super) fn new(directory: Directory) -> io::Result<Self> {
        let Directory { inotify, id } = directory;
        // SAFETY: the descriptor is owned by what is registered, and does not change.
        let inotify = unsafe { AsyncFd::register_with_interest(Descriptor(inotify), Interest::READABLE) }?;
        Ok(Self { inotify, id })
    }

    pub(super) fn id(&self) -> Id {
        self.id
    }

    /// Ends when something happens to this file.
    pub(super) async fn news_of(&mut self, name: &OsStr) -> News {
        loop {
            let Ok(mut ready) = self.inotify.readable().await else { return News::Gone };
            match ready.get_inner().0.read_events() {
                Ok(events) => {
                    let gone = AddWatchFlags::IN_IGNORED
                        | AddWatchFlags::IN_DELETE_SELF
                        | AddWatchFlags::IN_MOVE_SELF
                        | AddWatchFlags::IN_UNMOUNT;
                    if events.iter().any(|event| event.mask.intersects(gone)) {
                        return News::Gone;
                    }
                    let concerns = |event: &nix::sys::inotify::InotifyEvent| {
                        event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW)
                            || event.name.as_deref() == Some(name)
                    };
                    if events.iter().any(concerns) {
                        return News::Changed;
                    }
                }
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(_) => return News::Gone,
            }
        }
    }
}

/// File systems where inotify sees at most what this host does (`linux/magic.h`).
fn is_silent(path: &Path) -> io::Result<bool> {
    const SILENT: [u32; 20] = [
        0x6969,      // NFS
        0x517b,      // SMB
        0xff53_4d42, // CIFS
        0xfe53_4d42, // SMB2
        0x6573_5546, // FUSE
        0x6573_5543, // fusectl
        0x0102_1997, // 9p
        0x00c3_6400, // Ceph
        0x5346_414f, // AFS
        0x7375_7245, // Coda
        0x0bd0_0bd0, // Lustre
        0x4750_4653, // GPFS
        0x0116_1970, // GFS2
        0x7461_636f, // OCFS2
        0x9fa0,      // proc
        0x6265_6572, // sysfs
        0x0027_e0eb, // cgroup
        0x6367_7270, // cgroup2
        0x6462_6720, // debugfs
        0x7472_6163, // tracefs
    ];
    let kind = nix::sys::statfs::statfs(path)?.filesystem_type().0;
    // The numbers are 32 bits wide, the field is not everywhere.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::unnecessary_cast)]
    Ok(SILENT.contains(&(kind as u32)))
}
