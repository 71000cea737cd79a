//! Tell people and programs: notify scripts, FIFOs.
//!
//! Sees instances that are active or not, and why; runs on the workers, and no transition ever waits for
//! it. One change is told in keepalived's order: `notify_STATE`, `notify`, FIFO.

mod fifo;
mod keepalived;
mod script;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::ready::{Config, Fifo};
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tracing::warn;

use self::fifo::Pipe;
use self::keepalived::Word;
use self::script::{Scripts, Started};
use crate::check::Spoken;
use crate::check::program::{self, Output, Program};
use crate::observe::event::{Event, Kind};

/// Scripts and FIFO readers get this long when the daemon stops.
const STOP_TIME: Duration = Duration::from_secs(1);
/// How often to look whether a FIFO has been read.
const FIFO_POLL: Duration = Duration::from_millis(10);
/// From the last line read to SIGTERM for the script that read it.
const FIFO_REST: Duration = Duration::from_millis(50);
/// From that SIGTERM to SIGKILL at least, however late it is.
const FIFO_GRACE: Duration = Duration::from_millis(100);

/// Tells scripts and FIFOs what happens to the instances.
#[derive(Debug)]
pub struct Notifier {
    commands: mpsc::UnboundedSender<Change>,
    lost: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
enum Change {
    Reload(Box<Config>),
    Stop,
}

impl Notifier {
    /// Opens the FIFOs, starts their scripts, and acts on events from now on.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn start(config: &Config, events: broadcast::Receiver<Event>) -> Self {
        let (commands, changes) = mpsc::unbounded_channel();
        let lost = Arc::<AtomicU64>::default();
        let task = tokio::spawn(run(config.clone(), events, changes, Arc::clone(&lost)));
        Self { commands, lost, task }
    }

    /// Takes on another configuration. To be called before the instances that are gone are stopped:
    /// they are then told as DELETED if `notify_deleted` is set, and as FAULT otherwise, as keepalived does.
    pub fn reload(&self, config: &Config) {
        // An error means that the task has panicked; the events are not told then, and nothing else depends
        // on it.
        let _ = self.commands.send(Change::Reload(Box::new(config.clone())));
    }

    /// Lines that a full FIFO, and events that a full queue, did not take.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Tells what has been sent before this call, ends the FIFOs' scripts and removes the FIFOs that were
    /// made here. All scripts together get 1 s; a FIFO's script that has not ended by then is killed.
    pub async fn stop(self) {
        let _ = self.commands.send(Change::Stop);
        let _ = self.task.await;
    }
}

async fn run(
    config: Config,
    mut events: broadcast::Receiver<Event>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    lost: Arc<AtomicU64>,
) {
    let mut teller = Teller::new(lost);
    teller.take_on(&config).await;
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            change = changes.recv() => match change {
                Some(Change::Reload(config)) => teller.take_on(&config).await,
                Some(Change::Stop) | None => break,
            },
            event = events.recv(), if open => match event {
                Ok(event) => teller.tell(&event.kind),
                Err(broadcast::error::RecvError::Lagged(missed)) => teller.missed(missed),
                Err(broadcast::error::RecvError::Closed) => open = false,
            },
        }
    }
    loop {
        match events.try_recv() {
            Ok(event) => teller.tell(&event.kind),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => teller.missed(missed),
            Err(broadcast::error::TryRecvError::Empty | broadcast::error::TryRecvError::Closed) => break,
        }
    }
    teller.stop().await;
}

struct Teller {
    instances: BTreeMap<String, Instance>,
    fifos: Vec<OpenFifo>,
    /// FIFOs that a reload has removed.
    closing: JoinSet<()>,
    started: Started,
    lost: Arc<AtomicU64>,
}

struct Instance {
    scripts: Scripts,
    priority_changes: bool,
    /// Not in the configuration any more; forgotten when its end has been told.
    gone: bool,
    last: Option<Word>,
}

struct OpenFifo {
    written: Fifo,
    pipe: Pipe,
    script: Option<FifoScript>,
}

struct FifoScript {
    /// Takes the time from SIGTERM to SIGKILL.
    stop: oneshot::Sender<Duration>,
    task: JoinHandle<()>,
}

impl Teller {
    fn new(lost: Arc<AtomicU64>) -> Self {
        Self {
            instances: BTreeMap::new(),
            fifos: Vec::new(),
            closing: JoinSet::new(),
            started: Started::default(),
            lost,
        }
    }

