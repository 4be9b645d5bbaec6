//! The keeper: one thread that looks what is there, makes room, syncs and writes the record of work.
//!
//! ```text
//! let keeper = Keeper::start(move |done| inbox.send(done).is_ok())?;
//! keeper.ask(task, Job::Survey { layout, rules });      // -> Surveyed: hash what is unsure, then
//! keeper.ask(task, Job::Prepare { have, overwrite });   // -> Prepared: blocks may be laid
//! keeper.ask(task, Job::Save { claim, touched });       // -> Saved, again and again
//! keeper.ask(task, Job::Remove);                        // sharing has ended; or
//! keeper.ask(task, Job::Close);                         // -> Closed: the record stays
//! ```
//!
//! Every job but `Close` may follow the one before only when that was answered. The record never claims
//! more than what is on disk: data is synced first, the record is written after that.

use super::allocate::{self, Order};
use super::layout::Layout;
use super::reach;
use super::record::{Claim, FileFacts, Record, RecordError};
use super::record_file::RecordFile;
use super::slot::{StorageError, StorageTrouble};
use super::survey::{self, Found, Rules, Survey};
use super::sync::{Sync, Unsynced};
use crate::protocol::PieceIndex;
use crate::protocol::bitfield::Bitfield;
use crossbeam_channel::Sender;
use std::collections::{BTreeSet, HashMap};
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
        rules: Rules,
    },
    /// Make folders, files and room for what is missing, and note in the record that work has begun.
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
    },
    /// Remove the record and let go of it.
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
    /// Of `Prepare`: after an error everything is as it was.
    Prepared(Result<(), StorageError>),
    /// Of `Save`.
    Saved(Saved),
    /// Of `Remove`: the record is gone, or why not.
    Removed(Result<(), StorageError>),
    /// Of `Close`.
    Closed,
}

/// What came of a save.
#[derive(Debug)]
pub enum Saved {
    /// All data is on the medium. If the record could not be written, the text says why: the next start
    /// hashes more than it had to.
    Safe {
        /// One sentence.
        warning: Option<String>,
    },
    /// The medium did not take all data, for the first time, or a file could not be opened for lack of
    /// descriptors (then both lists are empty). The record on disk says what it said before; save again.
    Doubtful {
        /// What failed.
        error: StorageError,
        /// Pieces that were claimed to be good and may not be on the medium: hash them again.
        check: Vec<PieceIndex>,
        /// Unfinished pieces with laid blocks that may not be on the medium: fetch these blocks again.
        forget: Vec<PieceIndex>,
    },
    /// The medium fails again, is full, or a file is no longer ours. The record on disk is good.
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
        // Bound: a task has one job out, and a `Close`.
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

