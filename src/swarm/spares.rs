//! The spares: who was asked for a second copy of which block, since when, and whether it has come.
//!
//! Ours: no BEP has such a table. What is asked for twice, and why, says `endgame`.
//!
//! This is the only place where a spare is known. A peer's pipeline counts those that are still to come, as
//! they keep its line busy, and knows no more of them.
//!
//! ```text
//! spares.ask(block, peer, now);     // none of this block before
//! spares.hold(block, peer)          // it has come; since when it was asked for
//! spares.remove(block)              // settled, discarded, refused: what there was
//! ```

use super::event::{Moment, PeerKey, SPARES_MAX};
use crate::protocol::Block;
use std::collections::BTreeMap;

/// A second copy of a block, asked for in the endgame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Spare {
    /// Of whom.
    pub peer: PeerKey,
    /// Since then.
    pub at: Moment,
    /// It has come and waits in the memory of the peer's thread.
    pub held: bool,
}

/// At most one spare for each block.
#[derive(Debug, Default)]
pub(super) struct Spares {
    by_block: BTreeMap<Block, Spare>,
    /// The blocks of each peer, in the order they were asked for: nobody looks through all spares for those
    /// of one peer.
    of_peer: BTreeMap<PeerKey, Vec<Block>>,
}

impl Spares {
    /// A request for a copy goes out.
    pub fn ask(&mut self, block: Block, peer: PeerKey, at: Moment) {
        let held = false;
        let before = self.by_block.insert(block, Spare { peer, at, held });
        debug_assert!(before.is_none(), "a second spare of {block:?}");
        self.of_peer.entry(peer).or_default().push(block);
    }

    /// The spare of a block.
    pub fn of(&self, block: Block) -> Option<&Spare> {
        self.by_block.get(&block)
    }

    /// How many a peer was asked for and has not got rid of, those that have come included.
    pub fn count_of(&self, peer: PeerKey) -> usize {
        self.of_peer.get(&peer).map_or(0, Vec::len)
    }

    /// What a peer was asked for and has not sent, oldest first.
    pub fn coming_from(&self, peer: PeerKey) -> impl Iterator<Item = (Block, &Spare)> {
        let blocks = self.of_peer.get(&peer).into_iter().flatten();
        let spares = blocks.filter_map(|block| Some((*block, self.by_block.get(block)?)));
        spares.filter(|(_, spare)| !spare.held)
    }

    /// A copy has come from `peer`. Since when it was asked for; `None`: it was not, or is here already.
    pub fn hold(&mut self, block: Block, peer: PeerKey) -> Option<Moment> {
        let spare = self.by_block.get_mut(&block);
        let spare = spare.filter(|spare| spare.peer == peer && !spare.held)?;
        spare.held = true;
        Some(spare.at)
    }

    /// There is no spare of this block any more. What there was.
    pub fn remove(&mut self, block: Block) -> Option<Spare> {
        let spare = self.by_block.remove(&block)?;
        if let Some(blocks) = self.of_peer.get_mut(&spare.peer) {
            blocks.retain(|it| *it != block);
            if blocks.is_empty() {
                self.of_peer.remove(&spare.peer);
            }
        }
        Some(spare)
    }

    /// The peer is gone, and its spares with it.
    pub fn forget(&mut self, peer: PeerKey) {
        for block in self.of_peer.remove(&peer).unwrap_or_default() {
            self.by_block.remove(&block);
        }
    }

    /// Panics where a peer's list and the spares disagree, or a peer has too many.
    pub fn check_invariants(&self) {
        let mut count = 0;
        for (peer, blocks) in &self.of_peer {
            assert!((1..=SPARES_MAX).contains(&blocks.len()), "of {peer:?}");
            for block in blocks {
                assert_eq!(self.of(*block).map(|spare| spare.peer), Some(*peer));
            }
            count += blocks.len();
        }
        assert_eq!(count, self.by_block.len());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;
    use std::time::Duration;

    const ONE: PeerKey = PeerKey(1);
    const TWO: PeerKey = PeerKey(2);
    const NOW: Moment = Duration::from_secs(5);

    fn blocks() -> Vec<Block> {
        let geometry = Geometry::new(4 * 16_384, 1 << 16).unwrap();
        geometry.blocks(geometry.piece(0).unwrap()).collect()
    }

    #[test]
    fn a_spare_comes_once_and_only_from_the_peer_that_was_asked() {
        let (mut spares, blocks) = (Spares::default(), blocks());
        spares.ask(blocks[0], ONE, NOW);
        assert_eq!(spares.hold(blocks[0], TWO), None);
        assert_eq!(spares.hold(blocks[1], ONE), None);
        assert_eq!(spares.hold(blocks[0], ONE), Some(NOW));
        assert_eq!(spares.hold(blocks[0], ONE), None);
        spares.check_invariants();
    }

    #[test]
    fn what_has_come_takes_a_place_and_is_not_waited_for() {
        let (mut spares, blocks) = (Spares::default(), blocks());
        spares.ask(blocks[2], ONE, NOW);
        spares.ask(blocks[0], ONE, NOW);
        spares.ask(blocks[1], TWO, NOW);
        spares.hold(blocks[0], ONE);
        assert_eq!(spares.count_of(ONE), 2);
        let coming: Vec<_> = spares.coming_from(ONE).map(|(block, _)| block).collect();
        assert_eq!(coming, [blocks[2]]);
        spares.check_invariants();
    }

    #[test]
    fn what_is_removed_or_forgotten_leaves_nothing_behind() {
        let (mut spares, blocks) = (Spares::default(), blocks());
        spares.ask(blocks[0], ONE, NOW);
        spares.ask(blocks[1], TWO, NOW);
        spares.ask(blocks[2], TWO, NOW);
        assert_eq!(spares.remove(blocks[0]).map(|it| it.peer), Some(ONE));
        assert_eq!(spares.remove(blocks[0]), None);
        spares.check_invariants();
        spares.forget(TWO);
        spares.check_invariants();
        assert!(spares.by_block.is_empty() && spares.of_peer.is_empty());
    }
}
