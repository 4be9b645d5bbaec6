//! Which pieces can still be begun, rarest first with random ties.
//!
//! The open pieces lie in one array, sorted by how many peers have them; `ends` remembers where each
//! bucket ends. A peer's `have` moves one piece over one bucket border: three writes, however many
//! pieces and peers there are. Many changes at once (a bitfield) only mark the order stale; the next
//! look sorts by counting, once.
//!
//! ```text
//! order  [ 7 2 | 9 0 4 | 1 3 8 ]      place[9] == 2
//! ends     2     5       8            pieces that 0, 1, 2 peers have
//! ```

use super::peer::Holding;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::{Geometry, PieceIndex};

/// The place of a piece that is not open.
const NOWHERE: u32 = u32::MAX;

/// How many pieces are tried in order of rarity before the asker's own pieces are looked through.
const PROBES_MAX: usize = 128;

/// How many of the asker's pieces are compared when the rarest are none of its.
const CANDIDATES_MAX: usize = 64;

/// How far ahead of the first open piece one is looked for that a peer has, in bytes of the bitfield.
const AHEAD_MAX: usize = 128;

/// Pieces nobody has begun, in the order in which they should be.
#[derive(Debug)]
pub struct Availability {
    geometry: Geometry,
    /// Peers with a partial bitfield that have each piece.
    counts: Vec<u16>,
    /// Peers that have everything: they count for every piece and change no order.
    seeds: u32,
    order: Vec<u32>,
    place: Vec<u32>,
    ends: Vec<u32>,
    stale: bool,
    open: Bitfield,
    /// No byte of `open` before this one has a bit.
    front: usize,
    /// Open pieces that some peer with a partial bitfield has: kept, because it is asked for at every event.
    within_reach: u32,
}

impl Availability {
    /// All pieces that `open` names are open, nobody has any.
    pub fn new(geometry: Geometry, open: Bitfield, rng: &mut fastrand::Rng) -> Availability {
        let pieces = geometry.pieces() as usize;
        let mut this = Availability {
            geometry,
            counts: vec![0; pieces],
            seeds: 0,
            order: Vec::new(),
            place: vec![NOWHERE; pieces],
            ends: Vec::new(),
            stale: false,
            open,
            front: 0,
            within_reach: 0,
        };
        this.order = geometry
            .all_pieces()
            .filter(|piece| this.open.has(*piece))
            .map(PieceIndex::get)
            .collect();
        this.sort(rng);
        this
    }

    /// How many peers have `piece`.
    pub fn count(&self, piece: PieceIndex) -> u32 {
        self.seeds + u32::from(self.counts[piece.as_usize()])
    }

    /// Whether `piece` is open.
    pub fn is_open(&self, piece: PieceIndex) -> bool {
        self.open.has(piece)
    }

    /// Whether any piece is open, whoever has it.
    pub fn any_open(&self) -> bool {
        !self.order.is_empty()
    }

    /// Whether an open piece is to be had from any peer.
    pub fn any_to_be_had(&self) -> bool {
        self.within_reach > 0 || self.seeds > 0 && !self.order.is_empty()
    }

    /// A peer with these pieces came.
    pub fn arrive(&mut self, holds: &Holding) {
        match holds {
            Holding::Nothing => {}
            Holding::Everything => self.seeds += 1,
            Holding::Some(field) => self.add_all(field, 1),
        }
    }

    /// A peer with these pieces went.
    pub fn leave(&mut self, holds: &Holding) {
        match holds {
            Holding::Nothing => {}
            Holding::Everything => self.seeds = self.seeds.saturating_sub(1),
            Holding::Some(field) => self.add_all(field, -1),
        }
    }

    fn add_all(&mut self, field: &Bitfield, step: i16) {
        for (at, byte) in field.as_bytes().iter().enumerate() {
            let mut left = *byte;
            while left != 0 {
                let bit = left.leading_zeros() as usize;
                left &= !(0x80 >> bit);
                if let Some(count) = self.counts.get_mut(at * 8 + bit) {
                    let old = std::mem::replace(count, count.saturating_add_signed(step));
                    let (before, after) = (u32::from(old > 0), u32::from(*count > 0));
                    if self.place[at * 8 + bit] != NOWHERE {
                        self.within_reach = self.within_reach + after - before;
                    }
                }
            }
        }
        self.stale = true;
    }

    /// A peer got one more piece.
    pub fn gain(&mut self, piece: PieceIndex, rng: &mut fastrand::Rng) {
        let index = piece.as_usize();
        let old = self.counts[index];
        self.counts[index] = old.saturating_add(1);
        self.within_reach += u32::from(old == 0 && self.place[index] != NOWHERE);
        if self.stale || self.place[index] == NOWHERE || old == u16::MAX {
            return;
        }
        let bucket = usize::from(old);
        if bucket + 1 == self.ends.len() {
            self.ends.push(self.order.len() as u32);
        }
        // The piece goes to its bucket's last place, the border moves one to the left, and it is in
        // the next bucket; there it changes places with anyone, so that ties stay random.
        self.ends[bucket] -= 1;
        let border = self.ends[bucket] as usize;
        self.swap(self.place[index] as usize, border);
        let next_end = self.ends[bucket + 1] as usize;
        let anyone = rng.usize(border..next_end.max(border + 1));
        self.swap(border, anyone);
    }

