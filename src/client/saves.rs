//! Saves: what is verified goes to the keeper, and what comes of it.
//!
//! ```text
//! verified … verified → save → saved → report_complete
//!     ▲                            │
//!     └───────── read back ◄───────┘ in doubt, for the first time
//! ```
//!
//! When one is due, and what it may claim, is known to `saving.rs`. Nothing is called complete before its
//! data is synced.

use super::hands::Hands;
use super::torrent::{Phase, Torrent};
use super::{Ending, Notice};
use crate::protocol::PieceIndex;
use crate::storage::keeper::{Job, JobKind, Saved};
use crate::storage::lazy_file;
use crate::storage::record::{Claim, LaidBlocks};
use crate::storage::slot::{StorageError, StorageTrouble};
use crate::swarm::Swarm;
use crate::swarm::event::{Moment, Verdict};

impl Torrent {
    /// A piece is good, for the first time.
    pub(super) fn verified(&mut self, piece: PieceIndex, now: Moment) {
        let files = self.layout.runs_of_piece(piece).map(|run| run.file);
        let (size, at) = (self.size_of(piece), lazy_file::now());
        self.saving.verified(piece, size, files, at, now);
    }

    /// A piece is good once more, after others wrote to its file.
    pub(super) fn verified_again(&mut self, piece: PieceIndex, now: Moment) {
        self.saving.keep(self.size_of(piece), now);
    }

    fn size_of(&self, piece: PieceIndex) -> u64 {
        u64::from(self.task.metainfo.geometry.piece_size(piece))
    }

    /// Hands the keeper a save of everything verified so far.
    pub(super) fn save(&mut self, hands: &mut Hands, now: Moment) {
        self.send_save(false, hands, now);
    }

    /// The same; `clean` says that nothing will be written after it.
    pub(super) fn send_save(&mut self, clean: bool, hands: &mut Hands, now: Moment) {
        let Some(swarm) = &self.swarm else { return };
        let laid = self.laid_blocks();
        let (have, laid) = self.saving.may_claim(swarm.have(), swarm.doubted(), laid);
        let standing = swarm.standing(now);
        let claim = Claim {
            have,
            laid,
            uploaded: self.totals_before.0 + standing.uploaded,
            downloaded: self.totals_before.1 + standing.downloaded,
            clean,
        };
        let (touched, verified) = self.saving.begin();
        let save = Job::Save {
            claim,
            touched,
            verified,
        };
        self.ask(save, hands);
    }

    /// The blocks of unfinished pieces that lie in their files.
    fn laid_blocks(&self) -> Vec<LaidBlocks> {
        let mut pieces: Vec<PieceIndex> = self.book.pieces().collect();
        pieces.sort_unstable();
        let laid = pieces.into_iter().map(|piece| {
            let mut blocks = LaidBlocks::new(&self.task.metainfo.geometry, piece);
            self.book
                .laid_in(piece)
                .for_each(|number| blocks.set(number));
            blocks
        });
        laid.filter(|blocks| blocks.numbers().next().is_some())
            .collect()
    }

    /// The keeper has saved, or could not.
    pub(super) fn saved(&mut self, saved: Saved, hands: &mut Hands, now: Moment) {
        if let Phase::Closing(_) = self.phase {
            return self.saved_while_leaving(saved, hands, now);
        }
        match saved {
            Saved::Safe { warning, watched } => {
                self.saving.done();
                if let Some(layout) = watched {
                    self.lies(layout, hands);
                }
                if let Some(text) = warning {
                    self.warn_once(&text, hands);
                }
                self.report_complete(hands, now);
            }
            Saved::Changed { files } => {
                self.saving.done();
                self.were_written_to(&files, hands, now);
            }
            Saved::Doubtful { error, check } => {
                self.saving.failed(now);
                self.doubt(error, check, hands);
            }
            Saved::Failed(error) => {
                self.saving.done();
                self.close(Ending::Storage(error), hands, now);
            }
        }
    }

    /// A failed sync is not tried again and believed: the system reports a lost write once and then
    /// shows the pages as clean. The keeper has dropped them from the cache; verified pieces are read
    /// back from the medium and hashed, blocks of unfinished ones are fetched again. A second failure
    /// ends the work.
    fn doubt(&mut self, error: StorageError, check: Vec<PieceIndex>, hands: &mut Hands) {
        // Nothing was lost, only nothing was synced, and it may be so again in a few seconds.
        if error.kind == StorageTrouble::Descriptors {
            return self.warn_of_descriptors(hands);
        }
        let check = self.saving.distrust(check, self.book.pieces());
        let text = format!("{error}; {} pieces are read back", check.len());
        self.warn(text, hands);
        for piece in check {
            let job = self.check_job(piece, false, hands);
            hands.checker.ask(job);
        }
    }

    /// A piece of which a sync had failed was read back.
    pub(super) fn read_back(
        &mut self,
        piece: PieceIndex,
        verdict: Verdict,
        hands: &mut Hands,
        now: Moment,
    ) {
        if verdict == Verdict::Good {
            return self.saving.was_read_back(piece, self.size_of(piece), now);
        }
        let cause = format!("piece {piece} was verified and is lost since a sync failed");
        let error = self.trouble(StorageTrouble::Broken, "keep data in", cause);
        self.close(Ending::Storage(error), hands, now);
    }

    /// Everything is here and on disk: says so once. What is verified and not synced is saved first. What was here
    /// and is lost is for the next run.
    pub(super) fn report_complete(&mut self, hands: &mut Hands, now: Moment) {
        if self.completed.is_none() || !self.prepared {
            return;
        }
        if let Some(error) = self.rehashes.lost() {
            return self.close(Ending::Storage(error), hands, now);
        }
        let in_doubt = |swarm: &Swarm| swarm.doubted().next().is_some();
        let waiting = self.saving.reads_back_any() || self.swarm.as_ref().is_some_and(in_doubt);
        let may_save = self.outstanding.may_ask(JobKind::Save);
        if waiting || self.announced_complete || !may_save {
            return;
        }
        if self.saving.is_behind() {
            if self.saving.may_begin(now) {
                self.save(hands, now);
            }
            return;
        }
        self.announced_complete = true;
        let snapshot = self.snapshot(now);
        let already = snapshot.downloaded == 0;
        hands.noticeboard.post(Notice::Complete {
            task: self.number,
            snapshot,
            already,
        });
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::rig::Rig;
    use crate::storage::keeper::Outcome;
    use std::time::Duration;

    #[test]
    fn a_record_that_cannot_be_written_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::lacking_the_last(folder.path(), |_| {});
        rig.notices();
        for _ in 0..3 {
            let warning = Some("the record of work is out of date".to_owned());
            let watched = None;
            rig.answer(Outcome::Saved(Saved::Safe { warning, watched }));
        }
        let told = rig.notices();
        let warnings = told
            .iter()
            .filter(|notice| matches!(notice, Notice::Warning { .. }));
        assert_eq!(warnings.count(), 1);
    }

    #[test]
    fn nothing_is_saved_while_the_keeper_makes_room() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::looking(folder.path(), |_| {});
        while let Phase::Checking(_) = rig.torrent.phase {
            rig.check();
        }
        // Peers are served meanwhile, and what they got belongs into the record.
        rig.torrent.saving.touch(rig.now);
        let due = rig.torrent.saving.wake_at().unwrap();
        rig.wake(due + Duration::from_secs(1));
        assert!(!rig.torrent.saving.is_under_way());
        rig.keep();
        let due = rig.torrent.wake_at().unwrap();
        rig.wake(due.max(rig.now));
        assert!(rig.torrent.saving.is_under_way());
    }
}
