//! Packets of keepalived 2.2.7 and FRR 8.4.4, and malformed ones: judged by strangers. See `golden/README.md`.

mod support;

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;
use support::pcap::{datagram, golden, hex};
use support::receivers::{ONE, SIX, TWENTY, TWO, addresses, ladder, multicast, unicast};
use support::*;
use vrrp::{
    AdverInterval, Advertisement, Authentication, AuthenticationHeader, ChecksumCoverage, ChecksumForm,
    Family, Ladder, MULTICAST_GROUP_IPV4, Oddities, Oddity, Priority, Protection, RouterConfig, Version,
    Vrid, active_down_interval, skew_time,
};

fn vectors() -> Vec<Value> {
    let file = std::fs::read_to_string(golden("vectors.json")).unwrap();
    let mut vectors: Value = serde_json::from_str(&file).unwrap();
    vectors["frames"].take().as_array().unwrap().clone()
}

fn text<'a>(vector: &'a Value, key: &str) -> &'a str {
    vector[key].as_str().unwrap()
}

// ---- Worked examples of the timers ----

#[test]
fn skew_and_down_intervals_are_those_of_the_worked_examples() {
    // Skew and down in microseconds, halves rounded up. v3: 10 ms, 100 ms, 1 s, 40.95 s; v2: 1 s, 255 s.
    const EXAMPLES: [(u8, [(u64, u64); 6]); 6] = [
        (
            1,
            [
                (9_961, 39_961),
                (99_609, 399_609),
                (996_094, 3_996_094),
                (40_790_039, 163_640_039),
                (996_094, 3_996_094),
                (996_094, 765_996_094),
            ],
        ),
        (
            100,
            [
                (6_094, 36_094),
                (60_938, 360_938),
                (609_375, 3_609_375),
                (24_953_906, 147_803_906),
                (609_375, 3_609_375),
                (609_375, 765_609_375),
            ],
        ),
        (
            150,
            [
                (4_141, 34_141),
                (41_406, 341_406),
                (414_063, 3_414_063),
                (16_955_859, 139_805_859),
                (414_063, 3_414_063),
                (414_063, 765_414_063),
            ],
        ),
        (
            200,
            [
                (2_188, 32_188),
                (21_875, 321_875),
                (218_750, 3_218_750),
                (8_957_813, 131_807_813),
                (218_750, 3_218_750),
                (218_750, 765_218_750),
            ],
        ),
        (
            254,
            [
                (78, 30_078),
                (781, 300_781),
                (7_813, 3_007_813),
                (319_922, 123_169_922),
                (7_813, 3_007_813),
                (7_813, 765_007_813),
            ],
        ),
        (
            255,
            [
                (39, 30_039),
                (391, 300_391),
                (3_906, 3_003_906),
                (159_961, 123_009_961),
                (3_906, 3_003_906),
                (3_906, 765_003_906),
            ],
        ),
    ];
    let intervals = [
        (Version::V3, cs(1)),
        (Version::V3, cs(10)),
        (Version::V3, cs(100)),
        (Version::V3, cs(4095)),
        (Version::V2, seconds(1)),
        (Version::V2, seconds(255)),
    ];
    let rounded = |duration: Duration| u64::try_from((duration.as_nanos() + 500) / 1000).unwrap();
    for (priority, row) in EXAMPLES {
        let priority = Priority::new(priority);
        for ((version, interval), (skew, down)) in intervals.into_iter().zip(row) {
            assert_eq!(rounded(skew_time(version, priority, interval)), skew, "{priority} {interval}");
            assert_eq!(
                rounded(active_down_interval(version, priority, interval, 3)),
                down,
                "{priority} {interval}"
            );
        }
    }
}

// ---- Valid packets ----

struct Valid {
    id: &'static str,
    version: Version,
    vrid: u8,
    priority: u8,
    adver_interval: u16,
    authentication: Authentication,
    /// Source, destination, TTL.
    ip: (&'static str, &'static str, u8),
    addresses: &'static [&'static str],
    /// None for version 2.
    form: ChecksumForm,
}