    /// `piece` is begun or had: it leaves the order. Costs a step per bucket above its own.
    pub fn close(&mut self, piece: PieceIndex) {
        if !self.open.clear(piece) {
            return;
        }
        let index = piece.as_usize();
        self.within_reach -= u32::from(self.counts[index] > 0);
        let mut hole = self.place[index] as usize;
        if !self.stale {
            let bucket = usize::from(self.counts[index]);
            for end in bucket..self.ends.len() {
                self.ends[end] -= 1;
                let last = self.ends[end] as usize;
                self.swap(hole, last);
                hole = last;
            }
        }
        let last = self.order.len() - 1;
        self.swap(hole, last);
        self.order.pop();
        self.place[index] = NOWHERE;
    }

    /// The first open piece that a peer with these pieces has, near the first one that is open at all.
    pub fn first(&mut self, holds: &Holding) -> Option<PieceIndex> {
        let open = self.open.as_bytes();
        // Only goes forward: no cost a block.
        while open.get(self.front) == Some(&0) {
            self.front += 1;
        }
        let near = open.iter().enumerate().skip(self.front).take(AHEAD_MAX);
        let mut both = near.map(|(at, open)| match holds {
            Holding::Nothing => (at, 0),
            Holding::Everything => (at, *open),
            Holding::Some(field) => (at, open & field.as_bytes().get(at).unwrap_or(&0)),
        });
        let (at, bits) = both.find(|(_, bits)| *bits != 0)?;
        self.geometry.piece(at as u32 * 8 + bits.leading_zeros())
    }

    /// The piece a peer with these pieces should begin: the rarest of them, ties by chance.
    pub fn rarest(&mut self, holds: &Holding, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        if self.order.is_empty() {
            return None;
        }
        if self.stale {
            self.sort(rng);
        }
        let field = match holds {
            Holding::Nothing => return None,
            Holding::Everything => return self.geometry.piece(self.order[0]),
            Holding::Some(field) => field,
        };
        // The first bucket holds pieces that only seeds can have, and this asker is none: skip it.
        let first = self.ends[0] as usize;
        let probed = self.order[first..]
            .iter()
            .take(PROBES_MAX)
            .filter_map(|index| self.geometry.piece(*index))
            .find(|piece| field.has(*piece));
        if probed.is_some() || self.order.len() - first <= PROBES_MAX {
            return probed;
        }
        self.look_through(field, rng)
    }

    /// Compares some of the pieces that are open and in `field`, from a random place on: bounded
    /// work where an asker has only a few pieces, and those common ones.
    fn look_through(&self, field: &Bitfield, rng: &mut fastrand::Rng) -> Option<PieceIndex> {
        let (theirs, open) = (field.as_bytes(), self.open.as_bytes());
        let start = rng.usize(0..theirs.len().max(1));
        let mut best: Option<(u16, u32)> = None;
        let mut seen = 0;
        for step in 0..theirs.len() {
            let at = (start + step) % theirs.len();
            let mut both = theirs[at] & open[at];
            while both != 0 {
                let bit = both.leading_zeros();
                both &= !(0x80 >> bit);
                let index = at as u32 * 8 + bit;
                let count = self.counts[index as usize];
                if best.is_none_or(|(least, _)| count < least) {
                    best = Some((count, index));
                }
                seen += 1;
            }
            if seen >= CANDIDATES_MAX {
                break;
            }
        }
        best.and_then(|(_, index)| self.geometry.piece(index))
    }

    fn swap(&mut self, a: usize, b: usize) {
        self.order.swap(a, b);
        self.place[self.order[a] as usize] = a as u32;
        self.place[self.order[b] as usize] = b as u32;
    }

    /// Sorts by counting, after a shuffle that makes ties random.
    fn sort(&mut self, rng: &mut fastrand::Rng) {
        rng.shuffle(&mut self.order);
        let most = self
            .order
            .iter()
            .map(|index| self.counts[*index as usize])
            .max()
            .unwrap_or(0);
        let mut next = vec![0u32; usize::from(most) + 2];
        for index in &self.order {
            next[usize::from(self.counts[*index as usize]) + 1] += 1;
        }
        for bucket in 1..next.len() {
            next[bucket] += next[bucket - 1];
        }
        self.ends = next[1..].to_vec();
        let mut sorted = vec![0; self.order.len()];
        for index in &self.order {
            let slot = &mut next[usize::from(self.counts[*index as usize])];
            sorted[*slot as usize] = *index;
            self.place[*index as usize] = *slot;
            *slot += 1;
        }
        self.order = sorted;
        self.stale = false;
    }

