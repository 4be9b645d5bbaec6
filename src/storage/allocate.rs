//! Makes room: folders, files of their full length, and disk space for what is missing, before the
//! first byte is asked of anybody. Whatever fails, what was there before is there again, but for what
//! `--overwrite` cut off.
//!
//! Only missing ranges are allocated, so the holes of a sparse file stay holes. Where the file system
//! cannot allocate, or where it would mean sending zeros over a network, files are sparse and the free
//! space is compared with what is missing. So too on tmpfs: allocating takes its pages one by one, 0.25 s a
//! GiB, before the first block may come, and whoever writes first would take them in passing.

use super::facts::FileFacts;
use super::layout::{LaidFile, Layout};
use super::reach::{
    TMPFS, in_the_way, open_or_create, open_to_read, open_to_write, open_whole, unmake, unmake_file,
};
use super::slot::{StorageError, StorageTrouble};
use crate::protocol::bitfield::Bitfield;
use rustix::fs::{FallocateFlags, SeekFrom};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// A call that allocates this much takes a moment even where it writes zeros; between calls we look
/// whether we should leave.
const CHUNK: u64 = 1 << 30;

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// The files as they are now.
    pub(super) facts: Vec<Option<FileFacts>>,
    /// Folders in which something was made.
    pub(super) folders: BTreeSet<PathBuf>,
    /// The files that will be written to.
    pub(super) open: BTreeSet<usize>,
}

/// What is to be made room for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allocation<'a> {
    pub(super) layout: &'a Layout,
    /// Pieces that are there already, or not wanted.
    pub(super) have: &'a Bitfield,
    /// Files that are too long may be cut.
    pub(super) overwrite: bool,
    /// Set from outside: leave at the next occasion.
    pub(super) stop: &'a AtomicBool,
}

/// What is undone if something fails. Of a file that was made nothing more is noted: it goes.
#[derive(Default)]
struct Undo {
    folders: Vec<PathBuf>,
    /// Files that were made, by their numbers.
    made: Vec<usize>,
    /// Files by their numbers, and how long they were.
    grown: Vec<(usize, u64)>,
    /// Files whose holes were filled.
    filled: Vec<usize>,
}

/// Makes the room.
pub(super) fn make_room(order: Allocation) -> Result<Room, StorageError> {
    let mut undo = Undo::default();
    let outcome = order.carry_out(&mut undo);
    if outcome.is_err() {
        order.take_back(undo);
    }
    outcome
}

