//! What instances may track: `vrrp_script`, `track_file`, `vrrp_track_process`.

use std::time::Duration;

use crate::diagnostic::{Diagnostic, Located};
use crate::model::Check;
use crate::ready::{Effect, FileExpect, ParameterMatch, Probe, ProcessProbe};
use crate::written::Statement;

use super::values::{Rest, effect, nearest_weight};
use super::{Kind, Lower, Tracked, check, inside, located};

const IGNORED: &str = "the line is ignored";

/// How often a tracked file is read. keepalived is told by the kernel; reading a small file is cheap.
pub(super) const FILE_INTERVAL: Duration = Duration::from_millis(200);

/// How often processes are counted. keepalived is told by the kernel.
const PROCESS_INTERVAL: Duration = Duration::from_millis(500);

impl Lower<'_> {
    /// The name behind the keyword, if it is new among its kind.
    pub(super) fn new_object(&mut self, statement: &Statement, kind: Kind) -> Option<Located<String>> {
        let Some(name) = statement.parameter().map(located) else {
            let message = format!("`{}` must have a name", statement.keyword());
            let finding = Diagnostic::error("missing-name", statement.at(), message);
            self.diagnostics
                .push(finding.expected("a name behind it").help("keepalived does not start with it either"));
            return None;
        };
        if let Some(first) = self.tracked.get(&(kind, name.value.clone())) {
            let message = format!("`{}` {} is defined twice", statement.keyword(), name.value);
            let help = format!("the first counts, at {}", first.place.place);
            self.diagnostics.push(Diagnostic::warning("counted-once", &name.at, message).help(help));
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
                Kind::Bfd => "bfd",
            };
            let mut unique = format!("{prefix}/{name}");
            while !self.checks.insert(unique.clone()) {
                unique.push('_');
            }
            check.name.value = unique;
        }
        let tracked = Tracked { check: check.name.value.clone(), effect, place: check.name.at.clone() };
        self.show_weight(&tracked.check, effect);
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
                    let otherwise = "the nearest is used; the priority stays between 1 and 254 in any case";
                    if let Some((number, reverse)) = self.weight(statement, 253, otherwise) {
                        let text = statement.parameter().map_or("", |word| &word.text);
                        weight.0 = number.unwrap_or_else(|| nearest_weight(text, 253));
                        weight.1 |= reverse;
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
        let mut initial = None;
        let mut weight = (1, false);
        for statement in inside(statement) {
            match statement.keyword() {
                "file" => path = self.required(statement, "a path").map(located),
                "weight" if weight.0 != 1 => self.weight_again(statement),
                "weight" => {
                    if let Some((number, reverse)) = self.weight(statement, 254, "1 is used") {
                        weight = (number.unwrap_or(1), weight.1 | reverse);
                    }
                }
                "init_file" => initial = Some(self.init_file(statement)),
                other => debug_assert!(false, "no meaning for {other}"),
            }
        }
        let Some(path) = path else {
            let message = format!("no `file` in `track_file` {}", name.value);
            let finding = Diagnostic::warning("missing-file", &name.at, message).expected("`file \"/path\"`");
            self.diagnostics.push(finding.help("it is removed, as in keepalived, and not tracked"));
            return;
        };
        let probe = Probe::File { path: path.value.into(), expect: FileExpect::Value, initial };
        let made = Check { interval: FILE_INTERVAL, ..check(name, probe) };
        self.add_check(Kind::File, made, file_effect(weight));
    }

    /// `[VALUE] [overwrite]`, in any order.
    fn init_file(&mut self, statement: &Statement) -> (i64, bool) {
        let (mut value, mut overwrite) = (0, false);
        for word in statement.parameters() {
            if word.text == "overwrite" {
                overwrite = true;
            } else {
                let range = i64::from(i32::MIN)..=i64::from(i32::MAX);
                value = self.number(word, range, Rest::Warned, "0 is written").unwrap_or(0);
            }
        }
        (value, overwrite)
    }

    pub(super) fn track_process(&mut self, statement: &Statement) {
        let Some(name) = self.new_object(statement, Kind::Process) else { return };
        let mut process: Option<&Statement> = None;
        let mut matching = None;
        let mut weight = (0, false);
        let mut made = ProcessProbe { quorum: 1, ..ProcessProbe::default() };
        for statement in inside(statement) {
            match statement.keyword() {
                "process" => {
                    if self.required(statement, "a process name").is_some() {
                        process = Some(statement);
                    }
                }
                "param_match" => matching = self.param_match(statement).or(matching),
                "full_command" => made.full_command = true,
                "weight" if weight.0 != 0 => self.weight_again(statement),
                "weight" => {
                    let otherwise = "the line is ignored, as in keepalived: FAULT while down";
                    if let Some((Some(number), reverse)) = self.weight(statement, 254, otherwise) {
                        weight = (number, weight.1 | reverse);
                    }
                }
                "quorum" => made.quorum = self.processes(statement, 1).unwrap_or(made.quorum),
                "quorum_max" => made.quorum_max = self.processes(statement, 0),
                "delay" | "fork_delay" | "terminate_delay" => {
                    let word = self.required(statement, "seconds up to 3600");
                    let Some(delay) = word.and_then(|word| self.seconds(word, 0.0..=3600.0, 6, IGNORED))
                    else {
                        continue;
                    };
                    if statement.keyword() != "terminate_delay" {
                        made.fork_delay = delay;
                    }
                    if statement.keyword() != "fork_delay" {
                        made.terminate_delay = delay;
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
        made.name.clone_from(&process.words[1].text);
        let parameters: Vec<String> = process.words[2..].iter().map(|word| word.text.clone()).collect();
        made.parameters = match matching {
            Some(matching) => Some((matching, parameters)),
            None if parameters.is_empty() => None,
            // With parameters and no word on how to compare them, they are compared exactly.
            None => Some((ParameterMatch::Exact, parameters)),
        };
        // keepalived looks at the command line as soon as parameters matter (2.2.7).
        made.full_command |= made.parameters.is_some();
        match made.quorum_max {
            Some(0) => made.quorum = 0,
            Some(most) if most < made.quorum => {
                let message = format!("{} needs more processes than it allows", name.value);
                let finding = Diagnostic::warning("quorum", &name.at, message);
                self.diagnostics.push(finding.help("`quorum_max` is ignored, as in keepalived"));
                made.quorum_max = None;
            }
            _ => {}
        }
        let probe = Probe::Process(made);
        let made = Check { interval: PROCESS_INTERVAL, ..check(name, probe) };
        self.add_check(Kind::Process, made, effect(weight));
    }

    fn param_match(&mut self, statement: &Statement) -> Option<ParameterMatch> {
        let Some(word) = statement.parameter() else { return Some(ParameterMatch::Exact) };
        match word.text.as_str() {
            "exact" => Some(ParameterMatch::Exact),
            "partial" => Some(ParameterMatch::Partial),
            "initial" => Some(ParameterMatch::Initial),
            _ => {
                self.invalid(word, "`exact`, `partial` or `initial`", IGNORED);
                None
            }
        }
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
