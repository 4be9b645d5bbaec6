//! The positional store: bytes that lie in memory go to their places by `pwrite`.
//!
//! ```text
//! let laid = put(slot, &bytes)?;    // a whole block
//! write_at(&slot, 4096, &bytes)?;   // a part of one
//! ```
//!
//! For blocks over several files, for files in memory, for file systems whose maps are not one with the page cache,
//! and for whatever else was received into memory. Nothing is written to a file that was deleted or cut meanwhile.

use super::landing::Trouble;
use super::lazy_file::{LazyFile, Opened};
use super::places::Place;
use super::slot::{BlockSlot, StorageError, StorageTrouble};
use super::window::write_zeros;
use super::windows::in_one_file;
use rustix::io::Errno;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

/// Writes a block that lies in memory into its place, and gives the slot back, laid or with the error.
pub fn put(slot: BlockSlot, bytes: &[u8]) -> Result<BlockSlot, Trouble> {
    match write_at(&slot, 0, bytes) {
        Ok(()) => Ok(slot.let_go()),
        Err(error) => Err(Trouble { error, slot }),
    }
}

/// The positional store: `bytes` of the slot's block from `at` on, over as many places as they take.
/// Bytes for padding are dropped.
pub(super) fn write_at(slot: &BlockSlot, at: u32, bytes: &[u8]) -> Result<(), StorageError> {
    let (mut skip, mut left) = (u64::from(at), bytes);
    for place in slot.places() {
        let (Place::File { length, .. } | Place::Padding { length }) = place;
        let length = u64::from(*length);
        if skip >= length {
            skip -= length;
            continue;
        }
        let (now, later) = left.split_at(left.len().min((length - skip) as usize));
        if let Place::File { file, offset, .. } = place
            && !now.is_empty()
        {
            let open = open(file, slot.places().len())?;
            write_to(file, &open, offset + length, (now, offset + skip))?;
        }
        (skip, left) = (0, later);
    }
    Ok(())
}

/// A part of a block that lies in memory.
pub(super) struct Fragment<'a> {
    pub(super) slot: &'a BlockSlot,
    /// Where in the block it begins.
    pub(super) at: u32,
    /// In bytes.
    pub(super) length: usize,
}

/// Writes fragments that lie one behind the other in `bytes`, neighbours in a file with one call. Where that fails,
/// the number of the first fragment that was not written comes with the error.
pub(super) fn write_all<'a>(
    fragments: impl Iterator<Item = Fragment<'a>>,
    bytes: &[u8],
) -> Result<(), (usize, StorageError)> {
    let mut stretch: Option<Stretch<'_>> = None;
    let mut from = 0;
    for (number, Fragment { slot, at, length }) in fragments.enumerate() {
        let place = in_one_file(slot).map(|(file, offset, _)| (file, offset + u64::from(at)));
        let same = |stretch: &&mut Stretch<'_>| {
            place.is_some_and(|(file, offset)| stretch.ends_at(file, offset))
        };
        if let Some(stretch) = stretch.as_mut().filter(same) {
            stretch.length += length;
        } else {
            write_stretch(stretch.take(), bytes)?;
            match place {
                Some((file, offset)) => {
                    stretch = Some(Stretch {
                        file,
                        offset,
                        length,
                        first: number,
                        from,
                    })
                }
                None => {
                    let its = &bytes[from..from + length];
                    write_at(slot, at, its).map_err(|error| (number, error))?;
                }
            }
        }
        from += length;
    }
    write_stretch(stretch, bytes)
}

/// Fragments that are neighbours in a file.
struct Stretch<'a> {
    file: &'a Arc<LazyFile>,
    offset: u64,
    length: usize,
    /// The number of the first one.
    first: usize,
    /// Where it lies in memory.
    from: usize,
}

impl Stretch<'_> {
    fn ends_at(&self, file: &Arc<LazyFile>, offset: u64) -> bool {
        Arc::ptr_eq(self.file, file) && self.offset + self.length as u64 == offset
    }
}

fn write_stretch(stretch: Option<Stretch<'_>>, bytes: &[u8]) -> Result<(), (usize, StorageError)> {
    let Some(stretch) = stretch else {
        return Ok(());
    };
    let bytes = &bytes[stretch.from..stretch.from + stretch.length];
    let end = stretch.offset + stretch.length as u64;
    let file = stretch.file.get();
    let written = file.and_then(|open| write_to(stretch.file, open, end, (bytes, stretch.offset)));
    written.map_err(|error| (stretch.first, error))
}

/// Writes `bytes` to an offset of a file that reaches to `end`.
fn write_to(
    file: &LazyFile,
    open: &File,
    end: u64,
    (bytes, offset): (&[u8], u64),
) -> Result<(), StorageError> {
    still_there(file, open, end, "write")?;
    open.write_all_at(bytes, offset)
        .map_err(|error| StorageError::from_io("write", file.path(), &error))
}

/// The most files of one block, or of one volley, that are kept open; a block over hundreds of tiny files opens them
/// one at a time.
pub(super) const KEPT_OPEN: usize = 4;

/// A file of a block with so many places.
pub(super) fn open(file: &LazyFile, places: usize) -> Result<Opened<'_>, StorageError> {
    if places <= KEPT_OPEN {
        file.get().map(Opened::Kept)
    } else {
        file.get_once()
    }
}

/// The file's device, if the file still has a name and reaches to `end`. Writing past the end would
/// quietly give a file back its length that someone has cut, and its holes with it.
pub(super) fn still_there(
    file: &LazyFile,
    open: &File,
    end: u64,
    doing: &'static str,
) -> Result<u64, StorageError> {
    let vanished = |cause: &str| StorageError {
        kind: StorageTrouble::Vanished,
        doing,
        path: file.path().to_owned(),
        cause: cause.to_owned(),
    };
    let found = open
        .metadata()
        .map_err(|error| StorageError::from_io(doing, file.path(), &error))?;
    if found.nlink() == 0 {
        return Err(vanished("it was deleted or replaced meanwhile"));
    }
    if found.len() < end {
        return Err(vanished("it was cut short meanwhile"));
    }
    Ok(found.dev())
}

/// After EFAULT: what an ordinary write says about the same bytes. They are held slots', so zeros
/// do no harm.
pub(super) fn why_unbacked(file: &LazyFile, offset: u64, length: usize) -> StorageError {
    let again = file.get().and_then(|open| {
        still_there(file, open, offset + length as u64, "write")?;
        write_zeros(open, offset, length)
            .map_err(|error| StorageError::from_io("write", file.path(), &error))
    });
    again
        .err()
        .unwrap_or_else(|| StorageError::from_io("write", file.path(), &io::Error::from(Errno::IO)))
}
