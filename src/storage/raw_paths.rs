//! Where a torrent's author has its files: under the names as they stand in the torrent, which may be none that we
//! would write (`protocol/filenames`). Who only reads looks there too; who writes never does.
//!
//! ```text
//! let layout = Layout::new(&metainfo, folder).with_raw_paths(&metainfo);
//! let layout = layout.as_found();         // looks; some files may lie elsewhere now
//! ```
//!
//! The safe path comes first, and each file is judged by itself. Names that differ in nothing but what is made safe
//! need more: of `a\b` and `a_b`, `get` writes `a_b` and `a_b.1`. So `a_b` is the first one's where `a\b` is missing,
//! and the second one's where it is not.
//!
//! Who got some folders or files from one and some from the other, or renamed one, has paths of which some names are
//! raw and others safe. Such a path counts where a file is at neither of its own, and no other file could be meant.

use super::layout::LaidFile;
use crate::protocol::metainfo::{FileEntry, Metainfo};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The files of a torrent that its author has under other paths than those we would write, by their numbers.
#[derive(Debug, Default)]
pub(super) struct RawPaths(BTreeMap<usize, RawPath>);

#[derive(Debug)]
struct RawPath {
    path: PathBuf,
    /// The file that has this path where we wrote. It comes before this one: that is why this one got another name.
    rival: Option<usize>,
    /// The file's own safe path is the raw one of another.
    contested: bool,
}

impl RawPaths {
    /// Those of `metainfo`, whose `files` are laid below `folder`. Nothing is touched on disk.
    pub(super) fn of(metainfo: &Metainfo, folder: &Path, files: &[LaidFile]) -> RawPaths {
        let raw = |entry: &FileEntry| {
            let path = metainfo.raw_disk_path(entry)?;
            Some(RawPath {
                path: folder.join(OsStr::from_bytes(&path)),
                rival: None,
                contested: false,
            })
        };
        let entries = metainfo.files.iter().enumerate();
        let entries = entries.filter(|(_, entry)| !entry.padding);
        let mut raw_paths: BTreeMap<usize, RawPath> = entries
            .filter_map(|(number, entry)| Some((number, raw(entry)?)))
            .collect();
        if raw_paths.is_empty() {
            return RawPaths::default();
        }
        let on_disk = files.iter().enumerate().filter(|(_, file)| !file.padding);
        let safe: HashMap<&Path, usize> = on_disk
            .map(|(number, file)| (file.path.as_path(), number))
            .collect();
        let mut contested = Vec::new();
        for raw in raw_paths.values_mut() {
            raw.rival = safe.get(raw.path.as_path()).copied();
            contested.extend(raw.rival);
        }
        for number in contested {
            if let Some(raw) = raw_paths.get_mut(&number) {
                raw.contested = true;
            }
        }
        RawPaths(raw_paths)
    }

    /// Which of `files` are at their raw paths, and these. Looks at both paths of each.
    pub(super) fn in_use(&self, files: &[LaidFile]) -> Vec<(usize, PathBuf)> {
        let mut in_use: Vec<(usize, PathBuf)> = Vec::new();
        let mut missing = Vec::new();
        for (&number, raw) in &self.0 {
            let sought = raw.contested || !is_there(&files[number].path);
            // What is there may be the other file, unless that is at its own raw path.
            let free = raw.rival.is_none_or(|rival| {
                let known = in_use.binary_search_by_key(&rival, |(number, _)| *number);
                known.is_ok()
            });
            if sought && free && is_there(&raw.path) {
                in_use.push((number, raw.path.clone()));
            } else if !raw.contested && raw.rival.is_none() && sought {
                missing.push((number, &raw.path));
            }
        }
        let mixed: Vec<_> = missing
            .into_iter()
            .map(|(number, raw)| (number, mixtures(&files[number].path, raw)))
            .collect();
        let ambiguous = self.ambiguous(files, &mixed);
        for (number, paths) in mixed {
            let mut there = paths
                .into_iter()
                .filter(|path| !ambiguous.contains(path) && is_there(path));
            if let (Some(path), None) = (there.next(), there.next()) {
                in_use.push((number, path));
            }
        }
        in_use
    }

