//! What this peer was asked for and no longer has to send: after a cancel or a choke its answer may be
//! under way already. Such a block is late, not hostile.

use crate::protocol::peer::WireBlock;
use std::collections::HashMap;

/// Blocks a generation holds.
const GENERATION: usize = 2000;

/// How often each block was asked for and given up: a stalled line delivers the answers to all of them.
type TimesAsked = HashMap<WireBlock, u32>;

/// The last few thousand requests that were given up. Old ones fall out by generations.
#[derive(Debug, Default)]
pub(super) struct GivenUp {
    recent: TimesAsked,
    older: TimesAsked,
}

impl GivenUp {
    /// This request was given up.
    pub(super) fn add(&mut self, block: WireBlock) {
        if self.recent.len() >= GENERATION {
            self.older = std::mem::take(&mut self.recent);
        }
        *self.recent.entry(block).or_default() += 1;
    }

    /// Whether the request was made and given up; the answer to each comes once.
    pub(super) fn take(&mut self, block: WireBlock) -> bool {
        take_one(&mut self.recent, block) || take_one(&mut self.older, block)
    }
}

fn take_one(asked: &mut TimesAsked, block: WireBlock) -> bool {
    let Some(times) = asked.get_mut(&block) else {
        return false;
    };
    *times -= 1;
    if *times == 0 {
        asked.remove(&block);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(piece: u32) -> WireBlock {
        WireBlock {
            piece,
            begin: 0,
            length: 1,
        }
    }

    #[test]
    fn a_request_given_up_is_known_once() {
        let mut given_up = GivenUp::default();
        given_up.add(block(7));
        assert!(given_up.take(block(7)));
        assert!(!given_up.take(block(7)));
        assert!(!given_up.take(block(8)));
    }

    #[test]
    fn a_request_made_and_given_up_twice_has_two_answers() {
        let mut given_up = GivenUp::default();
        given_up.add(block(7));
        given_up.add(block(7));
        assert!(given_up.take(block(7)));
        assert!(given_up.take(block(7)));
        assert!(!given_up.take(block(7)));
    }

    #[test]
    fn memory_is_bounded_and_the_latest_are_kept() {
        let mut given_up = GivenUp::default();
        (0..10_000).for_each(|piece| given_up.add(block(piece)));
        assert!(given_up.recent.len() + given_up.older.len() <= 2 * GENERATION);
        assert!((8_001..10_000).all(|piece| given_up.take(block(piece))));
        assert!(!given_up.take(block(0)));
    }
}
