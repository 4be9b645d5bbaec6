//! How much to ask of one peer at a time.
//!
//! A block that is asked for only when the last one has come costs a round trip each. So requests
//! are kept under way, as many as the peer's [`Delivery`] is worth: few for a slow peer (what is asked of it
//! cannot be asked elsewhere), hundreds for a fast one far away. Here is which they are, which were taken
//! back, and which have waited for too long.
//!
//! ```
//! use ropewalk::protocol::Geometry;
//! use ropewalk::swarm::pipeline::Pipeline;
//! use std::time::Duration;
//! let geometry = Geometry::new(1 << 20, 1 << 18).unwrap();
//! let block = geometry.blocks(geometry.piece(0).unwrap()).next().unwrap();
//! let (mut pipeline, now) = (Pipeline::default(), Duration::ZERO);
//! assert_eq!(pipeline.room(), 32); // blocks to ask for now; 0 until a quarter of the depth is free
//! pipeline.ask(block, now);
//! assert!(pipeline.received(block, now + Duration::from_millis(40))); // or `returned(block)`
//! assert!(pipeline.overdue(now, |_| true).is_empty()); // what to take away and ask elsewhere
//! ```

use super::delivery::{DEPTH_MAX, DEPTH_MIN, Delivery};
use super::event::Moment;
use crate::protocol::Block;
use std::collections::VecDeque;
use std::time::Duration;

/// The most to one that did not say: what the most modest of the well known clients queue.
const DEPTH_UNTOLD: usize = 250;
/// Requests under way to all peers together, about: each takes one to two KiB of memory, and half a second's
/// worth of 900 MiB/s is 29,000 (docs/measured/pipeline.md).
const OUT_MAX: usize = 4_096;
/// A peer that answers nothing for so long has forgotten what it was asked, even if nobody else could
/// be asked. Longer than any block may take on its way, which is a minute (`delivery`).
const FORGOTTEN: Duration = Duration::from_secs(120);
/// A request that was asked back is answered or refused (BEP 6) so soon after what was under way has come, or
/// it is taken back.
const ANSWER: Duration = Duration::from_secs(1);
/// So often a choke or unchoke begins the waiting anew before a block has to come: a turn that ends and begins.
const RESTARTS_MAX: u32 = 2;
/// Who has given nothing for so long is quiet, and may have fallen silent.
const QUIET: Duration = Duration::from_secs(1);

/// A request under way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// For this block.
    pub block: Block,
    /// Since then.
    pub at: Moment,
    /// Taken back: its slot is on the way home.
    pub revoked: bool,
    /// Since when the peer has been asked not to answer; it may have begun to.
    pub asked_back: Option<Moment>,
    /// A copy that has come already and waits for its slot: says nothing about the line.
    pub settled: bool,
    /// A request made after this one has been answered.
    pub skipped: bool,
}

impl Asked {
    /// Whether the answer is to come from this peer.
    pub fn is_wanted(&self) -> bool {
        !self.revoked && self.asked_back.is_none()
    }
}

/// The requests under way to one peer.
#[derive(Debug, Default)]
pub struct Pipeline {
    asked: VecDeque<Asked>,
    revoked: usize,
    /// Copies asked of this peer that have not come. Which they are knows `endgame`.
    spares: usize,
    /// Most requests the peer says it queues.
    reqq: Option<usize>,
    delivery: Delivery,
    snubbed: bool,
    ignores_cancels: bool,
    silent: bool,
    /// A request was taken back, or asked back in vain, since it last gave something.
    relieved: bool,
    /// Chokes and unchokes that began the waiting anew since the last block.
    restarts: u32,
}

impl Pipeline {
    /// The peer queues so many requests (`reqq`, BEP 10). 0 and nonsense are clamped.
    pub fn set_reqq(&mut self, reqq: u32) {
        self.reqq = Some((reqq as usize).clamp(1, DEPTH_MAX));
    }

    /// The number of requests that keeps this peer busy.
    pub fn depth(&self) -> usize {
        if self.snubbed || self.silent {
            return 1;
        }
        let most = self.reqq.unwrap_or(DEPTH_UNTOLD);
        self.delivery.depth().min(most)
    }

