//! What the tracker has done so far: numbers that every thread adds to and anybody may read.

use super::registry::Totals;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A thing that is counted. The order is that of [`NAMES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counted {
    /// Questions for a connection id.
    UdpConnects,
    /// Announces by UDP that were answered.
    UdpAnnounces,
    /// Scrapes by UDP that were answered.
    UdpScrapes,
    /// Announces by UDP that were refused.
    UdpRefused,
    /// Datagrams with a connection id that is not good (any more), dropped.
    UdpBadIds,
    /// Datagrams that are no question, dropped.
    UdpMalformed,
    /// Answers that the system did not take.
    UdpUnsent,
    /// Announces by HTTP that were answered.
    HttpAnnounces,
    /// Scrapes by HTTP that were answered.
    HttpScrapes,
    /// Announces and scrapes by HTTP that were refused.
    HttpRefused,
    /// Everything else that was answered: figures, files.
    HttpOther,
    /// What was no request for anything we have.
    HttpMalformed,
    /// Connections that were closed because they took too long, or to make room.
    HttpSlow,
}

/// The names, as `/stats` gives them.
pub const NAMES: [&str; 13] = [
    "udp_connects",
    "udp_announces",
    "udp_scrapes",
    "udp_refused",
    "udp_bad_ids",
    "udp_malformed",
    "udp_unsent",
    "http_announces",
    "http_scrapes",
    "http_refused",
    "http_other",
    "http_malformed",
    "http_slow",
];

/// The numbers, and what the registry held when it was last looked at: torrents, peers, seeds.
#[derive(Debug, Default)]
pub struct Counters {
    counted: [AtomicU64; NAMES.len()],
    totals: [AtomicU64; 3],
}

impl Counters {
    /// One more.
    pub fn count(&self, what: Counted) {
        self.counted[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many so far.
    pub fn get(&self, what: Counted) -> u64 {
        self.counted[what as usize].load(Ordering::Relaxed)
    }

    /// Everything with its name, `up` after the start.
    pub fn figures(&self, up: Duration) -> impl Iterator<Item = (&'static str, u64)> {
        let totals = self.totals();
        let numbers = self
            .counted
            .iter()
            .map(|number| number.load(Ordering::Relaxed));
        [
            ("uptime", up.as_secs()),
            ("torrents", totals.torrents as u64),
            ("peers", totals.peers as u64),
            ("seeds", totals.seeds as u64),
            ("leechers", (totals.peers - totals.seeds) as u64),
        ]
        .into_iter()
        .chain(NAMES.into_iter().zip(numbers))
    }

    /// What the registry holds.
    pub fn totals(&self) -> Totals {
        let [torrents, peers, seeds] =
            [0, 1, 2].map(|at: usize| self.totals[at].load(Ordering::Relaxed) as usize);
        Totals {
            torrents,
            peers,
            // Another thread may be in the middle of writing these.
            seeds: seeds.min(peers),
        }
    }

    pub(super) fn note(&self, totals: Totals) {
        let numbers = [totals.torrents, totals.peers, totals.seeds];
        for (place, number) in self.totals.iter().zip(numbers) {
            place.store(number as u64, Ordering::Relaxed);
        }
    }
}
