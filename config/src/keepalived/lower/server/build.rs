//! Virtual servers become listeners, their checkers checks.

use std::collections::{BTreeSet, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::complete::{KEEPALIVE, MAX_SESSIONS, USER_TIMEOUT};
use crate::diagnostic::{Diagnostic, Located, Location};
use crate::model::{Backend, Listener};
use crate::ready::{BackendPolicy, Balance, Mode, Persistence, Policy, Protocol, Quorum};

use super::super::Lower;
use super::judge::Faces;
use super::{Ip, Method, Service, To};

/// Of one virtual server: each is bound by a socket for every thread of the forwarder.
const MOST_ADDRESSES: usize = 1024;

/// What was said once for a whole configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(in super::super) struct Said {
    nat: bool,
    direct: bool,
}

impl Lower<'_> {
    /// When everything is read: instances, groups, trackers.
    pub(in super::super) fn finish_services(&mut self) {
        let mut said = Said::default();
        for mut service in std::mem::take(&mut self.services) {
            let Some(faces) = self.faces(&mut service) else { continue };
            if !faces.has_addresses() {
                service.marks = faces.marks(service.family);
            }
            let name = service.name();
            if service.real.is_empty() {
                let message = format!("virtual server {name} has no real servers");
                let finding = Diagnostic::warning("no-real-servers", &service.at, message);
                self.diagnostics.push(
                    finding
                        .expected("`real_server ADDRESS PORT { … }`")
                        .help("it is left out, as in keepalived"),
                );
                continue;
            }
            self.complete_service(&mut service, &faces, &name);
            let Some(bind) = self.addresses_of(&service, &faces, &name) else { continue };
            self.method_finding(&service, &mut said);
            for (service, bind, name) in by_port(service, bind, name) {
                self.listener(service, bind, name);
            }
        }
        self.forget_files_of_checkers();
    }

    /// A `track_file` that checkers alone use is no check of its own: they read the file.
    fn forget_files_of_checkers(&mut self) {
        let read = std::mem::take(&mut self.checker_files);
        let of_instances = self.model.instances.iter().map(|instance| &instance.trackers);
        let of_groups = self.model.sync_groups.iter().map(|group| &group.trackers);
        let tracked = of_instances.chain(of_groups).flat_map(|trackers| &trackers.checks);
        let tracked: HashSet<&str> = tracked.map(|tracked| tracked.check.value.as_str()).collect();
        let is_used = |name: &str| !read.contains(name) || tracked.contains(name);
        self.model.checks.retain(|check| is_used(&check.name.value));
    }

    /// What it listens on; `None`, and why, when that cannot be done.
    fn addresses_of(&mut self, service: &Service, faces: &Faces, name: &str) -> Option<Vec<SocketAddr>> {
        let mut bind = Vec::new();
        let mut too_many = false;
        if let Some(address) = faces.address {
            bind.push(address);
        }
        for range in faces.group.iter().flat_map(|group| &group.ranges) {
            match range.addresses(MOST_ADDRESSES - bind.len().min(MOST_ADDRESSES)) {
                Some(addresses) => bind.extend(addresses),
                None => too_many = true,
            }
        }
        let mut seen = HashSet::new();
        bind.retain(|address| seen.insert(*address));
        self.keep_unbound(service, &mut bind, name);
        let sctp = service.protocol.as_ref().is_some_and(|protocol| protocol.value == Ip::Sctp);
        if !service.marks.is_empty() && !service.marks.contains(&0) {
            return Some(bind);
        }
        let why = if !faces.has_addresses() {
            "mark 0 is that of packets without a mark, which IPVS does not look for either; write another one"
        } else if sctp {
            "vipd forwards TCP and UDP; SCTP needs the kernel's IPVS, with its `ipvsadm`"
        } else if too_many {
            "it has more than 1024 addresses; split the group"
        } else if bind.is_empty() {
            "other virtual servers have all of its addresses"
        } else if bind.iter().any(|address| address.port() == 0) {
            "it is for all ports, and vipd listens on one; write a virtual server for each port in use"
        } else {
            if faces.has_marks() {
                self.left_out(
                    &service.at,
                    format!("the marks of virtual server {name} are left out"),
                    "packets are chosen by address alone; the addresses of the group are served",
                );
            }
            return Some(bind);
        };
        self.left_out(&service.at, format!("virtual server {name} is left out"), why);
        None
    }

    /// An address with a port is one service of IPVS, whichever virtual servers name it; here the first has it.
    fn keep_unbound(&mut self, service: &Service, bind: &mut Vec<SocketAddr>, name: &str) {
        let protocol = service.carried();
        let splits = is_split(service, bind);
        // What the second of two virtual servers of one name is called is that of the first.
        let is_own = |listener: &Listener, port: u16| {
            let own = if splits { service.name_of_port(port) } else { name.to_owned() };
            listener.name.value == own
        };
        let same = self.model.listeners.iter().filter(|listener| listener.policy.protocol == protocol);
        let all = same.flat_map(|listener| listener.bind.iter().map(move |bind| (listener, bind.value)));
        let others = all.filter(|(listener, address)| !is_own(listener, address.port()));
        let taken: HashSet<SocketAddr> = others.map(|(_, address)| address).collect();
        let Some(first) = bind.iter().find(|address| taken.contains(address)).copied() else { return };
        bind.retain(|address| !taken.contains(address));
        let message = format!("virtual server {name}: {first} is that of another virtual server");
        let finding = Diagnostic::warning("virtual-server-twice", &service.at, message);
        self.diagnostics.push(finding.help("the one above has it; name each address once"));
    }

    fn left_out(&mut self, at: &Location, message: String, why: &str) {
        self.diagnostics.push(Diagnostic::warning("virtual-server-left-out", at, message).help(why));
    }

    /// What changes for the servers. Once for each of the two ways that there were.
    fn method_finding(&mut self, service: &Service, said: &mut Said) {
        let udp = service.is_ruled();
        let methods = service.real.iter().filter_map(|real| real.method.as_ref());
        for method in methods {
            let (slot, message, help) = match method.value {
                Method::Nat if udp => continue,
                Method::Nat => (
                    &mut said.nat,
                    "real servers see an address of this host as their client, not the client's",
                    "connections are carried from socket to socket, so that a failed one is tried elsewhere and no route back is needed; to keep the client's address write it as TOML (`vipd convert`) with `mode = \"kernel\"` and `source_nat = false`, or `send_proxy`",
                ),
                Method::Direct | Method::Tunnel => (
                    &mut said.direct,
                    "there is no DR and no TUN: connections go through this host, both ways",
                    "real servers must listen on their own address (take the virtual address off their loopback, and the tunnel and the arp_ignore settings with it), and see an address of this host as their client; their answers pass through this host, so its links must carry them",
                ),
            };
            if !std::mem::replace(slot, true) {
                self.diagnostics.push(Diagnostic::warning("lvs-forwarding", &method.at, message).help(help));
            }
        }
    }

    fn listener(&mut self, service: Service, bind: Vec<SocketAddr>, name: String) {
        let weights = self.weights(&service);
        let balance = self.balance(&service);
        let mut backends = Vec::new();
        for (real, weight) in service.real.iter().zip(weights) {
            let backend = Located::new(real.address.to_string(), real.at.clone());
            if backends.iter().any(|known: &Backend| known.address.value == real.address) {
                let message =
                    format!("virtual server {name}: real server {} is written twice", backend.value);
                let finding = Diagnostic::warning("real-server-twice", &real.at, message);
                self.diagnostics.push(finding.help("the first counts"));
                continue;
            }
            let checks = self.checks_of(&service, real, &name, &backend.value);
            let alpha = real.checkers.iter().any(|checker| checker.alpha.or(real.alpha) == Some(true));
            let most = self.most_sessions(&service, real, weight);
            let maint = self.waits_for_ever(real);
            backends.push(Backend {
                name: backend,
                address: Located::new(real.address, real.at.clone()),
                weight,
                checks,
                policy: BackendPolicy {
                    max_sessions: most.map(|most| most.clamp(1, 10_000_000)),
                    inhibit_on_failure: real.inhibit.unwrap_or(false),
                    down_at_start: alpha,
                    maint,
                    notify_up: real.notify_up.clone(),
                    notify_down: real.notify_down.clone(),
                    mail: self.wants_mail(real.mail, true),
                    ..BackendPolicy::default()
                },
            });
        }
        if matches!(service.scheduler.as_ref().map(|s| s.value.as_str()), Some("fo" | "ovf")) {
            backends.sort_by_key(|backend| std::cmp::Reverse(backend.weight));
        }
        if let Some(sorry) = &service.sorry {
            let taken = backends.iter().any(|backend| backend.address.value == sorry.address);
            let name = if taken { format!("sorry {}", sorry.address) } else { sorry.address.to_string() };
            backends.push(Backend {
                name: Located::new(name, sorry.at.clone()),
                address: Located::new(sorry.address, sorry.at.clone()),
                weight: 1,
                checks: Vec::new(),
                policy: BackendPolicy {
                    backup: true,
                    inhibit_on_failure: sorry.inhibit,
                    ..BackendPolicy::default()
                },
            });
        }
        let made = Listener {
            name: Located::new(name, service.at.clone()),
            bind: bind.into_iter().map(|address| Located::new(address, service.at.clone())).collect(),
            balance,
            backends,
            connect_timeout: crate::complete::CONNECT_TIMEOUT,
            // The kernel, which carries UDP, has timeouts of its own.
            idle_timeout: self.globals.lvs_tcp_timeout.filter(|_| !service.is_ruled()),
            keepalive: Some(KEEPALIVE),
            user_timeout: Some(USER_TIMEOUT),
            max_sessions: MAX_SESSIONS,
            close_sessions_on_backend_down: true,
            instances: None,
            discovered: Vec::new(),
            policy: policy(&service, self.wants_mail(service.mail, false)),
            optional: true,
        };
        self.merge_or_add(made);
    }

    /// `otherwise`: when nothing is said anywhere. keepalived tells of real servers then.
    fn wants_mail(&self, own: Option<bool>, otherwise: bool) -> bool {
        let mail = &self.model.mail;
        let can_be_sent = !mail.to.is_empty() && mail.server.is_some();
        can_be_sent && own.or(self.globals.smtp_alert_of_servers()).unwrap_or(otherwise)
    }

    /// Its checker follows a BFD session that was left out, of which nothing will ever be heard.
    fn waits_for_ever(&mut self, real: &super::Real) -> bool {
        let Some((session, alpha)) = &real.waits_for else { return false };
        let alpha = alpha.or(real.alpha) == Some(true);
        let message = format!("`BFD_CHECK` follows {}, which was left out above", session.value);
        let help = match alpha {
            true => {
                "with `alpha` the server gets nothing, as in keepalived: it is in maintenance until the session is mended, or `vipd backend NAME ready`"
            }
            false => "the server is used and this does not check it, as in keepalived",
        };
        self.diagnostics.push(Diagnostic::warning("bfd-left-out", &session.at, message).help(help));
        alpha
    }

    /// How many connections a server may have.
    fn most_sessions(&mut self, service: &Service, real: &super::Real, weight: u16) -> Option<u32> {
        let scheduler = service.scheduler.as_ref().map_or("", |scheduler| &scheduler.value);
        let most = match (scheduler, real.most_sessions) {
            // Up to its weight, then the next one (ip_vs_ovf).
            ("ovf", most) => Some(most.unwrap_or(u32::MAX).min(weight.into())),
            (_, most) => most,
        };
        if most.is_some() && service.is_ruled() {
            let what = if real.most_sessions.is_some() { "`uthreshold`" } else { "`ovf`" };
            let message = format!(
                "{what} has no effect with {}: the kernel does not count what a server has",
                service.ruled_by()
            );
            let finding = Diagnostic::notice("not-needed", &real.at, message);
            self.diagnostics.push(finding.help("lower the weight of a server that gets too much"));
            return None;
        }
        most
    }

    /// The second of two virtual servers finds the service of the first, and adds its servers to it.
    fn merge_or_add(&mut self, made: Listener) {
        let same = |listener: &&mut Listener| {
            listener.name.value == made.name.value && listener.policy.protocol == made.policy.protocol
        };
        let Some(first) = self.model.listeners.iter_mut().find(same) else {
            self.model.listeners.push(made);
            return;
        };
        for backend in made.backends {
            if !first.backends.iter().any(|known| known.name.value == backend.name.value) {
                first.backends.push(backend);
            }
        }
        let message = format!("virtual server {} is written twice", made.name.value);
        let help = format!("its real servers are added to those of the first, at {}", first.name.at.place);
        self.diagnostics.push(Diagnostic::warning("virtual-server-twice", &made.name.at, message).help(help));
    }

    /// Weights as the scheduler looks at them. Some of IPVS's look at nothing but whether they are 0.
    fn weights(&mut self, service: &Service) -> Vec<u16> {
        let scheduler = service.scheduler.as_ref().map_or("", |scheduler| &scheduler.value);
        let written = service.real.iter().map(|real| real.weight.unwrap_or(1));
        let mut used: Vec<u16> = written.map(|weight| u16::try_from(weight).unwrap_or(u16::MAX)).collect();
        if let Some(real) = service.real.iter().find(|real| real.weight.unwrap_or(1) > u16::MAX.into()) {
            let message = format!("weight {} is more than 65535", real.weight.unwrap_or(1));
            let finding = Diagnostic::warning("large-weight", &real.at, message);
            self.diagnostics.push(finding.help("65535 is used; only how weights compare matters"));
        }
        let mut some = used.iter().filter(|weight| **weight > 0);
        let first = some.next();
        if matches!(scheduler, "rr" | "lc" | "dh") && some.any(|weight| Some(weight) != first) {
            let message = format!("the weights differ, and `{scheduler}` does not look at them");
            let by_weight = service.quorum.value > 1;
            let help = if by_weight {
                "here they count, since the quorum is a sum of them; write the same weight for all to have even shares"
            } else {
                "each server counts as 1, as in keepalived; write `wrr` or `wlc` to give them shares by weight"
            };
            let at = service.scheduler.as_ref().map_or(&service.at, |scheduler| &scheduler.at).clone();
            self.diagnostics.push(Diagnostic::notice("weights-without-effect", &at, message).help(help));
            if !by_weight {
                used.iter_mut().for_each(|weight| *weight = (*weight).min(1));
            }
        }
        used
    }

    fn balance(&mut self, service: &Service) -> Balance {
        let Some(scheduler) = &service.scheduler else { return Balance::LeastConn };
        let (balance, instead) = match scheduler.value.as_str() {
            "rr" | "wrr" => (Balance::RoundRobin, ""),
            "lc" | "wlc" | "sed" | "nq" => (Balance::LeastConn, ""),
            "sh" | "mh" => (Balance::Source, ""),
            "fo" | "ovf" => (Balance::First, ""),
            "twos" => (Balance::Random, ""),
            "dh" => (
                Balance::Source,
                "a hash of the client's address is used: to one address all clients would go to one server",
            ),
            _ => (
                Balance::LeastConn,
                "the least connections by weight decide, whatever address the client asked for",
            ),
        };
        // The kernel's NAT counts nothing.
        let (balance, instead) = match (balance, service.is_ruled()) {
            (Balance::LeastConn, true) => {
                (Balance::RoundRobin, "in the kernel servers have their turns, by weight")
            }
            _ => (balance, instead),
        };
        if !instead.is_empty() {
            let of = if service.is_ruled() { format!(" for {}", service.ruled_by()) } else { String::new() };
            let message = format!("there is no `{}`{of}", scheduler.value);
            self.diagnostics.push(Diagnostic::warning("lvs-scheduler", &scheduler.at, message).help(instead));
        }
        if let Some(at) = &service.one_packet {
            let finding = Diagnostic::notice("not-needed", at, "`ops` has no effect here");
            self.diagnostics.push(
                finding.help("datagrams of one client and port go to one server while they keep coming"),
            );
        }
        balance
    }
}

