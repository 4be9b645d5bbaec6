//! A limit in bytes a second, divided among peers: a token bucket for one direction of a whole client.
//!
//! Time fills the bucket; ten times a second what is in it is granted to those who want something, fairly
//! between torrents and, inside of each, between peers. Who has nothing to send or to read asks for nothing
//! and gets nothing; a grant that was not used comes back. What lies in the bucket and what is granted and
//! not yet used are together never more than a fifth of a second's worth, so over any time `t` no more than
//! `rate * (t + 0.2 s)` bytes can pass.
//!
//! ```
//! use ropewalk::swarm::{allowance::bucket::Bucket, event::PeerKey};
//! use std::time::Duration;
//! let mut bucket = Bucket::new(20 * 1024);
//! let now = Duration::from_secs(1);
//! (1..=2).for_each(|peer| bucket.wants(PeerKey(peer), 0, 0, now));
//! let granted = bucket.hand_out(now);                           // by peer thread's commands
//! assert_eq!(granted.len(), 2);
//! bucket.returned(PeerKey(1), granted[0].1, now);               // it had no use for it
//! assert!(bucket.due().is_none());                              // nobody wants anything: no wake-up
//! ```

use crate::swarm::event::{Moment, PeerKey};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Time between two rounds of grants.
const ROUND: Duration = Duration::from_millis(100);

/// So much time's worth may be in the bucket and in grants together: a round, and as much again for a
/// round that comes late. It is also what a window of ten seconds may exceed the limit by: 2 %.
const BURST_ROUNDS: u32 = 2;

/// The least that is granted to one peer while others wait: a request is 17 bytes, a packet's own head 52.
const CRUMB: u64 = 64;

/// The most that is granted to a peer of which nothing is known, in bytes.
const TASTE_MAX: u64 = 64 * 1024;

/// One direction of a client whose rate is limited.
#[derive(Debug)]
pub struct Bucket {
    /// Bytes a second.
    rate: u64,
    /// Bytes that can be granted.
    level: u64,
    /// Bytes granted and neither used nor returned, as far as is known.
    out: u64,
    /// The time up to here has been turned into bytes.
    filled: Moment,
    /// When grants were last made.
    round: Option<Moment>,
    accounts: BTreeMap<PeerKey, Account>,
    /// Who wants a grant, first come first: by ticket.
    queue: BTreeSet<(u64, PeerKey)>,
    ticket: u64,
}

#[derive(Debug)]
struct Account {
    torrent: usize,
    held: u64,
    /// How much it can make of a grant, after what it made of the last one.
    appetite: u64,
    ticket: Option<u64>,
}

impl Bucket {
    /// A limit of so many bytes a second, at least 1.
    pub fn new(rate: u64) -> Bucket {
        Bucket {
            rate: rate.max(1),
            level: 0,
            out: 0,
            filled: Moment::ZERO,
            round: None,
            accounts: BTreeMap::new(),
            queue: BTreeSet::new(),
            ticket: 0,
        }
    }

    /// The most that can pass at once, in bytes.
    pub fn burst(&self) -> u64 {
        self.worth(ROUND * BURST_ROUNDS).max(2 * CRUMB)
    }

    /// A peer of this torrent has used up what it was granted and has more to send, or to read: `bytes` at
    /// least, 0 where that is not known.
    pub fn wants(&mut self, peer: PeerKey, torrent: usize, bytes: u64, now: Moment) {
        self.fill(now);
        let taste = self.taste();
        let account = self.accounts.entry(peer).or_insert(Account {
            torrent,
            held: 0,
            appetite: taste,
            ticket: None,
        });
        if account.held > 0 {
            account.appetite = account.appetite.max(account.held).saturating_mul(2);
            self.out -= std::mem::take(&mut account.held);
        }
        account.appetite = account.appetite.max(bytes);
        if account.ticket.is_none() {
            self.ticket += 1;
            account.ticket = Some(self.ticket);
            self.queue.insert((self.ticket, peer));
        }
    }

    /// A peer had no use for the last `bytes` of its grant.
    pub fn returned(&mut self, peer: PeerKey, bytes: u64, now: Moment) {
        self.fill(now);
        if let Some(account) = self.accounts.get_mut(&peer) {
            let held = std::mem::take(&mut account.held);
            let back = bytes.min(held);
            account.appetite = (held - back).saturating_add(CRUMB);
            self.out -= held;
            self.level += back;
        }
    }

