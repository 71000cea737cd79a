//! The PROXY protocol, versions 1 and 2: who a client is, said before the first byte of its stream.
//!
//! By the specification of 2020/03/05 (`proxy-protocol.txt` of HAProxy), whose sections are named here.

mod crc32c;
mod reader;
mod writer;

#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};

pub(super) use reader::Reader;
pub(super) use writer::write;

/// Which of the two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// Both ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Who connected.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
}

/// What a header says of the connection that it came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// `LOCAL`, `UNKNOWN`, or a protocol that is not TCP: it stands for itself.
    Itself,
    /// It stands for this one.
    For(Ends),
}

/// Addresses that share their first bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Bits beyond the length do not matter.
    pub address: IpAddr,
    /// 0–32 or 0–128.
    pub length: u8,
}

impl Network {
    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let differ = match (self.address, address) {
            (IpAddr::V4(ours), IpAddr::V4(its)) => (ours.to_bits() ^ its.to_bits()).leading_zeros(),
            (IpAddr::V6(ours), IpAddr::V6(its)) => (ours.to_bits() ^ its.to_bits()).leading_zeros(),
            _ => return false,
        };
        differ >= self.length.into()
    }
}

/// What is wrong with a header, or that there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Closed without a byte, as a check does that only connects.
    #[error("the client ended without a byte")]
    Nothing,
    /// Closed within the header.
    #[error("the client ended within its PROXY header")]
    Truncated,
    /// Not whole in time.
    #[error("no whole PROXY header came in time")]
    Late,
    /// Neither `PROXY ` nor the signature of version 2.
    #[error("what came first is no PROXY header")]
    Signature,
    /// More than 107 characters without CRLF.
    #[error("the line of the PROXY header has more than 107 characters")]
    TooLong,
    /// The line is not as §2.1 has it.
    #[error("the line of the PROXY header is malformed")]
    Line,
    /// The upper half of the 13th byte.
    #[error("the PROXY header has version {0}, expected 2")]
    Version(u8),
    /// The lower half of the 13th byte.
    #[error("the PROXY header has command {0}, expected 0 or 1")]
    Command(u8),
    /// The 14th byte.
    #[error("the PROXY header is of an unassigned family or protocol ({0:#04x})")]
    Family(u8),
    /// Shorter than its addresses.
    #[error("the PROXY header has {got} bytes for addresses that take {wanted}")]
    Length {
        /// As it says.
        got: u16,
        /// By its family.
        wanted: u16,
    },
    /// A type-length-value that goes beyond the header, or a checksum that is no number.
    #[error("an extension of the PROXY header does not fit")]
    Extension,
    /// §2.2.3.
    #[error("the PROXY header has another checksum ({said:#010x}) than its bytes ({counted:#010x})")]
    Checksum {
        /// In the header.
        said: u32,
        /// Over the header.
        counted: u32,
    },
}
