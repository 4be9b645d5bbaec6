//! A few blocks to the socket with one call.
//!
//! ```text
//! let mut bundles = Bundles::default();               // for one turn of writing
//! if let Some(count) = bundles.fill(&serves) { ... bundles.send(socket, bytes) ... }
//! ```
//!
//! A block is a head from memory and a payload from a file, so two calls, and after each the kernel builds packets and
//! sends them: that was most of a seed's time. A pipe takes both, the payload as references to the pages
//! of the page cache, and hands all of it to the socket at once. It takes as many pages as a packet of the
//! kernel's, so three blocks; more in a larger pipe cost more again (docs/measured/seed-and-pipe.md). Where pages
//! are larger (16 or 64 KiB on aarch64) more blocks would fit, and no more are taken.
//!
//! The pipe lives for a turn. What the socket does not take is dropped with it and sent from the file later, so that it
//! can still be withheld, and no connection keeps descriptors for it. Whoever has many pipes already gets one of a page
//! or two (pipe(7), `pipe-user-pages-soft`): the blocks do not fit, and go one by one.

use super::outbox::message_length;
use crate::protocol::geometry::BLOCK_LENGTH;
use crate::protocol::peer::message::PIECE_HEAD;
use crate::protocol::peer::{Message, WireBlock};
use crate::storage::slot::ReadableBlock;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, pipe_with, splice};
use std::collections::VecDeque;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};

/// Pages that a pipe takes unless it is told otherwise (pipe(7)).
const PLACES: usize = 16;

/// The most bytes of a bundle: three blocks.
pub(super) const BUNDLE_MAX: usize = 3 * (PIECE_HEAD + BLOCK_LENGTH as usize);

/// The pipe of one turn.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    pipe: Option<Pipe>,
    /// It did not work, or the socket is full: what else is to be sent in this turn goes block by block.
    over: bool,
}

#[derive(Debug)]
struct Pipe {
    out: OwnedFd,
    into: OwnedFd,
}

impl Bundles {
    /// Whether some have gone in this turn.
    pub(super) fn is_begun(&self) -> bool {
        self.pipe.is_some()
    }

    /// Puts blocks from the front of `serves` into the pipe, and says how many: at least two. `None` where
    /// they have to be sent one by one: that also tells what is wrong with a file.
    pub(super) fn fill(&mut self, serves: &VecDeque<ReadableBlock>) -> Option<usize> {
        if self.over {
            return None;
        }
        let count = fitting(serves, rustix::param::page_size());
        if count < 2 {
            return None;
        }
        let filled = self.pipe().and_then(|pipe| {
            let mut blocks = serves.iter().take(count);
            blocks.try_for_each(|source| pipe.take(source))
        });
        match filled {
            Ok(()) => Some(count),
            Err(_) => {
                self.stop(); // with what is in the pipe
                None
            }
        }
    }

    /// Hands the `bytes` in the pipe to the socket; how many it took. If not all, the others are dropped.
    pub(super) fn send(&mut self, socket: &TcpStream, bytes: usize) -> rustix::io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK;
        let pipe = self.pipe()?;
        let sent = loop {
            match splice(&pipe.out, None, socket, None, bytes, flags) {
                Err(Errno::INTR) => {}
                outcome => break outcome,
            }
        };
        if sent != Ok(bytes) {
            self.stop();
        }
        sent
    }

    fn pipe(&mut self) -> rustix::io::Result<&Pipe> {
        let pipe = match self.pipe.take() {
            Some(pipe) => pipe,
            None => {
                let (out, into) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
                Pipe { out, into }
            }
        };
        Ok(self.pipe.insert(pipe))
    }

    fn stop(&mut self) {
        self.pipe = None;
        self.over = true;
    }
}

impl Pipe {
    /// Takes a block in, or a part of it and an error.
    fn take(&self, source: &ReadableBlock) -> rustix::io::Result<()> {
        let (file, mut offset) = source.whole().and_then(Result::ok).ok_or(Errno::INVAL)?;
        let length = source.block.length() as usize;
        rustix::io::write(&self.into, &head(source))?;
        match splice(
            file,
            Some(&mut offset),
            &self.into,
            None,
            length,
            SpliceFlags::NONBLOCK,
        )? {
            all if all == length => Ok(()),
            _ => Err(Errno::IO),
        }
    }
}

/// The head of the message that brings a block.
pub(super) fn head(source: &ReadableBlock) -> [u8; PIECE_HEAD] {
    let mut bytes = Vec::with_capacity(PIECE_HEAD);
    Message::Piece(WireBlock::from(source.block)).encode(&mut bytes);
    let mut head = [0; PIECE_HEAD];
    head.copy_from_slice(&bytes);
    head
}

/// How many blocks at the front of `serves` make a bundle: those that the pipe has places for with pages of this size,
/// as far as each lies whole in a file that reaches so far. A file is asked for its length once.
fn fitting(serves: &VecDeque<ReadableBlock>, page: usize) -> usize {
    let page = page as u64;
    let mut places = PLACES as u64;
    let mut room = BUNDLE_MAX;
    let mut asked = None;
    let fits = |source: &&ReadableBlock| {
        let Some(Ok((file, offset))) = source.whole() else {
            return false;
        };
        let end = offset + u64::from(source.block.length());
        let number = file.as_raw_fd();
        let length = match asked {
            Some((same, length)) if same == number => length,
            _ => source.length_of(file).unwrap_or(0),
        };
        asked = Some((number, length));
        let pages = 1 + end.div_ceil(page) - offset / page;
        let bytes = message_length(source.block);
        let fits = pages <= places && bytes <= room && end <= length;
        places = places.saturating_sub(pages);
        room = room.saturating_sub(bytes);
        fits
    };
    serves.iter().take_while(fits).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;
    use crate::storage::slot::ScratchFile;

    /// Ten blocks in a row, of which the first lies at this offset.
    fn ten_blocks(lead: u64) -> (ScratchFile, VecDeque<ReadableBlock>) {
        let length = BLOCK_LENGTH * 10;
        let scratch = ScratchFile::new(Geometry::new(length.into(), length).unwrap(), lead);
        let serves = (0..10).map(|number| scratch.source(scratch.block(0, number)));
        let serves = serves.collect();
        (scratch, serves)
    }

    #[test]
    fn no_bundle_is_longer_than_what_may_leave_however_large_pages_are() {
        let (_scratch, aligned) = ten_blocks(0);
        let (_scratch, shifted) = ten_blocks(777);
        let fitting = |serves| [4096, 16_384, 65_536].map(|page| fitting(serves, page));
        assert_eq!(fitting(&aligned), [3, 3, 3]);
        assert_eq!(fitting(&shifted), [2, 3, 3]);
    }

    #[test]
    fn blocks_that_a_smaller_pipe_does_not_take_go_one_by_one() {
        let (_scratch, serves) = ten_blocks(0);
        for pages in [1, 2] {
            let mut bundles = Bundles::default();
            let length = pages * rustix::param::page_size();
            let pipe = bundles.pipe().unwrap();
            rustix::pipe::fcntl_setpipe_size(&pipe.into, length).unwrap();
            assert_eq!(bundles.fill(&serves), None, "{pages} pages");
            assert!(!bundles.is_begun());
        }
    }
}
