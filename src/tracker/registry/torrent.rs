//! One torrent: its swarm in both address families.

use super::SwarmSize;
use super::peers::{Peers, Rules};
use crate::protocol::InfoHash;
use crate::protocol::tracker::compact;
use fastrand::Rng;
use std::net::{IpAddr, SocketAddr};

/// So many times its size a torrent weighs in which one host was met twice in two draws.
const CROWDED_WEIGHS: usize = 16;

/// See the module's head.
pub(super) struct ListedTorrent {
    pub(super) info_hash: InfoHash,
    pub(super) completed: u32,
    pub(super) v4: Peers<{ compact::V4 }>,
    /// Rare enough to be elsewhere.
    pub(super) v6: Option<Box<Peers<{ compact::V6 }>>>,
}

impl ListedTorrent {
    pub(super) fn len(&self) -> usize {
        self.v4.len() + self.v6.as_ref().map_or(0, |v6| v6.len())
    }

    pub(super) fn seeds(&self) -> usize {
        self.v4.seeds() + self.v6.as_ref().map_or(0, |v6| v6.seeds())
    }

    /// Its size, or a multiple of it where it seems to be of one host. Its larger family is looked at,
    /// as that is the one that would give up a peer.
    pub(super) fn weight(&self, rules: &Rules, dice: &mut Rng) -> usize {
        let crowded = match &self.v6 {
            Some(v6) if v6.len() > self.v4.len() => v6.are_two_of_one_host(rules, dice),
            _ => self.v4.are_two_of_one_host(rules, dice),
        };
        self.len() * if crowded { CROWDED_WEIGHS } else { 1 }
    }

    /// The host of one of its peers, whichever the dice say; `None` where nobody counts it.
    pub(super) fn a_host(&self, rules: &Rules, dice: &mut Rng) -> Option<&[u8]> {
        let chosen = dice.usize(..self.len().max(1));
        match (&self.v6, chosen.checked_sub(self.v4.len())) {
            (_, None) => self.v4.host(rules, chosen),
            (Some(v6), Some(chosen)) => v6.host(rules, chosen),
            (None, Some(_)) => None,
        }
    }

    pub(super) fn swarm(&self) -> SwarmSize {
        let seeds = self.seeds();
        SwarmSize {
            seeds,
            leechers: self.len() - seeds,
            downloaders: self.v4.leechers() + self.v6.as_ref().map_or(0, |v6| v6.leechers()),
            completed: self.completed,
        }
    }
}

/// A compact address of either family.
#[derive(Clone, Copy)]
pub(super) enum Address {
    V4([u8; compact::V4]),
    V6([u8; compact::V6]),
}

impl Address {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Address::V4(bytes) => bytes,
            Address::V6(bytes) => bytes,
        }
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let port = address.port().to_be_bytes();
        match address.ip() {
            IpAddr::V4(ip) => {
                let mut bytes = [0; compact::V4];
                bytes[..4].copy_from_slice(&ip.octets());
                bytes[4..].copy_from_slice(&port);
                Address::V4(bytes)
            }
            IpAddr::V6(ip) => {
                let mut bytes = [0; compact::V6];
                bytes[..16].copy_from_slice(&ip.octets());
                bytes[16..].copy_from_slice(&port);
                Address::V6(bytes)
            }
        }
    }
}
