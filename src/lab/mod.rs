//! A whole swarm on loopback in one process: a seed that has a book and a leecher that wants it.
//!
//! The two are ordinary clients with their own coordinators, threads and folders; the leecher is told
//! the seed's address, so there is no tracker. What happens is told as [`LabEvent`]s; printing them
//! is the roof's work.
//!
//! ```text
//! let (stop, stopped) = crossbeam_channel::bounded(1);
//! lab::run(&stopped, &mut |event| println!("{event:?}"))?;   // Ok only if the books are equal
//! ```

pub mod book;

use crate::client::{Client, Ending, Notice, Role, Settings, Sharing, StartError, Task};
use crate::protocol::metainfo::{Metainfo, MetainfoError};
use crate::protocol::selection::Selection;
use crate::protocol::{Digest, InfoHash};
use crossbeam_channel::{Receiver, never, select};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Connections each client may have: two would do.
const MAX_PEERS: usize = 8;

/// The leecher gives up when nothing has arrived for so long: the lab never hangs.
const PATIENCE: Duration = Duration::from_secs(30);

/// Who in the lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    /// The client that has the book.
    Seed,
    /// The client that wants it.
    Leecher,
}

/// What happens in the lab, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum LabEvent {
    /// The book was written into the seed's folder.
    Written {
        /// Its pages.
        pages: u32,
        /// Its bytes.
        bytes: u64,
    },
    /// The book was cut into pieces and described.
    Described {
        /// The name of the torrent everywhere.
        info_hash: InfoHash,
        /// How many pieces.
        pieces: u32,
        /// Bytes a piece.
        piece_length: u32,
        /// Bytes of the .torrent file.
        torrent: u64,
    },
    /// A client was started; the leecher is told the seed's address and nothing else.
    Entered {
        /// Which.
        who: Who,
        /// Whom it knows.
        knows: Option<SocketAddr>,
    },
    /// A client told something.
    Told {
        /// Which.
        who: Who,
        /// What.
        notice: Notice,
    },
    /// Both books were read again from disk and compared.
    Compared {
        /// The SHA-1 of the seed's book.
        seed: Digest,
        /// The SHA-1 of the leecher's.
        leecher: Digest,
        /// Whether they are equal, byte for byte.
        equal: bool,
    },
}

/// Why there are not two equal books in the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LabError {
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
    /// The seed has no port to listen on.
    #[error("no port on 127.0.0.1 is to be had")]
    NoPort,
    /// A client ended otherwise than it should.
    #[error("the {} ended before the book was whole: {ending:?}", who.name())]
    Ended {
        /// Which.
        who: Who,
        /// How.
        ending: Ending,
    },
    /// The books differ.
    #[error("the two books differ")]
    Different,
    /// Stopped from outside.
    #[error("the lab was stopped")]
    Stopped,
}

impl Who {
    /// `seed` or `leecher`.
    pub fn name(self) -> &'static str {
        match self {
            Who::Seed => "seed",
            Who::Leecher => "leecher",
        }
    }
}

/// Runs the lab in a new folder among the system's temporary ones and removes it in the end. A
/// message through `stopped` ends it early.
pub fn run(stopped: &Receiver<()>, tell: &mut dyn FnMut(LabEvent)) -> Result<(), LabError> {
    let folder = Folder::new()?;
    let (seed_folder, leecher_folder) = (folder.sub("seed")?, folder.sub("leecher")?);

    let text = book::write();
    let original = seed_folder.join(book::NAME);
    std::fs::write(&original, &text).map_err(|error| trouble(&original, &error))?;
    tell(LabEvent::Written {
        pages: book::PAGES,
        bytes: text.len() as u64,
    });

    let torrent = book::describe(&text);
    let metainfo = Metainfo::from_bytes(&torrent)?;
    tell(LabEvent::Described {
        info_hash: metainfo.info_hash,
        pieces: metainfo.geometry.pieces(),
        piece_length: metainfo.geometry.piece_length(),
        torrent: torrent.len() as u64,
    });

    let task = task(metainfo.clone(), seed_folder, Role::Seed, None);
    Table {
        metainfo,
        leecher_folder: leecher_folder.clone(),
        port: None,
        seed_ready: false,
        seed: Some(Client::start(settings(), vec![task])?),
        leecher: None,
        outcome: Err(LabError::Stopped),
    }
    .run(stopped, tell)?;

    compare(&original, &leecher_folder.join(book::NAME), tell)
}

fn settings() -> Settings {
    Settings {
        port: Some(0),
        bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        max_peers: MAX_PEERS,
        up: None,
        down: None,
        trace: None,
        seed: fastrand::u64(..),
    }
}

fn task(metainfo: Metainfo, folder: PathBuf, role: Role, peer: Option<SocketAddr>) -> Task {
    Task {
        wanted: Selection::all(&metainfo),
        hashed: None,
        sequential: false,
        metainfo,
        folder,
        role,
        check: false,
        overwrite: false,
        peers: peer.into_iter().collect(),
        trackers: false,
        sharing: Sharing {
            ratio: None,
            // The leecher leaves when it has the book; the seed when the leecher has left.
            time: (role == Role::Get).then_some(Duration::ZERO),
        },
        timeout: (role == Role::Get).then_some(PATIENCE),
    }
}

