//! Messages of the wrong shape or without sense: the connection ends, nothing is kept of them.

use crate::fake_peer::{
    FAST, FAST_EXTENDED, Line, PLAIN, companion, id, listens, message, seeds, serve, triple,
};
use crate::gate::{Gate, Waiting};
use crate::run::Room;
use crate::torrent::Torrent;

/// Something said after a proper greeting.
struct Offence {
    name: String,
    reserved: [u8; 8],
    bytes: Vec<u8>,
}

fn offence(name: impl Into<String>, reserved: [u8; 8], bytes: impl Into<Vec<u8>>) -> Offence {
    Offence {
        name: name.into(),
        reserved,
        bytes: bytes.into(),
    }
}

fn torrent() -> Torrent {
    Torrent::file(b"data", 21 * 32_768 - 100, 32_768)
}

/// One peer per offence, all at the same process, beside one that behaves and an honest seed: each
/// offender must be hung up on because of what it said, the other two must not.
fn each_is_hung_up_on(offences: Vec<Offence>) {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let mut order = room.get(&torrent);
    let decent = companion(&torrent, gate.queue());
    order
        .peer(decent.address)
        .peer(seeds(&torrent, gate.queue()));
    let mut offenders = Vec::new();
    for offence in offences {
        let torrent = torrent.clone();
        let story = listens(move |line| {
            line.greet(&torrent, offence.reserved);
            line.say(&offence.bytes);
            line.until_closed();
        });
        order.peer(story.address);
        offenders.push((offence.name, story));
    }
    let mut run = order.start();
    for (name, story) in offenders {
        let address = story.address;
        story.end(&name);
        let why = run.farewell(address);
        let blamed = why.starts_with("broke the protocol") || why.starts_with("made no sense");
        assert!(blamed, "{name}: {why}");
    }
    run.memory_is_flat();
    gate.open();
    assert!(
        decent.end("the decent peer"),
        "the decent peer was hung up on"
    );
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_length_nobody_means_ends_the_connection_before_anything_is_kept() {
    let mut offences = Vec::new();
    for length in [u32::MAX, 1 << 31, (1 << 20) + 1] {
        offences.push(offence(
            format!("{length} alone"),
            PLAIN,
            length.to_be_bytes(),
        ));
        for id in [0, 1, 4, 5, 6, 7, 8, 9, 13, 17, 20, 21, 255] {
            let bytes = [&length.to_be_bytes()[..], &[id]].concat();
            offences.push(offence(format!("{length} as {id}"), FAST_EXTENDED, bytes));
        }
    }
    each_is_hung_up_on(offences);
}

#[test]
fn a_message_of_fixed_size_with_another_size_ends_the_connection() {
    let fixed = [
        (id::CHOKE, 0),
        (id::UNCHOKE, 0),
        (id::INTERESTED, 0),
        (id::NOT_INTERESTED, 0),
        (id::HAVE, 4),
        (id::REQUEST, 12),
        (id::CANCEL, 12),
        (id::PORT, 2),
        (id::SUGGEST, 4),
        (id::HAVE_ALL, 0),
        (id::HAVE_NONE, 0),
        (id::REJECT, 12),
        (id::ALLOWED_FAST, 4),
    ];
    let mut offences = Vec::new();
    for (id, size) in fixed {
        for wrong in [size + 1, 0, usize::saturating_sub(size, 1)] {
            if wrong != size && (wrong != 0 || size != 1) {
                let bytes = message(id, &vec![0; wrong]);
                offences.push(offence(format!("{id} with {wrong} bytes"), FAST, bytes));
            }
        }
    }
    for size in [0, 1, 7, 8, 8 + 16_385, 8 + (128 << 10)] {
        let bytes = message(id::PIECE, &vec![0; size]);
        offences.push(offence(format!("a block with {size} bytes"), PLAIN, bytes));
    }
    offences.push(offence(
        "no extension id",
        FAST_EXTENDED,
        message(id::EXTENDED, &[]),
    ));
    each_is_hung_up_on(offences);
}

#[test]
fn a_bitfield_that_cannot_be_true_ends_the_connection() {
    let right = torrent().full_bitfield();
    let field = |bytes: &[u8]| message(id::BITFIELD, bytes);
    let mut spare = right.clone();
    *spare.last_mut().unwrap() |= 1;
    each_is_hung_up_on(vec![
        offence("empty", PLAIN, field(&[])),
        offence("too short", PLAIN, field(&right[1..])),
        offence("too long", PLAIN, field(&[&right[..], &[0]].concat())),
        offence("spare bits set", PLAIN, field(&spare)),
        offence(
            "two right ones and a wrong one",
            PLAIN,
            [field(&right), field(&right), field(&spare)].concat(),
        ),
        offence(
            "too long after have-all",
            FAST,
            [
                message(id::HAVE_ALL, &[]),
                field(&[&right[..], &[0]].concat()),
            ]
            .concat(),
        ),
    ]);
}

#[test]
fn a_piece_that_does_not_exist_ends_the_connection() {
    let pieces = torrent().pieces() as u32;
    let mut offences = Vec::new();
    for index in [pieces, pieces + 1, 1 << 31, u32::MAX] {
        let have = message(id::HAVE, &index.to_be_bytes());
        offences.push(offence(format!("have {index}"), PLAIN, have));
    }
    each_is_hung_up_on(offences);
}

#[test]
fn messages_of_extensions_nobody_agreed_on_end_the_connection() {
    let zero = 0_u32.to_be_bytes();
    each_is_hung_up_on(vec![
        offence("suggest", PLAIN, message(id::SUGGEST, &zero)),
        offence("have-all", PLAIN, message(id::HAVE_ALL, &[])),
        offence("have-none", PLAIN, message(id::HAVE_NONE, &[])),
        offence("reject", PLAIN, message(id::REJECT, &triple(0, 0, 1))),
        offence("allowed-fast", PLAIN, message(id::ALLOWED_FAST, &zero)),
        offence("extended", FAST, message(id::EXTENDED, b"\0de")),
    ]);
}

#[test]
fn an_unknown_message_longer_than_any_block_ends_the_connection() {
    let long = message(99, &vec![0; 16_384]);
    each_is_hung_up_on(vec![offence("unknown", PLAIN, long)]);
}

/// The only peer there is says `noise` and then serves: the download needs what comes after it.
fn a_seed_may_say(reserved: [u8; 8], noise: Vec<u8>) {
    let torrent = torrent();
    let room = Room::new();
    let peer = {
        let torrent = torrent.clone();
        listens(move |line| {
            line.greet(&torrent, reserved);
            if reserved == PLAIN {
                line.tell(id::BITFIELD, &torrent.full_bitfield());
            } else {
                line.tell(id::HAVE_ALL, &[]);
            }
            line.say(&noise);
            serve_on(line, &torrent);
        })
    };
    let mut run = room.get(&torrent).peer(peer.address).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    peer.end("the odd seed");
}

fn serve_on(line: &mut Line, torrent: &Torrent) {
    while let Some(heard) = line.hear() {
        match heard.id {
            Some(id::INTERESTED) => drop(line.tell(id::UNCHOKE, &[])),
            Some(id::REQUEST) => crate::fake_peer::answer(line, torrent, heard.triple()),
            _ => {}
        }
    }
}

#[test]
fn messages_that_do_not_exist_yet_are_passed_over() {
    let mut noise = message(id::PORT, &[0x1a, 0xe1]);
    for id in (10..=12).chain(18..=19).chain(21..=255) {
        noise.extend(message(id, &[id; 17]));
        noise.extend(message(id, &[]));
    }
    noise.extend(message(200, &[0; 16_383]));
    a_seed_may_say(PLAIN, noise);
}

#[test]
fn suggestions_and_fast_pieces_are_no_offence() {
    let pieces = torrent().pieces() as u32;
    let mut noise = Vec::new();
    for n in 0..pieces {
        noise.extend(message(id::SUGGEST, &n.to_be_bytes()));
        noise.extend(message(id::ALLOWED_FAST, &n.to_be_bytes()));
    }
    a_seed_may_say(FAST, noise);
}

#[test]
fn odd_extension_messages_are_passed_over() {
    let mut noise = Vec::new();
    for body in [
        &b"\0"[..],
        b"\0i1e",
        b"\0d1:mi1ee",
        b"\0d4:reqqi-1ee",
        b"\0d1:v3:\x1b[2e",
        b"\0de trailing",
        b"\x01d8:msg_typei0e5:piecei0ee",
        b"\xffanything",
    ] {
        noise.extend(message(id::EXTENDED, body));
    }
    noise.extend(message(id::EXTENDED, &[&[0][..], &[b'l'; 60_000]].concat()));
    a_seed_may_say(FAST_EXTENDED, noise);
}

/// Says `chunk` over and over, beside an honest seed. Whether the peer is hung up on is its
/// business; that memory stays flat and the download ends well is not.
fn a_flood_of(reserved: [u8; 8], chunk: Vec<u8>) -> bool {
    const BYTES: usize = 24 << 20;
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let flood = {
        let torrent = torrent.clone();
        listens(move |line| {
            line.greet(&torrent, reserved);
            let mut reader = Line::new(line.stream.try_clone().unwrap());
            // Reads what it is told meanwhile, so that only its own flood is on trial.
            std::thread::spawn(move || while reader.read(&mut [0; 4_096]) > 0 {});
            (0..BYTES / chunk.len()).all(|_| line.say(&chunk))
        })
    };
    let honest = seeds(&torrent, gate.queue());
    let mut run = room.get(&torrent).peer(flood.address).peer(honest).start();
    let survived = flood.end("the flood");
    run.memory_is_flat();
    gate.open();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    survived
}

#[test]
fn a_million_haves_take_no_memory() {
    let have = message(id::HAVE, &3_u32.to_be_bytes()).repeat(1_000);
    assert!(!a_flood_of(PLAIN, have), "nobody honest repeats itself so");
}

#[test]
fn a_flood_of_changes_of_mind_is_hung_up_on() {
    let choke = [message(id::UNCHOKE, &[]), message(id::CHOKE, &[])].concat();
    assert!(!a_flood_of(PLAIN, choke.repeat(500)), "chokes");
    let interest = [
        message(id::INTERESTED, &[]),
        message(id::NOT_INTERESTED, &[]),
    ]
    .concat();
    assert!(!a_flood_of(PLAIN, interest.repeat(500)), "interest");
}

#[test]
fn a_flood_of_keep_alives_is_hung_up_on() {
    assert!(!a_flood_of(PLAIN, vec![0; 4_000]));
}

#[test]
fn a_flood_of_suggestions_and_fast_pieces_is_hung_up_on() {
    let suggestion = message(id::SUGGEST, &3_u32.to_be_bytes());
    assert!(!a_flood_of(FAST, suggestion.repeat(500)), "suggestions");
    let fast = message(id::ALLOWED_FAST, &3_u32.to_be_bytes());
    assert!(!a_flood_of(FAST, fast.repeat(500)), "allowed fast");
}

#[test]
fn a_flood_of_unknown_messages_is_hung_up_on() {
    let long = message(99, &[7; 16_383]);
    assert!(!a_flood_of(PLAIN, long), "long ones");
    let short = message(99, &[]).repeat(1_000);
    assert!(!a_flood_of(PLAIN, short), "short ones");
    let port = message(id::PORT, &[0x1a, 0xe1]).repeat(1_000);
    assert!(!a_flood_of(PLAIN, port), "ports");
}

#[test]
fn a_flood_of_extension_messages_is_hung_up_on() {
    let unknown = message(id::EXTENDED, &[&[9][..], &[7; 16_000]].concat());
    assert!(!a_flood_of(FAST_EXTENDED, unknown), "unknown ones");
    let greeting = message(id::EXTENDED, b"\0d1:md11:ut_metadatai3eee");
    assert!(
        !a_flood_of(FAST_EXTENDED, greeting.repeat(100)),
        "handshakes"
    );
}

#[test]
fn a_message_cut_into_single_bytes_is_understood() {
    let torrent = Torrent::file(b"data", 40_000, 32_768);
    let room = Room::new();
    let peer = {
        let torrent = torrent.clone();
        listens(move |line| {
            let greeting = crate::fake_peer::greeting(torrent.info_hash(), PLAIN);
            greeting.iter().for_each(|byte| assert!(line.say(&[*byte])));
            assert!(line.their_greeting().is_some());
            let field = message(id::BITFIELD, &torrent.full_bitfield());
            field.iter().for_each(|byte| assert!(line.say(&[*byte])));
            line.hear_of(id::INTERESTED);
            line.tell(id::UNCHOKE, &[]);
            let (index, begin, length) = line.hear_of(id::REQUEST).triple();
            let block = torrent.block(index, begin, length);
            for byte in crate::fake_peer::piece(index, begin, block) {
                line.say(&[byte]);
            }
            serve_on(line, &torrent);
        })
    };
    let mut run = room.get(&torrent).peer(peer.address).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
    peer.end("the chopper");
}

#[test]
fn a_seed_that_says_nothing_but_the_needful_is_enough() {
    let torrent = torrent();
    let room = Room::new();
    let peer = {
        let torrent = torrent.clone();
        listens(move |line| {
            line.greet(&torrent, PLAIN);
            serve(line, &torrent, &Waiting::not());
        })
    };
    let mut run = room.get(&torrent).peer(peer.address).start();
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}
