//! The endgame: when every missing block is out, the slowest peers decide when we are done.
//!
//! Standard: BEP 3 asks everybody for everything that is missing. Ours: one copy at a time, without a right
//! to write; decisions 107 and 168.
//!
//! What others would bring later is taken over by whoever has nothing to do (`takeover`). That takes a round
//! trip, which the last hundredth of the book does not wait for: who would bring a block sooner is asked for
//! a copy of it at once, without a right to write. So is, of whatever size the rest is, what nobody answers
//! for long.
//!
//! ```text
//! out ── RequestSpare ──► out, ─┬─ its holder delivers ──► laid; Discard
//!                       a copy  ├─ the slot comes home ──► Settle: out to the taker, as any request
//!                    under way  └─ Held ──► Revoke: out, ─┬─ its holder delivers ──► laid; Discard
//!                                            a copy held  └─ the slot comes home ──► Settle: laid soon
//! ```
//!
//! A copy that was asked for long ago and has not come when the slot comes home is discarded instead, and the
//! block is free.
//!
//! A block has at most one spare at a time. Spares for the last hundredth cost that hundredth once more at
//! most; spares for requests that nobody answers are asked for only after 2.5 s.

use super::event::{Action, Moment, PeerKey};
use super::peer::Peer;
use super::picker::Where;
use super::spares::{Spare, Spares};
use super::takeover::{Late, TO_COPY};
use super::{Facts, Swarm};
use crate::protocol::Block;
use crate::protocol::geometry::BLOCK_LENGTH;
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// A request younger than this is not repeated: it may be answered any moment. With 0.8 s seven times as many
/// bytes came twice as with 2.5 s, and no swarm was done sooner.
const SPARE_AGE: Duration = Duration::from_millis(2_500);
/// A spare of somebody who answers quickly that has not come for so long will not, and others would bring it
/// meanwhile. Who has given nothing yet may be slow.
const SPARE_PATIENCE: Duration = Duration::from_secs(3);
const SPARE_PATIENCE_FIRST: Duration = Duration::from_secs(30);
/// The last of the book: so many blocks of all there are, and so many at most.
const LAST: (u64, usize) = (100, 64);
/// Copies asked of one peer of what nobody answers.
const OLD_MAX: usize = 2;
/// Requests of one peer that are looked at, oldest first.
const PROBES_MAX: usize = 8;
/// How long the list of old requests is used before it is made anew: to look through 1,000 peers at each block was
/// dear (docs/measured/growth.md).
const LIST_LASTS: Duration = Duration::from_millis(100);
/// Entries of that list that are looked at to find one a peer can help with.
const HELP_PROBES_MAX: usize = 64;

/// What of the rest is asked for twice, and what may be.
#[derive(Debug, Default)]
pub(super) struct Endgame {
    pub(super) spares: Spares,
    /// Requests that are old enough to be repeated and since when they are out, oldest first. Some may
    /// have been answered since the list was made.
    old: VecDeque<(Moment, Block)>,
    listed: Option<Moment>,
}

impl Endgame {
    /// Panics where a pipeline counts other spares than those that are to come.
    pub(super) fn check_invariants(&self, peers: &BTreeMap<PeerKey, Peer>) {
        self.spares.check_invariants();
        for (key, peer) in peers {
            let coming = self.spares.coming_from(*key).count();
            assert_eq!(peer.pipeline.spares(), coming, "spares of {key:?}");
        }
    }
}

impl Swarm {
    /// Asks a peer that has nothing else to do for copies of the blocks that are out the longest.
    pub(super) fn ask_for_spares(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        while let Some(block) = self.oldest_out(key, now) {
            self.discard_spare(block, actions);
            self.ask_for_spare(key, block, now, actions);
        }
    }

    /// Asks a peer that has just run out of work for copies of the last blocks. Peers that have been idle for
    /// longer wait for the clock (`take_over`): with 1,000 peers it would cost too much to look through all
    /// of them for each idle one at each event.
    pub(super) fn ask_for_last(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        if self.may_copy(key, now) && self.is_last() {
            let mut late = self.latest(&TO_COPY, now);
            self.copy_from(key, &mut late, now, actions);
        }
    }

