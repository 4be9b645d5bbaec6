//! Who is on which line: from a peer's key to the thread that holds its socket.
//!
//! The coordinator gathers what it wants to tell a peer with [`Switchboard::tell`] and sends it all
//! with one [`Switchboard::flush`] at the end of its turn: one list and at most one wake-up a peer.
//! Keys are minted here and never used twice.

use crate::net::Command;
use crate::net::peer_thread::Line;
use crate::storage::slot::BlockSlot;
use crate::swarm::event::{Farewell, PeerKey, Way};
use crate::swarm::host::{host_of, is_near};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Callers that have not finished their handshake; the oldest is closed for a newcomer.
const KNOCKING_MAX: usize = 32;

/// Callers from one public host that have not finished their handshake.
const KNOCKING_PER_HOST_MAX: usize = 4;

/// How far a connection has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// We are connecting, or waiting for the answer to our handshake.
    Dialling,
    /// They connected; their handshake is not here yet.
    Knocking,
    /// Handshakes are through: a peer of the swarm.
    Talking,
    /// A silent caller that was told to go, and has not gone yet.
    SentAway,
}

/// Whether a caller may come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// There is room.
    Now,
    /// There will be as soon as somebody has left who was told to.
    Later,
    /// There is none.
    Refused,
}

/// One connection as the coordinator knows it.
pub(super) struct Connection {
    /// The other end.
    pub(super) address: SocketAddr,
    /// Who opened it.
    pub(super) way: Way,
    /// How far it has come.
    pub(super) stage: Stage,
    /// The torrent it is about; a caller's is known when it has knocked.
    pub(super) torrent: Option<usize>,
    line: Line,
    outbox: Vec<Command>,
    unsendable: Vec<BlockSlot>,
    /// It was told to end because it left too many unread.
    stuck: bool,
}

impl Connection {
    /// The slots in commands that its thread never read. To be called when the thread has gone.
    pub(super) fn into_unread_slots(self) -> Vec<BlockSlot> {
        let unsent = crate::net::peer_thread::Stuck(self.outbox).into_slots();
        self.line
            .close()
            .into_iter()
            .chain(unsent)
            .chain(self.unsendable)
            .collect()
    }
}

/// All connections of a client.
#[derive(Default)]
pub(super) struct Switchboard {
    connections: BTreeMap<PeerKey, Connection>,
    unsent: Vec<PeerKey>,
    last_key: u64,
}

impl Switchboard {
    /// A key that no connection ever had.
    pub(super) fn mint(&mut self) -> PeerKey {
        self.last_key += 1;
        PeerKey(self.last_key)
    }

    /// Puts a new connection on the board.
    pub(super) fn connect(
        &mut self,
        key: PeerKey,
        line: Line,
        address: SocketAddr,
        way: Way,
        torrent: Option<usize>,
    ) {
        let stage = match way {
            Way::Dialled => Stage::Dialling,
            Way::Accepted => Stage::Knocking,
        };
        self.connections.insert(
            key,
            Connection {
                address,
                way,
                stage,
                torrent,
                line,
                outbox: Vec::new(),
                unsendable: Vec::new(),
                stuck: false,
            },
        );
    }

    /// Takes a connection off the board, after its thread has said `Gone`.
    pub(super) fn disconnect(&mut self, key: PeerKey) -> Option<Connection> {
        self.connections.remove(&key)
    }

    /// The connection of this key.
    pub(super) fn get_mut(&mut self, key: PeerKey) -> Option<&mut Connection> {
        self.connections.get_mut(&key)
    }

    /// How many connections there are, in whatever stage.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// How many of them are about a torrent: callers that have not said what they want take no place from
    /// one that has.
    pub(super) fn seated(&self) -> usize {
        let seated = self.connections.values();
        seated.filter(|it| it.torrent.is_some()).count()
    }

    /// The keys of all connections about `torrent`.
    pub(super) fn of_torrent(&self, torrent: usize) -> Vec<PeerKey> {
        self.connections
            .iter()
            .filter(|(_, c)| c.torrent == Some(torrent))
            .map(|(key, _)| *key)
            .collect()
    }

    /// The keys of all connections.
    pub(super) fn everyone(&self) -> Vec<PeerKey> {
        self.connections.keys().copied().collect()
    }

