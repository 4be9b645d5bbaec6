//! One torrent under the coordinator's care: from the first look at the disk to the last goodbye.
//!
//! ```text
//! Surveying → Checking → Working → Closing → Ended
//! ```
//!
//! A torrent is surveyed (what do the disk and the record say?), checked (what must be hashed?), then
//! its brain is made and the real work begins, while the keeper still allocates. It closes when
//! sharing ends, when something is beyond mending, or when the user says so. The way in is `opening.rs`,
//! the way out `leaving.rs`; what the brain decides is carried out in `acting.rs`, and what it found good goes to
//! the disk in `saves.rs`.

use super::announcing::Announcing;
use super::hands::Hands;
use super::opening::Checking;
use super::rechecks::Rechecks;
use super::rehashes::Rehashes;
use super::saving::Saving;
use super::{Ending, Role, Snapshot, Task};
use crate::client::Notice;
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use crate::storage::keeper::{Job, JobKind, Outcome, Outstanding};
use crate::storage::layout::Layout;
use crate::storage::slot::{SlotBook, StorageError, StorageTrouble};
use crate::swarm::allowance::{Allowance, Need};
use crate::swarm::event::{Event, Moment};
use crate::swarm::{Limits, Swarm};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Figures are shown at most so often.
pub(super) const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// With nobody here and nobody to ask, so long we wait for a caller all the same.
const WAIT_FOR_CALLERS: Duration = Duration::from_secs(10);

/// How far a torrent has come.
pub(super) enum Phase {
    /// The keeper looks at the disk.
    Surveying,
    /// Data is hashed before work begins.
    Checking(Box<Checking>),
    /// The brain is at work: downloading or sharing.
    Working,
    /// Leaving: goodbyes and the last save are under way.
    Closing(super::leaving::Closing),
    /// Nothing more will happen.
    Ended,
}

/// One torrent and everything the coordinator knows about it.
pub(super) struct Torrent {
    pub(super) number: usize,
    pub(super) task: Task,
    pub(super) id: PeerId,
    pub(super) layout: Arc<Layout>,
    pub(super) phase: Phase,
    pub(super) swarm: Option<Swarm>,
    pub(super) book: SlotBook,
    pub(super) announcing: Announcing,
    /// What the keeper was asked and has not answered.
    pub(super) outstanding: Outstanding,
    pub(super) saving: Saving,
    pub(super) rechecks: Rechecks,
    pub(super) rehashes: Rehashes,
    /// Peers connected.
    pub(super) peers: usize,
    /// What the user was told that may happen again.
    pub(super) warned: BTreeSet<String>,
    /// Payload served and fetched in earlier runs, in bytes.
    pub(super) totals_before: (u64, u64),
    pub(super) started: Moment,
    pub(super) completed: Option<Moment>,
    /// Since when `seed` serves what is there.
    pub(super) serving: Option<Moment>,
    /// The user has been told that it is complete.
    pub(super) announced_complete: bool,
    pub(super) last_arrival: Moment,
    pub(super) lonely_since: Option<Moment>,
    pub(super) prepared: bool,
    pub(super) paused: bool,
    pub(super) progress_due: Option<Moment>,
    pub(super) progress_at: Moment,
}

impl Torrent {
    /// The torrent's name on the network.
    pub(super) fn info_hash(&self) -> InfoHash {
        self.task.metainfo.info_hash
    }

    /// Whether callers may join.
    pub(super) fn takes_callers(&self) -> bool {
        matches!(self.phase, Phase::Working)
    }

    /// Whether it has as many connections as it may have, and one of them would make room for a caller.
    pub(super) fn would_replace(&self, now: Moment) -> bool {
        let swarm = self.swarm.as_ref();
        swarm.is_some_and(|swarm| swarm.would_replace(now))
    }

    /// Whether a stop from outside is no interruption: nothing more was to be fetched.
    pub(super) fn is_sharing(&self) -> bool {
        self.announced_complete || self.task.role == Role::Seed && self.takes_callers()
    }

    /// What it can make of a share of connections and slots.
    pub(super) fn need(&self) -> Need {
        match self.phase {
            Phase::Working if self.completed.is_none() && self.task.role == Role::Get => Need::Busy,
            Phase::Working => Need::Idle,
            Phase::Surveying | Phase::Checking(_) | Phase::Closing(_) | Phase::Ended => {
                Need::Nothing
            }
        }
    }