    /// Whether so little is missing, all of it asked for, that a copy costs less than to wait.
    pub(super) fn is_last(&self) -> bool {
        let (part, most) = LAST;
        if self.picker.out() > most {
            return false;
        }
        let Facts {
            geometry, wanted, ..
        } = &self.facts;
        let last = geometry.last_piece();
        let ends = last.is_some_and(|last| wanted.has(last));
        let blocks = geometry.size_of(wanted.count(), ends) / u64::from(BLOCK_LENGTH) / part;
        self.picker.out() as u64 <= blocks && self.picker.is_endgame()
    }

    /// Asks a peer for copies of what others bring later, out of `late`. Only peers that have delivered
    /// before are asked: each block gets one copy, and one wasted on an unproven peer cannot be asked of a
    /// proven one.
    pub(super) fn copy_from(
        &mut self,
        key: PeerKey,
        late: &mut Vec<Late>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if self.may_copy(key, now) {
            for Late { block, .. } in self.best_for(key, late, &TO_COPY, now) {
                self.ask_for_spare(key, block, now, actions);
            }
        }
    }

    fn may_copy(&self, key: PeerKey, now: Moment) -> bool {
        let peer = self.peers.get(&key);
        let idle = peer.filter(|peer| may_help(peer, now) && peer.pipeline.is_dry());
        idle.is_some_and(|peer| peer.pipeline.delivery().has_delivered())
    }

