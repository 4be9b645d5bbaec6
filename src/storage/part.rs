//! The part file: bytes of unwanted files that share a piece with a wanted one.
//!
//! ```text
//! torrent   | a (wanted)      | b (unwanted)          | c (wanted)  |
//! pieces    |       |       |       |       |       |       |       |
//!                       b's head ^^^^             ^^ b's tail
//! part file | head of b | tail of b | head of d | ...
//! ```
//!
//! A piece is asked for, checked and served as a whole (BEP 3), so these bytes must be somewhere; and
//! whoever asked for one file must not find scraps of others beside it. The place of each byte follows
//! from the torrent alone: every file has room for its head (its bytes in its first piece) and its tail
//! (those in its last). So another selection moves nothing within the part file. Room that is not used
//! is a hole.
//!
//! Whether a byte lies here is a question of its file and its piece: the file is not *open*, and the
//! piece is *aside*. A piece that was good before with all its bytes in place is not aside.

use super::layout::{LaidFile, Layout, Run};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::{Geometry, PieceIndex};

/// Which bytes of one torrent lie in its part file, and where.
#[derive(Debug, Clone)]
pub struct PartFile {
    file: LaidFile,
    open: Box<[bool]>,
    aside: Bitfield,
    /// Where each file's head begins; its tail follows.
    starts: Box<[u64]>,
}

impl PartFile {
    /// The part file of a torrent laid out so. Pieces in `aside` are kept only if they touch both an open and a closed
    /// file.
    pub(super) fn new(layout: &Layout, open: Box<[bool]>, aside: &Bitfield) -> PartFile {
        let (files, geometry) = (layout.files(), layout.geometry());
        let mut end = 0;
        let starts = files.iter().map(|file| {
            let start = end;
            if !file.padding {
                let (head, tail) = ends(file, geometry);
                end += head + tail;
            }
            start
        });
        let mut part = PartFile {
            starts: starts.collect(),
            file: LaidFile {
                path: layout.part_path(),
                start: geometry.total(),
                length: 0,
                padding: false,
                executable: false,
            },
            aside: Bitfield::new(geometry),
            open,
        };
        for piece in aside.pieces(geometry) {
            let length = u64::from(geometry.piece_size(piece));
            let runs = || {
                let runs = layout.runs(geometry.piece_start(piece), length);
                runs.filter(|run| !files[run.file].padding)
            };
            let is_open = |run: Run| part.is_open(run.file);
            let mixed = runs().any(is_open) && !runs().all(is_open);
            if !mixed {
                continue;
            }
            part.aside.set(piece);
            for run in runs() {
                if part.takes(run.file, piece) {
                    let end = part.offset(&files[run.file], run, geometry) + run.length;
                    part.file.length = part.file.length.max(end);
                }
            }
        }
        part
    }

    /// The part file itself: its path, and the length that what lies in it takes.
    pub fn file(&self) -> &LaidFile {
        &self.file
    }

    /// Whether all bytes of the torrent's file are in the file itself.
    pub fn is_open(&self, file: usize) -> bool {
        self.open.get(file).is_none_or(|open| *open)
    }

    /// For each of the torrent's files, whether it is open.
    pub fn open(&self) -> &[bool] {
        &self.open
    }

    /// The pieces whose bytes of files that are not open lie in the part file.
    pub fn aside(&self) -> &Bitfield {
        &self.aside
    }

    /// Whether the bytes of the torrent's file within `piece` lie in the part file.
    pub fn takes(&self, file: usize, piece: PieceIndex) -> bool {
        !self.is_open(file) && self.aside.has(piece)
    }

    /// Where a run lies in the part file: of `file`, in its first or its last piece.
    pub(super) fn offset(&self, file: &LaidFile, run: Run, geometry: &Geometry) -> u64 {
        let piece_length = u64::from(geometry.piece_length());
        let piece = (file.start + run.offset) / piece_length;
        let start = self.starts[run.file];
        if piece == file.start / piece_length {
            return start + run.offset;
        }
        let (head, _) = ends(file, geometry);
        start + head + (file.start + run.offset - piece * piece_length)
    }
}

