//! From proxies to listeners, backends and checks.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::complete::{self, CONNECT_TIMEOUT, KEEPALIVE, MAX_SESSIONS, OBSERVED_DOWN_FOR, USER_TIMEOUT};
use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::model::{Backend, Check, Listener, Model};
use crate::ready::{
    self, AccessLog, BackendPolicy, Backups, Balance, Discovery, Keepalive, Lookup, Observe, Persistence,
    Policy, Target,
};
use crate::written::Statement;

use super::address::{Host, Port};
use super::bind::{self, Binds};
use super::check::{self, Checker};
use super::keywords::Status;
use super::page::{self, Pages};
use super::proxy::Configuration;
use super::rules::{self, Admission, Way};
use super::server::{self, Server};
use super::settings::{Mode, Proxy};
use super::{explain, stick, value};

/// Backends of all listeners: each listener has its own.
const MOST_BACKENDS: usize = 20_000;
/// Listeners that a range of ports becomes.
const MOST_PORTS: usize = 256;

/// Adds what the proxies mean.
pub(super) fn lower(configuration: &Configuration, model: &mut Model, diagnostics: &mut Diagnostics) {
    let mut lowering = Lowering {
        configuration,
        model,
        diagnostics,
        pages: Pages::default(),
        addresses: 0,
        backends: 0,
        farms: HashMap::new(),
        uses: Vec::new(),
        checks: HashMap::new(),
    };
    for proxy in configuration.proxies.iter().filter(|proxy| proxy.is_backend() && !proxy.is_disabled()) {
        lowering.farm(proxy);
    }
    let mut names = HashSet::new();
    for proxy in configuration.proxies.iter().filter(|proxy| proxy.is_frontend() && !proxy.is_disabled()) {
        let before = lowering.model.listeners.len();
        lowering.frontend(proxy);
        // That there are two was said.
        if !names.insert(proxy.name.text.as_str()) {
            lowering.model.listeners.truncate(before);
        }
    }
    lowering.pages();
    lowering.unused();
    if let (Some(threads), None) = (&configuration.global.nbthread, model.forwarder.loops) {
        model.forwarder.loops = Some(threads.value);
    }
}

struct Lowering<'a> {
    configuration: &'a Configuration,
    model: &'a mut Model,
    diagnostics: &'a mut Diagnostics,
    pages: Pages,
    /// Bound so far.
    addresses: usize,
    /// Made so far.
    backends: usize,
    /// By the name of the backend.
    farms: HashMap<&'a str, Farm<'a>>,
    /// Names of backends, and of the listeners that use them.
    uses: Vec<(String, String)>,
    /// Checks that no listener has asked for yet.
    checks: HashMap<String, Check>,
}

/// The servers of a backend, read once however many frontends use it.
struct Farm<'a> {
    proxy: &'a Proxy,
    servers: Vec<Entry>,
    persistence: Option<Persistence>,
    transparent: bool,
}

/// A server and its checks.
struct Entry {
    server: Server,
    /// Checks by name, in the model.
    checks: Vec<Located<String>>,
    /// Of a server by name: aimed at each of its addresses.
    template: Option<Check>,
}

impl Entry {
    /// A check that another server follows asks the name itself, not each of its addresses.
    fn ask_by_name(&mut self) -> Option<(String, Check)> {
        let mut check = self.template.take()?;
        let Host::Name(name) = &self.server.address.value.host else { return None };
        if let (Some(target), Port::Fixed(port)) = (check.probe.target_mut(), self.server.address.value.port)
        {
            target.host.clone_from(name);
            if target.port == Target::placeholder().port {
                target.port = port;
            }
        }
        self.checks.push(check.name.clone());
        Some((check.name.value.clone(), check))
    }
}

impl<'a> Lowering<'a> {
    fn farm(&mut self, proxy: &'a Proxy) {
        let servers = server::read(proxy, self.diagnostics);
        let checker = Checker::new(proxy, &self.configuration.global, self.diagnostics);
        let mut entries: Vec<Entry> =
            servers.into_iter().map(|server| self.entry(server, &checker)).collect();
        self.tracked(proxy, &mut entries);
        self.resolvers(&entries);
        let persistence = stick::read(proxy, &self.configuration.proxies, self.diagnostics);
        let transparent = transparent(proxy, &entries, self.diagnostics);
        let judged: Vec<_> = entries.iter().map(|entry| &entry.server).collect();
        explain::backend(proxy, &judged, &checker, self.diagnostics);
        self.farms.insert(&proxy.name.text, Farm { proxy, servers: entries, persistence, transparent });
    }