    fn ask_for_spare(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.pipeline.ask_spare(now);
            self.endgame.spares.ask(block, key, now);
            actions.push(Action::RequestSpare { peer: key, block });
        }
    }

    /// Whether somebody was asked for a second copy of `block`.
    pub(super) fn is_spared(&self, block: Block) -> bool {
        self.endgame.spares.of(block).is_some()
    }

    /// Whether an idle peer may find something to copy; to ask costs next to nothing.
    pub(super) fn copies_wanted(&self, now: Moment) -> bool {
        let stale = |at: Moment| now >= at + LIST_LASTS;
        self.picker.is_endgame()
            && (!self.endgame.old.is_empty() || self.endgame.listed.is_none_or(stale))
    }

    fn oldest_out(&mut self, key: PeerKey, now: Moment) -> Option<Block> {
        let peer = self.peers.get(&key)?;
        if !may_help(peer, now)
            || self.endgame.spares.count_of(key) >= OLD_MAX
            || peer.pipeline.room() == 0
        {
            return None;
        }
        if self.endgame.listed.is_none_or(|at| now >= at + LIST_LASTS) {
            self.endgame.old = self.list_old(now);
            self.endgame.listed = Some(now);
        }
        let peer = self.peers.get(&key)?;
        let mut probe = 0;
        while probe < HELP_PROBES_MAX {
            let (at, block) = *self.endgame.old.get(probe)?;
            let Some(Where::Out(holder)) = self.picker.place(block) else {
                self.endgame.old.remove(probe);
                continue;
            };
            if holder == key
                || !peer.holds.has(block.piece())
                || !self.wants_spare(block, peer, now)
            {
                probe += 1;
                continue;
            }
            self.endgame.old.remove(probe);
            let holding = self.peers.get(&holder);
            // Taken back, or asked anew meanwhile: it is as if it were young.
            if holding.is_some_and(|it| it.pipeline.waits_since(block) == Some(at)) {
                return Some(block);
            }
        }
        None
    }

    /// The requests that may be repeated, oldest first.
    fn list_old(&self, now: Moment) -> VecDeque<(Moment, Block)> {
        let all = self.peers.values();
        let first = all.flat_map(|peer| {
            // Who serves one of many in turn takes long for each, and is not late.
            let late = SPARE_AGE.max(peer.pipeline.delivery().usual() * 2);
            let asked = peer.pipeline.asked().take(PROBES_MAX);
            asked.filter(move |asked| now.saturating_sub(asked.at) >= late)
        });
        let mut old: Vec<_> = first
            .filter(|asked| {
                asked.is_wanted()
                    && self.spare_is_idle(asked.block, now)
                    && self.picker.may_spare(asked.block)
            })
            .map(|asked| (asked.at, asked.block))
            .collect();
        old.sort_unstable();
        old.into()
    }

    /// Whether somebody may be asked for a copy of `block`: nobody else is, or only somebody who has never
    /// delivered anything. The attack: peers that claim everything and give nothing hold a block and its
    /// spare, until the patience with both is over.
    fn spare_is_idle(&self, block: Block, now: Moment) -> bool {
        let Some(spare) = self.endgame.spares.of(block) else {
            return true;
        };
        let other = self.peers.get(&spare.peer);
        let idle = !spare.held && now.saturating_sub(spare.at) >= SPARE_AGE;
        idle && other.is_none_or(|other| !other.pipeline.delivery().has_delivered())
    }

    /// Whether that somebody may be `peer`: one who has delivered, where another has the spare already.
    fn wants_spare(&self, block: Block, peer: &Peer, now: Moment) -> bool {
        !self.is_spared(block)
            || peer.pipeline.delivery().has_delivered() && self.spare_is_idle(block, now)
    }

    /// A spare has come: its block's slot is fetched from whoever has it.
    pub(super) fn held(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.is_leaving() {
            return;
        }
        if peer.pipeline.waits_since(block).is_some() {
            // It was given its slot while this was on its way to us.
            return;
        }
        let Some(at) = self.endgame.spares.hold(block, key) else {
            self.ledger.wasted(block.length());
            actions.push(Action::Discard { peer: key, block });
            return;
        };
        peer.pipeline.spare_came(block, at, now);
        peer.rest.end();
        match self.picker.place(block) {
            Some(Where::Out(holder)) => {
                let holding = self.peers.get_mut(&holder);
                // One that is leaving sends its slots home anyway.
                if holding.is_some_and(|it| !it.is_leaving() && it.pipeline.revoke(block, now)) {
                    let peer = holder;
                    actions.push(Action::Revoke { peer, block });
                }
            }
            Some(Where::Free) => self.settle_spare(block, now, actions),
            Some(Where::Laid(_)) | None => self.discard_spare(block, actions),
        }
    }

    /// The block's slot is home: whoever holds its spare gets it, or is about to. A spare that is long in
    /// coming is given up, the block is asked for as any other.
    pub(super) fn settle_spare(&mut self, block: Block, now: Moment, actions: &mut Vec<Action>) {
        let Some(spare) = self.endgame.spares.of(block).copied() else {
            return;
        };
        let key = spare.peer;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let young = now.saturating_sub(spare.at) < SPARE_AGE;
        if (spare.held || young) && self.picker.settle(block, key) {
            self.endgame.spares.remove(block);
            match spare.held {
                true => peer.pipeline.settle_held(block, now),
                false => peer.pipeline.settle_coming(block, spare.at),
            }
            actions.push(Action::Settle { peer: key, block });
        } else {
            self.discard_spare(block, actions);
        }
    }

    /// Nobody needs a second copy of this block any more.
    pub(super) fn discard_spare(&mut self, block: Block, actions: &mut Vec<Action>) {
        let Some(spare) = self.remove_spare(block) else {
            return;
        };
        if spare.held {
            self.ledger.wasted(block.length());
        }
        let peer = spare.peer;
        actions.push(Action::Discard { peer, block });
    }

    /// The peer will not send this spare; says whether there was one.
    pub(super) fn refuse_spare(&mut self, key: PeerKey, block: Block) -> bool {
        let spare = self.endgame.spares.of(block);
        let refused = spare.is_some_and(|spare| spare.peer == key);
        refused && self.remove_spare(block).is_some()
    }

    /// Out of the table, and out of the count of the pipeline that waits for it.
    fn remove_spare(&mut self, block: Block) -> Option<Spare> {
        let spare = self.endgame.spares.remove(block)?;
        if !spare.held
            && let Some(peer) = self.peers.get_mut(&spare.peer)
        {
            peer.pipeline.spare_dropped();
        }
        Some(spare)
    }

    /// Gives up the spares of a peer that have not come: all (it chokes us, or hangs up), or those
    /// that have been out for too long.
    pub(super) fn drop_spares(
        &mut self,
        key: PeerKey,
        late_at: Option<Moment>,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let patience = match peer.pipeline.delivery().has_delivered() {
            true => SPARE_PATIENCE.max(peer.pipeline.delivery().usual() * 2),
            false => SPARE_PATIENCE_FIRST,
        };
        let late = |at: Moment| late_at.is_none_or(|now| now.saturating_sub(at) >= patience);
        let coming = self.endgame.spares.coming_from(key);
        let late = coming.filter(|(_, spare)| late(spare.at));
        let late: Vec<_> = late.map(|(block, _)| block).collect();
        if late_at.is_some() && !late.is_empty() {
            peer.pipeline.disappointed();
        }
        for block in late {
            self.discard_spare(block, actions);
        }
    }
}