    /// Those of the `mixed` paths that other files may have as well.
    fn ambiguous(&self, files: &[LaidFile], mixed: &[(usize, Vec<PathBuf>)]) -> HashSet<PathBuf> {
        if mixed.iter().all(|(_, paths)| paths.is_empty()) {
            return HashSet::new();
        }
        let safe = files.iter().map(|file| file.path.as_path());
        let raw = self.0.values().map(|raw| raw.path.as_path());
        let mut taken: HashSet<&Path> = safe.chain(raw).collect();
        let mixed = mixed.iter().flat_map(|(_, paths)| paths);
        let twice = mixed.filter(|path| !taken.insert(path.as_path()));
        twice.cloned().collect()
    }
}

/// Names of a path that may be raw or safe, each by itself: so many, or the paths would be too many.
const MIXED_MAX: usize = 3;

/// The paths between `safe` and `raw`: some names of the one, some of the other.
fn mixtures(safe: &Path, raw: &Path) -> Vec<PathBuf> {
    let (safe, raw): (Vec<_>, Vec<_>) = (safe.iter().collect(), raw.iter().collect());
    let differ: Vec<usize> = (0..safe.len().min(raw.len()))
        .filter(|at| safe[*at] != raw[*at])
        .collect();
    if safe.len() != raw.len() || differ.len() > MIXED_MAX {
        return Vec::new();
    }
    // All safe and all raw are no mixtures.
    let choices = 1..(1usize << differ.len()).saturating_sub(1);
    let mixture = |choice: usize| {
        let mut names = safe.clone();
        for (bit, at) in differ.iter().enumerate() {
            if choice & (1 << bit) != 0 {
                names[*at] = raw[*at];
            }
        }
        names.iter().collect()
    };
    choices.map(mixture).collect()
}

