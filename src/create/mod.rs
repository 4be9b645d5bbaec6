//! Makes a .torrent of a file or a folder (BEP 3): what the command `create` does.
//!
//! ```text
//! let mut work = Creation::start(path, settings, threads)?;
//! for step in &mut work { step?; ... }      // pieces are hashed, in no order
//! let torrent = work.finish()?;             // looks once more whether a file has changed
//! target.save(&torrent.bytes, overwrite)?;
//! ```
//!
//! `tree` finds the files, `hashing` reads them, [`saving`] puts the result in its place. The same
//! files and [`TorrentSettings`] give the same bytes on every machine: files are ordered by the bytes of their
//! paths, and nothing else comes from the outside.

mod hashing;
pub mod saving;
mod tree;

use crate::protocol::glob::Glob;
use crate::protocol::metainfo::{
    Draft, FILES_MAX, FileEntry, METAINFO_BYTES_MAX, Metainfo, MetainfoError,
};
use crate::protocol::{Digest, Geometry};
use crate::storage::hashed::Hashed;
use crossbeam_channel::{Receiver, Sender};
use hashing::{Done, Job, Worker};
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
pub use tree::Identity;
use tree::Tree;

/// The shortest piece that is made unless it is asked for otherwise, in bytes: one block.
pub const PIECE_LENGTH_SHORTEST: u32 = 16 * 1024;

/// The longest piece that is made, in bytes.
pub const PIECE_LENGTH_LONGEST: u32 = 16 * 1024 * 1024;

/// More pieces than these, and the next longer piece length is taken. So there are 1,500 to 3,000:
/// few enough for a small .torrent, enough that a swarm has something to trade.
const PIECES_WANTED: u64 = 3_000;

/// The most pieces a worker takes at a time: one for each lane of the widest vectors.
const BATCH: u32 = 16;

/// Files a worker looks at again in one job. A thread for fewer costs more than it brings.
const FILES_A_LOOK: usize = 512;

/// What the author wants to be in the torrent.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TorrentSettings {
    /// The torrent's name; `None`: the name of the file or folder.
    pub name: Option<String>,
    /// Bytes a piece; `None`: [`piece_length_for`] the size.
    pub piece_length: Option<u32>,
    /// Tiers of tracker addresses (BEP 12).
    pub trackers: Vec<Vec<String>>,
    /// Web seeds (BEP 19).
    pub webseeds: Vec<String>,
    /// Peers shall come from the trackers alone (BEP 27).
    pub private: bool,
    /// A remark.
    pub comment: Option<String>,
    /// What tells apart copies for different trackers.
    pub source: Option<String>,
    /// The program that makes it.
    pub created_by: Option<String>,
    /// Seconds since 1970.
    pub creation_date: Option<i64>,
    /// Files and folders that stay out.
    pub exclude: Vec<Glob>,
    /// Files and folders whose name begins with a dot are taken in.
    pub hidden: bool,
    /// Files that stay out wherever they are: those that will be written, or are being.
    pub outputs: Vec<Identity>,
}

/// A .torrent file that is ready to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct TorrentFile {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// The same as everybody will read it.
    pub metainfo: Metainfo,
}

/// What was left out of a folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Names that begin with a dot; a folder counts once.
    pub hidden: usize,
    /// Names that a glob of [`TorrentSettings::exclude`] matched; a folder counts once.
    pub excluded: usize,
}

/// Why there is no torrent.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// A file or folder cannot be read.
    #[error("cannot read {}: {error}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// Something that is no file and no folder. `what` says what it is: "a FIFO".
    #[error("{} is {what}", path.display())]
    Special {
        /// Where.
        path: PathBuf,
        /// What it is.
        what: &'static str,
    },
    /// A symbolic link that leads to a folder it lies in.
    #[error("{} leads back to a folder it lies in", path.display())]
    Loop {
        /// The link.
        path: PathBuf,
    },
    /// A name that is not UTF-8: every program would write it under another name.
    #[error("the name of {} is not UTF-8", path.display())]
    NotText {
        /// The file or folder.
        path: PathBuf,
    },
    /// More files or folders than [`FILES_MAX`].
    #[error("there are more than {FILES_MAX} files or folders")]
    TooManyFiles,
    /// Folders in folders without end.
    #[error("{} lies too deep", path.display())]
    TooDeep {
        /// The folder.
        path: PathBuf,
    },
    /// There is no file, or all files are empty.
    #[error("there is nothing in {} to make a torrent of", path.display())]
    Nothing {
        /// What was looked at.
        path: PathBuf,
        /// What was there and stayed out.
        left_out: LeftOut,
    },
    /// The path has no name, and none was given.
    #[error("{} has no name", path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// The file is also the place where the .torrent would go.
    #[error("{} would be replaced by its own .torrent", path.display())]
    Itself {
        /// The file.
        path: PathBuf,
    },
    /// A file is not as it was when the work began.
    #[error("{} changed while it was read", path.display())]
    Changed {
        /// Which.
        path: PathBuf,
    },
    /// Others would not read it, or we ourselves.
    #[error("nobody could read the torrent: {0}")]
    Unusable(#[from] MetainfoError),
    /// The .torrent would have more than [`METAINFO_BYTES_MAX`] bytes.
    #[error("the .torrent would have {0} bytes, {METAINFO_BYTES_MAX} are supported")]
    TooLong(usize),
    /// No thread can be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// A thread that hashes has panicked, by a fault of ours.
    #[error("our hasher thread has failed")]
    Hasher,
    /// Somebody wanted it to end, by [`Stopper::stop`].
    #[error("it was stopped")]
    Stopped,
}

