//! Reads captures and frames, knowing nothing of the crate under test but the IP parsers it feeds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use vrrp::{Datagram, DiscardReason};

pub fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// Ethernet frames with their time since the first one. Little-endian, microseconds or nanoseconds.
pub fn frames(file: &[u8]) -> Vec<(Duration, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    let fraction = match word(0) {
        0xa1b2_c3d4 => Duration::from_micros(1),
        0xa1b2_3c4d => Duration::from_nanos(1),
        magic => panic!("no classic little-endian pcap: {magic:#x}"),
    };
    assert_eq!(word(20), 1, "not Ethernet");
    let (mut frames, mut at) = (Vec::new(), 24);
    while at < file.len() {
        let time = Duration::from_secs(u64::from(word(at))) + fraction * word(at + 4);
        let len = word(at + 8) as usize;
        frames.push((time, file[at + 16..at + 16 + len].to_vec()));
        at += 16 + len;
    }
    let first = frames.first().map_or(Duration::ZERO, |(time, _)| *time);
    frames.iter_mut().for_each(|(time, _)| *time -= first);
    frames
}

/// What our parsers make of a frame; `None` if it is neither IPv4 nor IPv6.
pub fn datagram(frame: &[u8]) -> Option<Result<Datagram<'_>, DiscardReason>> {
    match frame[12..14] {
        [0x08, 0x00] => Some(Datagram::from_ipv4(&frame[14..])),
        [0x86, 0xdd] => Some(Datagram::from_ipv6(&frame[14..])),
        _ => None,
    }
}

/// The VRRP datagrams of a golden capture.
pub fn datagrams(frames: &[(Duration, Vec<u8>)]) -> impl Iterator<Item = (Duration, Datagram<'_>)> {
    frames.iter().filter_map(|(time, frame)| match datagram(frame)? {
        Ok(datagram) => Some((*time, datagram)),
        // Others share the wire: ARP, MLD, neighbour advertisements.
        Err(DiscardReason::Protocol { .. }) => None,
        Err(reason) => panic!("at {time:?}: {reason}"),
    })
}

pub fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}
