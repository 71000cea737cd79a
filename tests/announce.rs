//! Announcements as the other end of the link gets them.

mod namespace;

use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use config::ready::Announcements;
use namespace::{add_link, in_namespace, ip};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use vipd::announce::{Announcer, Target, arp, ndp};

const MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x0a];
const TWICE: Announcements = Announcements {
    rounds: 2,
    round_gap: Duration::ZERO,
    again_after: None,
    refresh: None,
    refresh_rounds: 1,
    lower_priority_rounds: 0,
    lower_priority_again_after: None,
    packet_gap: Duration::ZERO,
};

/// Everything that the other end of the link gets.
struct Capture {
    socket: OwnedFd,
    ifindex: usize,
}

impl Capture {
    fn open(interface: &str) -> Self {
        let socket =
            socket(AddressFamily::Packet, SockType::Raw, SockFlag::empty(), SockProtocol::EthAll).unwrap();
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(5)).unwrap();
        Self { socket, ifindex: index(interface) as usize }
    }

    fn next(&self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        loop {
            let (length, from) =
                recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer).expect("a frame within 5 s");
            if from.is_some_and(|from| from.ifindex() == self.ifindex) {
                return buffer[..length].to_vec();
            }
        }
    }
}

fn index(interface: &str) -> u32 {
    std::fs::read_to_string(format!("/proc/net/dev_snmp6/{interface}"))
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap()
}

fn target(address: &str) -> Target {
    Target { ifindex: index("d0"), interface: "d0".to_owned(), mac: MAC, address: address.parse().unwrap() }
}

fn expected(target: &Target, router: bool) -> Vec<u8> {
    match target.address {
        IpAddr::V4(address) => arp::frame(MAC, address).to_vec(),
        IpAddr::V6(address) => ndp::frame(MAC, address, router).to_vec(),
    }
}

#[test]
fn all_addresses_are_on_the_wire_when_begin_returns_and_again_after_the_timer() {
    in_namespace("all_addresses_are_on_the_wire_when_begin_returns_and_again_after_the_timer", async || {
        add_link("d0");
        let capture = Capture::open("d0-peer");
        let mut targets: Vec<_> = (0..20).map(|n| target(&format!("10.99.0.{n}"))).collect();
        targets.push(target("2001:db8::5"));
        let mut announcer = Announcer::new();
        let now = Instant::now();
        announcer.begin(now, 7, targets.clone(), &TWICE, &TWICE);
        for target in &targets {
            assert_eq!(capture.next(), expected(target, false), "{target:?}");
        }
        assert_eq!(announcer.sent(7), 21);
        announcer.handle_timeout(announcer.poll_timeout().unwrap());
        for target in &targets {
            assert_eq!(capture.next(), expected(target, false), "{target:?}");
        }
        assert_eq!((announcer.sent(7), announcer.poll_timeout()), (42, None));
        assert!(announcer.take_errors().is_empty());
    });
}

#[test]
fn advertisement_says_router_where_ipv6_is_forwarded() {
    in_namespace("advertisement_says_router_where_ipv6_is_forwarded", async || {
        add_link("d0");
        let capture = Capture::open("d0-peer");
        let vip = target("2001:db8::5");
        let mut announcer = Announcer::new();
        let now = Instant::now();
        announcer.once(now, 0, vip.clone());
        assert_eq!(capture.next(), expected(&vip, false));
        std::fs::write("/proc/sys/net/ipv6/conf/d0/forwarding", "1").unwrap();
        announcer.once(now + Duration::from_secs(5), 0, vip.clone());
        let frame = loop {
            // A router also joins groups.
            let frame = capture.next();
            if frame.len() == ndp::LENGTH && frame[54] == 136 {
                break frame;
            }
        };
        assert_eq!(frame, expected(&vip, true));
    });
}

#[test]
fn interface_that_is_gone_or_down_is_an_error_once() {
    in_namespace("interface_that_is_gone_or_down_is_an_error_once", async || {
        add_link("d0");
        let mut announcer = Announcer::new();
        let now = Instant::now();
        let gone = |address: &str| Target { ifindex: 999, interface: "gone".to_owned(), ..target(address) };
        announcer.begin(now, 0, vec![gone("10.99.0.1"), gone("10.99.0.2")], &TWICE, &TWICE);
        ip("link set d0 down");
        announcer.once(now, 0, target("10.99.0.3"));
        let errors: Vec<_> = announcer.take_errors().iter().map(ToString::to_string).collect();
        let expected = [
            "cannot announce 10.99.0.1 on gone: No such device or address",
            "cannot announce 10.99.0.3 on d0: Network is down",
        ];
        assert_eq!(errors, expected);
        assert_eq!(announcer.sent(0), 0);
    });
}
