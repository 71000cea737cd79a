//! From `stream` blocks to listeners.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::complete::{KEEPALIVE, MAX_SESSIONS, USER_TIMEOUT};
use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::model::{Listener, Model};
use crate::ready::{Keepalive, Mode, Policy, Prefix, Protocol, ProxyVersion};
use crate::written::{Statement, Word};

use super::keywords::{self, Status};
use super::page;
use super::parser::shown;
use super::upstream::{self, Upstream};
use super::value;

/// nginx's `proxy_timeout` and `proxy_connect_timeout`.
const PROXY_TIMEOUT: Duration = Duration::from_secs(600);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(60);
/// Backends of all listeners.
const MOST_BACKENDS: usize = 20_000;
/// A watch is silent for so long when nothing happens.
const WATCH: Duration = Duration::from_secs(30 * 60);
const APISERVERS: [u16; 5] = [6443, 8443, 16443, 7443, 2379];

/// Adds what the file means.
pub(super) fn lower(statements: &[Statement], model: &mut Model, diagnostics: &mut Diagnostics) {
    let mut streams = 0;
    for statement in statements {
        match statement.keyword() {
            "stream" => {
                streams += 1;
                stream(statement, model, diagnostics);
            }
            "http" => page::lower(statement, model, diagnostics),
            "mail" => {
                let finding = Diagnostic::warning("not-carried", statement.at(), "`mail` is not carried");
                diagnostics.push(finding.help("keep nginx for it, without the `stream` block"));
            }
            // A file that is included into `stream` of another one.
            "server" | "upstream" if statement.block.is_some() => {
                let finding = Diagnostic::error(
                    "misplaced",
                    statement.at(),
                    format!("`{}` is not allowed here", statement.keyword()),
                );
                diagnostics.push(finding.expected("it within `stream { … }`").help("nginx does not start with it either; if the file is included by another one, name that one"));
            }
            name if keywords::MAIN.contains(&name) => {
                let finding = Diagnostic::notice(
                    "not-needed",
                    &statement.whole(),
                    format!("`{name}` has no effect here"),
                );
                diagnostics
                    .push(finding.help("it sets nginx's own process; the service manager does it for vipd"));
            }
            name => {
                let message = format!("unknown directive `{}`", shown(name));
                let finding = Diagnostic::error("unknown-keyword", statement.at(), message);
                let meant = diagnostics.suggest(name, keywords::MAIN);
                let expected = meant
                    .map_or("`stream { … }` and directives of nginx's main part".to_owned(), |meant| {
                        format!("`{meant}`?")
                    });
                diagnostics.push(finding.expected(expected).help("nginx does not start with it either"));
            }
        }
    }
    if let (0, Some(first)) = (streams, statements.first()) {
        let finding = Diagnostic::warning("not-carried", first.at(), "the file has no `stream` block");
        diagnostics.push(
            finding.expected("`stream { … }`").help("vipd carries what nginx carries there: TCP and UDP"),
        );
    }
}

/// What stands in a `server`, or around it for all of them.
type Settings<'s> = HashMap<&'s str, &'s Statement>;

