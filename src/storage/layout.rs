//! Which file holds which byte of a torrent.
//!
//! ```text
//! let layout = Arc::new(Layout::new(&metainfo, folder));      // facts; where they change, there is a new one
//! for run in layout.runs(start, length) { ... }               // which files, from which byte on
//! let places = open_files.places(&layout, block, Access::Write);  // the same, ready to be used
//! ```
//!
//! All files laid end to end make the torrent's run of bytes (BEP 3); padding files (BEP 47) count in
//! it and are never on disk. Where not all files are wanted, bytes of the others that share a piece with
//! a wanted one lie in the part file, which counts as one more file behind the torrent's ([`PartFile`]).

use super::hashed::{Hashed, HashedFile};
use super::lazy_file::{Access, LazyFile, Seen};
use super::part::PartFile;
use super::raw_paths::RawPaths;
use super::record;
use crate::protocol::bitfield::Bitfield;
use crate::protocol::metainfo::Metainfo;
use crate::protocol::selection::Selection;
use crate::protocol::{Block, Digest, Geometry, InfoHash, PieceIndex};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The facts about one torrent's files in one folder.
#[derive(Debug, Clone)]
pub struct Layout {
    info_hash: InfoHash,
    geometry: Geometry,
    piece_digests: Arc<[Digest]>,
    name: String,
    folder: Arc<Path>,
    files: Arc<[LaidFile]>,
    wanted: Arc<Selection>,
    wanted_pieces: Arc<Bitfield>,
    part: Option<PartFile>,
    hashed: Option<Arc<Hashed>>,
    raw_paths: Arc<RawPaths>,
    seen: Option<Arc<[Option<Seen>]>>,
}

/// One file of a [`Layout`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaidFile {
    /// Where it is: below the layout's folder, if nobody said otherwise.
    pub path: PathBuf,
    /// Its first byte, counted from the start of the torrent.
    pub start: u64,
    /// Its length in bytes, as the torrent says.
    pub length: u64,
    /// All zeros and never on disk (BEP 47).
    pub padding: bool,
    /// The author marked it executable (BEP 47).
    pub executable: bool,
}

/// A run of bytes within one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The file's number in the layout; the part file's follows the torrent's files.
    pub file: usize,
    /// The run's first byte, from the start of the file.
    pub offset: u64,
    /// Bytes, at least 1.
    pub length: u64,
}

impl Layout {
    /// The files of `metainfo` below `folder`, all of them wanted. Nothing is touched on disk.
    pub fn new(metainfo: &Metainfo, folder: &Path) -> Layout {
        Layout::of(metainfo, folder, Selection::all(metainfo))
    }

    /// The files of `metainfo` below `folder`, of which these are `wanted`. Every byte has its place in
    /// its own file yet: see [`Layout::as_recorded`] and [`Layout::at_work`].
    pub fn of(metainfo: &Metainfo, folder: &Path, wanted: Selection) -> Layout {
        let folder = if folder.as_os_str().is_empty() {
            Path::new(".")
        } else {
            folder
        };
        let files = metainfo.files_with_starts().map(|(start, entry)| LaidFile {
            path: folder.join(metainfo.disk_path(entry)),
            start,
            length: entry.length,
            padding: entry.padding,
            executable: entry.executable,
        });
        Layout {
            info_hash: metainfo.info_hash,
            geometry: metainfo.geometry,
            piece_digests: metainfo.piece_digests.clone(),
            name: metainfo.name.clone(),
            files: files.collect(),
            wanted_pieces: Arc::new(wanted.pieces(metainfo)),
            wanted: Arc::new(wanted),
            folder: folder.into(),
            part: None,
            hashed: None,
            raw_paths: Arc::default(),
            seen: None,
        }
    }

    /// The same torrent in the files that its author has just hashed, wherever they are. They are for
    /// reading alone.
    pub fn of_hashed(self, hashed: Arc<Hashed>) -> Layout {
        if hashed.0.len() != self.files.len() {
            return self;
        }
        let at = |(file, hashed): (&LaidFile, &HashedFile)| LaidFile {
            path: hashed.path.clone(),
            ..file.clone()
        };
        Layout {
            files: self.files.iter().zip(&hashed.0).map(at).collect(),
            hashed: Some(hashed),
            ..self
        }
    }

