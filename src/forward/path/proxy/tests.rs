//! Headers of the specification and of HAProxy 2.6, whole, in pieces, and with every kind of damage.

use super::*;

fn read(bytes: &[u8]) -> Result<(usize, Option<Header>), Fault> {
    Reader::new().feed(bytes)
}

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = reader::SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
    header.extend(body);
    header
}

/// 192.168.0.1:56324 to 192.168.0.11:443.
const BODY: [u8; 12] = [192, 168, 0, 1, 192, 168, 0, 11, 0xdc, 0x04, 0x01, 0xbb];

const LONGEST_UNKNOWN: &str = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                               ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";

#[test]
fn lines_of_the_specification_are_read_and_nothing_after_them() {
    let ffff = "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535";
    let cases = [
        (
            "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
            Header::For(ends("192.168.0.1:56324", "192.168.0.11:443")),
        ),
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            Header::For(ends("255.255.255.255:65535", "255.255.255.255:65535")),
        ),
        (
            "PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
             ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
            Header::For(ends(ffff, ffff)),
        ),
        ("PROXY TCP6 2001:DB8::1 :: 0 1\r\n", Header::For(ends("[2001:db8::1]:0", "[::]:1"))),
        ("PROXY UNKNOWN\r\n", Header::Itself),
        ("PROXY UNKNOWN \x01\x02 \r anything\r\n", Header::Itself),
        (LONGEST_UNKNOWN, Header::Itself),
    ];
    for (line, header) in cases {
        let with_data = format!("{line}GET / HTTP/1.1\r\n");
        assert_eq!(read(with_data.as_bytes()), Ok((line.len(), Some(header))), "{line:?}");
    }
    assert_eq!(LONGEST_UNKNOWN.len(), 107);
}

#[test]
fn lines_that_are_not_exactly_as_specified_are_none() {
    let long = "PROXY UNKNOWN ".to_owned() + &"x".repeat(92) + "\r\n";
    assert_eq!(long.len(), 108);
    let cases = [
        ("GET / HTTP/1.1\r\n", Fault::Signature),
        ("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n", Fault::Signature),
        ("PROXY\r\n", Fault::Signature),
        ("PROXY \r\n", Fault::Line),
        ("PROXY UNKNOWN\n", Fault::Line),
        ("PROXY UNKNOWNS\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 \r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 443 1\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324\r\n", Fault::Line),
        ("PROXY TCP4  192.168.0.1 192.168.0.11 56324 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.01 192.168.0.11 56324 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.256 192.168.0.11 56324 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.1 192.168.0.11 56324 443\r\n", Fault::Line),
        ("PROXY TCP4 ::1 ::1 56324 443\r\n", Fault::Line),
        ("PROXY TCP6 192.168.0.1 192.168.0.11 56324 443\r\n", Fault::Line),
        ("PROXY TCP6 fe80::1%eth0 ::1 56324 443\r\n", Fault::Line),
        ("PROXY TCP6 1::2::3 ::1 56324 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 056324 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 +1 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 -1 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 65536 443\r\n", Fault::Line),
        ("PROXY TCP4 192.168.0.1 192.168.0.11 56324 \r\n", Fault::Line),
        ("PROXY UDP4 192.168.0.1 192.168.0.11 56324 443\r\n", Fault::Line),
        ("PROXY TCP4 \u{a0}192.168.0.1 192.168.0.11 56324 443\r\n", Fault::Line),
        (&long, Fault::TooLong),
    ];
    for (line, fault) in cases {
        assert_eq!(read(line.as_bytes()), Err(fault), "{line:?}");
    }
}

