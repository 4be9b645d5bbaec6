//! The words of `peers` and what they mean.

use super::super::complaint::Complaint;
use super::super::words::Word;
use super::Invocation;
use argh::FromArgs;

/// ask every tracker of a torrent who is there: seeds, leechers, addresses, errors
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[--json] TORRENT",
    note = "Counts are scraped. Addresses are given only to those who take part, so each tracker is",
    note = "told that we do, and at once that we do not any more. All are asked at once; we are not counted.",
    note = "Exit status 0 if any tracker answered, otherwise 2."
)]
pub(super) struct PeersWords {
    /// a file, -, an http(s) address, or a magnet link
    #[argh(positional, arg_name = "TORRENT")]
    torrent: Word,
    /// one JSON object
    #[argh(switch)]
    json: bool,
}

impl PeersWords {
    pub(super) fn meaning(self) -> Result<Invocation, Complaint> {
        Ok(Invocation::Peers {
            json: self.json,
            torrent: self.torrent.0,
        })
    }
}
