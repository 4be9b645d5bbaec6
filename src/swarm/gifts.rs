//! What the fast extension (BEP 6) names of single pieces: those that are given even to the choked, and those
//! that a peer would like to be asked for.
//!
//! ```
//! use ropewalk::protocol::{Geometry, bitfield::Bitfield};
//! use ropewalk::swarm::gifts::Gifts;
//! let geometry = Geometry::new(3, 1).unwrap();
//! let (mut gifts, wants) = (Gifts::default(), Bitfield::full(&geometry));
//! let piece = geometry.piece(1).unwrap();
//! gifts.allow(piece, &wants);
//! assert_eq!(gifts.from_it, [piece]);
//! gifts.refused(piece);
//! assert!(gifts.from_it.is_empty());
//! ```

use crate::protocol::PieceIndex;
use crate::protocol::bitfield::Bitfield;

/// Suggested and allowed-fast pieces remembered of a peer, so that a flood of them takes no memory. The number is
/// ours: a few more than the ten allowed-fast pieces that BEP 6 suggests.
pub const FAST_PIECES_MAX: usize = 16;

/// The named pieces of one peer.
#[derive(Debug, Default)]
pub struct Gifts {
    /// Pieces it gives us even while it chokes us.
    pub from_it: Vec<PieceIndex>,
    /// Pieces we give it even while we choke it.
    pub to_it: Vec<PieceIndex>,
    /// Pieces it suggested, latest last.
    pub suggested: Vec<PieceIndex>,
}

impl Gifts {
    /// It gives us a piece, if we want it.
    pub fn allow(&mut self, piece: PieceIndex, wants: &Bitfield) {
        self.keep_wanted(wants);
        remember(&mut self.from_it, piece, wants);
    }

    /// It suggests a piece, if we want it.
    pub fn suggest(&mut self, piece: PieceIndex, wants: &Bitfield) {
        remember(&mut self.suggested, piece, wants);
    }

    /// A gift that is refused is none (BEP 6).
    pub fn refused(&mut self, piece: PieceIndex) {
        self.from_it.retain(|it| *it != piece);
    }

    /// Forgets gifts that are not wanted any more: who chokes us and has no others cannot be asked for anything.
    pub fn keep_wanted(&mut self, wants: &Bitfield) {
        self.from_it.retain(|piece| wants.has(*piece));
    }
}

fn remember(pieces: &mut Vec<PieceIndex>, piece: PieceIndex, wants: &Bitfield) {
    if wants.has(piece) && pieces.len() < FAST_PIECES_MAX && !pieces.contains(&piece) {
        pieces.push(piece);
    }
}
