//! What one event means for scripts, FIFOs and mails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use config::ready::{self, Config};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::warn;

use super::STOP_TIME;
use super::keepalived::{self, Who, Word};
use super::mail::Mailer;
use super::reader::{OpenFifo, same};
use super::script::{Scripts, Started};
use super::servers::Servers;
use crate::observe::event::Kind;

/// Everything that is told, and how.
pub(super) struct Teller {
    pub(super) known: BTreeMap<(Who, String), Known>,
    /// As a reload says them: groups, then instances, each in the order they were written.
    order: Vec<(Who, String)>,
    states_on_reload: bool,
    fifos: Vec<OpenFifo>,
    /// FIFOs that a reload has removed.
    closing: JoinSet<()>,
    pub(super) started: Started,
    servers: Servers,
    mailer: Mailer,
    pub(super) lost: Arc<AtomicU64>,
}

/// An instance or a group.
pub(super) struct Known {
    pub(super) scripts: Scripts,
    pub(super) priority_changes: bool,
    pub(super) mail: bool,
    /// Not in the configuration any more; forgotten when its end has been told.
    pub(super) gone: bool,
    pub(super) last: Option<Word>,
    pub(super) priority: u8,
}

impl Known {
    async fn prepare(notify: &ready::Notify, mail: bool, supplementary_groups: bool) -> Self {
        Self {
            scripts: Scripts::prepare(notify, supplementary_groups).await,
            priority_changes: notify.priority_changes,
            mail,
            gone: false,
            last: None,
            priority: 0,
        }
    }
}

impl Teller {
    /// One that knows nobody yet.
    pub(super) fn new(lost: Arc<AtomicU64>) -> Self {
        Self {
            known: BTreeMap::new(),
            order: Vec::new(),
            states_on_reload: false,
            fifos: Vec::new(),
            closing: JoinSet::new(),
            started: Started::default(),
            servers: Servers::default(),
            mailer: Mailer::new(),
            lost,
        }
    }

