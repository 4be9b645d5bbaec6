//! Hashes pieces as they lie on disk.
//!
//! ```text
//! let checker = Checker::start(move |done| inbox.send(done).is_ok())?;
//! checker.ask(CheckJob { task, piece, places, expected, by_block: false, initial: false });
//! ```
//!
//! Reads by position in chunks and never through a map, so a file that shrinks or a medium that fails is
//! an ordinary error.

use super::layout::Place;
use super::slot::{StorageError, StorageTrouble};
use crate::protocol::digest::Hasher;
use crate::protocol::geometry::BLOCK_LENGTH;
use crate::protocol::{Digest, PieceIndex};
use crate::swarm::event::Verdict;
use crossbeam_channel::{Receiver, Sender};
use std::io;
use std::os::unix::fs::FileExt;
use std::thread::JoinHandle;

/// One piece to hash.
#[derive(Debug, Clone)]
pub struct CheckJob {
    /// Which of the client's tasks.
    pub task: usize,
    /// Which piece.
    pub piece: PieceIndex,
    /// Where all its bytes lie, in order.
    pub places: Vec<Place>,
    /// What its digest must be.
    pub expected: Digest,
    /// The digests of its blocks are wanted whatever the verdict.
    pub by_block: bool,
    /// Part of looking through what an earlier run or somebody else left: missing bytes are nobody's
    /// fault, and nobody asks which block of a bad piece is wrong.
    pub initial: bool,
}

/// What the hash of one piece said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDone {
    /// As in the job.
    pub task: usize,
    /// As in the job.
    pub piece: PieceIndex,
    /// The outcome.
    pub verdict: Verdict,
    /// The digests of its blocks on the 16 KiB grid: if asked for, or if it is bad and not `initial`.
    pub blocks: Vec<Digest>,
    /// Why it is `Unreadable`.
    pub error: Option<StorageError>,
}

/// How many jobs a thread takes at once. One while pieces are hashed one after the other: what it does not
/// take, another may. Hashing side by side will want as many as there are lanes.
const BATCH: usize = 1;

/// Big enough that the cost of a call does not show, small enough for a cache.
const CHUNK: usize = 128 * 1024;

/// The checker's thread, at work until this is dropped.
#[derive(Debug)]
pub struct Checker {
    jobs: Option<Sender<CheckJob>>,
    thread: Option<JoinHandle<()>>,
}

impl Checker {
    /// Starts the thread. `tell` gets each outcome, in the order of the jobs; it may wait, and ends the
    /// thread by returning false.
    pub fn start(tell: impl FnMut(CheckDone) -> bool + Send + 'static) -> io::Result<Checker> {
        // Bound: the sender's. The coordinator has at most one check out for each piece in work, and hands
        // out the initial ones a few at a time as they come back.
        let (jobs, queue) = crossbeam_channel::unbounded();
        let thread = std::thread::Builder::new()
            .name("checker".to_owned())
            .stack_size(STACK)
            .spawn(move || work(&queue, tell))?;
        Ok(Checker {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Queues a piece. Never waits.
    pub fn ask(&self, job: CheckJob) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(job); // a checker that has ended answers nothing, as it said through `tell`
        }
    }
}

/// The deepest call chain is a hash under a read; buffers are on the heap.
pub(crate) const STACK: usize = 128 * 1024;

impl Drop for Checker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Takes jobs until there will be no more.
pub(crate) fn work(queue: &Receiver<CheckJob>, mut tell: impl FnMut(CheckDone) -> bool) {
    let mut reader = Reader::default();
    let mut batch = Vec::with_capacity(BATCH);
    while let Ok(first) = queue.recv() {
        batch.push(first);
        batch.extend(queue.try_iter().take(BATCH - 1));
        for job in batch.drain(..) {
            let done = reader.check(&job);
            drop(job); // closes files nobody else holds before the next are opened
            if !tell(done) {
                return;
            }
        }
    }
}

/// Reads pieces and hashes them, with a buffer of its own.
#[derive(Debug)]
pub struct Reader {
    buffer: Box<[u8]>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader {
            buffer: vec![0; CHUNK].into(),
        }
    }
}

