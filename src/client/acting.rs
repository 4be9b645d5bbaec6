//! Between brain and hands: what happened becomes events, what the brain decides is carried out.
//!
//! A slot leaves here with a request and comes home here, laid or unused, exactly once; the slot book
//! and the brain learn it in the same breath, so they never disagree about who may write a block.

use super::hands::Hands;
use super::switchboard::Stage;
use super::torrent::Torrent;
use super::{Ending, Notice};
use crate::net::{Command, Happened, Introduction};
use crate::protocol::Block;
use crate::storage::lazy_file::Access;
use crate::storage::slot::{BlockSlot, StorageTrouble};
use crate::swarm::event::{Action, Event, Farewell, Moment, PeerKey, Way};
use std::collections::VecDeque;
use std::net::SocketAddr;

impl Torrent {
    /// Tells the brain what happened and carries out what it decides.
    pub(super) fn decide(&mut self, event: Event, hands: &mut Hands, now: Moment) {
        let mut next = Some(event);
        let mut events = VecDeque::new(); // hardly ever any
        let mut actions = std::mem::take(&mut hands.actions);
        while let (Some(event), Some(swarm)) = (next, self.swarm.as_mut()) {
            swarm.handle(event, now, &mut actions);
            for action in actions.drain(..) {
                // A dial that cannot even begin is news for the brain, as any other failed dial.
                events.extend(self.carry_out(action, hands, now));
            }
            next = events.pop_front();
        }
        hands.actions = actions;
    }

    fn carry_out(&mut self, action: Action, hands: &mut Hands, now: Moment) -> Option<Event> {
        match action {
            // While we are leaving, every farewell makes room, and nobody is called to fill it.
            Action::Dial { .. } if !self.takes_callers() => {}
            Action::Dial { address } => {
                let why = hands
                    .dial(self.number, address, self.introduction())
                    .err()?;
                return Some(Event::Unreached { address, why });
            }
            Action::HangUp { peer, why } => hands.tell(peer, Command::HangUp(why)),
            Action::Say { peer, message } => hands.tell(peer, Command::Say(message)),
            Action::Request { peer, block } => {
                return self.hand_out(peer, block, Command::Request, hands);
            }
            Action::RequestSpare { peer, block } => hands.tell(peer, Command::RequestSpare(block)),
            Action::Revoke { peer, block } => hands.tell(peer, Command::Revoke(block)),
            Action::Settle { peer, block } => {
                return self.hand_out(peer, block, Command::Settle, hands);
            }
            Action::Discard { peer, block } => hands.tell(peer, Command::Discard(block)),
            Action::Serve { peer, block } => {
                let source = hands.source(&self.layout, block);
                hands.tell(peer, Command::Serve(source));
            }
            Action::Withhold { peer, block } => hands.tell(peer, Command::Withhold(block)),
            Action::Check { piece, by_block } => {
                debug_assert!(
                    self.book.is_laid(piece),
                    "a check of {piece:?} while slots of it are out"
                );
                let job = self.check_job(piece, by_block, hands);
                hands.checker.ask(job);
            }
            Action::Keep { piece } => self.verified(piece, now),
            Action::Forget { piece } => self.book.forget(piece),
            Action::Announce => self.announcing.ask_soon(),
            Action::Complete => {
                self.completed = Some(now);
                // Whoever has all they want and not all there is never completed it (BEP 21).
                if self.swarm.as_ref().is_some_and(|it| it.have().is_full()) {
                    self.announcing.completed();
                }
                self.note_hunger();
            }
        }
        None
    }

    /// Takes a block's slot and sends it to a peer's thread.
    fn hand_out(
        &mut self,
        peer: PeerKey,
        block: Block,
        command: fn(BlockSlot) -> Command,
        hands: &mut Hands,
    ) -> Option<Event> {
        let places = hands.files.places(&self.layout, block, Access::Write);
        match self.book.take(block, places) {
            Some(slot) => {
                hands.tell(peer, command(slot));
                None
            }
            None => {
                debug_assert!(
                    false,
                    "{block:?} was asked of {peer:?} while its slot is not free"
                );
                Some(Event::Returned { peer, block })
            }
        }
    }

