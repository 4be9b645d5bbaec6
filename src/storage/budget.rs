//! What receiving may take of our memory: maps and buffers of all peer threads together.
//!
//! ```text
//! let budget = LandingBudget::default();      // a clone for each thread
//! let share = budget.claim(length)?;          // for a map. None: spent for the moment; given back when dropped
//! let mut buffer = budget.buffer()?;          // for one call. None: all are in use; given back when dropped
//! let mut aside = budget.aside()?;            // for what comes instead of the blocks expected; the same
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

/// Buffers of each kind at most. A thread has one for as long as it takes to receive and to write, so there are as many
/// in memory as threads were at that at once: a few, where the disk is quick.
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
    buffers: Arc<Pool>,
    asides: Arc<Pool>,
}

impl Default for LandingBudget {
    fn default() -> LandingBudget {
        LandingBudget::new(MAPPED_MAX, BUFFERS_MAX)
    }
}

impl LandingBudget {
    /// A budget of so many bytes for maps, and of so many buffers of each kind. Where there is neither, blocks come one
    /// at a time.
    pub fn new(mapped: usize, buffers: usize) -> LandingBudget {
        LandingBudget {
            shared: Arc::new(Shared {
                left: AtomicUsize::new(mapped),
                maps_refused: AtomicBool::new(false),
                buffers: Arc::new(Pool::new(buffers)),
                asides: Arc::new(Pool::new(buffers)),
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

    /// A buffer for payload on its way to a file that is not mapped.
    pub(super) fn buffer(&self) -> Option<Buffer> {
        Pool::take(&self.shared.buffers)
    }

    /// A buffer for what comes instead of the blocks expected.
    pub(super) fn aside(&self) -> Option<Buffer> {
        Pool::take(&self.shared.asides)
    }
}

/// Buffers that are lent. They are kept, as what a thread gives back to the allocator stays with that thread.
#[derive(Debug)]
struct Pool {
    /// Those that were used before. These are taken first, so that they stay in the processor's cache.
    warm: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
    /// Those that nobody has needed yet: no memory at all.
    cold: (Sender<Vec<u8>>, Receiver<Vec<u8>>),
}

impl Pool {
    fn new(buffers: usize) -> Pool {
        // Bound: each buffer is in one of the two, or in use.
        let (warm, cold) = (bounded(buffers), bounded(buffers));
        for _ in 0..buffers {
            let _ = cold.0.try_send(Vec::new());
        }
        Pool { warm, cold }
    }

    fn take(pool: &Arc<Pool>) -> Option<Buffer> {
        let warm = pool.warm.1.try_recv();
        Some(Buffer {
            bytes: warm.or_else(|_| pool.cold.1.try_recv()).ok()?,
            length: 0,
            pool: Arc::clone(pool),
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

/// Memory that is lent for one call, given back when dropped. Empty at first.
#[derive(Debug)]
pub struct Buffer {
    bytes: Vec<u8>,
    length: usize,
    pool: Arc<Pool>,
}

impl Buffer {
    /// Makes it so long, at most [`BUFFER_LENGTH`], whatever is in it then.
    pub(super) fn stretch(&mut self, length: usize) {
        debug_assert!(length <= BUFFER_LENGTH, "{length} bytes in a buffer");
        if self.bytes.len() < length {
            self.bytes.reserve_exact(BUFFER_LENGTH - self.bytes.len());
            self.bytes.resize(length, 0);
        }
        self.length = length;
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[..self.length]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        let never_used = bytes.is_empty();
        let Pool { warm, cold } = &*self.pool;
        // There is room for as many as were ever taken.
        let _ = if never_used { cold } else { warm }.0.try_send(bytes);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn there_are_so_many_buffers_and_the_one_that_was_used_is_taken_first() {
        let budget = LandingBudget::new(0, 2);
        let (mut first, unused) = (budget.buffer().unwrap(), budget.buffer().unwrap());
        assert!(budget.buffer().is_none());
        first.stretch(2);
        first[0] = 7;
        drop((unused, first));
        let (mut first, mut second) = (budget.buffer().unwrap(), budget.buffer().unwrap());
        assert_eq!((first.len(), second.len()), (0, 0));
        first.stretch(1);
        second.stretch(BUFFER_LENGTH);
        assert_eq!((&*first, second[0]), (&[7][..], 0));
        assert!(budget.buffer().is_none());
        assert!(budget.aside().is_some());
        drop(second);
        assert!(budget.buffer().is_some());
    }
}
