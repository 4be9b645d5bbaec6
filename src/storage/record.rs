//! The record of work: what of a torrent is on disk for certain. Bytes ⇄ meaning only;
//! the keeper reads and writes the file.
//!
//! ```text
//! record.write_to(&mut file)?;
//! let again = Record::decode(&bytes, info_hash, &geometry, files)?;
//! ```
//!
//! All numbers are big-endian.
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `ropewalk` |
//! | 2 | version: 1, or 2 where not all files are open |
//! | 1 | 1 if the program left in good order, else 0 |
//! | 20 | info-hash |
//! | 8, 4 | bytes of the torrent, piece length |
//! | 8, 8 | payload fetched and served, in all runs |
//! | ⌈pieces/8⌉ | bitfield of the pieces that are good and synced |
//! | 4, then each 4 + ⌈blocks/8⌉ | unfinished pieces: index, bitfield of the blocks that are laid and synced |
//! | 4, then ⌈files/8⌉ | number of files, bitfield of those that are on disk |
//! | 48 for each of these | length, device, inode, times of modification and of change (seconds, nanoseconds) |
//! | 48 in version 2 | the same of the [part file](super::part), zeros if there is none |
//! | ⌈files/8⌉ in version 2 | bitfield of the files that are open |
//! | ⌈pieces/8⌉ in version 2 | bitfield of the pieces that lie aside |
//! | 20 | SHA-1 of everything before |

use super::facts::{FileFacts, FileTime};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::digest::Hasher;
use crate::protocol::{Digest, Geometry, InfoHash, PieceIndex};
use std::borrow::Cow;
use std::io::{self, Write};

const MAGIC: &[u8; 8] = b"ropewalk";
/// Everything lies in its own file.
const VERSION_PLAIN: u16 = 1;
/// Some bytes lie in the part file.
const VERSION: u16 = 2;
const DIGEST_LENGTH: usize = 20;

/// What a record says of one torrent.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// The torrent.
    pub info_hash: InfoHash,
    /// The torrent's cut.
    pub geometry: Geometry,
    /// What is claimed to be on disk.
    pub claim: Claim,
    /// Each file as it was when this was written, after the sync. `None`: it was not there.
    pub files: Cow<'a, [Option<FileFacts>]>,
    /// What lies elsewhere than in its own file; `None`: nothing.
    pub part: Option<PartRecord>,
}

/// What lies in the part file.
#[derive(Debug, Clone, PartialEq)]
pub struct PartRecord {
    /// The part file, as `files` has the others.
    pub facts: Option<FileFacts>,
    /// For each file whether all its bytes are in it.
    pub open: Box<[bool]>,
    /// The pieces whose bytes of other files lie in the part file.
    pub aside: Bitfield,
}

/// What is claimed to be on disk, and what was done for it.
#[derive(Debug, Clone, PartialEq)]
pub struct Claim {
    /// The pieces that are good.
    pub have: Bitfield,
    /// The blocks of unfinished pieces that are laid, in the order of their pieces.
    pub laid: Vec<LaidBlocks>,
    /// Payload fetched in all runs, in bytes.
    pub downloaded: u64,
    /// Payload served in all runs, in bytes.
    pub uploaded: u64,
    /// The program left in good order: nothing was written after this.
    pub clean: bool,
}

/// The laid blocks of one unfinished piece, on the 16 KiB grid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaidBlocks {
    piece: PieceIndex,
    count: usize,
    bits: Box<[u8]>,
}

/// Why bytes are no record of this torrent. Never an error for the user: everything is hashed then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// Nothing at all.
    #[error("it is empty")]
    Empty,
    /// It begins with other bytes than a record.
    #[error("it is no record")]
    Foreign,
    /// Written by another version of this program.
    #[error("it has version {0} and this program reads versions up to {VERSION}")]
    Version(u16),
    /// Cut short, or bytes have changed.
    #[error("it is damaged")]
    Damaged,
    /// Of another torrent.
    #[error("it belongs to the torrent {0}")]
    OtherTorrent(InfoHash),
}

