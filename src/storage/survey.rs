//! What is there already: the files on disk and the record of work, judged before anything is touched.
//!
//! ```text
//! let found = look(&layout);                        // what is at each file's path
//! let survey = judge(&layout, &found, record, ...); // what may be trusted, what must be hashed
//! ```
//!
//! What a record is worth: its pieces were synced before it was written, and a piece is never written
//! again after it was checked. So a program that was killed leaves a true record, if the files are still
//! the same ones. Times of change tell less: they move while other pieces are written. They count where
//! nothing was written any more: after a clean end, and in files that were complete (`known`). There the file's number
//! and its time of change count, too: whoever replaces a file, or writes into it, may put back its other time.

use super::facts::FileFacts;
use super::layout::{LaidFile, Layout};
use super::lazy_file::{Access, LazyFile};
use super::reach::{in_the_way, is_plain_at, kind_of_thing, way_is_plain};
use super::record::{LaidBlocks, Record};
use super::slot::StorageError;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::digest::Hasher;
use crate::protocol::{Digest, PieceIndex};
use rustix::fs::{AtFlags, CWD, FileType, SeekFrom};
use rustix::io::Errno;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What is at a file's path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(FileFacts),
    /// Something else; the text says what ("it is a folder").
    Other(&'static str),
    /// The system does not tell, and why.
    Unknown(StorageError),
    /// A padding file: never on disk.
    Padding,
}

impl Found {
    /// By what the file is known again, if it is one.
    pub(super) fn facts(&self) -> Option<FileFacts> {
        match self {
            Found::File(facts) => Some(*facts),
            _ => None,
        }
    }
}

/// What is there of a torrent, and what is to be done to know the rest.
#[derive(Debug, Clone)]
pub struct Survey {
    /// Pieces that are good for certain.
    pub trusted: Bitfield,
    /// Wanted pieces whose bytes are there and must be hashed.
    pub unsure: Bitfield,
    /// Blocks of unfinished pieces that are laid, as the record says. A piece that is also `unsure` is
    /// hashed first; if it is bad, these blocks still count.
    pub laid: Vec<LaidBlocks>,
    /// Payload fetched in earlier runs, in bytes.
    pub downloaded: u64,
    /// Payload served in earlier runs, in bytes.
    pub uploaded: u64,
    /// Files with data were there and no record of ours: if hashing finds no good piece, they are
    /// somebody else's and must not be written to without `--overwrite`.
    pub foreign: bool,
    /// What was odd, one sentence each.
    pub warnings: Vec<String>,
    /// Where everything lies now.
    pub layout: Arc<Layout>,
}

/// What is wrong with a file before its bytes are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// It is not there.
    Missing,
    /// It has this many bytes, which is too few.
    Short(u64),
    /// It has this many bytes, which is too many.
    Long(u64),
    /// Something else is there ("it is a folder").
    NotAFile(&'static str),
    /// The system does not let us look, and why.
    Unreadable(StorageError),
}

/// How the survey is to judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurveyRules {
    /// Files will be written: what is in the way is an error.
    pub writable: bool,
    /// Trust no record.
    pub check: bool,
    /// Files that are too long are cut rather than refused.
    pub overwrite: bool,
}

/// What is at the path of each place, in the layout's order.
pub fn look(layout: &Layout) -> Vec<Found> {
    let places = 0..layout.places();
    places.map(|number| look_at(layout.place(number))).collect()
}

/// What is at the path of one file. Follows no link in the last part of the path.
pub fn look_at(file: &LaidFile) -> Found {
    if file.padding {
        return Found::Padding;
    }
    match rustix::fs::statat(CWD, &file.path, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Found::File(FileFacts::from(&stat)),
            kind => Found::Other(kind_of_thing(kind)),
        },
        Err(Errno::NOENT) => Found::Nothing,
        Err(Errno::NOTDIR) => Found::Other("a file is where its folder should be"),
        Err(errno) => Found::Unknown(StorageError::from_io("look at", &file.path, &errno.into())),
    }
}

/// Where the file is that a symbolic link at `file`'s path leads to, if one was found there. For who only reads, as
/// `create` does: what the link leads to later is not looked at.
pub fn behind_link(found: &Found, file: &LaidFile) -> Option<PathBuf> {
    let linked = matches!(found, Found::Other(_)) && file.path.is_symlink();
    linked.then(|| file.path.canonicalize().ok()).flatten()
}

