//! The microscope: every wire message in words a learner understands.
//!
//! ```
//! use ropewalk::net::trace::{self, TraceStyle, Told};
//! use ropewalk::protocol::peer::Message;
//! let (tracer, thread) = trace::start(Box::new(std::io::stderr()), TraceStyle::Words).unwrap();
//! tracer.heard("127.0.0.1:6881".parse().unwrap(), Told::Message(Message::Unchoke));
//! thread.finish().unwrap();
//! ```
//!
//! prints `   0.000  127.0.0.1:6881  <-  unchoke   lets us ask for blocks`. Peer threads only hand over
//! what was said; one thread of its own writes. When it cannot keep up, lines are dropped rather than
//! peers delayed, and it says how many. Who wants the messages themselves instead of lines takes a [`tap`].

use crate::protocol::peer::extension::ExtensionHandshake;
use crate::protocol::peer::{Handshake, Message, WireBlock};
use crate::protocol::plain::{escape, escape_json};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::fmt::Write as _;
use std::io::{self, BufWriter, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::Builder;
use std::time::{Duration, Instant};

/// How many lines wait for the writer. Each is some hundred bytes: bitfields are summarised before.
const QUEUE: usize = 4_096;

/// How many messages wait for the reader of a tap.
const TAP_QUEUE: usize = 16_384;

/// How long the end of the program waits for a writer that is stuck in its output.
const PATIENCE: Duration = Duration::from_secs(2);

/// What goes over the wire, as the trace shows it.
#[derive(Debug, Clone)]
pub enum Told {
    /// The first 68 bytes.
    Handshake(Handshake),
    /// A message; of a `Piece` the head.
    Message(Message),
}

/// How a trace is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TraceStyle {
    /// A line a message, aligned, for people.
    Words,
    /// A JSON object a line, for programs.
    Json,
}

/// The way to the trace thread; every peer thread has a clone.
#[derive(Debug, Clone)]
pub struct Tracer {
    out: Out,
    dropped: Arc<AtomicU64>,
    start: Instant,
}

/// Where messages go.
#[derive(Debug, Clone)]
enum Out {
    Lines(Sender<TraceEntry>),
    Tap(Sender<Overheard>),
}

/// A message as a tap gives it.
#[derive(Debug, Clone)]
pub struct Overheard {
    /// When it passed.
    pub at: Instant,
    /// The other end.
    pub peer: SocketAddr,
    /// Whether the other end said it.
    pub heard: bool,
    /// What was said.
    pub told: Told,
}

/// A tracer that hands the messages to a program. A reader that does not keep up misses some, and may ask how
/// many ([`Tracer::missed`]): peers are never delayed for it.
pub fn tap() -> (Tracer, Receiver<Overheard>) {
    // Bound: TAP_QUEUE messages; what does not fit is dropped.
    let (sender, receiver) = bounded(TAP_QUEUE);
    let tracer = Tracer {
        out: Out::Tap(sender),
        dropped: Arc::default(),
        start: Instant::now(),
    };
    (tracer, receiver)
}

/// The thread that writes the trace.
#[derive(Debug)]
pub struct TraceThread {
    lines: Sender<TraceEntry>,
    ended: Receiver<io::Result<()>>,
}

/// Starts the thread that writes a trace to `out`. Times are counted from now. When `out` cannot be
/// written any more, the trace ends, and [`TraceThread::finish`] tells why.
pub fn start(out: Box<dyn Write + Send>, style: TraceStyle) -> io::Result<(Tracer, TraceThread)> {
    // Bound: QUEUE lines; what does not fit is dropped and counted.
    let (lines, inbox) = bounded(QUEUE);
    // Bound: one, the thread ends once.
    let (end, ended) = bounded(1);
    let dropped = Arc::new(AtomicU64::new(0));
    let tracer = Tracer {
        out: Out::Lines(lines.clone()),
        dropped: dropped.clone(),
        start: Instant::now(),
    };
    Builder::new().name("trace".into()).spawn(move || {
        // An output that is closed or full ends the trace and nothing else.
        let outcome = write(&inbox, BufWriter::new(out), style, &dropped);
        drop(inbox);
        let _ = end.send(outcome);
    })?;
    Ok((tracer, TraceThread { lines, ended }))
}