impl Claim {
    /// Whether it says anything of `piece`: that it is good, or that blocks of it are laid.
    pub fn speaks_of(&self, piece: PieceIndex) -> bool {
        let laid = self.laid.binary_search_by_key(&piece, LaidBlocks::piece);
        self.have.has(piece) || laid.is_ok()
    }

    /// The claim of nothing.
    pub fn nothing(geometry: &Geometry) -> Claim {
        Claim {
            have: Bitfield::new(geometry),
            laid: Vec::new(),
            downloaded: 0,
            uploaded: 0,
            clean: false,
        }
    }
}

impl LaidBlocks {
    /// No block of `piece`.
    pub fn new(geometry: &Geometry, piece: PieceIndex) -> LaidBlocks {
        let count = geometry.blocks_in(piece);
        LaidBlocks {
            piece,
            count,
            bits: vec![0; count.div_ceil(8)].into(),
        }
    }

    /// Whose blocks these are.
    pub fn piece(&self) -> PieceIndex {
        self.piece
    }

    /// Adds the block with this number in the piece; nothing happens if there is none.
    pub fn set(&mut self, number: usize) {
        if number < self.count {
            self.bits[number / 8] |= 0x80 >> (number % 8);
        }
    }

    /// The numbers of the laid blocks, in order.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.count).filter(|number| self.bits[number / 8] & (0x80 >> (number % 8)) != 0)
    }

    /// Whether every block of the piece is laid.
    pub fn is_full(&self) -> bool {
        self.numbers().count() == self.count
    }
}

impl Record<'_> {
    /// Writes the record, in small parts, and returns the digest at its end: of 20,000 files it has a megabyte, which
    /// nobody needs at once. Errors are those of `out`.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<Digest> {
        let mut body = Digesting {
            out: &mut *out,
            hasher: Hasher::default(),
        };
        self.write_body(&mut body)?;
        let digest = body.hasher.finish();
        out.write_all(&digest.0)?;
        Ok(digest)
    }

    fn write_body(&self, out: &mut impl Write) -> io::Result<()> {
        let claim = &self.claim;
        out.write_all(MAGIC)?;
        let version = match self.part {
            Some(_) => VERSION,
            None => VERSION_PLAIN,
        };
        out.write_all(&version.to_be_bytes())?;
        out.write_all(&[u8::from(claim.clean)])?;
        out.write_all(&self.info_hash.0)?;
        out.write_all(&self.geometry.total().to_be_bytes())?;
        out.write_all(&self.geometry.piece_length().to_be_bytes())?;
        out.write_all(&claim.downloaded.to_be_bytes())?;
        out.write_all(&claim.uploaded.to_be_bytes())?;
        out.write_all(claim.have.as_bytes())?;
        out.write_all(&(claim.laid.len() as u32).to_be_bytes())?;
        for laid in &claim.laid {
            out.write_all(&laid.piece.get().to_be_bytes())?;
            out.write_all(&laid.bits)?;
        }
        out.write_all(&(self.files.len() as u32).to_be_bytes())?;
        out.write_all(&packed(self.files.iter().map(Option::is_some)))?;
        for facts in self.files.iter().flatten() {
            facts.write_to(out)?;
        }
        if let Some(part) = &self.part {
            part.facts.unwrap_or(NO_FILE).write_to(out)?;
            out.write_all(&packed(part.open.iter().copied()))?;
            out.write_all(part.aside.as_bytes())?;
        }
        Ok(())
    }

    /// Reads a record of the torrent `info_hash`, which has `files` files, padding included.
    pub fn decode(
        bytes: &[u8],
        info_hash: InfoHash,
        geometry: &Geometry,
        files: usize,
    ) -> Result<Record<'static>, RecordError> {
        if bytes.is_empty() {
            return Err(RecordError::Empty);
        }
        let rest = bytes.strip_prefix(MAGIC).ok_or(RecordError::Foreign)?;
        let version = rest.first_chunk().ok_or(RecordError::Damaged)?;
        let version = u16::from_be_bytes(*version);
        if ![VERSION_PLAIN, VERSION].contains(&version) {
            return Err(RecordError::Version(version));
        }
        let (body, digest) = bytes
            .split_last_chunk::<DIGEST_LENGTH>()
            .ok_or(RecordError::Damaged)?;
        if Digest::of(body).0 != *digest {
            return Err(RecordError::Damaged);
        }
        let fields = body.get(MAGIC.len() + 2..).ok_or(RecordError::Damaged)?;
        let mut fields = Fields(fields);
        let clean = u8::from_be_bytes(fields.array()?) != 0;
        let found = InfoHash(fields.array()?);
        if found != info_hash {
            return Err(RecordError::OtherTorrent(found));
        }
        let mut record = fields.rest_of(geometry, files, clean, info_hash)?;
        if version == VERSION {
            record.part = Some(fields.part(geometry, files)?);
        }
        match fields.0 {
            [] => Ok(record),
            _ => Err(RecordError::Damaged),
        }
    }
}

