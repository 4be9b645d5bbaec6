//! The coordinator: the one thread that owns the swarms. Its loop is the table of contents of the
//! client: everything that can happen arrives in one of its channels and is handled by one line.
//!
//! A turn takes what waits, lets the brains decide, carries their actions out, and sends each peer at
//! most one batch of commands. It waits for its channels and the clock and for nothing else: no
//! socket, no lock, and no file but for one case. It opens, reads and writes none, and closes those whose handle it is
//! the last to let go of ([`OpenFiles`](crate::storage::open_files::OpenFiles)). On NFS, `close` waits until what was
//! written is with the server.

use super::acting::Lost;
use super::hands::Hands;
use super::limiting::{Limiting, useful_slots};
use super::switchboard::Stage;
use super::torrent::Torrent;
use super::{Control, Ending, Notice};
use crate::announce::Answered;
use crate::net::listen::Caller;
use crate::net::{Command, Happened, Report};
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use crate::storage::check::CheckDone;
use crate::storage::keeper::Done;
use crate::swarm::Limits;
use crate::swarm::allowance::{Allowance, Need};
use crate::swarm::event::{Farewell, Moment, PeerKey};
use crossbeam_channel::{Receiver, Select, TryRecvError, never};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Messages taken from each channel in one turn before commands are sent: enough to share the cost
/// of a turn among them, few enough that a request does not wait long behind them.
const TAKEN_PER_TURN: usize = 64;

/// Turns begin at least so far apart: on a busy line the next one finds several messages and answers them
/// with one waking of a thread, where falling asleep and being woken costs more than the turn itself. What
/// comes after a rest is answered at once.
const APART: Duration = Duration::from_millis(1);

/// Everything that can reach the coordinator.
pub(super) struct Inbox {
    pub(super) reports: Receiver<Report>,
    pub(super) checked: Receiver<CheckDone>,
    pub(super) kept: Receiver<Done>,
    pub(super) answers: Receiver<Answered>,
    pub(super) callers: Receiver<Caller>,
    pub(super) control: Receiver<Control>,
}

/// The coordinator thread's state.
pub(super) struct Coordinator {
    pub(super) inbox: Inbox,
    pub(super) hands: Hands,
    pub(super) torrents: Vec<Torrent>,
    /// What each torrent needed when the allowance was last divided.
    pub(super) needs: Vec<Need>,
    /// What may pass in a second.
    pub(super) limiting: Limiting,
    /// The same, in bytes: up and down.
    pub(super) rates: (Option<u64>, Option<u64>),
    pub(super) clock: Instant,
}

impl Coordinator {
    /// Runs until every torrent has ended and every peer thread has said its last word.
    pub(super) fn run(mut self) {
        while !self.torrents.iter().all(Torrent::has_ended) {
            self.wait();
            let next = Instant::now() + APART;
            self.take_turn();
            sleep(next.saturating_duration_since(Instant::now()));
        }
        self.empty_the_house();
    }

    fn now(&self) -> Moment {
        self.clock.elapsed()
    }

    /// Sleeps until a channel has something or a torrent is due.
    fn wait(&self) {
        let due = self.torrents.iter().filter_map(Torrent::wake_at);
        let due = due.chain(self.limiting.due()).min();
        let mut select = Select::new();
        select.recv(&self.inbox.reports);
        select.recv(&self.inbox.checked);
        select.recv(&self.inbox.kept);
        select.recv(&self.inbox.answers);
        select.recv(&self.inbox.control);
        if self.hands.takes_callers() {
            select.recv(&self.inbox.callers);
        }
        match due {
            Some(due) => {
                let _ = select.ready_deadline(self.clock + due);
            }
            None => {
                select.ready();
            }
        }
    }

