//! How payload lands: the slots one peer thread holds, and the way from its socket into their places.
//!
//! ```text
//! landing.hold(slot);                                  // with the request
//! landing.begin(wire_block);                           // the head of the answer has come
//! let arrival = landing.receive(socket, &mut other, most, now)?;   // as often as the socket has bytes
//! for landed in arrival.landed {}                     // slots go home
//! ```
//!
//! The way of a slot through here. With `refuse`, `take_waiting` and `drain` it comes home as with `revoke`.
//!
//! ```text
//! hold ──► waiting ── begin, or expected in a volley ──► arriving ─┬─ all of it is there ──► Landed::Slot: laid
//!             │                                             ▲      ├─ revoke ──► Revoked::Arriving: free
//!             └─ revoke ──► Revoked::Waiting: free          │      └─ it cannot be stored ──► Trouble: free
//!                                                           │
//! begin_spare ──► arriving in memory ── settle: its slot ───┘
//!                         ├─ all of it is there ──► Landed::Spare: waits for its slot elsewhere (`put`)
//!                         └─ discard: the rest goes nowhere
//! ```
//!
//! What is left of a payload whose slot was taken away while it arrived goes nowhere: it is read and dropped.
//!
//! Two stores, one interface. *Mapped*: the kernel receives into a window over the run of adjacent slots held
//! here. *Positional*: through a buffer and `pwrite`, for blocks over several files, for files in memory (tmpfs)
//! and file systems whose maps are not one with the page cache, and when the budget is spent.
//!
//! A slot is prepared (overwritten with zeros) only while it waits in `slots`, before a byte of its block has
//! come: the block under way is taken out of there first, so zeros never follow payload.

use super::arriving::{Arriving, Destination, Unsettled};
use super::budget::{BUFFER_LENGTH, Buffer, LandingBudget};
use super::positional::{why_unbacked, write_at};
use super::reading::Reading;
use super::slot::{BlockSlot, StorageError};
use super::windows::{Windows, in_one_file};
use crate::protocol::Block;
use crate::protocol::peer::WireBlock;
use crate::protocol::peer::message::PIECE_HEAD;
use rustix::io::Errno;
use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

/// How a block that comes fits what is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Match {
    /// Its slot is here.
    Held,
    /// A slot with this begin is here, for a block of another length.
    OtherLength(u32),
    /// No slot for it is here.
    Unknown,
}

/// What one read brought.
#[derive(Debug, Default)]
pub struct Arrival {
    /// Bytes that came, payload or not.
    pub bytes: usize,
    /// There was room for more than came: the socket is empty for the moment.
    pub emptied: bool,
    /// What became of payloads that are all there now, in their order.
    pub landed: Vec<Landed>,
    /// The blocks whose heads came with this, in their order: expected ones only, which need no
    /// [`Landing::begin`].
    pub begun: Vec<WireBlock>,
    /// The payload could not be stored. What is left of it will be thrown away.
    pub trouble: Option<Trouble>,
    /// What came behind all that and was not expected, if it is more than the head of a message.
    pub aside: Option<Buffer>,
}

/// What became of a payload.
#[derive(Debug)]
pub enum Landed {
    /// It lies in its place.
    Slot(BlockSlot),
    /// It was kept in memory.
    Spare(Block, Vec<u8>),
    /// It was thrown away.
    Nowhere {
        /// How much it was, in bytes.
        bytes: u32,
        /// Whether it had been asked for.
        asked: bool,
    },
}

/// A slot that could not be written, and why.
#[derive(Debug)]
pub struct Trouble {
    /// What storage says.
    pub error: StorageError,
    /// The slot, on its way home.
    pub slot: BlockSlot,
}

/// A slot taken back.
#[derive(Debug)]
pub enum Revoked {
    /// Its answer had not begun.
    Waiting(BlockSlot),
    /// Its answer was under way; the rest will be thrown away.
    Arriving(BlockSlot),
}

/// The slots of one peer thread, its windows, and the payload under way.
#[derive(Debug)]
pub struct Landing {
    slots: VecDeque<BlockSlot>,
    /// The slot whose block is expected next: the one asked for after the one that came last. Those before it
    /// were passed over.
    next: usize,
    windows: Windows,
    current: Option<Arriving>,
    budget: LandingBudget,
}

impl Landing {
    /// A landing that holds nothing.
    pub fn new(budget: LandingBudget) -> Landing {
        Landing {
            slots: VecDeque::new(),
            next: 0,
            windows: Windows::new(budget.clone()),
            current: None,
            budget,
        }
    }

    /// Keeps a slot until its block comes, or it is revoked or drained.
    pub fn hold(&mut self, slot: BlockSlot) {
        self.slots.push_back(slot);
    }

    /// Whether any slot is held, or a payload under way: the next bytes may be a block's.
    pub fn is_due(&self) -> bool {
        !self.slots.is_empty() || self.current.is_some()
    }

    /// The bytes of the blocks that are held and have not begun to come, about: nearly all are as long as the first.
    pub fn due(&self) -> usize {
        let first = self.slots.front().map_or(0, |slot| slot.block().length());
        first as usize * self.slots.len()
    }

    /// How a block fits the slots held.
    pub fn find(&self, wire: WireBlock) -> Match {
        let same = |slot: &&BlockSlot| {
            slot.block().piece().get() == wire.piece && slot.block().begin() == wire.begin
        };
        match self.slots.iter().find(same) {
            Some(slot) if slot.block().length() == wire.length => Match::Held,
            Some(slot) => Match::OtherLength(slot.block().length()),
            None => Match::Unknown,
        }
    }

