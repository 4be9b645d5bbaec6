//! For tests: one torrent on a stand, with a keeper and a checker of its own and no coordinator. A test
//! hands the torrent what they answer, or something else in its place.

#![allow(clippy::unwrap_used)]

use super::announcing::{Announcer, Announcing};
use super::hands::Hands;
use super::noticeboard::Noticeboard;
use super::switchboard::Switchboard;
use super::torrent::{Phase, Torrent};
use super::{Ending, Notice, Role, Sharing, Task};
use crate::announce::tiers::Tiers;
use crate::net::Report;
use crate::net::meter::Metered;
use crate::net::peer_thread::{Deadlines, Surroundings};
use crate::protocol::peer::PeerId;
use crate::protocol::selection::Selection;
use crate::protocol::{Block, PieceIndex};
use crate::storage::check::{CheckDone, Checker};
use crate::storage::keeper::{Done, Job, Keeper, Outcome, Outstanding};
use crate::storage::open_files::OpenFiles;
use crate::storage::slot::{LandingBudget, StorageError, StorageTrouble};
use crate::storage::survey::{Survey, SurveyRules};
use crate::storage::test_torrent::Author;
use crate::swarm::event::Moment;
use crossbeam_channel::{Receiver, unbounded};
use std::path::Path;
use std::time::Duration;

/// An answer that takes longer will never come.
const PATIENCE: Duration = Duration::from_secs(20);

/// The stand.
pub(super) struct Rig {
    pub(super) torrent: Torrent,
    pub(super) hands: Hands,
    pub(super) now: Moment,
    notices: Receiver<Notice>,
    kept: Receiver<Done>,
    checked: Receiver<CheckDone>,
    _reports: Receiver<Report>,
}

impl Rig {
    /// Four pieces of two blocks in a file, of which the last is wrong, and nobody to get it from.
    pub(super) fn lacking_the_last(folder: &Path, change: impl FnOnce(&mut Task)) -> Rig {
        let mut rig = Rig::surveying(folder, change);
        rig.get_to_work();
        rig
    }

    /// What is missing of `author`'s files in the folder is fetched, and there is nobody to get it from.
    pub(super) fn getting(author: &Author, folder: &Path) -> Rig {
        let mut rig = Rig::begun(author, folder, Role::Get, |_| {});
        rig.get_to_work();
        rig
    }

    /// `author`'s files are in the folder and are seeded.
    pub(super) fn seeding(author: &Author, folder: &Path) -> Rig {
        let mut rig = Rig::begun(author, folder, Role::Seed, |_| {});
        rig.get_to_work();
        rig
    }

    /// The same, when the first pieces have gone to the checker.
    pub(super) fn looking(folder: &Path, change: impl FnOnce(&mut Task)) -> Rig {
        let mut rig = Rig::surveying(folder, change);
        rig.keep();
        rig
    }

    /// The same, when the keeper was asked what is there.
    pub(super) fn surveying(folder: &Path, change: impl FnOnce(&mut Task)) -> Rig {
        let author = Author::single("one", 32_768, 4 * 32_768);
        let path = author.layout(folder).files()[0].path.clone();
        let wrong = [&author.bytes[..3 * 32_768], &[0; 32_768]].concat();
        // Written once: what a run before has recorded stays true.
        if !path.exists() {
            std::fs::write(path, wrong).unwrap();
        }
        Rig::begun(&author, folder, Role::Get, change)
    }

    /// The same, after a run in which all blocks of the last piece came: they are being hashed.
    pub(super) fn hashing_the_last(folder: &Path, change: impl FnOnce(&mut Task)) -> Rig {
        let mut before = Rig::lacking_the_last(folder, |_| {});
        for number in 0..2 {
            before.torrent.book.mark_laid(before.block(3, number));
        }
        before
            .torrent
            .close(Ending::Interrupted, &mut before.hands, before.now);
        before.left();
        drop(before);
        let rig = Rig::lacking_the_last(folder, change);
        assert!(rig.torrent.book.is_laid(rig.piece(3)));
        rig
    }

