//! What one peer thread may send and read while the client's rate is limited.
//!
//! A thread has no rate of its own: it is granted bytes (`Command::Grant`), uses them as fast as its socket goes, asks
//! for more when it has used them up and has more to do, and gives back what it has carried for too long. While it
//! waits for a grant it does not look at its socket. A direction without a limit has room for everything, and
//! nothing of this happens: no message, no wake-up.
//!
//! ```text
//! let room = meter.room(Flow::Down);               // bytes that may be read now
//! meter.spend(Flow::Down, got);
//! if meter.room(Flow::Down) == 0 { meter.ask(Flow::Down, 0, &mut batch) }
//! meter.expire(now, &mut batch);                   // at meter.next(), at the latest
//! ```

use super::Happened;
use crate::protocol::peer::Handshake;
use crate::swarm::event::Flow;
use std::time::{Duration, Instant};

/// How long a grant may be carried.
const CARRY: Duration = Duration::from_millis(100);

/// Which directions are limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Metered {
    /// What we send.
    pub up: bool,
    /// What we read.
    pub down: bool,
}

/// Both directions of one connection.
#[derive(Debug)]
pub(super) struct Meter {
    up: Purse,
    down: Purse,
}

#[derive(Debug)]
struct Purse {
    flow: Flow,
    metered: bool,
    /// Bytes granted and not used; below 0: used before anything could be granted.
    left: i64,
    /// When `left` has been carried for long enough.
    until: Option<Instant>,
    asked: bool,
}

impl Meter {
    /// The meter of a connection whose handshakes are through: they count.
    pub(super) fn new(metered: Metered) -> Meter {
        let purse = |flow, metered| Purse {
            flow,
            metered,
            left: if metered {
                -(Handshake::LENGTH as i64)
            } else {
                0
            },
            until: None,
            asked: false,
        };
        Meter {
            up: purse(Flow::Up, metered.up),
            down: purse(Flow::Down, metered.down),
        }
    }

    fn purse(&mut self, flow: Flow) -> &mut Purse {
        match flow {
            Flow::Up => &mut self.up,
            Flow::Down => &mut self.down,
        }
    }

    fn purse_of(&self, flow: Flow) -> &Purse {
        match flow {
            Flow::Up => &self.up,
            Flow::Down => &self.down,
        }
    }

    /// Bytes that may pass now.
    pub(super) fn room(&self, flow: Flow) -> usize {
        let purse = self.purse_of(flow);
        match purse.metered {
            true => usize::try_from(purse.left).unwrap_or(0),
            false => usize::MAX,
        }
    }

    /// Whether grants are needed.
    pub(super) fn is_limited(&self, flow: Flow) -> bool {
        self.purse_of(flow).metered
    }

    /// Whether nothing can be done before a grant comes.
    pub(super) fn is_waiting(&self, flow: Flow) -> bool {
        self.purse_of(flow).asked
    }

    /// So many bytes have passed.
    pub(super) fn spend(&mut self, flow: Flow, bytes: usize) {
        let purse = self.purse(flow);
        if purse.metered {
            purse.left -= bytes as i64;
        }
    }

    /// There is more to do and no room for it: asks for a grant, once. `bytes`: how much waits, as far as is known.
    pub(super) fn ask(&mut self, flow: Flow, bytes: u64, told: &mut Vec<Happened>) {
        let purse = self.purse(flow);
        if !std::mem::replace(&mut purse.asked, true) {
            purse.until = None;
            told.push(Happened::Wants { flow, bytes });
        }
    }

    /// A grant has come.
    pub(super) fn granted(&mut self, flow: Flow, bytes: u64, now: Instant) {
        let purse = self.purse(flow);
        purse.asked = false;
        purse.left = purse.left.saturating_add_unsigned(bytes);
        purse.until = Some(now + CARRY);
    }

    /// When `expire` has something to do.
    pub(super) fn next(&self) -> Option<Instant> {
        [self.up.until, self.down.until].into_iter().flatten().min()
    }

    /// Gives back what was carried for too long.
    pub(super) fn expire(&mut self, now: Instant, told: &mut Vec<Happened>) {
        for purse in [&mut self.up, &mut self.down] {
            if purse.until.is_some_and(|until| until <= now) {
                purse.give_back(told);
            }
        }
    }

    /// Gives everything back: the conversation is over.
    pub(super) fn close(&mut self, told: &mut Vec<Happened>) {
        for purse in [&mut self.up, &mut self.down] {
            if purse.until.is_some() {
                purse.give_back(told);
            }
        }
    }
}

impl Purse {
    /// Says how much of the last grant was not used, be it nothing.
    fn give_back(&mut self, told: &mut Vec<Happened>) {
        let bytes = u64::try_from(self.left).unwrap_or(0);
        self.left = self.left.min(0);
        self.until = None;
        let flow = self.flow;
        told.push(Happened::Unused { flow, bytes });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: Metered = Metered {
        up: true,
        down: true,
    };

    #[test]
    fn without_a_limit_there_is_room_for_everything_and_nothing_to_wait_for() {
        let (mut meter, mut told) = (Meter::new(Metered::default()), Vec::new());
        meter.spend(Flow::Up, 1 << 30);
        assert_eq!(meter.room(Flow::Up), usize::MAX);
        assert_eq!(meter.next(), None);
        meter.expire(Instant::now(), &mut told);
        meter.close(&mut told);
        assert!(told.is_empty());
    }

    #[test]
    fn handshakes_are_paid_from_the_first_grant() {
        let mut meter = Meter::new(BOTH);
        assert_eq!(meter.room(Flow::Down), 0);
        meter.granted(Flow::Down, 50, Instant::now());
        assert_eq!(meter.room(Flow::Down), 0);
        meter.granted(Flow::Down, 50, Instant::now());
        assert_eq!(meter.room(Flow::Down), 32);
        assert_eq!(meter.room(Flow::Up), 0);
    }

    #[test]
    fn a_grant_is_asked_for_once_and_given_back_when_it_was_carried_too_long() {
        let (mut meter, now) = (Meter::new(BOTH), Instant::now());
        let mut told = Vec::new();
        meter.ask(Flow::Up, 100, &mut told);
        meter.ask(Flow::Up, 200, &mut told);
        let wants = Happened::Wants {
            flow: Flow::Up,
            bytes: 100,
        };
        assert_eq!(format!("{told:?}"), format!("{:?}", [wants]));
        assert!(meter.is_waiting(Flow::Up) && !meter.is_waiting(Flow::Down));
        meter.granted(Flow::Up, 168, now);
        meter.spend(Flow::Up, 60);
        assert_eq!(meter.next(), Some(now + CARRY));
        told.clear();
        meter.expire(now + CARRY - Duration::from_millis(1), &mut told);
        assert!(told.is_empty());
        meter.expire(now + CARRY, &mut told);
        let back = Happened::Unused {
            flow: Flow::Up,
            bytes: 40,
        };
        assert_eq!(format!("{told:?}"), format!("{:?}", [back]));
        assert_eq!((meter.room(Flow::Up), meter.next()), (0, None));
    }
}
