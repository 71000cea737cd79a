//! Is it healthy? Runs every check at its interval and publishes what it found.
//!
//! One kind of check serves the election and the forwarder: both subscribe to the same verdict. Everything
//! here runs on the workers; nothing waits for a subscriber.

mod advice;
mod agent;
mod apiserver;
mod blocking;
mod certificate;
mod dial;
mod dialogue;
mod dns;
mod entry;
mod etcd;
mod file;
mod health;
mod http;
mod interface;
mod listeners;
mod matching;
mod ping;
mod process;
pub(crate) mod program;
mod schedule;
mod script;
mod session;
mod tcp;
mod tls;
mod udp;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use config::ready::{Check, Place, Probe, Process};
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use self::advice::{Advice, Mode, Weight};
use self::entry::Entry;
pub use self::health::HealthCounter;
pub use self::listeners::news as listener_news;
use self::schedule::Probing;
pub use self::session::{SessionNews, SessionTeller};
use crate::observe::event::{EventSender, Health};
use crate::observe::status::CheckStatus;

/// What a check says now. Published through a `tokio::sync::watch` channel whenever health, value or
/// detail change.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Up, down, or no result yet.
    pub health: Health,
    /// Number read from a file, for value checks.
    pub value: Option<i64>,
    /// What it says of a backend beyond up and down.
    pub advice: Advice,
    /// What the last run said, fit for the middle of a sentence: `connect refused`, `exited with status 1`.
    pub detail: String,
    /// Failures in a row and how many of them bring it down: `failed 3 of 3`.
    pub streak: (u32, u32),
    /// When the health last changed.
    pub since: SystemTime,
}

/// Results as they come, whether or not they change the verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pulse {
    /// Runs that have given a result.
    pub runs: u64,
    /// Good ones in a row, up to now.
    pub good: u32,
    /// Good ones in a row that bring it up.
    pub rise: u32,
}

/// A check that somebody follows closely.
#[derive(Clone, Debug)]
pub struct Subject {
    /// Now, and whenever it changes.
    pub verdict: watch::Receiver<Verdict>,
    /// After each run, later than the verdict.
    pub pulse: watch::Receiver<Pulse>,
    entry: Option<Arc<Entry>>,
}

impl Subject {
    /// One whose results are said by hand.
    pub fn told(verdict: watch::Receiver<Verdict>, pulse: watch::Receiver<Pulse>) -> Self {
        Self { verdict, pulse, entry: None }
    }

    /// Has it run at once, or as soon as the run that is under way is over; the interval begins anew.
    pub fn hurry(&self) {
        if let Some(entry) = &self.entry {
            entry.hurry();
        }
    }
}

/// All checks of the daemon. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Checks(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    runtime: tokio::runtime::Handle,
    events: EventSender,
    processes: Arc<process::monitor::Monitor>,
    sessions: Arc<session::Sessions>,
    tasks: Mutex<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks {
    /// In the order of the configuration.
    running: Vec<RunningCheck>,
    /// Not in the configuration any more; what they run is being ended.
    ending: Vec<(String, JoinHandle<()>)>,
}

#[derive(Debug)]
struct RunningCheck {
    check: Check,
    entry: Arc<Entry>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Checks {
    /// Starts probing. Every check is unknown until its first result. `init_file` is done here alone.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(checks: &[Check], process: &Process, events: EventSender) -> Self {
        let runtime = tokio::runtime::Handle::current();
        let processes = process::monitor::Monitor::new(events.clone());
        let sessions = session::Sessions::new();
        let this = Self(Arc::new(Inner { runtime, events, processes, sessions, tasks: Mutex::default() }));
        this.take_on(checks, process, true);
        this
    }

    /// Verdicts of the check with this name, now and whenever they change. The channel outlives reloads
    /// that keep the name.
    pub fn subscribe(&self, name: &str) -> Option<watch::Receiver<Verdict>> {
        self.lock()
            .running
            .iter()
            .find(|running| running.check.name == name)
            .map(|running| running.entry.subscribe())
    }