impl Allocation<'_> {
    fn carry_out(self, undo: &mut Undo) -> Result<Room, StorageError> {
        let needed = self.needed()?;
        super::reach::create_root(self.layout.folder(), &mut undo.folders)?;
        let space = Space::of(self.layout.folder());
        space.check(needed, self.layout.folder(), space.sparse)?;
        let mut room = Room {
            facts: Vec::with_capacity(self.layout.places()),
            ..Room::default()
        };
        let mut twins = Twins::default();
        let mut sparse = space.sparse;
        for number in 0..self.layout.places() {
            let file = self.layout.place(number);
            let missing = self.missing(number);
            // An unwanted file is never made; one that is there already may share a piece with a wanted one.
            let idle = missing.is_empty() && !self.layout.is_wanted(number);
            if file.padding || idle || self.stop.load(Ordering::Relaxed) {
                room.facts.push(None);
                continue;
            }
            let before = undo.folders.len();
            // What is whole may be where we may not write.
            let whole = match missing.is_empty() {
                true => open_whole(self.layout.folder(), &file.path, file.length),
                false => None,
            };
            let (open, is_new) = match whole {
                Some(open) => (open, false),
                None => open_or_create(self.layout.folder(), &file.path, &mut undo.folders)?,
            };
            let was_there = !is_new;
            undo.made.extend(is_new.then_some(number));
            let made = undo.folders[before..].iter().map(PathBuf::as_path);
            for made in made.chain(is_new.then_some(file.path.as_path())) {
                room.folders.extend(made.parent().map(Path::to_owned));
            }
            // Before it or anything behind it is touched.
            let twin = twins.other(&room.facts, was_there, || look_at(&open, file))?;
            if let Some(twin) = twin
                && !(missing.is_empty() && self.missing(twin).is_empty())
            {
                let other = &self.layout.place(twin).path;
                let cause = format!("it is the same file as {}", other.display());
                return Err(in_the_way("use", &file.path, &cause));
            }
            if !missing.is_empty() {
                room.open.insert(number);
            }
            let is_part = number >= self.layout.files().len();
            let grown = self.fit(&open, file, is_part)?;
            undo.grown
                .extend(grown.filter(|_| was_there).map(|length| (number, length)));
            if !sparse && !missing.is_empty() {
                undo.filled.extend(was_there.then_some(number));
                match self.allocate(&open, &missing) {
                    Ok(()) => {}
                    Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                        sparse = true;
                        space.check(needed, self.layout.folder(), sparse)?;
                    }
                    Err(errno @ (Errno::NOSPC | Errno::DQUOT)) => {
                        let free = space.free.unwrap_or(0);
                        return Err(full(&file.path, errno, needed, free));
                    }
                    Err(errno) => {
                        return Err(StorageError::from_io("allocate", &file.path, &errno.into()));
                    }
                }
            }
            room.facts.push(Some(finish(&open, file)?));
        }
        Ok(room)
    }

    /// Bytes of disk space that are still to be had.
    fn needed(&self) -> Result<u64, StorageError> {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Fsize).current;
        let mut needed = 0u64;
        for number in 0..self.layout.places() {
            let file = self.layout.place(number);
            let missing = self.missing(number);
            if file.padding || missing.is_empty() {
                continue;
            }
            let there = open_to_read(&file.path).ok();
            let length = there.as_ref().and_then(|open| open.metadata().ok());
            let length = length.map_or(0, |found| found.len());
            if let Some(limit) = limit
                && length < file.length
                && file.length > limit
            {
                return Err(StorageError {
                    kind: StorageTrouble::TooLarge,
                    doing: "create",
                    path: file.path.clone(),
                    cause: format!(
                        "it will have {} bytes, and this process may write files of {limit} bytes at most",
                        file.length
                    ),
                });
            }
            needed = needed.saturating_add(match there {
                Some(open) => unbacked(&open, length, &missing),
                None => missing
                    .iter()
                    .map(|range| on_disk(range.end - range.start))
                    .sum(),
            });
        }
        Ok(needed)
    }

    /// The ranges of a file under missing pieces, joined where they touch.
    fn missing(&self, number: usize) -> Vec<Range<u64>> {
        let mut ranges: Vec<Range<u64>> = Vec::new();
        for (piece, run) in self.layout.runs_in(number) {
            if self.have.has(piece) {
                continue;
            }
            let end = run.offset + run.length;
            match ranges.last_mut() {
                Some(last) if last.end == run.offset => last.end = end,
                _ => ranges.push(run.offset..end),
            }
        }
        ranges
    }

    /// Gives the file its length, and returns the one it had, if that was less. The part file may be longer: an
    /// earlier selection had more in it.
    fn fit(
        &self,
        open: &File,
        file: &LaidFile,
        is_part: bool,
    ) -> Result<Option<u64>, StorageError> {
        let length = open
            .metadata()
            .map_err(|error| StorageError::from_io("look at", &file.path, &error))?
            .len();
        if length == file.length || is_part && length > file.length {
            return Ok(None);
        }
        if length > file.length && !self.overwrite {
            let cause = format!("it has {length} bytes and should have {}", file.length);
            return Err(in_the_way("use", &file.path, &cause));
        }
        open.set_len(file.length).map_err(|error| {
            let mut error = StorageError::from_io("allocate", &file.path, &error);
            if error.kind == StorageTrouble::TooLarge {
                error.cause = format!(
                    "its {} bytes are more than this file system or this process may hold in a file",
                    file.length
                );
            }
            error
        })?;
        Ok((length < file.length).then_some(length))
    }

    fn allocate(&self, open: &File, missing: &[Range<u64>]) -> Result<(), Errno> {
        for range in missing {
            let mut at = range.start;
            while at < range.end && !self.stop.load(Ordering::Relaxed) {
                let length = CHUNK.min(range.end - at);
                match rustix::fs::fallocate(open, FallocateFlags::empty(), at, length) {
                    Ok(()) => at += length,
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(())
    }

    /// What lies behind a link by now is left alone.
    fn take_back(self, undo: Undo) {
        let open = |number| {
            let path = &self.layout.place(number).path;
            open_to_write(self.layout.folder(), path).ok()
        };
        for number in undo.filled.into_iter().rev() {
            if let Some(open) = open(number) {
                let ranges = self.missing(number);
                ranges.iter().for_each(|range| empty_holes(&open, range));
            }
        }
        for (number, length) in undo.grown.into_iter().rev() {
            if let Some(open) = open(number) {
                let _ = open.set_len(length);
            }
        }
        for number in undo.made.into_iter().rev() {
            unmake_file(self.layout.folder(), &self.layout.place(number).path);
        }
        unmake(self.layout.folder(), undo.folders);
    }
}

/// Which of the places so far a file is, by its device and its number on that. Nothing is kept until the first file is
/// found to be there: those we make have numbers of their own.
#[derive(Default)]
struct Twins(Option<HashMap<(u64, u64), usize>>);

impl Twins {
    /// The last place that is the same file as the `next` one, behind all of which the `facts` are known.
    fn other(
        &mut self,
        facts: &[Option<FileFacts>],
        was_there: bool,
        next: impl FnOnce() -> Result<FileFacts, StorageError>,
    ) -> Result<Option<usize>, StorageError> {
        let identity = |facts: FileFacts| (facts.device, facts.inode);
        if !was_there && self.0.is_none() {
            return Ok(None);
        }
        let places = self.0.get_or_insert_with(|| {
            let places = facts.iter().enumerate();
            let there = places.filter_map(|(number, facts)| Some((identity((*facts)?), number)));
            there.collect()
        });
        Ok(places.insert(identity(next()?), facts.len()))
    }
}

/// Gives back what is allocated and was never written within `range`: to a reader it is a hole already.
fn empty_holes(open: &File, range: &Range<u64>) {
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    for hole in holes(open, range) {
        let _ = rustix::fs::fallocate(open, punch, hole.start, hole.end - hole.start);
    }
}

/// The runs without data within `range`, in order.
fn holes<'a>(open: &'a File, range: &Range<u64>) -> impl Iterator<Item = Range<u64>> + 'a {
    let (mut at, end) = (range.start, range.end);
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let start = rustix::fs::seek(open, SeekFrom::Hole(at)).ok()?.max(at);
        if start >= end {
            return None;
        }
        let next = match rustix::fs::seek(open, SeekFrom::Data(start)) {
            Ok(next) => next.min(end),
            Err(_) => end,
        };
        at = next.max(start + 1);
        Some(start..at)
    })
}

