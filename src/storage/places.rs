//! Where the bytes of a block or a piece lie, ready to be read or written.
//!
//! ```text
//! let places: Places = runs.map(place).collect();
//! for place in &*places { ... }                      // in order; together the whole block
//! ```
//!
//! A block nearly always lies in one file. Then this takes no memory from the heap: the coordinator makes one for
//! each block, and the peer's thread would give back what another thread had taken, under the allocator's lock.

use super::lazy_file::LazyFile;
use std::ops::Deref;
use std::sync::Arc;

/// A run of bytes of a block.
#[derive(Debug, Clone)]
pub enum Place {
    /// In a file.
    File {
        /// Which.
        file: Arc<LazyFile>,
        /// The first byte's offset in the file.
        offset: u64,
        /// How many bytes; at least 1.
        length: u32,
    },
    /// In a padding file (BEP 47): zeros that are never on disk. What arrives for it is thrown away.
    Padding {
        /// How many bytes; at least 1.
        length: u32,
    },
}

/// All places of a block or a piece, in order: a slice of them. None where they were let go of.
#[derive(Debug, Clone)]
pub struct Places(Held);

#[derive(Debug, Clone)]
enum Held {
    One(Place),
    Many(Box<[Place]>),
}

impl Default for Places {
    fn default() -> Places {
        Places(Held::Many(Box::default()))
    }
}

impl From<Place> for Places {
    fn from(place: Place) -> Places {
        Places(Held::One(place))
    }
}

impl FromIterator<Place> for Places {
    fn from_iter<I: IntoIterator<Item = Place>>(places: I) -> Places {
        let mut places = places.into_iter();
        match (places.next(), places.next()) {
            (Some(only), None) => Places::from(only),
            (first, second) => Places(Held::Many(
                first.into_iter().chain(second).chain(places).collect(),
            )),
        }
    }
}

impl Deref for Places {
    type Target = [Place];

    fn deref(&self) -> &[Place] {
        match &self.0 {
            Held::One(place) => std::slice::from_ref(place),
            Held::Many(places) => places,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_keep_their_order_however_many_there_are() {
        for count in 0..4 {
            let places: Places = (0..count).map(|length| Place::Padding { length }).collect();
            let lengths = places.iter().map(|place| match place {
                Place::Padding { length } => *length,
                Place::File { .. } => u32::MAX,
            });
            assert!(lengths.eq(0..count), "{places:?}");
        }
        assert!(Places::default().is_empty());
    }
}
