//! A peer thread against a scripted other side on 127.0.0.1, byte by byte.
#![allow(clippy::unwrap_used)]

use super::super::low_water::mark_of;
use super::*;
use crate::protocol::peer::{Handshake, PeerId};
use crate::protocol::{Block, Geometry, InfoHash};
use crate::storage::slot::{ScratchFile, StorageTrouble, payload};
use crate::swarm::event::{Slowness, Way};
use crossbeam_channel::{Receiver, bounded};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

const TORRENT: InfoHash = InfoHash([7; 20]);
const OURS: PeerId = PeerId(*b"-RW0100-aaaaaaaaaaaa");
const THEIRS: PeerId = PeerId(*b"-XX0100-bbbbbbbbbbbb");

/// How long a test waits for something that must happen.
const PATIENCE: Duration = Duration::from_secs(20);

fn geometry() -> Geometry {
    Geometry::new(200_000, 65_536).unwrap()
}

fn introduction() -> Introduction {
    Introduction {
        info_hash: TORRENT,
        id: OURS,
        geometry: geometry(),
    }
}

/// Short where a test waits for them, long elsewhere.
fn quick() -> Deadlines {
    let short = Duration::from_millis(150);
    Deadlines {
        handshake: short,
        silence: short,
        ..Deadlines::default()
    }
}

/// The scripted peer: a socket, and what a test reads from it.
struct Other {
    socket: TcpStream,
}

impl Other {
    fn say(&mut self, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        self.socket.write_all(&bytes).unwrap();
    }

    fn send(&mut self, block: Block) {
        self.say(Message::Piece(WireBlock::from(block)));
        self.socket.write_all(&payload(block)).unwrap();
    }

    fn read(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.socket.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn expect(&mut self, message: Message) {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        assert_eq!(self.read(bytes.len()), bytes, "{message:?} was expected");
    }

    /// The connection ends without another byte.
    fn expect_silence(&mut self) {
        let mut rest = Vec::new();
        let _ = self.socket.read_to_end(&mut rest);
        assert!(rest.is_empty(), "{} bytes too many", rest.len());
    }

    fn expect_end(&mut self) {
        let mut rest = Vec::new();
        // A reset is an end too.
        let _ = self.socket.read_to_end(&mut rest);
    }
}

/// A thread under test, its line, its inbox, and the other side.
struct Table {
    line: Line,
    inbox: Receiver<Report>,
    queue: std::collections::VecDeque<Happened>,
    other: Other,
    scratch: ScratchFile,
}

fn surroundings(deadlines: Deadlines) -> (Surroundings, Receiver<Report>) {
    // Bound: a handful of reports, so that a full inbox is tested along the way.
    let (inbox, reports) = bounded(4);
    let surroundings = Surroundings {
        inbox,
        trace: None,
        budget: LandingBudget::default(),
        deadlines,
        metered: Metered::default(),
    };
    (surroundings, reports)
}

impl Table {
    /// A dialled peer, greeted.
    fn set(fast: bool, deadlines: Deadlines) -> Table {
        Table::limited(fast, deadlines, Metered::default())
    }

    /// A dialled peer, greeted, whose rates are limited.
    fn limited(fast: bool, deadlines: Deadlines, metered: Metered) -> Table {
        let mut table = Table::dialled(deadlines, metered);
        let ours = Handshake::new(TORRENT, OURS).encode();
        assert_eq!(table.other.read(68), ours);
        let mut theirs = Handshake::new(TORRENT, THEIRS);
        if !fast {
            theirs.reserved[7] = 0;
        }
        table.other.socket.write_all(&theirs.encode()).unwrap();
        match table.next() {
            Happened::Connected(greeting) => {
                assert_eq!((greeting.id, greeting.fast), (THEIRS, fast));
                assert_eq!(greeting.way, Way::Dialled);
            }
            other => panic!("{other:?} instead of Connected"),
        }
        table
    }

    /// A dialled peer that has said nothing.
    fn dialled(deadlines: Deadlines, metered: Metered) -> Table {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (mut surroundings, inbox) = surroundings(deadlines);
        surroundings.metered = metered;
        let line = dial(PeerKey(1), address, None, introduction(), surroundings).unwrap();
        Table::around(line, inbox, listener.accept().unwrap().0, geometry())
    }

    fn around(line: Line, inbox: Receiver<Report>, socket: TcpStream, geometry: Geometry) -> Table {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.set_write_timeout(Some(PATIENCE)).unwrap();
        Table {
            line,
            inbox,
            queue: Default::default(),
            other: Other { socket },
            scratch: ScratchFile::new(geometry, 100),
        }
    }

    fn tell(&self, command: Command) {
        self.line.send(vec![command]).unwrap();
    }

    fn next(&mut self) -> Happened {
        loop {
            if let Some(happened) = self.queue.pop_front() {
                return happened;
            }
            let report = self.inbox.recv_timeout(PATIENCE).expect("nothing happened");
            self.queue.extend(report.batch);
        }
    }

    /// Asks for blocks and reads the requests on the other side.
    fn ask(&mut self, blocks: &[Block]) {
        let requests = blocks
            .iter()
            .map(|block| Command::Request(self.scratch.slot(*block)));
        let requests = requests.collect();
        self.line.send(requests).unwrap();
        for block in blocks {
            self.other.expect(Message::Request(WireBlock::from(*block)));
        }
    }

    fn grant(&self, flow: Flow, bytes: u64) {
        self.tell(Command::Grant { flow, bytes });
    }

