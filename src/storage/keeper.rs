//! The keeper: one thread that looks what is there, makes room, syncs and writes the record of work.
//!
//! ```text
//! let keeper = Keeper::start(move |done| inbox.send(done).is_ok())?;
//! keeper.ask(task, Job::Survey { layout, rules }, out);    // -> Surveyed: hash what is unsure, then
//! keeper.ask(task, Job::Prepare { have, overwrite }, out); // -> Prepared: blocks may be laid
//! keeper.ask(task, Job::Save { claim, .. }, out);          // -> Saved, again and again
//! keeper.ask(task, Job::LookAnew { files }, out);          // -> LookedAnew: somebody else wrote to them
//! keeper.ask(task, Job::Remove, out);                      // nobody needs the record any more; or
//! keeper.ask(task, Job::Close, out);                       // -> Closed: the record stays
//! ```
//!
//! A job may follow the one before only when that was answered, but a `LookAnew` need not wait for a `Save`:
//! [`Outstanding`], `out` above, knows which may be asked for. The record never claims more than what is on disk: data
//! is synced first, the record is written after that.

mod outstanding;
mod vouching;

pub use outstanding::{JobKind, Outstanding};

use super::allocate::{self, Allocation};
use super::facts::FileTime;
use super::known::Known;
use super::layout::Layout;
use super::lazy_file::written_to;
use super::move_in::MoveIn;
use super::reach;
use super::record::Claim;
use super::record_file::RecordFile;
use super::slot::{StorageError, StorageTrouble};
use super::survey::{self, Found, Survey, SurveyRules};
use super::sync::Sync;
use crate::protocol::PieceIndex;
use crate::protocol::bitfield::Bitfield;
use crossbeam_channel::Sender;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

/// Something for the keeper to do.
#[derive(Debug)]
pub enum Job {
    /// Take the record of a torrent and look what is there. Where files will be written, its folder is made.
    Survey {
        /// The torrent's files.
        layout: Arc<Layout>,
        /// How to judge.
        rules: SurveyRules,
    },
    /// Make folders, files and room for what is missing and wanted, bring what lies aside and is wanted
    /// now into its files, and note in the record that work has begun.
    Prepare {
        /// The pieces that are there and good.
        have: Bitfield,
        /// Files that are too long may be cut.
        overwrite: bool,
    },
    /// Sync, then write the record.
    Save {
        /// What the record shall say, as of now: all of it was written before this job was sent.
        claim: Claim,
        /// The numbers of the files that were written to since the last `Save` was sent.
        touched: BTreeSet<usize>,
        /// The files with pieces that were found good since then, and when the last of them was.
        verified: BTreeMap<usize, FileTime>,
    },
    /// Look how these files are, to which we do not write any more, and read them as they are from now on.
    LookAnew {
        /// Their numbers.
        files: BTreeSet<usize>,
    },
    /// Remove the record and the part file, and let go.
    Remove,
    /// Let go of the record. One that never came to say anything is removed, and so is a folder that
    /// was made for it.
    Close,
}

/// An answer. There is one for each job, in order.
#[derive(Debug)]
pub struct Done {
    /// The task that the job was for.
    pub task: usize,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a job.
#[derive(Debug)]
pub enum Outcome {
    /// Of `Survey`. After an error only `Close` makes sense.
    Surveyed(Result<Box<Survey>, StorageError>),
    /// Of `Prepare`: where everything lies from now on. After an error all is claimed as before. Where it was not
    /// for want of room, the room that was made stays, and what was copied until then.
    Prepared(Result<Arc<Layout>, StorageError>),
    /// Of `Save`.
    Saved(Saved),
    /// Of `LookAnew`.
    LookedAnew(Result<LookedAnew, StorageError>),
    /// Of `Remove`: the record is gone, or why not.
    Removed(Result<(), StorageError>),
    /// Of `Close`.
    Closed,
}

/// How files are that others wrote to.
#[derive(Debug)]
pub struct LookedAnew {
    /// The numbers of those that are not as they were, or not there.
    pub changed: BTreeSet<usize>,
    /// Where everything lies, to be read as long as nobody writes to it from now on.
    pub layout: Arc<Layout>,
}

/// What came of a save.
#[derive(Debug)]
pub enum Saved {
    /// All data is on the medium. If the record could not be written, the text says why: the next start
    /// hashes more than it had to.
    Safe {
        /// One sentence.
        warning: Option<String>,
        /// More files will not be written to any more: where everything lies. These are to be read as long as nobody
        /// else writes to them.
        watched: Option<Arc<Layout>>,
    },
    /// All data is on the medium, but somebody else wrote to files that were whole. The record does not vouch for
    /// them: have them looked at anew, hash what they hold, and save then.
    Changed {
        /// Their numbers.
        files: BTreeSet<usize>,
    },
    /// The medium did not take all data, for the first time, or a file could not be opened for lack of
    /// descriptors (then nothing is in doubt). The record on disk says what it said before; save again.
    Doubtful {
        /// What failed.
        error: StorageError,
        /// Pieces that were claimed to be good and may not be on the medium: hash them again. Whatever was
        /// written since the claim is in doubt as well, which the claimant knows better.
        check: Vec<PieceIndex>,
    },
    /// The medium fails again, is full, or a file is no longer ours. The record on disk is good and stays as it
    /// is: every later save of this task is answered the same.
    Failed(StorageError),
}

/// The keeper's thread, at work until this is dropped.
#[derive(Debug)]
pub struct Keeper {
    jobs: Option<Sender<(usize, Job)>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    /// Starts the thread. `tell` gets each outcome; it may wait, and ends the thread by returning false.
    pub fn start(mut tell: impl FnMut(Done) -> bool + Send + 'static) -> io::Result<Keeper> {
        // Bound: a task has two jobs out at most, a `Save` and a `LookAnew`.
        let (jobs, queue) = crossbeam_channel::unbounded::<(usize, Job)>();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = stop.clone();
        let thread = std::thread::Builder::new()
            .name("keeper".to_owned())
            .stack_size(STACK)
            .spawn(move || {
                let mut tasks: HashMap<usize, Kept> = HashMap::new();
                for (task, job) in queue {
                    let outcome = carry_out(&mut tasks, task, job, &seen);
                    if !tell(Done { task, outcome }) {
                        break;
                    }
                }
                tasks.into_values().for_each(Kept::close);
            })?;
        Ok(Keeper {
            jobs: Some(jobs),
            stop,
            thread: Some(thread),
        })
    }

    /// Queues a job, which must be one that this task may ask for while others are `outstanding`. Never waits.
    pub fn ask(&self, task: usize, job: Job, outstanding: &mut Outstanding) {
        outstanding.asked(job.kind());
        if let Some(jobs) = &self.jobs {
            let _ = jobs.send((task, job)); // a keeper that has ended was told to by `tell`
        }
    }