    /// The payload of this block is next on the wire: into its slot. False if none is held for it.
    pub fn begin(&mut self, wire: WireBlock) -> bool {
        let fits = |slot: &BlockSlot| is(slot.block(), wire);
        let Some(at) = self.slots.iter().position(fits) else {
            return false;
        };
        if let Some(slot) = self.slots.remove(at) {
            self.next = at;
            self.start(wire.length, Destination::Slot(slot));
        }
        true
    }

    /// The payload of this block is next on the wire: into memory.
    pub fn begin_spare(&mut self, block: Block) {
        let bytes = Vec::with_capacity(block.length() as usize);
        self.start(block.length(), Destination::Spare(block, bytes));
    }

    /// So many bytes that are of no use are next on the wire.
    pub fn begin_nowhere(&mut self, length: u32, asked: bool) {
        self.start(length, Destination::Nowhere { asked });
    }

    /// What is still to come of the payload under way, in bytes; `None` if there is none.
    pub fn under_way(&self) -> Option<u32> {
        let current = self.current.as_ref()?;
        Some(current.total - current.received)
    }

    /// Whether the payload under way is of use.
    pub fn is_arriving(&self) -> bool {
        let current = self.current.as_ref();
        current.is_some_and(|it| !matches!(it.destination, Destination::Nowhere { .. }))
    }

    /// Takes what the socket has of the payload under way, and of the blocks expected after it as far as they
    /// come in the order in which their slots were given: one system call for all of them. What follows and
    /// is none of those is appended to `other`, or comes aside. Takes at most `most` bytes, or the payload under way
    /// and a head where that is more.
    ///
    /// Errors are the socket's: `WouldBlock` if there is nothing, `UnexpectedEof` if it was closed. One that holds a
    /// [`StorageError`] is our file's: what came in place of a block cannot be read back, so nobody knows where the
    /// next message begins.
    pub fn receive(
        &mut self,
        socket: BorrowedFd<'_>,
        other: &mut Vec<u8>,
        most: usize,
        now: Instant,
    ) -> io::Result<Arrival> {
        let taken = self.take_in(socket, other, most, now)?;
        Ok(self.settle_accounts(taken))
    }

    /// Takes bytes of the payload under way that lie in memory already. Never more than are under way.
    pub fn absorb(&mut self, bytes: &[u8]) -> Arrival {
        let Some(current) = &mut self.current else {
            return Arrival::default();
        };
        current.mapped = false;
        let taken = Unsettled {
            payload: bytes.len(),
            bytes: bytes.len(),
            failure: current.store(bytes).err(),
            ..Unsettled::default()
        };
        self.settle_accounts(taken)
    }

    /// Takes the slot of `block` back. If its payload is under way, the rest of that is thrown away.
    pub fn revoke(&mut self, block: Block) -> Option<Revoked> {
        if let Some(at) = self.slots.iter().position(|slot| slot.block() == block) {
            return self.take_at(at).map(Revoked::Waiting);
        }
        let current = self.current.as_mut()?;
        let nowhere = Destination::Nowhere { asked: true };
        match std::mem::replace(&mut current.destination, nowhere) {
            Destination::Slot(slot) if slot.block() == block => {
                self.windows.leave(&slot);
                Some(Revoked::Arriving(slot))
            }
            other => {
                current.destination = other;
                None
            }
        }
    }

    /// Takes the slot of a block back that the peer will not send. A payload under way is none of those.
    pub fn refuse(&mut self, wire: WireBlock) -> Option<BlockSlot> {
        let at = self.slots.iter().position(|slot| is(slot.block(), wire))?;
        self.take_at(at)
    }

    /// Stops keeping a spare if its payload is under way: the rest is thrown away.
    pub fn discard(&mut self, block: Block) {
        if let Some(Arriving { destination, .. }) = &mut self.current
            && destination.is_spare(block)
        {
            *destination = Destination::Nowhere { asked: true };
        }
    }

    /// A slot for the spare whose payload is under way. Gives the slot back if it is not; what has come
    /// is stored at once, the rest as it comes.
    pub fn settle(&mut self, slot: BlockSlot) -> Result<Option<Trouble>, BlockSlot> {
        let block = slot.block();
        match &mut self.current {
            Some(current) if current.destination.is_spare(block) => {
                current.mapped = false;
                let nowhere = Destination::Nowhere { asked: true };
                let Destination::Spare(_, bytes) =
                    std::mem::replace(&mut current.destination, nowhere)
                else {
                    return Err(slot);
                };
                match write_at(&slot, 0, &bytes) {
                    Ok(()) => {
                        current.destination = Destination::Slot(slot);
                        Ok(None)
                    }
                    Err(error) => Ok(Some(Trouble { error, slot })),
                }
            }
            _ => Err(slot),
        }
    }

    /// All slots whose payload is not under way: a choke took their requests.
    pub fn take_waiting(&mut self) -> Vec<BlockSlot> {
        self.windows.clear();
        if let Some(current) = &mut self.current {
            current.mapped = false;
        }
        self.next = 0;
        self.slots.drain(..).collect()
    }

    /// All slots, whatever their state: the connection is over.
    pub fn drain(&mut self) -> Vec<BlockSlot> {
        let mut slots = self.take_waiting();
        if let Some(Arriving {
            destination: Destination::Slot(slot),
            ..
        }) = self.current.take()
        {
            slots.push(slot);
        }
        slots
    }

    /// When [`Landing::rest`] has something to do.
    pub fn rest_at(&self) -> Option<Instant> {
        self.windows.rest_at()
    }

    /// Unmaps windows that lay unused for a second.
    pub fn rest(&mut self, now: Instant) {
        self.windows.rest(now);
    }

    /// Gives memory back that an idle connection does not need.
    pub fn shrink(&mut self) {
        if !self.is_due() {
            self.slots.shrink_to_fit();
        }
    }

