//! What was fetched, served and thrown away, and how fast: bytes and bytes a second.
//!
//! ```
//! use ropewalk::swarm::ledger::Rate;
//! use std::time::Duration;
//! let mut rate = Rate::default();
//! for tenth in 0..100 {
//!     rate.add(1000, Duration::from_millis(tenth * 100));
//! }
//! let now = rate.per_second(Duration::from_secs(10));
//! assert!((9_000..11_000).contains(&now), "{now}");
//! ```

use super::event::Moment;
use crate::protocol::geometry::BLOCK_LENGTH;

/// How far back a rate looks, in seconds: older bytes count less and less.
const WINDOW: f64 = 4.0;

/// After a stillness of so many seconds a rate is shown as 0.
const STILL: f64 = 30.0;

/// Bytes a second, lately: an exponential window, two numbers whatever the traffic.
#[derive(Debug, Clone, Default)]
pub struct Rate {
    /// Bytes, each worth less the older it is.
    weight: f64,
    at: Moment,
    since: Option<Moment>,
}

impl Rate {
    /// `bytes` went by.
    pub fn add(&mut self, bytes: u32, now: Moment) {
        if self.since.is_none() {
            self.since = Some(now);
            self.at = now;
        }
        if now > self.at {
            self.weight *= (-(now - self.at).as_secs_f64() / WINDOW).exp();
            self.at = now;
        }
        self.weight += f64::from(bytes);
    }

    /// Bytes a second as of `now`. Honest from the first second on: a young rate is not averaged
    /// over time that never was.
    pub fn per_second(&self, now: Moment) -> u64 {
        let Some(since) = self.since else { return 0 };
        let idle = now.saturating_sub(self.at).as_secs_f64();
        let age = now.saturating_sub(since).as_secs_f64().max(0.5);
        let seen = WINDOW * (1.0 - (-age / WINDOW).exp());
        (self.weight * (-idle / WINDOW).exp() / seen) as u64
    }
}

impl Rate {
    /// The same for people: after a second without anything no more than a block in that time, so that what has
    /// ended is seen to have ended.
    fn shown(&self, now: Moment) -> u64 {
        let idle = now.saturating_sub(self.at).as_secs_f64();
        let rate = self.per_second(now);
        match idle {
            STILL.. => 0,
            1.0.. => rate.min((f64::from(BLOCK_LENGTH) / idle) as u64),
            _ => rate,
        }
    }
}

/// What passed between one peer and us, in bytes of payload.
#[derive(Debug)]
pub struct Trade {
    given: u64,
    taken: u64,
    down: Rate,
    up: Rate,
    useful: Moment,
}

impl Trade {
    /// With somebody who came at `now`, which counts as a use.
    pub fn new(now: Moment) -> Trade {
        Trade {
            given: 0,
            taken: 0,
            down: Rate::default(),
            up: Rate::default(),
            useful: now,
        }
    }

    /// It gave us a block.
    pub fn gave(&mut self, bytes: u32, now: Moment) {
        self.down.add(bytes, now);
        self.given += u64::from(bytes);
        self.useful = now;
    }

    /// It had a block of us.
    pub fn took(&mut self, bytes: u32, now: Moment) {
        self.up.add(bytes, now);
        self.taken += u64::from(bytes);
        self.useful = now;
    }

    /// All that it gave us.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// All that it had of us.
    pub fn taken(&self) -> u64 {
        self.taken
    }

    /// What it brings us a second, lately.
    pub fn down_rate(&self, now: Moment) -> u64 {
        self.down.per_second(now)
    }

    /// What we bring it a second, lately.
    pub fn up_rate(&self, now: Moment) -> u64 {
        self.up.per_second(now)
    }

    /// When either side last had a use for the other.
    pub fn useful(&self) -> Moment {
        self.useful
    }
}

/// The totals of one swarm in this run, in bytes of payload.
#[derive(Debug, Clone, Default)]
pub struct Ledger {
    /// Fetched.
    pub downloaded: u64,
    /// Served.
    pub uploaded: u64,
    /// Thrown away: late, twice, unasked, or part of a bad piece.
    pub wasted: u64,
    down: Rate,
    up: Rate,
}

impl Ledger {
    /// A block came.
    pub fn received(&mut self, bytes: u32, now: Moment) {
        self.downloaded += u64::from(bytes);
        self.down.add(bytes, now);
    }

    /// A block was sent.
    pub fn served(&mut self, bytes: u32, now: Moment) {
        self.uploaded += u64::from(bytes);
        self.up.add(bytes, now);
    }

    /// Bytes turned out to be good for nothing.
    pub fn wasted(&mut self, bytes: u32) {
        self.wasted += u64::from(bytes);
    }

    /// Fetched a second, lately.
    pub fn down_rate(&self, now: Moment) -> u64 {
        self.down.shown(now)
    }

    /// Served a second, lately.
    pub fn up_rate(&self, now: Moment) -> u64 {
        self.up.shown(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_steady_stream_is_measured_from_its_first_seconds_and_forgotten_after_it_ends() {
        let mut rate = Rate::default();
        for step in 0..200u64 {
            rate.add(5_000, Duration::from_millis(step * 50));
            let now = Duration::from_millis(step * 50 + 50);
            if step > 40 {
                let measured = rate.per_second(now);
                assert!((90_000..112_000).contains(&measured), "{measured}");
            }
        }
        assert!(rate.per_second(Duration::from_secs(60)) < 10);
    }

    #[test]
    fn what_has_ended_is_not_shown_for_minutes_and_what_is_slow_is_shown() {
        let (mut fast, mut slow) = (Ledger::default(), Ledger::default());
        for step in 0..1000 {
            fast.served(16_384, Duration::from_millis(step));
        }
        let end = Duration::from_secs(1);
        assert!(fast.up_rate(end) > 10_000_000);
        assert!(fast.up_rate(end * 3) <= 8_200);
        assert_eq!(fast.up_rate(end * 32), 0);
        for step in 0..10 {
            slow.served(16_384, Duration::from_secs(8 * step));
            let before_the_next = Duration::from_secs(8 * step + 7);
            assert!((500..=2_400).contains(&slow.up_rate(before_the_next)));
        }
    }

    #[test]
    fn nothing_is_no_rate() {
        assert_eq!(Rate::default().per_second(Duration::from_secs(9)), 0);
    }
}