    fn entry(&mut self, server: Server, checker: &Checker<'_>) -> Entry {
        let port = match server.address.value.port {
            Port::Fixed(port) => port,
            _ => 0,
        };
        let (target, by_name) = match &server.address.value.host {
            Host::Ip(ip) => (Target { host: ip.to_string(), port }, false),
            // Without a port of its own the check has that of the address that is found.
            Host::Name(_) => (
                Target {
                    // A service of the DNS brings its ports along.
                    port: if port == 0 && server.service().is_none() {
                        0
                    } else {
                        Target::placeholder().port
                    },
                    ..Target::placeholder()
                },
                true,
            ),
        };
        let mut checks = Vec::new();
        let mut template = None;
        for check in checker.of(&server, &target, self.diagnostics) {
            let mut aims =
                check.probe.target().is_some_and(|target| target.host == Target::placeholder().host);
            aims &= by_name;
            if aims && template.is_none() {
                template = Some(check);
            } else {
                checks.push(check.name.clone());
                self.add_check(check, &server, aims);
            }
        }
        Entry { server, checks, template }
    }

    /// A second check of a server by name asks the name itself.
    fn add_check(&mut self, mut check: Check, server: &Server, by_name: bool) {
        if let (true, Host::Name(name), ready::Probe::Agent(agent)) =
            (by_name, &server.address.value.host, &mut check.probe)
        {
            agent.target.host.clone_from(name);
        }
        self.checks.insert(check.name.value.clone(), check);
    }

    /// A check runs when a listener has the server.
    fn use_checks(&mut self, listener: &Listener) {
        for name in listener.backends.iter().flat_map(|backend| &backend.checks) {
            self.model.checks.extend(self.checks.remove(&name.value));
        }
        for name in listener.discovered.iter().flat_map(|discovery| &discovery.template.checks) {
            self.model.checks.extend(self.checks.remove(name));
        }
    }

    /// What nobody is sent to.
    fn unused(&mut self) {
        let target = |proxy: &Proxy| {
            let names = proxy
                .lines("use_backend")
                .map(|line| &*line.statement)
                .chain(proxy.settings.get("default_backend"));
            names.filter_map(Statement::parameter).map(|word| word.text.clone()).collect::<Vec<_>>()
        };
        let used: HashSet<String> =
            self.configuration.proxies.iter().filter(|proxy| proxy.is_frontend()).flat_map(target).collect();
        let backends =
            self.configuration.proxies.iter().filter(|proxy| !proxy.is_frontend() && !proxy.is_disabled());
        for proxy in backends.filter(|proxy| !used.contains(&proxy.name.text)) {
            let finding = Diagnostic::notice(
                "not-needed",
                proxy.at(),
                format!("no frontend sends anybody to {}", proxy.shown()),
            );
            self.diagnostics.push(
                finding.help("its servers are not checked here; HAProxy checks them for its statistics"),
            );
        }
    }

    /// `track BACKEND/SERVER`: up and down with that one.
    fn tracked(&mut self, proxy: &Proxy, entries: &mut [Entry]) {
        for index in 0..entries.len() {
            let Some(given) = entries[index].server.options.get("track") else { continue };
            if entries[index].server.options.has("check") {
                let message = format!("server {} has `check` and `track`", entries[index].server.name.value);
                let finding = Diagnostic::error("refused-by-haproxy", &given.at, message);
                let help = "HAProxy does not start with it either; `no-check` in front of `track` takes away what `default-server` gave";
                self.diagnostics.push(finding.expected("one of them").help(help));
                continue;
            }
            let (at, word) =
                (given.at.clone(), given.argument.as_ref().map_or(String::new(), |word| word.text.clone()));
            let (backend, name) = word.split_once('/').unwrap_or((&proxy.name.text, &word));
            let find = |entry: &&mut Entry| entry.server.name.value == name;
            let found = if backend == proxy.name.text {
                entries.iter_mut().find(find)
            } else {
                self.farms.get_mut(backend).and_then(|farm| farm.servers.iter_mut().find(find))
            };
            let checks = found.map(|entry| {
                self.checks.extend(entry.ask_by_name());
                entry.checks.clone()
            });
            match checks {
                Some(checks) if !checks.is_empty() => entries[index].checks = checks,
                _ => {
                    let message = format!("unable to track `{}`", word.chars().take(60).collect::<String>());
                    let finding = Diagnostic::error("unknown-name", &at, message);
                    let expected = "a server further up that has `check`";
                    self.diagnostics.push(finding.expected(expected).help("write `check` at this server"));
                }
            }
        }
    }