fn stream(statement: &Statement, model: &mut Model, diagnostics: &mut Diagnostics) {
    let inside = || statement.block.iter().flat_map(|block| &block.statements);
    let mut around: Settings<'_> = HashMap::new();
    let mut upstreams: HashMap<&str, Upstream> = HashMap::new();
    for line in inside() {
        if misplaced(line, ("stream", "server"), &keywords::SERVER_ALONE, diagnostics) {
            continue;
        }
        judge(line, false, diagnostics);
        match line.keyword() {
            "server" => {}
            "upstream" => {
                let lines = line.block.iter().flat_map(|block| &block.statements);
                lines.for_each(|line| judge(line, true, diagnostics));
                let Some(made) = upstream::read(line, diagnostics) else { continue };
                let name = line.words[1].text.as_str();
                if made.backends.is_empty() && made.discovered.is_empty() {
                    let finding = Diagnostic::error(
                        "missing-key",
                        &made.name.at,
                        format!("no servers are inside upstream `{}`", shown(name)),
                    );
                    diagnostics.push(
                        finding
                            .expected("`server ADDRESS:PORT;`")
                            .help("nginx does not start with it either"),
                    );
                }
                if upstreams.contains_key(name) {
                    let finding = Diagnostic::error(
                        "duplicate",
                        &made.name.at,
                        format!("upstream `{}` is defined twice", shown(name)),
                    );
                    diagnostics.push(
                        finding.expected("a name of its own").help("nginx does not start with it either"),
                    );
                }
                upstreams.insert(name, made);
            }
            name => drop(around.insert(name, line)),
        }
    }
    let mut names: HashSet<String> =
        model.listeners.iter().map(|listener| listener.name.value.clone()).collect();
    let mut used = HashSet::new();
    let mut backends = 0;
    for line in inside().filter(|line| line.keyword() == "server") {
        let mut settings = around.clone();
        let lines = || line.block.iter().flat_map(|block| &block.statements);
        for line in lines() {
            if misplaced(line, ("server", "stream"), &keywords::STREAM_ALONE, diagnostics) {
                continue;
            }
            judge(line, false, diagnostics);
            settings.insert(line.keyword(), line);
        }
        let listens: Vec<&Statement> = lines().filter(|line| line.keyword() == "listen").collect();
        let Some(upstream) = target(line, &settings, &upstreams, &mut used, diagnostics) else { continue };
        backends += upstream.backends.len() + upstream.discovered.len();
        if backends > MOST_BACKENDS {
            let finding = Diagnostic::error(
                "too-large",
                line.at(),
                format!("more than {MOST_BACKENDS} servers in all listeners"),
            );
            diagnostics.push(finding.expected("fewer"));
            return;
        }
        server(line, &listens, &settings, &upstream, &mut names, model, diagnostics);
    }
    for (name, upstream) in upstreams.iter().filter(|(name, _)| !used.contains(**name)) {
        let finding = Diagnostic::notice(
            "not-needed",
            &upstream.name.at,
            format!("no `proxy_pass` sends anybody to `{}`", shown(name)),
        );
        diagnostics.push(finding.help("it has no effect, in nginx either, unless a variable names it"));
    }
}

/// It stands in one block and belongs into another one.
fn misplaced(
    line: &Statement,
    (block, other): (&str, &str),
    of_other: &[&str],
    diagnostics: &mut Diagnostics,
) -> bool {
    let name = line.keyword();
    let is = of_other.contains(&name);
    if is {
        let message = format!("`{name}` is not allowed in `{block}`");
        let finding = Diagnostic::error("unknown-keyword", line.at(), message);
        let help = "nginx does not start with it either";
        diagnostics.push(finding.expected(format!("it in `{other}`")).help(help));
    }
    is
}

/// What becomes of a directive, as far as its name says it.
fn judge(line: &Statement, in_upstream: bool, diagnostics: &mut Diagnostics) {
    let name = line.keyword();
    let at = if line.block.is_some() { line.at().clone() } else { line.whole() };
    let off = line.parameter().is_some_and(|word| word.text == "off");
    match keywords::find(name, in_upstream) {
        Some(Status::Carried | Status::Differs(_)) => {}
        Some(Status::NotNeeded(why)) => {
            diagnostics.push(
                Diagnostic::notice("not-needed", &at, format!("`{}` has no effect here", shown(name)))
                    .help(why),
            );
        }
        Some(_) if off => {
            let finding =
                Diagnostic::notice("not-needed", &at, format!("`{} off` has no effect here", shown(name)));
            diagnostics.push(finding.help("it is off in any case"));
        }
        Some(Status::Dropped(instead)) => {
            diagnostics.push(
                Diagnostic::warning("not-carried", &at, format!("`{}` is not carried", shown(name)))
                    .help(instead),
            );
        }
        Some(Status::Refused(instead)) => {
            diagnostics.push(
                Diagnostic::error("refused", &at, format!("`{}` cannot be carried", shown(name)))
                    .help(instead),
            );
        }
        None => {
            let block = if in_upstream { "upstream" } else { "stream" };
            let finding = Diagnostic::error(
                "unknown-keyword",
                line.at(),
                format!("unknown directive `{}` in `{block}`", shown(name)),
            );
            let names = keywords::DIRECTIVES
                .iter()
                .filter(|directive| directive.upstream == in_upstream)
                .map(|directive| directive.name);
            let meant = diagnostics.suggest(name, names);
            diagnostics.push(match meant {
                Some(meant) => {
                    finding.expected(format!("`{meant}`?")).help("nginx does not start with it either")
                }
                None => finding.help("nginx does not start with it either; delete the line"),
            });
        }
    }
}

