//! The access log: one line, or one event with fields, for each session that ended.
//!
//! Written on the threads of the data path into a bounded queue of its own (see [`crate::observe::log`]): when the
//! reader of the log is slow, lines are lost and counted, and nobody waits.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use config::ready::AccessLog;
use nix::libc;
use tracing::info;

use super::listener::Service;
use super::path::proxy::Fault;
use super::path::{Course, End, Ended, Side};
use crate::observe::log::ACCESS;

/// Logs one session.
pub fn log(kind: AccessLog, service: &Service, ended: &Ended<'_>) {
    match kind {
        AccessLog::Event => event(service, ended),
        AccessLog::Tcplog => match ended.end {
            End::Header(fault) => info!(target: ACCESS, "{}", BadHeader { service, ended, fault }),
            _ => info!(target: ACCESS, "{}", Tcplog { service, ended }),
        },
    }
}

fn event(service: &Service, ended: &Ended<'_>) {
    let course = Waits::of(ended);
    let client = ended.client().map(|client| client.to_string()).unwrap_or_default();
    let backend = ended.last.map_or("", |index| service.backends[index].config.name.as_str());
    info!(
        target: ACCESS,
        listener = service.config.name,
        client.addr = client,
        backend,
        end = End::WORDS[ended.end.place()],
        wait_ms = course.wait,
        connect_ms = course.connect,
        elapsed_ms = u64::try_from(ended.lasted.as_millis()).unwrap_or(u64::MAX),
        bytes_in = ended.bytes_in,
        bytes_out = ended.bytes_out,
        retries = ended.attempts.saturating_sub(1),
        "session ended"
    );
}

/// HAProxy's Tw and Tc: milliseconds, -1 for what did not come to its end.
struct Waits {
    wait: i64,
    connect: i64,
}

impl Waits {
    fn of(ended: &Ended<'_>) -> Self {
        let Some(Course { begun: Some(begun), connected, .. }) = ended.course else {
            return Self { wait: -1, connect: -1 };
        };
        let connect = connected.map_or(-1, |connected| i64::from(connected.saturating_sub(*begun)));
        Self { wait: i64::from(*begun), connect }
    }
}

/// A line of `option tcplog` (HAProxy 2.6, configuration manual §8.2.2), from the client on.
struct Tcplog<'a> {
    service: &'a Service,
    ended: &'a Ended<'a>,
}

impl fmt::Display for Tcplog<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, ended } = self;
        let name = &service.config.name;
        let head = Head(ended);
        let server = ended.last.map_or("<NOSRV>", |index| service.backends[index].config.name.as_str());
        let Waits { wait, connect } = Waits::of(ended);
        let total = ended.lasted.as_millis();
        let (first, second) = termination(ended);
        write!(
            f,
            "{head} {name} {name}/{server} {wait}/{connect}/{total} {} {first}{second} ",
            ended.bytes_out
        )?;
        // The frontend counts this session, its backend and server count the others.
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let all = ended.open_sessions() + 1;
        let here = load(&service.tally().sessions);
        let others = here.saturating_sub(1);
        let there = ended.last.map_or(0, |index| load(&service.backends[index].counts().sessions));
        let redispatched = ended.course.is_some_and(|course| {
            ended.attempts > 1 && ended.last.is_some_and(|last| last != usize::from(course.first))
        });
        let sign = if redispatched { "+" } else { "" };
        let retries = ended.attempts.saturating_sub(1);
        write!(f, "{all}/{here}/{others}/{there}/{sign}{retries} 0/0")
    }
}

/// HAProxy's two letters: who ended it, and how far it was then.
fn termination(ended: &Ended<'_>) -> (char, char) {
    let how_far = match (ended.backend, ended.waited) {
        (Some(_), _) => 'D',
        (None, true) => 'Q',
        (None, false) => 'C',
    };
    let who = match ended.end {
        End::Complete => return ('-', '-'),
        End::NoBackend => 'S',
        End::Unreachable if ended.course.is_some_and(|course| course.timed_out.get()) => 's',
        End::Unreachable => 'S',
        End::QueueTimeout => return ('s', 'Q'),
        End::Shortage => 'R',
        End::Broken(Side::Client) => 'C',
        End::Broken(Side::Backend) => 'S',
        End::BackendDown => 'D',
        End::Idle => 'c',
        End::Header(_) => return ('P', 'R'),
        End::AddressLeft | End::Closed | End::Stopped => 'K',
    };
    (who, how_far)
}

/// What HAProxy logs of a connection without a PROXY header.
struct BadHeader<'a> {
    service: &'a Service,
    ended: &'a Ended<'a>,
    fault: Fault,
}

impl fmt::Display for BadHeader<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = match self.fault {
            Fault::Nothing => "Connection closed while waiting for PROXY protocol header",
            Fault::Truncated => "Truncated PROXY protocol header received",
            Fault::Late => "Timeout while waiting for PROXY protocol header",
            Fault::Signature => "Received something which does not look like a PROXY protocol header",
            _ => "Received an invalid PROXY protocol header",
        };
        write!(f, "{} {}/1: {said}", Head(self.ended), self.service.config.name)
    }
}

/// `client_ip:port [accept_date]`
struct Head<'a>(&'a Ended<'a>);

impl fmt::Display for Head<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.client() {
            Some(client) => write!(f, "{}:{} ", client.ip(), client.port())?,
            // The kernel has forgotten it, which HAProxy shows so too.
            None => f.write_str("-:- ")?,
        }
        f.write_str(&date(SystemTime::now() - self.0.lasted))
    }
}

/// `[21/Nov/2026:21:33:08.505]`, local time.
fn date(time: SystemTime) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let since = time.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let seconds = libc::time_t::try_from(since.as_secs()).unwrap_or(0);
    // SAFETY: `tm` is plain numbers (and a pointer that nobody reads), and both pointers are valid for the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        libc::localtime_r(&raw const seconds, &raw mut tm);
        tm
    };
    let month = usize::try_from(tm.tm_mon).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"???");
    format!(
        "[{:02}/{month}/{}:{:02}:{:02}:{:02}.{:03}]",
        tm.tm_mday,
        tm.tm_year + 1900,
        tm.tm_hour,
        tm.tm_min,
        tm.tm_sec,
        since.subsec_millis()
    )
}