    fn wants(&mut self, flow: Flow) {
        match self.next() {
            Happened::Wants { flow: wants, .. } => assert_eq!(wants, flow),
            other => panic!("{other:?} instead of Wants({flow:?})"),
        }
    }

    fn laid(&mut self) -> Block {
        match self.next() {
            Happened::Laid(slot) => self.scratch.book.laid(slot),
            other => panic!("{other:?} instead of Laid"),
        }
    }

    fn returned(&mut self) -> Block {
        match self.next() {
            Happened::Returned(slot) => self.scratch.book.returned(slot),
            other => panic!("{other:?} instead of Returned"),
        }
    }

    fn heard(&mut self, message: Message) {
        match self.next() {
            Happened::Said(said) => assert_eq!(said, message),
            other => panic!("{other:?} instead of {message:?}"),
        }
    }

    fn wasted(&mut self, bytes: u32, asked: bool) {
        match self.next() {
            Happened::Wasted { bytes: b, asked: a } => assert_eq!((b, a), (bytes, asked)),
            other => panic!("{other:?} instead of Wasted"),
        }
    }

    /// All that is left, up to the farewell; nothing may come after it.
    fn gone(&mut self) -> (Vec<Happened>, Farewell) {
        let mut before = Vec::new();
        loop {
            match self.next() {
                Happened::Gone(why) => {
                    assert!(self.queue.is_empty(), "something came after Gone");
                    let after = self.inbox.recv_timeout(PATIENCE);
                    assert!(after.is_err(), "{after:?} came after Gone");
                    return (before, why);
                }
                other => before.push(other),
            }
        }
    }

    /// Leaves; nothing but this may have happened meanwhile.
    fn leave_after(&mut self, expected: fn(&Happened) -> bool) {
        self.tell(Command::HangUp(Farewell::Leaving));
        let (before, why) = self.gone();
        assert_eq!(why, Farewell::Leaving);
        assert!(before.iter().all(expected), "{before:?}");
        self.other.expect_silence();
    }

    fn leave(&mut self) {
        self.tell(Command::HangUp(Farewell::Leaving));
        assert_eq!(self.gone().1, Farewell::Leaving);
    }

    fn block(&self, number: usize) -> Block {
        self.scratch.block(0, number)
    }
}

#[test]
fn blocks_land_byte_exactly_wherever_the_stream_is_cut() {
    for cut in [
        1, 3, 4, 5, 12, 13, 14, 100, 4096, 16_396, 16_397, 16_398, 20_000,
    ] {
        let mut table = Table::set(true, Deadlines::default());
        let blocks = [table.block(0), table.block(1), table.scratch.block(3, 0)];
        table.ask(&blocks);
        let mut stream = Vec::new();
        for block in blocks {
            Message::Have { piece: 2 }.encode(&mut stream);
            Message::Piece(WireBlock::from(block)).encode(&mut stream);
            stream.extend(payload(block));
        }
        table.other.socket.set_nodelay(true).unwrap();
        for part in [&stream[..cut], &stream[cut..]] {
            table.other.socket.write_all(part).unwrap();
        }
        for block in blocks {
            table.heard(Message::Have { piece: 2 });
            assert_eq!(table.laid(), block);
        }
        assert!(table.scratch.bytes() == table.scratch.expected(&blocks));
        table.leave();
    }
}

#[test]
fn answers_in_another_order_land_in_their_own_places() {
    let mut table = Table::set(true, Deadlines::default());
    let mut blocks: Vec<Block> = (0..4).map(|number| table.block(number)).collect();
    table.ask(&blocks);
    blocks.reverse();
    blocks.swap(0, 2);
    blocks.iter().for_each(|block| table.other.send(*block));
    for block in &blocks {
        assert_eq!(table.laid(), *block);
    }
    assert!(table.scratch.bytes() == table.scratch.expected(&blocks));
    table.leave();
}

/// A caller of whom 128 blocks are asked for, and the thread's socket.
fn much_is_due(metered: Metered) -> (Table, TcpStream, Vec<Block>) {
    let geometry = Geometry::new(1 << 21, 1 << 21).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (stream, address) = listener.accept().unwrap();
    let socket = stream.try_clone().unwrap();
    let (mut surroundings, inbox) = surroundings(Deadlines::default());
    surroundings.metered = metered;
    let line = answer(PeerKey(2), stream, address, surroundings).unwrap();
    let mut table = Table::around(line, inbox, caller, geometry);
    let theirs = Handshake::new(TORRENT, THEIRS).encode();
    table.other.socket.write_all(&theirs).unwrap();
    assert!(matches!(table.next(), Happened::Knocked { .. }));
    let introduction = Introduction {
        geometry,
        ..introduction()
    };
    table.tell(Command::Admit(introduction));
    assert!(matches!(table.next(), Happened::Connected(_)));
    table.other.read(68);
    let blocks: Vec<Block> = (0..128).map(|number| table.block(number)).collect();
    table.ask(&blocks);
    (table, socket, blocks)
}

/// Waits until the mark of `socket` is `mark`.
fn expect_mark(socket: &TcpStream, mark: usize) {
    let end = Instant::now() + PATIENCE;
    while mark_of(socket) != mark {
        assert!(Instant::now() < end, "the mark is {}", mark_of(socket));
        thread::yield_now();
    }
}

#[test]
fn what_is_too_little_to_be_woken_for_is_heard_all_the_same() {
    let (mut table, socket, blocks) = much_is_due(Metered::default());
    expect_mark(&socket, 8 * 16_384);
    table.other.send(blocks[0]);
    assert_eq!(table.laid(), blocks[0]);
    table.other.say(Message::Choke);
    table.heard(Message::Choke);
    // After a wait in vain a block is heard at once, and with it the mark rises again.
    expect_mark(&socket, 1);
    table.other.send(blocks[1]);
    assert_eq!(table.laid(), blocks[1]);
    expect_mark(&socket, 4 * 16_384);
    for block in &blocks[2..] {
        table.other.send(*block);
    }
    for block in &blocks[2..] {
        assert_eq!(table.laid(), *block);
    }
    expect_mark(&socket, 1);
    table.leave();
}

#[test]
fn what_may_be_read_a_little_at_a_time_is_not_waited_for() {
    let metered = Metered {
        down: true,
        ..Metered::default()
    };
    let (mut table, socket, blocks) = much_is_due(metered);
    table.other.send(blocks[0]);
    table.wants(Flow::Down);
    table.grant(Flow::Down, 1 << 20);
    assert_eq!(table.laid(), blocks[0]);
    table.other.say(Message::Unchoke);
    table.heard(Message::Unchoke);
    assert_eq!(mark_of(&socket), 1);
    table.leave();
}

#[test]
fn a_caller_knocks_and_is_admitted_or_sent_away() {
    for admitted in [true, false] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, address) = listener.accept().unwrap();
        let (surroundings, inbox) = surroundings(Deadlines::default());
        let line = answer(PeerKey(2), stream, address, surroundings).unwrap();
        let mut table = Table::around(line, inbox, caller, geometry());
        let theirs = Handshake::new(TORRENT, THEIRS).encode();
        table.other.socket.write_all(&theirs).unwrap();
        let knocked = table.next();
        assert!(
            matches!(
                knocked,
                Happened::Knocked {
                    info_hash: TORRENT,
                    id: THEIRS
                }
            ),
            "{knocked:?}"
        );
        if !admitted {
            table.tell(Command::HangUp(Farewell::NoRoom));
            assert_eq!(table.gone().1, Farewell::NoRoom);
            table.other.expect_end();
            continue;
        }
        // What is said in the same batch follows the handshake.
        let batch = vec![
            Command::Admit(introduction()),
            Command::Say(Message::HaveNone),
        ];
        table.line.send(batch).unwrap();
        assert_eq!(table.other.read(68), Handshake::new(TORRENT, OURS).encode());
        table.other.expect(Message::HaveNone);
        assert!(matches!(
            table.next(),
            Happened::Connected(Greeting {
                way: Way::Accepted,
                ..
            })
        ));
        table.leave();
    }
}

