//! How fast a peer delivers, and how many requests keep it busy.
//!
//! As many as it answers during a round trip, twice over, and in half a second more, against jitter. Measured,
//! not a constant. A rate takes time to measure, so until the line shows that it is full, each block that
//! comes brings some more requests.
//!
//! Ours: no BEP says how many; decisions 106 and 142.
//!
//! ```
//! use ropewalk::swarm::delivery::Delivery;
//! use std::time::Duration;
//! let (mut delivery, asked) = (Delivery::default(), Duration::ZERO);
//! assert_eq!(delivery.depth(), 32); // nothing is known yet
//! delivery.begin(asked); // a request goes out after a pause
//! delivery.came(16_384, asked, asked + Duration::from_millis(40));
//! assert_eq!(delivery.depth(), 36);
//! ```

use super::event::Moment;
use super::ledger::Rate;
use crate::protocol::geometry::BLOCK_LENGTH;
use std::time::Duration;

/// Requests to a peer nothing is known of yet.
pub(super) const DEPTH_FIRST: usize = 32;
/// The fewest requests under way to a peer that delivers.
pub(super) const DEPTH_MIN: usize = 4;
/// The most, to a peer that said how many it queues (`reqq`, BEP 10).
pub(super) const DEPTH_MAX: usize = 2_000;
/// What is asked for beyond two round trips.
const HEADROOM: Duration = Duration::from_millis(500);
/// What each block adds to the requests under way while the pipeline opens: five times as many each round
/// trip. From rates alone, the first of which says nothing, a line of 1 Gbit/s, 100 ms away, lost 60 ms more.
pub(super) const GROWTH: usize = 4;
/// The line is full when an answer takes twice the shortest time there was, and so much more.
const FULL: Duration = Duration::from_millis(50);
/// The shortest time over which delivery is measured.
const SAMPLE: Duration = Duration::from_millis(100);
/// A block that is out for so long is asked elsewhere, unless the peer is known to be that slow.
const PATIENCE: Duration = Duration::from_secs(30);
/// However slow a peer is known to be, a block is waited for no longer than this.
const PATIENCE_MAX: Duration = Duration::from_secs(60);
/// Slack beyond twice the usual answer time before a request counts as overdue. `OVERDUE_FIRST` applies while
/// no answer time is known.
const OVERDUE: Duration = Duration::from_millis(50);
const OVERDUE_FIRST: Duration = Duration::from_millis(500);
/// Who has delivered nothing is taken for fast until a request older than this is taken back from it.
const TAKEN_FOR_FAST: Duration = Duration::from_secs(3);
/// Who has delivered something and then nothing for so long, and four times as long as usual, has broken off.
const BROKEN_OFF: Duration = Duration::from_secs(3);

/// What one peer brings: measured while requests are under way to it.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Bytes a second while requests were under way.
    rate: f64,
    /// The shortest time an answer took.
    delay: Option<Duration>,
    /// What the depth has grown by since the first block, and whether that has come to its end.
    grown: usize,
    opened: bool,
    /// What it brings.
    lately: Rate,
    /// How long its answers take, lately and on average: a peer that serves one of many in turn takes long. Before the
    /// first one, how long it has been waited for in vain.
    usual: Duration,
    /// Nothing was under way when the last request left.
    paused: bool,
    sample_bytes: u64,
    sample_since: Option<Moment>,
    heard: Moment,
}

impl Delivery {
    /// The number of requests that keeps this peer busy.
    pub fn depth(&self) -> usize {
        let opening = if self.opened {
            0
        } else {
            DEPTH_FIRST + self.grown
        };
        let Some(delay) = self.delay.filter(|_| self.rate > 0.0) else {
            return opening.max(DEPTH_FIRST);
        };
        let seconds = (delay * 2 + HEADROOM).as_secs_f64();
        let blocks = (self.rate * seconds / f64::from(BLOCK_LENGTH)).ceil() as usize;
        blocks.max(opening).max(DEPTH_MIN)
    }