impl Tracer {
    /// Writes down what `peer` told us.
    pub fn heard(&self, peer: SocketAddr, told: Told) {
        self.note(peer, true, told);
    }

    /// Writes down what we told `peer`.
    pub fn said(&self, peer: SocketAddr, told: Told) {
        self.note(peer, false, told);
    }

    /// How many messages the reader of a tap has missed since this was last asked.
    pub fn missed(&self) -> u64 {
        self.dropped.swap(0, Relaxed)
    }

    fn note(&self, peer: SocketAddr, heard: bool, told: Told) {
        let full = match &self.out {
            Out::Lines(lines) => {
                let line = TraceLine {
                    time: self.start.elapsed(),
                    peer,
                    heard,
                    shown: Shown::of(&told, heard),
                };
                let sent = lines.try_send(TraceEntry::Line(Box::new(line)));
                sent.is_err_and(|error| error.is_full())
            }
            Out::Tap(tap) => {
                let overheard = Overheard {
                    at: Instant::now(),
                    peer,
                    heard,
                    told,
                };
                tap.try_send(overheard).is_err_and(|error| error.is_full())
            }
        };
        if full {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

impl TraceThread {
    /// Lets the thread write what it has and end; the error says why the trace is not whole. Waits two
    /// seconds at most, should its output be stuck.
    pub fn finish(self) -> io::Result<()> {
        // Fails where the thread has ended already, and then its outcome waits.
        let patience = Instant::now() + PATIENCE;
        let _ = self.lines.send_deadline(TraceEntry::End, patience);
        let stuck = |_| Err(io::ErrorKind::TimedOut.into());
        self.ended.recv_deadline(patience).unwrap_or_else(stuck)
    }
}

#[derive(Debug)]
enum TraceEntry {
    Line(Box<TraceLine>),
    End,
}

#[derive(Debug)]
struct TraceLine {
    time: Duration,
    peer: SocketAddr,
    heard: bool,
    shown: Shown,
}

fn write(
    inbox: &Receiver<TraceEntry>,
    mut out: impl Write,
    style: TraceStyle,
    dropped: &AtomicU64,
) -> io::Result<()> {
    while let Ok(TraceEntry::Line(line)) = inbox.recv() {
        writeln!(out, "{}", line.text(style))?;
        say_dropped(&mut out, style, line.time, dropped)?;
        if inbox.is_empty() {
            out.flush()?;
        }
    }
    out.flush()
}

fn say_dropped(
    out: &mut impl Write,
    style: TraceStyle,
    time: Duration,
    dropped: &AtomicU64,
) -> io::Result<()> {
    let count = dropped.swap(0, Relaxed);
    let time = time.as_secs_f64();
    match style {
        _ if count == 0 => Ok(()),
        TraceStyle::Words => writeln!(
            out,
            "{time:>10.3}  … {count} messages are not shown: the output is too slow"
        ),
        TraceStyle::Json => {
            let object = serde_json::json!({"event": "dropped", "time": time, "messages": count});
            writeln!(out, "{object}")
        }
    }
}

impl TraceLine {
    fn text(&self, style: TraceStyle) -> String {
        match style {
            TraceStyle::Words => self.words(),
            TraceStyle::Json => self.json(),
        }
    }

    fn words(&self) -> String {
        let time = self.time.as_secs_f64();
        let arrow = if self.heard { "<-" } else { "->" };
        let mut fields = String::new();
        for (key, value) in &self.shown.fields {
            let space = if fields.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = match value {
                FieldValue::Number(number) => write!(fields, "{space}{key}={number}"),
                FieldValue::Text(text) => write!(fields, "{space}{key}={}", escape(text)),
                FieldValue::Flag(flag) => write!(fields, "{space}{key}={flag}"),
            };
        }
        let (peer, name) = (self.peer.to_string(), self.shown.name);
        let told = &self.shown.words;
        let line = format!("{time:>10.3}  {peer:<21}  {arrow}  {name:<14}  {fields:<38}  {told}");
        line.trim_end().to_owned()
    }

    fn json(&self) -> String {
        let mut object = serde_json::Map::new();
        object.insert("event".into(), "message".into());
        object.insert("time".into(), self.time.as_secs_f64().into());
        object.insert("peer".into(), self.peer.to_string().into());
        let direction = if self.heard { "in" } else { "out" };
        object.insert("direction".into(), direction.into());
        object.insert("name".into(), self.shown.name.into());
        for (key, value) in &self.shown.fields {
            let value = match value {
                FieldValue::Number(number) => (*number).into(),
                FieldValue::Text(text) => text.as_str().into(),
                FieldValue::Flag(flag) => (*flag).into(),
            };
            object.insert((*key).into(), value);
        }
        escape_json(&serde_json::Value::Object(object).to_string())
    }
}

/// A message taken apart for people: its name, its fields, and what it means.
#[derive(Debug, PartialEq)]
struct Shown {
    name: &'static str,
    fields: Vec<(&'static str, FieldValue)>,
    words: String,
}

#[derive(Debug, PartialEq)]
enum FieldValue {
    Number(u64),
    Text(String),
    Flag(bool),
}

impl From<u32> for FieldValue {
    fn from(number: u32) -> FieldValue {
        FieldValue::Number(number.into())
    }
}

impl Shown {
    fn of(told: &Told, heard: bool) -> Shown {
        match told {
            Told::Handshake(handshake) => Shown::of_handshake(handshake),
            Told::Message(Message::Extended { id: 0, payload }) => Shown::of_extension(payload),
            Told::Message(message) => Shown {
                name: message.name(),
                fields: fields(message),
                words: words(message, heard),
            },
        }
    }

    fn of_handshake(handshake: &Handshake) -> Shown {
        let client = handshake.id.client_name();
        let extensions = [
            (handshake.fast(), "fast"),
            (handshake.extended(), "extended"),
            (handshake.dht(), "dht"),
            (handshake.v2(), "v2"),
        ];
        let known = extensions.into_iter().filter(|(known, _)| *known);
        let known: Vec<_> = known.map(|(_, name)| name).collect();
        Shown {
            name: "handshake",
            words: format!(
                "wants to share torrent {}; speaks {}",
                handshake.info_hash,
                or_nothing(&known)
            ),
            fields: vec![
                ("client", FieldValue::Text(client)),
                ("extensions", FieldValue::Text(known.join(","))),
                (
                    "info_hash",
                    FieldValue::Text(handshake.info_hash.to_string()),
                ),
            ],
        }
    }

    fn of_extension(payload: &[u8]) -> Shown {
        let name = "extended";
        let Some(handshake) = ExtensionHandshake::decode(payload) else {
            return Shown {
                name,
                fields: vec![("id", FieldValue::Number(0))],
                words: "introduces itself in a way we cannot read".into(),
            };
        };
        let mut fields = vec![("id", FieldValue::Number(0))];
        let mut put =
            |key, value: Option<FieldValue>| fields.extend(value.map(|value| (key, value)));
        put("client", handshake.client.map(FieldValue::Text));
        put("port", handshake.listen_port.map(|it| u32::from(it).into()));
        put("reqq", handshake.reqq.map(FieldValue::from));
        put(
            "metadata_size",
            handshake.metadata_size.map(FieldValue::from),
        );
        put(
            "yourip",
            handshake.yourip.map(|ip| FieldValue::Text(ip.to_string())),
        );
        put(
            "upload_only",
            handshake.upload_only.then_some(FieldValue::Flag(true)),
        );
        let names: Vec<_> = handshake.messages.keys().map(String::as_str).collect();
        put(
            "messages",
            (!names.is_empty()).then(|| FieldValue::Text(names.join(","))),
        );
        Shown {
            name,
            fields,
            words: "introduces itself: what it knows beyond the basic messages".into(),
        }
    }
}

fn or_nothing(known: &[&str]) -> String {
    if known.is_empty() {
        "no extensions".into()
    } else {
        known.join(", ")
    }
}

fn fields(message: &Message) -> Vec<(&'static str, FieldValue)> {
    let block = |block: &WireBlock| {
        vec![
            ("piece", block.piece.into()),
            ("begin", block.begin.into()),
            ("length", block.length.into()),
        ]
    };
    match message {
        Message::Have { piece } | Message::Suggest { piece } | Message::AllowedFast { piece } => {
            vec![("piece", (*piece).into())]
        }
        Message::Bitfield(bits) => vec![
            ("pieces", FieldValue::Number(count(bits))),
            ("bytes", FieldValue::Number(bits.len() as u64)),
        ],
        Message::Request(it) | Message::Piece(it) | Message::Cancel(it) | Message::Reject(it) => {
            block(it)
        }
        Message::Port { port } => vec![("port", u32::from(*port).into())],
        Message::Extended { id, payload } => vec![
            ("id", u32::from(*id).into()),
            ("bytes", FieldValue::Number(payload.len() as u64)),
        ],
        _ => Vec::new(),
    }
}

fn count(bits: &[u8]) -> u64 {
    bits.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

/// What a message means, said of its sender, to whom `us` and `it` are seen from our side.
fn words(message: &Message, heard: bool) -> String {
    let whom = if heard { "us" } else { "it" };
    let place = |it: &WireBlock| {
        let WireBlock {
            piece,
            begin,
            length,
        } = it;
        format!("{length} bytes of piece {piece} from byte {begin}")
    };
    match message {
        Message::KeepAlive => "gives a sign of life, no more".into(),
        Message::Choke => format!(
            "answers no requests of {} for now",
            if heard { "ours" } else { "its" }
        ),
        Message::Unchoke => format!("lets {whom} ask for blocks"),
        Message::Interested => format!("would like to ask {whom} for blocks"),
        Message::NotInterested => format!(
            "needs nothing that {} have",
            if heard { "we" } else { "they" }
        ),
        Message::Have { piece } => format!("has got piece {piece}, checked"),
        Message::Bitfield(bits) => format!("has {} pieces so far", count(bits)),
        Message::Request(it) => format!("asks for {}", place(it)),
        Message::Piece(it) => format!("sends {}", place(it)),
        Message::Cancel(it) => format!("no longer needs {}", place(it)),
        Message::Port { port } => format!("runs a DHT node on UDP port {port}"),
        Message::Suggest { piece } => format!("suggests to ask for piece {piece}"),
        Message::HaveAll => "has every piece".into(),
        Message::HaveNone => "has no piece yet".into(),
        Message::Reject(it) => format!("will not send {}", place(it)),
        Message::AllowedFast { piece } => {
            format!(
                "gives piece {piece} even while {} choked",
                if heard { "we are" } else { "it is" }
            )
        }
        Message::Extended { .. } => "sends a message of an extension".into(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::InfoHash;
    use crate::protocol::peer::PeerId;

    /// An output that hands each write to the test.
    struct Pipe(Sender<Vec<u8>>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let gone = |_| io::Error::from(io::ErrorKind::BrokenPipe);
            self.0.send(bytes.to_vec()).map_err(gone)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn peer() -> SocketAddr {
        "127.0.0.1:6881".parse().unwrap()
    }

    /// Everything the trace of `messages` (heard or said) writes, as lines.
    fn traced(style: TraceStyle, messages: &[(bool, Told)]) -> Vec<String> {
        // Bound: the thread writes at most one chunk a message, and one at the end.
        let (sender, receiver) = bounded(messages.len() + 1);
        let (tracer, thread) = start(Box::new(Pipe(sender)), style).unwrap();
        for (heard, told) in messages {
            if *heard {
                tracer.heard(peer(), told.clone());
            } else {
                tracer.said(peer(), told.clone());
            }
        }
        thread.finish().unwrap();
        let text: Vec<u8> = receiver.try_iter().flatten().collect();
        let text = String::from_utf8(text).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn message(message: Message) -> Told {
        Told::Message(message)
    }

    fn request() -> Message {
        Message::Request(WireBlock {
            piece: 7,
            begin: 32_768,
            length: 16_384,
        })
    }

    #[test]
    fn a_request_reads_like_a_sentence() {
        let lines = traced(TraceStyle::Words, &[(true, message(request()))]);
        let after_time = lines[0].trim_start().split_once("  ").unwrap().1;
        let words: Vec<_> = after_time.split("  ").map(str::trim).collect();
        let words: Vec<_> = words.into_iter().filter(|it| !it.is_empty()).collect();
        assert_eq!(
            words,
            [
                "127.0.0.1:6881",
                "<-",
                "request",
                "piece=7 begin=32768 length=16384",
                "asks for 16384 bytes of piece 7 from byte 32768"
            ]
        );
    }

    #[test]
    fn a_handshake_names_client_and_torrent() {
        let handshake = Handshake::new(InfoHash([0xab; 20]), PeerId::new([0; 12]));
        let lines = traced(TraceStyle::Words, &[(false, Told::Handshake(handshake))]);
        let hash = "ab".repeat(20);
        assert!(lines[0].contains("->  handshake"), "{}", lines[0]);
        assert!(lines[0].contains("client=ropewalk 0.1 extensions=fast,extended"));
        assert!(lines[0].ends_with(&format!(
            "wants to share torrent {hash}; speaks fast, extended"
        )));
    }

    #[test]
    fn json_lines_hold_the_fields() {
        let lines = traced(
            TraceStyle::Json,
            &[
                (true, message(request())),
                (false, message(Message::HaveAll)),
            ],
        );
        let read = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap();
        let first = read(&lines[0]);
        assert!(first["time"].is_f64());
        for (key, value) in [
            ("event", "message".into()),
            ("peer", "127.0.0.1:6881".into()),
            ("direction", "in".into()),
            ("name", "request".into()),
            ("piece", 7.into()),
            ("begin", 32_768.into()),
            ("length", serde_json::Value::from(16_384)),
        ] {
            assert_eq!(first[key], value);
        }
        let second = read(&lines[1]);
        assert_eq!(
            (&second["direction"], &second["name"]),
            (&"out".into(), &"have all".into())
        );
    }

    #[test]
    fn bitfields_are_counted_and_extension_handshakes_decoded() {
        let theirs = b"d1:md6:ut_pexi1ee1:pi6889e1:v9:\x1b[2Jaria2e";
        let theirs = Message::Extended {
            id: 0,
            payload: theirs[..].into(),
        };
        let bits = Message::Bitfield([0xff, 0x80].into());
        let lines = traced(
            TraceStyle::Words,
            &[(true, message(bits)), (true, message(theirs))],
        );
        assert!(lines[0].ends_with("has 9 pieces so far"), "{}", lines[0]);
        assert!(
            lines[1].contains(r"client=\u{1b}[2Jaria2 port=6889"),
            "{}",
            lines[1]
        );
        assert!(!lines[1].contains('\u{1b}'));
    }

    #[test]
    fn in_json_a_name_is_as_it_came_and_acts_on_no_terminal() {
        let name = "\u{1b}[2J\u{61c}aria2\u{e0041}";
        let payload = [b"d1:v15:", name.as_bytes(), b"e"].concat().into();
        let theirs = Message::Extended { id: 0, payload };
        let lines = traced(TraceStyle::Json, &[(true, message(theirs))]);
        assert!(
            lines[0].is_ascii() && !lines[0].contains('\u{1b}'),
            "{}",
            lines[0]
        );
        let object: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(object["client"], name);
    }

    #[test]
    fn every_message_has_words_and_fields() {
        let block = WireBlock {
            piece: 1,
            begin: 2,
            length: 3,
        };
        let all = [
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have { piece: 1 },
            Message::Piece(block),
            Message::Cancel(block),
            Message::Port { port: 1 },
            Message::Suggest { piece: 1 },
            Message::HaveNone,
            Message::Reject(block),
            Message::AllowedFast { piece: 1 },
            Message::Extended {
                id: 3,
                payload: (*b"x").into(),
            },
            Message::Extended {
                id: 0,
                payload: (*b"x").into(),
            },
        ];
        let told: Vec<_> = all.iter().map(|it| (true, message(it.clone()))).collect();
        let lines = traced(TraceStyle::Words, &told);
        assert_eq!(lines.len(), all.len());
        for (line, one) in lines.iter().zip(&all) {
            assert!(line.contains(&format!("<-  {}", one.name())), "{line}");
            assert!(line.split_whitespace().count() > 6, "{line}");
        }
    }

    #[test]
    fn an_output_that_is_closed_ends_the_trace_and_nothing_else() {
        // Bound: the receiver is gone before anything is sent.
        let (sender, receiver) = bounded(1);
        drop(receiver);
        let (tracer, thread) = start(Box::new(Pipe(sender)), TraceStyle::Words).unwrap();
        for _ in 0..3 * QUEUE {
            tracer.heard(peer(), message(Message::Choke));
        }
        thread.finish().unwrap_err();
        tracer.heard(peer(), message(Message::Choke));
    }

    #[test]
    fn a_slow_output_loses_lines_says_so_and_delays_nobody() {
        // Bound: no room at all: the writer waits until the test reads.
        let (sender, receiver) = bounded(0);
        let (tracer, thread) = start(Box::new(Pipe(sender)), TraceStyle::Words).unwrap();
        let many = 3 * QUEUE;
        for _ in 0..many {
            tracer.heard(peer(), message(Message::Choke));
        }
        drop(tracer);
        let reader = std::thread::spawn(move || receiver.iter().flatten().collect::<Vec<u8>>());
        thread.finish().unwrap();
        let text = String::from_utf8(reader.join().unwrap()).unwrap();
        let shown = text.lines().filter(|line| line.contains("choke")).count();
        let notes = text.lines().filter(|line| line.contains("not shown"));
        let numbers = notes.map(|note| note.split_whitespace().nth(2).unwrap());
        let dropped: usize = numbers.map(|it| it.parse::<usize>().unwrap()).sum();
        assert!(dropped > 0);
        assert_eq!(shown + dropped, many);
    }

    #[test]
    fn a_full_disk_under_the_trace_is_told_at_the_end() {
        let full = std::fs::File::options()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let (tracer, thread) = start(Box::new(full), TraceStyle::Words).unwrap();
        let peer = "127.0.0.1:6881".parse().unwrap();
        tracer.heard(peer, Told::Message(Message::Unchoke));
        let error = thread.finish().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }

    #[test]
    fn a_tap_gives_the_messages_themselves_and_delays_nobody() {
        let (tracer, tap) = tap();
        tracer.heard(peer(), message(Message::Unchoke));
        for _ in 0..TAP_QUEUE {
            tracer.said(peer(), message(request()));
        }
        let all: Vec<Overheard> = tap.try_iter().collect();
        assert_eq!(all.len(), TAP_QUEUE);
        assert!(all[0].heard && !all[1].heard);
        assert!(matches!(all[0].told, Told::Message(Message::Unchoke)));
        assert_eq!((tracer.missed(), tracer.missed()), (1, 0));
        drop(tap);
        tracer.said(peer(), message(request()));
    }
}
