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

pub mod access;
pub mod backend;
pub mod balance;
pub mod beside;
pub mod bind;
pub mod discover;
pub mod headers;
pub mod holder;
pub mod kernel;
pub mod life;
pub mod listener;
pub mod orders;
pub mod page;
pub mod path;
pub mod persistence;
mod programs;
mod queue;
pub mod quorum;
mod rebalance;
pub mod sessions;
mod steer;
mod verdicts;
pub mod vips;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use config::ready::{Listener, Place};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::check::Subject;
use crate::observe::event::{Event, EventSender};
use crate::observe::status::ListenerStatus;
use backend::Backend;
use kernel::KernelPath;
use listener::Service;
use orders::{Order, OrderError};
use path::{Path, Sockets};
use programs::Programs;
use quorum::Ability;
use vips::Vips;

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
    /// There is no way around another socket.
    #[error(
        "{place}: listener {listener} cannot have {address}: {why}; give vipd the right, or that socket one address, \
         or choose another port"
    )]
    Beside {
        /// Where the listener was written.
        place: Place,
        /// Its name.
        listener: String,
        /// What it wanted.
        address: SocketAddr,
        /// The ways that were tried, and what stood in each.
        why: String,
    },
    /// The kernel would not carry a listener.
    #[error("{place}: listener {listener} cannot be carried by the kernel: {why}")]
    Kernel {
        /// Where the listener was written.
        place: Place,
        /// Its name.
        listener: String,
        /// What the kernel said, and what to do.
        why: String,
    },
    /// The threads that carry the traffic could not be started.
    #[error("no threads for the forwarder: {0}")]
    Threads(std::io::Error),
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

/// The running forwarder. Its tasks live on the runtime on which it was started, its sessions on the threads of
/// [`path`].
#[derive(Debug)]
pub struct Forward {
    running: Vec<Running>,
    /// Listeners of former configurations that still have sessions.
    retired: Vec<Retired>,
    /// As many were said to be needed.
    descriptors: u64,
    vips: Arc<Vips>,
    events: EventSender,
    following: Task,
    programs: Programs,
    path: Arc<Path>,
    kernel: Arc<KernelPath>,
    ruling: Task,
}

#[derive(Debug)]
struct Running {
    service: Arc<Service>,
    /// In the order of `service.config.bind`.
    sockets: Vec<Sockets>,
    following: Vec<Task>,
    /// In the order of `service.backends`.
    subjects: Vec<Vec<Subject>>,
}

#[derive(Debug)]
struct Retired {
    service: Arc<Service>,
    /// Backends that no listener has any more.
    gone: Vec<usize>,
    following: Vec<Task>,
}

impl Retired {
    fn has_sessions(&self) -> bool {
        let backends = self.gone.iter().map(|index| &self.service.backends[*index]);
        backends.into_iter().any(|backend| backend.counts().assigned.load(Ordering::Relaxed) > 0)
    }
}

