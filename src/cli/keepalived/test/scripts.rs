//! What keepalived's test says of scripts, when all is read.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use config::ready::{Command, Config, Place, Probe};
use config::scripts::{Verdict, verdict_on};

use super::super::exit;

/// Lines, and the exit code that goes with them. `without_vrrp`: the VRRP side is not looked at.
pub fn complaints(config: &Config, without_vrrp: bool) -> (String, u8) {
    let mut text = String::new();
    let mut code = 0;
    let mut insecure = |what: &str, any: bool| {
        if any && !config.shown.script_security {
            code = exit::SCRIPT_SECURITY;
            format!("SECURITY VIOLATION - {what} are being executed but script_security not enabled.\n")
        } else {
            String::new()
        }
    };
    let is_there = |command: &Command| verdict_on(command, &config.process) != Verdict::Missing;
    let process = [&config.process.startup, &config.process.shutdown];
    text +=
        &insecure("start/shutdown scripts", process.into_iter().filter_map(Option::as_deref).any(is_there));
    let is_program = |program: &PathBuf| is_there(&command(program));
    text += &insecure("check scripts", config.shown.checker_scripts.iter().any(is_program));
    // Without an instance keepalived looks at no script.
    if without_vrrp || config.shown.instances == 0 {
        return (text, code);
    }
    let mut disabled = String::new();
    let mut tracked = false;
    // Of checkers it says so in its log alone.
    let of_servers: HashSet<&String> =
        config.listeners.iter().flat_map(|l| &l.backends).flat_map(|backend| &backend.checks).collect();
    for check in config.checks.iter().filter(|check| !of_servers.contains(&check.name)) {
        let Probe::Script(command) = &check.probe else { continue };
        let why = match verdict_on(command, &config.process) {
            Verdict::Missing => "since not found/accessible",
            Verdict::Open(_) if config.shown.script_security => "due to insecure",
            Verdict::Fine | Verdict::NotExecutable(_) | Verdict::Open(_) => {
                tracked = true;
                continue;
            }
        };
        disabled += &format!("Disabling track script {} {why}\n", check.name);
    }
    text += &insecure("scripts", tracked || told(config).any(is_there));
    if !disabled.is_empty() {
        code = code.max(exit::REPORTED);
    }
    (disabled + &text, code)
}

/// Scripts that are told of changes.
fn told(config: &Config) -> impl Iterator<Item = &Command> {
    let notifies = config.instances.iter().map(|instance| &instance.notify);
    let notifies = notifies.chain(config.sync_groups.iter().map(|group| &group.notify));
    let scripts = notifies.flat_map(|notify| notify.commands());
    scripts.chain(config.fifos.iter().filter_map(|fifo| fifo.script.as_deref()))
}

/// A program of a checker; who runs it does not matter for whether it is there.
fn command(program: &Path) -> Command {
    let place = Place { file: "".into(), line: 1, column: 1 };
    Command { program: program.to_owned(), arguments: Vec::new(), user: None, place }
}
