//! The table: starts everybody, listens to all, does what the plan says and sees when it is over.
//!
//! Twenty times a second the notices of all clients are collected, and after them what was overheard on their
//! lines. They are written down the other way round. So when a notice says that a piece is right, the
//! messages that brought it are in the chronicle already.

use super::cast::{self, LabRole};
use super::chronicle::{Book, ChokeChange, Chronicle};
use super::{
    Folder, LabError, LabEvent, LabOutcome, LabVerdict, Plan, Tell, book, faults, setting, trouble,
};
use crate::client;
use crate::client::{Client, Control, Ending, Notice, Settings, Sharing, Snapshot, Task};
use crate::net::trace::{self, Overheard, Told, Tracer};
use crate::protocol::metainfo::Metainfo;
use crate::protocol::peer::{Message, PeerId};
use crate::protocol::selection::Selection;
use crossbeam_channel::{Receiver, TryRecvError, never, select};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How often everything is looked at.
const TURN: Duration = Duration::from_millis(50);
/// If no payload passes for so long, nobody will finish any more. On slow lines the time that a few blocks
/// take is added.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without payload for so long after the last copy of a page has gone, it will not come back.
const MOURNING: Duration = Duration::from_secs(2);

/// A client at the table.
struct Seat {
    client: Client,
    tap: Receiver<Overheard>,
    /// The other end of the tap.
    tracer: Tracer,
    /// Its book is checked.
    ready: bool,
    /// The tracker knows it.
    announced: bool,
}

/// What a seat has told, and what was said on its lines.
struct SeatNews {
    notices: Vec<Notice>,
    overheard: Vec<Overheard>,
    /// What was said beside that.
    unheard: u64,
    /// It has told everything.
    gone: bool,
}

impl SeatNews {
    fn at(seat: &Seat) -> SeatNews {
        let mut notices = Vec::new();
        let gone = loop {
            match seat.client.notices().try_recv() {
                Ok(notice) => notices.push(notice),
                Err(error) => break error == TryRecvError::Disconnected,
            }
        };
        SeatNews {
            notices,
            overheard: seat.tap.try_iter().collect(),
            unheard: seat.tracer.missed(),
            gone,
        }
    }
}

struct Table<'a> {
    metainfo: Metainfo,
    folders: Vec<PathBuf>,
    /// `None`: not yet, or no more.
    seats: Vec<Option<Seat>>,
    chronicle: Chronicle,
    dice: fastrand::Rng,
    clock: Instant,
    /// Who has said this id of itself.
    ids: BTreeMap<PeerId, usize>,
    /// Which id was heard at the other end of a line: member and address.
    lines: BTreeMap<(usize, SocketAddr), PeerId>,
    /// The lines on which the member serves the other end.
    open: BTreeSet<(usize, SocketAddr)>,
    tell: &'a mut Tell<'a>,
}

/// Runs the lab in this folder.
pub(super) fn run<'a>(
    plan: &Plan,
    folder: &Folder,
    stopped: &Receiver<()>,
    tell: &'a mut Tell<'a>,
) -> Result<LabOutcome, LabError> {
    setting::enough_descriptors(plan)?;
    let clock = Instant::now();
    let mut dice = fastrand::Rng::with_seed(plan.rng);
    let cast = cast::of(plan, &mut dice);
    let tracker = setting::start_tracker()?;
    let address = tracker.udp().first().copied();
    let address = address.ok_or_else(|| LabError::Tracker("the tracker has no address".into()))?;
    let (original, name) = setting::open_book(plan, folder)?;
    let torrent = book::describe(&original, &name, &format!("udp://{address}/announce"))?;
    let metainfo = Metainfo::from_bytes(&torrent)?;
    let facts = Book {
        name: metainfo.name.clone(),
        bytes: metainfo.geometry.total(),
        pieces: metainfo.geometry.pieces(),
        piece_length: metainfo.geometry.piece_length(),
        info_hash: metainfo.info_hash,
    };
    let mut folders = Vec::new();
    for (number, part) in cast.iter().enumerate() {
        let own = folder.sub(&number.to_string())?;
        if !part.role.wants() {
            let copy = own.join(&metainfo.name);
            std::fs::copy(&original, &copy).map_err(|error| trouble(&copy, &error))?;
        }
        folders.push(own);
    }
    let mut table = Table {
        folders,
        seats: cast.iter().map(|_| None).collect(),
        chronicle: Chronicle::new(plan.clone(), facts, cast),
        metainfo,
        dice,
        clock,
        ids: BTreeMap::new(),
        lines: BTreeMap::new(),
        open: BTreeSet::new(),
        tell,
    };
    let torrent = torrent.len() as u64;
    table.say(LabEvent::Opened {
        torrent,
        tracker: address,
    });
    let verdict = table.play(stopped)?;
    let verdict = table.compare(verdict, &original)?;
    // Everybody has said goodbye to it.
    drop(tracker);
    Ok(LabOutcome {
        chronicle: table.chronicle,
        verdict,
    })
}

