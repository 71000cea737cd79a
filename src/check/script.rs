//! Check scripts, run as keepalived runs them: exit 0 is success, anything else or a signal is failure.

use std::time::Duration;

use config::ready::Command;

use super::program::{self, KILL_AFTER, Output, Program, Running};
use super::schedule::{BoxFuture, Outcome, Probing};
use super::{Advice, Spoken, Weight};
use crate::observe::event::{EventSender, Kind};

/// Runs a command again and again, never twice at a time.
#[derive(Debug)]
pub(super) struct ScriptProbe {
    name: String,
    command: Command,
    /// keepalived's `misc_dynamic`: statuses from 2 on are weights.
    weighs: bool,
    supplementary_groups: bool,
    events: EventSender,
    /// Of the last run that exited.
    status: i32,
    program: Option<Program>,
    running: Option<Running>,
}

impl ScriptProbe {
    /// Nothing is started yet. `name` is the check's.
    pub(super) fn new(
        name: String,
        command: Command,
        weighs: bool,
        supplementary_groups: bool,
        events: EventSender,
    ) -> Self {
        Self { name, command, weighs, supplementary_groups, events, status: 0, program: None, running: None }
    }

    /// keepalived says it when the status is another one than before; before the first it is 0.
    fn note(&mut self, status: i32) {
        if std::mem::replace(&mut self.status, status) != status {
            let text = format!("Script `{}` now returning {status}", self.name);
            self.events.send(Kind::Notice { text });
        }
    }

    async fn run(&mut self, timeout: Duration) -> Outcome {
        let program = match &mut self.program {
            Some(program) => program,
            none => none.insert(Program::prepare(self.command.clone(), self.supplementary_groups).await),
        };
        let running = match program.start(&[], Output::KeepLastLine) {
            Ok(running) => self.running.insert(running),
            Err(error) => {
                return Outcome::failure(format!("cannot start {}: {}", program.name(), Spoken(&error)));
            }
        };
        match tokio::time::timeout(timeout, running.wait()).await {
            Ok(Ok(status)) => {
                let line = running.last_line();
                self.running = None;
                if let Some(status) = status.code() {
                    self.note(status);
                }
                if let Some(weight) = status.code().and_then(|status| weight(status, self.weighs)) {
                    let advice = Advice { weight: Some(Weight::Absolute(weight)), ..Advice::default() };
                    let detail = format!("exited with status {}, weight {weight}", weight + 2);
                    return Outcome { advice, ..Outcome::success(detail) };
                }
                let mut detail = program::describe(status);
                if !status.success()
                    && let Some(line) = line
                {
                    detail = format!("{detail}: {line}");
                }
                Outcome { success: status.success(), ..Outcome::success(detail) }
            }
            Ok(Err(error)) => {
                self.running = None;
                Outcome::failure(format!("its end was missed: {}", Spoken(&error)))
            }
            // keepalived counts the failure when the script has gone; that may be seconds later.
            Err(_) => Outcome::failure(format!("timed out after {}", Spoken(timeout))),
        }
    }
}

impl Probing for ScriptProbe {
    fn probe(&mut self, timeout: Duration) -> BoxFuture<'_, Outcome> {
        Box::pin(self.run(timeout))
    }

    fn settle(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(running) = &mut self.running {
                running.end(KILL_AFTER).await;
                self.running = None;
            }
        })
    }

    fn stop(&mut self, grace: Duration) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(running) = &mut self.running {
                running.end(grace).await;
                self.running = None;
            }
        })
    }
}

