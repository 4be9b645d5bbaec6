//! A block's way: asked for, received, its piece checked, the piece ours. Each right to write that
//! goes out with a `Request` comes back exactly once, as `Received` or `Returned`.

use super::event::{Action, Farewell, Moment, PeerKey, Verdict};
use super::peer::Peer;
use super::picker::{Asker, NextTry, Where};
use super::suspects::Repute;
use super::{Swarm, TICK, TICK_IDLE};
use crate::protocol::peer::Message;
use crate::protocol::{Block, Digest, PieceIndex};
use std::collections::BTreeSet;
use std::time::Duration;

/// A piece that so few peers have is told of at once.
const RARE: u32 = 2;

/// How long a peer goes on believing, at most, that we want something of it when we no longer do. While a
/// swarm is young, interest comes and goes with every piece; saying so each time is a flood.
const LINGER: Duration = Duration::from_secs(1);

impl Swarm {
    /// Whether we want `piece` of anybody.
    pub(super) fn wants(&self, piece: PieceIndex) -> bool {
        self.picker.wants().has(piece)
    }

    /// Tells a peer whether we want something of it, if that changed.
    pub(super) fn show_interest(&mut self, key: PeerKey, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let wanted = peer.offers_any(self.picker.wants(), &self.facts.geometry);
        if !wanted {
            self.hungry.remove(&key);
        }
        if peer.is_leaving() || wanted == peer.wanted {
            return;
        }
        peer.wanted = wanted;
        let message = if wanted {
            Message::Interested
        } else {
            Message::NotInterested
        };
        actions.push(Action::Say { peer: key, message });
    }

    /// Tells peers that we have lost interest in them.
    pub(super) fn lose_interest(&mut self, actions: &mut Vec<Action>) {
        self.pace.lapse = None;
        let wanted = self.peers.iter().filter(|(_, peer)| peer.wanted);
        for key in wanted.map(|(key, _)| *key).collect::<Vec<_>>() {
            self.show_interest(key, actions);
        }
    }

    /// Keeps a peer's pipeline as full as it should be.
    pub(super) fn fill(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        if self.pace.congested {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.chokes_us {
            peer.gifts.keep_wanted(self.picker.wants());
        }
        let room = peer
            .pipeline
            .room_beside(self.picker.out(), self.pace.out_to_quiet);
        if !peer.may_be_asked() || room == 0 {
            self.hungry.remove(&key);
            return;
        }
        if peer.rest.lasts(now) {
            self.hungry.insert(key);
            return;
        }
        let wanted = room;
        let room = room.min(self.ahead.room(self.picker.out()));
        if room == 0 {
            self.ahead.wait(key);
            return;
        }
        let asker = Asker {
            peer: key,
            holds: &peer.holds,
            current: &mut peer.current,
            suggested: &mut peer.gifts.suggested,
            only: peer.chokes_us.then_some(peer.gifts.from_it.as_slice()),
        };
        let mut blocks = Vec::with_capacity(room);
        // Who has nothing can give nothing: the first piece is fetched together.
        let eager = self.have.is_empty();
        self.picker
            .pick(asker, room, eager, now, &mut self.rng, &mut blocks);
        for block in &blocks {
            peer.pipeline.ask(*block, now);
            actions.push(Action::Request {
                peer: key,
                block: *block,
            });
        }
        if blocks.len() == room {
            self.hungry.remove(&key);
            if room < wanted {
                self.ahead.wait(key);
            }
            return;
        }
        if !peer.offers_any(self.picker.wants(), &self.facts.geometry) {
            self.hungry.remove(&key);
            return;
        }
        if self.hungry.insert(key) {
            self.ask_for_last(key, now, actions);
        }
        if self.picker.is_endgame() {
            self.ask_for_spares(key, now, actions);
        }
    }

    /// Blocks became free: those who have nothing to do get them.
    pub(super) fn feed_the_hungry(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if !self.picker.any_free() && !self.copies_wanted(now) {
            return;
        }
        let rate = |key: &PeerKey| {
            self.peers
                .get(key)
                .map_or(0.0, |peer| peer.pipeline.delivery().rate())
        };
        let mut hungry: Vec<_> = self.hungry.iter().map(|key| (rate(key), *key)).collect();
        // Where little is left, who is fast has it here soonest.
        hungry.sort_by(|one, two| two.0.total_cmp(&one.0));
        for (_, key) in hungry {
            if !self.picker.any_free() && !self.copies_wanted(now) {
                return;
            }
            self.fill(key, now, actions);
        }
    }

    /// A block of ours lies in its file.
    pub(super) fn received(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.ledger.received(block.length(), now);
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.pipeline.received(block, now);
            peer.trade.gave(block.length(), now);
            peer.rest.end();
        }
        let Some(last) = self.picker.lay(block, key) else {
            self.ledger.wasted(block.length());
            return;
        };
        self.discard_spare(block, actions);
        self.moves.end(block);
        if last {
            self.check(block.piece(), actions);
        }
        if self.ahead.is_limited() && !self.hungry.contains(&key) {
            // Those who wait go first.
            self.ahead.wait(key);
        } else if !self.hungry.contains(&key) {
            self.fill(key, now, actions);
        } else if self.picker.is_endgame() {
            self.ask_for_last(key, now, actions);
            self.ask_for_spares(key, now, actions);
        }
    }

