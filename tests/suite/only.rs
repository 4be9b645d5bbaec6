//! `--only` and `--sequential`: what is fetched, what is left alone, and what a later run makes of it.

use crate::desk::{Desk, Running, folder, noise, single};
use crate::fake_tracker::tracker_knowing;
use rustix::process::Signal;
use serde_json::Value;

const LOOPBACK: [&str; 4] = ["--bind", "127.0.0.1", "--port", "0"];
const PIECE: u32 = 32_768;

/// Four files and seven pieces: all neighbours share a piece.
fn files() -> [(&'static str, Vec<u8>); 4] {
    [
        ("one.bin", noise(1, 50_000)),
        ("sub/empty", Vec::new()),
        ("sub/two.bin", noise(2, 120_000)),
        ("three.txt", noise(3, 40_000)),
    ]
}

/// A desk with the torrent `t.torrent` of these files, and its data under `data`.
fn desk() -> Desk {
    let desk = Desk::new();
    let torrent = folder("album", &files(), PIECE);
    desk.write("t.torrent", &torrent.compose());
    for (name, bytes) in files() {
        desk.write(format!("data/album/{name}"), &bytes);
    }
    desk
}

fn listening(desk: &Desk, words: &[&str]) -> (Running, String) {
    let mut run = desk.start(&[words, &LOOPBACK, &["--json"]].concat());
    let port = run.wait_for("listening")["port"].as_u64().unwrap();
    (run, format!("127.0.0.1:{port}"))
}

fn seed(desk: &Desk) -> (Running, String) {
    listening(desk, &["seed", "t.torrent", "data"])
}

fn get<'a>(peer: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let words = ["get", "t.torrent", "-o", "copy", "--json", "--peer", peer];
    [&words[..], &LOOPBACK, more].concat()
}

fn event<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("{name} is missing in {events:#?}"))
}

/// Every file below `copy`, with its path.
fn found(desk: &Desk) -> Vec<String> {
    fn walk(folder: &std::path::Path, before: &str, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let name = format!("{before}{}", entry.file_name().to_str().unwrap());
            match entry.file_type().unwrap().is_dir() {
                true => walk(&entry.path(), &format!("{name}/"), found),
                false => found.push(name),
            }
        }
    }
    let mut all = Vec::new();
    walk(&desk.path("copy"), "", &mut all);
    all.sort();
    all
}

fn assert_arrived(desk: &Desk, names: &[&str]) {
    for (name, bytes) in files() {
        let arrived = std::fs::read(desk.path(format!("copy/album/{name}")));
        match names.contains(&name) {
            true => assert!(arrived.unwrap() == bytes, "{name}"),
            false => assert!(arrived.is_err(), "{name} is not wanted"),
        }
    }
}

#[test]
fn only_what_is_wanted_appears_and_only_its_pieces_are_fetched() {
    let desk = desk();
    let (_seed, address) = seed(&desk);
    let events = desk
        .run(&get(&address, &["-e", "--only", "*.txt"]))
        .expect(0)
        .events();
    assert_arrived(&desk, &["three.txt"]);
    let left = [".album.ropewalk", ".album.ropewalk.part", "album/three.txt"];
    assert_eq!(found(&desk), left);
    // The file's 40,000 bytes lie in the last two pieces.
    let wanted = 210_000 - 5 * u64::from(PIECE);
    assert_eq!(event(&events, "started")["size"], 210_000);
    assert_eq!(event(&events, "started")["wanted"], wanted);
    let complete = event(&events, "complete");
    assert_eq!(complete["wanted_have"], wanted);
    assert_eq!(complete["have"], wanted);
    assert_eq!(complete["downloaded"], wanted);
    let pieces = events.iter().filter(|event| event["event"] == "piece");
    let mut pieces: Vec<_> = pieces.map(|it| it["piece"].as_u64().unwrap()).collect();
    pieces.sort_unstable();
    assert_eq!(pieces, [5, 6]);
}

#[test]
fn a_folder_can_be_wanted_and_several_patterns_add_up() {
    let desk = desk();
    let (_seed, address) = seed(&desk);
    desk.run(&get(&address, &["-e", "--only", "sub", "--only", "one*"]))
        .expect(0);
    assert_arrived(&desk, &["one.bin", "sub/empty", "sub/two.bin"]);
}

#[test]
fn an_empty_file_alone_needs_nobody() {
    let desk = desk();
    let words = ["get", "t.torrent", "-o", "copy", "-e", "--only", "empty"];
    desk.run(&[&words[..], &LOOPBACK].concat()).expect(0);
    assert_eq!(found(&desk), ["album/sub/empty"]);
}

