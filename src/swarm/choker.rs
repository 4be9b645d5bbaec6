//! Whom to serve: a first choker, fair rotation. A later one looks at who gives.
//!
//! A slot lets one peer download from us. Interested peers take turns: every ten seconds those who
//! were served longest make room for those who waited longest. A free slot is filled at once, and a
//! peer that holds one without asking for anything does not count.
//!
//! ```text
//! let changes = choker.decide(candidates, now);   // whenever interest changes, and at choker.due()
//! ```

use super::event::{Moment, PeerKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a turn lasts.
const ROUND: Duration = Duration::from_secs(10);

/// The least time between two changes for one peer.
const PAUSE: Duration = Duration::from_secs(6);

/// What the choker knows of a peer: no more than this.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    /// The peer.
    pub peer: PeerKey,
    /// It wants something of ours.
    pub interested: bool,
    /// It is choked.
    pub choked: bool,
    /// It has requests with us.
    pub busy: bool,
}

/// What is to change.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Peers to choke.
    pub choke: Vec<PeerKey>,
    /// Peers to unchoke.
    pub unchoke: Vec<PeerKey>,
}

/// Turns at the upload slots.
#[derive(Debug)]
pub struct Choker {
    slots: usize,
    /// When each peer was last choked or unchoked; who is not here has never had a turn.
    turned: BTreeMap<PeerKey, Moment>,
    round: Moment,
    crowded: bool,
}

impl Choker {
    /// A choker with this number of slots.
    pub fn new(slots: usize) -> Choker {
        Choker {
            slots: slots.max(1),
            turned: BTreeMap::new(),
            round: Moment::ZERO,
            crowded: false,
        }
    }

