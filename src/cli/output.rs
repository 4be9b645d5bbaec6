//! Standard output and standard error, written by hand because `println!` panics where nobody reads
//! any more. What goes to standard output is the result and must arrive; what goes to standard
//! error is talk and may be lost. [`WholeLines`] is for a thread that writes beside the main one.
//!
//! A command that a signal ends by itself waits for its readers for ever, as programs do. One that takes
//! signals calls [`outlive_readers`], and then nobody who stops reading can hold its end up
//! ([`stream`](super::stream)).

use super::complaint::Complaint;
use super::stream::{EndInSight, Stream, Unwritten};
use crossbeam_channel::Receiver;
use rustix::fs::OFlags;
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::sync::OnceLock;
use std::thread::Builder;

/// The threads that write; none in a command that a signal ends by itself.
static STREAMS: OnceLock<Streams> = OnceLock::new();

static END: EndInSight = EndInSight::new();

struct Streams {
    out: Option<Stream>,
    err: Option<Stream>,
}

/// From now on a reader that has stopped reading does not hold up the end, once one is in sight.
pub fn outlive_readers() {
    // Without a thread, a reader is waited for as ever.
    STREAMS.get_or_init(|| Streams {
        out: Stream::start("stdout", std::io::stdout()).ok(),
        err: Stream::start("stderr", std::io::stderr()).ok(),
    });
}

/// The signal with this number asks for the end.
pub fn end_was_asked_for(signal: u8) {
    END.was_asked_for(signal);
}

/// The work is over when `ended` gives something: from then on there is only to be told what was done.
pub fn work_ends_with(ended: Receiver<()>) {
    let thread = Builder::new().name("end".into()).stack_size(64 * 1024);
    // Without it, a reader is waited for until a signal comes.
    let _ = thread.spawn(move || {
        let _ = ended.recv();
        END.has_come();
    });
}

/// Writes `text` and a line's end to standard output, all of it or an error, in one piece: lines of
/// several threads never mix.
pub fn line(text: &str) -> Result<(), Complaint> {
    let mut whole = String::with_capacity(text.len() + 1);
    whole.push_str(text);
    whole.push('\n');
    bytes(whole.as_bytes())
}

/// Writes `bytes` to standard output, all of them or an error.
pub fn bytes(bytes: &[u8]) -> Result<(), Complaint> {
    let written = match STREAMS.get().and_then(|streams| streams.out.as_ref()) {
        Some(stream) => stream.write(bytes, &END),
        None => {
            let mut out = std::io::stdout().lock();
            let written = out.write_all(bytes).and_then(|()| out.flush());
            written.map_err(Unwritten::Failed)
        }
    };
    written.map_err(|unwritten| match unwritten {
        Unwritten::Unread => Complaint::unread(END.signal()),
        // `ropewalk show x.torrent | head -1`: the reader has seen enough, there is nothing to say.
        Unwritten::Failed(error) if error.kind() == ErrorKind::BrokenPipe => Complaint::silent(),
        Unwritten::Failed(error) => Complaint::output(&error),
    })
}

/// Writes lines to standard output, many with each call: a torrent can have 100,000 files.
pub fn lines(lines: impl IntoIterator<Item = String>) -> Result<(), Complaint> {
    let mut portion = String::new();
    for text in lines {
        if !portion.is_empty() {
            portion.push('\n');
        }
        portion.push_str(&text);
        if portion.len() >= PORTION {
            line(&portion)?;
            portion.clear();
        }
    }
    if portion.is_empty() {
        return Ok(());
    }
    line(&portion)
}

/// Bytes that are written in one piece, or a little more.
const PORTION: usize = 32 * 1024;

/// Writes `text` and a line's end to standard error.
pub fn say(text: &str) {
    let mut whole = String::with_capacity(text.len() + 1);
    whole.push_str(text);
    whole.push('\n');
    draw(&whole);
}

/// Writes `text` to standard error as it is.
pub fn draw(text: &str) {
    // A standard error that is full or closed is no reason to stop the work.
    match STREAMS.get().and_then(|streams| streams.err.as_ref()) {
        Some(stream) => drop(stream.write(text.as_bytes(), &END)),
        None => drop(std::io::stderr().lock().write_all(text.as_bytes())),
    }
}

/// Whether `path` is a name of standard output.
pub fn is_named(path: &Path) -> bool {
    let names = ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"];
    names.iter().any(|name| path == *name)
}

/// Whether the program was begun without a standard output (`>&-`). Rust opens /dev/null in its place, for reading too,
/// which nobody does who redirects to it: what is written there arrives nowhere, without an error.
pub fn is_missing() -> bool {
    let out = std::io::stdout();
    let mode = rustix::fs::fcntl_getfl(&out).unwrap_or(OFlags::empty());
    let null = rustix::fs::stat("/dev/null").map(|it| it.st_rdev);
    let here = rustix::fs::fstat(&out).map(|it| it.st_rdev);
    mode & OFlags::RWMODE == OFlags::RDWR && null.is_ok() && null == here
}

/// A writer that hands on whole lines only, so that what two threads write does not mix within a line.
pub struct WholeLines<W: Write> {
    out: W,
    begun: Vec<u8>,
}

impl<W: Write> WholeLines<W> {
    /// Lines for `out`, which must take one `write_all` in one piece, as the standard streams do.
    pub fn new(out: W) -> WholeLines<W> {
        WholeLines {
            out,
            begun: Vec::new(),
        }
    }
}

impl<W: Write> Write for WholeLines<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.begun.extend_from_slice(bytes);
        if let Some(end) = self.begun.iter().rposition(|&byte| byte == b'\n') {
            let rest = self.begun.split_off(end + 1);
            let whole = std::mem::replace(&mut self.begun, rest);
            self.out.write_all(&whole)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    struct Calls<'a>(&'a mut Vec<String>);

    impl Write for Calls<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.push(String::from_utf8_lossy(bytes).into_owned());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_that_comes_in_parts_goes_on_in_one() {
        let mut calls = Vec::new();
        let mut lines = WholeLines::new(Calls(&mut calls));
        for part in ["on", "e", "\ntwo\nthr", "ee", "\n"] {
            lines.write_all(part.as_bytes()).unwrap();
            lines.flush().unwrap();
        }
        assert_eq!(calls, ["one\ntwo\n", "three\n"]);
    }
}
