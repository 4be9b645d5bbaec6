//! Torrents whose names would lead out of the folder, and torrents of next to nothing.

use crate::fake_peer::seeds;
use crate::gate::Waiting;
use crate::run::{Room, Run};
use crate::torrent::Torrent;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Runs `get` to its end beside an honest seed.
fn get(room: &Room, torrent: &Torrent) -> (Run, i32) {
    let honest = seeds(torrent, Waiting::not());
    let mut run = room.get(torrent).peer(honest).start();
    let status = run.exit();
    (run, status)
}

/// Every name that was ever used to write somewhere else.
fn traps(beside: &Path) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b".."[..],
        b".",
        b"",
        b"/",
        b"../canary",
        b"a/../../canary",
        b"..\\canary",
        b"C:\\canary",
        b"\0",
        b"canary\0.txt",
        b"~/canary",
        b"-rf",
        b"\x1b[2J\x1b]0;owned\x07",
        b"line\r\nfeed",
        "\u{202e}txt.exe".as_bytes(),
        b"\xff\xfe\x80",
        b".data.ropewalk",
        b"it.torrent",
        b"canary",
        b" ",
        b"...",
        b"nul\xc0\xaf..\xc0\xafcanary",
        b"..\xef\xbc\x8fcanary",
    ]
    .map(<[u8]>::to_vec)
    .into();
    names.push(beside.join("escaped").as_os_str().as_bytes().to_vec());
    names.push(vec![b'n'; 300]);
    names.push("\u{65e5}".repeat(200).into_bytes());
    names.push(vec![b'/'; 5_000]);
    names
}

/// Refused with status 2, or done with every byte inside the folder: anything else is an escape.
fn stays_inside(torrent: &Torrent, room: &Room, name: &[u8]) {
    let shown = name.escape_ascii().to_string();
    let (run, status) = get(room, torrent);
    room.nothing_escaped();
    let control = |byte: &u8| *byte < b' ' && *byte != b'\n';
    assert!(!run.complaints.concat().iter().any(control), "{shown}");
    match status {
        2 => {}
        0 => {
            let bytes: usize = room
                .files()
                .iter()
                .map(|it| fs::read(it).unwrap().len())
                .sum();
            assert_eq!(bytes, torrent.content.len(), "{shown}: {:?}", room.files());
        }
        _ => panic!("{shown}: exit status {status}\n{}", run.everything_said()),
    }
}

#[test]
fn no_name_of_a_torrent_leads_out_of_the_folder() {
    let mut trap = 0;
    loop {
        let room = Room::new();
        let beside = room.beside("");
        let Some(name) = traps(&beside).into_iter().nth(trap) else {
            break;
        };
        stays_inside(&Torrent::file(&name, 100, 16_384), &room, &name);
        let room = Room::new();
        let files: [(&[&[u8]], usize); 1] = [(&[b"file"], 100)];
        stays_inside(&Torrent::folder(&name, &files, 16_384), &room, &name);
        trap += 1;
    }
}

#[test]
fn no_path_in_a_torrent_leads_out_of_the_folder() {
    let beside = Room::new();
    for name in traps(&beside.beside("")) {
        let room = Room::new();
        let files: [(&[&[u8]], usize); 3] = [
            (&[&name], 100),
            (&[&name, b"file"], 200),
            (&[b"folder", &name, &name], 300),
        ];
        stays_inside(&Torrent::folder(b"data", &files, 16_384), &room, &name);
    }
    assert!(!beside.beside("escaped").exists());
}

#[test]
fn a_name_that_is_written_otherwise_is_told() {
    let room = Room::new();
    let files: [(&[&[u8]], usize); 3] = [(&[b"a\\b"], 100), (&[b".."], 200), (&[b"plain"], 300)];
    let (run, status) = get(&room, &Torrent::folder(b"data", &files, 16_384));
    let said = run.everything_said();
    let first = "\"a\\b\" is written as \"a_b\", and one more name otherwise, too";
    assert!(status == 0 && said.contains(first), "{said}");
}

