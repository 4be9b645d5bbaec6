//! Whom to serve and what to show them: joins the choker and the seed's spread to the peers.

use super::Swarm;
use super::choker::Candidate;
use super::event::{Action, Moment, PeerKey};
use super::peer::Peer;
use super::spread::{Spread, Viewing};
use super::turns::patience;
use crate::protocol::PieceIndex;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::peer::Message;
use std::time::Duration;

/// A peer is shown pieces for so long a time ahead, at the rate at which it is served.
const SHOWN_AHEAD: Duration = Duration::from_millis(500);

/// How often pieces on show that nobody takes are looked for.
const SHOW_AGAIN: Duration = Duration::from_secs(1);
/// Bytes a second that are worth a slot: as many more slots than the least as the uplink has shown to fill.
const SLOT_RATE: u64 = 200_000;
/// While first copies go out, as many peers are served as can have a piece each within so many seconds.
const ROUND: u64 = 8;
/// Payload a peer may have of us before we look at what it gives: two pieces, within these.
const CREDIT_MIN: u64 = 256 << 10;
const CREDIT_MAX: u64 = 1 << 20;
/// A peer that gives one part in so many of what it takes is one that gives.
const FAIR: u64 = 4;

impl Swarm {
    /// Lets the choker decide and tells the peers.
    pub(super) fn take_turns(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let gives = self.facts.downloads && !self.have.is_full();
        let credit = self.credit();
        let twice = self.facts.geometry.total().saturating_mul(2) + credit;
        let limited = self.facts.limits.up_limited;
        for peer in self.peers.values_mut() {
            peer.uploads.look(limited, now);
        }
        let candidates: Vec<_> = self
            .peers
            .iter()
            .filter(|(_, peer)| !peer.is_leaving())
            .map(|(key, peer)| Candidate {
                peer: *key,
                interested: peer.wants_us,
                choked: peer.choked,
                busy: !peer.uploads.is_idle() && !peer.uploads.is_clogged(),
                mute: (peer.is_mute(now) || peer.uploads.is_clogged()) && peer.trade.given() == 0,
                worth: if gives {
                    peer.trade.down_rate(now)
                } else {
                    let kept = self.spread.as_ref().map_or(0, |spread| spread.kept(*key));
                    u64::from(u32::MAX - kept)
                },
                // Who has had everything twice asks for the sake of asking.
                gives: peer.trade.taken() <= twice
                    && (!gives || peer.trade.taken() <= credit + peer.trade.given() * FAIR),
                since: peer.since,
            })
            .collect();
        for candidate in &candidates {
            if let Some(peer) = self.peers.get_mut(&candidate.peer) {
                let mut spread = self.spread.iter();
                let keeps = spread.any(|spread| spread.keeps_too_much(candidate.peer));
                peer.uploads.last = !candidate.gives || keeps;
            }
        }
        let slots = self.slots(now);
        self.choker.set_slots(slots);
        let changes = self.choker.decide(&candidates, gives, now, &mut self.rng);
        // Half a piece is nothing that could be passed on.
        let spreads = self.spread.as_ref().is_some_and(Spread::is_on);
        let in_turn = self.turns.holder().filter(|_| spreads);
        for peer in changes.choke.iter().filter(|it| Some(**it) != in_turn) {
            self.choke(*peer, actions);
        }
        for peer in &changes.unchoke {
            self.unchoke(*peer, now, actions);
        }
        if !changes.choke.is_empty() {
            self.show_to_all(now, actions);
        }
    }

    /// How many peers are served: as many as the uplink has shown to fill.
    pub(super) fn slots(&self, now: Moment) -> usize {
        let mut worth = SLOT_RATE;
        if self.spread.as_ref().is_some_and(Spread::is_on) {
            // A peer that is not served has nothing to pass on, and peers take turns at whole pieces.
            let piece = u64::from(self.facts.geometry.piece_length());
            worth = (piece / ROUND).clamp(1, SLOT_RATE);
        }
        let measured = (self.ledger.up_rate(now) / worth) as usize;
        measured.max(self.facts.limits.upload_slots)
    }

