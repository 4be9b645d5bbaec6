//! The words of `get` and `seed` and what they mean.

use super::super::complaint::Complaint;
use super::super::values;
use super::super::words::Word;
use super::Invocation;
use crate::protocol::glob::Glob;
use argh::FromArgs;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What `get` and `seed` are told.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// Where to find the .torrent files: paths, `-`, http(s) addresses.
    pub torrents: Vec<OsString>,
    /// The folder the data goes to or lies in.
    pub folder: PathBuf,
    /// The port to listen on.
    pub port: Option<u16>,
    /// Share until so much was given back; `None`: no limit.
    pub ratio: Option<f64>,
    /// Share for so long; `None`: no limit; zero: leave when complete.
    pub time: Option<Duration>,
    /// Give up when nothing arrives for so long.
    pub timeout: Option<Duration>,
    /// Peers the user knows, HOST:PORT, not resolved yet.
    pub peers: Vec<String>,
    /// Whether trackers may be asked.
    pub trackers: bool,
    /// Connections at a time.
    pub max_peers: usize,
    /// Bytes a second sent at most.
    pub up: Option<u64>,
    /// Bytes a second read at most.
    pub down: Option<u64>,
    /// The address to listen on and dial from.
    pub bind: Option<IpAddr>,
    /// The files that are wanted; empty: all.
    pub only: Vec<Glob>,
    /// Fetch the pieces in their order.
    pub sequential: bool,
    /// Hash all data.
    pub check: bool,
    /// Replace what is in the way.
    pub overwrite: bool,
    /// A shell command to run when complete.
    pub on_complete: Option<OsString>,
    /// Events as JSON lines on standard output.
    pub json: bool,
    /// Say only what went wrong.
    pub quiet: bool,
    /// Say who comes and goes.
    pub verbose: bool,
    /// Where wire messages are written down; `-`: standard error, or standard output with `json`.
    pub trace: Option<PathBuf>,
}

/// Ratio at which `get` stops sharing unless told otherwise: as much given as taken.
const RATIO: f64 = 1.0;
/// Minutes after which `get` stops sharing unless told otherwise.
const MINUTES: f64 = 60.0;
/// Connections at a time unless told otherwise: each costs a thread and a descriptor.
pub(super) const MAX_PEERS: usize = 100;

/// download torrents into a folder, then share them until as much was given as taken
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options] TORRENT...",
    example = "ropewalk get --output /tmp --exit debian.torrent",
    note = "TORRENT is a file, - for standard input, or an http(s) address of a .torrent.",
    note = "A second run goes on where the first one stopped."
)]
pub(super) struct GetWords {
    /// files, - or http(s) addresses
    #[argh(positional, arg_name = "TORRENT")]
    torrents: Vec<Word>,
    /// folder to download into (default: here)
    #[argh(option, short = 'o', arg_name = "DIR")]
    output: Option<Word>,
    /// port to listen on; 0: any (default: the first free of 6881 to 6889)
    #[argh(option, arg_name = "N")]
    port: Option<Word>,
    /// share until so many times the size was given; 0: no limit (default: 1.0)
    #[argh(option, arg_name = "R")]
    seed_ratio: Option<Word>,
    /// share for at most so many minutes; 0: no limit (default: 60)
    #[argh(option, arg_name = "MIN")]
    seed_time: Option<Word>,
    /// leave when complete, do not share
    #[argh(switch, short = 'e')]
    exit: bool,
    /// give up when nothing arrived for so many seconds
    #[argh(option, arg_name = "SECS")]
    timeout: Option<Word>,
    /// a peer to connect to, HOST:PORT (repeatable)
    #[argh(option, arg_name = "HOST:PORT")]
    peer: Vec<Word>,
    /// ask no tracker
    #[argh(switch)]
    no_tracker: bool,
    /// connections at a time (default: 100)
    #[argh(option, arg_name = "N")]
    max_peers: Option<Word>,
    /// send at most so many bytes a second, to all peers together: 500K, 2M; 0: no limit (default)
    #[argh(option, arg_name = "RATE")]
    up: Option<Word>,
    /// read at most so many bytes a second, from all peers together; 0: no limit (default)
    #[argh(option, arg_name = "RATE")]
    down: Option<Word>,
    /// listen on, dial and ask trackers from this address only
    #[argh(option, arg_name = "ADDR")]
    bind: Option<Word>,
    /// fetch only files that fit this pattern, or lie in a folder that does (repeatable)
    #[argh(option, arg_name = "GLOB")]
    only: Vec<Word>,
    /// fetch the pieces in their order, to play a file while it grows
    #[argh(switch)]
    sequential: bool,
    /// hash what is on disk, trust no record
    #[argh(switch)]
    check: bool,
    /// replace files that are in the way
    #[argh(switch)]
    overwrite: bool,
    /// shell command to run when a torrent is complete
    #[argh(option, arg_name = "CMD")]
    on_complete: Option<Word>,
    /// events as JSON lines on standard output
    #[argh(switch)]
    json: bool,
    /// say only what went wrong
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// say which peers and trackers come and go
    #[argh(switch, short = 'v')]
    verbose: bool,
    /// write every wire message to a file, or - for the screen
    #[argh(option, arg_name = "FILE")]
    trace: Option<Word>,
}

