//! One bit a piece: who has what. On the wire the first piece is the highest bit of the first byte
//! and the spare bits at the end are zero (BEP 3).
//!
//! ```
//! use ropewalk::protocol::{Geometry, bitfield::Bitfield};
//! let geometry = Geometry::new(10, 1).unwrap();
//! let mut have = Bitfield::new(&geometry);
//! have.set(geometry.piece(9).unwrap());
//! assert_eq!(have.as_bytes(), [0, 0b0100_0000]);
//! ```

use super::geometry::{Geometry, PieceIndex};

/// A set of pieces of one torrent. Keeps its own count, so `count` and `is_full` cost nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bitfield {
    bytes: Box<[u8]>,
    pieces: u32,
    count: u32,
}

/// Why bytes are no bitfield for this torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BitfieldError {
    /// Not one bit a piece rounded up to bytes.
    #[error("a bitfield of {found} bytes where {expected} are needed")]
    Length {
        /// Bytes that came.
        found: usize,
        /// Bytes that this torrent's pieces need.
        expected: usize,
    },
    /// A bit beyond the last piece is set.
    #[error("a bitfield with spare bits set")]
    SpareBits,
}

impl Bitfield {
    /// The empty set.
    pub fn new(geometry: &Geometry) -> Bitfield {
        let pieces = geometry.pieces();
        Bitfield {
            bytes: vec![0; (pieces as usize).div_ceil(8)].into(),
            pieces,
            count: 0,
        }
    }

    /// The set of all pieces.
    pub fn full(geometry: &Geometry) -> Bitfield {
        let mut all = Bitfield::new(geometry);
        geometry.all_pieces().for_each(|piece| {
            all.set(piece);
        });
        all
    }

    /// The set that `bytes` stand for on the wire.
    pub fn from_bytes(bytes: &[u8], geometry: &Geometry) -> Result<Bitfield, BitfieldError> {
        let pieces = geometry.pieces();
        let expected = (pieces as usize).div_ceil(8);
        if bytes.len() != expected {
            return Err(BitfieldError::Length {
                found: bytes.len(),
                expected,
            });
        }
        let spare = expected * 8 - pieces as usize;
        if bytes
            .last()
            .is_some_and(|last| last & ((1u16 << spare) - 1) as u8 != 0)
        {
            return Err(BitfieldError::SpareBits);
        }
        let count = bytes.iter().map(|byte| byte.count_ones()).sum();
        Ok(Bitfield {
            bytes: bytes.into(),
            pieces,
            count,
        })
    }

    /// The bytes for the wire.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether `piece` is in the set. A piece of a larger torrent is not.
    pub fn has(&self, piece: PieceIndex) -> bool {
        self.bytes
            .get(piece.as_usize() / 8)
            .is_some_and(|byte| byte & bit(piece) != 0)
    }

    /// Adds `piece`; says whether it was new.
    pub fn set(&mut self, piece: PieceIndex) -> bool {
        let new = piece.get() < self.pieces && !self.has(piece);
        if new {
            self.bytes[piece.as_usize() / 8] |= bit(piece);
            self.count += 1;
        }
        new
    }

    /// Takes `piece` out; says whether it was in.
    pub fn clear(&mut self, piece: PieceIndex) -> bool {
        let was = self.has(piece);
        if was {
            self.bytes[piece.as_usize() / 8] &= !bit(piece);
            self.count -= 1;
        }
        was
    }

    /// The pieces in the set, in order.
    pub fn pieces(&self, geometry: &Geometry) -> impl Iterator<Item = PieceIndex> {
        self.in_words(geometry, |_, word| word)
    }

    /// The pieces of this set that `other` does not hold, in order.
    pub fn pieces_beyond(
        &self,
        other: &Bitfield,
        geometry: &Geometry,
    ) -> impl Iterator<Item = PieceIndex> {
        self.in_words(geometry, |at, word| word & !other.word(at))
    }

    /// The pieces that `keep` leaves of each word. Where there is none, 64 pieces are one step.
    fn in_words(
        &self,
        geometry: &Geometry,
        keep: impl Fn(u32, u64) -> u64,
    ) -> impl Iterator<Item = PieceIndex> {
        (0..self.words()).flat_map(move |at| {
            let mut left = keep(at, self.word(at));
            std::iter::from_fn(move || {
                let first = left.leading_zeros();
                left &= !(1 << 63u64.checked_sub(first.into())?);
                geometry.piece(at * 64 + first)
            })
        })
    }

    /// How many pieces are in the set.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether every piece is in the set (true for a torrent without pieces).
    pub fn is_full(&self) -> bool {
        self.count == self.pieces
    }

    /// Whether no piece is in the set.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Whether `other` holds every piece of this set.
    pub fn is_within(&self, other: &Bitfield) -> bool {
        !self.exceeds(other)
    }

    /// Whether this set holds a piece that `other` does not.
    pub fn exceeds(&self, other: &Bitfield) -> bool {
        (0..self.words()).any(|at| self.word(at) & !other.word(at) != 0)
    }