/// Why a piece could not be read to its end.
enum Unread {
    /// The bytes are not there.
    Missing(StorageError),
    /// They cannot be had.
    Failed(StorageError),
}

impl Reader {
    /// Hashes one piece.
    pub fn check(&mut self, job: &CheckJob) -> CheckDone {
        let mut done = CheckDone {
            task: job.task,
            piece: job.piece,
            verdict: Verdict::Good,
            blocks: Vec::new(),
            error: None,
        };
        let mut whole = Hasher::default();
        let mut blocks = Blocks::default();
        let mut read = self.read(&job.places, |bytes| {
            whole.update(bytes);
            if job.by_block {
                blocks.update(bytes);
            }
        });
        if read.is_ok() && whole.finish() != job.expected {
            done.verdict = Verdict::Bad;
            if !job.by_block && !job.initial {
                read = self.read(&job.places, |bytes| blocks.update(bytes));
            }
        }
        match read {
            Ok(()) => done.blocks = blocks.finish(),
            Err(Unread::Missing(_)) if job.initial => done.verdict = Verdict::Bad,
            Err(Unread::Missing(error) | Unread::Failed(error)) => {
                done.verdict = Verdict::Unreadable;
                done.error = Some(error);
            }
        }
        done
    }

    fn read(&mut self, places: &[Place], mut take: impl FnMut(&[u8])) -> Result<(), Unread> {
        // A piece over many small files opens one at a time; one over few leaves them open for the next.
        let few = places.len() <= 4;
        for place in places {
            let (file, mut offset, mut left) = match place {
                Place::File {
                    file,
                    offset,
                    length,
                } => (file, *offset, *length as usize),
                Place::Padding { length } => {
                    take_zeros(*length, &mut take);
                    continue;
                }
            };
            let once;
            let open = if few {
                file.get()
            } else {
                once = file.get_once();
                once.as_deref().map_err(Clone::clone)
            };
            let open = open.map_err(Unread::of)?;
            while left > 0 {
                let room = left.min(self.buffer.len());
                match open.read_at(&mut self.buffer[..room], offset) {
                    Ok(0) => {
                        let end = io::ErrorKind::UnexpectedEof.into();
                        let error = StorageError::from_io("read", file.path(), &end);
                        return Err(Unread::Missing(error));
                    }
                    Ok(count) => {
                        take(&self.buffer[..count]);
                        offset += count as u64;
                        left -= count;
                    }
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => {
                        let error = StorageError::from_io("read", file.path(), &error);
                        return Err(Unread::Failed(error));
                    }
                }
            }
        }
        Ok(())
    }
}

impl Unread {
    fn of(error: StorageError) -> Unread {
        match error.kind {
            StorageTrouble::Vanished => Unread::Missing(error),
            _ => Unread::Failed(error),
        }
    }
}

fn take_zeros(length: u32, take: &mut impl FnMut(&[u8])) {
    let zeros = [0; 4096];
    for begin in (0..length).step_by(zeros.len()) {
        take(&zeros[..zeros.len().min((length - begin) as usize)]);
    }
}

/// The digests of the blocks of a piece that comes in chunks of any size.
#[derive(Default)]
struct Blocks {
    digests: Vec<Digest>,
    current: Hasher,
    filled: usize,
}

impl Blocks {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = BLOCK_LENGTH as usize - self.filled;
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.current.update(now);
            self.filled += now.len();
            bytes = later;
            if self.filled == BLOCK_LENGTH as usize {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.digests
            .push(std::mem::take(&mut self.current).finish());
        self.filled = 0;
    }

