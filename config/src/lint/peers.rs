//! A host among the routers that should back it up: whatever makes two of them active at once, or none
//! when it is needed.
//!
//! An instance and one of a peer are the same virtual router when they share an address, or the id and the
//! interface or name: files that should agree often do not agree on the very thing they are compared by.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Authentication, Hmac, HmacMode, Place, Transport, Version};
use crate::time::shown;

use super::weight::{Range, first_weight};
use super::{Host, Router};

const TWO_ACTIVE: &str = "each drops the adverts of the other, so both become active";

pub(super) fn judge(host: &Host, others: &[Host], diagnostics: &mut Diagnostics) {
    for router in host.routers() {
        let partners: Vec<_> =
            others.iter().filter_map(|other| Some((other, partner(router, other)?))).collect();
        if partners.is_empty() && !others.is_empty() {
            let message = format!("{} is on no peer", router.ready.name);
            let finding = Diagnostic::notice("no-backup", router.name(), message);
            diagnostics.push(finding.expected("an instance with these addresses on at least one peer").help(
                "nobody takes its addresses over; with another id, interface and name on the peer it is not recognised",
            ));
        }
        for (_, partner) in &partners {
            pair(router, *partner, diagnostics);
        }
        weights(host, router, &partners, diagnostics);
    }
    groups(host, others, diagnostics);
}

/// The same virtual router on another host.
fn partner<'h>(router: Router<'_>, other: &'h Host) -> Option<Router<'h>> {
    let likeness = |candidate: &Router<'_>| {
        let (a, b) = (router.ready, candidate.ready);
        let shared = a.addresses.iter().any(|held| candidate.holds(held.address));
        let same_id = a.vrid == b.vrid && a.family == b.family;
        let (same_name, same_interface) = (a.name == b.name, a.interface == b.interface);
        let is_partner = shared && a.family == b.family || same_id && (same_name || same_interface);
        let points = |yes: bool, points: u32| if yes { points } else { 0 };
        is_partner.then(|| {
            points(shared, 8) + points(same_id, 4) + points(same_name, 2) + points(same_interface, 1)
        })
    };
    let candidates = other.routers().filter_map(|candidate| Some((likeness(&candidate)?, candidate)));
    candidates.max_by_key(|(points, _)| *points).map(|(_, candidate)| candidate)
}

/// What must be equal, so that each hears the other. What comes first hides what comes behind it.
fn pair(a: Router<'_>, b: Router<'_>, diagnostics: &mut Diagnostics) {
    let (here, there) = (a.ready, b.ready);
    let at = |location: &Location| location.place.clone();
    if here.vrid != there.vrid {
        let message = format!("virtual router id {} here, {} at {}", here.vrid, there.vrid, at(b.vrid()));
        let finding = Diagnostic::warning("peer-virtual-router-id", a.vrid(), message);
        diagnostics.push(finding.expected("the same id on all routers of an address").help(TWO_ACTIVE));
        return;
    }
    transport(a, b, diagnostics);
    if here.version != there.version {
        let number = |version| if version == Version::V2 { 2 } else { 3 };
        let message = format!(
            "VRRP version {} here, {} at {}",
            number(here.version),
            number(there.version),
            at(b.version())
        );
        let finding = Diagnostic::warning("peer-version", a.version(), message);
        diagnostics.push(finding.expected("the same version on all routers").help(TWO_ACTIVE));
        return;
    }
    // RFC 3768 §7.1; a version 3 Backup learns the interval of the Active (RFC 9568 §6.4.2).
    if here.version == Version::V2 && here.advert_interval != there.advert_interval {
        let message = format!(
            "{} between adverts here, {} at {}",
            shown(here.advert_interval),
            shown(there.advert_interval),
            at(b.advert_interval())
        );
        let finding = Diagnostic::warning("peer-advert-interval", a.advert_interval(), message);
        diagnostics.push(finding.expected("the same interval on all routers of version 2").help(TWO_ACTIVE));
    }
    authentication(a, b, diagnostics);
    addresses(a, b, diagnostics);
    priority(a, b, diagnostics);
}