/// The same where files will be read alone. From here on they lie where they were found: under the names that the
/// torrent's author gave them, and behind symbolic links; and only as long as nobody writes to them.
pub(super) fn look_to_read(layout: &mut Layout) -> Vec<Found> {
    let mut behind = layout.as_found();
    let mut found = look(&behind);
    for (number, found) in (0..behind.files().len()).zip(&mut found) {
        if let Some(path) = behind_link(found, behind.place(number)) {
            behind.lies_at(number, path);
            *found = look_at(behind.place(number));
        }
    }
    *layout = behind.as_seen(found.iter().map(|found| Some(found.facts()?.into())));
    found
}

/// What is wrong with a file of `length` bytes where `found` was found.
pub fn flaw(found: &Found, length: u64) -> Option<Flaw> {
    match found {
        Found::Padding => None,
        Found::Nothing => Some(Flaw::Missing),
        Found::Other(what) => Some(Flaw::NotAFile(what)),
        Found::Unknown(error) => Some(Flaw::Unreadable(error.clone())),
        Found::File(facts) if facts.length < length => Some(Flaw::Short(facts.length)),
        Found::File(facts) if facts.length > length => Some(Flaw::Long(facts.length)),
        Found::File(_) => None,
    }
}

/// Judges what was found. With `rules.writable`, an error for what would be in the way of writing.
pub fn judge(
    layout: &Arc<Layout>,
    found: &[Found],
    record: Option<Record<'static>>,
    rules: SurveyRules,
) -> Result<Survey, StorageError> {
    if rules.writable {
        refuse_what_is_in_the_way(layout, found, rules.overwrite)?;
    }
    let mut standing = SortedPieces::new(layout, found, record.as_ref(), rules.check);
    standing.sort(layout, found);
    let claim = record.map(|record| record.claim);
    let mut survey = Survey {
        trusted: standing.trusted,
        unsure: standing.unsure,
        laid: Vec::new(),
        downloaded: 0,
        uploaded: 0,
        foreign: claim.is_none() && standing.data,
        warnings: Vec::new(),
        layout: layout.clone(),
    };
    if let Some(claim) = claim {
        (survey.downloaded, survey.uploaded) = (claim.downloaded, claim.uploaded);
        for laid in claim.laid {
            let piece = laid.piece();
            if standing.absent.has(piece) || standing.doubted.has(piece) {
                continue;
            }
            if claim.clean && !laid.is_full() && !rules.check {
                // Nothing was written after this list, so hashing would tell nothing new.
                survey.unsure.clear(piece);
            }
            survey.laid.push(laid);
        }
    }
    Ok(survey)
}

