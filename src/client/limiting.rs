//! The client's limits in bytes a second: what peer threads ask for and are granted.
//!
//! Dividing is done by [`Bucket`]s, one for each direction that is limited; here they meet the clock and
//! the lines to the threads. Without a limit there is no bucket, and nothing of this is ever called.

use super::hands::Hands;
use crate::net::Command;
use crate::net::meter::Metered;
use crate::swarm::allowance::bucket::Bucket;
use crate::swarm::event::{Flow, Moment, PeerKey};

/// Peers are served few at a time where the line is so slow that each would get less than this, in
/// bytes a second: a block takes eight seconds then.
const USEFUL_RATE: u64 = 2 * 1024;

/// Both directions of a client.
#[derive(Debug, Default)]
pub(super) struct Limiting {
    up: Option<Bucket>,
    down: Option<Bucket>,
}

impl Limiting {
    /// Limits in bytes a second.
    pub(super) fn new(up: Option<u64>, down: Option<u64>) -> Limiting {
        Limiting {
            up: up.map(Bucket::new),
            down: down.map(Bucket::new),
        }
    }

    /// Which directions peer threads have to ask about.
    pub(super) fn metered(&self) -> Metered {
        Metered {
            up: self.up.is_some(),
            down: self.down.is_some(),
        }
    }

    fn bucket(&mut self, flow: Flow) -> Option<&mut Bucket> {
        match flow {
            Flow::Up => self.up.as_mut(),
            Flow::Down => self.down.as_mut(),
        }
    }

    /// A peer's thread has used up what it had; `bytes` wait, as far as is known.
    pub(super) fn wants(
        &mut self,
        peer: PeerKey,
        torrent: usize,
        flow: Flow,
        bytes: u64,
        now: Moment,
    ) {
        if let Some(bucket) = self.bucket(flow) {
            bucket.wants(peer, torrent, bytes, now);
        }
    }

    /// A peer's thread had no use for the rest of what it was granted.
    pub(super) fn unused(&mut self, peer: PeerKey, flow: Flow, bytes: u64, now: Moment) {
        if let Some(bucket) = self.bucket(flow) {
            bucket.returned(peer, bytes, now);
        }
    }

    /// A peer's thread has ended.
    pub(super) fn gone(&mut self, peer: PeerKey, now: Moment) {
        let buckets = [&mut self.up, &mut self.down];
        buckets
            .into_iter()
            .flatten()
            .for_each(|it| it.gone(peer, now));
    }

    /// When `grant` has something to do; `None` while nobody waits.
    pub(super) fn due(&self) -> Option<Moment> {
        let buckets = [&self.up, &self.down].into_iter().flatten();
        buckets.filter_map(Bucket::due).min()
    }

    /// Grants what may pass to those who wait for it.
    pub(super) fn grant(&mut self, hands: &mut Hands, now: Moment) {
        for (flow, bucket) in [(Flow::Up, &mut self.up), (Flow::Down, &mut self.down)] {
            let granted = bucket.as_mut().map(|bucket| bucket.hand_out(now));
            for (peer, bytes) in granted.into_iter().flatten() {
                hands.tell(peer, Command::Grant { flow, bytes });
            }
        }
    }
}

/// How many of `slots` upload slots make sense at this limit.
pub(super) fn useful_slots(slots: usize, up: Option<u64>) -> usize {
    let most = up.map_or(usize::MAX, |rate| (rate / USEFUL_RATE) as usize);
    slots.min(most).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_limit_nothing_is_ever_due() {
        let mut limiting = Limiting::new(None, None);
        limiting.wants(PeerKey(1), 0, Flow::Up, 0, Moment::ZERO);
        assert_eq!(limiting.due(), None);
        assert_eq!(limiting.metered(), Metered::default());
    }

    #[test]
    fn a_slow_line_serves_few_at_a_time() {
        assert_eq!(useful_slots(8, None), 8);
        assert_eq!(useful_slots(8, Some(1 << 20)), 8);
        assert_eq!(useful_slots(8, Some(5 << 10)), 2);
        assert_eq!(useful_slots(8, Some(1)), 1);
    }
}
