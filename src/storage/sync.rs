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
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// From this many files on, one call for the whole file system costs less than one for each file.
const EACH_MAX: usize = 64;

/// A sync that failed.
#[derive(Debug)]
pub(super) struct Unsynced {
    /// What it says of the medium, if any of them does; else the first error that does not pass.
    pub(super) error: StorageError,
    /// The files whose data may be lost.
    pub(super) files: BTreeSet<usize>,
}

impl Unsynced {
    /// These files failed, too.
    fn join(&mut self, files: BTreeSet<usize>, error: StorageError) {
        self.files.extend(files);
        if severity(&error) > severity(&self.error) {
            self.error = error;
        }
    }

    /// Whether it is about files that are not there, or not for us, and no more.
    pub(super) fn says_nothing_of_the_medium(&self) -> bool {
        severity(&self.error) == Severity::OfFiles
    }
}

/// What an error must not be hidden by: anything that comes before it here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Severity {
    /// A lack of descriptors.
    Passes,
    /// A file is not there, or not for us.
    OfFiles,
    /// Data may be lost, and the system does not tell that twice.
    OfTheMedium,
}

fn severity(error: &StorageError) -> Severity {
    match error.kind {
        StorageTrouble::Descriptors => Severity::Passes,
        StorageTrouble::Denied | StorageTrouble::InTheWay | StorageTrouble::Vanished => {
            Severity::OfFiles
        }
        StorageTrouble::Full
        | StorageTrouble::TooLarge
        | StorageTrouble::Busy
        | StorageTrouble::Broken => Severity::OfTheMedium,
    }
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
            Some(failed) => failed.join(files, error),
            None => failed = Some(Unsynced { error, files }),
        };
        let folder = self.layout.folder();
        let together = self.files.len() > EACH_MAX
            && syncfs_tells(&rustix::system::uname().release().to_string_lossy());
        let mut device = None;
        if together {
            let synced = File::open(folder).and_then(|open| {
                rustix::fs::syncfs(&open)?;
                Ok(open.metadata()?.dev())
            });
            match synced {
                Ok(number) => device = Some(number),
                // Written to and not read: its files are synced one by one.
                Err(error) if Errno::from_io_error(&error) == Some(Errno::ACCESS) => {}
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
        for folder in self.folders {
            let its = || folder.metadata().ok().map(|found| found.dev());
            let done = device.is_some() && its() == device;
            if !done && let Err(error) = sync_folder(folder) {
                fail(self.files.clone(), error);
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
    #![allow(clippy::unwrap_used)]

    use super::super::survey;
    use super::super::test_torrent::Author;
    use super::*;

    #[test]
    fn folders_that_one_call_for_all_files_does_not_reach_are_synced_by_themselves() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("many", 16_384);
        for number in 0..=EACH_MAX {
            author.file(&number.to_string(), b"x");
        }
        author.publish(folder.path());
        let layout = author.layout(folder.path());
        let mut known = Known::new(&survey::look(&layout), layout.files().len());
        let mut sync = |new: PathBuf| {
            let sync = Sync {
                layout: &layout,
                files: &(0..layout.files().len()).collect(),
                folders: &BTreeSet::from([new]),
                times: false,
            };
            sync.carry_out(&mut known)
        };
        sync(folder.path().join("many")).unwrap();
        // Wherever it is, it is not where the files are: that its sync fails shows that it was tried.
        let elsewhere = folder.path().join("elsewhere");
        assert_eq!(sync(elsewhere.clone()).unwrap_err().error.path, elsewhere);
    }

    #[test]
    fn what_a_sync_says_of_the_medium_is_not_hidden_by_what_it_says_of_a_file() {
        let error = |errno| {
            let error = std::io::Error::from_raw_os_error(errno);
            StorageError::from_io("sync", "somewhere".as_ref(), &error)
        };
        let of_all = |errors: [i32; 3]| {
            let [first, others @ ..] = errors;
            let mut failed = Unsynced {
                error: error(first),
                files: BTreeSet::from([0]),
            };
            for (number, errno) in (1..).zip(others) {
                failed.join(BTreeSet::from([number]), error(errno));
            }
            assert_eq!(failed.files, BTreeSet::from([0, 1, 2]));
            (failed.error.kind, failed.says_nothing_of_the_medium())
        };
        let (lost, gone, few) = (libc::EIO, libc::ENOENT, libc::EMFILE);
        for errors in [[lost, gone, few], [gone, lost, few], [few, gone, lost]] {
            assert_eq!(
                of_all(errors),
                (StorageTrouble::Broken, false),
                "{errors:?}"
            );
        }
        assert_eq!(of_all([few, gone, few]), (StorageTrouble::Vanished, true));
        assert_eq!(of_all([few; 3]), (StorageTrouble::Descriptors, false));
    }

    #[test]
    fn only_kernels_that_tell_of_lost_data_are_asked_to_sync_all_at_once() {
        let told = ["5.8.0", "5.15.137-openwrt", "6.1", "10.0.1-rc3"];
        let untold = ["5.7.19", "4.19.0-18-amd64", "3.10.0", "", "strange"];
        assert!(told.iter().all(|it| syncfs_tells(it)));
        assert!(!untold.iter().any(|it| syncfs_tells(it)));
    }
}
