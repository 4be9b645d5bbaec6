//! A thread that reads pieces and hashes them.
//!
//! ```text
//! let worker = Worker::new(tree, geometry, stopper, threads);
//! worker.work(&queue, &tell);      // until the queue is closed, or nobody listens
//! ```
//!
//! Adjacent pieces are hashed side by side ([`lanes`](crate::protocol::digest::lanes)), each with a file of
//! its own open. Reads by position into the lanes' chunks and never through a map, so a file that shrinks is
//! an ordinary error. Small files cost an open, a read and a close; many of them fill one chunk. Why the reader of
//! `storage/check` does not serve here, too, is said in the head of its `cursor`.

use super::tree::Tree;
use super::{CreateError, Stopper};
use crate::protocol::digest::Hasher;
use crate::protocol::digest::lanes::{Lanes, WORTHWHILE, Width};
use crate::protocol::{Digest, Geometry, PieceIndex};
use crate::storage::check;
use crossbeam_channel::{Receiver, Sender};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Something to do for a worker.
#[derive(Debug)]
pub(super) enum Job {
    /// Hash these pieces.
    Hash(Range<u32>),
    /// Look whether these files are still what they were.
    Look(Range<usize>),
}

/// What came of a job.
#[derive(Debug)]
pub(super) enum Done {
    /// The digests of pieces, from `first` on.
    Hashed {
        /// The first one.
        first: u32,
        /// Its digest and those of the pieces behind it.
        digests: Vec<Digest>,
    },
    /// The files are as they were.
    Looked,
    /// There will be no torrent.
    Failed(CreateError),
}

/// The deepest call chain is a hash under a read, as in the checkers.
pub(super) const STACK: usize = check::STACK;

/// For one piece at a time: big enough that the cost of a call does not show, small enough for a cache.
const CHUNK: usize = 128 * 1024;

/// Descriptors for other things: standard streams, the folder, the .torrent.
const OTHERS: u64 = 16;

/// What a thread owns.
pub(super) struct Worker {
    tree: Arc<Tree>,
    geometry: Geometry,
    stopper: Stopper,
    /// Pieces that are hashed side by side.
    at_once: usize,
    /// Made when first needed.
    lanes: Option<Lanes>,
    /// For pieces that are hashed one after the other; empty until there is one.
    buffer: Vec<u8>,
}

/// A place in the run of bytes, on its way to the end of its piece.
struct RunCursor {
    file: usize,
    offset: u64,
    /// Bytes of the piece that are still to be read.
    left: usize,
    /// The file it stands in, once it was read from: as many pieces as are hashed side by side may stand
    /// in as many files.
    opened: Option<OwnedFd>,
    /// The disk was told of the bytes of this file up to here.
    told: u64,
}

impl Worker {
    /// One of `threads` workers.
    pub fn new(tree: Arc<Tree>, geometry: Geometry, stopper: Stopper, threads: usize) -> Worker {
        let descriptors = check::descriptors().saturating_sub(OTHERS);
        Worker {
            tree,
            geometry,
            stopper,
            at_once: check::at_once(descriptors / threads.max(1) as u64),
            lanes: None,
            buffer: Vec::new(),
        }
    }

    /// Takes jobs until there will be no more, one has failed, or nobody listens. A panic is a job that has failed:
    /// whoever waits for its answer would wait for ever.
    pub fn work(mut self, queue: &Receiver<Job>, tell: &Sender<Done>) {
        for job in queue {
            let outcome = catch_unwind(AssertUnwindSafe(|| match job {
                Job::Hash(pieces) => self.hash(pieces),
                Job::Look(files) => self.look(files),
            }));
            let outcome = outcome.unwrap_or(Err(CreateError::Hasher));
            let failed = outcome.is_err();
            if tell.send(outcome.unwrap_or_else(Done::Failed)).is_err() || failed {
                return;
            }
        }
    }

    /// Hashes adjacent pieces, side by side if there are enough of them.
    fn hash(&mut self, mut pieces: Range<u32>) -> Result<Done, CreateError> {
        let first = pieces.start;
        let mut digests = Vec::with_capacity(pieces.len());
        while !pieces.is_empty() {
            let batch = pieces.by_ref().take(self.at_once);
            let batch = batch.filter_map(|number| self.geometry.piece(number));
            let mut cursors: Vec<RunCursor> = batch.map(|piece| self.cursor(piece)).collect();
            match Width::widest() {
                Some(width) if self.at_once > 1 && cursors.len() >= WORTHWHILE => {
                    digests.extend(self.side_by_side(width, &mut cursors)?);
                }
                _ => {
                    for cursor in &mut cursors {
                        digests.push(self.alone(cursor)?);
                    }
                }
            }
        }
        Ok(Done::Hashed { first, digests })
    }

