//! Pieces of ours that somebody else may have changed, and those that are lost.
//!
//! Ours: BitTorrent has no way to take a piece back; decision 190. So a piece in doubt is still one that we have:
//! requests for it wait until it was hashed again, as they wait in a queue, and are answered then. Nobody is refused,
//! and nobody asks again and again.
//!
//! A piece that turned out wrong is lost. Newcomers are not told of it. Who was told, and asks for it, is hung up: a
//! refusal would tell it nothing, as it may ask again at once (libtorrent does), while on its next visit it is told
//! what we have.

use super::Swarm;
use super::event::{Action, Farewell, Moment, PeerKey};
use crate::protocol::PieceIndex;
use std::collections::BTreeSet;

/// What we have no longer, for certain or perhaps.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    open: BTreeSet<PieceIndex>,
    lost: BTreeSet<PieceIndex>,
}

impl Doubts {
    /// Whether a piece waits for its verdict.
    pub(super) fn has(&self, piece: PieceIndex) -> bool {
        self.open.contains(&piece)
    }

    /// Whether a piece was ours once.
    pub(super) fn has_lost(&self, piece: PieceIndex) -> bool {
        self.lost.contains(&piece)
    }
}

impl Swarm {
    /// Pieces of ours that wait to be hashed again.
    pub fn doubted(&self) -> impl Iterator<Item = PieceIndex> {
        self.doubts.open.iter().copied()
    }

    /// How many wanted pieces are not here, whether they will be asked for or not.
    pub(super) fn missing(&self) -> u32 {
        let lost = self.doubts.lost.iter();
        let lost = lost.filter(|piece| self.facts.wanted.has(**piece));
        let never_here = self.picker.wants().count() as usize + self.picker.given_up().len();
        (never_here + lost.count()) as u32
    }

    /// Somebody may have changed these. What is with a peer's thread is withheld by the thread itself, which sees
    /// that the file is another one.
    pub(super) fn doubt(&mut self, pieces: &[PieceIndex]) {
        let ours = pieces.iter().filter(|piece| self.have.has(**piece));
        self.doubts.open.extend(ours);
        let open = &self.doubts.open;
        for peer in self.peers.values_mut() {
            peer.uploads.hold(|piece| open.contains(&piece));
        }
    }

    /// A piece in doubt was hashed again.
    pub(super) fn settle_doubt(
        &mut self,
        piece: PieceIndex,
        good: bool,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.doubts.open.remove(&piece);
        if good {
            for (key, peer) in &mut self.peers {
                if peer.uploads.release(piece) {
                    self.turns.stand_in_line(*key);
                }
            }
            return self.pump(now, actions);
        }
        self.have.clear(piece);
        self.news.forget(piece);
        self.doubts.lost.insert(piece);
        let waiting = self.peers.iter().filter(|(_, it)| it.uploads.holds(piece));
        for key in waiting.map(|(key, _)| *key).collect::<Vec<PeerKey>>() {
            self.hang_up(key, Farewell::Outdated, actions);
        }
        self.hide_nothing(actions);
    }

