//! The words of `create` and what they mean.

use super::super::complaint::Complaint;
use super::super::values;
use super::super::words::Word;
use super::Invocation;
use crate::protocol::glob::Glob;
use argh::FromArgs;
use std::path::PathBuf;

/// What `create` is told.
#[derive(Debug, Clone, PartialEq)]
pub struct CreateArguments {
    /// The file or folder.
    pub path: PathBuf,
    /// Where the .torrent goes; `None`: here, under the torrent's name; `-`: standard output.
    pub output: Option<PathBuf>,
    /// Tiers of tracker addresses.
    pub trackers: Vec<Vec<String>>,
    /// Addresses of web seeds.
    pub webseeds: Vec<String>,
    /// Bytes a piece; `None`: what fits the size.
    pub piece_length: Option<u32>,
    /// Peers come from the trackers alone.
    pub private: bool,
    /// A remark.
    pub comment: Option<String>,
    /// What tells copies for different trackers apart.
    pub source: Option<String>,
    /// The torrent's name; `None`: that of the file or folder.
    pub name: Option<String>,
    /// Whether the time of its making is written.
    pub date: bool,
    /// Whether the name of this program is written.
    pub creator: bool,
    /// Files and folders to leave out.
    pub exclude: Vec<Glob>,
    /// Take in names that begin with a dot.
    pub hidden: bool,
    /// Replace what is in the .torrent's place.
    pub overwrite: bool,
    /// One JSON object.
    pub json: bool,
    /// Say only what went wrong.
    pub quiet: bool,
}

/// make a .torrent of a file or a folder
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options] PATH",
    example = "ropewalk create --tracker http://tracker.example/announce album",
    note = "Names that begin with a dot are left out unless --include-hidden is given. Symbolic links
are followed. The same files and options give the same info-hash everywhere."
)]
pub(super) struct CreateWords {
    /// the file or folder
    #[argh(positional, arg_name = "PATH")]
    path: Word,
    /// where the .torrent goes: a file, a folder, or - for standard output (default: NAME.torrent)
    #[argh(option, short = 'o', arg_name = "FILE")]
    output: Option<Word>,
    /// address of a tracker; each further one is asked when those before do not answer, several in one
    /// with commas between them are equals (repeatable)
    #[argh(option, arg_name = "URL")]
    tracker: Vec<Word>,
    /// http address the data can be fetched from too (repeatable)
    #[argh(option, arg_name = "URL")]
    webseed: Vec<Word>,
    /// bytes a piece, 16K to 16M (default: for 1,500 to 3,000 pieces)
    #[argh(option, arg_name = "SIZE")]
    piece_length: Option<Word>,
    /// peers shall come from the trackers alone
    #[argh(switch)]
    private: bool,
    /// a remark
    #[argh(option, arg_name = "TEXT")]
    comment: Option<Word>,
    /// a mark that gives copies for different trackers different info-hashes
    #[argh(option, arg_name = "TEXT")]
    source: Option<Word>,
    /// the torrent's name (default: that of the file or folder)
    #[argh(option, arg_name = "NAME")]
    name: Option<Word>,
    /// do not write when it was made
    #[argh(switch)]
    no_date: bool,
    /// do not write what made it
    #[argh(switch)]
    no_creator: bool,
    /// leave out files and folders with such a name, or such a path if it has a slash (repeatable)
    #[argh(option, arg_name = "GLOB")]
    exclude: Vec<Word>,
    /// take in names that begin with a dot
    #[argh(switch)]
    include_hidden: bool,
    /// replace an existing file
    #[argh(switch)]
    overwrite: bool,
    /// one JSON object on standard output
    #[argh(switch)]
    json: bool,
    /// say only what went wrong
    #[argh(switch, short = 'q')]
    quiet: bool,
}

impl CreateWords {
    pub(super) fn meaning(self) -> Result<Invocation, Complaint> {
        if self.path.0.is_empty() {
            return Err(Complaint::usage(
                "the name of the file or folder is empty",
                "",
            ));
        }
        if self.output.as_ref().is_some_and(|word| word.0.is_empty()) {
            return Err(Complaint::usage("--output takes a file, not nothing", ""));
        }
        Ok(Invocation::Create(Box::new(CreateArguments {
            path: self.path.0.into(),
            output: self.output.map(|word| word.0.into()),
            trackers: values::trackers(&self.tracker)?,
            webseeds: values::webseeds(&self.webseed)?,
            piece_length: values::piece_length(self.piece_length.as_ref())?,
            private: self.private,
            comment: values::text("--comment", self.comment.as_ref())?,
            source: values::text("--source", self.source.as_ref())?,
            name: values::name(self.name.as_ref())?,
            date: !self.no_date,
            creator: !self.no_creator,
            exclude: values::globs("--exclude", &self.exclude)?,
            hidden: self.include_hidden,
            overwrite: self.overwrite,
            json: self.json,
            quiet: self.quiet,
        })))
    }
}