    /// A peer has left: what it held counts as used.
    pub fn gone(&mut self, peer: PeerKey, now: Moment) {
        self.fill(now);
        if let Some(account) = self.accounts.remove(&peer) {
            self.out -= account.held;
            if let Some(ticket) = account.ticket {
                self.queue.remove(&(ticket, peer));
            }
        }
    }

    /// When `hand_out` has something to do; `None` while nobody wants anything.
    pub fn due(&self) -> Option<Moment> {
        let wanted = !self.queue.is_empty();
        wanted.then(|| self.round.map_or(Moment::ZERO, |round| round + ROUND))
    }

    /// Grants what there is to those who want it: peers, and bytes above 0.
    pub fn hand_out(&mut self, now: Moment) -> Vec<(PeerKey, u64)> {
        if self.due().is_none_or(|due| due > now) {
            return Vec::new();
        }
        self.round = Some(now);
        self.fill(now);
        // A grant of a few bytes costs more than it carries: then only those who waited longest get one.
        let served = usize::try_from(self.level / CRUMB).unwrap_or(usize::MAX);
        let mut torrents: BTreeMap<usize, Vec<(PeerKey, u64)>> = BTreeMap::new();
        for (_, peer) in self.queue.iter().take(served) {
            if let Some(account) = self.accounts.get(peer) {
                let wants = torrents.entry(account.torrent).or_default();
                wants.push((*peer, account.appetite));
            }
        }
        let sum = |wants: &Vec<(PeerKey, u64)>| {
            let appetites = wants.iter().map(|want| want.1);
            appetites.fold(0, u64::saturating_add)
        };
        let whole: Vec<u64> = torrents.values().map(sum).collect();
        let mut granted = Vec::new();
        for (share, wants) in share_out(self.level, &whole)
            .into_iter()
            .zip(torrents.values())
        {
            let appetites: Vec<u64> = wants.iter().map(|want| want.1).collect();
            let shares = share_out(share, &appetites);
            granted.extend(wants.iter().map(|want| want.0).zip(shares));
        }
        granted.retain(|grant| grant.1 > 0);
        granted
            .iter()
            .for_each(|(peer, bytes)| self.grant(*peer, *bytes));
        granted
    }

    fn grant(&mut self, peer: PeerKey, bytes: u64) {
        if let Some(account) = self.accounts.get_mut(&peer) {
            account.held += bytes;
            if let Some(ticket) = account.ticket.take() {
                self.queue.remove(&(ticket, peer));
            }
            self.level -= bytes;
            self.out += bytes;
        }
    }

