//! Tell people and programs: notify scripts, FIFOs, mail.
//!
//! Sees instances that are active or not, and why; runs on the workers, and no transition ever waits for
//! it. One change is told in keepalived's order: `notify_STATE`, `notify`, FIFO, mail. Scripts are started
//! in that order and not waited for, so they overlap, as keepalived's do.

mod fifo;
pub mod hook;
mod keepalived;
mod mail;
mod reader;
mod script;
mod servers;
mod teller;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use config::ready::Config;
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use self::teller::Teller;
use crate::observe::event::Event;

/// Scripts, FIFO readers and mails get this long when the daemon stops.
const STOP_TIME: Duration = Duration::from_secs(1);

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
    pub fn start(config: &Config, events: broadcast::Receiver<Arc<Event>>) -> Self {
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
    mut events: broadcast::Receiver<Arc<Event>>,
    mut changes: mpsc::UnboundedReceiver<Change>,
    lost: Arc<AtomicU64>,
) {
    let mut teller = Teller::new(lost);
    teller.take_on(&config).await;
    drop(config);
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

#[cfg(test)]
mod tests;