    /// As [`subscribe`](Self::subscribe), for who has something to say to it too.
    pub fn follow(&self, name: &str) -> Option<Subject> {
        let tasks = self.lock();
        let running = tasks.running.iter().find(|running| running.check.name == name)?;
        let entry = &running.entry;
        Some(Subject { verdict: entry.subscribe(), pulse: entry.pulse(), entry: Some(entry.clone()) })
    }

    /// The first results of files and processes, as far as they come within `limit`: keepalived knows those
    /// before anything starts.
    pub async fn first_verdicts(&self, limit: Duration) -> HashMap<String, Verdict> {
        let is_quick = |check: &Check| matches!(check.probe, Probe::File { .. } | Probe::Process(_));
        let waiting: Vec<_> = self
            .lock()
            .running
            .iter()
            .filter(|running| is_quick(&running.check))
            .map(|running| (running.check.name.clone(), running.entry.subscribe()))
            .collect();
        let deadline = tokio::time::Instant::now() + limit;
        let mut verdicts = HashMap::new();
        for (name, mut verdict) in waiting {
            let known = verdict.wait_for(|verdict| verdict.health != Health::Unknown);
            if let Ok(Ok(verdict)) = tokio::time::timeout_at(deadline, known).await {
                verdicts.insert(name, verdict.clone());
            }
        }
        verdicts
    }

    /// For the thread that runs the BFD sessions, and for listeners ([`listener_news`]).
    pub fn session_teller(&self) -> SessionTeller {
        self.0.sessions.teller()
    }

    /// All checks, in the order of the configuration.
    pub fn status(&self) -> Vec<CheckStatus> {
        self.lock().running.iter().map(|running| running.entry.status()).collect()
    }

    /// Takes on another configuration. Unchanged checks keep their state and schedule. A changed check
    /// keeps its verdict until its new probe has given a result that decides; new ones start, and those
    /// that are gone are ended with what they run. One that comes back waits for that end.
    pub fn reload(&self, checks: &[Check], process: &Process) {
        self.take_on(checks, process, false);
    }

    fn take_on(&self, checks: &[Check], process: &Process, is_start: bool) {
        self.0.processes.set_buffer(process.process_monitor_buffer);
        let mut tasks = self.lock();
        let groups = process.supplementary_groups;
        let make = |check: &Check| self.probe(check, groups, is_start);
        let Tasks { running, ending } = &mut *tasks;
        ending.retain(|(_, task)| !task.is_finished());
        let mut before = std::mem::take(running);
        for check in checks {
            let known = before.iter().position(|old| old.check.name == check.name);
            running.push(match known.map(|index| before.swap_remove(index)) {
                Some(old) if same(&old.check, check) => RunningCheck { check: check.clone(), ..old },
                Some(old) => self.replace(old, check, make(check)),
                None => {
                    let old = ending.iter().position(|(name, _)| *name == check.name);
                    let old = old.map(|index| ending.swap_remove(index).1);
                    let entry = Entry::new(check, self.0.events.clone(), !is_start);
                    self.begin(check, make(check), Arc::new(entry), old)
                }
            });
        }
        for gone in before {
            gone.stop.send_replace(true);
            ending.push((gone.check.name, gone.task));
        }
    }

    /// Ends all checks, also those that a reload has removed: running scripts get SIGTERM, and SIGKILL one
    /// second later.
    pub async fn stop(&self) {
        let Tasks { running, ending } = std::mem::take(&mut *self.lock());
        for check in &running {
            check.stop.send_replace(true);
        }
        for task in
            running.into_iter().map(|check| check.task).chain(ending.into_iter().map(|(_, task)| task))
        {
            // An error is a panic in there, and the check is over in that case too.
            let _ = task.await;
        }
    }

    fn replace(&self, old: RunningCheck, check: &Check, probe: Box<dyn Probing>) -> RunningCheck {
        old.stop.send_replace(true);
        self.begin(check, probe, old.entry, Some(old.task))
    }

    /// The new run begins when the old one has ended.
    fn begin(
        &self,
        check: &Check,
        probe: Box<dyn Probing>,
        entry: Arc<Entry>,
        old: Option<JoinHandle<()>>,
    ) -> RunningCheck {
        let (stop, stopped) = watch::channel(false);
        let task = {
            let (check, entry) = (check.clone(), Arc::clone(&entry));
            self.0.runtime.spawn(async move {
                if let Some(old) = old {
                    let _ = old.await;
                    entry.reconfigure(&check);
                }
                schedule::run(check, probe, entry, stopped).await;
            })
        };
        RunningCheck { check: check.clone(), entry, stop, task }
    }