    /// The last piece that both sets hold, of those up to `most`.
    pub fn last_shared(
        &self,
        other: &Bitfield,
        most: PieceIndex,
        geometry: &Geometry,
    ) -> Option<PieceIndex> {
        if self.is_empty() || other.is_empty() {
            return None;
        }
        let most = most.get().min(self.pieces.checked_sub(1)?);
        let end = most / 64;
        (0..=end).rev().find_map(|at| {
            let both = self.word(at) & other.word(at);
            let up_to_most = if at == end {
                u64::MAX << (63 - most % 64)
            } else {
                u64::MAX
            };
            let last = (both & up_to_most).trailing_zeros();
            geometry.piece(at * 64 + 63u32.checked_sub(last)?)
        })
    }

    fn words(&self) -> u32 {
        self.pieces.div_ceil(64)
    }

    /// The 64 pieces from number `64 * at` on, the first of them the highest bit.
    fn word(&self, at: u32) -> u64 {
        let bytes = self.bytes.get(at as usize * 8..).unwrap_or_default();
        let mut word = [0; 8];
        let length = bytes.len().min(8);
        word[..length].copy_from_slice(&bytes[..length]);
        u64::from_be_bytes(word)
    }
}

fn bit(piece: PieceIndex) -> u8 {
    0x80 >> (piece.get() % 8)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn the_last_piece_of_both_is_the_last_of_the_pieces_that_both_have(pieces in 1u32..200, some in proptest::collection::btree_set(0u32..200, 0..40), others in proptest::collection::btree_set(0u32..200, 0..40), most in 0u32..200) {
            let most = most.min(pieces - 1);
            let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
            let field = |of: &BTreeSet<u32>| {
                let mut field = Bitfield::new(&geometry);
                geometry.all_pieces().filter(|it| of.contains(&it.get())).for_each(|it| { field.set(it); });
                field
            };
            let expected = some.intersection(&others).copied().filter(|index| *index <= most).last();
            let last = field(&some).last_shared(&field(&others), geometry.piece(most).unwrap(), &geometry);
            prop_assert_eq!(last.map(|it| it.get()), expected);
        }

        #[test]
        fn the_pieces_beyond_another_set_are_those_that_it_lacks(pieces in 1u32..200, some in proptest::collection::btree_set(0u32..200, 0..200), others in proptest::collection::btree_set(0u32..200, 0..200)) {
            let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
            let field = |of: &BTreeSet<u32>| {
                let mut field = Bitfield::new(&geometry);
                geometry.all_pieces().filter(|it| of.contains(&it.get())).for_each(|it| { field.set(it); });
                field
            };
            let (ours, theirs) = (field(&some), field(&others));
            let expected: Vec<_> = some.difference(&others).copied().filter(|it| *it < pieces).collect();
            prop_assert_eq!(ours.exceeds(&theirs), !expected.is_empty());
            let beyond: Vec<_> = ours.pieces_beyond(&theirs, &geometry).map(|it| it.get()).collect();
            prop_assert_eq!(beyond, expected);
            let all: Vec<_> = some.iter().copied().filter(|it| *it < pieces).collect();
            prop_assert_eq!(ours.pieces(&geometry).map(|it| it.get()).collect::<Vec<_>>(), all);
        }

        #[test]
        fn it_behaves_like_a_set_of_numbers(pieces in 1u32..200, steps in proptest::collection::vec((any::<bool>(), 0u32..200), 0..300)) {
            let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
            let (mut field, mut model) = (Bitfield::new(&geometry), BTreeSet::new());
            for (add, index) in steps {
                let Some(piece) = geometry.piece(index) else { continue };
                if add {
                    prop_assert_eq!(field.set(piece), model.insert(index));
                } else {
                    prop_assert_eq!(field.clear(piece), model.remove(&index));
                }
                prop_assert_eq!(field.count() as usize, model.len());
            }
            for piece in geometry.all_pieces() {
                prop_assert_eq!(field.has(piece), model.contains(&piece.get()));
            }
            prop_assert_eq!(Bitfield::from_bytes(field.as_bytes(), &geometry), Ok(field));
        }
    }

    #[test]
    fn wrong_sizes_and_spare_bits_are_refused() {
        let geometry = Geometry::new(10, 1).unwrap();
        assert_eq!(
            Bitfield::from_bytes(&[0], &geometry),
            Err(BitfieldError::Length {
                found: 1,
                expected: 2
            })
        );
        assert_eq!(
            Bitfield::from_bytes(&[0, 0, 0], &geometry),
            Err(BitfieldError::Length {
                found: 3,
                expected: 2
            })
        );
        assert_eq!(
            Bitfield::from_bytes(&[0, 0b0010_0000], &geometry),
            Err(BitfieldError::SpareBits)
        );
        assert!(
            Bitfield::from_bytes(&[0xff, 0xc0], &geometry)
                .unwrap()
                .is_full()
        );
    }

    #[test]
    fn exceeding_means_having_something_the_other_lacks() {
        let geometry = Geometry::new(10, 1).unwrap();
        let (full, mut some) = (Bitfield::full(&geometry), Bitfield::new(&geometry));
        assert!(full.exceeds(&some) && !some.exceeds(&full));
        geometry.all_pieces().for_each(|piece| {
            some.set(piece);
        });
        assert!(!full.exceeds(&some));
    }
}
