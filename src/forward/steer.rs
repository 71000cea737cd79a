//! Which session goes to which backend, and which one waits: what the data path asks.

use std::net::IpAddr;
use std::sync::atomic::{Ordering, fence};
use std::sync::{Arc, PoisonError, Weak};
use std::time::{Duration, Instant};

use config::ready::{Backups, Balance};
use nix::errno::Errno;
use tracing::debug;

use super::access;
use super::balance::{self, Pick, Standing};
use super::life::Life;
use super::listener::{Chooser, Places, Service};
use super::path::{Answer, Ask, Choice, Connect, End, Ended, Side, Steer};
use super::persistence::Table;
use super::queue::{Queue, Waiting};
use crate::observe::event::Kind;

/// Pause before a session goes through the same backends once more, as in HAProxy.
const TURN_AROUND: Duration = Duration::from_secs(1);

/// A session asks, or somebody in the queue is asked.
#[derive(Clone, Copy, Debug)]
struct Wish<'a> {
    tried: &'a [u16],
    tag: u32,
    client: Option<u64>,
    now: Instant,
}

impl Service {
    /// Who gets the session of this wish; and whether its client is to come to him again.
    fn pick(&self, clients: &Table<Arc<Life>>, wish: Wish<'_>) -> (Pick, bool) {
        let mut chooser = self.chooser.lock().unwrap_or_else(PoisonError::into_inner);
        let Chooser { balancer, candidates } = &mut *chooser;
        candidates.clear();
        candidates.extend(self.backends.iter().map(|backend| backend.candidate(wish.now)));
        if self.config.policy.backups == Backups::First {
            balance::first_backup_alone(candidates, !self.quorum_is_lost());
        }
        for index in wish.tried {
            if let Some(candidate) = candidates.get_mut(usize::from(*index)) {
                candidate.standing = Standing::Excluded;
            }
        }
        let backup_is_there = candidates.iter().any(|c| c.backup && c.is_trusted() && c.weight > 0);
        if backup_is_there && self.config.policy.quorum.is_some() && self.quorum_is_lost() {
            candidates.iter_mut().filter(|c| !c.backup).for_each(|c| c.standing = Standing::Excluded);
        }
        let mut bind = true;
        let had = clients.backend(wish.tag);
        if let Some(index) =
            had.and_then(|life| self.backends.iter().position(|b| Arc::ptr_eq(&b.life, life)))
        {
            let candidate = candidates[index];
            let better =
                candidate.backup && candidates.iter().any(|c| !c.backup && c.is_trusted() && c.weight > 0);
            if candidate.is_trusted() && !better {
                if !candidate.full {
                    return (Pick::One(index), true);
                }
                // Elsewhere for this once.
                bind = false;
            }
        }
        (balancer.choose(candidates, || wish.client.unwrap_or(0)), bind)
    }

    /// It has one, and it is lost.
    pub(super) fn quorum_is_lost(&self) -> bool {
        *self.kept.quorum.lock().unwrap_or_else(PoisonError::into_inner) == Some(false)
    }

    fn assign(&self, clients: &mut Table<Arc<Life>>, index: usize, wish: Wish<'_>, bind: bool) -> Choice {
        let backend = &self.backends[index];
        if bind {
            clients.bind(wish.tag, backend.life.clone());
        }
        backend.life.try_out(wish.now, self.config.connect_timeout);
        backend.counts().assigned.fetch_add(1, Ordering::Relaxed);
        Choice { backend: index, patience: backend.life.patience(), tag: wish.tag }
    }

    /// Backends that are not to be tried once more, and whether all have been tried as often as each other.
    fn tried<'a>(&self, ask: &Ask<'a>) -> (&'a [u16], bool) {
        if self.config.policy.retries.is_none() {
            return (ask.tried, false);
        }
        let usable = self.in_a_round().max(1);
        let this_round = ask.tried.len() % usable;
        (&ask.tried[ask.tried.len() - this_round..], this_round == 0 && !ask.tried.is_empty())
    }

    /// Backends that a session may try.
    fn in_a_round(&self) -> usize {
        let usable = |backup: bool| {
            let own = self.backends.iter().filter(|backend| backend.config.policy.backup == backup);
            own.filter(|backend| backend.is_usable()).count()
        };
        match self.config.policy.backups {
            Backups::All => usable(true) + usable(false),
            Backups::First if self.quorum_is_lost() || usable(false) == 0 => usable(true).min(1),
            Backups::First => usable(false),
        }
    }

    fn queue_timeout(&self) -> Duration {
        self.config.policy.queue_timeout.unwrap_or(self.config.connect_timeout)
    }

    fn join(&self, queue: &mut Queue, ask: &Ask<'_>, wish: Wish<'_>) -> Answer {
        let ticket = queue.join(Waiting {
            waiter: ask.waiter(),
            since: wish.now,
            tried: wish.tried.to_vec(),
            generation: self.generation,
            tag: wish.tag,
            client: wish.client.unwrap_or(0),
        });
        self.kept.count(queue);
        Answer::Wait { ticket, at_most: self.queue_timeout(), tag: wish.tag }
    }

    /// Calls those who wait, as long as there are places.
    fn serve(&self, places: &mut Places) {
        let Some(served) = self.served.get().and_then(Weak::upgrade) else { return };
        let now = Instant::now();
        let Places { queue, clients, .. } = places;
        while let Some((ticket, choice)) = self.next_in_queue(queue, clients, now) {
            let called = queue.call(ticket, now);
            self.kept.count(queue);
            if let Some(waiting) = called {
                waiting.waiter.call(ticket, served.clone(), choice);
            }
        }
    }

    fn next_in_queue(
        &self,
        queue: &Queue,
        clients: &mut Table<Arc<Life>>,
        now: Instant,
    ) -> Option<(u64, Choice)> {
        for (ticket, waiting) in queue.front() {
            let tried = if waiting.generation == self.generation { &waiting.tried[..] } else { &[] };
            let wish = Wish { tried, tag: waiting.tag, client: Some(waiting.client), now };
            match self.pick(clients, wish) {
                (Pick::One(index), bind) => return Some((ticket, self.assign(clients, index, wish, bind))),
                // Nobody behind is less choosy.
                (Pick::Full | Pick::Nobody, _) if tried.is_empty() => return None,
                (Pick::Full | Pick::Nobody, _) => {}
            }
        }
        None
    }

    /// There may be places.
    pub(super) fn serve_queue(&self) {
        fence(Ordering::SeqCst);
        if self.kept.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut places = self.kept.places();
        if let Some(current) = places.current.upgrade() {
            current.serve(&mut places);
        }
    }
}

