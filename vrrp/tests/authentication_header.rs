//! Authentication type 2: packets of keepalived 2.2.7 (vectors T05 to T07, capture 03), judged and made again.

mod support;

use std::net::Ipv4Addr;
use std::time::Duration;

use support::pcap::{datagram, frames, golden, hex};
use support::receivers::{ONE, ladder};
use support::*;
use vrrp::{
    Accepted, Authentication, AuthenticationHeader, Datagram, DiscardReason, Ladder, Priority, Protection,
    Version,
};

const KEY: [u8; 8] = *b"ahkey123";
/// keepalived 2.2.7, `auth_type AH`, `auth_pass ahkey123`: sequence numbers 1, 2, 3 (see `golden/README.md`).
const T05: &str = "45c0004000010000ff3318b6c0000201e000001270040000c00002010000000178103bffc1b43097906f7404213378010201a265c00002640000000000000000";
const T06: &str = "45c0004000020000ff3318b5c0000201e000001270040000c0000201000000025932e3ff09ae8a3e2d0b190421337801\
    0201a265c00002640000000000000000";
const T07: &str = "45c0004000030000ff3318b4c0000201e000001270040000c0000201000000038e9e8ae7e209720f5502ae7221330001\
    02011a66c00002640000000000000000";

fn receiver() -> Ladder {
    Ladder { authentication: Authentication::Header, ..ladder(Version::V2, 51, seconds(1), ONE) }
}

fn fresh() -> Protection {
    Protection::Header(AuthenticationHeader::new(KEY))
}

fn judge(protection: &mut Protection, packet: &[u8]) -> Result<Accepted, DiscardReason> {
    let datagram = Datagram::from_ipv4(packet)?;
    receiver().judge_protected(&datagram, protection, Duration::ZERO)
}

fn last(protection: &Protection) -> u32 {
    match protection {
        Protection::Header(header) => header.last_sequence(),
        other => panic!("{other:?}"),
    }
}