    fn finish(mut self) -> Vec<Digest> {
        if self.filled > 0 {
            self.close();
        }
        self.digests
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::storage::layout::{Access, Layout};
    use crate::storage::open_files::OpenFiles;
    use crate::storage::test_torrent::{Author, noise};
    use std::path::Path;

    fn job(layout: &Layout, number: u32) -> CheckJob {
        let piece = layout.geometry().piece(number).unwrap();
        CheckJob {
            task: 3,
            piece,
            places: OpenFiles::new(4).piece(layout, piece, Access::Read),
            expected: layout.piece_digest(piece),
            by_block: false,
            initial: false,
        }
    }

    #[test]
    fn every_piece_of_odd_sizes_is_good_and_a_flipped_bit_is_found() {
        let sizes = [1, 4095, 4096, 4097, 16383, 16384, 16385, 131_072, 131_073];
        for (piece_length, size) in sizes.into_iter().flat_map(|s| [(16_384, s), (262_144, s)]) {
            let folder = tempfile::tempdir().unwrap();
            let author = Author::single("one", piece_length, size);
            author.publish(folder.path());
            let layout = author.layout(folder.path());
            let mut reader = Reader::default();
            for piece in layout.geometry().all_pieces() {
                let done = reader.check(&job(&layout, piece.get()));
                assert_eq!(
                    (done.verdict, done.blocks.len()),
                    (Verdict::Good, 0),
                    "{size}"
                );
            }
            let mut bytes = author.bytes.clone();
            *bytes.last_mut().unwrap() ^= 1;
            std::fs::write(&layout.files()[0].path, &bytes).unwrap();
            let last = layout.geometry().pieces() - 1;
            let done = reader.check(&job(&layout, last));
            assert_eq!(done.verdict, Verdict::Bad);
            let start = last as usize * piece_length as usize;
            let blocks: Vec<_> = bytes[start..].chunks(16_384).map(Digest::of).collect();
            assert_eq!(done.blocks, blocks);
        }
    }

    #[test]
    fn a_piece_over_a_thousand_files_and_padding_opens_one_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("many", 1 << 20);
        for number in 0..1000 {
            author.file(&format!("{}/{number}", number % 7), &noise(number % 40));
            if number % 100 == 0 {
                author.padding(5000);
            }
        }
        author.publish(folder.path());
        let layout = author.layout(folder.path());
        let mut whole = job(&layout, 0);
        whole.by_block = true;
        let done = Reader::default().check(&whole);
        assert_eq!(done.verdict, Verdict::Good);
        let blocks: Vec<_> = author.bytes.chunks(16_384).map(Digest::of).collect();
        assert_eq!(done.blocks, blocks);
        assert!(!folder.path().join("many/.pad").exists());
        for place in &whole.places {
            if let Place::File { file, .. } = place {
                assert!(matches!(
                    file.get_once().unwrap(),
                    crate::storage::layout::Opened::Once(_)
                ));
            }
        }
    }

    #[test]
    fn missing_bytes_are_bad_at_first_and_unreadable_later() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 40_000);
        let layout = author.layout(folder.path());
        let path = &layout.files()[0].path;
        let mut reader = Reader::default();
        let mut look = |initial| {
            let mut one = job(&layout, 1);
            one.initial = initial;
            reader.check(&one)
        };
        for bytes in [None, Some(&author.bytes[..20_000])] {
            if let Some(bytes) = bytes {
                std::fs::write(path, bytes).unwrap();
            }
            assert_eq!(look(true).verdict, Verdict::Bad);
            let later = look(false);
            assert_eq!(later.verdict, Verdict::Unreadable);
            let error = later.error.unwrap();
            assert_eq!((error.kind, &error.path), (StorageTrouble::Vanished, path));
        }
        std::fs::remove_file(path).unwrap();
        std::fs::create_dir(path).unwrap();
        assert_eq!(look(true).verdict, Verdict::Unreadable);
    }

    #[test]
    fn the_thread_answers_every_job_in_order_and_ends() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 200_000);
        author.publish(folder.path());
        let layout = author.layout(Path::new(folder.path()));
        let (tell, told) = crossbeam_channel::bounded(1); // Bound: one, so the thread has to wait.
        let checker = Checker::start(move |done| tell.send(done).is_ok()).unwrap();
        for number in 0..13 {
            checker.ask(job(&layout, number));
        }
        let order: Vec<_> = told.iter().take(13).map(|done| done.piece.get()).collect();
        assert_eq!(order, (0..13).collect::<Vec<_>>());
        drop(checker);
        assert!(told.recv().is_err());
    }
}
