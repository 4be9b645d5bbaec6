//! Greetings that are none: every such connection is closed in ten seconds at the latest.

use crate::fake_peer::{
    Line, PLAIN, Story, calls, companion, greeting, greeting_of, listens, seeds, seeds_calling,
};
use crate::gate::{Gate, Waiting};
use crate::run::Room;
use crate::torrent::Torrent;
use std::time::Duration;

fn torrent() -> Torrent {
    Torrent::file(b"data", 300_000, 32_768)
}

/// Names and bytes of what is no greeting of this torrent's.
fn no_greetings(torrent: &Torrent) -> Vec<(&'static str, Vec<u8>)> {
    let right = greeting(torrent.info_hash(), PLAIN);
    let altered = |at: usize, byte: u8| {
        let mut bytes = right.clone();
        bytes[at] = byte;
        bytes
    };
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.resize(517, 0x5a);
    vec![
        ("another protocol's name", altered(19, b'L')),
        ("a name of no length", altered(0, 0)),
        ("a name of 255 bytes", [&[255][..], &[b'B'; 303]].concat()),
        ("a name of 18 bytes", altered(0, 18)),
        ("zeros", vec![0; 68]),
        ("another torrent", greeting([9; 20], PLAIN)),
        (
            "an HTTP request",
            b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: somebody with a long name\r\n\r\n"
                .to_vec(),
        ),
        ("a TLS hello", hello),
        ("nothing", Vec::new()),
        ("all but one byte", right[..67].to_vec()),
        ("a message in its place", [0, 0, 0, 1, 1].repeat(20)),
    ]
}

fn drips(line: &mut Line, greeting: &[u8]) {
    let never = Gate::closed();
    let pause = never.queue();
    for byte in greeting {
        if !line.say(&[*byte]) {
            return;
        }
        // 68 seconds in all, and never long enough for a deadline on single reads.
        pause.opens_within(Duration::from_secs(1));
    }
}

fn ends(stories: Vec<(&'static str, Story<()>)>) {
    for (name, story) in stories {
        story.end(name);
    }
}

#[test]
fn somebody_we_dial_who_greets_wrongly_is_hung_up_on() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    let mut stories: Vec<(&str, Story<()>)> = Vec::new();
    for (name, bytes) in no_greetings(&torrent) {
        let story = listens(move |line| {
            line.say(&bytes);
            line.until_closed();
        });
        stories.push((name, story));
    }
    let right = greeting(torrent.info_hash(), PLAIN);
    stories.push((
        "a byte a second",
        listens(move |line| {
            drips(line, &right);
            line.until_closed();
        }),
    ));
    stories.push((
        "our own id",
        listens(|line| {
            let ours = line.their_greeting().unwrap();
            line.say(&ours);
            line.until_closed();
        }),
    ));
    let company = companion(&torrent, gate.queue());
    let mut order = room.get(&torrent);
    order
        .peer(company.address)
        .peer(seeds(&torrent, gate.queue()));
    for (_, story) in &stories {
        order.peer(story.address);
    }
    let mut run = order.start();
    ends(stories);
    run.memory_is_flat();
    gate.open();
    assert!(company.end("the companion"), "the companion was hung up on");
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_caller_who_greets_wrongly_is_hung_up_on() {
    let torrent = torrent();
    let room = Room::new();
    let gate = Gate::closed();
    // The companion passes on the id that the process gives itself.
    // Bound: one greeting.
    let (tell, told) = crossbeam_channel::bounded(1);
    let company = {
        let (torrent, queue) = (torrent.clone(), gate.queue());
        listens(move |line| {
            line.say(&greeting(torrent.info_hash(), PLAIN));
            tell.send(line.their_greeting().unwrap()).unwrap();
            line.stays_open_until(&queue)
        })
    };
    let mut run = room.get(&torrent).peer(company.address).start();
    let port = run.port();
    let mut stories: Vec<(&str, Story<()>)> = Vec::new();
    for (name, bytes) in no_greetings(&torrent) {
        let story = calls(port, move |line| {
            line.say(&bytes);
            line.until_closed();
        });
        stories.push((name, story));
    }
    let ours = told.recv_timeout(Duration::from_secs(30)).unwrap();
    let mirror = greeting_of(torrent.info_hash(), PLAIN, &ours[48..]);
    stories.push((
        "our own id",
        calls(port, move |line| {
            line.say(&mirror);
            line.until_closed();
        }),
    ));
    let right = greeting(torrent.info_hash(), PLAIN);
    stories.push((
        "a byte a second",
        calls(port, move |line| {
            drips(line, &right);
            line.until_closed();
        }),
    ));
    ends(stories);
    run.memory_is_flat();
    gate.open();
    assert!(company.end("the companion"), "the companion was hung up on");
    seeds_calling(port, &torrent, Waiting::not());
    run.succeeds();
    room.holds("data", &torrent.content[..]);
}
