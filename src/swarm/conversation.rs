//! What a peer's messages mean, and whether they make sense: the second of three checks, after their
//! shape and before the truth of the data.

use super::Swarm;
use super::arrivals::ALLOWED_FAST;
use super::event::{Action, Farewell, Moment, PeerKey, Way};
use super::peer::Holding;
use super::uploads::Cancelled;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::geometry::SERVED_BLOCK_LENGTH_MAX;
use crate::protocol::peer::extension::ExtensionHandshake;
use crate::protocol::peer::{Message, WireBlock};
use crate::protocol::{Block, PieceIndex};
use std::net::SocketAddr;

impl Swarm {
    /// A peer said something.
    pub(super) fn said(
        &mut self,
        key: PeerKey,
        message: Message,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.is_leaving()) else {
            return;
        };
        if is_fast(&message) && !peer.greeting.fast {
            return self.senseless(key, "it speaks the fast extension unannounced", actions);
        }
        let late = peer.settled_in;
        if is_tiresome(&message) && !peer.manners.flip(now) {
            return self.senseless(key, "it changes its mind too often", actions);
        }
        // What belongs to no moment may come before the bitfield; everything else ends its time.
        peer.settled_in |= !matches!(
            message,
            Message::KeepAlive | Message::Extended { .. } | Message::Port { .. }
        );
        match message {
            Message::KeepAlive => self.show_to_all(now, actions),
            Message::Port { .. } | Message::Piece(_) => {}
            Message::Choke => self.chokes_us(key, now, actions),
            Message::Unchoke => self.unchokes_us(key, now, actions),
            Message::Interested => {
                self.wants_us(key, true, now);
                self.show_more(key, now, actions);
            }
            Message::NotInterested => self.wants_us(key, false, now),
            Message::Have { piece } => self.got(key, piece, now, actions),
            Message::Bitfield(bits) => match Bitfield::from_bytes(&bits, &self.facts.geometry) {
                Ok(field) if late => self.repeats_itself(key, &Holding::Some(field), now, actions),
                Ok(field) => self.holds(key, Holding::Some(field), now, actions),
                Err(error) => self.senseless(key, &error.to_string(), actions),
            },
            Message::HaveAll if late => {
                self.repeats_itself(key, &Holding::Everything, now, actions)
            }
            Message::HaveNone if late => self.repeats_itself(key, &Holding::Nothing, now, actions),
            Message::HaveAll => self.holds(key, Holding::Everything, now, actions),
            Message::HaveNone => {}
            Message::Request(wire) => self.requested(key, wire, now, actions),
            Message::Cancel(wire) => self.cancelled(key, wire, now, actions),
            Message::Reject(wire) => {
                // A slot's thread sends it home itself; a spare has no slot.
                if let Some(block) = self.locate(wire)
                    && self.refuse_spare(key, block)
                {
                    self.leave_alone(key, block, false, now, actions);
                }
            }
            Message::Suggest { piece } => self.suggested(key, piece, actions),
            Message::AllowedFast { piece } => self.allowed(key, piece, now, actions),
            Message::Extended { id, payload } => {
                if id == 0 {
                    self.introduced(key, &payload, now, actions);
                }
            }
        }
    }

    fn locate(&self, wire: WireBlock) -> Option<Block> {
        let geometry = &self.facts.geometry;
        geometry.locate(wire.piece, wire.begin, wire.length, SERVED_BLOCK_LENGTH_MAX)
    }

    /// The peer answers no more. Without the fast extension its thread sends all slots home now; with
    /// it, each comes home when its request is rejected.
    fn chokes_us(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            if !std::mem::replace(&mut peer.chokes_us, true) {
                peer.pipeline.restart(now);
            }
            self.picker.release(key, &mut peer.current);
        }
        self.hungry.remove(&key);
        self.drop_spares(key, None, actions);
        // What it was working on is anybody's now; pieces it still gives are asked of it (BEP 6).
        self.feed_the_hungry(now, actions);
        self.fill(key, now, actions);
    }

    fn unchokes_us(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.rest.lift();
            // Who says it again and again would never have been silent for long.
            if std::mem::replace(&mut peer.chokes_us, false) {
                peer.pipeline.restart(now);
            }
        }
        self.fill(key, now, actions);
    }

    fn wants_us(&mut self, key: PeerKey, wants: bool, now: Moment) {
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.wants_us != wants
        {
            peer.wants_us = wants;
            peer.free_to_ask = (!peer.choked).then_some(now);
            self.pace.choker_due = true;
        }
    }

    /// The peer has one more piece.
    fn got(&mut self, key: PeerKey, index: u32, now: Moment, actions: &mut Vec<Action>) {
        let Some(piece) = self.facts.geometry.piece(index) else {
            return self.senseless(key, "it has a piece that does not exist", actions);
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.holds.has(piece) {
            return self.gains(key, &[piece], now, actions);
        }
        if !peer.manners.idle_have() {
            self.senseless(key, "it keeps announcing the same pieces", actions);
        }
    }

    /// A bitfield, have-all or have-none where haves are due. BEP 3 has it as the first message only, but aria2
    /// sends another instead of twenty haves, and have-all when it is complete. What is new in it counts as
    /// haves; taking pieces back makes no sense, nor does telling nothing new again and again.
    fn repeats_itself(
        &mut self,
        key: PeerKey,
        holds: &Holding,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if peer.holds.exceeds(holds) {
            return self.senseless(key, "it takes back pieces that it had", actions);
        }
        let new = holds.pieces_beyond(&peer.holds, &self.facts.geometry);
        if !peer.manners.late_field(!new.is_empty()) {
            return self.senseless(key, "it keeps announcing all that it has", actions);
        }
        if !new.is_empty() {
            self.gains(key, &new, now, actions);
        }
    }

    /// The peer has these pieces, too, none of which it had. What follows is looked at once, however many they are.
    fn gains(
        &mut self,
        key: PeerKey,
        pieces: &[PieceIndex],
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        for piece in pieces {
            peer.gain(*piece, self.picker.wants(), &self.facts.geometry);
            if let Some(spread) = &mut self.spread {
                spread.gained(key, *piece);
            }
            if self.facts.downloads {
                self.picker.available().gain(*piece, &mut self.rng);
            }
        }
        let full = peer.holds.is_full();
        self.unveil(actions);
        self.show_more(key, now, actions);
        if full {
            self.part_with_the_complete(actions);
        }
        if pieces.iter().any(|piece| self.wants(*piece)) {
            self.show_interest(key, actions);
            self.fill(key, now, actions);
        }
    }

    /// The peer said all it has.
    fn holds(&mut self, key: PeerKey, holds: Holding, now: Moment, actions: &mut Vec<Action>) {
        let geometry = self.facts.geometry;
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if self.facts.downloads {
            self.picker.available().arrive(&holds);
        }
        let full = holds.is_full();
        if let Some(spread) = &mut self.spread {
            let theirs = geometry.all_pieces().filter(|piece| holds.has(*piece));
            theirs.for_each(|piece| spread.gained(key, piece));
        }
        peer.tell_all(holds, self.picker.wants(), &geometry);
        if full {
            self.part_with_the_complete(actions);
        }
        self.show_interest(key, actions);
        self.fill(key, now, actions);
    }

    /// The peer wants a block of ours.
    fn requested(&mut self, key: PeerKey, wire: WireBlock, now: Moment, actions: &mut Vec<Action>) {
        let Some(block) = self.locate(wire) else {
            return self.senseless(key, "it asks for a block that does not exist", actions);
        };
        let pieces = self.facts.geometry.pieces();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        // A gift for newcomers: who has as many pieces as the set can stand in line (BEP 6).
        let gift = peer.gifts.to_it.contains(&block.piece())
            && peer.holds.count(pieces) < ALLOWED_FAST as u32;
        let ours = self.have.has(block.piece());
        let doubted = self.doubts.has(block.piece());
        if peer.uploads.has(block) {
            // One answer is on its way, and is enough.
            if !peer.uploads.refuse() {
                self.senseless(key, "it keeps asking for what it is about to get", actions);
            }
            return;
        }
        if self.doubts.has_lost(block.piece()) {
            return self.hang_up(key, Farewell::Outdated, actions);
        }
        if ours && doubted && (!peer.choked || gift) && peer.uploads.request_in_doubt(block) {
            peer.asked = true;
            return;
        }
        if ours && !doubted && (!peer.choked || gift) && peer.uploads.request(block) {
            peer.asked = true;
            if let Some(spread) = &mut self.spread {
                spread.requested(key, block, now);
            }
            self.turns.stand_in_line(key);
            return self.pump(now, actions);
        }
        let bearable = peer.uploads.refuse();
        if peer.greeting.fast {
            let message = Message::Reject(wire);
            actions.push(Action::Say { peer: key, message });
        }
        if !bearable {
            self.senseless(key, "it keeps asking for what it is refused", actions);
        }
    }

    /// A block has left for a peer.
    pub(super) fn served(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        self.ledger.served(block.length(), now);
        self.pace.choker_due |= self.choker.lacks(self.slots(now));
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.trade.took(block.length(), now);
        peer.uploads.served(block, now);
        if let Some(spread) = &mut self.spread {
            spread.served(key, block, now);
        }
        // Its share of the line is free.
        self.pace.choker_due |= peer.uploads.is_idle();
        if !peer.is_leaving() {
            self.pump(now, actions);
            self.show_more(key, now, actions);
        }
    }

    /// A block is not sent after all. A repeated request is a new one.
    pub(super) fn unserved(
        &mut self,
        key: PeerKey,
        block: Block,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.uploads.unserved(block);
            // Who speaks the fast extension was told, and asks again.
            let waits = !peer.greeting.fast && !peer.is_leaving() && self.doubts.has(block.piece());
            if waits && !peer.uploads.has(block) {
                peer.uploads.request_in_doubt(block);
            }
            self.pump(now, actions);
        }
    }

    /// The peer takes a request back. With the fast extension that, too, is answered.
    fn cancelled(&mut self, key: PeerKey, wire: WireBlock, now: Moment, actions: &mut Vec<Action>) {
        let Some(block) = self.locate(wire) else {
            return self.senseless(key, "it cancels a block that does not exist", actions);
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        match peer.uploads.cancel(block) {
            Cancelled::Queued if peer.greeting.fast => {
                let message = Message::Reject(wire);
                actions.push(Action::Say { peer: key, message });
            }
            Cancelled::Ahead => {
                actions.push(Action::Withhold { peer: key, block });
                self.pump(now, actions);
            }
            Cancelled::Queued | Cancelled::Late => {}
            Cancelled::Unasked => {
                if !peer.manners.flip(now) {
                    self.senseless(key, "it keeps cancelling what it never asked for", actions);
                }
            }
        }
    }

    /// Ends a peer's turn: what it asked for is refused, but for gifts.
    pub(super) fn choke(&mut self, key: PeerKey, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.choked) else {
            return;
        };
        peer.choked = true;
        let (fast, gifts) = (peer.greeting.fast, &peer.gifts.to_it);
        let (queued, ahead) = peer.uploads.clear(|block| gifts.contains(&block.piece()));
        let mut say = |message| actions.push(Action::Say { peer: key, message });
        say(Message::Choke);
        if fast {
            for block in queued {
                say(Message::Reject(WireBlock::from(block)));
            }
        }
        self.pace.pump_due |= !ahead.is_empty();
        for block in ahead {
            actions.push(Action::Withhold { peer: key, block });
        }
        // Those in line are looked at for each block: not all whom a large seed has ever served.
        if peer.uploads.is_idle() {
            self.turns.forget(key);
        }
    }

    /// Begins a peer's turn.
    pub(super) fn unchoke(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.choked) {
            peer.choked = false;
            peer.free_to_ask.get_or_insert(now);
            let message = Message::Unchoke;
            actions.push(Action::Say { peer: key, message });
        }
    }

    fn suggested(&mut self, key: PeerKey, index: u32, actions: &mut Vec<Action>) {
        let Some(piece) = self.facts.geometry.piece(index) else {
            return self.senseless(key, "it suggests a piece that does not exist", actions);
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.gifts.suggest(piece, self.picker.wants());
        }
    }

    fn allowed(&mut self, key: PeerKey, index: u32, now: Moment, actions: &mut Vec<Action>) {
        let Some(piece) = self.facts.geometry.piece(index) else {
            return self.senseless(key, "it allows a piece that does not exist", actions);
        };
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.gifts.allow(piece, self.picker.wants());
            if peer.chokes_us {
                self.fill(key, now, actions);
            }
        }
    }

    /// The peer introduced itself in the extension protocol's handshake (BEP 10).
    fn introduced(&mut self, key: PeerKey, payload: &[u8], now: Moment, actions: &mut Vec<Action>) {
        let Some(theirs) = ExtensionHandshake::decode(payload) else {
            return;
        };
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if let Some(client) = theirs.client {
            peer.client = client;
        }
        if let Some(reqq) = theirs.reqq {
            peer.pipeline.set_reqq(reqq);
        }
        // Two seeds that hide what they have would never find out that they have no use for each other.
        let both_complete = theirs.upload_only && self.spread.is_some();
        if let Some(port) = theirs.listen_port
            && peer.greeting.way == Way::Accepted
            && peer.listens.is_none()
        {
            let listens = SocketAddr::new(peer.greeting.address.ip(), port);
            peer.listens = Some(listens);
            self.addresses.joined(listens, now);
        }
        if both_complete {
            self.hang_up(key, Farewell::BothComplete, actions);
        }
    }
}

