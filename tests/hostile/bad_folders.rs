//! What lies in the folder already: links, pipes, folders, and files that are almost right.

use crate::fake_peer::seeds;
use crate::gate::Waiting;
use crate::run::{Room, Run};
use crate::torrent::Torrent;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;

const PIECE: usize = 32_768;

fn torrent() -> Torrent {
    Torrent::file(b"data", 10 * PIECE + 123, PIECE)
}

fn folder() -> Torrent {
    let files: [(&[&[u8]], usize); 3] = [
        (&[b"first"], 50_000),
        (&[b"sub", b"second"], 60_000),
        (&[b"third"], 70_000),
    ];
    Torrent::folder(b"data", &files, PIECE)
}

fn get<const N: usize>(room: &Room, torrent: &Torrent, more: [&str; N]) -> (Run, i32) {
    let honest = seeds(torrent, Waiting::not());
    let mut run = room.get(torrent).args(more).peer(honest).start();
    let status = run.exit();
    (run, status)
}

/// `get` refuses with status 2, says where and what, and nothing beside the folder changes.
fn is_refused(room: &Room, torrent: &Torrent, name: &str) {
    let (mut run, status) = get(room, torrent, []);
    if status != 2 {
        run.fail(&format!("{name}: exit status {status}"));
    }
    let said = run.everything_said();
    assert!(said.contains("in-the-way"), "{name}: {said}");
    assert!(said.contains("data"), "{name}: {said}");
    room.nothing_escaped();
}

#[test]
fn a_link_in_place_of_the_file_is_not_followed() {
    for more in [None, Some("--overwrite")] {
        for target in ["../canary", "../new", "/dev/full", "data"] {
            let room = Room::new();
            symlink(target, room.down().join("data")).unwrap();
            let torrent = torrent();
            match more {
                None => is_refused(&room, &torrent, target),
                Some(more) => {
                    // Either it is refused or the link itself is replaced.
                    let (mut run, status) = get(&room, &torrent, [more]);
                    room.nothing_escaped();
                    let link = fs::symlink_metadata(room.down().join("data")).unwrap();
                    let replaced = status == 0 && link.is_file();
                    if status != 2 && !replaced {
                        run.fail(&format!("{target}: exit status {status}"));
                    }
                }
            }
        }
    }
}

#[test]
fn a_link_inside_the_torrents_folder_is_not_followed() {
    let room = Room::new();
    fs::create_dir(room.down().join("data")).unwrap();
    symlink("../../canary", room.down().join("data/third")).unwrap();
    is_refused(&room, &folder(), "a file");
    let room = Room::new();
    fs::create_dir_all(room.down().join("data")).unwrap();
    symlink("../..", room.down().join("data/sub")).unwrap();
    is_refused(&room, &folder(), "a folder");
}

#[test]
fn a_pipe_in_place_of_the_file_is_refused_without_waiting() {
    let room = Room::new();
    let made = std::process::Command::new("mkfifo")
        .arg(room.down().join("data"))
        .status()
        .unwrap();
    assert!(made.success());
    is_refused(&room, &torrent(), "a pipe");
}

#[test]
fn a_socket_in_place_of_the_file_is_refused() {
    let room = Room::new();
    let _socket = UnixListener::bind(room.down().join("data")).unwrap();
    is_refused(&room, &torrent(), "a socket");
}

#[test]
fn a_folder_in_place_of_the_file_is_refused() {
    let room = Room::new();
    fs::create_dir(room.down().join("data")).unwrap();
    fs::write(room.down().join("data/mine"), "mine").unwrap();
    is_refused(&room, &torrent(), "a folder");
    assert_eq!(room.read("data/mine"), b"mine");
}

#[test]
fn a_file_in_place_of_the_folder_is_refused_and_kept() {
    let room = Room::new();
    fs::write(room.down().join("data"), "mine").unwrap();
    is_refused(&room, &folder(), "a file");
    assert_eq!(room.read("data"), b"mine");
}

/// Bytes fetched, from the last event that knows.
fn fetched(run: &mut Run) -> u64 {
    let complete = run.event("says complete", |event| event["event"] == "complete");
    complete["downloaded"].as_u64().unwrap()
}

