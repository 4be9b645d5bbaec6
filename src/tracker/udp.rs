//! The datagrams of clients and what is sent back (BEP 15).
//!
//! ```text
//! let mut desk = Desk::new(ids, interval, counters);
//! desk.answer(&datagram, from, now, &mut registry, &mut out);   // appends an answer, or nothing
//! Post::new(socket).serve(&mut desk, now, &mut registry);       // the same for what has arrived
//! ```
//!
//! Whoever has not proved its address gets 16 bytes for 16 and nothing else, so nobody can be flooded
//! by way of us. Whatever is not understood is dropped without a word, and so is an id that is not good.

use super::connection_ids::ConnectionIds;
use super::counters::{Counted, Counters};
use super::registry::{Announce, CompactPeers, Completeness, Families, Registry};
use crate::protocol::InfoHash;
use crate::protocol::tracker::http::Occasion;
use crate::protocol::tracker::scrape::Counts;
use crate::protocol::tracker::udp::{self, Question, Reply, SCRAPE_MAX};
use rustix::net::{MMsgHdr, RecvFlags, SendAncillaryBuffer, SendFlags, SocketAddrAny};
use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

/// Addresses in an answer if the client does not say how many it wants.
pub(super) const WANT: usize = 50;

/// IPv4 addresses in an answer at most: 1,220 bytes, which every line carries in one packet.
pub(super) const WANT_MAX: usize = 200;

/// IPv6 addresses in a datagram at most: 1,352 bytes.
const WANT_MAX_V6: usize = 74;

/// Datagrams that are answered before something else has its turn.
const TURN: usize = 64;

/// Longer datagrams are cut: no question of 74 torrents is as long.
const DATAGRAM_MAX: usize = 2_048;

/// How many addresses to give to who wants so many.
pub(super) fn want(wanted: Option<u32>, most: usize) -> usize {
    wanted.map_or(WANT, |wanted| {
        usize::try_from(wanted).unwrap_or(usize::MAX).min(most)
    })
}

/// How far a peer has come that lacks so many bytes.
pub(super) fn share(left: u64, event: Option<Occasion>) -> Completeness {
    match (left, event) {
        (0, _) => Completeness::Seed,
        (_, Some(Occasion::Paused)) => Completeness::Partial,
        _ => Completeness::Leecher,
    }
}

/// Understands datagrams and writes answers.
pub(super) struct Desk {
    ids: ConnectionIds,
    /// Seconds.
    interval: u32,
    counters: Arc<Counters>,
    found: CompactPeers,
}

impl Desk {
    pub(super) fn new(ids: ConnectionIds, interval: Duration, counters: Arc<Counters>) -> Desk {
        Desk {
            ids,
            interval: u32::try_from(interval.as_secs()).unwrap_or(u32::MAX),
            counters,
            found: CompactPeers::default(),
        }
    }

    /// Appends the answer to a datagram from `from`, if it deserves one. `now` is the time since the
    /// start.
    pub(super) fn answer(
        &mut self,
        datagram: &[u8],
        from: SocketAddr,
        now: Duration,
        registry: &mut Registry,
        out: &mut Vec<u8>,
    ) {
        // Nothing can be sent there, or it would come from somebody else's service.
        if from.port() == 0 {
            return self.counters.count(Counted::UdpMalformed);
        }
        let Ok(question) = Question::decode(datagram) else {
            return self.counters.count(Counted::UdpMalformed);
        };
        match question {
            Question::Connect { transaction } => {
                let connection = self.ids.issue(now, from.ip());
                let reply = Reply::Connected {
                    transaction,
                    connection,
                };
                reply.encode_into(out);
                self.counters.count(Counted::UdpConnects);
            }
            Question::Announce { connection, .. } | Question::Scrape { connection, .. }
                if !self.ids.accepts(now, from.ip(), connection) =>
            {
                self.counters.count(Counted::UdpBadIds);
            }
            Question::Announce {
                transaction,
                announce,
                ..
            } => self.announce(transaction, &announce, from, registry, out),
            Question::Scrape {
                transaction,
                info_hashes,
                ..
            } => {
                let asked = info_hashes.iter().take(SCRAPE_MAX);
                let counts = asked.map(|hash| {
                    let swarm = registry.scrape(&InfoHash(*hash));
                    Counts {
                        complete: swarm.seeds as u64,
                        incomplete: swarm.leechers as u64,
                        downloaded: Some(u64::from(swarm.completed)),
                    }
                });
                let counts = counts.collect();
                let reply = Reply::Scraped {
                    transaction,
                    counts,
                };
                reply.encode_into(out);
                self.counters.count(Counted::UdpScrapes);
            }
        }
    }