    fn take_turn(&mut self) {
        let now = self.now();
        for _ in 0..TAKEN_PER_TURN {
            let Ok(report) = self.inbox.reports.try_recv() else {
                break;
            };
            self.reported(report, now);
        }
        // All of them: a report may tell of a hundred small pieces that are to be hashed, and a verdict is of one.
        loop {
            match self.inbox.checked.try_recv() {
                Ok(done) => self.torrents[done.task].checked(done, &mut self.hands, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return self.give_up("checker", now),
            }
        }
        loop {
            match self.inbox.kept.try_recv() {
                Ok(done) => self.kept(done, now),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return self.give_up("keeper", now),
            }
        }
        while let Ok(answered) = self.inbox.answers.try_recv() {
            self.torrents[answered.task].answered(answered, &mut self.hands, now);
        }
        self.hands.answer_again();
        for _ in 0..TAKEN_PER_TURN {
            if !self.hands.takes_callers() {
                break;
            }
            match next_caller(&mut self.inbox.callers) {
                Next::Caller((stream, address)) => self.hands.answer(stream, address),
                Next::Nobody => break,
                Next::NoListener => self.miss_the_listener(),
            }
        }
        while let Ok(control) = self.inbox.control.try_recv() {
            if control == Control::Vanish {
                self.torrents.iter_mut().for_each(Torrent::forget_trackers);
            }
            self.stop(now);
        }
        for torrent in &mut self.torrents {
            torrent.wake(&mut self.hands, now);
        }
        let lookers = self.torrents.iter().filter(|torrent| torrent.looks());
        self.hands.lookers = lookers.count();
        self.share_out();
        self.limiting.grant(&mut self.hands, now);
        self.hands.switchboard.flush();
    }

    /// Divides connections and upload slots anew where a torrent began, became complete, or ended.
    fn share_out(&mut self) {
        let needs = || self.torrents.iter().map(Torrent::need);
        if needs().eq(self.needs.iter().copied()) {
            return;
        }
        self.needs = needs().collect();
        let whole = Allowance {
            peers: self.hands.peers_max,
            upload_slots: useful_slots(Limits::default().upload_slots, self.rates.0),
            up_limited: self.rates.0.is_some(),
            down_rate: self.rates.1,
        };
        let shares = whole.divide(&self.needs);
        for (torrent, share) in self.torrents.iter_mut().zip(shares) {
            torrent.keep_to(share);
        }
    }

    /// One turn of a peer thread.
    fn reported(&mut self, report: Report, now: Moment) {
        let peer = report.peer;
        for happened in report.batch {
            match happened {
                Happened::Knocked { info_hash, id } => self.knocked(peer, info_hash, id, now),
                Happened::Gone(why) => self.gone(peer, why, now),
                Happened::Wants { flow, bytes } => {
                    let connection = self.hands.switchboard.get_mut(peer);
                    let torrent = connection.and_then(|it| it.torrent).unwrap_or(0);
                    self.limiting.wants(peer, torrent, flow, bytes, now);
                }
                Happened::Unused { flow, bytes } => self.limiting.unused(peer, flow, bytes, now),
                happened => {
                    let Some(connection) = self.hands.switchboard.get_mut(peer) else {
                        continue;
                    };
                    if matches!(happened, Happened::Connected(_)) {
                        connection.stage = Stage::Talking;
                    }
                    if let Some(torrent) = connection.torrent {
                        self.torrents[torrent].happened(peer, happened, &mut self.hands, now);
                    }
                }
            }
        }
    }

    /// A caller says which torrent it wants.
    fn knocked(&mut self, peer: PeerKey, info_hash: InfoHash, id: PeerId, now: Moment) {
        let wanted = self
            .torrents
            .iter()
            .find(|torrent| torrent.info_hash() == info_hash && torrent.takes_callers());
        let full = self.hands.switchboard.seated() >= self.hands.peers_max;
        let Some(connection) = self.hands.switchboard.get_mut(peer) else {
            return;
        };
        let answer = match wanted {
            None => Command::HangUp(Farewell::OtherTorrent),
            Some(torrent) if torrent.id == id => Command::HangUp(Farewell::Ourselves),
            // Above the limit for as long as it takes the one that makes room to leave.
            Some(torrent) if full && !torrent.would_replace(now) => {
                Command::HangUp(Farewell::NoRoom)
            }
            Some(torrent) => {
                connection.torrent = Some(torrent.number);
                Command::Admit(torrent.introduction())
            }
        };
        self.hands.tell(peer, answer);
    }

    /// A peer thread has ended. Slots in commands that it never read are returned first, to the slot book
    /// alone: the brain frees all it had asked of the peer when it hears that the peer has gone. If it heard
    /// of each slot before that, it would ask the same peer again, whose connection is closed already.
    fn gone(&mut self, peer: PeerKey, why: Farewell, now: Moment) {
        self.limiting.gone(peer, now);
        let Some(connection) = self.hands.switchboard.disconnect(peer) else {
            return;
        };
        let (address, stage, way) = (connection.address, connection.stage, connection.way);
        let lost = Lost {
            address,
            stage,
            way,
            why,
        };
        let Some(torrent) = connection.torrent.map(|number| &mut self.torrents[number]) else {
            return;
        };
        for slot in connection.into_unread_slots() {
            torrent.book.returned(slot);
        }
        torrent.lost(peer, lost, &mut self.hands, now);
    }

    /// The keeper has done a job.
    fn kept(&mut self, done: Done, now: Moment) {
        let (torrent, hands) = (&mut self.torrents[done.task], &mut self.hands);
        torrent.kept(done.outcome, hands, now);
    }

    /// A thread without which nothing can be saved has failed, by a fault of ours: the record on disk
    /// is good, and waiting for the thread would never end.
    fn give_up(&mut self, thread: &str, now: Moment) {
        for torrent in &mut self.torrents {
            torrent.abandon(&format!("our {thread} thread has failed"), &self.hands, now);
        }
    }

    /// No caller will come any more. Where there never was a listener, the user knows.
    fn miss_the_listener(&mut self) {
        if self.hands.port.is_some() {
            let text = "nobody can call us any more, but we can call others: our listener thread has failed";
            let (task, text) = (None, text.to_owned());
            self.hands.noticeboard.post(Notice::Warning { task, text });
        }
    }

    /// The user wants to leave.
    fn stop(&mut self, now: Moment) {
        self.hands.keeper.hurry();
        for torrent in &mut self.torrents {
            let ending = if torrent.is_sharing() {
                Ending::StoppedSharing
            } else {
                Ending::Interrupted
            };
            torrent.close(ending, &mut self.hands, now);
        }
    }

    /// Every torrent has ended: callers that never said what they wanted are sent away, and the inbox
    /// is read until each peer thread has gone, so that none waits for ever to be heard.
    fn empty_the_house(mut self) {
        let now = self.now();
        for peer in self.hands.switchboard.everyone() {
            self.hands.tell(peer, Command::HangUp(Farewell::Leaving));
        }
        self.hands.switchboard.flush();
        let patience = self.clock + now + super::leaving::LEAVE_WITHIN;
        while self.hands.switchboard.len() > 0 {
            let Ok(report) = self.inbox.reports.recv_deadline(patience) else {
                return;
            };
            self.reported(report, now);
        }
    }
}

/// Who calls.
enum Next {
    /// Somebody.
    Caller(Caller),
    /// Nobody now.
    Nobody,
    /// Nobody, ever. Told once.
    NoListener,
}

/// The next caller. Without a listener the channel has no other end, and so would always be ready: it is
/// replaced by one that never is.
fn next_caller(callers: &mut Receiver<Caller>) -> Next {
    match callers.try_recv() {
        Ok(caller) => Next::Caller(caller),
        Err(TryRecvError::Empty) => Next::Nobody,
        Err(TryRecvError::Disconnected) => {
            *callers = never();
            Next::NoListener
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::listen;

    #[test]
    fn without_a_listener_nobody_is_waited_for_and_its_end_is_told_once() {
        let (listener, mut callers) = listen::callers();
        drop(listener);
        assert!(matches!(next_caller(&mut callers), Next::NoListener));
        assert!(matches!(next_caller(&mut callers), Next::Nobody));
        assert_eq!(callers.try_recv().err(), Some(TryRecvError::Empty));
    }
}
