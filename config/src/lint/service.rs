//! Virtual servers of keepalived.conf, and what their authors most often overlook.

use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Backend, Listener, Place, Protocol};

use super::Host;

pub(super) fn judge(host: &Host, diagnostics: &mut Diagnostics) {
    for listener in &host.config.listeners {
        if host.written.virtual_servers.contains(&listener.name) {
            address(host, listener, diagnostics);
            servers(listener, diagnostics);
        }
    }
}

/// Nobody connects to an address that no host has.
fn address(host: &Host, listener: &Listener, diagnostics: &mut Diagnostics) {
    let config = &host.config;
    if config.instances.is_empty() {
        return;
    }
    let of_instances = config.instances.iter().flat_map(|instance| instance.held());
    let fixed = config.static_addresses.iter().map(|fixed| &fixed.address);
    let held: Vec<IpAddr> = of_instances.chain(fixed).map(|held| held.address).collect();
    let Some(bind) = listener.bind.iter().find(|bind| !held.contains(&bind.ip())) else { return };
    let finding = Diagnostic::warning(
        "address-not-held",
        &at(&listener.place),
        format!("virtual server {}: no instance holds {}", listener.name, bind.ip()),
    );
    diagnostics.push(
        finding
            .expected("an address of `virtual_ipaddress`")
            .help("it is served only where something else gives this host the address, and it does not move"),
    );
}

fn servers(listener: &Listener, diagnostics: &mut Diagnostics) {
    let real = || listener.backends.iter().filter(|backend| !backend.policy.backup);
    for backend in real().filter(|backend| backend.checks.is_empty()) {
        let name = &backend.name;
        let finding = Diagnostic::warning(
            "unchecked-server",
            &at(&backend.place),
            format!("virtual server {}: real server {name} is not checked", listener.name),
        );
        let inhibit =
            if backend.policy.inhibit_on_failure { "; so `inhibit_on_failure` does nothing" } else { "" };
        diagnostics.push(finding.expected("`TCP_CHECK { }` at least").help(format!(
            "it gets its share of the connections when it is dead, and no quorum or sorry server notices{inhibit}"
        )));
    }
    let inhibited = |backend: &&Backend| backend.policy.inhibit_on_failure && !backend.checks.is_empty();
    if let (Some(persistence), Some(backend)) = (listener.policy.persistence, real().find(inhibited)) {
        let message = format!("virtual server {}: `inhibit_on_failure` beside persistence", listener.name);
        let finding = Diagnostic::warning("inhibit-with-persistence", &at(&backend.place), message);
        diagnostics.push(finding.help(format!(
            "clients of a real server that fails are sent to it again for {}, as in keepalived; leave `inhibit_on_failure` out to send them to another one",
            crate::time::shown(persistence.timeout)
        )));
    }
    if let Some(persistence) =
        listener.policy.persistence.filter(|_| listener.policy.protocol == Protocol::Udp)
    {
        let message = format!("virtual server {}: persistence with UDP", listener.name);
        let finding = Diagnostic::notice("persistence-with-udp", &at(&listener.place), message);
        diagnostics.push(finding.help(format!(
            "all datagrams of a client, and of all clients behind one address, go to one real server, until none has come for {}",
            crate::time::shown(persistence.timeout)
        )));
    }
    let sorry = listener.backends.iter().find(|backend| backend.policy.backup);
    if let Some(sorry) = sorry.filter(|sorry| real().any(|backend| backend.address == sorry.address)) {
        let message =
            format!("virtual server {}: the sorry server {} is a real server", listener.name, sorry.address);
        let finding = Diagnostic::warning("sorry-among-real", &at(&sorry.place), message);
        diagnostics.push(
            finding
                .expected("a server that nothing else uses")
                .help("when it is down itself, clients are sent to it all the same"),
        );
    }
}

fn at(place: &Place) -> Location {
    Location { place: place.clone(), length: 1 }
}