    /// A right to write came home unused.
    pub(super) fn returned(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let peer = self.peers.get_mut(&key);
        let asked = peer.and_then(|peer| peer.pipeline.returned(block));
        let ours = asked.is_none_or(|asked| !asked.is_wanted());
        self.leave_alone(key, block, ours, now, actions);
        if !self.picker.free(block, key) {
            self.refuse_spare(key, block);
            return;
        }
        self.settle_spare(block, now, actions);
        self.hand_on(block, now, actions);
        self.fill(key, now, actions);
        self.feed_the_hungry(now, actions);
    }

    /// A request to a peer came to nothing: it is not asked again at once. `ours`: we took it back.
    pub(super) fn leave_alone(
        &mut self,
        key: PeerKey,
        block: Block,
        ours: bool,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if ours {
            return peer.rest.pause(TICK_IDLE, now);
        }
        if !peer.greeting.fast {
            // It choked us, or is about to be gone.
            return peer.rest.pause(TICK, now);
        }
        peer.gifts.refused(block.piece());
        if peer.chokes_us {
            peer.rest.pause(TICK, now);
        } else if !peer.rest.refused(now) {
            self.hang_up(key, Farewell::Useless, actions);
        }
    }

    /// Payload was thrown away.
    pub(super) fn wasted(
        &mut self,
        key: PeerKey,
        bytes: u32,
        asked: bool,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.ledger.wasted(bytes);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        // Late is no offence. Data that nobody asked for is how a line is filled with rubbish.
        if asked {
            peer.pipeline.came_late(now);
        } else if !peer.manners.unasked() {
            self.senseless(key, "it keeps sending blocks nobody asked for", actions);
        }
    }

    fn check(&self, piece: PieceIndex, actions: &mut Vec<Action>) {
        let by_block = self.suspects.wants_blocks(piece);
        actions.push(Action::Check { piece, by_block });
    }

    /// Pieces whose last block a former run laid were never checked by it.
    pub(super) fn check_what_was_laid(&mut self, actions: &mut Vec<Action>) {
        let full: Vec<_> = self.picker.full().collect();
        full.into_iter()
            .for_each(|piece| self.check(piece, actions));
    }

    /// A piece was hashed.
    pub(super) fn checked(
        &mut self,
        piece: PieceIndex,
        verdict: Verdict,
        blocks: &[Digest],
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if self.doubts.has(piece) {
            return self.settle_doubt(piece, verdict == Verdict::Good, now, actions);
        }
        // A verdict on a piece that is not waiting for one says nothing about what is under way now.
        if !self.picker.is_full(piece) {
            return;
        }
        match verdict {
            Verdict::Good => self.is_good(piece, blocks, now, actions),
            Verdict::Bad => self.is_bad(piece, blocks, now, actions),
            Verdict::Unreadable => {
                actions.push(Action::Forget { piece });
                if self.suspects.unreadable(piece) {
                    self.give_up(piece, now, actions);
                } else {
                    self.picker.retry(piece, None, now);
                }
                self.feed_the_hungry(now, actions);
            }
        }
        if !self.pace.told_complete && self.is_complete() {
            self.pace.told_complete = true;
            actions.push(Action::Complete);
            if !self.have.is_full() {
                self.tell_upload_only(actions);
            }
            self.part_with_the_complete(actions);
        }
    }

