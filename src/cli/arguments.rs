//! Words in, meaning out, once: the command line becomes an [`Invocation`], and no later code looks at
//! the words again.
//!
//! argh does the parsing, with [`super::words`] before it for what argh does not know; [`super::values`]
//! says what the values mean.

mod create;
mod lab;
mod peers;
mod share;
mod tracker;
mod transfer;

use super::complaint::Complaint;
use super::shown::shown;
use super::values;
use super::words::{self, Word};
use argh::FromArgs;
pub use create::CreateArguments;
use create::CreateWords;
pub use lab::LabArguments;
use lab::LabWords;
use peers::PeersWords;
pub use share::ShareArguments;
use share::ShareWords;
use std::ffi::OsString;
use std::path::PathBuf;
pub use tracker::TrackerArguments;
use tracker::TrackerWords;
pub use transfer::Transfer;
use transfer::{get, seed};

/// What the user wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Invocation {
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
    /// Make a torrent, track and seed it.
    Share(Box<ShareArguments>),
    /// Make a .torrent.
    Create(Box<CreateArguments>),
    /// Run a tracker.
    Tracker(TrackerArguments),
    /// A swarm on loopback.
    Lab(LabArguments),
}

/// Options of later versions: known words, so that the answer is "not yet" and not "what?". None is
/// accepted and ignored.
const LATER_OPTIONS: [&str; 3] = ["--no-dht", "--no-pex", "--no-lsd"];

/// The page of `ropewalk --help`.
const HELP: &str = "\
Usage: ropewalk <command> [options]

BitTorrent without an async runtime: one thread per peer, laying pieces of one file.

Commands:
  get       download torrents, then share them
  seed      check data and serve it
  share     make a torrent, track and seed it; prints the line for other hosts
  create    make a .torrent of a file or a folder
  show      what is in a .torrent file or a magnet link
  verify    check data on disk, file by file
  peers     ask the trackers of a torrent who is there
  tracker   run a tracker, by HTTP and UDP
  lab       a whole swarm on this machine, drawn while it runs and explained

Options:
  --help            this page, or the page of a command: ropewalk get --help
  --version         the version

Exit status: 0 done, 1 wrong usage, 2 could not be done, 3 data does not match,
129/130/143 stopped by a signal before it was complete.
";

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

/// Reads the command line, the program's name not included.
pub fn parse(words: &[OsString]) -> Result<Invocation, Complaint> {
    let general = "ropewalk --help lists the commands";
    let Some((first, rest)) = words.split_first() else {
        return Err(Complaint::usage("a command is missing", general));
    };
    let name = first.to_string_lossy();
    match name.as_ref() {
        "-h" | "--help" => Ok(Invocation::Print(HELP.to_owned())),
        "help" => match rest.first() {
            None => Ok(Invocation::Print(HELP.to_owned())),
            Some(command) => parse(&[command.clone(), "--help".into()]),
        },
        "-V" | "--version" => Ok(Invocation::Print(format!(
            "ropewalk {}\n",
            env!("CARGO_PKG_VERSION")
        ))),
        "get" => read("get", rest, get),
        "seed" => read("seed", rest, seed),
        "show" => read("show", rest, |words: ShowWords| {
            Ok(Invocation::Show {
                json: words.json,
                torrent: words.torrent.0,
            })
        }),
        "peers" => read("peers", rest, PeersWords::meaning),
        "verify" => read("verify", rest, |words: VerifyWords| {
            Ok(Invocation::Verify {
                json: words.json,
                quiet: words.quiet,
                torrent: words.torrent.0,
                folder: values::folder(words.folder)?,
            })
        }),
        "share" => read("share", rest, ShareWords::meaning),
        "create" => read("create", rest, CreateWords::meaning),
        "tracker" => read("tracker", rest, TrackerWords::meaning),
        "lab" => read("lab", rest, LabWords::meaning),
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
    meaning: fn(W) -> Result<Invocation, Complaint>,
) -> Result<Invocation, Complaint> {
    let asked = ArghWords::of(command, words)?;
    let read = W::from_args(&["ropewalk", command], &asked.words());
    asked.conclude(read.map(meaning))
}

/// The words of one command, as argh wants them.
struct ArghWords {
    translated: Vec<String>,
    hint: String,
}

impl ArghWords {
    fn of(command: &str, words: &[OsString]) -> Result<ArghWords, Complaint> {
        let hint = format!("ropewalk {command} --help lists the options");
        let translated =
            words::translate(words).map_err(|sentence| Complaint::usage(sentence, &hint))?;
        let later = |word: &&String| LATER_OPTIONS.contains(&word.as_str());
        if let Some(later) = translated.iter().find(later) {
            let sentence = format!("the option {later} is not supported yet");
            return Err(Complaint::unsupported(sentence, hint));
        }
        Ok(ArghWords { translated, hint })
    }

    fn words(&self) -> Vec<&str> {
        self.translated.iter().map(String::as_str).collect()
    }

    fn conclude(
        self,
        read: Result<Result<Invocation, Complaint>, argh::EarlyExit>,
    ) -> Result<Invocation, Complaint> {
        let hint = self.hint;
        match read {
            Ok(meant) => meant.map_err(|complaint| Complaint {
                hint: if complaint.hint.is_empty() {
                    hint
                } else {
                    complaint.hint
                },
                ..complaint
            }),
            Err(exit) if exit.status.is_ok() => Ok(Invocation::Print(exit.output)),
            Err(exit) => Err(Complaint::usage(words::sentence(&exit.output), hint)),
        }
    }
}