#[test]
fn a_complete_file_is_complete_without_asking_anybody() {
    let torrent = torrent();
    let room = Room::new();
    fs::write(room.down().join("data"), &torrent.content).unwrap();
    let mut run = room.get(&torrent).start();
    run.succeeds();
    let complete = run.event("says complete", |event| event["event"] == "complete");
    assert_eq!(complete["already"], true);
    assert_eq!(fetched(&mut run), 0);
    room.holds("data", &torrent.content[..]);
}

#[test]
fn one_flipped_bit_costs_one_piece() {
    let torrent = torrent();
    let length = torrent.content.len();
    for at in [0, PIECE - 1, PIECE, 5 * PIECE + 99, length - 1] {
        let room = Room::new();
        let mut almost = torrent.content.to_vec();
        almost[at] ^= 4;
        fs::write(room.down().join("data"), almost).unwrap();
        let (mut run, status) = get(&room, &torrent, []);
        if status != 0 {
            run.fail(&format!("byte {at}: exit status {status}"));
        }
        room.holds("data", &torrent.content[..]);
        let piece = torrent.content.chunks(PIECE).nth(at / PIECE).unwrap();
        assert_eq!(fetched(&mut run), piece.len() as u64, "byte {at}");
    }
}

#[test]
fn a_file_that_is_too_short_is_fetched_from_where_it_ends() {
    let torrent = torrent();
    for length in [
        PIECE,
        PIECE + 1,
        9 * PIECE + 4_000,
        torrent.content.len() - 1,
    ] {
        let room = Room::new();
        fs::write(room.down().join("data"), &torrent.content[..length]).unwrap();
        let (mut run, status) = get(&room, &torrent, []);
        if status != 0 {
            run.fail(&format!("{length} bytes: exit status {status}"));
        }
        room.holds("data", &torrent.content[..]);
        let missing = torrent.content.len() - length / PIECE * PIECE;
        assert_eq!(fetched(&mut run), missing as u64, "{length} bytes");
    }
}

#[test]
fn a_file_that_is_too_long_is_not_cut_without_being_told_to() {
    let torrent = torrent();
    let room = Room::new();
    let long = [&torrent.content[..], b"my own notes"].concat();
    fs::write(room.down().join("data"), &long).unwrap();
    let (mut run, status) = get(&room, &torrent, []);
    if status != 2 {
        run.fail(&format!("exit status {status}"));
    }
    let said = run.everything_said();
    assert!(said.contains("--overwrite"), "{said}");
    assert_eq!(room.read("data"), long);
    let (mut run, status) = get(&room, &torrent, ["--overwrite"]);
    if status != 0 {
        run.fail(&format!("with --overwrite: exit status {status}"));
    }
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_file_of_somebody_elses_is_not_touched_without_being_told_to() {
    let torrent = torrent();
    let other = vec![b'x'; torrent.content.len()];
    let room = Room::new();
    fs::write(room.down().join("data"), &other).unwrap();
    let (mut run, status) = get(&room, &torrent, []);
    if status != 2 {
        run.fail(&format!("exit status {status}"));
    }
    let said = run.everything_said();
    assert!(said.contains("--overwrite"), "{said}");
    assert_eq!(room.read("data"), other);
    let (mut run, status) = get(&room, &torrent, ["--overwrite"]);
    if status != 0 {
        run.fail(&format!("with --overwrite: exit status {status}"));
    }
    room.holds("data", &torrent.content[..]);
}

#[test]
fn a_record_of_nonsense_is_not_believed() {
    for nonsense in [
        &b""[..],
        b"\0",
        b"d",
        b"{}",
        &[0xff; 10_000],
        &[b'l'; 10_000],
    ] {
        let torrent = torrent();
        let room = Room::new();
        fs::write(room.down().join("data"), &torrent.content[..3 * PIECE]).unwrap();
        fs::write(room.down().join(".data.ropewalk"), nonsense).unwrap();
        let (mut run, status) = get(&room, &torrent, []);
        if status != 0 {
            let shown = nonsense.escape_ascii().take(10).collect::<Vec<_>>();
            run.fail(&format!("{shown:?}: exit status {status}"));
        }
        room.holds("data", &torrent.content[..]);
    }
}