#[test]
fn a_later_run_takes_what_lay_aside_and_fetches_what_is_missing() {
    let desk = desk();
    let (_seed, address) = seed(&desk);
    let mut first = desk.start(&get(&address, &["--only", "one.bin"]));
    let had = first.wait_for("complete")["have"].as_u64().unwrap();
    assert_eq!(had, 2 * u64::from(PIECE));
    first.signal(Signal::INT);
    assert_eq!(first.end().code(), Some(0), "a stop while sharing is 0");
    assert_arrived(&desk, &["one.bin"]);
    assert!(desk.path("copy/.album.ropewalk.part").exists());

    let mut second = desk.start(&get(&address, &["--only", "two.bin"]));
    let more = second.wait_for("complete")["downloaded"].as_u64().unwrap();
    assert_eq!(more, 4 * u64::from(PIECE), "the shared piece is here");
    second.signal(Signal::INT);
    assert_eq!(second.end().code(), Some(0));
    assert_arrived(&desk, &["one.bin", "sub/two.bin"]);

    let events = desk.run(&get(&address, &["-e"])).expect(0).events();
    let rest = event(&events, "complete")["downloaded"].as_u64().unwrap();
    assert_eq!(had + more + rest, 210_000, "no byte is fetched twice");
    assert_arrived(&desk, &["one.bin", "sub/empty", "sub/two.bin", "three.txt"]);
    assert_eq!(found(&desk).len(), 4, "{:?}", found(&desk));
}

#[test]
fn a_file_that_has_no_piece_for_itself_is_known_again_after_sharing_has_ended() {
    let desk = Desk::new();
    let files = [
        ("before", noise(1, 100)),
        ("booklet", noise(2, PIECE as usize)),
        ("behind", noise(3, 70_000)),
    ];
    desk.write("t.torrent", &folder("album", &files, PIECE).compose());
    for (name, bytes) in &files {
        desk.write(format!("data/album/{name}"), bytes);
    }
    let (_seed, address) = seed(&desk);
    let words = get(&address, &["-e", "--only", "booklet"]);
    desk.run(&words).expect(0);
    let again = desk.run(&words).expect(0).events();
    assert_eq!(event(&again, "complete")["downloaded"], 0);
    let events = desk.run(&get(&address, &["-e"])).expect(0).events();
    let rest = 100 + u64::from(PIECE) + 70_000 - 2 * u64::from(PIECE);
    assert_eq!(event(&events, "complete")["downloaded"], rest);
    for (name, bytes) in &files {
        assert!(desk.read(&format!("copy/album/{name}")) == *bytes, "{name}");
    }
    // Nothing lies aside any more, and what is all there needs no record to be known.
    assert_eq!(found(&desk).len(), 3, "{:?}", found(&desk));
    std::fs::remove_dir_all(desk.path("copy")).unwrap();
    desk.write("copy/album/booklet", &files[0].1);
    let outcome = desk.run(&words).expect(2);
    assert_eq!(event(&outcome.events(), "stopped")["reason"], "in-the-way");
    assert_eq!(desk.read("copy/album/booklet"), files[0].1, "not ours");
}

#[test]
fn a_kill_at_any_moment_leaves_a_record_that_is_right() {
    let desk = Desk::new();
    let big = [
        ("a", noise(1, 20_000)),
        ("b", noise(2, 3_000_000)),
        ("c", noise(3, 20_000)),
    ];
    desk.write("t.torrent", &folder("album", &big, PIECE).compose());
    for (name, bytes) in &big {
        desk.write(format!("data/album/{name}"), bytes);
    }
    let (_seed, address) = seed(&desk);
    // Each run wants other files than the one before, and dies at another moment.
    let wishes: [&[&str]; 5] = [
        &["--only", "a"],
        &["--only", "b"],
        &["--only", "c", "--only", "a"],
        &[],
        &["--only", "b", "--sequential"],
    ];
    for (pieces, wish) in wishes.into_iter().enumerate() {
        let mut run = desk.start(&get(&address, wish));
        for _ in 0..=pieces % 2 {
            run.wait_for("progress");
        }
        run.signal(Signal::KILL);
        run.end();
    }
    desk.run(&get(&address, &["-e", "--only", "b"])).expect(0);
    assert!(desk.read("copy/album/b") == big[1].1);
    desk.run(&get(&address, &["-e"])).expect(0);
    for (name, bytes) in &big {
        assert!(desk.read(&format!("copy/album/{name}")) == *bytes, "{name}");
    }
    assert_eq!(found(&desk).len(), 3);
}

