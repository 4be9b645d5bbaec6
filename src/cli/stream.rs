//! A standard stream with a thread of its own, for commands that end in order after a signal: a write to a
//! pipe that nobody reads never returns. So the thread waits for the reader, and whoever has something to say
//! waits for the thread, only as long as is right:
//!
//! | so far | who reads nothing is waited for |
//! |---|---|
//! | no end is in sight | for ever: a reader may be slow, and no line is lost |
//! | the work has ended by itself | a minute |
//! | a signal asked for an end | five seconds |
//!
//! What is taken in the meantime, be it one portion, begins the wait anew. After it the stream is given up, and
//! what else is said there is lost at once. Whoever did not read the other stream either has had the same time to
//! do so, and is waited for no more than half a second.

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering::Relaxed};
use std::thread::Builder;
use std::time::Duration;

/// Nobody is in a hurry then: a reader that is busy with what it has read comes back within a minute.
const AFTER_THE_WORK: Duration = Duration::from_secs(60);

/// Somebody waits for the end then.
const AFTER_A_SIGNAL: Duration = Duration::from_secs(5);

/// What a reader who waits for us needs to take a portion, on a busy machine too.
const A_MOMENT: Duration = Duration::from_millis(500);

/// How often it is looked whether an end has come in sight, while a reader is waited for.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes that are written at a time.
const PORTION: usize = 32 * 1024;

/// Why not all of it was written.
#[derive(Debug)]
pub enum Unwritten {
    /// The stream was given up: nobody reads it.
    Unread,
    /// The system's error.
    Failed(io::Error),
}

/// How far the program is from its end.
#[derive(Debug, Default)]
pub struct EndInSight {
    over: AtomicBool,
    signal: AtomicU8,
    /// What the next portion, on whichever stream, has been waited for already, in milliseconds.
    waited: AtomicU32,
}

impl EndInSight {
    /// Far from it.
    pub const fn new() -> EndInSight {
        EndInSight {
            over: AtomicBool::new(false),
            signal: AtomicU8::new(0),
            waited: AtomicU32::new(0),
        }
    }

    /// The work has ended by itself.
    pub fn has_come(&self) {
        self.over.store(true, Relaxed);
    }

    /// The signal with this number asked for it.
    pub fn was_asked_for(&self, signal: u8) {
        self.signal.store(signal, Relaxed);
    }

    /// The number of the signal that asked for it, if one did.
    pub fn signal(&self) -> Option<u8> {
        Some(self.signal.load(Relaxed)).filter(|signal| *signal > 0)
    }

    fn patience(&self) -> Option<Duration> {
        let over = self.over.load(Relaxed).then_some(AFTER_THE_WORK);
        self.signal().map(|_| AFTER_A_SIGNAL).or(over)
    }
}

/// The way to the thread that writes.
#[derive(Debug)]
pub struct Stream {
    portions: Sender<Portion>,
    given_up: AtomicBool,
}

/// Some bytes, and the way back.
#[derive(Debug)]
struct Portion {
    bytes: Vec<u8>,
    written: Sender<io::Result<()>>,
}

impl Stream {
    /// Starts the thread `name`, which writes to `out`.
    pub fn start(name: &str, out: impl Write + Send + 'static) -> io::Result<Stream> {
        // Bound: one for each thread that writes here; it waits until its portion is written.
        let (portions, inbox) = unbounded();
        let thread = Builder::new().name(name.to_owned()).stack_size(64 * 1024);
        thread.spawn(move || write_all(&inbox, out))?;
        Ok(Stream {
            portions,
            given_up: AtomicBool::new(false),
        })
    }

    /// Writes all of `bytes`, unless nobody reads any of it while the end is near.
    pub fn write(&self, bytes: &[u8], end: &EndInSight) -> Result<(), Unwritten> {
        bytes
            .chunks(PORTION)
            .try_for_each(|portion| self.write_portion(portion, end, || end.patience()))
    }

