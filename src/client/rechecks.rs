//! Checks that found no free file descriptor. Nothing is known of their pieces, and it passes when others
//! close a file: they are asked for again after a rest.
//!
//! ```text
//! rechecks.add(&done, now);
//! rechecks.due(now)                    // at rechecks.wake_at(): all that wait
//! ```

use super::Ending;
use super::hands::Hands;
use super::torrent::Torrent;
use crate::protocol::PieceIndex;
use crate::storage::check::{CheckDone, CheckJob};
use crate::storage::slot::StorageTrouble;
use crate::swarm::event::Moment;
use std::time::Duration;

/// Long enough to cost nothing, short enough that nobody notices.
const REST: Duration = Duration::from_secs(1);

/// The checks of a torrent that wait for descriptors.
#[derive(Debug, Default)]
pub(super) struct Rechecks {
    // Bound: the pieces of which a check is out.
    waiting: Vec<Lacking>,
    due: Option<Moment>,
}

/// What the check was that is asked for again.
#[derive(Debug)]
struct Lacking {
    piece: PieceIndex,
    by_block: bool,
    initial: bool,
}

impl Rechecks {
    /// This check lacked a descriptor.
    pub(super) fn add(&mut self, done: &CheckDone, now: Moment) {
        self.waiting.push(Lacking {
            piece: done.piece,
            by_block: done.by_block,
            initial: done.initial,
        });
        self.due.get_or_insert(now + REST);
    }

    /// When `due` has something.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        self.due
    }

    /// Everything that waits, if it has waited for long enough.
    fn due(&mut self, now: Moment) -> Vec<Lacking> {
        match self.due.take_if(|due| *due <= now) {
            Some(_) => std::mem::take(&mut self.waiting),
            None => Vec::new(),
        }
    }
}

impl Torrent {
    /// When the first look at what is there is given up, as nothing could be opened for too long.
    pub(super) fn stops_looking_at(&self) -> Option<Moment> {
        let lacks_descriptors = self.rechecks.wake_at().is_some();
        self.gives_up_at().filter(|_| lacks_descriptors)
    }

    /// Goes on with the first look, or gives it up.
    pub(super) fn look_on(&mut self, hands: &mut Hands, now: Moment) {
        if self.stops_looking_at().is_none_or(|end| end > now) {
            return self.check_again(hands, now);
        }
        let cause = "there were too many open files for too long".to_owned();
        let error = self.trouble(StorageTrouble::Descriptors, "check", cause);
        self.close(Ending::Storage(error), hands, now);
    }

    /// Asks for the checks again that have rested.
    pub(super) fn check_again(&mut self, hands: &mut Hands, now: Moment) {
        for lacking in self.rechecks.due(now) {
            let job = CheckJob {
                initial: lacking.initial,
                ..self.check_job(lacking.piece, lacking.by_block, hands)
            };
            hands.checker.ask(job);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::Notice;
    use crate::client::rig::{Rig, error};
    use crate::client::torrent::Phase;
    use crate::storage::keeper::{Outcome, Saved};
    use crate::swarm::event::Verdict;

    /// The checker found no descriptor, in place of what it found.
    fn lack_descriptors(rig: &mut Rig) -> CheckDone {
        let done = rig.checkers_answer();
        let lacking = CheckDone {
            verdict: Verdict::Unreadable,
            blocks: Vec::new(),
            error: Some(error(StorageTrouble::Descriptors)),
            ..done.clone()
        };
        rig.torrent.checked(lacking, &mut rig.hands, rig.now);
        done
    }

    fn warnings(rig: &Rig) -> usize {
        let told = rig.notices().into_iter();
        told.filter(|notice| matches!(notice, Notice::Warning { .. }))
            .count()
    }

    #[test]
    fn a_piece_that_cannot_be_opened_for_lack_of_descriptors_is_checked_again_after_a_rest() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::hashing_the_last(folder.path(), |_| {});
        warnings(&rig);
        let mut told = 0;
        for _ in 0..3 {
            let meant = lack_descriptors(&mut rig);
            assert_eq!(rig.torrent.wake_at(), Some(rig.now + REST));
            rig.wake(rig.now + REST);
            told += warnings(&rig);
            let done = lack_descriptors(&mut rig);
            assert_eq!(done, meant);
            rig.wake(rig.now + REST);
        }
        assert!(rig.torrent.takes_callers());
        assert_eq!(told, 1);
        rig.check();
        assert_eq!(rig.torrent.rechecks.wake_at(), None);
    }

    #[test]
    fn so_is_one_in_the_first_look_at_what_is_there_and_work_begins_with_all_that_is() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::looking(folder.path(), |_| {});
        for _ in 0..3 {
            lack_descriptors(&mut rig);
        }
        rig.check();
        assert!(matches!(rig.torrent.phase, Phase::Checking(_)));
        rig.wake(rig.now + REST);
        (0..3).for_each(|_| rig.check());
        rig.keep();
        assert!(rig.torrent.takes_callers());
        assert_eq!(rig.torrent.snapshot(rig.now).pieces_have, 3);
    }

    #[test]
    fn a_first_look_that_finds_no_descriptor_is_given_up_when_nothing_was_checked_for_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let timeout = Duration::from_secs(3);
        let mut rig = Rig::looking(folder.path(), |task| task.timeout = Some(timeout));
        lack_descriptors(&mut rig);
        lack_descriptors(&mut rig);
        rig.now += REST / 2;
        rig.check();
        let checked = rig.now;
        while let Phase::Checking(_) = rig.torrent.phase {
            lack_descriptors(&mut rig);
            let due = rig.torrent.wake_at();
            rig.wake(due.unwrap());
        }
        assert_eq!(rig.now, checked + timeout);
        let Ending::Storage(error) = rig.left() else {
            panic!("says why");
        };
        assert_eq!(error.kind, StorageTrouble::Descriptors);
    }

    #[test]
    fn so_is_one_that_is_read_back_after_a_failed_sync() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::lacking_the_last(folder.path(), |_| {});
        let doubted = rig.piece(0);
        let saved = Saved::Doubtful {
            error: error(StorageTrouble::Broken),
            check: vec![doubted],
        };
        rig.answer(Outcome::Saved(saved));
        lack_descriptors(&mut rig);
        assert!(rig.torrent.takes_callers() && rig.torrent.saving.reads_back(doubted));
        rig.wake(rig.now + REST);
        rig.check();
        assert!(rig.torrent.takes_callers() && !rig.torrent.saving.reads_back_any());
    }
}