    /// Payload a peer may have of us before we look at what it gives: something to trade with.
    fn credit(&self) -> u64 {
        let pieces = 2 * u64::from(self.facts.geometry.piece_length());
        pieces.clamp(CREDIT_MIN, CREDIT_MAX)
    }

    /// Hands requests to the threads, a little ahead of the line.
    pub(super) fn pump(&mut self, now: Moment, actions: &mut Vec<Action>) {
        let (rate, limited) = (self.ledger.up_rate(now), self.facts.limits.up_limited);
        loop {
            let peers = &self.peers;
            let uploads = |key| peers.get(&key).map(|peer| &peer.uploads);
            let Some(key) = self.turns.next(rate, limited, now, uploads) else {
                break;
            };
            let peer = self.peers.get_mut(&key);
            let Some(block) = peer.and_then(|peer| peer.uploads.hand_over(now)) else {
                break;
            };
            if let Some(spread) = &mut self.spread {
                spread.begun(key, block, now);
            }
            actions.push(Action::Serve { peer: key, block });
        }
        let uploads = |key| self.peers.get(&key).map(|peer| &peer.uploads);
        self.pace.pump = self.turns.again(rate, limited, now, uploads);
    }

    /// Shows a peer the next piece, or everything, where we hide what we have.
    pub(super) fn show_more(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        let peer = self.peers.get(&key).filter(|peer| !peer.is_leaving());
        let Some(peer) = peer.filter(|_| self.spread.is_some()) else {
            return;
        };
        let window = self.window(peer, now);
        // Only peers that pass pieces on count as waiting, and those that had too little to show whether they do. Else
        // one peer that asks for the same piece again and again holds everybody else at two pieces.
        let little = 2 * u64::from(self.facts.geometry.piece_length());
        let passes_on = |key| self.spread.as_ref().is_some_and(|it| it.has_passed(key));
        let uploads = |key| {
            let peer = self.peers.get(&key);
            let peer = peer.filter(|peer| peer.trade.taken() <= little || passes_on(key));
            peer.map(|peer| &peer.uploads)
        };
        let rate = self.ledger.up_rate(now);
        let others_wait = self.turns.others_wait(key, rate, now, uploads);
        let Some(spread) = &mut self.spread else {
            return;
        };
        let peers = &self.peers;
        let patience = patience(rate);
        let viewing = |key| match peers.get(&key) {
            Some(it) if it.choked || !it.wants_us => Viewing::Not,
            Some(it) if it.uploads.waits(now, patience) => Viewing::InLine,
            Some(_) => Viewing::Silent,
            None => Viewing::Not,
        };
        let mut shown = Vec::new();
        while let Some(piece) = spread.next(key, window, others_wait, now, viewing) {
            actions.push(have(key, piece));
            shown.push(piece);
        }
        let looks = peer.wants_us && spread.waits(key, window);
        // Who knows all asked for this one, too, and has it of others soon.
        if !shown.is_empty() {
            let peers = self.peers.iter_mut();
            for (_, peer) in peers.filter(|(other, _)| spread.knows_all(**other)) {
                shown.iter().for_each(|piece| peer.uploads.defer(*piece));
            }
        }
        if looks || spread.is_lively(now) {
            self.pace.show.get_or_insert(now + SHOW_AGAIN);
        }
    }

    /// How many bytes a peer may be shown ahead of what was sent.
    fn window(&self, peer: &Peer, now: Moment) -> u64 {
        let ahead = peer.trade.up_rate(now) as f64 * SHOWN_AHEAD.as_secs_f64();
        (ahead as u64).max(u64::from(self.facts.geometry.piece_length()))
    }

