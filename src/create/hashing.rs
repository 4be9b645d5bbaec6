//! A thread that reads pieces and hashes them.
//!
//! ```text
//! let worker = Worker::new(tree, geometry, stopper);
//! worker.work(&queue, &tell);      // until the queue is closed, or nobody listens
//! ```
//!
//! Reads by position into a buffer and never through a map, so a file that shrinks is an ordinary error.
//! Small files cost an open, a read and a close; many of them fill one buffer before it is hashed.

use super::tree::Tree;
use super::{CreateError, Stopper};
use crate::protocol::digest::Hasher;
use crate::protocol::{Digest, Geometry, PieceIndex};
use crossbeam_channel::{Receiver, Sender};
use std::io;
use std::ops::Range;
use std::os::fd::OwnedFd;
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

/// The deepest call chain is a hash; buffers are on the heap.
pub(super) const STACK: usize = 128 * 1024;

/// Big enough that the cost of a call does not show, small enough for a cache.
const CHUNK: usize = 128 * 1024;

/// What a thread owns.
pub(super) struct Worker {
    tree: Arc<Tree>,
    geometry: Geometry,
    stopper: Stopper,
    buffer: Box<[u8]>,
}

/// A place in the run of bytes, on its way to the end of its piece.
struct Cursor {
    file: usize,
    offset: u64,
    /// Bytes of the piece that are still to be read.
    left: usize,
}

/// The file that was read last: the next piece most often goes on in it.
#[derive(Default)]
struct Opened(Option<(usize, OwnedFd)>);

impl Worker {
    /// A worker with a buffer of its own.
    pub fn new(tree: Arc<Tree>, geometry: Geometry, stopper: Stopper) -> Worker {
        Worker {
            tree,
            geometry,
            stopper,
            buffer: vec![0; CHUNK].into(),
        }
    }

    /// Takes jobs until there will be no more, one has failed, or nobody listens.
    pub fn work(mut self, queue: &Receiver<Job>, tell: &Sender<Done>) {
        let mut opened = Opened::default();
        for job in queue {
            let outcome = match job {
                Job::Hash(pieces) => self.hash(pieces, &mut opened),
                Job::Look(files) => self.look(files),
            };
            let failed = outcome.is_err();
            if tell.send(outcome.unwrap_or_else(Done::Failed)).is_err() || failed {
                return;
            }
        }
    }

    /// Hashes adjacent pieces: one after the other, as long as there is nothing that does several.
    fn hash(&mut self, pieces: Range<u32>, opened: &mut Opened) -> Result<Done, CreateError> {
        let first = pieces.start;
        let mut digests = Vec::with_capacity(pieces.len());
        for piece in pieces.filter_map(|number| self.geometry.piece(number)) {
            let mut cursor = self.cursor(piece);
            let mut hasher = Hasher::default();
            while cursor.left > 0 {
                if self.stopper.is_stopped() {
                    return Err(CreateError::Stopped);
                }
                let count = cursor.read(&self.tree, opened, &mut self.buffer)?;
                hasher.update(&self.buffer[..count]);
            }
            digests.push(hasher.finish());
        }
        // Small files are looked at once more when all is read; with a large one, that may be hours.
        opened.check(&self.tree)?;
        Ok(Done::Hashed { first, digests })
    }

    fn cursor(&self, piece: PieceIndex) -> Cursor {
        let (file, offset) = self.tree.find(self.geometry.piece_start(piece));
        Cursor {
            file,
            offset,
            left: self.geometry.piece_size(piece) as usize,
        }
    }

    fn look(&self, mut files: Range<usize>) -> Result<Done, CreateError> {
        let unlike = |number: &usize| !self.tree.is_still_there(*number);
        match files.find(unlike) {
            Some(number) => Err(changed(&self.tree, number)),
            None => Ok(Done::Looked),
        }
    }
}

impl Cursor {
    /// Fills `buffer`, or as much of it as the piece has left; how much that is.
    fn read(
        &mut self,
        tree: &Tree,
        opened: &mut Opened,
        buffer: &mut [u8],
    ) -> Result<usize, CreateError> {
        let wanted = self.left.min(buffer.len());
        let mut filled = 0;
        while filled < wanted {
            let length = tree.files[self.file].facts.length;
            let rest = length - self.offset;
            if rest == 0 {
                self.file += 1;
                self.offset = 0;
                continue;
            }
            let count = rest.min((wanted - filled) as u64) as usize;
            let room = &mut buffer[filled..filled + count];
            opened.read(tree, self.file, self.offset, room)?;
            self.offset += count as u64;
            filled += count;
            if self.offset == length {
                opened.close();
            }
        }
        self.left -= filled;
        Ok(filled)
    }
}

impl Opened {
    /// Reads all of `room` from a file.
    fn read(
        &mut self,
        tree: &Tree,
        number: usize,
        mut offset: u64,
        mut room: &mut [u8],
    ) -> Result<(), CreateError> {
        let fail = |error: io::Error| match error.kind() {
            // It was there a moment ago.
            io::ErrorKind::NotFound => changed(tree, number),
            _ => CreateError::Read {
                path: tree.path_of(number),
                error,
            },
        };
        let file = self.file(tree, number).map_err(fail)?;
        while !room.is_empty() {
            match rustix::io::pread(file, &mut *room, offset) {
                Ok(0) => return Err(changed(tree, number)),
                Ok(count) => {
                    offset += count as u64;
                    room = &mut room[count..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(fail(error.into())),
            }
        }
        Ok(())
    }

    fn file(&mut self, tree: &Tree, number: usize) -> io::Result<&OwnedFd> {
        if self.0.as_ref().is_none_or(|(open, _)| *open != number) {
            self.close();
            self.0 = Some((number, tree.open(number)?));
        }
        let opened = self.0.as_ref().map(|(_, file)| file);
        opened.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Whether the file that is still open, if one is, is as it was found.
    fn check(&self, tree: &Tree) -> Result<(), CreateError> {
        match &self.0 {
            Some((number, file)) if !tree.is_unchanged(*number, file) => {
                Err(changed(tree, *number))
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) {
        self.0 = None;
    }
}

fn changed(tree: &Tree, number: usize) -> CreateError {
    CreateError::Changed {
        path: tree.path_of(number),
    }
}
