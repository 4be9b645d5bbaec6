//! The requests of one peer: queued here, handed to its thread a little ahead of the line, so that a
//! cancel or a choke can still withhold them.
//!
//! ```
//! use ropewalk::protocol::Geometry;
//! use ropewalk::swarm::uploads::Uploads;
//! use std::time::Duration;
//! let geometry = Geometry::new(1 << 20, 1 << 18).unwrap();
//! let block = geometry.blocks(geometry.piece(0).unwrap()).next().unwrap();
//! let (mut uploads, now) = (Uploads::default(), Duration::ZERO);
//! assert!(uploads.request(block)); // false: the queue is full
//! assert_eq!(uploads.hand_over(now), Some(block)); // the peer's thread may send it
//! uploads.served(block, now); // it has
//! assert!(uploads.is_idle());
//! ```

use super::event::Moment;
use super::ledger::Rate;
use crate::protocol::{Block, PieceIndex};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Requests a peer may have queued with us; we tell it so (`reqq`, BEP 10). Memory stays flat
/// whatever arrives: a burst of 100,000 requests is 2,000 entries and refusals.
pub const QUEUE_MAX: usize = 2_000;
/// Refusals in a row after which a peer is hung up. An honest peer that is choked with a full queue
/// sees up to `QUEUE_MAX` of them, and may have sent as many again before it hears of it.
const REFUSALS_MAX: u32 = 2 * QUEUE_MAX as u32;
/// Least number of bytes a peer's thread may hold ahead, however slow the peer is.
const AHEAD_MIN: u64 = 512 * 1024;
/// And the greatest, however fast it is.
const AHEAD_MAX: u64 = 8 * 1024 * 1024;
/// Who takes nothing of what was handed to its thread for so long does not read. With a limit threads wait for
/// grants, some for a long time.
const CLOGGED: Duration = Duration::from_secs(5);
const CLOGGED_LIMITED: Duration = Duration::from_secs(16);
/// So long after that it is tried once more as if nothing had been.
const FORGIVEN: Duration = Duration::from_secs(60);

/// What a peer has asked for and not got yet.
#[derive(Debug, Default)]
pub struct Uploads {
    queue: VecDeque<Block>,
    ahead: VecDeque<Block>,
    /// Requests for pieces in doubt: they wait for the verdict.
    held: Vec<Block>,
    /// What is in any of the three: a fast peer has two thousand waiting, too many to look through for each
    /// request (a tenth of a seed's processor time at 900 MiB/s).
    asked: BTreeSet<Block>,
    ahead_bytes: u64,
    sent: Rate,
    /// When a block last left, or the first of some was handed over.
    moved: Moment,
    /// It is served when nobody else waits.
    pub last: bool,
    /// When it was last seen not to read what it asked for.
    clogged: Option<Moment>,
    /// Pieces it is served after all others.
    deferred: BTreeSet<PieceIndex>,
    /// Bytes the thread may have ahead, after the line's rate.
    window: u64,
    refused_in_a_row: u32,
    /// Cancels that may still come: one for each request ever made.
    cancels_left: u32,
}

impl Uploads {
    /// Queues a request that is not there yet; false where the queue is full.
    pub fn request(&mut self, block: Block) -> bool {
        let taken = self.admit(block);
        if taken {
            self.queue.push_back(block);
        }
        taken
    }

    /// The same for a piece in doubt: it is kept until `release`.
    pub fn request_in_doubt(&mut self, block: Block) -> bool {
        let taken = self.admit(block);
        if taken {
            self.held.push(block);
        }
        taken
    }

    fn admit(&mut self, block: Block) -> bool {
        debug_assert!(!self.has(block), "{block:?} is asked for twice");
        self.cancels_left = self.cancels_left.saturating_add(1);
        if self.queue.len() + self.ahead.len() + self.held.len() >= QUEUE_MAX {
            return false;
        }
        self.asked.insert(block);
        self.refused_in_a_row = 0;
        true
    }

    /// Keeps back what is queued of these pieces.
    pub fn hold(&mut self, in_doubt: impl Fn(PieceIndex) -> bool) {
        let queue = std::mem::take(&mut self.queue);
        let (held, queue): (Vec<_>, _) =
            queue.into_iter().partition(|block| in_doubt(block.piece()));
        self.held.extend(held);
        self.queue = queue.into();
    }

