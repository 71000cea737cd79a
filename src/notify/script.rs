//! Notify scripts: started in order, never waited for before the next one starts.

use std::time::Duration;

use config::ready::{Command, Notify};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use super::keepalived::Word;
use crate::check::Spoken;
use crate::check::program::{self, Output, Program};

/// The scripts of one instance, ready to be started.
#[derive(Debug)]
pub(super) struct Scripts {
    pub(super) any: Option<Box<Program>>,
    master: Option<Box<Program>>,
    backup: Option<Box<Program>>,
    fault: Option<Box<Program>>,
    stop: Option<Box<Program>>,
    deleted: Option<Box<Program>>,
    pub(super) tells_deleted: bool,
    pub(super) master_rx_lower_priority: Option<Box<Program>>,
}

impl Scripts {
    pub(super) async fn prepare(notify: &Notify, groups: bool) -> Self {
        Self {
            any: prepare(notify.any.as_deref(), groups).await,
            master: prepare(notify.master.as_deref(), groups).await,
            backup: prepare(notify.backup.as_deref(), groups).await,
            fault: prepare(notify.fault.as_deref(), groups).await,
            stop: prepare(notify.stop.as_deref(), groups).await,
            deleted: prepare(notify.deleted.as_deref(), groups).await,
            tells_deleted: notify.tells_deleted,
            master_rx_lower_priority: prepare(notify.master_rx_lower_priority.as_deref(), groups).await,
        }
    }

    /// The script for one state.
    pub(super) fn of(&self, word: Word) -> Option<&Program> {
        match word {
            Word::Master => self.master.as_deref(),
            Word::Backup => self.backup.as_deref(),
            Word::Fault => self.fault.as_deref(),
            Word::Stop => self.stop.as_deref(),
            Word::Deleted => self.deleted.as_deref(),
        }
    }
}

async fn prepare(command: Option<&Command>, supplementary_groups: bool) -> Option<Box<Program>> {
    match command {
        // Most instances have none: room for seven would be the larger part of what is known of them.
        Some(command) => Some(Box::new(Program::prepare(command.clone(), supplementary_groups).await)),
        None => None,
    }
}

/// Scripts that have been started.
#[derive(Debug, Default)]
pub(super) struct Started(JoinSet<()>);

impl Started {
    /// Starts a script and goes on. Its end is watched, so that it is buried.
    pub(super) fn start(&mut self, program: &Program, arguments: &[String]) {
        while self.0.try_join_next().is_some() {}
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let name = program.name();
        match program.start(&arguments, Output::Discard) {
            Ok(mut running) => {
                self.0.spawn(async move {
                    match running.wait().await {
                        Ok(status) if status.success() => debug!(script = name, "notify script ended"),
                        Ok(status) => {
                            warn!(script = name, error = program::describe(status), "notify script failed");
                        }
                        Err(error) => warn!(script = name, %error, "end of a notify script was missed"),
                    }
                });
            }
            Err(error) => warn!(script = name, error = %Spoken(&error), "notify script not started"),
        }
    }

    /// Waits for all that are running, at most this long.
    pub(super) async fn wait(&mut self, most: Duration) {
        let all = async { while self.0.join_next().await.is_some() {} };
        if tokio::time::timeout(most, all).await.is_err() {
            warn!(scripts = self.0.len(), "notify scripts are still running, not waiting any longer");
        }
    }
}
