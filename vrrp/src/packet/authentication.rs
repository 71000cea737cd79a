//! VRRPv2 authentication (RFC 2338 §5.3.6, removed by RFC 3768).

use std::fmt;

/// Authentication of a version 2 advert. It protects against mistakes, not against attackers: the password
/// stands in every packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// Type 0. Zeros are sent; on receipt the octets are not looked at.
    None,
    /// Type 1: a password of eight octets, padded with zeros.
    Pass([u8; 8]),
    /// Type 2: the packet is in an IP authentication header, see [`crate::AuthenticationHeader`]. Zeros are sent; on
    /// receipt the octets are not looked at.
    Header,
    /// Any other type, as it was received. [`crate::Ladder`] discards it.
    Other {
        /// 3–255.
        auth_type: u8,
        /// As received.
        data: [u8; 8],
    },
}

impl Authentication {
    /// From a password as an operator writes it: cut to 8 octets, padded with zeros.
    pub fn pass(password: &[u8]) -> Self {
        let mut data = [0; 8];
        for (octet, of_password) in data.iter_mut().zip(password) {
            *octet = *of_password;
        }
        Self::Pass(data)
    }

    /// From the fields of a message.
    pub(crate) fn from_wire(auth_type: u8, data: [u8; 8]) -> Self {
        match auth_type {
            0 => Self::None,
            1 => Self::Pass(data),
            2 => Self::Header,
            auth_type => Self::Other { auth_type, data },
        }
    }

    /// Type on the wire: 0 none, 1 password, 2 IP authentication header.
    pub const fn auth_type(&self) -> u8 {
        match self {
            Self::None => 0,
            Self::Pass(_) => 1,
            Self::Header => 2,
            Self::Other { auth_type, .. } => *auth_type,
        }
    }

    /// The eight octets on the wire.
    pub(crate) fn data(&self) -> [u8; 8] {
        match self {
            Self::None | Self::Header => [0; 8],
            Self::Pass(data) | Self::Other { data, .. } => *data,
        }
    }

    /// Whether the octets are the same; takes the same time wherever they differ.
    pub(crate) fn same_data(&self, other: &Self) -> bool {
        self.data().iter().zip(other.data()).fold(0, |differ, (a, b)| differ | (a ^ b)) == 0
    }
}

impl fmt::Debug for Authentication {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("None"),
            Self::Pass(_) => f.write_str("Pass(<hidden>)"),
            Self::Header => f.write_str("Header"),
            Self::Other { auth_type, .. } => write!(f, "Other({auth_type}, <hidden>)"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_cut_to_eight_octets_and_never_printed() {
        assert_eq!(Authentication::pass(b"s3cr3t"), Authentication::Pass(*b"s3cr3t\0\0"));
        assert_eq!(Authentication::pass(b"longer than 8"), Authentication::Pass(*b"longer t"));
        assert_eq!(format!("{:?}", Authentication::pass(b"s3cr3t")), "Pass(<hidden>)");
    }
}
