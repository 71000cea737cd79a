//! `virtual_server` and `virtual_server_group`: read as keepalived 2.2.7 reads them, completed and judged as it
//! does, then turned into listeners of the forwarder.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located, Location};
use crate::ready::{Command, Family};
use crate::written::{Statement, Word};

use super::values::Rest;
use super::{Lower, inside};

mod build;
mod checker;
mod group;
mod judge;
mod probe;
mod real;
mod url;

use checker::Checker;
pub(super) use group::Group;

const IGNORED: &str = "the line is ignored, as in keepalived";
/// Of a real server; the kernel's limit.
const MOST_WEIGHT: i64 = i32::MAX as i64;
/// Of IPVS: 31 days, in seconds.
const MOST_TIMEOUT: i64 = 31 * 86_400;
/// `persistence_timeout` without a number, in seconds.
const PERSISTENCE: u32 = 360;
/// `connect_timeout` of checkers that do not say.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// `delay_loop` of checkers that do not say.
const DELAY_LOOP: Duration = Duration::from_secs(60);

/// A `virtual_server` as it was written.
#[derive(Clone, Debug)]
pub(super) struct Service {
    at: Location,
    to: To,
    /// What its packets are known by when it has no addresses.
    marks: Vec<u32>,
    family: Option<Family>,
    protocol: Option<Located<Ip>>,
    scheduler: Option<Located<String>>,
    /// `ops` was written.
    one_packet: Option<Location>,
    method: Option<Located<Method>>,
    timing: Timing,
    /// Of real servers that do not say.
    weight: u32,
    alpha: bool,
    omega: bool,
    inhibit: bool,
    quorum: Located<u32>,
    hysteresis: u32,
    quorum_up: Option<Box<Command>>,
    quorum_down: Option<Box<Command>>,
    sorry: Option<Sorry>,
    /// Seconds.
    persistence: Option<u32>,
    /// Bits of a client's address that count.
    granularity: Option<u8>,
    virtualhost: Option<String>,
    mail: Option<bool>,
    real: Vec<Real>,
}

/// What clients connect to.
#[derive(Clone, Debug)]
enum To {
    /// Port 0: all of them.
    Address(SocketAddr),
    /// Packets with a firewall mark.
    Mark(u32),
    /// Of a `virtual_server_group`.
    Group(Located<String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ip {
    Tcp,
    Udp,
    Sctp,
}

/// How IPVS hands packets to a real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Nat,
    Direct,
    Tunnel,
}

/// When checkers run; what is not written comes from further out.
#[derive(Clone, Copy, Debug, Default)]
struct Timing {
    retry: Option<u32>,
    delay_before_retry: Option<Duration>,
    warmup: Option<Duration>,
    delay_loop: Option<Duration>,
    connect_timeout: Option<Duration>,
}

impl Timing {
    fn or(self, outer: Self) -> Self {
        Self {
            retry: self.retry.or(outer.retry),
            delay_before_retry: self.delay_before_retry.or(outer.delay_before_retry),
            warmup: self.warmup.or(outer.warmup),
            delay_loop: self.delay_loop.or(outer.delay_loop),
            connect_timeout: self.connect_timeout.or(outer.connect_timeout),
        }
    }
}

#[derive(Clone, Debug)]
struct Sorry {
    at: Location,
    address: SocketAddr,
    method: Option<Located<Method>>,
    inhibit: bool,
}

/// A `real_server`.
#[derive(Clone, Debug)]
struct Real {
    at: Location,
    /// Port 0: that of the virtual server.
    address: SocketAddr,
    weight: Option<u32>,
    method: Option<Located<Method>>,
    most_sessions: Option<u32>,
    inhibit: Option<bool>,
    alpha: Option<bool>,
    timing: Timing,
    virtualhost: Option<String>,
    notify_up: Option<Box<Command>>,
    notify_down: Option<Box<Command>>,
    mail: Option<bool>,
    checkers: Vec<Checker>,
    /// A BFD session that was left out, and the `alpha` of what was to follow it.
    waits_for: Option<(Located<String>, Option<bool>)>,
}

impl Lower<'_> {
    pub(super) fn virtual_server(&mut self, block: &Statement) {
        let Some(to) = self.service_address(block) else { return };
        let family = match &to {
            To::Address(address) => Some(family_of(address.ip())),
            To::Mark(_) | To::Group(_) => None,
        };
        let mut service = Service {
            at: block.whole(),
            to,
            marks: Vec::new(),
            family,
            protocol: None,
            scheduler: None,
            one_packet: None,
            method: None,
            timing: Timing::default(),
            weight: 1,
            alpha: false,
            omega: false,
            inhibit: false,
            quorum: Located::new(1, block.whole()),
            hysteresis: 0,
            quorum_up: None,
            quorum_down: None,
            sorry: None,
            persistence: None,
            granularity: None,
            virtualhost: None,
            mail: None,
            real: Vec::new(),
        };
        for statement in inside(block) {
            self.service_word(statement, &mut service);
        }
        if let Some(sorry) = &service.sorry
            && sorry.method.as_ref().or(service.method.as_ref()).map(|m| m.value) != Some(Method::Tunnel)
        {
            let family = *service.family.get_or_insert(family_of(sorry.address.ip()));
            if family != family_of(sorry.address.ip()) {
                self.other_family(&sorry.at.clone(), "the sorry server is left out, as in keepalived");
                service.sorry = None;
            }
        }
        if service.family.is_none() && !matches!(service.to, To::Group(_)) {
            service.family = Some(service.family_of_servers());
        }
        self.services.push(service);
    }

