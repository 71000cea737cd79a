//! `vipd completions SHELL`

use std::process::ExitCode;

use clap::Args;
use clap_complete::Shell;

/// Print the completions for a shell
///
/// Prints a script that lets the shell complete vipd's subcommands and options.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  vipd completions bash > /usr/share/bash-completion/completions/vipd
  vipd completions zsh > \"${fpath[1]}/_vipd\"
  vipd completions fish > ~/.config/fish/completions/vipd.fish

Exit codes: 0 printed, 1 cannot write, 2 unknown shell")]
pub struct Arguments {
    /// Shell that shall understand it
    shell: Shell,
}

pub fn run(arguments: &Arguments) -> ExitCode {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut super::definition(), "vipd", &mut script);
    super::output::print(&String::from_utf8_lossy(&script))
}
