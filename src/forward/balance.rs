//! Which backend gets the next session: a pure choice, no sockets and no clock.
//!
//! A backend whose check has called it down never gets one. Before the checks have spoken nobody is down, so
//! a freshly started forwarder carries traffic at once; but a backend that is known to be up always comes
//! before one of which nothing is known yet, and one whose last connect hung comes after its peers. Backups come
//! after all others, and what is called down, where it is to be tried at all, comes last.

use config::ready::Balance;

/// Weights count in these parts, so that a slow start has steps between 0 and 1.
pub const WHOLE: u32 = 256;

/// How willingly a backend is used. Only the best standing that anybody has is considered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// Up, or without a check.
    Healthy,
    /// No result of its check yet.
    Unproven,
    /// Not down by its check, but a connect to it hung a short while ago.
    Suspect,
    /// Down, and to be tried all the same while nobody else is there.
    Distrusted,
    /// Down, drained, or tried already for this session.
    Excluded,
}

/// A backend, as far as the choice needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// How willingly.
    pub standing: Standing,
    /// Used while nobody else is there.
    pub backup: bool,
    /// It has as many sessions as it may have.
    pub full: bool,
    /// In parts of [`WHOLE`]. 0: never chosen.
    pub weight: u32,
    /// Sessions that it has now, with those that are being connected.
    pub sessions: u64,
}

impl Candidate {
    /// Nobody has called it down.
    pub fn is_trusted(&self) -> bool {
        self.standing < Standing::Distrusted
    }

    /// The lower, the better.
    fn rank(&self) -> Option<(bool, bool, Standing)> {
        let usable = self.standing != Standing::Excluded && self.weight > 0;
        usable.then_some((self.standing == Standing::Distrusted, self.backup, self.standing))
    }
}

/// Who gets the next session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pick {
    /// The backend with this index.
    One(usize),
    /// There are backends, but none has a place.
    Full,
    /// There is none.
    Nobody,
}

/// Excludes backups but the first that nobody has called down, and all of them while one of the others may be used. What
/// became of a session's connects has no say in that, so `candidates` are those of a new session.
pub fn first_backup_alone(candidates: &mut [Candidate], others_may_be_used: bool) {
    let is_there = |c: &Candidate| c.is_trusted() && c.weight > 0;
    let other = others_may_be_used && candidates.iter().any(|c| !c.backup && is_there(c));
    let Some(first) = candidates.iter().position(|c| c.backup && is_there(c)) else { return };
    for (index, backup) in candidates.iter_mut().enumerate().filter(|(_, c)| c.backup) {
        if other || index != first {
            backup.standing = Standing::Excluded;
        }
    }
}

/// The choice, and what it remembers from one to the next.
#[derive(Clone, Debug)]
pub struct Balancer {
    balance: Balance,
    /// Smooth weighted round robin: what each backend has saved up.
    credit: Vec<i64>,
    /// Of each backend, the same on every host and after every start.
    keys: Vec<u64>,
    random: u64,
}

