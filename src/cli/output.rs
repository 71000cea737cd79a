//! Standard output that may be closed at any time (`vipd status | head -1`).

use std::io::{self, Write};
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
