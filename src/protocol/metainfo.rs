//! What a .torrent file says (BEP 3, 5, 12, 19, 27, 47; of BEP 52 the version 1 half of hybrids).
//!
//! ```
//! use ropewalk::protocol::metainfo::{Draft, Metainfo};
//! let bytes = Draft::single("spam.txt", 16_384, b"eggs").compose();
//! let metainfo = Metainfo::from_bytes(&bytes).unwrap();
//! assert_eq!((metainfo.name.as_str(), metainfo.geometry.total()), ("spam.txt", 4));
//! ```
//!
//! The file comes from a stranger. What decides where bytes go, and which bytes are right, is checked
//! or refused: [`MetainfoError`]. What is merely odd, in the parts a download can do without, is left
//! out and listed in [`Metainfo::oddities`].

mod addresses;
mod compose;
mod files;
mod hybrid;
mod oddities;

pub use addresses::{Unusable, tracker_address, webseed_address};
pub use compose::Draft;
pub use oddities::Renamed;

use super::bencode::{self, DecodeError, DecodeLimits, Dict, Item};
use super::digest::{self, Digest, InfoHash};
use super::filenames::PathError;
use super::geometry::{Geometry, GeometryError, PieceIndex};
use super::magnet::Magnet;
use oddities::Oddities;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

/// The largest .torrent file worth reading, in bytes: for whoever reads it, to hold to while reading.
pub const METAINFO_BYTES_MAX: usize = 16 * 1024 * 1024;

/// The longest piece accepted, in bytes. Others stop at about as much; nothing here grows with it but
/// the list of a piece's blocks.
pub const PIECE_LENGTH_MAX: u32 = 512 * 1024 * 1024;

/// The most files, padding counted: 100,000 and as many paddings fit.
pub const FILES_MAX: usize = 1 << 18;

/// A torrent as its author described it, checked: every name is safe to write, every length adds up.
#[derive(Debug, Clone, PartialEq)]
pub struct Metainfo {
    /// The SHA-1 of the info dictionary's bytes as found.
    pub info_hash: InfoHash,
    /// The SHA-256 of the same bytes where the torrent speaks version 2 too (a hybrid, BEP 52).
    pub info_hash_v2: Option<[u8; 32]>,
    /// Where the info dictionary is among the bytes that were read. It is as long as all digests together, and nobody
    /// is sent it, so it is not kept.
    pub info: Range<usize>,
    /// The name of the file or folder, safe to write.
    pub name: String,
    /// The name as it stands in the torrent, where that is another and its author can have it so.
    pub raw_name: Option<Box<[u8]>>,
    /// How the bytes are cut.
    pub geometry: Geometry,
    /// The SHA-1 of each piece, in order.
    pub piece_digests: Arc<[Digest]>,
    /// Whether the torrent is one file rather than a folder of files.
    pub single_file: bool,
    /// The files in the order of their bytes, padding included. Never empty.
    pub files: Vec<FileEntry>,
    /// Peers come from the trackers alone (BEP 27).
    pub private: bool,
    /// Tiers of tracker addresses (BEP 12): `announce-list`, else `announce` as the only one.
    pub trackers: Vec<Vec<String>>,
    /// What stands among them and cannot be asked.
    pub unusable_trackers: Vec<Unusable>,
    /// Web seeds (BEP 19).
    pub webseeds: Vec<String>,
    /// DHT nodes, as (host, port) (BEP 5).
    pub nodes: Vec<(String, u16)>,
    /// The author's remark.
    pub comment: Option<String>,
    /// The program that made the file.
    pub created_by: Option<String>,
    /// When it was made, in seconds since 1970.
    pub creation_date: Option<i64>,
    /// The `source` key of the info dictionary, by which trackers tell copies apart.
    pub source: Option<String>,
    /// What was odd but harmless, one sentence each, not escaped: trailing bytes, unsorted keys, renamed files.
    pub oddities: Vec<String>,
    /// Whether some of them are names that are written otherwise.
    pub renamed: Option<Renamed>,
}

/// One file of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Path below the torrent's root, with `/` between the parts, safe to write. Of a single-file torrent: its name.
    pub path: String,
    /// The path as it stands in the torrent, where that is another and its author can have it so.
    pub raw_path: Option<Box<[u8]>>,
    /// Bytes.
    pub length: u64,
    /// Padding (BEP 47): counts in the run of bytes, is all zeros, is never written to disk.
    pub padding: bool,
    /// The author marked it executable (BEP 47).
    pub executable: bool,
}

