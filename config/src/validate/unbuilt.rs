//! What the configuration can say and the forwarder cannot do yet: refused, so that no key is without effect.

use std::collections::{BTreeSet, HashSet};

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Backend, Config, Listener, Mode, Place};

/// Leaves out what is not there yet of `optional` listeners, with a warning, and the checks that they alone use.
pub(crate) fn leave_out(config: &mut Config, optional: &HashSet<String>, diagnostics: &mut Diagnostics) {
    let mut checks = HashSet::new();
    config.listeners.retain(|listener| {
        let own = listener.backends.iter().flat_map(|backend| &backend.checks);
        let own: HashSet<&str> = own.map(String::as_str).collect();
        let of_backends = listener.backends.iter().flat_map(|backend| of_backend(listener, backend));
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
            if let Some(key) = of_backend(listener, &discovery.template) {
                say(&discovery.template.place, key);
            }
        }
        for backend in &listener.backends {
            if let Some(key) = of_backend(listener, backend) {
                say(&backend.place, key);
            }
        }
    }
}

fn of_listener(listener: &Listener) -> Vec<&'static str> {
    let policy = &listener.policy;
    // The kernel has no sessions that could wait or be tried again.
    let ruled = policy.mode != Mode::Proxy;
    let said = [
        (policy.retries.is_some() && ruled, "retries"),
        (policy.queue_timeout.is_some() && ruled, "queue_timeout"),
        (policy.observe.is_some() && ruled, "observe"),
        (policy.rebalance.is_some() && ruled, "rebalance"),
        (policy.close_backup_sessions && ruled, "close_backup_sessions"),
    ];
    said.into_iter().filter(|(said, _)| *said).map(|(_, key)| key).collect()
}

fn of_backend(listener: &Listener, backend: &Backend) -> Option<&'static str> {
    (listener.policy.mode != Mode::Proxy && backend.policy.max_sessions.is_some()).then_some("max_sessions")
}
