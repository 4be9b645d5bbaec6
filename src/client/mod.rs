//! The client: joins brains to hands. One coordinator thread owns the swarms; peer threads, the
//! keeper, the checker, the announcers and the listener tell it what happened and do what it says.
//!
//! ```text
//! let client = Client::start(settings, tasks)?;
//! for notice in client.notices() { ... }     // ends when every task has ended
//! client.stop();                             // from a signal handler's thread
//! ```

mod acting;
mod announcing;
mod coordinator;
mod hands;
mod leaving;
mod limiting;
mod noticeboard;
mod opening;
mod rechecks;
mod rehashes;
#[cfg(test)]
mod rig;
mod saves;
mod saving;
mod starting;
mod switchboard;
mod torrent;

use crate::net::trace::Tracer;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::selection::Selection;
use crate::protocol::{InfoHash, PieceIndex};
use crate::storage::hashed::Hashed;
use crate::storage::slot::StorageError;
use crate::swarm::event::Farewell;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// What holds for the whole client.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The port to listen on. `None`: the first free one of 6881 to 6889. `Some(0)`: any.
    pub port: Option<u16>,
    /// Listen on, dial from and ask trackers from this address only. `None`: all, IPv4 and IPv6.
    pub bind: Option<IpAddr>,
    /// Connections at a time, over all torrents.
    pub max_peers: usize,
    /// Bytes a second sent to all peers together, messages included. `None`: no limit.
    pub up: Option<u64>,
    /// Bytes a second read from all peers together, messages included. `None`: no limit.
    pub down: Option<u64>,
    /// Where wire messages are written down.
    pub trace: Option<Tracer>,
    /// The seed of the brains' dice.
    pub seed: u64,
}

/// What is to be done with a torrent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Download what is missing, then share.
    Get,
    /// Serve what is there, write nothing but the record.
    Seed,
}

/// One torrent to work on.
#[derive(Debug, Clone)]
pub struct Task {
    /// The torrent.
    pub metainfo: Metainfo,
    /// The folder the data goes to or lies in.
    pub folder: PathBuf,
    /// Download or only serve.
    pub role: Role,
    /// The files as whoever made the torrent has just hashed them: served from where they are, not hashed
    /// again while they are as they were, and no record is kept. With `Role::Seed` alone.
    pub hashed: Option<Arc<Hashed>>,
    /// Hash all data whatever the record says.
    pub check: bool,
    /// Take over existing files that do not fit: cut what is too long, overwrite what does not match.
    pub overwrite: bool,
    /// Peers given by the user.
    pub peers: Vec<SocketAddr>,
    /// Whether trackers may be asked.
    pub trackers: bool,
    /// The files that are wanted; with `Role::Seed`, all.
    pub wanted: Selection,
    /// Fetch the pieces in their order.
    pub sequential: bool,
    /// When sharing ends.
    pub sharing: Sharing,
    /// Give up when nothing has arrived for so long while something is missing.
    pub timeout: Option<Duration>,
}

/// When a complete torrent is shared no longer: at whichever limit is reached first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sharing {
    /// Uploaded divided by the size of what is wanted. `None`: no limit.
    pub ratio: Option<f64>,
    /// Time spent complete. `None`: no limit. Zero: leave as soon as complete.
    pub time: Option<Duration>,
}

/// Something a user would want to know, in the order it happened. `task` is the index of the `Task`.
#[derive(Debug, Clone, PartialEq)]
pub enum Notice {
    /// We listen for callers on this port; `None` where no port could be had (outgoing connections still work).
    Listening {
        /// The TCP port.
        port: Option<u16>,
    },
    /// Work on a torrent begins.
    Started {
        /// Which task.
        task: usize,
        /// Its torrent.
        info_hash: InfoHash,
        /// Its name, as written on disk.
        name: String,
        /// Bytes in all.
        size: u64,
        /// Bytes of the pieces that are wanted.
        wanted: u64,
    },
    /// Data on disk is being hashed: so many pieces of so many are done.
    Checking {
        /// Which task.
        task: usize,
        /// Pieces looked at.
        done: u32,
        /// Pieces to look at.
        of: u32,
    },
    /// How things stand; about every quarter of a second while something moves.
    Progress {
        /// Which task.
        task: usize,
        /// The figures.
        snapshot: Snapshot,
    },
    /// A peer came.
    PeerJoined {
        /// Which task.
        task: usize,
        /// Its address.
        address: SocketAddr,
        /// The program it says it is, not escaped; empty if it says nothing.
        client: String,
    },
    /// A peer left, or an address did not become one.
    PeerLeft {
        /// Which task.
        task: usize,
        /// Its address.
        address: SocketAddr,
        /// Why.
        why: Farewell,
    },
    /// A tracker answered or failed. The address carries no secrets (passkeys are cut out).
    Tracker {
        /// Which task.
        task: usize,
        /// The tracker, shown safely.
        tracker: String,
        /// The number of addresses it gave, or what went wrong, not escaped.
        outcome: Result<usize, String>,
    },
    /// A piece was verified.
    Piece {
        /// Which task.
        task: usize,
        /// Which piece.
        piece: PieceIndex,
        /// Whether its hash was right.
        good: bool,
    },
    /// With `Role::Seed`: a file of which not everything is here; the rest of it is served. Once a file,
    /// after the check.
    Missing {
        /// Which task.
        task: usize,
        /// The file's path below the torrent's root.
        path: String,
        /// How many of its bytes lie in pieces that are missing or wrong.
        bytes: u64,
    },
    /// So many of `Checking`, `Progress`, `PeerJoined`, `PeerLeft` and `Piece` were left out here, since the
    /// notices before this one were not read in time. Nothing else is ever left out.
    Dropped {
        /// How many.
        notices: u64,
    },
    /// Something is not as it should be and work goes on; one sentence, not escaped.
    Warning {
        /// Which task; `None` for the whole client.
        task: Option<usize>,
        /// The sentence.
        text: String,
    },
    /// Everything wanted is here, verified and synced. Sharing begins unless a limit says otherwise.
    Complete {
        /// Which task.
        task: usize,
        /// The figures.
        snapshot: Snapshot,
        /// Nothing had to be fetched.
        already: bool,
    },
    /// Work on this torrent has ended. Once a task, always.
    Stopped {
        /// Which task.
        task: usize,
        /// The figures.
        snapshot: Snapshot,
        /// How it ended.
        ending: Ending,
    },
}

