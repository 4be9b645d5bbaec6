//! Where a torrent's author has its files: under the names as they stand in the torrent, which may be none that we would
//! write (`protocol/filenames`). Who only reads looks there too; who writes never does.
//!
//! ```text
//! let layout = Layout::new(&metainfo, folder).with_raw_paths(&metainfo);
//! let layout = layout.as_found();         // looks; some files may lie elsewhere now
//! ```
//!
//! The safe path comes first, and each file is judged by itself. Names that differ in nothing but what is made safe need
//! more: of `a\b` and `a_b`, `get` writes `a_b` and `a_b.1`. So `a_b` is the first one's where `a\b` is missing, and the
//! second one's where it is not.

use super::layout::LaidFile;
use crate::protocol::metainfo::{FileEntry, Metainfo};
use std::collections::{BTreeMap, HashMap};
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
    pub(super) fn in_use(&self, files: &[LaidFile]) -> Vec<(usize, &Path)> {
        let mut in_use: Vec<(usize, &Path)> = Vec::new();
        for (&number, raw) in &self.0 {
            let sought = raw.contested || !is_there(&files[number].path);
            // What is there may be the other file, unless that is at its own raw path.
            let free = raw.rival.is_none_or(|rival| {
                let known = in_use.binary_search_by_key(&rival, |(number, _)| *number);
                known.is_ok()
            });
            if sought && free && is_there(&raw.path) {
                in_use.push((number, &raw.path));
            }
        }
        in_use
    }
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