    fn side_by_side(
        &mut self,
        width: Width,
        cursors: &mut [RunCursor],
    ) -> Result<Vec<Digest>, CreateError> {
        let lanes = self.lanes.get_or_insert_with(|| Lanes::new(width));
        let mut failure = None;
        let digests = lanes.hash(cursors.len(), |number, room| {
            if failure.is_none() && self.stopper.is_stopped() {
                failure = Some(CreateError::Stopped);
            }
            if failure.is_some() {
                return 0; // ends the message; nobody looks at its digest
            }
            cursors[number]
                .read(&self.tree, room)
                .unwrap_or_else(|error| {
                    failure = Some(error);
                    0
                })
        });
        failure.map_or(Ok(digests), Err)
    }

    fn alone(&mut self, cursor: &mut RunCursor) -> Result<Digest, CreateError> {
        self.buffer.resize(CHUNK, 0);
        let mut hasher = Hasher::default();
        while cursor.left > 0 {
            if self.stopper.is_stopped() {
                return Err(CreateError::Stopped);
            }
            let count = cursor.read(&self.tree, &mut self.buffer)?;
            hasher.update(&self.buffer[..count]);
        }
        Ok(hasher.finish())
    }

    fn cursor(&self, piece: PieceIndex) -> RunCursor {
        let (file, offset) = self.tree.find(self.geometry.piece_start(piece));
        RunCursor {
            file,
            offset,
            left: self.geometry.piece_size(piece) as usize,
            opened: None,
            told: 0,
        }
    }

    fn look(&self, mut files: Range<usize>) -> Result<Done, CreateError> {
        files.try_for_each(|number| {
            let same = self.tree.is_still_there(number);
            as_it_was(same, &self.tree, number)
        })?;
        Ok(Done::Looked)
    }
}

impl RunCursor {
    /// Fills `buffer`, or as much of it as the piece has left; how much that is.
    fn read(&mut self, tree: &Tree, buffer: &mut [u8]) -> Result<usize, CreateError> {
        let wanted = self.left.min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            let rest = tree.files[self.file].stamp.length - self.offset;
            if rest == 0 {
                self.file += 1;
                self.offset = 0;
                self.opened = None;
                self.told = 0;
                continue;
            }
            let count = rest.min((wanted - filled) as u64) as usize;
            self.read_here(tree, &mut buffer[filled..filled + count])?;
            filled += count;
        }
        self.left -= filled;
        if self.left == 0 {
            self.close(tree)?;
        }
        Ok(filled)
    }

    /// Reads all of `room` from the file at hand.
    fn read_here(&mut self, tree: &Tree, mut room: &mut [u8]) -> Result<(), CreateError> {
        let number = self.file;
        let fail = |error: io::Error| match error.kind() {
            // It was there a moment ago.
            io::ErrorKind::NotFound => changed(tree, number),
            _ => unreadable(tree, number, error),
        };
        let file = match self.opened.take() {
            Some(file) => file,
            None => tree.open(number).map_err(fail)?,
        };
        let file = self.opened.insert(file);
        let ahead = (tree.files[number].stamp.length - self.offset).min(self.left as u64);
        if self.told <= self.offset && ahead > room.len() as u64 {
            self.told = check::will_read(&*file, self.offset, ahead);
        }
        while !room.is_empty() {
            match rustix::io::pread(&*file, &mut *room, self.offset) {
                Ok(0) => return Err(changed(tree, number)),
                Ok(count) => {
                    self.offset += count as u64;
                    room = &mut room[count..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail(error.into())),
            }
        }
        Ok(())
    }

    /// At the end of the piece. In the middle of a large file is the time to look whether it is still
    /// what it was: the look at all files, when everything is read, may be hours away.
    fn close(&mut self, tree: &Tree) -> Result<(), CreateError> {
        let in_the_middle = self.offset < tree.files[self.file].stamp.length;
        match self.opened.take() {
            Some(file) if in_the_middle => {
                as_it_was(tree.is_unchanged(self.file, &file), tree, self.file)
            }
            _ => Ok(()),
        }
    }
}

/// An error unless the look at a file found it `same`.
fn as_it_was(same: io::Result<bool>, tree: &Tree, number: usize) -> Result<(), CreateError> {
    match same {
        Ok(true) => Ok(()),
        Ok(false) => Err(changed(tree, number)),
        Err(error) => Err(unreadable(tree, number, error)),
    }
}

fn unreadable(tree: &Tree, number: usize, error: io::Error) -> CreateError {
    CreateError::Read {
        path: tree.path_of(number),
        error,
    }
}

fn changed(tree: &Tree, number: usize) -> CreateError {
    CreateError::Changed {
        path: tree.path_of(number),
    }
}