impl Service {
    /// Nothing said is UDP.
    fn carried(&self) -> Protocol {
        if !self.marks.is_empty() {
            return Protocol::Tcp;
        }
        match self.protocol.as_ref().map(|protocol| protocol.value) {
            Some(Ip::Tcp | Ip::Sctp) => Protocol::Tcp,
            Some(Ip::Udp) | None => Protocol::Udp,
        }
    }

    /// The kernel carries it.
    fn is_ruled(&self) -> bool {
        !self.marks.is_empty() || self.protocol.as_ref().is_some_and(|protocol| protocol.value == Ip::Udp)
    }

    fn ruled_by(&self) -> &'static str {
        if self.marks.is_empty() { "UDP" } else { "a mark" }
    }

    /// What status, metrics and commands call it.
    fn name(&self) -> String {
        self.name_with("")
    }

    /// `port`: what stands behind the name of a group.
    fn name_with(&self, port: &str) -> String {
        let end = if self.carried() == Protocol::Udp { "/udp" } else { "" };
        match &self.to {
            To::Address(address) => format!("{address}{end}"),
            To::Mark(mark) => format!("fwmark {mark}"),
            To::Group(name) => format!("{}{port}{end}", name.value),
        }
    }

    /// One port of a group.
    fn name_of_port(&self, port: u16) -> String {
        self.name_with(&format!(":{port}"))
    }

    /// Servers without a port of their own get this.
    fn set_port(&mut self, port: u16) {
        let sorry = self.sorry.iter_mut().map(|sorry| &mut sorry.address);
        for address in self.real.iter_mut().map(|real| &mut real.address).chain(sorry) {
            if address.port() == 0 {
                address.set_port(port);
            }
        }
    }
}

