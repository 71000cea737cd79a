//! What the command line says and gives back, seen from outside.

use std::io::Write;
use std::process::{Command, Output, Stdio};

fn vipd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vipd")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Subcommands as the first page lists them.
fn subcommands() -> Vec<String> {
    let help = stdout(&vipd(&["--help"]));
    let list = help.split("Commands:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    list.lines().map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

#[test]
fn version_is_name_and_number() {
    let short = vipd(&["-V"]);
    assert_eq!((stdout(&short).trim(), short.status.code()), ("vipd 0.1.0", Some(0)));
    let long = stdout(&vipd(&["--version"]));
    assert_eq!(long.lines().next(), Some("vipd 0.1.0"));
    assert!(long.contains("RFC 9568") && long.contains("build: "), "{long}");
}

#[test]
fn every_subcommand_helps_with_examples_and_exit_codes() {
    let all = subcommands();
    assert!(all.len() >= 2, "{all:?}");
    for name in all {
        let output = vipd(&[&name, "--help"]);
        assert_eq!(output.status.code(), Some(0), "{name}");
        let help = stdout(&output);
        for part in ["Usage: vipd", "Example", "Exit codes: 0 "] {
            assert!(help.contains(part), "{name} --help lacks {part:?}:\n{help}");
        }
        assert!(help.lines().all(|line| line.chars().count() <= 110), "{name}: a line is too long:\n{help}");
    }
}

#[test]
fn without_a_subcommand_the_help_comes_and_exit_code_2() {
    let output = vipd(&[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("Usage: vipd"));
}

#[test]
fn an_unknown_subcommand_is_named() {
    let output = vipd(&["runn"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("runn"), "{}", stderr(&output));
}

#[test]
fn completions_are_valid_and_know_every_subcommand() {
    for shell in ["bash", "zsh", "fish"] {
        let output = vipd(&["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        let script = stdout(&output);
        for name in subcommands() {
            assert!(script.contains(&name), "{shell} does not know {name}");
        }
        // bash -n reads what zsh's script is made of as well; fish has a language of its own.
        if shell == "bash" {
            let mut bash = Command::new("bash").arg("-n").stdin(Stdio::piped()).spawn().unwrap();
            bash.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
            assert!(bash.wait().unwrap().success());
        }
        if shell == "fish" {
            let mut lines = script.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
            assert!(lines.any(|line| line.starts_with("complete -c vipd")), "{script}");
        }
        if shell == "zsh" {
            assert!(script.starts_with("#compdef vipd\n"), "{script}");
        }
    }
}

#[test]
fn an_unknown_shell_is_refused_with_those_that_are_known() {
    let output = vipd(&["completions", "tcsh"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("bash"), "{}", stderr(&output));
}

#[test]
fn there_is_a_manual_page_for_each_subcommand() {
    let directory = tempfile::tempdir().unwrap();
    let output = vipd(&["man", "--out", directory.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for name in subcommands().iter().map(|name| format!("vipd-{name}")).chain(["vipd".to_owned()]) {
        let page = std::fs::read_to_string(directory.path().join(format!("{name}.1"))).unwrap();
        assert!(page.contains(&format!(".TH {name} 1")), "{page}");
        for section in [".SH NAME", ".SH SYNOPSIS", ".SH OPTIONS", ".SH NOTES"] {
            assert!(page.contains(section), "{name} lacks {section}");
        }
    }
}

#[test]
fn a_manual_page_that_cannot_be_written_is_named() {
    let output = vipd(&["man", "--out", "/proc/nowhere"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("/proc/nowhere"), "{}", stderr(&output));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vipd"))
        .arg("man")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((stderr(&output).as_str(), output.status.code()), ("", Some(0)));
}

#[test]
fn without_a_daemon_the_control_commands_say_what_to_look_at() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("control.sock");
    for command in [&["status"][..], &["status", "--json"], &["events"], &["events", "--follow"], &["reload"]]
    {
        let output = vipd(&[command, &["--socket", socket.to_str().unwrap()]].concat());
        assert_eq!(output.status.code(), Some(1), "{command:?}");
        let text = stderr(&output);
        assert!(
            text.contains(socket.to_str().unwrap()) && text.contains("is vipd running?"),
            "{command:?}: {text}"
        );
        assert_eq!(stdout(&output), "", "{command:?}");
    }
}
