//! What keepalived 2.2.7 completes, corrects and refuses when all is read (`link_vsg_to_vs`,
//! `validate_check_config`).

use std::net::SocketAddr;

use crate::diagnostic::{Diagnostic, Located, Location};
use crate::ready::Family;

use super::super::Lower;
use super::group::Group;
use super::{Ip, Method, PERSISTENCE, Service, To};

/// The addresses and marks of a service.
pub(super) struct Faces {
    /// Port 0: all ports. `None`: they are a group's ranges.
    pub address: Option<SocketAddr>,
    pub group: Option<Group>,
    pub mark: Option<u32>,
}

impl Faces {
    /// It has addresses, not marks alone.
    pub fn has_addresses(&self) -> bool {
        self.address.is_some() || self.group.as_ref().is_some_and(|group| !group.ranges.is_empty())
    }

    pub fn has_marks(&self) -> bool {
        self.mark.is_some() || self.group.as_ref().is_some_and(|group| !group.marks.is_empty())
    }

    /// Those of this family, or of any.
    pub fn marks(&self, family: Option<Family>) -> Vec<u32> {
        let of_group = self.group.iter().flat_map(|group| &group.marks);
        let of_group = of_group.filter(|(_, of)| of.is_none() || *of == family).map(|(mark, _)| *mark);
        self.mark.into_iter().chain(of_group).collect()
    }

    fn has_all_ports(&self) -> bool {
        let of_group =
            self.group.as_ref().is_some_and(|group| group.ranges.iter().any(|range| range.port == 0));
        of_group || self.address.is_some_and(|address| address.port() == 0)
    }
}

