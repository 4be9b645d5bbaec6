//! Files that somebody else wrote to after they were whole: what they hold is hashed again before more of it is
//! sent, or called complete.
//!
//! ```text
//! noticed ── a rest ──► looked at anew ──► hashed … hashed ──► told
//! ```
//!
//! A peer's thread notices, which looks at a file's times before it sends anything of it, or the keeper when it
//! saves. From then on the brain keeps back what is asked of the file's pieces. Whoever writes may not be done: so
//! there is a rest, which becomes longer for a file that is written to again and again. All files that have rested go
//! through one round together: a piece may lie in several of them. The keeper looks at the others as well, for
//! whoever writes to one (`touch -R`) often writes to all, and a rest for each would keep peers waiting for hours.

use super::hands::Hands;
use super::torrent::{Phase, Torrent};
use super::{Ending, Role};
use crate::protocol::PieceIndex;
use crate::storage::check::CheckJob;
use crate::storage::keeper::{Job, JobKind, LookedAnew};
use crate::storage::lazy_file::written_to;
use crate::storage::slot::{StorageError, StorageTrouble};
use crate::swarm::event::{Event, Moment, Verdict};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// Whoever writes has time to finish. Longer than a tick of the clock that files have their times from, FAT's two
/// seconds excepted.
const REST: Duration = Duration::from_secs(1);

/// A file that is written to all the time is hashed once a minute.
const DOUBLINGS_MAX: u32 = 6;

/// The files of a torrent that others wrote to.
#[derive(Debug, Default)]
pub(super) struct Rehashes {
    // Bound: the torrent's files.
    waiting: BTreeMap<usize, Waiting>,
    round: Option<Round>,
    /// How often each file was noticed.
    noticed: BTreeMap<usize, u32>,
    /// The first error of a file that lost pieces, while others are still fetched.
    lost: Option<StorageError>,
}

/// A file that was noticed.
#[derive(Debug)]
struct Waiting {
    trouble: Noticed,
    due: Moment,
}

/// What was noticed of a file.
#[derive(Debug)]
struct Noticed {
    error: StorageError,
    /// Its bytes may be wrong although it is as the keeper knows it.
    suspect: bool,
}

/// Files that are being dealt with.
#[derive(Debug)]
struct Round {
    files: BTreeMap<usize, Noticed>,
    /// Those of them that nobody had noticed before the keeper looked. They have not rested.
    joined: BTreeSet<usize>,
    /// When they will have rested.
    rested: Moment,
    /// The keeper has looked at them.
    looked: bool,
    queue: VecDeque<PieceIndex>,
    // Bound: `Hands::looks_ahead`.
    in_flight: BTreeSet<PieceIndex>,
    bad: BTreeMap<PieceIndex, Verdict>,
}

impl Rehashes {
    /// A file is not as it was when its bytes were looked at. True if that was not known.
    fn notice(&mut self, file: usize, trouble: Noticed, now: Moment) -> bool {
        let round = self.round.as_mut().filter(|round| !round.looked);
        let in_round = round.and_then(|round| round.files.get_mut(&file));
        let waiting = self.waiting.get_mut(&file).map(|it| &mut it.trouble);
        if let Some(known) = waiting.or(in_round) {
            known.suspect |= trouble.suspect;
            return false;
        }
        let times = self.noticed.entry(file).or_default();
        let due = now + REST * (1 << (*times).min(DOUBLINGS_MAX));
        *times += 1;
        self.waiting.insert(file, Waiting { trouble, due });
        true
    }

    /// Why not everything is here once nothing more is to be fetched.
    pub(super) fn lost(&self) -> Option<StorageError> {
        self.lost.clone()
    }

    /// The first file that waits for a verdict.
    pub(super) fn unsettled(&self) -> Option<StorageError> {
        let round = self.round.iter().flat_map(|round| round.files.values());
        let mut noticed = round.chain(self.waiting.values().map(|it| &it.trouble));
        noticed.next().map(|it| it.error.clone())
    }

    /// Whether a file was noticed for the first time.
    fn is_first(&self, file: usize) -> bool {
        self.noticed.get(&file) == Some(&1)
    }

    /// Whether a round is under way.
    pub(super) fn are_under_way(&self) -> bool {
        self.round.is_some()
    }