    fn announce(
        &mut self,
        transaction: u32,
        announce: &udp::Announce,
        from: SocketAddr,
        registry: &mut Registry,
        out: &mut Vec<u8>,
    ) {
        let is_v6 = from.ip().to_canonical().is_ipv6();
        let (families, most) = if is_v6 {
            (Families::V6, WANT_MAX_V6)
        } else {
            (Families::V4, WANT_MAX)
        };
        self.found.v4.clear();
        self.found.v6.clear();
        let announce = Announce {
            info_hash: announce.info_hash,
            address: SocketAddr::new(from.ip(), announce.port),
            peer_id: announce.peer_id,
            key: Some(announce.key).filter(|key| *key != 0),
            share: share(announce.left, announce.event),
            event: announce.event,
            want: want(announce.num_want, most),
            families,
        };
        match registry.announce(&announce, &mut self.found) {
            Ok(receipt) => {
                let reply = Reply::Announced {
                    transaction,
                    interval: self.interval,
                    leechers: u32::try_from(receipt.swarm.leechers).unwrap_or(u32::MAX),
                    seeders: u32::try_from(receipt.swarm.seeds).unwrap_or(u32::MAX),
                    peers: if is_v6 {
                        &self.found.v6
                    } else {
                        &self.found.v4
                    },
                };
                reply.encode_into(out);
                self.counters.count(Counted::UdpAnnounces);
            }
            Err(refusal) => {
                let reason = refusal.to_string();
                let reason = reason.as_bytes();
                Reply::Refused {
                    transaction,
                    reason,
                }
                .encode_into(out);
                self.counters.count(Counted::UdpRefused);
            }
        }
    }
}

/// A socket, and the answers of a turn, which leave together.
pub(super) struct Post {
    socket: UdpSocket,
    datagram: Vec<u8>,
    out: Vec<u8>,
    /// To whom, and where in `out` the answer ends.
    parcels: Vec<(SocketAddrAny, usize)>,
}

impl Post {
    pub(super) fn new(socket: UdpSocket) -> Post {
        Post {
            socket,
            datagram: vec![0; DATAGRAM_MAX],
            out: Vec::new(),
            parcels: Vec::new(),
        }
    }

    /// Answers what has arrived, a turn's worth at most.
    pub(super) fn serve(&mut self, desk: &mut Desk, now: Duration, registry: &mut Registry) {
        self.out.clear();
        self.parcels.clear();
        for _ in 0..TURN {
            // An error is an empty queue, or somebody else's: there is nothing to be done about it.
            let Ok((length, _, from)) =
                rustix::net::recvfrom(&self.socket, &mut self.datagram[..], RecvFlags::DONTWAIT)
            else {
                break;
            };
            let Some(to) = from else { continue };
            let Ok(from) = SocketAddr::try_from(to.clone()) else {
                continue;
            };
            let before = self.out.len();
            let datagram = &self.datagram[..length];
            desk.answer(datagram, from, now, registry, &mut self.out);
            if self.out.len() > before {
                self.parcels.push((to, self.out.len()));
            }
        }
        // Before they are answered: who has an answer finds itself in the figures.
        desk.counters.note(registry.totals());
        self.send(&desk.counters);
    }

    /// Sends the answers in one system call. What the system does not take is lost: the client asks
    /// again, as it does when the line has lost it.
    fn send(&self, counters: &Counters) {
        let mut begin = 0;
        let slices: Vec<[IoSlice; 1]> = self
            .parcels
            .iter()
            .map(|(_, end)| {
                let slice = IoSlice::new(&self.out[begin..*end]);
                begin = *end;
                [slice]
            })
            .collect();
        let mut controls: Vec<SendAncillaryBuffer> = self
            .parcels
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<MMsgHdr> = self
            .parcels
            .iter()
            .zip(&slices)
            .zip(&mut controls)
            .map(|(((to, _), slice), control)| MMsgHdr::new_with_addr(to, slice, control))
            .collect();
        let mut rest = &mut messages[..];
        while !rest.is_empty() {
            let sent = rustix::net::sendmmsg(&self.socket, rest, SendFlags::DONTWAIT);
            let done = sent.unwrap_or_else(|_| {
                counters.count(Counted::UdpUnsent);
                1
            });
            rest = &mut rest[done.max(1)..];
        }
    }
}

impl AsFd for Post {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

#[cfg(test)]
mod tests;
