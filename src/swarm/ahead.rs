//! How far requests run ahead of a download that is limited.
//!
//! Ours: no BEP has this; decision 88.
//!
//! What was asked for is sent, whether we read it or not: it waits in the system's buffers, and the peer has
//! spent its line on bytes that nobody takes yet. So with a limit the whole torrent asks for a few seconds'
//! worth, and the peers take turns at asking. Without one nothing here has any effect.
//!
//! ```text
//! let room = ahead.room(out);            // blocks that may be asked for now, of all peers together
//! if room == 0 { ahead.wait(peer) }      // its turn comes
//! while let Some(peer) = ahead.next(out) { ... }
//! ```

use super::event::PeerKey;
use crate::protocol::geometry::BLOCK_LENGTH;
use std::collections::VecDeque;

/// Seconds of the limit that are asked for in advance.
const SECONDS: u64 = 5;

/// Blocks that may be asked for however small the limit is.
const BLOCKS_MIN: usize = 4;

/// The requests that may be under way, and who waits to make one.
#[derive(Debug, Default)]
pub struct Ahead {
    most: Option<usize>,
    waiting: VecDeque<PeerKey>,
}

impl Ahead {
    /// Whether there is a limit.
    pub fn is_limited(&self) -> bool {
        self.most.is_some()
    }

    /// The torrent may fetch so many bytes a second; `None`: no limit.
    pub fn set_rate(&mut self, rate: Option<u64>) {
        let blocks = |rate: u64| rate.saturating_mul(SECONDS) / u64::from(BLOCK_LENGTH);
        self.most = rate.map(|rate| {
            usize::try_from(blocks(rate))
                .unwrap_or(usize::MAX)
                .max(BLOCKS_MIN)
        });
    }

    /// How many more blocks may be asked for while `out` are under way.
    pub fn room(&self, out: usize) -> usize {
        self.most
            .map_or(usize::MAX, |most| most.saturating_sub(out))
    }

    /// A peer could be asked for more and has to wait for its turn.
    pub fn wait(&mut self, peer: PeerKey) {
        if !self.waiting.contains(&peer) {
            self.waiting.push_back(peer);
        }
    }

    /// Whose turn it is, if there is room. It may have left meanwhile.
    pub fn next(&mut self, out: usize) -> Option<PeerKey> {
        (self.room(out) > 0)
            .then(|| self.waiting.pop_front())
            .flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_limit_asks_for_seconds_and_never_for_nothing() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.room(1_000_000), usize::MAX);
        ahead.set_rate(Some(160 * 1024));
        assert_eq!((ahead.room(0), ahead.room(49), ahead.room(60)), (50, 1, 0));
        ahead.set_rate(Some(1));
        assert_eq!(ahead.room(0), 4);
        ahead.set_rate(Some(u64::MAX));
        assert!(ahead.room(0) > 1 << 31);
    }

    #[test]
    fn peers_wait_in_order_and_once() {
        let mut ahead = Ahead::default();
        ahead.set_rate(Some(1));
        for key in [1, 2, 1] {
            ahead.wait(PeerKey(key));
        }
        assert_eq!(ahead.next(4), None);
        assert_eq!(ahead.next(3), Some(PeerKey(1)));
        assert_eq!(ahead.next(3), Some(PeerKey(2)));
        assert_eq!(ahead.next(3), None);
    }
}
