//! The registry's vocabulary: what it is told, and what it says.

use super::peers::Completeness;
use crate::protocol::InfoHash;
use crate::protocol::peer::PeerId;
use crate::protocol::siphash::Key;
use crate::protocol::tracker::http::Occasion;
use fastrand::Rng;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// What the registry holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Torrents. When there are so many, a new one takes the place of one whose host has very many (a host
    /// is what `per_ip` counts, so nobody is one without that limit); who has very many itself, or where
    /// nobody has, is refused, and those that are here are served on.
    pub torrents: usize,
    /// Peers of all torrents together. When there are so many, a torrent that is among the largest at
    /// that moment gives up one that was silent for long, and the newcomer is let in. One that seems to
    /// be of one host gives up peers long before others of its size do. Flooding with many small torrents can
    /// shrink a large one only to their size, never below.
    pub peers: usize,
    /// Peers of one IP address (of one /64 in IPv6) in one torrent; 0: no limit. One more is answered
    /// like everybody, and not handed out. The loopback is exempt.
    pub per_ip: usize,
}

/// What a registry is made with.
#[derive(Debug)]
pub struct Charter {
    /// Its size.
    pub limits: Capacity,
    /// How often peers are asked to announce. One that was silent for one and a half is forgotten
    /// before two have passed.
    pub interval: Duration,
    /// The torrents that are served; `None`: all.
    pub allowed: Option<Vec<InfoHash>>,
    /// The address under which peers on the loopback are handed out; `None`: their own. It is not
    /// counted either.
    pub loopback_as: Option<IpAddr>,
    /// A secret, so that nobody can aim at our tables.
    pub key: Key,
    /// Chooses whom to hand out.
    pub dice: Rng,
}

/// Which addresses an answer has room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Families {
    /// Only IPv4: a datagram that came over it.
    V4,
    /// Only IPv6.
    V6,
    /// Both, those of the asker's own family first.
    Both,
}

/// Somebody says who it is and asks for others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announce {
    /// The torrent.
    pub info_hash: InfoHash,
    /// Where it listens. The address has been seen, the port is what it says.
    pub address: SocketAddr,
    /// Its id.
    pub peer_id: PeerId,
    /// A secret by which it is known when its address has changed.
    pub key: Option<u32>,
    /// How far it has come.
    pub share: Completeness,
    /// What happened to it.
    pub event: Option<Occasion>,
    /// How many addresses it gets at most.
    pub want: usize,
    /// Which.
    pub families: Families,
}

/// The addresses of an answer, as they go out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CompactPeers {
    /// Six bytes each.
    pub v4: Vec<u8>,
    /// Eighteen bytes each.
    pub v6: Vec<u8>,
}

/// The size of a swarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SwarmSize {
    /// Peers that have everything.
    pub seeds: usize,
    /// Peers that lack something, partial seeds among them.
    pub leechers: usize,
    /// Peers that lack something and want it.
    pub downloaders: usize,
    /// How many have become seeds since the tracker knows the torrent.
    pub completed: u32,
}

/// An announce that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The swarm, the asker included.
    pub swarm: SwarmSize,
    /// Whether the asker is handed out to others. It is not when it has left, or when too many of its
    /// address are here.
    pub listed: bool,
}

/// Why an announce is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The torrent is not on the list.
    #[error("this tracker does not serve this torrent")]
    NotAllowed,
    /// No room for another torrent.
    #[error("this tracker is full: it takes no new torrents at the moment")]
    Full,
    /// Nobody can connect to such an address.
    #[error("nobody can connect to your address")]
    Unusable,
}

/// What there is in all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Torrents that somebody shares.
    pub torrents: usize,
    /// Peers of all of them.
    pub peers: usize,
    /// Those of them that have everything.
    pub seeds: usize,
}