/// What the descriptions of the T vectors say, decoded by hand.
fn valid() -> Vec<Valid> {
    use ChecksumForm::{Message, MulticastPseudoHeader, PseudoHeader};
    let none = Authentication::None;
    let pass = Authentication::Pass(*b"s3cr3t\0\0");
    let header = Authentication::Header;
    let group = ("192.0.2.1", "224.0.0.18", 255);
    let frr = ("192.0.2.2", "224.0.0.18", 255);
    let direct = ("192.0.2.1", "192.0.2.2", 255);
    let six = ("fe80::ff:fe00:a", "ff02::12", 255);
    let v2 = |id, vrid, priority, authentication, ip, addresses| Valid {
        id,
        version: Version::V2,
        vrid,
        priority,
        adver_interval: 1,
        authentication,
        ip,
        addresses,
        form: Message,
    };
    let v3 = |id, vrid, priority, adver_interval, ip, addresses, form| Valid {
        id,
        version: Version::V3,
        vrid,
        priority,
        adver_interval,
        authentication: none,
        ip,
        addresses,
        form,
    };
    vec![
        v2("T01", 51, 100, none, group, ONE),
        v2("T02", 51, 0, none, group, ONE),
        v2("T03", 51, 110, pass, group, TWO),
        v2("T04", 51, 0, pass, group, TWO),
        v2("T05", 51, 120, header, group, ONE),
        v2("T06", 51, 120, header, group, ONE),
        v2("T07", 51, 0, header, group, ONE),
        v3("T08", 52, 150, 100, group, ONE, PseudoHeader),
        v3("T09", 52, 0, 100, group, ONE, PseudoHeader),
        v3("T10", 53, 200, 50, group, TWENTY, PseudoHeader),
        v3("T11", 54, 150, 100, six, SIX, PseudoHeader),
        v3("T12", 54, 0, 100, six, SIX, PseudoHeader),
        v3("T13", 55, 255, 4095, group, ONE, PseudoHeader),
        v3("T14", 56, 254, 1, group, ONE, PseudoHeader),
        v3("T15", 57, 150, 50, direct, ONE, PseudoHeader),
        v3("T16", 57, 150, 50, direct, ONE, MulticastPseudoHeader),
        v2("T17", 58, 150, none, ("192.0.2.1", "192.0.2.2", 64), ONE),
        v3("T18", 59, 150, 50, ("2001:db8:1::1", "2001:db8:1::2", 64), &["2001:db8:1::100"], PseudoHeader),
        v3("T19", 60, 150, 50, group, ONE, PseudoHeader),
        v3("T20", 61, 150, 50, six, SIX, PseudoHeader),
        v3("T21", 52, 200, 100, frr, ONE, PseudoHeader),
        v3("T22", 52, 200, 100, ("fe80::100", "ff02::12", 255), SIX, PseudoHeader),
        v2("T23", 51, 120, none, frr, ONE),
        v3("T24", 52, 150, 100, group, ONE, Message),
        v2("T25", 51, 30, none, ("10.0.1.1", "224.0.0.18", 255), &["10.0.1.5"]),
    ]
}