    /// Who we are and what the torrent looks like, for a handshake.
    pub(super) fn introduction(&self) -> Introduction {
        Introduction {
            info_hash: self.info_hash(),
            id: self.id,
            geometry: self.task.metainfo.geometry,
        }
    }

    /// One thing that happened on a connection of this torrent, once handshakes are through.
    pub(super) fn happened(
        &mut self,
        peer: PeerKey,
        happened: Happened,
        hands: &mut Hands,
        now: Moment,
    ) {
        let event = match happened {
            Happened::Knocked { .. }
            | Happened::Gone(_)
            | Happened::Wants { .. }
            | Happened::Unused { .. } => return,
            Happened::Connected(greeting) => {
                let (address, client) = (greeting.address, greeting.id.client_name());
                hands.noticeboard.post(Notice::PeerJoined {
                    task: self.number,
                    address,
                    client,
                });
                self.note_progress(now);
                self.peers += 1;
                self.note_hunger();
                Event::Connected { peer, greeting }
            }
            Happened::Said(message) => Event::Said { peer, message },
            Happened::Laid(slot) => {
                self.last_arrival = now;
                self.note_progress(now);
                let block = self.book.laid(slot);
                self.saving.laid(self.layout.files_of(block));
                Event::Received { peer, block }
            }
            Happened::Returned(slot) => Event::Returned {
                peer,
                block: self.book.returned(slot),
            },
            Happened::Arriving => {
                self.last_arrival = now;
                return;
            }
            Happened::Held(block) => Event::Held { peer, block },
            Happened::Wasted { bytes, asked } => Event::Wasted { peer, bytes, asked },
            Happened::Served(block) => {
                self.note_progress(now);
                self.saving.touch(now);
                Event::Served { peer, block }
            }
            Happened::Unserved(block) => Event::Unserved { peer, block },
            // Passes when others have closed theirs: the block is asked for again.
            Happened::Failed(error) if error.kind == StorageTrouble::Descriptors => {
                return self.warn_of_descriptors(hands);
            }
            Happened::Failed(error) => {
                return match self.layout.watched_at(&error.path) {
                    Some(file) => self.was_written_to(file, error, hands, now),
                    None => self.close(Ending::Storage(error), hands, now),
                };
            }
        };
        self.decide(event, hands, now);
    }

    /// Tells the user that something about this torrent is not as it should be: one sentence, not escaped.
    pub(super) fn warn(&self, text: String, hands: &Hands) {
        let task = Some(self.number);
        hands.noticeboard.post(Notice::Warning { task, text });
    }

    /// Says something that may happen again and again, once.
    pub(super) fn warn_once(&mut self, text: &str, hands: &Hands) {
        if self.warned.insert(text.to_owned()) {
            self.warn(text.to_owned(), hands);
        }
    }

    /// A file could not be opened and will be, as soon as others have closed theirs: said once, not once a file.
    pub(super) fn warn_of_descriptors(&mut self, hands: &Hands) {
        self.warn_once(
            "too many open files: what cannot be opened now is tried again",
            hands,
        );
    }

    /// A connection of this torrent has ended.
    pub(super) fn lost(&mut self, peer: PeerKey, lost: Lost, hands: &mut Hands, now: Moment) {
        let Lost {
            address,
            stage,
            way,
            why,
        } = lost;
        let left = Notice::PeerLeft {
            task: self.number,
            address,
            why: why.clone(),
        };
        hands.noticeboard.post(left);
        self.note_progress(now);
        if stage == Stage::Talking {
            self.peers -= 1;
            self.note_hunger();
            self.decide(Event::Gone { peer, why }, hands, now);
        } else if way == Way::Dialled {
            if self.task.peers.contains(&address) && why != Farewell::Leaving {
                let then = if why.may_retry() {
                    "; trying again"
                } else {
                    ""
                };
                self.warn_once(&format!("{address} {why}{then}"), hands);
            }
            self.decide(Event::Unreached { address, why }, hands, now);
        }
        self.leave_on(hands, now);
    }
}

/// A connection that has ended.
pub(super) struct Lost {
    /// The other end.
    pub(super) address: SocketAddr,
    /// How far it had come.
    pub(super) stage: Stage,
    /// Who had opened it.
    pub(super) way: Way,
    /// Why it ended.
    pub(super) why: Farewell,
}
