//! Several blocks with one call: what a peer sends in the order it was asked.
//!
//! ```text
//! let mut volley = Volley::aim(slots.clone(), most, |slot| its_place(slot));
//! let (bytes, room) = volley.receive_mapped(window, socket, (offset, rest))?;   // or receive_in_memory
//! let sorted = volley.sort(bytes - rest, slots);                                // which blocks came
//! volley.hand_on(&sorted, &mut other, |offset, bytes| read_back(offset, bytes))?;   // and what came instead
//! ```
//!
//! Nearly every peer answers in the order of the requests, and says nothing in between. So one call names the
//! places of several blocks, and between them 13 bytes of memory for the head that must come there.
//! Afterwards the heads are looked at. As long as each is the one expected, the payload behind it lies where
//! it belongs. From the first other head on, the bytes are something else in a wrong place. In a window these are
//! slots that nobody but this thread may write, and that are still to be written: the bytes are read back from
//! the file. They are taken for what they are, like any bytes that came into memory. A hostile peer gains
//! nothing: these are blocks it was asked for, so it could have put the same bytes there by answering.

use super::slot::BlockSlot;
use super::window::{PARTS_MAX, Part, Window};
use crate::protocol::peer::message::PIECE_HEAD;
use crate::protocol::peer::{Message, WireBlock};
use std::collections::vec_deque::Iter;
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;

/// The most blocks expected behind the one under way: their heads and payloads and one more head.
const AHEAD: usize = PARTS_MAX / 2 - 1;

type Head = [u8; PIECE_HEAD];

/// The places of the blocks that are expected next.
pub(super) struct Volley {
    /// Where each payload goes, in the file of a window or in a buffer, and how long it is.
    places: [(u64, usize); AHEAD],
    count: usize,
    /// Room for the head before each of them, and for one more.
    heads: [Head; AHEAD + 1],
}

/// What came behind the block under way.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sorted {
    /// So many of the expected blocks came whole.
    pub(super) whole: usize,
    /// The one after them has begun, with so many bytes.
    pub(super) begun: Option<u32>,
    /// What is not expected.
    stray: Option<Stray>,
}

impl Sorted {
    /// So many bytes are not expected ones.
    pub(super) fn others(&self) -> usize {
        self.stray.as_ref().map_or(0, |stray| stray.bytes)
    }
}

/// Bytes in places that are not theirs.
#[derive(Debug, PartialEq, Eq)]
struct Stray {
    /// The number of the head they begin with.
    head: usize,
    bytes: usize,
}

impl Volley {
    /// At the blocks of `slots` from the first on, as long as `place` has one for them, and no more than `most` bytes
    /// of them and their heads.
    pub(super) fn aim<'a>(
        slots: Iter<'a, BlockSlot>,
        most: usize,
        mut place: impl FnMut(&'a BlockSlot) -> Option<u64>,
    ) -> Volley {
        let mut volley = Volley {
            places: [(0, 0); AHEAD],
            count: 0,
            heads: [[0; PIECE_HEAD]; AHEAD + 1],
        };
        let mut left = most;
        for slot in slots.take(AHEAD) {
            let length = slot.block().length() as usize;
            let Some(after) = left.checked_sub(length + PIECE_HEAD) else {
                break;
            };
            let Some(place) = place(slot) else {
                break;
            };
            left = after;
            volley.places[volley.count] = (place, length);
            volley.count += 1;
        }
        volley
    }

    /// One call into a window: `current` is the place of what is to come of the block under way. Gives the bytes that
    /// came and the bytes there was room for.
    pub(super) fn receive_mapped(
        &mut self,
        window: &Window,
        socket: BorrowedFd<'_>,
        current: (u64, usize),
    ) -> io::Result<(usize, usize)> {
        let room = current.1 + self.room();
        let mut parts = Vec::with_capacity(2 * self.count + 2);
        let mapped = |(offset, length)| Part::Mapped { offset, length };
        parts.push(mapped(current));
        for (number, head) in self.heads[..=self.count].iter_mut().enumerate() {
            parts.push(Part::Memory(head));
            if number < self.count {
                parts.push(mapped(self.places[number]));
            }
        }
        Ok((window.receive(socket, &mut parts)?, room))
    }

    /// One call into a buffer, in which the places follow the `current` bytes to come of the block under way. Gives
    /// the same.
    pub(super) fn receive_in_memory(
        &mut self,
        buffer: &mut [u8],
        socket: BorrowedFd<'_>,
        current: usize,
    ) -> io::Result<(usize, usize)> {
        let mut parts = Vec::with_capacity(2 * self.count + 2);
        let room = current + self.room();
        let (current, mut buffer) = buffer.split_at_mut(current);
        parts.push(IoSliceMut::new(current));
        for (number, head) in self.heads[..=self.count].iter_mut().enumerate() {
            parts.push(IoSliceMut::new(head));
            if number < self.count {
                let (place, rest) = buffer.split_at_mut(self.places[number].1);
                parts.push(IoSliceMut::new(place));
                buffer = rest;
            }
        }
        Ok((rustix::io::readv(socket, &mut parts)?, room))
    }

    fn room(&self) -> usize {
        let payload: usize = self.places[..self.count].iter().map(|place| place.1).sum();
        payload + (self.count + 1) * PIECE_HEAD
    }

    /// Tells what the `left` bytes behind the block under way are, of which blocks of `slots` are expected.
    pub(super) fn sort(&self, mut left: usize, mut slots: Iter<'_, BlockSlot>) -> Sorted {
        let mut sorted = Sorted::default();
        let mut expected = Vec::with_capacity(PIECE_HEAD);
        for (number, head) in self.heads[..=self.count].iter().enumerate() {
            let slot = slots.next().filter(|_| number < self.count);
            expected.clear();
            if let Some(slot) = slot {
                Message::Piece(WireBlock::from(slot.block())).encode(&mut expected);
            }
            if left < PIECE_HEAD || expected != head {
                let (head, bytes) = (number, left);
                sorted.stray = Some(Stray { head, bytes });
                break;
            }
            left -= PIECE_HEAD;
            let length = self.places[number].1;
            if left < length {
                sorted.begun = Some(left as u32);
                break;
            }
            left -= length;
            sorted.whole += 1;
        }
        sorted
    }

    /// What `sort` said, if only the first `whole` blocks are to be taken for what they are.
    pub(super) fn keep(&self, sorted: &Sorted, whole: usize) -> Sorted {
        let others = &self.places[whole..sorted.whole];
        let others: usize = others.iter().map(|place| PIECE_HEAD + place.1).sum();
        let begun = sorted.begun.map_or(0, |bytes| PIECE_HEAD + bytes as usize);
        let (head, bytes) = (whole, others + begun + sorted.others());
        Sorted {
            whole,
            begun: None,
            stray: Some(Stray { head, bytes }),
        }
    }

    /// Puts what was not expected into `others`, which has [`Sorted::others`] bytes; those of a place as `read` gives
    /// them.
    pub(super) fn hand_on<E>(
        &self,
        sorted: &Sorted,
        mut others: &mut [u8],
        mut read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(Stray { head, .. }) = sorted.stray else {
            return Ok(());
        };
        for number in head..=self.count {
            let (its, rest) = others.split_at_mut(others.len().min(PIECE_HEAD));
            its.copy_from_slice(&self.heads[number][..its.len()]);
            if rest.is_empty() {
                break;
            }
            let (offset, length) = self.places[number];
            let (its, rest) = rest.split_at_mut(rest.len().min(length));
            read(offset, its)?;
            others = rest;
        }
        Ok(())
    }
}
