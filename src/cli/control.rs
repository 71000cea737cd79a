//! What the subcommands share that talk to a running daemon.

use std::future::Future;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::observe::client::ClientError;
use crate::observe::control::own_socket;

/// Which daemon is meant.
#[derive(Debug, Args)]
pub struct Daemon {
    /// Control socket of the daemon [default: /run/vipd/control.sock, or that of a daemon of your own in
    /// $XDG_RUNTIME_DIR/vipd]
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

impl Daemon {
    /// The one that was named. Otherwise that of this user's own daemon, if there is one, and the system's.
    pub fn socket(&self) -> PathBuf {
        let system = PathBuf::from(config::CONTROL_SOCKET);
        let is_root = nix::unistd::geteuid().is_root();
        let own = || own_socket().filter(|own| own.exists() && !(is_root && system.exists()));
        self.socket.clone().or_else(own).unwrap_or(system)
    }
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
