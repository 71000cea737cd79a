//! What is legal and does not do what its owner thinks: what is never checked, which check passes on a broken server,
//! what cuts idle watches.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::model::Listener;
use crate::ready::Backups;
use crate::written::Statement;

use super::address::Port;
use super::check::Checker;
use super::global::Global;
use super::server::Server;
use super::settings::Proxy;
use super::value;

/// A watch is silent for so long when nothing happens: apiservers end one after half an hour to an hour.
const WATCH: Duration = Duration::from_secs(30 * 60);
/// Ports of kube-apiserver and of load balancers before it.
const APISERVERS: [u16; 4] = [6443, 8443, 16443, 7443];
/// Ports behind which a server speaks TLS first.
const TLS: [u16; 6] = [443, 6443, 8443, 2379, 2380, 10250];
const ETCD: u16 = 2379;

/// So many servers are named; of more the number.
const MOST_TOLD: usize = 100;

fn port_of(server: &Server) -> Option<u16> {
    match server.address.value.port {
        Port::Fixed(port) => Some(port).filter(|port| *port > 0),
        _ => None,
    }
}

/// Servers and their checks.
pub(super) fn backend(
    proxy: &Proxy,
    servers: &[&Server],
    checker: &Checker<'_>,
    diagnostics: &mut Diagnostics,
) {
    never_checked(proxy, servers, diagnostics);
    let checked = || servers.iter().filter(|server| server.options.has("check"));
    let Some(first) = checked().next() else { return };
    let over_tls = |server: &&&Server| server.options.has("check-ssl") || server.options.has("ssl");
    let port = |server: &Server| {
        server.options.number("port").and_then(|port| u16::try_from(port).ok()).or(port_of(server))
    };
    let option = proxy.settings.check().map(|(_, statement)| statement.whole());
    let tls = checked()
        .filter(|server| !over_tls(server))
        .find_map(|server| port(server).filter(|port| TLS.contains(port)));
    match (checker.kind(), tls) {
        ("hello", _) => {
            let at = option.unwrap_or_else(|| proxy.at().clone());
            let finding = Diagnostic::warning(
                "check-passes",
                &at,
                "HAProxy's `ssl-hello-chk` passes on a broken server",
            );
            diagnostics.push(finding.help(
                "it sends a hello of SSL 3.0 and is content with any answer, a refusal too: a server whose /healthz says 500 stays up. Here a handshake of TLS 1.2 or newer is made, which says as little of health; for an apiserver write `option httpchk`, `http-check connect ssl`, `http-check send meth GET uri /readyz`, `http-check expect status 200`, and `verify none` at its servers",
            ));
        }
        ("http", Some(port)) if checker.is_plain_http() => {
            let at = option.unwrap_or_else(|| proxy.at().clone());
            let message = format!("this check speaks plain HTTP to port {port}, where TLS is expected");
            let finding = Diagnostic::warning("check-fails", &at, message);
            let path = checker.path().unwrap_or("/readyz");
            diagnostics.push(finding.help(format!(
                "an apiserver answers 400 to it, and is down for ever; write `http-check connect ssl` before `http-check send meth GET uri {path}`, or `check-ssl verify none` at the servers"
            )));
        }
        ("connect", Some(port)) => {
            let at = option.unwrap_or_else(|| first.name.at.clone());
            let message = format!("this check only connects to port {port}");
            let finding = Diagnostic::notice("check-connects", &at, message);
            let help = if port == 443 {
                "a server that accepts connections and cannot serve stays up, and it logs a failed handshake each time; `check-ssl verify none` at the servers makes a whole handshake, `option httpchk` beside it asks for a page"
            } else if port == ETCD {
                "a member that lost its quorum still accepts connections; write `check = { kind = \"etcd\" }` in TOML, or `option httpchk`, `http-check connect ssl` and `http-check send meth GET uri /health`"
            } else {
                "a server that accepts connections and cannot serve stays up, and a TLS server logs a failed handshake each time; write `option httpchk`, `http-check connect ssl`, `http-check send meth GET uri /readyz` and `verify none` at the servers"
            };
            diagnostics.push(finding.help(help));
        }
        _ => {}
    }
}

fn never_checked(proxy: &Proxy, servers: &[&Server], diagnostics: &mut Diagnostics) {
    let unchecked: Vec<_> = servers
        .iter()
        .filter(|server| {
            !["check", "agent-check", "track", "disabled"].iter().any(|name| server.options.has(name))
        })
        .collect();
    if let Some((name, option)) = proxy.settings.check()
        && !servers.is_empty()
        && unchecked.len() == servers.len()
    {
        let finding = Diagnostic::warning(
            "replaced-check",
            &option.whole(),
            format!("`{name}` never had an effect: no server of {} has `check`", proxy.shown()),
        );
        diagnostics.push(finding.expected("`check` behind each server's address, or `default-server check`"));
    }
    let alone = servers.len() == 1;
    let more = unchecked.len().saturating_sub(MOST_TOLD);
    for (number, server) in unchecked.iter().take(MOST_TOLD).enumerate() {
        let mut message = format!("server {} is never checked", server.name.value);
        if number + 1 == MOST_TOLD && more > 0 {
            message += &format!(", nor are {more} more of {}", proxy.shown());
        }
        let at = &server.name.at;
        let finding = if alone {
            Diagnostic::notice("never-checked", at, message)
        } else {
            Diagnostic::warning("never-checked", at, message)
        };
        diagnostics.push(
            finding
                .expected("`check` behind its address")
                .help("it gets its share of the sessions while it is down; a connect that fails is tried at another server"),
        );
    }
}

