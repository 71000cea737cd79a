//! Frontends that only answer: `stats`, `monitor-uri`, metrics.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::model::Model;
use crate::ready::HealthPage;

use super::bind::Binds;
use super::settings::Proxy;

/// Pages wanted so far.
#[derive(Default)]
pub(super) struct Pages {
    /// Names of listeners that a health page needs, by the name of their backend; resolved when all are known.
    pub health: Vec<(HealthPage, Vec<String>, Location)>,
}

/// What a frontend in `mode http` without servers serves.
pub(super) fn lower(
    proxy: &Proxy,
    binds: &Binds,
    pages: &mut Pages,
    model: &mut Model,
    diagnostics: &mut Diagnostics,
) -> bool {
    let stats =
        ["stats enable", "stats uri", "stats auth", "stats refresh", "stats realm", "stats show-node"]
            .into_iter()
            .find_map(|name| proxy.settings.get(name));
    let prometheus = proxy.lines("http-request").find(|line| {
        let texts = || line.statement.words.iter().map(|word| word.text.as_str());
        texts().nth(1) == Some("use-service") && texts().nth(2) == Some("prometheus-exporter")
    });
    let monitor = proxy.settings.get("monitor-uri");
    if stats.is_none() && monitor.is_none() && prometheus.is_none() {
        return false;
    }
    let Some(first) = binds.addresses.first() else { return true };
    if let Some(monitor) = monitor {
        health_page(
            proxy,
            monitor.words.get(1).map_or("/", |word| word.text.as_str()),
            binds,
            pages,
            diagnostics,
        );
    }
    match (prometheus, monitor) {
        (Some(line), None) if model.metrics.is_none() => {
            model.metrics = Some(Located::new(first.value, line.statement.whole()));
        }
        (Some(line), _) => {
            let finding = Diagnostic::warning(
                "not-carried",
                &line.statement.whole(),
                "metrics are not served here too",
            );
            diagnostics.push(finding.help("write a frontend with a port of its own for them; they are on the control socket in any case"));
        }
        (None, _) => {}
    }
    if let Some(stats) = stats {
        let taken = monitor.is_some() || prometheus.is_some();
        web(proxy, stats.whole(), first, taken, binds, model, diagnostics);
    }
    true
}

fn web(
    proxy: &Proxy,
    at: Location,
    first: &Located<SocketAddr>,
    taken: bool,
    binds: &Binds,
    model: &mut Model,
    diagnostics: &mut Diagnostics,
) {
    if taken || model.web.is_some() {
        let finding = Diagnostic::warning("not-carried", &at, "vipd's page is not served here too");
        diagnostics.push(
            finding.help("it has one address; write it in TOML: `[control]`, `web = \"127.0.0.1:8404\"`"),
        );
        return;
    }
    let mut address = first.value;
    if let Some(auth) = proxy.settings.get("stats auth") {
        if let Some(secret) = auth.words.get(2) {
            diagnostics.hide(secret.at.clone());
        }
        if address.ip().is_loopback() {
            let finding = Diagnostic::notice("not-needed", &auth.whole(), "`stats auth` has no effect here");
            diagnostics
                .push(finding.help("vipd's page asks for no password; it is served on this host alone"));
        } else {
            address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
            let finding = Diagnostic::warning(
                "page-without-password",
                &auth.whole(),
                format!("vipd's page is served on {address} alone"),
            );
            diagnostics.push(finding.help(format!(
                "it asks for no password, so it is not opened to the network; write `[control]`, `web = \"{}\"` in TOML if that is wanted",
                first.value
            )));
        }
    }
    model.web = Some(Located::new(address, first.at.clone()));
    let finding =
        Diagnostic::notice("stats-page", &at, format!("vipd's own page is served at http://{address}/"));
    diagnostics.push(finding.help("it shows what HAProxy's shows, and is for reading; `vipd backend NAME drain|ready|maint` changes states"));
    for other in binds.addresses.iter().skip(1) {
        if other.value.port() != address.port() {
            let finding = Diagnostic::warning(
                "not-carried",
                &other.at,
                format!("the page is not served on {} too", other.value),
            );
            diagnostics.push(finding.help("it has one address"));
        }
    }
}

fn health_page(proxy: &Proxy, path: &str, binds: &Binds, pages: &mut Pages, diagnostics: &mut Diagnostics) {
    let mut listeners = Vec::new();
    let mut least = 1;
    for line in proxy.lines("monitor fail") {
        match monitor_fail(proxy, &line.statement.words) {
            Some((backend, fewer)) => {
                listeners.push(backend);
                least = fewer.max(least);
            }
            None => {
                let finding = Diagnostic::error(
                    "refused",
                    &line.statement.whole(),
                    "`monitor fail` with this condition cannot be carried",
                );
                diagnostics.push(
                    finding
                        .expected("`monitor fail if { nbsrv(BACKEND) lt 1 }`")
                        .help("write `[[health_page]]` in TOML"),
                );
            }
        }
    }
    let addresses = binds.addresses.iter();
    for bind in addresses {
        let page = HealthPage {
            bind: bind.value,
            path: path.to_owned(),
            listeners: Vec::new(),
            least,
            place: bind.at.place.clone(),
        };
        pages.health.push((page, listeners.clone(), proxy.at().clone()));
    }
}

/// `monitor fail if { nbsrv(BACKEND) lt N }`, or through an ACL.
fn monitor_fail(proxy: &Proxy, words: &[crate::written::Word]) -> Option<(String, u32)> {
    let texts: Vec<&str> = words.iter().skip(2).map(|word| word.text.as_str()).collect();
    let condition: Vec<&str> = match texts.as_slice() {
        ["if", "{", condition @ .., "}"] => condition.to_vec(),
        ["if", name] => {
            let mut named = proxy
                .lines("acl")
                .filter(|acl| acl.statement.words.get(1).is_some_and(|word| word.text == *name));
            let acl = named.next()?;
            if named.next().is_some() {
                return None;
            }
            acl.statement.words.iter().skip(2).map(|word| word.text.as_str()).collect()
        }
        _ => return None,
    };
    let (first, rest) = condition.split_first()?;
    let backend = first.strip_prefix("nbsrv(")?.strip_suffix(')')?.to_owned();
    match rest {
        ["lt", number] => Some((backend, number.parse().ok()?)),
        ["le", number] => Some((backend, number.parse::<u32>().ok()?.checked_add(1)?)),
        ["eq", "0"] | ["0"] => Some((backend, 1)),
        _ => None,
    }
}