/// Cheap to say and not free to hear.
fn is_tiresome(message: &Message) -> bool {
    matches!(
        message,
        Message::KeepAlive
            | Message::Choke
            | Message::Unchoke
            | Message::Interested
            | Message::NotInterested
            | Message::Extended { .. }
    )
}

fn is_fast(message: &Message) -> bool {
    matches!(
        message,
        Message::HaveAll
            | Message::HaveNone
            | Message::Suggest { .. }
            | Message::Reject(_)
            | Message::AllowedFast { .. }
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::event::{Event, Farewell, Greeting, Origin, Verdict};
    use super::super::scene::*;
    use super::*;
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::time::Duration;

    proptest! {
        #[test]
        fn a_late_bitfield_or_have_all_does_what_the_same_haves_one_by_one_do(ours in btree_set(0u32..40, 0..30), others in vec(btree_set(0u32..40, 0..40), 0..4), before in btree_set(0u32..40, 0..40), more in btree_set(0u32..40, 0..40), all in any::<bool>(), allowed in btree_set(0u32..40, 0..4)) {
            let ours: Vec<_> = ours.into_iter().collect();
            let after: BTreeSet<_> = if all { (0..40).collect() } else { &before | &more };
            let bits = |pieces: &BTreeSet<u32>| {
                let bits = pieces.iter().fold(0u64, |bits, piece| bits | 1 << (39 - piece));
                Message::Bitfield(bits.to_be_bytes()[3..].into())
            };
            let have = |piece: &u32| Message::Have { piece: *piece };
            let late = if all { Message::HaveAll } else { bits(&after) };
            let one_by_one = (&after - &before).iter().map(have).collect();
            let mut ends = [vec![late], one_by_one].into_iter().map(|messages: Vec<_>| {
                let mut scene = Scene::of(40, &ours, |_| {});
                for (key, pieces) in (2..).zip(&others) {
                    scene.connect(key);
                    scene.say(key, bits(pieces));
                }
                scene.connect(1);
                scene.say(1, bits(&before));
                for piece in &allowed {
                    scene.say(1, Message::AllowedFast { piece: *piece });
                }
                let said: Vec<_> = messages.into_iter().flat_map(|it| scene.say(1, it)).collect();
                let interest = said.contains(&say(1, Message::Interested));
                let asked: BTreeSet<_> = requests(&said, 1).into_iter().collect();
                let holds = scene.swarm.peers[&PeerKey(1)].holds.clone();
                let available = scene.swarm.picker.available();
                let counts: Vec<_> = scene.geometry.all_pieces().map(|it| available.count(it)).collect();
                let then = if allowed.is_empty() { scene.say(1, Message::Unchoke) } else { Vec::new() };
                (holds, counts, interest, asked, then)
            });
            prop_assert_eq!(ends.next(), ends.next());
        }
    }

    #[test]
    fn pieces_are_not_taken_back() {
        let field = || Message::Bitfield([0x80, 0].into());
        let taken_back: [&[Message]; 4] = [
            &[Message::HaveAll, field()],
            &[Message::Have { piece: 1 }, field()],
            &[field(), Message::HaveNone],
            &[field(), Message::Bitfield([0x40, 0].into())],
        ];
        for messages in taken_back {
            let mut scene = Scene::having(&[]);
            scene.connect(1);
            let last = messages.iter().map(|it| scene.say(1, it.clone())).last();
            assert!(senseless(&last.unwrap(), 1), "{messages:?}");
        }
    }

    #[test]
    fn a_later_bitfield_or_have_all_counts_as_haves() {
        let mut scene = Scene::having(&[]);
        scene.connect(1);
        scene.say(1, Message::HaveNone);
        let field = || Message::Bitfield([0x80, 0].into());
        assert_eq!(scene.say(1, field()), [say(1, Message::Interested)]);
        assert_eq!(scene.say(1, field()), []);
        assert_eq!(scene.say(1, Message::HaveAll), []);
        assert!(scene.swarm.peers().all(|(_, peer)| peer.holds.is_full()));
    }

    #[test]
    fn what_a_late_bitfield_adds_is_looked_at_as_a_whole_and_the_rarest_of_it_asked_for_first() {
        let mut scene = Scene::having(&[0]);
        scene.connect(2);
        // All but the last piece.
        scene.say(2, Message::Bitfield([0xff, 0x80].into()));
        scene.connect(1);
        scene.say(1, Message::Have { piece: 0 });
        scene.say(1, Message::Unchoke);
        let actions = scene.say(1, Message::Bitfield([0xff, 0xc0].into()));
        assert_eq!(actions[0], say(1, Message::Interested));
        assert_eq!(requests(&actions, 1)[0], scene.block(9, 0));
    }

    #[test]
    fn a_seed_shows_everything_when_a_late_bitfield_has_what_was_missing() {
        let mut scene = Scene::complete();
        scene.connect(1);
        let mut seen = shown(&scene.connect(2), 2);
        scene.say(1, Message::Have { piece: 0 });
        scene.say(2, Message::Have { piece: 0 });
        seen.extend(shown(
            &scene.say(1, Message::Bitfield([0xff, 0x80].into())),
            2,
        ));
        seen.extend(shown(
            &scene.say(2, Message::Bitfield([0x80, 0x40].into())),
            2,
        ));
        seen.sort_unstable();
        // All but the two it has itself, but for one that it had been shown before.
        assert!(seen.len() >= 8, "{seen:?}");
        assert!(seen.windows(2).all(|two| two[0] != two[1]), "{seen:?}");
    }

    #[test]
    fn who_keeps_saying_that_it_has_all_or_nothing_or_the_same_is_left_at_the_eleventh_time() {
        let field = || Message::Bitfield([0x80, 0].into());
        for message in [Message::HaveAll, Message::HaveNone, field()] {
            let mut scene = Scene::having(&[]);
            scene.connect(1);
            scene.say(1, message.clone());
            let mut said = std::iter::repeat_with(|| scene.say(1, message.clone())).take(100);
            let at = said.position(|actions| senseless(&actions, 1));
            assert_eq!(at, Some(10), "{message:?}");
        }
    }

    #[test]
    fn bitfields_that_tell_nothing_are_forgiven_where_others_tell_something() {
        let mut scene = Scene::of(16, &[], |_| {});
        scene.connect(1);
        scene.say(1, Message::HaveNone);
        for pieces in 1..=16 {
            let bits = (u16::MAX << (16 - pieces)).to_be_bytes();
            for _ in 0..3 {
                let actions = scene.say(1, Message::Bitfield(bits.into()));
                assert_eq!(farewell(&actions, 1), None);
            }
        }
    }

    #[test]
    fn who_finishes_many_pieces_at_once_may_say_so_in_many_bitfields_as_aria2_does() {
        let mut scene = Scene::of(4_000, &[], |_| {});
        scene.connect(1);
        scene.say(1, Message::HaveNone);
        let mut field = Bitfield::new(&scene.geometry);
        for piece in 0..4_000 {
            field.set(scene.piece(piece));
            if piece % 20 == 19 {
                let actions = scene.say(1, Message::Bitfield(field.as_bytes().into()));
                assert_eq!(farewell(&actions, 1), None, "{piece}");
            }
        }
    }

    #[test]
    fn what_belongs_to_no_moment_may_come_before_the_bitfield() {
        let field = || Message::Bitfield([0x80, 0].into());
        let mut scene = Scene::having(&[]);
        scene.connect(1);
        scene.say(1, Message::KeepAlive);
        scene.say(1, Message::Port { port: 1 });
        let extended = Message::Extended {
            id: 0,
            payload: b"de".as_slice().into(),
        };
        scene.say(1, extended);
        assert_eq!(scene.say(1, field()), [say(1, Message::Interested)]);
    }

    #[test]
    fn what_does_not_exist_makes_no_sense() {
        let messages = [
            Message::Have { piece: 10 },
            Message::Have { piece: u32::MAX },
            Message::Request(wire(10, 0, 16_384)),
            Message::Request(wire(0, u32::MAX, 2)),
            Message::Request(wire(0, 0, 0)),
            Message::Request(wire(0, 0, 131_073)),
            Message::Request(wire(0, 16_385, 16_384)),
            Message::Cancel(wire(0, 32_768, 1)),
            Message::Suggest { piece: 10 },
            Message::AllowedFast { piece: 10 },
            Message::Bitfield([0].into()),
            Message::Bitfield([0, 1].into()),
        ];
        for message in messages {
            let mut scene = Scene::complete();
            scene.connect(1);
            let actions = scene.say(1, message.clone());
            assert!(senseless(&actions, 1), "{message:?}");
        }
    }

    #[test]
    fn the_fast_extension_is_not_spoken_where_it_was_not_agreed_on() {
        for message in [
            Message::HaveAll,
            Message::HaveNone,
            Message::Suggest { piece: 0 },
            Message::AllowedFast { piece: 0 },
            Message::Reject(wire(0, 0, 16_384)),
        ] {
            let mut scene = Scene::having(&[]);
            scene.connect_plain(1);
            assert!(senseless(&scene.say(1, message.clone()), 1), "{message:?}");
        }
    }

    #[test]
    fn interest_is_said_when_it_changes_and_only_then() {
        let mut scene = Scene::having(&[0]);
        scene.connect(1);
        let have = |piece| Message::Have { piece };
        assert_eq!(scene.say(1, have(0)), []);
        assert_eq!(scene.say(1, have(1)), [say(1, Message::Interested)]);
        assert_eq!(scene.say(1, have(2)), []);
        scene.say(1, Message::Unchoke);
        for piece in [1, 2] {
            for number in 0..2 {
                scene.receive(1, scene.block(piece, number));
            }
            scene.event(Event::Checked {
                piece: scene.piece(piece),
                verdict: Verdict::Good,
                blocks: Vec::new(),
            });
        }
        // Not with the piece, but within a second: it may come back with the next one.
        let last = scene.wait(Duration::from_secs(1));
        assert!(last.contains(&say(1, Message::NotInterested)));
        assert!(scene.say(1, have(3)).contains(&say(1, Message::Interested)));
    }

    #[test]
    fn with_the_last_piece_everybody_is_told_at_once_that_nothing_is_wanted_any_more() {
        let mut scene = Scene::of(4, &[0, 1, 2], |_| {});
        for key in [1, 2] {
            scene.connect(key);
            scene.say(key, Message::Have { piece: 3 });
        }
        scene.say(1, Message::Unchoke);
        for number in 0..2 {
            scene.receive(1, scene.block(3, number));
        }
        let actions = scene.event(Event::Checked {
            piece: scene.piece(3),
            verdict: Verdict::Good,
            blocks: Vec::new(),
        });
        for key in [1, 2] {
            assert!(actions.contains(&say(key, Message::NotInterested)));
        }
    }

    #[test]
    fn floods_end_the_connection() {
        let floods: [fn(u32) -> Message; 4] = [
            |_| Message::KeepAlive,
            |n| {
                if n % 2 == 0 {
                    Message::Choke
                } else {
                    Message::Unchoke
                }
            },
            |n| {
                if n % 2 == 0 {
                    Message::Interested
                } else {
                    Message::NotInterested
                }
            },
            |_| Message::Have { piece: 3 },
        ];
        for flood in floods {
            let mut scene = Scene::having(&[]);
            scene.connect(1);
            let mut peer_is_here = (0..2_000).map(|n| scene.say(1, flood(n)));
            assert!(peer_is_here.any(|actions| senseless(&actions, 1)));
        }
    }

    #[test]
    fn when_the_one_who_is_served_leaves_or_is_hung_up_the_next_in_line_is_served_at_once() {
        for gone in [true, false] {
            let mut scene = Scene::complete();
            for key in [1, 2] {
                scene.connect(key);
                scene.say(key, Message::Interested);
            }
            let ask = |piece, begin| Message::Request(wire(piece, begin, 16_384));
            for piece in 0..10 {
                scene.say(1, ask(piece, 0));
                scene.say(1, ask(piece, 16_384));
            }
            let second: Vec<_> = (0..2)
                .flat_map(|piece| scene.say(2, ask(piece, 0)))
                .filter(|it| matches!(it, Action::Serve { .. }))
                .collect();
            assert_eq!(second, []);
            let actions = if gone {
                scene.lose(1, Farewell::Closed)
            } else {
                scene.say(1, Message::Have { piece: 10_000 })
            };
            let next =
                |it: &Action| matches!(it, Action::Serve { peer, .. } if *peer == PeerKey(2));
            assert!(actions.iter().any(next), "gone: {gone}, {actions:?}");
        }
    }

    #[test]
    fn an_unchoked_peer_is_served_and_a_choked_one_refused() {
        let mut scene = Scene::having(&[0, 1, 2, 3, 4, 5, 6, 7, 8]);
        scene.connect(1);
        let ask = |piece| Message::Request(wire(piece, 0, 16_384));
        // Piece 9 is not ours, whoever asks.
        assert_eq!(
            scene.say(1, ask(9)),
            [say(1, Message::Reject(wire(9, 0, 16_384)))]
        );
        let actions = scene.say(1, Message::Interested);
        assert_eq!(actions, [say(1, Message::Unchoke)]);
        let block = scene.block(0, 0);
        let peer = PeerKey(1);
        assert_eq!(scene.say(1, ask(0)), [Action::Serve { peer, block }]);
        assert_eq!(
            scene.say(1, Message::Cancel(wire(0, 0, 16_384))),
            [Action::Withhold { peer, block }]
        );
        scene.event(Event::Served { peer, block });
        assert_eq!(scene.swarm.standing(scene.now).uploaded, 16_384);
    }

    #[test]
    fn what_could_not_be_read_may_be_asked_for_again_and_what_is_under_way_is_sent_once() {
        let mut scene = Scene::having(&[0]);
        scene.connect(1);
        scene.say(1, Message::Interested);
        let (peer, block) = (PeerKey(1), scene.block(0, 0));
        let serve = Action::Serve { peer, block };
        let request = || Message::Request(wire(0, 0, 16_384));
        assert!(scene.say(1, request()).contains(&serve));
        assert_eq!(scene.say(1, request()), []);
        assert_eq!(scene.event(Event::Unserved { peer, block }), []);
        assert_eq!(scene.say(1, request()), [serve]);
    }

    #[test]
    fn without_the_fast_extension_refusals_are_silent() {
        let mut scene = Scene::having(&[0]);
        scene.connect_plain(1);
        assert_eq!(scene.say(1, Message::Request(wire(0, 0, 16_384))), []);
        assert_eq!(scene.say(1, Message::Request(wire(9, 0, 16_384))), []);
    }

    #[test]
    fn a_choke_refuses_what_is_queued_and_withholds_what_is_ahead() {
        let pieces: Vec<_> = (0..100).collect();
        let mut scene = Scene::of(100, &pieces, |_| {});
        scene.connect(1);
        for piece in 0..10 {
            // A grown-up peer: no gifts.
            scene.say(1, Message::Have { piece });
        }
        scene.say(1, Message::Interested);
        let mut served = 0;
        for piece in 10..50 {
            for begin in [0, 16_384] {
                let actions = scene.say(1, Message::Request(wire(piece, begin, 16_384)));
                served += actions.len();
            }
        }
        assert_eq!(served, 8);
        let mut actions = Vec::new();
        scene.swarm.choke(PeerKey(1), &mut actions);
        assert_eq!(actions[0], say(1, Message::Choke));
        let gifts = scene.swarm.peers().next().unwrap().1.gifts.to_it.clone();
        let gift_blocks = gifts
            .iter()
            .filter(|it| (10..50).contains(&it.get()))
            .count()
            * 2;
        assert_eq!(actions.len() - 1, 80 - gift_blocks);
    }

    #[test]
    fn a_hundred_thousand_requests_are_two_thousand_and_a_farewell() {
        let pieces: Vec<_> = (0..4_000).collect();
        let mut scene = Scene::of(4_000, &pieces, |_| {});
        scene.connect(1);
        scene.say(1, Message::Interested);
        let ask = |n| Message::Request(wire(n / 2, n % 2 * 16_384, 16_384));
        let said = (0..100_000u32).map(|n| scene.say(1, ask(n % 8_000)));
        let at = said.enumerate().find(|(_, actions)| senseless(actions, 1));
        assert_eq!(at.map(|(n, _)| n), Some(6_000));
    }

    #[test]
    fn a_block_asked_for_again_while_it_is_waited_for_is_served_once_and_a_flood_ends_it() {
        let mut scene = Scene::complete();
        scene.connect(1);
        scene.say(1, Message::Interested);
        let ask = || Message::Request(wire(0, 0, 16_384));
        let (peer, block) = (PeerKey(1), scene.block(0, 0));
        for _ in 0..3 {
            assert_eq!(scene.say(1, ask()), [Action::Serve { peer, block }]);
            assert_eq!(scene.say(1, ask()), []);
            scene.event(Event::Served { peer, block });
        }
        let said = (0..100_000).map(|_| scene.say(1, ask()));
        let at = said.enumerate().find(|(_, actions)| senseless(actions, 1));
        assert_eq!(at.map(|(n, _)| n), Some(4_001));
    }

    #[test]
    fn cancels_of_what_was_never_asked_for_end_the_connection_and_late_ones_do_not() {
        let mut scene = Scene::complete();
        scene.connect(1);
        let cancel = || Message::Cancel(wire(0, 0, 16_384));
        for _ in 0..1000 {
            scene.say(1, Message::Request(wire(0, 0, 16_384)));
            scene.say(1, cancel());
        }
        let mut floods = (0..1000).map(|_| scene.say(1, cancel()));
        assert!(floods.any(|actions| senseless(&actions, 1)));
    }

    #[test]
    fn a_newcomer_gets_its_allowed_pieces_while_choked_and_an_established_peer_does_not() {
        let pieces: Vec<_> = (0..100).collect();
        let narrow = |setup: &mut super::super::SwarmSetup| setup.limits.upload_slots = 1;
        let mut scene = Scene::of(100, &pieces, narrow);
        let greeting = scene.connect(1);
        let allowed: Vec<_> = greeting
            .iter()
            .filter_map(|action| match action {
                Action::Say {
                    message: Message::AllowedFast { piece },
                    ..
                } => Some(*piece),
                _ => None,
            })
            .collect();
        assert_eq!(allowed.len(), 10);
        let ask = Message::Request(wire(allowed[3], 0, 16_384));
        let served = scene.say(1, ask.clone());
        let [Action::Serve { peer, block }] = served[..] else {
            panic!("{served:?}");
        };
        scene.event(Event::Served { peer, block });
        for piece in (0..100).filter(|piece| !allowed.contains(piece)).take(10) {
            scene.say(1, Message::Have { piece });
        }
        assert_eq!(
            scene.say(1, ask),
            [say(1, Message::Reject(wire(allowed[3], 0, 16_384)))]
        );
    }

    #[test]
    fn what_a_peer_allows_is_asked_of_it_while_it_chokes_us() {
        let mut scene = Scene::having(&[]);
        scene.connect(1);
        scene.say(1, Message::HaveAll);
        let actions = scene.say(1, Message::AllowedFast { piece: 7 });
        assert_eq!(
            requests(&actions, 1),
            [scene.block(7, 0), scene.block(7, 1)]
        );
    }

    #[test]
    fn no_more_than_sixteen_suggestions_are_kept_and_one_is_followed() {
        let mut scene = Scene::of(100, &[], |_| {});
        scene.connect(1);
        scene.say(1, Message::HaveAll);
        for piece in 0..100 {
            scene.say(1, Message::Suggest { piece });
        }
        assert_eq!(
            scene.swarm.peers().next().unwrap().1.gifts.suggested.len(),
            16
        );
        let actions = scene.say(1, Message::Unchoke);
        let first = requests(&actions, 1)[0];
        assert!(first.piece().get() < 16, "{first:?}");
    }

    #[test]
    fn haves_that_cost_little_go_out_at_once_and_spare_those_who_know() {
        let mut scene = Scene::having(&[]);
        scene.connect_seed(1);
        scene.connect(2);
        scene.connect(3);
        scene.say(3, Message::Have { piece: 4 });
        let have = |piece| Message::Have { piece };
        let expected = [
            vec![say(2, have(4))],
            vec![say(2, have(5)), say(3, have(5))],
        ];
        for (piece, expected) in [4, 5].into_iter().zip(expected) {
            for number in 0..2 {
                scene.receive(1, scene.block(piece, number));
            }
            let mut actions = scene.event(Event::Checked {
                piece: scene.piece(piece),
                verdict: Verdict::Good,
                blocks: Vec::new(),
            });
            actions.retain(|action| {
                matches!(
                    action,
                    Action::Say {
                        message: Message::Have { .. },
                        ..
                    }
                )
            });
            assert_eq!(actions, expected);
        }
    }

    /// What a seed shows each of the peers 1 to 3, which came in this order.
    fn shown(actions: &[Action], key: u64) -> Vec<u32> {
        let shown = actions.iter().filter_map(|action| match action {
            Action::Say {
                peer: PeerKey(peer),
                message: Message::Have { piece },
            } if *peer == key => Some(*piece),
            _ => None,
        });
        shown.collect()
    }

    #[test]
    fn a_seed_hides_from_the_second_on_and_shows_different_pieces() {
        let mut scene = Scene::complete();
        assert!(scene.connect(1).contains(&say(1, Message::HaveAll)));
        let second = scene.connect(2);
        let third = scene.connect(3);
        assert!(second.contains(&say(2, Message::HaveNone)));
        assert!(!third.iter().any(|it| matches!(
            it,
            Action::Say {
                message: Message::AllowedFast { .. },
                ..
            }
        )));
        let (one, two) = (shown(&second, 2), shown(&third, 3));
        assert_eq!((one.len(), two.len()), (1, 1));
        assert_ne!(one, two);
    }

    #[test]
    fn when_each_piece_is_with_somebody_everything_is_shown() {
        let mut scene = Scene::complete();
        scene.connect(1);
        let mut seen = shown(&scene.connect(2), 2);
        for piece in 0..9 {
            seen.extend(shown(&scene.say(1, Message::Have { piece }), 2));
        }
        assert!(seen.len() < 10);
        seen.extend(shown(&scene.say(2, Message::Have { piece: 9 }), 2));
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.len() >= 9, "{seen:?}");
    }

    #[test]
    fn when_both_have_everything_they_part() {
        let mut scene = Scene::complete();
        scene.connect(1);
        let actions = scene.say(1, Message::HaveAll);
        assert_eq!(farewell(&actions, 1), Some(Farewell::BothComplete));
        scene.connect(2);
        let last = (0..10)
            .map(|piece| scene.say(2, Message::Have { piece }))
            .last();
        assert_eq!(farewell(&last.unwrap(), 2), Some(Farewell::BothComplete));
    }

    #[test]
    fn who_calls_and_says_where_it_listens_is_called_back_but_for_private_torrents() {
        for private in [false, true] {
            let mut scene = Scene::of(10, &[], |setup| setup.private = private);
            let greeting = Greeting {
                extended: true,
                ..greeting(1)
            };
            let listens = SocketAddr::new(greeting.address.ip(), 4_000);
            let peer = PeerKey(1);
            scene.event(Event::Connected { peer, greeting });
            let payload = b"d1:pi4000ee".as_slice().into();
            scene.say(1, Message::Extended { id: 0, payload });
            scene.lose(1, Farewell::Closed);
            let dial = Action::Dial { address: listens };
            let called = scene.wait(Duration::from_secs(600)).contains(&dial);
            assert_eq!(called, !private);
            // A tracker may name it any time.
            let (addresses, origin) = (vec![listens], Origin::Tracker);
            let named = scene.event(Event::Found { addresses, origin });
            assert_eq!(named.contains(&dial), private);
        }
    }
}
