//! A block's way: asked for, received, its piece checked, the piece ours. Each right to write that
//! goes out with a `Request` comes back exactly once, as `Received` or `Returned`.

use super::Swarm;
use super::event::{Action, Farewell, Moment, PeerKey, Verdict};
use super::peer::Holding;
use super::picker::{Asker, Where};
use crate::protocol::peer::Message;
use crate::protocol::{Block, Digest, PieceIndex};

impl Swarm {
    /// Whether we want `piece` of anybody.
    pub(super) fn wants(&self, piece: PieceIndex) -> bool {
        self.facts.downloads && !self.have.has(piece) && !self.picker.given_up().contains(&piece)
    }

    /// How many pieces of a peer we want.
    pub(super) fn offers(&self, holds: &Holding) -> u32 {
        if !self.facts.downloads {
            return 0;
        }
        let hopeless = self.picker.given_up().iter();
        let hopeless = hopeless.filter(|piece| holds.has(**piece)).count() as u32;
        match holds {
            Holding::Nothing => 0,
            Holding::Everything => self.facts.geometry.pieces() - self.have.count() - hopeless,
            Holding::Some(field) => {
                let both = field.as_bytes().iter().zip(self.have.as_bytes());
                let new: u32 = both
                    .map(|(theirs, ours)| (theirs & !ours).count_ones())
                    .sum();
                new - hopeless
            }
        }
    }

