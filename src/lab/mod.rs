//! A whole swarm on loopback in one process: a tracker, seeds that have a book, leechers that want it.
//!
//! Everybody is an ordinary client with its own coordinator, threads and folder, and finds the others
//! through an ordinary tracker (BEP 15). The lab sees what they say to each other through the trace
//! that `--trace` writes. What happens is told as [`LabEvent`]s beside the [`Chronicle`] so far;
//! printing them is the roof's work, and [`report`] makes a page of it.
//!
//! ```text
//! let (stop, stopped) = crossbeam_channel::bounded(1);
//! let outcome = lab::run(&Plan::default(), &stopped, &mut |chronicle, at, event| ...)?;
//! std::fs::write("swarm.html", lab::report::page(&outcome))?;
//! ```
//!
//! [`book`] is what they share, [`cast`] who they are, `swarm` what they do, `faults` what is made to go
//! wrong. The cast, the book and what each client's dice start from follow from [`Plan::rng`]; the order
//! of what happens does not, for the threads and the clock are real.

pub mod book;
pub mod cast;
pub mod chronicle;
mod faults;
pub mod report;
mod setting;
mod swarm;

use crate::client::{Ending, Notice, StartError};
use crate::protocol::metainfo::MetainfoError;
use chronicle::{ChokeChange, Chronicle, PieceArrival};
use crossbeam_channel::Receiver;
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the lab is to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Leechers, free riders and leavers included.
    pub peers: usize,
    /// Seeds.
    pub seeds: usize,
    /// Bytes a second that each sends at most; `None`: no limit.
    pub up: Option<u64>,
    /// What the dice start from.
    pub rng: u64,
    /// Leechers that give next to nothing.
    pub free_riders: usize,
    /// Further peers, which say that they have the book and send wrong bytes.
    pub liars: usize,
    /// Leechers that vanish half-way.
    pub leave: usize,
    /// The seeds leave so long after the leechers came.
    pub no_seed_after: Option<Duration>,
    /// The book; `None`: one is written.
    pub file: Option<PathBuf>,
}

impl Default for Plan {
    /// Six leechers and a seed whose lines make it last long enough to watch: 6 s at the least.
    fn default() -> Plan {
        Plan {
            peers: 6,
            seeds: 1,
            up: Some(512 * 1024),
            rng: 1,
            free_riders: 0,
            liars: 0,
            leave: 0,
            no_seed_after: None,
            file: None,
        }
    }
}

/// What happens in the lab, in order. `who` is a place in [`Chronicle::members`].
#[derive(Debug, Clone, PartialEq)]
pub enum LabEvent {
    /// The book lies in the seeds' folders, cut and described, and a tracker is open.
    Opened {
        /// Bytes of the .torrent file.
        torrent: u64,
        /// Where the tracker is.
        tracker: SocketAddr,
    },
    /// Somebody sat down.
    Entered {
        /// Who.
        who: usize,
    },
    /// A client told something.
    Told {
        /// Which.
        who: usize,
        /// What.
        notice: Notice,
    },
    /// A piece came and is right.
    Came(PieceArrival),
    /// Somebody was choked or unchoked.
    Turned(ChokeChange),
    /// Somebody leaves before the end: a leaver, or a seed that was told to.
    Left {
        /// Who.
        who: usize,
    },
    /// The leechers have all pieces among them.
    Spread,
    /// Time has passed: a picture may be drawn again.
    Tick,
    /// A copy was read from disk and compared with the book.
    Compared {
        /// Whose.
        who: usize,
        /// Whether it is equal, byte for byte.
        equal: bool,
    },
}

/// How the lab ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LabVerdict {
    /// Everybody who was to have the book has it, byte for byte.
    Everybody,
    /// These pieces were with nobody any more: the book was lost.
    Lost(Vec<u32>),
    /// Nothing arrived for a long time, though all pieces were there.
    Stuck,
    /// Stopped from outside.
    Stopped,
    /// Copies of these differ from the book.
    Different(Vec<usize>),
}

/// What a run leaves.
#[derive(Debug, Clone)]
pub struct LabOutcome {
    /// All that happened.
    pub chronicle: Chronicle,
    /// How it ended.
    pub verdict: LabVerdict,
}

