//! Who calls: silent ones by the hundred, the same one twice. A real peer still gets in.

use crate::fake_peer::{
    Line, PLAIN, calls, companion, greeting, greeting_of, id, leech, seeds_calling,
};
use crate::gate::{Gate, Waiting};
use crate::run::{Room, Run};
use crate::torrent::Torrent;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long is waited for what must happen.
const PATIENCE: Duration = Duration::from_secs(60);

fn torrent() -> Torrent {
    Torrent::file(b"data", 300_000, 32_768)
}

/// A process that is kept waiting by a companion, and its port.
fn waiting(room: &Room, torrent: &Torrent, files_max: Option<u32>) -> (Run, SocketAddr, Gate) {
    let gate = Gate::closed();
    let company = companion(torrent, gate.queue());
    let mut order = room.get(torrent);
    if let Some(files) = files_max {
        order.files_max(files);
    }
    let mut run = order.peer(company.address).start();
    run.event("says that the companion came", |event| {
        event["event"] == "peer" && event["state"] == "joined"
    });
    let port = run.port();
    (run, port, gate)
}

fn a_real_peer_gets_in(run: &mut Run, port: SocketAddr, room: &Room, torrent: &Torrent) {
    seeds_calling(port, torrent, Waiting::not());
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

fn has_joined(run: &mut Run, peer: SocketAddr) {
    let peer = peer.to_string();
    run.event("says that the peer came", |event| {
        event["state"] == "joined" && event["address"] == peer
    });
}

#[test]
fn hundreds_of_silent_callers_do_not_keep_a_real_peer_out() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port, _gate) = waiting(&room, &torrent, None);
    let silent: Vec<_> = (0..300)
        .map(|_| TcpStream::connect(port).unwrap())
        .collect();
    a_real_peer_gets_in(&mut run, port, &room, &torrent);
    drop(silent);
}

#[test]
fn silent_callers_do_not_use_up_the_open_files() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port, _gate) = waiting(&room, &torrent, Some(64));
    let silent: Vec<_> = (0..200)
        .map(|_| TcpStream::connect(port).unwrap())
        .collect();
    a_real_peer_gets_in(&mut run, port, &room, &torrent);
    drop(silent);
}

#[test]
fn silent_callers_take_no_place_from_those_who_speak() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let company = [0; 3].map(|_| companion(&torrent, gate.queue()));
    let mut order = room.get(&torrent);
    for peer in &company {
        order.peer(peer.address);
    }
    let mut run = order.args(["--max-peers", "8"]).start();
    for peer in &company {
        has_joined(&mut run, peer.address);
    }
    let port = run.port();
    let silent: Vec<_> = (0..20).map(|_| TcpStream::connect(port).unwrap()).collect();
    a_real_peer_gets_in(&mut run, port, &room, &torrent);
    drop(silent);
    gate.open();
}

#[test]
fn callers_that_want_something_and_never_ask_make_room_for_one_who_does() {
    let torrent = torrent();
    let room = Room::new();
    fs::write(room.down().join("data"), &torrent.content).unwrap();
    let mut order = room.seed(&torrent);
    let mut run = order.args(["--max-peers", "4"]).start();
    let port = run.port();
    run.event("says that all is here", |event| {
        event["event"] == "complete"
    });
    let gate = Gate::closed();
    for _ in 0..4 {
        let (torrent, queue) = (torrent.clone(), gate.queue());
        let stranger = calls(port, move |line| {
            line.greet(&torrent, PLAIN);
            line.tell(id::INTERESTED, &[]);
            line.stays_open_until(&queue)
        });
        has_joined(&mut run, stranger.address);
    }
    let deadline = Instant::now() + PATIENCE;
    let mut line = loop {
        let mut line = Line::new(TcpStream::connect(port).unwrap());
        line.say(&greeting(torrent.info_hash(), PLAIN));
        if line.their_greeting().is_some() {
            break line;
        }
        assert!(Instant::now() < deadline, "nobody made room");
        sleep(Duration::from_millis(100));
    };
    line.patience(PATIENCE);
    assert!(leech(&mut line, &torrent) == torrent.content[..]);
    gate.open();
    run.interrupt();
    run.succeeds();
}

