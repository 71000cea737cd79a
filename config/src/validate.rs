//! Rules between values, the same behind every door.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::model::{self, FirstState, Model};
use crate::ready::{Authentication, Config, Family, Instance, Lease, Probe, Transport, Version};
use crate::time;

mod ruled;

pub(crate) use ruled::refuse as ruled;

/// Names that must be unique, and names that must exist.
pub(crate) fn names(model: &Model, diagnostics: &mut Diagnostics) {
    unique("check", model.checks.iter().map(|c| &c.name), diagnostics);
    unique("instance", model.instances.iter().map(|i| &i.name), diagnostics);
    unique("listener", model.listeners.iter().map(|l| &l.name), diagnostics);
    let made = model.checks.iter().map(|c| c.name.value.as_str());
    let checks: HashSet<&str> = made.chain(model.refused_checks.iter().map(String::as_str)).collect();
    let instances: HashSet<&str> = model.instances.iter().map(|i| i.name.value.as_str()).collect();
    let listeners: HashSet<&str> = model.listeners.iter().map(|l| l.name.value.as_str()).collect();
    let sessions: HashSet<&str> = model.bfd.iter().map(|bfd| bfd.name.as_str()).collect();
    let of_instances = model.instances.iter().map(|instance| &instance.trackers);
    for trackers in of_instances.chain(model.sync_groups.iter().map(|group| &group.trackers)) {
        for tracked in &trackers.checks {
            exists("check", &tracked.check, &checks, diagnostics);
        }
        for (session, _) in &trackers.bfd {
            exists("bfd", session, &sessions, diagnostics);
        }
    }
    for check in &model.checks {
        let (kind, named, known) = match &check.probe {
            Probe::Bfd { session } => ("bfd", std::slice::from_ref(session), &sessions),
            Probe::Listeners { names } => ("listener", names.as_slice(), &listeners),
            _ => continue,
        };
        for name in named {
            exists(kind, &Located::new(name.clone(), check.name.at.clone()), known, diagnostics);
        }
    }
    unique("track group", model.track_groups.iter().map(|g| &g.name), diagnostics);
    for instance in model.track_groups.iter().flat_map(|g| &g.instances) {
        exists("instance", instance, &instances, diagnostics);
    }
    groups(model, &instances, diagnostics);
    for listener in &model.listeners {
        unique("backend", listener.backends.iter().map(|b| &b.name), diagnostics);
        for check in listener.backends.iter().flat_map(|b| &b.checks) {
            exists("check", check, &checks, diagnostics);
        }
        for instance in listener.instances.iter().flatten() {
            exists("instance", instance, &instances, diagnostics);
        }
    }
    let mut bound = HashMap::new();
    let binds = model.listeners.iter().flat_map(|l| l.bind.iter().map(|bind| (bind, l.policy.protocol)));
    for (bind, protocol) in binds {
        if let Some(first) = bound.insert((bind.value, protocol), &bind.at) {
            let message = format!("{} is bound twice", bind.value);
            let finding = Diagnostic::error("duplicate", &bind.at, message);
            diagnostics.push(
                finding.help(format!("the first is at {}; one listener binds an address", first.place)),
            );
        }
    }
}

/// Members exist and are in one group.
fn groups(model: &Model, instances: &HashSet<&str>, diagnostics: &mut Diagnostics) {
    unique("sync_group", model.sync_groups.iter().map(|group| &group.name), diagnostics);
    let members = || model.sync_groups.iter().flat_map(|group| &group.members);
    for member in members() {
        exists("instance", member, instances, diagnostics);
    }
    unique("member", members(), diagnostics);
    for group in model.sync_groups.iter().filter(|group| group.members.is_empty()) {
        let message = format!("group {} has no members", group.name.value);
        let finding = Diagnostic::error("empty-group", &group.name.at, message);
        diagnostics.push(finding.expected("names of instances"));
    }
}

