//! One torrent under the coordinator's care: from the first look at the disk to the last goodbye.
//!
//! ```text
//! Surveying → Checking → Working → Closing → Ended
//! ```
//!
//! A torrent is surveyed (what do the disk and the record say?), checked (what must be hashed?), then
//! its brain is made and the real work begins, while the keeper still allocates. It closes when
//! sharing ends, when something is beyond mending, or when the user says so: `leaving.rs`. What the
//! brain decides is carried out in `acting.rs`.

use super::announcing::Announcing;
use super::hands::Hands;
use super::saving::Saving;
use super::{Ending, Notice, Role, Snapshot, Task};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::peer::PeerId;
use crate::protocol::{Block, InfoHash, PieceIndex};
use crate::storage::check::{CheckDone, CheckJob};
use crate::storage::keeper::Job;
use crate::storage::layout::{Access, Layout};
use crate::storage::slot::{SlotBook, StorageError, StorageTrouble};
use crate::storage::survey::{Rules, Survey};
use crate::swarm::event::{Event, Moment, Origin, Verdict};
use crate::swarm::{Limits, Setup, Swarm};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Pieces handed to the checker ahead of its answers: enough to keep it busy, few enough that an
/// interrupt is answered soon.
const CHECKS_AHEAD: usize = 16;

/// Figures are shown at most so often.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// With nobody here and nobody to ask, so long we wait for a caller all the same.
const WAIT_FOR_CALLERS: Duration = Duration::from_secs(60);

/// How far a torrent has come.
pub(super) enum Phase {
    /// The keeper looks at the disk.
    Surveying,
    /// Data is hashed before work begins.
    Checking(Checking),
    /// The brain is at work: downloading or sharing.
    Working,
    /// Leaving: goodbyes and the last save are under way.
    Closing(super::leaving::Closing),
    /// Nothing more will happen.
    Ended,
}

/// Data on disk that is hashed before work begins.
pub(super) struct Checking {
    queue: VecDeque<PieceIndex>,
    in_flight: usize,
    of: u32,
    have: Bitfield,
    laid: Vec<Block>,
    /// Data was there that no record of ours speaks of.
    foreign: bool,
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
    pub(super) saving: Saving,
    /// The numbers of the files written to since the last save.
    pub(super) touched: BTreeSet<usize>,
    /// Peers connected.
    pub(super) peers: usize,
    /// Pieces whose sync failed: verified once, to be read back before they count.
    pub(super) doubted: BTreeSet<PieceIndex>,
    /// Unfinished pieces with blocks that may be lost since a sync failed: fetched again when complete.
    pub(super) shaky: BTreeSet<PieceIndex>,
    /// Payload served and fetched in earlier runs, in bytes.
    pub(super) totals_before: (u64, u64),
    pub(super) started: Moment,
    pub(super) completed: Option<Moment>,
    /// The user has been told that it is complete.
    pub(super) announced_complete: bool,
    pub(super) last_arrival: Moment,
    lonely_since: Option<Moment>,
    pub(super) prepared: bool,
    paused: bool,
    progress_due: Option<Moment>,
    progress_at: Moment,
}

impl Torrent {
    /// Begins with a look at the disk.
    pub(super) fn start(
        number: usize,
        task: Task,
        id: PeerId,
        announcing: Announcing,
        hands: &mut Hands,
        now: Moment,
    ) -> Torrent {
        let layout = Arc::new(Layout::new(&task.metainfo, &task.folder));
        hands.noticeboard.post(Notice::Started {
            task: number,
            info_hash: task.metainfo.info_hash,
            name: task.metainfo.name.clone(),
            size: task.metainfo.geometry.total(),
        });
        let rules = Rules {
            writable: task.role == Role::Get,
            check: task.check,
            overwrite: task.overwrite,
        };
        hands.keeper.ask(
            number,
            Job::Survey {
                layout: layout.clone(),
                rules,
            },
        );
        Torrent {
            number,
            book: SlotBook::new(task.metainfo.geometry),
            task,
            id,
            layout,
            phase: Phase::Surveying,
            swarm: None,
            announcing,
            saving: Saving::default(),
            touched: BTreeSet::new(),
            peers: 0,
            doubted: BTreeSet::new(),
            shaky: BTreeSet::new(),
            totals_before: (0, 0),
            started: now,
            completed: None,
            announced_complete: false,
            last_arrival: now,
            lonely_since: None,
            prepared: false,
            paused: false,
            progress_due: None,
            progress_at: now,
        }
    }

    /// The torrent's name on the network.
    pub(super) fn info_hash(&self) -> InfoHash {
        self.task.metainfo.info_hash
    }

    /// Whether callers may join.
    pub(super) fn takes_callers(&self) -> bool {
        matches!(self.phase, Phase::Working)
    }

    /// Whether everything is over.
    pub(super) fn has_ended(&self) -> bool {
        matches!(self.phase, Phase::Ended)
    }

