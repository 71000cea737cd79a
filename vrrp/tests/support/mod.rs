//! What the tests of the machine share: a router on a clock that they turn, and short words for its outputs.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod pcap;
pub mod receivers;

use std::net::IpAddr;
use std::time::{Duration, Instant};

use vrrp::sim::{EPOCH, Setup};
use vrrp::{
    AdverInterval, Input, MULTICAST_GROUP_IPV6, Output, Priority, RouterConfig, State, StateName, Transport,
    Version, VirtualAddresses, VirtualRouter, Vrid,
};

/// Our own address; one lower and one higher exist.
pub const OWN: &str = "192.0.2.9";
pub const LOWER: &str = "192.0.2.8";
pub const HIGHER: &str = "192.0.2.10";

pub fn address(address: &str) -> IpAddr {
    address.parse().unwrap()
}

pub fn at(milliseconds: u64) -> Instant {
    *EPOCH + Duration::from_millis(milliseconds)
}

pub fn cs(centiseconds: u16) -> AdverInterval {
    AdverInterval::from_wire(Version::V3, centiseconds).unwrap()
}

pub fn seconds(seconds: u16) -> AdverInterval {
    AdverInterval::from_wire(Version::V2, seconds).unwrap()
}

/// Version 3, 1 s, the RFC's defaults.
pub fn config(priority: u8) -> RouterConfig {
    RouterConfig {
        priority: Priority::new(priority),
        ..RouterConfig::new(Version::V3, Vrid::new(51).unwrap(), cs(100), address(OWN))
    }
}

/// Version 2, 1 s, the RFC's defaults.
pub fn config_v2(priority: u8) -> RouterConfig {
    RouterConfig {
        priority: Priority::new(priority),
        ..RouterConfig::new(Version::V2, Vrid::new(51).unwrap(), seconds(1), address(OWN))
    }
}

/// A router and everything it said.
pub struct Bench {
    pub router: VirtualRouter,
    pub now: Instant,
}

impl Bench {
    /// Started at EPOCH, its outputs drained.
    pub fn started(config: RouterConfig) -> Self {
        let mut bench = Self::stopped(config);
        bench.give(Input::Startup);
        bench
    }

    pub fn stopped(config: RouterConfig) -> Self {
        Self { router: VirtualRouter::new(config), now: *EPOCH }
    }

    /// Started, and Active after its Active_Down_Interval; the clock stands at that moment.
    pub fn active(config: RouterConfig) -> Self {
        let mut bench = Self::started(config);
        if bench.router.state().name() != StateName::Active {
            bench.fire();
        }
        assert_eq!(bench.router.state().name(), StateName::Active);
        bench
    }

    /// One input now; what it led to.
    pub fn give(&mut self, input: Input) -> Vec<Output> {
        self.router.handle_input(self.now, input);
        std::iter::from_fn(|| self.router.poll_output()).collect()
    }

    pub fn after(&mut self, milliseconds: u64, input: Input) -> Vec<Output> {
        self.now += Duration::from_millis(milliseconds);
        self.give(input)
    }

    /// Turns the clock to the running timer and lets it fire.
    pub fn fire(&mut self) -> Vec<Output> {
        self.now = self.now.max(self.router.poll_timeout().expect("a timer runs"));
        self.give(Input::Timeout)
    }

    /// Until the running timer fires.
    pub fn left(&self) -> Duration {
        self.router.poll_timeout().expect("a timer runs") - self.now
    }

    pub fn state(&self) -> StateName {
        self.router.state().name()
    }

    /// Lets the machine run by itself for so long; adverts sent.
    pub fn adverts_within(&mut self, duration: Duration) -> usize {
        let end = self.now + duration;
        let mut adverts = 0;
        while self.router.poll_timeout().is_some_and(|timeout| timeout <= end) {
            adverts += self.fire().iter().filter(|output| is_advert(output)).count();
        }
        self.now = end;
        adverts
    }
}

pub fn is_advert(output: &Output) -> bool {
    matches!(output, Output::SendAdvertisement(_))
}

/// An advert with interval 1 s from the higher address.
pub fn advert(priority: u8) -> Input {
    advert_from(HIGHER, priority)
}

pub fn advert_from(source: &str, priority: u8) -> Input {
    Input::Advertisement {
        source: address(source),
        priority: Priority::new(priority),
        max_advertise_interval: cs(100),
    }
}

pub fn advert_every(centiseconds: u16, priority: u8) -> Input {
    Input::Advertisement {
        source: address(HIGHER),
        priority: Priority::new(priority),
        max_advertise_interval: cs(centiseconds),
    }
}

pub fn micros(microseconds: u64) -> Duration {
    Duration::from_micros(microseconds)
}

pub fn send(priority: u8) -> Output {
    Output::SendAdvertisement(Priority::new(priority))
}

pub fn adver_timer(bench: &Bench) -> Instant {
    match bench.router.state() {
        State::Active { adver_timer, .. } => *adver_timer,
        state => panic!("not Active: {state:?}"),
    }
}

/// fe80::`host` with the virtual addresses fe80::100 and 2001:db8:1::100.
pub fn ipv6_setup(host: u16, priority: u8) -> Setup {
    let mut setup = Setup::ipv4(1, Priority::new(priority));
    setup.router.primary_address = address(&format!("fe80::{host:x}"));
    setup.addresses =
        VirtualAddresses::V6(vec!["fe80::100".parse().unwrap(), "2001:db8:1::100".parse().unwrap()]);
    setup.transport = Transport::Multicast { group: IpAddr::V6(MULTICAST_GROUP_IPV6) };
    setup
}