    /// How many blocks to ask for now. Nothing until a quarter of the depth is free: requests that
    /// leave together are for adjacent blocks and travel in one packet.
    pub fn room(&self) -> usize {
        self.room_beside(0, 0)
    }

    /// The same where `out` blocks are under way from all peers together: no pipeline is deeper than what all
    /// of them leave of `OUT_MAX`. One peer alone gets what it can use, 200 fast ones get 20 each. Who has
    /// given nothing yet is asked for a few beyond half of it: the silent keep what they were asked for, and would
    /// leave nothing for who delivers. For the same reason `out_to_quiet` of them, which are with quiet peers, do not
    /// count for the others, up to a quarter of `OUT_MAX`.
    pub fn room_beside(&self, out: usize, out_to_quiet: usize) -> usize {
        let all = match self.delivery.has_delivered() {
            true => OUT_MAX + out_to_quiet.min(OUT_MAX / 4),
            false => OUT_MAX / 2,
        };
        let most = all.saturating_sub(out).max(DEPTH_MIN);
        let depth = self.depth().min(most);
        let busy = self.busy();
        if busy > depth - depth.div_ceil(4) {
            return 0;
        }
        depth - busy
    }

    /// Requests under way that were not taken back, spares included.
    pub fn busy(&self) -> usize {
        self.asked.len() - self.revoked + self.spares
    }

    /// When the block that has `before` others before it will be here, in seconds from now. If the peer has
    /// been silent for t seconds, assume t seconds per block, at least.
    pub fn expected(&self, before: usize, now: Moment) -> f64 {
        let silence = match self.busy() {
            0 => Duration::ZERO,
            _ => self.delivery.silence(now),
        };
        self.delivery.expected(before, silence)
    }

    /// In how many seconds the answer to a request that has `before` others before it may be expected.
    pub fn remaining(&self, asked: &Asked, before: usize, now: Moment) -> f64 {
        let first = self.asked.front();
        let in_turn = first.is_some_and(|first| first.block.piece() == asked.block.piece());
        let before = if in_turn { 0 } else { before };
        (self.delivery).remaining(now.saturating_sub(asked.at), before)
    }

    /// Requests that still hold a slot, oldest first.
    pub fn asked(&self) -> impl Iterator<Item = &Asked> {
        self.asked.iter()
    }

    /// Since when `block` is waited for; `None` where it is not, or was taken back.
    pub fn waits_since(&self, block: Block) -> Option<Moment> {
        let mut waiting = self.asked.iter();
        let asked = waiting.find(|asked| asked.block == block)?;
        asked.is_wanted().then_some(asked.at)
    }

    /// Whether nothing is under way, not even on its way home.
    pub fn is_idle(&self) -> bool {
        self.asked.is_empty() && self.spares == 0
    }

    /// Whether nothing but copies, come or not, is under way that was not taken back.
    pub fn is_dry(&self) -> bool {
        let mut asked = self.asked.iter();
        asked.all(|asked| asked.revoked || asked.settled)
    }

    /// Whether the peer has left us waiting.
    pub fn is_snubbed(&self) -> bool {
        self.snubbed
    }

    /// Whether the peer let a cancel pass without a word.
    pub fn ignores_cancels(&self) -> bool {
        self.ignores_cancels
    }

    /// Whether it let a cancel or a request for a copy pass without a word, or broke off, and has given nothing since.
    pub fn is_silent(&self) -> bool {
        self.silent
    }

    /// Whether it is quiet, and a request was taken back, or asked back in vain, since it last gave something.
    pub fn is_relieved(&self, now: Moment) -> bool {
        self.relieved && self.is_quiet(now)
    }

    /// Whether it has given nothing for so long that it does not count among those who keep the line full.
    pub fn is_quiet(&self, now: Moment) -> bool {
        self.delivery.silence(now) >= QUIET
    }

    /// A copy did not come in time.
    pub fn disappointed(&mut self) {
        self.silent = true;
    }

    /// How fast it delivers.
    pub fn delivery(&self) -> &Delivery {
        &self.delivery
    }

    /// A request goes out.
    pub fn ask(&mut self, block: Block, now: Moment) {
        self.start(now);
        self.push(block, now, false);
    }

    fn push(&mut self, block: Block, now: Moment, settled: bool) {
        self.asked.push_back(Asked {
            block,
            at: now,
            revoked: false,
            asked_back: None,
            settled,
            skipped: false,
        });
    }

