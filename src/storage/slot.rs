//! The right to write one block, as a value: it exists once, one thread holds it at a time, and it
//! travels through channels.
//!
//! ```text
//! let slot = book.take(block, places)?;   // coordinator: free -> out
//! landing.hold(slot);                     // peer thread: the only writer from here on
//! book.laid(slot);                        // coordinator: out -> laid (or `returned`: out -> free)
//! ```
//!
//! ```text
//!           take               laid
//! free ───────────► out ────────────────► laid ── done: the piece is good, no slot is given out any more
//!  ▲ ▲               │                     │
//!  │ └── returned ───┘                     │
//!  └──────── forget: the piece is bad ─────┘
//! ```
//!
//! A slot is *free*, *out* or *laid*. Every block that was taken comes home exactly once. What a peer
//! thread does with the slots it holds is [`Landing`]'s business.

pub use super::budget::{Buffer, LandingBudget};
pub use super::landing::{Arrival, Landed, Landing, Match, Revoked, Trouble};
pub use super::positional::put;
#[cfg(test)]
pub(crate) use super::scratch_file::{ScratchFile, payload};

use super::places::{Place, Places};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::{Block, Geometry, PieceIndex};
use rustix::io::Errno;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// The right to write `block` into its place. Not `Clone`: whoever holds it is the only writer.
#[derive(Debug)]
pub struct BlockSlot {
    block: Block,
    places: Places,
}

impl BlockSlot {
    /// Which block may be written.
    pub fn block(&self) -> Block {
        self.block
    }

    /// Where its bytes lie, in order.
    pub(super) fn places(&self) -> &[Place] {
        &self.places
    }

    /// Nothing more will be written: lets go of the files on the spot, not when the slot is home. Slots
    /// wait in batches, each perhaps for files of its own, and open files are few.
    pub(super) fn let_go(mut self) -> BlockSlot {
        self.places = Places::default();
        self
    }
}

/// A block that can be read: for an upload or a check.
#[derive(Debug, Clone)]
pub struct ReadableBlock {
    /// Which block.
    pub block: Block,
    /// Where its bytes lie, in order.
    pub places: Places,
}

impl ReadableBlock {
    /// The file and the offset in it, where all bytes lie in one file; `None` where they do not.
    pub fn whole(&self) -> Option<Result<(&File, u64), StorageError>> {
        match &*self.places {
            [Place::File { file, offset, .. }] => Some(file.get().map(|open| (open, *offset))),
            _ => None,
        }
    }

    /// Length of the already open file that holds the whole block. Error if it changed since it was checked.
    pub fn length_of(&self, open: &File) -> Result<u64, StorageError> {
        let found = open.metadata().map_err(|error| self.unreadable(&error))?;
        if let [Place::File { file, .. }] = &*self.places {
            file.is_as_seen(&found)?;
        }
        Ok(found.len())
    }

    /// Appends the block's bytes to `buffer`, zeros for padding. A file too short is an error.
    pub fn read(&self, buffer: &mut Vec<u8>) -> Result<(), StorageError> {
        for place in self.places.iter() {
            let from = buffer.len();
            match place {
                Place::Padding { length } => buffer.resize(from + *length as usize, 0),
                Place::File {
                    file,
                    offset,
                    length,
                } => {
                    let open = super::positional::open(file, self.places.len())?;
                    file.look_again(&open)?;
                    buffer.resize(from + *length as usize, 0);
                    open.read_exact_at(&mut buffer[from..], *offset)
                        .map_err(|error| StorageError::from_io("read", file.path(), &error))?;
                }
            }
        }
        Ok(())
    }

    /// The error of a file that ended before the block did.
    pub fn too_short(&self) -> StorageError {
        let path = self.places.iter().find_map(|place| match place {
            Place::File { file, .. } => Some(file.path()),
            Place::Padding { .. } => None,
        });
        StorageError {
            kind: StorageTrouble::Vanished,
            doing: "read",
            path: path.unwrap_or(Path::new("")).to_owned(),
            cause: "it is shorter than it should be".to_owned(),
        }
    }

