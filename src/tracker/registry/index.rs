//! Which place of a list holds what, found by hash: open addressing with linear probing.
//!
//! ```text
//! index.insert(hash, place);
//! index.find(hash, |place| list[place].name == name)   // Some(place)
//! index.moved(hash, place, elsewhere);
//! index.remove(hash, elsewhere);
//! ```
//!
//! A slot is eight bytes, the hash and the place, so neither growing nor removing has to look at the
//! list, and a search looks only at what has the right hash.

/// At least as many slots, and always a power of two.
const SLOTS_MIN: usize = 16;

#[derive(Clone, Copy)]
struct Slot {
    hash: u32,
    place: u32,
}

/// No list has so many places.
const EMPTY: u32 = u32::MAX;

/// The index of one list. The caller says where things are and keeps it told.
pub(super) struct Index {
    slots: Box<[Slot]>,
    used: usize,
}

impl Index {
    pub(super) fn new() -> Index {
        Index {
            slots: empty(SLOTS_MIN),
            used: 0,
        }
    }

    fn next(&self, slot: usize) -> usize {
        (slot + 1) & (self.slots.len() - 1)
    }

    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.slots.len() - 1)
    }

    /// The first place with this hash that `fits`. It is shown every place with this hash until one
    /// fits, all of them if none does.
    #[inline]
    pub(super) fn find(&self, hash: u32, mut fits: impl FnMut(usize) -> bool) -> Option<usize> {
        let mut slot = self.home(hash);
        loop {
            let Slot { hash: here, place } = self.slots[slot];
            if place == EMPTY {
                return None;
            }
            if here == hash && fits(place as usize) {
                return Some(place as usize);
            }
            slot = self.next(slot);
        }
    }

    /// Writes down that `place` holds something with this hash.
    pub(super) fn insert(&mut self, hash: u32, place: usize) {
        // Three quarters full at most, or a search walks too far.
        if (self.used + 1) * 4 > self.slots.len() * 3 {
            self.resize(self.slots.len() * 2);
        }
        self.put(Slot {
            hash,
            place: place as u32,
        });
        self.used += 1;
    }

    /// What was at `from` is at `to` now.
    pub(super) fn moved(&mut self, hash: u32, from: usize, to: usize) {
        if let Some(slot) = self.slot_of(hash, from) {
            self.slots[slot].place = to as u32;
        }
    }

    /// Forgets what is at `place`.
    pub(super) fn remove(&mut self, hash: u32, place: usize) {
        let Some(mut gap) = self.slot_of(hash, place) else {
            return;
        };
        self.used -= 1;
        // What was pushed beyond its home by the one that leaves moves up, or a search would end at
        // the gap.
        let mut slot = self.next(gap);
        while self.slots[slot].place != EMPTY {
            let home = self.home(self.slots[slot].hash);
            let mask = self.slots.len() - 1;
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(gap) & mask {
                self.slots[gap] = self.slots[slot];
                gap = slot;
            }
            slot = self.next(slot);
        }
        self.slots[gap].place = EMPTY;
        if self.slots.len() > SLOTS_MIN && self.used * 8 < self.slots.len() {
            self.resize(self.slots.len() / 2);
        }
    }

    fn slot_of(&self, hash: u32, place: usize) -> Option<usize> {
        let mut slot = self.home(hash);
        while self.slots[slot].place != EMPTY {
            let here = self.slots[slot];
            if here.hash == hash && here.place as usize == place {
                return Some(slot);
            }
            slot = self.next(slot);
        }
        None
    }

    fn put(&mut self, entry: Slot) {
        let mut slot = self.home(entry.hash);
        while self.slots[slot].place != EMPTY {
            slot = self.next(slot);
        }
        self.slots[slot] = entry;
    }

    fn resize(&mut self, slots: usize) {
        let old = std::mem::replace(&mut self.slots, empty(slots));
        for &entry in old.iter().filter(|entry| entry.place != EMPTY) {
            self.put(entry);
        }
    }
}

fn empty(slots: usize) -> Box<[Slot]> {
    let nothing = Slot {
        hash: 0,
        place: EMPTY,
    };
    vec![nothing; slots].into_boxed_slice()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        /// Few hashes, so that everything collides; places come and go as in a list.
        #[test]
        fn it_knows_what_a_plain_map_knows(steps in proptest::collection::vec((0u8..4, 0u32..40, 0usize..60), 1..400)) {
            let mut index = Index::new();
            let mut plain: HashMap<usize, u32> = HashMap::new();
            for (step, hash, place) in steps {
                let known = plain.get(&place).copied();
                match (step, known) {
                    (0 | 1, None) => {
                        index.insert(hash, place);
                        plain.insert(place, hash);
                    }
                    (2, Some(hash)) => {
                        index.remove(hash, place);
                        plain.remove(&place);
                    }
                    (3, Some(hash)) if !plain.contains_key(&(place + 100)) => {
                        index.moved(hash, place, place + 100);
                        plain.remove(&place);
                        plain.insert(place + 100, hash);
                    }
                    _ => {}
                }
                for (&place, &hash) in &plain {
                    prop_assert_eq!(index.find(hash, |it| it == place), Some(place));
                }
                for hash in 0..40 {
                    let mut seen = Vec::new();
                    index.find(hash, |place| { seen.push(place); false });
                    seen.sort_unstable();
                    let mut wanted: Vec<_> = plain.iter().filter(|it| *it.1 == hash).map(|it| *it.0).collect();
                    wanted.sort_unstable();
                    prop_assert_eq!(seen, wanted);
                }
            }
        }
    }

    #[test]
    fn it_grows_and_shrinks_with_what_it_holds() {
        let mut index = Index::new();
        let hash = |place: usize| (place as u32).wrapping_mul(0x9e37_79b9);
        (0..10_000).for_each(|place| index.insert(hash(place), place));
        assert_eq!(index.slots.len(), 16_384);
        (0..9_990).for_each(|place| index.remove(hash(place), place));
        assert!(index.slots.len() <= 128);
        assert!((9_990..10_000).all(|place| index.find(hash(place), |it| it == place).is_some()));
    }
}