    /// When a round begins.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        let due = self.waiting.values().map(|waiting| waiting.due).min();
        due.filter(|_| self.round.is_none())
    }

    /// Begins a round with the files that have rested, if there are any.
    fn begin(&mut self, now: Moment) -> Option<BTreeSet<usize>> {
        self.wake_at().filter(|due| *due <= now)?;
        let waiting = std::mem::take(&mut self.waiting);
        let (rested, waiting): (BTreeMap<_, _>, _) =
            waiting.into_iter().partition(|(_, it)| it.due <= now);
        self.waiting = waiting;
        let rested = rested.into_iter();
        let files: BTreeMap<_, _> = rested.map(|(file, it)| (file, it.trouble)).collect();
        let numbers = files.keys().copied().collect();
        self.round = Some(Round {
            files,
            joined: BTreeSet::new(),
            rested: now + REST,
            looked: false,
            queue: VecDeque::new(),
            in_flight: BTreeSet::new(),
            bad: BTreeMap::new(),
        });
        Some(numbers)
    }

    /// The keeper has found that these changed, too, which were only looked at beside the others. Those that were not
    /// known go through the same round.
    fn join(&mut self, files: BTreeMap<usize, StorageError>, now: Moment) -> BTreeSet<usize> {
        let mut joined = BTreeSet::new();
        if let Some(round) = &mut self.round {
            round.rested = now + REST;
        }
        for (file, error) in files {
            if let Some(waiting) = self.waiting.get_mut(&file) {
                // When it is looked at once more it will be as it was this time.
                waiting.trouble.suspect = true;
            } else if let Some(round) = &mut self.round {
                *self.noticed.entry(file).or_default() += 1;
                let suspect = true;
                round.files.insert(file, Noticed { error, suspect });
                round.joined.insert(file);
                joined.insert(file);
            }
        }
        joined
    }

    /// A piece that lies in these `files` is wrong. If one of them only joined the round, somebody may be at work on it
    /// just now: they rest, and go through the next round together.
    fn let_rest(&mut self, files: &[usize]) {
        let Some(round) = &mut self.round else { return };
        if !files.iter().any(|file| round.joined.contains(file)) {
            return;
        }
        for file in files {
            if let Some(trouble) = round.files.remove(file) {
                let due = round.rested;
                let waiting = self.waiting.entry(*file);
                let waiting = waiting.or_insert(Waiting { trouble, due });
                waiting.trouble.suspect = true;
            }
        }
    }
}

impl Torrent {
    /// A peer's thread could not send a block of a file to which we do not write.
    pub(super) fn was_written_to(
        &mut self,
        file: usize,
        error: StorageError,
        hands: &mut Hands,
        now: Moment,
    ) {
        // What could not be read may be wrong in a file that nobody wrote to.
        let suspect = error.kind != StorageTrouble::Vanished;
        self.notice(file, Noticed { error, suspect }, hands, now);
    }

    /// The keeper has seen that others wrote to these files before it knew them as they are.
    pub(super) fn were_written_to(
        &mut self,
        files: &BTreeSet<usize>,
        hands: &mut Hands,
        now: Moment,
    ) {
        for file in files {
            let error = written_to("vouch for", &self.layout.place(*file).path);
            let suspect = true;
            self.notice(*file, Noticed { error, suspect }, hands, now);
        }
    }

    fn notice(&mut self, file: usize, trouble: Noticed, hands: &mut Hands, now: Moment) {
        if !self.takes_callers() {
            return;
        }
        let error = &trouble.error;
        let text = format!("{error}; what it holds is hashed again before it is shared");
        if !self.rehashes.notice(file, trouble, now) {
            return;
        }
        if self.rehashes.is_first(file) {
            self.warn(text, hands);
        }
        self.withhold(&BTreeSet::from([file]), hands, now);
    }

    /// Nothing is sent of these files, nor claimed to be good, before it was hashed again.
    pub(super) fn withhold(&mut self, files: &BTreeSet<usize>, hands: &mut Hands, now: Moment) {
        let files = files.iter();
        let pieces = files.flat_map(|file| self.layout.runs_in(*file).map(|(piece, _)| piece));
        let pieces = pieces.collect();
        self.decide(Event::Doubted { pieces }, hands, now);
    }

    /// Has the keeper look at the files that have rested, and at what else we share.
    pub(super) fn look_at_what_changed(&mut self, hands: &mut Hands, now: Moment) {
        if !self.outstanding.may_ask(JobKind::LookAnew) {
            return;
        }
        let Some(mut files) = self.rehashes.begin(now) else {
            return;
        };
        if let Some(swarm) = &self.swarm {
            let has_some = |file| {
                let mut runs = self.layout.runs_in(file);
                runs.any(|(piece, _)| swarm.have().has(piece))
            };
            let others = (0..self.layout.files().len()).filter(|file| {
                let waits = self.rehashes.waiting.contains_key(file);
                !waits && self.layout.is_watched(*file) && has_some(*file)
            });
            files.extend(others);
        }
        self.ask(Job::LookAnew { files }, hands);
    }

