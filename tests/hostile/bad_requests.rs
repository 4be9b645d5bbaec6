//! Requests that make no sense, come too early, or come by the hundred thousand.

use crate::fake_peer::{FAST, Line, PLAIN, calls, id, leech, listens, message, seeds, triple};
use crate::gate::Gate;
use crate::run::{PATIENCE, Room, Run};
use crate::torrent::Torrent;
use std::fs;
use std::net::SocketAddr;
use std::time::Duration;

const PIECE: u32 = 65_536;

fn torrent() -> Torrent {
    Torrent::file(b"data", 40 * PIECE as usize - 77, PIECE as usize)
}

fn seeding(room: &Room, torrent: &Torrent) -> (Run, SocketAddr) {
    fs::write(room.down().join("data"), &torrent.content).unwrap();
    let mut run = room.seed(torrent).start();
    let port = run.port();
    // Callers are taken once the data is checked.
    run.event("says that all is here", |event| {
        event["event"] == "complete"
    });
    (run, port)
}

/// After all that: an honest leecher gets everything, and a signal ends it in order.
fn still_serves(run: &mut Run, port: SocketAddr, torrent: &Torrent) {
    let honest = {
        let torrent = torrent.clone();
        calls(port, move |line| {
            line.patience(PATIENCE);
            line.greet(&torrent, PLAIN);
            leech(line, &torrent)
        })
    };
    let content = honest.end("the honest leecher");
    assert!(
        content == torrent.content[..],
        "the seed served wrong bytes"
    );
    run.memory_is_flat();
    run.interrupt();
    run.succeeds();
}

/// Listens until the seed hangs up or refuses; fails if it is given a block.
fn is_given_nothing(line: &mut Line, refused: usize) {
    let mut left = refused;
    while let Some(heard) = line.hear() {
        assert_ne!(heard.id, Some(id::PIECE), "the seed served it");
        if heard.id == Some(id::REJECT) {
            left -= 1;
            if left == 0 {
                return;
            }
        }
    }
}

#[test]
fn a_request_that_makes_no_sense_is_never_served() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port) = seeding(&room, &torrent);
    let pieces = torrent.pieces() as u32;
    let odd = [
        (pieces, 0, 16_384),
        (u32::MAX, 0, 16_384),
        (0, PIECE, 16_384),
        (0, PIECE - 1, 2),
        (0, u32::MAX, 1),
        (0, u32::MAX, u32::MAX),
        (0, u32::MAX - 16_383, 16_384),
        (0, 0, 0),
        (0, 0, u32::MAX),
        (0, 0, (128 << 10) + 1),
        (0, 0, 1 << 31),
        (pieces - 1, PIECE - 77, 1),
        (pieces - 1, 0, PIECE),
    ];
    for reserved in [PLAIN, FAST] {
        for (index, begin, length) in odd {
            let torrent = torrent.clone();
            let story = calls(port, move |line| {
                line.greet(&torrent, reserved);
                line.tell(id::INTERESTED, &[]);
                line.hear_of(id::UNCHOKE);
                line.tell(id::REQUEST, &triple(index, begin, length));
                is_given_nothing(line, 1);
            });
            story.end(&format!("{index} {begin} {length}"));
        }
    }
    still_serves(&mut run, port, &torrent);
}

#[test]
fn a_request_while_choked_is_never_served() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port) = seeding(&room, &torrent);
    let early = {
        let torrent = torrent.clone();
        calls(port, move |line| {
            line.greet(&torrent, PLAIN);
            // Without interest nobody is ever unchoked; a thousand at most go unanswered.
            for _ in 0..20_000 {
                line.tell(id::REQUEST, &triple(3, 0, 16_384));
            }
            is_given_nothing(line, 0);
        })
    };
    early.end("the impatient leecher");
    still_serves(&mut run, port, &torrent);
}