    /// Shows everybody who has nothing to ask for the next piece.
    pub(super) fn show_to_all(&mut self, now: Moment, actions: &mut Vec<Action>) {
        self.pace.show = None;
        if self.spread.is_none() {
            return;
        }
        let all: Vec<_> = self.peers.keys().copied().collect();
        for key in all {
            self.show_more(key, now, actions);
            self.show_the_bored(key, now, actions);
        }
        self.unveil(actions);
        let Some(spread) = self.spread.as_ref().filter(|spread| spread.is_on()) else {
            return;
        };
        // An alarm only where the clock itself can change something: a swarm at rest sleeps.
        let mut here = self.peers.iter().filter(|(_, peer)| !peer.is_leaving());
        let due = spread.is_lively(now)
            || here.any(|(key, peer)| peer.wants_us && spread.waits(*key, self.window(peer, now)));
        self.pace.show = due.then_some(now + SHOW_AGAIN);
    }

    /// Shows everything to a peer that wants nothing of what it was shown.
    fn show_the_bored(&mut self, key: PeerKey, now: Moment, actions: &mut Vec<Action>) {
        let (Some(spread), Some(peer)) = (&mut self.spread, self.peers.get(&key)) else {
            return;
        };
        if peer.is_leaving() || peer.wants_us {
            return;
        }
        if let Some(shown) = spread.bored(key, now) {
            self.show_rest(key, &shown, actions);
        }
    }

    /// Shows everything, where there is no more reason to hide it.
    pub(super) fn unveil(&mut self, actions: &mut Vec<Action>) {
        let Some(spread) = &mut self.spread else {
            return;
        };
        let unveiled = spread.unveil();
        if !spread.is_on() {
            let peers = self.peers.values_mut();
            peers.for_each(|peer| peer.uploads.defer_nothing());
        }
        for (key, shown) in unveiled {
            self.show_rest(key, &shown, actions);
        }
    }

    /// Shows a peer all that it was not shown yet.
    pub(super) fn show_rest(&self, key: PeerKey, shown: &Bitfield, actions: &mut Vec<Action>) {
        let Some(peer) = self.peers.get(&key).filter(|peer| !peer.is_leaving()) else {
            return;
        };
        let news = self.have.pieces(&self.facts.geometry);
        let news = news.filter(|piece| !shown.has(*piece) && !peer.holds.has(*piece));
        actions.extend(news.map(|piece| have(key, piece)));
    }
}

/// Tells a peer of a piece of ours.
pub(super) fn have(peer: PeerKey, piece: PieceIndex) -> Action {
    let message = Message::Have { piece: piece.get() };
    Action::Say { peer, message }
}

#[cfg(test)]
mod tests {
    use super::super::event::Event;
    use super::super::scene::*;
    use super::*;

    #[test]
    fn who_asks_and_reads_nothing_makes_room_for_who_waits() {
        let mut scene = Scene::complete();
        for key in 1..=24 {
            scene.connect(key);
            scene.say(key, Message::Interested);
        }
        // The eight that have a slot ask, and take nothing of what is handed to their threads.
        for (key, piece) in (1..=8).flat_map(|key| (0..10).map(move |piece| (key, piece))) {
            let block = scene.block(piece, 0);
            scene.say(key, Message::Request(block.into()));
        }
        scene.wait(Duration::from_secs(11));
        let served = scene.swarm.peers().filter(|(_, peer)| !peer.choked);
        let served: Vec<_> = served.map(|(key, _)| key.0).collect();
        assert!(
            served.len() >= 8 && served.iter().all(|key| *key > 8),
            "{served:?}"
        );
    }

    #[test]
    fn who_has_taken_everything_twice_is_served_when_nobody_else_waits() {
        let mut scene = Scene::complete();
        scene.connect(1);
        scene.say(1, Message::Interested);
        // Nothing is spread any more.
        scene.connect(20);
        (0..9).for_each(|piece| drop(scene.say(20, Message::Have { piece })));
        let mut last = Vec::new();
        for round in 0..4 {
            for (piece, number) in (0..10).flat_map(|piece| [(piece, 0), (piece, 1)]) {
                let (peer, block) = (PeerKey(1), scene.block(piece, number));
                scene.say(1, Message::Request(block.into()));
                scene.event(Event::Served { peer, block });
            }
            scene.connect(2 + round);
            scene.say(2 + round, Message::Interested);
            last.extend(scene.swarm.peers().next().map(|it| it.1.uploads.last));
        }
        assert_eq!(last, [false, false, true, true]);
    }
}
