//! Where sessions live: numbered places that are used again, in chunks that never move.

/// Places that are allocated together.
const CHUNK: usize = 256;

/// Which session: its place, and a number that no later session in that place has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Place.
    pub place: u32,
    /// Which of those that had it.
    pub age: u32,
}

#[derive(Debug)]
enum Slot<T> {
    Free { next: Option<u32> },
    Taken { age: u32, value: T },
}

/// The places of one loop.
#[derive(Debug)]
pub struct Slab<T> {
    chunks: Vec<Box<[Slot<T>]>>,
    free: Option<u32>,
    taken: usize,
    ages: u32,
}

impl<T> Slab<T> {
    /// Without a place; the first session allocates some.
    pub fn new() -> Self {
        Self { chunks: Vec::new(), free: None, taken: 0, ages: 0 }
    }

    /// Values.
    pub fn len(&self) -> usize {
        self.taken
    }

    /// Places, free ones included.
    pub fn places(&self) -> u32 {
        // A process has fewer descriptors than that.
        u32::try_from(self.chunks.len() * CHUNK).unwrap_or(u32::MAX)
    }

    /// Takes a place.
    pub fn insert(&mut self, value: T) -> Key {
        let place = self.free.unwrap_or_else(|| self.grow());
        self.ages = self.ages.wrapping_add(1);
        let age = self.ages;
        let slot = self.slot(place).expect("free places exist");
        if let Slot::Free { next } = std::mem::replace(slot, Slot::Taken { age, value }) {
            self.free = next;
        }
        self.taken += 1;
        Key { place, age }
    }

    fn grow(&mut self) -> u32 {
        let first = self.places();
        let last = first + CHUNK as u32 - 1;
        let slots = (first..=last).map(|place| Slot::Free { next: (place < last).then_some(place + 1) });
        self.chunks.push(slots.collect());
        first
    }

    fn slot(&mut self, place: u32) -> Option<&mut Slot<T>> {
        let place = place as usize;
        self.chunks.get_mut(place / CHUNK)?.get_mut(place % CHUNK)
    }

    /// The value, unless it has gone.
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        match self.slot(key.place)? {
            Slot::Taken { age, value } if *age == key.age => Some(value),
            _ => None,
        }
    }

    /// What is in a place, and its key.
    pub fn at(&mut self, place: u32) -> Option<(Key, &mut T)> {
        match self.slot(place)? {
            Slot::Taken { age, value } => Some((Key { place, age: *age }, value)),
            Slot::Free { .. } => None,
        }
    }

    /// Takes the value out. With the last one the memory goes too.
    pub fn remove(&mut self, key: Key) -> Option<T> {
        self.get_mut(key)?;
        let next = self.free;
        let slot = self.slot(key.place)?;
        let Slot::Taken { value, .. } = std::mem::replace(slot, Slot::Free { next }) else { return None };
        self.free = Some(key.place);
        self.taken -= 1;
        if self.taken == 0 && self.chunks.len() > 1 {
            self.chunks = Vec::new();
            self.free = None;
        }
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_finds_its_own_value_only() {
        let mut slab = Slab::new();
        let first = slab.insert("first");
        assert_eq!(slab.get_mut(first), Some(&mut "first"));
        assert_eq!(slab.remove(first), Some("first"));
        let second = slab.insert("second");
        assert_eq!(second.place, first.place, "the place is used again");
        assert_eq!(slab.get_mut(first), None);
        assert_eq!(slab.remove(first), None);
        assert_eq!(slab.get_mut(second), Some(&mut "second"));
    }

    #[test]
    fn places_are_used_again_before_new_ones_are_made_and_end_with_the_last_value() {
        let mut slab = Slab::new();
        let mut keys: Vec<_> = (0..1000).map(|value| slab.insert(value)).collect();
        assert_eq!((slab.len(), slab.places()), (1000, 1024));
        for (value, key) in keys.drain(500..).enumerate() {
            assert_eq!(slab.remove(key), Some(500 + value));
        }
        keys.extend((0..500).map(|value| slab.insert(value)));
        assert_eq!((slab.len(), slab.places()), (1000, 1024));
        assert_eq!((0..1024).filter(|place| slab.at(*place).is_some()).count(), 1000);
        for key in keys {
            slab.remove(key).unwrap();
        }
        assert_eq!((slab.len(), slab.places()), (0, 0));
        slab.insert(1);
        assert_eq!((slab.len(), slab.places()), (1, 256));
    }
}
