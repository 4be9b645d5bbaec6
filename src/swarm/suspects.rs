//! Who sent wrong data.
//!
//! A piece that fails its hash had at least one wrong block, and nothing says which. So the digests
//! of its blocks are kept with the peers they came from, and the next try is one peer's alone: if
//! that fails too, there is no doubt about it; if it passes, every kept digest that differs from the
//! good one names a liar. Where one peer sends two versions of a block, one of them was a lie.
//!
//! Where many fail, the torrent itself may be wrong. A liar that is known already says nothing about that, however
//! many pieces it was at work on, and strangers say less than peers that are proven.

use super::event::PeerKey;
use crate::protocol::{Digest, PieceIndex};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::SocketAddr;

/// Different peers that deliver a piece whole and wrong before the torrent itself is at fault: proven ones, or any
/// where no proven one is left to try it.
const SOLE_FAILURES_MAX: usize = 5;
/// Failures of any kind before a piece is given up: no torrent makes us try for ever.
const FAILURES_MAX: u32 = 30;
/// Block digests kept for a piece: a few tries even of the longest pieces.
const EVIDENCE_MAX: usize = 16_384;

/// Names of peers that left are kept so long: their blocks may be in a piece that fails.
const NAMES_MAX: usize = 4_096;

/// A peer and where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Sender {
    /// The other end of its connection.
    pub address: SocketAddr,
    /// The connection.
    pub peer: PeerKey,
}

/// What is known of who sent a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repute {
    /// It lied before.
    Liar,
    /// Nothing.
    Stranger,
    /// It had a part in a good piece.
    Proven,
}

#[derive(Debug, Default)]
struct Case {
    failures: u32,
    soles: Vec<SocketAddr>,
    /// How many of them had sent good pieces.
    proven: usize,
    /// By the number of a block and where it came from: what it was, and over which connection it came.
    evidence: BTreeMap<(usize, SocketAddr), (Digest, PeerKey)>,
}

/// What follows from a bad piece.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Peers that are beyond doubt.
    pub liars: Vec<Sender>,
    /// Nobody else needs to try: proven peers failed, or it was tried too often.
    pub refuted: bool,
    /// So many failed that it is beyond hope, unless a proven one is left to try it.
    pub hopeless: bool,
}

/// The pieces that failed and have not passed yet.
#[derive(Debug, Default)]
pub struct Suspects {
    cases: BTreeMap<PieceIndex, Case>,
    names: BTreeMap<PeerKey, SocketAddr>,
}

impl Suspects {
    /// A peer came, from this address.
    pub fn knows(&mut self, peer: PeerKey, address: SocketAddr) {
        self.names.insert(peer, address);
        if self.names.len() > NAMES_MAX {
            self.names.pop_first();
        }
    }

    fn sender(&self, peer: Option<PeerKey>) -> Option<Sender> {
        let peer = peer?;
        let address = *self.names.get(&peer)?;
        Some(Sender { address, peer })
    }

    /// Whether the digests of this piece's blocks are wanted when it passes.
    pub fn wants_blocks(&self, piece: PieceIndex) -> bool {
        self.cases.contains_key(&piece)
    }

    /// A piece failed. `from` has the sender of each block, `None` for a former run's; `blocks` the
    /// digests, or nothing where they are not known. `repute`: what was known of a peer before.
    pub fn bad(
        &mut self,
        piece: PieceIndex,
        from: &[Option<PeerKey>],
        blocks: &[Digest],
        repute: impl Fn(PeerKey) -> Repute,
    ) -> Judgement {
        let from: Vec<Option<Sender>> = from.iter().map(|peer| self.sender(*peer)).collect();
        let case = self.cases.entry(piece).or_default();
        let known = |peer: &Sender| repute(peer.peer) == Repute::Liar;
        case.failures += u32::from(!from.iter().flatten().any(known));
        let mut liars = Vec::new();
        if let Some(Some(sole)) = from.first()
            && from.iter().all(|other| *other == Some(*sole))
        {
            liars.push(*sole);
            if !known(sole) && !case.soles.contains(&sole.address) {
                case.soles.push(sole.address);
                case.proven += usize::from(repute(sole.peer) == Repute::Proven);
            }
        }
        for (number, (from, digest)) in from.iter().zip(blocks).enumerate() {
            let Some(from) = *from else { continue };
            let known = case.evidence.len();
            match case.evidence.entry((number, from.address)) {
                Entry::Occupied(other) if other.get().0 != *digest => liars.push(from),
                Entry::Vacant(place) if known < EVIDENCE_MAX => {
                    place.insert((*digest, from.peer));
                }
                _ => {}
            }
        }
        liars.sort_unstable();
        liars.dedup();
        Judgement {
            liars,
            refuted: case.proven >= SOLE_FAILURES_MAX || case.failures >= FAILURES_MAX,
            hopeless: case.soles.len() >= SOLE_FAILURES_MAX,
        }
    }