#[test]
fn binary_headers_are_read_and_nothing_after_them() {
    let v6 = "[2001:db8::1]:56324";
    let mut body6 = [0; 36];
    body6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    body6[15] = 1;
    body6[16..20].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
    body6[31] = 2;
    body6[32..].copy_from_slice(&BODY[8..]);
    let with_extensions = [&BODY[..], &[0x04, 0, 2, 9, 9], &[0xea, 0, 0], &[0x20, 0, 1, 7]].concat();
    let to = Header::For(ends("192.168.0.1:56324", "192.168.0.11:443"));
    let cases = [
        (v2(0x21, 0x11, &BODY), to),
        (v2(0x21, 0x21, &body6), Header::For(ends(v6, "[2001:db8::2]:443"))),
        (v2(0x21, 0x11, &with_extensions), to),
        // LOCAL: whatever is in there is skipped, the family too.
        (v2(0x20, 0x00, &[]), Header::Itself),
        (v2(0x20, 0xff, &[0xff; 300]), Header::Itself),
        (v2(0x20, 0x11, &BODY), Header::Itself),
        // Combinations that are allowed and of no use to a TCP proxy.
        (v2(0x21, 0x00, &[]), Header::Itself),
        (v2(0x21, 0x00, &[0xff; 65535]), Header::Itself),
        (v2(0x21, 0x12, &BODY), Header::Itself),
        (v2(0x21, 0x22, &body6), Header::Itself),
        (v2(0x21, 0x31, &[b'/'; 216]), Header::Itself),
        (v2(0x21, 0x10, &BODY), Header::Itself),
    ];
    for (bytes, header) in cases {
        let with_data = [&bytes[..], b"\r\n\r\n\0\r\nQUIT\n"].concat();
        assert_eq!(read(&with_data), Ok((bytes.len(), Some(header))), "{:?}", &bytes[12..]);
    }
}

#[test]
fn binary_headers_that_lie_are_none() {
    let extended = |extension: &[u8]| v2(0x21, 0x11, &[&BODY[..], extension].concat());
    let cases = [
        (v2(0x11, 0x11, &BODY), Fault::Version(1)),
        (v2(0x31, 0x11, &BODY), Fault::Version(3)),
        (v2(0x22, 0x11, &BODY), Fault::Command(2)),
        (v2(0x2f, 0x11, &BODY), Fault::Command(15)),
        (v2(0x21, 0x41, &BODY), Fault::Family(0x41)),
        (v2(0x21, 0x13, &BODY), Fault::Family(0x13)),
        (v2(0x21, 0x11, &BODY[..11]), Fault::Length { got: 11, wanted: 12 }),
        (v2(0x21, 0x11, &[]), Fault::Length { got: 0, wanted: 12 }),
        (v2(0x21, 0x21, &BODY), Fault::Length { got: 12, wanted: 36 }),
        (v2(0x21, 0x31, &[0; 215]), Fault::Length { got: 215, wanted: 216 }),
        // Type-length-values that go beyond the end.
        (extended(&[4]), Fault::Extension),
        (extended(&[4, 0]), Fault::Extension),
        (extended(&[4, 0, 1]), Fault::Extension),
        (extended(&[4, 0, 2, 0]), Fault::Extension),
        (extended(&[4, 0xff, 0xff, 0]), Fault::Extension),
        (extended(&[3, 0, 3, 0, 0, 0]), Fault::Extension),
    ];
    for (bytes, fault) in cases {
        assert_eq!(read(&bytes), Err(fault), "{:?}", &bytes[12..]);
    }
    for at in 0..12 {
        let mut bytes = v2(0x21, 0x11, &BODY);
        bytes[at] ^= 0x20;
        assert_eq!(read(&bytes), Err(Fault::Signature), "byte {at}");
    }
}

/// As `send-proxy-v2 proxy-v2-options crc32c` of HAProxy 2.6.12 sent it, from 127.0.0.1:38008 to 127.0.0.1:7100.
const FROM_HAPROXY: &str = include_str!("tests/haproxy-2.6-crc32c.hex");

fn from_haproxy() -> Vec<u8> {
    let digits: Vec<char> = FROM_HAPROXY.lines().last().unwrap().chars().collect();
    digits.chunks(2).map(|two| u8::from_str_radix(&String::from_iter(two), 16).unwrap()).collect()
}