    /// `ADDRESS [PORT]`, `fwmark N` or `group NAME`.
    fn service_address(&mut self, block: &Statement) -> Option<To> {
        let first = self.required(block, "an address, `fwmark NUMBER` or `group NAME`")?;
        let skipped = "the virtual server is skipped, as in keepalived";
        match (first.text.as_str(), block.parameters().get(1)) {
            ("group", Some(name)) => Some(To::Group(super::located(name))),
            ("fwmark", Some(mark)) => {
                let mark = self.number(mark, 0..=i64::from(i32::MAX), Rest::Warned, skipped)?;
                u32::try_from(mark).ok().map(To::Mark)
            }
            ("group" | "fwmark", None) => {
                let expected = "`group NAME` or `fwmark NUMBER`";
                let message = format!("`{}` without what it names", first.text);
                let finding = Diagnostic::error("missing-parameter", &first.at, message);
                self.diagnostics
                    .push(finding.expected(expected).help("keepalived does not start with this line either"));
                None
            }
            (_, port) => self.server_address(first, port, skipped).map(To::Address),
        }
    }

    /// An address and, maybe, a port; 0 for none.
    fn server_address(&mut self, word: &Word, port: Option<&Word>, otherwise: &str) -> Option<SocketAddr> {
        // A port of zeros is none (2.0.7).
        let port = port.filter(|port| !port.text.trim_start_matches('0').is_empty());
        let number = match port {
            Some(port) => self.number(port, 1..=65535, Rest::Warned, otherwise)?,
            None => 0,
        };
        let address = self.address(word, otherwise)?;
        Some(SocketAddr::new(address.value, u16::try_from(number).ok()?))
    }

