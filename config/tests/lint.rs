//! Every folder of `tests/lints` holds `input.conf`, often `peer.conf`, and what `vipd check` says about
//! them. `UPDATE_GOLDEN=1` rewrites what is expected.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use config::ready::User;
use config::users::Users;
use config::{LoadOptions, check, load};

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
    let peers: Vec<_> = peers.iter().map(PathBuf::as_path).collect();
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