    fn take_at(&mut self, at: usize) -> Option<BlockSlot> {
        let slot = self.slots.remove(at)?;
        if at < self.next {
            self.next -= 1;
        }
        self.windows.leave(&slot);
        Some(slot)
    }

    fn start(&mut self, total: u32, destination: Destination) {
        debug_assert!(self.current.is_none(), "a payload is under way");
        let mapped = matches!(destination, Destination::Slot(_));
        self.current = Some(Arriving {
            total,
            received: 0,
            destination,
            mapped,
        });
    }

    /// Puts the payload under way back, or finishes it and those that followed, according to what a read
    /// brought.
    fn settle_accounts(&mut self, taken: Unsettled) -> Arrival {
        let Some(mut current) = self.current.take() else {
            return Arrival::default();
        };
        current.received += taken.payload as u32;
        let mut arrival = Arrival {
            bytes: taken.bytes,
            emptied: taken.emptied,
            aside: taken.aside,
            ..Arrival::default()
        };
        if let Some(error) = taken.failure {
            let nowhere = Destination::Nowhere { asked: true };
            let destination = std::mem::replace(&mut current.destination, nowhere);
            if let Destination::Slot(slot) = destination {
                self.windows.leave(&slot);
                arrival.trouble = Some(Trouble { error, slot });
            }
        }
        if current.received < current.total {
            self.current = Some(current);
            return arrival;
        }
        arrival.landed.push(match current.destination {
            Destination::Slot(slot) => self.land(slot),
            Destination::Spare(block, bytes) => Landed::Spare(block, bytes),
            Destination::Nowhere { asked } => Landed::Nowhere {
                bytes: current.total,
                asked,
            },
        });
        for _ in 0..taken.behind.whole {
            if let Some(slot) = self.slots.remove(self.next) {
                arrival.begun.push(WireBlock::from(slot.block()));
                arrival.landed.push(self.land(slot));
            }
        }
        if let Some(received) = taken.behind.begun
            && let Some(slot) = self.slots.remove(self.next)
        {
            arrival.begun.push(WireBlock::from(slot.block()));
            self.start(slot.block().length(), Destination::Slot(slot));
            if let Some(current) = &mut self.current {
                current.received = received;
            }
        }
        arrival
    }

    fn land(&mut self, slot: BlockSlot) -> Landed {
        self.windows.leave(&slot);
        Landed::Slot(slot.let_go())
    }

    /// The payload under way stays in its place meanwhile: should something panic on the way to the file, `drain` finds
    /// its slot.
    fn take_in(
        &mut self,
        socket: BorrowedFd<'_>,
        other: &mut Vec<u8>,
        most: usize,
        now: Instant,
    ) -> io::Result<Unsettled> {
        let Some(current) = &mut self.current else {
            return Ok(Unsettled::default());
        };
        let rest = (current.total - current.received) as usize;
        let aside = self.budget.aside();
        let ahead = aside
            .as_ref()
            .map(|_| most.saturating_sub(rest + PIECE_HEAD));
        let mut reading = Reading {
            socket,
            expected: self.slots.range(self.next.min(self.slots.len())..),
            ahead: ahead.unwrap_or(0),
            other,
            aside,
        };
        if let Destination::Slot(slot) = &current.destination
            && current.mapped
            && let Some((file, offset, length)) = in_one_file(slot)
        {
            let fresh = current.received == 0;
            match self.windows.cover(slot, &self.slots, fresh, now) {
                Ok(Some(window)) => {
                    let at = offset + u64::from(current.received);
                    return match reading.into_window(window, file, (at, rest)) {
                        Err(error) if Errno::from_io_error(&error) == Some(Errno::FAULT) => Ok(
                            Unsettled::failed(why_unbacked(file, offset, length as usize)),
                        ),
                        received => received,
                    };
                }
                Ok(None) => {}
                Err(error) => return Ok(Unsettled::failed(error)),
            }
        }
        current.mapped = false;
        if self.windows.are_usual() {
            // This block alone: where the next one begins, it can have a window again.
            reading.ahead = 0;
        }
        match (&current.destination, self.budget.buffer()) {
            (Destination::Slot(slot), Some(mut buffer)) => {
                buffer.stretch(BUFFER_LENGTH.min(rest + reading.ahead));
                reading.through_buffer(&mut buffer, slot, current.received)
            }
            _ => reading.alone(current),
        }
    }
}

