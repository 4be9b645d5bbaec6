//! What one peer sends: heads of messages into a small buffer, payload on its way into its slot.
//!
//! While a block is due, no more than a head's 13 bytes are read at a time, so that payload does not land in the
//! head buffer and has to be copied out of it. The rest of a payload, the blocks expected behind it and the 13 bytes
//! after them come with one call; only what comes there and was not expected goes through the head buffer. Where
//! messages come in a row instead of blocks, they are read by the gulp until a payload begins.

use super::Happened;
use super::copies::Copies;
use super::given_up::GivenUp;
use super::noise::Noise;
use super::outbox::broken;
use super::trace::{Told, Tracer};
use crate::protocol::Block;
use crate::protocol::peer::decoder::{Decoded, Decoder, WireRules};
use crate::protocol::peer::message::PIECE_HEAD;
use crate::protocol::peer::{Message, WireBlock};
use crate::storage::slot::{
    Arrival, BlockSlot, Buffer, Landed, Landing, Match, Revoked, StorageError, Trouble, put,
};
use crate::swarm::event::Farewell;
use std::io::{self, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Instant;

/// Bytes read before the thread looks at its other duties again: a fast line reports too.
const TURN: usize = 1024 * 1024;

/// Events after which a turn ends: twice the blocks of a turn. The attack: haves or cancels by the million,
/// each a few bytes on the wire and many more in memory, in every report that waits in the inbox.
const BATCH: usize = 128;

/// Bytes of messages told after which a turn ends: they wait in the inbox as they are, and it counts turns. One
/// message may be longer.
const WORDS: usize = 16 * 1024;

/// Bytes of messages read at a time while no block is due, or none seems to come.
const GULP: usize = 2048;

/// What one turn of reading came to.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct ReadTurn {
    /// Bytes that came.
    pub(super) bytes: usize,
    /// Whether a message or a payload was finished.
    pub(super) finished: bool,
}

/// What one call brought.
struct Came {
    bytes: usize,
    /// The socket is empty now.
    emptied: bool,
    /// More than fits the head buffer, which is empty then.
    aside: Option<Buffer>,
}

/// The reading half of a conversation.
pub(super) struct Intake<'a> {
    pub(super) landing: &'a mut Landing,
    decoder: Decoder,
    fast: bool,
    /// It has choked us and does not speak the fast extension: it answers nothing, not even with a reject.
    deaf: bool,
    address: SocketAddr,
    trace: Option<Tracer>,
    /// What has come since the last message ended and is no payload.
    head: Vec<u8>,
    /// Bytes `head` must hold before the decoder can say more.
    need: usize,
    /// Bytes of an unknown message still to be passed over.
    skip: u32,
    copies: Copies,
    given_up: GivenUp,
    noise: Noise,
    /// Bytes of the messages told in this turn.
    words: usize,
    finished: bool,
    /// More messages have come than one turn tells: `head` has them, or `rest`.
    behind: bool,
    /// What came aside and is not told yet, from where on: a flood instead of a volley.
    rest: Option<(Buffer, usize)>,
}