    /// We are leaving: whatever is being allocated need not be finished.
    pub fn hurry(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Paths and calls of the system; buffers are on the heap.
const STACK: usize = 256 * 1024;

impl Drop for Keeper {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the keeper knows of one task.
#[derive(Debug)]
struct Kept {
    layout: Arc<Layout>,
    /// Files may be written and removed; else nothing but the record.
    writable: bool,
    record: Option<RecordFile>,
    known: Known,
    /// There may be a part file.
    part_there: bool,
    /// What was on the medium at the last good sync, for certain.
    safe: Claim,
    /// Files that may hold unsynced data whatever the next save names: an earlier run wrote them, or a sync failed.
    unsynced: BTreeSet<usize>,
    /// All that is wanted is here, and all files are as we left them.
    finished: bool,
    /// Folders whose new names are not synced.
    folders: BTreeSet<PathBuf>,
    /// Folders made for the record.
    made: Vec<PathBuf>,
    /// The medium did not take data once already.
    has_failed: bool,
    /// Why nothing is believed any more: after that a sync may succeed and mean nothing.
    given_up: Option<StorageError>,
}

fn carry_out(
    tasks: &mut HashMap<usize, Kept>,
    task: usize,
    job: Job,
    stop: &AtomicBool,
) -> Outcome {
    match (job, tasks.get_mut(&task)) {
        (Job::Survey { layout, rules }, _) => {
            Outcome::Surveyed(begin(layout, rules).map(|(kept, survey)| {
                tasks.insert(task, kept);
                Box::new(survey)
            }))
        }
        (Job::Prepare { have, overwrite }, Some(kept)) => {
            Outcome::Prepared(kept.prepare(&have, overwrite, stop))
        }
        (
            Job::Save {
                claim,
                touched,
                verified,
            },
            Some(kept),
        ) => {
            kept.known.verified(verified);
            Outcome::Saved(kept.save(claim, touched))
        }
        (Job::LookAnew { files }, Some(kept)) => Outcome::LookedAnew(Ok(kept.look_anew(&files))),
        (Job::Remove, _) => Outcome::Removed(match tasks.remove(&task) {
            Some(kept) => kept.remove(),
            None => Ok(()),
        }),
        (Job::Close, _) => {
            tasks.remove(&task).into_iter().for_each(Kept::close);
            Outcome::Closed
        }
        (Job::Prepare { .. }, None) => Outcome::Prepared(Err(not_surveyed())),
        (Job::LookAnew { .. }, None) => Outcome::LookedAnew(Err(not_surveyed())),
        (Job::Save { .. }, None) => Outcome::Saved(Saved::Failed(not_surveyed())),
    }
}

fn not_surveyed() -> StorageError {
    StorageError {
        kind: StorageTrouble::Broken,
        doing: "keep",
        path: PathBuf::new(),
        cause: "nothing was surveyed".to_owned(),
    }
}

/// Takes the record and looks what is there.
fn begin(layout: Arc<Layout>, rules: SurveyRules) -> Result<(Kept, Survey), StorageError> {
    let mut made = Vec::new();
    if rules.writable {
        reach::create_root(layout.folder(), &mut made)?;
    }
    let mut taken = match RecordFile::take_for(&layout) {
        Ok(taken) => taken,
        Err(error) => {
            reach::unmake(layout.folder(), made);
            return Err(error);
        }
    };
    let (record, ours) = taken.record(&layout);
    let mut layout = layout;
    if let Some(part) = record.as_ref().and_then(|record| record.part.as_ref()) {
        layout = Arc::new(layout.as_recorded(part.open.clone(), &part.aside));
    }
    let found = if rules.writable {
        survey::look(&layout)
    } else {
        survey::look_to_read(Arc::make_mut(&mut layout))
    };
    let survey = survey::judge(&layout, &found, record, rules);
    let mut survey = match survey {
        Ok(survey) => survey,
        Err(error) => {
            taken.file.into_iter().for_each(RecordFile::release);
            reach::unmake(layout.folder(), made);
            return Err(error);
        }
    };
    survey.foreign &= !ours;
    survey.warnings = taken.warnings;
    let kept = Kept {
        writable: rules.writable,
        record: taken.file,
        made,
        ..Kept::found(layout, &found, &survey)
    };
    Ok((kept, survey))
}

impl Kept {
    /// What is known after a survey: without a record yet, and of files that are only read.
    fn found(layout: Arc<Layout>, found: &[Found], survey: &Survey) -> Kept {
        let geometry = *layout.geometry();
        let mut unsynced = BTreeSet::new();
        for piece in geometry.all_pieces() {
            if survey.unsure.has(piece) {
                unsynced.extend(layout.runs_of_piece(piece).map(|run| run.file));
            }
        }
        unsynced.retain(|number| matches!(found[*number], Found::File(_)));
        Kept {
            known: Known::new(found, layout.files().len()),
            writable: false,
            safe: Claim {
                have: survey.trusted.clone(),
                laid: survey.laid.clone(),
                downloaded: survey.downloaded,
                uploaded: survey.uploaded,
                ..Claim::nothing(&geometry)
            },
            part_there: layout.part_path().symlink_metadata().is_ok(),
            record: None,
            layout,
            unsynced,
            finished: false,
            folders: BTreeSet::new(),
            made: Vec::new(),
            has_failed: false,
            given_up: None,
        }
    }

    fn prepare(
        &mut self,
        have: &Bitfield,
        overwrite: bool,
        stop: &AtomicBool,
    ) -> Result<Arc<Layout>, StorageError> {
        let present = |number: usize| {
            let length = self.layout.files()[number].length;
            self.known
                .of(number)
                .is_some_and(|facts| facts.length == length)
        };
        let next = Arc::new(self.layout.at_work(present, have));
        let move_in = MoveIn::between(&self.layout, &next, |piece| {
            have.has(piece) || self.safe.speaks_of(piece)
        });
        // Room is made for what is to be moved as for what is to be fetched.
        let mut settled = next.settled(have);
        move_in.pieces().for_each(|piece| {
            settled.clear(piece);
        });
        let room = allocate::make_room(Allocation {
            layout: &next,
            have: &settled,
            overwrite,
            stop,
        })?;
        self.known.prepared(room.facts, room.open);
        self.part_there |= self.known.part().is_some();
        self.folders.extend(room.folders);
        let moved = !move_in.is_empty() && !stop.load(Ordering::Relaxed);
        if moved {
            let files = move_in.carry_out(&self.layout, &next)?;
            Sync {
                layout: &next,
                files: &files,
                folders: &self.folders,
                times: false,
            }
            .carry_out(&mut self.known)
            .map_err(|failed| failed.error)?;
        }
        if move_in.is_empty() || moved {
            self.layout = next;
        }
        if !stop.load(Ordering::Relaxed)
            && let Some(number) = self.finish(have)?.first()
        {
            // While we looked at it.
            return Err(written_to("use", &self.layout.place(*number).path));
        }
        self.layout = Arc::new(self.known.watched(&self.layout));
        if moved || !self.layout.wanted_pieces().is_within(have) {
            // From here on blocks are laid. If the record cannot be written, the next save says so.
            let _ = self.write_record();
        }
        Ok(self.layout.clone())
    }

    fn save(&mut self, claim: Claim, touched: BTreeSet<usize>) -> Saved {
        if let Some(error) = &self.given_up {
            return Saved::Failed(error.clone());
        }
        let mut files = std::mem::take(&mut self.unsynced);
        files.extend(touched);
        if claim.clean {
            // Preparing a slot changes a file's time even if its block never came.
            files.extend(self.known.written());
        }
        // What is not claimed need not be safe: a seed must not fail over a file that it cannot read.
        let claimed = |file: &usize| self.is_claimed(*file, &claim);
        let (files, unclaimed): (BTreeSet<_>, BTreeSet<_>) = files.into_iter().partition(claimed);
        let synced = Sync {
            layout: &self.layout,
            files: &files,
            folders: &self.folders,
            times: claim.clean,
        }
        .carry_out(&mut self.known);
        match synced {
            Ok(()) => {
                self.folders.clear();
                self.unsynced = unclaimed;
                self.safe = claim;
                self.vouch().unwrap_or_else(|error| {
                    self.given_up = Some(error.clone());
                    Saved::Failed(error)
                })
            }
            // The record has these as they were, so whoever reads it sees that they are others; whoever sends
            // something of them sees it sooner.
            Err(failed) if !self.writable && failed.says_nothing_of_the_medium() => {
                let others = files.difference(&failed.files).chain(&unclaimed);
                self.unsynced = others.copied().collect();
                self.save(claim, BTreeSet::new())
            }
            Err(failed) => {
                self.unsynced = files.union(&unclaimed).copied().collect();
                self.doubt(&claim, failed)
            }
        }
    }

    /// Whether `claim` speaks of any byte of the file.
    fn is_claimed(&self, file: usize, claim: &Claim) -> bool {
        let mut pieces = self.layout.runs_in(file).map(|(piece, _)| piece);
        pieces.any(|piece| claim.speaks_of(piece))
    }

    fn remove(mut self) -> Result<(), StorageError> {
        // A record that speaks of a part file that is gone only means more to fetch.
        let part = self.remove_part();
        let record = self.record.take().map_or(Ok(()), RecordFile::remove);
        part.and(record)
    }

    fn close(mut self) {
        self.record.into_iter().for_each(RecordFile::release);
        reach::unmake(self.layout.folder(), std::mem::take(&mut self.made)); // only what is empty goes
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::glob::Glob;
    use crate::protocol::selection::Selection;
    use crate::storage::check::{CheckJob, Reader};
    use crate::storage::lazy_file::{self, Access};
    use crate::storage::open_files::OpenFiles;
    use crate::storage::record::LaidBlocks;
    use crate::storage::slot::ReadableBlock;
    use crate::storage::sync::Unsynced;
    use crate::storage::test_torrent::{Author, noise};
    use crate::swarm::event::Verdict;
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
    use std::path::Path;

    const GET: SurveyRules = SurveyRules {
        writable: true,
        check: false,
        overwrite: false,
    };
    const SEED: SurveyRules = SurveyRules {
        writable: false,
        ..GET
    };

    /// A keeper without its thread, and the coordinator's part played by hand.
    struct Desk {
        tasks: HashMap<usize, Kept>,
        layout: Arc<Layout>,
        author_bytes: Vec<u8>,
        claim: Claim,
        touched: BTreeSet<usize>,
        verified: BTreeMap<usize, FileTime>,
    }

    impl Desk {
        fn new(author: &Author, folder: &Path) -> Desk {
            let layout = author.layout(folder);
            Desk {
                tasks: HashMap::new(),
                claim: Claim::nothing(layout.geometry()),
                layout,
                author_bytes: author.bytes.clone(),
                touched: BTreeSet::new(),
                verified: BTreeMap::new(),
            }
        }

        /// A run with `--only`.
        fn only(author: &Author, folder: &Path, globs: &[&str]) -> Desk {
            let metainfo = author.metainfo();
            let globs: Vec<_> = globs.iter().map(|it| Glob::new(it).unwrap()).collect();
            let wanted = Selection::of(&metainfo, &globs);
            assert!(!wanted.is_nothing());
            Desk {
                layout: Arc::new(Layout::of(&metainfo, folder, wanted)),
                ..Desk::new(author, folder)
            }
        }

        fn ask(&mut self, job: Job) -> Outcome {
            carry_out(&mut self.tasks, 0, job, &AtomicBool::new(false))
        }

        fn survey(&mut self, rules: SurveyRules) -> Result<Survey, StorageError> {
            let layout = self.layout.clone();
            match self.ask(Job::Survey { layout, rules }) {
                Outcome::Surveyed(outcome) => {
                    let survey = *outcome?;
                    self.claim.have = survey.trusted.clone();
                    self.claim.laid = survey.laid.clone();
                    self.layout = survey.layout.clone();
                    Ok(survey)
                }
                other => panic!("{other:?}"),
            }
        }

        /// Hashes what is unsure; how many pieces that were.
        fn check(&mut self, survey: &Survey) -> usize {
            let mut open_files = OpenFiles::new(8);
            let pieces = self.layout.geometry().all_pieces();
            let unsure: Vec<_> = pieces.filter(|piece| survey.unsure.has(*piece)).collect();
            for &piece in &unsure {
                let done = Reader::default().check(&CheckJob {
                    task: 0,
                    piece,
                    places: open_files.piece(&self.layout, piece, Access::Read),
                    expected: self.layout.piece_digest(piece),
                    by_block: false,
                    initial: true,
                    may_wait: false,
                });
                if done.verdict == Verdict::Good {
                    self.claim.have.set(piece);
                }
            }
            unsure.len()
        }

        fn prepare(&mut self, overwrite: bool) -> Result<(), StorageError> {
            let have = self.claim.have.clone();
            match self.ask(Job::Prepare { have, overwrite }) {
                Outcome::Prepared(outcome) => {
                    self.layout = outcome?;
                    Ok(())
                }
                other => panic!("{other:?}"),
            }
        }

        /// What every run does before it asks anybody for anything; how many pieces it hashed.
        fn begin(&mut self) -> usize {
            let survey = self.survey(GET).unwrap();
            assert!(survey.warnings.is_empty(), "{:?}", survey.warnings);
            let hashed = self.check(&survey);
            self.prepare(false).unwrap();
            hashed
        }

        /// Fetches every wanted piece that is missing; says which these were.
        fn fetch_wanted(&mut self) -> Vec<u32> {
            let pieces = self.layout.wanted_pieces().pieces(self.layout.geometry());
            let missing: Vec<_> = pieces.filter(|it| !self.claim.have.has(*it)).collect();
            missing.iter().for_each(|piece| self.fetch(piece.get()));
            missing.into_iter().map(PieceIndex::get).collect()
        }

        /// Everything that is claimed is there: hashed where the layout says it lies.
        fn verify(&self) {
            let mut open_files = OpenFiles::new(8);
            for piece in self.claim.have.pieces(self.layout.geometry()) {
                let done = Reader::default().check(&CheckJob {
                    task: 0,
                    piece,
                    places: open_files.piece(&self.layout, piece, Access::Read),
                    expected: self.layout.piece_digest(piece),
                    by_block: false,
                    initial: true,
                    may_wait: false,
                });
                assert_eq!(done.verdict, Verdict::Good, "{piece:?}: {done:?}");
            }
        }

        /// The visible files below the torrent's folder, by name.
        fn visible(&self) -> Vec<String> {
            let root = self.layout.folder().join(self.layout.name());
            let mut names: Vec<_> = std::fs::read_dir(root)
                .map(|found| {
                    found
                        .map(|it| it.unwrap().file_name().into_string().unwrap())
                        .collect()
                })
                .unwrap_or_default();
            names.sort();
            names
        }

        /// Lays a piece as a peer thread would.
        fn fetch(&mut self, index: u32) {
            let piece = self.layout.geometry().piece(index).unwrap();
            self.lay(index);
            self.claim.have.set(piece);
            let runs = self.layout.runs_of_piece(piece);
            let now = lazy_file::now();
            self.verified.extend(runs.map(|run| (run.file, now)));
        }

        fn lay(&mut self, index: u32) {
            let piece = self.layout.geometry().piece(index).unwrap();
            let mut at = self.layout.geometry().piece_start(piece) as usize;
            for run in self.layout.runs_of_piece(piece) {
                let bytes = &self.author_bytes[at..at + run.length as usize];
                at += run.length as usize;
                let file = self.layout.place(run.file);
                if !file.padding {
                    let open = reach::open_to_write(self.layout.folder(), &file.path).unwrap();
                    open.write_all_at(bytes, run.offset).unwrap();
                    self.touched.insert(run.file);
                }
            }
        }

        fn save(&mut self, clean: bool) -> Saved {
            self.claim.clean = clean;
            let claim = self.claim.clone();
            let touched = std::mem::take(&mut self.touched);
            let verified = std::mem::take(&mut self.verified);
            match self.ask(Job::Save {
                claim,
                touched,
                verified,
            }) {
                Outcome::Saved(saved) => saved,
                other => panic!("{other:?}"),
            }
        }

        fn save_well(&mut self, clean: bool) {
            match self.save(clean) {
                Saved::Safe { warning: None, .. } => {}
                other => panic!("{other:?}"),
            }
        }

        /// Downloads everything, leaves in good order.
        fn get_all(&mut self) {
            let survey = self.survey(GET).unwrap();
            self.check(&survey);
            self.prepare(false).unwrap();
            for piece in self.layout.geometry().all_pieces() {
                self.fetch(piece.get());
            }
            self.save_well(true);
            self.close();
        }

        fn close(&mut self) {
            assert!(matches!(self.ask(Job::Close), Outcome::Closed));
        }

        /// What kill -9 does: nothing is tidied up, locks go.
        fn kill(&mut self) {
            self.tasks.clear();
        }

        fn record(&self) -> PathBuf {
            let name = crate::storage::record::file_name(self.layout.name());
            self.layout.folder().join(name)
        }

        fn path(&self, file: usize) -> &Path {
            &self.layout.files()[file].path
        }
    }

    fn mixed() -> Author {
        let mut author = Author::new("mixed", 16_384);
        author.file("empty", b"");
        author.file("a/one", &noise(1));
        author.file("a/odd", &noise(16_385));
        author.padding(16_382);
        author.file("big", &noise(100_000)).executable = true;
        for number in 0..50 {
            author.file(&format!("small/{number}"), &noise(100 + number));
        }
        author.file("last", b"");
        author
    }

    /// Seven pieces over three files; every file shares a piece with its neighbour, and `b` has three
    /// pieces of its own.
    fn three() -> Author {
        let mut author = Author::new("three", 16_384);
        author.file("a", &noise(20_000));
        author.file("none", b"");
        author.file("b", &noise(70_000));
        author.file("c", &noise(16_384));
        author
    }

    #[test]
    fn with_only_no_byte_reaches_an_unwanted_file_and_the_pieces_are_whole_all_the_same() {
        for (globs, names, pieces) in [
            (&["a"][..], &["a"][..], &[0, 1][..]),
            (&["b"], &["b"], &[1, 2, 3, 4, 5]),
            (&["c"], &["c"], &[5, 6]),
            (&["a", "c"], &["a", "c"], &[0, 1, 5, 6]),
            (&["none"], &["none"], &[]),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let author = three();
            let mut desk = Desk::only(&author, folder.path(), globs);
            desk.begin();
            assert_eq!(desk.fetch_wanted(), pieces);
            desk.verify();
            assert_eq!(desk.visible(), names);
            for (file, bytes) in desk.layout.files().iter().zip(author.contents()) {
                if let Ok(found) = std::fs::read(&file.path) {
                    assert!(found == bytes, "{globs:?}: {}", file.path.display());
                }
            }
            desk.save_well(true);
            desk.close();
            // The next run of the same kind trusts it all.
            let mut next = Desk::only(&author, folder.path(), globs);
            assert_eq!(next.begin(), 0);
            assert_eq!(next.fetch_wanted(), [0u32; 0]);
            next.verify();
            assert!(matches!(next.ask(Job::Remove), Outcome::Removed(Ok(()))));
            assert_eq!(entries(folder.path()), 1, "record and part file are gone");
        }
    }

    #[test]
    fn padding_is_shared_with_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("padded", 16_384);
        author.file("a", &noise(20_000));
        author.padding(12_768);
        author.file("b", &noise(5_000));
        author.padding(11_384);
        author.file("c", &noise(40_000));
        let mut desk = Desk::only(&author, folder.path(), &["b", "c"]);
        desk.begin();
        assert_eq!(desk.fetch_wanted(), [2, 3, 4, 5]);
        desk.verify();
        assert_eq!(desk.visible(), ["b", "c"]);
        assert!(!desk.layout.part_path().exists());
    }

    #[test]
    fn a_small_file_of_a_huge_torrent_needs_little_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("huge", 16_384);
        author.file("small", &noise(20_000));
        author.file("huge", &noise(20_000));
        let mut metainfo = author.metainfo();
        // More than a disk of these days has free.
        metainfo.geometry = crate::protocol::Geometry::new(1 << 46, 1 << 25).unwrap();
        metainfo.files[1].length = (1 << 46) - 20_000;
        let digest = metainfo.piece_digests[0];
        metainfo.piece_digests = vec![digest; metainfo.geometry.pieces() as usize].into();
        let globs = [Glob::new("small").unwrap()];
        let wanted = Selection::of(&metainfo, &globs);
        let mut desk = Desk::new(&author, folder.path());
        desk.layout = Arc::new(Layout::new(&metainfo, folder.path()));
        desk.claim = Claim::nothing(desk.layout.geometry());
        desk.survey(GET).unwrap();
        assert!(desk.prepare(false).is_err(), "all of it does not fit");
        desk.close();
        desk.layout = Arc::new(Layout::of(&metainfo, folder.path(), wanted));
        desk.begin();
        assert_eq!(desk.visible(), ["small"]);
        let part = desk.layout.part_path().metadata().unwrap();
        assert_eq!(
            part.len(),
            1 << 25,
            "room for both ends in the shared piece"
        );
    }

    #[test]
    fn a_run_that_wants_more_takes_over_what_lay_aside_and_fetches_the_rest() {
        let author = three();
        for killed in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::only(&author, folder.path(), &["a"]);
            desk.begin();
            desk.fetch_wanted();
            desk.save_well(!killed);
            if killed {
                desk.kill()
            } else {
                desk.close()
            }
            let mut desk = Desk::only(&author, folder.path(), &["a", "b"]);
            desk.begin();
            assert_eq!(desk.visible(), ["a", "b"]);
            assert_eq!(desk.fetch_wanted(), [2, 3, 4, 5]);
            desk.verify();
            desk.save_well(!killed);
            if killed {
                desk.kill()
            } else {
                desk.close()
            }
            let mut desk = Desk::new(&author, folder.path());
            desk.begin();
            assert_eq!(desk.fetch_wanted(), [6]);
            desk.verify();
            desk.save_well(true);
            assert!(!desk.layout.part_path().exists(), "nothing lies aside");
            for (file, bytes) in desk.layout.files().iter().zip(author.contents()) {
                assert!(std::fs::read(&file.path).unwrap() == bytes);
            }
        }
    }

    #[test]
    fn a_run_that_wants_less_or_other_files_leaves_what_is_there_and_claims_nothing_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let author = three();
        let mut desk = Desk::only(&author, folder.path(), &["a", "b"]);
        desk.begin();
        desk.fetch(0);
        desk.fetch(5); // shared by b, which is wanted, and c, which is not
        desk.save_well(true);
        desk.close();
        let mut desk = Desk::only(&author, folder.path(), &["a"]);
        assert_eq!(desk.begin(), 0);
        assert_eq!(desk.fetch_wanted(), [1]);
        desk.verify();
        assert_eq!(desk.claim.have.count(), 3);
        desk.save_well(true);
        desk.close();
        // Somebody tidies up: what lay in b is gone, whatever the part file still holds.
        std::fs::remove_file(desk.path(2)).unwrap();
        let mut desk = Desk::only(&author, folder.path(), &["c"]);
        desk.begin();
        assert_eq!(desk.visible(), ["a", "c"]);
        assert_eq!(desk.fetch_wanted(), [5, 6]);
        desk.verify();
        desk.save_well(true);
        desk.close();
        let mut desk = Desk::new(&author, folder.path());
        desk.begin();
        assert_eq!(desk.fetch_wanted(), [1, 2, 3, 4]);
        desk.verify();
        desk.save_well(true);
        assert!(desk.claim.have.is_full() && !desk.layout.part_path().exists());
    }

