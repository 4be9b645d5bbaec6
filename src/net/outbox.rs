//! What waits to be written to one peer.
//!
//! Messages are put together in one buffer; blocks follow from their files. Between two blocks the
//! messages go first: a request or a have must not stand behind megabytes of upload. Nothing here
//! ever waits: what the kernel does not take stays.

use super::Happened;
use super::bundle::{self, BUNDLE_MAX, Bundles};
use crate::protocol::Block;
use crate::protocol::peer::message::PIECE_HEAD;
use crate::protocol::peer::{Message, WireBlock};
use crate::storage::slot::{ReadableBlock, StorageError};
use crate::swarm::event::{Farewell, Slowness};
use rustix::io::Errno;
use rustix::net::SendFlags;
use std::collections::VecDeque;
use std::io;
use std::net::TcpStream;

/// Bytes of messages that may wait for a peer that does not read. The longest bitfield is 256 KiB.
const WORDS_MAX: usize = 1024 * 1024;

/// Bytes written before the thread looks at its other duties again.
const TURN: usize = 1024 * 1024;

/// Blocks go several at a time where so many wait. More lies unsent in the kernel then, and words have to
/// wait for it; but the coordinator hands over what the line carries in a fortieth of a second, so it is a
/// fast one: from 120 Mbit/s on, where three blocks are 3 ms. The thread of a stalled peer may hold more, up
/// to that peer's window, only while nobody else waits.
const BUNDLE_FROM: usize = 24;

/// What one turn of writing came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes the kernel took.
    pub(super) bytes: usize,
    /// Something is left.
    pub(super) waits: bool,
}

/// The queue. Knows whether the peer speaks the fast extension, because it has to say what it will not send.
#[derive(Debug)]
pub(super) struct Outbox {
    fast: bool,
    words: Vec<u8>,
    /// How much of `words` has left.
    left: usize,
    serves: VecDeque<ReadableBlock>,
    sending: Option<Sending>,
}

/// A block whose message has begun.
#[derive(Debug)]
enum Sending {
    /// From one file, by `sendfile`.
    Plain {
        source: ReadableBlock,
        head: [u8; PIECE_HEAD],
        sent: usize,
    },
    /// Put together in memory: over several files, or with padding.
    Copied {
        block: Block,
        bytes: Vec<u8>,
        sent: usize,
    },
}

/// Bytes of the message that brings a block.
pub(super) fn message_length(block: Block) -> usize {
    PIECE_HEAD + block.length() as usize
}

/// Why a message that has begun cannot go on.
enum Interruption {
    Blocked,
    Socket(io::Error),
    Storage(StorageError),
}

impl Outbox {
    pub(super) fn new(fast: bool) -> Outbox {
        Outbox {
            fast,
            words: Vec::new(),
            left: 0,
            serves: VecDeque::new(),
            sending: None,
        }
    }

    /// Queues a message.
    pub(super) fn say(&mut self, message: &Message) -> Result<(), Farewell> {
        if self.left > WORDS_MAX / 16 {
            self.words.drain(..std::mem::take(&mut self.left));
        }
        message.encode(&mut self.words);
        // The attack: ask for something small again and again and never read the answers.
        if self.words.len() - self.left > WORDS_MAX {
            return Err(Farewell::TooSlow(Slowness::Read));
        }
        Ok(())
    }

    /// Queues a block.
    pub(super) fn serve(&mut self, source: ReadableBlock) {
        self.serves.push_back(source);
    }

    /// Takes a block out of the queue. True if it was there and the peer has to be told.
    pub(super) fn withhold(&mut self, block: Block) -> bool {
        let Some(at) = self.serves.iter().position(|source| source.block == block) else {
            return false;
        };
        self.serves.remove(at);
        self.fast
    }

    /// Forgets the blocks that have not begun.
    pub(super) fn withhold_all(&mut self) {
        self.serves.clear();
    }