#[test]
fn every_valid_vector_says_what_its_description_says() {
    let vectors = vectors();
    let described = valid();
    let of_file: Vec<_> =
        vectors.iter().map(|vector| text(vector, "id")).filter(|id| id.starts_with('T')).collect();
    assert_eq!(of_file, described.iter().map(|valid| valid.id).collect::<Vec<_>>());
    for (vector, valid) in vectors.iter().zip(described) {
        let frame = hex(text(vector, "frame"));
        let datagram = datagram(&frame).unwrap().unwrap();
        let (source, destination, ttl) = valid.ip;
        assert_eq!(
            (datagram.source, datagram.destination, datagram.ttl),
            (address(source), address(destination), ttl),
            "{}",
            valid.id
        );
        let expected = Advertisement {
            version: valid.version,
            vrid: Vrid::new(valid.vrid).unwrap(),
            priority: Priority::new(valid.priority),
            adver_interval: valid.adver_interval,
            authentication: valid.authentication,
            addresses: addresses(valid.addresses),
        };
        let family = Family::of(datagram.destination);
        assert_eq!(Advertisement::parse(datagram.message, family).as_ref(), Ok(&expected), "{}", valid.id);

        let pseudo = |destination| ChecksumCoverage::PseudoHeader { source: datagram.source, destination };
        let coverage = match valid.form {
            ChecksumForm::MulticastPseudoHeader => pseudo(MULTICAST_GROUP_IPV4.into()),
            ChecksumForm::PseudoHeader => pseudo(datagram.destination),
            _ => ChecksumCoverage::Message,
        };
        let mut message = vec![0xee];
        expected.emit(coverage, &mut message);
        assert_eq!(&message[1..], datagram.message, "{}", valid.id);
        assert_eq!(expected.emitted_len(), datagram.message.len(), "{}", valid.id);
    }
}

#[test]
fn every_valid_vector_is_accepted_in_its_form() {
    for (vector, valid) in vectors().iter().zip(valid()) {
        let frame = hex(text(vector, "frame"));
        let datagram = datagram(&frame).unwrap().unwrap();
        let interval = AdverInterval::from_wire(valid.version, valid.adver_interval).unwrap();
        let (source, destination, _) = valid.ip;
        let transport = match address(destination).is_multicast() {
            true => multicast(Family::of(address(destination))),
            false => unicast(destination, source),
        };
        let ladder = Ladder {
            authentication: valid.authentication,
            transport,
            ..ladder(valid.version, valid.vrid, interval, valid.addresses)
        };
        let mut protection = match valid.authentication {
            // The key of T05 to T07.
            Authentication::Header => Protection::Header(AuthenticationHeader::new(*b"ahkey123")),
            _ => Protection::None,
        };
        let accepted = ladder.judge_protected(&datagram, &mut protection, Duration::ZERO).unwrap();
        assert_eq!(accepted.source, address(source), "{}", valid.id);
        assert_eq!(accepted.priority, Priority::new(valid.priority), "{}", valid.id);
        assert_eq!(accepted.max_advertise_interval, interval, "{}", valid.id);
        assert_eq!(accepted.checksum_form, valid.form, "{}", valid.id);
        let oddities = match valid.id {
            "T18" => Oddities::NONE.with(Oddity::FirstAddressNotLinkLocal),
            _ => Oddities::NONE,
        };
        assert_eq!(accepted.oddities, oddities, "{}", valid.id);
    }
}

// ---- Malformed and odd packets ----

/// The receiver that a vector's `local_config` describes, priority 100.
fn receiver(vector: &Value) -> (Ladder, RouterConfig) {
    let words: Vec<_> = text(vector, "local_config").split_whitespace().collect();
    let after = |word| words.iter().skip_while(move |one| **one != word).nth(1).copied();
    let version = match after("version") {
        Some("2") => Version::V2,
        _ => Version::V3,
    };
    let interval = match after("advert_int") {
        Some("0.2") => cs(20),
        Some("1") if version == Version::V2 => seconds(1),
        other => panic!("advert_int {other:?}"),
    };
    let list: Vec<_> =
        vector["local_vips"].as_array().unwrap().iter().map(|vip| vip.as_str().unwrap()).collect();
    let vrid = text(vector, "id")[1..].parse().unwrap();
    let authentication =
        after("auth_pass").map_or(Authentication::None, |password| Authentication::pass(password.as_bytes()));
    let ladder = Ladder { authentication, ..ladder(version, vrid, interval, &list) };
    let own: IpAddr = match ladder.addresses.family() {
        Family::Ipv4 => address("192.0.2.1"),
        Family::Ipv6 => address("fe80::ff:fe00:a"),
    };
    let preempt_mode = !words.contains(&"nopreempt");
    (ladder.clone(), RouterConfig { preempt_mode, ..RouterConfig::new(version, ladder.vrid, interval, own) })
}

fn malformed() -> Vec<Value> {
    vectors().into_iter().filter(|vector| text(vector, "id").starts_with('M')).collect()
}