    /// The error of a failed read.
    pub fn unreadable(&self, error: &io::Error) -> StorageError {
        StorageError::from_io("read", &self.too_short().path, error)
    }
}

/// What storage could not do, to which file, and what the system said.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot {doing} {}: {cause}", path.display())]
pub struct StorageError {
    /// What kind of trouble: decides the hint and the `reason` a user sees.
    pub kind: StorageTrouble,
    /// What was being done, as an infinitive: "write", "allocate", "sync".
    pub doing: &'static str,
    /// To which file or folder.
    pub path: PathBuf,
    /// The system's words, or ours.
    pub cause: String,
}

impl StorageError {
    /// What the system's error means for a file.
    pub fn from_io(doing: &'static str, path: &Path, error: &io::Error) -> StorageError {
        let kind = match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => StorageTrouble::Full,
            Some(Errno::FBIG) => StorageTrouble::TooLarge,
            Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => StorageTrouble::Denied,
            Some(Errno::EXIST | Errno::ISDIR | Errno::NOTDIR | Errno::LOOP) => {
                StorageTrouble::InTheWay
            }
            // A folder in which nothing can be made (/proc/1), or one that is gone: no file of ours was there yet.
            Some(Errno::NOENT) if doing == "create" => StorageTrouble::Denied,
            Some(Errno::NOENT | Errno::STALE) => StorageTrouble::Vanished,
            Some(Errno::MFILE | Errno::NFILE) => StorageTrouble::Descriptors,
            None if error.kind() == io::ErrorKind::UnexpectedEof => StorageTrouble::Vanished,
            _ => StorageTrouble::Broken,
        };
        StorageError {
            kind,
            doing,
            path: path.to_owned(),
            cause: match kind {
                StorageTrouble::Vanished if error.kind() == io::ErrorKind::UnexpectedEof => {
                    "it is shorter than it should be".to_owned()
                }
                _ => error.to_string(),
            },
        }
    }
}

/// The kinds of trouble a disk makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageTrouble {
    /// No space or quota left (ENOSPC, EDQUOT).
    Full,
    /// Larger than the file system or a limit of this process allows (EFBIG).
    TooLarge,
    /// Not allowed, or mounted read-only (EACCES, EPERM, EROFS); no folder to make files in.
    Denied,
    /// Something else is there: a folder, a device, a symbolic link, a file that is too long, data that is
    /// not this torrent's.
    InTheWay,
    /// Another instance of this program is at work on it.
    Busy,
    /// The file was truncated, deleted or replaced while we used it.
    Vanished,
    /// Too many open files (EMFILE, ENFILE).
    Descriptors,
    /// Anything else, an I/O error of the medium above all.
    Broken,
}

impl StorageTrouble {
    /// Whether the data may lie there all the same: an error of this kind while reading says that it
    /// could not be looked at, not that it is missing or wrong.
    pub fn hides_data(self) -> bool {
        match self {
            StorageTrouble::Denied | StorageTrouble::Descriptors | StorageTrouble::Broken => true,
            StorageTrouble::Full
            | StorageTrouble::TooLarge
            | StorageTrouble::InTheWay
            | StorageTrouble::Busy
            | StorageTrouble::Vanished => false,
        }
    }
}

/// Where a block of the 16 KiB grid stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SlotState {
    Free,
    Out,
    Laid,
}

/// Who may write which block of one torrent: the coordinator's side of the slots. Costs a byte a
/// block, for the pieces in work only.
#[derive(Debug)]
pub struct SlotBook {
    geometry: Geometry,
    done: Bitfield,
    pieces: HashMap<PieceIndex, Box<[SlotState]>>,
    /// Slots that were given out and did not come home yet.
    out: usize,
}

