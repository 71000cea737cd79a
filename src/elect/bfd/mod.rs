//! Drives the BFD sessions: a real-time thread of its own, with its own timers.
//!
//! Not in the engine's loop: a session may have to send every millisecond and must be heard as often, hundreds of them, and
//! that must not be what an advert waits for; nor may a takeover of a thousand instances make a session look dead. Two
//! threads of the same real-time priority share nothing but the verdicts, and the scheduler keeps them apart.

mod run;
mod socket;

use std::io;
use std::sync::Arc;
use std::sync::mpsc;

use config::ready::Config;
use nix::sys::eventfd::{EfdFlags, EventFd};
use tokio::sync::oneshot;

use super::{EngineHandle, realtime};
use crate::check::SessionTeller;
use crate::observe::event::EventSender;
use crate::observe::status::BfdStatus;

/// What is asked of the thread.
enum Order {
    Apply(Arc<Config>),
    Status(oneshot::Sender<Vec<BfdStatus>>),
    Stop(oneshot::Sender<()>),
}

/// The running sessions. Without any there is no thread.
#[derive(Debug)]
pub struct Bfd {
    engine: EngineHandle,
    checks: SessionTeller,
    events: EventSender,
    thread: Option<Thread>,
}

#[derive(Debug)]
struct Thread {
    orders: mpsc::Sender<Order>,
    bell: Arc<EventFd>,
}

impl Bfd {
    /// Starts the sessions of the configuration; their verdicts go to the engine and to checks.
    ///
    /// # Errors
    /// No thread, no timer.
    pub fn start(
        config: &Arc<Config>,
        engine: EngineHandle,
        checks: SessionTeller,
        events: EventSender,
    ) -> io::Result<Self> {
        let mut this = Self { engine, checks, events, thread: None };
        this.apply(config)?;
        Ok(this)
    }

    /// Runs another configuration: sessions that did not change notice nothing.
    ///
    /// # Errors
    /// No thread, no timer.
    pub fn apply(&mut self, config: &Arc<Config>) -> io::Result<()> {
        if self.thread.is_none() && !config.bfd.is_empty() {
            self.thread = Some(self.spawn(config)?);
        }
        self.ask(Order::Apply(config.clone()));
        Ok(())
    }

    /// What is.
    pub async fn status(&self) -> Vec<BfdStatus> {
        let (answer, answered) = oneshot::channel();
        self.ask(Order::Status(answer));
        answered.await.unwrap_or_default()
    }

    /// Tells every neighbour that we stop (AdminDown); returns when they have been told for long enough, at most a second.
    pub async fn stop(&self) {
        let (answer, answered) = oneshot::channel();
        self.ask(Order::Stop(answer));
        // Without a thread nobody answers.
        let _ = answered.await;
    }

    fn ask(&self, order: Order) {
        if let Some(thread) = &self.thread
            && thread.orders.send(order).is_ok()
        {
            // Full only after 2⁶⁴ orders that nobody read.
            let _ = thread.bell.write(1);
        }
    }

    fn spawn(&self, config: &Config) -> io::Result<Thread> {
        let (orders, received) = mpsc::channel();
        let bell =
            Arc::new(EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?);
        let runner = run::Runner::new(
            self.engine.clone(),
            self.checks.clone(),
            self.events.clone(),
            received,
            bell.clone(),
        )?;
        let options = config.engine.clone();
        std::thread::Builder::new().name("vipd-bfd".into()).spawn(move || {
            // What it is refused the engine's thread is refused too, and has said so.
            drop(realtime::apply(&options));
            runner.run();
        })?;
        Ok(Thread { orders, bell })
    }
}
