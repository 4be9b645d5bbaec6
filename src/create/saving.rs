//! Puts a finished file in its place, a .torrent or the report of a lab: all of it or nothing.
//!
//! ```text
//! let target = Target::new(path)?;         // before the work: is there room for it?
//! target.save(&bytes, overwrite)?;         // after it: a temporary file beside it, then a rename
//! ```
//!
//! What is no regular file, or was opened by somebody else (`/dev/fd/9`), is written to where it is.

use super::tree::Identity;
use crossbeam_channel::{Receiver, bounded, never, select};
use rustix::fs::{Access, CWD, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::Builder;

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
    /// A device, a FIFO, or what somebody has opened for us, a regular file perhaps: written to, never replaced.
    Stream(Option<Identity>),
}

impl Target {
    /// Looks at the place. An error if it is a folder, if its own folder is not there or takes no files,
    /// or if it is a device that may not be written to.
    pub fn new(path: &Path) -> io::Result<Target> {
        let opened = is_opened(path);
        let found = match std::fs::metadata(path) {
            Ok(found) => Some(found),
            Err(error) if opened => return Err(error),
            Err(_) if path.is_symlink() => {
                return Err(io::Error::other("it is a symbolic link that leads nowhere"));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        let there = match &found {
            None => There::Nothing,
            Some(found) if found.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            Some(found) => match found.is_file().then(|| Identity::of(found)) {
                Some(file) if !opened => There::File(file),
                stream => There::Stream(stream),
            },
        };
        let real = match there {
            There::File(_) => path.canonicalize()?,
            _ => path.to_owned(),
        };
        let path = path.to_owned();
        let target = Target { path, real, there };
        match there {
            There::Stream(_) => rustix::fs::access(&target.real, Access::WRITE_OK)?,
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

    /// Whether there is a file that would be replaced.
    pub fn is_occupied(&self) -> bool {
        matches!(self.there, There::File(_))
    }

    /// The regular file that is there already, if one is.
    pub fn file(&self) -> Option<Identity> {
        match self.there {
            There::Nothing => None,
            There::File(identity) => Some(identity),
            There::Stream(identity) => identity,
        }
    }

    /// Whether the file that is there already is the one at `path`, by whatever name.
    pub fn holds(&self, path: &Path) -> bool {
        let found = std::fs::metadata(path).ok();
        found.is_some_and(|found| self.file() == Some(Identity::of(&found)))
    }

    /// As [`Target::save`], or what `stop` gives before that: a FIFO is waited for until somebody reads it, which
    /// may be never.
    pub fn save_unless<T>(
        &self,
        bytes: &[u8],
        overwrite: bool,
        stop: &Receiver<T>,
    ) -> Result<io::Result<()>, T> {
        if !matches!(self.there, There::Stream(_)) {
            return Ok(self.save(bytes, overwrite));
        }
        // Bound: one, it is saved once.
        let (tell, saved) = bounded(1);
        let (target, all) = (self.clone(), bytes.to_vec());
        let thread = Builder::new().name("save".into());
        let started = thread.spawn(move || drop(tell.send(target.save(&all, overwrite))));
        if started.is_err() {
            return Ok(self.save(bytes, overwrite));
        }
        let mut stop = stop.clone();
        loop {
            select! {
                recv(saved) -> outcome => {
                    let failed = || Err(io::Error::other("our thread for it has failed"));
                    return Ok(outcome.unwrap_or_else(|_| failed()));
                }
                recv(stop) -> told => match told {
                    Ok(told) => return Err(told),
                    Err(_) => stop = never(),
                }
            }
        }
    }

    /// Writes `bytes`. Where it fails, what was there before is there still, and nothing else. Without
    /// `overwrite` an existing file is an error of the kind `AlreadyExists`.
    pub fn save(&self, bytes: &[u8], overwrite: bool) -> io::Result<()> {
        if let There::Stream(_) = self.there {
            // What a shell has opened may hold something already.
            let mut stream = OpenOptions::new().append(true).open(&self.real)?;
            return stream.write_all(bytes);
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

/// Whether `path` names a file by the number under which it was opened for us (`9>file`).
fn is_opened(path: &Path) -> bool {
    let folders = ["/dev/fd", "/proc/self/fd"];
    path == "/dev/stdout"
        || path == "/dev/stderr"
        || path
            .parent()
            .is_some_and(|folder| folders.iter().any(|it| folder == *it))
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
        assert!(!target.is_occupied());
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
    fn what_somebody_has_opened_is_written_to_behind_what_it_holds() {
        use std::os::fd::AsRawFd;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.torrent");
        std::fs::write(&path, b"one ").unwrap();
        let opened = OpenOptions::new().append(true).open(&path).unwrap();
        let name = format!("/dev/fd/{}", opened.as_raw_fd());
        let target = Target::new(Path::new(&name)).unwrap();
        assert!(!target.is_occupied() && target.holds(&path));
        target.save(b"two", false).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"one two");
        assert_eq!(names(folder.path()), ["a.torrent"]);
        let gone = Target::new(Path::new("/dev/fd/1000000")).unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    fn fifo(folder: &Path) -> PathBuf {
        let path = folder.join("fifo");
        let kind = rustix::fs::FileType::Fifo;
        let mode = Mode::RUSR | Mode::WUSR;
        rustix::fs::mknodat(CWD, &path, kind, mode, 0).unwrap();
        path
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_waited_for_until_somebody_wants_to_leave() {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new(&fifo(folder.path())).unwrap();
        // Bound: one, it is told once.
        let (stop, stopped) = bounded(1);
        stop.send(2).unwrap();
        assert_eq!(target.save_unless(b"x", false, &stopped).err(), Some(2));
    }

    #[test]
    fn whoever_reads_a_fifo_gets_all_of_it_though_nobody_can_stop_it_any_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let target = Target::new(&path).unwrap();
        let reader = std::thread::spawn(move || std::fs::read(path).unwrap());
        let stopped = bounded::<()>(1).1; // Bound: none is sent.
        let long = vec![7; 200_000];
        target.save_unless(&long, false, &stopped).unwrap().unwrap();
        assert_eq!(reader.join().unwrap(), long);
    }

    #[test]
    fn a_place_that_cannot_be_is_told_before_the_work() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["", "missing/a", &"x".repeat(300)] {
            assert!(Target::new(&folder.path().join(name)).is_err(), "{name}");
        }
    }
}
