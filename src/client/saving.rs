//! What is not safe yet: when to save it, and what a save may claim.
//!
//! Verified pieces wait here until a save has synced their data; only then does the record name
//! them. A save begins some seconds after the first change that belongs into the record, or when many
//! bytes wait; one is under way at a time. What the torrent does with this is in `saves.rs`.
//!
//! ```text
//! saving.laid(files);                            // a block was laid: these files are to be synced
//! saving.verified(piece, size, files, at, now);  // a piece is good: it is in the page cache
//! if saving.is_due(now) {                        // a Save job goes to the keeper
//!     let (have, laid) = saving.may_claim(have, in_doubt, laid);
//!     let (touched, verified) = saving.begin();
//! }
//! saving.done()                                  // and what it covered is on disk; or
//! saving.failed(now)                             // and what it covered waits for the next one; then
//! saving.distrust(check, unfinished)             // where the sync may have lost data: read these back
//! ```

use crate::protocol::PieceIndex;
use crate::protocol::bitfield::Bitfield;
use crate::storage::facts::FileTime;
use crate::storage::record::LaidBlocks;
use crate::swarm::event::Moment;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A verified piece is on disk and in the record about this much later, if the disk keeps up.
const SAVE_AFTER: Duration = Duration::from_secs(5);

/// So many verified bytes are saved at once, however fresh.
const SAVE_AT_BYTES: u64 = 64 << 20;

/// What is laid or verified and not safe yet.
#[derive(Debug, Default)]
pub(super) struct Saving {
    waiting: u64,
    under_way: Option<u64>,
    due: Option<Moment>,
    /// After a failure the disk is left alone until then.
    rest_until: Moment,
    /// The numbers of the files written to since the last save began.
    touched: BTreeSet<usize>,
    /// The files with pieces verified since the last save began, and when the last of them was by the clock that
    /// files have their times from.
    verified: BTreeMap<usize, FileTime>,
    /// Pieces verified since the last save began: the record does not know of them, nor the keeper.
    unsaved: BTreeSet<PieceIndex>,
    /// Pieces that were verified once and are to be read back before they count, as their sync failed.
    to_read_back: BTreeSet<PieceIndex>,
    /// Unfinished pieces with blocks that may be lost: fetched again when complete.
    shaky: BTreeSet<PieceIndex>,
}

impl Saving {
    /// A block was laid in these files.
    pub(super) fn laid(&mut self, files: impl IntoIterator<Item = usize>) {
        self.touched.extend(files);
    }

    /// A piece of so many bytes, which lies in these files, was found good for the first time, `at` this time by the
    /// clock that files have their times from.
    pub(super) fn verified(
        &mut self,
        piece: PieceIndex,
        bytes: u64,
        files: impl IntoIterator<Item = usize>,
        at: FileTime,
        now: Moment,
    ) {
        self.unsaved.insert(piece);
        self.verified
            .extend(files.into_iter().map(|file| (file, at)));
        self.keep(bytes, now);
    }

    /// A piece of so many bytes is good, for the first time or once more: it waits for the save that names it.
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

    /// What a save that begins now may claim, of the pieces that we `have` and the blocks that are `laid`. It claims
    /// nothing that the medium may not hold, and nothing that others may have changed:
    ///
    /// - Pieces of a sync that failed were in the page cache, perhaps there alone. They count again when they were
    ///   read back from the medium.
    /// - Pieces `in_doubt` lie in files that others wrote to. They count again when they were hashed. Among them is
    ///   all that the keeper found changed and has told of; no save may begin between its look and its word
    ///   ([`Outstanding`](crate::storage::keeper::Outstanding)). What it finds while it saves it leaves out of the
    ///   record by itself.
    /// - Blocks of unfinished pieces were laid before a sync failed or others cut their file, and nobody can tell
    ///   which are lost before the piece is complete.
    pub(super) fn may_claim(
        &self,
        have: &Bitfield,
        in_doubt: impl IntoIterator<Item = PieceIndex>,
        mut laid: Vec<LaidBlocks>,
    ) -> (Bitfield, Vec<LaidBlocks>) {
        let mut good = have.clone();
        for piece in self.to_read_back.iter().copied().chain(in_doubt) {
            good.clear(piece);
        }
        laid.retain(|blocks| !self.shaky.contains(&blocks.piece()));
        (good, laid)
    }