    fn is_good(
        &mut self,
        piece: PieceIndex,
        blocks: &[Digest],
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.have.set(piece);
        let mut proven = Vec::new();
        for place in self.picker.places(piece) {
            if let Where::Laid(Some(from)) = place
                && let Some(peer) = self.peers.get_mut(from)
                && !std::mem::replace(&mut peer.proven, true)
            {
                proven.push(*from);
            }
        }
        self.picker.finish(piece);
        for peer in proven {
            self.picker.is_proven(peer);
        }
        actions.push(Action::Keep { piece });
        let holding = self.picker.available().count(piece);
        let lacking = self.peers.len().saturating_sub(holding as usize);
        let bytes = self.facts.geometry.piece_size(piece);
        self.news.add(piece, bytes, lacking, holding <= RARE, now);
        for liar in self.suspects.good(piece, blocks) {
            self.banish(liar, actions);
        }
        self.want_no_more(now, actions);
    }

    fn is_bad(
        &mut self,
        piece: PieceIndex,
        blocks: &[Digest],
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.ledger.wasted(self.facts.geometry.piece_size(piece));
        let senders: Vec<Option<PeerKey>> = self
            .picker
            .places(piece)
            .iter()
            .map(|place| match place {
                Where::Laid(from) => *from,
                Where::Free | Where::Out(_) => None,
            })
            .collect();
        let proven = |key| self.peers.get(&key).is_some_and(|peer: &Peer| peer.proven);
        let repute = |key| match self.liars.contains(&key) {
            true => Repute::Liar,
            false if proven(key) => Repute::Proven,
            false => Repute::Stranger,
        };
        let judgement = self.suspects.bad(piece, &senders, blocks, repute);
        actions.push(Action::Forget { piece });
        for liar in judgement.liars {
            self.banish(liar, actions);
        }
        let took_part: BTreeSet<PeerKey> = senders.into_iter().flatten().collect();
        match self.next_try(piece, &took_part, judgement.hopeless) {
            Some(next) if !judgement.refuted => self.picker.retry(piece, Some(next), now),
            _ => self.give_up(piece, now, actions),
        }
        self.feed_the_hungry(now, actions);
    }

    /// Who tries a bad piece next: if possible somebody who has sent good pieces, or liars who are quicker than
    /// everybody else try it until it is given up. `None`: nobody should, as it is `hopeless` with strangers.
    fn next_try(
        &self,
        piece: PieceIndex,
        took_part: &BTreeSet<PeerKey>,
        hopeless: bool,
    ) -> Option<NextTry> {
        let here = || {
            let here = self.peers.iter().filter(|(_, peer)| !peer.is_leaving());
            here.filter(|(_, peer)| peer.holds.has(piece))
        };
        let mut holders = here().filter(|(_, peer)| !peer.chokes_us);
        let anyone_else = holders.any(|(key, _)| !took_part.contains(key));
        let not: Vec<_> = took_part.iter().filter(|_| anyone_else).copied().collect();
        let proven = || here().filter(|(_, peer)| peer.proven);
        let answers = |peer: &Peer| {
            !peer.chokes_us && !peer.pipeline.is_snubbed() && !peer.pipeline.is_silent()
        };
        let others = proven().filter(|(key, peer)| !took_part.contains(*key) && answers(peer));
        let mut first: Vec<_> = others.map(|(key, _)| *key).collect();
        if first.is_empty() && hopeless {
            // Honest peers choke us most of the time where many want to be served; liars never do.
            first.extend(proven().map(|(key, _)| *key));
            if first.is_empty() {
                return None;
            }
        }
        Some(NextTry { first, not })
    }

    fn give_up(&mut self, piece: PieceIndex, now: Moment, actions: &mut Vec<Action>) {
        self.picker.give_up(piece);
        self.want_no_more(now, actions);
    }

    /// A wanted piece is ours or beyond hope. Who had nothing else to offer is found a little later: looking
    /// at every peer for every piece would make a block dearer the more peers there are.
    fn want_no_more(&mut self, now: Moment, actions: &mut Vec<Action>) {
        if self.picker.wants().is_empty() {
            self.lose_interest(actions);
        } else {
            self.pace.lapse.get_or_insert(now + LINGER);
        }
    }

    /// The peer that sent wrong data leaves and is not called again.
    fn banish(&mut self, liar: super::suspects::Sender, actions: &mut Vec<Action>) {
        self.liars.insert(liar.peer);
        self.addresses.ban(liar.address);
        let listens = self.peers.get(&liar.peer).and_then(|peer| peer.listens);
        if let Some(listens) = listens {
            self.addresses.ban(listens);
        }
        self.hang_up(liar.peer, Farewell::Lied, actions);
    }

