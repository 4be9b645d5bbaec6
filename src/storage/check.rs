//! Hashes pieces as they lie on disk.
//!
//! ```text
//! let checker = Checker::start(move |done| inbox.send(done).is_ok())?;
//! checker.ask(CheckJob { task, piece, places, expected, may_wait, by_block: false, initial: false });
//! ```
//!
//! Reads by position in chunks and never through a map, so a file that shrinks or a medium that fails is
//! an ordinary error.
//!
//! Pieces are hashed side by side ([`lanes`](crate::protocol::digest::lanes)), which pays only if there
//! are several. So a piece waits for company: until there are as many as go side by side, until it has
//! waited 50 ms, or until a piece comes that [must not wait](CheckJob::may_wait). Whoever asks knows
//! whether more is in flight, and says so with each piece: so the last piece of a download is hashed at
//! once, and nobody has to count.

mod cursor;

pub(crate) use self::cursor::will_read;
use self::cursor::{Cursor, Unread};
use super::places::{Place, Places};
use super::reach::is_plain_at;
use super::slot::{StorageError, StorageTrouble};
use crate::protocol::digest::Hasher;
use crate::protocol::digest::lanes::{Lanes, WORTHWHILE, Width};
use crate::protocol::geometry::BLOCK_LENGTH;
use crate::protocol::{Digest, PieceIndex};
use crate::swarm::event::Verdict;
use crossbeam_channel::{Receiver, Sender};
use rustix::fs::SeekFrom;
use std::io;
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// One piece to hash.
#[derive(Debug, Clone)]
pub struct CheckJob {
    /// Which of the client's tasks.
    pub task: usize,
    /// Which piece.
    pub piece: PieceIndex,
    /// Where all its bytes lie, in order.
    pub places: Places,
    /// What its digest must be.
    pub expected: Digest,
    /// The digests of its blocks are wanted whatever the verdict.
    pub by_block: bool,
    /// Part of looking through what an earlier run or somebody else left: missing bytes are nobody's
    /// fault, and nobody asks which block of a bad piece is wrong.
    pub initial: bool,
    /// More pieces are on their way, so this one may wait up to 50 ms to be hashed beside them. Where it
    /// may not, neither do those that wait already.
    pub may_wait: bool,
}

/// What the hash of one piece said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckDone {
    /// As in the job.
    pub task: usize,
    /// As in the job.
    pub piece: PieceIndex,
    /// As in the job.
    pub by_block: bool,
    /// As in the job.
    pub initial: bool,
    /// The outcome.
    pub verdict: Verdict,
    /// The digests of its blocks on the 16 KiB grid: if asked for, or if it is bad and not `initial`.
    pub blocks: Vec<Digest>,
    /// Why it is `Unreadable`.
    pub error: Option<StorageError>,
}

/// How long a piece waits for others to be hashed beside it.
const PATIENCE: Duration = Duration::from_millis(50);

/// For one piece at a time: big enough that the cost of a call does not show, small enough for a cache.
const CHUNK: usize = 128 * 1024;

/// The checker's thread, at work until this is dropped.
#[derive(Debug)]
pub struct Checker {
    jobs: Option<Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
}

/// A piece in the queue.
#[derive(Debug)]
pub(crate) struct Queued {
    job: CheckJob,
    at: Instant,
}

impl Queued {
    /// A piece that is asked about now.
    pub(crate) fn now(job: CheckJob) -> Queued {
        let at = Instant::now();
        Queued { job, at }
    }
}

