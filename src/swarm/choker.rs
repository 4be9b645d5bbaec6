//! Whom to serve: tit for tat while we download, turns when we only share.
//!
//! Standard: BEP 3 has the ten-second rounds, the optimistic unchoke that moves on every third round and the
//! threefold chance for newcomers. Ours: the turns of a seed, and decisions 31, 128, 173 and 193.
//!
//! A slot lets one peer download from us. Every ten seconds, while we download, those who give least make
//! room for those who give more, and one slot is for a peer drawn by chance; when we only share, those who
//! were served longest make room for those who waited longest. A free slot is filled at once, a peer that
//! holds one without asking for anything does not count and loses it when the round is over and others wait,
//! who never asks, or does not read what it asked for, has what nobody else wants, and who takes and does not
//! give has a slot in sixteen.
//!
//! ```text
//! // Whenever interest changes, and at choker.due(). `gives`: we download, slots are for those who give.
//! let changes = choker.decide(&candidates, gives, now, &mut rng);
//! ```

use super::event::{Moment, PeerKey};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a turn lasts (BEP 3).
const ROUND: Duration = Duration::from_secs(10);

/// The optimistic unchoke stays for so many rounds (BEP 3): time to be unchoked in return and to give
/// something.
const OPTIMISTIC_ROUNDS: u32 = 3;

/// How much likelier it is that a new peer is drawn (BEP 3): it has nothing yet by which to show what it
/// gives.
const CHANCES_WHEN_NEW: u32 = 3;

/// For so long a peer is new. The number is ours.
const NEW: Duration = Duration::from_secs(60);

/// One slot in so many, and one at least, is for those who take and do not give. Some have nothing that we
/// lack, so they get a little; whatever their number, it is a small part of the line that they cost others.
const ALMS: usize = 16;

/// For so long after it was unchoked a peer need not have asked for anything to count as served. Its requests
/// take a round trip to come; who never asks keeps the slot from others for this second, and not for a round.
const YOUNG: Duration = Duration::from_secs(1);

/// The least time between two changes for one peer. aria2 takes two within seconds for a flood (decision 31);
/// less than a round, so that a peer that was choked at its end can be unchoked at the next.
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
    /// It has requests with us, and reads what it is sent.
    pub busy: bool,
    /// It had its turn and never asked for anything, or did not read it, and gives us nothing.
    pub mute: bool,
    /// What it is worth to us: while we download, the bytes a second it gives.
    pub worth: u64,
    /// It gives in return for what it takes, or has not taken enough for anybody to tell.
    pub gives: bool,
    /// Since when it is connected.
    pub since: Moment,
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
    /// Whose turn is a gift, and since when.
    optimistic: Option<(PeerKey, Moment)>,
    crowded: bool,
    /// When to look whether those who were unchoked last have asked for something: `YOUNG` after the unchoke.
    proven: Option<Moment>,
}

impl Choker {
    /// A choker with this number of slots.
    pub fn new(slots: usize) -> Choker {
        Choker {
            slots: slots.max(1),
            turned: BTreeMap::new(),
            round: Moment::ZERO,
            optimistic: None,
            crowded: false,
            proven: None,
        }
    }

    /// Changes the number of slots.
    pub fn set_slots(&mut self, slots: usize) {
        self.slots = slots.max(1);
    }

    /// Whether somebody waits who could be served with so many slots.
    pub fn lacks(&self, slots: usize) -> bool {
        self.crowded && slots > self.slots
    }

    /// When turns have to be looked at again; `None` while everybody who wants a slot has one.
    pub fn due(&self) -> Option<Moment> {
        let round = self.round + ROUND;
        let next = self.proven.map_or(round, |proven| proven.min(round));
        self.crowded.then_some(next)
    }

    /// A peer is gone.
    pub fn forget(&mut self, peer: PeerKey) {
        self.turned.remove(&peer);
        self.optimistic.take_if(|(lucky, _)| *lucky == peer);
    }