impl SlotBook {
    /// The book of a torrent of which nothing is laid.
    pub fn new(geometry: Geometry) -> SlotBook {
        SlotBook {
            done: Bitfield::new(&geometry),
            pieces: HashMap::new(),
            out: 0,
            geometry,
        }
    }

    /// The right to write `block`, if it is free. There is none for blocks off the 16 KiB grid, out or laid
    /// already, or of a piece that is done: a block is never written after its piece was checked.
    pub fn take(&mut self, block: Block, places: Places) -> Option<BlockSlot> {
        let state = self.state(block)?;
        if *state != SlotState::Free {
            return None;
        }
        *state = SlotState::Out;
        self.out += 1;
        Some(BlockSlot { block, places })
    }

    /// A slot came home and its block lies in the file.
    pub fn laid(&mut self, slot: BlockSlot) -> Block {
        self.out = self.out.saturating_sub(1);
        self.set(slot.block, SlotState::Laid);
        slot.block
    }

    /// A slot came home unused: its block is free.
    pub fn returned(&mut self, slot: BlockSlot) -> Block {
        self.out = self.out.saturating_sub(1);
        self.set(slot.block, SlotState::Free);
        slot.block
    }

    /// Whether any slot is out: more is on its way.
    pub fn any_out(&self) -> bool {
        self.out > 0
    }

    /// The block lies in the file since an earlier run. Nothing happens if it is out.
    pub fn mark_laid(&mut self, block: Block) {
        if let Some(state) = self.state(block)
            && *state == SlotState::Free
        {
            *state = SlotState::Laid;
        }
    }

    /// Whether every block of `piece` is laid: no slot of it is out, and none can be had until `forget`.
    pub fn is_laid(&self, piece: PieceIndex) -> bool {
        let blocks = self.pieces.get(&piece);
        blocks.is_some_and(|blocks| blocks.iter().all(|state| *state == SlotState::Laid))
    }

