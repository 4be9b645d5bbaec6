//! The files below a path, in the order in which their bytes make the torrent.
//!
//! ```text
//! let tree = Tree::look(path, &settings)?;
//! for file in &tree.files { ... }        // sorted by the bytes of their paths
//! let same = tree.is_still_there(number);   // once more, when all is read
//! ```
//!
//! Symbolic links are followed, as mktorrent and transmission-create do: the torrent holds what they
//! lead to. A file is asked about once here, once at the end, and opened once for each piece range of it.

use super::{CreateError, LeftOut, Settings};
use crate::protocol::filenames::PATH_ELEMENTS_MAX;
use crate::protocol::metainfo::FILES_MAX;
use crate::storage::hashed::HashedFile;
use crate::storage::record::FileFacts;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, StatxFlags};
use std::fs::{FileType, Metadata};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What makes a file this file and no other: device and inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// That of the file behind these metadata.
    pub fn of(metadata: &Metadata) -> Identity {
        Identity {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }
}

/// What would change if somebody wrote to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// Bytes.
    pub length: u64,
    inode: u64,
    /// Seconds and nanoseconds.
    changed: (i64, i64),
}

/// A file of the torrent.
#[derive(Debug)]
pub(super) struct TreeFile {
    /// Below the root, with `/` between the parts. Of a single file: its name.
    pub path: String,
    /// Where its bytes begin in the torrent.
    pub start: u64,
    /// How it was when it was found.
    pub facts: Facts,
    /// The device it is on.
    pub device: u64,
}

/// All files of the torrent.
#[derive(Debug)]
pub(super) struct Tree {
    path: PathBuf,
    /// The folder, which paths are looked up in; `None` for a single file.
    folder: Option<OwnedFd>,
    /// The path is a file.
    pub single_file: bool,
    /// In order.
    pub files: Vec<TreeFile>,
    /// What is not among them.
    pub left_out: LeftOut,
}

impl Tree {
    /// Looks at everything below `path` that `settings` do not leave out.
    pub fn look(path: &Path, settings: &Settings) -> Result<Tree, CreateError> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
        if metadata.is_file() {
            if settings.output == Some(Identity::of(&metadata)) {
                let path = path.to_owned();
                return Err(CreateError::Itself { path });
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            return Ok(Tree {
                path: path.to_owned(),
                folder: None,
                single_file: true,
                files: vec![TreeFile {
                    path: name.into_owned(),
                    start: 0,
                    facts: Facts::of(&metadata),
                    device: metadata.dev(),
                }],
                left_out: LeftOut::default(),
            });
        }
        if !metadata.is_dir() {
            return Err(special(path, metadata.file_type()));
        }
        let mode = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, mode, Mode::empty());
        let folder = folder.map_err(|error| unreadable(path, error.into()))?;
        let mut walk = Walk {
            settings,
            found: Vec::new(),
            folders: 0,
            left_out: LeftOut::default(),
            above: vec![Identity::of(&metadata)],
        };
        walk.folder(path, "")?;
        let mut files = walk.found;
        files.sort_unstable_by(|a, b| a.path.as_bytes().cmp(b.path.as_bytes()));
        let mut start = 0u64;
        for file in &mut files {
            file.start = start;
            // Sparse files can claim more than there is; the geometry refuses that many pieces.
            start = start.saturating_add(file.facts.length);
        }
        Ok(Tree {
            path: path.to_owned(),
            folder: Some(folder),
            single_file: false,
            files,
            left_out: walk.left_out,
        })
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        let last = self.files.last();
        last.map_or(0, |file| file.start.saturating_add(file.facts.length))
    }

    /// The file that holds the byte at `start`, and how far into it that is.
    pub fn find(&self, start: u64) -> (usize, u64) {
        // Empty files begin where the next one does: the last that begins here or before has the byte.
        let behind = self.files.partition_point(|file| file.start <= start);
        let number = behind.saturating_sub(1);
        (number, start - self.files[number].start)
    }

    /// Opens a file for reading. Does not wait, whatever it may have become.
    pub fn open(&self, number: usize) -> io::Result<OwnedFd> {
        let mode = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let opened = match &self.folder {
            Some(folder) => {
                let path = self.files[number].path.as_str();
                rustix::fs::openat(folder, path, mode, Mode::empty())
            }
            None => rustix::fs::open(&self.path, mode, Mode::empty()),
        };
        Ok(opened?)
    }

    /// Whether an open file is as it was found.
    pub fn is_unchanged(&self, number: usize, file: &OwnedFd) -> bool {
        let now = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, WANTED);
        now.is_ok_and(|now| Facts::of_statx(&now) == self.files[number].facts)
    }

    /// Whether what stands at a file's path is what was found there.
    pub fn is_still_there(&self, number: usize) -> bool {
        let now = match &self.folder {
            Some(folder) => {
                let path = self.files[number].path.as_str();
                rustix::fs::statx(folder, path, AtFlags::empty(), WANTED)
            }
            None => rustix::fs::statx(CWD, &self.path, AtFlags::empty(), WANTED),
        };
        now.is_ok_and(|now| Facts::of_statx(&now) == self.files[number].facts)
    }

    /// Where a file really is and how it was found.
    pub fn hashed(&self, number: usize) -> Result<HashedFile, CreateError> {
        let path = self.path_of(number);
        let path = (path.canonicalize()).map_err(|error| unreadable(&path, error))?;
        let TreeFile { facts, device, .. } = self.files[number];
        let facts = FileFacts {
            length: facts.length,
            device,
            inode: facts.inode,
            modified: (facts.changed.0, u32::try_from(facts.changed.1).unwrap_or(0)),
        };
        Ok(HashedFile { path, facts })
    }

    /// Where a file is, for people.
    pub fn path_of(&self, number: usize) -> PathBuf {
        if self.single_file {
            self.path.clone()
        } else {
            self.path.join(&self.files[number].path)
        }
    }
}

