//! Sizes around every border there is: of pages, blocks and pieces.

use crate::fake_peer::seeds;
use crate::gate::Waiting;
use crate::run::Room;
use crate::torrent::Torrent;

fn arrives(torrent: &Torrent, what: &str) -> Room {
    let room = Room::new();
    let honest = seeds(torrent, Waiting::not());
    let mut run = room.get(torrent).peer(honest).start();
    let status = run.exit();
    if status != 0 {
        run.fail(&format!("{what}: exit status {status}"));
    }
    room
}

#[test]
fn a_file_of_any_size_arrives_to_the_byte() {
    let sizes = [
        1, 4_095, 4_096, 4_097, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769, 65_537, 99_999,
    ];
    for size in sizes {
        for piece_length in [16_384, 65_536] {
            let torrent = Torrent::file(b"data", size, piece_length);
            let room = arrives(&torrent, &format!("{size} in pieces of {piece_length}"));
            room.holds("data", &torrent.content[..]);
        }
    }
}

#[test]
fn pieces_of_any_length_arrive_to_the_byte() {
    for piece_length in [1, 100, 4_097, 16_383, 16_385, 20_000, 49_152, 100_003] {
        let size = if piece_length < 1_000 { 500 } else { 250_007 };
        let torrent = Torrent::file(b"data", size, piece_length);
        let room = arrives(&torrent, &format!("pieces of {piece_length}"));
        room.holds("data", &torrent.content[..]);
    }
}

#[test]
fn files_of_every_size_in_one_torrent_arrive_to_the_byte() {
    let sizes = [
        1, 0, 4_095, 4_096, 4_097, 2, 16_383, 16_384, 16_385, 3, 65_535, 65_536, 65_537, 0, 5,
    ];
    let names: Vec<Vec<u8>> = (0..sizes.len()).map(|n| format!("{n:02}").into()).collect();
    let paths: Vec<[&[u8]; 2]> = names.iter().map(|name| [&b"sub"[..], &name[..]]).collect();
    let pairs = paths.iter().zip(sizes);
    let files: Vec<(&[&[u8]], usize)> = pairs.map(|(path, size)| (&path[..], size)).collect();
    for piece_length in [16_384, 20_000, 262_144] {
        let torrent = Torrent::folder(b"data", &files, piece_length);
        let room = arrives(&torrent, &format!("pieces of {piece_length}"));
        let mut rest = &torrent.content[..];
        for (number, size) in sizes.into_iter().enumerate() {
            let (file, others) = rest.split_at(size);
            room.holds(&format!("data/sub/{number:02}"), file);
            rest = others;
        }
    }
}

#[test]
fn thousands_of_small_files_arrive_where_few_may_be_open() {
    const SIZE: usize = 9_000;
    let names: Vec<Vec<u8>> = (0..3_000).map(|n| format!("{n:04}").into()).collect();
    let paths: Vec<[&[u8]; 1]> = names.iter().map(|name| [&name[..]]).collect();
    let files: Vec<(&[&[u8]], usize)> = paths.iter().map(|path| (&path[..], SIZE)).collect();
    let torrent = Torrent::folder(b"data", &files, 65_536);
    let room = Room::new();
    let honest = seeds(&torrent, Waiting::not());
    let mut run = room.get(&torrent).files_max(64).peer(honest).start();
    run.succeeds();
    for (number, file) in torrent.content.chunks(SIZE).enumerate() {
        room.holds(&format!("data/{number:04}"), file);
    }
}