    #[test]
    fn an_unwanted_file_that_somebody_put_there_is_read_and_never_written() {
        let folder = tempfile::tempdir().unwrap();
        let author = three();
        let own = noise(70_000 - 1);
        let mut desk = Desk::only(&author, folder.path(), &["a"]);
        std::fs::create_dir(folder.path().join("three")).unwrap();
        std::fs::write(desk.path(2), &own).unwrap();
        desk.begin();
        desk.fetch_wanted();
        desk.verify();
        desk.save_well(true);
        assert!(std::fs::read(desk.path(2)).unwrap() == own);
        desk.close();

        // The author's own bytes there make the shared piece whole without a part file.
        let folder = tempfile::tempdir().unwrap();
        author.publish(folder.path());
        let mut desk = Desk::only(&author, folder.path(), &["a"]);
        assert_eq!(desk.begin(), 2, "only what is wanted is hashed");
        assert_eq!(desk.fetch_wanted(), [0u32; 0]);
        assert!(!desk.layout.part_path().exists());
    }

    #[test]
    fn blocks_of_an_unfinished_shared_piece_move_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("two", 65_536);
        author.file("a", &noise(10_000));
        author.file("b", &noise(100_000));
        let mut desk = Desk::only(&author, folder.path(), &["a"]);
        desk.begin();
        desk.lay(0);
        let shared = desk.layout.geometry().piece(0).unwrap();
        let mut blocks = LaidBlocks::new(desk.layout.geometry(), shared);
        (0..3).for_each(|number| blocks.set(number));
        desk.claim.laid.push(blocks.clone());
        desk.save_well(true);
        desk.close();
        let mut desk = Desk::only(&author, folder.path(), &["b"]);
        desk.begin();
        assert_eq!(desk.claim.laid, [blocks]);
        let start = std::fs::read(desk.path(1)).unwrap();
        assert!(start[..39_152] == author.bytes[10_000..49_152]);
    }