    /// The keeper has looked at the disk.
    pub(super) fn surveyed(
        &mut self,
        survey: Result<Box<Survey>, StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        if !matches!(self.phase, Phase::Surveying) {
            return;
        }
        let survey = match survey {
            Ok(survey) => survey,
            Err(error) => return self.close(Ending::Storage(error), hands, now),
        };
        for text in survey.warnings {
            hands.noticeboard.post(Notice::Warning {
                task: Some(self.number),
                text,
            });
        }
        self.totals_before = (survey.uploaded, survey.downloaded);
        let geometry = self.task.metainfo.geometry;
        let queue: VecDeque<PieceIndex> = survey.unsure.pieces(&geometry).collect();
        let laid = survey.laid.iter().flat_map(|laid| {
            laid.numbers()
                .map(|number| geometry.block(laid.piece(), number))
        });
        self.phase = Phase::Checking(Checking {
            of: queue.len() as u32,
            queue,
            in_flight: 0,
            have: survey.trusted,
            laid: laid.flatten().collect(),
            foreign: survey.foreign,
        });
        self.check_on(hands, now);
    }

    /// The checker has hashed a piece.
    pub(super) fn checked(&mut self, done: CheckDone, hands: &mut Hands, now: Moment) {
        let CheckDone {
            piece,
            verdict,
            blocks,
            error,
            ..
        } = done;
        if let Phase::Checking(checking) = &mut self.phase {
            checking.in_flight -= 1;
            if verdict == Verdict::Good {
                checking.have.set(piece);
            }
            let (of, left) = (checking.of, checking.queue.len() + checking.in_flight);
            if self.progress_at + PROGRESS_EVERY <= now || left == 0 {
                self.progress_at = now;
                hands.noticeboard.post(Notice::Checking {
                    task: self.number,
                    done: of - left as u32,
                    of,
                });
            }
            return self.check_on(hands, now);
        }
        if self.doubted.remove(&piece) {
            return self.read_back(piece, verdict, hands, now);
        }
        if let Some(error) = error {
            return self.close(Ending::Storage(error), hands, now);
        }
        hands.noticeboard.post(Notice::Piece {
            task: self.number,
            piece,
            good: verdict == Verdict::Good,
        });
        if verdict == Verdict::Good {
            self.book.done(piece);
        }
        self.decide(
            Event::Checked {
                piece,
                verdict,
                blocks,
            },
            hands,
            now,
        );
    }

    /// Hands the next pieces to the checker; begins work when none is left.
    fn check_on(&mut self, hands: &mut Hands, now: Moment) {
        while let Phase::Checking(checking) = &mut self.phase
            && checking.in_flight < CHECKS_AHEAD
            && let Some(piece) = checking.queue.pop_front()
        {
            checking.in_flight += 1;
            let job = CheckJob {
                initial: true,
                ..self.check_job(piece, false, hands)
            };
            hands.checker.ask(job);
        }
        if matches!(&self.phase, Phase::Checking(checking) if checking.in_flight == 0) {
            self.begin(hands, now);
        }
    }

    /// Makes the brain and begins: peers may come while the keeper still allocates.
    fn begin(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Checking(checking) = std::mem::replace(&mut self.phase, Phase::Working) else {
            return;
        };
        let geometry = self.task.metainfo.geometry;
        if checking.foreign
            && checking.have.is_empty()
            && geometry.pieces() > 0
            && !self.task.overwrite
        {
            let error = match self.task.role {
                Role::Seed => return self.close(Ending::NothingToSeed, hands, now),
                Role::Get => self.trouble(
                    StorageTrouble::InTheWay,
                    "download to",
                    "something else is there: none of its pieces match the torrent".to_owned(),
                ),
            };
            return self.close(Ending::Storage(error), hands, now);
        }
        if self.task.role == Role::Seed && checking.have.is_empty() && geometry.pieces() > 0 {
            return self.close(Ending::NothingToSeed, hands, now);
        }
        let laid: Vec<Block> = checking
            .laid
            .into_iter()
            .filter(|block| !checking.have.has(block.piece()))
            .collect();
        laid.iter().for_each(|block| self.book.mark_laid(*block));
        checking
            .have
            .pieces(&geometry)
            .for_each(|piece| self.book.done(piece));
        let whole = checking.have.is_full();
        if self.task.role == Role::Get {
            let job = Job::Prepare {
                have: checking.have.clone(),
                overwrite: self.task.overwrite,
            };
            hands.keeper.ask(self.number, job);
        } else {
            self.prepared = true;
        }
        let setup = Setup {
            geometry,
            info_hash: self.info_hash(),
            have: checking.have,
            laid,
            id: self.id,
            downloads: self.task.role == Role::Get,
            listen_port: hands.port,
            limits: Limits {
                peers: hands.peers_max,
                ..Limits::default()
            },
            seed: hands.seed.wrapping_add(self.number as u64),
        };
        self.swarm = Some(Swarm::new(setup, now));
        self.last_arrival = now;
        self.pause_or_go_on(hands, now);
        if whole {
            self.completed = Some(now);
        }
        if self.prepared {
            self.get_to_work(hands, now);
        }
    }

