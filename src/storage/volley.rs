//! Several blocks with one call: what a peer sends in the order it was asked.
//!
//! ```text
//! let mut volley = Volley::aim(slots.clone(), window, file, most);
//! let (bytes, room) = volley.receive(window, socket, (offset, rest))?;
//! let sorted = volley.sort(bytes - rest, slots, file, &mut other)?;   // which blocks came; what was none
//! ```
//!
//! Nearly every peer answers in the order of the requests, and says nothing in between. So one call names the
//! places of several blocks, and between them 13 bytes of memory for the head that must come there.
//! Afterwards the heads are looked at. As long as each is the one expected, the payload behind it lies where
//! it belongs. From the first other head on, the bytes are something else in a wrong place: slots that nobody
//! but this thread may write, and that are still to be written. They are read back from the file and taken
//! for what they are, like any bytes that came into memory. A hostile peer gains nothing: these are blocks it
//! was asked for, so it could have put the same bytes there by answering.

use super::lazy_file::LazyFile;
use super::slot::{BlockSlot, StorageError};
use super::window::{PARTS_MAX, Part, Window};
use super::windows::in_one_file;
use crate::protocol::peer::message::PIECE_HEAD;
use crate::protocol::peer::{Message, WireBlock};
use std::collections::vec_deque::Iter;
use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The most blocks expected behind the one under way: their heads and payloads and one more head.
const AHEAD: usize = PARTS_MAX / 2 - 1;

type Head = [u8; PIECE_HEAD];

/// The places of the blocks that are expected next.
pub(super) struct Volley {
    /// Where each payload goes, and how long it is.
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
}

impl Volley {
    /// At the blocks of `slots` from the first on, as long as they lie in `window` over `file`, and no more
    /// than `most` bytes of them and their heads.
    pub(super) fn aim(
        slots: Iter<'_, BlockSlot>,
        window: &Window,
        file: &Arc<LazyFile>,
        most: usize,
    ) -> Volley {
        let mut volley = Volley {
            places: [(0, 0); AHEAD],
            count: 0,
            heads: [[0; PIECE_HEAD]; AHEAD + 1],
        };
        let mut left = most;
        for slot in slots.take(AHEAD) {
            match in_one_file(slot) {
                Some((its, offset, length))
                    if Arc::ptr_eq(its, file)
                        && window.covers(offset, length as usize)
                        && length as usize + PIECE_HEAD <= left =>
                {
                    left -= length as usize + PIECE_HEAD;
                    volley.places[volley.count] = (offset, length as usize);
                    volley.count += 1;
                }
                _ => break,
            }
        }
        volley
    }

    /// One call: `current` is the place of what is to come of the block under way. Gives the bytes that came
    /// and the bytes there was room for.
    pub(super) fn receive(
        &mut self,
        window: &Window,
        socket: BorrowedFd<'_>,
        current: (u64, usize),
    ) -> io::Result<(usize, usize)> {
        let mut parts = Vec::with_capacity(2 * self.count + 2);
        let mapped = |(offset, length)| Part::Mapped { offset, length };
        parts.push(mapped(current));
        for (number, head) in self.heads[..=self.count].iter_mut().enumerate() {
            parts.push(Part::Memory(head));
            if number < self.count {
                parts.push(mapped(self.places[number]));
            }
        }
        let payload: usize = self.places[..self.count].iter().map(|place| place.1).sum();
        let room = current.1 + payload + (self.count + 1) * PIECE_HEAD;
        Ok((window.receive(socket, &mut parts)?, room))
    }

    /// Tells what the `left` bytes behind the block under way are. Those that are not blocks expected from
    /// `slots` are appended to `other`.
    pub(super) fn sort(
        &self,
        mut left: usize,
        mut slots: Iter<'_, BlockSlot>,
        file: &LazyFile,
        other: &mut Vec<u8>,
    ) -> Result<Sorted, StorageError> {
        let mut sorted = Sorted::default();
        let mut expected = Vec::with_capacity(PIECE_HEAD);
        for (number, head) in self.heads[..=self.count].iter().enumerate() {
            let slot = slots.next().filter(|_| number < self.count);
            expected.clear();
            if let Some(slot) = slot {
                Message::Piece(WireBlock::from(slot.block())).encode(&mut expected);
            }
            if left < PIECE_HEAD || expected != head {
                self.read_back(number, left, file, other)?;
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
        Ok(sorted)
    }

    /// The `left` bytes from the head with this number on, wherever they lie.
    fn read_back(
        &self,
        from: usize,
        mut left: usize,
        file: &LazyFile,
        other: &mut Vec<u8>,
    ) -> Result<(), StorageError> {
        for number in from..=self.count {
            let in_head = left.min(PIECE_HEAD);
            other.extend(&self.heads[number][..in_head]);
            left -= in_head;
            if left == 0 {
                break;
            }
            let (offset, length) = self.places[number];
            let in_place = left.min(length);
            let end = other.len();
            other.resize(end + in_place, 0);
            file.get()?
                .read_exact_at(&mut other[end..], offset)
                .map_err(|error| StorageError::from_io("read", file.path(), &error))?;
            left -= in_place;
        }
        Ok(())
    }
}
