//! What the words mean.
//!
//! keepalived carries on after nearly every mistake and says what it does instead; the same is done and
//! said here, so that a file that runs there runs here. What ends keepalived at start is an error.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use crate::LoadOptions;
use crate::diagnostic::{Diagnostic, Diagnostics, Located, Location};
use crate::model::{self, Model};
use crate::ready::{Command, Credentials, Dial, Effect, Pace, Probe, User};
use crate::written::{Statement, Word};

mod addresses;
mod bfd;
mod globals;
mod groups;
mod hmac;
mod instance;
mod line;
mod network;
mod objects;
mod process;
mod routes;
mod rules;
mod server;
mod shown;
mod statics;
mod trackers;
mod values;
mod vmac;

pub(crate) use routes::locator;
pub(crate) use rules::ip_protocol;
pub(crate) use vmac::{is_interface_name, mac};

use globals::Globals;

/// Turns statements into meaning.
pub(super) struct Lower<'a> {
    options: &'a LoadOptions,
    diagnostics: &'a mut Diagnostics,
    model: &'a mut Model,
    globals: Globals,
    /// What instances may track, by kind and name.
    tracked: HashMap<(Kind, String), Tracked>,
    /// Names of checks, instances and groups, with the place of each.
    checks: HashSet<String>,
    instances: HashMap<String, Location>,
    groups: HashMap<String, Location>,
    /// What `notify_priority_changes` says, by instance or group (`true`) and name.
    priority_changes: HashMap<(bool, String), bool>,
    /// The missing user was reported.
    reported_user: bool,
    /// Names of `track_group`s that have members.
    track_groups: HashSet<String>,
    /// Virtual servers and their groups, in the order they were written.
    services: Vec<server::Service>,
    server_groups: Vec<server::Group>,
    /// Names of tracked files that checkers read.
    checker_files: HashSet<String>,
    /// Sessions that checkers may name, and that are left out.
    bfd_left_out: HashSet<String>,
    /// The top-level block `SSL`.
    ssl_credentials: Credentials,
    /// Preferences for rules without one: IPv4, IPv6.
    next_preference: [u32; 2],
}

/// Rules without a preference count down from here (keepalived 2.2.7).
const FIRST_PREFERENCE: u32 = 16384;

/// keepalived names each kind of tracked object in a space of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Script,
    File,
    Process,
    Bfd,
}

/// Something that instances may track.
#[derive(Clone, Debug)]
struct Tracked {
    /// Its name among all checks.
    check: String,
    /// What it does when the tracker does not say.
    effect: Effect,
    place: Location,
}

/// Adds the meaning of all statements to the model.
pub(super) fn lower(
    statements: &[Statement],
    options: &LoadOptions,
    model: &mut Model,
    diagnostics: &mut Diagnostics,
) {
    let globals = Globals::default();
    let mut lower = Lower {
        options,
        diagnostics,
        model,
        globals,
        tracked: HashMap::new(),
        checks: HashSet::new(),
        instances: HashMap::new(),
        priority_changes: HashMap::new(),
        groups: HashMap::new(),
        reported_user: false,
        track_groups: HashSet::new(),
        services: Vec::new(),
        server_groups: Vec::new(),
        checker_files: HashSet::new(),
        bfd_left_out: HashSet::new(),
        ssl_credentials: Credentials::default(),
        next_preference: [FIRST_PREFERENCE; 2],
    };
    for statement in statements {
        match statement.keyword() {
            "global_defs" => lower.global_defs(statement),
            "net_namespace" | "instance" | "use_pid_dir" => {
                lower.process_word(statement);
            }
            "interface_up_down_delays" => lower.link_delays(statement),
            "garp_group" => lower.garp_group(statement),
            "SSL" => lower.ssl(statement),
            _ => {}
        }
    }
    lower.finish_globals();
    for statement in statements {
        match statement.keyword() {
            "vrrp_script" => lower.vrrp_script(statement),
            "track_file" | "vrrp_track_file" => lower.track_file(statement),
            "vrrp_track_process" => lower.track_process(statement),
            "track_group" => lower.static_track_group(statement),
            "bfd_instance" => lower.bfd_instance(statement),
            _ => {}
        }
    }
    // In the order of the file: rules without a preference get theirs one after the other.
    for statement in statements {
        match statement.keyword() {
            "vrrp_instance" => lower.vrrp_instance(statement),
            "vrrp_sync_group" => lower.vrrp_sync_group(statement),
            "virtual_server" => lower.virtual_server(statement),
            "virtual_server_group" => lower.virtual_server_group(statement),
            "static_ipaddress" => lower.static_addresses(statement),
            "static_routes" => {
                let routes = lower.routes(statement, true);
                lower.model.static_routes.extend(routes);
            }
            "static_rules" => {
                let rules = lower.rules(statement, true);
                lower.model.static_rules.extend(rules);
            }
            _ => {}
        }
    }
    lower.finish_track_groups();
    lower.finish_groups();
    lower.finish_services();
}

