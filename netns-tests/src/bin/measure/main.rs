//! vipd's promises in numbers, beside keepalived's on the same machine in the same run.
//!
//! ```text
//! cargo build --release && cargo run --release -p netns-tests --bin measure -- [--rounds N] [--only NAME] [--out FILE.md]
//! ```
//!
//! Both daemons go through the same cases alternately, in network namespaces of this program. It prints
//! markdown; `docs/measurements.md` is one such output. Needs root and what the tests of this crate need. The
//! configuration files of the section `corpus` are found through `VIPD_CORPUS`.

mod busy;
mod corpus;
mod failover;
mod figures;
mod flood;
mod kernel;
mod lease;
mod machine;
mod probe;
mod proxy;
mod scale;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use netns_tests::enabled;
use netns_tests::peer::{Kind, vipd};
use netns_tests::turn::Turn;

use crate::figures::Section;

/// What the command line says.
struct Options {
    rounds: usize,
    only: Option<String>,
    out: Option<PathBuf>,
}

/// One measurement; how many rounds.
type Measurement = fn(usize) -> Section;

/// In the order of the output.
const MEASUREMENTS: [(&str, Measurement); 10] = [
    ("failover", failover::failover),
    ("announce", failover::announcements),
    ("lease", lease::measure),
    ("load", busy::measure),
    ("corpus", corpus::measure),
    ("flood", flood::measure),
    ("scale", scale::measure),
    ("forwarder", proxy::measure),
    ("probe", probe::measure),
    ("kernel", kernel::measure),
];

const BOTH: [Kind; 2] = [Kind::Vipd, Kind::Keepalived];

impl Options {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self { rounds: 3, only: None, out: None };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--rounds" => {
                    let text = value()?;
                    options.rounds = text.parse().map_err(|_| format!("--rounds {text} is not a number"))?;
                }
                "--only" => options.only = Some(value()?),
                "--out" => options.out = Some(value()?.into()),
                _ => return Err(format!("unknown argument {word}")),
            }
        }
        let names: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
        match &options.only {
            Some(only) if !names.contains(&only.as_str()) => {
                Err(format!("--only {only}: there are {}", names.join(", ")))
            }
            _ if options.rounds == 0 => Err("--rounds 0 measures nothing".to_owned()),
            _ => Ok(options),
        }
    }
}

fn main() -> ExitCode {
    let options = match Options::read(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\nusage: measure [--rounds N] [--only NAME] [--out FILE.md]");
            return ExitCode::from(2);
        }
    };
    if !enabled(&["keepalived", "timeout"]) {
        eprintln!("NETNS_TESTS=skip is set: nothing is measured");
        return ExitCode::from(2);
    }
    let _turn = Turn::alone();
    let began = Instant::now();
    let whole = machine::Times::now();
    let mut text = machine::describe(&vipd());
    println!("{text}");
    for (name, measure) in MEASUREMENTS {
        if options.only.as_deref().is_some_and(|only| only != name) {
            continue;
        }
        eprintln!("{name}: from {:.0} s on", began.elapsed().as_secs_f64());
        let others = machine::busy_now();
        let before = machine::Times::now();
        let mut section = measure(options.rounds);
        section.remarks.push(format!(
            "While this was measured the processors were {}. Just before, other programs used {others:.0} % of them.",
            before.until(&machine::Times::now())
        ));
        let section = section.markdown();
        println!("{section}");
        text += "\n";
        text += &section;
    }
    let end = format!(
        "\nThe whole run took {:.0} s; the processors were {}. Load average at its end: {}.\n",
        began.elapsed().as_secs_f64(),
        whole.until(&machine::Times::now()),
        machine::load_average()
    );
    println!("{end}");
    text += &end;
    if let Some(file) = options.out {
        let written = std::fs::File::create(&file).and_then(|mut file| file.write_all(text.as_bytes()));
        if let Err(error) = written {
            eprintln!("{}: {error}", file.display());
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Who comes first in a round: they take turns.
fn order(round: usize) -> [Kind; 2] {
    if round.is_multiple_of(2) { BOTH } else { [BOTH[1], BOTH[0]] }
}