    fn resolvers(&mut self, entries: &[Entry]) {
        for entry in entries {
            let Some(given) = entry.server.options.get("resolvers") else { continue };
            let Some(name) = &given.argument else { continue };
            if !self.configuration.resolvers.contains(&name.text) && name.text != "default" {
                let message = format!("unable to find required resolvers `{}`", super::reader::shown(name));
                let finding = Diagnostic::error("unknown-name", &name.at, message);
                self.diagnostics.push(
                    finding
                        .expected("the name of a section `resolvers`")
                        .help("HAProxy does not start with it either"),
                );
            }
        }
    }

    fn frontend(&mut self, proxy: &'a Proxy) {
        let binds = bind::read(proxy, &mut self.addresses, self.diagnostics);
        let way = rules::way(proxy, &self.configuration.proxies, self.diagnostics);
        if !matches!(way, Way::To(_)) {
            rules::admission(proxy, proxy, self.diagnostics);
        }
        if binds.addresses.is_empty() {
            if !binds.refused
                && proxy.lines("bind").next().is_none()
                && proxy.kind == super::reader::Kind::Frontend
            {
                let finding =
                    Diagnostic::warning("no-bind", proxy.at(), format!("{} has no `bind`", proxy.shown()));
                self.diagnostics.push(
                    finding
                        .expected("`bind ADDRESS:PORT`")
                        .help("nobody can connect to it, in HAProxy either"),
                );
            }
            return;
        }
        let backend = match way {
            Way::Refused => return,
            Way::To(backend) if backend.has_servers() || backend.at() != proxy.at() => backend,
            Way::To(_) | Way::Nowhere => return self.without_servers(proxy, &binds),
        };
        if backend.is_disabled() || !backend.has_servers() {
            return self.without_servers(proxy, &binds);
        }
        let http = [proxy, backend].iter().any(|proxy| proxy.mode() == Mode::Http);
        if http && !self.as_tcp(proxy, backend) {
            return;
        }
        let admission = rules::admission(proxy, backend, self.diagnostics);
        self.listeners(proxy, backend, &binds, &admission);
    }

    /// A frontend that only answers, or refuses everybody.
    fn without_servers(&mut self, proxy: &Proxy, binds: &Binds) {
        let answers = proxy.mode() == Mode::Http
            && page::lower(proxy, binds, &mut self.pages, self.model, self.diagnostics);
        if answers {
            return;
        }
        if proxy.mode() == Mode::Http && self.refuse_http(&[proxy]) {
            return;
        }
        let message = format!("{} has no server to send anybody to", proxy.shown());
        let finding = Diagnostic::warning("not-carried", proxy.at(), message);
        self.diagnostics.push(
            finding
                .expected("`default_backend` of a backend with a `server`")
                .help("nothing listens here; HAProxy would accept clients and send them away"),
        );
    }

    /// Whether requests may be carried as TCP: nothing in the two looks at them.
    fn as_tcp(&mut self, proxy: &Proxy, backend: &Proxy) -> bool {
        let both: Vec<_> = if proxy.at() == backend.at() { vec![proxy] } else { vec![proxy, backend] };
        if self.refuse_http(&both) {
            return false;
        }
        let at = proxy.settings.get("mode").map_or(proxy.at().clone(), Statement::whole);
        let finding = Diagnostic::warning("http-as-tcp", &at, format!("{} is carried as TCP", proxy.shown()));
        self.diagnostics.push(finding.help(
            "nothing in it looks at requests, so they reach the same servers; but connections are balanced, not requests, and a client without a server is reset instead of told 503",
        ));
        true
    }

