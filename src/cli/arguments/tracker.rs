//! The words of `tracker` and what they mean.

use super::super::complaint::Complaint;
use super::super::values;
use super::super::words::Word;
use super::Invocation;
use crate::tracker::registry::Capacity;
use crate::tracker::{INTERVAL, LIMITS};
use argh::FromArgs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What `tracker` is told.
#[derive(Debug, Clone, PartialEq)]
pub struct TrackerArguments {
    /// Where to serve HTTP.
    pub http: Vec<SocketAddr>,
    /// Where to serve UDP.
    pub udp: Vec<SocketAddr>,
    /// How often peers are asked to announce.
    pub interval: Duration,
    /// A list of the info-hashes that are served.
    pub allow: Option<PathBuf>,
    /// What is held at most.
    pub limits: Capacity,
    /// Events as JSON lines.
    pub json: bool,
    /// Say only what went wrong.
    pub quiet: bool,
    /// A line of figures a minute.
    pub verbose: bool,
}

/// run a tracker, by HTTP and UDP, until Ctrl-C
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options]",
    example = "ropewalk tracker --http 192.0.2.7:6969 --udp 192.0.2.7:6969",
    note = "ADDR is ADDRESS:PORT, [ADDRESS]:PORT, or a port alone for every address of this machine.
Port 0 is any that is free. With neither --http nor --udp, both are served on port 6969; with one of
them, only that one.",
    note = "/stats and /stats.json tell how it goes."
)]
pub(super) struct TrackerWords {
    /// serve HTTP here (repeatable)
    #[argh(option, arg_name = "ADDR")]
    http: Vec<Word>,
    /// serve UDP here (repeatable)
    #[argh(option, arg_name = "ADDR")]
    udp: Vec<Word>,
    /// seconds between two announces of a peer, 1 to 86400; who is silent for half as long again, and for 10
    /// minutes at least, is forgotten (default: 1800)
    #[argh(option, arg_name = "SECS")]
    interval: Option<Word>,
    /// serve only the torrents whose info-hashes are listed in a file, one a line
    #[argh(option, arg_name = "FILE")]
    allow: Option<Word>,
    /// torrents at a time; when there are so many, a new one takes the place of one of an address that has
    /// very many, or is refused (default: 100000)
    #[argh(option, arg_name = "N")]
    max_torrents: Option<Word>,
    /// peers at a time; when there are so many, the largest torrent gives one up (default: 1000000)
    #[argh(option, arg_name = "N")]
    max_peers: Option<Word>,
    /// peers of one address listed in one torrent, the loopback exempt; 0: no limit, and no address is
    /// told from another where there is no room (default: 64)
    #[argh(option, arg_name = "N")]
    max_per_ip: Option<Word>,
    /// events as JSON lines on standard output
    #[argh(switch)]
    json: bool,
    /// say only what went wrong
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// a line of figures every minute
    #[argh(switch, short = 'v')]
    verbose: bool,
}

/// The most that any limit can be: a place in the registry has 32 bits.
const COUNT_MAX: usize = 1_000_000_000;

/// A day: clients ask no less often.
const INTERVAL_MAX: usize = 86_400;

impl TrackerWords {
    pub(super) fn meaning(self) -> Result<Invocation, Complaint> {
        if self.quiet && self.verbose {
            return Err(Complaint::usage(
                "--quiet and --verbose contradict each other",
                "give one or the other",
            ));
        }
        let mut http = values::listen("--http", &self.http)?;
        let mut udp = values::listen("--udp", &self.udp)?;
        if http.is_empty() && udp.is_empty() {
            http.push(values::EVERYWHERE);
            udp.push(values::EVERYWHERE);
        }
        if self.allow.as_ref().is_some_and(|word| word.0.is_empty()) {
            return Err(Complaint::usage("--allow takes a file, not nothing", ""));
        }
        let default = INTERVAL.as_secs() as usize;
        let seconds = self.interval.as_ref();
        let seconds = values::count("--interval", seconds, 1..=INTERVAL_MAX, default)?;
        let count = |option, word: &Option<Word>, least, default| {
            values::count(option, word.as_ref(), least..=COUNT_MAX, default)
        };
        Ok(Invocation::Tracker(TrackerArguments {
            http,
            udp,
            interval: Duration::from_secs(seconds as u64),
            allow: self.allow.map(|word| word.0.into()),
            limits: Capacity {
                torrents: count("--max-torrents", &self.max_torrents, 1, LIMITS.torrents)?,
                peers: count("--max-peers", &self.max_peers, 1, LIMITS.peers)?,
                per_ip: count("--max-per-ip", &self.max_per_ip, 0, LIMITS.per_ip)?,
            },
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
        }))
    }
}