    /// The keeper was asked for a survey; `change` alters the task.
    fn begun(author: &Author, folder: &Path, role: Role, change: impl FnOnce(&mut Task)) -> Rig {
        let (tell, kept) = unbounded(); // Bound: the few messages of a test.
        let keeper = Keeper::start(move |done| tell.send(done).is_ok()).unwrap();
        let (tell, checked) = unbounded(); // Bound: the few messages of a test.
        let checker = Checker::start(move |done| tell.send(done).is_ok()).unwrap();
        let (inbox, reports) = unbounded(); // Bound: the few messages of a test.
        let (answers, _) = unbounded(); // Bound: the few messages of a test.
        let (noticeboard, notices) = Noticeboard::new();
        let mut hands = Hands {
            switchboard: Switchboard::default(),
            files: OpenFiles::new(4),
            keeper,
            checker,
            answers: answers.clone(),
            noticeboard,
            surroundings: Surroundings {
                inbox,
                trace: None,
                budget: LandingBudget::default(),
                deadlines: Deadlines::default(),
                metered: Metered::default(),
            },
            bind: None,
            peers_max: 10,
            port: None,
            unsynced_max: u64::MAX,
            unchecked_max: usize::MAX,
            lookers: 0,
            seed: 1,
            caller: None,
            lacked_threads: false,
            actions: Vec::new(),
        };
        let mut task = Task {
            metainfo: author.metainfo(),
            folder: folder.to_owned(),
            role,
            hashed: None,
            check: false,
            overwrite: false,
            peers: Vec::new(),
            trackers: false,
            wanted: Selection::all(&author.metainfo()),
            sequential: false,
            sharing: Sharing {
                ratio: None,
                time: None,
            },
            timeout: None,
        };
        change(&mut task);
        let id = PeerId::new([b'x'; 12]);
        let who = Announcer {
            task: 0,
            info_hash: task.metainfo.info_hash,
            id,
            port: 1,
            key: String::new(),
            bind: None,
        };
        let tiers = Tiers::new(&[], fastrand::Rng::with_seed(1));
        let announcing = Announcing::new(who, tiers, answers);
        let now = Moment::ZERO;
        let torrent = Torrent::start(0, task, id, announcing, &mut hands, now);
        Rig {
            torrent,
            hands,
            now,
            notices,
            kept,
            checked,
            _reports: reports,
        }
    }

    /// Brings it from the survey to work.
    fn get_to_work(&mut self) {
        self.keep();
        while let Phase::Checking(_) = self.torrent.phase {
            self.check();
        }
        if self.torrent.task.role == Role::Get {
            self.keep();
        }
        assert!(self.torrent.takes_callers() && self.torrent.prepared);
    }

    /// What the keeper answers next.
    pub(super) fn keepers_answer(&self) -> Outcome {
        self.kept.recv_timeout(PATIENCE).unwrap().outcome
    }

    /// Hands the torrent what the keeper answers next.
    pub(super) fn keep(&mut self) {
        let outcome = self.keepers_answer();
        self.answer(outcome);
    }

    /// Hands the torrent this as the keeper's answer.
    pub(super) fn answer(&mut self, outcome: Outcome) {
        let (torrent, hands, now) = (&mut self.torrent, &mut self.hands, self.now);
        torrent.kept(outcome, hands, now);
    }

    /// What the checker answers next.
    pub(super) fn checkers_answer(&self) -> CheckDone {
        self.checked.recv_timeout(PATIENCE).unwrap()
    }

    /// Hands the torrent what the checker answers next.
    pub(super) fn check(&mut self) {
        let done = self.checkers_answer();
        self.torrent.checked(done, &mut self.hands, self.now);
    }

    /// It is `now`: the torrent is woken if it is due, and will not be at once again.
    pub(super) fn wake(&mut self, now: Duration) {
        self.now = now;
        self.torrent.wake(&mut self.hands, now);
        let next = self.torrent.wake_at();
        assert!(
            next.is_none_or(|next| next > now),
            "woken at {now:?}, and due again at {next:?}"
        );
    }

    /// What it has told since the last call.
    pub(super) fn notices(&self) -> Vec<Notice> {
        self.notices.try_iter().collect()
    }

    /// Lets it leave, with the keeper's true answers, and says how it ended.
    pub(super) fn left(&mut self) -> Ending {
        while !self.torrent.has_ended() {
            self.keep();
        }
        let told = self.notices().into_iter();
        let mut endings = told.filter_map(|notice| match notice {
            Notice::Stopped { ending, .. } => Some(ending),
            _ => None,
        });
        endings.next().unwrap()
    }

    /// What the next run will find, once this one has left.
    pub(super) fn next_survey(&self) -> Survey {
        let rules = SurveyRules {
            writable: true,
            check: false,
            overwrite: false,
        };
        let layout = self.torrent.layout.clone();
        let survey = Job::Survey { layout, rules };
        let mut outstanding = Outstanding::default();
        self.hands.keeper.ask(0, survey, &mut outstanding);
        match self.keepers_answer() {
            Outcome::Surveyed(survey) => *survey.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn piece(&self, number: u32) -> PieceIndex {
        self.torrent.layout.geometry().piece(number).unwrap()
    }

    pub(super) fn block(&self, piece: u32, number: usize) -> Block {
        self.torrent
            .layout
            .geometry()
            .block(self.piece(piece), number)
            .unwrap()
    }
}

/// An error of this kind.
pub(super) fn error(kind: StorageTrouble) -> StorageError {
    StorageError {
        kind,
        doing: "sync",
        path: "somewhere".into(),
        cause: "for a test".to_owned(),
    }
}
