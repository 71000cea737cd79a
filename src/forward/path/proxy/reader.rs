//! Reads one header as its bytes come, and not one byte more.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::crc32c::Crc32c;
use super::{Ends, Fault, Header};

/// §2.2: how version 2 begins.
pub(super) const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// §2.1, CRLF included.
pub(super) const LONGEST_LINE: usize = 107;

/// How version 1 begins.
const WORD: &[u8] = b"PROXY ";

/// Bytes before the addresses of version 2.
const FIXED: usize = 16;

/// §2.2.3.
const CRC32C: u8 = 3;

/// Bytes of a type-length-value before the value.
const EXTENSION_HEAD: usize = 3;

/// A header that is being read. What it keeps does not grow with it.
#[derive(Debug)]
pub struct Reader {
    kept: [u8; LONGEST_LINE],
    length: usize,
    /// Version 2, once its length is known.
    rest: Option<Rest>,
    crc: Crc32c,
}

/// What follows the fixed part of version 2.
#[derive(Debug)]
struct Rest {
    /// Bytes of the header that have not come.
    left: u16,
    /// Of those the ones that are of the address.
    address: u16,
    what: What,
    /// Type, length.
    head: [u8; EXTENSION_HEAD],
    /// How much of it is there.
    filled: usize,
    /// Bytes of the value that have not come.
    value: u16,
    checksum: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Nothing in there matters.
    Skip,
    /// An address of no use, then extensions.
    Unusable,
    /// Two addresses, two ports, then extensions.
    Ends,
}

impl Reader {
    /// Before the first byte.
    pub fn new() -> Self {
        Self { kept: [0; LONGEST_LINE], length: 0, rest: None, crc: Crc32c::new() }
    }

    /// Whether nothing has come.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Takes what is of the header: how much that was, and what it says once it is whole.
    ///
    /// # Errors
    ///
    /// It is none, which is known as early as can be.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(usize, Option<Header>), Fault> {
        for (at, byte) in bytes.iter().enumerate() {
            if let Some(header) = self.push(*byte)? {
                return Ok((at + 1, Some(header)));
            }
        }
        Ok((bytes.len(), None))
    }

    fn push(&mut self, byte: u8) -> Result<Option<Header>, Fault> {
        if self.rest.is_some() {
            return self.push_rest(byte);
        }
        self.keep(byte);
        if self.kept[0] == SIGNATURE[0] {
            self.crc.push(byte);
            self.push_fixed(byte)
        } else {
            self.push_line(byte)
        }
    }

    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.kept.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    // Version 1.

    fn push_line(&mut self, byte: u8) -> Result<Option<Header>, Fault> {
        let at = self.length - 1;
        if WORD.get(at).is_some_and(|wanted| *wanted != byte) {
            return Err(Fault::Signature);
        }
        if byte == b'\n' {
            let line = self.kept[..at].strip_suffix(b"\r").ok_or(Fault::Line)?;
            return line_says(&line[WORD.len()..]).map(Some).ok_or(Fault::Line);
        }
        if self.length == LONGEST_LINE { Err(Fault::TooLong) } else { Ok(None) }
    }

    // Version 2.

    fn push_fixed(&mut self, byte: u8) -> Result<Option<Header>, Fault> {
        let at = self.length - 1;
        let is_local = || self.kept[12] & 0x0f == 0;
        match at {
            0..12 if SIGNATURE[at] != byte => Err(Fault::Signature),
            12 if byte >> 4 != 2 => Err(Fault::Version(byte >> 4)),
            12 if byte & 0x0f > 1 => Err(Fault::Command(byte & 0x0f)),
            // LOCAL: the family is ignored.
            13 if !is_local() && (byte >> 4 > 3 || byte & 0x0f > 2) => Err(Fault::Family(byte)),
            15 => self.begin_rest(),
            _ => Ok(None),
        }
    }

    fn begin_rest(&mut self) -> Result<Option<Header>, Fault> {
        let left = u16::from_be_bytes([self.kept[14], self.kept[15]]);
        let (what, address) = match (self.kept[12] & 0x0f, self.kept[13] >> 4, self.kept[13] & 0x0f) {
            (0, ..) | (_, 0, _) | (_, _, 0) => (What::Skip, 0),
            (_, 1, 1) => (What::Ends, 12),
            (_, 2, 1) => (What::Ends, 36),
            (_, 1, _) => (What::Unusable, 12),
            (_, 2, _) => (What::Unusable, 36),
            _ => (What::Unusable, 216),
        };
        if left < address {
            return Err(Fault::Length { got: left, wanted: address });
        }
        let head = [0; EXTENSION_HEAD];
        self.rest = Some(Rest { left, address, what, head, filled: 0, value: 0, checksum: None });
        if left == 0 { self.finish() } else { Ok(None) }
    }

    fn push_rest(&mut self, byte: u8) -> Result<Option<Header>, Fault> {
        let Some(rest) = &mut self.rest else { return Ok(None) };
        rest.left -= 1;
        let mut counted = byte;
        let mut of_address = false;
        if rest.address > 0 {
            rest.address -= 1;
            of_address = rest.what == What::Ends;
        } else if rest.what != What::Skip {
            counted = rest.push_extension(byte)?;
        }
        let is_whole = rest.left == 0;
        self.crc.push(counted);
        if of_address {
            self.keep(byte);
        }
        if is_whole { self.finish() } else { Ok(None) }
    }

    fn finish(&mut self) -> Result<Option<Header>, Fault> {
        let Some(rest) = &self.rest else { return Ok(None) };
        if rest.filled > 0 {
            return Err(Fault::Extension);
        }
        let counted = self.crc.value();
        if let Some(said) = rest.checksum
            && said != counted
        {
            return Err(Fault::Checksum { said, counted });
        }
        let ends = match rest.what {
            What::Ends => ends(&self.kept[FIXED..self.length]),
            What::Skip | What::Unusable => None,
        };
        Ok(Some(ends.map_or(Header::Itself, Header::For)))
    }
}

