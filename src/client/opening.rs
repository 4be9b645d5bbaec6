//! The way in: what do the disk and the record say, what must be hashed, and then to work.
//!
//! ```text
//! start → surveyed → checked … checked → begin → prepared
//! ```
//!
//! The keeper answers `start` with a survey; what the record vouches for is believed, what lies there
//! without a voucher is hashed. Then the brain is made, and peers may come while the keeper still makes
//! room for what is missing; nothing is asked for before that is done.

use super::announcing::Announcing;
use super::hands::Hands;
use super::rechecks::Rechecks;
use super::rehashes::Rehashes;
use super::saving::Saving;
use super::torrent::{PROGRESS_EVERY, Phase, Torrent};
use super::{Ending, Notice, Role, Task};
use crate::protocol::bitfield::Bitfield;
use crate::protocol::metainfo::Renamed;
use crate::protocol::peer::PeerId;
use crate::protocol::{Block, PieceIndex};
use crate::storage::check::{CheckDone, CheckJob};
use crate::storage::keeper::{Job, Outstanding};
use crate::storage::layout::Layout;
use crate::storage::lazy_file::Access;
use crate::storage::slot::{SlotBook, StorageError, StorageTrouble};
use crate::storage::survey::{Survey, SurveyRules};
use crate::swarm::event::{Event, Moment, Origin, Verdict};
use crate::swarm::{Limits, Swarm, SwarmSetup};
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

/// Data on disk that is hashed before work begins.
pub(super) struct Checking {
    queue: VecDeque<PieceIndex>,
    in_flight: usize,
    of: u32,
    have: Bitfield,
    laid: Vec<Block>,
    /// Data was there that no record of ours speaks of.
    foreign: bool,
    /// The first error that says nothing about the data: it may be right, and cannot be read.
    unreadable: Option<StorageError>,
}

