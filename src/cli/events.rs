//! `--json`: what happens, as one JSON object a line. docs/json.md is the schema; a key, once
//! published, stays.

use super::complaint::Complaint;
use super::output;
use crate::client::{Ending, Notice, Snapshot};
use crate::protocol::plain::escape_json;
use serde::Serialize;
use std::net::SocketAddr;
use std::time::Duration;

/// The torrent that an event is about.
#[derive(Debug, Clone, Serialize)]
pub struct Subject {
    /// Its place on the command line, from 0.
    pub task: usize,
    /// Its name on disk.
    pub name: String,
    /// 40 hex digits.
    pub info_hash: String,
}

/// An event with what belongs to it.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum JsonEvent {
    /// We listen for callers.
    Listening {
        /// The port, null where none could be had.
        port: Option<u16>,
    },
    /// With `share`: others can come.
    Shared {
        /// Where the .torrent is.
        torrent: String,
        /// The link that goes without it.
        magnet: String,
        /// The address others are told.
        address: String,
        /// Other addresses of this machine.
        others: Vec<String>,
    },
    /// Work on a torrent begins.
    Started {
        /// Bytes.
        size: u64,
        /// Bytes of the pieces that are wanted.
        wanted: u64,
    },
    /// Data on disk is being hashed.
    Checking {
        /// Pieces done.
        done: u32,
        /// Pieces to do.
        of: u32,
    },
    /// How things stand.
    Progress(Figures),
    /// A peer came or went.
    Peer {
        /// `joined` or `left`.
        state: &'static str,
        /// Its address.
        address: String,
        /// The program it says it is; with `joined`.
        #[serde(skip_serializing_if = "Option::is_none")]
        client: Option<String>,
        /// Why; with `left`.
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<String>,
    },
    /// A tracker answered or failed.
    Tracker {
        /// Its address without secrets.
        tracker: String,
        /// How many addresses it gave; null where it failed.
        peers: Option<usize>,
        /// What went wrong; null where nothing did.
        error: Option<String>,
    },
    /// A piece was verified.
    Piece {
        /// Its number.
        piece: u32,
        /// Whether it was right.
        good: bool,
    },
    /// A file that is to be seeded is not all here.
    Missing {
        /// Its path below the torrent's root.
        path: String,
        /// How many of its bytes cannot be served.
        bytes: u64,
    },
    /// Events were left out here: we were not read fast enough.
    Dropped {
        /// How many.
        events: u64,
    },
    /// Something is odd and work goes on.
    Warning {
        /// One sentence.
        text: String,
    },
    /// Everything is here, verified and synced.
    Complete {
        /// How things stand.
        #[serde(flatten)]
        figures: Figures,
        /// Nothing had to be fetched.
        already: bool,
    },
    /// Work on a torrent has ended.
    Stopped {
        /// How things stand.
        #[serde(flatten)]
        figures: Figures,
        /// `done` where it ended well, otherwise the kind of failure.
        reason: &'static str,
        /// What went wrong; null where nothing did.
        text: Option<String>,
        /// The exit status that this torrent alone would have.
        status: u8,
    },
    /// Something could not be done.
    Error {
        /// The kind of failure.
        reason: &'static str,
        /// One sentence.
        text: String,
        /// What to try; empty where nobody knows.
        hint: String,
        /// The exit status that goes with it.
        status: u8,
    },
}

/// A snapshot. Sizes in bytes, rates in bytes a second.
#[derive(Debug, Clone, Serialize)]
pub struct Figures {
    size: u64,
    wanted: u64,
    have: u64,
    wanted_have: u64,
    pieces: u32,
    pieces_have: u32,
    downloaded: u64,
    uploaded: u64,
    uploaded_ever: u64,
    downloaded_ever: u64,
    wasted: u64,
    down_rate: u64,
    up_rate: u64,
    peers: usize,
    seeds: usize,
    liars: usize,
    ratio: f64,
    elapsed: f64,
    sharing: Option<f64>,
}

impl From<&Snapshot> for Figures {
    fn from(snapshot: &Snapshot) -> Figures {
        Figures {
            size: snapshot.size,
            wanted: snapshot.wanted,
            have: snapshot.have,
            wanted_have: snapshot.wanted_have,
            pieces: snapshot.pieces,
            pieces_have: snapshot.pieces_have,
            downloaded: snapshot.downloaded,
            uploaded: snapshot.uploaded,
            uploaded_ever: snapshot.uploaded_ever,
            downloaded_ever: snapshot.downloaded_ever,
            wasted: snapshot.wasted,
            down_rate: snapshot.down_rate,
            up_rate: snapshot.up_rate,
            peers: snapshot.peers,
            seeds: snapshot.seeds,
            liars: snapshot.liars,
            ratio: thousandths(snapshot.ratio()),
            elapsed: seconds(snapshot.elapsed),
            sharing: snapshot.sharing.map(seconds),
        }
    }
}

impl From<&Complaint> for JsonEvent {
    fn from(complaint: &Complaint) -> JsonEvent {
        JsonEvent::Error {
            reason: complaint.reason.word(),
            text: complaint.sentence.clone(),
            hint: complaint.hint.clone(),
            status: complaint.status.code(),
        }
    }
}