#[test]
fn a_path_of_a_thousand_folders_is_refused_or_kept_inside() {
    let deep: Vec<&[u8]> = vec![b"d"; 1_000];
    let up: Vec<&[u8]> = vec![b".."; 60];
    for path in [&deep, &up] {
        let room = Room::new();
        let torrent = Torrent::folder(b"data", &[(path, 100)], 16_384);
        stays_inside(&torrent, &room, b"deep");
    }
}

#[test]
fn files_that_want_the_same_path_all_arrive() {
    let room = Room::new();
    let files: [(&[&[u8]], usize); 6] = [
        (&[b"same"], 1_000),
        (&[b"same"], 2_000),
        (&[b"same", b"inside"], 3_000),
        (&[b"SAME"], 4_000),
        (&["caf\u{e9}".as_bytes()], 5_000),
        (&["cafe\u{301}".as_bytes()], 6_000),
    ];
    let torrent = Torrent::folder(b"data", &files, 16_384);
    let (mut run, status) = get(&room, &torrent);
    if status == 2 {
        return room.nothing_escaped();
    }
    if status != 0 {
        run.fail(&format!("exit status {status}"));
    }
    let written: BTreeSet<Vec<u8>> = room
        .files()
        .iter()
        .map(|it| fs::read(it).unwrap())
        .collect();
    let mut rest = &torrent.content[..];
    for (_, length) in files {
        let (file, others) = rest.split_at(length);
        assert!(
            written.contains(file),
            "a file of {length} bytes is missing"
        );
        rest = others;
    }
    room.nothing_escaped();
}

#[test]
fn files_without_bytes_are_made_wherever_they_stand() {
    let room = Room::new();
    let files: [(&[&[u8]], usize); 5] = [
        (&[b"first"], 0),
        (&[b"a"], 20_000),
        (&[b"folder", b"middle"], 0),
        (&[b"b"], 100),
        (&[b"last"], 0),
    ];
    let torrent = Torrent::folder(b"data", &files, 16_384);
    let (mut run, status) = get(&room, &torrent);
    if status != 0 {
        run.fail(&format!("exit status {status}"));
    }
    for empty in ["data/first", "data/folder/middle", "data/last"] {
        assert_eq!(room.read(empty), b"");
    }
    room.holds("data/a", &torrent.content[..20_000]);
    room.holds("data/b", &torrent.content[20_000..]);
}

#[test]
fn a_torrent_of_nothing_is_complete_at_once() {
    let nothing = [
        Torrent::file(b"data", 0, 16_384),
        Torrent::folder(b"data", &[(&[b"a"], 0), (&[b"b"], 0)], 16_384),
    ];
    for torrent in nothing {
        let room = Room::new();
        let mut run = room.get(&torrent).start();
        let status = run.exit();
        // Nothing to fetch, so nobody is needed to fetch it from.
        if status != 0 {
            run.fail(&format!("exit status {status}"));
        }
        let empty = room.files();
        assert!(!empty.is_empty());
        assert!(empty.iter().all(|it| fs::read(it).unwrap().is_empty()));
    }
}

#[test]
fn thousands_of_files_without_bytes_are_made() {
    let names: Vec<Vec<u8>> = (0..5_000).map(|n| format!("{n}").into_bytes()).collect();
    let paths: Vec<[&[u8]; 1]> = names.iter().map(|name| [&name[..]]).collect();
    let mut files: Vec<(&[&[u8]], usize)> = paths.iter().map(|path| (&path[..], 0)).collect();
    files[2_500].1 = 70_000;
    let room = Room::new();
    let torrent = Torrent::folder(b"data", &files, 32_768);
    let (mut run, status) = get(&room, &torrent);
    if status != 0 {
        run.fail(&format!("exit status {status}"));
    }
    assert_eq!(room.files().len(), 5_000);
    room.holds("data/2500", &torrent.content[..]);
}