    /// Whether it has the checker look through what lies there, at the start or once more.
    pub(super) fn looks(&self) -> bool {
        matches!(self.phase, Phase::Checking(_)) || self.rehashes.are_under_way()
    }

    /// Its share has changed.
    pub(super) fn keep_to(&mut self, share: Allowance) {
        if let Some(swarm) = &mut self.swarm {
            swarm.set_limits(Limits {
                peers: share.peers,
                upload_slots: share.upload_slots,
                up_limited: share.up_limited,
                down_rate: share.down_rate,
            });
        }
    }

    /// Whether everything is over.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// Stops requests while the ground is not ready or the disk or the checker is far behind, and resumes them.
    pub(super) fn pause_or_go_on(&mut self, hands: &mut Hands, now: Moment) {
        let patience = if self.paused { 2 } else { 1 };
        let disk = self.saving.unsynced_bytes() > hands.unsynced_max / patience;
        let checker = hands.checker.waiting() > hands.unchecked_max / patience as usize;
        let pause = !self.prepared || disk || checker;
        if pause != self.paused {
            self.paused = pause;
            // What did not arrive while we asked for nothing is nobody's fault.
            self.last_arrival = now;
            self.decide(Event::Congested(pause), hands, now);
        }
    }

    /// Asks the keeper for something.
    pub(super) fn ask(&mut self, job: Job, hands: &Hands) {
        hands.keeper.ask(self.number, job, &mut self.outstanding);
    }

    /// The keeper has done what it was asked.
    pub(super) fn kept(&mut self, outcome: Outcome, hands: &mut Hands, now: Moment) {
        self.outstanding.answered(outcome.kind());
        match outcome {
            Outcome::Surveyed(survey) => self.surveyed(survey, hands, now),
            Outcome::Prepared(outcome) => self.prepared(outcome, hands, now),
            Outcome::Saved(saved) => self.saved(saved, hands, now),
            Outcome::LookedAnew(outcome) => self.looked_anew(outcome, hands, now),
            Outcome::Removed(outcome) => self.removed(outcome, hands, now),
            Outcome::Closed => self.let_go(hands, now),
        }
    }

    /// Time has passed: whatever is due is done.
    pub(super) fn wake(&mut self, hands: &mut Hands, now: Moment) {
        match &self.phase {
            Phase::Checking(_) => self.look_on(hands, now),
            Phase::Working => self.wake_at_work(hands, now),
            Phase::Closing(_) => self.leave_on(hands, now),
            Phase::Surveying | Phase::Ended => {}
        }
    }

    fn wake_at_work(&mut self, hands: &mut Hands, now: Moment) {
        if self
            .swarm
            .as_ref()
            .and_then(Swarm::wake_at)
            .is_some_and(|due| due <= now)
        {
            self.decide(Event::Woken, hands, now);
        }
        self.check_again(hands, now);
        self.look_at_what_changed(hands, now);
        self.pause_or_go_on(hands, now);
        self.report_complete(hands, now);
        if self.saving.is_due(now) && self.outstanding.may_ask(JobKind::Save) {
            self.save(hands, now);
        }
        self.announce(now);
        if self.progress_due.is_some_and(|due| due <= now) {
            self.report_progress(hands, now);
        }
        if let Some(ending) = self.reason_to_end(now) {
            self.close(ending, hands, now);
        }
    }

    /// The next moment at which `wake` has something to do.
    pub(super) fn wake_at(&self) -> Option<Moment> {
        match &self.phase {
            Phase::Working => [
                self.swarm.as_ref().and_then(Swarm::wake_at),
                self.rechecks.wake_at(),
                (self.rehashes.wake_at()).filter(|_| self.outstanding.may_ask(JobKind::LookAnew)),
                (self.saving.wake_at()).filter(|_| self.outstanding.may_ask(JobKind::Save)),
                self.announcing.wake_at(),
                self.progress_due,
                self.sharing_ends_at(),
                self.gives_up_at(),
                self.lonely_since.map(|since| since + WAIT_FOR_CALLERS),
            ]
            .into_iter()
            .flatten()
            .min(),
            Phase::Closing(closing) => closing.wake_at(),
            Phase::Checking(_) => {
                let again = self.rechecks.wake_at();
                again.into_iter().chain(self.stops_looking_at()).min()
            }
            Phase::Surveying | Phase::Ended => None,
        }
    }

