//! Checks data on disk against a torrent: what the command `verify` does.
//!
//! ```text
//! let mut work = Verification::start(&metainfo, folder, threads)?;
//! for step in &mut work { ... }          // a piece at a time, in no order
//! let report = work.report();            // a state for each file
//! ```

use crate::protocol::bitfield::Bitfield;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::{Geometry, PieceIndex};
use crate::storage::check::{self, CheckDone, CheckJob, Queued};
use crate::storage::layout::Layout;
use crate::storage::lazy_file::Access;
use crate::storage::open_files::OpenFiles;
use crate::storage::slot::StorageError;
use crate::storage::survey::{self, Flaw, Found};
use crate::swarm::event::Verdict;
use crossbeam_channel::{Receiver, Sender};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

/// A check under way. Dropping it ends the threads when each is through with its piece.
#[derive(Debug)]
pub struct Verification {
    layout: Layout,
    /// What is at the path of each file, as far as they were looked at.
    found: Vec<Found>,
    /// The names of files that are symbolic links: the layout has what they lead to.
    links: HashMap<usize, PathBuf>,
    open_files: OpenFiles,
    next: u32,
    /// Pieces that are good.
    good: Bitfield,
    /// Pieces that could not be read, and why.
    unreadable: HashMap<PieceIndex, StorageError>,
    jobs: Option<Sender<Queued>>,
    outcomes: Receiver<CheckDone>,
    threads: Vec<JoinHandle<()>>,
    out: usize,
}

/// One piece was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedPiece {
    /// Which.
    pub piece: PieceIndex,
    /// Whether it is what the author published.
    pub good: bool,
}

/// What is on disk of a torrent.
#[derive(Debug, Clone, PartialEq)]
pub struct VerifyReport {
    /// The files that should be on disk, in the torrent's order; padding is left out.
    pub files: Vec<FileReport>,
    /// The pieces that are good.
    pub good: Bitfield,
    /// How the torrent is cut.
    pub geometry: Geometry,
}

/// What is on disk of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is or should be.
    pub path: PathBuf,
    /// The length it should have, in bytes.
    pub length: u64,
    /// How it is.
    pub state: FileState,
}

/// How a file is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileState {
    /// As the author published it.
    Complete,
    /// Something is wrong before its bytes are looked at.
    Flawed(Flaw),
    /// It has the right length and wrong bytes.
    Wrong {
        /// Its bad pieces, in order.
        bad: Vec<PieceIndex>,
    },
    /// Nothing is known to be wrong with it, but these pieces of it lie partly in files that are, so
    /// their hashes cannot tell.
    Untold {
        /// The pieces, in order.
        pieces: Vec<PieceIndex>,
    },
    /// It could not be read.
    Unreadable(StorageError),
}

/// Where the data seem to be, if they are not where they were looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Elsewhere {
    /// The folder that was named is the torrent's own, or its only file: this is the one to name.
    Above(PathBuf),
    /// The files are in the folder that was named, whose name is not the torrent's.
    OtherName,
}

/// Looks for the files of `metainfo` where people put them by mistake: for when none of them is below
/// `folder`.
pub fn elsewhere(metainfo: &Metainfo, folder: &Path) -> Option<Elsewhere> {
    let here = folder.canonicalize().ok()?;
    let is_its_name = |name: &OsStr| {
        name == metainfo.name.as_str() || Some(name.as_bytes()) == metainfo.raw_name.as_deref()
    };
    let has_files = |folder: &Path| {
        let layout = found_below(metainfo, folder);
        let mut files = layout.files().iter();
        files.any(|file| !file.padding && file.path.is_file())
    };
    if here.file_name().is_some_and(is_its_name)
        && let Some(above) = here.parent()
        && has_files(above)
    {
        // As the user would write it: `..` and links in it mean other things than in the whole path.
        let named = folder.parent().filter(|_| folder.file_name().is_some());
        return Some(Elsewhere::Above(match named {
            Some(named) if named.as_os_str().is_empty() => ".".into(),
            Some(named) if named.canonicalize().is_ok_and(|it| it == above) => named.to_owned(),
            _ => above.to_owned(),
        }));
    }
    let mut files = metainfo.files.iter().filter(|file| !file.padding);
    let within = !metainfo.single_file && files.any(|file| here.join(&file.path).is_file());
    within.then_some(Elsewhere::OtherName)
}