    fn service_word(&mut self, statement: &Statement, service: &mut Service) {
        if self.timing(statement, &mut service.timing, 1) {
            return;
        }
        match statement.keyword() {
            "ip_family" => self.ip_family(statement, service),
            "protocol" => self.protocol(statement, service),
            "lb_algo" | "lvs_sched" => self.scheduler(statement, service),
            "ops" | "hashed" | "flag-1" | "flag-2" | "flag-3" | "sh-port" | "sh-fallback" | "mh-port"
            | "mh-fallback" => self.scheduler_flag(statement, service),
            "lb_kind" | "lvs_method" => {
                service.method = self.method(statement).or(service.method.take());
            }
            "weight" => {
                let otherwise = "the line is ignored, as in keepalived";
                let word = self.required(statement, "a weight");
                let weight =
                    word.and_then(|word| self.number(word, 1..=MOST_WEIGHT, Rest::Warned, otherwise));
                service.weight = weight.and_then(|w| u32::try_from(w).ok()).unwrap_or(service.weight);
            }
            "alpha" => service.alpha = true,
            "omega" => service.omega = true,
            "inhibit_on_failure" => service.inhibit = true,
            "quorum" => {
                let word = self.required(statement, "a sum of weights");
                let most = i64::from(u32::MAX);
                let number = word.and_then(|word| self.number(word, 1..=most, Rest::Warned, "1 is used"));
                let number = number.and_then(|number| u32::try_from(number).ok()).unwrap_or(1);
                service.quorum = Located::new(number, statement.whole());
            }
            "hysteresis" => {
                let word = self.required(statement, "a sum of weights");
                let most = i64::from(u32::MAX);
                let number = word.and_then(|word| self.number(word, 0..=most, Rest::Warned, IGNORED));
                service.hysteresis = number.and_then(|n| u32::try_from(n).ok()).unwrap_or(service.hysteresis);
            }
            "quorum_up" => self.told_by(statement, &mut service.quorum_up),
            "quorum_down" => self.told_by(statement, &mut service.quorum_down),
            "sorry_server" => {
                let Some(first) = self.required(statement, "an address") else { return };
                let skipped = "the sorry server is skipped, as in keepalived";
                let address = self.server_address(first, statement.parameters().get(1), skipped);
                let sorry = address.map(|address| Sorry {
                    at: statement.whole(),
                    address,
                    method: service.method.clone(),
                    inhibit: false,
                });
                service.sorry = sorry.or(service.sorry.take());
            }
            "sorry_server_inhibit" => match &mut service.sorry {
                Some(sorry) => sorry.inhibit = true,
                None => self.without_sorry_server(statement),
            },
            "sorry_server_lvs_method" => {
                let method = self.method(statement);
                match &mut service.sorry {
                    Some(sorry) => sorry.method = method.or(sorry.method.take()),
                    None => self.without_sorry_server(statement),
                }
            }
            "persistence_timeout" => {
                let Some(word) = statement.parameter() else {
                    service.persistence = Some(PERSISTENCE);
                    return;
                };
                let number = self.number(word, 1..=MOST_TIMEOUT, Rest::Refused, IGNORED);
                let number = number.and_then(|number| u32::try_from(number).ok());
                service.persistence = number.or(service.persistence);
            }
            "persistence_granularity" => self.granularity(statement, service),
            "smtp_alert" => service.mail = self.boolean(statement).map(|on| on.value).or(service.mail),
            "virtualhost" => service.virtualhost = self.web_host(statement),
            "real_server" => self.real_server(statement, service),
            other => debug_assert!(false, "no meaning for {other}"),
        }
    }

    /// `false`: none of its words. `least_retry`: 0 for checkers, 1 for servers.
    fn timing(&mut self, statement: &Statement, timing: &mut Timing, least_retry: i64) -> bool {
        let most = 4_294.967_295;
        let (slot, range) = match statement.keyword() {
            "retry" => {
                let rest = if least_retry == 0 { Rest::Warned } else { Rest::Refused };
                let word = self.required(statement, "a number of retries");
                let most = i64::from(u32::MAX) - i64::from(least_retry == 0);
                let number = word.and_then(|word| self.number(word, least_retry..=most, rest, IGNORED));
                timing.retry = number.and_then(|number| u32::try_from(number).ok()).or(timing.retry);
                return true;
            }
            "delay_before_retry" => (&mut timing.delay_before_retry, 0.0..=1e9),
            "warmup" => (&mut timing.warmup, 0.0..=1e9),
            "delay_loop" => (&mut timing.delay_loop, 0.000_001..=1e9),
            "connect_timeout" => (&mut timing.connect_timeout, 0.000_001..=most),
            _ => return false,
        };
        let word = self.required(statement, "seconds");
        let time = word.and_then(|word| self.seconds(word, range, 6, IGNORED));
        *slot = time.or(*slot);
        true
    }

