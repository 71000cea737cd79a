//! What the kernel cannot do for a listener with `mode = "kernel"`, and what only the kernel can do.

use std::collections::HashSet;

use crate::diagnostic::{Diagnostic, Diagnostics, Location, Severity};
use crate::ready::{Balance, Beside, Config, Listener, Mode, Place, Protocol};

/// Refuses what would be without effect, or worse. Of the `optional` listeners what cannot be is left out, with a warning.
pub(crate) fn refuse(config: &mut Config, optional: &HashSet<String>, diagnostics: &mut Diagnostics) {
    let mut checks = HashSet::new();
    config.listeners.retain_mut(|listener| {
        let findings = findings(listener);
        let wrong: Vec<&str> = findings
            .iter()
            .filter(|one| one.severity == Severity::Error)
            .map(|one| one.message.as_str())
            .collect();
        if wrong.is_empty() || !optional.contains(&listener.name) {
            findings.into_iter().for_each(|finding| diagnostics.push(finding));
            if listener.policy.mode != Mode::Proxy && listener.balance == Balance::LeastConn {
                listener.balance = Balance::RoundRobin;
            }
            return true;
        }
        let at = Location { place: listener.place.clone(), length: 1 };
        let message = format!("virtual server {} is left out", listener.name);
        diagnostics.push(Diagnostic::warning("virtual-server-left-out", &at, message).help(wrong.join("; ")));
        checks.extend(listener.backends.iter().flat_map(|backend| backend.checks.iter().cloned()));
        false
    });
    drop_unused(config, checks);
}

/// Of checks whose listeners were left out those go that nobody else uses.
fn drop_unused(config: &mut Config, mut checks: HashSet<String>) {
    for name in config.used_checks() {
        checks.remove(&name);
    }
    config.checks.retain(|check| !checks.contains(&check.name));
}

fn findings(listener: &Listener) -> Vec<Diagnostic> {
    let mut findings = Vec::new();
    if listener.policy.mode == Mode::Proxy {
        if listener.policy.protocol == Protocol::Udp {
            let finding = error(&listener.place, "the proxy carries TCP alone");
            findings.push(finding.help("write `mode = \"kernel\"` beside `protocol = \"udp\"`"));
        }
        if !listener.policy.marks.is_empty() {
            let finding = error(&listener.place, "the proxy does not see firewall marks");
            findings.push(finding.help("write `mode = \"kernel\"` beside `marks`"));
        }
        findings.extend(without_port(listener));
        return findings;
    }
    addresses(listener, &mut findings);
    keys(listener, &mut findings);
    if listener.balance == Balance::LeastConn {
        let at = Location { place: listener.place.clone(), length: 1 };
        let message =
            format!("listener {}: the kernel does not count the sessions of a backend", listener.name);
        let finding = Diagnostic::warning("kernel-mode", &at, message);
        findings.push(finding.help(
            "sessions go in turn, by weight; write `balance = \"roundrobin\"` (or random, source) to say so",
        ));
    }
    findings
}

fn error(place: &Place, message: impl Into<String>) -> Diagnostic {
    Diagnostic::error("kernel-mode", &Location { place: place.clone(), length: 1 }, message)
}

