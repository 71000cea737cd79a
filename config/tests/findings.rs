//! `docs/check.md` lists the code of every finding. `UPDATE_GOLDEN=1` rewrites it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

fn listed() -> Vec<String> {
    let page = config::findings_page();
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(code, _)| code.to_owned()).collect()
}

/// The text of every source file but the list itself.
fn sources(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if !path.ends_with("findings.rs") {
            found.push_str(&fs::read_to_string(&path).unwrap());
        }
    }
}

#[test]
fn page_of_findings_is_up_to_date() {
    let path = "../docs/check.md";
    let page = config::findings_page();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(path, &page).unwrap();
    }
    let written = fs::read_to_string(path).unwrap_or_default();
    assert!(written == page, "docs/check.md is out of date; UPDATE_GOLDEN=1 rewrites it");
}

#[test]
fn every_code_is_listed_once_and_every_listed_code_is_used() {
    let mut text = String::new();
    sources(Path::new("src"), &mut text);
    let list = listed();
    let set: BTreeSet<_> = list.iter().map(String::as_str).collect();
    assert_eq!(set.len(), list.len(), "a code is listed twice");
    let mut written = BTreeSet::new();
    for constructor in ["Diagnostic::error(", "Diagnostic::warning(", "Diagnostic::notice("] {
        for call in text.split(constructor).skip(1) {
            let Some(quoted) = call.trim_start().strip_prefix('"') else { continue };
            written.extend(quoted.split('"').next());
        }
    }
    assert!(written.len() > 100, "{} codes", written.len());
    let missing: Vec<_> = written.difference(&set).collect();
    assert!(missing.is_empty(), "say in src/findings.rs what these mean: {missing:?}");
    let unused: Vec<_> = set.iter().filter(|code| !text.contains(&format!("\"{code}\""))).collect();
    assert!(unused.is_empty(), "listed, but nothing says it: {unused:?}");
}
