//! Blocks that come so slowly that nothing else tells of them.
//!
//! A block is told of when all of it has come. On a line of a kilobyte a second that takes sixteen seconds,
//! in which the coordinator could not tell it from silence.

use std::time::{Duration, Instant};

/// A line that brings blocks faster than this never has to tell of a part.
const EVERY: Duration = Duration::from_secs(1);

/// When a connection last told of payload.
#[derive(Debug)]
pub(super) struct Trickle {
    told: Instant,
}

impl Trickle {
    pub(super) fn new(now: Instant) -> Trickle {
        Trickle { told: now }
    }

    /// Bytes have come. `whole`: the last of a block or a message among them; `part`: the last of them are
    /// payload of a block that has begun. True if that has to be told now.
    pub(super) fn came(&mut self, whole: bool, part: bool, now: Instant) -> bool {
        let long = now.saturating_duration_since(self.told) >= EVERY;
        let tell = part && !whole && long;
        if tell || whole {
            self.told = now;
        }
        tell
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_block_is_told_once_a_second_and_a_whole_one_says_so_itself() {
        let begin = Instant::now();
        let at = |tenths: u32| begin + tenths * EVERY / 10;
        let mut trickle = Trickle::new(begin);
        let mut told = |tenths, whole, part| trickle.came(whole, part, at(tenths));
        assert!(!told(9, false, true));
        assert!(told(10, false, true) && !told(11, false, true) && told(20, false, true));
        // The rest of it, and the beginning of the next.
        assert!(!told(35, true, true) && !told(44, false, true) && told(45, false, true));
        // What is no payload is told by itself, or is worth nothing.
        assert!(!told(70, false, false) && told(71, false, true));
    }
}