    /// A piece passed: the peers that had sent something else for it.
    pub fn good(&mut self, piece: PieceIndex, blocks: &[Digest]) -> Vec<Sender> {
        let Some(case) = self.cases.remove(&piece) else {
            return Vec::new();
        };
        let wrong = |number: usize, digest| blocks.get(number).is_some_and(|good| *good != digest);
        let evidence = case.evidence.into_iter();
        let liars = evidence.filter(|((number, _), (digest, _))| wrong(*number, *digest));
        let liars = liars.map(|((_, address), (_, peer))| Sender { address, peer });
        let mut liars: Vec<_> = liars.collect();
        liars.sort_unstable();
        liars.dedup();
        liars
    }

    /// A piece could not be read back: nobody's fault, but not for ever. True: give it up.
    pub fn unreadable(&mut self, piece: PieceIndex) -> bool {
        let case = self.cases.entry(piece).or_default();
        case.failures += 1;
        case.failures >= SOLE_FAILURES_MAX as u32
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;

    fn piece() -> PieceIndex {
        Geometry::new(100, 10).unwrap().piece(4).unwrap()
    }

    fn sender(n: u16) -> Sender {
        Sender {
            address: ([10, 0, 0, 1], n).into(),
            peer: PeerKey(u64::from(n)),
        }
    }

    fn with_names() -> Suspects {
        let mut suspects = Suspects::default();
        (1..9).for_each(|n| suspects.knows(sender(n).peer, sender(n).address));
        suspects
    }

    fn stranger(_: PeerKey) -> Repute {
        Repute::Stranger
    }

    fn digests(texts: &[&str]) -> Vec<Digest> {
        texts
            .iter()
            .map(|text| Digest::of(text.as_bytes()))
            .collect()
    }

    #[test]
    fn the_only_sender_of_a_bad_piece_is_beyond_doubt() {
        let mut suspects = with_names();
        let judgement = suspects.bad(
            piece(),
            &[Some(PeerKey(1)); 2],
            &digests(&["a", "x"]),
            stranger,
        );
        assert_eq!(judgement.liars, [sender(1)]);
        assert!(!judgement.refuted && !judgement.hopeless);
    }

    #[test]
    fn of_several_senders_the_one_whose_block_differs_from_the_good_one_is_named_later() {
        let mut suspects = with_names();
        let from = [Some(PeerKey(1)), Some(PeerKey(2)), None];
        let judgement = suspects.bad(piece(), &from, &digests(&["a", "x", "y"]), stranger);
        assert_eq!(judgement, Judgement::default());
        assert!(suspects.wants_blocks(piece()));
        assert_eq!(
            suspects.good(piece(), &digests(&["a", "b", "c"])),
            [sender(2)]
        );
        assert!(!suspects.wants_blocks(piece()));
    }

    #[test]
    fn two_versions_of_one_block_convict_their_sender() {
        let mut suspects = with_names();
        let from = [Some(PeerKey(1)), Some(PeerKey(2))];
        suspects.bad(piece(), &from, &digests(&["a", "x"]), stranger);
        let judgement = suspects.bad(piece(), &from, &digests(&["a", "z"]), stranger);
        assert_eq!(judgement.liars, [sender(2)]);
    }

    #[test]
    fn a_piece_that_five_peers_deliver_wrong_is_hopeless_and_refuted_if_they_were_proven() {
        for repute in [Repute::Liar, Repute::Stranger, Repute::Proven] {
            let mut suspects = with_names();
            for port in 1..=5 {
                let (from, blocks) = ([Some(PeerKey(port))], digests(&["x"]));
                let judgement = suspects.bad(piece(), &from, &blocks, |_| repute);
                let fifth = port == 5;
                assert_eq!(judgement.hopeless, fifth && repute != Repute::Liar);
                assert_eq!(judgement.refuted, fifth && repute == Repute::Proven);
            }
        }
    }

    #[test]
    fn a_former_runs_blocks_accuse_nobody() {
        let mut suspects = with_names();
        let judgement = suspects.bad(piece(), &[None, Some(PeerKey(1))], &[], stranger);
        assert_eq!(judgement, Judgement::default());
    }
}