impl Balancer {
    /// For the backends with these names. `seed` is for what is drawn.
    pub fn new<'a>(balance: Balance, names: impl Iterator<Item = &'a str>, seed: u64) -> Self {
        let keys: Vec<u64> = names.map(|name| hash(name.as_bytes())).collect();
        Self { balance, credit: vec![0; keys.len()], keys, random: seed | 1 }
    }

    /// Who gets the next session; `client` gives a hash of who asks.
    pub fn choose(&mut self, candidates: &[Candidate], client: impl FnOnce() -> u64) -> Pick {
        let Some(mut best) = candidates.iter().filter_map(Candidate::rank).min() else { return Pick::Nobody };
        let has_place = |rank| candidates.iter().any(|c| c.rank() == Some(rank) && !c.full);
        if !has_place(best) {
            // Better one of which nothing is known than to wait.
            best.2 = Standing::Unproven;
            if !has_place(best) {
                return Pick::Full;
            }
        }
        let eligible = |c: &Candidate| c.rank() == Some(best) && !c.full;
        let chosen = match self.balance {
            Balance::RoundRobin => self.in_turn(candidates, eligible),
            Balance::LeastConn => {
                let least = candidates.iter().filter(|c| eligible(c)).copied().min_by(by_load);
                least
                    .and_then(|least| self.in_turn(candidates, |c| eligible(c) && by_load(c, &least).is_eq()))
            }
            Balance::Source => self.nearest(candidates, eligible, client()),
            Balance::Random => self.better_of_two(candidates, eligible),
            Balance::First => candidates.iter().position(eligible),
        };
        chosen.map_or(Pick::Full, Pick::One)
    }

    /// Everybody saves up its weight, the richest is chosen and pays what all have saved: in proportion to
    /// the weights, and without bursts (weights 5, 1, 1 give `a a b a c a a`).
    fn in_turn(&mut self, candidates: &[Candidate], eligible: impl Fn(&Candidate) -> bool) -> Option<usize> {
        let mut total = 0;
        let mut chosen: Option<usize> = None;
        for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| eligible(c)) {
            let weight = i64::from(candidate.weight);
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

    /// Weighted rendezvous: each backend draws a number for this client, the same one every time, and the best wins.
    /// Who goes takes only his clients along, who comes gets his share from everybody (Thaler and Ravishankar 1998;
    /// weights as in draft-ietf-bess-weighted-hrw §3.2).
    fn nearest(
        &self,
        candidates: &[Candidate],
        eligible: impl Fn(&Candidate) -> bool,
        client: u64,
    ) -> Option<usize> {
        let score = |(index, candidate): (usize, &Candidate)| {
            // Above 0, and at most 1.
            let drawn = ((mix(client ^ self.keys[index]) >> 11) + 1) as f64 / (1u64 << 53) as f64;
            (index, f64::from(candidate.weight) / -drawn.ln())
        };
        let scores = candidates.iter().enumerate().filter(|(_, c)| eligible(c)).map(score);
        scores.max_by(|(_, one), (_, other)| one.total_cmp(other)).map(|(index, _)| index)
    }

    /// Two are drawn by weight, the one with fewer sessions for its weight gets it.
    fn better_of_two(
        &mut self,
        candidates: &[Candidate],
        eligible: impl Fn(&Candidate) -> bool,
    ) -> Option<usize> {
        let first = self.draw(candidates, |_, c| eligible(c))?;
        let Some(second) = self.draw(candidates, |index, c| index != first && eligible(c)) else {
            return Some(first);
        };
        Some(if by_load(&candidates[second], &candidates[first]).is_lt() { second } else { first })
    }

    fn draw(&mut self, candidates: &[Candidate], of: impl Fn(usize, &Candidate) -> bool) -> Option<usize> {
        // Xorshift, as in Marsaglia 2003.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let of = || candidates.iter().enumerate().filter(|(index, c)| of(*index, c));
        let total: u64 = of().map(|(_, c)| u64::from(c.weight)).sum();
        let mut rest = mix(self.random).checked_rem(total)?;
        for (index, candidate) in of() {
            match rest.checked_sub(candidate.weight.into()) {
                Some(left) => rest = left,
                None => return Some(index),
            }
        }
        None
    }
}

/// Compares the sessions for each unit of weight that a backend would have with one more.
fn by_load(a: &Candidate, b: &Candidate) -> std::cmp::Ordering {
    let load = |of: &Candidate, other: &Candidate| (u128::from(of.sessions) + 1) * u128::from(other.weight);
    load(a, b).cmp(&load(b, a))
}

/// The same everywhere and for ever (FNV-1a, 64 bits).
pub fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mix(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step))
}

