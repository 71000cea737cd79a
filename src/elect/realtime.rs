//! The engine thread's place among the others: real-time priority, precise timers, memory that stays.

use std::io;
use std::time::Duration;

use config::ready::Engine;
use nix::errno::Errno;
use nix::libc;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::resource::{Resource, setrlimit};
use nix::unistd::Pid;

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
    if let Some(nice) = options.nice
        && let Err(error) = set_nice(nice)
    {
        granted.refused.push(format!(
            "niceness {nice} was refused ({error}); it needs CAP_SYS_NICE or LimitNICE={nice} in the unit"
        ));
    }
    // Niceness means nothing to a thread with real-time priority: who asks for it alone gets it alone.
    let wanted = options.realtime_priority.unwrap_or(DEFAULT_PRIORITY);
    if options.realtime_priority.is_some() || options.nice.is_none() {
        match set_round_robin(wanted) {
            Ok(()) => granted.realtime = Some(wanted),
            Err(error) if options.realtime_priority.is_some() => granted.refused.push(format!(
                "real-time priority {wanted} was refused ({error}); it needs CAP_SYS_NICE or LimitRTPRIO={wanted} in the unit"
            )),
            Err(_) => {}
        }
    }
    if let Some(limit) = options.rlimit_rttime
        && let Err(error) = limit_realtime(limit)
    {
        granted.refused.push(format!("a limit of {limit:?} without a pause was refused ({error})"));
    }
    if !options.cpus.is_empty()
        && let Err(error) = stay_on(&options.cpus)
    {
        granted.refused.push(format!("running on processors {:?} alone was refused ({error})", options.cpus));
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

fn set_nice(nice: i8) -> io::Result<()> {
    // SAFETY: plain numbers; 0 is the calling thread.
    let result = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, i32::from(nice)) };
    Errno::result(result).map(drop).map_err(io::Error::from)
}

/// A thread that computes for longer at real-time priority without a pause ends the process (SIGXCPU): rather a restart
/// than a host that does nothing else.
fn limit_realtime(limit: Duration) -> io::Result<()> {
    let limit = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
    setrlimit(Resource::RLIMIT_RTTIME, limit, limit).map_err(io::Error::from)
}

fn stay_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu)?;
    }
    sched_setaffinity(Pid::from_raw(0), &set).map_err(io::Error::from)
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of this thread, as the kernel shows it.
    fn status(field: &str) -> String {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
        line.trim_start_matches(':').trim().to_owned()
    }

    /// Field 19 of `stat`, counted behind the name.
    fn nice() -> i8 {
        let stat = std::fs::read_to_string("/proc/thread-self/stat").unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn the_thread_gets_niceness_and_processors_and_no_other_does() {
        let other = nice();
        let thread = std::thread::spawn(|| {
            let options = Engine { nice: Some(5), cpus: vec![0], ..Engine::default() };
            (apply(&options), nice(), status("Cpus_allowed_list"))
        });
        let (granted, nice_there, cpus) = thread.join().unwrap();
        assert_eq!(granted.refused, [""; 0]);
        assert_eq!((granted.realtime, nice_there, cpus.as_str()), (None, 5, "0"));
        assert_eq!(nice(), other);
    }

    #[test]
    fn a_processor_that_is_not_there_is_told() {
        let thread = std::thread::spawn(|| apply(&Engine { cpus: vec![1000], ..Engine::default() }));
        let refused = thread.join().unwrap().refused;
        assert!(refused.iter().any(|one| one.contains("processors [1000]")), "{refused:?}");
    }
}
