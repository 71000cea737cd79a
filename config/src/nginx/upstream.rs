//! `upstream` blocks, and addresses in `proxy_pass`.

use std::collections::HashMap;
use std::time::Duration;

use crate::diagnostic::{Diagnostic, Diagnostics, Located};
use crate::model::Backend;
use crate::ready::{self, BackendPolicy, Balance, Discovery, Lookup, Observe, Target};
use crate::written::{Statement, Word};

use super::parser::shown;
use super::value::{self, Address};

/// nginx's `max_fails` and `fail_timeout`.
const MAX_FAILS: u32 = 1;
const FAIL_TIMEOUT: Duration = Duration::from_secs(10);

/// Servers and how one is chosen.
#[derive(Clone, Debug)]
pub(super) struct Upstream {
    pub name: Word,
    pub balance: Balance,
    pub backends: Vec<Backend>,
    pub discovered: Vec<Discovery>,
    pub observe: Option<Observe>,
    pub slow_start: Duration,
}

impl Upstream {
    fn new(name: Word) -> Self {
        Self {
            name,
            balance: Balance::RoundRobin,
            backends: Vec::new(),
            discovered: Vec::new(),
            observe: None,
            slow_start: Duration::ZERO,
        }
    }

    /// One server, as `proxy_pass ADDRESS` means it.
    pub fn alone(word: &Word, diagnostics: &mut Diagnostics) -> Option<Self> {
        let mut made = Self::new(word.clone());
        match value::address(&word.text) {
            Ok(address) => made.add(word, address, 1, BackendPolicy::default(), &mut HashMap::new()),
            Err(why) => {
                wrong_address(word, &why, diagnostics);
                return None;
            }
        }
        Some(made)
    }

    fn add(
        &mut self,
        word: &Word,
        address: Address,
        weight: u16,
        policy: BackendPolicy,
        names: &mut HashMap<String, u32>,
    ) {
        let count = names.entry(word.text.clone()).or_insert(0);
        *count += 1;
        let name = if *count == 1 { word.text.clone() } else { format!("{}#{count}", word.text) };
        match address {
            Address::Ip(address) => self.backends.push(Backend {
                name: Located::new(name, word.at.clone()),
                address: Located::new(address, word.at.clone()),
                weight,
                checks: Vec::new(),
                policy,
            }),
            Address::Name(host, port) => self.discovered.push(Discovery {
                template: ready::Backend {
                    name,
                    address: ([0, 0, 0, 0], 1).into(),
                    weight,
                    checks: Vec::new(),
                    place: word.at.place.clone(),
                    policy,
                },
                from: Lookup::Host(Target { host, port }),
                check: None,
            }),
        }
    }
}

fn wrong_address(word: &Word, why: &str, diagnostics: &mut Diagnostics) {
    let code = if word.text.starts_with("unix:") { "refused" } else { "invalid-value" };
    let finding = Diagnostic::error(code, &word.at, why.to_owned());
    let help = if word.text.contains(['<', '{']) {
        "write the address in the place of the placeholder"
    } else if word.text.starts_with("unix:") {
        "nginx connects to it; vipd connects by TCP alone: let the server listen on an address of this host"
    } else {
        "nginx does not start with it either"
    };
    diagnostics.push(finding.expected("ADDRESS:PORT or NAME:PORT, or the name of an `upstream`").help(help));
}

