//! The engine thread's place among the others: real-time priority, precise timers, memory that stays.

use std::io;

use config::ready::Engine;
use nix::errno::Errno;
use nix::libc;
use nix::sys::mman::{MlockAllFlags, mlockall};

/// Beside the kernel's own interrupt threads, above everything ordinary.
const DEFAULT_PRIORITY: u8 = 50;

/// What this thread got.
#[derive(Debug, Default)]
pub struct Granted {
    /// SCHED_RR priority, if any.
    pub realtime: Option<u8>,
    /// What was asked for and refused, with the reason.
    pub refused: Vec<String>,
}

/// Applies the options to the calling thread.
///
/// Real-time priority is tried also when nothing was asked for; only a refusal of an explicit wish is
/// reported.
pub fn apply(options: &Engine) -> Granted {
    let mut granted = Granted::default();
    let wanted = options.realtime_priority.unwrap_or(DEFAULT_PRIORITY);
    match set_round_robin(wanted) {
        Ok(()) => granted.realtime = Some(wanted),
        Err(error) if options.realtime_priority.is_some() => granted.refused.push(format!(
            "real-time priority {wanted} was refused ({error}); it needs CAP_SYS_NICE or LimitRTPRIO={wanted} in the unit"
        )),
        Err(_) => {}
    }
    set_timer_slack();
    if options.lock_memory
        && let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE)
    {
        granted.refused.push(format!(
            "locking memory was refused ({error}); it needs CAP_IPC_LOCK or LimitMEMLOCK=infinity in the unit"
        ));
    }
    granted
}

fn set_round_robin(priority: u8) -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: i32::from(priority) };
    // Threads and processes that this one starts are ordinary again.
    let policy = libc::SCHED_RR | libc::SCHED_RESET_ON_FORK;
    // SAFETY: pid 0 is the calling thread; the pointer is valid for the call.
    let result = unsafe { libc::sched_setscheduler(0, policy, &parameter) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// An ordinary thread's timers may fire 50 µs late to save wake-ups; not here.
fn set_timer_slack() {
    // SAFETY: PR_SET_TIMERSLACK takes a number of nanoseconds and changes this thread alone.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1 as libc::c_ulong, 0, 0, 0) };
}
