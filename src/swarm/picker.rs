//! What to ask a peer for: finish what is begun, then the rarest piece, ties by chance.
//!
//! ```text
//! picker.pick(asker, room, eager, now, &mut rng, &mut blocks);  // a run of blocks, now out to the asker
//! picker.lay(block, from) / picker.free(block, from)            // each comes back exactly once
//! picker.finish(piece) / picker.retry(piece, next, now)   // what the hash said
//! ```
//!
//! Before changing anything here, check that still: a block is out to one peer at a time; a block
//! laid by a former run is not asked again; a piece under suspicion is one peer's alone; adjacent
//! blocks go to one peer (its thread maps runs); the cost of a pick grows neither with the pieces nor
//! with the peers; the same dice pick the same blocks.

mod in_order;

use super::availability::Availability;
use super::event::{Moment, PeerKey};
use super::partial::{Care, Partial};
use super::peer::Holding;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::{Block, Geometry, PieceIndex};
use std::collections::{BTreeMap, BTreeSet};

pub use super::partial::{NextTry, Where};

/// How many begun pieces are looked at to find one a peer can help with.
const HELP_PROBES_MAX: usize = 64;

/// Who asks, and what may be picked for it.
#[derive(Debug)]
pub struct Asker<'a> {
    /// The peer.
    pub peer: PeerKey,
    /// What it has.
    pub holds: &'a Holding,
    /// The piece it is working on; kept here by the picker.
    pub current: &'a mut Option<PieceIndex>,
    /// Pieces it would like to give (BEP 6), tried before the rarest.
    pub suggested: &'a mut Vec<PieceIndex>,
    /// While it chokes us: the only pieces it still gives (BEP 6).
    pub only: Option<&'a [PieceIndex]>,
}

/// All blocks of a download and where they are.
#[derive(Debug)]
pub struct Picker {
    geometry: Geometry,
    available: Availability,
    partials: BTreeMap<PieceIndex, Partial>,
    /// Begun pieces with a free block that nobody works on.
    orphans: BTreeSet<PieceIndex>,
    /// Begun pieces with a free block.
    unfinished: BTreeSet<PieceIndex>,
    /// Begun pieces under suspicion.
    careful: BTreeSet<PieceIndex>,
    given_up: BTreeSet<PieceIndex>,
    /// Pieces that are wanted and neither good nor given up.
    wants: Bitfield,
    /// Pieces are begun in their order, rarity does not count.
    sequential: bool,
    out: usize,
    /// Tables of finished pieces, to be used again: where a piece is one block, no allocation per block.
    tables: Vec<Vec<Where>>,
}

impl Picker {
    /// Everything that `have` lacks is to be picked, but the blocks in `laid`.
    pub fn new(
        geometry: Geometry,
        have: &Bitfield,
        laid: &[Block],
        rng: &mut fastrand::Rng,
    ) -> Picker {
        let mut open = Bitfield::new(&geometry);
        for piece in geometry.all_pieces().filter(|piece| !have.has(*piece)) {
            open.set(piece);
        }
        let mut picker = Picker {
            geometry,
            wants: open.clone(),
            sequential: false,
            available: Availability::new(geometry, open, rng),
            partials: BTreeMap::new(),
            orphans: BTreeSet::new(),
            unfinished: BTreeSet::new(),
            careful: BTreeSet::new(),
            given_up: BTreeSet::new(),
            out: 0,
            tables: Vec::new(),
        };
        for block in laid {
            if picker.available.is_open(block.piece()) {
                picker.begin(block.piece());
            }
            // A record may name a block twice or one off the grid: only what is free can be laid.
            if geometry.block(block.piece(), block.number()) == Some(*block)
                && picker.place(*block) == Some(Where::Free)
            {
                picker.put(*block, Where::Laid(None));
            }
        }
        picker
    }

    /// The pieces that are still to be fetched: wanted, not good, not given up.
    pub fn wants(&self) -> &Bitfield {
        &self.wants
    }

    /// Who has what, for counting peers in and out.
    pub fn available(&mut self) -> &mut Availability {
        &mut self.available
    }

    /// How many blocks are out.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Where `block` is; `None` where its piece is not begun.
    pub fn place(&self, block: Block) -> Option<Where> {
        let partial = self.partials.get(&block.piece())?;
        partial.blocks.get(block.number()).copied()
    }

    /// Where the blocks of a begun piece are or came from.
    pub fn places(&self, piece: PieceIndex) -> &[Where] {
        self.partials
            .get(&piece)
            .map_or(&[], |partial| &partial.blocks)
    }