    /// A request for a copy goes out.
    pub fn ask_spare(&mut self, now: Moment) {
        self.start(now);
        self.spares += 1;
    }

    /// Copies that are still to come.
    pub fn spares(&self) -> usize {
        self.spares
    }

    fn start(&mut self, now: Moment) {
        if self.busy() == 0 {
            self.delivery.begin(now);
        }
    }

    /// A block came, asked for at `at`.
    fn came(&mut self, block: Block, at: Moment, now: Moment) {
        self.snubbed = false;
        self.silent = false;
        self.relieved = false;
        self.restarts = 0;
        self.delivery.came(block.length(), at, now);
    }

    /// A block of ours came and is laid; says whether it had been asked for.
    pub fn received(&mut self, block: Block, now: Moment) -> bool {
        let at = self.asked.iter().position(|asked| asked.block == block);
        match self.remove(block) {
            Some(asked) => {
                if !asked.settled {
                    let earlier = self.asked.iter_mut().take(at.unwrap_or(0));
                    earlier.for_each(|asked| asked.skipped = true);
                    self.came(block, asked.at, now);
                }
                true
            }
            None => false,
        }
    }

    /// A copy came that was asked for at `at`.
    pub fn spare_came(&mut self, block: Block, at: Moment, now: Moment) {
        self.spare_dropped();
        self.came(block, at, now);
    }

    /// A copy is not wanted any more, or not coming.
    pub fn spare_dropped(&mut self) {
        self.spares -= 1;
    }

    /// No copy is coming any more.
    pub fn forget_spares(&mut self) {
        self.spares = 0;
    }

    /// A copy that has come becomes the real thing: its slot is on the way to the peer's thread.
    pub fn settle_held(&mut self, block: Block, now: Moment) {
        self.push(block, now, true);
    }

    /// A copy that was asked for at `at` becomes the real thing before it comes.
    pub fn settle_coming(&mut self, block: Block, at: Moment) {
        self.spare_dropped();
        self.push(block, at, false);
    }

    /// A slot came home unused: the request it was for, if there was one.
    pub fn returned(&mut self, block: Block) -> Option<Asked> {
        let asked = self.remove(block)?;
        // A cancel that is answered is as good as a block.
        self.relieved &= asked.revoked;
        Some(asked)
    }

    /// A block came that had been taken back: too late, but it came.
    pub fn came_late(&mut self, now: Moment) {
        self.silent = false;
        self.relieved = false;
        self.restarts = 0;
        self.delivery.wait_anew(now);
    }

    fn remove(&mut self, block: Block) -> Option<Asked> {
        // Nearly always the first: peers answer in order.
        let at = self.asked.iter().position(|asked| asked.block == block)?;
        let asked = self.asked.remove(at)?;
        self.revoked -= usize::from(asked.revoked);
        Some(asked)
    }

    /// The peer chokes or unchokes us: the waiting begins anew. Not again and again: who flips between the two
    /// faster than it could be missed and gives nothing would keep what it was asked for.
    pub fn restart(&mut self, now: Moment) {
        if self.busy() > 0 || self.snubbed {
            if self.restarts >= RESTARTS_MAX {
                return;
            }
            self.restarts += 1;
        }
        self.delivery.wait_anew(now);
        self.snubbed = false;
    }