/// What stands for a file that is not there. No file has this number.
const NO_FILE: FileFacts = FileFacts {
    length: 0,
    device: 0,
    inode: 0,
    modified: (0, 0),
    changed: (0, 0),
};

impl FileFacts {
    fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        out.write_all(&self.length.to_be_bytes())?;
        out.write_all(&self.device.to_be_bytes())?;
        out.write_all(&self.inode.to_be_bytes())?;
        for time in [self.modified, self.changed] {
            out.write_all(&time.0.to_be_bytes())?;
            out.write_all(&time.1.to_be_bytes())?;
        }
        Ok(())
    }
}

/// Passes bytes on and hashes them.
struct Digesting<'a, W> {
    out: &'a mut W,
    hasher: Hasher,
}

impl<W: Write> Write for Digesting<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// One bit a flag, the first the highest of the first byte.
fn packed(flags: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut bytes = vec![0u8; flags.len().div_ceil(8)];
    for (number, _) in flags.enumerate().filter(|(_, flag)| *flag) {
        bytes[number / 8] |= 0x80 >> (number % 8);
    }
    bytes
}

/// What is left to be read.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], RecordError> {
        let (head, tail) = self.0.split_first_chunk().ok_or(RecordError::Damaged)?;
        self.0 = tail;
        Ok(*head)
    }

    fn bytes(&mut self, length: usize) -> Result<&'a [u8], RecordError> {
        let (head, tail) = self
            .0
            .split_at_checked(length)
            .ok_or(RecordError::Damaged)?;
        self.0 = tail;
        Ok(head)
    }

    fn u32(&mut self) -> Result<u32, RecordError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, RecordError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    fn rest_of(
        &mut self,
        geometry: &Geometry,
        files: usize,
        clean: bool,
        info_hash: InfoHash,
    ) -> Result<Record<'static>, RecordError> {
        if self.u64()? != geometry.total() || self.u32()? != geometry.piece_length() {
            return Err(RecordError::Damaged);
        }
        let (downloaded, uploaded) = (self.u64()?, self.u64()?);
        let have = self.bytes((geometry.pieces() as usize).div_ceil(8))?;
        let have = Bitfield::from_bytes(have, geometry).map_err(|_| RecordError::Damaged)?;
        let laid = self.laid(geometry)?;
        if self.u32()? as usize != files {
            return Err(RecordError::Damaged);
        }
        let present = self.flags(files)?;
        let facts = present
            .iter()
            .map(|there| there.then(|| self.facts()).transpose());
        let files = facts.collect::<Result<Vec<_>, _>>()?.into();
        Ok(Record {
            info_hash,
            geometry: *geometry,
            claim: Claim {
                have,
                laid,
                downloaded,
                uploaded,
                clean,
            },
            files,
            part: None,
        })
    }

    fn part(&mut self, geometry: &Geometry, files: usize) -> Result<PartRecord, RecordError> {
        let facts = self.facts()?;
        let open = self.flags(files)?;
        let aside = self.bytes((geometry.pieces() as usize).div_ceil(8))?;
        let aside = Bitfield::from_bytes(aside, geometry).map_err(|_| RecordError::Damaged)?;
        Ok(PartRecord {
            facts: Some(facts).filter(|facts| *facts != NO_FILE),
            open,
            aside,
        })
    }

    fn flags(&mut self, count: usize) -> Result<Box<[bool]>, RecordError> {
        let bytes = self.bytes(count.div_ceil(8))?;
        let flag = |number: usize| bytes[number / 8] & (0x80 >> (number % 8)) != 0;
        Ok((0..count).map(flag).collect())
    }

    fn laid(&mut self, geometry: &Geometry) -> Result<Vec<LaidBlocks>, RecordError> {
        let pieces = self.u32()?;
        if pieces > geometry.pieces() {
            return Err(RecordError::Damaged);
        }
        let laid = (0..pieces).map(|_| {
            let piece = geometry.piece(self.u32()?).ok_or(RecordError::Damaged)?;
            let count = geometry.blocks_in(piece);
            let bits = self.bytes(count.div_ceil(8))?.into();
            Ok(LaidBlocks { piece, count, bits })
        });
        laid.collect()
    }

    fn facts(&mut self) -> Result<FileFacts, RecordError> {
        Ok(FileFacts {
            length: self.u64()?,
            device: self.u64()?,
            inode: self.u64()?,
            modified: self.time()?,
            changed: self.time()?,
        })
    }

    fn time(&mut self) -> Result<FileTime, RecordError> {
        Ok((i64::from_be_bytes(self.array()?), self.u32()?))
    }
}

