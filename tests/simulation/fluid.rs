//! How near a swarm comes to the fluid limit: one seed, N leechers, measured in virtual time.
//!
//! With N leechers that want F bytes, uplinks of `u_seed` and `u_peer` bytes a second and downlinks
//! that do not matter, nobody can have the last leecher done before
//!
//! ```text
//! T_min = max(F / u_seed, N * F / (u_seed + N * u_peer))
//! ```
//!
//! (Kumar and Ross, 2006): the seed has to send each byte once, and all bytes that arrive have to be
//! sent by somebody.

use crate::network::{Character, Has, Member, Network};
use crate::timeline::Timeline;
use ropewalk::protocol::Geometry;
use ropewalk::swarm::Limits;
use std::time::Duration;

/// A swarm to be measured.
#[derive(Debug, Clone)]
pub struct Plan {
    /// How many want the book.
    pub leechers: usize,
    /// Of these, how many never upload.
    pub riders: usize,
    /// How many pieces of 256 KiB.
    pub pieces: u64,
    /// Bytes a second.
    pub seed_uplink: u64,
    /// Bytes a second.
    pub uplink: u64,
    /// One way from peer to peer.
    pub delay: Duration,
    /// Connections a member may have.
    pub connections: usize,
    /// Between the first and the last leecher that joins.
    pub joins: Duration,
    /// What the dice start from.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Plan {
        Plan {
            leechers: 8,
            riders: 0,
            pieces: 256,
            // 40 Mbit/s.
            seed_uplink: 5_000_000,
            uplink: 5_000_000,
            delay: Duration::from_millis(20),
            connections: 50,
            joins: Duration::from_millis(300),
            seed: 1,
        }
    }
}

/// What came of it. Times in seconds.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What nobody can beat.
    pub limit: f64,
    /// When the contributors were complete, in order.
    pub done: Vec<f64>,
    /// How much of the book each free rider had when the last contributor had all.
    pub riders: Vec<f64>,
    /// Bytes the seed sent before the last contributor was complete, in books.
    pub copies: f64,
    /// The share of all uplinks that was used until then.
    pub used: f64,
    /// Bytes fetched for nothing, as a share of all bytes fetched.
    pub waste: f64,
}

impl Outcome {
    /// When the last one was complete.
    pub fn last(&self) -> f64 {
        self.done.last().copied().unwrap_or(f64::INFINITY)
    }

    /// How many times the limit that is.
    pub fn ratio(&self) -> f64 {
        self.last() / self.limit
    }
}

const PIECE: u64 = 256 * 1024;

impl Plan {
    /// What the environment says, for trying things out: SWARM_LEECHERS, SWARM_RIDERS, SWARM_PIECES,
    /// SWARM_SEED_UPLINK, SWARM_UPLINK (bytes a second), SWARM_CONNECTIONS, SWARM_RNG.
    pub fn from_env() -> Plan {
        fn var<T: std::str::FromStr>(name: &str, default: T) -> T {
            let text = std::env::var(format!("SWARM_{name}")).ok();
            text.and_then(|text| text.parse().ok()).unwrap_or(default)
        }
        let usual = Plan::default();
        let line = |name, default| {
            let rate: u64 = var(name, default);
            assert!(
                rate > 0,
                "SWARM_{name} has to be more than 0 bytes a second; free riders are SWARM_RIDERS"
            );
            rate
        };
        Plan {
            leechers: var("LEECHERS", usual.leechers),
            riders: var("RIDERS", usual.riders),
            pieces: var("PIECES", usual.pieces),
            seed_uplink: line("SEED_UPLINK", usual.seed_uplink),
            uplink: line("UPLINK", usual.uplink),
            connections: var("CONNECTIONS", usual.connections),
            seed: var("RNG", usual.seed),
            ..usual
        }
    }

    fn geometry(&self) -> Geometry {
        Geometry::new(self.pieces * PIECE, PIECE as u32).unwrap()
    }

    /// The fluid limit, in seconds; free riders do not upload and are not waited for.
    pub fn limit(&self) -> f64 {
        let size = (self.pieces * PIECE) as f64;
        let n = (self.leechers - self.riders) as f64;
        let (us, up) = (self.seed_uplink as f64, self.uplink as f64);
        (size / us).max(n * size / (us + n * up))
    }

    fn member(&self, uplink: u64) -> Member {
        Member {
            uplink,
            delay: self.delay / 2,
            limits: Limits {
                peers: self.connections,
                ..Limits::default()
            },
            ..Member::default()
        }
    }