impl Checker {
    /// Starts the thread. `tell` gets each outcome, in the order of the jobs unless there are so many
    /// that a second thread helps; it may wait, and ends the thread by returning false.
    pub fn start(
        tell: impl FnMut(CheckDone) -> bool + Clone + Send + 'static,
    ) -> io::Result<Checker> {
        // Bound: the sender's. The coordinator has at most one check out for each piece in work, and hands
        // out the initial ones a few at a time as they come back.
        let (jobs, queue) = crossbeam_channel::unbounded();
        let at_once = at_once(descriptors() / SHARE);
        let thread = thread::Builder::new()
            .name("checker".to_owned())
            .stack_size(STACK)
            .spawn(move || lead(&queue, at_once, tell))?;
        Ok(Checker {
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    /// Queues a piece. Never waits.
    pub fn ask(&self, job: CheckJob) {
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send(Queued::now(job)); // a checker that has ended answers nothing, as it said through `tell`
        }
    }

    /// So many pieces wait that no thread has begun with.
    pub fn waiting(&self) -> usize {
        self.jobs.as_ref().map_or(0, Sender::len)
    }
}

/// The deepest call chain is a hash under a read; buffers are on the heap. Only an optimised build keeps
/// the lanes' rows in registers, others have each of some thousand on the stack.
pub(crate) const STACK: usize = if cfg!(debug_assertions) {
    2 * 1024 * 1024
} else {
    128 * 1024
};

impl Drop for Checker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The file descriptors that the system allows.
pub(crate) fn descriptors() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// How many threads hash all of a torrent: one for each core, but no more than read as fast as memory can be
/// read. Each has half a MiB of lanes.
pub fn hashers() -> NonZeroUsize {
    let cores = thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    cores.min(HASHERS_MAX)
}

/// Sixteen.
const HASHERS_MAX: NonZeroUsize = NonZeroUsize::MIN.saturating_add(15);

/// The files that a [`Checker`] has open at most beside those that others keep open, of so many descriptors.
pub(crate) fn files_open(allowed: u64) -> u64 {
    match at_once(allowed / SHARE) as u64 {
        1 => 1,
        each => 2 * each, // while the second thread helps
    }
}

/// Each thread of a [`Checker`] takes so small a part of the descriptors.
const SHARE: u64 = 16;

/// How many pieces a [`Reader`] may hash side by side that may keep `descriptors` files open: one for
/// each piece. 1 is one after the other.
pub(crate) fn at_once(descriptors: u64) -> usize {
    let Some(width) = Width::widest() else {
        return 1;
    };
    let most = usize::try_from(descriptors).unwrap_or(usize::MAX);
    match most.min(width.lanes()) {
        few if few < WORTHWHILE => 1,
        enough => enough,
    }
}

/// [`work`], with a second thread beside it while a full batch waits that this one cannot take.
fn lead<T>(queue: &Receiver<Queued>, at_once: usize, mut tell: T)
where
    T: FnMut(CheckDone) -> bool + Clone + Send,
{
    let cores = thread::available_parallelism().map_or(1, |cores| cores.get());
    thread::scope(|scope| {
        let mut second: Option<thread::ScopedJoinHandle<()>> = None;
        let mut reader = Reader::new(at_once);
        let mut batch = Vec::with_capacity(at_once);
        while gather(queue, at_once, &mut batch) {
            let waits = at_once > 1 && queue.len() >= at_once && cores > 1;
            if waits && second.as_ref().is_none_or(|it| it.is_finished()) {
                let tell = tell.clone();
                let started = thread::Builder::new()
                    .name("checker 2".to_owned())
                    .stack_size(STACK)
                    .spawn_scoped(scope, move || help(queue, at_once, tell));
                second = started.ok(); // without it the same work takes longer
            }
            if !reader.check_all(&mut batch, &mut tell) {
                return;
            }
        }
    });
}

/// Takes full batches as long as there are any.
fn help(queue: &Receiver<Queued>, at_once: usize, mut tell: impl FnMut(CheckDone) -> bool) {
    let mut reader = Reader::new(at_once);
    let mut batch = Vec::with_capacity(at_once);
    while queue.len() >= at_once {
        batch.extend(queue.try_iter().take(at_once).map(|queued| queued.job));
        if !reader.check_all(&mut batch, &mut tell) {
            return;
        }
    }
}

/// Takes jobs until there will be no more, up to `at_once` side by side.
pub(crate) fn work(
    queue: &Receiver<Queued>,
    at_once: usize,
    mut tell: impl FnMut(CheckDone) -> bool,
) {
    let mut reader = Reader::new(at_once);
    let mut batch = Vec::with_capacity(at_once);
    while gather(queue, at_once, &mut batch) && reader.check_all(&mut batch, &mut tell) {}
}

/// Waits for jobs until there are `most`, or the first has waited long enough, or one must not wait.
/// What is there already is taken in any case. False where there will be no more.
fn gather(queue: &Receiver<Queued>, most: usize, batch: &mut Vec<CheckJob>) -> bool {
    let Ok(first) = queue.recv() else {
        return false;
    };
    let deadline = first.at + PATIENCE;
    let mut may_wait = first.job.may_wait;
    batch.push(first.job);
    while batch.len() < most {
        let next = if may_wait {
            queue.recv_deadline(deadline).ok()
        } else {
            queue.try_recv().ok()
        };
        let Some(Queued { job, .. }) = next else {
            break;
        };
        may_wait &= job.may_wait;
        batch.push(job);
    }
    true
}

/// Reads pieces and hashes them, with buffers of its own.
#[derive(Debug)]
pub struct Reader {
    buffer: Box<[u8]>,
    at_once: usize,
    /// Made when first needed.
    lanes: Option<Lanes>,
}

impl Default for Reader {
    fn default() -> Reader {
        Reader::new(1)
    }
}

impl Reader {
    /// A reader that hashes up to `at_once` pieces side by side, and keeps a file open for each.
    pub fn new(at_once: usize) -> Reader {
        Reader {
            buffer: vec![0; CHUNK].into(),
            at_once,
            lanes: None,
        }
    }

    /// Hashes all jobs of `batch`, which is empty afterwards. False as soon as `tell` says so.
    fn check_all(
        &mut self,
        batch: &mut Vec<CheckJob>,
        tell: &mut impl FnMut(CheckDone) -> bool,
    ) -> bool {
        let mut digests = self.side_by_side(batch).into_iter();
        for job in batch.drain(..) {
            let done = match digests.next() {
                Some(digest) => self.conclude(&job, digest, Vec::new()),
                None => self.check(&job),
            };
            drop(job); // closes files nobody else holds before the next are opened
            if !tell(done) {
                return false;
            }
        }
        true
    }

    /// The digests of all jobs of `batch`; of none where they are better looked at one by one: too few,
    /// or the digests of blocks are wanted too, which is rare.
    fn side_by_side(&mut self, batch: &[CheckJob]) -> Vec<Result<Digest, Unread>> {
        let few = batch.len() < WORTHWHILE || self.at_once == 1;
        if few || batch.iter().any(|job| job.by_block) {
            return Vec::new();
        }
        let Some(width) = Width::widest() else {
            return Vec::new();
        };
        let mut cursors: Vec<Cursor> = batch
            .iter()
            .map(|job| Cursor::new(&job.places, false))
            .collect();
        let mut failures: Vec<Option<Unread>> = batch.iter().map(|_| None).collect();
        let lanes = self.lanes.get_or_insert_with(|| Lanes::new(width));
        let digests = lanes.hash(batch.len(), |number, room| {
            cursors[number].fill(room).unwrap_or_else(|unread| {
                failures[number] = Some(unread);
                0 // ends the message; nobody looks at its digest
            })
        });
        let outcome = |(digest, failure): (_, Option<_>)| failure.map_or(Ok(digest), Err);
        digests.into_iter().zip(failures).map(outcome).collect()
    }

    /// Hashes one piece.
    pub fn check(&mut self, job: &CheckJob) -> CheckDone {
        let mut whole = Hasher::default();
        let mut blocks = Blocks::default();
        let read = self.read(&job.places, |bytes| {
            whole.update(bytes);
            if job.by_block {
                blocks.update(bytes);
            }
        });
        let digest = read.map(|()| whole.finish());
        self.conclude(job, digest, blocks.finish())
    }

    /// What follows for a piece from its digest.
    fn conclude(
        &mut self,
        job: &CheckJob,
        digest: Result<Digest, Unread>,
        mut blocks: Vec<Digest>,
    ) -> CheckDone {
        let mut read = digest.map(|digest| digest == job.expected);
        if matches!(read, Ok(false)) && !job.by_block && !job.initial {
            let mut again = Blocks::default();
            let second = self.read(&job.places, |bytes| again.update(bytes));
            read = second.map(|()| false);
            blocks = again.finish();
            if let Some(error) = emptied(&job.places) {
                read = Err(Unread::Missing(error));
            }
        }
        let (verdict, error) = match read {
            Ok(true) => (Verdict::Good, None),
            Ok(false) => (Verdict::Bad, None),
            Err(Unread::Missing(_)) if job.initial => (Verdict::Bad, None),
            Err(Unread::Missing(error) | Unread::Failed(error)) => {
                (Verdict::Unreadable, Some(error))
            }
        };
        if error.is_some() {
            blocks.clear();
        }
        CheckDone {
            task: job.task,
            piece: job.piece,
            by_block: job.by_block,
            initial: job.initial,
            verdict,
            blocks,
            error,
        }
    }

    fn read(&mut self, places: &[Place], mut take: impl FnMut(&[u8])) -> Result<(), Unread> {
        // A piece over many small files opens one at a time; one over few leaves them open for the next.
        let mut cursor = Cursor::new(places, places.len() <= 4);
        loop {
            match cursor.fill(&mut self.buffer)? {
                0 => return Ok(()),
                count => take(&self.buffer[..count]),
            }
        }
    }
}

/// The error of a file with a hole in one of these places, all of which we wrote to: what is written is no hole, be it
/// zeros. So somebody else has cut the file, or emptied a part of it. Told only where that is so for certain.
fn emptied(places: &[Place]) -> Option<StorageError> {
    places.iter().find_map(|place| {
        let Place::File {
            file,
            offset,
            length,
        } = place
        else {
            return None;
        };
        let open = file.get_once().ok().filter(|_| is_plain_at(file.path()))?;
        let hole = rustix::fs::seek(&*open, SeekFrom::Hole(*offset)).ok()?;
        (hole < offset + u64::from(*length)).then(|| StorageError {
            kind: StorageTrouble::Vanished,
            doing: "check",
            path: file.path().to_owned(),
            cause: "a part of it was cut off or emptied meanwhile".to_owned(),
        })
    })
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
    use crate::storage::layout::Layout;
    use crate::storage::lazy_file::Access;
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
            may_wait: false,
        }
    }