impl Checking {
    fn take_note(&mut self, done: CheckDone) {
        self.in_flight -= 1;
        if done.verdict == Verdict::Good {
            self.have.set(done.piece);
        }
        let hidden = done.error.filter(|it| it.kind.hides_data());
        self.unreadable = self.unreadable.take().or(hidden);
    }
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
        let wanted = task.wanted.clone();
        let mut layout = Layout::of(&task.metainfo, &task.folder, wanted);
        if task.role == Role::Seed {
            layout = match &task.hashed {
                Some(hashed) => layout.of_hashed(hashed.clone()),
                None => layout.with_raw_paths(&task.metainfo),
            };
        }
        let layout = Arc::new(layout);
        let (size, wanted) = (layout.total(), layout.wanted_bytes());
        hands.noticeboard.post(Notice::Started {
            task: number,
            info_hash: task.metainfo.info_hash,
            name: task.metainfo.name.clone(),
            size,
            wanted,
        });
        let rules = SurveyRules {
            writable: task.role == Role::Get,
            check: task.check,
            overwrite: task.overwrite,
        };
        let survey = Job::Survey {
            layout: layout.clone(),
            rules,
        };
        let mut torrent = Torrent {
            number,
            book: SlotBook::new(task.metainfo.geometry),
            task,
            id,
            layout,
            phase: Phase::Surveying,
            swarm: None,
            announcing,
            outstanding: Outstanding::default(),
            saving: Saving::default(),
            rechecks: Rechecks::default(),
            rehashes: Rehashes::default(),
            peers: 0,
            warned: BTreeSet::new(),
            totals_before: (0, 0),
            started: now,
            completed: None,
            serving: None,
            announced_complete: false,
            last_arrival: now,
            lonely_since: None,
            prepared: false,
            paused: false,
            progress_due: None,
            progress_at: now,
        };
        torrent.ask(survey, hands);
        torrent
    }

    /// The keeper has looked at the disk.
    pub(super) fn surveyed(
        &mut self,
        survey: Result<Box<Survey>, StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        if !matches!(self.phase, Phase::Surveying) {
            return self.leave_on(hands, now);
        }
        let survey = match survey {
            Ok(survey) => survey,
            Err(error) => return self.close(Ending::Storage(error), hands, now),
        };
        if self.task.role == Role::Get {
            self.tell_of_names(hands);
        }
        for text in survey.warnings {
            self.warn(text, hands);
        }
        self.totals_before = (survey.uploaded, survey.downloaded);
        self.layout = survey.layout;
        self.last_arrival = now;
        let geometry = self.task.metainfo.geometry;
        let queue: VecDeque<PieceIndex> = survey.unsure.pieces(&geometry).collect();
        let laid = survey.laid.iter().flat_map(|laid| {
            laid.numbers()
                .map(|number| geometry.block(laid.piece(), number))
        });
        self.phase = Phase::Checking(Box::new(Checking {
            of: queue.len() as u32,
            queue,
            in_flight: 0,
            have: survey.trusted,
            laid: laid.flatten().collect(),
            foreign: survey.foreign,
            unreadable: None,
        }));
        self.check_on(hands, now);
    }

    /// Says which names the user will look for in vain.
    fn tell_of_names(&self, hands: &Hands) {
        let Some(Renamed { first, count }) = &self.task.metainfo.renamed else {
            return;
        };
        let text = match count - 1 {
            0 => first.clone(),
            1 => format!("{first}, and one more name otherwise, too"),
            more => format!("{first}, and {more} more names otherwise, too"),
        };
        self.warn(text, hands);
    }

    /// The checker has hashed a piece.
    pub(super) fn checked(&mut self, done: CheckDone, hands: &mut Hands, now: Moment) {
        let trouble = done.error.as_ref().map(|error| error.kind);
        let lacks_descriptors = trouble == Some(StorageTrouble::Descriptors);
        match &mut self.phase {
            Phase::Checking(_) | Phase::Working if lacks_descriptors => {
                // As good as under way still.
                self.warn_of_descriptors(hands);
                self.rechecks.add(&done, now);
            }
            Phase::Checking(checking) => {
                checking.take_note(done);
                self.last_arrival = now;
                self.tell_check(hands, now);
                self.check_on(hands, now);
            }
            // Else it was stopped before the look at what is there was over.
            _ if self.swarm.is_some() => self.judge(done, hands, now),
            _ => {}
        }
    }

    /// How far the look at what is there has come, now and then.
    fn tell_check(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Checking(checking) = &self.phase else {
            return;
        };
        let (of, left) = (checking.of, checking.queue.len() + checking.in_flight);
        if self.progress_at + PROGRESS_EVERY <= now || left == 0 {
            self.progress_at = now;
            hands.noticeboard.post(Notice::Checking {
                task: self.number,
                done: of - left as u32,
                of,
            });
        }
    }

    /// A piece that was fetched, or has to be read back, was hashed.
    fn judge(&mut self, done: CheckDone, hands: &mut Hands, now: Moment) {
        let CheckDone {
            piece,
            verdict,
            blocks,
            error,
            initial,
            ..
        } = done;
        // What waits to be hashed has arrived, however long a slow processor takes.
        self.last_arrival = now;
        // A piece that is read back may lie in a file that others wrote to: then each of the two gets its own verdict.
        if initial {
            return self.hashed_again(piece, verdict, hands, now);
        }
        if self.saving.reads_back(piece) {
            return self.read_back(piece, verdict, hands, now);
        }
        if let Some(error) = error {
            if error.kind == StorageTrouble::Vanished {
                // Whoever took away these bytes may have taken others.
                self.saving.distrust_laid(self.book.pieces());
                let files = self.layout.runs_of_piece(piece).map(|run| run.file);
                self.withhold(&files.collect(), hands, now);
            }
            return self.close(Ending::Storage(error), hands, now);
        }
        if self.saving.fetches_again(piece) {
            let (verdict, blocks) = (Verdict::Unreadable, Vec::new());
            let again = Event::Checked {
                piece,
                verdict,
                blocks,
            };
            return self.decide(again, hands, now);
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
            && checking.in_flight < hands.looks_ahead()
            && let Some(piece) = checking.queue.pop_front()
        {
            checking.in_flight += 1;
            let job = CheckJob {
                initial: true,
                may_wait: !checking.queue.is_empty(),
                ..self.check_job(piece, false, hands)
            };
            hands.checker.ask(job);
        }
        if matches!(&self.phase, Phase::Checking(checking) if checking.in_flight == 0) {
            self.begin(hands, now);
        }
    }

    /// Everything that is there is known. Peers may come while the keeper still allocates; but where bytes
    /// have to be brought from one file into another, nobody is served from either before that is done.
    fn begin(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Checking(checking) = &self.phase else {
            return;
        };
        let unreadable = checking.unreadable.as_ref();
        if let Some(ending) = self.refusal(&checking.have, checking.foreign, unreadable) {
            return self.close(ending, hands, now);
        }
        if let Some(error) = unreadable {
            self.warn(error.to_string(), hands);
        }
        if self.task.role == Role::Get {
            let (have, overwrite) = (checking.have.clone(), self.task.overwrite);
            let prepare = Job::Prepare { have, overwrite };
            self.ask(prepare, hands);
            if self.layout.brings_in() {
                return;
            }
        }
        self.set_out(hands, now);
    }

    /// Makes the brain and goes to work.
    fn set_out(&mut self, hands: &mut Hands, now: Moment) {
        let Phase::Checking(checking) = std::mem::replace(&mut self.phase, Phase::Working) else {
            return;
        };
        let Checking { have, laid, .. } = *checking;
        let geometry = self.task.metainfo.geometry;
        let laid: Vec<Block> = laid
            .into_iter()
            .filter(|it| !have.has(it.piece()))
            .collect();
        laid.iter().for_each(|block| self.book.mark_laid(*block));
        have.pieces(&geometry)
            .for_each(|piece| self.book.done(piece));
        let wanted = self.layout.wanted_pieces().clone();
        self.completed = wanted.is_within(&have).then_some(now);
        self.note_hunger();
        if self.task.role == Role::Seed {
            self.list_missing(&have, hands);
            self.prepared = true;
            self.serving = Some(now);
        }
        let setup = SwarmSetup {
            geometry,
            info_hash: self.info_hash(),
            have,
            wanted,
            sequential: self.task.sequential,
            laid,
            private: self.task.metainfo.private,
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
        if self.prepared {
            self.get_to_work(hands, now);
        }
    }

    /// Why work cannot begin with what is there, if so.
    fn refusal(
        &self,
        have: &Bitfield,
        foreign: bool,
        unreadable: Option<&StorageError>,
    ) -> Option<Ending> {
        let nothing_right = have.is_empty() && self.task.metainfo.geometry.pieces() > 0;
        match (self.task.role, unreadable) {
            // Nobody knows what is there: never call it wrong, never advise to overwrite it.
            (_, Some(error)) if nothing_right && !self.task.overwrite => {
                Some(Ending::Storage(error.clone()))
            }
            (Role::Seed, _) if nothing_right => Some(Ending::NothingToSeed),
            (Role::Get, _) if nothing_right && foreign && !self.task.overwrite => {
                let cause = "something else is there: none of its pieces match the torrent";
                let kind = StorageTrouble::InTheWay;
                Some(Ending::Storage(self.trouble(
                    kind,
                    "download to",
                    cause.to_owned(),
                )))
            }
            _ => None,
        }
    }

    /// Tells of each file that cannot be served whole.
    fn list_missing(&self, have: &Bitfield, hands: &Hands) {
        let geometry = self.task.metainfo.geometry;
        for (number, file) in self
            .layout
            .files()
            .iter()
            .enumerate()
            .filter(|(_, it)| !it.padding)
        {
            let end = file.start + file.length;
            let lacking = self
                .layout
                .pieces_of(number, 0..file.length)
                .filter(|it| !have.has(*it));
            let inside = lacking.map(|piece| {
                let begin = geometry.piece_start(piece);
                (begin + u64::from(geometry.piece_size(piece))).min(end) - begin.max(file.start)
            });
            let bytes = inside.sum();
            if bytes > 0 {
                let path = self.task.metainfo.files[number].path.clone();
                hands.noticeboard.post(Notice::Missing {
                    task: self.number,
                    path,
                    bytes,
                });
            }
        }
    }

    /// The keeper has made room for the data, or could not.
    pub(super) fn prepared(
        &mut self,
        outcome: Result<Arc<Layout>, StorageError>,
        hands: &mut Hands,
        now: Moment,
    ) {
        if !matches!(self.phase, Phase::Working | Phase::Checking(_)) {
            return self.leave_on(hands, now);
        }
        match outcome {
            Ok(layout) => {
                self.lies(layout, hands);
                self.prepared = true;
                match self.phase {
                    Phase::Checking(_) => self.set_out(hands, now),
                    _ => self.get_to_work(hands, now),
                }
            }
            Err(error) => self.close(Ending::Storage(error), hands, now),
        }
    }

    /// Everything lies here from now on, and is opened anew.
    pub(super) fn lies(&mut self, layout: Arc<Layout>, hands: &mut Hands) {
        self.layout = layout;
        hands.files.forget(self.info_hash());
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
        self.report_progress(hands, now);
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
            may_wait: self.book.any_out(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::client::rig::Rig;

    #[test]
    fn torrents_that_are_looked_through_together_share_what_the_checker_is_handed() {
        for (lookers, handed) in [(0, 4), (1, 4), (8, 4), (16, 2), (1000, 1)] {
            let folder = tempfile::tempdir().unwrap();
            let mut rig = Rig::surveying(folder.path(), |_| {});
            rig.hands.lookers = lookers;
            rig.keep();
            let Phase::Checking(checking) = &rig.torrent.phase else {
                panic!("something is looked through");
            };
            assert_eq!(checking.in_flight, handed, "{lookers} torrents");
            assert!(rig.torrent.looks());
            (0..4).for_each(|_| rig.check());
            rig.keep();
            assert!(rig.torrent.takes_callers() && !rig.torrent.looks());
        }
    }
}