    /// Writes what the kernel takes, at most `most` bytes. Blocks that left, and files that failed, are added
    /// to `told`; `began` hears of each block message that begins.
    pub(super) fn write(
        &mut self,
        socket: &TcpStream,
        most: usize,
        told: &mut Vec<Happened>,
        mut began: impl FnMut(WireBlock),
    ) -> Result<Written, Farewell> {
        let mut bytes = 0;
        let mut bundles = Bundles::default();
        while bytes < most.min(TURN) {
            let room = most - bytes;
            let step = if let Some(sending) = &mut self.sending {
                sending.advance(socket, room)
            } else if self.left < self.words.len() {
                self.send_words(socket, room)
            } else if let Some(count) = self.bundle(&mut bundles, room) {
                self.send_bundle(socket, &mut bundles, count, told, &mut began)
            } else if let Some(source) = self.serves.pop_front() {
                match Sending::begin(source) {
                    Ok(sending) => {
                        began(WireBlock::from(sending.block()));
                        self.sending = Some(sending);
                    }
                    Err((block, error)) => {
                        // The reason first: a request that was not refused waits for what becomes of it.
                        told.push(Happened::Failed(error));
                        told.push(Happened::Unserved(block));
                        if self.fast {
                            self.say(&Message::Reject(WireBlock::from(block)))?;
                        }
                    }
                }
                continue;
            } else {
                break;
            };
            match step {
                Ok(sent) => bytes += sent,
                Err(Interruption::Blocked) => break,
                Err(Interruption::Socket(error)) => return Err(broken(&error)),
                Err(Interruption::Storage(error)) => {
                    // Half a block is on the wire: the rest must not be made up.
                    let why = Farewell::Broken(error.to_string());
                    told.push(Happened::Failed(error));
                    return Err(why);
                }
            }
            if let Some(done) = self.sending.take_if(|sending| sending.is_done()) {
                told.push(Happened::Served(done.block()));
            }
        }
        let waits = self.waits();
        if !waits {
            self.rest();
        }
        Ok(Written { bytes, waits })
    }

    /// Whether something waits for the socket.
    pub(super) fn waits(&self) -> bool {
        self.sending.is_some() || self.left < self.words.len() || !self.serves.is_empty()
    }

    /// Bytes that wait for the socket.
    pub(super) fn waiting(&self) -> u64 {
        let begun = self.sending.as_ref().map_or(0, |sending| {
            message_length(sending.block()).saturating_sub(sending.sent())
        });
        let words = self.words.len() - self.left;
        let serves = self.serves.iter();
        let serves: usize = serves.map(|source| message_length(source.block)).sum();
        (begun + words + serves) as u64
    }

    /// Puts the next blocks into a pipe, where several wait and may leave. How many.
    fn bundle(&self, bundles: &mut Bundles, room: usize) -> Option<usize> {
        let enough = bundles.is_begun() || self.serves.len() >= BUNDLE_FROM;
        if !enough || room < BUNDLE_MAX {
            return None;
        }
        bundles.fill(&self.serves)
    }

    /// Sends what is in the pipe: the next `count` blocks, as much of them as the socket takes.
    fn send_bundle(
        &mut self,
        socket: &TcpStream,
        bundles: &mut Bundles,
        count: usize,
        told: &mut Vec<Happened>,
        mut began: impl FnMut(WireBlock),
    ) -> Result<usize, Interruption> {
        let blocks = self.serves.iter().take(count);
        let bytes = blocks.map(|source| message_length(source.block)).sum();
        let sent = match bundles.send(socket, bytes) {
            Err(Errno::AGAIN) => return Err(Interruption::Blocked),
            outcome => outcome.map_err(|error| Interruption::Socket(error.into()))?,
        };
        let mut left = sent;
        while left > 0
            && let Some(source) = self.serves.pop_front()
        {
            began(WireBlock::from(source.block));
            let whole = message_length(source.block);
            if left < whole {
                let head = bundle::head(&source);
                self.sending = Some(Sending::Plain {
                    source,
                    head,
                    sent: left,
                });
                break;
            }
            told.push(Happened::Served(source.block));
            left -= whole;
        }
        Ok(sent)
    }

    fn send_words(&mut self, socket: &TcpStream, room: usize) -> Result<usize, Interruption> {
        let more = if self.serves.is_empty() {
            SendFlags::empty()
        } else {
            SendFlags::MORE
        };
        let sent = send(socket, upto(&self.words[self.left..], room), more)?;
        self.left += sent;
        if self.left == self.words.len() {
            self.words.clear();
            self.left = 0;
        }
        Ok(sent)
    }

    /// Gives memory back: most peers are silent most of the time.
    fn rest(&mut self) {
        if self.words.capacity() > 1024 {
            self.words = Vec::new();
        }
        if self.serves.capacity() > 0 {
            self.serves = VecDeque::new();
        }
    }
}