/// Where `proxy_pass` sends.
fn target<'s>(
    server: &Statement,
    settings: &Settings<'s>,
    upstreams: &HashMap<&str, Upstream>,
    used: &mut HashSet<&'s str>,
    diagnostics: &mut Diagnostics,
) -> Option<Upstream> {
    let Some(pass) = settings.get("proxy_pass") else {
        if !settings.contains_key("return") && !settings.contains_key("pass") {
            let finding = Diagnostic::error("missing-key", server.at(), "a `server` without `proxy_pass`");
            diagnostics.push(
                finding.expected("`proxy_pass ADDRESS:PORT;`").help("nginx does not start with it either"),
            );
        }
        return None;
    };
    let word = pass.parameter()?;
    if word.text.contains('$') {
        let finding = Diagnostic::error(
            "refused",
            &pass.whole(),
            format!("`proxy_pass {}` cannot be carried", shown(&word.text)),
        );
        diagnostics.push(finding.help(
            "vipd does not look into TLS or choose by variables: give each way an address or a port of its own (a `server` with one `proxy_pass`), or keep nginx for this one",
        ));
        return None;
    }
    used.insert(&word.text);
    match upstreams.get(word.text.as_str()) {
        Some(found) => {
            Some(found.clone()).filter(|found| !found.backends.is_empty() || !found.discovered.is_empty())
        }
        None if !word.text.contains(':') => {
            let finding = Diagnostic::error(
                "unknown-name",
                &word.at,
                format!("there is no upstream `{}`", shown(&word.text)),
            );
            let meant = diagnostics.suggest(&word.text, upstreams.keys().copied());
            let expected = meant.map_or("ADDRESS:PORT, or the name of an `upstream`".to_owned(), |meant| {
                format!("`{meant}`?")
            });
            diagnostics.push(finding.expected(expected).help("nginx does not start with it either"));
            None
        }
        None => Upstream::alone(word, diagnostics),
    }
}

/// What `listen` lines say together.
#[derive(Default)]
struct Listens {
    tcp: Vec<Located<SocketAddr>>,
    udp: Vec<Located<SocketAddr>>,
    /// So many lines ask for it.
    proxy_protocol: usize,
    keepalive: Option<Keepalive>,
}

fn server(
    block: &Statement,
    lines: &[&Statement],
    settings: &Settings<'_>,
    upstream: &Upstream,
    names: &mut HashSet<String>,
    model: &mut Model,
    diagnostics: &mut Diagnostics,
) {
    let mut listens = Listens::default();
    if lines.is_empty() {
        let finding = Diagnostic::error("missing-key", block.at(), "a `server` without `listen`");
        diagnostics.push(
            finding
                .expected("`listen PORT;` or `listen ADDRESS:PORT;`")
                .help("nginx does not start with it either"),
        );
        return;
    }
    for line in lines {
        listen(line, &mut listens, diagnostics);
    }
    if (1..lines.len()).contains(&listens.proxy_protocol) {
        let finding = Diagnostic::error(
            "refused",
            block.at(),
            "`proxy_protocol` on some addresses and not on others cannot be carried",
        );
        diagnostics.push(finding.help(
            "write two `server` blocks with the same `proxy_pass`: it counts for a listener as a whole",
        ));
    }
    let mut name = |first: &Located<SocketAddr>, end: &str| {
        let wanted = format!("{}{end}", upstream.name.text);
        let name = if names.contains(&wanted) { format!("{wanted}:{}", first.value.port()) } else { wanted };
        let name = if names.contains(&name) { format!("{name}@{}", first.value.ip()) } else { name };
        names.insert(name.clone());
        Located::new(name, first.at.clone())
    };
    let whole = listener(settings, upstream, &listens, diagnostics);
    if let Some(first) = listens.tcp.first() {
        let made = Listener { name: name(first, ""), bind: listens.tcp.clone(), ..whole.clone() };
        idle_watches(&made, settings, block.at(), diagnostics);
        never_checked(upstream, diagnostics);
        model.listeners.push(made);
    }
    if let Some(first) = listens.udp.first() {
        let policy =
            Policy { protocol: Protocol::Udp, mode: Mode::Kernel { source_nat: true }, ..Policy::default() };
        let made = Listener {
            name: name(first, "/udp"),
            bind: listens.udp.clone(),
            idle_timeout: None,
            policy,
            ..whole
        };
        model.listeners.push(made);
    }
}