/// How adverts get from one to the other.
fn transport(a: Router<'_>, b: Router<'_>, diagnostics: &mut Diagnostics) {
    match (&a.ready.transport, &b.ready.transport) {
        (Transport::Multicast { group: here }, Transport::Multicast { group: there }) => {
            if here != there {
                let message = format!("adverts go to {here} here, to {there} at {}", b.group().place);
                let finding = Diagnostic::warning("peer-transport", a.group(), message);
                diagnostics.push(finding.expected("the same group on all routers").help(TWO_ACTIVE));
            }
        }
        (Transport::Unicast { .. }, Transport::Unicast { .. }) => {
            unheard(a, b, diagnostics);
        }
        (Transport::Unicast { .. }, Transport::Multicast { .. }) => {
            let message = format!("unicast here, multicast at {}", b.name().place);
            let finding = Diagnostic::warning("peer-transport", a.unicast(), message);
            diagnostics.push(finding.expected("unicast on both, or on neither").help(TWO_ACTIVE));
        }
        (Transport::Multicast { .. }, Transport::Unicast { .. }) => {
            let message = format!("multicast here, unicast at {}", b.unicast().place);
            let finding = Diagnostic::warning("peer-transport", a.name(), message);
            diagnostics.push(finding.expected("unicast on both, or on neither").help(TWO_ACTIVE));
        }
    }
}

/// Unicast routers name each other. A source that is not written is the interface's, which no file says.
fn unheard(a: Router<'_>, b: Router<'_>, diagnostics: &mut Diagnostics) {
    if let Some(source) = a.ready.source.filter(|source| !b.peers().any(|peer| peer == *source)) {
        let message = format!("source {source} is no peer of {} at {}", b.ready.name, b.unicast().place);
        let finding = Diagnostic::warning("peer-not-listed", a.source(), message);
        diagnostics.push(
            finding
                .expected(format!("`{source}` among its peers"))
                .help("it sends us no adverts, so we become active beside it"),
        );
    }
    if let Some(source) = b.ready.source.filter(|source| !a.peers().any(|peer| peer == *source)) {
        let message = format!("{source}, the source at {}, is no peer here", b.source().place);
        let finding = Diagnostic::warning("peer-not-listed", a.unicast(), message);
        diagnostics.push(
            finding
                .expected(format!("`{source}` among the peers"))
                .help("it hears no adverts from us, so it becomes active beside us"),
        );
    }
}

fn authentication(a: Router<'_>, b: Router<'_>, diagnostics: &mut Diagnostics) {
    let kind = |authentication: &Authentication| match authentication {
        Authentication::None => "no authentication",
        Authentication::Pass(_) => "a password",
        Authentication::Ah(_) => "an authentication header",
    };
    let (here, there) = (&a.ready.authentication, &b.ready.authentication);
    let what = if here != there {
        let (one, other) = (kind(here), kind(there));
        let other = if one == other { "another one" } else { other };
        Some(format!("{one} here, {other} at {}", b.password().place))
    } else if !accepts(a.ready.hmac.as_ref(), b.ready.hmac.as_ref())
        || !accepts(b.ready.hmac.as_ref(), a.ready.hmac.as_ref())
    {
        Some(format!("adverts are not signed as at {}", b.name().place))
    } else {
        None
    };
    if let Some(message) = what {
        let finding = Diagnostic::warning("peer-authentication", a.password(), message);
        let expected = "the same authentication on all routers";
        diagnostics.push(
            finding.expected(expected).help("a router drops what it cannot verify, so both become active"),
        );
    }
}

/// Adverts signed as `sender` says are taken by `receiver`.
fn accepts(sender: Option<&Hmac>, receiver: Option<&Hmac>) -> bool {
    let signed = sender.filter(|hmac| hmac.mode != HmacMode::ReceiveOnly);
    match (signed, receiver) {
        (None, None) => true,
        (None, Some(receiver)) => receiver.mode != HmacMode::Enforce,
        (Some(_), None) => false,
        (Some(sender), Some(receiver)) => {
            let key = sender.keys.iter().find(|key| key.id == sender.active_key);
            key.is_some_and(|key| receiver.keys.iter().any(|k| k.id == key.id && k.secret == key.secret))
        }
    }
}

/// keepalived 2.2.7 drops adverts with another list; later ones, and we, count and log them.
fn addresses(a: Router<'_>, b: Router<'_>, diagnostics: &mut Diagnostics) {
    let list = |router: Router<'_>| {
        router.ready.addresses.iter().map(|held| held.address).collect::<BTreeSet<IpAddr>>()
    };
    let (here, there) = (list(a), list(b));
    let text = |of: Vec<&IpAddr>| {
        let shown: Vec<_> = of.iter().take(3).map(ToString::to_string).collect();
        let more = if of.len() > 3 { format!(" and {} more", of.len() - 3) } else { String::new() };
        shown.join(", ") + &more
    };
    let (extra, missing) =
        (here.difference(&there).collect::<Vec<_>>(), there.difference(&here).collect::<Vec<_>>());
    let message = match (extra.is_empty(), missing.is_empty()) {
        (true, true) => return,
        (false, true) => format!("{} is not in the list at {}", text(extra), b.addresses().place),
        (true, false) => format!("{} of the list at {} is not here", text(missing), b.addresses().place),
        (false, false) => {
            format!("{} here, {} at {}", text(extra), text(missing), b.addresses().place)
        }
    };
    let finding = Diagnostic::warning("peer-addresses", a.addresses(), message);
    diagnostics.push(finding.expected("the same addresses on all routers").help(
        "keepalived up to 2.3.2 drops adverts with another list, so both become active; an address that one router lacks does not move",
    ));
}