impl JsonEvent {
    /// A notice as an event, and the task it is about. Text from strangers stays as it is: JSON
    /// has its own way to write what a terminal must not see.
    pub fn of(notice: &Notice, complaint: Option<&Complaint>) -> (Option<usize>, JsonEvent) {
        match notice {
            Notice::Listening { port } => (None, JsonEvent::Listening { port: *port }),
            Notice::Started {
                task, size, wanted, ..
            } => (
                Some(*task),
                JsonEvent::Started {
                    size: *size,
                    wanted: *wanted,
                },
            ),
            Notice::Checking { task, done, of } => (
                Some(*task),
                JsonEvent::Checking {
                    done: *done,
                    of: *of,
                },
            ),
            Notice::Progress { task, snapshot } => {
                (Some(*task), JsonEvent::Progress(snapshot.into()))
            }
            Notice::PeerJoined {
                task,
                address,
                client,
            } => (
                Some(*task),
                JsonEvent::peer("joined", *address, Some(client.clone()), None),
            ),
            Notice::PeerLeft { task, address, why } => (
                Some(*task),
                JsonEvent::peer("left", *address, None, Some(why.to_string())),
            ),
            Notice::Tracker {
                task,
                tracker,
                outcome,
            } => (Some(*task), JsonEvent::tracker(tracker, outcome)),
            Notice::Piece { task, piece, good } => (
                Some(*task),
                JsonEvent::Piece {
                    piece: piece.get(),
                    good: *good,
                },
            ),
            Notice::Missing { task, path, bytes } => (
                Some(*task),
                JsonEvent::Missing {
                    path: path.clone(),
                    bytes: *bytes,
                },
            ),
            Notice::Dropped { notices } => (None, JsonEvent::Dropped { events: *notices }),
            Notice::Warning { task, text } => (*task, JsonEvent::Warning { text: text.clone() }),
            Notice::Complete {
                task,
                snapshot,
                already,
            } => (
                Some(*task),
                JsonEvent::Complete {
                    figures: snapshot.into(),
                    already: *already,
                },
            ),
            Notice::Stopped {
                task,
                snapshot,
                ending,
            } => (Some(*task), JsonEvent::stopped(snapshot, ending, complaint)),
        }
    }

    fn peer(
        state: &'static str,
        address: SocketAddr,
        client: Option<String>,
        text: Option<String>,
    ) -> JsonEvent {
        JsonEvent::Peer {
            state,
            address: address.to_string(),
            client,
            text,
        }
    }

    fn tracker(tracker: &str, outcome: &Result<usize, String>) -> JsonEvent {
        JsonEvent::Tracker {
            tracker: tracker.to_owned(),
            peers: outcome.as_ref().ok().copied(),
            error: outcome.as_ref().err().cloned(),
        }
    }

    fn stopped(snapshot: &Snapshot, ending: &Ending, complaint: Option<&Complaint>) -> JsonEvent {
        let well = match ending {
            Ending::StoppedSharing => "stopped-sharing",
            _ => "done",
        };
        JsonEvent::Stopped {
            figures: snapshot.into(),
            reason: complaint.map_or(well, |complaint| complaint.reason.word()),
            text: complaint.map(|complaint| complaint.sentence.clone()),
            status: complaint.map_or(0, |complaint| complaint.status.code()),
        }
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: f64,
    #[serde(flatten)]
    subject: Option<&'a Subject>,
    #[serde(flatten)]
    event: &'a JsonEvent,
}

/// Writes an event to standard output.
pub fn write(
    time: Duration,
    subject: Option<&Subject>,
    event: &JsonEvent,
) -> Result<(), Complaint> {
    let line = JsonLine {
        time: seconds(time),
        subject,
        event,
    };
    output::line(&json(&line))
}

/// A value as JSON on one line that no terminal can misread.
pub fn json(value: &impl Serialize) -> String {
    escape_json(&serde_json::to_string(value).unwrap_or_default())
}

/// A time in seconds, to the millisecond.
pub fn seconds(time: Duration) -> f64 {
    thousandths(time.as_secs_f64())
}

fn thousandths(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::plain::is_treacherous;

    #[test]
    fn strangers_cannot_write_to_the_terminal() {
        let name = "a\u{1b}[2J\n\u{9b}\u{202e}\"\\";
        let text = json(&name);
        assert!(text.bytes().all(|byte| byte >= 0x20) && !text.chars().any(is_treacherous));
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
    }

    #[test]
    fn what_a_terminal_would_turn_about_or_hide_is_spelled_out_in_json_too() {
        let name = "a\u{61c}\u{ad}\u{115f}\u{180e}\u{206a}\u{3164}\u{fff9}\u{e0041}";
        let text = json(&name);
        assert!(text.is_ascii(), "{}", text.escape_unicode());
        assert_eq!(serde_json::from_str::<String>(&text).unwrap(), name);
    }

    #[test]
    fn an_event_has_its_time_its_subject_and_its_figures_in_one_object() {
        let subject = Subject {
            task: 0,
            name: "x".into(),
            info_hash: "00".repeat(20),
        };
        let notice = Notice::Complete {
            task: 0,
            snapshot: Snapshot {
                size: 4,
                wanted: 4,
                have: 4,
                uploaded_ever: 2,
                ..Snapshot::default()
            },
            already: true,
        };
        let (task, event) = JsonEvent::of(&notice, None);
        let line = JsonLine {
            time: seconds(Duration::from_micros(1_234_567)),
            subject: Some(&subject),
            event: &event,
        };
        let value: serde_json::Value = serde_json::from_str(&json(&line)).unwrap();
        assert_eq!(task, Some(0));
        assert_eq!(value["event"], "complete");
        assert_eq!(value["time"], 1.235);
        assert_eq!(value["name"], "x");
        assert_eq!(value["have"], 4);
        assert_eq!(value["ratio"], 0.5);
        assert_eq!(value["already"], true);
    }
}
