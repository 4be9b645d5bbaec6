//! The way out: goodbyes to peers and trackers, a good record, one outcome.
//!
//! Peers and trackers are waited for a few seconds at most: a tracker that hangs must not keep a
//! router from shutting down. The disk is waited for as long as it takes, since a record must not
//! claim what is not there. How a save is made is in `saves.rs`.

use super::hands::Hands;
use super::torrent::{Phase, Torrent};
use super::{Ending, Notice, Role};
use crate::net::Command;
use crate::storage::keeper::{Job, Saved};
use crate::storage::layout::Layout;
use crate::storage::lazy_file::written_to;
use crate::storage::slot::{StorageError, StorageTrouble};
use crate::swarm::event::{Farewell, Moment};
use std::time::Duration;

/// How long peers and trackers are waited for.
pub(super) const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// How often the last save is tried that lacks descriptors, and what lies between: ours are free now, so
/// others have them, and may have ended a moment later.
const DESCRIPTORS_TRIES: u32 = 5;
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What is still to be waited for while leaving.
pub(super) struct Closing {
    ending: Ending,
    /// Later than this no peer and no tracker is waited for; `None` once it has passed.
    by: Option<Moment>,
    step: Step,
    /// How often the last save has lacked descriptors.
    tries: u32,
    /// When it is tried again.
    try_again: Option<Moment>,
}

/// The steps out, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Peers hang up, and the keeper finishes what it was at.
    Goodbyes,
    /// The record gets its last words, or goes.
    LastSave,
    /// The keeper lets go of the record.
    LettingGo,
    /// Only trackers may still be listening.
    Closed,
}

impl Closing {
    /// When patience ends, or the last save is tried again.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.by.into_iter().chain(self.try_again).min()
    }

    /// Whether the record can go when we leave. Of what lies aside nothing but the record tells whose it is, nor of a
    /// chosen file that shares all its pieces with others.
    fn needs_no_record(&self, layout: &Layout) -> bool {
        self.ending == Ending::Done && !layout.keeps_aside()
    }

    /// Somebody wrote to a file of ours: what was right when it was complete may not be so any more.
    fn found_changed(&mut self, error: StorageError) {
        if matches!(self.ending, Ending::Done | Ending::StoppedSharing) {
            self.ending = Ending::Storage(error);
        }
    }

    /// A save could not open a file: nothing is lost by it. The last save makes up for one before it,
    /// and is itself tried again.
    fn lacked_descriptors(&mut self, error: StorageError, now: Moment) {
        if self.step != Step::LastSave {
            return;
        }
        self.tries += 1;
        if self.tries < DESCRIPTORS_TRIES {
            self.try_again = Some(now + TRY_AGAIN_AFTER);
        } else {
            self.ending = Ending::Storage(error);
        }
    }
}

impl Torrent {
    /// The last save must not claim what a failed sync before it may have lost: a second sync finds the
    /// pages clean and succeeds.
    pub(super) fn saved_while_leaving(&mut self, saved: Saved, hands: &mut Hands, now: Moment) {
        self.saving.done();
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        match saved {
            Saved::Safe { warning, .. } => {
                // Of a save before the last one it is out of date.
                let last = closing.step == Step::LastSave;
                if let Some(text) = warning.filter(|_| last) {
                    let task = Some(self.number);
                    hands.noticeboard.post(Notice::Warning { task, text });
                }
                if last && closing.needs_no_record(&self.layout) {
                    return self.ask(Job::Remove, hands);
                }
            }
            // Nobody waits for them to be hashed: the record does not speak of them, and the next run looks.
            Saved::Changed { files } => {
                let path = files.first().map(|file| &self.layout.place(*file).path);
                if let Some(path) = path {
                    closing.found_changed(written_to("vouch for", path));
                }
                self.withhold(&files, hands, now);
            }
            Saved::Doubtful { error, .. } if error.kind == StorageTrouble::Descriptors => {
                closing.lacked_descriptors(error, now);
            }
            Saved::Doubtful { error, check } => {
                closing.ending = Ending::Storage(error);
                self.saving.distrust(check, self.book.pieces());
            }
            Saved::Failed(error) => closing.ending = Ending::Storage(error),
        }
        self.leave_on(hands, now);
    }

    /// The keeper has removed the record, or could not.
    pub(super) fn removed(
        &mut self,
        outcome: Result<(), StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        if let Err(error) = outcome {
            self.warn(error.to_string(), hands);
        }
        self.leave_on(hands, now);
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
        let mut closing = Closing {
            ending,
            by,
            step: Step::Goodbyes,
            tries: 0,
            try_again: None,
        };
        if let Some(error) = self.rehashes.unsettled()
            && self.task.role == Role::Get
        {
            closing.found_changed(error);
        }
        self.phase = Phase::Closing(closing);
        self.leave_on(hands, now);
    }

