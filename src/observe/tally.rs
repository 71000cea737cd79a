//! How often each of a few words was counted.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

type Word = Cow<'static, str>;

/// Counts by word, in the order of the words.
///
/// A list, since every instance has three of them with a few words each: a tree takes 400 octets for its first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BTreeMap<Word, u64>", into = "BTreeMap<Word, u64>")]
pub struct Tally(Vec<(Word, u64)>);

impl Tally {
    /// Once more.
    pub fn count(&mut self, word: &'static str) {
        match self.0.binary_search_by(|(known, _)| (**known).cmp(word)) {
            Ok(place) => self.0[place].1 += 1,
            Err(place) => {
                self.0.reserve_exact(1);
                self.0.insert(place, (word.into(), 1));
            }
        }
    }

    /// How often; 0 for a word that never came.
    pub fn get(&self, word: &str) -> u64 {
        self.iter().find(|(known, _)| *known == word).map_or(0, |(_, count)| count)
    }

    /// Every word that came.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(word, count)| (&**word, *count))
    }

    /// Of all words.
    pub fn sum(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<BTreeMap<Word, u64>> for Tally {
    fn from(counts: BTreeMap<Word, u64>) -> Self {
        Self(counts.into_iter().collect())
    }
}

/// Words that were not counted are left out.
impl FromIterator<(&'static str, u64)> for Tally {
    fn from_iter<T: IntoIterator<Item = (&'static str, u64)>>(counts: T) -> Self {
        let came = counts.into_iter().filter(|(_, count)| *count > 0);
        came.map(|(word, count)| (Word::from(word), count)).collect::<BTreeMap<_, _>>().into()
    }
}

impl From<Tally> for BTreeMap<Word, u64> {
    fn from(tally: Tally) -> Self {
        tally.0.into_iter().collect()
    }
}

impl<const N: usize> From<[(&'static str, u64); N]> for Tally {
    fn from(counts: [(&'static str, u64); N]) -> Self {
        counts.map(|(word, count)| (Word::from(word), count)).into_iter().collect::<BTreeMap<_, _>>().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_counted_in_their_order_and_written_as_a_map() {
        let mut tally = Tally::default();
        ["ttl", "checksum", "vrid", "ttl"].into_iter().for_each(|word| tally.count(word));
        assert_eq!((tally.get("ttl"), tally.get("length"), tally.sum()), (2, 0, 4));
        let written = serde_json::to_string(&tally).unwrap();
        assert_eq!(written, r#"{"checksum":1,"ttl":2,"vrid":1}"#);
        assert_eq!(serde_json::from_str::<Tally>(&written).unwrap(), tally);
    }
}