    /// The keeper has looked. What is as it was after all is good; the rest goes to the checker.
    pub(super) fn looked_anew(
        &mut self,
        outcome: Result<LookedAnew, StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        if let Some(round) = &mut self.rehashes.round {
            round.looked = true;
        }
        let is_leaving = matches!(self.phase, Phase::Closing(_));
        match outcome {
            Ok(LookedAnew { changed, .. }) if is_leaving => {
                // Nobody waits for them to be hashed: the last save does not speak of them.
                self.withhold(&changed, hands, now);
                self.leave_on(hands, now);
            }
            Ok(looked) => self.sort_out(looked, hands, now),
            Err(_) if is_leaving => self.leave_on(hands, now),
            Err(error) => self.close(Ending::Storage(error), hands, now),
        }
    }

    fn sort_out(&mut self, looked: LookedAnew, hands: &mut Hands, now: Moment) {
        let LookedAnew { changed, layout } = looked;
        // Before anything can be sent of them as they are now.
        self.others_changed(&changed, hands, now);
        self.lies(layout, hands);
        let (Some(round), Some(swarm)) = (&mut self.rehashes.round, &self.swarm) else {
            return;
        };
        let doubted: BTreeSet<PieceIndex> = swarm.doubted().collect();
        let (mut suspect, mut known) = (BTreeSet::new(), BTreeSet::new());
        for (file, trouble) in &round.files {
            let pieces = self.layout.runs_in(*file).map(|(piece, _)| piece);
            let pieces = pieces.filter(|piece| doubted.contains(piece));
            match changed.contains(file) || trouble.suspect {
                true => suspect.extend(pieces),
                false => known.extend(pieces),
            }
        }
        round.queue = suspect.iter().copied().collect();
        for piece in known.difference(&suspect) {
            self.settle_doubt(*piece, Verdict::Good, hands, now);
        }
        self.hash_on(hands, now);
    }

    /// Takes those into the round that changed and were not noticed by anybody.
    fn others_changed(&mut self, changed: &BTreeSet<usize>, hands: &mut Hands, now: Moment) {
        let Some(round) = &self.rehashes.round else {
            return;
        };
        let others = changed
            .iter()
            .filter(|file| !round.files.contains_key(file));
        let errors = others.map(|file| {
            let path = &self.layout.place(*file).path;
            (*file, written_to("share", path))
        });
        let joined = self.rehashes.join(errors.collect(), now);
        let new = joined.iter().filter(|file| self.rehashes.is_first(**file));
        if let Some(first) = new.clone().next() {
            let path = self.layout.place(*first).path.display();
            let text = match new.count() {
                1 => format!("{path} was changed, too; it is hashed again as well"),
                all => format!(
                    "{path} and {} more files were changed, too; they are hashed again as well",
                    all - 1
                ),
            };
            self.warn(text, hands);
        }
        if !joined.is_empty() {
            self.withhold(&joined, hands, now);
        }
    }

    /// The checker has hashed a piece of a round.
    pub(super) fn hashed_again(
        &mut self,
        piece: PieceIndex,
        verdict: Verdict,
        hands: &mut Hands,
        now: Moment,
    ) {
        let Some(round) = &mut self.rehashes.round else {
            return;
        };
        round.in_flight.remove(&piece);
        if verdict != Verdict::Good {
            let runs = self.layout.runs_of_piece(piece);
            let files: Vec<usize> = runs.map(|run| run.file).collect();
            self.rehashes.let_rest(&files);
        }
        let is_settled = self.settle_doubt(piece, verdict.clone(), hands, now);
        if let Some(round) = &mut self.rehashes.round
            && is_settled
            && verdict != Verdict::Good
        {
            round.bad.insert(piece, verdict);
        }
        self.hash_on(hands, now);
    }

    /// Tells the brain, unless the piece also lies in a file that waits for the next round.
    fn settle_doubt(
        &mut self,
        piece: PieceIndex,
        verdict: Verdict,
        hands: &mut Hands,
        now: Moment,
    ) -> bool {
        let mut waits = false;
        for run in self.layout.runs_of_piece(piece) {
            if let Some(waiting) = self.rehashes.waiting.get_mut(&run.file) {
                // What is wrong now may be right when it has rested, and must not be taken for right unhashed.
                waiting.trouble.suspect |= verdict != Verdict::Good;
                waits = true;
            }
        }
        if waits {
            return false;
        }
        if verdict == Verdict::Good {
            self.verified_again(piece, now);
        }
        let blocks = Vec::new();
        let checked = Event::Checked {
            piece,
            verdict,
            blocks,
        };
        self.decide(checked, hands, now);
        true
    }

