//! The files that are kept open: a pool with a cap, closed by least use.
//!
//! ```text
//! let mut open_files = OpenFiles::new(32);
//! let places = open_files.places(&layout, block, Access::Read);   // opens nothing yet
//! let whole = open_files.piece(&layout, piece, Access::Read);
//! ```
//!
//! The coordinator owns the pool; the handles it gives are opened by whoever uses them. A handle that
//! was thrown out of the pool stays usable and is closed by the last one who holds it, so the number
//! of open files is the cap and a few a thread that is at work on an older handle.

use super::layout::{Layout, Run};
use super::lazy_file::{Access, LazyFile};
use super::places::{Place, Places};
use crate::protocol::{Block, InfoHash, PieceIndex};
use std::sync::Arc;

type FileKey = (InfoHash, usize);

/// Files of fewer pieces than this are not kept open between checks.
const PIECES_MIN: u64 = 8;

/// Handles to the files used lately, of all torrents.
#[derive(Debug)]
pub struct OpenFiles {
    capacity: usize,
    /// The one used last stands last. A few dozen: looking through them costs less than a map.
    handles: Vec<(FileKey, Arc<LazyFile>)>,
}

impl OpenFiles {
    /// An empty pool that keeps up to `capacity` files (at least 1).
    pub fn new(capacity: usize) -> OpenFiles {
        OpenFiles {
            capacity: capacity.max(1),
            handles: Vec::new(),
        }
    }

    /// Where `block` lies, in order.
    pub fn places(&mut self, layout: &Layout, block: Block, access: Access) -> Places {
        let keep = self.keeps(&mut layout.runs_of(block));
        self.at_hand(layout, &mut layout.runs_of(block), access, keep, 0)
    }

    /// Where all of `piece` lies, in order. A file of few pieces gets a handle of its own: checks wait in
    /// a queue, and a hundred pieces that wait must not keep a hundred files open.
    pub fn piece(&mut self, layout: &Layout, piece: PieceIndex, access: Access) -> Places {
        let long = u64::from(layout.geometry().piece_length()) * PIECES_MIN;
        let keep = self.keeps(&mut layout.runs_of_piece(piece));
        self.at_hand(layout, &mut layout.runs_of_piece(piece), access, keep, long)
    }

    /// Lets go of all files of a torrent: it has ended, or its files were replaced.
    pub fn forget(&mut self, info_hash: InfoHash) {
        self.handles.retain(|(key, _)| key.0 != info_hash);
    }

    /// Whether the files of these runs stay at hand: a piece over a thousand would throw everything else out and
    /// be of no use itself.
    fn keeps(&self, runs: &mut dyn Iterator<Item = Run>) -> bool {
        runs.nth(self.capacity.div_ceil(2)).is_none()
    }

    /// Places for `runs`; files shorter than `length_min` get handles that nobody else has.
    fn at_hand(
        &mut self,
        layout: &Layout,
        runs: &mut dyn Iterator<Item = Run>,
        access: Access,
        keep: bool,
        length_min: u64,
    ) -> Places {
        let place = |run: Run| {
            let length = run.length as u32; // a run lies within a piece, whose size is a u32
            let file = layout.place(run.file);
            if file.padding {
                return Place::Padding { length };
            }
            Place::File {
                file: if file.length >= length_min {
                    self.handle(layout, run.file, access, keep)
                } else {
                    anew(layout, run.file, access)
                },
                offset: run.offset,
                length,
            }
        };
        runs.map(place).collect()
    }

    fn handle(
        &mut self,
        layout: &Layout,
        file: usize,
        access: Access,
        keep: bool,
    ) -> Arc<LazyFile> {
        let key = (layout.info_hash(), file);
        let known = self.handles.iter().position(|(other, _)| *other == key);
        if let Some(at) = known {
            let used = self.handles.remove(at);
            // A handle for writing serves readers too. One that failed gets another chance.
            if used.1.access() >= access && !used.1.has_failed() {
                let handle = used.1.clone();
                self.handles.push(used);
                return handle;
            }
            if !keep {
                self.handles.push(used);
            }
        }
        let handle = anew(layout, file, access);
        if keep {
            if self.handles.len() >= self.capacity {
                self.handles.remove(0);
            }
            self.handles.push((key, handle.clone()));
        }
        handle
    }
}

