//! The book of the lab: pages of text that is the same in every run, so that everybody sees the
//! same info-hash.

use crate::protocol::Digest;
use crate::protocol::metainfo::{Draft, FileEntry};

/// The name of the file.
pub const NAME: &str = "book.txt";
/// How many pages it has.
pub const PAGES: u32 = 2048;
/// Bytes a page.
pub const PAGE_LENGTH: usize = 2048;
/// Bytes a piece: few enough pieces to follow, each of several blocks.
pub const PIECE_LENGTH: u32 = 64 * 1024;

const WORDS: [&str; 32] = [
    "hemp", "strand", "yarn", "lane", "walk", "twist", "rope", "spin", "hook", "wheel", "long",
    "slow", "tight", "wet", "tar", "knot", "coil", "mast", "sail", "tide", "the", "and", "of",
    "with", "under", "over", "three", "many", "one", "holds", "turns", "pulls",
];

/// The text of the book.
pub fn write() -> Vec<u8> {
    // The number is part of the book: another one makes another info-hash.
    let mut dice = fastrand::Rng::with_seed(1682);
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

/// The .torrent file of the book.
pub fn describe(text: &[u8]) -> Vec<u8> {
    Draft {
        name: NAME.into(),
        piece_length: PIECE_LENGTH,
        single_file: true,
        files: vec![FileEntry::plain(NAME, text.len() as u64)],
        piece_digests: text.chunks(PIECE_LENGTH as usize).map(Digest::of).collect(),
        ..Draft::default()
    }
    .compose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_book_is_the_same_every_time() {
        let text = write();
        assert_eq!(text.len(), PAGES as usize * PAGE_LENGTH);
        assert_eq!(text, write());
        assert!(text.starts_with(b"Page 1\n\n"));
        assert!(text.iter().all(|byte| byte.is_ascii()));
    }

    #[test]
    fn every_piece_of_the_book_is_another_one() {
        let text = write();
        let mut digests = text
            .chunks(PIECE_LENGTH as usize)
            .map(Digest::of)
            .collect::<Vec<_>>();
        digests.sort();
        digests.dedup();
        assert_eq!(digests.len(), text.len() / PIECE_LENGTH as usize);
    }
}
