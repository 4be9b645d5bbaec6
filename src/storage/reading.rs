//! One call to the socket while a payload is under way, into either store.
//!
//! ```text
//! let unsettled = reading.into_window(window, file, (offset, rest))?;        // mapped
//! let unsettled = reading.through_buffer(buffer, slot, received)?;           // positional
//! let unsettled = reading.alone(&mut current)?;                              // a spare, or what nobody wants
//! ```

use super::arriving::{Arriving, Unsettled};
use super::budget::Buffer;
use super::lazy_file::LazyFile;
use super::places::Place;
use super::positional::{Fragment, KEPT_OPEN, write_all};
use super::slot::{BlockSlot, StorageError};
use super::volley::{Sorted, Volley};
use super::window::Window;
use super::windows::in_one_file;
use crate::protocol::geometry::BLOCK_LENGTH;
use crate::protocol::peer::message::PIECE_HEAD;
use std::collections::vec_deque::Iter;
use std::convert::Infallible;
use std::io::{self, IoSliceMut};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What a call needs, whatever becomes of the bytes.
pub(super) struct Reading<'a> {
    pub(super) socket: BorrowedFd<'a>,
    /// The slots of the blocks that should follow.
    pub(super) expected: Iter<'a, BlockSlot>,
    /// The most to take of those and their heads, in bytes.
    pub(super) ahead: usize,
    /// Where bytes go that are no payload expected, if they are no more than a head.
    pub(super) other: &'a mut Vec<u8>,
    /// Where they go if they are more, which takes something `ahead`.
    pub(super) aside: Option<Buffer>,
}

impl Reading<'_> {
    /// A volley into a window over `file`. `current`: where the rest of the block under way goes, and how long it is.
    pub(super) fn into_window(
        self,
        window: &Window,
        file: &Arc<LazyFile>,
        current: (u64, usize),
    ) -> io::Result<Unsettled> {
        let mut volley = Volley::aim(self.expected.clone(), self.ahead, |slot| {
            let (its, offset, length) = in_one_file(slot)?;
            let fits = Arc::ptr_eq(its, file) && window.covers(offset, length as usize);
            fits.then_some(offset)
        });
        let (bytes, room) = volley.receive_mapped(window, self.socket, current)?;
        let payload = bytes.min(current.1);
        not_closed(bytes)?;
        let sorted = volley.sort(bytes - payload, self.expected);
        let handed = hand_on(&volley, &sorted, self.other, self.aside, |offset, bytes| {
            let read = file.get()?.read_exact_at(bytes, offset);
            read.map_err(|error| StorageError::from_io("read", file.path(), &error))
        });
        Ok(Unsettled {
            payload,
            bytes,
            emptied: bytes < room,
            failure: None,
            behind: sorted,
            // What the peer said is lost, and with it where the next message begins.
            aside: handed.map_err(io::Error::other)?,
        })
    }

    /// A volley through `buffer`, which has room for the block of `slot` at least. Of that, `received` bytes have come.
    pub(super) fn through_buffer(
        self,
        buffer: &mut [u8],
        slot: &BlockSlot,
        received: u32,
    ) -> io::Result<Unsettled> {
        let rest = (slot.block().length() - received) as usize;
        let mut end = rest;
        let (mut before, mut files) = (slot, 1);
        let mut volley = Volley::aim(self.expected.clone(), self.ahead, |next| {
            let place = end;
            end += next.block().length() as usize;
            files += usize::from(!shares_a_file(before, next));
            before = next;
            (end <= buffer.len() && files <= KEPT_OPEN).then_some(place as u64)
        });
        let (bytes, room) = volley.receive_in_memory(buffer, self.socket, rest)?;
        let payload = bytes.min(rest);
        not_closed(bytes)?;
        let mut sorted = volley.sort(bytes - payload, self.expected.clone());
        let fragment = |slot, at, length| Fragment { slot, at, length };
        let whole = self.expected.clone().take(sorted.whole);
        let begun = self.expected.skip(sorted.whole).zip(sorted.begun);
        let fragments = std::iter::once(fragment(slot, received, payload))
            .chain(whole.map(|slot| fragment(slot, 0, slot.block().length() as usize)))
            .chain(begun.map(|(slot, bytes)| fragment(slot, 0, bytes as usize)));
        let mut failure = None;
        if let Err((number, error)) = write_all(fragments, buffer) {
            // What is not in its place is handed on as if it were not expected, and fails on its own account.
            sorted = volley.keep(&sorted, number.saturating_sub(1));
            failure = (number == 0).then_some(error);
        }
        let copy = |place: u64, bytes: &mut [u8]| {
            let place = place as usize;
            bytes.copy_from_slice(&buffer[place..place + bytes.len()]);
            Ok::<_, Infallible>(())
        };
        let Ok(aside) = hand_on(&volley, &sorted, self.other, self.aside, copy);
        Ok(Unsettled {
            payload,
            bytes,
            emptied: bytes < room,
            failure,
            behind: sorted,
            aside,
        })
    }

    /// The payload under way alone, with room for the head of one message more: into memory, and from there where
    /// `current` says.
    // Inlined, its buffer is on the stack of every idle peer's thread, too: 12 KiB of each one's memory.
    #[inline(never)]
    pub(super) fn alone(self, current: &mut Arriving) -> io::Result<Unsettled> {
        let rest = (current.total - current.received) as usize;
        let mut buffer = [0; BLOCK_LENGTH as usize];
        let mut head = [0; PIECE_HEAD];
        let length = rest.min(buffer.len());
        let after = if length == rest { head.len() } else { 0 };
        let mut parts = [
            IoSliceMut::new(&mut buffer[..length]),
            IoSliceMut::new(&mut head[..after]),
        ];
        let bytes = rustix::io::readv(self.socket, &mut parts)?;
        not_closed(bytes)?;
        let payload = bytes.min(length);
        self.other.extend(&head[..bytes - payload]);
        Ok(Unsettled {
            payload,
            bytes,
            emptied: bytes < length + after,
            failure: current.store(&buffer[..payload]).err(),
            ..Unsettled::default()
        })
    }
}

