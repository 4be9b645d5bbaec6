//! `lab --json`: what the clients tell with who told it, and what only the lab knows.

use super::super::complaint::Complaint;
use super::super::events::{self, JsonEvent, Subject};
use super::super::output;
use crate::lab::chronicle::{Chronicle, Member};
use crate::lab::{LabEvent, LabOutcome, LabVerdict};
use serde::Serialize;
use std::time::Duration;

/// What is remembered from line to line.
#[derive(Debug, Default)]
pub struct Lines {
    last: Duration,
    subject: Option<Subject>,
}

/// What only the lab tells.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum LabNews<'a> {
    Written {
        name: &'a str,
        size: u64,
    },
    Described {
        info_hash: String,
        pieces: u32,
        piece_length: u32,
        torrent_size: u64,
        tracker: String,
    },
    Entered {
        role: &'static str,
    },
    Turn {
        whom: &'a str,
        open: bool,
        said: bool,
    },
    Came {
        piece: u32,
        from: Option<&'a str>,
    },
    Left {
        pieces_have: u32,
    },
    Spread,
    Compared {
        equal: bool,
    },
    Result(Box<End<'a>>),
}

#[derive(Serialize)]
struct End<'a> {
    verdict: &'static str,
    rng: u64,
    took: Option<f64>,
    fluid_limit: Option<f64>,
    http: Option<f64>,
    spread: Option<f64>,
    missed_events: u64,
    missed_messages: u64,
    members: Vec<MemberLine<'a>>,
    given: &'a [Vec<u64>],
}

#[derive(Serialize)]
struct MemberLine<'a> {
    who: &'a str,
    role: &'static str,
    pieces_have: u32,
    complete: Option<f64>,
    left: Option<f64>,
    uploaded: u64,
    downloaded: u64,
    wasted: u64,
    wrong_pieces: u32,
    ratio: f64,
}

#[derive(Serialize)]
struct Timed<'a, E> {
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<&'a str>,
    #[serde(flatten)]
    subject: Option<&'a Subject>,
    #[serde(flatten)]
    event: E,
}

impl Lines {
    /// Writes what happened.
    pub fn tell(
        &mut self,
        chronicle: &Chronicle,
        at: Duration,
        event: &LabEvent,
    ) -> Result<(), Complaint> {
        let name = |who: usize| chronicle.members[who].part.name.as_str();
        self.last = at;
        let (who, line) = match event {
            LabEvent::Opened { torrent, tracker } => {
                let book = &chronicle.book;
                self.subject = Some(Subject {
                    task: 0,
                    name: book.name.clone(),
                    info_hash: book.info_hash.to_string(),
                });
                let (name, size) = (book.name.as_str(), book.bytes);
                write(at, None, LabNews::Written { name, size })?;
                let described = LabNews::Described {
                    info_hash: book.info_hash.to_string(),
                    pieces: book.pieces,
                    piece_length: book.piece_length,
                    torrent_size: *torrent,
                    tracker: format!("udp://{tracker}"),
                };
                (None, described)
            }
            LabEvent::Told { who, notice } => {
                let (task, event) = JsonEvent::of(notice, None);
                return output::line(&events::json(&Timed {
                    time: events::seconds(at),
                    who: Some(name(*who)),
                    subject: task.and(self.subject.as_ref()),
                    event,
                }));
            }
            LabEvent::Entered { who } => {
                let role = chronicle.members[*who].part.role.name();
                (Some(*who), LabNews::Entered { role })
            }
            LabEvent::Came(arrival) => {
                let (piece, from) = (arrival.piece, arrival.from.map(name));
                (Some(arrival.who), LabNews::Came { piece, from })
            }
            LabEvent::Turned(turn) => {
                let (whom, open, said) = (name(turn.whom), turn.open, turn.said);
                (Some(turn.who), LabNews::Turn { whom, open, said })
            }
            LabEvent::Left { who } => {
                let pieces_have = chronicle.members[*who].count;
                (Some(*who), LabNews::Left { pieces_have })
            }
            LabEvent::Spread => (None, LabNews::Spread),
            LabEvent::Compared { who, equal } => (Some(*who), LabNews::Compared { equal: *equal }),
            LabEvent::Tick => return Ok(()),
        };
        write(at, who.map(name), line)
    }

    /// Writes how it ended.
    pub fn end(&self, outcome: &LabOutcome) -> Result<(), Complaint> {
        let chronicle = &outcome.chronicle;
        let limits = chronicle.limits();
        let since = |at: Duration| events::seconds(at.saturating_sub(chronicle.opened));
        let member = |member: &'_ Member| -> (Option<f64>, Option<f64>) {
            let complete = member.complete.filter(|_| member.part.role.wants());
            (complete.map(since), member.left.map(since))
        };
        let members = chronicle.members.iter().map(|it| {
            let (complete, left) = member(it);
            MemberLine {
                who: &it.part.name,
                role: it.part.role.name(),
                pieces_have: it.count,
                complete,
                left,
                uploaded: it.given,
                downloaded: it.taken,
                wasted: it.wasted,
                wrong_pieces: it.wrong,
                ratio: thousandths(it.given as f64 / chronicle.book.bytes.max(1) as f64),
            }
        });
        let result = End {
            verdict: match outcome.verdict {
                LabVerdict::Everybody => "everybody",
                LabVerdict::Lost(_) => "lost",
                LabVerdict::Stuck => "stuck",
                LabVerdict::Stopped => "stopped",
                LabVerdict::Different(_) => "different",
            },
            rng: chronicle.plan.rng,
            took: chronicle.time().map(events::seconds),
            fluid_limit: limits.map(|it| thousandths(it.fluid)),
            http: limits.map(|it| thousandths(it.http)),
            spread: chronicle.spread.map(since),
            missed_events: chronicle.untold,
            missed_messages: chronicle.unheard,
            members: members.collect(),
            given: &chronicle.given,
        };
        write(self.last, None, LabNews::Result(Box::new(result)))
    }
}

fn thousandths(number: f64) -> f64 {
    (number * 1e3).round() / 1e3
}

fn write(at: Duration, who: Option<&str>, event: LabNews) -> Result<(), Complaint> {
    output::line(&events::json(&Timed {
        time: events::seconds(at),
        who,
        subject: None,
        event,
    }))
}