/// Whether an idle peer may be trusted with what others are late with. The attack: unchoke, have all, give a
/// little, and be given again and again what others would bring: 196 such peers beside four honest ones.
pub(super) fn may_help(peer: &Peer, now: Moment) -> bool {
    let waits = peer.chokes_us || peer.rest.lasts(now) || !peer.may_be_asked();
    let trusted = !peer.pipeline.is_snubbed() && !peer.pipeline.is_silent();
    !waits && trusted && !peer.pipeline.is_relieved(now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::event::Event;
    use super::super::scene::*;
    use super::*;
    use crate::protocol::peer::Message;

    const SECOND: Duration = Duration::from_secs(1);
    const ONE: PeerKey = PeerKey(1);
    const TWO: PeerKey = PeerKey(2);

    /// Peer 1 has all four blocks out and does not answer cancels, peer 2 has nothing to do but two spares.
    fn endgame() -> (Scene, Vec<Block>, Vec<Block>) {
        let mut scene = Scene::of(2, &[], |_| {});
        let mut asked = requests(&scene.connect_plain_seed(1), 1);
        asked.sort();
        assert_eq!(asked.len(), 4);
        let early = scene.connect_seed(2);
        assert!(
            !early
                .iter()
                .any(|it| matches!(it, Action::RequestSpare { .. }))
        );
        let spares = scene.wait(SECOND * 3);
        let spares = spares.iter().filter_map(|action| match action {
            Action::RequestSpare { peer: TWO, block } => Some(*block),
            _ => None,
        });
        let spares: Vec<_> = spares.collect();
        assert_eq!(spares, asked[..2]);
        (scene, asked, spares)
    }

    #[test]
    fn a_spare_that_comes_first_gets_the_slot_of_the_slow_one() {
        let (mut scene, _, spares) = endgame();
        let block = spares[0];
        let actions = scene.event(Event::Held { peer: TWO, block });
        assert!(actions.contains(&Action::Revoke { peer: ONE, block }));
        let actions = scene.give_back(1, block);
        assert!(actions.contains(&Action::Settle { peer: TWO, block }));
        scene.receive(2, block);
        assert_eq!(scene.swarm.laid().collect::<Vec<_>>(), [block]);
    }

    #[test]
    fn a_spare_that_comes_second_is_discarded() {
        let (mut scene, _, spares) = endgame();
        let block = spares[0];
        scene.event(Event::Held { peer: TWO, block });
        let actions = scene.receive(1, block);
        assert!(actions.contains(&Action::Discard { peer: TWO, block }));
        assert_eq!(scene.swarm.standing(scene.now).wasted, 16_384);
    }

    #[test]
    fn a_spare_under_way_gets_the_slot_that_comes_home() {
        let (mut scene, _, spares) = endgame();
        let block = spares[0];
        let actions = scene.give_back(1, block);
        assert!(actions.contains(&Action::Settle { peer: TWO, block }));
        scene.receive(2, block);
        assert_eq!(scene.swarm.laid().collect::<Vec<_>>(), [block]);
    }

    #[test]
    fn a_spare_that_is_long_in_coming_is_given_up_when_the_block_is_free_again() {
        let (mut scene, _, spares) = endgame();
        let block = spares[0];
        scene.wait(SPARE_AGE);
        let actions = scene.give_back(1, block);
        assert!(actions.contains(&Action::Discard { peer: TWO, block }));
        assert_eq!(requests(&actions, 2), [block]);
    }

    /// Four blocks of `pieces` times two are missing, all asked of peer 1, which is silent. Peer 2 has given
    /// two blocks at once and has just come by the others. What half a second brings, and a little more.
    fn four_blocks_missing_of(pieces: u32) -> (Scene, Vec<Block>, Vec<Action>) {
        let have: Vec<_> = (3..pieces).collect();
        let mut scene = Scene::of(pieces, &have, |_| {});
        scene.connect(2);
        scene.say(2, Message::Have { piece: 0 });
        let first = requests(&scene.say(2, Message::Unchoke), 2);
        assert_eq!(first.len(), 2);
        let asked = requests(&scene.connect_seed(1), 1);
        assert_eq!(asked.len(), 4);
        scene.now += Duration::from_millis(10);
        for block in first {
            scene.receive(2, block);
        }
        for piece in 1..3 {
            assert_eq!(requests(&scene.say(2, Message::Have { piece }), 2), []);
        }
        let actions = scene.wait(Duration::from_millis(750));
        (scene, asked, actions)
    }

    fn copies(actions: &[Action], key: u64) -> Vec<Block> {
        let copies = actions.iter().filter_map(|action| match action {
            Action::RequestSpare { peer, block } if *peer == PeerKey(key) => Some(*block),
            _ => None,
        });
        let mut copies: Vec<_> = copies.collect();
        copies.sort();
        copies
    }

    fn is_taking(action: &Action) -> bool {
        match action {
            Action::Say { message, .. } => matches!(message, Message::Cancel(_)),
            Action::Revoke { .. } => true,
            _ => false,
        }
    }

    #[test]
    fn the_last_hundredth_is_asked_for_twice_as_soon_as_another_would_bring_it_sooner() {
        let (mut scene, mut asked, actions) = four_blocks_missing_of(200);
        asked.sort();
        assert_eq!(copies(&actions, 2), asked);
        assert!(!actions.iter().any(is_taking), "{actions:?}");
        let block = asked[0];
        let actions = scene.event(Event::Held { peer: TWO, block });
        assert!(actions.contains(&Action::Revoke { peer: ONE, block }));
    }

    #[test]
    fn of_what_is_more_than_a_hundredth_no_copies_are_asked_for_before_it_is_old() {
        let (_, asked, actions) = four_blocks_missing_of(199);
        assert_eq!(copies(&actions, 2), []);
        assert_eq!(
            actions.iter().filter(|it| is_taking(it)).count(),
            asked.len()
        );
    }

    #[test]
    fn who_has_given_nothing_yet_is_asked_for_no_copy_of_the_last_blocks() {
        let (mut scene, asked, _) = four_blocks_missing_of(200);
        scene.lose(2, super::super::event::Farewell::Closed);
        scene.connect_seed(3);
        let actions = scene.wait(SECOND);
        assert_eq!(copies(&actions, 3), []);
        assert_eq!(
            actions.iter().filter(|it| is_taking(it)).count(),
            asked.len()
        );
    }

    #[test]
    fn what_was_asked_back_and_is_not_answered_may_be_copied_at_the_end() {
        let (mut scene, asked, actions) = four_blocks_missing_of(199);
        assert!(actions.iter().any(is_taking));
        // One comes after all: what is left is less than a hundredth.
        scene.receive(1, asked[0]);
        let mut left = asked[1..].to_vec();
        left.sort();
        let actions = scene.wait(Duration::from_millis(250));
        assert_eq!(copies(&actions, 2), left);
    }

    #[test]
    fn spares_go_with_their_peer() {
        for end in 0..3 {
            let (mut scene, asked, spares) = endgame();
            match end {
                0 => scene.lose(2, super::super::event::Farewell::Closed),
                1 => scene.say(2, Message::Choke),
                _ => scene.say(2, Message::Reject(spares[0].into())),
            };
            asked.iter().for_each(|block| {
                scene.receive(1, *block);
            });
            assert_eq!(scene.swarm.laid().count(), 4);
        }
    }

    #[test]
    fn what_a_slow_peer_would_bring_much_later_is_asked_of_a_fast_one() {
        let mut scene = Scene::of(40, &[], |_| {});
        let fast = requests(&scene.connect_seed(1), 1);
        let slow = requests(&scene.connect_plain_seed(2), 2);
        assert_eq!((fast.len(), slow.len()), (32, 32));
        let mut under_way = std::collections::VecDeque::from(fast);
        while let Some(block) = under_way.pop_front() {
            scene.now += Duration::from_millis(10);
            let actions = scene.receive(1, block);
            under_way.extend(requests(&actions, 1));
            for action in actions {
                if let Action::RequestSpare { peer, block } = action {
                    scene.event(Event::Held { peer, block });
                }
            }
        }
        // A second for its first block: the last would be here in half a minute.
        scene.now = SECOND;
        let mut actions = scene.receive(2, slow[0]);
        actions.extend(scene.wait(SECOND));
        let mut taken: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Revoke { peer: TWO, block } => Some(*block),
                _ => None,
            })
            .collect();
        assert!(taken.len() >= 4, "{taken:?}");
        assert!(!taken.contains(&slow[1]) && !taken.contains(&slow[2]));
        let mut again = Vec::new();
        for block in &taken {
            let actions = scene.give_back(2, *block);
            assert_eq!(requests(&actions, 2), []);
            again.extend(requests(&actions, 1));
        }
        taken.sort();
        again.sort();
        assert_eq!(again, taken);
    }

    #[test]
    fn nothing_is_taken_from_peers_that_are_as_fast() {
        let mut scene = Scene::of(32, &[], |_| {});
        let first = requests(&scene.connect_seed(1), 1);
        let second = requests(&scene.connect_seed(2), 2);
        assert_eq!((first.len(), second.len()), (32, 32));
        for (one, two) in first.iter().zip(&second[..16]) {
            scene.now += Duration::from_millis(10);
            scene.receive(1, *one);
            scene.receive(2, *two);
        }
        let taken = scene.wait(Duration::from_millis(250));
        let takes = |action: &Action| match action {
            Action::Say { message, .. } => matches!(message, Message::Cancel(_)),
            Action::Revoke { .. } => true,
            _ => false,
        };
        assert!(!taken.iter().any(takes), "{taken:?}");
    }

    #[test]
    fn a_copy_that_comes_just_after_the_block_is_wasted_and_counted() {
        let (mut scene, asked, _) = four_blocks_missing_of(200);
        let block = asked[0];
        scene.receive(1, block);
        assert_eq!(scene.swarm.standing(scene.now).wasted, 0);
        let actions = scene.event(Event::Held { peer: TWO, block });
        assert!(actions.contains(&Action::Discard { peer: TWO, block }));
        assert_eq!(scene.swarm.standing(scene.now).wasted, 16_384);
    }

    #[test]
    fn a_copy_that_does_not_come_is_asked_of_another_and_no_more_of_this_peer() {
        let (mut scene, mut asked, _) = four_blocks_missing_of(201);
        asked.sort();
        let actions = scene.wait(SECOND * 10);
        let discarded = actions
            .iter()
            .filter(|it| matches!(it, Action::Discard { peer: TWO, .. }));
        assert_eq!(discarded.count(), asked.len());
        assert_eq!(copies(&actions, 2), []);
        scene.say(2, Message::Choke);
        assert_eq!(copies(&scene.say(2, Message::Unchoke), 2), []);
    }

    #[test]
    fn what_two_silent_peers_hold_between_them_is_asked_of_who_delivers_after_as_long_as_always() {
        let mut scene = Scene::of(4, &[], |_| {});
        scene.connect(3);
        scene.say(3, Message::Have { piece: 3 });
        for block in requests(&scene.say(3, Message::Unchoke), 3) {
            scene.now += Duration::from_millis(10);
            scene.receive(3, block);
        }
        // Without the fast extension the first four are left to it, whatever comes.
        let asked = requests(&scene.connect_plain_seed(1), 1);
        assert_eq!(asked.len(), 6);
        scene.wait(SECOND * 5);
        let actions = [scene.connect_seed(2), scene.wait(SECOND / 4)].concat();
        let copied = copies(&actions, 2);
        assert_eq!(copied.len(), OLD_MAX);
        assert!(actions.iter().any(is_taking), "{actions:?}");
        for piece in 0..3 {
            if copied.iter().any(|it| it.piece() == scene.piece(piece)) {
                scene.say(3, Message::Have { piece });
            }
        }
        assert_eq!(copies(&scene.wait(SECOND * 2), 3), []);
        assert_eq!(copies(&scene.wait(SECOND), 3), copied);
    }

    #[test]
    fn a_copy_nobody_asked_for_is_thrown_away() {
        let (mut scene, asked, _) = endgame();
        let block = asked[3];
        let actions = scene.event(Event::Held { peer: TWO, block });
        assert!(actions.contains(&Action::Discard { peer: TWO, block }));
    }
}