fn unique<'a>(kind: &str, names: impl Iterator<Item = &'a Located<String>>, diagnostics: &mut Diagnostics) {
    let mut seen: HashMap<&str, &Location> = HashMap::new();
    for name in names {
        if let Some(first) = seen.insert(&name.value, &name.at) {
            let message = format!("{kind} {} is defined twice", name.value);
            let finding = Diagnostic::error("duplicate", &name.at, message);
            diagnostics
                .push(finding.expected("a name of its own").help(format!("the first is at {}", first.place)));
        }
    }
}

fn exists(kind: &str, name: &Located<String>, known: &HashSet<&str>, diagnostics: &mut Diagnostics) {
    if known.contains(name.value.as_str()) {
        return;
    }
    let finding = Diagnostic::error("unknown-name", &name.at, format!("there is no {kind} {}", name.value));
    diagnostics.push(match diagnostics.suggest(&name.value, known.iter().copied()) {
        Some(meant) => finding.expected(format!("`{meant}`?")),
        None => finding.help(format!("define it with `[[{kind}]]`")),
    });
}

/// The interface of an instance. Empty: by whatever interface, which unicast from a written source can do.
pub(crate) fn interface(
    meant: &model::Instance,
    family: Family,
    diagnostics: &mut Diagnostics,
) -> Option<String> {
    let Some(interface) = &meant.interface else {
        if needs_no_interface(meant, family) {
            return without_vmac(meant, diagnostics).then(String::new);
        }
        let message = format!("instance {} has no interface", meant.name.value);
        let finding = Diagnostic::error("missing-interface", &meant.name.at, message);
        diagnostics.push(
            finding
                .expected("`interface`")
                .help("name the network interface that carries the adverts, such as eth0; only unicast to peers from a source that is not link-local does without"),
        );
        return None;
    };
    if interface.value == "lo" {
        let finding = Diagnostic::error("loopback", &interface.at, "the loopback interface reaches no peer");
        diagnostics.push(finding.expected("an interface that the peers share"));
        return None;
    }
    if interface.value.len() > 15 || interface.value.is_empty() || interface.value.contains('/') {
        let shown: String = interface.value.chars().take(60).collect();
        let finding = Diagnostic::error(
            "interface-name",
            &interface.at,
            format!("`{shown}` cannot be the name of an interface"),
        );
        diagnostics.push(finding.expected("1 to 15 bytes without `/`"));
        return None;
    }
    Some(interface.value.clone())
}

/// keepalived 2.4.3: unicast, and the source is written and means the same on every link.
pub(crate) fn needs_no_interface(meant: &model::Instance, family: Family) -> bool {
    let has_peers = meant.unicast.as_ref().is_some_and(|unicast| !unicast.peers.is_empty());
    let source = meant.source.as_ref().map(|source| source.value);
    has_peers
        && source.is_some_and(|source| match source {
            IpAddr::V4(_) => family == Family::Ipv4,
            IpAddr::V6(six) => family == Family::Ipv6 && !six.is_unicast_link_local(),
        })
}

/// A macvlan needs an interface below it.
fn without_vmac(meant: &model::Instance, diagnostics: &mut Diagnostics) -> bool {
    if meant.vmac.is_some() {
        let message = format!("instance {} has a virtual MAC and no interface", meant.name.value);
        let finding = Diagnostic::error("vmac-without-interface", &meant.name.at, message);
        diagnostics.push(finding.expected("`interface` beside it").help("keepalived 2.4 refuses it too"));
    }
    meant.vmac.is_none()
}

/// The virtual router id of an instance; 0 was refused and reported by the door.
pub(crate) fn vrid(meant: &model::Instance, diagnostics: &mut Diagnostics) -> Option<u8> {
    match &meant.vrid {
        Some(vrid) => Some(vrid.value).filter(|id| *id > 0),
        None => {
            let message = format!("instance {} has no virtual router id", meant.name.value);
            let finding = Diagnostic::error("missing-virtual-router-id", &meant.name.at, message);
            diagnostics.push(
                finding
                    .expected("a number from 1 to 255")
                    .help("give all routers of this VIP the same; it must be unique on the network"),
            );
            None
        }
    }
}