#[test]
fn a_piece_that_is_not_here_is_never_served() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let mut here = vec![0; torrent.content.len()];
    let first = PIECE as usize;
    here[..first].copy_from_slice(&torrent.content[..first]);
    fs::write(room.down().join("data"), here).unwrap();
    let curious = {
        let torrent = torrent.clone();
        listens(move |line| {
            line.greet(&torrent, FAST);
            line.tell(id::HAVE_NONE, &[]);
            line.tell(id::INTERESTED, &[]);
            line.hear_of(id::UNCHOKE);
            for index in 1..5 {
                line.tell(id::REQUEST, &triple(index, 0, 16_384));
            }
            is_given_nothing(line, 4);
        })
    };
    let honest = seeds(&torrent, gate.queue());
    let mut order = room.get(&torrent);
    let mut run = order.peer(curious.address).peer(honest).start();
    curious.end("the curious peer");
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_hundred_thousand_requests_at_once_take_no_memory() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port) = seeding(&room, &torrent);
    for reserved in [PLAIN, FAST] {
        let greedy = {
            let torrent = torrent.clone();
            calls(port, move |line| {
                line.greet(&torrent, reserved);
                line.tell(id::INTERESTED, &[]);
                line.hear_of(id::UNCHOKE);
                let some: Vec<u8> = torrent
                    .requests()
                    .iter()
                    .take(100)
                    .flat_map(|it| message(id::REQUEST, &triple(it.0, it.1, it.2)))
                    .collect();
                // Reads meanwhile: what it gets is its business.
                let mut reader = Line::new(line.stream.try_clone().unwrap());
                let reading =
                    std::thread::spawn(move || while reader.read(&mut [0; 65_536]) > 0 {});
                let all = (0..1_000).all(|_| line.say(&some));
                let _ = line.stream.shutdown(std::net::Shutdown::Both);
                reading.join().unwrap();
                all
            })
        };
        greedy.end("the greedy leecher");
        run.memory_is_flat();
    }
    still_serves(&mut run, port, &torrent);
}

#[test]
fn requests_and_cancels_in_a_flood_take_no_memory() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port) = seeding(&room, &torrent);
    let torn = {
        let torrent = torrent.clone();
        calls(port, move |line| {
            line.greet(&torrent, FAST);
            line.tell(id::INTERESTED, &[]);
            line.hear_of(id::UNCHOKE);
            let both = [
                message(id::REQUEST, &triple(1, 0, 16_384)),
                message(id::CANCEL, &triple(1, 0, 16_384)),
            ];
            let both = both.concat().repeat(100);
            let mut reader = Line::new(line.stream.try_clone().unwrap());
            let reading = std::thread::spawn(move || while reader.read(&mut [0; 65_536]) > 0 {});
            let _ = (0..1_000).all(|_| line.say(&both));
            let _ = line.stream.shutdown(std::net::Shutdown::Both);
            reading.join().unwrap();
        })
    };
    torn.end("the torn leecher");
    still_serves(&mut run, port, &torrent);
}

#[test]
fn peers_that_ask_for_everything_and_read_nothing_take_no_memory_and_nobodys_turn() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port) = seeding(&room, &torrent);
    let gate = Gate::closed();
    let mut deaf = Vec::new();
    for _ in 0..3 {
        let (torrent, queue) = (torrent.clone(), gate.queue());
        deaf.push(calls(port, move |line| {
            line.greet(&torrent, PLAIN);
            line.tell(id::INTERESTED, &[]);
            line.hear_of(id::UNCHOKE);
            for (index, begin, length) in torrent.requests() {
                line.tell(id::REQUEST, &triple(index, begin, length));
            }
            queue.pass();
        }));
    }
    still_serves(&mut run, port, &torrent);
    gate.open();
    for story in deaf {
        story.end("a deaf peer");
    }
}

#[test]
#[ignore = "takes a minute and a half"]
fn a_peer_that_never_reads_is_hung_up_on() {
    let torrent = Torrent::file(b"data", 400 * PIECE as usize, PIECE as usize);
    let room = Room::new();
    let (mut run, port) = seeding(&room, &torrent);
    let gate = Gate::closed();
    let deaf = {
        let (torrent, queue) = (torrent.clone(), gate.queue());
        calls(port, move |line| {
            socket2::SockRef::from(&line.stream)
                .set_recv_buffer_size(4_096)
                .unwrap();
            line.greet(&torrent, PLAIN);
            line.tell(id::INTERESTED, &[]);
            line.hear_of(id::UNCHOKE);
            for (index, begin, length) in torrent.requests() {
                line.tell(id::REQUEST, &triple(index, begin, length));
            }
            queue.pass();
        })
    };
    // What was sent stands in the way of any sign on the line itself.
    run.patience = Duration::from_secs(100);
    let why = run.farewell(deaf.address);
    assert_eq!(why, "took too long to read what we send");
    gate.open();
    deaf.end("the deaf peer");
    still_serves(&mut run, port, &torrent);
}