    #[test]
    fn a_part_file_that_was_changed_or_lost_is_not_believed() {
        type Change = fn(&Path);
        let changes: [Change; 3] = [
            |path| std::fs::remove_file(path).unwrap(),
            |path| std::fs::write(path, noise(12_768)).unwrap(),
            |path| std::fs::write(path, noise(5)).unwrap(),
        ];
        for change in changes {
            let folder = tempfile::tempdir().unwrap();
            let author = three();
            let mut desk = Desk::only(&author, folder.path(), &["a"]);
            desk.begin();
            desk.fetch_wanted();
            desk.save_well(true);
            desk.close();
            change(&desk.layout.part_path());
            let mut desk = Desk::only(&author, folder.path(), &["a"]);
            desk.begin();
            assert_eq!(desk.fetch_wanted(), [1]);
            desk.verify();
            desk.save_well(true);
        }
    }

    #[test]
    fn a_seed_serves_what_lies_aside_and_leaves_it_there() {
        let folder = tempfile::tempdir().unwrap();
        let author = three();
        let mut desk = Desk::only(&author, folder.path(), &["a"]);
        desk.begin();
        desk.fetch_wanted();
        desk.save_well(true);
        desk.close();
        let mut seed = Desk::new(&author, folder.path());
        let survey = seed.survey(SEED).unwrap();
        assert_eq!(survey.trusted.count(), 2);
        seed.verify();
        seed.save_well(true);
        seed.close();
        assert!(seed.layout.part_path().exists() && seed.record().exists());
    }

    fn entries(folder: &Path) -> usize {
        std::fs::read_dir(folder).unwrap().count()
    }

    #[test]
    fn a_fresh_download_ends_with_the_authors_bytes_and_is_not_hashed_again() {
        let folder = tempfile::tempdir().unwrap();
        let author = mixed();
        let mut desk = Desk::new(&author, folder.path());
        let survey = desk.survey(GET).unwrap();
        assert!(survey.trusted.is_empty() && survey.unsure.is_empty() && !survey.foreign);
        desk.close();
        assert_eq!(
            entries(folder.path()),
            0,
            "nothing was kept, nothing is left"
        );

        desk.get_all();
        for (file, bytes) in desk.layout.files().iter().zip(author.contents()) {
            match std::fs::read(&file.path) {
                Ok(found) => assert!(found == bytes, "{}", file.path.display()),
                Err(_) => assert!(file.padding),
            }
        }
        let mode = desk.path(4).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o100, 0o100, "{mode:o}");

