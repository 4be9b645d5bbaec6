//! Who shares what: the tracker's memory, and everything it decides. A pure machine: it is told the
//! time, and its dice are handed in.
//!
//! ```text
//! let due = registry.turn(now);                            // forgets who was silent for too long
//! let receipt = registry.announce(&announce, &mut found)?; // counts; addresses are in `found`
//! let size = registry.scrape(&info_hash);
//! ```
//!
//! BEP 3 (announce), 7 (IPv6), 21 (partial seeds), 23 (compact addresses), 48 (scrape). What is full
//! is dealt with so that nobody takes everybody's room: see [`Capacity`].

mod index;
mod peers;
mod room;
mod terms;
mod torrent;

use crate::protocol::InfoHash;
use crate::protocol::tracker::compact;
use crate::protocol::tracker::http::Occasion;
use fastrand::Rng;
use index::Index;
pub use peers::Completeness;
use peers::{ListedPeer, Lookup, Peers, Rules};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
pub use terms::{
    Announce, Capacity, Charter, CompactPeers, Families, Receipt, Refusal, SwarmSize, Totals,
};
use torrent::{Address, ListedTorrent};

/// Dates are kept in parts of an interval, or of [`PATIENCE_MIN`], so that a byte is enough for one.
const TICKS_PER_INTERVAL: u32 = 32;

/// Who was silent for more ticks has left without a word: a bit more than an interval and a half.
const PATIENCE: u8 = 49;

/// Nobody is forgotten sooner, however short the interval: clients raise what they find too short, ours to a
/// minute, libtorrent to five.
const PATIENCE_MIN: Duration = Duration::from_secs(600);

/// How many torrents are looked through for the silent in one turn; it takes some 100 µs.
const SWEPT_A_TURN: usize = 512;

/// See the module's head.
pub struct Registry {
    limits: Capacity,
    rules: Rules,
    allowed: Option<Vec<InfoHash>>,
    loopback_as: Option<IpAddr>,
    dice: Rng,
    /// In no order, without gaps.
    torrents: Vec<ListedTorrent>,
    index: Index,
    totals: Totals,
    /// The place of a large torrent: the largest of those that were heard of or drawn lately. It may
    /// have shrunk since, or be gone.
    largest: usize,
    tick_length: Duration,
    ticks: u64,
    /// Torrents that are still to be looked through for the silent, and where.
    unswept: usize,
    broom: usize,
}

impl Registry {
    /// An empty registry.
    pub fn new(charter: Charter) -> Registry {
        let mut allowed = charter.allowed;
        if let Some(list) = &mut allowed {
            list.sort_unstable_by_key(|info_hash| info_hash.0);
        }
        Registry {
            limits: charter.limits,
            rules: Rules {
                key: charter.key,
                per_ip: charter.limits.per_ip,
                exempt: charter.loopback_as,
            },
            allowed,
            loopback_as: charter.loopback_as,
            dice: charter.dice,
            torrents: Vec::new(),
            index: Index::new(),
            totals: Totals::default(),
            largest: 0,
            tick_length: (charter.interval / TICKS_PER_INTERVAL)
                .max(PATIENCE_MIN / u32::from(PATIENCE)),
            ticks: 0,
            unswept: 0,
            broom: 0,
        }
    }

    /// Serves this torrent, too. Where all are served, nothing changes.
    pub fn admit(&mut self, info_hash: InfoHash) {
        if let Some(list) = &mut self.allowed
            && let Err(at) = list.binary_search_by_key(&info_hash.0, |it| it.0)
        {
            list.insert(at, info_hash);
        }
    }

    /// What there is in all.
    pub fn totals(&self) -> Totals {
        self.totals
    }

    /// Tells the time since the start, and lets the registry forget some of those who were silent for
    /// too long. Gives the time at which it wants to be told again, though nothing else happens.
    pub fn turn(&mut self, now: Duration) -> Option<Duration> {
        let ticks = (now.as_nanos() / self.tick_length.as_nanos()) as u64;
        let passed = ticks.saturating_sub(self.ticks);
        if passed > 0 {
            self.ticks += passed;
            self.unswept = self.torrents.len();
        }
        if passed > u64::from(PATIENCE) {
            // The machine slept. A byte cannot tell such dates apart, and nobody was heard meanwhile.
            self.torrents.clear();
            self.index = Index::new();
            (self.totals, self.unswept) = (Totals::default(), 0);
        }
        self.sweep();
        if self.unswept > 0 {
            return Some(now);
        }
        let next = u32::try_from(self.ticks + 1).unwrap_or(u32::MAX);
        (!self.torrents.is_empty()).then(|| self.tick_length * next)
    }