/// Bytes within `missing` that have no disk space yet. What was allocated and never written looks like a
/// hole; that the file takes more space than its data tells the two apart.
fn unbacked(open: &File, length: u64, missing: &[Range<u64>]) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let in_holes =
        |range: &Range<u64>| -> u64 { holes(open, range).map(|hole| hole.end - hole.start).sum() };
    // Past the end of the file there is nothing to ask the file system about.
    let inside = |range: &Range<u64>| range.start.min(length)..range.end.min(length);
    let beyond = |range: &Range<u64>| range.end - range.start.max(length).min(range.end);
    let later = missing.iter().map(beyond).map(on_disk).sum();
    let empty: u64 = missing.iter().map(|range| in_holes(&inside(range))).sum();
    if empty == 0 {
        return later;
    }
    let taken = open.metadata().map_or(0, |found| found.blocks() * 512);
    let data = length - in_holes(&(0..length)).min(length);
    later + empty.saturating_sub(taken.saturating_sub(data))
}

/// What so many bytes take on disk, by the usual grain.
fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(4096) * 4096
}

fn finish(open: &File, file: &LaidFile) -> Result<FileFacts, StorageError> {
    if file.executable
        && let Ok(found) = open.metadata()
    {
        let mode = found.permissions().mode();
        // Whoever may read it may run it. File systems without modes refuse; nothing depends on it.
        let _ = open.set_permissions(PermissionsExt::from_mode(mode | (mode & 0o444) >> 2));
    }
    look_at(open, file)
}

fn look_at(open: &File, file: &LaidFile) -> Result<FileFacts, StorageError> {
    let stat = rustix::fs::fstat(open);
    let stat = stat.map_err(|errno| StorageError::from_io("look at", &file.path, &errno.into()))?;
    Ok(FileFacts::from(&stat))
}

fn full(path: &Path, errno: Errno, needed: u64, free: u64) -> StorageError {
    let mut error = StorageError::from_io("allocate", path, &errno.into());
    error.cause += &format!("; {needed} bytes are needed and {free} are free");
    error
}

/// What a file system offers.
struct Space {
    /// Bytes we may use; `None` if it does not say.
    free: Option<u64>,
    /// Allocating is dear: it would send zeros over a network or through another program, or, in memory, take
    /// pages one by one that each write takes anyway.
    sparse: bool,
}

impl Space {
    fn of(folder: &Path) -> Space {
        let free = rustix::fs::statvfs(folder).ok();
        let free = free.filter(|found| found.f_blocks > 0);
        let sparse = rustix::fs::statfs(folder).is_ok_and(|found| {
            // The field's width and sign differ between machines, the numbers fit 32 bits.
            let magic = found.f_type as u32;
            magic == TMPFS || REMOTE.contains(&magic)
        });
        Space {
            free: free.map(|found| found.f_bavail.saturating_mul(found.f_frsize)),
            sparse,
        }
    }

    /// Compares what is needed with what is free. File systems need some for themselves: where space
    /// cannot be made sure of, a reserve stays free.
    fn check(&self, needed: u64, folder: &Path, sparse: bool) -> Result<(), StorageError> {
        let reserve = if sparse {
            (needed / 100).min(RESERVE_MAX)
        } else {
            0
        };
        match self.free {
            Some(free) if needed.saturating_add(reserve) > free => {
                Err(full(folder, Errno::NOSPC, needed, free))
            }
            _ => Ok(()),
        }
    }
}