    /// Hands the next pieces to the checker; ends the round when there are no more.
    fn hash_on(&mut self, hands: &mut Hands, now: Moment) {
        while self.takes_callers()
            && let Some(round) = &mut self.rehashes.round
            && round.in_flight.len() < hands.looks_ahead()
            && let Some(piece) = round.queue.pop_front()
        {
            round.in_flight.insert(piece);
            let may_wait = !round.queue.is_empty();
            let job = CheckJob {
                initial: true,
                may_wait,
                ..self.check_job(piece, false, hands)
            };
            hands.checker.ask(job);
        }
        let is_over = |round: &mut Round| round.in_flight.is_empty() && round.queue.is_empty();
        if let Some(round) = self.rehashes.round.take_if(is_over) {
            self.tell_what_came(round, hands, now);
        }
    }

    /// Says of each file how it is. `get` fetches what it has never had, and ends if a piece is lost, as the next run
    /// fetches it; a seed shares what is left, if anything.
    fn tell_what_came(&mut self, round: Round, hands: &mut Hands, now: Moment) {
        let (mut lost, mut good) = (None, Vec::new());
        for (file, trouble) in round.files {
            let pieces: Vec<_> = self.layout.runs_in(file).map(|(piece, _)| piece).collect();
            let mut bad = pieces.iter().filter_map(|piece| round.bad.get(piece));
            let path = self.layout.place(file).path.display().to_string();
            let (all, count) = (pieces.len(), bad.clone().count());
            if count > 0 {
                let what = match bad.all(|it| *it == Verdict::Unreadable) {
                    true => "cannot be read",
                    false => "are no longer what the torrent says",
                };
                self.warn(
                    format!("{path}: {count} of {all} pieces {what}, and are not shared any more"),
                    hands,
                );
                lost.get_or_insert(trouble.error);
            } else if self.rehashes.is_first(file) {
                good.push(path);
            }
        }
        match good.as_slice() {
            [] => {}
            [path] => self.warn(format!("{path}: it is still what the torrent says"), hands),
            [path, others @ ..] => {
                let others = others.len();
                let text =
                    format!("{path} and {others} more: they are still what the torrent says");
                self.warn(text, hands);
            }
        }
        self.note_progress(now);
        // The record has the files as they were.
        self.saving.touch(now);
        let Some(error) = lost else { return };
        match self.task.role {
            Role::Get => {
                self.rehashes.lost.get_or_insert(error);
                self.report_complete(hands, now);
            }
            Role::Seed => {
                let left = self.swarm.as_ref().map(|swarm| swarm.have());
                if left.is_none_or(|left| left.is_empty()) {
                    self.close(Ending::Storage(error), hands, now);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::Notice;
    use crate::client::rig::{Rig, error};
    use crate::net::Happened;
    use crate::storage::check::CheckDone;
    use crate::storage::keeper::{Outcome, Saved};
    use crate::storage::test_torrent::Author;
    use std::fs::File;
    use std::path::{Path, PathBuf};

    const PIECE: usize = 16 * 1024;

    /// A seed of two files of three pieces, of which the middle one of six lies in both.
    struct Stand {
        rig: Rig,
        files: [PathBuf; 2],
        _folder: tempfile::TempDir,
    }

    fn seeding() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("album", PIECE as u32);
        author.file("a", &[1; 5 * PIECE / 2]);
        author.file("b", &[2; 5 * PIECE / 2]);
        let files = ["a", "b"].map(|name| folder.path().join("album").join(name));
        author.publish(folder.path());
        let rig = Rig::seeding(&author, folder.path());
        let mut stand = Stand {
            rig,
            files,
            _folder: folder,
        };
        stand.told();
        stand
    }

    /// Two files of two pieces, of which the second is still to be fetched.
    fn getting() -> Stand {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("album", PIECE as u32);
        author.file("a", &[1; 2 * PIECE]);
        author.file("b", &[2; 2 * PIECE]);
        let files = ["a", "b"].map(|name| folder.path().join("album").join(name));
        author.publish(folder.path());
        std::fs::remove_file(&files[1]).unwrap();
        let rig = Rig::getting(&author, folder.path());
        let mut stand = Stand {
            rig,
            files,
            _folder: folder,
        };
        stand.told();
        assert_eq!(stand.have(), [0, 1]);
        stand
    }

    fn overwrite(path: &Path, at: usize, bytes: &[u8]) {
        use std::os::unix::fs::FileExt;
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.write_all_at(bytes, at as u64).unwrap();
        touch(path);
    }

    fn touch(path: &Path) {
        let file = std::fs::File::options().write(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH)
            .unwrap();
    }

    impl Stand {
        fn notice(&mut self, file: usize) {
            let error = crate::storage::lazy_file::written_to("share", &self.files[file]);
            let (hands, now) = (&mut self.rig.hands, self.rig.now);
            self.rig.torrent.was_written_to(file, error, hands, now);
        }

        /// A peer's thread could not read a file.
        fn fail(&mut self, file: usize) {
            let error = crate::storage::lazy_file::written_to("share", &self.files[file]);
            let (hands, now) = (&mut self.rig.hands, self.rig.now);
            let peer = hands.switchboard.mint();
            let failed = Happened::Failed(error);
            self.rig.torrent.happened(peer, failed, hands, now);
        }

        /// The keeper has seen that others wrote to a file.
        fn changed(&mut self, file: usize) {
            let files = BTreeSet::from([file]);
            self.rig.answer(Outcome::Saved(Saved::Changed { files }));
        }

        /// Nothing more is to be fetched.
        fn complete(&mut self) {
            let (hands, now) = (&mut self.rig.hands, self.rig.now);
            self.rig.torrent.completed = Some(now);
            self.rig.torrent.report_complete(hands, now);
        }

        fn in_doubt(&self) -> Vec<u32> {
            let swarm = self.rig.torrent.swarm.as_ref().unwrap();
            swarm.doubted().map(|piece| piece.get()).collect()
        }

        fn have(&self) -> Vec<u32> {
            let torrent = &self.rig.torrent;
            let have = torrent.swarm.as_ref().unwrap().have();
            let pieces = have.pieces(torrent.layout.geometry());
            pieces.map(|piece| piece.get()).collect()
        }

        /// The files rest, and the keeper looks at them.
        fn look(&mut self) {
            let due = self.rig.torrent.rehashes.wake_at().unwrap();
            self.rig.wake(due);
            while !self.rig.torrent.outstanding.may_ask(JobKind::Save) {
                self.rig.keep();
            }
        }

        fn assert_both_files_are_right(&mut self) {
            assert!(self.in_doubt().is_empty());
            assert_eq!(self.have(), [0, 1, 2, 3, 4]);
            let told = self.told();
            assert!(
                told.len() == 1
                    && told[0].ends_with("/a and 1 more: they are still what the torrent says"),
                "{told:?}"
            );
        }

        /// The warnings since the last call, without the folder.
        fn told(&mut self) -> Vec<String> {
            let warnings = self.rig.notices().into_iter().filter_map(|it| match it {
                Notice::Warning { text, .. } => Some(text),
                _ => None,
            });
            warnings.collect()
        }
    }

    #[test]
    fn a_file_that_was_only_touched_is_hashed_once_and_told_of_twice() {
        let mut stand = seeding();
        touch(&stand.files[0]);
        for _ in 0..3 {
            stand.notice(0);
        }
        assert_eq!(stand.in_doubt(), [0, 1, 2]);
        let told = stand.told();
        assert!(
            told.len() == 1 && told[0].contains("it was written to meanwhile"),
            "{told:?}"
        );
        stand.look();
        for _ in 0..3 {
            stand.rig.check();
        }
        assert!(stand.in_doubt().is_empty());
        assert_eq!(stand.have(), [0, 1, 2, 3, 4]);
        let told = stand.told();
        assert!(
            told.len() == 1 && told[0].ends_with("/a: it is still what the torrent says"),
            "{told:?}"
        );
        assert!(stand.rig.torrent.rehashes.round.is_none() && stand.rig.torrent.takes_callers());
    }

    #[test]
    fn whoever_wrote_to_one_file_and_to_others_costs_one_rest_and_few_words() {
        let mut stand = seeding();
        stand.files.iter().for_each(|path| touch(path));
        stand.notice(0);
        assert_eq!(stand.in_doubt(), [0, 1, 2]);
        stand.told();
        stand.look();
        assert_eq!(stand.in_doubt(), [0, 1, 2, 3, 4]);
        let told = stand.told();
        assert!(
            told.len() == 1 && told[0].contains("/b was changed, too"),
            "{told:?}"
        );
        (0..5).for_each(|_| stand.rig.check());
        stand.assert_both_files_are_right();
        assert!(stand.rig.torrent.rehashes.round.is_none());
    }

    #[test]
    fn what_changed_beside_it_is_not_claimed_by_who_leaves_before_the_keeper_has_told_of_it() {
        let mut stand = seeding();
        touch(&stand.files[0]);
        overwrite(&stand.files[1], 0, &[9; 5 * PIECE / 2]);
        stand.notice(0);
        let due = stand.rig.torrent.rehashes.wake_at().unwrap();
        stand.rig.wake(due);
        let (hands, now) = (&mut stand.rig.hands, stand.rig.now);
        stand.rig.torrent.close(Ending::StoppedSharing, hands, now);
        assert_eq!(stand.rig.left(), Ending::StoppedSharing);
        assert!(stand.rig.next_survey().trusted.is_empty());
    }

    #[test]
    fn nothing_is_saved_while_the_keeper_looks_for_what_else_changed() {
        let mut stand = seeding();
        stand.files.iter().for_each(|path| touch(path));
        stand.notice(0);
        let due = stand.rig.torrent.rehashes.wake_at().unwrap();
        stand.rig.wake(due);
        let later = due + Duration::from_secs(10);
        stand.rig.wake(later);
        assert!(!stand.rig.torrent.saving.is_under_way());
        stand.rig.keep();
        stand.rig.torrent.wake(&mut stand.rig.hands, later);
        assert!(stand.rig.torrent.saving.is_under_way());
        assert_eq!(stand.in_doubt(), [0, 1, 2, 3, 4]);
    }

    #[test]
    fn a_file_that_was_away_while_the_keeper_looked_at_others_is_looked_at_once_more() {
        let mut stand = seeding();
        let aside = stand.files[1].with_extension("aside");
        touch(&stand.files[0]);
        std::fs::rename(&stand.files[1], &aside).unwrap();
        stand.notice(0);
        stand.look();
        (0..5).for_each(|_| stand.rig.check());
        std::fs::rename(&aside, &stand.files[1]).unwrap();
        // The piece in the middle lies in both, so nothing can be said of the other yet.
        assert_eq!(stand.in_doubt(), [2, 3, 4]);
        let told = stand.told();
        assert!(!told.iter().any(|it| it.contains("still")), "{told:?}");
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        stand.assert_both_files_are_right();
    }

    #[test]
    fn a_piece_that_is_read_back_meanwhile_stays_in_doubt_until_it_was_hashed_again() {
        let mut stand = getting();
        let error = error(StorageTrouble::Broken);
        let check = vec![stand.rig.piece(0)];
        let saved = Saved::Doubtful { error, check };
        stand.rig.answer(Outcome::Saved(saved));
        let read_back = stand.rig.checkers_answer();
        touch(&stand.files[0]);
        stand.notice(0);
        stand.look();
        let (hands, now) = (&mut stand.rig.hands, stand.rig.now);
        stand.rig.torrent.checked(read_back, hands, now);
        assert!(!stand.rig.torrent.saving.reads_back_any());
        assert_eq!(stand.in_doubt(), [0, 1]);
        (0..2).for_each(|_| stand.rig.check());
        assert!(stand.in_doubt().is_empty() && stand.rig.torrent.takes_callers());
    }

    #[test]
    fn what_was_cut_off_is_told_of_as_such_when_descriptors_were_short_at_first() {
        let mut stand = seeding();
        let cut = File::options().write(true).open(&stand.files[0]).unwrap();
        cut.set_len(0).unwrap();
        stand.notice(0);
        stand.look();
        for _ in 0..3 {
            let lacking = CheckDone {
                verdict: Verdict::Unreadable,
                error: Some(error(StorageTrouble::Descriptors)),
                ..stand.rig.checkers_answer()
            };
            let (hands, now) = (&mut stand.rig.hands, stand.rig.now);
            stand.rig.torrent.checked(lacking, hands, now);
        }
        let due = stand.rig.torrent.rechecks.wake_at().unwrap();
        stand.rig.wake(due);
        (0..3).for_each(|_| stand.rig.check());
        let told = stand.told();
        let expected =
            "/a: 3 of 3 pieces are no longer what the torrent says, and are not shared any more";
        assert!(told.last().unwrap().ends_with(expected), "{told:?}");
    }

    #[test]
    fn but_only_once() {
        let mut stand = seeding();
        touch(&stand.files[0]);
        std::fs::remove_file(&stand.files[1]).unwrap();
        stand.notice(0);
        stand.look();
        (0..5).for_each(|_| stand.rig.check());
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        assert!(stand.in_doubt().is_empty());
        assert_eq!(stand.have(), [0, 1]);
        assert_eq!(stand.rig.torrent.rehashes.wake_at(), None);
    }

    #[test]
    fn what_is_wrong_is_not_believed_because_its_file_was_noticed_again_meanwhile() {
        let mut stand = seeding();
        overwrite(&stand.files[0], PIECE + 7, b"others");
        stand.notice(0);
        stand.look();
        // Seen by a thread that knew the file as it was in the beginning.
        stand.notice(0);
        (0..3).for_each(|_| stand.rig.check());
        assert_eq!(stand.in_doubt(), [0, 1, 2]);
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        assert!(stand.in_doubt().is_empty());
        assert_eq!(stand.have(), [0, 2, 3, 4]);
    }

    #[test]
    fn what_cannot_be_read_is_not_said_to_be_something_else() {
        let mut stand = seeding();
        std::fs::remove_file(&stand.files[0]).unwrap();
        std::fs::create_dir(&stand.files[0]).unwrap();
        stand.notice(0);
        stand.told();
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        let told = stand.told();
        assert!(
            told.len() == 1 && told[0].contains("/a: 3 of 3 pieces cannot be read"),
            "{told:?}"
        );
    }

    #[test]
    fn what_nobody_wrote_to_since_it_was_hashed_is_not_hashed_again() {
        let mut stand = seeding();
        stand.notice(0);
        stand.look();
        assert!(stand.in_doubt().is_empty());
        assert!(stand.rig.torrent.rehashes.round.is_none());
    }

    #[test]
    fn of_a_file_that_was_overwritten_the_pieces_that_are_still_right_are_shared() {
        let mut stand = seeding();
        overwrite(&stand.files[0], PIECE + 7, b"others");
        stand.notice(0);
        stand.told();
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        assert_eq!(stand.have(), [0, 2, 3, 4]);
        let told = stand.told();
        assert!(
            told[0].contains("/a: 1 of 3 pieces are no longer what the torrent says"),
            "{told:?}"
        );
        assert!(stand.rig.torrent.takes_callers());
    }

    #[test]
    fn a_file_that_was_deleted_costs_its_pieces_and_nothing_left_ends_the_seed() {
        let mut stand = seeding();
        std::fs::remove_file(&stand.files[0]).unwrap();
        stand.notice(0);
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        assert_eq!(stand.have(), [3, 4]);
        overwrite(&stand.files[1], 0, &[9; 5 * PIECE / 2]);
        stand.notice(1);
        stand.look();
        (0..2).for_each(|_| stand.rig.check());
        let ending = stand.rig.left();
        let Ending::Storage(error) = ending else {
            panic!("{ending:?}");
        };
        assert_eq!(error.path, stand.files[1]);
    }

    #[test]
    fn a_download_that_has_lost_a_piece_fetches_the_rest_and_then_says_what_was_written_to() {
        let mut stand = getting();
        overwrite(&stand.files[0], PIECE + 7, b"others");
        stand.fail(0);
        assert_eq!(stand.in_doubt(), [0, 1]);
        stand.look();
        (0..2).for_each(|_| stand.rig.check());
        assert_eq!(stand.have(), [0]);
        assert!(stand.rig.torrent.takes_callers());
        let snapshot = stand.rig.torrent.snapshot(stand.rig.now);
        assert_eq!(snapshot.wanted_have, PIECE as u64);
        stand.complete();
        let ending = stand.rig.left();
        let Ending::Storage(error) = ending else {
            panic!("{ending:?}");
        };
        assert_eq!(error.path, stand.files[0]);
        assert_eq!(stand.rig.next_survey().trusted.count(), 1);
    }

    #[test]
    fn a_file_that_is_still_written_to_and_cannot_be_read_ends_a_download() {
        let mut stand = getting();
        stand.fail(1);
        let ending = stand.rig.left();
        assert!(matches!(ending, Ending::Storage(_)), "{ending:?}");
    }

    #[test]
    fn what_the_keeper_found_changed_is_hashed_although_it_has_not_changed_since() {
        for bad in [false, true] {
            let mut stand = getting();
            if bad {
                overwrite(&stand.files[0], PIECE + 7, b"others");
                stand.notice(0);
                stand.look();
                // Whatever these say is older than what the keeper finds.
                (0..2).for_each(|_| drop(stand.rig.checkers_answer()));
                stand.rig.torrent.rehashes.round = None;
            }
            stand.changed(0);
            stand.complete();
            assert_eq!(stand.in_doubt(), [0, 1]);
            assert!(!stand.rig.torrent.announced_complete);
            stand.look();
            (0..2).for_each(|_| stand.rig.check());
            assert_eq!(stand.rig.torrent.takes_callers(), !bad);
            if !bad {
                // What was hashed again is saved before anything is called complete.
                let (hands, now) = (&mut stand.rig.hands, stand.rig.now);
                stand.rig.torrent.report_complete(hands, now);
                assert!(!stand.rig.torrent.announced_complete);
                stand.rig.keep();
                assert!(stand.rig.torrent.announced_complete);
            }
        }
    }

    /// Everything is here and shared, until `ending` by itself or somebody else's doing.
    fn leaves(ending: Ending, meanwhile: impl FnOnce(&mut Stand)) -> (Ending, u32) {
        let folder = tempfile::tempdir().unwrap();
        let mut author = Author::new("album", PIECE as u32);
        author.file("a", &[1; 2 * PIECE]);
        author.file("b", &[2; 2 * PIECE]);
        let files = ["a", "b"].map(|name| folder.path().join("album").join(name));
        author.publish(folder.path());
        let mut stand = Stand {
            rig: Rig::getting(&author, folder.path()),
            files,
            _folder: folder,
        };
        stand.complete();
        assert!(stand.rig.torrent.announced_complete);
        meanwhile(&mut stand);
        let (hands, now) = (&mut stand.rig.hands, stand.rig.now);
        stand.rig.torrent.close(ending, hands, now);
        let ending = stand.rig.left();
        (ending, stand.rig.next_survey().trusted.count())
    }

    #[test]
    fn who_has_shared_does_not_end_well_when_others_have_written_to_a_file_that_nobody_asked_for() {
        for ending in [Ending::Done, Ending::StoppedSharing] {
            let written = |stand: &mut Stand| overwrite(&stand.files[0], 7, b"others");
            let (ended, trusted) = leaves(ending.clone(), written);
            assert!(matches!(ended, Ending::Storage(_)), "{ended:?}");
            assert_eq!(trusted, 2);
            let deleted = |stand: &mut Stand| std::fs::remove_file(&stand.files[0]).unwrap();
            let (ended, _) = leaves(ending.clone(), deleted);
            assert!(matches!(ended, Ending::Storage(_)), "{ended:?}");
            assert_eq!(leaves(ending.clone(), |_| {}).0, ending);
        }
    }

    #[test]
    fn nor_when_what_they_wrote_to_has_not_been_hashed_again() {
        let (ended, trusted) = leaves(Ending::StoppedSharing, |stand| {
            touch(&stand.files[0]);
            stand.notice(0);
        });
        assert!(matches!(ended, Ending::Storage(_)), "{ended:?}");
        assert_eq!(trusted, 2);
    }

    #[test]
    fn a_piece_of_two_files_waits_until_both_were_looked_at() {
        let mut stand = seeding();
        touch(&stand.files[0]);
        stand.notice(0);
        stand.look();
        overwrite(&stand.files[1], 0, b"others");
        stand.notice(1);
        (0..3).for_each(|_| stand.rig.check());
        assert_eq!(stand.in_doubt(), [2, 3, 4]);
        stand.look();
        (0..3).for_each(|_| stand.rig.check());
        assert_eq!(stand.have(), [0, 1, 3, 4]);
    }

    #[test]
    fn a_file_that_is_written_to_again_and_again_rests_longer_each_time_and_is_told_of_once() {
        let mut stand = seeding();
        let mut rests = Vec::new();
        for _ in 0..9 {
            stand.notice(0);
            let due = stand.rig.torrent.rehashes.wake_at().unwrap();
            rests.push((due - stand.rig.now).as_secs());
            stand.look();
        }
        assert_eq!(rests, [1, 2, 4, 8, 16, 32, 64, 64, 64]);
        assert_eq!(stand.told().len(), 2);
    }

    #[test]
    fn what_is_in_doubt_is_not_in_the_record_and_what_was_hashed_again_is() {
        for hashed in [false, true] {
            let mut stand = seeding();
            touch(&stand.files[0]);
            stand.notice(0);
            if hashed {
                stand.look();
                (0..3).for_each(|_| stand.rig.check());
            }
            let Rig {
                torrent,
                hands,
                now,
                ..
            } = &mut stand.rig;
            torrent.close(Ending::StoppedSharing, hands, *now);
            stand.rig.left();
            let trusted = stand.rig.next_survey().trusted;
            let expected = if hashed { 5 } else { 2 };
            assert_eq!(trusted.count(), expected);
        }
    }
}