#[test]
fn a_checksum_that_haproxy_counted_is_right_and_any_other_bit_is_wrong() {
    let bytes = from_haproxy();
    assert!(matches!(read(&bytes), Ok((length, Some(Header::For(_)))) if length == bytes.len()));
    // Damage before that is seen without the checksum; with another type there is none.
    let (addresses, type_of_checksum) = (16, 28);
    for bit in (addresses * 8..bytes.len() * 8).filter(|bit| bit / 8 != type_of_checksum) {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert!(!matches!(read(&damaged), Ok((_, Some(Header::For(_))))), "bit {bit}");
    }
}

#[test]
fn a_header_in_pieces_is_the_same_and_an_incomplete_one_is_not_there_yet() {
    let headers = [
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n".to_vec(),
        v2(0x21, 0x11, &[&BODY[..], &[4, 0, 2, 1, 1]].concat()),
        from_haproxy(),
    ];
    for header in headers {
        let whole = read(&header);
        for cut in 0..header.len() {
            let mut reader = Reader::new();
            assert_eq!(reader.feed(&header[..cut]), Ok((cut, None)));
            assert_eq!(reader.is_empty(), cut == 0);
            assert_eq!(reader.feed(&header[cut..]), whole.map(|(_, said)| (header.len() - cut, said)));
        }
        let mut reader = Reader::new();
        let said = header.iter().map(|byte| reader.feed(&[*byte]).unwrap().1).find(Option::is_some);
        assert_eq!(said.flatten(), whole.unwrap().1);
    }
}

#[test]
fn what_is_written_is_as_specified() {
    let v4 = ends("192.168.0.1:56324", "192.168.0.11:443");
    let v6 = ends("[2001:db8::1]:56324", "[2001:db8::b]:443");
    let line = |ends: Option<&Ends>| String::from_utf8(write(Version::V1, ends).bytes().to_vec()).unwrap();
    assert_eq!(line(Some(&v4)), "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n");
    assert_eq!(line(Some(&v6)), "PROXY TCP6 2001:db8::1 2001:db8::b 56324 443\r\n");
    assert_eq!(line(None), "PROXY UNKNOWN\r\n");
    assert_eq!(line(Some(&ends("192.168.0.1:1", "[::1]:1"))), "PROXY UNKNOWN\r\n");
    assert_eq!(write(Version::V2, Some(&v4)).bytes(), v2(0x21, 0x11, &BODY));
    assert_eq!(write(Version::V2, None).bytes(), v2(0x20, 0, &[]));
    for ends in [v4, v6, ends("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[::ffff:1.2.3.4]:0")] {
        for version in [Version::V1, Version::V2] {
            let written = write(version, Some(&ends));
            let whole = (written.bytes().len(), Some(Header::For(ends)));
            assert_eq!(read(written.bytes()), Ok(whole));
        }
    }
}

#[test]
fn a_network_contains_what_shares_its_first_bits() {
    let network = |text: &str, length| Network { address: text.parse().unwrap(), length };
    let is_in = |network: Network, text: &str| network.contains(text.parse().unwrap());
    assert!(is_in(network("10.1.2.3", 8), "10.255.0.1"));
    assert!(!is_in(network("10.0.0.0", 8), "11.0.0.0"));
    assert!(is_in(network("10.0.0.1", 32), "10.0.0.1"));
    assert!(!is_in(network("10.0.0.1", 32), "10.0.0.0"));
    assert!(is_in(network("0.0.0.0", 0), "255.0.0.1"));
    assert!(!is_in(network("0.0.0.0", 0), "::1"));
    assert!(is_in(network("2001:db8::", 32), "2001:db8:ffff::1"));
    assert!(!is_in(network("2001:db8::", 33), "2001:db8:ffff::1"));
}
