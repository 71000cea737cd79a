//! Every configuration of the corpus is read without panic or hang, every finding has its place, and what
//! keepalived takes without a complaint runs here.
//!
//! The corpus is found through `VIPD_CORPUS`; `VIPD_CORPUS=skip` leaves these tests out.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use config::users::Users;
use config::{LoadOptions, load, to_toml, without_places};

/// In a build without optimisation.
const MOST_TIME: Duration = Duration::from_secs(1);

/// What `@ID` lines of the corpus ask for, and none of it.
const IDS: [&str; 3] = ["high", "low", "none"];
/// Findings about words that the TOML does not carry.
const LOST: [&str; 5] =
    ["not-needed", "not-supported-yet", "unknown-keyword", "virtual-server-left-out", "words-behind"];

fn corpus() -> Option<PathBuf> {
    match std::env::var("VIPD_CORPUS") {
        Ok(skip) if skip == "skip" => None,
        Ok(folder) => Some(folder.into()),
        Err(_) => panic!("VIPD_CORPUS must name the folder of the corpus (or be `skip` to leave it out)"),
    }
}

fn configurations(corpus: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in ["maintainer", "wild/keepalived"] {
        let folder = corpus.join(folder);
        let entries =
            std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        files.extend(
            entries
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.extension().is_some_and(|e| e != "tsv")),
        );
    }
    files.sort();
    assert!(files.len() >= 180, "{} files in {}", files.len(), corpus.display());
    files
}

/// Time that this thread was running: a busy machine does not count.
fn processor_time() -> Duration {
    let statistics = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(statistics.split(' ').next().unwrap().parse().unwrap())
}

/// Conditions and script users of nobody in particular.
fn options(id: &str) -> LoadOptions {
    LoadOptions { config_id: Some(id.to_owned()), users: Users::Fixed(Vec::new()), ..LoadOptions::default() }
}

#[test]
fn every_file_is_read_in_time_and_every_finding_has_its_place() {
    let Some(corpus) = corpus() else { return };
    for file in configurations(&corpus) {
        for id in IDS {
            let start = processor_time();
            let loaded = load(&[&file], &options(id));
            let took = processor_time() - start;
            assert!(took < MOST_TIME, "{}: {took:?}", file.display());
            for finding in &loaded.diagnostics {
                let place = &finding.location.place;
                assert!(place.line > 0 && place.column > 0 && !place.file.is_empty(), "{finding}");
                let text = String::from_utf8_lossy(&std::fs::read(&*place.file).unwrap()).into_owned();
                let line = text.split('\n').nth(place.line as usize - 1);
                let characters = line.unwrap_or_else(|| panic!("no such line: {finding}")).chars().count();
                assert!(place.column as usize <= characters + 1, "no such column: {finding}");
            }
        }
    }
}

#[test]
fn what_keepalived_takes_without_complaint_runs() {
    let Some(corpus) = corpus() else { return };
    let verdicts = std::fs::read_to_string(corpus.join("maintainer/VERDICTS.tsv")).unwrap();
    let fine: Vec<&str> = verdicts
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split('\t');
            let file = fields.next()?;
            (fields.next()? == "0").then_some(file)
        })
        .collect();
    assert!(fine.len() > 20, "{} files", fine.len());
    for file in fine {
        let loaded = load(&[&corpus.join("maintainer").join(file)], &options("high"));
        let errors: Vec<_> =
            loaded.diagnostics.iter().map(ToString::to_string).filter(|d| d.contains(": error[")).collect();
        assert_eq!(errors, [""; 0], "{file}");
    }
}

#[test]
fn what_runs_is_the_same_when_written_as_toml_and_what_is_lost_is_said() {
    let Some(corpus) = corpus() else { return };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("written.toml");
    let mut running = HashMap::new();
    for (file, id) in configurations(&corpus).into_iter().flat_map(|file| IDS.map(|id| (file.clone(), id))) {
        let loaded = load(&[&file], &options(id));
        let Some(config) = loaded.config else { continue };
        let written = to_toml(&config, &loaded.diagnostics);
        std::fs::write(&path, &written).unwrap();
        let again = load(&[&path], &options(id));
        let findings: Vec<_> = again.diagnostics.iter().map(ToString::to_string).collect();
        let again = again.config.unwrap_or_else(|| panic!("{}: {findings:#?}", file.display()));
        assert_eq!(without_places(again), without_places(config), "{}", file.display());
        let comments: Vec<_> = written.lines().take_while(|line| line.starts_with('#')).collect();
        for lost in loaded.diagnostics.iter().filter(|finding| LOST.contains(&finding.code)) {
            let named = format!("#   {}: ", lost.location.place);
            let said = |line: &&&str| line.starts_with(&named) && line.contains(&lost.message);
            assert!(comments.iter().any(|line| said(&line)), "{lost} is not said: {comments:#?}");
        }
        running.insert(file, written.len());
    }
    assert!(running.len() > 120, "{} of the corpus run", running.len());
}
