//! `auth_hmac`: H01 and H02 are of keepalived's `test/auth_hmac_test.c` and the appendix of draft-cassen-vrrp-auth-hmac-00,
//! H03 to H07 were computed by a script that reproduces those two.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use support::pcap::hex;
use support::receivers::{ladder, multicast, unicast};
use support::*;
use vrrp::{
    Accepted, AdverInterval, Datagram, DiscardReason, Family, Ladder, Oddity, Protection, Trailer,
    TrailerConfig, TrailerError, TrailerKey, TrailerMode, Transport, UnicastPeer, Version,
};

/// When every vector was signed: sequence 0x6800000080000000.
const SIGNED: Duration = Duration::new(0x6800_0000, 500_000_000);
const WINDOW: Duration = Duration::from_secs(5);

fn first_key() -> TrailerKey {
    TrailerKey { id: 1, secret: (0..32).collect() }
}

/// `correct horse battery staple 0123456789 abcdefgh`
fn second_key() -> TrailerKey {
    TrailerKey {
        id: 2,
        secret: hex(concat!(
            "636f727265637420686f727365206261747465727920737461706c65203031",
            "3233343536373839206162636465666768"
        )),
    }
}

fn config(mode: TrailerMode) -> TrailerConfig {
    TrailerConfig {
        keys: vec![first_key(), second_key()],
        active_key: 1,
        time_window: WINDOW,
        monotonic: false,
        mode,
    }
}

fn protection(mode: TrailerMode) -> Protection {
    Protection::Trailer(Trailer::new(config(mode)).unwrap())
}

fn monotonic() -> Protection {
    let config = TrailerConfig { monotonic: true, ..config(TrailerMode::Enforce) };
    Protection::Trailer(Trailer::new(config).unwrap())
}

/// Id, message with trailer, source, destination, addresses, priority, key.
struct Vector {
    id: &'static str,
    payload: &'static str,
    source: &'static str,
    destination: &'static str,
    addresses: &'static [&'static str],
    sequence: u64,
    key: u8,
}

const V4: &[&str] = &["192.0.2.100"];
const VECTORS: [Vector; 7] = [
    Vector {
        id: "H01",
        payload: "3133c80100644402c00002640101000068000000800000001b84bc4e8e43892dc6d98448f8ee2265",
        source: "198.51.100.10",
        destination: "224.0.0.18",
        addresses: V4,
        sequence: 0x6800_0000_8000_0000,
        key: 1,
    },
    Vector {
        id: "H02",
        payload: "3133c8010064a2e9fe800000000000000000000000000100010100006800000080000000c8c56146ebfd66ee10ec4d8186461b78",
        source: "fe80::10",
        destination: "fe80::20",
        addresses: &["fe80::100"],
        sequence: 0x6800_0000_8000_0000,
        key: 1,
    },
    Vector {
        id: "H03",
        payload: "3133c8010064a171c00002640101000068000000800000001c6e40f94d61043598ccc6803d171e6b",
        source: "192.0.2.1",
        destination: "224.0.0.18",
        addresses: V4,
        sequence: 0x6800_0000_8000_0000,
        key: 1,
    },
    Vector {
        id: "H04",
        payload: "2133c80100015465c000026400000000000000000101000068000000800000002a6331d08d9dfa2c4186d2c47d62760e",
        source: "192.0.2.1",
        destination: "224.0.0.18",
        addresses: V4,
        sequence: 0x6800_0000_8000_0000,
        key: 1,
    },
    Vector {
        id: "H05",
        payload: "3133000100646972c0000264010100006800000080000001adad09464cb6958f7313544bdd8e51f6",
        source: "192.0.2.1",
        destination: "224.0.0.18",
        addresses: V4,
        sequence: 0x6800_0000_8000_0001,
        key: 1,
    },
    Vector {
        id: "H06",
        payload: "3133c8010064a171c00002640102000068000000800000006e2e8d6867f2bcbf23cd5ba90f955c84",
        source: "192.0.2.1",
        destination: "224.0.0.18",
        addresses: V4,
        sequence: 0x6800_0000_8000_0000,
        key: 2,
    },
    Vector {
        id: "H07",
        payload: "313696020064516dfe80000000000000000000000000010020010db8000100000000000000000100010100006800000080\
            0000000a2bb89903d59fff3dfb6751d465f218",
        source: "fe80::ff:fe00:a",
        destination: "ff02::12",
        addresses: &["fe80::100", "2001:db8:1::100"],
        sequence: 0x6800_0000_8000_0000,
        key: 1,
    },
];

