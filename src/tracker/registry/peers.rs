//! The peers of one torrent and one address family: twelve bytes for one with an IPv4 address, 24
//! with an IPv6 one. The address stands in it as it goes out (BEP 23, BEP 7), so an answer is copied
//! together.
//!
//! ```text
//! | leechers ...          | partial seeds and seeds, mixed ... |
//! ```
//!
//! Who has what it wants is shown the left part alone. A long list has an index.

use super::index::Index;
use crate::protocol::siphash::Key;
use fastrand::Rng;
use std::net::IpAddr;
use std::ops::Range;

/// Peers from which on a list has an index; it loses it at half as many.
const INDEXED: usize = 128;

/// How many are looked at to find one that has company of its own host, or was silent for long.
const DRAWN: usize = 8;

/// How far a peer has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Completeness {
    /// It lacks something and wants it.
    Leecher,
    /// It lacks something and wants nothing more (BEP 21).
    Partial,
    /// It has everything.
    Seed,
}

/// What every list is told: how addresses are hashed, and who is counted against the share of one.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) key: Key,
    /// Peers of one address in one torrent; 0: no limit.
    pub(super) per_ip: usize,
    /// An address that is not counted, as the loopback never is.
    pub(super) exempt: Option<IpAddr>,
}

impl Rules {
    /// The part of a compact address that stands for one host: an IPv4 address, or the network of an
    /// IPv6 one, as who has one address there has 2^64. `None` where nobody counts.
    pub(super) fn host<'a>(&self, address: &'a [u8]) -> Option<&'a [u8]> {
        if self.per_ip == 0 {
            return None;
        }
        let (ip, host) = match address.split_first_chunk::<16>() {
            Some((ip, _)) => (IpAddr::from(*ip), &address[..8]),
            None => {
                let ip: [u8; 4] = address.first_chunk().copied()?;
                (IpAddr::from(ip), &address[..4])
            }
        };
        (!ip.is_loopback() && self.exempt != Some(ip)).then_some(host)
    }

    /// Peers of one host have one hash where they are counted: then a search meets all of them.
    fn hash(&self, address: &[u8]) -> u32 {
        self.key.hash(self.host(address).unwrap_or(address)) as u32
    }
}

/// One peer. `N` is the length of its compact address. Bytes only, so nothing is lost to alignment.
#[derive(Debug, Clone, Copy)]
pub(super) struct ListedPeer<const N: usize> {
    pub(super) address: [u8; N],
    /// What its id and key come to; zeros where it gave no key.
    pub(super) ident: [u8; 4],
    /// When it was last heard of.
    pub(super) tick: u8,
    pub(super) share: Completeness,
}

/// What is known about an address before it is let in.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Lookup {
    /// It is here.
    Known(usize),
    /// It is new.
    New {
        /// Where the same client stands with its old address.
        before: Option<usize>,
        /// Whether its host has used up its share.
        crowded: bool,
    },
}

/// See the module's head.
#[derive(Default)]
pub(super) struct Peers<const N: usize> {
    list: Vec<ListedPeer<N>>,
    leechers: u32,
    seeds: u32,
    index: Option<Box<Index>>,
}

impl<const N: usize> Peers<N> {
    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn seeds(&self) -> usize {
        self.seeds as usize
    }

    /// Those who lack something and want it.
    pub(super) fn leechers(&self) -> usize {
        self.leechers as usize
    }

    /// The host of one of them, where hosts are counted.
    pub(super) fn host(&self, rules: &Rules, at: usize) -> Option<&[u8]> {
        rules.host(&self.list.get(at)?.address)
    }

    pub(super) fn share(&self, at: usize) -> Completeness {
        self.list[at].share
    }

    /// Looks for an address, and for the client behind it.
    #[inline]
    pub(super) fn look_up(&self, rules: &Rules, address: &[u8; N], ident: [u8; 4]) -> Lookup {
        let host = rules.host(address);
        let is_of_host =
            |peer: &ListedPeer<N>| host.is_some_and(|host| peer.address.starts_with(host));
        let mut of_host = 0;
        let mut before = None;
        let mut look = |at: usize| {
            let peer = &self.list[at];
            of_host += usize::from(is_of_host(peer));
            if ident != [0; 4] && peer.ident == ident {
                before = Some(at);
            }
            peer.address == *address
        };
        let known = match &self.index {
            // Only peers of the same host are met here: a client that moves within a great swarm
            // leaves its old address to its expiry.
            Some(index) => index.find(rules.hash(address), &mut look),
            None => (0..self.list.len()).find(|&at| look(at)),
        };
        match known {
            Some(at) => Lookup::Known(at),
            None => {
                // It makes room for itself.
                of_host -= before.map_or(0, |at| usize::from(is_of_host(&self.list[at])));
                Lookup::New {
                    before,
                    crowded: host.is_some() && of_host >= rules.per_ip,
                }
            }
        }
    }

    /// Lets a peer in that is not here yet; gives its place.
    pub(super) fn insert(&mut self, rules: &Rules, peer: ListedPeer<N>) -> usize {
        let length = self.list.len();
        if length == self.list.capacity() {
            // Most lists are short and there are many of them: doubling would waste a third.
            let more = if length < 64 { length / 2 } else { length / 4 };
            self.list.reserve_exact(more.max(2));
        }
        self.list.push(peer);
        if let Some(index) = &mut self.index {
            index.insert(rules.hash(&peer.address), length);
        } else if self.list.len() >= INDEXED {
            let mut index = Box::new(Index::new());
            for (at, peer) in self.list.iter().enumerate() {
                index.insert(rules.hash(&peer.address), at);
            }
            self.index = Some(index);
        }
        self.seeds += u32::from(peer.share == Completeness::Seed);
        if peer.share != Completeness::Leecher {
            return length;
        }
        let border = self.leechers();
        self.swap(rules, length, border);
        self.leechers += 1;
        border
    }

