//! Files that are opened by whoever uses them first.
//!
//! ```text
//! let file = layout.lazy_file(run.file, Access::Read);   // opens nothing
//! let open = file.get()?;                                // any thread; the same file or error for all
//! file.look_again(open)?;                                // still the one whose bytes were checked?
//! ```

use super::facts::{FileFacts, FileTime};
use super::reach;
use super::slot::{StorageError, StorageTrouble};
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroU64;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

/// The times of a file whose bytes were looked at, that of its last change included: programs that write into a file
/// may put its time of modification back, and this one they cannot. It is a hash of them, 8 bytes
/// instead of 32: a torrent may have 100,000 files, and each save makes a new list beside the one in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen(NonZeroU64);

impl From<FileFacts> for Seen {
    fn from(facts: FileFacts) -> Seen {
        let mut hasher = DefaultHasher::new();
        (facts.modified, facts.changed).hash(&mut hasher);
        Seen(NonZeroU64::new(hasher.finish()).unwrap_or(NonZeroU64::MIN))
    }
}

/// What our clock says. A file that was written to before has no later time, unless its file system
/// goes by another clock.
pub fn now() -> FileTime {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    // A clock that is wrong by so much tells nothing: no time is later than this.
    since.map_or((i64::MAX, 0), |it| (it.as_secs() as i64, it.subsec_nanos()))
}

/// The error of a file that somebody else wrote to.
pub(crate) fn written_to(doing: &'static str, path: &Path) -> StorageError {
    StorageError {
        kind: StorageTrouble::Vanished,
        doing,
        path: path.to_owned(),
        cause: "it was written to meanwhile, and may be another file now".to_owned(),
    }
}

/// A file that is opened when it is first used, by whichever thread uses it first. It is closed when
/// the last handle to it is dropped.
#[derive(Debug)]
pub struct LazyFile {
    root: Arc<Path>,
    path: PathBuf,
    access: Access,
    seen: Option<Seen>,
    file: OnceLock<Result<File, StorageError>>,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    /// Reading. Folders on the way may be symbolic links: people keep what they share where they like.
    Read,
    /// Reading and writing. No symbolic link is followed below the torrent's folder.
    Write,
}

/// An open file: kept open by its [`LazyFile`], or for this once.
#[derive(Debug)]
pub enum Opened<'a> {
    /// Stays open as long as its handle.
    Kept(&'a File),
    /// Is closed when this value is dropped.
    Once(File),
}

impl Deref for Opened<'_> {
    type Target = File;

    fn deref(&self) -> &File {
        match self {
            Opened::Kept(file) => file,
            Opened::Once(file) => file,
        }
    }
}

impl LazyFile {
    /// The file at `path`, which is below the folder `root`. Nothing is opened yet.
    pub fn new(root: Arc<Path>, path: PathBuf, access: Access) -> LazyFile {
        LazyFile {
            root,
            path,
            access,
            seen: None,
            file: OnceLock::new(),
        }
    }

    /// The same, whose bytes were looked at when it had these times.
    pub fn as_seen(self, seen: Option<Seen>) -> LazyFile {
        LazyFile { seen, ..self }
    }

    /// An error if the file, of which this was `found`, was written to after its bytes were looked at.
    pub fn is_as_seen(&self, found: &Metadata) -> Result<(), StorageError> {
        let now = Seen::from(FileFacts::from(found));
        if self.seen.is_none_or(|then| then == now) {
            return Ok(());
        }
        Err(written_to("share", &self.path))
    }

    /// The same for the `open` file, which is looked at only where that can tell anything.
    pub fn look_again(&self, open: &File) -> Result<(), StorageError> {
        if self.seen.is_none() {
            return Ok(());
        }
        let found = open.metadata();
        self.is_as_seen(&found.map_err(|error| StorageError::from_io("read", &self.path, &error))?)
    }

    /// The open file, or why it cannot be opened. That is remembered, so every user of this handle sees
    /// the same; except for a lack of descriptors, which passes.
    pub fn get(&self) -> Result<&File, StorageError> {
        let outcome = match self.file.get() {
            Some(outcome) => outcome,
            None => match self.open() {
                Err(error) if error.kind == StorageTrouble::Descriptors => return Err(error),
                // Two threads may both come here; the second one's file is closed again.
                outcome => self.file.get_or_init(|| outcome),
            },
        };
        outcome.as_ref().map_err(Clone::clone)
    }

    /// The open file if it is open already, else the file opened for this once: for places in hundreds of
    /// files, of which no more than one shall be open at a time.
    pub fn get_once(&self) -> Result<Opened<'_>, StorageError> {
        match self.file.get() {
            Some(Ok(file)) => Ok(Opened::Kept(file)),
            Some(Err(error)) => Err(error.clone()),
            None => self.open().map(Opened::Once),
        }
    }

    /// Where it is, for errors.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is or will be opened for.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Whether opening it was tried in vain.
    pub(super) fn has_failed(&self) -> bool {
        matches!(self.file.get(), Some(Err(_)))
    }

    fn open(&self) -> Result<File, StorageError> {
        match self.access {
            Access::Read => reach::open_to_read(&self.path),
            Access::Write => reach::open_to_write(&self.root, &self.path),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_file_that_cannot_be_opened_says_the_same_to_everyone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("late");
        let lazy = LazyFile::new(folder.path().into(), path.clone(), Access::Write);
        let first = lazy.get().unwrap_err();
        std::fs::write(&path, "now it is there").unwrap();
        assert_eq!(lazy.get().unwrap_err(), first);
        assert_eq!(first.kind, StorageTrouble::Vanished);
        assert!(lazy.has_failed());
    }

    #[test]
    fn a_file_opened_for_once_is_not_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("here");
        std::fs::write(&path, "bytes").unwrap();
        let lazy = LazyFile::new(folder.path().into(), path, Access::Read);
        assert!(matches!(lazy.get_once().unwrap(), Opened::Once(_)));
        assert!(lazy.file.get().is_none());
        lazy.get().unwrap();
        assert!(matches!(lazy.get_once().unwrap(), Opened::Kept(_)));
    }

    #[test]
    fn a_file_that_was_written_to_after_it_was_seen_is_told_of() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("here");
        std::fs::write(&path, "bytes").unwrap();
        let found = std::fs::metadata(&path).unwrap();
        let handle = || LazyFile::new(folder.path().into(), path.clone(), Access::Read);
        let facts = FileFacts::from(&found);
        let seen = Seen::from(facts);
        let look = |seen| {
            let file = handle().as_seen(seen);
            file.look_again(file.get().unwrap())
        };
        look(Some(seen)).unwrap();
        // The last change before that was in another tick of the clock.
        let ago = FileFacts {
            changed: (facts.changed.0 - 1, facts.changed.1),
            ..facts
        };
        look(Some(ago.into())).unwrap_err();
        let written = File::options().write(true).open(&path).unwrap();
        written
            .set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
        let error = look(Some(seen)).unwrap_err();
        assert_eq!(
            (error.kind, error.path),
            (StorageTrouble::Vanished, path.clone())
        );
        look(None).unwrap();
    }
}