fn priority(a: Router<'_>, b: Router<'_>, diagnostics: &mut Diagnostics) {
    if a.ready.priority != b.ready.priority {
        return;
    }
    let place: &Place = &b.priority().place;
    let message = format!("priority {} here and at {place}", a.ready.priority);
    let finding = if a.ready.priority == 255 {
        let finding = Diagnostic::warning("peer-priority", a.priority(), message);
        finding.help("255 is the owner, of which there is one; two of them are both active for a while, and give way by chance")
    } else if a.ready.preempt || b.ready.preempt {
        let finding = Diagnostic::notice("peer-priority", a.priority(), message);
        finding.help("whoever starts first stays active; when both start at once the higher address wins")
    } else {
        return;
    };
    diagnostics.push(finding.expected("priorities that differ"));
}

/// Weights that move the priority past nobody, and weights past which nobody preempts.
fn weights(host: &Host, router: Router<'_>, partners: &[(&Host, Router<'_>)], diagnostics: &mut Diagnostics) {
    let Some(at) = first_weight(router).filter(|_| !partners.is_empty()) else { return };
    let own = Range::of(&host.config, router.ready);
    let ranges: Vec<_> =
        partners.iter().map(|(other, partner)| Range::of(&other.config, partner.ready)).collect();
    let above = |theirs: &Range| own.lowest >= theirs.highest;
    let name = &router.ready.name;
    if ranges.iter().all(|theirs| above(theirs) || own.highest <= theirs.lowest) {
        let best = ranges.iter().filter(|theirs| above(theirs)).max_by_key(|theirs| theirs.highest);
        let nearest = best.or_else(|| ranges.iter().min_by_key(|theirs| theirs.lowest));
        let Some(nearest) = nearest else { return };
        let message = format!(
            "no weight of {name} moves its addresses: its priority stays within {}-{}, the nearest of its peers within {}-{}",
            own.lowest, own.highest, nearest.lowest, nearest.highest
        );
        let finding = Diagnostic::warning("weight-moves-nothing", at, message);
        diagnostics.push(match best {
            Some(best) => finding
                .expected(enough(i32::from(router.ready.priority), own, *best))
                .help("or no weight: then a failure means FAULT, and a peer takes over"),
            None => finding
                .expected("weights by which one of the routers gets past the other")
                .help("it is below its peers whatever its checks say"),
        });
    } else if router.ready.priority != 255 && partners.iter().all(|(_, partner)| !partner.ready.preempt) {
        let message = format!("no peer takes over when the weights of {name} lower its priority");
        let finding = Diagnostic::warning("weight-without-preemption", at, message);
        diagnostics.push(finding.expected("peers that preempt, or a check without a weight").help(
            "a backup that does not preempt waits until the active router is silent; without a weight a failure means FAULT, and it lets go",
        ));
    }
}

/// What would bring a router that is above its peer below it. A weight that is added when all is well leaves
/// the priority as written when it is not.
fn enough(priority: i32, own: Range, peer: Range) -> String {
    let above = own.highest.min(priority) - peer.highest;
    if own.highest > priority {
        return format!(
            "negative weights that take off more than {above}, or a priority below {}",
            peer.highest
        );
    }
    format!("weights that take off more than {above}")
}

/// A group whose members are better on different hosts.
fn groups(host: &Host, others: &[Host], diagnostics: &mut Diagnostics) {
    for group in &host.config.sync_groups {
        let Some(written) = host.written.groups.get(&group.name) else { continue };
        for other in others {
            let members = group.members.iter().filter_map(|name| host.named(name));
            let pairs: Vec<_> =
                members.filter_map(|member| Some((member, partner(member, other)?))).collect();
            let better = pairs.iter().find(|(a, b)| a.ready.priority > b.ready.priority);
            let worse = pairs.iter().find(|(a, b)| a.ready.priority < b.ready.priority);
            let (Some((better, _)), Some((worse, there))) = (better, worse) else { continue };
            let message = format!(
                "group {}: {} is better here, {} at {}",
                group.name,
                better.ready.name,
                worse.ready.name,
                there.priority().place
            );
            let finding = Diagnostic::warning("peer-group-order", &written.name.at, message);
            diagnostics.push(finding.expected("one host that has the higher priority in all members").help(
                "members are active together or not at all: the group stays where it is, for each host waits for the other",
            ));
        }
    }
}
