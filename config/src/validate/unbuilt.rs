//! What the configuration can say and the forwarder cannot do yet: refused, so that no key is without effect.

use std::collections::{BTreeSet, HashSet};

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Backend, BackendPolicy, Balance, Config, Listener, Mode, NoBackend, Place, Policy};

/// Leaves out what is not there yet of `optional` listeners, with a warning, and the checks that they alone use.
pub(crate) fn leave_out(config: &mut Config, optional: &HashSet<String>, diagnostics: &mut Diagnostics) {
    let mut checks = HashSet::new();
    config.listeners.retain(|listener| {
        let own = listener.backends.iter().flat_map(|backend| &backend.checks);
        let own: HashSet<&str> = own.map(String::as_str).collect();
        let of_backends = listener.backends.iter().flat_map(of_backend);
        let keys: BTreeSet<_> = of_listener(listener).into_iter().chain(of_backends).collect();
        if keys.is_empty() || !optional.contains(&listener.name) {
            return true;
        }
        let keys: Vec<_> = keys.into_iter().collect();
        let at = Location { place: listener.place.clone(), length: 1 };
        let message = format!("virtual server {} is left out", listener.name);
        let help = format!("`{}` cannot be done yet", keys.join("`, `"));
        diagnostics.push(Diagnostic::warning("virtual-server-left-out", &at, message).help(help));
        checks.extend(own.into_iter().map(str::to_owned));
        false
    });
    drop_unused(config, checks);
}

/// Of checks whose listeners were left out those go that nobody else uses.
pub(super) fn drop_unused(config: &mut Config, mut checks: HashSet<String>) {
    for name in config.used_checks() {
        checks.remove(&name);
    }
    config.checks.retain(|check| !checks.contains(&check.name));
}

/// Refuses what is not there yet.
pub(crate) fn refuse(config: &Config, diagnostics: &mut Diagnostics) {
    let mut say = |place: &Place, what: &str| {
        let at = Location { place: place.clone(), length: 1 };
        diagnostics.push(Diagnostic::error("not-yet", &at, format!("`{what}` cannot be done yet")));
    };
    for listener in &config.listeners {
        for key in of_listener(listener) {
            say(&listener.place, key);
        }
        for discovery in &listener.discovered {
            for key in of_backend(&discovery.template) {
                say(&discovery.template.place, key);
            }
        }
        for backend in &listener.backends {
            for key in of_backend(backend) {
                say(&backend.place, key);
            }
        }
    }
}

fn of_listener(listener: &Listener) -> Vec<&'static str> {
    let policy = &listener.policy;
    let ruled = policy.mode != Mode::Proxy;
    let said = [
        (!matches!(listener.balance, Balance::RoundRobin | Balance::LeastConn) && !ruled, "balance"),
        (policy.persistence.is_some() && !ruled, "persistence"),
        (policy.retries.is_some(), "retries"),
        (policy.slow_start != Policy::default().slow_start, "slow_start"),
        (policy.queue_timeout.is_some(), "queue_timeout"),
        (policy.observe.is_some(), "observe"),
        (policy.rebalance.is_some(), "rebalance"),
        (policy.no_backend == NoBackend::TryAll && !ruled, "no_backend"),
        (policy.close_backup_sessions, "close_backup_sessions"),
        (policy.quorum.is_some(), "quorum"),
    ];
    said.into_iter().filter(|(said, _)| *said).map(|(_, key)| key).collect()
}

fn of_backend(backend: &Backend) -> Vec<&'static str> {
    let policy = &backend.policy;
    let none = BackendPolicy::default();
    let said = [
        (backend.checks.len() > 1, "check"),
        (backend.weight == 0 || backend.weight > 256, "weight"),
        (policy.backup, "backup"),
        (policy.max_sessions.is_some(), "max_sessions"),
        (policy.inhibit_on_failure, "inhibit_on_failure"),
        (policy.down_at_start, "down_at_start"),
        (policy.maint, "maint"),
        (policy.notify_up != none.notify_up, "notify_up"),
        (policy.notify_down != none.notify_down, "notify_down"),
    ];
    said.into_iter().filter(|(said, _)| *said).map(|(_, key)| key).collect()
}
