//! What others see: the kernels' address tables, the client's neighbour table, the client's traffic.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use std::{os::fd::AsRawFd, thread};

use nix::libc;

use crate::host::{Host, run_first};
use crate::process::Process;
use crate::{Stamp, now};

/// `ip -ts monitor` on one host.
#[derive(Debug)]
pub struct Monitor {
    process: Process,
}

/// Something the kernel said.
#[derive(Clone, Debug, PartialEq)]
pub struct News {
    /// When `ip` read it.
    pub at: Stamp,
    /// The line after the time.
    pub text: String,
}

impl Monitor {
    /// Watches addresses, links and neighbours.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn start(host: &Host) -> Self {
        let mut command = host.daemon("ip");
        command.args(["-ts", "monitor", "address", "link", "neigh"]);
        let process = Process::start(command, &host.directory.join("monitor.txt")).expect("ip starts");
        // It says nothing of its own when it is ready: change something until it tells.
        crate::wait_until("ip monitor listens", Duration::from_secs(10), || {
            host.run(&["ip", "address", "add", "127.9.9.9/32", "dev", "lo"]);
            host.run(&["ip", "address", "del", "127.9.9.9/32", "dev", "lo"]);
            process.output().contains("127.9.9.9")
        })
        .unwrap_or_else(|error| panic!("{}", error.text));
        Self { process }
    }

    /// All the kernel said.
    pub fn news(&self) -> Vec<News> {
        self.process.output().lines().filter_map(read_news).collect()
    }

    /// When this address came, and when it went (`None`: it is still there). An address on a link
    /// without carrier is not there: FRR keeps its addresses on links that it holds down.
    pub fn held(&self, address: &str) -> Vec<(Stamp, Option<Stamp>)> {
        let mut intervals: Vec<(Stamp, Option<Stamp>)> = Vec::new();
        let (mut here, mut link, mut running) = (false, String::new(), true);
        for news in self.news() {
            let words: Vec<&str> = news.text.split_whitespace().collect();
            let deleted = words.first() == Some(&"Deleted");
            let words = &words[usize::from(deleted)..];
            let [_, device, rest @ ..] = words else { continue };
            let device = device.trim_end_matches(':').split('@').next().unwrap_or_default();
            if rest.first().is_some_and(|word| word.starts_with("inet"))
                && rest.get(1).and_then(|word| word.split('/').next()) == Some(address)
            {
                here = !deleted;
                device.clone_into(&mut link);
            } else if rest.first().is_some_and(|word| word.starts_with('<')) && device == link {
                running = rest[0].contains("LOWER_UP") && !rest[0].contains("NO-CARRIER");
            } else {
                continue;
            }
            let open = intervals.last().is_some_and(|(_, end)| end.is_none());
            match (open, here && running) {
                (false, true) => intervals.push((news.at, None)),
                (true, false) => intervals.last_mut().expect("one is open").1 = Some(news.at),
                _ => {}
            }
        }
        intervals
    }

    /// Whether the address is there now.
    pub fn holds(&self, address: &str) -> bool {
        self.held(address).last().is_some_and(|(_, end)| end.is_none())
    }

    /// When the neighbour entry of this address got this MAC address, and each time it got another.
    pub fn neighbour(&self, address: &str) -> Vec<(Stamp, String)> {
        let mut changes: Vec<(Stamp, String)> = Vec::new();
        for news in self.news() {
            let words: Vec<&str> = news.text.split_whitespace().collect();
            if words.first() != Some(&address) {
                continue;
            }
            let Some(mac) = words.iter().skip_while(|word| **word != "lladdr").nth(1) else { continue };
            if changes.last().is_none_or(|(_, last)| last != mac) {
                changes.push((news.at, (*mac).to_owned()));
            }
        }
        changes
    }
}