impl Lower<'_> {
    /// The command of a script-like directive: its second word, split once more.
    ///
    /// Only the second word counts; unquoted arguments are lost, as in keepalived, but not in silence.
    fn command(&mut self, statement: &Statement, user: Option<User>, with_user: bool) -> Option<Command> {
        let word = self.required(statement, "a command")?;
        let mut words = super::lexer::command_words(&word.text).into_iter();
        let Some(program) = words.next().filter(|program| !program.is_empty()) else {
            self.invalid(word, "a command", "the line is ignored");
            return None;
        };
        let rest = &statement.parameters()[1..];
        let user = match (with_user, rest) {
            (_, []) => user,
            (true, rest) => {
                let help = "the script is not run, as in keepalived";
                Some(self.user_or("unknown-notify-user", rest, help)?)
            }
            (false, [first, ..]) => {
                let finding = Diagnostic::warning(
                    "unquoted-arguments",
                    &first.at.to(&rest[rest.len() - 1].at),
                    "words behind the command",
                );
                self.diagnostics.push(finding.expected("arguments within the command's quotes").help(
                    "they are dropped, as keepalived does; write `script \"PROGRAM ARGUMENT…\"` to pass them",
                ));
                user
            }
        };
        Some(Command {
            program: PathBuf::from(program),
            arguments: words.collect(),
            user,
            place: statement.at().place.clone(),
        })
    }

    /// Whom scripts run as when they do not say; `Err` when security forbids to run them at all.
    fn script_user(&mut self, at: &Location) -> Result<Option<User>, ()> {
        if let Some(user) = &self.globals.script_user {
            return Ok(Some(user.clone()));
        }
        if let Ok(user) = self.options.users.find("keepalived_script", None) {
            return Ok(Some(user));
        }
        let first = !std::mem::replace(&mut self.reported_user, true);
        if self.globals.script_security {
            let finding = Diagnostic::warning(
                "no-script-user",
                at,
                "scripts need a user with `enable_script_security`",
            );
            self.diagnostics.push(
                finding
                    .expected(
                        "`script_user USER` in `global_defs`, or a user `keepalived_script` on this host",
                    )
                    .help("the script is not run, as in keepalived"),
            );
            return Err(());
        }
        if first {
            let finding = Diagnostic::notice(
                "script-as-root",
                at,
                "scripts run as the user of the daemon, normally root",
            );
            self.diagnostics.push(finding.help("name another with `script_user USER` in `global_defs`"));
        }
        Ok(None)
    }

    /// Reports a directive that was written before; the later one counts.
    fn repeated(&mut self, statement: &Statement, before: Option<&Location>) {
        if let Some(before) = before {
            let message = format!("`{}` is written twice", statement.keyword());
            let finding = Diagnostic::warning("repeated", &statement.whole(), message);
            self.diagnostics.push(finding.help(format!("this one counts, not that of {}", before.place)));
        }
    }

    fn set<T>(&mut self, slot: &mut Option<Located<T>>, statement: &Statement, value: Option<Located<T>>) {
        if let Some(value) = value {
            self.repeated(statement, slot.as_ref().map(|s| &s.at));
            *slot = Some(value);
        }
    }
}

/// The statements of a block, or none.
fn inside(statement: &Statement) -> &[Statement] {
    statement.block.as_ref().map_or(&[], |block| &block.statements)
}

fn located(word: &Word) -> Located<String> {
    Located::new(word.text.clone(), word.at.clone())
}

fn check(name: Located<String>, probe: Probe) -> model::Check {
    let interval = std::time::Duration::from_secs(1);
    model::Check {
        name,
        interval,
        timeout: None,
        rise: 1,
        fall: 1,
        first_result_decides: true,
        pace: Pace { exact: matches!(probe, Probe::Script(_)), ..Pace::default() },
        dial: Dial::default(),
        probe,
        only_if_used: true,
    }
}