    /// Takes the next step out, if what it waits for has happened.
    pub(super) fn leave_on(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        // Whoever leaves as soon as everything is here has just looked.
        let has_shared = self.task.sharing.time != Some(Duration::ZERO);
        let looks_back = self.task.role == Role::Get && has_shared;
        closing.by = closing.by.filter(|by| *by > now);
        let late = closing.by.is_none();
        if closing.step == Step::Goodbyes
            && self.outstanding.is_idle()
            && (late || hands.switchboard.of_torrent(self.number).is_empty())
        {
            closing.step = Step::LastSave;
            let record_goes = closing.needs_no_record(&self.layout);
            if self.swarm.is_none() || !self.prepared {
                // Nothing was done that the record does not say already.
            } else if record_goes && !looks_back {
                self.ask(Job::Remove, hands);
            } else {
                self.save_last(hands, now);
            }
        }
        let Phase::Closing(closing) = &mut self.phase else {
            return;
        };
        if closing.step == Step::LastSave && self.outstanding.is_idle() {
            if closing.try_again.is_some_and(|due| due > now) {
                return;
            }
            if closing.try_again.take().is_some() {
                return self.save_last(hands, now);
            }
            closing.step = Step::LettingGo;
            self.ask(Job::Close, hands);
            return;
        }
        if closing.step == Step::Closed && (late || self.announcing.is_quiet()) {
            self.end(hands, now);
        }
    }

    fn save_last(&mut self, hands: &mut Hands, now: Moment) {
        // Whoever has not hung up may still have a slot, and write to its file.
        let clean = hands.switchboard.of_torrent(self.number).is_empty();
        self.send_save(clean, hands, now);
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::rig::{Rig, error};
    use crate::protocol::PieceIndex;
    use crate::storage::check::CheckDone;
    use crate::storage::keeper::Outcome;
    use crate::storage::record::{self, Record};
    use crate::swarm::event::Verdict;
    use std::net::TcpListener;

    #[test]
    fn who_leaves_while_the_keeper_looks_what_is_there_or_makes_room_ends_when_it_has_answered() {
        for makes_room in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut rig = Rig::surveying(folder.path(), |_| {});
            if makes_room {
                rig.keep();
                while let Phase::Checking(_) = rig.torrent.phase {
                    rig.check();
                }
            }
            assert!(!rig.torrent.outstanding.is_idle());
            rig.torrent
                .close(Ending::Interrupted, &mut rig.hands, rig.now);
            assert_eq!(rig.left(), Ending::Interrupted);
        }
    }

    fn three_of_four(folder: &tempfile::TempDir) -> Rig {
        Rig::lacking_the_last(folder.path(), |_| {})
    }

    /// A save is under way while goodbyes are said; `saved` is what comes of it.
    fn leave_with(rig: &mut Rig, saved: Saved) {
        rig.torrent.save(&mut rig.hands, rig.now);
        rig.keepers_answer();
        rig.torrent
            .close(Ending::Interrupted, &mut rig.hands, rig.now);
        rig.answer(Outcome::Saved(saved));
    }