/// Why there was no lab, or no end of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabError {
    /// The file that was to be the book.
    #[error("cannot take {} for a book: {cause}", path.display())]
    Book {
        /// Which.
        path: PathBuf,
        /// The system's words, or ours.
        cause: String,
    },
    /// The lab's folder, or a file in it, makes trouble.
    #[error("cannot use {}: {cause}", path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// The system's words.
        cause: String,
    },
    /// Our own torrent is not understood.
    #[error("the lab's own torrent is refused: {0}")]
    Metainfo(#[from] MetainfoError),
    /// A client did not start.
    #[error("{0}")]
    Start(#[from] StartError),
    /// The tracker did not start.
    #[error("{0}")]
    Tracker(String),
    /// So many connections need more descriptors than the system allows.
    #[error("only {allowed} open files are allowed and a table of this size needs about {needed}")]
    Descriptors {
        /// The limit in force.
        allowed: u64,
        /// What the table takes.
        needed: u64,
    },
    /// A client ended otherwise than it should.
    #[error("{who} ended before its time: {ending:?}")]
    Ended {
        /// Its name.
        who: String,
        /// How.
        ending: Ending,
    },
}

/// What is told: how things stand, the time since the lab began, what happened.
pub type Tell<'a> = dyn FnMut(&Chronicle, Duration, LabEvent) + 'a;

/// Runs the lab in a new folder among the system's temporary ones and removes it in the end. A
/// message through `stopped` ends it early. The plan has at least one leecher that neither rides nor
/// leaves, and a seed.
pub fn run(plan: &Plan, stopped: &Receiver<()>, tell: &mut Tell) -> Result<LabOutcome, LabError> {
    let folder = Folder::new()?;
    swarm::run(plan, &folder, stopped, tell)
}

fn trouble(path: &Path, error: &std::io::Error) -> LabError {
    LabError::Folder {
        path: path.to_owned(),
        cause: error.to_string(),
    }
}

/// How the names of labs' folders begin.
const NAME: &str = "ropewalk-lab-";

/// Names that are tried for a folder.
const NAMES: usize = 16;

/// A new folder that is removed with everything in it when the lab is over, or by the next lab, where this one was
/// killed: a lock on it says that somebody is in there, and ends with its process.
struct Folder {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    fn new() -> Result<Folder, LabError> {
        let among = std::env::temp_dir();
        sweep(&among);
        Folder::within(&among)
    }

    fn within(among: &Path) -> Result<Folder, LabError> {
        for _ in 0..NAMES {
            let name = format!("{NAME}{}-{:08x}", std::process::id(), fastrand::u32(..));
            let path = among.join(name);
            // Not `create_dir_all`: a folder that is there already is somebody else's.
            std::fs::create_dir(&path).map_err(|error| trouble(&path, &error))?;
            // Before it was locked, another lab may have swept it away.
            if let Some(_lock) = lock(&path) {
                return Ok(Folder { path, _lock });
            }
        }
        let error = std::io::Error::other("no new folder can be locked");
        Err(trouble(among, &error))
    }

    fn sub(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.path.join(name);
        std::fs::create_dir(&path).map_err(|error| trouble(&path, &error))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Removes the folders of labs of ours that were killed. What does not go is no trouble.
fn sweep(among: &Path) {
    let entries = std::fs::read_dir(among).into_iter().flatten().flatten();
    let labs = entries.filter(|it| {
        it.file_name()
            .as_encoded_bytes()
            .starts_with(NAME.as_bytes())
    });
    for entry in labs {
        let path = entry.path();
        if let Some(_lock) = lock(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// The lock on a folder of ours, if nobody has it and the folder is still there.
fn lock(path: &Path) -> Option<File> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    rustix::fs::flock(&folder, FlockOperation::NonBlockingLockExclusive).ok()?;
    let found = folder.metadata().ok()?;
    let ours = found.uid() == rustix::process::geteuid().as_raw();
    (ours && found.nlink() > 0).then_some(folder)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_lab_that_was_killed_is_swept_away_by_the_next_one_and_a_living_one_is_not() {
        let among = tempfile::tempdir().unwrap();
        let living = Folder::within(among.path()).unwrap();
        let dead = among.path().join("ropewalk-lab-1-00000000");
        std::fs::create_dir_all(dead.join("3")).unwrap();
        std::fs::write(dead.join("3/book"), "pages").unwrap();
        let others = among.path().join("ropewalk-laboratory");
        std::fs::create_dir(&others).unwrap();
        let link = among.path().join("ropewalk-lab-link");
        std::os::unix::fs::symlink(&others, &link).unwrap();
        sweep(among.path());
        assert!(living.path.exists() && !dead.exists());
        assert!(others.exists() && link.is_symlink());
        let path = living.path.clone();
        drop(living);
        assert!(!path.exists());
    }
}