/// Every bit of the input moves half of the output's (the last step of SplitMix64).
fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use super::Standing::{Distrusted, Excluded, Healthy, Suspect, Unproven};
    use super::*;

    const NAMES: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

    fn candidate(standing: Standing, weight: u32) -> Candidate {
        Candidate { standing, backup: false, full: false, weight, sessions: 0 }
    }

    fn balancer(balance: Balance, backends: usize) -> Balancer {
        Balancer::new(balance, NAMES.into_iter().take(backends), 7)
    }

    fn next(balancer: &mut Balancer, candidates: &[Candidate]) -> Option<usize> {
        match balancer.choose(candidates, || 0) {
            Pick::One(index) => Some(index),
            Pick::Full | Pick::Nobody => None,
        }
    }

    fn candidates<const N: usize>(weights: [u32; N]) -> [Candidate; N] {
        weights.map(|weight| candidate(Healthy, weight))
    }

    fn standings<const N: usize>(standings: [Standing; N]) -> [Candidate; N] {
        standings.map(|standing| candidate(standing, 1))
    }

    fn sequence(balance: Balance, candidates: &[Candidate], n: usize) -> Vec<Option<usize>> {
        let mut balancer = balancer(balance, candidates.len());
        (0..n).map(|_| next(&mut balancer, candidates)).collect()
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
        for weights in [[1, 2, 3], [256, 1, 7], [10, 10, 1], [65535, 3, 1]] {
            let cycle = weights.iter().map(|w| *w as usize).sum::<usize>();
            let got = sequence(Balance::RoundRobin, &candidates(weights), 3 * cycle);
            for (index, weight) in weights.iter().enumerate() {
                let count = got.iter().filter(|g| **g == Some(index)).count();
                assert_eq!(count, 3 * *weight as usize, "backend {index} of {weights:?}");
            }
        }
    }

    #[test]
    fn least_conn_fills_up_the_emptiest() {
        let mut now = candidates([1, 1, 1]);
        now[0].sessions = 3;
        now[1].sessions = 1;
        now[2].sessions = 2;
        let mut balancer = balancer(Balance::LeastConn, 3);
        let mut got = Vec::new();
        for _ in 0..3 {
            let chosen = next(&mut balancer, &now).unwrap();
            now[chosen].sessions += 1;
            got.push(chosen);
        }
        assert_eq!(got[0], 1);
        assert_eq!(now.map(|c| c.sessions), [3, 3, 3]);
    }

    #[test]
    fn least_conn_counts_sessions_for_each_unit_of_weight() {
        let mut now = candidates([3, 1]);
        let mut balancer = balancer(Balance::LeastConn, 2);
        for _ in 0..40 {
            let chosen = next(&mut balancer, &now).unwrap();
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
        let mut balancer = balancer(Balance::RoundRobin, 3);
        let mut now = candidates([1, 1, 1]);
        now[0].standing = Excluded;
        let away: Vec<_> = (0..100).map(|_| next(&mut balancer, &now).unwrap()).collect();
        assert_eq!(away.iter().filter(|i| **i == 1).count(), 50);
        now[0].standing = Healthy;
        let back: Vec<_> = (0..9).map(|_| next(&mut balancer, &now).unwrap()).collect();
        for backend in 0..3 {
            assert_eq!(back.iter().filter(|i| **i == backend).count(), 3, "{back:?}");
        }
    }

    #[test]
    fn backups_are_used_only_while_nobody_else_is_there() {
        let mut now = standings([Healthy, Suspect, Healthy]);
        (now[0].backup, now[2].backup) = (true, true);
        assert_eq!(sequence(Balance::RoundRobin, &now, 2), [Some(1); 2], "a suspect is better than a backup");
        now[1].standing = Excluded;
        assert_eq!(sequence(Balance::RoundRobin, &now, 4), [0, 2, 0, 2].map(Some));
        now[1] = candidate(Healthy, 0);
        assert_eq!(sequence(Balance::RoundRobin, &now, 2), [0, 2].map(Some), "weight 0 is not there");
    }

    #[test]
    fn the_first_backup_is_used_alone_and_only_while_all_others_are_down() {
        let after = |now: [Standing; 4]| {
            let mut now = standings(now);
            (now[1].backup, now[3].backup) = (true, true);
            first_backup_alone(&mut now, true);
            now.map(|candidate| candidate.standing)
        };
        let down = Excluded;
        assert_eq!(after([Suspect, Healthy, down, Healthy]), [Suspect, down, down, down], "one is not down");
        assert_eq!(after([down, Healthy, down, Healthy]), [down, Healthy, down, down]);
        assert_eq!(after([down, Suspect, down, Healthy]), [down, Suspect, down, down], "slow is not down");
        assert_eq!(after([down, down, down, Healthy]), [down, down, down, Healthy]);
        let all_down = [Distrusted; 4];
        assert_eq!(after(all_down), all_down, "as configured for that");
    }

    #[test]
    fn what_is_down_and_tried_all_the_same_comes_after_the_backups() {
        let mut now = standings([Distrusted, Healthy]);
        now[1].backup = true;
        assert_eq!(sequence(Balance::RoundRobin, &now, 1), [Some(1)]);
        now[1].standing = Excluded;
        assert_eq!(sequence(Balance::RoundRobin, &now, 1), [Some(0)]);
    }

    #[test]
    fn a_full_backend_is_waited_for_rather_than_a_suspect_or_a_backup_used() {
        let mut now = standings([Healthy, Suspect, Healthy, Unproven]);
        (now[0].full, now[2].backup) = (true, true);
        let mut of_four = balancer(Balance::LeastConn, 4);
        assert_eq!(of_four.choose(&now, || 0), Pick::One(3), "but one that is merely new is used");
        now[3].full = true;
        assert_eq!(of_four.choose(&now, || 0), Pick::Full);
        now[0].full = false;
        assert_eq!(of_four.choose(&now, || 0), Pick::One(0));
    }

    #[test]
    fn first_fills_the_backends_in_their_order() {
        let mut now = candidates([1, 1, 1]);
        assert_eq!(sequence(Balance::First, &now, 3), [Some(0); 3]);
        now[0].full = true;
        assert_eq!(sequence(Balance::First, &now, 3), [Some(1); 3]);
    }

    /// Who of 20 000 clients goes where.
    fn clients_of(names: &[&str], candidates: &[Candidate]) -> Vec<String> {
        let mut balancer = Balancer::new(Balance::Source, names.iter().copied(), 1);
        let to = |client: u32| match balancer.choose(candidates, || hash(&client.to_be_bytes())) {
            Pick::One(index) => names[index].to_owned(),
            other => panic!("{other:?}"),
        };
        (0..20_000).map(to).collect()
    }

    fn share(of: &[String], name: &str) -> f64 {
        of.iter().filter(|one| *one == name).count() as f64 / of.len() as f64
    }

    #[test]
    fn source_spreads_clients_by_weight_and_moves_only_those_of_the_backend_that_goes() {
        let weights = candidates([100, 200, 100, 400]);
        let before = clients_of(&["a", "b", "c", "d"], &weights);
        for (name, wanted) in [("a", 0.125), ("b", 0.25), ("c", 0.125), ("d", 0.5)] {
            let got = share(&before, name);
            assert!((got - wanted).abs() < 0.015, "{name} has {got}, wanted {wanted}");
        }
        let mut without_b = weights;
        without_b[1].standing = Excluded;
        let after = clients_of(&["a", "b", "c", "d"], &without_b);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == "b" || before == after, "a client of {before} went to {after}");
        }
        // b's clients are spread by weight too.
        assert!((share(&after, "d") - 4.0 / 6.0).abs() < 0.015);
        assert_eq!(
            clients_of(&["d", "c", "a"], &candidates([400, 100, 100])),
            after,
            "names count, places do not"
        );
    }

    #[test]
    fn source_gives_a_backend_that_comes_its_share_and_moves_nobody_else() {
        let before = clients_of(&["a", "b", "c"], &candidates([1, 1, 1]));
        let after = clients_of(&["a", "b", "c", "d"], &candidates([1, 1, 1, 1]));
        let moved: Vec<_> = before.iter().zip(&after).filter(|(before, after)| before != after).collect();
        assert!(moved.iter().all(|(_, after)| *after == "d"));
        let share = moved.len() as f64 / before.len() as f64;
        assert!((share - 0.25).abs() < 0.015, "{share} moved");
    }

    #[test]
    fn random_draws_by_weight_and_takes_the_emptier_of_two() {
        let draws = 30_000;
        let got = sequence(Balance::Random, &candidates([1, 1, 2]), draws);
        let share = |index| got.iter().filter(|got| **got == Some(index)).count() as f64 / draws as f64;
        // Without sessions the heavier one of two has the lower load, so it wins whenever it is drawn at all:
        // 1/2 first, or 1/4 + 1/4 first and then 2/3.
        let wanted = 0.5 + 0.5 * 2.0 / 3.0;
        assert!((share(2) - wanted).abs() < 0.02, "{} instead of {wanted}", share(2));
        let mut uneven = candidates([1, 1]);
        uneven[0].sessions = 10;
        assert_eq!(sequence(Balance::Random, &uneven, 5), [Some(1); 5]);
        assert_eq!(sequence(Balance::Random, &candidates([3]), 2), [Some(0); 2]);
    }

    #[test]
    fn two_choices_keep_sessions_even() {
        let mut now = candidates([1; 8]);
        let mut balancer = balancer(Balance::Random, 8);
        for _ in 0..8000 {
            let chosen = next(&mut balancer, &now).unwrap();
            now[chosen].sessions += 1;
        }
        let most = now.iter().map(|c| c.sessions).max().unwrap();
        // One choice alone would be some 1080.
        assert!(most < 1010, "{most}");
    }
}