/// The piece length for so many bytes, in bytes: a power of two from 16 KiB to 16 MiB, so that there
/// are 1,500 to 3,000 pieces where that is possible.
pub fn piece_length_for(total: u64) -> u32 {
    let mut length = PIECE_LENGTH_SHORTEST;
    while length < PIECE_LENGTH_LONGEST && total.div_ceil(length.into()) > PIECES_WANTED {
        length *= 2;
    }
    length
}

/// A torrent in the making. Dropping it ends the threads.
#[derive(Debug)]
pub struct Creation {
    tree: Arc<Tree>,
    draft: Draft,
    geometry: Geometry,
    jobs: Option<Sender<Job>>,
    done: Receiver<Done>,
    threads: Vec<JoinHandle<()>>,
    stopper: Stopper,
    /// Pieces that are not hashed yet.
    left: u32,
}

/// Ends a creation from another thread, such as one that waits for signals.
#[derive(Debug, Clone, Default)]
pub struct Stopper(Arc<AtomicBool>);

impl Stopper {
    /// Lets the next step be [`CreateError::Stopped`]; threads end in the middle of a piece.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Pieces were hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HashProgress {
    /// How many, since the step before.
    pub pieces: u32,
    /// The bytes in them.
    pub bytes: u64,
}

impl Creation {
    /// Looks at what `path` names and starts to hash it with at most `threads` threads. What would stand
    /// in the way of the finished torrent is told here, before hours of hashing.
    pub fn start(
        path: &Path,
        settings: TorrentSettings,
        threads: NonZeroUsize,
    ) -> Result<Creation, CreateError> {
        let tree = Tree::look(path, &settings, threads)?;
        let total = tree.total();
        let nothing = || CreateError::Nothing {
            path: path.to_owned(),
            left_out: tree.left_out,
        };
        if total == 0 {
            return Err(nothing());
        }
        let draft = draft(&tree, path, settings)?;
        let geometry = Geometry::new(total, draft.piece_length).map_err(MetainfoError::from)?;
        let draft = Draft {
            piece_digests: vec![Digest([0; 20]); geometry.pieces() as usize],
            ..draft
        };

        // Bound: a job for each batch of pieces, all put in at once, then one for each FILES_A_LOOK files.
        let (jobs, queue) = crossbeam_channel::unbounded();
        // Bound: an answer to each job. What they bring is kept anyway: nobody waits for whoever shows the progress.
        let (tell, done) = crossbeam_channel::unbounded();
        let batch = batch_length(&geometry, threads);
        for first in (0..geometry.pieces()).step_by(batch as usize) {
            let end = geometry.pieces().min(first + batch);
            let _ = jobs.send(Job::Hash(first..end));
        }
        let tree = Arc::new(tree);
        let stopper = Stopper::default();
        let mut started: Vec<JoinHandle<()>> = Vec::new();
        for number in 0..threads.get().min(jobs.len()) {
            let worker = Worker::new(tree.clone(), geometry, stopper.clone(), threads.get());
            let (queue, tell) = (queue.clone(), tell.clone());
            let thread = std::thread::Builder::new()
                .name(format!("hasher {number}"))
                .stack_size(hashing::STACK)
                .spawn(move || worker.work(&queue, &tell));
            match thread {
                Ok(thread) => started.push(thread),
                // Fewer threads do the same work.
                Err(_) if !started.is_empty() => break,
                Err(error) => return Err(CreateError::Thread(error)),
            }
        }
        let creation = Creation {
            tree,
            draft,
            geometry,
            jobs: Some(jobs),
            done,
            threads: started,
            stopper,
            left: geometry.pieces(),
        };
        // The threads are at work meanwhile: with many files this takes as long as a good part of the hashing.
        proven(creation.draft.compose())?;
        Ok(creation)
    }

    /// The torrent's name.
    pub fn name(&self) -> &str {
        &self.draft.name
    }

    /// What ends this creation from elsewhere.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// How the bytes are cut.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// What stayed out.
    pub fn left_out(&self) -> LeftOut {
        self.tree.left_out
    }

    /// Patterns of what was to stay out that nothing matched: misspelt, most likely.
    pub fn idle_globs(&self) -> &[Glob] {
        &self.tree.idle
    }

