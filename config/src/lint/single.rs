//! One instance, or one instance beside the others of its host.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};

use super::{Host, Router};

pub(super) fn judge(host: &Host, diagnostics: &mut Diagnostics) {
    addresses_held_twice(host, diagnostics);
    for router in host.routers() {
        peers(host, router, diagnostics);
    }
}

/// Whichever of the two lets go takes it from the other.
fn addresses_held_twice(host: &Host, diagnostics: &mut Diagnostics) {
    let mut held: HashMap<(IpAddr, &str), Router<'_>> = HashMap::new();
    for router in host.routers() {
        for address in router.ready.held() {
            let Some(first) = held.insert((address.address, &address.interface), router) else { continue };
            if first.ready.name == router.ready.name {
                continue;
            }
            let message = format!("{} is in {} too", address.address, first.ready.name);
            let at = Location { place: address.place.clone(), length: 1 };
            let finding = Diagnostic::warning("address-in-two-instances", &at, message);
            diagnostics.push(finding.expected("every address in one instance").help(format!(
                "in keepalived the one that lets go deletes it while the other is active, and two hosts may hold it at once; the other is at {}",
                first.name().place
            )));
        }
    }
}

/// Peers that are no other host.
fn peers(host: &Host, router: Router<'_>, diagnostics: &mut Diagnostics) {
    for peer in router.peers() {
        if router.ready.source == Some(peer) {
            let message = format!("peer {peer} is the instance's own source");
            let finding = Diagnostic::notice("peer-is-self", router.peer(peer), message);
            diagnostics.push(
                finding
                    .expected("the addresses of the other routers alone")
                    .help("every advert is sent to this host too; delete the line"),
            );
        } else if let Some(holder) = host.routers().find(|holder| holder.holds(peer)) {
            let message = format!("peer {peer} is a virtual address of {}", holder.ready.name);
            let finding = Diagnostic::warning("peer-is-virtual", router.peer(peer), message);
            diagnostics.push(finding.expected("an address that stays on its host").help(
                "whoever is active holds it, so adverts to it reach nobody but the active router itself",
            ));
        }
    }
}
