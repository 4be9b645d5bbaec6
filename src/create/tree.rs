//! The files below a path, in the order in which their bytes make the torrent.
//!
//! ```text
//! let tree = Tree::look(path, &settings, threads)?;
//! for file in &tree.files { ... }        // sorted by the bytes of their paths
//! let same = tree.is_still_there(number)?;  // once more, when all is read
//! ```
//!
//! Symbolic links are followed, as mktorrent and transmission-create do: the torrent holds what they
//! lead to. A file is asked about once here, once at the end, and opened once for each piece range of it. Folders are
//! walked through by one thread, files asked about by several: with many small ones these questions are
//! what takes the time.

use super::{CreateError, FILES_A_LOOK, LeftOut, TorrentSettings, hashing};
use crate::protocol::filenames::PATH_ELEMENTS_MAX;
use crate::protocol::glob::Glob;
use crate::protocol::metainfo::FILES_MAX;
use crate::storage::facts::FileFacts;
use crate::storage::hashed::HashedFile;
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use std::fs::{FileType, Metadata};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
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

    /// That of the file to which `stream` goes, if it is a regular one.
    pub fn behind(stream: impl AsFd) -> Option<Identity> {
        let found = rustix::fs::fstat(stream).ok()?;
        let kind = rustix::fs::FileType::from_raw_mode(found.st_mode);
        kind.is_file().then(|| Identity::of_stat(&found))
    }

    fn of_stat(found: &rustix::fs::Stat) -> Identity {
        // The fields' types differ between machines; nothing is lost in these.
        #[allow(clippy::unnecessary_cast)]
        Identity {
            device: found.st_dev as u64,
            inode: found.st_ino as u64,
        }
    }
}

/// What would change if somebody wrote to a file or put another in its place. Not the inode's number: file
/// systems in user space make up a new one whenever they have forgotten a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    /// Bytes.
    pub length: u64,
    /// When its bytes were last written, in nanoseconds since 1970. Can be set to anything.
    modified: i64,
    /// When anything of it was last changed, name and times included. Nobody can set it.
    changed: i64,
}

/// A file of the torrent.
#[derive(Debug)]
pub(super) struct TreeFile {
    /// Below the root, with `/` between the parts. Of a single file: its name.
    pub path: String,
    /// Where its bytes begin in the torrent.
    pub start: u64,
    /// How it was when it was found.
    pub stamp: Stamp,
    /// Which it was.
    pub identity: Identity,
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
    /// Globs of what is to be left out that nothing matched.
    pub idle: Vec<Glob>,
}