/// `[2026-11-21T10:43:30.713901] 3: eth0    inet …`
fn read_news(line: &str) -> Option<News> {
    let (stamp, text) = line.strip_prefix('[')?.split_once("] ")?;
    let (date, time) = stamp.split_once('T')?;
    let mut date = date.split('-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (date.next()??, date.next()??, date.next()??);
    let (clock, micros) = time.split_once('.')?;
    let mut clock = clock.split(':').map(|part| part.parse::<i64>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    // Days since 1970 in the Gregorian calendar, the year counted from March.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    let seconds = ((days * 24 + hour) * 60 + minute) * 60 + second;
    let at = Duration::from_secs(seconds.try_into().ok()?) + Duration::from_micros(micros.parse().ok()?);
    Some(News { at, text: text.to_owned() })
}

/// A thread that ends when this value does.
#[derive(Debug)]
pub(crate) struct Worker {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    pub(crate) fn start(work: impl FnOnce(&AtomicBool) + Send + 'static) -> Self {
        let stop: Arc<AtomicBool> = Arc::default();
        let flag = stop.clone();
        Self { stop, thread: Some(thread::spawn(move || work(&flag))) }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Answers datagrams to the virtual address wherever that address is.
#[derive(Debug)]
pub struct Echo {
    _worker: Worker,
}

/// Where the echo answers.
const ECHO_PORT: u16 = 7007;

impl Echo {
    /// Starts on a host.
    pub fn start(host: &Host, address: IpAddr) -> Self {
        let socket = host.inside(|| freebind(SocketAddr::new(address, ECHO_PORT)));
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout above zero");
        Self {
            _worker: Worker::start(move |stop| {
                run_first();
                let mut datagram = [0; 64];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok((length, from)) = socket.recv_from(&mut datagram) {
                        let _ = socket.send_to(&datagram[..length], from);
                    }
                }
            }),
        }
    }
}

/// A socket bound to an address that need not be there.
fn freebind(address: SocketAddr) -> UdpSocket {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
    };
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let descriptor = socket(family, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).expect("a UDP socket");
    if address.is_ipv4() {
        setsockopt(&descriptor, sockopt::IpFreebind, &true).expect("IP_FREEBIND");
    } else {
        let on: libc::c_int = 1;
        // SAFETY: the value lives through the call and has the length that is said.
        let result = unsafe {
            libc::setsockopt(
                descriptor.as_raw_fd(),
                libc::IPPROTO_IPV6,
                libc::IPV6_FREEBIND,
                (&raw const on).cast(),
                size_of::<libc::c_int>() as libc::socklen_t,
            )
        };
        assert_eq!(result, 0, "IPV6_FREEBIND");
    }
    bind(descriptor.as_raw_fd(), &SockaddrStorage::from(address)).expect("bind with FREEBIND");
    UdpSocket::from(descriptor)
}

/// Waits with the precision of the kernel's best timers; a socket's own timeout counts in ticks of 4 ms.
fn wait_readable(socket: &UdpSocket, limit: Duration) {
    let mut wanted = libc::pollfd { fd: socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let limit = libc::timespec {
        tv_sec: limit.as_secs().try_into().expect("short"),
        tv_nsec: limit.subsec_nanos().into(),
    };
    // SAFETY: both structures live through the call; no signal mask is given.
    unsafe { libc::ppoll(&raw mut wanted, 1, &raw const limit, std::ptr::null()) };
}

/// A client that asks the virtual address again and again.
#[derive(Debug)]
pub struct Prober {
    /// Between two questions.
    pub step: Duration,
    probes: Arc<Mutex<Vec<Probe>>>,
    _worker: Worker,
}

#[derive(Clone, Copy, Debug)]
struct Probe {
    sent: Stamp,
    answered: Option<Stamp>,
}

impl Prober {
    /// Starts on a host.
    pub fn start(host: &Host, address: IpAddr, step: Duration) -> Self {
        let unspecified = if address.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = host.inside(|| UdpSocket::bind(unspecified)).expect("a UDP socket");
        socket.set_nonblocking(true).expect("our own socket");
        let target = SocketAddr::new(address, ECHO_PORT);
        let probes: Arc<Mutex<Vec<Probe>>> = Arc::default();
        let shared = probes.clone();
        let worker = Worker::start(move |stop| {
            run_first();
            let mut due = Instant::now();
            let mut answer = [0; 64];
            while !stop.load(Ordering::Relaxed) {
                let number = {
                    let mut probes = shared.lock().expect("not poisoned");
                    probes.push(Probe { sent: now(), answered: None });
                    (probes.len() - 1) as u64
                };
                // A refusal or an unreachable host is an unanswered question.
                let _ = socket.send_to(&number.to_le_bytes(), target);
                due += step;
                loop {
                    let left = due.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    wait_readable(&socket, left);
                    let Ok(8) = socket.recv(&mut answer) else { continue };
                    let number = u64::from_le_bytes(answer[..8].try_into().expect("eight octets")) as usize;
                    if let Some(probe) = shared.lock().expect("not poisoned").get_mut(number) {
                        probe.answered.get_or_insert(now());
                    }
                }
                // Held up ourselves: go on from now instead of asking in a burst.
                if due.elapsed() > 20 * step {
                    due = Instant::now();
                }
            }
        });
        Self { step, probes, _worker: worker }
    }

    /// The longest time without an answer, among questions asked between these times: from the last one
    /// answered before the hole to the first one answered after it, by the times they were asked.
    pub fn longest_outage(&self, from: Stamp, to: Stamp) -> Duration {
        let probes = self.probes.lock().expect("not poisoned");
        let mut longest = Duration::ZERO;
        let mut last_answered: Option<Stamp> = None;
        let mut hole = false;
        for probe in probes.iter().filter(|probe| probe.sent >= from && probe.sent <= to) {
            if probe.answered.is_none() {
                hole = true;
                continue;
            }
            if hole {
                longest = longest.max(probe.sent - last_answered.unwrap_or(from));
            }
            hole = false;
            last_answered = Some(probe.sent);
        }
        if hole { longest.max(to - last_answered.unwrap_or(from)) } else { longest }
    }

    /// Each time the client began or ceased to be answered, by the time of the question.
    pub fn changes(&self) -> Vec<(Stamp, bool)> {
        let probes = self.probes.lock().expect("not poisoned");
        let mut changes: Vec<(Stamp, bool)> = Vec::new();
        for probe in probes.iter() {
            if changes.last().is_none_or(|(_, answered)| *answered != probe.answered.is_some()) {
                changes.push((probe.sent, probe.answered.is_some()));
            }
        }
        changes
    }

    /// Whether a question asked after this time was answered.
    pub fn answered_since(&self, from: Stamp) -> bool {
        let probes = self.probes.lock().expect("not poisoned");
        probes.iter().rev().take_while(|probe| probe.sent >= from).any(|probe| probe.answered.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_ip_monitor_has_the_time_that_date_says() {
        // date -u -d 2026-11-21T10:43:30 +%s
        let news =
            read_news("[2026-11-21T10:43:30.713901] 3: va    inet 10.0.0.1/24 scope global va").unwrap();
        assert_eq!(news.at, Duration::new(1_795_257_810, 713_901_000));
        assert_eq!(news.text, "3: va    inet 10.0.0.1/24 scope global va");
    }
}
