//! Reaching files below a folder without being led astray: no symbolic link is followed where we
//! write, and nothing but regular files is ever opened for long.

use super::slot::{StorageError, StorageTrouble};
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

/// statfs(2): files in memory.
pub(super) const TMPFS: u32 = 0x0102_1994;
/// The same without a limit, and older.
pub(super) const RAMFS: u32 = 0x8584_58f6;

/// File systems of this machine alone, whose shared maps are the page cache itself, and whose times of change are
/// set by who writes and by nothing later. Not NFS, CIFS, FUSE, 9p and whatever is not known.
pub(super) fn is_plain(magic: u32) -> bool {
    const PLAIN: [u32; 11] = [
        0x0000_ef53, // ext2, ext3, ext4
        0x5846_5342, // xfs
        0x9123_683e, // btrfs
        TMPFS,
        RAMFS,
        0xf2f5_2010, // f2fs
        0x794c_7630, // overlay
        0xca45_1a4e, // bcachefs
        0x3153_464a, // jfs
        0x0000_3434, // nilfs
        0x5265_4973, // reiserfs
    ];
    PLAIN.contains(&magic)
}

/// Whether the file system that `path` is on is one of these.
pub(super) fn is_plain_at(path: &Path) -> bool {
    let system = rustix::fs::statfs(path);
    system.is_ok_and(|system| is_plain(system.f_type as u32))
}

/// Something that is not what we need is at `path`.
pub(super) fn in_the_way(doing: &'static str, path: &Path, cause: &str) -> StorageError {
    StorageError {
        kind: StorageTrouble::InTheWay,
        doing,
        path: path.to_owned(),
        cause: cause.to_owned(),
    }
}

/// What a file that is not a regular one is called.
pub(super) fn kind_of_thing(kind: FileType) -> &'static str {
    match kind {
        FileType::RegularFile => "it is a file",
        FileType::Directory => "it is a folder",
        FileType::Symlink => "it is a symbolic link",
        FileType::Fifo => "it is a pipe",
        FileType::Socket => "it is a socket",
        FileType::CharacterDevice | FileType::BlockDevice => "it is a device",
        FileType::Unknown => "it is no regular file",
    }
}

// Without NONBLOCK a pipe without a writer would hold its opener for ever, before the check of what
// it is; on regular files it has no effect.
const CAREFULLY: OFlags = OFlags::CLOEXEC
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

const A_FOLDER: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Opens a regular file for reading. Its folder may be reached over symbolic links.
pub(super) fn open_to_read(path: &Path) -> Result<File, StorageError> {
    open_at(CWD, path.as_os_str(), path, OFlags::RDONLY)
}

/// Opens a regular file below `root` for reading and writing.
pub(super) fn open_to_write(root: &Path, path: &Path) -> Result<File, StorageError> {
    let (folder, name) = folder_of(root, path, None)?;
    open_at(folder, name, path, OFlags::RDWR)
}

/// Opens a regular file of this length below `root` for reading, if there is one. No symbolic link is followed, as
/// where we write.
pub(super) fn open_whole(root: &Path, path: &Path, length: u64) -> Option<File> {
    let (folder, name) = folder_of(root, path, None).ok()?;
    let open = open_at(folder, name, path, OFlags::RDONLY).ok()?;
    let found = open.metadata().ok()?;
    (found.len() == length).then_some(open)
}

/// Opens a regular file below `root` for reading and writing, made if it is missing (then `true`), and so are the
/// folders it lies in. Those that were made are appended to `made`, in order.
pub(super) fn open_or_create(
    root: &Path,
    path: &Path,
    made: &mut Vec<PathBuf>,
) -> Result<(File, bool), StorageError> {
    let (folder, name) = folder_of(root, path, Some(made))?;
    let anew = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL;
    match open_at(folder.as_fd(), name, path, anew) {
        Ok(file) => Ok((file, true)),
        Err(error) if exists(&folder, name) => {
            drop(error);
            Ok((open_at(folder, name, path, OFlags::RDWR)?, false))
        }
        Err(error) => Err(error),
    }
}

/// Whether every folder between `root` and the file at `path` is a plain folder or not there yet.
pub(super) fn way_is_plain(root: &Path, path: &Path) -> Result<(), StorageError> {
    match folder_of(root, path, None) {
        Err(error) if error.kind == StorageTrouble::InTheWay => Err(error),
        _ => Ok(()),
    }
}

fn exists(folder: &OwnedFd, name: &OsStr) -> bool {
    rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

fn open_at(
    folder: impl AsFd,
    name: &OsStr,
    path: &Path,
    flags: OFlags,
) -> Result<File, StorageError> {
    let mode = Mode::from_raw_mode(0o666);
    let opened = loop {
        match rustix::fs::openat(&folder, name, flags | CAREFULLY, mode) {
            Err(Errno::INTR) => {}
            outcome => break outcome,
        }
    };
    let doing = if flags.contains(OFlags::CREATE) {
        "create"
    } else {
        "open"
    };
    let not_a_file = |kind| in_the_way(doing, path, kind_of_thing(kind));
    let opened = opened.map_err(|errno| {
        let what = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW);
        match what.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
            Ok(kind) if kind != FileType::RegularFile => not_a_file(kind),
            _ => StorageError::from_io(doing, path, &errno.into()),
        }
    })?;
    let stat = rustix::fs::fstat(&opened)
        .map_err(|errno| StorageError::from_io(doing, path, &errno.into()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Ok(opened.into()),
        kind => Err(not_a_file(kind)),
    }
}

