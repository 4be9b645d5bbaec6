//! Names that strangers chose, made safe to write.
//!
//! A .torrent file names a file or a folder, and the files in it as lists of path elements. Any bytes
//! may stand there: `..`, `/etc/passwd`, a kilobyte of nonsense, the same name twice. [`root_name`]
//! turns the torrent's name, [`Names`] its files' paths into ones that stay where they belong:
//!
//! ```
//! use ropewalk::protocol::filenames::{Names, root_name};
//! assert_eq!(root_name(b"../../etc"), ".._.._etc");
//! let mut names = Names::default();
//! assert_eq!(names.place(&[b"disc", b"readme.txt"]).unwrap().path, "disc/readme.txt");
//! assert_eq!(names.place(&[b"disc", b"readme.txt"]).unwrap().path, "disc/readme.1.txt");
//! assert_eq!(names.place(&[b"..", b"disc"]).unwrap().path, "_/disc");
//! ```
//!
//! What is promised of every path: its elements are non-empty UTF-8 of at most 255 bytes without
//! separators, NUL or control characters, none is `.` or `..`, and no two files share one, nor is
//! one a folder of another. The same torrent gives the same names on every run and machine. What is
//! legal on Unix is kept, though another system may not like it: `:`, `?`, a space at the end, names
//! that differ only by case.
//!
//! Who made the torrent has the files under other names, where these were not safe. [`raw_path`] tells under
//! which, for who looks for files that are there already. Nothing is ever made under such a name.

use super::digest::Digest;
use super::plain;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The longest name most file systems take, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// The longest path within a torrent, in bytes. Unix stops at 4,096 with the folder's own path in front.
pub const PATH_BYTES_MAX: usize = 3_072;

/// The most elements a path may have. As many can be nested in a hybrid's file tree too.
pub const PATH_ELEMENTS_MAX: usize = 56;

/// The ending of the files in which ropewalk records its work, `.NAME.ropewalk` beside `NAME`.
const RECORD_ENDING: &str = ".ropewalk";

/// Why a path cannot be made safe.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PathError {
    /// A file without a name.
    #[error("the path is empty")]
    Empty,
    /// More folders in folders than [`PATH_ELEMENTS_MAX`].
    #[error("the path of {0} elements is deeper than the {PATH_ELEMENTS_MAX} that are supported")]
    TooDeep(usize),
    /// More bytes than [`PATH_BYTES_MAX`].
    #[error("the path of {0} bytes is longer than the {PATH_BYTES_MAX} that are supported")]
    TooLong(usize),
}

/// One path element, safe to write. Each offending character becomes `_`; so does each run of bytes
/// that is not UTF-8, and a name that means something to the file system (`.`, `..`, nothing). What is
/// too long is cut and given a short hash of the whole; its extension stays.
pub fn safe_name(raw: &[u8]) -> String {
    let mut name = String::with_capacity(raw.len());
    for chunk in raw.utf8_chunks() {
        let safe = |character| match character {
            '/' | '\\' => '_',
            character if plain::is_control(character) => '_',
            character => character,
        };
        name.extend(chunk.valid().chars().map(safe));
        if !chunk.invalid().is_empty() {
            name.push('_');
        }
    }
    match name.as_str() {
        "" | "." | ".." => "_".to_string(),
        _ if name.len() > NAME_BYTES_MAX => shorten(&name, raw, ""),
        _ => name,
    }
}

/// The name of a torrent's file or folder, safe to write. As [`safe_name`]; also it is never that of a
/// record of ours, so that no torrent can replace what is known about another one.
pub fn root_name(raw: &[u8]) -> String {
    let name = safe_name(raw);
    // Some mounts do not tell capitals apart.
    let is_record = name.starts_with('.') && name.to_ascii_lowercase().contains(RECORD_ENDING);
    if is_record {
        safe_name(format!("_{name}").as_bytes())
    } else {
        name
    }
}

/// The path of these elements as they are, with `/` between them: `None` where a file system has no file of that path,
/// or it is none below the folder from which it is looked for. What it would do to a terminal is no question here.
pub fn raw_path(elements: &[&[u8]]) -> Option<Box<[u8]>> {
    let plain = |raw: &&[u8]| {
        let means_something = matches!(*raw, b"" | b"." | b"..");
        let separates = |byte: &u8| matches!(byte, 0 | b'/');
        !means_something && raw.len() <= NAME_BYTES_MAX && !raw.iter().any(separates)
    };
    let path = elements.join(&b'/');
    let fits = !elements.is_empty() && path.len() <= PATH_BYTES_MAX;
    (fits && elements.iter().all(plain)).then(|| path.into())
}

