//! Any bytes: no panic, 100 ms of the processor for 64 KiB, bounded memory, and every finding has a place that
//! exists.

use std::process::ExitCode;

use clap::Parser as _;
use fuzz::{Options, Random, Seeds, configuration, mutate, places, run};

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
