//! What the keeper vouches for, and the record in which it says so.

use super::{Kept, LookedAnew, Saved};
use crate::protocol::PieceIndex;
use crate::protocol::bitfield::Bitfield;
use crate::storage::reach;
use crate::storage::record::{Claim, PartRecord, Record};
use crate::storage::slot::{StorageError, StorageTrouble};
use crate::storage::sync::Unsynced;
use std::collections::BTreeSet;
use std::sync::Arc;

impl Kept {
    /// Once nothing that is wanted is missing any more, and before we leave: looks whether all files are as we left
    /// them. The numbers of those come back that are not, and of any others that somebody wrote to since they were
    /// whole: they are to be hashed before anything is finished.
    pub(super) fn finish(&mut self, have: &Bitfield) -> Result<BTreeSet<usize>, StorageError> {
        let settled = self.layout.settled(have);
        let mut changed = BTreeSet::from_iter(self.known.settle(&self.layout, &settled));
        let whole = self.layout.wanted_pieces().is_within(have) && self.known.unsettled() == 0;
        if whole && self.writable && (!self.finished || self.safe.clean) {
            // Whoever leaves has no time to hash what a hook has given another mode or a second name.
            let time = !self.safe.clean;
            changed.extend(self.known.look_again(&self.layout, time)?);
            self.finished |= changed.is_empty();
        }
        Ok(changed)
    }

    /// Writes into the record what is safe, but for files that somebody else wrote to since they were whole.
    pub(super) fn vouch(&mut self) -> Result<Saved, StorageError> {
        let before = (self.finished, self.known.unsettled());
        let have = self.safe.have.clone();
        let changed = self.finish(&have)?;
        for number in &changed {
            for (piece, _) in self.layout.runs_in(*number) {
                self.safe.have.clear(piece);
            }
        }
        let warning = self.write_record();
        if !changed.is_empty() {
            return Ok(Saved::Changed { files: changed });
        }
        let news = before != (self.finished, self.known.unsettled());
        if news {
            self.layout = Arc::new(self.known.watched(&self.layout));
        }
        let watched = news.then(|| self.layout.clone());
        Ok(Saved::Safe { warning, watched })
    }

    /// Others wrote to these files, which we do not write to any more.
    pub(super) fn look_anew(&mut self, files: &BTreeSet<usize>) -> LookedAnew {
        let changed = self.known.look_anew(&self.layout, files);
        self.layout = Arc::new(self.known.watched(&self.layout));
        LookedAnew {
            changed,
            layout: self.layout.clone(),
        }
    }

    /// A sync failed: what is not sure to be on the medium any more.
    pub(super) fn doubt(&mut self, claim: &Claim, failed: Unsynced) -> Saved {
        if failed.error.kind == StorageTrouble::Descriptors {
            return Saved::Doubtful {
                error: failed.error,
                check: Vec::new(),
            };
        }
        let hopeless = !matches!(failed.error.kind, StorageTrouble::Broken);
        if hopeless || std::mem::replace(&mut self.has_failed, true) {
            self.given_up = Some(failed.error.clone());
            return Saved::Failed(failed.error);
        }
        let touches = |piece: &PieceIndex| {
            let mut runs = self.layout.runs_of_piece(*piece);
            runs.any(|run| failed.files.contains(&run.file))
        };
        let new = |piece: &PieceIndex| claim.have.has(*piece) && !self.safe.have.has(*piece);
        let pieces = self.layout.geometry().all_pieces();
        let check = pieces.filter(new).filter(touches).collect();
        Saved::Doubtful {
            check,
            error: failed.error,
        }
    }

    /// Writes what is safe into the record; what went wrong, in a sentence.
    pub(super) fn write_record(&mut self) -> Option<String> {
        let record = self.record.as_mut()?;
        let now = Record {
            info_hash: self.layout.info_hash(),
            geometry: *self.layout.geometry(),
            claim: self.safe.clone(),
            files: self.known.files().into(),
            part: self.layout.part().map(|part| PartRecord {
                facts: self.known.part(),
                open: part.open().into(),
                aside: part.aside().clone(),
            }),
        };
        let error = match record.write(&now) {
            Err(error) => error,
            // The record that spoke of it is gone; not a moment earlier.
            Ok(()) if self.layout.part().is_none_or(|it| it.aside().is_empty()) => {
                self.remove_part().err()?
            }
            Ok(()) => return None,
        };
        Some(format!("the record of work is out of date: {error}"))
    }

    /// Nothing lies aside any more.
    pub(super) fn remove_part(&mut self) -> Result<(), StorageError> {
        if !self.writable || !std::mem::take(&mut self.part_there) {
            return Ok(());
        }
        self.known.part_is_gone();
        reach::remove(&self.layout.part_path())
    }
}