fn listen(line: &Statement, listens: &mut Listens, diagnostics: &mut Diagnostics) {
    let Some(word) = line.parameter() else {
        let finding = Diagnostic::error("missing-parameter", line.at(), "`listen` without its address");
        diagnostics.push(finding.expected("`listen PORT;` or `listen ADDRESS:PORT;`"));
        return;
    };
    let mut udp = false;
    let mut dual = false;
    for option in &line.words[2..] {
        match option.text.as_str() {
            "udp" => udp = true,
            "proxy_protocol" => listens.proxy_protocol += 1,
            "ssl" => {
                let finding = Diagnostic::error("refused", &option.at, "`listen … ssl` cannot be carried");
                diagnostics.push(finding.help("vipd carries TLS as it is and has no certificate; leave `ssl` out and let the servers speak TLS, or keep nginx for this one"));
            }
            "ipv6only=off" => dual = true,
            "reuseport" | "bind" | "ipv6only=on" | "deferred" | "default_server" | "quic" => {}
            text if text.starts_with("so_keepalive=") => listens.keepalive = Some(keepalive(text)),
            text if ["backlog=", "rcvbuf=", "sndbuf=", "fastopen=", "setfib=", "accept_filter="]
                .iter()
                .any(|known| text.starts_with(known)) =>
            {
                let finding = Diagnostic::notice(
                    "not-needed",
                    &option.at,
                    format!("`{}` has no effect here", shown(text)),
                );
                diagnostics.push(finding.help("vipd's sockets have their own sizes"));
            }
            text => {
                let finding = Diagnostic::error(
                    "unknown-keyword",
                    &option.at,
                    format!("unknown option `{}` of `listen`", shown(text)),
                );
                diagnostics.push(
                    finding
                        .expected("`udp`, `proxy_protocol`, `reuseport`, `so_keepalive=…`")
                        .help("nginx does not start with it either"),
                );
            }
        }
    }
    match value::listens(&word.text) {
        Ok(addresses) => {
            let into = if udp { &mut listens.udp } else { &mut listens.tcp };
            for address in addresses {
                into.push(Located::new(address, word.at.clone()));
                if dual && address.is_ipv6() && address.ip().is_unspecified() {
                    into.push(Located::new(([0, 0, 0, 0], address.port()).into(), word.at.clone()));
                }
            }
        }
        Err(why) => {
            let code = if word.text.starts_with("unix:") { "refused" } else { "invalid-value" };
            let finding = Diagnostic::error(code, &word.at, why);
            diagnostics.push(
                finding
                    .expected("PORT or ADDRESS:PORT")
                    .help("write the address in the place of a name, a placeholder or a Unix socket"),
            );
        }
    }
}

/// `so_keepalive=on`, `off`, or `[IDLE]:[INTERVAL]:[COUNT]`.
fn keepalive(text: &str) -> Keepalive {
    let mut parts = text.trim_start_matches("so_keepalive=").split(':');
    let mut time = |default: Duration| {
        let found = parts.next().and_then(value::time).filter(|time| (1..=32_767).contains(&time.as_secs()));
        found.map_or(default, |time| Duration::from_secs(time.as_secs()))
    };
    let (idle, interval) = (time(KEEPALIVE.idle), time(KEEPALIVE.interval));
    let count = parts.next().and_then(|count| count.parse().ok()).filter(|count| (1..=127).contains(count));
    Keepalive { idle, interval, count: count.unwrap_or(KEEPALIVE.count) }
}

fn time_of(
    settings: &Settings<'_>,
    name: &str,
    default: Duration,
    diagnostics: &mut Diagnostics,
) -> Duration {
    let Some(word) = settings.get(name).and_then(|line| line.parameter()) else { return default };
    value::time(&word.text).filter(|time| !time.is_zero()).unwrap_or_else(|| {
        let finding =
            Diagnostic::error("invalid-value", &word.at, format!("`{}` is no time", shown(&word.text)));
        diagnostics.push(finding.expected("such as `10m` or `1h`"));
        default
    })
}

fn is_on(settings: &Settings<'_>, name: &str) -> bool {
    settings.get(name).and_then(|line| line.parameter()).is_some_and(|word| word.text == "on")
}

/// All but its name and what it binds.
fn listener(
    settings: &Settings<'_>,
    upstream: &Upstream,
    listens: &Listens,
    diagnostics: &mut Diagnostics,
) -> Listener {
    let (mut backends, mut discovered) = (upstream.backends.clone(), upstream.discovered.clone());
    if is_on(settings, "proxy_protocol") {
        backends.iter_mut().for_each(|backend| backend.policy.send_proxy = Some(ProxyVersion::V1));
        discovered.iter_mut().for_each(|named| named.template.policy.send_proxy = Some(ProxyVersion::V1));
    }
    let next = settings.get("proxy_next_upstream").and_then(|line| line.parameter());
    let tries = settings.get("proxy_next_upstream_tries").and_then(|line| line.parameter());
    let tries = tries.and_then(|word| word.text.parse::<u32>().ok()).filter(|tries| *tries > 0);
    let retries = match next {
        Some(word) if word.text == "off" => Some(0),
        _ => tries.map(|tries| (tries - 1).min(100)),
    };
    Listener {
        name: Located::new(String::new(), upstream.name.at.clone()),
        bind: Vec::new(),
        balance: upstream.balance,
        backends,
        connect_timeout: time_of(settings, "proxy_connect_timeout", CONNECT_TIMEOUT, diagnostics),
        idle_timeout: Some(time_of(settings, "proxy_timeout", PROXY_TIMEOUT, diagnostics)),
        keepalive: Some(listens.keepalive.unwrap_or(KEEPALIVE)),
        user_timeout: Some(USER_TIMEOUT),
        max_sessions: MAX_SESSIONS,
        close_sessions_on_backend_down: false,
        instances: None,
        discovered,
        optional: false,
        policy: Policy {
            retries,
            slow_start: upstream.slow_start,
            observe: upstream.observe,
            accept_proxy: if listens.proxy_protocol > 0 { senders(settings) } else { Vec::new() },
            transparent: transparent(settings, diagnostics),
            ..Policy::default()
        },
    }
}

