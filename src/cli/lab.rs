//! `lab`: prints what happens in the lab. Each line says what happened and which idea of BitTorrent
//! can be seen in it.

use super::complaint::{Complaint, Reason};
use super::events::{self, Event, Subject};
use super::shown::shown;
use super::status::ExitStatus;
use super::{figures, output, signals};
use crate::client::Notice;
use crate::lab::{self, LabError, LabEvent, Who};
use crossbeam_channel::bounded;
use serde::Serialize;
use std::time::Instant;

/// Of the first pieces every one is told, of the others every quarter.
const PIECES_TOLD: u32 = 3;

/// Runs `lab`.
pub fn run(json: bool, quiet: bool) -> Result<ExitStatus, Complaint> {
    // Bound: one, there is one end.
    let (stop, stopped) = bounded(1);
    let interrupt = stop.clone();
    let signal = signals::watch(move || {
        let _ = interrupt.try_send(());
    });
    let mut narrator = Narrator {
        clock: Instant::now(),
        json,
        quiet,
        pieces: 0,
        pieces_here: 0,
        subject: None,
    };
    let mut broken = None;
    let outcome = lab::run(&stopped, &mut |event| {
        if broken.is_none()
            && let Err(complaint) = narrator.tell(&event)
        {
            broken = Some(complaint);
            let _ = stop.try_send(());
        }
    });
    if let Some(complaint) = broken {
        return Err(complaint);
    }
    match outcome {
        Ok(()) => {
            narrator.end()?;
            Ok(ExitStatus::Done)
        }
        Err(error) => {
            let complaint = complaint(&error, signal.try_recv().ok());
            if json {
                events::write(narrator.clock.elapsed(), None, &Event::from(&complaint))?;
            }
            Err(complaint)
        }
    }
}

fn complaint(error: &LabError, signal: Option<u8>) -> Complaint {
    let sentence = shown(&format!("the lab failed: {error}"));
    match error {
        LabError::Start(error) => Complaint::start(error),
        LabError::Stopped => Complaint {
            status: signal.map_or(ExitStatus::Failed, ExitStatus::Signal),
            ..Complaint::new(Reason::Interrupted, "the lab was stopped", "")
        },
        LabError::Different => Complaint {
            status: ExitStatus::Mismatch,
            ..Complaint::new(
                Reason::Data,
                sentence,
                "this is a fault in ropewalk: please report it",
            )
        },
        LabError::Folder { .. } => Complaint::new(
            Reason::Storage,
            sentence,
            "set TMPDIR to a folder with some room that you may write to",
        ),
        LabError::NoPort => Complaint::new(Reason::Port, sentence, "is the loopback interface up?"),
        LabError::Metainfo(_) | LabError::Ended { .. } => Complaint::new(
            Reason::Data,
            sentence,
            "this is a fault in ropewalk: please report it",
        ),
    }
}

struct Narrator {
    clock: Instant,
    json: bool,
    quiet: bool,
    pieces: u32,
    pieces_here: u32,
    subject: Option<Subject>,
}

/// What only the lab tells, in JSON.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
enum LabLine {
    Written {
        pages: u32,
        size: u64,
    },
    Described {
        info_hash: String,
        pieces: u32,
        piece_length: u32,
        torrent_size: u64,
    },
    Entered {
        who: &'static str,
        knows: Option<String>,
    },
    Compared {
        seed: String,
        leecher: String,
        equal: bool,
    },
}

#[derive(Serialize)]
struct Timed<'a, E> {
    time: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    who: Option<&'static str>,
    #[serde(flatten)]
    subject: Option<&'a Subject>,
    #[serde(flatten)]
    event: E,
}

impl Narrator {
    fn tell(&mut self, event: &LabEvent) -> Result<(), Complaint> {
        if self.json {
            return self.tell_json(event);
        }
        if self.quiet {
            return Ok(());
        }
        let Some(text) = self.words(event) else {
            return Ok(());
        };
        let time = self.clock.elapsed().as_secs_f64();
        output::line(&format!("{time:6.2}s  {text}"))
    }

    fn end(&self) -> Result<(), Complaint> {
        if self.json || self.quiet {
            return Ok(());
        }
        output::line(
            "\nThe same with real torrents: ropewalk get FILE.torrent, ropewalk seed FILE.torrent DIR.\n\
             Where to read on: docs/tour.md.",
        )
    }

    fn words(&mut self, event: &LabEvent) -> Option<String> {
        match event {
            LabEvent::Written { pages, bytes } => Some(format!(
                "A book of {pages} pages ({}) is written. So far it exists once, with the seed.",
                figures::size(*bytes)
            )),
            LabEvent::Described {
                info_hash,
                pieces,
                piece_length,
                torrent,
            } => {
                self.pieces = *pieces;
                Some(format!(
                    "It is cut into {pieces} pieces of {}. Their SHA-1 fingerprints fill a .torrent of {}: \
                     who has it can check every piece, whoever sends it.\n         \
                     The fingerprint of that list, the info-hash, is the torrent's name everywhere: {info_hash}",
                    figures::size(u64::from(*piece_length)),
                    figures::size(*torrent),
                ))
            }
            LabEvent::Entered { who: Who::Seed, .. } => {
                Some("The seed sits down: it has every piece and wants none.".into())
            }
            LabEvent::Entered { knows, .. } => Some(format!(
                "The leecher sits down: it has the .torrent, no piece, and one address: {}. No tracker is needed for that.",
                knows.map_or_else(String::new, |address| address.to_string())
            )),
            LabEvent::Told { who, notice } => self.notice(*who, notice),
            LabEvent::Compared {
                seed,
                leecher,
                equal: true,
            } => Some(format!(
                "Both books are read from disk and compared: equal, byte for byte (SHA-1 {seed}, {leecher})."
            )),
            LabEvent::Compared { .. } => Some("Both books are compared: they DIFFER.".into()),
        }
    }

