//! Haves: at once where they cost next to nothing, in company where pieces are small and peers many.
//!
//! Ours: BEP 3 has the message and no BEP has this; decision 184.
//!
//! A have that waits holds everybody up: until it is told, nobody can ask for the piece, and in a
//! young swarm there is nothing else to ask for. But each is a packet of some fifty bytes to each
//! peer. So news wait until a fiftieth of what was fetched since the last ones pays for them, and
//! never longer than the delay: with pieces of 256 KiB and fifty peers not at all, with pieces of
//! 16 KiB for eight pieces. A piece that hardly anybody has does not wait.
//!
//! ```text
//! news.add(piece, bytes, told, rare, now) ; news.due() ; news.take()
//! ```

use super::event::Moment;
use crate::protocol::PieceIndex;
use std::time::Duration;

/// Bytes on the line of a have that travels alone: the message, and the headers of TCP and IP.
const PACKET: u64 = 50;
/// News may cost one part in so many of what was fetched.
const THRIFT: u64 = 50;

/// How long a have waits for company at most.
const DELAY: Duration = Duration::from_millis(250);

/// New pieces that peers have not been told of yet.
#[derive(Debug, Default)]
pub struct News {
    pieces: Vec<PieceIndex>,
    bytes: u64,
    due: Option<Moment>,
}

impl News {
    /// A piece of so many bytes is ours, and so many peers would be told. `rare`: hardly anybody has it.
    pub fn add(&mut self, piece: PieceIndex, bytes: u32, peers: usize, rare: bool, now: Moment) {
        self.pieces.push(piece);
        self.bytes += u64::from(bytes);
        let paid = self.bytes >= PACKET * THRIFT * peers as u64;
        let at = if rare || paid { now } else { now + DELAY };
        self.due = Some(self.due.map_or(at, |due| due.min(at)));
    }

    /// The piece is lost: nobody is told of it.
    pub fn forget(&mut self, piece: PieceIndex) {
        self.pieces.retain(|other| *other != piece);
    }

    /// When they have to be told.
    pub fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Takes them out, in the order the pieces came.
    pub fn take(&mut self) -> Vec<PieceIndex> {
        self.due = None;
        self.bytes = 0;
        std::mem::take(&mut self.pieces)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;

    #[test]
    fn large_pieces_are_told_at_once_and_small_ones_wait_until_they_are_worth_it() {
        let geometry = Geometry::new(100 << 20, 1 << 20).unwrap();
        let now = Duration::from_secs(1);
        let mut news = News::default();
        let mut pieces = geometry.all_pieces();
        let mut add = |news: &mut News, bytes, rare| {
            news.add(pieces.next().unwrap(), bytes, 50, rare, now);
            news.due().unwrap()
        };
        assert_eq!(add(&mut news, 256 << 10, false), now);
        assert_eq!(news.take().len(), 1);
        for _ in 0..7 {
            assert_eq!(add(&mut news, 16 << 10, false), now + DELAY);
        }
        assert_eq!(add(&mut news, 16 << 10, false), now);
        assert_eq!(news.take().len(), 8);
        assert_eq!(add(&mut news, 16 << 10, true), now);
        news.forget(geometry.piece(9).unwrap());
        assert!(news.take().is_empty());
    }
}