/// Some server has no port of its own, and there is more than one that it may get.
fn is_split(service: &Service, bind: &[SocketAddr]) -> bool {
    let sorry = service.sorry.iter().map(|sorry| sorry.address);
    let mut servers = service.real.iter().map(|real| real.address).chain(sorry);
    let several = bind.iter().any(|address| Some(address.port()) != bind.first().map(SocketAddr::port));
    several && servers.any(|address| address.port() == 0)
}

/// Servers without a port get connections at the port that the client asked for: a group of several ports is a listener
/// for each. What tells of the quorum and of servers is with the first alone.
fn by_port(
    mut service: Service,
    bind: Vec<SocketAddr>,
    name: String,
) -> Vec<(Service, Vec<SocketAddr>, String)> {
    let ports: BTreeSet<u16> = bind.iter().map(SocketAddr::port).collect();
    if !is_split(&service, &bind) {
        // What comes with a mark keeps its port.
        service.set_port(ports.first().copied().unwrap_or(0));
        return vec![(service, bind, name)];
    }
    let mut all = Vec::new();
    for port in ports {
        let mut one = service.clone();
        one.set_port(port);
        let own = bind.iter().copied().filter(|address| address.port() == port).collect();
        let name = one.name_of_port(port);
        all.push((one, own, name));
        (service.quorum_up, service.quorum_down, service.mail) = (None, None, Some(false));
        for real in &mut service.real {
            (real.notify_up, real.notify_down, real.mail) = (None, None, Some(false));
        }
    }
    all
}

