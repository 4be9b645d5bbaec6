//! What a peer says that means nothing to us, and how much of it is put up with.
//!
//! Protocols grow: what is not known is passed over, and counts as a sign of life. It costs its sender nothing and
//! us a look at each, so there is an end to it. Advice (suggest, allowed fast) counts too. What has another meaning is
//! for the brain to judge.
//!
//! ```text
//! noise.is_told(&message)    // no: it goes no further than the peer's thread ...
//! noise.add(bytes);          // ... and is counted, as advice is
//! noise.judge(now)?;         // once a turn: Senseless, if it was too much
//! ```

use crate::protocol::peer::Message;
use crate::swarm::event::Farewell;
use std::time::{Duration, Instant};

/// What may come within `WINDOW`, in bytes. An honest peer sends a port, and now and then a message of an extension
/// that we did not ask for: a few kilobytes a minute. Of advice there can be more: some seeds answer each of our
/// haves with two suggestions.
const NOISE_MAX: usize = 1024 * 1024;
const WINDOW: Duration = Duration::from_secs(10);

/// Bytes that each message counts for beside its own: the shortest have five, and to read one takes as long as
/// to copy many.
const PRICE: usize = 128;

/// Messages in a row after which no payload is expected next. Between two blocks an honest peer says a few.
const ROW: u32 = 16;

/// Handshakes of the extension protocol that are told. BEP 10 lets a peer send another whenever something has
/// changed; each may have 64 KiB.
const INTRODUCTIONS: u32 = 16;

/// The noise of one connection.
#[derive(Debug, Default)]
pub(super) struct Noise {
    /// Since the last judgement.
    came: usize,
    /// Since `window` began.
    amount: usize,
    window: Option<Instant>,
    introductions: u32,
    /// Messages since the last payload began.
    row: u32,
}

impl Noise {
    /// A message has come, of whatever kind.
    pub(super) fn message(&mut self) {
        self.row = self.row.saturating_add(1);
    }

    /// A payload begins.
    pub(super) fn payload(&mut self) {
        self.row = 0;
    }

    /// Whether so many messages came in a row that the next bytes are hardly a block's.
    pub(super) fn is_chatter(&self) -> bool {
        self.row >= ROW
    }

    /// Whether the coordinator has a use for `message`.
    pub(super) fn is_told(&mut self, message: &Message) -> bool {
        match message {
            Message::Port { .. } => false,
            Message::Extended { id: 0, .. } => {
                self.introductions = self.introductions.saturating_add(1);
                self.introductions <= INTRODUCTIONS
            }
            // Our handshake names no further kind.
            Message::Extended { .. } => false,
            _ => true,
        }
    }

    /// A message of `bytes` meant nothing, or was advice.
    pub(super) fn add(&mut self, bytes: usize) {
        self.came += bytes + PRICE;
    }

    /// Whether it was too much lately.
    pub(super) fn judge(&mut self, now: Instant) -> Result<(), Farewell> {
        let came = std::mem::take(&mut self.came);
        if came == 0 {
            return Ok(());
        }
        if self.window.is_none_or(|since| now >= since + WINDOW) {
            self.window = Some(now);
            self.amount = 0;
        }
        self.amount += came;
        if self.amount > NOISE_MAX {
            let why = "it keeps saying what means nothing to us".to_owned();
            return Err(Farewell::Senseless(why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether `messages` of `bytes` each, `every` so often, are put up with.
    fn bearable(messages: u32, bytes: usize, every: Duration) -> bool {
        let begin = Instant::now();
        let mut noise = Noise::default();
        (0..messages).all(|number| {
            noise.add(bytes);
            noise.judge(begin + every * number).is_ok()
        })
    }

    #[test]
    fn the_peers_of_a_large_swarm_every_second_for_an_hour_are_no_flood() {
        assert!(bearable(3_600, 2_048, Duration::from_secs(1)));
    }

    #[test]
    fn a_hundred_unknown_messages_a_second_are_borne_and_a_thousand_are_not() {
        assert!(bearable(6_000, 5, Duration::from_millis(10)));
        assert!(!bearable(60_000, 5, Duration::from_millis(1)));
    }

    #[test]
    fn the_longest_unknown_messages_are_borne_for_a_megabyte_and_not_for_ever() {
        assert!(bearable(60, 16 * 1024, Duration::ZERO));
        assert!(!bearable(70, 16 * 1024, Duration::ZERO));
    }

    #[test]
    fn noise_of_long_ago_is_forgotten() {
        let begin = Instant::now();
        let mut noise = Noise::default();
        for minute in 0..10 {
            noise.add(NOISE_MAX - PRICE);
            assert_eq!(noise.judge(begin + minute * 6 * WINDOW), Ok(()));
        }
        noise.add(1);
        assert!(noise.judge(begin + 9 * 6 * WINDOW).is_err());
    }

    #[test]
    fn what_nobody_listens_to_is_not_told_and_what_may_come_often_is() {
        let mut noise = Noise::default();
        let extended = |id| Message::Extended {
            id,
            payload: b"de".as_slice().into(),
        };
        assert!(!noise.is_told(&Message::Port { port: 1 }));
        assert!(!noise.is_told(&extended(1)));
        let told = (0..1_000).filter(|_| noise.is_told(&extended(0))).count();
        assert_eq!(told, INTRODUCTIONS as usize);
        assert!((0..1_000).all(|piece| noise.is_told(&Message::Have { piece })));
    }
}