    /// Only who has everything can see to it that each piece goes out once before any goes out twice.
    fn hide_nothing(&mut self, actions: &mut Vec<Action>) {
        let Some(spread) = self.spread.take() else {
            return;
        };
        let peers = self.peers.values_mut();
        peers.for_each(|peer| peer.uploads.defer_nothing());
        for (key, shown) in spread.end() {
            self.show_rest(key, &shown, actions);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Event, Verdict};
    use super::super::scene::*;
    use super::*;
    use crate::protocol::peer::Message;

    fn ask(piece: u32) -> Message {
        Message::Request(wire(piece, 0, 16_384))
    }

    fn doubt(scene: &mut Scene, pieces: &[u32]) -> Vec<Action> {
        let pieces = pieces.iter().map(|piece| scene.piece(*piece)).collect();
        scene.event(Event::Doubted { pieces })
    }

    fn judge(scene: &mut Scene, piece: u32, verdict: Verdict) -> Vec<Action> {
        scene.event(Event::Checked {
            piece: scene.piece(piece),
            verdict,
            blocks: Vec::new(),
        })
    }

    /// A complete swarm and a peer with its turn.
    fn serving(fast: bool) -> Scene {
        let mut scene = Scene::complete();
        match fast {
            true => scene.connect(1),
            false => scene.connect_plain(1),
        };
        scene.say(1, Message::Interested);
        scene
    }

    fn serve(scene: &Scene, piece: u32) -> Action {
        Action::Serve {
            peer: PeerKey(1),
            block: scene.block(piece, 0),
        }
    }

    #[test]
    fn what_is_asked_of_a_piece_in_doubt_waits_and_is_sent_when_the_piece_is_good() {
        for fast in [true, false] {
            let mut scene = serving(fast);
            assert_eq!(doubt(&mut scene, &[2, 3]), []);
            assert_eq!(scene.say(1, ask(2)), []);
            let others = serve(&scene, 4);
            assert_eq!(scene.say(1, ask(4)), [others]);
            let released = serve(&scene, 2);
            assert_eq!(judge(&mut scene, 2, Verdict::Good), [released]);
            assert_eq!(judge(&mut scene, 3, Verdict::Good), []);
            assert_eq!(scene.swarm.doubted().count(), 0);
            assert!(scene.swarm.have().is_full());
        }
    }

    #[test]
    fn what_a_thread_could_not_send_waits_too_where_nobody_was_told() {
        for fast in [true, false] {
            let mut scene = serving(fast);
            scene.say(1, ask(2));
            doubt(&mut scene, &[2]);
            let (peer, block) = (PeerKey(1), scene.block(2, 0));
            scene.event(Event::Unserved { peer, block });
            if fast {
                // Its thread has rejected the request, so it asks again.
                assert_eq!(scene.say(1, ask(2)), []);
            }
            let sent = serve(&scene, 2);
            assert_eq!(judge(&mut scene, 2, Verdict::Good), [sent]);
        }
    }

    #[test]
    fn a_lost_piece_is_sent_to_nobody_and_newcomers_are_not_told_of_it() {
        for verdict in [Verdict::Bad, Verdict::Unreadable] {
            let mut scene = serving(true);
            scene.connect(2);
            scene.say(2, Message::Interested);
            scene.say(1, ask(2));
            let (peer, block) = (PeerKey(1), scene.block(2, 0));
            scene.event(Event::Served { peer, block });
            doubt(&mut scene, &[2]);
            scene.say(1, ask(2));
            let waited = judge(&mut scene, 2, verdict);
            assert_eq!(farewell(&waited, 1), Some(Farewell::Outdated));
            assert_eq!(farewell(&waited, 2), None);
            let asked = scene.say(2, ask(2));
            assert_eq!(farewell(&asked, 2), Some(Farewell::Outdated));
            scene.lose(2, Farewell::Outdated);
            let field = Message::Bitfield([0b1101_1111, 0b1100_0000].into());
            assert!(scene.connect(2).contains(&say(2, field)));
            assert_eq!(scene.swarm.standing(scene.now).pieces_have, 9);
        }
    }

    #[test]
    fn who_asks_for_other_pieces_is_not_hung_up_for_a_lost_one() {
        let mut scene = serving(true);
        doubt(&mut scene, &[2]);
        assert_eq!(judge(&mut scene, 2, Verdict::Bad), []);
        let served = serve(&scene, 3);
        assert_eq!(scene.say(1, ask(3)), [served]);
    }

    #[test]
    fn a_seed_that_has_lost_a_piece_shows_everybody_what_it_has() {
        let mut scene = serving(true);
        // It hides from those who come later.
        let hidden = scene.connect(2);
        assert!(hidden.contains(&say(2, Message::HaveNone)));
        scene.say(2, Message::Interested);
        doubt(&mut scene, &[2]);
        let shown = judge(&mut scene, 2, Verdict::Bad);
        let shown = shown.iter().filter(|it| {
            let Action::Say { peer, message } = it else {
                return false;
            };
            assert_ne!(*message, Message::Have { piece: 2 });
            *peer == PeerKey(2) && matches!(message, Message::Have { .. })
        });
        assert!(shown.count() >= 8);
    }

    #[test]
    fn what_is_not_ours_is_never_in_doubt() {
        let mut scene = Scene::having(&[0]);
        doubt(&mut scene, &[0, 1]);
        let doubted: Vec<_> = scene.swarm.doubted().collect();
        assert_eq!(doubted, [scene.piece(0)]);
    }
}
