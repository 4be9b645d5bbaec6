//! Words in, meaning out, once: the command line becomes a [`Command`], and no later code looks at
//! the words again.
//!
//! argh does the parsing, with [`super::words`] before it for what argh does not know; [`super::values`]
//! says what the values mean.

mod create;
mod peers;
mod tracker;

use super::complaint::Complaint;
use super::shown::shown;
use super::values;
use super::words::{self, Word};
use crate::protocol::glob::Glob;
use argh::FromArgs;
pub use create::Create;
use create::CreateWords;
use peers::PeersWords;
use std::ffi::OsString;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;
pub use tracker::Tracker;
use tracker::TrackerWords;

/// What the user wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Print this text on standard output: a help page, the version.
    Print(String),
    /// Download, then share.
    Get(Transfer),
    /// Serve what is there.
    Seed(Transfer),
    /// What is in a .torrent file.
    Show {
        /// As one JSON object.
        json: bool,
        /// Which.
        torrent: OsString,
    },
    /// Check data on disk.
    Verify {
        /// As one JSON object.
        json: bool,
        /// No line for what is right.
        quiet: bool,
        /// Against what.
        torrent: OsString,
        /// The folder the data lies in.
        folder: PathBuf,
    },
    /// Ask the trackers who is there.
    Peers {
        /// As one JSON object.
        json: bool,
        /// Of what.
        torrent: OsString,
    },
    /// Make a .torrent.
    Create(Box<Create>),
    /// Run a tracker.
    Tracker(Tracker),
    /// A swarm on loopback.
    Lab {
        /// As JSON lines.
        json: bool,
        /// Only the outcome.
        quiet: bool,
    },
}

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
const MAX_PEERS: usize = 100;

/// Commands of later versions: known words, so that the answer is "not yet" and not "what?".
const LATER: [&str; 1] = ["share"];

/// Options of later versions, likewise. None is accepted and ignored.
const LATER_OPTIONS: [&str; 3] = ["--no-dht", "--no-pex", "--no-lsd"];

/// The page of `ropewalk --help`.
const HELP: &str = "\
Usage: ropewalk <command> [options]

BitTorrent without an async runtime: one thread per peer, laying pieces of one file.

Commands:
  get       download torrents, then share them
  seed      check data and serve it
  create    make a .torrent of a file or a folder
  show      what is in a .torrent file or a magnet link
  verify    check data on disk, file by file
  peers     ask the trackers of a torrent who is there
  tracker   run a tracker, by HTTP and UDP
  lab       a seed and a leecher on this machine, explained line by line

Options:
  --help            this page, or the page of a command: ropewalk get --help
  --version         the version

Exit status: 0 done, 1 wrong usage, 2 could not be done, 3 data does not match,
129/130/143 stopped by a signal before it was complete.
";

/// download torrents into a folder, then share them until as much was given as taken
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options] TORRENT...",
    example = "ropewalk get --output /tmp --exit debian.torrent",
    note = "TORRENT is a file, - for standard input, or an http(s) address of a .torrent.",
    note = "A second run goes on where the first one stopped."
)]
struct GetWords {
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
    /// listen on and dial from this address only
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
struct SeedWords {
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
    /// listen on and dial from this address only
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

/// say what is in a .torrent file or a magnet link
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), usage = "[--json] TORRENT")]
struct ShowWords {
    /// a file, -, an http(s) address, or a magnet link
    #[argh(positional, arg_name = "TORRENT")]
    torrent: Word,
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

/// check data on disk against a torrent, a line for each file; exit status 3 where something is missing or wrong
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[--json] [-q] TORRENT [DIR]",
    note = "DIR is the folder that holds the torrent's file or folder (default: here)."
)]
struct VerifyWords {
    /// a file, - or an http(s) address
    #[argh(positional, arg_name = "TORRENT")]
    torrent: Word,
    /// folder the data lies in
    #[argh(positional, arg_name = "DIR")]
    folder: Option<Word>,
    /// one JSON object
    #[argh(switch)]
    json: bool,
    /// no line for what is right
    #[argh(switch, short = 'q')]
    quiet: bool,
}

/// run a small swarm on this machine and explain it: a book is cut into pieces, one seed has it, one
/// leecher wants it; nothing leaves the machine
#[derive(FromArgs)]
#[argh(help_triggers("-h", "--help"), usage = "[--json] [-q]")]
struct LabWords {
    /// events as JSON lines on standard output
    #[argh(switch)]
    json: bool,
    /// only the outcome
    #[argh(switch, short = 'q')]
    quiet: bool,
}