    /// Whether it is time to go, and why.
    fn reason_to_end(&mut self, now: Moment) -> Option<Ending> {
        // Kept on the last way out alone: anywhere else nobody waits for callers, nor wakes up for it.
        let lonely_since = self.lonely_since.take();
        let swarm = self.swarm.as_ref()?;
        if self.shares_since().is_some() {
            let shared_enough = self
                .task
                .sharing
                .ratio
                .is_some_and(|limit| self.snapshot(now).ratio() >= limit);
            let time_is_up = self.sharing_ends_at().is_some_and(|end| end <= now);
            return (time_is_up || shared_enough && self.layout.wanted_bytes() > 0)
                .then_some(Ending::Done);
        }
        if swarm.is_complete() || self.task.role == Role::Seed {
            return None;
        }
        if self.gives_up_at().is_some_and(|end| end <= now) {
            return Some(Ending::TimedOut);
        }
        if swarm.is_stuck() {
            return Some(Ending::BadPieces(swarm.failed_pieces()));
        }
        // Until the ground is ready it has not been told whom to ask.
        let lonely = self.prepared && swarm.hopeless() && self.announcing.is_hopeless();
        self.lonely_since = lonely.then(|| lonely_since.unwrap_or(now));
        self.lonely_since
            .filter(|since| *since + WAIT_FOR_CALLERS <= now)
            .map(|_| Ending::NobodyToAsk)
    }

    fn sharing_ends_at(&self) -> Option<Moment> {
        Some(self.shares_since()? + self.task.sharing.time?)
    }

    /// Since when the limits of sharing count: `get` shares what is complete, `seed` what is there.
    fn shares_since(&self) -> Option<Moment> {
        match self.task.role {
            Role::Seed if self.completed.is_none() => self.serving,
            Role::Get | Role::Seed => self.completed.filter(|_| self.announced_complete),
        }
    }

    pub(super) fn gives_up_at(&self) -> Option<Moment> {
        let missing = self.completed.is_none() && self.task.role == Role::Get;
        self.task
            .timeout
            .filter(|_| missing && !self.paused)
            .map(|timeout| self.last_arrival + timeout)
    }

    /// Something has moved: figures will be shown soon.
    pub(super) fn note_progress(&mut self, now: Moment) {
        self.progress_due
            .get_or_insert((self.progress_at + PROGRESS_EVERY).max(now));
    }

    pub(super) fn report_progress(&mut self, hands: &mut Hands, now: Moment) {
        let snapshot = self.snapshot(now);
        self.progress_at = now;
        // Rates sink to zero on their own: show that, then rest.
        let moving = snapshot.down_rate > 0 || snapshot.up_rate > 0;
        self.progress_due = moving.then_some(now + 4 * PROGRESS_EVERY);
        hands.noticeboard.post(Notice::Progress {
            task: self.number,
            snapshot,
        });
    }

    /// The figures at this moment.
    pub(super) fn snapshot(&self, now: Moment) -> Snapshot {
        let geometry = self.task.metainfo.geometry;
        let mut snapshot = Snapshot {
            size: geometry.total(),
            wanted: self.layout.wanted_bytes(),
            pieces: geometry.pieces(),
            uploaded_ever: self.totals_before.0,
            downloaded_ever: self.totals_before.1,
            elapsed: now - self.started,
            sharing: self.completed.map(|completed| now - completed),
            ..Snapshot::default()
        };
        if let Some(swarm) = &self.swarm {
            let standing = swarm.standing(now);
            snapshot.looked = true;
            snapshot.have = standing.have;
            snapshot.wanted_have = standing.wanted_have;
            snapshot.pieces_have = swarm.have().count();
            snapshot.downloaded = standing.downloaded;
            snapshot.uploaded = standing.uploaded;
            snapshot.uploaded_ever += standing.uploaded;
            snapshot.downloaded_ever += standing.downloaded;
            snapshot.wasted = standing.wasted;
            snapshot.down_rate = standing.down_rate;
            snapshot.up_rate = standing.up_rate;
            snapshot.peers = standing.peers;
            snapshot.seeds = standing.seeds;
            snapshot.liars = standing.liars;
        }
        snapshot
    }