impl Vector {
    fn octets(&self) -> Vec<u8> {
        hex(&self.payload.split_whitespace().collect::<String>())
    }

    fn receiver(&self) -> Ladder {
        let octets = self.octets();
        let (version, interval) = match octets[0] >> 4 {
            2 => (Version::V2, seconds(1)),
            _ => (Version::V3, cs(100)),
        };
        let destination = address(self.destination);
        let transport = match destination.is_multicast() {
            true => multicast(Family::of(destination)),
            false => unicast(self.destination, self.source),
        };
        Ladder { transport, ..ladder(version, octets[1], interval, self.addresses) }
    }

    fn judge(&self, protection: &mut Protection, clock: Duration) -> Result<Accepted, DiscardReason> {
        self.judge_octets(&self.octets(), address(self.source), protection, clock)
    }

    fn judge_octets(
        &self,
        octets: &[u8],
        source: IpAddr,
        protection: &mut Protection,
        clock: Duration,
    ) -> Result<Accepted, DiscardReason> {
        let datagram = Datagram::new(source, address(self.destination), 255, octets);
        self.receiver().judge_protected(&datagram, protection, clock)
    }
}

/// Of sender and receiver; the message is that of H03.
fn h03() -> &'static Vector {
    &VECTORS[2]
}

fn signed_at(protection: &mut Protection, clock: Duration, source: &str) -> Vec<u8> {
    let mut message = h03().octets();
    message.truncate(message.len() - Trailer::LEN);
    // Another source, another pseudo-header: the checksum over the message alone is right for all.
    message[6..8].fill(0);
    let sum: u32 = message.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
    message[6..8].copy_from_slice(&checksum.to_be_bytes());
    let Protection::Trailer(trailer) = protection else { panic!() };
    let sequence = trailer.next_sequence(clock);
    trailer.sign(sequence, address(source), &mut message);
    message
}

fn hear(
    protection: &mut Protection,
    octets: &[u8],
    source: &str,
    clock: Duration,
) -> Result<Accepted, DiscardReason> {
    h03().judge_octets(octets, address(source), protection, clock)
}

#[test]
fn every_vector_is_accepted() {
    for vector in &VECTORS {
        let accepted = vector.judge(&mut protection(TrailerMode::Enforce), SIGNED);
        assert!(accepted.is_ok(), "{}: {accepted:?}", vector.id);
    }
}

#[test]
fn ours_are_octet_for_octet_the_vectors() {
    for vector in &VECTORS {
        let config = TrailerConfig { active_key: vector.key, ..config(TrailerMode::Enforce) };
        let expected = vector.octets();
        let mut message = expected[..expected.len() - Trailer::LEN].to_vec();
        Trailer::new(config).unwrap().sign(vector.sequence, address(vector.source), &mut message);
        assert_eq!(message, expected, "{}", vector.id);
    }
}

#[test]
fn the_number_is_seconds_and_fraction_of_the_wall_clock() {
    let mut trailer = Trailer::new(config(TrailerMode::Enforce)).unwrap();
    assert_eq!(trailer.next_sequence(SIGNED), 0x6800_0000_8000_0000);
    // The clock stands still.
    assert_eq!(trailer.next_sequence(SIGNED), 0x6800_0000_8000_0001);
}

#[test]
fn one_bit_of_h02_changes_the_verdict() {
    let vector = &VECTORS[1];
    let message = vector.octets().len() - Trailer::LEN;
    let hmac = DiscardReason::TrailerHmac;
    let mutations = [
        ("priority", 2, 0x01, Some(hmac)),
        ("interval", 5, 0x01, Some(hmac)),
        ("address", 23, 0x01, Some(hmac)),
        ("seconds", message + 7, 0x01, Some(hmac)),
        ("counter", message + 11, 0x01, Some(hmac)),
        ("HMAC", message + 27, 0x01, Some(hmac)),
        ("type", message, 0x02, Some(DiscardReason::TrailerMalformed { kind: 3, reserved: 0 })),
        ("reserved", message + 3, 0x01, Some(DiscardReason::TrailerMalformed { kind: 1, reserved: 1 })),
        ("key id", message + 1, 0x08, Some(DiscardReason::TrailerKey { got: 9 })),
        // Covered as zero: the digest is right, and whoever verifies checksums sees the rest.
        ("checksum", 7, 0x01, None),
    ];
    for (what, at, bit, verdict) in mutations {
        let mut octets = vector.octets();
        octets[at] ^= bit;
        let source = address(vector.source);
        let datagram = Datagram::new(source, address(vector.destination), 255, &octets);
        // As on a raw IPv6 socket, where the kernel has seen the checksum.
        let receiver = Ladder { kernel_verified_checksum: true, ..vector.receiver() };
        let judged = receiver.judge_protected(&datagram, &mut protection(TrailerMode::Enforce), SIGNED);
        assert_eq!(judged.err(), verdict, "{what}");
    }
}