    /// Runs it until the last contributor is complete.
    pub fn run(&self) -> (Outcome, Network) {
        self.run_with(None)
    }

    /// The same, and keeps the history.
    pub fn run_with(&self, timeline: Option<Timeline>) -> (Outcome, Network) {
        let (mut network, seed) = self.begin(timeline);
        // Longer than an address that was turned away is called again.
        let end = Duration::from_secs_f64(self.limit() * 20.0 + 2000.0);
        network.run_until(end, Network::contributors_complete);
        let outcome = self.outcome(&network, seed);
        (outcome, network)
    }

    /// Everybody in place, nothing has happened yet.
    fn begin(&self, timeline: Option<Timeline>) -> (Network, usize) {
        let mut network = Network::new(self.geometry(), self.seed);
        network.check_every = u64::MAX;
        network.timeline = timeline;
        let mut rng = fastrand::Rng::with_seed(self.seed);
        let seed = network.join(Member {
            has: Has::All,
            downloads: false,
            ..self.member(self.seed_uplink)
        });
        for number in 0..self.leechers {
            // They sit among the others in the order in which peers are known.
            let rides =
                (number + 1) * self.riders / self.leechers > number * self.riders / self.leechers;
            let character = if rides {
                Character::FreeRider
            } else {
                Character::Honest
            };
            network.join(Member {
                character,
                ..self.member(self.uplink)
            });
        }
        // The tracker tells each newcomer of those who are there already, at most so many by chance.
        for newcomer in 1..=self.leechers {
            let at = self.joins * (newcomer - 1) as u32 / self.leechers as u32;
            let mut others: Vec<_> = (0..newcomer).collect();
            rng.shuffle(&mut others);
            others.truncate(self.connections);
            network.introduce_at(at, newcomer, others);
        }
        (network, seed)
    }

    fn outcome(&self, network: &Network, seed: usize) -> Outcome {
        let members = 1..=self.leechers;
        let (riders, givers): (Vec<_>, Vec<_>) = members.partition(|it| network.rides(*it));
        let done = givers.iter().map(|it| network.completed(*it));
        let mut done: Vec<f64> = done
            .map(|at| at.map_or(f64::INFINITY, |at| at.as_secs_f64()))
            .collect();
        done.sort_by(f64::total_cmp);
        let size = (self.pieces * PIECE) as f64;
        let sent: u64 = std::iter::once(&seed)
            .chain(&givers)
            .map(|it| network.sent(*it))
            .sum();
        let line = self.seed_uplink as f64 + self.uplink as f64 * givers.len() as f64;
        let now = network.now().as_secs_f64();
        let wasted: u64 = (1..=self.leechers)
            .map(|it| network.swarm(it).standing(network.now()).wasted)
            .sum();
        Outcome {
            limit: self.limit(),
            riders: riders
                .iter()
                .map(|it| f64::from(network.swarm(*it).have().count()) / self.pieces as f64)
                .collect(),
            done,
            copies: network.sent(seed) as f64 / size,
            used: sent as f64 / (line * now),
            waste: wasted as f64 / sent as f64,
        }
    }

    /// Runs it and prints a line of the table.
    pub fn print(&self) -> Outcome {
        let begun = std::time::Instant::now();
        let (outcome, network) = self.run();
        let riders = outcome.riders.iter().sum::<f64>() / outcome.riders.len().max(1) as f64;
        println!(
            "{:>5} {:>5} {:>3} {:>5.1}:{:<5.1} {:>6.1} {:>6.1} {:>6.1} {:>6.1} {:>6.1} {:>6.3} {:>6.2} {:>5.0}% {:>6.2}% {:>6.2} {:>6.1?} {:?}",
            self.leechers,
            self.pieces,
            self.seed,
            self.seed_uplink as f64 / 1e6,
            self.uplink as f64 / 1e6,
            outcome.limit,
            network.out.1.as_secs_f64(),
            outcome.done.first().copied().unwrap_or_default(),
            outcome
                .done
                .get(outcome.done.len() / 2)
                .copied()
                .unwrap_or_default(),
            outcome.last(),
            outcome.ratio(),
            outcome.copies,
            outcome.used * 100.0,
            outcome.waste * 100.0,
            riders,
            begun.elapsed(),
            network.farewells
        );
        outcome
    }

    /// The head of the table.
    pub fn print_head() {
        println!(
            "peers piece run  seed:peer    limit    out  first median   last  ratio copies   used   waste riders  took"
        );
    }
}