/// check the data under DIR and serve it until Ctrl-C or a limit; never downloads
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options] TORRENT [DIR]",
    example = "ropewalk seed album.torrent /srv/music",
    note = "DIR is the folder that holds the torrent's file or folder (default: here)."
)]
pub(super) struct SeedWords {
    /// a file, - or an http(s) address
    #[argh(positional, arg_name = "TORRENT")]
    torrent: Word,
    /// folder the data lies in
    #[argh(positional, arg_name = "DIR")]
    folder: Option<Word>,
    /// port to listen on; 0: any (default: the first free of 6881 to 6889)
    #[argh(option, arg_name = "N")]
    port: Option<Word>,
    /// leave when so many times the size was given; 0: no limit (default)
    #[argh(option, arg_name = "R")]
    seed_ratio: Option<Word>,
    /// leave after so many minutes; 0: no limit (default)
    #[argh(option, arg_name = "MIN")]
    seed_time: Option<Word>,
    /// a peer to connect to, HOST:PORT (repeatable)
    #[argh(option, arg_name = "HOST:PORT")]
    peer: Vec<Word>,
    /// tell no tracker
    #[argh(switch)]
    no_tracker: bool,
    /// connections at a time (default: 100)
    #[argh(option, arg_name = "N")]
    max_peers: Option<Word>,
    /// send at most so many bytes a second, to all peers together: 500K, 2M; 0: no limit (default)
    #[argh(option, arg_name = "RATE")]
    up: Option<Word>,
    /// read at most so many bytes a second, from all peers together; 0: no limit (default)
    #[argh(option, arg_name = "RATE")]
    down: Option<Word>,
    /// listen on, dial and ask trackers from this address only
    #[argh(option, arg_name = "ADDR")]
    bind: Option<Word>,
    /// hash all data, trust no record
    #[argh(switch)]
    check: bool,
    /// events as JSON lines on standard output
    #[argh(switch)]
    json: bool,
    /// say only what went wrong
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// say which peers and trackers come and go
    #[argh(switch, short = 'v')]
    verbose: bool,
    /// write every wire message to a file, or - for the screen
    #[argh(option, arg_name = "FILE")]
    trace: Option<Word>,
}

pub(super) fn get(words: GetWords) -> Result<Invocation, Complaint> {
    if words.torrents.is_empty() {
        return Err(Complaint::usage("TORRENT is missing", ""));
    }
    if words.exit && (words.seed_ratio.is_some() || words.seed_time.is_some()) {
        return Err(Complaint::usage(
            "--exit leaves when complete, --seed-ratio and --seed-time say how to share after that",
            "give one or the other",
        ));
    }
    let ratio = values::limit("--seed-ratio", words.seed_ratio.as_ref(), RATIO)?;
    let minutes = values::limit("--seed-time", words.seed_time.as_ref(), MINUTES)?;
    let transfer = Transfer {
        torrents: words.torrents.into_iter().map(|word| word.0).collect(),
        folder: values::folder(words.output)?,
        port: values::port("--port", words.port.as_ref())?,
        ratio,
        time: if words.exit {
            Some(Duration::ZERO)
        } else {
            values::time("--seed-time", minutes, 60.0)?
        },
        timeout: values::seconds("--timeout", words.timeout.as_ref())?,
        peers: values::peers(&words.peer)?,
        trackers: !words.no_tracker,
        max_peers: values::max_peers(words.max_peers.as_ref(), MAX_PEERS)?,
        up: values::rate("--up", words.up.as_ref())?,
        down: values::rate("--down", words.down.as_ref())?,
        bind: values::bind(words.bind.as_ref())?,
        only: values::globs("--only", &words.only)?,
        sequential: words.sequential,
        check: words.check,
        overwrite: words.overwrite,
        on_complete: words.on_complete.map(|word| word.0),
        json: words.json,
        quiet: words.quiet,
        verbose: words.verbose,
        trace: words.trace.map(|word| word.0.into()),
    };
    talk(&transfer)?;
    Ok(Invocation::Get(transfer))
}

pub(super) fn seed(words: SeedWords) -> Result<Invocation, Complaint> {
    let minutes = values::limit("--seed-time", words.seed_time.as_ref(), 0.0)?;
    let transfer = Transfer {
        torrents: vec![words.torrent.0],
        folder: values::folder(words.folder)?,
        port: values::port("--port", words.port.as_ref())?,
        ratio: values::limit("--seed-ratio", words.seed_ratio.as_ref(), 0.0)?,
        time: values::time("--seed-time", minutes, 60.0)?,
        timeout: None,
        peers: values::peers(&words.peer)?,
        trackers: !words.no_tracker,
        max_peers: values::max_peers(words.max_peers.as_ref(), MAX_PEERS)?,
        up: values::rate("--up", words.up.as_ref())?,
        down: values::rate("--down", words.down.as_ref())?,
        bind: values::bind(words.bind.as_ref())?,
        only: Vec::new(),
        sequential: false,
        check: words.check,
        overwrite: false,
        on_complete: None,
        json: words.json,
        quiet: words.quiet,
        verbose: words.verbose,
        trace: words.trace.map(|word| word.0.into()),
    };
    talk(&transfer)?;
    Ok(Invocation::Seed(transfer))
}

pub(super) fn talk(transfer: &Transfer) -> Result<(), Complaint> {
    if transfer.quiet && transfer.verbose {
        return Err(Complaint::usage(
            "--quiet and --verbose contradict each other",
            "give one or the other",
        ));
    }
    Ok(())
}
