//! One question of the DNS, and whether it was answered (RFC 1035 §4).

use config::ready::DnsKind;

/// Octets of the header.
const HEADER: usize = 12;
/// QR: this is an answer.
const ANSWER: u8 = 0x80;

/// A question for one record of class IN, recursion desired. The name is one that the configuration let through.
pub(super) fn query(id: u16, name: &str, kind: DnsKind) -> Vec<u8> {
    let mut octets = id.to_be_bytes().to_vec();
    octets.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.').filter(|label| !label.is_empty()) {
        let label = &label.as_bytes()[..label.len().min(63)];
        octets.extend(u8::try_from(label.len()));
        octets.extend_from_slice(label);
    }
    octets.push(0);
    octets.extend(kind.0.to_be_bytes());
    octets.extend([0, 1]);
    octets
}

/// What an answer to this query says. `None`: it is no answer to it.
pub(super) fn judge(reply: &[u8], query: &[u8]) -> Option<Result<String, String>> {
    let header = reply.get(..HEADER)?;
    if header[..2] != query[..2] || header[2] & ANSWER == 0 {
        return None;
    }
    // A name server may leave the question out where it cannot read it, and must not change it.
    let question = &query[HEADER..];
    let has_question = u16::from_be_bytes([header[4], header[5]]) > 0;
    if has_question && !reply.get(HEADER..HEADER + question.len())?.eq_ignore_ascii_case(question) {
        return None;
    }
    let records = u16::from_be_bytes([header[6], header[7]]);
    let code = header[3] & 0x0f;
    Some(match code {
        0 if records == 1 => Ok("NOERROR, 1 record".to_owned()),
        0 => Ok(format!("NOERROR, {records} records")),
        code => Err(format!("the name server says {}", code_name(code))),
    })
}

/// RFC 1035 §4.1.1, RFC 2136 §2.2.
fn code_name(code: u8) -> String {
    match code {
        1 => "FORMERR".to_owned(),
        2 => "SERVFAIL".to_owned(),
        3 => "NXDOMAIN".to_owned(),
        4 => "NOTIMP".to_owned(),
        5 => "REFUSED".to_owned(),
        code => format!("code {code}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Octets by hand from RFC 1035 §4.1.1 and §4.1.2: recursion desired, one question, AAAA (28), IN (1).
    #[test]
    fn a_query_is_a_header_and_a_question() {
        let wanted =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x1c\x00\x01";
        assert_eq!(query(0x1234, "example.org.", DnsKind(28)), wanted);
        let root = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x06\x00\x01";
        assert_eq!(query(0x1234, ".", DnsKind::SOA), root);
    }

    #[test]
    fn no_octets_are_a_trap() {
        let query = query(7, "example.org", DnsKind(1));
        for length in 0..query.len() {
            let mut reply = query[..length].to_vec();
            if let Some(flags) = reply.get_mut(2) {
                *flags |= ANSWER;
            }
            assert_eq!(judge(&reply, &query), None, "{length}");
        }
    }
}