/// The longest name most file systems take, less what a neighbour of the record adds (`.part`, `.new`).
const NAME_MAX: usize = 255 - 5;

/// The name of the record of the torrent called `name`: `.NAME.ropewalk`. A name too long for that is
/// cut, and a short hash of the whole name keeps it apart from others with the same beginning.
pub fn file_name(name: &str) -> String {
    const FRAME: usize = ".".len() + ".ropewalk".len();
    const HASH: usize = "~".len() + 8;
    if name.len() + FRAME <= NAME_MAX {
        return format!(".{name}.ropewalk");
    }
    let mut end = NAME_MAX - FRAME - HASH;
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let digest = Digest::of(name.as_bytes()).to_string();
    format!(".{}~{}.ropewalk", &name[..end], &digest[..8])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    const HASH: InfoHash = InfoHash([9; 20]);

    fn any_record() -> impl Strategy<Value = Record<'static>> {
        let facts = (
            any::<u64>(),
            any::<u64>(),
            any::<u64>(),
            any::<FileTime>(),
            any::<FileTime>(),
        );
        let facts = facts.prop_map(|(length, device, inode, modified, changed)| FileFacts {
            length,
            device,
            inode,
            modified,
            changed,
        });
        (
            0u64..2_000_000,
            1u32..100_000,
            proptest::collection::vec(any::<u32>(), 0..30),
            proptest::collection::btree_map(
                0u32..100,
                proptest::collection::vec(0usize..9, 0..5),
                0..5,
            ),
            proptest::collection::vec(proptest::option::of(facts), 0..20),
            any::<(u64, u64, bool)>(),
            proptest::option::of(any::<(u64, u64)>()),
        )
            .prop_map(|(total, piece_length, have, laid, files, rest, part)| {
                let geometry =
                    Geometry::new(total, piece_length.max(total as u32 / 1000 + 1)).unwrap();
                let mut claim = Claim::nothing(&geometry);
                (claim.downloaded, claim.uploaded, claim.clean) = rest;
                for index in have {
                    geometry
                        .piece(index % geometry.pieces().max(1))
                        .map(|piece| claim.have.set(piece));
                }
                for (index, numbers) in laid {
                    let Some(piece) = geometry.piece(index) else {
                        continue;
                    };
                    let mut blocks = LaidBlocks::new(&geometry, piece);
                    numbers.into_iter().for_each(|number| blocks.set(number));
                    claim.laid.push(blocks);
                }
                let part = part.map(|(inode, open)| PartRecord {
                    facts: (inode != 0).then_some(FileFacts { inode, ..NO_FILE }),
                    open: (0..files.len())
                        .map(|it| open >> (it % 64) & 1 == 1)
                        .collect(),
                    aside: claim.have.clone(),
                });
                Record {
                    info_hash: HASH,
                    geometry,
                    claim,
                    files: files.into(),
                    part,
                }
            })
    }

    fn encoded(record: &Record) -> Vec<u8> {
        let mut bytes = Vec::new();
        let digest = record.write_to(&mut bytes).unwrap();
        assert!(bytes.ends_with(&digest.0));
        bytes
    }

    fn decode(bytes: &[u8], like: &Record) -> Result<Record<'static>, RecordError> {
        Record::decode(bytes, HASH, &like.geometry, like.files.len())
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_again(record in any_record()) {
            prop_assert_eq!(decode(&encoded(&record), &record), Ok(record));
        }

        #[test]
        fn no_part_of_a_record_is_a_record(record in any_record(), cut: prop::sample::Index) {
            let bytes = encoded(&record);
            prop_assert!(decode(&bytes[..cut.index(bytes.len())], &record).is_err());
        }

        #[test]
        fn a_changed_byte_is_noticed(record in any_record(), at: prop::sample::Index, change in 1u8..) {
            let mut bytes = encoded(&record);
            let at = at.index(bytes.len());
            bytes[at] ^= change;
            prop_assert!(decode(&bytes, &record).is_err());
        }

        #[test]
        fn random_bytes_are_no_record(record in any_record(), noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode(&noise, &record).is_err());
            // Even with a true beginning and a true checksum.
            let mut bytes = [&MAGIC[..], &VERSION.to_be_bytes(), &[0], &HASH.0, &noise].concat();
            bytes.extend(Digest::of(&bytes).0);
            prop_assert!(decode(&bytes, &record).is_err());
        }
    }

    #[test]
    fn the_reason_of_a_refusal_is_named() {
        let geometry = Geometry::new(100, 10).unwrap();
        let record = Record {
            info_hash: HASH,
            geometry,
            claim: Claim::nothing(&geometry),
            files: vec![None].into(),
            part: None,
        };
        let bytes = encoded(&record);
        let read = |bytes: &[u8]| Record::decode(bytes, HASH, &geometry, 1).unwrap_err();
        assert_eq!(read(b""), RecordError::Empty);
        assert_eq!(read(b"a diary"), RecordError::Foreign);
        assert_eq!(read(&bytes[..30]), RecordError::Damaged);
        let mut newer = bytes.clone();
        newer[9] = 3;
        assert_eq!(read(&newer), RecordError::Version(3));
        let other = InfoHash([1; 20]);
        assert_eq!(
            Record::decode(&bytes, other, &geometry, 1),
            Err(RecordError::OtherTorrent(HASH))
        );
        let cut = Geometry::new(100, 20).unwrap();
        assert_eq!(
            Record::decode(&bytes, HASH, &cut, 1),
            Err(RecordError::Damaged)
        );
        assert_eq!(
            Record::decode(&bytes, HASH, &geometry, 2),
            Err(RecordError::Damaged)
        );
    }

    #[test]
    fn the_first_bytes_are_as_the_table_says() {
        let geometry = Geometry::new(20, 10).unwrap();
        let mut claim = Claim::nothing(&geometry);
        claim.clean = true;
        claim.have.set(geometry.piece(1).unwrap());
        let bytes = encoded(&Record {
            info_hash: HASH,
            geometry,
            claim,
            files: vec![None].into(),
            part: None,
        });
        assert_eq!(bytes[..11], *b"ropewalk\0\x01\x01");
        assert_eq!(bytes[31..43], [0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 10]);
        assert_eq!(bytes[59], 0b0100_0000);
        assert_eq!(bytes.len(), 60 + 4 + 4 + 1 + 20);
    }

    #[test]
    fn a_long_name_is_cut_between_characters_and_kept_apart() {
        assert_eq!(file_name("book.pdf"), ".book.pdf.ropewalk");
        let long = "ä".repeat(127);
        let (one, other) = (
            file_name(&format!("{long}1")),
            file_name(&format!("{long}2")),
        );
        assert_ne!(one, other);
        for name in [
            one,
            file_name(&"x".repeat(255)),
            file_name(&"x".repeat(240)),
        ] {
            assert!(name.len() + ".part".len() <= 255, "{name}");
            assert!(name.starts_with('.') && name.ends_with(".ropewalk"));
        }
    }
}
