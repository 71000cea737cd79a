//! Under the name `keepalived`: its options, texts and exit codes. Expected values were seen with 2.2.7.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

struct Front {
    directory: tempfile::TempDir,
    program: PathBuf,
}

impl Front {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("keepalived");
        symlink(env!("CARGO_BIN_EXE_vipd"), &program).unwrap();
        Self { directory, program }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(&self.program).args(arguments).output().unwrap()
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path = self.directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// What scripts do to find the version: the first line of `keepalived -v`, the word after the name.
fn parsed_version(text: &str) -> (u32, u32, u32) {
    let word = text.lines().next().unwrap().strip_prefix("Keepalived v").unwrap().split(' ').next().unwrap();
    let mut parts = word.split('.').map(|part| part.parse().unwrap());
    (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap())
}

const GOOD: &str = "\
vrrp_instance VI_1 {
    state BACKUP
    interface lo0.nowhere
    virtual_router_id 51
    priority 100
    virtual_ipaddress {
        10.99.0.100
    }
}
";

#[test]
fn version_goes_to_standard_error_and_parsers_read_it() {
    let front = Front::new();
    for option in ["-v", "--version"] {
        let output = front.run(&[option]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
        assert_eq!(parsed_version(&stderr(&output)), (2, 2, 7));
        assert!(stderr(&output).contains(concat!("vipd ", env!("CARGO_PKG_VERSION"))), "{}", stderr(&output));
    }
}

#[test]
fn help_lists_the_options() {
    let output = Front::new().run(&["--help"]);
    assert_eq!(output.status.code(), Some(0));
    for option in ["-f, --use-file=ARGUMENT", "-n, --dont-fork", "-t, --config-test[=ARGUMENT]", "-P, --vrrp"]
    {
        assert!(stderr(&output).contains(option), "{option}: {}", stderr(&output));
    }
}

#[test]
fn an_unknown_option_is_named_and_fatal() {
    let front = Front::new();
    let cases = [
        ("-z", "Unknown option -z\n"),
        ("--zz", "Unknown option --zz\n"),
        ("--zz=3", "Unknown option --zz=3\n"),
        ("--use-file=", "Missing parameter for option --use-file\n"),
    ];
    for (option, text) in cases {
        let output = front.run(&[option]);
        assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(1), text));
    }
}

#[test]
fn signal_numbers_are_keepaliveds() {
    let front = Front::new();
    for (name, number) in [
        ("STOP", "15"),
        ("RELOAD", "1"),
        ("DATA", "10"),
        ("STATS", "12"),
        ("STATS_CLEAR", "63"),
        ("JSON", "36"),
    ] {
        let output = front.run(&[&format!("--signum={name}")]);
        assert_eq!((output.status.code(), output.stdout), (Some(0), format!("{number}\n").into_bytes()));
    }
    assert_eq!(front.run(&["--signum=FOO"]).status.code(), Some(1));
}

#[test]
fn a_run_without_a_configuration_is_exit_code_6() {
    let front = Front::new();
    for more in [&["-n", "-l"][..], &[]] {
        let output = front.run(&[more, &["-f", "/nonexistent.conf"]].concat());
        assert_eq!(output.status.code(), Some(6), "{more:?}");
        assert_eq!(stderr(&output), "Config files missing '/nonexistent.conf'.\n");
    }
}

