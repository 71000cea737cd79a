//! Who answers for a virtual address: a client asks both hosts at once, again and again, and looks at the MAC address
//! of each answer.
//!
//! Asked are the link (ARP, neighbour discovery: one question for everybody) and each host by itself (ICMP echo, sent
//! to its MAC address, so that no neighbour table decides who is asked).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::libc;

use crate::host::{Host, run_first};
use crate::observer::Worker;
use crate::{Stamp, now};

const ARP: [u8; 2] = [0x08, 0x06];
const IPV4: [u8; 2] = [0x08, 0x00];
const IPV6: [u8; 2] = [0x86, 0xdd];
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;

/// How an answer was got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// ARP or neighbour discovery.
    Link,
    /// ICMP echo.
    Echo,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// When the client had it.
    pub at: Stamp,
    /// Ethernet source.
    pub mac: [u8; 6],
    /// How it was got.
    pub way: Way,
}

/// Asks until it is dropped.
#[derive(Debug)]
pub struct Asker {
    answers: Arc<Mutex<Vec<Answer>>>,
    _workers: [Worker; 2],
}

impl Asker {
    /// Starts on `client`; `hosts` are asked for `address` every `step`.
    ///
    /// # Panics
    ///
    /// When there is no packet socket to be had.
    pub fn start(client: &Host, hosts: &[&Host], address: IpAddr, step: Duration) -> Self {
        let own = Own { number: client.number };
        let questions = questions(own, hosts, address);
        let open = || client.inside(open).expect("a packet socket on the client");
        let (asks, hears) = (open(), open());
        let answers: Arc<Mutex<Vec<Answer>>> = Arc::default();
        let shared = Arc::clone(&answers);
        let asking = Worker::start(move |stop| {
            run_first();
            let mut due = Instant::now();
            while !stop.load(Ordering::Relaxed) {
                for question in &questions {
                    // A link that is down for a moment loses a question.
                    let _ = nix::unistd::write(&asks, question);
                }
                due += step;
                if due.elapsed() > 20 * step {
                    due = Instant::now();
                }
                thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        });
        let hearing = Worker::start(move |stop| {
            run_first();
            let mut frame = [0; 2048];
            while !stop.load(Ordering::Relaxed) {
                let Ok(length) = nix::unistd::read(&hears, &mut frame) else { continue };
                let at = now();
                if let Some((mac, way)) = answer(&frame[..length], own, address) {
                    shared.lock().unwrap_or_else(PoisonError::into_inner).push(Answer { at, mac, way });
                }
            }
        });
        Self { answers, _workers: [asking, hearing] }
    }

    /// Answers of one host between two times, in their order.
    pub fn of(&self, host: &Host, from: Stamp, to: Stamp) -> Vec<Answer> {
        let answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let mac = mac_of(host.number);
        answers.iter().filter(|one| one.mac == mac && one.at >= from && one.at <= to).cloned().collect()
    }
}

/// The client.
#[derive(Clone, Copy, Debug)]
struct Own {
    number: u8,
}

impl Own {
    fn ipv4(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    fn ipv6(self) -> Ipv6Addr {
        Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, self.number.into())
    }
}

fn mac_of(number: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, number]
}

fn questions(own: Own, hosts: &[&Host], address: IpAddr) -> Vec<Vec<u8>> {
    let mut all = vec![match address {
        IpAddr::V4(address) => ethernet([0xff; 6], own, ARP, &arp_request(own, address)),
        IpAddr::V6(address) => {
            let [.., a, b, c] = address.octets();
            let group =
                Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), u16::from_be_bytes([b, c]));
            let mut body = vec![NEIGHBOR_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend(address.octets());
            // Source link-layer address.
            body.extend([1, 1]);
            body.extend(mac_of(own.number));
            ethernet([0x33, 0x33, 0xff, a, b, c], own, IPV6, &icmpv6(own, group, body))
        }
    }];
    all.extend(hosts.iter().map(|host| match address {
        IpAddr::V4(address) => ethernet(mac_of(host.number), own, IPV4, &echo_v4(own, address)),
        IpAddr::V6(address) => {
            let body = vec![128, 0, 0, 0, 0x56, own.number, 0, 1];
            ethernet(mac_of(host.number), own, IPV6, &icmpv6(own, address, body))
        }
    }));
    all
}