    /// The blocks that have been out for too long and should be asked elsewhere. `others`: whether anybody
    /// else could be asked for a block. One that nobody else has is left where it is, unless the peer has
    /// lost the request: peers drop what is beyond their queue, or what was queued when they choked, without
    /// a word. Then the same peer is asked anew. Also those asked back that were not answered.
    pub fn overdue(&mut self, now: Moment, others: impl Fn(Block) -> bool) -> Vec<Block> {
        if self.busy() == 0 {
            return Vec::new();
        }
        let queue = self.asked.len().max(self.depth());
        let patience = self.delivery.patience(queue);
        let silence = self.delivery.silence(now);
        if silence >= patience {
            self.snubbed = true;
        }
        // Where only copies are put in place nothing is waited for.
        let waits = !self.is_dry() || self.spares > 0;
        self.silent |= waits && self.delivery.is_broken_off(now);
        let forgotten = silence >= FORGOTTEN;
        // A long queue that moves is none of a peer's faults.
        let soon = self.delivery.within_patience(now);
        let mut late = Vec::new();
        for (before, asked) in self.asked.iter_mut().enumerate() {
            let overdue = now.saturating_sub(asked.at) >= patience;
            let lost = asked.skipped || forgotten;
            let slow = before >= soon && others(asked.block);
            // The answer comes behind all that is on its way, which takes time on a slow line.
            let heard = if asked.skipped {
                Moment::ZERO
            } else {
                self.delivery.heard()
            };
            let unanswered = (asked.asked_back).is_some_and(|at| now >= at.max(heard) + ANSWER);
            self.ignores_cancels |= unanswered && !asked.revoked;
            self.silent |= unanswered && !asked.revoked;
            if !asked.revoked && (overdue && (lost || slow) || unanswered) {
                asked.revoked = true;
                self.revoked += 1;
                late.push(asked.block);
            }
        }
        late
    }

    /// Marks one request as asked back; says whether it was still wanted.
    pub fn ask_back(&mut self, block: Block, now: Moment) -> bool {
        let mut asked = self.asked.iter_mut();
        let asked = asked.find(|asked| asked.block == block && asked.is_wanted());
        let Some(asked) = asked else { return false };
        asked.asked_back = Some(now);
        self.relieved = true;
        true
    }

    /// Marks one request as taken back; says whether it was under way and not taken back before.
    pub fn revoke(&mut self, block: Block, now: Moment) -> bool {
        let asked = self
            .asked
            .iter_mut()
            .find(|asked| asked.block == block && !asked.revoked);
        let Some(asked) = asked else { return false };
        asked.revoked = true;
        self.relieved = true;
        self.revoked += 1;
        let age = now.saturating_sub(asked.at);
        self.delivery.gave_up(age);
        true
    }