    /// Queues what was kept back of a piece; says whether there was any.
    pub fn release(&mut self, piece: PieceIndex) -> bool {
        let before = self.queue.len();
        let freed = self.held.extract_if(.., |block| block.piece() == piece);
        self.queue.extend(freed);
        self.queue.len() > before
    }

    /// Whether anything of a piece is kept back.
    pub fn holds(&self, piece: PieceIndex) -> bool {
        self.held.iter().any(|block| block.piece() == piece)
    }

    /// Serves a piece after all others.
    pub fn defer(&mut self, piece: PieceIndex) {
        let (later, first): (Vec<_>, Vec<_>) = self
            .queue
            .drain(..)
            .partition(|block| block.piece() == piece);
        if !later.is_empty() {
            self.deferred.insert(piece);
        }
        self.queue.extend(first);
        self.queue.extend(later);
    }

    /// No piece is served after others any more.
    pub fn defer_nothing(&mut self) {
        self.deferred.clear();
    }

    /// Whether it is served when nobody else waits.
    pub fn is_last(&self) -> bool {
        let next = self.queue.front();
        self.last
            || self.is_clogged()
            || next.is_some_and(|block| self.deferred.contains(&block.piece()))
    }

    /// Whether the peer waits for this block.
    pub fn has(&self, block: Block) -> bool {
        self.asked.contains(&block)
    }

    /// A request was refused. False: too many in a row.
    pub fn refuse(&mut self) -> bool {
        self.cancels_left = self.cancels_left.saturating_add(1);
        self.refused_in_a_row += 1;
        self.refused_in_a_row <= REFUSALS_MAX
    }

    /// The next block to hand to the peer's thread, if it has less than a quarter of a second's
    /// worth at the rate at which blocks have left lately.
    pub fn hand_over(&mut self, now: Moment) -> Option<Block> {
        if self.is_full() {
            return None;
        }
        let block = self.queue.pop_front()?;
        if self.ahead.is_empty() {
            self.moved = now;
        }
        self.ahead.push_back(block);
        self.ahead_bytes += u64::from(block.length());
        Some(block)
    }

    /// The thread has sent a block (perhaps one that was withheld too late).
    pub fn served(&mut self, block: Block, now: Moment) {
        self.sent.add(block.length(), now);
        self.moved = now;
        self.clogged = None;
        self.window = self.sent.per_second(now) / 4;
        self.leave_ahead(block);
    }

    /// The thread could not read a block: it is no longer on its way.
    pub fn unserved(&mut self, block: Block) {
        self.leave_ahead(block);
    }

    /// Whether its thread has as much as it may.
    fn is_full(&self) -> bool {
        self.ahead_bytes >= self.window.clamp(AHEAD_MIN, AHEAD_MAX)
    }

    /// The next request.
    pub fn first(&self) -> Option<Block> {
        self.queue.front().copied()
    }

    /// The next request, if it could be handed over now.
    pub fn next(&self) -> Option<Block> {
        self.first().filter(|_| !self.is_full())
    }

    /// Requests that are not with the thread yet.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Bytes with its thread.
    pub fn ahead_bytes(&self) -> u64 {
        self.ahead_bytes
    }

    /// When a block last left, or the first of those with its thread was handed over; `None` where its thread
    /// has nothing to send.
    pub fn moved(&self) -> Option<Moment> {
        (!self.ahead.is_empty()).then_some(self.moved)
    }

    /// Whether its thread has something to send, and nothing has left for so long.
    pub fn is_still(&self, now: Moment, since: Duration) -> bool {
        self.moved().is_some_and(|moved| now >= moved + since)
    }

    /// Looks whether it reads what it asked for. Who does not is clogged until something leaves or a while has passed,
    /// choked or not.
    pub fn look(&mut self, limited: bool, now: Moment) {
        let patience = if limited { CLOGGED_LIMITED } else { CLOGGED };
        if self.is_still(now, patience) {
            self.clogged = Some(now);
        }
        self.clogged.take_if(|seen| now >= *seen + FORGIVEN);
    }

