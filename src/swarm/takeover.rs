//! Work goes to whoever has none: requests that wait long at one peer move to another that would answer
//! them at once.
//!
//! Ours: no BEP has this; decisions 142, 152 and 166.
//!
//! In a swarm where everybody is fast, all that is missing is asked for the moment it is heard of, of the
//! one peer that has it. By the time that peer gets round to the last of those who ask, many others have
//! the piece and nothing to send. With 24 leechers an eighth of all uplinks stood idle for this reason, and
//! the last one was done at 1.3 times the limit instead of 1.1. So ten times a second those whose pipeline is
//! empty take over what is expected latest of others; of the last hundredth they are asked for copies
//! first (`endgame`), chosen in the same way on other terms.
//!
//! ```text
//! take_over: Say(Cancel) to the holder -> Reject: its slot comes home (Returned) -> hand_on: Request to the taker
//! ```
//!
//! Who speaks the fast extension answers a cancel (BEP 6): with the block, if it was on its way, or with a
//! reject. Its slot stays where it is until then (a second at most, or `Revoke`), and hardly anything comes
//! twice. Requests to peers without the fast extension, on slow lines, or that ignored a cancel are revoked
//! at once, except the first four, whose answers may be on the way; of a peer that has given nothing since it
//! ignored one, or that has broken off, these too. The rest of a piece of which a peer has begun to send blocks stays
//! with it.
//!
//! Whoever takes a block over begins to wait anew, and two peers may each look faster than the other. So a
//! block stays twice as long each time.

use super::Swarm;
use super::endgame::may_help;
use super::event::{Action, Moment, PeerKey, SPARES_MAX};
use super::peer::Peer;
use super::picker::{Picker, Where};
use crate::protocol::Block;
use crate::protocol::peer::Message;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

/// A request younger than this stays, one for a block that was moved before for twice as long each time, up
/// to this often.
const MOVE_AGE: Duration = Duration::from_millis(50);
const DOUBLINGS_MAX: u32 = 7;
/// The first requests of a queue stay with a peer that does not say whether a cancel came in time: they may
/// be on their way. With two of them instead of four, twice as many bytes came twice.
const LEFT_ALONE: usize = 4;

/// On what terms somebody is asked for what is expected of another.
pub(super) struct Terms {
    /// The other has to be expected so many times later, and more than so many seconds.
    times: f64,
    seconds: f64,
    /// It is asked for a copy: what the other has begun with, or was asked back, is no exception.
    copy: bool,
}

/// A move costs a round trip before the block can come.
const TO_MOVE: Terms = Terms {
    times: 2.0,
    seconds: 0.05,
    copy: false,
};
/// With the terms for moving 24 simulated leechers ended at 1.088 times the limit instead of 1.085.
pub(super) const TO_COPY: Terms = Terms {
    times: 1.0,
    seconds: 0.02,
    copy: true,
};
/// A copy that has come is in its place so soon after it was given the slot, unless it was lost on the way.
const SETTLING: Duration = Duration::from_secs(1);
/// In so many seconds a peer that has begun with a piece has sent it, or else it moves all the same.
const FINISHES_WITHIN: f64 = 3.0;
/// A line on which a block takes longer than a quarter of a second, in bytes a second.
const SLOW_RATE: f64 = 64.0 * 1024.0;
/// Blocks that a peer may take over of which it is not known how fast it is.
const UNTRIED: usize = 16;

/// A request that somebody might answer sooner.
pub(super) struct Late {
    /// In how many seconds it is expected.
    expected: f64,
    holder: PeerKey,
    pub(super) block: Block,
}

/// Blocks that were taken away from somebody and have not come.
#[derive(Debug, Default)]
pub(super) struct Moves {
    /// Who is to be asked for a block that is on its way home.
    takers: BTreeMap<Block, PeerKey>,
    /// How many of them there are for each taker.
    coming: BTreeMap<PeerKey, usize>,
    /// How often each block was moved.
    times: BTreeMap<Block, u32>,
}

impl Moves {
    fn begin(&mut self, block: Block, taker: PeerKey) {
        self.taker(block);
        self.takers.insert(block, taker);
        *self.coming.entry(taker).or_default() += 1;
        *self.times.entry(block).or_default() += 1;
    }

    /// The block is here.
    pub(super) fn end(&mut self, block: Block) {
        self.taker(block);
        self.times.remove(&block);
    }

