//! `vipd convert`: the same configuration in the native format.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const WRITTEN: &str = "\
global_defs {
    lvs_id LB
}
vrrp_instance VI_1 {
    state MASTER
    interface eth0
    virtual_router_id 51
    priority 101
    authentication {
        auth_type PASS
        auth_pass secret
    }
    virtual_ipaddress {
        10.99.0.100/24
    }
}
";

fn vipd(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vipd")).args(arguments).output().unwrap()
}

fn written(directory: &Path, text: &str) -> String {
    let path = directory.join("keepalived.conf");
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_result_is_a_configuration_without_a_problem() {
    let directory = tempfile::tempdir().unwrap();
    let from = written(directory.path(), WRITTEN);
    let to = directory.path().join("vipd.toml");
    let to = to.to_str().unwrap();
    let output = vipd(&["convert", &from, "-o", to]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(to).unwrap();
    assert!(
        text.lines().any(|line| line.starts_with('#') && line.contains("lvs_id")),
        "dropped in silence: {text}"
    );
    for part in ["VI_1", "10.99.0.100/24", "101", "secret"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let checked = vipd(&["check", "--elsewhere", "--format", "json", to]);
    let json: serde_json::Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!((&json["errors"], &json["warnings"]), (&0.into(), &0.into()), "{json:#}");
    assert_eq!(fs::metadata(to).unwrap().permissions().mode() & 0o777, 0o600, "it holds a password");
}

#[test]
fn without_a_file_it_goes_to_standard_output() {
    let directory = tempfile::tempdir().unwrap();
    let from = written(directory.path(), WRITTEN);
    let output = vipd(&["convert", &from]);
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8(output.stdout).unwrap().contains("[[instance]]"));
}

#[test]
fn a_file_that_is_there_is_not_overwritten() {
    let directory = tempfile::tempdir().unwrap();
    let from = written(directory.path(), WRITTEN);
    let output = vipd(&["convert", &from, "-o", &from]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(fs::read_to_string(&from).unwrap(), WRITTEN);
}

#[test]
fn a_configuration_with_errors_is_not_converted_and_they_are_shown() {
    let directory = tempfile::tempdir().unwrap();
    let from = written(directory.path(), &WRITTEN.replace("51", "300"));
    let output = vipd(&["convert", &from]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(String::from_utf8(output.stderr).unwrap().contains("virtual_router_id 300"));
}
