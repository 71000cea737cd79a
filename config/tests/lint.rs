//! Every folder of `tests/lints` holds `input.conf`, often `peer.conf`, and what `vipd check` says about
//! them. `UPDATE_GOLDEN=1` rewrites what is expected.
//!
//! Two keepalived 2.2.7 on one network were given each pair of `peer-*`: both became MASTER in all that are
//! said to be two masters, one did in those that are not. With the checks of `weight-*` made to fail the
//! addresses moved in those about which nothing is said, and stayed in the others.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use config::ready::User;
use config::users::Users;
use config::{LoadOptions, Peer, check, load};

fn options() -> LoadOptions {
    let root = User { name: "root".into(), uid: 0, gid: 0 };
    LoadOptions {
        config_id: Some("lb1".into()),
        host_name: Some("lb1.example.org".into()),
        users: Users::Fixed(vec![root]),
        ..LoadOptions::default()
    }
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<_> =
        std::fs::read_dir("tests/lints").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 20, "{} cases", cases.len());
    cases
}

fn shown(case: &Path) -> String {
    let mut peers: Vec<_> = ["peer.conf", "peer-2.conf"].map(|name| case.join(name)).into();
    peers.retain(|peer| peer.exists());
    let peers: Vec<_> = peers.iter().map(|path| Peer { path, config_id: None }).collect();
    let mut text = String::new();
    for finding in &check(&[&case.join("input.conf")], &peers, &options()) {
        let _ = writeln!(text, "{finding}");
        let _ = writeln!(text, "    {}", finding.help.as_deref().unwrap_or("no help"));
    }
    text.replace(&format!("{}/", case.display()), "")
}

#[test]
fn every_case_says_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let found = shown(&case);
        let golden = case.join("expected.txt");
        if update {
            std::fs::write(&golden, &found).unwrap();
        } else if std::fs::read_to_string(&golden).ok().as_ref() != Some(&found) {
            differing.push(format!("=== {}\n{found}", case.display()));
        }
    }
    assert!(differing.is_empty(), "what is said differs from expected.txt:\n{}", differing.join("\n"));
}

/// Whatever keepalived runs with runs here: only a peer may bring an error, of its own file.
#[test]
fn no_lint_is_an_error() {
    for case in cases() {
        let input = case.join("input.conf");
        assert_eq!(
            check(&[&input], &[], &options()).has_errors(),
            load(&[&input], &options()).config.is_none(),
            "{}",
            case.display()
        );
    }
}

/// One file for all routers, with `@ID` lines.
#[test]
fn a_peer_may_be_the_same_file_read_with_another_id() {
    let path = Path::new("tests/lint-same-file.conf");
    let said = |config_id| {
        let found = check(&[path], &[Peer { path, config_id }], &options());
        found.iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    assert_eq!(said(Some("lb2")), [""; 0], "priorities 150 and 100, each the other's peer");
    assert_eq!(said(None), ["peer-priority", "peer-not-listed", "peer-not-listed"], "beside itself");
}

#[test]
fn toml_is_judged_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, priority: u8| {
        let text = format!(
            "[[check]]\nname = \"up\"\ntcp = \"127.0.0.1:80\"\n\n[[instance]]\nname = \"V1\"\ninterface = \"eth0\"\nvrid = 51\n\
             priority = {priority}\naddresses = [\"10.99.0.100/24\"]\ntrack = [{{ check = \"up\", weight = -20 }}]\n"
        );
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (here, there) = (write("lb1.toml", 150), write("lb2.toml", 100));
    let found = check(&[&here], &[Peer { path: &there, config_id: None }], &options());
    let found: Vec<_> = found.iter().map(|f| (f.code, f.location.place.line)).collect();
    assert_eq!(found, [("weight-moves-nothing", 11)]);
}