impl Tree {
    /// Looks at everything below `path` that `settings` do not leave out.
    pub fn look(
        path: &Path,
        settings: &TorrentSettings,
        threads: NonZeroUsize,
    ) -> Result<Tree, CreateError> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
        if metadata.is_file() {
            if settings.outputs.contains(&Identity::of(&metadata)) {
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
                    stamp: Stamp::of(&metadata),
                    identity: Identity::of(&metadata),
                }],
                left_out: LeftOut::default(),
                idle: settings.exclude.clone(),
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
            idle: settings.exclude.clone(),
            above: vec![Identity::of(&metadata)],
        };
        walk.folder(path, "")?;
        walk.found.sort_unstable();
        let mut files = ask_about(&walk.found, &folder, path, threads)?;
        files.retain(|file| !settings.outputs.contains(&file.identity));
        let mut start = 0u64;
        for file in &mut files {
            file.start = start;
            // Sparse files can claim more than there is; the geometry refuses that many pieces.
            start = start.saturating_add(file.stamp.length);
        }
        Ok(Tree {
            path: path.to_owned(),
            folder: Some(folder),
            single_file: false,
            files,
            left_out: walk.left_out,
            idle: walk.idle,
        })
    }

    /// Bytes of all files.
    pub fn total(&self) -> u64 {
        let last = self.files.last();
        last.map_or(0, |file| file.start.saturating_add(file.stamp.length))
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
    pub fn is_unchanged(&self, number: usize, file: &OwnedFd) -> io::Result<bool> {
        Ok(Stamp::of_stat(&rustix::fs::fstat(file)?) == self.files[number].stamp)
    }

    /// Whether what stands at a file's path is what was found there.
    pub fn is_still_there(&self, number: usize) -> io::Result<bool> {
        let now = match &self.folder {
            Some(folder) => {
                let path = self.files[number].path.as_str();
                rustix::fs::statat(folder, path, AtFlags::empty())
            }
            None => rustix::fs::stat(&self.path),
        };
        match now {
            Ok(now) => Ok(Stamp::of_stat(&now) == self.files[number].stamp),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Where a file really is and how it was found.
    pub fn hashed(&self, number: usize) -> Result<HashedFile, CreateError> {
        let path = self.path_of(number);
        let path = (path.canonicalize()).map_err(|error| unreadable(&path, error))?;
        let TreeFile {
            stamp, identity, ..
        } = self.files[number];
        let time = |nanoseconds: i64| {
            let rest = nanoseconds.rem_euclid(NANOSECONDS);
            (nanoseconds.div_euclid(NANOSECONDS), rest as u32)
        };
        let facts = FileFacts {
            length: stamp.length,
            device: identity.device,
            inode: identity.inode,
            modified: time(stamp.modified),
            changed: time(stamp.changed),
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

/// In a second.
const NANOSECONDS: i64 = 1_000_000_000;

impl Stamp {
    fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            length: metadata.len(),
            modified: moment(metadata.mtime(), metadata.mtime_nsec()),
            changed: moment(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn of_stat(now: &rustix::fs::Stat) -> Stamp {
        // The fields' types differ between machines; nothing is lost in these.
        #[allow(clippy::unnecessary_cast)]
        Stamp {
            length: now.st_size as u64,
            modified: moment(now.st_mtime as i64, now.st_mtime_nsec as i64),
            changed: moment(now.st_ctime as i64, now.st_ctime_nsec as i64),
        }
    }
}

/// One number for a time. It wraps in the year 2262, and is still another one for another time.
fn moment(seconds: i64, nanoseconds: i64) -> i64 {
    seconds.wrapping_mul(NANOSECONDS).wrapping_add(nanoseconds)
}

/// Asks about the files at `paths` below the open `folder`, which is at `root`, with several threads where they are
/// many. In the order of the paths.
fn ask_about(
    paths: &[String],
    folder: &OwnedFd,
    root: &Path,
    threads: NonZeroUsize,
) -> Result<Vec<TreeFile>, CreateError> {
    let ask = |path: &String| {
        let fail = |error: io::Error| unreadable(&root.join(path), error);
        let found = rustix::fs::statat(folder, path.as_str(), AtFlags::empty());
        let found = found.map_err(|errno| fail(errno.into()))?;
        if !rustix::fs::FileType::from_raw_mode(found.st_mode).is_file() {
            return Err(CreateError::Changed {
                path: root.join(path),
            });
        }
        Ok(TreeFile {
            path: path.clone(),
            start: 0,
            stamp: Stamp::of_stat(&found),
            identity: Identity::of_stat(&found),
        })
    };
    let ask_all = |paths: &[String]| paths.iter().map(ask).collect::<Result<Vec<_>, _>>();
    let share = paths.len().div_ceil(threads.get()).max(FILES_A_LOOK);
    let (ours, others) = paths.split_at(share.min(paths.len()));
    std::thread::scope(|scope| {
        let helpers: Vec<_> = others
            .chunks(share)
            .map(|theirs| {
                let helper = std::thread::Builder::new().stack_size(hashing::STACK);
                (theirs, helper.spawn_scoped(scope, move || ask_all(theirs)))
            })
            .collect();
        let mut files = ask_all(ours)?;
        for (theirs, helper) in helpers {
            let found = match helper.map(|helper| helper.join()) {
                Ok(Ok(found)) => found?,
                // Without a thread it takes longer.
                _ => ask_all(theirs)?,
            };
            files.extend(found);
        }
        Ok(files)
    })
}

/// A walk through the folders.
struct Walk<'a> {
    settings: &'a TorrentSettings,
    /// Paths of files below the root.
    found: Vec<String>,
    folders: usize,
    left_out: LeftOut,
    idle: Vec<Glob>,
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
                self.idle.retain(|glob| !glob.matches(&path));
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
        // The folder's listing says what is a file; links have to be followed, and folders be known again.
        let kind = entry.file_type();
        let kind = kind.map_err(|error| unreadable(&entry.path(), error))?;
        if kind.is_file() {
            return self.file(path);
        }
        let place = entry.path();
        let metadata = match std::fs::metadata(&place) {
            Err(error) if kind.is_symlink() && error.kind() == io::ErrorKind::NotFound => {
                let what = "a symbolic link that leads nowhere";
                return Err(CreateError::Special { path: place, what });
            }
            found => found.map_err(|error| unreadable(&place, error))?,
        };
        if metadata.is_file() {
            return self.file(path);
        }
        if !metadata.is_dir() {
            return Err(special(&place, metadata.file_type()));
        }
        let identity = Identity::of(&metadata);
        if self.above.contains(&identity) {
            return Err(CreateError::Loop { path: place });
        }
        self.above.push(identity);
        self.folder(&place, &path)?;
        self.above.pop();
        Ok(())
    }

    fn file(&mut self, path: String) -> Result<(), CreateError> {
        if self.found.len() == FILES_MAX {
            return Err(CreateError::TooManyFiles);
        }
        self.found.push(path);
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
