//! Whose turn it is at the uplink.
//!
//! Ours: no BEP has this; decisions 124, 165 and 167.
//!
//! An uplink that serves twenty peers a block each in turn brings all of them their pieces at the end
//! of a second, and none of them has anything to pass on before. One that serves them a piece each
//! brings the first after a twentieth. So little is handed to the threads, and turns last a piece.
//!
//! But one connection alone does not fill a line: its window has to open first, and acknowledgements come
//! back behind what the other end sends. Where no block leaves for a little while (`lull`) the next in line
//! begins beside it, and who began first goes first again as soon as it moves.
//!
//! Who reads nothing looks like a line on which nothing moves. So each peer that stands still halves the time for
//! which the next one is waited for.
//!
//! ```text
//! turns.stand_in_line(peer) ; turns.next(rate, ..) -> whose block to hand over ; turns.again(rate, ..) -> an alarm
//! ```

use super::event::{Moment, PeerKey};
use super::uploads::Uploads;
use crate::protocol::PieceIndex;
use crate::protocol::geometry::BLOCK_LENGTH;
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// Bytes that all threads together hold while the uplink's rate is not known, and the least they ever hold.
const LINE_FIRST: u64 = 128 * 1024;
const LINE_MIN: u64 = 2 * BLOCK_LENGTH as u64;
/// Threads that are sending hold 1/20 s worth of uplink, at most [`LINE_FIRST`] bytes.
const LINE_PART: u64 = 20;
/// On lines so fast that 1/40 s worth is more than that (42 Mbit/s), they hold 1/40 s worth. With 1/20 s
/// throughout, more connections were under way at once on a line of 40 Mbit/s, each of them slower, and the
/// last of 24 leechers was done 0.4 s later.
const LINE_PART_FAST: u64 = 40;
/// All threads together, those included in which nothing moves just now, hold 1/5 s worth.
const MOST_PART: u64 = 5;
/// With a limit the threads have grants for a tenth of a second, and need more than one at hand.
const GRANTS_PART: u64 = 4;
/// So many requests fill the line for as long as it takes to be asked for the next ones.
const CROWD: usize = 8;
/// If a thread sends nothing while the uplink could send so many blocks, its TCP window is closed, as at the
/// beginning of a connection or after a loss; others may use the line meanwhile.
const LULL_BLOCKS: u64 = 8;
const LULL_MIN: Duration = Duration::from_millis(10);
/// A peer to which nothing moves for so long keeps nobody waiting; on a slow line, while so many blocks
/// leave.
const STUCK: Duration = Duration::from_millis(300);
/// Slower than this is not believed to be the line, but somebody who does not take what is sent.
const STUCK_RATE: u64 = 16 * 1024;
const STUCK_BLOCKS: u64 = 4;

/// How long a peer to which nothing moves keeps others waiting, where `rate` bytes a second leave.
pub fn patience(rate: u64) -> Duration {
    let millis = STUCK_BLOCKS * u64::from(BLOCK_LENGTH) * 1_000 / rate.max(STUCK_RATE);
    STUCK.max(Duration::from_millis(millis))
}

/// How long a thread from which no block leaves keeps the line to itself, where `rate` bytes a second leave.
/// With a limit that is no sign: threads wait for grants.
fn lull(rate: u64, limited: bool) -> Duration {
    if limited {
        return patience(rate);
    }
    let micros = LULL_BLOCKS * u64::from(BLOCK_LENGTH) * 1_000_000 / rate.max(STUCK_RATE);
    Duration::from_micros(micros).clamp(LULL_MIN, patience(rate))
}

/// How long a thread in which nothing moves keeps others from the line.
#[derive(Clone, Copy)]
struct Waits {
    /// From beginning beside it.
    lull: Duration,
    /// From all the line could carry.
    patience: Duration,
}

impl Waits {
    fn at(rate: u64, limited: bool) -> Waits {
        Waits {
            lull: lull(rate, limited),
            patience: patience(rate),
        }
    }

    /// The same where so many are waited for in vain already: the rate that is left is theirs and not the line's.
    fn beside(self, still: u32) -> Waits {
        let patience = STUCK.max(self.patience / 2_u32.saturating_pow(still));
        Waits {
            lull: self.lull.min(patience),
            patience,
        }
    }
}

