//! Tells stories: in labs of their own, some at the same time, again when the machine itself was late.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use crate::host::step_back;
use crate::peer::Kind;
use crate::story::{Bed, Row};
use crate::turn::Turn;
use crate::{Failure, Outcome, now};

/// A scenario.
pub type Story = fn(&mut Bed, &Row, Kind, Kind) -> Outcome;

/// How many stories of whole seconds are told at a time: they mostly sleep.
const TOGETHER: usize = 12;

/// How often a story is told at most.
const ATTEMPTS: u32 = 5;

/// One story with its characters.
struct Job<'a> {
    row: &'a Row,
    better: Kind,
    worse: Kind,
    title: &'a str,
    play: Story,
}

/// Tells stories in labs of their own, some at the same time unless `alone`, and fails with everything
/// that went wrong. A story that was late is told again if the machine itself is known to have stalled
/// while it was measured.
pub fn tell(rows: &[Row], pairs: &[(Kind, Kind)], stories: &[(&'static str, Story)], alone: bool) {
    let _turn = Turn::alone();
    let mut jobs: Vec<Job> = Vec::new();
    for row in rows {
        for (better, worse) in pairs {
            let (better, worse) = (*better, *worse);
            jobs.extend(stories.iter().map(|(title, play)| Job { row, better, worse, title, play: *play }));
        }
    }
    let mut failures = Vec::new();
    for attempt in 1..=ATTEMPTS {
        let mut again = Vec::new();
        while !jobs.is_empty() {
            let chunk: Vec<Job> = jobs.drain(..jobs.len().min(if alone { 1 } else { TOGETHER })).collect();
            for (job, result) in tell_together(chunk) {
                match result {
                    Ok(()) => {}
                    Err(Told { stalled: Some(stalled), text }) if attempt < ATTEMPTS => {
                        eprintln!(
                            "the machine itself stalled for {stalled:?}, to be told again ({attempt}): {text}"
                        );
                        again.push(job);
                    }
                    Err(told) => failures.push(told.text),
                }
            }
        }
        jobs = again;
    }
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

/// How a story went wrong.
struct Told {
    /// The machine was as late as the story was; for so long.
    stalled: Option<Duration>,
    text: String,
}

/// Builds all labs first and tears them down last: for both the kernel takes a lock that every change
/// of an address waits for, in whatever namespace.
fn tell_together(jobs: Vec<Job>) -> Vec<(Job, Result<(), Told>)> {
    let beds: Vec<Mutex<Bed>> = jobs.iter().map(|job| Mutex::new(bed(job.row))).collect();
    beds[0].lock().expect("not poisoned").lab.wait_for_calm();
    let results: Vec<_> = thread::scope(|scope| {
        let tellers: Vec<_> = jobs
            .iter()
            .zip(&beds)
            .map(|(job, bed)| scope.spawn(move || tell_one(job, &mut bed.lock().expect("not poisoned"))))
            .collect();
        tellers.into_iter().map(|teller| teller.join().expect("panics are caught")).collect()
    });
    jobs.into_iter().zip(results).collect()
}

fn bed(row: &Row) -> Bed {
    let others: &[&'static str] = if row.third { &["lb3"] } else { &[] };
    Bed::with(row.watched(), row.step(), others)
}

fn tell_one(job: &Job, bed: &mut Bed) -> Result<(), Told> {
    step_back();
    let name = format!("{} {}, better {:?}, worse {:?}", job.row.name, job.title, job.better, job.worse);
    let told = catch_unwind(AssertUnwindSafe(|| (job.play)(bed, job.row, job.better, job.worse)));
    let failure = match told {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(failure)) => failure,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
            Failure::from(text.to_owned())
        }
    };
    let around = Duration::from_millis(50);
    let timeline = failure.late.map_or_else(
        || bed.timeline(now() - Duration::from_secs(15), now()),
        |late| bed.timeline(late.from - around, late.to + around),
    );
    let stalled = failure.late.and_then(|late| {
        Some(bed.stalls.longest(late.from, late.to)).filter(|stalled| *stalled > late.margin / 2)
    });
    Err(Told {
        stalled,
        text: format!("{name}: {}\n--- timeline\n{timeline}{}", failure.text, bed.lab.report()),
    })
}