/// Reads the command line, the program's name not included.
pub fn parse(words: &[OsString]) -> Result<Command, Complaint> {
    let general = "ropewalk --help lists the commands";
    let Some((first, rest)) = words.split_first() else {
        return Err(Complaint::usage("a command is missing", general));
    };
    let name = first.to_string_lossy();
    match name.as_ref() {
        "-h" | "--help" => Ok(Command::Print(HELP.to_owned())),
        "help" => match rest.first() {
            None => Ok(Command::Print(HELP.to_owned())),
            Some(command) => parse(&[command.clone(), "--help".into()]),
        },
        "-V" | "--version" => Ok(Command::Print(format!(
            "ropewalk {}\n",
            env!("CARGO_PKG_VERSION")
        ))),
        "get" => read("get", rest, get),
        "seed" => read("seed", rest, seed),
        "show" => read("show", rest, |words: ShowWords| {
            Ok(Command::Show {
                json: words.json,
                torrent: words.torrent.0,
            })
        }),
        "peers" => read("peers", rest, PeersWords::meaning),
        "verify" => read("verify", rest, |words: VerifyWords| {
            Ok(Command::Verify {
                json: words.json,
                quiet: words.quiet,
                torrent: words.torrent.0,
                folder: values::folder(words.folder)?,
            })
        }),
        "create" => read("create", rest, CreateWords::meaning),
        "tracker" => read("tracker", rest, TrackerWords::meaning),
        "lab" => read("lab", rest, |words: LabWords| {
            Ok(Command::Lab {
                json: words.json,
                quiet: words.quiet,
            })
        }),
        later if LATER.contains(&later) => Err(Complaint::unsupported(
            format!("the command {later} is not supported yet"),
            general,
        )),
        option if option.starts_with('-') => Err(Complaint::usage(
            format!("there is no option {} before a command", shown(option)),
            general,
        )),
        unknown => Err(Complaint::usage(
            format!("there is no command {}", shown(unknown)),
            general,
        )),
    }
}

/// Lets argh read the words of one command and gives them their meaning.
fn read<W: FromArgs>(
    command: &str,
    words: &[OsString],
    meaning: impl FnOnce(W) -> Result<Command, Complaint>,
) -> Result<Command, Complaint> {
    let hint = format!("ropewalk {command} --help lists the options");
    let translated =
        words::translate(words).map_err(|sentence| Complaint::usage(sentence, &hint))?;
    let borrowed = translated.iter().map(String::as_str).collect::<Vec<_>>();
    if let Some(later) = borrowed.iter().find(|word| LATER_OPTIONS.contains(word)) {
        let sentence = format!("the option {later} is not supported yet");
        return Err(Complaint::unsupported(sentence, hint));
    }
    match W::from_args(&["ropewalk", command], &borrowed) {
        Ok(words) => meaning(words).map_err(|complaint| Complaint {
            hint: if complaint.hint.is_empty() {
                hint
            } else {
                complaint.hint
            },
            ..complaint
        }),
        Err(exit) if exit.status.is_ok() => Ok(Command::Print(exit.output)),
        Err(exit) => Err(Complaint::usage(words::sentence(&exit.output), hint)),
    }
}

fn get(words: GetWords) -> Result<Command, Complaint> {
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
        port: values::port(words.port.as_ref())?,
        ratio,
        time: if words.exit {
            Some(Duration::ZERO)
        } else {
            values::time("--seed-time", minutes, 60.0)?
        },
        timeout: values::timeout(words.timeout.as_ref())?,
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
    Ok(Command::Get(transfer))
}

fn seed(words: SeedWords) -> Result<Command, Complaint> {
    let minutes = values::limit("--seed-time", words.seed_time.as_ref(), 0.0)?;
    let transfer = Transfer {
        torrents: vec![words.torrent.0],
        folder: values::folder(words.folder)?,
        port: values::port(words.port.as_ref())?,
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
    Ok(Command::Seed(transfer))
}

fn talk(transfer: &Transfer) -> Result<(), Complaint> {
    if transfer.quiet && transfer.verbose {
        return Err(Complaint::usage(
            "--quiet and --verbose contradict each other",
            "give one or the other",
        ));
    }
    Ok(())
}
