//! What receiving may take of our memory: maps and buffers of all peer threads together.
//!
//! ```text
//! let budget = LandingBudget::default();      // a clone for each thread
//! let share = budget.claim(length)?;          // for a map. None: spent for the moment; given back when dropped
//! let mut buffer = budget.buffer()?;          // for one call. None: all are in use; given back when dropped
//! ```

use crossbeam_channel::{Receiver, Sender, bounded};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What all windows of a client may map together, in bytes, whatever the number of peers: mapped pages count as ours
/// in the figures people look at.
pub const MAPPED_MAX: usize = 8 * 1024 * 1024;

/// The length of a buffer, in bytes: as many blocks as one call can name.
pub(super) const BUFFER_LENGTH: usize = 512 * 1024;

/// Buffers at most. A thread has one for as long as it takes to receive and to write, so there are as many in memory as
/// threads were at that at once: a few, where the disk is quick.
const BUFFERS_MAX: usize = 8;

/// How much windows and buffers may take: one for each client, a clone for each thread that receives.
#[derive(Debug, Clone)]
pub struct LandingBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: AtomicUsize,
    maps_refused: AtomicBool,
    /// Buffers that were used before. These are taken first, so that they stay in the processor's cache.
    warm: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    /// Buffers that nobody has needed yet: empty.
    cold: Receiver<Vec<u8>>,
}

impl Default for LandingBudget {
    fn default() -> LandingBudget {
        LandingBudget::new(MAPPED_MAX, BUFFERS_MAX)
    }
}

impl LandingBudget {
    /// A budget of so many bytes for maps, and of so many buffers. Where there is neither, blocks come one at a time.
    pub fn new(mapped: usize, buffers: usize) -> LandingBudget {
        // Bound: each buffer is in one of the two, or in use.
        let (put, cold) = bounded(buffers);
        let warm = bounded(buffers);
        for _ in 0..buffers {
            let _ = put.try_send(Vec::new());
        }
        LandingBudget {
            shared: Arc::new(Shared {
                left: AtomicUsize::new(mapped),
                maps_refused: AtomicBool::new(false),
                warm,
                cold,
            }),
        }
    }

    /// Whether the system has refused a map (ENODEV, EAGAIN, ENOMEM): from then on nobody tries again.
    pub fn maps_refused(&self) -> bool {
        self.shared.maps_refused.load(Ordering::Relaxed)
    }

    pub(super) fn refuse_maps(&self) {
        self.shared.maps_refused.store(true, Ordering::Relaxed);
    }

    pub(super) fn claim(&self, bytes: usize) -> Option<BudgetShare> {
        self.shared
            .left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                left.checked_sub(bytes)
            })
            .ok()?;
        Some(BudgetShare {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }

    /// A buffer, whatever is in it.
    pub(super) fn buffer(&self) -> Option<Buffer> {
        let warm = self.shared.warm.1.try_recv();
        let mut bytes = warm.or_else(|_| self.shared.cold.try_recv()).ok()?;
        bytes.resize(BUFFER_LENGTH, 0);
        Some(Buffer {
            shared: Arc::clone(&self.shared),
            bytes,
        })
    }
}

/// A share of what may be mapped, given back when dropped.
#[derive(Debug)]
pub(super) struct BudgetShare {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for BudgetShare {
    fn drop(&mut self) {
        self.shared.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

/// Memory that payload passes through on its way to a file that is not mapped. Given back when dropped.
#[derive(Debug)]
pub(super) struct Buffer {
    shared: Arc<Shared>,
    bytes: Vec<u8>,
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // There is room for as many as were ever taken.
        let _ = self.shared.warm.0.try_send(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_so_many_buffers_and_the_one_given_back_is_taken_first() {
        let budget = LandingBudget::new(0, 2);
        let mut first = budget.buffer().unwrap();
        first[0] = 7;
        drop(first);
        let (first, second) = (budget.buffer().unwrap(), budget.buffer().unwrap());
        assert_eq!((first[0], second[0]), (7, 0));
        assert_eq!((first.len(), second.len()), (BUFFER_LENGTH, BUFFER_LENGTH));
        assert!(budget.buffer().is_none());
        drop(second);
        assert!(budget.buffer().is_some());
    }
}
