//! Puts a finished file in its place, a .torrent or the report of a lab: all of it or nothing.
//!
//! ```text
//! let target = Target::new(path)?;         // before the work: is there room for it?
//! target.save(&bytes, overwrite)?;         // after it: a temporary file beside it, then a rename
//! ```

use super::tree::Identity;
use rustix::fs::{Access, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A place for a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As it was named.
    path: PathBuf,
    /// What is written: behind a symbolic link is what is meant to be replaced, not the link.
    real: PathBuf,
    there: There,
}

/// What is in the place already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum There {
    Nothing,
    File(Identity),
    /// A device or a FIFO: written to, never replaced.
    Stream,
}

impl Target {
    /// Looks at the place. An error if it is a folder, if its own folder is not there or takes no files,
    /// or if it is a device that may not be written to.
    pub fn new(path: &Path) -> io::Result<Target> {
        let found = match std::fs::metadata(path) {
            Ok(found) => Some(found),
            Err(_) if path.is_symlink() => {
                return Err(io::Error::other("it is a symbolic link that leads nowhere"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let there = match &found {
            None => There::Nothing,
            Some(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Some(found) if found.is_file() => There::File(Identity::of(found)),
            Some(_) => There::Stream,
        };
        let real = match there {
            There::File(_) => path.canonicalize()?,
            _ => path.to_owned(),
        };
        let path = path.to_owned();
        let target = Target { path, real, there };
        match there {
            There::Stream => rustix::fs::access(&target.real, Access::WRITE_OK)?,
            _ => {
                rustix::fs::access(target.folder(), Access::WRITE_OK | Access::EXEC_OK)?;
                // Root may write everywhere, and some folders take no files all the same.
                target.try_out()?;
            }
        }
        Ok(target)
    }

    /// Makes a file in the folder and takes it away again: one without a name, which nothing can leave behind, or,
    /// where the file system has none of these, one with.
    fn try_out(&self) -> io::Result<()> {
        let nameless = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(self.folder(), nameless, Mode::RUSR | Mode::WUSR) {
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                std::fs::remove_file(self.draft(|| fastrand::u32(..))?.0)
            }
            Err(errno) => Err(errno.into()),
            Ok(_) => Ok(()),
        }
    }

    /// Where it is, as it was named.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file that is there already, if one is.
    pub fn occupied(&self) -> Option<Identity> {
        match self.there {
            There::File(identity) => Some(identity),
            _ => None,
        }
    }

    /// Whether the file that is there already is the one at `path`, by whatever name.
    pub fn holds(&self, path: &Path) -> bool {
        let found = std::fs::metadata(path).ok();
        found.is_some_and(|found| self.occupied() == Some(Identity::of(&found)))
    }

    /// Writes `bytes`. Where it fails, what was there before is there still, and nothing else. Without
    /// `overwrite` an existing file is an error of the kind `AlreadyExists`.
    pub fn save(&self, bytes: &[u8], overwrite: bool) -> io::Result<()> {
        if self.there == There::Stream {
            return OpenOptions::new()
                .write(true)
                .open(&self.real)?
                .write_all(bytes);
        }
        let (draft, file) = self.draft(|| fastrand::u32(..))?;
        let written = self
            .guard(&file)
            .and_then(|()| write(file, bytes))
            .and_then(|()| self.put(&draft, overwrite));
        if written.is_err() {
            let _ = std::fs::remove_file(&draft);
        }
        written
    }

    /// Lets nobody read `file` who may not read what it is going to replace: addresses of trackers can be secrets.
    fn guard(&self, file: &File) -> io::Result<()> {
        let Ok(old) = std::fs::metadata(&self.real) else {
            return Ok(());
        };
        let (old, new) = (old.permissions(), file.metadata()?.permissions());
        // Some file systems have the same for all files and refuse to set any.
        if old == new {
            return Ok(());
        }
        file.set_permissions(old)
    }

    /// A file beside the place, under a name that nothing has: that of a run that was killed stays behind.
    fn draft(&self, mut number: impl FnMut() -> u32) -> io::Result<(PathBuf, File)> {
        for _ in 0..DRAFTS {
            let path = self.folder().join(draft_name(number()));
            match File::create_new(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return Ok((path, other?)),
            }
        }
        Err(io::Error::other(
            "every name for a temporary file beside it is taken",
        ))
    }

    fn put(&self, draft: &Path, overwrite: bool) -> io::Result<()> {
        if overwrite {
            return std::fs::rename(draft, &self.real);
        }
        let alone = rustix::fs::renameat_with(CWD, draft, CWD, &self.real, RenameFlags::NOREPLACE);
        match alone {
            // A file system that does not know the flag: look first, which leaves a moment between.
            Err(Errno::INVAL | Errno::NOSYS) if self.real.symlink_metadata().is_err() => {
                std::fs::rename(draft, &self.real)
            }
            Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
            other => Ok(other?),
        }
    }

    fn folder(&self) -> &Path {
        match self.real.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        }
    }
}

/// Names that are tried for the temporary file.
const DRAFTS: usize = 16;

fn draft_name(number: u32) -> String {
    format!(".{number:08x}.part")
}

fn write(mut file: File, bytes: &[u8]) -> io::Result<()> {
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    #[test]
    fn nothing_but_the_file_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.torrent");
        let target = Target::new(&path).unwrap();
        assert_eq!(target.occupied(), None);
        target.save(b"one", false).unwrap();
        let error = target.save(b"two", false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(std::fs::read(&path).unwrap(), b"one");
        Target::new(&path).unwrap().save(b"two", true).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
        assert_eq!(names(folder.path()), ["a.torrent"]);
    }

    #[test]
    fn behind_a_link_the_file_is_replaced_and_the_link_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link] = ["file", "link"].map(|name| folder.path().join(name));
        std::fs::write(&file, b"old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        Target::new(&link).unwrap().save(b"new", true).unwrap();
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).unwrap(), b"new");
    }

    #[test]
    fn a_link_to_nowhere_is_told_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("nowhere", &link).unwrap();
        let error = Target::new(&link).unwrap_err();
        assert!(error.to_string().contains("leads nowhere"), "{error}");
    }

    #[test]
    fn who_might_not_read_the_old_file_may_not_read_the_new_one() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.torrent");
        std::fs::write(&path, b"secret").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        Target::new(&path).unwrap().save(b"new", true).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn what_a_killed_run_left_is_in_nobodys_way() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(draft_name(1));
        std::fs::write(&left, b"half").unwrap();
        let target = Target::new(&folder.path().join("a.torrent")).unwrap();
        let mut numbers = 1..;
        let (draft, _) = target.draft(|| numbers.next().unwrap()).unwrap();
        assert_eq!(draft, folder.path().join(draft_name(2)));
        assert_eq!(std::fs::read(left).unwrap(), b"half");
        let error = target.draft(|| 1).unwrap_err();
        assert_ne!(error.kind(), io::ErrorKind::AlreadyExists);
    }

    #[test]
    fn a_device_is_written_to_and_not_replaced() {
        let target = Target::new(Path::new("/dev/null")).unwrap();
        target.save(b"gone", false).unwrap();
        assert!(!Path::new("/dev/null").metadata().unwrap().is_file());
    }

    #[test]
    fn a_place_that_cannot_be_is_told_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "missing/a", &"x".repeat(300)] {
            assert!(Target::new(&folder.path().join(name)).is_err(), "{name}");
        }
    }
}
