//! `[[listener]]`, `[[health_page]]`, `[forwarder]`.

use std::fmt::Write as _;
use std::time::Duration;

use crate::complete::{self, ERROR_LIMIT, OBSERVED_DOWN_FOR, PERSISTENCE_TIMEOUT};
use crate::ready::{
    AccessLog, Backend, Backups, Balance, Beside, Check, Config, Discovery, Forwarder, HealthPage, Listener,
    Lookup, Mode, NoBackend, Policy, Protocol, ProxyVersion,
};

use super::network::prefix;
use super::{command, duration, flag, inline, line, list, never, number, optional, quoted};

pub(super) fn listener(listener: &Listener, config: &Config) -> String {
    let mut text = String::new();
    line(&mut text, "name", &quoted(&listener.name));
    if listener.policy.marks.is_empty() {
        line(&mut text, "bind", &list(listener.bind.iter().map(|b| quoted(&b.to_string()))));
    }
    let balance = match listener.balance {
        Balance::LeastConn => None,
        Balance::RoundRobin => Some("roundrobin"),
        Balance::Source => Some("source"),
        Balance::Random => Some("random"),
        Balance::First => Some("first"),
    };
    word(&mut text, "balance", balance);
    let _ = writeln!(text, "backends = [");
    for written in &listener.backends {
        let address = quoted(&written.address.to_string());
        let checks: Vec<_> = written.checks.iter().map(|check| quoted(check)).collect();
        let _ = writeln!(text, "    {},", backend(written, "address", &address, &checks));
    }
    for written in &listener.discovered {
        let _ = writeln!(text, "    {},", discovery(written));
    }
    text.push_str("]\n");
    duration(&mut text, "connect_timeout", listener.connect_timeout, complete::CONNECT_TIMEOUT);
    if listener.idle_timeout.is_some() {
        line(&mut text, "idle_timeout", &never(listener.idle_timeout));
    }
    match listener.keepalive {
        None => line(&mut text, "keepalive", "false"),
        Some(keepalive) => {
            let mut body = String::new();
            duration(&mut body, "idle", keepalive.idle, complete::KEEPALIVE.idle);
            duration(&mut body, "interval", keepalive.interval, complete::KEEPALIVE.interval);
            number(&mut body, "count", &keepalive.count, &complete::KEEPALIVE.count);
            if !body.is_empty() {
                line(&mut text, "keepalive", &inline(&body));
            }
        }
    }
    if listener.user_timeout != Some(complete::USER_TIMEOUT) {
        line(&mut text, "user_timeout", &never(listener.user_timeout));
    }
    number(&mut text, "max_sessions", &listener.max_sessions, &complete::MAX_SESSIONS);
    flag(&mut text, "close_sessions_on_backend_down", listener.close_sessions_on_backend_down, true);
    if listener.instances != complete::instances_of(&listener.bind, &config.instances) {
        line(&mut text, "instances", &list(listener.instances.iter().map(|i| quoted(i))));
    }
    policy(&mut text, &listener.policy);
    text
}

fn backend(backend: &Backend, key: &str, value: &str, checks: &[String]) -> String {
    let mut body = String::new();
    line(&mut body, "name", &quoted(&backend.name));
    line(&mut body, key, value);
    number(&mut body, "weight", &backend.weight, &1);
    match checks {
        [] => {}
        [check] => line(&mut body, "check", check),
        several => line(&mut body, "check", &list(several.iter().cloned())),
    }
    let policy = &backend.policy;
    flag(&mut body, "backup", policy.backup, false);
    optional(&mut body, "max_sessions", policy.max_sessions);
    let version = policy.send_proxy.map(|version| match version {
        ProxyVersion::V1 => "v1",
        ProxyVersion::V2 => "v2",
    });
    word(&mut body, "send_proxy", version);
    flag(&mut body, "inhibit_on_failure", policy.inhibit_on_failure, false);
    flag(&mut body, "down_at_start", policy.down_at_start, false);
    flag(&mut body, "maint", policy.maint, false);
    command(&mut body, "notify_up", policy.notify_up.as_deref());
    command(&mut body, "notify_down", policy.notify_down.as_deref());
    flag(&mut body, "mail", policy.mail, false);
    inline(&body)
}