#[test]
fn callers_that_hang_up_at_once_do_not_stop_the_listener() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port, _gate) = waiting(&room, &torrent, None);
    for n in 0..500 {
        let socket = TcpStream::connect(port).unwrap();
        if n % 2 == 0 {
            let reset = Some(std::time::Duration::ZERO);
            socket2::SockRef::from(&socket).set_linger(reset).unwrap();
        }
    }
    run.memory_is_flat();
    a_real_peer_gets_in(&mut run, port, &room, &torrent);
}

#[test]
fn a_caller_with_the_id_of_one_who_is_here_is_hung_up_on() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port, _gate) = waiting(&room, &torrent, None);
    let first_gate = Gate::closed();
    let twin = |queue: Waiting| {
        let torrent = torrent.clone();
        calls(port, move |line| {
            let who = b"-FK0001-the same one";
            line.say(&greeting_of(torrent.info_hash(), PLAIN, who));
            if line.their_greeting().is_none() {
                return false;
            }
            line.tell(id::BITFIELD, &[0; 2]);
            line.stays_open_until(&queue)
        })
    };
    let first = twin(first_gate.queue());
    has_joined(&mut run, first.address);
    let second_gate = Gate::closed();
    let second = twin(second_gate.queue());
    assert!(!second.end("the second twin"), "both twins were let in");
    first_gate.open();
    assert!(first.end("the first twin"), "the first twin was hung up on");
    a_real_peer_gets_in(&mut run, port, &room, &torrent);
    second_gate.open();
}

#[test]
fn callers_for_another_torrent_are_hung_up_on() {
    let torrent = torrent();
    let room = Room::new();
    let (mut run, port, _gate) = waiting(&room, &torrent, None);
    let lost = calls(port, |line| {
        line.say(&greeting([7; 20], PLAIN));
        line.until_closed();
    });
    lost.end("the lost caller");
    a_real_peer_gets_in(&mut run, port, &room, &torrent);
}

#[test]
fn more_callers_than_there_is_room_for_do_not_stop_the_download() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let mut order = room.get(&torrent);
    let honest = crate::fake_peer::seeds(&torrent, gate.queue());
    let mut run = order.args(["--max-peers", "8"]).peer(honest).start();
    run.event("says that the seed came", |event| {
        event["state"] == "joined"
    });
    let port = run.port();
    let leaving = Gate::closed();
    let mut crowd = Vec::new();
    for _ in 0..60 {
        let (torrent, queue) = (torrent.clone(), leaving.queue());
        crowd.push(calls(port, move |line| {
            line.say(&greeting(torrent.info_hash(), PLAIN));
            line.stays_open_until(&queue)
        }));
    }
    run.memory_is_flat();
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    leaving.open();
}

#[test]
fn nobody_is_called_any_more_once_it_is_told_to_leave() {
    let torrent = torrent();
    let room = Room::new();
    // Two that take a call and say nothing; there is room for one of them.
    let (told, calls) = crossbeam_channel::unbounded();
    let mut order = room.get(&torrent);
    let mut addresses = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told = told.clone();
        std::thread::spawn(move || {
            while let Ok((stream, caller)) = listener.accept() {
                let _ = told.send((address, caller, stream));
            }
        });
        order.peer(address);
        addresses.push(address);
    }
    let mut run = order.args(["--max-peers", "1"]).start();
    let (first, _, _stream) = calls.recv_timeout(PATIENCE).unwrap();
    run.interrupt();
    assert_eq!(run.exit(), 143);
    let other = addresses.into_iter().find(|it| *it != first).unwrap();
    let ours = TcpStream::connect(other).unwrap();
    let (_, caller, _stream) = calls.recv_timeout(PATIENCE).unwrap();
    assert_eq!(caller, ours.local_addr().unwrap(), "it called {other}");
}