    /// When the block that has `before` others before it will be here, in seconds from now, where the peer has
    /// been silent for so long. One that never delivered is otherwise assumed to be fast, until a request older
    /// than `TAKEN_FOR_FAST` is taken back from it.
    pub fn expected(&self, before: usize, silence: Duration) -> f64 {
        let block = f64::from(BLOCK_LENGTH);
        let usual = if self.rate > 0.0 {
            block / self.rate
        } else {
            0.0
        };
        let line = self.delay.unwrap_or(self.usual).as_secs_f64();
        line + (before + 1) as f64 * usual.max(silence.as_secs_f64())
    }

    /// In how many seconds the answer to a request of this age may be expected that has `before` others before
    /// it: however long it has waited, as long as answers usually take. Who serves many in turn is silent most
    /// of the time, and longest just before our turn. Only after more than twice the usual time is a peer
    /// believed to need as long again.
    pub fn remaining(&self, age: Duration, before: usize) -> f64 {
        let over = match self.delay {
            Some(_) => OVERDUE,
            None => OVERDUE_FIRST,
        };
        if age > self.usual * 2 + over {
            return age.as_secs_f64();
        }
        let usual = self.usual.as_secs_f64();
        if self.rate <= 0.0 {
            return usual;
        }
        usual.max(before as f64 * f64::from(BLOCK_LENGTH) / self.rate)
    }

    /// How long the last of `queue` requests is waited for.
    pub fn patience(&self, queue: usize) -> Duration {
        let expected = if self.rate > 0.0 {
            queue as f64 * f64::from(BLOCK_LENGTH) / self.rate
        } else {
            0.0
        };
        let twice = (expected * 2.0).min(PATIENCE_MAX.as_secs_f64());
        PATIENCE
            .max(Duration::from_secs_f64(twice))
            .min(PATIENCE_MAX)
    }

    /// How many blocks it brings before the longest patience ends, at its pace of late.
    pub fn within_patience(&self, now: Moment) -> usize {
        let pace = self.lately.per_second(now) as f64;
        (pace * PATIENCE_MAX.as_secs_f64() / f64::from(BLOCK_LENGTH)) as usize
    }

    /// When a block last came, or the first was asked for after a pause.
    pub fn heard(&self) -> Moment {
        self.heard
    }

    /// How long ago that was.
    pub fn silence(&self, now: Moment) -> Duration {
        now.saturating_sub(self.heard)
    }

    /// Whether it gave something and has been silent for far longer than its answers usually take.
    pub fn is_broken_off(&self, now: Moment) -> bool {
        self.delay.is_some() && self.silence(now) >= BROKEN_OFF.max(self.usual * 4)
    }

    /// How long its answers take on average. Zero if there was none.
    pub fn usual(&self) -> Duration {
        self.delay.map_or(Duration::ZERO, |_| self.usual)
    }

    /// Whether it ever gave us a block.
    pub fn has_delivered(&self) -> bool {
        self.delay.is_some()
    }

    /// Bytes a second, measured while there was something to deliver.
    pub fn rate(&self) -> f64 {
        self.rate
    }

    /// A request goes out while none is under way.
    pub fn begin(&mut self, now: Moment) {
        self.heard = now;
        self.paused = true;
        // Idle time says nothing about how fast the peer is.
        self.sample_since = Some(now);
        self.sample_bytes = 0;
    }

    /// The waiting begins anew.
    pub fn wait_anew(&mut self, now: Moment) {
        self.heard = now;
    }

    /// A request of this age was taken back.
    pub fn gave_up(&mut self, age: Duration) {
        if self.delay.is_none() && age > TAKEN_FOR_FAST {
            self.usual = self.usual.max(age);
        }
    }