fn discovery(discovery: &Discovery) -> String {
    let (key, value) = match &discovery.from {
        Lookup::Host(target) => ("address", target.to_string()),
        Lookup::Service(service) => ("srv", service.clone()),
    };
    let named = discovery.template.checks.iter().map(|check| quoted(check));
    let checks: Vec<_> = named.chain(discovery.check.as_ref().map(template)).collect();
    backend(&discovery.template, key, &quoted(&value), &checks)
}

/// A check without its name, on one line.
fn template(check: &Check) -> String {
    let body = super::check(check);
    inline(body.split_once('\n').map_or("", |(_, rest)| rest))
}

fn policy(text: &mut String, policy: &Policy) {
    let default = Policy::default();
    if policy.protocol == Protocol::Udp {
        word(text, "protocol", Some("udp"));
    }
    if !policy.marks.is_empty() {
        line(text, "marks", &list(policy.marks.iter().map(ToString::to_string)));
    }
    if let Mode::Kernel { source_nat } = policy.mode {
        word(text, "mode", Some("kernel"));
        flag(text, "source_nat", source_nat, true);
    }
    if let Some(persistence) = policy.persistence {
        let mut body = String::new();
        duration(&mut body, "timeout", persistence.timeout, PERSISTENCE_TIMEOUT);
        number(&mut body, "ipv4_prefix", &persistence.ipv4_prefix, &32);
        number(&mut body, "ipv6_prefix", &persistence.ipv6_prefix, &128);
        line(text, "persistence", &inline(&body));
    }
    optional(text, "retries", policy.retries);
    duration(text, "slow_start", policy.slow_start, Duration::ZERO);
    if let Some(time) = policy.queue_timeout {
        duration(text, "queue_timeout", time, Duration::ZERO);
    }
    if let Some(observe) = policy.observe {
        let mut body = String::new();
        number(&mut body, "error_limit", &observe.error_limit, &ERROR_LIMIT);
        duration(&mut body, "down_for", observe.down_for, OBSERVED_DOWN_FOR);
        line(text, "observe", &inline(&body));
    }
    optional(text, "rebalance", policy.rebalance);
    if policy.no_backend == NoBackend::TryAll {
        word(text, "no_backend", Some("try_all"));
    }
    if policy.backups == Backups::First {
        word(text, "backups", Some("first"));
    }
    flag(text, "close_backup_sessions", policy.close_backup_sessions, default.close_backup_sessions);
    if !policy.accept_proxy.is_empty() {
        line(text, "accept_proxy", &list(policy.accept_proxy.iter().map(|p| prefix(*p))));
    }
    flag(text, "transparent", policy.transparent, default.transparent);
    let access_log = policy.access_log.map(|kind| match kind {
        AccessLog::Event => "event",
        AccessLog::Tcplog => "tcplog",
    });
    word(text, "access_log", access_log);
    flag(text, "mail", policy.mail, default.mail);
    if let Some(quorum) = &policy.quorum {
        let mut body = String::new();
        number(&mut body, "least", &quorum.least, &1);
        number(&mut body, "hysteresis", &quorum.hysteresis, &0);
        command(&mut body, "up", quorum.up.as_deref());
        command(&mut body, "down", quorum.down.as_deref());
        flag(&mut body, "at_end", quorum.at_end, false);
        line(text, "quorum", &inline(&body));
    }
    let beside = match policy.beside {
        Beside::Auto => None,
        Beside::SkLookup => Some("sk_lookup"),
        Beside::Nftables => Some("nftables"),
        Beside::Refuse => Some("refuse"),
    };
    word(text, "beside", beside);
}

pub(super) fn health_page(page: &HealthPage) -> String {
    let mut text = String::new();
    line(&mut text, "bind", &quoted(&page.bind.to_string()));
    if page.path != "/healthz" {
        line(&mut text, "path", &quoted(&page.path));
    }
    if !page.listeners.is_empty() {
        line(&mut text, "listeners", &list(page.listeners.iter().map(|l| quoted(l))));
    }
    number(&mut text, "least", &page.least, &1);
    text
}

pub(super) fn forwarder(forwarder: Forwarder) -> String {
    let mut text = String::new();
    optional(&mut text, "loops", forwarder.loops);
    text
}

fn word(text: &mut String, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        line(text, key, &quoted(value));
    }
}