    fn ip_family(&mut self, statement: &Statement, service: &mut Service) {
        let Some(word) = self.required(statement, "`inet` or `inet6`") else { return };
        let family = match word.text.as_str() {
            "inet" => Family::Ipv4,
            "inet6" => Family::Ipv6,
            _ => return self.invalid(word, "`inet` or `inet6`", IGNORED),
        };
        if *service.family.get_or_insert(family) != family {
            self.invalid(word, "the family of the servers above", IGNORED);
        }
    }

    fn protocol(&mut self, statement: &Statement, service: &mut Service) {
        let Some(word) = self.required(statement, "`TCP`, `UDP` or `SCTP`") else { return };
        let protocol = match word.text.to_ascii_uppercase().as_str() {
            "TCP" => Ip::Tcp,
            "UDP" => Ip::Udp,
            "SCTP" => Ip::Sctp,
            _ => return self.invalid(word, "`TCP`, `UDP` or `SCTP`", IGNORED),
        };
        service.protocol = Some(Located::new(protocol, statement.whole()));
    }

    fn scheduler(&mut self, statement: &Statement, service: &mut Service) {
        const KNOWN: [&str; 14] =
            ["rr", "wrr", "lc", "wlc", "lblc", "sh", "mh", "dh", "fo", "ovf", "lblcr", "sed", "nq", "twos"];
        let expected =
            "`rr`, `wrr`, `lc`, `wlc`, `sh`, `mh`, `fo`, `ovf`, `sed`, `nq`, `dh`, `lblc` or `lblcr`";
        let Some(word) = self.required(statement, expected) else { return };
        if !KNOWN.contains(&word.text.as_str()) {
            return self.invalid(word, expected, IGNORED);
        }
        if word.text == "twos" {
            let finding =
                Diagnostic::notice("newer-word", &word.at, "`twos` is not known to keepalived 2.2.7");
            self.diagnostics.push(finding.help("it is known here, as to keepalived 2.3"));
        }
        service.scheduler = Some(Located::new(word.text.clone(), statement.whole()));
    }

    fn scheduler_flag(&mut self, statement: &Statement, service: &mut Service) {
        let keyword = statement.keyword();
        if keyword == "ops" {
            service.one_packet = Some(statement.at().clone());
            return;
        }
        let scheduler = service.scheduler.as_ref().map_or("", |scheduler| &scheduler.value);
        if !keyword.starts_with("flag-") && !matches!(scheduler, "sh" | "mh") {
            let message = format!("`{keyword}` only applies to the schedulers sh and mh");
            let finding = Diagnostic::warning("scheduler-flag", statement.at(), message);
            self.diagnostics.push(finding.help(IGNORED));
            return;
        }
        let help = match keyword {
            "sh-port" | "mh-port" => {
                "the hash is of the client's address alone: connections of one client go to one backend"
            }
            "sh-fallback" | "mh-fallback" => {
                "a backend that is down is never chosen: its clients go to another one in any case"
            }
            _ => "flags of the kernel's schedulers mean nothing to vipd's",
        };
        let message = format!("`{keyword}` has no effect here");
        self.diagnostics.push(Diagnostic::notice("not-needed", statement.at(), message).help(help));
    }

    /// `NAT`, `DR`, or `TUN` with the kind of tunnel behind it, which nothing here needs.
    fn method(&mut self, statement: &Statement) -> Option<Located<Method>> {
        let expected = "`NAT`, `DR` or `TUN`";
        let word = self.required(statement, expected)?;
        let method = match word.text.as_str() {
            "NAT" => Method::Nat,
            "DR" => Method::Direct,
            "TUN" => Method::Tunnel,
            _ => {
                self.invalid(word, expected, IGNORED);
                return None;
            }
        };
        let mut words = statement.parameters()[1..].iter();
        while let Some(word) = words.next() {
            let value = || words.clone().next().map_or("", |value| value.text.as_str());
            let fits = match word.text.as_str() {
                "type" => matches!(value(), "ipip" | "gue" | "gre"),
                "port" => value().parse::<u16>().is_ok_and(|port| port > 0),
                "nocsum" | "csum" | "remcsum" => true,
                _ => false,
            };
            if !fits {
                self.invalid(word, "`type ipip`, `type gue port NUMBER` or `type gre`", IGNORED);
                return None;
            }
            if matches!(word.text.as_str(), "type" | "port") {
                words.next();
            }
        }
        Some(Located::new(method, statement.whole()))
    }

