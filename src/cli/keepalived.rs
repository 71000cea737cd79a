//! The front under the name `keepalived`: its options, exit codes, pid files and habits, so that a link named
//! keepalived runs in place of it in an existing unit file or container.

mod background;
mod options;

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::diagnostic::{Diagnostic, Diagnostics, Severity};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::kill;
use nix::sys::stat::{Mode, umask};
use nix::unistd::Pid;

use self::options::{Given, Name};
use super::output;
use crate::daemon::{self, Front};
use crate::observe::log;

/// The release whose options and texts this front follows.
const FOLLOWS: &str = "Keepalived v2.2.7 (01/16,2022)";
const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";
const PID_FILE: &str = "/run/keepalived.pid";
const VRRP_PID_FILE: &str = "/run/vrrp.pid";

/// Exit codes of keepalived, from its code.
mod exit {
    pub const FATAL: u8 = 1;
    pub const CANNOT_RUN: u8 = 2;
    pub const REPORTED: u8 = 5;
    pub const NO_FILE: u8 = 6;
}

/// What keepalived's options ask for.
#[derive(Debug)]
struct Wanted {
    file: PathBuf,
    config_id: Option<String>,
    foreground: bool,
    console: bool,
    detail: bool,
    dump: bool,
    pid_files: Vec<PathBuf>,
}

/// Runs as keepalived does; `arguments` are those after the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let given = match options::read(arguments) {
        Ok(given) => given,
        Err(problem) => return refuse(&problem),
    };
    let last = |name: Name| given.iter().rev().find(|given| given.name == name);
    let argument = |name: Name| last(name).and_then(|given| given.argument.clone());
    if last(Name::Help).is_some() {
        eprint!("{}", options::help());
        return ExitCode::SUCCESS;
    }
    if last(Name::Version).is_some() {
        eprintln!("{FOLLOWS}\n\nThis is vipd {} under the name keepalived.", env!("CARGO_PKG_VERSION"));
        return ExitCode::SUCCESS;
    }
    if let Some(name) = argument(Name::Signum) {
        return signal_number(&name);
    }
    if last(Name::Genhash).is_some() {
        return refuse("There is no genhash in vipd");
    }
    if last(Name::OnlyCheckers).is_some() && last(Name::OnlyVrrp).is_none() {
        return refuse("vipd has no virtual servers to check: with --check alone there is nothing to run");
    }
    if let Some(problem) = prepare_process(argument(Name::Umask), argument(Name::Namespace)) {
        return refuse(&problem);
    }
    let pid_file =
        |name, default: Option<&str>| argument(name).or(default.map(str::to_owned)).map(PathBuf::from);
    let pid_files = [
        pid_file(Name::Pid, Some(PID_FILE)),
        pid_file(Name::VrrpPid, Some(VRRP_PID_FILE)),
        pid_file(Name::CheckersPid, None),
    ];
    let wanted = Wanted {
        file: PathBuf::from(argument(Name::UseFile).unwrap_or_else(|| DEFAULT_FILE.to_owned())),
        config_id: argument(Name::ConfigId),
        foreground: last(Name::DontFork).is_some(),
        console: last(Name::LogConsole).is_some(),
        detail: last(Name::LogDetail).is_some(),
        dump: last(Name::DumpConf).is_some(),
        pid_files: pid_files.into_iter().flatten().collect(),
    };
    match last(Name::ConfigTest) {
        Some(test) => config_test(&wanted, test.argument.as_deref().map(Path::new)),
        None => start(wanted, &given),
    }
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::from(exit::FATAL)
}

/// Umask and namespace; gives what went wrong.
fn prepare_process(mask: Option<String>, namespace: Option<String>) -> Option<String> {
    if let Some(text) = mask {
        let Some(mask) = parse_umask(&text) else {
            return Some(format!(
                "Invalid umask {text}: expected octal digits, or hexadecimal ones after 0x"
            ));
        };
        umask(Mode::from_bits_truncate(mask));
    }
    let namespace = namespace?;
    let path = Path::new("/run/netns").join(&namespace);
    let entered = File::open(&path).and_then(|file| Ok(setns(file, CloneFlags::CLONE_NEWNET)?));
    entered
        .err()
        .map(|error| format!("Cannot enter network namespace {namespace} ({}): {error}", path.display()))
}

fn parse_umask(text: &str) -> Option<u32> {
    let mask = match text.strip_prefix("0x") {
        Some(hex) => u32::from_str_radix(hex, 16),
        None => u32::from_str_radix(text, 8),
    };
    mask.ok().filter(|mask| *mask <= 0o777)
}

fn signal_number(name: &str) -> ExitCode {
    let number = match name {
        "STOP" => 15,
        "RELOAD" => 1,
        "DATA" => 10,
        "STATS" => 12,
        "STATS_CLEAR" => 63,
        "JSON" => 36,
        _ => return refuse(&format!("Unknown sigfunc {name}")),
    };
    output::print(&format!("{number}\n"))
}

impl Wanted {
    fn load(&self, check_host: bool) -> Diagnostics {
        let options = config::LoadOptions {
            config_id: self.config_id.clone(),
            check_host,
            ..config::LoadOptions::default()
        };
        config::load(&[&self.file], &options).diagnostics
    }
}

