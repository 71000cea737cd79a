//! Virtual router MAC address.

use crate::{Family, Vrid};

/// Virtual router MAC address (RFC 9568 §7.3): `00-00-5E-00-01-{VRID}` for IPv4, `00-00-5E-00-02-{VRID}` for
/// IPv6.
pub const fn virtual_mac(family: Family, vrid: Vrid) -> [u8; 6] {
    let family = match family {
        Family::Ipv4 => 0x01,
        Family::Ipv6 => 0x02,
    };
    [0x00, 0x00, 0x5e, 0x00, family, vrid.get()]
}

#[cfg(test)]
mod tests {
    use super::*;

    // From the captured gratuitous ARP G02 and neighbour advertisement N02 of keepalived 2.2.7.
    #[test]
    fn virtual_macs_are_those_that_keepalived_uses() {
        assert_eq!(virtual_mac(Family::Ipv4, Vrid::new(60).unwrap()), [0, 0, 0x5e, 0, 1, 0x3c]);
        assert_eq!(virtual_mac(Family::Ipv6, Vrid::new(61).unwrap()), [0, 0, 0x5e, 0, 2, 0x3d]);
    }
}