/// Splits `name.ext` before the dot of its extension, if it has one worth keeping.
fn split_extension(name: &str) -> (&str, &str) {
    const EXTENSION_BYTES_MAX: usize = 16;
    match name.rfind('.') {
        Some(dot) if dot > 0 && name.len() - dot <= EXTENSION_BYTES_MAX => name.split_at(dot),
        _ => (name, ""),
    }
}

/// Cuts `name` so that it fits with a hash of `identity`, with `number` and its extension behind it.
fn shorten(name: &str, identity: &[u8], number: &str) -> String {
    let (stem, extension) = split_extension(name);
    let digest = Digest::of(identity).to_string();
    let ending = format!("~{}{number}{extension}", &digest[..8]);
    let stem = clip(stem, NAME_BYTES_MAX - ending.len());
    format!("{stem}{ending}")
}

/// `name.1.ext` for `name.ext`.
fn numbered(name: &str, number: u32) -> String {
    let (stem, extension) = split_extension(name);
    let candidate = format!("{stem}.{number}{extension}");
    if candidate.len() > NAME_BYTES_MAX {
        shorten(name, name.as_bytes(), &format!(".{number}"))
    } else {
        candidate
    }
}

/// The longest start of `text` of at most `bytes` bytes that ends between characters.
fn clip(text: &str, bytes: usize) -> &str {
    let mut ends = (0..=bytes.min(text.len())).rev();
    let end = ends.find(|&end| text.is_char_boundary(end));
    &text[..end.unwrap_or(0)]
}

/// Gives every file of a torrent a path of its own.
///
/// Memory grows with the bytes given, whatever the depth: each name is kept once, under the number of
/// its folder. Time too: a name that is taken remembers how far its numbers have been tried.
#[derive(Debug, Default)]
pub struct Names {
    taken: BTreeMap<NameInFolder, TakenName>,
    /// Where a file has the name that a folder would have had: the folder that stands in.
    stand_ins: BTreeMap<NameInFolder, (FolderNumber, String)>,
    folders: FolderNumber,
}

type FolderNumber = u32;

/// A name in a folder.
type NameInFolder = (FolderNumber, Box<str>);

#[derive(Debug)]
struct TakenName {
    by: NameOwner,
    /// The last number tried to tell another one of this name apart.
    tried: u32,
}

#[derive(Debug, Clone, Copy)]
enum NameOwner {
    Branch(FolderNumber),
    Leaf,
}

/// Where a file goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// Elements with `/` between them.
    pub path: String,
    /// Whether it is another than the torrent says.
    pub renamed: bool,
}