    fn probe(&self, check: &Check, supplementary_groups: bool, is_start: bool) -> Box<dyn Probing> {
        self.try_probe(check, supplementary_groups, is_start)
            .unwrap_or_else(|error| Box::new(Unusable(error)))
    }

    fn try_probe(
        &self,
        check: &Check,
        supplementary_groups: bool,
        is_start: bool,
    ) -> Result<Box<dyn Probing>, String> {
        let Check { dial, vips, .. } = check;
        Ok(match &check.probe {
            Probe::Script(command) | Probe::WeighingScript(command) => Box::new(script::ScriptProbe::new(
                check.name.clone(),
                command.clone(),
                matches!(check.probe, Probe::WeighingScript(_)),
                supplementary_groups,
                self.0.events.clone(),
            )),
            Probe::Http(probe) => Box::new(http::HttpCheck::new(probe, dial, vips)?),
            Probe::Apiserver(probe) => Box::new(apiserver::ApiserverCheck::new(probe, dial, vips)),
            Probe::Etcd(probe) => Box::new(etcd::EtcdCheck::new(probe, dial, vips)),
            Probe::Tcp { target } => Box::new(tcp::TcpCheck::new(target, dial)),
            Probe::Dialogue(probe) => Box::new(dialogue::DialogueCheck::new(probe, dial, vips)?),
            Probe::Dns(probe) => Box::new(udp::DnsCheck::new(probe, dial)),
            Probe::Udp(probe) => Box::new(udp::UdpCheck::new(probe, dial)?),
            Probe::Ping { host } => Box::new(ping::PingCheck::new(host, dial)),
            Probe::Agent(probe) => Box::new(agent::AgentCheck::new(probe, dial)),
            Probe::Bfd { session } => Box::new(session::SessionCheck::new(session, &self.0.sessions)),
            Probe::Listeners { names } => Box::new(listeners::ListenersCheck::new(names, &self.0.sessions)),
            Probe::Process(wanted) => {
                Box::new(process::ProcessCheck::new(wanted.clone(), Arc::clone(&self.0.processes)))
            }
            Probe::File { path, expect, initial } => {
                let watches = schedule::counts_changes(check);
                let initial = initial.filter(|_| is_start);
                Box::new(file::FileCheck::new(path.clone(), expect.clone(), initial, watches))
            }
            Probe::Interface { name } => Box::new(interface::InterfaceCheck::new(name.clone())),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Tasks> {
        self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the configuration should have refused: it fails, and says why.
struct Unusable(String);

impl Probing for Unusable {
    fn probe(&mut self, _timeout: Duration) -> schedule::BoxFuture<'_, schedule::Outcome> {
        Box::pin(async { schedule::Outcome::failure(self.0.clone()) })
    }
}

/// Equal apart from where they are written.
fn same(a: &Check, b: &Check) -> bool {
    let nowhere = Place { file: "".into(), line: 0, column: 0 };
    let without_place = |check: &Check| {
        let mut check = Check { place: nowhere.clone(), ..check.clone() };
        if let Some(command) = check.probe.command_mut() {
            command.place = nowhere.clone();
        }
        check
    };
    without_place(a) == without_place(b)
}

/// A value as it is said in the middle of a sentence.
pub(crate) struct Spoken<T>(pub(crate) T);

impl fmt::Display for Spoken<Duration> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        if milliseconds < 1000 {
            write!(f, "{milliseconds} ms")
        } else {
            write!(f, "{} s", self.0.as_millis() as f64 / 1000.0)
        }
    }
}

impl fmt::Display for Spoken<&io::Error> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.raw_os_error() {
            // "No such file or directory", without the number that std adds.
            Some(number) => f.write_str(nix::errno::Errno::from_raw(number).desc()),
            None => write!(f, "{}", self.0),
        }
    }
}

#[cfg(test)]
mod tests;