/// Ends with its owner.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Task {
    fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(future))
    }

    async fn end(mut self) {
        self.0.abort();
        let _ = (&mut self.0).await;
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// One listener that could be started.
struct Ready {
    service: Arc<Service>,
    sockets: Vec<Sockets>,
    subjects: Vec<Vec<Subject>>,
}

impl Forward {
    /// Binds every listener, or none, and begins to accept, on as many threads as `loops`.
    ///
    /// `checks` gives what a check says; `vips` the addresses of each instance, whose sessions are reset
    /// when `events_in` tells that it is active no longer. `groups`: programs get all groups of their users.
    ///
    /// # Errors
    ///
    /// A listener cannot be bound, or a backend names an unknown check: nothing is left running.
    pub async fn start(
        loops: usize,
        groups: bool,
        listeners: &[Listener],
        checks: impl Fn(&str) -> Option<Subject>,
        vips: HashMap<String, Vec<IpAddr>>,
        events_in: broadcast::Receiver<Arc<Event>>,
        events_out: EventSender,
    ) -> Result<Self, ForwardError> {
        let addresses = vips;
        let path = Arc::new(Path::start(loops).map_err(ForwardError::Threads)?);
        let vips = Arc::new(Vips::default());
        let kernel = KernelPath::start(events_out.clone()).map_err(ForwardError::Threads)?;
        let ruling = Task::spawn(kernel.clone().follow());
        let following = Task::spawn(vips.clone().follow(path.clone(), kernel.clone(), events_in));
        let (running, retired, events) = (Vec::new(), Vec::new(), events_out);
        let programs = Programs::new(groups);
        let mut forward = Self {
            running,
            descriptors: 0,
            retired,
            vips,
            events,
            following,
            programs,
            path,
            kernel,
            ruling,
        };
        forward.reload(listeners, checks, addresses).await?;
        Ok(forward)
    }

    /// Another configuration, all or nothing. No session is cut, and no connection is refused on an address
    /// that stays bound.
    ///
    /// A listener that did not change keeps everything. One that did keeps, as long as its name stays, its counters,
    /// its queue and what it knows of its clients; its backends keep theirs as long as name and address stay, and what
    /// an operator ordered as long as the name does. Sessions go on with the backends that they have, also where those
    /// are gone from the configuration.
    ///
    /// # Errors
    ///
    /// As for [`start`](Self::start): the forwarder runs on as it was.
    pub async fn reload(
        &mut self,
        listeners: &[Listener],
        checks: impl Fn(&str) -> Option<Subject>,
        vips: HashMap<String, Vec<IpAddr>>,
    ) -> Result<(), ForwardError> {
        let ready = self.prepare(listeners, checks)?;
        self.rule(&ready).await?;
        // Where nobody listens no session asks for them.
        if !(listeners.is_empty() && self.running.is_empty()) {
            self.vips.replace(vips);
        }
        self.descriptors = bind::warn_of_few_descriptors(listeners, self.descriptors, &self.events);
        let mut before = std::mem::take(&mut self.running);
        self.retired.retain(Retired::has_sessions);
        for Ready { service, sockets, subjects } in ready {
            let same = before.iter().position(|running| {
                is_same(&running.service.config, &service.config)
                    && running.sockets.iter().zip(&sockets).all(|(one, other)| one.is(other))
            });
            if let Some(index) = same {
                let Running { service, sockets, following, .. } = before.swap_remove(index);
                drop(following);
                let following = self.follow(&service, &subjects);
                self.running.push(Running { service, sockets, following, subjects });
                continue;
            }
            let running = self.run(service, sockets, subjects).await;
            self.running.push(running);
        }
        for Running { service, sockets, following, subjects } in before {
            for sockets in sockets {
                if !self.listens_on(&sockets) {
                    self.path.close(sockets).await;
                }
            }
            drop(following);
            self.retire(service, subjects);
        }
        Ok(())
    }

    fn listens_on(&self, sockets: &Sockets) -> bool {
        self.running.iter().flat_map(|running| &running.sockets).any(|one| one.is(sockets))
    }

    /// The sessions of a former configuration go on; what its checks say of backends that are gone is heard until the
    /// last one has ended.
    fn retire(&mut self, service: Arc<Service>, subjects: Vec<Vec<Subject>>) {
        let goes_on = |backend: &Backend| {
            let running = self.running.iter().flat_map(|running| &running.service.backends);
            running.map(|one| &one.life).any(|life| Arc::ptr_eq(life, &backend.life))
        };
        let gone: Vec<usize> =
            (0..service.backends.len()).filter(|index| !goes_on(&service.backends[*index])).collect();
        let subjects = subjects.into_iter().enumerate().filter(|(index, _)| gone.contains(index));
        let follow = |(index, subjects): (usize, Vec<Subject>)| self.follow_one(&service, index, &subjects);
        let following = subjects.flat_map(follow).collect();
        self.retired.push(Retired { service, gone, following });
    }

    /// Everything that can fail.
    fn prepare(
        &self,
        listeners: &[Listener],
        checks: impl Fn(&str) -> Option<Subject>,
    ) -> Result<Vec<Ready>, ForwardError> {
        let bound = |address: SocketAddr| {
            self.running.iter().find_map(|running| {
                let index = running.service.config.bind.iter().position(|bind| *bind == address)?;
                running.sockets.get(index).cloned()
            })
        };
        let prepare = |config: &Listener| {
            let subjects = backend::subjects(config, &checks)?;
            let sockets = match kernel::carries(config) {
                true => Vec::new(),
                false => bind::bind_all(config, &self.path, bound, &self.events)?,
            };
            let known = self.running.iter().find(|running| running.service.config.name == config.name);
            let known = known.map(|running| &*running.service);
            let (programs, events) = (self.programs.clone(), self.events.clone());
            let service = Arc::new(Service::new(config.clone(), &sockets, known, programs, events));
            Ok(Ready { service, sockets, subjects })
        };
        listeners.iter().map(prepare).collect()
    }

    /// Has the kernel carry what it is to carry, all at once, or refuse it before anything has changed.
    async fn rule(&self, ready: &[Ready]) -> Result<(), ForwardError> {
        let mut services = Vec::new();
        for Ready { service, subjects, .. } in
            ready.iter().filter(|ready| kernel::carries(&ready.service.config))
        {
            let same = self.running.iter().find(|running| is_same(&running.service.config, &service.config));
            if let Some(running) = same {
                services.push(running.service.clone());
                continue;
            }
            let refusal = |why| ForwardError::Kernel {
                place: service.config.place.clone(),
                listener: service.config.name.clone(),
                why,
            };
            self.kernel.try_out(&service.config).await.map_err(refusal)?;
            service.is_checked();
            for (index, subjects) in subjects.iter().enumerate() {
                for (check, subject) in subjects.iter().enumerate() {
                    service.hear(&self.path, index, check, subject);
                }
            }
            services.push(service.clone());
        }
        let first = services.first().map(|service| &service.config);
        let place = first
            .map_or_else(|| Place { file: "".into(), line: 0, column: 0 }, |config| config.place.clone());
        let listener = first.map(|config| config.name.clone()).unwrap_or_default();
        let refusal = |why| ForwardError::Kernel { place, listener, why };
        self.kernel.replace(services).await.map_err(refusal)
    }

    async fn run(
        &self,
        service: Arc<Service>,
        sockets: Vec<Sockets>,
        subjects: Vec<Vec<Subject>>,
    ) -> Running {
        service.is_checked();
        let following = self.follow(&service, &subjects);
        let served = service.for_the_path();
        for sockets in &sockets {
            if let Err(error) = self.path.serve(sockets, &served).await {
                warn!(listener = service.config.name, %error, "socket options refused");
            }
        }
        service.takes_over();
        Running { service, sockets, following, subjects }
    }

    /// Has what is known of the backends applied before the first connection, and later as it comes.
    fn follow(&self, service: &Arc<Service>, subjects: &[Vec<Subject>]) -> Vec<Task> {
        let each = subjects.iter().enumerate();
        let mut following: Vec<_> =
            each.flat_map(|(index, subjects)| self.follow_one(service, index, subjects)).collect();
        following.push(Task::spawn(service.clone().tend(self.path.clone(), subjects.to_vec())));
        if let Some(a_second) = service.config.policy.rebalance {
            following.push(Task::spawn(rebalance::run(service.clone(), self.path.clone(), a_second)));
        }
        following
    }

    fn follow_one(&self, service: &Arc<Service>, index: usize, subjects: &[Subject]) -> Vec<Task> {
        let follow = |(check, subject): (usize, &Subject)| {
            service.hear(&self.path, index, check, subject);
            let following = service.clone().follow(self.path.clone(), index, check, subject.clone());
            if !kernel::carries(&service.config) {
                return Task::spawn(following);
            }
            let (kernel, mut verdict) = (self.kernel.clone(), subject.verdict.clone());
            Task::spawn(async move {
                let tell = async {
                    while verdict.changed().await.is_ok() {
                        // Whoever follows it hears it at the same time.
                        tokio::task::yield_now().await;
                        kernel.changed();
                    }
                };
                tokio::join!(following, tell);
            })
        };
        subjects.iter().enumerate().map(follow).collect()
    }

    /// Whether the clients of a listener are served, now and whenever that changes.
    pub fn ability(&self, listener: &str) -> Option<watch::Receiver<Ability>> {
        let running = self.running.iter().find(|running| running.service.config.name == listener)?;
        Some(running.service.ability())
    }

    /// Does what an operator wants of a backend: `BACKEND`, where that is unique, or `LISTENER/BACKEND`. Gives what
    /// that means, in words.
    ///
    /// # Errors
    ///
    /// No backend has this name, or more than one.
    pub fn order(&self, name: &str, order: Order) -> Result<String, OrderError> {
        let services = self.running.iter().map(|running| &running.service);
        let all = services.flat_map(|service| {
            let listener = service.config.name.as_str();
            let each = service.backends.iter().enumerate();
            each.map(move |(index, backend)| (listener, backend.config.name.as_str(), (service, index)))
        });
        let (service, index) = orders::find(name, all)?;
        Ok(service.order(&self.path, index, order))
    }

    /// Brings what the kernel counts up to date, for [`status`](Self::status).
    pub async fn count(&self) {
        self.kernel.count().await;
    }

    /// What is, in the order of the configuration.
    pub fn status(&self) -> Vec<ListenerStatus> {
        self.running.iter().map(|running| running.service.status()).collect()
    }

    /// Closes the listening sockets and resets every session.
    pub async fn stop(self) {
        let Self { running, retired, following, programs, path, kernel, ruling, .. } = self;
        following.end().await;
        ruling.end().await;
        kernel.stop().await;
        running.iter().for_each(|running| running.service.at_end());
        programs.finish().await;
        for task in running.into_iter().flat_map(|running| running.following) {
            task.end().await;
        }
        for task in retired.into_iter().flat_map(|retired| retired.following) {
            task.end().await;
        }
        // The last one who has it: this waits for its threads, which reset the sessions and end.
        drop(path);
    }
}

/// The same but for the places in the file.
fn is_same(one: &Listener, other: &Listener) -> bool {
    config::listener_without_places(one.clone()) == config::listener_without_places(other.clone())
}

#[cfg(test)]
mod tests;