/// `-t`: one line for each complaint, and what keepalived's exit code says of them.
fn config_test(wanted: &Wanted, report: Option<&Path>) -> ExitCode {
    let mut report: Box<dyn Write> = match report.map(File::create) {
        None => Box::new(io::stderr()),
        Some(Ok(file)) => Box::new(file),
        Some(Err(error)) => return refuse(&format!("Cannot write the report: {error}")),
    };
    let (text, code) = if wanted.file.exists() {
        let diagnostics = wanted.load(true);
        (complaints(&diagnostics), test_result(&diagnostics))
    } else {
        // keepalived 2.2.7 says so and is content.
        (missing(&wanted.file), 0)
    };
    match report.write_all(text.as_bytes()) {
        Ok(()) => ExitCode::from(code),
        Err(error) => refuse(&format!("Cannot write the report: {error}")),
    }
}

fn missing(file: &Path) -> String {
    format!("Config files missing '{}'.\n", file.display())
}

/// Errors and warnings as keepalived shows them: `(FILE: Line N) text`.
fn complaints(diagnostics: &Diagnostics) -> String {
    let mut text = String::new();
    for finding in diagnostics.iter().filter(|finding| finding.severity != Severity::Notice) {
        let place = &finding.location.place;
        text.push_str(&format!("({}: Line {}, column {}) ", place.file, place.line, place.column));
        text.push_str(&finding.message);
        if let Some(expected) = &finding.expected {
            text.push_str(&format!("; expected {expected}"));
        }
        text.push('\n');
    }
    text
}

/// Findings about vipd or this host that keepalived's test does not have: they are shown, but a file that
/// keepalived is content with still passes (`ExecStartPre=keepalived -t`).
const OURS: [&str; 4] = ["not-supported-yet", "load-balancing", "script-missing", "include-missing"];

/// 2 when a parameter is missing, 5 when anything else was reported, 0 otherwise.
fn test_result(diagnostics: &Diagnostics) -> u8 {
    if diagnostics
        .iter()
        .any(|finding| finding.severity == Severity::Error && finding.code == "missing-parameter")
    {
        exit::CANNOT_RUN
    } else if diagnostics.iter().any(is_keepalived_complaint) {
        exit::REPORTED
    } else {
        0
    }
}

fn is_keepalived_complaint(finding: &Diagnostic) -> bool {
    match finding.severity {
        Severity::Error => true,
        Severity::Warning => !OURS.contains(&finding.code),
        Severity::Notice => false,
    }
}

fn start(wanted: Wanted, given: &[Given]) -> ExitCode {
    for given in given {
        if let Name::Without(why) = given.name {
            eprintln!("Option {} has no effect here: {why}", given.word);
        }
    }
    if !wanted.file.exists() {
        eprint!("{}", missing(&wanted.file));
        return ExitCode::from(exit::NO_FILE);
    }
    if let Some(path) = wanted.pid_files.iter().find(|path| names_another_process(path)) {
        return refuse(&format!("daemon is already running (says {})", path.display()));
    }
    if wanted.dump {
        dump(&wanted);
    }
    // A shell or a unit of type forking sees the exit code of this process: what can be known is known before.
    if !wanted.foreground {
        let diagnostics = wanted.load(false);
        if diagnostics.has_errors() {
            eprint!("{}", diagnostics.render_human(false));
            return ExitCode::from(exit::CANNOT_RUN);
        }
    }
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let options = daemon::Options {
        files: vec![absolute(wanted.file)],
        log: log::Options {
            filter: wanted.detail.then(|| "info,vipd=debug".to_owned()),
            // The reader of /dev/log has a clock of its own.
            without_time: !wanted.foreground && !wanted.console,
            ..log::Options::default()
        },
        control_socket: None,
        pid_files: wanted.pid_files.into_iter().map(absolute).collect(),
        config_id: wanted.config_id,
        front: Front::Keepalived,
    };
    if !wanted.foreground {
        match background::enter(wanted.console) {
            Ok(background::Side::Daemon) => {}
            Ok(background::Side::Starter) => return ExitCode::SUCCESS,
            Err(error) => return refuse(&format!("Cannot go into the background: {error}")),
        }
    }
    daemon::run(options)
}

fn dump(wanted: &Wanted) {
    let options =
        config::LoadOptions { config_id: wanted.config_id.clone(), ..config::LoadOptions::default() };
    if let Some(config) = config::load(&[&wanted.file], &options).config {
        // The model is plain data; what could not be shown would only be missing here.
        eprintln!("{}", serde_json::to_string_pretty(&config).unwrap_or_default());
    }
}

/// A pid file of a living process that is not this one (in a container everybody was pid 1 once).
fn names_another_process(path: &Path) -> bool {
    let pid = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
    pid.is_some_and(|pid: i32| {
        pid > 0 && pid != Pid::this().as_raw() && kill(Pid::from_raw(pid), None).is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umask_is_octal_or_hexadecimal() {
        assert_eq!(parse_umask("022"), Some(0o22));
        assert_eq!(parse_umask("0x12"), Some(0o22));
        assert_eq!(parse_umask("9"), None);
        assert_eq!(parse_umask("7777"), None);
    }

    #[test]
    fn a_pid_file_of_ourselves_or_of_nobody_is_no_obstacle() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pid");
        assert!(!names_another_process(&path));
        for (content, another) in [("1\n", true), ("0\n", false), ("garbage", false), ("999999999\n", false)]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(names_another_process(&path), another, "{content}");
        }
        fs::write(&path, std::process::id().to_string()).unwrap();
        assert!(!names_another_process(&path));
    }
}
