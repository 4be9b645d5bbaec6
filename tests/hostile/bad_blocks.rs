//! Blocks that are wrong, late, unasked, cut short or never come.

use crate::fake_peer::{
    FAST, Line, PLAIN, Story, answer, companion, id, listens, message, piece, seeds, triple,
};
use crate::gate::{Gate, Waiting};
use crate::run::{PATIENCE, Room, Run};
use crate::torrent::Torrent;
use std::fs;
use std::io::Write as _;
use std::thread;
use std::time::{Duration, Instant};

/// A byte that a lie is made of: no two of it stand side by side in `torrent().content` often
/// enough to be mistaken for [`LIE`] of them.
const CANARY: u8 = 0xee;
const LIE: usize = 16;

fn torrent() -> Torrent {
    Torrent::file(b"data", 9 * 65_536 + 5_000, 65_536)
}

/// A hostile peer lures the process into asking and then follows `story`; an honest seed stands by
/// until that is over. Ends with the right bytes.
fn beside_an_honest_seed<R: Send + 'static>(
    reserved: [u8; 8],
    story: impl FnOnce(&mut Line, &Torrent, (u32, u32, u32)) -> R + Send + 'static,
    after: impl FnOnce(&mut Run, &Room, &Torrent, std::net::SocketAddr),
) -> R {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let hostile: Story<R> = {
        let torrent = torrent.clone();
        listens(move |line| {
            let asked = line.lure_into_asking(&torrent, reserved);
            story(line, &torrent, asked)
        })
    };
    let address = hostile.address;
    let mut order = room.get(&torrent);
    let mut run = order
        .peer(address)
        .peer(seeds(&torrent, gate.queue()))
        .start();
    let outcome = hostile.end("the hostile peer");
    after(&mut run, &room, &torrent, address);
    run.memory_is_flat();
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    outcome
}

/// Fails if a lie lies anywhere in the file.
fn no_lie_was_written(_: &mut Run, room: &Room, _: &Torrent, _: std::net::SocketAddr) {
    let bytes = fs::read(room.down().join("data")).unwrap_or_default();
    let lie = bytes.windows(LIE).position(|run| run == [CANARY; LIE]);
    assert_eq!(lie, None, "a lie was written at this byte of the file");
}

#[test]
fn blocks_nobody_asked_for_are_written_nowhere_and_end_the_connection() {
    beside_an_honest_seed(
        PLAIN,
        |line, torrent, asked| {
            let lie = [CANARY; 16_384];
            let mut all = torrent.requests();
            // What is asked already would be a lie of another kind.
            all.retain(|it| it.0 != asked.0);
            for (index, begin, length) in all.into_iter().rev().cycle().take(50_000) {
                // Odd beginnings are never asked for.
                let block = &lie[..length as usize - 1];
                if !line.say(&piece(index, begin + 1, block)) {
                    break;
                }
            }
            line.until_closed();
        },
        no_lie_was_written,
    );
}

#[test]
fn blocks_past_the_end_of_the_torrent_are_written_nowhere() {
    beside_an_honest_seed(
        PLAIN,
        |line, torrent, _| {
            let pieces = torrent.pieces() as u32;
            let odd = [
                (pieces, 0),
                (u32::MAX, 0),
                (0, u32::MAX),
                (0, 65_536),
                (0, u32::MAX - 16_383),
                (pieces - 1, 16_384),
                (u32::MAX, u32::MAX),
            ];
            for (index, begin) in odd.into_iter().cycle().take(50_000) {
                if !line.say(&piece(index, begin, &[CANARY; 16_384])) {
                    break;
                }
            }
            line.until_closed();
        },
        no_lie_was_written,
    );
}

#[test]
fn an_answer_shorter_than_asked_is_not_taken_for_the_block() {
    beside_an_honest_seed(
        PLAIN,
        |line, _, (index, begin, length)| {
            line.say(&piece(index, begin, &vec![CANARY; length as usize - 1]));
            line.until_closed();
        },
        no_lie_was_written,
    );
}

