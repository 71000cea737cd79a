//! What is worth knowing of a server's certificate although the check succeeds: it ends soon, it is not for the VIP.

use std::net::IpAddr;
use std::time::Duration;

use config::ready::Tls;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::ParsedCertificate;

const DAY: u64 = 24 * 3600;

/// What is worth knowing of the chain that a server has shown, at this time after 1970. The `vips` count beside
/// `tls.also_for`.
pub(super) fn findings(
    chain: &[CertificateDer<'_>],
    tls: &Tls,
    vips: &[IpAddr],
    now: Duration,
) -> Vec<String> {
    let Some(end_entity) = chain.first() else { return Vec::new() };
    let mut found = Vec::new();
    for (index, certificate) in chain.iter().enumerate() {
        let whose = if index == 0 { "certificate" } else { "certificate of its issuer" };
        match not_after(certificate) {
            Some(end) => {
                found.extend(ends_soon(end, now.as_secs(), tls.warn_before).map(|s| format!("{whose} {s}")))
            }
            None => found.push(format!("{whose} does not say when it ends")),
        }
    }
    let wanted = tls.also_for.iter().cloned().chain(vips.iter().map(IpAddr::to_string));
    let parsed = ParsedCertificate::try_from(end_entity);
    let is_for = |name: &String| match (&parsed, ServerName::try_from(name.clone())) {
        (Ok(parsed), Ok(name)) => verify_server_name(parsed, &name).is_ok(),
        _ => false,
    };
    let missing: Vec<String> = wanted.filter(|name| !is_for(name)).collect();
    if !missing.is_empty() {
        found.push(format!("certificate is not for {}", missing.join(", ")));
    }
    found
}

fn ends_soon(end: u64, now: u64, warn_before: Duration) -> Option<String> {
    if end <= now {
        return Some(match (now - end) / DAY {
            0 => "has expired today".to_owned(),
            1 => "has expired 1 day ago".to_owned(),
            days => format!("has expired {days} days ago"),
        });
    }
    let left = end - now;
    (left < warn_before.as_secs()).then(|| match left / DAY {
        0 => format!("expires in {} hours", left / 3600),
        1 => "expires in 1 day".to_owned(),
        days => format!("expires in {days} days"),
    })
}

/// Seconds after 1970 at which a certificate ends (RFC 5280 §4.1.2.5); `None` where it cannot be read.
fn not_after(certificate: &[u8]) -> Option<u64> {
    const SEQUENCE: u8 = 0x30;
    let (_, certificate, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, mut rest, _) = element(certificate).filter(|(tag, ..)| *tag == SEQUENCE)?;
    // Version (explicit tag 0, may be missing), serial number, signature, issuer; then the validity.
    if element(rest)?.0 == 0xa0 {
        rest = element(rest)?.2;
    }
    for _ in 0..3 {
        rest = element(rest)?.2;
    }
    let (_, validity, _) = element(rest).filter(|(tag, ..)| *tag == SEQUENCE)?;
    let (_, _, rest) = element(validity)?;
    let (tag, time, _) = element(rest)?;
    seconds(tag, time)
}

/// Tag, content and what follows of a DER element.
fn element(octets: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (tag, rest) = octets.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // Up to three octets of length: 16 MiB.
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |length, octet| length << 8 | usize::from(*octet)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((*tag, content, rest))
}

/// UTCTime `YYMMDDHHMMSSZ` or GeneralizedTime `YYYYMMDDHHMMSSZ`, seconds after 1970.
fn seconds(tag: u8, time: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|octet| octet.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match (tag, text.len()) {
        (0x17, 12) => {
            let year: u64 = text[..2].parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, &text[2..])
        }
        (0x18, 14) => (text[..4].parse().ok()?, &text[4..]),
        _ => return None,
    };
    let part = |index: usize| rest[2 * index..2 * index + 2].parse::<u64>().ok();
    let (month, day) = (part(0)?, part(1)?);
    let (hour, minute, second) = (part(2)?, part(3)?, part(4)?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) || year < 1970 {
        return None;
    }
    // Days since the 1st of March of the year 0, so that a leap day is the last of its year.
    let (from_march, year) = if month > 2 { (month - 3, year) } else { (month + 9, year - 1) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * from_march + 2) / 5 + day - 1;
    Some((days - 719_468) * DAY + hour * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// `date -ud 2030-03-01 +%s`
    const MARCH_2030: u64 = 1_898_553_600;

    fn certificate(names: &[&str], end: (i32, u8, u8)) -> CertificateDer<'static> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.not_after = date_time_ymd(end.0, end.1, end.2);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    fn at(seconds: u64, tls: &Tls, vips: &[&str]) -> Vec<String> {
        let vips: Vec<IpAddr> = vips.iter().map(|vip| vip.parse().unwrap()).collect();
        let chain = [certificate(&["kubernetes", "10.0.0.1"], (2030, 3, 1))];
        findings(&chain, tls, &vips, Duration::from_secs(seconds))
    }

    /// Numbers by GNU date.
    #[test]
    fn the_end_of_a_certificate_is_read() {
        for (end, wanted) in [
            ((2030, 3, 1), MARCH_2030),
            ((2028, 2, 29), 1_835_395_200),
            // From 2050 on it is a GeneralizedTime.
            ((2051, 12, 31), 2_587_593_600),
        ] {
            assert_eq!(not_after(&certificate(&["a"], end)), Some(wanted), "{end:?}");
        }
        assert_eq!(seconds(0x17, b"700101000000Z"), Some(0));
        assert_eq!(seconds(0x17, b"261121204301Z"), Some(1_795_293_781));
    }

    #[test]
    fn no_octets_are_a_trap() {
        let whole = certificate(&["a"], (2030, 3, 1));
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None);
        }
        for index in 0..whole.len() {
            for octet in [0, 0x7f, 0x80, 0x84, 0xff] {
                let mut broken = whole.to_vec();
                broken[index] = octet;
                let _ = not_after(&broken);
            }
        }
    }

    #[test]
    fn an_end_within_the_time_is_said_in_days() {
        let tls = Tls::default();
        assert_eq!(at(MARCH_2030 - 14 * DAY, &tls, &[]), [""; 0]);
        assert_eq!(at(MARCH_2030 - 14 * DAY + 1, &tls, &[]), ["certificate expires in 13 days"]);
        assert_eq!(at(MARCH_2030 - 3 * 3600, &tls, &[]), ["certificate expires in 3 hours"]);
        assert_eq!(at(MARCH_2030 + 5 * DAY, &tls, &[]), ["certificate has expired 5 days ago"]);
        let tls = Tls { warn_before: Duration::from_secs(DAY), ..tls };
        assert_eq!(at(MARCH_2030 - 2 * DAY, &tls, &[]), [""; 0]);
    }

    #[test]
    fn names_and_addresses_that_it_is_not_for_are_named() {
        let tls = Tls { also_for: vec!["kubernetes".into(), "api.example.org".into()], ..Tls::default() };
        assert_eq!(
            at(MARCH_2030 - 100 * DAY, &tls, &["10.0.0.1", "10.0.0.100", "2001:db8::100"]),
            ["certificate is not for api.example.org, 10.0.0.100, 2001:db8::100"]
        );
    }
}