    /// Turns the time since the last filling into bytes, as far as they fit. Call this before changing `out`,
    /// so that time during which a grant was out does not refill the room it occupied.
    fn fill(&mut self, now: Moment) {
        let bytes = self.worth(now.saturating_sub(self.filled));
        let room = self.burst().saturating_sub(self.level + self.out);
        if bytes >= room {
            self.level += room;
            self.filled = now;
        } else {
            // Not `now`: the part of a byte that is left over counts next time.
            let nanos = (u128::from(bytes) * NANOS).div_ceil(u128::from(self.rate));
            self.level += bytes;
            self.filled += Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
    }

    /// How many bytes may pass in this time.
    fn worth(&self, time: Duration) -> u64 {
        let bytes = u128::from(self.rate).saturating_mul(time.as_nanos()) / NANOS;
        u64::try_from(bytes)
            .unwrap_or(u64::MAX / 4)
            .min(u64::MAX / 4)
    }

    fn taste(&self) -> u64 {
        self.worth(ROUND / 8).clamp(CRUMB, TASTE_MAX)
    }
}

/// A second.
const NANOS: u128 = 1_000_000_000;

/// Divides `total` so that nobody gets more than it wants and nobody less than another who wants more
/// (max-min fairness). What is not wanted stays.
fn share_out(total: u64, wanted: &[u64]) -> Vec<u64> {
    let mut order: Vec<usize> = (0..wanted.len()).collect();
    order.sort_by_key(|at| wanted[*at]);
    let (mut left, mut heads) = (total, wanted.len() as u64);
    let mut shares = vec![0; wanted.len()];
    for at in order {
        shares[at] = wanted[at].min(left / heads);
        left -= shares[at];
        heads -= 1;
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ms(ms: u64) -> Moment {
        Duration::from_millis(ms)
    }

    /// Peers that use so many bytes a second each, or as much as they get, for `seconds`, with rounds that
    /// come up to `late` ms late. Bytes used by each.
    fn run(rate: u64, uses: &[Option<u64>], seconds: u64, late: u64) -> Vec<u64> {
        let mut bucket = Bucket::new(rate);
        let mut dice = fastrand::Rng::with_seed(rate);
        let mut used = vec![0; uses.len()];
        let mut held = vec![None::<(u64, Moment)>; uses.len()];
        let mut supply = vec![0.0; uses.len()];
        let (mut hold_back, mut last) = (ms(0), ms(0));
        for now in (0..seconds * 1000).step_by(5).map(ms) {
            for (at, use_) in uses.iter().enumerate() {
                let peer = PeerKey(at as u64);
                let per_step = use_.map_or(f64::INFINITY, |bytes| bytes as f64 / 200.0);
                supply[at] = (supply[at] + per_step).min(1e12);
                match held[at] {
                    Some((left, until)) => {
                        let takes = left.min(supply[at] as u64);
                        used[at] += takes;
                        supply[at] -= takes as f64;
                        held[at] = Some((left - takes, until)).filter(|it| it.0 > 0);
                        if held[at].is_none() && supply[at] >= 1.0 {
                            bucket.wants(peer, at % 2, 0, now);
                        } else if let Some((left, _)) = held[at].filter(|_| now >= until) {
                            bucket.returned(peer, left, now);
                            held[at] = None;
                        }
                    }
                    None if supply[at] >= 1.0 => bucket.wants(peer, at % 2, 0, now),
                    None => {}
                }
            }
            if now >= hold_back && bucket.due().is_some_and(|due| due <= now) {
                hold_back = now + ROUND + ms(dice.u64(0..=late));
                last = now;
                for (peer, bytes) in bucket.hand_out(now) {
                    let at = peer.0 as usize;
                    assert!(held[at].is_none() || held[at].is_some_and(|it| it.0 == 0));
                    held[at] = Some((bytes, now + ROUND));
                }
            }
        }
        assert!(last > ms(0));
        used
    }

    #[test]
    fn the_whole_limit_is_used_and_shared_equally_by_those_who_can() {
        for (rate, peers, seconds) in [
            (100 << 20, 20, 30),
            (20 << 10, 1, 30),
            (20 << 10, 20, 30),
            (1 << 10, 20, 600),
        ] {
            let used = run(rate, &vec![None; peers], seconds, 60);
            let sum: u64 = used.iter().sum();
            let limit = rate * seconds;
            assert!(sum <= limit + rate / 5, "{sum} of {limit}");
            assert!(sum >= limit * 98 / 100, "{sum} of {limit}");
            let (least, most) = (used.iter().min(), used.iter().max());
            let mean = sum / peers as u64;
            assert!(
                least.is_some_and(|least| *least >= mean * 9 / 10),
                "{used:?}"
            );
            assert!(most.is_some_and(|most| *most <= mean * 11 / 10), "{used:?}");
        }
    }

    #[test]
    fn what_slow_and_silent_peers_leave_goes_to_the_others() {
        let rate = 1 << 20;
        // Two that take all they get, in different torrents; six that need 1 % each; four that need nothing.
        let mut uses = vec![None, None];
        uses.extend([Some(rate / 100); 6]);
        uses.extend([Some(0); 4]);
        let used = run(rate, &uses, 30, 0);
        let fair = rate * 30 * 94 / 100 / 2;
        for greedy in &used[..2] {
            assert!(
                *greedy >= fair * 96 / 100 && *greedy <= fair * 104 / 100,
                "{used:?}"
            );
        }
        for slow in &used[2..8] {
            assert!(*slow >= rate * 30 / 100 * 9 / 10, "{used:?}");
        }
        assert_eq!(used[8..], [0; 4]);
    }

    #[test]
    fn who_has_a_turn_now_and_then_is_granted_what_waits_at_once() {
        let mut bucket = Bucket::new(100 << 20);
        let turn = 512 << 10;
        for round in 1..=40 {
            let (peer, now) = (PeerKey(round % 20), ms(100 * round));
            bucket.wants(peer, 0, turn, now);
            let granted = bucket.hand_out(now);
            let (to, bytes) = granted[0];
            assert!(
                to == peer && (turn..=turn + CRUMB).contains(&bytes),
                "{granted:?}"
            );
            // It has used it, and nothing waits any more until its next turn.
            bucket.returned(peer, 0, now);
        }
    }

    #[test]
    fn torrents_share_equally_whatever_their_number_of_peers() {
        let mut bucket = Bucket::new(100_000);
        // Appetite comes with eating.
        let rounds = (0..10).map(|round| {
            // Each grant is used up at once.
            let used = ms(300 + 200 * round);
            (0..10).for_each(|peer| bucket.wants(PeerKey(peer), usize::from(peer > 0), 0, used));
            bucket.hand_out(ms(500 + 200 * round))
        });
        let granted = rounds.last().unwrap_or_default();
        assert_eq!(granted[0], (PeerKey(0), 10_000));
        let others: Vec<u64> = granted[1..].iter().map(|grant| grant.1).collect();
        assert_eq!(others.iter().sum::<u64>(), 10_000);
        assert!(others.iter().all(|bytes| (1_111..=1_112).contains(bytes)));
    }

    #[test]
    fn the_last_byte_of_a_very_small_limit_is_not_lost_and_everybody_has_a_turn() {
        let mut bucket = Bucket::new(50);
        let mut turns = [0; 5];
        for now in (0..600_000).step_by(100).map(ms) {
            (0..5).for_each(|peer| bucket.wants(PeerKey(peer), 0, 0, now));
            for (peer, bytes) in bucket.hand_out(now) {
                turns[peer.0 as usize] += bytes;
            }
        }
        let sum: u64 = turns.iter().sum();
        assert!((29_800..=30_100).contains(&sum), "{turns:?}");
        assert!(turns.iter().all(|bytes| *bytes > 5_000), "{turns:?}");
    }

    #[test]
    fn time_that_passes_while_everything_is_granted_fills_nothing() {
        let mut bucket = Bucket::new(100_000);
        bucket.wants(PeerKey(1), 0, 0, ms(1_000));
        // The first taste, and then more and more, until all is out.
        let mut now = ms(1_000);
        let mut held = 0;
        while bucket.level > 0 || held == 0 {
            held = bucket.hand_out(now).iter().map(|grant| grant.1).sum();
            if bucket.level > 0 {
                now += ms(100);
                bucket.wants(PeerKey(1), 0, 0, now);
            }
        }
        let full = held;
        now += ms(10_000);
        bucket.wants(PeerKey(1), 0, 0, now);
        assert_eq!(bucket.level, bucket.burst() - full);
    }

    proptest! {
        #[test]
        fn in_no_stretch_of_time_is_more_used_than_the_limit_allows(
            rate in 1u64..200_000_000,
            steps in proptest::collection::vec((0u64..400, 0u64..6, 0u8..4, 0u64..100_000), 1..200),
        ) {
            let mut bucket = Bucket::new(rate);
            let mut now = ms(0);
            let mut held = [0u64; 6];
            // The use so far, at each moment: the earliest it can have been.
            let mut books = vec![(ms(0), 0u128)];
            let mut used = 0u128;
            for (wait, peer, deed, bytes) in steps {
                now += ms(wait);
                let (key, at) = (PeerKey(peer), peer as usize);
                match deed {
                    0 | 1 => {
                        used += u128::from(std::mem::take(&mut held[at]));
                        bucket.wants(key, at % 2, 0, now);
                    }
                    2 => {
                        let back = bytes.min(held[at]);
                        used += u128::from(held[at] - back);
                        held[at] = 0;
                        bucket.returned(key, back, now);
                    }
                    _ => {
                        used += u128::from(std::mem::take(&mut held[at]));
                        bucket.gone(key, now);
                    }
                }
                for (peer, bytes) in bucket.hand_out(now) {
                    prop_assert!(bytes > 0);
                    held[peer.0 as usize] += bytes;
                }
                prop_assert_eq!(bucket.out, held.iter().sum::<u64>());
                prop_assert!(bucket.level + bucket.out <= bucket.burst());
                books.push((now, used));
            }
            for (at, (from, before)) in books.iter().enumerate() {
                for (to, after) in &books[at..] {
                    let limit = u128::from(bucket.worth(*to - *from)) + 1 + u128::from(bucket.burst());
                    prop_assert!(after - before <= limit, "{} of {}", after - before, limit);
                }
            }
        }

        #[test]
        fn shares_are_fair_and_nothing_wanted_is_left_over(
            total in 0u64..1_000_000,
            wanted in proptest::collection::vec(0u64..200_000, 0..30),
        ) {
            let shares = share_out(total, &wanted);
            let sum: u64 = shares.iter().sum();
            prop_assert_eq!(sum, total.min(wanted.iter().sum()));
            for (share, want) in shares.iter().zip(&wanted) {
                prop_assert!(share <= want);
                // Who got less than it wants got as much as anybody, but for the odd byte.
                prop_assert!(share == want || shares.iter().all(|other| *other <= share + 1));
            }
        }
    }
}