#[test]
fn another_source_or_vrid_is_another_signature() {
    let vector = h03();
    let judged = vector.judge_octets(
        &vector.octets(),
        address("192.0.2.2"),
        &mut protection(TrailerMode::Enforce),
        SIGNED,
    );
    assert_eq!(judged, Err(DiscardReason::TrailerHmac));
    let mut octets = vector.octets();
    octets[1] = 52;
    let receiver = ladder(Version::V3, 52, AdverInterval::SECOND, V4);
    let datagram = Datagram::new(address(vector.source), address(vector.destination), 255, &octets);
    let judged = receiver.judge_protected(&datagram, &mut protection(TrailerMode::Enforce), SIGNED);
    assert_eq!(judged, Err(DiscardReason::TrailerHmac));
}

#[test]
fn the_same_packet_twice_is_a_replay_and_at_another_receiver_is_not() {
    let mut first = protection(TrailerMode::Enforce);
    h03().judge(&mut first, SIGNED).unwrap();
    assert_eq!(h03().judge(&mut first, SIGNED), Err(DiscardReason::TrailerReplay));
    h03().judge(&mut protection(TrailerMode::Enforce), SIGNED).unwrap();
}

#[test]
fn what_is_outside_the_window_is_stale() {
    for (clock, skew) in [(SIGNED + Duration::from_secs(100), 100), (SIGNED - Duration::from_secs(100), -100)]
    {
        let judged = h03().judge(&mut protection(TrailerMode::Enforce), clock);
        assert_eq!(judged, Err(DiscardReason::TrailerStale { skew, window: 5 }));
    }
    // Whole seconds: 5 are allowed, 6 are not.
    h03().judge(&mut protection(TrailerMode::Enforce), SIGNED + WINDOW).unwrap();
    let late = SIGNED + WINDOW + Duration::from_secs(1);
    assert!(h03().judge(&mut protection(TrailerMode::Enforce), late).is_err());
}

#[test]
fn a_clock_that_is_off_by_more_than_half_the_window_is_an_oddity() {
    let off = |seconds| {
        let clock = SIGNED + Duration::from_secs(seconds);
        h03()
            .judge(&mut protection(TrailerMode::Enforce), clock)
            .unwrap()
            .oddities
            .contains(Oddity::ClockSkew)
    };
    assert_eq!((off(2), off(3)), (false, true));
}

#[test]
fn monotonic_mode_does_not_look_at_the_clock() {
    let mut receiver = monotonic();
    h03().judge(&mut receiver, SIGNED + Duration::from_secs(86_400)).unwrap();
    assert_eq!(h03().judge(&mut receiver, SIGNED), Err(DiscardReason::TrailerReplay));
}

#[test]
fn a_sender_whose_clock_went_back_an_hour_follows_it_in_time_mode_and_counts_on_in_monotonic() {
    let hour = Duration::from_secs(3600);
    let next = |protection: &mut Protection, clock| match protection {
        Protection::Trailer(trailer) => trailer.next_sequence(clock),
        _ => unreachable!("made here"),
    };
    let (mut time, mut growing) = (protection(TrailerMode::Enforce), monotonic());
    let ahead = next(&mut time, SIGNED + hour);
    assert_eq!(next(&mut growing, SIGNED + hour), ahead);
    assert_eq!(next(&mut time, SIGNED), 0x6800_0000_8000_0000);
    assert_eq!(next(&mut growing, SIGNED), ahead + 1);
    // Back by less than the window, the numbers grow in both.
    let now = next(&mut time, SIGNED);
    assert_eq!(next(&mut time, SIGNED - Duration::from_secs(5)), now + 1);
}