    /// Decides for all connected peers at once. `gives`: slots are for those who give (we download);
    /// otherwise all take turns, the worthless more often out.
    pub fn decide(
        &mut self,
        candidates: &[Candidate],
        gives: bool,
        now: Moment,
        rng: &mut fastrand::Rng,
    ) -> Changes {
        let mut changes = Changes::default();
        let mut queue = self.stand_in_line(candidates, now, rng);
        let wanting = queue.waiting.len();
        let round = now >= self.round + ROUND;
        self.proven.take_if(|proven| *proven <= now);
        self.limit_alms(&mut queue, round, now, &mut changes);
        queue.room = self.room(&queue);
        self.end_mute_turns(&mut queue, now, &mut changes);
        if round {
            self.round = now;
            self.end_idle_turns(&mut queue, gives, now, &mut changes);
            self.change_places(&mut queue, gives, now, rng, &mut changes);
            // Who wants nothing holds no slot; it is choked only so that others may trust in theirs.
            if queue.waiting.len() > queue.room {
                let bored = queue.bored.iter().filter(|peer| !self.fresh(peer, now));
                changes.choke.extend(bored);
            }
        }
        let ready = queue.waiting.iter().filter(|it| self.rested(&it.peer, now));
        let ready = ready.take(queue.room).map(|it| it.peer);
        changes.unchoke.extend(ready);
        self.crowded = wanting > changes.unchoke.len() || !changes.choke.is_empty();
        for peer in changes.choke.iter().chain(&changes.unchoke) {
            self.turned.insert(*peer, now);
        }
        if !changes.unchoke.is_empty() {
            self.proven = Some(now + YOUNG);
        }
        changes
    }

    fn last(&self, peer: &PeerKey) -> Option<Moment> {
        self.turned.get(peer).copied()
    }

    fn fresh(&self, peer: &PeerKey, now: Moment) -> bool {
        self.last(peer).is_some_and(|at| now < at + ROUND)
    }

    /// aria2 treats two choke changes within seconds as flooding and hangs up, so a peer's state changes at
    /// most every 6 s, even if a slot is free.
    fn rested(&self, peer: &PeerKey, now: Moment) -> bool {
        self.last(peer).is_none_or(|at| now >= at + PAUSE)
    }

    fn stand_in_line(
        &self,
        candidates: &[Candidate],
        now: Moment,
        rng: &mut fastrand::Rng,
    ) -> Queue {
        let mut queue = Queue::default();
        for candidate in candidates {
            match (candidate.interested, candidate.choked) {
                (true, true) => queue.waiting.push(*candidate),
                (true, false) => queue.served.push(*candidate),
                (false, false) => queue.bored.push(candidate.peer),
                (false, true) => {}
            }
        }
        // The best first; who never had a turn has no time and comes before those of equal worth. Who never asks is
        // last: among sixty like it nobody else would find a place.
        rng.shuffle(&mut queue.waiting);
        let rank = |it: &Candidate| {
            let worst = u64::MAX - it.worth;
            (!it.gives, it.mute, worst, self.last(&it.peer))
        };
        let ranked = queue.waiting.drain(..).map(|it| (rank(&it), it));
        queue.waiting = in_order(ranked.collect());
        // The worst first.
        let rank = |it: &Candidate| (it.gives, !it.mute, it.worth, self.last(&it.peer));
        let ranked = queue.served.drain(..).map(|it| (rank(&it), it));
        queue.served = in_order(ranked.collect());
        let served = &queue.served;
        // An unchoked peer that asks for nothing leaves its share of the line to others.
        let young = |peer: &PeerKey| self.last(peer).is_some_and(|at| now < at + YOUNG);
        let used = served.iter().filter(|it| it.busy || young(&it.peer));
        queue.used = used.count();
        queue
    }