/// Bytes of the file in its first piece, and in its last if that is another one. A piece that is the file's
/// alone never lies aside and counts nothing.
fn ends(file: &LaidFile, geometry: &Geometry) -> (u64, u64) {
    let piece_length = u64::from(geometry.piece_length());
    let end = file.start + file.length;
    let inside = |at: u64| {
        let from = at / piece_length * piece_length;
        let to = (from + piece_length).min(geometry.total());
        let length = to.min(end) - from.max(file.start);
        if length == to - from { 0 } else { length }
    };
    match file.length {
        0 => (0, 0),
        _ if file.start / piece_length == (end - 1) / piece_length => (inside(file.start), 0),
        _ => (inside(file.start), inside(end - 1)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::protocol::bitfield::Bitfield;
    use crate::protocol::selection::Selection;
    use crate::storage::layout::Layout;
    use crate::storage::test_torrent::Author;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::path::Path;

    /// A torrent of files of these lengths; which are padding, and which are wanted.
    fn layout(lengths: &[(u64, bool, bool)]) -> Layout {
        let mut author = Author::new("many", 16);
        for (number, (length, padding, _)) in lengths.iter().enumerate() {
            let bytes = vec![1; *length as usize];
            author.file(&format!("{number}"), &bytes).padding = *padding;
        }
        let metainfo = author.metainfo();
        let globs = lengths.iter().enumerate().filter(|(_, it)| it.2 && !it.1);
        let globs: Vec<_> = globs
            .map(|(number, _)| crate::protocol::glob::Glob::new(&format!("{number}")).unwrap())
            .collect();
        let wanted = Selection::of(&metainfo, &globs);
        Layout::of(&metainfo, Path::new("/nowhere"), wanted)
    }

    proptest! {
        #[test]
        fn every_byte_of_a_wanted_piece_has_a_place_of_its_own_and_no_unwanted_file_is_touched(
            lengths in proptest::collection::vec((0u64..40, proptest::bool::weighted(0.1), any::<bool>()), 1..20),
            present in any::<bool>(),
        ) {
            let plain = layout(&lengths);
            let none = Bitfield::new(plain.geometry());
            let at_work = plain.as_recorded(lengths.iter().map(|_| false).collect(), &none);
            let at_work = at_work.at_work(|_| present, &none);
            let part = plain.files().len();
            let mut taken: BTreeMap<(usize, u64), u32> = BTreeMap::new();
            for piece in plain.wanted_pieces().pieces(plain.geometry()) {
                let lengths = |layout: &Layout| layout.runs_of_piece(piece).map(|run| run.length).collect::<Vec<_>>();
                prop_assert_eq!(lengths(&plain), lengths(&at_work));
                for (logical, run) in plain.runs_of_piece(piece).zip(at_work.runs_of_piece(piece)) {
                    if plain.files()[logical.file].padding || plain.is_wanted(logical.file) {
                        prop_assert_eq!(logical, run);
                    } else {
                        prop_assert_eq!(run.file, part);
                        prop_assert!(run.offset + run.length <= at_work.place(part).length);
                    }
                    for offset in run.offset..run.offset + run.length {
                        prop_assert_eq!(taken.insert((run.file, offset), piece.get()), None);
                    }
                }
            }
            // The same seen from the places.
            for place in 0..at_work.places() {
                let mut last = 0;
                for (piece, run) in at_work.runs_in(place) {
                    prop_assert!(run.offset >= last);
                    last = run.offset + run.length;
                    for offset in run.offset..last {
                        let by = taken.remove(&(place, offset));
                        prop_assert!(by.is_none_or(|by| by == piece.get()));
                    }
                }
            }
            prop_assert!(taken.is_empty());
        }

        #[test]
        fn the_place_of_a_byte_in_the_part_file_does_not_depend_on_the_selection(
            lengths in proptest::collection::vec((0u64..40, any::<bool>(), any::<bool>()), 2..12),
        ) {
            let with = |wanted: fn(&(u64, bool, bool)) -> bool| {
                let lengths: Vec<_> = lengths.iter().map(|it| (it.0, false, wanted(it))).collect();
                let plain = layout(&lengths);
                let none = Bitfield::new(plain.geometry());
                let at_work = plain.as_recorded(lengths.iter().map(|_| false).collect(), &none).at_work(|_| false, &none);
                (plain, at_work)
            };
            let ((plain, one), (_, other)) = (with(|it| it.1), with(|it| it.2));
            for piece in plain.geometry().all_pieces() {
                let part = plain.files().len();
                for (a, b) in one.runs_of_piece(piece).zip(other.runs_of_piece(piece)) {
                    prop_assert!(a.file != part || b.file != part || a == b);
                }
            }
        }
    }

    #[test]
    fn a_wanted_file_between_two_unwanted_ones() {
        let layout = layout(&[(20, false, false), (20, false, true), (20, false, false)]);
        let none = Bitfield::new(layout.geometry());
        let layout = layout.as_recorded([false; 3].into(), &none);
        let layout = layout.at_work(|_| false, &none);
        let part = layout.part().unwrap();
        let pieces: Vec<_> = part.aside().pieces(layout.geometry()).collect();
        // The first file's head is a piece of its own and takes no room, its tail has four bytes. Then comes
        // room for all twenty of the wanted file, and the last one's head.
        assert_eq!(pieces.iter().map(|it| it.get()).collect::<Vec<_>>(), [1, 2]);
        let runs = |n: usize| {
            let runs = layout.runs_of_piece(pieces[n]);
            runs.map(|run| (run.file, run.offset, run.length))
                .collect::<Vec<_>>()
        };
        assert_eq!(runs(0), [(3, 0, 4), (1, 0, 12)]);
        assert_eq!(runs(1), [(1, 12, 8), (3, 24, 8)]);
        assert_eq!(part.file().length, 32);
        assert_eq!(part.file().path, Path::new("/nowhere/.many.ropewalk.part"));
    }
}