#[test]
fn what_is_no_handshake_of_ours_ends_the_connection() {
    let other_torrent = Handshake::new(InfoHash([8; 20]), THEIRS).encode();
    let ourselves = Handshake::new(TORRENT, OURS).encode();
    let cases: [(&[u8], Farewell); 5] = [
        (b"GET / HTTP/1.1\r\n", Farewell::NoHandshake),
        (b"\x00", Farewell::NoHandshake),
        (b"\x16\x03\x01\x02\x00\x01", Farewell::NoHandshake),
        (&other_torrent, Farewell::OtherTorrent),
        (&ourselves, Farewell::Ourselves),
    ];
    for (bytes, why) in cases {
        let mut table = Table::dialled(Deadlines::default(), Metered::default());
        table.other.socket.write_all(bytes).unwrap();
        assert_eq!(table.gone().1, why);
    }
}

#[test]
fn a_handshake_that_drips_or_stops_is_too_slow() {
    for drip in [1, 67] {
        let mut table = Table::dialled(quick(), Metered::default());
        let bytes = Handshake::new(TORRENT, THEIRS).encode();
        table.other.socket.write_all(&bytes[..drip]).unwrap();
        assert_eq!(table.gone().1, Farewell::TooSlow(Slowness::Handshake));
    }
}

#[test]
fn an_address_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let (surroundings, inbox) = surroundings(Deadlines::default());
    let line = dial(PeerKey(1), address, None, introduction(), surroundings).unwrap();
    let report = inbox.recv_timeout(PATIENCE).unwrap();
    let gone = matches!(
        report.batch.as_slice(),
        [Happened::Gone(Farewell::Unreachable(_))]
    );
    assert!(gone, "{report:?}");
    assert!(line.close().is_empty());
}

#[test]
fn a_thread_told_to_leave_during_the_greeting_does_so_at_once_and_returns_its_slots() {
    let mut table = Table::dialled(Deadlines::default(), Metered::default());
    let block = table.block(0);
    let slot = table.scratch.slot(block);
    let batch = vec![Command::Request(slot), Command::HangUp(Farewell::Leaving)];
    table.line.send(batch).unwrap();
    let (before, why) = table.gone();
    assert_eq!(why, Farewell::Leaving);
    assert!(matches!(before.as_slice(), [Happened::Returned(slot)] if slot.block() == block));
}

#[test]
fn silence_ends_a_connection_and_ours_is_broken_by_keep_alives() {
    let mut table = Table::set(true, quick());
    assert_eq!(table.gone().1, Farewell::TooSlow(Slowness::Speak));
    let keep_alive = Duration::from_millis(50);
    let mut table = Table::set(
        true,
        Deadlines {
            keep_alive,
            ..Deadlines::default()
        },
    );
    table.other.expect(Message::KeepAlive);
    table.other.expect(Message::KeepAlive);
    table.leave();
}

