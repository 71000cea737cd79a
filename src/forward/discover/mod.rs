//! Backends by name: looks the names up again and again, and says which backends and checks they stand for now.
//!
//! A look-up that fails, or finds nothing, changes nothing: the last known addresses stay, and status says why.
//! Nobody waits for a name; a listener runs without the backends of one that was never found.

mod effective;
mod look_up;

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use config::ready::{Config, Listener, Lookup};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tracing::info;

use crate::observe::event::{EventSender, Kind};
use crate::observe::status::NameStatus;

pub use effective::Effective;
pub use look_up::Source;

use look_up::{Answer, Server};

/// Shortest time between two look-ups, whatever the TTL says.
const SOONEST: Duration = Duration::from_secs(1);

/// Longest.
const LATEST: Duration = Duration::from_secs(300);

/// Longest after one that failed; the first retry comes after [`SOONEST`], each further one after twice the time.
const LATEST_RETRY: Duration = Duration::from_secs(60);

/// A look-up that takes longer has failed.
const LIMIT: Duration = Duration::from_secs(30);

/// Addresses of one name that become backends.
const MOST_SERVERS: usize = 256;

/// The names of a configuration, while the daemon runs.
#[derive(Debug)]
pub struct Names {
    source: Source,
    events: EventSender,
    changed: Arc<Notify>,
    watched: Mutex<Vec<Watched>>,
}

/// One of them. Dropped, it is looked up no longer.
#[derive(Debug)]
struct Watched {
    lookup: Lookup,
    known: Arc<Mutex<Known>>,
    task: JoinHandle<()>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
struct Known {
    servers: Vec<Server>,
    answered: Option<SystemTime>,
    error: Option<String>,
    next: Option<Instant>,
}

impl Names {
    /// None yet.
    pub fn new(source: Source, events: EventSender) -> Self {
        Self { source, events, changed: Arc::default(), watched: Mutex::default() }
    }

    /// Looks up the names of this configuration from now on. Those that it had before keep what is known of them.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn follow(&self, config: &Config) {
        let mut watched = self.watched();
        let mut before = std::mem::take(&mut *watched);
        for discovery in config.listeners.iter().flat_map(|listener| &listener.discovered) {
            if watched.iter().any(|one| one.lookup == discovery.from) {
                continue;
            }
            let one = match before.iter().position(|one| one.lookup == discovery.from) {
                Some(at) => before.swap_remove(at),
                None => self.watch(discovery.from.clone()),
            };
            watched.push(one);
        }
    }

    fn watch(&self, lookup: Lookup) -> Watched {
        let known = Arc::<Mutex<Known>>::default();
        let follower = Follower {
            lookup: lookup.clone(),
            known: known.clone(),
            changed: self.changed.clone(),
            source: self.source.clone(),
            events: self.events.clone(),
        };
        Watched { lookup, known, task: tokio::spawn(follower.run()) }
    }

    /// Waits until some name stands for other servers than before.
    pub async fn changed(&self) {
        self.changed.notified().await;
    }

    /// The configuration with a backend, and a check, for each address that is known now.
    pub fn effective(&self, config: &Config) -> Effective {
        let watched = self.watched();
        effective::of(config, |lookup| {
            let known = watched.iter().find(|one| one.lookup == *lookup);
            known.map(|one| lock(&one.known).servers.clone()).unwrap_or_default()
        })
    }

    /// What is known of the names of a listener.
    pub fn status(&self, listener: &Listener) -> Vec<NameStatus> {
        let watched = self.watched();
        let status = |lookup: &Lookup| {
            let known = watched.iter().find(|one| one.lookup == *lookup).map(|one| lock(&one.known).clone());
            let Known { servers, answered, error, next } = known.unwrap_or_default();
            NameStatus {
                name: shown(lookup),
                addresses: servers.iter().map(|server| server.address).collect(),
                answered,
                error,
                next: next.map(|next| next.saturating_duration_since(Instant::now())),
            }
        };
        listener.discovered.iter().map(|discovery| status(&discovery.from)).collect()
    }

    fn watched(&self) -> MutexGuard<'_, Vec<Watched>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The task that looks one name up.
struct Follower {
    lookup: Lookup,
    known: Arc<Mutex<Known>>,
    changed: Arc<Notify>,
    source: Source,
    events: EventSender,
}

impl Follower {
    async fn run(self) {
        let mut failures = 0;
        loop {
            let found = match tokio::time::timeout(LIMIT, self.source.look_up(&self.lookup)).await {
                Ok(found) => found,
                Err(_) => Err(format!("no answer from the name servers within {} s", LIMIT.as_secs())),
            };
            let pause = match found {
                Ok(answer) => {
                    failures = 0;
                    let pause = answer.ttl.clamp(SOONEST, LATEST);
                    self.take(answer, pause);
                    pause
                }
                Err(error) => {
                    let pause = (SOONEST * 2_u32.saturating_pow(failures)).min(LATEST_RETRY);
                    failures = (failures + 1).min(16);
                    self.fail(error, pause);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    fn take(&self, answer: Answer, pause: Duration) {
        let Answer { mut servers, lacking, .. } = answer;
        let mut known = lock(&self.known);
        if let Some((ipv6, _)) = lacking {
            // Of that family nothing is known but what was: an answer about the other one is no reason to drop it.
            let lost = |server: &&Server| server.address.is_ipv6() == ipv6;
            servers.extend(known.servers.iter().filter(lost).cloned());
        }
        servers.sort_by_key(|server| (server.priority, server.address));
        servers.dedup_by_key(|server| server.address);
        let beyond = servers.len().saturating_sub(MOST_SERVERS);
        servers.truncate(MOST_SERVERS);
        known.error = lacking.map(|(ipv6, error)| {
            let family = if ipv6 { "IPv6" } else { "IPv4" };
            format!("{family} addresses are as last known: {error}")
        });
        if beyond > 0 {
            known.error = Some(format!("{beyond} addresses beyond {MOST_SERVERS} are left out"));
        }
        known.answered = Some(SystemTime::now());
        known.next = Some(Instant::now() + pause);
        if known.servers != servers {
            let addresses: Vec<_> = servers.iter().map(|server| server.address.to_string()).collect();
            info!(name = shown(&self.lookup), addresses = addresses.join(" "), "name has other addresses");
            known.servers = servers;
            self.changed.notify_one();
        }
    }

    fn fail(&self, error: String, pause: Duration) {
        let mut known = lock(&self.known);
        let is_new = known.error.as_ref() != Some(&error);
        let what = match known.servers.len() {
            0 => "it has no backends until it is found".to_owned(),
            1 => "its last known address stays".to_owned(),
            count => format!("its {count} last known addresses stay"),
        };
        known.next = Some(Instant::now() + pause);
        known.error = Some(error.clone());
        if is_new {
            let text = format!("{} cannot be looked up: {error}; {what}", shown(&self.lookup));
            self.events.send(Kind::Notice { text });
        }
    }
}

fn shown(lookup: &Lookup) -> String {
    match lookup {
        Lookup::Host(target) => target.to_string(),
        Lookup::Service(name) => name.clone(),
    }
}

fn lock(known: &Mutex<Known>) -> MutexGuard<'_, Known> {
    known.lock().unwrap_or_else(PoisonError::into_inner)
}