    /// The files, as they were found: once [`Creation::finish`] has succeeded, as they were hashed. Asked
    /// for before that, so that what is moved away meanwhile is noticed by it.
    pub fn hashed(&self) -> Result<Hashed, CreateError> {
        let files = 0..self.tree.files.len();
        let files = files.map(|number| self.tree.hashed(number));
        files.collect::<Result<_, _>>().map(Hashed)
    }

    /// The torrent: hashes what is left to be hashed, then looks whether all files are still those that
    /// were found at the start.
    pub fn finish(mut self) -> Result<TorrentFile, CreateError> {
        for step in &mut self {
            step?;
        }
        // The threads look while the torrent is written.
        let looks = self.look_again()?;
        let torrent = proven(self.draft.compose());
        self.hear_of(looks)?;
        torrent
    }

    /// Lets the threads look at all files: it is a system call a file. How many answers will come.
    fn look_again(&mut self) -> Result<usize, CreateError> {
        let Some(jobs) = self.jobs.take() else {
            return Err(CreateError::Stopped);
        };
        let files = self.tree.files.len();
        let looks = (0..files).step_by(FILES_A_LOOK);
        let answers = looks.len();
        for first in looks {
            let _ = jobs.send(Job::Look(first..files.min(first + FILES_A_LOOK)));
        }
        Ok(answers)
    }

    fn hear_of(&self, looks: usize) -> Result<(), CreateError> {
        for _ in 0..looks {
            match self.done.recv() {
                Ok(Done::Failed(error)) => return Err(error),
                Ok(_) => {}
                Err(_) => return Err(CreateError::Stopped),
            }
        }
        Ok(())
    }
}

impl Iterator for Creation {
    type Item = Result<HashProgress, CreateError>;

    /// Waits until more pieces are hashed. `None` when all are; nothing good comes after an error.
    fn next(&mut self) -> Option<Result<HashProgress, CreateError>> {
        if self.left == 0 {
            return None;
        }
        match self.done.recv() {
            Ok(Done::Hashed { first, digests }) => {
                let pieces = digests.len() as u32;
                let begin = first as usize;
                self.draft.piece_digests[begin..begin + digests.len()].copy_from_slice(&digests);
                self.left -= pieces;
                let of_each = (first..first + pieces).filter_map(|it| self.geometry.piece(it));
                let bytes = of_each
                    .map(|piece| u64::from(self.geometry.piece_size(piece)))
                    .sum();
                Some(Ok(HashProgress { pieces, bytes }))
            }
            Ok(Done::Failed(error)) => Some(Err(error)),
            Ok(Done::Looked) | Err(_) => Some(Err(CreateError::Stopped)),
        }
    }
}

impl Drop for Creation {
    fn drop(&mut self) {
        self.jobs = None;
        self.stopper.stop();
        // Nobody listens any more, so no thread waits to be heard.
        self.done = crossbeam_channel::never();
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// Pieces a job: as many as can be hashed side by side, fewer where threads would be without work.
fn batch_length(geometry: &Geometry, threads: NonZeroUsize) -> u32 {
    let threads = u32::try_from(threads.get()).unwrap_or(u32::MAX);
    geometry.pieces().div_ceil(threads).clamp(1, BATCH)
}

/// The torrent without its digests.
fn draft(tree: &Tree, path: &Path, settings: TorrentSettings) -> Result<Draft, CreateError> {
    let name = match settings.name {
        Some(name) => name,
        None => name_of(path)?,
    };
    let entry = |file: &tree::TreeFile| FileEntry::plain(&file.path, file.stamp.length);
    Ok(Draft {
        name,
        piece_length: settings
            .piece_length
            .unwrap_or_else(|| piece_length_for(tree.total())),
        single_file: tree.single_file,
        files: tree.files.iter().map(entry).collect(),
        trackers: settings.trackers,
        webseeds: settings.webseeds,
        private: settings.private,
        comment: settings.comment,
        created_by: settings.created_by,
        creation_date: settings.creation_date,
        source: settings.source,
        ..Draft::default()
    })
}

/// The name that a torrent of `path` has unless it is given another: the last element; for `.` and `..`
/// that of the folder itself.
pub fn name_of(path: &Path) -> Result<String, CreateError> {
    let of = |path: &Path| path.file_name().map(|name| name.to_owned());
    let name = of(path).or_else(|| of(&path.canonicalize().ok()?));
    let none = || CreateError::NoName {
        path: path.to_owned(),
    };
    let not_text = |_| CreateError::NotText {
        path: path.to_owned(),
    };
    name.ok_or_else(none)?.into_string().map_err(not_text)
}

/// Reads our own work as others will.
fn proven(bytes: Vec<u8>) -> Result<TorrentFile, CreateError> {
    if bytes.len() > METAINFO_BYTES_MAX {
        return Err(CreateError::TooLong(bytes.len()));
    }
    let metainfo = Metainfo::from_bytes(&bytes)?;
    Ok(TorrentFile { bytes, metainfo })
}

#[cfg(test)]
mod tests;