/// The folder that holds `path`, reached from `root` step by step and not over links, and the last
/// part of the path. With `made`, missing folders are made, `root` too.
fn folder_of<'a>(
    root: &Path,
    path: &'a Path,
    mut made: Option<&mut Vec<PathBuf>>,
) -> Result<(OwnedFd, &'a OsStr), StorageError> {
    let below = path.strip_prefix(root).unwrap_or(path);
    let name = below.file_name().unwrap_or_default();
    if let Some(made) = made.as_deref_mut() {
        create_root(root, made)?;
    }
    let mut folder = rustix::fs::open(root, A_FOLDER, Mode::empty())
        .map_err(|errno| StorageError::from_io("open", root, &errno.into()))?;
    let mut here = root.to_owned();
    for part in below.parent().into_iter().flat_map(Path::components) {
        let Component::Normal(part) = part else {
            return Err(in_the_way("open", path, "its path is not a plain one"));
        };
        here.push(part);
        if let Some(made) = made.as_deref_mut() {
            match rustix::fs::mkdirat(&folder, part, Mode::from_raw_mode(0o777)) {
                Ok(()) => made.push(here.clone()),
                Err(Errno::EXIST) => {}
                Err(errno) => return Err(StorageError::from_io("create", &here, &errno.into())),
            }
        }
        folder = rustix::fs::openat(&folder, part, A_FOLDER | OFlags::NOFOLLOW, Mode::empty())
            .map_err(|errno| {
                let what = rustix::fs::statat(&folder, part, AtFlags::SYMLINK_NOFOLLOW);
                match what.map(|stat| FileType::from_raw_mode(stat.st_mode)) {
                    Ok(kind) if kind != FileType::Directory => {
                        in_the_way("open", &here, kind_of_thing(kind))
                    }
                    _ => StorageError::from_io("open", &here, &errno.into()),
                }
            })?;
    }
    Ok((folder, name))
}

/// Makes the user's own folder, over links if they please.
pub(super) fn create_root(root: &Path, made: &mut Vec<PathBuf>) -> Result<(), StorageError> {
    if root.is_dir() {
        return Ok(());
    }
    if let Some(parent) = root
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty())
    {
        create_root(parent, made)?;
    }
    match std::fs::create_dir(root) {
        Ok(()) => {
            made.push(root.to_owned());
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && root.is_dir() => Ok(()),
        Err(error) => Err(StorageError::from_io("create", root, &error)),
    }
}

/// Removes a file, if it is there.
pub(super) fn remove(path: &Path) -> Result<(), StorageError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(StorageError::from_io("remove", path, &error))
        }
        _ => Ok(()),
    }
}

/// Removes a file below `root` that we made, if it can be. What lies behind a link by now is left alone.
pub(super) fn unmake_file(root: &Path, path: &Path) {
    unlink(root, path, AtFlags::empty());
}

/// Takes away the folders that were made, `root` and those above it perhaps, last first. What is in use or gone by now
/// stays as it is, and so does, below `root`, what lies behind a link.
pub(super) fn unmake(root: &Path, made: Vec<PathBuf>) {
    for path in made.into_iter().rev() {
        if path.starts_with(root) && path != root {
            unlink(root, &path, AtFlags::REMOVEDIR);
        } else {
            let _ = std::fs::remove_dir(&path);
        }
    }
}

fn unlink(root: &Path, path: &Path, what: AtFlags) {
    if let Ok((folder, name)) = folder_of(root, path, None) {
        let _ = rustix::fs::unlinkat(folder, name, what);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn only_regular_files_are_opened() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("file"), "x").unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        symlink(at("file"), at("link")).unwrap();
        symlink("/dev/full", at("full")).unwrap();
        rustix::fs::mknodat(CWD, at("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for (name, cause) in [
            ("folder", "it is a folder"),
            ("link", "it is a symbolic link"),
            ("full", "it is a symbolic link"),
            ("pipe", "it is a pipe"),
        ] {
            let mut made = Vec::new();
            for error in [
                open_to_read(&at(name)).unwrap_err(),
                open_to_write(folder.path(), &at(name)).unwrap_err(),
                open_or_create(folder.path(), &at(name), &mut made).unwrap_err(),
            ] {
                assert_eq!(
                    (error.kind, error.cause.as_str()),
                    (StorageTrouble::InTheWay, cause),
                    "{name}"
                );
            }
            assert!(made.is_empty());
        }
        open_to_write(folder.path(), &at("file")).unwrap();
    }

    #[test]
    fn a_link_on_the_way_is_followed_for_reading_only() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::write(outside.path().join("file"), "x").unwrap();
        symlink(outside.path(), folder.path().join("way")).unwrap();
        let path = folder.path().join("way/file");
        open_to_read(&path).unwrap();
        let error = open_to_write(folder.path(), &path).unwrap_err();
        assert_eq!(error.path, folder.path().join("way"));
        assert_eq!(error.kind, StorageTrouble::InTheWay);
        let new = folder.path().join("way/new");
        open_or_create(folder.path(), &new, &mut Vec::new()).unwrap_err();
        assert!(!outside.path().join("new").exists());
        assert!(way_is_plain(folder.path(), &path).is_err());
        way_is_plain(folder.path(), &folder.path().join("not/yet/there")).unwrap();
    }

    #[test]
    fn what_was_made_can_be_unmade() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("a/b");
        let mut made = Vec::new();
        let path = root.join("c/d/file");
        let (_, is_new) = open_or_create(&root, &path, &mut made).unwrap();
        assert_eq!((made.len(), is_new), (4, true));
        let (_, is_new) = open_or_create(&root, &path, &mut made).unwrap();
        assert_eq!((made.len(), is_new), (4, false));
        unmake_file(&root, &path);
        unmake(&root, made);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