    /// A save begins: it covers everything that waits. Returns the files that were written to since the last one
    /// began, and those with pieces verified since then.
    pub(super) fn begin(&mut self) -> (BTreeSet<usize>, BTreeMap<usize, FileTime>) {
        self.under_way = Some(self.under_way.unwrap_or(0) + std::mem::take(&mut self.waiting));
        self.due = None;
        self.unsaved.clear();
        let touched = std::mem::take(&mut self.touched);
        (touched, std::mem::take(&mut self.verified))
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

    /// A sync has failed. What it covered may be lost: the keeper names the pieces in `check`. So may be what was
    /// verified and laid between its claim and the failure. Returns all pieces that are to be read back.
    pub(super) fn distrust(
        &mut self,
        mut check: Vec<PieceIndex>,
        unfinished: impl IntoIterator<Item = PieceIndex>,
    ) -> Vec<PieceIndex> {
        check.extend(std::mem::take(&mut self.unsaved));
        self.to_read_back.extend(&check);
        self.distrust_laid(unfinished);
        check
    }

    /// Of these unfinished pieces some blocks may be lost.
    pub(super) fn distrust_laid(&mut self, unfinished: impl IntoIterator<Item = PieceIndex>) {
        self.shaky.extend(unfinished);
    }

    /// Whether this piece is to be read back before it counts.
    pub(super) fn reads_back(&self, piece: PieceIndex) -> bool {
        self.to_read_back.contains(&piece)
    }

    /// Whether any piece is.
    pub(super) fn reads_back_any(&self) -> bool {
        !self.to_read_back.is_empty()
    }

    /// A piece of so many bytes was read back and is good.
    pub(super) fn was_read_back(&mut self, piece: PieceIndex, bytes: u64, now: Moment) {
        self.to_read_back.remove(&piece);
        self.keep(bytes, now);
    }

    /// An unfinished piece has become complete and was hashed. True if it is to be fetched again whatever came of
    /// it: some of its blocks may have been in the page cache alone.
    pub(super) fn fetches_again(&mut self, piece: PieceIndex) -> bool {
        self.shaky.remove(&piece)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;

    fn geometry() -> Geometry {
        Geometry::new(8 * 32_768, 32_768).unwrap()
    }

    fn piece(number: u32) -> PieceIndex {
        geometry().piece(number).unwrap()
    }

    fn pieces(numbers: impl IntoIterator<Item = u32>) -> Vec<PieceIndex> {
        numbers.into_iter().map(piece).collect()
    }

    /// What is claimed when pieces 0 to 3 are here, and of 4 and 5 a block each.
    fn claimed(saving: &Saving, in_doubt: &[u32]) -> (Vec<u32>, Vec<u32>) {
        let mut have = Bitfield::new(&geometry());
        for piece in pieces(0..4) {
            have.set(piece);
        }
        let laid = pieces(4..6).into_iter().map(|piece| {
            let mut blocks = LaidBlocks::new(&geometry(), piece);
            blocks.set(0);
            blocks
        });
        let in_doubt = pieces(in_doubt.iter().copied());
        let (have, laid) = saving.may_claim(&have, in_doubt, laid.collect());
        let have = have.pieces(&geometry()).map(PieceIndex::get).collect();
        (have, laid.iter().map(|it| it.piece().get()).collect())
    }

    fn verify(saving: &mut Saving, number: u32, file: usize, at: i64) {
        saving.verified(piece(number), 32_768, [file], (at, 0), Duration::ZERO);
    }

    #[test]
    fn all_that_is_here_and_laid_is_claimed_but_for_what_is_in_doubt() {
        let saving = Saving::default();
        assert_eq!(claimed(&saving, &[]), (vec![0, 1, 2, 3], vec![4, 5]));
        assert_eq!(claimed(&saving, &[1, 3]), (vec![0, 2], vec![4, 5]));
    }

    #[test]
    fn after_a_failed_sync_nothing_is_claimed_of_what_it_covered_nor_of_what_came_meanwhile() {
        let mut saving = Saving::default();
        verify(&mut saving, 0, 0, 1);
        saving.begin();
        verify(&mut saving, 2, 0, 2);
        saving.failed(Duration::ZERO);
        let read_back = saving.distrust(pieces([0]), pieces([4]));
        assert_eq!(read_back, pieces([0, 2]));
        assert!(saving.reads_back(piece(2)) && !saving.reads_back(piece(1)));
        assert_eq!(claimed(&saving, &[]), (vec![1, 3], vec![5]));
    }

    #[test]
    fn what_was_read_back_is_claimed_again_by_a_save_of_its_own() {
        let mut saving = Saving::default();
        saving.distrust(pieces([0]), []);
        assert!(saving.reads_back_any() && !saving.is_behind());
        saving.was_read_back(piece(0), 32_768, Duration::ZERO);
        assert!(!saving.reads_back_any() && saving.is_behind());
        assert_eq!(claimed(&saving, &[]), (vec![0, 1, 2, 3], vec![4, 5]));
    }

    #[test]
    fn an_unfinished_piece_that_may_have_lost_blocks_is_fetched_again_once() {
        let mut saving = Saving::default();
        saving.distrust_laid(pieces([4]));
        assert_eq!(claimed(&saving, &[]).1, [5]);
        assert!(saving.fetches_again(piece(4)) && !saving.fetches_again(piece(4)));
        assert_eq!(claimed(&saving, &[]).1, [4, 5]);
    }

    #[test]
    fn each_save_is_told_of_the_files_since_the_one_before_and_of_the_last_time_in_each() {
        let mut saving = Saving::default();
        saving.laid([0, 1]);
        saving.laid([1]);
        verify(&mut saving, 0, 0, 1);
        verify(&mut saving, 1, 0, 2);
        let (touched, verified) = saving.begin();
        assert_eq!(touched, BTreeSet::from([0, 1]));
        assert_eq!(verified, BTreeMap::from([(0, (2, 0))]));
        saving.done();
        saving.laid([2]);
        let (touched, verified) = saving.begin();
        assert!(touched == BTreeSet::from([2]) && verified.is_empty());
    }

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
