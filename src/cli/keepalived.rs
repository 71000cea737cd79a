//! The front under the name `keepalived`: its options, exit codes, pid files and habits, so that a link named
//! keepalived runs in place of it in an existing unit file or container.

mod background;
mod options;
mod scripts;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::diagnostic::{Diagnostic, Diagnostics, Severity};
use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

use self::options::{Given, Name};
use super::output;
use crate::daemon::{self, Front, pid, process};
use crate::observe::keepalived::{RELEASE, files};
use crate::observe::log::{self, keepalived as ways};

const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";

/// Exit codes of keepalived, from its code.
mod exit {
    pub const FATAL: u8 = 1;
    pub const CANNOT_RUN: u8 = 2;
    pub const REPORTED: u8 = 5;
    /// Under `-t`; of a normal run the same number says that there is no file.
    pub const SCRIPT_SECURITY: u8 = 6;
    pub const NO_FILE: u8 = 6;
}

/// What keepalived's options ask for.
#[derive(Debug)]
struct Wanted {
    /// As it was given; it may be a pattern.
    pattern: PathBuf,
    /// What it stands for; empty when there is nothing.
    files: Vec<PathBuf>,
    config_id: Option<String>,
    foreground: bool,
    detail: bool,
    dump: bool,
    all_config: bool,
    without_bfd: bool,
    leave_everything: bool,
    umask: Option<u32>,
    namespace: Option<String>,
    pid_files: pid::Wanted,
    log: ways::Ways,
}

/// Runs as keepalived does; `arguments` are those after the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match options::read(arguments) {
        Ok(line) => line,
        Err(problems) => return refuse(&problems.join("\n")),
    };
    let given = line.given;
    let last = |name: Name| given.iter().rev().find(|given| given.name == name);
    let argument = |name: Name| last(name).and_then(|given| given.argument.clone());
    if last(Name::Help).is_some() {
        eprint!("{}", options::help());
        return ExitCode::SUCCESS;
    }
    if last(Name::Version).is_some() {
        eprint!("{}", version());
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
    if !line.unexpected.is_empty() {
        println!("Unexpected argument(s): {} ", line.unexpected.join(" "));
    }
    let umask = argument(Name::Umask).and_then(|text| {
        let mask = parse_umask(&text);
        if mask.is_none() {
            eprintln!("Invalid --umask option {text}");
        }
        mask
    });
    let namespace = argument(Name::Namespace);
    if let Some(Err(error)) = namespace.as_deref().map(process::enter_namespace) {
        return refuse(&error.to_string());
    }
    let pattern = PathBuf::from(argument(Name::UseFile).unwrap_or_else(|| DEFAULT_FILE.to_owned()));
    let path = |name| argument(name).map(|path| absolute(path.into()));
    let foreground = last(Name::DontFork).is_some();
    let wanted = Wanted {
        files: config::matching_files(&pattern),
        pattern,
        config_id: argument(Name::ConfigId),
        foreground,
        detail: last(Name::LogDetail).is_some(),
        dump: last(Name::DumpConf).is_some(),
        all_config: last(Name::AllConfig).is_some(),
        without_bfd: last(Name::NoBfd).is_some(),
        leave_everything: last(Name::LeaveEverything).is_some(),
        umask,
        namespace,
        pid_files: pid::Wanted {
            parent: path(Name::Pid),
            vrrp: path(Name::VrrpPid),
            checkers: path(Name::CheckersPid),
            bfd: path(Name::BfdPid),
            as_keepalived: true,
        },
        log: ways::Ways {
            console: foreground && last(Name::LogConsole).is_some(),
            syslog: last(Name::NoSyslog).is_none().then(|| facility(argument(Name::LogFacility))),
            file: last(Name::LogFile).map(|given| {
                let name = given.argument.as_deref().unwrap_or("keepalived.log");
                files::directory().join(name)
            }),
            suffix: String::new(),
        },
    };
    if last(Name::CoreDump).is_some() {
        // Without permission for more the limit stays as it was.
        let _ = setrlimit(Resource::RLIMIT_CORE, libc::RLIM_INFINITY, libc::RLIM_INFINITY);
    }
    match last(Name::ConfigTest) {
        Some(test) => config_test(&wanted, test.argument.as_deref().map(Path::new)),
        None => start(wanted, &given),
    }
}

fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// The first line is keepalived's, for those who parse it; so are the heads of the others.
fn version() -> String {
    let host = nix::sys::utsname::uname().ok();
    let host = host.map_or_else(String::new, |host| {
        format!("Running on {} {}", host.sysname().display(), host.release().display())
    });
    format!(
        "{RELEASE}\n\nThis is vipd {} under the name keepalived.\n\n{host} {}\n\n\
         Config options:  NFTABLES VRRP VRRP_AUTH VRRP_VMAC JSON BFD OLD_CHKSUM_COMPAT SYSTEMD_NOTIFY\n\n\
         System options:  VSYSLOG LIBNL3\n",
        env!("CARGO_PKG_VERSION"),
        "",
    )
    .replace(" \n", "\n")
}

fn refuse(problem: &str) -> ExitCode {
    eprintln!("{problem}");
    ExitCode::from(exit::FATAL)
}

/// A number as C reads it: octal after 0, hexadecimal after 0x.
fn parse_umask(text: &str) -> Option<u32> {
    let mask = match text.strip_prefix('0') {
        None => text.parse(),
        Some("") => Ok(0),
        Some(rest) => match rest.strip_prefix(['x', 'X']) {
            Some(hex) => u32::from_str_radix(hex, 16),
            None => u32::from_str_radix(rest, 8),
        },
    };
    mask.ok().filter(|mask| *mask <= 0o777)
}