    /// A few slots are enough for those who take and do not give, and they take turns at them.
    fn limit_alms(&self, queue: &mut Queue, round: bool, now: Moment, changes: &mut Changes) {
        let mut alms = (self.slots / ALMS).max(1);
        let over = round && queue.waiting.iter().any(|it| !it.gives);
        let poor = queue.served.iter().filter(|it| !it.gives);
        let too_poor = poor.filter(|it| {
            let kept = alms > 0 && (!over || self.fresh(&it.peer, now));
            alms -= usize::from(kept);
            !kept && self.rested(&it.peer, now)
        });
        changes.choke.extend(too_poor.map(|it| it.peer));
        queue.served.retain(|it| !changes.choke.contains(&it.peer));
        queue.waiting.retain(|it| {
            let lucky = !it.gives && alms > 0;
            alms -= usize::from(lucky);
            it.gives || lucky
        });
    }

    /// Slots that are free. However many stay silent, the line is not promised to more than four times as
    /// many.
    fn room(&self, queue: &Queue) -> usize {
        let free = self.slots.saturating_sub(queue.used);
        free.min((self.slots * 4).saturating_sub(queue.served.len()))
    }

    /// Who never asks makes room at once for somebody else.
    fn end_mute_turns(&self, queue: &mut Queue, now: Moment, changes: &mut Changes) {
        let ready = |it: &&Candidate| !it.mute && self.rested(&it.peer, now);
        let ready = queue.waiting.iter().filter(ready).count();
        let free = self.slots.saturating_sub(queue.used);
        let mute = |it: &Candidate| it.mute && !it.busy && self.rested(&it.peer, now);
        self.end_turns(queue, ready.min(free), mute, changes);
    }

    /// Ends such turns until there is room for so many.
    fn end_turns(
        &self,
        queue: &mut Queue,
        wanted: usize,
        such: impl Fn(&Candidate) -> bool,
        changes: &mut Changes,
    ) {
        let short = wanted.saturating_sub(queue.room);
        let over = queue.served.iter().filter(|it| such(it)).take(short);
        changes.choke.extend(over.map(|it| it.peer));
        queue.served.retain(|it| !changes.choke.contains(&it.peer));
        queue.room = self.room(queue);
    }

    /// A round is over: who had a turn and asked for nothing makes room for those who wait, all at once. (Two
    /// a round were not enough: 75 callers who wanted something and never said what kept a seed from
    /// everybody else.)
    fn end_idle_turns(&self, queue: &mut Queue, gives: bool, now: Moment, changes: &mut Changes) {
        // Who gives us something and needs nothing of ours at the moment is not offended.
        let idle =
            |it: &Candidate| !it.busy && self.rested(&it.peer, now) && (!gives || it.worth == 0);
        self.end_turns(queue, queue.waiting.len(), idle, changes);
    }

    /// A round is over: the better ones of those who wait for the worse ones of those who are served.
    fn change_places(
        &mut self,
        queue: &mut Queue,
        gives: bool,
        now: Moment,
        rng: &mut fastrand::Rng,
        changes: &mut Changes,
    ) {
        let over = queue.used.saturating_sub(self.slots);
        let short = queue.waiting.len().saturating_sub(queue.room);
        let lucky = self.optimistic;
        let lucky = lucky.filter(|(_, since)| now < *since + OPTIMISTIC_ROUNDS * ROUND);
        let ripe = queue.served.iter().copied().filter(|it| {
            !self.fresh(&it.peer, now) && lucky.is_none_or(|(lucky, _)| lucky != it.peer)
        });
        let ripe: Vec<_> = ripe.collect();
        let mut leave: Vec<PeerKey> = ripe.iter().take(over).map(|it| it.peer).collect();
        let rivals = queue.waiting.iter().skip(queue.room);
        let rivals = rivals.filter(|it| !it.mute && self.rested(&it.peer, now));
        let better = ripe.iter().skip(over).zip(rivals);
        let better =
            better.take_while(|(old, new)| !gives || new.worth > old.worth + old.worth / 4);
        let most = match gives {
            true => self.slots,
            // Who makes use of its turn does not have to go while there is room for others beside it.
            false if queue.room > 0 => 0,
            false => self.slots.div_ceil(4),
        };
        leave.extend(better.take(most.min(short)).map(|(old, _)| old.peer));
        queue.room += leave.len().saturating_sub(over);
        if gives
            && lucky.is_none()
            && let Some(chosen) = self.draw(&queue.waiting, now, rng)
        {
            self.optimistic = Some((chosen, now));
            queue.waiting.retain(|it| it.peer != chosen);
            changes.unchoke.push(chosen);
            if queue.room > 0 {
                queue.room -= 1;
            } else if let Some(old) = ripe.iter().find(|it| !leave.contains(&it.peer)) {
                leave.push(old.peer);
            }
        }
        changes.choke.extend(leave);
    }