/// One listener, made of a frontend and a backend.
pub(super) fn listener(
    listener: &Listener,
    frontend: &Proxy,
    backend: &Proxy,
    diagnostics: &mut Diagnostics,
) {
    idle_watches(listener, frontend, backend, diagnostics);
    if backend.settings.timeout("timeout connect").is_none() {
        let at = backend.settings.get("timeout connect").map_or(backend.at().clone(), Statement::whole);
        let finding =
            Diagnostic::notice("no-timeout", &at, format!("{} has no `timeout connect`", backend.shown()));
        diagnostics.push(finding.help("a silent server holds a client as long as the kernel tries in HAProxy; here 2 s, then another server is tried"));
    }
    for bind in &listener.bind {
        let port = bind.value.port();
        let same = listener.backends.iter().any(|server| server.address.value.port() == port);
        if bind.value.ip().is_unspecified() && same && APISERVERS.contains(&port) {
            let message =
                format!("port {port} of every address is bound, and the servers listen on port {port} too");
            let finding = Diagnostic::notice("same-port", &bind.at, message);
            diagnostics.push(finding.help(
                "on a host that runs such a server itself HAProxy does not start (address already in use); vipd then takes the connections to the virtual addresses alone; bind the virtual address to say so",
            ));
        } else if !bind.value.ip().is_unspecified() && !bind.value.ip().is_loopback() {
            let message = format!("{} need not be on this host", bind.value.ip());
            let finding = Diagnostic::notice("nonlocal-bind", &bind.at, message);
            diagnostics.push(finding.help("HAProxy starts without it only with the sysctl net.ipv4.ip_nonlocal_bind; vipd binds it in any case"));
        }
    }
    if listener.policy.backups == Backups::First {
        waiting_backup(listener, diagnostics);
    }
}

/// Backups in the order in which they are used: those by name come last.
fn waiting_backup(listener: &Listener, diagnostics: &mut Diagnostics) {
    let fixed = listener.backends.iter().filter(|server| server.policy.backup);
    let fixed = fixed.map(|server| (server.name.value.as_str(), server.name.at.clone()));
    let named = listener.discovered.iter().map(|found| &found.template);
    let named = named
        .filter(|server| server.policy.backup)
        .map(|server| (server.name.as_str(), Location { place: server.place.clone(), length: 1 }));
    let mut backups = fixed.chain(named);
    let (Some((first, _)), Some((_, second))) = (backups.next(), backups.next()) else { return };
    let message = format!("this backup waits until {first} is down too");
    let finding = Diagnostic::notice("waiting-backup", &second, message);
    diagnostics.push(finding.help("one backup is used at a time, the first that is not down; `option allbackups` shares sessions among all"));
}

fn idle_watches(listener: &Listener, frontend: &Proxy, backend: &Proxy, diagnostics: &mut Diagnostics) {
    let Some(idle) = listener.idle_timeout.filter(|idle| *idle < WATCH) else { return };
    // Much is served at 8443; what the servers listen on says more.
    let ports = listener.bind.iter().map(|bind| bind.value.port()).filter(|port| *port != 8443);
    let named = listener.discovered.iter().filter_map(|named| match &named.from {
        crate::ready::Lookup::Host(target) => Some(target.port),
        crate::ready::Lookup::Service(_) => None,
    });
    let servers = listener.backends.iter().map(|server| server.address.value.port()).chain(named);
    if !ports.chain(servers).any(|port| APISERVERS.contains(&port) || port == ETCD) {
        return;
    }
    let of = |proxy: &Proxy, name: &str| {
        let found = proxy.settings.get(name).filter(|_| proxy.settings.timeout(name) == Some(idle));
        found.map(Statement::whole)
    };
    let at = of(backend, "timeout tunnel")
        .or_else(|| of(frontend, "timeout client"))
        .or_else(|| of(backend, "timeout server"));
    let message = format!("a session without a byte for {} is cut", crate::time::shown(idle));
    let finding = Diagnostic::warning("idle-watches", &at.unwrap_or_else(|| frontend.at().clone()), message);
    diagnostics.push(finding.expected("`timeout tunnel 1h`, or longer").help(
        "idle watches, `kubectl exec` and `port-forward` are ended by it; dead peers are found by keepalive in any case",
    ));
}

/// `maxconn` of `global` below that of a frontend.
pub(super) fn limits(frontend: &Proxy, global: &Global, diagnostics: &mut Diagnostics) {
    let Some(all) = &global.maxconn else { return };
    let Some(statement) = frontend.settings.get("maxconn") else { return };
    let own = statement.parameter().map_or(0, |word| value::number(&word.text));
    if own > i64::from(all.value) {
        let message = format!(
            "{own} sessions are never reached: all frontends together have {} (line {})",
            all.value, all.at.place.line
        );
        let finding = Diagnostic::notice("maxconn", &statement.whole(), message);
        diagnostics.push(finding.help("here each listener by itself has the smaller one"));
    }
}
