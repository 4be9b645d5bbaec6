//! How the files are as far as the keeper knows, and to which of them we still write: what else happens to
//! one is somebody else's doing.
//!
//! ```text
//! known.note(file, number, now)?;              // it was synced, and its facts are these
//! let changed = known.settle(&layout, &settled);  // whole files are not ours to write to any more
//! let changed = known.look_again(&layout, true)?;  // at the end: are they all as they were?
//! ```
//!
//! A block is never written after its piece was checked. So from the moment on at which the last piece of a
//! file was found good, the file's time of change stands still, and another time means that others wrote to it.
//! That holds where a write, or the page fault before a store into a map, is what sets the time: all that the
//! kernel does later with the pages, a write-back or a sync, leaves it alone. Servers (NFS, SMB) and programs
//! behind FUSE set times when they like and by clocks of their own. There we believe no time: such a file
//! never settles.

use super::facts::{FileFacts, FileTime};
use super::layout::{LaidFile, Layout};
use super::reach::{in_the_way, is_plain_at, open_to_read};
use super::slot::{StorageError, StorageTrouble};
use super::survey::{self, Found, Zeros};
use crate::protocol::bitfield::Bitfield;
use rustix::fs::SeekFrom;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// What is known of the places of one torrent.
#[derive(Debug)]
pub(super) struct Known {
    /// Of each place; the last one is the part file's, whether there is one or not.
    facts: Vec<Option<FileFacts>>,
    /// Files with missing pieces when work began.
    began: BTreeSet<usize>,
    /// Those of them that we may still write to.
    open: BTreeSet<usize>,
    /// When, by our clock, the last piece of an open file was found good.
    verified: BTreeMap<usize, FileTime>,
    /// Of each device whether its times can be believed.
    steady: HashMap<u64, bool>,
}

impl Known {
    /// As the survey `found` the torrent's `files`. Nothing is written to yet.
    pub(super) fn new(found: &[Found], files: usize) -> Known {
        let mut facts = Vec::with_capacity(files + 1);
        facts.extend(found.iter().map(Found::facts));
        facts.resize(files + 1, None);
        Known {
            facts,
            began: BTreeSet::new(),
            open: BTreeSet::new(),
            verified: BTreeMap::new(),
            steady: HashMap::new(),
        }
    }

    /// Of the torrent's files.
    pub(super) fn files(&self) -> &[Option<FileFacts>] {
        &self.facts[..self.facts.len() - 1]
    }

    /// Of one place.
    pub(super) fn of(&self, number: usize) -> Option<FileFacts> {
        self.facts[number]
    }

    /// Of the part file.
    pub(super) fn part(&self) -> Option<FileFacts> {
        self.facts.last().copied().flatten()
    }

    /// There is no part file any more.
    pub(super) fn part_is_gone(&mut self) {
        if let Some(part) = self.facts.last_mut() {
            *part = None;
        }
    }

    /// The files that we wrote to in this run.
    pub(super) fn written(&self) -> &BTreeSet<usize> {
        &self.began
    }

    /// Room was made in the `open` files, which will be written to, and the files are like this `now`. One that
    /// was not come to is as it was; and one that was only opened, and not cut, has the time that the survey
    /// found: its pieces were judged after that.
    pub(super) fn prepared(&mut self, now: Vec<Option<FileFacts>>, open: BTreeSet<usize>) {
        for (number, (known, now)) in self.facts.iter_mut().zip(now).enumerate() {
            let Some(now) = now else { continue };
            let judged = known.filter(|then| then.length == now.length && !open.contains(&number));
            // Its number may be new: an overlay copies what is opened to be written to.
            let modified = judged.map_or(now.modified, |then| then.modified);
            *known = Some(FileFacts { modified, ..now });
        }
        self.began.clone_from(&open);
        self.open = open;
    }

    /// Pieces under these files were found good at these times by our clock.
    pub(super) fn verified(&mut self, files: BTreeMap<usize, FileTime>) {
        self.verified.extend(files);
    }

    /// The file is like this `now`, after all that we had to write to it so far. An error if it is not the one we know.
    pub(super) fn note(
        &mut self,
        file: &LaidFile,
        number: usize,
        now: FileFacts,
    ) -> Result<(), StorageError> {
        let known = &mut self.facts[number];
        is_ours(file, *known, now)?;
        if self.open.contains(&number) || known.is_none() {
            *known = Some(now);
        }
        Ok(())
    }

    /// The open files with all their pieces in `settled` were noted after that was so: nothing more will be written to
    /// them. Those come back that somebody wrote to after we had found them good, or cut and made longer again while
    /// our own writes hid it: whatever we wrote is no hole.
    pub(super) fn settle(&mut self, layout: &Layout, settled: &Bitfield) -> Vec<usize> {
        let is_whole = |number: &usize| {
            let mut runs = layout.runs_in(*number);
            runs.all(|(piece, _)| settled.has(piece))
        };
        let whole: Vec<usize> = self.open.iter().copied().filter(is_whole).collect();
        let mut changed = Vec::new();
        for number in whole {
            let Some(facts) = self.facts[number] else {
                continue;
            };
            if !self.is_steady(facts.device, layout, number) {
                continue;
            }
            self.open.remove(&number);
            let verified = self.verified.remove(&number);
            if verified.is_some_and(|then| facts.modified > then) || is_emptied(layout, number) {
                changed.push(number);
            }
        }
        changed
    }

