//! Standard output that may be closed at any time (`vipd status | head -1`).

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

/// Prints `text` and gives the exit code: a reader that has seen enough is no failure.
pub fn print(text: &str) -> ExitCode {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("vipd: cannot write to standard output: {error}");
            ExitCode::FAILURE
        }
        _ => ExitCode::SUCCESS,
    }
}

/// Prints `text`; `false` when nobody reads any more.
pub fn try_print(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
}

/// Standard output is a terminal.
pub fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns for sentences: what the shell says, at most 110, so that lines stay readable.
pub fn width() -> usize {
    let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    columns.unwrap_or(100).min(110)
}

/// Standard output is a terminal whose user has not set `NO_COLOR`.
pub fn is_colourful() -> bool {
    is_terminal() && wants_colour()
}

/// The same for standard error.
pub fn is_colourful_stderr() -> bool {
    io::stderr().is_terminal() && wants_colour()
}

/// `NO_COLOR` is not set, or empty.
fn wants_colour() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