/// keepalived.conf(5), `misc_dynamic`: statuses from 2 to 255 are success, and 2 more than the weight.
fn weight(status: i32, weighs: bool) -> Option<u16> {
    u16::try_from(status).ok().filter(|status| weighs && *status >= 2).map(|status| status - 2)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use config::ready::{Place, User};
    use nix::sys::signal::{Signal, kill};
    use nix::unistd::Pid;

    use super::*;

    fn probe(command: Command) -> ScriptProbe {
        ScriptProbe::new("c1".to_owned(), command, false, false, EventSender::channel(16).0)
    }

    fn shell(text: &str) -> ScriptProbe {
        probe(command("/bin/sh", &["-c", text]))
    }

    fn command(program: &str, arguments: &[&str]) -> Command {
        Command {
            program: program.into(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            user: None,
            place: Place { file: "test".into(), line: 1, column: 1 },
        }
    }

    const LONG: Duration = Duration::from_secs(20);

    /// State letter in /proc, `None` when there is no such process.
    fn state(pid: i32) -> Option<char> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.chars().next()
    }

    /// Waits for what must become true; a minute is for a busy host.
    async fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
        let start = Instant::now();
        while !is_true() {
            assert!(start.elapsed() < Duration::from_secs(60), "never happened: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn number_in(path: &std::path::Path) -> i32 {
        let read = || std::fs::read_to_string(path).ok()?.trim().parse().ok();
        eventually("a number is written", || read().is_some()).await;
        read().unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn exit_0_is_success() {
        let mut probe = shell("echo fine; exit 0");
        assert_eq!(probe.probe(LONG).await, Outcome::success("exited with status 0"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn another_status_is_failure_and_the_last_line_is_told() {
        let mut probe = shell("echo start; echo '*** Error GET https://localhost:6443/' 1>&2; echo; exit 1");
        assert_eq!(
            probe.probe(LONG).await,
            Outcome::failure("exited with status 1: *** Error GET https://localhost:6443/")
        );
        assert_eq!(shell("exit 7").probe(LONG).await, Outcome::failure("exited with status 7"));
    }

    /// keepalived 2.2.7 with a script that exits 0, 0, 3, 3, 1, 0.
    #[tokio::test(flavor = "multi_thread")]
    async fn another_status_than_before_is_told_as_keepalived_tells_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("status");
        let (events, mut told) = EventSender::channel(16);
        let command = command("/bin/sh", &["-c", &format!("exit $(cat {})", path.display())]);
        let mut probe = ScriptProbe::new("c1".to_owned(), command, false, false, events);
        for status in [0, 0, 3, 3, 1, 0] {
            std::fs::write(&path, status.to_string()).unwrap();
            probe.probe(LONG).await;
        }
        drop(probe);
        let mut texts = Vec::new();
        while let Some(event) = told.recv().await {
            texts.extend(match event.kind {
                Kind::Notice { text } => Some(text),
                _ => None,
            });
        }
        assert_eq!(texts, [3, 1, 0].map(|status| format!("Script `c1` now returning {status}")));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn death_by_signal_is_failure() {
        assert_eq!(shell("kill -9 $$").probe(LONG).await, Outcome::failure("was killed by SIGKILL"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_program_that_is_not_there_is_failure() {
        let mut probe = probe(command("/nonexistent/check", &[]));
        assert_eq!(
            probe.probe(LONG).await,
            Outcome::failure("cannot start /nonexistent/check: No such file or directory")
        );
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_name_without_slash_is_looked_up_in_path() {
        let mut probe = probe(command("true", &[]));
        assert!(probe.probe(LONG).await.success);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn no_shell_sees_the_arguments() {
        let mut probe = probe(command("/bin/sh", &["-c", "test \"$1\" = '$HOME; a  b'", "x", "$HOME; a  b"]));
        assert_eq!(probe.probe(LONG).await, Outcome::success("exited with status 0"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn much_output_does_not_block_the_script() {
        let mut probe = shell("head -c 10000000 /dev/zero | tr '\\0' '\\n'; echo last; exit 3");
        assert_eq!(probe.probe(LONG).await, Outcome::failure("exited with status 3: last"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_background_child_that_keeps_the_output_does_not_keep_the_run_alive() {
        let directory = tempfile::tempdir().unwrap();
        let pid_file = directory.path().join("pid");
        let start = Instant::now();
        let outcome = shell(&format!("sleep 600 & echo $! > {}; echo bad; exit 1", pid_file.display()))
            .probe(LONG)
            .await;
        assert_eq!(outcome, Outcome::failure("exited with status 1: bad"));
        assert!(start.elapsed() < LONG);
        // As with keepalived, it lives on.
        let child = number_in(&pid_file).await;
        assert!(state(child).is_some());
        kill(Pid::from_raw(child), Signal::SIGKILL).unwrap();
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn at_the_timeout_the_whole_group_is_ended_and_nothing_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let (script, child) = (directory.path().join("script"), directory.path().join("child"));
        let mut probe = shell(&format!(
            "echo $$ > {}; sleep 600 & echo $! > {}; wait",
            script.display(),
            child.display()
        ));
        let outcome = probe.probe(Duration::from_millis(500)).await;
        assert_eq!(outcome, Outcome::failure("timed out after 500 ms"));
        probe.settle().await;
        assert_eq!(state(number_in(&script).await), None);
        let child = number_in(&child).await;
        // Its parent is gone, so it is init that buries it.
        eventually("the child has ended", || matches!(state(child), None | Some('Z'))).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_script_that_ignores_term_is_killed_two_seconds_later() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        let mut probe =
            shell(&format!("trap '' TERM; echo $$ > {}; while :; do sleep 0.05; done", script.display()));
        let probing = probe.probe(Duration::from_millis(500));
        assert!(!probing.await.success);
        let pid = number_in(&script).await;
        let start = Instant::now();
        probe.settle().await;
        let took = start.elapsed();
        assert!(took >= KILL_AFTER, "killed after {took:?}");
        assert_eq!(state(pid), None);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_child_that_ignores_term_is_killed_with_its_group() {
        let directory = tempfile::tempdir().unwrap();
        let child = directory.path().join("child");
        let mut probe = shell(&format!(
            "(trap '' TERM; while :; do sleep 0.05; done) & echo $! > {}; wait",
            child.display()
        ));
        assert!(!probe.probe(Duration::from_millis(500)).await.success);
        let child = number_in(&child).await;
        probe.settle().await;
        eventually("the child has ended", || matches!(state(child), None | Some('Z'))).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_probe_that_is_dropped_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let script = directory.path().join("script");
        let mut probe = shell(&format!("echo $$ > {}; sleep 600", script.display()));
        let probing = tokio::time::timeout(LONG, async {
            tokio::select! {
                outcome = probe.probe(LONG) => panic!("{outcome:?}"),
                pid = number_in(&script) => pid,
            }
        });
        let pid = probing.await.unwrap();
        drop(probe);
        eventually("the script is gone and buried", || state(pid).is_none()).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_script_leads_its_own_group() {
        // State, parent and group follow the name in stat.
        let mut probe =
            shell("set -- $(sed 's/.*) //' /proc/$$/stat); echo process $$ parent $2 group $3; exit 1");
        let detail = probe.probe(LONG).await.detail;
        let words: Vec<&str> = detail.split(' ').collect();
        let ["exited", "with", "status", "1:", "process", process, "parent", parent, "group", group] =
            words[..]
        else {
            panic!("{detail}");
        };
        assert_eq!(parent, std::process::id().to_string());
        assert_eq!(group, process);
        assert_ne!(group, nix::unistd::getpgrp().to_string());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn variables_that_change_programs_are_not_passed_on() {
        // SAFETY: no other test reads or writes this name; std guards its own access by a lock.
        unsafe { std::env::set_var("LD_VIPD_TEST", "1") };
        let mut probe = shell("test -z \"$LD_VIPD_TEST\"");
        assert_eq!(probe.probe(LONG).await, Outcome::success("exited with status 0"));
    }

    /// As root: user, group and supplementary groups are all of the user. Otherwise: it is said that the
    /// user cannot be taken on.
    #[tokio::test(flavor = "multi_thread")]
    async fn runs_as_its_user() {
        let mut probe = shell("echo $(id -u) $(id -g) $(id -G); exit 1");
        probe.command.user = Some(User { name: "nobody".to_owned(), uid: 65534, gid: 65534 });
        let detail = probe.probe(LONG).await.detail;
        if nix::unistd::geteuid().is_root() {
            assert_eq!(detail, "exited with status 1: 65534 65534 65534");
        } else {
            assert_eq!(detail, "cannot start /bin/sh: Operation not permitted");
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_script_gets_term_when_the_daemon_dies_also_as_another_user() {
        let mut probe = probe(command(
            "/usr/bin/python3",
            &["-c", "import ctypes as c; n = c.c_int(); c.CDLL(None).prctl(2, c.byref(n)); exit(n.value)"],
        ));
        if nix::unistd::geteuid().is_root() {
            probe.command.user = Some(User { name: "nobody".to_owned(), uid: 65534, gid: 65534 });
        }
        assert_eq!(probe.probe(LONG).await.detail, "exited with status 15");
    }
}