    /// A block of this length came, asked for at `at`: measure.
    pub fn came(&mut self, length: u32, at: Moment, now: Moment) {
        self.heard = now;
        self.lately.add(length, now);
        let took = now.saturating_sub(at).max(Duration::from_micros(1));
        // The shortest answer is the line itself, the others waited behind their like. Only after a
        // pause can a longer one mean that the line got longer.
        let least = self.delay.filter(|_| !self.paused);
        let least = least.map_or(took, |least| took.min(least));
        self.usual = match self.delay {
            Some(_) => (self.usual * 7 + took) / 8,
            None => took,
        };
        self.delay = Some(least);
        self.paused = false;
        self.opened |= took > least * 2 + FULL;
        self.grown = (self.grown + GROWTH).min(DEPTH_MAX);
        self.sample_bytes += u64::from(length);
        let since = *self.sample_since.get_or_insert(at);
        let elapsed = now.saturating_sub(since);
        if elapsed >= SAMPLE {
            let sample = self.sample_bytes as f64 / elapsed.as_secs_f64();
            self.rate = if sample > self.rate {
                sample
            } else {
                self.rate * 0.8 + sample * 0.2
            };
            self.sample_since = Some(now);
            self.sample_bytes = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Moment {
        Duration::from_millis(ms)
    }

    /// A block each 100 ms, each asked for when the one before had come.
    fn steady() -> Delivery {
        let mut delivery = Delivery::default();
        for number in 0..200 {
            delivery.came(BLOCK_LENGTH, ms(number * 100), ms(number * 100 + 100));
        }
        delivery
    }

    #[test]
    fn what_comes_later_than_usual_is_expected_to_take_as_long_again() {
        let delivery = steady();
        assert!((0.09..0.11).contains(&delivery.remaining(ms(200), 0)));
        assert!((0.4..0.6).contains(&delivery.remaining(ms(200), 5)));
        assert!(delivery.remaining(ms(400), 0) >= 0.4);
    }

    #[test]
    fn silence_makes_each_block_seem_as_slow() {
        let delivery = steady();
        assert!((0.3..0.5).contains(&delivery.expected(2, ms(0))));
        assert!(delivery.expected(2, ms(1_000)) >= 3.0);
    }

    #[test]
    fn patience_grows_with_a_slow_peers_queue_up_to_a_minute() {
        let delivery = steady();
        assert_eq!(delivery.patience(4), PATIENCE);
        let patience = delivery.patience(200);
        assert!(
            PATIENCE < patience && patience < PATIENCE_MAX,
            "{patience:?}"
        );
        assert_eq!(delivery.patience(2_000), PATIENCE_MAX);
    }

    #[test]
    fn who_gave_nothing_for_long_is_not_taken_for_fast() {
        let mut delivery = Delivery::default();
        delivery.gave_up(TAKEN_FOR_FAST);
        assert_eq!(delivery.expected(0, Duration::ZERO), 0.0);
        delivery.gave_up(TAKEN_FOR_FAST * 2);
        let expected = delivery.expected(0, Duration::ZERO);
        assert_eq!(expected, (TAKEN_FOR_FAST * 2).as_secs_f64());
        assert_eq!(delivery.usual(), Duration::ZERO, "nothing is known of it");
    }

    #[test]
    fn who_gave_something_and_is_silent_for_far_longer_than_usual_has_broken_off() {
        let mut delivery = Delivery::default();
        delivery.begin(ms(0));
        assert!(!delivery.is_broken_off(ms(60_000)), "it may still begin");
        delivery.came(BLOCK_LENGTH, ms(0), ms(100));
        assert!(!delivery.is_broken_off(ms(3_099)));
        assert!(delivery.is_broken_off(ms(3_100)));
        // One of many whom a peer serves in turn.
        let mut delivery = Delivery::default();
        delivery.came(BLOCK_LENGTH, ms(0), ms(2_000));
        assert!(!delivery.is_broken_off(ms(9_999)));
        assert!(delivery.is_broken_off(ms(10_000)));
    }

    #[test]
    fn the_first_answer_counts_and_not_the_silence_before_it() {
        let mut delivery = Delivery::default();
        delivery.gave_up(TAKEN_FOR_FAST * 10);
        delivery.came(BLOCK_LENGTH, ms(40_000), ms(40_100));
        assert_eq!(delivery.usual(), ms(100));
        delivery.came(BLOCK_LENGTH, ms(40_000), ms(40_900));
        assert_eq!(delivery.usual(), ms(200));
    }
}