/// What was not expected: behind what is in `other`, or in `aside`.
fn hand_on<E>(
    volley: &Volley,
    sorted: &Sorted,
    other: &mut Vec<u8>,
    aside: Option<Buffer>,
    read: impl FnMut(u64, &mut [u8]) -> Result<(), E>,
) -> Result<Option<Buffer>, E> {
    let bytes = sorted.others();
    match aside {
        Some(mut aside) if bytes > PIECE_HEAD => {
            aside.stretch(bytes);
            volley.hand_on(sorted, &mut aside, read)?;
            Ok(Some(aside))
        }
        _ => {
            let begin = other.len();
            other.resize(begin + bytes, 0);
            volley.hand_on(sorted, &mut other[begin..], read)?;
            Ok(None)
        }
    }
}

/// Whether `next` goes on in the file in which `slot` ends. Where not, one file more is open until both are laid.
fn shares_a_file(slot: &BlockSlot, next: &BlockSlot) -> bool {
    let file = |place: &Place| match place {
        Place::File { file, .. } => Some(Arc::as_ptr(file)),
        Place::Padding { .. } => None,
    };
    let last = slot.places().iter().filter_map(file).next_back();
    let mut its = next.places().iter().filter_map(file);
    its.next().is_none_or(|first| last == Some(first)) && its.next().is_none()
}

fn not_closed(bytes: usize) -> io::Result<()> {
    match bytes {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::budget::LandingBudget;
    use super::super::lazy_file::Access;
    use super::super::scratch_file::{ScratchFile, payload};
    use super::super::slot::StorageTrouble;
    use super::*;
    use crate::protocol::Geometry;
    use std::collections::VecDeque;
    use std::io::Write;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;
    use std::path::Path;

    #[test]
    fn what_came_in_place_of_a_block_and_cannot_be_read_back_is_the_files_trouble() {
        let geometry = Geometry::new(2 * 16_384, 2 * 16_384).unwrap();
        let mut scratch = ScratchFile::new(geometry, 0);
        let blocks = [0, 1].map(|number| scratch.block(0, number));
        let budget = LandingBudget::default();
        let window = Window::open(scratch.file().get().unwrap(), 0, 2 * 16_384, &budget);
        // The window was opened while the file was there, and this handle when it was gone.
        let gone = scratch.path.with_file_name("gone");
        let gone = Arc::new(LazyFile::new(Path::new("/").into(), gone, Access::Write));
        let place = Place::File {
            file: gone.clone(),
            offset: 16_384,
            length: 16_384,
        };
        let expected = VecDeque::from([scratch.book.take(blocks[1], place.into()).unwrap()]);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(&payload(blocks[0])).unwrap();
        theirs.write_all(&[7; 2 * PIECE_HEAD]).unwrap();
        let reading = Reading {
            socket: ours.as_fd(),
            expected: expected.iter(),
            ahead: 1 << 20,
            other: &mut Vec::new(),
            aside: budget.aside(),
        };
        let came = reading.into_window(&window.unwrap(), &gone, (0, 16_384));
        let error = came.err().unwrap().downcast::<StorageError>().unwrap();
        assert_eq!(error.kind, StorageTrouble::Vanished);
    }
}