    /// Whether all blocks of `piece` are laid and its hash is waited for.
    pub fn is_full(&self, piece: PieceIndex) -> bool {
        let partial = self.partials.get(&piece);
        partial.is_some_and(|partial| partial.is_full())
    }

    /// Pieces whose blocks are all laid and that wait for their hash.
    pub fn full(&self) -> impl Iterator<Item = PieceIndex> {
        self.partials
            .iter()
            .filter(|(_, partial)| partial.is_full())
            .map(|(piece, _)| *piece)
    }

    /// Laid blocks of pieces that are not finished.
    pub fn laid(&self) -> impl Iterator<Item = Block> {
        self.partials.iter().flat_map(|(piece, partial)| {
            let grid = self.geometry.blocks(*piece);
            grid.zip(&partial.blocks)
                .filter(|(_, place)| matches!(place, Where::Laid(_)))
                .map(|(block, _)| block)
        })
    }

    /// Pieces that will not be asked for any more.
    pub fn given_up(&self) -> &BTreeSet<PieceIndex> {
        &self.given_up
    }

    /// Whether every missing block that any peer has is out (or laid), and nothing is missing that
    /// nobody has yet: while the seed still hands out first copies, more is on its way to us.
    pub fn is_endgame(&self) -> bool {
        self.out > 0 && !self.available.any_open() && self.is_all_out()
    }

    /// Whether every missing block that any peer has is out (or laid).
    fn is_all_out(&self) -> bool {
        self.out > 0
            && !self.available.any_to_be_had()
            && self
                .unfinished
                .iter()
                .all(|piece| self.available.count(*piece) == 0)
    }

    /// Whether a spare of this block may be asked for: not while its piece is under suspicion.
    pub fn may_spare(&self, block: Block) -> bool {
        self.partials
            .get(&block.piece())
            .is_some_and(|partial| partial.care.is_none())
    }

    /// Whether anything at all could be picked for some peer.
    pub fn any_free(&self) -> bool {
        !self.unfinished.is_empty() || self.available.any_to_be_had()
    }

    /// Picks up to `room` blocks for the asker; they are out to it from now on. `eager`: rather help
    /// with a begun piece than begin another one.
    pub fn pick(
        &mut self,
        mut asker: Asker<'_>,
        room: usize,
        eager: bool,
        now: Moment,
        rng: &mut fastrand::Rng,
        blocks: &mut Vec<Block>,
    ) {
        let mut left = room;
        while left > 0 {
            let Some(piece) = self.choose(&mut asker, eager, now, rng) else {
                return;
            };
            let taken = self.take(piece, asker.peer, left, blocks);
            if taken == 0 {
                return;
            }
            left -= taken;
        }
    }

    /// The piece to take blocks from, with the asker at work on it.
    fn choose(
        &mut self,
        asker: &mut Asker<'_>,
        eager: bool,
        now: Moment,
        rng: &mut fastrand::Rng,
    ) -> Option<PieceIndex> {
        match (asker.only, self.sequential) {
            // Gifts are pieces from anywhere (BEP 6).
            (Some(_), true) => return None,
            (Some(only), false) => return self.choose_of(only, asker, now),
            (None, true) => return self.choose_in_order(asker, now, rng),
            (None, false) => {}
        }
        if let Some(piece) = *asker.current
            && self.may_take(piece, asker, now)
        {
            return Some(piece);
        }
        self.step_back(asker);
        let orphan = self.orphans.iter().copied().take(HELP_PROBES_MAX);
        let orphan = orphan
            .into_iter()
            .find(|piece| self.may_take(*piece, asker, now));
        if let Some(piece) = orphan {
            return Some(self.work_on(piece, asker));
        }
        if eager && let Some(piece) = self.helpable(asker, now, rng) {
            return Some(piece);
        }
        while let Some(piece) = asker.suggested.pop() {
            if self.available.is_open(piece) && asker.holds.has(piece) {
                self.begin(piece);
                return Some(self.work_on(piece, asker));
            }
        }
        if let Some(piece) = self.available.rarest(asker.holds, rng) {
            self.begin(piece);
            return Some(self.work_on(piece, asker));
        }
        self.helpable(asker, now, rng)
    }

    fn choose_of(
        &mut self,
        only: &[PieceIndex],
        asker: &Asker<'_>,
        now: Moment,
    ) -> Option<PieceIndex> {
        for piece in only {
            if self.available.is_open(*piece) && asker.holds.has(*piece) {
                self.begin(*piece);
            }
            if self.may_take(*piece, asker, now) {
                return Some(*piece);
            }
        }
        None
    }