impl Names {
    /// The path of the next file. The order of calls decides who keeps a name that two files want.
    pub fn place(&mut self, elements: &[&[u8]]) -> Result<Placed, PathError> {
        let (&last, folders) = elements.split_last().ok_or(PathError::Empty)?;
        if elements.len() > PATH_ELEMENTS_MAX {
            return Err(PathError::TooDeep(elements.len()));
        }
        let mut path = String::new();
        let mut folder = 0;
        let mut renamed = false;
        for &element in folders {
            let (number, name) = self.folder(folder, safe_name(element));
            renamed |= name.as_bytes() != element;
            path.push_str(&name);
            path.push('/');
            folder = number;
        }
        let name = self.file(folder, safe_name(last));
        renamed |= name.as_bytes() != last;
        path.push_str(&name);
        if path.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong(path.len()));
        }
        Ok(Placed { path, renamed })
    }

    /// The folder `name` in `parent`, or another where a file has the name.
    fn folder(&mut self, parent: FolderNumber, name: String) -> (FolderNumber, String) {
        let wanted: NameInFolder = (parent, name.as_str().into());
        let mut tried = match self.taken.get(&wanted) {
            None => return (self.new_folder(wanted), name),
            Some(taken) => match taken.by {
                NameOwner::Branch(number) => return (number, name),
                NameOwner::Leaf => taken.tried,
            },
        };
        if let Some(instead) = self.stand_ins.get(&wanted) {
            return instead.clone();
        }
        let instead = loop {
            tried += 1;
            let candidate = numbered(&name, tried);
            let place: NameInFolder = (parent, candidate.as_str().into());
            match self.taken.get(&place).map(|taken| taken.by) {
                None => break (self.new_folder(place), candidate),
                Some(NameOwner::Branch(number)) => break (number, candidate),
                Some(NameOwner::Leaf) => {}
            }
        };
        self.stand_ins.insert(wanted, instead.clone());
        instead
    }

    fn new_folder(&mut self, place: NameInFolder) -> FolderNumber {
        self.folders += 1;
        let by = NameOwner::Branch(self.folders);
        self.taken.insert(place, TakenName { by, tried: 0 });
        self.folders
    }

    /// A name for a file in `parent` that nothing else has.
    fn file(&mut self, parent: FolderNumber, name: String) -> String {
        let leaf = || TakenName {
            by: NameOwner::Leaf,
            tried: 0,
        };
        let mut tried = match self.taken.entry((parent, name.as_str().into())) {
            Entry::Vacant(place) => {
                place.insert(leaf());
                return name;
            }
            Entry::Occupied(taken) => taken.get().tried,
        };
        let (free, place) = loop {
            tried += 1;
            let candidate = numbered(&name, tried);
            let place = (parent, candidate.as_str().into());
            if !self.taken.contains_key(&place) {
                break (candidate, place);
            }
        };
        if let Some(taken) = self.taken.get_mut(&(parent, name.into())) {
            taken.tried = tried;
        }
        self.taken.insert(place, leaf());
        free
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;
    use std::path::{Component, Path};

    fn place_all(paths: &[&[&str]]) -> Vec<String> {
        let mut names = Names::default();
        let bytes = |path: &[&str]| {
            let elements: Vec<&[u8]> = path.iter().map(|it| it.as_bytes()).collect();
            names.place(&elements).unwrap().path
        };
        paths.iter().copied().map(bytes).collect()
    }

    #[test]
    fn names_that_mean_something_become_plain() {
        for (raw, safe) in [
            (&b""[..], "_"),
            (b".", "_"),
            (b"..", "_"),
            (b"...", "..."),
            (b"/etc/x", "_etc_x"),
            (b"a/../../b", "a_.._.._b"),
            (b"C:\\x", "C:_x"),
            (b"nul\0byte", "nul_byte"),
            (b"line\nfeed\x1b[2J\x7f", "line_feed_[2J_"),
            ("rtl\u{202e}txt".as_bytes(), "rtl_txt"),
            (b"latin \xe9t\xe9", "latin _t_"),
            (b"what? \"it\" <is>|*", "what? \"it\" <is>|*"),
            (b"space ", "space "),
            ("本 \u{200d}".as_bytes(), "本 \u{200d}"),
        ] {
            assert_eq!(safe_name(raw), safe);
        }
    }

    #[test]
    fn a_raw_path_is_one_that_an_author_can_have() {
        let raw = |elements: &[&[u8]]| raw_path(elements).map(Vec::from);
        for name in [
            &b"by\\x2dlabel"[..],
            b"line\nfeed\x1b[2J",
            "rtl\u{202e}".as_bytes(),
            b"latin \xe9",
            b"...",
            &[b'x'; 255],
        ] {
            assert_eq!(raw(&[name]).as_deref(), Some(name));
            assert_eq!(raw(&[b"d", name]), Some([b"d/", name].concat()));
        }
        for name in [&b""[..], b".", b"..", b"a/b", b"/", b"nul\0", &[b'x'; 256]] {
            assert_eq!(raw(&[name]), None);
            assert_eq!(raw(&[b"d\\", name]), None);
            assert_eq!(raw(&[name, b"f\\"]), None);
        }
        assert_eq!(raw(&[]), None);
        assert_eq!(raw(&[&[b'x'; 255][..]; 13]), None);
    }

    #[test]
    fn long_names_are_cut_and_stay_different() {
        let fits = "x".repeat(255);
        assert_eq!(safe_name(fits.as_bytes()), fits);
        let one = safe_name(format!("{}1.flac", "ö".repeat(150)).as_bytes());
        let two = safe_name(format!("{}2.flac", "ö".repeat(150)).as_bytes());
        assert!(one.len() <= 255 && one.len() > 250, "{}", one.len());
        assert!(one.starts_with("öö") && one.ends_with(".flac"));
        assert_ne!(one, two);
        assert!(safe_name(&[b'.'; 1_000_000]).len() <= 255);
    }

    #[test]
    fn no_torrent_is_named_like_a_record_of_ours() {
        assert_eq!(root_name(b".film.mkv.ropewalk"), "_.film.mkv.ropewalk");
        assert_eq!(root_name(b".film.ROPEWALK.part"), "_.film.ROPEWALK.part");
        assert_eq!(root_name(b"ropewalk.tar.gz"), "ropewalk.tar.gz");
        assert_eq!(root_name(b".ropewalk-notes"), "_.ropewalk-notes");
        let long = root_name(&[b".ropewalk", &b"x"[..]].concat().repeat(200));
        assert!(long.len() <= 255 && !long.starts_with('.'));
    }

    #[test]
    fn files_of_one_name_are_numbered() {
        let same: &[&str] = &["foo", "bar.txt"];
        assert_eq!(
            place_all(&[same, same, &["foo", "bar.2.txt"], same, &["foo", "BAR.txt"]]),
            [
                "foo/bar.txt",
                "foo/bar.1.txt",
                "foo/bar.2.txt",
                "foo/bar.3.txt",
                "foo/BAR.txt"
            ]
        );
        assert_eq!(
            place_all(&[&[".profile"], &[".profile"]]),
            [".profile", ".profile.1"]
        );
        assert_eq!(
            place_all(&[&["a"], &[""], &[""], &[".."]]),
            ["a", "_", "_.1", "_.2"]
        );
    }

    #[test]
    fn a_file_is_never_a_folder_too() {
        assert_eq!(
            place_all(&[&["a"], &["a", "b"], &["a", "c"], &["a", "b"], &["a.1"]]),
            ["a", "a.1/b", "a.1/c", "a.1/b.1", "a.1.1"]
        );
        assert_eq!(
            place_all(&[&["a", "b"], &["a"], &["a", "c"]]),
            ["a/b", "a.1", "a/c"]
        );
    }

    #[test]
    fn absurd_paths_are_refused() {
        let mut names = Names::default();
        assert_eq!(names.place(&[]), Err(PathError::Empty));
        assert_eq!(names.place(&[&b"d"[..]; 65]), Err(PathError::TooDeep(65)));
        let long: &[u8] = &[b'x'; 200];
        assert_eq!(
            names.place(&[long; 25]),
            Err(PathError::TooLong(25 * 201 - 1))
        );
        assert!(names.place(&[long; 15]).is_ok());
        // One long name is cut, not refused.
        assert!(names.place(&[&[b'x'; 1_000_000]]).is_ok());
    }

    #[test]
    fn a_hundred_thousand_files_of_one_name_take_no_time() {
        let mut names = Names::default();
        let mut seen = BTreeSet::new();
        for turn in 0..50_000 {
            assert!(seen.insert(names.place(&[b"same.txt"]).unwrap().path));
            let below = names.place(&[b"same.txt", b"same.txt"]).unwrap();
            assert!(seen.insert(below.path), "turn {turn}");
        }
    }

    fn nasty_element() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::sample::select(
                [
                    "..", ".", "", "a", "a.1", "_", "A", "a/b", "a.txt", "a.1.txt"
                ]
                .map(|it| it.as_bytes().to_vec())
                .to_vec()
            ),
            prop::collection::vec(any::<u8>(), 0..300),
        ]
    }

    proptest! {
        #[test]
        fn no_path_leaves_its_folder_and_no_two_are_one(
            paths in prop::collection::vec(prop::collection::vec(nasty_element(), 1..5), 1..30)
        ) {
            let mut names = Names::default();
            let mut files = BTreeSet::new();
            let mut folders = BTreeSet::new();
            for path in &paths {
                let elements: Vec<&[u8]> = path.iter().map(Vec::as_slice).collect();
                let placed = names.place(&elements).unwrap();
                prop_assert_eq!(placed.path.split('/').count(), elements.len());
                for element in placed.path.split('/') {
                    prop_assert!(!element.is_empty() && element.len() <= NAME_BYTES_MAX);
                    prop_assert!(!element.contains('\\') && !element.chars().any(char::is_control));
                }
                let normal = Path::new(&placed.path).components().all(|it| matches!(it, Component::Normal(_)));
                prop_assert!(normal, "{:?}", placed.path);
                for ancestor in Path::new(&placed.path).ancestors().skip(1) {
                    folders.insert(ancestor.to_path_buf());
                }
                let kept = path.join(&b'/') == placed.path.as_bytes() && path.iter().all(|it| !it.contains(&b'/'));
                prop_assert_eq!(placed.renamed, !kept);
                prop_assert!(files.insert(Path::new(&placed.path).to_path_buf()), "twice: {:?}", placed.path);
            }
            prop_assert!(files.is_disjoint(&folders));
        }

        #[test]
        fn a_root_name_is_one_plain_element(raw in nasty_element()) {
            let name = root_name(&raw);
            prop_assert!(Path::new(&name).components().eq([Component::Normal(name.as_ref())]));
            prop_assert!(name.len() <= NAME_BYTES_MAX);
        }
    }
}