#[test]
fn a_mark_an_hour_ahead_is_forgotten_in_time_mode_and_refuses_in_monotonic() {
    let hour = Duration::from_secs(3600);
    let source = "192.0.2.1";
    for (mut receiver, expected) in
        [(protection(TrailerMode::Enforce), None), (monotonic(), Some(DiscardReason::TrailerReplay))]
    {
        let early = signed_at(&mut protection(TrailerMode::Enforce), SIGNED + hour, source);
        hear(&mut receiver, &early, source, SIGNED + hour).unwrap();
        // Both clocks are set right.
        let right = signed_at(&mut protection(TrailerMode::Enforce), SIGNED, source);
        assert_eq!(hear(&mut receiver, &right, source, SIGNED).err(), expected);
    }
}

#[test]
fn the_counter_carries_into_the_fraction_and_the_seconds() {
    let mut trailer =
        Trailer::new(TrailerConfig { monotonic: true, ..config(TrailerMode::Enforce) }).unwrap();
    let last = Duration::new(0x6800_0000, 999_999_999);
    let first = trailer.next_sequence(last);
    assert_eq!(first, 0x6800_0000_ffff_0000);
    for _ in 0..0xffff {
        trailer.next_sequence(last);
    }
    assert_eq!(trailer.next_sequence(last), 0x6800_0001_0000_0000);
}

#[test]
fn the_numbers_go_on_where_the_seconds_begin_anew() {
    let before = Duration::from_secs(0xffff_ffff);
    let after = Duration::from_secs(0x1_0000_0001);
    let (mut sender, mut receiver) = (protection(TrailerMode::Enforce), protection(TrailerMode::Enforce));
    for clock in [before, after] {
        let octets = signed_at(&mut sender, clock, "192.0.2.1");
        hear(&mut receiver, &octets, "192.0.2.1", clock).unwrap();
    }
}

#[test]
fn unsigned_adverts_are_discarded_in_enforce_and_taken_in_the_other_modes() {
    let mut octets = h03().octets();
    octets.truncate(octets.len() - Trailer::LEN);
    for (mode, expected) in [
        (TrailerMode::Enforce, Some(DiscardReason::TrailerMissing)),
        (TrailerMode::Permissive, None),
        (TrailerMode::ReceiveOnly, None),
    ] {
        let judged = hear(&mut protection(mode), &octets, "192.0.2.1", SIGNED);
        assert_eq!(judged.err(), expected, "{mode:?}");
    }
}

#[test]
fn a_wrong_signature_is_discarded_in_every_mode() {
    let mut octets = h03().octets();
    *octets.last_mut().unwrap() ^= 1;
    for mode in [TrailerMode::Enforce, TrailerMode::Permissive, TrailerMode::ReceiveOnly] {
        let judged = hear(&mut protection(mode), &octets, "192.0.2.1", SIGNED);
        assert_eq!(judged, Err(DiscardReason::TrailerHmac), "{mode:?}");
    }
}

#[test]
fn only_receive_only_does_not_sign() {
    let signs = |mode| Trailer::new(config(mode)).unwrap().signs();
    assert!(
        signs(TrailerMode::Enforce) && signs(TrailerMode::Permissive) && !signs(TrailerMode::ReceiveOnly)
    );
}

#[test]
fn without_auth_hmac_a_trailer_is_a_wrong_length() {
    let judged = hear(&mut Protection::None, &h03().octets(), "192.0.2.1", SIGNED);
    assert_eq!(judged, Err(DiscardReason::Length { got: 40, wanted: 12 }));
}

#[test]
fn the_four_senders_heard_last_are_remembered() {
    let mut receiver = protection(TrailerMode::Enforce);
    let from = |host: u8| format!("192.0.2.{host}");
    let octets = |host| signed_at(&mut protection(TrailerMode::Enforce), SIGNED, &from(host));
    for host in 1..=4 {
        hear(&mut receiver, &octets(host), &from(host), SIGNED).unwrap();
    }
    // A forged one makes nobody be forgotten.
    let mut forged = octets(9);
    *forged.last_mut().unwrap() ^= 1;
    assert!(hear(&mut receiver, &forged, &from(9), SIGNED).is_err());
    assert_eq!(hear(&mut receiver, &octets(1), &from(1), SIGNED), Err(DiscardReason::TrailerReplay));
    // A fifth takes the place of the first.
    hear(&mut receiver, &octets(5), &from(5), SIGNED).unwrap();
    hear(&mut receiver, &octets(1), &from(1), SIGNED).unwrap();
    for host in [3, 4, 5] {
        assert_eq!(
            hear(&mut receiver, &octets(host), &from(host), SIGNED),
            Err(DiscardReason::TrailerReplay)
        );
    }
}

