//! Which backend gets the next session: a pure choice, no sockets and no clock.
//!
//! A backend whose check has called it down never gets one. Before the checks have spoken nobody is down, so
//! a freshly started forwarder carries traffic at once; but a backend that is known to be up always comes
//! before one of which nothing is known yet, and one whose last connect hung comes after its peers.

use config::ready::Balance;

/// How willingly a backend is used. Only the best standing that anybody has is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Up, or without a check.
    Healthy,
    /// No result of its check yet.
    Unproven,
    /// Not down by its check, but a connect to it hung a short while ago.
    Suspect,
    /// Down, or tried already for this session.
    Excluded,
}

/// A backend, as far as the choice needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How willingly.
    pub standing: Standing,
    /// At least 1.
    pub weight: u16,
    /// Sessions that it has now, with those that are being connected.
    pub sessions: u64,
}

/// The choice, and what it remembers from one to the next.
#[derive(Clone, Debug)]
pub struct Balancer {
    balance: Balance,
    /// Smooth weighted round robin: what each backend has saved up.
    credit: Vec<i64>,
}

impl Balancer {
    /// For this many backends.
    pub fn new(balance: Balance, backends: usize) -> Self {
        Self { balance, credit: vec![0; backends] }
    }

    /// Index of the backend that gets the next session. `None`: all are excluded.
    pub fn choose(&mut self, candidates: &[Candidate]) -> Option<usize> {
        let best = candidates.iter().map(|c| c.standing).min().filter(|s| *s != Standing::Excluded)?;
        let eligible = |c: &Candidate| c.standing == best;
        match self.balance {
            Balance::RoundRobin => self.in_turn(candidates, eligible),
            // The configuration refuses the others so far.
            Balance::LeastConn | Balance::Source | Balance::Random | Balance::First => {
                let least = candidates.iter().filter(|c| eligible(c)).copied().min_by(by_load)?;
                self.in_turn(candidates, |c| eligible(c) && by_load(c, &least).is_eq())
            }
        }
    }

    /// Everybody saves up its weight, the richest is chosen and pays what all have saved: in proportion to
    /// the weights, and without bursts (weights 5, 1, 1 give `a a b a c a a`).
    fn in_turn(&mut self, candidates: &[Candidate], eligible: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut chosen: Option<usize> = None;
        for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| eligible(c)) {
            let weight = i64::from(candidate.weight.max(1));
            total += weight;
            self.credit[index] += weight;
            if chosen.is_none_or(|best| self.credit[index] > self.credit[best]) {
                chosen = Some(index);
            }
        }
        let chosen = chosen?;
        self.credit[chosen] -= total;
        Some(chosen)
    }
}

/// Compares the sessions for each unit of weight that a backend would have with one more.
fn by_load(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    let load =
        |of: &Candidate, other: &Candidate| (u128::from(of.sessions) + 1) * u128::from(other.weight.max(1));
    load(a, b).cmp(&load(b, a))
}

#[cfg(test)]
mod tests {
    use super::Standing::{Excluded, Healthy, Suspect, Unproven};
    use super::*;

    fn candidates<const N: usize>(weights: [u16; N]) -> [Candidate; N] {
        weights.map(|weight| Candidate { standing: Healthy, weight, sessions: 0 })
    }

    fn standings<const N: usize>(standings: [Standing; N]) -> [Candidate; N] {
        standings.map(|standing| Candidate { standing, weight: 1, sessions: 0 })
    }

    fn sequence(balance: Balance, candidates: &[Candidate], n: usize) -> Vec<Option<usize>> {
        let mut balancer = Balancer::new(balance, candidates.len());
        (0..n).map(|_| balancer.choose(candidates)).collect()
    }