impl Sending {
    /// Nothing has left yet, so a file that cannot be opened or is too short costs only this block.
    fn begin(source: ReadableBlock) -> Result<Sending, (Block, StorageError)> {
        let block = source.block;
        let head = bundle::head(&source);
        let fail = |error| (block, error);
        match source.whole() {
            Some(Err(error)) => Err(fail(error)),
            Some(Ok((file, offset))) => {
                let length = source.length_of(file).map_err(fail)?;
                if length < offset + u64::from(block.length()) {
                    return Err(fail(source.too_short()));
                }
                Ok(Sending::Plain {
                    source,
                    head,
                    sent: 0,
                })
            }
            None => {
                let mut bytes = head.to_vec();
                bytes.reserve_exact(block.length() as usize);
                source.read(&mut bytes).map_err(fail)?;
                Ok(Sending::Copied {
                    block,
                    bytes,
                    sent: 0,
                })
            }
        }
    }

    fn block(&self) -> Block {
        match self {
            Sending::Plain { source, .. } => source.block,
            Sending::Copied { block, .. } => *block,
        }
    }

    /// Bytes of the message that have left.
    fn sent(&self) -> usize {
        match self {
            Sending::Plain { sent, .. } | Sending::Copied { sent, .. } => *sent,
        }
    }

    fn is_done(&self) -> bool {
        match self {
            Sending::Plain { source, sent, .. } => {
                *sent == PIECE_HEAD + source.block.length() as usize
            }
            Sending::Copied { bytes, sent, .. } => *sent == bytes.len(),
        }
    }

    /// Gives the kernel as much as it takes in one call, at most `room` bytes; says how much.
    fn advance(&mut self, socket: &TcpStream, room: usize) -> Result<usize, Interruption> {
        match self {
            Sending::Copied { bytes, sent, .. } => {
                let more = send(socket, upto(&bytes[*sent..], room), SendFlags::empty())?;
                *sent += more;
                Ok(more)
            }
            Sending::Plain { head, sent, .. } if *sent < PIECE_HEAD => {
                let more = send(socket, upto(&head[*sent..], room), SendFlags::MORE)?;
                *sent += more;
                Ok(more)
            }
            Sending::Plain { source, head, sent } => {
                match send_file(socket, source, *sent - PIECE_HEAD, room)? {
                    Some(more) => {
                        *sent += more;
                        Ok(more)
                    }
                    None => {
                        let mut bytes = head.to_vec();
                        source.read(&mut bytes).map_err(Interruption::Storage)?;
                        *self = Sending::Copied {
                            block: source.block,
                            bytes,
                            sent: *sent,
                        };
                        Ok(0)
                    }
                }
            }
        }
    }
}

fn upto(bytes: &[u8], room: usize) -> &[u8] {
    &bytes[..bytes.len().min(room)]
}

fn send(socket: &TcpStream, bytes: &[u8], flags: SendFlags) -> Result<usize, Interruption> {
    interruptible(|| rustix::net::send(socket, bytes, flags | SendFlags::NOSIGNAL))
        .map_err(|error| Interruption::Socket(error.into()))
        .and_then(|sent| sent.ok_or(Interruption::Blocked))
}

/// The rest of a block from `done` on, at most `room` bytes of it, straight from the page cache to the
/// socket. `None`: this file system cannot do that.
fn send_file(
    socket: &TcpStream,
    source: &ReadableBlock,
    done: usize,
    room: usize,
) -> Result<Option<usize>, Interruption> {
    let (file, offset) = match source.whole() {
        Some(Ok(whole)) => whole,
        Some(Err(error)) => return Err(Interruption::Storage(error)),
        None => return Ok(None),
    };
    let mut at = offset + done as u64;
    let rest = (source.block.length() as usize - done).min(room);
    match interruptible(|| rustix::fs::sendfile(socket, file, Some(&mut at), rest)) {
        Ok(None) => Err(Interruption::Blocked),
        Ok(Some(0)) => Err(Interruption::Storage(source.too_short())),
        Ok(sent) => Ok(sent),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Ok(None),
        Err(error @ Errno::IO) => Err(Interruption::Storage(source.unreadable(&error.into()))),
        Err(error) => Err(Interruption::Socket(error.into())),
    }
}

/// Repeats an interrupted call; `None` if it would have to wait.
fn interruptible<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> Result<Option<T>, Errno> {
    loop {
        match call() {
            Ok(value) => return Ok(Some(value)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}

/// The farewell to a connection that broke.
pub(super) fn broken(error: &io::Error) -> Farewell {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Farewell::Closed,
        _ => Farewell::Broken(error.to_string()),
    }
}
