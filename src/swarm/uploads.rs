//! The requests of one peer: queued here, handed to its thread a little ahead of the line, so that a
//! cancel or a choke can still withhold them.
//!
//! ```text
//! uploads.request(block)? ; uploads.hand_over(Moment::ZERO) -> Serve ; uploads.served(block, now)
//! ```

use super::event::{Moment, PeerKey};
use super::ledger::Rate;
use crate::protocol::geometry::BLOCK_LENGTH;
use crate::protocol::{Block, PieceIndex};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Requests a peer may have queued with us; we tell it so (`reqq`, BEP 10). Memory stays flat
/// whatever arrives: a burst of 100,000 requests is 2,000 entries and refusals.
pub const QUEUE_MAX: usize = 2_000;
/// Refusals in a row after which a peer is hung up. An honest peer that is choked with a full queue
/// sees up to `QUEUE_MAX` of them, and may have sent as many again before it hears of it.
const REFUSALS_MAX: u32 = 2 * QUEUE_MAX as u32;
/// Bytes handed to the thread at least: enough for a line of 512 KiB a turn.
const AHEAD_MIN: u64 = 512 * 1024;
/// And at most, to a peer on a very fast line.
const AHEAD_MAX: u64 = 8 * 1024 * 1024;

/// Bytes with all threads together at first, and at least; more where the line is faster.
const LINE_FIRST: u64 = 128 * 1024;
const LINE_MIN: u64 = 2 * BLOCK_LENGTH as u64;
/// What the line carries in one part in so many of a second is with threads from which blocks leave.
const LINE_PART: u64 = 20;
/// And in one part in so many with all of them, those included in which nothing moves just now.
const MOST_PART: u64 = 5;
/// With a limit the threads have grants for a tenth of a second, and need more than one at hand.
const GRANTS_PART: u64 = 4;
/// So many requests fill the line for as long as it takes to be asked for the next ones.
const CROWD: usize = 8;
/// A thread from which no block leaves while the line carries so many waits for its peer's acknowledgements, as a
/// connection does when it begins, or has lost something: meanwhile the line is free for others.
const STALLED_BLOCKS: u64 = 8;
const STALLED_MIN: Duration = Duration::from_millis(10);
/// A peer to which nothing moves for so long keeps nobody waiting; on a slow line, while so many blocks leave.
const STUCK: Duration = Duration::from_millis(300);
/// Slower than this is not believed to be the line, but somebody who does not take what is sent.
const STUCK_RATE: u64 = 16 * 1024;
const STUCK_BLOCKS: u64 = 4;

/// How long a peer to which nothing moves keeps others waiting, where `rate` bytes a second leave.
pub fn patience(rate: u64) -> Duration {
    let millis = STUCK_BLOCKS * u64::from(BLOCK_LENGTH) * 1_000 / rate.max(STUCK_RATE);
    STUCK.max(Duration::from_millis(millis))
}

/// How long a thread keeps the line to itself from which no block leaves, where `rate` bytes a second leave.
pub fn stall(rate: u64) -> Duration {
    let micros = STALLED_BLOCKS * u64::from(BLOCK_LENGTH) * 1_000_000 / rate.max(STUCK_RATE);
    Duration::from_micros(micros).clamp(STALLED_MIN, patience(rate))
}

/// Whose turn it is at the uplink.
///
/// An uplink that serves twenty peers a block each in turn brings all of them their pieces at the end
/// of a second, and none of them has anything to pass on before. One that serves them a piece each
/// brings the first after a twentieth. So little is handed to the threads, and turns last a piece.
///
/// But one connection alone does not fill a line: its window has to open first, and acknowledgements come back
/// behind what the other end sends. So the next turn begins early where the first stalls ([`stall`]).
#[derive(Debug)]
pub struct Turns {
    /// Bytes in a turn.
    piece_length: u32,
    /// Peers with requests, who waits longest in front.
    line: VecDeque<PeerKey>,
    /// Whose piece is being sent, and how much of it may still be handed over in this turn: who asks for one piece
    /// again and again has no longer a turn than others.
    holder: Option<(PeerKey, PieceIndex, u32)>,
    /// Peers whose threads have blocks, and perhaps some whose have none any more.
    busy: BTreeSet<PeerKey>,
}

impl Turns {
    /// Turns of so many bytes.
    pub fn new(piece_length: u32) -> Turns {
        Turns {
            piece_length,
            line: VecDeque::new(),
            holder: None,
            busy: BTreeSet::new(),
        }
    }

    /// A peer has requests.
    pub fn stand_in_line(&mut self, peer: PeerKey) {
        if !self.line.contains(&peer) {
            self.line.push_back(peer);
        }
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerKey) {
        self.line.retain(|other| *other != peer);
        self.holder.take_if(|(holder, ..)| *holder == peer);
        self.busy.remove(&peer);
    }

