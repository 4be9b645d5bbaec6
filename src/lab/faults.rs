//! What goes wrong on purpose. Nothing of it is in the clients: a liar is an ordinary seed that was told, as `share`
//! tells its own, that its file was hashed a moment ago. The file is altered, and it serves in good faith what is
//! there. A free rider is an ordinary client with `--up` turned down. Who vanishes is a client whose trackers hear no
//! `stopped`.

use super::{LabError, Plan, trouble};
use crate::protocol::geometry::BLOCK_LENGTH;
use crate::storage::facts::FileFacts;
use crate::storage::hashed::{Hashed, HashedFile};
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// A free rider gives this part of what the others give.
const RIDERS_PART: u64 = 32;
/// And no less than this, in bytes a second: its own requests count as well.
const RIDERS_LEAST: u64 = 4 * 1024;

impl Plan {
    /// What a free rider sends in a second at most, in bytes.
    pub fn riders_rate(&self) -> u64 {
        self.up.map_or(RIDERS_LEAST, |up| {
            (up / RIDERS_PART).max(RIDERS_LEAST).min(up)
        })
    }
}

/// Alters a byte in each block of a book, so that no piece of it is right.
pub(super) fn spoil(path: &Path) -> Result<(), LabError> {
    let failed = |error| trouble(path, &error);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .map_err(failed)?;
    let bytes = file.metadata().map_err(failed)?.len();
    for start in (0..bytes).step_by(BLOCK_LENGTH as usize) {
        let mut byte = [0];
        file.read_exact_at(&mut byte, start).map_err(failed)?;
        file.write_all_at(&[byte[0] ^ 0xff], start)
            .map_err(failed)?;
    }
    Ok(())
}

/// What a liar is told of its book: as it is now, it is good.
pub(super) fn vouch_for(path: PathBuf) -> Result<Hashed, LabError> {
    let found = std::fs::metadata(&path).map_err(|error| trouble(&path, &error))?;
    let facts = FileFacts::from(&found);
    Ok(Hashed(vec![HashedFile { path, facts }]))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_spoiled_book_is_wrong_in_each_block_and_as_long_as_before() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("book");
        let book = vec![b'a'; 40_000];
        std::fs::write(&path, &book).unwrap();
        spoil(&path).unwrap();
        let spoiled = std::fs::read(&path).unwrap();
        assert_eq!(spoiled.len(), book.len());
        for (right, wrong) in book.chunks(16_384).zip(spoiled.chunks(16_384)) {
            assert!(right != wrong);
        }
    }

    #[test]
    fn a_free_rider_gives_little_and_never_more_than_the_others() {
        let rate = |up| {
            Plan {
                up,
                ..Plan::default()
            }
            .riders_rate()
        };
        assert_eq!(rate(Some(1 << 20)), 1 << 15);
        assert_eq!(rate(Some(1 << 16)), 4 << 10);
        assert_eq!(rate(Some(1_000)), 1_000);
        assert_eq!(rate(None), 4 << 10);
    }
}
