//! The memory that payload passes through on its way to a file that is not mapped.
//!
//! ```text
//! let bytes = buffer.bytes(&budget, now);     // one block, or several
//! buffer.was_filled();                        // several from now on, if the budget has so much
//! ```
//!
//! It is the same memory again and again, so it stays in the processor's cache: the copy out of it costs little.

use super::budget::{BudgetShare, LandingBudget};
use super::windows::WINDOW_IDLE;
use std::time::Instant;

/// One block of the usual length, in bytes. Everybody may have so much.
const SHORT: usize = 16 * 1024;

/// For a peer that fills the short one, in bytes: as many blocks as one call can name.
const LONG: usize = 32 * SHORT;

/// The buffer of one thread.
#[derive(Debug, Default)]
pub(super) struct Buffer {
    bytes: Vec<u8>,
    share: Option<BudgetShare>,
    used: Option<Instant>,
    was_filled: bool,
}

impl Buffer {
    /// Its bytes, whatever they are.
    pub(super) fn bytes(&mut self, budget: &LandingBudget, now: Instant) -> &mut [u8] {
        if self.was_filled && self.share.is_none() {
            self.share = budget.claim(LONG);
        }
        let length = match self.share {
            Some(_) => LONG,
            None => SHORT,
        };
        if self.bytes.len() != length {
            self.bytes = vec![0; length];
        }
        self.used = Some(now);
        &mut self.bytes
    }

    /// As much came as there was room for.
    pub(super) fn was_filled(&mut self) {
        self.was_filled = true;
    }

    /// When [`Buffer::rest`] has something to do.
    pub(super) fn rest_at(&self) -> Option<Instant> {
        self.used.map(|used| used + WINDOW_IDLE)
    }

    /// Gives back what lay unused for [`WINDOW_IDLE`].
    pub(super) fn rest(&mut self, now: Instant) {
        if self.rest_at().is_some_and(|at| at <= now) {
            *self = Buffer::default();
        }
    }
}