#[test]
fn who_has_only_a_part_serves_all_of_it_shared_pieces_included() {
    let desk = desk();
    let (mut seed, address) = seed(&desk);
    let (mut part, middle) = listening(
        &desk,
        &[
            "get",
            "t.torrent",
            "-o",
            "part",
            "--only",
            "two.bin",
            "--seed-ratio",
            "0",
            "--peer",
            &address,
        ],
    );
    part.wait_for("complete");
    seed.signal(Signal::INT);
    seed.end();
    // One of the shared pieces lies partly in the part file of the only peer left.
    desk.run(&get(&middle, &["-e", "--only", "two.bin"]))
        .expect(0);
    assert_arrived(&desk, &["sub/two.bin"]);
    // What it does not have is not to be had of it.
    let words = get(&middle, &["-e", "--timeout", "1"]);
    let events = desk.run(&words).expect(2).events();
    assert_eq!(event(&events, "stopped")["reason"], "timeout");
    part.signal(Signal::INT);
    assert_eq!(part.end().code(), Some(0));
    // The same from its disk.
    let (_part, middle) = listening(&desk, &["seed", "t.torrent", "part"]);
    std::fs::remove_dir_all(desk.path("copy")).unwrap();
    desk.run(&get(&middle, &["-e", "--only", "two.bin"]))
        .expect(0);
    assert_arrived(&desk, &["sub/two.bin"]);
}

#[test]
fn trackers_hear_what_is_left_of_the_whole_and_never_that_it_is_complete() {
    let tracker = tracker_knowing(&[]);
    let desk = desk();
    let (_seed, address) = seed(&desk);
    let mut torrent = folder("album", &files(), PIECE);
    torrent.trackers = vec![vec![tracker.url]];
    desk.write("t.torrent", &torrent.compose());
    desk.run(&get(&address, &["-e", "--only", "one.bin"]))
        .expect(0);
    let heard: Vec<String> = tracker.asked.try_iter().collect();
    assert!(heard.iter().any(|it| it.contains("event=started")));
    let left = format!("left={}", 210_000 - 2 * PIECE);
    let stopped = heard.iter().find(|it| it.contains("event=stopped"));
    assert!(stopped.is_some_and(|it| it.contains(&left)), "{heard:?}");
    assert!(
        !heard.iter().any(|it| it.contains("completed")),
        "{heard:?}"
    );
}

#[test]
fn a_pattern_that_fits_nothing_is_status_2_before_anything_is_made() {
    let desk = desk();
    let outcome = desk
        .run(&["get", "t.torrent", "-o", "copy", "--only", "x\u{1b}*"])
        .expect(2);
    assert!(crate::desk::is_calm(&outcome.err), "{:?}", outcome.err);
    assert!(
        outcome.err.contains("no file fits --only"),
        "{}",
        outcome.err
    );
    assert!(outcome.err.contains("ropewalk show"), "{}", outcome.err);
    assert!(found(&desk).is_empty());
    let outcome = desk
        .run(&["get", "t.torrent", "-o", "copy", "--json", "--only", "x"])
        .expect(2);
    assert_eq!(event(&outcome.events(), "error")["reason"], "no-match");
    desk.run(&["get", "t.torrent", "--only", "[a"]).expect(1);
}

#[test]
fn sequential_fetches_piece_after_piece() {
    let desk = Desk::new();
    let bytes = noise(9, 200 * PIECE as usize);
    desk.write("t.torrent", &single("f.bin", &bytes, PIECE).compose());
    desk.write("data/f.bin", &bytes);
    let (_seed, address) = seed(&desk);
    desk.run(&get(
        &address,
        &["-e", "--sequential", "--trace", "wire.txt"],
    ))
    .expect(0);
    assert!(desk.read("copy/f.bin") == bytes);
    // What arrives and is hashed when depends on the machine; what is asked for does not.
    let trace = String::from_utf8(desk.read("wire.txt")).unwrap();
    let said = trace
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    let requests = said.filter(|message| message["name"] == "request");
    let pieces: Vec<u64> = requests.map(|it| it["piece"].as_u64().unwrap()).collect();
    assert!(pieces.len() >= 200, "{}", pieces.len());
    assert!(pieces.is_sorted(), "{pieces:?}");
}
