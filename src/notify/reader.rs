//! A FIFO as it is configured: the open pipe, and the script that reads it.

use std::time::Duration;

use config::ready::{Command, Fifo};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::warn;

use super::fifo::Pipe;
use crate::check::Spoken;
use crate::check::program::{self, Output, Program};

/// How often to look whether a FIFO has been read.
const FIFO_POLL: Duration = Duration::from_millis(10);
/// From the last line read to SIGTERM for the script that read it.
const FIFO_REST: Duration = Duration::from_millis(50);
/// From that SIGTERM to SIGKILL at least, however late it is.
const FIFO_GRACE: Duration = Duration::from_millis(100);

/// A pipe and its reader.
pub(super) struct OpenFifo {
    pub(super) written: Fifo,
    pub(super) pipe: Pipe,
    script: Option<FifoScript>,
    /// Lines that did not fit since the last one that did.
    lost: u64,
}

struct FifoScript {
    /// Takes the time from SIGTERM to SIGKILL.
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

/// Equal apart from where they are written.
pub(super) fn same(a: &Fifo, b: &Fifo) -> bool {
    let mut b = b.clone();
    b.place = a.place.clone();
    if let (Some(b), Some(a)) = (&mut b.script, &a.script) {
        b.place = a.place.clone();
    }
    *a == b
}

impl OpenFifo {
    pub(super) async fn open(wanted: &Fifo, supplementary_groups: bool) -> Option<Self> {
        let pipe = match Pipe::open(&wanted.path, wanted.user.as_ref()) {
            Ok(pipe) => pipe,
            Err(error) => {
                let path = wanted.path.display();
                warn!(fifo = %path, error = %Spoken(&error), place = %wanted.place, "FIFO not opened");
                return None;
            }
        };
        let script = match &wanted.script {
            Some(command) => FifoScript::start(
                Program::prepare(Command::clone(command), supplementary_groups).await,
                &pipe,
            ),
            None => None,
        };
        Some(Self { written: wanted.clone(), pipe, script, lost: 0 })
    }

    /// Writes a line, or counts it as lost: `false`. That lines are lost is said when it begins and when it
    /// ends.
    pub(super) fn write(&mut self, line: &str) -> bool {
        let path = self.written.path.display();
        match self.pipe.write(line) {
            Ok(()) => {
                let lost = std::mem::take(&mut self.lost);
                if lost > 0 {
                    warn!(fifo = %path, lost, "the FIFO takes lines again, some were lost");
                }
                true
            }
            Err(error) => {
                self.lost += 1;
                if self.lost == 1 {
                    warn!(fifo = %path, error = %Spoken(&error), line = line.trim_end(), "a line for a FIFO was lost");
                }
                false
            }
        }
    }

    /// A script may read what is in the pipe until `deadline`; then it gets SIGTERM, and SIGKILL when it has
    /// not ended by `deadline` or shortly after it.
    pub(super) async fn close(self, deadline: Instant) {
        if let Some(script) = self.script {
            while !self.pipe.is_empty() && !script.task.is_finished() && Instant::now() < deadline {
                tokio::time::sleep(FIFO_POLL).await;
            }
            // It has read the last line, but it may not have acted on it yet.
            tokio::time::sleep(FIFO_REST).await;
            let grace = deadline.saturating_duration_since(Instant::now()).max(FIFO_GRACE);
            let _ = script.stop.send(grace);
            let _ = script.task.await;
        }
        let path = self.pipe.path().to_owned();
        if let Err(error) = self.pipe.remove() {
            warn!(fifo = %path.display(), error = %Spoken(&error), "FIFO not removed");
        }
    }
}

impl FifoScript {
    /// Once, with the path last.
    fn start(program: Program, pipe: &Pipe) -> Option<Self> {
        let name = program.name();
        let path = pipe.path().display().to_string();
        let mut running = match program.start(&[&path], Output::Discard) {
            Ok(running) => running,
            Err(error) => {
                warn!(script = name, error = %Spoken(&error), "script of a FIFO not started");
                return None;
            }
        };
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(async move {
            tokio::select! {
                grace = stopped => running.end(grace.unwrap_or(FIFO_GRACE)).await,
                status = running.wait() => {
                    let error = status.map_or_else(|error| error.to_string(), program::describe);
                    warn!(script = name, error, "script of a FIFO has ended, nobody reads the FIFO");
                }
            }
        });
        Some(Self { stop, task })
    }
}