/// How work on a torrent ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Complete, and the limit of sharing reached (or no sharing asked for).
    Done,
    /// Stopped from outside after it was complete.
    StoppedSharing,
    /// Stopped from outside before it was complete.
    Interrupted,
    /// Nothing arrived for the time given with `timeout`.
    TimedOut,
    /// No peers known and nobody to ask for any.
    NobodyToAsk,
    /// A disk made trouble.
    Storage(StorageError),
    /// `seed` found none of the torrent's data.
    NothingToSeed,
    /// Pieces that no peer could deliver rightly, in order.
    BadPieces(Vec<PieceIndex>),
}

/// The figures of one torrent at one moment. Sizes in bytes, rates in bytes a second.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// Bytes of the torrent.
    pub size: u64,
    /// Bytes of the pieces that are wanted.
    pub wanted: u64,
    /// Whether what lies on disk is known: before that, `have` is 0 and says nothing.
    pub looked: bool,
    /// Bytes verified.
    pub have: u64,
    /// Bytes verified, of wanted pieces.
    pub wanted_have: u64,
    /// Pieces of the torrent.
    pub pieces: u32,
    /// Pieces verified.
    pub pieces_have: u32,
    /// Payload fetched in this run.
    pub downloaded: u64,
    /// Payload served in this run.
    pub uploaded: u64,
    /// Payload served in all runs, as the record knows.
    pub uploaded_ever: u64,
    /// Payload fetched in all runs, as the record knows.
    pub downloaded_ever: u64,
    /// Payload thrown away in this run: late, twice, or wrong.
    pub wasted: u64,
    /// Fetched a second, lately.
    pub down_rate: u64,
    /// Served a second, lately.
    pub up_rate: u64,
    /// Peers connected.
    pub peers: usize,
    /// Peers connected that have everything.
    pub seeds: usize,
    /// Peers that sent wrong data and are not asked any more.
    pub liars: usize,
    /// Time since work on this torrent began.
    pub elapsed: Duration,
    /// Time since it was complete, if it is.
    pub sharing: Option<Duration>,
}

impl Snapshot {
    /// Uploaded in all runs divided by the size of what is wanted; 0 where that is nothing.
    pub fn ratio(&self) -> f64 {
        if self.wanted == 0 {
            0.0
        } else {
            self.uploaded_ever as f64 / self.wanted as f64
        }
    }
}

/// Why a client could not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The port that was asked for is not to be had.
    #[error("cannot listen on port {port}: {cause}")]
    Port {
        /// The port.
        port: u16,
        /// The system's words.
        cause: String,
    },
    /// The address that was asked for is not one of this machine.
    #[error("cannot use the address {address}: {cause}")]
    Bind {
        /// The address.
        address: std::net::IpAddr,
        /// The system's words.
        cause: String,
    },
    /// A thread could not be started.
    #[error("cannot start the {thread} thread: {cause}")]
    Thread {
        /// Which.
        thread: &'static str,
        /// The system's words.
        cause: String,
    },
    /// Too few file descriptors are allowed to do anything.
    #[error("only {allowed} open files are allowed and at least {needed} are needed")]
    Descriptors {
        /// The limit in force.
        allowed: u64,
        /// What the smallest run takes.
        needed: u64,
    },
    /// The same torrent stands twice among the tasks.
    #[error("the torrent {0} was given twice")]
    Twice(InfoHash),
    /// Two torrents would use the same file or folder.
    #[error("two torrents have their data at {}", .0.display())]
    SamePlace(PathBuf),
}

/// A running client. Dropping it asks it to stop and waits for it.
pub struct Client {
    notices: crossbeam_channel::Receiver<Notice>,
    control: crossbeam_channel::Sender<Control>,
    thread: Option<std::thread::JoinHandle<()>>,
    ended: crossbeam_channel::Receiver<()>,
}

/// What the outside may ask of a running client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Save, say goodbye to trackers and peers, and end.
    Stop,
    /// The same, but trackers hear nothing: for them it is as if the power had failed.
    Vanish,
}

impl Client {
    /// Everything that happens from here on; the channel closes when every task has ended.
    pub fn notices(&self) -> &crossbeam_channel::Receiver<Notice> {
        &self.notices
    }

    /// A sender for signal handling threads; sending to a client that has ended is harmless.
    pub fn control(&self) -> crossbeam_channel::Sender<Control> {
        self.control.clone()
    }

    /// Closes when every task has ended, though their notices may not be read yet.
    pub fn ended(&self) -> &crossbeam_channel::Receiver<()> {
        &self.ended
    }

    /// Asks the client to stop; the `Stopped` notices follow.
    pub fn stop(&self) {
        let _ = self.control.send(Control::Stop);
    }
}
