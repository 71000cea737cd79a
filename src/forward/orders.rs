//! What an operator wants of a backend at run time, and how it is named.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::backend::Backend;
use crate::observe::status::Admin;

/// Nothing was ordered.
const NONE: u32 = u32::MAX;

/// What was ordered for one backend; read at every choice.
#[derive(Debug)]
pub struct Orders {
    /// 0: nothing.
    admin: AtomicU8,
    weight: AtomicU32,
    since: Mutex<Option<SystemTime>>,
}

impl Default for Orders {
    fn default() -> Self {
        Self { admin: AtomicU8::new(0), weight: AtomicU32::new(NONE), since: Mutex::default() }
    }
}

impl Orders {
    /// What it is to be.
    pub fn admin(&self) -> Option<Admin> {
        match self.admin.load(Ordering::Relaxed) {
            1 => Some(Admin::Ready),
            2 => Some(Admin::Drain),
            3 => Some(Admin::Maint),
            _ => None,
        }
    }

    /// Its weight.
    pub fn weight(&self) -> Option<u16> {
        u16::try_from(self.weight.load(Ordering::Relaxed)).ok()
    }

    /// When the last order for its state was given.
    pub fn since(&self) -> Option<SystemTime> {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on.
    pub fn give(&self, order: Order, configured_weight: u16) {
        let admin = match order {
            Order::Ready => 1,
            Order::Drain => 2,
            Order::Maint => 3,
            // As in the file: the next file may change it.
            Order::Weight(weight) if weight == configured_weight => {
                return self.weight.store(NONE, Ordering::Relaxed);
            }
            Order::Weight(weight) => return self.weight.store(weight.into(), Ordering::Relaxed),
        };
        self.admin.store(admin, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(SystemTime::now());
    }
}

/// What an operator asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Sessions as its health allows.
    Ready,
    /// No new sessions; open ones go on.
    Drain,
    /// No sessions.
    Maint,
    /// 0–65535.
    Weight(u16),
}

/// What became of an order, to stand behind the backend's name.
pub fn answer(order: Order, open: u64, closed: u64, backend: &Backend) -> String {
    let sessions = |number: u64| format!("{number} session{}", if number == 1 { "" } else { "s" });
    match order {
        Order::Ready => format!("is ready; its health is {}", backend.life.health()),
        Order::Drain if open == 0 => "drains: no new sessions; none is open".to_owned(),
        Order::Drain if open == 1 => "drains: no new sessions; 1 session is left".to_owned(),
        Order::Drain => format!("drains: no new sessions; {} are left", sessions(open)),
        Order::Maint if closed > 0 => format!("is in maintenance: no sessions; {} closed", sessions(closed)),
        Order::Maint if open > 0 => {
            format!("is in maintenance: no new sessions; {} go on as configured", sessions(open))
        }
        Order::Maint => "is in maintenance: no sessions".to_owned(),
        Order::Weight(weight) if weight == backend.config.weight => {
            format!("has weight {weight}, as configured")
        }
        Order::Weight(weight) => format!("has weight {weight} (configured: {})", backend.config.weight),
    }
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is none of that name.
    #[error("there is no backend {name}; there {}", Known(known))]
    Unknown {
        /// What was asked for.
        name: String,
        /// `LISTENER/BACKEND`.
        known: Vec<String>,
    },
    /// Which one?
    #[error("{name} is the name of {} backends: say which one, {}", candidates.len(), candidates.join(" or "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// `LISTENER/BACKEND`.
        candidates: Vec<String>,
    },
}

/// The first names of a list.
struct Known<'a>(&'a [String]);

impl fmt::Display for Known<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        match self.0 {
            [] => f.write_str("are none: the configuration has no listener"),
            [one] => write!(f, "is {one}"),
            all if all.len() <= SHOWN => write!(f, "are {}", all.join(", ")),
            all => write!(f, "are {} and {} more", all[..SHOWN].join(", "), all.len() - SHOWN),
        }
    }
}

/// The one that a name stands for, among those with these names of their listeners and their own.
///
/// # Errors
///
/// None, or more than one.
pub fn find<'a, T: Copy>(
    name: &str,
    all: impl Iterator<Item = (&'a str, &'a str, T)> + Clone,
) -> Result<T, OrderError> {
    let full = |listener: &str, backend: &str| format!("{listener}/{backend}");
    let exact = all.clone().find(|(listener, backend, _)| full(listener, backend) == name);
    if let Some((.., found)) = exact {
        return Ok(found);
    }
    let found: Vec<_> = all.clone().filter(|(_, backend, _)| *backend == name).collect();
    let names = |found: &[(&str, &str, T)]| found.iter().map(|(l, b, _)| full(l, b)).collect();
    match found[..] {
        [(.., one)] => Ok(one),
        [] => {
            let known = names(&all.collect::<Vec<_>>());
            Err(OrderError::Unknown { name: name.to_owned(), known })
        }
        _ => Err(OrderError::Ambiguous { name: name.to_owned(), candidates: names(&found) }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backend_is_known_by_its_name_where_that_is_unique() {
        let all = [("api", "cp1", 1), ("api", "cp2", 2), ("etcd", "cp1", 3)];
        let find = |name| find(name, all.iter().copied());
        assert_eq!(find("cp2"), Ok(2));
        assert_eq!(find("etcd/cp1"), Ok(3));
        assert_eq!(
            find("cp1").unwrap_err().to_string(),
            "cp1 is the name of 2 backends: say which one, api/cp1 or etcd/cp1"
        );
        assert_eq!(
            find("cp9").unwrap_err().to_string(),
            "there is no backend cp9; there are api/cp1, api/cp2, etcd/cp1"
        );
    }

    #[test]
    fn a_weight_that_is_the_configured_one_is_no_order() {
        let orders = Orders::default();
        orders.give(Order::Weight(5), 1);
        assert_eq!(orders.weight(), Some(5));
        orders.give(Order::Weight(1), 1);
        assert_eq!((orders.weight(), orders.since()), (None, None));
    }
}