    /// Whether it asked for something and did not read.
    pub fn is_clogged(&self) -> bool {
        self.clogged.is_some()
    }

    /// Whether it waits for us and not we for it: it has requests, and what its thread has moves.
    pub fn waits(&self, now: Moment, patience: Duration) -> bool {
        !self.is_still(now, patience) && !self.is_idle()
    }

    fn leave_ahead(&mut self, block: Block) -> bool {
        let at = self.ahead.iter().position(|other| *other == block);
        if let Some(at) = at {
            self.ahead.remove(at);
            self.asked.remove(&block);
            self.ahead_bytes -= u64::from(block.length());
        }
        at.is_some()
    }

    /// The peer takes a request back.
    pub fn cancel(&mut self, block: Block) -> Cancelled {
        let Some(left) = self.cancels_left.checked_sub(1) else {
            return Cancelled::Unasked;
        };
        self.cancels_left = left;
        if !self.has(block) {
            return Cancelled::Late;
        }
        if let Some(at) = self.queue.iter().position(|other| *other == block) {
            self.queue.remove(at);
            self.asked.remove(&block);
            return Cancelled::Queued;
        }
        if let Some(at) = self.held.iter().position(|other| *other == block) {
            self.held.remove(at);
            self.asked.remove(&block);
            return Cancelled::Queued;
        }
        if self.leave_ahead(block) {
            return Cancelled::Ahead;
        }
        Cancelled::Late
    }

    /// Takes out all requests but those `keep` names: (queued, ahead), in order.
    pub fn clear(&mut self, keep: impl Fn(Block) -> bool) -> (Vec<Block>, Vec<Block>) {
        let (kept, queued): (VecDeque<_>, VecDeque<_>) =
            self.queue.drain(..).partition(|block| keep(*block));
        let (kept_ahead, ahead): (VecDeque<_>, VecDeque<_>) =
            self.ahead.drain(..).partition(|block| keep(*block));
        let held = self.held.extract_if(.., |block| !keep(*block));
        let queued: Vec<_> = queued.into_iter().chain(held).collect();
        self.queue = kept;
        self.ahead = kept_ahead;
        self.asked.retain(|block| keep(*block));
        self.ahead_bytes = self
            .ahead
            .iter()
            .map(|block| u64::from(block.length()))
            .sum();
        (queued, ahead.into())
    }

    /// Panics where the set of what was asked for is not what waits: for tests and simulations.
    pub fn check_invariants(&self) {
        let here = || self.queue.iter().chain(&self.ahead).chain(&self.held);
        let waiting: BTreeSet<_> = here().copied().collect();
        assert_eq!(waiting, self.asked);
        assert_eq!(waiting.len(), here().count());
    }

    /// Whether the peer waits for anything.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }
}