    /// Who is in the middle of a piece.
    pub fn holder(&self) -> Option<PeerKey> {
        let holder = self.holder.filter(|(_, _, left)| *left > 0);
        holder.map(|(peer, ..)| peer)
    }

    /// Whether anybody waits whose thread would take more.
    pub fn anybody<'a>(&self, uploads: impl Fn(PeerKey) -> Option<&'a Uploads>) -> bool {
        let mut line = self.line.iter();
        line.any(|key| uploads(*key).is_some_and(|uploads| uploads.next().is_some()))
    }

    /// Whether the peers in line but `me`, those who are served last not counted, have requests enough to fill
    /// the line for a while.
    pub fn others_wait<'a>(
        &self,
        me: PeerKey,
        rate: u64,
        now: Moment,
        uploads: impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> bool {
        let patience = patience(rate);
        let others = self.line.iter().filter(|key| **key != me);
        let others = others.filter_map(|key| uploads(*key));
        let mut queues = others.filter(|it| !it.last && it.waits(now, patience));
        let mut left = CROWD;
        queues.any(|uploads| {
            left = left.saturating_sub(uploads.queue.len());
            left == 0
        })
    }

    /// Whose next block is to be handed over, if the threads have not enough of them yet. `rate`: bytes
    /// a second that leave; `limited`: no more may.
    pub fn next<'a>(
        &mut self,
        rate: u64,
        limited: bool,
        now: Moment,
        uploads: impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> Option<PeerKey> {
        let next = self.choose(rate, limited, now, uploads)?;
        self.busy.insert(next);
        Some(next)
    }

    fn choose<'a>(
        &mut self,
        rate: u64,
        limited: bool,
        now: Moment,
        uploads: impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> Option<PeerKey> {
        if self.line.is_empty() {
            return None;
        }
        let (stall, patience) = (stall(rate), patience(rate));
        let (mut moving, mut ahead) = (0, 0);
        self.busy.retain(|key| {
            let uploads = uploads(*key).filter(|it| !it.ahead.is_empty());
            moving += uploads.map_or(0, |it| it.holds_up(now, stall));
            ahead += uploads.map_or(0, |it| it.holds_up(now, patience));
            uploads.is_some()
        });
        let line = match (limited, rate) {
            (true, _) => (rate / GRANTS_PART).max(LINE_FIRST),
            (false, 0) => LINE_FIRST,
            (false, _) => (rate / LINE_PART).max(LINE_MIN),
        };
        if moving >= line || ahead >= line.max(rate / MOST_PART) {
            return None;
        }
        if let Some((peer, piece, left)) = &mut self.holder
            && *left > 0
            && let Some(next) = uploads(*peer).and_then(Uploads::next)
            && next.piece() == *piece
        {
            *left = left.saturating_sub(next.length());
            return Some(*peer);
        }
        let mut last_resort = None;
        for _ in 0..self.line.len() {
            let peer = self.line.pop_front()?;
            let Some(uploads) = uploads(peer).filter(|it| !it.queue.is_empty()) else {
                continue;
            };
            self.line.push_back(peer);
            let Some(next) = uploads.next() else {
                continue;
            };
            if uploads.is_last() {
                last_resort = last_resort.or(Some(peer));
                continue;
            }
            let left = self.piece_length.saturating_sub(next.length());
            self.holder = Some((peer, next.piece(), left));
            return Some(peer);
        }
        self.holder = None;
        last_resort
    }
}

/// What a peer has asked for and not got yet.
#[derive(Debug, Default)]
pub struct Uploads {
    queue: VecDeque<Block>,
    ahead: VecDeque<Block>,
    /// What is in either of the two: a fast peer has two thousand waiting, too many to look through for each
    /// request (a tenth of a seed's processor time at 900 MiB/s).
    asked: BTreeSet<Block>,
    ahead_bytes: u64,
    sent: Rate,
    /// When a block last left, or the first of some was handed over.
    moved: Moment,
    /// It is served when nobody else waits.
    pub last: bool,
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
        self.cancels_left = self.cancels_left.saturating_add(1);
        if self.queue.len() + self.ahead.len() >= QUEUE_MAX {
            return false;
        }
        self.queue.push_back(block);
        self.asked.insert(block);
        self.refused_in_a_row = 0;
        true
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
    fn is_last(&self) -> bool {
        let next = self.queue.front();
        self.last || next.is_some_and(|block| self.deferred.contains(&block.piece()))
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
        self.window = self.sent.per_second(now) / 4;
        self.leave_ahead(block);
    }

    /// Whether its thread has as much as it may.
    fn is_full(&self) -> bool {
        self.ahead_bytes >= self.window.clamp(AHEAD_MIN, AHEAD_MAX)
    }

    /// The next request that could be handed over now.
    fn next(&self) -> Option<Block> {
        self.queue.front().copied().filter(|_| !self.is_full())
    }

