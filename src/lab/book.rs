//! The book of the lab: pages of text that follow from a number, or a file of the user's.

use super::{LabError, trouble};
use crate::protocol::Digest;
use crate::protocol::metainfo::{Draft, FileEntry};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

/// The name of the book that is written.
pub const NAME: &str = "book.txt";
/// How many pages it has.
pub const PAGES: u32 = 1536;
/// Bytes a page.
pub const PAGE_LENGTH: usize = 2048;
/// The longest file that is taken: everybody at the table writes a copy of their own.
pub const FILE_MAX: u64 = 256 << 20;
/// Pieces are as short as this allows: few enough to be seen one by one.
const PIECES_MAX: u64 = 64;
/// The shortest piece, in bytes: one block.
const PIECE_MIN: u32 = 16 * 1024;

const WORDS: [&str; 32] = [
    "hemp", "strand", "yarn", "lane", "walk", "twist", "rope", "spin", "hook", "wheel", "long",
    "slow", "tight", "wet", "tar", "knot", "coil", "mast", "sail", "tide", "the", "and", "of",
    "with", "under", "over", "three", "many", "one", "holds", "turns", "pulls",
];

/// The text of the book with this number.
pub fn write(number: u64) -> Vec<u8> {
    // Another number makes another text, and so another info-hash.
    let mut dice = fastrand::Rng::with_seed(number);
    let mut text = Vec::with_capacity(PAGES as usize * PAGE_LENGTH);
    for page in 1..=PAGES {
        let end = page as usize * PAGE_LENGTH;
        text.extend_from_slice(format!("Page {page}\n\n").as_bytes());
        while text.len() < end {
            let word = WORDS[dice.usize(..WORDS.len())];
            text.extend_from_slice(word.as_bytes());
            text.push(if dice.u8(..10) == 0 { b'\n' } else { b' ' });
        }
        text.truncate(end);
        if let Some(last) = text.last_mut() {
            *last = b'\n';
        }
    }
    text
}

/// How a book of so many bytes is cut, in bytes a piece.
fn piece_length(bytes: u64) -> u32 {
    let mut length = PIECE_MIN;
    while bytes.div_ceil(u64::from(length)) > PIECES_MAX {
        length *= 2;
    }
    length
}

/// The .torrent file of the book at `path`, with this tracker in it.
pub fn describe(path: &Path, name: &str, tracker: &str) -> Result<Vec<u8>, LabError> {
    let failed = |error| trouble(path, &error);
    let mut file = File::open(path).map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    let piece_length = piece_length(bytes);
    let mut piece = vec![0; piece_length as usize];
    let mut piece_digests = Vec::new();
    loop {
        let filled = fill(&mut file, &mut piece).map_err(failed)?;
        if filled == 0 {
            break;
        }
        piece_digests.push(Digest::of(&piece[..filled]));
    }
    let draft = Draft {
        name: name.into(),
        piece_length,
        single_file: true,
        files: vec![FileEntry::plain(name, bytes)],
        piece_digests,
        trackers: vec![vec![tracker.to_owned()]],
        ..Draft::default()
    };
    Ok(draft.compose())
}

/// Whether two files have the same bytes.
pub fn equal(one: &Path, other: &Path) -> Result<bool, LabError> {
    let open = |path: &Path| File::open(path).map_err(|error| trouble(path, &error));
    let (mut first, mut second) = (open(one)?, open(other)?);
    let (mut ours, mut theirs) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        let (mine, yours) = (fill(&mut first, &mut ours), fill(&mut second, &mut theirs));
        let mine = mine.map_err(|error| trouble(one, &error))?;
        let yours = yours.map_err(|error| trouble(other, &error))?;
        if ours[..mine] != theirs[..yours] {
            return Ok(false);
        }
        if mine == 0 {
            return Ok(true);
        }
    }
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_same_number_writes_the_same_book_and_another_another() {
        let text = write(7);
        assert_eq!(text.len(), PAGES as usize * PAGE_LENGTH);
        assert_eq!(text, write(7));
        assert!(text != write(8));
        assert!(text.starts_with(b"Page 1\n\n"));
        assert!(text.iter().all(u8::is_ascii));
    }

    #[test]
    fn every_piece_of_the_book_is_another_one() {
        let text = write(1);
        let length = piece_length(text.len() as u64) as usize;
        let mut digests = text.chunks(length).map(Digest::of).collect::<Vec<_>>();
        assert_eq!(digests.len(), 48);
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), 48);
    }

    #[test]
    fn a_book_of_any_length_has_pieces_that_can_be_counted() {
        for bytes in [1, 16_384, 16_385, 1 << 20, (1 << 20) + 1, FILE_MAX] {
            let length = u64::from(piece_length(bytes));
            assert!(bytes.div_ceil(length) <= PIECES_MAX && length.is_power_of_two());
        }
        assert_eq!(piece_length(FILE_MAX), 4 << 20);
    }

    #[test]
    fn books_are_compared_to_their_last_byte() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (folder.path().join("1"), folder.path().join("2"));
        let mut text = write(3);
        std::fs::write(&one, &text).unwrap();
        std::fs::write(&other, &text).unwrap();
        assert!(equal(&one, &other).unwrap());
        *text.last_mut().unwrap() ^= 1;
        std::fs::write(&other, &text).unwrap();
        assert!(!equal(&one, &other).unwrap());
        text.pop();
        std::fs::write(&other, &text).unwrap();
        assert!(!equal(&one, &other).unwrap() && !equal(&other, &one).unwrap());
    }
}