    /// The same for reading alone, with the names that the torrent's author may have given the files. See
    /// [`Layout::as_found`].
    pub fn with_raw_paths(self, metainfo: &Metainfo) -> Layout {
        let raw_paths = RawPaths::of(metainfo, &self.folder, &self.files);
        Layout {
            raw_paths: Arc::new(raw_paths),
            ..self
        }
    }

    /// The same where files that are not at their own paths, but at their raw ones, are read there.
    pub fn as_found(&self) -> Layout {
        let mut layout = self.clone();
        for (number, path) in self.raw_paths.in_use(&self.files) {
            layout.lies_at(number, path);
        }
        layout
    }

    /// A file is not below the folder but here, for reading alone.
    pub fn lies_at(&mut self, file: usize, path: PathBuf) {
        Arc::make_mut(&mut self.files)[file].path = path;
    }

    /// Files with a time are for reading alone, and only as long as nobody writes to them: their bytes were good
    /// at these times.
    pub fn as_seen(self, seen: impl Iterator<Item = Option<Seen>>) -> Layout {
        Layout {
            seen: Some(seen.collect()),
            ..self
        }
    }

    /// The place with this path, if it is read as long as nobody writes to it.
    pub fn watched_at(&self, path: &Path) -> Option<usize> {
        let mut watched = (0..self.places()).filter(|number| self.is_watched(*number));
        watched.find(|number| self.place(*number).path == path)
    }

    /// Whether a place is read as long as nobody writes to it.
    pub fn is_watched(&self, place: usize) -> bool {
        let seen = self.seen.as_ref();
        seen.is_some_and(|seen| seen.get(place).is_some_and(Option::is_some))
    }

    /// A handle to the file that a [`Run`] names. Nothing is opened yet.
    pub fn lazy_file(&self, place: usize, access: Access) -> LazyFile {
        let seen = self.seen.as_ref().and_then(|seen| *seen.get(place)?);
        LazyFile::new(self.folder.clone(), self.place(place).path.clone(), access).as_seen(seen)
    }

    /// How the files were when the torrent was made of them, if that was a moment ago.
    pub fn hashed(&self) -> Option<&Hashed> {
        self.hashed.as_deref()
    }

    /// As an earlier run left it: in `aside`, the bytes of files that are not `open` lie in the part file.
    pub fn as_recorded(&self, open: Box<[bool]>, aside: &Bitfield) -> Layout {
        Layout {
            part: Some(PartFile::new(self, open, aside)),
            ..self.clone()
        }
    }

    /// As it is from here on. Where a wanted piece is missing (`have` lacks it), unwanted files get
    /// their bytes in the part file. Unwanted files that an earlier run wrote to and that are `present` with
    /// their full length stay as they are. Bytes in the part file that belong to a file wanted now must be
    /// moved into it (`move_in`).
    pub fn at_work(&self, present: impl Fn(usize) -> bool, have: &Bitfield) -> Layout {
        let was_open = |file| self.part.as_ref().is_none_or(|part| part.is_open(file));
        let open: Box<[bool]> = (self.files.iter().enumerate())
            .map(|(number, file)| {
                file.padding || self.wanted.has(number) || was_open(number) && present(number)
            })
            .collect();
        if open.iter().all(|open| *open) {
            return Layout {
                part: None,
                ..self.clone()
            };
        }
        let mut aside = Bitfield::new(&self.geometry);
        let closed = self.files.iter().zip(&open).filter(|(_, open)| !**open);
        for (file, _) in closed.filter(|(file, _)| file.length > 0) {
            let last = file.start + file.length - 1;
            for piece in [file.start, last].map(|at| self.geometry.pieces_under(at, 1)) {
                for piece in piece {
                    let was = self.part.as_ref().is_some_and(|it| it.aside().has(piece));
                    if was || self.wanted_pieces.has(piece) && !have.has(piece) {
                        aside.set(piece);
                    }
                }
            }
        }
        Layout {
            part: Some(PartFile::new(self, open, &aside)),
            ..self.clone()
        }
    }

    /// The torrent's name on the network.
    pub fn info_hash(&self) -> InfoHash {
        self.info_hash
    }

    /// How the bytes are cut.
    pub fn geometry(&self) -> &Geometry {
        &self.geometry
    }