    /// Names every line that needs HTTP; whether there was one.
    fn refuse_http(&mut self, proxies: &[&Proxy]) -> bool {
        let mut refused = false;
        for proxy in proxies {
            let settings = proxy.settings.iter();
            let lines = proxy.lines.iter().map(|line| (line.keyword, &*line.statement));
            let stats = |name: &str| matches!(name, "stats enable" | "stats uri" | "monitor-uri");
            for (keyword, statement) in settings.chain(lines) {
                let balance = keyword.name == "balance" && balance_needs_http(statement);
                if keyword.status != Status::Http && !stats(keyword.name) && !balance {
                    continue;
                }
                refused = true;
                let message =
                    format!("`{}` of {} needs HTTP, and vipd carries TCP", keyword.name, proxy.shown());
                let finding = Diagnostic::error("needs-http", &statement.whole(), message);
                self.diagnostics.push(finding.help(match keyword.name {
                    "option forwardfor" => "let the servers learn the client by `send-proxy-v2`, and delete the line; or keep an HTTP proxy for this frontend and write `disabled` into it here",
                    "stats enable" | "stats uri" | "monitor-uri" => "write a frontend with a port of its own for it",
                    "cookie" => "write `stick-table type ip size 200k expire 30m` and `stick on src` in `mode tcp`; or keep an HTTP proxy for this frontend and write `disabled` into it here",
                    _ => "keep an HTTP proxy (HAProxy, nginx) for this frontend, and write `disabled` into it here; or delete the line if it is not needed",
                }));
            }
        }
        refused
    }

    fn listeners(&mut self, frontend: &'a Proxy, backend: &'a Proxy, binds: &Binds, admission: &Admission) {
        let Some(farm) = self.farms.get(backend.name.text.as_str()) else { return };
        let keeps_port = |entry: &Entry| !matches!(entry.server.address.value.port, Port::Fixed(1..));
        let name = rules::located_name(frontend);
        let mut groups: BTreeMap<u16, Vec<Located<SocketAddr>>> = BTreeMap::new();
        let split = farm.servers.iter().any(keeps_port);
        for bind in &binds.addresses {
            groups.entry(if split { bind.value.port() } else { 0 }).or_default().push(bind.clone());
        }
        self.backends += groups.len() * farm.servers.len();
        if groups.len() > MOST_PORTS || self.backends > MOST_BACKENDS {
            let message = format!("{} becomes too many listeners or backends", frontend.shown());
            let finding = Diagnostic::error("too-large", frontend.at(), message);
            self.diagnostics.push(
                finding
                    .expected(format!(
                        "at most {MOST_PORTS} ports that servers keep, and {MOST_BACKENDS} backends in all"
                    ))
                    .help("write the port at each server, or `mode = \"kernel\"` in TOML"),
            );
            return;
        }
        let several = groups.len() > 1;
        let mut made = Vec::new();
        for (port, bind) in groups {
            let mut name = name.clone();
            if several {
                name.value = format!("{}:{port}", name.value);
            }
            let (backends, discovered) = servers(farm, port, self.diagnostics);
            made.push(Listener {
                name,
                bind,
                backends,
                discovered,
                ..self.listener(frontend, farm, binds, admission)
            });
        }
        for listener in &made {
            self.use_checks(listener);
            self.uses.push((backend.name.text.clone(), listener.name.value.clone()));
            explain::listener(listener, frontend, backend, self.diagnostics);
        }
        explain::limits(frontend, &self.configuration.global, self.diagnostics);
        self.model.listeners.extend(made);
    }