    /// Tells a peer whether we want something of it, if that changed.
    pub(super) fn show_interest(&mut self, key: PeerKey, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let wanted = peer.offers > 0;
        if peer.leaving || wanted == peer.wanted {
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

    /// Keeps a peer's pipe as full as it should be.
    pub(super) fn fill(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        if self.pace.congested {
            return;
        }
        let Some(peer) = self.peers.get_mut(&key) else {
            return;
        };
        let room = peer.pipe.room();
        if !peer.may_be_asked() || room == 0 {
            self.hungry.remove(&key);
            return;
        }
        let asker = Asker {
            peer: key,
            holds: &peer.holds,
            current: &mut peer.current,
            suggested: &mut peer.suggested,
            only: peer.chokes_us.then_some(peer.fast_from.as_slice()),
        };
        let mut blocks = Vec::with_capacity(room);
        // Who has nothing can give nothing: the first piece is fetched together.
        let eager = self.have.is_empty();
        self.picker
            .pick(asker, room, eager, now, &mut self.rng, &mut blocks);
        for block in &blocks {
            peer.pipe.ask(*block, now);
            actions.push(Action::Request {
                peer: key,
                block: *block,
            });
        }
        if blocks.len() == room {
            self.hungry.remove(&key);
            return;
        }
        self.hungry.insert(key);
        if self.picker.is_endgame() {
            self.ask_for_spares(key, now, actions);
        }
    }

    /// Blocks became free: those who have nothing to do get them, `last` after all others.
    pub(super) fn feed_the_hungry(
        &mut self,
        last: Option<PeerKey>,
        now: Moment,
        actions: &mut Vec<Action>,
    ) {
        let hungry: Vec<_> = self.hungry.iter().copied().collect();
        let others = hungry.into_iter().filter(|key| Some(*key) != last);
        for key in others.chain(last) {
            if !self.picker.any_free() && !self.picker.is_endgame() {
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
            peer.pipe.received(block, now);
            peer.down.add(block.length(), now);
            peer.useful = now;
        }
        let Some(last) = self.picker.lay(block, key) else {
            self.ledger.wasted(block.length());
            return;
        };
        self.discard_spare(block, actions);
        if last {
            self.check(block.piece(), actions);
        }
        if !self.hungry.contains(&key) {
            self.fill(key, now, actions);
        } else if self.picker.is_endgame() {
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
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.pipe.returned(block);
        }
        if !self.picker.free(block, key) {
            self.refuse_spare(key, block);
            return;
        }
        self.settle_spare(block, now, actions);
        self.feed_the_hungry(Some(key), now, actions);
    }

    /// Payload was thrown away.
    pub(super) fn wasted(
        &mut self,
        key: PeerKey,
        bytes: u32,
        asked: bool,
        actions: &mut Vec<Action>,
    ) {
        self.ledger.wasted(bytes);
        // Late is no offence; unasked data is how a line is filled with rubbish (C6).
        if let Some(peer) = self.peers.get_mut(&key)
            && !asked
            && !peer.manners.unasked()
        {
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
        if !self.wants(piece) {
            return;
        }
        match verdict {
            Verdict::Good => self.is_good(piece, blocks, now, actions),
            Verdict::Bad => self.is_bad(piece, blocks, now, actions),
            Verdict::Unreadable => {
                actions.push(Action::Forget { piece });
                if self.suspects.unreadable(piece) {
                    self.give_up(piece, actions);
                } else {
                    self.picker.retry(piece, false, Vec::new(), now);
                }
                self.feed_the_hungry(None, now, actions);
            }
        }
        if !self.pace.told_complete && self.have.is_full() {
            self.pace.told_complete = true;
            actions.push(Action::Complete);
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
        self.picker.finish(piece);
        actions.push(Action::Keep { piece });
        self.news.add(piece, now);
        for liar in self.suspects.good(piece, blocks) {
            self.banish(liar, actions);
        }
        self.want_no_more(piece, actions);
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
        let judgement = self.suspects.bad(piece, &senders, blocks);
        actions.push(Action::Forget { piece });
        for liar in judgement.liars {
            self.banish(liar, actions);
        }
        if judgement.give_up {
            self.give_up(piece, actions);
        } else {
            let mut stand_back: Vec<_> = senders.into_iter().flatten().collect();
            stand_back.sort_unstable();
            stand_back.dedup();
            let mut others = self.peers.iter();
            let anyone_else = others.any(|(key, peer)| {
                !peer.leaving
                    && !peer.chokes_us
                    && peer.holds.has(piece)
                    && !stand_back.contains(key)
            });
            if !anyone_else {
                stand_back.clear();
            }
            self.picker.retry(piece, true, stand_back, now);
        }
        self.feed_the_hungry(None, now, actions);
    }

    fn give_up(&mut self, piece: PieceIndex, actions: &mut Vec<Action>) {
        self.picker.give_up(piece);
        self.want_no_more(piece, actions);
    }

    /// A wanted piece is ours or beyond hope: who has it has one less to offer.
    fn want_no_more(&mut self, piece: PieceIndex, actions: &mut Vec<Action>) {
        let mut done = Vec::new();
        for (key, peer) in &mut self.peers {
            if peer.holds.has(piece) {
                peer.offers -= 1;
                if peer.offers == 0 {
                    done.push(*key);
                }
            }
        }
        for key in done {
            self.hungry.remove(&key);
            self.show_interest(key, actions);
        }
    }

    /// The peer that sent wrong data leaves and is not called again.
    fn banish(&mut self, liar: super::suspects::Sender, actions: &mut Vec<Action>) {
        self.addresses.ban(liar.address);
        let listens = self.peers.get(&liar.peer).and_then(|peer| peer.listens);
        if let Some(listens) = listens {
            self.addresses.ban(listens);
        }
        self.hang_up(liar.peer, Farewell::Lied, actions);
    }

    /// Looks for requests that have been out for too long, and takes them away.
    pub(super) fn look_at_time_outs(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let keys: Vec<_> = self.peers.keys().copied().collect();
        for key in keys {
            let Some(peer) = self.peers.get_mut(&key) else {
                continue;
            };
            if peer.leaving || peer.pipe.is_idle() {
                continue;
            }
            let available = self.picker.available();
            let late = peer
                .pipe
                .overdue(now, |block| available.count(block.piece()) > 1);
            if peer.pipe.is_snubbed() {
                self.picker.release(key, &mut peer.current);
            }
            for block in late {
                actions.push(Action::Revoke { peer: key, block });
            }
            self.drop_spares(key, Some(now), actions);
        }
        self.feed_the_hungry(None, now, actions);
    }
}