    async fn take_on(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.instances);
        for instance in &config.instances {
            // One that comes back is another one: what its former self was told last does not count.
            let last = before.remove(&instance.name).filter(|known| !known.gone).and_then(|known| known.last);
            let scripts = Scripts::prepare(&instance.notify).await;
            let priority_changes = instance.notify.priority_changes;
            let known = Instance { scripts, priority_changes, gone: false, last };
            self.instances.insert(instance.name.clone(), known);
        }
        for (name, gone) in before {
            self.instances.insert(name, Instance { gone: true, ..gone });
        }
        // What is at the path of one of these must be gone before it is made again.
        while self.closing.join_next().await.is_some() {}
        let mut before = std::mem::take(&mut self.fifos);
        for wanted in &config.fifos {
            match before.iter().position(|open| same(&open.written, wanted)) {
                Some(index) => self.fifos.push(before.swap_remove(index)),
                None => {
                    if let Some(index) = before.iter().position(|open| open.written.path == wanted.path) {
                        before.swap_remove(index).close(Instant::now()).await;
                    }
                    self.fifos.extend(OpenFifo::open(wanted).await);
                }
            }
        }
        for gone in before {
            self.closing.spawn(gone.close(Instant::now() + STOP_TIME));
        }
    }

    fn tell(&mut self, kind: &Kind) {
        match kind {
            Kind::Transition { instance, to, reason, priority, .. } => {
                if let Some(word) = keepalived::word(*to, reason) {
                    self.tell_state(instance, word, *priority);
                }
            }
            Kind::Priority { instance, state, to, .. } => {
                let wanted = self.instances.get(instance).is_some_and(|known| known.priority_changes);
                if let (true, Some(line)) = (wanted, keepalived::priority_line(instance, *state, *to)) {
                    self.write(&line);
                }
            }
            Kind::LowerPriorityAdvert { instance, ours, .. } => {
                let Some(known) = self.instances.get(instance) else { return };
                if let Some(script) = &known.scripts.master_rx_lower_priority {
                    self.started.start(script, &[]);
                }
                self.write(&keepalived::lower_priority_line(instance, *ours));
            }
            // Groups have scripts of their own.
            Kind::Group { .. }
            | Kind::Check { .. }
            | Kind::Backend { .. }
            | Kind::AddressRestored { .. }
            | Kind::AddressRemoved { .. }
            | Kind::AddressFailed { .. }
            | Kind::Entry { .. }
            | Kind::Discarded { .. }
            | Kind::Notice { .. } => {}
        }
    }

    fn tell_state(&mut self, instance: &str, word: Word, priority: u8) {
        let Some(known) = self.instances.get_mut(instance) else { return };
        let removed = known.gone && word == Word::Stop;
        let word = match word {
            Word::Stop if removed && known.scripts.deleted.is_some() => Word::Deleted,
            Word::Stop if removed => Word::Fault,
            word => word,
        };
        if known.last != Some(word) {
            known.last = Some(word);
            if let Some(script) = known.scripts.of(word) {
                self.started.start(script, &[]);
            }
            if let Some(script) = &known.scripts.any {
                self.started.start(script, &keepalived::arguments(instance, word, priority));
            }
            self.write(&keepalived::state_line(instance, word, priority));
        }
        if removed {
            self.instances.remove(instance);
        }
    }

    fn write(&mut self, line: &str) {
        for fifo in &mut self.fifos {
            if let Err(error) = fifo.pipe.write(line) {
                let lost = self.lost.fetch_add(1, Ordering::Relaxed) + 1;
                let path = fifo.pipe.path().display();
                warn!(fifo = %path, error = %Spoken(&error), lost, "a line for a FIFO was lost");
            }
        }
    }

    fn missed(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::Relaxed);
        warn!(events, "events came faster than they could be told");
    }

    async fn stop(mut self) {
        let deadline = Instant::now() + STOP_TIME;
        for fifo in self.fifos {
            self.closing.spawn(fifo.close(deadline));
        }
        self.started.wait(STOP_TIME).await;
        while self.closing.join_next().await.is_some() {}
    }
}

/// Equal apart from where they are written.
fn same(a: &Fifo, b: &Fifo) -> bool {
    let mut b = b.clone();
    b.place = a.place.clone();
    if let (Some(b), Some(a)) = (&mut b.script, &a.script) {
        b.place = a.place.clone();
    }
    *a == b
}

impl OpenFifo {
    async fn open(wanted: &Fifo) -> Option<Self> {
        let pipe = match Pipe::open(&wanted.path, wanted.user.as_ref()) {
            Ok(pipe) => pipe,
            Err(error) => {
                let path = wanted.path.display();
                warn!(fifo = %path, error = %Spoken(&error), place = %wanted.place, "FIFO not opened");
                return None;
            }
        };
        let script = match &wanted.script {
            Some(command) => FifoScript::start(Program::prepare(command.clone()).await, &pipe),
            None => None,
        };
        Some(Self { written: wanted.clone(), pipe, script })
    }

    /// A script may read what is in the pipe until `deadline`; then it gets SIGTERM, and SIGKILL when it has
    /// not ended by `deadline` or shortly after it.
    async fn close(self, deadline: Instant) {
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

#[cfg(test)]
mod tests;
