//! After a backend has come back: which sessions of the others are closed, so that their clients come again.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use super::listener::Service;
use super::path::{End, Path, SessionId, Which};

/// From one look to the next.
const EVERY: Duration = Duration::from_secs(1);

/// A session that could be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open<T> {
    /// Index of its backend.
    pub backend: usize,
    /// Since a byte moved.
    pub idle: Duration,
    /// Which.
    pub id: T,
}

/// What each backend has beyond its share by weight, the idlest first. Weight 0: not considered.
pub fn surplus<T: Copy>(weights: &[u64], mut sessions: Vec<Open<T>>) -> Vec<T> {
    let weight = |backend: usize| weights.get(backend).copied().unwrap_or(0);
    sessions.retain(|session| weight(session.backend) > 0);
    let (all, whole) = (sessions.len() as u64, weights.iter().sum::<u64>().max(1));
    let mut has = vec![0_u64; weights.len()];
    for session in &sessions {
        has[session.backend] += 1;
    }
    sessions.sort_by_key(|session| std::cmp::Reverse(session.idle));
    let mut close = |session: &Open<T>| {
        let share = (u128::from(all) * u128::from(weight(session.backend))).div_ceil(whole.into());
        let has = &mut has[session.backend];
        let too_many = u128::from(*has) > share;
        *has -= u64::from(too_many);
        too_many
    };
    sessions.iter().filter(|session| close(session)).map(|session| session.id).collect()
}

/// Closes so many a second, as often as a backend comes back, and never more than there were too many at first.
pub async fn run(service: Arc<Service>, path: Arc<Path>, a_second: u32) {
    loop {
        service.wait_for_return().await;
        tokio::time::sleep(service.config.policy.slow_start).await;
        let mut left: Option<usize> = None;
        let mut closed = 0;
        loop {
            let surplus = surplus(&service.weights(), open(&service, &path).await);
            let rest = left.get_or_insert(surplus.len());
            let now = surplus.len().min(*rest).min(usize::try_from(a_second).unwrap_or(usize::MAX));
            if now == 0 {
                break;
            }
            for id in &surplus[..now] {
                closed += path.end(Which::One(*id), End::Closed).await;
            }
            *rest -= now;
            tokio::time::sleep(EVERY).await;
        }
        if closed > 0 {
            info!(
                listener = service.config.name,
                sessions = closed,
                "sessions closed for a backend that is back"
            );
        }
    }
}

async fn open(service: &Service, path: &Path) -> Vec<Open<SessionId>> {
    let sessions = path.sessions().await;
    let open = sessions.iter().filter_map(|session| {
        let counts = session.service.backends.get(session.backend?)?;
        let backend = service.backends.iter().position(|backend| Arc::ptr_eq(backend.counts(), counts))?;
        Some(Open { backend, idle: session.idle, id: session.id })
    });
    open.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(of: &[(usize, u64)]) -> Vec<Open<usize>> {
        let open = |(id, (backend, idle)): (usize, &(usize, u64))| Open {
            backend: *backend,
            idle: Duration::from_secs(*idle),
            id,
        };
        of.iter().enumerate().map(open).collect()
    }

    #[test]
    fn the_idlest_of_those_that_have_too_many_are_closed() {
        let six = sessions(&[(0, 5), (0, 1), (0, 9), (0, 2), (1, 100), (1, 100)]);
        assert_eq!(surplus(&[1, 1, 1], six.clone()), [2, 0], "two more than its share of two");
        assert_eq!(surplus(&[1, 1], six.clone()), [2]);
        assert!(surplus(&[2, 1, 0], six.clone()).is_empty());
        assert_eq!(surplus(&[1, 2, 0], six), [2, 0]);
    }

    #[test]
    fn a_share_is_rounded_up() {
        assert!(surplus(&[1, 1], sessions(&[(0, 1)])).is_empty());
        assert!(surplus(&[1, 1, 1], sessions(&[(0, 1), (0, 2), (1, 1), (1, 1)])).is_empty());
        assert!(surplus::<usize>(&[1, 1], Vec::new()).is_empty());
    }
}
