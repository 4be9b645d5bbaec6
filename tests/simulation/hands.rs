//! One end of one simulated connection: what a peer's thread does with its slots, without a thread.

use ropewalk::protocol::Block;
use ropewalk::swarm::event::{Event, PeerKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A request under way, as the thread sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// With the right to write.
    Slot,
    /// A copy for the endgame that has not come.
    Spare,
    /// A copy for the endgame that waits in memory. What it says is the sender's word.
    Held { good: bool },
}

/// One end of a connection.
#[derive(Debug)]
pub struct Hand {
    /// Whose end.
    pub member: usize,
    /// The key its brain knows the other end by.
    pub key: PeerKey,
    /// The other end.
    pub other: usize,
    /// Both speak the fast extension.
    pub fast: bool,
    /// Requests under way.
    pub due: BTreeMap<Block, Due>,
    /// Everything ever asked for on this connection: late is not unasked.
    pub asked: BTreeSet<Block>,
    /// Blocks to be sent, oldest first.
    pub to_serve: VecDeque<Block>,
    /// When the last thing sent from here will have arrived: nothing overtakes anything.
    pub last_arrival: std::time::Duration,
    /// What its next turn will tell.
    pub batch: Vec<Event>,
    /// The connection is no more.
    pub closed: bool,
}

impl Hand {
    /// The end of `member` of a new connection.
    pub fn new(member: usize, key: PeerKey, other: usize, fast: bool) -> Hand {
        Hand {
            member,
            key,
            other,
            fast,
            due: BTreeMap::new(),
            asked: BTreeSet::new(),
            to_serve: VecDeque::new(),
            last_arrival: std::time::Duration::ZERO,
            batch: Vec::new(),
            closed: false,
        }
    }

    /// Takes all slots out, to be sent home; spares are forgotten.
    pub fn take_slots(&mut self) -> Vec<Block> {
        let due = std::mem::take(&mut self.due);
        let slots = due.into_iter().filter(|(_, due)| *due == Due::Slot);
        slots.map(|(block, _)| block).collect()
    }
}
