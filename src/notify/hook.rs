//! `startup_script` and `shutdown_script`: the daemon waits for them, so each has its time.

use std::time::Duration;

use config::ready::{Command, Process};
use tracing::{info, warn};

use crate::check::Spoken;
use crate::check::program::{self, KILL_AFTER, Output, Program};

/// Without `startup_script_timeout` or `shutdown_script_timeout`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the `startup_script`, if there is one, to its end: before that nothing is checked, sent or held.
pub async fn before_start(process: &Process) {
    let limit = process.startup_timeout.unwrap_or(DEFAULT_TIMEOUT);
    run("startup", process.startup.as_deref(), limit, process.supplementary_groups).await;
}

/// Runs the `shutdown_script`, if there is one, to its end: when everything has been let go.
pub async fn after_stop(process: &Process) {
    let limit = process.shutdown_timeout.unwrap_or(DEFAULT_TIMEOUT);
    run("shutdown", process.shutdown.as_deref(), limit, process.supplementary_groups).await;
}

/// At most `limit`; then it gets SIGTERM, and SIGKILL 2 s later. Whatever it says, the daemon goes on, as
/// keepalived does.
async fn run(when: &str, command: Option<&Command>, limit: Duration, supplementary_groups: bool) {
    let Some(command) = command else { return };
    let program = Program::prepare(command.clone(), supplementary_groups).await;
    let script = program.name();
    info!(script, "running the {when} script");
    let mut running = match program.start(&[], Output::KeepLastLine) {
        Ok(running) => running,
        Err(error) => {
            warn!(script, error = %Spoken(&error), "{when} script not started");
            return;
        }
    };
    match tokio::time::timeout(limit, running.wait()).await {
        Ok(Ok(status)) if status.success() => info!(script, "{when} script succeeded"),
        Ok(Ok(status)) => {
            let output = running.last_line().unwrap_or_default();
            warn!(script, error = program::describe(status), output, "{when} script failed");
        }
        Ok(Err(error)) => warn!(script, error = %Spoken(&error), "end of the {when} script was missed"),
        Err(_) => {
            warn!(script, limit_s = limit.as_secs_f64(), "{when} script timed out, ending it");
            running.end(KILL_AFTER).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Instant;

    use config::ready::Place;

    use super::*;

    fn shell(text: &str) -> Command {
        Command {
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), text.to_owned()],
            user: None,
            place: Place { file: "test".into(), line: 1, column: 1 },
        }
    }

    fn touch(path: &Path, then: &str) -> Option<Box<Command>> {
        Some(Box::new(shell(&format!("echo done > {}; {then}", path.display()))))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_daemon_waits_for_both_whatever_they_say() {
        let directory = tempfile::tempdir().unwrap();
        let (startup, shutdown) = (directory.path().join("startup"), directory.path().join("shutdown"));
        let process = Process {
            startup: touch(&startup, "exit 3"),
            shutdown: touch(&shutdown, "exit 0"),
            ..Process::default()
        };
        before_start(&process).await;
        assert!(startup.exists() && !shutdown.exists());
        after_stop(&process).await;
        assert!(shutdown.exists());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn one_that_hangs_is_ended_after_its_time() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("pid");
        let process = Process {
            startup: Some(Box::new(shell(&format!("echo $$ > {}; exec sleep 600", file.display())))),
            startup_timeout: Some(Duration::from_secs(1)),
            ..Process::default()
        };
        let start = Instant::now();
        before_start(&process).await;
        assert!(start.elapsed() >= Duration::from_secs(1));
        assert!(start.elapsed() < Duration::from_secs(60));
        let pid = std::fs::read_to_string(&file).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).exists());
    }
}