    /// Queues a job. Never waits.
    pub fn ask(&self, task: usize, job: Job) {
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
    record: Option<RecordFile>,
    facts: Vec<Option<FileFacts>>,
    /// What was on the medium at the last good sync, for certain.
    safe: Claim,
    /// Files that may hold unsynced data whatever the next save names: an earlier run wrote them, or a sync failed.
    unsynced: BTreeSet<usize>,
    /// Files with missing pieces when work began.
    open: BTreeSet<usize>,
    /// Folders whose new names are not synced.
    folders: BTreeSet<PathBuf>,
    /// Folders made for the record.
    made: Vec<PathBuf>,
    has_failed: bool,
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
        (Job::Save { claim, touched }, Some(kept)) => Outcome::Saved(kept.save(claim, touched)),
        (Job::Remove, _) => Outcome::Removed(match tasks.remove(&task) {
            Some(kept) => kept.remove(),
            None => Ok(()),
        }),
        (Job::Close, _) => {
            tasks.remove(&task).into_iter().for_each(Kept::close);
            Outcome::Closed
        }
        (Job::Prepare { .. }, None) => Outcome::Prepared(Err(not_surveyed())),
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
fn begin(layout: Arc<Layout>, rules: Rules) -> Result<(Kept, Survey), StorageError> {
    let mut made = Vec::new();
    if rules.writable {
        reach::create_root(layout.folder(), &mut made)?;
    }
    let mut taken = match RecordFile::take(layout.folder(), layout.name()) {
        Ok(taken) => taken,
        Err(error) => {
            reach::unmake(&mut made);
            return Err(error);
        }
    };
    let geometry = layout.geometry();
    let (info_hash, files) = (layout.info_hash(), layout.files().len());
    let decoded = taken
        .bytes
        .take()
        .map(|bytes| Record::decode(&bytes, info_hash, geometry, files));
    // A damaged record was ours; an empty one, or another torrent's, tells nothing about the data here.
    let ours = !matches!(
        decoded,
        None | Some(Err(RecordError::Empty | RecordError::OtherTorrent(_)))
    );
    let record = match decoded {
        None => None,
        Some(Ok(record)) => Some(record),
        Some(Err(error)) => {
            taken.warnings.push(format!(
                "the record of work cannot be used ({error}): everything is hashed"
            ));
            None
        }
    };
    let found = survey::look(&layout);
    let survey = survey::judge(&layout, &found, record, rules);
    let mut survey = match survey {
        Ok(survey) => survey,
        Err(error) => {
            taken.file.into_iter().for_each(RecordFile::release);
            reach::unmake(&mut made);
            return Err(error);
        }
    };
    survey.foreign &= !ours;
    survey.warnings = taken.warnings;
    let mut unsynced = BTreeSet::new();
    for piece in geometry.all_pieces() {
        if survey.unsure.has(piece) {
            unsynced.extend(layout.runs_of_piece(piece).map(|run| run.file));
        }
    }
    unsynced.retain(|number| matches!(found[*number], Found::File(_)));
    let kept = Kept {
        facts: found.iter().map(Found::facts).collect(),
        safe: Claim {
            have: survey.trusted.clone(),
            laid: survey.laid.clone(),
            downloaded: survey.downloaded,
            uploaded: survey.uploaded,
            ..Claim::nothing(geometry)
        },
        record: taken.file,
        layout,
        unsynced,
        open: BTreeSet::new(),
        folders: BTreeSet::new(),
        made,
        has_failed: false,
    };
    Ok((kept, survey))
}

impl Kept {
    fn prepare(
        &mut self,
        have: &Bitfield,
        overwrite: bool,
        stop: &AtomicBool,
    ) -> Result<(), StorageError> {
        let room = allocate::make_room(Order {
            layout: &self.layout,
            have,
            overwrite,
            stop,
        })?;
        for (known, now) in self.facts.iter_mut().zip(room.facts) {
            *known = now.or(*known); // a file not come to before we had to leave is as it was
        }
        self.folders.extend(room.folders);
        self.open = room.open;
        if !have.is_full() {
            // From here on blocks are laid. If the record cannot be written, the next save says so.
            let _ = self.write_record();
        }
        Ok(())
    }

    fn save(&mut self, claim: Claim, touched: BTreeSet<usize>) -> Saved {
        let mut files = std::mem::take(&mut self.unsynced);
        files.extend(touched);
        if claim.clean {
            // Preparing a slot changes a file's time even if its block never came.
            files.extend(&self.open);
        }
        let synced = Sync {
            layout: &self.layout,
            files: &files,
            folders: &self.folders,
            times: claim.clean,
        }
        .carry_out(&mut self.facts);
        match synced {
            Ok(()) => {
                self.folders.clear();
                self.safe = claim;
                Saved::Safe {
                    warning: self.write_record(),
                }
            }
            Err(failed) => {
                self.unsynced = files;
                self.doubt(&claim, failed)
            }
        }
    }

    fn doubt(&mut self, claim: &Claim, failed: Unsynced) -> Saved {
        if failed.error.kind == StorageTrouble::Descriptors {
            return Saved::Doubtful {
                error: failed.error,
                check: Vec::new(),
                forget: Vec::new(),
            };
        }
        let hopeless = !matches!(failed.error.kind, StorageTrouble::Broken);
        if hopeless || std::mem::replace(&mut self.has_failed, true) {
            return Saved::Failed(failed.error);
        }
        let touches = |piece: &PieceIndex| {
            let mut runs = self.layout.runs_of_piece(*piece);
            runs.any(|run| failed.files.contains(&run.file))
        };
        let new = |piece: &PieceIndex| claim.have.has(*piece) && !self.safe.have.has(*piece);
        let pieces = self.layout.geometry().all_pieces();
        let check = pieces.filter(new).filter(touches).collect();
        let forget = claim.laid.iter().map(|laid| laid.piece());
        Saved::Doubtful {
            check,
            forget: forget.filter(touches).collect(),
            error: failed.error,
        }
    }

    /// Writes what is safe into the record; what went wrong, in a sentence.
    fn write_record(&mut self) -> Option<String> {
        let record = self.record.as_mut()?;
        let bytes = Record {
            info_hash: self.layout.info_hash(),
            claim: self.safe.clone(),
            files: self.facts.clone(),
        }
        .encode();
        let error = record.write(&bytes).err()?;
        Some(format!("the record of work is out of date: {error}"))
    }

    fn remove(self) -> Result<(), StorageError> {
        self.record.map_or(Ok(()), RecordFile::remove)
    }

    fn close(mut self) {
        self.record.into_iter().for_each(RecordFile::release);
        reach::unmake(&mut self.made); // only what is empty goes
    }
}

#[cfg(test)]
#[path = "keeper_tests.rs"]
mod tests;
