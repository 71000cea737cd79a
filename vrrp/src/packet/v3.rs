//! The layout of a version 3 message (RFC 9568 §5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
//! +-------+-------+---------------+---------------+---------------+
//! |Reserve| Max Advertise Interval|           Checksum            |
//! +-------+-----------------------+-------------------------------+
//! |                    IP addresses, 4 or 16 each                 |
//! +---------------------------------------------------------------+
//! ```

use super::{ADDRESSES, Advertisement};

/// Centiseconds in the lower 12 bits; the upper four are reserved: sent as 0, not looked at on receipt.
const MAX_ADVERTISE_INTERVAL: std::ops::Range<usize> = 4..6;
const INTERVAL_MASK: u16 = 0x0fff;

/// Centiseconds between adverts, as it stands in the message.
pub(super) fn adver_interval(message: &[u8]) -> u16 {
    u16::from_be_bytes([message[MAX_ADVERTISE_INTERVAL.start], message[MAX_ADVERTISE_INTERVAL.start + 1]])
        & INTERVAL_MASK
}

/// Writes what version 3 has in the second word.
pub(super) fn emit_second_word(advertisement: &Advertisement, message: &mut [u8; ADDRESSES]) {
    // 12 bits; an interval that does not fit was not made for this version.
    let interval = advertisement.adver_interval.min(INTERVAL_MASK);
    message[MAX_ADVERTISE_INTERVAL].copy_from_slice(&interval.to_be_bytes());
}