/// Where a cancelled request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// In the queue: nobody else knows of it.
    Queued,
    /// With the peer's thread: it has to be withheld.
    Ahead,
    /// Sent or refused already.
    Late,
    /// Cancelled more often than it was ever asked for. The attack: each cancel is looked for in a queue of
    /// two thousand, and costs its sender 17 bytes.
    Unasked,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;

    fn blocks(count: u64) -> Vec<Block> {
        let geometry = Geometry::new(count * 16_384, 1 << 28).unwrap();
        let piece = geometry.piece(0).unwrap();
        geometry.blocks(piece).collect()
    }

    #[test]
    fn only_a_little_goes_ahead_and_more_follows_what_was_served() {
        let (mut uploads, all) = (Uploads::default(), blocks(100));
        all.iter()
            .for_each(|block| assert!(uploads.request(*block)));
        let ahead: Vec<_> = std::iter::from_fn(|| uploads.hand_over(Moment::ZERO)).collect();
        assert_eq!(ahead, all[..32]);
        uploads.served(all[0], Moment::ZERO);
        assert_eq!(uploads.hand_over(Moment::ZERO), Some(all[32]));
        assert_eq!(uploads.hand_over(Moment::ZERO), None);
    }

    #[test]
    fn who_takes_nothing_of_what_it_asked_for_is_clogged_until_something_leaves_or_for_a_minute() {
        let at = Moment::from_secs;
        let (mut uploads, all) = (Uploads::default(), blocks(40));
        all.iter()
            .for_each(|block| assert!(uploads.request(*block)));
        uploads.hand_over(at(1)).unwrap();
        uploads.look(true, at(16));
        uploads.look(false, at(5));
        assert!(!uploads.is_clogged());
        uploads.look(false, at(6));
        assert!(uploads.is_clogged() && uploads.is_last());
        uploads.served(all[0], at(7));
        assert!(!uploads.is_clogged());
        uploads.hand_over(at(7)).unwrap();
        uploads.look(false, at(12));
        // It is choked, and has nothing with its thread any more.
        uploads.clear(|_| false);
        uploads.look(false, at(71));
        assert!(uploads.is_clogged());
        uploads.look(false, at(72));
        assert!(!uploads.is_clogged());
    }

    #[test]
    fn a_burst_beyond_the_queue_is_refused_and_a_flood_is_too_much() {
        let (mut uploads, all) = (Uploads::default(), blocks(100_000));
        let taken = all.iter().filter(|block| uploads.request(**block)).count();
        assert_eq!(taken, QUEUE_MAX);
        assert_eq!((0..100_000).filter(|_| uploads.refuse()).count(), 4_000);
    }

    #[test]
    fn a_cancel_finds_its_request_wherever_it_is() {
        let (mut uploads, all) = (Uploads::default(), blocks(50));
        all.iter()
            .for_each(|block| assert!(uploads.request(*block)));
        while uploads.hand_over(Moment::ZERO).is_some() {}
        assert_eq!(uploads.cancel(all[40]), Cancelled::Queued);
        assert_eq!(uploads.cancel(all[3]), Cancelled::Ahead);
        assert_eq!(uploads.cancel(all[3]), Cancelled::Late);
        let (queued, ahead) = uploads.clear(|block| block == all[0]);
        assert_eq!((queued.len(), ahead.len()), (17, 30));
        let waiting = |block: &&Block| uploads.has(**block);
        assert_eq!(all.iter().filter(waiting).collect::<Vec<_>>(), [&all[0]]);
        assert!(!uploads.is_idle());
    }

    #[test]
    fn what_is_in_doubt_is_kept_back_and_sent_or_taken_back_later() {
        let geometry = Geometry::new(3 * 32_768, 32_768).unwrap();
        let all: Vec<_> = geometry
            .all_pieces()
            .flat_map(|piece| geometry.blocks(piece))
            .collect();
        let doubtful = all[2].piece();
        let mut uploads = Uploads::default();
        all[..3]
            .iter()
            .for_each(|block| assert!(uploads.request(*block)));
        uploads.hold(|piece| piece == doubtful);
        assert!(uploads.request_in_doubt(all[3]) && uploads.holds(doubtful));
        uploads.check_invariants();
        let ahead: Vec<_> = std::iter::from_fn(|| uploads.hand_over(Moment::ZERO)).collect();
        assert_eq!(ahead, all[..2]);
        assert!(uploads.has(all[2]) && !uploads.is_idle());
        assert_eq!(uploads.cancel(all[2]), Cancelled::Queued);
        assert!(uploads.release(doubtful) && !uploads.release(doubtful));
        assert_eq!(uploads.hand_over(Moment::ZERO), Some(all[3]));
        uploads.hold(|_| true);
        uploads.check_invariants();
        assert!(uploads.request_in_doubt(all[4]));
        assert_eq!(uploads.clear(|_| false).0, [all[4]]);
        assert!(uploads.is_idle());
    }

    #[test]
    fn only_what_was_asked_for_can_be_cancelled_late() {
        let (mut uploads, all) = (Uploads::default(), blocks(2));
        assert_eq!(uploads.cancel(all[0]), Cancelled::Unasked);
        uploads.request(all[0]);
        uploads.hand_over(Moment::ZERO);
        uploads.served(all[0], Moment::ZERO);
        assert_eq!(uploads.cancel(all[0]), Cancelled::Late);
        assert_eq!(uploads.cancel(all[0]), Cancelled::Unasked);
    }
}