/// A name or an address without a port.
pub(crate) fn is_host(text: &str) -> bool {
    let of_name = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.parse::<std::net::Ipv6Addr>().is_ok()
        || text.contains(char::is_alphanumeric) && text.chars().all(of_name)
}

pub(crate) fn first_state(meant: &model::Instance, owner: bool, strict: bool, diagnostics: &mut Diagnostics) {
    let Some(state) = meant.first_state.as_ref().filter(|s| s.value == FirstState::Active) else { return };
    if strict && !owner {
        let finding = Diagnostic::warning(
            "strict-mode",
            &state.at,
            "strict mode allows the first state MASTER to priority 255 alone",
        );
        diagnostics.push(finding.help("BACKUP is used, as in keepalived"));
    }
}

/// AH counts its adverts, so a router that starts must listen first.
pub(crate) fn first_state_with_header(
    meant: &model::Instance,
    owner: bool,
    authentication: &Authentication,
    diagnostics: &mut Diagnostics,
) {
    let Some(state) = meant.first_state.as_ref().filter(|s| s.value == FirstState::Active) else { return };
    if matches!(authentication, Authentication::Ah(_)) && !owner {
        let message = "the first state MASTER does not work with AH";
        let finding = Diagnostic::warning("master-with-ah", &state.at, message);
        diagnostics.push(finding.help("BACKUP is used, as in keepalived"));
    }
}

/// Somebody else takes over only without preemption.
pub(crate) fn timer_expired_backup(
    meant: &model::Instance,
    preempt: bool,
    diagnostics: &mut Diagnostics,
) -> Option<u8> {
    let priority = meant.timer_expired_backup.as_ref()?;
    if preempt {
        let message =
            format!("instance {} preempts, so it need not let go when it is late", meant.name.value);
        let finding = Diagnostic::warning("timer-expired-with-preempt", &priority.at, message);
        diagnostics.push(finding.expected("`nopreempt` beside it").help("it is ignored, as in keepalived"));
        return None;
    }
    Some(priority.value)
}

pub(crate) fn lease(
    meant: &model::Instance,
    advert_interval: Duration,
    diagnostics: &mut Diagnostics,
) -> Lease {
    let Some(lease) = &meant.lease else { return Lease::Auto };
    if let Lease::For(time) = lease.value
        && time <= advert_interval
    {
        let message = format!(
            "a lease of {} ends before the next advert of instance {}, which renews it",
            time::shown(time),
            meant.name.value
        );
        let finding = Diagnostic::error("lease-too-short", &lease.at, message)
            .expected(format!("more than {}", time::shown(advert_interval)));
        diagnostics.push(finding.help("`auto` follows the advert interval"));
    }
    lease.value
}

pub(crate) fn address_count(
    name: &Located<String>,
    count: usize,
    none_wanted: bool,
    version: Version,
    strict: bool,
    diagnostics: &mut Diagnostics,
) {
    if count > 0 || (none_wanted && !strict) {
        return;
    }
    let message = format!("instance {} has no virtual address", name.value);
    diagnostics.push(if version == Version::V3 || strict {
        Diagnostic::error("no-address", &name.at, message)
            .expected("at least one address")
            .help("keepalived does not start without one in version 3 either")
    } else {
        Diagnostic::warning("no-address", &name.at, message)
            .expected("at least one address")
            .help("the election runs, but nothing moves")
    });
}

/// RFC 9568 §5.2.9: the first IPv6 address is link-local.
pub(crate) fn first_address(first: &Located<model::Address>, strict: bool, diagnostics: &mut Diagnostics) {
    let IpAddr::V6(address) = first.value.address.address else { return };
    if address.is_unicast_link_local() {
        return;
    }
    let message = "the first IPv6 virtual address is not link-local";
    diagnostics.push(if strict {
        Diagnostic::warning("first-ipv6-address", &first.at, message)
            .expected("an address of fe80::/10 first")
            .help("strict mode asks for it; keepalived runs all the same")
    } else {
        Diagnostic::notice("first-ipv6-address", &first.at, message)
            .help("RFC 9568 wants an address of fe80::/10 first; keepalived only logs it")
    });
}

