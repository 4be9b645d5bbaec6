//! The endgame: when every missing block is out, the slowest peers decide when we are done. So the
//! oldest requests are repeated to peers that have nothing else to do, without a right to write.
//!
//! ```text
//! RequestSpare -> Held: the first holder is revoked; its slot comes home and goes to the spare
//!              -> the first holder delivers before that: the spare is discarded
//! ```
//!
//! One spare a block, two a peer at the most, and none for a block asked for a moment ago: the bytes
//! fetched twice stay few whatever the number of peers.

use super::Swarm;
use super::event::{Action, Moment, PeerKey};
use super::peer::Peer;
use super::picker::Where;
use super::pipeline::SPARES_MAX;
use crate::protocol::Block;
use std::collections::BTreeMap;
use std::time::Duration;

/// A request younger than this is not repeated: it may be answered any moment.
const SPARE_AGE: Duration = Duration::from_millis(500);
/// A spare that has not come for so long will not.
const SPARE_PATIENCE: Duration = Duration::from_secs(30);
/// Requests of one peer that are looked at, oldest first.
const PROBES_MAX: usize = 8;

/// Who was asked for a second copy of which block.
#[derive(Debug, Default)]
pub(super) struct Endgame {
    spares: BTreeMap<Block, PeerKey>,
}

impl Endgame {
    /// Panics where the spares here and those in the pipes disagree.
    pub(super) fn check_invariants(&self, peers: &BTreeMap<PeerKey, Peer>) {
        let mut count = 0;
        for (key, peer) in peers {
            assert!(peer.pipe.spares.len() <= SPARES_MAX);
            for spare in &peer.pipe.spares {
                assert_eq!(self.spares.get(&spare.block), Some(key));
            }
            count += peer.pipe.spares.len();
        }
        assert_eq!(count, self.spares.len());
    }
}

impl Swarm {
    /// Asks a peer that has nothing else to do for copies of the blocks that are out the longest.
    pub(super) fn ask_for_spares(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        while let Some(block) = self.oldest_out(key, now) {
            let Some(peer) = self.peers.get_mut(&key) else {
                return;
            };
            peer.pipe.ask_spare(block, now);
            self.discard_spare(block, actions);
            self.endgame.spares.insert(block, key);
            actions.push(Action::RequestSpare { peer: key, block });
        }
    }

    fn oldest_out(&self, key: PeerKey, now: Moment) -> Option<Block> {
        let peer = self.peers.get(&key)?;
        let may = !peer.chokes_us && !peer.resting && peer.may_be_asked();
        let may = may && !peer.pipe.is_snubbed();
        if !may || peer.pipe.spares.len() >= SPARES_MAX || peer.pipe.room() == 0 {
            return None;
        }
        let others = self.peers.iter().filter(|(other, _)| **other != key);
        others
            .flat_map(|(_, other)| other.pipe.asked().take(PROBES_MAX))
            .filter(|asked| {
                !asked.revoked
                    && now.saturating_sub(asked.at) >= SPARE_AGE
                    && peer.holds.has(asked.block.piece())
                    && self.wants_spare(asked.block, peer, now)
                    && self.picker.may_spare(asked.block)
            })
            .min_by_key(|asked| (asked.at, asked.block))
            .map(|asked| asked.block)
    }

    /// Whether `peer` may be asked for a copy of `block`: nobody else is, or only somebody who has never
    /// delivered anything, and `peer` has. The attack: peers that claim everything and give nothing hold
    /// a block and its spare, until the patience with both is over.
    fn wants_spare(&self, block: Block, peer: &Peer, now: Moment) -> bool {
        let Some(other) = self.endgame.spares.get(&block) else {
            return true;
        };
        let Some(other) = self.peers.get(other) else {
            return true;
        };
        let mut spares = other.pipe.spares.iter();
        let idle = spares
            .any(|it| it.block == block && !it.held && now.saturating_sub(it.at) >= SPARE_AGE);
        idle && peer.pipe.has_delivered() && !other.pipe.has_delivered()
    }