/// The files of `metainfo` where they are, below `folder`.
fn found_below(metainfo: &Metainfo, folder: &Path) -> Layout {
    let layout = Layout::new(metainfo, folder);
    layout.with_raw_paths(metainfo).as_found()
}

impl VerifyReport {
    /// Whether there is no file at all.
    pub fn is_empty(&self) -> bool {
        let nothing = |file: &FileReport| {
            matches!(
                file.state,
                FileState::Flawed(Flaw::Missing | Flaw::NotAFile(_))
            )
        };
        self.files.iter().all(nothing)
    }

    /// Whether every file is complete.
    pub fn is_complete(&self) -> bool {
        let mut files = self.files.iter();
        files.all(|file| file.state == FileState::Complete)
    }

    /// The pieces that are missing or wrong, in order.
    pub fn bad(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        let pieces = self.geometry.all_pieces();
        pieces.filter(|piece| !self.good.has(*piece))
    }
}

/// Pieces waiting for each thread: enough that each finds as many as go side by side when it comes back.
const AHEAD: usize = 32;

/// Files kept open, where that many may be. A piece over more is opened file by file.
const OPEN_FILES: u64 = 24;

/// Descriptors for other things: standard streams, and a file that is opened for a moment.
const OTHERS: u64 = 16;

impl Verification {
    /// Looks at the files of `metainfo` below `folder` and starts hashing with `threads` threads.
    pub fn start(
        metainfo: &Metainfo,
        folder: &Path,
        threads: NonZeroUsize,
    ) -> io::Result<Verification> {
        let layout = found_below(metainfo, folder);
        let room = threads.get() * AHEAD;
        // Bound: AHEAD pieces a thread; `next` fills it as far as it goes and never waits for room.
        let (jobs, queue) = crossbeam_channel::bounded(room);
        // Bound: every job that can be waiting, and those in work, so that a thread never waits here.
        let (tell, outcomes) = crossbeam_channel::bounded(2 * room);
        let files = check::descriptors().saturating_sub(OTHERS);
        let kept_open = (files / 2).min(OPEN_FILES);
        let at_once = check::at_once((files - kept_open) / threads.get() as u64);
        let kept_open = kept_open as usize; // 24 at most
        let start_one = |number: usize| {
            let (queue, tell) = (queue.clone(), tell.clone());
            std::thread::Builder::new()
                .name(format!("checker {number}"))
                .stack_size(check::STACK)
                .spawn(move || check::work(&queue, at_once, |done| tell.send(done).is_ok()))
        };
        let mut started: Vec<JoinHandle<()>> = Vec::new();
        for number in 0..threads.get() {
            match start_one(number) {
                Ok(thread) => started.push(thread),
                // Fewer threads do the same work.
                Err(_) if !started.is_empty() => break,
                Err(error) => return Err(error),
            }
        }
        Ok(Verification {
            found: Vec::new(),
            links: HashMap::new(),
            open_files: OpenFiles::new(kept_open),
            next: 0,
            good: Bitfield::new(layout.geometry()),
            unreadable: HashMap::new(),
            jobs: Some(jobs),
            outcomes,
            threads: started,
            out: 0,
            layout,
        })
    }

    /// How many pieces there are to look at.
    pub fn pieces(&self) -> u32 {
        self.layout.geometry().pieces()
    }

    /// What was found. Pieces that were not looked at yet count as bad.
    pub fn report(&mut self) -> VerifyReport {
        self.look_as_far_as(self.layout.files().len());
        let geometry = self.layout.geometry();
        let files = self.layout.files().iter().enumerate();
        let on_disk = files.filter(|(_, file)| !file.padding);
        VerifyReport {
            files: on_disk
                .map(|(number, file)| FileReport {
                    path: self.links.get(&number).unwrap_or(&file.path).clone(),
                    length: file.length,
                    state: self.state(number, file.length),
                })
                .collect(),
            good: self.good.clone(),
            geometry: *geometry,
        }
    }

