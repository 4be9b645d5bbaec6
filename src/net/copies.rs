//! Second copies asked of this peer in the endgame: their slots are out elsewhere, so what comes waits in memory.

use super::given_up::GivenUp;
use crate::protocol::Block;
use crate::protocol::peer::WireBlock;
use crate::swarm::event::SPARES_MAX;

/// A second copy asked for in the endgame.
#[derive(Debug)]
struct Spare {
    block: Block,
    /// `None` until it has arrived.
    bytes: Option<Vec<u8>>,
}

impl Spare {
    fn is_due(&self) -> bool {
        self.bytes.is_none()
    }
}

/// The spares of one connection. There are few.
#[derive(Debug, Default)]
pub(super) struct Copies {
    spares: Vec<Spare>,
}

impl Copies {
    /// Notes that one is to be asked for; false if there are enough already.
    pub(super) fn expect(&mut self, block: Block) -> bool {
        let room = self.spares.len() < SPARES_MAX;
        if room {
            self.spares.push(Spare { block, bytes: None });
        }
        room
    }

    /// Whether one is still to come.
    pub(super) fn are_due(&self) -> bool {
        self.spares.iter().any(Spare::is_due)
    }

    /// Takes one out: `None` if there is none, `Some(None)` if it has not come.
    pub(super) fn take(&mut self, block: Block) -> Option<Option<Vec<u8>>> {
        let at = self.spares.iter().position(|it| it.block == block)?;
        Some(self.spares.swap_remove(at).bytes)
    }

    /// The peer choked us and answers none of those that have not come.
    pub(super) fn give_up(&mut self, given_up: &mut GivenUp) {
        for spare in self.spares.extract_if(.., |spare| spare.is_due()) {
            given_up.add(WireBlock::from(spare.block));
        }
    }

    /// The peer will not send this one. False if it was not to.
    pub(super) fn refuse(&mut self, block: WireBlock) -> bool {
        let before = self.spares.len();
        self.spares
            .retain(|it| !it.is_due() || WireBlock::from(it.block) != block);
        self.spares.len() < before
    }

    /// Takes out the one whose payload begins, if it is one. Asked for with another length: that length.
    pub(super) fn begin(&mut self, block: WireBlock) -> Result<Option<Block>, u32> {
        let begins_there = |spare: &Spare| {
            let own = WireBlock::from(spare.block);
            spare.is_due() && own.piece == block.piece && own.begin == block.begin
        };
        match self.spares.iter().position(begins_there) {
            Some(at) if self.spares[at].block.length() == block.length => {
                Ok(Some(self.spares.swap_remove(at).block))
            }
            Some(at) => Err(self.spares[at].block.length()),
            None => Ok(None),
        }
    }

    /// One has come.
    pub(super) fn keep(&mut self, block: Block, bytes: Vec<u8>) {
        let bytes = Some(bytes);
        self.spares.push(Spare { block, bytes });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;

    fn blocks() -> Vec<Block> {
        let geometry = Geometry::new(3 * 16_384, 3 * 16_384).unwrap();
        geometry.blocks(geometry.piece(0).unwrap()).collect()
    }

    #[test]
    fn a_copy_is_due_until_it_comes_and_is_taken_once() {
        let (block, mut copies) = (blocks()[0], Copies::default());
        assert!(copies.expect(block) && copies.are_due());
        assert_eq!(copies.begin(WireBlock::from(block)), Ok(Some(block)));
        copies.keep(block, vec![7]);
        assert!(!copies.are_due() && !copies.refuse(WireBlock::from(block)));
        assert_eq!(copies.take(block), Some(Some(vec![7])));
        assert_eq!(copies.take(block), None);
    }

    #[test]
    fn a_copy_of_another_length_is_told_from_one_that_nobody_asked_for() {
        let (blocks, mut copies) = (blocks(), Copies::default());
        copies.expect(blocks[0]);
        let mut short = WireBlock::from(blocks[0]);
        short.length -= 1;
        assert_eq!(copies.begin(short), Err(16_384));
        assert_eq!(copies.begin(WireBlock::from(blocks[1])), Ok(None));
    }

    #[test]
    fn a_choke_gives_up_what_is_due_and_keeps_what_has_come() {
        let (blocks, mut copies) = (blocks(), Copies::default());
        let mut given_up = GivenUp::default();
        copies.expect(blocks[0]);
        copies.keep(blocks[1], vec![7]);
        copies.expect(blocks[2]);
        assert!(copies.refuse(WireBlock::from(blocks[2])));
        copies.give_up(&mut given_up);
        assert!(given_up.take(WireBlock::from(blocks[0])));
        assert!(!given_up.take(WireBlock::from(blocks[1])));
        assert!(!given_up.take(WireBlock::from(blocks[2])));
        assert_eq!(copies.take(blocks[1]), Some(Some(vec![7])));
    }
}