    #[test]
    fn round_robin_takes_equal_backends_in_turn() {
        let got = sequence(Balance::RoundRobin, &candidates([1, 1, 1]), 6);
        assert_eq!(got, [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn round_robin_spreads_a_heavy_backend_evenly() {
        let got = sequence(Balance::RoundRobin, &candidates([5, 1, 1]), 14);
        assert_eq!(got, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0].map(Some));
    }

    #[test]
    fn round_robin_gives_each_backend_its_weight_over_a_cycle() {
        for weights in [[1, 2, 3], [256, 1, 7], [10, 10, 1]] {
            let cycle = weights.iter().map(|w| usize::from(*w)).sum::<usize>();
            let got = sequence(Balance::RoundRobin, &candidates(weights), 3 * cycle);
            for (index, weight) in weights.iter().enumerate() {
                let count = got.iter().filter(|g| **g == Some(index)).count();
                assert_eq!(count, 3 * usize::from(*weight), "backend {index} of {weights:?}");
            }
        }
    }

    #[test]
    fn least_conn_fills_up_the_emptiest() {
        let mut now = candidates([1, 1, 1]);
        now[0].sessions = 3;
        now[1].sessions = 1;
        now[2].sessions = 2;
        let mut balancer = Balancer::new(Balance::LeastConn, 3);
        let mut got = Vec::new();
        for _ in 0..3 {
            let chosen = balancer.choose(&now).unwrap();
            now[chosen].sessions += 1;
            got.push(chosen);
        }
        assert_eq!(got[0], 1);
        assert_eq!(now.map(|c| c.sessions), [3, 3, 3]);
    }

    #[test]
    fn least_conn_counts_sessions_for_each_unit_of_weight() {
        let mut now = candidates([3, 1]);
        let mut balancer = Balancer::new(Balance::LeastConn, 2);
        for _ in 0..40 {
            let chosen = balancer.choose(&now).unwrap();
            now[chosen].sessions += 1;
        }
        assert_eq!(now.map(|c| c.sessions), [30, 10]);
    }

    #[test]
    fn least_conn_takes_equals_in_turn() {
        let got = sequence(Balance::LeastConn, &candidates([1, 1, 1]), 6);
        assert_eq!(got, [0, 1, 2, 0, 1, 2].map(Some));
    }

    #[test]
    fn a_backend_that_is_up_comes_before_one_that_is_unproven() {
        let got = sequence(Balance::RoundRobin, &standings([Unproven, Healthy, Unproven]), 3);
        assert_eq!(got, [Some(1); 3]);
    }

    #[test]
    fn unproven_backends_are_used_while_nobody_is_up() {
        let got = sequence(Balance::RoundRobin, &standings([Unproven, Excluded, Unproven]), 4);
        assert_eq!(got, [0, 2, 0, 2].map(Some));
    }

    #[test]
    fn a_suspect_is_used_only_when_nobody_better_is_left() {
        let got = sequence(Balance::LeastConn, &standings([Suspect, Healthy, Suspect]), 3);
        assert_eq!(got, [Some(1); 3]);
        let got = sequence(Balance::LeastConn, &standings([Suspect, Excluded, Suspect]), 4);
        assert_eq!(got, [0, 2, 0, 2].map(Some));
    }

    #[test]
    fn nobody_is_chosen_when_all_are_excluded() {
        assert_eq!(sequence(Balance::RoundRobin, &standings([Excluded, Excluded]), 1), [None]);
        assert_eq!(sequence(Balance::LeastConn, &[], 1), [None]);
    }

    #[test]
    fn the_others_keep_their_turns_while_one_is_away() {
        let mut balancer = Balancer::new(Balance::RoundRobin, 3);
        let mut now = candidates([1, 1, 1]);
        now[0].standing = Excluded;
        let away: Vec<_> = (0..100).map(|_| balancer.choose(&now).unwrap()).collect();
        assert_eq!(away.iter().filter(|i| **i == 1).count(), 50);
        now[0].standing = Healthy;
        let back: Vec<_> = (0..9).map(|_| balancer.choose(&now).unwrap()).collect();
        for backend in 0..3 {
            assert_eq!(back.iter().filter(|i| **i == backend).count(), 3, "{back:?}");
        }
    }
}
