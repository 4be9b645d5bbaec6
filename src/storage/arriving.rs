//! The payload under way: how much of it has come, and where it goes.
//!
//! ```text
//! let mut arriving = Arriving { total, received: 0, destination, mapped: true };
//! arriving.store(&bytes)?;                // from memory, behind what has come
//! ```

use super::budget::Buffer;
use super::positional::write_at;
use super::slot::{BlockSlot, StorageError};
use super::volley::Sorted;
use crate::protocol::Block;

#[derive(Debug)]
pub(super) struct Arriving {
    pub(super) total: u32,
    pub(super) received: u32,
    pub(super) destination: Destination,
    /// Whether bytes of it may still go through a window.
    pub(super) mapped: bool,
}

#[derive(Debug)]
pub(super) enum Destination {
    Slot(BlockSlot),
    Spare(Block, Vec<u8>),
    Nowhere { asked: bool },
}

impl Arriving {
    /// Stores bytes from memory.
    pub(super) fn store(&mut self, bytes: &[u8]) -> Result<(), StorageError> {
        match &mut self.destination {
            Destination::Slot(slot) => write_at(slot, self.received, bytes),
            Destination::Spare(_, kept) => {
                kept.extend_from_slice(bytes);
                Ok(())
            }
            Destination::Nowhere { .. } => Ok(()),
        }
    }
}

impl Destination {
    pub(super) fn is_spare(&self, block: Block) -> bool {
        matches!(self, Destination::Spare(spare, _) if *spare == block)
    }
}

/// What one read brought, before accounts are settled.
#[derive(Default)]
pub(super) struct Unsettled {
    /// Bytes of the payload under way.
    pub(super) payload: usize,
    pub(super) bytes: usize,
    pub(super) emptied: bool,
    /// What storage could not do.
    pub(super) failure: Option<StorageError>,
    pub(super) behind: Sorted,
    pub(super) aside: Option<Buffer>,
}

impl Unsettled {
    pub(super) fn failed(error: StorageError) -> Unsettled {
        Unsettled {
            failure: Some(error),
            ..Unsettled::default()
        }
    }
}