    #[test]
    fn the_last_record_says_that_nothing_was_written_after_it_only_if_every_peer_has_gone() {
        for gone in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let mut rig = three_of_four(&folder);
            let ear = TcpListener::bind(("127.0.0.1", 0)).unwrap();
            let introduction = rig.torrent.introduction();
            let address = ear.local_addr().unwrap();
            rig.hands.dial(0, address, introduction).unwrap();
            rig.torrent
                .close(Ending::Interrupted, &mut rig.hands, rig.now);
            if gone {
                rig.hands.switchboard.flush();
                let peers = rig.hands.switchboard.everyone();
                peers.into_iter().for_each(|peer| {
                    rig.hands.switchboard.disconnect(peer);
                });
            }
            rig.wake(LEAVE_WITHIN);
            rig.left();
            let layout = &rig.torrent.layout;
            let path = folder.path().join(record::file_name(layout.name()));
            let bytes = std::fs::read(path).unwrap();
            let (hash, files) = (layout.info_hash(), layout.files().len());
            let record = Record::decode(&bytes, hash, layout.geometry(), files).unwrap();
            assert_eq!(record.claim.clean, gone);
            rig.hands.switchboard.flush();
        }
    }

    fn doubtful(kind: StorageTrouble, check: Vec<PieceIndex>) -> Saved {
        let error = error(kind);
        Saved::Doubtful { error, check }
    }

    #[test]
    fn what_a_sync_lost_while_leaving_is_not_claimed_by_the_last_save() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = three_of_four(&folder);
        let (lost, later) = (rig.piece(0), rig.piece(1));
        let block = rig.block(3, 0);
        rig.torrent.save(&mut rig.hands, rig.now);
        rig.keep();
        rig.torrent.book.mark_laid(block);
        rig.torrent.save(&mut rig.hands, rig.now);
        rig.keepers_answer();
        rig.torrent.verified(later, rig.now);
        rig.torrent
            .close(Ending::Interrupted, &mut rig.hands, rig.now);
        let saved = doubtful(StorageTrouble::Broken, vec![lost]);
        rig.answer(Outcome::Saved(saved));
        assert_eq!(rig.left(), Ending::Storage(error(StorageTrouble::Broken)));
        let survey = rig.next_survey();
        assert!(!survey.trusted.has(lost) && !survey.trusted.has(later));
        assert!(survey.trusted.has(rig.piece(2)));
        assert!(survey.laid.is_empty());
    }

    #[test]
    fn a_record_that_the_last_save_could_not_write_is_warned_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = three_of_four(&folder);
        rig.notices();
        let warned = |text: &str| Saved::Safe {
            warning: Some(text.to_owned()),
            watched: None,
        };
        leave_with(&mut rig, warned("the record is not written"));
        assert!(matches!(rig.keepers_answer(), Outcome::Saved(_)));
        let saved = warned("the record is still not written");
        rig.answer(Outcome::Saved(saved));
        let told = rig.notices().into_iter().filter_map(|notice| match notice {
            Notice::Warning { text, .. } => Some(text),
            _ => None,
        });
        let told: Vec<String> = told.collect();
        assert_eq!(told, ["the record is still not written"]);
        assert_eq!(rig.left(), Ending::Interrupted);
    }

    #[test]
    fn a_piece_that_was_read_back_wrong_is_not_claimed_by_the_last_save() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = three_of_four(&folder);
        let lost = rig.piece(0);
        let saved = doubtful(StorageTrouble::Broken, vec![lost]);
        rig.torrent.save(&mut rig.hands, rig.now);
        rig.keepers_answer();
        rig.answer(Outcome::Saved(saved));
        let done = CheckDone {
            verdict: Verdict::Bad,
            ..rig.checkers_answer()
        };
        rig.torrent.checked(done, &mut rig.hands, rig.now);
        assert!(matches!(rig.left(), Ending::Storage(_)));
        let survey = rig.next_survey();
        assert!(!survey.trusted.has(lost) && survey.trusted.has(rig.piece(1)));
    }

    #[test]
    fn nothing_is_claimed_of_a_file_of_which_others_have_taken_bytes_away() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::hashing_the_last(folder.path(), |_| {});
        let done = CheckDone {
            verdict: Verdict::Unreadable,
            blocks: Vec::new(),
            error: Some(error(StorageTrouble::Vanished)),
            ..rig.checkers_answer()
        };
        rig.torrent.checked(done, &mut rig.hands, rig.now);
        assert!(matches!(rig.left(), Ending::Storage(_)));
        let survey = rig.next_survey();
        assert!(survey.trusted.is_empty() && survey.laid.is_empty());
    }

    #[test]
    fn a_save_that_lacked_descriptors_is_done_again_by_the_last_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = three_of_four(&folder);
        leave_with(&mut rig, doubtful(StorageTrouble::Descriptors, Vec::new()));
        assert_eq!(rig.left(), Ending::Interrupted);
        let trusted = rig.next_survey().trusted;
        assert!((0..3).all(|number| trusted.has(rig.piece(number))));
    }

    #[test]
    fn a_last_save_that_lacks_descriptors_is_tried_a_few_times_with_a_rest_between() {
        for failures in 1..=DESCRIPTORS_TRIES {
            let folder = tempfile::tempdir().unwrap();
            let mut rig = three_of_four(&folder);
            rig.torrent
                .close(Ending::Interrupted, &mut rig.hands, rig.now);
            for _ in 0..failures {
                assert!(matches!(rig.keepers_answer(), Outcome::Saved(_)));
                let saved = doubtful(StorageTrouble::Descriptors, Vec::new());
                rig.answer(Outcome::Saved(saved));
                if let Some(due) = rig
                    .torrent
                    .wake_at()
                    .filter(|due| *due < rig.now + LEAVE_WITHIN)
                {
                    rig.wake(due);
                }
            }
            let given_up = failures == DESCRIPTORS_TRIES;
            let expected = match given_up {
                true => Ending::Storage(error(StorageTrouble::Descriptors)),
                false => Ending::Interrupted,
            };
            assert_eq!(rig.left(), expected, "after {failures}");
        }
    }
}
