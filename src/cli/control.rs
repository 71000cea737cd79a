//! What the subcommands share that talk to a running daemon.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::observe::client::ClientError;

/// Which daemon is meant.
#[derive(Debug, Args)]
pub struct Daemon {
    /// Control socket of the daemon
    #[arg(long, value_name = "PATH", default_value = config::CONTROL_SOCKET)]
    pub socket: PathBuf,
}

/// Runs `work`, and says on standard error why it failed.
pub fn talk(work: impl Future<Output = Result<ExitCode, ClientError>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("vipd: cannot prepare to talk to the daemon: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(work).unwrap_or_else(|error| {
        eprintln!("vipd: {error}");
        ExitCode::FAILURE
    })
}