fn addresses(listener: &Listener, findings: &mut Vec<Diagnostic>) {
    for bind in &listener.bind {
        let wrong = match bind.ip() {
            ip if ip.is_unspecified() => "the kernel carries what comes to an address, not to all",
            ip if ip.is_loopback() => "the kernel does not carry what goes to the loopback interface",
            _ if bind.port() == 0 => "the kernel gives no port away",
            _ => continue,
        };
        let finding = error(&listener.place, format!("listener {} on {bind}: {wrong}", listener.name));
        findings.push(finding.help(match listener.policy.protocol {
            Protocol::Tcp => "write the virtual address and its port, or `mode = \"proxy\"`",
            Protocol::Udp => "write the virtual address and its port; UDP is carried by the kernel alone",
        }));
    }
    match (listener.bind.is_empty(), listener.policy.marks.is_empty()) {
        (_, true) => findings.extend(without_port(listener)),
        (true, false) if listener.policy.protocol == Protocol::Udp => findings.push(
            error(&listener.place, format!("listener {}: a protocol beside marks", listener.name))
                .help("remove it: what has a mark is carried over TCP and over UDP"),
        ),
        (true, false) => {}
        (false, false) => findings.push(
            error(&listener.place, format!("listener {} has `bind` and `marks`", listener.name))
                .help("write a listener for each"),
        ),
    }
    let is_ipv6 = listener.is_ipv6();
    if listener.bind.iter().any(|bind| bind.is_ipv6() != is_ipv6) {
        let message = format!("listener {} has addresses of IPv4 and of IPv6", listener.name);
        findings.push(
            error(&listener.place, message).help("write a listener for each: the kernel translates none"),
        );
    }
    for backend in &listener.backends {
        let wrong = if backend.address.is_ipv6() != is_ipv6 {
            "is of another family than the listener, and the kernel translates none"
        } else if backend.address.ip().is_loopback() {
            "is on the loopback interface, where the kernel brings nobody else's sessions"
        } else {
            continue;
        };
        let finding =
            error(&backend.place, format!("backend {} ({}) {wrong}", backend.name, backend.address));
        findings.push(finding.help("another address of the backend, or `mode = \"proxy\"`"));
    }
    if let Some(discovery) = listener.discovered.first() {
        let message = format!("listener {}: in the kernel backends have fixed addresses", listener.name);
        findings
            .push(error(&discovery.template.place, message).help("write addresses, or `mode = \"proxy\"`"));
    }
}

/// Port 0 is that which the client asked for, where it can ask for several.
fn without_port(listener: &Listener) -> Option<Diagnostic> {
    let backend = listener.backends.iter().find(|backend| backend.address.port() == 0)?;
    let message = format!("backend {} ({}) has no port", backend.name, backend.address);
    Some(error(&backend.place, message).expected("a port; 0 is for a listener with `marks`"))
}

/// Keys that ask for what only a proxy can do.
fn keys(listener: &Listener, findings: &mut Vec<Diagnostic>) {
    let policy = &listener.policy;
    let of_listener = [
        (listener.idle_timeout.is_some(), "idle_timeout", "connection tracking has its own timeouts"),
        (policy.retries.is_some(), "retries", "the client connects to the backend itself"),
        (policy.queue_timeout.is_some(), "queue_timeout", "nobody waits in a queue"),
        (policy.observe.is_some(), "observe", "the client connects to the backend itself"),
        (policy.rebalance.is_some(), "rebalance", "it does not know which sessions are idle"),
        (!policy.accept_proxy.is_empty(), "accept_proxy", "no byte is read"),
        (policy.transparent, "transparent", "`source_nat = false` keeps the client's address"),
        (policy.access_log.is_some(), "access_log", "it does not tell of sessions that end"),
        (policy.beside != Beside::Auto, "beside", "it needs no port of its own"),
    ];
    for (_, key, why) in of_listener.into_iter().filter(|(said, ..)| *said) {
        let message = format!("listener {}: `{key}` has no meaning in the kernel: {why}", listener.name);
        findings.push(error(&listener.place, message).help("remove it, or write `mode = \"proxy\"`"));
    }
    for backend in &listener.backends {
        let of_backend = [
            (backend.policy.max_sessions.is_some(), "max_sessions", "it does not count sessions"),
            (backend.policy.send_proxy.is_some(), "send_proxy", "it adds no bytes"),
        ];
        for (_, key, why) in of_backend.into_iter().filter(|(said, ..)| *said) {
            let message = format!("backend {}: `{key}` has no meaning in the kernel: {why}", backend.name);
            findings.push(error(&backend.place, message).help("remove it, or write `mode = \"proxy\"`"));
        }
    }
}
