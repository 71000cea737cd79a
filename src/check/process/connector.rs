//! The kernel's process events: forks, execs, new names, exits (netlink connector, `linux/cn_proc.h`).

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::libc;
use nix::sched::{CloneFlags, setns};

/// A process, by the number of its first thread.
pub(super) type Pid = u32;

/// What happened to a process. Threads have no events here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    /// The kernel answers our wish to listen: 0, or an error number.
    Answer(u32),
    /// A new process, as its parent was.
    Fork { parent: Pid, child: Pid },
    /// It runs another program.
    Exec(Pid),
    /// It gave itself another name.
    Renamed(Pid),
    /// It ended.
    Exit(Pid),
}

const CN_IDX_PROC: u32 = 1;
const CN_VAL_PROC: u32 = 1;
const PROC_CN_MCAST_LISTEN: u32 = 1;
const NLMSG_HEADER: usize = 16;
const CN_HEADER: usize = 20;
/// `what`, `cpu`, `timestamp_ns`.
const EVENT_HEADER: usize = 16;

/// Longest wait of [`Connector::read`].
pub(super) const READ_TIMEOUT: Duration = Duration::from_millis(500);
/// The kernel answers at once, or never: from a PID namespace it does not even refuse.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// A socket that hears of every process.
#[derive(Debug)]
pub(super) struct Connector(OwnedFd);

impl Connector {
    /// Begins to listen. The events exist in the initial network namespace alone: where they are missing
    /// the calling thread moves there, if it may, and stays.
    ///
    /// # Errors
    /// The kernel has no process events, `CAP_NET_ADMIN` is missing, or we are in a container.
    pub(super) fn open(buffer: Option<u32>) -> io::Result<Self> {
        Self::open_here(buffer).or_else(|error| {
            let initial = File::open("/proc/1/ns/net").map_err(|_| io::Error::from(error.kind()))?;
            setns(&initial, CloneFlags::CLONE_NEWNET).map_err(|_| error)?;
            Self::open_here(buffer)
        })
    }

    fn open_here(buffer: Option<u32>) -> io::Result<Self> {
        // SAFETY: plain system calls; the new descriptor is owned from here on, and every pointer is to a
        // value that lives through its call.
        let socket = unsafe {
            let number = libc::socket(
                libc::AF_NETLINK,
                libc::SOCK_DGRAM | libc::SOCK_CLOEXEC,
                libc::NETLINK_CONNECTOR,
            );
            if number < 0 {
                return Err(io::Error::last_os_error());
            }
            let socket = OwnedFd::from_raw_fd(number);
            let mut address: libc::sockaddr_nl = std::mem::zeroed();
            address.nl_family = libc::AF_NETLINK as libc::sa_family_t;
            address.nl_groups = CN_IDX_PROC;
            let length = size_of::<libc::sockaddr_nl>() as libc::socklen_t;
            if libc::bind(number, (&raw const address).cast(), length) != 0 {
                return Err(io::Error::last_os_error());
            }
            socket
        };
        let this = Self(socket);
        if let Some(buffer) = buffer {
            // More than the system's limit needs CAP_NET_ADMIN, as the events do.
            let buffer = libc::c_int::try_from(buffer).unwrap_or(libc::c_int::MAX);
            let _ = this.set(libc::SO_RCVBUFFORCE, &buffer);
        }
        let time = libc::timeval { tv_sec: 0, tv_usec: READ_TIMEOUT.as_micros() as libc::suseconds_t };
        this.set(libc::SO_RCVTIMEO, &time)?;
        this.listen()?;
        Ok(this)
    }

    fn set<T>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        let length = size_of::<T>() as libc::socklen_t;
        // SAFETY: the value lives through the call and its length is passed with it.
        let result = unsafe {
            let value: *const T = value;
            libc::setsockopt(self.0.as_raw_fd(), libc::SOL_SOCKET, option, value.cast(), length)
        };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    fn listen(&self) -> io::Result<()> {
        let request = listen_request();
        nix::unistd::write(&self.0, &request)?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        let mut events = Vec::new();
        while Instant::now() < deadline {
            match self.read(&mut events) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                result => result?,
            }
            let answer = events.drain(..).find_map(|event| match event {
                Event::Answer(number) => Some(number),
                _ => None,
            });
            match answer {
                Some(0) => return Ok(()),
                Some(number) => return Err(io::Error::from_raw_os_error(number.cast_signed())),
                None => {}
            }
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel does not answer, as in a container"))
    }