/// The two clients and what has to happen before the next step.
struct Table {
    metainfo: Metainfo,
    leecher_folder: PathBuf,
    /// The seed's port, once it listens.
    port: Option<u16>,
    /// The seed has checked its book.
    seed_ready: bool,
    seed: Option<Client>,
    leecher: Option<Client>,
    outcome: Result<(), LabError>,
}

impl Table {
    fn run(
        mut self,
        stopped: &Receiver<()>,
        tell: &mut dyn FnMut(LabEvent),
    ) -> Result<(), LabError> {
        tell(LabEvent::Entered {
            who: Who::Seed,
            knows: None,
        });
        let nothing = never();
        let mut stopped = stopped.clone();
        while self.seed.is_some() || self.leecher.is_some() {
            let notices = |client: &Option<Client>| {
                client
                    .as_ref()
                    .map_or_else(|| nothing.clone(), |client| client.notices().clone())
            };
            let (seed, leecher) = (notices(&self.seed), notices(&self.leecher));
            select! {
                recv(seed) -> notice => self.hear(Who::Seed, notice.ok(), tell)?,
                recv(leecher) -> notice => self.hear(Who::Leecher, notice.ok(), tell)?,
                recv(stopped) -> _ => {
                    stopped = never();
                    self.stop();
                }
            }
        }
        self.outcome
    }

    /// A client told something, or has nothing more to tell.
    fn hear(
        &mut self,
        who: Who,
        notice: Option<Notice>,
        tell: &mut dyn FnMut(LabEvent),
    ) -> Result<(), LabError> {
        let Some(notice) = notice else {
            match who {
                Who::Seed => self.seed = None,
                Who::Leecher => self.leecher = None,
            }
            self.stop();
            return Ok(());
        };
        match (who, &notice) {
            (Who::Seed, Notice::Listening { port }) => {
                self.port = Some(port.ok_or(LabError::NoPort)?);
            }
            (Who::Seed, Notice::Complete { .. }) => self.seed_ready = true,
            (_, Notice::Stopped { ending, .. }) => self.ended(who, ending),
            _ => {}
        }
        tell(LabEvent::Told { who, notice });
        match self.port {
            Some(port) if self.seed_ready => {
                self.seed_ready = false;
                self.seat_leecher(port, tell)
            }
            _ => Ok(()),
        }
    }

    fn seat_leecher(&mut self, port: u16, tell: &mut dyn FnMut(LabEvent)) -> Result<(), LabError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        tell(LabEvent::Entered {
            who: Who::Leecher,
            knows: Some(address),
        });
        let task = task(
            self.metainfo.clone(),
            self.leecher_folder.clone(),
            Role::Get,
            Some(address),
        );
        self.leecher = Some(Client::start(settings(), vec![task])?);
        Ok(())
    }

    fn ended(&mut self, who: Who, ending: &Ending) {
        match (who, ending) {
            (Who::Leecher, Ending::Done) => self.outcome = Ok(()),
            (_, Ending::Interrupted | Ending::StoppedSharing) => {}
            _ => {
                self.outcome = Err(LabError::Ended {
                    who,
                    ending: ending.clone(),
                });
            }
        }
    }

    /// Nobody stays alone at the table.
    fn stop(&self) {
        for client in [&self.seed, &self.leecher].into_iter().flatten() {
            client.stop();
        }
    }
}

fn compare(original: &Path, copy: &Path, tell: &mut dyn FnMut(LabEvent)) -> Result<(), LabError> {
    let read = |path: &Path| std::fs::read(path).map_err(|error| trouble(path, &error));
    let (original, copy) = (read(original)?, read(copy)?);
    let equal = original == copy;
    tell(LabEvent::Compared {
        seed: Digest::of(&original),
        leecher: Digest::of(&copy),
        equal,
    });
    if equal {
        Ok(())
    } else {
        Err(LabError::Different)
    }
}

fn trouble(path: &Path, error: &std::io::Error) -> LabError {
    LabError::Folder {
        path: path.to_owned(),
        cause: error.to_string(),
    }
}

/// A new folder that is removed with everything in it when the lab is over.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Folder, LabError> {
        let name = format!(
            "ropewalk-lab-{}-{:08x}",
            std::process::id(),
            fastrand::u32(..)
        );
        let path = std::env::temp_dir().join(name);
        // Not `create_dir_all`: a folder that is there already is somebody else's.
        std::fs::create_dir(&path).map_err(|error| trouble(&path, &error))?;
        Ok(Folder(path))
    }

    fn sub(&self, name: &str) -> Result<PathBuf, LabError> {
        let path = self.0.join(name);
        std::fs::create_dir(&path).map_err(|error| trouble(&path, &error))?;
        Ok(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the system's own cleaning.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