    /// Whether the times of a place on this device can be believed.
    fn is_steady(&mut self, device: u64, layout: &Layout, number: usize) -> bool {
        let steady = self.steady.entry(device);
        *steady.or_insert_with(|| is_plain_at(&layout.place(number).path))
    }

    /// How many files we may still write to, as far as that can be told.
    pub(super) fn unsettled(&self) -> usize {
        self.open.len()
    }

    /// Looks at all wanted files. Those come back that somebody wrote to since they were noted; that is noted, too.
    /// While there is `time` to hash them, so do those of which anything changed at all: a program may have written to
    /// them and put their time back. An error if one is not there, or not the one we know.
    pub(super) fn look_again(
        &mut self,
        layout: &Layout,
        time: bool,
    ) -> Result<Vec<usize>, StorageError> {
        let mut changed = Vec::new();
        for number in 0..layout.places() {
            let is_part = number >= layout.files().len();
            let Some(then) = self.facts[number].filter(|_| is_part || layout.is_wanted(number))
            else {
                continue;
            };
            let file = layout.place(number);
            let now = look_at(file)?;
            is_ours(file, Some(then), now)?;
            let differs = now.modified != then.modified
                || time
                    && now.changed != then.changed
                    && self.is_steady(now.device, layout, number);
            if differs && file.length > 0 {
                self.facts[number] = Some(now);
                changed.push(number);
            }
        }
        Ok(changed)
    }

    /// Looks again at `files`, to which we do not write: whatever is there now is to be read. Those come back that
    /// are not as they were, or not there.
    pub(super) fn look_anew(
        &mut self,
        layout: &Layout,
        files: &BTreeSet<usize>,
    ) -> BTreeSet<usize> {
        let mut changed = BTreeSet::new();
        for number in files {
            let (file, then) = (layout.place(*number), self.facts[*number]);
            let now = look_at(file).ok();
            if now.is_none() || now != then {
                changed.insert(*number);
            }
            // One that was made longer is not taken for what it should be.
            let longest = then.map_or(0, |then| then.length).max(file.length);
            let known = now.map(|now| FileFacts {
                length: now.length.min(longest),
                ..now
            });
            // Of one that is not there the old times stand: should it come back, it is looked at once more.
            self.facts[*number] = known.or(then);
        }
        changed
    }

    /// The same torrent; files that we do not write to are to be read as long as nobody else does.
    pub(super) fn watched(&self, layout: &Layout) -> Layout {
        let times = self.facts.iter().enumerate().map(|(number, facts)| {
            let facts = facts.filter(|_| !self.open.contains(&number))?;
            Some(facts.into())
        });
        layout.clone().as_seen(times)
    }
}

/// Whether a wanted file has a hole under a piece that is not of zeros alone. One that an earlier run found so is
/// hashed once more for it.
fn is_emptied(layout: &Layout, number: usize) -> bool {
    let ours = number < layout.files().len() && layout.is_wanted(number);
    let file = ours.then(|| open_to_read(&layout.place(number).path));
    let Some(Ok(open)) = file else { return false };
    let (mut zeros, mut hole) = (Zeros::default(), None);
    layout.runs_in(number).any(|(piece, run)| {
        if hole.is_none_or(|hole| hole < run.offset) {
            hole = rustix::fs::seek(&open, SeekFrom::Hole(run.offset)).ok();
        }
        let size = layout.geometry().piece_size(piece);
        hole.is_some_and(|hole| hole < run.offset + run.length)
            && layout.piece_digest(piece) != zeros.digest(size)
    })
}

/// How the file is now. An error if there is none.
fn look_at(file: &LaidFile) -> Result<FileFacts, StorageError> {
    match survey::look_at(file) {
        Found::File(now) => Ok(now),
        Found::Unknown(error) => Err(error),
        Found::Other(what) => Err(vanished(file, what)),
        Found::Nothing | Found::Padding => Err(vanished(file, "it was deleted")),
    }
}

fn vanished(file: &LaidFile, cause: &str) -> StorageError {
    StorageError {
        kind: StorageTrouble::Vanished,
        doing: "sync",
        path: file.path.clone(),
        cause: cause.to_owned(),
    }
}

/// An error if what is like this `now` is not the file that was `known`.
fn is_ours(file: &LaidFile, known: Option<FileFacts>, now: FileFacts) -> Result<(), StorageError> {
    let same = |then: FileFacts| (then.device, then.inode) == (now.device, now.inode);
    if !known.is_none_or(same) {
        return Err(vanished(file, "it was replaced by another file"));
    }
    if now.length < known.map_or(0, |then| then.length).min(file.length) {
        return Err(vanished(file, "it was cut shorter"));
    }
    if now.length > file.length && known.is_some_and(|then| then.length <= file.length) {
        // Nothing of ours is missing; whether the rest may go is for the user to say (`--overwrite`).
        return Err(in_the_way("sync", &file.path, "it was made longer"));
    }
    Ok(())
}