    /// Empties the pipeline: the slots that never came home (a peer that is gone).
    pub fn drain(&mut self) -> impl Iterator<Item = Block> + use<> {
        self.revoked = 0;
        self.spares = 0;
        std::mem::take(&mut self.asked)
            .into_iter()
            .map(|asked| asked.block)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::delivery::{DEPTH_FIRST, GROWTH};
    use super::*;
    use crate::protocol::Geometry;

    fn blocks(count: u64) -> Vec<Block> {
        let geometry = Geometry::new(count * 16_384, 1 << 24).unwrap();
        geometry
            .all_pieces()
            .flat_map(move |piece| geometry.blocks(piece))
            .collect()
    }

    fn ms(ms: u64) -> Moment {
        Duration::from_millis(ms)
    }

    /// A peer that delivers a block every `gap`, each `delay` after its request at the least.
    fn run(pipeline: &mut Pipeline, delay: Duration, gap: Duration, count: u64) -> usize {
        last_arrival(pipeline, delay, gap, count);
        pipeline.depth()
    }

    /// The same; when the last block came.
    fn last_arrival(pipeline: &mut Pipeline, delay: Duration, gap: Duration, count: u64) -> Moment {
        let all = blocks(count);
        let (mut next, mut line_free) = (0, Duration::ZERO);
        let mut due: VecDeque<(Moment, Block)> = VecDeque::new();
        let mut now = Duration::ZERO;
        loop {
            for _ in 0..pipeline.room() {
                let Some(block) = all.get(next) else { break };
                next += 1;
                pipeline.ask(*block, now);
                line_free = line_free.max(now + delay) + gap;
                due.push_back((line_free, *block));
            }
            let Some((at, block)) = due.pop_front() else {
                return now;
            };
            now = at;
            assert!(pipeline.received(block, now));
        }
    }

    #[test]
    fn a_fast_and_distant_peer_gets_deep_and_a_slow_one_stays_shallow() {
        let mut far = Pipeline::default();
        far.set_reqq(1000);
        // 16 MiB/s, 100 ms away: 102 blocks are under way on the line alone.
        let depth = run(&mut far, ms(100), Duration::from_micros(977), 5000);
        assert!((200..=1000).contains(&depth), "{depth}");
        let mut slow = Pipeline::default();
        let depth = run(&mut slow, ms(50), ms(1600), 200);
        assert_eq!(depth, DEPTH_MIN);
    }

    #[test]
    fn who_flips_between_choke_and_unchoke_and_gives_nothing_falls_silent_and_one_turn_is_no_flip()
    {
        let all = blocks(3);
        let mut pipeline = Pipeline::default();
        pipeline.ask(all[0], ms(0));
        assert!(pipeline.received(all[0], ms(10)));
        pipeline.ask(all[1], ms(10));
        pipeline.restart(ms(900));
        pipeline.restart(ms(1_800));
        assert!(!pipeline.is_quiet(ms(2_700)));
        for flip in 1..100 {
            pipeline.restart(ms(1_800 + flip * 300));
        }
        assert!(pipeline.is_quiet(ms(31_500)));
        pipeline.overdue(ms(31_500), |_| true);
        assert!(pipeline.is_silent());
        // A block makes up for it.
        assert!(pipeline.received(all[1], ms(31_600)));
        pipeline.ask(all[2], ms(31_600));
        pipeline.restart(ms(32_500));
        assert!(!pipeline.is_quiet(ms(33_400)));
        // While nothing is waited for, the turns of an honest peer that serves others first end and begin.
        let mut pipeline = Pipeline::default();
        for turn in 0..10 {
            pipeline.restart(ms(turn * 10_000));
        }
        pipeline.ask(all[0], ms(90_000));
        pipeline.restart(ms(90_900));
        assert!(!pipeline.is_quiet(ms(91_800)));
    }

    #[test]
    fn the_pipe_opens_within_a_few_round_trips_of_a_long_fast_line() {
        let mut pipeline = Pipeline::default();
        pipeline.set_reqq(2000);
        // 1 Gbit/s, 100 ms away, 256 MiB: the line alone takes 2.2 s, and a round trip until the first comes.
        let gap = Duration::from_micros(131);
        let took = last_arrival(&mut pipeline, ms(100), gap, 16_384);
        assert!(took < gap * 16_384 + ms(300), "{took:?}");
    }

    #[test]
    fn a_slow_peer_is_asked_for_hardly_more_while_the_pipe_opens() {
        let mut pipeline = Pipeline::default();
        let all = blocks(100);
        let mut next = all.iter();
        // 10 KiB/s: each block takes 1.6 s.
        for second in 0..8u64 {
            for _ in 0..pipeline.room() {
                pipeline.ask(*next.next().unwrap(), ms(1_600 * second));
            }
            let first = pipeline.asked().next().unwrap().block;
            pipeline.received(first, ms(1_600 * (second + 1)));
        }
        assert!(
            pipeline.busy() <= DEPTH_FIRST + GROWTH,
            "{}",
            pipeline.busy()
        );
        assert_eq!(pipeline.depth(), DEPTH_MIN);
    }

    #[test]
    fn many_pipes_share_what_may_be_under_way_and_each_gets_some() {
        let mut pipelines: Vec<Pipeline> = (0..200).map(|_| Pipeline::default()).collect();
        let all = blocks(300);
        let mut out = 0;
        for turn in 0..200u64 {
            for pipeline in &mut pipelines {
                let room = pipeline.room_beside(out, 0);
                all.iter()
                    .take(room)
                    .for_each(|it| pipeline.ask(*it, ms(turn)));
                out += room;
                if pipeline.received(all[0], ms(turn + 1)) {
                    out -= 1;
                }
            }
        }
        // Each may have its few, whatever the others have.
        assert!(out <= OUT_MAX + pipelines.len() * DEPTH_MIN, "{out}");
        let least = pipelines.iter().map(Pipeline::busy).min();
        assert!(least >= Some(DEPTH_MIN - 1), "{least:?}");
    }

    #[test]
    fn silent_pipes_leave_room_for_one_that_delivers() {
        let all = blocks(300);
        let mut out = 0;
        for _ in 0..200 {
            let mut silent = Pipeline::default();
            let room = silent.room_beside(out, 0);
            assert!(room >= DEPTH_MIN);
            all[..room].iter().for_each(|it| silent.ask(*it, ms(0)));
            out += room;
        }
        let mut fast = Pipeline::default();
        fast.set_reqq(1000);
        run(&mut fast, ms(100), Duration::from_micros(977), 5000);
        assert!(fast.room_beside(out, 0) >= 200, "{out} are out");
    }

    #[test]
    fn what_is_out_to_quiet_peers_does_not_count() {
        let mut fast = Pipeline::default();
        fast.set_reqq(1000);
        run(&mut fast, ms(100), Duration::from_micros(977), 5000);
        assert_eq!(fast.room_beside(OUT_MAX, 0), DEPTH_MIN);
        assert!(fast.room_beside(OUT_MAX, OUT_MAX) >= 200);
        // Or there would be no end to it.
        assert_eq!(fast.room_beside(OUT_MAX * 2, OUT_MAX), DEPTH_MIN);
    }

    #[test]
    fn who_gave_nothing_since_something_was_taken_back_is_relieved_a_second_later() {
        let blocks = blocks(3);
        for ask_back in [true, false] {
            let mut pipeline = Pipeline::default();
            blocks.iter().for_each(|it| pipeline.ask(*it, ms(0)));
            assert!(!pipeline.is_relieved(ms(5_000)));
            match ask_back {
                true => pipeline.ask_back(blocks[2], ms(500)),
                false => pipeline.revoke(blocks[2], ms(500)),
            };
            assert!(!pipeline.is_relieved(ms(999)));
            assert!(pipeline.is_relieved(ms(1_000)));
            match ask_back {
                // A cancel that was answered, with a reject.
                true => pipeline.returned(blocks[2]).map(|_| ()),
                false => pipeline.received(blocks[0], ms(1_100)).then_some(()),
            };
            assert!(!pipeline.is_relieved(ms(5_000)));
        }
    }

    #[test]
    fn what_comes_too_late_has_come_all_the_same() {
        let blocks = blocks(2);
        let mut pipeline = Pipeline::default();
        blocks.iter().for_each(|it| pipeline.ask(*it, ms(0)));
        pipeline.received(blocks[0], ms(100));
        pipeline.overdue(ms(4_000), |_| true);
        pipeline.revoke(blocks[1], ms(4_000));
        pipeline.returned(blocks[1]);
        assert!(pipeline.is_silent() && pipeline.is_relieved(ms(4_000)));
        pipeline.came_late(ms(4_100));
        assert!(!pipeline.is_silent() && !pipeline.is_relieved(ms(9_000)));
    }

    #[test]
    fn who_breaks_off_is_silent_until_it_gives_again() {
        let blocks = blocks(3);
        let mut pipeline = Pipeline::default();
        blocks.iter().for_each(|it| pipeline.ask(*it, ms(0)));
        pipeline.received(blocks[0], ms(100));
        pipeline.overdue(ms(3_000), |_| true);
        assert!(!pipeline.is_silent());
        pipeline.overdue(ms(3_100), |_| true);
        assert!(pipeline.is_silent());
        pipeline.received(blocks[1], ms(4_000));
        assert!(!pipeline.is_silent());
    }

    #[test]
    fn who_only_has_its_copies_put_in_place_has_nothing_to_do() {
        let mut pipeline = Pipeline::default();
        pipeline.ask_spare(ms(0));
        pipeline.spare_came(blocks(1)[0], ms(0), ms(100));
        pipeline.settle_held(blocks(1)[0], ms(100));
        assert!(pipeline.is_dry() && !pipeline.is_idle());
        pipeline.overdue(ms(60_000), |_| true);
        assert!(!pipeline.is_silent(), "nothing is waited for");
        pipeline.ask(blocks(2)[1], ms(0));
        assert!(!pipeline.is_dry());
    }

    #[test]
    fn the_peers_own_limit_holds() {
        let mut pipeline = Pipeline::default();
        pipeline.set_reqq(3);
        assert_eq!(pipeline.room(), 3);
        let depth = run(&mut pipeline, ms(100), Duration::from_micros(100), 2000);
        assert_eq!(depth, 3);
        pipeline.set_reqq(0);
        assert_eq!(pipeline.depth(), 1);
    }

    #[test]
    fn requests_leave_in_runs_not_one_by_one() {
        let mut pipeline = Pipeline::default();
        let all = blocks(40);
        for block in &all[..32] {
            pipeline.ask(*block, ms(0));
        }
        // The second answer takes so much longer that the line is full: the depth grows no more.
        for (block, at) in all[..7].iter().zip([1, 60, 60, 60, 60, 60, 60]) {
            pipeline.received(*block, ms(at));
            assert_eq!(pipeline.room(), 0);
        }
        pipeline.received(all[7], ms(60));
        assert_eq!(pipeline.room(), 8);
    }

    #[test]
    fn a_silent_peer_is_snubbed_after_30_seconds_and_loses_what_others_have() {
        let mut pipeline = Pipeline::default();
        let all = blocks(8);
        for block in &all {
            pipeline.ask(*block, ms(0));
        }
        assert_eq!(pipeline.overdue(ms(29_000), |_| true), []);
        assert_eq!(
            pipeline.overdue(ms(30_000), |block| block.number() < 3),
            all[..3]
        );
        assert_eq!(pipeline.busy(), 5);
        assert!(pipeline.is_snubbed());
        assert_eq!(pipeline.overdue(ms(31_000), |_| true), all[3..]);
        assert_eq!(pipeline.depth(), 1);
        all.iter()
            .for_each(|block| assert!(pipeline.returned(*block).is_some()));
        assert!(pipeline.is_idle() && pipeline.busy() == 0);
    }

    #[test]
    fn a_long_queue_that_moves_is_not_late_and_one_that_drips_is() {
        let all = blocks(900);
        for (pause, late) in [(80, 0..=0), (20_000, 880..=897)] {
            let mut pipeline = Pipeline::default();
            all.iter().for_each(|block| pipeline.ask(*block, ms(0)));
            let answers = 62_000 / pause;
            for number in 0..answers {
                pipeline.received(all[number as usize], ms(pause * (number + 1)));
            }
            let overdue = pipeline.overdue(ms(62_000), |_| true).len();
            assert!(late.contains(&overdue), "{overdue}: one in {pause} ms");
        }
    }

    #[test]
    fn a_request_the_peer_passed_over_is_lost_even_if_nobody_else_has_the_block() {
        let mut pipeline = Pipeline::default();
        let all = blocks(4);
        all.iter().for_each(|block| pipeline.ask(*block, ms(0)));
        assert!(pipeline.received(all[2], ms(10)));
        assert_eq!(pipeline.overdue(ms(29_000), |_| false), []);
        assert_eq!(pipeline.overdue(ms(30_500), |_| false), all[..2]);
        // The last one may still be on its way.
        assert_eq!(pipeline.overdue(ms(119_000), |_| false), []);
        assert_eq!(pipeline.overdue(ms(121_000), |_| false), all[3..]);
    }

    #[test]
    fn a_slow_peer_that_keeps_its_pace_is_not_taken_for_a_stalled_one() {
        let mut pipeline = Pipeline::default();
        let all = blocks(30);
        // 2 KiB/s: a block takes 8 s, four are under way, so the last waits 32 s.
        for (number, block) in all[..4].iter().enumerate() {
            pipeline.ask(*block, ms(0));
            assert!(pipeline.received(*block, ms(8_000 * (number as u64 + 1))));
        }
        all[4..8]
            .iter()
            .for_each(|block| pipeline.ask(*block, ms(32_000)));
        for (number, block) in all[4..8].iter().enumerate() {
            let now = ms(32_000 + 8_000 * (number as u64 + 1));
            assert_eq!(pipeline.overdue(now, |_| true), []);
            pipeline.received(*block, now);
        }
    }

    #[test]
    fn a_copy_counts_as_work_until_it_is_held() {
        let mut pipeline = Pipeline::default();
        let all = blocks(1);
        pipeline.ask_spare(ms(0));
        assert_eq!(pipeline.busy(), 1);
        pipeline.spare_came(all[0], ms(0), ms(10));
        assert_eq!(pipeline.busy(), 0);
        pipeline.settle_held(all[0], ms(11));
        assert!(pipeline.received(all[0], ms(12)));
        assert!(pipeline.is_idle());
    }

    #[test]
    fn a_copy_that_gets_its_slot_before_it_comes_is_a_request_like_any_other() {
        let mut pipeline = Pipeline::default();
        let all = blocks(1);
        pipeline.ask_spare(ms(0));
        pipeline.settle_coming(all[0], ms(0));
        assert_eq!((pipeline.busy(), pipeline.spares()), (1, 0));
        assert_eq!(pipeline.waits_since(all[0]), Some(ms(0)));
    }
}