/// Everybody, or the one of `set_real_ip_from`.
fn senders(settings: &Settings<'_>) -> Vec<Prefix> {
    let named = settings
        .get("set_real_ip_from")
        .and_then(|line| line.parameter())
        .and_then(|word| prefix(&word.text));
    named
        .map_or_else(|| ["0.0.0.0/0", "::/0"].into_iter().filter_map(prefix).collect(), |prefix| vec![prefix])
}

fn prefix(text: &str) -> Option<Prefix> {
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: std::net::IpAddr = address.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let length = length.map_or(Some(most), |length| length.parse().ok()).filter(|length| *length <= most)?;
    Some(Prefix { address, length })
}

/// `proxy_bind $remote_addr transparent`.
fn transparent(settings: &Settings<'_>, diagnostics: &mut Diagnostics) -> bool {
    let Some(line) = settings.get("proxy_bind") else { return false };
    let texts: Vec<&str> = line.parameters().iter().map(|word| word.text.as_str()).collect();
    match texts.as_slice() {
        ["$remote_addr" | "$remote_addr:$remote_port" | "${remote_addr}", "transparent"] => true,
        ["off"] => false,
        _ => {
            let finding = Diagnostic::warning("not-carried", &line.whole(), "`proxy_bind` is not carried");
            diagnostics.push(finding.help("the kernel chooses the address that servers see; set it with `ip route replace NETWORK … src ADDRESS`, or write `proxy_bind $remote_addr transparent` to show them the client's"));
            false
        }
    }
}

fn idle_watches(listener: &Listener, settings: &Settings<'_>, at: &Location, diagnostics: &mut Diagnostics) {
    let Some(idle) = listener.idle_timeout.filter(|idle| *idle < WATCH) else { return };
    // Much is served at 8443; what the servers listen on says more.
    let binds = listener.bind.iter().map(|bind| bind.value.port()).filter(|port| *port != 8443);
    let servers = listener.backends.iter().map(|backend| backend.address.value.port());
    if !binds.chain(servers).any(|port| APISERVERS.contains(&port)) {
        return;
    }
    let at = settings.get("proxy_timeout").map_or(at.clone(), |line| line.whole());
    let message = format!("a session without a byte for {} is cut", crate::time::shown(idle));
    let finding = Diagnostic::warning("idle-watches", &at, message);
    diagnostics.push(finding.expected("`proxy_timeout 1h;`, or longer").help(
        "idle watches, `kubectl exec` and `port-forward` are ended by it (nginx's default is 10 minutes); dead peers are found by keepalive in any case",
    ));
}

/// nginx only learns from sessions that fail.
fn never_checked(upstream: &Upstream, diagnostics: &mut Diagnostics) {
    if upstream.backends.len() + upstream.discovered.len() > 1 {
        let word: &Word = &upstream.name;
        let named = upstream.discovered.iter().filter_map(|named| match &named.from {
            crate::ready::Lookup::Host(target) => Some(target.port),
            crate::ready::Lookup::Service(_) => None,
        });
        let mut ports = upstream.backends.iter().map(|backend| backend.address.value.port()).chain(named);
        let apiserver = ports.any(|port| APISERVERS.contains(&port));
        let example = if apiserver { ", such as `check = { kind = \"apiserver\" }`" } else { "" };
        let finding = Diagnostic::notice(
            "never-checked",
            &word.at,
            format!("the servers of `{}` are never checked", shown(&word.text)),
        );
        diagnostics.push(finding.help(
            format!("as in nginx, one that is down is found by the sessions that fail; write the listener in TOML (`vipd convert`) with a `check` at each backend{example}, to find it before"),
        ));
    }
}