impl Rest {
    /// The next byte of the type-length-values. The byte that the checksum is over.
    fn push_extension(&mut self, byte: u8) -> Result<u8, Fault> {
        if self.filled < EXTENSION_HEAD {
            self.head[self.filled] = byte;
            self.filled += 1;
            if self.filled < EXTENSION_HEAD {
                return Ok(byte);
            }
            self.value = u16::from_be_bytes([self.head[1], self.head[2]]);
            let is_odd = self.head[0] == CRC32C && (self.value != 4 || self.checksum.is_some());
            if self.value > self.left || is_odd {
                return Err(Fault::Extension);
            }
            if self.value == 0 {
                self.filled = 0;
            }
            return Ok(byte);
        }
        self.value -= 1;
        if self.value == 0 {
            self.filled = 0;
        }
        if self.head[0] != CRC32C {
            return Ok(byte);
        }
        self.checksum = Some(self.checksum.unwrap_or(0) << 8 | u32::from(byte));
        Ok(0)
    }
}

/// What stands between `PROXY ` and CRLF. `None`: not as §2.1 has it.
fn line_says(line: &[u8]) -> Option<Header> {
    let line = match line.strip_prefix(b"UNKNOWN") {
        Some([] | [b' ', ..]) => return Some(Header::Itself),
        Some(_) => return None,
        None => std::str::from_utf8(line).ok()?,
    };
    let mut words = line.split(' ');
    let family = words.next()?;
    let source = address(family, words.next()?)?;
    let destination = address(family, words.next()?)?;
    let source = SocketAddr::new(source, port(words.next()?)?);
    let destination = SocketAddr::new(destination, port(words.next()?)?);
    words.next().is_none().then_some(Header::For(Ends { source, destination }))
}

fn address(family: &str, text: &str) -> Option<IpAddr> {
    match family {
        "TCP4" => text.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => text.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => None,
    }
}

/// Decimal, without heading zeroes.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok())?
}

fn ends(bytes: &[u8]) -> Option<Ends> {
    let half = (bytes.len() - 4) / 2;
    let address = |bytes: &[u8]| match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        _ => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
    };
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let source = SocketAddr::new(address(&bytes[..half])?, port(2 * half));
    let destination = SocketAddr::new(address(&bytes[half..2 * half])?, port(2 * half + 2));
    Some(Ends { source, destination })
}
