//! haproxy.cfg, mutated: no panic, bounded time and memory, every finding has a place that exists, and what runs is the same
//! when it is written as TOML.

use std::process::ExitCode;

use clap::Parser as _;
use fuzz::{Options, Random, Seeds, mutate, places, run, same_again};

fn main() -> ExitCode {
    let seeds = Seeds::of_door("haproxy.cfg", "haproxy");
    let input = |random: &mut Random| mutate(&seeds, random);
    let check = |attempt: &_| places(attempt).and_then(|()| same_again(attempt));
    ExitCode::from(u8::from(!run("haproxy", &Options::parse(), input, check)))
}