fn is(block: Block, wire: WireBlock) -> bool {
    block.piece().get() == wire.piece
        && block.begin() == wire.begin
        && block.length() == wire.length
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::places::Place;
    use super::super::scratch_file::{CANARY, ScratchFile, payload};
    use super::super::slot::StorageTrouble;
    use super::super::windows::WINDOW_IDLE;
    use super::*;
    use crate::protocol::Geometry;
    use crate::protocol::peer::{Decoded, Decoder, Message, WireRules};
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Pieces of 80,000 bytes: 4 whole blocks and a short one. Nothing is aligned to a page.
    fn scratch() -> ScratchFile {
        ScratchFile::new(Geometry::new(200_000, 80_000).unwrap(), 777)
    }

    fn wire(block: Block) -> WireBlock {
        WireBlock {
            piece: block.piece().get(),
            begin: block.begin(),
            length: block.length(),
        }
    }

    fn pair() -> (UnixStream, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        (ours, theirs)
    }

    /// One call, and the bytes it brought that are no block's.
    fn receive(landing: &mut Landing, ours: &UnixStream) -> io::Result<(Arrival, Vec<u8>)> {
        let mut other = Vec::new();
        let arrival = landing.receive(ours.as_fd(), &mut other, 1 << 20, Instant::now())?;
        other.extend(arrival.aside.iter().flat_map(|aside| aside.iter()));
        Ok((arrival, other))
    }

    /// Sends a block in two parts and receives it; gives the slot home.
    fn lay(
        landing: &mut Landing,
        (ours, theirs): &mut (UnixStream, UnixStream),
        block: Block,
        cut: usize,
    ) -> BlockSlot {
        assert!(landing.begin(wire(block)));
        let bytes = payload(block);
        for part in [&bytes[..cut], &bytes[cut..]] {
            theirs.write_all(part).unwrap();
            let mut left = part.len();
            while left > 0 {
                let (arrival, other) = receive(landing, ours).unwrap();
                assert!(arrival.trouble.is_none(), "{:?}", arrival.trouble);
                assert!(other.is_empty());
                left -= arrival.bytes;
                if let Some(Landed::Slot(slot)) = arrival.landed.into_iter().next() {
                    assert_eq!(left, 0);
                    return slot;
                }
            }
        }
        panic!("the block did not land");
    }

    /// Nothing is mapped, and there is memory for long buffers.
    fn unmapped() -> LandingBudget {
        let budget = LandingBudget::default();
        budget.refuse_maps();
        budget
    }

    /// Each test of a way into the file runs for windows, for long buffers and for short ones.
    fn all_stores(test: impl Fn(LandingBudget)) {
        test(LandingBudget::default());
        test(unmapped());
        test(LandingBudget::new(0, 0));
    }

    #[test]
    fn a_block_cut_anywhere_lands_between_its_canaries() {
        all_stores(|budget| {
            for cut in [1, 2, 3, 12, 13, 14, 4095, 4096, 4097, 8191, 16_383] {
                let mut scratch = scratch();
                let mut landing = Landing::new(budget.clone());
                let block = scratch.block(1, 2);
                landing.hold(scratch.slot(block));
                let slot = lay(&mut landing, &mut pair(), block, cut);
                assert_eq!(slot.block(), block);
                assert!(
                    scratch.bytes() == scratch.expected(&[block]),
                    "cut at {cut}"
                );
                assert!(!landing.is_due());
            }
        });
    }

    #[test]
    fn blocks_laid_in_any_order_never_touch_each_other() {
        all_stores(|budget| {
            let mut dice = fastrand::Rng::with_seed(5);
            for _ in 0..20 {
                let mut scratch = scratch();
                let mut landing = Landing::new(budget.clone());
                let mut pair = pair();
                let pieces = scratch.geometry.all_pieces();
                let mut blocks: Vec<Block> = pieces
                    .flat_map(|piece| scratch.geometry.blocks(piece))
                    .collect();
                dice.shuffle(&mut blocks);
                // Half are held at once, the others join one by one while windows are open.
                let (first, later) = blocks.split_at(blocks.len() / 2);
                for block in first {
                    landing.hold(scratch.slot(*block));
                }
                let mut order = blocks.clone();
                dice.shuffle(&mut order[..first.len()]);
                let (mut laid, mut later) = (Vec::new(), later.iter());
                for block in first.iter().chain(later.clone()) {
                    if let Some(next) = later.next() {
                        landing.hold(scratch.slot(*next));
                    }
                    lay(&mut landing, &mut pair, *block, 1);
                    laid.push(*block);
                    let bytes = scratch.bytes();
                    let expected = scratch.expected(&laid);
                    for done in &laid {
                        let at = 777 + scratch.geometry.block_start(*done) as usize;
                        let range = at..at + done.length() as usize;
                        assert!(
                            bytes[range.clone()] == expected[range],
                            "{done:?} was damaged"
                        );
                    }
                }
                assert!(scratch.bytes() == scratch.expected(&blocks));
                assert!(landing.windows.open.is_empty());
            }
        });
    }

    #[test]
    fn the_run_of_adjacent_slots_is_one_window_and_its_neighbours_keep_their_bytes() {
        let mut scratch = scratch();
        let mut landing = Landing::new(LandingBudget::default());
        for number in [1, 2, 3] {
            let slot = scratch.slot(scratch.block(0, number));
            landing.hold(slot);
        }
        let mut pair = pair();
        lay(&mut landing, &mut pair, scratch.block(0, 2), 100);
        assert_eq!(landing.windows.open.len(), 1);
        let mut waiting = landing.windows.open[0].waiting.clone();
        waiting.sort_unstable();
        assert_eq!(waiting, [777 + 16_384, 777 + 3 * 16_384]);
        let bytes = scratch.bytes();
        assert!(bytes[..777 + 16_384].iter().all(|byte| *byte == CANARY));
        assert!(bytes[777 + 4 * 16_384..].iter().all(|byte| *byte == CANARY));
    }

    #[test]
    fn what_follows_a_payload_is_handed_on_and_no_more_than_a_head() {
        all_stores(|budget| {
            let mut scratch = scratch();
            let mut landing = Landing::new(budget);
            let block = scratch.block(0, 0);
            landing.hold(scratch.slot(block));
            let (ours, mut theirs) = pair();
            theirs.write_all(&payload(block)).unwrap();
            theirs.write_all(b"the head of what follows").unwrap();
            landing.begin(wire(block));
            let (arrival, other) = receive(&mut landing, &ours).unwrap();
            assert_eq!(arrival.bytes, 16_384 + 13);
            assert_eq!(other, b"the head of w");
            assert!(matches!(arrival.landed[..], [Landed::Slot(_)]));
        });
    }

    #[test]
    fn a_block_revoked_in_mid_payload_is_read_on_into_nothing() {
        all_stores(|budget| {
            let mut scratch = scratch();
            let mut landing = Landing::new(budget);
            let block = scratch.block(0, 0);
            landing.hold(scratch.slot(block));
            let (ours, mut theirs) = pair();
            landing.begin(wire(block));
            theirs.write_all(&payload(block)[..5000]).unwrap();
            receive(&mut landing, &ours).unwrap();
            let revoked = landing.revoke(block);
            assert!(matches!(revoked, Some(Revoked::Arriving(_))));
            let before = scratch.bytes();
            theirs.write_all(&payload(block)[5000..]).unwrap();
            let arrival = receive(&mut landing, &ours);
            let landed = arrival.unwrap().0.landed;
            let whole = matches!(
                landed[..],
                [Landed::Nowhere {
                    bytes: 16_384,
                    asked: true
                }]
            );
            assert!(whole, "{landed:?}");
            assert!(scratch.bytes() == before);
            assert!(landing.drain().is_empty());
        });
    }

    #[test]
    fn a_window_unmapped_in_mid_payload_costs_no_byte() {
        let mut scratch = scratch();
        let mut landing = Landing::new(LandingBudget::default());
        let block = scratch.block(0, 0);
        landing.hold(scratch.slot(block));
        let (ours, mut theirs) = pair();
        landing.begin(wire(block));
        theirs.write_all(&payload(block)[..5000]).unwrap();
        let before = Instant::now();
        receive(&mut landing, &ours).unwrap();
        let rest_at = landing.rest_at().unwrap();
        assert!(rest_at >= before + WINDOW_IDLE);
        landing.rest(rest_at);
        assert_eq!(landing.rest_at(), None);
        theirs.write_all(&payload(block)[5000..]).unwrap();
        let (arrival, _) = receive(&mut landing, &ours).unwrap();
        assert!(matches!(arrival.landed[..], [Landed::Slot(_)]));
        assert!(scratch.bytes() == scratch.expected(&[block]));
    }

    #[test]
    fn bytes_for_padding_are_dropped() {
        let mut scratch = scratch();
        let mut landing = Landing::new(LandingBudget::default());
        let block = scratch.block(0, 0);
        let places = scratch.places_with_padding(block, 1000);
        landing.hold(scratch.book.take(block, places).unwrap());
        lay(&mut landing, &mut pair(), block, 500);
        let mut expected = scratch.expected(&[block]);
        expected[777 + 5..777 + 1005].fill(CANARY);
        assert!(scratch.bytes() == expected);
    }

    #[test]
    fn a_file_cut_short_before_or_under_a_window_is_an_error_and_the_slot_comes_home() {
        all_stores(|budget| {
            for begun in [false, true] {
                let mut scratch = scratch();
                let mut landing = Landing::new(budget.clone());
                let block = scratch.block(1, 0);
                landing.hold(scratch.slot(block));
                landing.begin(wire(block));
                let (ours, mut theirs) = pair();
                if begun {
                    theirs.write_all(&payload(block)[..1]).unwrap();
                    receive(&mut landing, &ours).unwrap();
                }
                scratch.truncate(100);
                theirs
                    .write_all(&payload(block)[usize::from(begun)..])
                    .unwrap();
                let arrival = receive(&mut landing, &ours);
                let trouble = arrival.unwrap().0.trouble.unwrap();
                assert_eq!(trouble.error.kind, StorageTrouble::Vanished);
                assert_eq!(trouble.slot.block(), block);
                assert_eq!(scratch.bytes().len(), 100, "the file grew again");
                assert!(landing.drain().is_empty());
            }
        });
    }

    #[test]
    fn a_deleted_file_is_an_error() {
        all_stores(|budget| {
            let mut scratch = scratch();
            let mut landing = Landing::new(budget);
            let block = scratch.block(1, 0);
            let slot = scratch.slot(block);
            assert!(write_at(&slot, 0, &payload(block)).is_ok());
            std::fs::remove_file(&scratch.path).unwrap();
            landing.hold(slot);
            landing.begin(wire(block));
            let (ours, mut theirs) = pair();
            theirs.write_all(&payload(block)).unwrap();
            let arrival = receive(&mut landing, &ours);
            let trouble = arrival.unwrap().0.trouble.unwrap();
            assert_eq!(trouble.error.kind, StorageTrouble::Vanished);
        });
    }

    #[test]
    fn a_closed_socket_is_the_end_and_the_slot_comes_home_by_drain() {
        let mut scratch = scratch();
        let mut landing = Landing::new(LandingBudget::default());
        let block = scratch.block(0, 0);
        landing.hold(scratch.slot(block));
        landing.begin(wire(block));
        let (ours, mut theirs) = pair();
        theirs.write_all(&[1, 2, 3]).unwrap();
        receive(&mut landing, &ours).unwrap();
        let nothing = receive(&mut landing, &ours);
        assert_eq!(nothing.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(theirs);
        let end = receive(&mut landing, &ours);
        assert_eq!(end.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(landing.drain().len(), 1);
    }

    #[test]
    fn the_budget_is_given_back() {
        let budget = LandingBudget::new(64 * 1024, 0);
        for _ in 0..10 {
            let mut scratch = scratch();
            let mut landing = Landing::new(budget.clone());
            let block = scratch.block(0, 0);
            landing.hold(scratch.slot(block));
            lay(&mut landing, &mut pair(), block, 7);
            let other = scratch.block(0, 1);
            landing.hold(scratch.slot(other));
            landing.begin(wire(other));
            let (ours, mut theirs) = pair();
            theirs.write_all(&[1]).unwrap();
            receive(&mut landing, &ours).unwrap();
            assert_eq!(landing.windows.open.len(), 1);
        }
    }

    /// A file system with room for next to nothing. Needs root.
    struct Tiny(tempfile::TempDir);

    impl Tiny {
        fn mount(bytes: usize) -> Tiny {
            let folder = tempfile::tempdir().unwrap();
            let mount = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
                .arg(folder.path())
                .status()
                .unwrap();
            assert!(mount.success());
            Tiny(folder)
        }
    }

    impl Drop for Tiny {
        fn drop(&mut self) {
            let umount = std::process::Command::new("umount")
                .arg(self.0.path())
                .status();
            assert!(umount.is_ok_and(|status| status.success()));
        }
    }

    #[test]
    #[ignore = "needs root: mounts a small tmpfs"]
    fn a_full_disk_is_an_ordinary_error() {
        all_stores(|budget| {
            let tiny = Tiny::mount(512 * 1024);
            let geometry = Geometry::new(200_000, 80_000).unwrap();
            let mut scratch = ScratchFile::below(tiny.0.path(), geometry, 0);
            // A hole where the file was, and nothing left to fill it with.
            scratch.truncate(0);
            scratch.truncate(200_000);
            let filler = std::fs::write(tiny.0.path().join("filler"), vec![1; 1 << 20]);
            assert!(filler.is_err());
            let mut landing = Landing::new(budget);
            let block = scratch.block(1, 0);
            landing.hold(scratch.slot(block));
            landing.begin(wire(block));
            let (ours, mut theirs) = pair();
            theirs.write_all(&payload(block)).unwrap();
            let arrival = receive(&mut landing, &ours);
            let trouble = arrival.unwrap().0.trouble.unwrap();
            assert_eq!(trouble.error.kind, StorageTrouble::Full);
            drop(landing);
            drop(scratch);
        });
    }

    #[test]
    fn a_spare_stays_in_memory_until_it_has_a_slot() {
        let mut scratch = scratch();
        let mut landing = Landing::new(LandingBudget::default());
        let block = scratch.block(0, 0);
        let (ours, mut theirs) = pair();
        landing.begin_spare(block);
        theirs.write_all(&payload(block)[..9]).unwrap();
        receive(&mut landing, &ours).unwrap();
        assert!(scratch.bytes() == scratch.expected(&[]));
        let slot = scratch.slot(block);
        assert!(matches!(landing.settle(slot), Ok(None)));
        theirs.write_all(&payload(block)[9..]).unwrap();
        let (arrival, _) = receive(&mut landing, &ours).unwrap();
        assert!(matches!(arrival.landed[..], [Landed::Slot(_)]));
        assert!(scratch.bytes() == scratch.expected(&[block]));
    }

    /// Messages of these blocks, one after the other.
    fn stream(blocks: &[Block]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for block in blocks {
            Message::Piece(wire(*block)).encode(&mut bytes);
            bytes.extend(payload(*block));
        }
        bytes
    }

    /// Eight blocks of one piece, asked for in their order, at an offset that is no page's.
    fn eight() -> (ScratchFile, Landing, Vec<Block>) {
        eight_within(LandingBudget::default())
    }

    fn eight_within(budget: LandingBudget) -> (ScratchFile, Landing, Vec<Block>) {
        let mut scratch = ScratchFile::new(Geometry::new(131_072, 131_072).unwrap(), 777);
        let mut landing = Landing::new(budget);
        let blocks: Vec<Block> = (0..8).map(|number| scratch.block(0, number)).collect();
        for block in &blocks {
            landing.hold(scratch.slot(*block));
        }
        (scratch, landing, blocks)
    }

    #[test]
    fn blocks_that_come_in_the_order_they_were_asked_for_land_with_one_call() {
        let (scratch, mut landing, blocks) = eight();
        let (ours, mut theirs) = pair();
        theirs.write_all(&stream(&blocks)[PIECE_HEAD..]).unwrap();
        landing.begin(wire(blocks[0]));
        let (arrival, other) = receive(&mut landing, &ours).unwrap();
        assert_eq!(arrival.landed.len(), 8);
        assert_eq!(arrival.begun.len(), 7);
        assert!(other.is_empty() && arrival.emptied);
        assert!(scratch.bytes() == scratch.expected(&blocks));
    }

    #[test]
    fn after_a_block_that_was_passed_over_the_ones_behind_it_are_expected() {
        let (scratch, mut landing, blocks) = eight();
        let (ours, mut theirs) = pair();
        theirs
            .write_all(&stream(&blocks[3..])[PIECE_HEAD..])
            .unwrap();
        landing.begin(wire(blocks[3]));
        let (arrival, _) = receive(&mut landing, &ours).unwrap();
        assert_eq!(arrival.landed.len(), 5);
        // The first three have zeros in their places.
        let from = 777 + 3 * 16_384;
        assert!(scratch.bytes()[from..] == scratch.expected(&blocks[3..])[from..]);
        assert_eq!(landing.drain().len(), 3);
    }

    #[test]
    fn what_comes_instead_of_an_expected_block_is_handed_on_byte_by_byte() {
        for between in [0, 1, 2, 12, 13, 14, 4096, 20_000, 40_000] {
            let (scratch, mut landing, blocks) = eight();
            let (ours, mut theirs) = pair();
            let mut bytes = stream(&blocks[..2]);
            let something_else: Vec<u8> = (0..between).map(|at| at as u8).collect();
            bytes.extend(&something_else);
            theirs.write_all(&bytes[PIECE_HEAD..]).unwrap();
            landing.begin(wire(blocks[0]));
            let (arrival, other) = receive(&mut landing, &ours).unwrap();
            assert_eq!(arrival.landed.len(), 2);
            assert!(other == something_else, "{between} bytes between");
            let kept = scratch.bytes();
            let expected = scratch.expected(&blocks[..2]);
            assert!(kept[..777 + 32_768] == expected[..777 + 32_768]);
            assert!(
                kept[777 + 131_072..] == expected[777 + 131_072..],
                "beyond the slots"
            );
            // The slots it lay in meanwhile are still to be written.
            assert_eq!(landing.drain().len(), 6);
        }
    }

    /// Bytes that came into memory: messages, of which the last may be the beginning of one.
    fn absorb(landing: &mut Landing, other: &mut Vec<u8>, laid: &mut Vec<Block>) {
        let rules = WireRules {
            pieces: 1,
            fast: true,
            extended: false,
        };
        let mut at = 0;
        while at < other.len() {
            match Decoder::new(rules).step(&other[at..]).unwrap() {
                Decoded::Payload { block, used } => {
                    assert!(landing.begin(block));
                    let end = other.len().min(at + used + block.length as usize);
                    if end > at + used {
                        take(&landing.absorb(&other[at + used..end]).landed, laid);
                    }
                    at = end;
                }
                Decoded::Message { used, .. } => at += used,
                _ => break,
            }
        }
        other.drain(..at);
    }

    fn take(landed: &[Landed], laid: &mut Vec<Block>) {
        laid.extend(landed.iter().map(|landed| match landed {
            Landed::Slot(slot) => slot.block(),
            _ => panic!("{landed:?}"),
        }));
    }

    /// Everything that the socket has, until a call finds nothing.
    fn take_all(
        landing: &mut Landing,
        ours: &UnixStream,
        other: &mut Vec<u8>,
        laid: &mut Vec<Block>,
    ) {
        loop {
            absorb(landing, other, laid);
            if landing.under_way().is_some() {
                match landing.receive(ours.as_fd(), other, 1 << 20, Instant::now()) {
                    Ok(arrival) => {
                        take(&arrival.landed, laid);
                        other.extend(arrival.aside.iter().flat_map(|aside| aside.iter()));
                    }
                    Err(_) => break,
                }
            } else {
                let mut byte = [0];
                match rustix::io::read(ours, &mut byte) {
                    Ok(1) => other.push(byte[0]),
                    _ => break,
                }
            }
        }
    }

    #[test]
    fn in_whatever_order_blocks_come_and_wherever_they_are_cut_each_lands_once() {
        all_stores(|budget| {
            let mut dice = fastrand::Rng::with_seed(7);
            for round in 0..300 {
                let (scratch, mut landing, mut blocks) = eight_within(budget.clone());
                for _ in 0..dice.usize(..4) {
                    let (one, other) = (dice.usize(..8), dice.usize(..8));
                    blocks.swap(one, other);
                }
                let mut bytes = Vec::new();
                for block in &blocks {
                    if dice.u8(..8) == 0 {
                        Message::Have { piece: 0 }.encode(&mut bytes);
                    }
                    bytes.extend(stream(&[*block]));
                }
                let (ours, mut theirs) = pair();
                let (mut other, mut laid) = (Vec::new(), Vec::new());
                let mut sent = 0;
                while sent < bytes.len() {
                    let part = dice.usize(1..=60_000).min(bytes.len() - sent);
                    theirs.write_all(&bytes[sent..sent + part]).unwrap();
                    sent += part;
                    take_all(&mut landing, &ours, &mut other, &mut laid);
                }
                laid.sort_unstable();
                assert!(scratch.bytes() == scratch.expected(&laid), "round {round}");
                assert_eq!(laid.len(), 8, "round {round}: {laid:?}");
            }
        });
    }

    #[test]
    fn through_a_buffer_several_blocks_land_with_one_call_and_it_is_given_back() {
        let budget = LandingBudget::new(0, 1);
        budget.refuse_maps();
        let (scratch, mut landing, blocks) = eight_within(budget.clone());
        let (ours, mut theirs) = pair();
        theirs.write_all(&stream(&blocks)[PIECE_HEAD..]).unwrap();
        landing.begin(wire(blocks[0]));
        let (arrival, other) = receive(&mut landing, &ours).unwrap();
        assert_eq!((arrival.landed.len(), other.len()), (8, 0));
        assert!(scratch.bytes() == scratch.expected(&blocks));
        assert!(budget.buffer().is_some());
    }

    #[test]
    fn what_comes_instead_of_a_volley_lies_in_lent_memory_and_without_that_blocks_come_one_at_a_time()
     {
        for (mapped, buffers) in [(true, 1), (false, 1), (true, 0), (false, 0)] {
            let budget = LandingBudget::new(1 << 20, buffers);
            if !mapped {
                budget.refuse_maps();
            }
            let (_scratch, mut landing, blocks) = eight_within(budget.clone());
            let (ours, mut theirs) = pair();
            let bytes = stream(&[blocks[0], blocks[2], blocks[1]]);
            theirs.write_all(&bytes[PIECE_HEAD..]).unwrap();
            landing.begin(wire(blocks[0]));
            let lent = budget.aside().is_some();
            let mut other = Vec::new();
            let arrival = landing.receive(ours.as_fd(), &mut other, 1 << 20, Instant::now());
            let arrival = arrival.unwrap();
            assert_eq!(arrival.landed.len(), 1);
            let behind = &bytes[PIECE_HEAD + 16_384..];
            match &arrival.aside {
                Some(aside) => assert!(lent && **aside == *behind && other.is_empty()),
                None => assert!(!lent && other == behind[..PIECE_HEAD]),
            }
            assert!(budget.aside().is_none());
            drop(arrival);
            assert_eq!(budget.aside().is_some(), lent);
        }
    }

    #[test]
    fn a_volley_keeps_few_files_open_where_each_block_has_its_own() {
        let geometry = Geometry::new(131_072, 131_072).unwrap();
        let mut files: Vec<ScratchFile> = (0..8).map(|_| ScratchFile::new(geometry, 0)).collect();
        let blocks: Vec<Block> = (0..8).map(|number| files[0].block(0, number)).collect();
        let mut landing = Landing::new(unmapped());
        for (file, block) in files.iter_mut().zip(&blocks) {
            landing.hold(file.slot(*block));
        }
        let (ours, mut theirs) = pair();
        theirs.write_all(&stream(&blocks)[PIECE_HEAD..]).unwrap();
        landing.begin(wire(blocks[0]));
        let (arrival, _) = receive(&mut landing, &ours).unwrap();
        assert_eq!(arrival.landed.len(), super::super::positional::KEPT_OPEN);
    }

    #[test]
    fn bytes_that_cannot_be_read_back_end_the_connection_as_its_stream_is_lost() {
        let (scratch, mut landing, blocks) = eight();
        let (ours, mut theirs) = pair();
        landing.begin(wire(blocks[0]));
        theirs.write_all(&[1]).unwrap();
        receive(&mut landing, &ours).unwrap();
        // The file ends behind the first block, in a page of which the rest is still mapped.
        scratch.truncate(777 + 16_384);
        theirs
            .write_all(&stream(&blocks[..1])[PIECE_HEAD + 1..])
            .unwrap();
        theirs.write_all(&[0; 2000]).unwrap();
        let lost = receive(&mut landing, &ours);
        assert!(lost.is_err(), "{lost:?}");
        assert_eq!(landing.drain().len(), 8);
    }

    #[test]
    fn after_what_was_no_block_the_next_ones_have_a_window_again() {
        let mut scratch = ScratchFile::new(Geometry::new(131_072, 65_536).unwrap(), 777);
        let mut landing = Landing::new(LandingBudget::default());
        let numbers = (0..2).flat_map(|piece| (0..4).map(move |number| (piece, number)));
        let blocks: Vec<Block> = numbers
            .map(|(piece, number)| scratch.block(piece, number))
            .collect();
        for block in &blocks {
            landing.hold(scratch.slot(*block));
        }
        let (ours, mut theirs) = pair();
        let (mut other, mut laid) = (Vec::new(), Vec::new());
        let (bytes, length) = (stream(&blocks), 16_384 + PIECE_HEAD);
        let mut something = Vec::new();
        Message::Unchoke.encode(&mut something);
        // Something else and a part of a block, twice, and the second time it is the last one of its piece.
        for (from, cut, to) in [
            (0, length, length + 5000),
            (length + 5000, 3 * length, 3 * length + 5000),
        ] {
            let parts = [&bytes[from..cut], &something, &bytes[cut..to]].concat();
            theirs.write_all(&parts).unwrap();
            take_all(&mut landing, &ours, &mut other, &mut laid);
        }
        theirs
            .write_all(&bytes[3 * length + 5000..5 * length + 5000])
            .unwrap();
        take_all(&mut landing, &ours, &mut other, &mut laid);
        assert_eq!(laid, blocks[..5]);
        assert_eq!(landing.windows.open.len(), 1);
    }

    #[test]
    fn of_a_volley_what_cannot_be_written_is_its_own_slots_trouble() {
        let (scratch, mut landing, blocks) = eight_within(unmapped());
        let mut elsewhere = ScratchFile::new(Geometry::new(131_072, 131_072).unwrap(), 0);
        // The last four are of another file, which is cut short.
        for block in &blocks[4..] {
            landing.revoke(*block);
            landing.hold(elsewhere.slot(*block));
        }
        elsewhere.truncate(0);
        let (ours, mut theirs) = pair();
        theirs.write_all(&stream(&blocks)[PIECE_HEAD..]).unwrap();
        landing.begin(wire(blocks[0]));
        let (arrival, mut other) = receive(&mut landing, &ours).unwrap();
        assert_eq!(arrival.landed.len(), 4);
        assert!(arrival.trouble.is_none());
        assert!(other == stream(&blocks[4..]), "{} bytes", other.len());
        assert!(scratch.bytes() == scratch.expected(&blocks[..4]));
        landing.begin(wire(blocks[4]));
        other.drain(..PIECE_HEAD);
        let trouble = landing.absorb(&other[..16_384]).trouble.unwrap();
        assert_eq!(trouble.error.kind, StorageTrouble::Vanished);
        assert_eq!(trouble.slot.block(), blocks[4]);
        assert_eq!(landing.drain().len(), 3);
    }

    #[test]
    fn no_more_is_taken_than_was_allowed() {
        let (_scratch, mut landing, blocks) = eight();
        let (ours, mut theirs) = pair();
        theirs.write_all(&stream(&blocks)[PIECE_HEAD..]).unwrap();
        landing.begin(wire(blocks[0]));
        let mut other = Vec::new();
        let most = 3 * (16_384 + PIECE_HEAD);
        let arrival = landing.receive(ours.as_fd(), &mut other, most, Instant::now());
        assert_eq!(arrival.unwrap().landed.len(), 3);
        assert_eq!(other.len(), PIECE_HEAD);
    }

    #[test]
    #[cfg(debug_assertions)]
    fn a_panic_on_the_way_to_the_file_loses_no_slot() {
        for from_memory in [true, false] {
            let mut scratch = scratch();
            let block = scratch.block(0, 1);
            // No file has such an offset: in a debug build the sum of it and a length panics.
            let place = Place::File {
                file: scratch.file(),
                offset: u64::MAX,
                length: block.length(),
            };
            let slot = scratch.book.take(block, place.into()).unwrap();
            let mut landing = Landing::new(unmapped());
            landing.hold(slot);
            assert!(landing.begin(wire(block)));
            let (ours, mut theirs) = pair();
            theirs.write_all(&[1; 100]).unwrap();
            let receiving = AssertUnwindSafe(|| match from_memory {
                true => drop(landing.absorb(&[1; 100])),
                false => drop(receive(&mut landing, &ours)),
            });
            assert!(catch_unwind(receiving).is_err());
            let home = landing.drain();
            assert_eq!(
                home.iter().map(BlockSlot::block).collect::<Vec<_>>(),
                [block]
            );
        }
    }
}