    /// Changes the number of slots.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots.max(1);
    }

    /// When turns have to be looked at again; `None` while everybody who wants a slot has one.
    pub fn due(&self) -> Option<Moment> {
        self.crowded.then_some(self.round + ROUND)
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerKey) {
        self.turned.remove(&peer);
    }

    /// Decides for all connected peers at once.
    pub fn decide(&mut self, candidates: &[Candidate], now: Moment) -> Changes {
        let mut changes = Changes::default();
        let mut waiting: Vec<PeerKey> = Vec::new();
        let mut served: Vec<Candidate> = Vec::new();
        let mut bored: Vec<PeerKey> = Vec::new();
        for candidate in candidates {
            match (candidate.interested, candidate.choked) {
                (true, true) => waiting.push(candidate.peer),
                (true, false) => served.push(*candidate),
                (false, false) => bored.push(candidate.peer),
                (false, true) => {}
            }
        }
        let last = |peer: &PeerKey| self.turned.get(peer).copied();
        // Who never had a turn has no time and sorts first.
        waiting.sort_by_key(|peer| (last(peer), *peer));
        served.sort_by_key(|candidate| (last(&candidate.peer), candidate.peer));
        let fresh = |peer: &PeerKey| last(peer).is_some_and(|at| now < at + ROUND);
        // Twice within seconds is taken for flooding (aria2 hangs up): nobody's turn is that short,
        // and who was choked a moment ago waits a little even for a free slot.
        let rested = |peer: &PeerKey| last(peer).is_none_or(|at| now >= at + PAUSE);
        // An unchoked peer that asks for nothing leaves its share of the line to others.
        let used = served
            .iter()
            .filter(|candidate| candidate.busy || fresh(&candidate.peer))
            .count();
        let mut room = self.slots.saturating_sub(used);
        // However many stay silent, the line is not promised to more than this.
        room = room.min((self.slots * 4).saturating_sub(served.len()));
        if now >= self.round + ROUND {
            self.round = now;
            let over = used.saturating_sub(self.slots);
            let turn = waiting
                .len()
                .saturating_sub(room)
                .min(self.slots.div_ceil(4));
            let ripe = served.iter().filter(|candidate| !fresh(&candidate.peer));
            let leave: Vec<_> = ripe.take(turn + over).map(|c| c.peer).collect();
            room += leave.len().min(turn);
            changes.choke.extend(leave);
            // Who wants nothing holds no slot; it is choked only so that others may trust in theirs.
            if waiting.len() > room {
                changes
                    .choke
                    .extend(bored.iter().filter(|peer| !fresh(peer)));
            }
        }
        let ready = waiting.iter().copied().filter(rested);
        changes.unchoke = ready.take(room).collect();
        self.crowded = waiting.len() > changes.unchoke.len();
        for peer in changes.choke.iter().chain(&changes.unchoke) {
            self.turned.insert(*peer, now);
        }
        changes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(s: u64) -> Moment {
        Duration::from_secs(s)
    }

    /// A crowd of interested, busy peers that does as the choker says.
    struct Crowd(Vec<Candidate>);

    impl Crowd {
        fn of(count: u64) -> Crowd {
            let peer = |key| Candidate {
                peer: PeerKey(key),
                interested: true,
                choked: true,
                busy: false,
            };
            Crowd((0..count).map(peer).collect())
        }

        fn decide(&mut self, choker: &mut Choker, now: Moment) {
            let changes = choker.decide(&self.0, now);
            for candidate in &mut self.0 {
                if changes.choke.contains(&candidate.peer) {
                    assert!(!candidate.choked);
                    (candidate.choked, candidate.busy) = (true, false);
                } else if changes.unchoke.contains(&candidate.peer) {
                    assert!(candidate.choked);
                    (candidate.choked, candidate.busy) = (false, true);
                }
            }
        }

        fn served(&self) -> usize {
            self.0.iter().filter(|candidate| !candidate.choked).count()
        }
    }

    #[test]
    fn a_single_interested_peer_is_served_at_once_and_needs_no_rounds() {
        let (mut crowd, mut choker) = (Crowd::of(1), Choker::new(8));
        crowd.decide(&mut choker, seconds(3));
        assert_eq!(crowd.served(), 1);
        assert_eq!(choker.due(), None);
    }

    #[test]
    fn a_free_slot_is_filled_at_once() {
        let (mut crowd, mut choker) = (Crowd::of(5), Choker::new(2));
        crowd.decide(&mut choker, seconds(20));
        assert_eq!(crowd.served(), 2);
        crowd.0[0].interested = false;
        crowd.decide(&mut choker, seconds(21));
        assert!(!crowd.0[2].choked);
        assert_eq!(crowd.served(), 3);
        // The bored one is choked when its turn is over, no sooner.
        crowd.decide(&mut choker, seconds(31));
        assert!(crowd.0[0].choked);
    }

    #[test]
    fn everybody_gets_turns_of_equal_number() {
        let (mut crowd, mut choker) = (Crowd::of(20), Choker::new(4));
        let mut turns = [0u32; 20];
        for round in 0..400 {
            crowd.decide(&mut choker, seconds(10 * round + 10));
            assert_eq!(crowd.served(), 4);
            for (turn, candidate) in turns.iter_mut().zip(&crowd.0) {
                *turn += u32::from(!candidate.choked);
            }
        }
        let (least, most) = (turns.iter().min(), turns.iter().max());
        assert!(
            most.zip(least)
                .is_some_and(|(most, least)| most - least <= 4),
            "{turns:?}"
        );
    }

    #[test]
    fn nobody_is_choked_and_unchoked_twice_within_seconds() {
        let (mut crowd, mut choker) = (Crowd::of(7), Choker::new(2));
        let mut rng = fastrand::Rng::with_seed(5);
        let mut changed = [None; 7];
        for second in 10..2_000 {
            let at = rng.usize(0..7);
            crowd.0[at].interested ^= true;
            let before: Vec<_> = crowd.0.iter().map(|it| it.choked).collect();
            crowd.decide(&mut choker, seconds(second));
            for (n, candidate) in crowd.0.iter().enumerate() {
                if candidate.choked != before[n] {
                    let last = changed[n].replace(second);
                    assert!(
                        last.is_none_or(|last| second >= last + 6),
                        "{last:?} {second}"
                    );
                }
            }
        }
    }

    #[test]
    fn who_asks_for_nothing_does_not_keep_others_out() {
        let (mut crowd, mut choker) = (Crowd::of(6), Choker::new(2));
        crowd.decide(&mut choker, seconds(10));
        crowd
            .0
            .iter_mut()
            .for_each(|candidate| candidate.busy = false);
        crowd.decide(&mut choker, seconds(25));
        assert!(crowd.served() >= 3, "{crowd:?}", crowd = crowd.0);
    }
}
