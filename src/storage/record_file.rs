//! The file that holds the record: locked for one program at a time, replaced as a whole.
//!
//! The lock is on the file itself, which each save replaces. So the new file is locked before it takes
//! the name, and whoever gets a lock looks whether the name still stands for the file they locked.

use super::layout::Layout;
use super::reach::{in_the_way, remove};
use super::record::{self, Record, RecordError};
use super::slot::{StorageError, StorageTrouble};
use crate::protocol::Digest;
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::fs::File;
use std::io::{BufWriter, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Larger than the record of the largest torrent there is: 2 M pieces, 262,144 files.
const LENGTH_MAX: u64 = 64 << 20;

/// The record's place on disk, held by this program.
#[derive(Debug)]
pub(super) struct RecordFile {
    path: PathBuf,
    folder: PathBuf,
    locked: Option<File>,
    /// It is empty: nothing was ever saved.
    blank: bool,
    written: Option<Digest>,
}

/// A record's place that could be taken, what was found there, and what was odd about it.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) file: Option<RecordFile>,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) warnings: Vec<String>,
}

impl Taken {
    /// What the record says, and whether it was of this torrent. A damaged one was; an empty one, or another
    /// torrent's, tells nothing about the data here.
    pub(super) fn record(&mut self, layout: &Layout) -> (Option<Record<'static>>, bool) {
        let Some(bytes) = self.bytes.take() else {
            return (layout.hashed().map(|hashed| hashed.record(layout)), false);
        };
        let (info_hash, files) = (layout.info_hash(), layout.files().len());
        match Record::decode(&bytes, info_hash, layout.geometry(), files) {
            Ok(record) => (Some(record), true),
            Err(error) => {
                self.warnings.push(format!(
                    "the record of work cannot be used ({error}): everything is hashed"
                ));
                let other = matches!(error, RecordError::Empty | RecordError::OtherTorrent(_));
                (None, !other)
            }
        }
    }
}

impl RecordFile {
    /// Takes the record of this torrent, as [`RecordFile::take`] does. Files that were just hashed need
    /// none, and none is looked for.
    pub(super) fn take_for(layout: &Layout) -> Result<Taken, StorageError> {
        if layout.hashed().is_none() {
            return RecordFile::take(layout.folder(), layout.name());
        }
        Ok(Taken {
            file: None,
            bytes: None,
            warnings: Vec::new(),
        })
    }

