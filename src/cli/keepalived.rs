//! The front under the name `keepalived`: its options, exit codes, pid files and habits, so that a link named
//! keepalived runs in place of it in an existing unit file or container.

mod background;
mod options;
mod test;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};

use self::options::{Given, Name};
use super::output;
use crate::daemon::{self, Front, pid, process};
use crate::guard::{Life, ToGuard};
use crate::observe::keepalived::{RELEASE, files};
use crate::observe::log::{self, keepalived as ways};

const DEFAULT_FILE: &str = "/etc/keepalived/keepalived.conf";

/// Exit codes of keepalived, from its code.
mod exit {
    pub const FATAL: u8 = 1;
    pub const CANNOT_RUN: u8 = 2;
    pub const NO_SUCH_INTERFACE: u8 = 4;
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
    without_vrrp: bool,
    without_checkers: bool,
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
    let test = last(Name::ConfigTest);
    if test.is_none()
        && let Some(Err(error)) = namespace.as_deref().map(process::enter_namespace)
    {
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
        // Both together are everything.
        without_vrrp: last(Name::OnlyCheckers).is_some() && last(Name::OnlyVrrp).is_none(),
        without_checkers: last(Name::OnlyVrrp).is_some() && last(Name::OnlyCheckers).is_none(),
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
    match test {
        Some(test) => test::run(&wanted, test.argument.as_deref().map(Path::new)),
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
    fn load(&self) -> config::Loaded {
        let options =
            config::LoadOptions { config_id: self.config_id.clone(), ..config::LoadOptions::default() };
        config::load(&self.paths(), &options)
    }

    fn paths(&self) -> Vec<&Path> {
        self.files.iter().map(PathBuf::as_path).collect()
    }
}

fn missing(file: &Path) -> String {
    format!("Config files missing '{}'.\n", file.display())
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
        let diagnostics = wanted.load().diagnostics;
        if diagnostics.has_errors() || (wanted.all_config && test::lacks_an_include(&diagnostics)) {
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
        without_vrrp: wanted.without_vrrp,
        without_checkers: wanted.without_checkers,
        dump: wanted.dump,
        config_id: wanted.config_id,
        front: Front::Keepalived,
        is_guarded: true,
        guard: ToGuard::none(),
        life: Life::default(),
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
