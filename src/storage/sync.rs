//! Brings written data to the medium and notices when that fails or when a file is no longer ours.
//!
//! The system tells a failed write-back once and then takes the pages for clean. So a sync that failed
//! is never tried again and believed: the pages are dropped from the cache, and what was written since
//! the last good sync must be hashed again from the medium.

use super::facts::FileFacts;
use super::known::Known;
use super::layout::Layout;
use super::reach::open_to_read;
use super::record_file::sync_folder;
use super::slot::{StorageError, StorageTrouble};
use rustix::fs::Advice;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;

/// From this many files on, one call for the whole file system costs less than one for each file.
const EACH_MAX: usize = 64;

/// A sync that failed.
#[derive(Debug)]
pub(super) struct Unsynced {
    /// The first error.
    pub(super) error: StorageError,
    /// The files whose data may be lost.
    pub(super) files: BTreeSet<usize>,
}

/// What is to be synced.
#[derive(Debug)]
pub(super) struct Sync<'a> {
    pub(super) layout: &'a Layout,
    pub(super) files: &'a BTreeSet<usize>,
    /// Folders in which names are new.
    pub(super) folders: &'a BTreeSet<PathBuf>,
    /// Times of change must survive a power cut too.
    pub(super) times: bool,
}

impl Sync<'_> {
    /// Syncs the files and notes how they are. Afterwards everything that was written before the
    /// call is on the medium, or the error says of which files this is not sure.
    pub(super) fn carry_out(&self, known: &mut Known) -> Result<(), Unsynced> {
        let mut failed: Option<Unsynced> = None;
        let mut fail = |files: BTreeSet<usize>, error: StorageError| match &mut failed {
            Some(failed) => {
                failed.files.extend(files);
                // A lack of descriptors passes; it must not hide what does not.
                if failed.error.kind == StorageTrouble::Descriptors {
                    failed.error = error;
                }
            }
            None => failed = Some(Unsynced { error, files }),
        };
        let folder = self.layout.folder();
        let together = self.files.len() > EACH_MAX
            && syncfs_tells(&rustix::system::uname().release().to_string_lossy());
        let mut device = None;
        if together {
            let synced = File::open(folder).and_then(|open| {
                rustix::fs::syncfs(&open)?;
                Ok(std::os::unix::fs::MetadataExt::dev(&open.metadata()?))
            });
            match synced {
                Ok(number) => device = Some(number),
                Err(error) => fail(
                    self.files.clone(),
                    StorageError::from_io("sync", folder, &error),
                ),
            }
        }
        for &number in self.files {
            // A folder below may be another file system's root, which that one call did not reach.
            let done = together
                && known
                    .of(number)
                    .is_some_and(|facts| Some(facts.device) == device);
            if let Err(error) = self.sync_one(number, !done, known) {
                fail(BTreeSet::from([number]), error);
            }
        }
        if !together {
            for folder in self.folders {
                if let Err(error) = sync_folder(folder) {
                    fail(self.files.clone(), error);
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn sync_one(&self, number: usize, sync: bool, known: &mut Known) -> Result<(), StorageError> {
        let file = self.layout.place(number);
        let open = open_to_read(&file.path)?;
        if sync {
            let synced = if self.times {
                open.sync_all()
            } else {
                open.sync_data()
            };
            if let Err(error) = synced {
                // Best effort: pages that are mapped or dirty stay, and their blocks are forgotten anyway.
                let _ = rustix::fs::fadvise(&open, 0, None, Advice::DontNeed);
                return Err(StorageError::from_io("sync", &file.path, &error));
            }
        }
        let stat = rustix::fs::fstat(&open);
        let stat =
            stat.map_err(|errno| StorageError::from_io("look at", &file.path, &errno.into()))?;
        known.note(file, number, FileFacts::from(&stat))
    }
}

/// Whether a kernel of this release tells by `syncfs` of data that it could not write: since Linux 5.8 (syncfs(2)).
/// Before, it said that all was well.
fn syncfs_tells(release: &str) -> bool {
    let mut numbers = release.split(|it: char| !it.is_ascii_digit());
    let mut next = || numbers.next().and_then(|it| it.parse::<u32>().ok());
    (next(), next()) >= (Some(5), Some(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_kernels_that_tell_of_lost_data_are_asked_to_sync_all_at_once() {
        let told = ["5.8.0", "5.15.137-openwrt", "6.1", "10.0.1-rc3"];
        let untold = ["5.7.19", "4.19.0-18-amd64", "3.10.0", "", "strange"];
        assert!(told.iter().all(|it| syncfs_tells(it)));
        assert!(!untold.iter().any(|it| syncfs_tells(it)));
    }
}
