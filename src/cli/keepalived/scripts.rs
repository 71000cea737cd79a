//! What keepalived's test says of scripts, when all is read.

use std::path::Path;

use config::ready::{Command, Config, Probe};
use nix::unistd::{AccessFlags, access};

use super::exit;

/// Lines, and the exit code that goes with them.
pub fn complaints(config: &Config) -> (String, u8) {
    let mut text = String::new();
    let mut code = 0;
    let mut has_scripts = notify_scripts(config).next().is_some();
    for check in &config.checks {
        let Probe::Script(command) = &check.probe else { continue };
        if can_run(&command.program) {
            has_scripts = true;
        } else {
            text += &format!("Disabling track script {} since not found/accessible\n", check.name);
            code = exit::REPORTED;
        }
    }
    if has_scripts && !config.shown.script_security {
        text += "SECURITY VIOLATION - scripts are being executed but script_security not enabled.\n";
        code = exit::SCRIPT_SECURITY;
    }
    (text, code)
}

/// Those that could be run: of the others keepalived says that they are disabled.
fn notify_scripts(config: &Config) -> impl Iterator<Item = &Command> {
    let notifies = config.instances.iter().map(|instance| &instance.notify);
    let notifies = notifies.chain(config.sync_groups.iter().map(|group| &group.notify));
    let of_instances = notifies.flat_map(|notify| {
        [
            &notify.any,
            &notify.master,
            &notify.backup,
            &notify.fault,
            &notify.stop,
            &notify.deleted,
            &notify.master_rx_lower_priority,
        ]
    });
    let fifos = config.fifos.iter().map(|fifo| &fifo.script);
    of_instances.chain(fifos).flatten().filter(|command| can_run(&command.program))
}

/// A name without a slash is looked up in PATH.
fn can_run(program: &Path) -> bool {
    let is_there = |path: &Path| path.is_file() && access(path, AccessFlags::X_OK).is_ok();
    if program.components().count() > 1 || program.is_absolute() {
        return is_there(program);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| is_there(&directory.join(program)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_a_slash_is_looked_for() {
        assert!(can_run(Path::new("true")) && can_run(Path::new("/bin/true")));
        assert!(!can_run(Path::new("/nonexistent")) && !can_run(Path::new("no-such-program-anywhere")));
        assert!(!can_run(Path::new("/tmp")), "a directory is no program");
    }
}