    /// The digest that `piece` must have.
    pub fn piece_digest(&self, piece: PieceIndex) -> Digest {
        self.piece_digests[piece.as_usize()]
    }

    /// The name of the torrent's file or folder.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The folder everything lies in.
    pub fn folder(&self) -> &Arc<Path> {
        &self.folder
    }

    /// The files in the order of their bytes, padding included.
    pub fn files(&self) -> &[LaidFile] {
        &self.files
    }

    /// The part file's path, whether there is one or not.
    pub fn part_path(&self) -> PathBuf {
        let mut name = record::file_name(&self.name);
        name.push_str(".part");
        self.folder.join(name)
    }

    /// Whether, and which, bytes lie aside.
    pub fn part(&self) -> Option<&PartFile> {
        self.part.as_ref()
    }

    /// Whether the part file may hold bytes of any piece.
    pub fn keeps_aside(&self) -> bool {
        let part = self.part.as_ref();
        part.is_some_and(|part| !part.aside().is_empty())
    }

    /// How many files bytes can lie in: the torrent's, and the part file if there is one.
    pub fn places(&self) -> usize {
        self.files.len() + usize::from(self.part.is_some())
    }

    /// The file that a [`Run`] names: the part file behind the torrent's.
    pub fn place(&self, number: usize) -> &LaidFile {
        match &self.part {
            Some(part) if number == self.files.len() => part.file(),
            _ => &self.files[number],
        }
    }

    /// Whether the torrent's file with this number is wanted.
    pub fn is_wanted(&self, file: usize) -> bool {
        self.wanted.has(file)
    }

    /// The pieces that hold a byte of a wanted file.
    pub fn wanted_pieces(&self) -> &Bitfield {
        &self.wanted_pieces
    }

    /// The pieces that nothing has to be done for: those in `have`, and all that are not wanted.
    pub fn settled(&self, have: &Bitfield) -> Bitfield {
        let mut settled = have.clone();
        let pieces = self.geometry.all_pieces();
        for piece in pieces.filter(|piece| !self.wanted_pieces.has(*piece)) {
            settled.set(piece);
        }
        settled
    }

    /// Bytes of the wanted pieces: what has to be fetched to have the wanted files.
    pub fn wanted_bytes(&self) -> u64 {
        let last = self.geometry.last_piece();
        let cut = last.is_some_and(|last| self.wanted_pieces.has(last));
        self.geometry.size_of(self.wanted_pieces.count(), cut)
    }

    /// Whether bytes of wanted files lie in the part file.
    pub fn brings_in(&self) -> bool {
        let Some(part) = &self.part else { return false };
        let mut files = 0..self.files.len();
        files.any(|file| {
            let ours = self.is_wanted(file) && !part.is_open(file);
            ours && (self.pieces_of(file, 0..u64::MAX)).any(|piece| part.takes(file, piece))
        })
    }

    /// Bytes in all, padding included.
    pub fn total(&self) -> u64 {
        self.files.last().map_or(0, |last| last.start + last.length)
    }

