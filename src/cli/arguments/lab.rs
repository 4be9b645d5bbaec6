//! The words of `lab` and what they mean.

use super::super::complaint::Complaint;
use super::super::values;
use super::super::words::Word;
use super::Invocation;
use crate::lab::Plan;
use crate::lab::cast::{PEERS_MAX, SEEDS_MAX};
use argh::FromArgs;
use std::path::PathBuf;

/// What `lab` is told.
#[derive(Debug, Clone, PartialEq)]
pub struct LabArguments {
    /// What happens.
    pub plan: Plan,
    /// No `--up` was given: the rate is to fit the book.
    pub fitting_rate: bool,
    /// Where a page about it is written.
    pub report: Option<PathBuf>,
    /// Events as JSON lines.
    pub json: bool,
    /// Only the outcome.
    pub quiet: bool,
}

/// run a whole swarm on this machine and explain it: a tracker, a seed that has a book, and leechers
/// that want it; nothing leaves the machine
#[derive(FromArgs)]
#[argh(
    help_triggers("-h", "--help"),
    usage = "[options]",
    example = "ropewalk lab --peers 12 --free-riders 3 --report swarm.html",
    note = "The same --rng gives the same book, the same people and the same dice. The threads are real, so
times and the order of what happens differ a little from run to run.",
    note = "Exit status 0 only if everybody who neither rides nor leaves has the book, byte for byte."
)]
pub(super) struct LabWords {
    /// leechers at the table, free riders and leavers among them, 1 to 50 (default: 6)
    #[argh(option, arg_name = "N")]
    peers: Option<Word>,
    /// seeds, 1 to 16 (default: 1)
    #[argh(option, arg_name = "N")]
    seeds: Option<Word>,
    /// bytes a second that each sends at most; 0: no limit (default: what makes it last 6 seconds or more)
    #[argh(option, arg_name = "RATE")]
    up: Option<Word>,
    /// the number of the story, from 0 (default: 1)
    #[argh(option, arg_name = "SEED")]
    rng: Option<Word>,
    /// a file to share instead of the book, up to 256 MiB
    #[argh(option, arg_name = "PATH")]
    file: Option<Word>,
    /// leechers that give next to nothing; with those who leave, fewer than --peers (default: 0)
    #[argh(option, arg_name = "N")]
    free_riders: Option<Word>,
    /// further peers that say they have the book and send wrong bytes, up to 16 (default: 0)
    #[argh(option, arg_name = "N")]
    liars: Option<Word>,
    /// leechers that vanish half-way (default: 0)
    #[argh(option, arg_name = "N")]
    leave: Option<Word>,
    /// the seeds leave after so many seconds, more than 0 (default: they stay)
    #[argh(option, arg_name = "SECS")]
    no_seed_after: Option<Word>,
    /// write a page about it, to be opened in a browser
    #[argh(option, arg_name = "FILE")]
    report: Option<Word>,
    /// events as JSON lines on standard output
    #[argh(switch)]
    json: bool,
    /// only the outcome
    #[argh(switch, short = 'q')]
    quiet: bool,
}

impl LabWords {
    pub(super) fn meaning(self) -> Result<Invocation, Complaint> {
        let usual = Plan::default();
        let count = |option, word: &Option<Word>, bounds, default| {
            values::count(option, word.as_ref(), bounds, default)
        };
        for (option, word) in [("--file", &self.file), ("--report", &self.report)] {
            if word.as_ref().is_some_and(|word| word.0.is_empty()) {
                let sentence = format!("{option} takes a file, not nothing");
                return Err(Complaint::usage(sentence, ""));
            }
        }
        let plan = Plan {
            peers: count("--peers", &self.peers, 1..=PEERS_MAX, usual.peers)?,
            seeds: count("--seeds", &self.seeds, 1..=SEEDS_MAX, usual.seeds)?,
            up: values::rate("--up", self.up.as_ref())?,
            rng: number(self.rng.as_ref(), usual.rng)?,
            free_riders: count("--free-riders", &self.free_riders, 0..=PEERS_MAX, 0)?,
            liars: count("--liars", &self.liars, 0..=SEEDS_MAX, 0)?,
            leave: count("--leave", &self.leave, 0..=PEERS_MAX, 0)?,
            no_seed_after: values::seconds("--no-seed-after", self.no_seed_after.as_ref())?,
            file: self.file.map(|word| word.0.into()),
        };
        if plan.free_riders + plan.leave >= plan.peers {
            let sentence = format!(
                "with --peers {}, --free-riders {} and --leave {} nobody stays who gives",
                plan.peers, plan.free_riders, plan.leave
            );
            let hint = "--free-riders and --leave together must be fewer than --peers";
            return Err(Complaint::usage(sentence, hint));
        }
        Ok(Invocation::Lab(LabArguments {
            plan,
            fitting_rate: self.up.is_none(),
            report: self.report.map(|word| word.0.into()),
            json: self.json,
            quiet: self.quiet,
        }))
    }
}

/// `--rng`: any whole number of 64 bits.
fn number(word: Option<&Word>, default: u64) -> Result<u64, Complaint> {
    let Some(word) = word else {
        return Ok(default);
    };
    let text = word.text();
    text.parse().map_err(|_| {
        let shown = super::super::shown::shown(&text);
        let sentence = format!("--rng takes a whole number from 0, not {shown}");
        Complaint::usage(sentence, "")
    })
}
