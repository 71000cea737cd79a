//! Any bytes: no panic, 100 ms of the processor for 64 KiB, bounded memory, and every finding has a place that
//! exists.

use std::process::ExitCode;

use clap::Parser as _;
use fuzz::{Attempt, Options, Random, Seeds, configuration, mutate, run};

fn main() -> ExitCode {
    let seeds = Seeds::read();
    let input = |random: &mut Random| match random.below(20) {
        0 => {
            let length = random.below(4096);
            ((0..length).map(|_| u8::try_from(random.below(256)).unwrap_or(0)).collect(), "conf")
        }
        1..4 => (configuration(random).into_bytes(), "conf"),
        _ => mutate(&seeds, random),
    };
    ExitCode::from(u8::from(!run("parser", &Options::parse(), input, places)))
}

/// Every finding is at a line and a column of its file.
fn places(attempt: &Attempt) -> Result<(), String> {
    let outcome = attempt.load()?;
    let (mut file, mut widths) = (None, Vec::new());
    for finding in &outcome.loaded.diagnostics {
        let place = &finding.location.place;
        if file.as_ref() != Some(&place.file) {
            let bytes = std::fs::read(&*place.file).map_err(|e| format!("{finding}: {e}"))?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            widths = text.split('\n').map(|line| line.chars().count()).collect();
            file = Some(place.file.clone());
        }
        let width = usize::try_from(place.line).ok().and_then(|line| widths.get(line.checked_sub(1)?));
        let column = usize::try_from(place.column).unwrap_or(usize::MAX);
        if !width.is_some_and(|width| (1..=width + 1).contains(&column)) {
            return Err(format!("no such place: {finding}"));
        }
    }
    outcome.loaded.diagnostics.render_human(false);
    Ok(())
}