    fn state(&self, number: usize, length: u64) -> FileState {
        if let Some(flaw) = survey::flaw(&self.found[number], length) {
            return FileState::Flawed(flaw);
        }
        let pieces = self.layout.pieces_of(number, 0..length);
        let bad: Vec<_> = pieces.filter(|piece| !self.good.has(*piece)).collect();
        if bad.is_empty() {
            return FileState::Complete;
        }
        let path = &self.layout.files()[number].path;
        let mut errors = bad.iter().filter_map(|piece| self.unreadable.get(piece));
        if let Some(error) = errors.find(|error| error.path == *path) {
            return FileState::Unreadable(error.clone());
        }
        if bad.iter().all(|piece| self.has_flawed_file(*piece)) {
            return FileState::Untold { pieces: bad };
        }
        FileState::Wrong { bad }
    }

    /// Whether a file under `piece` is missing, too short, or cannot be read: then nothing follows for
    /// the others. (One that is too long has its bytes.)
    fn has_flawed_file(&self, piece: PieceIndex) -> bool {
        let files = self.layout.files();
        let flaws = self
            .layout
            .runs_of_piece(piece)
            .filter_map(|run| survey::flaw(&self.found[run.file], files[run.file].length));
        self.unreadable.contains_key(&piece)
            || flaws.into_iter().any(|flaw| !matches!(flaw, Flaw::Long(_)))
    }

    /// Hands out pieces until the threads have enough; what is missing needs no hashing and comes back.
    fn hand_out(&mut self) -> Option<CheckedPiece> {
        while let Some(piece) = self.layout.geometry().piece(self.next) {
            if self.jobs.as_ref().is_some_and(Sender::is_full) {
                return None;
            }
            self.next += 1;
            let last = self.layout.runs_of_piece(piece).last();
            self.look_as_far_as(last.map_or(0, |run| run.file + 1));
            if self.is_missing(piece) {
                return Some(CheckedPiece { piece, good: false });
            }
            let job = CheckJob {
                task: 0,
                piece,
                places: self.open_files.piece(&self.layout, piece, Access::Read),
                expected: self.layout.piece_digest(piece),
                by_block: false,
                initial: true,
                // The queue ends with the last piece, so nobody waits in vain.
                may_wait: true,
            };
            let jobs = self.jobs.as_ref();
            if jobs.is_some_and(|jobs| jobs.try_send(Queued::now(job)).is_ok()) {
                self.out += 1;
            }
        }
        self.jobs = None;
        None
    }

    /// Looks at the files before number `end`. With many files this takes a good part of the time, and
    /// the threads hash the first pieces meanwhile.
    fn look_as_far_as(&mut self, end: usize) {
        for number in self.found.len()..end.min(self.layout.files().len()) {
            let file = &self.layout.files()[number];
            let found = survey::look_at(file);
            let Some(path) = survey::behind_link(&found, file) else {
                self.found.push(found);
                continue;
            };
            self.links.insert(number, file.path.clone());
            self.layout.lies_at(number, path);
            self.found.push(survey::look_at(self.layout.place(number)));
        }
    }

    fn is_missing(&self, piece: PieceIndex) -> bool {
        let mut runs = self.layout.runs_of_piece(piece);
        runs.any(|run| match &self.found[run.file] {
            Found::Padding => false,
            Found::File(facts) => facts.length < run.offset + run.length,
            _ => true,
        })
    }
}

impl Iterator for Verification {
    type Item = CheckedPiece;

    /// The next piece that was looked at; waits for it. `None` when all were.
    fn next(&mut self) -> Option<CheckedPiece> {
        if let Some(step) = self.hand_out() {
            return Some(step);
        }
        if self.out == 0 {
            return None;
        }
        let done = self.outcomes.recv().ok()?;
        self.out -= 1;
        let good = done.verdict == Verdict::Good;
        if good {
            self.good.set(done.piece);
        }
        if let Some(error) = done.error {
            self.unreadable.insert(done.piece, error);
        }
        Some(CheckedPiece {
            piece: done.piece,
            good,
        })
    }
}