    /// All but what it binds and where it connects.
    fn listener(&self, frontend: &Proxy, farm: &Farm<'_>, binds: &Binds, admission: &Admission) -> Listener {
        let settings = &farm.proxy.settings;
        let options = || farm.servers.iter().map(|entry| &entry.server.options);
        let maxconn = frontend
            .settings
            .get("maxconn")
            .and_then(Statement::parameter)
            .map(|word| value::number(&word.text));
        let limits = [
            maxconn.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0),
            binds.maxconn,
            self.configuration.global.maxconn.as_ref().map(|n| n.value),
        ];
        let user_timeout = options().find_map(|options| options.time("tcp-ut")).or(binds.user_timeout);
        let mut accept_proxy = admission.expect_proxy.clone();
        if binds.accept_proxy {
            accept_proxy = rules::everybody();
        }
        Listener {
            name: rules::located_name(frontend),
            bind: Vec::new(),
            balance: balance(&farm.proxy.settings),
            backends: Vec::new(),
            connect_timeout: settings.timeout("timeout connect").unwrap_or(CONNECT_TIMEOUT),
            idle_timeout: idle_timeout(frontend, farm.proxy),
            keepalive: Some(keepalive(frontend, farm.proxy)),
            user_timeout: user_timeout.filter(|time| !time.is_zero()).or(Some(USER_TIMEOUT)),
            max_sessions: limits.into_iter().flatten().min().unwrap_or(MAX_SESSIONS).min(10_000_000),
            close_sessions_on_backend_down: options().any(|options| options.has("on-marked-down")),
            instances: None,
            discovered: Vec::new(),
            optional: false,
            policy: Policy {
                persistence: farm.persistence,
                retries: settings
                    .get("retries")
                    .and_then(Statement::parameter)
                    .and_then(|word| u32::try_from(value::number(&word.text).clamp(0, 100)).ok()),
                slow_start: options()
                    .filter_map(|options| options.time("slowstart"))
                    .max()
                    .unwrap_or(Duration::ZERO),
                queue_timeout: settings.timeout("timeout queue"),
                observe: observe(farm),
                backups: backups(farm),
                close_backup_sessions: options().any(|options| options.has("on-marked-up")),
                accept_proxy,
                transparent: farm.transparent,
                access_log: access_log(frontend),
                ..Policy::default()
            },
        }
    }

    fn pages(&mut self) {
        for (mut page, backends, at) in std::mem::take(&mut self.pages.health) {
            for backend in backends {
                let used: Vec<String> = self
                    .uses
                    .iter()
                    .filter(|(name, _)| *name == backend)
                    .map(|(_, listener)| listener.clone())
                    .take(1)
                    .collect();
                if used.is_empty() {
                    let message = format!(
                        "`monitor fail`: no frontend sends to the backend `{}`",
                        backend.chars().take(60).collect::<String>()
                    );
                    let finding = Diagnostic::error("unknown-name", &at, message);
                    self.diagnostics.push(finding.expected("a backend that a frontend sends to"));
                }
                page.listeners.extend(used);
            }
            self.model.health_pages.push(page);
        }
    }
}

/// The backends of one listener.
fn servers(farm: &Farm<'_>, bound: u16, diagnostics: &mut Diagnostics) -> (Vec<Backend>, Vec<Discovery>) {
    let (mut backends, mut discovered) = (Vec::new(), Vec::new());
    for entry in &farm.servers {
        let server = &entry.server;
        let port = match server.address.value.port {
            Port::Fixed(port) if port > 0 => Some(port),
            Port::Offset(offset) => u16::try_from(i32::from(bound) + offset).ok().filter(|port| *port > 0),
            _ => Some(bound),
        };
        let Some(port) = port else {
            let message = format!("server {} has no port for clients of port {bound}", server.name.value);
            let finding = Diagnostic::error("invalid-value", &server.address.at, message);
            diagnostics.push(finding.expected("a port from 1 to 65535"));
            continue;
        };
        let options = &server.options;
        let weight = options.number("weight").and_then(|weight| u16::try_from(weight).ok()).unwrap_or(1);
        let policy = backend_policy(options);
        match &server.address.value.host {
            Host::Ip(ip) => backends.push(Backend {
                name: server.name.clone(),
                address: Located::new(SocketAddr::new(*ip, port), server.address.at.clone()),
                weight,
                checks: entry.checks.clone(),
                policy,
            }),
            Host::Name(name) => discovered.push(Discovery {
                template: ready::Backend {
                    name: server.name.value.clone(),
                    address: ([0, 0, 0, 0], 1).into(),
                    weight,
                    checks: entry.checks.iter().map(|check| check.value.clone()).collect(),
                    place: server.name.at.place.clone(),
                    policy,
                },
                from: match server.service() {
                    Some(service) if server.template => Lookup::Service(service.to_owned()),
                    _ => Lookup::Host(Target { host: name.clone(), port }),
                },
                check: entry
                    .template
                    .clone()
                    .map(|check| complete::check(Check { name: server.name.clone(), ..check })),
            }),
        }
    }
    (backends, discovered)
}

/// Without a backup there is nothing to choose.
fn backups(farm: &Farm<'_>) -> Backups {
    let some = farm.servers.iter().any(|entry| entry.server.options.has("backup"));
    if some && !farm.proxy.settings.has("option allbackups") { Backups::First } else { Backups::All }
}

fn backend_policy(options: &server::Options) -> BackendPolicy {
    let sends = options.has("send-proxy") || options.has("send-proxy-v2");
    BackendPolicy {
        backup: options.has("backup"),
        max_sessions: options
            .number("maxconn")
            .and_then(|n| u32::try_from(n).ok())
            .filter(|n| *n > 0)
            .map(|n| n.min(10_000_000)),
        send_proxy: sends.then(|| check::header(options)),
        maint: options.has("disabled"),
        ..BackendPolicy::default()
    }
}