#[test]
fn every_odd_vector_gets_its_verdict() {
    let vectors = malformed();
    assert_eq!(vectors.len(), 50);
    for vector in &vectors {
        let (id, verdict) = (text(vector, "id"), text(vector, "ours"));
        let (ladder, config) = receiver(vector);
        let frame = hex(text(vector, "frame"));
        let judged = datagram(&frame).unwrap().and_then(|datagram| ladder.judge(&datagram));

        let mut bench = Bench::started(config);
        let fresh = bench.left();
        bench.now += Duration::from_millis(100);
        let before = bench.router.poll_timeout();
        if let Ok(accepted) = judged {
            assert_eq!(bench.give(accepted.into()), [], "{id}");
        }
        let words: Vec<_> = verdict.split([' ', ',', '(']).filter(|word| !word.is_empty()).collect();
        match words[..] {
            ["drop", why, ..] => {
                let name = match why {
                    "hop-limit" => "ttl",
                    "invalid-auth-type" => "auth_type",
                    // What the kernel drops for us, we would drop too.
                    "kernel" if words.contains(&"checksum)") => "checksum",
                    "kernel)" => "header_checksum",
                    why => &why.replace('-', "_"),
                };
                assert_eq!(judged.map_err(|reason| reason.name()), Err(name), "{id}");
                assert_eq!(bench.router.poll_timeout(), before, "{id}");
            }
            ["accept", ..] => {
                let accepted = judged.unwrap_or_else(|reason| panic!("{id}: {reason}"));
                let interval = if words.contains(&"learn") { cs(100) } else { ladder.adver_interval };
                assert_eq!(bench.router.active_adver_interval(), interval, "{id}");
                let scale =
                    interval.as_duration().as_millis() / ladder.adver_interval.as_duration().as_millis();
                assert_eq!(bench.left(), fresh * u32::try_from(scale).unwrap(), "{id}");
                let odd = words.contains(&"count") || words.contains(&"log");
                assert_eq!(!accepted.oddities.is_empty(), odd, "{id}: {:?}", accepted.oddities);
                if words.contains(&"address-list") {
                    assert_eq!(accepted.oddities, Oddities::NONE.with(Oddity::AddressList), "{id}");
                } else if words.contains(&"interval") {
                    assert_eq!(accepted.oddities, Oddities::NONE.with(Oddity::Interval), "{id}");
                }
            }
            ["ignore", ..] => {
                assert!(judged.is_ok(), "{id}");
                assert_eq!(bench.router.poll_timeout(), before, "{id}");
            }
            ["down", "timer", "=", "skew"] => {
                assert!(judged.is_ok(), "{id}");
                // 156/256 of 0.2 s.
                assert_eq!(bench.left(), micros(121_875), "{id}");
            }
            _ => panic!("{id}: {verdict}"),
        }
    }
}

#[test]
fn strict_discards_what_it_may() {
    let mut strict = 0;
    for vector in malformed().iter().filter(|vector| text(vector, "ours").contains("(strict: drop)")) {
        let (ladder, _) = receiver(vector);
        let frame = hex(text(vector, "frame"));
        let datagram = datagram(&frame).unwrap().unwrap();
        let judged = Ladder { strict: true, ..ladder }.judge(&datagram);
        assert_eq!(judged.map_err(|reason| reason.name()), Err("address_list"), "{}", text(vector, "id"));
        strict += 1;
    }
    assert_eq!(strict, 3);
}

#[test]
fn adverts_without_addresses_are_accepted_when_asked_for() {
    for id in ["M08", "M42", "M58"] {
        let vectors = malformed();
        let vector = vectors.iter().find(|vector| text(vector, "id") == id).unwrap();
        let (ladder, _) = receiver(vector);
        let frame = hex(text(vector, "frame"));
        let datagram = datagram(&frame).unwrap().unwrap();
        assert!(Ladder { accept_no_addresses: true, ..ladder }.judge(&datagram).is_ok(), "{id}");
    }
}
