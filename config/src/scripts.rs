//! Scripts that keepalived would not run, judged by their files on this host.
//!
//! A tracked script of keepalived.conf that is missing, cannot be executed, or can be changed by others
//! than root (with `enable_script_security`) is treated as not configured, as keepalived 2.2.7 does. A
//! check in TOML is never left out: it fails while its script is missing, and an insecure one is an error.
//! Links are resolved first; with `use_symlink_paths` (keepalived 2.3.0) the path as written is judged beside
//! the real one, as in 2.4.3.

use std::collections::HashSet;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Diagnostics, Location};
use crate::ready::{Command, Config, Notify, Place, Process};

/// What keeps a script from being run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Fine,
    /// There is no such file.
    Missing,
    /// Its user may not execute this file.
    NotExecutable(PathBuf),
    /// This part of its real path can be written by others than root.
    Open(PathBuf),
}

/// How scripts are judged.
#[derive(Clone, Copy, Debug)]
struct Rules {
    /// Those that others than root can change are not run as root (`enable_script_security`).
    security: bool,
    /// Links in their paths are kept, so they are judged too (`use_symlink_paths`).
    as_written: bool,
}

/// Judges the file of one script as the settings of its configuration want it.
pub fn verdict_on(command: &Command, process: &Process) -> Verdict {
    verdict(command, Rules { security: process.script_security, as_written: process.symlink_paths })
}

/// Leaves out what keepalived would not run. `optional`: checks that are removed, not refused.
pub(crate) fn judge(config: &mut Config, optional: &HashSet<String>, diagnostics: &mut Diagnostics) {
    let rules = Rules { security: config.process.script_security, as_written: config.process.symlink_paths };
    let mut removed = HashSet::new();
    for check in &config.checks {
        let Some(command) = check.probe.command() else { continue };
        let verdict = verdict(command, rules);
        let is_optional = optional.contains(&check.name);
        let leave = match (&verdict, is_optional) {
            (Verdict::Fine, _) => continue,
            (Verdict::Missing | Verdict::NotExecutable(_), false) => continue,
            (Verdict::Missing | Verdict::NotExecutable(_), true) => true,
            (Verdict::Open(_), _) => rules.security,
        };
        let help = match (leave, is_optional) {
            (true, true) => "it is left out, as in keepalived",
            (true, false) => "correct the owner and the mode, or turn `script_security` off",
            (false, _) => "it runs; with script security it would not",
        };
        report(command, &verdict, leave, leave && !is_optional, help, diagnostics);
        if leave && is_optional {
            removed.insert(check.name.clone());
        }
    }
    config.checks.retain(|check| !removed.contains(&check.name));
    for instance in config.instances.iter_mut().map(Arc::make_mut) {
        instance.track_checks.retain(|tracked| !removed.contains(&tracked.check));
        notify(&mut instance.notify, rules, diagnostics);
    }
    for group in &mut config.sync_groups {
        group.track_checks.retain(|tracked| !removed.contains(&tracked.check));
        notify(&mut group.notify, rules, diagnostics);
    }
    for listener in &mut config.listeners {
        for backend in &mut listener.backends {
            backend.checks.retain(|check| !removed.contains(check));
            told(&mut backend.policy.notify_up, rules, diagnostics);
            told(&mut backend.policy.notify_down, rules, diagnostics);
        }
        if let Some(quorum) = &mut listener.policy.quorum {
            told(&mut quorum.up, rules, diagnostics);
            told(&mut quorum.down, rules, diagnostics);
        }
    }
    let fifos = config.fifos.iter_mut().map(|fifo| &mut fifo.script);
    for slot in fifos.chain([&mut config.process.startup, &mut config.process.shutdown]) {
        told(slot, rules, diagnostics);
    }
}

fn notify(notify: &mut Notify, rules: Rules, diagnostics: &mut Diagnostics) {
    for slot in [
        &mut notify.any,
        &mut notify.master,
        &mut notify.backup,
        &mut notify.fault,
        &mut notify.stop,
        &mut notify.deleted,
        &mut notify.master_rx_lower_priority,
    ] {
        told(slot, rules, diagnostics);
    }
}

/// A script that is told of changes. One that is missing now may be there when it is needed.
fn told(slot: &mut Option<Box<Command>>, rules: Rules, diagnostics: &mut Diagnostics) {
    let Some(command) = slot else { return };
    let verdict = verdict(command, rules);
    if !matches!(verdict, Verdict::Open(_)) {
        return;
    }
    let help = if rules.security {
        "it is not run, as in keepalived"
    } else {
        "it runs; with script security it would not"
    };
    report(command, &verdict, rules.security, false, help, diagnostics);
    if rules.security {
        *slot = None;
    }
}