/// The shorter one of client and server, unless `timeout tunnel` replaces both.
pub(super) fn idle_timeout(frontend: &Proxy, backend: &Proxy) -> Option<Duration> {
    let tunnel = backend.settings.timeout("timeout tunnel");
    let client = frontend.settings.timeout("timeout client");
    let server = backend.settings.timeout("timeout server");
    tunnel.or_else(|| [client, server].into_iter().flatten().min())
}

fn keepalive(frontend: &Proxy, backend: &Proxy) -> Keepalive {
    let word = |name: &str| {
        let written = frontend.settings.get(name).or(backend.settings.get(name));
        written.and_then(Statement::parameter).map(|word| word.text.clone())
    };
    let either = |end: &str| word(&format!("clitcpka-{end}")).or_else(|| word(&format!("srvtcpka-{end}")));
    let time = |end: &str| {
        let seconds = Duration::from_secs(1);
        let time = either(end).and_then(|text| value::time(&text).ok());
        time.map(|time| time.clamp(seconds, 32_767 * seconds)).map(|time| Duration::from_secs(time.as_secs()))
    };
    Keepalive {
        idle: time("idle").unwrap_or(KEEPALIVE.idle),
        interval: time("intvl").unwrap_or(KEEPALIVE.interval),
        count: either("cnt")
            .and_then(|text| u32::try_from(value::number(&text).clamp(1, 127)).ok())
            .unwrap_or(KEEPALIVE.count),
    }
}

fn balance(settings: &super::settings::Settings) -> Balance {
    let word = settings
        .get("balance")
        .and_then(Statement::parameter)
        .map_or("roundrobin", |word| word.text.as_str());
    match word.split('(').next().unwrap_or("") {
        "leastconn" => Balance::LeastConn,
        "source" | "rdp-cookie" | "hash" => Balance::Source,
        "random" => Balance::Random,
        "first" => Balance::First,
        _ => Balance::RoundRobin,
    }
}

/// Hashes of requests.
fn balance_needs_http(statement: &Statement) -> bool {
    let word = statement.parameter().map_or("", |word| word.text.as_str());
    matches!(word.split('(').next(), Some("uri" | "url_param" | "hdr"))
}

fn observe(farm: &Farm<'_>) -> Option<Observe> {
    let observing = farm
        .servers
        .iter()
        .find(|entry| matches!(entry.server.options.text("observe"), Some("layer4" | "layer7")))?;
    let limit = observing.server.options.number("error-limit").and_then(|n| u32::try_from(n).ok());
    Some(Observe {
        error_limit: limit.unwrap_or(complete::ERROR_LIMIT).min(1_000_000),
        down_for: OBSERVED_DOWN_FOR,
    })
}

/// `option tcplog` needs somebody to log to.
fn access_log(frontend: &Proxy) -> Option<AccessLog> {
    let logged = frontend.lines("log").next().is_some();
    (logged && frontend.settings.keyword_of_log().is_some()).then_some(AccessLog::Tcplog)
}

/// `source 0.0.0.0 usesrc clientip`, of the backend or of its servers.
fn transparent(proxy: &Proxy, entries: &[Entry], diagnostics: &mut Diagnostics) -> bool {
    let mut found = false;
    let mut judge = |texts: &[&str], at: &crate::diagnostic::Location| match texts {
        [_, "usesrc", "clientip" | "client", ..] => found = true,
        _ => {
            let finding = Diagnostic::warning("not-carried", at, "`source` is not carried");
            diagnostics.push(finding.help(
                "the kernel chooses the address that servers see; set it with `ip route replace NETWORK … src ADDRESS`, or write `source 0.0.0.0 usesrc clientip` to show them the client's",
            ));
        }
    };
    if let Some(source) = proxy.settings.get("source") {
        let texts: Vec<&str> = source.parameters().iter().map(|word| word.text.as_str()).collect();
        judge(&texts, &source.whole());
    }
    for given in entries.iter().filter_map(|entry| entry.server.options.get("source")) {
        let words = given.argument.iter().chain(&given.more);
        let texts: Vec<&str> = words.map(|word| word.text.as_str()).collect();
        judge(&texts, &given.at);
    }
    found
}