    /// Adds what has happened to `events`; nothing after [`READ_TIMEOUT`].
    ///
    /// # Errors
    /// `ENOBUFS`: events were lost.
    pub(super) fn read(&self, events: &mut Vec<Event>) -> io::Result<()> {
        let mut buffer = [0; 4096];
        let mut flags = 0;
        // All that waits, but not for ever: a host that forks without end must not keep the others away.
        for _ in 0..256 {
            // SAFETY: the buffer is ours and its length is passed with it.
            let length =
                unsafe { libc::recv(self.0.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), flags) };
            let Ok(length) = usize::try_from(length) else {
                let error = io::Error::last_os_error();
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(()),
                    _ => Err(error),
                };
            };
            events.extend(parse(&buffer[..length]));
            flags = libc::MSG_DONTWAIT;
        }
        Ok(())
    }
}

fn listen_request() -> Vec<u8> {
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_ne_bytes()).collect::<Vec<u8>>();
    let length = u32::try_from(NLMSG_HEADER + CN_HEADER + 4).expect("40");
    [
        words(&[length]),
        halves(&[libc::NLMSG_DONE as u16, 0]),
        words(&[0, 0]),
        words(&[CN_IDX_PROC, CN_VAL_PROC, 0, 0]),
        halves(&[4, 0]),
        words(&[PROC_CN_MCAST_LISTEN]),
    ]
    .concat()
}

/// One message of the kernel; `None` for what does not concern us, and for what is too short.
fn parse(message: &[u8]) -> Option<Event> {
    let word = |offset: usize| {
        let octets = message.get(offset..offset + 4)?;
        Some(u32::from_ne_bytes(octets.try_into().ok()?))
    };
    if (word(NLMSG_HEADER)?, word(NLMSG_HEADER + 4)?) != (CN_IDX_PROC, CN_VAL_PROC) {
        return None;
    }
    let event = NLMSG_HEADER + CN_HEADER;
    let data = |index: usize| word(event + EVENT_HEADER + 4 * index);
    // Thread and process are the same for the first thread of a process.
    let first_thread = || (data(0)? == data(1)?).then_some(data(1)?);
    match word(event)? {
        0 => data(0).map(Event::Answer),
        0x1 => (data(2)? == data(3)?).then_some(Event::Fork { parent: data(1)?, child: data(3)? }),
        0x2 => data(1).map(Event::Exec),
        0x200 => first_thread().map(Event::Renamed),
        0x8000_0000 => first_thread().map(Event::Exit),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn octets(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    /// Taken from the socket of a Linux 6.18 (x86_64): the answer, a fork, an exec and an exit.
    #[test]
    #[cfg(all(target_endian = "little", target_pointer_width = "64"))]
    fn messages_of_the_kernel_are_understood() {
        let messages = [
            "4c0000000300000000000000000000000100000001000000000000000100000028000000000000000100000081d70c817f01\
             0000000000000000000000000000000000000000000000000000",
            "4c00000003000000010000000000000001000000010000000100000000000000280000000100000001000000f9a176817f01\
             0000e7090000e7090000100a0000100a00000000000000000000",
            "4c00000003000000000000000000000001000000010000000100000000000000280000000200000000000000d62e7c817f01\
             0000100a0000100a000000000000000000000000000000000000",
            "4c000000030000000100000000000000010000000100000001000000000000002800000000000080000000002e1f93817f01\
             0000100a0000100a00000000000011000000e7090000e7090000",
        ];
        let events = messages.map(|message| parse(&octets(&message.replace(' ', ""))));
        assert_eq!(
            events,
            [
                Some(Event::Answer(0)),
                Some(Event::Fork { parent: 0x9e7, child: 0xa10 }),
                Some(Event::Exec(0xa10)),
                Some(Event::Exit(0xa10)),
            ]
        );
    }

    #[test]
    fn what_is_cut_short_is_nothing() {
        let message = octets(
            "4c00000003000000010000000000000001000000010000000100000000000000280000000100000001000000f9a176817f01\
             0000e7090000e7090000100a0000100a00000000000000000000",
        );
        for length in 0..68 {
            assert_eq!(parse(&message[..length]), None, "{length}");
        }
    }
}