    /// The torrent's files under `length` bytes from `start` on, in order, wherever their bytes lie. Files
    /// without bytes never appear; bytes past the end of the torrent are left out.
    pub fn runs(&self, start: u64, length: u64) -> impl Iterator<Item = Run> + '_ {
        let end = start.saturating_add(length);
        // Ends never decrease, so the first file that ends after `start` holds its byte, and files
        // without bytes before it are passed over.
        let first = self
            .files
            .partition_point(|file| file.start + file.length <= start);
        let under = self.files[first..].iter().enumerate();
        under
            .take_while(move |(_, file)| file.start < end)
            .filter(|(_, file)| file.length > 0)
            .map(move |(number, file)| {
                let from = start.max(file.start);
                Run {
                    file: first + number,
                    offset: from - file.start,
                    length: end.min(file.start + file.length) - from,
                }
            })
    }

    /// Where a block lies, in order.
    pub fn runs_of(&self, block: Block) -> impl Iterator<Item = Run> + '_ {
        let start = self.geometry.block_start(block);
        let runs = self.runs(start, u64::from(block.length()));
        runs.map(move |run| self.lying(block.piece(), run))
    }

    /// Where a piece lies, in order.
    pub fn runs_of_piece(&self, piece: PieceIndex) -> impl Iterator<Item = Run> + '_ {
        let start = self.geometry.piece_start(piece);
        let runs = self.runs(start, u64::from(self.geometry.piece_size(piece)));
        runs.map(move |run| self.lying(piece, run))
    }

    /// Where a run of a torrent's file lies, which is within `piece`.
    fn lying(&self, piece: PieceIndex, run: Run) -> Run {
        match &self.part {
            Some(part) if part.takes(run.file, piece) => Run {
                file: self.files.len(),
                offset: part.offset(&self.files[run.file], run, &self.geometry),
                length: run.length,
            },
            _ => run,
        }
    }

    /// Everything that lies in one place (see [`Layout::place`]), piece by piece, in order.
    pub fn runs_in(&self, place: usize) -> Box<dyn Iterator<Item = (PieceIndex, Run)> + '_> {
        let file = match (self.files.get(place), &self.part) {
            (Some(file), _) => file,
            (None, None) => return Box::new(std::iter::empty()),
            (None, Some(part)) => {
                let inside = move |piece| {
                    let runs = self.runs_of_piece(piece).map(move |run| (piece, run));
                    runs.filter(move |(_, run)| run.file == place)
                };
                let pieces = part.aside().pieces(&self.geometry);
                return Box::new(pieces.flat_map(inside));
            }
        };
        let run = move |piece| {
            let start = self.geometry.piece_start(piece);
            let end = start + u64::from(self.geometry.piece_size(piece));
            let from = start.max(file.start);
            let run = Run {
                file: place,
                offset: from - file.start,
                length: end.min(file.start + file.length) - from,
            };
            (piece, run)
        };
        let aside = move |piece: &PieceIndex| {
            let part = self.part.as_ref();
            part.is_some_and(|part| part.takes(place, *piece))
        };
        let pieces = self.geometry.pieces_under(file.start, file.length);
        Box::new(pieces.filter(move |piece| !aside(piece)).map(run))
    }

    /// The numbers of the places on disk that a block touches: what a sync after it must cover.
    pub fn files_of(&self, block: Block) -> impl Iterator<Item = usize> + '_ {
        let on_disk = |run: &Run| !self.place(run.file).padding;
        self.runs_of(block).filter(on_disk).map(|run| run.file)
    }

    /// The pieces that hold bytes `within` the torrent's file (from its own start), in order, wherever
    /// these lie.
    pub fn pieces_of(
        &self,
        file: usize,
        within: Range<u64>,
    ) -> impl Iterator<Item = PieceIndex> + use<> {
        let LaidFile { start, length, .. } = self.files[file];
        let end = within.end.min(length);
        let length = end.saturating_sub(within.start);
        self.geometry
            .pieces_under(start + within.start.min(end), length)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::storage::test_torrent::Author;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_name_every_byte_once(lengths in proptest::collection::vec(0u64..50, 1..20), start in 0u64..500, length in 0u64..500) {
            let mut author = Author::new("many", 16);
            for (number, length) in lengths.iter().enumerate() {
                author.file(&format!("{number}"), &vec![1; *length as usize]);
            }
            let layout = Layout::new(&author.metainfo(), Path::new("/nowhere"));
            let every: Vec<(usize, u64)> = lengths.iter().enumerate()
                .flat_map(|(file, length)| (0..*length).map(move |offset| (file, offset))).collect();
            let from = (start as usize).min(every.len());
            let to = ((start + length) as usize).min(every.len());
            let named: Vec<_> = layout.runs(start, length)
                .flat_map(|run| (run.offset..run.offset + run.length).map(move |offset| (run.file, offset))).collect();
            prop_assert_eq!(&named[..], &every[from..to]);
            for (file, length) in lengths.iter().enumerate() {
                for piece in layout.pieces_of(file, 0..*length) {
                    prop_assert!(layout.runs_of_piece(piece).any(|run| run.file == file));
                }
            }
            for piece in layout.geometry().all_pieces() {
                for run in layout.runs_of_piece(piece) {
                    let mut pieces = layout.pieces_of(run.file, 0..u64::MAX);
                    prop_assert!(pieces.any(|other| other == piece));
                }
            }
        }
    }
}
