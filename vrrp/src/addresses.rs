//! The addresses of a virtual router, as they stand in its adverts.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Family;

/// Addresses of one virtual router, all of one family, in the order in which they are configured and
/// advertised. For IPv6 the first should be the virtual link-local address (RFC 9568 §5.2.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum VirtualAddresses {
    /// IPv4.
    V4(Vec<Ipv4Addr>),
    /// IPv6.
    V6(Vec<Ipv6Addr>),
}

impl VirtualAddresses {
    /// Keeps the addresses of `family` in their order and leaves out the others.
    pub fn of_family(family: Family, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let addresses = addresses.into_iter();
        match family {
            Family::Ipv4 => Self::V4(
                addresses
                    .filter_map(|address| match address {
                        IpAddr::V4(address) => Some(address),
                        IpAddr::V6(_) => None,
                    })
                    .collect(),
            ),
            Family::Ipv6 => Self::V6(
                addresses
                    .filter_map(|address| match address {
                        IpAddr::V4(_) => None,
                        IpAddr::V6(address) => Some(address),
                    })
                    .collect(),
            ),
        }
    }

    /// Family of all of them.
    pub fn family(&self) -> Family {
        match self {
            Self::V4(_) => Family::Ipv4,
            Self::V6(_) => Family::Ipv6,
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        match self {
            Self::V4(addresses) => addresses.len(),
            Self::V6(addresses) => addresses.len(),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let (v4, v6): (&[Ipv4Addr], &[Ipv6Addr]) = match self {
            Self::V4(addresses) => (addresses, &[]),
            Self::V6(addresses) => (&[], addresses),
        };
        v4.iter().copied().map(IpAddr::V4).chain(v6.iter().copied().map(IpAddr::V6))
    }

    /// Whether both hold the same addresses, in whatever order and however often each stands there.
    pub fn same_set(&self, other: &Self) -> bool {
        fn within<T: PartialEq>(these: &[T], those: &[T]) -> bool {
            these.iter().all(|address| those.contains(address))
        }
        match (self, other) {
            (Self::V4(a), Self::V4(b)) => a == b || within(a, b) && within(b, a),
            (Self::V6(a), Self::V6(b)) => a == b || within(a, b) && within(b, a),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(addresses: &[[u8; 4]]) -> VirtualAddresses {
        VirtualAddresses::V4(addresses.iter().copied().map(Ipv4Addr::from).collect())
    }

    #[test]
    fn order_does_not_matter_for_the_set_and_a_missing_address_does() {
        let both = v4(&[[192, 0, 2, 100], [192, 0, 2, 101]]);
        assert!(both.same_set(&v4(&[[192, 0, 2, 101], [192, 0, 2, 100]])));
        assert!(!both.same_set(&v4(&[[192, 0, 2, 100]])));
        assert!(!v4(&[[192, 0, 2, 100]]).same_set(&both));
        assert!(!v4(&[]).same_set(&VirtualAddresses::V6(Vec::new())));
    }

    #[test]
    fn addresses_of_the_other_family_are_left_out() {
        let mixed: [IpAddr; 3] =
            ["192.0.2.2".parse().unwrap(), "fe80::1".parse().unwrap(), "192.0.2.1".parse().unwrap()];
        assert_eq!(VirtualAddresses::of_family(Family::Ipv4, mixed), v4(&[[192, 0, 2, 2], [192, 0, 2, 1]]));
    }
}