impl<'a> Intake<'a> {
    pub(super) fn new(
        landing: &'a mut Landing,
        rules: WireRules,
        address: SocketAddr,
        trace: Option<Tracer>,
    ) -> Intake<'a> {
        Intake {
            landing,
            decoder: Decoder::new(rules),
            fast: rules.fast,
            deaf: false,
            address,
            trace,
            head: Vec::new(),
            need: 4,
            skip: 0,
            copies: Copies::default(),
            given_up: GivenUp::default(),
            noise: Noise::default(),
            words: 0,
            finished: false,
            behind: false,
            rest: None,
        }
    }

    /// Whether there is something to tell without reading: what the last turn had no room for.
    pub(super) fn is_behind(&self) -> bool {
        self.behind
    }

    /// Reads what the socket has, up to a turn's worth and to `most` bytes, and tells what it was.
    pub(super) fn read(
        &mut self,
        socket: &TcpStream,
        most: usize,
        now: Instant,
        told: &mut Vec<Happened>,
    ) -> Result<ReadTurn, Farewell> {
        let mut heard = ReadTurn::default();
        self.finished = false;
        self.words = 0;
        if self.behind {
            self.digest(None, told)?;
        }
        while heard.bytes < most.min(TURN) && self.words < WORDS && told.len() < BATCH {
            let room = most - heard.bytes;
            let result = match self.landing.under_way() {
                Some(rest) if room < rest as usize + PIECE_HEAD => self.sip(socket, room, told),
                Some(_) => self.read_payload(socket, room, now, told),
                None => self.read_head(socket, room),
            };
            match result {
                Ok(came) => {
                    heard.bytes += came.bytes;
                    self.digest(came.aside, told)?;
                    // No need to be told so by EAGAIN.
                    if came.emptied {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(over(error, told)),
            }
        }
        heard.finished = self.finished;
        self.noise.judge(now)?;
        Ok(heard)
    }

    /// The length of the message that has begun and is not all there; of a payload, what is still to come.
    pub(super) fn unfinished(&self) -> Option<u32> {
        let payload = self.landing.under_way();
        let begun = !self.head.is_empty() || self.skip > 0;
        payload.or_else(|| begun.then_some((self.need as u32).max(self.skip)))
    }

    /// Gives memory back that an idle connection does not need.
    pub(super) fn shrink(&mut self) {
        self.landing.shrink();
        if self.head.is_empty() {
            self.head = Vec::new();
        } else if self.head.capacity() > 2 * self.head.len().max(GULP) {
            // A long message leaves much room, and the beginning of another may be all that is in it.
            self.head.shrink_to(GULP);
        }
    }

    /// Keeps the slot of a block that is to be asked for. False if the peer choked us while the command
    /// was on its way and would never answer: the slot goes home.
    pub(super) fn expect(&mut self, slot: BlockSlot, told: &mut Vec<Happened>) -> bool {
        if self.deaf {
            told.push(Happened::Returned(slot));
        } else {
            self.landing.hold(slot);
        }
        !self.deaf
    }

    /// Notes that a spare is to be asked for; false if there are enough already, or it would not be answered.
    pub(super) fn expect_spare(&mut self, block: Block) -> bool {
        !self.deaf && self.copies.expect(block)
    }

    /// Gives up a request. True if a cancel has to be sent.
    pub(super) fn revoke(&mut self, block: Block, told: &mut Vec<Happened>) -> bool {
        match self.landing.revoke(block) {
            Some(Revoked::Waiting(slot)) => {
                self.given_up.add(WireBlock::from(block));
                told.push(Happened::Returned(slot));
                true
            }
            Some(Revoked::Arriving(slot)) => {
                told.push(Happened::Returned(slot));
                false
            }
            None => false,
        }
    }

    /// Gives a spare its slot: what has come is written, what is still to come will be.
    pub(super) fn settle(&mut self, slot: BlockSlot, told: &mut Vec<Happened>) {
        match self.copies.take(slot.block()) {
            Some(None) => self.landing.hold(slot),
            Some(Some(bytes)) => match put(slot, &bytes) {
                Ok(laid) => told.push(Happened::Laid(laid)),
                Err(failed) => trouble(failed, told),
            },
            None => match self.landing.settle(slot) {
                Ok(None) => {}
                Ok(Some(failed)) => trouble(failed, told),
                Err(slot) => told.push(Happened::Returned(slot)),
            },
        }
    }

    /// Gives up a spare. True if a cancel has to be sent.
    pub(super) fn discard(&mut self, block: Block) -> bool {
        let copy = self.copies.take(block);
        match copy {
            None => self.landing.discard(block),
            Some(None) => self.given_up.add(WireBlock::from(block)),
            Some(Some(_)) => {}
        }
        copy == Some(None)
    }

    /// Whether the next bytes may be a block's.
    fn is_due(&self) -> bool {
        self.landing.is_due() || self.copies.are_due()
    }

    fn read_payload(
        &mut self,
        socket: &TcpStream,
        most: usize,
        now: Instant,
        told: &mut Vec<Happened>,
    ) -> io::Result<Came> {
        let mut arrival = self
            .landing
            .receive(socket.as_fd(), &mut self.head, most, now)?;
        let came = Came {
            bytes: arrival.bytes,
            emptied: arrival.emptied,
            aside: arrival.aside.take(),
        };
        self.account(arrival, told);
        Ok(came)
    }

    /// Reads some bytes of the payload under way, by way of memory: where the rate is limited, its rest may be
    /// more than may be read now.
    fn sip(
        &mut self,
        socket: &TcpStream,
        room: usize,
        told: &mut Vec<Happened>,
    ) -> io::Result<Came> {
        let rest = self.landing.under_way().unwrap_or(0) as usize;
        let mut chunk = [0; GULP];
        let wanted = rest.min(room).min(GULP);
        let got = read_some(socket, &mut chunk[..wanted])?;
        let arrival = self.landing.absorb(&chunk[..got]);
        self.account(arrival, told);
        Ok(Came {
            bytes: got,
            emptied: got < wanted,
            aside: None,
        })
    }

    fn read_head(&mut self, socket: &TcpStream, room: usize) -> io::Result<Came> {
        let upto = match (self.is_due() && !self.noise.is_chatter(), self.skip) {
            (true, 0) => self.need.max(PIECE_HEAD),
            (true, skip) => skip as usize + PIECE_HEAD,
            (false, _) => self.need.max(GULP),
        };
        let mut chunk = [0; GULP];
        let wanted = (upto - self.head.len()).min(GULP).min(room);
        let got = read_some(socket, &mut chunk[..wanted])?;
        self.head.extend(&chunk[..got]);
        Ok(Came {
            bytes: got,
            emptied: got < wanted,
            aside: None,
        })
    }

    /// Takes the messages out of the head buffer, or out of what came aside, as many as a turn may tell.
    fn digest(&mut self, aside: Option<Buffer>, told: &mut Vec<Happened>) -> Result<(), Farewell> {
        let aside = aside.map(|aside| (aside, 0)).or_else(|| self.rest.take());
        if let Some((aside, from)) = aside {
            debug_assert!(self.head.is_empty(), "a payload was under way");
            let used = from + self.take_messages(&aside[from..], told)?;
            if self.behind {
                self.rest = Some((aside, used));
            } else {
                self.head.extend(&aside[used..]);
            }
        } else {
            let mut head = std::mem::take(&mut self.head);
            let used = self.take_messages(&head, told)?;
            head.drain(..used);
            self.head = head;
        }
        Ok(())
    }

    /// Takes whole messages from the beginning of `head`, and says how many bytes that were.
    fn take_messages(&mut self, head: &[u8], told: &mut Vec<Happened>) -> Result<usize, Farewell> {
        let mut at = 0;
        self.behind = false;
        while at < head.len() {
            if told.len() >= BATCH || self.words >= WORDS {
                self.behind = true;
                break;
            }
            let rest = &head[at..];
            if self.skip == 0 && rest.len() < self.need {
                break;
            }
            if self.skip > 0 {
                let passed = rest.len().min(self.skip as usize);
                self.skip -= passed as u32;
                at += passed;
                self.finished |= self.skip == 0;
                continue;
            }
            match self.decoder.step(rest) {
                Ok(Decoded::Need(bytes)) => {
                    self.need = bytes;
                    break;
                }
                Ok(Decoded::Message { message, used }) => {
                    at += used;
                    self.heard(message, used, told);
                }
                Ok(Decoded::Payload { block, used }) => {
                    at += used;
                    self.begin(block)?;
                    let came = (head.len() - at).min(block.length as usize);
                    if came > 0 {
                        let arrival = self.landing.absorb(&head[at..at + came]);
                        self.account(arrival, told);
                        at += came;
                    }
                }
                Ok(Decoded::Skip { used, skip }) => {
                    at += used;
                    self.skip = skip;
                    self.noise.message();
                    self.noise.add(used + skip as usize);
                }
                Err(error) => return Err(Farewell::Malformed(error.to_string())),
            }
            self.need = 4;
        }
        Ok(at)
    }

    fn heard(&mut self, message: Message, length: usize, told: &mut Vec<Happened>) {
        self.finished = true;
        self.show(&message);
        self.noise.message();
        let mut means_something = self.noise.is_told(&message);
        match &message {
            Message::Unchoke => self.deaf = false,
            Message::Choke if !self.fast => {
                self.deaf = true;
                for slot in self.landing.take_waiting() {
                    self.given_up.add(WireBlock::from(slot.block()));
                    told.push(Happened::Returned(slot));
                }
                self.copies.give_up(&mut self.given_up);
            }
            // The answer to a cancel, if there was one, and nobody else's business: a request made again
            // meanwhile stands.
            Message::Reject(block) if self.given_up.take(*block) => return,
            Message::Reject(block) => {
                let refused = self.landing.refuse(*block);
                means_something = self.copies.refuse(*block) || refused.is_some();
                told.extend(refused.map(Happened::Returned));
            }
            // Advice: it may help, and to give it obliges nobody to anything.
            Message::Suggest { .. } | Message::AllowedFast { .. } => self.noise.add(length),
            _ => {}
        }
        if means_something {
            self.words += length;
            told.push(Happened::Said(message));
        } else {
            self.noise.add(length);
        }
    }

    /// Decides where the payload goes whose head has come.
    fn begin(&mut self, block: WireBlock) -> Result<(), Farewell> {
        self.show(&Message::Piece(block));
        self.noise.payload();
        let other_length = |asked: u32| {
            let sent = block.length;
            Farewell::Malformed(format!(
                "a block of {sent} bytes where {asked} were asked for"
            ))
        };
        match self.landing.find(block) {
            Match::Held => {
                self.landing.begin(block);
                return Ok(());
            }
            Match::OtherLength(asked) => return Err(other_length(asked)),
            Match::Unknown => {}
        }
        match self.copies.begin(block).map_err(other_length)? {
            Some(spare) => self.landing.begin_spare(spare),
            None => {
                let asked = self.given_up.take(block);
                self.landing.begin_nowhere(block.length, asked);
            }
        }
        Ok(())
    }

    fn account(&mut self, arrival: Arrival, told: &mut Vec<Happened>) {
        if let Some(failed) = arrival.trouble {
            trouble(failed, told);
        }
        for block in arrival.begun {
            self.show(&Message::Piece(block));
        }
        self.finished |= !arrival.landed.is_empty();
        for landed in arrival.landed {
            match landed {
                Landed::Slot(slot) => told.push(Happened::Laid(slot)),
                Landed::Nowhere { bytes, asked } => {
                    told.push(Happened::Wasted { bytes, asked });
                }
                Landed::Spare(block, bytes) => {
                    self.copies.keep(block, bytes);
                    told.push(Happened::Held(block));
                }
            }
        }
    }

    fn show(&self, message: &Message) {
        if let Some(trace) = &self.trace {
            trace.heard(self.address, Told::Message(message.clone()));
        }
    }
}

/// Reads into `buffer`, which is not empty; the end of the stream is an error.
fn read_some(mut socket: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    match socket.read(buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        got => got,
    }
}

/// Why the conversation cannot go on. A file of ours that failed is told of as such: that is not the peer's doing.
fn over(error: io::Error, told: &mut Vec<Happened>) -> Farewell {
    let why = broken(&error);
    if let Ok(failed) = error.downcast::<StorageError>() {
        told.push(Happened::Failed(failed));
    }
    why
}

fn trouble(failed: Trouble, told: &mut Vec<Happened>) {
    told.push(Happened::Failed(failed.error));
    told.push(Happened::Returned(failed.slot));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::protocol::Geometry;
    use crate::storage::slot::{LandingBudget, ScratchFile, StorageTrouble, payload};
    use std::io::Write;
    use std::net::TcpListener;

    const RULES: WireRules = WireRules {
        fast: true,
        extended: true,
        pieces: 3,
    };

    struct Bench {
        ours: TcpStream,
        theirs: TcpStream,
        scratch: ScratchFile,
        blocks: Vec<Block>,
        stream: Vec<u8>,
    }

    impl Bench {
        /// Three blocks of 50 bytes, and a stream with them and all kinds of messages between them.
        fn new() -> Bench {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            theirs.set_nodelay(true).unwrap();
            let (ours, _) = listener.accept().unwrap();
            ours.set_nonblocking(true).unwrap();
            let scratch = ScratchFile::new(Geometry::new(150, 50).unwrap(), 4090);
            let blocks = vec![
                scratch.block(0, 0),
                scratch.block(2, 0),
                scratch.block(1, 0),
            ];
            let mut stream = Vec::new();
            for block in &blocks {
                Message::Have { piece: 1 }.encode(&mut stream);
                Message::Piece(WireBlock::from(*block)).encode(&mut stream);
                stream.extend(payload(*block));
                Message::KeepAlive.encode(&mut stream);
                stream.extend([0, 0, 0, 9, 99, 1, 2, 3, 4, 5, 6, 7, 8]);
            }
            Message::Unchoke.encode(&mut stream);
            Bench {
                ours,
                theirs,
                scratch,
                blocks,
                stream,
            }
        }

        /// Feeds the stream part by part, each read before the next is sent.
        fn feed(mut self, cuts: &[usize]) {
            let mut landing = Landing::new(LandingBudget::default());
            let address = self.ours.peer_addr().unwrap();
            let mut intake = Intake::new(&mut landing, RULES, address, None);
            for block in &self.blocks {
                intake.expect(self.scratch.slot(*block), &mut Vec::new());
            }
            let mut told = Vec::new();
            let mut from = 0;
            for cut in cuts.iter().copied().chain([self.stream.len()]) {
                self.theirs.write_all(&self.stream[from..cut]).unwrap();
                let mut left = cut - from;
                while left > 0 {
                    let heard = intake
                        .read(&self.ours, usize::MAX, Instant::now(), &mut told)
                        .unwrap();
                    left -= heard.bytes;
                }
                from = cut;
            }
            assert_eq!(intake.unfinished(), None);
            let mut laid = Vec::new();
            let mut said = Vec::new();
            for happened in told {
                match happened {
                    Happened::Laid(slot) => laid.push(slot.block()),
                    Happened::Said(message) => said.push(message),
                    other => panic!("{other:?} was not expected"),
                }
            }
            assert_eq!(laid, self.blocks);
            let between = [Message::Have { piece: 1 }, Message::KeepAlive];
            let mut expected: Vec<Message> = (0..3).flat_map(|_| between.clone()).collect();
            expected.push(Message::Unchoke);
            assert_eq!(said, expected);
            assert!(self.scratch.bytes() == self.scratch.expected(&laid));
        }
    }

    #[test]
    fn a_stream_cut_at_any_byte_says_the_same_and_lands_the_same() {
        let length = Bench::new().stream.len();
        for cut in 1..length {
            Bench::new().feed(&[cut]);
        }
    }

    #[test]
    fn a_stream_that_comes_byte_by_byte_lands_too() {
        let bench = Bench::new();
        let cuts: Vec<usize> = (1..bench.stream.len()).collect();
        bench.feed(&cuts);
    }

    /// Three blocks that were asked for and `instead` of the ones expected behind them come. `turn` sees what each turn
    /// tells, `end` the intake afterwards.
    fn read_instead_of_blocks(
        instead: &[u8],
        mut turn: impl FnMut(Vec<Happened>),
        end: impl FnOnce(&mut Intake<'_>),
    ) {
        let Bench {
            ours, mut theirs, ..
        } = Bench::new();
        let geometry = Geometry::new(32 * 16_384, 32 * 16_384).unwrap();
        let mut scratch = ScratchFile::new(geometry, 0);
        let blocks: Vec<Block> = (0..32).map(|number| scratch.block(0, number)).collect();
        let mut landing = Landing::new(LandingBudget::default());
        let mut intake = Intake::new(&mut landing, RULES, ours.peer_addr().unwrap(), None);
        let mut bytes = Vec::new();
        for (number, block) in blocks.iter().enumerate() {
            intake.expect(scratch.slot(*block), &mut Vec::new());
            if number < 3 {
                Message::Piece(WireBlock::from(*block)).encode(&mut bytes);
                bytes.extend(payload(*block));
            }
        }
        bytes.extend(instead);
        theirs.write_all(&bytes).unwrap();
        let mut left = bytes.len();
        while left > 0 || intake.is_behind() {
            let mut told = Vec::new();
            let heard = intake.read(&ours, usize::MAX, Instant::now(), &mut told);
            left -= heard.unwrap().bytes;
            turn(told);
        }
        end(&mut intake);
    }

    #[test]
    fn what_came_instead_of_a_volley_takes_no_memory_when_only_the_beginning_of_a_message_is_left()
    {
        // A message that is passed over and more than a turn can tell, and the beginning of another.
        let mut instead = vec![0; 4 + 16_000 + 16_000];
        instead[..5].copy_from_slice(&[0, 0, 0x3e, 0x80, 99]);
        instead.extend([0, 0, 0x40]);
        let end = |intake: &mut Intake<'_>| {
            intake.shrink();
            assert_eq!(intake.head, [0, 0, 0x40]);
            assert!(
                intake.head.capacity() <= 2 * GULP,
                "{}",
                intake.head.capacity()
            );
        };
        read_instead_of_blocks(&instead, |_| {}, end);
    }

    #[test]
    fn a_flood_of_small_messages_instead_of_a_volley_ends_the_turn_too_and_none_is_lost() {
        let keep_alives = 4_000;
        let mut said = 0;
        let turn = |told: Vec<Happened>| {
            assert!(told.len() <= BATCH + GULP / 4, "{} at once", told.len());
            let is_said = |happened: &&Happened| matches!(happened, Happened::Said(_));
            said += told.iter().filter(is_said).count();
        };
        read_instead_of_blocks(&vec![0; 4 * keep_alives], turn, |_| {});
        assert_eq!(said, keep_alives);
    }

    #[test]
    fn long_messages_that_come_instead_of_a_volley_are_told_a_few_a_turn_and_none_is_lost() {
        let introduction = Message::Extended {
            id: 0,
            payload: vec![b'd'; 10_000].into(),
        };
        let (mut instead, mut said) = (Vec::new(), 0);
        (0..16).for_each(|_| introduction.encode(&mut instead));
        let turn = |told: Vec<Happened>| {
            let is_said = |happened: &&Happened| matches!(happened, Happened::Said(_));
            let at_once = told.iter().filter(is_said).count();
            assert!(at_once <= WORDS.div_ceil(10_000), "{at_once} at once");
            said += at_once;
        };
        read_instead_of_blocks(&instead, turn, |_| {});
        assert_eq!(said, 16);
    }

    /// Two mebibytes of `message` in one moment while a block is due: what is told of it, and why the peer is left.
    fn flooded_with(message: &[u8]) -> (Vec<Message>, Option<Farewell>) {
        let mut bench = Bench::new();
        bench.theirs.set_nonblocking(true).unwrap();
        let mut landing = Landing::new(LandingBudget::default());
        let address = bench.ours.peer_addr().unwrap();
        let mut intake = Intake::new(&mut landing, RULES, address, None);
        intake.expect(bench.scratch.slot(bench.blocks[0]), &mut Vec::new());
        let flood = message.repeat(2 * 1024 * 1024 / message.len());
        let (now, mut sent, mut read, mut said) = (Instant::now(), 0, 0, Vec::new());
        let mut why = None;
        while read < flood.len() && why.is_none() {
            // What the socket does not take now comes the next time.
            sent += bench.theirs.write(&flood[sent..]).unwrap_or(0);
            let mut told = Vec::new();
            match intake.read(&bench.ours, usize::MAX, now, &mut told) {
                Ok(heard) => read += heard.bytes,
                Err(farewell) => why = Some(farewell),
            }
            said.extend(told.into_iter().map(|happened| match happened {
                Happened::Said(message) => message,
                other => panic!("{other:?} was not expected"),
            }));
        }
        (said, why)
    }

    #[test]
    fn a_flood_of_what_means_nothing_is_not_told_and_is_left() {
        let mut port = Vec::new();
        Message::Port { port: 1 }.encode(&mut port);
        let mut reject = Vec::new();
        Message::Reject(WireBlock {
            piece: 1,
            begin: 1,
            length: 1,
        })
        .encode(&mut reject);
        let extended = [0, 0, 0, 3, 20, 77, 1];
        for message in [&[0, 0, 0, 1, 99], &port[..], &reject, &extended] {
            let (told, why) = flooded_with(message);
            assert!(told.is_empty(), "{message:?} is told");
            assert!(matches!(why, Some(Farewell::Senseless(_))), "{why:?}");
        }
    }

    #[test]
    fn a_flood_of_advice_is_left_and_thousands_of_pieces_are_borne() {
        for advice in [
            Message::Suggest { piece: 1 },
            Message::AllowedFast { piece: 1 },
        ] {
            let mut bytes = Vec::new();
            advice.encode(&mut bytes);
            let (told, why) = flooded_with(&bytes);
            assert!(told.len() > 5_000, "{advice:?}: {}", told.len());
            assert!(matches!(why, Some(Farewell::Senseless(_))), "{why:?}");
        }
    }

    #[test]
    fn introductions_are_told_a_few_times_and_then_are_noise() {
        let (told, why) = flooded_with(b"\0\0\0\x04\x14\0de");
        assert_eq!(told.len(), 16);
        assert!(matches!(why, Some(Farewell::Senseless(_))), "{why:?}");
    }

    #[test]
    fn messages_in_a_row_are_read_by_the_gulp_though_a_block_is_due_and_behind_the_next_block_are_not()
     {
        let mut bench = Bench::new();
        let mut landing = Landing::new(LandingBudget::default());
        let address = bench.ours.peer_addr().unwrap();
        let mut intake = Intake::new(&mut landing, RULES, address, None);
        for block in &bench.blocks[..2] {
            intake.expect(bench.scratch.slot(*block), &mut Vec::new());
        }
        let unknown = [0, 0, 0, 1, 99].repeat(1_000);
        bench.theirs.write_all(&unknown).unwrap();
        let (mut told, mut reads) = (Vec::new(), Vec::new());
        while reads.iter().sum::<usize>() < unknown.len() {
            let came = intake.read_head(&bench.ours, usize::MAX).unwrap();
            reads.push(came.bytes);
            intake.digest(None, &mut told).unwrap();
        }
        assert!(
            reads.len() <= 16 + unknown.len().div_ceil(GULP),
            "{reads:?}"
        );
        let mut piece = Vec::new();
        Message::Piece(WireBlock::from(bench.blocks[0])).encode(&mut piece);
        piece.extend(payload(bench.blocks[0]));
        bench.theirs.write_all(&piece).unwrap();
        let now = Instant::now();
        intake
            .read(&bench.ours, usize::MAX, now, &mut told)
            .unwrap();
        assert!(matches!(&told[..], [Happened::Laid(_)]), "{told:?}");
        bench.theirs.write_all(&[0; 64]).unwrap();
        let came = intake.read_head(&bench.ours, usize::MAX).unwrap();
        assert_eq!(came.bytes, PIECE_HEAD);
    }

    #[test]
    fn a_flood_of_small_messages_ends_the_turn() {
        let mut bench = Bench::new();
        let mut landing = Landing::new(LandingBudget::default());
        let address = bench.ours.peer_addr().unwrap();
        let mut intake = Intake::new(&mut landing, RULES, address, None);
        bench.theirs.write_all(&[0; 64 * 1024]).unwrap();
        let (mut told, mut left) = (Vec::new(), 64 * 1024);
        while left > 0 {
            let heard = intake
                .read(&bench.ours, usize::MAX, Instant::now(), &mut told)
                .unwrap();
            left -= heard.bytes;
            assert!(told.len() <= BATCH + GULP / 4);
            told.clear();
        }
    }

    #[test]
    fn a_file_of_ours_that_ends_the_conversation_is_told_of_and_a_socket_is_not() {
        let failed = StorageError {
            kind: StorageTrouble::Vanished,
            doing: "read",
            path: "here".into(),
            cause: "it is shorter than it should be".to_owned(),
        };
        let mut told = Vec::new();
        over(io::ErrorKind::ConnectionReset.into(), &mut told);
        assert!(told.is_empty());
        over(io::Error::other(failed.clone()), &mut told);
        assert!(matches!(&told[..], [Happened::Failed(error)] if *error == failed));
    }
}
