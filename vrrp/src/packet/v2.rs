//! The layout of a version 2 message (RFC 3768 §5.1, authentication data by RFC 2338 §5.1).
//!
//! ```text
//!  0                   1                   2                   3
//!  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//! +-------+-------+---------------+---------------+---------------+
//! |Version| Type  | Virtual Rtr ID|   Priority    | Count IP Addrs|
//! +-------+-------+---------------+---------------+---------------+
//! |   Auth Type   |   Adver Int   |           Checksum            |
//! +---------------+---------------+-------------------------------+
//! |                      IP addresses, 4 each                     |
//! +---------------------------------------------------------------+
//! |              Authentication data, 8, always there             |
//! +---------------------------------------------------------------+
//! ```

use super::{ADDRESSES, AUTHENTICATION_DATA_LEN, Advertisement, Authentication};

const AUTH_TYPE: usize = 4;
/// Seconds.
const ADVER_INT: usize = 5;

/// Octets behind the addresses.
pub(super) const TRAILER: usize = AUTHENTICATION_DATA_LEN;

/// Seconds between adverts, as it stands in the message.
pub(super) fn adver_interval(message: &[u8]) -> u16 {
    u16::from(message[ADVER_INT])
}

/// Type and data. `message` has its exact length.
pub(super) fn authentication(message: &[u8]) -> Authentication {
    let mut data = [0; AUTHENTICATION_DATA_LEN];
    data.copy_from_slice(&message[message.len() - AUTHENTICATION_DATA_LEN..]);
    Authentication::from_wire(message[AUTH_TYPE], data)
}

/// Writes what version 2 has in the second word.
pub(super) fn emit_second_word(advertisement: &Advertisement, message: &mut [u8; ADDRESSES]) {
    message[AUTH_TYPE] = advertisement.authentication.auth_type();
    // The field has one octet; an interval that does not fit was not made for this version.
    message[ADVER_INT] = u8::try_from(advertisement.adver_interval).unwrap_or(u8::MAX);
}