#[test]
fn a_test_of_a_missing_configuration_is_content() {
    let output = Front::new().run(&["-t", "-f", "/nonexistent.conf"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(stderr(&output), "Config files missing '/nonexistent.conf'.\n");
}

#[test]
fn a_test_gives_0_for_a_good_file_5_for_complaints_and_2_for_a_missing_parameter() {
    let front = Front::new();
    let test = |text: &str| {
        let file = front.file("keepalived.conf", text);
        let output = front.run(&["-t", "-f", &file]);
        (output.status.code(), stderr(&output).replace(&file, "FILE"))
    };
    let good = GOOD.replace("lo0.nowhere", "eth0");
    let without_interface = good.replace("    interface eth0\n", "    interface\n");
    let (code, text) = test(&without_interface);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("(FILE: Line 3) "), "{text}");
    let served = "virtual_server 10.99.0.1 80 {\n lb_algo rr\n lb_kind NAT\n protocol SCTP\n real_server 10.99.0.2 80 {\n }\n}\n";
    let (code, text) = test(served);
    assert_eq!(code, Some(0), "what keepalived knows and vipd leaves out is no complaint: {text}");
    assert!(text.contains("virtual server 10.99.0.1:80 is left out"), "but it is said: {text}");
    let (code, text) = test(&format!("fooword bar\n{good}"));
    assert_eq!(code, Some(5), "{text}");
    assert!(text.contains("(FILE: Line 1) ") && text.contains("fooword"), "{text}");
}

#[test]
fn a_tests_complaints_go_to_the_file_that_is_given() {
    let front = Front::new();
    let file = front.file("keepalived.conf", "fooword bar\n");
    let report = front.directory.path().join("report");
    let output = front.run(&[&format!("--config-test={}", report.display()), "-f", &file]);
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(5), ""));
    assert!(fs::read_to_string(report).unwrap().contains("fooword"));
}

#[test]
fn a_broken_configuration_does_not_start_and_every_problem_is_said() {
    let front = Front::new();
    let file = front.file("keepalived.conf", "vrrp_instance VI_1 {\n priority\n}\n");
    let pid = front.directory.path().join("pid");
    let pid = pid.to_str().unwrap();
    for more in [&["-n"][..], &[]] {
        let output = front.run(&[more, &["-f", &file, "-p", pid, "-r", pid]].concat());
        assert_eq!(output.status.code(), Some(2), "{more:?}: {}", stderr(&output));
        let text = stderr(&output);
        for part in ["interface", "virtual", "priority"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!Path::new(pid).exists());
    }
}

/// 2.2.7 says so in its log and exits with 0.
#[test]
fn a_pid_file_of_a_living_process_stops_a_second_start() {
    let front = Front::new();
    let file = front.file("keepalived.conf", GOOD);
    let pid = front.file("pid", &format!("{}\n", std::process::id()));
    let output = front.run(&["-n", "-l", "-G", "-f", &file, "-p", &pid, "-r", &pid]);
    assert_eq!(output.status.code(), Some(0));
    assert!(stderr(&output).ends_with(": daemon is already running\n"), "{}", stderr(&output));
    assert_eq!(fs::read_to_string(pid).unwrap(), format!("{}\n", std::process::id()));
}

/// `Sat Nov 21 07:26:08 2026: text`
#[test]
fn a_console_line_has_keepaliveds_head() {
    let front = Front::new();
    let file = front.file("keepalived.conf", GOOD);
    let pid = front.file("pid", &format!("{}\n", std::process::id()));
    let output = front.run(&["-n", "-l", "-G", "-f", &file, "-p", &pid]);
    let text = stderr(&output);
    let line = text.lines().find(|line| line.contains("Starting Keepalived v2.2.7")).unwrap();
    let (head, rest) = line.split_at("Sat Nov 21 07:26:08 2026: ".len());
    assert!(rest.starts_with("Starting Keepalived v"), "{line}");
    let words: Vec<&str> = head.split_whitespace().collect();
    assert_eq!(words.len(), 5, "{head}");
    assert!(words[4].ends_with(':') && words[3].matches(':').count() == 2, "{head}");
    assert!(text.contains(&format!(": Configuration file {file}\n")), "{text}");
}

#[test]
fn words_that_are_no_options_are_said_and_left_alone() {
    let output = Front::new().run(&["-t", "-f", "/nonexistent.conf", "foo", "bar"]);
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "Unexpected argument(s): foo bar \n");
}

#[test]
fn a_file_name_may_be_a_pattern() {
    let front = Front::new();
    front.file("one.conf", GOOD);
    front.file("two.conf", "fooword\n");
    let pattern = front.directory.path().join("*.conf");
    let output = front.run(&["-t", "-f", pattern.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(5));
    assert!(stderr(&output).contains("two.conf: Line 1) "), "{}", stderr(&output));
}

#[test]
fn what_vipd_cannot_do_is_refused_and_not_ignored() {
    let front = Front::new();
    let output = front.run(&["--genhash", "-n", "-f", "/dev/null"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("vipd"), "{}", stderr(&output));
}