    /// A piece others work on that has a free block for this asker.
    fn helpable(
        &self,
        asker: &Asker<'_>,
        now: Moment,
        rng: &mut fastrand::Rng,
    ) -> Option<PieceIndex> {
        let start = self
            .geometry
            .piece(rng.u32(0..self.geometry.pieces().max(1)))?;
        let (before, after) = (..start, start..);
        self.unfinished
            .range(after)
            .chain(self.unfinished.range(before))
            .copied()
            .take(HELP_PROBES_MAX)
            .find(|piece| self.may_take(*piece, asker, now))
    }

    fn may_take(&self, piece: PieceIndex, asker: &Asker<'_>, now: Moment) -> bool {
        let Some(partial) = self.partials.get(&piece) else {
            return false;
        };
        let allowed = partial.allows(asker.peer, now);
        partial.free > 0 && allowed && asker.holds.has(piece)
    }

    fn begin(&mut self, piece: PieceIndex) {
        self.available.close(piece);
        let table = self.tables.pop().unwrap_or_default();
        let partial = Partial::new(self.geometry.blocks_in(piece), table);
        self.partials.insert(piece, partial);
        self.unfinished.insert(piece);
        self.orphans.insert(piece);
    }

    fn work_on(&mut self, piece: PieceIndex, asker: &mut Asker<'_>) -> PieceIndex {
        if let Some(partial) = self.partials.get_mut(&piece) {
            partial.worker = Some(asker.peer);
        }
        self.orphans.remove(&piece);
        *asker.current = Some(piece);
        piece
    }

    fn step_back(&mut self, asker: &mut Asker<'_>) {
        if let Some(piece) = asker.current.take() {
            self.abandon(piece, asker.peer);
        }
    }

    fn abandon(&mut self, piece: PieceIndex, peer: PeerKey) {
        if let Some(partial) = self.partials.get_mut(&piece)
            && partial.worker == Some(peer)
        {
            partial.worker = None;
            if partial.free > 0 {
                self.orphans.insert(piece);
            }
        }
    }

    /// Takes a run of free blocks of a begun piece; says how many.
    fn take(
        &mut self,
        piece: PieceIndex,
        peer: PeerKey,
        most: usize,
        blocks: &mut Vec<Block>,
    ) -> usize {
        let Some(partial) = self.partials.get_mut(&piece) else {
            return 0;
        };
        let before = blocks.len();
        partial.take(peer, most, |number| {
            blocks.extend(self.geometry.block(piece, number));
        });
        let taken = blocks.len() - before;
        self.out += taken;
        if partial.free == 0 {
            self.unfinished.remove(&piece);
            self.orphans.remove(&piece);
        }
        taken
    }

    /// The peer no longer works for us (choked, snubbed, gone): others may take over what it began.
    pub fn release(&mut self, peer: PeerKey, current: &mut Option<PieceIndex>) {
        if let Some(piece) = current.take() {
            self.abandon(piece, peer);
        }
        for piece in &self.careful {
            if let Some(partial) = self.partials.get_mut(piece)
                && let Some(care) = &mut partial.care
            {
                care.release(peer);
            }
        }
    }

    /// The peer had a part in a good piece, for the first time: it may try bad ones as others like it.
    pub fn is_proven(&mut self, peer: PeerKey) {
        for piece in &self.careful {
            if let Some(partial) = self.partials.get_mut(piece)
                && let Some(care) = &mut partial.care
            {
                care.is_proven(peer);
            }
        }
    }

    /// Pieces that one peer has had to itself for too long are anybody's. The attack: to give a block every
    /// twenty seconds, so that it is never snubbed.
    pub fn end_care(&mut self, now: Moment) {
        let partials = &mut self.partials;
        self.careful.retain(|piece| {
            let partial = partials.get_mut(piece);
            partial.is_some_and(|partial| partial.end_care(now))
        });
    }

    /// A block that was out to `from` lies in the file. `Some(true)`: it was its piece's last one.
    /// `None`: it was not out to that peer.
    pub fn lay(&mut self, block: Block, from: PeerKey) -> Option<bool> {
        if self.place(block) != Some(Where::Out(from)) {
            return None;
        }
        self.put(block, Where::Laid(Some(from)));
        let partial = self.partials.get(&block.piece())?;
        Some(partial.is_full())
    }

    /// A block that was out to `from` came home unused; says whether it was out to that peer.
    pub fn free(&mut self, block: Block, from: PeerKey) -> bool {
        let was_out = self.place(block) == Some(Where::Out(from));
        if was_out {
            self.put(block, Where::Free);
        }
        was_out
    }