    fn granularity(&mut self, statement: &Statement, service: &mut Service) {
        let Some(word) = self.required(statement, "a netmask, or a prefix length for IPv6") else { return };
        let guess = if word.text.contains('.') { Family::Ipv4 } else { Family::Ipv6 };
        let family = *service.family.get_or_insert(guess);
        let bits = match family {
            Family::Ipv6 => {
                self.number(word, 1..=128, Rest::Refused, IGNORED).and_then(|n| u8::try_from(n).ok())
            }
            Family::Ipv4 => match word.text.parse::<std::net::Ipv4Addr>() {
                Ok(mask) => Some(self.bits_of(word, u32::from(mask))),
                Err(_) => {
                    self.invalid(word, "a netmask such as 255.255.255.0", IGNORED);
                    None
                }
            },
        };
        if bits.is_some() {
            service.granularity = bits;
            service.persistence.get_or_insert(PERSISTENCE);
        }
    }

    fn bits_of(&mut self, word: &Word, mask: u32) -> u8 {
        let bits = mask.leading_ones();
        if mask.count_ones() != bits {
            let message = format!("`{}` is no netmask: its ones have gaps", word.text);
            let finding = Diagnostic::warning("netmask-with-gaps", &word.at, message);
            self.diagnostics.push(finding.help(format!("its first {bits} bits count; IPVS uses them all")));
        }
        u8::try_from(bits).unwrap_or(32)
    }

    fn without_sorry_server(&mut self, statement: &Statement) {
        let message = format!("`{}` before, or without, `sorry_server`", statement.keyword());
        let finding = Diagnostic::warning("without-sorry-server", statement.at(), message);
        self.diagnostics.push(finding.expected("`sorry_server` above it").help(IGNORED));
    }

    /// The first counts.
    fn told_by(&mut self, statement: &Statement, slot: &mut Option<Box<Command>>) {
        if let Some(first) = slot {
            let message = format!("`{}` is written twice", statement.keyword());
            let finding = Diagnostic::warning("ignored-repetition", &statement.whole(), message);
            self.diagnostics.push(finding.help(format!("the first counts, at {}", first.place)));
            return;
        }
        *slot = self.notify_command(statement);
    }

    /// A word without which keepalived skips the line and goes on.
    fn optional_text(&mut self, statement: &Statement) -> Option<String> {
        let word = statement.parameter().map(|word| word.text.clone());
        if word.is_none() {
            let message = format!("`{}` without a value", statement.keyword());
            let finding = Diagnostic::warning("missing-value", statement.at(), message);
            self.diagnostics.push(finding.help(IGNORED));
        }
        word
    }

    /// The name of a web server, which stands in a header.
    fn web_host(&mut self, statement: &Statement) -> Option<String> {
        let text = self.optional_text(statement)?;
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let word = &statement.words[1];
            self.invalid(word, "the name of a host, without blanks", "the line is ignored");
            return None;
        }
        Some(text)
    }

    fn other_family(&mut self, at: &Location, help: &str) {
        let message = "the address is of another family than the virtual server";
        self.diagnostics.push(Diagnostic::warning("server-family", at, message).help(help));
    }
}

impl Service {
    /// A firewall mark and tunnels alone: the family that all servers have, or IPv4.
    fn family_of_servers(&self) -> Family {
        let sorry = self.sorry.as_ref().map(|sorry| sorry.address);
        let mut families = sorry.into_iter().chain(self.real.iter().map(|real| real.address));
        let first = families.next().map_or(Family::Ipv4, |address| family_of(address.ip()));
        if families.all(|address| family_of(address.ip()) == first) { first } else { Family::Ipv4 }
    }
}

fn family_of(address: IpAddr) -> Family {
    if address.is_ipv6() { Family::Ipv6 } else { Family::Ipv4 }
}