    /// Who was to have the block, which is on its way home no more.
    fn taker(&mut self, block: Block) -> Option<PeerKey> {
        let taker = self.takers.remove(&block)?;
        if let Some(coming) = self.coming.get_mut(&taker) {
            *coming -= 1;
        }
        Some(taker)
    }

    /// Forgets what is not under way any more.
    fn tidy(&mut self, picker: &Picker) {
        self.takers
            .retain(|block, _| matches!(picker.place(*block), Some(Where::Out(_))));
        self.times
            .retain(|block, _| matches!(picker.place(*block), Some(Where::Out(_) | Where::Free)));
        self.coming.clear();
        for taker in self.takers.values() {
            *self.coming.entry(*taker).or_default() += 1;
        }
    }

    /// Panics where the takers and their counts disagree.
    pub(super) fn check_invariants(&self) {
        for (taker, coming) in &self.coming {
            let takers = self.takers.values().filter(|it| *it == taker);
            assert_eq!(takers.count(), *coming, "what is coming to {taker:?}");
        }
        assert_eq!(self.takers.len(), self.coming.values().sum::<usize>());
    }

    /// How old a request for the block has to be before it is moved.
    fn age(&self, block: Block) -> Duration {
        let times = self.times.get(&block).copied().unwrap_or(0);
        MOVE_AGE * (1 << times.min(DOUBLINGS_MAX))
    }
}

impl Swarm {
    /// Takes requests away from peers that would answer them long after an idle one could.
    pub(super) fn take_over(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let mut idle: Vec<_> = self.idle(now).collect();
        if idle.is_empty() {
            return;
        }
        self.moves.tidy(&self.picker);
        self.rng.shuffle(&mut idle);
        if self.is_last() {
            let mut late = self.latest(&TO_COPY, now);
            // Who gave something last first, as the others may have fallen silent.
            let heard = |key: &PeerKey| {
                self.peers
                    .get(key)
                    .map(|peer| peer.pipeline.delivery().heard())
            };
            let mut takers: Vec<_> = idle.iter().map(|key| (heard(key), *key)).collect();
            takers.sort_by_key(|it| Reverse(it.0));
            for (_, taker) in takers {
                self.copy_from(taker, &mut late, now, actions);
            }
        }
        let mut late = self.latest(&TO_MOVE, now);
        for taker in idle {
            for Late { holder, block, .. } in self.best_for(taker, &mut late, &TO_MOVE, now) {
                if let Some(action) = self.take_from(holder, block, now) {
                    self.moves.begin(block, taker);
                    actions.push(action);
                }
            }
        }
    }

    /// Takes a request back from a peer, or asks it to give it back.
    fn take_from(&mut self, peer: PeerKey, block: Block, now: Moment) -> Option<Action> {
        let holder = self.peers.get_mut(&peer)?;
        if !answers_cancels(holder) {
            let revoked = holder.pipeline.revoke(block, now);
            return revoked.then_some(Action::Revoke { peer, block });
        }
        let message = Message::Cancel(block.into());
        let asked_back = holder.pipeline.ask_back(block, now);
        asked_back.then_some(Action::Say { peer, message })
    }

    /// A block that was taken away is home: whoever was to have it is asked. Not whoever it was taken from,
    /// whose answer to the cancel would be taken for one to the new request.
    pub(super) fn hand_on(&mut self, block: Block, now: Moment, actions: &mut Vec<Action>) {
        let Some(taker) = self.moves.taker(block) else {
            return;
        };
        let Some(peer) = self
            .peers
            .get_mut(&taker)
            .filter(|peer| may_help(peer, now))
        else {
            return;
        };
        if self.picker.settle(block, taker) {
            peer.pipeline.ask(block, now);
            actions.push(Action::Request { peer: taker, block });
        }
    }

    /// Peers that would bring at once what others bring later.
    fn idle(&self, now: Moment) -> impl Iterator<Item = PeerKey> {
        let hungry = self.hungry.iter().copied();
        hungry.filter(move |key| {
            let peer = self.peers.get(key);
            peer.is_some_and(|peer| may_help(peer, now) && peer.pipeline.is_dry())
        })
    }