    /// Makes room for a caller from `address` among at most `most` connections: a thousand that never
    /// speak must not keep an honest one out. The oldest silent one is sent away, once, where there
    /// are too many.
    pub(super) fn admit_caller(&mut self, address: IpAddr, most: usize) -> Admission {
        let at = |stage| {
            let connections = self.connections.iter();
            connections.filter(move |(_, connection)| connection.stage == stage)
        };
        let host = host_of(address);
        let same = |(_, connection): &(_, &Connection)| host_of(connection.address.ip()) == host;
        let from_there = at(Stage::Knocking).filter(same).count();
        if !is_near(address) && from_there >= KNOCKING_PER_HOST_MAX {
            return Admission::Refused;
        }
        let full = self.connections.len() >= most;
        if full && at(Stage::SentAway).next().is_some() {
            return Admission::Later;
        }
        if !full && at(Stage::Knocking).count() < KNOCKING_MAX.min(most / 2) {
            return Admission::Now;
        }
        // Keys grow, so the first in key order is the oldest.
        let Some(oldest) = at(Stage::Knocking).map(|(key, _)| *key).next() else {
            return Admission::Refused;
        };
        if let Some(connection) = self.connections.get_mut(&oldest) {
            connection.stage = Stage::SentAway;
        }
        self.tell(oldest, Command::HangUp(Farewell::Replaced));
        if full {
            Admission::Later
        } else {
            Admission::Now
        }
    }

    /// Puts a command into the batch for `key`; without effect if it has left.
    pub(super) fn tell(&mut self, key: PeerKey, command: Command) {
        if let Some(connection) = self.connections.get_mut(&key) {
            if connection.outbox.is_empty() {
                self.unsent.push(key);
            }
            connection.outbox.push(command);
        }
    }

    /// Sends every batch. A thread that has left too many unread is told to end; what could not be
    /// sent stays here until it has gone.
    pub(super) fn flush(&mut self) {
        for key in self.unsent.drain(..) {
            let Some(connection) = self.connections.get_mut(&key) else {
                continue;
            };
            let batch = std::mem::take(&mut connection.outbox);
            if let Err(stuck) = connection.line.send(batch) {
                if !std::mem::replace(&mut connection.stuck, true) {
                    connection.line.hang_up(Farewell::Stuck);
                }
                connection.unsendable.extend(stuck.into_slots());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::net::meter::Metered;
    use crate::net::peer_thread::{self, Deadlines, Surroundings};
    use crate::net::{Happened, Report};
    use crate::protocol::peer::{Handshake, PeerId};
    use crate::protocol::{Block, Geometry, InfoHash};
    use crate::storage::slot::{LandingBudget, ScratchFile};
    use crossbeam_channel::{Receiver, Select, bounded};
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    /// What takes longer will never come.
    const PATIENCE: Duration = Duration::from_secs(20);

    /// A peer thread that waits for its report to be taken, and reads no command meanwhile.
    fn busy(board: &mut Switchboard) -> (PeerKey, TcpStream, Receiver<Report>) {
        // Bound: no room at all: the thread waits until the test reads.
        let (inbox, reports) = bounded(0);
        let surroundings = Surroundings {
            inbox,
            trace: None,
            budget: LandingBudget::default(),
            deadlines: Deadlines::default(),
            metered: Metered::default(),
        };
        let ear = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let mut caller = TcpStream::connect(ear.local_addr().unwrap()).unwrap();
        let hello = Handshake::new(InfoHash([7; 20]), PeerId::new([b'x'; 12]));
        caller.write_all(&hello.encode()).unwrap();
        let (stream, address) = ear.accept().unwrap();
        let key = board.mint();
        let line = peer_thread::answer(key, stream, address, surroundings).unwrap();
        board.connect(key, line, address, Way::Accepted, Some(0));
        let mut select = Select::new();
        select.recv(&reports);
        select.ready_timeout(PATIENCE).unwrap();
        (key, caller, reports)
    }

    #[test]
    fn a_stuck_thread_is_told_to_end_and_the_slots_it_was_not_sent_come_home_too() {
        let mut board = Switchboard::default();
        let (key, _caller, reports) = busy(&mut board);
        let mut scratch = ScratchFile::new(Geometry::new(80 * 16_384, 80 * 16_384).unwrap(), 0);
        let blocks: Vec<Block> = (0..80).map(|number| scratch.block(0, number)).collect();
        for block in &blocks {
            board.tell(key, Command::Request(scratch.slot(*block)));
            board.flush();
        }
        let mut home: Vec<Block> = Vec::new();
        let mut why = None;
        while why.is_none() {
            for happened in reports.recv_timeout(PATIENCE).unwrap().batch {
                match happened {
                    Happened::Returned(slot) => home.push(slot.block()),
                    Happened::Gone(farewell) => why = Some(farewell),
                    _ => {}
                }
            }
        }
        assert_eq!(why, Some(Farewell::Stuck));
        let unread = board.disconnect(key).unwrap().into_unread_slots();
        assert!(!unread.is_empty());
        home.extend(unread.iter().map(BlockSlot::block));
        assert_eq!(home, blocks);
    }
}