fn anew(layout: &Layout, file: usize, access: Access) -> Arc<LazyFile> {
    Arc::new(layout.lazy_file(file, access))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::storage::test_torrent::Author;
    use std::path::Path;

    fn layout(files: usize) -> Layout {
        let mut author = Author::new("many", 16);
        for number in 0..files {
            author.file(&format!("{number}"), &[7; 16]);
        }
        Layout::new(&author.metainfo(), Path::new("/nowhere"))
    }

    fn only_file(places: Places) -> Arc<LazyFile> {
        match &places[..] {
            [Place::File { file, .. }] => file.clone(),
            other => panic!("not one file: {other:?}"),
        }
    }

    #[test]
    fn the_least_used_file_leaves_the_pool() {
        let layout = layout(3);
        let mut pool = OpenFiles::new(2);
        let pieces: Vec<_> = layout.geometry().all_pieces().collect();
        let mut of = |number: usize| {
            let block = layout.geometry().block(pieces[number], 0).unwrap();
            only_file(pool.places(&layout, block, Access::Read))
        };
        let (zero, one) = (of(0), of(1));
        assert!(Arc::ptr_eq(&zero, &of(0)));
        of(2);
        assert!(Arc::ptr_eq(&zero, &of(0)), "used after 1 was");
        assert!(!Arc::ptr_eq(&one, &of(1)), "thrown out for 2");
    }

    #[test]
    fn a_file_open_for_writing_serves_readers_and_not_the_other_way_round() {
        let layout = layout(1);
        let geometry = layout.geometry();
        let block = geometry.block(geometry.piece(0).unwrap(), 0).unwrap();
        let mut pool = OpenFiles::new(2);
        let read = only_file(pool.places(&layout, block, Access::Read));
        let write = only_file(pool.places(&layout, block, Access::Write));
        let again = only_file(pool.places(&layout, block, Access::Read));
        assert!(!Arc::ptr_eq(&read, &write) && Arc::ptr_eq(&write, &again));
        pool.forget(layout.info_hash());
        assert!(!Arc::ptr_eq(
            &write,
            &only_file(pool.places(&layout, block, Access::Read))
        ));
    }

    #[test]
    fn checks_that_wait_keep_no_short_files_open() {
        let mut author = Author::new("two", 16);
        author.file("short", &[1; 16]);
        author.file("long", &[2; 16 * 8]);
        let layout = Layout::new(&author.metainfo(), Path::new("/nowhere"));
        let pieces: Vec<_> = layout.geometry().all_pieces().collect();
        let mut pool = OpenFiles::new(8);
        let mut of = |number: usize| only_file(pool.piece(&layout, pieces[number], Access::Read));
        assert!(!Arc::ptr_eq(&of(0), &of(0)));
        assert!(Arc::ptr_eq(&of(1), &of(2)));
    }

    #[test]
    fn a_piece_over_more_files_than_the_pool_holds_leaves_it_alone() {
        let mut author = Author::new("many", 1 << 14);
        author.file("big", &[1; 1 << 14]);
        for number in 0..1000 {
            author.file(&format!("{number}"), &[7; 16]);
        }
        let layout = Layout::new(&author.metainfo(), Path::new("/nowhere"));
        let geometry = layout.geometry();
        let blocks: Vec<_> = geometry
            .all_pieces()
            .flat_map(|piece| geometry.blocks(piece))
            .collect();
        let mut pool = OpenFiles::new(8);
        let big = only_file(pool.places(&layout, blocks[0], Access::Read));
        assert_eq!(pool.places(&layout, blocks[1], Access::Read).len(), 1000);
        assert!(Arc::ptr_eq(
            &big,
            &only_file(pool.places(&layout, blocks[0], Access::Read))
        ));
    }
}