/// With a right IP header checksum again, since a router that changes the header does that too.
fn changed(packet: &str, at: usize, to: u8) -> Vec<u8> {
    let mut packet = hex(packet);
    packet[at] = to;
    packet[10..12].fill(0);
    let sum: u32 = packet[..20].chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

#[test]
fn keepalived_s_adverts_are_accepted_in_their_order() {
    let mut protection = fresh();
    for (packet, priority) in [(T05, 120), (T06, 120), (T07, 0)] {
        assert_eq!(judge(&mut protection, &hex(packet)).unwrap().priority, Priority::new(priority));
    }
    assert_eq!(last(&protection), 3);
}

#[test]
fn ours_are_octet_for_octet_keepalived_s() {
    let mut header = AuthenticationHeader::new(KEY);
    for packet in [T05, T06, T07].map(hex) {
        let sequence = header.next_sequence();
        // The kernel fills the checksum of the IP header only later.
        let mut ip_header = packet[..20].to_vec();
        ip_header[10..12].fill(0);
        assert_eq!(header.seal(&ip_header, sequence, &packet[44..]), packet[20..44]);
    }
}

#[test]
fn every_advert_of_the_capture_is_accepted() {
    let frames = frames(&std::fs::read(golden("03-ka227-v2-ah-1vip.pcap")).unwrap());
    let mut protection = fresh();
    let mut accepted = 0;
    for (_, frame) in &frames {
        if let Some(Ok(datagram)) = datagram(frame) {
            receiver().judge_protected(&datagram, &mut protection, Duration::ZERO).unwrap();
            accepted += 1;
        }
    }
    // 3 by the README beside it.
    assert_eq!((accepted, last(&protection)), (3, 3));
}

#[test]
fn a_number_that_is_not_above_the_last_is_refused_and_remembered_as_it_was() {
    let mut protection = fresh();
    judge(&mut protection, &hex(T06)).unwrap();
    assert_eq!(judge(&mut protection, &hex(T06)), Err(DiscardReason::HeaderReplay { got: 2, last: 2 }));
    assert_eq!(judge(&mut protection, &hex(T05)), Err(DiscardReason::HeaderReplay { got: 1, last: 2 }));
    assert_eq!(last(&protection), 2);
    judge(&mut protection, &hex(T07)).unwrap();
}

#[test]
fn who_takes_over_goes_on_from_the_last_number_heard() {
    let mut protection = fresh();
    judge(&mut protection, &hex(T07)).unwrap();
    let Protection::Header(header) = &mut protection else { panic!() };
    assert_eq!((header.next_sequence(), header.next_sequence()), (4, 5));
    // And an old packet of the former active router is of no use.
    assert_eq!(judge(&mut protection, &hex(T07)), Err(DiscardReason::HeaderReplay { got: 3, last: 5 }));
}

#[test]
fn another_key_or_a_changed_packet_is_refused() {
    let mut other = Protection::Header(AuthenticationHeader::new(*b"ahkey124"));
    assert_eq!(judge(&mut other, &hex(T05)), Err(DiscardReason::HeaderIntegrity));
    // Identification, source, SPI, sequence, check value, priority, address, authentication data.
    for at in [5, 15, 31, 35, 40, 46, 55, 63] {
        let packet = changed(T05, at, hex(T05)[at] ^ 1);
        let mut protection = fresh();
        assert_eq!(judge(&mut protection, &packet), Err(DiscardReason::HeaderIntegrity), "octet {at}");
        assert_eq!(last(&protection), 0);
    }
}

#[test]
fn what_routers_may_change_is_not_covered() {
    // TOS; Don't Fragment.
    for (at, to) in [(1, 0), (6, 0x40)] {
        judge(&mut fresh(), &changed(T05, at, to)).unwrap();
    }
}

#[test]
fn the_index_must_be_the_source_address() {
    let mut packet = hex(T05);
    packet[27] = 9;
    let mut header = AuthenticationHeader::new(KEY);
    // Signed as it is, by somebody who knows the key.
    packet[24..28].copy_from_slice(&[192, 0, 2, 9]);
    let foreign = {
        let mut ip_header = packet[..20].to_vec();
        ip_header[12..16].copy_from_slice(&[192, 0, 2, 9]);
        ip_header
    };
    let sequence = header.next_sequence();
    let sealed = header.seal(&foreign, sequence, &packet[44..]);
    packet[20..44].copy_from_slice(&sealed);
    // The check value is that of another source, so it fails first; an index alone cannot be wrong by accident.
    assert_eq!(judge(&mut fresh(), &packet), Err(DiscardReason::HeaderIntegrity));
    assert_eq!(
        DiscardReason::HeaderOwner { got: Ipv4Addr::new(192, 0, 2, 9) }.to_string(),
        "the authentication header belongs to 192.0.2.9, not to the sender"
    );
}

#[test]
fn with_and_without_the_header_do_not_mix() {
    let without = ladder(Version::V2, 51, seconds(1), ONE);
    let sealed = hex(T05);
    let sealed = Datagram::from_ipv4(&sealed).unwrap();
    assert_eq!(without.judge(&sealed), Err(DiscardReason::AuthTypeMismatch { got: 2, wanted: 0 }));
    // T01: the same advert without authentication.
    let plain = hex("45c0002800010000ff701891c0000201e0000012213364010001b865c00002640000000000000000");
    assert_eq!(judge(&mut fresh(), &plain), Err(DiscardReason::AuthTypeMismatch { got: 0, wanted: 2 }));
}

#[test]
fn a_header_that_is_cut_off_or_holds_something_else_is_no_advert() {
    for length in 21..44 {
        let mut packet = hex(T05);
        packet.truncate(length);
        packet[3] = u8::try_from(length).unwrap();
        packet = changed(&packet.iter().map(|octet| format!("{octet:02x}")).collect::<String>(), 1, 0xc0);
        assert_eq!(
            Datagram::from_ipv4(&packet),
            Err(DiscardReason::HeaderLength { got: length - 20 }),
            "{length}"
        );
    }
    assert_eq!(Datagram::from_ipv4(&changed(T05, 20, 6)), Err(DiscardReason::Protocol { got: 6 }));
}