    fn notice(&mut self, who: Who, notice: &Notice) -> Option<String> {
        let name = who.name();
        match (who, notice) {
            (Who::Seed, Notice::Listening { port: Some(port) }) => Some(format!(
                "{name}: listens on port {port}; anyone who knows the info-hash may call."
            )),
            (Who::Seed, Notice::Complete { .. }) => Some(format!(
                "{name}: has hashed what is on its disk: all {} pieces are right. It trusts no file it has not checked.",
                self.pieces
            )),
            (
                Who::Leecher,
                Notice::PeerJoined {
                    address, client, ..
                },
            ) => Some(format!(
                "{name}: connected to {address} ({}). Each side sent a handshake with the info-hash, \
                 then which pieces it has.",
                match client.as_str() {
                    "" => "unnamed".to_owned(),
                    client => shown(client),
                }
            )),
            (
                Who::Leecher,
                Notice::Piece {
                    piece, good: true, ..
                },
            ) => {
                self.pieces_here += 1;
                self.piece(piece.get())
            }
            (
                _,
                Notice::Piece {
                    piece, good: false, ..
                },
            ) => Some(format!(
                "{name}: piece {piece} does not match its fingerprint and is thrown away."
            )),
            (Who::Leecher, Notice::Complete { snapshot, .. }) => Some(format!(
                "{name}: has every piece, checked and synced to disk: {} in {} ({}). From now on it is a seed itself.",
                figures::size(snapshot.downloaded),
                figures::duration(snapshot.elapsed),
                figures::rate(figures::mean_rate(snapshot.downloaded, snapshot.elapsed)),
            )),
            (_, Notice::Stopped { snapshot, .. }) => Some(format!(
                "{name}: leaves; it gave {} and took {}.",
                figures::size(snapshot.uploaded),
                figures::size(snapshot.downloaded)
            )),
            (_, Notice::Warning { text, .. }) => Some(format!("{name}: warning: {}", shown(text))),
            _ => None,
        }
    }

    /// A piece has arrived; which ones are told, and with which remark.
    fn piece(&self, piece: u32) -> Option<String> {
        let here = self.pieces_here;
        let count = format!("{here} of {}", self.pieces);
        let quarter = (self.pieces / 4).max(1);
        match here {
            1 => Some(format!(
                "leecher: piece {piece} came first and matches its fingerprint ({count}). \
                 Its blocks of 16 KiB were written straight into their place in the file."
            )),
            2 => Some(format!(
                "leecher: piece {piece} ({count}). The order is rarest first, and a matter of chance \
                 among equally rare ones: so that leechers have different pieces to give each other."
            )),
            _ if here <= PIECES_TOLD => Some(format!("leecher: piece {piece} ({count}).")),
            _ if here.is_multiple_of(quarter) && here < self.pieces => {
                Some(format!("leecher: {count} pieces are here."))
            }
            _ => None,
        }
    }

    fn tell_json(&mut self, event: &LabEvent) -> Result<(), Complaint> {
        let time = self.clock.elapsed();
        let line = match event {
            LabEvent::Told { who, notice } => {
                let (task, event) = Event::of(notice, None);
                return output::line(&events::json(&Timed {
                    time: events::seconds(time),
                    who: Some(who.name()),
                    subject: task.and(self.subject.as_ref()),
                    event,
                }));
            }
            LabEvent::Written { pages, bytes } => LabLine::Written {
                pages: *pages,
                size: *bytes,
            },
            LabEvent::Described {
                info_hash,
                pieces,
                piece_length,
                torrent,
            } => {
                self.subject = Some(Subject {
                    task: 0,
                    name: lab::book::NAME.into(),
                    info_hash: info_hash.to_string(),
                });
                LabLine::Described {
                    info_hash: info_hash.to_string(),
                    pieces: *pieces,
                    piece_length: *piece_length,
                    torrent_size: *torrent,
                }
            }
            LabEvent::Entered { who, knows } => LabLine::Entered {
                who: who.name(),
                knows: knows.map(|address| address.to_string()),
            },
            LabEvent::Compared {
                seed,
                leecher,
                equal,
            } => LabLine::Compared {
                seed: seed.to_string(),
                leecher: leecher.to_string(),
                equal: *equal,
            },
        };
        output::line(&events::json(&Timed {
            time: events::seconds(time),
            who: None,
            subject: None,
            event: line,
        }))
    }
}
