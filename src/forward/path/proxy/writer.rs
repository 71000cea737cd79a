//! The header that goes first on the way to a backend.

use std::io::Write as _;
use std::net::IpAddr;

use super::reader::{LONGEST_LINE, SIGNATURE};
use super::{Ends, Version};

/// What is sent.
#[derive(Debug)]
pub struct Written {
    bytes: [u8; LONGEST_LINE],
    length: usize,
}

impl Written {
    /// The whole header.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    fn put(&mut self, bytes: &[u8]) {
        self.bytes[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }
}

/// A header for this connection; without ends, or with ends of two families, one that says so.
pub fn write(version: Version, ends: Option<&Ends>) -> Written {
    let ends = ends.filter(|ends| ends.source.is_ipv4() == ends.destination.is_ipv4());
    let mut written = Written { bytes: [0; LONGEST_LINE], length: 0 };
    match version {
        Version::V1 => line(&mut written, ends),
        Version::V2 => binary(&mut written, ends),
    }
    written
}

fn line(written: &mut Written, ends: Option<&Ends>) {
    let Some(Ends { source, destination }) = ends else { return written.put(b"PROXY UNKNOWN\r\n") };
    let family = if source.is_ipv4() { 4 } else { 6 };
    let mut room = &mut written.bytes[..];
    let whole = room.len();
    // The longest line of known ends has 104 characters, so it fits.
    let _ = write!(
        room,
        "PROXY TCP{family} {} {} {} {}\r\n",
        source.ip(),
        destination.ip(),
        source.port(),
        destination.port()
    );
    written.length = whole - room.len();
}

fn binary(written: &mut Written, ends: Option<&Ends>) {
    written.put(&SIGNATURE);
    let Some(Ends { source, destination }) = ends else { return written.put(&[0x20, 0, 0, 0]) };
    written.put(if source.is_ipv4() { &[0x21, 0x11, 0, 12] } else { &[0x21, 0x21, 0, 36] });
    for end in [source, destination] {
        match end.ip() {
            IpAddr::V4(address) => written.put(&address.octets()),
            IpAddr::V6(address) => written.put(&address.octets()),
        }
    }
    written.put(&source.port().to_be_bytes());
    written.put(&destination.port().to_be_bytes());
}