    fn sweep(&mut self) {
        for _ in 0..self.unswept.min(SWEPT_A_TURN) {
            self.unswept -= 1;
            if self.broom >= self.torrents.len() {
                self.broom = 0;
            }
            let (at, tick) = (self.broom, self.tick());
            let Some(torrent) = self.torrents.get(at) else {
                self.unswept = 0;
                return;
            };
            let v6 = torrent.v6.as_ref();
            let some = torrent.v4.has_expired(tick, PATIENCE)
                || v6.is_some_and(|v6| v6.has_expired(tick, PATIENCE));
            if some {
                self.change(at, |torrent, rules| {
                    torrent.v4.expire(rules, tick, PATIENCE);
                    if let Some(v6) = &mut torrent.v6 {
                        v6.expire(rules, tick, PATIENCE);
                    }
                });
            }
            if self.torrents[at].len() == 0 {
                // Another one stands here now.
                self.remove(at);
            } else {
                self.broom += 1;
            }
        }
    }

    /// Hears an announce. The addresses it is answered with are appended to `found`.
    pub fn announce(
        &mut self,
        announce: &Announce,
        found: &mut CompactPeers,
    ) -> Result<Receipt, Refusal> {
        if !self.serves(&announce.info_hash) {
            return Err(Refusal::NotAllowed);
        }
        let seen = announce.address.ip().to_canonical();
        let known_as = self.loopback_as.filter(|_| seen.is_loopback());
        let address = SocketAddr::new(known_as.unwrap_or(seen), announce.address.port());
        if !compact::is_usable(&address) {
            return Err(Refusal::Unusable);
        }
        let hash = self.rules.key.hash(&announce.info_hash.0) as u32;
        let here = self.find(hash, &announce.info_hash);
        if announce.event == Some(Occasion::Stopped) {
            return Ok(self.part(here, address.into()));
        }
        let at = match here {
            Some(at) => at,
            None => self.open(hash, announce.info_hash, address.into())?,
        };
        let own_first = match Address::from(address) {
            Address::V4(address) => {
                let own = self.enrol(at, announce, address, |torrent| &mut torrent.v4);
                (own, None)
            }
            Address::V6(address) => {
                let own = self.enrol(at, announce, address, |torrent| {
                    torrent.v6.get_or_insert_default()
                });
                (None, own)
            }
        };
        self.hand_out(at, announce, address.is_ipv6(), own_first, found);
        Ok(Receipt {
            swarm: self.torrents[at].swarm(),
            listed: own_first != (None, None),
        })
    }

    /// The size of a torrent's swarm; all zero where nobody shares it.
    pub fn scrape(&self, info_hash: &InfoHash) -> SwarmSize {
        let hash = self.rules.key.hash(&info_hash.0) as u32;
        let at = self.find(hash, info_hash);
        at.map_or_else(SwarmSize::default, |at| self.torrents[at].swarm())
    }

    fn serves(&self, info_hash: &InfoHash) -> bool {
        let on_list = |list: &Vec<InfoHash>| list.binary_search_by_key(&info_hash.0, |it| it.0);
        self.allowed
            .as_ref()
            .is_none_or(|list| on_list(list).is_ok())
    }

    fn tick(&self) -> u8 {
        self.ticks as u8
    }

    fn find(&self, hash: u32, info_hash: &InfoHash) -> Option<usize> {
        self.index
            .find(hash, |at| self.torrents[at].info_hash == *info_hash)
    }

    fn open(&mut self, hash: u32, info_hash: InfoHash, asker: Address) -> Result<usize, Refusal> {
        if self.torrents.len() >= self.limits.torrents && !self.give_up_a_torrent(asker) {
            return Err(Refusal::Full);
        }
        let at = self.torrents.len();
        self.torrents.push(ListedTorrent {
            info_hash,
            completed: 0,
            v4: Peers::default(),
            v6: None,
        });
        self.index.insert(hash, at);
        self.totals.torrents += 1;
        Ok(at)
    }

    /// Forgets a torrent and who is in it; the last one takes its place.
    fn remove(&mut self, at: usize) {
        let gone = self.torrents.swap_remove(at);
        self.totals.peers -= gone.len();
        self.totals.seeds -= gone.seeds();
        let key = self.rules.key;
        self.index.remove(key.hash(&gone.info_hash.0) as u32, at);
        if let Some(moved) = self.torrents.get(at) {
            let hash = key.hash(&moved.info_hash.0) as u32;
            self.index.moved(hash, self.torrents.len(), at);
        }
        self.totals.torrents -= 1;
    }

    /// Changes a torrent and keeps the totals right.
    fn change<T>(&mut self, at: usize, change: impl FnOnce(&mut ListedTorrent, &Rules) -> T) -> T {
        let torrent = &mut self.torrents[at];
        let (peers, seeds) = (torrent.len(), torrent.seeds());
        let result = change(torrent, &self.rules);
        self.totals.peers = self.totals.peers + torrent.len() - peers;
        self.totals.seeds = self.totals.seeds + torrent.seeds() - seeds;
        result
    }