impl Steer for Service {
    fn choose(&self, ask: &Ask<'_>) -> Answer {
        let policy = &self.config.policy;
        if policy.retries.is_some_and(|retries| ask.tried.len() > retries as usize) {
            return Answer::Nobody;
        }
        let now = Instant::now();
        let wants_client = self.config.balance == Balance::Source || policy.persistence.is_some();
        let client = if wants_client { ask.client().map(|client| client.ip().to_canonical()) } else { None };
        let mut places = self.kept.places();
        let Places { queue, clients, .. } = &mut *places;
        let tag = match (&policy.persistence, client) {
            (Some(persistence), Some(client)) if ask.tag == 0 => clients.enter(client, persistence, now),
            _ => ask.tag,
        };
        let (tried, round_is_over) = self.tried(ask);
        let wish = Wish { tried, tag, client: client.map(hash_of), now };
        let answer = if round_is_over && !ask.rested {
            Answer::Pause(TURN_AROUND.min(self.config.connect_timeout))
        } else if !queue.is_empty() && ask.may_wait {
            // Behind those who came before, unless there is a place that none of them wants.
            self.join(queue, ask, wish)
        } else {
            match self.pick(clients, wish) {
                (Pick::One(index), bind) => Answer::Go(self.assign(clients, index, wish, bind)),
                (Pick::Full, _) if ask.may_wait => self.join(queue, ask, wish),
                (Pick::Full | Pick::Nobody, _) => Answer::Nobody,
            }
        };
        match answer {
            // It is not told, so nobody would count it out.
            Answer::Nobody | Answer::Pause(_) if ask.tag == 0 => clients.leave(tag, now),
            // A place may have been given back before anybody could see that somebody waits.
            Answer::Wait { .. } => {
                if let Some(current) = places.current.upgrade() {
                    current.serve(&mut places);
                }
            }
            Answer::Go(_) | Answer::Nobody | Answer::Pause(_) => {}
        }
        match answer {
            Answer::Pause(_) if !ask.may_wait => Answer::Nobody,
            answer => answer,
        }
    }

    fn vacated(&self, _backend: usize) {
        self.serve_queue();
    }

    fn left(&self, ticket: u64) {
        let mut places = self.kept.places();
        places.queue.leave(ticket, Instant::now(), self.queue_timeout());
        self.kept.count(&places.queue);
    }

    fn connected(&self, backend: usize, how: Connect) {
        if self.backends[backend].life.connected(how, self.error_limit()) {
            self.alarm.notify_one();
        }
    }

    fn shortage(&self, doing: &'static str, error: Errno) {
        self.notice_shortage(doing, &error.into());
    }

    fn name(&self) -> &str {
        &self.config.name
    }

    fn backend_name(&self, backend: usize) -> &str {
        self.backends.get(backend).map_or("", |backend| &backend.config.name)
    }

    fn ended(&self, ended: &Ended<'_>) {
        if let End::Header(fault) = ended.end
            && ended.end.is_refusal()
            && let Some(text) = self.bad_headers.notice(&self.config.name, ended.peer(), fault)
        {
            self.events.send(Kind::Notice { text });
        }
        if ended.tag != 0 {
            self.kept.places().clients.leave(ended.tag, Instant::now());
        }
        if let Some(backend) = ended.backend {
            let reset = ended.end == End::Broken(Side::Backend);
            if self.backends[backend].life.ended(reset, ended.bytes_out, self.error_limit()) {
                self.alarm.notify_one();
            }
        }
        if let Some(kind) = self.config.policy.access_log {
            access::log(kind, self, ended);
        }
        if ended.end != End::Complete {
            debug!(
                listener = self.config.name, client.addr = ?ended.client(),
                elapsed_ms = ended.lasted.as_millis(), reason = %ended.end, "session cut"
            );
        }
    }
}

fn hash_of(client: IpAddr) -> u64 {
    match client {
        IpAddr::V4(address) => balance::hash(&address.octets()),
        IpAddr::V6(address) => balance::hash(&address.octets()),
    }
}
