//! A peer that is there, but takes nothing: it may do so for as long as it likes.
//!
//! TCP_USER_TIMEOUT is meant for peers that are gone. But the kernel (seen on Linux 6.18) also ends a
//! connection whose peer answers every window probe with a window of zero: a paged `kubectl logs`, a client
//! that was suspended. So the limit is lifted while a leg waits for nothing but its peer's window, and set
//! again when bytes flow; meanwhile a peer that leaves probes unanswered is given up here.

use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::libc;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::time;

use super::copy::{Peer, unacknowledged};

/// Probes without an answer that a peer may miss; their distance grows, so this is never soon.
const UNANSWERED_PROBES: u8 = 3;

/// What the kernel knows of one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Leg {
    /// Bytes that the peer has not acknowledged, sent or not.
    queued: bool,
    /// Some of them are under way.
    in_flight: bool,
    /// Window probes since the last answer.
    probes: u8,
    /// Since the last acknowledgement.
    silence: Duration,
}

/// What to do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Lift,
    Restore,
    GiveUp,
}

fn judge(leg: Leg, lifted: bool, timeout: Duration) -> Step {
    let waits_for_window = leg.queued && !leg.in_flight;
    match (waits_for_window, lifted) {
        (true, false) => Step::Lift,
        (true, true) if leg.probes >= UNANSWERED_PROBES && leg.silence > timeout => Step::GiveUp,
        (false, true) => Step::Restore,
        (true, true) | (false, false) => Step::Nothing,
    }
}

/// Watches both legs. Resolves when a peer is gone.
pub async fn watch(client: &TcpStream, backend: &TcpStream, timeout: Option<Duration>) -> (Peer, io::Error) {
    let Some(timeout) = timeout else { return std::future::pending().await };
    let mut legs = [(Peer::Client, client, false), (Peer::Backend, backend, false)];
    loop {
        time::sleep(timeout / 4).await;
        for (peer, stream, lifted) in &mut legs {
            match look(stream, lifted, timeout) {
                Ok(true) => {}
                Ok(false) => return (*peer, io::ErrorKind::TimedOut.into()),
                // A leg that is closed is the data path's business.
                Err(_) => {}
            }
        }
    }
}

/// Whether the peer is still there.
fn look(stream: &TcpStream, lifted: &mut bool, timeout: Duration) -> io::Result<bool> {
    let queued = unacknowledged(stream)? > 0;
    if !queued && !*lifted {
        return Ok(true);
    }
    let info = tcp_info(stream)?;
    let leg = Leg {
        queued,
        in_flight: info.tcpi_unacked > 0,
        probes: info.tcpi_probes,
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    };
    match judge(leg, *lifted, timeout) {
        Step::Nothing => {}
        Step::GiveUp => return Ok(false),
        Step::Lift => {
            SockRef::from(stream).set_tcp_user_timeout(None)?;
            *lifted = true;
        }
        Step::Restore => {
            SockRef::from(stream).set_tcp_user_timeout(Some(timeout))?;
            *lifted = false;
        }
    }
    Ok(true)
}

fn tcp_info(stream: &TcpStream) -> io::Result<libc::tcp_info> {
    // SAFETY: tcp_info is plain numbers, for which zeros are a value.
    let mut info: libc::tcp_info = unsafe { mem::zeroed() };
    let mut length = libc::socklen_t::try_from(mem::size_of::<libc::tcp_info>()).unwrap_or(0);
    // SAFETY: the descriptor is open while the stream is borrowed, and the kernel writes at most `length`
    // bytes to `info`, which is that long.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(info) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);
    const STALLED: Leg = Leg { queued: true, in_flight: false, probes: 0, silence: Duration::ZERO };

    #[test]
    fn the_limit_is_lifted_only_while_nothing_but_the_window_is_waited_for() {
        assert_eq!(judge(STALLED, false, TIMEOUT), Step::Lift);
        assert_eq!(judge(STALLED, true, TIMEOUT), Step::Nothing);
        let in_flight = Leg { in_flight: true, ..STALLED };
        assert_eq!(judge(in_flight, false, TIMEOUT), Step::Nothing);
        assert_eq!(judge(in_flight, true, TIMEOUT), Step::Restore);
        let idle = Leg { queued: false, ..STALLED };
        assert_eq!(judge(idle, false, TIMEOUT), Step::Nothing);
        assert_eq!(judge(idle, true, TIMEOUT), Step::Restore);
    }

    #[test]
    fn a_peer_is_given_up_when_it_answers_no_probe_for_the_timeout() {
        let gone = Leg { probes: 3, silence: TIMEOUT + Duration::from_secs(1), ..STALLED };
        assert_eq!(judge(gone, true, TIMEOUT), Step::GiveUp);
        // Probes grow rare: silence alone says nothing.
        assert_eq!(judge(Leg { probes: 1, ..gone }, true, TIMEOUT), Step::Nothing);
        assert_eq!(judge(Leg { silence: TIMEOUT, ..gone }, true, TIMEOUT), Step::Nothing);
    }
}
