//! What a .torrent file says (BEP 3, 12, 19, 27, 47).

use super::digest::{Digest, InfoHash};
use super::geometry::{Geometry, PieceIndex};

/// A torrent as its author described it, checked: every name is safe to write, every length adds up.
#[derive(Debug, Clone, PartialEq)]
pub struct Metainfo {
    /// The SHA-1 of the info dictionary's bytes as found.
    pub info_hash: InfoHash,
    /// The SHA-256 of the same bytes where the torrent speaks version 2 too (a hybrid, BEP 52).
    pub info_hash_v2: Option<[u8; 32]>,
    /// The info dictionary's bytes as found; what a magnet link's followers ask for (BEP 9).
    pub info: std::sync::Arc<[u8]>,
    /// The name of the file or folder, safe to write.
    pub name: String,
    /// How the bytes are cut.
    pub geometry: Geometry,
    /// The SHA-1 of each piece, in order.
    pub piece_digests: std::sync::Arc<[Digest]>,
    /// Whether the torrent is one file rather than a folder of files.
    pub single_file: bool,
    /// The files in the order of their bytes, padding included. Never empty.
    pub files: Vec<FileEntry>,
    /// Peers come from the trackers alone (BEP 27).
    pub private: bool,
    /// Tiers of tracker addresses (BEP 12): `announce-list`, else `announce` as the only one.
    pub trackers: Vec<Vec<String>>,
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
    /// What was odd but harmless, one sentence each: trailing bytes, unsorted keys, renamed files.
    pub oddities: Vec<String>,
}

/// One file of a torrent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Path below the torrent's root, with `/` between the parts, safe to write. Of a single-file torrent: its name.
    pub path: String,
    /// Bytes.
    pub length: u64,
    /// Padding (BEP 47): counts in the run of bytes, is all zeros, is never written to disk.
    pub padding: bool,
    /// The author marked it executable (BEP 47).
    pub executable: bool,
}

impl Metainfo {
    /// The digest that `piece` must have.
    pub fn piece_digest(&self, piece: PieceIndex) -> Digest {
        self.piece_digests[piece.as_usize()]
    }
}