    /// The laid blocks of `piece` by their number, for the record. Empty for a piece not in work.
    pub fn laid_in(&self, piece: PieceIndex) -> impl Iterator<Item = usize> + '_ {
        let blocks = self.pieces.get(&piece).map_or(&[][..], |blocks| blocks);
        let numbered = blocks.iter().enumerate();
        numbered.filter_map(|(number, state)| (*state == SlotState::Laid).then_some(number))
    }

    /// The pieces in work, in no order.
    pub fn pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.pieces.keys().copied()
    }

    /// The piece is bad, or its bytes are gone: what was laid, or done, is free again. Slots that are out
    /// stay out.
    pub fn forget(&mut self, piece: PieceIndex) {
        self.done.clear(piece);
        let Some(blocks) = self.pieces.get_mut(&piece) else {
            return;
        };
        for state in blocks.iter_mut().filter(|state| **state == SlotState::Laid) {
            *state = SlotState::Free;
        }
        if blocks.iter().all(|state| *state == SlotState::Free) {
            self.pieces.remove(&piece);
        }
    }

    /// The piece is good: no slot of it is given out any more.
    pub fn done(&mut self, piece: PieceIndex) {
        self.done.set(piece);
        self.pieces.remove(&piece);
    }

    fn state(&mut self, block: Block) -> Option<&mut SlotState> {
        let piece = block.piece();
        let on_grid = self.geometry.block(piece, block.number()) == Some(block);
        if !on_grid || self.done.has(piece) {
            return None;
        }
        let blocks = self.geometry.blocks_in(piece);
        let states = self.pieces.entry(piece);
        let states = states.or_insert_with(|| vec![SlotState::Free; blocks].into());
        states.get_mut(block.number())
    }

    fn set(&mut self, block: Block, to: SlotState) {
        let Some(blocks) = self.pieces.get_mut(&block.piece()) else {
            return;
        };
        if let Some(state) = blocks.get_mut(block.number()) {
            *state = to;
        }
        if blocks.iter().all(|state| *state == SlotState::Free) {
            self.pieces.remove(&block.piece());
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn geometry() -> Geometry {
        Geometry::new(100_000, 40_000).unwrap()
    }

    fn block(piece: u32, number: usize) -> Block {
        let geometry = geometry();
        let piece = geometry.piece(piece).unwrap();
        geometry.block(piece, number).unwrap()
    }

    #[test]
    fn a_block_is_out_to_one_holder_at_a_time() {
        let mut book = SlotBook::new(geometry());
        let slot = book.take(block(0, 1), Places::default()).unwrap();
        assert!(book.take(block(0, 1), Places::default()).is_none());
        assert_eq!(book.returned(slot), block(0, 1));
        assert!(book.take(block(0, 1), Places::default()).is_some());
    }

    #[test]
    fn a_laid_block_is_not_given_out_until_its_piece_is_forgotten() {
        let mut book = SlotBook::new(geometry());
        for number in 0..3 {
            let slot = book.take(block(1, number), Places::default()).unwrap();
            book.laid(slot);
        }
        assert!(book.is_laid(block(1, 0).piece()));
        assert!((0..3).all(|number| book.take(block(1, number), Places::default()).is_none()));
        book.forget(block(1, 0).piece());
        assert!(book.take(block(1, 2), Places::default()).is_some());
    }

    #[test]
    fn a_piece_that_is_done_is_never_written_again() {
        let mut book = SlotBook::new(geometry());
        book.done(block(2, 0).piece());
        assert!(book.take(block(2, 0), Places::default()).is_none());
        assert!(book.take(block(2, 1), Places::default()).is_none());
        assert_eq!(book.pieces().count(), 0);
    }

    #[test]
    fn blocks_off_the_grid_have_no_slot() {
        let mut book = SlotBook::new(geometry());
        let odd = geometry().locate(0, 1, 16_384, 16_384).unwrap();
        let short = geometry().locate(0, 0, 100, 16_384).unwrap();
        assert!(book.take(odd, Places::default()).is_none());
        assert!(book.take(short, Places::default()).is_none());
    }

    #[test]
    fn what_an_earlier_run_laid_counts() {
        let mut book = SlotBook::new(geometry());
        book.mark_laid(block(0, 0));
        book.mark_laid(block(0, 2));
        let laid: Vec<_> = book.laid_in(block(0, 0).piece()).collect();
        assert_eq!(laid, [0, 2]);
        assert!(book.take(block(0, 0), Places::default()).is_none());
        let slot = book.take(block(0, 1), Places::default()).unwrap();
        book.mark_laid(block(0, 1));
        assert!(!book.is_laid(block(0, 1).piece()));
        book.laid(slot);
        assert!(book.is_laid(block(0, 1).piece()));
    }

    #[test]
    fn a_piece_with_nothing_out_or_laid_costs_nothing() {
        let mut book = SlotBook::new(geometry());
        let slot = book.take(block(0, 0), Places::default()).unwrap();
        book.returned(slot);
        assert_eq!(book.pieces().count(), 0);
    }

    #[test]
    fn the_systems_errors_are_told_apart() {
        let kind =
            |errno: Errno| StorageError::from_io("write", Path::new("a"), &errno.into()).kind;
        assert_eq!(kind(Errno::NOSPC), StorageTrouble::Full);
        assert_eq!(kind(Errno::FBIG), StorageTrouble::TooLarge);
        assert_eq!(kind(Errno::ROFS), StorageTrouble::Denied);
        assert_eq!(kind(Errno::MFILE), StorageTrouble::Descriptors);
        assert_eq!(kind(Errno::IO), StorageTrouble::Broken);
        assert_eq!(kind(Errno::NOENT), StorageTrouble::Vanished);
        let making = StorageError::from_io("create", Path::new("a"), &Errno::NOENT.into());
        assert_eq!(making.kind, StorageTrouble::Denied);
    }
}
