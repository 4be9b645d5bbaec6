//! Standard output and standard error, written by hand because `println!` panics where nobody reads
//! any more. What goes to standard output is the result and must arrive; what goes to standard
//! error is talk and may be lost.

use super::complaint::Complaint;
use std::io::{ErrorKind, Write};

/// Writes `text` and a line's end to standard output, all of it or an error, in one piece: lines of
/// several threads never mix.
pub fn line(text: &str) -> Result<(), Complaint> {
    let mut whole = String::with_capacity(text.len() + 1);
    whole.push_str(text);
    whole.push('\n');
    let mut out = std::io::stdout().lock();
    out.write_all(whole.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|error| match error.kind() {
            // `ropewalk show x.torrent | head -1`: the reader has seen enough, there is nothing to say.
            ErrorKind::BrokenPipe => Complaint::silent(),
            _ => Complaint::output(&error),
        })
}

/// Writes `text` and a line's end to standard error.
pub fn say(text: &str) {
    let mut whole = String::with_capacity(text.len() + 1);
    whole.push_str(text);
    whole.push('\n');
    // A standard error that is full or closed is no reason to stop the work.
    let _ = std::io::stderr().lock().write_all(whole.as_bytes());
}