/// Bytes with threads from which blocks leave.
fn line(rate: u64, limited: bool) -> u64 {
    match (limited, rate) {
        (true, _) => (rate / GRANTS_PART).max(LINE_FIRST),
        (false, 0) => LINE_FIRST,
        (false, _) => (rate / LINE_PART)
            .min(LINE_FIRST)
            .max(rate / LINE_PART_FAST)
            .max(LINE_MIN),
    }
}

/// A peer's turn: the piece it is sent, and how many bytes of it may still be handed over. Who asks for one
/// piece again and again has no longer a turn than others.
#[derive(Debug)]
struct Turn {
    peer: PeerKey,
    piece: PieceIndex,
    left: u32,
}

/// Who is served, and who is next.
#[derive(Debug)]
pub struct Turns {
    /// Bytes in a turn.
    piece_length: u32,
    /// Peers with requests, and perhaps some that have none just now; who began longest ago in front.
    line: VecDeque<PeerKey>,
    /// Turns that have begun, the oldest in front: one, and more where connections stand still. One of a
    /// peer.
    begun: Vec<Turn>,
    /// Peers whose threads have blocks, and perhaps some whose have none any more.
    busy: BTreeSet<PeerKey>,
}

impl Turns {
    /// Turns of so many bytes.
    pub fn new(piece_length: u32) -> Turns {
        Turns {
            piece_length,
            line: VecDeque::new(),
            begun: Vec::new(),
            busy: BTreeSet::new(),
        }
    }

    /// A peer has requests.
    pub fn stand_in_line(&mut self, peer: PeerKey) {
        if !self.line.contains(&peer) {
            self.line.push_back(peer);
        }
    }

    /// A peer is gone, or has no requests and may make none.
    pub fn forget(&mut self, peer: PeerKey) {
        self.line.retain(|other| *other != peer);
        self.begun.retain(|turn| turn.peer != peer);
        self.busy.remove(&peer);
    }

    /// Who began last, and is in the middle of a piece.
    pub fn holder(&self) -> Option<PeerKey> {
        let last = self.begun.last().filter(|turn| turn.left > 0);
        last.map(|turn| turn.peer)
    }

    fn has_begun(&self, peer: PeerKey) -> bool {
        self.begun.iter().any(|turn| turn.peer == peer)
    }

    /// When to look again though nothing has happened: as soon as somebody counts as still and another, who
    /// waits, may take its place.
    pub fn again<'a>(
        &self,
        rate: u64,
        limited: bool,
        now: Moment,
        uploads: impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> Option<Moment> {
        let mut line = self.line.iter().filter_map(|key| uploads(*key));
        if !line.any(|it| it.next().is_some()) {
            return None;
        }
        let (whole, waits) = (
            Waits::at(rate, limited),
            self.waits(rate, limited, now, &uploads),
        );
        let ends = [waits.lull, waits.patience, whole.patience];
        let busy = self.busy.iter().filter_map(|key| uploads(*key)?.moved());
        let still = busy.flat_map(|moved| ends.map(|end| moved + end));
        still.filter(|at| *at > now).min()
    }

    fn waits<'a>(
        &self,
        rate: u64,
        limited: bool,
        now: Moment,
        uploads: impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> Waits {
        let whole = Waits::at(rate, limited);
        // Who waits for a grant stands still, too.
        if limited {
            return whole;
        }
        let busy = self.busy.iter().filter_map(|key| uploads(*key));
        let still = busy.filter(|it| it.is_still(now, whole.patience));
        whole.beside(still.count() as u32)
    }

