//! Which backend a client had: a bounded table by address.
//!
//! At most [`ENTRIES`] clients of a listener are remembered. When that is not enough the one that was away longest is
//! forgotten; a client with open sessions never is.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use config::ready::Persistence;

/// Clients that a listener remembers, some 100 bytes each. Few where a test is to fill the table over real connections.
pub const ENTRIES: usize = if cfg!(test) { 256 } else { 65_536 };

/// No entry.
const NONE: u32 = u32::MAX;

/// The table of a listener; `T` is a backend.
#[derive(Debug)]
pub struct Table<T> {
    by_client: HashMap<IpAddr, u32>,
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    /// Of those without a session, the one that is away longest.
    oldest: u32,
    newest: u32,
    most: usize,
}

#[derive(Debug)]
struct Entry<T> {
    client: IpAddr,
    backend: Option<T>,
    /// Sessions of this client.
    open: u32,
    /// When the last one began or ended.
    last: Instant,
    /// Among those without a session.
    older: u32,
    newer: u32,
}

impl<T> Table<T> {
    /// Nobody is known.
    pub fn new(most: usize) -> Self {
        let (by_client, entries, free) = (HashMap::new(), Vec::new(), Vec::new());
        Self { by_client, entries, free, oldest: NONE, newest: NONE, most }
    }

    /// Clients that are remembered.
    #[cfg(test)]
    pub fn remembered(&self) -> usize {
        self.by_client.len()
    }

    /// A session of this client begins. Gives the number of its entry from 1 on; 0: the table is full of clients with
    /// open sessions.
    pub fn enter(&mut self, client: IpAddr, policy: &Persistence, now: Instant) -> u32 {
        self.forget_expired(policy.timeout, now);
        let client = masked(client, policy);
        if let Some(&index) = self.by_client.get(&client) {
            if self.entries[index as usize].open == 0 {
                self.unlink(index);
            }
            let entry = &mut self.entries[index as usize];
            entry.open += 1;
            entry.last = now;
            return index + 1;
        }
        if self.by_client.len() >= self.most {
            if self.oldest == NONE {
                return 0;
            }
            self.forget(self.oldest);
        }
        let entry = Entry { client, backend: None, open: 1, last: now, older: NONE, newer: NONE };
        let index = match self.free.pop() {
            Some(index) => {
                self.entries[index as usize] = entry;
                index
            }
            None => {
                self.entries.push(entry);
                u32::try_from(self.entries.len() - 1).unwrap_or(NONE)
            }
        };
        self.by_client.insert(client, index);
        index + 1
    }

    /// The backend of an entry that [`enter`](Self::enter) gave.
    pub fn backend(&self, tag: u32) -> Option<&T> {
        self.entries.get(tag.checked_sub(1)? as usize)?.backend.as_ref()
    }

    /// Its backend from now on.
    pub fn bind(&mut self, tag: u32, backend: T) {
        if let Some(entry) = tag.checked_sub(1).and_then(|index| self.entries.get_mut(index as usize)) {
            entry.backend = Some(backend);
        }
    }

    /// A session of that entry has ended.
    pub fn leave(&mut self, tag: u32, now: Instant) {
        let Some(index) = tag.checked_sub(1) else { return };
        let Some(entry) = self.entries.get_mut(index as usize) else { return };
        entry.open = entry.open.saturating_sub(1);
        entry.last = now;
        if entry.open == 0 {
            self.link(index);
        }
    }

    fn forget_expired(&mut self, timeout: Duration, now: Instant) {
        while let Some(entry) = self.entries.get(self.oldest as usize)
            && now.saturating_duration_since(entry.last) > timeout
        {
            self.forget(self.oldest);
        }
    }

    fn forget(&mut self, index: u32) {
        self.unlink(index);
        let entry = &mut self.entries[index as usize];
        entry.backend = None;
        self.by_client.remove(&entry.client);
        self.free.push(index);
    }

    /// Behind the one that left last.
    fn link(&mut self, index: u32) {
        let newest = std::mem::replace(&mut self.newest, index);
        let entry = &mut self.entries[index as usize];
        (entry.older, entry.newer) = (newest, NONE);
        match self.entries.get_mut(newest as usize) {
            Some(before) => before.newer = index,
            None => self.oldest = index,
        }
    }