fn policy(service: &Service, mail: bool) -> Policy {
    let nat = service.real.iter().all(|real| real.method.as_ref().is_none_or(|m| m.value == Method::Nat));
    let bits = service.granularity;
    let persistence = service.persistence.map(|seconds| Persistence {
        timeout: Duration::from_secs(seconds.into()),
        ipv4_prefix: bits.filter(|bits| *bits <= 32).unwrap_or(32),
        ipv6_prefix: bits.filter(|_| service.family == Some(crate::ready::Family::Ipv6)).unwrap_or(128),
    });
    let told = service.quorum_up.is_some() || service.quorum_down.is_some() || service.omega || mail;
    let quorum = Quorum {
        least: service.quorum.value.max(1),
        hysteresis: service.hysteresis,
        up: service.quorum_up.clone(),
        down: service.quorum_down.clone(),
        at_end: service.omega,
    };
    Policy {
        protocol: service.carried(),
        // As IPVS does: with NAT the servers send their answers by way of this host.
        mode: if service.is_ruled() { Mode::Kernel { source_nat: !nat } } else { Mode::Proxy },
        marks: service.marks.clone(),
        persistence,
        close_backup_sessions: service.sorry.as_ref().is_some_and(|sorry| !sorry.inhibit),
        mail,
        quorum: (told || quorum.least > 1 || quorum.hysteresis > 0).then_some(quorum),
        ..Policy::default()
    }
}