#[test]
fn unicast_takes_signed_adverts_from_peers_alone_and_remembers_each() {
    let peers: Vec<UnicastPeer> = (1..=6)
        .map(|host| UnicastPeer {
            address: address(&format!("192.0.2.{host}")),
            min_ttl: None,
            max_ttl: None,
        })
        .collect();
    let transport = Transport::Unicast { own: Some(address("192.0.2.20")), peers, check_source: false };
    let receiver = Ladder { transport, ..h03().receiver() };
    let mut memory = protection(TrailerMode::Enforce);
    let mut judge = |host: u8| {
        let source = format!("192.0.2.{host}");
        let octets = signed_at(&mut protection(TrailerMode::Enforce), SIGNED, &source);
        let datagram = Datagram::new(address(&source), address("192.0.2.20"), 64, &octets);
        receiver.judge_protected(&datagram, &mut memory, SIGNED).err()
    };
    for host in 1..=6 {
        assert_eq!(judge(host), None);
    }
    for host in 1..=6 {
        assert_eq!(judge(host), Some(DiscardReason::TrailerReplay));
    }
    assert_eq!(judge(7), Some(DiscardReason::Source { got: address("192.0.2.7") }));
}

#[test]
fn an_advert_that_is_discarded_later_uses_no_number() {
    let mut receiver = protection(TrailerMode::Enforce);
    let mut octets = h03().octets();
    octets[7] ^= 1;
    let judged = hear(&mut receiver, &octets, "192.0.2.1", SIGNED);
    assert!(matches!(judged, Err(DiscardReason::Checksum { .. })), "{judged:?}");
    h03().judge(&mut receiver, SIGNED).unwrap();
}

#[test]
fn keys_are_rotated_without_losing_the_numbers() {
    let mut sender = protection(TrailerMode::Enforce);
    let mut receiver = protection(TrailerMode::Enforce);
    let before = signed_at(&mut sender, SIGNED, "192.0.2.1");
    hear(&mut receiver, &before, "192.0.2.1", SIGNED).unwrap();
    let second = TrailerConfig { active_key: 2, keys: vec![second_key()], ..config(TrailerMode::Enforce) };
    sender.change(Protection::Trailer(Trailer::new(second.clone()).unwrap()));
    let after = signed_at(&mut sender, SIGNED, "192.0.2.1");
    assert_eq!(after[13], 2, "the new key's id");
    hear(&mut receiver, &after, "192.0.2.1", SIGNED).unwrap();
    receiver.change(Protection::Trailer(Trailer::new(second).unwrap()));
    assert_eq!(hear(&mut receiver, &after, "192.0.2.1", SIGNED), Err(DiscardReason::TrailerReplay));
    assert_eq!(hear(&mut receiver, &before, "192.0.2.1", SIGNED), Err(DiscardReason::TrailerKey { got: 1 }));
}

#[test]
fn without_its_active_key_nothing_is_made() {
    let made = |config| Trailer::new(config).unwrap_err();
    let good = config(TrailerMode::Enforce);
    assert_eq!(made(TrailerConfig { active_key: 7, ..good.clone() }), TrailerError::NoActiveKey(7));
    let twice = vec![first_key(), first_key()];
    assert_eq!(made(TrailerConfig { keys: twice, ..good.clone() }), TrailerError::SameId(1));
    for got in [31, 65] {
        let keys = vec![TrailerKey { id: 1, secret: vec![0; got] }];
        assert_eq!(made(TrailerConfig { keys, ..good.clone() }), TrailerError::SecretLength { id: 1, got });
    }
}

#[test]
fn secrets_are_never_printed() {
    let text = format!("{:?}", protection(TrailerMode::Enforce));
    assert!(text.contains("TrailerKey(1, <hidden>)") && !text.contains("secret"), "{text}");
}