impl FileEntry {
    /// A file with nothing special about it.
    pub fn plain(path: &str, length: u64) -> FileEntry {
        FileEntry {
            path: path.to_string(),
            raw_path: None,
            length,
            padding: false,
            executable: false,
        }
    }

    /// Padding of `length` bytes, under the name that is usual for it.
    pub fn padding(length: u64) -> FileEntry {
        FileEntry {
            padding: true,
            ..FileEntry::plain(&format!(".pad/{length}"), length)
        }
    }
}

/// Why a .torrent file cannot be used. `at` is a position in the file, in bytes from its start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetainfoError {
    /// It is not bencode.
    #[error(transparent)]
    Bencode(#[from] DecodeError),
    /// A value is of another kind than it must be.
    #[error("byte {at}: {what} is not {wanted}")]
    WrongKind {
        /// Where the value begins.
        at: usize,
        /// Its key, or what it is.
        what: &'static str,
        /// What it should have been.
        wanted: &'static str,
    },
    /// A key that must be there is not.
    #[error("byte {at}: a dictionary without the key {key:?}")]
    Missing {
        /// Where the dictionary begins.
        at: usize,
        /// The key.
        key: &'static str,
    },
    /// Two info dictionaries: programs would disagree about which torrent this is.
    #[error("byte {at}: a second info dictionary")]
    RepeatedInfo {
        /// Where its value begins.
        at: usize,
    },
    /// A torrent of BEP 52 without a version 1 half.
    #[error("it is a version 2 torrent (BEP 52), which is not supported yet; hybrids are")]
    VersionTwoOnly,
    /// The piece length is nothing one can cut with.
    #[error("byte {at}: a piece length of {length} is not between 1 and {PIECE_LENGTH_MAX}")]
    PieceLength {
        /// Where it stands.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// The lengths make more pieces than are supported.
    #[error(transparent)]
    Geometry(#[from] GeometryError),
    /// `pieces` is not a row of digests.
    #[error("byte {at}: pieces has {bytes} bytes, which is not a multiple of 20")]
    BrokenPieces {
        /// Where it begins.
        at: usize,
        /// Its length.
        bytes: usize,
    },
    /// `pieces` does not fit the lengths.
    #[error("byte {at}: pieces has {digests} digests, but the files make {pieces} pieces")]
    WrongPieces {
        /// Where it begins.
        at: usize,
        /// The digests in it.
        digests: usize,
        /// The pieces there are.
        pieces: u32,
    },
    /// It says both that it is one file and that it is a folder.
    #[error("byte {at}: an info dictionary with both length and files")]
    FileAndFolder {
        /// Where the dictionary begins.
        at: usize,
    },
    /// There are no files.
    #[error("byte {at}: a list of files without any file")]
    NoFiles {
        /// Where the list begins.
        at: usize,
    },
    /// There are more than [`FILES_MAX`].
    #[error("byte {at}: more than {FILES_MAX} files")]
    TooManyFiles {
        /// Where the first one too many begins.
        at: usize,
    },
    /// A file's length is negative, or all together are more than can be counted.
    #[error("byte {at}: a file length of {length} cannot be")]
    Length {
        /// Where it stands.
        at: usize,
        /// What it says.
        length: i64,
    },
    /// A file's path cannot be made safe.
    #[error("byte {at}: {why}")]
    Path {
        /// Where the file's dictionary begins.
        at: usize,
        /// What is wrong with it.
        why: PathError,
    },
    /// The version 2 half of a hybrid is not well-formed.
    #[error("byte {at}: in the file tree, {problem}")]
    FileTree {
        /// Where the entry begins.
        at: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl Metainfo {
    /// Reads a whole .torrent file. Memory is a small multiple of `bytes`; see [`METAINFO_BYTES_MAX`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Metainfo, MetainfoError> {
        let document = bencode::decode_prefix(bytes, DecodeLimits::FILE)?;
        let mut oddities = Oddities::default();
        if let Some(oddity) = document.oddity() {
            oddities.add(|| oddity.to_string());
        }
        if !document.rest().is_empty() {
            let count = document.rest().len();
            oddities.add(|| format!("trailing bytes are ignored: {count}"));
        }
        let root = dict(document.root(), "a torrent")?;
        let info_item = only_info(root)?;
        let info = dict(info_item, "info")?;
        if is_version_two_only(info) {
            return Err(MetainfoError::VersionTwoOnly);
        }

        let info_hash = InfoHash(Digest::of(info_item.raw()).0);
        let piece_length = piece_length(info, &mut oddities)?;
        let name = files::torrent_name(info, info_hash, &mut oddities)?;
        let content = files::read(info, &name.safe, &mut oddities)?;
        let geometry = Geometry::new(content.total, piece_length)?;
        let piece_digests = piece_digests(info, &geometry)?;
        let (trackers, unusable_trackers) = addresses::trackers(root, &mut oddities);
        let is_hybrid = hybrid::check(info, piece_length, &mut oddities)?;

        Ok(Metainfo {
            info_hash,
            info_hash_v2: is_hybrid.then(|| digest::sha256(info_item.raw())),
            info: info_item.position()..info_item.position() + info_item.raw().len(),
            name: name.safe,
            raw_name: name.raw,
            geometry,
            piece_digests,
            single_file: content.single_file,
            files: content.files,
            private: is_private(info, &mut oddities),
            trackers,
            unusable_trackers,
            webseeds: addresses::webseeds(root, &mut oddities),
            nodes: addresses::nodes(root, &mut oddities),
            comment: text(root, "comment.utf-8", &mut oddities)
                .or_else(|| text(root, "comment", &mut oddities)),
            created_by: text(root, "created by", &mut oddities),
            creation_date: creation_date(root, &mut oddities),
            source: text(info, "source", &mut oddities),
            renamed: oddities.renamed(),
            oddities: oddities.finish(),
        })
    }

    /// The digest that `piece` must have.
    pub fn piece_digest(&self, piece: PieceIndex) -> Digest {
        self.piece_digests[piece.as_usize()]
    }

    /// Where `file`, one of [`Metainfo::files`], goes: relative to the folder of the download.
    pub fn disk_path(&self, file: &FileEntry) -> PathBuf {
        let root = PathBuf::from(&self.name);
        if self.single_file {
            root
        } else {
            root.join(&file.path)
        }
    }

    /// Where the torrent's author has `file`, if that is another place: for who only reads.
    pub fn raw_disk_path(&self, file: &FileEntry) -> Option<Vec<u8>> {
        self.raw_name.as_ref().or(file.raw_path.as_ref())?;
        let name = self.raw_name.as_deref();
        let mut path = name.unwrap_or(self.name.as_bytes()).to_vec();
        if !self.single_file {
            path.push(b'/');
            path.extend(file.raw_path.as_deref().unwrap_or(file.path.as_bytes()));
        }
        Some(path)
    }

    /// The files and where each begins, in bytes from the start of the torrent.
    pub fn files_with_starts(&self) -> impl Iterator<Item = (u64, &FileEntry)> {
        let mut end = 0;
        self.files.iter().map(move |file| {
            let start = end;
            end += file.length;
            (start, file)
        })
    }

    /// All tracker addresses, tier by tier.
    pub fn tracker_addresses(&self) -> impl Iterator<Item = &str> {
        self.trackers.iter().flatten().map(String::as_str)
    }

    /// The magnet link (BEP 9) by which others find the same torrent.
    pub fn magnet(&self) -> String {
        self.magnet_naming(|_| true)
    }

    /// The magnet link with the trackers and web seeds that `names` picks.
    pub fn magnet_naming(&self, names: impl Fn(&str) -> bool) -> String {
        let trackers = self.tracker_addresses().filter(|it| names(it));
        let webseeds = self.webseeds.iter().filter(|it| names(it));
        let magnet = Magnet {
            info_hash: Some(self.info_hash),
            info_hash_v2: self.info_hash_v2,
            name: Some(self.name.clone()),
            trackers: trackers.map(str::to_owned).collect(),
            webseeds: webseeds.cloned().collect(),
            ..Magnet::default()
        };
        magnet.to_string()
    }
}

/// A stranger's bytes for a sentence: as text, not too much of it.
fn excerpt(bytes: &[u8]) -> String {
    const BYTES_MAX: usize = 120;
    let start = &bytes[..bytes.len().min(BYTES_MAX)];
    let more = if start.len() < bytes.len() { "…" } else { "" };
    format!("\"{}{more}\"", String::from_utf8_lossy(start))
}

fn wrong_kind(item: Item, what: &'static str, wanted: &'static str) -> MetainfoError {
    let at = item.position();
    MetainfoError::WrongKind { at, what, wanted }
}

fn dict<'d>(item: Item<'d>, what: &'static str) -> Result<Dict<'d>, MetainfoError> {
    item.as_dict()
        .ok_or_else(|| wrong_kind(item, what, "a dictionary"))
}

fn required<'d>(dict: Dict<'d>, key: &'static str) -> Result<Item<'d>, MetainfoError> {
    let at = dict.item().position();
    dict.get(key.as_bytes())
        .ok_or(MetainfoError::Missing { at, key })
}

fn only_info(root: Dict<'_>) -> Result<Item<'_>, MetainfoError> {
    let mut infos = root.iter().filter(|(key, _)| *key == b"info");
    let (_, first) = infos.next().ok_or(MetainfoError::Missing {
        at: root.item().position(),
        key: "info",
    })?;
    match infos.next() {
        Some((_, second)) => Err(MetainfoError::RepeatedInfo {
            at: second.position(),
        }),
        None => Ok(first),
    }
}

fn is_version_two_only(info: Dict<'_>) -> bool {
    let has = |key: &str| info.get(key.as_bytes()).is_some();
    let speaks_two = has("file tree") || has("meta version");
    speaks_two && !has("pieces") && !has("length") && !has("files")
}

fn piece_length(info: Dict<'_>, oddities: &mut Oddities) -> Result<u32, MetainfoError> {
    let item = required(info, "piece length")?;
    let wrong = || wrong_kind(item, "piece length", "an integer");
    let length = item.as_int().ok_or_else(wrong)?;
    let at = item.position();
    let usual = 16 * 1024..=32 * 1024 * 1024;
    if !usual.contains(&length) {
        oddities.add(|| format!("a piece length of {length} bytes is unusual"));
    }
    match u32::try_from(length) {
        Ok(length) if (1..=PIECE_LENGTH_MAX).contains(&length) => Ok(length),
        _ => Err(MetainfoError::PieceLength { at, length }),
    }
}

fn piece_digests(info: Dict<'_>, geometry: &Geometry) -> Result<Arc<[Digest]>, MetainfoError> {
    let item = required(info, "pieces")?;
    let at = item.position();
    let wrong = || wrong_kind(item, "pieces", "a string");
    let bytes = item.as_bytes().ok_or_else(wrong)?;
    let (digests, rest) = bytes.as_chunks::<20>();
    let pieces = geometry.pieces();
    if !rest.is_empty() {
        let bytes = bytes.len();
        Err(MetainfoError::BrokenPieces { at, bytes })
    } else if digests.len() != pieces as usize {
        let digests = digests.len();
        Err(MetainfoError::WrongPieces {
            at,
            digests,
            pieces,
        })
    } else {
        Ok(digests.iter().copied().map(Digest).collect())
    }
}

/// Anything but a plain 0 counts as private: a torrent must not leak because its author wrote `"1"`.
fn is_private(info: Dict<'_>, oddities: &mut Oddities) -> bool {
    match info.get(b"private").map(|item| item.as_int()) {
        None | Some(Some(0)) => false,
        Some(Some(1)) => true,
        Some(_) => {
            oddities.add(|| "private is neither 0 nor 1 and is taken for 1".to_string());
            true
        }
    }
}

fn text(dict: Dict<'_>, key: &'static str, oddities: &mut Oddities) -> Option<String> {
    let item = dict.get(key.as_bytes())?;
    let Some(bytes) = item.as_bytes() else {
        oddities.add(|| format!("{key} is not a string and is ignored"));
        return None;
    };
    (!bytes.is_empty()).then(|| String::from_utf8_lossy(bytes).into_owned())
}

fn creation_date(root: Dict<'_>, oddities: &mut Oddities) -> Option<i64> {
    let item = root.get(b"creation date")?;
    if item.as_int().is_none() {
        oddities.add(|| "creation date is not an integer and is ignored".to_string());
    }
    item.as_int()
}

#[cfg(test)]
mod tests;
