//! The right to write one block, as a value: it exists once, one thread holds it at a time, and it
//! travels through channels.

use super::layout::Place;
use crate::protocol::Block;
use std::path::PathBuf;

/// The right to write `block` into its place. Not `Clone`: whoever holds it is the only writer.
#[derive(Debug)]
pub struct BlockSlot {
    block: Block,
    places: Vec<Place>,
}

/// A block that can be read: for an upload or a check.
#[derive(Debug, Clone)]
pub struct Source {
    /// Which block.
    pub block: Block,
    /// Where its bytes lie, in order.
    pub places: Vec<Place>,
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

/// The kinds of trouble a disk makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StorageTrouble {
    /// No space or quota left (ENOSPC, EDQUOT).
    Full,
    /// Larger than the file system or a limit of this process allows (EFBIG).
    TooLarge,
    /// Not allowed, or mounted read-only (EACCES, EPERM, EROFS).
    Denied,
    /// Something else is there: a folder, a device, a symbolic link, a file that is too long, data that is not this torrent's.
    InTheWay,
    /// The file was truncated, deleted or replaced while we used it.
    Vanished,
    /// Too many open files (EMFILE, ENFILE).
    Descriptors,
    /// Anything else, an I/O error of the medium above all.
    Broken,
}