    /// A spare has come: its block's slot is fetched from whoever has it.
    pub(super) fn held(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let known = self.endgame.spares.get(&block) == Some(&key);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.leaving {
            return;
        }
        if !known || !peer.pipe.held(block, now) {
            actions.push(Action::Discard { peer: key, block });
            return;
        }
        match self.picker.place(block) {
            Some(Where::Out(holder)) => {
                let holding = self.peers.get_mut(&holder);
                // One that is leaving sends its slots home anyway.
                if holding.is_some_and(|it| !it.leaving && it.pipe.revoke(block)) {
                    let peer = holder;
                    actions.push(Action::Revoke { peer, block });
                }
            }
            Some(Where::Free) => self.settle_spare(block, now, actions),
            Some(Where::Laid(_)) | None => self.discard_spare(block, actions),
        }
    }

    /// The block's slot is home: whoever holds its spare gets it. A spare that has not come is given
    /// up, the block is asked for as any other.
    pub(super) fn settle_spare(&mut self, block: Block, now: Moment, actions: &mut Vec<Action>) {
        let Some(key) = self.endgame.spares.get(&block).copied() else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let mut spares = peer.pipe.spares.iter();
        let held = spares.any(|spare| spare.block == block && spare.held);
        if held && self.picker.settle(block, key) {
            peer.pipe.settle(block, now);
            self.endgame.spares.remove(&block);
            actions.push(Action::Settle { peer: key, block });
        } else {
            self.discard_spare(block, actions);
        }
    }

    /// Nobody needs a second copy of this block any more.
    pub(super) fn discard_spare(&mut self, block: Block, actions: &mut Vec<Action>) {
        let Some(key) = self.endgame.spares.remove(&block) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let mut spares = peer.pipe.spares.iter();
        if spares.any(|spare| spare.block == block && spare.held) {
            self.ledger.wasted(block.length());
        }
        peer.pipe.drop_spare(block);
        actions.push(Action::Discard { peer: key, block });
    }

    /// The peer will not send this spare; says whether there was one.
    pub(super) fn refuse_spare(&mut self, key: PeerKey, block: Block) -> bool {
        if self.endgame.spares.get(&block) != Some(&key) {
            return false;
        }
        self.endgame.spares.remove(&block);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.pipe.drop_spare(block);
        }
        true
    }

    /// Gives up the spares of a peer that have not come: all (it chokes us, or hangs up), or those
    /// that have been out for too long.
    pub(super) fn drop_spares(
        &mut self,
        key: PeerKey,
        late_at: Option<Moment>,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get(&key) else {
            return;
        };
        let late = |at: Moment| late_at.is_none_or(|now| now.saturating_sub(at) >= SPARE_PATIENCE);
        let spares = peer.pipe.spares.iter();
        let late = spares.filter(|spare| !spare.held && late(spare.at));
        for block in late.map(|spare| spare.block).collect::<Vec<_>>() {
            self.discard_spare(block, actions);
        }
    }

    /// The peer is gone and its spares with it.
    pub(super) fn forget_spares(&mut self, key: PeerKey) {
        self.endgame.spares.retain(|_, holder| *holder != key);
    }
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

    /// Peer 1 has all four blocks out, peer 2 has nothing to do but two spares.
    fn endgame() -> (Scene, Vec<Block>, Vec<Block>) {
        let mut scene = Scene::of(2, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        assert_eq!(asked.len(), 4);
        let early = scene.connect_seed(2);
        assert!(
            !early
                .iter()
                .any(|it| matches!(it, Action::RequestSpare { .. }))
        );
        let spares = scene.wait(SECOND);
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
    fn a_spare_under_way_is_discarded_when_the_block_is_free_again() {
        let (mut scene, _, spares) = endgame();
        let block = spares[0];
        let actions = scene.give_back(1, block);
        assert!(actions.contains(&Action::Discard { peer: TWO, block }));
        assert_eq!(requests(&actions, 2), [block]);
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
    fn a_copy_nobody_asked_for_is_thrown_away() {
        let (mut scene, asked, _) = endgame();
        let block = asked[3];
        let actions = scene.event(Event::Held { peer: TWO, block });
        assert!(actions.contains(&Action::Discard { peer: TWO, block }));
    }
}