fn ethernet(to: [u8; 6], own: Own, kind: [u8; 2], payload: &[u8]) -> Vec<u8> {
    [&to[..], &mac_of(own.number), &kind, payload].concat()
}

/// RFC 826.
fn arp_request(own: Own, address: Ipv4Addr) -> Vec<u8> {
    let fixed = [0, 1, 8, 0, 6, 4, 0, 1];
    [&fixed[..], &mac_of(own.number), &own.ipv4().octets(), &[0; 6], &address.octets()].concat()
}

fn echo_v4(own: Own, address: Ipv4Addr) -> Vec<u8> {
    let mut icmp = vec![8, 0, 0, 0, 0x56, own.number, 0, 1];
    let sum = checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum);
    let mut header = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0];
    header.extend(own.ipv4().octets());
    header.extend(address.octets());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum);
    header.extend(icmp);
    header
}

fn icmpv6(own: Own, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a few octets").to_be_bytes();
    let addresses = [own.ipv6().octets(), to.octets()].concat();
    let pseudo = [&addresses[..], &[0, 0], &length, &[0, 0, 0, 58], &body].concat();
    let sum = checksum(&pseudo);
    body[2..4].copy_from_slice(&sum);
    [&[0x60, 0, 0, 0][..], &length, &[58, 255], &addresses, &body].concat()
}

/// RFC 1071.
fn checksum(octets: &[u8]) -> [u8; 2] {
    let words = octets.chunks(2).map(|two| u32::from(two[0]) << 8 | u32::from(*two.get(1).unwrap_or(&0)));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!u16::try_from(sum).expect("folded")).to_be_bytes()
}

/// Whose answer this is, if it is one to our questions.
fn answer(frame: &[u8], own: Own, address: IpAddr) -> Option<([u8; 6], Way)> {
    let mac: [u8; 6] = frame.get(6..12)?.try_into().ok()?;
    if frame.get(..6)? != mac_of(own.number) {
        return None;
    }
    let (kind, payload) = (frame.get(12..14)?, frame.get(14..)?);
    match address {
        IpAddr::V4(address) if kind == ARP => {
            let is_reply = payload.get(6..8)? == [0, 2];
            (is_reply && payload.get(14..18)? == address.octets()).then_some((mac, Way::Link))
        }
        IpAddr::V4(address) if kind == IPV4 => {
            let is_reply = payload.get(9) == Some(&1) && payload.get(20) == Some(&0);
            (is_reply && payload.get(12..16)? == address.octets()).then_some((mac, Way::Echo))
        }
        IpAddr::V6(address) if kind == IPV6 && payload.get(6) == Some(&58) => match *payload.get(40)? {
            NEIGHBOR_ADVERTISEMENT => (payload.get(48..64)? == address.octets()).then_some((mac, Way::Link)),
            129 => (payload.get(8..24)? == address.octets()).then_some((mac, Way::Echo)),
            _ => None,
        },
        _ => None,
    }
}

/// A packet socket on `eth0` that waits at most 100 ms.
fn open() -> io::Result<OwnedFd> {
    let result = |code: libc::c_int| if code < 0 { Err(io::Error::last_os_error()) } else { Ok(code) };
    let everything = libc::ETH_P_ALL.try_into().map(u16::to_be).map_err(io::Error::other)?;
    // SAFETY: the descriptor is new and ours; the structures live through the calls, and their sizes are said.
    unsafe {
        let socket = result(libc::socket(
            libc::AF_PACKET,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC,
            i32::from(everything),
        ))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut place: libc::sockaddr_ll = std::mem::zeroed();
        place.sll_family = libc::AF_PACKET.try_into().map_err(io::Error::other)?;
        place.sll_protocol = everything;
        place.sll_ifindex = libc::if_nametoindex(c"eth0".as_ptr()).cast_signed();
        result(libc::bind(
            socket.as_raw_fd(),
            (&raw const place).cast(),
            size_of::<libc::sockaddr_ll>() as libc::socklen_t,
        ))?;
        let limit = libc::timeval { tv_sec: 0, tv_usec: 100_000 };
        result(libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVTIMEO,
            (&raw const limit).cast(),
            size_of::<libc::timeval>() as libc::socklen_t,
        ))?;
        Ok(socket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 1071, section 3.
    #[test]
    fn the_checksum_is_that_of_the_rfc() {
        assert_eq!(checksum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]), (!0xddf2_u16).to_be_bytes());
    }
}