    /// Writes down what a peer that is here says now; gives its place, which may be another one.
    pub(super) fn refresh(
        &mut self,
        rules: &Rules,
        at: usize,
        ident: [u8; 4],
        tick: u8,
        share: Completeness,
    ) -> usize {
        let peer = &mut self.list[at];
        let was = std::mem::replace(&mut peer.share, share);
        (peer.ident, peer.tick) = (ident, tick);
        self.seeds -= u32::from(was == Completeness::Seed);
        self.seeds += u32::from(share == Completeness::Seed);
        let to = match (was == Completeness::Leecher, share == Completeness::Leecher) {
            (true, false) => {
                self.leechers -= 1;
                self.leechers()
            }
            (false, true) => {
                self.leechers += 1;
                self.leechers() - 1
            }
            _ => at,
        };
        self.swap(rules, at, to);
        to
    }

    /// Lets a peer go.
    pub(super) fn remove(&mut self, rules: &Rules, mut at: usize) {
        if at < self.leechers() {
            self.leechers -= 1;
            let border = self.leechers();
            self.swap(rules, at, border);
            at = border;
        }
        let last = self.list.len() - 1;
        self.swap(rules, at, last);
        let Some(peer) = self.list.pop() else { return };
        self.seeds -= u32::from(peer.share == Completeness::Seed);
        if let Some(index) = &mut self.index {
            index.remove(rules.hash(&peer.address), last);
        }
        if self.list.len() < INDEXED / 2 {
            self.index = None;
        }
        if self.list.capacity() > 8 && self.list.len() * 3 < self.list.capacity() {
            self.list.shrink_to(self.list.len() * 3 / 2);
        }
    }

    fn swap(&mut self, rules: &Rules, one: usize, other: usize) {
        if one == other {
            return;
        }
        self.list.swap(one, other);
        if let Some(index) = &mut self.index {
            let at_one = rules.hash(&self.list[one].address);
            let at_other = rules.hash(&self.list[other].address);
            // With one hash for both, each place is in the index under it, whoever stands there.
            if at_one != at_other {
                index.moved(at_one, other, one);
                index.moved(at_other, one, other);
            }
        }
    }

    /// Whether somebody has not been heard of for more than `patience` ticks.
    pub(super) fn has_expired(&self, tick: u8, patience: u8) -> bool {
        self.list
            .iter()
            .any(|peer| tick.wrapping_sub(peer.tick) > patience)
    }

    /// Lets those go.
    pub(super) fn expire(&mut self, rules: &Rules, tick: u8, patience: u8) {
        // From the end: what fills a gap comes from behind it and has been looked at.
        for at in (0..self.list.len()).rev() {
            if tick.wrapping_sub(self.list[at].tick) > patience {
                self.remove(rules, at);
            }
        }
    }

    /// Draws two peers and says whether they are of one host, where hosts are counted.
    pub(super) fn are_two_of_one_host(&self, rules: &Rules, dice: &mut Rng) -> bool {
        let length = self.list.len();
        if length < 2 {
            return false;
        }
        let one = dice.usize(..length);
        let other = (one + dice.usize(1..length)) % length;
        let [one, other] = [one, other].map(|at| rules.host(&self.list[at].address));
        one.is_some() && one == other
    }

    /// Lets one go that has been silent for longer than some others; where several of one host are
    /// met, one of those.
    pub(super) fn give_up_one(&mut self, rules: &Rules, dice: &mut Rng, tick: u8) {
        if self.list.is_empty() {
            return;
        }
        let drawn: [usize; DRAWN] = std::array::from_fn(|_| dice.usize(..self.list.len()));
        let host = |at: usize| rules.host(&self.list[at].address);
        let crowds = |at: usize| {
            let mut others = drawn.iter().filter(|&&other| other != at);
            host(at).is_some() && others.any(|&other| host(other) == host(at))
        };
        let age = |at: usize| tick.wrapping_sub(self.list[at].tick);
        let chosen = drawn.into_iter().max_by_key(|&at| (crowds(at), age(at)));
        if let Some(at) = chosen {
            self.remove(rules, at);
        }
    }

    /// Appends the compact addresses of up to `want` peers for one who stands at `own`, and is no
    /// company for itself; `None` if it is not here. Everybody else has the same chance to be chosen.
    pub(super) fn sample(
        &self,
        dice: &mut Rng,
        own: Option<usize>,
        leechers_only: bool,
        want: usize,
        out: &mut Vec<u8>,
    ) {
        let range: Range<usize> = 0..if leechers_only {
            self.leechers()
        } else {
            self.list.len()
        };
        let own = own.filter(|own| range.contains(own));
        let others = range.len() - usize::from(own.is_some());
        let mut give = |number: usize| {
            let at = number + usize::from(own.is_some_and(|own| number >= own));
            out.extend_from_slice(&self.list[at].address);
        };
        if others <= want {
            (0..others).for_each(give);
            return;
        }
        // One out of each of `want` equal stretches, and the stretches turned about by chance: no two
        // are the same, and no place is better than another.
        let turn = dice.usize(..others);
        for stretch in 0..want {
            let begin = stretch * others / want;
            let end = (stretch + 1) * others / want;
            let number = turn + dice.usize(begin..end);
            give(if number < others {
                number
            } else {
                number - others
            });
        }
    }
}

#[cfg(test)]
mod tests;
