//! How a torrent's bytes are cut: into pieces, which have hashes, and blocks, which are asked for.
//!
//! All files of a torrent laid end to end make one long run of bytes. The author cuts it into pieces
//! of equal length (the last may be shorter); clients cut pieces into blocks of 16 KiB (BEP 3).
//! [`PieceIndex`] and [`Block`] can only be had from a [`Geometry`], so a number from the wire cannot
//! reach a file unchecked:
//!
//! ```
//! use ropewalk::protocol::Geometry;
//! let geometry = Geometry::new(100_000, 65_536).unwrap();
//! assert_eq!(geometry.pieces(), 2);
//! let last = geometry.piece(1).unwrap();
//! assert_eq!(geometry.piece_size(last), 34_464);
//! assert_eq!(geometry.blocks(last).count(), 3);
//! assert!(geometry.piece(2).is_none());
//! ```

use std::fmt;

/// The length of the blocks we ask for: 16 KiB, what every client serves.
pub const BLOCK_LENGTH: u32 = 16 * 1024;

/// The longest block we serve. Some old clients ask for 32 KiB or more; above 128 KiB nobody honest does.
pub const SERVED_BLOCK_LENGTH_MAX: u32 = 128 * 1024;

/// The number of a piece that exists in the torrent it was made for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PieceIndex(u32);

impl PieceIndex {
    /// The number as it goes over the wire.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The number as an index into a table with one row a piece.
    pub fn as_usize(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Debug for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}", self.0)
    }
}

impl fmt::Display for PieceIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A run of bytes inside one piece: never empty, never past the piece's end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Block {
    piece: PieceIndex,
    begin: u32,
    length: u32,
}

impl Block {
    /// The piece it is part of.
    pub fn piece(self) -> PieceIndex {
        self.piece
    }

    /// Where it begins, in bytes from the start of its piece.
    pub fn begin(self) -> u32 {
        self.begin
    }

    /// Its length in bytes, at least 1.
    pub fn length(self) -> u32 {
        self.length
    }

    /// Its number within the piece, for a block of the 16 KiB grid.
    pub fn number(self) -> usize {
        (self.begin / BLOCK_LENGTH) as usize
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?}+{}..{}",
            self.piece,
            self.begin,
            self.begin + self.length
        )
    }
}

/// Why bytes cannot be cut as asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GeometryError {
    /// Pieces of no length never cover anything.
    #[error("the piece length is 0")]
    NoPieceLength,
    /// More pieces than a 32-bit index can name with room to spare.
    #[error("{0} pieces are more than the {max} that are supported", max = Geometry::PIECES_MAX)]
    TooManyPieces(u64),
}

/// The cut of one torrent: total length, piece length, and what follows from them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    total: u64,
    piece_length: u32,
    pieces: u32,
}

impl Geometry {
    /// The most pieces a torrent may have: 2^21, the limit libtorrent uses.
    pub const PIECES_MAX: u32 = 1 << 21;

    /// Cuts `total` bytes into pieces of `piece_length` bytes. `total` may be 0: there are no pieces then.
    pub fn new(total: u64, piece_length: u32) -> Result<Geometry, GeometryError> {
        if piece_length == 0 {
            return Err(GeometryError::NoPieceLength);
        }
        let pieces = total.div_ceil(u64::from(piece_length));
        if pieces > u64::from(Geometry::PIECES_MAX) {
            return Err(GeometryError::TooManyPieces(pieces));
        }
        Ok(Geometry {
            total,
            piece_length,
            pieces: pieces as u32,
        })
    }

    /// Bytes of so many different pieces. `last`: the last one, which may be shorter, is among them.
    pub fn size_of(&self, pieces: u32, last: bool) -> u64 {
        let whole = u64::from(pieces) * u64::from(self.piece_length);
        let uncut = u64::from(self.pieces) * u64::from(self.piece_length);
        whole - if last { uncut - self.total } else { 0 }
    }

    /// The pieces that hold any of `length` bytes from `start` on, in order.
    pub fn pieces_under(
        &self,
        start: u64,
        length: u64,
    ) -> impl Iterator<Item = PieceIndex> + use<> {
        let (from, to) = (start, start.saturating_add(length));
        let piece_length = u64::from(self.piece_length);
        let range = if from < to {
            from / piece_length..(to - 1) / piece_length + 1
        } else {
            0..0
        };
        let geometry = *self;
        range.map_while(move |index| geometry.piece(u32::try_from(index).ok()?))
    }

    /// All bytes of the torrent.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// The length of every piece but perhaps the last, in bytes.
    pub fn piece_length(&self) -> u32 {
        self.piece_length
    }

    /// How many pieces there are.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// The piece of this number, if there is one.
    pub fn piece(&self, index: u32) -> Option<PieceIndex> {
        (index < self.pieces).then_some(PieceIndex(index))
    }

