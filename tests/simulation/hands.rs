//! One end of one simulated connection: what a peer's thread and the kernel below it hold, without
//! a thread or a kernel.

use ropewalk::protocol::Block;
use ropewalk::protocol::peer::Message;
use ropewalk::swarm::event::{Event, PeerKey};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Unsent bytes the kernel takes from a thread: what `net::dial` sets as TCP_NOTSENT_LOWAT.
pub const UNSENT_MAX: u64 = 16 * 1024;

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

/// What travels as one: messages that were written together, or a block.
#[derive(Debug)]
pub enum Parcel {
    /// Messages in order.
    Words(Vec<Message>),
    /// A block's message with its payload.
    Payload(Block),
}

impl Parcel {
    /// Bytes on the wire, headers of TCP and below not counted.
    pub fn bytes(&self) -> u64 {
        match self {
            Parcel::Words(words) => words.iter().map(length).sum(),
            Parcel::Payload(block) => 13 + u64::from(block.length()),
        }
    }
}

fn length(message: &Message) -> u64 {
    match message {
        Message::Have { .. } | Message::Suggest { .. } | Message::AllowedFast { .. } => 9,
        Message::Request(_) | Message::Cancel(_) | Message::Reject(_) => 17,
        Message::Bitfield(bits) => 5 + bits.len() as u64,
        Message::Extended { payload, .. } => 6 + payload.len() as u64,
        _ => 5,
    }
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
    /// Blocks that were taken back: late is not unasked.
    pub taken_back: BTreeSet<Block>,
    /// Messages the thread has not written yet.
    pub words: Vec<Message>,
    /// Blocks the thread has not written yet.
    pub to_serve: VecDeque<Block>,
    /// How many blocks there ever were for it.
    pub served: u32,
    /// What the kernel has taken and not sent.
    pub unsent: VecDeque<Parcel>,
    /// How much that is.
    pub unsent_bytes: u64,
    /// How much of the first of it has been sent.
    pub begun: u64,
    /// It waits for its turn at the member's uplink.
    pub in_line: bool,
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
            taken_back: BTreeSet::new(),
            words: Vec::new(),
            to_serve: VecDeque::new(),
            served: 0,
            unsent: VecDeque::new(),
            unsent_bytes: 0,
            begun: 0,
            in_line: false,
            last_arrival: std::time::Duration::ZERO,
            batch: Vec::new(),
            closed: false,
        }
    }

    /// The thread writes what the kernel takes: messages before blocks that have not begun. The
    /// blocks that left the thread are added to `served`.
    pub fn write(&mut self, served: &mut Vec<Block>) {
        while self.unsent_bytes < UNSENT_MAX {
            let parcel = if !self.words.is_empty() {
                Parcel::Words(std::mem::take(&mut self.words))
            } else if let Some(block) = self.to_serve.pop_front() {
                served.push(block);
                Parcel::Payload(block)
            } else {
                return;
            };
            self.unsent_bytes += parcel.bytes();
            self.unsent.push_back(parcel);
        }
    }

    /// The kernel sends at most so many bytes of its next parcel: how many, and the parcel where they are its last.
    pub fn send(&mut self, most: u64) -> Option<(u64, Option<Parcel>)> {
        let left = self.unsent.front()?.bytes() - self.begun;
        if left > most {
            self.begun += most;
            return Some((most, None));
        }
        let parcel = self.unsent.pop_front()?;
        self.begun = 0;
        self.unsent_bytes -= parcel.bytes();
        Some((left, Some(parcel)))
    }

    /// Takes all slots out, to be sent home. What was asked for and has not come is forgotten; a copy that has
    /// come stays in memory.
    pub fn take_slots(&mut self) -> Vec<Block> {
        let (held, due) = std::mem::take(&mut self.due)
            .into_iter()
            .partition(|(_, due)| matches!(due, Due::Held { .. }));
        self.due = held;
        let due: BTreeMap<Block, Due> = due;
        self.taken_back.extend(due.keys().copied());
        let slots = due.into_iter().filter(|(_, due)| *due == Due::Slot);
        slots.map(|(block, _)| block).collect()
    }
}
