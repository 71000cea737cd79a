//! The command line: one file for each subcommand. Everything here is thin; the work is done in the rooms.

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

mod backend;
mod check;
mod completions;
mod control;
mod convert;
mod demo;
mod events;
mod keepalived;
mod man;
mod output;
mod reload;
mod run;
mod sessions;
mod status;
mod version;

/// What the first page says.
const ABOUT: &str =
    "Keeps a virtual IP alive: VRRP election, health checks, and a TCP forwarder behind the address";

const LONG_ABOUT: &str = "\
Keeps a virtual IP alive.

vipd runs on two or more hosts. They agree by VRRP (RFC 9568) who holds the virtual addresses; the holder tells the \
network and carries the TCP connections that come to them to healthy backends. It reads TOML and keepalived.conf. \
Started under the name `keepalived` it takes keepalived's own options.";

const AFTER_HELP: &str = "\
Examples:
  vipd demo                         see two hosts share an address; needs no root
  vipd check /etc/vipd/vipd.toml    is the configuration right?
  vipd run -c /etc/vipd/vipd.toml   run, as a service manager wants it
  vipd status                       who is active, and why";

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "vipd",
    version = version::SHORT,
    long_version = version::LONG,
    about = ABOUT,
    long_about = LONG_ABOUT,
    after_help = AFTER_HELP,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 110
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::Arguments),
    Check(check::Arguments),
    Convert(convert::Arguments),
    Status(status::Arguments),
    Sessions(sessions::Arguments),
    Backend(backend::Arguments),
    Events(events::Arguments),
    Reload(reload::Arguments),
    Demo(demo::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// Runs the command line of this process, whatever name it was started under.
pub fn main() -> ExitCode {
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    if arguments.first().is_some_and(|name| Path::new(name).file_name() == Some("keepalived".as_ref())) {
        return keepalived::run(arguments.drain(1..));
    }
    run(arguments)
}

fn run(arguments: Vec<OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody is left to tell when standard error is closed.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match cli.command {
        Command::Run(arguments) => run::run(arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Convert(arguments) => convert::run(&arguments),
        Command::Status(arguments) => status::run(&arguments),
        Command::Sessions(arguments) => sessions::run(&arguments),
        Command::Backend(arguments) => backend::run(&arguments),
        Command::Events(arguments) => events::run(&arguments),
        Command::Reload(arguments) => reload::run(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    }
}

/// The command line as data, for completions and man pages.
fn definition() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        definition().debug_assert();
    }
}