    /// Whether it waits for us and not we for it: it has requests, and what its thread has moves.
    pub fn waits(&self, now: Moment, patience: Duration) -> bool {
        let stuck = !self.ahead.is_empty() && now >= self.moved + patience;
        !stuck && !self.is_idle()
    }

    /// Bytes with its thread that keep others waiting: none where nothing has moved for a while, as
    /// it is the peer's line then that is full, not ours.
    fn holds_up(&self, now: Moment, patience: Duration) -> u64 {
        if now >= self.moved + patience {
            return 0;
        }
        self.ahead_bytes
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
        if let Some(at) = self.queue.iter().position(|other| *other == block) {
            self.queue.remove(at);
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
        self.queue = kept;
        self.ahead = kept_ahead;
        self.asked.retain(|block| keep(*block));
        self.ahead_bytes = self
            .ahead
            .iter()
            .map(|block| u64::from(block.length()))
            .sum();
        (queued.into(), ahead.into())
    }

    /// Whether the peer waits for anything.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.ahead.is_empty()
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
    fn on_a_slow_line_a_turn_lasts_as_long_as_its_blocks_take() {
        assert_eq!(patience(0), Duration::from_secs(4));
        assert_eq!(patience(64 * 1024), Duration::from_secs(1));
        assert_eq!(patience(10_000_000), STUCK);
        let all = blocks(20);
        let mut waiting = [Uploads::default(), Uploads::default()];
        let mut turns = Turns::new(1 << 18);
        for (key, uploads) in waiting.iter_mut().enumerate() {
            all.iter()
                .for_each(|block| assert!(uploads.request(*block)));
            turns.stand_in_line(PeerKey(key as u64));
        }
        let mut hand_over = |now| {
            let next = turns.next(64 * 1024, false, now, |key| waiting.get(key.0 as usize));
            let block = next.and_then(|key| waiting[key.0 as usize].hand_over(now));
            block.and(next)
        };
        let handed = std::iter::from_fn(|| hand_over(Moment::ZERO));
        assert_eq!(handed.collect::<Vec<_>>(), [PeerKey(0), PeerKey(0)]);
        // A block takes a quarter of a second: nobody is stuck yet.
        assert_eq!(hand_over(Duration::from_millis(900)), None);
        assert_eq!(hand_over(Duration::from_millis(1_100)), Some(PeerKey(0)));
    }

    #[test]
    fn where_nothing_leaves_the_next_turn_begins_early_and_not_everybody_s_at_once() {
        let rate = 5_000_000;
        assert_eq!(stall(rate), Duration::from_micros(26_214));
        assert_eq!(stall(1 << 30), STALLED_MIN);
        let all = blocks(16);
        let mut waiting: Vec<_> = (0..9).map(|_| Uploads::default()).collect();
        let mut turns = Turns::new(1 << 18);
        for (key, uploads) in waiting.iter_mut().enumerate() {
            all.iter()
                .for_each(|block| assert!(uploads.request(*block)));
            turns.stand_in_line(PeerKey(key as u64));
        }
        let mut handed_by = |now| {
            while let Some(key) = turns.next(rate, false, now, |key| waiting.get(key.0 as usize)) {
                waiting[key.0 as usize].hand_over(now);
            }
            let bytes = waiting.iter().map(|it| it.ahead_bytes);
            (
                bytes.clone().sum::<u64>(),
                bytes.filter(|it| *it > 0).count(),
            )
        };
        let twentieth = rate / LINE_PART;
        let (bytes, peers) = handed_by(Moment::ZERO);
        assert!((twentieth..twentieth + 16_384).contains(&bytes));
        assert_eq!(peers, 1);
        assert_eq!(handed_by(Duration::from_millis(26)), (bytes, peers));
        let (more, peers) = handed_by(Duration::from_millis(27));
        assert!((2 * twentieth..2 * twentieth + 32_768).contains(&more));
        assert_eq!(peers, 2);
        let (most, _) = handed_by(Duration::from_millis(299));
        let last = handed_by(Duration::from_millis(299));
        assert!(most <= rate / MOST_PART + 16_384 && last.0 == most);
    }

    #[test]
    fn with_a_limit_the_threads_have_more_at_hand_than_one_grant() {
        let (mut uploads, all) = (Uploads::default(), blocks(100));
        all.iter()
            .for_each(|block| assert!(uploads.request(*block)));
        let mut turns = Turns::new(1 << 18);
        turns.stand_in_line(PeerKey(0));
        let rate = 512 * 1024;
        let mut at_hand = |limited| {
            while turns
                .next(rate, limited, Moment::ZERO, |_| Some(&uploads))
                .is_some()
            {
                uploads.hand_over(Moment::ZERO);
            }
            uploads.ahead_bytes
        };
        assert_eq!(at_hand(false), 32 * 1024);
        // A grant is for a tenth of a second.
        assert!(at_hand(true) >= 2 * rate / 10);
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
