//! Haves that wait a moment for company: one packet for several pieces, and often none at all,
//! because the peer got the piece meanwhile.

use super::event::Moment;
use crate::protocol::PieceIndex;
use std::time::Duration;

/// New pieces that peers have not been told of yet.
#[derive(Debug)]
pub struct News {
    delay: Duration,
    pieces: Vec<PieceIndex>,
    due: Option<Moment>,
}

impl News {
    /// News that wait for `delay` at most.
    pub fn new(delay: Duration) -> News {
        News {
            delay,
            pieces: Vec::new(),
            due: None,
        }
    }

    /// A piece is ours.
    pub fn add(&mut self, piece: PieceIndex, now: Moment) {
        self.pieces.push(piece);
        self.due.get_or_insert(now + self.delay);
    }

    /// When they have to be told.
    pub fn due(&self) -> Option<Moment> {
        self.due
    }

    /// Takes them out, in the order the pieces came.
    pub fn take(&mut self) -> Vec<PieceIndex> {
        self.due = None;
        std::mem::take(&mut self.pieces)
    }
}
