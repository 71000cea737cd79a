//! What the configuration can say and the forwarder cannot do yet: refused, so that no key is without effect.

use std::collections::{BTreeSet, HashSet};

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{
    Backend, BackendPolicy, Balance, Beside, Check, Config, Dial, Expect, FileExpect, HttpExpect, HttpProbe,
    HttpSubject, HttpVersion, Listener, Matching, Mode, NoBackend, Pace, Place, Policy, Probe,
};

/// Leaves out what is not there yet of `optional` listeners, with a warning, and the checks that they alone use.
pub(crate) fn leave_out(config: &mut Config, optional: &HashSet<String>, diagnostics: &mut Diagnostics) {
    let mut checks = HashSet::new();
    let all = &config.checks;
    config.listeners.retain(|listener| {
        let own = listener.backends.iter().flat_map(|backend| &backend.checks);
        let own: HashSet<&str> = own.map(String::as_str).collect();
        let of_checks = all.iter().filter(|check| own.contains(check.name.as_str())).flat_map(of_check);
        let of_backends = listener.backends.iter().flat_map(of_backend);
        let keys: BTreeSet<_> =
            of_listener(listener).into_iter().chain(of_backends).chain(of_checks).collect();
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
    let templates = config.listeners.iter().flat_map(|l| &l.discovered).filter_map(|d| d.check.as_ref());
    for check in config.checks.iter().chain(templates) {
        for key in of_check(check) {
            say(&check.place, key);
        }
    }
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

/// `body_contains`.
fn is_plain(expect: &HttpExpect) -> bool {
    let plain = |is: &Expect| !is.negate && matches!(is.matching, Matching::Contains(_));
    expect.of == HttpSubject::Body && expect.is.as_ref().is_some_and(plain)
}

fn of_check(check: &Check) -> Vec<&'static str> {
    let none = Pace { exact: check.pace.exact, ..Pace::default() };
    let extended = |http: &HttpProbe| match http.requests.as_slice() {
        [one] => {
            !one.headers.is_empty()
                || one.body.is_some()
                || one.expect.iter().any(|expect| !is_plain(expect))
                || one.expect.len() > 1
                || one.version != HttpVersion::default()
        }
        _ => true,
    };
    let said = [
        (check.pace != none, "fast_interval"),
        (check.dial != Dial::default(), "source"),
        (matches!(&check.probe, Probe::WeighingScript(_)), "exit_weight"),
        (matches!(&check.probe, Probe::Etcd(_)), "etcd"),
        (matches!(&check.probe, Probe::Dialogue(_)), "tls"),
        (matches!(&check.probe, Probe::Dns(_)), "dns"),
        (matches!(&check.probe, Probe::Udp(_)), "udp"),
        (matches!(&check.probe, Probe::Ping { .. }), "ping"),
        (matches!(&check.probe, Probe::Agent(_)), "agent"),
        (matches!(&check.probe, Probe::Bfd { .. }), "bfd"),
        (matches!(&check.probe, Probe::File { expect: FileExpect::Weight(_), .. }), "weight of a file"),
        (matches!(&check.probe, Probe::Http(http) if extended(http)), "http expect"),
    ];
    said.into_iter().filter(|(said, _)| *said).map(|(_, key)| key).collect()
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
        (policy.transparent, "transparent"),
        (policy.access_log.is_some(), "access_log"),
        (policy.quorum.is_some(), "quorum"),
        (policy.beside != Beside::Auto, "beside"),
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
