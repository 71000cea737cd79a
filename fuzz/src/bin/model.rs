//! A configuration that runs is the same when it is written as TOML and read again.

use std::process::ExitCode;

use clap::Parser as _;
use config::{load, to_toml, without_places};
use fuzz::{Attempt, Options, Random, Seeds, configuration, mutate, options, run};

fn main() -> ExitCode {
    let seeds = Seeds::read();
    let input = |random: &mut Random| match random.below(4) {
        0 => mutate(&seeds, random),
        _ => (configuration(random).into_bytes(), "conf"),
    };
    ExitCode::from(u8::from(!run("model", &Options::parse(), input, same_again)))
}

fn same_again(attempt: &Attempt) -> Result<(), String> {
    let loaded = attempt.load()?.loaded;
    let Some(config) = loaded.config else { return Ok(()) };
    let written = to_toml(&config, &loaded.diagnostics);
    let path = attempt.path.with_file_name("written.toml");
    std::fs::write(&path, &written).map_err(|error| error.to_string())?;
    let again = load(&[&path], &options());
    let Some(read) = again.config else {
        let findings: Vec<_> = again.diagnostics.iter().map(ToString::to_string).collect();
        return Err(format!("does not load again: {findings:?}"));
    };
    let (before, after) = (without_places(config), without_places(read));
    if before == after {
        return Ok(());
    }
    let (before, after) = (format!("{before:#?}"), format!("{after:#?}"));
    let differing = before.lines().zip(after.lines()).find(|(a, b)| a != b);
    Err(format!("not the same again: {differing:?}"))
}
