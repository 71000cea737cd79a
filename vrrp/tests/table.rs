//! The table of statements in the crate's documentation names every statement and every test, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every numbered statement, in order.
fn statements() -> Vec<String> {
    let groups = [
        ("V3-6.4.1-", 5),
        ("V3-6.4.2-", 14),
        ("V3-6.4.3-", 16),
        ("V3-OWN-", 3),
        ("V3-PRE-", 4),
        ("V3-ACC-", 1),
        ("V2-", 8),
        ("H-", 8),
    ];
    groups.iter().flat_map(|(group, last)| (1..=*last).map(move |n| format!("{group}{n}"))).collect()
}

/// `V3-6.4.2-9` is `v3_6_4_2_9_` at the beginning of a test's name.
fn prefix(statement: &str) -> String {
    format!("{}_", statement.to_lowercase().replace(['-', '.'], "_"))
}

/// Statement to tests, as the documentation has it.
fn documented() -> Vec<(String, BTreeSet<String>)> {
    include_str!("../src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! | "))
        .filter_map(|row| {
            let cells: Vec<_> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
            let [statement, tests, finished_by] = cells[..] else { return None };
            let is_statement = ["V3-", "V2-", "H-"].iter().any(|group| statement.starts_with(group));
            assert!(!is_statement || !finished_by.is_empty(), "{statement}: who finishes it?");
            is_statement.then(|| {
                let tests = tests.split(", ").map(|test| test.trim_matches('`').to_owned());
                (statement.to_owned(), tests.collect())
            })
        })
        .collect()
}

/// Names of all test functions of this crate's integration tests.
fn tests() -> BTreeSet<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let mut names = BTreeSet::new();
    for file in std::fs::read_dir(directory).unwrap().flatten() {
        if file.path().extension().is_none_or(|extension| extension != "rs") {
            continue;
        }
        let source = std::fs::read_to_string(file.path()).unwrap();
        let lines: Vec<_> = source.lines().map(str::trim).collect();
        let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
        names.extend(
            tests.filter_map(|pair| Some(pair[1].strip_prefix("fn ")?.split('(').next()?.to_owned())),
        );
    }
    names
}

#[test]
fn every_statement_is_documented_once_and_in_order() {
    let documented: Vec<_> = documented().into_iter().map(|(statement, _)| statement).collect();
    assert_eq!(documented, statements());
}

#[test]
fn the_documented_tests_are_exactly_those_that_carry_the_statement_in_their_name() {
    let tests = tests();
    let documented: BTreeMap<_, _> = documented().into_iter().collect();
    for statement in statements() {
        let prefix = prefix(&statement);
        let carriers: BTreeSet<_> = tests.iter().filter(|test| test.starts_with(&prefix)).cloned().collect();
        assert!(!carriers.is_empty(), "{statement} has no test");
        assert_eq!(documented[&statement], carriers, "{statement}");
    }
}
