//! How fast a configuration is judged.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use netns_tests::lab::Lab;
use netns_tests::peer::vipd;

use crate::figures::{Figures, Section, Table, Verdict, ms, number, ratio};

const TIMES: usize = 3;
const LIMIT: Duration = Duration::from_secs(2);
const TARGET: f64 = 100.0;

/// `vipd check` and `keepalived -t` for every file.
pub fn measure(_rounds: usize) -> Section {
    let mut section = Section {
        title: "`vipd check`".to_owned(),
        how: format!(
            "Wall time of the whole program for each keepalived.conf of the corpus (`VIPD_CORPUS`: maintainer/*.conf, \
             wild/keepalived/*.conf), median of {TIMES} runs per file; keepalived: \
             `keepalived -t -f`, one run per file, given up after {} s.",
            LIMIT.as_secs()
        ),
        ..Section::default()
    };
    let Some(corpus) = std::env::var_os("VIPD_CORPUS").map(PathBuf::from).filter(|path| path.is_dir()) else {
        section.remarks.push("Not measured: VIPD_CORPUS names no directory.".to_owned());
        return section;
    };
    let lab = Lab::new(&[]);
    let mut table = Table::new(&[
        "files",
        "vipd check, ms",
        "keepalived -t, ms",
        "ratio",
        "n",
        "vipd over 100 ms",
        "keepalived over 100 ms",
    ]);
    let mut slow = Vec::new();
    let mut longest = 0.0_f64;
    for folder in ["maintainer", "wild/keepalived"] {
        let files = configurations(&corpus.join(folder));
        let (mut ours, mut theirs) = (Figures::default(), Figures::default());
        for file in &files {
            let name = file.to_string_lossy();
            let taken = median_of(|| {
                let mut command = lab.client.command(vipd());
                command.args(["check", &name]);
                command
            });
            if taken > TARGET {
                let short = file.strip_prefix(&corpus).unwrap_or(file);
                slow.push(format!("{} {} ms", short.display(), number(taken)));
            }
            ours.0.push(taken);
            let mut keepalived = lab.stranger.command("keepalived");
            keepalived.args(["-t", "-f", &name]);
            theirs.0.push(wall(keepalived));
        }
        longest = longest.max(ours.max());
        let over = |figures: &Figures| figures.0.iter().filter(|taken| **taken > TARGET).count().to_string();
        table.add([
            folder.to_owned(),
            ours.to_string(),
            theirs.to_string(),
            ratio(ours.median(), theirs.median()),
            files.len().to_string(),
            over(&ours),
            over(&theirs),
        ]);
    }
    let list = if slow.is_empty() { String::new() } else { format!("; over it: {}", slow.join(", ")) };
    let text = format!("every file is checked in less than 100 ms; longest {} ms{list}.", number(longest));
    section.tables.push((table, vec![Verdict { met: slow.is_empty() && longest > 0.0, text }]));
    section
}

fn configurations(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "conf"))
        .collect();
    files.sort();
    files
}

fn median_of(command: impl Fn() -> Command) -> f64 {
    Figures((0..TIMES).map(|_| wall(command())).collect()).median()
}

/// Milliseconds until it ended, whatever it says.
fn wall(mut command: Command) -> f64 {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let before = Instant::now();
    let mut child = command.spawn().expect("the program was there before");
    while child.try_wait().expect("our own child").is_none() {
        if before.elapsed() > LIMIT {
            let _ = child.kill();
            let _ = child.wait();
            break;
        }
        std::thread::sleep(Duration::from_micros(100));
    }
    ms(before.elapsed())
}