impl Table<'_> {
    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    fn say(&mut self, event: LabEvent) {
        let now = self.now();
        (self.tell)(&self.chronicle, now, event);
    }

    fn with_role(&self, fits: impl Fn(LabRole) -> bool) -> Vec<usize> {
        let members = self.chronicle.members.iter().enumerate();
        members
            .filter(|(_, member)| fits(member.part.role))
            .map(|(who, _)| who)
            .collect()
    }

    /// From the first to the last at the table.
    fn play(&mut self, stopped: &Receiver<()>) -> Result<LabVerdict, LabError> {
        let givers = self.with_role(|role| !role.wants());
        for who in &givers {
            self.seat(*who)?;
        }
        let ready = |seat: &Option<Seat>| seat.as_ref().is_none_or(|it| it.ready && it.announced);
        let mut early = None;
        while early.is_none() && !self.seats.iter().all(ready) {
            early = self.turn(stopped)?;
            let late = self.now() > 4 * PATIENCE;
            early = early.or_else(|| late.then_some(LabVerdict::Stuck));
        }
        self.chronicle.opened = self.now();
        if early.is_none() {
            for who in self.with_role(LabRole::wants) {
                self.seat(who)?;
            }
        }
        let verdict = loop {
            if let Some(verdict) = early.take().or_else(|| self.verdict()) {
                break verdict;
            }
            early = self.turn(stopped)?;
            self.dismiss();
            self.say(LabEvent::Tick);
        };
        self.chronicle.ended = self.now();
        for seat in self.seats.iter().flatten() {
            seat.client.stop();
        }
        while self.seats.iter().any(Option::is_some) {
            self.turn(&never())?;
        }
        Ok(verdict)
    }

    /// Waits a moment, then hears everybody.
    fn turn(&mut self, stopped: &Receiver<()>) -> Result<Option<LabVerdict>, LabError> {
        select! {
            recv(stopped) -> _ => return Ok(Some(LabVerdict::Stopped)),
            default(TURN) => {}
        }
        self.hear_all()?;
        Ok(None)
    }

    fn hear_all(&mut self) -> Result<(), LabError> {
        let heard: Vec<_> = self
            .seats
            .iter()
            .map(|seat| Some(SeatNews::at(seat.as_ref()?)))
            .collect();
        let heard = || {
            heard
                .iter()
                .enumerate()
                .filter_map(|(who, it)| Some((who, it.as_ref()?)))
        };
        // Who is who, before anything that was said to them.
        for (who, heard) in heard() {
            for one in &heard.overheard {
                self.meet(who, one);
            }
        }
        for (who, heard) in heard() {
            self.chronicle.unheard += heard.unheard;
            for one in &heard.overheard {
                self.overhear(who, one);
            }
        }
        for (who, heard) in heard() {
            for notice in &heard.notices {
                self.note(who, notice)?;
            }
            if heard.gone {
                self.seats[who] = None;
            }
        }
        Ok(())
    }

    /// Somebody sits down.
    fn seat(&mut self, who: usize) -> Result<(), LabError> {
        let role = self.chronicle.members[who].part.role;
        let plan = &self.chronicle.plan;
        let (tracer, tap) = trace::tap();
        let settings = Settings {
            port: Some(0),
            bind: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            max_peers: 2 * self.seats.len() + 4,
            up: match role {
                LabRole::FreeRider => Some(plan.riders_rate()),
                _ => plan.up,
            },
            down: None,
            trace: Some(tracer.clone()),
            seed: self.dice.u64(..),
        };
        let hashed = match role {
            LabRole::Liar => {
                let path = self.folders[who].join(&self.metainfo.name);
                faults::spoil(&path)?;
                Some(Arc::new(faults::vouch_for(path)?))
            }
            _ => None,
        };
        let task = Task {
            wanted: Selection::all(&self.metainfo),
            sequential: false,
            metainfo: self.metainfo.clone(),
            folder: self.folders[who].clone(),
            role: if role.wants() {
                client::Role::Get
            } else {
                client::Role::Seed
            },
            check: false,
            overwrite: false,
            peers: Vec::new(),
            trackers: true,
            sharing: Sharing {
                ratio: None,
                time: None,
            },
            timeout: None,
            hashed,
        };
        self.say(LabEvent::Entered { who });
        self.seats[who] = Some(Seat {
            client: Client::start(settings, vec![task])?,
            tap,
            tracer,
            ready: role.wants(),
            announced: false,
        });
        Ok(())
    }

    /// Handshakes tell who is who.
    fn meet(&mut self, who: usize, overheard: &Overheard) {
        match (&overheard.told, overheard.heard) {
            (Told::Handshake(handshake), false) => {
                self.ids.insert(handshake.id, who);
            }
            (Told::Handshake(handshake), true) => {
                self.lines.insert((who, overheard.peer), handshake.id);
            }
            _ => {}
        }
    }

    /// Something was said on one of `who`'s lines.
    fn overhear(&mut self, who: usize, overheard: &Overheard) {
        let line = (who, overheard.peer);
        let at = overheard.at.saturating_duration_since(self.clock);
        match (&overheard.told, overheard.heard) {
            (Told::Message(Message::Piece(block)), true) => {
                if let Some(from) = self.whom(line) {
                    let chronicle = &mut self.chronicle;
                    chronicle.gives(from, who, block.piece, block.length, at);
                }
            }
            (Told::Message(Message::Unchoke), false) if self.open.insert(line) => {
                self.turned(line, true, true, at);
            }
            (Told::Message(Message::Choke), false) => self.closed(line, true, at),
            _ => {}
        }
    }

    /// Who is at the other end of a line.
    fn whom(&self, line: (usize, SocketAddr)) -> Option<usize> {
        self.ids.get(self.lines.get(&line)?).copied()
    }

    fn closed(&mut self, line: (usize, SocketAddr), said: bool, at: Duration) {
        if self.open.remove(&line) {
            self.turned(line, false, said, at);
        }
    }

    fn turned(&mut self, line: (usize, SocketAddr), open: bool, said: bool, at: Duration) {
        if let Some(whom) = self.whom(line) {
            let who = line.0;
            let turn = ChokeChange {
                at,
                who,
                whom,
                open,
                said,
            };
            self.chronicle.turned(turn);
            self.say(LabEvent::Turned(turn));
        }
    }

    /// A client told something.
    fn note(&mut self, who: usize, notice: &Notice) -> Result<(), LabError> {
        let now = self.now();
        match notice {
            Notice::Piece { piece, good, .. } if *good => {
                let spread = self.chronicle.spread;
                if let Some(arrival) = self.chronicle.verified(who, piece.get(), now) {
                    self.say(LabEvent::Came(arrival));
                }
                if spread != self.chronicle.spread {
                    self.say(LabEvent::Spread);
                }
            }
            Notice::Piece { piece, .. } => self.chronicle.spoiled(who, piece.get()),
            Notice::Progress { snapshot, .. } => self.figures(who, snapshot),
            Notice::Dropped { notices } => self.chronicle.untold += notices,
            Notice::PeerLeft { address, .. } => self.closed((who, *address), false, now),
            Notice::Complete { snapshot, .. } => {
                self.figures(who, snapshot);
                self.chronicle.complete(who, now);
                self.seats[who].iter_mut().for_each(|it| it.ready = true);
            }
            // What it heard before it went is no word to the tracker after it.
            Notice::Tracker { .. } if self.chronicle.has_vanished(who) => return Ok(()),
            Notice::Tracker { outcome, .. } => {
                let answered = outcome.is_ok();
                let seat = self.seats[who].iter_mut();
                seat.for_each(|it| it.announced |= answered);
            }
            Notice::Stopped {
                snapshot, ending, ..
            } => {
                self.figures(who, snapshot);
                if !matches!(ending, Ending::StoppedSharing | Ending::Interrupted) {
                    return Err(LabError::Ended {
                        who: self.chronicle.members[who].part.name.clone(),
                        ending: ending.clone(),
                    });
                }
            }
            _ => {}
        }
        let notice = notice.clone();
        self.say(LabEvent::Told { who, notice });
        Ok(())
    }

    fn figures(&mut self, who: usize, snapshot: &Snapshot) {
        let member = &mut self.chronicle.members[who];
        member.given = snapshot.uploaded;
        member.taken = snapshot.downloaded;
        member.wasted = snapshot.wasted;
    }

    /// Those whose time has come leave.
    fn dismiss(&mut self) {
        let chronicle = &self.chronicle;
        let now = self.now();
        let seeds_go = chronicle.plan.no_seed_after;
        let seeds_go = seeds_go.is_some_and(|after| now >= chronicle.opened + after);
        let pieces = chronicle.book.pieces;
        let goes = |who: &usize| {
            let member = &chronicle.members[*who];
            let time = match member.part.role {
                LabRole::Seed => seeds_go,
                LabRole::Leaver => member.count * 2 >= pieces,
                _ => false,
            };
            time && member.left.is_none()
        };
        let leaving: Vec<usize> = (0..self.seats.len()).filter(goes).collect();
        for who in leaving {
            self.chronicle.members[who].left = Some(now);
            if let Some(seat) = &self.seats[who] {
                let how = match self.chronicle.members[who].part.role {
                    LabRole::Leaver => Control::Vanish,
                    _ => Control::Stop,
                };
                let _ = seat.client.control().send(how);
            }
            self.say(LabEvent::Left { who });
        }
    }

    /// Whether it is over, and how.
    fn verdict(&self) -> Option<LabVerdict> {
        let chronicle = &self.chronicle;
        if chronicle.waiting().next().is_none() {
            return Some(LabVerdict::Everybody);
        }
        let members = chronicle.members.iter();
        let last_left = members.filter_map(|member| member.left).max();
        let last = chronicle.last_payload.max(chronicle.opened);
        let silence = self
            .now()
            .saturating_sub(last.max(last_left.unwrap_or_default()));
        // On a slow line a block takes its time.
        let slow = chronicle.plan.up.map_or(0, |up| (256 << 10) / up.max(1));
        if silence > MOURNING + Duration::from_secs(slow) {
            let lost = chronicle.lost();
            if !lost.is_empty() {
                return Some(LabVerdict::Lost(lost));
            }
        }
        (silence > PATIENCE + Duration::from_secs(slow)).then_some(LabVerdict::Stuck)
    }

    /// Reads every copy from disk again.
    fn compare(&mut self, verdict: LabVerdict, original: &Path) -> Result<LabVerdict, LabError> {
        if verdict != LabVerdict::Everybody {
            return Ok(verdict);
        }
        let mut different = Vec::new();
        for who in self.with_role(LabRole::wants) {
            let member = &self.chronicle.members[who];
            if member.complete.is_none() || member.left.is_some() {
                continue;
            }
            let copy = self.folders[who].join(&self.metainfo.name);
            let equal = book::equal(original, &copy)?;
            self.say(LabEvent::Compared { who, equal });
            if !equal {
                different.push(who);
            }
        }
        Ok(match different.is_empty() {
            true => LabVerdict::Everybody,
            false => LabVerdict::Different(different),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::lab::chronicle::small_of;
    use crate::storage::test_torrent::Author;

    #[test]
    fn who_has_vanished_tells_nothing_of_a_tracker_that_answered_it_a_moment_before() {
        let plan = Plan {
            peers: 2,
            leave: 1,
            ..Plan::default()
        };
        let mut told = Vec::new();
        let mut table = Table {
            metainfo: Author::single("book", 16_384, 16_384).metainfo(),
            folders: Vec::new(),
            seats: (0..3).map(|_| None).collect(),
            chronicle: small_of(plan),
            dice: fastrand::Rng::with_seed(1),
            clock: Instant::now(),
            ids: BTreeMap::new(),
            lines: BTreeMap::new(),
            open: BTreeSet::new(),
            tell: &mut |_, _, event| told.push(event),
        };
        let leaver = table.with_role(|role| role == LabRole::Leaver)[0];
        let answer = Notice::Tracker {
            task: 0,
            tracker: "udp://127.0.0.1:1".to_owned(),
            outcome: Ok(2),
        };
        table.note(leaver, &answer).unwrap();
        let pieces = table.chronicle.book.pieces;
        (0..pieces).for_each(|piece| {
            table.chronicle.verified(leaver, piece, TURN);
        });
        table.dismiss();
        table.note(leaver, &answer).unwrap();
        let names = |event: &LabEvent| match event {
            LabEvent::Told { .. } => "told",
            LabEvent::Left { .. } => "left",
            _ => "else",
        };
        let names: Vec<_> = told.iter().map(names).collect();
        assert_eq!(names, ["told", "left"]);
    }
}
