//! Which files of a torrent are wanted, and which pieces these lie in.
//!
//! ```text
//! let wanted = Selection::of(&metainfo, &globs);
//! wanted.is_nothing();                               // no glob fits any file
//! wanted.has(3);                                     // is file 3 wanted?
//! wanted.pieces(&metainfo);                          // a piece with a byte of a wanted file is wanted
//! ```
//!
//! A piece is checked as a whole, so one that a wanted file shares with an unwanted one is wanted
//! (BEP 3 lays the files end to end and cuts without regard to them).

use super::bitfield::Bitfield;
use super::glob::Glob;
use super::metainfo::Metainfo;

/// The wanted files of one torrent, by their number among its files, padding included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    files: Box<[bool]>,
}

impl Selection {
    /// Every file.
    pub fn all(metainfo: &Metainfo) -> Selection {
        Selection {
            files: vec![true; metainfo.files.len()].into(),
        }
    }

    /// The files that any of `globs` fits, or one of the folders they lie in; all files without a glob.
    /// Padding (BEP 47) is never fitted.
    pub fn of(metainfo: &Metainfo, globs: &[Glob]) -> Selection {
        if globs.is_empty() {
            return Selection::all(metainfo);
        }
        let files = metainfo.files.iter().map(|file| {
            let mut globs = globs.iter();
            !file.padding && globs.any(|glob| fits(glob, &file.path))
        });
        Selection {
            files: files.collect(),
        }
    }

    /// Whether no file is wanted.
    pub fn is_nothing(&self) -> bool {
        !self.files.contains(&true)
    }

    /// Whether the file with this number is wanted.
    pub fn has(&self, file: usize) -> bool {
        self.files.get(file).is_some_and(|wanted| *wanted)
    }

    /// Whether every file of `metainfo` is wanted that can ever be on disk.
    pub fn is_all(&self, metainfo: &Metainfo) -> bool {
        let mut files = self.files.iter().zip(&metainfo.files);
        files.all(|(wanted, file)| *wanted || file.padding)
    }

    /// The pieces that hold a byte of a wanted file.
    pub fn pieces(&self, metainfo: &Metainfo) -> Bitfield {
        let geometry = &metainfo.geometry;
        if self.is_all(metainfo) {
            // Pieces of nothing but padding too: otherwise there would be no seed of the whole.
            return Bitfield::full(geometry);
        }
        let mut pieces = Bitfield::new(geometry);
        for (number, (start, file)) in metainfo.files_with_starts().enumerate() {
            if self.has(number) && !file.padding {
                for piece in geometry.pieces_under(start, file.length) {
                    pieces.set(piece);
                }
            }
        }
        pieces
    }
}

/// Whether the glob fits a path or one of the folders on its way.
fn fits(glob: &Glob, path: &str) -> bool {
    let folders = path.match_indices('/').map(|(end, _)| &path[..end]);
    folders.chain([path]).any(|part| glob.matches(part))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::protocol::metainfo::{Draft, FileEntry};
    use crate::protocol::{Digest, Geometry};

    fn torrent(files: &[(&str, u64)]) -> Metainfo {
        let entries = files.iter().map(|(path, length)| match *path {
            "" => FileEntry::padding(*length),
            path => FileEntry::plain(path, *length),
        });
        let total = files.iter().map(|(_, length)| length).sum();
        let geometry = Geometry::new(total, 16_384).unwrap();
        let draft = Draft {
            name: "it".into(),
            piece_length: 16_384,
            single_file: false,
            files: entries.collect(),
            piece_digests: vec![Digest::of(b""); geometry.pieces() as usize],
            ..Draft::default()
        };
        Metainfo::from_bytes(&draft.compose()).unwrap()
    }

    fn of(metainfo: &Metainfo, globs: &[&str]) -> Vec<usize> {
        let globs: Vec<_> = globs.iter().map(|it| Glob::new(it).unwrap()).collect();
        let selection = Selection::of(metainfo, &globs);
        let numbers = 0..metainfo.files.len();
        numbers.filter(|number| selection.has(*number)).collect()
    }

    #[test]
    fn a_glob_fits_names_paths_and_whole_folders() {
        let it = torrent(&[("a.iso", 5), ("disc/b.iso", 5), ("disc/deep/c.txt", 5)]);
        assert_eq!(of(&it, &["*.iso"]), [0, 1]);
        assert_eq!(of(&it, &["/*.iso"]), [0]);
        assert_eq!(of(&it, &["disc"]), [1, 2]);
        assert_eq!(of(&it, &["disc/deep/"]), [2]);
        assert_eq!(of(&it, &["a.iso", "c.txt"]), [0, 2]);
        assert_eq!(of(&it, &[]), [0, 1, 2]);
    }

    #[test]
    fn padding_is_never_fitted_and_never_missed() {
        let it = torrent(&[("a.iso", 5), ("", 16_379), ("b.iso", 5)]);
        assert!(Selection::of(&it, &[Glob::new(".pad").unwrap()]).is_nothing());
        assert_eq!(of(&it, &["*"]), [0, 2]);
        let all = Selection::of(&it, &[Glob::new("*").unwrap()]);
        assert!(all.is_all(&it) && all.pieces(&it).is_full());
    }

    #[test]
    fn a_piece_with_one_byte_of_a_wanted_file_is_wanted() {
        let it = torrent(&[("a", 16_385), ("b", 16_384), ("empty", 0), ("c", 16_383)]);
        let pieces = |glob: &str| {
            let globs = [Glob::new(glob).unwrap()];
            let pieces = Selection::of(&it, &globs).pieces(&it);
            let pieces = pieces.pieces(&it.geometry);
            pieces.map(|piece| piece.get()).collect::<Vec<_>>()
        };
        assert_eq!(pieces("a"), [0, 1]);
        assert_eq!(pieces("b"), [1, 2]);
        assert_eq!(pieces("c"), [2]);
        assert_eq!(pieces("empty"), [0u32; 0]);
    }
}
