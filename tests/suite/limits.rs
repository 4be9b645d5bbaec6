//! `--up` and `--down`: bytes are counted at the other end, by a peer that would take and give as much as it can.
//!
//! A limit is an upper bound, so a slow machine cannot break these tests: after a time `t` no more than
//! `rate * (t + 0.2 s)` may have passed, however long `t` was.

use crate::desk::{Desk, noise, single};
use ropewalk::protocol::InfoHash;
use ropewalk::protocol::bitfield::Bitfield;
use ropewalk::protocol::metainfo::Metainfo;
use ropewalk::protocol::peer::{Handshake, Message, PeerId, WireBlock};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

const RATE: u64 = 200 * 1024;

/// What may pass at once, and what the test cannot tell apart from it.
const BURST: u64 = RATE / 5 + 1024;

const LENGTH: usize = 300 * 1024;

const LOOPBACK: [&str; 4] = ["--bind", "127.0.0.1", "--port", "0"];

fn put_down(desk: &Desk) -> (Vec<u8>, InfoHash) {
    let bytes = noise(5, LENGTH);
    let torrent = single("f.bin", &bytes, 16384).compose();
    desk.write("f.torrent", &torrent);
    desk.write("data/f.bin", &bytes);
    (bytes, Metainfo::from_bytes(&torrent).unwrap().info_hash)
}

/// A peer by hand: greets, says one more thing.
fn greet(mut socket: TcpStream, info_hash: InfoHash, first: &Message) -> TcpStream {
    socket
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let mut id = *b"-XX0100-limitedpeer0";
    id[18..].copy_from_slice(&socket.local_addr().unwrap().port().to_be_bytes());
    let mut theirs = Handshake::new(info_hash, PeerId(id));
    theirs.reserved = [0; 8];
    let mut bytes = theirs.encode().to_vec();
    first.encode(&mut bytes);
    socket.write_all(&bytes).unwrap();
    socket
}

fn request(number: u32) -> Message {
    Message::Request(WireBlock {
        piece: number,
        begin: 0,
        length: if number as usize == LENGTH / 16384 {
            (LENGTH % 16384) as u32
        } else {
            16384
        },
    })
}

#[test]
fn a_seed_sends_no_more_than_its_limit_to_several_peers_together() {
    let desk = Desk::new();
    let (_, info_hash) = put_down(&desk);
    let mut words = vec!["seed", "--json", "--up", "200K", "f.torrent", "data"];
    words.extend(LOOPBACK);
    let mut seed = desk.start(&words);
    let port = seed.wait_for("listening")["port"].as_u64().unwrap() as u16;
    seed.wait_for("progress");
    let began = Instant::now();
    let (counts, counted) = crossbeam_channel::unbounded();
    for _ in 0..3 {
        let socket = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let counts = counts.clone();
        std::thread::spawn(move || {
            let mut socket = greet(socket, info_hash, &Message::Interested);
            let count = |socket: &mut TcpStream, length: usize| {
                let mut bytes = vec![0; length];
                socket.read_exact(&mut bytes).ok()?;
                // Counted when it has come: the time is at least as long as it took.
                counts.send((length as u64, Instant::now())).ok()?;
                Some(bytes)
            };
            count(&mut socket, 68).unwrap();
            while let Some(head) = count(&mut socket, 4) {
                let length = u32::from_be_bytes(head.try_into().unwrap());
                let Some(message) = count(&mut socket, length as usize) else {
                    return;
                };
                if message.first() == Some(&1) {
                    let mut bytes = Vec::new();
                    (0..18).for_each(|number| request(number).encode(&mut bytes));
                    socket.write_all(&bytes).unwrap();
                }
            }
        });
    }
    drop(counts);
    let mut total = 0;
    // Three peers' blocks: enough that a seed without a limit would be found out at once.
    while total < 2 * LENGTH as u64 {
        let (got, at) = counted.recv_timeout(Duration::from_secs(60)).unwrap();
        total += got;
        let most = (RATE as f64 * (at - began).as_secs_f64()) as u64 + BURST;
        assert!(total <= most, "{total} bytes where {most} were allowed");
    }
}

#[test]
fn a_get_reads_no_more_than_its_limit_and_asks_for_little_ahead() {
    let desk = Desk::new();
    let (bytes, info_hash) = put_down(&desk);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut words = vec![
        "get",
        "-e",
        "--json",
        "--down",
        "20K",
        "-o",
        "copy",
        "--peer",
        &address,
        "f.torrent",
    ];
    words.extend(LOOPBACK);
    let mut run = desk.start(&words);
    let mut socket = greet(listener.accept().unwrap().0, info_hash, &Message::Unchoke);
    let geometry = ropewalk::protocol::Geometry::new(LENGTH as u64, 16384).unwrap();
    let mut all = Vec::new();
    Message::Bitfield(Bitfield::full(&geometry).as_bytes().into()).encode(&mut all);
    socket.write_all(&all).unwrap();
    // Answers everything at once, and counts what was asked for before anything was answered.
    let mut heard = vec![0; 68];
    socket.read_exact(&mut heard).unwrap();
    let mut first = None;
    let began = Instant::now();
    let mut sent = 0;
    while sent < LENGTH / 2 {
        let mut head = [0; 4];
        socket.read_exact(&mut head).unwrap();
        let mut rest = vec![0; u32::from_be_bytes(head) as usize];
        socket.read_exact(&mut rest).unwrap();
        if rest.first() != Some(&6) {
            continue;
        }
        let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap());
        let (piece, begin, length) = (number(1), number(5), number(9));
        first.get_or_insert(piece);
        let from = piece as usize * 16384 + begin as usize;
        let mut answer = Vec::new();
        Message::Piece(WireBlock {
            piece,
            begin,
            length,
        })
        .encode(&mut answer);
        answer.extend(&bytes[from..from + length as usize]);
        socket.write_all(&answer).unwrap();
        sent += length as usize;
        // What was asked for can be no more than what was read and five seconds' worth.
        let rate = 20.0 * 1024.0;
        let read = rate * (began.elapsed().as_secs_f64() + 0.2);
        let most = read + 5.0 * rate + 16384.0;
        assert!(
            sent as f64 <= most,
            "{sent} bytes were asked for where {most} make sense"
        );
    }
    drop(socket);
    run.signal(rustix::process::Signal::INT);
    let stopped = run.wait_for("stopped");
    let (had, elapsed) = (
        stopped["downloaded"].as_f64().unwrap(),
        stopped["elapsed"].as_f64().unwrap(),
    );
    assert!(had <= 20.0 * 1024.0 * (elapsed + 0.2), "{stopped}");
    assert!(had > 0.0, "{stopped}");
    assert_eq!(run.end().code(), Some(130));
}

#[test]
fn rates_that_are_none_are_wrong_usage() {
    let desk = Desk::new();
    put_down(&desk);
    for words in [
        ["--up", "fast"],
        ["--down", "-5"],
        ["--up", "1.5"],
        ["--down", ""],
    ] {
        let outcome = desk
            .run(&["get", words[0], words[1], "f.torrent"])
            .expect(1);
        assert!(outcome.err.contains(words[0]), "{}", outcome.err);
        assert!(outcome.err.contains("powers of 1024"), "{}", outcome.err);
    }
}
