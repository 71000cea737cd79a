//! Carry the traffic behind the VIP to healthy backends.
//!
//! Listens on the VIP also while another host holds it, so that nothing has to be opened at a takeover. Knows
//! two things of the other rooms: what the checks say of each backend, and that an instance is active or not.
//!
//! - A backend that its check calls down gets no session, and those it has are reset, so that clients come
//!   back at once instead of waiting for a dead host. Sessions that are still being connected to it go to the
//!   next one.
//! - No healthy backend: the client is refused at once with a reset. Until the checks have spoken nobody is
//!   unhealthy (see [`balance`]).
//! - The VIP leaves: its sessions are reset on this host; the clients find the new one.

pub mod backend;
pub mod balance;
pub mod copy;
pub mod holder;
pub mod listener;
pub mod session;
pub mod vips;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use config::ready::{Listener, Place};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::check::Verdict;
use crate::observe::event::{Event, EventSender};
use crate::observe::status::ListenerStatus;
use listener::Service;
use vips::Vips;

/// How long [`Forward::stop`] waits for sessions to be reset.
const STOP_WITHIN: Duration = Duration::from_secs(2);

/// Why the forwarder did not start.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// A listening socket could not be opened.
    #[error("{place}: listener {listener} cannot listen on {address}: {source}; {help}")]
    Listen {
        /// Where the listener was written.
        place: Place,
        /// Its name.
        listener: String,
        /// What could not be bound.
        address: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
        /// What to do.
        help: String,
    },
    /// A backend names a check that does not run.
    #[error("{place}: backend {backend} of listener {listener} names check {check}, which does not exist")]
    UnknownCheck {
        /// Where the backend was written.
        place: Place,
        /// Listener.
        listener: String,
        /// Backend.
        backend: String,
        /// The name that was looked for.
        check: String,
    },
}

/// The running forwarder. Its tasks live on the runtime on which it was started.
#[derive(Debug)]
pub struct Forward {
    services: Vec<Arc<Service>>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
    /// Ends when the last session has dropped its sender.
    alive: mpsc::Receiver<()>,
}

impl Forward {
    /// Binds every listener, or none, and begins to accept.
    ///
    /// `verdicts` gives what a check says; `vips` the addresses of each instance, whose sessions are reset
    /// when `events_in` tells that it is active no longer.
    ///
    /// # Errors
    ///
    /// A listener cannot be bound, or a backend names an unknown check: nothing is left running.
    pub async fn start(
        listeners: &[Listener],
        verdicts: impl Fn(&str) -> Option<watch::Receiver<Verdict>>,
        vips: HashMap<String, Vec<IpAddr>>,
        events_in: broadcast::Receiver<Event>,
        events_out: EventSender,
    ) -> Result<Self, ForwardError> {
        let vips = Arc::new(Vips::new(vips));
        let (stop, stopped) = watch::channel(false);
        let (guard, alive) = mpsc::channel(1);
        let mut ready = Vec::new();
        for config in listeners {
            let sockets = listener::bind_all(config)?;
            let receivers = backend::receivers(config, &verdicts)?;
            let service = Arc::new(Service::new(config.clone(), &sockets, vips.clone(), events_out.clone()));
            ready.push((service, sockets, receivers));
        }
        listener::warn_of_few_descriptors(listeners, &events_out);

        let mut tasks = vec![tokio::spawn(vips.follow(events_in))];
        let mut services = Vec::new();
        for (service, sockets, receivers) in ready {
            for (index, verdict) in receivers.into_iter().enumerate() {
                let Some(verdict) = verdict else { continue };
                service.apply(index, &verdict.borrow().clone());
                tasks.push(tokio::spawn(service.clone().follow(index, verdict)));
            }
            let accepting = service.clone().accept(sockets, stopped.clone(), guard.clone());
            tasks.push(tokio::spawn(accepting));
            services.push(service);
        }
        Ok(Self { services, tasks, stop, alive })
    }

    /// What is, in the order of the configuration.
    pub fn status(&self) -> Vec<ListenerStatus> {
        self.services.iter().map(|service| service.status()).collect()
    }

    /// Closes the listening sockets and resets every session.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        for task in self.tasks.drain(..) {
            task.abort();
            let _ = task.await;
        }
        if tokio::time::timeout(STOP_WITHIN, self.alive.recv()).await.is_err() {
            let sessions = self.services.iter().map(|service| service.status().sessions).sum::<u64>();
            warn!(sessions, "forwarder stopped, sessions did not end in time");
        }
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[cfg(test)]
mod tests;
