//! Keys that adverts are signed with: from text, from hexadecimal digits, from a file.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};

/// Octets of a key (draft-cassen-vrrp-auth-hmac: at least the digest, at most the block of SHA-256).
const LENGTH: std::ops::RangeInclusive<usize> = 32..=64;
/// A larger file is no key.
const LARGEST_FILE: u64 = 4096;

/// `hex:` and digits, or text.
///
/// # Errors
/// Why it is no key.
pub(crate) fn secret(value: &[u8], at: &Location) -> Result<Vec<u8>, Box<Diagnostic>> {
    let secret = match value.strip_prefix(b"hex:") {
        Some(digits) => from_hexadecimal(digits)
            .ok_or_else(|| Box::new(Diagnostic::error("hmac", at, "the key is not hexadecimal")))?,
        None => value.to_vec(),
    };
    of_length(secret, at)
}

/// The key, if it is neither too short nor too long.
pub(crate) fn of_length(secret: Vec<u8>, at: &Location) -> Result<Vec<u8>, Box<Diagnostic>> {
    if !LENGTH.contains(&secret.len()) {
        let message = format!("a key of {} bytes", secret.len());
        return Err(Box::new(Diagnostic::error("hmac", at, message).expected("32 to 64 bytes")));
    }
    Ok(secret)
}

/// A file that holds either form; newlines at its end do not count.
///
/// # Errors
/// Why there is no key in it.
pub(crate) fn from_file(
    path: &Path,
    at: &Location,
    diagnostics: &mut Diagnostics,
) -> Result<Vec<u8>, Box<Diagnostic>> {
    let read = std::fs::metadata(path).and_then(|about| {
        if !about.is_file() || about.len() > LARGEST_FILE {
            return Err(std::io::Error::other("not a file of at most 4096 bytes"));
        }
        Ok((about.permissions().mode(), std::fs::read(path)?))
    });
    let (mode, bytes) = read.map_err(|error| {
        let message = format!("cannot read the key file {}: {error}", path.display());
        Box::new(Diagnostic::error("hmac", at, message).expected("a file with a key of 32 to 64 bytes"))
    })?;
    if mode & 0o077 != 0 {
        let message = format!("the key file {} is open to its group or to others", path.display());
        let finding = Diagnostic::warning("hmac-key-file", at, message);
        diagnostics.push(finding.help(format!("chmod 600 {}", path.display())));
    }
    let end = bytes.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |last| last + 1);
    secret(&bytes[..end], at)
}

/// Pairs of digits.
pub(crate) fn from_hexadecimal(digits: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = digits.chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    pairs.collect::<Option<Vec<u8>>>().filter(|bytes| !bytes.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_comes_in_pairs() {
        assert_eq!(from_hexadecimal(b"c301Ff"), Some(vec![0xc3, 1, 0xff]));
        for wrong in ["", "1", "0g", "+1"] {
            assert_eq!(from_hexadecimal(wrong.as_bytes()), None, "{wrong}");
        }
    }
}