/// One block; every directive of it was judged by the caller.
pub(super) fn read(statement: &Statement, diagnostics: &mut Diagnostics) -> Option<Upstream> {
    let Some(name) = statement.parameter() else {
        let finding = Diagnostic::error("missing-name", statement.at(), "`upstream` without a name");
        diagnostics.push(finding.expected("`upstream NAME { … }`"));
        return None;
    };
    let mut made = Upstream::new(name.clone());
    let mut names = HashMap::new();
    let mut fails = Vec::new();
    for line in statement.block.iter().flat_map(|block| &block.statements) {
        match line.keyword() {
            "least_conn" | "least_time" => made.balance = Balance::LeastConn,
            "random" => made.balance = Balance::Random,
            "hash" => {
                made.balance = Balance::Source;
                let key = line.parameter().map_or("", |key| key.text.as_str());
                if !matches!(key, "$remote_addr" | "$binary_remote_addr" | "${remote_addr}") {
                    let finding = Diagnostic::warning(
                        "not-carried",
                        &line.whole(),
                        format!("`hash {}` is not carried", shown(key)),
                    );
                    diagnostics.push(
                        finding
                            .help("the client's address is hashed, as `hash $remote_addr consistent` does"),
                    );
                }
            }
            "server" => {
                let Some(word) = line.parameter() else {
                    let finding =
                        Diagnostic::error("missing-parameter", line.at(), "`server` without its address");
                    diagnostics.push(finding.expected("`server ADDRESS:PORT;`"));
                    continue;
                };
                let options = options(line, diagnostics);
                if options.policy.backup && matches!(made.balance, Balance::Source | Balance::Random) {
                    let finding = Diagnostic::error(
                        "conflict",
                        &line.whole(),
                        "balancing method does not support parameter `backup`",
                    );
                    diagnostics.push(
                        finding
                            .expected("`least_conn`, or no `backup`")
                            .help("nginx does not start with it either"),
                    );
                }
                match value::address(&word.text) {
                    Ok(address) => {
                        made.add(word, address, options.weight, options.policy, &mut names);
                        made.slow_start = made.slow_start.max(options.slow_start);
                        fails.push((options.max_fails, options.fail_timeout, line.whole()));
                    }
                    Err(why) => wrong_address(word, &why, diagnostics),
                }
            }
            _ => {}
        }
    }
    let alone = made.backends.len() + made.discovered.len() == 1;
    // Of one server alone nginx never believes that it is down.
    if let Some((limit, down_for, _)) = fails.first().filter(|_| !alone) {
        made.observe =
            (*limit > 0).then_some(Observe { error_limit: (*limit).min(1_000_000), down_for: *down_for });
        if let Some((.., at)) = fails.iter().find(|(other, time, _)| (other, time) != (limit, down_for)) {
            let finding = Diagnostic::warning(
                "not-carried",
                at,
                "`max_fails` and `fail_timeout` of this server are not carried",
            );
            diagnostics.push(finding.help("those of the first server count for all of the upstream; write `[[listener]]` in TOML for more"));
        }
    }
    Some(made)
}

struct Options {
    weight: u16,
    max_fails: u32,
    fail_timeout: Duration,
    slow_start: Duration,
    policy: BackendPolicy,
}

fn options(line: &Statement, diagnostics: &mut Diagnostics) -> Options {
    let mut made = Options {
        weight: 1,
        max_fails: MAX_FAILS,
        fail_timeout: FAIL_TIMEOUT,
        slow_start: Duration::ZERO,
        policy: BackendPolicy::default(),
    };
    for word in &line.words[2.min(line.words.len())..] {
        let (name, text) = word.text.split_once('=').unwrap_or((&word.text, ""));
        let number = text.parse::<u32>().ok();
        let time = value::time(text).filter(|time| !time.is_zero());
        let known = match (name, number, time) {
            ("backup", ..) if text.is_empty() => {
                made.policy.backup = true;
                true
            }
            ("down", ..) if text.is_empty() => {
                made.policy.maint = true;
                true
            }
            ("weight", Some(number @ 1..=65535), _) => {
                made.weight = u16::try_from(number).unwrap_or(u16::MAX);
                true
            }
            ("max_fails", Some(number), _) => {
                made.max_fails = number;
                true
            }
            ("max_conns", Some(number), _) => {
                made.policy.max_sessions = Some(number.min(10_000_000)).filter(|number| *number > 0);
                true
            }
            ("fail_timeout", _, Some(time)) => {
                made.fail_timeout = time;
                true
            }
            ("slow_start", _, Some(time)) => {
                made.slow_start = time;
                true
            }
            ("resolve", ..) => true,
            ("service", ..) => {
                let finding = Diagnostic::warning("not-carried", &word.at, "`service` is not carried");
                diagnostics
                    .push(finding.help("write `srv = \"_http._tcp.example.org\"` at the backend in TOML"));
                true
            }
            _ => false,
        };
        if !known {
            let finding = Diagnostic::error(
                "invalid-value",
                &word.at,
                format!("invalid parameter `{}`", shown(&word.text)),
            );
            diagnostics.push(
                finding
                    .expected(
                        "`weight=N`, `max_fails=N`, `fail_timeout=TIME`, `max_conns=N`, `backup` or `down`",
                    )
                    .help("nginx does not start with it either"),
            );
        }
    }
    made
}
