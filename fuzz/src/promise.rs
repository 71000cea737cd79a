//! What must hold for every input.

use config::{load, to_toml, without_places};

use crate::{Attempt, options};

/// Every finding is at a line and a column of its file.
///
/// # Errors
/// Which is not, or which bound was broken.
pub fn places(attempt: &Attempt) -> Result<(), String> {
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

/// What runs is the same when it is written as TOML and read again.
///
/// # Errors
/// What differs.
pub fn same_again(attempt: &Attempt) -> Result<(), String> {
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