impl Lower<'_> {
    /// The group of a service is looked up, since it may stand behind it. `None`: there is nothing to serve.
    pub(super) fn faces(&mut self, service: &mut Service) -> Option<Faces> {
        let name = match &service.to {
            To::Address(address) => return Some(Faces { address: Some(*address), group: None, mark: None }),
            To::Mark(mark) => return Some(Faces { address: None, group: None, mark: Some(*mark) }),
            To::Group(name) => name.clone(),
        };
        let mut refuse = |message: String| {
            let finding = Diagnostic::warning("no-such-group", &name.at, message);
            self.diagnostics.push(finding.help("the virtual server is left out, as in keepalived"));
            None
        };
        let Some(group) = self.server_groups.iter().find(|group| group.name.value == name.value).cloned()
        else {
            return refuse(format!("there is no `virtual_server_group` {}", name.value));
        };
        let (four, six) = (group.has(Family::Ipv4), group.has(Family::Ipv6));
        let wrong = match service.family {
            Some(_) if four && six => true,
            Some(Family::Ipv4) => six,
            Some(Family::Ipv6) => four,
            None => false,
        };
        if wrong {
            return refuse(format!("the servers are of another family than the group {}", name.value));
        }
        service.family = service.family.or(match (four, six) {
            (true, false) => Some(Family::Ipv4),
            (false, true) => Some(Family::Ipv6),
            _ => None,
        });
        Some(Faces { address: None, group: Some(group), mark: None })
    }

    /// Everything that is not about one server.
    pub(super) fn complete_service(&mut self, service: &mut Service, faces: &Faces, name: &str) {
        let at = service.at.clone();
        if faces.has_addresses() {
            if service.protocol.is_none() {
                let message = format!("virtual server {name}: no protocol");
                let finding = Diagnostic::warning("no-protocol", &at, message).expected("`protocol TCP`");
                self.diagnostics.push(finding.help("UDP is used, as in keepalived"));
                service.protocol = Some(Located::new(Ip::Udp, at.clone()));
            }
            let udp = service.protocol.as_ref().is_some_and(|protocol| protocol.value == Ip::Udp);
            if let Some(one_packet) = service.one_packet.take_if(|_| !udp) {
                let message = format!("virtual server {name}: `ops` is for UDP alone");
                self.service_finding("one-packet", &one_packet, message, "it is cleared, as in keepalived");
            }
        }
        if faces.has_all_ports() && service.persistence.is_none() {
            let message = format!("virtual server {name}: all ports without `persistence_timeout`");
            self.service_finding("zero-port", &at, message, "it is set to 360 s, as in keepalived");
            service.persistence = Some(PERSISTENCE);
        }
        if let Some(protocol) = &service.protocol
            && !faces.has_addresses()
        {
            let message = format!("virtual server {name}: a protocol beside a mark");
            let protocol = protocol.at.clone();
            self.service_finding("protocol-of-mark", &protocol, message, "it is ignored, as in keepalived");
        }
        if service.scheduler.is_none() {
            let message = format!("virtual server {name}: no scheduler");
            let finding = Diagnostic::warning("no-scheduler", &at, message).expected("`lb_algo rr`");
            self.diagnostics.push(finding.help("wlc is used, as in keepalived"));
            service.scheduler = Some(Located::new("wlc".to_owned(), at));
        }
        self.real_servers(service, name);
        self.quorum(service, name);
        self.ports(service, faces, name);
    }

    fn service_finding(&mut self, code: &'static str, at: &Location, message: String, help: &str) {
        self.diagnostics.push(Diagnostic::warning(code, at, message).help(help));
    }

    fn real_servers(&mut self, service: &mut Service, name: &str) {
        let mut kept: Vec<super::Real> = Vec::new();
        for real in std::mem::take(&mut service.real) {
            if kept.iter().any(|other| other.address == real.address) {
                let message = format!("virtual server {name}: real server {} is written twice", real.address);
                self.service_finding(
                    "real-server-twice",
                    &real.at,
                    message,
                    "the first counts, as in keepalived",
                );
            } else {
                kept.push(real);
            }
        }
        for real in &mut kept {
            if real.method.is_none() {
                self.default_method(service, name);
                real.method = service.method.clone();
            }
            real.alpha.get_or_insert(service.alpha);
            real.inhibit.get_or_insert(service.inhibit);
            real.weight.get_or_insert(service.weight);
            real.timing = real.timing.or(service.timing);
        }
        service.real = kept;
        let Some(mut sorry) = service.sorry.take() else { return };
        if let Some(same) = service.real.iter().find(|real| real.address == sorry.address) {
            let inhibit = same.inhibit.unwrap_or(false);
            if sorry.inhibit != inhibit {
                let message = format!(
                    "virtual server {name}: sorry server {} is a real server too, with another `inhibit`",
                    sorry.address
                );
                self.service_finding(
                    "sorry-is-real",
                    &sorry.at,
                    message,
                    "that of the real server counts, as in keepalived",
                );
                sorry.inhibit = inhibit;
            }
        }
        if sorry.method.is_none() {
            self.default_method(service, name);
            sorry.method = service.method.clone();
        }
        service.sorry = Some(sorry);
    }

    /// Said once for a virtual server.
    fn default_method(&mut self, service: &mut Service, name: &str) {
        if service.method.is_none() {
            let at = service.at.clone();
            let message = format!("virtual server {name}: no forwarding method");
            let finding = Diagnostic::warning("no-forwarding-method", &at, message).expected("`lb_kind NAT`");
            self.diagnostics.push(finding.help("NAT is used, as in keepalived"));
            service.method = Some(Located::new(Method::Nat, at));
        }
    }

    fn quorum(&mut self, service: &mut Service, name: &str) {
        let sum: u64 = service.real.iter().map(|real| u64::from(real.weight.unwrap_or(1))).sum();
        let at = service.quorum.at.clone();
        if u64::from(service.quorum.value) > sum {
            let sum = u32::try_from(sum).unwrap_or(u32::MAX);
            let message = format!(
                "virtual server {name}: quorum {} is more than all weights together, {sum}",
                service.quorum.value
            );
            self.service_finding("quorum-over-weight", &at, message, "the sum is used, as in keepalived");
            service.quorum.value = sum;
        }
        if service.hysteresis >= service.quorum.value {
            let used = service.quorum.value.saturating_sub(1);
            let message = format!(
                "virtual server {name}: hysteresis {} is not less than quorum {}",
                service.hysteresis, service.quorum.value
            );
            self.service_finding("hysteresis", &at, message, &format!("{used} is used, as in keepalived"));
            service.hysteresis = used;
        }
    }

    /// Only NAT changes ports. keepalived sets a port that is missing where packets keep theirs; for a sorry server with
    /// NAT it leaves 0, which no server has.
    fn ports(&mut self, service: &mut Service, faces: &Faces, name: &str) {
        let sorry = service.sorry.iter_mut().map(|sorry| (&sorry.at, &mut sorry.address, &sorry.method));
        let real = service.real.iter_mut().map(|real| (&real.at, &mut real.address, &real.method));
        let mut wrong = Vec::new();
        for (at, address, method) in real.chain(sorry) {
            let nat = method.as_ref().is_none_or(|method| method.value == Method::Nat);
            match faces.address {
                Some(own) if address.port() == 0 => address.set_port(own.port()),
                Some(own) if !nat && address.port() != own.port() => {
                    wrong.push((
                        at.clone(),
                        *address,
                        "that of the virtual server is used, as in keepalived",
                    ));
                    address.set_port(own.port());
                }
                Some(_) => {}
                None if !nat && faces.mark.is_some() && address.port() != 0 => {
                    wrong.push((at.clone(), *address, "the port is dropped, as in keepalived"));
                    address.set_port(0);
                }
                None => {
                    let ranges = faces.group.iter().flat_map(|group| &group.ranges);
                    let own: Vec<_> = ranges.map(|range| range.port).collect();
                    let marks = faces.group.as_ref().is_some_and(|group| !group.marks.is_empty());
                    let other = own.iter().any(|port| *port != address.port());
                    if !nat && address.port() != 0 && (marks || other) {
                        wrong.push((
                            at.clone(),
                            *address,
                            "packets keep their port with DR and TUN in keepalived",
                        ));
                    }
                }
            }
        }
        for (at, address, help) in wrong {
            let message =
                format!("virtual server {name}: {address} has another port, and only NAT changes ports");
            self.service_finding("port-mismatch", &at, message, help);
        }
    }
}