    /// The last piece, the only one that may be shorter than the others; `None`: the torrent has no bytes.
    pub fn last_piece(&self) -> Option<PieceIndex> {
        self.pieces.checked_sub(1).map(PieceIndex)
    }

    /// All pieces in order.
    pub fn all_pieces(&self) -> impl ExactSizeIterator<Item = PieceIndex> + use<> {
        (0..self.pieces).map(PieceIndex)
    }

    /// The bytes in `piece`: the piece length, or what is left for the last one.
    pub fn piece_size(&self, piece: PieceIndex) -> u32 {
        let left = self.total - self.piece_start(piece);
        left.min(u64::from(self.piece_length)) as u32
    }

    /// Where `piece` begins, in bytes from the start of the torrent.
    pub fn piece_start(&self, piece: PieceIndex) -> u64 {
        u64::from(piece.0) * u64::from(self.piece_length)
    }

    /// Where `block` begins, in bytes from the start of the torrent.
    pub fn block_start(&self, block: Block) -> u64 {
        self.piece_start(block.piece) + u64::from(block.begin)
    }

    /// How many blocks of the 16 KiB grid `piece` has.
    pub fn blocks_in(&self, piece: PieceIndex) -> usize {
        self.piece_size(piece).div_ceil(BLOCK_LENGTH) as usize
    }

    /// The blocks of `piece` on the 16 KiB grid, in order.
    pub fn blocks(&self, piece: PieceIndex) -> impl ExactSizeIterator<Item = Block> + use<> {
        let size = self.piece_size(piece);
        (0..self.blocks_in(piece) as u32).map(move |number| grid_block(piece, size, number))
    }

    /// Block `number` of `piece` on the 16 KiB grid, if there is one.
    pub fn block(&self, piece: PieceIndex, number: usize) -> Option<Block> {
        (number < self.blocks_in(piece))
            .then(|| grid_block(piece, self.piece_size(piece), number as u32))
    }

    /// The run of bytes a peer names on the wire, if the piece exists and holds all of it and the
    /// length is neither 0 nor above `length_max`.
    pub fn locate(&self, index: u32, begin: u32, length: u32, length_max: u32) -> Option<Block> {
        let piece = self.piece(index)?;
        let end = begin.checked_add(length)?;
        let fits = length > 0 && length <= length_max && end <= self.piece_size(piece);
        fits.then_some(Block {
            piece,
            begin,
            length,
        })
    }
}

fn grid_block(piece: PieceIndex, size: u32, number: u32) -> Block {
    let begin = number * BLOCK_LENGTH;
    Block {
        piece,
        begin,
        length: (size - begin).min(BLOCK_LENGTH),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn blocks_tile_every_byte_once(total in 0u64..3_000_000, piece_length in 1u32..200_000) {
            let geometry = Geometry::new(total, piece_length).unwrap();
            let mut next = 0;
            for piece in geometry.all_pieces() {
                for block in geometry.blocks(piece) {
                    prop_assert_eq!(geometry.block_start(block), next);
                    prop_assert_eq!(geometry.block(piece, block.number()), Some(block));
                    next += u64::from(block.length());
                }
            }
            prop_assert_eq!(next, total);
            prop_assert_eq!(geometry.last_piece(), geometry.all_pieces().last());
        }

        #[test]
        fn a_located_block_lies_inside_its_piece(
            index in 0u32..17, begin in 0u32..80_000, length in 0u32..140_000,
        ) {
            let geometry = Geometry::new(1_000_000, 70_000).unwrap();
            if let Some(block) = geometry.locate(index, begin, length, SERVED_BLOCK_LENGTH_MAX) {
                prop_assert!(block.begin() + block.length() <= geometry.piece_size(block.piece()));
                prop_assert!(block.length() > 0 && block.length() <= SERVED_BLOCK_LENGTH_MAX);
            }
        }
    }

    #[test]
    fn hostile_numbers_locate_nothing() {
        let geometry = Geometry::new(1_000_000, 70_000).unwrap();
        for (index, begin, length) in [
            (15, 0, 1),
            (u32::MAX, 0, 1),
            (0, u32::MAX, 1),
            (0, u32::MAX, u32::MAX),
            (0, 0, 0),
            (0, 69_999, 2),
            (0, 0, 131_073),
        ] {
            assert_eq!(
                geometry.locate(index, begin, length, SERVED_BLOCK_LENGTH_MAX),
                None
            );
        }
    }

    #[test]
    fn a_torrent_without_bytes_has_no_pieces() {
        let nothing = Geometry::new(0, 16_384).unwrap();
        assert_eq!((nothing.pieces(), nothing.last_piece()), (0, None));
        assert_eq!(Geometry::new(1, 0), Err(GeometryError::NoPieceLength));
        assert!(matches!(
            Geometry::new(u64::MAX, 1),
            Err(GeometryError::TooManyPieces(_))
        ));
    }
}
