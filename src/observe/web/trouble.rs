//! What is wrong, worst first: the first thing on the page.

use crate::observe::event::{Health, State};
use crate::observe::status::{InstanceStatus, Status};

use super::parts::Tone;

/// Troubles that are named one by one.
const NAMED: usize = 12;

/// Everything that an operator has to know at once.
pub fn troubles(status: &Status) -> Vec<(Tone, String)> {
    let mut found = Vec::new();
    for instance in &status.instances {
        of_instance(instance, &mut found);
    }
    for group in status.groups.iter().filter(|group| group.state == State::Fault) {
        found.push((Tone::Bad, format!("group {}: {}", group.name, group.why)));
    }
    of_listeners(status, &mut found);
    let used = |check: &str| {
        status.listeners.iter().flat_map(|l| &l.backends).any(|b| b.checks.iter().any(|name| name == check))
    };
    for check in &status.checks {
        if check.health == Health::Down && !used(&check.name) {
            found.push((Tone::Doubtful, format!("check {} is down: {}", check.name, check.detail)));
        }
        for finding in &check.findings {
            found.push((Tone::Doubtful, format!("check {}: {finding}", check.name)));
        }
    }
    for session in status.bfd.iter().filter(|session| !session.up) {
        found.push((Tone::Doubtful, format!("BFD session {}: {}", session.name, session.detail)));
    }
    for page in status.pages.iter().filter(|page| !page.healthy) {
        found
            .push((Tone::Doubtful, format!("health page {}{} says 503: {}", page.bind, page.path, page.why)));
    }
    for (count, what) in [(status.dropped.events, "events"), (status.dropped.log_lines, "log lines")] {
        if count > 0 {
            found.push((Tone::Doubtful, format!("{count} {what} were lost: their reader is slow or stuck")));
        }
    }
    found.sort_by_key(|(tone, _)| *tone != Tone::Bad);
    if found.len() > NAMED + 1 {
        let more = found.len() - NAMED;
        found.truncate(NAMED);
        found.push((Tone::Doubtful, format!("and {more} more: see below")));
    }
    found
}

fn of_instance(instance: &InstanceStatus, found: &mut Vec<(Tone, String)>) {
    let name = &instance.name;
    match instance.state {
        State::Fault => found.push((Tone::Bad, format!("{name}: {}", instance.why))),
        State::Initialize => found.push((Tone::Doubtful, format!("{name}: {}", instance.why))),
        State::Active | State::Backup => {}
    }
    for address in &instance.addresses {
        match (instance.state == State::Active, address.present) {
            (true, false) => {
                found.push((
                    Tone::Bad,
                    format!("{name}: {} is not on {}", address.address, address.interface),
                ));
            }
            (false, true) => {
                let text = format!("{name}: {} is still on {}", address.address, address.interface);
                found.push((Tone::Bad, text));
            }
            (true, true) | (false, false) => {}
        }
    }
    if !instance.weights.is_empty() && instance.state != State::Fault {
        for weight in instance.weights.iter().filter(|weight| weight.delta < 0) {
            let text = format!(
                "{name}: {} takes {} off its priority: {}",
                weight.object, -weight.delta, weight.detail
            );
            found.push((Tone::Doubtful, text));
        }
    }
}

fn of_listeners(status: &Status, found: &mut Vec<(Tone, String)>) {
    for listener in &status.listeners {
        let out = |b: &crate::observe::status::BackendStatus| {
            crate::observe::explain::forward::out_of_use(b, std::time::UNIX_EPOCH).is_some()
        };
        let full = listener.sessions_limit > 0 && listener.sessions >= listener.sessions_limit;
        if listener.refuses {
            found.push((Tone::Bad, listener.why.clone()));
        } else if full || listener.backends.iter().any(|b| out(b) || b.suspected.is_some()) {
            found.push((Tone::Doubtful, listener.why.clone()));
        }
        for name in &listener.names {
            if let Some(error) = &name.error {
                found.push((Tone::Doubtful, format!("{}: {}: {error}", listener.name, name.name)));
            }
        }
    }
}
