//! What receiving may take of our memory: maps and buffers of all peer threads together.
//!
//! ```text
//! let budget = LandingBudget::default();      // a clone for each thread
//! let share = budget.claim(length)?;          // None: spent for the moment
//! drop(share);                                // given back
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// What all windows and long buffers of a client may take together, in bytes, whatever the number of peers: mapped
/// pages count as ours in the figures people look at.
pub const LANDING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How much windows and buffers may take: one for each client, a clone for each thread that receives.
#[derive(Debug, Clone)]
pub struct LandingBudget {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    left: AtomicUsize,
    maps_refused: AtomicBool,
}

impl Default for LandingBudget {
    fn default() -> LandingBudget {
        LandingBudget::new(LANDING_BYTES_MAX)
    }
}

impl LandingBudget {
    /// A budget of so many bytes. With 0 nothing is ever mapped, and blocks come one at a time through small buffers.
    pub fn new(bytes: usize) -> LandingBudget {
        LandingBudget {
            shared: Arc::new(Shared {
                left: AtomicUsize::new(bytes),
                maps_refused: AtomicBool::new(false),
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
}

/// A share of the budget, given back when dropped.
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
