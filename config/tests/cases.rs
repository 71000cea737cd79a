//! Every folder of `tests/cases` holds a configuration and what is said about it: each finding with its
//! place, and the configuration that is run, written as TOML. `UPDATE_GOLDEN=1` rewrites what is expected.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use config::ready::{Route, Rule, User};
use config::users::Users;
use config::{LoadOptions, Loaded, load, to_toml, without_places};

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
        std::fs::read_dir("tests/cases").unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() > 60, "{} cases", cases.len());
    cases
}

fn shown(loaded: &Loaded) -> String {
    let mut text = String::new();
    for finding in &loaded.diagnostics {
        let _ = writeln!(text, "{finding} (length {})", finding.location.length);
        if let Some(help) = &finding.help {
            let _ = writeln!(text, "    {help}");
        }
    }
    match &loaded.config {
        Some(config) => {
            let _ = write!(text, "---\n{}", to_toml(config, &Default::default()));
        }
        None => text.push_str("--- does not run\n"),
    }
    text
}

#[test]
fn every_case_says_what_is_expected() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut differing = Vec::new();
    for case in cases() {
        let found = shown(&load(&[&case.join("input.conf")], &options()));
        let golden = case.join("expected.txt");
        if update {
            std::fs::write(&golden, &found).unwrap();
        } else if std::fs::read_to_string(&golden).unwrap_or_default() != found {
            differing.push(format!("=== {}\n{found}", case.display()));
        }
    }
    assert!(differing.is_empty(), "what is said differs from expected.txt:\n{}", differing.join("\n"));
}

#[test]
fn every_case_that_runs_is_the_same_when_written_as_toml() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.toml");
    let mut running = 0;
    for case in cases() {
        let loaded = load(&[&case.join("input.conf")], &options());
        let Some(config) = loaded.config else { continue };
        let written = to_toml(&config, &loaded.diagnostics);
        std::fs::write(&path, &written).unwrap();
        let again = load(&[&path], &options());
        let errors: Vec<_> = again.diagnostics.iter().map(ToString::to_string).collect();
        let again = again.config.unwrap_or_else(|| panic!("{}: {errors:#?}\n{written}", case.display()));
        assert_eq!(without_places(again), without_places(config), "{}\n{written}", case.display());
        running += 1;
    }
    assert!(running > 40, "{running} cases run");
}

/// The lines under a heading of a dump.
fn dumped<'d>(dump: &'d str, heading: &str) -> Vec<&'d str> {
    let lines = dump.lines().skip_while(|line| *line != heading).skip(1);
    lines.take_while(|line| !line.starts_with('#')).collect()
}

#[test]
fn routes_and_rules_are_shown_as_keepalived_shows_them() {
    let folder = Path::new("tests/cases/routes");
    let dump = std::fs::read_to_string(folder.join("keepalived-2.2.7.txt")).unwrap();
    let config = load(&[&folder.join("input.conf")], &options()).config.unwrap();
    let instance = &config.instances[0];
    let routes = |routes: &[Route]| routes.iter().map(|r| r.text.clone()).collect::<Vec<_>>();
    let rules = |rules: &[Rule]| rules.iter().map(|r| r.text.clone()).collect::<Vec<_>>();
    assert_eq!(routes(&config.static_routes), dumped(&dump, "# Static Routes"));
    assert_eq!(rules(&config.static_rules), dumped(&dump, "# Static Rules"));
    assert_eq!(routes(&instance.routes), dumped(&dump, "# Virtual Routes"));
    assert_eq!(rules(&instance.rules), dumped(&dump, "# Virtual Rules"));
    assert_eq!((instance.routes.len(), instance.rules.len()), (17, 14));
}

#[test]
fn findings_are_drawn_under_their_source_line() {
    let loaded = load(&[Path::new("tests/cases/misspelled/input.conf")], &options());
    let quoting = load(&[Path::new("tests/cases/script-arguments/input.conf")], &options());
    assert!(quoting.diagnostics.render_human(false).is_ascii());
    let drawn = loaded.diagnostics.render_human(false);
    assert!(drawn.is_ascii(), "{drawn}");
    assert!(drawn.contains("tests/cases/misspelled/input.conf:1:1"), "{drawn}");
    assert!(drawn.contains("vvrp_script chk {"), "{drawn}");
    assert!(drawn.contains("expected `vrrp_script`?"), "{drawn}");
}

#[test]
fn secrets_are_in_no_output() {
    for case in cases() {
        let loaded = load(&[&case.join("input.conf")], &options());
        let json = loaded.diagnostics.to_json().to_string();
        for secret in ["secretpw", "abcdefghijkl"] {
            assert!(!loaded.diagnostics.render_human(true).contains(secret), "{}", case.display());
            assert!(!json.contains(secret), "{}", case.display());
            assert!(!format!("{:?}", loaded.config).contains(secret), "{}", case.display());
        }
    }
}

#[test]
fn json_has_the_place_of_every_finding() {
    let loaded = load(&[Path::new("tests/cases/misspelled/input.conf")], &options());
    let json = loaded.diagnostics.to_json();
    let first = &json["findings"][0];
    assert_eq!(first["file"], "tests/cases/misspelled/input.conf");
    assert_eq!((&first["line"], &first["column"], &first["length"]), (&1.into(), &1.into(), &11.into()));
    assert_eq!((&first["severity"], &first["code"]), (&"warning".into(), &"unknown-keyword".into()));
    assert_eq!(json["errors"], 0);
}
