//! A configuration that runs is the same when it is written as TOML and read again.

use std::process::ExitCode;

use clap::Parser as _;
use fuzz::{Options, Random, Seeds, configuration, mutate, run, same_again};

fn main() -> ExitCode {
    let seeds = Seeds::read();
    let input = |random: &mut Random| match random.below(4) {
        0 => mutate(&seeds, random),
        _ => (configuration(random).into_bytes(), "conf"),
    };
    ExitCode::from(u8::from(!run("model", &Options::parse(), input, same_again)))
}