fn report(
    command: &Command,
    verdict: &Verdict,
    leave: bool,
    error: bool,
    help: &str,
    diagnostics: &mut Diagnostics,
) {
    let program = command.program.display();
    let (code, message) = match verdict {
        Verdict::Fine => return,
        Verdict::Missing => ("script-missing", format!("there is no `{program}`")),
        Verdict::NotExecutable(file) => {
            ("script-not-executable", format!("`{}` cannot be executed", file.display()))
        }
        Verdict::Open(part) => (
            "script-insecure",
            format!("`{program}` runs as root, and others can write `{}`", part.display()),
        ),
    };
    let at = location(&command.place);
    let finding = match (error, leave) {
        (true, _) => Diagnostic::error(code, &at, message),
        (false, true) => Diagnostic::warning(code, &at, message),
        (false, false) => Diagnostic::notice(code, &at, message),
    };
    diagnostics.push(finding.help(help));
}

fn verdict(command: &Command, rules: Rules) -> Verdict {
    let Some((file, about)) = find(&command.program) else { return Verdict::Missing };
    let (uid, gid) = match &command.user {
        Some(user) => (user.uid, user.gid),
        None => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let execute = match (uid, gid) {
        (0, _) => 0o111,
        (uid, _) if uid == about.uid() => 0o100,
        (_, gid) if gid == about.gid() => 0o010,
        _ => 0o001,
    };
    if about.mode() & execute == 0 {
        return Verdict::NotExecutable(file);
    }
    let set_id_root =
        about.mode() & 0o4000 != 0 && about.uid() == 0 || about.mode() & 0o2000 != 0 && about.gid() == 0;
    if uid != 0 && gid != 0 && !set_id_root {
        return Verdict::Fine;
    }
    match open_part(&file, rules.as_written) {
        Some(part) => Verdict::Open(part),
        None => Verdict::Fine,
    }
}

/// As it will be started: with a slash as it is, without one through PATH.
fn find(program: &Path) -> Option<(PathBuf, std::fs::Metadata)> {
    let regular = |file: PathBuf| {
        let about = std::fs::metadata(&file).ok().filter(std::fs::Metadata::is_file)?;
        Some((file, about))
    };
    if program.components().count() > 1 {
        return regular(program.to_owned());
    }
    std::env::split_paths(&std::env::var_os("PATH")?).find_map(|folder| regular(folder.join(program)))
}

/// The first part of the real path, symbolic links resolved, that others than root can write. `as_written`: or
/// of the path as it is written, because whoever can replace a link there chooses what runs.
fn open_part(file: &Path, as_written: bool) -> Option<PathBuf> {
    let Ok(real) = file.canonicalize() else { return Some(file.to_owned()) };
    let written = if as_written { std::path::absolute(file).ok() } else { None };
    let open = |part: &&Path| {
        // Of a link only its owner counts: its mode lets everybody.
        let judged = |about: std::fs::Metadata| match about.is_symlink() {
            true => about.uid() != 0,
            false => is_open(about.is_dir(), about.mode(), about.uid(), about.gid()),
        };
        std::fs::symlink_metadata(part).map_or(true, judged)
    };
    let written = written.iter().flat_map(|path| path.ancestors());
    written.chain(real.ancestors()).find(open).map(Path::to_owned)
}

/// keepalived's rule: owner not root, or writable for a group other than root's or for others, where a
/// sticky directory does not count as writable.
fn is_open(folder: bool, mode: u32, uid: u32, gid: u32) -> bool {
    let sticky = folder && mode & 0o1000 != 0;
    uid != 0 || !sticky && (mode & 0o002 != 0 || mode & 0o020 != 0 && gid != 0)
}

fn location(place: &Place) -> Location {
    Location { place: place.clone(), length: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As keepalived 2.2.7 disabled, or did not, scripts of root with these modes.
    #[test]
    fn open_is_what_others_than_root_can_write() {
        assert!(!is_open(false, 0o755, 0, 0));
        assert!(is_open(false, 0o777, 0, 0), "others");
        assert!(is_open(false, 0o775, 0, 65534), "a group");
        assert!(!is_open(false, 0o775, 0, 0), "the group of root");
        assert!(is_open(false, 0o755, 65534, 0), "the owner");
        assert!(is_open(true, 0o777, 0, 0), "a folder");
        assert!(!is_open(true, 0o1777, 0, 0), "a sticky folder");
        assert!(is_open(true, 0o755, 65534, 0), "the owner of a folder");
    }

    /// A link of root's in a folder that everybody can write, to a program of root's.
    #[test]
    fn link_that_others_can_replace_counts_when_paths_stay_as_written() {
        if !nix::unistd::geteuid().is_root() {
            return; // All parts must be root's to begin with.
        }
        let folder = tempfile::tempdir_in("/run").unwrap();
        let open = folder.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
        let link = open.join("check");
        std::os::unix::fs::symlink("/usr/bin/env", &link).unwrap();
        assert_eq!(open_part(&link, false), None, "what it leads to is root's");
        assert_eq!(open_part(&link, true), Some(open));
        let kept = folder.path().join("check");
        std::os::unix::fs::symlink("/usr/bin/env", &kept).unwrap();
        assert_eq!(open_part(&kept, true), None, "nobody else can replace this one");
    }
}