const WANTED: StatxFlags = StatxFlags::SIZE
    .union(StatxFlags::MTIME)
    .union(StatxFlags::INO);

impl Facts {
    fn of(metadata: &Metadata) -> Facts {
        Facts {
            length: metadata.len(),
            inode: metadata.ino(),
            changed: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    fn of_statx(now: &rustix::fs::Statx) -> Facts {
        Facts {
            length: now.stx_size,
            inode: now.stx_ino,
            changed: (now.stx_mtime.tv_sec, now.stx_mtime.tv_nsec.into()),
        }
    }
}

/// A walk through the folders.
struct Walk<'a> {
    settings: &'a Settings,
    found: Vec<TreeFile>,
    folders: usize,
    left_out: LeftOut,
    /// The folders from the root down to the one at hand.
    above: Vec<Identity>,
}

impl Walk<'_> {
    /// Takes in everything in the folder `place`, whose path below the root is `below`. Calls itself at
    /// most PATH_ELEMENTS_MAX deep.
    fn folder(&mut self, place: &Path, below: &str) -> Result<(), CreateError> {
        self.folders += 1;
        if self.folders > FILES_MAX {
            return Err(CreateError::TooManyFiles);
        }
        if self.above.len() > PATH_ELEMENTS_MAX {
            let path = place.to_owned();
            return Err(CreateError::TooDeep { path });
        }
        let entries = std::fs::read_dir(place).map_err(|error| unreadable(place, error))?;
        for entry in entries {
            let entry = entry.map_err(|error| unreadable(place, error))?;
            let name = entry.file_name();
            if !self.settings.hidden && name.as_encoded_bytes().starts_with(b".") {
                self.left_out.hidden += 1;
                continue;
            }
            let shown = name.to_string_lossy();
            let path = if below.is_empty() {
                shown.to_string()
            } else {
                format!("{below}/{shown}")
            };
            if self.settings.exclude.iter().any(|glob| glob.matches(&path)) {
                self.left_out.excluded += 1;
                continue;
            }
            if name.to_str().is_none() {
                let path = entry.path();
                return Err(CreateError::NotText { path });
            }
            self.entry(&entry, path)?;
        }
        Ok(())
    }

    fn entry(&mut self, entry: &std::fs::DirEntry, path: String) -> Result<(), CreateError> {
        let fail = |error| unreadable(&entry.path(), error);
        // The folder's listing says what it is; only for a link the path has to be looked up.
        let metadata = if entry.file_type().map_err(fail)?.is_symlink() {
            std::fs::metadata(entry.path()).map_err(fail)?
        } else {
            entry.metadata().map_err(fail)?
        };
        let identity = Identity::of(&metadata);
        if metadata.is_dir() {
            let place = entry.path();
            if self.above.contains(&identity) {
                return Err(CreateError::Loop { path: place });
            }
            self.above.push(identity);
            self.folder(&place, &path)?;
            self.above.pop();
        } else if !metadata.is_file() {
            return Err(special(&entry.path(), metadata.file_type()));
        } else if self.settings.output != Some(identity) {
            if self.found.len() == FILES_MAX {
                return Err(CreateError::TooManyFiles);
            }
            self.found.push(TreeFile {
                path,
                start: 0,
                facts: Facts::of(&metadata),
                device: metadata.dev(),
            });
        }
        Ok(())
    }
}

fn unreadable(path: &Path, error: io::Error) -> CreateError {
    let path = path.to_owned();
    CreateError::Read { path, error }
}

fn special(path: &Path, kind: FileType) -> CreateError {
    let what = if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    let path = path.to_owned();
    CreateError::Special { path, what }
}