    /// A storage error of our own about the torrent as a whole.
    pub(super) fn trouble(
        &self,
        kind: StorageTrouble,
        doing: &'static str,
        cause: String,
    ) -> StorageError {
        StorageError {
            kind,
            doing,
            path: self.task.folder.join(&self.task.metainfo.name),
            cause,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::rig::Rig;
    use crate::net::Happened;
    use crate::storage::check::{CheckDone, Checker};
    use crate::swarm::event::Verdict;
    use crossbeam_channel::bounded;

    /// Longer than any test takes.
    const PATIENCE: Duration = Duration::from_secs(30);

    /// Wakes it when it is due, and at each second, until then or until it leaves. The rig sees to it that
    /// it is never due again at once.
    fn live(rig: &mut Rig, until: Duration) {
        while rig.now < until && rig.torrent.takes_callers() {
            let second = rig.now + Duration::from_secs(1);
            let due = rig.torrent.wake_at();
            rig.wake(due.map_or(second, |due| due.min(second)));
            if rig.torrent.saving.is_under_way() && rig.torrent.takes_callers() {
                rig.keep();
            }
        }
    }

    #[test]
    fn nothing_more_is_asked_for_while_too_many_pieces_wait_to_be_hashed() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::lacking_the_last(folder.path(), |_| {});
        rig.hands.unchecked_max = 0;
        // Bound: a turn of this checker, which hashes a piece when it is told to go on.
        let ((hashed, verdict), (go, gate)) = (bounded(1), bounded(1));
        rig.hands.checker =
            Checker::start(move |_| hashed.send(()).is_ok() && gate.recv().is_ok()).unwrap();
        let ask = |rig: &mut Rig| {
            let job = rig.torrent.check_job(rig.piece(0), false, &mut rig.hands);
            rig.hands.checker.ask(job);
        };
        let is_paused = |rig: &mut Rig| {
            rig.torrent.pause_or_go_on(&mut rig.hands, rig.now);
            rig.torrent.paused
        };
        ask(&mut rig);
        verdict.recv_timeout(PATIENCE).unwrap();
        assert!(!is_paused(&mut rig));
        ask(&mut rig);
        assert!(is_paused(&mut rig));
        go.send(()).unwrap();
        verdict.recv_timeout(PATIENCE).unwrap();
        assert!(!is_paused(&mut rig));
    }

    #[test]
    fn who_was_alone_while_the_last_piece_was_hashed_rests_once_it_is_complete() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::hashing_the_last(folder.path(), |_| {});
        rig.wake(Duration::from_secs(1));
        assert!(rig.torrent.lonely_since.is_some());
        let done = CheckDone {
            verdict: Verdict::Good,
            ..rig.checkers_answer()
        };
        rig.torrent.checked(done, &mut rig.hands, rig.now);
        assert!(rig.torrent.completed.is_some());
        live(&mut rig, Duration::from_secs(120));
        assert!(rig.torrent.announced_complete && rig.torrent.takes_callers());
    }

    #[test]
    fn who_stays_alone_is_never_due_twice_at_a_time_and_gives_up() {
        for (timeout, sharing) in [(None, None), (Some(3), None), (None, Some(0))] {
            let folder = tempfile::tempdir().unwrap();
            let mut rig = Rig::lacking_the_last(folder.path(), |task| {
                task.timeout = timeout.map(Duration::from_secs);
                task.sharing.time = sharing.map(Duration::from_secs);
            });
            live(&mut rig, Duration::from_secs(30));
            let expected = match timeout {
                Some(_) => Ending::TimedOut,
                None => Ending::NobodyToAsk,
            };
            while rig.torrent.wake_at().is_some() {
                let next = rig.torrent.wake_at().unwrap();
                rig.wake(next);
            }
            assert_eq!(rig.left(), expected);
        }
    }

    #[test]
    fn who_shares_for_a_while_is_never_due_twice_at_a_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::hashing_the_last(folder.path(), |task| {
            task.sharing.time = Some(Duration::from_secs(20));
        });
        let done = CheckDone {
            verdict: Verdict::Good,
            ..rig.checkers_answer()
        };
        rig.torrent.checked(done, &mut rig.hands, rig.now);
        live(&mut rig, Duration::from_secs(40));
        assert_eq!(rig.left(), Ending::Done);
    }

    #[test]
    fn while_a_part_of_a_block_comes_now_and_then_nobody_has_waited_for_too_long() {
        let folder = tempfile::tempdir().unwrap();
        let mut rig = Rig::lacking_the_last(folder.path(), |task| {
            task.timeout = Some(Duration::from_secs(3));
        });
        let peer = rig.hands.switchboard.mint();
        for second in 0..8 {
            live(&mut rig, Duration::from_secs(second));
            let (hands, now) = (&mut rig.hands, rig.now);
            rig.torrent.happened(peer, Happened::Arriving, hands, now);
        }
        assert!(rig.torrent.takes_callers());
        live(&mut rig, Duration::from_secs(20));
        assert_eq!(rig.now, Duration::from_secs(7 + 3));
    }
}
