//! Saving, and the way out: a good record, goodbyes to peers and trackers, one outcome.
//!
//! Nothing is called complete before its data is synced. Peers and trackers are waited for a few
//! seconds at most: a tracker that hangs must not keep a router from shutting down. The disk is
//! waited for as long as it takes, since a record must not claim what is not there.

use super::hands::Hands;
use super::torrent::{Phase, Torrent};
use super::{Ending, Notice};
use crate::net::Command;
use crate::protocol::PieceIndex;
use crate::storage::keeper::{Job, Saved};
use crate::storage::record::{Claim, LaidBlocks};
use crate::storage::slot::{StorageError, StorageTrouble};
use crate::swarm::event::{Farewell, Moment, Verdict};
use std::time::Duration;

/// How long peers and trackers are waited for.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// What is still to be waited for while leaving.
pub(super) struct Closing {
    ending: Ending,
    /// Later than this no peer and no tracker is waited for; `None` once it has passed.
    by: Option<Moment>,
    step: Step,
}

/// The steps out, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Peers hang up, a save that was under way is finished.
    Goodbyes,
    /// The record gets its last words, or goes.
    LastSave,
    /// The keeper lets go of the record.
    LettingGo,
    /// Only trackers may still be listening.
    Closed,
}

impl Closing {
    /// When patience ends.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.by
    }
}

impl Torrent {
    /// Hands the keeper a save of everything verified so far.
    pub(super) fn save(&mut self, hands: &mut Hands, now: Moment) {
        self.send_save(false, hands, now);
    }

    fn send_save(&mut self, clean: bool, hands: &mut Hands, now: Moment) {
        let Some(swarm) = &self.swarm else { return };
        self.saving.begin();
        self.unsaved.clear();
        let mut have = swarm.have().clone();
        self.doubted.iter().for_each(|piece| {
            have.clear(*piece);
        });
        let standing = swarm.standing(now);
        let claim = Claim {
            laid: self.laid_blocks(),
            have,
            uploaded: self.totals_before.0 + standing.uploaded,
            downloaded: self.totals_before.1 + standing.downloaded,
            clean,
        };
        let touched = std::mem::take(&mut self.touched);
        hands.keeper.ask(self.number, Job::Save { claim, touched });
    }

    /// The blocks of unfinished pieces that lie in their files.
    fn laid_blocks(&self) -> Vec<LaidBlocks> {
        let mut pieces: Vec<PieceIndex> = self.book.pieces().collect();
        pieces.retain(|piece| !self.shaky.contains(piece));
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
        if let Phase::Closing(closing) = &mut self.phase {
            self.saving.done();
            match saved {
                Saved::Safe { .. } => {}
                Saved::Doubtful { error, .. } | Saved::Failed(error) => {
                    closing.ending = Ending::Storage(error)
                }
            }
            return self.leave_on(hands, now);
        }
        match saved {
            Saved::Safe { warning } => {
                self.saving.done();
                if let Some(text) = warning {
                    hands.noticeboard.post(Notice::Warning {
                        task: Some(self.number),
                        text,
                    });
                }
                self.report_complete(hands, now);
            }
            Saved::Doubtful { error, check } => self.doubt(error, check, hands, now),
            Saved::Failed(error) => {
                self.saving.done();
                self.close(Ending::Storage(error), hands, now);
            }
        }
    }

    /// The keeper has removed the record, or could not.
    pub(super) fn removed(
        &mut self,
        outcome: Result<(), StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        self.saving.done();
        if let Err(error) = outcome {
            hands.noticeboard.post(Notice::Warning {
                task: Some(self.number),
                text: error.to_string(),
            });
        }
        self.leave_on(hands, now);
    }

    /// A failed sync is not tried again and believed: the system reports a lost write once and then
    /// shows the pages as clean. The keeper has dropped them from the cache; verified pieces are read
    /// back from the medium and hashed, blocks of unfinished ones are fetched again. What was written
    /// between the claim and the failure may be lost as well. A second failure ends the work.
    fn doubt(
        &mut self,
        error: StorageError,
        mut check: Vec<PieceIndex>,
        hands: &mut Hands,
        now: Moment,
    ) {
        self.saving.failed(now);
        // For lack of descriptors nothing was lost, only nothing was synced.
        if error.kind != StorageTrouble::Descriptors {
            check.extend(std::mem::take(&mut self.unsaved));
            self.shaky.extend(self.book.pieces());
        }
        let text = format!("{error}; {} pieces are read back", check.len());
        hands.noticeboard.post(Notice::Warning {
            task: Some(self.number),
            text,
        });
        for piece in check {
            self.doubted.insert(piece);
            let job = self.check_job(piece, false, hands);
            hands.checker.ask(job);
        }
    }