#[test]
fn an_answer_longer_than_asked_does_not_write_past_the_block() {
    // The last block of this torrent is shorter than the longest message with a block.
    let torrent = Torrent::file(b"data", 5_000, 65_536);
    let room = Room::new();
    let gate = Gate::closed();
    let hostile = {
        let torrent = torrent.clone();
        listens(move |line| {
            let (index, begin, length) = line.lure_into_asking(&torrent, PLAIN);
            assert_eq!(length, 5_000);
            line.say(&piece(index, begin, &[CANARY; 16_384]));
            line.until_closed();
        })
    };
    let mut order = room.get(&torrent);
    let honest = seeds(&torrent, gate.queue());
    let mut run = order.peer(hostile.address).peer(honest).start();
    let address = hostile.address;
    hostile.end("the hostile peer");
    no_lie_was_written(&mut run, &room, &torrent, address);
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn an_answer_that_begins_elsewhere_is_not_written_there() {
    beside_an_honest_seed(
        PLAIN,
        |line, _, (index, begin, length)| {
            for shift in [1, 100, 4_096, 16_383] {
                let lie = vec![CANARY; length as usize];
                line.say(&piece(index, begin + shift, &lie));
            }
            for other in 0..1_000 {
                line.say(&piece(index, 16_384 * other + 1, &[CANARY; 64]));
            }
            line.until_closed();
        },
        no_lie_was_written,
    );
}

#[test]
fn a_block_sent_twice_is_written_once() {
    let (answered, blocks) = std::sync::mpsc::channel();
    beside_an_honest_seed(
        PLAIN,
        move |line, torrent, (index, begin, length)| {
            answer(line, torrent, (index, begin, length));
            line.say(&piece(index, begin, &vec![CANARY; length as usize]));
            // What comes after it is still understood.
            let next = line.hear_of(id::REQUEST).triple();
            answer(line, torrent, next);
            answered.send([(index, begin, length), next]).unwrap();
        },
        move |_, room, torrent, _| {
            // The second copy may have passed through the place of a block that this peer was asked for and that
            // has not come; never through that of one that has.
            let [first, next] = blocks.recv().unwrap();
            let lies_in_place = |(index, begin, length): (u32, u32, u32)| {
                let from = index as usize * torrent.piece_length + begin as usize;
                let place = from..from + length as usize;
                let bytes = fs::read(room.down().join("data")).unwrap();
                bytes.get(place) == Some(torrent.block(index, begin, length))
            };
            let deadline = Instant::now() + PATIENCE;
            while !lies_in_place(next) {
                assert!(Instant::now() < deadline, "the next block never came");
                std::thread::yield_now();
            }
            assert!(lies_in_place(first));
        },
    );
}

#[test]
fn a_block_in_a_finished_piece_is_not_written() {
    let torrent = Torrent::file(b"data", 40_000, 16_384);
    let room = Room::new();
    let (gate, checked, served) = (Gate::closed(), Gate::closed(), Gate::closed());
    let hostile = {
        let (torrent, queue, checked) = (torrent.clone(), gate.queue(), checked.queue());
        listens(move |line| {
            let first = line.lure_into_asking(&torrent, PLAIN);
            answer(line, &torrent, first);
            // It is finished once the process says so, see below.
            checked.pass();
            line.say(&piece(first.0, first.1, &vec![CANARY; first.2 as usize]));
            line.stays_open_until(&queue);
        })
    };
    let honest = seeds(&torrent, served.queue());
    let mut order = room.get(&torrent);
    order
        .without("--exit")
        .args(["--seed-ratio", "0", "--seed-time", "0"]);
    let mut run = order.peer(hostile.address).peer(honest).start();
    run.event("says that a piece is good", |event| event["good"] == true);
    checked.open();
    served.open();
    run.event("says complete", |event| event["event"] == "complete");
    room.holds("data", &torrent.content[..]);
    run.interrupt();
    run.succeeds();
    gate.open();
    hostile.end("the hostile peer");
    room.holds("data", &torrent.content[..]);
}

#[test]
fn one_lie_among_three_peers_is_found_and_the_liar_is_hung_up_on() {
    let torrent = torrent();
    let room = Room::new();
    let lied = Gate::closed();
    let told = lied.queue();
    let liar = {
        let torrent = torrent.clone();
        listens(move |line| {
            let (index, begin, length) = line.lure_into_asking(&torrent, PLAIN);
            let mut lie = torrent.block(index, begin, length).to_vec();
            lie[77] ^= 1;
            line.say(&piece(index, begin, &lie));
            lied.open();
            // From here on it is as honest as can be, and has to be found all the same.
            while let Some(heard) = line.hear() {
                if heard.id == Some(id::REQUEST) {
                    answer(line, &torrent, heard.triple());
                }
            }
        })
    };
    let mut order = room.get(&torrent);
    order
        .without("--exit")
        .args(["--seed-ratio", "0", "--seed-time", "0"]);
    order.peer(liar.address);
    order
        .peer(seeds(&torrent, told.clone()))
        .peer(seeds(&torrent, told));
    let mut run = order.start();
    let address = liar.address;
    assert_eq!(run.farewell(address), "sent wrong data");
    liar.end("the liar");
    run.event("says complete", |event| event["event"] == "complete");
    room.holds("data", &torrent.content[..]);
    let left = |event: &serde_json::Value| event["state"] == "left";
    let away: Vec<_> = run.events.iter().filter(|event| left(event)).collect();
    let lost_honest = away
        .iter()
        .any(|event| event["text"] == "sent wrong data" && event["address"] != address.to_string());
    assert!(!lost_honest, "an honest peer was blamed");
    run.interrupt();
    run.succeeds();
}

#[test]
fn a_liar_whose_blocks_are_mixed_with_honest_ones_does_not_stop_the_download() {
    let torrent = torrent();
    let room = Room::new();
    // The honest ones wait, or all might be over before the liar is asked for anything.
    let gate = Gate::closed();
    let honest = [seeds(&torrent, gate.queue()), seeds(&torrent, gate.queue())];
    let liar = {
        let torrent = torrent.clone();
        listens(move |line| {
            // One lie, then silence: the rest of the piece has to come from others.
            let (index, begin, length) = line.lure_into_asking(&torrent, PLAIN);
            gate.open();
            line.say(&piece(index, begin, &vec![CANARY; length as usize]));
            line.until_closed();
        })
    };
    let mut order = room.get(&torrent);
    order.peer(liar.address);
    order.peer(honest[0]).peer(honest[1]);
    let mut run = order.start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    liar.end("the liar");
}

#[test]
fn a_piece_that_everybody_lies_about_is_named_and_the_rest_arrives() {
    let torrent = torrent();
    let mut lies = torrent.clone();
    let mut content = lies.content.to_vec();
    content[3 * 65_536 + 9] ^= 0x80;
    lies.content = content.into();
    let room = Room::new();
    let mut order = room.get(&torrent);
    for _ in 0..6 {
        order.peer(seeds(&lies, Waiting::not()));
    }
    let mut run = order.args(["--timeout", "10"]).start();
    let status = run.exit();
    assert!([2, 3].contains(&status), "exit status {status}");
    let stopped = run.event("says how it ended", |event| event["event"] == "stopped");
    assert_eq!(stopped["status"], status);
    let good = |event: &&serde_json::Value| event["event"] == "piece" && event["good"] == true;
    assert_eq!(run.events.iter().filter(good).count(), torrent.pieces() - 1);
}

#[test]
fn where_the_only_peers_lied_the_last_sentence_says_so() {
    let torrent = torrent();
    let mut lies = torrent.clone();
    lies.content = vec![CANARY; lies.content.len()].into();
    for (options, reason) in [(&["--timeout", "2"][..], "timeout"), (&[], "no-peers")] {
        let room = Room::new();
        let mut order = room.get(&torrent);
        order.peer(seeds(&lies, Waiting::not()));
        for option in options {
            order.arg(option);
        }
        let mut run = order.start();
        assert_eq!(run.exit(), 2);
        let stopped = run.event("says how it ended", |event| event["event"] == "stopped");
        assert_eq!(stopped["reason"], reason, "{stopped}");
        assert_eq!(stopped["liars"], 1, "{stopped}");
        let text = stopped["text"].as_str().unwrap();
        assert!(text.contains("1 peer sent wrong data"), "{stopped}");
    }
}

#[test]
fn a_peer_that_unchokes_and_then_says_nothing_does_not_hold_the_download_up() {
    let torrent = torrent();
    let room = Room::new();
    let asked = Gate::closed();
    let queue = asked.queue();
    let silent = {
        let torrent = torrent.clone();
        listens(move |line| {
            line.lure_into_asking(&torrent, PLAIN);
            asked.open();
            line.until_closed();
        })
    };
    let mut order = room.get(&torrent);
    let mut run = order
        .peer(silent.address)
        .peer(seeds(&torrent, queue))
        .start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    silent.end("the silent peer");
}

#[test]
fn a_peer_that_drips_one_block_for_ever_does_not_hold_the_download_up() {
    let torrent = torrent();
    let room = Room::new();
    let asked = Gate::closed();
    let queue = asked.queue();
    let dripping = {
        let torrent = torrent.clone();
        listens(move |line| {
            let (index, begin, length) = line.lure_into_asking(&torrent, PLAIN);
            let message = piece(index, begin, torrent.block(index, begin, length));
            line.say(&message[..100]);
            asked.open();
            let never = Gate::closed();
            let pause = never.queue();
            for byte in &message[100..message.len() - 1] {
                pause.opens_within(Duration::from_millis(5));
                if !line.say(&[*byte]) {
                    return;
                }
            }
            line.until_closed();
        })
    };
    let mut order = room.get(&torrent);
    let mut run = order
        .peer(dripping.address)
        .peer(seeds(&torrent, queue))
        .start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    dripping.end("the dripping peer");
}

#[test]
fn many_peers_that_claim_everything_and_give_nothing_do_not_hold_the_download_up() {
    let torrent = torrent();
    let room = Room::new();
    let mut order = room.get(&torrent);
    let mut misers = Vec::new();
    for choking in (0..20).map(|n| n % 2 == 0) {
        let torrent = torrent.clone();
        misers.push(listens(move |line| {
            line.patience(Duration::from_secs(120));
            line.greet(&torrent, FAST);
            line.tell(id::HAVE_ALL, &[]);
            if !choking {
                line.tell(id::UNCHOKE, &[]);
            }
            while let Some(heard) = line.hear() {
                // Rejecting costs it nothing either.
                if heard.id == Some(id::REQUEST) && fastrand::bool() {
                    line.tell(id::REJECT, &heard.body);
                }
            }
        }));
        order.peer(misers.last().unwrap().address);
    }
    let mut run = order.peer(seeds(&torrent, Waiting::not())).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    for miser in misers {
        miser.end("a miser");
    }
}

#[test]
fn a_peer_that_rejects_for_ever_is_asked_a_few_times_in_three_seconds() {
    let rejected = beside_an_honest_seed(
        FAST,
        |line, _, (index, begin, length)| {
            let mut count = 1;
            line.tell(id::REJECT, &triple(index, begin, length));
            let socket = socket2::SockRef::from(&line.stream).try_clone().unwrap();
            // Its own time is over after three seconds, whatever the other side does.
            thread::spawn(move || {
                let never = Gate::closed();
                never.queue().opens_within(Duration::from_secs(3));
                let _ = socket.shutdown(std::net::Shutdown::Both);
            });
            while let Some(heard) = line.hear() {
                if heard.id == Some(id::REQUEST) {
                    count += 1;
                    line.tell(id::REJECT, &heard.body);
                }
            }
            count
        },
        |_, _, _, _| {},
    );
    // At once, after a second, and after two more: as many as a pipe nothing is known of takes.
    assert!(
        rejected <= 4 * 32,
        "asked {rejected} times in three seconds"
    );
}

/// The ways in which a connection can end in the middle of a block.
fn an_end_in_mid_block(end: impl FnOnce(&mut Line) + Send + 'static) {
    beside_an_honest_seed(
        PLAIN,
        |line, torrent, (index, begin, length)| {
            let message = piece(index, begin, torrent.block(index, begin, length));
            line.say(&message[..message.len() * 2 / 3]);
            end(line);
        },
        |run, _, _, address| {
            run.farewell(address);
        },
    );
}

#[test]
fn a_reset_in_the_middle_of_a_block_loses_only_the_block() {
    an_end_in_mid_block(|line| {
        let socket = socket2::SockRef::from(&line.stream);
        socket.set_linger(Some(Duration::ZERO)).unwrap();
    });
}

#[test]
fn a_close_in_the_middle_of_a_block_loses_only_the_block() {
    an_end_in_mid_block(|_| {});
}

#[test]
fn a_half_close_in_the_middle_of_a_block_loses_only_the_block() {
    an_end_in_mid_block(|line| {
        line.half_close();
        line.until_closed();
    });
}

#[test]
fn urgent_bytes_do_not_confuse_the_stream() {
    // In the stream's own place they are left out, so what follows is as it was meant.
    let torrent = torrent();
    let room = Room::new();
    let peer = {
        let torrent = torrent.clone();
        listens(move |line| {
            let first = line.lure_into_asking(&torrent, PLAIN);
            let (index, begin, length) = first;
            let message = piece(index, begin, torrent.block(index, begin, length));
            line.say(&message[..500]);
            let socket = socket2::SockRef::from(&line.stream);
            socket.send_out_of_band(b"!").unwrap();
            line.say(&message[500..]);
            while let Some(heard) = line.hear() {
                if heard.id == Some(id::REQUEST) {
                    answer(line, &torrent, heard.triple());
                }
            }
        })
    };
    let mut run = room.get(&torrent).peer(peer.address).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    peer.end("the urgent peer");
}

#[test]
fn a_peer_that_chokes_in_the_middle_is_asked_again_once_it_unchokes() {
    let torrent = torrent();
    let room = Room::new();
    let peer = {
        let torrent = torrent.clone();
        listens(move |line| {
            line.lure_into_asking(&torrent, PLAIN);
            for _ in 0..3 {
                line.tell(id::CHOKE, &[]);
                line.tell(id::UNCHOKE, &[]);
                let asked = line.hear_of(id::REQUEST).triple();
                answer(line, &torrent, asked);
            }
            // Without the fast extension a choke drops what was asked: some of these answers are
            // to requests from before it, and late is not wrong.
            while let Some(heard) = line.hear() {
                if heard.id == Some(id::REQUEST) {
                    answer(line, &torrent, heard.triple());
                }
            }
        })
    };
    let mut run = room.get(&torrent).peer(peer.address).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    peer.end("the fickle peer");
}

#[test]
fn a_process_whose_uploads_are_not_read_goes_on_reading() {
    // Pieces 0 to 127 are here, 128 to 255 are with a peer that wants ours, asks for 4 MiB and reads
    // none of it. What it sends meanwhile has to arrive.
    let torrent = Torrent::file(b"data", 256 * 65_536, 65_536);
    let half = torrent.content.len() / 2;
    let room = Room::new();
    let mut here = vec![0; torrent.content.len()];
    here[..half].copy_from_slice(&torrent.content[..half]);
    fs::write(room.down().join("data"), here).unwrap();
    let peer = {
        let torrent = torrent.clone();
        listens(move |line| {
            let socket = socket2::SockRef::from(&line.stream);
            socket.set_recv_buffer_size(4_096).unwrap();
            line.greet(&torrent, PLAIN);
            let field = [[0; 16], [0xff; 16]].concat();
            line.tell(id::BITFIELD, &field);
            line.tell(id::INTERESTED, &[]);
            let (mut unchoked, mut wanted) = (false, false);
            while !(unchoked && wanted) {
                let heard = line.hear().expect("closed");
                unchoked |= heard.id == Some(id::UNCHOKE);
                wanted |= heard.id == Some(id::INTERESTED);
            }
            line.tell(id::UNCHOKE, &[]);
            // It knows what one whole piece is asked with; then it reads no more.
            let first = line.hear_of(id::REQUEST).triple();
            let mut missing: Vec<u32> = (0..4).map(|n| n * 16_384).collect();
            let mut heard = vec![first];
            missing.retain(|begin| *begin != first.1);
            while !missing.is_empty() {
                let next = line.hear_of(id::REQUEST).triple();
                if next.0 == first.0 {
                    missing.retain(|begin| *begin != next.1);
                }
                heard.push(next);
            }
            let mut asked = Vec::new();
            for block in 0..256 {
                asked.extend(message(
                    id::REQUEST,
                    &triple(block / 4, block % 4 * 16_384, 16_384),
                ));
            }
            line.stream.write_all(&asked).unwrap();
            for request in heard.into_iter().filter(|it| it.0 == first.0) {
                answer(line, &torrent, request);
            }
            (first.0, line.stream.try_clone().unwrap())
        })
    };
    let gate = Gate::closed();
    let mut order = room.get(&torrent);
    order.peer(peer.address).peer(seeds(&torrent, gate.queue()));
    let mut run = order.start();
    let (index, stream) = peer.end("the deaf peer");
    run.event("says that the piece arrived", |event| {
        event["event"] == "piece" && event["piece"] == index && event["good"] == true
    });
    run.memory_is_flat();
    drop(stream);
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn two_processes_that_give_each_other_their_halves_do_not_wait_for_ever() {
    let torrent = Torrent::file(b"data", 192 * 131_072 + 1, 131_072);
    let rooms = [Room::new(), Room::new()];
    let half = torrent.content.len() / 2;
    for (number, room) in rooms.iter().enumerate() {
        let mut here = torrent.content.to_vec();
        let away = if number == 0 {
            half..here.len()
        } else {
            0..half
        };
        here[away].fill(0);
        fs::write(room.down().join("data"), here).unwrap();
    }
    let start = |room: &Room, peer: Option<std::net::SocketAddr>| {
        let mut order = room.get(&torrent);
        order
            .without("--exit")
            .args(["--seed-ratio", "0", "--seed-time", "0"]);
        if let Some(peer) = peer {
            order.peer(peer);
        }
        order.start()
    };
    // Somebody has to keep the first one company until the second one calls.
    let gate = Gate::closed();
    let company = companion(&torrent, gate.queue());
    let mut first = start(&rooms[0], Some(company.address));
    let port = first.port();
    let mut second = start(&rooms[1], Some(port));
    for run in [&mut first, &mut second] {
        run.event("says complete", |event| event["event"] == "complete");
    }
    gate.open();
    for (run, room) in [(&mut first, &rooms[0]), (&mut second, &rooms[1])] {
        run.interrupt();
        run.succeeds();
        room.holds("data", &torrent.content[..]);
    }
}