    fn write_portion(
        &self,
        bytes: &[u8],
        end: &EndInSight,
        patience: impl Fn() -> Option<Duration>,
    ) -> Result<(), Unwritten> {
        if self.given_up.load(Relaxed) {
            return Err(Unwritten::Unread);
        }
        // Bound: one outcome.
        let (written, outcome) = bounded(1);
        let bytes = bytes.to_vec();
        let _ = self.portions.send(Portion { bytes, written });
        let mut waited = Duration::from_millis(end.waited.swap(0, Relaxed).into());
        loop {
            match outcome.recv_timeout(LOOK) {
                Ok(outcome) => return outcome.map_err(Unwritten::Failed),
                Err(RecvTimeoutError::Disconnected) => {
                    let error = io::Error::other("our thread for it has failed");
                    return Err(Unwritten::Failed(error));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What was waited before an end was in sight does not count.
            let Some(patience) = patience() else { continue };
            waited += LOOK;
            if waited >= patience {
                self.given_up.store(true, Relaxed);
                let for_all = patience.saturating_sub(A_MOMENT).as_millis() as u32;
                end.waited.store(for_all, Relaxed);
                return Err(Unwritten::Unread);
            }
        }
    }
}

fn write_all(inbox: &Receiver<Portion>, mut out: impl Write) {
    for Portion { bytes, written } in inbox {
        let outcome = out.write_all(&bytes).and_then(|()| out.flush());
        // Whoever waited for it may have given up.
        let _ = written.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An output that takes as many bytes as the test reads, and tells when somebody waits for it to read.
    struct Pipe {
        bytes: Sender<Vec<u8>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let closed = |_| io::ErrorKind::BrokenPipe.into();
            self.bytes
                .send(bytes.to_vec())
                .map_err(closed)
                .map(|()| bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe() -> (Stream, Receiver<Vec<u8>>) {
        // Bound: no room at all, whoever writes waits for the reader.
        let (bytes, reader) = bounded(0);
        (Stream::start("test", Pipe { bytes }).unwrap(), reader)
    }

    #[test]
    fn who_reads_late_gets_everything_while_no_end_is_in_sight() {
        let (stream, reader) = pipe();
        let looked = std::cell::Cell::new(0);
        let all = std::thread::scope(|scope| {
            // Bound: one, it is told once.
            let (tell, told) = bounded(1);
            let late = scope.spawn(move || {
                told.recv().unwrap();
                reader.recv().unwrap()
            });
            stream
                .write_portion(b"late", &EndInSight::new(), || {
                    looked.set(looked.get() + 1);
                    let _ = tell.try_send(());
                    None
                })
                .unwrap();
            late.join().unwrap()
        });
        assert_eq!(all, b"late");
        assert!(looked.get() > 0);
    }

    #[test]
    fn who_reads_nothing_when_the_end_is_near_is_given_up_once_and_for_all() {
        let (stream, _reader) = pipe();
        let end = EndInSight::new();
        let unread = stream.write_portion(b"one", &end, || Some(LOOK));
        assert!(matches!(unread, Err(Unwritten::Unread)));
        // No reader was waited for this time, or this would never end.
        let unread = stream.write_portion(b"two", &end, || None);
        assert!(matches!(unread, Err(Unwritten::Unread)));
    }

    #[test]
    fn who_reads_neither_stream_is_not_waited_for_twice() {
        let (out, _unread) = pipe();
        let (err, _unread_either) = pipe();
        let end = EndInSight::new();
        let looks = |stream: &Stream| {
            let looked = std::cell::Cell::new(0);
            let unread = stream.write_portion(b"one", &end, || {
                looked.set(looked.get() + 1);
                Some(A_MOMENT + 2 * LOOK)
            });
            assert!(matches!(unread, Err(Unwritten::Unread)));
            looked.get()
        };
        assert_eq!([looks(&out), looks(&err)], [7, 5]);
        // It counts once: what is taken begins the wait anew.
        let (other, reader) = pipe();
        let read = std::thread::spawn(move || reader.recv().unwrap());
        other.write(b"two", &end).unwrap();
        assert_eq!(read.join().unwrap(), b"two");
        assert_eq!(end.waited.load(Relaxed), 0);
    }

    #[test]
    fn who_reads_slowly_when_the_end_is_near_gets_everything() {
        let (stream, reader) = pipe();
        let end = EndInSight::new();
        end.has_come();
        end.was_asked_for(2);
        assert_eq!(end.patience(), Some(AFTER_A_SIGNAL));
        let long = vec![7; 3 * PORTION + 1];
        let read = std::thread::spawn(move || reader.iter().flatten().collect::<Vec<u8>>());
        stream.write(&long, &end).unwrap();
        drop(stream);
        assert_eq!(read.join().unwrap(), long);
    }

    #[test]
    fn an_output_that_is_closed_is_an_error_and_not_waited_for() {
        let (stream, reader) = pipe();
        drop(reader);
        let error = stream.write(b"one", &EndInSight::new()).unwrap_err();
        assert!(
            matches!(error, Unwritten::Failed(error) if error.kind() == io::ErrorKind::BrokenPipe)
        );
    }
}
