//! Who holds the VIP? Drives `vrrp` machines with real sockets and timers.
//!
//! [`Engine`] is one thread with a runtime of its own: sockets, timers, address moves, announcements, and
//! nothing that waits for a script, a probe, a log or a lock. The rest of the daemon talks to it through
//! [`EngineHandle`].

use std::sync::Arc;

use config::ready::Config;
use tokio::sync::{mpsc, oneshot};

use crate::check::Verdict;
use crate::observe::status::{GroupStatus, Histogram, InstanceStatus, LeaseStatus, Stalls};
use crate::observe::tally::Tally;

pub mod bfd;
mod deadlines;
mod discards;
mod engine;
mod entries;
mod filter;
mod igmp;
mod instance;
mod lease;
mod link_delay;
pub mod matching;
pub mod priority;
mod realtime;
pub mod socket;
mod suspend;
mod sync;
mod timer;

pub use engine::{Engine, StartError};

/// Runs something short on a thread of its own, with the priority that the engine thread has.
pub fn as_urgent_as_engine(options: config::ready::Engine, name: &str, work: impl FnOnce() + Send + 'static) {
    let run = move || {
        // What is refused here was refused to the engine too, and it has said so.
        drop(realtime::apply(&options));
        work();
    };
    // Without a thread it is not done.
    let _ = std::thread::Builder::new().name(name.into()).spawn(run);
}

/// What the rest of the daemon may ask of the engine.
#[derive(Debug)]
pub enum Command {
    /// A check has news.
    Verdict {
        /// Its name.
        check: String,
        /// What it says.
        verdict: Verdict,
    },
    /// A BFD session has news; `None`: it is no longer configured.
    Bfd {
        /// Its name.
        session: String,
        /// What it says.
        verdict: Option<BfdVerdict>,
    },
    /// Is it alive?
    Ping(oneshot::Sender<()>),
    /// What is.
    Status(oneshot::Sender<EngineStatus>),
    /// Run this from now on. Instances that did not change notice nothing.
    Apply(Arc<Config>, oneshot::Sender<()>),
    /// Priority 0, addresses off, end. Answered when the last address is gone.
    Shutdown(oneshot::Sender<()>),
}

/// What a BFD session says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BfdVerdict {
    /// The neighbour hears us and we hear it.
    pub up: bool,
    /// To stand behind its name: `is down: detection time expired`.
    pub detail: String,
}

/// What the engine knows.
#[derive(Clone, Debug, Default)]
pub struct EngineStatus {
    /// In the order of the configuration; `why` is left empty.
    pub instances: Vec<InstanceStatus>,
    /// In the order of the configuration; `why` is left empty.
    pub groups: Vec<GroupStatus>,
    /// How late timers fired.
    pub lateness: Histogram,
    /// Adverts that belong to no instance, by reason.
    pub discarded: Tally,
    /// How addresses fall silent when this thread hangs.
    pub lease: Option<LeaseStatus>,
    /// When this thread did not run; without `steal`.
    pub stalls: Stalls,
}

/// The way to a running engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EngineHandle {
    commands: mpsc::Sender<Command>,
}

/// The engine is gone or does not answer.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the engine thread does not answer")]
pub struct EngineGone;

impl EngineHandle {
    /// Tells the engine what a check says.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn verdict(&self, check: String, verdict: Verdict) -> Result<(), EngineGone> {
        self.commands.send(Command::Verdict { check, verdict }).await.map_err(|_| EngineGone)
    }

    /// Tells the engine what a BFD session says, without waiting; whether it fitted its queue.
    pub fn try_bfd(&self, session: &str, verdict: Option<BfdVerdict>) -> bool {
        self.commands.try_send(Command::Bfd { session: session.to_owned(), verdict }).is_ok()
    }

    /// Returns when the engine has had its turn.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn ping(&self) -> Result<(), EngineGone> {
        self.ask(Command::Ping).await
    }

    /// Asks for everything the engine knows.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn status(&self) -> Result<EngineStatus, EngineGone> {
        self.ask(Command::Status).await
    }

    /// Runs another configuration from now on.
    ///
    /// # Errors
    /// The engine has ended.
    pub async fn apply(&self, config: Arc<Config>) -> Result<(), EngineGone> {
        self.ask(|done| Command::Apply(config, done)).await
    }

    /// Gives up everything in good order; returns when the last address is gone.
    ///
    /// # Errors
    /// The engine had ended already.
    pub async fn shutdown(&self) -> Result<(), EngineGone> {
        self.ask(Command::Shutdown).await
    }

    /// Returns when the engine has ended, whoever ended it.
    pub async fn ended(&self) {
        self.commands.closed().await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, EngineGone> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| EngineGone)?;
        answered.await.map_err(|_| EngineGone)
    }
}