    /// Whether the peers in line but `me`, those who are served last not counted, have requests enough to
    /// fill the line for a while.
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
            left = left.saturating_sub(uploads.queued());
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
        if self.line.is_empty() {
            return None;
        }
        let waits = self.has_room(rate, limited, now, &uploads)?;
        self.begun.retain(|turn| {
            let first = uploads(turn.peer).and_then(Uploads::first);
            turn.left > 0 && first.is_some_and(|block| block.piece() == turn.piece)
        });
        let line = line(rate, limited);
        let moves = |it: &&Uploads| {
            !it.is_clogged() && (!it.is_still(now, waits.lull) || it.ahead_bytes() < line)
        };
        let next = (self.go_on(|key| uploads(key).filter(moves)))
            .or_else(|| self.begin(&uploads))
            .or_else(|| self.go_on(&uploads))
            .or_else(|| self.last_resort(&uploads))?;
        self.busy.insert(next);
        Some(next)
    }

    /// If the threads should have more: how long others are waited for. Forgets those that have nothing.
    fn has_room<'a>(
        &mut self,
        rate: u64,
        limited: bool,
        now: Moment,
        uploads: &impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> Option<Waits> {
        let waits = self.waits(rate, limited, now, uploads);
        let (mut moving, mut ahead) = (0, 0);
        self.busy.retain(|key| {
            let Some(uploads) = uploads(*key).filter(|it| it.moved().is_some()) else {
                return false;
            };
            let bytes = uploads.ahead_bytes();
            moving += if uploads.is_still(now, waits.lull) {
                0
            } else {
                bytes
            };
            // Where nothing has moved for this long it is the peer's line that is full, not ours.
            ahead += if uploads.is_still(now, waits.patience) {
                0
            } else {
                bytes
            };
            true
        });
        let line = line(rate, limited);
        let room = moving < line && ahead < line.max(rate / MOST_PART);
        room.then_some(waits)
    }

    /// Who is in the middle of its piece and takes more, the one who began first.
    fn go_on<'a>(&mut self, uploads: impl Fn(PeerKey) -> Option<&'a Uploads>) -> Option<PeerKey> {
        self.begun.iter_mut().find_map(|turn| {
            let block = uploads(turn.peer)?.next()?;
            turn.left = turn.left.saturating_sub(block.length());
            Some(turn.peer)
        })
    }

    /// The next in line begins with a piece, if it is not in the middle of one.
    fn begin<'a>(&mut self, uploads: impl Fn(PeerKey) -> Option<&'a Uploads>) -> Option<PeerKey> {
        let found = self.line.iter().enumerate().find_map(|(at, peer)| {
            let uploads = uploads(*peer).filter(|it| !it.is_last())?;
            let block = uploads.next().filter(|_| !self.has_begun(*peer))?;
            Some((at, block))
        });
        let (at, block) = found?;
        let peer = self.line.remove(at)?;
        self.line.push_back(peer);
        self.begun.push(Turn {
            peer,
            piece: block.piece(),
            left: self.piece_length.saturating_sub(block.length()),
        });
        Some(peer)
    }

    /// Who is served when nobody else takes anything: a block at a time. Who has no requests leaves the line.
    fn last_resort<'a>(
        &mut self,
        uploads: impl Fn(PeerKey) -> Option<&'a Uploads>,
    ) -> Option<PeerKey> {
        let has_requests = |key: &PeerKey| uploads(*key).and_then(Uploads::first).is_some();
        self.line.retain(has_requests);
        let takes = |peer: &&PeerKey| uploads(**peer).and_then(Uploads::next).is_some();
        self.line.iter().find(takes).copied()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::{Block, Geometry};

    /// Peers in line, each of which asks for the same four pieces.
    struct Uplink {
        rate: u64,
        turns: Turns,
        peers: Vec<Uploads>,
        /// What their threads have.
        ahead: Vec<VecDeque<Block>>,
    }

    const PIECE: u32 = 1 << 18;
    const NOBODY: [u64; 0] = [];

    impl Uplink {
        fn new(rate: u64, piece_length: u32, peers: usize) -> Uplink {
            let geometry = Geometry::new(4 * u64::from(piece_length), piece_length).unwrap();
            let mut it = Uplink {
                rate,
                turns: Turns::new(piece_length),
                peers: Vec::new(),
                ahead: vec![VecDeque::new(); peers],
            };
            for key in 0..peers {
                let mut uploads = Uploads::default();
                let pieces = geometry.all_pieces();
                for block in pieces.flat_map(|piece| geometry.blocks(piece)) {
                    assert!(uploads.request(block));
                }
                it.peers.push(uploads);
                it.turns.stand_in_line(PeerKey(key as u64));
            }
            it
        }

        /// Hands over all that is due at a millisecond: of whom.
        fn hand_over(&mut self, millis: u64, limited: bool) -> Vec<u64> {
            let now = Duration::from_millis(millis);
            let mut handed = Vec::new();
            loop {
                let peers = &self.peers;
                let uploads = |key: PeerKey| peers.get(key.0 as usize);
                let Some(key) = self.turns.next(self.rate, limited, now, uploads) else {
                    return handed;
                };
                let block = self.peers[key.0 as usize].hand_over(now).unwrap();
                self.ahead[key.0 as usize].push_back(block);
                handed.push(key.0);
            }
        }

        /// The peer's thread has sent so many blocks.
        fn sent(&mut self, peer: usize, blocks: usize, millis: u64) {
            for _ in 0..blocks {
                let block = self.ahead[peer].pop_front().unwrap();
                self.peers[peer].served(block, Duration::from_millis(millis));
            }
        }

        fn again(&self, millis: u64, limited: bool) -> Option<u64> {
            let uploads = |key: PeerKey| self.peers.get(key.0 as usize);
            let now = Duration::from_millis(millis);
            let at = self.turns.again(self.rate, limited, now, uploads);
            at.map(|at| at.as_millis() as u64)
        }
    }

    fn distinct(mut peers: Vec<u64>) -> Vec<u64> {
        peers.dedup();
        peers
    }

    #[test]
    fn on_a_slow_line_a_turn_lasts_as_long_as_its_blocks_take() {
        assert_eq!(patience(0), Duration::from_secs(4));
        assert_eq!(patience(64 * 1024), Duration::from_secs(1));
        assert_eq!(patience(10_000_000), STUCK);
        let mut uplink = Uplink::new(64 * 1024, PIECE, 2);
        assert_eq!(uplink.hand_over(0, false), [0, 0]);
        // A block takes a quarter of a second: nobody is stuck yet.
        assert_eq!(uplink.hand_over(900, false), NOBODY);
        assert_eq!(uplink.hand_over(1_100, false), [1, 1]);
    }

    #[test]
    fn where_nothing_leaves_the_next_turn_begins_and_not_everybody_s_at_once() {
        assert_eq!(lull(5_000_000, false), Duration::from_micros(26_214));
        assert_eq!(lull(1 << 30, false), LULL_MIN);
        let mut uplink = Uplink::new(5_000_000, PIECE, 9);
        assert_eq!(uplink.hand_over(0, false), [0; 8]);
        assert_eq!(uplink.again(0, false), Some(26));
        assert_eq!(uplink.hand_over(26, false), NOBODY);
        assert_eq!(uplink.hand_over(27, false), [1; 8]);
        assert_eq!(uplink.hand_over(54, false), [2; 8]);
        // A fifth of a second's worth is with the threads.
        for peer in 3..7 {
            assert_eq!(uplink.hand_over(27 * peer, false), [peer; 8]);
        }
        assert_eq!(uplink.hand_over(189, false), [7; 6]);
        for millis in [216, 243, 299] {
            assert_eq!(uplink.hand_over(millis, false), NOBODY);
        }
        assert_eq!(uplink.again(299, false), Some(300));
        // The first one is stuck, and counts no more: who began last has its last two blocks, then the next
        // begins.
        assert_eq!(
            uplink.hand_over(300, false),
            [[7, 7].as_slice(), &[8; 6]].concat()
        );
    }

    #[test]
    fn pieces_longer_than_what_is_with_the_threads_are_not_given_to_the_one_that_stands_still() {
        let mut uplink = Uplink::new(1_250_000, PIECE, 3);
        assert_eq!(uplink.hand_over(0, false), [0; 4]);
        assert_eq!(uplink.hand_over(105, false), [1; 4]);
        // Who moves again goes on with its piece, before anybody else begins.
        uplink.sent(0, 2, 120);
        uplink.sent(1, 2, 121);
        assert_eq!(uplink.hand_over(121, false), NOBODY);
        uplink.sent(0, 2, 130);
        assert_eq!(uplink.hand_over(130, false), [0, 0]);
        assert!(uplink.turns.has_begun(PeerKey(0)) && uplink.turns.has_begun(PeerKey(1)));
        assert!(!uplink.turns.has_begun(PeerKey(2)));
    }

    #[test]
    fn who_was_interrupted_has_its_piece_before_others_begin_their_second() {
        let mut uplink = Uplink::new(5_000_000, 4 * PIECE, 3);
        let mut blocks = [0; 3];
        for millis in (0..800).step_by(4) {
            for peer in uplink.hand_over(millis, false) {
                blocks[peer as usize] += 1;
            }
            assert!(uplink.turns.begun.len() <= 2, "{:?}", uplink.turns.begun);
            // Those who have something take turns at the line, but for the first one, which stands still for
            // a while.
            let standing_still = |peer| millis < 100 && peer == 0;
            let turns = (0..3).map(|turn| (turn + millis / 4) as usize % 3);
            let mut free = turns.filter(|peer| !standing_still(*peer));
            if let Some(peer) = free.find(|peer| !uplink.ahead[*peer].is_empty()) {
                uplink.sent(peer, 1, millis);
            }
            let begun_twice = blocks.iter().any(|blocks| *blocks > 64);
            assert!(
                !begun_twice || blocks.iter().all(|blocks| *blocks >= 64),
                "{blocks:?}"
            );
        }
        assert!(blocks.iter().sum::<i32>() > 190, "{blocks:?}");
    }

    #[test]
    fn each_who_takes_nothing_halves_the_wait_for_the_next() {
        let mut uplink = Uplink::new(STUCK_RATE, PIECE, 9);
        let mut begun = Vec::new();
        let mut now = Some(0);
        while let Some(millis) = now.filter(|millis| *millis < 20_000) {
            let handed = distinct(uplink.hand_over(millis, false));
            begun.extend(handed.into_iter().map(|peer| (peer, millis)));
            now = uplink.again(millis, false);
        }
        let mut limited = Uplink::new(STUCK_RATE, PIECE, 9);
        limited.hand_over(0, true);
        assert_eq!(distinct(limited.hand_over(4_000, true)).len(), 1);
        assert_eq!(limited.hand_over(7_999, true), NOBODY);
        // The second begins when the first has stood still for four seconds, the next ones after two.
        assert_eq!(begun[..4], [(0, 0), (1, 4_000), (2, 6_000), (3, 8_000)]);
        assert_eq!(begun[8], (8, 11_500));
    }

    #[test]
    fn who_is_clogged_goes_on_with_its_piece_when_nobody_else_takes_more() {
        let mut uplink = Uplink::new(STUCK_RATE, PIECE, 2);
        assert_eq!(uplink.hand_over(0, false), [0, 0]);
        uplink.peers[0].look(false, Duration::from_secs(5));
        for millis in (5_000..6_000).step_by(100) {
            let handed = uplink.hand_over(millis, false);
            assert!(!handed.contains(&0), "{millis}");
            uplink.sent(1, handed.len(), millis);
        }
    }

    #[test]
    fn with_a_limit_the_threads_have_more_at_hand_than_one_grant() {
        let rate = 512 * 1024;
        let at_hand = |limited| Uplink::new(rate, PIECE, 1).hand_over(0, limited).len() as u64;
        assert_eq!(at_hand(false) * 16_384, 32 * 1024);
        // A grant is for a tenth of a second.
        assert!(at_hand(true) * 16_384 >= 2 * rate / 10);
    }

    #[test]
    fn with_a_limit_a_thread_that_waits_for_its_grant_wakes_nobody() {
        let mut uplink = Uplink::new(5_000_000, PIECE, 9);
        let handed = uplink.hand_over(0, true);
        assert_eq!(distinct(handed), [0, 1, 2, 3, 4]);
        assert_eq!(uplink.again(0, true), Some(300));
    }

    #[test]
    fn where_nobody_takes_more_no_alarm_is_set() {
        let mut uplink = Uplink::new(5_000_000, PIECE, 1);
        let handed = (0..2_000)
            .step_by(50)
            .map(|millis| uplink.hand_over(millis, false).len());
        // As much as a thread may have.
        assert_eq!(handed.sum::<usize>(), 32);
        assert_eq!(uplink.again(2_000, false), None);
    }

    #[test]
    fn who_is_served_last_waits_until_nobody_else_takes_more() {
        let mut uplink = Uplink::new(5_000_000, PIECE, 2);
        uplink.peers[1].last = true;
        assert_eq!(uplink.hand_over(0, false), [0; 8]);
        // The other one's thread has as much as it may.
        assert_eq!(distinct(uplink.hand_over(100, false)), [0, 1]);
    }
}
