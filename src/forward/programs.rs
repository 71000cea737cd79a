//! What is run when a backend or a quorum comes or goes. Never waited for, but at the end.

use std::time::Duration;

use config::ready::Command;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::{debug, warn};

use crate::check::Spoken;
use crate::check::program::{self, Output, Program};

/// Programs that may wait to be started.
const WAITING: usize = 1024;

/// How long those that run may take at the end.
const LAST_WAIT: Duration = Duration::from_secs(3);

/// The way to whoever starts them, in the order in which they are asked for. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Programs(mpsc::Sender<Job>);

#[derive(Debug)]
enum Job {
    Run(Box<Command>),
    End(oneshot::Sender<()>),
}

impl Programs {
    /// Somebody who starts them, as long as a clone of this is there. `groups`: with all groups of their users.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn new(groups: bool) -> Self {
        let (sender, jobs) = mpsc::channel(WAITING);
        tokio::spawn(start_all(jobs, groups));
        Self(sender)
    }

    /// Has one started.
    pub fn run(&self, command: &Command) {
        if self.0.try_send(Job::Run(Box::new(command.clone()))).is_err() {
            warn!(script = %command.program.display(), "too many programs wait to be started, this one is left out");
        }
    }

    /// Waits for what was asked for, but not long.
    pub async fn finish(&self) {
        let (done, is_done) = oneshot::channel();
        if self.0.send(Job::End(done)).await.is_ok() {
            let _ = is_done.await;
        }
    }
}

async fn start_all(mut jobs: mpsc::Receiver<Job>, groups: bool) {
    let mut running = JoinSet::new();
    while let Some(job) = jobs.recv().await {
        while running.try_join_next().is_some() {}
        match job {
            Job::Run(command) => start(*command, groups, &mut running).await,
            Job::End(done) => {
                let all = async { while running.join_next().await.is_some() {} };
                if tokio::time::timeout(LAST_WAIT, all).await.is_err() {
                    warn!(scripts = running.len(), "programs are still running, not waiting any longer");
                }
                let _ = done.send(());
            }
        }
    }
}

async fn start(command: Command, groups: bool, running: &mut JoinSet<()>) {
    let program = Program::prepare(command, groups).await;
    let name = program.name();
    match program.start(&[], Output::Discard) {
        Ok(mut started) => {
            running.spawn(async move {
                match started.wait().await {
                    Ok(status) if status.success() => debug!(script = name, "program of the forwarder ended"),
                    Ok(status) => {
                        warn!(
                            script = name,
                            error = program::describe(status),
                            "program of the forwarder failed"
                        );
                    }
                    Err(error) => warn!(script = name, %error, "end of a program was missed"),
                }
            });
        }
        Err(error) => warn!(script = name, error = %Spoken(&error), "program of the forwarder not started"),
    }
}