    /// Gives a free block to the holder of a spare; says whether it was free.
    pub fn settle(&mut self, block: Block, to: PeerKey) -> bool {
        let was_free = self.place(block) == Some(Where::Free);
        if was_free {
            self.put(block, Where::Out(to));
        }
        was_free
    }

    fn put(&mut self, block: Block, place: Where) {
        let piece = block.piece();
        let Some(partial) = self.partials.get_mut(&piece) else {
            return;
        };
        let was_out = partial.count_out();
        partial.put(block.number(), place);
        self.out = self.out + partial.count_out() - was_out;
        if partial.free == 0 {
            self.unfinished.remove(&piece);
            self.orphans.remove(&piece);
        } else {
            self.unfinished.insert(piece);
            if partial.worker.is_none() {
                self.orphans.insert(piece);
            }
        }
    }

    /// The piece is good: there is nothing left to do for it.
    pub fn finish(&mut self, piece: PieceIndex) {
        self.wants.clear(piece);
        self.drop_blocks(piece);
    }

    fn drop_blocks(&mut self, piece: PieceIndex) {
        self.available.close(piece);
        if let Some(partial) = self.partials.remove(&piece) {
            self.out -= partial.count_out();
            if self.tables.len() < 1024 {
                self.tables.push(partial.blocks);
            }
        }
        self.unfinished.remove(&piece);
        self.orphans.remove(&piece);
        self.careful.remove(&piece);
    }

    /// The piece is bad: all its blocks are free again, for one peer alone, for a while one that `next` allows. An
    /// unreadable one is for anyone, without `next`.
    pub fn retry(&mut self, piece: PieceIndex, next: Option<NextTry>, now: Moment) {
        self.drop_blocks(piece);
        self.begin(piece);
        if let Some(next) = next
            && let Some(partial) = self.partials.get_mut(&piece)
        {
            partial.care = Some(Box::new(Care::new(next, partial.free, now)));
            self.careful.insert(piece);
        }
    }

    /// The piece is beyond hope: never asked for again.
    pub fn give_up(&mut self, piece: PieceIndex) {
        self.finish(piece);
        self.given_up.insert(piece);
    }