/// Whether there is something to read, were it behind a link.
fn is_there(path: &Path) -> bool {
    let found = path.symlink_metadata();
    found.is_ok_and(|found| found.is_file() || found.is_symlink())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use crate::protocol::Digest;
    use crate::protocol::metainfo::{Draft, FileEntry, Metainfo};
    use crate::storage::layout::Layout;
    use std::path::Path;

    /// A folder of these files, of a byte each.
    fn torrent(name: &str, paths: &[&str]) -> Metainfo {
        let draft = Draft {
            name: name.into(),
            piece_length: 16_384,
            single_file: false,
            files: paths.iter().map(|path| FileEntry::plain(path, 1)).collect(),
            piece_digests: vec![Digest::of(b"")],
            ..Draft::default()
        };
        Metainfo::from_bytes(&draft.compose()).unwrap()
    }

    fn laid_out(metainfo: &Metainfo, folder: &Path) -> Layout {
        Layout::new(metainfo, folder).with_raw_paths(metainfo)
    }

    fn write_all(folder: &Path, paths: &[&str]) {
        for path in paths {
            let path = folder.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, b"").unwrap();
        }
    }

    /// Where the files are read, if these are `there`.
    fn read_from(metainfo: &Metainfo, there: &[&str]) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), there);
        let layout = laid_out(metainfo, folder.path()).as_found();
        let below = |path: &Path| path.strip_prefix(folder.path()).unwrap().to_owned();
        let files = layout.files().iter().map(|file| below(&file.path));
        files.map(|path| path.to_str().unwrap().into()).collect()
    }

    #[test]
    fn the_safe_path_comes_first_and_the_raw_one_next() {
        let metainfo = torrent("t\\t", &["a\\b", "c\nc/plain"]);
        let (safe, raw) = (
            ["t_t/a_b", "t_t/c_c/plain"],
            ["t\\t/a\\b", "t\\t/c\nc/plain"],
        );
        assert_eq!(read_from(&metainfo, &raw), raw);
        assert_eq!(read_from(&metainfo, &safe), safe);
        assert_eq!(read_from(&metainfo, &[raw, safe].concat()), safe);
        assert_eq!(read_from(&metainfo, &[]), safe);
        assert_eq!(read_from(&metainfo, &[raw[0], safe[1]]), [raw[0], safe[1]]);
        // Who writes has safe names alone.
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &raw);
        let layout = Layout::new(&metainfo, folder.path());
        assert_eq!(layout.as_found().files(), layout.files());
        // What is there is no file.
        assert_eq!(
            read_from(&metainfo, &["t\\t/a\\b/x", raw[1]]),
            [safe[0], raw[1]]
        );
        let in_the_way = ["t_t/a_b/x", "t_t/c_c"];
        assert_eq!(read_from(&metainfo, &[&in_the_way[..], &raw].concat()), raw);
    }

    #[test]
    fn names_that_differ_by_what_is_made_safe_are_told_apart() {
        for (raw, safe) in [
            (["t/a\\b", "t/a_b"], ["t/a_b", "t/a_b.1"]),
            (["t/a_b", "t/a\\b"], ["t/a_b", "t/a_b.1"]),
            (["t/a\\b/x", "t/a_b/x"], ["t/a_b/x", "t/a_b/x.1"]),
            (["t/a\\b/x", "t/a_b"], ["t/a_b/x", "t/a_b.1"]),
        ] {
            let names = raw.map(|path| path.strip_prefix("t/").unwrap());
            let metainfo = torrent("t", &names);
            assert_eq!(read_from(&metainfo, &raw), raw);
            assert_eq!(read_from(&metainfo, &safe), safe);
            for (only, path) in safe.iter().enumerate() {
                assert_eq!(read_from(&metainfo, &[path]), safe, "{only}");
            }
        }
        // The third one's name is what the second one gets where the first one has its name.
        let raw = ["t/a\\b", "t/a_b", "t/a_b.1"];
        let safe = ["t/a_b", "t/a_b.1", "t/a_b.1.1"];
        let metainfo = torrent("t", &["a\\b", "a_b", "a_b.1"]);
        assert_eq!(read_from(&metainfo, &raw), raw);
        assert_eq!(read_from(&metainfo, &safe), safe);
        // One name twice: no author has both.
        let metainfo = torrent("t", &["same", "same"]);
        assert_eq!(read_from(&metainfo, &["t/same"]), ["t/same", "t/same.1"]);
    }

    #[test]
    fn a_file_whose_path_has_names_of_both_kinds_is_found_where_no_other_can_be_meant() {
        let metainfo = torrent("t\\t", &["c\nc/a\\b", "c\nc/plain", "x\\y"]);
        // The folder renamed alone; a file of the author's in a folder that `get` made; and so on.
        for there in [
            ["t_t/c\nc/a\\b", "t_t/c\nc/plain", "t_t/x\\y"],
            ["t\\t/c_c/a_b", "t\\t/c_c/plain", "t\\t/x_y"],
            ["t_t/c_c/a\\b", "t_t/c_c/plain", "t\\t/x_y"],
            ["t\\t/c\nc/a_b", "t\\t/c\nc/plain", "t_t/x_y"],
        ] {
            assert_eq!(read_from(&metainfo, &there), there);
        }
        // Two mixtures are there, and nobody knows which one it is.
        let two = ["t_t/c\nc/a\\b", "t\\t/c_c/a_b"];
        assert_eq!(read_from(&metainfo, &two)[0], "t_t/c_c/a_b");
        // A mixture that may be either file.
        let metainfo = torrent("t", &["c\\c/a\\b", "c\nc/a\\b"]);
        let safe = read_from(&metainfo, &[]);
        assert_eq!(read_from(&metainfo, &["t/c_c/a\\b"]), safe);
    }

    #[test]
    fn a_raw_name_that_leads_elsewhere_is_not_looked_for() {
        let place = tempfile::tempdir().unwrap();
        write_all(place.path(), &["x", "down/x", "down/t/x"]);
        for name in ["..", ".", "", "../down/t"] {
            for path in ["x", "../x", "./x", "../../x"] {
                let metainfo = torrent(name, &[path]);
                let layout = laid_out(&metainfo, &place.path().join("down"));
                assert_eq!(layout.as_found().files(), layout.files(), "{name} {path}");
            }
        }
    }

    #[test]
    fn a_file_behind_a_link_is_there() {
        let metainfo = torrent("t", &["a\\b"]);
        let folder = tempfile::tempdir().unwrap();
        write_all(folder.path(), &["store", "t/x"]);
        let link = folder.path().join("t/a\\b");
        std::os::unix::fs::symlink("../store", &link).unwrap();
        let layout = laid_out(&metainfo, folder.path());
        assert_eq!(layout.as_found().files()[0].path, link);
        std::os::unix::fs::symlink("nowhere", folder.path().join("t/a_b")).unwrap();
        assert_eq!(layout.as_found().files(), layout.files());
    }
}