fn refuse_what_is_in_the_way(
    layout: &Layout,
    found: &[Found],
    overwrite: bool,
) -> Result<(), StorageError> {
    let mut folders: HashSet<&Path> = HashSet::new();
    for (number, (file, found)) in layout.files().iter().zip(found).enumerate() {
        if file.padding || !layout.is_wanted(number) {
            continue;
        }
        if file
            .path
            .parent()
            .is_some_and(|parent| folders.insert(parent))
        {
            way_is_plain(layout.folder(), &file.path)?;
        }
        match flaw(found, file.length) {
            Some(Flaw::NotAFile(what)) => return Err(in_the_way("use", &file.path, what)),
            Some(Flaw::Long(length)) if !overwrite => {
                let cause = format!("it has {length} bytes and should have {}", file.length);
                return Err(in_the_way("use", &file.path, &cause));
            }
            Some(Flaw::Unreadable(error)) => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The pieces, sorted by what is known of them.
struct SortedPieces {
    /// Bytes of theirs are not there at all.
    absent: Bitfield,
    /// A file of theirs is not the one the record knows.
    doubted: Bitfield,
    trusted: Bitfield,
    unsure: Bitfield,
    /// There is any data at all.
    data: bool,
}

impl SortedPieces {
    fn new(layout: &Layout, found: &[Found], record: Option<&Record>, check: bool) -> SortedPieces {
        let geometry = layout.geometry();
        let mut standing = SortedPieces {
            absent: Bitfield::new(geometry),
            doubted: Bitfield::new(geometry),
            trusted: Bitfield::new(geometry),
            unsure: Bitfield::new(geometry),
            data: false,
        };
        for (number, found) in found.iter().enumerate() {
            let present = match found {
                Found::Padding => continue,
                Found::File(facts) => facts.length,
                _ => 0,
            };
            for (piece, run) in layout.runs_in(number) {
                if run.offset + run.length > present {
                    standing.absent.set(piece);
                }
            }
            let all = || layout.runs_in(number).map(|(piece, _)| piece);
            let path = &layout.place(number).path;
            if !record.is_some_and(|record| is_same(record, number, path, found, all())) {
                all().for_each(|piece| {
                    standing.doubted.set(piece);
                });
            }
        }
        if let Some(record) = record.filter(|_| !check) {
            for piece in geometry.all_pieces() {
                let known = !standing.absent.has(piece) && !standing.doubted.has(piece);
                if known && record.claim.have.has(piece) {
                    standing.trusted.set(piece);
                }
            }
        }
        standing
    }

    /// Sorts the pieces that are not trusted and not absent: those with data must be hashed; those that
    /// lie in holes altogether are zeros, and whether that is right needs no reading.
    fn sort(&mut self, layout: &Layout, found: &[Found]) {
        let geometry = layout.geometry();
        let mut with_data = Bitfield::new(geometry);
        for (number, found) in found.iter().enumerate() {
            let Found::File(facts) = found else { continue };
            let open = facts.length > 0
                && layout
                    .runs_in(number)
                    .any(|(piece, _)| !self.trusted.has(piece));
            // What is in files that nobody asked for is no reason to leave the others alone.
            let counts = number >= layout.files().len() || layout.is_wanted(number);
            if !open {
                self.data |= counts && facts.length > 0;
                continue;
            }
            let path = layout.place(number).path.clone();
            let lazy = LazyFile::new(layout.folder().clone(), path, Access::Read);
            let mut holes = Holes {
                file: lazy.get_once().ok(),
                next_data: 0,
            };
            self.data |= counts && holes.data_from(0) < facts.length;
            for (piece, run) in layout.runs_in(number) {
                if self.trusted.has(piece) || self.absent.has(piece) {
                    continue;
                }
                if holes.data_from(run.offset) < run.offset + run.length {
                    with_data.set(piece);
                }
            }
        }
        let mut zeros = Zeros::default();
        for piece in geometry.all_pieces() {
            if self.trusted.has(piece) || self.absent.has(piece) {
                continue;
            }
            if with_data.has(piece) {
                // Whether the others are good is for a run that wants them.
                if layout.wanted_pieces().has(piece) {
                    self.unsure.set(piece);
                }
            } else if layout.piece_digest(piece) == zeros.digest(geometry.piece_size(piece)) {
                self.trusted.set(piece);
            }
        }
    }
}

/// Whether the file that was found is the one the record knows, with the bytes it knows.
fn is_same(
    record: &Record,
    number: usize,
    path: &Path,
    found: &Found,
    mut pieces: impl Iterator<Item = PieceIndex>,
) -> bool {
    let then = match (record.files.get(number), &record.part) {
        (Some(facts), _) => *facts,
        (None, part) => part.as_ref().and_then(|part| part.facts),
    };
    let (Found::File(now), Some(then)) = (found, then) else {
        return false;
    };
    if now.length != then.length {
        return false;
    }
    // A device may have another number after a restart of the system. Elsewhere a file's number may be given anew each
    // time, and its time of change may be anything.
    let itself = (now.inode, now.changed) == (then.inode, then.changed);
    if now.modified == then.modified && (itself || !is_plain_at(path)) {
        return true;
    }
    // We were killed while we wrote to it: its time moved on, its number did not. A file that was
    // complete was not written to any more; if that has a new time, somebody else was there.
    let ours = (now.device, now.inode) == (then.device, then.inode);
    !record.claim.clean && ours && !pieces.all(|piece| record.claim.have.has(piece))
}

/// Where a file has data, asked of the file system; the rest are holes, or allocated and never written.
struct Holes<'a> {
    file: Option<super::lazy_file::Opened<'a>>,
    next_data: u64,
}

impl Holes<'_> {
    /// The first byte of data at or after `from`, which never decreases between calls. The end of time
    /// if there is none; `from` itself where the file system cannot tell.
    fn data_from(&mut self, from: u64) -> u64 {
        if self.next_data < from || from == 0 {
            let sought = self.file.as_ref().map_or(Ok(from), |file| {
                rustix::fs::seek(&**file, SeekFrom::Data(from))
            });
            self.next_data = match sought {
                Ok(found) => found.max(from),
                Err(Errno::NXIO) => u64::MAX,
                Err(_) => from,
            };
        }
        self.next_data
    }
}

/// The digests of runs of zeros. A torrent has pieces of two lengths at most.
#[derive(Default)]
pub(super) struct Zeros(HashMap<u32, Digest>);

impl Zeros {
    pub(super) fn digest(&mut self, length: u32) -> Digest {
        *self.0.entry(length).or_insert_with(|| {
            let chunk = [0; 4096];
            let mut hasher = Hasher::default();
            for begin in (0..length).step_by(chunk.len()) {
                hasher.update(&chunk[..chunk.len().min((length - begin) as usize)]);
            }
            hasher.finish()
        })
    }
}