    /// Panics where the tables disagree: for tests and simulations.
    pub fn check_invariants(&self) {
        self.available.check_invariants();
        let mut out = 0;
        for (piece, partial) in &self.partials {
            assert!(self.wants.has(*piece), "{piece:?} is begun, not wanted");
            assert!(
                !self.available.is_open(*piece),
                "{piece:?} is begun and open"
            );
            partial.check_invariants();
            out += partial.count_out();
            assert_eq!(self.unfinished.contains(piece), partial.free > 0);
            let orphan = partial.free > 0 && partial.worker.is_none();
            assert_eq!(self.orphans.contains(piece), orphan);
        }
        assert_eq!(out, self.out);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::partial::{CARE_BLOCK, CARE_MAX};
    use super::*;
    use proptest::prelude::*;

    /// A picker and what its peers keep for it.
    struct Table {
        geometry: Geometry,
        picker: Picker,
        rng: fastrand::Rng,
        holds: Vec<Holding>,
        current: Vec<Option<PieceIndex>>,
    }

    impl Table {
        fn of(pieces: u64, blocks: u32, peers: usize) -> Table {
            let length = blocks * 16_384;
            let geometry = Geometry::new(pieces * u64::from(length), length).unwrap();
            let mut rng = fastrand::Rng::with_seed(1);
            let have = Bitfield::new(&geometry);
            let mut picker = Picker::new(geometry, &have, &[], &mut rng);
            let holds = vec![Holding::Everything; peers];
            holds
                .iter()
                .for_each(|holds| picker.available().arrive(holds));
            Table {
                geometry,
                picker,
                rng,
                holds,
                current: vec![None; peers],
            }
        }

        fn pick(&mut self, peer: usize, room: usize, eager: bool) -> Vec<Block> {
            let mut blocks = Vec::new();
            let asker = Asker {
                peer: PeerKey(peer as u64),
                holds: &self.holds[peer],
                current: &mut self.current[peer],
                suggested: &mut Vec::new(),
                only: None,
            };
            let now = Moment::ZERO;
            self.picker
                .pick(asker, room, eager, now, &mut self.rng, &mut blocks);
            blocks
        }
    }

    /// Whether `next` begins in the same piece at the byte where `block` ends.
    fn touch(block: Block, next: Block) -> bool {
        block.piece() == next.piece() && block.begin() + block.length() == next.begin()
    }

    #[test]
    fn a_peer_is_given_adjacent_blocks_and_finishes_what_it_began() {
        let mut table = Table::of(10, 16, 2);
        let first = table.pick(0, 6, false);
        assert!(first.windows(2).all(|pair| touch(pair[0], pair[1])));
        let other = table.pick(1, 6, false);
        assert_ne!(first[0].piece(), other[0].piece());
        let next = table.pick(0, 10, false);
        assert!(touch(first[5], next[0]));
        assert_eq!(next[9].number(), 15);
    }

    #[test]
    fn in_order_the_next_block_is_always_the_first_free_one() {
        let mut table = Table::of(10, 16, 3);
        table.picker.pick_in_order();
        let mut taken = Vec::new();
        for turn in 0..16 {
            taken.extend(table.pick(turn % 3, 10, turn % 2 == 0));
        }
        assert_eq!(taken.len(), 160);
        assert!(taken.is_sorted());
    }

    #[test]
    fn a_begun_piece_that_was_left_is_finished_before_another_is_begun() {
        let mut table = Table::of(10, 16, 2);
        let first = table.pick(0, 6, false);
        let mut current = table.current[0].take();
        table.picker.release(PeerKey(0), &mut current);
        let next = table.pick(1, 10, false);
        assert!(touch(first[5], next[0]));
    }

    #[test]
    fn the_eager_help_with_a_begun_piece() {
        let mut table = Table::of(10, 16, 2);
        let first = table.pick(0, 6, true);
        assert!(touch(first[5], table.pick(1, 6, true)[0]));
    }

    #[test]
    fn a_piece_that_one_peer_has_had_to_itself_for_too_long_is_anybodys() {
        let mut table = Table::of(1, 4, 2);
        let piece = table.geometry.piece(0).unwrap();
        for block in table.pick(0, 4, false) {
            table.picker.lay(block, PeerKey(0));
        }
        let next = Some(NextTry::default());
        table.picker.retry(piece, next, Moment::ZERO);
        assert_eq!(table.pick(0, 2, false).len(), 2);
        let ends = CARE_MAX + CARE_BLOCK * 4;
        table.picker.end_care(ends - Moment::from_millis(1));
        assert_eq!(table.pick(1, 4, false), []);
        table.picker.end_care(ends);
        assert_eq!(table.pick(1, 4, false).len(), 2);
    }

    #[test]
    fn a_piece_under_suspicion_is_one_peers_alone() {
        let mut table = Table::of(1, 4, 3);
        for block in table.pick(0, 4, false) {
            table.picker.lay(block, PeerKey(0));
        }
        let piece = table.geometry.piece(0).unwrap();
        let (first, not) = (vec![], vec![PeerKey(0)]);
        let next = NextTry { first, not };
        table.picker.retry(piece, Some(next), Moment::ZERO);
        assert_eq!(table.pick(0, 4, false), []);
        assert_eq!(table.pick(1, 2, false).len(), 2);
        assert_eq!(table.pick(2, 2, false), []);
        assert_eq!(table.pick(1, 2, false).len(), 2);
    }

    proptest! {
        #[test]
        fn every_block_is_out_once_and_comes_in_whatever_happens(
            steps in proptest::collection::vec((0u8..5, 0usize..4, 1usize..9), 1..120),
            in_order in any::<bool>(),
        ) {
            let mut table = Table::of(6, 5, 4);
            if in_order {
                table.picker.pick_in_order();
            }
            let mut out: Vec<(usize, Block)> = Vec::new();
            let mut laid = BTreeSet::new();
            for (kind, peer, number) in steps {
                match kind {
                    0 | 1 => {
                        for block in table.pick(peer, number, kind == 1) {
                            prop_assert!(out.iter().all(|(_, other)| *other != block));
                            prop_assert!(!laid.contains(&block));
                            out.push((peer, block));
                        }
                    }
                    2 if !out.is_empty() => {
                        let (peer, block) = out.remove(number % out.len());
                        let last = table.picker.lay(block, PeerKey(peer as u64));
                        laid.insert(block);
                        let mut all = table.geometry.blocks(block.piece());
                        prop_assert_eq!(last, Some(all.all(|it| laid.contains(&it))));
                    }
                    3 if !out.is_empty() => {
                        let (peer, block) = out.remove(number % out.len());
                        prop_assert!(table.picker.free(block, PeerKey(peer as u64)));
                    }
                    4 => {
                        let mut current = table.current[peer].take();
                        table.picker.release(PeerKey(peer as u64), &mut current);
                    }
                    _ => {}
                }
                table.picker.check_invariants();
                prop_assert_eq!(table.picker.out(), out.len());
            }
            // What is left comes, too: no block is lost.
            let rest = table.pick(0, 1_000, false);
            prop_assert_eq!(rest.len() + out.len() + laid.len(), 30);
        }
    }
}
