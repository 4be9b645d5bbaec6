//! The words of `share` and what they mean.

use super::super::complaint::Complaint;
use super::super::output;
use super::super::values;
use super::super::words::Word;
use super::transfer::{MAX_PEERS, talk};
use super::{CreateArguments, Invocation, Transfer};
use argh::FromArgs;
use std::path::{Path, PathBuf};

/// What `share` is told: how to make the torrent, how to seed it, and where its tracker is.
#[derive(Debug, Clone, PartialEq)]
pub struct ShareArguments {
    /// The torrent. Its trackers are not known yet; without an `output` nothing is written.
    pub create: CreateArguments,
    /// The seed. It names no torrent.
    pub seed: Transfer,
    /// The port of the tracker.
    pub tracker_port: Option<u16>,
}

/// make a torrent of a file or a folder, run a tracker for it and serve it, until Ctrl-C or a limit; prints
/// the command that fetches it on other hosts
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options] PATH",
    example = "ropewalk share --up 2M debian.iso",
    note = "Other programs can be given the http address in the printed line, or the magnet link. Nothing is
written to disk without --output, and nobody else is told.",
    note = "Names that begin with a dot are left out unless --include-hidden is given. Symbolic links
are followed."
)]
pub(super) struct ShareWords {
    /// the file or folder
    #[argh(positional, arg_name = "PATH")]
    path: Word,
    /// address to serve on and to tell others (default: serve on all, tell that of the default route)
    #[argh(option, arg_name = "ADDR")]
    bind: Option<Word>,
    /// port of the seed; 0: any (default: the first free of 6881 to 6889)
    #[argh(option, arg_name = "N")]
    port: Option<Word>,
    /// port of the tracker, which hands out the .torrent too; 0: any (default: the first free of 6969 to
    /// 6977)
    #[argh(option, arg_name = "N")]
    tracker_port: Option<Word>,
    /// leave when so many times the size was given; 0: no limit (default)
    #[argh(option, arg_name = "R")]
    seed_ratio: Option<Word>,
    /// leave after so many minutes; 0: no limit (default)
    #[argh(option, arg_name = "MIN")]
    seed_time: Option<Word>,
    /// connections at a time (default: 100)
    #[argh(option, arg_name = "N")]
    max_peers: Option<Word>,
    /// send at most so many bytes a second, to all peers together: 500K, 2M; 0: no limit (default)
    #[argh(option, arg_name = "RATE")]
    up: Option<Word>,
    /// also write the .torrent: to a file, or into a folder
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<Word>,
    /// let --output replace an existing file
    #[argh(switch)]
    overwrite: bool,
    /// bytes a piece, 16K to 16M (default: for 1,500 to 3,000 pieces)
    #[argh(option, arg_name = "SIZE")]
    piece_length: Option<Word>,
    /// peers shall come from this tracker alone
    #[argh(switch)]
    private: bool,
    /// a remark
    #[argh(option, arg_name = "TEXT")]
    comment: Option<Word>,
    /// the torrent's name (default: that of the file or folder)
    #[argh(option, arg_name = "NAME")]
    name: Option<Word>,
    /// leave out files and folders with such a name, or such a path if it has a slash (repeatable)
    #[argh(option, arg_name = "GLOB")]
    exclude: Vec<Word>,
    /// take in names that begin with a dot
    #[argh(switch)]
    include_hidden: bool,
    /// events as JSON lines on standard output
    #[argh(switch)]
    json: bool,
    /// print the command and say only what went wrong
    #[argh(switch, short = 'q')]
    quiet: bool,
    /// say which peers come and go
    #[argh(switch, short = 'v')]
    verbose: bool,
    /// write every wire message to a file, or - for the screen
    #[argh(option, arg_name = "FILE")]
    trace: Option<Word>,
}

impl ShareWords {
    pub(super) fn meaning(self) -> Result<Invocation, Complaint> {
        self.sense()?;
        let tracker_port = values::port("--tracker-port", self.tracker_port.as_ref())?;
        let seed = self.seed()?;
        if seed.port == tracker_port && tracker_port.is_some_and(|port| port > 0) {
            return Err(Complaint::usage(
                "--port and --tracker-port cannot be the same",
                "give them different numbers, or leave one to ropewalk",
            ));
        }
        talk(&seed)?;
        Ok(Invocation::Share(Box::new(ShareArguments {
            create: self.create()?,
            seed,
            tracker_port,
        })))
    }

    fn sense(&self) -> Result<(), Complaint> {
        let output = self.output.as_ref().map(|word| &word.0);
        let sentence = if self.path.0.is_empty() {
            "the name of the file or folder is empty"
        } else if output.is_some_and(|path| path.is_empty()) {
            "--output takes a file, not nothing"
        } else if output.is_some_and(|path| output::is_named(Path::new(path))) {
            "--output takes a file: standard output has the command for other hosts"
        } else if self.overwrite && output.is_none() {
            "--overwrite is about --output, which is not there"
        } else {
            return Ok(());
        };
        Err(Complaint::usage(sentence, ""))
    }

    fn seed(&self) -> Result<Transfer, Complaint> {
        let minutes = values::limit("--seed-time", self.seed_time.as_ref(), 0.0)?;
        Ok(Transfer {
            torrents: Vec::new(),
            folder: PathBuf::new(),
            port: values::port("--port", self.port.as_ref())?,
            ratio: values::limit("--seed-ratio", self.seed_ratio.as_ref(), 0.0)?,
            time: values::time("--seed-time", minutes, 60.0)?,
            timeout: None,
            peers: Vec::new(),
            trackers: true,
            max_peers: values::max_peers(self.max_peers.as_ref(), MAX_PEERS)?,
            up: values::rate("--up", self.up.as_ref())?,
            down: None,
            bind: values::bind(self.bind.as_ref())?,
            only: Vec::new(),
            sequential: false,
            check: false,
            overwrite: false,
            on_complete: None,
            json: self.json,
            quiet: self.quiet,
            verbose: self.verbose,
            trace: self.trace.as_ref().map(|word| word.0.clone().into()),
        })
    }

    fn create(self) -> Result<CreateArguments, Complaint> {
        Ok(CreateArguments {
            path: self.path.0.into(),
            output: self.output.map(|word| word.0.into()),
            trackers: Vec::new(),
            webseeds: Vec::new(),
            piece_length: values::piece_length(self.piece_length.as_ref())?,
            private: self.private,
            comment: values::text("--comment", self.comment.as_ref())?,
            source: None,
            name: values::name(self.name.as_ref())?,
            date: true,
            creator: true,
            exclude: values::globs("--exclude", &self.exclude)?,
            hidden: self.include_hidden,
            overwrite: self.overwrite,
            json: self.json,
            quiet: self.quiet,
        })
    }
}