    /// What may be moved or copied, what is expected last in front. Of one peer, the end of its queue first.
    pub(super) fn latest(&self, terms: &Terms, now: Moment) -> Vec<Late> {
        let mut found = Vec::new();
        for (key, peer) in self.peers.iter().filter(|(_, peer)| !peer.is_leaving()) {
            let all = terms.copy || answers_cancels(peer) || peer.pipeline.is_silent();
            let first = if all { 0 } else { LEFT_ALONE };
            for (before, asked) in peer.pipeline.asked().enumerate().skip(first) {
                let expected = peer.pipeline.remaining(asked, before, now);
                let age = now.saturating_sub(asked.at);
                let may_go = if terms.copy {
                    !asked.revoked && age >= MOVE_AGE
                } else {
                    asked.is_wanted()
                        && age >= self.moves.age(asked.block)
                        && (expected > FINISHES_WITHIN || !self.has_begun(*key, asked.block))
                };
                if may_go
                    && !(asked.settled && age < SETTLING)
                    && expected > terms.seconds
                    && !self.is_spared(asked.block)
                    && self.picker.may_spare(asked.block)
                {
                    found.push(Late {
                        expected,
                        holder: *key,
                        block: asked.block,
                    });
                }
            }
        }
        found.reverse();
        found.sort_by(|one, two| two.expected.total_cmp(&one.expected));
        found
    }

    /// Whether the peer has sent blocks of the same piece.
    fn has_begun(&self, peer: PeerKey, block: Block) -> bool {
        let begun = Where::Laid(Some(peer));
        self.picker.places(block.piece()).contains(&begun)
    }

    /// What `taker` has and would bring sooner, as much as it can use: taken out of `late`.
    pub(super) fn best_for(
        &self,
        taker: PeerKey,
        late: &mut Vec<Late>,
        terms: &Terms,
        now: Moment,
    ) -> Vec<Late> {
        let Some(peer) = self.peers.get(&taker) else {
            return Vec::new();
        };
        let coming = self.moves.coming.get(&taker).copied().unwrap_or(0);
        let room = match peer.pipeline.delivery().has_delivered() {
            true if terms.copy => (peer.pipeline.room())
                .min(SPARES_MAX.saturating_sub(self.endgame.spares.count_of(taker))),
            true => peer.pipeline.room(),
            false => UNTRIED,
        };
        let busy = peer.pipeline.busy();
        let bound = |before| {
            let here = peer.pipeline.expected(busy + before, now);
            here * terms.times + terms.seconds
        };
        // With each block that it takes the bound rises, and what comes after in the list is expected sooner.
        // Among 1,000 idle peers it is this that nearly all of the list is not looked at.
        let first = bound(coming);
        let worth = match coming < room {
            true => late.partition_point(|late| late.expected > first),
            false => 0,
        };
        let mut before = coming;
        late.extract_if(..worth, |late| {
            let takes = before < room
                && late.expected > bound(before)
                && late.holder != taker
                && peer.holds.has(late.block.piece());
            before += usize::from(takes);
            takes
        })
        .collect()
    }
}