    #[test]
    fn of_a_file_that_was_cut_and_made_longer_again_no_peer_is_to_blame() {
        let folder = tempfile::tempdir().unwrap();
        if !is_plain_at(folder.path()) {
            return;
        }
        let author = Author::single("one", 65_536, 131_072);
        author.publish(folder.path());
        let layout = author.layout(folder.path());
        let path = &layout.files()[0].path;
        let check = || Reader::default().check(&job(&layout, 1));
        assert_eq!(check().verdict, Verdict::Good);
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_len(70_000).unwrap();
        file.set_len(131_072).unwrap();
        let done = check();
        assert_eq!((done.verdict, done.blocks.len()), (Verdict::Unreadable, 0));
        assert_eq!(done.error.unwrap().kind, StorageTrouble::Vanished);
        // Zeros that a peer sent are no hole.
        std::fs::write(path, [0; 131_072]).unwrap();
        let done = check();
        assert_eq!((done.verdict, done.error), (Verdict::Bad, None));
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
        for place in whole.places.iter() {
            if let Place::File { file, .. } = place {
                assert!(matches!(
                    file.get_once().unwrap(),
                    crate::storage::lazy_file::Opened::Once(_)
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
    fn pieces_side_by_side_get_the_verdicts_they_get_alone() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("many", 65_536);
        for number in 0..30 {
            author.file(&format!("{number}"), &noise(20_000 + 5 * number));
            author.padding(1 + number);
        }
        author.publish(folder.path());
        let layout = author.layout(folder.path());
        let on_disk = |number: usize| &layout.files()[2 * number].path;
        std::fs::write(on_disk(4), b"short").unwrap();
        std::fs::remove_file(on_disk(17)).unwrap();
        let mut wrong = std::fs::read(on_disk(25)).unwrap();
        wrong[7] ^= 1;
        std::fs::write(on_disk(25), wrong).unwrap();
        for (initial, by_block) in [(true, false), (false, false), (false, true)] {
            let number = |piece: PieceIndex| CheckJob {
                initial,
                by_block: by_block && piece.get() == 3,
                ..job(&layout, piece.get())
            };
            let jobs: Vec<_> = layout.geometry().all_pieces().map(number).collect();
            let mut one_by_one = Reader::default();
            let alone: Vec<_> = jobs.iter().map(|job| one_by_one.check(job)).collect();
            assert!(alone.iter().any(|done| done.verdict == Verdict::Good));
            assert!(alone.iter().any(|done| done.verdict != Verdict::Good));
            let (mut batch, mut beside) = (jobs, Vec::new());
            Reader::new(16).check_all(&mut batch, &mut |done| {
                beside.push(done);
                true
            });
            assert_eq!(beside, alone);
        }
    }

    #[test]
    fn pieces_wait_for_company_and_a_last_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Author::single("one", 16_384, 200_000).layout(folder.path());
        let (ask, queue) = crossbeam_channel::unbounded(); // Bound: the jobs below.
        let send = |number: u32, may_wait| {
            let queued = Queued::now(CheckJob {
                may_wait,
                ..job(&layout, number)
            });
            // None of them has been patient for so long that the clock would matter here.
            let at = queued.at + Duration::from_secs(600);
            ask.send(Queued { at, ..queued }).unwrap();
        };
        let mut batch = Vec::new();
        let mut take = || {
            batch.clear();
            assert!(gather(&queue, 4, &mut batch));
            batch.len()
        };
        (0..6).for_each(|number| send(number, true));
        assert_eq!(take(), 4, "the lanes are full");
        send(6, false);
        assert_eq!(take(), 3, "the last one waits for nobody");
        send(7, false);
        assert_eq!(take(), 1);
        send(8, true);
        let long_ago = Queued::now(job(&layout, 9));
        let at = long_ago.at - 2 * PATIENCE;
        let job = CheckJob {
            may_wait: true,
            ..long_ago.job
        };
        ask.send(Queued { job, at }).unwrap();
        drop(ask);
        assert_eq!(take(), 2, "nobody will come any more");
        assert!(!gather(&queue, 4, &mut Vec::new()));
    }

    #[test]
    fn few_descriptors_mean_few_pieces_at_once() {
        assert_eq!((at_once(0), at_once(1), at_once(3)), (1, 1, 1));
        let most = Width::widest().map_or(1, Width::lanes);
        assert_eq!(at_once(u64::MAX), most);
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
