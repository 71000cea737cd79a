//! A peer that is there, but takes nothing: it may do so for as long as it likes.
//!
//! TCP_USER_TIMEOUT is meant for peers that are gone. But the kernel (seen on Linux 6.18) also ends a
//! connection whose peer answers every window probe with a window of zero: a paged `kubectl logs`, a client
//! that was suspended. So the limit is lifted while a leg waits for nothing but its peer's window, and set
//! again when bytes flow; meanwhile a peer that leaves probes unanswered is given up here.

use std::io;
use std::time::Duration;

use socket2::SockRef;

use super::lane::Leg;
use super::socket::{tcp_info, unacknowledged};

/// Probes without an answer that a peer may miss; their distance grows, so this is never soon.
const UNANSWERED_PROBES: u8 = 3;

/// What the kernel knows of one leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State {
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

fn judge(leg: State, lifted: bool, timeout: Duration) -> Step {
    let waits_for_window = leg.queued && !leg.in_flight;
    match (waits_for_window, lifted) {
        (true, false) => Step::Lift,
        (true, true) if leg.probes >= UNANSWERED_PROBES && leg.silence > timeout => Step::GiveUp,
        (false, true) => Step::Restore,
        (true, true) | (false, false) => Step::Nothing,
    }
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Its peer has everything: nothing to look after until bytes move again.
    Quiet,
    /// Bytes are under way, or the peer takes its time.
    Busy,
    /// The peer is gone.
    Gone,
}

/// Looks after one leg; to be called a few times within the timeout.
///
/// # Errors
///
/// The kernel does not say; a leg that is closed is the data path's business.
pub fn look(leg: &mut Leg, timeout: Duration) -> io::Result<Found> {
    let queued = unacknowledged(&leg.socket)? > 0;
    let lifted = leg.is(Leg::LIFTED);
    if !queued && !lifted {
        return Ok(Found::Quiet);
    }
    let info = tcp_info(&leg.socket)?;
    let state = State {
        queued,
        in_flight: info.tcpi_unacked > 0,
        probes: info.tcpi_probes,
        silence: Duration::from_millis(info.tcpi_last_ack_recv.into()),
    };
    match judge(state, lifted, timeout) {
        Step::Nothing => {}
        Step::GiveUp => return Ok(Found::Gone),
        Step::Lift => {
            SockRef::from(&leg.socket).set_tcp_user_timeout(None)?;
            leg.set(Leg::LIFTED);
        }
        Step::Restore => {
            SockRef::from(&leg.socket).set_tcp_user_timeout(Some(timeout))?;
            leg.clear(Leg::LIFTED);
        }
    }
    Ok(Found::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(20);
    const STALLED: State = State { queued: true, in_flight: false, probes: 0, silence: Duration::ZERO };

    #[test]
    fn the_limit_is_lifted_only_while_nothing_but_the_window_is_waited_for() {
        assert_eq!(judge(STALLED, false, TIMEOUT), Step::Lift);
        assert_eq!(judge(STALLED, true, TIMEOUT), Step::Nothing);
        let in_flight = State { in_flight: true, ..STALLED };
        assert_eq!(judge(in_flight, false, TIMEOUT), Step::Nothing);
        assert_eq!(judge(in_flight, true, TIMEOUT), Step::Restore);
        let idle = State { queued: false, ..STALLED };
        assert_eq!(judge(idle, false, TIMEOUT), Step::Nothing);
        assert_eq!(judge(idle, true, TIMEOUT), Step::Restore);
    }

    #[test]
    fn a_peer_is_given_up_when_it_answers_no_probe_for_the_timeout() {
        let gone = State { probes: 3, silence: TIMEOUT + Duration::from_secs(1), ..STALLED };
        assert_eq!(judge(gone, true, TIMEOUT), Step::GiveUp);
        // Probes grow rare: silence alone says nothing.
        assert_eq!(judge(State { probes: 1, ..gone }, true, TIMEOUT), Step::Nothing);
        assert_eq!(judge(State { silence: TIMEOUT, ..gone }, true, TIMEOUT), Step::Nothing);
    }
}