/// No two instances may be the same virtual router.
pub(crate) fn virtual_routers(instances: &[Arc<Instance>], diagnostics: &mut Diagnostics) {
    let mut multicast: HashMap<(u8, Family, &str, IpAddr), &Instance> = HashMap::new();
    let mut unicast: HashMap<(u8, Family, &str, Option<IpAddr>), Vec<&Instance>> = HashMap::new();
    for instance in instances {
        let (vrid, family, interface) = (instance.vrid, instance.family, instance.interface.as_str());
        let same = match &instance.transport {
            Transport::Multicast { group } => multicast.insert((vrid, family, interface, *group), instance),
            Transport::Unicast { .. } => {
                let others = unicast.entry((vrid, family, interface, instance.source)).or_default();
                let same = others.iter().copied().find(|other| share_a_peer(instance, other));
                others.push(instance);
                same
            }
        };
        if let Some(first) = same {
            let family = if family == Family::Ipv4 { "IPv4" } else { "IPv6" };
            let place = if interface.is_empty() { "any interface" } else { interface };
            let message = format!(
                "instances {} and {} both use virtual router id {vrid} with {family} on {place}",
                first.name, instance.name
            );
            let at = Location { place: instance.place.clone(), length: instance.name.chars().count() as u32 };
            let finding = Diagnostic::error("duplicate-virtual-router", &at, message);
            diagnostics.push(
                finding.expected("an id of its own").help(format!(
                    "the other is at {}; keepalived does not start with it either",
                    first.place
                )),
            );
        }
    }
}

fn share_a_peer(a: &Instance, b: &Instance) -> bool {
    let peers = |instance: &Instance| match &instance.transport {
        Transport::Unicast { peers, .. } => peers.iter().map(|p| p.address).collect::<Vec<_>>(),
        Transport::Multicast { .. } => Vec::new(),
    };
    let of_b = peers(b);
    peers(a).iter().any(|peer| of_b.contains(peer))
}

/// BFD names no interface, so a link-local neighbour cannot be sent to: keepalived 2.2.7 runs the session, and it stays
/// down.
pub(crate) fn sessions(model: &Model, diagnostics: &mut Diagnostics) {
    for session in &model.bfd {
        if let IpAddr::V6(address) = session.neighbor
            && address.is_unicast_link_local()
        {
            let message = format!("BFD session {}: the neighbour {address} is link-local", session.name);
            let at = Location { place: session.place.clone(), length: 1 };
            let finding = Diagnostic::warning("link-local-neighbor", &at, message);
            diagnostics.push(finding.expected("an address that needs no interface").help(
                "a session names no interface, so it stays down, as in keepalived; use a global or unique local address",
            ));
        }
    }
}

/// Reports the checks that nothing uses, and leaves out those that are not run then.
pub(crate) fn use_of_checks(
    config: &mut Config,
    only_if_used: &HashSet<String>,
    diagnostics: &mut Diagnostics,
) {
    let used = config.used_checks();
    for check in config.checks.iter().filter(|c| !used.contains(&c.name)) {
        let at = Location { place: check.place.clone(), length: check.name.chars().count() as u32 };
        let finding =
            Diagnostic::notice("unused-check", &at, format!("check {} is used by nothing", check.name));
        let help = if only_if_used.contains(&check.name) {
            "it is not run, as in keepalived"
        } else {
            "it runs and is shown, but moves no address; track it in an instance or name it in a backend"
        };
        diagnostics.push(finding.help(help));
    }
    config.checks.retain(|check| used.contains(&check.name) || !only_if_used.contains(&check.name));
}