impl Drop for Verification {
    fn drop(&mut self) {
        self.jobs = None;
        // Nobody listens any more: threads end with the piece they have.
        self.outcomes = crossbeam_channel::never();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::storage::test_torrent::{Author, noise};

    fn verify(author: &Author, folder: &Path, threads: usize) -> VerifyReport {
        let threads = NonZeroUsize::new(threads).unwrap();
        let mut work = Verification::start(&author.metainfo(), folder, threads).unwrap();
        let pieces = work.pieces() as usize;
        assert_eq!(work.by_ref().count(), pieces);
        work.report()
    }

    fn author() -> Author {
        let mut author = Author::new("book", 16_384);
        author.file("cover", &noise(40_000));
        author.file("empty", b"");
        author.padding(9152);
        for number in 0..40 {
            author.file(&format!("pages/{number}"), &noise(1000 + number));
        }
        author.file("index", &noise(100_000));
        author
    }

    #[test]
    fn everything_is_complete_where_everything_was_published() {
        for threads in [1, 3] {
            let folder = tempfile::tempdir().unwrap();
            author().publish(folder.path());
            let report = verify(&author(), folder.path(), threads);
            assert!(report.is_complete() && report.bad().count() == 0);
            assert_eq!(report.files.len(), 43);
        }
    }

    #[test]
    fn each_kind_of_flaw_is_told_of_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let author = author();
        author.publish(folder.path());
        let at = |name: &str| folder.path().join("book").join(name);
        std::fs::remove_file(at("empty")).unwrap();
        std::fs::write(at("pages/3"), b"short").unwrap();
        std::fs::remove_file(at("pages/5")).unwrap();
        std::fs::create_dir(at("pages/5")).unwrap();
        let mut index = author.contents()[43].to_vec();
        index[99_999] ^= 1;
        std::fs::write(at("index"), &index).unwrap();
        let mut cover = author.contents()[0].to_vec();
        cover.push(b'!');
        std::fs::write(at("cover"), &cover).unwrap();

        let report = verify(&author, folder.path(), 2);
        let state = |name: &str| {
            let mut files = report.files.iter();
            let found = files.find(|file| file.path == at(name));
            found.unwrap().state.clone()
        };
        assert_eq!(state("empty"), FileState::Flawed(Flaw::Missing));
        assert_eq!(state("pages/3"), FileState::Flawed(Flaw::Short(5)));
        let folder = FileState::Flawed(Flaw::NotAFile("it is a folder"));
        assert_eq!(state("pages/5"), folder);
        assert_eq!(state("cover"), FileState::Flawed(Flaw::Long(40_001)));
        assert!(matches!(state("pages/4"), FileState::Untold { .. }));
        assert_eq!(state("pages/39"), FileState::Complete);
        let last = report.geometry.all_pieces().last().unwrap();
        assert_eq!(state("index"), FileState::Wrong { bad: vec![last] });
        let bad: Vec<_> = report.bad().map(PieceIndex::get).collect();
        assert_eq!(bad, [3, last.get()]);
        assert!(!report.is_complete());
    }

    #[test]
    fn data_in_the_folder_that_was_named_are_found_and_nothing_else_is() {
        let place = tempfile::tempdir().unwrap();
        let metainfo = author().metainfo();
        let at = |name: &str| place.path().join(name);
        assert_eq!(elsewhere(&metainfo, place.path()), None);
        assert_eq!(elsewhere(&metainfo, &at("nowhere")), None);
        author().publish(place.path());
        let above = Some(Elsewhere::Above(place.path().to_owned()));
        assert_eq!(elsewhere(&metainfo, &at("book")), above);
        std::os::unix::fs::symlink("book/pages", at("deep")).unwrap();
        let through = elsewhere(&metainfo, &at("deep/.."));
        let real = place.path().canonicalize().unwrap();
        assert_eq!(through, Some(Elsewhere::Above(real)));
        std::fs::rename(at("book"), at("other")).unwrap();
        let other = elsewhere(&metainfo, &at("other"));
        assert_eq!(other, Some(Elsewhere::OtherName));
    }

    #[test]
    fn a_check_can_be_dropped_half_way() {
        let folder = tempfile::tempdir().unwrap();
        author().publish(folder.path());
        let two = NonZeroUsize::new(2).unwrap();
        let mut work = Verification::start(&author().metainfo(), folder.path(), two).unwrap();
        assert!(work.next().unwrap().good);
        drop(work);
    }
}