    /// The keeper has made room for the data, or could not.
    pub(super) fn prepared(
        &mut self,
        outcome: Result<(), StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        if !matches!(self.phase, Phase::Working) {
            return;
        }
        match outcome {
            Ok(()) => {
                self.prepared = true;
                self.get_to_work(hands, now);
            }
            Err(error) => self.close(Ending::Storage(error), hands, now),
        }
    }

    /// The ground is ready: finds peers, or tells that everything is here already.
    fn get_to_work(&mut self, hands: &mut Hands, now: Moment) {
        self.pause_or_go_on(hands, now);
        let addresses = self.task.peers.clone();
        if !addresses.is_empty() {
            self.decide(
                Event::Found {
                    addresses,
                    origin: Origin::User,
                },
                hands,
                now,
            );
        }
        self.saving.touch(now);
        self.note_progress(now);
    }

    /// Stops requests while the ground is not ready or the disk is far behind, and resumes them.
    pub(super) fn pause_or_go_on(&mut self, hands: &mut Hands, now: Moment) {
        let behind = self.saving.unsynced_bytes();
        let limit = if self.paused {
            hands.unsynced_max / 2
        } else {
            hands.unsynced_max
        };
        let pause = !self.prepared || behind > limit;
        if pause != self.paused {
            self.paused = pause;
            self.decide(Event::Congested(pause), hands, now);
        }
    }

    /// Time has passed: whatever is due is done.
    pub(super) fn wake(&mut self, hands: &mut Hands, now: Moment) {
        match &self.phase {
            Phase::Working => self.wake_at_work(hands, now),
            Phase::Closing(_) => self.leave_on(hands, now),
            Phase::Surveying | Phase::Checking(_) | Phase::Ended => {}
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
        self.pause_or_go_on(hands, now);
        self.report_complete(hands, now);
        if self.saving.is_due(now) {
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
                self.saving.wake_at(),
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
            Phase::Surveying | Phase::Checking(_) | Phase::Ended => None,
        }
    }

    /// Whether it is time to go, and why.
    fn reason_to_end(&mut self, now: Moment) -> Option<Ending> {
        let swarm = self.swarm.as_ref()?;
        if self.announced_complete {
            let shared_enough = self
                .task
                .sharing
                .ratio
                .is_some_and(|limit| self.snapshot(now).ratio() >= limit);
            let time_is_up = self.sharing_ends_at().is_some_and(|end| end <= now);
            return (time_is_up || shared_enough && self.task.metainfo.geometry.total() > 0)
                .then_some(Ending::Done);
        }
        if swarm.is_complete() || self.task.role == Role::Seed {
            return None;
        }
        if self.gives_up_at().is_some_and(|end| end <= now) {
            return Some(Ending::TimedOut);
        }
        let bad = swarm.failed_pieces();
        if !bad.is_empty()
            && bad.len() as u32 + swarm.have().count() == self.task.metainfo.geometry.pieces()
        {
            return Some(Ending::BadPieces(bad));
        }
        let lonely = swarm.hopeless() && self.announcing.is_hopeless();
        self.lonely_since = lonely.then(|| self.lonely_since.unwrap_or(now));
        self.lonely_since
            .filter(|since| *since + WAIT_FOR_CALLERS <= now)
            .map(|_| Ending::NobodyToAsk)
    }

    fn sharing_ends_at(&self) -> Option<Moment> {
        let time = self.task.sharing.time?;
        self.announced_complete.then_some(self.completed? + time)
    }

    fn gives_up_at(&self) -> Option<Moment> {
        let missing = self.completed.is_none() && self.task.role == Role::Get;
        self.task
            .timeout
            .filter(|_| missing)
            .map(|timeout| self.last_arrival + timeout)
    }

    /// Something has moved: figures will be shown soon.
    pub(super) fn note_progress(&mut self, now: Moment) {
        self.progress_due
            .get_or_insert((self.progress_at + PROGRESS_EVERY).max(now));
    }

    fn report_progress(&mut self, hands: &mut Hands, now: Moment) {
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
            pieces: geometry.pieces(),
            uploaded_ever: self.totals_before.0,
            elapsed: now - self.started,
            sharing: self.completed.map(|completed| now - completed),
            ..Snapshot::default()
        };
        if let Some(swarm) = &self.swarm {
            let standing = swarm.standing(now);
            snapshot.have = standing.have;
            snapshot.pieces_have = swarm.have().count();
            snapshot.downloaded = standing.downloaded;
            snapshot.uploaded = standing.uploaded;
            snapshot.uploaded_ever += standing.uploaded;
            snapshot.wasted = standing.wasted;
            snapshot.down_rate = standing.down_rate;
            snapshot.up_rate = standing.up_rate;
            snapshot.peers = standing.peers;
            snapshot.seeds = standing.seeds;
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

    /// The checker's job of hashing one piece.
    pub(super) fn check_job(
        &self,
        piece: PieceIndex,
        by_block: bool,
        hands: &mut Hands,
    ) -> CheckJob {
        CheckJob {
            task: self.number,
            piece,
            places: hands.files.piece(&self.layout, piece, Access::Read),
            expected: self.layout.piece_digest(piece),
            by_block,
            initial: false,
        }
    }
}