/// Numbers of syslog.h. What is none is said, and daemon it is.
fn facility(name: Option<String>) -> u8 {
    const LOCAL0: u8 = 16;
    let Some(name) = name else { return ways::DAEMON };
    match name.as_str() {
        "daemon" => ways::DAEMON,
        "user" => 1,
        other => match other.strip_prefix("local").unwrap_or(other).parse::<u8>() {
            Ok(number) if number <= 7 => LOCAL0 + number,
            _ => {
                eprintln!("Invalid log facility '{name}'");
                ways::DAEMON
            }
        },
    }
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
    fn load(&self, check_host: bool) -> config::Loaded {
        let options = config::LoadOptions {
            config_id: self.config_id.clone(),
            check_host,
            ..config::LoadOptions::default()
        };
        let files: Vec<&Path> = self.files.iter().map(PathBuf::as_path).collect();
        config::load(&files, &options)
    }
}

/// `-t`: one line for each complaint, and what keepalived's exit code says of them.
fn config_test(wanted: &Wanted, report: Option<&Path>) -> ExitCode {
    let open = |path: &Path| {
        let options = File::options().append(true).create(true).custom_flags(libc::O_NOFOLLOW).open(path);
        options.map_err(|error| format!("Unable to open config-test log file {} - {error}", path.display()))
    };
    let mut report: Box<dyn Write> = match report.map(open) {
        None => Box::new(io::stderr()),
        Some(Ok(file)) => Box::new(file),
        Some(Err(problem)) => return refuse(&problem),
    };
    let (text, code) = if wanted.files.is_empty() {
        // keepalived 2.2.7 says so and is content.
        (missing(&wanted.pattern), 0)
    } else {
        let loaded = wanted.load(true);
        let (more, highest) = loaded.config.as_ref().map(scripts::complaints).unwrap_or_default();
        let code = match test_result(&loaded.diagnostics, wanted.all_config) {
            exit::CANNOT_RUN => exit::CANNOT_RUN,
            code => code.max(highest),
        };
        (complaints(&loaded.diagnostics) + &more, code)
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
        text.push_str(&format!("({}: Line {}) ", place.file, place.line));
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
fn test_result(diagnostics: &Diagnostics, all_config: bool) -> u8 {
    if diagnostics
        .iter()
        .any(|finding| finding.severity == Severity::Error && finding.code == "missing-parameter")
    {
        exit::CANNOT_RUN
    } else if diagnostics.iter().any(is_keepalived_complaint) || (all_config && lacks_an_include(diagnostics))
    {
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

fn lacks_an_include(diagnostics: &Diagnostics) -> bool {
    diagnostics.iter().any(|finding| finding.code == "include-missing")
}

fn start(wanted: Wanted, given: &[Given]) -> ExitCode {
    for given in given {
        if let Name::Without(why) = given.name {
            eprintln!("Option {} has no effect here: {why}", given.word);
        }
    }
    if wanted.files.is_empty() {
        eprint!("{}", missing(&wanted.pattern));
        return ExitCode::from(exit::NO_FILE);
    }
    if wanted.files.len() > 1 {
        eprintln!(
            "{} names {} files: they are read one after the other",
            wanted.pattern.display(),
            wanted.files.len()
        );
    }
    // A shell or a unit of type forking sees the exit code of this process: what can be known is known before.
    if !wanted.foreground || wanted.all_config {
        let diagnostics = wanted.load(false).diagnostics;
        if diagnostics.has_errors() || (wanted.all_config && lacks_an_include(&diagnostics)) {
            eprint!("{}", diagnostics.render_human(false));
            return ExitCode::from(exit::CANNOT_RUN);
        }
    }
    let filter = if wanted.detail { "info,keepalived=debug" } else { "warn,keepalived=info" };
    let options = daemon::Options {
        files: wanted.files.into_iter().map(absolute).collect(),
        log: log::Options {
            filter: Some(filter.to_owned()),
            keepalived: Some(wanted.log),
            ..log::Options::default()
        },
        control_socket: None,
        pid_files: wanted.pid_files,
        umask: wanted.umask,
        namespace: wanted.namespace,
        leave_everything: wanted.leave_everything,
        without_bfd: wanted.without_bfd,
        dump: wanted.dump,
        config_id: wanted.config_id,
        front: Front::Keepalived,
    };
    if !wanted.foreground {
        match background::enter() {
            Ok(background::Side::Daemon) => {}
            Ok(background::Side::Starter) => return ExitCode::SUCCESS,
            Err(error) => return refuse(&format!("Cannot go into the background: {error}")),
        }
    }
    daemon::run(options)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn umask_is_a_number_as_c_reads_it() {
        let all = ["022", "0x12", "18", "0"].map(parse_umask);
        assert_eq!(all, [Some(0o22), Some(0o22), Some(0o22), Some(0)]);
        assert_eq!(["09", "999", "u=rwx", ""].map(parse_umask), [None; 4]);
    }

    #[test]
    fn facilities_have_the_numbers_of_syslog() {
        let number = |name: &str| facility(Some(name.to_owned()));
        assert_eq!([number("0"), number("7"), number("local3"), number("user")], [16, 23, 19, 1]);
        assert_eq!([facility(None), number("8"), number("mail")], [3, 3, 3]);
    }
}