        for rules in [GET, SEED] {
            let survey = desk.survey(rules).unwrap();
            assert!(survey.trusted.is_full() && survey.unsure.is_empty());
            assert_eq!(survey.warnings, Vec::<String>::new());
            desk.close();
        }
        let everything = SurveyRules { check: true, ..GET };
        let survey = desk.survey(everything).unwrap();
        assert!(survey.trusted.is_empty() && survey.unsure.is_full());
        desk.close();
        desk.survey(GET).unwrap();
        assert!(matches!(desk.ask(Job::Remove), Outcome::Removed(Ok(()))));
        assert_eq!(entries(folder.path()), 1, "the record is gone");
    }

    #[test]
    fn files_of_every_odd_size_get_their_exact_length() {
        for size in [1, 4095, 4096, 4097, 16383, 16384, 16385, 65_537] {
            let folder = tempfile::tempdir().unwrap();
            let author = Author::single("one", 32_768, size);
            let mut desk = Desk::new(&author, folder.path());
            desk.get_all();
            assert!(
                std::fs::read(desk.path(0)).unwrap() == author.bytes,
                "{size}"
            );
        }
    }

    #[test]
    fn after_a_kill_recorded_pieces_are_trusted_and_others_with_data_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 20 * 16_384);
        let mut desk = Desk::new(&author, folder.path());
        desk.survey(GET).unwrap();
        desk.prepare(false).unwrap();
        (0..5).for_each(|index| desk.fetch(index));
        let unfinished = desk.layout.geometry().piece(9).unwrap();
        let mut blocks = LaidBlocks::new(desk.layout.geometry(), unfinished);
        blocks.set(0);
        desk.claim.laid.push(blocks.clone());
        desk.claim.uploaded = 77;
        desk.save_well(false);
        (5..8).for_each(|index| desk.fetch(index));
        desk.kill();

        let mut next = Desk::new(&author, folder.path());
        let survey = next.survey(GET).unwrap();
        assert_eq!(survey.trusted.count(), 5);
        assert_eq!((survey.laid, survey.uploaded), (vec![blocks], 77));
        assert!(!survey.foreign);
        let survey = Survey {
            laid: vec![],
            ..survey
        };
        assert_eq!(next.check(&survey), 3, "what was never written is not read");
        assert_eq!(next.claim.have.count(), 8);
        next.prepare(false).unwrap();
        // The three that an earlier run wrote and never synced are synced by this save, named or not.
        assert_eq!(next.tasks[&0].unsynced, BTreeSet::from([0]));
        next.save_well(true);
        next.close();
        assert_eq!(next.survey(GET).unwrap().trusted.count(), 8);
    }

    #[test]
    fn a_file_that_was_changed_replaced_cut_or_deleted_is_not_trusted() {
        let author = mixed();
        let touch = |path: &Path| {
            let bytes = std::fs::read(path).unwrap();
            std::fs::write(path, bytes).unwrap();
            let file = std::fs::File::options().write(true).open(path).unwrap();
            let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
            file.set_modified(later).unwrap();
        };
        let cut = |path: &Path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(50_000).unwrap();
        };
        let delete = |path: &Path| std::fs::remove_file(path).unwrap();
        type Case<'a> = (&'a dyn Fn(&Path), u32, u32);
        let cases: [Case; 3] = [(&touch, 7, 0), (&cut, 3, 4), (&delete, 0, 7)];
        for (number, (change, unsure, absent)) in cases.into_iter().enumerate() {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&author, folder.path());
            desk.get_all();
            change(desk.path(4));
            let pieces = desk.layout.geometry().pieces();
            let survey = desk.survey(GET).unwrap();
            assert_eq!(survey.unsure.count(), unsure, "case {number}");
            assert_eq!(
                survey.trusted.count(),
                pieces - unsure - absent,
                "case {number}"
            );
            assert!(!survey.foreign);
            desk.check(&survey);
            assert_eq!(desk.claim.have.count(), pieces - absent);
            desk.prepare(false).unwrap();
            assert_eq!(desk.path(4).metadata().unwrap().len(), 100_000);
        }
    }

    #[test]
    fn nor_is_one_with_its_old_time_that_was_replaced_written_to_or_copied() {
        let write = write_into;
        let replace = |path: &Path| {
            std::fs::copy(path, path.with_extension("new")).unwrap();
            write(&path.with_extension("new"));
            std::fs::rename(path.with_extension("new"), path).unwrap();
        };
        let copy_all = |path: &Path| {
            let copies = path.parent().unwrap().with_extension("new");
            std::fs::create_dir(&copies).unwrap();
            std::fs::copy(path, copies.join("complete")).unwrap();
            std::fs::rename(copies.join("complete"), path).unwrap();
        };
        for change in [&write as &dyn Fn(&Path), &replace, &copy_all] {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&two(), folder.path());
            desk.get_all();
            with_its_old_time(desk.path(0), change);
            let survey = desk.survey(GET).unwrap();
            assert_eq!((survey.trusted.count(), survey.unsure.count()), (2, 1));
        }
    }

    /// What another program does that puts the file's time back, in another tick of the file system's clock, which goes
    /// on a few times in a hundredth of a second.
    fn with_its_old_time(path: &Path, change: impl Fn(&Path)) {
        let changed = |path: &Path| {
            let found = path.metadata().unwrap();
            (found.ctime(), found.ctime_nsec())
        };
        let (before, modified) = (changed(path), path.metadata().unwrap().modified().unwrap());
        let probe = path.with_extension("probe");
        while std::fs::write(&probe, "").is_ok() && changed(&probe) <= before {}
        std::fs::remove_file(probe).unwrap();
        change(path);
        let open = std::fs::File::options().write(true).open(path).unwrap();
        open.set_modified(modified).unwrap();
    }

    /// Two files, a piece and two pieces long.
    fn two() -> Author {
        let mut author = Author::new("two", 16_384);
        author.file("complete", &noise(16_384));
        author.file("unfinished", &noise(32_768));
        author
    }

    /// What another program does, later than the clock of the file system can show as the same time.
    fn write_into(path: &Path) {
        let open = std::fs::File::options().write(true).open(path).unwrap();
        open.write_all_at(b"hello", 100).unwrap();
        let later = std::time::SystemTime::now() + std::time::Duration::from_secs(5);
        open.set_modified(later).unwrap();
    }

    #[test]
    fn no_save_vouches_for_what_somebody_wrote_into_a_complete_file() {
        for clean in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&two(), folder.path());
            desk.begin();
            desk.fetch(0);
            desk.save_well(false);
            write_into(desk.path(0));
            desk.fetch(1);
            desk.save_well(clean);
            desk.close();
            let mut next = Desk::new(&two(), folder.path());
            assert_eq!(next.begin(), 1, "clean: {clean}");
            assert_eq!(next.fetch_wanted(), [0, 2]);
        }
    }

    #[test]
    fn nor_for_what_somebody_wrote_into_it_before_the_first_save() {
        for clean in [true, false] {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&two(), folder.path());
            desk.begin();
            desk.fetch(0);
            desk.fetch(1);
            write_into(desk.path(0));
            assert_eq!(changed(desk.save(clean)), [0]);
            desk.kill();
            let mut next = Desk::new(&two(), folder.path());
            assert_eq!(next.begin(), 1, "clean: {clean}");
            assert_eq!(next.fetch_wanted(), [0, 2]);
        }
    }

    #[test]
    fn nor_for_what_somebody_cut_off_while_the_file_was_fetched_and_made_longer_again() {
        let folder = tempfile::tempdir().unwrap();
        if !reach::is_plain_at(folder.path()) {
            return;
        }
        let mut desk = Desk::new(&two(), folder.path());
        desk.begin();
        desk.fetch(1);
        desk.save_well(false);
        let open = std::fs::File::options().write(true).open(desk.path(1));
        let open = open.unwrap();
        open.set_len(1000).unwrap();
        open.set_len(32_768).unwrap();
        desk.fetch(2);
        assert_eq!(changed(desk.save(true)), [1]);
        desk.close();
        let mut next = Desk::new(&two(), folder.path());
        next.begin();
        assert_eq!(next.fetch_wanted(), [0, 1]);
    }

    #[test]
    fn nothing_is_complete_before_what_somebody_wrote_to_was_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(&two(), folder.path());
        desk.begin();
        desk.fetch(0);
        desk.save_well(false);
        let good = std::fs::read(desk.path(0)).unwrap();
        write_into(desk.path(0));
        desk.fetch(1);
        desk.fetch(2);
        assert_eq!(changed(desk.save(false)), [0]);
        // Read again, found good, and written to meanwhile.
        std::fs::write(desk.path(0), good).unwrap();
        assert_eq!(changed(desk.save(false)), [0]);
        match desk.save(false) {
            Saved::Safe {
                watched: Some(layout),
                ..
            } => desk.layout = layout,
            other => panic!("{other:?}"),
        }
        // It was told once, and is watched from then on.
        assert!(matches!(
            desk.save(false),
            Saved::Safe { watched: None, .. }
        ));
        let piece = |index| desk.layout.geometry().piece(index).unwrap();
        let mut files = OpenFiles::new(8);
        let mut read = |index| {
            let block = desk.layout.geometry().block(piece(index), 0).unwrap();
            let places = files.places(&desk.layout, block, Access::Read);
            ReadableBlock { block, places }.read(&mut Vec::new())
        };
        read(0).unwrap();
        write_into(desk.path(1));
        read(0).unwrap();
        assert_eq!(read(2).unwrap_err().kind, StorageTrouble::Vanished);
    }

    #[test]
    fn nor_before_what_was_written_to_and_had_its_old_time_put_back() {
        let folder = tempfile::tempdir().unwrap();
        two().publish(folder.path());
        let mut desk = Desk::new(&two(), folder.path());
        std::fs::remove_file(desk.path(1)).unwrap();
        desk.begin();
        desk.fetch(1);
        desk.fetch(2);
        with_its_old_time(desk.path(0), write_into);
        assert_eq!(changed(desk.save(false)), [0]);
        // Whoever leaves looks at no more than the time that data have.
        desk.save_well(false);
        with_its_old_time(desk.path(0), |_| {});
        desk.save_well(true);
    }

    #[test]
    fn of_what_is_still_fetched_whole_files_are_read_as_long_as_nobody_writes_to_them() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(&two(), folder.path());
        desk.begin();
        desk.fetch(0);
        desk.fetch(1);
        match desk.save(false) {
            Saved::Safe {
                watched: Some(layout),
                ..
            } => desk.layout = layout,
            other => panic!("{other:?}"),
        }
        write_into(desk.path(0));
        write_into(desk.path(1));
        let read = |desk: &Desk, index| {
            let geometry = desk.layout.geometry();
            let block = geometry.block(geometry.piece(index).unwrap(), 0).unwrap();
            let places = OpenFiles::new(8).places(&desk.layout, block, Access::Read);
            ReadableBlock { block, places }.read(&mut Vec::new())
        };
        assert_eq!(read(&desk, 0).unwrap_err().kind, StorageTrouble::Vanished);
        // Its time moves with what we write.
        read(&desk, 1).unwrap();
        let files = BTreeSet::from([0]);
        match desk.ask(Job::LookAnew { files }) {
            Outcome::LookedAnew(Ok(LookedAnew { changed, layout })) => {
                assert_eq!(changed, BTreeSet::from([0]));
                desk.layout = layout;
            }
            other => panic!("{other:?}"),
        }
        read(&desk, 0).unwrap();
        desk.fetch(2);
        read(&desk, 2).unwrap();
    }

    #[test]
    fn what_was_whole_before_work_began_is_read_as_long_as_nobody_writes_to_it() {
        let folder = tempfile::tempdir().unwrap();
        two().publish(folder.path());
        let mut desk = Desk::new(&two(), folder.path());
        std::fs::remove_file(desk.path(1)).unwrap();
        desk.begin();
        let (whole, missing) = (desk.path(0), desk.path(1));
        assert_eq!(desk.layout.watched_at(whole), Some(0));
        assert_eq!(desk.layout.watched_at(missing), None);
    }

    #[test]
    fn what_was_made_longer_and_looked_at_anew_is_not_complete() {
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(&two(), folder.path());
        desk.begin();
        desk.fetch(0);
        desk.save_well(false);
        let open = std::fs::File::options().write(true).open(desk.path(0));
        open.unwrap().set_len(16_385).unwrap();
        let files = BTreeSet::from([0]);
        assert!(matches!(
            desk.ask(Job::LookAnew { files }),
            Outcome::LookedAnew(Ok(_))
        ));
        desk.fetch(1);
        desk.fetch(2);
        match desk.save(false) {
            Saved::Failed(error) => assert_eq!(error.kind, StorageTrouble::InTheWay),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn nothing_is_complete_that_was_written_to_while_it_was_looked_at() {
        let folder = tempfile::tempdir().unwrap();
        two().publish(folder.path());
        let mut desk = Desk::new(&two(), folder.path());
        let survey = desk.survey(GET).unwrap();
        assert_eq!(desk.check(&survey), 3);
        write_into(desk.path(1));
        let error = desk.prepare(false).unwrap_err();
        assert_eq!(
            (error.kind, &*error.path),
            (StorageTrouble::Vanished, desk.path(1))
        );
    }

    fn changed(saved: Saved) -> Vec<usize> {
        match saved {
            Saved::Changed { files } => files.into_iter().collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_seed_that_leaves_does_not_vouch_for_what_somebody_wrote_meanwhile() {
        let folder = tempfile::tempdir().unwrap();
        two().publish(folder.path());
        let mut seed = Desk::new(&two(), folder.path());
        let survey = seed.survey(SEED).unwrap();
        assert_eq!(seed.check(&survey), 3);
        write_into(seed.path(0));
        seed.save_well(true);
        seed.close();
        assert_eq!(seed.survey(SEED).unwrap().unsure.count(), 1);
    }

    #[test]
    fn a_seed_goes_on_saving_without_files_that_others_took_away_and_does_not_vouch_for_them() {
        let delete = |path: &Path| std::fs::remove_file(path).unwrap();
        let replace = |path: &Path| {
            std::fs::write(path.with_extension("new"), noise(16_384)).unwrap();
            std::fs::rename(path.with_extension("new"), path).unwrap();
        };
        let cut = |path: &Path| {
            let file = std::fs::File::options().write(true).open(path).unwrap();
            file.set_len(7).unwrap();
        };
        let lengthen = |path: &Path| std::fs::write(path, noise(20_000)).unwrap();
        for change in [&delete as &dyn Fn(&Path), &replace, &cut, &lengthen] {
            let folder = tempfile::tempdir().unwrap();
            two().publish(folder.path());
            let mut seed = Desk::new(&two(), folder.path());
            let survey = seed.survey(SEED).unwrap();
            assert_eq!(seed.check(&survey), 3);
            change(seed.path(0));
            seed.save_well(false);
            seed.save_well(true);
            seed.close();
            assert_eq!(seed.survey(SEED).unwrap().trusted.count(), 2);
        }
    }

    #[test]
    fn after_a_kill_a_complete_file_with_a_new_time_is_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("two", 16_384);
        author.file("complete", &noise(16_384));
        author.file("unfinished", &noise(32_768));
        let mut desk = Desk::new(&author, folder.path());
        desk.survey(GET).unwrap();
        desk.prepare(false).unwrap();
        desk.fetch(0);
        desk.fetch(1);
        desk.save_well(false);
        desk.kill();
        for file in 0..2 {
            let open = std::fs::File::options()
                .write(true)
                .open(desk.path(file))
                .unwrap();
            open.set_modified(std::time::SystemTime::UNIX_EPOCH)
                .unwrap();
        }
        let survey = desk.survey(GET).unwrap();
        let has = |field: &Bitfield, index| field.has(desk.layout.geometry().piece(index).unwrap());
        assert!(has(&survey.unsure, 0) && has(&survey.trusted, 1));
    }

    #[test]
    fn a_record_that_is_wrong_in_any_way_means_a_full_check_and_a_warning() {
        let author = mixed();
        let other = Author::single("mixed", 16_384, 5);
        let folder = tempfile::tempdir().unwrap();
        let mut desk = Desk::new(&author, folder.path());
        desk.get_all();
        let good = std::fs::read(desk.record()).unwrap();
        let of_other = {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&other, folder.path());
            desk.get_all();
            std::fs::read(desk.record()).unwrap()
        };
        let mut older = good.clone();
        older[9] = 0;
        let half = good[..good.len() / 2].to_vec();
        for bytes in [vec![], half, of_other, older, noise(3000)] {
            std::fs::write(desk.record(), &bytes).unwrap();
            let survey = desk.survey(GET).unwrap();
            assert!(survey.trusted.is_empty() && survey.unsure.is_full());
            assert_eq!(survey.warnings.len(), 1, "{:?}", survey.warnings);
            desk.check(&survey);
            desk.save_well(true);
            desk.close();
            assert!(
                desk.survey(GET).unwrap().trusted.is_full(),
                "replaced by a good one"
            );
            desk.close();
        }
        std::fs::remove_file(desk.record()).unwrap();
        rustix::fs::symlinkat("/etc/passwd", rustix::fs::CWD, desk.record()).unwrap();
        assert_eq!(desk.survey(GET).unwrap().warnings.len(), 1);
        desk.claim.have = Bitfield::full(desk.layout.geometry());
        desk.save_well(true);
        desk.close();
        assert!(desk.record().symlink_metadata().unwrap().is_file());
        std::fs::remove_file(desk.record()).unwrap();
        std::fs::create_dir(desk.record()).unwrap();
        let survey = desk.survey(GET).unwrap();
        assert!(survey.unsure.is_full() && survey.warnings.len() == 1);
        desk.save_well(true);
        assert!(matches!(desk.ask(Job::Remove), Outcome::Removed(Ok(()))));
    }

    #[test]
    fn a_second_instance_is_refused_until_the_first_has_left() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 100_000);
        let mut first = Desk::new(&author, folder.path());
        let mut second = Desk::new(&author, folder.path());
        first.survey(GET).unwrap();
        let refused = |second: &mut Desk| {
            let error = second.survey(SEED).unwrap_err();
            assert_eq!(error.kind, StorageTrouble::Busy);
            assert_eq!(error.path, second.record());
        };
        refused(&mut second);
        first.prepare(false).unwrap();
        refused(&mut second);
        first.fetch(0);
        first.save_well(false);
        refused(&mut second);
        first.close();
        assert_eq!(second.survey(GET).unwrap().unsure.count(), 0);
    }

    #[test]
    fn holes_stay_holes_and_pieces_in_them_are_judged_without_reading() {
        let folder = tempfile::tempdir().unwrap();
        const PIECE: usize = 1 << 20;
        let mut author = Author::new("disk.img", PIECE as u32);
        let mut bytes = vec![0; 64 * PIECE];
        bytes[..PIECE].copy_from_slice(&noise(PIECE));
        bytes[62 * PIECE..].copy_from_slice(&noise(2 * PIECE));
        author.file("image", &bytes);
        let mut desk = Desk::new(&author, folder.path());
        std::fs::create_dir(folder.path().join("disk.img")).unwrap();
        std::fs::write(desk.path(0), &bytes[..PIECE]).unwrap();
        let file = std::fs::File::options()
            .write(true)
            .open(desk.path(0))
            .unwrap();
        file.set_len(bytes.len() as u64).unwrap();

        let survey = desk.survey(GET).unwrap();
        assert_eq!(survey.trusted.count(), 61, "pieces of zeros");
        assert_eq!(desk.check(&survey), 1, "the piece with data");
        assert_eq!(desk.claim.have.count(), 62);
        desk.prepare(false).unwrap();
        let taken = desk.path(0).metadata().unwrap().blocks() * 512;
        let expected = 3 * PIECE as u64;
        assert!((expected..expected + 65_536).contains(&taken), "{taken}");
        desk.fetch(62);
        desk.fetch(63);
        desk.save_well(true);
        assert!(std::fs::read(desk.path(0)).unwrap() == bytes);
        assert!(desk.path(0).metadata().unwrap().blocks() * 512 < expected + 65_536);
    }

    #[test]
    fn a_sparse_file_of_twenty_gigabytes_costs_its_missing_pieces_only() {
        const PIECE: u64 = 1 << 20;
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("disk.img", PIECE as u32, PIECE as usize);
        let mut metainfo = author.metainfo();
        let total = (20 << 30) + 5000;
        metainfo.geometry = crate::protocol::Geometry::new(total, PIECE as u32).unwrap();
        metainfo.files[0].length = total;
        let zeros = crate::protocol::Digest::of(&vec![0; PIECE as usize]);
        let mut digests = vec![zeros; metainfo.geometry.pieces() as usize];
        let (last, missing) = (digests.len() - 1, digests.len() - 3);
        let ours = metainfo.piece_digests[0];
        digests[missing..].fill(ours);
        metainfo.piece_digests = digests.into();
        let mut desk = Desk::new(&author, folder.path());
        desk.layout = Arc::new(Layout::new(&metainfo, folder.path()));
        let sparse = std::fs::File::create(desk.path(0)).unwrap();
        sparse.set_len(total).unwrap();

        let survey = desk.survey(GET).unwrap();
        assert_eq!(survey.trusted.count() as usize, missing);
        assert!(survey.unsure.is_empty() && !survey.foreign);
        desk.prepare(false).unwrap();
        let taken = sparse.metadata().unwrap().blocks() * 512;
        assert!(
            (2 * PIECE + 5000..2 * PIECE + 65_536).contains(&taken),
            "{taken}"
        );
        sparse
            .write_all_at(&author.bytes, total - 5000 - PIECE)
            .unwrap();
        desk.claim
            .have
            .set(desk.layout.geometry().piece(last as u32 - 1).unwrap());
        desk.touched.insert(0);
        desk.save_well(false);
        desk.kill();
        let survey = desk.survey(GET).unwrap();
        assert_eq!(survey.trusted.count() as usize, missing + 1);
        assert!(survey.unsure.is_empty());
    }

    #[test]
    fn data_of_somebody_else_is_told_apart_from_ours() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 50_000);
        let mut desk = Desk::new(&author, folder.path());
        std::fs::write(desk.path(0), noise(40_000)).unwrap();
        let survey = desk.survey(GET).unwrap();
        assert!(survey.foreign && desk.check(&survey) == 2);
        assert!(desk.claim.have.is_empty());
        desk.close();
        assert!(!desk.record().exists());
        // A run that was killed before it wrote anything into its record does not make the data ours.
        desk.survey(GET).unwrap();
        desk.kill();
        assert!(desk.survey(GET).unwrap().foreign);
        desk.close();
        std::fs::write(desk.path(0), b"").unwrap();
        assert!(
            !desk.survey(GET).unwrap().foreign,
            "an empty file is nobody's data"
        );
    }

    #[test]
    fn a_file_that_is_too_long_is_refused_or_cut() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 50_000);
        let mut desk = Desk::new(&author, folder.path());
        let long = [&author.bytes[..], b"tail"].concat();
        std::fs::write(desk.path(0), &long).unwrap();
        let error = desk.survey(GET).unwrap_err();
        assert_eq!(error.kind, StorageTrouble::InTheWay);
        assert!(error.cause.contains("50004"), "{error}");
        assert!(!desk.record().exists());
        let survey = desk.survey(SEED).unwrap();
        assert!(survey.unsure.is_full());
        desk.close();

        let force = SurveyRules {
            overwrite: true,
            ..GET
        };
        let survey = desk.survey(force).unwrap();
        desk.check(&survey);
        assert!(desk.claim.have.is_full());
        assert!(desk.prepare(false).is_err());
        assert_eq!(std::fs::read(desk.path(0)).unwrap(), long);
        desk.prepare(true).unwrap();
        assert_eq!(std::fs::read(desk.path(0)).unwrap(), author.bytes);
        desk.save_well(true);
    }

    #[test]
    fn what_is_in_the_way_is_named_and_nothing_is_touched() {
        let author = mixed();
        for (place, cause) in [
            ("mixed", "it is a file"),
            ("mixed/a", "it is a file"),
            ("mixed/a/odd", "it is a folder"),
            ("mixed/big", "it is a symbolic link"),
            ("mixed/small", "it is a symbolic link"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let outside = tempfile::tempdir().unwrap();
            let path = folder.path().join(place);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match cause {
                "it is a file" => std::fs::write(&path, "x").unwrap(),
                "it is a folder" => std::fs::create_dir(&path).unwrap(),
                _ => std::os::unix::fs::symlink(outside.path(), &path).unwrap(),
            }
            let mut desk = Desk::new(&author, folder.path());
            let error = desk.survey(GET).unwrap_err();
            assert_eq!((error.kind, &error.path), (StorageTrouble::InTheWay, &path));
            assert_eq!(error.cause, cause);
            let seeding = desk.survey(SEED).unwrap();
            assert!(seeding.trusted.is_empty() && seeding.unsure.is_empty());
            // The way may be blocked after the survey too: then everything is as it was.
            desk.close();
            let blocked = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&author, blocked.path());
            desk.survey(GET).unwrap();
            let pipe = blocked.path().join("mixed/small/30");
            std::fs::create_dir_all(pipe.parent().unwrap()).unwrap();
            std::fs::create_dir(&pipe).unwrap();
            let error = desk.prepare(false).unwrap_err();
            assert_eq!((error.kind, error.path), (StorageTrouble::InTheWay, pipe));
            desk.close();
            assert_eq!(entries(blocked.path()), 1);
            assert_eq!(entries(&blocked.path().join("mixed")), 1);
            assert_eq!(entries(outside.path()), 0);
        }
    }

    #[test]
    fn two_names_of_one_file_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("twins", 16_384);
        author.file("a", &noise(20_000));
        author.file("b", &noise(20_000));
        let mut desk = Desk::new(&author, folder.path());
        desk.survey(GET).unwrap();
        std::fs::create_dir(folder.path().join("twins")).unwrap();
        std::fs::write(desk.path(0), b"").unwrap();
        std::fs::hard_link(desk.path(0), desk.path(1)).unwrap();
        let error = desk.prepare(false).unwrap_err();
        assert_eq!(error.path, desk.path(1));
        assert_eq!(desk.path(0).metadata().unwrap().len(), 0, "as it was");
    }

    #[test]
    fn a_file_deleted_or_replaced_while_we_work_fails_the_save() {
        let author = Author::single("one", 16_384, 50_000);
        use StorageTrouble::{InTheWay, Vanished};
        type Change = fn(&Path);
        let changes: [(StorageTrouble, Change); 4] = [
            (Vanished, |path| std::fs::remove_file(path).unwrap()),
            (InTheWay, |path| {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_len(50_001).unwrap();
            }),
            (Vanished, |path| {
                std::fs::rename(path, path.with_extension("old")).unwrap();
                std::fs::write(path, noise(50_000)).unwrap();
            }),
            (Vanished, |path| {
                let file = std::fs::File::options().write(true).open(path).unwrap();
                file.set_len(100).unwrap();
            }),
        ];
        for (kind, change) in changes {
            let folder = tempfile::tempdir().unwrap();
            let mut desk = Desk::new(&author, folder.path());
            desk.survey(GET).unwrap();
            desk.prepare(false).unwrap();
            desk.fetch(0);
            let before = std::fs::read(desk.record()).unwrap();
            change(desk.path(0));
            match desk.save(false) {
                Saved::Failed(error) => assert_eq!(error.kind, kind),
                other => panic!("{other:?}"),
            }
            assert_eq!(std::fs::read(desk.record()).unwrap(), before);
        }
    }

    #[test]
    fn a_failed_sync_puts_new_pieces_in_doubt_once_and_then_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("two", 16_384);
        author.file("a", &noise(5 * 16_384));
        author.file("b", &noise(5 * 16_384));
        let mut desk = Desk::new(&author, folder.path());
        desk.survey(GET).unwrap();
        desk.prepare(false).unwrap();
        desk.fetch(0);
        desk.save_well(false);
        [1, 2, 7].into_iter().for_each(|index| desk.fetch(index));
        let failed = || Unsynced {
            error: StorageError::from_io(
                "sync",
                Path::new("a"),
                &io::Error::from_raw_os_error(libc::EIO),
            ),
            files: BTreeSet::from([0]),
        };
        let claim = desk.claim.clone();
        let kept = desk.tasks.get_mut(&0).unwrap();
        match kept.doubt(&claim, failed()) {
            Saved::Doubtful { check, .. } => {
                let numbers: Vec<u32> = check.iter().map(|piece| piece.get()).collect();
                assert_eq!(numbers, [1, 2]);
            }
            other => panic!("{other:?}"),
        }
        assert!(matches!(kept.doubt(&claim, failed()), Saved::Failed(_)));
        assert_eq!(kept.safe.have.count(), 1);
        // A sync that succeeds after that means nothing: the system has forgotten what it lost.
        let before = std::fs::read(desk.record()).unwrap();
        assert!(matches!(desk.save(true), Saved::Failed(_)));
        assert_eq!(std::fs::read(desk.record()).unwrap(), before);
    }

    #[test]
    fn more_than_sixty_four_files_are_synced_at_once_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("many", 16_384);
        for number in 0..200 {
            author.file(&format!("{}/{number}", number % 3), &noise(500 + number));
        }
        let mut desk = Desk::new(&author, folder.path());
        desk.get_all();
        assert!(desk.survey(GET).unwrap().trusted.is_full());
    }

    #[test]
    fn a_torrent_of_empty_files_is_made_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("nothing", 16_384);
        (0..5).for_each(|number| drop(author.file(&format!("{number}"), b"").clone()));
        let mut desk = Desk::new(&author, folder.path());
        assert!(desk.survey(GET).unwrap().trusted.is_full());
        desk.prepare(false).unwrap();
        desk.save_well(true);
        assert_eq!(entries(&folder.path().join("nothing")), 5);
    }

    #[test]
    fn a_folder_that_cannot_hold_a_record_is_still_seeded_from() {
        let folder = tempfile::tempdir().unwrap();
        let author = mixed();
        let nowhere = folder.path().join("nowhere");
        let mut desk = Desk::new(&author, &nowhere);
        let survey = desk.survey(SEED).unwrap();
        assert_eq!(survey.warnings.len(), 1);
        assert!(survey.trusted.is_empty() && survey.unsure.is_empty());
        desk.save_well(true);
        assert!(!nowhere.exists());
    }

    /// A file system of its own for a test, unmounted at its end. `None` where that is not allowed.
    struct Small {
        folder: tempfile::TempDir,
        _image: Option<tempfile::NamedTempFile>,
    }

    impl Small {
        fn mount(size: &str) -> Option<Small> {
            let folder = tempfile::tempdir().unwrap();
            let options = format!("size={size}");
            let mounted = std::process::Command::new("mount")
                .args(["-t", "tmpfs", "-o", &options, "ropewalk"])
                .arg(folder.path())
                .stderr(std::process::Stdio::null())
                .status();
            if mounted.is_ok_and(|status| status.success()) {
                return Some(Small {
                    folder,
                    _image: None,
                });
            }
            println!("SKIPPED: mounting a small tmpfs is not allowed here");
            None
        }
    }

    impl Small {
        /// A file system in a file, made by `mkfs.KIND`.
        fn in_a_file(kind: &str, megabytes: u64) -> Small {
            let (folder, image) = (
                tempfile::tempdir().unwrap(),
                tempfile::NamedTempFile::new().unwrap(),
            );
            image.as_file().set_len(megabytes << 20).unwrap();
            let run = |program: &str, args: &[&str], last: &Path| {
                let status = std::process::Command::new(program)
                    .args(args)
                    .arg(last)
                    .status();
                assert!(status.unwrap().success(), "{program}");
            };
            run(&format!("mkfs.{kind}"), &["-q"], image.path());
            let path = image.path().to_str().unwrap();
            run("mount", &["-o", "loop", path], folder.path());
            Small {
                folder,
                _image: Some(image),
            }
        }
    }

    impl Drop for Small {
        fn drop(&mut self) {
            let _ = std::process::Command::new("umount")
                .arg(self.folder.path())
                .status();
        }
    }

    #[test]
    fn a_disk_that_is_too_small_is_refused_before_the_first_byte_without_debris() {
        let Some(small) = Small::mount("4m") else {
            return;
        };
        let folder = small.folder.path();
        let author = Author::single("one", 1 << 20, 6 << 20);
        let mut desk = Desk::new(&author, folder);
        desk.survey(GET).unwrap();
        let error = desk.prepare(false).unwrap_err();
        assert_eq!(error.kind, StorageTrouble::Full);
        assert!(error.cause.contains("6291456 bytes are needed"), "{error}");
        desk.close();
        assert_eq!(entries(folder), 0);

        // What is there already counts: two of six megabytes leave four, and the record a page.
        std::fs::write(desk.path(0), &author.bytes[..2 << 20]).unwrap();
        let survey = desk.survey(GET).unwrap();
        desk.check(&survey);
        assert_eq!(desk.claim.have.count(), 2);
        assert!(desk.prepare(false).is_err());
        assert_eq!(desk.path(0).metadata().unwrap().len(), 2 << 20);
        desk.close();

        // Space that is allocated to the file is not asked for a second time.
        let author = Author::single("two", 1 << 20, 3 << 20);
        std::fs::remove_file(desk.path(0)).unwrap();
        let mut desk = Desk::new(&author, folder);
        for _ in 0..2 {
            desk.survey(GET).unwrap();
            desk.prepare(false).unwrap();
            desk.kill();
        }
    }

    #[test]
    #[ignore = "needs root and loop mounts"]
    fn on_file_systems_with_and_without_allocation_a_full_disk_leaves_no_debris() {
        for kind in ["ext4", "ext2", "xfs"] {
            let small = Small::in_a_file(kind, if kind == "xfs" { 320 } else { 24 });
            let folder = &small.folder.path().join("data");
            std::fs::create_dir(folder).unwrap();
            let free = || {
                let found = rustix::fs::statvfs(folder).unwrap();
                found.f_bavail * found.f_frsize
            };
            let before = free();
            // Fits by the count of free bytes and not by what the file system needs beside them.
            for too_large in [before - 4096, before + (1 << 20)] {
                let author = Author::single("large", 1 << 20, too_large as usize);
                let mut desk = Desk::new(&author, folder);
                desk.survey(GET).unwrap();
                let outcome = desk.prepare(false);
                desk.close();
                if too_large > before {
                    assert_eq!(outcome.unwrap_err().kind, StorageTrouble::Full, "{kind}");
                }
                if desk.path(0).exists() {
                    std::fs::remove_file(desk.path(0)).unwrap();
                    std::fs::remove_file(desk.record()).unwrap();
                }
                assert_eq!(entries(folder), 0, "{kind}");
            }
            rustix::fs::syncfs(std::fs::File::open(folder).unwrap()).unwrap();
            assert!(free() + 65_536 >= before, "{kind}: {} of {before}", free());
            let author = Author::single("fits", 1 << 18, 8 << 20);
            let mut desk = Desk::new(&author, folder);
            desk.get_all();
            assert!(desk.survey(GET).unwrap().trusted.is_full(), "{kind}");
        }
    }

    #[test]
    #[ignore = "takes a while"]
    fn ten_thousand_files_are_made_saved_and_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("many", 65_536);
        for number in 0..10_000 {
            author.file(&format!("{}/{number}", number % 100), &noise(number % 3000));
        }
        let mut desk = Desk::new(&author, folder.path());
        desk.get_all();
        assert!(desk.survey(GET).unwrap().trusted.is_full());
    }

    #[test]
    fn an_allocation_that_fails_half_way_leaves_what_was_there() {
        let Some(small) = Small::mount("4m") else {
            return;
        };
        let folder = small.folder.path();
        let mut author = Author::new("pair", 1 << 20);
        author.file("a", &noise(1 << 20));
        author.file("b", &noise(1 << 20));
        let layout = author.layout(folder);
        std::fs::create_dir(folder.join("pair")).unwrap();
        let sparse = std::fs::File::create(&layout.files()[0].path).unwrap();
        sparse.set_len(1 << 19).unwrap();
        std::fs::create_dir(&layout.files()[1].path).unwrap();
        let have = Bitfield::new(layout.geometry());
        let order = Allocation {
            layout: &layout,
            have: &have,
            overwrite: false,
            stop: &AtomicBool::new(false),
        };
        allocate::make_room(order).unwrap_err();
        let found = sparse.metadata().unwrap();
        assert_eq!((found.len(), found.blocks()), (1 << 19, 0));
    }

    #[test]
    fn the_thread_answers_each_job_and_leaves_no_lock_behind() {
        let folder = tempfile::tempdir().unwrap();
        let author = Author::single("one", 16_384, 50_000);
        let layout = author.layout(folder.path());
        // Bound: an answer is taken before the next job.
        let (tell, told) = crossbeam_channel::bounded(1);
        let keeper = Keeper::start(move |done| tell.send(done).is_ok()).unwrap();
        let mut outstanding = Outstanding::default();
        let mut answer_to = |job| {
            keeper.ask(7, job, &mut outstanding);
            let done: Done = told.recv().unwrap();
            outstanding.answered(done.outcome.kind());
            assert!(outstanding.is_idle() && done.task == 7);
            done.outcome
        };
        answer_to(Job::Survey {
            layout: layout.clone(),
            rules: GET,
        });
        answer_to(Job::Prepare {
            have: Bitfield::new(layout.geometry()),
            overwrite: false,
        });
        let outcome = answer_to(Job::Save {
            claim: Claim::nothing(layout.geometry()),
            touched: BTreeSet::new(),
            verified: BTreeMap::new(),
        });
        let is_safe = matches!(outcome, Outcome::Saved(Saved::Safe { warning: None, .. }));
        assert!(is_safe, "{outcome:?}");
        drop(keeper);
        Desk::new(&author, folder.path()).survey(GET).unwrap();
    }
}
