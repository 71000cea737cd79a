//! Criteria A of the interoperability matrix, as assertions over what was observed.

use std::time::Duration;

use crate::host::Host;
use crate::peer::{Kind, Peer};
use crate::story::{Actor, Bed};
use crate::{Failure, Late, Outcome, Stamp, ensure};

/// Frames are stamped at the bridge before a host has them, and the clock that stamps them may be
/// slewed by 500 parts in a million: so much earlier than the formula is still not early.
fn early_allowed(formula: Duration) -> Duration {
    Duration::from_micros(20) + formula / 2000
}

/// (2): takeover within [formula, formula + max(2 ms, 1 %)].
pub fn on_time(what: &str, from: Stamp, to: Stamp, formula: Duration) -> Outcome {
    within(what, from, to, formula, Duration::from_millis(2).max(formula / 100))
}

/// The same with another margin.
pub fn within(what: &str, from: Stamp, to: Stamp, formula: Duration, margin: Duration) -> Outcome {
    let took = to.saturating_sub(from);
    ensure(took + early_allowed(formula) >= formula, || {
        format!("{what}: took {took:?}, too early for {formula:?}")
    })?;
    if took <= formula + margin {
        let late = took.saturating_sub(formula);
        println!(
            "measured: {what}: {took:.3?}, formula {formula:.3?}, late {late:.3?} of {margin:.3?} allowed"
        );
        return Ok(());
    }
    Err(Failure {
        text: format!("{what}: took {took:?}, more than {formula:?} + {margin:?}"),
        late: Some(Late { from, to, margin }),
    })
}

/// (1): never two holders for more than one interval + 50 ms outside the split itself.
pub fn one_holder(bed: &Bed, interval: Duration) -> Outcome {
    let allowed = interval + Duration::from_millis(50);
    let end = crate::now();
    let held = [&bed.on_lb1, &bed.on_lb2].map(|monitor| monitor.held(&bed.address));
    for (from_1, to_1) in &held[0] {
        for (from_2, to_2) in &held[1] {
            let from = *from_1.max(from_2);
            let to = to_1.unwrap_or(end).min(to_2.unwrap_or(end));
            // What is left of the overlap after the splits are cut out of it.
            let mut together = to.saturating_sub(from);
            for (cut, joined) in &bed.splits {
                together =
                    together.saturating_sub(to.min(joined.unwrap_or(end)).saturating_sub(from.max(*cut)));
            }
            if together > allowed {
                return Err(Failure {
                    text: format!("both hosts held {} for {together:?} from {from:?}", bed.address),
                    late: Some(Late { from, to, margin: Duration::from_millis(50) }),
                });
            }
        }
    }
    Ok(())
}

/// (4): no line in a peer's log speaks of an error.
pub fn no_complaint(peer: &Peer) -> Outcome {
    const COMPLAINTS: [&str; 14] = [
        "invalid",
        "wrong",
        "error",
        "mismatch",
        "too short",
        "too long",
        "unexpected",
        "not present",
        "duplicate",
        "bogus",
        "fail",
        "unable",
        "can't",
        "panicked",
    ];
    // Said by FRR of itself: no MPLS here, terminals that it cannot give to a user of its own, and its
    // first IPv6 advert that follows one interval late.
    const HARMLESS: [&str; 5] = [
        "MPLS",
        "could chown socket",
        "Delaying VRRP",
        "Refusing to start Virtual Router",
        "Failed to find address to bind",
    ];
    for line in peer.process.output().lines() {
        let lower = line.to_lowercase();
        let complaint = COMPLAINTS.iter().find(|word| lower.contains(*word));
        if let Some(word) = complaint
            && !HARMLESS.iter().any(|harmless| line.contains(harmless))
            // The code of a finding: a scenario writes an address twice on purpose.
            && line.trim() != "duplicate"
        {
            return Err(format!("{:?} complains ({word}): {line}", peer.kind).into());
        }
    }
    Ok(())
}

/// (5): vipd discarded nothing.
pub fn nothing_discarded(peer: &Peer, host: &Host) -> Outcome {
    if peer.kind != Kind::Vipd {
        return Ok(());
    }
    let status = peer.status(host)?;
    let discarded = status["discarded"].as_object().is_some_and(|reasons| !reasons.is_empty());
    let instances = status["instances"].as_array().cloned().unwrap_or_default();
    ensure(!instances.is_empty(), || format!("vipd status --json names no instance: {status}"))?;
    let by_instance = instances.iter().any(|instance| {
        instance["counters"]["discarded"].as_object().is_some_and(|reasons| !reasons.is_empty())
            || instance["counters"]["send_errors"].as_u64() != Some(0)
    });
    ensure(!discarded && !by_instance, || format!("vipd counted errors on {}: {status:#}", host.name))
}

/// (6): what a client lost between these times.
pub fn little_lost(bed: &Bed, what: &str, from: Stamp, to: Stamp, takeover: Duration) -> Outcome {
    let margin = Duration::from_millis(2).max(takeover / 100);
    // A hole is known to within one question at each end.
    let allowed = takeover + 2 * bed.prober.step + margin;
    let lost = bed.prober.longest_outage(from, to);
    if lost <= allowed {
        println!("measured: {what}: the client had no answer for {lost:.3?} of {allowed:.3?} allowed");
        return Ok(());
    }
    Err(Failure {
        text: format!("{what}: the client had no answer for {lost:?}, allowed {allowed:?}"),
        late: Some(Late { from, to, margin }),
    })
}

/// Nothing may be announced before the addresses are there; each may take the kernel 0.1 ms.
pub fn for_many_addresses(active: &Actor) -> Duration {
    Duration::from_micros(100) * (active.router.addresses.len() as u32 - 1)
}

/// (7): the client's neighbour entry names the new active's MAC address within 10 ms of its first advert.
pub fn neighbour_follows(bed: &Bed, what: &str, first_advert: Stamp, active: &Actor) -> Outcome {
    let margin = Duration::from_millis(10) + for_many_addresses(active);
    let mac = &active.mac(bed);
    let changes = bed.on_client.neighbour(&bed.address);
    let known_before = changes.iter().any(|(at, _)| *at < first_advert);
    if !known_before {
        return Ok(());
    }
    let entry = changes.iter().rev().find(|(at, _)| *at <= first_advert + margin);
    if entry.is_some_and(|(_, known)| known == mac) {
        return Ok(());
    }
    Err(Failure {
        text: format!(
            "{what}: the client's entry for {} is not {mac} {margin:?} after {first_advert:?}: {changes:?}",
            bed.address
        ),
        late: Some(Late { from: first_advert, to: first_advert + margin, margin }),
    })
}

/// (8): nothing is left on a host whose daemon stopped.
pub fn nothing_left(host: &Host, kind: Kind, addresses: &[String]) -> Outcome {
    if kind == Kind::Frr {
        // Its links and their addresses are the operator's, not the daemon's.
        return Ok(());
    }
    let left = host.addresses();
    for address in addresses {
        let address = crate::peer::bare(address);
        ensure(!left.iter().any(|other| other == address), || format!("{address} is left on {}", host.name))?;
    }
    let links = host.links();
    ensure(links.iter().all(|link| link == "lo" || link == "eth0"), || {
        format!("links left on {}: {links:?}", host.name)
    })?;
    let rules = host.run(&["nft", "list", "ruleset"]);
    ensure(rules.trim().is_empty(), || format!("firewall rules left on {}:\n{rules}", host.name))
}