    /// Panics where the order and its index disagree: for tests and simulations.
    pub fn check_invariants(&self) {
        assert_eq!(self.order.len(), self.open.count() as usize);
        assert!(
            self.open
                .as_bytes()
                .iter()
                .take(self.front)
                .all(|it| *it == 0)
        );
        let within_reach = self
            .order
            .iter()
            .filter(|it| self.counts[**it as usize] > 0);
        assert_eq!(within_reach.count(), self.within_reach as usize);
        for (at, index) in self.order.iter().enumerate() {
            assert_eq!(self.place[*index as usize] as usize, at);
        }
        if !self.stale {
            let mut bucket = 0;
            for (at, index) in self.order.iter().enumerate() {
                while self.ends[bucket] as usize <= at {
                    bucket += 1;
                }
                assert_eq!(usize::from(self.counts[*index as usize]), bucket);
            }
            assert_eq!(
                self.ends.last().copied().unwrap_or(0) as usize,
                self.order.len()
            );
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn with(geometry: &Geometry, pieces: &[u32]) -> Holding {
        let mut field = Bitfield::new(geometry);
        for piece in pieces {
            field.set(geometry.piece(*piece).unwrap());
        }
        Holding::Some(field)
    }

    fn all_open(pieces: u32) -> (Geometry, Availability, fastrand::Rng) {
        let geometry = Geometry::new(u64::from(pieces), 1).unwrap();
        let mut rng = fastrand::Rng::with_seed(7);
        let open = Bitfield::full(&geometry);
        (geometry, Availability::new(geometry, open, &mut rng), rng)
    }

    #[test]
    fn the_rarest_piece_the_asker_has_comes_first() {
        let (geometry, mut available, mut rng) = all_open(4);
        available.arrive(&with(&geometry, &[0, 1, 2]));
        available.arrive(&with(&geometry, &[0, 1]));
        let asker = with(&geometry, &[0, 1, 2]);
        assert_eq!(available.rarest(&asker, &mut rng).unwrap().get(), 2);
        available.close(geometry.piece(2).unwrap());
        available.gain(geometry.piece(0).unwrap(), &mut rng);
        assert_eq!(available.rarest(&asker, &mut rng).unwrap().get(), 1);
    }

    #[test]
    fn ties_fall_differently_for_different_seeds() {
        let geometry = Geometry::new(1000, 1).unwrap();
        let first = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut available = Availability::new(geometry, Bitfield::full(&geometry), &mut rng);
            available.arrive(&Holding::Everything);
            available.rarest(&Holding::Everything, &mut rng).unwrap()
        };
        assert_ne!(first(1), first(2));
        assert_eq!(first(3), first(3));
    }

    #[test]
    fn an_asker_with_one_common_piece_among_many_rare_ones_is_served() {
        let (geometry, mut available, mut rng) = all_open(5000);
        let rare: Vec<u32> = (0..4999).collect();
        available.arrive(&with(&geometry, &rare));
        let asker = with(&geometry, &[4999]);
        available.arrive(&asker);
        available.arrive(&asker);
        assert_eq!(available.rarest(&asker, &mut rng).unwrap().get(), 4999);
    }

    #[test]
    fn in_order_a_peer_begins_its_first_open_piece_near_the_front() {
        let (geometry, mut available, _) = all_open(5000);
        let piece = |index| geometry.piece(index).unwrap();
        let asker = with(&geometry, &[7, 900, 4999]);
        assert_eq!(available.first(&asker), Some(piece(7)));
        (0..1000).for_each(|index| available.close(piece(index)));
        assert_eq!(available.first(&Holding::Everything), Some(piece(1000)));
        assert_eq!(available.first(&asker), None, "far ahead of the front");
        assert_eq!(available.first(&Holding::Nothing), None);
    }

    proptest! {
        #[test]
        fn order_and_counts_agree_whatever_happens(steps in proptest::collection::vec((0u8..5, 0u32..40), 1..200)) {
            let (geometry, mut available, mut rng) = all_open(40);
            let mut came = Vec::new();
            for (kind, index) in steps {
                let piece = geometry.piece(index).unwrap();
                match kind {
                    0 => { let holds = with(&geometry, &[index, (index * 7) % 40]); available.arrive(&holds); came.push(holds); }
                    1 => if let Some(holds) = came.pop() { available.leave(&holds) },
                    2 => {
                        let holds = with(&geometry, &[index]);
                        available.gain(piece, &mut rng);
                        came.push(holds);
                    }
                    3 => available.close(piece),
                    _ => {
                        let holds = with(&geometry, &[index]);
                        let found = available.rarest(&holds, &mut rng);
                        // The asker itself was never counted: a piece that nobody counted has is not offered.
                        if let Some(found) = found { prop_assert_eq!(found, piece); prop_assert!(available.is_open(piece)); }
                        else { prop_assert!(!available.is_open(piece) || available.count(piece) == 0); }
                    }
                }
                available.check_invariants();
            }
        }
    }
}