    /// One slot is for somebody who has not had a chance to show what it gives.
    fn draw(&self, waiting: &[Candidate], now: Moment, rng: &mut fastrand::Rng) -> Option<PeerKey> {
        let chances = waiting.iter();
        let chances = chances.filter(|it| !it.mute && self.rested(&it.peer, now));
        let weight = |it: &Candidate| match now < it.since + NEW {
            true => CHANCES_WHEN_NEW,
            false => 1,
        };
        let total: u32 = chances.clone().map(weight).sum();
        let mut ball = rng.u32(0..total.max(1));
        let mut chances = chances;
        let chosen = chances.find(|it| {
            let hit = ball < weight(it);
            ball = ball.saturating_sub(weight(it));
            hit
        });
        chosen.map(|it| it.peer)
    }
}

/// Those of the lowest rank first, those of one rank as they stood.
fn in_order(mut ranked: Vec<(Rank, Candidate)>) -> Vec<Candidate> {
    ranked.sort_by_key(|it| it.0);
    ranked.into_iter().map(|it| it.1).collect()
}

/// Whether it gives, whether it asks, what it is worth, when it last had a turn.
type Rank = (bool, bool, u64, Option<Moment>);

/// The candidates, sorted by what can happen to them.
#[derive(Debug, Default)]
struct Queue {
    /// Interested and choked, the best first.
    waiting: Vec<Candidate>,
    /// Interested and unchoked, the worst first.
    served: Vec<Candidate>,
    /// Unchoked and not interested.
    bored: Vec<PeerKey>,
    /// Slots in use.
    used: usize,
    /// Slots that are free.
    room: usize,
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
                mute: false,
                worth: 0,
                gives: true,
                since: Moment::ZERO,
            };
            Crowd((0..count).map(peer).collect())
        }

        fn decide(&mut self, choker: &mut Choker, now: Moment) {
            let changes = choker.decide(&self.0, false, now, &mut fastrand::Rng::with_seed(1));
            for candidate in &mut self.0 {
                if changes.choke.contains(&candidate.peer) {
                    assert!(!candidate.choked);
                    (candidate.choked, candidate.busy) = (true, false);
                } else if changes.unchoke.contains(&candidate.peer) {
                    assert!(candidate.choked);
                    (candidate.choked, candidate.busy) = (false, !candidate.mute);
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
        let bored = crowd.0.iter().position(|it| !it.choked);
        let bored = bored.unwrap_or_default();
        crowd.0[bored].interested = false;
        crowd.decide(&mut choker, seconds(21));
        assert_eq!(crowd.served(), 3);
        // The bored one is choked when its turn is over, no sooner.
        assert!(!crowd.0[bored].choked);
        crowd.decide(&mut choker, seconds(31));
        assert!(crowd.0[bored].choked);
    }

    #[test]
    fn a_line_that_turns_out_to_be_wider_serves_those_who_wait() {
        let (mut crowd, mut choker) = (Crowd::of(5), Choker::new(2));
        crowd.decide(&mut choker, seconds(20));
        assert!(!choker.lacks(2) && choker.lacks(3));
        choker.set_slots(5);
        crowd.decide(&mut choker, seconds(21));
        assert_eq!(crowd.served(), 5);
        assert!(!choker.lacks(9));
    }

    #[test]
    fn while_we_download_slots_go_to_those_who_give_and_one_to_chance() {
        let (mut crowd, mut choker) = (Crowd::of(20), Choker::new(5));
        for (n, candidate) in crowd.0.iter_mut().enumerate() {
            candidate.worth = if n < 4 { 100_000 } else { 0 };
        }
        let mut rng = fastrand::Rng::with_seed(3);
        let mut lucky = std::collections::BTreeSet::new();
        for round in 1..60 {
            let changes = choker.decide(&crowd.0, true, seconds(10 * round), &mut rng);
            for candidate in &mut crowd.0 {
                let choke = changes.choke.contains(&candidate.peer);
                let unchoke = changes.unchoke.contains(&candidate.peer);
                candidate.choked = choke || candidate.choked && !unchoke;
                candidate.busy = !candidate.choked;
            }
            if round > 2 {
                assert!(crowd.0[..4].iter().all(|it| !it.choked), "round {round}");
                let others = crowd.0[4..].iter().filter(|it| !it.choked);
                lucky.extend(others.map(|it| it.peer));
            }
        }
        assert!(lucky.len() > 5, "{lucky:?}");
    }

    #[test]
    fn those_who_take_and_never_give_share_a_slot() {
        let (mut crowd, mut choker) = (Crowd::of(10), Choker::new(8));
        crowd.0[2..].iter_mut().for_each(|it| it.gives = false);
        crowd.decide(&mut choker, seconds(20));
        assert_eq!(crowd.served(), 3);
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
    fn however_many_want_something_and_never_ask_who_asks_is_served_most_of_the_time() {
        let (mut crowd, mut choker) = (Crowd::of(91), Choker::new(8));
        let mut served = Duration::ZERO;
        let (mut now, end) = (seconds(10), seconds(310));
        while now < end {
            crowd.decide(&mut choker, now);
            crowd.0[..90].iter_mut().for_each(|it| it.busy = false);
            let next = choker.due().unwrap_or(end).min(end);
            assert!(next > now && next <= now + ROUND);
            if !crowd.0[90].choked {
                served += next - now;
            }
            now = next;
        }
        assert!(served > seconds(200), "{served:?} of 300 s");
    }

    #[test]
    fn a_newcomer_is_served_at_once_among_many_who_never_ask_and_stays() {
        let (mut crowd, mut choker) = (Crowd::of(75), Choker::new(8));
        let mut now = seconds(10);
        while now < seconds(60) {
            crowd.decide(&mut choker, now);
            crowd.0.iter_mut().for_each(|it| it.busy = false);
            now = choker.due().unwrap_or(now + ROUND);
        }
        crowd.0.iter_mut().for_each(|it| it.mute = true);
        crowd.0.extend(Crowd::of(1).0);
        crowd.0[75].peer = PeerKey(75);
        crowd.decide(&mut choker, now - Duration::from_secs(3));
        assert!(!crowd.0[75].choked);
        for _ in 0..60 {
            now = now.max(choker.due().unwrap_or(now));
            crowd.decide(&mut choker, now);
            assert!(!crowd.0[75].choked);
        }
    }

    #[test]
    fn seventy_five_who_never_ask_have_all_had_a_turn_two_rounds_later() {
        let (mut crowd, mut choker) = (Crowd::of(75), Choker::new(8));
        let (mut now, mut had) = (seconds(10), std::collections::BTreeSet::new());
        while now <= seconds(31) {
            crowd.decide(&mut choker, now);
            crowd.0.iter_mut().for_each(|it| it.busy = false);
            had.extend(crowd.0.iter().filter(|it| !it.choked).map(|it| it.peer));
            now = choker.due().unwrap_or(now + ROUND);
        }
        assert_eq!(had.len(), 75);
    }

    #[test]
    fn who_takes_what_it_asks_for_does_not_make_room_for_those_who_never_ask() {
        let (mut crowd, mut choker) = (Crowd::of(40), Choker::new(8));
        crowd.0[8..].iter_mut().for_each(|it| it.mute = true);
        for round in 1..30 {
            crowd.decide(&mut choker, seconds(10 * round));
            assert!(crowd.0[..8].iter().all(|it| !it.choked), "round {round}");
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
        crowd.decide(&mut choker, seconds(15));
        assert!(crowd.served() >= 3, "{crowd:?}", crowd = crowd.0);
    }
}
