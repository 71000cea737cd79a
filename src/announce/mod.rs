//! Tell the network: gratuitous ARP, unsolicited neighbour advertisements.
//!
//! The engine drives it: [`Announcer::begin`] when addresses were put on, [`Announcer::handle_timeout`] at
//! [`Announcer::poll_timeout`], [`Announcer::stop`] when they go. Nothing here waits.

pub mod arp;
pub mod ndp;
mod schedule;
mod send;
pub mod strangers;

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use config::ready::{AnnouncementGroup, Announcements};

use self::ndp::Forwarding;
use self::schedule::{Kind, Packet, Schedule};
use self::send::{SendError, Sender};

/// Errors that wait for [`Announcer::take_errors`]; more are counted as dropped announcements alone.
const ERRORS: usize = 100;

/// An address to announce. Links without ARP (`Link::arp` is false) and without a MAC have none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Of the interface that has the address.
    pub ifindex: u32,
    /// Its name.
    pub interface: String,
    /// Where the address is now.
    pub mac: [u8; 6],
    /// IPv4: ARP. IPv6: a neighbour advertisement, as a router if the interface forwards at that time.
    pub address: IpAddr,
}

impl Target {
    fn kind(&self) -> Kind {
        match self.address {
            IpAddr::V4(_) => Kind::Arp,
            IpAddr::V6(_) => Kind::Na,
        }
    }
}

/// An address could not be announced.
#[derive(Debug, thiserror::Error)]
#[error("cannot announce {address} on {interface}: {}", explained(cause))]
pub struct AnnounceError {
    /// As given to [`Announcer::begin`].
    pub instance: usize,
    /// The first address that failed for this cause.
    pub address: IpAddr,
    /// Where.
    pub interface: String,
    /// What the kernel said.
    pub cause: io::Error,
}

fn explained(cause: &io::Error) -> String {
    let text = cause.to_string();
    let word = text.split(" (os error").next().unwrap_or_default();
    match cause.raw_os_error() {
        Some(nix::libc::EPERM) => {
            format!(
                "{word}; it needs CAP_NET_RAW: run as root, or grant it (AmbientCapabilities=CAP_NET_RAW)"
            )
        }
        _ => word.to_owned(),
    }
}

/// Announces addresses while their instances are active.
#[derive(Debug, Default)]
pub struct Announcer {
    schedule: Schedule,
    sender: Sender,
    forwarding: Forwarding,
    sent: HashMap<usize, u64>,
    errors: Vec<AnnounceError>,
}

impl Announcer {
    /// Opens nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The instance became active and its addresses are on.
    ///
    /// The first round is sent before this returns (with a packet gap: its first packet). The repeats
    /// are for [`Announcer::handle_timeout`], those without a gap at once.
    pub fn begin(
        &mut self,
        now: Instant,
        instance: usize,
        targets: Vec<Target>,
        arp: &Announcements,
        na: &Announcements,
    ) {
        self.schedule.begin(now, instance, targets, arp, na);
        self.flush(now);
    }

    /// An active instance heard an advert of lower priority: hosts may have learned the other router.
    ///
    /// At most one burst a second, whatever is heard.
    pub fn lower_priority_heard(&mut self, now: Instant, instance: usize) {
        self.schedule.lower_priority_heard(now, instance);
        self.flush(now);
    }

    /// One announcement of an address that was put back.
    pub fn once(&mut self, now: Instant, instance: usize, target: Target) {
        self.schedule.once(now, instance, target);
        self.flush(now);
    }

    /// An active instance has other addresses or settings now; nothing is sent for it alone.
    pub fn reconfigure(
        &mut self,
        now: Instant,
        instance: usize,
        targets: Vec<Target>,
        arp: &Announcements,
        na: &Announcements,
    ) {
        self.schedule.reconfigure(now, instance, targets, arp, na);
    }

    /// These of an active instance are announced once after each `every`, from now on; `None`: not any more. What did not
    /// change keeps its time.
    pub fn extra(&mut self, now: Instant, instance: usize, every: Option<Duration>, targets: Vec<Target>) {
        self.schedule.extra(now, instance, every, targets);
    }

    /// Interfaces that share the gaps between announcements.
    pub fn configure(&mut self, groups: &[AnnouncementGroup]) {
        self.schedule.share_gaps(groups);
    }

    /// The instance is not active any more: everything that waits for it is dropped.
    pub fn stop(&mut self, instance: usize) {
        self.schedule.stop(instance);
    }

    /// When to call [`Announcer::handle_timeout`].
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.schedule.poll_timeout()
    }

    /// Sends what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.schedule.handle_timeout(now);
        self.flush(now);
    }

    /// Announcements that this instance sent since the start.
    pub fn sent(&self, instance: usize) -> u64 {
        self.sent.get(&instance).copied().unwrap_or_default()
    }

    /// Announcements that were dropped: too many waiting, or the kernel never had room.
    pub fn dropped(&self) -> u64 {
        self.schedule.dropped()
    }

    /// What went wrong since the last time; one error for each instance, interface and cause.
    pub fn take_errors(&mut self) -> Vec<AnnounceError> {
        std::mem::take(&mut self.errors)
    }

    fn flush(&mut self, now: Instant) {
        while let Some(packet) = self.schedule.poll_packet(now) {
            let result = match packet.target.address {
                IpAddr::V4(address) => {
                    self.sender.send(packet.target.ifindex, &arp::frame(packet.target.mac, address))
                }
                IpAddr::V6(address) => {
                    let router = self.forwarding.is_on(now, &packet.target.interface);
                    self.sender.send(packet.target.ifindex, &ndp::frame(packet.target.mac, address, router))
                }
            };
            match result {
                Ok(()) => *self.sent.entry(packet.instance).or_default() += 1,
                Err(SendError::Busy) => {
                    if !self.schedule.refused(now, packet.clone()) {
                        self.report(&packet, io::Error::from_raw_os_error(nix::libc::ENOBUFS));
                    }
                }
                Err(SendError::Open(cause) | SendError::Refused(cause)) => self.report(&packet, cause),
            }
        }
    }

    fn report(&mut self, packet: &Packet, cause: io::Error) {
        let Target { address, interface, .. } = &*packet.target;
        let known = self.errors.iter().any(|error| {
            (error.instance, &error.interface, error.cause.raw_os_error())
                == (packet.instance, interface, cause.raw_os_error())
        });
        if !known && self.errors.len() < ERRORS {
            let (address, interface) = (*address, interface.clone());
            self.errors.push(AnnounceError { instance: packet.instance, address, interface, cause });
        }
    }
}

/// Octets of a captured frame: hexadecimal, with `#` for comments.
#[cfg(test)]
fn golden(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let pairs = digits.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}
