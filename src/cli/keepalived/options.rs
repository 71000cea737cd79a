//! keepalived's own options, read as its `getopt_long` reads them.
//!
//! Short options may stand together (`-nlD`) and have their argument with them or after them (`-fFILE`, `-f FILE`);
//! long ones may be cut as long as they are unique, and take `=ARGUMENT` or the next word.

use std::ffi::OsString;

/// What an option stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// `-f`
    UseFile,
    /// `-n`
    DontFork,
    /// `-l`
    LogConsole,
    /// `-D`
    LogDetail,
    /// `-d`
    DumpConf,
    /// `-t`
    ConfigTest,
    /// `-p`
    Pid,
    /// `-r`
    VrrpPid,
    /// `-c`
    CheckersPid,
    /// `-b`
    BfdPid,
    /// `-B`
    NoBfd,
    /// `-S`
    LogFacility,
    /// `-g`
    LogFile,
    /// `-G`
    NoSyslog,
    /// `-V`
    LeaveEverything,
    /// `-m`
    CoreDump,
    /// `-e`
    AllConfig,
    /// `-C`
    OnlyCheckers,
    /// `-P`
    OnlyVrrp,
    /// `-u`
    Umask,
    /// `-s`
    Namespace,
    /// `-i`
    ConfigId,
    /// `--signum`
    Signum,
    /// `-T`
    Genhash,
    /// `-v`
    Version,
    /// `-h`
    Help,
    /// Read, and without an effect that would be missed.
    Quiet,
    /// Read, and without effect: the reason.
    Without(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Takes {
    Nothing,
    Argument,
    /// Only in the same word.
    Optional,
}

struct Spec(Option<char>, &'static str, Takes, Name);

const NO_IPVS: &str = "vipd uses no IPVS";
const NO_SNMP: &str = "there is no SNMP; metrics are served on the control socket";

use Name::{Quiet, Without};
use Takes::{Argument, Nothing, Optional};

#[rustfmt::skip]
const SPECS: [Spec; 41] = [
    Spec(Some('f'), "use-file", Argument, Name::UseFile),
    Spec(Some('P'), "vrrp", Nothing, Name::OnlyVrrp),
    Spec(Some('C'), "check", Nothing, Name::OnlyCheckers),
    Spec(Some('B'), "no_bfd", Nothing, Name::NoBfd),
    Spec(None, "all", Nothing, Quiet),
    Spec(Some('l'), "log-console", Nothing, Name::LogConsole),
    Spec(Some('D'), "log-detail", Nothing, Name::LogDetail),
    Spec(Some('S'), "log-facility", Argument, Name::LogFacility),
    Spec(Some('g'), "log-file", Optional, Name::LogFile),
    Spec(None, "flush-log-file", Nothing, Quiet),
    Spec(Some('G'), "no-syslog", Nothing, Name::NoSyslog),
    Spec(Some('u'), "umask", Argument, Name::Umask),
    Spec(Some('X'), "release-vips", Nothing, Quiet),
    Spec(Some('V'), "dont-release-vrrp", Nothing, Name::LeaveEverything),
    Spec(Some('I'), "dont-release-ipvs", Nothing, Without(NO_IPVS)),
    Spec(Some('R'), "dont-respawn", Nothing, Without("starting again is left to the service manager")),
    Spec(Some('n'), "dont-fork", Nothing, Name::DontFork),
    Spec(Some('d'), "dump-conf", Nothing, Name::DumpConf),
    Spec(Some('p'), "pid", Argument, Name::Pid),
    Spec(Some('r'), "vrrp_pid", Argument, Name::VrrpPid),
    Spec(Some('c'), "checkers_pid", Argument, Name::CheckersPid),
    Spec(Some('b'), "bfd_pid", Argument, Name::BfdPid),
    Spec(Some('T'), "genhash", Nothing, Name::Genhash),
    Spec(Some('a'), "address-monitoring", Nothing, Without("`vipd events` shows what concerns the virtual addresses")),
    Spec(Some('x'), "snmp", Nothing, Without(NO_SNMP)),
    Spec(Some('A'), "snmp-agent-socket", Argument, Without(NO_SNMP)),
    Spec(Some('s'), "namespace", Argument, Name::Namespace),
    Spec(Some('m'), "core-dump", Nothing, Name::CoreDump),
    Spec(Some('M'), "core-dump-pattern", Optional, Without("the pattern of core files is left to the host (kernel.core_pattern)")),
    Spec(Some('e'), "all-config", Nothing, Name::AllConfig),
    Spec(Some('i'), "config-id", Argument, Name::ConfigId),
    Spec(None, "signum", Argument, Name::Signum),
    Spec(Some('t'), "config-test", Optional, Name::ConfigTest),
    Spec(None, "perf", Optional, Without("it is for keepalived's developers")),
    Spec(None, "debug", Optional, Without("it is for keepalived's developers")),
    Spec(None, "ignore-sigint", Nothing, Without("SIGINT stops the daemon")),
    Spec(Some('v'), "version", Nothing, Name::Version),
    Spec(Some('h'), "help", Nothing, Name::Help),
    // Names of older releases that unit files still use.
    Spec(None, "vrrp-pid", Argument, Name::VrrpPid),
    Spec(None, "checkers-pid", Argument, Name::CheckersPid),
    Spec(None, "only-vrrp", Nothing, Name::OnlyVrrp),
];

/// One option as it was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Which.
    pub name: Name,
    /// `-n` or `--dont-fork`, for messages.
    pub word: String,
    /// Its argument.
    pub argument: Option<String>,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    /// In their order.
    pub given: Vec<Given>,
    /// Words that are no options: said, and left alone.
    pub unexpected: Vec<String>,
}

/// Reads everything after the program's name.
///
/// # Errors
/// One line for each option that is wrong.
pub fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Line, Vec<String>> {
    let mut words = Vec::new();
    let mut wrong = Vec::new();
    for word in arguments {
        match word.into_string() {
            Ok(word) => words.push(word),
            Err(word) => wrong.push(format!("Option {} is not UTF-8", word.display())),
        }
    }
    let mut words = words.into_iter();
    let mut line = Line::default();
    while let Some(word) = words.next() {
        if word == "--" {
            line.unexpected.extend(words.by_ref());
        } else if let Some(long) = word.strip_prefix("--") {
            match read_long(long, &mut words) {
                Ok(given) => line.given.push(given),
                Err(problem) => wrong.push(problem),
            }
        } else if let Some(shorts) = word.strip_prefix('-').filter(|shorts| !shorts.is_empty()) {
            wrong.extend(read_shorts(shorts, &mut words, &mut line.given).err());
        } else {
            line.unexpected.push(word);
        }
    }
    if wrong.is_empty() { Ok(line) } else { Err(wrong) }
}

fn read_long(word: &str, rest: &mut impl Iterator<Item = String>) -> Result<Given, String> {
    let (name, argument) = match word.split_once('=') {
        Some((name, argument)) => (name, Some(argument.to_owned())),
        None => (word, None),
    };
    let exact = SPECS.iter().find(|Spec(_, long, ..)| *long == name);
    let mut cut = SPECS.iter().filter(|Spec(_, long, ..)| !name.is_empty() && long.starts_with(name));
    let unique = cut.next().filter(|_| cut.next().is_none());
    let Spec(_, long, takes, meaning) = exact.or(unique).ok_or_else(|| format!("Unknown option --{word}"))?;
    let word = format!("--{long}");
    let argument = match (takes, argument) {
        (Nothing, Some(argument)) => return Err(format!("Unknown option {word}={argument}")),
        (Argument, Some(argument)) if argument.is_empty() => {
            return Err(format!("Missing parameter for option {word}"));
        }
        (Argument, None) => Some(rest.next().ok_or_else(|| format!("Missing parameter for option {word}"))?),
        (_, argument) => argument,
    };
    Ok(Given { name: *meaning, word, argument })
}

fn read_shorts(
    shorts: &str,
    rest: &mut impl Iterator<Item = String>,
    given: &mut Vec<Given>,
) -> Result<(), String> {
    for (at, letter) in shorts.char_indices() {
        let word = format!("-{letter}");
        let spec = SPECS.iter().find(|Spec(short, ..)| *short == Some(letter));
        let Spec(_, _, takes, name) = spec.ok_or_else(|| format!("Unknown option {word}"))?;
        let behind = &shorts[at + letter.len_utf8()..];
        if *takes == Nothing {
            given.push(Given { name: *name, word, argument: None });
            continue;
        }
        let attached = (!behind.is_empty()).then(|| behind.to_owned());
        let argument = match (takes, attached) {
            (Argument, None) => {
                Some(rest.next().ok_or_else(|| format!("Missing parameter for option {word}"))?)
            }
            (_, attached) => attached,
        };
        given.push(Given { name: *name, word, argument });
        return Ok(());
    }
    Ok(())
}

/// Text of `--help`.
pub fn help() -> String {
    let mut text = String::from("Usage: keepalived [OPTION...]   (this is vipd under the name keepalived)\n");
    for Spec(short, long, takes, name) in SPECS.iter().take_while(|Spec(_, long, ..)| *long != "vrrp-pid") {
        let short = short.map_or("    ".to_owned(), |letter| format!("-{letter}, "));
        let argument = match takes {
            Nothing => "",
            Argument => "=ARGUMENT",
            Optional => "[=ARGUMENT]",
        };
        text.push_str(&format!("  {short}{:<34} {}\n", format!("--{long}{argument}"), meaning(*name)));
    }
    text + "\nExit codes: 0 stopped, or tested without a complaint; 1 fatal error; 2 the configuration cannot run;\n\
            4 missing permission; 5 --config-test reported something; 6 no configuration file\n"
}

fn meaning(name: Name) -> String {
    match name {
        Name::UseFile => "configuration file [/etc/keepalived/keepalived.conf]".to_owned(),
        Name::DontFork => "stay in the foreground".to_owned(),
        Name::LogConsole => "log to standard error too; only with -n".to_owned(),
        Name::LogDetail => "log why decisions are made".to_owned(),
        Name::DumpConf => "print the configuration as it was understood".to_owned(),
        Name::ConfigTest => "test the configuration; complaints to standard error or FILE".to_owned(),
        Name::Pid => "pid file [/run/keepalived.pid]".to_owned(),
        Name::VrrpPid => "second pid file [/run/vrrp.pid]".to_owned(),
        Name::CheckersPid => "third pid file, with virtual servers [/run/checkers.pid]".to_owned(),
        Name::BfdPid => "fourth pid file, with BFD [/run/bfd.pid]".to_owned(),
        Name::NoBfd => "without BFD".to_owned(),
        Name::LogFacility => "syslog facility: 0 to 7 or local0 to local7, user, daemon [daemon]".to_owned(),
        Name::LogFile => "log to this file too [/tmp/keepalived.log]".to_owned(),
        Name::NoSyslog => "no syslog".to_owned(),
        Name::LeaveEverything => "leave addresses in place at the end, send no priority 0".to_owned(),
        Name::CoreDump => "allow core files".to_owned(),
        Name::AllConfig => "a missing include is an error".to_owned(),
        Name::OnlyCheckers => "only virtual servers and their checks".to_owned(),
        Name::OnlyVrrp => "only VRRP".to_owned(),
        Name::Umask => "umask; octal begins with 0, hex with 0x".to_owned(),
        Name::Namespace => "run in this network namespace of /run/netns".to_owned(),
        Name::ConfigId => "keep lines that begin with @ID [host name up to its first dot]".to_owned(),
        Name::Signum => "print the number of STOP, RELOAD, DATA, STATS, STATS_CLEAR or JSON".to_owned(),
        Name::Genhash => "refused: there is no genhash".to_owned(),
        Name::Version => "print the version".to_owned(),
        Name::Help => "print this".to_owned(),
        Name::Quiet => "accepted; it is so anyway".to_owned(),
        Name::Without(why) => format!("accepted, without effect: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(line: &str) -> Result<Vec<(Name, Option<String>)>, String> {
        let line = read(line.split_whitespace().map(OsString::from)).map_err(|wrong| wrong.join("|"))?;
        Ok(line.given.into_iter().map(|given| (given.name, given.argument)).collect())
    }

    fn file(path: &str) -> (Name, Option<String>) {
        (Name::UseFile, Some(path.to_owned()))
    }

    #[test]
    fn short_options_stand_together_and_with_their_argument() {
        let flags = [(Name::DontFork, None), (Name::LogConsole, None), (Name::LogDetail, None)];
        assert_eq!(names("-nlD"), Ok(flags.to_vec()));
        for line in ["-f /x", "-f/x", "--use-file /x", "--use-file=/x", "--use=/x"] {
            assert_eq!(names(line), Ok(vec![file("/x")]), "{line}");
        }
        assert_eq!(names("-nf /x"), Ok(vec![(Name::DontFork, None), file("/x")]));
    }

    #[test]
    fn an_optional_argument_is_in_the_same_word() {
        assert_eq!(names("-t -f /x"), Ok(vec![(Name::ConfigTest, None), file("/x")]));
        assert_eq!(names("-t/log"), Ok(vec![(Name::ConfigTest, Some("/log".to_owned()))]));
        assert_eq!(names("--config-test=/log"), Ok(vec![(Name::ConfigTest, Some("/log".to_owned()))]));
    }

    /// Texts of keepalived 2.2.7.
    #[test]
    fn what_is_wrong_is_said_as_keepalived_says_it() {
        assert_eq!(names("-z"), Err("Unknown option -z".to_owned()));
        assert_eq!(names("--zz"), Err("Unknown option --zz".to_owned()));
        assert_eq!(names("--conf"), Err("Unknown option --conf".to_owned()), "it may be -t or -i");
        assert_eq!(names("-t -f"), Err("Missing parameter for option -f".to_owned()));
        assert_eq!(names("--zz=3 -y"), Err("Unknown option --zz=3|Unknown option -y".to_owned()));
        assert_eq!(names("--no-syslog=3"), Err("Unknown option --no-syslog=3".to_owned()));
        assert_eq!(names("--use-file="), Err("Missing parameter for option --use-file".to_owned()));
        let line = read(["-n", "foo", "bar"].map(OsString::from)).unwrap();
        assert_eq!(line.unexpected, ["foo", "bar"], "which is no error");
    }

    #[test]
    fn no_two_options_share_a_name() {
        for (i, Spec(short, long, ..)) in SPECS.iter().enumerate() {
            let mut others = SPECS.iter().skip(i + 1);
            assert!(others.all(|Spec(s, l, ..)| l != long && (s.is_none() || s != short)), "{long}");
        }
    }
}
