//! CRC32c (RFC 4960, appendix B), byte by byte.

/// Castagnoli's polynomial, reflected.
const POLYNOMIAL: u32 = 0x82f6_3b78;

const TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut value, mut bit) = (byte as u32, 0);
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[byte] = value;
        byte += 1;
    }
    table
};

/// A checksum that is being counted.
#[derive(Clone, Copy, Debug)]
pub struct Crc32c(u32);

impl Crc32c {
    /// Of nothing.
    pub fn new() -> Self {
        Self(u32::MAX)
    }

    /// Of one more byte.
    pub fn push(&mut self, byte: u8) {
        self.0 = (self.0 >> 8) ^ TABLE[usize::from(self.0 as u8 ^ byte)];
    }

    /// Of what came.
    pub fn value(self) -> u32 {
        !self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 3720, appendix B.4 (as transmitted: least significant byte first).
    #[test]
    fn the_examples_of_iscsi_come_out() {
        let of = |bytes: &[u8]| {
            let mut crc = Crc32c::new();
            bytes.iter().for_each(|byte| crc.push(*byte));
            crc.value().to_le_bytes()
        };
        let up: Vec<u8> = (0..32).collect();
        assert_eq!(of(&[0; 32]), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(of(&[0xff; 32]), [0x43, 0xab, 0xa8, 0x62]);
        assert_eq!(of(&up), [0x4e, 0x79, 0xdd, 0x46]);
    }
}