    /// Takes the record of the torrent called `name` in `folder`, which exists. Where no record can be
    /// kept there is a warning and no file. The only error: another program holds it.
    pub(super) fn take(folder: &Path, name: &str) -> Result<Taken, StorageError> {
        let path = folder.join(record::file_name(name));
        let mut taken = Taken {
            file: None,
            bytes: None,
            warnings: Vec::new(),
        };
        // Another program that replaces its record between our opening and locking makes us try again;
        // it holds the lock then, so two rounds are enough for anything but malice.
        for _ in 0..8 {
            let (file, blank) = match open(&path) {
                Ok(opened) => opened,
                Err(error) => {
                    taken.without(&path, &error.to_string());
                    return Ok(taken);
                }
            };
            let Some(file) = file else {
                taken.cannot_use(folder, path);
                return Ok(taken);
            };
            match lock(&file) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => {
                    let cause = "another ropewalk is at work on this torrent here";
                    return Err(StorageError {
                        kind: StorageTrouble::Busy,
                        ..in_the_way("use", &path, cause)
                    });
                }
                Err(errno) => taken.warnings.push(format!(
                    "{} cannot be locked ({}): nothing keeps a second ropewalk away",
                    path.display(),
                    std::io::Error::from(errno)
                )),
            }
            if !is_at(&file, &path) {
                continue;
            }
            if !blank {
                taken.read(&file, &path);
            }
            taken.file = Some(RecordFile {
                folder: folder.to_owned(),
                path,
                locked: Some(file),
                blank: blank || taken.bytes.as_ref().is_some_and(Vec::is_empty),
                written: None,
            });
            return Ok(taken);
        }
        Err(in_the_way("use", &path, "it changes all the time"))
    }

    /// Replaces the record: a new file, synced, takes the old one's name, and the folder is synced. A crash
    /// at any moment leaves the old record or the new one. The same record as last time is not written again.
    pub(super) fn write(&mut self, record: &Record) -> Result<(), StorageError> {
        let digest = record
            .write_to(&mut std::io::sink())
            .map_err(|error| StorageError::from_io("write", &self.path, &error))?;
        if self.written == Some(digest) {
            return Ok(());
        }
        let beside = self.beside();
        let written = self.replace(&beside, record);
        if written.is_err() {
            let _ = std::fs::remove_file(&beside);
        } else {
            self.written = Some(digest);
        }
        written
    }

    fn replace(&mut self, beside: &Path, record: &Record) -> Result<(), StorageError> {
        let write = |error: std::io::Error| StorageError::from_io("write", beside, &error);
        // Left over from a run that was killed, or put there by a stranger: never opened, only removed.
        match std::fs::remove_file(beside) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(write(error)),
            _ => {}
        }
        let new = File::options()
            .write(true)
            .create_new(true)
            .open(beside)
            .map_err(write)?;
        let mut out = BufWriter::new(new);
        record.write_to(&mut out).map_err(write)?;
        let new = out
            .into_inner()
            .map_err(|error| write(error.into_error()))?;
        new.sync_all().map_err(write)?;
        let _ = lock(&new); // where locks are missing, `take` has said so
        std::fs::rename(beside, &self.path)
            .map_err(|error| StorageError::from_io("write", &self.path, &error))?;
        self.locked = Some(new);
        // Whether or not the new name survives a power cut: what has it now is a record, and stays.
        self.blank = false;
        sync_folder(&self.folder)
    }

    /// Where the next record is written.
    fn beside(&self) -> PathBuf {
        let mut beside = self.path.clone().into_os_string();
        beside.push(".new");
        beside.into()
    }

    /// Removes the record: sharing has ended.
    pub(super) fn remove(self) -> Result<(), StorageError> {
        // Left over from a run that was killed while it wrote.
        let _ = remove(&self.beside());
        remove(&self.path)?;
        sync_folder(&self.folder)
    }

    /// Lets go of the record; one that never came to hold anything is removed.
    pub(super) fn release(self) {
        if self.blank {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Taken {
    fn without(&mut self, path: &Path, cause: &str) {
        self.warnings.push(format!(
            "no record of work can be kept in {} ({cause}): the next start hashes everything",
            path.display()
        ));
    }

    /// Something that is no readable file has the record's name.
    fn cannot_use(&mut self, folder: &Path, path: PathBuf) {
        if std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
            self.without(&path, "it is a folder");
            return;
        }
        self.warnings.push(format!(
            "the record {} cannot be read: everything is hashed, and it is replaced",
            path.display()
        ));
        self.file = Some(RecordFile {
            folder: folder.to_owned(),
            path,
            locked: None,
            blank: false,
            written: None,
        });
    }

    fn read(&mut self, file: &File, path: &Path) {
        let mut bytes = Vec::new();
        if let Err(error) = file.take(LENGTH_MAX).read_to_end(&mut bytes) {
            self.warnings.push(format!(
                "the record {} cannot be read ({error}): everything is hashed",
                path.display()
            ));
        }
        self.bytes = Some(bytes);
    }
}

/// Opens the record, made if there is none (then `true`). `None`: something that cannot be read is there.
fn open(path: &Path) -> std::io::Result<(Option<File>, bool)> {
    let flags = OFlags::CLOEXEC | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let anew = flags | OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    match rustix::fs::open(path, anew, Mode::from_raw_mode(0o666)) {
        Ok(file) => return Ok((Some(file.into()), true)),
        Err(Errno::EXIST) => {}
        // A folder we cannot write to may still hold a record from better days.
        Err(errno) if !path.exists() => return Err(errno.into()),
        Err(_) => {}
    }
    // NFS locks only what is open for writing.
    let opened = rustix::fs::open(path, flags | OFlags::RDWR, Mode::empty())
        .or_else(|_| rustix::fs::open(path, flags | OFlags::RDONLY, Mode::empty()));
    let file = opened.ok().map(File::from);
    let is_file = |file: &File| file.metadata().is_ok_and(|found| found.is_file());
    Ok((file.filter(is_file), false))
}

fn lock(file: &File) -> Result<(), Errno> {
    rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive)
}

fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::symlink_metadata(path)) {
        (Ok(ours), Ok(named)) => (ours.dev(), ours.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

/// Makes what happened to names in a folder survive a power cut. Some file systems cannot, nor can who may write into
/// the folder and not read it: then this is all there is.
pub(super) fn sync_folder(folder: &Path) -> Result<(), StorageError> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    match synced {
        Err(error)
            if !matches!(
                Errno::from_io_error(&error),
                Some(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::ACCESS)
            ) =>
        {
            Err(StorageError::from_io("sync", folder, &error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::{Geometry, InfoHash};
    use crate::storage::record::Claim;

    #[test]
    fn what_a_killed_run_left_beside_a_record_goes_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let taken = RecordFile::take(folder.path(), "name").unwrap();
        let record = taken.file.unwrap();
        std::fs::write(record.beside(), "half of a record").unwrap();
        record.remove().unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_record_whose_folder_cannot_be_synced_stays_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut taken = RecordFile::take(folder.path(), "name").unwrap();
        let mut record = taken.file.take().unwrap();
        // As on a medium that fails at this very moment.
        record.folder = folder.path().join("missing");
        let path = record.path.clone();
        let geometry = Geometry::new(1, 1).unwrap();
        let done = Record {
            info_hash: InfoHash([1; 20]),
            geometry,
            claim: Claim::nothing(&geometry),
            files: vec![None].into(),
            part: None,
        };
        record.write(&done).unwrap_err();
        record.release();
        let bytes = std::fs::read(path).unwrap();
        let read = Record::decode(&bytes, done.info_hash, &geometry, 1);
        assert_eq!(read, Ok(done));
    }
}