/// Bytes left free at most.
const RESERVE_MAX: u64 = 16 << 20;

/// statfs(2): NFS, SMB, CIFS, SMB2, FUSE, 9p, AFS (two), Ceph, Coda.
const REMOTE: [u32; 10] = [
    0x6969,
    0x517b,
    0xff53_4d42,
    0xfe53_4d42,
    0x6573_5546,
    0x0102_1997,
    0x5346_414f,
    0x6b41_4653,
    0x00c3_6400,
    0x7375_7245,
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::storage::test_torrent::Author;
    use std::os::unix::fs::symlink;

    #[test]
    fn what_is_undone_is_not_undone_behind_links() {
        let (folder, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut author = Author::new("torrent", 16);
        for name in ["link", "way/file", "own", "made", "way/sub/file"] {
            author.file(name, &[1; 16]);
        }
        let layout = author.layout(folder.path());
        let theirs = outside.path().join("file");
        std::fs::write(&theirs, "somebody else's").unwrap();
        let torrent = folder.path().join("torrent");
        std::fs::create_dir(&torrent).unwrap();
        symlink(&theirs, torrent.join("link")).unwrap();
        symlink(outside.path(), torrent.join("way")).unwrap();
        let own = torrent.join("own");
        std::fs::write(&own, "grown").unwrap();
        let made = torrent.join("made");
        std::fs::write(&made, "").unwrap();
        std::fs::create_dir(outside.path().join("sub")).unwrap();
        let order = Allocation {
            layout: &layout,
            have: &Bitfield::new(layout.geometry()),
            overwrite: false,
            stop: &AtomicBool::new(false),
        };
        order.take_back(Undo {
            folders: vec![torrent.join("way"), torrent.join("way/sub")],
            made: vec![1, 3],
            grown: vec![(0, 1), (1, 1), (2, 1)],
            ..Undo::default()
        });
        assert_eq!(std::fs::read(&theirs).unwrap(), b"somebody else's");
        assert_eq!(std::fs::read(&own).unwrap(), b"g");
        assert!(!made.exists());
        assert!(outside.path().join("sub").exists());
    }

    #[test]
    fn two_files_of_a_torrent_that_are_one_on_disk_are_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("torrent", 16);
        for name in ["new/one", "first", "second", "third"] {
            author.file(name, &[1; 16]);
        }
        let layout = author.layout(folder.path());
        let torrent = folder.path().join("torrent");
        std::fs::create_dir(&torrent).unwrap();
        std::fs::write(torrent.join("first"), [1; 16]).unwrap();
        std::fs::hard_link(torrent.join("first"), torrent.join("second")).unwrap();
        let long = torrent.join("third");
        std::fs::write(&long, [1; 17]).unwrap();
        let room = |have: &Bitfield| {
            make_room(Allocation {
                layout: &layout,
                have,
                overwrite: true,
                stop: &AtomicBool::new(false),
            })
        };
        let mut have = Bitfield::new(layout.geometry());
        for _ in 0..2 {
            let error = room(&have).unwrap_err();
            assert_eq!(error.kind, StorageTrouble::InTheWay);
            assert_eq!(error.path, torrent.join("second"));
            let first = torrent.join("first");
            assert_eq!(
                error.cause,
                format!("it is the same file as {}", first.display())
            );
            assert!(!torrent.join("new").exists(), "it was made and is undone");
            let length = std::fs::metadata(&long).unwrap().len();
            assert_eq!(length, 17, "what lies behind is not cut");
            have.set(layout.geometry().piece(1).unwrap());
        }
        // Nothing is written to either where both are whole.
        have.set(layout.geometry().piece(2).unwrap());
        room(&have).unwrap();
    }

    #[test]
    fn one_file_under_two_names_is_not_cut_to_the_shorter_ones_length() {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("torrent", 16);
        author.file("long", &[1; 24]);
        author.file("short", &[1; 8]);
        let layout = author.layout(folder.path());
        let torrent = folder.path().join("torrent");
        std::fs::create_dir(&torrent).unwrap();
        std::fs::write(torrent.join("long"), [1; 24]).unwrap();
        std::fs::hard_link(torrent.join("long"), torrent.join("short")).unwrap();
        let order = Allocation {
            layout: &layout,
            have: &Bitfield::new(layout.geometry()),
            overwrite: true,
            stop: &AtomicBool::new(false),
        };
        let error = make_room(order).unwrap_err();
        assert!(
            error.cause.starts_with("it is the same file as"),
            "{}",
            error.cause
        );
        assert_eq!(std::fs::read(torrent.join("long")).unwrap(), [1; 24]);
    }
}
