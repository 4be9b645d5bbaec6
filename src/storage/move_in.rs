//! Brings bytes from the part file into files that are wanted now.
//!
//! ```text
//! let move_in = MoveIn::between(&before, &after, |piece| counts(piece));
//! let files = move_in.carry_out(&before, &after)?;   // sync these, then write the record
//! ```
//!
//! Bytes are copied, synced, and only then does the record say that they are somewhere else: a crash
//! at any moment leaves a record that is right. The part file stays as it is; when nothing of it is of
//! use any more, it is removed whole.

use super::layout::{Layout, Run};
use super::reach::{open_to_read, open_to_write};
use super::slot::StorageError;
use crate::protocol::PieceIndex;
use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Bytes copied at a time.
const CHUNK: usize = 256 * 1024;

/// Runs that lie in one place before and in another after.
#[derive(Debug)]
pub(super) struct MoveIn {
    runs: Vec<(PieceIndex, Run, Run)>,
}

impl MoveIn {
    /// Where the two layouts differ, of the pieces that `count`.
    pub(super) fn between(
        before: &Layout,
        after: &Layout,
        counts: impl Fn(PieceIndex) -> bool,
    ) -> MoveIn {
        let geometry = before.geometry();
        let mut runs = Vec::new();
        if let Some(part) = before.part() {
            let pieces = part.aside().pieces(geometry);
            for piece in pieces.filter(|piece| counts(*piece)) {
                let both = before.runs_of_piece(piece).zip(after.runs_of_piece(piece));
                let differ = both.filter(|(from, to)| from.file != to.file);
                runs.extend(differ.map(|(from, to)| (piece, from, to)));
            }
        }
        MoveIn { runs }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// The pieces with bytes to be moved; one may be named several times.
    pub(super) fn pieces(&self) -> impl Iterator<Item = PieceIndex> + '_ {
        self.runs.iter().map(|(piece, ..)| *piece)
    }

    /// Copies; returns the numbers of the files that were written to.
    pub(super) fn carry_out(
        &self,
        before: &Layout,
        after: &Layout,
    ) -> Result<BTreeSet<usize>, StorageError> {
        let mut buffer = vec![0; CHUNK];
        let mut written = BTreeSet::new();
        for (_, from, to) in &self.runs {
            let source = &before.place(from.file).path;
            let target = &after.place(to.file).path;
            let (reads, writes) = (
                open_to_read(source)?,
                open_to_write(after.folder(), target)?,
            );
            let mut done = 0;
            while done < from.length {
                let wanted = CHUNK.min((from.length - done) as usize);
                let got = read_some(&reads, &mut buffer[..wanted], from.offset + done)
                    .map_err(|error| StorageError::from_io("read", source, &error))?;
                if got == 0 {
                    break; // blocks that were never laid: what is not there is not claimed
                }
                writes
                    .write_all_at(&buffer[..got], to.offset + done)
                    .map_err(|error| StorageError::from_io("write", target, &error))?;
                done += got as u64;
            }
            written.insert(to.file);
        }
        Ok(written)
    }
}

fn read_some(file: &File, buffer: &mut [u8], at: u64) -> std::io::Result<usize> {
    loop {
        match file.read_at(buffer, at) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
