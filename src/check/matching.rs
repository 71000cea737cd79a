//! Does an answer hold what is expected?

use config::ready::{Expect, Matching};
use md5::Md5;
use regex::bytes::Regex;
use sha2::{Digest, Sha256};

/// Characters of an answer that are shown.
const SHOWN: usize = 80;

/// An expectation, ready to be applied again and again.
#[derive(Debug)]
pub(super) struct Matcher {
    how: How,
    negate: bool,
}

#[derive(Debug)]
enum How {
    Contains(Vec<u8>),
    Equals(Vec<u8>),
    Starts(Vec<u8>),
    Ends(Vec<u8>),
    Regex(Regex),
    Md5([u8; 16]),
    Sha256([u8; 32]),
}

impl Matcher {
    /// # Errors
    /// The expression is wrong, which the configuration does not let through.
    pub(super) fn new(expect: &Expect) -> Result<Self, String> {
        let how = match &expect.matching {
            Matching::Contains(octets) => How::Contains(octets.0.clone()),
            Matching::Equals(octets) => How::Equals(octets.0.clone()),
            Matching::Starts(octets) => How::Starts(octets.0.clone()),
            Matching::Ends(octets) => How::Ends(octets.0.clone()),
            Matching::Regex(pattern) => How::Regex(Matching::regex(pattern)?),
            Matching::Md5(digest) => How::Md5(*digest),
            Matching::Sha256(digest) => How::Sha256(*digest),
        };
        Ok(Self { how, negate: expect.negate })
    }

    /// Must what is looked for be absent?
    pub(super) fn negates(&self) -> bool {
        self.negate
    }

    /// The whole of it is needed, however long.
    pub(super) fn is_digest(&self) -> bool {
        matches!(self.how, How::Md5(_) | How::Sha256(_))
    }

    /// Is what is looked for there, whether or not it should be?
    pub(super) fn finds(&self, octets: &[u8]) -> bool {
        match &self.how {
            How::Contains(part) => super::file::contains(octets, part),
            How::Equals(whole) => octets == whole,
            How::Starts(start) => octets.starts_with(start),
            How::Ends(end) => octets.ends_with(end),
            How::Regex(regex) => regex.is_match(octets),
            How::Md5(digest) => Md5::digest(octets).as_slice() == digest,
            How::Sha256(digest) => Sha256::digest(octets).as_slice() == digest,
        }
    }

    /// What is wrong with `octets`, behind "the body" or "the answer": `does not contain "ready"`.
    pub(super) fn complaint(&self, octets: &[u8]) -> Option<String> {
        if self.finds(octets) != self.negate {
            return None;
        }
        let said = match &self.how {
            How::Contains(part) if self.negate => format!("contains {}", shown(part)),
            How::Contains(part) => format!("does not contain {}", shown(part)),
            How::Equals(whole) if self.negate => format!("is {}", shown(whole)),
            How::Equals(whole) => format!("is not {}", shown(whole)),
            How::Starts(start) if self.negate => format!("starts with {}", shown(start)),
            How::Starts(start) => format!("does not start with {}", shown(start)),
            How::Ends(end) if self.negate => format!("ends with {}", shown(end)),
            How::Ends(end) => format!("does not end with {}", shown(end)),
            How::Regex(regex) if self.negate => format!("matches {:?}", regex.as_str()),
            How::Regex(regex) => format!("does not match {:?}", regex.as_str()),
            How::Md5(_) | How::Sha256(_) if self.negate => "has the digest that it must not have".to_owned(),
            How::Md5(_) => format!("has the MD5 digest {}", hex(&Md5::digest(octets))),
            How::Sha256(_) => format!("has the SHA-256 digest {}", hex(&Sha256::digest(octets))),
        };
        Some(said)
    }
}

/// The beginning of what a server has sent, in quotes, on one line.
pub(super) fn shown(octets: &[u8]) -> String {
    match octets.get(..SHOWN) {
        Some(start) if octets.len() > SHOWN => format!("\"{}…\"", start.escape_ascii()),
        _ => format!("\"{}\"", octets.escape_ascii()),
    }
}

/// A line of text that a server has sent, without what a terminal would act on.
pub(super) fn line(octets: &[u8]) -> String {
    let text = String::from_utf8_lossy(octets);
    text.trim().chars().filter(|c| !c.is_control()).take(SHOWN).collect()
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(matching: Matching, negate: bool, octets: &[u8]) -> Option<String> {
        Matcher::new(&Expect { matching, negate }).unwrap().complaint(octets)
    }

    #[test]
    fn each_way_to_compare_says_what_is_wrong() {
        let text = b"+PONG\r\n";
        let ways = [
            (Matching::Contains("PONG".into()), Matching::Contains("LOADING".into())),
            (Matching::Equals("+PONG\r\n".into()), Matching::Equals("+PONG".into())),
            (Matching::Starts("+".into()), Matching::Starts("-".into())),
            (Matching::Ends("\r\n".into()), Matching::Ends("G".into())),
            (Matching::Regex("^\\+P".into()), Matching::Regex("^P".into())),
        ];
        let mut complaints = Vec::new();
        for (good, bad) in ways {
            assert_eq!(complaint(good.clone(), false, text), None);
            assert_eq!(complaint(bad.clone(), true, text), None);
            complaints.extend(complaint(bad, false, text));
            complaints.extend(complaint(good, true, text));
        }
        let wanted = [
            "does not contain \"LOADING\"",
            "contains \"PONG\"",
            "is not \"+PONG\"",
            "is \"+PONG\\r\\n\"",
            "does not start with \"-\"",
            "starts with \"+\"",
            "does not end with \"G\"",
            "ends with \"\\r\\n\"",
            "does not match \"^P\"",
            "matches \"^\\\\+P\"",
        ];
        assert_eq!(complaints, wanted);
    }

    /// `printf hello | md5sum`, `printf hello | sha256sum`.
    #[test]
    fn digests_are_those_of_md5sum_and_sha256sum() {
        let md5 = "5d41402abc4b2a76b9719d911017c592";
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let digest = |digits: &str| -> Vec<u8> {
            (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
        };
        let good = [
            Matching::Md5(digest(md5).try_into().unwrap()),
            Matching::Sha256(digest(sha256).try_into().unwrap()),
        ];
        for matching in good {
            assert_eq!(complaint(matching.clone(), false, b"hello"), None);
            assert!(complaint(matching, false, b"Hello").is_some());
        }
        assert_eq!(
            complaint(Matching::Md5([0; 16]), false, b"hello"),
            Some(format!("has the MD5 digest {md5}"))
        );
    }

    #[test]
    fn what_is_shown_of_an_answer_is_short_and_on_one_line() {
        assert_eq!(shown(b"\x1b[2J\n\xff"), "\"\\x1b[2J\\n\\xff\"");
        assert_eq!(shown(&[b'a'; 5000]).chars().count(), SHOWN + 3);
        assert_eq!(line(b" 220 \x1b[2Jmail\r\n"), "220 [2Jmail");
    }
}