    fn unlink(&mut self, index: u32) {
        let entry = &self.entries[index as usize];
        let (older, newer) = (entry.older, entry.newer);
        match self.entries.get_mut(older as usize) {
            Some(before) => before.newer = newer,
            None => self.oldest = newer,
        }
        match self.entries.get_mut(newer as usize) {
            Some(after) => after.older = older,
            None => self.newest = older,
        }
    }
}

/// What is the same for all clients of a prefix.
fn masked(client: IpAddr, policy: &Persistence) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(policy.ipv4_prefix.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(policy.ipv6_prefix.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn policy(ipv4_prefix: u8, ipv6_prefix: u8) -> Persistence {
        Persistence { timeout: MINUTE, ipv4_prefix, ipv6_prefix }
    }

    fn client(last: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + last))
    }

    #[test]
    fn a_client_is_remembered_for_the_timeout_after_its_last_session() {
        let (mut table, policy, start) = (Table::new(10), policy(32, 128), Instant::now());
        let tag = table.enter(client(1), &policy, start);
        table.bind(tag, "a");
        // A long session keeps it, however long.
        let other = table.enter(client(2), &policy, start + 100 * MINUTE);
        assert_eq!(table.backend(other), None);
        table.leave(tag, start + 100 * MINUTE);
        let again = table.enter(client(1), &policy, start + 101 * MINUTE);
        assert_eq!(table.backend(again), Some(&"a"));
        table.leave(again, start + 101 * MINUTE);
        let late = table.enter(client(1), &policy, start + 102 * MINUTE + Duration::from_millis(1));
        assert_eq!(table.backend(late), None);
    }

    #[test]
    fn clients_of_one_prefix_are_the_same_client() {
        let same = |one: &str, other: &str, policy| {
            let mut table: Table<()> = Table::new(10);
            let now = Instant::now();
            table.enter(one.parse().unwrap(), &policy, now)
                == table.enter(other.parse().unwrap(), &policy, now)
        };
        assert!(same("192.0.2.1", "192.0.2.254", policy(24, 128)));
        assert!(!same("192.0.2.1", "192.0.3.1", policy(24, 128)));
        assert!(same("192.0.2.1", "198.51.100.1", policy(0, 128)));
        assert!(same("2001:db8:0:1::1", "2001:db8:0:1::2", policy(32, 64)));
        assert!(!same("2001:db8:0:1::1", "2001:db8:0:2::1", policy(32, 64)));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1", policy(32, 128)));
    }

    #[test]
    fn the_one_that_is_away_longest_is_forgotten_when_there_is_no_room() {
        let (mut table, policy, start) = (Table::new(3), policy(32, 128), Instant::now());
        let tags: Vec<_> = (0..3).map(|n| table.enter(client(n), &policy, start)).collect();
        for (tag, name) in tags.iter().zip(["a", "b", "c"]) {
            table.bind(*tag, name);
        }
        assert_eq!(table.enter(client(9), &policy, start), 0, "all have open sessions");
        table.leave(tags[1], start);
        table.leave(tags[0], start);
        assert_ne!(table.enter(client(9), &policy, start), 0);
        assert_eq!(table.remembered(), 3);
        let known = |table: &mut Table<_>, n| {
            let tag = table.enter(client(n), &policy, start);
            table.backend(tag).copied()
        };
        assert_eq!(known(&mut table, 0), Some("a"));
        assert_eq!(known(&mut table, 2), Some("c"));
        assert_eq!(known(&mut table, 1), None, "it left first");
    }

    #[test]
    fn many_clients_that_come_and_go_leave_nothing_behind() {
        let (mut table, policy, start) = (Table::new(100), policy(32, 128), Instant::now());
        let mut open: Vec<u32> = Vec::new();
        let mut random = 1_u64;
        for step in 0..100_000_u32 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let now = start + Duration::from_millis(step.into());
            if random >> 63 == 0 || open.is_empty() {
                let tag = table.enter(client((random >> 40) as u32 % 500), &policy, now);
                if tag != 0 {
                    table.bind(tag, step);
                    open.push(tag);
                }
            } else {
                let tag = open.swap_remove((random >> 33) as usize % open.len());
                table.leave(tag, now);
            }
            assert!(table.remembered() <= 100 && table.entries.len() <= 100);
        }
        for tag in open {
            table.leave(tag, start);
        }
        table.forget_expired(Duration::ZERO, start + 1000 * MINUTE);
        assert_eq!(table.remembered(), 0);
        assert_eq!((table.oldest, table.newest), (NONE, NONE));
    }
}
