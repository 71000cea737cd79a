//! What instances may track: `vrrp_script`, `track_file`, `vrrp_track_process`.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located, Location};
use crate::model::Check;
use crate::ready::{Effect, FileExpect, Probe, ProcessProbe};
use crate::written::Statement;

use super::values::{Rest, effect};
use super::{Kind, Lower, Tracked, check, inside, located};

const IGNORED: &str = "the line is ignored";

/// How often a tracked file is read. keepalived is told by the kernel; reading a small file is cheap.
const FILE_INTERVAL: Duration = Duration::from_millis(200);

/// How often processes are counted. keepalived is told by the kernel.
const PROCESS_INTERVAL: Duration = Duration::from_millis(500);

impl Lower<'_> {
    /// The name behind the keyword, if it is new among its kind.
    fn new_object(&mut self, statement: &Statement, kind: Kind) -> Option<Located<String>> {
        let Some(name) = statement.parameter().map(located) else {
            let message = format!("`{}` must have a name", statement.keyword());
            let finding = Diagnostic::warning("missing-name", statement.at(), message);
            self.diagnostics
                .push(finding.expected("a name behind it").help("it is skipped, as in keepalived"));
            return None;
        };
        if let Some(first) = self.tracked.get(&(kind, name.value.clone())) {
            let message = format!("`{}` {} is defined twice", statement.keyword(), name.value);
            let help = format!("the first counts, at {}", first.place.place);
            self.diagnostics.push(Diagnostic::warning("duplicate", &name.at, message).help(help));
            return None;
        }
        Some(name)
    }

    /// keepalived names scripts, files and processes each in a space of their own; checks have one.
    fn add_check(&mut self, kind: Kind, mut check: Check, effect: Effect) {
        let name = check.name.value.clone();
        if !self.checks.insert(name.clone()) {
            let prefix = match kind {
                Kind::Script => "script",
                Kind::File => "file",
                Kind::Process => "process",
            };
            let mut unique = format!("{prefix}/{name}");
            while !self.checks.insert(unique.clone()) {
                unique.push('_');
            }
            check.name.value = unique;
        }
        let tracked = Tracked { check: check.name.value.clone(), effect, place: check.name.at.clone() };
        self.tracked.insert((kind, name), tracked);
        self.model.checks.push(check);
    }

    pub(super) fn vrrp_script(&mut self, statement: &Statement) {
        let Some(name) = self.new_object(statement, Kind::Script) else { return };
        let mut own_user = None;
        let mut user_refused = false;
        let mut command: Option<&Statement> = None;
        let mut weight = (0, false);
        let mut made = check(name.clone(), Probe::Interface { name: String::new() });
        for statement in inside(statement) {
            match statement.keyword() {
                "script" => {
                    if let Some(first) = command {
                        let finding =
                            Diagnostic::warning("repeated", statement.at(), "`script` is written twice");
                        self.diagnostics
                            .push(finding.help(format!("the first counts, at {}", first.at().place)));
                    } else if self.required(statement, "a command").is_some() {
                        command = Some(statement);
                    }
                }
                "interval" => {
                    if let Some(interval) = self.script_seconds(statement, "1 s is used") {
                        made.interval = interval;
                    }
                }
                "timeout" => made.timeout = self.script_seconds(statement, "the interval is used"),
                "weight" => {
                    if self.required(statement, "-253 to 253").is_some() {
                        weight = self
                            .weight(statement.parameters(), 253, "0 is used: FAULT while down")
                            .unwrap_or((0, false));
                    }
                }
                "rise" => made.rise = self.count(statement).unwrap_or(made.rise),
                "fall" => made.fall = self.count(statement).unwrap_or(made.fall),
                "user" => {
                    if self.required(statement, "a user").is_some() {
                        own_user =
                            self.user(statement.parameters(), "the script is not run, as in keepalived");
                        user_refused = own_user.is_none();
                    }
                }
                // keepalived takes it back as soon as an instance tracks the script, and the first result
                // decides alone in any case (2.2.7, 2.4.3).
                "init_fail" => {
                    let finding =
                        Diagnostic::notice("not-needed", statement.at(), "`init_fail` has no effect");
                    self.diagnostics.push(finding.help("the first result decides alone, as in keepalived"));
                }
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let Some(command) = command else {
            let message = format!("no `script` in `vrrp_script` {}", name.value);
            let finding = Diagnostic::warning("missing-script", &name.at, message)
                .expected("`script \"/path/to/program\"`");
            self.diagnostics.push(finding.help("it is removed, as in keepalived, and not tracked"));
            return;
        };
        if user_refused {
            return;
        }
        let user = match own_user {
            Some(user) => Some(user),
            None => match self.script_user(command.at()) {
                Ok(user) => user,
                Err(()) => return,
            },
        };
        let Some(command) = self.command(command, user, false) else { return };
        let program = command.program.to_string_lossy().into_owned();
        made.probe = match program.strip_prefix('<') {
            Some(path) if path.starts_with('/') => {
                Probe::File { path: path.into(), expect: FileExpect::Exists, initial: None }
            }
            _ => Probe::Script(command),
        };
        self.add_check(Kind::Script, made, effect(weight));
    }

    /// Three decimals; 0 becomes 1.
    fn script_seconds(&mut self, statement: &Statement, otherwise: &str) -> Option<Duration> {
        let word = self.required(statement, "seconds")?;
        let time = self.seconds(word, 0.0..=4294.0, 3, otherwise)?;
        if time.is_zero() {
            self.invalid(word, "more than 0", "1 s is used, as in keepalived");
            return Some(Duration::from_secs(1));
        }
        Some(time)
    }

    fn count(&mut self, statement: &Statement) -> Option<u32> {
        let word = self.required(statement, "at least 1")?;
        let number = self.number(word, 1..=i64::from(u32::MAX >> 1), Rest::Warned, "1 is used")?;
        u32::try_from(number).ok()
    }

    pub(super) fn track_file(&mut self, statement: &Statement) {
        let Some(name) = self.new_object(statement, Kind::File) else { return };
        let mut path = None;
        let mut weight = (1, false);
        for statement in inside(statement) {
            match statement.keyword() {
                "file" => path = self.required(statement, "a path").map(located),
                "weight" => {
                    if self.required(statement, "-254 to 254").is_some() {
                        weight = self.weight(statement.parameters(), 254, "1 is used").unwrap_or(weight);
                    }
                }
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let Some(path) = path else {
            let message = format!("no `file` in `track_file` {}", name.value);
            let finding = Diagnostic::warning("missing-file", &name.at, message).expected("`file \"/path\"`");
            self.diagnostics.push(finding.help("it is removed, as in keepalived, and not tracked"));
            return;
        };
        let probe = Probe::File { path: path.value.into(), expect: FileExpect::Value, initial: None };
        let made = Check { interval: FILE_INTERVAL, ..check(name, probe) };
        self.add_check(Kind::File, made, file_effect(weight));
    }

    pub(super) fn track_process(&mut self, statement: &Statement) {
        let Some(name) = self.new_object(statement, Kind::Process) else { return };
        let mut process: Option<Located<String>> = None;
        let mut weight = (0, false);
        let (mut quorum, mut quorum_max) = (1, None);
        let (mut fork_delay, mut terminate_delay) = (Duration::ZERO, Duration::ZERO);
        for statement in inside(statement) {
            match statement.keyword() {
                "process" => {
                    process = self.required(statement, "a process name").map(located);
                    self.process_parameters(statement);
                }
                "weight" => {
                    if self.required(statement, "-254 to 254").is_some() {
                        weight = self
                            .weight(statement.parameters(), 254, "0 is used: FAULT while down")
                            .unwrap_or(weight);
                    }
                }
                "quorum" => quorum = self.processes(statement, 1).unwrap_or(quorum),
                "quorum_max" => quorum_max = self.processes(statement, 0),
                "delay" | "fork_delay" | "terminate_delay" => {
                    let word = self.required(statement, "seconds up to 3600");
                    let Some(delay) = word.and_then(|word| self.seconds(word, 0.0..=3600.0, 6, IGNORED))
                    else {
                        continue;
                    };
                    if statement.keyword() != "terminate_delay" {
                        fork_delay = delay;
                    }
                    if statement.keyword() != "fork_delay" {
                        terminate_delay = delay;
                    }
                }
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let Some(process) = process else {
            let message = format!("no `process` in `vrrp_track_process` {}", name.value);
            let finding =
                Diagnostic::warning("missing-process", &name.at, message).expected("`process NAME`");
            self.diagnostics.push(finding.help("it is removed, as in keepalived, and not tracked"));
            return;
        };
        let probe = Probe::Process(ProcessProbe {
            name: process.value,
            quorum,
            quorum_max,
            ..ProcessProbe::default()
        });
        let rounds = |delay: Duration| {
            1 + u32::try_from(delay.as_nanos().div_ceil(PROCESS_INTERVAL.as_nanos())).unwrap_or(u32::MAX - 1)
        };
        let (rise, fall) = (rounds(fork_delay), rounds(terminate_delay));
        let made = Check { interval: PROCESS_INTERVAL, rise, fall, ..check(name, probe) };
        self.add_check(Kind::Process, made, effect(weight));
    }

    fn process_parameters(&mut self, statement: &Statement) {
        let Some(first) = statement.words.get(2) else { return };
        let at: Location = first.at.to(&statement.words[statement.words.len() - 1].at);
        let finding =
            Diagnostic::warning("not-supported-yet", &at, "parameters of a process are not compared yet");
        self.diagnostics.push(finding.help("every process of this name counts"));
    }

    fn processes(&mut self, statement: &Statement, least: i64) -> Option<u32> {
        let word = self.required(statement, "a number of processes")?;
        let number = self.number(word, least..=65535, Rest::Warned, IGNORED)?;
        u32::try_from(number).ok()
    }
}

/// Weight 0: any value but 0 is FAULT. Otherwise the value times the weight.
pub(super) fn file_effect((weight, reverse): (i16, bool)) -> Effect {
    match weight {
        0 => Effect::Fault { reverse },
        weight => Effect::Value { weight, reverse },
    }
}