    /// Takes on a configuration.
    pub(super) async fn take_on(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.known);
        self.order.clear();
        let groups =
            config.sync_groups.iter().map(|one| (Who::Group, &one.name, &one.notify, one.smtp_alert));
        let instances =
            config.instances.iter().map(|one| (Who::Instance, &one.name, &one.notify, one.smtp_alert));
        for (who, name, notify, mail) in groups.chain(instances) {
            let id = (who, name.clone());
            let mut known = Known::prepare(notify, mail, config.process.supplementary_groups).await;
            // One that comes back is another one: what its former self was told last does not count.
            if let Some(before) = before.remove(&id).filter(|known| !known.gone) {
                (known.last, known.priority) = (before.last, before.priority);
            }
            self.order.push(id.clone());
            self.known.insert(id, known);
        }
        // keepalived says nothing of a group that a reload removes.
        for (id, gone) in before.into_iter().filter(|((who, _), _)| *who == Who::Instance) {
            self.known.insert(id, Known { gone: true, ..gone });
        }
        self.states_on_reload = config.process.fifo_states_on_reload;
        self.servers.take_on(config);
        self.mailer.take_on(config);
        self.take_on_fifos(config).await;
    }

    async fn take_on_fifos(&mut self, config: &Config) {
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
                    let groups = config.process.supplementary_groups;
                    self.fifos.extend(OpenFifo::open(wanted, groups).await);
                }
            }
        }
        for gone in before {
            self.closing.spawn(gone.close(Instant::now() + STOP_TIME));
        }
    }

    /// Tells one event.
    pub(super) fn tell(&mut self, kind: &Kind) {
        match kind {
            Kind::Transition { instance, to, reason, priority, .. } => {
                if let Some(word) = keepalived::word(*to, reason) {
                    self.tell_state(Who::Instance, instance, word, *priority);
                }
            }
            Kind::Group { group, to, reason, .. } => {
                if let Some(word) = keepalived::word(*to, reason) {
                    self.tell_state(Who::Group, group, word, 0);
                }
            }
            Kind::Priority { instance, state, to, .. } => {
                let Some(known) = self.known.get_mut(&(Who::Instance, instance.clone())) else { return };
                known.priority = *to;
                let line = keepalived::priority_line(instance, *state, *to);
                if let (true, Some(line)) = (known.priority_changes, line) {
                    self.write(&line);
                }
            }
            Kind::LowerPriorityAdvert { instance, ours, .. } => {
                let Some(known) = self.known.get(&(Who::Instance, instance.clone())) else { return };
                if let Some(script) = &known.scripts.master_rx_lower_priority {
                    self.started.start(script, &[]);
                }
                self.write(&keepalived::lower_priority_line(instance, *ours));
            }
            Kind::Reloaded { .. } => self.tell_states_again(),
            Kind::Backend { listener, backend, from, to, detail, .. } => {
                let id = self.mailer.router_id();
                let letter = self.servers.backend(id, (listener, backend), (*from, *to), detail);
                self.post(letter);
            }
            Kind::Quorum { listener, reached, weight, .. } => {
                let letter = self.servers.quorum(self.mailer.router_id(), listener, *reached, *weight);
                self.post(letter);
            }
            Kind::AdvertNews { .. }
            | Kind::Check { .. }
            | Kind::Bfd { .. }
            | Kind::Ordered { .. }
            | Kind::AddressClaimed { .. }
            | Kind::AddressRestored { .. }
            | Kind::AddressRemoved { .. }
            | Kind::AddressFailed { .. }
            | Kind::Entry { .. }
            | Kind::Discarded { .. }
            | Kind::Notice { .. } => {}
        }
    }

    fn post(&mut self, letter: Option<(String, String)>) {
        if let Some((subject, text)) = letter {
            self.mailer.send(subject, &text);
        }
    }

    fn tell_state(&mut self, who: Who, name: &str, word: Word, priority: u8) {
        let id = (who, name.to_owned());
        let Some(known) = self.known.get_mut(&id) else { return };
        let removed = known.gone && word == Word::Stop;
        let word = match word {
            Word::Stop if removed && known.scripts.tells_deleted => Word::Deleted,
            Word::Stop if removed => Word::Fault,
            word => word,
        };
        known.priority = priority;
        if known.last != Some(word) {
            known.last = Some(word);
            // keepalived 2.2.7 does not run `notify_fault` for an instance that a reload removes, though
            // `notify` and the FIFO hear of FAULT.
            let own = known.scripts.of(word).filter(|_| !removed || word == Word::Deleted);
            if let Some(script) = own {
                self.started.start(script, &[]);
            }
            if let Some(script) = &known.scripts.any {
                self.started.start(script, &keepalived::arguments(who, name, word, priority));
            }
            let silent = !known.mail || (word == Word::Fault && self.mailer.is_silent_about_faults());
            self.write(&keepalived::state_line(who, name, word, priority));
            let mail = keepalived::mail(self.mailer.router_id(), who, name, word);
            self.post(mail.filter(|_| !silent));
        }
        if removed {
            self.known.remove(&id);
        }
    }

    /// `fifo_write_vrrp_states_on_reload`. keepalived 2.2.7 leaves out the instances that are MASTER; its
    /// manual does not.
    fn tell_states_again(&mut self) {
        if !self.states_on_reload {
            return;
        }
        let lines: Vec<String> = self
            .order
            .iter()
            .filter_map(|id| {
                let known = self.known.get(id)?;
                Some(keepalived::state_line(id.0, &id.1, known.last?, known.priority))
            })
            .collect();
        for line in lines {
            self.write(&line);
        }
    }

    #[cfg(test)]
    pub(super) fn say_states_on_reload(&mut self, order: &[(Who, String)]) {
        self.states_on_reload = true;
        self.order = order.to_vec();
    }

    pub(super) fn write(&mut self, line: &str) {
        for fifo in &mut self.fifos {
            if !fifo.write(line) {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Events that a full queue did not take.
    pub(super) fn missed(&self, events: u64) {
        self.lost.fetch_add(events, Ordering::Relaxed);
        warn!(events, "events came faster than they could be told");
    }

    /// Ends what is under way.
    pub(super) async fn stop(mut self) {
        let deadline = Instant::now() + STOP_TIME;
        for fifo in self.fifos {
            self.closing.spawn(fifo.close(deadline));
        }
        tokio::join!(self.started.wait(STOP_TIME), self.mailer.stop(deadline));
        while self.closing.join_next().await.is_some() {}
    }
}
