//! What a peer's messages mean, and whether they make sense: the second of three checks, after their
//! shape and before the truth of the data.

use super::Swarm;
use super::arrivals::ALLOWED_FAST;
use super::event::{Action, Moment, Origin, PeerKey, Way};
use super::peer::{FAST_PIECES_MAX, Holding};
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
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.leaving) else {
            return;
        };
        if is_fast(&message) && !peer.greeting.fast {
            return self.senseless(key, "it speaks the fast extension unannounced", actions);
        }
        let tiresome = matches!(
            message,
            Message::KeepAlive
                | Message::Choke
                | Message::Unchoke
                | Message::Interested
                | Message::NotInterested
                | Message::Extended { .. }
        );
        if tiresome && !peer.manners.flip(now) {
            return self.senseless(key, "it changes its mind too often", actions);
        }
        let late = peer.settled_in;
        // What belongs to no moment may come before the bitfield; everything else ends its time.
        peer.settled_in |= !matches!(
            message,
            Message::KeepAlive | Message::Extended { .. } | Message::Port { .. }
        );
        match message {
            Message::KeepAlive | Message::Port { .. } | Message::Piece(_) => {}
            Message::Choke => self.chokes_us(key, now, actions),
            Message::Unchoke => {
                peer.chokes_us = false;
                peer.pipe.restart(now);
                self.fill(key, now, actions);
            }
            Message::Interested => self.wants_us(key, true),
            Message::NotInterested => self.wants_us(key, false),
            Message::Have { piece } => self.got(key, piece, now, actions),
            Message::HaveAll | Message::HaveNone | Message::Bitfield(_) if late => {
                self.senseless(key, "it says what it has too late or twice", actions);
            }
            Message::HaveAll => self.holds(key, Holding::Everything, now, actions),
            Message::HaveNone => {}
            Message::Bitfield(bits) => match Bitfield::from_bytes(&bits, &self.facts.geometry) {
                Ok(field) => self.holds(key, Holding::Some(field), now, actions),
                Err(error) => self.senseless(key, &error.to_string(), actions),
            },
            Message::Request(wire) => self.requested(key, wire, actions),
            Message::Cancel(wire) => self.cancelled(key, wire, actions),
            Message::Reject(wire) => {
                // A slot's thread sends it home itself; a spare has no slot.
                if let Some(block) = self.locate(wire) {
                    self.refuse_spare(key, block);
                }
            }
            Message::Suggest { piece } => self.suggested(key, piece, actions),
            Message::AllowedFast { piece } => self.allowed(key, piece, now, actions),
            Message::Extended { id, payload } => {
                if id == 0 {
                    self.introduced(key, &payload, now);
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
            peer.chokes_us = true;
            peer.pipe.restart(now);
            self.picker.release(key, &mut peer.current);
        }
        self.hungry.remove(&key);
        self.drop_spares(key, None, actions);
        // What it was working on is anybody's now; pieces it still gives are asked of it (BEP 6).
        self.feed_the_hungry(None, now, actions);
        self.fill(key, now, actions);
    }

    fn wants_us(&mut self, key: PeerKey, wants: bool) {
        if let Some(peer) = self.peers.get_mut(&key)
            && peer.wants_us != wants
        {
            peer.wants_us = wants;
            self.pace.choker_due = true;
        }
    }

    /// The peer has one more piece.
    fn got(&mut self, key: PeerKey, index: u32, now: Moment, actions: &mut Vec<Action>) {
        let Some(piece) = self.facts.geometry.piece(index) else {
            return self.senseless(key, "it has a piece that does not exist", actions);
        };
        let wanted = self.wants(piece);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if !peer.holds.add(piece, &self.facts.geometry) {
            if !peer.manners.idle_have() {
                self.senseless(key, "it keeps announcing the same pieces", actions);
            }
            return;
        }
        let full = peer.holds.is_full();
        if wanted {
            peer.offers += 1;
        }
        if self.facts.downloads {
            self.picker.available().gain(piece, &mut self.rng);
        }
        if full {
            self.part_with_the_complete(actions);
        }
        if wanted {
            self.show_interest(key, actions);
            self.fill(key, now, actions);
        }
    }

    /// The peer said all it has.
    fn holds(&mut self, key: PeerKey, holds: Holding, now: Moment, actions: &mut Vec<Action>) {
        let offers = self.offers(&holds);
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        if self.facts.downloads {
            self.picker.available().arrive(&holds);
        }
        let full = holds.is_full();
        peer.holds = holds;
        peer.offers = offers;
        if full {
            self.part_with_the_complete(actions);
        }
        self.show_interest(key, actions);
        self.fill(key, now, actions);
    }

    /// The peer wants a block of ours.
    fn requested(&mut self, key: PeerKey, wire: WireBlock, actions: &mut Vec<Action>) {
        let Some(block) = self.locate(wire) else {
            return self.senseless(key, "it asks for a block that does not exist", actions);
        };
        let pieces = self.facts.geometry.pieces();
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        // A gift for newcomers: who has as many pieces as the set can stand in line (BEP 6).
        let gift =
            peer.fast_to.contains(&block.piece()) && peer.holds.count(pieces) < ALLOWED_FAST as u32;
        let ours = self.have.has(block.piece());
        if ours && (!peer.choked || gift) && peer.uploads.request(block) {
            return self.pump(key, actions);
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

    /// Hands requests to the peer's thread, a little ahead of the line.
    fn pump(&mut self, key: PeerKey, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        while let Some(block) = peer.uploads.next() {
            actions.push(Action::Serve { peer: key, block });
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
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        peer.up.add(block.length(), now);
        peer.served = Some(now);
        peer.useful = now;
        peer.uploads.served(block, now);
        if !peer.leaving {
            self.pump(key, actions);
        }
    }

    /// The peer takes a request back. With the fast extension that, too, is answered.
    fn cancelled(&mut self, key: PeerKey, wire: WireBlock, actions: &mut Vec<Action>) {
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
                self.pump(key, actions);
            }
            Cancelled::Queued | Cancelled::Unknown => {}
        }
    }

    /// Ends a peer's turn: what it asked for is refused, but for gifts.
    pub(super) fn choke(&mut self, key: PeerKey, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key).filter(|peer| !peer.choked) else {
            return;
        };
        peer.choked = true;
        let (fast, gifts) = (peer.greeting.fast, &peer.fast_to);
        let (queued, ahead) = peer.uploads.clear(|block| gifts.contains(&block.piece()));
        let mut say = |message| actions.push(Action::Say { peer: key, message });
        say(Message::Choke);
        if fast {
            for block in queued {
                say(Message::Reject(WireBlock::from(block)));
            }
        }
        for block in ahead {
            actions.push(Action::Withhold { peer: key, block });
        }
    }

    /// Begins a peer's turn.
    pub(super) fn unchoke(&mut self, key: PeerKey, actions: &mut Vec<Action>) {
        if let Some(peer) = self.peers.get_mut(&key).filter(|peer| peer.choked) {
            peer.choked = false;
            let message = Message::Unchoke;
            actions.push(Action::Say { peer: key, message });
        }
    }

    fn suggested(&mut self, key: PeerKey, index: u32, actions: &mut Vec<Action>) {
        let Some(piece) = self.facts.geometry.piece(index) else {
            return self.senseless(key, "it suggests a piece that does not exist", actions);
        };
        let wanted = self.wants(piece);
        if let Some(peer) = self.peers.get_mut(&key) {
            remember(&mut peer.suggested, piece, wanted);
        }
    }

    fn allowed(&mut self, key: PeerKey, index: u32, now: Moment, actions: &mut Vec<Action>) {
        let Some(piece) = self.facts.geometry.piece(index) else {
            return self.senseless(key, "it allows a piece that does not exist", actions);
        };
        let wanted = self.wants(piece);
        if let Some(peer) = self.peers.get_mut(&key) {
            remember(&mut peer.fast_from, piece, wanted);
            if peer.chokes_us {
                self.fill(key, now, actions);
            }
        }
    }

    /// The peer introduced itself in the extension protocol's handshake (BEP 10).
    fn introduced(&mut self, key: PeerKey, payload: &[u8], now: Moment) {
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
            peer.pipe.set_reqq(reqq);
        }
        if let Some(port) = theirs.listen_port
            && peer.greeting.way == Way::Accepted
            && peer.listens.is_none()
        {
            let listens = SocketAddr::new(peer.greeting.address.ip(), port);
            peer.listens = Some(listens);
            self.addresses.joined(listens, Origin::Tracker, now);
        }
    }
}

/// Keeps a few pieces a peer named; a flood of them costs nothing (C16).
fn remember(pieces: &mut Vec<PieceIndex>, piece: PieceIndex, wanted: bool) {
    if wanted && pieces.len() < FAST_PIECES_MAX && !pieces.contains(&piece) {
        pieces.push(piece);
    }
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
