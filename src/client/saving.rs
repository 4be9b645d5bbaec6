//! When to save: not for every piece, and not long after it.
//!
//! Verified pieces wait here until a save has synced their data; only then does the record name
//! them. A save begins some seconds after the first change that belongs into the record, or when many
//! bytes wait; one is under way at a time.
//!
//! ```text
//! saving.keep(size, now);                   // a piece was verified: it is in the page cache
//! if saving.is_due(now) { saving.begin() }  // a Save job goes to the keeper
//! saving.done()                             // and what it covered is on disk; or
//! saving.failed(now)                        // and what it covered waits for the next one
//! ```

use crate::swarm::event::Moment;
use std::time::Duration;

/// A verified piece is on disk and in the record about this much later, if the disk keeps up.
const SAVE_AFTER: Duration = Duration::from_secs(5);

/// So many verified bytes are saved at once, however fresh.
const SAVE_AT_BYTES: u64 = 64 << 20;

/// What is verified and not safe yet.
#[derive(Debug, Default)]
pub(super) struct Saving {
    waiting: u64,
    under_way: Option<u64>,
    due: Option<Moment>,
    /// After a failure the disk is left alone until then.
    rest_until: Moment,
}

impl Saving {
    /// A piece of so many bytes was verified and waits for a sync.
    pub(super) fn keep(&mut self, bytes: u64, now: Moment) {
        self.waiting += bytes;
        self.touch(now);
    }

    /// Something else that belongs into the record has changed, such as the totals.
    pub(super) fn touch(&mut self, now: Moment) {
        self.due.get_or_insert(now + SAVE_AFTER);
    }

    /// Whether a save may begin now: none is under way, nor has one failed a moment ago.
    pub(super) fn may_begin(&self, now: Moment) -> bool {
        !self.is_under_way() && now >= self.rest_until
    }

    /// Whether a save should begin now.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        let many = self.waiting >= SAVE_AT_BYTES;
        self.may_begin(now) && (many || self.due.is_some_and(|due| due <= now))
    }

    /// When `is_due` becomes true if nothing else happens.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.due.filter(|_| !self.is_under_way())
    }

    /// Whether something waits for a save that has not begun.
    pub(super) fn is_behind(&self) -> bool {
        self.waiting > 0
    }

    /// Whether a save is under way.
    pub(super) fn is_under_way(&self) -> bool {
        self.under_way.is_some()
    }

    /// Verified bytes that a power cut would lose.
    pub(super) fn unsynced_bytes(&self) -> u64 {
        self.waiting + self.under_way.unwrap_or(0)
    }

    /// A save begins: it covers everything that waits.
    pub(super) fn begin(&mut self) {
        self.under_way = Some(self.under_way.unwrap_or(0) + std::mem::take(&mut self.waiting));
        self.due = None;
    }

    /// The save has ended, and what it covered is safe.
    pub(super) fn done(&mut self) {
        self.under_way = None;
    }

    /// The save has failed: what it covered waits for another one, some seconds from now.
    pub(super) fn failed(&mut self, now: Moment) {
        self.waiting += self.under_way.take().unwrap_or(0);
        self.rest_until = now + SAVE_AFTER;
        self.due = Some(self.rest_until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_is_due_some_seconds_after_the_first_piece() {
        let (mut saving, at) = (Saving::default(), Duration::from_secs);
        assert!(!saving.is_due(at(1000)) && saving.wake_at().is_none());
        saving.keep(10, at(1));
        saving.keep(10, at(5));
        assert_eq!(saving.wake_at(), Some(at(6)));
        assert!(!saving.is_due(at(5)) && saving.is_due(at(6)));
    }

    #[test]
    fn many_bytes_are_saved_at_once() {
        let mut saving = Saving::default();
        saving.keep(SAVE_AT_BYTES, Duration::ZERO);
        assert!(saving.is_due(Duration::ZERO));
    }

    #[test]
    fn what_a_failed_save_covered_is_not_safe_and_is_tried_again_after_a_rest() {
        let (mut saving, at) = (Saving::default(), Duration::from_secs);
        saving.keep(SAVE_AT_BYTES, at(1));
        saving.begin();
        saving.failed(at(10));
        assert!(saving.is_behind() && !saving.is_under_way());
        assert!(!saving.is_due(at(14)) && !saving.may_begin(at(14)));
        assert_eq!(saving.wake_at(), Some(at(15)));
        assert!(saving.is_due(at(15)));
    }

    #[test]
    fn only_one_save_is_under_way_and_later_pieces_wait_for_the_next() {
        let (mut saving, late) = (Saving::default(), Duration::from_secs(60));
        saving.keep(10, Duration::ZERO);
        saving.begin();
        saving.keep(10, Duration::ZERO);
        assert!(!saving.is_due(late) && saving.wake_at().is_none());
        assert_eq!(saving.unsynced_bytes(), 20);
        saving.done();
        assert!(saving.is_due(late));
        assert_eq!(saving.unsynced_bytes(), 10);
    }
}