    /// Looks for requests that have been out for too long, and takes them away.
    pub(super) fn look_at_time_outs(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.pace.out_to_quiet = 0;
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            if peer.is_leaving() || peer.pipeline.is_idle() {
                continue;
            }
            if peer.pipeline.is_quiet(now) {
                self.pace.out_to_quiet += peer.pipeline.busy();
            }
            let available = self.picker.available();
            let late = peer
                .pipeline
                .overdue(now, |block| available.count(block.piece()) > 1);
            if peer.pipeline.is_snubbed() {
                self.picker.release(key, &mut peer.current);
            }
            for block in late {
                actions.push(Action::Revoke { peer: key, block });
            }
            self.drop_spares(key, Some(now), actions);
        }
        self.picker.end_care(now);
        self.take_over(now, actions);
        self.feed_the_hungry(now, actions);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::Limits;
    use super::super::event::Event;
    use super::super::scene::*;
    use super::*;
    use crate::protocol::bitfield::Bitfield;
    use crate::protocol::peer::extension::ExtensionHandshake;
    use std::time::Duration;

    const SECOND: Duration = Duration::from_secs(1);

    fn checked(scene: &mut Scene, piece: u32, verdict: Verdict, texts: &[&str]) -> Vec<Action> {
        let piece = scene.piece(piece);
        let blocks = texts.iter().map(|it| Digest::of(it.as_bytes())).collect();
        scene.event(Event::Checked {
            piece,
            verdict,
            blocks,
        })
    }

    fn check(scene: &Scene, piece: u32, by_block: bool) -> Action {
        let piece = scene.piece(piece);
        Action::Check { piece, by_block }
    }

