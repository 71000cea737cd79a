//! Who gets which share of the new sessions: a row of places that the kernel draws from. Pure.

use std::net::SocketAddr;

use config::ready::Balance;

/// Places of a row at most, and those of a hash: with three equal backends the shares of a hash differ by some
/// percent.
const MOST_PLACES: usize = 1024;

/// A backend, as far as the rules need to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Unique in its listener.
    pub name: String,
    /// Where its sessions go.
    pub address: SocketAddr,
    /// What it gets.
    pub share: Share,
}

/// What a backend gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// New sessions by this weight, at least 1, and those that persistence brings.
    New(u32),
    /// Only those that persistence brings: it drains.
    Kept,
    /// None; what it has goes on.
    None,
    /// None, and what it has is ended: its check calls it down.
    Ended,
}

impl Member {
    fn weight(&self) -> u32 {
        match self.share {
            Share::New(weight) => weight.max(1),
            Share::Kept | Share::None | Share::Ended => 0,
        }
    }
}

/// For each place the index of the member that has it. Empty: nobody gets new sessions.
pub fn places(balance: Balance, members: &[Member]) -> Vec<usize> {
    match balance {
        Balance::First => members.iter().position(|member| member.weight() > 0).into_iter().collect(),
        Balance::Source => by_hash(members),
        // The kernel counts no sessions: they go in turn, by weight.
        Balance::RoundRobin | Balance::LeastConn | Balance::Random => in_turn(&reduced(members)),
    }
}

/// The weights without their common factor, and so that the row is not longer than [`MOST_PLACES`].
fn reduced(members: &[Member]) -> Vec<usize> {
    let weights: Vec<usize> = members.iter().map(|member| member.weight() as usize).collect();
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let total = weights.iter().sum::<usize>() / divisor;
    let scaled = |weight: usize| match weight / divisor {
        0 => 0,
        weight if total <= MOST_PLACES => weight,
        weight => (weight * MOST_PLACES / total).max(1),
    };
    weights.into_iter().map(scaled).collect()
}

fn greatest_common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

/// Everybody saves up its weight, the richest gets the place and pays what all have saved: no bursts.
fn in_turn(weights: &[usize]) -> Vec<usize> {
    let total: usize = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    let signed = |weight: usize| i64::try_from(weight).unwrap_or(i64::MAX);
    let mut row = Vec::with_capacity(total);
    for _ in 0..total {
        for (credit, weight) in credit.iter_mut().zip(weights) {
            *credit += signed(*weight);
        }
        let eligible = weights.iter().enumerate().filter(|(_, weight)| **weight > 0).map(|(index, _)| index);
        let Some(richest) = eligible.rev().max_by_key(|index| credit[*index]) else { break };
        credit[richest] -= signed(total);
        row.push(richest);
    }
    row
}

/// Each place goes to the member that has the highest number for it (weighted rendezvous hashing): when a member goes
/// its places alone get another owner, and it gets them back.
fn by_hash(members: &[Member]) -> Vec<usize> {
    let owner = |place: usize| {
        let score = |member: &Member| {
            // In (0, 1].
            let drawn = (mixed(place as u64, member) as f64 + 1.0) / (u64::MAX as f64 + 1.0);
            f64::from(member.weight()) / -drawn.ln().min(-f64::MIN_POSITIVE)
        };
        let able = members.iter().enumerate().filter(|(_, member)| member.weight() > 0);
        able.max_by(|(_, a), (_, b)| score(a).total_cmp(&score(b))).map(|(index, _)| index)
    };
    (0..MOST_PLACES).filter_map(owner).collect()
}

/// FNV-1a of the address, then the finish of splitmix64: the same on every host and after every start.
fn mixed(place: u64, member: &Member) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for octet in member.address.to_string().bytes().chain(place.to_be_bytes()) {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members<const N: usize>(shares: [Share; N]) -> Vec<Member> {
        let member = |(index, share): (usize, Share)| Member {
            name: format!("b{index}"),
            address: format!("192.0.2.{}:80", index + 1).parse().unwrap(),
            share,
        };
        shares.into_iter().enumerate().map(member).collect()
    }

    fn of(row: &[usize], index: usize) -> usize {
        row.iter().filter(|place| **place == index).count()
    }

    #[test]
    fn weights_are_spread_without_bursts() {
        let row = places(Balance::RoundRobin, &members([Share::New(5), Share::New(1), Share::New(1)]));
        assert_eq!(row, [0, 0, 1, 0, 2, 0, 0]);
    }

    #[test]
    fn a_common_factor_needs_no_places() {
        let row = places(Balance::Random, &members([Share::New(200), Share::New(100), Share::New(100)]));
        assert_eq!(row.len(), 4);
    }

    #[test]
    fn large_weights_keep_their_proportion_and_the_small_one_a_place() {
        let row =
            places(Balance::RoundRobin, &members([Share::New(65_535), Share::New(32_768), Share::New(1)]));
        assert!(row.len() <= MOST_PLACES);
        assert_eq!([of(&row, 0), of(&row, 1), of(&row, 2)], [682, 341, 1]);
    }

    #[test]
    fn who_drains_or_is_down_gets_no_place() {
        for balance in [Balance::RoundRobin, Balance::Source, Balance::Random, Balance::LeastConn] {
            let row = places(balance, &members([Share::Kept, Share::New(1), Share::None, Share::Ended]));
            assert!(!row.is_empty() && row.iter().all(|place| *place == 1), "{balance:?}");
            assert!(places(balance, &members([Share::Ended, Share::Kept])).is_empty(), "{balance:?}");
        }
    }

    #[test]
    fn the_first_that_can_gets_all() {
        assert_eq!(places(Balance::First, &members([Share::Ended, Share::New(1), Share::New(9)])), [1]);
    }

    #[test]
    fn by_hash_only_the_clients_of_who_goes_move() {
        let all = places(Balance::Source, &members([Share::New(1), Share::New(1), Share::New(1)]));
        let less = places(Balance::Source, &members([Share::New(1), Share::Ended, Share::New(1)]));
        for (before, after) in all.iter().zip(&less) {
            assert!(before == after || *before == 1);
        }
        for index in 0..3 {
            let count = of(&all, index);
            assert!((280..=400).contains(&count), "backend {index} has {count} of 1024 places");
        }
    }

    #[test]
    fn by_hash_the_shares_follow_the_weights() {
        let row = places(Balance::Source, &members([Share::New(3), Share::New(1)]));
        let count = of(&row, 0);
        assert!((700..=830).contains(&count), "{count} of 1024 places for three quarters of the weight");
    }
}