#[test]
fn a_message_that_drips_is_too_slow_however_often_it_drips() {
    let finish = Duration::from_millis(200);
    let deadlines = Deadlines {
        finish,
        pace: u32::MAX,
        ..Deadlines::default()
    };
    let mut table = Table::set(true, deadlines);
    let block = table.block(0);
    table.ask(&[block]);
    let mut stream = Vec::new();
    Message::Piece(WireBlock::from(block)).encode(&mut stream);
    stream.extend(payload(block));
    let mut socket = table.other.socket.try_clone().unwrap();
    let dripping = std::thread::spawn(move || {
        for byte in stream {
            if socket.write_all(&[byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let (before, why) = table.gone();
    assert_eq!(why, Farewell::TooSlow(Slowness::Finish));
    assert!(matches!(before.as_slice(), [Happened::Returned(_)]));
    dripping.join().unwrap();
}

#[test]
fn who_never_reads_is_hung_up() {
    let stuck = Duration::from_millis(200);
    let mut table = Table::set(
        true,
        Deadlines {
            stuck,
            ..Deadlines::default()
        },
    );
    let block = table.block(0);
    std::fs::write(&table.scratch.path, table.scratch.expected(&[block])).unwrap();
    // More than any socket buffer takes.
    for _ in 0..50 {
        let serves = (0..20).map(|_| Command::Serve(table.scratch.source(block)));
        let mut batch = serves.collect();
        while let Err(Stuck(again)) = table.line.send(batch) {
            std::thread::yield_now();
            batch = again;
        }
    }
    assert_eq!(table.gone().1, Farewell::TooSlow(Slowness::Read));
}

#[test]
fn lies_about_lengths_end_the_connection_and_return_the_slots() {
    let short = [0, 0, 0, 9 + 100, 7, 0, 0, 0, 0, 0, 0, 0, 0];
    let cases: [&[u8]; 6] = [
        &[0xff; 4],
        &[0x80, 0, 0, 0],
        &[0, 0x10, 0, 1],
        &[0, 0, 0, 6, 4],
        &[0, 0, 0, 9, 7],
        &short,
    ];
    for bytes in cases {
        let mut table = Table::set(true, Deadlines::default());
        let block = table.block(0);
        table.ask(&[block]);
        table.other.socket.write_all(bytes).unwrap();
        let (before, why) = table.gone();
        assert!(
            matches!(why, Farewell::Malformed(_)),
            "{why:?} after {bytes:x?}"
        );
        assert!(
            matches!(before.as_slice(), [Happened::Returned(_)]),
            "{before:?}"
        );
        assert!(table.scratch.bytes() == table.scratch.expected(&[]));
    }
}

#[test]
fn who_closes_in_mid_block_gives_the_slots_back() {
    let mut table = Table::set(true, Deadlines::default());
    let blocks = [table.block(0), table.block(1)];
    table.ask(&blocks);
    table.other.say(Message::Piece(WireBlock::from(blocks[0])));
    table
        .other
        .socket
        .write_all(&payload(blocks[0])[..1000])
        .unwrap();
    table.other.socket.shutdown(Shutdown::Both).unwrap();
    let (before, why) = table.gone();
    assert_eq!(why, Farewell::Closed);
    assert_eq!(before.len(), 2);
    assert!(
        before
            .iter()
            .all(|happened| matches!(happened, Happened::Returned(_)))
    );
}

#[test]
fn what_nobody_asked_for_is_thrown_away_and_the_file_untouched() {
    let mut table = Table::set(true, Deadlines::default());
    let (asked, unasked) = (table.block(0), table.block(1));
    table.other.send(unasked);
    table.wasted(unasked.length(), false);
    table.ask(&[asked]);
    table.other.send(unasked);
    table.other.send(asked);
    table.other.send(asked);
    table.wasted(unasked.length(), false);
    assert_eq!(table.laid(), asked);
    table.wasted(asked.length(), false);
    assert!(table.scratch.bytes() == table.scratch.expected(&[asked]));
    table.leave();
}

#[test]
fn a_revoked_block_is_cancelled_and_late_if_it_comes_all_the_same() {
    let mut table = Table::set(true, Deadlines::default());
    let block = table.block(0);
    table.ask(&[block]);
    table.tell(Command::Revoke(block));
    assert_eq!(table.returned(), block);
    table.other.expect(Message::Cancel(WireBlock::from(block)));
    table.other.send(block);
    table.wasted(block.length(), true);
    assert!(table.scratch.bytes() == table.scratch.expected(&[]));
    // Nothing to do for one that is not held.
    table.tell(Command::Revoke(block));
    table.leave();
}

#[test]
fn a_reject_that_answers_a_cancel_leaves_the_request_made_again_alone() {
    let mut table = Table::set(true, Deadlines::default());
    let block = table.block(0);
    table.ask(&[block]);
    table.tell(Command::Revoke(block));
    assert_eq!(table.returned(), block);
    table.other.expect(Message::Cancel(WireBlock::from(block)));
    table.ask(&[block]);
    table.other.say(Message::Reject(WireBlock::from(block)));
    table.other.send(block);
    // The table does not hear of it: it might take it for the answer to the new request.
    assert_eq!(table.laid(), block);
    table.leave();
}

#[test]
fn a_block_revoked_in_mid_payload_comes_home_at_once_and_the_stream_goes_on() {
    let mut table = Table::set(true, Deadlines::default());
    let blocks = [table.block(0), table.block(1)];
    table.ask(&blocks);
    table.other.say(Message::Have { piece: 1 });
    table.other.say(Message::Piece(WireBlock::from(blocks[0])));
    table
        .other
        .socket
        .write_all(&payload(blocks[0])[..1000])
        .unwrap();
    table.heard(Message::Have { piece: 1 });
    table.tell(Command::Revoke(blocks[0]));
    assert_eq!(table.returned(), blocks[0]);
    table
        .other
        .socket
        .write_all(&payload(blocks[0])[1000..])
        .unwrap();
    table.other.send(blocks[1]);
    table.wasted(blocks[0].length(), true);
    assert_eq!(table.laid(), blocks[1]);
    table.leave();
}

#[test]
fn a_choke_returns_the_slots_without_the_fast_extension_only() {
    let mut table = Table::set(false, Deadlines::default());
    let blocks = [table.block(0), table.block(1)];
    table.ask(&blocks);
    table.other.say(Message::Choke);
    assert_eq!([table.returned(), table.returned()], blocks);
    table.heard(Message::Choke);
    table.other.send(blocks[1]);
    table.wasted(blocks[1].length(), true);
    table.leave();

    let mut table = Table::set(true, Deadlines::default());
    table.ask(&blocks);
    table.other.say(Message::Choke);
    table.other.say(Message::Reject(WireBlock::from(blocks[0])));
    table.heard(Message::Choke);
    assert_eq!(table.returned(), blocks[0]);
    table.heard(Message::Reject(WireBlock::from(blocks[0])));
    table.other.send(blocks[1]);
    assert_eq!(table.laid(), blocks[1]);
    table.leave();
}

#[test]
fn a_request_that_crosses_a_choke_comes_home_where_it_would_never_be_answered() {
    let mut table = Table::set(false, Deadlines::default());
    let (first, second) = (table.block(0), table.block(1));
    table.other.say(Message::Choke);
    table.heard(Message::Choke);
    let slot = table.scratch.slot(first);
    table.tell(Command::Request(slot));
    table.tell(Command::RequestSpare(second));
    assert_eq!(table.returned(), first);
    table.other.say(Message::Unchoke);
    table.heard(Message::Unchoke);
    // Nothing was asked for meanwhile: this is the first request on the wire.
    table.ask(&[second]);
    table.leave();
}

#[test]
fn a_spare_is_held_and_settled_or_discarded() {
    let mut table = Table::set(true, Deadlines::default());
    let (first, second, third) = (table.block(0), table.block(1), table.block(2));
    for block in [first, second] {
        table.tell(Command::RequestSpare(block));
        table.other.expect(Message::Request(WireBlock::from(block)));
        table.other.send(block);
        assert!(matches!(table.next(), Happened::Held(held) if held == block));
    }
    assert!(table.scratch.bytes() == table.scratch.expected(&[]));
    let slot = table.scratch.slot(first);
    table.tell(Command::Settle(slot));
    assert_eq!(table.laid(), first);
    table.tell(Command::Discard(second));
    let slot = table.scratch.slot(second);
    table.tell(Command::Settle(slot));
    assert_eq!(table.returned(), second);

    // Discarded before it came: cancelled, and late if it comes.
    table.tell(Command::RequestSpare(third));
    table.other.expect(Message::Request(WireBlock::from(third)));
    table.tell(Command::Discard(third));
    table.other.expect(Message::Cancel(WireBlock::from(third)));
    table.other.send(third);
    table.wasted(third.length(), true);

    // Settled before it came: an ordinary request from then on.
    table.tell(Command::RequestSpare(third));
    table.other.expect(Message::Request(WireBlock::from(third)));
    let slot = table.scratch.slot(third);
    table.tell(Command::Settle(slot));
    table.other.send(third);
    assert_eq!(table.laid(), third);
    assert!(table.scratch.bytes() == table.scratch.expected(&[first, third]));
    table.leave();
}

#[test]
fn blocks_are_served_in_order_and_words_do_not_wait_for_them() {
    let mut table = Table::set(true, Deadlines::default());
    let blocks: Vec<Block> = (0..4).map(|number| table.block(number)).collect();
    std::fs::write(&table.scratch.path, table.scratch.expected(&blocks)).unwrap();
    let serves = blocks
        .iter()
        .map(|block| Command::Serve(table.scratch.source(*block)));
    let mut batch: Vec<Command> = serves.collect();
    batch.push(Command::Withhold(blocks[2]));
    batch.push(Command::Say(Message::Have { piece: 1 }));
    table.line.send(batch).unwrap();
    table
        .other
        .expect(Message::Reject(WireBlock::from(blocks[2])));
    table.other.expect(Message::Have { piece: 1 });
    for block in [blocks[0], blocks[1], blocks[3]] {
        table.other.expect(Message::Piece(WireBlock::from(block)));
        assert!(table.other.read(block.length() as usize) == payload(block));
        assert!(matches!(table.next(), Happened::Served(served) if served == block));
    }
    table.leave();
}

#[test]
fn a_block_with_padding_is_served_with_zeros() {
    let mut table = Table::set(true, Deadlines::default());
    let block = table.block(1);
    std::fs::write(&table.scratch.path, table.scratch.expected(&[block])).unwrap();
    let places = table.scratch.places_with_padding(block, 1000);
    table.tell(Command::Serve(crate::storage::slot::ReadableBlock {
        block,
        places,
    }));
    table.other.expect(Message::Piece(WireBlock::from(block)));
    let mut expected = payload(block);
    expected[5..1005].fill(0);
    assert!(table.other.read(block.length() as usize) == expected);
    table.leave();
}

#[test]
fn many_blocks_are_served_whole_and_in_order_wherever_they_lie() {
    for lead in [0, 777] {
        let mut table = Table::set(true, Deadlines::default());
        let scratch = ScratchFile::new(geometry(), lead);
        let mut all: Vec<Block> = geometry()
            .all_pieces()
            .flat_map(|piece| geometry().blocks(piece))
            .collect();
        std::fs::write(&scratch.path, scratch.expected(&all)).unwrap();
        // So many that several go at once.
        all = [&all[..], &all[..]].concat();
        let mut batch = Vec::new();
        for (number, block) in all.iter().enumerate() {
            let mut source = scratch.source(*block);
            if number == 7 {
                source.places = scratch.places_with_padding(*block, 1000);
            }
            batch.push(Command::Serve(source));
        }
        table.line.send(batch).unwrap();
        for (number, block) in all.into_iter().enumerate() {
            table.other.expect(Message::Piece(WireBlock::from(block)));
            let mut expected = payload(block);
            if number == 7 {
                expected[5..1005].fill(0);
            }
            assert!(table.other.read(block.length() as usize) == expected);
            assert!(matches!(table.next(), Happened::Served(served) if served == block));
        }
        table.leave();
    }
}

#[test]
fn to_who_reads_fast_more_may_lie_unsent() {
    let (mut table, socket, blocks) = much_is_due(Metered::default());
    let socket = socket2::SockRef::from(&socket);
    let begin = socket.tcp_notsent_lowat().unwrap();
    let mut reader = table.other.socket.try_clone().unwrap();
    let reader = thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    std::fs::write(&table.scratch.path, table.scratch.expected(&blocks)).unwrap();
    let end = Instant::now() + PATIENCE;
    while socket.tcp_notsent_lowat().unwrap() <= begin {
        assert!(Instant::now() < end, "{begin} is still the limit");
        let sources = blocks.iter().map(|block| table.scratch.source(*block));
        let batch = sources.map(Command::Serve).collect();
        table.line.send(batch).unwrap();
        for block in &blocks {
            let served = table.next();
            assert!(matches!(served, Happened::Served(it) if it == *block));
        }
    }
    table.leave();
    // A reset is an end too.
    let _ = reader.join().unwrap();
}

#[test]
fn a_file_cut_short_among_many_blocks_costs_those_behind_the_cut() {
    let mut table = Table::set(true, Deadlines::default());
    let blocks: Vec<Block> = (0..4).map(|number| table.block(number)).collect();
    let scratch = ScratchFile::new(geometry(), 0);
    std::fs::write(&scratch.path, scratch.expected(&blocks)).unwrap();
    scratch.truncate(2 * 16_384 + 1);
    let source = |block: &Block| Command::Serve(scratch.source(*block));
    // So many that several go at once.
    let more = blocks[..2].repeat(15);
    let batch = blocks.iter().chain(&more).map(source).collect();
    table.line.send(batch).unwrap();
    let served = |table: &mut Table, block: Block| {
        table.other.expect(Message::Piece(WireBlock::from(block)));
        assert!(table.other.read(block.length() as usize) == payload(block));
        assert!(matches!(table.next(), Happened::Served(served) if served == block));
    };
    served(&mut table, blocks[0]);
    served(&mut table, blocks[1]);
    for block in &blocks[2..] {
        assert!(matches!(table.next(), Happened::Failed(_)));
        assert!(matches!(table.next(), Happened::Unserved(unserved) if unserved == *block));
        table.other.expect(Message::Reject(WireBlock::from(*block)));
    }
    for block in more {
        served(&mut table, block);
    }
    table.leave();
}

#[test]
fn what_a_full_socket_did_not_take_can_still_be_withheld() {
    const BLOCKS: usize = 600;
    let mut table = Table::set(true, Deadlines::default());
    let blocks: Vec<Block> = (0..4).map(|number| table.block(number)).collect();
    std::fs::write(&table.scratch.path, table.scratch.expected(&blocks)).unwrap();
    let last = blocks[3];
    let source = |block| Command::Serve(table.scratch.source(block));
    let mut batch: Vec<Command> = (1..BLOCKS).map(|it| source(blocks[it % 3])).collect();
    batch.push(source(last));
    table.line.send(batch).unwrap();
    let mut first = table.other.read(5);
    // They are on their way, and there are more of them than a connection swallows.
    table.tell(Command::Withhold(last));
    let inbox = table.inbox.clone();
    let told = std::thread::spawn(move || {
        let mut served = 0;
        while served < BLOCKS - 1 {
            let report = inbox.recv_timeout(PATIENCE).expect("more are served");
            let blocks = report.batch.iter();
            served += blocks
                .filter(|told| matches!(told, Happened::Served(_)))
                .count();
        }
        served
    });
    let (mut came, mut rejected) = (0, 0);
    while (came, rejected) != (BLOCKS - 1, 1) {
        let head = match first.is_empty() {
            true => table.other.read(5),
            false => std::mem::take(&mut first),
        };
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let body = table.other.read(length - 1);
        if head[4] == 7 {
            came += 1;
            assert!(body[8..] == payload(blocks[came % 3]));
        } else {
            let mut reject = Vec::new();
            Message::Reject(WireBlock::from(last)).encode(&mut reject);
            assert_eq!([head, body].concat(), reject);
            rejected += 1;
        }
    }
    assert_eq!(told.join().unwrap(), BLOCKS - 1);
    table.leave();
}

#[test]
fn a_file_too_short_to_serve_from_is_our_fault_and_nothing_is_made_up() {
    let mut table = Table::set(true, Deadlines::default());
    table.scratch.truncate(1000);
    let block = table.block(0);
    table.tell(Command::Serve(table.scratch.source(block)));
    match table.next() {
        Happened::Failed(error) => assert_eq!(error.kind, StorageTrouble::Vanished),
        other => panic!("{other:?} instead of Failed"),
    }
    assert!(matches!(table.next(), Happened::Unserved(unserved) if unserved == block));
    table.other.expect(Message::Reject(WireBlock::from(block)));
    table.leave();
}

#[test]
fn a_file_cut_short_under_a_download_is_an_error_and_the_slot_comes_home() {
    let mut table = Table::set(true, Deadlines::default());
    let blocks = [table.block(1), table.block(2)];
    table.ask(&blocks);
    table.scratch.truncate(1000);
    table.other.send(blocks[0]);
    match table.next() {
        Happened::Failed(error) => assert_eq!(error.kind, StorageTrouble::Vanished),
        other => panic!("{other:?} instead of Failed"),
    }
    assert_eq!(table.returned(), blocks[0]);
    table.wasted(blocks[0].length(), true);
    table.other.say(Message::Unchoke);
    table.heard(Message::Unchoke);
    assert_eq!(std::fs::metadata(&table.scratch.path).unwrap().len(), 1000);
    table.leave();
}

#[test]
fn two_of_us_that_upload_to_each_other_do_not_lock() {
    const BLOCKS: usize = 600;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (mine, my_inbox) = surroundings(Deadlines::default());
    let (yours, your_inbox) = surroundings(Deadlines::default());
    let dialled = dial(PeerKey(1), address, None, introduction(), mine).unwrap();
    let (stream, from) = listener.accept().unwrap();
    let answered = answer(PeerKey(2), stream, from, yours).unwrap();
    let you = Introduction {
        id: THEIRS,
        ..introduction()
    };
    answered.send(vec![Command::Admit(you)]).unwrap();
    let scratch = ScratchFile::new(geometry(), 0);
    let block = scratch.block(0, 0);
    for line in [&dialled, &answered] {
        // About 10 MiB each way, twice what a loopback connection swallows.
        let serves = (0..BLOCKS).map(|_| Command::Serve(scratch.source(block)));
        line.send(serves.collect()).unwrap();
    }
    let count = |inbox: &Receiver<Report>| {
        let (mut served, mut came) = (0, 0);
        while (served, came) != (BLOCKS, BLOCKS) {
            let report = inbox.recv_timeout(PATIENCE).expect("they are locked");
            for happened in report.batch {
                match happened {
                    Happened::Served(_) => served += 1,
                    Happened::Wasted { .. } => came += 1,
                    _ => {}
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| count(&my_inbox));
        scope.spawn(|| count(&your_inbox));
    });
}

#[test]
fn a_panic_is_a_lost_peer_and_its_slots_come_home() {
    let (surroundings, inbox) = surroundings(Deadlines::default());
    let mut scratch = ScratchFile::new(geometry(), 0);
    let blocks = [scratch.block(0, 0), scratch.block(0, 1)];
    let held = scratch.slot(blocks[0]);
    let line = start(PeerKey(9), surroundings, move |_, kit| {
        kit.landing.hold(held);
        panic!("on purpose")
    })
    .unwrap();
    let unread = scratch.slot(blocks[1]);
    line.send(vec![Command::Request(unread)]).unwrap();
    let report = inbox.recv_timeout(PATIENCE).unwrap();
    assert!(matches!(
        report.batch.last(),
        Some(Happened::Gone(Farewell::Panicked))
    ));
    let home = report
        .batch
        .into_iter()
        .filter_map(|happened| match happened {
            Happened::Returned(slot) => Some(slot),
            _ => None,
        });
    // Read before the end or not: both ways it is home.
    let mut home: Vec<Block> = home.chain(line.close()).map(|slot| slot.block()).collect();
    home.sort_unstable();
    assert_eq!(home, blocks);
}

#[test]
fn a_thread_that_leaves_its_commands_unread_is_stuck_and_can_still_be_ended() {
    let (line, mut mailbox) = mailbox::open().unwrap();
    let mut scratch = ScratchFile::new(geometry(), 0);
    for _ in 0..mailbox::UNREAD_MAX {
        line.send(vec![Command::Say(Message::KeepAlive)]).unwrap();
    }
    let block = scratch.block(0, 0);
    let refused = line
        .send(vec![Command::Request(scratch.slot(block))])
        .unwrap_err();
    assert_eq!(refused.into_slots().len(), 1);
    line.hang_up(Farewell::Stuck);
    mailbox.collect(true);
    let hang_up = |command: &Command| matches!(command, Command::HangUp(_));
    assert!(mailbox.pick(hang_up).is_some());
}

const UP: Metered = Metered {
    up: true,
    down: false,
};
const DOWN: Metered = Metered {
    up: false,
    down: true,
};
/// What the first grant pays before anything else.
const HANDSHAKE: u64 = 68;

#[test]
fn no_more_is_sent_than_was_granted_wherever_a_grant_ends() {
    for grant in [1, 13, 100, 5000, 40_000] {
        let mut table = Table::limited(true, Deadlines::default(), UP);
        let blocks = [table.block(0), table.block(1)];
        std::fs::write(&table.scratch.path, table.scratch.expected(&blocks)).unwrap();
        let mut expected = Vec::new();
        for block in blocks {
            Message::Piece(WireBlock::from(block)).encode(&mut expected);
            expected.extend(payload(block));
        }
        let sources = blocks.map(|block| Command::Serve(table.scratch.source(block)));
        table.line.send(sources.into()).unwrap();
        let (mut sent, mut served) = (Vec::new(), Vec::new());
        // A grant of a byte is for the head and the first of the payload; the rest comes at once.
        let mut next = grant + HANDSHAKE;
        while sent.len() < expected.len() {
            match table.next() {
                Happened::Wants {
                    flow: Flow::Up,
                    bytes,
                } => {
                    assert_eq!(bytes, (expected.len() - sent.len()) as u64);
                }
                Happened::Served(block) => {
                    served.push(block);
                    continue;
                }
                other => panic!("{other:?}"),
            }
            table.grant(Flow::Up, next);
            let most = (next - if sent.is_empty() { HANDSHAKE } else { 0 }) as usize;
            sent.extend(table.other.read(most.min(expected.len() - sent.len())));
            next = if grant == 1 && sent.len() > 100 {
                10_000
            } else {
                grant
            };
        }
        assert!(sent == expected, "grants of {grant}");
        // Nothing more than what was granted may have come.
        table.leave_after(|told| matches!(told, Happened::Served(_) | Happened::Unused { .. }));
    }
}

#[test]
fn no_more_is_read_than_was_granted_wherever_a_grant_ends() {
    for grant in [1, 13, 100, 5000, 16_400, 40_000] {
        let mut table = Table::limited(true, Deadlines::default(), DOWN);
        let blocks = [table.block(0), table.block(1), table.scratch.block(3, 0)];
        table.ask(&blocks);
        let mut ends = Vec::new();
        let mut length = 0;
        for block in blocks {
            table.other.say(Message::Have { piece: 2 });
            table.other.send(block);
            length += 9 + 13 + u64::from(block.length());
            ends.push(length);
        }
        let (mut granted, mut laid) = (0, Vec::new());
        let mut next = grant + HANDSHAKE;
        while laid.len() < blocks.len() {
            match table.next() {
                Happened::Wants {
                    flow: Flow::Down,
                    bytes: 0,
                } => {
                    table.grant(Flow::Down, next);
                    granted += next;
                    next = if grant == 1 && granted > 200 {
                        10_000
                    } else {
                        grant
                    };
                }
                Happened::Said(said) => assert_eq!(said, Message::Have { piece: 2 }),
                Happened::Laid(slot) => {
                    assert!(granted - HANDSHAKE >= ends[laid.len()], "grants of {grant}");
                    laid.push(table.scratch.book.laid(slot));
                }
                Happened::Unused { bytes, .. } => granted -= bytes,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(laid, blocks);
        assert!(table.scratch.bytes() == table.scratch.expected(&blocks));
        table.leave_after(|told| matches!(told, Happened::Wants { .. } | Happened::Unused { .. }));
    }
}

#[test]
fn a_grant_that_nobody_needs_comes_back() {
    let mut table = Table::limited(true, Deadlines::default(), DOWN);
    table.other.say(Message::KeepAlive);
    table.wants(Flow::Down);
    table.grant(Flow::Down, HANDSHAKE + 1000);
    table.heard(Message::KeepAlive);
    match table.next() {
        Happened::Unused {
            flow: Flow::Down,
            bytes,
        } => assert_eq!(bytes, 996),
        other => panic!("{other:?}"),
    }
    // What comes later needs another one.
    table.other.say(Message::Unchoke);
    table.wants(Flow::Down);
    table.grant(Flow::Down, 5);
    table.heard(Message::Unchoke);
    table.leave_after(|told| matches!(told, Happened::Wants { .. } | Happened::Unused { .. }));
}

#[test]
fn who_waits_for_our_grants_is_not_called_slow() {
    // The deadline for silence is 150 ms: the peer waits for us for three times as long.
    let mut table = Table::limited(true, quick(), DOWN);
    table.other.say(Message::Unchoke);
    table.wants(Flow::Down);
    // The other end of time is a second thread's silence: a peer that is listened to and says nothing.
    let mut silent = Table::set(true, quick());
    for _ in 0..3 {
        let why = silent.gone().1;
        assert_eq!(why, Farewell::TooSlow(Slowness::Speak));
        silent = Table::set(true, quick());
    }
    table.grant(Flow::Down, HANDSHAKE + 5);
    table.heard(Message::Unchoke);
}

#[test]
fn a_peer_that_leaves_while_it_waits_for_a_grant_is_noticed() {
    let mut table = Table::limited(true, Deadlines::default(), DOWN);
    table.other.say(Message::Unchoke);
    table.wants(Flow::Down);
    // A reset: linger 0.
    let socket = socket2::SockRef::from(&table.other.socket);
    socket.set_linger(Some(Duration::ZERO)).unwrap();
    table.other.socket = TcpStream::connect(listening().local_addr().unwrap()).unwrap();
    assert!(matches!(table.gone().1, Farewell::Broken(_)));
}

fn listening() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}