    #[test]
    fn a_piece_is_asked_for_received_checked_and_kept_and_completion_is_told_once() {
        let mut scene = Scene::of(1, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        assert_eq!(asked, [scene.block(0, 0), scene.block(0, 1)]);
        assert_eq!(scene.receive(1, asked[0]), []);
        assert_eq!(scene.receive(1, asked[1]), [check(&scene, 0, false)]);
        let actions = checked(&mut scene, 0, Verdict::Good, &[]);
        let piece = scene.piece(0);
        assert!(actions.starts_with(&[Action::Keep { piece }]));
        assert!(actions.contains(&Action::Complete));
        assert_eq!(farewell(&actions, 1), Some(Farewell::BothComplete));
        assert_eq!(checked(&mut scene, 0, Verdict::Good, &[]), []);
        assert!(scene.swarm.is_complete());
        assert_eq!(scene.swarm.standing(scene.now).have, 32_768);
    }

    #[test]
    fn blocks_of_a_former_run_are_not_asked_again_and_its_full_pieces_are_checked() {
        let laid = Scene::of(2, &[], |_| {});
        let laid = [laid.block(0, 0), laid.block(1, 0), laid.block(1, 1)];
        let mut scene = Scene::of(2, &[], |setup| setup.laid = laid.into());
        assert!(scene.swarm.wake_at().is_some());
        assert_eq!(scene.wait(SECOND), [check(&scene, 1, false)]);
        assert_eq!(scene.swarm.laid().collect::<Vec<_>>(), laid);
        let asked = requests(&scene.connect_seed(1), 1);
        assert_eq!(asked, [scene.block(0, 1)]);
    }

    /// A scene in which these of four pieces are wanted.
    fn wanting(pieces: &[u32], have: &[u32]) -> Scene {
        Scene::of(4, have, |setup| {
            let geometry = setup.geometry;
            setup.wanted = Bitfield::new(&geometry);
            for piece in pieces.iter().filter_map(|it| geometry.piece(*it)) {
                setup.wanted.set(piece);
            }
        })
    }

    #[test]
    fn what_is_not_wanted_is_never_asked_for_and_makes_nobody_interesting() {
        let mut scene = wanting(&[1, 2], &[1]);
        scene.connect(1);
        let field = |bits: u8| Message::Bitfield([bits].into());
        assert_eq!(scene.say(1, field(0b1101_0000)), [], "nothing we want");
        assert_eq!(requests(&scene.say(1, Message::Unchoke), 1), []);
        let actions = scene.say(1, Message::Have { piece: 2 });
        assert!(actions.contains(&say(1, Message::Interested)));
        assert_eq!(
            requests(&actions, 1),
            [scene.block(2, 0), scene.block(2, 1)]
        );
        assert_eq!(scene.swarm.standing(scene.now).wanted_have, 32_768);
    }

    #[test]
    fn with_all_we_want_we_are_complete_for_ourselves_and_no_seed() {
        let mut scene = wanting(&[1], &[]);
        let mut extended = greeting(2);
        extended.extended = true;
        let peer = PeerKey(2);
        scene.event(Event::Connected {
            peer,
            greeting: extended,
        });
        scene.connect_seed(1);
        for number in 0..2 {
            scene.receive(1, scene.block(1, number));
        }
        let actions = checked(&mut scene, 1, Verdict::Good, &[]);
        assert!(actions.contains(&Action::Complete));
        assert!(scene.swarm.is_complete() && !scene.swarm.have().is_full());
        assert_eq!(farewell(&actions, 1), Some(Farewell::BothComplete));
        let told = actions.iter().find_map(|action| match action {
            Action::Say {
                peer: PeerKey(2),
                message: Message::Extended { id: 0, payload },
            } => ExtensionHandshake::decode(payload),
            _ => None,
        });
        assert!(told.is_some_and(|it| it.upload_only), "{actions:?}");
        // Who comes later is told at once, and may have what we have.
        let greeted = scene.connect(3);
        assert!(greeted.contains(&say(3, Message::Bitfield([0b0100_0000].into()))));
        scene.say(3, Message::Interested);
        let ask = Message::Request(wire(1, 0, 16_384));
        assert!(matches!(scene.say(3, ask)[..], [Action::Serve { .. }]));
        let seed = scene.connect_seed(4);
        assert_eq!(seed, []);
        assert!(scene.swarm.peers().all(|(_, peer)| !peer.wanted));
    }

    #[test]
    fn wanting_nothing_is_complete_from_the_start() {
        let mut scene = wanting(&[], &[]);
        assert!(scene.swarm.is_complete() && !scene.swarm.is_stuck());
        assert_eq!(requests(&scene.connect_seed(1), 1), []);
        assert_eq!(scene.swarm.standing(scene.now).wanted_have, 0);
    }

    #[test]
    fn in_order_every_peer_helps_with_the_first_pieces_and_gifts_from_afar_are_left() {
        let mut scene = Scene::of(50, &[], |setup| setup.sequential = true);
        let first = requests(&scene.connect_seed(1), 1);
        let in_order = |blocks: &[Block]| blocks.is_sorted();
        assert!(in_order(&first) && first[0] == scene.block(0, 0));
        let second = requests(&scene.connect_seed(2), 2);
        assert!(in_order(&second) && second[0] > first[first.len() - 1]);
        // What comes home is the first to be asked for again.
        scene.give_back(1, first[3]);
        let answers = second.iter().map(|block| scene.receive(2, *block));
        let next = answers.flat_map(|actions| requests(&actions, 2)).next();
        assert_eq!(next, Some(first[3]));
        scene.connect(3);
        scene.say(3, Message::HaveAll);
        let actions = scene.say(3, Message::AllowedFast { piece: 40 });
        assert_eq!(requests(&actions, 3), []);
    }

    #[test]
    fn storage_that_cannot_follow_pauses_the_asking() {
        let mut scene = Scene::having(&[]);
        scene.event(Event::Congested(true));
        assert_eq!(requests(&scene.connect_seed(1), 1), []);
        let actions = scene.event(Event::Congested(false));
        assert_eq!(requests(&actions, 1).len(), 20);
    }

    #[test]
    fn a_limited_download_asks_for_little_ahead_and_its_peers_take_turns() {
        let mut scene = Scene::of(20, &[], |setup| setup.limits.down_rate = Some(1));
        let first = requests(&scene.connect_seed(1), 1);
        assert_eq!(first.len(), 4);
        assert_eq!(requests(&scene.connect_seed(2), 2), []);
        assert_eq!(requests(&scene.connect_seed(3), 3), []);
        // What one delivers, the next may ask for; who delivered stands at the end.
        let mut turns = Vec::new();
        let mut out: Vec<(u64, Block)> = first.into_iter().map(|block| (1, block)).collect();
        for _ in 0..12 {
            let (from, block) = out.remove(0);
            let actions = scene.receive(from, block);
            for key in 1..=3 {
                let asked = requests(&actions, key);
                turns.extend(asked.iter().map(|_| key));
                out.extend(asked.into_iter().map(|block| (key, block)));
            }
            assert_eq!(out.len(), 4);
        }
        let of = |key| turns.iter().filter(|turn| **turn == key).count();
        assert_eq!((of(1), of(2), of(3)), (4, 4, 4), "{turns:?}");
        // Without the limit as much is asked for as there is.
        scene.swarm.set_limits(Limits::default());
        let (from, block) = out.remove(0);
        let actions = scene.receive(from, block);
        let asked: usize = (1..=3).map(|key| requests(&actions, key).len()).sum();
        assert!(asked > 20, "{actions:?}");
    }

    #[test]
    fn the_only_sender_of_a_bad_piece_is_hung_up_and_the_piece_is_asked_of_another() {
        let mut scene = Scene::of(1, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        scene.connect_seed(2);
        asked.iter().for_each(|block| {
            scene.receive(1, *block);
        });
        let actions = checked(&mut scene, 0, Verdict::Bad, &["a", "x"]);
        let piece = scene.piece(0);
        assert_eq!(actions[0], Action::Forget { piece });
        assert_eq!(farewell(&actions, 1), Some(Farewell::Lied));
        assert_eq!(requests(&actions, 2), asked);
        assert_eq!(scene.swarm.standing(scene.now).wasted, 32_768);
        scene.lose(1, Farewell::Lied);
        let again = scene.connect(1);
        assert_eq!(farewell(&again, 1), Some(Farewell::Lied));
        assert_eq!(scene.swarm.standing(scene.now).liars, 1);
    }

    #[test]
    fn of_two_senders_the_liar_is_known_when_a_third_delivers_the_piece_whole() {
        let mut scene = Scene::of(1, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        scene.receive(1, asked[0]);
        scene.connect_seed(2);
        let moved = scene.give_back(1, asked[1]);
        assert_eq!(requests(&moved, 2), [asked[1]]);
        scene.receive(2, asked[1]);
        scene.connect_seed(3);
        let actions = checked(&mut scene, 0, Verdict::Bad, &["a", "x"]);
        // Nobody is accused yet, and neither of the two gets the next try.
        assert!((1..4).all(|key| farewell(&actions, key).is_none()));
        assert_eq!(requests(&actions, 3), asked);
        scene.receive(3, asked[0]);
        assert!(scene.receive(3, asked[1]).contains(&check(&scene, 0, true)));
        let actions = checked(&mut scene, 0, Verdict::Good, &["a", "b"]);
        assert_eq!(farewell(&actions, 2), Some(Farewell::Lied));
        assert_ne!(farewell(&actions, 1), Some(Farewell::Lied));
    }

    #[test]
    fn a_piece_that_five_peers_deliver_wrong_is_given_up_and_wanted_no_more() {
        let mut scene = Scene::of(2, &[1], |_| {});
        for key in 1..=5 {
            let asked = requests(&scene.connect_seed(key), key);
            assert_eq!(asked.len(), 2, "try {key}");
            asked.iter().for_each(|block| {
                scene.receive(key, *block);
            });
            checked(&mut scene, 0, Verdict::Bad, &["x", "y"]);
            scene.lose(key, Farewell::Lied);
        }
        assert_eq!(scene.swarm.failed_pieces(), [scene.piece(0)]);
        assert_eq!(scene.connect_seed(6), []);
    }

    #[test]
    fn a_bad_piece_is_tried_by_who_has_sent_good_ones_and_not_by_the_quickest_stranger() {
        let (mut scene, rest, mut actions) = after_a_lie();
        assert_eq!(farewell(&actions, 2), Some(Farewell::Lied));
        actions.extend(scene.wait(Duration::from_secs(20)));
        assert_eq!(requests(&actions, 3), []);
        assert_eq!(requests(&actions, 1), rest);
    }

    #[test]
    fn what_proven_peers_have_is_not_given_up_for_strangers_lies_though_they_choke_us() {
        for chokes in [false, true] {
            let mut scene = Scene::of(1, &[], |_| {});
            for key in 1..=5 {
                let asked = requests(&scene.connect_seed(key), key);
                asked.iter().for_each(|block| {
                    scene.receive(key, *block);
                });
                if key == 5 {
                    scene.connect_seed(6);
                    scene.swarm.peers.get_mut(&PeerKey(6)).unwrap().proven = true;
                    if chokes {
                        scene.say(6, Message::Choke);
                    }
                }
                checked(&mut scene, 0, Verdict::Bad, &["x", "y"]);
                scene.lose(key, Farewell::Lied);
            }
            assert_eq!(scene.swarm.failed_pieces(), []);
            let next = scene.say(6, Message::Unchoke);
            assert_eq!(requests(&next, 6).len(), if chokes { 2 } else { 0 });
        }
    }

    /// Of two pieces peer 1 sent a good one, and a stranger a bad one; 1 and 3, a stranger too, could try that next.
    fn after_a_lie() -> (Scene, Vec<Block>, Vec<Action>) {
        let mut scene = Scene::of(2, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        let (good, rest): (Vec<_>, Vec<_>) = asked
            .iter()
            .partition(|block| block.piece() == asked[0].piece());
        good.iter().for_each(|block| {
            scene.receive(1, *block);
        });
        let number = asked[0].piece().get();
        checked(&mut scene, number, Verdict::Good, &[]);
        scene.connect_seed(2);
        for block in &rest {
            scene.give_back(1, *block);
            scene.receive(2, *block);
        }
        scene.connect_seed(3);
        let actions = checked(&mut scene, 1 - number, Verdict::Bad, &["a", "x"]);
        (scene, rest, actions)
    }

    #[test]
    fn a_bad_piece_waits_for_no_proven_peer_that_is_gone_hung_up_or_choking() {
        for how in 0..3 {
            let (mut scene, rest, mut actions) = after_a_lie();
            actions.extend(match how {
                0 => scene.lose(1, Farewell::Closed),
                1 => scene.say(1, Message::Have { piece: 10_000 }),
                _ => scene.say(1, Message::Choke),
            });
            actions.extend(scene.wait(Duration::from_secs(2)));
            assert_eq!(requests(&actions, 3), rest, "{how}");
        }
    }

    #[test]
    fn a_bad_piece_waits_for_no_proven_peer_that_has_broken_off() {
        let mut scene = Scene::of(3, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        let (good, bad) = (asked[0].piece(), asked[2].piece());
        for block in &asked[..2] {
            scene.wait(Duration::from_millis(100));
            scene.receive(1, *block);
        }
        checked(&mut scene, good.get(), Verdict::Good, &[]);
        scene.connect_seed(2);
        for block in &asked[2..4] {
            scene.give_back(1, *block);
        }
        scene.wait(Duration::from_secs(10));
        for block in &asked[2..4] {
            scene.receive(2, *block);
        }
        scene.connect_seed(3);
        let mut actions = checked(&mut scene, bad.get(), Verdict::Bad, &["a", "x"]);
        actions.extend(scene.wait(Duration::from_secs(2)));
        let tried = requests(&actions, 3);
        assert!(
            asked[2..4].iter().all(|block| tried.contains(block)),
            "{tried:?}"
        );
    }

    #[test]
    fn who_has_sent_good_pieces_meanwhile_tries_a_bad_one_too() {
        let (mut scene, rest, _) = after_a_lie();
        scene.swarm.picker.is_proven(PeerKey(3));
        assert_eq!(requests(&scene.wait(Duration::from_secs(2)), 3), rest);
    }

    #[test]
    fn an_unreadable_piece_is_nobodys_fault() {
        let mut scene = Scene::of(1, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        asked.iter().for_each(|block| {
            scene.receive(1, *block);
        });
        let actions = checked(&mut scene, 0, Verdict::Unreadable, &[]);
        assert_eq!(farewell(&actions, 1), None);
        assert_eq!(requests(&actions, 1), asked);
        assert_eq!(scene.swarm.laid().count(), 0);
    }

    #[test]
    fn a_silent_peers_blocks_are_taken_back_after_half_a_minute_if_others_have_them() {
        let mut scene = Scene::having(&[]);
        let asked = requests(&scene.connect_seed(1), 1);
        let lonely = scene.wait(SECOND * 40);
        assert!(!lonely.iter().any(|it| matches!(it, Action::Revoke { .. })));
        scene.connect(2);
        scene.say(2, Message::HaveAll);
        let actions = scene.wait(SECOND * 2);
        let revoked: Vec<_> = actions
            .iter()
            .filter_map(|action| match action {
                Action::Revoke { block, .. } => Some(*block),
                _ => None,
            })
            .collect();
        assert_eq!(revoked, asked);
        for block in revoked {
            assert_eq!(requests(&scene.give_back(1, block), 1), []);
        }
        assert_eq!(requests(&scene.say(2, Message::Unchoke), 2).len(), 20);
    }

    #[test]
    fn what_the_only_peer_lost_is_asked_of_it_again() {
        let mut scene = Scene::of(2, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        for block in &asked[1..] {
            scene.receive(1, *block);
        }
        let actions = scene.wait(SECOND * 32);
        let block = asked[0];
        let peer = PeerKey(1);
        assert!(actions.contains(&Action::Revoke { peer, block }));
        scene.give_back(1, block);
        assert_eq!(requests(&scene.wait(SECOND * 2), 1), [block]);
    }

    #[test]
    fn who_refuses_everything_is_asked_seldom_and_left_after_a_minute() {
        let mut scene = Scene::of(1, &[], |_| {});
        let mut asked = requests(&scene.connect_seed(1), 1);
        // Another that brings nothing has us look for work ten times a second.
        scene.connect(2);
        let mut times = Vec::new();
        let mut left = None;
        for tenth in 0..1_000 {
            for block in asked {
                times.push(tenth);
                left = left.or(farewell(&scene.give_back(1, block), 1).map(|_| tenth));
            }
            asked = requests(&scene.wait(SECOND / 10), 1);
        }
        assert!(times.len() <= 2 * 7, "{times:?}");
        assert!(
            left.is_some_and(|tenth| (600..700).contains(&tenth)),
            "{left:?}"
        );
    }

    #[test]
    fn who_refuses_what_it_was_asked_before_it_choked_us_is_asked_anew_when_it_unchokes() {
        let mut scene = Scene::of(1, &[], |_| {});
        let asked = requests(&scene.connect_seed(1), 1);
        for _ in 0..20 {
            scene.say(1, Message::Choke);
            for block in &asked {
                assert_eq!(scene.give_back(1, *block), []);
            }
            assert_eq!(requests(&scene.say(1, Message::Unchoke), 1), asked);
        }
    }

    #[test]
    fn an_allowed_piece_that_is_refused_is_not_asked_for_again_while_we_are_choked() {
        let mut scene = Scene::having(&[]);
        scene.connect(1);
        scene.say(1, Message::HaveAll);
        let asked = requests(&scene.say(1, Message::AllowedFast { piece: 7 }), 1);
        assert_eq!(asked.len(), 2);
        for block in asked {
            assert_eq!(scene.give_back(1, block), []);
        }
        assert_eq!(requests(&scene.wait(SECOND * 200), 1), []);
    }

    #[test]
    fn keys_that_left_and_blocks_nobody_has_harm_nothing() {
        let mut scene = Scene::having(&[]);
        let asked = requests(&scene.connect_seed(1), 1);
        let (peer, block) = (PeerKey(7), scene.block(0, 0));
        assert_eq!(scene.receive(7, block), []);
        assert_eq!(scene.give_back(7, block), []);
        assert_eq!(scene.event(Event::Held { peer, block }), []);
        assert_eq!(scene.event(Event::Served { peer, block }), []);
        assert_eq!(scene.lose(7, Farewell::Closed), []);
        assert_eq!(checked(&mut scene, 0, Verdict::Bad, &[]), []);
        // What came of nobody is thrown away, and the one who was asked is still waited for.
        assert_eq!(scene.swarm.standing(scene.now).wasted, 16_384);
        assert_eq!(scene.swarm.laid().count(), 0);
        for block in asked {
            scene.receive(1, block);
        }
        assert_eq!(scene.swarm.laid().count(), 20);
    }

    #[test]
    fn gifts_that_are_ours_by_now_wake_nobody_and_take_no_place() {
        let mut scene = Scene::of(20, &[], |_| {});
        scene.connect(1);
        scene.say(1, Message::HaveAll);
        for piece in 0..17 {
            // More than are remembered at a time.
            let asked = requests(&scene.say(1, Message::AllowedFast { piece }), 1);
            assert_eq!(asked.len(), 2, "{piece}");
            for block in asked {
                scene.receive(1, block);
            }
            checked(&mut scene, piece, Verdict::Good, &[]);
        }
        // A look at what is late, one at who lost interest, and then nothing until trackers are due.
        scene.wait(2 * SECOND);
        assert_eq!(scene.swarm.wake_at(), Some(60 * SECOND));
    }
}