    /// A peer leaves. One that is not known has left already.
    fn part(&mut self, here: Option<usize>, address: Address) -> Receipt {
        let Some(at) = here else {
            let swarm = SwarmSize::default();
            return Receipt {
                swarm,
                listed: false,
            };
        };
        self.change(at, |torrent, rules| match address {
            Address::V4(address) => leave(&mut torrent.v4, rules, &address),
            Address::V6(address) => {
                if let Some(v6) = &mut torrent.v6 {
                    leave(v6, rules, &address);
                }
            }
        });
        let swarm = self.torrents[at].swarm();
        if self.torrents[at].len() == 0 {
            self.remove(at);
        }
        Receipt {
            swarm,
            listed: false,
        }
    }

    /// Writes down that a peer is here; gives its place. `None` if too many of its host are here.
    fn enrol<const N: usize>(
        &mut self,
        at: usize,
        announce: &Announce,
        address: [u8; N],
        list: impl Fn(&mut ListedTorrent) -> &mut Peers<N>,
    ) -> Option<usize> {
        let ident = announce.key.map_or([0; 4], |key| self.ident(announce, key));
        let lookup = list(&mut self.torrents[at]).look_up(&self.rules, &address, ident);
        let full = self.totals.peers >= self.limits.peers;
        let before = match lookup {
            Lookup::Known(_) => None,
            Lookup::New { crowded: true, .. } => return None,
            Lookup::New { before, .. } => {
                if before.is_none() && full {
                    self.make_room(at);
                }
                before
            }
        };
        let tick = self.tick();
        let share = announce.share;
        let completed = announce.event == Some(Occasion::Completed) && share == Completeness::Seed;
        let place = self.change(at, |torrent, rules| {
            let peers = list(torrent);
            let (place, is_news) = match lookup {
                Lookup::Known(place) => {
                    let was = peers.share(place);
                    let place = peers.refresh(rules, place, ident, tick, share);
                    (place, was != Completeness::Seed)
                }
                Lookup::New { .. } => {
                    if let Some(before) = before {
                        peers.remove(rules, before);
                    }
                    let peer = ListedPeer {
                        address,
                        ident,
                        tick,
                        share,
                    };
                    (peers.insert(rules, peer), true)
                }
            };
            let counts = u32::from(completed && is_news);
            torrent.completed = torrent.completed.saturating_add(counts);
            place
        });
        if self.torrents[at].len()
            > self
                .torrents
                .get(self.largest)
                .map_or(0, ListedTorrent::len)
        {
            self.largest = at;
        }
        Some(place)
    }

    /// Four bytes by which a client is known again: what its id and its key come to under our own.
    fn ident(&self, announce: &Announce, key: u32) -> [u8; 4] {
        let mut bytes = [0; 24];
        bytes[..20].copy_from_slice(&announce.peer_id.0);
        bytes[20..].copy_from_slice(&key.to_be_bytes());
        (self.rules.key.hash(&bytes) as u32).max(1).to_be_bytes()
    }

    fn hand_out(
        &mut self,
        at: usize,
        announce: &Announce,
        is_v6: bool,
        (own_v4, own_v6): (Option<usize>, Option<usize>),
        found: &mut CompactPeers,
    ) {
        // Who has what it wants has no use for others who have.
        let leechers_only = announce.share != Completeness::Leecher;
        let torrent = &self.torrents[at];
        let mut want = announce.want;
        let both = announce.families == Families::Both;
        let order = match announce.families {
            Families::V4 => [false, false],
            Families::V6 => [true, true],
            Families::Both => [is_v6, !is_v6],
        };
        for v6 in &order[..1 + usize::from(both)] {
            let before = found.v4.len() / compact::V4 + found.v6.len() / compact::V6;
            if !v6 {
                let (dice, out) = (&mut self.dice, &mut found.v4);
                torrent.v4.sample(dice, own_v4, leechers_only, want, out);
            } else if let Some(peers) = &torrent.v6 {
                let (dice, out) = (&mut self.dice, &mut found.v6);
                peers.sample(dice, own_v6, leechers_only, want, out);
            }
            want -= found.v4.len() / compact::V4 + found.v6.len() / compact::V6 - before;
        }
    }
}

fn leave<const N: usize>(peers: &mut Peers<N>, rules: &Rules, address: &[u8; N]) {
    if let Lookup::Known(at) = peers.look_up(rules, address, [0; 4]) {
        peers.remove(rules, at);
    }
}

#[cfg(test)]
mod tests;
