//! A load-balancer host: a machine, and a real `vipd run` inside it.

use std::fs::{self, File};
use std::io;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::lan::Lan;
use super::namespace::Namespace;
use super::timeline::Timeline;
use crate::observe::client;
use crate::observe::event::{Event, Health, Kind, State};

/// A daemon answers on its control socket within this time, also on a busy computer.
const STARTS_WITHIN: Duration = Duration::from_secs(5);
/// A daemon that was asked to stop is gone within this time.
const STOPS_WITHIN: Duration = Duration::from_secs(5);
/// Lines of a daemon's log that are shown when it did not do what it should.
const LAST_WORDS: usize = 12;

/// One host.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub name: &'static str,
    address: Ipv4Addr,
    /// Where its daemon's configuration, socket and log are.
    directory: PathBuf,
    timeline: Timeline,
    state: Arc<watch::Sender<State>>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    machine: Namespace,
    daemon: Child,
    watcher: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.watcher.abort();
        self.machine.kill_everything();
    }
}

impl Host {
    /// A host that is switched off.
    pub fn new(name: &'static str, address: Ipv4Addr, directory: &Path, timeline: Timeline) -> Self {
        let (state, _) = watch::channel(State::Initialize);
        Self {
            name,
            address,
            directory: directory.to_owned(),
            timeline,
            state: Arc::new(state),
            running: None,
        }
    }

    /// Writes the daemon's configuration.
    ///
    /// # Errors
    /// When the directory is full or gone.
    pub fn configure(&self, text: &str) -> io::Result<()> {
        fs::write(self.file("toml"), text)
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.directory.join(format!("{}.{extension}", self.name))
    }

    /// Boots: a fresh machine in the switch, and the daemon in it. Comes back when the daemon takes part, with the time
    /// since when it did.
    ///
    /// # Errors
    /// When the machine cannot be built or the daemon does not answer; with its last words.
    pub async fn start(&mut self, lan: &mut Lan) -> io::Result<Duration> {
        // What is left of the former life goes only now: the kernel's work on it would delay the other host.
        // The cable before the namespace: that one would take the cable with it, at its own time.
        if self.running.is_some() {
            lan.detach(self.name)?;
            self.running = None;
        }
        let machine = lan.attach(self.name, self.address)?;
        // This very program, even if its file has been replaced since.
        let mut command = Command::new("/proc/self/exe");
        command.as_std_mut().arg0("vipd").process_group(0);
        machine.prepare(command.as_std_mut())?;
        let log = File::options().create(true).append(true).open(self.file("log"))?;
        command.arg("run").arg("--config").arg(self.file("toml")).arg("--socket").arg(self.file("sock"));
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let daemon = command.spawn()?;
        let mut running = Running { machine, daemon, watcher: tokio::spawn(async {}) };
        let began = Instant::now();
        let mut events = loop {
            match client::follow_events(&self.file("sock"), 0).await {
                Ok(events) => break events,
                Err(_) if running.daemon.try_wait()?.is_none() && began.elapsed() < STARTS_WITHIN => {
                    sleep(Duration::from_millis(5)).await;
                }
                Err(error) => return Err(self.failed_to_start(&error.to_string())),
            }
        };
        let (name, timeline, state) = (self.name, self.timeline.clone(), self.state.clone());
        let (left_initialize, listens) = oneshot::channel();
        let mut left_initialize = Some(left_initialize);
        running.watcher = tokio::spawn(async move {
            while let Ok(Some(recorded)) = events.next().await {
                tell(name, &timeline, &recorded.event);
                if let Kind::Transition { to, .. } = recorded.event.kind {
                    state.send_replace(to);
                    let first = left_initialize.take();
                    first.map(|first| first.send(timeline.time_of(recorded.event.at)));
                }
            }
        });
        self.running = Some(running);
        match timeout(STARTS_WITHIN, listens).await {
            Ok(Ok(since)) => Ok(since),
            Ok(Err(_)) | Err(_) => Err(self.failed_to_start("it never began to listen")),
        }
    }

    fn failed_to_start(&self, error: &str) -> io::Error {
        io::Error::other(format!("the daemon of {} did not start: {error}\n{}", self.name, self.last_words()))
    }

    /// The end of the daemon's log.
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(self.file("log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        let last = &lines[lines.len().saturating_sub(LAST_WORDS)..];
        last.iter().map(|line| format!("  {} | {line}\n", self.name)).collect()
    }

    /// Power off: first not a frame passes its port any more, then everything in it is dead.
    ///
    /// # Errors
    /// When the switch refuses.
    pub async fn power_off(&mut self, lan: &Lan) -> io::Result<()> {
        lan.silence(self.name)?;
        if let Some(running) = &mut self.running {
            running.machine.kill_everything();
            running.daemon.wait().await?;
        }
        self.state.send_replace(State::Initialize);
        Ok(())
    }

    /// Asks the daemon to stop, as a service manager does, and waits for its end.
    ///
    /// # Errors
    /// When it does not end, or not with exit code 0.
    pub async fn stop(&mut self) -> io::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        if let Some(pid) = running.daemon.id().and_then(|pid| i32::try_from(pid).ok()) {
            kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        }
        let ended = timeout(STOPS_WITHIN, running.daemon.wait()).await;
        self.state.send_replace(State::Initialize);
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => {
                Err(io::Error::other(format!("the daemon of {} ended with {status}", self.name)))
            }
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other(format!("the daemon of {} does not stop", self.name))),
        }
    }

    /// Waits until the host is in a state; `false` when it was not by the deadline.
    pub async fn reaches(&self, wanted: State, deadline: Instant) -> bool {
        let mut state = self.state.subscribe();
        let reached = timeout_at(deadline, state.wait_for(|state| *state == wanted)).await;
        matches!(reached, Ok(Ok(_)))
    }
}

/// Puts what an operator would want to know on the timeline.
fn tell(host: &str, timeline: &Timeline, event: &Event) {
    if let Some(text) = in_words(&event.kind) {
        timeline.say(timeline.time_of(event.at), format!("{host:<8}{text}"));
    }
}

fn in_words(kind: &Kind) -> Option<String> {
    match kind {
        Kind::Transition { from, to, reason, .. } => Some(format!("{from} -> {to}: {reason}")),
        // What comes up at the start is no news.
        Kind::Backend { from: Health::Unknown, to: Health::Up, .. } => None,
        Kind::Backend { backend, to, detail, .. } => Some(format!("backend {backend} is {to}: {detail}")),
        Kind::AddressFailed { address, error, .. } => Some(format!("address {address}: {error}")),
        Kind::AddressRestored { address, .. } => Some(format!("address {address} was deleted, and put back")),
        // Nothing for this audience, or the same news as from the backends.
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::event::Reason;

    #[test]
    fn a_transition_is_told_with_its_reason() {
        let reason =
            Reason::HigherPriority { peer: Ipv4Addr::new(10, 77, 0, 11).into(), theirs: 200, ours: 100 };
        let kind = Kind::Transition {
            instance: "vip".to_owned(),
            from: State::Active,
            to: State::Backup,
            reason,
            priority: 100,
        };
        assert_eq!(
            in_words(&kind).as_deref(),
            Some("active -> backup: 10.77.0.11 advertises priority 200, ours is 100")
        );
    }
}