/// Whether the peer says soon if a cancel came in time: on a slow line that, too, waits behind a block.
fn answers_cancels(peer: &Peer) -> bool {
    let rate = peer.pipeline.delivery().rate();
    let heeds = !peer.pipeline.ignores_cancels() && !peer.pipeline.is_silent();
    peer.greeting.fast && heeds && (rate <= 0.0 || rate >= SLOW_RATE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::event::{Event, Farewell};
    use super::super::scene::*;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Blocks that a peer is asked not to send.
    fn asked_back(actions: &[Action], key: u64) -> Vec<Block> {
        let geometry = Scene::of(10, &[], |_| {}).geometry;
        let cancels = actions.iter().filter_map(|action| match action {
            Action::Say {
                peer,
                message: Message::Cancel(wire),
            } if *peer == PeerKey(key) => Some(*wire),
            _ => None,
        });
        let blocks = cancels.map(|it| geometry.locate(it.piece, it.begin, it.length, it.length));
        blocks.map(Option::unwrap).collect()
    }

    fn revoked(actions: &[Action], key: u64) -> Vec<Block> {
        let revoked = actions.iter().filter_map(|action| match action {
            Action::Revoke { peer, block } if *peer == PeerKey(key) => Some(*block),
            _ => None,
        });
        revoked.collect()
    }

    /// Peer 1 was asked for all ten pieces of two blocks and is silent.
    fn all_asked_of_one() -> (Scene, Vec<Block>) {
        let mut scene = Scene::of(10, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        assert_eq!(asked.len(), 20);
        (scene, asked)
    }

    #[test]
    fn who_has_nothing_to_do_is_asked_for_what_waits_elsewhere_once_that_was_refused() {
        let (mut scene, asked) = all_asked_of_one();
        assert_eq!(requests(&scene.connect_seed(2), 2), []);
        let actions = scene.wait(SECOND);
        assert_eq!(requests(&actions, 2), []);
        let mut moved = asked_back(&actions, 1);
        assert_eq!(moved.first(), asked.last(), "the end of the queue first");
        moved.reverse();
        // As much as may be asked of somebody who has delivered nothing.
        assert_eq!(moved, asked[20 - UNTRIED..]);
        for block in moved {
            let actions = scene.give_back(1, block);
            assert_eq!(requests(&actions, 2), [block]);
            assert_eq!(requests(&actions, 1), []);
        }
    }

    #[test]
    fn who_does_not_answer_a_cancel_is_waited_for_no_longer_than_a_second() {
        let (mut scene, asked) = all_asked_of_one();
        scene.connect_seed(2);
        let moved = asked_back(&scene.wait(SECOND), 1);
        let actions = scene.wait(SECOND);
        let mut revoked = revoked(&actions, 1);
        revoked.reverse();
        assert_eq!(revoked.len(), moved.len());
        assert!(!requests(&actions, 2).contains(&asked[19]));
        assert_eq!(requests(&scene.give_back(1, asked[19]), 2), [asked[19]]);
    }

    #[test]
    fn of_who_broke_off_requests_are_taken_back_at_once() {
        let (mut scene, asked) = all_asked_of_one();
        scene.receive(1, asked[0]);
        scene.wait(SECOND * 4);
        assert_eq!(scene.swarm.pace.out_to_quiet, 19);
        scene.connect_seed(2);
        let actions = scene.wait(SECOND / 5);
        assert_eq!(asked_back(&actions, 1), []);
        assert_eq!(revoked(&actions, 1).len(), UNTRIED);
    }

    #[test]
    fn who_refuses_what_it_was_asked_back_is_asked_again_soon() {
        let (mut scene, asked) = all_asked_of_one();
        scene.connect_seed(2);
        scene.wait(SECOND);
        scene.give_back(1, asked[19]);
        scene.lose(2, Farewell::Closed);
        assert_eq!(requests(&scene.wait(SECOND / 2), 1), [asked[19]]);
    }

    #[test]
    fn without_the_fast_extension_requests_are_taken_back_but_for_the_first_ones() {
        let mut scene = Scene::of(10, &[], |_| {});
        let asked = requests(&scene.connect_plain_seed(1), 1);
        scene.connect_seed(2);
        let mut moved = revoked(&scene.wait(SECOND), 1);
        moved.reverse();
        assert_eq!(moved, asked[LEFT_ALONE..]);
    }

    #[test]
    fn a_piece_that_has_begun_to_come_stays() {
        let (mut scene, asked) = all_asked_of_one();
        scene.connect_seed(2);
        let (begun, rest) = (asked[10], asked[11]);
        assert_eq!(begun.piece(), rest.piece());
        scene.receive(1, begun);
        let moved = asked_back(&scene.wait(SECOND), 1);
        assert!(!moved.is_empty() && !moved.contains(&rest), "{moved:?}");
    }

    #[test]
    fn who_lacks_the_piece_or_chokes_us_takes_nothing_over() {
        let (mut scene, asked) = all_asked_of_one();
        scene.connect(2);
        scene.say(2, Message::HaveNone);
        scene.say(2, Message::Unchoke);
        scene.connect(3);
        scene.say(3, Message::HaveAll);
        assert_eq!(asked_back(&scene.wait(SECOND), 1), []);
        let last = asked.last().unwrap();
        let piece = last.piece().get();
        scene.say(2, Message::Have { piece });
        let moved = asked_back(&scene.wait(SECOND), 1);
        assert!(moved.iter().all(|it| it.piece() == last.piece()));
        assert_eq!(moved.len(), 2);
    }

    #[test]
    fn a_block_that_comes_before_it_is_given_back_is_asked_of_nobody() {
        let (mut scene, asked) = all_asked_of_one();
        scene.connect_seed(2);
        let moved = asked_back(&scene.wait(SECOND), 1);
        let last = *asked.last().unwrap();
        assert!(moved.contains(&last));
        assert_eq!(requests(&scene.receive(1, last), 2), []);
        let others = moved.iter().filter(|block| **block != last);
        for block in others {
            assert!(!requests(&scene.give_back(1, *block), 2).contains(&last));
        }
    }

    /// Answers a request after so many milliseconds, and refuses at once what is asked back; after so many
    /// blocks it says nothing any more.
    type Manner = (u64, usize);

    /// When all blocks are here, if they are within a minute.
    fn done_at(pieces: u32, manners: &[Manner]) -> Option<u64> {
        let mut scene = Scene::of(pieces, &[], |_| {});
        let geometry = scene.geometry;
        let mut actions = Vec::new();
        for key in 0..manners.len() as u64 {
            actions.extend(scene.connect_seed(key));
        }
        let (mut asked, mut spares) = (BTreeMap::new(), BTreeMap::new());
        let mut gives: Vec<_> = manners.iter().map(|manner| manner.1).collect();
        for millis in 0..60_000 {
            scene.now = Duration::from_millis(millis);
            if scene.swarm.wake_at().is_some_and(|at| at <= scene.now) {
                actions.extend(scene.event(Event::Woken));
            }
            while let Some(action) = actions.pop() {
                match action {
                    Action::Request { peer, block } => {
                        asked.insert((peer.0, block), millis + manners[peer.0 as usize].0);
                    }
                    Action::Say {
                        peer,
                        message: Message::Cancel(it),
                    } if gives[peer.0 as usize] > 0 => {
                        let block = geometry.locate(it.piece, it.begin, it.length, it.length);
                        if asked.remove(&(peer.0, block.unwrap())).is_some() {
                            actions.extend(scene.give_back(peer.0, block.unwrap()));
                        }
                    }
                    Action::Revoke { peer, block } => {
                        asked.remove(&(peer.0, block));
                        actions.extend(scene.give_back(peer.0, block));
                    }
                    Action::RequestSpare { peer, block } => {
                        spares.insert((peer, block), millis + manners[peer.0 as usize].0);
                    }
                    Action::Settle { peer, block } => {
                        actions.extend(scene.receive(peer.0, block));
                    }
                    Action::Discard { peer, block } => {
                        spares.remove(&(peer, block));
                    }
                    _ => {}
                }
            }
            let mut comes = |peer: u64, at: u64| {
                let left = &mut gives[peer as usize];
                let comes = at <= millis && *left > 0;
                *left -= usize::from(comes);
                comes
            };
            let here = asked.extract_if(.., |(peer, _), at| comes(*peer, *at));
            let here: Vec<_> = here.collect();
            for ((peer, block), _) in here {
                actions.extend(scene.receive(peer, block));
            }
            let here = spares.extract_if(.., |(peer, _), at| comes(peer.0, *at));
            let here: Vec<_> = here.collect();
            for ((peer, block), _) in here {
                actions.extend(scene.event(Event::Held { peer, block }));
            }
            if scene.swarm.laid().count() as u32 == 2 * pieces {
                return Some(millis);
            }
        }
        None
    }

    #[test]
    fn requests_do_not_go_to_and_fro_between_peers_that_are_as_slow() {
        for delay in [60, 200, 500, 700, 1_500, 4_000] {
            for (pieces, peers) in [(2, 2), (2, 3), (20, 2), (40, 5)] {
                let done = done_at(pieces, &vec![(delay, usize::MAX); peers]);
                let bound = 4 * delay + 2_000;
                assert!(
                    done.is_some_and(|at| at < bound),
                    "{delay} {pieces} {peers}: {done:?}"
                );
            }
        }
    }

    #[test]
    fn who_answers_nothing_keeps_a_block_from_others_for_some_seconds_at_most() {
        for delay in [60, 300, 1_000] {
            for honest in [1, 2] {
                let mut manners = vec![(delay, usize::MAX); honest];
                manners.push((delay, 0));
                let done = done_at(60, &manners);
                let alone = done_at(60, &manners[..honest]).unwrap();
                let bound = alone + 12_000;
                assert!(
                    done.is_some_and(|at| at < bound),
                    "{delay} {honest}: {done:?} {alone}"
                );
            }
        }
    }

    #[test]
    fn who_gives_a_little_and_falls_silent_delays_the_end_by_some_seconds_at_most() {
        for silent in [2, 4, 16] {
            for gives in [20, 60] {
                let mut manners = vec![(60, usize::MAX)];
                manners.extend((0..silent).map(|more| (20, gives + more)));
                let done = done_at(400, &manners);
                let alone = done_at(400, &manners[..1]).unwrap();
                let bound = alone + 8_000;
                assert!(
                    done.is_some_and(|at| at < bound),
                    "{silent} {gives}: {done:?} {alone}"
                );
            }
        }
    }
}