    /// A doubted piece was read back.
    pub(super) fn read_back(
        &mut self,
        piece: PieceIndex,
        verdict: Verdict,
        hands: &mut Hands,
        now: Moment,
    ) {
        if verdict == Verdict::Good {
            return self.saving.touch(now);
        }
        let cause = format!("piece {piece} was verified and is lost since a sync failed");
        let error = self.trouble(StorageTrouble::Broken, "keep data in", cause);
        self.close(Ending::Storage(error), hands, now);
    }

    /// Everything is here and on disk: says so once. What is verified and not synced is saved first.
    pub(super) fn report_complete(&mut self, hands: &mut Hands, now: Moment) {
        let waiting = self.completed.is_none() || !self.prepared || !self.doubted.is_empty();
        if waiting || self.announced_complete || self.saving.is_under_way() {
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

    /// Begins to leave. What is said in `ending` becomes the outcome, unless the last save fails.
    pub(super) fn close(&mut self, ending: Ending, hands: &mut Hands, now: Moment) {
        match self.phase {
            Phase::Closing(_) | Phase::Ended => return,
            Phase::Surveying | Phase::Checking(_) | Phase::Working => {}
        }
        for peer in hands.switchboard.of_torrent(self.number) {
            hands.tell(peer, Command::HangUp(Farewell::Leaving));
        }
        let totals = self.totals(now);
        self.announcing.say_stopped(totals);
        let by = Some(now + LEAVE_WITHIN);
        self.phase = Phase::Closing(Closing {
            ending,
            by,
            step: Step::Goodbyes,
        });
        self.leave_on(hands, now);
    }

    /// Takes the next step out, if what it waits for has happened.
    pub(super) fn leave_on(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        closing.by = closing.by.filter(|by| *by > now);
        let late = closing.by.is_none();
        if closing.step == Step::Goodbyes
            && !self.saving.is_under_way()
            && (late || hands.switchboard.of_torrent(self.number).is_empty())
        {
            closing.step = Step::LastSave;
            if self.swarm.is_none() || !self.prepared {
                // Nothing was done that the record does not say already.
            } else if closing.ending == Ending::Done {
                self.saving.begin();
                hands.keeper.ask(self.number, Job::Remove);
            } else {
                // Late goodbyes mean that a slot may still be out, and its file written to.
                self.send_save(!late, hands, now);
            }
        }
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        if closing.step == Step::LastSave && !self.saving.is_under_way() {
            closing.step = Step::LettingGo;
            hands.keeper.ask(self.number, Job::Close);
        }
        if closing.step == Step::Closed && (late || self.announcing.is_quiet()) {
            self.end(hands, now);
        }
    }

    /// The keeper has let go of the record.
    pub(super) fn let_go(&mut self, hands: &mut Hands, now: Moment) {
        if let Phase::Closing(closing) = &mut self.phase {
            closing.step = Step::Closed;
        }
        self.leave_on(hands, now);
    }

    /// Ends at once, without a last save: there is nobody left to save.
    pub(super) fn abandon(&mut self, cause: &str, hands: &Hands, now: Moment) {
        if self.has_ended() {
            return;
        }
        self.phase = Phase::Ended;
        let error = self.trouble(StorageTrouble::Broken, "keep", cause.to_owned());
        hands.noticeboard.post(Notice::Stopped {
            task: self.number,
            snapshot: self.snapshot(now),
            ending: Ending::Storage(error),
        });
    }

    fn end(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Closing(closing) = std::mem::replace(&mut self.phase, Phase::Ended) else {
            return;
        };
        hands.files.forget(self.info_hash());
        let snapshot = self.snapshot(now);
        hands.noticeboard.post(Notice::Stopped {
            task: self.number,
            snapshot,
            ending: closing.ending,
        });
    }
}
